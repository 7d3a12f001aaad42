//! What is known of a flow, until it may go the direct path and while it does.

use super::{Arrival, Departure, Evidence, Hitch, PodSide, Ways};

/// How long a flow of which not everything was seen keeps its place from another: until a worker tells of it again.
const PATIENCE_NS: u64 = 1_000_000_000;

/// What is known of a flow.
#[derive(Debug, Default)]
pub struct Known {
    /// How its frames leave, where that was seen.
    pub out: Option<Departure>,
    /// How they arrive.
    pub arrived: Option<Arrival>,
    /// When it was first heard of.
    pub born_ns: u64,
    /// When it was last heard of; of a promoted one, when it last had another number of frames.
    pub since_ns: u64,
    /// When promoted: how.
    pub going: Option<Going>,
    /// Is in the list of those that only the pod's side is missing of.
    pub waits: bool,
    /// How often that was asked for in vain.
    pub in_vain: u8,
    /// Why it stays with the kernel, though all was seen.
    pub held: Option<Hitch>,
}

/// How a flow is promoted.
#[derive(Debug, Clone, Copy)]
pub struct Going {
    /// The frames that it had when last looked at.
    pub frames: u64,
    /// The ways that it goes.
    pub ways: Ways,
    /// The pod that it goes to and comes from.
    pub pod: PodSide,
}

impl Known {
    /// Whether so much was seen at the tunnel that it could be promoted, or, when it goes one way, the other as well.
    pub fn gains(&self, evidence: Evidence) -> bool {
        let ways = evidence.at_tunnel(self.out.as_ref(), self.arrived.as_ref());
        match self.going {
            None => ways.is_some(),
            Some(going) => going.ways != Ways::Both && ways == Some(Ways::Both),
        }
    }

    /// Whether it could become this: one that goes has one pod, and loses no way.
    pub fn may_become(&self, (ways, pod): &(Ways, PodSide)) -> bool {
        self.going
            .is_none_or(|going| *ways == Ways::Both && going.pod == *pod)
    }

    /// Not promoted, and not heard of for long.
    pub fn is_stale(&self, now_ns: u64) -> bool {
        self.going.is_none() && now_ns.saturating_sub(self.since_ns) >= PATIENCE_NS
    }
}
