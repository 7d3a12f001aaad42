//! A whole worker on in-memory ports, with the benchmark as the kernel around it.

use std::iter;
use std::sync::Arc;

use vxgate::port::{BATCH, ChunkSize, MemoryPort, Umem, now_ns};
use vxgate::stats::tap::{Point, PortTap, Ring, Tap, Wanted};
use vxgate::stats::{FlightRecorder, PeerBook, PortCounters};
use vxgate::table::{Reader, Writer, publication};
use vxgate::worker::{Plan, Worker};

use crate::network::{Direction, Network, THOUSAND, Traffic};
use crate::rig::{self, Size};
use crate::shuffle::shuffle;

/// Entries of small rings, whose memory stays in the first caches.
pub const HOT_RING: usize = 128;
/// Entries of large ones.
pub const COLD_RING: usize = 1 << 14;
/// Entries of rings of jumbo frames, and the buffers of one.
const JUMBO_RING: usize = 512;
const JUMBO_BUFFERS: usize = 3;

/// As `vxgate capture` has it.
const CAPTURE_BUFFER: usize = 4_000_000;

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
    plan_in(ChunkSize::K2, ring_len, reader)
}

fn plan_in(chunk: ChunkSize, ring_len: usize, reader: Reader) -> Plan<MemoryPort> {
    let size = Size {
        segments: 1,
        queues: 1,
        ring_len,
        // Both fill rings, what waits to be completed, and a batch in hand.
        frames: (2 * ring_len + 2 * BATCH) as u32,
        ..Size::default()
    };
    let mut plan = rig::plan_in(chunk, size, reader, || MemoryPort::new(ring_len));
    // As many peers as a gateway counts.
    let book = PeerBook::new(1, 1);
    plan.underlays[0].counters = Arc::new(PortCounters::counting(book.received(0)));
    plan.accesses[0].counters = Arc::new(PortCounters::counting(book.sent(0)));
    let mut frames: Vec<_> = iter::from_fn(|| plan.umem.allocate()).collect();
    shuffle(&mut frames);
    for frame in frames {
        plan.umem.release(frame);
    }
    plan
}

/// As the kernel: completes what was sent, and when less than a batch is left of what was delivered, delivers a ring full.
pub fn play_kernel(
    plan: &mut Plan<MemoryPort>,
    direction: Direction,
    waiting: &mut usize,
    traffic: &mut Traffic,
) {
    let (from, to, umem) = ends(plan, direction);
    to.complete(BATCH);
    if *waiting < BATCH {
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
    /// How many turns a batch of frames takes: a turn receives 64 buffers.
    turns: usize,
    /// Of a worker that is its only reader.
    _writer: Option<Writer>,
    /// Where its frames are seen.
    ring: Option<Arc<Ring>>,
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

    /// Whose frames are captured, whole, at these points; the capture is read as fast as it is written, and its part is not measured.
    pub fn captured(network: Network, direction: Direction, len: usize, points: &[Point]) -> Self {
        let (writer, mut readers) = publication(1, network.snapshot());
        let mut plan = plan(ring_len(network), readers.remove(0));
        let tap = Arc::new(Tap::new(0));
        let ports = [
            &mut plan.underlays[0].counters,
            &mut plan.accesses[0].counters,
        ];
        for (index, counters) in (1..).zip(ports) {
            let peers = Arc::clone(&counters.peers);
            let tap = PortTap::new(Arc::clone(&tap), index);
            *counters = Arc::new(PortCounters::counting(peers).tapped(tap));
        }
        let ring = (!points.is_empty()).then(|| {
            let wanted = Wanted {
                points: points.iter().copied().collect(),
                ports: Vec::new(),
                snaplen: 1 << 18,
            };
            let ring = Arc::new(Ring::new(0, wanted, CAPTURE_BUFFER));
            tap.lend(0, Arc::clone(&ring));
            ring
        });
        Self {
            _writer: Some(writer),
            ring,
            ..Self::with(plan, network, direction, len, 1)
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
        Self::with(plan(ring_len, reader), network, direction, len, 1)
    }

    /// On an underlay whose frames take several buffers.
    pub fn jumbo(network: Network, direction: Direction, len: usize) -> Self {
        let (writer, mut readers) = publication(1, rig::wide(network.snapshot()));
        let plan = plan_in(ChunkSize::K16, JUMBO_RING, readers.remove(0));
        Self {
            _writer: Some(writer),
            ..Self::with(plan, network, direction, len, JUMBO_BUFFERS)
        }
    }

    /// Which keeps those of its frames on record that die. They may.
    pub fn recording(
        network: Network,
        direction: Direction,
        len: usize,
        reader: Reader,
        recorder: Arc<FlightRecorder>,
    ) -> Self {
        let mut plan = plan(ring_len(network), reader);
        let peers = Arc::clone(&plan.accesses[0].counters.peers);
        let counters = PortCounters::counting(peers).recording(recorder, 1);
        plan.accesses[0].counters = Arc::new(counters);
        Self::unproven(plan, network, direction, len, 1)
    }

    fn with(
        plan: Plan<MemoryPort>,
        network: Network,
        direction: Direction,
        len: usize,
        turns: usize,
    ) -> Self {
        let mut worker = Self::unproven(plan, network, direction, len, turns);
        worker.prepare();
        worker.turn();
        worker.assert_all_forwarded();
        worker
    }

    fn unproven(
        plan: Plan<MemoryPort>,
        network: Network,
        direction: Direction,
        len: usize,
        turns: usize,
    ) -> Self {
        Self {
            worker: Worker::new(plan).expect("a sound plan"),
            direction,
            traffic: Traffic::new(network, direction, len),
            waiting: 0,
            turns,
            _writer: None,
            ring: None,
        }
    }

    pub fn prepare(&mut self) {
        let plan = self.worker.plan_mut();
        plan.counters.last_turn_ns.set(now_ns());
        play_kernel(plan, self.direction, &mut self.waiting, &mut self.traffic);
        if let Some(ring) = &self.ring {
            ring.read(usize::MAX, |_, _| {});
            assert_eq!(ring.lost(), 0, "what is measured is what is written");
        }
    }

    /// A turn, or as many as a batch takes.
    pub fn turn(&mut self) {
        let mut received = 0;
        for _ in 0..self.turns {
            received += self.worker.turn().received;
        }
        debug_assert_eq!(received, BATCH);
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
