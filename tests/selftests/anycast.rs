//! Two leaves that route between two VXLAN segments, with the same gateway addresses on both, over a spine.
//!
//! ```text
//!   h1 10.1.1.101 ── br10 ── vx10 (1010) ┐                          ┌ vx10 ── br10 ── h3 10.1.1.102
//!   h2 10.1.2.101 ── br20 ── vx20 (1020) ┤ leaf1 ── spine ── leaf2  ┤ vx20 ── br20 ── h4 10.1.2.102
//!                    br99 ── vx99 (104001)                           vx99 ── br99
//! ```
//!
//! Each bridge is the leaf's interface of its VLAN; a macvlan on it has the gateway's address 10.1.x.1 with the MAC
//! 00:00:5e:00:01:01 of all leaves. Symmetric: what is for a host behind the other leaf is routed twice and crosses in the L3
//! VNI. Asymmetric: it is routed by the first leaf and crosses in the VNI of its destination.

use std::time::Duration;

use crate::carrier::{Carried, Carrier};
use crate::net::Net;
use crate::support::frames::mac_text;
use crate::support::wait_until;
use crate::topology_a::ATTRIBUTES;

const GATEWAY_MAC: &str = "00:00:5e:00:01:01";

scenarios! {
    vxlan_symmetric_ping
    vxlan_symmetric_ipv6_ping
    vxlan_asymmetric_ping
    vxlan_asymmetric_ipv6_ping
}

fn vxlan_symmetric_ping(carrier: Carrier) {
    five_pings(
        carrier,
        Plan {
            ipv6: false,
            symmetric: true,
        },
    );
}

fn vxlan_symmetric_ipv6_ping(carrier: Carrier) {
    five_pings(
        carrier,
        Plan {
            ipv6: true,
            symmetric: true,
        },
    );
}

fn vxlan_asymmetric_ping(carrier: Carrier) {
    five_pings(
        carrier,
        Plan {
            ipv6: false,
            symmetric: false,
        },
    );
}

fn vxlan_asymmetric_ipv6_ping(carrier: Carrier) {
    five_pings(
        carrier,
        Plan {
            ipv6: true,
            symmetric: false,
        },
    );
}

/// Family of the underlay and of the hosts, and how is routed.
#[derive(Clone, Copy)]
struct Plan {
    ipv6: bool,
    symmetric: bool,
}

impl Plan {
    /// An address in the subnet of segment 1 or 2.
    fn host(self, segment: u8, number: u8) -> String {
        if self.ipv6 {
            format!("2001:db8:{segment}::{number}")
        } else {
            format!("10.1.{segment}.{number}")
        }
    }

    /// An address on the cable of a leaf to the spine, and that of its VTEP.
    fn underlay(self, leaf: u8, number: u8) -> String {
        if self.ipv6 {
            format!("2001:db8:10{leaf}::{number}")
        } else {
            format!("10.0.{leaf}.{number}")
        }
    }

    fn subnet_len(self) -> u8 {
        if self.ipv6 { 64 } else { 24 }
    }

    fn host_len(self) -> u8 {
        if self.ipv6 { 128 } else { 32 }
    }
}

/// The hosts of leaf 1 are h1 and h2, those of leaf 2 h3 and h4; first that of segment 1.
fn hosts_of(leaf: u8) -> [(String, u8, u8); 2] {
    [1, 2].map(|segment| {
        (
            format!("h{}", 2 * (leaf - 1) + segment),
            segment,
            100 + leaf,
        )
    })
}

fn five_pings(carrier: Carrier, plan: Plan) {
    let net = Net::new(
        &["h1", "h2", "h3", "h4", "leaf1", "leaf2", "spine"],
        plan.ipv6,
    );
    for leaf in [1, 2] {
        let name = format!("leaf{leaf}");
        for (host, segment, _) in hosts_of(leaf) {
            net.cable([&host, "eth0"], [&name, &format!("swp{segment}")]);
        }
        net.cable([&name, "rp"], ["spine", &format!("rp{leaf}")]);
    }
    for leaf in [1, 2] {
        underlay_and_segments(&net, plan, leaf);
        hosts(&net, plan, leaf);
    }
    for leaf in [1, 2] {
        know_the_other(&net, plan, leaf);
    }
    let carried = Carried::start(carrier, net.ns("leaf1"), &["vx10", "vx20", "vx99"]);
    let pings = [
        ("h1", 2, 101, "next door, routed"),
        ("h1", 1, 102, "segment 1 to segment 1"),
        ("h2", 2, 102, "segment 2 to segment 2"),
        ("h1", 2, 102, "segment 1 to segment 2"),
        ("h2", 1, 102, "segment 2 to segment 1"),
    ];
    for (from, segment, number, what) in pings {
        let to = plan.host(segment, number);
        wait_until(what, Duration::from_secs(20), || net.reaches(from, &to));
        net.ping(from, &to, 10, "");
    }
    if let Some(vxgate) = carried.vxgate() {
        let status = vxgate.balanced();
        let l3 = status.list("ports").find(|port| port["name"] == "vx99");
        let forwarded = l3.expect("a port of vx99")["forwarded"]
            .as_u64()
            .expect("a count");
        assert_eq!(
            plan.symmetric,
            forwarded >= 20,
            "{forwarded} frames in the L3 VNI"
        );
    }
    carried.finish(40, 40);
}

/// A leaf's own part: way to the spine, a bridge and a device a segment, and the gateway's addresses.
fn underlay_and_segments(net: &Net, plan: Plan, leaf: u8) {
    let other = 3 - leaf;
    let [own, spine, remote] = [
        plan.underlay(leaf, 1),
        plan.underlay(leaf, 254),
        plan.underlay(other, 1),
    ];
    let len = plan.subnet_len();
    net.script(
        "spine",
        &format!(
            "ip addr add {spine}/{len} dev rp{leaf}
             sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1"
        ),
    );
    let mut lines = format!(
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
         ip addr add {own}/{len} dev rp
         ip route replace {remote}/{} via {spine}\n",
        plan.host_len()
    );
    for (vlan, vni, more) in [
        (10, 1010, format!("remote {remote}")),
        (20, 1020, format!("remote {remote}")),
        (99, 104_001, String::new()),
    ] {
        lines += &format!(
            "ip link add br{vlan} type bridge mcast_snooping 0
             ip link set br{vlan} address 02:00:5e:{leaf:02}:00:{vlan:02} up
             ip link add vx{vlan} type vxlan id {vni} local {own} {more} dstport 4789 {ATTRIBUTES}
             ip link set vx{vlan} master br{vlan} up\n"
        );
    }
    for segment in [1, 2] {
        let vlan = 10 * segment;
        let [shared, own] = [1, 10 + leaf].map(|number| plan.host(segment, number));
        lines += &format!(
            "ip link set swp{segment} master br{vlan}
             ip addr add {own}/{len} dev br{vlan}
             ip link add gw{vlan} link br{vlan} address {GATEWAY_MAC} type macvlan mode private
             ip link set gw{vlan} up
             ip addr add {shared}/{len} dev gw{vlan}
             bridge fdb replace {GATEWAY_MAC} dev br{vlan} self local\n"
        );
    }
    net.script(&format!("leaf{leaf}"), &lines);
}

fn hosts(net: &Net, plan: Plan, leaf: u8) {
    for (name, segment, number) in hosts_of(leaf) {
        let [own, gateway] = [number, 1].map(|number| plan.host(segment, number));
        net.script(
            &name,
            &format!(
                "ip addr add {own}/{} dev eth0
                 ip neigh replace {gateway} lladdr {GATEWAY_MAC} nud permanent dev eth0
                 ip route add default via {gateway}",
                plan.subnet_len()
            ),
        );
    }
}

/// What a control plane would tell a leaf of the other one: its hosts, and, where it routes, itself.
fn know_the_other(net: &Net, plan: Plan, leaf: u8) {
    let other = 3 - leaf;
    let remote = plan.underlay(other, 1);
    // The original has it in a VRF, where nothing else is known of the VTEP's address. Here IPv6 would not take a next hop
    // that it has another way to.
    let next_hop = if plan.ipv6 {
        format!("fe80::99:{other}")
    } else {
        remote.clone()
    };
    let mut lines = String::new();
    for (name, segment, number) in hosts_of(other) {
        let (mac, address) = (mac_text(net.mac(&name, "eth0")), plan.host(segment, number));
        let vlan = 10 * segment;
        lines += &format!(
            "bridge fdb replace {mac} dev vx{vlan} dst {remote} self static
             bridge fdb replace {mac} dev vx{vlan} master static
             ip neigh replace {address} lladdr {mac} nud noarp dev br{vlan}\n"
        );
        if plan.symmetric {
            lines += &format!(
                "ip route replace {address}/{} via {next_hop} dev br99 onlink\n",
                plan.host_len()
            );
        }
    }
    let router = mac_text(net.mac(&format!("leaf{other}"), "br99"));
    lines += &format!(
        "bridge fdb replace {router} dev vx99 dst {remote} self static
         bridge fdb replace {router} dev vx99 master static
         ip neigh replace {next_hop} lladdr {router} nud noarp dev br99\n"
    );
    net.script(&format!("leaf{leaf}"), &lines);
}
