//! When a worker sleeps, and how it ends.
//!
//! As long as there is work it spins: a frame that arrives is seen at once, and the kernel has nobody to wake. Then it lets
//! go of its snapshot and sleeps in `poll(2)`, until a frame arrives or the time is over; an idle worker wakes 40 times a
//! second for some microseconds, far below 1 % of a core.
//!
//! How long it spins in between, it learns. Where frames come from other cores, spinning finds them, and for [`SPIN_NS`] it
//! is worth its while. Where the threads that bring them run on the worker's own core (threaded NAPI), they wait for it to
//! sleep: each spin would be time that nobody has anything of. So it spins as long as one spin in [`FOUND`] or so finds a
//! frame, and now and then whatever the last ones found. It learns this for each direction by itself: a request that a pod sends on
//! another core is answered through the device whose thread waits on this one.

use std::os::fd::RawFd;
use std::time::Duration;

use super::{Moved, Worker};
use crate::port::{Port, Sleeper};
use crate::stats::WorkerCounters;

/// How long a worker spins without work at most. To sleep and to be woken costs 5 to 10 µs, most of it latency of the first frame;
/// several times that keeps a worker awake between the batches of a busy stream (one frame every 50 µs is 20,000 a
/// second), and costs a stream of single frames little.
const SPIN_NS: u64 = 50_000;

/// A spin that finds a frame makes up for so many that find nothing: it saves two switches of threads, and where the core
/// would halt meanwhile, many times that.
const FOUND: u32 = 4;

/// So many spins that find nothing, one after another, are the last ones. A frame that is late once or twice, on a machine
/// that others use too, must not end them.
const CREDIT_MAX: u32 = 16;

/// Every so many-th time without work is spun through, to find out whether that is of use by now. It costs 0.2 µs a time on
/// average, and less than one answer in a hundred comes later for it.
const TRIAL: u32 = 256;

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
    spins: Spins,
    /// The time up to which it is accounted how this worker spent it.
    accounted_ns: u64,
    slept: bool,
    /// Whether the last turn moved any frame.
    worked: bool,
}

impl Rest {
    /// For a worker that waits on these, and begins its work now.
    pub(super) fn new(fds: impl IntoIterator<Item = RawFd>, now_ns: u64) -> Self {
        Self {
            sleeper: Sleeper::new(fds),
            last_work_ns: now_ns,
            spins: Spins::default(),
            accounted_ns: now_ns,
            slept: false,
            worked: false,
        }
    }

    /// A turn has ended.
    #[inline]
    pub(super) fn end_turn(&mut self, moved: Moved) {
        self.worked = moved.any();
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
        if self.worked {
            counters.working_ns.add(since);
        }
        self.accounted_ns = now_ns;
        (self.slept, self.worked) = (false, false);
    }

    /// For how long there has been no work, at a turn that began at `now_ns`, when that is long enough to sleep.
    #[inline]
    fn idle_ns(&mut self, now_ns: u64, moved: Moved, counters: &WorkerCounters) -> Option<u64> {
        if moved.any() {
            if self.spins.found(moved) {
                counters.spins_found.add(1);
            }
            self.last_work_ns = now_ns;
            return None;
        }
        let idle_ns = now_ns.saturating_sub(self.last_work_ns);
        let spin = self.spins.present();
        if spin.begins() {
            counters.spins.add(1);
        }
        spin.is_over(idle_ns).then_some(idle_ns)
    }
}

/// How long to spin after frames of each direction.
#[derive(Debug, Default)]
struct Spins {
    after_decap: Spin,
    after_encap: Spin,
    after_both: Spin,
    last: Last,
}

/// What the last turn with frames did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Last {
    #[default]
    Decap,
    Encap,
    Both,
}

impl Spins {
    /// That of the direction of the last frames.
    #[inline]
    fn present(&mut self) -> &mut Spin {
        match self.last {
            Last::Decap => &mut self.after_decap,
            Last::Encap => &mut self.after_encap,
            Last::Both => &mut self.after_both,
        }
    }

    /// A turn with work; whether a spin found it. Sent frames that come back do not end a spin: those of the last turn do so in
    /// the midst of it.
    #[inline]
    fn found(&mut self, moved: Moved) -> bool {
        let last = match (moved.decapsulated, moved.received - moved.decapsulated) {
            (0, 0) => return false,
            (_, 0) => Last::Decap,
            (0, _) => Last::Encap,
            _ => Last::Both,
        };
        let found = self.present().found();
        self.last = last;
        self.present().due = true;
        found
    }
}

/// How long to spin, as learnt.
#[derive(Debug)]
struct Spin {
    /// For how many more that find nothing.
    credit: u32,
    /// Whether it spins; not while there is work, and once it is over.
    spins: bool,
    /// Whether there have been frames since the last spin.
    due: bool,
    /// Spins so far.
    count: u32,
}

impl Default for Spin {
    fn default() -> Self {
        Self {
            credit: CREDIT_MAX,
            spins: false,
            due: true,
            count: 0,
        }
    }
}

impl Spin {
    /// Frames have come in; whether it was spinning for them.
    #[inline]
    fn found(&mut self) -> bool {
        if self.spins {
            self.credit = CREDIT_MAX.min(self.credit + FOUND);
        }
        std::mem::take(&mut self.spins)
    }

    /// A turn without work. Whether it is the first one of a spin.
    #[inline]
    fn begins(&mut self) -> bool {
        if !self.due {
            return false;
        }
        self.due = false;
        self.count = self.count.wrapping_add(1);
        self.spins = self.credit > 0 || self.count.is_multiple_of(TRIAL);
        self.spins
    }

    /// The last work was so long ago. Whether to sleep now.
    #[inline]
    fn is_over(&mut self, idle_ns: u64) -> bool {
        if self.spins && idle_ns >= SPIN_NS {
            self.spins = false;
            self.credit = self.credit.saturating_sub(1);
        }
        !self.spins
    }
}

impl<P: Port> Worker<P> {
    /// Ends a turn: goes on at once, or sleeps.
    #[inline]
    pub(super) fn rest(&mut self, now_ns: u64, moved: Moved) {
        let Some(idle_ns) = self.rest.idle_ns(now_ns, moved, &self.plan.counters) else {
            return std::hint::spin_loop();
        };
        let waiting = idle_ns < IN_FLIGHT_NS && self.in_flight() > 0;
        let timeout = if waiting { SHORT_SLEEP } else { SLEEP };
        self.sleep(match self.due_ns() {
            Some(due_ns) => timeout.min(Duration::from_nanos(due_ns.saturating_sub(now_ns))),
            None => timeout,
        });
    }

    fn sleep(&mut self, timeout: Duration) {
        self.plan.reader.offline();
        self.plan.counters.sleeps.add(1);
        self.rest.slept = true;
        let woken = self.rest.sleeper.sleep(timeout);
        self.plan.counters.woken.add(u64::from(woken));
    }

    /// Forwards what had arrived when it was told to stop, and waits for what it sent to come back from the kernel, for
    /// [`DRAIN_NS`] at most: steering may still bring frames, and a device that is down gives none back.
    pub(super) fn drain(&mut self) {
        let begin_ns = self.begin_turn();
        let mut now_ns = begin_ns;
        while now_ns.saturating_sub(begin_ns) < DRAIN_NS {
            let moved = self.turn();
            self.end_turn(moved);
            if moved.received == 0 && self.in_flight() == 0 && self.due_ns().is_none() {
                break;
            }
            if !moved.any() {
                // Gives the core to whoever is to send what is in flight.
                std::thread::yield_now();
            }
            now_ns = self.begin_turn();
        }
        self.end_waiting();
        self.plan.reader.offline();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Moved = Moved {
        received: 0,
        decapsulated: 0,
        reclaimed: 0,
    };
    const A_FRAME: Moved = Moved {
        received: 1,
        decapsulated: 1,
        reclaimed: 0,
    };
    const ENCAPSULATED: Moved = Moved {
        received: 1,
        decapsulated: 0,
        reclaimed: 0,
    };
    const RECLAIMED: Moved = Moved {
        received: 0,
        decapsulated: 0,
        reclaimed: 1,
    };

    fn idle_ns(rest: &mut Rest, now_ns: u64, moved: Moved) -> Option<u64> {
        rest.idle_ns(now_ns, moved, &WorkerCounters::default())
    }

    #[test]
    fn sleep_is_due_only_after_a_while_without_work() {
        let mut rest = Rest::new([], 1_000);
        assert_eq!(idle_ns(&mut rest, 1_000 + SPIN_NS - 1, NOTHING), None);
        assert_eq!(idle_ns(&mut rest, 1_000 + SPIN_NS, NOTHING), Some(SPIN_NS));
        // Once it has slept, it sleeps again as long as there is nothing.
        let later = 2 * SPIN_NS;
        assert_eq!(idle_ns(&mut rest, 1_000 + later, NOTHING), Some(later));
        // Frames are a reason to stay awake, those that come back just for now.
        let work_ns = 1_000_000;
        assert_eq!(idle_ns(&mut rest, work_ns, RECLAIMED), None);
        assert_eq!(idle_ns(&mut rest, work_ns + 1, NOTHING), Some(1));
        assert_eq!(idle_ns(&mut rest, work_ns + 2, A_FRAME), None);
        assert_eq!(idle_ns(&mut rest, work_ns + 3, NOTHING), None);
    }

    /// They come back while it spins, and so once a frame: the trial must not always be the spin that this ends.
    #[test]
    fn what_comes_back_does_not_end_a_spin() {
        let mut rest = Rest::new([], 0);
        assert_eq!(idle_ns(&mut rest, 1_000, A_FRAME), None);
        assert_eq!(idle_ns(&mut rest, 2_000, NOTHING), None);
        assert_eq!(idle_ns(&mut rest, 3_000, RECLAIMED), None);
        assert_eq!(idle_ns(&mut rest, 3_000 + SPIN_NS - 1, NOTHING), None);
        assert_eq!(idle_ns(&mut rest, 3_000 + SPIN_NS, NOTHING), Some(SPIN_NS));
        assert_eq!(rest.spins.after_decap.count, 1);
    }

    #[test]
    fn a_clock_that_stands_still_is_no_reason_to_sleep() {
        let mut rest = Rest::new([], 1_000);
        assert_eq!(idle_ns(&mut rest, 0, NOTHING), None);
    }

    /// How long it spins after work that takes no time, until it sleeps.
    fn spun_ns(rest: &mut Rest, work_ns: u64) -> u64 {
        assert_eq!(idle_ns(rest, work_ns, A_FRAME), None);
        let idle = (0..).find_map(|ns| idle_ns(rest, work_ns + ns, NOTHING));
        idle.unwrap()
    }

    #[test]
    fn spins_that_find_nothing_end_and_are_tried_now_and_then() {
        let mut rest = Rest::new([], 0);
        let spins: Vec<_> = (1..=u64::from(2 * TRIAL))
            .map(|n| spun_ns(&mut rest, n * 1_000_000))
            .collect();
        let (first, later) = spins.split_at(CREDIT_MAX as usize);
        assert!(first.iter().all(|ns| *ns == SPIN_NS));
        let tried: Vec<_> = (CREDIT_MAX + 1..)
            .zip(later)
            .filter(|(_, ns)| **ns > 0)
            .collect();
        assert_eq!(tried, [(TRIAL, &SPIN_NS), (2 * TRIAL, &SPIN_NS)]);
    }

    #[test]
    fn a_spin_that_finds_a_frame_makes_up_for_four_that_do_not() {
        let mut rest = Rest::new([], 0);
        let mut now_ns = 0;
        while spun_ns(&mut rest, now_ns) > 0 {
            now_ns += 1_000_000;
        }
        // One that is tried, and finds something.
        while rest.spins.after_decap.count % TRIAL != TRIAL - 1 {
            now_ns += 1_000_000;
            spun_ns(&mut rest, now_ns);
        }
        now_ns += 1_000_000;
        assert_eq!(idle_ns(&mut rest, now_ns, A_FRAME), None);
        assert_eq!(
            idle_ns(&mut rest, now_ns + SPIN_NS - 1, NOTHING),
            None,
            "a trial"
        );
        let spins: Vec<_> = (1..=u64::from(FOUND) + 1)
            .map(|n| spun_ns(&mut rest, now_ns + n * SPIN_NS - 1))
            .collect();
        assert_eq!(spins, [SPIN_NS, SPIN_NS, SPIN_NS, SPIN_NS, 0]);
    }

    /// A request that a pod sends on another core, and an answer that waits for the worker to sleep.
    #[test]
    fn each_direction_learns_by_itself() {
        let mut rest = Rest::new([], 0);
        let mut now_ns = 0;
        for _ in 0..100 {
            // Encapsulated: the spin behind it finds nothing, and the answer comes once the worker sleeps.
            now_ns += 1_000;
            assert_eq!(idle_ns(&mut rest, now_ns, ENCAPSULATED), None);
            let ended = (0..).find(|ns| idle_ns(&mut rest, now_ns + ns, NOTHING).is_some());
            now_ns += ended.unwrap() + 1_000;
            // Decapsulated: the spin behind it finds the next request.
            assert_eq!(idle_ns(&mut rest, now_ns, A_FRAME), None);
            assert_eq!(idle_ns(&mut rest, now_ns + 500, NOTHING), None);
        }
        let Spins {
            after_decap,
            after_encap,
            ..
        } = rest.spins;
        assert_eq!((after_decap.credit, after_encap.credit), (CREDIT_MAX, 0));
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
        assert_eq!(counters.working_ns.get(), 0);
        rest.end_turn(A_FRAME);
        rest.account(26_900, &counters);
        rest.end_turn(NOTHING);
        rest.account(26_950, &counters);
        assert_eq!(
            (counters.awake_ns.get(), counters.working_ns.get()),
            (950, 100)
        );
    }

    #[test]
    fn spins_are_counted_and_those_that_found_something() {
        let counters = WorkerCounters::default();
        let mut rest = Rest::new([], 0);
        let mut turn = |now_ns, moved| rest.idle_ns(now_ns, moved, &counters);
        // Straight from one batch to the next: no spin.
        for now_ns in 0..10 {
            turn(now_ns, A_FRAME);
        }
        for now_ns in 10..20 {
            turn(now_ns, NOTHING);
        }
        turn(20, A_FRAME);
        turn(21, NOTHING);
        assert!(turn(21 + SPIN_NS, NOTHING).is_some());
        let spins = (counters.spins.get(), counters.spins_found.get());
        assert_eq!(spins, (2, 1));
    }

    /// What the guards of the steering programs are built on.
    #[test]
    fn the_longest_sleep_keeps_the_heartbeat() {
        assert!(SLEEP * 2 <= Duration::from_millis(50));
        assert!(SHORT_SLEEP < SLEEP);
    }
}
