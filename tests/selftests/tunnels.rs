//! Point to point: a device at each end, with addresses of its own; what does not fit is fragmented inside. And devices that
//! are not taken over beside one that is.

use std::time::Duration;

use crate::carrier::{Carried, Carrier};
use crate::frame::{BROADCAST, Mark, STRANGER, ethernet_ip, probe, udp, vxlan};
use crate::net::Net;
use crate::probe::{Observer, Sender, fresh_mark, settle};
use crate::support::wait_until;
use crate::topology_a::ATTRIBUTES;

scenarios! {
    v07_test_tunnel_vxlan_over_ipv4
    v07_u01_test_tunnel_vxlan_over_ipv6
    d13_vxlan_vnifiltering_beside_a_carried_device
}

fn v07_test_tunnel_vxlan_over_ipv4(carrier: Carrier) {
    tunnel(carrier, ["10.9.0.1", "10.9.0.2"], 24);
}

fn v07_u01_test_tunnel_vxlan_over_ipv6(carrier: Carrier) {
    tunnel(carrier, ["2001:db8:9::1", "2001:db8:9::2"], 64);
}

/// 2,000 bytes of either family, from either end: one encapsulates what the other decapsulates.
fn tunnel(carrier: Carrier, underlay: [&str; 2], len: u8) {
    let net = Net::new(&["a", "b"], true);
    net.cable(["a", "eth0"], ["b", "eth0"]);
    for (index, name) in ["a", "b"].into_iter().enumerate() {
        let (own, peer, number) = (underlay[index], underlay[1 - index], index + 1);
        net.script(
            name,
            &format!(
                "ip addr add {own}/{len} dev eth0
                 ip link add vx1 type vxlan id 2 local {own} remote {peer} dev eth0 dstport 4789 nolearning
                 ip link set vx1 up
                 ip addr add 10.1.1.{number}/24 dev vx1
                 ip addr add 2001:db8:11::{number}/64 dev vx1"
            ),
        );
    }
    let carried = Carried::start(carrier, net.ns("a"), &["vx1"]);
    wait_until("the ends reach each other", Duration::from_secs(20), || {
        net.reaches("a", "10.1.1.2") && net.reaches("a", "2001:db8:11::2")
    });
    let mut wire = Observer::on(net.ns("b"), "eth0");
    for (from, to) in [("a", 2), ("b", 1)] {
        for size in [56, 2000] {
            for address in [format!("10.1.1.{to}"), format!("2001:db8:11::{to}")] {
                // The pattern is compared with what comes back.
                net.ping(from, &address, 10, &format!("-s {size} -p a55a0ff0"));
            }
        }
    }
    let too_long = wire
        .drain()
        .iter()
        .filter(|frame| frame.len() > 1514)
        .count();
    assert_eq!(too_long, 0, "fragments are inside, not outside");
    // Requests one way, answers the other; twice two fragments of every long one.
    carried.finish(120, 120);
}

/// A device with a filter of VNIs stays with the kernel: it lets in what is listed and nothing else, while another device
/// on the same underlay is carried.
fn d13_vxlan_vnifiltering_beside_a_carried_device(carrier: Carrier) {
    const FILTERED_PORT: u16 = 4790;
    let net = Net::new(&["sw", "r"], false);
    net.cable(["sw", "rp1"], ["r", "rp2"]);
    net.script("r", "ip addr add 10.9.0.2/24 dev rp2");
    net.script(
        "sw",
        &format!(
            "ip addr add 10.9.0.1/24 dev rp1
             ip link add vx1 type vxlan id 1000 local 10.9.0.1 dstport 4789 {ATTRIBUTES}
             bridge fdb append 00:00:00:00:00:00 dev vx1 dst 10.9.0.2 self
             ip link set vx1 up
             ip link add vxf type vxlan external vnifilter local 10.9.0.1 dstport {FILTERED_PORT}
             ip link set vxf up
             bridge vni add dev vxf vni 10
             bridge vni add dev vxf vni 20
             bridge vni add dev vxf vni 30
             bridge vni delete dev vxf vni 30"
        ),
    );
    let carried = Carried::start(carrier, net.ns("sw"), &["vx1"]);
    carried.wait_status("vxf is refused by name", |status| {
        status.device("vxf").is_some_and(|device| {
            let refused = &device["refused"];
            device["taken_over"] == false
                && ["external", "vnifilter"]
                    .iter()
                    .any(|name| refused["attribute"] == *name)
        })
    });
    let router = Sender::on(net.ns("r"), "rp2");
    let (to, from) = (net.mac("sw", "rp1"), net.mac("r", "rp2"));
    let vteps = ["10.9.0.2", "10.9.0.1"].map(|text| text.parse().expect("an address"));
    let hosts = ["192.0.2.3", "192.0.2.1"].map(|text| text.parse().expect("an address"));
    let frame = |vni: u32, port: u16, mark: &Mark| {
        let inner = ethernet_ip(BROADCAST, STRANGER, &probe(hosts, 0, mark));
        let payload = [&vxlan(vni)[..], &inner].concat();
        ethernet_ip(to, from, &udp(vteps, 0, [23_456, port], &payload))
    };
    let [mut plain, mut filtered] = ["vx1", "vxf"].map(|device| Observer::on(net.ns("sw"), device));
    for (vni, port, expected) in [
        (1000, 4789, [10, 0]),
        (10, FILTERED_PORT, [0, 10]),
        (20, FILTERED_PORT, [0, 10]),
        (30, FILTERED_PORT, [0, 0]),
        (1000, FILTERED_PORT, [0, 0]),
        (10, 4789, [0, 0]),
    ] {
        let mark = fresh_mark();
        for _ in 0..10 {
            router.send(frame(vni, port, &mark));
        }
        for _ in 0..2 {
            settle(&router, &mut [&mut plain, &mut filtered], &|mark| {
                vec![frame(1000, 4789, mark), frame(10, FILTERED_PORT, mark)]
            });
        }
        let counts = [plain.count(&mark), filtered.count(&mark)];
        assert_eq!(counts, expected, "VNI {vni} to port {port}");
    }
    if let Some(vxgate) = carried.vxgate() {
        let passed = vxgate.balanced().passed("underlay", "foreign_vni");
        assert_eq!(
            passed, 10,
            "no VNI of ours on our port is the kernel's to judge"
        );
    }
    carried.finish(0, 20);
}
