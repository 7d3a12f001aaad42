//! One takeover of a fixed set of devices, from the locks to the last hook, and back.
//!
//! Start, in order (with memory from the underlay devices' NUMA node): locks, access devices, BPF, memory and sockets, sockets into the XSKMAP, mirror and table, workers,
//! hooks. Until the last hook is in place every frame takes the kernel's path.
//!
//! Stop, in reverse: bypass (no new frames come in), workers drain what is in flight, hooks off, mirror, sockets, access
//! devices, locks. Whatever goes wrong half-way is undone in the same order by dropping what was made.

mod error;
mod steer_plan;
mod verdict;
mod view;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender};

pub use error::SessionError;

use super::books::Books;
use super::captures::Captures;
use super::crew::{self, Crew, crew, spawn};
use super::direct::{self, Desk, Direct};
use super::flight::{self, DroppedFrame};
use super::hung::Hung;
use super::lanes::Lanes;
use super::lock::DeviceLock;
use super::observe::OffenderState;
use super::plan::{Plan, access_mtu};
use super::recent::RecentDrops;
use crate::control::{self, Control, Event};
use crate::fault::Explained;
use crate::port::{XskPort, now_ns};
use crate::stats::StageSwitch;
use crate::steer::{self, AccessPair, Steering};
use crate::table::{Policy, Reader, Segment, publication};
use crate::worker;
use steer_plan::steer_plan;

/// How often it is remembered what has died.
const REMEMBER: Duration = Duration::from_secs(1);

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
        let crews = open_crews(&plan, &accesses, &mut lanes, &mut steering, &mut books)?;

        let ends = |pair: &AccessPair| [pair.kernel_side.ifindex, pair.worker_side.ifindex];
        let taps = lanes.links().map(|link| link.ifindex);
        let watched: Vec<u32> = accesses.iter().flat_map(ends).chain(taps).collect();
        let direct = direct::prepare(&plan, &steering);
        direct.count_in(&books.peers);
        let told = (&steering, &direct);
        let (control, readers) = open_control(&plan, &watched, told, &books, events)?;
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

    /// Whether its programs are all where it attached them.
    pub fn is_attached(&self) -> bool {
        self.steering.is_attached()
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

/// Memory, sockets and TAPs of every worker. A wire TAP is given up where the sockets are zero-copy.
fn open_crews(
    plan: &Plan,
    accesses: &[AccessPair],
    lanes: &mut Lanes,
    steering: &mut Steering,
    books: &mut Books,
) -> Result<Vec<Crew>, SessionError> {
    let mut crews = (0..plan.workers)
        .map(|number| crew(plan, accesses, number, steering, books))
        .collect::<Result<Vec<_>, _>>()?;
    for (place, nic) in plan.nics.iter().enumerate() {
        let zero_copy = crews.iter().any(|crew| crew.has_zero_copy(nic.ifindex));
        if zero_copy && lanes.give_up_wire(place) {
            steering.give_up_wire_tap(nic.ifindex);
        }
    }
    lanes.tell(plan);
    for (number, crew) in (0..).zip(&mut crews) {
        crew.open_taps(plan, lanes, number, books)?;
    }
    Ok(crews)
}

/// The mirror, and the table with a reader for each worker. The links of these indices are ours, and watched.
fn open_control(
    plan: &Plan,
    watched: &[u32],
    (steering, direct): (&Steering, &direct::Prepared),
    books: &Books,
    events: &Sender<Event>,
) -> Result<(control::Running, Vec<Reader>), SessionError> {
    let limits = steering.frame_limits();
    let shares = steering.kernel_shares();
    let peers = Arc::clone(&books.peers);
    let control = Control::open_with(&plan.devices, watched, &plan.policy, peers)?
        .with_frame_limits(move |ifindex, bytes| limits.set(ifindex, bytes))
        .with_kernel_shares(move |ifindex, share| shares.set(ifindex, share))
        .with_publications(direct.doubts());
    let (writer, readers) = publication(plan.workers as usize, control.snapshot());
    Ok((control.start(writer, events.clone())?, readers))
}
