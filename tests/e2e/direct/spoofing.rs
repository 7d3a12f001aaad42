//! What somebody forges of a promoted flow, on the underlay or as a pod, never goes direct, and is counted.
//!
//! `flows.rs` has what a pod forges of another pod's flow, and tunnels that a pod sends.

use super::{Ear, FORGED, PATIENCE, address, direct, flow_of, forger, handed_up, mac_text, talk};
use crate::support::frames::{RawSocket, VxlanFrame, finish_outer_ip, mac, offset};
use crate::support::lab::{Lab, Node};
use crate::support::vxgate::{Status, Vxgate};
use crate::support::wait_until;
use crate::who::DIRECT;

/// What is not as in the frames of the flow's far end, and what becomes of it: a reason why the express gear handed it up, or why
/// it never came there.
const FORGERIES: [(&str, Edit, Fate); 9] = [
    ("the outer source", edit_source, Fate::HandedUp("spoofed")),
    (
        "the outer checksum",
        |frame| frame[offset::IP + 10] ^= 1,
        Fate::HandedUp("spoofed"),
    ),
    (
        "a reserved bit",
        |frame| frame[offset::VXLAN + 7] = 1,
        Fate::HandedUp("spoofed"),
    ),
    (
        "the VNI",
        |frame| frame[offset::VXLAN + 6] = 2,
        Fate::Passed("foreign_vni"),
    ),
    (
        "the inner destination",
        |frame| frame[offset::INNER + 5] ^= 1,
        Fate::HandedUp("spoofed"),
    ),
    (
        "the inner source",
        |frame| frame[offset::INNER + 11] ^= 1,
        Fate::HandedUp("spoofed"),
    ),
    (
        "the pod's address",
        |frame| frame[offset::INNER_IP + 19] = 99,
        Fate::HandedUp("no_flow"),
    ),
    (
        "the far pod's address",
        |frame| frame[offset::INNER_IP + 15] = 99,
        Fate::HandedUp("no_flow"),
    ),
    (
        "a group",
        |frame| frame[..6].copy_from_slice(&[1, 0, 0x5e, 0, 0, 9]),
        Fate::HandedUp("other_protocol"),
    ),
];

type Edit = fn(&mut [u8]);

#[derive(Debug, Clone, Copy)]
enum Fate {
    HandedUp(&'static str),
    Passed(&'static str),
}

impl Fate {
    fn count(self, status: &Status) -> u64 {
        match self {
            Self::HandedUp(reason) => handed_up(status, "in", reason),
            Self::Passed(reason) => status.passed("underlay", reason),
        }
    }
}

/// That of the host that sends it.
fn edit_source(frame: &mut [u8]) {
    frame[offset::IP + 15] = 100;
    finish_outer_ip(frame);
}

/// Sends a frame over and over; the status before, and when all of them have come.
fn sent(vxgate: &Vxgate, wire: &RawSocket, frame: &[u8]) -> [Status; 2] {
    let before = vxgate.balanced();
    (0..FORGED).for_each(|_| wire.send(frame));
    wait_until("the frames have come", PATIENCE, || {
        vxgate.status().received("underlay") >= before.received("underlay") + FORGED
    });
    [before, vxgate.balanced()]
}

/// From a host of the underlay that is no node.
#[test]
fn what_a_stranger_forges_of_a_promoted_flow_does_not_go_direct() {
    let lab = Lab::up();
    let vxgate = Vxgate::start(&lab.node(Node::Master), DIRECT);
    let mut talk = talk(&lab);
    // At the switch, which would not pass everything on.
    let stranger = RawSocket::open(&lab.netns("sw"), "p1");
    let from = mac(&lab.mac_in("ext", "eth1"));
    let to = mac(&lab.mac(Node::Master, "eth1"));
    let devices = [Node::Worker, Node::Master].map(|node| mac(&lab.mac(node, "flannel.1")));
    let tunnel = VxlanFrame {
        outer_macs: [from, to],
        outer: [Node::Worker, Node::Master].map(|node| address(&lab.vtep_address(node))),
        inner_macs: devices,
        inner: [address("0.0.0.0"); 2],
        port: 0,
    };
    // The control: whoever forges everything is the far end, as far as anybody can tell.
    talk.until_direct(&vxgate);
    let genuine = tunnel.around(&talk.answer(devices));
    wait_until("what is the same goes direct", PATIENCE, || {
        let [before, after] = sent(&vxgate, &stranger, &genuine);
        talk.hear_out();
        direct(&after).into >= direct(&before).into + FORGED
    });
    let pod = lab.client(Node::Master);
    for (what, edit, fate) in FORGERIES {
        let mut frame = genuine.clone();
        edit(&mut frame);
        // Were the flow demoted in the midst by something else, that would prove nothing: once more, then.
        wait_until(what, PATIENCE, || {
            talk.until_direct(&vxgate);
            let mut ear = Ear::open(&pod, talk.ends()[0].port());
            let [before, after] = sent(&vxgate, &stranger, &frame);
            let [was, is] = [&before, &after].map(direct);
            assert_eq!(is.into, was.into, "{what}: none went direct");
            talk.hear_out();
            println!(
                "    {what}: {} of {FORGED} counted, {} came by the kernel",
                fate.count(&after) - fate.count(&before),
                ear.heard()
            );
            fate.count(&after) >= fate.count(&before) + FORGED
        });
    }
    talk.until_direct(&vxgate);
}

/// A flow that a pod begins in another's name: the answers go to the other. It is none that anybody has seen both ways.
#[test]
fn a_flow_that_a_pod_begins_in_anothers_name_is_not_promoted() {
    let lab = Lab::up();
    let vxgate = Vxgate::start(&lab.node(Node::Master), DIRECT);
    let forger = forger(&lab);
    let mut talk = talk(&lab);
    // Everything but its own frames: what it would say is forged, and what is answered comes to it.
    let gateway = lab.mac(Node::Master, "cni0");
    let wire = RawSocket::open(&forger, "eth0");
    let frame = talk.forged(&mac_text(&forger), &gateway);
    let before = vxgate.balanced();
    let mut answered = Ear::open(&lab.client(Node::Master), talk.ends()[0].port());
    // Until all that could be seen of it was seen, in one generation.
    wait_until("the far end has answered, and was judged", PATIENCE, || {
        (0..FORGED).for_each(|_| wire.send(&frame));
        let listed = flow_of(&vxgate, &talk);
        answered.heard() >= 10 * FORGED
            && listed["why_not_higher"] == "not seen both ways at a pod's device"
    });
    (0..FORGED).for_each(|_| wire.send(&frame));
    let status = vxgate.balanced();
    assert_eq!(
        (direct(&status).out, direct(&status).into),
        (direct(&before).out, direct(&before).into)
    );
    let listed = flow_of(&vxgate, &talk);
    assert_eq!(listed["gear"], "transparent", "{listed}");
    talk.hear_out();
    talk.until_direct(&vxgate);
}
