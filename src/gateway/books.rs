//! Where the counts of a session lie, and how they are added up.
//!
//! A frame is counted where it entered. What arrived at an underlay device is what its XDP program saw; what arrived at
//! the access side of a vxlan device is what its tcx program left to the kernel, what the access device lost on the way,
//! what its XDP program saw, and what went to its TAP, where a superframe is one frame. Each of these frames has its fate
//! in one counter, or sits in a ring.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::captures::CapturedPort;
use super::numa::Machine;
use super::observe::{OffenderState, PortState, QueueState, RingState, StagesState, WorkerState};
use super::plan::Plan;
use crate::port::{RxDrops, StatisticsHandle, XskPort};
use crate::stats::tap::{PortTap, Tap};
use crate::stats::{
    DropReason, FlightBook, Mark, OffenderRecord, PassReason, PeerBook, PortCounters, Stage,
    StageSwitch, WorkerCounters,
};
use crate::steer::{AccessPair, SteerCounters, XdpMode};
use crate::wire::MacAddr;
use crate::worker;

/// Frames that the two rings of a socket can hold between XDP's count and the worker's: `in_flight` is believed up to
/// this many a socket, and the veth's own ring of 256.
const RING_SLACK: i64 = 4096 + 256;

/// A heartbeat older than this makes the steering programs pass frames to the kernel.
pub(super) const HEARTBEAT_STALE_MS: u64 = 200;

/// Whether the frames of a port are to be encapsulated or decapsulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// An underlay device: decapsulation.
    Underlay,
    /// The access side of a vxlan device: encapsulation.
    Access,
}

/// One port: an underlay device with all its queues, or the access side of a vxlan device.
pub(super) struct PortBook {
    side: Side,
    name: String,
    ifindex: u32,
    /// That of a vxlan device.
    vni: Option<u32>,
    /// The device with the sockets: the underlay device itself, or the access device's worker side.
    socket_ifindex: u32,
    /// Where its frames reach the kernel: the kernel sides of the access devices above an underlay device.
    kernel_sides: Vec<u32>,
    /// The NUMA node of an underlay device.
    numa_node: Option<u32>,
    xdp: Option<(XdpMode, Option<String>)>,
    sockets: Vec<SocketBook>,
    /// The TAP of a vxlan device, and what came of the frames of each of its queues.
    tap_ifindex: Option<u32>,
    taps: Vec<TapBook>,
}

/// One queue of a TAP.
struct TapBook {
    worker: u32,
    counters: Arc<PortCounters>,
}

/// One socket of a port.
pub(super) struct SocketBook {
    pub worker: u32,
    pub queue: u32,
    pub counters: Arc<PortCounters>,
    /// Entries of each of its rings.
    pub ring_len: u32,
    pub statistics: StatisticsHandle,
    pub zero_copy: bool,
    /// Whether its device finishes outer checksums.
    pub finishes_checksums: bool,
    pub why_not_zero_copy: Option<String>,
}

/// Frames that found no room on their way from a vxlan device to the workers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RingDrops {
    /// In the access pair.
    pub pair: u64,
    /// In the queues of the access TAP.
    pub tap: u64,
}

/// One worker.
pub(super) struct WorkerBook {
    pub number: u32,
    pub core: Option<u32>,
    /// The NUMA node of that core.
    pub core_node: Option<u32>,
    /// The NUMA node of its frames.
    pub memory_node: Option<u32>,
    /// The nice value that was asked for.
    pub nice: i32,
    /// Why it has another one.
    pub nice_refused: Option<String>,
    /// Frames of its memory.
    pub frames: u32,
    pub counters: Arc<WorkerCounters>,
}

/// A time to look back at: `CLOCK_MONOTONIC` in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lately {
    pub from_ns: u64,
    pub now_ns: u64,
}

/// The books of a session.
#[derive(Default)]
pub(super) struct Books {
    ports: Vec<PortBook>,
    pub workers: Vec<WorkerBook>,
    /// Where the workers count each peer.
    pub peers: Arc<PeerBook>,
    /// Where they keep the last frames that died.
    pub flight: FlightBook,
    /// Where whoever captures sees frames, a worker each.
    pub taps: Vec<Arc<Tap>>,
    /// Whether the workers measure the stages of their turns.
    pub stages: StageSwitch,
}

impl Books {
    /// Opens the books: a page for every port of the plan.
    pub fn new(plan: &Plan, accesses: &[AccessPair], stages: StageSwitch) -> Self {
        let kernel_sides = |nic: u32| {
            let above = plan
                .devices
                .iter()
                .zip(accesses)
                .filter(|(found, _)| found.device.underlay == Some(nic));
            above.map(|(_, pair)| pair.kernel_side.ifindex).collect()
        };
        let machine = Machine::this();
        let underlays = plan.nics.iter().map(|nic| PortBook {
            numa_node: machine.node_of_device(&nic.name, nic.ifindex),
            side: Side::Underlay,
            name: nic.name.clone(),
            ifindex: nic.ifindex,
            vni: None,
            socket_ifindex: nic.ifindex,
            kernel_sides: kernel_sides(nic.ifindex),
            xdp: None,
            sockets: Vec::new(),
            tap_ifindex: None,
            taps: Vec::new(),
        });
        let accesses = plan
            .devices
            .iter()
            .zip(accesses)
            .map(|(found, pair)| PortBook {
                side: Side::Access,
                name: found.device.name.clone(),
                ifindex: found.device.ifindex,
                vni: Some(found.device.vni.get()),
                socket_ifindex: pair.worker_side.ifindex,
                kernel_sides: Vec::new(),
                numa_node: None,
                xdp: None,
                sockets: Vec::new(),
                tap_ifindex: None,
                taps: Vec::new(),
            });
        Self {
            ports: underlays.chain(accesses).collect(),
            workers: Vec::new(),
            peers: Arc::new(PeerBook::new(plan.workers as usize, plan.devices.len())),
            flight: FlightBook::new(plan.workers as usize),
            taps: (0..plan.workers).map(tap).collect(),
            stages,
        }
    }

    /// The tap of a worker's port: an underlay device, or a vxlan device.
    pub fn tap(&self, worker: u32, ifindex: u32) -> PortTap {
        let tap = self.taps.get(worker as usize);
        tap.map_or_else(PortTap::default, |tap| {
            PortTap::new(Arc::clone(tap), ifindex)
        })
    }

    /// The ports, for whoever captures.
    pub fn captured_ports(&self) -> Vec<CapturedPort> {
        let port = |port: &PortBook| CapturedPort {
            ifindex: port.ifindex,
            name: port.name.clone(),
            role: port.role().to_owned(),
            vni: port.vni,
        };
        self.ports.iter().map(port).collect()
    }

    /// Notes a socket on a device.
    pub fn note_socket(&mut self, socket_ifindex: u32, socket: SocketBook) {
        if let Some(port) = self
            .ports
            .iter_mut()
            .find(|port| port.socket_ifindex == socket_ifindex)
        {
            port.sockets.push(socket);
        }
    }

    /// Notes a queue of a vxlan device's TAP.
    pub fn note_tap(
        &mut self,
        (ifindex, tap_ifindex): (u32, u32),
        worker: u32,
        counters: &Arc<PortCounters>,
    ) {
        if let Some(port) = self.ports.iter_mut().find(|port| port.ifindex == ifindex) {
            port.tap_ifindex = Some(tap_ifindex);
            let counters = Arc::clone(counters);
            port.taps.push(TapBook { worker, counters });
        }
    }

    /// Notes how XDP is attached to a device, and why not better.
    pub fn note_mode(&mut self, socket_ifindex: u32, mode: XdpMode, why: Option<String>) {
        if let Some(port) = self
            .ports
            .iter_mut()
            .find(|port| port.socket_ifindex == socket_ifindex)
        {
            port.xdp = Some((mode, why));
        }
    }

    /// Gives back the handles on the sockets, so that they can be closed.
    pub fn close(&mut self) {
        self.ports.clear();
    }

    /// Adds up every port. `ring_drops` tells what the access device of the vxlan device with this index lost.
    ///
    /// Arrivals are read before the fates and after them: what has a fate must have arrived by the second look, and what
    /// had arrived by the first look and has no fate must be in a ring.
    pub fn ports(
        &self,
        mut arrivals: impl FnMut() -> Vec<SteerCounters>,
        ring_drops: impl Fn(u32) -> RingDrops,
    ) -> Vec<PortState> {
        let before = arrivals();
        let fates: Vec<Fates> = self.ports.iter().map(PortBook::fates).collect();
        let after = arrivals();
        let pages = self.ports.iter().zip(fates);
        pages
            .map(|(port, fates)| port.state(fates, &before, &after, &ring_drops))
            .collect()
    }

    /// What a worker has of the ports.
    pub fn queues(&self, worker: u32, lately: Lately) -> Vec<QueueState> {
        let ports = self.ports.iter();
        ports.flat_map(|port| port.queues(worker, lately)).collect()
    }

    /// The port whose frames come in by the device with this index.
    pub fn port_name(&self, ifindex: u32) -> Option<&str> {
        let mut ports = self.ports.iter();
        let port = ports
            .find(|port| port.socket_ifindex == ifindex || port.tap_ifindex == Some(ifindex))?;
        Some(&port.name)
    }

    /// Frames of strangers that were delivered, over all ports.
    pub fn strangers_delivered(&self) -> u64 {
        let sockets = self.ports.iter().flat_map(|port| &port.sockets);
        sockets
            .map(|socket| socket.counters.strangers_delivered.get())
            .sum()
    }

    /// The senders that the peer check found fault with, of all ports, the latest first; at `now_ns` (`CLOCK_MONOTONIC`).
    pub fn offenders(&self, now_ns: u64) -> Vec<OffenderState> {
        let mut all: Vec<_> = self
            .ports
            .iter()
            .flat_map(|port| port.offenders(now_ns))
            .collect();
        all.sort_by_key(|offender| offender.age_ms);
        all
    }
}

fn tap(worker: u32) -> Arc<Tap> {
    // There are no more workers than that.
    Arc::new(Tap::new(u16::try_from(worker).unwrap_or(u16::MAX)))
}

/// What became of a port's frames behind its steering program, over all of its sockets.
struct Fates {
    forwarded: u64,
    forwarded_bytes: u64,
    flood_copies: u64,
    copied_bytes: u64,
    flood_copies_lost: u64,
    checksums_completed: u64,
    superframes: u64,
    segments: u64,
    segments_sent: u64,
    segments_whole: u64,
    segments_lost: u64,
    strangers_delivered: u64,
    drops: BTreeMap<String, u64>,
}

impl PortBook {
    /// Of every socket and every queue of a TAP.
    fn counters(&self) -> impl Iterator<Item = &PortCounters> {
        let sockets = self.sockets.iter().map(|socket| &*socket.counters);
        sockets.chain(self.taps.iter().map(|tap| &*tap.counters))
    }

    /// What a worker has of it.
    fn queues(&self, worker: u32, lately: Lately) -> Vec<QueueState> {
        let state = |queue, kind: &str, counters: &PortCounters, kernel: RxDrops| {
            let dropped = DropReason::ALL.iter().map(|reason| counters.drops(*reason));
            QueueState {
                port: self.name.clone(),
                direction: match self.side {
                    Side::Underlay => "rx".to_owned(),
                    Side::Access => "tx".to_owned(),
                },
                queue,
                kind: kind.to_owned(),
                received: counters.received.get(),
                forwarded: counters.forwarded.get(),
                dropped: dropped.sum(),
                dropped_by_kernel: kernel.ring_full + kernel.fill_empty + kernel.invalid,
                batches: counters.batches.read().to_vec(),
                // Among those received are frames that a TAP gave and that could not be taken.
                batched: (counters.received.get())
                    .saturating_sub(counters.drops(DropReason::RxInvalid)),
                calls: counters.calls.get(),
                rings: Vec::new(),
            }
        };
        let sockets = self.sockets.iter().filter(|socket| socket.worker == worker);
        let sockets = sockets.map(|socket| {
            let kernel = socket.statistics.rx_drops().unwrap_or_default();
            QueueState {
                rings: socket.rings(lately),
                ..state(socket.queue, "socket", &socket.counters, kernel)
            }
        });
        let taps = self.taps.iter().filter(|tap| tap.worker == worker);
        // A TAP has a queue for each worker.
        let taps = taps.map(|tap| state(worker, "tap", &tap.counters, RxDrops::default()));
        sockets.chain(taps).collect()
    }

    fn fates(&self) -> Fates {
        let by_kernel: Vec<RxDrops> = self
            .sockets
            .iter()
            .filter_map(|socket| socket.statistics.rx_drops().ok())
            .collect();
        let sum = |field: &dyn Fn(&PortCounters) -> u64| self.counters().map(field).sum::<u64>();
        let kernel = |field: fn(&RxDrops) -> u64| by_kernel.iter().map(field).sum::<u64>();
        let drops = DropReason::ALL.iter().map(|reason| {
            let by_workers = sum(&|counters| counters.drops(*reason));
            let by_kernel = match reason {
                DropReason::RxRingFull => kernel(|drops| drops.ring_full),
                DropReason::FillRingEmpty => kernel(|drops| drops.fill_empty),
                DropReason::RxInvalid => kernel(|drops| drops.invalid),
                _ => 0,
            };
            (reason.label().to_owned(), by_workers + by_kernel)
        });
        Fates {
            forwarded: sum(&|c| c.forwarded.get()),
            forwarded_bytes: sum(&|c| c.forwarded_bytes.get()),
            flood_copies: sum(&|c| c.flood_copies.get()),
            copied_bytes: sum(&|c| c.copied_bytes.get()),
            flood_copies_lost: sum(&|c| c.flood_copies_lost.get()),
            checksums_completed: sum(&|c| c.checksums_completed.get()),
            superframes: sum(&|c| c.superframes.get()),
            segments: sum(&|c| c.segments.get()),
            segments_sent: sum(&|c| c.segments_sent.get()),
            segments_whole: sum(&|c| c.segments_whole.get()),
            segments_lost: sum(&|c| c.segments_lost.get()),
            strangers_delivered: sum(&|c| c.strangers_delivered.get()),
            drops: drops.collect(),
        }
    }

    fn state(
        &self,
        mut fates: Fates,
        before: &[SteerCounters],
        arrivals: &[SteerCounters],
        ring_drops: &impl Fn(u32) -> RingDrops,
    ) -> PortState {
        let steered = |looked: &[SteerCounters]| {
            let places = [Some(self.socket_ifindex), self.tap_ifindex];
            let places = places.into_iter().flatten();
            places
                .filter_map(|ifindex| of(looked, ifindex))
                .map(|counters| counters.steered)
                .sum::<u64>()
        };
        let passed = PassReason::ALL.iter().map(|reason| {
            let counters = of(arrivals, self.ifindex);
            let count = counters.map_or(0, |counters| counters.passed[*reason as usize]);
            (reason.label().to_owned(), count)
        });
        let (passed, passed_total) = with_total(passed.collect());
        let lost = self.lost(arrivals, ring_drops);
        fates.drops.insert(
            DropReason::AccessRingFull.label().to_owned(),
            lost.pair + lost.tap,
        );
        let stale = self.stale(arrivals);
        fates
            .drops
            .insert(DropReason::WorkerStale.label().to_owned(), stale);
        let counters = of(arrivals, self.ifindex).copied().unwrap_or_default();
        let (express, express_bytes) = (counters.express, counters.express_bytes);
        let forwarded = fates.forwarded.saturating_sub(stale) + express;
        let (drops, drops_total) = with_total(fates.drops);
        // What a TAP loses was counted when it was sent there; what the access pair loses does not reach its other end.
        let received = steered(arrivals) + express + passed_total + lost.pair;
        let in_flight =
            received.cast_signed() - (forwarded + passed_total + drops_total).cast_signed();
        // What came between the two looks may still be anywhere.
        let between = steered(arrivals)
            .saturating_sub(steered(before))
            .cast_signed();
        let queues = self.sockets.len() + self.taps.len();
        let sockets = i64::try_from(queues).unwrap_or(i64::MAX);
        let settled = in_flight - between <= sockets.saturating_mul(RING_SLACK);
        PortState {
            name: self.name.clone(),
            ifindex: self.ifindex,
            role: self.role().to_owned(),
            xdp_mode: self.xdp_mode().to_owned(),
            zero_copy: !self.sockets.is_empty()
                && self.sockets.iter().all(|socket| socket.zero_copy),
            why_not_better: self.why_not_better(),
            queues: u32::try_from(self.sockets.len()).unwrap_or(u32::MAX),
            outer_checksums: self.outer_checksums(),
            numa_node: self.numa_node,
            received,
            forwarded,
            express,
            flood_copies: fates.flood_copies,
            copied_bytes: fates.copied_bytes,
            flood_copies_lost: fates.flood_copies_lost,
            forwarded_bytes: fates.forwarded_bytes + express_bytes,
            checksums_completed: fates.checksums_completed,
            superframes: fates.superframes,
            segments: fates.segments,
            segments_sent: fates.segments_sent,
            segments_whole: fates.segments_whole,
            segments_lost: fates.segments_lost,
            superframes_leave: None,
            why_cut: None,
            strangers_delivered: fates.strangers_delivered,
            passed,
            drops,
            in_flight,
            balance_ok: in_flight >= 0 && settled,
        }
    }

    /// Frames lost at the vxlan device's program or between it and the access device's: arrived, and dead at once.
    fn lost(
        &self,
        arrivals: &[SteerCounters],
        ring_drops: &impl Fn(u32) -> RingDrops,
    ) -> RingDrops {
        match self.side {
            Side::Access => {
                let by_program = of(arrivals, self.ifindex).map_or(0, |counters| counters.lost);
                let by_rings = ring_drops(self.ifindex);
                RingDrops {
                    pair: by_rings.pair + by_program,
                    ..by_rings
                }
            }
            Side::Underlay => RingDrops::default(),
        }
    }

    /// Frames lost on the way from a worker to the kernel; a worker had counted them as forwarded.
    fn stale(&self, arrivals: &[SteerCounters]) -> u64 {
        let sides = self.kernel_sides.iter();
        let counters = sides.filter_map(|side| of(arrivals, *side));
        counters.map(|counters| counters.lost).sum()
    }

    fn role(&self) -> &'static str {
        match self.side {
            Side::Underlay => "underlay",
            Side::Access => "access",
        }
    }

    fn xdp_mode(&self) -> &'static str {
        match &self.xdp {
            Some((XdpMode::Native, _)) => "native",
            Some((XdpMode::Generic, _)) => "generic",
            None => "none",
        }
    }

    /// As the workers have them on record; one who was heard on several queues once, with all of its frames.
    fn offenders(&self, now_ns: u64) -> Vec<OffenderState> {
        let sockets = self.sockets.iter();
        let records = sockets.flat_map(|socket| socket.counters.offenders.read());
        let state = |record: OffenderRecord| OffenderState {
            source: record.offender.source,
            vni: record.offender.vni,
            inner_source: record
                .offender
                .inner_source
                .map(|mac| MacAddr(mac).to_string()),
            reason: record.offender.reason.label().to_owned(),
            delivered: record.offender.delivered,
            port: self.name.clone(),
            frames: record.frames,
            age_ms: now_ns.saturating_sub(record.last_ns) / 1_000_000,
        };
        OffenderRecord::merged(records)
            .into_iter()
            .map(state)
            .collect()
    }

    /// Who finishes the outer checksums of what leaves here.
    fn outer_checksums(&self) -> Option<String> {
        let by_device = self.sockets.iter().all(|socket| socket.finishes_checksums);
        let by = if by_device { "device" } else { "worker" };
        (self.side == Side::Underlay && !self.sockets.is_empty()).then(|| by.to_owned())
    }

    fn why_not_better(&self) -> Option<String> {
        let generic = self.xdp.as_ref().and_then(|(_, why)| why.clone());
        let copied = self
            .sockets
            .iter()
            .find_map(|socket| socket.why_not_zero_copy.clone());
        generic.or(copied)
    }
}

impl SocketBook {
    fn rings(&self, lately: Lately) -> Vec<RingState> {
        let marks = &self.counters.rings;
        let state = |ring: &str, (mark, lately): (u32, u32)| RingState {
            ring: ring.to_owned(),
            size: self.ring_len,
            mark,
            lately,
        };
        let missing = lately.highest(&marks.fill_missing);
        vec![
            state("rx", lately.highest(&marks.rx)),
            state("tx", lately.highest(&marks.tx)),
            state("fill", without(self.ring_len, missing)),
        ]
    }
}

impl Lately {
    /// A mark since the takeover, and of this time.
    fn highest(self, mark: &Mark) -> (u32, u32) {
        (mark.ever(), mark.between(self.from_ns, self.now_ns))
    }
}

/// What is left of so many when the most that was missing is taken away, each by itself.
fn without(all: u32, (ever, lately): (u32, u32)) -> (u32, u32) {
    (all.saturating_sub(ever), all.saturating_sub(lately))
}

/// What the programs of one device counted.
fn of(looked: &[SteerCounters], ifindex: u32) -> Option<&SteerCounters> {
    looked.iter().find(|counters| counters.ifindex == ifindex)
}

fn with_total(mut counts: BTreeMap<String, u64>) -> (BTreeMap<String, u64>, u64) {
    let total = counts.values().sum();
    counts.insert("total".to_owned(), total);
    (counts, total)
}

impl WorkerBook {
    /// Milliseconds since its last heartbeat, at `now_ns` (`CLOCK_MONOTONIC`).
    pub fn heartbeat_age_ms(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.counters.last_turn_ns.get()) / 1_000_000
    }

    fn stages(&self) -> StagesState {
        let stages = &self.counters.stages;
        let spent = Stage::ALL.iter();
        let spent = spent.map(|stage| (stage.label().to_owned(), stages.spent_ns(*stage)));
        StagesState {
            turns: stages.turns.get(),
            frames: stages.frames.get(),
            readings: stages.readings.get(),
            ns: spent.collect(),
        }
    }

    /// The worker's state at the end of a time to look back at. Its queues are not among it.
    pub fn state(&self, lately: Lately, running: &worker::Running<XskPort>) -> WorkerState {
        let used = lately.highest(&self.counters.frames_used);
        let (pool_mark, pool_lately) = without(self.frames, used);
        let (awake_ns, asleep_ns) = (self.counters.awake_ns.get(), self.counters.asleep_ns.get());
        let (awake, asleep) = (awake_ns as f64, asleep_ns as f64);
        let age_ms = self.heartbeat_age_ms(lately.now_ns);
        WorkerState {
            worker: self.number,
            core: self.core,
            numa_node: self.core_node,
            memory_node: self.memory_node,
            nice: running.standing().nice(),
            nice_refused: self.nice_refused.clone(),
            busy_share: if awake + asleep > 0.0 {
                awake / (awake + asleep)
            } else {
                0.0
            },
            turns: self.counters.turns.get(),
            busy_turns: self.counters.busy_turns.get(),
            sleeps: self.counters.sleeps.get(),
            woken: self.counters.woken.get(),
            spins: self.counters.spins.get(),
            spins_found: self.counters.spins_found.get(),
            calls: self.counters.calls.get(),
            awake_ns,
            working_ns: self.counters.working_ns.get(),
            asleep_ns,
            frames: self.frames,
            pool_mark,
            pool_lately,
            stages: self.stages(),
            queues: Vec::new(),
            heartbeat_age_ms: age_ms,
            alive: running.is_alive() && age_ms <= HEARTBEAT_STALE_MS,
        }
    }
}
