//! The Group Policy extension: marks of frames travel in the VXLAN header, between `vxgate` and the plain kernel.
//!
//! | device | underlay | inner network |
//! |---|---|---|
//! | `b4` | IPv4, UDP 5009 | 10.99.0.1, .2 |
//! | `b6` | IPv6, UDP 5010 | 10.98.0.1, .2 |
//!
//! What the sender's socket or nftables marks, the receiver's nftables must see, and an independent decoder on the wire.
//! Every number is asserted of the plain kernel, too.

use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

use crate::support::bulk::Transfer;
use crate::support::capture::Capture;
use crate::support::frames::{RawSocket, mac};
use crate::support::lab::{Lab, LabOptions, Node};
use crate::support::netns::Netns;
use crate::support::vxgate::Superframes::{self, Auto, Off};
use crate::support::wait_until;
use crate::who::Who;

const NODES: [Node; 2] = [Node::Master, Node::Worker];

struct Device {
    name: &'static str,
    id: u32,
    port: u16,
    net: &'static str,
    local: fn(&Lab, Node) -> String,
    /// Where the VXLAN header is in a frame on the wire.
    header_at: usize,
}

const DEVICES: [Device; 2] = [
    Device {
        name: "b4",
        id: 9,
        port: 5009,
        net: "10.99.0.",
        local: |lab, node| lab.vtep_address(node),
        header_at: 42,
    },
    Device {
        name: "b6",
        id: 10,
        port: 5010,
        net: "10.98.0.",
        local: |lab, node| lab.vtep_address6(node),
        header_at: 62,
    },
];

/// A mark, the first word of the header that it becomes, and the mark that comes out.
const MARKS: [(u32, [u8; 4], u32); 6] = [
    (0, [0x08, 0, 0, 0], 0),
    (0x1234, [0x88, 0, 0x12, 0x34], 0x1234),
    // Do not learn; policy applied; both and all of the ID.
    (0x0040_0001, [0x88, 0x40, 0, 1], 0x0040_0001),
    (0x0008_0002, [0x88, 0x08, 0, 2], 0x0008_0002),
    (0xffff_ffff, [0x88, 0x48, 0xff, 0xff], 0x0048_ffff),
    // Nothing of it has a place, but there is a mark.
    (0x0300_0000, [0x88, 0, 0, 0], 0),
];
const FRAMES: u64 = 20;
/// The station that the test's frames are from, so that no others are counted.
const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 0x51];
/// Hundreds of frames for the decoder.
const BURSTS: u64 = 60;
/// Of the TCP connection.
const BULK_MARK: u32 = 0x0008_0777;

fn lab() -> Lab {
    let lab = Lab::with(LabOptions {
        dual_stack: true,
        ..LabOptions::default()
    });
    for node in NODES {
        let netns = lab.node(node);
        for device in &DEVICES {
            let Device { name, id, port, .. } = device;
            netns.run(&format!(
                "ip link add {name} type vxlan id {id} local {} dev eth1 dstport {port} nolearning gbp",
                (device.local)(&lab, node)
            ));
            netns.run(&format!("sysctl -qw net.ipv6.conf.{name}.disable_ipv6=1"));
            netns.run(&format!("ip link set {name} up"));
            let number = node.number();
            netns.run(&format!("ip addr add {}{number}/24 dev {name}", device.net));
        }
    }
    for node in NODES {
        let netns = lab.node(node);
        for device in &DEVICES {
            let (name, peer) = (device.name, lab.mac(node.peer(), device.name));
            let remote = (device.local)(&lab, node.peer());
            netns.run(&format!(
                "bridge fdb add {peer} dev {name} dst {remote} self permanent"
            ));
            let addr = format!("{}{}", device.net, node.peer().number());
            netns.run(&format!(
                "ip neigh replace {addr} lladdr {peer} dev {name} nud permanent"
            ));
        }
        count_marks(&netns);
    }
    lab
}

/// Counters of arriving frames by device and mark, and a mark for what TCP sends.
fn count_marks(netns: &Netns) {
    for device in &DEVICES {
        let name = device.name;
        netns.run(&format!("nft add table netdev {name}"));
        netns.run(&format!(
            "nft add chain netdev {name} in {{ type filter hook ingress device {name} priority 0 ; }}"
        ));
        let sender = SENDER.map(|byte| format!("{byte:02x}")).join(":");
        for (_, _, mark) in MARKS {
            netns.run(&format!("nft add counter netdev {name} m{mark}"));
            if mark == 0 {
                continue;
            }
            netns.run(&format!(
                "nft add rule netdev {name} in ether saddr {sender} meta mark {mark} counter name m{mark} accept"
            ));
        }
        // All others, so that a wrong mark shows, too.
        netns.run(&format!(
            "nft add rule netdev {name} in ether saddr {sender} meta mark 0 counter name m0 accept"
        ));
        netns.run(&format!("nft add counter netdev {name} other"));
        netns.run(&format!(
            "nft add rule netdev {name} in ether saddr {sender} counter name other"
        ));
        for counter in ["bulk", "unmarked"] {
            netns.run(&format!("nft add counter netdev {name} {counter}"));
        }
        netns.run(&format!(
            "nft add rule netdev {name} in ip protocol tcp meta mark {BULK_MARK} counter name bulk accept"
        ));
        netns.run(&format!(
            "nft add rule netdev {name} in ip protocol tcp counter name unmarked"
        ));
    }
    netns.run("nft add table inet marks");
    netns.run("nft add chain inet marks out { type filter hook output priority 0 ; }");
    for device in &DEVICES {
        netns.run(&format!(
            "nft add rule inet marks out oifname {} ip protocol tcp meta mark set {BULK_MARK}",
            device.name
        ));
    }
}

fn counted(netns: &Netns, device: &Device, counter: &str) -> u64 {
    let text = netns.run(&format!(
        "nft -j list counter netdev {} {counter}",
        device.name
    ));
    let json: serde_json::Value = serde_json::from_str(&text).expect("nft prints JSON");
    let objects = json["nftables"].as_array().expect("a list");
    objects
        .iter()
        .find_map(|object| object["counter"]["packets"].as_u64())
        .unwrap_or_else(|| panic!("no counter {counter}: {text}"))
}

/// One frame in shapes that differ: without a tag, with one and with two, as short as frames get and as long.
fn shapes(to: [u8; 6]) -> [Vec<u8>; 5] {
    let frame = [&to[..], &SENDER, &[0x88, 0xb5], &[0x5a; 80]].concat();
    let tag = |tag: [u8; 4], frame: &[u8]| [&frame[..12], &tag, &frame[12..]].concat();
    let one = tag([0x81, 0, 0x60, 10], &frame);
    let two = tag([0x88, 0xa8, 0, 20], &one);
    let short = frame[..14].to_vec();
    let long = [&short[..], &[0x5a; 1430]].concat();
    [frame, one, two, short, long]
}

/// Sends every shape with every mark from a node; asserts what is on the wire and what arrives.
fn marks_arrive(lab: &Lab, device: &Device, from: Node) {
    let (sender, receiver) = (lab.node(from), lab.node(from.peer()));
    let wire = RawSocket::open(&lab.netns("sw"), &format!("p{}", from.number()));
    let source = RawSocket::open(&sender, device.name);
    let end = RawSocket::open(&receiver, device.name);
    let to = mac(&lab.mac(from.peer(), device.name));
    for shape in shapes(to) {
        for (mark, word, comes_out) in MARKS {
            let what = format!(
                "{} {mark:#x} {} bytes from {from:?}",
                device.name,
                shape.len()
            );
            setsockopt(&source, sockopt::Mark, &mark).expect("root may mark");
            let counter = format!("m{comes_out}");
            let before = counted(&receiver, device, &counter);
            for _ in 0..FRAMES {
                source.send(&shape);
            }
            wait_until(&what, Duration::from_secs(10), || {
                counted(&receiver, device, &counter) >= before + FRAMES
            });
            assert_eq!(
                counted(&receiver, device, &counter),
                before + FRAMES,
                "{what}"
            );
            let mut words = Vec::new();
            while let Some(bytes) = wire.receive() {
                if bytes.ends_with(&shape) {
                    let header = &bytes[device.header_at..bytes.len() - shape.len()];
                    assert_eq!(header.len(), 8, "{what}");
                    words.push([header[0], header[1], header[2], header[3]]);
                }
            }
            assert_eq!(words, vec![word; FRAMES as usize], "{what}");
            assert_eq!(as_delivered(&end, &shape), FRAMES, "{what}");
        }
    }
    assert_eq!(counted(&receiver, device, "other"), 0);
}

/// How many frames a device has delivered since the last look, each as it was sent. The kernel keeps the outermost tag
/// beside the bytes.
fn as_delivered(end: &RawSocket, shape: &[u8]) -> u64 {
    let tagged = matches!(shape[12..14], [0x81, 0] | [0x88, 0xa8]);
    let expected = if tagged {
        [&shape[..12], &shape[16..]].concat()
    } else {
        shape.to_vec()
    };
    let mut delivered = 0;
    while let Some(bytes) = end.receive() {
        if bytes[6..12] == SENDER {
            assert_eq!(bytes, expected);
            delivered += 1;
        }
    }
    delivered
}

/// Superframes, whose segments all carry the mark, and acknowledgements the other way.
fn bulk_arrives(lab: &Lab, device: &Device) {
    let [client, server] = NODES.map(|node| lab.node(node));
    let bytes = 8 << 20;
    Transfer::start(&client, &server, &format!("{}2", device.net), bytes, None).finish();
    for node in [&client, &server] {
        let [bulk, unmarked] = ["bulk", "unmarked"].map(|counter| counted(node, device, counter));
        // What the kernel merges on arrival counts as one.
        assert!(
            bulk > 100,
            "{} frames with the mark on {}",
            bulk,
            node.name()
        );
        assert_eq!(unmarked, 0, "{}", node.name());
    }
}

/// What the decoder makes of the worker's frames with the mark 0x1234 and both flags. Whoever sends them has left their checksums
/// to the device, which has lost the offload by now: the kernel finishes them.
fn decoded(lab: &Lab, device: &Device) {
    lab.node(Node::Worker).run("ethtool -K eth1 tx off");
    let wire = Capture::start(&lab.netns("sw"), "p2");
    let to = mac(&lab.mac(Node::Master, device.name));
    let source = RawSocket::open(&lab.node(Node::Worker), device.name);
    setsockopt(&source, sockopt::Mark, &0x0048_1234).expect("root may mark");
    let [frame, ..] = shapes(to);
    // The capture loses what it still buffers when it ends: it gets far more than is asked for.
    let receiver = lab.node(Node::Master);
    for burst in 1..=BURSTS {
        for _ in 0..100 {
            source.send(&frame);
        }
        wait_until("a burst", Duration::from_secs(10), || {
            counted(&receiver, device, "other") == burst * 100
        });
    }
    let fields = [
        "vxlan.gbp",
        "vxlan.flag_g",
        "vxlan.flag_d",
        "vxlan.flag_a",
        "udp.checksum.status",
    ];
    let filter = format!("udp.dstport=={} && eth.type==0x88b5", device.port);
    let lines = wire.finish_with(&filter, &fields);
    assert!(lines.len() >= 20, "{} frames decoded", lines.len());
    for line in lines {
        let [id, g, d, a, checksum] = &line[..] else {
            panic!("tshark prints the columns that were asked for: {line:?}");
        };
        assert_eq!(id.parse(), Ok(0x1234));
        for flag in [g, d, a] {
            assert!(flag == "1" || flag == "True", "{line:?}");
        }
        assert_eq!(checksum, "1", "a good checksum");
    }
}

fn play(who: Who, superframes: Superframes) {
    let lab = lab();
    let gateways = who.start_with(&lab, superframes, &[]);
    for (_, vxgate) in &gateways {
        wait_until("both VTEPs are resolved", Duration::from_secs(20), || {
            let status = vxgate.status();
            DEVICES.iter().all(|device| {
                let mut vteps = status.list("vteps");
                vteps.any(|vtep| vtep["device"] == device.name && vtep["state"] == "resolved")
            })
        });
    }
    for device in &DEVICES {
        for from in NODES {
            marks_arrive(&lab, device, from);
        }
        decoded(&lab, device);
        bulk_arrives(&lab, device);
    }
    for (node, vxgate) in gateways {
        let status = vxgate.balanced();
        for device in &DEVICES {
            let port = status
                .list("ports")
                .find(|port| port["name"] == device.name)
                .unwrap_or_else(|| panic!("{} on {node:?}: {}", device.name, status.0));
            let stale = port["passed"]["heartbeat_stale"].as_u64().unwrap_or(0);
            let forwarded = port["forwarded"].as_u64().expect("a count");
            let marked = (MARKS.len() * 5) as u64 * FRAMES;
            assert!(
                forwarded + stale > marked,
                "{} on {node:?}: {port}",
                device.name
            );
            assert_eq!(
                port["drops"]["total"], 0,
                "{} on {node:?}: {port}",
                device.name
            );
        }
        vxgate.stop();
    }
}

#[test]
fn marks_travel_between_plain_kernels() {
    play(Who::None, Auto);
}

#[test]
fn marks_travel_with_vxgate_on_the_worker() {
    play(Who::Worker, Auto);
}

#[test]
fn marks_travel_with_vxgate_on_both() {
    play(Who::Both, Auto);
}

#[test]
fn marks_travel_with_vxgate_on_the_worker_without_superframes() {
    play(Who::Worker, Off);
}
