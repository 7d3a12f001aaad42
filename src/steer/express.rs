//! The express gear: its programs at the pods' devices and at the NICs, and the arrays of promoted flows that they read.
//!
//! `bpf/direct.h` says what is in the arrays. They are mapped, so that promoting and demoting a flow, and beginning another
//! generation, take stores and no system call. One thread writes them: whoever owns [`Express`].
//!
//! Its attachments are tcx links, and nothing else: they end with the process.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;

use libbpf_rs::{MapCore, MapFlags, MapHandle};

use super::copy::{Copy, Settings};
use super::heartbeat::Cells;
use super::hooks::{self, Hook, Side};
use super::{Error, attach_error};
use crate::flows::{FlowKey, PodSide, Promoted, Slot, Verdict, WAYS};
use crate::stats::UpReason;
use crate::wire::{MacAddr, checksum};

/// Sets of promoted flows: 65,536 flows, 14 MB.
pub(super) const SETS: u32 = 16_384;
const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/direct.bpf.o"));

/// `sizeof(struct flow_set)`, `sizeof(struct express_flow)`, `sizeof(struct direct_state)`.
const SET_STRIDE: usize = 64;
const FLOW_STRIDE: usize = 192;
const STATE_LEN: usize = 16;
/// `enum direct_way`.
const WAY_OUT: u32 = 0;
const WAY_IN: u32 = 1;
const WAY_DELIVERED: u32 = 2;
/// Words of `struct express_flow`.
mod word {
    pub const SHOWN_OUT: usize = 0;
    pub const SHOWN_IN: usize = 1;
    pub const OUT_FRAMES: usize = 2;
    pub const IN_FRAMES: usize = 4;
    /// Behind the counters.
    pub const GENERATION_POD: usize = 6;
    pub const NIC_FRAME_MAX: usize = 7;
    pub const HEADERS: usize = 8;
    pub const POD_MAC: usize = 16;
    pub const GATEWAY_MAC: usize = 17;
    pub const SUMS: usize = 18;
    pub const KEY: usize = 19;
    pub const SUPERFRAME: usize = 21;
}
/// Of the outer headers: where the IPv4 header, the addresses, the UDP ports, the VXLAN header and the inner Ethernet header are.
const IP: std::ops::Range<usize> = 14..34;
const ADDRESSES: std::ops::Range<usize> = 26..34;
const PORTS: std::ops::Range<usize> = 34..38;
const VXLAN_AND_INNER: std::ops::Range<usize> = 42..64;
const UDP: u32 = 17;

/// The gear of one session.
pub struct Express {
    object: Copy,
    state: Cells,
    sets: Cells,
    flows: Cells,
    from_pods: MapHandle,
    to_pods: MapHandle,
    counters: DirectCounters,
    seed: u64,
    pods: BTreeMap<u32, [Hook; 2]>,
    _nics: Vec<Hook>,
}

/// What one way of the gear did, in frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WayCounters {
    /// Forwarded.
    pub forwarded: u64,
    /// Bytes of these, without outer headers.
    pub bytes: u64,
    /// Handed up, by reason.
    pub up: [u64; UpReason::COUNT],
}

/// A look at the gear's counters from other threads.
#[derive(Debug, Clone)]
pub struct DirectCounters {
    map: Arc<MapHandle>,
}

impl Express {
    /// Loads the programs beside the steering programs of `first`, whose arrays they share, and attaches those of the NICs.
    pub(super) fn load<'a>(
        first: &Copy,
        workers: u32,
        nics: impl Iterator<Item = (u32, &'a str)>,
    ) -> Result<Self, Error> {
        let settings = Settings {
            workers,
            flow_sets: SETS,
            ..Settings::default()
        };
        let object = Copy::load_object(OBJECT, &settings, Some(first))?;
        let cells = |name, count, stride| {
            Cells::map(object.map(name)?, count, stride).map_err(Error::Heartbeat)
        };
        let state = cells("direct_state", 1, STATE_LEN)?;
        let sets = cells("flow_sets", SETS as usize, SET_STRIDE)?;
        let flows = cells("express_flows", SETS as usize * WAYS, FLOW_STRIDE)?;
        let seed = seed();
        state.store_word(0, 1, seed);
        let deliver = object.program("vxgate_deliver")?;
        let nics = nics.map(|(ifindex, name)| {
            let attached = hooks::attach_tcx(deliver.as_fd(), ifindex, Side::Ingress);
            attached.map_err(|source| attach_error("vxgate_deliver", name, source))
        });
        Ok(Self {
            _nics: nics.collect::<Result<_, _>>()?,
            from_pods: object.map("from_pods")?,
            to_pods: object.map("to_pods")?,
            counters: DirectCounters {
                map: Arc::new(object.map("direct_counts")?),
            },
            object,
            state,
            sets,
            flows,
            seed,
            pods: BTreeMap::new(),
        })
    }

    /// The seed of the flows' hashes.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How many sets of flows there are.
    pub fn sets(&self) -> usize {
        SETS as usize
    }

    /// A look at the counters.
    pub fn counters(&self) -> DirectCounters {
        self.counters.clone()
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
        let hooks = [
            attach("vxgate_to_pod", Side::Egress)?,
            attach("vxgate_from_pod", Side::Ingress)?,
        ];
        self.pods.insert(ifindex, hooks);
        Ok(())
    }

    /// Lets a pod's device go; one that is gone has taken its programs along.
    pub fn detach_pod(&mut self, ifindex: u32) {
        self.pods.remove(&ifindex);
    }

    /// Begins another generation: no flow is promoted any more, and nothing that was seen counts. One store.
    pub fn begin(&self, generation: u32) {
        self.state.store_word(0, 0, pair(generation, 0));
    }

    /// The pod's side of a flow, when it was seen both ways in this generation, by one device, with the same addresses.
    pub fn pod_side(&self, key: &FlowKey, generation: u32) -> Option<PodSide> {
        let from = Sighting::read(&self.from_pods, key)?;
        let to = Sighting::read(&self.to_pods, key)?;
        (from == to && from.generation == generation).then_some(from.side)
    }

    /// Lets the programs forward the frames of a flow, of this generation, from `now_ns` (`CLOCK_MONOTONIC`) on.
    pub fn promote(&self, flow: &Promoted, generation: u32, now_ns: u64) {
        let (slot, departure) = (flow.slot.0, &flow.departure);
        let put = |word, number| self.flows.store_word(slot, word, number);
        for at in 0..word::GENERATION_POD {
            put(at, 0);
        }
        put(word::GENERATION_POD, 0);
        // The kernel has just seen the flow.
        put(word::SHOWN_OUT, now_ns);
        put(word::SHOWN_IN, now_ns);
        put(word::NIC_FRAME_MAX, pair(departure.nic, departure.frame_max));
        let (words, _) = departure.headers.as_chunks::<8>();
        for (at, bytes) in words.iter().enumerate() {
            put(word::HEADERS + at, u64::from_ne_bytes(*bytes));
        }
        let mac = |MacAddr([a, b, c, d, e, f]): MacAddr, g, h| {
            u64::from_ne_bytes([a, b, c, d, e, f, g, h])
        };
        let with_checksum = u8::from(departure.checksum);
        put(word::POD_MAC, mac(flow.pod.pod_mac, departure.ecn, with_checksum));
        put(word::GATEWAY_MAC, mac(flow.pod.gateway_mac, 0, 0));
        put(word::SUMS, sums(flow));
        let [first, second] = flow.key.words();
        put(word::KEY, first);
        put(word::KEY + 1, second);
        put(word::SUPERFRAME, 0);
        put(word::GENERATION_POD, pair(generation, flow.pod.pod));
        let (set, way) = (slot / WAYS, slot % WAYS);
        self.sets.store_word(set, 2 * way, first);
        self.sets.store_word(set, 2 * way + 1, second);
    }

    /// Takes a flow out of the arrays.
    pub fn vacate(&self, Slot(slot): Slot) {
        let (set, way) = (slot / WAYS, slot % WAYS);
        self.sets.store_word(set, 2 * way + 1, 0);
        self.sets.store_word(set, 2 * way, 0);
        self.flows.store_word(slot, word::GENERATION_POD, 0);
    }

    /// How a promoted flow is doing.
    pub fn look(&self, Slot(slot): Slot) -> Verdict {
        let [generation, _] = unpair(self.flows.load_word(slot, word::GENERATION_POD));
        if generation == 0 {
            return Verdict::Demoted;
        }
        let frames = |word| self.flows.load_word(slot, word);
        Verdict::Frames(frames(word::OUT_FRAMES).wrapping_add(frames(word::IN_FRAMES)))
    }
}

impl DirectCounters {
    /// What went from pods to the underlay, from the underlay, and to pods.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn read(&self) -> Result<[WayCounters; 3], Error> {
        Ok([
            self.way(WAY_OUT)?,
            self.way(WAY_IN)?,
            self.way(WAY_DELIVERED)?,
        ])
    }

    fn way(&self, way: u32) -> Result<WayCounters, Error> {
        let failed = |source| Error::Map {
            what: "the express gear's counters".to_owned(),
            source,
        };
        let by_cpu = self
            .map
            .lookup_percpu(&way.to_ne_bytes(), MapFlags::ANY)
            .map_err(failed)?;
        let mut sum = WayCounters::default();
        for counts in by_cpu.unwrap_or_default() {
            // struct direct_counts: forwarded, bytes, up[]
            let numbers = counts.as_chunks::<8>().0.iter();
            let mut numbers = numbers.map(|bytes| u64::from_ne_bytes(*bytes));
            sum.forwarded += numbers.next().unwrap_or(0);
            sum.bytes += numbers.next().unwrap_or(0);
            for (total, number) in sum.up.iter_mut().zip(numbers) {
                *total += number;
            }
        }
        Ok(sum)
    }
}

/// `struct sighting`.
#[derive(Debug, PartialEq, Eq)]
struct Sighting {
    generation: u32,
    side: PodSide,
}

impl Sighting {
    fn read(map: &MapHandle, key: &FlowKey) -> Option<Self> {
        let bytes = map.lookup(&key.bytes(), MapFlags::ANY).ok()??;
        let (generation, rest) = bytes.split_first_chunk::<4>()?;
        let (pod, rest) = rest.split_first_chunk::<4>()?;
        let (pod_mac, rest) = rest.split_first_chunk::<6>()?;
        let gateway_mac = rest.first_chunk::<6>()?;
        Some(Self {
            generation: u32::from_ne_bytes(*generation),
            side: PodSide {
                pod: u32::from_ne_bytes(*pod),
                pod_mac: MacAddr(*pod_mac),
                gateway_mac: MacAddr(*gateway_mac),
            },
        })
    }
}

/// Two fields of 32 bits, one behind the other in memory.
fn pair(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

fn unpair(word: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    [[a, b, c, d], [e, f, g, h]].map(u32::from_ne_bytes)
}

/// `ip_sum` and `udp_sum`: what the checksums of each frame start from.
fn sums(flow: &Promoted) -> u64 {
    let of = |range: std::ops::Range<usize>| {
        let headers = &flow.departure.headers;
        headers.get(range).map_or(0, checksum::sum)
    };
    // The inner packet adds up to the complement of its pseudo-header, of which only the length is the frame's.
    let inner = !checksum::fold(flow.key.pseudo_sum());
    let udp = of(ADDRESSES) + UDP + of(PORTS) + of(VXLAN_AND_INNER) + u32::from(inner);
    pair(of(IP), udp)
}

/// Anything that a sender cannot know.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

const _: () = assert!(
    UpReason::COUNT == 15,
    "enum up_reason of bpf/shared.h has as many"
);
