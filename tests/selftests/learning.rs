//! Learned addresses: those of the device are the kernel's business, those of its bridge port are there in any case.

use std::time::Duration;

use crate::bridge_1d::{IPV6, PLAIN, UNKNOWN};
use crate::carrier::{Carried, Carrier};
use crate::frame::{BROADCAST, Mark, STRANGER, ethernet_ip, probe};
use crate::probe::{Observer, Sender, play};
use crate::support::frames::mac_text;
use crate::support::stream::Stream;
use crate::support::wait_until;
use crate::topology_a::{TopologyA, Variant};

scenarios! {
    d16_vxlan_bridge_1d_learning
    d16_vxlan_bridge_1d_ipv6_learning
    vxlan_bridge_1d_learning_of_the_bridge_port
}

fn d16_vxlan_bridge_1d_learning(carrier: Carrier) {
    learning(carrier, PLAIN);
}

fn d16_vxlan_bridge_1d_ipv6_learning(carrier: Carrier) {
    learning(carrier, IPV6);
}

/// Learning is the kernel's. `vxgate` says so, hands the device over while frames flow, and takes it again.
fn learning(carrier: Carrier, variant: Variant) {
    let mut topology = TopologyA::up(carrier, variant);
    switch_learning(
        &topology,
        "ip link set br1 type bridge ageing_time 1000
         ip link set vx1 type vxlan id 1000 ageing 10
         ip link set vx1 type vxlan id 1000 learning",
        |carried| carried.wait_refused("vx1", "learning"),
    );
    assert_eq!(topology.ten_probes(UNKNOWN, 100), [10, 10, 10], "before");
    teach(&topology);
    assert_eq!(topology.ten_probes(UNKNOWN, 100), [0, 10, 0], "learned");
    topology.net.script(
        "sw",
        &format!("bridge fdb del {} dev vx1 master self", mac_text(UNKNOWN)),
    );
    assert_eq!(topology.ten_probes(UNKNOWN, 100), [10, 10, 10], "deleted");
    if !variant.ipv6 {
        teach(&topology);
        assert_eq!(topology.ten_probes(UNKNOWN, 100), [0, 10, 0], "once more");
        // Ten seconds, and the device looks every ten.
        wait_until("the address is forgotten", Duration::from_secs(40), || {
            learned(&topology) == [0, 0]
        });
        assert_eq!(topology.ten_probes(UNKNOWN, 100), [10, 10, 10], "aged");
    }
    switch_learning(
        &topology,
        "ip link set vx1 type vxlan id 1000 nolearning
         ip link set vx1 type vxlan id 1000 ageing 300",
        |carried| carried.wait_taken("vx1"),
    );
    let before = topology.carried.vxgate().map(|vxgate| vxgate.status());
    assert_eq!(topology.ten_probes(UNKNOWN_TOO, 100), [10, 10, 10], "after");
    if let (Some(vxgate), Some(before)) = (topology.carried.vxgate(), before) {
        let now = vxgate.balanced();
        let ours = now.forwarded("access") - before.forwarded("access");
        let stale =
            now.passed("access", "heartbeat_stale") - before.passed("access", "heartbeat_stale");
        assert!(
            ours + stale >= 10 && ours >= 5,
            "vxgate carries again: {}",
            now.0
        );
    }
    topology.carried.stop();
}

/// Runs lines that change who carries, under a numbered stream: nothing is delivered twice or damaged, and it is short.
fn switch_learning(topology: &TopologyA, lines: &str, wait: impl Fn(&Carried)) {
    let [h1, ns1] = ["h1", "ns1"].map(|name| topology.net.ns(name));
    // The stream's ends are of IPv4.
    let stream = (!topology.variant.ipv6).then(|| {
        let address = topology.variant.host(3).to_string();
        Stream::start("while the carrier changes", h1, ns1, &address)
    });
    topology.net.script("sw", lines);
    wait(&topology.carried);
    let Some(stream) = stream else { return };
    let report = stream.finish();
    assert_eq!((report.duplicated, report.damaged), (0, 0), "{report:?}");
    assert!(report.longest_gap_ms < 1000.0, "{report:?}");
}

/// A host behind ns1 speaks, so that its address is learned, by the device and by the bridge.
fn teach(topology: &TopologyA) {
    let sender = Sender::on(topology.net.ns("ns1"), "br2");
    let mut h1 = Observer::on(topology.net.ns("h1"), "eth0");
    let variant = topology.variant;
    let from = |mac, host, mark: &Mark| {
        let hosts = [variant.host(host), variant.host(1)];
        ethernet_ip(BROADCAST, mac, &probe(hosts, 0, mark))
    };
    let ns1_host = topology.net.mac("ns1", "br2");
    play(
        &sender,
        &mut [&mut h1],
        |mark| vec![from(UNKNOWN, 100, mark)],
        |mark| from(ns1_host, 3, mark),
    );
    assert_eq!(learned(topology), [1, 1], "by the device, by the bridge");
}

/// Entries of the address in the device's FDB and in that of the bridge.
fn learned(topology: &TopologyA) -> [usize; 2] {
    let said = topology.net.ns("sw").run("bridge fdb show brport vx1");
    let text = mac_text(UNKNOWN);
    let of_mac: Vec<_> = said.lines().filter(|line| line.contains(&text)).collect();
    let of_device = of_mac.iter().filter(|line| line.contains("self")).count();
    [of_device, of_mac.len() - of_device]
}

/// What arrives through the device is learned by the bridge, when its port is to learn.
fn vxlan_bridge_1d_learning_of_the_bridge_port(carrier: Carrier) {
    let topology = TopologyA::up(carrier, PLAIN);
    let net = &topology.net;
    let sender = Sender::on(net.ns("ns1"), "br2");
    let mut h1 = Observer::on(net.ns("h1"), "eth0");
    let hosts = [PLAIN.host(100), PLAIN.host(1)];
    for (learning, mac, entries) in [("off", UNKNOWN, 0), ("on", UNKNOWN_TOO, 1)] {
        net.script(
            "sw",
            &format!("ip link set vx1 type bridge_slave learning {learning}"),
        );
        let from_mac = |mark: &Mark| ethernet_ip(BROADCAST, mac, &probe(hosts, 0, mark));
        let seen = play(
            &sender,
            &mut [&mut h1],
            |mark| vec![from_mac(mark)],
            from_mac,
        );
        assert_eq!(seen[0].len(), 1);
        let said = net.ns("sw").run("bridge fdb show brport vx1");
        let text = mac_text(mac);
        let of_mac = said.lines().filter(|line| line.contains(&text)).count();
        assert_eq!(of_mac, entries, "learning {learning}: {said}");
    }
    topology.carried.finish(0, 6);
}

/// Another MAC address that nobody has.
const UNKNOWN_TOO: [u8; 6] = [STRANGER[0], 0, 0x5e, 0x10, 0, 0x98];
