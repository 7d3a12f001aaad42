//! What `/healthz` and `/readyz` judge by.
//!
//! **Healthy** is about the process: it answers, and its workers store heartbeats. Whoever finds it not healthy should start
//! it anew. Peers, routes and devices have no part in it: another start would not mend them.
//!
//! **Ready** is about the service: the gateway is healthy in the eyes of `vxgate status`, and it has been seen to forward, both
//! ways, since it took the devices over. Until a first frame has made it from the underlay to a vxlan device and another the
//! other way, nothing proves that sockets, programs and tables fit together. No frame is made up for that: on the wire a
//! node that is asked looks like one that is not. So an idle node is not ready before its first traffic (a ping to a pod
//! elsewhere will do).

use crate::gateway::{Observation, PortState};

/// A worker without a heartbeat for longer than this hangs. (The kernel carries its frames after 200 ms: what is merely slow
/// harms nobody, and is no reason to start anew.)
pub(super) const HEARTBEAT_AGE_MS_MAX: u64 = 3000;

/// Why the process should be started anew; empty when it is healthy.
pub(super) fn unhealthy(seen: &Observation) -> Vec<String> {
    let workers = seen.workers.iter();
    let hung = workers.filter(|worker| worker.heartbeat_age_ms > HEARTBEAT_AGE_MS_MAX);
    hung.map(|worker| {
        let (number, age) = (worker.worker, worker.heartbeat_age_ms);
        format!("worker {number} has stored no heartbeat for {age} ms")
    })
    .collect()
}

/// Why frames may not flow through it; empty when it is ready.
pub(super) fn unready(seen: &Observation) -> Vec<String> {
    let mut reasons = seen.reasons.clone();
    for (role, direction) in [
        ("underlay", "from the underlay to a vxlan device"),
        ("access", "from a vxlan device to the underlay"),
    ] {
        let proven = |port: &PortState| port.role == role && port.forwarded > 0;
        if !seen.ports.iter().any(proven) {
            reasons.push(format!(
                "not proven: no frame has been forwarded {direction} since the takeover"
            ));
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_heartbeat_of_three_seconds_ago_is_unhealthy_and_nothing_else_is() {
        let mut seen = samples::observation();
        seen.reasons = vec!["eth1: 3 frames have no known fate".into()];
        seen.vteps.clear();
        assert!(unhealthy(&seen).is_empty());
        assert!(unhealthy(&Observation::default()).is_empty());
        seen.workers[0].heartbeat_age_ms = HEARTBEAT_AGE_MS_MAX;
        assert!(unhealthy(&seen).is_empty());
        seen.workers[0].heartbeat_age_ms += 1;
        assert_eq!(
            unhealthy(&seen),
            ["worker 0 has stored no heartbeat for 3001 ms"]
        );
    }

    #[test]
    fn ready_is_who_is_healthy_and_has_forwarded_both_ways() {
        let mut seen = samples::observation();
        assert!(unready(&seen).is_empty());
        seen.ports[1].forwarded = 0;
        assert_eq!(
            unready(&seen),
            [
                "not proven: no frame has been forwarded from a vxlan device to the underlay since the takeover"
            ]
        );
        seen.ports.clear();
        seen.reasons = vec!["the kernel carries all traffic".into()];
        assert_eq!(unready(&seen).len(), 3);
    }
}
