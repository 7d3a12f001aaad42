//! The MTU along the path: underlay, vxlan device, bridge, and the pods' devices on it.

use std::net::IpAddr;

use crate::doctor::facts::{Facts, Overlay};
use crate::doctor::finding::{Finding, Verdict};
use crate::fault::Fault;
use crate::netlink::Link;
use crate::table::{OUTER_IPV4_LEN, OUTER_IPV6_LEN};

const CHECK: &str = "mtu";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    facts
        .overlays
        .iter()
        .flat_map(|overlay| of_overlay(facts, overlay))
        .collect()
}

fn of_overlay(facts: &Facts, overlay: &Overlay) -> Vec<Finding> {
    let (mtu, name) = (overlay.found.device.mtu, overlay.name());
    let mut findings = Vec::new();
    let Some(underlay) = &overlay.found.underlay else {
        return findings;
    };
    let outer = outer_len(overlay);
    let fits = underlay.mtu.saturating_sub(outer);
    if mtu > fits {
        let what = format!(
            "its MTU is {mtu}, and {} has {}: less {outer} that is {fits}",
            underlay.name, underlay.mtu
        );
        findings.push(too_large(name, what, fits));
    }
    let above = above(facts, overlay);
    let limit = widest(facts, overlay);
    let wide = above.iter().filter(|link| link.mtu > limit).map(|link| {
        let what = format!("its MTU is {}, and that of {name} is {limit}", link.mtu);
        let finding = too_large(&link.name, what, limit);
        if !overlay.is_routed() {
            return finding;
        }
        // The kernel tells whoever sends too much.
        Finding {
            result: Verdict::Warning,
            ..finding.because(
                "Pods send packets that do not fit the tunnel. The kernel answers each of them that it is too long; where such \
                 answers get lost, connections begin and then stand still.",
            )
        }
    });
    findings.extend(super::first_of(wide.collect()));
    if findings.is_empty() {
        let mut what = format!(
            "MTU {mtu} = {} of {} - {outer}",
            underlay.mtu, underlay.name
        );
        if mtu < fits {
            what = format!(
                "MTU {mtu}, {} of {} - {outer} would be {fits}",
                underlay.mtu, underlay.name
            );
        }
        if above.iter().any(|link| link.mtu > mtu) {
            what.push_str(
                "; pods may send more over IPv4, and learn the MTU of IPv6 from the kernel",
            );
        } else if let [first, others @ ..] = &above[..] {
            let ports = match others.len() {
                1 => "one port".to_owned(),
                count => format!("{count} ports"),
            };
            what.push_str(&format!("; {} and its {ports} fit", first.name));
        }
        findings.push(Finding::ok(CHECK, what).of(name));
    }
    findings
}

/// What may come from the bridge above a device: its own MTU, or that of a wider device which shares the bridge, as flannel's
/// device for IPv4 does.
fn widest(facts: &Facts, overlay: &Overlay) -> u32 {
    let bridges = bridges(facts, overlay);
    let shares = |other: &&Overlay| {
        other.is_routed()
            && overlay.is_routed()
            && self::bridges(facts, other)
                .iter()
                .any(|bridge| bridges.iter().any(|own| own.ifindex == bridge.ifindex))
    };
    let others = facts.overlays.iter().filter(shares).map(room);
    others.max().unwrap_or(0).max(room(overlay))
}

/// The inner packet that fits a device, and its underlay.
fn room(overlay: &Overlay) -> u32 {
    let underlay = overlay.found.underlay.as_ref();
    let fits = underlay.map_or(u32::MAX, |link| link.mtu.saturating_sub(outer_len(overlay)));
    overlay.found.device.mtu.min(fits)
}

fn too_large(device: &str, what: String, fits: u32) -> Finding {
    let fits = fits.to_string();
    Finding::fault(CHECK, Fault::MtuTooLarge, what)
        .mended_by(["ip", "link", "set", "dev", device, "mtu", &fits])
        .of(device)
}

/// What encapsulation adds to an inner IP packet: the outer headers less the outer Ethernet header, and the inner one.
fn outer_len(overlay: &Overlay) -> u32 {
    let len = match overlay.found.device.local {
        Some(IpAddr::V6(_)) => OUTER_IPV6_LEN,
        _ => OUTER_IPV4_LEN,
    };
    len as u32
}

/// The bridge through which a vxlan device's frames come from pods: the one that it is a port of, or whose network contains
/// its address.
pub(super) fn bridges<'a>(facts: &'a Facts, overlay: &Overlay) -> Vec<&'a Link> {
    let own = overlay.found.device.ifindex;
    let bridges = facts.links.iter().filter(|link| {
        link.kind.as_deref() == Some("bridge")
            && match overlay.master {
                Some(master) => link.ifindex == master,
                None => shares_a_network(facts, link.ifindex, own),
            }
    });
    bridges.collect()
}

/// The same, each with the devices on it.
fn above<'a>(facts: &'a Facts, overlay: &Overlay) -> Vec<&'a Link> {
    let mut all = Vec::new();
    for bridge in bridges(facts, overlay) {
        all.push(bridge);
        let ports = facts.links.iter().filter(|link| {
            link.master == Some(bridge.ifindex) && link.kind.as_deref() != Some("vxlan")
        });
        all.extend(ports);
    }
    all
}

/// Whether the network of some address of a bridge contains one of the device.
fn shares_a_network(facts: &Facts, bridge: u32, device: u32) -> bool {
    let of = |ifindex: u32| {
        let addresses = facts.addresses.iter();
        addresses.filter(move |address| address.ifindex == ifindex)
    };
    of(bridge).any(|network| {
        of(device).any(|address| contains(network.local, network.prefix_len, address.local))
    })
}

fn contains(network: IpAddr, prefix_len: u8, addr: IpAddr) -> bool {
    let bits = u32::from(prefix_len);
    match (network, addr) {
        (IpAddr::V4(network), IpAddr::V4(addr)) => {
            let differ = network.to_bits() ^ addr.to_bits();
            differ.checked_shr(32_u32.saturating_sub(bits)).unwrap_or(0) == 0
        }
        // Every link has addresses of the same local network.
        (IpAddr::V6(network), IpAddr::V6(addr)) if !addr.is_unicast_link_local() => {
            let differ = network.to_bits() ^ addr.to_bits();
            differ
                .checked_shr(128_u32.saturating_sub(bits))
                .unwrap_or(0)
                == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::healthy;

    fn bad(change: impl FnOnce(&mut Facts)) -> Vec<String> {
        let mut facts = healthy::node();
        change(&mut facts);
        let bad = check(&facts)
            .into_iter()
            .filter(|finding| finding.result >= Verdict::Warning);
        bad.map(|finding| finding.mend().unwrap().join(" "))
            .collect()
    }

    fn mtu_of(facts: &mut Facts, name: &str, mtu: u32) {
        let mut links = facts.links.iter_mut();
        links.find(|link| link.name == name).unwrap().mtu = mtu;
    }

    #[test]
    fn each_device_that_is_too_wide_has_its_command() {
        assert_eq!(bad(|_| {}), [""; 0]);
        let wide = bad(|facts| facts.overlays[0].found.device.mtu = 1500);
        assert_eq!(wide, ["ip link set dev flannel.1 mtu 1450"]);
        let bridge = bad(|facts| mtu_of(facts, "cni0", 1500));
        assert_eq!(bridge, ["ip link set dev cni0 mtu 1450"]);
        let pod = bad(|facts| mtu_of(facts, "veth-web2", 1451));
        assert_eq!(pod, ["ip link set dev veth-web2 mtu 1450"]);
        let foreign = bad(|facts| {
            let mut links = facts.links.iter_mut();
            links.find(|link| link.name == "cni0").unwrap().kind = Some("veth".into());
            mtu_of(facts, "cni0", 9000);
        });
        assert_eq!(foreign, [""; 0], "no bridge of the overlay");
    }

    #[test]
    fn over_ipv6_it_is_seventy_bytes() {
        let wide = bad(|facts| {
            facts.overlays[0].found.device.local = Some("fd00::1".parse().unwrap());
        });
        assert_eq!(wide[0], "ip link set dev flannel.1 mtu 1430");
    }

    #[test]
    fn a_narrower_device_on_the_same_bridge_says_nothing_against_the_bridge() {
        let mut facts = healthy::node();
        let mut six = facts.overlays[0].clone();
        six.found.device.ifindex += 100;
        six.found.device.mtu = 1430;
        six.found.device.local = Some("fd00::11".parse().unwrap());
        let own = crate::netlink::Address {
            ifindex: six.found.device.ifindex,
            local: "10.244.1.0".parse().unwrap(),
            prefix_len: 32,
        };
        facts.addresses.push(own);
        facts.overlays.push(six);
        let findings = check(&facts);
        assert!(
            findings.iter().all(|one| one.result == Verdict::Ok),
            "{findings:?}"
        );
        assert!(
            findings[1].what.contains("pods may send more"),
            "{findings:?}"
        );
    }

    #[test]
    fn a_bridge_that_the_device_is_a_port_of_counts_whatever_its_addresses() {
        let wide = bad(|facts| {
            facts.overlays[0].master = Some(healthy::BRIDGE);
            facts.addresses.clear();
            mtu_of(facts, "cni0", 1500);
        });
        assert_eq!(wide, ["ip link set dev cni0 mtu 1450"]);
    }

    #[test]
    fn networks_contain_their_addresses() {
        let contains = |network: &str, bits, addr: &str| {
            contains(network.parse().unwrap(), bits, addr.parse().unwrap())
        };
        assert!(contains("10.244.1.1", 24, "10.244.1.0"));
        assert!(!contains("10.244.1.1", 24, "10.244.2.0"));
        assert!(contains("10.244.1.1", 0, "192.0.2.1"));
        assert!(contains("fd00:1::1", 64, "fd00:1::"));
        assert!(!contains("fe80::1", 64, "fe80::2"));
        assert!(!contains("fd00::1", 0, "10.0.0.1"));
    }
}
