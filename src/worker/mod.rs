//! One pinned thread: its ports, its turn, its heartbeat, its rest when idle.
//!
//! A [`Plan`] says what the worker has; [`Worker::spawn`] starts the thread. It takes [`Worker::turn`]s (`turn.rs`) until
//! it is told to stop, sleeps when there is nothing to do (`rest.rs`), and gives everything back when it is joined, so
//! that whoever assembled it closes the sockets in the right order.
//!
//! Nothing is shared between workers and no frame changes worker. What others see of one: its counters, its heartbeat,
//! and which snapshot it looks at. After start it allocates nothing, takes no lock and writes no log.

mod joining;
mod laps;
mod rest;
mod standing;
mod superframes;
mod turn;
mod watch;

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use crate::fault::{Explained, Fault};
use crate::flows::Lookout;
use crate::pipeline::lane::Ways;
use crate::pipeline::{IpIds, Outbox, Verdicts};
use crate::port::{Batch, Port, Umem, now_ns};
use crate::stats::tap::Point;
use crate::stats::{PortCounters, WorkerCounters};
use crate::table::Reader;
use joining::Joining;
use rest::Rest;

pub use standing::{Pinning, Standing};
pub use superframes::{AccessTap, Departure, Superframes};
pub use turn::Moved;

/// All that a worker has. It owns its ports and their memory as long as it runs.
pub struct Plan<P> {
    /// Which worker this is: names the thread (`vxgate-w0`).
    pub number: usize,
    /// The core to stay on; anywhere without one.
    pub core: Option<usize>,
    /// Its nice value (-20 to 19): -20 comes before every thread of ordinary scheduling (`standing.rs` says why).
    pub nice: i32,
    /// The memory of all of its ports' frames.
    pub umem: Umem,
    /// Its queues of the underlay devices; several may belong to one device.
    pub underlays: Vec<Underlay<P>>,
    /// Its access ports, indexed by [`crate::table::SegmentId`].
    pub accesses: Vec<Access<P>>,
    /// Its lane of superframes, if any segment has one.
    pub superframes: Option<Superframes>,
    /// What tells of the flows that pass by, where they may go the direct path.
    pub lookout: Option<Lookout>,
    /// What is known.
    pub reader: Reader,
    /// What it does with its time.
    pub counters: Arc<WorkerCounters>,
    /// Stores the heartbeat (`CLOCK_MONOTONIC` in nanoseconds) where the steering programs read it. Called once a turn,
    /// and so at least every 50 ms.
    pub heartbeat: Box<dyn Fn(u64) + Send>,
    /// Set by whoever wants the worker to stop.
    pub stop: Arc<AtomicBool>,
}

/// One queue of an underlay device.
#[derive(Debug)]
pub struct Underlay<P> {
    /// The device's index.
    pub ifindex: u32,
    /// The queue.
    pub port: P,
    /// What became of the frames that came in here.
    pub counters: Arc<PortCounters>,
}

/// One queue of the access device of a segment.
#[derive(Debug)]
pub struct Access<P> {
    /// The queue.
    pub port: P,
    /// What became of the frames that came in here.
    pub counters: Arc<PortCounters>,
    /// Where its frames go: an index of [`Plan::underlays`].
    pub underlay: usize,
}

/// A plan at work.
pub struct Worker<P> {
    plan: Plan<P>,
    hands: Hands,
    rest: Rest,
    /// Frames given to ports by this worker before it started, as counted by their counters.
    sent_before: u64,
    /// Frames that came back from the ports it sent them through.
    reclaimed: u64,
}

/// What a turn works with, made once.
struct Hands {
    batch: Batch,
    verdicts: Verdicts,
    /// Indexed as the access ports are; all empty between two ports' batches.
    to_accesses: Vec<Outbox>,
    to_underlay: Outbox,
    /// For the TAP of the segment that is being served.
    to_tap: Outbox,
    /// What TCP and UDP the underlays have received, indexed as they are; none without a lane of superframes.
    joining: Vec<Joining>,
    ways: Ways,
    ip_ids: IpIds,
}

/// A worker's thread, seen from outside.
pub struct Running<P> {
    number: usize,
    standing: Standing,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Plan<P>>,
}

/// A worker's thread ended by a panic, and its ports are closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "worker {number} panicked: {message}; its ports are closed, and the kernel forwards in its place"
)]
pub struct Panicked {
    /// Which worker.
    pub number: usize,
    /// What it said.
    pub message: String,
}

impl Explained for Panicked {
    fn fault(&self) -> Fault {
        Fault::WorkerPanicked
    }
}

impl<P: Port> Worker<P> {
    /// Takes up a plan, and fills the fill rings: steer frames here only now, and none meets an empty ring. All that a
    /// worker allocates it allocates here.
    ///
    /// # Errors
    /// When an access port or an access TAP is to send through a port that the plan does not have, or there are more access
    /// ports than [`crate::table::SegmentId`] has numbers.
    pub fn new(plan: Plan<P>) -> io::Result<Self> {
        let underlays = plan.underlays.len();
        if let Some((segment, access)) = plan
            .accesses
            .iter()
            .enumerate()
            .find(|(_, access)| access.underlay >= underlays)
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "worker {}: the access port of segment {segment} sends through underlay port {}, but there are {underlays}",
                    plan.number, access.underlay
                ),
            ));
        }
        if plan.accesses.len() > usize::from(u16::MAX) + 1 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "worker {}: {} access ports, more than there are segment numbers",
                    plan.number,
                    plan.accesses.len()
                ),
            ));
        }
        if let Some(superframes) = &plan.superframes
            && superframes.accesses().any(|tap| match tap.departure {
                Departure::Whole(wire) => wire >= superframes.wires.len(),
                Departure::Cut(underlay) => underlay >= underlays,
            })
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "worker {}: superframes are to leave by a port that it does not have",
                    plan.number
                ),
            ));
        }
        let hands = Hands {
            batch: Batch::new(),
            verdicts: Verdicts::new(),
            to_accesses: plan.accesses.iter().map(to_access).collect(),
            to_underlay: Outbox::new(),
            to_tap: Outbox::new(),
            joining: std::iter::repeat_with(Joining::new)
                .take(plan.superframes.as_ref().map_or(0, |_| underlays))
                .collect(),
            ways: Ways::new(),
            // An odd multiplier spreads the workers' starting points over all 65,536.
            ip_ids: IpIds::new((plan.number as u16).wrapping_mul(40_503)),
        };
        let underlay_fds = plan
            .underlays
            .iter()
            .map(|underlay| underlay.port.poll_fd());
        let access_fds = plan.accesses.iter().map(|access| access.port.poll_fd());
        let tap_fds = plan.superframes.iter().flat_map(Superframes::poll_fds);
        let fds = underlay_fds.chain(access_fds).flatten().chain(tap_fds);
        let rest = Rest::new(fds, now_ns());
        let mut worker = Self {
            plan,
            hands,
            rest,
            sent_before: 0,
            reclaimed: 0,
        };
        worker.sent_before = worker.sent();
        worker.fill();
        Ok(worker)
    }

    /// Starts a thread that takes turns until [`Plan::stop`] is set.
    ///
    /// # Errors
    /// As [`Worker::new`], and when the system has no thread for it.
    pub fn spawn(plan: Plan<P>) -> io::Result<Running<P>>
    where
        P: Send + 'static,
    {
        let mut worker = Self::new(plan)?;
        let (number, core, nice) = (worker.plan.number, worker.plan.core, worker.plan.nice);
        let stop = Arc::clone(&worker.plan.stop);
        let (told, tell) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name(format!("vxgate-w{number}"))
            .spawn(move || {
                // Nobody listens any more only if the spawning thread is gone.
                let _ = told.send(Standing::take(core, nice));
                worker.run();
                worker.plan
            })?;
        let standing = tell
            .recv()
            .map_err(|_| io::Error::other(format!("worker {number} ended before it began")))?;
        Ok(Running {
            number,
            standing,
            stop,
            thread,
        })
    }

    /// Takes turns until told to stop, and then until nothing is in flight.
    pub fn run(&mut self) {
        while !self.plan.stop.load(Ordering::Relaxed) {
            let now_ns = self.begin_turn();
            let moved = self.turn();
            self.end_turn(moved);
            self.rest(now_ns, moved);
        }
        self.drain();
    }

    /// What it has: for whoever plays kernel and wire around a worker that does not run in a thread.
    pub fn plan_mut(&mut self) -> &mut Plan<P> {
        &mut self.plan
    }

    /// Gives the ports and their memory back.
    pub fn into_plan(self) -> Plan<P> {
        self.plan
    }

    /// Reads the clock, once a turn, and tells that this worker lives.
    #[inline]
    fn begin_turn(&mut self) -> u64 {
        let now_ns = match &mut self.plan.lookout {
            Some(lookout) => lookout.begin_turn(now_ns),
            None => now_ns(),
        };
        (self.plan.heartbeat)(now_ns);
        self.plan.counters.last_turn_ns.set(now_ns);
        self.rest.account(now_ns, &self.plan.counters);
        now_ns
    }

    #[inline]
    fn end_turn(&mut self, moved: Moved) {
        self.plan.counters.turns.add(1);
        self.plan.counters.busy_turns.add(u64::from(moved.any()));
        self.rest.end_turn(moved);
    }

    fn fill(&mut self) {
        let Plan {
            umem,
            underlays,
            accesses,
            superframes,
            ..
        } = &mut self.plan;
        for underlay in &mut *underlays {
            underlay.port.refill(umem);
        }
        for access in &mut *accesses {
            access.port.refill(umem);
        }
        if let Some(superframes) = superframes {
            superframes.recycle(umem);
        }
        // Until now the fill rings were empty, and that says nothing of how they are used.
        for underlay in underlays {
            underlay.port.take_usage();
        }
        for access in accesses {
            access.port.take_usage();
        }
    }

    /// Frames given to ports since the counters were made.
    fn sent(&self) -> u64 {
        let underlays = self
            .plan
            .underlays
            .iter()
            .map(|underlay| &underlay.counters);
        let accesses = self.plan.accesses.iter().map(|access| &access.counters);
        let taps = self.plan.superframes.iter();
        let taps = taps.flat_map(Superframes::accesses);
        underlays
            .chain(accesses)
            .chain(taps.map(|tap| &tap.counters))
            .map(|counters| {
                counters.forwarded.get()
                    + counters.flood_copies.get()
                    + counters.segments_sent.get()
            })
            .sum()
    }

    /// When the first of the frames that wait for others of their flow have waited long enough.
    #[inline]
    fn due_ns(&self) -> Option<u64> {
        self.hands.joining.iter().filter_map(Joining::due_ns).min()
    }

    /// Frames given to ports that have not come back from the kernel.
    fn in_flight(&self) -> u64 {
        self.sent()
            .wrapping_sub(self.sent_before)
            .saturating_sub(self.reclaimed)
    }
}

impl<P> Running<P> {
    /// Which worker.
    pub fn number(&self) -> usize {
        self.number
    }

    /// What the scheduler granted it.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Whether it still runs. It ends when it is told to, or by a panic: [`Running::join`] tells which.
    pub fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Tells it to stop, and returns at once. A sleeping worker notices within 25 ms.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for its end, and takes back what it was given.
    ///
    /// # Errors
    /// When it panicked. Its ports went with it.
    pub fn join(self) -> Result<Plan<P>, Panicked> {
        self.thread.join().map_err(|payload| Panicked {
            number: self.number,
            message: message(payload.as_ref()),
        })
    }
}

/// An outbox for an access port.
fn to_access<P>(access: &Access<P>) -> Outbox {
    let mut outbox = Outbox::new();
    outbox.leads_to(Point::AccessTx, access.counters.tap.port());
    outbox
}

/// What a panic said.
fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

impl<P> fmt::Debug for Plan<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("number", &self.number)
            .field("core", &self.core)
            .field("underlays", &self.underlays.len())
            .field("accesses", &self.accesses.len())
            .finish_non_exhaustive()
    }
}

impl<P> fmt::Debug for Worker<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Worker").field(&self.plan).finish()
    }
}

impl<P> fmt::Debug for Running<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("number", &self.number)
            .field("standing", &self.standing)
            .finish_non_exhaustive()
    }
}
