//! Which flows are promoted: those that the judge finds ripe, conntrack need not see, and there is a path for.

use super::super::lock;
use super::{Keeper, evidence};
use crate::control::Changes;
use crate::flows::{AtPods, Evidence, FlowKey, Hitch, Promoted};
use crate::netlink::{Conntrack, Tuple};
use crate::steer::Gear;

/// A flow that conntrack forgets sooner without a frame does not go direct: longer than `SHOW_EVERY_TICKS` of `bpf/shared.h`.
const REMEMBERED_MIN_S: u32 = 12;

impl Keeper {
    /// Takes what the workers saw, and promotes what may be.
    pub fn promote(&mut self, now_ns: u64) {
        for sighting in self.sightings.waiting() {
            self.judge.hear(&sighting, now_ns);
        }
        let (express, generation) = (&self.express, self.number);
        let (evidence, changes) = (evidence(self.heeds_filters), &self.changes);
        let ripe = self.judge.ripe(now_ns, |key| match evidence {
            Evidence::BothWays => routed(changes, express.seen_both_ways(key, generation)),
            Evidence::OneWay => confirmed(
                changes,
                key,
                routed(changes, express.at_pods(key, generation)),
            ),
        });
        let held = held(self.conntrack.as_mut(), &ripe);
        let mut promotions = 0;
        for (flow, is_held) in ripe.iter().zip(held) {
            if is_held {
                self.judge.hold(flow.slot, Hitch::Held, now_ns);
                continue;
            }
            let ends = [flow.key.remote, flow.key.local];
            let packet_max = ends.map(|end| changes.mtu_to(end.ip()));
            let flow = Promoted {
                packet_max,
                ..*flow
            };
            let Some(path) = self.express.take_path(&flow, now_ns) else {
                self.judge.hold(flow.slot, Hitch::NoPath, now_ns);
                continue;
            };
            if self.judge.promote(&flow, now_ns) {
                promotions += u64::from(!flow.more);
                self.express.promote(&flow, path, generation, now_ns);
            } else {
                self.express.give_back(path, now_ns);
            }
        }
        if promotions > 0 {
            let mut shared = lock(&self.shared);
            shared.promotions += promotions;
            shared.flows = self.judge.promoted();
            if self.express.highest() == Gear::Ring {
                shared.in_ring = shared.flows;
            }
        }
    }
}

/// What was seen at the pods' devices, but only of what went between a pod and this node. What a pod sends to another one, which routes
/// it, or filters it, is seen at both: that other one is not to be gone around.
fn routed(changes: &Changes, seen: AtPods) -> AtPods {
    AtPods {
        sender: seen.sender.filter(|pod| changes.is_gateway_of(pod)),
        receiver: seen.receiver.filter(|pod| changes.is_gateway_of(pod)),
    }
}

/// What was seen at the pods' devices, but only of pods that this node itself would bring the flow's frames to; or of one that was
/// seen both ways, which says the same.
fn confirmed(changes: &Changes, key: &FlowKey, seen: AtPods) -> AtPods {
    if seen.agreed().is_some() {
        return seen;
    }
    let addr = key.local.ip();
    AtPods {
        sender: seen.sender.filter(|pod| changes.lead_to(addr, pod)),
        receiver: seen.receiver.filter(|pod| changes.lead_to(addr, pod)),
    }
}

/// Of each of these flows whether conntrack has to see the frames of the one that has this name at the tunnel: because it translates
/// them, has a helper read them, or forgets the flow before it is shown the next one. Two flows may have that name, one there and one
/// at the pod: a pod that asks a service, and from the same port who is behind it, has conntrack choose another port for one of them.
///
/// The flow at the tunnel is the one that conntrack knows by what comes from there, whoever began it; and it has known it since
/// before a worker saw what leaves.
fn held(conntrack: Option<&mut Conntrack>, flows: &[Promoted]) -> Vec<bool> {
    let Some(conntrack) = conntrack else {
        return vec![false; flows.len()];
    };
    // Where nothing is told, it may have to.
    let mut held = vec![true; flows.len()];
    let tuples = flows.iter().map(|flow| Tuple {
        from: flow.key.remote,
        to: flow.key.local,
        protocol: flow.key.protocol,
    });
    let told = conntrack.track(tuples, |which, answer| {
        let soon = |seconds: u32| seconds <= REMEMBERED_MIN_S;
        let answer = match answer {
            Ok(tracked) => {
                tracked.translated || tracked.helped || tracked.forgotten_s.is_some_and(soon)
            }
            Err(error) => {
                tracing::debug!(%error, "conntrack does not tell what it does with a flow");
                // A kernel whose conntrack cannot be asked at all leaves it at what was seen.
                false
            }
        };
        if let Some(place) = held.get_mut(which) {
            *place = answer;
        }
    });
    if let Err(error) = told {
        tracing::debug!(%error, "conntrack does not tell what it does with flows");
    }
    held
}
