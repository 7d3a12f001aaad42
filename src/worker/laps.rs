//! The stages of a turn, timed when somebody wants to know.
//!
//! A turn tells where each of its stages ends. Most turns tell it to nobody, and the compiler leaves no trace of that; those that
//! are measured are a function of their own, which reads the clock there.

use crate::port::now_ns;
use crate::stats::{Stage, Stages};

/// Whom a turn tells that a stage has ended.
pub(super) trait Laps {
    /// This one has; what was since the last one is its time.
    fn end(&mut self, stage: Stage);
}

/// Nobody.
pub(super) struct Untimed;

impl Laps for Untimed {
    #[inline(always)]
    fn end(&mut self, _: Stage) {}
}

/// A clock.
pub(super) struct Timed {
    since_ns: u64,
    readings: u64,
    spent_ns: [u64; Stage::COUNT],
}

impl Timed {
    /// From now on.
    pub(super) fn start() -> Self {
        Self {
            since_ns: now_ns(),
            readings: 1,
            spent_ns: [0; Stage::COUNT],
        }
    }

    /// Counts a turn with so many frames. One without says nothing of what frames cost.
    pub(super) fn count(&self, frames: usize, stages: &Stages) {
        if frames > 0 {
            stages.count(frames as u64, self.readings, &self.spent_ns);
        }
    }
}

impl Laps for Timed {
    fn end(&mut self, stage: Stage) {
        let now_ns = now_ns();
        self.readings += 1;
        self.spent_ns[stage as usize] += now_ns.saturating_sub(self.since_ns);
        self.since_ns = now_ns;
    }
}
