//! What the programs go by for all flows: `struct direct_state`.

use super::super::Error;
use super::super::copy::Copy;
use super::super::heartbeat::Cells;
use super::super::words::pair;
use crate::flows::Seed;

/// `sizeof(struct direct_state)`, and its words.
const LEN: usize = 56;
const GENERATION: usize = 0;
const SEED: usize = 1;
const HEARD: usize = 2;
const FOLD: usize = 3;

/// The one of a session.
pub struct State(Cells);

impl State {
    /// Maps the one of this object, and draws the seed of its flows' hashes.
    pub fn map(object: &Copy) -> Result<(Self, Seed), Error> {
        let cells = Cells::map(object.map("direct_state")?, 1, LEN).map_err(Error::Heartbeat)?;
        let seed = Seed::draw(random);
        cells.store_word(0, SEED, seed.hash);
        for (at, word) in seed.fold.into_iter().enumerate() {
            cells.store_word(0, FOLD + at, word);
        }
        Ok((Self(cells), seed))
    }

    /// Says which generation counts.
    pub fn begin(&self, generation: u32) {
        self.0.store_word(0, GENERATION, pair(generation, 0));
    }

    /// Says up to when every change has been heard.
    pub fn heard(&self, now_ns: u64) {
        self.0.store_word(0, HEARD, now_ns);
    }
}

/// Anything that a sender cannot know.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}
