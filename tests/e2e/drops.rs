//! Frames that must die: for each reason that somebody outside `vxgate` can cause, frames that differ from a good one in that
//! respect alone. The counter moves by exactly the number sent, nothing arrives in the pod, and the balance holds.

use std::time::Duration;

use vxgate::stats::DropReason;

use crate::pod::Pod;
use crate::support::frames::{RawSocket, VxlanFrame, finish_outer_ip, mac, offset};
use crate::support::lab::{Lab, Node};
use crate::support::vxgate::{Status, Vxgate};
use crate::support::wait_until;

const FRAMES: u64 = 100;
/// Where the pods listen.
pub const PORT: u16 = 9999;
/// What the frames carry.
pub const PAYLOAD: &[u8] = b"twenty bytes of data";

/// One way to die: the reason's label, what is wrong, and the edit that makes a good frame wrong.
pub type Death = (DropReason, &'static str, fn(&mut Vec<u8>));

/// From a remote.
pub const FROM_THE_UNDERLAY: &[Death] = &[
    (
        DropReason::OuterMalformed,
        "outer IP checksum wrong",
        |frame| frame[offset::IP + 10] ^= 0x55,
    ),
    (
        DropReason::OuterMalformed,
        "outer IP longer than the frame",
        |frame| {
            let len = (frame.len() - offset::IP + 1) as u16;
            frame[offset::IP + 2..offset::IP + 4].copy_from_slice(&len.to_be_bytes());
            finish_outer_ip(frame);
        },
    ),
    (
        DropReason::OuterMalformed,
        "UDP longer than the IP packet",
        |frame| set_udp_len(frame, 1),
    ),
    (
        DropReason::OuterMalformed,
        "UDP shorter than its header",
        |frame| {
            frame[offset::UDP + 4..offset::UDP + 6].copy_from_slice(&7_u16.to_be_bytes());
        },
    ),
    (
        DropReason::MartianSource,
        "outer source is our own",
        |frame| set_outer_source(frame, [10, 0, 0, 11]),
    ),
    (DropReason::MartianSource, "outer source is zero", |frame| {
        set_outer_source(frame, [0; 4])
    }),
    (
        DropReason::MartianSource,
        "outer source is loopback",
        |frame| set_outer_source(frame, [127, 0, 0, 1]),
    ),
    (
        DropReason::MartianSource,
        "outer source is a group",
        |frame| set_outer_source(frame, [224, 0, 0, 5]),
    ),
    (
        DropReason::MartianSource,
        "outer source is broadcast",
        |frame| set_outer_source(frame, [255; 4]),
    ),
    (
        DropReason::HeaderTruncated,
        "four bytes of a VXLAN header",
        |frame| cut(frame, offset::VXLAN + 4),
    ),
    (DropReason::NoIFlag, "I flag clear", |frame| {
        frame[offset::VXLAN] = 0
    }),
    (DropReason::ReservedBits, "a reserved flag", |frame| {
        frame[offset::VXLAN] |= 0x80
    }),
    (
        DropReason::ReservedBits,
        "the first reserved field",
        |frame| frame[offset::VXLAN + 2] = 1,
    ),
    (
        DropReason::ReservedBits,
        "the last reserved byte",
        |frame| frame[offset::VXLAN + 7] = 1,
    ),
    (
        DropReason::UnknownPeer,
        "outer source is no VTEP",
        |frame| set_outer_source(frame, [10, 0, 0, 100]),
    ),
    (DropReason::InnerShort, "nothing inside", |frame| {
        cut(frame, offset::INNER)
    }),
    (DropReason::InnerShort, "thirteen bytes inside", |frame| {
        cut(frame, offset::INNER + 13)
    }),
    (
        DropReason::InnerTruncated,
        "a bare Ethernet header that promises IPv4",
        |frame| cut(frame, offset::INNER_IP),
    ),
    (
        DropReason::InnerTruncated,
        "half an inner IPv4 header",
        |frame| cut(frame, offset::INNER_IP + 10),
    ),
    (
        DropReason::InvalidSourceMac,
        "inner source is zero",
        |frame| set_inner_source(frame, [0; 6]),
    ),
    (
        DropReason::InvalidSourceMac,
        "inner source is a group",
        |frame| set_inner_source(frame, [1, 0, 0x5e, 0, 0, 1]),
    ),
    (
        DropReason::LocalMac,
        "inner source is the device's own",
        |frame| {
            let own = *frame[offset::INNER..]
                .first_chunk()
                .expect("an inner destination");
            set_inner_source(frame, own);
        },
    ),
    (
        DropReason::TunnelEcn,
        "congestion marked on a flow without ECN",
        |frame| {
            frame[offset::IP + 1] |= 3;
            finish_outer_ip(frame);
        },
    ),
];

/// From the vxlan device.
pub const FROM_THE_OVERLAY: &[Death] = &[
    (DropReason::NoTxTarget, "no FDB entry", |frame| {
        frame[..6].copy_from_slice(&mac(STRANGER))
    }),
    (
        DropReason::NextHopUnresolved,
        "a VTEP that answers no ARP",
        |frame| frame[..6].copy_from_slice(&mac(SILENT)),
    ),
    (DropReason::AccessShort, "half an IPv4 header", |frame| {
        frame.truncate(14 + 10)
    }),
];

/// Why nobody outside can cause these, or where else they are caused.
const ELSEWHERE: &[(DropReason, &str)] = &[
    (
        DropReason::OuterFragment,
        "steering leaves fragments to the kernel: tests/e2e/hostile.rs sends some",
    ),
    (
        DropReason::OuterChecksum,
        "not verified on a veth, whose frames carry unfinished sums, unless one asks for it: tests/e2e/policy.rs",
    ),
    (
        DropReason::InnerSpoof,
        "only where one asks for it: tests/e2e/policy.rs",
    ),
    (
        DropReason::InnerVlan,
        "only where one asks for it: tests/e2e/policy.rs",
    ),
    (
        DropReason::VniNotFound,
        "steering leaves foreign VNIs to the kernel; only a device that goes away leaves such frames",
    ),
    (
        DropReason::TxRingFull,
        "overload: tests/worker_memory.rs fills the ring",
    ),
    (DropReason::NoFrame, "overload"),
    (
        DropReason::Oversize,
        "steering leaves what is too long to the kernel: tests/e2e/path_mtu.rs; only a path that has just shrunk lets some by",
    ),
    (
        DropReason::LinkDown,
        "tests/worker_memory.rs takes the link down",
    ),
    (
        DropReason::OtherHost,
        "steering leaves frames to other stations to the kernel",
    ),
    (DropReason::RxRingFull, "overload"),
    (DropReason::FillRingEmpty, "overload"),
    (
        DropReason::RxInvalid,
        "no frame that fits the MTU is too long for a chunk",
    ),
    (DropReason::AccessRingFull, "overload"),
    (
        DropReason::ZeroChecksum6,
        "an IPv6 underlay: tests/e2e/dual_stack.rs",
    ),
    (
        DropReason::WorkerStale,
        "a worker that stalls between two calls: tests/steer/fail_open.rs has the guard",
    ),
];

const STRANGER: &str = "0e:24:40:00:77:77";
/// Whom the FDB has behind a VTEP that answers no ARP.
pub const SILENT: &str = "0e:24:40:00:66:66";

#[test]
fn every_reason_has_its_test() {
    for reason in DropReason::ALL {
        let tested = FROM_THE_UNDERLAY
            .iter()
            .chain(FROM_THE_OVERLAY)
            .any(|(tested, ..)| tested == reason);
        let elsewhere = ELSEWHERE.iter().any(|(elsewhere, _)| elsewhere == reason);
        assert!(
            tested != elsewhere,
            "{reason:?} has a test here, or a word on why not"
        );
    }
}

#[test]
fn frames_from_a_remote_die_for_their_reason_and_are_counted() {
    let lab = Lab::up();
    let vxgate = Vxgate::start(&lab.node(Node::Worker), &[]);
    let pod = Pod::listen(&lab.client(Node::Worker), PORT);
    let wire = RawSocket::open(&lab.netns("sw"), "p2");
    let good = from_the_master(&lab).bytes(PAYLOAD);

    let before = vxgate.balanced();
    for _ in 0..FRAMES {
        wire.send(&good);
    }
    wait_until("good frames are forwarded", Duration::from_secs(5), || {
        vxgate.status().forwarded("underlay") == before.forwarded("underlay") + FRAMES
    });
    assert_eq!(
        pod.delivered(FRAMES),
        FRAMES,
        "the frame from which all others differ is delivered"
    );

    for (reason, what, edit) in FROM_THE_UNDERLAY {
        let mut bad = good.clone();
        edit(&mut bad);
        dies(&vxgate, "underlay", *reason, what, || wire.send(&bad));
        assert_eq!(pod.delivered(0), 0, "{what}: nothing is delivered");
    }
    vxgate.stop();
}

#[test]
fn frames_from_the_overlay_die_for_their_reason_and_are_counted() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    // The kernel's own multicast (neighbour discovery) has no target either and would be counted among ours.
    node.run("sysctl -qw net.ipv6.conf.flannel/1.disable_ipv6=1");
    node.run(&format!(
        "bridge fdb add {SILENT} dev flannel.1 dst 10.0.0.222 self permanent"
    ));
    let vxgate = Vxgate::start(&node, &[]);
    let device = RawSocket::open(&node, "flannel.1");
    let good = to_the_master(&lab);

    let before = vxgate.balanced();
    for _ in 0..FRAMES {
        device.send(&good);
    }
    wait_until("good frames are forwarded", Duration::from_secs(5), || {
        vxgate.status().forwarded("access") == before.forwarded("access") + FRAMES
    });
    for (reason, what, edit) in FROM_THE_OVERLAY {
        let mut bad = good.clone();
        edit(&mut bad);
        dies(&vxgate, "access", *reason, what, || device.send(&bad));
    }
    vxgate.stop();
}

/// Sends [`FRAMES`] times; the reason's counter moves by exactly that, no other reason of that port moves, and nothing is
/// forwarded.
fn dies(vxgate: &Vxgate, role: &str, reason: DropReason, what: &str, send: impl Fn()) {
    let before = vxgate.balanced();
    for _ in 0..FRAMES {
        send();
    }
    wait_until(
        &format!("{what}: {} counts the frames", reason.label()),
        Duration::from_secs(5),
        || {
            vxgate.status().drops(role, reason.label())
                >= before.drops(role, reason.label()) + FRAMES
        },
    );
    let after = vxgate.balanced();
    let moved: Vec<(&str, u64)> = DropReason::ALL
        .iter()
        .map(|reason| {
            (
                reason.label(),
                after.drops(role, reason.label()) - before.drops(role, reason.label()),
            )
        })
        .filter(|(_, frames)| *frames > 0)
        .collect();
    assert_eq!(moved, [(reason.label(), FRAMES)], "{what}");
    assert_eq!(
        forwarded_beside_noise(&after, &before, role),
        0,
        "{what}: nothing is forwarded"
    );
    println!("    {}: {what}", reason.label());
}

/// Nothing else talks in the lab while this test runs, apart from ARP, which is no VXLAN.
fn forwarded_beside_noise(after: &Status, before: &Status, role: &str) -> u64 {
    after.forwarded(role) - before.forwarded(role)
}

/// A good frame from the master's client pod to the worker's.
pub fn from_the_master(lab: &Lab) -> VxlanFrame {
    VxlanFrame {
        outer_macs: [
            mac(&lab.mac(Node::Master, "eth1")),
            mac(&lab.mac(Node::Worker, "eth1")),
        ],
        outer: [[10, 0, 0, 10].into(), [10, 0, 0, 11].into()],
        inner_macs: [
            mac(&lab.mac(Node::Master, "flannel.1")),
            mac(&lab.mac(Node::Worker, "flannel.1")),
        ],
        inner: [[10, 244, 0, 14].into(), [10, 244, 1, 14].into()],
        port: PORT,
    }
}

/// What the worker's kernel gives its vxlan device for the way back. An answer enters by the underlay and disturbs no count
/// of the access port.
pub fn to_the_master(lab: &Lab) -> Vec<u8> {
    let outward = VxlanFrame {
        inner_macs: [Node::Worker, Node::Master].map(|node| mac(&lab.mac(node, "flannel.1"))),
        inner: [[10, 244, 1, 14].into(), [10, 244, 0, 14].into()],
        ..from_the_master(lab)
    };
    outward.bytes(PAYLOAD).split_off(offset::INNER)
}

/// Cuts the frame and makes the outer lengths fit, so that nothing but the cut is wrong.
fn cut(frame: &mut Vec<u8>, len: usize) {
    frame.truncate(len);
    frame[offset::IP + 2..offset::IP + 4]
        .copy_from_slice(&((len - offset::IP) as u16).to_be_bytes());
    set_udp_len(frame, 0);
    finish_outer_ip(frame);
}

fn set_udp_len(frame: &mut [u8], more: usize) {
    let len = (frame.len() - offset::UDP + more) as u16;
    frame[offset::UDP + 4..offset::UDP + 6].copy_from_slice(&len.to_be_bytes());
}

fn set_outer_source(frame: &mut [u8], address: [u8; 4]) {
    frame[offset::IP + 12..offset::IP + 16].copy_from_slice(&address);
    finish_outer_ip(frame);
}

fn set_inner_source(frame: &mut [u8], address: [u8; 6]) {
    frame[offset::INNER + 6..offset::INNER + 12].copy_from_slice(&address);
}
