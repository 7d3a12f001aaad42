//! The kernel as oracle for superframes in the ring gear: what a pod sends whole comes out on the wire as by the kernel's own path,
//! whose last part it goes, and segments that the workers join on their way in reach the pod as what they were.
//!
//! What the pod is sent is cut again at its device, which takes no superframes here: only then can two ways of joining be compared.

use std::collections::BTreeMap;
use std::net::UdpSocket;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::UdpGsoSegment;

use super::PATIENCE;
use super::oracle::{ATTEMPTS, COMPARED_MAX, Flow, Site, Way, at, forwarded, promote};
use super::talk::any_of;
use crate::support::bulk::Transfer;
use crate::support::capture::Capture;
use crate::support::end::{End, Input, Offload, Segmentation};
use crate::support::frames::sum;
use crate::support::lab::{Lab, LabOptions, Node};
use crate::support::netns::Netns;
use crate::support::vxgate::Vxgate;
use crate::support::wait_until;
use crate::who::{ALWAYS, ALWAYS_BY_RING, DIRECT_BY_RING, kinds};

/// Where the transport header is, and in that of TCP, sequence and acknowledgement, flags and checksum.
const L4: usize = 34;
const SEQUENCE: usize = 38;
const TCP_FLAGS: usize = 47;
const TCP_CHECK: usize = 50;
const PSH: u8 = 8;
const TCP_HEADERS_LEN: usize = 54;
const UDP_HEADERS_LEN: usize = 42;
/// `VIRTIO_NET_HDR_GSO_TCPV4`, `VIRTIO_NET_HDR_GSO_UDP_L4`.
const GSO_TCPV4: u8 = 1;
const GSO_UDP_L4: u8 = 5;
/// Payload of each frame, and all of it: 40 frames at most, as many as a socket holds.
const SIZES: [(usize, usize); 5] = [
    (1396, 55_840),
    (1396, 1397),
    (536, 16_000),
    (100, 333),
    (9, 18),
];
/// Bytes a second each way of a transfer that is bulk, and frames of one.
const RATE: u64 = 16 << 20;
const MANY: u64 = 500;
/// The longest frame of the wire, with its Ethernet header.
const WIRE_LEN_MAX: usize = 1514;
/// Bytes of a datagram of a train.
const DATAGRAM: usize = 1200;
/// Segments that come behind each other.
const SEGMENTS: usize = 40;

/// What comes out of one superframe, or one run of segments: by inner identification.
type Found = BTreeMap<u16, Vec<u8>>;

/// What the transport header's checksum starts from.
fn pseudo_sum(frame: &[u8]) -> u16 {
    let len = ((frame.len() - L4) as u16).to_be_bytes();
    sum(&[&frame[26..34], &[0, frame[23]], &len])
}

/// A superframe of a pod's, its checksum unfinished, and how many frames it is.
fn superframe(flow: &mut Flow, size: usize, len: usize) -> (Input, usize) {
    let (headers_len, check, kind) = if flow.tcp {
        (TCP_HEADERS_LEN, TCP_CHECK, GSO_TCPV4)
    } else {
        (UDP_HEADERS_LEN, at::L4_CHECK, GSO_UDP_L4)
    };
    let bytes = flow.frame(len, |frame| {
        if frame[23] == 6 {
            frame[TCP_FLAGS] |= PSH;
        }
        let unfinished = pseudo_sum(frame).to_be_bytes();
        frame[check..check + 2].copy_from_slice(&unfinished);
    });
    let frames = len.div_ceil(size);
    // Each has an identification of its own.
    flow.id += frames as u16 - 1;
    let offload = Offload {
        start: L4 as u16,
        field: (check - L4) as u16,
        segmentation: Some(Segmentation {
            kind,
            headers_len: headers_len as u16,
            payload_len: size as u16,
        }),
    };
    let input = Input {
        bytes,
        offload: Some(offload),
    };
    (input, frames)
}

/// A far pod's segments in a row, the last one shorter.
fn segments(flow: &mut Flow, size: usize) -> Vec<Vec<u8>> {
    let segment = |number: usize| {
        let last = number + 1 == SEGMENTS;
        flow.frame(if last { size / 2 } else { size }, |frame| {
            let sequence = 0xffff_8000_u32.wrapping_add((number * size) as u32);
            frame[SEQUENCE..SEQUENCE + 4].copy_from_slice(&sequence.to_be_bytes());
            frame[SEQUENCE + 4..SEQUENCE + 8].copy_from_slice(&77_u32.to_be_bytes());
            if last {
                frame[TCP_FLAGS] |= PSH;
            }
            frame[TCP_CHECK..TCP_CHECK + 2].fill(0);
            let pseudo = pseudo_sum(frame).to_be_bytes();
            let check = !sum(&[&pseudo, &frame[L4..]]);
            frame[TCP_CHECK..TCP_CHECK + 2].copy_from_slice(&check.to_be_bytes());
        })
    };
    (0..SEGMENTS).map(segment).collect()
}

/// What comes out once something was put in.
fn play(site: &Site, way: Way, expected: usize, put: impl FnOnce()) -> Found {
    let mut found = Found::new();
    site.collect(way, &mut Found::new());
    put();
    wait_until("all come out", PATIENCE, || {
        site.collect(way, &mut found);
        found.len() >= expected
    });
    assert_eq!(found.len(), expected, "and no more");
    found
}

/// Puts the same in until all that comes of it went by the ring gear, and sees that it is what it was.
fn by_ring(
    (site, vxgate): (&Site, &Vxgate),
    flows: &mut [Flow; 2],
    (way, what, expected): (Way, &str, &Found),
    put: impl Fn(),
) {
    for _ in 0..ATTEMPTS {
        promote(site, vxgate, flows);
        let before = forwarded(&vxgate.balanced(), way);
        let found = play(site, way, expected.len(), &put);
        assert!(found == *expected, "{what}: {found:x?}, not {expected:x?}");
        let after = forwarded(&vxgate.balanced(), way);
        if after == [before[0], before[1] + expected.len() as u64] {
            return;
        }
    }
    panic!("{what}: it never goes by the ring gear as a whole");
}

/// Superframes that the workers joined.
fn joined_by_workers(vxgate: &Vxgate) -> u64 {
    let status = vxgate.status();
    let ports = status.list("ports");
    let underlays = ports.filter(|port| port["role"] == "underlay");
    underlays
        .filter_map(|port| port["superframes"].as_u64())
        .sum()
}

/// Frames of the wire that were left to the kernel's own vxlan devices as superframes.
fn left_to_kernel(vxgate: &Vxgate) -> u64 {
    vxgate.status().passed("access", "superframe")
}

#[test]
fn superframes_in_the_ring_gear_are_cut_and_joined_as_by_the_kernel() {
    for (tcp, usual) in [(true, DIRECT_BY_RING), (false, ALWAYS_BY_RING)] {
        for flags in kinds(usual) {
            // All of the flow are to go by the ring gear.
            if flags.contains(&"--express") {
                agree(tcp, flags);
            }
        }
    }
}

/// Has a pod leave to others what they can do for it.
fn leaves_to_others(pod: &Netns) {
    pod.run("ethtool -K eth0 tx on tso on gso on");
    let _ = pod.try_run("ethtool -K eth0 tx-udp-segmentation on");
}

fn agree(tcp: bool, flags: &[&str]) {
    let site = Site::up("");
    let (node, pod) = (site.lab.node(Node::Master), site.lab.client(Node::Master));
    leaves_to_others(&pod);
    let outlet = End::open(&pod, "eth0", false);
    let mut flow = site.flow(Way::Out, tcp);
    let sent = SIZES.map(|(size, len)| superframe(&mut flow, size, len));
    let mut flow = site.flow(Way::In, tcp);
    // Datagrams that come alone are not joined, and these follow some.
    let sizes = [1396, 1000, 100].into_iter().filter(|_| tcp);
    let come: Vec<_> = sizes.map(|size| segments(&mut flow, size)).collect();
    let bring = |segments: &[Vec<u8>]| {
        for segment in segments {
            site.send(Way::In, &site.tunnel.around(segment));
        }
    };
    let cut = sent
        .each_ref()
        .map(|(input, frames)| play(&site, Way::Out, *frames, || outlet.send(input)));
    let joined = come.iter();
    let joined = joined.map(|segments| play(&site, Way::In, SEGMENTS, || bring(segments)));
    let joined: Vec<_> = joined.collect();
    let vxgate = Vxgate::start(&node, flags);
    let mut flows = [Way::Out, Way::In].map(|way| site.flow(way, tcp));
    flows.iter_mut().for_each(|flow| flow.id = COMPARED_MAX);
    for ((input, frames), expected) in sent.iter().zip(&cut) {
        let what = format!("{} bytes in {frames} frames", input.bytes.len());
        let put = || outlet.send(input);
        by_ring(
            (&site, &vxgate),
            &mut flows,
            (Way::Out, &what, expected),
            put,
        );
    }
    let cut: usize = sent.iter().map(|(_, frames)| frames).sum();
    assert!(left_to_kernel(&vxgate) >= cut as u64, "and not a worker");
    for (segments, expected) in come.iter().zip(&joined) {
        let before = joined_by_workers(&vxgate);
        // Those that come together are joined.
        wait_until("segments are joined", PATIENCE, || {
            let (what, put) = ("segments in a row", || bring(segments));
            by_ring((&site, &vxgate), &mut flows, (Way::In, what, expected), put);
            joined_by_workers(&vxgate) > before
        });
    }
    println!("    {flags:?}: {:?}", vxgate.balanced().direct());
}

#[test]
fn what_the_kernels_device_sends_of_promoted_flows_is_sound_on_the_wire() {
    // The nodes leave nothing to each other: whatever is wrong is wrong on the wire.
    let lab = Lab::with(LabOptions {
        dual_stack: true,
        offloads: false,
        ..LabOptions::default()
    });
    let (near, far) = (lab.client(Node::Master), lab.client(Node::Worker));
    let node = lab.node(Node::Master);
    node.run("sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1");
    leaves_to_others(&near);
    let vxgate = Vxgate::start(&node, ALWAYS);
    let wire = Capture::start(&lab.netns("sw"), "p1");
    let addresses = [
        lab.client_address(Node::Worker),
        lab.client_address6(Node::Worker),
    ];
    for address in addresses {
        let before = left_to_kernel(&vxgate);
        let running = Transfer::start(&near, &far, &address, u64::MAX, Some(RATE));
        wait_until("bulk TCP goes by the kernel's device", PATIENCE, || {
            left_to_kernel(&vxgate) >= before + MANY
        });
        running.enough();
        running.finish();
        // Nobody answers, nor reads.
        let any = any_of(&address);
        let inlet = far.enter(|| UdpSocket::bind(any).expect("a socket"));
        let outlet = near.enter(|| UdpSocket::bind(any).expect("a socket"));
        let port = inlet.local_addr().expect("it is bound").port();
        outlet.connect((&*address, port)).expect("an address");
        setsockopt(&outlet, UdpGsoSegment, &(DATAGRAM as i32)).expect("UDP_SEGMENT");
        let before = left_to_kernel(&vxgate);
        wait_until("trains go by the kernel's device", PATIENCE, || {
            for len in [DATAGRAM / 2, 10 * DATAGRAM] {
                assert_eq!(outlet.send(&vec![7; len]).expect("sending"), len);
            }
            left_to_kernel(&vxgate) >= before + MANY
        });
    }
    vxgate.balanced();
    vxgate.stop();
    let fields = ["frame.len", "udp.checksum.status", "_ws.malformed"];
    let frames = wire.finish_with("udp.dstport == 8472", &fields);
    assert!(frames.len() as u64 > 4 * MANY);
    for frame in frames {
        let len: usize = frame[0].parse().expect("a length");
        // Of the outer and the inner one, 0 is a bad one.
        let bad = frame[1].split(',').any(|status| status == "0");
        assert!(
            len <= WIRE_LEN_MAX && !bad && frame[2].is_empty(),
            "{frame:?}"
        );
    }
}
