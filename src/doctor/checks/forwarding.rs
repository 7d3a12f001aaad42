//! Settings of the kernel without which pods do not reach the overlay: forwarding, and the filter of reverse paths.

use std::net::IpAddr;

use crate::doctor::facts::{Facts, Overlay};
use crate::doctor::finding::Finding;
use crate::fault::Fault;

const CHECK: &str = "forwarding";
/// `rp_filter`: a frame's sender must be answered by the device that it came in by.
const STRICT: u32 = 1;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let overlays = facts.overlays.iter();
    let routed: Vec<_> = overlays
        .filter(|overlay| overlay.is_routed() && serves_others(facts, overlay))
        .collect();
    if routed.is_empty() {
        let what = "forwarding: no vxlan device is routed to from pods";
        return vec![Finding::not_applicable(CHECK, what)];
    }
    let mut findings = Vec::new();
    let has_address = |ipv4: bool| {
        let mut all = routed.iter();
        all.any(|overlay| has_address(facts, overlay, ipv4))
    };
    let sysctls = &facts.sysctls;
    for (ipv4, forwards, key) in [
        (true, sysctls.ip_forward, "net.ipv4.ip_forward"),
        (false, sysctls.ipv6_forward, "net.ipv6.conf.all.forwarding"),
    ] {
        if has_address(ipv4) && forwards == Some(false) {
            let finding = Finding::fault(CHECK, Fault::ForwardingOff, format!("{key} is 0"));
            findings.push(finding.mended_by(["sysctl", "-w", &format!("{key}=1")]));
        }
    }
    for overlay in &routed {
        findings.extend(of_overlay(facts, overlay));
    }
    if findings.is_empty() {
        let what = "the kernel forwards between pods and overlay, and filters no reverse path";
        findings.push(Finding::ok(CHECK, what));
    }
    findings
}

fn of_overlay(facts: &Facts, overlay: &Overlay) -> Vec<Finding> {
    let name = overlay.name();
    // How sysctl(8) writes a dot that is part of a name.
    let key = |setting: &str| format!("net.ipv4.conf.{}.{setting}", name.replace('.', "/"));
    let mut findings = Vec::new();
    if !has_address(facts, overlay, true) {
        return findings;
    }
    if facts.sysctls.ip_forward != Some(false) && overlay.forwarding == Some(false) {
        let (key, what) = (
            key("forwarding"),
            "frames that come out of it are not forwarded",
        );
        findings.push(
            Finding::fault(CHECK, Fault::ForwardingOff, what)
                .mended_by(["sysctl", "-w", &format!("{key}=1")])
                .of(name),
        );
    }
    let strict = facts.sysctls.rp_filter.max(overlay.rp_filter) == Some(STRICT);
    if strict {
        let key = key("rp_filter");
        let what = "reverse paths are filtered strictly (rp_filter is 1)";
        // It makes the node less strict: the operator's choice.
        findings.push(
            Finding::warning(CHECK, Fault::ReversePathStrict, what)
                .command(["sysctl", "-w", &format!("{key}=2")])
                .of(name),
        );
    }
    findings
}

/// Whether frames of others than this host itself go through a device: it has the address of a host alone, as flannel and Calico
/// give it, or there is a bridge whose network it shares.
fn serves_others(facts: &Facts, overlay: &Overlay) -> bool {
    let ifindex = overlay.found.device.ifindex;
    let mut own = facts.addresses.iter().filter(|one| one.ifindex == ifindex);
    let of_a_host = own.any(|one| one.prefix_len == if one.local.is_ipv4() { 32 } else { 128 });
    of_a_host || !super::mtu::bridges(facts, overlay).is_empty()
}

/// Whether a device has an address by which frames are routed.
fn has_address(facts: &Facts, overlay: &Overlay, ipv4: bool) -> bool {
    let ifindex = overlay.found.device.ifindex;
    facts.addresses.iter().any(|address| {
        let local = match address.local {
            IpAddr::V4(_) => false,
            IpAddr::V6(addr) => addr.is_unicast_link_local(),
        };
        address.ifindex == ifindex && address.local.is_ipv4() == ipv4 && !local
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Verdict, healthy};

    fn commands(change: impl FnOnce(&mut Facts)) -> Vec<String> {
        let mut facts = healthy::node();
        change(&mut facts);
        let bad = check(&facts)
            .into_iter()
            .filter(|finding| finding.result >= Verdict::Warning);
        bad.map(|finding| {
            let automatic = if finding.mend().is_some() {
                ""
            } else {
                "by hand: "
            };
            let command = finding.fix.and_then(|fix| fix.command).unwrap();
            format!("{automatic}{}", command.join(" "))
        })
        .collect()
    }

    #[test]
    fn what_is_off_is_told_with_the_setting() {
        assert_eq!(commands(|_| {}), [""; 0]);
        assert_eq!(
            commands(|facts| facts.sysctls.ip_forward = Some(false)),
            ["sysctl -w net.ipv4.ip_forward=1"]
        );
        assert_eq!(
            commands(|facts| facts.overlays[0].forwarding = Some(false)),
            ["sysctl -w net.ipv4.conf.flannel/1.forwarding=1"]
        );
        assert_eq!(
            commands(|facts| facts.sysctls.ipv6_forward = Some(false)),
            [""; 0],
            "it has no IPv6 address"
        );
    }

    #[test]
    fn the_stricter_of_two_filters_counts_unless_one_is_loose() {
        let expected = ["by hand: sysctl -w net.ipv4.conf.flannel/1.rp_filter=2"];
        assert_eq!(
            commands(|facts| facts.sysctls.rp_filter = Some(1)),
            expected
        );
        assert_eq!(
            commands(|facts| facts.overlays[0].rp_filter = Some(1)),
            expected
        );
        assert_eq!(
            commands(|facts| {
                facts.sysctls.rp_filter = Some(1);
                facts.overlays[0].rp_filter = Some(2);
            }),
            [""; 0]
        );
    }

    #[test]
    fn a_device_of_this_host_alone_needs_no_forwarding() {
        let mut facts = healthy::node();
        facts.sysctls.ip_forward = Some(false);
        let overlay = facts.overlays[0].found.device.ifindex;
        facts.addresses.retain(|one| one.ifindex != healthy::BRIDGE);
        for address in facts.addresses.iter_mut() {
            if address.ifindex == overlay {
                address.prefix_len = 24;
            }
        }
        assert_eq!(check(&facts)[0].result, Verdict::NotApplicable);
    }

    #[test]
    fn a_device_in_a_bridge_needs_no_forwarding() {
        let mut facts = healthy::node();
        facts.overlays[0].master = Some(healthy::BRIDGE);
        facts.sysctls.ip_forward = Some(false);
        assert_eq!(check(&facts)[0].result, Verdict::NotApplicable);
    }
}
