//! What comes out of the rings, and what is refused.

use super::super::{ChunkSize, Frame, UmemConfig, request};
use super::*;

/// Our ends, and the kernel's ends of the receive and completion rings.
fn rings(umem: &Umem) -> (Rings, Producer<Descriptor>, Producer<u64>) {
    let memory = RingMemory::plain(8).unwrap();
    let (rx, completion) = (
        memory.rx.clone().producer(),
        memory.completion.clone().producer(),
    );
    (
        Rings::new(memory, Some(umem.bounds()), 1518),
        rx,
        completion,
    )
}

fn umem() -> Umem {
    Umem::new(UmemConfig {
        chunk: ChunkSize::K4,
        frames: 4,
        lock: false,
    })
    .unwrap()
}

fn post<T: super::super::ring::Entry>(producer: &mut Producer<T>, entries: &[T]) {
    let mut entries = entries.iter().copied();
    producer.produce(u32::MAX, || entries.next());
}

#[test]
fn requests_go_with_their_frames_and_every_frame_has_a_place_for_one() {
    let mut umem = umem();
    let memory = RingMemory::plain(8).unwrap();
    let mut sent = memory.tx.clone().consumer();
    let mut rings = Rings::new(memory, Some(umem.bounds()), 1518).with_requests();
    let mut batch = Batch::new();
    for (asks, room) in [(true, 24), (false, 24), (false, 23), (true, 256)] {
        let mut frame = umem.allocate().unwrap();
        assert!(umem.fill(&mut frame, &[0; 60]));
        let taken = umem.room_in_front(&frame) - room;
        assert!(umem.push(&mut frame, taken).is_some());
        assert!(!asks || umem.request_checksum(&mut frame, 34, 6));
        assert_eq!(rings.accepts(&frame), room >= request::LEN);
        batch.push(frame).unwrap();
    }
    assert_eq!(rings.transmit(&mut batch), 3);
    assert_eq!(batch.len(), 1);
    let mut options = Vec::new();
    sent.consume(u32::MAX, |descriptor| options.push(descriptor.options));
    assert_eq!(options, [2, 0, 2]);
}

#[test]
fn completions_of_what_is_no_chunk_are_refused() {
    let mut umem = umem();
    let (mut rings, _rx, mut completion) = rings(&umem);
    let mut batch = Batch::new();
    let mut frame = umem.allocate().unwrap();
    assert!(umem.fill(&mut frame, &[0; 60]));
    let addr = u64::from(frame.addr);
    batch.push(frame).unwrap();
    assert_eq!(rings.transmit(&mut batch), 1);
    post(&mut completion, &[u64::MAX, 4 * 4096, addr, 1 << 40]);
    assert_eq!(rings.reclaim(&mut umem), 1);
    assert_eq!((rings.foreign, umem.free()), (3, 4));
}

#[test]
#[cfg(debug_assertions)]
fn completions_of_what_was_never_sent_are_refused() {
    let mut umem = umem();
    let (mut rings, _rx, mut completion) = rings(&umem);
    let held = umem.allocate().unwrap();
    post(&mut completion, &[u64::from(held.addr), 0]);
    assert_eq!(rings.reclaim(&mut umem), 0);
    assert_eq!((rings.foreign, umem.free()), (2, 3));
    umem.release(held);
}

#[test]
fn received_descriptors_outside_of_a_chunk_are_refused() {
    let mut umem = umem();
    let (mut rings, mut rx, _completion) = rings(&umem);
    assert_eq!(rings.refill(&mut umem), 4);
    let descriptor = |addr, len| Descriptor {
        addr,
        len,
        options: 0,
    };
    post(
        &mut rx,
        &[
            descriptor(256, 3841),
            descriptor(4 * 4096, 60),
            descriptor(u64::MAX, 1),
            descriptor(4352, 60),
        ],
    );
    let mut batch = Batch::new();
    assert_eq!(rings.receive(&mut umem, &mut batch), 1);
    assert_eq!(batch.pop(), Some(Frame::at(4352, 60)));
    assert_eq!(rings.foreign, 3);
}

#[test]
#[cfg(debug_assertions)]
fn a_chunk_that_was_not_in_the_fill_ring_is_not_received() {
    let mut umem = umem();
    let (mut rings, mut rx, _completion) = rings(&umem);
    post(
        &mut rx,
        &[Descriptor {
            addr: 256,
            len: 60,
            options: 0,
        }],
    );
    assert_eq!(
        (rings.receive(&mut umem, &mut Batch::new()), rings.foreign),
        (0, 1)
    );
}

#[test]
fn receiving_stops_where_the_batch_is_full() {
    let mut umem = Umem::new(UmemConfig {
        chunk: ChunkSize::K2,
        frames: 8,
        lock: false,
    })
    .unwrap();
    let (mut rings, mut rx, _completion) = rings(&umem);
    assert_eq!(rings.refill(&mut umem), 8);
    let all: Vec<_> = (0..8)
        .map(|n| Descriptor {
            addr: n * 2048 + 256,
            len: 60,
            options: 0,
        })
        .collect();
    post(&mut rx, &all);
    let mut batch = Batch::new();
    for n in 0..super::super::BATCH as u32 - 3 {
        batch.push(Frame::at(n, 0)).unwrap();
    }
    assert_eq!(
        (
            rings.receive(&mut umem, &mut batch),
            batch.room(),
            rings.rx.pending()
        ),
        (3, 0, 5)
    );
}

/// A UMEM whose chunks have four buffers.
fn long(frames: u32) -> Umem {
    Umem::new(UmemConfig {
        chunk: ChunkSize::K16,
        frames,
        lock: false,
    })
    .unwrap()
}

/// As the kernel tells of what it wrote into the first buffer of a chunk.
fn part(chunk: u64, len: u32, more: bool) -> Descriptor {
    Descriptor {
        addr: chunk * 16_384 + 256,
        len,
        options: u32::from(more),
    }
}

#[test]
fn buffers_of_one_frame_are_joined_whenever_they_come_and_their_chunks_are_free_again() {
    let mut umem = long(8);
    let (mut rings, mut rx, _completion) = rings(&umem);
    // What the kernel will have written.
    let written: Vec<_> = (1..=4)
        .map(|byte| {
            let mut frame = umem.allocate().unwrap();
            assert!(umem.fill(&mut frame, &[byte; 3840]));
            frame
        })
        .collect();
    written
        .into_iter()
        .rev()
        .for_each(|frame| umem.release(frame));
    assert_eq!(rings.refill(&mut umem), 8);
    post(&mut rx, &[part(0, 3840, true), part(1, 3840, true)]);
    let mut batch = Batch::new();
    assert_eq!(rings.receive(&mut umem, &mut batch), 0);
    assert_eq!((umem.free(), rings.chains.held()), (1, 1));
    post(&mut rx, &[part(2, 100, false), part(3, 60, false)]);
    assert_eq!(rings.receive(&mut umem, &mut batch), 2);
    assert_eq!((umem.free(), rings.chains.held()), (2, 0));
    let frame = batch.pop().unwrap();
    assert_eq!((frame.addr, frame.len()), (256, 2 * 3840 + 100));
    let bytes = umem.bytes(&frame);
    assert_eq!((bytes[0], bytes[3839], bytes[3840]), (1, 1, 2));
    assert_eq!((bytes[7679], bytes[7680], bytes[7779]), (2, 3, 3));
    let next = batch.pop().unwrap();
    assert_eq!(umem.bytes(&next), [4; 60]);
}

#[test]
fn a_frame_with_a_hole_and_one_that_no_chunk_holds_come_out_empty() {
    let mut umem = long(8);
    let (mut rings, mut rx, _completion) = rings(&umem);
    assert_eq!(rings.refill(&mut umem), 8);
    let nowhere = Descriptor {
        addr: u64::MAX,
        ..part(0, 3840, true)
    };
    let mut batch = Batch::new();
    // The second frame begins with what is no buffer: nothing is known of it.
    let with_holes = [
        part(0, 3840, true),
        nowhere,
        part(1, 10, false),
        part(2, 3841, true),
        part(3, 10, false),
    ];
    post(&mut rx, &with_holes);
    assert_eq!(rings.receive(&mut umem, &mut batch), 1);
    assert_eq!((batch.pop().map(|f| f.len()), rings.foreign), (Some(0), 2));
    let mut too_long: Vec<_> = (4..8).map(|chunk| part(chunk, 3840, true)).collect();
    too_long.push(part(2, 3000, false));
    post(&mut rx, &too_long);
    assert_eq!(rings.receive(&mut umem, &mut batch), 1);
    assert_eq!((batch.pop().map(|f| f.len()), umem.free()), (Some(0), 6));
}

#[test]
fn a_frame_of_several_buffers_goes_whole_or_not_at_all_and_comes_back_with_its_last() {
    let mut umem = long(4);
    let (mut rings, _rx, mut completion) = rings(&umem);
    rings.frame_len_max = 9018;
    let mut batch = Batch::new();
    // 3 + 1 + 3 buffers of a ring of 8, then 3 that do not fit, and one behind it that must not overtake.
    let mut addrs = Vec::new();
    for len in [9018, 100, 9000] {
        let mut frame = umem.allocate().unwrap();
        assert!(umem.fill(&mut frame, &vec![7; len]));
        addrs.push(u64::from(frame.addr));
        batch.push(frame).unwrap();
    }
    assert_eq!(rings.transmit(&mut batch), 3);
    assert_eq!((rings.tx.pending(), rings.frames_held()), (7, 3));
    let mut late = umem.allocate().unwrap();
    assert!(umem.fill(&mut late, &[8; 4000]));
    batch.push(late).unwrap();
    assert_eq!((rings.transmit(&mut batch), batch.len()), (0, 1));
    assert_eq!(rings.tx.pending(), 7, "not a part of it");

    let buffer = |frame: usize, n: u64| (addrs[frame] & !4095) + n * 4096;
    post(&mut completion, &[addrs[0], buffer(0, 1)]);
    assert_eq!((rings.reclaim(&mut umem), umem.free()), (0, 0));
    post(&mut completion, &[buffer(0, 2), addrs[1], addrs[2]]);
    assert_eq!((rings.reclaim(&mut umem), umem.free()), (2, 2));
    post(&mut completion, &[buffer(2, 1), buffer(2, 2)]);
    assert_eq!((rings.reclaim(&mut umem), umem.free()), (1, 3));
    assert_eq!((rings.foreign, rings.chains.surplus()), (0, 0));
}

#[test]
fn the_buffers_of_a_frame_follow_each_other_without_a_gap() {
    let umem = long(2);
    let bounds = umem.bounds();
    let frame = Frame::at(16_384 + 206, 9068);
    let mut parts = Parts::of(&frame);
    let all: Vec<_> = std::iter::from_fn(|| parts.next(bounds)).collect();
    let expected = [
        (16_384 + 206, 3890, true),
        (16_384 + 4096, 4096, true),
        (16_384 + 8192, 1082, false),
    ];
    assert_eq!(all, expected);
    assert_eq!(bounds.buffers(&frame), 3);
}
