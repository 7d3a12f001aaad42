//! The kernel as oracle for what goes direct: the same frames, first by the plain kernel, then by a promoted flow, come out on the
//! wire and at the pod byte for byte alike. The outer source port and identification apart, and with them the checksums that
//! cover them, which are right both times.
//!
//! Frames are sent as they are: a pod's into its device, a far node's onto the wire. Each has an inner identification of its own,
//! by which what comes of it is found again. Frames that do not go direct are among them, and fare as in the kernel, too.

use std::collections::BTreeMap;

use etherparse::PacketBuilder;

use super::{PATIENCE, address, changes};
use crate::support::frames::{Random, RawSocket, VxlanFrame, finish_outer_ip, mac, offset, sum};
use crate::support::lab::{Lab, LabOptions, Node};
use crate::support::vxgate::{Status, Vxgate};
use crate::support::wait_until;
use crate::who::{
    ALWAYS, ALWAYS_BY_RING, DIRECT, DIRECT_BY_RING, DIRECT_BY_XDP, Flags, kinds, ready_for_xdp,
};

/// As many as a socket holds that nobody reads meanwhile.
const WINDOW: usize = 40;
/// Attempts of a window in which every frame that may go direct does: one in ten seconds is shown to the kernel.
pub const ATTEMPTS: usize = 20;
/// Both ends of the flow; nobody listens, and nobody refuses.
const PORTS: [u16; 2] = [41_000, 42_000];
/// Inner identifications of what is compared are below, those of what only has the flow promoted above.
pub const COMPARED_MAX: u16 = 20_000;
/// The largest UDP payload that the overlay takes.
const PAYLOAD_MAX: usize = 1450 - 28;
const SILENT: &str = "nft 'table ip silent { chain input { type filter hook input priority 0; ip protocol { tcp, udp } drop; }; }'";

/// Of an Ethernet frame with IPv4.
pub mod at {
    pub const TOS: usize = 15;
    pub const ID: usize = 18;
    pub const FLAGS: usize = 20;
    pub const TTL: usize = 22;
    pub const IP_CHECK: usize = 24;
    pub const L4_CHECK: usize = 40;
}

/// A frame, and what becomes of it.
#[derive(Debug, Clone)]
struct Case {
    what: String,
    frame: Vec<u8>,
    /// Goes direct once its flow does, where flows go express.
    gear: Option<Gear>,
    /// Something comes out.
    arrives: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gear {
    Express,
    Ring,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Out,
    In,
}

/// The inner frames of one flow.
pub struct Flow {
    pub tcp: bool,
    macs: [[u8; 6]; 2],
    ends: [[u8; 4]; 2],
    ports: [u16; 2],
    random: Random,
    pub id: u16,
}

impl Flow {
    pub fn frame(&mut self, payload_len: usize, edit: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let payload: Vec<u8> = (0..payload_len).map(|_| self.random.next() as u8).collect();
        let ip = PacketBuilder::ethernet2(self.macs[0], self.macs[1]).ipv4(
            self.ends[0],
            self.ends[1],
            64,
        );
        let [source, destination] = self.ports;
        let mut frame = Vec::new();
        let written = if self.tcp {
            let segment = ip.tcp(source, destination, self.random.next() as u32, 500);
            let segment = segment.ack(self.random.next() as u32);
            segment.write(&mut frame, &payload)
        } else {
            ip.udp(source, destination).write(&mut frame, &payload)
        };
        written.expect("writing to memory");
        self.id += 1;
        frame[at::ID..at::ID + 2].copy_from_slice(&self.id.to_be_bytes());
        edit(&mut frame);
        frame[at::IP_CHECK..at::IP_CHECK + 2].fill(0);
        let check = !sum(&[&frame[14..34]]);
        frame[at::IP_CHECK..at::IP_CHECK + 2].copy_from_slice(&check.to_be_bytes());
        frame
    }
}

/// Where frames go in and come out, around node 1.
pub struct Site {
    pub lab: Lab,
    wire: RawSocket,
    pod: RawSocket,
    pub tunnel: VxlanFrame,
}

impl Site {
    /// With a vxlan device of these attributes.
    pub fn up(attributes: &str) -> Self {
        // Nothing on the way leaves anything to anybody behind it.
        let lab = Lab::with(LabOptions {
            offloads: false,
            ..LabOptions::default()
        });
        let [near, far] = [Node::Master, Node::Worker];
        let node = lab.node(near);
        node.run("sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1");
        if !attributes.is_empty() {
            let own = lab.mac(near, "flannel.1");
            node.run("ip link del flannel.1");
            node.run(&format!(
                "ip link add flannel.1 address {own} mtu 1450 txqueuelen 0 type vxlan id 1 dev eth1 local {} dstport 8472 nolearning {attributes}",
                lab.vtep_address(near)
            ));
            node.run(&format!("ip addr add {}.0/32 dev flannel.1", near.subnet()));
            node.run("ip link set flannel.1 up");
            lab.add_lease(near, &lab.mac(far, "flannel.1"), &lab.vtep_address(far));
        }
        for pod in [near, far] {
            lab.client(pod).script(SILENT);
        }
        // Everybody knows everybody before anything is compared.
        let ping = format!("ping -q -c 2 -i 0.05 -W 3 {}", lab.client_address(far));
        lab.client(near).run(&ping);
        let tunnel = VxlanFrame {
            outer_macs: [mac(&lab.mac(far, "eth1")), mac(&lab.mac(near, "eth1"))],
            outer: [far, near].map(|node| address(&lab.vtep_address(node))),
            inner_macs: [[0; 6]; 2],
            inner: [address("0.0.0.0"); 2],
            port: 0,
        };
        Self {
            wire: RawSocket::open(&lab.netns("sw"), "p1"),
            pod: RawSocket::open(&lab.client(near), "eth0"),
            tunnel,
            lab,
        }
    }

    /// The flow as one way has it: the pod's frames, or those between the vxlan devices.
    pub fn flow(&self, way: Way, tcp: bool) -> Flow {
        let [near, far] = [Node::Master, Node::Worker];
        let ends = [near, far].map(|node| address(&self.lab.client_address(node)).octets());
        let (macs, [from, to]) = match way {
            Way::Out => {
                let pod = mac(&self.lab.mac_in("cli1", "eth0"));
                ([pod, mac(&self.lab.mac(near, "cni0"))], [0, 1])
            }
            Way::In => {
                let devices = [far, near].map(|node| mac(&self.lab.mac(node, "flannel.1")));
                (devices, [1, 0])
            }
        };
        Flow {
            tcp,
            macs,
            ends: [ends[from], ends[to]],
            ports: [PORTS[from], PORTS[to]],
            random: Random(8472),
            id: 0,
        }
    }

    /// Puts a frame in, as it is.
    pub fn send(&self, way: Way, frame: &[u8]) {
        match way {
            Way::Out => self.pod.send(frame),
            Way::In => self.wire.send(frame),
        }
    }

    /// Takes what has come out, by inner identification; what can differ is proven right and taken away.
    pub fn collect(&self, way: Way, found: &mut BTreeMap<u16, Vec<u8>>) {
        let (socket, inner_at) = match way {
            Way::Out => (&self.wire, offset::INNER),
            Way::In => (&self.pod, 0),
        };
        while let Some(mut frame) = socket.receive() {
            let ours = |inner: &[u8], ports: [u16; 2]| {
                inner.len() >= 42
                    && matches!(inner[23], 6 | 17)
                    && [34, 36].map(|at| u16::from_be_bytes([inner[at], inner[at + 1]])) == ports
            };
            let ports = match way {
                Way::Out => PORTS,
                Way::In => [PORTS[1], PORTS[0]],
            };
            let Some(inner) = frame.get(inner_at..).filter(|inner| ours(inner, ports)) else {
                continue;
            };
            let id = u16::from_be_bytes([inner[at::ID], inner[at::ID + 1]]);
            if id > COMPARED_MAX {
                continue;
            }
            if way == Way::Out {
                settle_outer(&mut frame);
            }
            assert!(found.insert(id, frame).is_none(), "{id}: twice");
        }
    }

    /// What comes out of a window.
    fn play(&self, way: Way, window: &[Case]) -> BTreeMap<u16, Vec<u8>> {
        let mut found = BTreeMap::new();
        self.collect(way, &mut BTreeMap::new());
        for case in window {
            self.send(way, &case.frame);
        }
        let expected = window.iter().filter(|case| case.arrives).count();
        wait_until("all come out", PATIENCE, || {
            self.collect(way, &mut found);
            found.len() >= expected
        });
        assert_eq!(found.len(), expected, "and no more");
        found
    }
}

/// An outer header with right checksums, without what may differ.
fn settle_outer(frame: &mut [u8]) {
    let (ip, datagram) = (&frame[offset::IP..offset::UDP], &frame[offset::UDP..]);
    assert_eq!(sum(&[ip]), 0xffff, "the outer header adds up");
    let length = (datagram.len() as u16).to_be_bytes();
    if datagram[6..8] != [0, 0] {
        let pseudo = [&ip[12..20], &[0, 17], &length].concat();
        assert_eq!(sum(&[&pseudo, datagram]), 0xffff, "the datagram adds up");
        frame[offset::UDP + 6..offset::UDP + 8].fill(0xff);
    }
    for (from, to) in [(18, 20), (24, 26), (offset::UDP, offset::UDP + 2)] {
        frame[from..to].fill(0);
    }
}

/// Frames from the pod: sizes, and every field that routing or the tunnel looks at.
fn out_cases(flow: &mut Flow, step: usize) -> Vec<Case> {
    let payload_max = PAYLOAD_MAX - if flow.tcp { 12 } else { 0 };
    let mut cases = Vec::new();
    let mut add = |what: String, frame: Vec<u8>, gear: Option<Gear>, arrives: bool| {
        cases.push(Case {
            what,
            frame,
            gear,
            arrives,
        });
    };
    let express = |may: bool| may.then_some(Gear::Express);
    for len in (0..=payload_max).step_by(step).chain([payload_max]) {
        add(
            format!("{len} bytes"),
            flow.frame(len, |_| ()),
            express(true),
            true,
        );
    }
    for tos in 0..=255 {
        let frame = flow.frame(33, |frame| frame[at::TOS] = tos);
        let gear = if tos & 3 == 3 {
            Gear::Ring
        } else {
            Gear::Express
        };
        add(format!("TOS {tos:#x}"), frame, Some(gear), true);
    }
    for flags in [0, 0x40, 0x80] {
        for len in [0, payload_max] {
            let frame = flow.frame(len, |frame| frame[at::FLAGS] = flags);
            let gear = express(flags & 0x80 == 0);
            add(format!("flags {flags:#x}"), frame, gear, true);
        }
    }
    for ttl in [1, 2, 3, 63, 128, 255] {
        let frame = flow.frame(33, |frame| frame[at::TTL] = ttl);
        add(format!("TTL {ttl}"), frame, express(ttl > 1), ttl > 1);
    }
    if !flow.tcp {
        let frame = flow.frame(33, |frame| frame[at::L4_CHECK..at::L4_CHECK + 2].fill(0));
        add("no inner checksum".to_owned(), frame, None, true);
    }
    cases
}

/// Frames of the far node.
fn in_cases(tunnel: &VxlanFrame, flow: &mut Flow, step: usize) -> Vec<Case> {
    let mut cases = out_cases(flow, step);
    for case in &mut cases {
        case.frame = tunnel.around(&case.frame);
        // Nothing is in the outer header: no bit of the inner one changes.
        if case.what.starts_with("TOS") {
            case.gear = Some(Gear::Express);
        }
    }
    for outer in [0, 1, 2, 3, 0xb8, 0xff] {
        for inner in 0..4 {
            let inner_frame = flow.frame(33, |frame| frame[at::TOS] = 0x28 | inner);
            let mut frame = tunnel.around(&inner_frame);
            frame[offset::IP + 1] = outer;
            finish_outer_ip(&mut frame);
            let ecn = outer & 3;
            let gear = match ecn {
                3 if inner == 0 => None,
                0 => Some(Gear::Express),
                1 | 2 if ecn == inner => Some(Gear::Express),
                _ => Some(Gear::Ring),
            };
            cases.push(Case {
                what: format!("outer TOS {outer:#x}, inner ECN {inner}"),
                frame,
                gear,
                arrives: gear.is_some(),
            });
        }
    }
    for (what, byte, value) in [
        ("outer TTL", 8, 1),
        ("outer TTL", 8, 255),
        ("outer DF", 6, 0x40),
    ] {
        let mut frame = tunnel.around(&flow.frame(33, |_| ()));
        frame[offset::IP + byte] = value;
        finish_outer_ip(&mut frame);
        cases.push(Case {
            what: format!("{what} {value}"),
            frame,
            gear: Some(Gear::Express),
            arrives: true,
        });
    }
    cases
}

/// Frames of a way that went direct: express, and by the ring gear.
pub fn forwarded(status: &Status, way: Way) -> [u64; 2] {
    let gears = match way {
        Way::Out => ["out", "ring_out"],
        Way::In => ["in", "ring_in"],
    };
    let count = |gear| status.0["direct"][gear]["forwarded"].as_u64();
    gears.map(|gear| count(gear).unwrap_or_else(|| panic!("a count: {}", status.0["direct"])))
}

/// Sends both ways until both go direct.
pub fn promote(site: &Site, vxgate: &Vxgate, flows: &mut [Flow; 2]) {
    wait_until("the flow goes direct", PATIENCE, || {
        let before = vxgate.status().direct().expect("it has a direct path");
        for _ in 0..10 {
            let [out, back] = flows.each_mut().map(|flow| flow.frame(10, |_| ()));
            site.send(Way::Out, &out);
            site.send(Way::In, &site.tunnel.around(&back));
        }
        let now = vxgate.status().direct();
        now.is_some_and(|now| now.beyond(before, 10))
    });
}

/// Judges frames of one flow through a device with these attributes, on a direct path of that kind.
fn agree(attributes: &str, tcp: bool, step: usize, flags: Flags) {
    let site = Site::up(attributes);
    let ways = [Way::Out, Way::In];
    let cases = ways.map(|way| match way {
        Way::Out => out_cases(&mut site.flow(way, tcp), step),
        Way::In => in_cases(&site.tunnel, &mut site.flow(way, tcp), step),
    });
    let by_kernel: Vec<Vec<_>> = ways
        .into_iter()
        .zip(&cases)
        .map(|(way, cases)| {
            let windows = cases.chunks(WINDOW);
            windows.map(|window| site.play(way, window)).collect()
        })
        .collect();
    ready_for_xdp(&site.lab, flags);
    let vxgate = Vxgate::start(&site.lab.node(Node::Master), flags);
    let express = !flags.contains(&"--express");
    let mut flows = ways.map(|way| Flow {
        id: COMPARED_MAX,
        ..site.flow(way, tcp)
    });
    let (mut compared, mut went_direct) = (0, [0; 2]);
    for ((way, cases), by_kernel) in ways.into_iter().zip(&cases).zip(&by_kernel) {
        for (window, expected) in cases.chunks(WINDOW).zip(by_kernel) {
            let wanted = |gear| {
                let gears = window.iter().filter_map(|case| case.gear);
                let gears = gears.map(|gear| if express { gear } else { Gear::Ring });
                gears.filter(|of| *of == gear).count() as u64
            };
            let wanted = [Gear::Express, Gear::Ring].map(wanted);
            direct_window(&site, &vxgate, &mut flows, (way, window, expected), wanted);
            went_direct = [0, 1].map(|gear| went_direct[gear] + wanted[gear]);
            compared += window.len();
        }
    }
    let kind = if tcp { "TCP" } else { "UDP" };
    println!(
        "    [{attributes}] {kind}, {flags:?}: {compared} frames as in the kernel, {went_direct:?} of them express and by the ring gear"
    );
    let status = vxgate.balanced();
    assert_eq!(status.0["direct"]["in"]["in_flight"], 0);
    if flags == DIRECT_BY_XDP {
        let by_xdp = status.0["direct"]["out_by_xdp"].as_u64();
        assert!(by_xdp > Some(0), "XDP took some: {}", status.0["direct"]);
    }
}

/// Plays a window until every frame of it that may go direct does: so many, in their gears.
fn direct_window(
    site: &Site,
    vxgate: &Vxgate,
    flows: &mut [Flow; 2],
    (way, window, expected): (Way, &[Case], &BTreeMap<u16, Vec<u8>>),
    wanted: [u64; 2],
) {
    for _ in 0..ATTEMPTS {
        promote(site, vxgate, flows);
        let before = vxgate.balanced();
        let found = site.play(way, window);
        for case in window {
            let inner_at = if way == Way::In { offset::INNER } else { 0 };
            let id = &case.frame[inner_at + at::ID..][..2];
            let id = u16::from_be_bytes([id[0], id[1]]);
            assert_eq!(
                found.get(&id),
                expected.get(&id),
                "{way:?}, {}: {case:?}",
                case.what
            );
        }
        let after = vxgate.balanced();
        let [was, is] = [&before, &after].map(|status| forwarded(status, way));
        let went = [0, 1].map(|gear| is[gear] - was[gear]);
        // Where express is not sure for a moment, the ring gear takes them.
        let (all, may) = (went[0] + went[1], wanted[0] + wanted[1]);
        assert!(
            went[0] <= wanted[0] && all <= may,
            "{way:?}: {went:?} went express and by the ring gear, of {wanted:?} that may"
        );
        if went == wanted {
            return;
        }
        println!(
            "    {went:?} of {wanted:?} went direct, with {} changes: once more",
            changes(&after) - changes(&before)
        );
    }
    panic!("{way:?}: some frames that may go direct never do: {window:?}");
}

#[test]
fn what_goes_direct_is_what_the_kernel_sends_and_delivers() {
    for (tcp, step, usual) in [
        (false, 7, DIRECT),
        (false, 7, DIRECT_BY_XDP),
        (true, 101, DIRECT_BY_XDP),
        (true, 101, ALWAYS),
        (true, 101, DIRECT_BY_RING),
    ] {
        for flags in kinds(usual) {
            agree("", tcp, step, flags);
        }
    }
}

#[test]
fn what_goes_direct_is_what_the_kernel_sends_by_every_fit_device() {
    for (attributes, usual) in [
        ("ttl 7", ALWAYS),
        ("tos 0xb8", DIRECT_BY_RING),
        ("tos 0x03", DIRECT),
        ("df set", ALWAYS_BY_RING),
        ("noudpcsum", DIRECT),
        ("tos 0x02", DIRECT_BY_XDP),
        ("srcport 50000 50100", DIRECT_BY_RING),
    ] {
        for flags in kinds(usual) {
            agree(attributes, false, 101, flags);
        }
    }
}
