//! Assembly: start in order, stop in reverse, and start anew when the devices change.
//!
//! ```text
//!   discover ──▶ Plan ──▶ Session ── frames flow ──▶ (Topology | LinkGone | a worker died) ──▶ discover ...
//! ```
//!
//! A session carries one fixed set of devices and queues. When the kernel reports that devices came, went or changed what
//! they are, a new plan is made; only if it differs does the session end and another begin. Between two sessions, and
//! when one cannot start, every frame takes the kernel's own path.

mod autogroup;
mod books;
mod captures;
mod checksums;
mod crew;
mod direct;
mod error;
mod fdb;
mod flight;
mod hung;
mod kernel_share;
mod lanes;
mod lock;
mod numa;
mod observe;
mod order;
mod peers;
mod plan;
mod planner;
mod predecessor;
mod privileges;
mod recent;
mod session;
mod strangers;
mod view;

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvError, Sender, bounded, select};

pub use captures::{Asked, Capture, CaptureError, CaptureState, CapturedPort, Captures, Sighting};
pub use error::StartError;
pub use fdb::{FdbEntryState, FdbPage, FdbPlace, FdbQuery};
pub use flight::DroppedFrame;
pub use lock::{LockError, connect, lock_name, peer_may_change, peer_pid};
pub use observe::{
    AccessState, DeviceState, DirectState, DirectWayState, DropState, EXPRESS, FlowState,
    FlowsState, GroupState, MemberState, MirrorState, Observation, OffenderState, PeerState,
    PodState, PolicyState, PortState, QueueState, RING, RefusedState, RingState, StagesState,
    SuperframesState, Traffic, VniState, VtepState, WorkerState,
};
pub use order::{Drained, Orders, Resumed, Stopping};
pub use plan::{Nic, Plan, PlanError, receive_queues, refusal_words};
pub use planner::{frame_memory, plan};
pub use predecessor::Patience;
pub use privileges::{MissingCapabilities, check as check_privileges};
pub use session::SessionError;
pub use view::{DRAINED, View};

use crate::config::Config;
use crate::control::{Event, Found};
use crate::fault::{self, Explained};
use crate::netlink::{self, Socket};
use crate::stats::StageSwitch;
use crate::table::{PeerCheck, Policy};
use order::Order;
use planner::{log_plan, make_plan};
use session::Session;
use strangers::StrangerLog;

/// Events of the mirror that wait for the assembly; more of the same say nothing new.
const EVENTS_MAX: usize = 256;
/// How long to let a burst of device events settle before looking.
const SETTLE: Duration = Duration::from_millis(20);
/// How long to wait before another try after a session could not start or died.
const RETRY: Duration = Duration::from_millis(500);
/// How often the devices are looked at without having been told to: a changed number of queues (`ethtool -L`) sends no
/// message.
const RECHECK: Duration = Duration::from_secs(5);
/// How often strangers that were let in are looked for.
const STRANGERS: Duration = Duration::from_secs(1);
/// How often the workers' threads are looked at.
const CHECK: Duration = Duration::from_millis(100);

/// A gateway that carries frames.
pub struct Gateway {
    config: Config,
    shared: Arc<Mutex<State>>,
    events: (Sender<Event>, Receiver<Event>),
    orders: (Orders, Receiver<Order>),
    captures: Captures,
    netlink: Socket,
    /// Devices with which a session could not start, by index, and why: left out until they go, so that they do not take
    /// down those that can be carried.
    unfit: BTreeMap<u32, String>,
    _mounts: Option<File>,
}

/// What the view shows. The lock is the control side's: no worker ever takes it.
#[derive(Default)]
struct State {
    session: Option<Session>,
    /// Devices that were asked for and stay with the kernel.
    left: Vec<Found>,
    /// Why there is no session.
    trouble: Option<String>,
    /// The devices that were asked for by name.
    named: Vec<String>,
    policy: Policy,
    /// Sessions so far.
    takeovers: u64,
    /// The operator has handed the traffic to the kernel. A session goes on, or begins, and steers nothing.
    drained: bool,
    /// Whether somebody wants to know where the workers' time goes; the same for all sessions.
    stages: StageSwitch,
}

impl Gateway {
    /// Takes the devices over. Frames flow when this returns.
    ///
    /// # Errors
    /// Says what was missing and what to do; nothing is left behind.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let mounts = hold_mounts();
        remove_leftovers()?;
        let mut netlink = Socket::open().map_err(|source| netlink::Error::Io {
            doing: "open",
            source,
        })?;
        let mut unfit = BTreeMap::new();
        let plan = make_plan(&config, &mut netlink, &mut unfit)?;
        plan.check(&config)?;
        let events = bounded(EVENTS_MAX);
        log_plan(&plan);
        let left = plan.left.clone();
        let captures = Captures::default();
        let stages = StageSwitch::default();
        let session = Session::start(plan, &events.0, &captures, false, stages.clone())?;
        let state = State {
            session: Some(session),
            left,
            trouble: None,
            named: config.devices.named().to_vec(),
            policy: config.policy,
            takeovers: 1,
            drained: false,
            stages,
        };
        Ok(Self {
            config,
            shared: Arc::new(Mutex::new(state)),
            events,
            orders: Orders::new(),
            captures,
            netlink,
            unfit,
            _mounts: mounts,
        })
    }

    /// A handle that observes.
    pub fn view(&self) -> View {
        View {
            shared: Arc::clone(&self.shared),
            captures: self.captures.clone(),
        }
    }

    /// A handle by which others capture.
    pub fn captures(&self) -> Captures {
        self.captures.clone()
    }

    /// A handle that gives orders.
    pub fn orders(&self) -> Orders {
        self.orders.0.clone()
    }

    /// Carries on until `stop` says so, following the devices; then hands everything back to the kernel.
    pub fn run(mut self, stop: &Receiver<()>) {
        let mut look_at = Instant::now() + RECHECK;
        let mut strangers = StrangerLog::default();
        let mut strangers_at = Instant::now() + STRANGERS;
        loop {
            let patience = look_at.saturating_duration_since(Instant::now()).min(CHECK);
            select! {
                recv(stop) -> _ => break,
                recv(self.events.1) -> event => look_at = self.heard(event, look_at),
                recv(self.orders.1) -> order => look_at = self.obey(order, look_at),
                default(patience) => {}
            }
            if self.has_died() {
                self.end_session("a thread ended by itself");
                look_at = Instant::now() + RETRY;
            }
            if Instant::now() >= look_at {
                look_at = self.follow();
            }
            if Instant::now() >= strangers_at {
                self.tell_of_strangers(&mut strangers);
                strangers_at = Instant::now() + STRANGERS;
            }
        }
        self.end_session("stopped");
    }

    /// Looks at the workers. Whether a thread has ended by itself.
    fn has_died(&self) -> bool {
        let mut state = lock(&self.shared);
        state.session.as_mut().is_some_and(|session| {
            session.watch();
            session.remember();
            !session.is_alive()
        })
    }

    /// What an event asks for: the moment at which to look at the devices again.
    fn heard(&self, event: Result<Event, RecvError>, look_at: Instant) -> Instant {
        let now = Instant::now();
        match event {
            Ok(Event::Topology) => look_at.min(now + SETTLE),
            Ok(Event::LinkGone(ifindex)) if self.has_access_device(ifindex) => {
                // Frames redirected to a device that is gone are lost: first of all no more of them.
                self.end_session(&format!(
                    "the access device with index {ifindex} is gone or down"
                ));
                now + SETTLE
            }
            Ok(Event::Failed(why)) => {
                self.end_session(&format!("the mirror of the kernel's tables failed: {why}"));
                now + RETRY
            }
            // A word about a session that has ended; or none, and the gateway holds a sender, so the channel stays open.
            Ok(Event::LinkGone(_)) | Err(RecvError) => look_at,
        }
    }

    fn tell_of_strangers(&self, log: &mut StrangerLog) {
        if self.config.policy.peer_check != PeerCheck::Log {
            return;
        }
        let seen = lock(&self.shared).session.as_ref().map(Session::strangers);
        if let Some((frames, latest)) = seen
            && let Some(frames) = log.due(frames, Instant::now())
        {
            strangers::tell(frames, latest.as_ref());
        }
    }

    fn has_access_device(&self, ifindex: u32) -> bool {
        lock(&self.shared)
            .session
            .as_ref()
            .is_some_and(|session| session.has_access_device(ifindex))
    }

    /// Looks at the devices and begins another session where the plan asks for one. Returns when to look again without
    /// having been told to: soon as long as there is no session, since then nobody tells.
    fn follow(&mut self) -> Instant {
        let outcome = self.replan();
        let mut state = lock(&self.shared);
        state.trouble = match &outcome {
            Ok(()) => None,
            Err(error) => {
                let words = fault::line(error);
                if state.trouble.as_ref() != Some(&words) {
                    tracing::error!(
                        code = error.fault().code(),
                        error = words,
                        "cannot take over: the kernel carries on; trying again"
                    );
                }
                Some(words)
            }
        };
        let pause = if state.session.is_some() {
            RECHECK
        } else {
            RETRY
        };
        Instant::now() + pause
    }

    fn replan(&mut self) -> Result<(), StartError> {
        let plan = make_plan(&self.config, &mut self.netlink, &mut self.unfit)?;
        let state = lock(&self.shared);
        let session = state.session.as_ref();
        let attached = session.is_none_or(Session::is_attached);
        let running = session.map(|session| session.plan().clone());
        drop(state);
        let same = running
            .as_ref()
            .is_some_and(|running| running.same_session(&plan));
        if same && attached {
            lock(&self.shared).left = plan.left;
            return Ok(());
        }
        self.end_session(if same {
            "a program is not attached any more: its device was made again, or somebody detached it"
        } else {
            "the devices changed"
        });
        let newcomers = running.map_or_else(Vec::new, |running| plan.newcomers(&running));
        match self.begin_session(plan) {
            // What was carried before can be carried on; what came is to blame.
            Err(error) if !newcomers.is_empty() => {
                self.unfit.extend(
                    newcomers
                        .into_iter()
                        .map(|ifindex| (ifindex, fault::line(&error))),
                );
                let plan = make_plan(&self.config, &mut self.netlink, &mut self.unfit)?;
                self.begin_session(plan)
            }
            outcome => outcome,
        }
    }

    fn begin_session(&self, plan: Plan) -> Result<(), StartError> {
        lock(&self.shared).left = plan.left.clone();
        if plan.devices.is_empty() {
            return Ok(());
        }
        log_plan(&plan);
        let state = lock(&self.shared);
        let (drained, stages) = (state.drained, state.stages.clone());
        drop(state);
        let session = Session::start(plan, &self.events.0, &self.captures, drained, stages)?;
        let mut state = lock(&self.shared);
        state.session = Some(session);
        state.takeovers += 1;
        drop(state);
        tracing::info!(drained, "taken over again");
        Ok(())
    }

    fn end_session(&self, why: &str) {
        // Taken out first: `status` must not wait for the drain.
        let session = lock(&self.shared).session.take();
        if let Some(session) = session {
            tracing::info!(why, "handing the traffic back to the kernel");
            session.stop();
        }
    }
}

/// Removes what killed processes left.
fn remove_leftovers() -> Result<(), crate::steer::Error> {
    for name in crate::steer::remove_leftovers()? {
        tracing::info!(name, "removed what a killed vxgate had left");
    }
    Ok(())
}

/// Holds the mount namespace. A service often has one to itself, and when it is killed, the kernel takes the mounts down,
/// waiting for a grace period of RCU, before it drops the links by which frames still go to dead workers
/// (`exit_nsproxy_namespaces` before `exit_task_work`). A descriptor older than the links outlives them: descriptors are
/// released from the highest to the lowest.
fn hold_mounts() -> Option<File> {
    let held = File::open("/proc/self/ns/mnt");
    held.inspect_err(|error| tracing::debug!(%error, "cannot hold the mount namespace; a kill takes some ms longer"))
        .ok()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // A panic while somebody held it leaves nothing half-done that a look could be misled by.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
