//! What every metric is called, what it means, and where in [`Status`] its value stands.
//!
//! Names and labels are API: add, never rename. Every value is one that `vxgate status --json` has, or the sum of several.
//!
//! How many series there are is bounded: [`PORTS_MAX`] ports and [`VNIS_MAX`] VNIs have series of their own, the others share
//! one; of the VTEPs so many as the operator says. Reasons, modes and states are closed sets. Nothing that a remote can make
//! up (an address, a VNI of a frame) becomes a label.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::super::{Health, Status};
use super::exposition::{Exposition, Labels, Total};
use super::{direct, effort, health, queues, traffic};
use crate::gateway::{DeviceState, Observation, PortState, VtepState, WorkerState};
use crate::stats::{Direction, DropReason, PassReason};

/// Ports with series of their own.
pub(super) const PORTS_MAX: usize = 128;
/// VNIs with series of their own.
pub(super) const VNIS_MAX: usize = 128;
/// The ports of those that have none, by role. No device can have a name with a space.
const OTHER_PORTS: [(&str, &str); 2] = [("underlay", "other underlay"), ("access", "other access")];
/// The VNI of those that have none.
pub(super) const OTHER_VNIS: &str = "other";

/// Writes all families. `now` is the time of the status.
pub(super) fn write(page: &mut Exposition<'_>, status: &Status, now: SystemTime, peers_max: usize) {
    daemon(page, status);
    let seen = &status.observation;
    let ports = bounded(&seen.ports);
    frames(page, &ports);
    modes(page, seen, &ports);
    queues::write(page, seen);
    workers(page, &seen.workers, now);
    effort::write(page, &seen.workers);
    peers(page, &seen.vteps, peers_max);
    traffic::write(page, seen, now, peers_max);
    knowledge(page, seen);
    if let Some(state) = &seen.direct {
        direct::write(page, state);
    }
}

fn daemon(page: &mut Exposition<'_>, status: &Status) {
    let seen = &status.observation;
    let version = vec![("version", status.version.clone())];
    page.gauge(
        "vxgate_build_info",
        "Which vxgate this is; always 1.",
        [(version, 1.0)],
    );
    page.gauge(
        "vxgate_up",
        "Whether every worker stores heartbeats (0 or 1), as /healthz says.",
        [alone(flag(health::unhealthy(seen).is_empty()))],
    );
    page.gauge(
        "vxgate_ready",
        "Whether it is healthy and has forwarded both ways since the takeover (0 or 1), as /readyz says.",
        [alone(flag(health::unready(seen).is_empty()))],
    );
    page.gauge(
        "vxgate_degraded",
        "Whether vxgate status says DEGRADED (0 or 1).",
        [alone(flag(status.state == Health::Degraded))],
    );
    page.gauge(
        "vxgate_warnings",
        "Warnings of vxgate status.",
        [alone(seen.warnings.len() as f64)],
    );
    page.gauge(
        "vxgate_uptime_seconds",
        "Time since the daemon started.",
        [alone(status.uptime_s as f64)],
    );
    page.counter(
        "vxgate_takeovers_total",
        "Takeovers since the daemon started; counters of ports, workers and the mirror begin anew with each.",
        [(vec![], Total::Count(seen.takeovers))],
    );
    let reloads = status.reloads;
    page.counter(
        "vxgate_config_reloads_total",
        "Times that the configuration file was read again; a failure leaves the settings as they were.",
        [
            ("success", reloads.succeeded),
            ("failure", reloads.failed),
        ]
        .map(|(result, count)| (vec![("result", result.to_owned())], Total::Count(count))),
    );
    let last_success_us = reloads.last_success_us.into_iter();
    page.gauge(
        "vxgate_config_last_reload_success_timestamp_seconds",
        "When the settings in force were read: at the start, or by the last reload that succeeded.",
        last_success_us.map(|us| alone(us as f64 / 1e6)),
    );
    page.gauge(
        "vxgate_captures",
        "Captures that run now (vxgate capture, vxgate observe).",
        [alone(seen.captures.len() as f64)],
    );
    page.counter(
        "vxgate_capture_lost_total",
        "Frames that captures have lost because they were not read in time; the frames themselves went on.",
        [(vec![], Total::Count(seen.capture_lost))],
    );
    let stale = seen.workers.iter().any(|worker| !worker.alive);
    page.gauge(
        "vxgate_kernel_fallback_active",
        "Whether frames that vxgate should carry take the kernel's path (0 or 1), by cause.",
        [
            ("drained", seen.drained),
            ("no_takeover", seen.workers.is_empty()),
            ("worker_stale", stale),
        ]
        .map(|(cause, active)| (vec![("cause", cause.to_owned())], flag(active))),
    );
    let taken = seen.devices.iter().filter(|device| device.taken_over);
    let taken = taken.count();
    page.gauge(
        "vxgate_devices",
        "Vxlan devices, by who carries their frames.",
        [
            ("taken_over", taken),
            ("left_to_kernel", seen.devices.len() - taken),
        ]
        .map(|(state, count)| (vec![("state", state.to_owned())], count as f64)),
    );
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
    type Pick = fn(&PortState) -> u64;
    let counters: [(&str, &str, Pick); 12] = [
        (
            "vxgate_forwarded_packets_total",
            "Frames handed on to the other side, by the port that they came in by.",
            |port| port.forwarded,
        ),
        (
            "vxgate_forwarded_bytes_total",
            "Bytes of the frames handed on, as sent.",
            |port| port.forwarded_bytes,
        ),
        (
            "vxgate_flood_copies_total",
            "Copies beyond the first of flooded frames.",
            |port| port.flood_copies,
        ),
        (
            "vxgate_flood_copy_bytes_total",
            "Bytes of the copies beyond the first of flooded frames, as sent.",
            |port| port.copied_bytes,
        ),
        (
            "vxgate_flood_copies_lost_total",
            "Copies of flooded frames that could not be made or sent.",
            |port| port.flood_copies_lost,
        ),
        (
            "vxgate_inner_checksums_completed_total",
            "Inner checksums that a sender had left unfinished, completed here.",
            |port| port.checksums_completed,
        ),
        (
            "vxgate_superframes_total",
            "Superframes that crossed whole, were cut here, or that frames were joined to.",
            |port| port.superframes,
        ),
        (
            "vxgate_superframe_segments_total",
            "Segments that superframes are cut into or were joined from.",
            |port| port.segments,
        ),
        (
            "vxgate_superframe_segments_sent_total",
            "Segments beyond the first of superframes that were cut here and sent.",
            |port| port.segments_sent,
        ),
        (
            "vxgate_superframe_segments_whole_total",
            "Segments beyond the first of superframes that left whole, to be cut behind us.",
            |port| port.segments_whole,
        ),
        (
            "vxgate_superframe_segments_lost_total",
            "Segments beyond the first of superframes that were cut here and lost, although the first was not.",
            |port| port.segments_lost,
        ),
        (
            "vxgate_strangers_delivered_total",
            "Frames of senders that are no known VTEPs, delivered all the same; among those forwarded.",
            |port| port.strangers_delivered,
        ),
    ];
    for (name, help, pick) in counters {
        let series = ports.iter().map(|port| {
            let labels = vec![port.label(), port.way()];
            (labels, Total::Count(pick(&port.state)))
        });
        page.counter(name, help, series);
    }
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

fn workers(page: &mut Exposition<'_>, workers: &[WorkerState], now: SystemTime) {
    let label = |worker: &WorkerState| vec![("worker", worker.worker.to_string())];
    let gauge = |pick: fn(&WorkerState) -> f64| {
        workers
            .iter()
            .map(move |worker| (label(worker), pick(worker)))
    };
    page.gauge(
        "vxgate_worker_alive",
        "Whether the worker's thread runs and its heartbeat is fresh, so that frames go to it (0 or 1).",
        gauge(|worker| flag(worker.alive)),
    );
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH);
    let since_epoch = since_epoch.unwrap_or(Duration::ZERO);
    page.gauge(
        "vxgate_worker_heartbeat_timestamp_seconds",
        "When the worker stored its last heartbeat.",
        workers.iter().map(|worker| {
            let age = Duration::from_millis(worker.heartbeat_age_ms);
            (label(worker), since_epoch.saturating_sub(age).as_secs_f64())
        }),
    );
    page.gauge(
        "vxgate_worker_busy_ratio",
        "Share of the time since the takeover that the worker was awake, 0 to 1.",
        gauge(|worker| worker.busy_share),
    );
    page.gauge(
        "vxgate_worker_nice",
        "The worker's nice value now; 19 for one that hangs.",
        workers
            .iter()
            .filter_map(|worker| Some((label(worker), f64::from(worker.nice?)))),
    );
    type Pick = fn(&WorkerState) -> Total;
    let counters: [(&str, &str, Pick); 5] = [
        (
            "vxgate_worker_turns_total",
            "Turns of the worker's loop.",
            |worker| Total::Count(worker.turns),
        ),
        (
            "vxgate_worker_busy_turns_total",
            "Turns that moved at least one frame.",
            |worker| Total::Count(worker.busy_turns),
        ),
        (
            "vxgate_worker_sleeps_total",
            "Times that the worker slept.",
            |worker| Total::Count(worker.sleeps),
        ),
        (
            "vxgate_worker_awake_seconds_total",
            "Time that the worker was awake.",
            |worker| Total::Nanoseconds(worker.awake_ns),
        ),
        (
            "vxgate_worker_asleep_seconds_total",
            "Time that the worker slept.",
            |worker| Total::Nanoseconds(worker.asleep_ns),
        ),
    ];
    for (name, help, pick) in counters {
        let series = workers.iter().map(|worker| (label(worker), pick(worker)));
        page.counter(name, help, series);
    }
}

fn peers(page: &mut Exposition<'_>, vteps: &[VtepState], peers_max: usize) {
    let mut states: BTreeMap<(u32, &str), u64> = BTreeMap::new();
    for vtep in vteps {
        let state = if vtep.is_kernels() {
            "kernel"
        } else {
            vtep.state.as_str()
        };
        *states.entry((vtep.vni, state)).or_default() += 1;
    }
    let mut vnis: Vec<_> = states.keys().map(|(vni, _)| *vni).collect();
    vnis.dedup();
    let mut shown: BTreeMap<(String, &str), u64> = BTreeMap::new();
    for ((vni, state), count) in states {
        let named = vnis.iter().take(VNIS_MAX).any(|named| *named == vni);
        let vni = if named {
            vni.to_string()
        } else {
            OTHER_VNIS.to_owned()
        };
        *shown.entry((vni, state)).or_default() += count;
    }
    page.gauge(
        "vxgate_peers",
        "Remote VTEPs: resolved, or why frames to them die, or kernel where only the kernel reaches them.",
        shown.into_iter().map(|((vni, state), count)| {
            let labels = vec![("vni", vni), ("state", state.to_owned())];
            (labels, count as f64)
        }),
    );
    // Those with the narrowest paths first: where not all are shown, these are the ones to see.
    let carried = vteps.iter().filter(|vtep| !vtep.is_kernels());
    let paths: BTreeMap<_, &VtepState> = carried
        .map(|vtep| {
            let key = (vtep.path_mtu, &vtep.device, vtep.vni, vtep.addr, vtep.port);
            (key, vtep)
        })
        .collect();
    let hidden = paths.len().saturating_sub(peers_max);
    let shown = paths.into_values().take(peers_max);
    page.gauge(
        "vxgate_peer_path_mtu_bytes",
        "The largest outer IP packet that the path to a VTEP takes, as far as the kernel knows.",
        shown.map(|vtep| {
            let labels = vec![
                ("device", vtep.device.clone()),
                ("vni", vtep.vni.to_string()),
                ("peer", vtep.addr.to_string()),
                ("udp_port", vtep.port.to_string()),
            ];
            (labels, f64::from(vtep.path_mtu))
        }),
    );
    page.gauge(
        "vxgate_peers_hidden",
        "VTEPs beyond metrics.max_peers, which have no series of their own.",
        [alone(hidden as f64)],
    );
}

fn knowledge(page: &mut Exposition<'_>, seen: &Observation) {
    let sum = |pick: fn(&DeviceState) -> u64| {
        let taken = seen.devices.iter().filter(|device| device.taken_over);
        taken.map(pick).sum::<u64>()
    };
    page.gauge(
        "vxgate_table_entries",
        "Entries of the tables that the data path uses; kernel: those of fdb and flood whose frames are left to the kernel.",
        [
            ("fdb", sum(|device| device.fdb_entries)),
            ("flood", sum(|device| device.flood_entries)),
            ("kernel", sum(|device| device.kernel_entries)),
            ("peers", seen.vteps.len() as u64),
            ("groups", seen.groups.len() as u64),
        ]
        .map(|(table, count)| (vec![("table", table.to_owned())], count as f64)),
    );
    let source = || vec![("source", "netlink".to_owned())];
    page.counter(
        "vxgate_events_total",
        "Notifications taken from a feed.",
        [(source(), Total::Count(seen.mirror.events))],
    );
    page.counter(
        "vxgate_feed_resyncs_total",
        "Times that everything was read again from a feed.",
        [(source(), Total::Count(seen.mirror.resyncs))],
    );
    page.counter(
        "vxgate_feed_overruns_total",
        "Times that a feed lost notifications.",
        [(source(), Total::Count(seen.mirror.overruns))],
    );
    page.counter(
        "vxgate_table_publications_total",
        "Snapshots of the tables handed to the workers.",
        [(vec![], Total::Count(seen.mirror.publications))],
    );
    page.gauge(
        "vxgate_offenders",
        "Senders on record that the peer check found fault with; vxgate status names them.",
        [alone(seen.offenders.len() as f64)],
    );
    let policy = &seen.policy;
    page.gauge(
        "vxgate_policy_info",
        "What the operator decided; always 1.",
        [(
            vec![
                ("peer_check", policy.peer_check.clone()),
                ("reserved_bits", policy.reserved_bits.clone()),
                ("ecn_encap", policy.ecn_encap.clone()),
                ("inner_vlan", policy.inner_vlan.clone()),
                ("udp_checksum_rx", policy.udp_checksum_rx.clone()),
            ],
            1.0,
        )],
    );
}

fn alone(value: f64) -> (Labels, f64) {
    (Vec::new(), value)
}

pub(super) fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}
