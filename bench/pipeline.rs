//! Frames through the pipeline and through the worker.
//!
//! | action | what is measured |
//! |---|---|
//! | `encap`, `decap` | `decide` and `apply` of a received batch: from frames in hand to frames in an outbox |
//! | `turn` | `Worker::turn`: receive, snapshot, decide, apply, transmit, reclaim, refill, on both ports |
//!
//! The test plays the kernel, and its part is not measured: frames are delivered into the receive ring, and each turn the 64
//! sent before are completed.
//!
//! To 1 and 1 k stations frames go in small rings, so that their memory stays in the first caches. To 64 k (and with an FDB
//! of 1 M) rings have 16,384 entries and the chunks go round in random order: each is used again only after 32 MiB of others,
//! and a whole ring is delivered before the first of its frames is taken.

use vxgate::pipeline::{Exit, IpIds, Outbox, Verdicts, decap, encap};
use vxgate::port::{BATCH, Batch, MemoryPort, Port, Umem};
use vxgate::stats::{DropReason, PortCounters};
use vxgate::table::{Reader, SegmentId, Writer, publication};
use vxgate::worker::{Plan, Worker};

use criterion::Criterion;

use crate::measure::{Action, Batches};
use crate::network::{Direction, LARGE_FDB, MANY, Network, ONE, THOUSAND, Traffic};
use crate::rig::{self, Size};
use crate::shuffle::shuffle;

/// Lengths of inner frames; the last is the longest that the underlay takes.
const LENGTHS: [usize; 3] = [64, 512, 1450];
const HOT_RING: usize = 128;
const COLD_RING: usize = 1 << 14;

pub fn benches(criterion: &mut Criterion) {
    for (name, direction) in [("encap", Direction::Encap), ("decap", Direction::Decap)] {
        let mut action = Action::new(criterion, name);
        for (network, len) in cases() {
            let setup = || Stage::new(network, direction, len);
            let batches = Batches {
                len: BATCH as u64,
                prepare: Stage::prepare,
                act: Stage::decide_and_apply,
            };
            action.prepared(network.name, len, setup, batches);
        }
    }
    let mut action = Action::new(criterion, "turn");
    for (name, direction) in [("encap", Direction::Encap), ("decap", Direction::Decap)] {
        for (network, len) in cases() {
            let setup = || WholeWorker::new(network, direction, len);
            let batches = Batches {
                len: BATCH as u64,
                prepare: WholeWorker::prepare,
                act: WholeWorker::turn,
            };
            action.prepared(&format!("{name}-{}", network.name), len, setup, batches);
        }
    }
}

fn cases() -> impl Iterator<Item = (Network, usize)> {
    let grid = [ONE, THOUSAND, MANY]
        .into_iter()
        .flat_map(|network| LENGTHS.map(|len| (network, len)));
    grid.chain([(LARGE_FDB, 64)])
}

fn ring_len(network: Network) -> usize {
    if network.stations > THOUSAND.stations {
        COLD_RING
    } else {
        HOT_RING
    }
}

/// A worker's plan, its memory in random order.
fn plan(network: Network, reader: Reader) -> Plan<MemoryPort> {
    let ring_len = ring_len(network);
    let size = Size {
        segments: 1,
        queues: 1,
        ring_len,
        // Both fill rings, what waits to be completed, and a batch in hand.
        frames: (2 * ring_len + 2 * BATCH) as u32,
        ..Size::default()
    };
    let mut plan = rig::plan(size, reader, || MemoryPort::new(ring_len));
    let mut frames: Vec<_> = std::iter::from_fn(|| plan.umem.allocate()).collect();
    shuffle(&mut frames);
    for frame in frames {
        plan.umem.release(frame);
    }
    plan
}

/// As the kernel: completes what was sent, and when all that was delivered is taken, delivers a ring full.
fn play_kernel(
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
fn ends(
    plan: &mut Plan<MemoryPort>,
    direction: Direction,
) -> (&mut MemoryPort, &mut MemoryPort, &mut Umem) {
    let (underlay, access) = (&mut plan.underlays[0].port, &mut plan.accesses[0].port);
    match direction {
        Direction::Encap => (access, underlay, &mut plan.umem),
        Direction::Decap => (underlay, access, &mut plan.umem),
    }
}

fn assert_all_forwarded(counters: &PortCounters) {
    let dropped = rig::drops(counters);
    assert!(
        dropped == 0 && counters.forwarded.get() > 0 && counters.checksums_completed.get() == 0,
        "not every frame is forwarded as it is: {counters:?}"
    );
}

/// A worker in hand, turn by turn.
struct WholeWorker {
    worker: Worker<MemoryPort>,
    direction: Direction,
    traffic: Traffic,
    waiting: usize,
    _writer: Writer,
}

impl WholeWorker {
    fn new(network: Network, direction: Direction, len: usize) -> Self {
        let (writer, mut readers) = publication(1, network.snapshot());
        let reader = readers.remove(0);
        let mut worker = Self {
            worker: Worker::new(plan(network, reader)).expect("a sound plan"),
            direction,
            traffic: Traffic::new(network, direction, len),
            waiting: 0,
            _writer: writer,
        };
        worker.prepare();
        worker.turn();
        let plan = worker.worker.plan_mut();
        assert_all_forwarded(match direction {
            Direction::Encap => &plan.accesses[0].counters,
            Direction::Decap => &plan.underlays[0].counters,
        });
        worker
    }

    fn prepare(&mut self) {
        let plan = self.worker.plan_mut();
        play_kernel(plan, self.direction, &mut self.waiting, &mut self.traffic);
    }

    fn turn(&mut self) {
        let moved = self.worker.turn();
        debug_assert_eq!(moved.received, BATCH);
    }
}

/// What a worker has, its turn taken apart.
struct Stage {
    plan: Plan<MemoryPort>,
    direction: Direction,
    traffic: Traffic,
    waiting: usize,
    batch: Batch,
    verdicts: Verdicts,
    out: [Outbox; 1],
    ip_ids: IpIds,
    counters: PortCounters,
    _writer: Writer,
}

impl Stage {
    fn new(network: Network, direction: Direction, len: usize) -> Self {
        let (writer, mut readers) = publication(1, network.snapshot());
        let mut stage = Self {
            plan: plan(network, readers.remove(0)),
            direction,
            traffic: Traffic::new(network, direction, len),
            waiting: 0,
            batch: Batch::new(),
            verdicts: Verdicts::new(),
            out: [Outbox::new()],
            ip_ids: IpIds::new(0),
            counters: PortCounters::default(),
            _writer: writer,
        };
        stage.prepare();
        stage.decide_and_apply();
        stage.prepare();
        assert_all_forwarded(&stage.counters);
        stage
    }

    /// All of a turn but the middle: the batch before leaves, and the next one is received.
    fn prepare(&mut self) {
        let (from, to, umem) = ends(&mut self.plan, self.direction);
        self.out[0].flush(to, umem, &self.counters, DropReason::TxRingFull);
        to.reclaim(umem);
        from.refill(umem);
        play_kernel(
            &mut self.plan,
            self.direction,
            &mut self.waiting,
            &mut self.traffic,
        );
        let (from, _, umem) = ends(&mut self.plan, self.direction);
        if self.batch.is_empty() {
            let received = from.receive(umem, &mut self.batch);
            debug_assert_eq!(received, BATCH);
        }
    }

    fn decide_and_apply(&mut self) {
        let snapshot = self.plan.reader.snapshot();
        let (umem, counters) = (&mut self.plan.umem, &self.counters);
        let (batch, verdicts) = (&mut self.batch, &mut self.verdicts);
        match self.direction {
            Direction::Encap => {
                let [outbox] = &mut self.out;
                let mut exit = Exit {
                    port: &mut self.plan.underlays[0].port,
                    outbox,
                    ip_ids: &mut self.ip_ids,
                };
                encap::decide(snapshot, SegmentId(0), umem, batch, verdicts);
                let id = SegmentId(0);
                encap::apply(snapshot, id, umem, batch, verdicts, counters, &mut exit);
            }
            Direction::Decap => {
                decap::decide(snapshot, umem, batch, verdicts);
                decap::apply(snapshot, umem, batch, verdicts, counters, &mut self.out);
            }
        }
    }
}
