//! When frames leave: the clock of intended times, as `begin_burst` in `bpf/generator.bpf.c` keeps it.

use std::io;

use rustix::time::{ClockId, clock_gettime};

use super::load::Plan;

/// Later than this, intended times are given up: what was to be spread would leave in one burst, which is another load.
pub(super) const RESYNC_NS: u64 = 200_000;
/// Fractions of a nanosecond in which intended times are counted.
pub(super) const FRACTION_BITS: u32 = 16;

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing yet.
    Wait,
    /// The next frame, meant for this time: `CLOCK_MONOTONIC`, in ns.
    Send(u64),
    /// The load is over.
    Over,
}

/// The clock of one run.
#[derive(Debug)]
pub(super) struct Pacer {
    start_ns: u64,
    /// From the start.
    next_q16: u64,
    interval_q16: u64,
    /// Bursts that are left.
    left: u64,
    burst: u32,
    /// Frames of the current burst that are left.
    in_burst: u32,
    burst_at_ns: u64,
    /// Frames that were given up.
    pub late: u64,
}

impl Pacer {
    /// Of a plan that starts now.
    pub fn new(plan: &Plan<'_>, start_ns: u64) -> Self {
        let duration_q16 = (plan.duration.as_nanos() as u64) << FRACTION_BITS;
        Self {
            start_ns,
            next_q16: if plan.interval_q16 == 0 {
                duration_q16
            } else {
                0
            },
            interval_q16: plan.interval_q16,
            left: plan.bursts,
            burst: plan.burst,
            in_burst: 0,
            burst_at_ns: 0,
            late: 0,
        }
    }

    /// What to do at this time; a frame that it says is to be sent is taken for sent.
    pub fn turn(&mut self, now_ns: u64) -> Turn {
        if self.in_burst == 0 {
            match self.begin_burst(now_ns) {
                Turn::Send(at_ns) => (self.burst_at_ns, self.in_burst) = (at_ns, self.burst),
                other => return other,
            }
        }
        self.in_burst -= 1;
        Turn::Send(self.burst_at_ns)
    }

    /// Ends the load now.
    pub fn stop(&mut self) {
        (self.left, self.next_q16, self.in_burst) = (0, 0, 0);
    }

    fn begin_burst(&mut self, now_ns: u64) -> Turn {
        let now_q16 = now_ns.saturating_sub(self.start_ns) << FRACTION_BITS;
        if self.interval_q16 == 0 {
            // As fast as it goes, for as long as `next_q16` says.
            return if now_q16 < self.next_q16 {
                Turn::Send(now_ns)
            } else {
                Turn::Over
            };
        }
        let Some(behind_q16) = now_q16.checked_sub(self.next_q16) else {
            return Turn::Wait;
        };
        if self.left == 0 {
            return Turn::Over;
        }
        if behind_q16 > RESYNC_NS << FRACTION_BITS {
            let missed = (behind_q16 / self.interval_q16).min(self.left);
            self.late += missed * u64::from(self.burst);
            self.next_q16 += missed * self.interval_q16;
            self.left -= missed;
            if self.left == 0 {
                return Turn::Wait;
            }
        }
        let at_ns = self.start_ns + (self.next_q16 >> FRACTION_BITS);
        self.next_q16 += self.interval_q16;
        self.left -= 1;
        Turn::Send(at_ns)
    }
}

/// `CLOCK_MONOTONIC`, in ns.
pub(super) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Of a run that was told to end, and had not begun.
pub(super) fn ended_before_it_began() -> io::Error {
    io::Error::new(
        io::ErrorKind::Interrupted,
        "it was ended before the first frame had left",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A frame a microsecond, ten in all.
    fn pacer(burst: u32) -> Pacer {
        let plan = Plan {
            streams: Vec::new(),
            turns: Vec::new(),
            interval_q16: 1000 << FRACTION_BITS,
            bursts: 10,
            burst,
            duration: Duration::from_micros(10),
        };
        Pacer::new(&plan, 5_000)
    }

    #[test]
    fn frames_leave_at_their_time_and_say_so() {
        let mut pacer = pacer(1);
        assert_eq!(pacer.turn(5_000), Turn::Send(5_000));
        assert_eq!(pacer.turn(5_000), Turn::Wait);
        assert_eq!(pacer.turn(5_999), Turn::Wait);
        assert_eq!(
            pacer.turn(8_700),
            Turn::Send(6_000),
            "a little late, and it says so"
        );
        assert_eq!(pacer.turn(8_700), Turn::Send(7_000));
        assert_eq!(pacer.turn(8_700), Turn::Send(8_000));
        assert_eq!(pacer.turn(8_700), Turn::Wait);
        assert_eq!(pacer.late, 0);
    }

    #[test]
    fn the_end_is_when_the_last_interval_is_over() {
        let mut pacer = pacer(1);
        let sent = (5_000..14_999)
            .filter(|now_ns| matches!(pacer.turn(*now_ns), Turn::Send(_)))
            .count();
        assert_eq!(sent, 10);
        assert_eq!(pacer.turn(14_999), Turn::Wait);
        assert_eq!(pacer.turn(15_000), Turn::Over);
        assert_eq!(pacer.turn(15_000), Turn::Over);
    }

    #[test]
    fn bursts_leave_together() {
        let mut pacer = pacer(3);
        for _ in 0..3 {
            assert_eq!(pacer.turn(5_000), Turn::Send(5_000));
        }
        assert_eq!(pacer.turn(5_000), Turn::Wait);
        assert_eq!(pacer.turn(6_000), Turn::Send(6_000));
    }

    #[test]
    fn what_is_long_over_is_given_up_and_counted() {
        let mut pacer = pacer(2);
        pacer.left = 1000;
        assert_eq!(pacer.turn(5_000), Turn::Send(5_000));
        assert_eq!(pacer.turn(5_000), Turn::Send(5_000));
        // 300 us later: 299 bursts of 2 that should have left.
        assert_eq!(pacer.turn(305_000), Turn::Send(305_000));
        assert_eq!(pacer.late, 2 * 299);
        assert_eq!(pacer.left, 1000 - 1 - 299 - 1);
    }

    #[test]
    fn a_run_that_missed_its_end_ends() {
        let mut pacer = pacer(1);
        assert_eq!(pacer.turn(1_000_000), Turn::Wait);
        assert_eq!(pacer.turn(1_000_000), Turn::Over);
        assert_eq!(pacer.late, 10);
    }

    #[test]
    fn a_run_that_is_stopped_is_over_with_or_without_an_interval() {
        let mut paced = pacer(3);
        assert_eq!(paced.turn(5_000), Turn::Send(5_000));
        paced.stop();
        assert_eq!(paced.turn(5_001), Turn::Over);
        let mut flat_out = Pacer {
            interval_q16: 0,
            next_q16: 10_000 << FRACTION_BITS,
            ..pacer(1)
        };
        assert_eq!(flat_out.turn(5_001), Turn::Send(5_001));
        flat_out.stop();
        assert_eq!(flat_out.turn(5_002), Turn::Over);
        assert_eq!((paced.late, flat_out.late), (0, 0));
    }

    #[test]
    fn without_an_interval_it_is_always_time_until_the_end() {
        let mut pacer = Pacer {
            interval_q16: 0,
            next_q16: 10_000 << FRACTION_BITS,
            ..pacer(1)
        };
        assert_eq!(pacer.turn(5_001), Turn::Send(5_001));
        assert_eq!(pacer.turn(14_999), Turn::Send(14_999));
        assert_eq!(pacer.turn(15_000), Turn::Over);
    }
}
