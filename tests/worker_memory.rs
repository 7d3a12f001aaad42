//! A worker on in-memory ports: where frames go in both directions, what becomes of those that find no room, and that
//! nothing is ever lost or counted twice.

mod rig;

use proptest::prelude::*;

use rig::*;
use vxgate::port::MemoryPort;
use vxgate::stats::DropReason;
use vxgate::table::{Snapshot, publication};
use vxgate::wire::MacAddr;
use vxgate::worker::Worker;

#[test]
fn encapsulates_from_every_segment_through_its_underlay_queue() {
    let mut rig = Rig::new(Size {
        segments: 3,
        ..Size::default()
    });
    for segment in 0..3 {
        for vtep in 0..rig.size.vteps {
            let frame = inner(host(segment, vtep), device_mac(segment), 60 + segment);
            assert!(rig.deliver(At::Access(segment), &frame));
            rig.worker.turn();
            let out = rig.collect(At::Underlay(segment % 2));
            assert_eq!(out.len(), 1);
            assert_eq!(
                read_outer(&out[0]),
                (vtep_addr(vtep), vni(segment).get(), frame)
            );
        }
        assert_eq!(rig.counters(At::Access(segment)).forwarded.get(), 3);
    }
    rig.check_balance();
}

#[test]
fn decapsulates_from_every_queue_to_the_segment_of_the_vni() {
    let mut rig = Rig::new(Size {
        segments: 3,
        ..Size::default()
    });
    for queue in 0..2 {
        for segment in 0..3 {
            let frame = inner(device_mac(segment), host(segment, 1), 100);
            assert!(rig.deliver(
                At::Underlay(queue),
                &outer(vni(segment), vtep_addr(1), &frame)
            ));
            rig.worker.turn();
            assert_eq!(rig.collect(At::Access(segment)), [frame]);
        }
        let counters = rig.counters(At::Underlay(queue));
        assert_eq!(
            (counters.received.get(), counters.received_bytes.get()),
            (3, 450)
        );
        assert_eq!(
            (counters.forwarded.get(), counters.forwarded_bytes.get()),
            (3, 300)
        );
    }
    rig.check_balance();
}

#[test]
fn one_turn_serves_all_ports_and_keeps_the_order_of_each() {
    let mut rig = Rig::new(Size::default());
    for n in 0..20 {
        for segment in 0..2 {
            let towards = inner(device_mac(segment), host(segment, 0), 60 + n);
            assert!(rig.deliver(
                At::Underlay(segment),
                &outer(vni(segment), vtep_addr(0), &towards)
            ));
            assert!(rig.deliver(
                At::Access(segment),
                &inner(host(segment, 2), device_mac(segment), 60 + n)
            ));
        }
    }
    assert_eq!(rig.worker.turn().received, 80);
    for segment in 0..2 {
        let lengths = |frames: Vec<Vec<u8>>| frames.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(
            lengths(rig.collect(At::Access(segment))),
            (60..80).collect::<Vec<_>>()
        );
        assert_eq!(
            lengths(rig.collect(At::Underlay(segment))),
            (110..130).collect::<Vec<_>>()
        );
    }
    assert_eq!(rig.worker.turn().reclaimed, 80);
    rig.check_balance();
}

#[test]
fn a_frame_without_an_entry_goes_to_every_vtep_once() {
    let mut rig = Rig::new(Size::default());
    let frame = inner(MacAddr::BROADCAST, device_mac(0), 80);
    assert!(rig.deliver(At::Access(0), &frame));
    rig.worker.turn();
    let out: Vec<_> = rig
        .collect(At::Underlay(0))
        .iter()
        .map(|bytes| read_outer(bytes))
        .collect();
    let expected: Vec<_> = (0..3)
        .map(|vtep| (vtep_addr(vtep), vni(0).get(), frame.clone()))
        .collect();
    assert_eq!(out, expected);
    let counters = rig.counters(At::Access(0));
    assert_eq!(
        (
            counters.received.get(),
            counters.forwarded.get(),
            counters.flood_copies.get()
        ),
        (1, 1, 2)
    );
    rig.check_balance();
}

#[test]
fn what_the_transmit_ring_refuses_is_dropped_where_it_came_in() {
    let mut rig = Rig::new(Size {
        ring_len: 8,
        ..Size::default()
    });
    for round in 0..2 {
        for _ in 0..8 {
            assert!(rig.deliver(At::Access(0), &inner(host(0, 0), device_mac(0), 60)));
        }
        rig.worker.turn();
        assert_eq!(
            rig.counters(At::Access(0)).drops(DropReason::TxRingFull),
            8 * round
        );
        rig.check_balance();
    }
    assert_eq!(drops(&rig.counters(At::Underlay(0))), 0);
    assert_eq!(rig.collect(At::Underlay(0)).len(), 8);
    rig.worker.turn();
    assert!(rig.deliver(At::Access(0), &inner(host(0, 0), device_mac(0), 60)));
    rig.worker.turn();
    assert_eq!(rig.collect(At::Underlay(0)).len(), 1);
    assert_eq!(rig.counters(At::Access(0)).forwarded.get(), 9);
    rig.check_balance();
}

#[test]
fn a_link_that_is_down_says_so_in_both_directions() {
    let mut rig = Rig::new(Size::default());
    for down in [true, false] {
        rig.port(At::Underlay(0)).0.set_link_down(down);
        rig.port(At::Access(1)).0.set_link_down(down);
        assert!(rig.deliver(At::Access(0), &inner(host(0, 0), device_mac(0), 60)));
        let inward = outer(vni(1), vtep_addr(0), &inner(device_mac(1), host(1, 0), 60));
        assert!(rig.deliver(At::Underlay(1), &inward));
        rig.worker.turn();
        for at in [At::Access(0), At::Underlay(1)] {
            let counters = rig.counters(at);
            assert_eq!(counters.drops(DropReason::LinkDown), 1, "{at:?}");
            assert_eq!(counters.forwarded.get(), u64::from(!down), "{at:?}");
        }
        rig.check_balance();
    }
}

#[test]
fn the_dead_are_counted_by_reason_and_their_frames_come_back() {
    let mut rig = Rig::new(Size::default());
    assert!(rig.deliver(
        At::Access(0),
        &inner(unreachable_host(0), device_mac(0), 60)
    ));
    assert!(rig.deliver(At::Access(0), &[0xff; 13]));
    assert!(rig.deliver(At::Access(0), &inner(host(0, 0), device_mac(0), 1600)));
    let towards = inner(device_mac(0), host(0, 0), 60);
    assert!(rig.deliver(At::Underlay(0), &outer(vni(77), vtep_addr(0), &towards)));
    assert!(rig.deliver(
        At::Underlay(0),
        &outer(vni(0), [10, 9, 9, 9].into(), &towards)
    ));
    rig.worker.turn();
    let counters = rig.counters(At::Access(0));
    for reason in [
        DropReason::NextHopUnresolved,
        DropReason::AccessShort,
        DropReason::Oversize,
    ] {
        assert_eq!(counters.drops(reason), 1, "{reason:?}");
    }
    let counters = rig.counters(At::Underlay(0));
    for reason in [DropReason::VniNotFound, DropReason::UnknownPeer] {
        assert_eq!(counters.drops(reason), 1, "{reason:?}");
    }
    rig.check_balance();
    assert!(
        rig.places()
            .into_iter()
            .all(|at| rig.collect(at).is_empty())
    );
}

#[test]
fn a_flood_without_free_frames_loses_copies_and_keeps_the_balance() {
    // Enough for the fill rings and next to nothing besides.
    let size = Size {
        segments: 1,
        queues: 1,
        vteps: 7,
        ring_len: 32,
        frames: 66,
    };
    let mut rig = Rig::new(size);
    for _ in 0..32 {
        assert!(rig.deliver(At::Access(0), &inner(MacAddr::BROADCAST, device_mac(0), 60)));
    }
    rig.worker.turn();
    rig.check_balance();
    let counters = rig.counters(At::Access(0));
    assert_eq!(counters.received.get(), 32);
    assert!(counters.flood_copies_lost.get() > 0);
    let sent = rig.collect(At::Underlay(0)).len() as u64;
    assert_eq!(sent, counters.forwarded.get() + counters.flood_copies.get());
}

#[test]
fn a_publication_holds_from_the_next_turn_on() {
    let mut rig = Rig::new(Size::default());
    for turn in 0..6 {
        rig.writer.publish(snapshot(rig.size, turn));
        assert!(rig.deliver(At::Access(0), &inner(host(0, 0), device_mac(0), 60)));
        rig.worker.turn();
        let out = rig.collect(At::Underlay(0));
        assert_eq!(read_outer(&out[0]).0, vtep_addr(turn % 3));
        assert!(rig.writer.retired() <= 1);
    }
}

#[test]
fn a_segment_that_a_snapshot_lacks_forwards_nothing_and_keeps_the_balance() {
    let mut rig = Rig::new(Size::default());
    rig.writer.publish(snapshot(
        Size {
            segments: 1,
            ..rig.size
        },
        0,
    ));
    assert!(rig.deliver(At::Access(1), &inner(host(1, 0), device_mac(1), 60)));
    assert!(rig.deliver(
        At::Underlay(0),
        &outer(vni(1), vtep_addr(0), &inner(device_mac(1), host(1, 0), 60))
    ));
    rig.worker.turn();
    rig.check_balance();
    // And one that the worker has no access port for.
    rig.writer.publish(snapshot(
        Size {
            segments: 3,
            ..rig.size
        },
        0,
    ));
    assert!(rig.deliver(
        At::Underlay(0),
        &outer(vni(2), vtep_addr(0), &inner(device_mac(2), host(2, 0), 60))
    ));
    rig.worker.turn();
    rig.check_balance();
    assert!(
        rig.places()
            .into_iter()
            .all(|at| rig.collect(at).is_empty())
    );
}

#[test]
fn an_access_port_without_its_underlay_is_refused() {
    let size = Size::default();
    let (_writer, mut readers) = publication(1, snapshot(size, 0));
    let mut plan = plan(size, readers.remove(0), || MemoryPort::new(8));
    plan.accesses[1].underlay = 2;
    let error = Worker::new(plan).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(
        error
            .to_string()
            .contains("segment 1 sends through underlay port 2"),
        "{error}"
    );
}

/// What may happen around a worker.
#[derive(Debug, Clone)]
enum Event {
    FromAccess {
        segment: usize,
        destination: Destination,
        len: usize,
    },
    FromUnderlay {
        queue: usize,
        vni: usize,
        vtep: u8,
        len: usize,
        cut: usize,
    },
    Noise {
        place: usize,
        bytes: Vec<u8>,
    },
    Send {
        place: usize,
        frames: usize,
    },
    Link {
        place: usize,
        down: bool,
    },
    Publish {
        turn: u8,
    },
    Turn,
}

#[derive(Debug, Clone)]
enum Destination {
    Known(u8),
    Unreachable,
    Group,
}

/// With frames of the overlay up to `len_max` bytes, somewhat more than fits.
fn event(len_max: usize) -> impl Strategy<Value = Event> {
    let destination = prop_oneof![
        4 => (0..3u8).prop_map(Destination::Known),
        1 => Just(Destination::Unreachable),
        3 => Just(Destination::Group),
    ];
    prop_oneof![
        8 => (0..2usize, destination, 42..len_max)
            .prop_map(|(segment, destination, len)| Event::FromAccess { segment, destination, len }),
        8 => (0..2usize, 0..3usize, 0..5u8, 42..len_max - 100, prop_oneof![3 => Just(0usize), 1 => 0..90usize])
            .prop_map(|(queue, vni, vtep, len, cut)| Event::FromUnderlay { queue, vni, vtep, len, cut }),
        2 => (0..4usize, prop::collection::vec(any::<u8>(), 1..200))
            .prop_map(|(place, bytes)| Event::Noise { place, bytes }),
        4 => (0..4usize, 0..20usize).prop_map(|(place, frames)| Event::Send { place, frames }),
        1 => (0..4usize, any::<bool>()).prop_map(|(place, down)| Event::Link { place, down }),
        1 => (0..3u8).prop_map(|turn| Event::Publish { turn }),
        6 => Just(Event::Turn),
    ]
}

/// Plays the events; at the end every frame that was delivered has been received, and every frame handed on was sent.
fn follow(mut rig: Rig, publish: impl Fn(u8) -> Snapshot, events: Vec<Event>) {
    let places = rig.places();
    let (mut delivered, mut sent) = (0, 0);
    for event in events {
        match event {
            Event::FromAccess {
                segment,
                destination,
                len,
            } => {
                let destination = match destination {
                    Destination::Known(vtep) => host(segment, vtep),
                    Destination::Unreachable => unreachable_host(segment),
                    Destination::Group => MacAddr([1, 0, 0x5e, 0, 0, 1]),
                };
                let frame = inner(destination, device_mac(segment), len);
                delivered += u64::from(rig.deliver(At::Access(segment), &frame));
            }
            Event::FromUnderlay {
                queue,
                vni,
                vtep,
                len,
                cut,
            } => {
                let inner = inner(device_mac(vni), host(vni, 0), len);
                let frame = outer(rig::vni(vni), vtep_addr(vtep), &inner);
                delivered +=
                    u64::from(rig.deliver(At::Underlay(queue), &frame[..frame.len() - cut]));
            }
            Event::Noise { place, bytes } => {
                delivered += u64::from(rig.deliver(places[place], &bytes))
            }
            Event::Send { place, frames } => {
                sent += rig.port(places[place]).0.complete(frames) as u64
            }
            Event::Link { place, down } => rig.port(places[place]).0.set_link_down(down),
            Event::Publish { turn } => rig.writer.publish(publish(turn)),
            Event::Turn => {
                rig.worker.turn();
            }
        }
        rig.check_balance();
    }
    // What is under way comes to its end.
    let mut complete_all = |rig: &mut Rig| {
        let completed = places
            .iter()
            .map(|at| rig.port(*at).0.complete(usize::MAX) as u64);
        sent += completed.sum::<u64>();
    };
    while rig.worker.turn().any() {
        complete_all(&mut rig);
    }
    complete_all(&mut rig);
    rig.check_balance();
    let mut received = 0;
    let mut handed_on = 0;
    for at in &places {
        let counters = rig.counters(*at);
        received += counters.received.get();
        handed_on += counters.forwarded.get() + counters.flood_copies.get();
    }
    assert_eq!(received, delivered);
    assert_eq!(handed_on, sent);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    // Small rings and a small pool: all of them run full and empty.

    #[test]
    fn every_frame_has_one_place_and_one_fate(events in prop::collection::vec(event(1700), 1..400)) {
        let size = Size { ring_len: 8, frames: 56, ..Size::default() };
        follow(Rig::new(size), |turn| snapshot(size, turn), events);
    }

    #[test]
    fn every_frame_of_several_buffers_has_one_place_and_one_fate(events in prop::collection::vec(event(9200), 1..400)) {
        let size = Size { ring_len: 16, frames: 80, ..Size::default() };
        follow(Rig::wide(size), |turn| wide(snapshot(size, turn)), events);
    }
}

/// Of one buffer, of two and of three, on both sides of each border, and the longest.
const MIXED: [usize; 11] = [
    60, 3790, 3791, 8950, 3840, 3841, 100, 7680, 7681, 8964, 1500,
];

#[test]
fn frames_of_one_buffer_and_of_several_are_encapsulated_in_one_batch() {
    let mut rig = Rig::wide(Size::default());
    let frames = MIXED.map(|len| inner(host(0, 1), device_mac(0), len));
    for frame in &frames {
        assert!(rig.deliver(At::Access(0), frame));
    }
    assert_eq!(rig.worker.turn().received, MIXED.len());
    let sent = rig.collect(At::Underlay(0));
    let read: Vec<_> = sent.iter().map(|frame| read_outer(frame)).collect();
    let expected: Vec<_> = frames
        .iter()
        .map(|frame| (vtep_addr(1), vni(0).get(), frame.clone()))
        .collect();
    assert_eq!(read, expected);
    let counters = rig.counters(At::Access(0));
    let bytes: usize = MIXED.iter().sum();
    assert_eq!(counters.received_bytes.get(), bytes as u64);
    let with_headers = bytes + MIXED.len() * OUTER_LEN;
    assert_eq!(counters.forwarded_bytes.get(), with_headers as u64);
    rig.worker.turn();
    rig.check_balance();
}

#[test]
fn frames_of_one_buffer_and_of_several_are_decapsulated_in_one_batch() {
    let mut rig = Rig::wide(Size::default());
    let frames = MIXED.map(|len| inner(device_mac(1), host(1, 0), len));
    for frame in &frames {
        let frame = outer(vni(1), vtep_addr(0), frame);
        assert!(rig.deliver(At::Underlay(0), &frame));
    }
    assert_eq!(rig.worker.turn().received, MIXED.len());
    assert_eq!(rig.collect(At::Access(1)), frames);
    rig.worker.turn();
    rig.check_balance();
}

#[test]
fn a_frame_of_several_buffers_that_finds_room_for_a_part_is_dropped_whole() {
    let mut rig = Rig::wide(Size {
        ring_len: 8,
        ..Size::default()
    });
    // Three buffers each, of which the ring has eight. A receive ring as small brings two at a time.
    let mut frame = || assert!(rig.deliver(At::Access(0), &inner(host(0, 0), device_mac(0), 8000)));
    frame();
    frame();
    rig.worker.turn();
    assert!(rig.deliver(At::Access(0), &inner(host(0, 0), device_mac(0), 8000)));
    rig.worker.turn();
    let counters = rig.counters(At::Access(0));
    assert_eq!(counters.forwarded.get(), 2);
    assert_eq!(counters.drops(DropReason::TxRingFull), 1);
    // What fits the rest still goes.
    assert!(rig.deliver(At::Access(0), &inner(host(0, 0), device_mac(0), 100)));
    rig.worker.turn();
    let lens: Vec<_> = rig.collect(At::Underlay(0)).iter().map(Vec::len).collect();
    assert_eq!(lens, [8050, 8050, 150]);
    rig.worker.turn();
    rig.check_balance();
}

#[test]
fn an_unfinished_checksum_over_several_buffers_is_finished() {
    let mut rig = Rig::wide(Size::default());
    let right = inner(host(0, 0), device_mac(0), 8950);
    let mut unfinished = right.clone();
    let pseudo = vxgate::wire::checksum::pseudo_ipv4(
        [10, 244, 0, 1].into(),
        [10, 244, 1, 1].into(),
        17,
        8950 - 34,
    );
    let folded = vxgate::wire::checksum::fold(pseudo);
    unfinished[40..42].copy_from_slice(&folded.to_be_bytes());
    assert_ne!(unfinished, right);
    assert!(rig.deliver(At::Access(0), &unfinished));
    let inward = inner(device_mac(0), host(0, 0), 8950);
    let mut unfinished = inward.clone();
    unfinished[40..42].copy_from_slice(&folded.to_be_bytes());
    assert!(rig.deliver(At::Underlay(0), &outer(vni(0), vtep_addr(0), &unfinished)));
    rig.worker.turn();
    assert_eq!(read_outer(&rig.collect(At::Underlay(0))[0]).2, right);
    assert_eq!(rig.collect(At::Access(0)), [inward]);
    for at in [At::Access(0), At::Underlay(0)] {
        assert_eq!(rig.counters(at).checksums_completed.get(), 1);
    }
}

#[test]
fn a_flood_of_frames_of_several_buffers_copies_all_of_each() {
    let mut rig = Rig::wide(Size::default());
    let frame = inner(MacAddr::BROADCAST, device_mac(0), 8900);
    assert!(rig.deliver(At::Access(0), &frame));
    rig.worker.turn();
    let sent = rig.collect(At::Underlay(0));
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|sent| read_outer(sent).2 == frame));
    rig.worker.turn();
    rig.check_balance();
}

#[test]
fn a_frame_longer_than_any_chunk_has_a_fate_too() {
    let mut rig = Rig::wide(Size::default());
    assert!(rig.deliver(At::Access(0), &inner(host(0, 0), device_mac(0), 20_000)));
    rig.worker.turn();
    assert_eq!(
        rig.counters(At::Access(0)).drops(DropReason::AccessShort),
        1
    );
    rig.check_balance();
}
