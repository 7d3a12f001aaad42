//! The direct path of a session: the thread that looks after pods' devices, listens to what changes, and promotes flows.
//!
//! ```text
//!   workers ── sightings ──▶ Judge ◀── sightings of the pods' devices (BPF maps)
//!                              │ promoted flows
//!                              ▼
//!   changes of the kernel ──▶ generation ──▶ Express: the arrays that the programs read
//! ```
//!
//! Whatever is heard that the kernel decides by ends the generation at once, by one store: no flow is promoted any more, and no
//! program takes a frame. The next one begins when nothing has been heard for [`SETTLE`], so that no frame that was on its
//! way when the change came is taken for one that was judged after it.
//!
//! What cannot be heard of is looked for: filters that change without an announcement forbid the direct path.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::observe::{DirectState, DirectWayState};
use super::plan::Plan;
use crate::config;
use crate::control::{Changes, Pods, pods};
use crate::flows::{Generation, Judge, Sightings};
use crate::netlink::{self, Socket, NetdevFamily};
use crate::port::now_ns;
use crate::stats::UpReason;
use crate::steer::{self, DirectCounters, Express, Steering, WayCounters};

/// How often sightings are looked at.
const TICK: Duration = Duration::from_millis(10);
/// How long nothing must have changed before another generation begins: longer than a frame is under way within the node,
/// and than a sleeping worker takes to look at another snapshot.
const SETTLE_NS: u64 = 30_000_000;
/// How often promoted flows are looked at, and what is not announced.
const LOOK_NS: u64 = 1_000_000_000;
/// The first kernel that keeps what XDP writes in front of a frame on its way to a classifier, whatever the device.
const KERNEL: (u32, u32) = (6, 15);
/// `1`: conntrack takes segments whose predecessors it has not seen.
const LIBERAL: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal";
/// Tables of `iptables-legacy`, one a line.
const LEGACY_TABLES: &str = "/proc/thread-self/net/ip_tables_names";

/// Why flows of this plan cannot go the direct path whatever else is found; also when nobody asked.
pub(super) fn why_not(plan: &Plan) -> Option<String> {
    match plan.direct {
        config::Direct::Off => Some("switched off by --direct".to_owned()),
        config::Direct::Flows => kernel_too_old(),
    }
}

fn kernel_too_old() -> Option<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (major, minor) = KERNEL;
    (version(&release) < Some(KERNEL)).then(|| {
        format!(
            "Linux {major}.{minor} or later is needed, this is {}",
            release.trim()
        )
    })
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || parts.next()?.parse().ok();
    Some((next()?, next()?))
}

/// A direct path that is made with the session and begins when all else is in place.
pub(super) struct Prepared {
    wanted: bool,
    gear: Result<Gear, String>,
    doubt: Arc<AtomicBool>,
}

struct Gear {
    express: Express,
    sightings: Sightings,
    generation: Generation,
}

/// Loads what the plan asks for. A session does without it, when it cannot be had.
pub(super) fn prepare(plan: &Plan, steering: &Steering) -> Prepared {
    let gear = match why_not(plan) {
        Some(why) => Err(why),
        None => steering.express().map_err(|error| error.to_string()),
    };
    let gear = gear.map(|express| {
        let generation = Generation::default();
        Gear {
            sightings: Sightings::new(generation.clone(), express.seed()),
            express,
            generation,
        }
    });
    Prepared {
        wanted: plan.direct != config::Direct::Off,
        gear,
        doubt: Arc::default(),
    }
}

impl Prepared {
    /// Where the workers' sightings go.
    pub fn sightings(&self) -> Option<&Sightings> {
        self.gear.as_ref().ok().map(|gear| &gear.sightings)
    }

    /// To be called when the workers may have been told something new.
    pub fn doubts(&self) -> impl FnMut() + Send + use<> {
        let doubt = Arc::clone(&self.doubt);
        move || doubt.store(true, Ordering::Release)
    }

    /// Begins; `None` where nobody asked for it.
    pub fn start(self) -> Option<Direct> {
        let Self {
            wanted,
            gear,
            doubt,
        } = self;
        let shared = Arc::new(Mutex::new(Shared::default()));
        let running = gear.and_then(|gear| {
            Keeper::start(gear, doubt, Arc::clone(&shared))
                .map_err(|error| format!("cannot listen to changes: {error}"))
        });
        if !wanted {
            return None;
        }
        let running = match running {
            Ok(running) => Some(running),
            Err(why) => {
                tracing::warn!(why, "no direct path");
                lock(&shared).why_not = Some(why);
                None
            }
        };
        Some(Direct { running, shared })
    }
}

/// The direct path of a running session.
pub(super) struct Direct {
    running: Option<Running>,
    shared: Arc<Mutex<Shared>>,
}

struct Running {
    /// Dropped, it ends the thread.
    wake: UnixStream,
    thread: JoinHandle<Express>,
    counters: DirectCounters,
}

/// What the thread tells.
#[derive(Debug, Default)]
struct Shared {
    why_not: Option<String>,
    why_not_tcp: Option<String>,
    pods: usize,
    pods_by_xdp: usize,
    left_out: Vec<(String, String)>,
    flows: usize,
    promotions: u64,
    changes: u64,
}

impl Direct {
    /// Ends it. No program takes a frame any more; they are detached when what is returned is dropped.
    pub fn stop(self) -> Option<Express> {
        let running = self.running?;
        drop(running.wake);
        running.thread.join().ok()
    }

    /// What there is to say of it.
    pub fn state(&self) -> DirectState {
        let counters = self.running.as_ref().map(|running| running.counters.read());
        let [out, taken, delivered] = match counters {
            Some(Ok(ways)) => ways,
            Some(Err(_)) | None => Default::default(),
        };
        let shared = lock(&self.shared);
        DirectState {
            mode: config::Direct::Flows.label().to_owned(),
            why_not: shared.why_not.clone(),
            why_not_tcp: shared.why_not_tcp.clone(),
            pods: shared.pods as u64,
            pods_by_xdp: shared.pods_by_xdp as u64,
            pods_left_out: shared.left_out.iter().cloned().collect(),
            express_flows: shared.flows as u64,
            promotions: shared.promotions,
            changes: shared.changes,
            out: way(&out, 0),
            into: DirectWayState {
                forwarded: delivered.forwarded,
                ..way(
                    &taken,
                    taken
                        .forwarded
                        .wrapping_sub(delivered.forwarded)
                        .cast_signed(),
                )
            },
        }
    }
}

fn way(counters: &WayCounters, in_flight: i64) -> DirectWayState {
    let up = UpReason::ALL.iter().zip(counters.up);
    let up = up.map(|(reason, count)| (reason.label().to_owned(), count));
    let total = ("total".to_owned(), counters.up.iter().sum());
    DirectWayState {
        forwarded: counters.forwarded,
        forwarded_bytes: counters.bytes,
        in_flight,
        handed_up: up.chain([total]).collect(),
    }
}

/// The thread's own.
struct Keeper {
    express: Express,
    sightings: Sightings,
    generation: Generation,
    judge: Judge,
    changes: Changes,
    netlink: Socket,
    features: Option<NetdevFamily>,
    wake: UnixStream,
    doubt: Arc<AtomicBool>,
    shared: Arc<Mutex<Shared>>,
    /// The number of the last generation.
    number: u32,
    /// When the next one may begin; none while one holds.
    settles_ns: Option<u64>,
    look_ns: u64,
    /// What forbids the direct path for now, and for TCP.
    forbidden: Option<String>,
    tcp_forbidden: Option<String>,
}

impl Keeper {
    fn start(
        gear: Gear,
        doubt: Arc<AtomicBool>,
        shared: Arc<Mutex<Shared>>,
    ) -> io::Result<Running> {
        let features = NetdevFamily::open().unwrap_or_else(|error| {
            tracing::info!(%error, "no pod's device is sent frames by XDP");
            None
        });
        // Before anything is looked at, so that nothing changes unheard.
        let changes = Changes::open(features.as_ref())?;
        let (ours, theirs) = UnixStream::pair()?;
        let counters = gear.express.counters();
        let keeper = Self {
            judge: Judge::new(gear.express.sets(), gear.express.seed()),
            express: gear.express,
            sightings: gear.sightings,
            generation: gear.generation,
            changes,
            netlink: Socket::open()?,
            features,
            wake: theirs,
            doubt,
            shared,
            number: Generation::NONE,
            settles_ns: Some(now_ns() + SETTLE_NS),
            look_ns: 0,
            forbidden: None,
            tcp_forbidden: None,
        };
        let thread = thread::Builder::new()
            .name("vxgate-direct".into())
            .spawn(move || keeper.run())?;
        Ok(Running {
            wake: ours,
            thread,
            counters,
        })
    }

    fn run(mut self) -> Express {
        if let Err(error) = self.keep() {
            let why = format!("cannot follow what changes any more: {error}");
            tracing::error!(why, "no direct path");
            lock(&self.shared).why_not = Some(why);
        }
        self.end_generation();
        self.express
    }

    /// Until it is told to stop.
    fn keep(&mut self) -> io::Result<()> {
        self.follow_pods();
        while !self.sleep()? {
            let heard = self.changes.hear()?;
            if heard.changed || self.doubt.swap(false, Ordering::Acquire) {
                self.end_generation();
            }
            let now_ns = now_ns();
            if heard.links {
                self.follow_pods();
            }
            if now_ns >= self.look_ns {
                self.look_ns = now_ns + LOOK_NS;
                self.look(now_ns);
            }
            if self.settles_ns.is_some_and(|at| at <= now_ns) && self.forbidden.is_none() {
                self.begin_generation(now_ns);
            }
            self.promote(now_ns);
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

    /// From now on no flow is promoted, until nothing changes for a while.
    fn end_generation(&mut self) {
        self.express.begin(Generation::NONE);
        self.generation.set(Generation::NONE);
        let now_ns = now_ns();
        if self.settles_ns.replace(now_ns + SETTLE_NS).is_some() {
            return;
        }
        for slot in self.judge.begin(Generation::NONE, now_ns) {
            self.express.vacate(slot);
        }
        let mut shared = lock(&self.shared);
        shared.flows = 0;
        shared.changes += 1;
    }

    fn begin_generation(&mut self, now_ns: u64) {
        self.settles_ns = None;
        self.number = self.number.checked_add(1).unwrap_or(1);
        self.judge.begin(self.number, now_ns);
        self.express.begin(self.number);
        self.generation.set(self.number);
    }

    /// Takes what the workers saw, and promotes what may be.
    fn promote(&mut self, now_ns: u64) {
        while let Some(sighting) = self.sightings.take() {
            self.judge.hear(&sighting, now_ns);
        }
        let (express, generation) = (&self.express, self.number);
        let mut promotions = 0;
        self.judge.decide(
            now_ns,
            |key| express.pod_side(key, generation),
            |flow| {
                promotions += 1;
                express.promote(flow, generation, now_ns);
            },
        );
        if promotions > 0 {
            let mut shared = lock(&self.shared);
            shared.promotions += promotions;
            shared.flows = self.judge.promoted();
        }
    }

    /// Looks at the promoted flows, and at what nobody announces.
    fn look(&mut self, now_ns: u64) {
        let express = &self.express;
        self.judge.sweep(
            now_ns,
            |slot| express.look(slot),
            |slot, _| express.vacate(slot),
        );
        let (forbidden, tcp_forbidden) = (silent_filters(), strict_conntrack());
        let stricter = (forbidden.is_some() && self.forbidden.is_none())
            || (tcp_forbidden.is_some() && self.tcp_forbidden.is_none());
        if stricter {
            self.end_generation();
        }
        (self.forbidden, self.tcp_forbidden) = (forbidden, tcp_forbidden);
        self.judge.allow_tcp(self.tcp_forbidden.is_none());
        let mut shared = lock(&self.shared);
        shared.why_not.clone_from(&self.forbidden);
        shared.why_not_tcp.clone_from(&self.tcp_forbidden);
        shared.flows = self.judge.promoted();
    }

    /// Attaches to the pods' devices that came, and lets go of those that went.
    fn follow_pods(&mut self) {
        let found = match self.find_pods() {
            Ok(found) => found,
            // They are looked at again with the next change.
            Err(error) => return tracing::warn!(%error, "cannot list the pods' devices"),
        };
        let Pods {
            ports,
            mut left_out,
        } = found;
        let known: Vec<u32> = self.express.pods().collect();
        let gone = known
            .iter()
            .filter(|ifindex| !ports.iter().any(|port| port.ifindex == **ifindex));
        gone.for_each(|ifindex| self.express.detach_pod(*ifindex));
        for port in ports {
            if known.contains(&port.ifindex) {
                continue;
            }
            if let Err(error) = self.express.attach_pod(port.ifindex, &port.name) {
                tracing::debug!(%error, pod = port.name, "not looked after");
                left_out.push((port, error.to_string()));
            }
        }
        for ifindex in self.express.pods().collect::<Vec<_>>() {
            let features = self.features.as_mut();
            // One that is gone takes nothing.
            let by_xdp = features.is_some_and(|f| f.takes_redirects(ifindex).unwrap_or(false));
            self.express.set_by_xdp(ifindex, by_xdp);
        }
        let mut shared = lock(&self.shared);
        shared.pods = self.express.pods().count();
        shared.pods_by_xdp = self.express.pods_by_xdp();
        let left_out = left_out.into_iter().map(|(port, why)| (port.name, why));
        shared.left_out = left_out.collect();
    }

    fn find_pods(&mut self) -> Result<Pods, netlink::Error> {
        let links = netlink::links_with_kind(&mut self.netlink)?;
        let with_clsact = steer::devices_with_clsact(&mut self.netlink)?;
        Ok(pods(&links, &with_clsact))
    }
}

/// What in this namespace may change without anybody hearing of it.
fn silent_filters() -> Option<String> {
    let tables = fs::read_to_string(LEGACY_TABLES).unwrap_or_default();
    let tables: Vec<_> = tables.split_whitespace().collect();
    if !tables.is_empty() {
        return Some(format!(
            "rules of iptables-legacy (tables {}) change without an announcement; use iptables-nft, or nft",
            tables.join(", ")
        ));
    }
    match netlink::ipsets() {
        Ok(0) => None,
        Ok(count) => Some(format!(
            "ipsets (there are {count}) change without an announcement; use sets of nft"
        )),
        Err(error) => Some(format!(
            "the kernel does not tell whether there are ipsets: {error}"
        )),
    }
}

/// Whether connections that come back from the direct path might be taken for invalid ones.
fn strict_conntrack() -> Option<String> {
    // Without conntrack there is no such setting.
    let liberal = fs::read_to_string(LIBERAL).unwrap_or_else(|_| "1".to_owned());
    (liberal.trim() == "0").then(|| {
        "conntrack would take segments whose predecessors it has not seen for invalid; \
         `sysctl net.netfilter.nf_conntrack_tcp_be_liberal=1` lets it follow again"
            .to_owned()
    })
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // Numbers and words, of which none is half-written.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_apart_by_their_release() {
        for (release, found) in [
            ("6.18.44-custom\n", Some((6, 18))),
            ("6.9", Some((6, 9))),
            ("7.3.4+deb13-amd64", Some((7, 3))),
            ("nonsense", None),
        ] {
            assert_eq!(version(release), found, "{release}");
        }
        assert!(Some((6, 9)) < Some(KERNEL) && Some((7, 0)) > Some(KERNEL));
    }
}
