//! The arrays of promoted flows, mapped: `struct flow_set`, by which the programs find a flow, `struct express_flow`, what its frames
//! need, and beside that the ring gear's part (`steer/ring.rs`).
//!
//! The programs read an entry while it is written. So its generation is taken away first and told last, and behind that the set
//! names the flow; what changes of one that stands is told by the word with its ways.

use std::ops::Range;

use super::super::Error;
use super::super::copy::Copy;
use super::super::heartbeat::Cells;
use super::super::ring::{RingCounters, RingFlows};
use super::super::words::{lengths, mac_word, pair, unpair};
use super::gear::{Gear, InRing};
use crate::flows::{Promoted, Slot, Verdict, WAYS};
use crate::wire::checksum;

/// `sizeof(struct flow_set)`, `sizeof(struct express_flow)`.
const SET_STRIDE: usize = 64;
const FLOW_STRIDE: usize = 256;
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
    pub const SUPERFRAME_AT: usize = 21;
    pub const PEERS: usize = 22;
    pub const WAYS_PLACE: usize = 23;
    pub const ENDS: usize = 24;
    pub const HEADERS_END: usize = 28;
}
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
/// `TICK_SHIFT` and `SUPERFRAMES_FOR_TICKS` of `bpf/shared.h`.
const TICK_SHIFT: u32 = 20;
const SUPERFRAMES_FOR_TICKS: u32 = 954;

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

/// How a flow's frames may go, by the devices at its ends.
pub struct Manner {
    /// The longest frame from its pod, in bytes.
    pub frame_max: u32,
    /// The longest frame to it.
    pub deliver_max: u32,
    /// Whether its pod's device takes frames from programs on other devices.
    pub by_xdp: bool,
    /// Whether its underlay device takes frames from programs on its pod's.
    pub nic_by_xdp: bool,
    /// The highest gear.
    pub highest: Gear,
}

impl Manner {
    fn gear(&self) -> u8 {
        match self.highest {
            Gear::Express => GEAR_EXPRESS,
            Gear::Ring => GEAR_RING,
        }
    }
}

/// The arrays.
pub struct Entries {
    sets: Cells,
    flows: Cells,
    ring: RingFlows,
}

impl Entries {
    /// Maps those of this object, for so many sets.
    pub fn map(object: &Copy, sets: usize) -> Result<Self, Error> {
        let cells = |name, count, stride| {
            Cells::map(object.map(name)?, count, stride).map_err(Error::Heartbeat)
        };
        Ok(Self {
            sets: cells("flow_sets", sets, SET_STRIDE)?,
            flows: cells("express_flows", sets * WAYS, FLOW_STRIDE)?,
            ring: RingFlows::map(object, sets * WAYS)?,
        })
    }

    /// Writes a flow's, of this generation, whose name is these words.
    pub fn begin(
        &self,
        flow: &Promoted,
        name: [u64; 2],
        manner: &Manner,
        generation: u32,
        now_ns: u64,
    ) {
        let slot = flow.slot.0;
        let put = |word, number| self.flows.store_word(slot, word, number);
        for at in 0..word::GENERATION_POD {
            put(at, 0);
        }
        put(word::GENERATION_POD, 0);
        // The kernel has just seen the flow.
        put(word::SHOWN_OUT, now_ns);
        put(word::SHOWN_IN, now_ns);
        self.write_way_out(flow, manner);
        for (at, bytes) in flow.key.ends().as_chunks::<8>().0.iter().enumerate() {
            put(word::ENDS + at, u64::from_ne_bytes(*bytes));
        }
        // TCP's segments are joined on the NIC's own receive path, before the pod sees them: 4.8 Gbit/s instead of 3.8.
        let by_xdp = u8::from(!flow.key.is_tcp() && manner.by_xdp);
        let gateway_mac = mac_word(flow.pod.gateway_mac, by_xdp, manner.gear());
        put(word::GATEWAY_MAC, gateway_mac);
        let [first, second] = name;
        put(word::KEY, first);
        put(word::KEY + 1, second);
        put(word::SUPERFRAME_AT, 0);
        self.ring.begin(slot, flow.departure.device);
        self.write_ways(flow, manner);
        put(word::GENERATION_POD, pair(generation, flow.pod.pod));
        let (set, way) = (slot / WAYS, slot % WAYS);
        self.sets.store_word(set, 2 * way, first);
        self.sets.store_word(set, 2 * way + 1, second);
    }

    /// Writes the other way of one that stands. What the programs go by for the way that they know stays as it is.
    pub fn add_way(&self, flow: &Promoted, manner: &Manner) {
        self.write_way_out(flow, manner);
        self.write_ways(flow, manner);
    }

    /// How its frames leave, as far as that is known.
    fn write_way_out(&self, flow: &Promoted, manner: &Manner) {
        let departure = &flow.departure;
        let put = |word, number| self.flows.store_word(flow.slot.0, word, number);
        let frame_max = departure.frame_max.min(manner.frame_max);
        put(
            word::NIC_FRAME_MAX,
            pair(departure.nic, lengths(frame_max, manner.deliver_max)),
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
    fn write_ways(&self, flow: &Promoted, manner: &Manner) {
        let as_kernel = u8::from(flow.departure.as_kernel);
        let nic_by_xdp = u8::from(manner.nic_by_xdp);
        let ways = u32::from_ne_bytes([flow.ways.bits(), as_kernel, nic_by_xdp, 0]);
        let slot = flow.slot.0;
        let word = pair(ways, slot as u32);
        self.flows.store_word(slot, word::WAYS_PLACE, word);
    }

    /// Takes a flow out.
    pub fn vacate(&self, Slot(slot): Slot) {
        let (set, way) = (slot / WAYS, slot % WAYS);
        self.sets.store_word(set, 2 * way + 1, 0);
        self.sets.store_word(set, 2 * way, 0);
        self.flows.store_word(slot, word::GENERATION_POD, 0);
    }

    /// The generation that a flow is of, 0 of one that is none, and the index of its pod's device.
    pub fn generation_and_pod(&self, Slot(slot): Slot) -> [u32; 2] {
        unpair(self.flows.load_word(slot, word::GENERATION_POD))
    }

    /// What went express of a flow.
    pub fn express(&self, Slot(slot): Slot) -> FlowCounters {
        let count = |word| self.flows.load_word(slot, word);
        FlowCounters {
            out_frames: count(word::OUT_FRAMES),
            out_bytes: count(word::OUT_BYTES),
            in_frames: count(word::IN_FRAMES),
            in_bytes: count(word::IN_BYTES),
        }
    }

    /// What went of it by the ring gear.
    pub fn ring(&self, Slot(slot): Slot) -> RingCounters {
        self.ring.counters(slot)
    }

    /// What puts it in the ring gear at `now_ns`, where none goes higher than `highest`.
    pub fn in_ring(&self, Slot(slot): Slot, highest: Gear, now_ns: u64) -> Option<InRing> {
        let now = (now_ns >> TICK_SHIFT) as u32;
        let lately = |at: u32| now.wrapping_sub(at) <= SUPERFRAMES_FOR_TICKS;
        let [superframe_at, _] = unpair(self.flows.load_word(slot, word::SUPERFRAME_AT));
        match highest {
            // One that had any stays on their way.
            Gear::Ring if superframe_at != 0 => Some(self.superframes(slot)),
            Gear::Ring => Some(InRing::Highest),
            Gear::Express => lately(superframe_at).then(|| self.superframes(slot)),
        }
    }

    /// Who sends those of this flow's pod.
    fn superframes(&self, slot: usize) -> InRing {
        let [ways, _] = unpair(self.flows.load_word(slot, word::WAYS_PLACE));
        let [_, as_kernel, _, _] = ways.to_ne_bytes();
        if as_kernel == 0 {
            InRing::SuperframesByWorkers
        } else {
            InRing::Superframes
        }
    }

    /// How it is doing.
    pub fn look(&self, slot: Slot) -> Verdict {
        let [generation, _] = self.generation_and_pod(slot);
        if generation == 0 {
            return Verdict::Demoted;
        }
        let (express, ring) = (self.express(slot), self.ring(slot));
        let frames = [
            express.out_frames,
            express.in_frames,
            ring.out_frames,
            ring.in_frames,
        ];
        Verdict::Frames(frames.into_iter().fold(0, u64::wrapping_add))
    }
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
