//! The direct path's two gears: their programs at the pods' devices and at the NICs, and the arrays of promoted flows that they
//! read.
//!
//! `bpf/direct.h` and `bpf/ring.h` say what is in the arrays. They are mapped, so that promoting and demoting a flow, and beginning another
//! generation, take stores and no system call. One thread writes them: whoever owns [`Express`].
//!
//! Its attachments are tcx links, and nothing else: they end with the process.

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;

use libbpf_rs::{MapCore, MapFlags, MapHandle};

use super::copy::{self, Copy, Settings};
use super::heartbeat::Cells;
use super::hooks::{self, Hook, Side};
use super::ring::{RingCounters, RingFlows};
use super::{DirectPlan, Error, attach_error, ethtool};
use crate::flows::{AtPods, FlowKey, Generation, PodSide, Promoted, Seed, Slot, Verdict, WAYS};
use crate::stats::{PeerCounts, PeerId, PeerTally, Tally, UpReason};
use crate::wire::{MacAddr, checksum, ethernet};

const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/direct.bpf.o"));

/// `sizeof(struct flow_set)`, `sizeof(struct express_flow)`, `sizeof(struct direct_state)`.
const SET_STRIDE: usize = 64;
const FLOW_STRIDE: usize = 256;
const STATE_LEN: usize = 56;
/// `enum direct_way`.
pub(super) const WAY_OUT: u32 = 0;
pub(super) const WAY_IN: u32 = 1;
const WAY_DELIVERED: u32 = 2;
pub(super) const WAY_RING_OUT: u32 = 3;
pub(super) const WAY_RING_IN: u32 = 4;
/// Words of `struct direct_state`.
const GENERATION: usize = 0;
const SEED: usize = 1;
const HEARD: usize = 2;
const FOLD: usize = 3;
/// Words of `struct express_flow`.
mod word {
    pub const SHOWN_OUT: usize = 0;
    pub const SHOWN_IN: usize = 1;
    pub const OUT_FRAMES: usize = 2;
    pub const OUT_BYTES: usize = 3;
    pub const IN_FRAMES: usize = 4;
    pub const IN_BYTES: usize = 5;
    /// Behind the counters.
    pub const GENERATION_POD: usize = 6;
    pub const NIC_FRAME_MAX: usize = 7;
    pub const HEADERS: usize = 8;
    pub const POD_MAC: usize = 16;
    pub const GATEWAY_MAC: usize = 17;
    pub const SUMS: usize = 18;
    pub const KEY: usize = 19;
    pub const BULK: usize = 21;
    pub const PEERS: usize = 22;
    pub const WAYS_PLACE: usize = 23;
    pub const ENDS: usize = 24;
    pub const HEADERS_END: usize = 28;
}
/// `sizeof(struct express_peer)`, and its words.
const PEER_STRIDE: usize = 64;
const PEER_RECEIVED: usize = 0;
const PEER_SENT: usize = 3;
/// Of the outer headers: where the IPv4 header, the addresses, the UDP ports, the VXLAN header and the inner Ethernet header are.
const IP: Range<usize> = 14..34;
const COVERED: [Range<usize>; 3] = [26..34, 34..38, 42..64];
/// The same over IPv6, whose header has no sum.
const COVERED6: [Range<usize>; 3] = [22..54, 54..58, 62..84];
/// `HEADERS_LEN`, and what `headers_end` has room for.
const HEADERS_LEN: usize = 64;
const HEADERS_END_LEN: usize = 24;
const UDP: u32 = 17;

/// `CHECKSUM_SENT`, `CHECKSUM_VERIFIED`.
const CHECKSUM_SENT: u8 = 1;
const CHECKSUM_VERIFIED: u8 = 2;
/// `enum direct_gear`.
const GEAR_EXPRESS: u8 = 0;
const GEAR_RING: u8 = 1;
const GEAR_EXPRESS_WHOLE: u8 = 2;
/// `TICK_SHIFT` and `BULK_FOR_TICKS` of `bpf/shared.h`.
const TICK_SHIFT: u32 = 20;
const BULK_FOR_TICKS: u32 = 954;

/// The gears of one session.
pub struct Express {
    pub(super) object: Copy,
    state: Cells,
    sets: Cells,
    flows: Cells,
    ring: RingFlows,
    from_pods: MapHandle,
    to_pods: MapHandle,
    counters: DirectCounters,
    peers: ExpressPeers,
    seed: Seed,
    set_count: usize,
    highest: Gear,
    /// The vxlan devices, by index.
    devices: BTreeMap<u32, Device>,
    pods: BTreeMap<u32, Pod>,
    _nics: Vec<Hook>,
}

/// A pod's device that is looked after.
struct Pod {
    name: String,
    /// Offloads that it had before the programs were attached, and had no more afterwards.
    offloads_lost: Vec<String>,
    _hooks: [Hook; 2],
    /// Takes frames from programs on other devices.
    by_xdp: bool,
    /// In bytes.
    mtu: u32,
}

/// What flows need to know of a vxlan device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Device {
    /// The longest frame that it takes, in bytes.
    pub frame_max: u32,
    /// Whether the workers join segments of TCP for it.
    pub joins: bool,
}

/// How a promoted flow's frames go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gear {
    /// Through the workers.
    Ring,
    /// Past them, where they can.
    Express,
}

/// Why a promoted flow is in the ring gear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InRing {
    /// No flow goes higher.
    Highest,
    /// Its pod sends superframes.
    Superframes,
    /// Its pod is sent bulk TCP.
    Bulk,
}

impl InRing {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Highest => "no flow goes express",
            Self::Superframes => "its pod sends superframes, which the workers take whole",
            Self::Bulk => "its pod is sent bulk TCP, which the workers join to superframes",
        }
    }
}

/// What one way of a gear did, in frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WayCounters {
    /// Forwarded.
    pub forwarded: u64,
    /// Bytes of these, without outer headers.
    pub bytes: u64,
    /// Lost.
    pub lost: u64,
    /// Handed up, by reason.
    pub up: [u64; UpReason::COUNT],
    /// All that came.
    pub received: u64,
}

/// What went express of one flow since it was promoted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FlowCounters {
    /// Frames from the pod.
    pub out_frames: u64,
    /// Their bytes, without outer headers.
    pub out_bytes: u64,
    /// Frames to the pod.
    pub in_frames: u64,
    /// Their bytes.
    pub in_bytes: u64,
}

/// What the programs count of every peer, as the book of peers reads it.
#[derive(Debug, Clone)]
pub struct ExpressPeers {
    cells: Arc<Cells>,
    cpus: usize,
    places: usize,
}

/// A look at the gears' counters from other threads.
#[derive(Debug, Clone)]
pub struct DirectCounters {
    map: Arc<MapHandle>,
}

impl Express {
    /// Loads the programs beside the steering programs of `first`, whose arrays they share and which were planned alike, and attaches
    /// those of the NICs, which express needs.
    pub(super) fn load<'a>(
        first: &Copy,
        workers: u32,
        plan: DirectPlan,
        highest: Gear,
        nics: impl Iterator<Item = (u32, &'a str)>,
        devices: BTreeMap<u32, Device>,
    ) -> Result<Self, Error> {
        let settings = Settings {
            workers,
            flow_sets: plan.sets(),
            peers: plan.peers,
            ..Settings::default()
        };
        let set_count = plan.sets() as usize;
        let object = Copy::load_object(OBJECT, &settings, Some(first))?;
        let cells = |name, count, stride| {
            Cells::map(object.map(name)?, count, stride).map_err(Error::Heartbeat)
        };
        let state = cells("direct_state", 1, STATE_LEN)?;
        let sets = cells("flow_sets", set_count, SET_STRIDE)?;
        let flows = cells("express_flows", set_count * WAYS, FLOW_STRIDE)?;
        let (cpus, places) = (copy::cpus() as usize, plan.peers as usize);
        let peers = ExpressPeers {
            cells: Arc::new(cells("express_peers", cpus * places, PEER_STRIDE)?),
            cpus,
            places,
        };
        let seed = Seed::draw(random);
        state.store_word(0, SEED, seed.hash);
        for (at, word) in seed.fold.into_iter().enumerate() {
            state.store_word(0, FOLD + at, word);
        }
        let deliver = object.program("vxgate_deliver")?;
        let nics = nics.filter(|_| highest == Gear::Express);
        let nics = nics.map(|(ifindex, name)| {
            // What comes to it decapsulated is none of the NIC's for anybody else.
            let attached = hooks::attach_tcx_first(deliver.as_fd(), ifindex, Side::Ingress);
            attached.map_err(|source| attach_error("vxgate_deliver", name, source))
        });
        Ok(Self {
            _nics: nics.collect::<Result<_, _>>()?,
            from_pods: object.map("from_pods")?,
            to_pods: object.map("to_pods")?,
            counters: DirectCounters {
                map: Arc::new(object.map("direct_counts")?),
            },
            peers,
            ring: RingFlows::map(&object, set_count * WAYS)?,
            object,
            state,
            sets,
            flows,
            seed,
            set_count,
            highest,
            devices,
            pods: BTreeMap::new(),
        })
    }

    /// The seed of the flows' hashes.
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// How many sets of flows there are.
    pub fn sets(&self) -> usize {
        self.set_count
    }

    /// A look at the counters.
    pub fn counters(&self) -> DirectCounters {
        self.counters.clone()
    }

    /// What is counted of peers.
    pub fn peers(&self) -> ExpressPeers {
        self.peers.clone()
    }

    /// The pods' devices that programs are attached to, by index.
    pub fn pods(&self) -> impl Iterator<Item = u32> + '_ {
        self.pods.keys().copied()
    }

    /// Attaches the programs to a pod's device on the host's side.
    ///
    /// # Errors
    /// When the kernel refuses. The device may be gone again.
    pub fn attach_pod(&mut self, ifindex: u32, name: &str) -> Result<(), Error> {
        let attach = |program, side| {
            let fd = self.object.program(program)?;
            hooks::attach_tcx(fd.as_fd(), ifindex, side)
                .map_err(|source| attach_error(program, name, source))
        };
        // A device that does not tell has none to lose.
        let mut offloads_lost = ethtool::offloads(name).unwrap_or_default();
        let hooks = [
            attach("vxgate_to_pod", Side::Egress)?,
            attach("vxgate_from_pod", Side::Ingress)?,
        ];
        let kept = ethtool::offloads(name).unwrap_or_default();
        offloads_lost.retain(|offload| !kept.contains(offload));
        let pod = Pod {
            name: name.to_owned(),
            offloads_lost,
            _hooks: hooks,
            by_xdp: false,
            mtu: u32::MAX,
        };
        self.pods.insert(ifindex, pod);
        Ok(())
    }

    /// Says whether a pod's device takes frames from programs on other devices: of flows that are promoted from now on.
    pub fn set_by_xdp(&mut self, ifindex: u32, by_xdp: bool) {
        if let Some(pod) = self.pods.get_mut(&ifindex) {
            pod.by_xdp = by_xdp;
        }
    }

    /// Says how long the packets are that a pod's device takes, in bytes: of flows that are promoted from now on.
    pub fn set_mtu(&mut self, ifindex: u32, mtu: u32) {
        if let Some(pod) = self.pods.get_mut(&ifindex) {
            pod.mtu = mtu;
        }
    }

    /// The highest gear that flows go in.
    pub fn highest(&self) -> Gear {
        self.highest
    }

    /// The pods' devices that are looked after: index, name, whether it takes frames from programs on other devices, and which
    /// offloads it lost when programs were attached to it.
    pub fn attended(&self) -> impl Iterator<Item = (u32, &str, bool, &[String])> {
        let pods = self.pods.iter();
        pods.map(|(ifindex, pod)| {
            let lost = &pod.offloads_lost[..];
            (*ifindex, pod.name.as_str(), pod.by_xdp, lost)
        })
    }

    /// The index of a promoted flow's pod's device.
    pub fn pod_of(&self, Slot(slot): Slot) -> u32 {
        unpair(self.flows.load_word(slot, word::GENERATION_POD))[1]
    }

    /// How many pods' devices take frames from programs on other devices.
    pub fn pods_by_xdp(&self) -> usize {
        self.pods.values().filter(|pod| pod.by_xdp).count()
    }

    /// Lets a pod's device go; one that is gone has taken its programs along.
    pub fn detach_pod(&mut self, ifindex: u32) {
        self.pods.remove(&ifindex);
    }

    /// Begins another generation: no flow is promoted any more, and nothing that was seen counts. One store.
    pub fn begin(&self, generation: u32) {
        self.state.store_word(0, GENERATION, pair(generation, 0));
    }

    /// Says that every change up to `now_ns` (`CLOCK_MONOTONIC`) has been heard. The programs forward nothing when that was too
    /// long ago.
    pub fn heard(&self, now_ns: u64) {
        self.state.store_word(0, HEARD, now_ns);
    }

    /// What was seen of a flow at the pods' devices in this generation.
    pub fn at_pods(&self, key: &FlowKey, generation: u32) -> AtPods {
        let side = |map| {
            let seen = Sighting::read(map, key, &self.seed)?;
            (seen.generation == generation).then_some(seen.side)
        };
        AtPods {
            sender: side(&self.from_pods),
            receiver: side(&self.to_pods),
        }
    }

    /// Lets the programs forward the frames of a flow, of this generation, from `now_ns` (`CLOCK_MONOTONIC`) on.
    pub fn promote(&self, flow: &Promoted, generation: u32, now_ns: u64) {
        let slot = flow.slot.0;
        if flow.more {
            // What the programs go by for the way that they know stays as it is.
            self.write_way_out(flow);
            return self.write_ways(flow);
        }
        let put = |word, number| self.flows.store_word(slot, word, number);
        for at in 0..word::GENERATION_POD {
            put(at, 0);
        }
        put(word::GENERATION_POD, 0);
        // The kernel has just seen the flow.
        put(word::SHOWN_OUT, now_ns);
        put(word::SHOWN_IN, now_ns);
        self.write_way_out(flow);
        for (at, bytes) in flow.key.ends().as_chunks::<8>().0.iter().enumerate() {
            put(word::ENDS + at, u64::from_ne_bytes(*bytes));
        }
        let device = self.devices.get(&flow.departure.device);
        // TCP's segments are joined on the NIC's own receive path, before the pod sees them: 4.8 Gbit/s instead of 3.8.
        let pod = self.pods.get(&flow.pod.pod);
        let by_xdp = u8::from(!flow.key.is_tcp() && pod.is_some_and(|pod| pod.by_xdp));
        let gear = match self.highest {
            Gear::Express if device.is_none_or(|device| device.joins) => GEAR_EXPRESS,
            Gear::Express => GEAR_EXPRESS_WHOLE,
            Gear::Ring => GEAR_RING,
        };
        put(
            word::GATEWAY_MAC,
            mac_word(flow.pod.gateway_mac, by_xdp, gear),
        );
        let [first, second] = flow.key.words(&self.seed);
        put(word::KEY, first);
        put(word::KEY + 1, second);
        put(word::BULK, 0);
        self.ring.begin(slot, flow.departure.device);
        self.write_ways(flow);
        put(word::GENERATION_POD, pair(generation, flow.pod.pod));
        let (set, way) = (slot / WAYS, slot % WAYS);
        self.sets.store_word(set, 2 * way, first);
        self.sets.store_word(set, 2 * way + 1, second);
    }

    /// How its frames leave, as far as that is known.
    fn write_way_out(&self, flow: &Promoted) {
        let departure = &flow.departure;
        let put = |word, number| self.flows.store_word(flow.slot.0, word, number);
        let pod = self.pods.get(&flow.pod.pod);
        let device = self.devices.get(&departure.device);
        let device_max = device.map_or(u32::MAX, |device| device.frame_max);
        let frame_max = departure.frame_max.min(device_max);
        let deliver_max = pod.map_or(u32::MAX, |pod| pod.mtu.saturating_add(ethernet::LEN as u32));
        put(
            word::NIC_FRAME_MAX,
            pair(departure.nic, lengths(frame_max, deliver_max)),
        );
        let (headers, rest) = departure.headers.split_at(HEADERS_LEN);
        let mut end = [0; HEADERS_END_LEN];
        end.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        for (word, bytes) in [(word::HEADERS, headers), (word::HEADERS_END, &end)] {
            for (at, bytes) in bytes.as_chunks::<8>().0.iter().enumerate() {
                put(word + at, u64::from_ne_bytes(*bytes));
            }
        }
        let checksum = u8::from(departure.checksum) * CHECKSUM_SENT
            + u8::from(departure.verify) * CHECKSUM_VERIFIED;
        put(
            word::POD_MAC,
            mac_word(flow.pod.pod_mac, departure.ecn, checksum),
        );
        put(word::SUMS, sums(flow));
        let to = departure.peer;
        let from = flow.arrival.map_or(to, |arrival| arrival.peer);
        put(word::PEERS, pair(from.0.into(), to.0.into()));
    }

    /// Which ways it goes: behind all that a way needs.
    fn write_ways(&self, flow: &Promoted) {
        let ways = u32::from_ne_bytes([flow.ways.bits(), 0, 0, 0]);
        let slot = flow.slot.0;
        let word = pair(ways, slot as u32);
        self.flows.store_word(slot, word::WAYS_PLACE, word);
    }

    /// Takes a flow out of the arrays.
    pub fn vacate(&self, Slot(slot): Slot) {
        let (set, way) = (slot / WAYS, slot % WAYS);
        self.sets.store_word(set, 2 * way + 1, 0);
        self.sets.store_word(set, 2 * way, 0);
        self.flows.store_word(slot, word::GENERATION_POD, 0);
    }

    /// What went of a promoted flow by the ring gear, and why it is there at `now_ns`, if it is.
    pub fn ring(&self, Slot(slot): Slot, now_ns: u64) -> (RingCounters, Option<InRing>) {
        let now = (now_ns >> TICK_SHIFT) as u32;
        let lately = |at: u32| now.wrapping_sub(at) <= BULK_FOR_TICKS;
        let [superframe_at, bulk_at] = unpair(self.flows.load_word(slot, word::BULK));
        let why = if self.highest == Gear::Ring {
            Some(InRing::Highest)
        } else if lately(superframe_at) {
            Some(InRing::Superframes)
        } else {
            lately(bulk_at).then_some(InRing::Bulk)
        };
        (self.ring.counters(slot), why)
    }

    /// What went express of a promoted flow, and the name of its pod's device.
    pub fn flow(&self, Slot(slot): Slot) -> (FlowCounters, Option<&str>) {
        let count = |word| self.flows.load_word(slot, word);
        let [_, pod] = unpair(count(word::GENERATION_POD));
        let counters = FlowCounters {
            out_frames: count(word::OUT_FRAMES),
            out_bytes: count(word::OUT_BYTES),
            in_frames: count(word::IN_FRAMES),
            in_bytes: count(word::IN_BYTES),
        };
        (counters, self.pods.get(&pod).map(|pod| pod.name.as_str()))
    }

    /// How a promoted flow is doing.
    pub fn look(&self, Slot(slot): Slot) -> Verdict {
        let [generation, _] = unpair(self.flows.load_word(slot, word::GENERATION_POD));
        if generation == 0 {
            return Verdict::Demoted;
        }
        let frames = |word| self.flows.load_word(slot, word);
        let by_ring = self.ring.counters(slot);
        let frames = [
            frames(word::OUT_FRAMES),
            frames(word::IN_FRAMES),
            by_ring.out_frames,
            by_ring.in_frames,
        ];
        Verdict::Frames(frames.into_iter().fold(0, u64::wrapping_add))
    }
}

impl Drop for Express {
    /// The program at the NIC may outlive those that take its frames on.
    fn drop(&mut self) {
        self.begin(Generation::NONE);
    }
}

impl DirectCounters {
    /// What went express from pods to the underlay, from the underlay, and to pods; and by the ring gear from pods, and to them.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn read(&self) -> Result<[WayCounters; 5], Error> {
        // In this order: what was delivered by the first look was taken by the second.
        let delivered = self.way(WAY_DELIVERED)?;
        Ok([
            self.way(WAY_OUT)?,
            self.way(WAY_IN)?,
            delivered,
            self.way(WAY_RING_OUT)?,
            self.way(WAY_RING_IN)?,
        ])
    }

    fn way(&self, way: u32) -> Result<WayCounters, Error> {
        let failed = |source| Error::Map {
            what: "the direct path's counters".to_owned(),
            source,
        };
        let by_cpu = self
            .map
            .lookup_percpu(&way.to_ne_bytes(), MapFlags::ANY)
            .map_err(failed)?;
        let mut sum = WayCounters::default();
        for counts in by_cpu.unwrap_or_default() {
            // struct direct_counts: forwarded, bytes, lost, up[], received
            let numbers = counts.as_chunks::<8>().0.iter();
            let mut numbers = numbers.map(|bytes| u64::from_ne_bytes(*bytes));
            sum.forwarded += numbers.next().unwrap_or(0);
            sum.bytes += numbers.next().unwrap_or(0);
            sum.lost += numbers.next().unwrap_or(0);
            for total in &mut sum.up {
                *total += numbers.next().unwrap_or(0);
            }
            sum.received += numbers.next().unwrap_or(0);
        }
        Ok(sum)
    }
}

impl PeerCounts for ExpressPeers {
    fn read(&self, PeerId(place): PeerId) -> PeerTally {
        let mut total = PeerTally::default();
        for cpu in (0..self.cpus).filter(|_| usize::from(place) < self.places) {
            let at = cpu * self.places + usize::from(place);
            let tally = |word| Tally {
                frames: self.cells.load_word(at, word),
                bytes: self.cells.load_word(at, word + 1),
                last_ns: self.cells.load_word(at, word + 2),
            };
            total.received += tally(PEER_RECEIVED);
            total.sent += tally(PEER_SENT);
        }
        total
    }
}

/// `struct sighting`.
#[derive(Debug, PartialEq, Eq)]
struct Sighting {
    generation: u32,
    side: PodSide,
}

impl Sighting {
    /// None when it is of another flow with the same name.
    fn read(map: &MapHandle, key: &FlowKey, seed: &Seed) -> Option<Self> {
        let bytes = map.lookup(&key.bytes(seed), MapFlags::ANY).ok()??;
        let (generation, rest) = bytes.split_first_chunk::<4>()?;
        let (pod, rest) = rest.split_first_chunk::<4>()?;
        let (pod_mac, rest) = rest.split_first_chunk::<6>()?;
        let (gateway_mac, ends) = rest.split_first_chunk::<6>()?;
        ends.starts_with(&key.ends()).then_some(Self {
            generation: u32::from_ne_bytes(*generation),
            side: PodSide {
                pod: u32::from_ne_bytes(*pod),
                pod_mac: MacAddr(*pod_mac),
                gateway_mac: MacAddr(*gateway_mac),
            },
        })
    }
}

/// An Ethernet address and two bytes, one behind the other in memory.
fn mac_word(MacAddr([a, b, c, d, e, f]): MacAddr, g: u8, h: u8) -> u64 {
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

/// Two fields of 32 bits, one behind the other in memory.
pub(super) fn pair(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

/// `frame_max` and `deliver_max`.
fn lengths(frame_max: u32, deliver_max: u32) -> u32 {
    let bytes = |max| u16::try_from(max).unwrap_or(u16::MAX).to_ne_bytes();
    let ([a, b], [c, d]) = (bytes(frame_max), bytes(deliver_max));
    u32::from_ne_bytes([a, b, c, d])
}

fn unpair(word: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    [[a, b, c, d], [e, f, g, h]].map(u32::from_ne_bytes)
}

/// `ip_sum` and `udp_sum`: what the checksums of each frame start from.
fn sums(flow: &Promoted) -> u64 {
    let of = |range: Range<usize>| {
        let headers = &flow.departure.headers;
        headers.get(range).map_or(0, checksum::sum)
    };
    let (ip, covered) = if flow.departure.is_over_ipv6() {
        (0, COVERED6)
    } else {
        (of(IP), COVERED)
    };
    let headers: u32 = covered.into_iter().map(of).sum();
    pair(ip, headers + UDP + flow.key.packet_sum())
}

/// Anything that a sender cannot know.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

const _: () = assert!(
    UpReason::COUNT == 18,
    "enum up_reason of bpf/shared.h has as many"
);

#[cfg(test)]
pub(super) mod tests {
    mod six;

    use etherparse::{Ipv4HeaderSlice, PacketBuilder, UdpHeaderSlice};
    use libbpf_rs::ProgramInput;

    use super::super::copy::COUNTS_UNDERLAY;
    use super::super::copy::tests::{TC_ACT_REDIRECT, TCX_NEXT, loaded_settings, pretend_alive};
    use super::*;
    use crate::flows::{Arrival, Departure, Way, Ways};
    use crate::wire::{Vni, vxlan};

    /// The device that the kernel runs test programs on.
    const LOOPBACK: u32 = 1;
    pub(in super::super) const XDP_PASS: u32 = 2;
    const NIC: MacAddr = MacAddr([4; 6]);
    const FAR_NIC: MacAddr = MacAddr([6; 6]);
    pub(in super::super) const OWN: MacAddr = MacAddr([0x0e, 0, 0, 0, 0, 1]);
    pub(in super::super) const FAR: MacAddr = MacAddr([0x0e, 0, 0, 0, 0, 2]);
    pub(in super::super) const POD: MacAddr = MacAddr([2, 0, 0, 0, 0, 5]);
    pub(in super::super) const GATEWAY: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const NODE: [u8; 4] = [192, 0, 2, 1];
    const FAR_NODE: [u8; 4] = [192, 0, 2, 2];
    const ENDS: [[u8; 4]; 2] = [[10, 244, 0, 5], [10, 244, 1, 7]];
    const GENERATION: u32 = 9;
    const PEERS: u32 = 5;
    const SIDE: PodSide = PodSide {
        pod: LOOPBACK,
        pod_mac: POD,
        gateway_mac: GATEWAY,
    };
    pub(in super::super) const SETS: u32 = 256;
    /// The vxlan device.
    const DEVICE: u32 = 4;
    const OUTER_LEN: usize = 50;
    const HANDOVER_MAGIC: u32 = 0x7678_6731;

    pub(in super::super) struct Loaded {
        pub steering: Copy,
        pub express: Express,
    }

    pub(in super::super) fn gear() -> Loaded {
        loaded(Gear::Express)
    }

    pub(in super::super) fn loaded(highest: Gear) -> Loaded {
        let settings = Settings {
            flow_sets: SETS,
            peers: PEERS,
            device: DEVICE,
            ..loaded_settings()
        };
        let steering = Copy::load(&settings, None).unwrap();
        let local = std::net::IpAddr::from(NODE);
        steering
            .add_segment(local, LOOPBACK, 8472, Vni::new(1).unwrap())
            .unwrap();
        pretend_alive(&steering, u64::MAX);
        let plan = DirectPlan {
            flows: SETS * WAYS as u32 - 3,
            peers: PEERS,
        };
        let (nics, devices) = (std::iter::empty(), BTreeMap::new());
        let express = Express::load(&steering, 1, plan, highest, nics, devices).unwrap();
        assert_eq!(express.sets(), SETS as usize);
        express.begin(GENERATION);
        express.heard(i64::MAX as u64 / 2);
        Loaded { steering, express }
    }

    impl Loaded {
        /// Promotes the flow of this frame.
        pub fn promote(&self, frame: &[u8]) {
            self.promote_at(frame, crate::port::now_ns());
        }

        /// The same, when the kernel was last shown a frame of it at `now_ns`.
        pub fn promote_at(&self, frame: &[u8], now_ns: u64) {
            self.express.promote(&self.flow(frame), GENERATION, now_ns);
        }

        /// The flow of this frame, to be promoted both ways.
        fn flow(&self, frame: &[u8]) -> Promoted {
            let key = FlowKey::of(frame, Way::Out).unwrap();
            self.promoted(key, headers(frame), FAR_NODE.into())
        }

        /// One whose frames leave with these headers, to the far node.
        fn promoted(&self, key: FlowKey, headers: [u8; 84], far: std::net::IpAddr) -> Promoted {
            let set = key.hash(&self.express.seed()) & (SETS - 1);
            Promoted {
                slot: Slot(set as usize * WAYS + 2),
                key,
                departure: Departure {
                    headers,
                    device: DEVICE,
                    nic: LOOPBACK,
                    frame_max: 1464,
                    ecn: 3,
                    checksum: true,
                    verify: false,
                    peer: PeerId(4),
                },
                arrival: Some(Arrival {
                    source: far,
                    device: DEVICE,
                    nic: LOOPBACK,
                    peer: PeerId(3),
                    local: NODE.into(),
                    port: 8472,
                    vni: Vni::new(1).unwrap(),
                    macs: [FAR, OWN],
                    ether_type: if key.local.is_ipv6() { 0x86dd } else { 0x0800 },
                    verify: true,
                }),
                pod: SIDE,
                ways: Ways::Both,
                more: false,
            }
        }

        /// Has the kernel run a program of the gear on a frame of a pod's: what it says, and what became of the frame.
        pub fn send_from_pod(&self, frame: &[u8]) -> (u32, Vec<u8>) {
            run(&self.express.object, "vxgate_from_pod", frame)
        }

        /// Why the frame that is handed up by `act` was.
        pub fn why(&self, way: usize, act: impl FnOnce()) -> UpReason {
            let before = self.express.counters().read().unwrap()[way];
            act();
            let after = self.express.counters().read().unwrap()[way];
            assert_eq!(before.forwarded, after.forwarded);
            assert_eq!(before.received + 1, after.received);
            let moved = UpReason::ALL
                .iter()
                .filter(|why| after.up[**why as usize] != before.up[**why as usize]);
            let moved: Vec<_> = moved.collect();
            assert_eq!(moved.len(), 1, "{moved:?}");
            *moved[0]
        }
    }

    /// Of a flow over IPv4, around a frame of its.
    fn headers(inner: &[u8]) -> [u8; 84] {
        let mut headers = [0; 84];
        headers[..6].copy_from_slice(&FAR_NIC.0);
        headers[6..12].copy_from_slice(&NIC.0);
        headers[12..26].copy_from_slice(&[8, 0, 0x45, 0xb8, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0]);
        headers[26..30].copy_from_slice(&NODE);
        headers[30..34].copy_from_slice(&FAR_NODE);
        headers[34..38].copy_from_slice(&[0xab, 0xcd, 0x21, 0x18]);
        headers[42..50].copy_from_slice(&vxlan::header(Vni::new(1).unwrap()));
        headers[50..62].copy_from_slice(&[FAR.0, OWN.0].concat());
        headers[62..64].copy_from_slice(&inner[12..14]);
        headers
    }

    pub(in super::super) fn run(copy: &Copy, name: &str, frame: &[u8]) -> (u32, Vec<u8>) {
        let mut programs = copy.object.progs_mut();
        let program = programs.find(|program| program.name() == name).unwrap();
        let mut out = vec![0; frame.len() + 256];
        let output = program
            .test_run(ProgramInput {
                data_in: Some(frame),
                data_out: Some(&mut out),
                ..ProgramInput::default()
            })
            .unwrap();
        (output.return_value, output.data.unwrap().to_vec())
    }

    pub(in super::super) fn frame(
        macs: [MacAddr; 2],
        ends: [[u8; 4]; 2],
        ttl: u8,
        tcp: bool,
    ) -> Vec<u8> {
        let ip = PacketBuilder::ethernet2(macs[0].0, macs[1].0).ipv4(ends[0], ends[1], ttl);
        let (mut bytes, payload) = (Vec::new(), [0x5a; 101]);
        if tcp {
            let segment = ip.tcp(1000, 2000, 3, 64).ack(5);
            segment.write(&mut bytes, &payload).unwrap();
        } else {
            ip.udp(1000, 2000).write(&mut bytes, &payload).unwrap();
        }
        bytes
    }

    pub(in super::super) fn of_pod(tcp: bool) -> Vec<u8> {
        frame([POD, GATEWAY], ENDS, 64, tcp)
    }

    /// From the far node, to the same flow's pod: what `promote` swaps the ends of.
    pub(in super::super) fn of_wire(tcp: bool) -> Vec<u8> {
        let mut inner = frame([FAR, OWN], [ENDS[1], ENDS[0]], 63, tcp);
        // The ports, too; their sum stays as it is.
        inner[34..38].copy_from_slice(&[0x07, 0xd0, 0x03, 0xe8]);
        let mut bytes = Vec::new();
        let payload = [&vxlan::header(Vni::new(1).unwrap())[..], &inner].concat();
        PacketBuilder::ethernet2(FAR_NIC.0, NIC.0)
            .ipv4(FAR_NODE, NODE, 64)
            .udp(40000, 8472)
            .write(&mut bytes, &payload)
            .unwrap();
        bytes
    }

    pub(in super::super) fn sealed(frame: &[u8], at: usize) -> bool {
        let header = Ipv4HeaderSlice::from_slice(&frame[at..])
            .unwrap()
            .to_header();
        header.header_checksum == header.calc_header_checksum()
    }

    #[test]
    fn a_pods_frame_leaves_as_an_independent_parser_wants_it() {
        for tcp in [false, true] {
            let gear = gear();
            let sent = of_pod(tcp);
            assert_eq!(gear.send_from_pod(&sent), (TCX_NEXT, sent.clone()));
            gear.promote(&sent);
            let (verdict, out) = gear.send_from_pod(&sent);
            assert_eq!(verdict, TC_ACT_REDIRECT);
            assert_eq!(out.len(), sent.len() + OUTER_LEN);
            let outer = Ipv4HeaderSlice::from_slice(&out[14..]).unwrap();
            assert!(sealed(&out, 14) && sealed(&out, 64));
            assert_eq!(usize::from(outer.total_len()), out.len() - 14);
            assert_eq!((outer.source(), outer.destination()), (NODE, FAR_NODE));
            let udp = UdpHeaderSlice::from_slice(&out[34..]).unwrap();
            let header = udp.to_header();
            let sum = header
                .calc_checksum_ipv4_raw(NODE, FAR_NODE, &out[42..])
                .unwrap();
            assert_eq!(header.checksum, sum);
            assert_eq!(usize::from(header.length), out.len() - 34);
            assert_eq!(
                (out[0..6].to_vec(), out[50..56].to_vec()),
                (FAR_NIC.0.to_vec(), FAR.0.to_vec())
            );
            // All behind the Ethernet header, but for the TTL and the checksum that covers it.
            assert_eq!(out[64..72], sent[14..22]);
            assert_eq!((out[72], &out[76..]), (sent[22] - 1, &sent[26..]));
            // Another packet, another identification.
            let (_, again) = gear.send_from_pod(&sent);
            assert_ne!(again[18..20], out[18..20]);
        }
    }

    #[test]
    fn ecn_is_copied_and_congestion_is_for_the_workers() {
        let gear = gear();
        gear.promote(&of_pod(false));
        for (ecn, express) in [(0, true), (1, true), (2, true), (3, false)] {
            let mut sent = of_pod(false);
            sent[15] = ecn;
            let sum = Ipv4HeaderSlice::from_slice(&sent[14..])
                .unwrap()
                .to_header();
            sent[24..26].copy_from_slice(&sum.calc_header_checksum().to_be_bytes());
            // Not encapsulated, but routed: to the workers.
            let (verdict, out) = gear.send_from_pod(&sent);
            let added = if express { OUTER_LEN } else { 0 };
            assert_eq!((verdict, out.len()), (TC_ACT_REDIRECT, sent.len() + added));
            assert_eq!(out[15], if express { 0xb8 | ecn } else { ecn });
        }
    }

    #[test]
    fn a_frame_from_the_wire_reaches_the_pod_as_routing_would_send_it() {
        for tcp in [false, true] {
            let gear = gear();
            gear.promote(&of_pod(tcp));
            let sent = of_wire(tcp);
            let (verdict, out) = run(&gear.steering, "vxgate_underlay", &sent);
            assert_eq!(verdict, XDP_PASS);
            // In front of it, who it is for; the kernel shows it in a test.
            let (handover, out) = out.split_at(8);
            let expected = pair(HANDOVER_MAGIC, LOOPBACK);
            assert_eq!(handover, expected.to_ne_bytes());
            assert_eq!(out.len(), sent.len() - OUTER_LEN);
            assert_eq!((&out[..6], &out[6..12]), (&POD.0[..], &GATEWAY.0[..]));
            assert!(sealed(out, 14));
            assert_eq!((out[22], &out[26..]), (62, &sent[76..]));
            let counted = gear.steering.counters(COUNTS_UNDERLAY, 0).unwrap();
            assert_eq!((counted.express, counted.steered), (1, 0));
        }
    }

    #[test]
    fn what_is_not_as_all_others_of_the_flow_is_handed_up_unchanged() {
        let gear = gear();
        gear.promote(&of_pod(false));
        let cases: [(usize, u8, UpReason); 9] = [
            (22, 1, UpReason::Ttl),
            (14, 0x46, UpReason::Options),
            (20, 0x20, UpReason::Fragment),
            (23, 1, UpReason::OtherProtocol),
            (12, 0x86, UpReason::OtherProtocol),
            (17, 1, UpReason::Length),
            (5, 9, UpReason::Spoofed),
            (11, 9, UpReason::Spoofed),
            (35, 9, UpReason::NoFlow),
        ];
        for (at, value, why) in cases {
            let mut sent = of_pod(false);
            sent[at] = value;
            let found = gear.why(WAY_OUT as usize, || {
                assert_eq!(gear.send_from_pod(&sent), (TCX_NEXT, sent.clone()));
            });
            assert_eq!(found, why, "{at}: {value}");
        }
        let cases: [(usize, u8, UpReason); 12] = [
            (72, 1, UpReason::Ttl),
            (64, 0x46, UpReason::Options),
            (70, 0x20, UpReason::Fragment),
            (73, 1, UpReason::OtherProtocol),
            (17, 1, UpReason::Length),
            (39, 1, UpReason::Length),
            (29, 77, UpReason::Spoofed), // Another sender; and its checksum is wrong.
            (25, 77, UpReason::Spoofed),
            (55, 77, UpReason::Spoofed),
            (61, 77, UpReason::Spoofed),
            (85, 77, UpReason::NoFlow),
            (79, 77, UpReason::NoFlow),
        ];
        for (at, value, why) in cases {
            let mut sent = of_wire(false);
            sent[at] = value;
            let found = gear.why(WAY_IN as usize, || {
                // No socket is there: the kernel gets it.
                let passed = run(&gear.steering, "vxgate_underlay", &sent);
                assert_eq!(passed, (XDP_PASS, sent.clone()));
            });
            assert_eq!(found, why, "{at}: {value}");
        }
    }

    #[test]
    fn a_segment_that_ends_a_connection_demotes_its_flow_both_ways() {
        for fin in [false, true] {
            let gear = gear();
            gear.promote(&of_pod(true));
            if fin {
                let mut sent = of_pod(true);
                sent[47] |= 1;
                let why = gear.why(WAY_OUT as usize, || drop(gear.send_from_pod(&sent)));
                assert_eq!(why, UpReason::TcpFlags);
            } else {
                gear.express.begin(GENERATION + 1);
            }
            let why = gear.why(WAY_OUT as usize, || drop(gear.send_from_pod(&of_pod(true))));
            assert_eq!(why, UpReason::NoFlow);
            let why = gear.why(WAY_IN as usize, || {
                run(&gear.steering, "vxgate_underlay", &of_wire(true));
            });
            assert_eq!(why, UpReason::NoFlow);
        }
    }

    #[test]
    fn a_flow_that_was_taken_out_is_none_and_nothing_counts_in_no_generation() {
        let gear = gear();
        let key = FlowKey::of(&of_pod(false), Way::Out).unwrap();
        gear.promote(&of_pod(false));
        gear.send_from_pod(&of_pod(false));
        let set = key.hash(&gear.express.seed()) & (SETS - 1);
        let slot = Slot(set as usize * WAYS + 2);
        assert_eq!(gear.express.look(slot), Verdict::Frames(1));
        let (counters, pod) = gear.express.flow(slot);
        let len = of_pod(false).len() as u64;
        assert_eq!(
            (counters.out_frames, counters.out_bytes, pod),
            (1, len, None)
        );
        gear.express.vacate(slot);
        assert_eq!(gear.express.look(slot), Verdict::Demoted);
        let why = gear.why(WAY_OUT as usize, || {
            drop(gear.send_from_pod(&of_pod(false)))
        });
        assert_eq!(why, UpReason::NoFlow);
        gear.express.begin(0);
        let why = gear.why(WAY_OUT as usize, || {
            drop(gear.send_from_pod(&of_pod(false)))
        });
        assert_eq!(why, UpReason::Unsettled);
    }

    #[test]
    fn nothing_is_forwarded_on_the_word_of_one_who_hangs() {
        let gear = gear();
        gear.promote(&of_pod(true));
        assert_eq!(gear.send_from_pod(&of_pod(true)).0, TC_ACT_REDIRECT);
        gear.express.heard(crate::port::now_ns() - 200_000_000);
        let why = gear.why(WAY_OUT as usize, || drop(gear.send_from_pod(&of_pod(true))));
        assert_eq!(why, UpReason::NotAlive);
        let why = gear.why(WAY_IN as usize, || {
            let passed = run(&gear.steering, "vxgate_underlay", &of_wire(true));
            assert_eq!(passed, (XDP_PASS, of_wire(true)));
        });
        assert_eq!(why, UpReason::NotAlive);
        gear.express.heard(crate::port::now_ns());
        assert_eq!(gear.send_from_pod(&of_pod(true)).0, TC_ACT_REDIRECT);
    }

    #[test]
    fn every_frame_that_comes_has_one_fate() {
        let gear = gear();
        gear.promote(&of_pod(true));
        for _ in 0..5 {
            gear.send_from_pod(&of_pod(true));
            gear.send_from_pod(&of_pod(false));
            run(&gear.steering, "vxgate_underlay", &of_wire(true));
            run(&gear.steering, "vxgate_underlay", &of_wire(false));
        }
        let [out, taken, ..] = gear.express.counters().read().unwrap();
        for way in [out, taken] {
            let up: u64 = way.up.iter().sum();
            assert_eq!((way.received, way.forwarded, way.lost, up), (10, 5, 0, 5));
            assert_eq!(way.bytes, 5 * of_pod(true).len() as u64);
        }
        let counted = |place| {
            let PeerTally { received, sent } = gear.express.peers().read(PeerId(place));
            [received, sent].map(|tally| (tally.frames, tally.bytes, tally.last_ns > 0))
        };
        let (bytes, nothing) = (of_pod(true).len() as u64, (0, 0, false));
        assert_eq!(counted(3), [(5, 5 * bytes, true), nothing]);
        let sent_bytes = 5 * (bytes + OUTER_LEN as u64);
        assert_eq!(counted(4), [nothing, (5, sent_bytes, true)]);
        for place in [0, PEERS as u16] {
            assert_eq!(counted(place), [nothing; 2]);
        }
    }

    #[test]
    fn a_flow_that_goes_to_its_pod_only_leaves_by_the_kernel_until_it_goes_both_ways() {
        let gear = gear();
        let whole = gear.flow(&of_pod(true));
        let arrival = whole.arrival.unwrap();
        let to_pod = Promoted {
            departure: arrival.departure(),
            ways: Ways::In,
            ..whole
        };
        gear.express
            .promote(&to_pod, GENERATION, crate::port::now_ns());
        let (verdict, out) = run(&gear.steering, "vxgate_underlay", &of_wire(true));
        assert_eq!((verdict, &out[8..14]), (XDP_PASS, &POD.0[..]));
        // Whoever else sends in its name does not reach the pod so, either.
        for at in [29, 55, 61] {
            let mut forged = of_wire(true);
            forged[at] ^= 1;
            let why = gear.why(WAY_IN as usize, || {
                run(&gear.steering, "vxgate_underlay", &forged);
            });
            assert_eq!(why, UpReason::Spoofed, "{at}");
        }
        let sent = of_pod(true);
        let why = gear.why(WAY_OUT as usize, || {
            assert_eq!(gear.send_from_pod(&sent), (TCX_NEXT, sent.clone()));
        });
        assert_eq!(why, UpReason::NoFlow);
        let seen = gear.express.at_pods(&whole.key, GENERATION);
        assert_eq!((seen.sender, seen.receiver), (Some(SIDE), None));
        let more = Promoted {
            more: true,
            ..whole
        };
        gear.express
            .promote(&more, GENERATION, crate::port::now_ns());
        let (verdict, out) = gear.send_from_pod(&sent);
        assert_eq!(verdict, TC_ACT_REDIRECT);
        assert!(sealed(&out, 14) && sealed(&out, 64));
        run(&gear.steering, "vxgate_underlay", &of_wire(true));
        let (counters, _) = gear.express.flow(whole.slot);
        assert_eq!((counters.out_frames, counters.in_frames), (1, 2));
    }

    #[test]
    fn the_pods_side_is_known_as_it_was_seen_each_way() {
        let gear = gear();
        let sent = of_pod(false);
        let key = FlowKey::of(&sent, Way::Out).unwrap();
        let back = {
            let mut back = frame([GATEWAY, POD], [ENDS[1], ENDS[0]], 62, false);
            back[34..38].copy_from_slice(&[0x07, 0xd0, 0x03, 0xe8]);
            back
        };
        gear.send_from_pod(&sent);
        assert_eq!(gear.express.at_pods(&key, GENERATION).agreed(), None);
        assert_eq!(
            run(&gear.express.object, "vxgate_to_pod", &back).0,
            TCX_NEXT
        );
        let seen = gear.express.at_pods(&key, GENERATION);
        assert_eq!(seen.agreed(), Some(SIDE));
        let nothing = AtPods::default();
        assert_eq!(gear.express.at_pods(&key, GENERATION + 1), nothing);
        let mut forged = sent;
        forged[11] ^= 1;
        gear.express.begin(GENERATION + 1);
        gear.send_from_pod(&forged);
        run(&gear.express.object, "vxgate_to_pod", &back);
        let seen = gear.express.at_pods(&key, GENERATION + 1);
        assert!(seen.sender.is_some() && seen.receiver.is_some());
        assert_eq!(seen.agreed(), None);
    }
}
