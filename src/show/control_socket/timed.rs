//! A client's stream with a bound on the time for all that goes over it.
//!
//! The kernel's time-outs begin anew with each piece: who sends a byte now and then, or takes one, would hold up everybody behind
//! it for hours.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Bytes that are written at a time: so many are one buffer of the kernel's, for which it waits once.
pub(super) const PIECE: usize = 1 << 15;

/// Reads and writes until a moment; from then on both time out.
#[derive(Debug)]
pub(super) struct Timed<'a> {
    stream: &'a UnixStream,
    until: Instant,
}

impl<'a> Timed<'a> {
    /// From now on for so long.
    pub fn new(stream: &'a UnixStream, patience: Duration) -> Self {
        let until = Instant::now() + patience;
        Self { stream, until }
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(left)
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(bytes)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(bytes.get(..PIECE).unwrap_or(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(50);
    const PAUSE: Duration = Duration::from_millis(5);

    fn is_over(error: &io::Error) -> bool {
        matches!(
            error.kind(),
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
        )
    }

    #[test]
    fn a_byte_now_and_then_buys_no_time() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let slow = thread::spawn(move || {
            while theirs.write_all(b"x").is_ok() {
                thread::sleep(PAUSE);
            }
        });
        let error = Timed::new(&ours, PATIENCE).read_to_end(&mut Vec::new());
        assert!(is_over(&error.unwrap_err()));
        drop(ours);
        slow.join().unwrap();
    }

    #[test]
    fn an_answer_that_is_taken_slowly_ends_as_one_that_is_not_taken() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let slow = thread::spawn(move || {
            let mut bytes = [0; 4096];
            while theirs.read(&mut bytes).is_ok_and(|len| len > 0) {
                thread::sleep(PAUSE);
            }
        });
        // At that pace, 20 s.
        let error = Timed::new(&ours, PATIENCE).write_all(&vec![0; 1 << 24]);
        assert!(is_over(&error.unwrap_err()));
        drop(ours);
        slow.join().unwrap();
    }
}
