//! What the log says of senders that the peer check lets in although they are no known VTEPs (`peer_check = "log"`). The
//! workers count and keep them on record; here the books are looked at now and then, so that no frame costs a line.

use std::time::{Duration, Instant};

use super::observe::OffenderState;

/// The least time between two lines.
const LINE_GAP: Duration = Duration::from_secs(10);

/// When to write a line, and of how many frames.
#[derive(Debug, Default)]
pub(super) struct StrangerLog {
    /// Frames that were told of.
    told: u64,
    quiet_until: Option<Instant>,
}

impl StrangerLog {
    /// Looks at the number of frames of a session so far. When a line is due: how many of them it is about.
    pub(super) fn due(&mut self, frames: u64, now: Instant) -> Option<u64> {
        // Another session counts from zero.
        if frames < self.told {
            self.told = 0;
        }
        let untold = frames - self.told;
        if untold == 0 || self.quiet_until.is_some_and(|until| now < until) {
            return None;
        }
        self.told = frames;
        self.quiet_until = Some(now + LINE_GAP);
        Some(untold)
    }
}

/// Writes the line.
pub(super) fn tell(frames: u64, latest: Option<&OffenderState>) {
    let source = latest.map(|latest| latest.source.to_string());
    let inner_source = latest.and_then(|latest| latest.inner_source.clone());
    tracing::warn!(
        frames,
        source = source.unwrap_or_default(),
        vni = latest.map(|latest| latest.vni),
        inner_source = inner_source.unwrap_or_default(),
        "frames of unknown VTEPs were delivered (peer_check = log); the latest came from this source"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_at_once_and_then_no_more_often_than_the_gap() {
        let (mut log, start) = (StrangerLog::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(log.due(0, at(0)), None);
        assert_eq!(log.due(5, at(1)), Some(5));
        assert_eq!(log.due(9, at(2)), None);
        assert_eq!(log.due(20, at(10_000)), None);
        assert_eq!(log.due(21, at(10_001)), Some(16));
        assert_eq!(log.due(21, at(30_000)), None, "nothing new");
    }

    #[test]
    fn another_session_counts_from_zero() {
        let (mut log, start) = (StrangerLog::default(), Instant::now());
        assert_eq!(log.due(100, start), Some(100));
        assert_eq!(log.due(3, start + LINE_GAP), Some(3));
    }
}
