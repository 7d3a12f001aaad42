//! One takeover of a fixed set of devices, from the locks to the last hook, and back.
//!
//! Start, in order (with memory from the underlay devices' NUMA node): locks, access devices, BPF, memory and sockets, sockets into the XSKMAP, mirror and table, workers,
//! hooks. Until the last hook is in place every frame takes the kernel's path.
//!
//! Stop, in reverse: bypass (no new frames come in), workers drain what is in flight, hooks off, mirror, sockets, access
//! devices, locks. Whatever goes wrong half-way is undone in the same order by dropping what was made.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender};

use super::books::{Books, Lately, RingDrops};
use super::captures::Captures;
use super::crew::{self, LINK_HEADERS, crew, spawn};
use super::direct::{self, Desk, Direct};
use super::flight::{self, DroppedFrame};
use super::hung::Hung;
use super::kernel_share;
use super::lanes::Lanes;
use super::lock::{DeviceLock, LockError};
use super::observe::{
    self, AccessState, DeviceState, GroupState, MemberState, MirrorState, Observation,
    OffenderState, PortState, SuperframesState, VtepState, WorkerState,
};
use super::peers;
use super::plan::{Nic, Plan, access_mtu};
use super::recent::RecentDrops;
use crate::control::{self, Control, Event, Found, Report, SegmentReport};
use crate::fault::{Explained, Fault};
use crate::port::{OpenError, ROOM, XskPort, now_ns};
use crate::state::{self, SegmentState, State};
use crate::stats::{PeerBook, StageSwitch};
use crate::steer::{self, AccessPair, DevicePlan, DirectPlan, NicPlan, SteerPlan, Steering, Tap};
use crate::table::{OUTER_IPV4_LEN, OUTER_IPV6_LEN, Policy, Segment, VtepKey, publication};
use crate::worker;

/// How often it is remembered what has died.
const REMEMBER: Duration = Duration::from_secs(1);
/// How far the marks of rings look back that the books tell.
const LATELY: Duration = Duration::from_secs(60);

/// Why a session did not come up. Everything it had made is gone again.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// A device is somebody else's.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// BPF, the access device or an attachment.
    #[error(transparent)]
    Steer(#[from] steer::Error),
    /// The UMEM.
    #[error("cannot make the memory for frames: {0}")]
    Umem(io::Error),
    /// A socket.
    #[error(transparent)]
    Port(#[from] OpenError),
    /// The mirror of the kernel's tables.
    #[error("cannot mirror the kernel's tables: {0}")]
    Control(#[from] control::Error),
    /// No descriptor is left for the books.
    #[error("cannot watch a socket's counters: {0}")]
    Statistics(io::Error),
    /// A thread.
    #[error("cannot start worker {worker}: {source}")]
    Worker {
        /// Its number.
        worker: u32,
        /// What the kernel said.
        source: io::Error,
    },
}

impl SessionError {
    /// The error that this one only passes on.
    fn inner(&self) -> Option<&dyn Explained> {
        match self {
            Self::Lock(error) => Some(error),
            Self::Steer(error) => Some(error),
            Self::Port(error) => Some(error),
            Self::Control(error) => Some(error),
            Self::Umem(_) | Self::Statistics(_) | Self::Worker { .. } => None,
        }
    }
}

impl Explained for SessionError {
    fn fault(&self) -> Fault {
        match self {
            Self::Lock(error) => error.fault(),
            Self::Steer(error) => error.fault(),
            Self::Port(error) => error.fault(),
            Self::Control(error) => error.fault(),
            Self::Umem(_) => Fault::FrameMemoryRefused,
            Self::Statistics(_) => Fault::SocketCountersRefused,
            Self::Worker { .. } => Fault::ThreadRefused,
        }
    }

    fn why(&self) -> Option<String> {
        self.inner()?.why()
    }

    fn remedy(&self) -> Option<String> {
        self.inner()?.remedy()
    }
}

/// A running takeover.
pub struct Session {
    plan: Plan,
    books: Books,
    steering: Steering,
    control: control::Running,
    workers: Vec<worker::Running<XskPort>>,
    hung: Hung,
    recent: RecentDrops,
    remember_at: Instant,
    direct: Option<Direct>,
    accesses: Vec<AccessPair>,
    lanes: Lanes,
    captures: Captures,
    _locks: Vec<DeviceLock>,
}

impl Session {
    /// Takes the plan's devices over. Frames flow through vxgate when this returns, unless it is drained: then they do once
    /// [`Session::set_drained`] says so.
    ///
    /// # Errors
    /// Says what could not be had; nothing is left behind, and the kernel has carried on all along.
    pub fn start(
        plan: Plan,
        events: &Sender<Event>,
        captures: &Captures,
        drained: bool,
        stages: StageSwitch,
    ) -> Result<Self, SessionError> {
        let node = crew::node_of(&plan.nics);
        let _near = crew::near(node);
        let devices = || plan.devices.iter().map(|found| &found.device);
        let locks = devices()
            .map(|device| DeviceLock::acquire(&device.name, device.ifindex))
            .collect::<Result<Vec<_>, _>>()?;
        // Whoever had the locks may have died only now, and its access devices were not there for the taking before.
        super::remove_leftovers()?;
        let accesses = plan
            .devices
            .iter()
            .map(|found| AccessPair::create(&found.device.name, access_mtu(found), plan.workers))
            .collect::<Result<Vec<_>, _>>()?;
        let mut lanes = Lanes::make(&plan);
        let mut steering = Steering::load(&steer_plan(&plan, &accesses, &lanes))?;
        let mut books = Books::new(&plan, &accesses, stages);
        let mut crews = (0..plan.workers)
            .map(|number| crew(&plan, &accesses, number, &mut steering, &mut books))
            .collect::<Result<Vec<_>, _>>()?;
        for (place, nic) in plan.nics.iter().enumerate() {
            let zero_copy = crews.iter().any(|crew| crew.has_zero_copy(nic.ifindex));
            if zero_copy && lanes.give_up_wire(place) {
                steering.give_up_wire_tap(nic.ifindex);
            }
        }
        lanes.tell(&plan);
        for (number, crew) in (0..).zip(&mut crews) {
            crew.open_taps(&plan, &lanes, number, &mut books)?;
        }

        let ends = |pair: &AccessPair| [pair.kernel_side.ifindex, pair.worker_side.ifindex];
        let taps = lanes.links().map(|link| link.ifindex);
        let watched: Vec<u32> = accesses.iter().flat_map(ends).chain(taps).collect();
        let direct = direct::prepare(&plan, &steering);
        direct.count_in(&books.peers);
        let limits = steering.frame_limits();
        let shares = steering.kernel_shares();
        let peers = Arc::clone(&books.peers);
        let control = Control::open_with(&plan.devices, &watched, &plan.policy, peers)?
            .with_frame_limits(move |ifindex, bytes| limits.set(ifindex, bytes))
            .with_kernel_shares(move |ifindex, share| shares.set(ifindex, share))
            .with_publications(direct.doubts());
        let (writer, readers) = publication(crews.len(), control.snapshot());
        let control = control.start(writer, events.clone())?;
        let hands = (&steering, direct.sightings());
        let workers = match spawn(&plan, node, crews, readers, hands, &mut books) {
            Ok(workers) => workers,
            Err(error) => {
                control.stop();
                return Err(error);
            }
        };

        let mut session = Self {
            plan,
            books,
            steering,
            control,
            workers,
            hung: Hung::default(),
            recent: RecentDrops::default(),
            remember_at: Instant::now(),
            direct: None,
            accesses,
            lanes,
            captures: captures.clone(),
            _locks: locks,
        };
        let (taps, names) = (session.books.taps.clone(), session.control.peer_names());
        captures.begin_session(taps, session.books.captured_ports(), names);
        if let Err(error) = session.attach() {
            session.stop();
            return Err(error.into());
        }
        session.direct = direct.start();
        session.set_drained(drained);
        Ok(session)
    }

    fn attach(&mut self) -> Result<(), steer::Error> {
        for (ifindex, mode, why) in self.steering.attach_bypassed()? {
            self.books.note_mode(ifindex, mode, why);
        }
        Ok(())
    }

    /// Leaves every frame that comes in from now on to the kernel, or no longer. What had come in is forwarded as ever: the
    /// workers go on, with tables that follow the kernel's.
    pub fn set_drained(&self, on: bool) {
        self.steering.set_bypass(on);
    }

    /// Decides anew about every segment; the channel closes when the workers are told.
    pub fn set_policy(&mut self, policy: Policy) -> Receiver<()> {
        self.plan.policy = policy;
        self.control.set_policy(policy)
    }

    /// Frames that have arrived and have no fate yet, at all ports.
    pub fn in_flight(&self) -> u64 {
        let ports = self.ports(&mut None);
        let in_flight = ports
            .iter()
            .map(|port| port.in_flight.max(0).cast_unsigned());
        in_flight.sum()
    }

    /// The names of the devices it takes over.
    pub fn device_names(&self) -> Vec<String> {
        let devices = self.plan.devices.iter();
        devices.map(|found| found.device.name.clone()).collect()
    }

    /// The plan it carries out.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether this is an end of one of its access devices, or one of its TAPs.
    pub fn has_access_device(&self, ifindex: u32) -> bool {
        let pairs = self.accesses.iter();
        let ends = pairs.flat_map(|pair| [&pair.kernel_side, &pair.worker_side]);
        ends.chain(self.lanes.links())
            .any(|link| link.ifindex == ifindex)
    }

    /// Whether every thread still runs: the workers', and that of the mirror, without which the table goes stale.
    pub fn is_alive(&self) -> bool {
        self.control.is_alive() && self.workers.iter().all(worker::Running::is_alive)
    }

    /// Looks for workers that hang, and for such that do no longer.
    pub fn watch(&mut self) {
        let now_ns = now_ns();
        for (book, running) in self.books.workers.iter().zip(&self.workers) {
            self.hung.look(book, running.standing(), now_ns);
        }
    }

    /// Remembers what has died by now, once a second.
    pub fn remember(&mut self) {
        if Instant::now() >= self.remember_at {
            self.remember_at = Instant::now() + REMEMBER;
            let ports = self.ports(&mut None);
            self.recent.look(&ports, now_ns());
        }
    }

    /// Frames of strangers that were delivered so far, and the latest stranger.
    pub fn strangers(&self) -> (u64, Option<OffenderState>) {
        let offenders = self.books.offenders(now_ns());
        let latest = offenders.into_iter().find(|offender| offender.delivered);
        (self.books.strangers_delivered(), latest)
    }

    /// The segments as the workers have them, by their handles.
    pub fn segments(&self) -> Vec<Segment> {
        self.control.segments()
    }

    /// The last frames that died of each reason in each direction, the latest of each first.
    pub fn dropped_frames(&self) -> Vec<DroppedFrame> {
        flight::states(&self.books, now_ns())
    }

    /// Where to ask for the direct path's flows.
    pub fn flows(&self) -> Option<Desk> {
        self.direct.as_ref().map(Direct::desk)
    }

    /// The books, now.
    pub fn observe(&self) -> Observation {
        let mut seen = Observation::default();
        let mut trouble = None;
        seen.ports = self.ports(&mut trouble);
        for (place, nic) in self.plan.nics.iter().enumerate() {
            let mut ports = seen.ports.iter_mut();
            if let Some((way, why)) = self.lanes.way(place)
                && let Some(port) = ports.find(|port| port.ifindex == nic.ifindex)
            {
                port.superframes_leave = Some(way.to_owned());
                port.why_cut = why.map(str::to_owned);
            }
        }
        seen.reasons.extend(trouble.map(|error| error.to_string()));
        let now_ns = now_ns();
        seen.drops = self.recent.states(&seen.ports, now_ns);
        seen.offenders = self.books.offenders(now_ns);
        seen.workers = self.workers(LATELY);
        let report = self.control.report();
        let shares = self.steering.kernel_shares();
        seen.devices = self
            .plan
            .devices
            .iter()
            .zip(&self.accesses)
            .enumerate()
            .map(|(place, (found, pair))| DeviceState {
                kernel_keeps: shares.words(found.device.ifindex).unwrap_or_default(),
                superframes: Some(self.superframes(place, found)),
                ..taken_over(found, pair, &report)
            })
            .collect();
        seen.vteps = report.segments.iter().flat_map(vteps).collect();
        seen.groups = report.segments.iter().flat_map(groups).collect();
        for (segment, found) in report.segments.iter().zip(&self.plan.devices) {
            peers::add(&mut seen, segment, found.device.vni.get(), now_ns);
        }
        let partly_kernels = report.segments.iter().filter_map(kernel_share::words);
        seen.warnings.extend(partly_kernels);
        let troubles = shares.troubles();
        let troubles = troubles.iter().map(|(name, why)| format!("{name}: {why}"));
        seen.reasons.extend(troubles);
        seen.direct = self.direct.as_ref().map(Direct::state);
        seen.mirror = MirrorState {
            publications: report.publications,
            resyncs: report.resyncs,
            events: report.events,
            overruns: report.overruns,
        };
        seen.warnings.extend(self.plan.fewer_workers.clone());
        judge(&mut seen);
        seen
    }

    /// What it goes by, now.
    pub fn state(&self) -> State {
        let segments = self.control.segments();
        let devices = self.plan.devices.iter().zip(&self.accesses);
        let segments = segments.iter().zip(devices).enumerate();
        let workers = self.workers(Duration::ZERO).into_iter();
        State {
            generation: self.control.publications(),
            chunk_bytes: self.plan.chunk().bytes(),
            workers: workers
                .map(|worker| state::WorkerState {
                    worker: worker.worker,
                    alive: worker.alive,
                })
                .collect(),
            underlays: self.plan.nics.iter().map(underlay_state).collect(),
            segments: segments
                .map(|(place, (segment, (found, pair)))| {
                    let tap = self.lanes.access(place);
                    SegmentState::of(segment, access_state(found, pair, tap))
                })
                .collect(),
            ..State::idle()
        }
    }

    /// The workers, now; their marks are those of so long before.
    pub fn workers(&self, lately: Duration) -> Vec<WorkerState> {
        let now_ns = now_ns();
        let lately = u64::try_from(lately.as_nanos()).unwrap_or(u64::MAX);
        let lately = Lately {
            from_ns: now_ns.saturating_sub(lately),
            now_ns,
        };
        let books = self.books.workers.iter().zip(&self.workers);
        books
            .map(|(book, running)| WorkerState {
                queues: self.books.queues(book.number, lately),
                ..book.state(lately, running)
            })
            .collect()
    }

    /// Every port's page of the books; what kept the kernel from telling its part is put into `trouble`.
    fn ports(&self, trouble: &mut Option<steer::Error>) -> Vec<PortState> {
        let arrivals = || {
            self.steering
                .counters()
                .map_err(|error| *trouble = Some(error))
                .unwrap_or_default()
        };
        let ring_drops = |ifindex: u32| {
            let mut devices = self.plan.devices.iter();
            let place = devices.position(|found| found.device.ifindex == ifindex);
            let pair = place.and_then(|place| self.accesses.get(place));
            let tap = place.and_then(|place| self.lanes.access(place));
            RingDrops {
                pair: pair.and_then(|pair| pair.ring_drops().ok()).unwrap_or(0),
                tap: tap.and_then(|tap| tap.ring_drops().ok()).unwrap_or(0),
            }
        };
        self.books.ports(arrivals, ring_drops)
    }

    /// The lane of a device, by its place in the plan.
    fn superframes(&self, place: usize, found: &Found) -> SuperframesState {
        let access = self.lanes.accesses.get(place);
        let wire = self
            .plan
            .wire_of(found)
            .and_then(|nic| self.lanes.wire(nic));
        match access {
            Some(Ok(access)) => SuperframesState {
                on: true,
                access_tap: Some(access.link.name.clone()),
                wire_tap: wire.map(|wire| wire.link.name.clone()),
                why_not: None,
            },
            Some(Err(why)) => SuperframesState {
                why_not: Some(why.clone()),
                ..SuperframesState::default()
            },
            None => SuperframesState::default(),
        }
    }

    /// Hands the traffic back to the kernel without losing a frame, and removes all that was made.
    pub fn stop(mut self) {
        self.steering.set_bypass(true);
        // The gear's programs are needed until no frame comes from the NICs' any more.
        let express = self.direct.take().and_then(Direct::stop);
        // The books hold handles on the sockets, whose queues stay taken as long as one lives.
        self.books.close();
        self.workers.iter().for_each(worker::Running::stop);
        // Sockets are closed only after the programs that lead to them are gone.
        let plans: Vec<_> = self.workers.drain(..).map(worker::Running::join).collect();
        self.captures.end_session();
        self.steering.detach();
        drop(express);
        self.control.stop();
        for panicked in plans.into_iter().filter_map(Result::err) {
            let code = panicked.fault().code();
            tracing::error!(code, error = %panicked, "a worker ended by itself");
        }
        for pair in self.accesses.drain(..) {
            if let Err(error) = pair.remove() {
                tracing::warn!(%error, "an access device stays behind; the next start removes it");
            }
        }
    }
}

fn underlay_state(nic: &Nic) -> state::UnderlayState {
    state::UnderlayState {
        name: nic.name.clone(),
        ifindex: nic.ifindex,
        mac: nic.mac,
        mtu: nic.mtu,
        frame_len_max: nic.mtu as usize + LINK_HEADERS,
        queues: nic.queues,
    }
}

fn access_state(found: &Found, pair: &AccessPair, tap: Option<&Tap>) -> state::AccessState {
    state::AccessState {
        kernel_side: pair.kernel_side.name.clone(),
        worker_side: pair.worker_side.name.clone(),
        frame_len_max: access_mtu(found) as usize + LINK_HEADERS,
        tap: tap.map(|tap| tap.link.name.clone()),
    }
}

/// A device of the session.
fn taken_over(found: &Found, pair: &AccessPair, report: &Report) -> DeviceState {
    let known = report
        .segments
        .iter()
        .find(|segment| segment.ifindex == found.device.ifindex);
    DeviceState {
        access: Some(AccessState {
            kernel_side: pair.kernel_side.name.clone(),
            worker_side: pair.worker_side.name.clone(),
        }),
        taken_over: true,
        fdb_entries: known.map_or(0, |segment| segment.fdb_entries as u64),
        flood_entries: known.map_or(0, |segment| segment.flood_entries as u64),
        kernel_entries: known.map_or(0, |segment| segment.kernel_entries as u64),
        ..observe::device(found)
    }
}

fn vteps(segment: &SegmentReport) -> impl Iterator<Item = VtepState> {
    segment.vteps.iter().map(|vtep| VtepState {
        device: segment.device.clone(),
        vni: vtep.key.vni.get(),
        addr: vtep.key.addr,
        port: vtep.key.port,
        next_hop: vtep.next_hop,
        next_hop_mac: vtep.mac.ok().map(|mac| mac.to_string()),
        state: match vtep.mac {
            Ok(_) => "resolved".to_owned(),
            Err(reason) => reason.label().to_owned(),
        },
        path_mtu: vtep.path_mtu,
        carried_by: match vtep.mac {
            Err(reason) if reason.is_kernels() => "kernel".to_owned(),
            _ => "vxgate".to_owned(),
        },
    })
}

fn groups(segment: &SegmentReport) -> impl Iterator<Item = GroupState> {
    let member = |(key, share): &(VtepKey, f64)| MemberState {
        addr: key.addr,
        share: *share,
    };
    segment.groups.iter().map(move |group| GroupState {
        device: segment.device.clone(),
        nexthop: group.nexthop,
        members: group.members.iter().map(member).collect(),
    })
}

/// Draws conclusions: what makes the gateway unhealthy, and what deserves a look.
fn judge(seen: &mut Observation) {
    for worker in seen.workers.iter().filter(|worker| !worker.alive) {
        let age = worker.heartbeat_age_ms;
        seen.reasons.push(format!(
            "worker {} stored no heartbeat for {age} ms: the kernel carries its frames",
            worker.worker
        ));
    }
    for port in &seen.ports {
        if !port.balance_ok {
            seen.reasons.push(format!(
                "{}: {} frames have no known fate",
                port.name, port.in_flight
            ));
        }
        if port.xdp_mode == "generic" {
            seen.warnings
                .push(format!("{}: generic XDP, slower than native", port.name));
        }
    }
    if let Some(direct) = &seen.direct {
        for (way, name) in direct.ways() {
            if !way.balance_ok {
                let count = way.in_flight;
                seen.reasons.push(format!(
                    "direct path {name}: {count} frames have no known fate"
                ));
            }
        }
        let troubles = direct.why_not.iter();
        let troubles = troubles.map(|why| format!("no direct path: {why}"));
        let tcp = direct.why_not_tcp.iter();
        let tcp = tcp.map(|why| format!("no direct path for TCP: {why}"));
        seen.warnings.extend(troubles.chain(tcp));
    }
    let vteps = seen.vteps.iter();
    let narrow = vteps.filter(|vtep| !vtep.is_kernels());
    let narrow: Vec<_> = narrow.filter_map(|vtep| narrow_path(seen, vtep)).collect();
    seen.warnings.extend(narrow);
    let vteps = seen.vteps.iter();
    let unresolved = vteps.filter(|vtep| !vtep.is_kernels() && vtep.state != "resolved");
    let words =
        unresolved.map(|vtep| format!("VTEP {} on {}: {}", vtep.addr, vtep.device, vtep.state));
    seen.warnings.extend(words.collect::<Vec<_>>());
}

/// What to say of a VTEP to which the device's largest frames do not get in one piece.
fn narrow_path(seen: &Observation, vtep: &VtepState) -> Option<String> {
    let device = seen
        .devices
        .iter()
        .find(|device| device.name == vtep.device)?;
    let outer = match vtep.addr {
        IpAddr::V4(_) => OUTER_IPV4_LEN,
        IpAddr::V6(_) => OUTER_IPV6_LEN,
    };
    // The outer Ethernet header does not count, but the inner one does: as long.
    let needed = device.mtu.saturating_add(outer as u32);
    (u32::from(vtep.path_mtu) < needed).then(|| {
        format!(
            "VTEP {} on {}: the path takes {} bytes, the device's MTU {} needs {needed}; \
             longer frames are left to the kernel",
            vtep.addr, vtep.device, vtep.path_mtu, device.mtu
        )
    })
}

fn steer_plan(plan: &Plan, accesses: &[AccessPair], lanes: &Lanes) -> SteerPlan {
    let nics = plan.nics.iter().enumerate().map(|(place, nic)| NicPlan {
        ifindex: nic.ifindex,
        name: nic.name.clone(),
        mac: nic.mac,
        wire_tap: lanes.wire(place).map(|tap| tap.link.clone()),
    });
    let devices =
        plan.devices
            .iter()
            .zip(accesses)
            .enumerate()
            .filter_map(|(place, (found, pair))| {
                let device = &found.device;
                Some(DevicePlan {
                    ifindex: device.ifindex,
                    name: device.name.clone(),
                    mtu: device.mtu,
                    vni: device.vni,
                    local: device.local?,
                    group: device.group,
                    gbp: device.gbp,
                    underlay_ifindex: device.underlay?,
                    port: device.port,
                    kernel_side: pair.kernel_side.clone(),
                    worker_side: pair.worker_side.clone(),
                    access_tap: lanes.access(place).map(|tap| tap.link.clone()),
                })
            });
    SteerPlan {
        workers: plan.workers,
        chains: plan.needs_chains(),
        direct: direct::is_wanted(plan).then(|| DirectPlan {
            flows: plan.direct_flows_max,
            peers: PeerBook::places_for(plan.devices.len()) as u32,
        }),
        frame_max: plan.chunk().bytes() - ROOM as u32,
        nics: nics.collect(),
        devices: devices.collect(),
    }
}
