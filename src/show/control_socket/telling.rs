//! The whole state, told piece by piece on a thread of its own: to a few at a time, and to nobody for ever.
//!
//! Who is told it has a copy of every table until the last piece is read. Everybody may look, so without bounds those who ask and do
//! not read would take a thread and such a copy each.

use std::io::{self, BufWriter, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Serialize;

use super::timed::{PIECE, Timed};

/// How many are told at one time.
pub(super) const TOLD_MAX: usize = 4;

/// Places for those who are told.
#[derive(Debug, Default)]
pub(super) struct Places(Arc<AtomicUsize>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Places {
    /// A place; none while all are taken.
    pub fn take(&self) -> Option<Place> {
        let one_more = |taken| (taken < TOLD_MAX).then_some(taken + 1);
        // Relaxed: a number alone.
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.is_ok().then(|| Place(Arc::clone(&self.0)))
    }

    /// How many are taken.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Writes an answer piece by piece, so that there is never all of its text, and within this time.
///
/// # Errors
/// When whoever asked is gone, or takes longer.
pub(super) fn tell(
    answer: &impl Serialize,
    stream: &UnixStream,
    patience: Duration,
) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(PIECE, Timed::new(stream, patience));
    serde_json::to_writer(&mut out, answer).map_err(io::Error::from)?;
    out.write_all(b"\n")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::thread;

    use super::*;

    #[test]
    fn a_state_that_is_taken_slowly_is_told_for_so_long_and_no_longer() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let slow = thread::spawn(move || {
            let mut bytes = [0; 4096];
            while theirs.read(&mut bytes).is_ok_and(|len| len > 0) {
                thread::sleep(Duration::from_millis(5));
            }
        });
        // At that pace, 20 s.
        let answer = "x".repeat(1 << 24);
        let error = tell(&answer, &ours, Duration::from_millis(50)).unwrap_err();
        let kind = error.kind();
        assert!(
            matches!(kind, io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock),
            "{error}"
        );
        drop(ours);
        slow.join().unwrap();
    }

    #[test]
    fn a_place_that_is_left_is_anothers() {
        let places = Places::default();
        let mut taken: Vec<_> = (0..TOLD_MAX).map(|_| places.take().unwrap()).collect();
        assert!(places.take().is_none() && places.count() == TOLD_MAX);
        taken.pop();
        assert!(places.take().is_some());
        assert_eq!(places.count(), TOLD_MAX - 1);
    }
}
