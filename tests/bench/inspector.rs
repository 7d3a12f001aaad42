//! The inspector in user space and the sink in the kernel, frame by frame: two hands, one meaning. And what the inspector finds
//! besides.

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use vxgate::loadgen::engine::{
    Expectations, Inspection, Received, Sink, StreamReceived, Tally, inspect,
};
use vxgate::loadgen::headers::{Family, Shape, Transport};

use crate::frames::{PLAIN, TUNNELLED, VXLAN_PORT, frame, len_min, now_ns, shapes};

/// Stream 2 belongs elsewhere, and there is no stream 3.
fn expectations() -> Expectations {
    Expectations {
        streams: 3,
        here: vec![0, 1],
        vxlan_ports: vec![4789, VXLAN_PORT],
        zeros: true,
    }
}

fn tally() -> Tally {
    Tally::new(&expectations()).unwrap()
}

/// What happens to a frame on its way.
#[derive(Debug, Clone)]
enum Change {
    Flip(Index, u8),
    Overwrite(Index, Vec<u8>),
    Cut(Index),
    Pad(Vec<u8>),
    /// Of headers, where most bytes mean something.
    Header(u8, u8),
}

fn change() -> impl Strategy<Value = Change> {
    let bytes = |most| prop::collection::vec(any::<u8>(), 1..most);
    prop_oneof![
        3 => (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        1 => (any::<Index>(), bytes(6)).prop_map(|(at, bytes)| Change::Overwrite(at, bytes)),
        1 => any::<Index>().prop_map(Change::Cut),
        1 => bytes(60).prop_map(Change::Pad),
        3 => (any::<u8>(), any::<u8>()).prop_map(|(at, value)| Change::Header(at, value)),
    ]
}

fn changed(mut frame: Vec<u8>, changes: Vec<Change>) -> Vec<u8> {
    for change in changes {
        if frame.is_empty() {
            break;
        }
        match change {
            Change::Flip(at, bit) => *at.get_mut(&mut frame) ^= 1 << bit,
            Change::Overwrite(at, bytes) => {
                let at = at.index(frame.len());
                for (to, from) in frame[at..].iter_mut().zip(bytes) {
                    *to = from;
                }
            }
            Change::Cut(at) => frame.truncate(at.index(frame.len())),
            Change::Pad(bytes) => frame.extend(bytes),
            Change::Header(at, value) => {
                if let Some(byte) = frame.get_mut(usize::from(at) % 144) {
                    *byte = value;
                }
            }
        }
    }
    frame
}

/// Mostly generated frames, changed in none to four ways; and bytes of no meaning.
fn arriving() -> impl Strategy<Value = Vec<u8>> {
    let generated = (
        prop::sample::select(shapes()),
        0..4_u16,
        0..200_u32,
        0..700_usize,
        prop::collection::vec(change(), 0..5),
    );
    prop_oneof![
        12 => generated.prop_map(|(shape, stream, sequence, more, changes)| {
            let frame = frame(shape, stream, sequence, now_ns(), len_min(shape) + more);
            changed(frame, changes)
        }),
        1 => prop::collection::vec(any::<u8>(), 14..200),
    ]
}

/// By fate, without times.
fn fates(received: &Received) -> (Vec<StreamReceived>, u64) {
    let timeless = |stream: &StreamReceived| StreamReceived {
        gap_max_ns: 0,
        ..*stream
    };
    let streams = received.per_stream.iter().map(timeless).collect();
    (streams, received.foreign)
}

#[test]
fn every_frame_has_the_fate_that_the_sink_gives_it() {
    let both = RefCell::new((Sink::load(&expectations()).unwrap(), tally()));
    let mut runner = TestRunner::new(Config::with_cases(400));
    let frames = prop::collection::vec(arriving(), 1..12);
    let outcome = runner.run(&frames, |frames| {
        let (sink, tally) = &mut *both.borrow_mut();
        sink.reset().unwrap();
        tally.reset();
        for frame in &frames {
            // The kernel runs no program on less than an Ethernet header, and no device hands one over.
            if frame.len() < 14 {
                continue;
            }
            let by_sink = sink.inspect(frame).unwrap();
            prop_assert_eq!(tally.take(frame, now_ns()), by_sink, "{:x?}", frame);
        }
        let (counted, expected) = (tally.received(), sink.read().unwrap());
        prop_assert_eq!(fates(&counted), fates(&expected));
        prop_assert_eq!(counted.latency.len(), expected.latency.len());
        prop_assert_eq!(tally.reached(), sink.reached().unwrap());
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn every_fate_was_among_those_compared() {
    let mut tally = tally();
    let mut runner = TestRunner::deterministic();
    for _ in 0..20_000 {
        let frame = arriving().new_tree(&mut runner).unwrap().current();
        tally.take(&frame, now_ns());
    }
    let received = tally.received();
    let of_one = received.per_stream[0];
    let counts = [
        of_one.frames,
        of_one.duplicated,
        of_one.corrupted,
        received.per_stream[2].misdelivered,
        received.foreign,
    ];
    assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
    let found = received.inspection.unwrap().findings();
    let seldom = found.iter().find(|(_, frames)| *frames == 0);
    assert!(
        seldom.is_none_or(|(what, _)| *what == "checksum left to the device"),
        "{found:?}"
    );
}

#[test]
fn sequence_numbers_are_counted_as_the_sink_does() {
    let (mut sink, mut tally) = (Sink::load(&expectations()).unwrap(), tally());
    let order = [
        0,
        2,
        1,
        1,
        0x7fff_fff0,
        0xffff_ffe0,
        0xffff_ffff,
        1,
        2,
        0,
        0xffff_fffe,
        1 << 20,
        2 << 20,
        5,
    ];
    for sequence in order {
        let frame = frame(TUNNELLED, 1, sequence, now_ns(), 150);
        assert!(sink.inspect(&frame).unwrap() && tally.take(&frame, now_ns()));
        assert_eq!(fates(&tally.received()), fates(&sink.read().unwrap()));
        assert_eq!(tally.reached(), sink.reached().unwrap());
    }
}

/// What a recording carries is its own.
#[test]
fn only_payloads_that_were_zeros_are_held_against_them() {
    let mut other = Tally::new(&Expectations {
        zeros: false,
        ..expectations()
    })
    .unwrap();
    let mut tally = tally();
    let mut frame = frame(TUNNELLED, 0, 0, now_ns(), 150);
    let payload = usize::from(TUNNELLED.header_len());
    frame[payload..payload + 2].fill(0xff);
    for (tally, expected) in [(&mut tally, 1), (&mut other, 0)] {
        assert!(tally.take(&frame, now_ns()));
        let received = tally.received();
        assert_eq!(received.inspection.unwrap().payload, expected);
        assert_eq!(received.per_stream[0].frames, 1);
    }
}

#[test]
fn times_are_of_the_frames_that_count() {
    const SECOND: u64 = 1_000_000_000;
    let mut tally = tally();
    let arrival = |sequence: u32| 100 * SECOND + u64::from(sequence) * SECOND;
    for sequence in [0, 1, 1, 5] {
        let intended_ns = arrival(sequence) - 3 * SECOND;
        let frame = frame(PLAIN, 0, sequence, intended_ns, 100);
        tally.take(&frame, arrival(sequence));
    }
    let received = tally.received();
    assert_eq!(received.latency_range_ns, Some((3 * SECOND, 3 * SECOND)));
    assert_eq!(received.latency.len(), 3);
    assert_eq!(received.first_last_ns, Some((arrival(0), arrival(5))));
    assert_eq!(received.per_stream[0].gap_max_ns, 4 * SECOND);
    tally.reset();
    assert_eq!(tally.received(), self::tally().received());
}

/// What is found in one frame after a change, which leaves it a generated one.
fn found(shape: Shape, len: usize, change: impl Fn(&mut Vec<u8>)) -> Inspection {
    let mut frame = frame(shape, 0, 9, now_ns(), len);
    change(&mut frame);
    let mut inspection = Inspection::default();
    let inspected = inspect(&frame, &[VXLAN_PORT]).expect("a generated frame");
    inspection.add(&inspected, true);
    inspection
}

#[test]
fn in_a_sound_frame_of_any_shape_nothing_is_found() {
    for shape in shapes() {
        for more in [0, 1, 2, 3, 50, 51, 1400, 7777] {
            let sound = Inspection {
                inspected: 1,
                ..Inspection::default()
            };
            let len = len_min(shape) + more;
            assert_eq!(found(shape, len, |_| ()), sound, "{shape:?} of {len}");
            let padded = found(shape, len, |frame| frame.extend([0; 7]));
            assert_eq!(padded, sound, "{shape:?} of {len}, padded");
        }
    }
}

const OVER_IPV6: Shape = Shape {
    outer: Some(Family::V6),
    inner: Family::V6,
    transport: Transport::Tcp,
    arrival_mac: None,
};

/// Each kind in frames that have it, and no other kind.
#[test]
fn what_is_wrong_is_found_by_its_kind() {
    let one = Inspection {
        inspected: 1,
        ..Inspection::default()
    };
    let inner = usize::from(TUNNELLED.inner_ip_at());
    let flip = |at: usize| move |frame: &mut Vec<u8>| frame[at] ^= 1;
    // Outer: TTL, source address.
    for at in [22, 27] {
        assert_eq!(
            found(TUNNELLED, 150, flip(at)),
            Inspection {
                outer_ipv4_checksum: 1,
                ..one
            }
        );
    }
    // Outer UDP source port, address, VNI; over IPv6, where there is a checksum.
    for at in [14 + 40, 14 + 9, 14 + 40 + 8 + 5] {
        assert_eq!(
            found(OVER_IPV6, 250, flip(at)),
            Inspection {
                outer_udp_checksum: 1,
                ..one
            },
            "byte {at}"
        );
    }
    assert_eq!(
        found(TUNNELLED, 150, flip(14 + 20 + 5)),
        Inspection {
            outer_lengths: 1,
            ..one
        }
    );
    for at in [42, 43, 45, 49] {
        assert_eq!(
            found(TUNNELLED, 150, flip(at)),
            Inspection {
                vxlan_reserved: 1,
                ..one
            },
            "byte {at}"
        );
    }
    assert_eq!(
        found(TUNNELLED, 150, flip(inner + 8)),
        Inspection {
            inner_ipv4_checksum: 1,
            ..one
        }
    );
    assert_eq!(
        found(TUNNELLED, 150, flip(inner + 20 + 6)),
        Inspection {
            inner_transport_checksum: 1,
            ..one
        }
    );
    // The length of UDP, and the length of TCP's header.
    let udp_length = found(TUNNELLED, 150, flip(inner + 20 + 5));
    assert_eq!((udp_length.inner_lengths, udp_length.payload), (1, 0));
    let tcp = usize::from(OVER_IPV6.inner_transport_at());
    let data_offset = found(OVER_IPV6, 250, |frame| frame[tcp + 12] = 0x60);
    assert_eq!((data_offset.inner_lengths, data_offset.payload), (1, 0));
    // A byte of payload is in every checksum around it; a pair that cancels out is in none.
    let payload = usize::from(TUNNELLED.header_len());
    assert_eq!(
        found(TUNNELLED, 150, |frame| {
            frame[payload] = 0xff;
            frame[payload + 1] = 0xff;
        }),
        Inspection { payload: 1, ..one }
    );
    assert_eq!(
        found(TUNNELLED, 150, flip(payload + 20)),
        Inspection {
            payload: 1,
            inner_transport_checksum: 1,
            ..one
        }
    );
}

/// Between virtual devices a frame arrives as its sender left it: with the pseudo-header's sum only.
#[test]
fn a_checksum_that_was_left_to_the_device_is_no_damage() {
    let transport = usize::from(PLAIN.inner_transport_at());
    let unfinished = found(PLAIN, 150, |frame| {
        let length = (frame.len() - transport) as u16;
        let pseudo = [&frame[26..34], &[0, 17], &length.to_be_bytes()[..]];
        let sum = crate::support::frames::sum(&pseudo);
        frame[transport + 6..transport + 8].copy_from_slice(&sum.to_be_bytes());
    });
    let expected = Inspection {
        inspected: 1,
        checksum_unfinished: 1,
        ..Inspection::default()
    };
    assert_eq!(unfinished, expected);
    let without = found(PLAIN, 150, |frame| {
        frame[transport + 6..transport + 8].fill(0);
    });
    assert_eq!(
        without,
        Inspection {
            inspected: 1,
            ..Inspection::default()
        }
    );
}
