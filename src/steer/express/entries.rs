//! The arrays of promoted flows, mapped: `struct flow_set`, by which the programs find a flow, and what each has of its own, the ends of
//! those over IPv6, the paths that they share (`paths.rs`), and beside that the ring gear's part (`steer/ring.rs`).
//!
//! The programs read an entry while it is written. So its generation is taken away first and told last, and behind that the set
//! names the flow; what changes of one that stands is told by one word.

use std::ops::Range;

use super::super::Error;
use super::super::copy::{Copy, paths_of};
use super::super::heartbeat::Cells;
use super::super::ring::{RingCounters, RingFlows};
use super::super::words::{pair, unpair};
use super::gear::{Gear, InRing};
use super::paths::{PathId, Paths, source_port};
use crate::flows::{Promoted, Seed, Slot, Verdict, WAYS};
use crate::wire::checksum;

/// `sizeof(struct flow_set)`, `sizeof(struct flow_ends)`.
const SET_STRIDE: usize = 320;
const ENDS_STRIDE: usize = 32;
/// Words of a name in a set, and of what is behind the names: `struct express_flow`.
const NAME: usize = 2;
mod word {
    pub const GENERATION_HASH: usize = 0;
    pub const GOING: usize = 1;
    pub const SHOWN: usize = 2;
    pub const SUPERFRAME_AT_PLACE: usize = 3;
    pub const OUT_FRAMES: usize = 4;
    pub const OUT_BYTES: usize = 5;
    pub const IN_FRAMES: usize = 6;
    pub const IN_BYTES: usize = 7;
    /// Behind the counters.
    pub const END: usize = 8;
}
/// Of the outer headers: where the addresses, the UDP ports, the VXLAN header and the inner Ethernet header are.
const COVERED: [Range<usize>; 3] = [26..34, 34..38, 42..64];
/// The same over IPv6.
const COVERED6: [Range<usize>; 3] = [22..54, 54..58, 62..84];
const UDP: u32 = 17;

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

/// The arrays.
pub struct Entries {
    sets: Cells,
    ends: Cells,
    pub paths: Paths,
    /// By what path the flow in each place goes.
    path_of: Box<[Option<PathId>]>,
    ring: RingFlows,
}

impl Entries {
    /// Maps those of this object, for so many sets.
    pub fn map(object: &Copy, sets: usize) -> Result<Self, Error> {
        let cells = |name, count, stride| {
            Cells::map(object.map(name)?, count, stride).map_err(Error::Heartbeat)
        };
        let places = sets * WAYS;
        Ok(Self {
            sets: cells("flow_sets", sets, SET_STRIDE)?,
            ends: cells("express_ends", places, ENDS_STRIDE)?,
            paths: Paths::map(object, paths_of(places))?,
            path_of: vec![None; places].into(),
            ring: RingFlows::map(object, places)?,
        })
    }

    /// Writes a flow's, of this generation, which goes by this path.
    pub fn begin(
        &mut self,
        flow: &Promoted,
        (path, gear): (PathId, Gear),
        seed: &Seed,
        (generation, now_ns): (u32, u64),
    ) {
        let slot = flow.slot;
        self.put(slot, word::GENERATION_HASH, 0);
        for at in word::OUT_FRAMES..word::END {
            self.put(slot, at, 0);
        }
        // The kernel has just seen the flow.
        let now = ticks(now_ns);
        self.put(slot, word::SHOWN, pair(now, now));
        let place = pair(0, slot.0 as u32);
        self.put(slot, word::SUPERFRAME_AT_PLACE, place);
        for (at, bytes) in flow.key.ends().as_chunks::<8>().0.iter().enumerate() {
            self.ends.store_word(slot.0, at, u64::from_ne_bytes(*bytes));
        }
        self.ring.begin(slot.0);
        self.set_path(flow, (path, gear), now_ns);
        let generation = pair(generation, flow.key.hash(seed));
        self.put(slot, word::GENERATION_HASH, generation);
        let (set, name) = (slot.0 / WAYS, slot.0 % WAYS * NAME);
        let [first, second] = flow.key.words(seed);
        self.sets.store_word(set, name, first);
        self.sets.store_word(set, name + 1, second);
    }

    /// Has one that stands go by this path, and these ways.
    pub fn set_path(&mut self, flow: &Promoted, (path, gear): (PathId, Gear), now_ns: u64) {
        let slot = flow.slot;
        let gear = match gear {
            Gear::Express => GEAR_EXPRESS,
            Gear::Ring => GEAR_RING,
        };
        // struct flow_going: path, source port, sum, ways, gear
        let [a, b] = path.number().to_ne_bytes();
        let [c, d] = source_port(flow);
        let [e, f] = udp_sum(flow).to_ne_bytes();
        let going = u64::from_ne_bytes([a, b, c, d, e, f, flow.ways.bits(), gear]);
        // Of a flow that only came so far, by another device maybe: what comes by this one fits no other path.
        self.ring.set_device(slot.0, flow.departure.device);
        self.put(slot, word::GOING, going);
        if let Some(place) = self.path_of.get_mut(slot.0)
            && let Some(before) = place.replace(path)
        {
            self.paths.give_back(before, now_ns);
        }
    }

    /// Takes a flow out at `now_ns`. What else is in its entry stays for programs that have read its generation.
    pub fn vacate(&mut self, slot: Slot, now_ns: u64) {
        let (set, name) = (slot.0 / WAYS, slot.0 % WAYS * NAME);
        self.sets.store_word(set, name + 1, 0);
        self.sets.store_word(set, name, 0);
        self.put(slot, word::GENERATION_HASH, 0);
        if let Some(path) = self.path_of.get_mut(slot.0).and_then(Option::take) {
            self.paths.give_back(path, now_ns);
        }
    }

    fn put(&self, Slot(slot): Slot, word: usize, number: u64) {
        let at = NAME * WAYS + slot % WAYS * word::END + word;
        self.sets.store_word(slot / WAYS, at, number);
    }

    fn get(&self, Slot(slot): Slot, word: usize) -> u64 {
        let at = NAME * WAYS + slot % WAYS * word::END + word;
        self.sets.load_word(slot / WAYS, at)
    }

    /// The index of a flow's pod's device.
    pub fn pod(&self, slot: Slot) -> u32 {
        self.path(slot).map_or(0, |path| self.paths.pod(path))
    }

    /// Whether frames to its pod go by the ring gear, whatever those from it do: they may have been joined.
    pub fn joined(&self, slot: Slot) -> bool {
        self.path(slot).is_some_and(|path| self.paths.joined(path))
    }

    fn path(&self, Slot(slot): Slot) -> Option<PathId> {
        self.path_of.get(slot).copied().flatten()
    }

    /// What went express of a flow.
    pub fn express(&self, slot: Slot) -> FlowCounters {
        let count = |word| self.get(slot, word);
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
    pub fn in_ring(&self, slot: Slot, highest: Gear, now_ns: u64) -> Option<InRing> {
        let now = ticks(now_ns);
        let lately = |at: u32| now.wrapping_sub(at) <= SUPERFRAMES_FOR_TICKS;
        let word = self.get(slot, word::SUPERFRAME_AT_PLACE);
        let [superframe_at, _] = unpair(word);
        match highest {
            // One that had any stays on their way.
            Gear::Ring if superframe_at != 0 => Some(self.superframes(slot)),
            Gear::Ring => Some(InRing::Highest),
            Gear::Express => lately(superframe_at).then(|| self.superframes(slot)),
        }
    }

    /// Who sends those of this flow's pod.
    fn superframes(&self, slot: Slot) -> InRing {
        if self
            .path(slot)
            .is_some_and(|path| self.paths.as_kernel(path))
        {
            InRing::Superframes
        } else {
            InRing::SuperframesByWorkers
        }
    }

    /// How it is doing.
    pub fn look(&self, slot: Slot) -> Verdict {
        let [generation, _] = unpair(self.get(slot, word::GENERATION_HASH));
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

/// `ticks` of `bpf/direct.h`.
const fn ticks(now_ns: u64) -> u32 {
    (now_ns >> TICK_SHIFT) as u32
}

/// What the outer UDP checksum of each frame starts from.
fn udp_sum(flow: &Promoted) -> u16 {
    let covered = if flow.departure.is_over_ipv6() {
        COVERED6
    } else {
        COVERED
    };
    let headers = covered.into_iter().map(|range| {
        let bytes = flow.departure.headers.get(range);
        bytes.map_or(0, checksum::sum)
    });
    let headers: u32 = headers.sum();
    checksum::fold(headers + UDP + flow.key.packet_sum())
}
