//! What goes express to each peer, and comes of it: `struct express_peer`, of each processor.

use std::sync::Arc;

use super::super::Error;
use super::super::copy::{self, Copy};
use super::super::heartbeat::Cells;
use crate::stats::{PeerCounts, PeerId, PeerTally, Tally};

/// `sizeof(struct express_peer)`, and its words.
const STRIDE: usize = 64;
const RECEIVED: usize = 0;
const SENT: usize = 3;

/// What the programs count of every peer, as the book of peers reads it.
#[derive(Debug, Clone)]
pub struct ExpressPeers {
    cells: Arc<Cells>,
    cpus: usize,
    places: usize,
}

impl ExpressPeers {
    /// Maps those of this object, for so many peers.
    pub(super) fn map(object: &Copy, places: usize) -> Result<Self, Error> {
        let cpus = copy::cpus() as usize;
        let cells = Cells::map(object.map("express_peers")?, cpus * places, STRIDE);
        Ok(Self {
            cells: Arc::new(cells.map_err(Error::Heartbeat)?),
            cpus,
            places,
        })
    }
}

impl PeerCounts for ExpressPeers {
    fn read(&self, PeerId(place): PeerId) -> PeerTally {
        let mut total = PeerTally::default();
        for cpu in (0..self.cpus).filter(|_| usize::from(place) < self.places) {
            let at = cpu * self.places + usize::from(place);
            let tally = |word| Tally {
                frames: self.cells.load_word(at, word),
                bytes: self.cells.load_word(at, word + 1),
                last_ns: self.cells.load_word(at, word + 2),
            };
            total.received += tally(RECEIVED);
            total.sent += tally(SENT);
        }
        total
    }
}
