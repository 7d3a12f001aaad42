//! The thread that looks after the pods' devices, listens to what changes, and promotes flows: the one owner of the gear.

mod pods;
mod promotion;
mod told;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, bounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::refused::{self, Refused};
use super::strays::Strays;
use super::{Gear, Question, Running, Shared, lock, tell};
use crate::config;
use crate::control::{Change, Changes};
use crate::fault::{self, Explained};
use crate::flows::{Evidence, Generation, Judge, Sightings};
use crate::netlink::{Conntrack, Socket};
use crate::port::now_ns;
use crate::steer::Express;

/// How often sightings are looked at, and the programs told that somebody listens: a ninth of `LISTENER_STALE_NS`
/// (`bpf/shared.h`).
const TICK: Duration = Duration::from_millis(10);
/// How long nothing must have changed before another generation begins: longer than a frame may be under way within the node
/// (a worker that is held up for so long tells of none that waited: `Lookout::begin_turn`), and than a sleeping worker takes to look
/// at another snapshot. What was judged before the change must not be taken for judged after it.
const SETTLE_NS: u64 = 250_000_000;
/// How often what is not announced is looked at.
const LOOK_NS: u64 = 1_000_000_000;
/// In so many parts promoted flows are looked at, one every tick, and each flow every second: all of a large table at once takes
/// longer than the programs go on without a word of who listens.
const PARTS: usize = 100;
/// Of so many flows each is looked at every four seconds: nothing of them is in a cache, and of 100,000 flows a look at each took
/// 2 % of a core every second.
const MANY: usize = 10_000;
const PARTS_OF_MANY: usize = 400;

/// The thread's own.
pub(super) struct Keeper {
    express: Express,
    /// How many pods' devices are looked after.
    pods_max: usize,
    sightings: Sightings,
    generation: Generation,
    judge: Judge,
    changes: Changes,
    netlink: Socket,
    wake: UnixStream,
    doubt: Arc<AtomicBool>,
    asked: Receiver<Question>,
    shared: Arc<Mutex<Shared>>,
    /// The number of the last generation.
    number: u32,
    /// When the next one may begin; none while one holds.
    settles_ns: Option<u64>,
    look_ns: u64,
    sweep_ns: u64,
    /// What was found in the parts of this round.
    found: Found,
    strays: Strays,
    /// The pods' devices could not be listed, and nothing may change that has them listed again.
    pods_due: bool,
    /// Where there is any.
    conntrack: Option<Conntrack>,
    /// Whether filters matter; or, where they do not, this node's own tables.
    heeds_filters: bool,
    /// What forbids the direct path for now, and for TCP.
    forbidden: Option<String>,
    tcp_forbidden: Option<String>,
}

/// How many promoted flows there are.
#[derive(Default)]
struct Found {
    in_ring: usize,
    /// By the index of their pods' devices.
    by_pod: BTreeMap<u32, u64>,
}

impl Keeper {
    /// Begins, with the workers' nice value: they could hold it up otherwise, until the programs take it for hung.
    pub fn start(
        gear: Gear,
        doubt: Arc<AtomicBool>,
        shared: Arc<Mutex<Shared>>,
        mode: config::Direct,
        nice: i32,
    ) -> Result<Running, Refused> {
        let heeds_filters = mode != config::Direct::Always;
        // Before anything is looked at, so that nothing changes unheard.
        let mut netlink = Socket::open()?;
        let mut changes = Changes::open(&mut netlink, heeds_filters)?;
        changes.attend(gear.express.nics_for_xdp());
        let (ours, theirs) = UnixStream::pair()?;
        let counters = gear.express.counters();
        let (questions, asked) = bounded(1);
        let judge = Judge::new(gear.express.sets(), gear.express.seed());
        let keeper = Self {
            judge: judge.content_with(evidence(heeds_filters)),
            conntrack: None,
            heeds_filters,
            express: gear.express,
            pods_max: gear.pods_max,
            sightings: gear.sightings,
            generation: gear.generation,
            changes,
            netlink,
            wake: theirs,
            doubt,
            asked,
            shared,
            number: Generation::NONE,
            settles_ns: Some(now_ns() + SETTLE_NS),
            look_ns: 0,
            sweep_ns: 0,
            found: Found::default(),
            strays: Strays::default(),
            pods_due: false,
            forbidden: None,
            tcp_forbidden: None,
        };
        let thread = thread::Builder::new()
            .name("vxgate-direct".into())
            .spawn(move || keeper.run(nice))?;
        Ok(Running {
            wake: ours,
            thread,
            counters,
            questions,
        })
    }

    fn run(mut self, nice: i32) -> Express {
        let _last_words = LastWords(Arc::clone(&self.shared));
        // The calling thread's. Without it, frames take the kernel's path whenever the machine is too busy to listen.
        if let Err(error) = rustix::process::setpriority_process(None, nice) {
            tracing::info!(nice, %error, "who listens for the direct path runs as all do");
        }
        if let Err(error) = self.keep() {
            let error = Refused::from(error);
            tell(&error);
            lock(&self.shared).why_not = Some(fault::line(&error));
        }
        self.end_generation(None);
        self.express
    }

    /// Until it is told to stop.
    fn keep(&mut self) -> io::Result<()> {
        self.express.look_at_nics();
        self.follow_pods();
        while !self.sleep()? {
            let now_ns = now_ns();
            let heard = self.changes.hear()?;
            let doubt = self.doubt.swap(false, Ordering::Acquire);
            let doubt = doubt.then_some(Change::Snapshot);
            if let Some(change) = heard.changed.or(doubt) {
                self.end_generation(Some(change));
            }
            if self.changes.is_behind() {
                self.catch_up();
            }
            // A change may be among what waits.
            if !heard.more_waits {
                self.express.heard(now_ns);
            }
            let looks = now_ns >= self.look_ns;
            if heard.links || (looks && self.pods_due) {
                self.follow_pods();
            }
            if looks {
                self.look_ns = now_ns + LOOK_NS;
                self.look();
                if self.express.lacks_xdp() {
                    self.follow_sending();
                    self.tell_of_pods();
                }
            }
            if now_ns >= self.sweep_ns {
                self.sweep_ns = now_ns + u64::from(TICK.subsec_nanos());
                self.sweep(now_ns);
            }
            if self.settles_ns.is_some_and(|at| at <= now_ns) && self.forbidden.is_none() {
                self.begin_generation(now_ns);
            }
            self.promote(now_ns);
            if let Ok(answer) = self.asked.try_recv() {
                // Whoever has asked may have gone.
                let _ = answer.send(self.flows(now_ns));
            }
        }
        Ok(())
    }

    /// Sleeps until the kernel speaks, or for a tick. Whether it is over.
    fn sleep(&self) -> io::Result<bool> {
        let tick = Timespec {
            tv_sec: 0,
            tv_nsec: TICK.subsec_nanos().into(),
        };
        let wake = PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN);
        let changes = self.changes.fds();
        let changes = changes.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let mut fds: Vec<_> = std::iter::once(wake).chain(changes).collect();
        match poll(&mut fds, Some(&tick)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(fds.first().is_some_and(|wake| !wake.revents().is_empty()))
    }

    /// Asks anew what there is, after announcements were lost. Until that is known, no generation begins.
    fn catch_up(&mut self) {
        if let Err(error) = self.changes.catch_up(&mut self.netlink) {
            tracing::debug!(%error, "cannot learn what there is after announcements were lost; trying again");
        }
        self.end_generation(None);
    }

    /// From now on no flow is promoted, until nothing changes for a while. Says what has changed.
    fn end_generation(&mut self, change: Option<Change>) {
        self.express.begin(Generation::NONE);
        self.generation.set(Generation::NONE);
        let now_ns = now_ns();
        if self.settles_ns.replace(now_ns + SETTLE_NS).is_some() {
            return;
        }
        for slot in self.judge.begin(Generation::NONE, now_ns) {
            self.express.vacate(slot, now_ns);
        }
        self.found = Found::default();
        let mut shared = lock(&self.shared);
        (shared.flows, shared.in_ring) = (0, 0);
        if let Some(change) = change {
            *shared.changes.entry(change).or_default() += 1;
        }
    }

    fn begin_generation(&mut self, now_ns: u64) {
        self.settles_ns = None;
        self.follow_conntrack();
        self.number = self.number.checked_add(1).unwrap_or(1);
        self.judge.begin(self.number, now_ns);
        self.express.begin(self.number);
        self.generation.set(self.number);
    }

    /// Asks conntrack from now on, when there is one: to ask where there is none would load it.
    fn follow_conntrack(&mut self) {
        if self.conntrack.is_none() && refused::is_tracked() {
            self.conntrack = Conntrack::open().ok();
        }
    }

    /// Looks at some of the promoted flows.
    fn sweep(&mut self, now_ns: u64) {
        let (express, found, mut gone) = (&self.express, &mut self.found, Vec::new());
        let parts = match self.judge.promoted() {
            ..MANY => PARTS,
            MANY.. => PARTS_OF_MANY,
        };
        let ends = self.judge.sweep(
            now_ns,
            parts,
            |slot| {
                let (_, why) = express.ring(slot, now_ns);
                found.in_ring += usize::from(why.is_some());
                *found.by_pod.entry(express.pod_of(slot)).or_default() += 1;
                express.look(slot)
            },
            |slot, _| gone.push(slot),
        );
        for slot in gone {
            self.express.vacate(slot, now_ns);
        }
        if !ends {
            return;
        }
        let Found { in_ring, by_pod } = std::mem::take(found);
        let mut shared = lock(&self.shared);
        shared.flows = self.judge.promoted();
        shared.in_ring = in_ring.min(shared.flows);
        for pod in shared.pod_devices.values_mut() {
            pod.express_flows = by_pod.get(&pod.ifindex).copied().unwrap_or(0);
        }
    }

    /// Looks at what nobody announces.
    fn look(&mut self) {
        self.follow_conntrack();
        let filters = self.heeds_filters.then(refused::filters);
        let filters = filters.and_then(Result::err);
        let conntrack = refused::conntrack().err();
        let stricter = (filters.is_some() && self.forbidden.is_none())
            || (conntrack.is_some() && self.tcp_forbidden.is_none());
        if stricter {
            self.end_generation(Some(Change::Forbidden));
        }
        self.forbidden = note("no direct path", filters, self.forbidden.take());
        let what = "no direct path for TCP";
        self.tcp_forbidden = note(what, conntrack, self.tcp_forbidden.take());
        self.judge.allow_tcp(self.tcp_forbidden.is_none());
        let counters = self.express.counters().read();
        let mut shared = lock(&self.shared);
        if let Ok([_, taken, delivered, _, _]) = counters {
            shared.strayed = self
                .strays
                .look(taken.received, taken.fates(delivered.forwarded));
        }
        (shared.unheard, shared.refused) = (self.sightings.lost(), self.judge.refused());
        shared.why_not.clone_from(&self.forbidden);
        shared.why_not_tcp.clone_from(&self.tcp_forbidden);
    }
}

/// What a thread leaves that panics: its programs go with it, and all frames are the kernel's, which somebody has to say.
struct LastWords(Arc<Mutex<Shared>>);

impl Drop for LastWords {
    fn drop(&mut self) {
        if thread::panicking() {
            tell(&Refused::Ended);
            let mut shared = lock(&self.0);
            shared.why_not = Some(fault::line(&Refused::Ended));
            (shared.flows, shared.in_ring, shared.pods) = (0, 0, 0);
            shared.pod_devices.clear();
        }
    }
}

/// How much has to have been seen of a flow.
fn evidence(heeds_filters: bool) -> Evidence {
    if heeds_filters {
        Evidence::BothWays
    } else {
        Evidence::OneWay
    }
}

/// What forbids something now, in words; told once.
fn note(what: &str, refused: Option<Refused>, before: Option<String>) -> Option<String> {
    let words = refused.as_ref().map(fault::line);
    if let Some(error) = refused
        && words != before
    {
        let code = error.fault().code();
        tracing::warn!(code, error = fault::line(&error), "{what}");
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_is_said_to_have_ended() {
        let shared = Arc::<Mutex<Shared>>::default();
        lock(&shared).flows = 5;
        let ends = |panics: bool| {
            let last_words = LastWords(Arc::clone(&shared));
            let ends = move || {
                let _last_words = last_words;
                if panics {
                    // In a panic without a message.
                    std::panic::resume_unwind(Box::new("for the test"));
                }
            };
            assert_eq!(thread::spawn(ends).join().is_err(), panics);
            let shared = lock(&shared);
            (shared.flows, shared.why_not.clone())
        };
        assert_eq!(ends(false), (5, None));
        let (flows, why_not) = ends(true);
        assert_eq!(flows, 0);
        assert!(why_not.is_some_and(|why| why.contains("VXG-0723")));
    }
}
