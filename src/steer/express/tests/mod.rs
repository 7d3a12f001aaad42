//! The gears' programs, run by the kernel on frames of tests.

mod ends;
mod four;
mod paths;
mod pod;
mod six;

use etherparse::{Ipv4HeaderSlice, PacketBuilder, UdpHeaderSlice};
use libbpf_rs::ProgramInput;

use super::*;
use crate::flows::{Arrival, Departure, PodSide, WAYS, Way, Ways};
use crate::stats::{PeerCounts, PeerId, PeerTally, UpReason};
use crate::steer::copy::COUNTS_UNDERLAY;
use crate::steer::copy::tests::{TC_ACT_REDIRECT, TCX_NEXT, loaded_settings, pretend_alive};
use crate::steer::words::pair;
use crate::wire::{MacAddr, Vni, vxlan};

/// The device that the kernel runs test programs on.
const LOOPBACK: u32 = 1;
pub(in crate::steer) const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;
const NIC: MacAddr = MacAddr([4; 6]);
const FAR_NIC: MacAddr = MacAddr([6; 6]);
pub(in crate::steer) const OWN: MacAddr = MacAddr([0x0e, 0, 0, 0, 0, 1]);
pub(in crate::steer) const FAR: MacAddr = MacAddr([0x0e, 0, 0, 0, 0, 2]);
pub(in crate::steer) const POD: MacAddr = MacAddr([2, 0, 0, 0, 0, 5]);
pub(in crate::steer) const GATEWAY: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const NODE: [u8; 4] = [192, 0, 2, 1];
const FAR_NODE: [u8; 4] = [192, 0, 2, 2];
const ENDS: [[u8; 4]; 2] = [[10, 244, 0, 5], [10, 244, 1, 7]];
pub(in crate::steer) const GENERATION: u32 = 9;
const PEERS: u32 = 5;
const SIDE: PodSide = PodSide {
    pod: LOOPBACK,
    pod_mac: POD,
    gateway_mac: GATEWAY,
};
pub(in crate::steer) const SETS: u32 = 256;
/// The vxlan device.
const DEVICE: u32 = 4;
const OUTER_LEN: usize = 50;
const HANDOVER_MAGIC: u32 = 0x7678_6731;

pub(in crate::steer) struct Loaded {
    pub steering: Copy,
    pub express: Express,
}

pub(in crate::steer) fn gear() -> Loaded {
    loaded(Gear::Express)
}

pub(in crate::steer) fn loaded(highest: Gear) -> Loaded {
    loaded_with(highest, SETS)
}

fn loaded_with(highest: Gear, sets: u32) -> Loaded {
    let settings = Settings {
        flow_sets: sets,
        peers: PEERS,
        device: DEVICE,
        ..loaded_settings()
    };
    let steering = Copy::load(&settings, None).unwrap();
    let local = std::net::IpAddr::from(NODE);
    steering
        .add_segment(local, LOOPBACK, 8472, Vni::new(1).unwrap())
        .unwrap();
    pretend_alive(&steering, u64::MAX);
    let plan = DirectPlan {
        flows: sets * WAYS as u32 - 3,
        peers: PEERS,
        pod_xdp: true,
    };
    let (nics, devices) = (std::iter::empty(), BTreeMap::new());
    let express = Express::load(&steering, 1, plan, highest, nics, devices).unwrap();
    assert_eq!(express.sets(), sets as usize);
    express.begin(GENERATION);
    express.heard(i64::MAX as u64 / 2);
    Loaded { steering, express }
}

impl Loaded {
    /// Promotes the flow of this frame.
    pub fn promote(&mut self, frame: &[u8]) {
        self.promote_at(frame, crate::port::now_ns());
    }

    /// The same, when the kernel was last shown a frame of it at `now_ns`.
    pub fn promote_at(&mut self, frame: &[u8], now_ns: u64) {
        self.go_at(&self.flow(frame), now_ns);
    }

    /// Promotes a flow.
    pub fn go(&mut self, flow: &Promoted) {
        self.go_at(flow, crate::port::now_ns());
    }

    fn go_at(&mut self, flow: &Promoted, now_ns: u64) {
        let path = self.express.take_path(flow, now_ns).unwrap();
        self.express.promote(flow, path, GENERATION, now_ns);
    }

    /// The flow of this frame, to be promoted both ways.
    pub fn flow(&self, frame: &[u8]) -> Promoted {
        let key = FlowKey::of(frame, Way::Out).unwrap();
        self.promoted(key, headers(frame), FAR_NODE.into())
    }

    /// One whose frames leave with these headers, to the far node.
    fn promoted(&self, key: FlowKey, headers: [u8; 84], far: std::net::IpAddr) -> Promoted {
        let set = key.hash(&self.express.seed()) & (SETS - 1);
        Promoted {
            slot: Slot(set as usize * WAYS + 2),
            key,
            departure: Departure {
                headers,
                device: DEVICE,
                nic: LOOPBACK,
                frame_max: 1464,
                ecn: 3,
                checksum: true,
                verify: false,
                peer: PeerId(4),
                as_kernel: true,
            },
            arrival: Some(Arrival {
                source: far,
                device: DEVICE,
                nic: LOOPBACK,
                peer: PeerId(3),
                local: NODE.into(),
                port: 8472,
                vni: Vni::new(1).unwrap(),
                macs: [FAR, OWN],
                ether_type: if key.local.is_ipv6() { 0x86dd } else { 0x0800 },
                verify: true,
            }),
            pod: SIDE,
            ways: Ways::Both,
            more: false,
            packet_max: [None; 2],
        }
    }

    /// Has the kernel run a program of the gear on a frame of a pod's: what it says, and what became of the frame.
    pub fn send_from_pod(&self, frame: &[u8]) -> (u32, Vec<u8>) {
        run(&self.express.object, "vxgate_from_pod", frame)
    }

    /// Why the frame that is handed up by `act` was.
    pub fn why(&self, way: usize, act: impl FnOnce()) -> UpReason {
        let before = self.express.counters().read().unwrap()[way];
        act();
        let after = self.express.counters().read().unwrap()[way];
        assert_eq!(before.forwarded, after.forwarded);
        assert_eq!(before.received + 1, after.received);
        let moved = UpReason::ALL
            .iter()
            .filter(|why| after.up[**why as usize] != before.up[**why as usize]);
        let moved: Vec<_> = moved.collect();
        assert_eq!(moved.len(), 1, "{moved:?}");
        *moved[0]
    }
}

/// Of a flow over IPv4, around a frame of its.
fn headers(inner: &[u8]) -> [u8; 84] {
    let mut headers = [0; 84];
    headers[..6].copy_from_slice(&FAR_NIC.0);
    headers[6..12].copy_from_slice(&NIC.0);
    headers[12..26].copy_from_slice(&[8, 0, 0x45, 0xb8, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0]);
    headers[26..30].copy_from_slice(&NODE);
    headers[30..34].copy_from_slice(&FAR_NODE);
    headers[34..38].copy_from_slice(&[0xab, 0xcd, 0x21, 0x18]);
    headers[42..50].copy_from_slice(&vxlan::header(Vni::new(1).unwrap()));
    headers[50..62].copy_from_slice(&[FAR.0, OWN.0].concat());
    headers[62..64].copy_from_slice(&inner[12..14]);
    headers
}

pub(in crate::steer) fn run(copy: &Copy, name: &str, frame: &[u8]) -> (u32, Vec<u8>) {
    let mut programs = copy.object.progs_mut();
    let program = programs.find(|program| program.name() == name).unwrap();
    let mut out = vec![0; frame.len() + 256];
    let output = program
        .test_run(ProgramInput {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..ProgramInput::default()
        })
        .unwrap();
    (output.return_value, output.data.unwrap().to_vec())
}

/// Has a classifier see a superframe of segments with so many bytes, or a frame that is none (0), with this in its control
/// block: what it says, and what is there then.
pub(in crate::steer) fn run_marked(
    copy: &Copy,
    name: &str,
    frame: &[u8],
    gso_size: u32,
    control: [u8; 20],
) -> (u32, [u8; 20]) {
    // Of `struct __sk_buff`, where these are, and all.
    const CONTROL: usize = 48;
    const GSO_SEGS: usize = 164;
    const GSO_SIZE: usize = 176;
    const LEN: usize = 192;
    let (mut context, mut after) = ([0; LEN], [0; LEN]);
    let segments = match gso_size {
        0 => 0,
        size => (frame.len() as u32 - 54).div_ceil(size),
    };
    context[CONTROL..CONTROL + 20].copy_from_slice(&control);
    context[GSO_SEGS..GSO_SEGS + 4].copy_from_slice(&segments.to_ne_bytes());
    context[GSO_SIZE..GSO_SIZE + 4].copy_from_slice(&gso_size.to_ne_bytes());
    let mut programs = copy.object.progs_mut();
    let program = programs.find(|program| program.name() == name).unwrap();
    let mut out = vec![0; frame.len() + 256];
    let output = program.test_run(ProgramInput {
        data_in: Some(frame),
        data_out: Some(&mut out),
        context_in: Some(&mut context),
        context_out: Some(&mut after),
        ..ProgramInput::default()
    });
    let verdict = output.unwrap().return_value;
    (verdict, after[CONTROL..CONTROL + 20].try_into().unwrap())
}

/// As most frames are.
pub(in crate::steer) fn run_superframe(
    copy: &Copy,
    name: &str,
    frame: &[u8],
    gso_size: u32,
) -> u32 {
    run_marked(copy, name, frame, gso_size, [0; 20]).0
}

pub(in crate::steer) fn frame(
    macs: [MacAddr; 2],
    ends: [[u8; 4]; 2],
    ttl: u8,
    tcp: bool,
) -> Vec<u8> {
    let ip = PacketBuilder::ethernet2(macs[0].0, macs[1].0).ipv4(ends[0], ends[1], ttl);
    let (mut bytes, payload) = (Vec::new(), [0x5a; 101]);
    if tcp {
        let segment = ip.tcp(1000, 2000, 3, 64).ack(5);
        segment.write(&mut bytes, &payload).unwrap();
    } else {
        ip.udp(1000, 2000).write(&mut bytes, &payload).unwrap();
    }
    bytes
}

pub(in crate::steer) fn of_pod(tcp: bool) -> Vec<u8> {
    frame([POD, GATEWAY], ENDS, 64, tcp)
}

/// From the far node, to the same flow's pod: what `promote` swaps the ends of.
pub(in crate::steer) fn of_wire(tcp: bool) -> Vec<u8> {
    let mut inner = frame([FAR, OWN], [ENDS[1], ENDS[0]], 63, tcp);
    // The ports, too; their sum stays as it is.
    inner[34..38].copy_from_slice(&[0x07, 0xd0, 0x03, 0xe8]);
    let mut bytes = Vec::new();
    let payload = [&vxlan::header(Vni::new(1).unwrap())[..], &inner].concat();
    PacketBuilder::ethernet2(FAR_NIC.0, NIC.0)
        .ipv4(FAR_NODE, NODE, 64)
        .udp(40000, 8472)
        .write(&mut bytes, &payload)
        .unwrap();
    bytes
}

/// A pod's frame, or one from the wire, with so many bytes more of payload. A receiver would miss the checksum of TCP or UDP;
/// nobody looks at it here.
pub(in crate::steer) fn longer(mut frame: Vec<u8>, at: usize, more: usize) -> Vec<u8> {
    let outer = (at > 0).then_some(0);
    frame.resize(frame.len() + more, 0x5a);
    for start in outer.into_iter().chain([at]) {
        let len = (frame.len() - start - 14) as u16;
        frame[start + 16..start + 18].copy_from_slice(&len.to_be_bytes());
        if frame[start + 23] == 17 {
            frame[start + 38..start + 40].copy_from_slice(&(len - 20).to_be_bytes());
        }
        frame[start + 24..start + 26].fill(0);
        let header = etherparse::Ipv4HeaderSlice::from_slice(&frame[start + 14..]);
        let sum = header.unwrap().to_header().calc_header_checksum();
        frame[start + 24..start + 26].copy_from_slice(&sum.to_be_bytes());
    }
    frame
}

/// What a byte of an inner frame has to be for the frame to be unlike all others of its flow, wherever it goes: which byte, and why it
/// is handed up then.
pub(in crate::steer) const UNLIKE: [(usize, u8, UpReason); 10] = [
    (5, 9, UpReason::Spoofed),
    (11, 9, UpReason::Spoofed),
    (12, 0x86, UpReason::OtherProtocol),
    (14, 0x46, UpReason::Options),
    (17, 1, UpReason::Length),
    (20, 0x20, UpReason::Fragment),
    (22, 1, UpReason::Ttl),
    (23, 1, UpReason::OtherProtocol),
    (29, 77, UpReason::NoFlow),
    (35, 9, UpReason::NoFlow),
];

pub(in crate::steer) fn sealed(frame: &[u8], at: usize) -> bool {
    let header = Ipv4HeaderSlice::from_slice(&frame[at..])
        .unwrap()
        .to_header();
    header.header_checksum == header.calc_header_checksum()
}
