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
use vxgate::port::{BATCH, Batch, MemoryPort, Port};
use vxgate::stats::{DropReason, PortCounters};
use vxgate::table::{SegmentId, Writer, publication};
use vxgate::worker::Plan;

use criterion::Criterion;

use crate::measure::{Action, Batches};
use crate::network::{Direction, LARGE_FDB, MANY, Network, ONE, THOUSAND, Traffic};
use crate::worker::{WholeWorker, assert_all_forwarded, ends, plan, play_kernel, ring_len};

/// Lengths of inner frames; the last is the longest that the underlay takes.
const LENGTHS: [usize; 3] = [64, 512, 1450];

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
            plan: plan(ring_len(network), readers.remove(0)),
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
