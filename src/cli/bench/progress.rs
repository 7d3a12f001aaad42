//! Progress on a terminal: one line on standard error, written over and over.

use std::time::{Duration, Instant};

use super::look::Look;
use crate::loadgen::rate::Scaled;

/// How often it is told.
const EVERY: Duration = Duration::from_secs(1);

/// The line of one trial; it makes room for the result when dropped.
pub(super) struct Progress {
    shows: bool,
    /// How long the trial is expected to take.
    duration: Duration,
    told: Instant,
    received: u64,
    written: bool,
}

impl Progress {
    /// Of a trial that starts now.
    pub(super) fn new(shows: bool, duration: Duration) -> Self {
        Self {
            shows,
            duration,
            told: Instant::now(),
            received: 0,
            written: false,
        }
    }

    /// Writes the line anew, if it is time to.
    pub(super) fn tell(&mut self, look: &Look<'_>) {
        let since = self.told.elapsed();
        if !self.shows || since < EVERY {
            return;
        }
        // Who cannot be read now will be in a second, or the trial says why not.
        let Ok(seen) = look.read() else { return };
        let accounted = seen.accounted();
        let rate = Scaled((accounted - self.received) as f64 / since.as_secs_f64());
        eprint!(
            "\r\x1b[K{}",
            line(rate, &[seen.sent, accounted], self.duration, look.elapsed)
        );
        (self.told, self.received, self.written) = (Instant::now(), accounted, true);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.written {
            eprint!("\r\x1b[K");
        }
    }
}

fn line(
    rate: Scaled,
    [sent, accounted]: &[u64; 2],
    duration: Duration,
    elapsed: Duration,
) -> String {
    let lost = sent - accounted;
    let percent = lost as f64 * 100.0 / (*sent).max(1) as f64;
    let left = duration.saturating_sub(elapsed).as_secs_f64().ceil();
    format!("  {rate} frames/s received, {lost} lost ({percent:.4} %), {left} s left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_rate_loss_and_time_left() {
        let told = |sent, elapsed| {
            line(
                Scaled(100_000.0),
                &sent,
                Duration::from_secs(10),
                Duration::from_secs_f64(elapsed),
            )
        };
        assert_eq!(
            told([400_000, 399_000], 4.5),
            "  100k frames/s received, 1000 lost (0.2500 %), 6 s left"
        );
        assert_eq!(
            told([0, 0], 11.0),
            "  100k frames/s received, 0 lost (0.0000 %), 0 s left"
        );
    }
}
