//! What is told of flows to whoever asks: of all how many there are, of those that carried the most all there is to say.
//!
//! Words for all of a large table would take longer than the programs go on without a word of who listens: of 130,000 flows, a
//! quarter of a second.

use std::cmp::Reverse;

use super::Keeper;
use crate::flows::{Standing, Ways};
use crate::gateway::observe::{EXPRESS, FlowState, FlowsState, RING, TRANSPARENT};
use crate::steer::{FlowCounters, InRing, RingCounters};

/// Flows that are told of at most.
const FLOWS_MAX: usize = 4096;
/// Of a flow whose frames to the pod go lower than those from it.
const JOINED: &str = "to the pod by the ring gear: XDP is generic on the underlay device, behind GRO, which may have joined frames";

/// What went direct of a flow.
struct Carried<'a> {
    gear: &'static str,
    express: FlowCounters,
    ring: RingCounters,
    /// What puts it in the ring gear, when it is there.
    in_ring: Option<InRing>,
    /// Whether what comes to its pod is there anyhow.
    joined: bool,
    /// Its pod's device.
    device: Option<&'a str>,
}

impl Carried<'_> {
    fn frames(&self) -> u64 {
        let Self { express, ring, .. } = self;
        express.out_frames + express.in_frames + ring.out_frames + ring.in_frames
    }
}

impl Keeper {
    /// The flows that are known, those first that carried the most.
    pub fn flows(&self, now_ns: u64) -> FlowsState {
        let flows = self.judge.flows();
        let flows = flows.map(|standing| (self.carried(&standing, now_ns), standing));
        let mut flows: Vec<_> = flows.collect();
        let in_gear = |gear| {
            let flows = flows.iter();
            flows.filter(|(carried, _)| carried.gear == gear).count() as u64
        };
        let state = FlowsState {
            known: flows.len() as u64,
            express: in_gear(EXPRESS),
            ring: in_gear(RING),
            ..FlowsState::default()
        };
        keep_first(&mut flows, FLOWS_MAX, |(carried, standing)| {
            let frames = Reverse(carried.frames());
            let age = Reverse(standing.born_ns);
            (carried.gear == TRANSPARENT, frames, age)
        });
        let told = flows.iter();
        let told = told.map(|(carried, standing)| told_of(carried, standing, now_ns));
        FlowsState {
            flows: told.collect(),
            ..state
        }
    }

    fn carried(&self, standing: &Standing, now_ns: u64) -> Carried<'_> {
        if standing.ways.is_none() {
            return Carried {
                gear: TRANSPARENT,
                express: FlowCounters::default(),
                ring: RingCounters::default(),
                in_ring: None,
                joined: false,
                device: None,
            };
        }
        let (express, device) = self.express.flow(standing.slot);
        let (ring, in_ring) = self.express.ring(standing.slot, now_ns);
        Carried {
            gear: if in_ring.is_some() { RING } else { EXPRESS },
            express,
            ring,
            in_ring,
            joined: standing.ways != Some(Ways::Out) && self.express.joined(standing.slot),
            device,
        }
    }
}

/// Sorts, and keeps as many as are told of.
fn keep_first<T, K: Ord>(list: &mut Vec<T>, most: usize, key: impl Fn(&T) -> K) {
    if list.len() > most {
        list.select_nth_unstable_by_key(most, &key);
        list.truncate(most);
    }
    list.sort_by_key(key);
}

fn told_of(carried: &Carried<'_>, standing: &Standing, now_ns: u64) -> FlowState {
    let why_not = standing.hitch.map(|hitch| match standing.ways {
        Some(ways) => format!("{}: {}", one_way(ways), hitch.words()),
        None => hitch.words().to_owned(),
    });
    let lower = match carried {
        Carried {
            in_ring: Some(why), ..
        } => Some(why.words()),
        Carried { joined: true, .. } => Some(JOINED),
        _ => None,
    };
    let words = |tcp, udp| if standing.key.is_tcp() { tcp } else { udp };
    let Carried { express, ring, .. } = carried;
    FlowState {
        protocol: words("tcp", "udp").to_owned(),
        local: standing.key.local,
        remote: standing.key.remote,
        device: carried.device.map(str::to_owned),
        vtep: standing.vtep,
        gear: carried.gear.to_owned(),
        ways: standing.ways.map(|ways| ways.label().to_owned()),
        why_not_higher: why_not.or(lower.map(str::to_owned)),
        age_ms: now_ns.saturating_sub(standing.born_ns) / 1_000_000,
        out_frames: express.out_frames,
        out_bytes: express.out_bytes,
        in_frames: express.in_frames,
        in_bytes: express.in_bytes,
        ring_out_frames: ring.out_frames,
        ring_out_bytes: ring.out_bytes,
        ring_in_frames: ring.in_frames,
        ring_in_bytes: ring.in_bytes,
    }
}

/// What a flow goes that does not go both ways.
fn one_way(ways: Ways) -> &'static str {
    match ways {
        Ways::Out => "from the pod only",
        Ways::In => "to the pod only",
        Ways::Both => "both ways",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_many_are_kept_in_order() {
        let kept = |most| {
            let mut list = vec![5, 1, 4, 2, 3];
            keep_first(&mut list, most, |number| Reverse(*number));
            list
        };
        assert_eq!(kept(3), [5, 4, 3]);
        assert_eq!(kept(5), [5, 4, 3, 2, 1]);
        assert_eq!(kept(9), [5, 4, 3, 2, 1]);
        assert!(kept(0).is_empty());
    }
}
