//! VLANs and VXLAN: two VLANs in two VNIs, tags that cross unchanged, and two VXLAN devices at one address.

use std::time::Duration;

use crate::carrier::{Carried, Carrier};
use crate::frame::{BROADCAST, Mark, ethernet_ip, probe, ten};
use crate::net::Net;
use crate::probe::{Observer, Sender, fresh_mark, play, play_to_all, settle};
use crate::support::wait_until;
use crate::topology_a::{ATTRIBUTES, TopologyA, Variant};

const CTAG: u16 = 0x8100;
const STAG: u16 = 0x88a8;
const PLAIN: Variant = Variant {
    port: 4789,
    ipv6: false,
};

scenarios! {
    v08_vxlan_bridge_1q_isolation
    v08_vxlan_bridge_1q_ports_of_two_vlans
    v08_d05_q_in_vni_double_tags
    v08_d05_q_in_vni_double_tags_ipv6
    dual_vxlan_bridge
}

/// Inserts tags behind the addresses, outermost first.
fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let mut rest = frame[12..].to_vec();
    for (tpid, tci) in tags.iter().rev() {
        rest = [&tpid.to_be_bytes()[..], &tci.to_be_bytes(), &rest].concat();
    }
    [&frame[..12], &rest].concat()
}

/// h1 (eth0), h2 (eth0) ── one switch ── ns1, in which each of the devices ends in a bridge of its own, br10 and br20.
///
/// With `one_bridge`, nftables keeps frames of other VLANs than 10 out of vx10, and other than 20 out of vx20; else each
/// device has a bridge and a host.
fn two_vlans(one_bridge: bool) -> Net {
    let net = Net::new(&["h1", "h2", "sw", "ns1"], false);
    net.cable(["h1", "eth0"], ["sw", "swp1"]);
    net.cable(["h2", "eth0"], ["sw", "swp2"]);
    net.cable(["sw", "rp1"], ["ns1", "v2"]);
    net.script("h1", "ip addr add 192.0.2.1/28 dev eth0");
    net.script("h2", "ip addr add 198.51.100.1/24 dev eth0");
    let devices = |local: &str, remote: &str| {
        [(10, 1000), (20, 2000)]
            .map(|(vlan, vni)| {
                format!(
                    "ip link add vx{vlan} type vxlan id {vni} local {local} dstport 4789 {ATTRIBUTES}
                     ip link set vx{vlan} up
                     bridge fdb append 00:00:00:00:00:00 dev vx{vlan} dst {remote} self\n"
                )
            })
            .concat()
    };
    net.script(
        "ns1",
        &format!(
            "ip addr add 10.9.0.34/24 dev v2
             {}ip link add br10 type bridge mcast_snooping 0
             ip link add br20 type bridge mcast_snooping 0
             ip link set vx10 master br10
             ip link set vx20 master br20
             ip link set br10 up
             ip link set br20 up
             ip addr add 192.0.2.3/28 dev br10
             ip addr add 198.51.100.3/24 dev br20",
            devices("10.9.0.34", "10.9.0.17")
        ),
    );
    let bridges = bridges(one_bridge);
    net.script(
        "sw",
        &format!(
            "ip addr add 10.9.0.17/24 dev rp1
             ping -q -c 1 -W 5 10.9.0.34
             {}{bridges}",
            devices("10.9.0.17", "10.9.0.34")
        ),
    );
    wait_until("all ports forward", Duration::from_secs(20), || {
        net.ns("sw")
            .run("bridge link")
            .matches("state forwarding")
            .count()
            == 4
    });
    net
}

/// The bridges of the switch.
fn bridges(one_bridge: bool) -> &'static str {
    if one_bridge {
        "ip link add br1 type bridge mcast_snooping 0
         ip link set br1 up
         for port in vx10 vx20 swp1 swp2; do ip link set $port master br1; done
         nft add table bridge vlans
         nft add chain bridge vlans forward '{ type filter hook forward priority 0; }'
         nft add rule bridge vlans forward oifname vx10 ether type != vlan drop
         nft add rule bridge vlans forward oifname vx20 ether type != vlan drop
         nft add rule bridge vlans forward oifname vx10 vlan id != 10 drop
         nft add rule bridge vlans forward oifname vx20 vlan id != 20 drop
         nft add rule bridge vlans forward iifname vx10 oifname vx20 drop
         nft add rule bridge vlans forward iifname vx20 oifname vx10 drop"
    } else {
        "ip link add br10 type bridge mcast_snooping 0
         ip link add br20 type bridge mcast_snooping 0
         ip link set br10 up
         ip link set br20 up
         ip link set vx10 master br10
         ip link set vx20 master br20
         ip link set swp1 master br10
         ip link set swp2 master br20"
    }
}

/// One bridge, two VLANs: frames of each go out in its VNI only, and what comes in by one does not leave by the other.
fn v08_vxlan_bridge_1q_isolation(carrier: Carrier) {
    let net = two_vlans(true);
    let carried = Carried::start(carrier, net.ns("sw"), &["vx10", "vx20"]);
    let hosts = ["192.0.2.1", "192.0.2.3"].map(|text| text.parse().expect("an address"));
    let (near_mac, far_mac) = (net.mac("h1", "eth0"), net.mac("ns1", "br10"));
    let frame = |from, vlan: u16, mark: &Mark| {
        let plain = ethernet_ip(BROADCAST, from, &probe(hosts, 0, mark));
        tagged(&plain, &[(CTAG, vlan)])
    };
    let near = Sender::on(net.ns("h1"), "eth0");
    let far = Sender::on(net.ns("ns1"), "br10");
    let [mut h1, mut h2] = ["h1", "h2"].map(|name| Observer::on(net.ns(name), "eth0"));
    let [mut far10, mut far20] = ["vx10", "vx20"].map(|device| Observer::on(net.ns("ns1"), device));
    for (vlan, expected) in [(10, [10, 0, 10]), (20, [0, 10, 10]), (30, [0, 0, 10])] {
        let seen = play_to_all(
            &near,
            &mut [&mut far10, &mut far20, &mut h2],
            |mark| vec![frame(near_mac, vlan, mark); 10],
            |mark| [10, 20].map(|vlan| frame(near_mac, vlan, mark)).to_vec(),
        );
        let counts: Vec<_> = seen.iter().map(Vec::len).collect();
        assert_eq!(
            counts, expected,
            "VLAN {vlan}: VNI 1000, VNI 2000, the other port"
        );
    }
    // Tagged for VLAN 20, in the VNI of VLAN 10.
    let mark = fresh_mark();
    for _ in 0..10 {
        far.send(frame(far_mac, 20, &mark));
    }
    for _ in 0..2 {
        settle(&far, &mut [&mut h1], &|mark| vec![frame(far_mac, 10, mark)]);
        settle(&near, &mut [&mut far20], &|mark| {
            vec![frame(near_mac, 20, mark)]
        });
    }
    assert_eq!(h1.count(&mark), 10);
    assert_eq!(far20.count(&mark), 0, "no leak from one VNI into the other");
    carried.finish(24, 10);
}

/// A bridge a VLAN, as ports with a native VLAN each see it: hosts reach their own VLAN and hear nothing of the other one.
fn v08_vxlan_bridge_1q_ports_of_two_vlans(carrier: Carrier) {
    let net = two_vlans(false);
    let carried = Carried::start(carrier, net.ns("sw"), &["vx10", "vx20"]);
    net.ping("h1", "192.0.2.3", 10, "");
    net.ping("h2", "198.51.100.3", 10, "");
    assert!(!net.reaches("h1", "198.51.100.3"), "no route leads there");
    let hosts = ["192.0.2.1", "192.0.2.3"].map(|text| text.parse().expect("an address"));
    let [first, second] = ["h1", "h2"].map(|name| Sender::on(net.ns(name), "eth0"));
    let macs = ["h1", "h2"].map(|name| net.mac(name, "eth0"));
    let frame = |from, mark: &Mark| ethernet_ip(BROADCAST, from, &probe(hosts, 0, mark));
    let [mut far10, mut far20] = ["vx10", "vx20"].map(|device| Observer::on(net.ns("ns1"), device));
    let marks = [fresh_mark(), fresh_mark()];
    for _ in 0..10 {
        first.send(frame(macs[0], &marks[0]));
        second.send(frame(macs[1], &marks[1]));
    }
    for _ in 0..2 {
        settle(&first, &mut [&mut far10], &|mark| {
            vec![frame(macs[0], mark)]
        });
        settle(&second, &mut [&mut far20], &|mark| {
            vec![frame(macs[1], mark)]
        });
    }
    let counts = marks.map(|mark| [far10.count(&mark), far20.count(&mark)]);
    assert_eq!(counts, [[10, 0], [0, 10]]);
    carried.finish(44, 20);
}

fn v08_d05_q_in_vni_double_tags(carrier: Carrier) {
    double_tags(carrier, false);
}

fn v08_d05_q_in_vni_double_tags_ipv6(carrier: Carrier) {
    double_tags(carrier, true);
}

/// Frames with a service tag and a customer tag, and with the service tag that a provider's bridge takes off, cross both
/// ways without a changed byte.
fn double_tags(carrier: Carrier, ipv6: bool) {
    let topology = TopologyA::up(carrier, Variant { ipv6, ..PLAIN });
    let net = &topology.net;
    let hosts = [1, 3].map(|number| topology.variant.host(number));
    let ends = [("h1", "eth0"), ("ns1", "vx2"), ("ns1", "br2")];
    let [mut h1, mut vx2, _] = ends.map(|(name, device)| Observer::on(net.ns(name), device));
    let [near, _, far] = ends.map(|(name, device)| Sender::on(net.ns(name), device));
    let macs = [net.mac("h1", "eth0"), net.mac("ns1", "br2")];
    let stacks: [&[(u16, u16)]; 4] = [
        &[(CTAG, 10)],
        &[(STAG, 100), (CTAG, 10)],
        // Priority 5, drop eligible; the second tag is another customer's.
        &[(STAG, 5 << 13 | 1 << 12 | 100), (CTAG, 3 << 13 | 20)],
        &[(CTAG, 100), (CTAG, 20)],
    ];
    for tags in stacks {
        let ways = [(&near, macs[0], &mut vx2), (&far, macs[1], &mut h1)];
        for (sender, from, observer) in ways {
            let frame =
                |mark: &Mark| tagged(&ethernet_ip(BROADCAST, from, &probe(hosts, 0, mark)), tags);
            let plain = |mark: &Mark| ethernet_ip(BROADCAST, from, &probe(hosts, 0, mark));
            let sent = std::cell::RefCell::new(Vec::new());
            let seen = play(
                sender,
                &mut [observer],
                |mark| {
                    let frames = ten(|| frame(mark));
                    sent.borrow_mut().clone_from(&frames);
                    frames
                },
                plain,
            );
            assert_eq!(seen[0], sent.into_inner(), "{tags:x?}");
        }
    }
    topology.carried.finish(40, 40);
}

/// Two bridges, two devices, one address and port; each has its own remote site.
fn dual_vxlan_bridge(carrier: Carrier) {
    let net = Net::new(&["h1", "h2", "sw", "r", "ns1", "ns2"], false);
    for [near, far] in [
        [["h1", "eth0"], ["sw", "swp1"]],
        [["h2", "eth0"], ["sw", "swp2"]],
        [["sw", "rp1"], ["r", "rp2"]],
        [["r", "v1"], ["ns1", "v2"]],
        [["r", "v3"], ["ns2", "v4"]],
    ] {
        net.cable(near, far);
    }
    net.script(
        "r",
        "ip addr add 192.0.2.18/28 dev rp2
         ip addr add 192.0.2.33/28 dev v1
         ip addr add 192.0.2.49/28 dev v3
         sysctl -qw net.ipv4.ip_forward=1",
    );
    let mut switch = "ip addr add 192.0.2.17/28 dev rp1
         ip route add 192.0.2.32/28 via 192.0.2.18
         ip route add 192.0.2.48/28 via 192.0.2.18\n"
        .to_owned();
    for (number, remote, gateway, device) in [(1, 34, 33, "v2"), (2, 50, 49, "v4")] {
        let (vni, host) = (number * 1000, number + 2);
        switch += &format!(
            "ip link add br{number} type bridge mcast_snooping 0
             ip link set br{number} up
             ip link add vx{number}00 type vxlan id {vni} local 192.0.2.17 dstport 4789 {ATTRIBUTES}
             ip link set vx{number}00 master br{number} up
             ip link set swp{number} master br{number}
             bridge fdb append 00:00:00:00:00:00 dev vx{number}00 dst 192.0.2.{remote} self\n"
        );
        net.script(
            &format!("ns{number}"),
            &format!(
                "ip addr add 192.0.2.{remote}/28 dev {device}
                 ip route add 192.0.2.16/28 via 192.0.2.{gateway}
                 ip link add br3 type bridge
                 ip link add vx{number}00 type vxlan id {vni} local 192.0.2.{remote} dstport 4789
                 bridge fdb append 00:00:00:00:00:00 dev vx{number}00 dst 192.0.2.17 self
                 ip link set vx{number}00 master br3 up
                 ip link set br3 up
                 ip addr add 192.0.2.{host}/28 dev br3"
            ),
        );
        net.script(
            &format!("h{number}"),
            &format!("ip addr add 192.0.2.{number}/28 dev eth0"),
        );
    }
    net.script("sw", &switch);
    let carried = Carried::start(carrier, net.ns("sw"), &["vx100", "vx200"]);
    for (from, to) in [("h1", "192.0.2.3"), ("h2", "192.0.2.4")] {
        wait_until(
            &format!("{from} reaches {to}"),
            Duration::from_secs(20),
            || net.reaches(from, to),
        );
        net.ping(from, to, 10, "");
    }
    for (from, to) in [
        ("h1", "192.0.2.4"),
        ("h2", "192.0.2.3"),
        ("h1", "192.0.2.2"),
    ] {
        assert!(!net.reaches(from, to), "{from} and {to} are on two bridges");
    }
    carried.finish(20, 20);
}
