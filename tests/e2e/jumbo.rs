//! Jumbo frames: an underlay of 9,000 bytes, whose frames take several buffers of a socket. What the pods send arrives whole,
//! both ways, between short frames, beside the plain kernel and with `vxgate` at both ends.

use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use crate::support::bulk::Transfer;
use crate::support::lab::{Lab, LabOptions, Node};
use crate::support::netns::Netns;
use crate::support::stream::Stream;
use crate::support::vxgate::{Status, Vxgate};
use crate::support::wait_until;
use crate::who::Who;

const MTU: u32 = 9000;
const BULK_BYTES: u64 = 24 << 20;
/// Of an echo or a datagram: with its headers and the outer ones 8,978 bytes, or 8,988 over IPv6.
const PAYLOAD: [u32; 2] = [8900, 8870];
const ECHOES: u32 = 100;
const DATAGRAMS: usize = 200;

#[test]
fn jumbo_frames_cross_the_plain_kernel() {
    cross(Who::None, true, false);
}

#[test]
fn jumbo_frames_cross_with_vxgate_on_the_worker() {
    cross(Who::Worker, true, false);
}

#[test]
fn jumbo_frames_cross_with_vxgate_on_both() {
    cross(Who::Both, true, false);
}

#[test]
fn jumbo_frames_cross_with_vxgate_on_both_without_any_offload() {
    cross(Who::Both, false, false);
}

#[test]
fn jumbo_frames_cross_over_ipv6_too() {
    cross(Who::Both, true, true);
}

/// `vxgate` follows a device from frames of one buffer to frames of several, and back.
#[test]
fn an_mtu_that_grows_and_shrinks_is_followed() {
    let lab = Lab::up();
    let gateways = Who::Both.start(&lab);
    for mtu in [MTU, 1500, MTU] {
        set_mtu(&lab, mtu);
        for (node, vxgate) in &gateways {
            vxgate_has(*node, vxgate, mtu);
        }
        // A veth takes no MTU that the program at its other end was not loaded for.
        for port in ["p1", "p2"] {
            let line = format!("ip link set {port} mtu {mtu}");
            lab.netns("sw").run(&line);
        }
        echoes(&lab, Node::Worker, false, mtu - 50 - 50);
        transfer(&lab, Node::Master, false, 4 << 20);
    }
    for (_, vxgate) in gateways {
        vxgate.balanced();
        vxgate.stop();
    }
}

fn cross(who: Who, offloads: bool, six: bool) {
    let lab = Lab::with(LabOptions {
        mtu: MTU,
        offloads,
        dual_stack: six,
        ..LabOptions::default()
    });
    let gateways = who.start(&lab);
    let before: Vec<_> = gateways.iter().map(|(_, vxgate)| vxgate.status()).collect();
    for (status, (node, _)) in before.iter().zip(&gateways) {
        let device = status.device("flannel.1").expect("it is in the status");
        assert_eq!(device["taken_over"], true, "{node:?}: {device}");
    }

    for node in [Node::Worker, Node::Master] {
        echoes(&lab, node, six, PAYLOAD[usize::from(six)]);
        datagrams(&lab, node, six);
    }
    // Short frames between the long ones.
    let stream = Stream::start(
        "1 kHz beside the transfer",
        &lab.client(Node::Master),
        &lab.client(Node::Worker),
        &lab.client_address(Node::Worker),
    );
    transfer(&lab, Node::Worker, six, BULK_BYTES);
    let report = stream.finish();
    assert_eq!((report.duplicated, report.damaged), (0, 0), "{report:?}");

    for ((node, vxgate), before) in gateways.into_iter().zip(&before) {
        let after = vxgate.balanced();
        assert_long_frames_were_ours(node, before, &after);
        vxgate.stop();
    }
}

/// Echoes from a node's client to the other's, none of which may be cut; as large as fits. A machine that starves a worker
/// for a moment may lose one: then all are sent again.
fn echoes(lab: &Lab, node: Node, six: bool, size: u32) {
    let peer = address(lab, node.peer(), six);
    let line = format!("ping -q -c {ECHOES} -i 0.005 -W 5 -M do -s {size} {peer}");
    let what = format!("echoes of {size} bytes from {node:?}, none of which is lost");
    wait_until(&what, Duration::from_secs(60), || {
        let said = lab.client(node).try_run(&line);
        said.is_ok_and(|said| said.contains(" 0% packet loss"))
    });
}

/// Datagrams, each answered by the same bytes: what arrives is compared to the last byte. A datagram may be
/// lost on a busy machine, and is asked for again.
fn datagrams(lab: &Lab, node: Node, six: bool) {
    let (client, server) = (lab.client(node), lab.client(node.peer()));
    let to = address(lab, node.peer(), six);
    let any = if six { "[::]:0" } else { "0.0.0.0:0" };
    let open = |netns: &Netns| netns.enter(|| UdpSocket::bind(any).expect("binding in a pod"));
    let (near, far) = (open(&client), open(&server));
    let port = far.local_addr().expect("it is bound").port();
    far.set_read_timeout(Some(Duration::from_secs(10)))
        .expect("SO_RCVTIMEO");
    near.set_read_timeout(Some(Duration::from_secs(1)))
        .expect("SO_RCVTIMEO");
    let echo = thread::spawn(move || {
        let mut bytes = vec![0; 1 << 16];
        // An empty datagram ends it.
        while let Ok((len @ 1.., from)) = far.recv_from(&mut bytes) {
            let _ = far.send_to(&bytes[..len], from);
        }
    });
    near.connect((to.as_str(), port)).expect("a route");
    for number in 0..DATAGRAMS {
        let question = pattern(number, PAYLOAD[usize::from(six)] as usize);
        let answered = (0..5).any(|_| {
            let mut answer = vec![0; 1 << 16];
            near.send(&question).expect("a datagram that fits");
            let answer = near.recv(&mut answer).map(|len| &answer[..len]);
            // One that was late is the answer to an earlier attempt: the same bytes.
            answer.is_ok_and(|answer| answer == question)
        });
        assert!(answered, "datagram {number} from {node:?} and its answer");
    }
    near.send(&[]).expect("a datagram that fits");
    echo.join().expect("the echo does not panic");
}

/// Bytes of no simple period, so that a piece in the wrong place shows; of this length and a little less.
fn pattern(number: usize, len: usize) -> Vec<u8> {
    let mut state = number as u32 + 1;
    (0..len - number % 3)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

/// Both ways at once, hashed at both ends.
fn transfer(lab: &Lab, node: Node, six: bool, bytes: u64) {
    let peer = address(lab, node.peer(), six);
    let (client, server) = (lab.client(node), lab.client(node.peer()));
    Transfer::start(&client, &server, &peer, bytes, None).finish();
}

fn address(lab: &Lab, node: Node, six: bool) -> String {
    if six {
        lab.client_address6(node)
    } else {
        lab.client_address(node)
    }
}

/// The traffic went by `vxgate`, both ways, and none of it was too long. (On a machine that starves a worker, the kernel has
/// the rest.)
fn assert_long_frames_were_ours(node: Node, before: &Status, after: &Status) {
    for role in ["underlay", "access"] {
        let frames = after.forwarded(role) - before.forwarded(role);
        let bytes = forwarded_bytes(after, role) - forwarded_bytes(before, role);
        println!("    {node:?}: {frames} frames, {bytes} bytes forwarded from {role}");
        assert!(bytes > BULK_BYTES / 2, "{bytes} bytes from {role}");
        assert_eq!(after.passed(role, "oversize"), 0);
        assert_eq!(after.drops(role, "oversize"), 0);
    }
}

fn forwarded_bytes(status: &Status, role: &str) -> u64 {
    let ports = status.list("ports").filter(|port| port["role"] == role);
    ports
        .map(|port| port["forwarded_bytes"].as_u64().expect("a count"))
        .sum()
}

/// On all of the way between the clients but the switch.
fn set_mtu(lab: &Lab, mtu: u32) {
    for node in [Node::Master, Node::Worker] {
        let (netns, number) = (lab.node(node), node.number());
        netns.run(&format!("ip link set eth1 mtu {mtu}"));
        let inner = mtu - 50;
        netns.run(&format!("ip link set flannel.1 mtu {inner}"));
        netns.run(&format!("ip link set veth-cli{number} mtu {inner}"));
        lab.client(node)
            .run(&format!("ip link set eth0 mtu {inner}"));
        netns.run(&format!("ip link set cni0 mtu {inner}"));
    }
}

/// Carries the device with this underlay's MTU.
fn vxgate_has(node: Node, vxgate: &Vxgate, mtu: u32) {
    wait_until(
        &format!("vxgate on {node:?} carries frames of {mtu} bytes"),
        Duration::from_secs(20),
        || {
            vxgate.try_status().is_ok_and(|status| {
                let device = status.device("flannel.1");
                device
                    .is_some_and(|device| device["taken_over"] == true && device["mtu"] == mtu - 50)
            })
        },
    );
}
