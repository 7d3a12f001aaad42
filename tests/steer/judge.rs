//! Which frames of the wire go to a socket, and what is said of those that do not.

use vxgate::stats::PassReason::{self, ForeignVni, Fragment, IpOptions, NotOurs, Oversize};

use crate::scene::{MINUTE, PATIENCE, Scene, Steered};
use crate::support::frames::{RawSocket, finish_outer_ip, mac, offset};
use crate::support::wait_until;

/// A frame, and why the kernel gets it; `None` when a socket does.
struct Case {
    what: &'static str,
    frame: Vec<u8>,
    passed: Option<PassReason>,
}

fn edited(good: &[u8], edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = good.to_vec();
    edit(&mut frame);
    finish_outer_ip(&mut frame);
    frame
}

fn cases(scene: &Scene) -> Vec<Case> {
    let good = scene.frame().bytes(b"ours");
    let case = |what, passed, frame| Case {
        what,
        frame,
        passed,
    };
    let edit = |what, passed, change: fn(&mut Vec<u8>)| case(what, passed, edited(&good, change));
    let cut = |what, passed, len: usize| case(what, passed, good[..len].to_vec());
    vec![
        case("ours", None, good.clone()),
        edit("I flag clear", None, |f| f[offset::VXLAN] = 0),
        cut("truncated VXLAN header", None, offset::VXLAN + 7),
        cut("no VXLAN header", None, offset::VXLAN),
        // The foreign VNI is in what follows the datagram.
        edit("VXLAN header cut by the UDP length", None, |f| {
            f[offset::VXLAN + 4] = 1;
            f[offset::UDP + 4..offset::UDP + 6].copy_from_slice(&15_u16.to_be_bytes());
        }),
        edit("later DF", None, |f| f[offset::IP + 6] = 0x40),
        edit("foreign VNI", Some(ForeignVni), |f| {
            f[offset::VXLAN + 6] = 2
        }),
        edit("VNI with a high byte", Some(ForeignVni), |f| {
            f[offset::VXLAN + 4] = 1
        }),
        edit("first fragment", Some(Fragment), |f| {
            f[offset::IP + 6] = 0x20
        }),
        edit("later fragment", Some(Fragment), |f| f[offset::IP + 7] = 1),
        case("IP options", Some(IpOptions), with_options(&good)),
        edit("other port", Some(NotOurs), |f| {
            f[offset::UDP + 2..offset::UDP + 4].copy_from_slice(&4789_u16.to_be_bytes())
        }),
        edit("other address", Some(NotOurs), |f| f[offset::IP + 19] = 12),
        edit("TCP", Some(NotOurs), |f| f[offset::IP + 9] = 6),
        edit("other MAC, first bytes", Some(NotOurs), |f| f[0] ^= 4),
        edit("other MAC, middle", Some(NotOurs), |f| f[3] ^= 1),
        edit("other MAC, last byte", Some(NotOurs), |f| f[5] ^= 1),
        edit("broadcast", None, |f| f[..6].fill(0xff)),
        edit("IPv6", Some(NotOurs), |f| {
            f[12..14].copy_from_slice(&[0x86, 0xdd]);
            f[14] = 0x60;
        }),
        edit("version 6 in an IPv4 frame", Some(NotOurs), |f| {
            f[14] = 0x65
        }),
        case("ARP", Some(NotOurs), arp(&good)),
        edit("VLAN-tagged", Some(NotOurs), |f| {
            f.splice(12..12, [0x81, 0, 0, 5]);
        }),
        cut("no IP header", Some(NotOurs), 14 + 1),
        cut("truncated IP header", Some(NotOurs), 14 + 19),
        cut("no UDP header", Some(NotOurs), offset::UDP),
        cut("truncated UDP header", Some(NotOurs), offset::UDP + 7),
    ]
}

fn with_options(good: &[u8]) -> Vec<u8> {
    // Four times "no operation" (RFC 791 §3.1).
    let mut frame = good.to_vec();
    frame.splice(offset::UDP..offset::UDP, [1, 1, 1, 1]);
    frame[offset::IP] = 0x46;
    frame
}

fn arp(good: &[u8]) -> Vec<u8> {
    let mut frame = good[..12].to_vec();
    // A reply (RFC 826), which nobody answers.
    frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2]);
    frame.resize(60, 0);
    frame
}

/// The bytes as `AF_PACKET` shows them: the kernel has taken a tag off.
fn as_tapped(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if frame[12..14] == [0x81, 0] {
        frame.drain(12..16);
    }
    frame
}

fn check(scene: &Scene, steered: &mut Steered) {
    let mut receiver = steered.open_nic(0);
    steered.heartbeats(1, MINUTE);
    let (wire, tap) = (scene.raw_on_wire(), scene.raw_on("eth1"));
    let mut tapped = Vec::new();
    for case in cases(scene) {
        let before = steered.underlay();
        wire.send(&case.frame);
        wait_until(case.what, PATIENCE, || steered.underlay() != before);
        let mut expected = before;
        match case.passed {
            Some(reason) => expected.passed[reason as usize] += 1,
            None => expected.steered += 1,
        }
        assert_eq!(steered.underlay(), expected, "{}", case.what);
        if case.passed.is_none() {
            assert_eq!(receiver.wait_for(1), [case.frame], "{}", case.what);
        } else {
            wait_until(&format!("{} at the kernel", case.what), PATIENCE, || {
                reaches(&tap, &as_tapped(&case.frame), &mut tapped)
            });
            assert_eq!(receiver.frames(), [[0; 0]; 0], "{}", case.what);
        }
    }
    let steered_ones = cases(scene)
        .into_iter()
        .filter(|case| case.passed.is_none());
    for case in steered_ones {
        assert!(
            !tapped.contains(&case.frame),
            "the kernel saw: {}",
            case.what
        );
    }
}

fn reaches(tap: &RawSocket, frame: &[u8], tapped: &mut Vec<Vec<u8>>) -> bool {
    tapped.extend(std::iter::from_fn(|| tap.receive()));
    tapped.iter().any(|seen| seen == frame)
}

#[test]
fn every_frame_is_counted_under_one_reason_and_gets_where_it_belongs() {
    let scene = Scene::new("judge", 1, 1500);
    scene.node.enter(|| {
        let mut steered = Steered::load(1);
        steered.steering.attach().unwrap();
        check(&scene, &mut steered);
    });
}

/// As what GRO has joined where XDP is generic: a worker would make a frame of it that the node does not route.
#[test]
fn a_frame_longer_than_the_mtu_is_the_kernels() {
    let scene = Scene::new("longer", 1, 1500);
    scene.wire.run("ip link set wire mtu 1600");
    scene.node.enter(|| {
        let mut steered = Steered::load(1);
        steered.steering.attach().unwrap();
        let _receiver = steered.open_nic(0);
        steered.heartbeats(1, MINUTE);
        let wire = scene.raw_on_wire();
        let headers = scene.frame().bytes(&[]).len();
        for (len, passed) in [(1514, 0), (1515, 1)] {
            let before = steered.underlay();
            wire.send(&scene.frame().bytes(&vec![1; len - headers]));
            wait_until("the frame has a fate", PATIENCE, || {
                steered.underlay() != before
            });
            let mut expected = before;
            expected.passed[Oversize as usize] += passed;
            expected.steered += 1 - passed;
            assert_eq!(steered.underlay(), expected, "{len}");
        }
    });
}

#[test]
fn generic_xdp_judges_alike_where_the_driver_refuses_native() {
    // A veth does not take native XDP while its peer's frames are longer than a page.
    let scene = Scene::new("generic", 1, 9000);
    scene.node.enter(|| {
        let mut steered = Steered::load(1);
        let modes = steered.steering.attach().unwrap();
        let (_, mode, why) = modes
            .iter()
            .find(|(ifindex, ..)| *ifindex == steered.nic.ifindex)
            .unwrap();
        assert_eq!(*mode, vxgate::steer::XdpMode::Generic);
        let why = why.as_deref().unwrap();
        assert!(why.starts_with("the driver refused native XDP: "), "{why}");
        check(&scene, &mut steered);
    });
}

#[test]
fn the_kernel_decapsulates_what_is_left_to_it() {
    let scene = Scene::new("foreign", 1, 1500);
    scene.node.run(
        "ip link add vxlan2 address 02:00:00:00:02:0a type vxlan id 2 dev eth1 local 10.0.0.10 dstport 8472 nolearning",
    );
    scene.node.run("ip link set vxlan2 up");
    scene.node.enter(|| {
        let mut steered = Steered::load(1);
        let _receiver = steered.open_nic(0);
        steered.heartbeats(1, MINUTE);
        steered.steering.attach().unwrap();
        let wire = scene.raw_on_wire();
        let mut frame = scene.frame();
        frame.inner_macs[1] = mac("02:00:00:00:02:0a");
        let good = frame.bytes(&[7; 100]);

        let foreign = edited(&good, |f| f[offset::VXLAN + 6] = 2);
        wire.send(&foreign);
        wait_until("a frame at the other device", PATIENCE, || {
            scene.received("vxlan2") == 1
        });
        // Both halves of one datagram: reassembled, and then decapsulated.
        let [first, second] = fragments(&foreign, 64);
        wire.send(&first);
        wire.send(&second);
        wait_until("fragments at the other device", PATIENCE, || {
            scene.received("vxlan2") == 2
        });
        wire.send(&with_options(&foreign));
        // The header's sum no longer holds, so it is the kernel that drops it.
        let in_header_errors = |snmp: &str| {
            let ip: Vec<_> = snmp.lines().filter(|l| l.starts_with("Ip:")).collect();
            ip[1].split(' ').nth(4).unwrap().parse::<u64>().unwrap()
        };
        wait_until("a header error of the kernel's", PATIENCE, || {
            in_header_errors(&scene.node.run("cat /proc/net/snmp")) == 1
        });
        let counters = steered.underlay();
        assert_eq!(counters.passed[ForeignVni as usize], 1);
        assert_eq!(counters.passed[Fragment as usize], 2);
        assert_eq!(counters.passed[IpOptions as usize], 1);
        assert_eq!(counters.steered, 0);
        assert_eq!(scene.received("flannel.1"), 0);
    });
}

/// Two fragments of an IPv4 frame; the first has `len` bytes of payload, a multiple of 8.
fn fragments(frame: &[u8], len: usize) -> [Vec<u8>; 2] {
    let (head, payload) = frame.split_at(offset::UDP);
    let fragment = |bytes: &[u8], flags_and_offset: u16| {
        let mut fragment = [head, bytes].concat();
        let total = (fragment.len() - offset::IP) as u16;
        fragment[offset::IP + 2..offset::IP + 4].copy_from_slice(&total.to_be_bytes());
        fragment[offset::IP + 6..offset::IP + 8].copy_from_slice(&flags_and_offset.to_be_bytes());
        finish_outer_ip(&mut fragment);
        fragment
    };
    [
        fragment(&payload[..len], 0x2000),
        fragment(&payload[len..], (len / 8) as u16),
    ]
}
