//! Many devices at once, each with an attribute or an FDB entry of its own, between `vxgate` and the plain kernel.
//!
//! | device | what it is about |
//! |---|---|
//! | `ll` | link-local VTEP addresses |
//! | `zero` | UDP checksums of zero over IPv6, sent and accepted |
//! | `rem4`, `rem6` | `remote`: the default destination, for broadcast too |
//! | `own` | FDB entries with a port and a VNI of their own: both differ between the nodes |
//! | `six` | `ttl inherit`, `tos inherit`, a source port range, no UDP checksum, over IPv4 around IPv6 |

use std::time::Duration;

use crate::support::capture::Capture;
use crate::support::lab::{Lab, LabOptions, Node};
use crate::support::wait_until;
use crate::who::Who;

const NODES: [Node; 2] = [Node::Master, Node::Worker];

/// A device, and the attributes of its end on a node.
struct Device {
    name: &'static str,
    /// Its inner network, in front of `.1` and `.2`, or `::1` and `::2`.
    net: &'static str,
    /// All after `type vxlan`.
    attributes: fn(&Lab, Node) -> String,
    /// What follows `dst` of the FDB entry for the other end; none when the device finds it by itself.
    destination: Option<fn(&Lab, Node) -> String>,
}

const DEVICES: &[Device] = &[
    Device {
        name: "ll",
        net: "10.91.0.",
        attributes: |lab, node| {
            format!("id 7 local {} dev eth1 dstport 5003", link_local(lab, node))
        },
        destination: Some(|lab, node| format!("{} via eth1", link_local(lab, node.peer()))),
    },
    Device {
        name: "zero",
        net: "10.92.0.",
        attributes: |lab, node| {
            let local = lab.vtep_address6(node);
            format!("id 8 local {local} dev eth1 dstport 5004 udp6zerocsumtx udp6zerocsumrx")
        },
        destination: Some(|lab, node| lab.vtep_address6(node.peer())),
    },
    Device {
        name: "rem4",
        net: "10.93.0.",
        attributes: |lab, node| {
            let [local, remote] = [node, node.peer()].map(|node| lab.vtep_address(node));
            format!("id 9 local {local} remote {remote} dev eth1 dstport 5005")
        },
        destination: None,
    },
    Device {
        name: "rem6",
        net: "10.94.0.",
        attributes: |lab, node| {
            let [local, remote] = [node, node.peer()].map(|node| lab.vtep_address6(node));
            format!("id 9 local {local} remote {remote} dev eth1 dstport 5005")
        },
        destination: None,
    },
    Device {
        name: "own",
        net: "10.95.0.",
        attributes: |lab, node| {
            let number = node.number();
            let local = lab.vtep_address6(node);
            format!("id 10{number} local {local} dev eth1 dstport 500{number}")
        },
        destination: Some(|lab, node| {
            let number = node.peer().number();
            let remote = lab.vtep_address6(node.peer());
            format!("{remote} port 500{number} vni 10{number}")
        }),
    },
    Device {
        name: "six",
        net: "fd00:96::",
        attributes: |lab, node| {
            let local = lab.vtep_address(node);
            format!(
                "id 11 local {local} dev eth1 dstport 5006 ttl inherit tos inherit srcport 50000 50010 noudpcsum"
            )
        },
        destination: Some(|lab, node| lab.vtep_address(node.peer())),
    },
];

fn link_local(lab: &Lab, node: Node) -> String {
    let text = lab
        .node(node)
        .run("ip -oneline -6 addr show dev eth1 scope link");
    let mut words = text.split([' ', '/']);
    words
        .find(|word| word.starts_with("fe80:"))
        .expect("the kernel gives every link an address")
        .to_owned()
}

fn lab() -> Lab {
    let lab = Lab::with(LabOptions {
        dual_stack: true,
        offloads: false,
        ..LabOptions::default()
    });
    for node in NODES {
        for device in DEVICES {
            let netns = lab.node(node);
            let (name, number) = (device.name, node.number());
            netns.run(&format!(
                "ip link add {name} type vxlan {} nolearning",
                (device.attributes)(&lab, node)
            ));
            netns.run(&format!("ip link set {name} up"));
            let (len, nodad) = if device.net.contains(':') {
                (64, "nodad")
            } else {
                (24, "")
            };
            netns.run(&format!(
                "ip addr add {}{number}/{len} dev {name} {nodad}",
                device.net
            ));
        }
    }
    for node in NODES {
        for device in DEVICES {
            let Some(destination) = device.destination else {
                continue;
            };
            let (name, peer) = (device.name, node.peer());
            let (netns, mac) = (lab.node(node), lab.mac(peer, name));
            netns.run(&format!(
                "bridge fdb add {mac} dev {name} dst {} self permanent",
                destination(&lab, node)
            ));
            netns.run(&format!(
                "ip neigh replace {}{} lladdr {mac} dev {name} nud permanent",
                device.net,
                peer.number()
            ));
        }
    }
    lab
}

fn ping(lab: &Lab, node: Node, device: &Device, arguments: &str) {
    let to = format!("{}{}", device.net, node.peer().number());
    lab.node(node)
        .run(&format!("ping -q -c 20 -i 0.01 -W 3 {arguments} {to}"));
}

#[test]
fn many_devices_of_both_families_on_the_plain_kernel() {
    play(Who::None);
}

#[test]
fn many_devices_of_both_families_with_vxgate_on_the_worker() {
    play(Who::Worker);
}

#[test]
fn many_devices_of_both_families_with_vxgate_on_both() {
    play(Who::Both);
}

fn play(who: Who) {
    let lab = lab();
    let gateways = who.start(&lab);
    for (node, vxgate) in &gateways {
        wait_until("every VTEP is resolved", Duration::from_secs(20), || {
            let status = vxgate.status();
            DEVICES.iter().all(|device| {
                let mut vteps = status.list("vteps");
                vteps.any(|vtep| vtep["device"] == device.name && vtep["state"] == "resolved")
            })
        });
        println!("    {node:?}: every VTEP is resolved");
    }
    let wire = Capture::start(&lab.netns("sw"), "p2");
    for node in NODES {
        for device in DEVICES {
            ping(&lab, node, device, "-s 1000 -t 7 -Q 0xb8");
            println!("    {} from {node:?}", device.name);
        }
    }
    // The capture loses what it still buffers when it ends: frames that do not matter come last.
    for _ in 0..3 {
        ping(&lab, Node::Master, &DEVICES[0], "");
    }
    let from_worker = on_the_wire(wire, &lab);
    for (node, vxgate) in gateways {
        let status = vxgate.balanced();
        for device in DEVICES {
            let port = status
                .list("ports")
                .find(|port| port["name"] == device.name)
                .unwrap_or_else(|| panic!("{} on {node:?}: {}", device.name, status.0));
            let stale = port["passed"]["heartbeat_stale"].as_u64().unwrap_or(0);
            let forwarded = port["forwarded"].as_u64().expect("a count");
            assert!(
                forwarded + stale >= 40,
                "{} on {node:?}: {port}",
                device.name
            );
        }
        vxgate.stop();
    }
    assert_headers(&from_worker);
}

/// Outer headers of a frame that the worker sent.
struct Sent {
    udp_port: String,
    source_port: u16,
    vni: String,
    /// TTL or hop limit, TOS or traffic class.
    hops: String,
    class: String,
    checksum_status: String,
}

fn on_the_wire(wire: Capture, lab: &Lab) -> Vec<Sent> {
    let mac = lab.mac(Node::Worker, "eth1");
    let fields = [
        "udp.dstport",
        "udp.srcport",
        "vxlan.vni",
        "ip.ttl",
        "ipv6.hlim",
        "ip.dsfield",
        "ipv6.tclass",
        "udp.checksum.status",
    ];
    let filter = format!("eth.src=={mac} && vxlan && (icmp || icmpv6)");
    let first = |column: &String| column.split(',').next().unwrap_or_default().to_owned();
    wire.finish_with(&filter, &fields)
        .iter()
        .map(|columns| {
            let [port, source, vni, ttl, hlim, tos, class, status] = &columns[..] else {
                panic!("tshark prints the columns that were asked for: {columns:?}");
            };
            let udp_port = first(port);
            // The other family's fields are those of the inner packet.
            let over_ipv4 = udp_port == "5006";
            let pick = |four: &String, six: &String| first(if over_ipv4 { four } else { six });
            Sent {
                source_port: first(source).parse().expect("a port"),
                vni: first(vni),
                hops: pick(ttl, hlim),
                class: pick(tos, class),
                checksum_status: first(status),
                udp_port,
            }
        })
        .collect()
}

/// What each device asks for is what its frames say, whoever sent them.
fn assert_headers(sent: &[Sent]) {
    const NOT_PRESENT: &str = "3";
    /// Zero over IPv6, which needs an agreement of both ends.
    const ILLEGAL: &str = "4";
    const GOOD: &str = "1";
    let of = |udp_port: &str| -> Vec<&Sent> {
        let frames: Vec<_> = sent
            .iter()
            .filter(|frame| frame.udp_port == udp_port)
            .collect();
        assert!(frames.len() >= 20, "{} frames to {udp_port}", frames.len());
        frames
    };
    for frame in of("5004") {
        assert_eq!(frame.checksum_status, ILLEGAL, "zero");
    }
    for frame in of("5003") {
        assert_eq!(
            (&*frame.vni, &*frame.checksum_status, &*frame.hops),
            ("7", GOOD, "64"),
            "ll"
        );
    }
    for frame in of("5001") {
        assert_eq!((&*frame.vni, &*frame.checksum_status), ("101", GOOD), "own");
    }
    for frame in of("5006") {
        assert_eq!(frame.checksum_status, NOT_PRESENT, "six");
        assert!((50000..=50010).contains(&frame.source_port), "six");
    }
    let inherited = of("5006")
        .iter()
        .filter(|frame| (&*frame.hops, &*frame.class) == ("7", "0xb8"))
        .count();
    assert!(
        inherited >= 15,
        "{inherited} frames with the inner TTL and TOS"
    );
    of("5005");
}
