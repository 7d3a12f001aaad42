//! Chunks, frames in them, and what lies in front of these.

use super::*;

fn umem(frames: u32) -> Umem {
    Umem::new(UmemConfig {
        chunk: ChunkSize::K2,
        frames,
        lock: false,
    })
    .unwrap()
}

#[test]
fn every_chunk_is_handed_out_once() {
    let mut umem = umem(16);
    let mut chunks: Vec<u32> = std::iter::from_fn(|| umem.allocate())
        .map(|frame| frame.addr)
        .collect();
    chunks.sort_unstable();
    assert_eq!(chunks, (0..16).map(|n| n * 2048 + 256).collect::<Vec<_>>());
    assert_eq!(umem.free(), 0);
}

#[test]
fn the_frame_released_last_is_allocated_first() {
    let mut umem = umem(4);
    let frame = umem.allocate().unwrap();
    let other = umem.allocate().unwrap();
    let addr = frame.addr;
    umem.release(other);
    umem.release(frame);
    assert_eq!(umem.allocate().unwrap().addr, addr);
}

#[test]
fn push_and_pull_move_the_start_and_leave_the_payload() {
    let mut umem = umem(2);
    let mut frame = umem.allocate().unwrap();
    assert!(frame.is_empty());
    assert!(umem.fill(&mut frame, b"payload"));
    let head = umem.push(&mut frame, 4).unwrap();
    assert_eq!(head.len(), 11);
    head[..4].copy_from_slice(b"head");
    assert_eq!(umem.bytes(&frame), b"headpayload");
    assert!(umem.pull(&mut frame, 4));
    assert_eq!(umem.bytes(&frame), b"payload");
    assert!(!umem.pull(&mut frame, 8));
    assert!(umem.truncate(&mut frame, 3));
    assert!(!umem.truncate(&mut frame, 4));
    assert_eq!(umem.bytes(&frame), b"pay");
}

#[test]
fn push_stops_at_the_start_of_the_chunk() {
    let mut umem = umem(2);
    let _first = umem.allocate().unwrap();
    let mut frame = umem.allocate().unwrap();
    assert_eq!(umem.push(&mut frame, ROOM + 1), None);
    assert_eq!(frame.len(), 0);
    assert_eq!(umem.push(&mut frame, ROOM).unwrap().len(), ROOM);
    assert_eq!(umem.room_in_front(&frame), 0);
    assert_eq!(umem.push(&mut frame, 1), None);
    assert_eq!(umem.push(&mut frame, usize::MAX), None);
}

#[test]
fn pull_never_leaves_the_chunk() {
    let mut umem = umem(2);
    let mut frame = umem.allocate().unwrap();
    assert!(umem.fill(&mut frame, &[7; 2048 - ROOM]));
    assert!(!umem.pull(&mut frame, 2048 - ROOM));
    assert!(umem.pull(&mut frame, 2048 - ROOM - 1));
    assert_eq!(umem.bytes(&frame), [7]);
    assert!(!umem.pull(&mut frame, 1));
    umem.release(frame);
    assert_eq!(umem.allocate().unwrap().addr, ROOM as u32);
}

#[test]
fn fill_stops_at_the_end_of_the_chunk() {
    let mut umem = umem(1);
    let mut frame = umem.allocate().unwrap();
    assert!(!umem.fill(&mut frame, &[0; 2048 - ROOM + 1]));
    assert!(frame.is_empty());
    assert!(umem.fill(&mut frame, &[7; 2048 - ROOM]));
    assert_eq!(umem.bytes(&frame), [7; 2048 - ROOM]);
}

#[test]
fn a_duplicate_is_a_frame_of_its_own_with_the_same_room() {
    let mut umem = umem(2);
    let mut frame = umem.allocate().unwrap();
    assert!(umem.fill(&mut frame, b"abcdef"));
    assert!(umem.pull(&mut frame, 2));
    let mut copy = umem.duplicate(&frame).unwrap();
    assert_eq!(umem.room_in_front(&copy), ROOM + 2);
    umem.bytes_mut(&mut copy)[0] = b'X';
    assert_eq!(umem.bytes(&frame), b"cdef");
    assert_eq!(umem.bytes(&copy), b"Xdef");
    assert_eq!(umem.duplicate(&copy), None);
}

#[test]
fn an_address_that_is_none_is_not_recovered() {
    let mut umem = umem(4);
    let frame = umem.allocate().unwrap();
    assert!(!umem.recover(4 * 2048));
    assert!(!umem.recover(u64::MAX));
    assert!(!umem.recover(u64::from(u32::MAX) + 1));
    assert_eq!(umem.free(), 3);
    assert!(umem.recover(u64::from(frame.addr) + 17));
    assert_eq!(umem.free(), 4);
    // A pool that has everything takes no more, in any build.
    assert!(!umem.recover(0));
    assert_eq!(umem.free(), 4);
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "released twice")]
fn a_frame_released_twice_is_caught() {
    let mut umem = umem(4);
    let frame = umem.allocate().unwrap();
    let _other = umem.allocate().unwrap();
    let twin = Frame::at(frame.addr, 0);
    umem.release(frame);
    umem.release(twin);
}

#[test]
fn a_request_is_of_the_frame_as_it_is_and_of_no_other() {
    let mut umem = umem(2);
    let mut frame = umem.allocate().unwrap();
    assert!(umem.fill(&mut frame, &[0; 60]));
    assert!(
        !umem.request_checksum(&mut frame, 34, 25),
        "beyond its bytes"
    );
    assert!(!frame.has_request());
    assert!(umem.request_checksum(&mut frame, 34, 24));
    assert!(frame.has_request());
    assert_eq!(
        (frame.len(), umem.bytes(&frame), umem.room_in_front(&frame)),
        (60, &[0; 60][..], ROOM)
    );
    assert_eq!(umem.requested_checksum(&frame), Some((34, 24)));
    let copy = umem.duplicate(&frame).unwrap();
    assert!(!copy.has_request());
    umem.release(copy);
    for change in [
        (|umem: &mut Umem, frame: &mut Frame| umem.push(frame, 8).is_some())
            as fn(&mut Umem, &mut Frame) -> bool,
        |umem, frame| umem.pull(frame, 8),
        |umem, frame| umem.truncate(frame, 59),
        |umem, frame| umem.fill(frame, &[1; 60]),
    ] {
        assert!(umem.request_checksum(&mut frame, 34, 6));
        assert!(change(&mut umem, &mut frame) && !frame.has_request());
    }
    // Room for all but one byte of it.
    let before = umem.room_in_front(&frame);
    assert!(umem.push(&mut frame, before - request::LEN + 1).is_some());
    assert!(!umem.request_checksum(&mut frame, 34, 6));
    assert!(umem.pull(&mut frame, 1));
    assert!(umem.request_checksum(&mut frame, 34, 6));
    umem.release(frame);
    assert_eq!(umem.free(), 2);
}

#[test]
fn a_descriptor_must_lie_in_one_chunk() {
    let bounds = umem(2).bounds();
    assert!(bounds.frame(256, 1792).is_some());
    assert!(bounds.frame(256, 1793).is_none());
    assert!(bounds.frame(4095, 1).is_some());
    assert!(bounds.frame(4096, 0).is_none());
    assert!(bounds.frame(u64::MAX, u32::MAX).is_none());
}

#[test]
fn a_chunk_of_several_buffers_holds_one_frame_that_comes_in_parts() {
    let mut umem = Umem::new(UmemConfig {
        chunk: ChunkSize::K16,
        frames: 2,
        lock: false,
    })
    .unwrap();
    let bounds = umem.bounds();
    assert!(bounds.has_chains() && !self::umem(1).bounds().has_chains());
    assert!(bounds.part(16_384 + 256, 3840).is_some());
    assert!(bounds.part(16_384 + 256, 3841).is_none());
    assert!(bounds.part(2 * 16_384, 1).is_none());
    assert!(bounds.part(0, 0).is_none() && bounds.part(u64::MAX, 1).is_none());

    let (mut frame, mut tail) = (umem.allocate().unwrap(), umem.allocate().unwrap());
    assert!(umem.fill(&mut frame, &[1; 3840]) && umem.fill(&mut tail, &[2; 3840]));
    assert_eq!(bounds.buffers(&frame), 1);
    assert!(umem.append(&mut frame, &tail));
    assert_eq!((frame.len(), bounds.buffers(&frame)), (7680, 2));
    assert!(umem.push(&mut frame, 50).is_some());
    assert_eq!(bounds.buffers(&frame), 2);
    assert!(umem.append(&mut frame, &tail) && umem.append(&mut frame, &tail));
    assert_eq!(bounds.buffers(&frame), 4);
    assert!(!umem.append(&mut frame, &tail), "the chunk is full");
    assert_eq!(umem.bytes(&frame)[50..][..3840], [1; 3840]);
    assert_eq!(umem.bytes(&frame)[50 + 3840..], [2; 3 * 3840]);
    assert!(umem.pull(&mut frame, 50 + 4096) && umem.truncate(&mut frame, 10));
    assert_eq!(umem.room_in_front(&frame), 256 + 4096);
    umem.release(frame);
    umem.release(tail);
    assert_eq!(umem.free(), 2);
}

#[test]
fn impossible_sizes_are_refused_with_the_limit() {
    let too_many = UmemConfig {
        chunk: ChunkSize::K4,
        frames: (1 << 20) + 1,
        lock: false,
    };
    let text = Umem::new(too_many).unwrap_err().to_string();
    assert!(text.contains("between 1 and 1048576"), "{text}");
    assert!(
        Umem::new(UmemConfig {
            frames: 0,
            ..too_many
        })
        .is_err()
    );
}

#[test]
fn huge_pages_are_used_when_the_system_has_them() {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let count = |name: &str| -> u64 {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |count| count.trim().parse().unwrap())
    };
    let pages = umem(1024).pages();
    if count("HugePages_Total:") == 0 {
        assert_eq!(pages, Pages::Ordinary);
    } else if count("HugePages_Free:") > count("HugePages_Rsvd:") + 64 {
        // Far more than all tests together take at a time.
        assert_eq!(pages, Pages::Huge);
    }
}

#[test]
fn the_lock_error_says_what_to_do() {
    let text = lock_error(&io::Error::from_raw_os_error(libc::ENOMEM), 4 << 20).to_string();
    assert!(
        text.contains("4096 KiB")
            && text.contains("RLIMIT_MEMLOCK")
            && text.contains("CAP_IPC_LOCK"),
        "{text}"
    );
}
