//! Metrics of the ports: what came in by each, what became of it, and how it is carried.
//!
//! The first [`PORTS_MAX`] have series of their own; the others share one for each role.

use std::borrow::Cow;

use super::exposition::{Exposition, Labels, Pick, Total, flag};
use crate::gateway::{Observation, PortState};
use crate::stats::{Direction, DropReason, PassReason};

/// Ports with series of their own.
pub(super) const PORTS_MAX: usize = 128;
/// The ports of those that have none, by role. No device can have a name with a space.
const OTHER_PORTS: [(&str, &str); 2] = [("underlay", "other underlay"), ("access", "other access")];

/// What is counted of each, by the way that its frames go.
const COUNTERS: [(&str, &str, Pick<PortState>); 12] = [
    (
        "vxgate_forwarded_packets_total",
        "Frames handed on to the other side, by the port that they came in by.",
        |port| Total::Count(port.forwarded),
    ),
    (
        "vxgate_forwarded_bytes_total",
        "Bytes of the frames handed on, as sent.",
        |port| Total::Count(port.forwarded_bytes),
    ),
    (
        "vxgate_flood_copies_total",
        "Copies beyond the first of flooded frames.",
        |port| Total::Count(port.flood_copies),
    ),
    (
        "vxgate_flood_copy_bytes_total",
        "Bytes of the copies beyond the first of flooded frames, as sent.",
        |port| Total::Count(port.copied_bytes),
    ),
    (
        "vxgate_flood_copies_lost_total",
        "Copies of flooded frames that could not be made or sent.",
        |port| Total::Count(port.flood_copies_lost),
    ),
    (
        "vxgate_inner_checksums_completed_total",
        "Inner checksums that a sender had left unfinished, completed here.",
        |port| Total::Count(port.checksums_completed),
    ),
    (
        "vxgate_superframes_total",
        "Superframes that crossed whole, were cut here, or that frames were joined to.",
        |port| Total::Count(port.superframes),
    ),
    (
        "vxgate_superframe_segments_total",
        "Segments that superframes are cut into or were joined from.",
        |port| Total::Count(port.segments),
    ),
    (
        "vxgate_superframe_segments_sent_total",
        "Segments beyond the first of superframes that were cut here and sent.",
        |port| Total::Count(port.segments_sent),
    ),
    (
        "vxgate_superframe_segments_whole_total",
        "Segments beyond the first of superframes that left whole, to be cut behind us.",
        |port| Total::Count(port.segments_whole),
    ),
    (
        "vxgate_superframe_segments_lost_total",
        "Segments beyond the first of superframes that were cut here and lost, although the first was not.",
        |port| Total::Count(port.segments_lost),
    ),
    (
        "vxgate_strangers_delivered_total",
        "Frames of senders that are no known VTEPs, delivered all the same; among those forwarded.",
        |port| Total::Count(port.strangers_delivered),
    ),
];

/// Writes all families.
pub(super) fn write(page: &mut Exposition<'_>, seen: &Observation) {
    let ports = bounded(&seen.ports);
    frames(page, &ports);
    modes(page, seen, &ports);
}

/// A port, or all that have no series of their own.
struct Port<'a> {
    name: &'a str,
    state: Cow<'a, PortState>,
}

impl Port<'_> {
    fn label(&self) -> (&'static str, String) {
        ("port", self.name.to_owned())
    }

    /// `decap` for what comes from the underlay, `encap` for what comes from a vxlan device.
    fn way(&self) -> (&'static str, String) {
        let way = if self.is_underlay() { "decap" } else { "encap" };
        ("direction", way.to_owned())
    }

    fn is_underlay(&self) -> bool {
        self.state.role == "underlay"
    }
}

/// The first ports, and for each role one that stands for all others.
fn bounded(all: &[PortState]) -> Vec<Port<'_>> {
    let (first, others) = all.split_at(all.len().min(PORTS_MAX));
    let mut ports: Vec<_> = first
        .iter()
        .map(|state| Port {
            name: &state.name,
            state: Cow::Borrowed(state),
        })
        .collect();
    for (role, name) in OTHER_PORTS {
        let mut others = others.iter().filter(|port| port.role == role);
        if let Some(one) = others.next() {
            let mut sum = one.clone();
            others.for_each(|port| add(&mut sum, port));
            ports.push(Port {
                name,
                state: Cow::Owned(sum),
            });
        }
    }
    ports
}

/// Adds what can be added.
fn add(sum: &mut PortState, port: &PortState) {
    for (total, count) in [
        (&mut sum.received, port.received),
        (&mut sum.forwarded, port.forwarded),
        (&mut sum.forwarded_bytes, port.forwarded_bytes),
        (&mut sum.express, port.express),
        (&mut sum.flood_copies, port.flood_copies),
        (&mut sum.copied_bytes, port.copied_bytes),
        (&mut sum.flood_copies_lost, port.flood_copies_lost),
        (&mut sum.checksums_completed, port.checksums_completed),
        (&mut sum.superframes, port.superframes),
        (&mut sum.segments, port.segments),
        (&mut sum.segments_sent, port.segments_sent),
        (&mut sum.segments_whole, port.segments_whole),
        (&mut sum.segments_lost, port.segments_lost),
        (&mut sum.strangers_delivered, port.strangers_delivered),
    ] {
        *total += count;
    }
    sum.queues += port.queues;
    sum.in_flight += port.in_flight;
    sum.balance_ok &= port.balance_ok;
    for (total, counts) in [
        (&mut sum.passed, &port.passed),
        (&mut sum.drops, &port.drops),
    ] {
        for (reason, count) in counts {
            *total.entry(reason.clone()).or_default() += count;
        }
    }
}

fn frames(page: &mut Exposition<'_>, ports: &[Port<'_>]) {
    page.counter(
        "vxgate_packets_total",
        "Frames that arrived at a port, whatever became of them; a superframe is one.",
        ports.iter().map(|port| {
            let labels = vec![port.label(), ("direction", "rx".to_owned())];
            (labels, Total::Count(port.state.received))
        }),
    );
    let states = ports.iter();
    let states = states.map(|port| (vec![port.label(), port.way()], &*port.state));
    page.counters(&COUNTERS, states);
    page.counter(
        "vxgate_passed_packets_total",
        "Frames left to the kernel's own path, by reason.",
        ports.iter().flat_map(|port| {
            let count = move |reason: &PassReason| {
                let labels = vec![port.label(), ("reason", reason.label().to_owned())];
                let count = port.state.passed.get(reason.label());
                (labels, Total::Count(count.copied().unwrap_or(0)))
            };
            PassReason::ALL.iter().map(count)
        }),
    );
    page.counter(
        "vxgate_drops_total",
        "Frames that died, by reason and by the direction that they were going.",
        ports.iter().flat_map(drops),
    );
    page.gauge(
        "vxgate_in_flight_packets",
        "Frames that have arrived and have no fate yet.",
        ports
            .iter()
            .map(|port| (vec![port.label(), port.way()], port.state.in_flight as f64)),
    );
    page.gauge(
        "vxgate_balance_ok",
        "Whether received = forwarded + passed + drops + in flight (0 or 1).",
        ports
            .iter()
            .map(|port| (vec![port.label(), port.way()], flag(port.state.balance_ok))),
    );
}

/// The reasons that can happen at a port, and any other that has.
fn drops<'a>(port: &'a Port<'_>) -> impl Iterator<Item = (Labels, Total)> + 'a {
    let (way, others) = if port.is_underlay() {
        (Direction::Rx, Direction::Tx)
    } else {
        (Direction::Tx, Direction::Rx)
    };
    DropReason::ALL.iter().filter_map(move |reason| {
        let count = port.state.drops.get(reason.label()).copied().unwrap_or(0);
        let labels = vec![
            port.label(),
            ("reason", reason.label().to_owned()),
            ("direction", way.label().to_owned()),
        ];
        (reason.direction() != others || count > 0).then_some((labels, Total::Count(count)))
    })
}

fn modes(page: &mut Exposition<'_>, seen: &Observation, ports: &[Port<'_>]) {
    let named = ports.iter().take(PORTS_MAX);
    let carried = named.clone().map(|port| {
        let mode = match (port.state.zero_copy, port.state.xdp_mode.as_str()) {
            (true, _) => "zerocopy",
            (_, "native") => "native",
            (_, "generic") => "generic",
            _ => "kernel",
        };
        (port.name, mode)
    });
    let left = seen.devices.iter().filter(|device| !device.taken_over);
    let left = left.map(|device| (device.name.as_str(), "kernel"));
    page.gauge(
        "vxgate_datapath_mode",
        "How the frames of a port are carried; always 1.",
        carried.chain(left.take(PORTS_MAX)).map(|(port, mode)| {
            let labels = vec![("port", port.to_owned()), ("mode", mode.to_owned())];
            (labels, 1.0)
        }),
    );
    page.gauge(
        "vxgate_port_queues",
        "Queues of a port that have a socket.",
        named.map(|port| (vec![port.label()], f64::from(port.state.queues))),
    );
}
