//! The devices below: whether frames pass, how XDP runs there and why not better, and offloads that are in its way.

use crate::doctor::facts::{Facts, Underlay};
use crate::doctor::finding::Finding;
use crate::fault::Fault;
use crate::gateway::PortState;
use crate::table::UdpChecksumRx;

/// Offloads that make one frame of several before XDP sees them.
const MERGING: [&str; 2] = ["rx-lro", "rx-gro-hw"];

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    facts
        .underlays
        .iter()
        .flat_map(|underlay| {
            let parts = [
                link(underlay),
                mode(facts, underlay),
                merging(underlay),
                checksums(facts, underlay),
            ];
            let name = underlay.link.name.clone();
            parts
                .into_iter()
                .flatten()
                .map(move |found| found.of(&name))
        })
        .collect()
}

fn link(underlay: &Underlay) -> Option<Finding> {
    const CHECK: &str = "link";
    let (link, name) = (&underlay.link, &underlay.link.name);
    match (link.up, link.running) {
        (false, _) => Some(
            Finding::fault(CHECK, Fault::UnderlayDown, "it is down")
                .command(["ip", "link", "set", "dev", name, "up"]),
        ),
        (true, false) => Some(Finding::fault(
            CHECK,
            Fault::UnderlayDown,
            "it is up, and has no carrier",
        )),
        (true, true) => None,
    }
}

fn mode(facts: &Facts, underlay: &Underlay) -> Option<Finding> {
    const CHECK: &str = "xdp-mode";
    let driver = underlay.driver.as_ref();
    let driver = driver.map_or_else(String::new, |driver| format!(", driver {driver}"));
    let status = facts.daemon.status();
    let port = status.and_then(|status| {
        let mut ports = status.observation.ports.iter();
        ports.find(|port| port.ifindex == underlay.link.ifindex && port.role == "underlay")
    });
    if let Some(port) = port {
        return Some(running(port, &driver));
    }
    let Some(features) = underlay.xdp else {
        let what = format!(
            "XDP{driver}: the kernel does not tell what the driver can do (since Linux 6.3)"
        );
        return Some(Finding::not_applicable(CHECK, what));
    };
    if !features.is_native() {
        let what = format!("the driver has no native XDP{driver}");
        return Some(Finding::warning(CHECK, Fault::GenericXdpOnly, what));
    }
    if facts.plan.needs_chains() && !features.has_chains() {
        let what = format!(
            "native XDP only of frames in one buffer, and its MTU of {} takes several{driver}",
            underlay.link.mtu
        );
        return Some(Finding::warning(CHECK, Fault::GenericXdpOnly, what));
    }
    let copies = if features.has_zero_copy() {
        "zero-copy, if it can be had"
    } else {
        "with a copy: the driver has no zero-copy"
    };
    Some(Finding::ok(CHECK, format!("native XDP, {copies}{driver}")))
}

/// What the daemon got.
fn running(port: &PortState, driver: &str) -> Finding {
    const CHECK: &str = "xdp-mode";
    let copies = if port.zero_copy {
        "zero-copy"
    } else {
        "with a copy"
    };
    let why = port.why_not_better.as_ref();
    let why = why.map_or_else(String::new, |why| format!("; not better: {why}"));
    let what = format!("{} XDP, {copies}{driver}{why}", port.xdp_mode);
    if port.xdp_mode == "native" {
        Finding::ok(CHECK, what)
    } else {
        Finding::warning(CHECK, Fault::GenericXdpOnly, what)
    }
}

fn merging(underlay: &Underlay) -> Option<Finding> {
    let on = underlay.offloads.iter().map(String::as_str);
    let on: Vec<_> = on.filter(|name| MERGING.contains(name)).collect();
    if on.is_empty() {
        return None;
    }
    let what = format!("it merges frames before XDP sees them: {}", on.join(", "));
    let mut command = vec!["ethtool", "-K", &underlay.link.name];
    command.extend(on.iter().flat_map(|name| [*name, "off"]));
    // A driver may reset the link for it: the operator's moment.
    Some(Finding::warning("merging", Fault::FramesMerged, what).command(command))
}

/// Where sums are verified that nobody may have finished.
fn checksums(facts: &Facts, underlay: &Underlay) -> Option<Finding> {
    const CHECK: &str = "checksums";
    let status = facts.daemon.status()?;
    let verifies = status.observation.policy.udp_checksum_rx == UdpChecksumRx::Verify.label();
    let kind = underlay.link.kind.as_ref()?;
    verifies.then(|| {
        let what = format!("outer UDP checksums are verified, and it is of kind {kind}");
        Finding::warning(CHECK, Fault::VerifiesUnfinished, what)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Verdict, healthy};
    use crate::netlink::XdpFeatures;

    fn findings(change: impl FnOnce(&mut Facts)) -> Vec<Finding> {
        let mut facts = healthy::node();
        change(&mut facts);
        check(&facts)
    }

    fn only_bad(findings: Vec<Finding>) -> Finding {
        let mut bad = findings
            .into_iter()
            .filter(|finding| finding.result >= Verdict::Warning);
        let first = bad.next().expect("something is wrong");
        assert_eq!(bad.next(), None);
        first
    }

    #[test]
    fn a_link_without_carrier_is_a_fault_and_one_that_is_down_has_a_command() {
        let unplugged = only_bad(findings(|facts| facts.underlays[0].link.running = false));
        assert!(unplugged.what.contains("carrier"));
        let down = only_bad(findings(|facts| facts.underlays[0].link.up = false));
        assert!(down.to_string().contains("fix  ip link set dev eth1 up"));
    }

    #[test]
    fn what_the_driver_can_do_is_told_and_why_not_better() {
        let mode = |bits: Option<u64>| {
            let all = findings(|facts| facts.underlays[0].xdp = bits.map(XdpFeatures));
            (all[0].result, all[0].what.clone())
        };
        let (verdict, what) = mode(Some(0x2b));
        assert!(
            verdict == Verdict::Ok && what.contains("zero-copy, if"),
            "{what}"
        );
        assert_eq!(mode(Some(0)).0, Verdict::Warning);
        assert_eq!(mode(None).0, Verdict::NotApplicable);
        let jumbo = findings(|facts| {
            facts.plan.devices[0].device.mtu = 8950;
            facts.underlays[0].xdp = Some(XdpFeatures(3));
        });
        assert!(only_bad(jumbo).what.contains("one buffer"));
    }

    #[test]
    fn a_running_daemon_knows_better_than_the_driver() {
        let mut facts = healthy::served();
        assert!(check(&facts)[0].what.contains("not better: veth"));
        let Some(status) = healthy::status_of(&mut facts) else {
            panic!("it is served");
        };
        status.observation.ports[0].xdp_mode = "generic".into();
        status.observation.policy.udp_checksum_rx = "verify".into();
        let codes: Vec<_> = check(&facts).into_iter().filter_map(|f| f.code).collect();
        let expected = [Fault::GenericXdpOnly, Fault::VerifiesUnfinished];
        assert_eq!(codes, expected.map(Fault::code));
    }

    #[test]
    fn merging_offloads_are_named_with_the_command() {
        let merged = only_bad(findings(|facts| {
            facts.underlays[0].offloads = vec!["rx-lro".into(), "rx-checksum".into()];
        }));
        assert!(
            merged
                .to_string()
                .contains("fix  ethtool -K eth1 rx-lro off\n")
        );
        assert_eq!(merged.mend(), None);
    }
}
