//! What is counted of frames that leave, and of those that do not.

use super::*;
use crate::port::{ChunkSize, MemoryPort, UmemConfig};
use crate::stats::{FlightRecorder, Shape, Tallies, Tally};
use std::sync::Arc;

const PEER: PeerId = PeerId(0);

#[test]
fn a_split_keeps_the_order_of_both_and_the_copies() {
    let mut umem = umem();
    let (mut outbox, mut other) = (Outbox::new(), Outbox::new());
    for (len, role) in [
        (100, Role::First),
        (61, Role::First),
        (102, Role::Copy),
        (63, Role::Copy),
        (64, Role::First),
    ] {
        let frame = frame(&mut umem, len);
        outbox.push(frame, role, PEER).unwrap();
    }
    outbox.split(&mut other, 0b1_1010);
    let lens = |outbox: &Outbox| outbox.batch.iter().map(Frame::len).collect::<Vec<_>>();
    assert_eq!((lens(&outbox), outbox.copies), (vec![100, 102, 63], 0b110));
    assert_eq!((lens(&other), other.copies), (vec![61, 64], 0));
    for mut outbox in [outbox, other] {
        outbox.discard(&mut umem, &PortCounters::default(), DropReason::LinkDown);
    }
}

fn umem() -> Umem {
    Umem::new(UmemConfig {
        chunk: ChunkSize::K2,
        frames: 256,
        lock: false,
    })
    .unwrap()
}

fn frame(umem: &mut Umem, len: usize) -> Frame {
    let mut frame = umem.allocate().unwrap();
    assert!(umem.fill(&mut frame, &vec![0; len]));
    frame
}

#[test]
fn what_the_ring_refuses_is_counted_and_released_first_frames_and_copies_apart() {
    let (mut umem, mut port, counters) = (umem(), MemoryPort::new(4), PortCounters::default());
    let mut outbox = Outbox::new();
    for role in [
        Role::First,
        Role::Copy,
        Role::First,
        Role::First,
        Role::Copy,
        Role::First,
        Role::Copy,
    ] {
        let frame = frame(&mut umem, 60);
        outbox.push(frame, role, PEER).unwrap();
    }
    assert_eq!(
        outbox.flush(&mut port, &mut umem, &counters, DropReason::TxRingFull),
        4
    );
    assert!(outbox.is_empty());
    assert_eq!(counters.forwarded.get(), 3);
    assert_eq!(counters.forwarded_bytes.get(), 180);
    assert_eq!(counters.flood_copies.get(), 1);
    assert_eq!(counters.drops(DropReason::TxRingFull), 1);
    assert_eq!(counters.flood_copies_lost.get(), 2);
    assert_eq!(umem.free() + port.frames_held(), 256);
}

/// What `counters` have of each of three peers: frames and bytes.
fn of_peers(counters: &PortCounters) -> [(u64, u64); 3] {
    [0, 1, 2].map(|place| {
        let Tally { frames, bytes, .. } = counters.peers.read(PeerId(place));
        (frames, bytes)
    })
}

fn counting() -> PortCounters {
    PortCounters::counting(Arc::new(Tallies::new(3)))
}

#[test]
fn what_the_ring_takes_is_counted_for_its_peer_and_what_it_refuses_is_not() {
    let (mut umem, mut port, counters) = (umem(), MemoryPort::new(4), counting());
    port.limit_frame_len(1518);
    let mut outbox = Outbox::new();
    for (len, role, peer) in [
        (60, Role::First, 1),
        (1519, Role::First, 2),
        (61, Role::Copy, 2),
        (62, Role::First, 1),
        (63, Role::Rest, 1),
        (64, Role::First, 2),
    ] {
        let frame = frame(&mut umem, len);
        outbox.push(frame, role, PeerId(peer)).unwrap();
    }
    outbox.flush(&mut port, &mut umem, &counters, DropReason::TxRingFull);
    assert_eq!(of_peers(&counters), [(0, 0), (3, 185), (1, 61)]);
    assert_eq!(counters.handed_on(), 4);
    assert_eq!(counters.forwarded_bytes.get(), 185);
    assert_eq!(counters.copied_bytes.get(), 61);
    assert_eq!(counters.drops(DropReason::TxRingFull), 1);
}

#[test]
fn a_superframe_counts_as_its_segments() {
    let (mut umem, mut port, counters) = (umem(), MemoryPort::new(4), counting());
    let mut outbox = Outbox::new();
    for (len, segments) in [(1000, 7), (60, 1), (900, 3)] {
        let frame = frame(&mut umem, len);
        let note = Note::new(PeerId(2), &frame, segments);
        outbox.push_noted(frame, Role::First, note).unwrap();
    }
    outbox.flush(&mut port, &mut umem, &counters, DropReason::TxRingFull);
    assert_eq!(of_peers(&counters), [(0, 0), (0, 0), (11, 1960)]);
    let whole = counters.segments_whole.get();
    assert_eq!((counters.forwarded.get(), whole), (3, 8));
    assert_eq!(counters.handed_on(), 11);
}

#[test]
fn a_split_leaves_each_frame_its_peer() {
    let (mut umem, mut port, counters) = (umem(), MemoryPort::new(8), counting());
    let (mut outbox, mut other) = (Outbox::new(), Outbox::new());
    for peer in [0, 1, 2, 1, 0] {
        let frame = frame(&mut umem, 60 + usize::from(peer));
        outbox.push(frame, Role::First, PeerId(peer)).unwrap();
    }
    outbox.split(&mut other, 0b0_1010);
    other.flush(&mut port, &mut umem, &counters, DropReason::TxRingFull);
    assert_eq!(of_peers(&counters), [(0, 0), (2, 122), (0, 0)]);
    outbox.flush(&mut port, &mut umem, &counters, DropReason::TxRingFull);
    assert_eq!(of_peers(&counters), [(2, 120), (2, 122), (1, 62)]);
}

#[test]
fn segments_beyond_the_first_are_in_counts_of_their_own() {
    let (mut umem, mut port, counters) = (umem(), MemoryPort::new(8), PortCounters::default());
    let mut outbox = Outbox::new();
    // Five of a superframe, five of a copy of it, and a frame; the ring takes eight.
    for first in [Role::First, Role::Copy] {
        for role in [
            first,
            first.rest(),
            first.rest(),
            first.rest(),
            first.rest().rest(),
        ] {
            let frame = frame(&mut umem, 60);
            outbox.push(frame, role, PEER).unwrap();
        }
    }
    let last = frame(&mut umem, 60);
    outbox.push(last, Role::First, PEER).unwrap();
    let taken = outbox.flush(&mut port, &mut umem, &counters, DropReason::TxRingFull);
    assert_eq!(taken, 8);
    assert_eq!(
        (counters.forwarded.get(), counters.forwarded_bytes.get()),
        (1, 300)
    );
    assert_eq!(
        (
            counters.flood_copies.get(),
            counters.flood_copies_lost.get()
        ),
        (1, 0)
    );
    assert_eq!(
        (counters.segments_sent.get(), counters.segments_lost.get()),
        (6, 2)
    );
    assert_eq!(counters.drops(DropReason::TxRingFull), 1);
    assert_eq!((outbox.copies, outbox.rest), (0, 0));
}

#[test]
fn what_the_port_never_sends_is_oversize_and_holds_up_no_other() {
    let (mut umem, mut port, counters) = (umem(), MemoryPort::new(4), PortCounters::default());
    port.limit_frame_len(1518);
    let mut outbox = Outbox::new();
    let frames = [
        (1519, Role::First),
        (100, Role::First),
        (1519, Role::Copy),
        (101, Role::Copy),
        (1518, Role::First),
    ];
    for (len, role) in frames {
        let frame = frame(&mut umem, len);
        outbox.push(frame, role, PEER).unwrap();
    }
    let taken = outbox.flush(&mut port, &mut umem, &counters, DropReason::TxRingFull);
    let lens: Vec<_> = std::iter::from_fn(|| port.collect(&mut umem))
        .map(|bytes| bytes.len())
        .collect();
    assert_eq!((taken, lens), (3, vec![100, 101, 1518]));
    assert_eq!(
        (counters.forwarded.get(), counters.forwarded_bytes.get()),
        (2, 1618)
    );
    assert_eq!(
        (
            counters.flood_copies.get(),
            counters.flood_copies_lost.get()
        ),
        (1, 1)
    );
    assert_eq!(counters.drops(DropReason::Oversize), 1);
    port.reclaim(&mut umem);
    assert_eq!(umem.free(), 256);
}

#[test]
fn a_full_outbox_of_copies_is_all_taken() {
    let (mut umem, mut port, counters) = (umem(), MemoryPort::new(64), PortCounters::default());
    let mut outbox = Outbox::new();
    for _ in 0..BATCH {
        let frame = frame(&mut umem, 60);
        outbox.push(frame, Role::Copy, PEER).unwrap();
    }
    let late = frame(&mut umem, 60);
    umem.release(outbox.push(late, Role::First, PEER).unwrap_err());
    assert_eq!(
        outbox.flush(&mut port, &mut umem, &counters, DropReason::TxRingFull),
        64
    );
    assert_eq!(
        (counters.flood_copies.get(), counters.forwarded.get()),
        (64, 0)
    );
    assert_eq!(outbox.copies, 0);
}

#[test]
fn frames_for_a_port_that_is_gone_are_discarded() {
    let (mut umem, counters) = (umem(), PortCounters::default());
    let mut outbox = Outbox::new();
    let waiting = frame(&mut umem, 60);
    outbox.push(waiting, Role::First, PEER).unwrap();
    outbox.discard(&mut umem, &counters, DropReason::LinkDown);
    assert_eq!(counters.drops(DropReason::LinkDown), 1);
    assert_eq!(umem.free(), 256);
}

/// Also those between copies, which are counted elsewhere and not kept.
#[test]
fn frames_that_die_on_their_way_out_are_on_record_as_they_would_have_left() {
    let (mut umem, mut port) = (umem(), MemoryPort::new(1));
    let recorder = Arc::new(FlightRecorder::new());
    let counters = counting().recording(Arc::clone(&recorder), 7);
    let mut outbox = Outbox::new();
    for (byte, role) in [
        (1, Role::First),
        (2, Role::First),
        (3, Role::Copy),
        (4, Role::First),
    ] {
        let mut frame = umem.allocate().unwrap();
        assert!(umem.fill(&mut frame, &[byte; 60]));
        outbox.push(frame, role, PeerId(1)).unwrap();
    }
    let taken = outbox.flush(&mut port, &mut umem, &counters, DropReason::TxRingFull);
    assert_eq!(taken, 1);
    let read = recorder.read();
    let told = read.iter().map(|dead| (dead.number, dead.bytes.clone()));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [(2, vec![4; 60]), (1, vec![2; 60])]
    );
    assert!(
        read.iter()
            .all(|dead| dead.shape == Shape::Leaving && dead.port == 7)
    );
    assert_eq!(counters.drops(DropReason::TxRingFull), 2);
    assert_eq!(counters.flood_copies_lost.get(), 1);
}
