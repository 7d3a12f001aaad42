//! `vxgate status`: one screen that says whether it is healthy, and why. Text and JSON come from the same value.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::gateway::{DeviceState, GroupState, Observation, PortState, VtepState};

/// The schema of every JSON answer; keys are added, never renamed.
pub const SCHEMA: &str = "vxgate/1";

/// VTEPs listed on the screen; JSON has them all.
const VTEPS_SHOWN: usize = 16;

/// Nexthop groups listed on the screen, and members of each.
const GROUPS_SHOWN: usize = 8;
const MEMBERS_SHOWN: usize = 8;

/// Whether frames flow as they should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Every device that was asked for is carried by live workers.
    Healthy,
    /// Something is wrong; frames take the kernel's path where vxgate cannot carry them.
    Degraded,
}

/// The answer to `status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Everything else.
    #[serde(flatten)]
    pub observation: Observation,
}

impl Status {
    /// Judges an observation.
    pub fn new(observation: Observation, uptime_s: u64) -> Self {
        let state = if observation.reasons.is_empty() {
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
            observation,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.state {
            Health::Healthy => "HEALTHY",
            Health::Degraded => "DEGRADED",
        };
        let seen = &self.observation;
        writeln!(
            f,
            "vxgate {}  pid {}  up {} s   {verdict}",
            self.version, self.pid, self.uptime_s
        )?;
        for reason in &seen.reasons {
            writeln!(f, "  reason    {reason}")?;
        }
        for device in &seen.devices {
            writeln!(f, "  device    {}", DeviceLine(device))?;
        }
        for port in &seen.ports {
            write!(f, "{}", PortLines(port))?;
        }
        for worker in &seen.workers {
            let core = worker
                .core
                .map_or_else(|| "any core".to_owned(), |core| format!("core {core}"));
            let life = if worker.alive { "" } else { "   NOT ALIVE" };
            let busy = worker.busy_share * 100.0;
            writeln!(
                f,
                "  worker    {} on {core}   busy {busy:.1} %   {} turns{life}",
                worker.worker, worker.turns
            )?;
        }
        let resolved = seen
            .vteps
            .iter()
            .filter(|vtep| vtep.state == "resolved")
            .count();
        writeln!(f, "  vteps     {} ({resolved} resolved)", seen.vteps.len())?;
        for vtep in seen.vteps.iter().take(VTEPS_SHOWN) {
            writeln!(f, "            {}", VtepLine(vtep))?;
        }
        if seen.vteps.len() > VTEPS_SHOWN {
            writeln!(
                f,
                "            and {} more: --json lists them",
                seen.vteps.len() - VTEPS_SHOWN
            )?;
        }
        for group in seen.groups.iter().take(GROUPS_SHOWN) {
            writeln!(f, "  group     {}", GroupLine(group))?;
        }
        if seen.groups.len() > GROUPS_SHOWN {
            let more = seen.groups.len() - GROUPS_SHOWN;
            writeln!(f, "            and {more} more: --json lists them")?;
        }
        for warning in &seen.warnings {
            writeln!(f, "  warning   {warning}")?;
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
        match &port.why_not_better {
            Some(why) => writeln!(f, "; not better: {why}")?,
            None => writeln!(f)?,
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
        for (kind, counts) in [("passed", &port.passed), ("dropped", &port.drops)] {
            for (reason, count) in counts
                .iter()
                .filter(|(reason, count)| *reason != "total" && **count > 0)
            {
                writeln!(f, "            {kind} {count} {reason}")?;
            }
        }
        Ok(())
    }
}

struct VtepLine<'a>(&'a VtepState);

impl fmt::Display for VtepLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vtep = self.0;
        write!(
            f,
            "{} VNI {} {}:{}  {}",
            vtep.device, vtep.vni, vtep.addr, vtep.port, vtep.state
        )?;
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
            received: 10,
            forwarded: 6,
            flood_copies: 0,
            flood_copies_lost: 0,
            forwarded_bytes: 600,
            checksums_completed: 0,
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
}
