//! The direct path's metrics: how many flows go it, and what became of the frames that its gears looked at.

use super::exposition::{Exposition, Labels, Pick, Total, flag};
use crate::control::Change;
use crate::gateway::{DirectState, DirectWayState, EXPRESS, RING};
use crate::stats::UpReason;

/// What is counted of each way of a gear.
const COUNTERS: [(&str, &str, Pick<DirectWayState>); 4] = [
    (
        "vxgate_direct_received_packets_total",
        "Frames that the gear looked at; to express a superframe is one, to the ring gear as many as its segments.",
        |way| Total::Count(way.received),
    ),
    (
        "vxgate_direct_forwarded_packets_total",
        "Frames that it forwarded.",
        |way| Total::Count(way.forwarded),
    ),
    (
        "vxgate_direct_forwarded_bytes_total",
        "Bytes of these, without outer headers.",
        |way| Total::Count(way.forwarded_bytes),
    ),
    (
        "vxgate_direct_lost_packets_total",
        "Frames for whose headers there was no memory, or that the kernel dropped between the underlay and a pod.",
        |way| Total::Count(way.lost),
    ),
];

/// Writes them.
pub(super) fn write(page: &mut Exposition<'_>, direct: &DirectState) {
    let allowed = direct.why_not.is_none();
    let by_protocol = [
        ("tcp", allowed && direct.why_not_tcp.is_none()),
        ("udp", allowed),
    ];
    page.gauge(
        "vxgate_direct_allowed",
        "Whether flows may go the direct path now (0 or 1); vxgate status says why not.",
        by_protocol.map(|(protocol, allowed)| {
            let labels = vec![("protocol", protocol.to_owned())];
            (labels, flag(allowed))
        }),
    );
    page.gauge(
        "vxgate_direct_flows",
        "Flows that go the direct path now.",
        [
            (vec![gear(EXPRESS)], direct.express_flows as f64),
            (vec![gear(RING)], direct.ring_flows as f64),
        ],
    );
    let pods = [
        ("attended", direct.pods),
        ("left_out", direct.pods_left_out.len() as u64),
    ];
    page.gauge(
        "vxgate_direct_pods",
        "Pods' devices whose flows may go the direct path, and those left out; vxgate status says why.",
        pods.map(|(state, count)| (vec![("state", state.to_owned())], count as f64)),
    );
    page.counter(
        "vxgate_direct_promotions_total",
        "Flows that were promoted to the direct path.",
        [(Labels::new(), Total::Count(direct.promotions))],
    );
    page.counter(
        "vxgate_direct_sightings_lost_total",
        "Times that a flow was told of and nothing came of it: too many waited, or the table had no place for it.",
        direct.sightings_lost.iter().map(|(reason, count)| {
            let labels = vec![("reason", reason.clone())];
            (labels, Total::Count(*count))
        }),
    );
    page.counter(
        "vxgate_direct_changes_total",
        "Times that all flows were demoted, because something changed that the kernel decides by: what.",
        Change::ALL.iter().map(|change| {
            let count = direct.changes_by.get(change.label()).copied();
            let labels = vec![("what", change.label().to_owned())];
            (labels, Total::Count(count.unwrap_or(0)))
        }),
    );
    page.counter(
        "vxgate_direct_pod_xdp_packets_total",
        "Frames from pods, of those forwarded express, that XDP at the pods' devices took.",
        [(Labels::new(), Total::Count(direct.out_by_xdp))],
    );
    ways(page, direct);
}

fn ways(page: &mut Exposition<'_>, direct: &DirectState) {
    let ways = [
        ((EXPRESS, "encap"), &direct.out),
        ((EXPRESS, "decap"), &direct.into),
        ((RING, "encap"), &direct.ring_out),
        ((RING, "decap"), &direct.ring_in),
    ];
    let states = ways.iter().map(|(way, state)| (labels(*way), *state));
    page.counters(&COUNTERS, states);
    page.counter(
        "vxgate_direct_handed_up_packets_total",
        "Frames that it handed up, by reason: express to the ring gear, the workers or the kernel, the ring gear to the kernel.",
        ways.iter().flat_map(|(way, state)| {
            UpReason::ALL.iter().map(move |reason| {
                let mut labels = labels(*way);
                labels.push(("reason", reason.label().to_owned()));
                let count = state.handed_up.get(reason.label()).copied();
                (labels, Total::Count(count.unwrap_or(0)))
            })
        }),
    );
    page.gauge(
        "vxgate_direct_in_flight_packets",
        "Frames that it has taken and that have no fate yet.",
        ways.map(|(way, state)| (labels(way), state.in_flight as f64)),
    );
    page.gauge(
        "vxgate_direct_balance_ok",
        "Whether received = forwarded + handed up + lost + in flight (0 or 1).",
        ways.map(|(way, state)| (labels(way), flag(state.balance_ok))),
    );
}

fn gear(gear: &str) -> (&'static str, String) {
    ("gear", gear.to_owned())
}

fn labels((of, direction): (&str, &str)) -> Labels {
    vec![gear(of), ("direction", direction.to_owned())]
}
