//! How often the configuration file has been read again, and when that last succeeded.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::show::Reloads;

/// The count of a daemon.
pub(super) struct ReloadBook(Mutex<Reloads>);

impl ReloadBook {
    /// Of one that starts now, with a file that was read or without.
    pub(super) fn begin() -> Self {
        Self(Mutex::new(Reloads {
            last_success_us: now_us(),
            ..Reloads::default()
        }))
    }

    /// Counts a reading.
    pub(super) fn count(&self, succeeded: bool) {
        let mut reloads = self.lock();
        if succeeded {
            reloads.succeeded += 1;
            reloads.last_success_us = now_us();
        } else {
            reloads.failed += 1;
        }
    }

    /// What it comes to.
    pub(super) fn read(&self) -> Reloads {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Reloads> {
        // Numbers that a panic left half-changed mislead nobody.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Microseconds since 1970; none before.
fn now_us() -> Option<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_micros()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_counted_and_leaves_the_time_of_the_last_success() {
        let book = ReloadBook::begin();
        let begun = book.read();
        assert_eq!((begun.succeeded, begun.failed), (0, 0));
        book.count(false);
        let failed = Reloads { failed: 1, ..begun };
        assert_eq!(book.read(), failed);
        book.count(true);
        let after = book.read();
        assert_eq!((after.succeeded, after.failed), (1, 1));
        assert!(after.last_success_us >= begun.last_success_us);
    }
}
