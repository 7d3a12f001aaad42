//! Bytes from nobody: floods of random and damaged frames at a gateway that carries traffic.

use std::thread;
use std::time::Duration;

use crate::failover::under_load;
use crate::support::frames::{Random, RawSocket, VxlanFrame, finish_outer_ip, mac, offset};
use crate::support::lab::{Lab, Node};
use crate::support::vxgate::Vxgate;
use crate::support::wait_until;

const FLOOD: usize = 100_000;
/// Frames at once, and the pause after: some ten thousand a second, so that the flood meets the code and not only full rings.
const BURST: usize = 64;
const PAUSE: Duration = Duration::from_millis(1);
/// Frames after which the sender waits for the worker; its receive ring holds more.
const WINDOW: usize = 512;
const SEED: u64 = 8472;

#[test]
fn random_bytes_on_the_vxlan_port_are_judged_and_counted() {
    flood(
        "100,000 frames of random bytes on UDP 8472",
        |good, random| {
            let len = random.below(1400);
            let inner: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
            let mut frame = good.around(&inner);
            // The VXLAN header is random, too; every other frame keeps our VNI and the I flag, to get further in.
            if random.below(2) == 0 {
                for byte in &mut frame[offset::VXLAN..offset::INNER] {
                    *byte = random.next() as u8;
                }
            }
            frame
        },
    );
}

#[test]
fn flipped_bits_are_judged_and_counted() {
    flood("100,000 good frames with flipped bits", |good, random| {
        let mut frame = good.bytes(&[0x42; 64]);
        for _ in 0..=random.below(3) {
            // Everything behind the outer MAC addresses.
            let bit = 12 * 8 + random.below((frame.len() - 12) * 8);
            frame[bit / 8] ^= 1 << (bit % 8);
        }
        // Half of them with a right checksum, or nearly all would die of that.
        if random.below(2) == 0 {
            finish_outer_ip(&mut frame);
        }
        frame
    });
}

#[test]
fn frames_that_are_not_ours_reach_the_kernel() {
    let lab = Lab::up();
    let vxgate = Vxgate::start(&lab.node(Node::Worker), &[]);
    let wire = RawSocket::open(&lab.netns("sw"), "p2");
    let good = frame(&lab).bytes(&[0x42; 64]);
    let before = vxgate.balanced();
    let fragment = edited(&good, |frame| frame[offset::IP + 6] = 0x20);
    let foreign_vni = edited(&good, |frame| frame[offset::VXLAN + 6] = 2);
    let other_port = edited(&good, |frame| frame[offset::UDP + 3] ^= 1);
    for _ in 0..50 {
        wire.send(&fragment);
        wire.send(&foreign_vni);
        wire.send(&other_port);
    }
    wait_until(
        "each is passed and counted as what it is",
        Duration::from_secs(5),
        || {
            let now = vxgate.status();
            let passed =
                |reason| now.passed("underlay", reason) - before.passed("underlay", reason);
            passed("fragment") == 50 && passed("foreign_vni") == 50 && passed("not_ours") >= 50
        },
    );
    vxgate.balanced();
    vxgate.stop();
}

fn flood(what: &str, make: impl Fn(&VxlanFrame, &mut Random) -> Vec<u8> + Sync) {
    let lab = Lab::up();
    let mut vxgate = Vxgate::start(&lab.node(Node::Worker), &[]);
    let wire = RawSocket::open(&lab.netns("sw"), "p2");
    let good = frame(&lab);
    let before = vxgate.balanced();
    let reports = under_load(&lab, what, || {
        let mut random = Random(SEED);
        for index in 0..FLOOD {
            wire.send(&make(&good, &mut random));
            if index % BURST == 0 {
                thread::sleep(PAUSE);
            }
            // A worker that is slower than the flood loses frames of everybody's: that is no question here.
            if index % WINDOW == 0 {
                wait_until("the worker has caught up", Duration::from_secs(10), || {
                    vxgate.status().in_flight("underlay") < WINDOW as u64
                });
            }
        }
    });
    assert!(vxgate.runs(), "vxgate survives: {}", vxgate.output());
    let after = vxgate.balanced();
    let (received, forwarded) = (
        after.received("underlay") - before.received("underlay"),
        after.forwarded("underlay") - before.forwarded("underlay"),
    );
    println!(
        "    received {received}, forwarded {forwarded}, drops {}",
        after.0["ports"][0]["drops"]
    );
    assert!(
        received as usize > FLOOD / 2,
        "the flood arrived: {received}"
    );
    for report in &reports {
        assert!(
            report.lost * 20 < report.sent,
            "good traffic keeps flowing beside the flood: {report:?}"
        );
        assert_eq!(report.damaged, 0);
    }
    // And when it is over, as if nothing had been.
    let reports = under_load(&lab, "after the flood", || {});
    for report in reports {
        assert_eq!((report.lost, report.duplicated, report.damaged), (0, 0, 0));
    }
    vxgate.balanced();
    vxgate.stop();
}

fn frame(lab: &Lab) -> VxlanFrame {
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
        port: 9,
    }
}

fn edited(good: &[u8], edit: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = good.to_vec();
    edit(&mut frame);
    finish_outer_ip(&mut frame);
    frame
}
