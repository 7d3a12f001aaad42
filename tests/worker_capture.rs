//! What a capture sees of a worker on in-memory ports: every frame where it comes in, with its verdict, where it leaves, and where it
//! dies; and nothing that did not happen.

mod rig;

use std::sync::Arc;

use rig::*;
use vxgate::port::MemoryPort;
use vxgate::stats::tap::{Fate, Point, PortTap, Record, Ring, Tap, Wanted};
use vxgate::stats::{DropReason, PortCounters, Shape};
use vxgate::table::publication;
use vxgate::wire::MacAddr;
use vxgate::wire::vnet::{self, VnetHeader};
use vxgate::worker::{Departure, Plan, Worker};

const UNDERLAY: u32 = 2;
/// The devices of the segments, as in the rig's table.
const DEVICES: u32 = 10;

/// A worker whose frames are captured.
struct Seen {
    worker: Worker<MemoryPort>,
    tap: Arc<Tap>,
    ring: Arc<Ring>,
}

fn tapped(counters: &Arc<PortCounters>, tap: &Arc<Tap>, port: u32) -> Arc<PortCounters> {
    let counters = PortCounters::counting(Arc::clone(&counters.peers));
    Arc::new(counters.tapped(PortTap::new(Arc::clone(tap), port)))
}

impl Seen {
    fn new(size: Size, prepare: impl FnOnce(&mut Plan<MemoryPort>)) -> Self {
        let (_, mut readers) = publication(1, snapshot(size, 0));
        let mut plan = plan(size, readers.remove(0), || MemoryPort::new(size.ring_len));
        prepare(&mut plan);
        let tap = Arc::new(Tap::new(7));
        for underlay in &mut plan.underlays {
            underlay.counters = tapped(&underlay.counters, &tap, UNDERLAY);
        }
        for (device, access) in (DEVICES..).zip(&mut plan.accesses) {
            access.counters = tapped(&access.counters, &tap, device);
        }
        let taps = plan.superframes.iter_mut();
        let taps = taps.flat_map(|lane| &mut lane.accesses).flatten();
        for access in taps {
            access.counters = tapped(&access.counters, &tap, DEVICES);
        }
        let worker = Worker::new(plan).expect("a sound plan");
        let ring = lend(&tap, 0, Point::ALL);
        Self { worker, tap, ring }
    }

    fn arrive(&mut self, at: At, bytes: &[u8]) {
        let plan = self.worker.plan_mut();
        let port = match at {
            At::Underlay(queue) => &mut plan.underlays[queue].port,
            At::Access(segment) => &mut plan.accesses[segment].port,
        };
        assert!(port.deliver(&mut plan.umem, bytes));
    }

    fn collect(&mut self, at: At) -> Vec<Vec<u8>> {
        let plan = self.worker.plan_mut();
        let port = match at {
            At::Underlay(queue) => &mut plan.underlays[queue].port,
            At::Access(segment) => &mut plan.accesses[segment].port,
        };
        std::iter::from_fn(|| port.collect(&mut plan.umem)).collect()
    }

    fn read(&self) -> Vec<(Point, u32, Fate, Vec<u8>)> {
        read(&self.ring)
            .into_iter()
            .map(|(record, bytes)| {
                assert_eq!(record.len as usize, bytes.len());
                (record.spot.point, record.spot.port, record.fate, bytes)
            })
            .collect()
    }
}

fn lend(tap: &Tap, lane: usize, points: impl IntoIterator<Item = Point>) -> Arc<Ring> {
    let wanted = Wanted {
        points: points.into_iter().collect(),
        ports: Vec::new(),
        snaplen: 1 << 18,
    };
    let ring = Arc::new(Ring::new(7, wanted, 1 << 22));
    tap.lend(lane, Arc::clone(&ring));
    ring
}

fn read(ring: &Ring) -> Vec<(Record, Vec<u8>)> {
    let mut read = Vec::new();
    ring.read(usize::MAX, |record, bytes| {
        read.push((record, bytes.to_vec()))
    });
    read
}

#[test]
fn a_frame_that_is_forwarded_is_seen_where_it_comes_in_and_as_it_leaves() {
    let mut seen = Seen::new(Size::default(), |_| {});
    let (came, goes) = (
        inner(device_mac(1), host(1, 2), 300),
        inner(host(0, 1), device_mac(0), 60),
    );
    let wrapped = outer(vni(1), vtep_addr(2), &came);
    seen.arrive(At::Underlay(0), &wrapped);
    seen.arrive(At::Access(0), &goes);
    seen.worker.turn();
    let sent = seen.collect(At::Underlay(0)).remove(0);
    assert_eq!(
        seen.read(),
        [
            (Point::UnderlayRx, UNDERLAY, Fate::Deliver, wrapped),
            (Point::AccessTx, DEVICES + 1, Fate::Sent, came),
            (Point::AccessRx, DEVICES, Fate::Encap, goes),
            (Point::UnderlayTx, UNDERLAY, Fate::Sent, sent),
        ]
    );
}

#[test]
fn who_the_peer_is_is_noted_where_no_outer_header_tells() {
    let mut seen = Seen::new(Size::default(), |_| {});
    let came = inner(device_mac(0), host(0, 2), 60);
    seen.arrive(At::Underlay(0), &outer(vni(0), vtep_addr(2), &came));
    seen.arrive(At::Access(0), &inner(host(0, 1), device_mac(0), 60));
    seen.worker.turn();
    let peers: Vec<_> = read(&seen.ring)
        .into_iter()
        .filter(|(record, _)| matches!(record.spot.point, Point::AccessRx | Point::AccessTx))
        .map(|(record, _)| record.peer)
        .collect();
    assert_eq!(peers, [peer(0, vtep_addr(2)), peer(0, vtep_addr(1))]);
}

#[test]
fn floods_are_seen_copy_by_copy_and_what_dies_is_seen_dying() {
    let size = Size {
        vteps: 3,
        ..Size::default()
    };
    let mut seen = Seen::new(size, |_| {});
    let broadcast = inner(MacAddr::BROADCAST, device_mac(0), 60);
    let lost = inner(unreachable_host(0), device_mac(0), 61);
    seen.arrive(At::Access(0), &broadcast);
    seen.arrive(At::Access(0), &lost);
    let strange = outer(
        vni(0),
        [10, 0, 0, 77].into(),
        &inner(device_mac(0), host(0, 1), 62),
    );
    seen.arrive(At::Underlay(1), &strange);
    seen.worker.turn();
    let sent = seen.collect(At::Underlay(0));
    assert_eq!(sent.len(), 3);
    let unknown = Fate::Dropped(DropReason::UnknownPeer, Shape::Arrived);
    let unresolved = Fate::Dropped(DropReason::NextHopUnresolved, Shape::Arrived);
    assert_eq!(
        seen.read(),
        [
            (Point::UnderlayRx, UNDERLAY, unknown, strange.clone()),
            (Point::Drop, UNDERLAY, unknown, strange),
            (Point::AccessRx, DEVICES, Fate::Flood, broadcast),
            (Point::AccessRx, DEVICES, unresolved, lost.clone()),
            (Point::Drop, DEVICES, unresolved, lost),
            (Point::UnderlayTx, UNDERLAY, Fate::Sent, sent[0].clone()),
            (Point::UnderlayTx, UNDERLAY, Fate::SentCopy, sent[1].clone()),
            (Point::UnderlayTx, UNDERLAY, Fate::SentCopy, sent[2].clone()),
        ]
    );
}

/// What a full ring does not take has not left: it is seen dying instead, as it would have left.
#[test]
fn what_a_port_refuses_is_not_seen_leaving() {
    let size = Size {
        ring_len: 16,
        ..Size::default()
    };
    let mut seen = Seen::new(size, |_| {});
    for _ in 0..2 {
        for _ in 0..16 {
            seen.arrive(At::Access(0), &inner(host(0, 1), device_mac(0), 60));
        }
        seen.worker.turn();
    }
    let all = seen.read();
    let count = |point| all.iter().filter(|one| one.0 == point).count();
    assert_eq!(count(Point::AccessRx), 32);
    assert_eq!((count(Point::UnderlayTx), count(Point::Drop)), (16, 16));
    let full = Fate::Dropped(DropReason::TxRingFull, Shape::Leaving);
    for (_, port, fate, bytes) in all.iter().filter(|one| one.0 == Point::Drop) {
        assert_eq!((*port, *fate), (DEVICES, full));
        assert_eq!(read_outer(bytes).0, vtep_addr(1));
    }
}

#[test]
fn superframes_are_seen_whole_and_what_they_are_cut_into_or_joined_from_one_by_one() {
    const SEGMENT: usize = 1000;
    for departure in [Departure::Whole(0), Departure::Cut(0)] {
        let size = Size {
            ring_len: 128,
            ..Size::default()
        };
        let mut taps = None;
        let mut seen = Seen::new(size, |plan| taps = Some(add_lane_with(plan, departure)));
        let taps = taps.expect("they were made");
        let long = tcp_frame(host(0, 1), device_mac(0), 1, &[7; 5 * SEGMENT]);
        let header = VnetHeader {
            flags: vnet::NEEDS_CSUM,
            gso_type: vnet::GSO_TCPV4,
            hdr_len: 54,
            gso_size: SEGMENT as u16,
            csum_start: 34,
            csum_offset: 16,
            ..VnetHeader::default()
        };
        assert!(taps.deliver(header, &long));
        let mut payload = Vec::new();
        for n in 0..3_u32 {
            let piece = vec![n as u8; SEGMENT];
            let segment = tcp_frame(device_mac(0), host(0, 1), 1 + n * SEGMENT as u32, &piece);
            seen.arrive(At::Underlay(0), &outer(vni(0), vtep_addr(1), &segment));
            payload.extend(piece);
        }
        seen.worker.turn();
        let all = seen.read();
        let at = |point| {
            let there = all.iter().filter(move |one| one.0 == point);
            there.map(|one| one.3.clone()).collect::<Vec<_>>()
        };
        assert_eq!(at(Point::AccessRx), [long]);
        assert_eq!(at(Point::UnderlayRx).len(), 3);
        // The train, as the TAP has it.
        let (_, joined) = Taps::read(&taps.access).expect("a train");
        assert!(joined.ends_with(&payload));
        assert_eq!(at(Point::AccessTx), [joined]);
        match departure {
            Departure::Whole(_) => {
                let (_, sent) = Taps::read(&taps.wire).expect("a superframe");
                assert_eq!(at(Point::UnderlayTx), [sent]);
            }
            Departure::Cut(_) => {
                let sent = seen.collect(At::Underlay(0));
                assert_eq!((at(Point::UnderlayTx), sent.len()), (sent.clone(), 5));
            }
        }
        assert!(all.iter().all(|one| one.1 == UNDERLAY || one.1 == DEVICES));
    }
}

/// However many capture, and whatever they want, the frames go their way and each capture has its own.
#[test]
fn several_captures_see_what_they_asked_for_until_they_end() {
    let mut seen = Seen::new(Size::default(), |_| {});
    let rings = [
        lend(&seen.tap, 1, [Point::AccessRx]),
        lend(&seen.tap, 2, [Point::UnderlayTx]),
    ];
    let frame = inner(host(0, 1), device_mac(0), 60);
    let counts = |seen: &mut Seen| {
        seen.arrive(At::Access(0), &frame);
        seen.worker.turn();
        assert_eq!(seen.collect(At::Underlay(0)).len(), 1);
        let plan = seen.worker.plan_mut();
        plan.underlays[0].port.complete(1);
        [&seen.ring, &rings[0], &rings[1]].map(|ring| read(ring).len())
    };
    assert_eq!(counts(&mut seen), [2, 1, 1]);
    seen.tap.close(1);
    assert_eq!(counts(&mut seen), [2, 0, 1]);
    assert!(seen.tap.take_back(1).is_some());
    seen.tap.close(0);
    seen.tap.close(2);
    assert_eq!(counts(&mut seen), [0, 0, 0]);
    let ring = lend(&seen.tap, 1, [Point::UnderlayTx]);
    assert_eq!(counts(&mut seen), [0, 0, 0]);
    assert_eq!(read(&ring).len(), 1);
}
