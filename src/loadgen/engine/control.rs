//! What another thread sees of a run that is under way, and asks of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Shared between a run and those who look on.
#[derive(Debug, Default)]
pub struct Control {
    stopped: AtomicBool,
    sent: AtomicU64,
}

impl Control {
    /// Ends the run before its time. What it was to send from here on is neither sent nor late.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// Whether the run was told to end.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Frames that have left, as told some milliseconds ago: there are no fewer.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    /// Tells how many have left.
    pub(super) fn note_sent(&self, frames: u64) {
        self.sent.store(frames, Ordering::Release);
    }
}
