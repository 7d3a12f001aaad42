//! The direct path's two gears: their programs at the pods' devices and at the NICs, and the arrays of promoted flows that they
//! read.
//!
//! `bpf/direct.h` and `bpf/ring.h` say what is in the arrays. They are mapped, so that promoting and demoting a flow, and beginning another
//! generation, take stores and no system call. One thread writes them: whoever owns [`Express`].
//!
//! Its attachments are links, of tcx and of XDP: they end with the process.

mod counters;
mod entries;
mod gear;
mod paths;
mod peers;
mod pods;
mod sending;
mod sightings;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;

pub use counters::{DirectCounters, WayCounters};
#[cfg(test)]
pub(super) use counters::{WAY_IN, WAY_OUT, WAY_RING_IN, WAY_RING_OUT};
pub use entries::FlowCounters;
pub use gear::{Gear, InRing};
pub use peers::ExpressPeers;
pub use pods::Attended;
pub use sending::PROGRAMS_AT_PODS;

use super::copy::{Copy, Settings};
use super::hooks::{self, Hook, Side};
use super::ring::RingCounters;
use super::{DirectPlan, Error, attach_error};
use crate::flows::{AtPods, FlowKey, Generation, Promoted, Seed, Slot, Verdict};
use crate::wire::ethernet;
use entries::Entries;
use paths::Manner;
pub use paths::PathId;
use pods::Pod;
use sightings::Sightings;
use state::State;

const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/direct.bpf.o"));

/// The gears of one session.
pub struct Express {
    pub(super) object: Copy,
    state: State,
    entries: Entries,
    sightings: Sightings,
    counters: DirectCounters,
    peers: ExpressPeers,
    seed: Seed,
    set_count: usize,
    highest: Gear,
    /// The longest frame that each vxlan device takes, in bytes, by its index.
    frame_max: BTreeMap<u32, u32>,
    pods: BTreeMap<u32, Pod>,
    _nics: Vec<Hook>,
    /// The underlay devices, by index, and whether each takes frames from XDP at pods' devices.
    nics_by_xdp: BTreeMap<u32, bool>,
    /// Those of them that our program runs on behind GRO.
    nics_joined: BTreeSet<u32>,
    /// Whether there is to be XDP at pods' devices.
    pod_xdp: bool,
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
        frame_max: BTreeMap<u32, u32>,
    ) -> Result<Self, Error> {
        let pod_xdp = plan.pod_xdp && highest == Gear::Express;
        let settings = Settings {
            workers,
            flow_sets: plan.sets(),
            peers: plan.peers,
            pod_xdp,
            ..Settings::default()
        };
        let set_count = plan.sets() as usize;
        let object = Copy::load_object(OBJECT, &settings, Some(first))?;
        let (state, seed) = State::map(&object)?;
        let (entries, sightings) = (Entries::map(&object, set_count)?, Sightings::of(&object)?);
        let deliver = object.program("vxgate_deliver")?;
        let nics: Vec<_> = nics.filter(|_| highest == Gear::Express).collect();
        let nics_by_xdp = nics.iter().map(|(ifindex, _)| (*ifindex, false));
        let nics_by_xdp = nics_by_xdp.collect();
        let nics = nics.into_iter().map(|(ifindex, name)| {
            // What comes to it decapsulated is none of the NIC's for anybody else.
            let attached = hooks::attach_tcx_first(deliver.as_fd(), ifindex, Side::Ingress);
            attached.map_err(|source| attach_error("vxgate_deliver", name, source))
        });
        Ok(Self {
            _nics: nics.collect::<Result<_, _>>()?,
            nics_by_xdp,
            nics_joined: BTreeSet::new(),
            pod_xdp,
            entries,
            sightings,
            counters: DirectCounters::of(&object)?,
            peers: ExpressPeers::map(&object, plan.peers as usize)?,
            object,
            state,
            seed,
            set_count,
            highest,
            frame_max,
            pods: BTreeMap::new(),
        })
    }

    /// Looks how our programs run on the underlay devices, once they do.
    pub fn look_at_nics(&mut self) {
        let nics = self.nics_by_xdp.keys().copied();
        let generic = |ifindex: &u32| {
            hooks::xdp_program(*ifindex).is_some_and(|(_, mode)| mode == "xdpgeneric")
        };
        self.nics_joined = nics.filter(generic).collect();
    }

    /// The seed of the flows' hashes.
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// How many sets of flows there are.
    pub fn sets(&self) -> usize {
        self.set_count
    }

    /// The highest gear that flows go in.
    pub fn highest(&self) -> Gear {
        self.highest
    }

    /// A look at the counters.
    pub fn counters(&self) -> DirectCounters {
        self.counters.clone()
    }

    /// What is counted of peers.
    pub fn peers(&self) -> ExpressPeers {
        self.peers.clone()
    }

    /// Begins another generation: no flow is promoted any more, and nothing that was seen counts. One store.
    pub fn begin(&self, generation: u32) {
        self.state.begin(generation);
    }

    /// Says that every change up to `now_ns` (`CLOCK_MONOTONIC`) has been heard. The programs forward nothing when that was too
    /// long ago.
    pub fn heard(&self, now_ns: u64) {
        self.state.heard(now_ns);
    }

    /// What was seen of a flow at the pods' devices in this generation.
    pub fn at_pods(&self, key: &FlowKey, generation: u32) -> AtPods {
        self.sightings.at_pods(key, &self.seed, generation)
    }

    /// The same where one way alone counts for nothing: then nobody looks for the other.
    pub fn seen_both_ways(&self, key: &FlowKey, generation: u32) -> AtPods {
        self.sightings.both_ways(key, &self.seed, generation)
    }

    /// The path that a flow's frames would go by, which is its from `now_ns` (`CLOCK_MONOTONIC`) on, until it is promoted or the
    /// path given back; none when all that there are are others'.
    pub fn take_path(&mut self, flow: &Promoted, now_ns: u64) -> Option<PathId> {
        let manner = self.manner(flow);
        self.entries.paths.take(flow, &manner, now_ns)
    }

    /// Gives back the path of a flow that is not promoted.
    pub fn give_back(&mut self, path: PathId, now_ns: u64) {
        self.entries.paths.give_back(path, now_ns);
    }

    /// Lets the programs forward the frames of a flow, of this generation, by the path that was taken for it, from `now_ns` on.
    pub fn promote(&mut self, flow: &Promoted, path: PathId, generation: u32, now_ns: u64) {
        let by = (path, self.highest);
        if flow.more {
            return self.entries.set_path(flow, by, now_ns);
        }
        let since = (generation, now_ns);
        self.entries.begin(flow, by, &self.seed, since);
    }

    fn manner(&self, flow: &Promoted) -> Manner {
        let pod = self.pods.get(&flow.pod.pod);
        let device_max = self.frame_max.get(&flow.departure.device);
        let device_max = device_max.copied().unwrap_or(u32::MAX);
        let frame = |packet: Option<u32>| {
            packet.map_or(u32::MAX, |max| max.saturating_add(ethernet::LEN as u32))
        };
        let [to_remote, to_pod] = flow.packet_max.map(frame);
        Manner {
            frame_max: device_max.min(to_remote),
            deliver_max: frame(pod.map(|pod| pod.mtu)).min(to_pod),
            by_xdp: pod.is_some_and(|pod| pod.by_xdp),
            nic_by_xdp: self.pod_xdp && self.nics_by_xdp.get(&flow.departure.nic) == Some(&true),
            joined: self.nics_joined.contains(&flow.departure.nic),
        }
    }

    /// Takes a flow out of the arrays at `now_ns`.
    pub fn vacate(&mut self, slot: Slot, now_ns: u64) {
        self.entries.vacate(slot, now_ns);
    }

    /// How a promoted flow is doing.
    pub fn look(&self, slot: Slot) -> Verdict {
        self.entries.look(slot)
    }

    /// The index of a promoted flow's pod's device.
    pub fn pod_of(&self, slot: Slot) -> u32 {
        self.entries.pod(slot)
    }

    /// What went express of a promoted flow, and the name of its pod's device.
    pub fn flow(&self, slot: Slot) -> (FlowCounters, Option<&str>) {
        let pod = self.pods.get(&self.pod_of(slot));
        (self.entries.express(slot), pod.map(|pod| pod.name.as_str()))
    }

    /// Whether frames to a promoted flow's pod go by the ring gear for what GRO does in front of our program, whatever those from
    /// it do.
    pub fn joined(&self, slot: Slot) -> bool {
        self.entries.joined(slot)
    }

    /// What went of a promoted flow by the ring gear, and why it is there at `now_ns`, if it is.
    pub fn ring(&self, slot: Slot, now_ns: u64) -> (RingCounters, Option<InRing>) {
        let why = self.entries.in_ring(slot, self.highest, now_ns);
        (self.entries.ring(slot), why)
    }
}

impl Drop for Express {
    /// The program at the NIC may outlive those that take its frames on.
    fn drop(&mut self) {
        self.begin(Generation::NONE);
    }
}

#[cfg(test)]
pub(super) mod tests;
