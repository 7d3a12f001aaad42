//! Marks of the last while.

use crate::stats::Mark;

/// A time to look back at: `CLOCK_MONOTONIC` in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct Lately {
    pub from_ns: u64,
    pub now_ns: u64,
}

impl Lately {
    /// A mark since the takeover, and of this time.
    pub fn highest(self, mark: &Mark) -> (u32, u32) {
        (mark.ever(), mark.between(self.from_ns, self.now_ns))
    }
}

/// What is left of so many when the most that was missing is taken away, each by itself.
pub fn without(all: u32, (ever, lately): (u32, u32)) -> (u32, u32) {
    (all.saturating_sub(ever), all.saturating_sub(lately))
}
