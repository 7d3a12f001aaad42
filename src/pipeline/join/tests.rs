//! What becomes of segments and datagrams that follow each other.

use super::*;
use crate::port::{ChunkSize, UmemConfig};
use crate::wire::checksum;
use crate::wire::vnet::{self, VnetHeader};

/// 10.0.0.1:1 to 10.0.0.2:2, id 5, DF, sequence 0x100, ACK 7, window 9, and "abcd".
const SEGMENT: [u8; 58] = [
    2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, // Ethernet
    0x45, 0, 0, 44, 0, 5, 0x40, 0, 64, 6, 0x26, 0xc5, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
    0, 1, 0, 2, 0, 0, 1, 0, 0, 0, 0, 7, 0x50, 0x10, 0, 9, 0, 0, 0, 0, // TCP
    b'a', b'b', b'c', b'd',
];
const ID: usize = 19;
const PORT: usize = 35;
const FLAGS: usize = 47;

/// The segment after `n` others, changed, with right checksums.
fn segment(n: u8, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = SEGMENT.to_vec();
    frame[ID] += n;
    let sequence = 0x100 + 4 * u16::from(n);
    frame[40..42].copy_from_slice(&sequence.to_be_bytes());
    change(&mut frame);
    let len = frame.len() as u16;
    frame[16..18].copy_from_slice(&(len - 14).to_be_bytes());
    frame[24..26].fill(0);
    let sum = checksum::finish(checksum::sum(&frame[14..34]));
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame[50..52].fill(0);
    let pseudo = checksum::sum(&frame[26..34]) + 6 + u32::from(len - 34);
    let sum = checksum::finish(pseudo + checksum::sum(&frame[34..]));
    frame[50..52].copy_from_slice(&sum.to_be_bytes());
    frame
}

fn plain(n: u8) -> Vec<u8> {
    segment(n, |_| ())
}

fn joined(frames: &[Vec<u8>]) -> Vec<(Train, usize, Vec<u8>)> {
    let mut umem = Umem::new(UmemConfig {
        chunk: ChunkSize::K2,
        frames: BATCH as u32,
        lock: false,
    })
    .unwrap();
    let mut batch = Batch::new();
    for bytes in frames {
        let mut frame = umem.allocate().unwrap();
        assert!(umem.fill(&mut frame, bytes));
        batch.push(frame).unwrap();
    }
    let mut trains = Trains::new();
    trains.join(&mut umem, &mut batch);
    let mut out = Vec::new();
    while let Some(train) = trains.take(&mut batch) {
        let bytes = batch.iter().flat_map(|frame| umem.bytes(frame));
        let bytes = bytes.copied().collect();
        out.push((train, umem.release_all(&mut batch), bytes));
    }
    assert_eq!(umem.free(), BATCH);
    out
}

fn lengths(frames: &[Vec<u8>]) -> Vec<usize> {
    joined(frames)
        .iter()
        .map(|(_, frames, _)| *frames)
        .collect()
}

#[test]
fn three_segments_become_one_superframe() {
    let last = segment(2, |frame| frame[FLAGS] |= tcp::PSH);
    let out = joined(&[plain(0), plain(1), last]);
    let mut expected = SEGMENT.to_vec();
    expected.extend(b"abcdabcd");
    expected[17] = 52;
    expected[25] -= 8;
    expected[FLAGS] = 0x18;
    // 10.0.0.1 + 10.0.0.2 + 6 + 32
    expected[50..52].copy_from_slice(&[0x14, 0x29]);
    let header = VnetHeader {
        flags: vnet::NEEDS_CSUM,
        gso_type: vnet::GSO_TCPV4,
        hdr_len: 54,
        gso_size: 4,
        csum_start: 34,
        csum_offset: 16,
        ..VnetHeader::default()
    };
    let train = Train {
        header,
        bytes: 3 * 58,
        fixed_ids: false,
    };
    assert_eq!(out, [(train, 3, expected)]);
}

#[test]
fn one_segment_stays_as_it_is_and_is_said_to_be_right() {
    let frame = plain(0);
    let out = joined(std::slice::from_ref(&frame));
    assert_eq!(out[0].0.header.flags, vnet::DATA_VALID);
    assert_eq!((out[0].0.header.gso_type, &out[0].2), (0, &frame));
}

#[test]
fn a_corrupt_segment_goes_alone_and_nothing_is_said_of_it() {
    let mut corrupt = plain(1);
    corrupt[57] ^= 1;
    let out = joined(&[plain(0), corrupt.clone(), plain(2), plain(3)]);
    let frames: Vec<_> = out.iter().map(|(_, frames, _)| *frames).collect();
    assert_eq!(frames, [1, 1, 2]);
    assert_eq!(
        (out[1].0.header, &out[1].2),
        (VnetHeader::default(), &corrupt)
    );
}

#[test]
fn what_ends_a_train_is_its_last_frame() {
    let short = |n| segment(n, |frame| frame.truncate(57));
    let flagged = |n, flag| segment(n, |frame: &mut Vec<u8>| frame[FLAGS] |= flag);
    for end in [short(1), flagged(1, tcp::PSH), flagged(1, tcp::FIN)] {
        // The one behind it would continue a train of full segments.
        assert_eq!(lengths(&[plain(0), end, plain(2), plain(3)]), [2, 2]);
    }
    assert_eq!(lengths(&[flagged(0, tcp::PSH), plain(1), plain(2)]), [1, 2]);
}

#[test]
fn what_does_not_continue_a_train_closes_it_and_may_begin_another() {
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change); 13] = [
        ("longer", |frame| frame.push(0)),
        ("gap", |frame| frame[40] += 1),
        ("identification", |frame| frame[ID] += 7),
        ("DF", |frame| frame[20] = 0),
        ("TTL", |frame| frame[22] -= 1),
        ("DSCP", |frame| frame[15] = 0xb8),
        ("ECN", |frame| frame[15] = 3),
        ("acknowledgement", |frame| frame[45] += 1),
        ("window", |frame| frame[49] += 1),
        ("ECE", |frame| frame[FLAGS] |= tcp::ECE),
        ("urgent pointer", |frame| frame[53] = 1),
        ("MAC", |frame| frame[11] = 7),
        ("AE", |frame| frame[46] |= 1),
    ];
    for (what, change) in changes {
        let frames = [plain(0), plain(1), segment(2, change), plain(3)];
        assert_eq!(lengths(&frames), [2, 1, 1], "{what}");
    }
    for flag in [tcp::SYN, tcp::RST, tcp::URG, tcp::CWR] {
        let odd = |n| segment(n, |frame: &mut Vec<u8>| frame[FLAGS] |= flag);
        assert_eq!(lengths(&[plain(0), odd(1), odd(2)]), [1, 1, 1]);
    }
    let bare = segment(1, |frame| frame.truncate(54));
    assert_eq!(lengths(&[plain(0), bare, plain(1)]), [1, 1, 1]);
}

#[test]
fn identifications_that_stand_still_need_df() {
    let still = |n, df: u8| {
        segment(n, |frame| {
            frame[ID] = 5;
            frame[20] = df;
        })
    };
    let out = joined(&[still(0, 0x40), still(1, 0x40), still(2, 0x40)]);
    assert_eq!((out.len(), out[0].0.fixed_ids), (1, true));
    assert_eq!(lengths(&[still(0, 0), still(1, 0)]), [1, 1]);
    // The second frame decides.
    assert_eq!(lengths(&[plain(0), plain(1), still(2, 0x40)]), [2, 1]);
    assert_eq!(lengths(&[still(0, 0x40), still(1, 0x40), plain(2)]), [2, 1]);
}

/// 10.0.0.1:1 to 10.0.0.2:2, id 5, DF, and "abcd".
const DATAGRAM: [u8; 46] = [
    2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, // Ethernet
    0x45, 0, 0, 32, 0, 5, 0x40, 0, 64, 17, 0x26, 0xc6, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
    0, 1, 0, 2, 0, 12, 0x27, 0x0a, // UDP
    b'a', b'b', b'c', b'd',
];

/// The datagram after `n` others, changed, with right lengths and checksums.
fn datagram(n: u8, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = DATAGRAM.to_vec();
    frame[ID] += n;
    change(&mut frame);
    let len = frame.len() as u16;
    frame[16..18].copy_from_slice(&(len - 14).to_be_bytes());
    frame[38..40].copy_from_slice(&(len - 34).to_be_bytes());
    frame[24..26].fill(0);
    let sum = checksum::finish(checksum::sum(&frame[14..34]));
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame[40..42].fill(0);
    let pseudo = checksum::sum(&frame[26..34]) + 17 + u32::from(len - 34);
    let sum = checksum::finish(pseudo + checksum::sum(&frame[34..]));
    frame[40..42].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[test]
fn datagrams_of_one_length_become_one_superframe_and_a_shorter_one_ends_it() {
    assert_eq!(datagram(0, |_| ()), DATAGRAM);
    let frames = [
        datagram(0, |_| ()),
        datagram(1, |_| ()),
        datagram(2, |frame| frame.truncate(45)),
        datagram(3, |_| ()),
    ];
    let out = joined(&frames);
    let mut expected = DATAGRAM.to_vec();
    expected.extend(b"abcdabc");
    expected[17] = 39;
    expected[25] -= 7;
    expected[39] = 19;
    // 10.0.0.1 + 10.0.0.2 + 17 + 19
    expected[40..42].copy_from_slice(&[0x14, 0x27]);
    let header = VnetHeader {
        flags: vnet::NEEDS_CSUM,
        gso_type: vnet::GSO_UDP_L4,
        hdr_len: 42,
        gso_size: 4,
        csum_start: 34,
        csum_offset: 6,
        ..VnetHeader::default()
    };
    let train = Train {
        header,
        bytes: 46 + 46 + 45,
        fixed_ids: false,
    };
    assert_eq!(out[0], (train, 3, expected));
    let alone = &out[1];
    assert_eq!(alone.0.header.flags, vnet::DATA_VALID);
    assert_eq!((alone.1, &alone.2), (1, &frames[3]));
    assert_eq!(out.len(), 2);
}

#[test]
fn datagrams_that_do_not_continue_a_train_close_it() {
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change); 5] = [
        ("identification", |frame| frame[ID] += 7),
        ("DF", |frame| frame[20] = 0),
        ("TTL", |frame| frame[22] -= 1),
        ("ECN", |frame| frame[15] = 3),
        ("MAC", |frame| frame[11] = 7),
    ];
    let plain = |n| datagram(n, |_| ());
    for (what, change) in changes {
        let frames = [plain(0), plain(1), datagram(2, change), plain(3)];
        assert_eq!(lengths(&frames), [2, 1, 1], "{what}");
    }
    // Of a longer one, what comes behind it is a shorter last one.
    let longer = datagram(2, |frame| frame.push(0));
    assert_eq!(lengths(&[plain(0), plain(1), longer, plain(3)]), [2, 2]);
    let empty = datagram(1, |frame| frame.truncate(42));
    assert_eq!(lengths(&[plain(0), empty, plain(1)]), [1, 1, 1]);
    let still = |n| datagram(n, |frame| frame[ID] = 0);
    assert_eq!(lengths(&[still(0), still(1), still(2), plain(3)]), [3, 1]);
    for (at, flip, what) in [(41, 1, "checksum"), (39, 1, "length"), (45, 1, "payload")] {
        let mut wrong = plain(2);
        wrong[at] ^= flip;
        let frames = [plain(0), plain(1), wrong.clone(), plain(3)];
        let out = joined(&frames);
        assert_eq!(out.len(), 3, "{what}");
        assert_eq!(
            (out[1].0.header, &out[1].2),
            (VnetHeader::default(), &wrong)
        );
    }
    let mut without = plain(1);
    without[40..42].fill(0);
    assert_eq!(lengths(&[plain(0), without, plain(1)]), [1, 1, 1]);
}

#[test]
fn datagrams_and_segments_between_the_same_ends_are_apart() {
    let frames = [plain(0), datagram(0, |_| ()), plain(1), datagram(1, |_| ())];
    assert_eq!(lengths(&frames), [2, 2]);
    // What is too short for ports belongs to nobody.
    let mut short = DATAGRAM[..38].to_vec();
    short[17] = 24;
    short[24..26].fill(0);
    let sum = checksum::finish(checksum::sum(&short[14..34]));
    short[24..26].copy_from_slice(&sum.to_be_bytes());
    let frames = [datagram(0, |_| ()), short, datagram(1, |_| ())];
    assert_eq!(lengths(&frames), [2, 1]);
}

#[test]
fn interleaved_flows_are_joined_each_by_itself() {
    let flow = |port, n| segment(n, |frame: &mut Vec<u8>| frame[PORT] = port);
    let frames: Vec<_> = (0..4)
        .flat_map(|n| (0..8).map(move |port| flow(port, n)))
        .collect();
    assert_eq!(lengths(&frames), [4; 8]);
}

#[test]
fn one_flow_too_many_closes_the_train_of_another() {
    let flow = |port, n| segment(n, |frame: &mut Vec<u8>| frame[PORT] = port);
    let frames: Vec<_> = (0..2)
        .flat_map(|n| (0..=OPEN_MAX as u8).map(move |port| flow(port, n)))
        .collect();
    let frames = joined(&frames);
    let count: usize = frames.iter().map(|(_, frames, _)| frames).sum();
    assert_eq!(count, 2 * (OPEN_MAX + 1));
    assert!(frames.len() > OPEN_MAX + 1);
}

#[test]
fn what_may_belong_to_any_flow_closes_all_and_what_belongs_to_none_none() {
    let fragment = segment(9, |frame| frame[20] = 0x20);
    let tagged = segment(9, |frame| drop(frame.splice(12..12, [0x81, 0, 0, 1])));
    for frame in [fragment, tagged] {
        assert_eq!(lengths(&[plain(0), frame, plain(1)]), [1, 1, 1]);
    }
    let udp = segment(9, |frame| frame[23] = 17);
    let arp = segment(9, |frame| frame[13] = 6);
    for frame in [udp, arp, vec![1; 5]] {
        assert_eq!(lengths(&[plain(0), frame, plain(1)]), [2, 1]);
    }
}

#[test]
fn a_train_stays_within_the_length_field() {
    let long = |n: u8| {
        segment(0, |frame| {
            frame.resize(54 + 1700, 7);
            frame[ID] = n;
            let sequence = 1700 * u32::from(n);
            frame[38..42].copy_from_slice(&sequence.to_be_bytes());
        })
    };
    let frames: Vec<_> = (0..BATCH as u8).map(long).collect();
    // 40 + 38 * 1700 = 64,640
    assert_eq!(lengths(&frames), [38, 26]);
}

#[test]
fn a_train_waits_for_the_next_batch_and_the_others_do_not() {
    let mut umem = Umem::new(UmemConfig {
        chunk: ChunkSize::K2,
        frames: 8 * BATCH as u32,
        lock: false,
    })
    .unwrap();
    let (mut batch, mut trains, mut train) = (Batch::new(), Trains::new(), Batch::new());
    let flow = |port, n| segment(n, |frame: &mut Vec<u8>| frame[PORT] = port);
    let mut join_on = |frames: &[Vec<u8>], last: bool| {
        for bytes in frames {
            let mut frame = umem.allocate().unwrap();
            assert!(umem.fill(&mut frame, bytes));
            batch.push(frame).unwrap();
        }
        if last {
            trains.join(&mut umem, &mut batch);
        } else {
            trains.join_on(&mut umem, &mut batch);
        }
        let mut lengths = Vec::new();
        while trains.take(&mut train).is_some() {
            lengths.push(umem.release_all(&mut train));
        }
        assert!(!last || trains.is_empty());
        lengths
    };
    const NONE: [usize; 0] = [];
    let end = segment(2, |frame| {
        frame[PORT] = 1;
        frame[FLAGS] |= tcp::PSH;
    });
    let first = [flow(1, 0), flow(2, 0), flow(1, 1), flow(3, 0), end];
    assert_eq!(join_on(&first, false), [3]);
    // A gap closes the train in front of it, and may begin one.
    assert_eq!(join_on(&[flow(3, 1), flow(2, 2)], false), [1]);
    assert_eq!(join_on(&[flow(2, 3)], false), [2]);
    assert_eq!(join_on(&[flow(2, 4)], true), [3]);
    assert_eq!(join_on(&first[..2], false), NONE);
    assert_eq!(join_on(&[], false), [1, 1]);

    // None is longer than a batch, and what waits leaves room for one.
    let run = |port, from: u8| (0..BATCH as u8).map(move |n| flow(port, from + n));
    let long = |from| run(1, from).collect::<Vec<_>>();
    assert_eq!(join_on(&long(0), false), NONE);
    assert_eq!(join_on(&long(BATCH as u8), false), [BATCH]);
    let two: Vec<_> = (0..4)
        .map(|n| flow(2, n))
        .chain(run(1, 128).take(60))
        .collect();
    assert_eq!(join_on(&two, true), [BATCH, 4, 60]);
    let shares = |from: u8| {
        let flows = (1..=8).flat_map(|port| (0..8).map(move |n| (port, from + n)));
        flows.map(|(port, n)| flow(port, n)).collect::<Vec<_>>()
    };
    for batch in 0..3 {
        assert_eq!(join_on(&shares(8 * batch), false), NONE);
    }
    assert_eq!(join_on(&shares(24), false), [32; 8]);
}

#[test]
fn a_batch_waits_until_the_last_is_taken() {
    let mut umem = Umem::new(UmemConfig {
        chunk: ChunkSize::K2,
        frames: 4,
        lock: false,
    })
    .unwrap();
    let (mut batch, mut trains, mut train) = (Batch::new(), Trains::new(), Batch::new());
    for _ in 0..2 {
        batch.push(umem.allocate().unwrap()).unwrap();
        trains.join(&mut umem, &mut batch);
    }
    assert_eq!((batch.len(), trains.is_empty()), (1, false));
    assert!(trains.take(&mut train).is_some());
    assert!(trains.take(&mut train).is_none());
    trains.join(&mut umem, &mut batch);
    while train.room() > 0 {
        let Some(frame) = umem.allocate() else { break };
        train.push(frame).unwrap();
    }
    assert!(trains.take(&mut train).is_some());
    assert_eq!(train.len(), 4);
}
