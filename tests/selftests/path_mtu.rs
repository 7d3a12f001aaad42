//! What does not fit: a path that is narrower behind a router, and a device that is narrower than the bridge it is in.
//!
//! The originals have links of 5000 and 4000 bytes and expect 3950 and 3930. Frames that long are left to the kernel by
//! `vxgate`, so here everything is smaller: links of 3500 and 3000, and 2950 (50 less) and 2930 (70 less) to be told.

use std::net::IpAddr;
use std::time::Duration;

use etherparse::IpNumber;

use crate::carrier::{Carried, Carrier};
use crate::frame::{BROADCAST, Mark, STRANGER, Seen, ethernet_ip, ip, probe, udp};
use crate::hop::Hop;
use crate::net::Net;
use crate::probe::{Observer, Sender, settle};
use crate::support::wait_until;

const WIDE: u32 = 3500;
const NARROW: u32 = 3000;
/// Payload of the echoes: more than fits the narrow link, less than the wide one.
const ECHO: u32 = 3300;

scenarios! {
    p01_p03_pmtu_vxlan_over_ipv4_routed
    p01_p05_pmtu_vxlan_over_ipv6_routed
    p01_p03_d11_pmtu_vxlan_over_ipv4_bridged
    p01_p05_pmtu_vxlan_over_ipv6_bridged
    p04_vxlan_mtu_frag
    p06_no_word_about_what_nobody_may_be_told_of
    d10_without_df_the_outer_packets_are_the_kernels_to_fragment
}

fn p01_p03_pmtu_vxlan_over_ipv4_routed(carrier: Carrier) {
    narrow_path(carrier, false, false);
}

fn p01_p05_pmtu_vxlan_over_ipv6_routed(carrier: Carrier) {
    narrow_path(carrier, true, false);
}

fn p01_p03_d11_pmtu_vxlan_over_ipv4_bridged(carrier: Carrier) {
    narrow_path(carrier, false, true);
}

fn p01_p05_pmtu_vxlan_over_ipv6_bridged(carrier: Carrier) {
    narrow_path(carrier, true, true);
}

/// a ── r1 ── b, of which the second link is narrow. Routed, the addresses are on the devices; bridged, c sends through a
/// bridge of a.
fn build(ipv6: bool, bridged: bool) -> Net {
    let net = Net::new(&["a", "r1", "b", "c"], true);
    net.cable(["a", "eth0"], ["r1", "left"]);
    net.cable(["r1", "right"], ["b", "eth0"]);
    net.cable(["a", "port"], ["c", "eth0"]);
    let [a, left, right, b, len] = if ipv6 {
        [
            "2001:db8:1::1",
            "2001:db8:1::2",
            "2001:db8:2::2",
            "2001:db8:2::1",
            "64",
        ]
    } else {
        ["10.0.1.1", "10.0.1.2", "10.0.2.2", "10.0.2.1", "24"]
    };
    net.script(
        "r1",
        &format!(
            "ip link set left mtu {WIDE}
             ip link set right mtu {NARROW}
             ip addr add {left}/{len} dev left
             ip addr add {right}/{len} dev right
             sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1"
        ),
    );
    net.script("b", &(end([b, right, a, len], NARROW) + &overlay(2, "vx1")));
    net.script("a", &end([a, left, b, len], WIDE));
    if bridged {
        net.script(
            "a",
            &format!(
                "ip link set port mtu {WIDE}
                 ip link add br0 type bridge mcast_snooping 0
                 ip link set port master br0
                 ip link set vx1 master br0
                 ip link set br0 mtu {WIDE} up"
            ),
        );
        net.script(
            "c",
            &format!("ip link set eth0 mtu {WIDE}\n{}", overlay(1, "eth0")),
        );
    } else {
        net.script("a", &overlay(1, "vx1"));
    }
    net
}

/// One end of the tunnel: its address, its router, the other end, and the length of prefixes.
fn end([own, gateway, peer, len]: [&str; 4], mtu: u32) -> String {
    // The outer header of IPv6 has no DF bit to set.
    let df = if len == "64" { "" } else { "df set" };
    format!(
        "ip link set eth0 mtu {mtu}
         ip addr add {own}/{len} dev eth0
         ip route add {peer} via {gateway}
         ip link add vx1 type vxlan id 1 local {own} remote {peer} ttl 64 dstport 4789 nolearning {df}
         ip link set vx1 mtu {WIDE} up\n"
    )
}

/// Addresses in the overlay, of both families.
fn overlay(number: u8, device: &str) -> String {
    format!(
        "ip addr add 192.168.2.{number}/24 dev {device}
         ip addr add fd00:2::{number}/64 dev {device}\n"
    )
}

fn narrow_path(carrier: Carrier, ipv6: bool, bridged: bool) {
    let net = build(ipv6, bridged);
    let carried = Carried::start(carrier, net.ns("a"), &["vx1"]);
    let sender = if bridged { "c" } else { "a" };
    let told = if ipv6 { NARROW - 70 } else { NARROW - 50 };
    for to in ["192.168.2.2", "fd00:2::2"] {
        wait_until("the ends reach each other", Duration::from_secs(20), || {
            net.reaches(sender, to)
        });
        wait_until(
            &format!("{sender} hears that {told} bytes fit on the way to {to}"),
            Duration::from_secs(30),
            || {
                let line = format!("ping -q -M want -i 0.05 -c 4 -W 1 -s {ECHO} {to}");
                // The first of them are lost.
                let _ = net.ns(sender).try_run(&line);
                let route = net.ns(sender).run(&format!("ip route get {to}"));
                route.contains(&format!("mtu {told}"))
            },
        );
    }
    // What the sender now sends fits, in fragments of its own.
    for to in ["192.168.2.2", "fd00:2::2"] {
        net.ping(sender, to, 10, &format!("-M want -s {ECHO}"));
    }
    carried.wait_status("the path is known to be narrow", |status| {
        status.list("vteps").any(|vtep| vtep["path_mtu"] == NARROW)
    });
    carried.finish(40, 40);
}

/// A bridge whose packets go through netfilter, between a port of 1500 bytes and a device of 1000: nothing of 2,000 bytes gets
/// across that should not, tagged or not, and the switch carries on afterwards.
///
/// The kernel cuts the host's first fragment of 1500 bytes in the bridge, and lets the second one be. With connection tracking
/// it puts the datagram together there, and then drops it: it does not cut what came in fragments into smaller ones.
fn p04_vxlan_mtu_frag(carrier: Carrier) {
    let net = narrow_device();
    let carried = Carried::start(carrier, net.ns("vtep"), &["vxd"]);
    let sender = Sender::on(net.ns("host"), "eth0");
    let mut wire = Observer::on(net.ns("router"), "eth0");
    let addresses = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().expect("an address"));
    let plain = |mark: &Mark| {
        ethernet_ip(
            [0xca, 0xfe, 0xba, 0xbe, 0, 1],
            STRANGER,
            &probe(addresses, 0, mark),
        )
    };
    let lengths = |wire: &mut Observer| {
        for _ in 0..2 {
            settle(&sender, &mut [wire], &|mark| vec![plain(mark)]);
        }
        let frames = wire.drain();
        let inner = frames.iter().filter_map(|frame| {
            let seen = Seen::of(frame)?;
            let (_, inner) = seen.vxlan(4789)?;
            // Sentinels are shorter.
            (inner.len() > 200).then_some(inner.len())
        });
        inner.collect::<Vec<_>>()
    };
    let echo = |net: &Net| {
        // Nobody answers.
        let _ = net
            .ns("host")
            .try_run("ping -q -c 1 -W 0.2 -s 2000 10.0.0.2");
    };
    echo(&net);
    assert_eq!(
        lengths(&mut wire),
        [14 + 20 + 976, 14 + 20 + 504, 14 + 20 + 528],
        "the first fragment cut, the second one as it is"
    );
    for vlan in [10_u8, 20] {
        for len in [1500, 900] {
            let long = probe_of(addresses, len);
            let frame = ethernet_ip([0xca, 0xfe, 0xba, 0xbe, 0, 1], STRANGER, &long);
            sender.send([&frame[..12], &[0x81, 0, 0, vlan], &frame[12..]].concat());
        }
        assert_eq!(lengths(&mut wire), [18 + 900], "tagged with {vlan}");
    }
    net.script(
        "vtep",
        "nft add table ip track
         nft add chain ip track passing '{ type filter hook forward priority 0; }'
         nft add rule ip track passing ct state new counter",
    );
    echo(&net);
    let seen = lengths(&mut wire);
    assert!(
        seen.is_empty(),
        "put together, and not cut smaller than it came: {seen:?}"
    );
    carried.finish(8, 0);
}

/// host ── br0 with vxd, which is narrower (vtep) ── router.
fn narrow_device() -> Net {
    let net = Net::new(&["host", "vtep", "router"], false);
    net.cable(["host", "eth0"], ["vtep", "port"]);
    net.cable(["vtep", "uplink"], ["router", "eth0"]);
    net.script(
        "host",
        "ip addr add 10.0.0.1/24 dev eth0
         ip neigh add 10.0.0.2 lladdr ca:fe:ba:be:00:01 dev eth0 nud permanent",
    );
    net.script("router", "ip addr add 60.0.0.2/24 dev eth0");
    net.script(
        "vtep",
        "ip addr add 60.0.0.1/24 dev uplink
         ping -q -c 1 -W 5 60.0.0.2
         ip link add br0 type bridge mcast_snooping 0 nf_call_iptables 1
         ip link add vxd type vxlan id 10 local 60.0.0.1 remote 60.0.0.2 dstport 4789 ttl 64 nolearning
         ip link set vxd mtu 1000 master br0 up
         ip link set port master br0
         ip link set br0 up",
    );
    wait_until("both ports forward", Duration::from_secs(20), || {
        net.ns("vtep")
            .run("bridge link")
            .matches("state forwarding")
            .count()
            == 2
    });
    net
}

/// A UDP packet of exactly so many bytes.
fn probe_of(addresses: [IpAddr; 2], len: usize) -> Vec<u8> {
    udp(addresses, 0, [40_000, 9], &vec![0x5a; len - 28])
}

/// Groups, everybody and errors of others get no answer, however long they are; a datagram to a host does.
fn p06_no_word_about_what_nobody_may_be_told_of(carrier: Carrier) {
    let net = build(false, true);
    // The path itself is narrow here, so that the first frame is too long.
    net.script("a", &format!("ip link set eth0 mtu {NARROW}"));
    let carried = Carried::start(carrier, net.ns("a"), &["vx1"]);
    wait_until("the ends reach each other", Duration::from_secs(20), || {
        net.reaches("c", "192.168.2.2")
    });
    let sender = Sender::on(net.ns("c"), "eth0");
    let mut wire = Observer::on(net.ns("r1"), "left");
    let mut c = Observer::on(net.ns("c"), "eth0");
    let (mac, peer) = (net.mac("c", "eth0"), net.mac("b", "vx1"));
    let from: IpAddr = "192.168.2.1".parse().expect("an address");
    let host: IpAddr = "192.168.2.2".parse().expect("an address");
    let group = [1, 0, 0x5e, 1, 2, 3];
    let to = |text: &str| text.parse::<IpAddr>().expect("an address");
    let long = [0x5a; ECHO as usize];
    let error = [&[3, 1, 0, 0, 0, 0, 0, 0], &long[..]].concat();
    let cases = [
        (peer, udp([from, host], 0, [40_000, 9], &long), true),
        (
            group,
            udp([from, to("239.1.2.3")], 0, [40_000, 9], &long),
            false,
        ),
        (
            BROADCAST,
            udp([from, to("255.255.255.255")], 0, [40_000, 9], &long),
            false,
        ),
        (peer, ip([from, host], 0, IpNumber::ICMP, &error), false),
        (
            peer,
            udp([to("0.0.0.0"), host], 0, [40_000, 9], &long),
            false,
        ),
    ];
    for (mac_to, packet, told) in cases {
        c.drain();
        for _ in 0..5 {
            sender.send(ethernet_ip(mac_to, mac, &packet));
        }
        for _ in 0..2 {
            settle(&sender, &mut [&mut wire], &|mark| {
                vec![ethernet_ip(BROADCAST, mac, &probe([from, host], 0, mark))]
            });
        }
        let answers = c.drain().iter().filter(|frame| is_too_big(frame)).count();
        assert_eq!(
            answers > 0,
            told,
            "{answers} answers to {:?}",
            &packet[..20]
        );
    }
    carried.finish(10, 0);
}

/// Clears DF, which packets made here have.
fn may_be_cut(mut packet: Vec<u8>) -> Vec<u8> {
    packet[6] &= !0x40;
    // RFC 1624: the header's checksum rises by what the field fell.
    let sum = u16::from_be_bytes([packet[10], packet[11]]);
    let (higher, carry) = sum.overflowing_add(0x4000);
    packet[10..12].copy_from_slice(&(higher + u16::from(carry)).to_be_bytes());
    packet
}

/// ICMP destination unreachable, fragmentation needed.
fn is_too_big(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[8, 0])
        && frame.get(23) == Some(&1)
        && frame.get(34..36) == Some(&[3, 4])
}

/// A device as wide as its link, without DF: what does not fit leaves in two outer fragments, which the kernel makes.
fn d10_without_df_the_outer_packets_are_the_kernels_to_fragment(carrier: Carrier) {
    let mut hop = Hop::up(carrier, false);
    let before = hop.carried.vxgate().map(|vxgate| vxgate.status());
    let [there, here] = hop.hosts();
    let mac = hop.host_mac();
    // All of the payload is the mark, so that both fragments carry it.
    let frames = hop.depart(|mark| {
        let payload = mark.repeat(92);
        let packet = udp([here, there], 0, [40_000, 9], &payload);
        assert_eq!(packet.len(), 1500);
        vec![ethernet_ip(BROADCAST, mac, &may_be_cut(packet)); 10]
    });
    let mut fragments = [0; 2];
    for seen in frames {
        let field = u16::from_be_bytes([seen[20], seen[21]]);
        match (field & 0x2000 != 0, field & 0x1fff) {
            (true, 0) => fragments[0] += 1,
            (false, 1..) => fragments[1] += 1,
            _ => panic!("no fragment: {field:x}"),
        }
    }
    assert_eq!(fragments, [10, 10], "first and second fragments");
    if let (Some(vxgate), Some(before)) = (hop.carried.vxgate(), before) {
        let now = vxgate.balanced();
        assert_eq!(
            now.passed("access", "oversize") - before.passed("access", "oversize"),
            10
        );
    }
    hop.carried.finish(2, 0);
}
