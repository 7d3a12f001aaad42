//! Two stacks as flannel makes them: `flannel.1` and `flannel-v6.1` with the same VNI and UDP port, on addresses of both
//! families, with `vxgate` on one node, the other or both, and the plain kernel elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use etherparse::{IpNumber, PacketBuilder};

use crate::support::bulk::{self, Transfer};
use crate::support::capture::{self, Capture};
use crate::support::frames::{self, RawSocket};
use crate::support::lab::{Lab, LabOptions, Node};
use crate::support::netns::Netns;
use crate::support::vxgate::Status;
use crate::support::vxgate::Superframes::{self, Auto, Off};
use crate::support::wait_until;
use crate::who::{Who, assert_forwarded_since, statuses};
use std::time::Duration;

const BULK_BYTES: u64 = 10 << 20;
const DEVICES: [&str; 2] = ["flannel.1", "flannel-v6.1"];
const NODES: [Node; 2] = [Node::Master, Node::Worker];

fn lab(offloads: bool) -> Lab {
    Lab::with(LabOptions {
        dual_stack: true,
        offloads,
        ..LabOptions::default()
    })
}

#[test]
fn both_stacks_play_on_the_plain_kernel() {
    play(Who::None, Auto);
}

#[test]
fn both_stacks_play_with_vxgate_on_the_worker() {
    play(Who::Worker, Auto);
}

#[test]
fn both_stacks_play_with_vxgate_on_the_master() {
    play(Who::Master, Auto);
}

#[test]
fn both_stacks_play_with_vxgate_on_both() {
    play(Who::Both, Auto);
}

#[test]
fn both_stacks_play_with_vxgate_on_both_without_superframes() {
    play(Who::Both, Off);
}

fn play(who: Who, superframes: Superframes) {
    let lab = lab(true);
    let gateways = who.start_with(&lab, superframes, &[]);
    let before = statuses(&gateways);
    for (_, vxgate) in &gateways {
        for name in DEVICES {
            let status = vxgate.status();
            let device = status.device(name).expect("the device is known");
            assert_eq!(device["taken_over"], true, "{device}");
        }
    }
    let [master, worker] = NODES.map(|node| lab.client(node));
    let wire = Capture::start(&lab.netns("sw"), "p2");
    for node in NODES {
        web(&lab, node);
        ping6(&lab, node);
    }
    let [to_master, to_worker] = NODES.map(|node| lab.client_address6(node));
    bulk::udp_flows(&worker, &master, &to_master, 50);
    bulk::tcp_flows(&master, &worker, &to_worker, 8);
    capture::assert_clean(&wire.finish());
    for address in [&to_worker, &lab.client_address(Node::Worker)] {
        Transfer::start(&master, &worker, address, BULK_BYTES, None).finish();
    }
    assert_forwarded_since(&gateways, &before);
    for (node, vxgate) in gateways {
        let status = vxgate.balanced();
        assert_eq!(status.state(), "healthy");
        assert_eq!(dead_on_the_wire(&status), 0, "{}", status.0);
        for name in DEVICES {
            assert_carried(&lab, node, &status, name);
        }
        vxgate.stop();
    }
}

/// Pods of both nodes talk to each other's web servers over either family; no NAT on the way.
fn web(lab: &Lab, node: Node) {
    let peer = node.peer();
    let cases = [
        (
            format!("[{}]", lab.web_address6(peer)),
            lab.client_address6(node),
        ),
        (lab.web_address(peer), lab.client_address(node)),
    ];
    for (server, client) in cases {
        let answer = get(&lab.client(node), &format!("http://{server}/"));
        assert_eq!(answer, format!("pod=web{} client={client}", peer.number()));
    }
}

/// Echoes of all sizes up to the largest that fits the device; one byte more is refused, as its MTU of 1430 says.
fn ping6(lab: &Lab, node: Node) {
    let (client, peer) = (lab.client(node), lab.client_address6(node.peer()));
    for size in [0, 1, 56, 1000, 1381, 1382] {
        client.run(&format!(
            "ping -6 -q -c 3 -i 0.01 -W 3 -M do -s {size} {peer}"
        ));
    }
    assert!(
        client
            .try_run(&format!("ping -6 -q -c 1 -W 1 -M do -s 1383 {peer}"))
            .is_err(),
        "1431 bytes do not fit an MTU of 1430"
    );
    // Larger than the MTU: the pod fragments, every fragment crosses by itself.
    client.run(&format!("ping -6 -q -c 3 -i 0.01 -W 3 -s 4000 {peer}"));
}

fn get(from: &Netns, url: &str) -> String {
    from.run(&format!("curl -g -sSf -m 10 {url}"))
        .trim()
        .to_owned()
}

/// Drops that a remote's frames can die of when something is wrong with the headers of either side.
fn dead_on_the_wire(status: &Status) -> u64 {
    [
        "outer_malformed",
        "outer_csum",
        "zero_csum6",
        "vni_not_found",
        "unknown_peer",
        "tunnel_ecn",
    ]
    .iter()
    .map(|reason| status.drops("underlay", reason))
    .sum()
}

/// The device's frames went through its own access device and around the kernel device.
fn assert_carried(lab: &Lab, node: Node, status: &Status, name: &str) {
    let port = status
        .list("ports")
        .find(|port| port["name"] == name)
        .unwrap_or_else(|| panic!("a port {name} in {}", status.0));
    let forwarded = port["forwarded"].as_u64().expect("a count");
    assert!(
        forwarded > 50,
        "{name} on {node:?}: {forwarded} frames forwarded"
    );
    let text = lab
        .node(node)
        .run(&format!("ip -json -s link show dev {name}"));
    let links: serde_json::Value = serde_json::from_str(&text).expect("ip prints JSON");
    for (way, role) in [("rx", "underlay"), ("tx", "access")] {
        let packets = links[0]["stats64"][way]["packets"]
            .as_u64()
            .expect("a count");
        // A few frames crossed the kernel's own path before vxgate took over (the lab checks itself), and those that came
        // while a worker was kept off a busy core for 200 ms.
        let explained = 100 + status.passed(role, "heartbeat_stale");
        assert!(
            packets < explained,
            "{name} on {node:?} carried {packets} frames itself ({way}), {explained} explained"
        );
    }
}

/// One frame of the wire with an outer IPv6 header.
struct OnTheWire {
    source: String,
    hop_limit: String,
    class: String,
    label: String,
    /// tshark's verdict on the outer UDP checksum.
    checksum: String,
    source_port: String,
    inner: String,
}

const FIELDS: [&str; 9] = [
    "ipv6.src",
    "ipv6.hlim",
    "ipv6.tclass",
    "ipv6.flow",
    "udp.checksum.status",
    "udp.srcport",
    "tcp.srcport",
    "tcp.dstport",
    "ip.src",
];
const GOOD: &str = "1";

/// Ends the capture; its VXLAN frames over IPv6, decoded.
fn over_ipv6(wire: Capture) -> Vec<OnTheWire> {
    let outer = |column: &str| column.split(',').next().unwrap_or_default().to_owned();
    wire.finish_with("eth.type==0x86dd && vxlan && udp.dstport==8472", &FIELDS)
        .iter()
        .map(|columns| {
            let [
                source,
                hop_limit,
                class,
                label,
                checksum,
                port,
                tcp_from,
                tcp_to,
                ip,
            ] = &columns[..]
            else {
                panic!("tshark prints the columns that were asked for: {columns:?}");
            };
            OnTheWire {
                source: outer(source),
                hop_limit: outer(hop_limit),
                class: outer(class),
                label: outer(label),
                checksum: outer(checksum),
                source_port: outer(port),
                inner: format!("{source} {ip} {tcp_from} {tcp_to}"),
            }
        })
        .filter(|frame| frame.source.starts_with("fd00:a::"))
        .collect()
}

#[test]
fn u01_the_wire_shows_right_checksums_one_source_port_a_flow_and_what_the_kernel_sends() {
    for who in [Who::None, Who::Both] {
        let lab = lab(false); // Without offloads: every checksum on the wire is finished.
        let gateways = who.start(&lab);
        let [master, worker] = NODES.map(|node| lab.client(node));
        let wire = Capture::start(&lab.netns("sw"), "p2");
        bulk::tcp_flows(&master, &worker, &lab.client_address6(Node::Worker), 24);
        bulk::tcp_flows(&worker, &master, &lab.client_address6(Node::Master), 8);
        for node in NODES {
            ping6(&lab, node);
        }
        // A worker that was kept off a busy core for 200 ms left frames to the kernel, whose hash is another one.
        let stale: u64 = statuses(&gateways)
            .iter()
            .map(|status| status.passed("access", "heartbeat_stale"))
            .sum();
        let ports_max = if stale == 0 { 1 } else { 2 };
        drop(gateways);
        let frames = over_ipv6(wire);
        assert!(frames.len() > 1000, "{} frames", frames.len());
        let mut ports: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for frame in &frames {
            assert_eq!(frame.checksum, GOOD, "{who:?}, from {}", frame.source);
            assert_eq!(
                (frame.hop_limit.as_str(), frame.label.as_str()),
                ("64", "0x000000"),
                "{who:?}"
            );
            if frame.inner.len() > 40 {
                ports
                    .entry(&frame.inner)
                    .or_default()
                    .insert(&frame.source_port);
            }
        }
        let flows: Vec<_> = ports
            .iter()
            .filter(|(inner, _)| inner.ends_with(|c: char| c.is_ascii_digit()))
            .collect();
        assert!(flows.len() >= 32, "{} flows", flows.len());
        for (flow, ports) in flows {
            assert!(
                ports.len() <= ports_max,
                "{who:?}: one source port for {flow}: {ports:?}"
            );
        }
    }
}

#[test]
fn d17_attributes_of_the_device_are_followed_while_frames_flow() {
    for who in [Who::None, Who::Worker] {
        let lab = lab(false);
        let gateways = who.start(&lab);
        lab.node(Node::Worker)
            .run("ip link set flannel-v6.1 type vxlan id 1 flowlabel 0xabcde ttl 9 tos inherit");
        let from = lab.vtep_address6(Node::Worker);
        wait_until(
            "frames carry what the device says",
            Duration::from_secs(20),
            || {
                let wire = Capture::start(&lab.netns("sw"), "p2");
                // Long enough for what the capture still buffers to be only the end of it.
                lab.client(Node::Worker).run(&format!(
                    "ping -6 -q -c 60 -i 0.01 -W 3 -Q 0xb8 {}",
                    lab.client_address6(Node::Master)
                ));
                let frames = over_ipv6(wire);
                let sent: Vec<_> = frames.iter().filter(|frame| frame.source == from).collect();
                sent.len() >= 5
                    && sent
                        .iter()
                        .filter(|frame| frame.class == "0x000000b8")
                        .count()
                        >= 5
                    && sent
                        .iter()
                        .all(|frame| (&*frame.hop_limit, &*frame.label) == ("9", "0x0abcde"))
            },
        );
        for (_, vxgate) in gateways {
            vxgate.balanced();
            vxgate.stop();
        }
    }
}

/// VXLAN over IPv6 from the master's VTEP to the worker's, around an ARP request that nobody answers.
fn crafted(lab: &Lab, next_header: Option<u8>) -> Vec<u8> {
    let [from, to] = NODES.map(|node| frames::mac(&lab.mac(node, "eth1")));
    let addresses = NODES.map(|node| {
        let addr: std::net::Ipv6Addr = lab.vtep_address6(node).parse().expect("an address");
        addr.octets()
    });
    let inner = [
        &frames::mac(&lab.mac(Node::Worker, "flannel-v6.1"))[..],
        &frames::mac(&lab.mac(Node::Master, "flannel-v6.1")),
        &[8, 6],
        &[0; 28],
    ]
    .concat();
    let vxlan = [&[8, 0, 0, 0, 0, 0, 1, 0][..], &inner].concat();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(from, to)
        .ipv6(addresses[0], addresses[1], 64)
        .udp(50_000, 8472)
        .write(&mut frame, &vxlan)
        .expect("writing to memory");
    if let Some(header) = next_header {
        // Eight bytes of options (PadN) between IPv6 and UDP.
        let options = [IpNumber::UDP.0, 0, 1, 4, 0, 0, 0, 0];
        frame.splice(54..54, options);
        frame[20] = header;
        let len = u16::from_be_bytes([frame[18], frame[19]]) + 8;
        frame[18..20].copy_from_slice(&len.to_be_bytes());
    }
    frame
}

#[test]
fn u02_zero_checksums_die_as_in_the_kernel_and_extension_headers_are_left_to_it() {
    const FRAMES: u64 = 20;
    let destination_options = IpNumber::IPV6_DESTINATION_OPTIONS.0;
    let received_by_the_kernel = |lab: &Lab| {
        let text = lab
            .node(Node::Worker)
            .run("ip -json -s link show dev flannel-v6.1");
        let links: serde_json::Value = serde_json::from_str(&text).expect("ip prints JSON");
        links[0]["stats64"]["rx"]["packets"]
            .as_u64()
            .expect("a count")
    };

    // The kernel alone, as the control: an extension header does no harm, a zero checksum does.
    let control = lab(true);
    let wire = RawSocket::open(&control.netns("sw"), "p2");
    let before = received_by_the_kernel(&control);
    let mut zero = crafted(&control, None);
    zero[60..62].fill(0);
    let extended = crafted(&control, Some(destination_options));
    for _ in 0..FRAMES {
        wire.send(&zero);
        wire.send(&extended);
    }
    wait_until(
        "the kernel takes those with options",
        Duration::from_secs(5),
        || received_by_the_kernel(&control) >= before + FRAMES,
    );
    assert!(received_by_the_kernel(&control) < before + 2 * FRAMES);
    drop(control);

    let lab = lab(true);
    let gateways = Who::Worker.start(&lab);
    let vxgate = &gateways[0].1;
    let wire = RawSocket::open(&lab.netns("sw"), "p2");
    let kernel_before = received_by_the_kernel(&lab);
    let before = vxgate.status();
    let mut zero = crafted(&lab, None);
    zero[60..62].fill(0);
    let extended = crafted(&lab, Some(destination_options));
    for _ in 0..FRAMES {
        wire.send(&zero);
        wire.send(&extended);
        wire.send(&crafted(&lab, None));
    }
    wait_until("all are counted", Duration::from_secs(5), || {
        let now = vxgate.status();
        now.drops("underlay", "zero_csum6") == before.drops("underlay", "zero_csum6") + FRAMES
            && now.passed("underlay", "ip_options")
                >= before.passed("underlay", "ip_options") + FRAMES
            && now.forwarded("underlay") >= before.forwarded("underlay") + FRAMES
            && received_by_the_kernel(&lab) >= kernel_before + FRAMES
    });
    vxgate.balanced();
}
