//! A multicast group in the underlay: three nodes on one wire, `vxgate` on one of them, the plain kernel on the others.
//!
//! ```text
//!   n1 (kernel)      n2 (vxgate, or the kernel: the control)      ext (kernel)
//!      └──────────────────────── sw ─────────────────────────────────┘
//!   g4: VNI 7, group 239.129.1.1, UDP 5007         g6: VNI 8, group ff05::1:2, UDP 5008
//! ```
//!
//! Every node also has FDB entries for the stations of the others: they say who may send, since a group names nobody.

use std::time::Duration;

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice, UdpHeader, UdpHeaderSlice};

use crate::support::frames::{RawSocket, mac, mac_text};
use crate::support::lab::{Lab, LabOptions};
use crate::support::netns::Netns;
use crate::support::vxgate::Vxgate;
use crate::support::wait_until;

/// A device with a group, the same on every node.
struct Device {
    name: &'static str,
    vni: u32,
    port: u16,
    group: &'static str,
    other_group: &'static str,
    /// The group of one FDB entry, on another link address than `group`.
    entry_group: &'static str,
    /// VTEP addresses of the nodes.
    locals: [&'static str; 3],
}

const DEVICES: [Device; 2] = [
    Device {
        name: "g4",
        vni: 7,
        port: 5007,
        group: "239.129.1.1",
        other_group: "239.129.1.2",
        entry_group: "239.1.1.9",
        locals: ["10.0.0.10", "10.0.0.11", "10.0.0.100"],
    },
    Device {
        name: "g6",
        vni: 8,
        port: 5008,
        group: "ff05::1:2",
        other_group: "ff05::1:3",
        entry_group: "ff05::9",
        locals: ["fd00:a::10", "fd00:a::11", "fd00:a::64"],
    },
];

/// n1, n2, ext.
const NODES: [&str; 3] = ["n1", "n2", "ext"];
const GATEWAY: usize = 1;
/// A protocol for experiments (IEEE 802): nothing answers to it.
const MARK: [u8; 2] = [0x88, 0xb5];
const FRAMES: usize = 40;
const BROADCAST: [u8; 6] = [0xff; 6];
/// A station that no FDB knows, and one whose entry names a group that nobody has joined.
const UNKNOWN: [u8; 6] = [2, 0, 0, 0, 0, 0xee];
const BEHIND_ENTRY: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

struct Site {
    lab: Lab,
    nodes: [Netns; 3],
}

impl Site {
    fn up() -> Self {
        let lab = Lab::with(LabOptions {
            dual_stack: true,
            offloads: false,
            ..LabOptions::default()
        });
        let nodes = NODES.map(|name| lab.netns(name));
        let [_, _, ext] = &nodes;
        ext.run("sysctl -qw net.ipv6.conf.eth1.disable_ipv6=0");
        ext.run("ip addr add fd00:a::64/64 dev eth1 nodad");
        for device in &DEVICES {
            for (number, node) in nodes.iter().enumerate() {
                add(device, node, number);
            }
        }
        let site = Self { lab, nodes };
        for device in &DEVICES {
            site.introduce(device);
        }
        site
    }

    /// Tells each node the stations of the others, and the gateway one behind a group of its own.
    fn introduce(&self, device: &Device) {
        let name = device.name;
        for (number, node) in self.nodes.iter().enumerate() {
            for (other, local) in device.locals.iter().enumerate() {
                if other != number {
                    let station = mac_text(self.station(device, other));
                    node.run(&format!(
                        "bridge fdb add {station} dev {name} dst {local} self permanent"
                    ));
                }
            }
        }
        self.nodes[GATEWAY].run(&format!(
            "bridge fdb add {} dev {name} dst {} via eth1 self permanent",
            mac_text(BEHIND_ENTRY),
            device.entry_group
        ));
    }

    fn station(&self, device: &Device, number: usize) -> [u8; 6] {
        let path = format!("cat /sys/class/net/{}/address", device.name);
        mac(self.nodes[number].run(&path).trim())
    }

    /// Frames from one node's device to a station; how many each node got (0 for the sender).
    fn carried(&self, device: &Device, from: usize, to: [u8; 6]) -> [usize; 3] {
        let ends: Vec<_> = self
            .nodes
            .iter()
            .map(|node| RawSocket::open(node, device.name))
            .collect();
        let expected = frame(self.station(device, from), to);
        for _ in 0..FRAMES {
            ends[from].send(&expected);
        }
        // What is sent last arrives last, by each way: one frame to each node's own station.
        let mut arrived = [0; 3];
        for (number, end) in ends.iter().enumerate() {
            if number == from {
                continue;
            }
            let last = frame(self.station(device, from), self.station(device, number));
            ends[from].send(&[&last[..], b"last"].concat());
            wait_until("the last frame", Duration::from_secs(10), || {
                while let Some(bytes) = end.receive() {
                    if bytes == expected {
                        arrived[number] += 1;
                    } else if bytes.ends_with(b"last") && bytes.starts_with(&last) {
                        return true;
                    }
                }
                false
            });
        }
        arrived
    }

    /// Broadcasts and unknown stations reach everybody once, known stations only their own node; from every node.
    fn everyone_is_reached(&self, device: &Device) {
        for from in 0..NODES.len() {
            let mut everybody = [FRAMES; 3];
            everybody[from] = 0;
            for to in [BROADCAST, UNKNOWN] {
                let arrived = self.carried(device, from, to);
                assert_eq!(arrived, everybody, "{} from {}", device.name, NODES[from]);
            }
            for to in (0..NODES.len()).filter(|to| *to != from) {
                let mut one = [0; 3];
                one[to] = FRAMES;
                let arrived = self.carried(device, from, self.station(device, to));
                let (from, to) = (NODES[from], NODES[to]);
                assert_eq!(arrived, one, "{} from {from} to {to}", device.name);
            }
        }
    }

    /// What crosses the wire when the gateway's node sends one frame to this station.
    fn on_the_wire(&self, device: &Device, to: [u8; 6]) -> Vec<u8> {
        let wire = RawSocket::open(&self.lab.netns("sw"), "p2");
        let inner = frame(self.station(device, GATEWAY), to);
        RawSocket::open(&self.nodes[GATEWAY], device.name).send(&inner);
        let mut sent = None;
        wait_until("the frame on the wire", Duration::from_secs(10), || {
            while let Some(bytes) = wire.receive() {
                if bytes.ends_with(&inner) {
                    sent = Some(bytes);
                }
            }
            sent.is_some()
        });
        sent.expect("it was waited for")
    }
}

fn add(device: &Device, node: &Netns, number: usize) {
    let Device {
        name,
        vni,
        port,
        group,
        ..
    } = device;
    node.run(&format!(
        "ip link add {name} type vxlan id {vni} group {group} dev eth1 local {} dstport {port} nolearning",
        device.locals[number]
    ));
    // Only the frames of the test.
    node.run(&format!("sysctl -qw net.ipv6.conf.{name}.disable_ipv6=1"));
    node.run(&format!("ip link set {name} up"));
}

fn frame(from: [u8; 6], to: [u8; 6]) -> Vec<u8> {
    [&to[..], &from, &MARK, &[0x5a; 50]].concat()
}

/// The same bytes but for what differs by right: source port, IPv4 identification, and the sums over them, which are
/// checked by themselves.
fn without_what_differs(mut bytes: Vec<u8>) -> Vec<u8> {
    let over_ipv6 = bytes[12..14] == [0x86, 0xdd];
    let udp = if over_ipv6 { 54 } else { 34 };
    let header = UdpHeaderSlice::from_slice(&bytes[udp..])
        .unwrap()
        .to_header();
    let blank = UdpHeader {
        checksum: 0,
        ..header.clone()
    };
    let payload = &bytes[udp + 8..];
    let right = if over_ipv6 {
        let ip = Ipv6HeaderSlice::from_slice(&bytes[14..])
            .unwrap()
            .to_header();
        blank.calc_checksum_ipv6(&ip, payload).unwrap()
    } else {
        let ip = Ipv4HeaderSlice::from_slice(&bytes[14..])
            .unwrap()
            .to_header();
        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
        let right = blank.calc_checksum_ipv4(&ip, payload).unwrap();
        bytes[18..20].fill(0);
        bytes[24..26].fill(0);
        right
    };
    assert_eq!(header.checksum, right);
    bytes[udp..udp + 2].fill(0);
    bytes[udp + 6..udp + 8].fill(0);
    bytes
}

fn joined(node: &Netns, group: &str) -> bool {
    let groups = node.run("ip maddr show dev eth1");
    groups.split_whitespace().any(|word| word == group)
}

#[test]
fn a_group_between_plain_kernels() {
    let site = Site::up();
    for device in &DEVICES {
        site.everyone_is_reached(device);
    }
}

#[test]
fn v10_a_group_with_vxgate_on_one_of_three_nodes() {
    let site = Site::up();
    let node = &site.nodes[GATEWAY];
    let destinations = [BROADCAST, UNKNOWN, BEHIND_ENTRY];
    let of_all = || {
        DEVICES
            .iter()
            .flat_map(|device| destinations.map(|to| (device, to)))
    };
    let kernels: Vec<_> = of_all()
        .map(|(device, to)| site.on_the_wire(device, to))
        .collect();

    let vxgate = Vxgate::start(node, &[]);
    resolved(&vxgate, |device| device.group);
    for ((device, to), kernels) in of_all().zip(kernels) {
        let ours = without_what_differs(site.on_the_wire(device, to));
        assert_eq!(
            ours,
            without_what_differs(kernels),
            "{} {to:x?}",
            device.name
        );
        let hops = if device.name == "g4" { 22 } else { 21 };
        assert_eq!((ours[0] & 1, ours[hops]), (1, 1), "a group, TTL 1");
    }
    for device in &DEVICES {
        site.everyone_is_reached(device);
        assert!(
            joined(node, device.group),
            "the kernel's device stays in it"
        );
    }
    let status = vxgate.balanced();
    for device in &DEVICES {
        // Of both broadcasts and both stations, and what marks the end of each.
        let sent = 4 * (FRAMES + 2) as u64;
        let port = |name: &str| status.list("ports").find(move |port| port["name"] == name);
        let port = port(device.name).expect("a port for each device");
        let stale = port["passed"]["heartbeat_stale"].as_u64().unwrap_or(0);
        let forwarded = port["forwarded"].as_u64().expect("a count");
        assert!(forwarded + stale >= sent, "{}: {port}", device.name);
    }
    // What the others sent to the group and to this node's station, for each device.
    let heard = (2 * 2 * (3 * FRAMES + 4)) as u64;
    let stale = status.passed("underlay", "heartbeat_stale");
    assert!(
        status.forwarded("underlay") + stale >= heard,
        "{}",
        status.0
    );
    assert_eq!(status.drops("underlay", "unknown_peer"), 0, "{}", status.0);

    for device in &DEVICES {
        let name = device.name;
        for node in &site.nodes {
            node.run(&format!(
                "ip link set {name} type vxlan id {} group {} dev eth1",
                device.vni, device.other_group
            ));
        }
    }
    resolved(&vxgate, |device| device.other_group);
    for device in &DEVICES {
        site.everyone_is_reached(device);
    }
    vxgate.stop();
    for device in &DEVICES {
        site.everyone_is_reached(device);
    }
}

/// Waits until `vxgate` sends to these groups.
fn resolved(vxgate: &Vxgate, group: fn(&Device) -> &'static str) {
    wait_until("every group is served", Duration::from_secs(20), || {
        let Ok(status) = vxgate.try_status() else {
            return false;
        };
        DEVICES.iter().all(|device| {
            let mut vteps = status.list("vteps");
            vteps.any(|vtep| {
                vtep["device"] == device.name
                    && vtep["addr"] == group(device)
                    && vtep["state"] == "resolved"
            })
        })
    });
}
