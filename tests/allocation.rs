//! The hot path allocates nothing and frees nothing after start: every allocation of the thread that takes turns is
//! counted, over thousands of turns with floods, drops, full rings and an empty pool, while another thread publishes.

mod rig;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rig::allocations::{Watched, calls, calls_during, watch};
use rig::choices::Choices;
use rig::*;
use vxgate::pipeline::cut::Cut;
use vxgate::pipeline::join::Trains;
use vxgate::port::{BATCH, Batch, ChunkSize, MemoryPort, Umem, UmemConfig};
use vxgate::stats::DropReason;
use vxgate::table::publication;
use vxgate::wire::MacAddr;
use vxgate::wire::vnet::{self, VnetHeader};
use vxgate::worker::{Departure, Worker};

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// One test, because the counts are the process's.
#[test]
fn turns_allocate_nothing() {
    the_counter_counts();
    turns_under_publications();
    turns_with_superframes(Departure::Whole(0));
    turns_with_superframes(Departure::Cut(0));
    trains_of_all_kinds();
    turns_of_frames_in_several_buffers();
    a_thread_from_its_first_heartbeat_to_its_last();
}

fn the_counter_counts() {
    let (allocations, frees, kept) = calls_during(|| {
        drop(std::hint::black_box(Box::new(1)));
        std::hint::black_box(Vec::<u8>::with_capacity(100))
    });
    assert_eq!((allocations, frees), (2, 1));
    drop(kept);
}

fn turns_under_publications() {
    const TURNS: usize = 5_000;
    const GENERATIONS: u64 = 200;
    // A pool that floods can empty, and rings that fill up.
    let mut rig = Rig::new(Size {
        ring_len: 64,
        frames: 700,
        vteps: 7,
        ..Size::default()
    });
    let size = rig.size;
    let frames: Vec<(At, Vec<u8>)> = vec![
        (At::Access(0), inner(host(0, 1), device_mac(0), 60)),
        (At::Access(0), inner(MacAddr::BROADCAST, device_mac(0), 200)),
        (At::Access(1), inner(unreachable_host(1), device_mac(1), 60)),
        (At::Access(1), inner(host(1, 0), device_mac(1), 1600)),
        (At::Access(1), vec![0xff; 13]),
        (
            At::Underlay(0),
            outer(
                vni(0),
                vtep_addr(0),
                &inner(device_mac(0), host(0, 0), 1000),
            ),
        ),
        (
            At::Underlay(1),
            outer(vni(1), vtep_addr(1), &inner(device_mac(1), host(1, 0), 60)),
        ),
        (
            At::Underlay(1),
            outer(vni(50), vtep_addr(1), &inner(device_mac(1), host(1, 0), 60)),
        ),
        (
            At::Underlay(0),
            outer(
                vni(0),
                [10, 1, 1, 1].into(),
                &inner(device_mac(0), host(0, 0), 60),
            ),
        ),
    ];
    let places = rig.places();
    let done = &AtomicBool::new(false);
    let generation = AtomicU64::new(0);
    let mut writer = std::mem::replace(&mut rig.writer, publication(0, snapshot(size, 0)).0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let next = writer.current().generation + 1;
                writer.publish(snapshot(size, (next % 7) as u8));
                generation.store(next, Ordering::Relaxed);
                std::thread::yield_now();
            }
        });
        let _end = Done(done);
        let mut turns = 0;
        while turns < TURNS || generation.load(Ordering::Relaxed) < GENERATIONS {
            for (at, frame) in &frames {
                // Bursts, so that floods meet full rings and an empty pool.
                for _ in 0..turns % 8 {
                    rig.deliver(*at, frame);
                }
            }
            let (allocations, frees, _) = calls_during(|| rig.worker.turn());
            assert_eq!((allocations, frees), (0, 0), "in turn {turns}");
            if turns % 3 == 0 {
                for at in &places {
                    rig.port(*at).0.complete(40);
                }
            }
            turns += 1;
        }
    });
    rig.check_balance();
    // All of it happened.
    let counters = rig.counters(At::Access(0));
    assert!(
        counters.forwarded.get() > 0
            && counters.flood_copies.get() > 0
            && counters.flood_copies_lost.get() > 0
    );
    assert!(counters.drops(DropReason::TxRingFull) > 0);
    let counters = rig.counters(At::Access(1));
    for reason in [
        DropReason::NextHopUnresolved,
        DropReason::Oversize,
        DropReason::AccessShort,
    ] {
        assert!(counters.drops(reason) > 0, "{reason:?}");
    }
    assert!(rig.counters(At::Underlay(1)).drops(DropReason::VniNotFound) > 0);
    let counters = rig.counters(At::Underlay(0));
    assert!(counters.drops(DropReason::UnknownPeer) > 0 && counters.offenders.read().len() == 1);
}

/// The lane of superframes: received, encapsulated and perhaps cut, refused, joined.
fn turns_with_superframes(departure: Departure) {
    let size = Size::default();
    let (_writer, mut readers) = publication(1, snapshot(size, 0));
    let mut plan = plan(size, readers.remove(0), || MemoryPort::new(size.ring_len));
    let taps = add_lane_with(&mut plan, departure);
    let mut worker = Worker::new(plan).unwrap();
    let header = VnetHeader {
        flags: vnet::NEEDS_CSUM,
        gso_type: vnet::GSO_TCPV4,
        gso_size: 1000,
        csum_start: 34,
        csum_offset: 16,
        ..VnetHeader::default()
    };
    let superframe = tcp_frame(host(0, 1), device_mac(0), 1, &[7; 30_000]);
    let flooded = tcp_frame(MacAddr::BROADCAST, device_mac(0), 1, &[7; 3000]);
    for turn in 0..500u32 {
        for n in 0..turn % 5 {
            taps.deliver(header, &superframe);
            taps.deliver(header, &flooded);
            let segment = tcp_frame(device_mac(0), host(0, 1), 1 + n * 500, &[1; 500]);
            let plan = worker.plan_mut();
            let frame = outer(vni(0), vtep_addr(1), &segment);
            plan.underlays[0].port.deliver(&mut plan.umem, &frame);
        }
        let (allocations, frees, _) = calls_during(|| worker.turn());
        assert_eq!((allocations, frees), (0, 0), "in turn {turn}");
        // Often enough for something to get through, seldom enough for something to be refused.
        if turn % 3 == 0 {
            while Taps::read(&taps.wire).is_some() || Taps::read(&taps.access).is_some() {}
            worker.plan_mut().underlays[0].port.complete(64);
        }
    }
    let plan = worker.plan_mut();
    let lane = plan.superframes.as_ref().unwrap();
    let counters = &lane.accesses[0].as_ref().unwrap().counters;
    assert!(counters.superframes.get() > 0 && counters.flood_copies.get() > 0);
    assert!(counters.drops(DropReason::TxRingFull) > 0);
    assert!(plan.underlays[0].counters.superframes.get() > 0);
}

/// Segments of many kinds joined, and superframes cut.
fn trains_of_all_kinds() {
    let umem = UmemConfig {
        chunk: ChunkSize::K2,
        frames: 2 * BATCH as u32,
        lock: false,
    };
    let mut umem = Umem::new(umem).unwrap();
    let (mut batch, mut train, mut trains) = (Batch::new(), Batch::new(), Trains::new());
    let mut joined = 0;
    for seed in 0..200_u32 {
        let bytes: Vec<u8> = (0..600)
            .map(|n| (seed.wrapping_add(n).wrapping_mul(0x9e37_79b9) >> 24) as u8)
            .collect();
        let frames = tcp::batch(&mut Choices::new(&bytes));
        for bytes in &frames {
            let mut frame = umem.allocate().unwrap();
            assert!(umem.fill(&mut frame, bytes));
            batch.push(frame).unwrap();
        }
        let (header, superframe) = tcp::from_tap(&mut Choices::new(&bytes));
        let (allocations, frees, _) = calls_during(|| {
            trains.join(&mut umem, &mut batch);
            while trains.take(&mut train).is_some() {
                joined += usize::from(train.len() > 1);
                umem.release_all(&mut train);
            }
            if let Some(mut cut) = Cut::new(&header, &superframe) {
                while cut.fill(&mut umem, &mut batch) > 0 {
                    umem.release_all(&mut batch);
                }
            }
        });
        assert_eq!((allocations, frees), (0, 0), "with seed {seed}");
    }
    assert!(joined > 0);
}

fn turns_of_frames_in_several_buffers() {
    let mut rig = Rig::wide(Size {
        frames: 320,
        ..Size::default()
    });
    let towards = inner(device_mac(1), host(1, 0), 8900);
    let frames = [
        (At::Access(0), inner(host(0, 1), device_mac(0), 8950)),
        (
            At::Access(0),
            inner(MacAddr::BROADCAST, device_mac(0), 5000),
        ),
        (At::Access(0), inner(host(0, 1), device_mac(0), 60)),
        (At::Underlay(1), outer(vni(1), vtep_addr(1), &towards)),
    ];
    let places = rig.places();
    for turn in 0..1_000 {
        for (at, frame) in &frames {
            for _ in 0..turn % 8 {
                rig.deliver(*at, frame);
            }
        }
        let (allocations, frees, _) = calls_during(|| rig.worker.turn());
        assert_eq!((allocations, frees), (0, 0), "in turn {turn}");
        if turn % 3 == 0 {
            for at in &places {
                rig.port(*at).0.complete(20);
            }
        }
    }
    rig.check_balance();
    let counters = rig.counters(At::Access(0));
    assert!(counters.forwarded.get() > 0 && counters.drops(DropReason::TxRingFull) > 0);
    assert!(rig.counters(At::Underlay(1)).forwarded.get() > 0);
}

/// Tells the other thread to end, also when this one panics.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The thread's own loop as well: clock, heartbeat, sleep. It is watched from its first heartbeat on.
fn a_thread_from_its_first_heartbeat_to_its_last() {
    let size = Size::default();
    let (_writer, mut readers) = publication(1, snapshot(size, 0));
    let mut plan = plan(size, readers.remove(0), || MemoryPort::new(size.ring_len));
    let stop = Arc::clone(&plan.stop);
    let counters = Arc::clone(&plan.counters);
    plan.heartbeat = Box::new({
        let (stop, counters) = (Arc::clone(&stop), Arc::clone(&counters));
        move |_| {
            // What a thread allocates when it ends is not the path's: the last heartbeat is that of the drain.
            watch(!stop.load(Ordering::Relaxed));
            if counters.sleeps.get() >= 3 {
                stop.store(true, Ordering::Relaxed);
            }
        }
    });
    let before = calls();
    let running = Worker::spawn(plan).unwrap();
    running.join().unwrap();
    assert!(counters.turns.get() > 3);
    assert_eq!(calls(), before);
}
