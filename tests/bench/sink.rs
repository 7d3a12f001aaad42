//! The receiver's judgement, frame by frame, through the kernel's test run of the program.

use vxgate::loadgen::engine::{Expectations, Received, Sink, StreamReceived};
use vxgate::loadgen::headers::Shape;

use crate::frames::{PLAIN, TUNNELLED, VXLAN_PORT, frame, len_min, now_ns, shapes};

fn expectations(streams: u16, here: &[u16]) -> Expectations {
    Expectations {
        streams,
        here: here.to_vec(),
        vxlan_ports: vec![4789, VXLAN_PORT],
        zeros: true,
    }
}

fn sink() -> Sink {
    Sink::load(&expectations(4, &[0, 1, 2])).unwrap()
}

fn numbered(shape: Shape, sequence: u32) -> Vec<u8> {
    frame(shape, 0, sequence, now_ns(), len_min(shape) + 20)
}

/// Without what is no count of frames.
fn counts(received: &Received, stream: usize) -> StreamReceived {
    StreamReceived {
        gap_max_ns: 0,
        bytes: 0,
        ..received.per_stream[stream]
    }
}

#[test]
fn every_shape_and_length_is_recognised() {
    let mut sink = sink();
    let mut expected = (0, 0);
    for shape in shapes() {
        for more in [0, 1, 2, 3, 4, 495, 496, 497, 511, 512, 513, 1024, 1400] {
            let frame = frame(shape, 1, expected.0 as u32, now_ns(), len_min(shape) + more);
            assert!(sink.inspect(&frame).unwrap(), "{shape:?} with {more} bytes");
            expected = (expected.0 + 1, expected.1 + frame.len() as u64);
        }
    }
    let received = sink.read().unwrap();
    let of_stream = StreamReceived {
        frames: expected.0,
        ..StreamReceived::default()
    };
    assert_eq!(counts(&received, 1), of_stream);
    assert_eq!(received.per_stream[1].bytes, expected.1);
    assert_eq!(counts(&received, 0), StreamReceived::default());
    assert_eq!((received.foreign, received.latency.len()), (0, expected.0));
}

#[test]
fn padding_behind_the_packet_is_not_part_of_it() {
    let mut sink = sink();
    let mut sequence = 0;
    for shape in [PLAIN, TUNNELLED] {
        for (more, padding) in (0..8).flat_map(|more| (0..5).map(move |padding| (more, padding))) {
            let mut frame = frame(shape, 0, sequence, now_ns(), len_min(shape) + more);
            frame.extend(vec![0xa5; padding]);
            assert!(sink.inspect(&frame).unwrap());
            sequence += 1;
        }
    }
    let expected = StreamReceived {
        frames: u64::from(sequence),
        ..StreamReceived::default()
    };
    assert_eq!(counts(&sink.read().unwrap(), 0), expected);
}

#[test]
fn a_second_copy_is_a_duplicate_and_no_frame() {
    let mut sink = sink();
    for sequence in [0, 1, 1, 2, 0, 1, 3] {
        sink.inspect(&numbered(TUNNELLED, sequence)).unwrap();
    }
    let received = sink.read().unwrap();
    let expected = StreamReceived {
        frames: 4,
        duplicated: 3,
        ..StreamReceived::default()
    };
    assert_eq!(counts(&received, 0), expected);
    assert_eq!(received.latency.len(), 4, "of frames only");
}

#[test]
fn the_same_slot_a_lap_later_is_no_duplicate() {
    let mut sink = sink();
    for lap in 0..5 {
        sink.inspect(&numbered(PLAIN, lap << 20)).unwrap();
    }
    assert_eq!(
        counts(&sink.read().unwrap(), 0),
        StreamReceived {
            frames: 5,
            ..StreamReceived::default()
        }
    );
}

#[test]
fn a_frame_behind_a_later_one_is_reordered() {
    let mut sink = sink();
    for sequence in [0, 2, 1, 4, 3, 9, 6, 5, 10] {
        sink.inspect(&numbered(PLAIN, sequence)).unwrap();
    }
    let expected = StreamReceived {
        frames: 9,
        reordered: 4,
        ..StreamReceived::default()
    };
    assert_eq!(counts(&sink.read().unwrap(), 0), expected);
}

#[test]
fn sequence_numbers_go_on_beyond_32_bits() {
    let mut sink = sink();
    // Steps below 2^31, as a stream takes them; the last ones beyond the wrap, the very last late.
    for sequence in [
        0,
        0x7fff_fff0,
        0xffff_ffe0,
        0xffff_ffff,
        1,
        2,
        0,
        0xffff_fffe,
    ] {
        sink.inspect(&numbered(PLAIN, sequence)).unwrap();
    }
    let expected = StreamReceived {
        frames: 8,
        reordered: 2,
        ..StreamReceived::default()
    };
    assert_eq!(counts(&sink.read().unwrap(), 0), expected);
}

/// Copies are told on both sides of the wrap, and across it, in several rounds of it.
#[test]
fn a_copy_is_a_copy_where_sequence_numbers_wrap() {
    const ROUND: u64 = 1 << 32;
    let mut sink = sink();
    let mut see = |full: u64| sink.inspect(&numbered(PLAIN, full as u32)).unwrap();
    let mut frames = 0;
    for round in 0..3 {
        // Steps below 2^31, as a stream takes them.
        for step in 0..4 {
            see(round * ROUND + step * (ROUND / 4));
            frames += 1;
        }
        for before in 1..4 {
            see((round + 1) * ROUND - 4 + before);
            frames += 1;
        }
        // Copies of the last ones, and one that only just comes after them.
        see((round + 1) * ROUND - 1);
        see((round + 1) * ROUND - 2);
        see((round + 1) * ROUND - 4);
        frames += 1;
    }
    see(3 * ROUND);
    see(3 * ROUND - 1);
    let expected = StreamReceived {
        frames: frames + 1,
        duplicated: 3 * 2 + 1,
        reordered: 3,
        ..StreamReceived::default()
    };
    assert_eq!(counts(&sink.read().unwrap(), 0), expected);
    assert_eq!(sink.reached().unwrap(), [3 * ROUND + 1, 0, 0, 0]);
}

/// What nobody on the way may change: every bit of it. What may change: everything else.
#[test]
fn a_flipped_bit_is_corruption_wherever_it_must_not_change() {
    for shape in [PLAIN, TUNNELLED].into_iter().chain(shapes()) {
        let mut sink = sink();
        let whole = frame(shape, 0, 5, now_ns(), len_min(shape) + 5);
        let inner = usize::from(shape.inner_at());
        let ip = usize::from(shape.inner_ip_at());
        let transport = usize::from(shape.inner_transport_at());
        let payload = usize::from(shape.header_len());
        let addresses = if transport - ip == 20 {
            ip + 12..ip + 20
        } else {
            ip + 8..ip + 40
        };
        let ports = transport + usize::from(shape.transport.ports_at());
        // Not the magic and the stream: without them it is another's.
        let protected = (inner..inner + 6)
            .chain(addresses)
            .chain(ports..ports + 4)
            .chain(payload..whole.len() - 16)
            .chain(whole.len() - 12..whole.len());
        assert!(sink.inspect(&whole).unwrap());
        let mut flipped = 0;
        for at in protected {
            let mut frame = whole.clone();
            frame[at] ^= 1 << (at % 8);
            assert!(sink.inspect(&frame).unwrap(), "{shape:?}, byte {at}");
            flipped += 1;
        }
        let received = sink.read().unwrap();
        let expected = StreamReceived {
            frames: 1,
            corrupted: flipped,
            ..StreamReceived::default()
        };
        assert_eq!(counts(&received, 0), expected, "{shape:?}");
        assert_eq!(received.latency.len(), 1);
    }
}

#[test]
fn what_a_router_changes_is_no_corruption() {
    let mut sink = sink();
    let ip = usize::from(TUNNELLED.inner_ip_at());
    // Outer addresses, IP identification, TTL and UDP source port; inner source MAC, ECN, TTL and IP checksum.
    let changed = [
        (0, 0xff),
        (18, 0xff),
        (22, 0x01),
        (34, 0x10),
        (56, 0xff),
        (ip + 1, 3),
        (ip + 8, 1),
        (ip + 10, 1),
    ];
    for (sequence, (at, bits)) in changed.into_iter().enumerate() {
        let mut frame = frame(TUNNELLED, 0, sequence as u32, now_ns(), 150);
        frame[at] ^= bits;
        assert!(sink.inspect(&frame).unwrap(), "byte {at}");
    }
    let expected = StreamReceived {
        frames: 8,
        ..StreamReceived::default()
    };
    assert_eq!(counts(&sink.read().unwrap(), 0), expected);
}

#[test]
fn another_sinks_stream_is_misdelivered() {
    let mut sink = sink();
    assert!(sink.inspect(&frame(PLAIN, 3, 0, now_ns(), 100)).unwrap());
    let received = sink.read().unwrap();
    assert_eq!(
        counts(&received, 3),
        StreamReceived {
            misdelivered: 1,
            ..StreamReceived::default()
        }
    );
}

#[test]
fn what_is_no_generators_is_left_to_the_kernel() {
    let mut sink = sink();
    let whole = frame(TUNNELLED, 0, 0, now_ns(), 150);
    let unknown_stream = frame(PLAIN, 4, 0, now_ns(), 100);
    let mut fragment = frame(PLAIN, 0, 0, now_ns(), 100);
    fragment[20] |= 0x20;
    let mut no_magic = whole.clone();
    no_magic[150 - 16] ^= 1;
    let mut longer_than_it_is = frame(PLAIN, 0, 0, now_ns(), 100);
    longer_than_it_is[17] += 1;
    let mut shorter_than_it_may_be = frame(PLAIN, 0, 0, now_ns(), 100);
    shorter_than_it_may_be[16..18].fill(0);
    let mut options = frame(PLAIN, 0, 0, now_ns(), 100);
    options[14] = 0x46;
    let mut arp = vec![0; 60];
    arp[12..14].copy_from_slice(&[8, 6]);
    let foreign = [
        fragment,
        no_magic,
        longer_than_it_is,
        shorter_than_it_may_be,
        options,
        arp,
        unknown_stream,
        vec![0; 14],
        whole[..149].to_vec(),
        whole[..60].to_vec(),
    ];
    let count = foreign.len() as u64;
    for frame in foreign {
        // A whole frame before each: nothing of it may be taken for a part of the next.
        assert!(sink.inspect(&whole).unwrap());
        assert!(!sink.inspect(&frame).unwrap(), "{frame:x?}");
    }
    let received = sink.read().unwrap();
    assert_eq!(received.foreign, count);
    assert_eq!(
        counts(&received, 0),
        StreamReceived {
            frames: 1,
            duplicated: count - 1,
            ..StreamReceived::default()
        }
    );
}

#[test]
fn what_is_encapsulated_behind_another_port_is_not_what_was_sent() {
    let mut sink = sink();
    let mut frame = frame(TUNNELLED, 0, 0, now_ns(), 150);
    frame[36] ^= 1;
    assert!(sink.inspect(&frame).unwrap());
    let expected = StreamReceived {
        corrupted: 1,
        ..StreamReceived::default()
    };
    assert_eq!(counts(&sink.read().unwrap(), 0), expected);
}

#[test]
fn latency_is_from_the_intended_time() {
    const SECOND: u64 = 1_000_000_000;
    let mut sink = sink();
    let before = now_ns();
    sink.inspect(&frame(PLAIN, 0, 0, before - SECOND, 100))
        .unwrap();
    let spent = now_ns() - before;
    let received = sink.read().unwrap();
    let (low, high) = received.latency_range_ns.unwrap();
    assert_eq!(low, high);
    assert!((SECOND..=SECOND + spent).contains(&low), "{low} ns");
    let median = received.latency.value_at_quantile(0.5);
    assert!(median.abs_diff(low) * 100 < low, "{median} ns for {low} ns");
    // Intended for the future is no latency; beyond half an hour, all is one.
    sink.inspect(&frame(PLAIN, 0, 1, now_ns() + 3600 * SECOND, 100))
        .unwrap();
    assert_eq!(sink.read().unwrap().latency_range_ns.unwrap().0, 0);
    // A machine may be up for less than that; times count modulo 2^48.
    let long_ago = now_ns().wrapping_sub(3600 * SECOND);
    sink.inspect(&frame(PLAIN, 0, 2, long_ago, 100)).unwrap();
    assert!(sink.read().unwrap().latency_range_ns.unwrap().1 >= 3600 * SECOND);
    assert_eq!(sink.read().unwrap().latency.len(), 3);
}

#[test]
fn arrival_times_bound_the_run_and_its_longest_gap() {
    let mut sink = sink();
    assert_eq!(sink.read().unwrap().first_last_ns, None);
    let before = now_ns();
    sink.inspect(&numbered(PLAIN, 0)).unwrap();
    sink.inspect(&numbered(PLAIN, 1)).unwrap();
    let after = now_ns();
    let received = sink.read().unwrap();
    let (first, last) = received.first_last_ns.unwrap();
    assert!(before <= first && first < last && last <= after);
    assert_eq!(received.per_stream[0].gap_max_ns, last - first);
}

#[test]
fn a_reset_forgets_everything() {
    let mut sink = sink();
    let fresh = sink.read().unwrap();
    for sequence in [0, 0, 70_000, 5, u32::MAX] {
        sink.inspect(&numbered(PLAIN, sequence)).unwrap();
    }
    sink.inspect(&[0; 60]).unwrap();
    assert_ne!(sink.read().unwrap(), fresh);
    sink.reset().unwrap();
    assert_eq!(sink.read().unwrap(), fresh);
    for sequence in [0, 5, 70_000] {
        sink.inspect(&numbered(PLAIN, sequence)).unwrap();
    }
    assert_eq!(
        counts(&sink.read().unwrap(), 0),
        StreamReceived {
            frames: 3,
            ..StreamReceived::default()
        }
    );
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let Err(error) = Sink::attach(1_999_999_999, &expectations(1, &[0])) else {
        panic!("attached to nothing")
    };
    let words = error.to_string();
    assert!(
        words.contains("1999999999") && words.contains("no such device"),
        "{words}"
    );
}
