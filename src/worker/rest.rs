//! When a worker sleeps, and how it ends.
//!
//! As long as there is work it spins: a frame that arrives is seen at once, and the kernel has nobody to wake. After
//! [`SPIN_NS`] without work it lets go of its snapshot and sleeps in `poll(2)`, until a frame arrives or the time is
//! over; an idle worker wakes 40 times a second for some microseconds, far below 1 % of a core.

use std::os::fd::RawFd;
use std::time::Duration;

use super::{Moved, Worker};
use crate::port::{Port, Sleeper};
use crate::stats::WorkerCounters;

/// How long a worker spins without work. To sleep and to be woken costs 5 to 10 µs, most of it latency of the first frame;
/// several times that keeps a worker awake between the batches of a busy stream (one frame every 50 µs is 20,000 a
/// second), and costs a stream of single frames little.
const SPIN_NS: u64 = 50_000;

/// How long it sleeps at most: half of the 50 ms within which a heartbeat must follow, so that one late wake-up is no
/// missed heartbeat.
const SLEEP: Duration = Duration::from_millis(25);

/// How long it sleeps while the kernel still holds frames of ours: a full device stops sending in copy mode, and goes on
/// only when asked again, which the next turn does.
const SHORT_SLEEP: Duration = Duration::from_millis(1);

/// How long after the last work frames in flight are a reason to sleep but shortly. Some kernels never give back a frame
/// that they did not like; one that is lost must not keep the worker from its sleep.
const IN_FLIGHT_NS: u64 = 100_000_000;

/// How long a worker that was told to stop forwards what is in flight.
const DRAIN_NS: u64 = 100_000_000;

/// What rests.
#[derive(Debug)]
pub(super) struct Rest {
    sleeper: Sleeper,
    last_work_ns: u64,
    /// The time up to which it is accounted how this worker spent it.
    accounted_ns: u64,
    slept: bool,
}

impl Rest {
    /// For a worker that waits on these, and begins its work now.
    pub(super) fn new(fds: impl IntoIterator<Item = RawFd>, now_ns: u64) -> Self {
        Self {
            sleeper: Sleeper::new(fds),
            last_work_ns: now_ns,
            accounted_ns: now_ns,
            slept: false,
        }
    }

    /// Books the time since the last call, from one turn's clock to the next one's. A turn that ended in sleep counts as
    /// asleep: it found nothing, and a second look at the clock for each would cost more than it tells.
    #[inline]
    pub(super) fn account(&mut self, now_ns: u64, counters: &WorkerCounters) {
        let since = now_ns.saturating_sub(self.accounted_ns);
        let spent = if self.slept {
            &counters.asleep_ns
        } else {
            &counters.awake_ns
        };
        spent.add(since);
        self.accounted_ns = now_ns;
        self.slept = false;
    }

    /// For how long there has been no work, at a turn that began at `now_ns`, when that is long enough to sleep.
    #[inline]
    fn idle_ns(&mut self, now_ns: u64, moved: Moved) -> Option<u64> {
        if moved.any() {
            self.last_work_ns = now_ns;
        }
        let idle_ns = now_ns.saturating_sub(self.last_work_ns);
        (idle_ns >= SPIN_NS).then_some(idle_ns)
    }
}

impl<P: Port> Worker<P> {
    /// Ends a turn: goes on at once, or sleeps.
    #[inline]
    pub(super) fn rest(&mut self, now_ns: u64, moved: Moved) {
        let Some(idle_ns) = self.rest.idle_ns(now_ns, moved) else {
            return std::hint::spin_loop();
        };
        let waiting = idle_ns < IN_FLIGHT_NS && self.in_flight() > 0;
        self.sleep(if waiting { SHORT_SLEEP } else { SLEEP });
    }

    fn sleep(&mut self, timeout: Duration) {
        self.plan.reader.offline();
        self.plan.counters.sleeps.add(1);
        self.rest.slept = true;
        self.rest.sleeper.sleep(timeout);
    }

    /// Forwards what had arrived when it was told to stop, and waits for what it sent to come back from the kernel, for
    /// [`DRAIN_NS`] at most: steering may still bring frames, and a device that is down gives none back.
    pub(super) fn drain(&mut self) {
        let begin_ns = self.begin_turn();
        let mut now_ns = begin_ns;
        while now_ns.saturating_sub(begin_ns) < DRAIN_NS {
            let moved = self.turn();
            self.end_turn(moved);
            if moved.received == 0 && self.in_flight() == 0 {
                break;
            }
            if !moved.any() {
                // Gives the core to whoever is to send what is in flight.
                std::thread::yield_now();
            }
            now_ns = self.begin_turn();
        }
        self.plan.reader.offline();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Moved = Moved {
        received: 0,
        reclaimed: 0,
    };

    #[test]
    fn sleep_is_due_only_after_a_while_without_work() {
        let mut rest = Rest::new([], 1_000);
        assert_eq!(rest.idle_ns(1_000 + SPIN_NS - 1, NOTHING), None);
        assert_eq!(rest.idle_ns(1_000 + SPIN_NS, NOTHING), Some(SPIN_NS));
        let work_ns = 1_000_000;
        for moved in [
            Moved {
                received: 1,
                ..NOTHING
            },
            Moved {
                reclaimed: 1,
                ..NOTHING
            },
        ] {
            assert_eq!(rest.idle_ns(work_ns, moved), None);
            assert_eq!(rest.idle_ns(work_ns + 1, NOTHING), None);
        }
        assert_eq!(rest.idle_ns(work_ns + SPIN_NS, NOTHING), Some(SPIN_NS));
    }

    #[test]
    fn a_clock_that_stands_still_is_no_reason_to_sleep() {
        let mut rest = Rest::new([], 1_000);
        assert_eq!(rest.idle_ns(0, NOTHING), None);
    }

    #[test]
    fn every_nanosecond_is_awake_or_asleep() {
        let counters = WorkerCounters::default();
        let mut rest = Rest::new([], 1_000);
        rest.account(1_700, &counters);
        rest.slept = true;
        rest.account(26_700, &counters);
        rest.account(26_800, &counters);
        assert_eq!(
            (counters.awake_ns.get(), counters.asleep_ns.get()),
            (800, 25_000)
        );
    }

    /// What the guards of the steering programs are built on.
    #[test]
    fn the_longest_sleep_keeps_the_heartbeat() {
        assert!(SLEEP * 2 <= Duration::from_millis(50));
        assert!(SHORT_SLEEP < SLEEP);
    }
}
