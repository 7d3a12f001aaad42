//! Copies, inner checksums, and what there is no room for.

use super::super::super::Outbox;
use super::*;
use crate::port::MemoryPort;
use crate::table::UdpChecksum;
use crate::wire::checksum;
use etherparse::UdpHeaderSlice;

#[test]
fn v09_a_flood_far_larger_than_the_outbox_is_flushed_on_the_way() {
    let mut lab = flooding(&[0, 1].repeat(20)); // 5 frames, 200 copies: three outboxes, within the ring of 256
    let frames = vec![inner4(UNKNOWN, &[]); 5];
    let (_, sent) = lab.encap(&frames);
    assert_eq!(sent.len(), 200);
    assert_eq!(
        lab.counters.flood_copies.get() + lab.counters.flood_copies_lost.get(),
        195
    );
}

#[test]
fn v09_a_flood_larger_than_the_ring_loses_copies_and_counts_them() {
    let mut lab = flooding(&[0, 1].repeat(20));
    lab.port = MemoryPort::new(32);
    let frames = vec![inner4(UNKNOWN, &[]); 5];
    let (_, sent) = lab.encap(&frames);
    assert_eq!(sent.len(), 32);
    assert_eq!(lab.counters.forwarded.get(), 1);
    assert_eq!(lab.counters.drops(DropReason::TxRingFull), 4);
    assert_eq!(
        lab.counters.flood_copies.get() + lab.counters.flood_copies_lost.get(),
        195
    );
}

/// Takes one frame all the way, and tells what the last flush sent. What is sent stays at the port.
fn carry(lab: &mut Lab, frame: Frame) -> usize {
    let (mut batch, mut verdicts, mut outbox) = (Batch::new(), Verdicts::new(), Outbox::new());
    batch.push(frame).unwrap();
    lab.counters.received.add(1);
    decide(
        &lab.snapshot,
        SegmentId(0),
        &lab.umem,
        &batch,
        &mut verdicts,
    );
    let mut exit = Exit {
        port: &mut lab.port,
        outbox: &mut outbox,
        ip_ids: &mut lab.ip_ids,
    };
    apply(
        &lab.snapshot,
        SegmentId(0),
        &mut lab.umem,
        &mut batch,
        &verdicts,
        &lab.counters,
        &mut exit,
    );
    exit.flush(&mut lab.umem, &lab.counters)
}

#[test]
fn v09_an_empty_pool_costs_copies_and_not_the_frame() {
    let mut lab = flooding(&[0, 1]);
    let mut held = Vec::new();
    while lab.umem.free() > 1 {
        held.push(lab.umem.allocate().unwrap());
    }
    let mut frame = lab.umem.allocate().unwrap();
    assert!(lab.umem.fill(&mut frame, &inner4(UNKNOWN, &[])));
    carry(&mut lab, frame);
    assert_eq!(
        (
            lab.counters.forwarded.get(),
            lab.counters.flood_copies_lost.get()
        ),
        (1, 1)
    );
    assert!(lab.port.collect(&mut lab.umem).is_some());
    lab.port.reclaim(&mut lab.umem);
    held.into_iter().for_each(|frame| lab.umem.release(frame));
    lab.check_balance();
}

#[test]
fn a_frame_without_room_in_front_is_counted_and_released() {
    for mut lab in [lab(), flooding(&[0, 1])] {
        for mac in [NEAR, UNKNOWN] {
            let mut frame = lab.umem.allocate().unwrap();
            assert!(lab.umem.push(&mut frame, 256 - 49).is_some());
            assert!(lab.umem.fill(&mut frame, &inner4(mac, &[])));
            assert_eq!(carry(&mut lab, frame), 0);
            lab.check_balance();
        }
        assert!(lab.counters.drops(DropReason::NoFrame) >= 1);
    }
}

#[test]
fn f05_an_inner_checksum_is_finished_here_whatever_the_device_can() {
    let mut finished = inner4(NEAR, b"payload");
    let right = [finished[40], finished[41]];
    // The sum over the pseudo-header alone.
    let pseudo = checksum::sum(&finished[26..34]) + 17 + (finished.len() as u32 - 34);
    finished[40..42].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
    let mut lab = lab_with(|config| config.udp_checksum = UdpChecksum::Compute);
    lab.port = lab.port.with_offload();
    let frame = lab.fate_out(&finished).unwrap();
    assert_eq!(frame[90..92], right);
    let udp = UdpHeaderSlice::from_slice(&frame[34..])
        .unwrap()
        .to_header();
    let right = udp.calc_checksum_ipv4(&ip(&frame), &frame[42..]).unwrap();
    assert_eq!(udp.checksum, right);
}

#[test]
fn f05_an_unfinished_inner_checksum_is_finished_before_the_wire_once_for_all_copies() {
    let mut lab = flooding(&[0, 1]);
    let right = inner4(UNKNOWN, b"payload");
    let mut unfinished = right.clone();
    let pseudo = checksum::pseudo_ipv4(
        [10, 244, 1, 2].into(),
        [10, 244, 0, 2].into(),
        17,
        right.len() as u16 - 34,
    );
    unfinished[40..42].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
    let (_, sent) = lab.encap(&[unfinished]);
    assert!(sent.iter().all(|frame| frame[50..] == right[..]));
    assert_eq!(lab.counters.checksums_completed.get(), 1);
}
