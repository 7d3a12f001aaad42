//! How long nothing came: the longest gap between two arrivals of a stream.
//!
//! The receiver stamps every arrival, to the nanosecond. But a steady load leaves marks only at its intervals: without any break,
//! arrivals are one interval apart, so a gap is up to one interval longer than the break that made it, and a break that is
//! shorter than an interval may leave no mark at all. A frame that is late before the break shortens the gap by so much.

use serde::{Deserialize, Serialize};

/// The longest time without an arrival.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// How long it was, in nanoseconds.
    pub longest_ns: u64,
    /// One interval of the load, in nanoseconds: so much of it may be no break.
    pub precision_ns: u64,
    /// It lasted until the load ended: had the load gone on, it might have been longer.
    pub open: bool,
}

/// What the gap of one stream is worked out from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// Frames that left.
    pub sent: u64,
    /// How many of these had left when the last one left that arrived.
    pub reached: u64,
    /// The longest time between two that arrived, in nanoseconds.
    pub between_ns: u64,
}

impl Gap {
    /// Of a stream whose frames left in bursts of so many, for so long.
    pub fn new(arrived: Arrived, burst: u32, elapsed_ns: u64) -> Self {
        // Between two frames, evened out.
        let spacing_ns = elapsed_ns as f64 / arrived.sent.max(1) as f64;
        let silent = arrived.sent.saturating_sub(arrived.reached);
        let silence_ns = (silent as f64 * spacing_ns) as u64;
        Self {
            longest_ns: arrived.between_ns.max(silence_ns),
            precision_ns: (spacing_ns * f64::from(burst)) as u64,
            open: silence_ns > arrived.between_ns,
        }
    }

    /// The longer one.
    pub fn longer(self, other: Self) -> Self {
        if other.longest_ns > self.longest_ns {
            other
        } else {
            self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn gap(reached: u64, between_ns: u64) -> Gap {
        let arrived = Arrived {
            sent: 1000,
            reached,
            between_ns,
        };
        Gap::new(arrived, 1, SECOND_NS)
    }

    #[test]
    fn a_gap_is_between_two_arrivals_and_as_precise_as_the_load_is_dense() {
        let expected = Gap {
            longest_ns: 5_000_000,
            precision_ns: 1_000_000,
            open: false,
        };
        assert_eq!(gap(1000, 5_000_000), expected);
        assert_eq!(gap(996, 5_000_000), expected, "a shorter one at the end");
    }

    #[test]
    fn silence_until_the_end_is_a_gap_that_is_still_open() {
        let dead = gap(250, 5_000_000);
        assert_eq!((dead.longest_ns, dead.open), (750_000_000, true));
        assert_eq!(gap(0, 0).longest_ns, SECOND_NS, "nothing ever came");
    }

    #[test]
    fn bursts_are_the_marks_that_a_load_leaves() {
        let arrived = Arrived {
            sent: 1000,
            reached: 1000,
            between_ns: 1,
        };
        assert_eq!(Gap::new(arrived, 10, SECOND_NS).precision_ns, 10_000_000);
        let nothing = Arrived {
            sent: 0,
            reached: 0,
            between_ns: 0,
        };
        assert!(!Gap::new(nothing, 1, SECOND_NS).open);
    }

    #[test]
    fn the_longer_of_two_is_kept() {
        let (short, long) = (gap(1000, 1), gap(1000, 2));
        assert_eq!(short.longer(long), long);
        assert_eq!(long.longer(short), long);
    }
}
