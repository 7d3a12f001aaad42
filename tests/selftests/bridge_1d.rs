//! A plain (802.1D) bridge over VXLAN: who gets which frames, and what their outer headers say.

use crate::carrier::{Carried, Carrier, counter};
use crate::frame::{Mark, Seen, ethernet_ip, probe, ten, udp, vxlan};
use crate::probe::{Observer, Sender, play};
use crate::support::frames::mac_text;
use crate::topology_a::{TopologyA, VNI, Variant};

/// The usual port, over IPv4.
pub const PLAIN: Variant = Variant {
    port: 4789,
    ipv6: false,
};
const PORT_8472: Variant = Variant {
    port: 8472,
    ipv6: false,
};
/// The usual port, over IPv6.
pub const IPV6: Variant = Variant {
    port: 4789,
    ipv6: true,
};
const PORT_8472_IPV6: Variant = Variant {
    port: 8472,
    ipv6: true,
};
/// A MAC address that nobody has.
pub const UNKNOWN: [u8; 6] = [0xde, 0xad, 0xbe, 0xef, 0x13, 0x37];

scenarios! {
    vxlan_bridge_1d_ping_flood_unicast
    vxlan_bridge_1d_ipv6_ping_flood_unicast
    v04_vxlan_bridge_1d_port_8472_ping
    v04_vxlan_bridge_1d_port_8472_ipv6_ping
    d14_vxlan_bridge_1d_ttl_and_tos
    d14_vxlan_bridge_1d_ipv6_ttl_and_tos
    d03_vxlan_bridge_1d_ecn_encap
    d03_vxlan_bridge_1d_ipv6_ecn_encap
    d04_vxlan_bridge_1d_ecn_decap
    d04_vxlan_bridge_1d_ipv6_ecn_decap
}

fn vxlan_bridge_1d_ping_flood_unicast(carrier: Carrier) {
    ping_flood_unicast(carrier, PLAIN);
}

fn vxlan_bridge_1d_ipv6_ping_flood_unicast(carrier: Carrier) {
    ping_flood_unicast(carrier, IPV6);
}

fn v04_vxlan_bridge_1d_port_8472_ping(carrier: Carrier) {
    ping_only(carrier, PORT_8472);
}

fn v04_vxlan_bridge_1d_port_8472_ipv6_ping(carrier: Carrier) {
    ping_only(carrier, PORT_8472_IPV6);
}

fn d14_vxlan_bridge_1d_ttl_and_tos(carrier: Carrier) {
    ttl_and_tos(carrier, PLAIN);
}

fn d14_vxlan_bridge_1d_ipv6_ttl_and_tos(carrier: Carrier) {
    ttl_and_tos(carrier, IPV6);
}

fn d03_vxlan_bridge_1d_ecn_encap(carrier: Carrier) {
    ecn_encap(carrier, PLAIN);
}

fn d03_vxlan_bridge_1d_ipv6_ecn_encap(carrier: Carrier) {
    ecn_encap(carrier, IPV6);
}

fn d04_vxlan_bridge_1d_ecn_decap(carrier: Carrier) {
    ecn_decap(carrier, PLAIN);
}

fn d04_vxlan_bridge_1d_ipv6_ecn_decap(carrier: Carrier) {
    ecn_decap(carrier, IPV6);
}

fn ping_only(carrier: Carrier, variant: Variant) {
    let topology = TopologyA::up(carrier, variant);
    topology.ping_all();
    topology.carried.finish(20, 20);
}

fn ping_flood_unicast(carrier: Carrier, variant: Variant) {
    let mut topology = TopologyA::up(carrier, variant);
    topology.ping_all();
    assert_eq!(topology.ten_probes(UNKNOWN, 100), [10, 10, 10], "flood");
    a_vtep_without_a_route(&mut topology);
    unicast(&mut topology);
    // The bridge port and the flood list are taken away and given back.
    let [first, second] = [34, 50].map(|number| variant.vtep(number));
    topology.net.script(
        "sw",
        &format!(
            "bridge fdb del 00:00:00:00:00:00 dev vx1 dst {second} self
             bridge fdb del 00:00:00:00:00:00 dev vx1 dst {first} self
             ip link set vx1 nomaster
             ip link set vx1 master br1
             bridge fdb append 00:00:00:00:00:00 dev vx1 dst {first} self
             bridge fdb append 00:00:00:00:00:00 dev vx1 dst {second} self"
        ),
    );
    topology.wait_connected();
    topology.ping_all();
    wait_flood_list(&topology.carried, 2);
    assert_eq!(
        topology.ten_probes(UNKNOWN, 100),
        [10, 10, 10],
        "flood, configured again"
    );
    unicast(&mut topology);
    topology.carried.finish(100, 40);
}

/// A flood destination that no route leads to costs the others nothing, and nobody gets two copies.
fn a_vtep_without_a_route(topology: &mut TopologyA) {
    let nowhere = if topology.variant.ipv6 {
        "2001:db8:5::1"
    } else {
        "198.51.100.1"
    };
    let line = |verb| format!("bridge fdb {verb} 00:00:00:00:00:00 dev vx1 dst {nowhere} self");
    topology.net.script("sw", &line("append"));
    wait_flood_list(&topology.carried, 3);
    assert_eq!(
        topology.ten_probes(UNKNOWN, 100),
        [10, 10, 10],
        "flood with a VTEP that no route leads to"
    );
    topology.net.script("sw", &line("del"));
    wait_flood_list(&topology.carried, 2);
}

fn wait_flood_list(carried: &Carried, len: u64) {
    carried.wait_status(&format!("{len} VTEPs in the flood list"), |status| {
        status
            .device("vx1")
            .is_some_and(|device| device["flood_entries"] == len)
    });
}

/// Known addresses: frames reach their owner and nobody else.
fn unicast(topology: &mut TopologyA) {
    let owners = [("h2", "eth0", 2), ("ns1", "br2", 3), ("ns2", "br2", 4)];
    let macs = owners.map(|(name, device, _)| topology.net.mac(name, device));
    let [local, first, second] = macs.map(mac_text);
    let [first_vtep, second_vtep] = [34, 50].map(|number| topology.variant.vtep(number));
    let entries = |verb: &str| {
        format!(
            "bridge fdb {verb} {local} dev swp2 master static
             bridge fdb {verb} {first} dev vx1 dst {first_vtep} self permanent
             bridge fdb {verb} {first} dev vx1 master static
             bridge fdb {verb} {second} dev vx1 dst {second_vtep} self permanent
             bridge fdb {verb} {second} dev vx1 master static"
        )
    };
    let entries_before = fdb_entries(&topology.carried);
    topology.net.script("sw", &entries("replace"));
    topology
        .carried
        .wait_status("two FDB entries more", |status| {
            status
                .device("vx1")
                .is_some_and(|device| device["fdb_entries"] == entries_before + 2)
        });
    for (index, (_, _, host)) in owners.into_iter().enumerate() {
        let mut expected = [0; 3];
        expected[index] = 10;
        assert_eq!(
            topology.ten_probes(macs[index], host),
            expected,
            "unicast to host {host}"
        );
    }
    let removal = entries("del")
        .replace(" self permanent", " self")
        .replace(" master static", " master");
    topology.net.script("sw", &removal);
    topology
        .carried
        .wait_status("two FDB entries fewer", |status| {
            status
                .device("vx1")
                .is_some_and(|device| device["fdb_entries"] == entries_before)
        });
}

fn fdb_entries(carried: &Carried) -> u64 {
    carried.vxgate().map_or(0, |vxgate| {
        let status = vxgate.status();
        let device = status.device("vx1").expect("the device is known");
        device["fdb_entries"].as_u64().expect("a count")
    })
}

/// The outer headers of ten probes with a TOS, as ns1 receives them behind the router.
fn outer_headers(topology: &TopologyA, observer: &mut Observer, tos: u8) -> Vec<Seen> {
    let to = topology.net.mac("ns1", "br2");
    let one = |mark: &Mark| topology.probe(to, 3, tos, mark);
    let frames = topology.seen_by_ns1(observer, |mark| vec![one(mark); 10]);
    frames
        .iter()
        .map(|frame| {
            let seen = Seen::of(frame).expect("an IP frame");
            let (vni, _) = seen.vxlan(topology.variant.port).expect("VXLAN");
            assert_eq!(vni, VNI);
            seen
        })
        .collect()
}

fn ttl_and_tos(carrier: Carrier, variant: Variant) {
    let topology = TopologyA::up(carrier, variant);
    let mut observer = Observer::on(topology.net.ns("ns1"), "v2");
    for tos in [0x14, 0x18] {
        let seen = outer_headers(&topology, &mut observer, tos);
        assert_eq!(seen.len(), 10);
        for outer in seen {
            // 100, less one by the router.
            assert_eq!((outer.ttl, outer.tos), (99, tos));
            assert_eq!(outer.addresses, [variant.vtep(17), variant.vtep(34)]);
        }
    }
    topology.carried.finish(20, 0);
}

fn ecn_encap(carrier: Carrier, variant: Variant) {
    let topology = TopologyA::up(carrier, variant);
    let mut observer = Observer::on(topology.net.ns("ns1"), "v2");
    for (inner, outer) in [(0, 0), (1, 1), (2, 2), (3, 2)] {
        let seen = outer_headers(&topology, &mut observer, inner);
        assert_eq!(seen.len(), 10);
        for seen in seen {
            assert_eq!(seen.tos, outer, "inner {inner}");
        }
    }
    topology.carried.finish(40, 0);
}

/// Inner and outer ECN field, and what the inner one becomes. Not-ECT in CE is not here: it is dropped.
const DECAPSULATED: [(u8, u8, u8); 15] = [
    (0, 0, 0),
    (0, 1, 0),
    (0, 2, 0),
    (1, 0, 1),
    (1, 1, 1),
    (1, 2, 1),
    (1, 3, 3),
    (2, 0, 2),
    (2, 1, 1),
    (2, 2, 2),
    (2, 3, 3),
    (3, 0, 3),
    (3, 1, 3),
    (3, 2, 3),
    (3, 3, 3),
];

fn ecn_decap(carrier: Carrier, variant: Variant) {
    let topology = TopologyA::up(carrier, variant);
    let net = &topology.net;
    let sender = Sender::on(net.ns("ns1"), "v2");
    let mut h1 = Observer::on(net.ns("h1"), "eth0");
    let macs = [net.mac("r", "v1"), net.mac("ns1", "v2")];
    let inner_macs = [net.mac("h1", "eth0"), net.mac("ns1", "br2")];
    let outer = |tos, inner: &[u8]| {
        let vteps = [variant.vtep(34), variant.vtep(17)];
        let payload = [&vxlan(VNI)[..], inner].concat();
        let packet = udp(vteps, tos, [23_456, variant.port], &payload);
        ethernet_ip(macs[0], macs[1], &packet)
    };
    let sentinel = |mark: &Mark| outer(0, &topology.sentinel_inner(mark));
    let frames = |inner_tos, outer_tos, mark: &Mark| {
        let hosts = [variant.host(3), variant.host(1)];
        ten(|| {
            let packet = probe(hosts, inner_tos, mark);
            outer(
                outer_tos,
                &ethernet_ip(inner_macs[0], inner_macs[1], &packet),
            )
        })
    };
    for (inner, outer, decapsulated) in DECAPSULATED {
        let seen = play(
            &sender,
            &mut [&mut h1],
            |mark| frames(inner, outer, mark),
            sentinel,
        );
        assert_eq!(seen[0].len(), 10, "inner {inner}, outer {outer}");
        for frame in &seen[0] {
            let seen = Seen::of(frame).expect("an IP frame");
            assert_eq!(seen.tos, decapsulated, "inner {inner}, outer {outer}");
        }
    }
    let errors = || counter(net.ns("sw"), "vx1", "rx_errors");
    let (errors_before, drops_before) = (errors(), topology.carried.drops("tunnel_ecn"));
    let seen = play(&sender, &mut [&mut h1], |mark| frames(0, 3, mark), sentinel);
    assert_eq!(seen[0].len(), 0, "CE around Not-ECT is dropped");
    let counted = errors() - errors_before + topology.carried.drops("tunnel_ecn") - drops_before;
    assert_eq!(counted, 10);
    assert!(
        !topology.carried.is_vxgate() || topology.carried.drops("tunnel_ecn") > drops_before,
        "vxgate was the one that dropped them"
    );
    topology.carried.finish(0, 150);
}
