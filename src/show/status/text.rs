//! The screen.

use std::fmt;
use std::net::SocketAddr;

use super::Status;
use super::device::DeviceLine;
use super::direct::DirectLines;
use super::port::PortLines;
use crate::gateway::{
    CaptureState, GroupState, OffenderState, PolicyState, VtepState, WorkerState,
};

/// VTEPs listed on the screen; JSON has them all.
const VTEPS_SHOWN: usize = 16;
/// Offenders listed on the screen; JSON has them all.
const OFFENDERS_SHOWN: usize = 8;
/// Warnings on the screen; JSON has them all.
const WARNINGS_SHOWN: usize = 32;
/// Captures listed on the screen: there are no more.
const CAPTURES_SHOWN: usize = 8;
/// Nexthop groups listed on the screen, and members of each.
const GROUPS_SHOWN: usize = 8;
const MEMBERS_SHOWN: usize = 8;

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
    use crate::gateway::{MemberState, Observation};
    use crate::table::Policy;

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
}
