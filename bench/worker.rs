//! A whole worker on in-memory ports, with the benchmark as the kernel around it.

use std::iter;

use vxgate::port::{BATCH, MemoryPort, Umem};
use vxgate::stats::PortCounters;
use vxgate::table::{Reader, Writer, publication};
use vxgate::worker::{Plan, Worker};

use crate::network::{Direction, Network, THOUSAND, Traffic};
use crate::rig::{self, Size};
use crate::shuffle::shuffle;

/// Entries of small rings, whose memory stays in the first caches.
pub const HOT_RING: usize = 128;
/// Entries of large ones.
pub const COLD_RING: usize = 1 << 14;

/// Small rings for small networks.
pub fn ring_len(network: Network) -> usize {
    if network.stations > THOUSAND.stations {
        COLD_RING
    } else {
        HOT_RING
    }
}

/// A worker's plan, its memory in random order.
pub fn plan(ring_len: usize, reader: Reader) -> Plan<MemoryPort> {
    let size = Size {
        segments: 1,
        queues: 1,
        ring_len,
        // Both fill rings, what waits to be completed, and a batch in hand.
        frames: (2 * ring_len + 2 * BATCH) as u32,
        ..Size::default()
    };
    let mut plan = rig::plan(size, reader, || MemoryPort::new(ring_len));
    let mut frames: Vec<_> = iter::from_fn(|| plan.umem.allocate()).collect();
    shuffle(&mut frames);
    for frame in frames {
        plan.umem.release(frame);
    }
    plan
}

/// As the kernel: completes what was sent, and when all that was delivered is taken, delivers a ring full.
pub fn play_kernel(
    plan: &mut Plan<MemoryPort>,
    direction: Direction,
    waiting: &mut usize,
    traffic: &mut Traffic,
) {
    let (from, to, umem) = ends(plan, direction);
    to.complete(BATCH);
    if *waiting == 0 {
        while from.deliver(umem, traffic.next()) {
            *waiting += 1;
        }
    }
    *waiting = waiting.saturating_sub(BATCH);
}

/// The port where frames come in, the one where they leave, and their memory.
pub fn ends(
    plan: &mut Plan<MemoryPort>,
    direction: Direction,
) -> (&mut MemoryPort, &mut MemoryPort, &mut Umem) {
    let (underlay, access) = (&mut plan.underlays[0].port, &mut plan.accesses[0].port);
    match direction {
        Direction::Encap => (access, underlay, &mut plan.umem),
        Direction::Decap => (underlay, access, &mut plan.umem),
    }
}

pub fn assert_all_forwarded(counters: &PortCounters) {
    let dropped = rig::drops(counters);
    assert!(
        dropped == 0 && counters.forwarded.get() > 0 && counters.checksums_completed.get() == 0,
        "not every frame is forwarded as it is: {counters:?}"
    );
}

/// A worker in hand, turn by turn.
pub struct WholeWorker {
    worker: Worker<MemoryPort>,
    direction: Direction,
    traffic: Traffic,
    waiting: usize,
    /// Of a worker that is its only reader.
    _writer: Option<Writer>,
}

impl WholeWorker {
    /// With a table of its own, which nobody changes.
    pub fn new(network: Network, direction: Direction, len: usize) -> Self {
        let (writer, mut readers) = publication(1, network.snapshot());
        let reader = readers.remove(0);
        Self {
            _writer: Some(writer),
            ..Self::on(network, direction, len, ring_len(network), reader)
        }
    }

    /// With somebody's table of the network.
    pub fn on(
        network: Network,
        direction: Direction,
        len: usize,
        ring_len: usize,
        reader: Reader,
    ) -> Self {
        let mut worker = Self {
            worker: Worker::new(plan(ring_len, reader)).expect("a sound plan"),
            direction,
            traffic: Traffic::new(network, direction, len),
            waiting: 0,
            _writer: None,
        };
        worker.prepare();
        worker.turn();
        worker.assert_all_forwarded();
        worker
    }

    pub fn prepare(&mut self) {
        let plan = self.worker.plan_mut();
        play_kernel(plan, self.direction, &mut self.waiting, &mut self.traffic);
    }

    pub fn turn(&mut self) {
        let moved = self.worker.turn();
        debug_assert_eq!(moved.received, BATCH);
    }

    /// Nothing that came in was dropped.
    pub fn assert_all_forwarded(&mut self) {
        let plan = self.worker.plan_mut();
        assert_all_forwarded(match self.direction {
            Direction::Encap => &plan.accesses[0].counters,
            Direction::Decap => &plan.underlays[0].counters,
        });
    }
}
