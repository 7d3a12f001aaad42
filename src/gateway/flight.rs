//! The workers' flight recorders, as the operator sees them.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::books::Books;
use crate::stats::{DeadFrame, Direction};

/// A frame that died. Field names are the keys of `vxgate drops --last --json`: add, never rename.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DroppedFrame {
    /// Of what, as in `drops`.
    pub reason: String,
    /// `rx` for what came from the underlay, `tx` for what was on its way there.
    pub direction: String,
    /// The port that it came in by.
    pub port: String,
    /// The worker that had it.
    pub worker: u32,
    /// The how-manieth it was to die of this, among those that came in by the same queue since the takeover.
    pub number: u64,
    /// When, in microseconds since 1970 (UTC).
    pub time_us: u64,
    /// Milliseconds since then.
    pub age_ms: u64,
    /// What is kept of it: `arrived`, as it had come in, or `leaving`, as it would have gone out.
    pub shape: String,
    /// Its length in bytes.
    pub len: u64,
    /// Its first bytes in hexadecimal digits, from the Ethernet header on: all, or the first 192.
    pub bytes: String,
}

impl DroppedFrame {
    /// Its first bytes; those in front of what is no hexadecimal number.
    pub fn first_bytes(&self) -> Vec<u8> {
        let digits = self.bytes.as_bytes().chunks_exact(2);
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        digits.map_while(byte).collect()
    }
}

/// The last frames that died, at `now_ns` (`CLOCK_MONOTONIC`).
pub(super) fn states(books: &Books, now_ns: u64) -> Vec<DroppedFrame> {
    let now = SystemTime::now();
    let last = books.flight.last().into_iter();
    // A port that is not in the books any more is closed.
    let states = last.filter_map(|(worker, direction, dead)| {
        let port = books.port_name(dead.port)?.to_owned();
        let age = Duration::from_nanos(now_ns.saturating_sub(dead.at_ns));
        Some(state((port, worker, direction), dead, age, now))
    });
    states.collect()
}

fn state(
    (port, worker, direction): (String, u32, Direction),
    dead: DeadFrame,
    age: Duration,
    now: SystemTime,
) -> DroppedFrame {
    let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = since_1970.saturating_sub(age);
    let mut bytes = String::with_capacity(2 * dead.bytes.len());
    for byte in &dead.bytes {
        // Writing to a string does not fail.
        let _ = write!(bytes, "{byte:02x}");
    }
    DroppedFrame {
        reason: dead.reason.label().to_owned(),
        direction: direction.label().to_owned(),
        port,
        worker,
        number: dead.number,
        time_us: u64::try_from(time.as_micros()).unwrap_or(u64::MAX),
        age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        shape: dead.shape.label().to_owned(),
        len: dead.len as u64,
        bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{DropReason, Shape};

    #[test]
    fn the_time_of_a_death_is_told_by_both_clocks_and_its_bytes_in_digits() {
        let dead = DeadFrame {
            reason: DropReason::NoIFlag,
            port: 2,
            number: 7,
            at_ns: 1,
            shape: Shape::Arrived,
            len: 60,
            bytes: vec![0, 0x0f, 0xff],
        };
        let now = UNIX_EPOCH + Duration::from_secs(100);
        let of = ("eth1".to_owned(), 3, Direction::Rx);
        let state = state(of, dead, Duration::from_millis(1500), now);
        assert_eq!((state.time_us, state.age_ms), (98_500_000, 1500));
        assert_eq!((state.bytes.as_str(), state.len), ("000fff", 60));
        assert_eq!(state.first_bytes(), [0, 0x0f, 0xff]);
        assert_eq!((state.direction.as_str(), state.worker), ("rx", 3));
    }

    #[test]
    fn digits_that_are_none_end_the_bytes() {
        let mut frame: DroppedFrame = serde_json::from_value(serde_json::json!({
            "reason": "x", "direction": "rx", "port": "p", "worker": 0, "number": 1, "time_us": 0,
            "age_ms": 0, "shape": "arrived", "len": 4, "bytes": "01zz03"
        }))
        .unwrap();
        assert_eq!(frame.first_bytes(), [1]);
        frame.bytes = "ö1".into();
        assert!(frame.first_bytes().is_empty());
    }
}
