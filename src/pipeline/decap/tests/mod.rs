//! What frames of the underlay become, and what of.

mod edit;
mod inner;
mod outer;
mod vtep;

use super::super::lab::{Lab, OWN, config, inner4, seal, segment, tunnelled, with_class};
use super::*;
use crate::table::SegmentConfig;
use crate::wire::checksum;

fn lab() -> Lab {
    Lab::new(vec![segment(config())])
}

/// 192.0.2.2 sends 14 bytes of Ethernet and 4 of payload in VNI 1.
const GOOD: [u8; 68] = [
    2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, // Ethernet
    0x45, 0, 0, 54, 0xab, 0xcd, 0, 0, 64, 17, 0x4a, 0xe6, 192, 0, 2, 2, 192, 0, 2, 1, // IPv4
    0x9c, 0x40, 0x21, 0x18, 0, 34, 0, 0, // UDP
    8, 0, 0, 0, 0, 0, 1, 0, // VXLAN
    0x0e, 0, 0, 0, 0, 1, 0x0e, 0, 0, 0, 0, 2, 8, 6, // inner Ethernet
    1, 2, 3, 4,
];

/// The good frame with one byte changed, and the outer IPv4 checksum made right again.
fn changed(at: usize, value: u8) -> Vec<u8> {
    let mut frame = GOOD.to_vec();
    frame[at] = value;
    if frame[14] == 0x45 {
        seal(&mut frame);
    }
    frame
}

#[test]
fn a_good_frame_is_delivered_without_its_outer_headers() {
    let mut lab = lab();
    let (verdicts, out) = lab.decap(&[GOOD.to_vec()]);
    assert_eq!(verdicts, [Verdict::Deliver(SegmentId(0))]);
    assert_eq!(out, [(SegmentId(0), GOOD[50..].to_vec())]);
    assert_eq!(
        (
            lab.counters.forwarded.get(),
            lab.counters.forwarded_bytes.get()
        ),
        (1, 18)
    );
}

#[test]
fn a_batch_keeps_its_order_and_each_frame_its_own_fate() {
    let mut lab = lab();
    let marked = |n: u8| changed(67, n);
    let frames: Vec<_> = (0..64)
        .map(|n| {
            if n % 4 == 3 {
                changed(42, 0)
            } else {
                marked(n)
            }
        })
        .collect();
    let (verdicts, out) = lab.decap(&frames);
    assert_eq!(
        verdicts
            .iter()
            .filter(|verdict| matches!(verdict, Verdict::Drop(_)))
            .count(),
        16
    );
    let marks: Vec<_> = out.iter().map(|(_, bytes)| bytes[17]).collect();
    let expected: Vec<_> = (0..64).filter(|n| n % 4 != 3).collect();
    assert_eq!(marks, expected);
}

#[test]
fn frames_for_a_segment_without_a_port_are_counted_and_released() {
    let mut lab = lab();
    let (mut batch, mut verdicts) = (Batch::new(), Verdicts::new());
    for _ in 0..3 {
        let mut frame = lab.umem.allocate().unwrap();
        assert!(lab.umem.fill(&mut frame, &GOOD));
        batch.push(frame).unwrap();
    }
    lab.counters.received.add(3);
    decide(&lab.snapshot, &lab.umem, &batch, &mut verdicts);
    apply(
        &lab.snapshot,
        &mut lab.umem,
        &mut batch,
        &verdicts,
        &lab.counters,
        &mut [],
    );
    assert_eq!(lab.counters.drops(DropReason::LinkDown), 3);
    lab.check_balance();
}
