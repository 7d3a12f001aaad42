//! The page of a port: an underlay device, or the access side of a vxlan device.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lately::Lately;
use super::socket::SocketBook;
use crate::control::Found;
use crate::gateway::observe::{OffenderState, PortState, QueueState};
use crate::gateway::plan::Nic;
use crate::port::RxDrops;
use crate::stats::{DropReason, OffenderRecord, PassReason, PortCounters};
use crate::steer::{AccessPair, SteerCounters, XdpMode};
use crate::wire::MacAddr;

/// Frames that the two rings of a socket can hold between XDP's count and the worker's: `in_flight` is believed up to
/// this many a socket, and the veth's own ring of 256.
const RING_SLACK: i64 = 4096 + 256;

/// Whether the frames of a port are to be encapsulated or decapsulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// An underlay device: decapsulation.
    Underlay,
    /// The access side of a vxlan device: encapsulation.
    Access,
}

/// One port: an underlay device with all its queues, or the access side of a vxlan device.
pub struct PortBook {
    side: Side,
    pub name: String,
    pub ifindex: u32,
    /// That of a vxlan device.
    pub vni: Option<u32>,
    /// The device with the sockets: the underlay device itself, or the access device's worker side.
    pub socket_ifindex: u32,
    /// Where its frames reach the kernel: the kernel sides of the access devices above an underlay device.
    kernel_sides: Vec<u32>,
    /// The NUMA node of an underlay device.
    numa_node: Option<u32>,
    pub xdp: Option<(XdpMode, Option<String>)>,
    pub sockets: Vec<SocketBook>,
    /// The TAP of a vxlan device, and what came of the frames of each of its queues.
    pub tap_ifindex: Option<u32>,
    pub taps: Vec<TapBook>,
}

/// One queue of a TAP.
pub struct TapBook {
    pub worker: u32,
    pub counters: Arc<PortCounters>,
}

/// Frames that found no room on their way from a vxlan device to the workers.
#[derive(Debug, Clone, Copy, Default)]
pub struct RingDrops {
    /// In the access pair.
    pub pair: u64,
    /// In the queues of the access TAP.
    pub tap: u64,
}

/// What became of a port's frames behind its steering program, over all of its sockets.
pub struct Fates {
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
    /// That of an underlay device, below the vxlan devices with these access devices.
    pub fn underlay(nic: &Nic, numa_node: Option<u32>, kernel_sides: Vec<u32>) -> Self {
        Self {
            numa_node,
            kernel_sides,
            ..Self::new(Side::Underlay, &nic.name, nic.ifindex, nic.ifindex)
        }
    }

    /// That of a vxlan device.
    pub fn access(found: &Found, pair: &AccessPair) -> Self {
        let device = &found.device;
        let socket_ifindex = pair.worker_side.ifindex;
        Self {
            vni: Some(device.vni.get()),
            ..Self::new(Side::Access, &device.name, device.ifindex, socket_ifindex)
        }
    }

    fn new(side: Side, name: &str, ifindex: u32, socket_ifindex: u32) -> Self {
        Self {
            side,
            name: name.to_owned(),
            ifindex,
            vni: None,
            socket_ifindex,
            kernel_sides: Vec::new(),
            numa_node: None,
            xdp: None,
            sockets: Vec::new(),
            tap_ifindex: None,
            taps: Vec::new(),
        }
    }

    /// Of every socket and every queue of a TAP.
    fn counters(&self) -> impl Iterator<Item = &PortCounters> {
        let sockets = self.sockets.iter().map(|socket| &*socket.counters);
        sockets.chain(self.taps.iter().map(|tap| &*tap.counters))
    }

    /// What a worker has of it.
    pub fn queues(&self, worker: u32, lately: Lately) -> Vec<QueueState> {
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

    /// What became of its frames so far.
    pub fn fates(&self) -> Fates {
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

    /// Its page, by the fates that were read between two looks at what arrived.
    pub fn state(
        &self,
        mut fates: Fates,
        before: &[SteerCounters],
        arrivals: &[SteerCounters],
        ring_drops: RingDrops,
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
    fn lost(&self, arrivals: &[SteerCounters], ring_drops: RingDrops) -> RingDrops {
        match self.side {
            Side::Access => {
                let by_program = of(arrivals, self.ifindex).map_or(0, |counters| counters.lost);
                RingDrops {
                    pair: ring_drops.pair + by_program,
                    ..ring_drops
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

    /// What it is.
    pub fn role(&self) -> &'static str {
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
    pub fn offenders(&self, now_ns: u64) -> Vec<OffenderState> {
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

/// What the programs of one device counted.
fn of(looked: &[SteerCounters], ifindex: u32) -> Option<&SteerCounters> {
    looked.iter().find(|counters| counters.ifindex == ifindex)
}

fn with_total(mut counts: BTreeMap<String, u64>) -> (BTreeMap<String, u64>, u64) {
    let total = counts.values().sum();
    counts.insert("total".to_owned(), total);
    (counts, total)
}
