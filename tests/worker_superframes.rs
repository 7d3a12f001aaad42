//! A worker's lane of superframes, with sockets of the test's own in the place of TAPs.

mod rig;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use rig::*;
use vxgate::port::MemoryPort;
use vxgate::stats::PortCounters;
use vxgate::table::publication;
use vxgate::wire::vnet::{self, VnetHeader};
use vxgate::worker::{Departure, Worker};

const SEGMENT: usize = 1000;

struct Lane {
    worker: Worker<MemoryPort>,
    taps: Taps,
}

fn lane() -> Lane {
    lane_of(Size::default())
}

fn lane_of(size: Size) -> Lane {
    lane_with(size, Departure::Whole(0))
}

/// Of a ring that a superframe's segments fit into.
fn cutting_lane() -> Lane {
    let size = Size {
        ring_len: 128,
        ..Size::default()
    };
    lane_with(size, Departure::Cut(0))
}

fn lane_with(size: Size, departure: Departure) -> Lane {
    let (_, mut readers) = publication(1, snapshot(size, 0));
    let mut plan = plan(size, readers.remove(0), || MemoryPort::new(size.ring_len));
    let taps = add_lane_with(&mut plan, departure);
    let worker = Worker::new(plan).unwrap();
    Lane { worker, taps }
}

impl Lane {
    fn arrive(&mut self, bytes: &[u8]) {
        let plan = self.worker.plan_mut();
        assert!(plan.underlays[0].port.deliver(&mut plan.umem, bytes));
    }

    /// Of the access TAP.
    fn counters(&mut self) -> Arc<PortCounters> {
        let lane = self.worker.plan_mut().superframes.as_ref().unwrap();
        Arc::clone(&lane.accesses[0].as_ref().unwrap().counters)
    }

    /// Every frame is in a pool or a ring, once a turn has collected what was sent.
    fn check(&mut self) {
        self.worker.turn();
        let plan = self.worker.plan_mut();
        let ports = plan.underlays.iter().map(|underlay| &underlay.port);
        let ports = ports.chain(plan.accesses.iter().map(|access| &access.port));
        let held: usize = ports.map(MemoryPort::frames_held).sum();
        assert_eq!(plan.umem.free() + held, plan.umem.frames() as usize);
        let lane = plan.superframes.as_ref().unwrap();
        assert_eq!(lane.umem.free() + 8, lane.umem.frames() as usize);
        let access = &lane.accesses[0].as_ref().unwrap().counters;
        for counters in [access, &plan.underlays[0].counters] {
            let fates = counters.forwarded.get() + drops(counters);
            assert_eq!(counters.received.get(), fates);
        }
        check_peers(plan);
    }
}

/// Of datagrams between the same ends.
fn train_header() -> VnetHeader {
    VnetHeader {
        gso_type: vnet::GSO_UDP_L4,
        hdr_len: 42,
        csum_offset: 6,
        ..superframe_header()
    }
}

fn superframe_header() -> VnetHeader {
    VnetHeader {
        flags: vnet::NEEDS_CSUM,
        gso_type: vnet::GSO_TCPV4,
        hdr_len: 54,
        gso_size: SEGMENT as u16,
        csum_start: 34,
        csum_offset: 16,
        ..VnetHeader::default()
    }
}

#[test]
fn superframes_leave_by_the_wire_tap_in_order_and_small_frames_between_them() {
    let mut lane = lane();
    let long = tcp_frame(host(0, 1), device_mac(0), 1, &[7; 40_000]);
    let short = tcp_frame(host(0, 1), device_mac(0), 40_001, &[]);
    for _ in 0..2 {
        assert!(lane.taps.deliver(superframe_header(), &long));
        assert!(lane.taps.deliver(VnetHeader::default(), &short));
    }
    assert_eq!(lane.worker.turn().received, 4);
    for _ in 0..2 {
        let (header, frame) = Taps::read(&lane.taps.wire).unwrap();
        assert_eq!(header.gso_type, vnet::GSO_TCPV4 | vnet::GSO_UDP_TUNNEL_IPV4);
        assert!(frame[OUTER_LEN..] == long);
        let (header, frame) = Taps::read(&lane.taps.wire).unwrap();
        assert_eq!(header, VnetHeader::default());
        assert_eq!(
            read_outer(&frame),
            (vtep_addr(1), vni(0).get(), short.clone())
        );
    }
    assert!(Taps::read(&lane.taps.wire).is_none());
    lane.check();
}

#[test]
fn a_train_of_datagrams_leaves_by_the_wire_tap_as_one() {
    let mut lane = lane();
    let train = inner(host(0, 1), device_mac(0), 42 + 5 * SEGMENT + 1);
    let one = inner(host(0, 1), device_mac(0), 42 + SEGMENT);
    assert!(lane.taps.deliver(train_header(), &train));
    assert!(lane.taps.deliver(VnetHeader::default(), &one));
    assert_eq!(lane.worker.turn().received, 2);
    let (header, frame) = Taps::read(&lane.taps.wire).unwrap();
    assert_eq!(
        header.gso_type,
        vnet::GSO_UDP_L4 | vnet::GSO_UDP_TUNNEL_IPV4
    );
    assert_eq!(
        (header.gso_size, header.csum_start, header.csum_offset),
        (SEGMENT as u16, 84, 6)
    );
    assert!(frame[OUTER_LEN..] == train);
    let (header, frame) = Taps::read(&lane.taps.wire).unwrap();
    assert_eq!(header, VnetHeader::default());
    assert_eq!(read_outer(&frame), (vtep_addr(1), vni(0).get(), one));
    let lane_counters = lane.worker.plan_mut().superframes.as_ref().unwrap();
    let counters = &lane_counters.accesses[0].as_ref().unwrap().counters;
    assert_eq!(
        (counters.superframes.get(), counters.segments.get()),
        (1, 6)
    );
    lane.check();
}

/// A write of one would fail: two answers of DNS that arrive together would be lost.
#[test]
fn datagrams_go_by_the_access_port_where_the_tap_takes_no_trains() {
    let mut lane = lane();
    let superframes = lane.worker.plan_mut().superframes.as_mut().unwrap();
    superframes.accesses[0].as_mut().unwrap().takes_trains = false;
    let datagram = inner(device_mac(0), host(0, 1), 60);
    for _ in 0..2 {
        lane.arrive(&outer(vni(0), vtep_addr(1), &datagram));
    }
    assert_eq!(lane.worker.turn().received, 2);
    assert!(Taps::read(&lane.taps.access).is_none());
    let plan = lane.worker.plan_mut();
    let umem = &mut plan.umem;
    let handed_on = std::iter::from_fn(|| plan.accesses[0].port.collect(umem)).count();
    assert_eq!(handed_on, 2);
    lane.check();
}

#[test]
fn tcp_and_udp_that_arrive_are_joined_and_all_else_goes_by_the_access_port() {
    let mut lane = lane();
    let mut payload = Vec::new();
    let datagram = inner(device_mac(0), host(0, 1), 60);
    let mut tagged = datagram.clone();
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    for n in 0..5u32 {
        let piece = vec![n as u8; SEGMENT];
        let segment = tcp_frame(device_mac(0), host(0, 1), 1 + n * SEGMENT as u32, &piece);
        payload.extend(piece);
        for frame in [&segment, &datagram, &tagged] {
            lane.arrive(&outer(vni(0), vtep_addr(1), frame));
        }
    }
    assert_eq!(lane.worker.turn().received, 15);
    let (header, frame) = Taps::read(&lane.taps.access).unwrap();
    assert_eq!(
        (header.gso_type, header.gso_size),
        (vnet::GSO_TCPV4, SEGMENT as u16)
    );
    assert!(frame[54..] == payload);
    let (header, frame) = Taps::read(&lane.taps.access).unwrap();
    assert_eq!((header.gso_type, header.gso_size), (vnet::GSO_UDP_L4, 18));
    assert!(frame[42..] == datagram[42..].repeat(5));
    assert!(Taps::read(&lane.taps.access).is_none());
    let plan = lane.worker.plan_mut();
    let umem = &mut plan.umem;
    let others = std::iter::from_fn(|| plan.accesses[0].port.collect(umem)).count();
    assert_eq!(others, 5);
    let counters = &plan.underlays[0].counters;
    assert_eq!(
        (counters.superframes.get(), counters.segments.get()),
        (2, 10)
    );
    assert_eq!(counters.forwarded.get(), 15);
    lane.check();
}

#[test]
fn a_train_at_the_end_of_a_full_batch_waits_for_the_next_but_not_for_ever() {
    let mut lane = lane_of(Size {
        ring_len: 128,
        frames: 1024,
        ..Size::default()
    });
    let arrive = |lane: &mut Lane, flow: u8, count: u32| {
        for n in 0..count {
            let payload = [flow; SEGMENT];
            let segment = tcp_frame(
                device_mac(0),
                host(0, flow),
                1 + n * SEGMENT as u32,
                &payload,
            );
            lane.arrive(&outer(vni(0), vtep_addr(1), &segment));
        }
    };
    let written = |lane: &Lane| {
        let read = std::iter::from_fn(|| Taps::read(&lane.taps.access));
        read.map(|(_, frame)| (frame.len() - 54) / SEGMENT)
            .collect::<Vec<_>>()
    };
    const BATCH: usize = vxgate::port::BATCH;
    // The next batch ends it. What follows is of the same addresses and ports, and so ends what is in front of it.
    arrive(&mut lane, 1, 40);
    arrive(&mut lane, 2, 40);
    assert_eq!(lane.worker.turn().received, BATCH);
    assert_eq!(written(&lane), [40]);
    assert_eq!(lane.worker.turn().received, 16);
    assert_eq!(written(&lane), [40]);
    // There is none: time ends it.
    let set_now =
        |lane: &mut Lane, now_ns| lane.worker.plan_mut().counters.last_turn_ns.set(now_ns);
    arrive(&mut lane, 1, 60);
    arrive(&mut lane, 2, 4);
    assert_eq!(lane.worker.turn().received, BATCH);
    assert_eq!(written(&lane), [60]);
    for now_ns in [0, 4_999_999] {
        set_now(&mut lane, now_ns);
        assert_eq!(lane.worker.turn().received, 0);
        assert!(written(&lane).is_empty(), "{now_ns} ns are not too long");
    }
    set_now(&mut lane, 5_000_000);
    assert_eq!(lane.worker.turn().received, 0);
    assert_eq!(written(&lane), [4]);
    // That was in vain: until the 1024th full batch, the turn that finds out that there is none ends it.
    for _ in 1..1024 {
        arrive(&mut lane, 1, 60);
        arrive(&mut lane, 2, 4);
        assert_eq!(lane.worker.turn().received, BATCH);
        assert_eq!(written(&lane), [60]);
        assert_eq!(lane.worker.turn().received, 0);
        assert_eq!(written(&lane), [4]);
        lane.worker.turn();
    }
    arrive(&mut lane, 1, 60);
    arrive(&mut lane, 2, 4);
    assert_eq!(lane.worker.turn().received, BATCH);
    assert_eq!(written(&lane), [60]);
    assert_eq!(lane.worker.turn().received, 0);
    assert!(written(&lane).is_empty(), "patient again");
    set_now(&mut lane, 10_000_000);
    assert_eq!(lane.worker.turn().received, 0);
    assert_eq!(written(&lane), [4]);
    // A full batch without anything for the TAP ends it, too.
    arrive(&mut lane, 1, BATCH as u32);
    assert_eq!(lane.worker.turn().received, BATCH);
    assert!(written(&lane).is_empty());
    for _ in 0..BATCH {
        let mut other = inner(device_mac(0), host(0, 1), 60);
        other.splice(12..12, [0x81, 0, 0, 5]);
        lane.arrive(&outer(vni(0), vtep_addr(1), &other));
    }
    assert_eq!(lane.worker.turn().received, BATCH);
    assert_eq!(written(&lane), [BATCH]);
    lane.check();
}

/// Each turn takes longer than all the time that a worker has for its end, as where it does not get the core.
#[test]
fn a_worker_that_ends_late_leaves_no_train_behind() {
    const BATCH: usize = vxgate::port::BATCH;
    let mut lane = lane_of(Size {
        ring_len: 128,
        frames: 1024,
        ..Size::default()
    });
    for n in 0..BATCH as u32 {
        let segment = tcp_frame(device_mac(0), host(0, 1), 1 + n * 500, &[1; 500]);
        lane.arrive(&outer(vni(0), vtep_addr(1), &segment));
    }
    let plan = lane.worker.plan_mut();
    plan.heartbeat = Box::new(|_| thread::sleep(Duration::from_millis(150)));
    plan.stop.store(true, Ordering::Relaxed);
    lane.worker.run();
    let (_, frame) = Taps::read(&lane.taps.access).unwrap();
    assert_eq!(frame.len(), 54 + BATCH * 500);
    lane.check();
}

#[test]
fn what_a_tap_does_not_take_is_dropped_and_counted() {
    let mut lane = lane();
    // Nobody reads, until the socket takes no more.
    for n in 0..400u32 {
        let segment = tcp_frame(device_mac(0), host(0, 1), n * 7919, &[1; 900]);
        lane.arrive(&outer(vni(0), vtep_addr(1), &segment));
        lane.worker.turn();
    }
    let counters = lane.worker.plan_mut().underlays[0].counters.clone();
    assert!(counters.forwarded.get() > 0);
    assert!(counters.drops(vxgate::stats::DropReason::TxRingFull) > 0);
    lane.check();
}

#[test]
fn where_there_is_no_wire_tap_superframes_are_cut_and_small_frames_keep_their_place() {
    let mut lane = cutting_lane();
    let payload: Vec<u8> = (0..40_000_u32).map(|n| (n % 251) as u8).collect();
    let long = tcp_frame(host(0, 1), device_mac(0), 1, &payload);
    let short = tcp_frame(host(0, 1), device_mac(0), 40_001, &[]);
    for _ in 0..2 {
        assert!(lane.taps.deliver(superframe_header(), &long));
        assert!(lane.taps.deliver(VnetHeader::default(), &short));
    }
    assert_eq!(lane.worker.turn().received, 4);
    let plan = lane.worker.plan_mut();
    let umem = &mut plan.umem;
    let sent: Vec<_> = std::iter::from_fn(|| plan.underlays[0].port.collect(umem)).collect();
    assert_eq!(sent.len(), 82);
    for sent in sent.chunks(41) {
        let mut carried = Vec::new();
        for (number, frame) in sent.iter().enumerate() {
            let (vtep, number_of, inner) = read_outer(frame);
            assert_eq!((vtep, number_of), (vtep_addr(1), vni(0).get()));
            if number == 40 {
                assert_eq!(inner, short);
                continue;
            }
            let sequence = u32::from_be_bytes([inner[38], inner[39], inner[40], inner[41]]);
            assert_eq!(sequence, 1 + (number * SEGMENT) as u32);
            carried.extend_from_slice(&inner[54..]);
        }
        assert!(carried == payload);
    }
    let counters = lane.counters();
    assert_eq!((counters.received.get(), counters.forwarded.get()), (4, 4));
    assert_eq!(
        (
            counters.superframes.get(),
            counters.segments.get(),
            counters.segments_sent.get()
        ),
        (2, 80, 78)
    );
    lane.check();
}

#[test]
fn a_ring_that_is_full_takes_superframes_whole_or_not_at_all() {
    let mut lane = cutting_lane();
    let long = tcp_frame(host(0, 1), device_mac(0), 1, &[7; 45_000]);
    for _ in 0..3 {
        assert!(lane.taps.deliver(superframe_header(), &long));
    }
    lane.worker.turn();
    let counters = lane.counters();
    assert_eq!(counters.forwarded.get(), 2);
    let full = vxgate::stats::DropReason::TxRingFull;
    assert_eq!(counters.drops(full), 1);
    assert_eq!(counters.segments_lost.get(), 0);
    let plan = lane.worker.plan_mut();
    let umem = &mut plan.umem;
    let sent = std::iter::from_fn(|| plan.underlays[0].port.collect(umem));
    assert_eq!(sent.count(), 90);
    lane.check();
}

#[test]
fn a_plan_whose_superframes_leave_nowhere_is_refused() {
    for departure in [Departure::Whole(1), Departure::Cut(2)] {
        let size = Size::default();
        let (_, mut readers) = publication(1, snapshot(size, 0));
        let mut plan = plan(size, readers.remove(0), || MemoryPort::new(size.ring_len));
        add_lane_with(&mut plan, departure);
        let refused = Worker::new(plan).unwrap_err();
        assert!(refused.to_string().contains("that it does not have"));
    }
}
