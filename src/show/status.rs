//! `vxgate status`: one screen that says whether it is healthy, and why. Text and JSON come from the same value.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Effective;
#[cfg(test)]
use crate::gateway::PodState;
use crate::gateway::{
    CaptureState, DeviceState, DirectState, DirectWayState, GroupState, Observation, OffenderState,
    PolicyState, PortState, SuperframesState, VtepState, WorkerState,
};
use crate::stats::DropReason;

/// The schema of every JSON answer; keys are added, never renamed.
pub const SCHEMA: &str = "vxgate/1";

/// VTEPs listed on the screen; JSON has them all.
const VTEPS_SHOWN: usize = 16;
/// Offenders listed on the screen; JSON has them all.
const OFFENDERS_SHOWN: usize = 8;
/// Columns of the screen that words of explanation may fill.
const COLUMNS: usize = 118;
/// Warnings on the screen; JSON has them all.
const WARNINGS_SHOWN: usize = 32;
/// Captures listed on the screen: there are no more.
const CAPTURES_SHOWN: usize = 8;
/// Nexthop groups listed on the screen, and members of each.
const GROUPS_SHOWN: usize = 8;
const MEMBERS_SHOWN: usize = 8;

/// Whether frames flow as they should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Every device that was asked for is carried by live workers.
    Healthy,
    /// Something is wrong; frames take the kernel's path where vxgate cannot carry them.
    Degraded,
    /// The operator has handed the traffic to the kernel.
    Drained,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "HEALTHY",
            Self::Degraded => "DEGRADED",
            Self::Drained => "DRAINED",
        })
    }
}

/// The answer to `status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: String,
    /// The verdict.
    pub state: Health,
    /// The daemon's version.
    pub version: String,
    /// The daemon's process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Its settings.
    #[serde(default)]
    pub configuration: Configuration,
    /// How often it has read its file again.
    #[serde(default)]
    pub reloads: Reloads,
    /// Everything else.
    #[serde(flatten)]
    pub observation: Observation,
}

/// The settings of a daemon, those in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Configuration {
    /// The file that it has read, if any.
    pub file: Option<PathBuf>,
    /// Every setting, with where its value comes from.
    pub settings: Vec<Effective>,
    /// What is logged for now because somebody said so at run time, whatever the settings say.
    #[serde(default)]
    pub log_level: Option<String>,
}

/// Readings of the configuration file since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reloads {
    /// Those that count, whether they changed anything or not.
    pub succeeded: u64,
    /// Those that changed nothing, because the file cannot be.
    pub failed: u64,
    /// When the settings in force were read, in microseconds since 1970 (UTC): at the start, or by the last reading that counts.
    pub last_success_us: Option<u64>,
}

impl Status {
    /// Judges an observation.
    pub fn new(observation: Observation, uptime_s: u64) -> Self {
        let state = if observation.drained {
            Health::Drained
        } else if observation.reasons.is_empty() {
            Health::Healthy
        } else {
            Health::Degraded
        };
        Self {
            schema: SCHEMA.to_owned(),
            state,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s,
            configuration: Configuration::default(),
            reloads: Reloads::default(),
            observation,
        }
    }

    /// With the count of what was read again.
    #[must_use]
    pub fn with_reloads(self, reloads: Reloads) -> Self {
        Self { reloads, ..self }
    }

    /// With the settings of the daemon.
    #[must_use]
    pub fn with_configuration(self, configuration: Configuration) -> Self {
        Self {
            configuration,
            ..self
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = &self.observation;
        writeln!(
            f,
            "vxgate {}  pid {}  up {} s   {}",
            self.version, self.pid, self.uptime_s, self.state
        )?;
        for reason in &seen.reasons {
            writeln!(f, "  reason    {reason}")?;
        }
        if let Some(level) = &self.configuration.log_level {
            writeln!(f, "  log       {level}, for now")?;
        }
        if !seen.policy.peer_check.is_empty() {
            writeln!(f, "  policy    {}", PolicyLine(&seen.policy))?;
        }
        for device in &seen.devices {
            writeln!(f, "  device    {}", DeviceLine(device))?;
        }
        for port in &seen.ports {
            write!(f, "{}", PortLines(port))?;
        }
        for worker in &seen.workers {
            writeln!(f, "  worker    {}", WorkerLine(worker))?;
        }
        if let Some(direct) = &seen.direct {
            write!(f, "{}", DirectLines(direct))?;
        }
        let resolved = seen.vteps.iter().filter(|vtep| vtep.state == "resolved");
        let (count, resolved) = (seen.vteps.len(), resolved.count());
        writeln!(f, "  vteps     {count} ({resolved} resolved)")?;
        list(f, "", &seen.vteps, VTEPS_SHOWN, VtepLine)?;
        list(f, "group", &seen.groups, GROUPS_SHOWN, GroupLine)?;
        list(f, "capture", &seen.captures, CAPTURES_SHOWN, CaptureLine)?;
        if !seen.offenders.is_empty() {
            writeln!(f, "  offenders {}, the latest first", seen.offenders.len())?;
        }
        list(f, "", &seen.offenders, OFFENDERS_SHOWN, OffenderLine)?;
        list(f, "warning", &seen.warnings, WARNINGS_SHOWN, |words| words)
    }
}

/// The first lines of a list, and how many more there would be.
fn list<'a, T, L: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    head: &str,
    all: &'a [T],
    shown: usize,
    line: impl Fn(&'a T) -> L,
) -> fmt::Result {
    for one in all.iter().take(shown) {
        writeln!(f, "  {head:<9} {}", line(one))?;
    }
    match all.len().checked_sub(shown) {
        None | Some(0) => Ok(()),
        Some(more) => writeln!(f, "  {:<9} and {more} more: --json lists them", ""),
    }
}

struct CaptureLine<'a>(&'a CaptureState);

impl fmt::Display for CaptureLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let capture = self.0;
        match capture.pid {
            Some(pid) => write!(f, "pid {pid}")?,
            None => write!(f, "of another PID namespace")?,
        }
        write!(f, ", {}", capture.points.join(", "))?;
        if !capture.ports.is_empty() {
            write!(f, " of {}", capture.ports.join(", "))?;
        }
        let (seen, lost, age_s) = (capture.seen, capture.lost, capture.age_s);
        write!(f, ", for {age_s} s: {seen} frames seen, {lost} lost")
    }
}

struct WorkerLine<'a>(&'a WorkerState);

impl fmt::Display for WorkerLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let worker = self.0;
        let core = worker
            .core
            .map_or_else(|| "any core".to_owned(), |core| format!("core {core}"));
        let life = if worker.alive { "" } else { "   NOT ALIVE" };
        let busy = worker.busy_share * 100.0;
        write!(f, "{} on {core}", worker.worker)?;
        if let Some(node) = worker.numa_node {
            write!(f, " of NUMA node {node}")?;
        }
        if let Some(node) = worker
            .memory_node
            .filter(|_| worker.memory_node != worker.numa_node)
        {
            write!(f, ", its frames on node {node}")?;
        }
        if let Some(nice) = worker.nice {
            write!(f, ", nice {nice}")?;
        }
        if let Some(refused) = &worker.nice_refused {
            write!(f, " (not {refused})")?;
        }
        write!(f, "   busy {busy:.1} %   {} turns{life}", worker.turns)
    }
}

struct DirectLines<'a>(&'a DirectState);

impl fmt::Display for DirectLines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direct = self.0;
        let times = if direct.changes == 1 { "time" } else { "times" };
        write!(
            f,
            "  direct    {}: {} flows of {} pods express, {} in the ring gear; {} promoted, all demoted {} {times}",
            direct.mode,
            direct.express_flows,
            direct.pods,
            direct.ring_flows,
            direct.promotions,
            direct.changes
        )?;
        let causes = direct.changes_by.iter();
        let causes = causes.map(|(what, times)| format!("{what} {times}"));
        let causes: Vec<_> = causes.collect();
        if causes.is_empty() {
            writeln!(f)?;
        } else {
            writeln!(f, " ({})", causes.join(", "))?;
        }
        if let Some(why) = &direct.why_not_express {
            writeln!(f, "            none express: {why}")?;
        }
        if !direct.pod_devices.is_empty() {
            writeln!(f, "            {}", PodsLine(direct))?;
        }
        for (name, why) in &direct.pods_left_out {
            writeln!(f, "            not {name}: {why}")?;
        }
        for (way, name) in direct.ways() {
            writeln!(f, "            {name}: {}", DirectWayWords(way))?;
        }
        Ok(())
    }
}

/// What the direct path means to its pods.
struct PodsLine<'a>(&'a DirectState);

impl fmt::Display for PodsLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direct = self.0;
        let pods = || direct.pod_devices.iter();
        let mtus = || pods().map(|(_, pod)| pod.mtu);
        let (shortest, longest) = (mtus().min().unwrap_or(0), mtus().max().unwrap_or(0));
        write!(
            f,
            "pods: {} of at most {}, {} by XDP; MTU {shortest}",
            direct.pods, direct.pods_max, direct.pods_by_xdp
        )?;
        if longest != shortest {
            write!(f, " to {longest}")?;
        }
        let mut losers = pods().filter(|(_, pod)| !pod.offloads_lost.is_empty());
        match losers.next() {
            None => write!(f, " and offloads as they were"),
            Some((name, pod)) => {
                let (lost, more) = (pod.offloads_lost.join(", "), losers.count());
                write!(f, " as it was; {name} lost {lost}")?;
                if more > 0 {
                    write!(f, ", and {more} more lost offloads")?;
                }
                Ok(())
            }
        }
    }
}

struct DirectWayWords<'a>(&'a DirectWayState);

impl fmt::Display for DirectWayWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = self.0;
        let handed_up = way.handed_up.get("total").copied().unwrap_or(0);
        let verdict = if way.balance_ok {
            "balance OK"
        } else {
            "BALANCE BROKEN"
        };
        write!(
            f,
            "received {} = forwarded {} + handed up {handed_up} + lost {} + in flight {}   {verdict}",
            way.received, way.forwarded, way.lost, way.in_flight
        )?;
        for (reason, count) in counted(&way.handed_up) {
            write!(f, "\n            handed up {count} {reason}")?;
        }
        Ok(())
    }
}

struct DeviceLine<'a>(&'a DeviceState);

impl fmt::Display for DeviceLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = self.0;
        write!(
            f,
            "{}  VNI {}  UDP {}",
            device.name, device.vni, device.port
        )?;
        if let Some(local) = device.local {
            write!(f, "  VTEP {local}")?;
        }
        if let Some(underlay) = &device.underlay {
            write!(f, " on {underlay}")?;
        }
        write!(f, "  MTU {}  ", device.mtu)?;
        if let Some(refused) = &device.refused {
            return write!(
                f,
                "left to the kernel: {} ({})",
                refused.attribute, refused.why
            );
        }
        if !device.taken_over {
            return write!(f, "left to the kernel for now");
        }
        write!(f, "taken over")?;
        if let Some(access) = &device.access {
            write!(f, " through {}/{}", access.kernel_side, access.worker_side)?;
        }
        if let Some(superframes) = &device.superframes {
            write!(f, "{}", SuperframesWords(superframes))?;
        }
        write!(
            f,
            ", {} FDB entries, {} flood",
            device.fdb_entries, device.flood_entries
        )?;
        if device.kernel_entries > 0 {
            let keeps = &device.kernel_keeps;
            write!(
                f,
                ", {} of them the kernel's: it keeps {keeps}",
                device.kernel_entries
            )?;
        }
        Ok(())
    }
}

struct SuperframesWords<'a>(&'a SuperframesState);

impl fmt::Display for SuperframesWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0.access_tap, &self.0.wire_tap, &self.0.why_not) {
            (Some(access), Some(wire), _) => {
                write!(f, ", superframes by {access} and {wire}")
            }
            (Some(access), None, _) => write!(f, ", superframes by {access}, cut here"),
            (_, _, Some(why)) => write!(f, ", no superframes ({why})"),
            _ => Ok(()),
        }
    }
}

struct PortLines<'a>(&'a PortState);

impl fmt::Display for PortLines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.0;
        let copy = if port.zero_copy { "zero-copy" } else { "copy" };
        write!(
            f,
            "  port      {} ({})  XDP {} {copy}, {} queue{}",
            port.name,
            port.role,
            port.xdp_mode,
            port.queues,
            if port.queues == 1 { "" } else { "s" }
        )?;
        if port.role == "underlay" {
            let node = port.numa_node.map(|node| node.to_string());
            write!(f, ", NUMA node {}", node.as_deref().unwrap_or("none"))?;
        }
        match &port.why_not_better {
            Some(why) => writeln!(f, "; not better: {why}")?,
            None => writeln!(f)?,
        }
        if let Some(by) = &port.outer_checksums {
            writeln!(f, "            outer checksums: by the {by}")?;
        }
        if let Some(way) = &port.superframes_leave {
            let why = port.why_cut.as_ref();
            let why = why.map_or(String::new(), |why| format!(" ({why})"));
            writeln!(f, "            superframes leave: {way}{why}")?;
        }
        let total = |counts: &std::collections::BTreeMap<String, u64>| {
            counts.get("total").copied().unwrap_or(0)
        };
        let verdict = if port.balance_ok {
            "balance OK"
        } else {
            "BALANCE BROKEN"
        };
        writeln!(
            f,
            "            received {} = forwarded {} + passed {} + dropped {} + in flight {}   {verdict}",
            port.received,
            port.forwarded,
            total(&port.passed),
            total(&port.drops),
            port.in_flight
        )?;
        if port.superframes > 0 {
            writeln!(
                f,
                "            superframes {} of {} segments",
                port.superframes, port.segments
            )?;
        }
        if port.segments_lost > 0 {
            let lost = port.segments_lost;
            writeln!(f, "            segments lost behind their first: {lost}")?;
        }
        if port.strangers_delivered > 0 {
            let count = port.strangers_delivered;
            writeln!(f, "            forwarded, of unknown VTEPs: {count}")?;
        }
        for (reason, count) in counted(&port.passed) {
            writeln!(f, "            passed {count} {reason}")?;
        }
        for (reason, count) in counted(&port.drops) {
            writeln!(f, "{}", drop_line(reason, count))?;
        }
        Ok(())
    }
}

/// The reasons that happened.
fn counted(counts: &BTreeMap<String, u64>) -> impl Iterator<Item = (&str, u64)> {
    let counts = counts
        .iter()
        .map(|(reason, count)| (reason.as_str(), *count));
    counts.filter(|(reason, count)| *reason != "total" && *count > 0)
}

/// How many died of a reason, the kernel's name for it where it has one, and as much of the explanation as fits.
fn drop_line(label: &str, count: u64) -> String {
    let mut line = format!("            dropped {count} {label}");
    // A newer daemon may have reasons that this program does not know.
    let Some(reason) = DropReason::ALL.iter().find(|r| r.label() == label) else {
        return line;
    };
    if reason.kernel_name() != "-" {
        line.push_str(&format!(" (kernel {})", reason.kernel_name()));
    }
    line.push_str(": ");
    for word in reason.help().split_inclusive(' ') {
        if line.chars().count() + word.chars().count() >= COLUMNS {
            line.truncate(line.trim_end().len());
            line.push('…');
            break;
        }
        line.push_str(word);
    }
    line
}

struct PolicyLine<'a>(&'a PolicyState);

impl fmt::Display for PolicyLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = self.0;
        write!(
            f,
            "peer check {}, reserved bits {}, ECN {}, inner VLAN {}, UDP checksum {}",
            policy.peer_check,
            policy.reserved_bits,
            policy.ecn_encap,
            policy.inner_vlan,
            policy.udp_checksum_rx
        )
    }
}

struct OffenderLine<'a>(&'a OffenderState);

impl fmt::Display for OffenderLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offender = self.0;
        let inner = offender.inner_source.as_deref().unwrap_or("none");
        let fate = if offender.delivered {
            "delivered"
        } else {
            "dropped"
        };
        write!(
            f,
            "{} VNI {} inner source {inner}  {} {fate} on {}, {}; {}.{} s ago",
            offender.source,
            offender.vni,
            offender.frames,
            offender.port,
            offender.reason,
            offender.age_ms / 1000,
            offender.age_ms % 1000 / 100
        )
    }
}

struct VtepLine<'a>(&'a VtepState);

impl fmt::Display for VtepLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vtep = self.0;
        write!(f, "{} VNI {} ", vtep.device, vtep.vni)?;
        if vtep.addr.is_unspecified() {
            // It stands for all of these entries.
            return write!(f, "by another device, or without an address  the kernel's");
        }
        let end_point = SocketAddr::new(vtep.addr, vtep.port);
        write!(f, "{end_point}  {}", vtep.state)?;
        if let Some(mac) = &vtep.next_hop_mac {
            write!(f, " via {mac}")?;
        }
        if vtep.is_kernels() {
            return write!(f, "  the kernel's");
        }
        write!(f, "  path MTU {}", vtep.path_mtu)
    }
}

struct GroupLine<'a>(&'a GroupState);

impl fmt::Display for GroupLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = self.0;
        write!(f, "{} nexthop {}: ", group.device, group.nexthop)?;
        for (index, member) in group.members.iter().take(MEMBERS_SHOWN).enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(
                f,
                "{separator}{} {:.1} %",
                member.addr,
                member.share * 100.0
            )?;
        }
        match group.members.len().checked_sub(MEMBERS_SHOWN) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::MemberState;
    use crate::table::Policy;
    use std::collections::BTreeMap;

    fn port() -> PortState {
        PortState {
            name: "eth1".into(),
            ifindex: 2,
            role: "underlay".into(),
            xdp_mode: "native".into(),
            zero_copy: false,
            why_not_better: Some("veth: Operation not supported".into()),
            queues: 1,
            outer_checksums: None,
            numa_node: None,
            received: 10,
            forwarded: 6,
            express: 0,
            flood_copies: 0,
            copied_bytes: 0,
            flood_copies_lost: 0,
            forwarded_bytes: 600,
            checksums_completed: 0,
            superframes: 0,
            segments: 0,
            segments_sent: 0,
            segments_whole: 0,
            segments_lost: 0,
            superframes_leave: None,
            why_cut: None,
            strangers_delivered: 0,
            passed: BTreeMap::from([("total".into(), 3), ("not_ours".into(), 3)]),
            drops: BTreeMap::from([
                ("total".into(), 1),
                ("no_i_flag".into(), 1),
                ("oversize".into(), 0),
            ]),
            in_flight: 0,
            balance_ok: true,
        }
    }

    #[test]
    fn the_screen_tells_how_superframes_leave_and_why_they_are_cut() {
        let mut cut = port();
        cut.superframes_leave = Some("cut".into());
        cut.why_cut = Some("its sockets are zero-copy".into());
        (cut.superframes, cut.segments, cut.segments_lost) = (2, 90, 3);
        let mut whole = port();
        whole.superframes_leave = Some("wire-gso".into());
        let observation = Observation {
            ports: vec![cut, whole],
            ..Observation::default()
        };
        let text = Status::new(observation, 7).to_string();
        for line in [
            "superframes leave: cut (its sockets are zero-copy)\n",
            "superframes leave: wire-gso\n",
            "superframes 2 of 90 segments\n",
            "segments lost behind their first: 3\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn the_screen_tells_where_a_device_is_and_who_finishes_its_checksums() {
        let mut hardware = port();
        hardware.outer_checksums = Some("device".into());
        hardware.numa_node = Some(1);
        let mut virtual_one = port();
        virtual_one.outer_checksums = Some("worker".into());
        let mut access = port();
        access.role = "access".into();
        let text = |port: &PortState| PortLines(port).to_string();
        assert!(text(&hardware).contains("1 queue, NUMA node 1; not better:"));
        assert!(text(&hardware).contains("outer checksums: by the device\n"));
        assert!(text(&virtual_one).contains("1 queue, NUMA node none; not better:"));
        assert!(text(&virtual_one).contains("outer checksums: by the worker\n"));
        assert!(!text(&access).contains("NUMA") && !text(&access).contains("outer checksums"));
    }

    #[test]
    fn the_screen_tells_the_balance_and_every_reason_that_is_not_zero() {
        let observation = Observation {
            ports: vec![port()],
            ..Observation::default()
        };
        let text = Status::new(observation, 7).to_string();
        assert!(text.contains("HEALTHY"), "{text}");
        assert!(
            text.contains(
                "received 10 = forwarded 6 + passed 3 + dropped 1 + in flight 0   balance OK"
            ),
            "{text}"
        );
        assert!(
            text.contains("dropped 1 no_i_flag") && text.contains("passed 3 not_ours"),
            "{text}"
        );
        assert!(!text.contains("oversize"), "{text}");
    }

    #[test]
    fn the_direct_path_is_told_with_the_balance_of_both_ways() {
        let way = |received| DirectWayState {
            received,
            forwarded: 90,
            forwarded_bytes: 9000,
            lost: 1,
            in_flight: 2,
            balance_ok: received == 100,
            handed_up: BTreeMap::from([
                ("total".into(), 7),
                ("tcp_flags".into(), 7),
                ("ttl".into(), 0),
            ]),
        };
        let pod = |(name, mtu): (&str, u32)| {
            let pod = PodState {
                mtu,
                delivery: "classifier".into(),
                ..PodState::default()
            };
            (name.to_owned(), pod)
        };
        let direct = DirectState {
            mode: "flows".into(),
            pods: 2,
            express_flows: 3,
            promotions: 9,
            changes: 1,
            changes_by: BTreeMap::from([("filters".into(), 1)]),
            pods_left_out: BTreeMap::from([("veth7".into(), "it is limited".into())]),
            ring_flows: 1,
            why_not_express: Some("it is forbidden".into()),
            pods_max: 448,
            pod_devices: [("veth1", 1450), ("veth2", 1400)].map(pod).into(),
            out: way(100),
            into: way(101),
            ring_out: way(100),
            ..DirectState::default()
        };
        let observation = Observation {
            direct: Some(direct),
            ..Observation::default()
        };
        let status = Status::new(observation, 7);
        let text = status.to_string();
        let lines = "  direct    flows: 3 flows of 2 pods express, 1 in the ring gear; 9 promoted, all demoted 1 time (filters 1)\n            \
            none express: it is forbidden\n            \
            pods: 2 of at most 448, 0 by XDP; MTU 1400 to 1450 and offloads as they were\n            \
            not veth7: it is limited\n            \
            express from pods: received 100 = forwarded 90 + handed up 7 + lost 1 + in flight 2   balance OK\n            \
            handed up 7 tcp_flags\n            \
            express to pods: received 101 = forwarded 90 + handed up 7 + lost 1 + in flight 2   BALANCE BROKEN\n            \
            handed up 7 tcp_flags\n            \
            ring from pods: received 100 = forwarded 90 + handed up 7 + lost 1 + in flight 2   balance OK\n";
        assert!(text.contains(lines), "{text}");
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["direct"]["in"]["handed_up"]["tcp_flags"], 7);
        let mut direct = status.observation.direct.clone().unwrap();
        let lost = &mut direct.pod_devices.get_mut("veth2").unwrap().offloads_lost;
        lost.push("tx-tcp-segmentation".into());
        assert_eq!(
            PodsLine(&direct).to_string(),
            "pods: 2 of at most 448, 0 by XDP; MTU 1400 to 1450 as it was; veth2 lost tx-tcp-segmentation"
        );
        assert_eq!(serde_json::from_value::<Status>(json).unwrap(), status);
    }

    #[test]
    fn a_worker_is_told_with_its_place_on_the_machine() {
        let worker = WorkerState {
            worker: 0,
            core: Some(1),
            nice: Some(-20),
            busy_share: 0.125,
            turns: 7,
            busy_turns: 3,
            sleeps: 2,
            awake_ns: 1,
            asleep_ns: 7,
            heartbeat_age_ms: 1,
            alive: true,
            ..WorkerState::default()
        };
        assert_eq!(
            WorkerLine(&worker).to_string(),
            "0 on core 1, nice -20   busy 12.5 %   7 turns"
        );
        let mut near = worker.clone();
        (near.numa_node, near.memory_node) = (Some(1), Some(1));
        assert!(
            WorkerLine(&near)
                .to_string()
                .starts_with("0 on core 1 of NUMA node 1, nice")
        );
        near.memory_node = Some(0);
        let far = WorkerLine(&near).to_string();
        assert!(far.starts_with("0 on core 1 of NUMA node 1, its frames on node 0, nice"));
        let refused = WorkerState {
            core: None,
            nice: Some(0),
            nice_refused: Some("-20: Permission denied".into()),
            ..worker
        };
        assert_eq!(
            WorkerLine(&refused).to_string(),
            "0 on any core, nice 0 (not -20: Permission denied)   busy 12.5 %   7 turns"
        );
    }

    #[test]
    fn a_drop_is_told_with_the_kernels_name_and_what_it_means() {
        let line = drop_line("no_i_flag", 7);
        assert_eq!(
            line.trim_start(),
            "dropped 7 no_i_flag (kernel VXLAN_INVALID_HDR): The I flag is clear: not a valid VNI (RFC 7348 §5)."
        );
        assert!(drop_line("unknown_peer", 1).contains("unknown_peer: The outer source"));
        for reason in DropReason::ALL {
            let line = drop_line(reason.label(), 123_456_789);
            assert!(line.chars().count() <= COLUMNS, "{line}");
            let whole = line.ends_with('.') || line.ends_with('…');
            assert!(whole, "{line}");
        }
        let future = drop_line("of_the_future", 1);
        assert_eq!(future.trim_start(), "dropped 1 of_the_future");
    }

    #[test]
    fn offenders_and_policy_are_shown_and_survive_the_round_trip() {
        let offender = OffenderState {
            source: [192, 0, 2, 9].into(),
            vni: 1,
            inner_source: Some("02:00:00:00:00:09".into()),
            reason: "unknown_peer".into(),
            delivered: false,
            port: "eth1".into(),
            frames: 3,
            age_ms: 12_345,
        };
        let observation = Observation {
            policy: (&Policy::default()).into(),
            offenders: vec![offender; 10],
            ..Observation::default()
        };
        let status = Status::new(observation, 7);
        let text = status.to_string();
        for words in [
            "  policy    peer check strict, reserved bits device, ECN kernel, inner VLAN pass, UDP checksum auto\n",
            "  offenders 10, the latest first\n",
            " 192.0.2.9 VNI 1 inner source 02:00:00:00:00:09  3 dropped on eth1, unknown_peer; 12.3 s ago\n",
        ] {
            assert!(text.contains(words), "{text}");
        }
        assert_eq!(text.matches("192.0.2.9").count(), OFFENDERS_SHOWN);
        assert!(
            text.contains("            and 2 more: --json lists them\n"),
            "{text}"
        );
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["offenders"][0]["source"], "192.0.2.9");
        assert_eq!(json["policy"]["peer_check"], "strict");
        assert_eq!(serde_json::from_value::<Status>(json).unwrap(), status);
    }

    #[test]
    fn a_group_is_one_line_with_the_share_of_each_member() {
        let group = |count: u8| GroupState {
            device: "flannel.1".into(),
            nexthop: 10,
            members: (0..count)
                .map(|last| MemberState {
                    addr: [10, 0, 0, last].into(),
                    share: 1.0 / f64::from(count),
                })
                .collect(),
        };
        let text = |groups| {
            let observation = Observation {
                groups,
                ..Observation::default()
            };
            Status::new(observation, 7).to_string()
        };
        assert!(!text(vec![]).contains("group"), "where there are none");
        let one = text(vec![group(3)]);
        let line =
            "  group     flannel.1 nexthop 10: 10.0.0.0 33.3 %, 10.0.0.1 33.3 %, 10.0.0.2 33.3 %\n";
        assert!(one.contains(line), "{one}");
        let many = text(vec![group(10); 11]);
        assert!(many.contains("10.0.0.7 10.0 % and 2 more\n"), "{many}");
        assert!(many.contains("and 3 more: --json lists them"), "{many}");
    }

    #[test]
    fn a_vteps_address_and_port_are_told_apart_and_what_has_none_is_said_in_words() {
        let line = |addr: &str, carried_by: &str| {
            let vtep = VtepState {
                device: "vx".into(),
                vni: 1,
                addr: addr.parse().unwrap(),
                port: 8472,
                next_hop: None,
                next_hop_mac: None,
                state: "no_neighbour".into(),
                path_mtu: 1500,
                carried_by: carried_by.into(),
            };
            VtepLine(&vtep).to_string()
        };
        assert_eq!(
            line("10.9.0.2", "vxgate"),
            "vx VNI 1 10.9.0.2:8472  no_neighbour  path MTU 1500"
        );
        assert_eq!(
            line("fd00::2", "vxgate"),
            "vx VNI 1 [fd00::2]:8472  no_neighbour  path MTU 1500"
        );
        assert_eq!(
            line("0.0.0.0", "kernel"),
            "vx VNI 1 by another device, or without an address  the kernel's"
        );
    }

    #[test]
    fn a_reason_degrades_and_json_survives_the_round_trip() {
        let observation = Observation {
            reasons: vec!["worker 0 hangs".into()],
            ports: vec![port()],
            ..Default::default()
        };
        let status = Status::new(observation, 1);
        assert_eq!(status.state, Health::Degraded);
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["schema"], "vxgate/1");
        assert_eq!(json["state"], "degraded");
        assert_eq!(json["ports"][0]["drops"]["no_i_flag"], 1);
        assert_eq!(serde_json::from_value::<Status>(json).unwrap(), status);
    }

    #[test]
    fn the_answer_of_an_older_daemon_without_the_newer_keys_is_understood() {
        let json = serde_json::json!({
            "schema": SCHEMA, "state": "healthy", "version": "0", "pid": 1, "uptime_s": 1,
            "reasons": [], "warnings": [], "workers": [], "ports": [],
            "mirror": { "publications": 0, "resyncs": 0 },
            "devices": [{
                "name": "vx", "ifindex": 4, "vni": 1, "port": 8472, "local": "10.9.0.1", "mtu": 1450,
                "underlay": "u0", "access": null, "taken_over": true, "refused": null,
                "fdb_entries": 1, "flood_entries": 0,
            }],
            "vteps": [{
                "device": "vx", "vni": 1, "addr": "10.9.0.2", "port": 8472, "next_hop": null,
                "next_hop_mac": null, "state": "no_neighbour", "path_mtu": 1500,
            }],
        });
        let text = serde_json::from_value::<Status>(json).unwrap().to_string();
        assert!(
            text.contains("taken over, 1 FDB entries, 0 flood\n"),
            "{text}"
        );
        assert!(
            text.contains("10.9.0.2:8472  no_neighbour  path MTU 1500\n"),
            "{text}"
        );
    }
}
