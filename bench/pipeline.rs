//! Frames through the pipeline and through the worker.
//!
//! | action | what is measured |
//! |---|---|
//! | `touch` | the memory that a frame is looked up and written in, and nothing done with it: the floor of the next two |
//! | `encap`, `decap` | `decide` and `apply` of a received batch: from frames in hand to frames in an outbox |
//! | `outer-checksum` | `encap` to a thousand VTEPs with outer UDP checksums: computed `here`, and left to the `device` |
//! | `capture` | `turn` to and from a thousand stations, with a capture: of `none`, of where frames come in (`rx`), of all points |
//! | `turn` | `Worker::turn`: receive, snapshot, decide, apply, transmit, reclaim, refill, on both ports |
//!
//! The test plays the kernel, and its part is not measured: frames are delivered into the receive ring, and each turn the 64
//! sent before are completed.
//!
//! To 1 and 1 k stations frames go in small rings, so that their memory stays in the first caches. To 64 k (and with an FDB
//! of 1 M) rings have 16,384 entries and the chunks go round in random order: each is used again only after 32 MiB of others,
//! and a whole ring is delivered before the first of its frames is taken. Jumbo frames arrive in three buffers, are copied
//! into one of 16 KiB and leave as three (`port/chains.rs`); 18 MiB go round.

use std::hint::black_box;
use std::sync::Arc;

use vxgate::pipeline::{Exit, IpIds, Outbox, Role, Verdicts, decap, encap};
use vxgate::port::{BATCH, Batch, Frame, MemoryPort, Port, Umem};
use vxgate::prefetch::{self, LINE};
use vxgate::stats::tap::Point;
use vxgate::stats::{DropReason, PeerId, PortCounters};
use vxgate::table::{Destination, Question, SegmentId, UdpChecksum, Writer, publication};
use vxgate::wire::ethernet::EthernetHeader;
use vxgate::worker::Plan;

use criterion::Criterion;

use crate::measure::{Action, Batches};
use crate::network::{Direction, LARGE_FDB, MANY, Network, ONE, THOUSAND, Traffic};
use crate::rig::OUTER_LEN;
use crate::worker::{WholeWorker, assert_all_forwarded, ends, plan, play_kernel, ring_len};

/// Lengths of inner frames; the last is the longest that the underlay takes.
const LENGTHS: [usize; 3] = [64, 512, 1450];
/// How many frames in front of the one that is read are asked for.
const AHEAD: usize = 12;

const DIRECTIONS: [(&str, Direction); 2] =
    [("encap", Direction::Encap), ("decap", Direction::Decap)];

/// Of a frame that has 9,000 bytes with the outer headers, and takes three buffers.
const JUMBO: usize = 8950;

pub fn benches(criterion: &mut Criterion) {
    let mut action = Action::new(criterion, "touch");
    for (name, direction) in DIRECTIONS {
        for network in [THOUSAND, MANY] {
            let setup = || Stage::new(network, direction, LENGTHS[0]);
            let batches = Batches {
                len: BATCH as u64,
                prepare: Stage::prepare,
                act: Stage::touch,
            };
            action.prepared(
                &format!("{name}-{}", network.name),
                LENGTHS[0],
                setup,
                batches,
            );
        }
    }
    drop(action);
    for (name, direction) in DIRECTIONS {
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
    let mut action = Action::new(criterion, "outer-checksum");
    for (name, offload) in [("here", false), ("device", true)] {
        for len in LENGTHS {
            let setup = || Stage::with_checksums(len, offload);
            let batches = Batches {
                len: BATCH as u64,
                prepare: Stage::prepare,
                act: Stage::decide_and_apply,
            };
            action.prepared(name, len, setup, batches);
        }
    }
    drop(action);
    let mut action = Action::new(criterion, "turn");
    for (name, direction) in DIRECTIONS {
        for (network, len) in cases() {
            let setup = || WholeWorker::new(network, direction, len);
            let batches = Batches {
                len: BATCH as u64,
                prepare: WholeWorker::prepare,
                act: WholeWorker::turn,
            };
            action.prepared(&format!("{name}-{}", network.name), len, setup, batches);
        }
        let setup = || WholeWorker::jumbo(THOUSAND, direction, JUMBO);
        let batches = Batches {
            len: BATCH as u64,
            prepare: WholeWorker::prepare,
            act: WholeWorker::turn,
        };
        action.prepared(&format!("{name}-1k-jumbo"), JUMBO, setup, batches);
    }
}

/// What a capture costs whoever is captured.
pub fn captures(criterion: &mut Criterion) {
    let mut action = Action::new(criterion, "capture");
    for (name, direction) in DIRECTIONS {
        for (seen, points) in [
            ("none", &[][..]),
            ("rx", &[Point::UnderlayRx, Point::AccessRx]),
            ("all", &Point::ALL),
        ] {
            for len in [LENGTHS[0], LENGTHS[2]] {
                let setup = || WholeWorker::captured(THOUSAND, direction, len, points);
                let batches = Batches {
                    len: BATCH as u64,
                    prepare: WholeWorker::prepare,
                    act: WholeWorker::turn,
                };
                action.prepared(&format!("{name}-{seen}"), len, setup, batches);
            }
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
        let plan = plan(ring_len(network), readers.remove(0));
        Self::on(plan, writer, network, direction, len)
    }

    /// Outwards, with outer UDP checksums, to a device that finishes them or not.
    fn with_checksums(len: usize, offload: bool) -> Self {
        let network = THOUSAND;
        let mut snapshot = network.snapshot();
        for segment in &mut snapshot.segments {
            Arc::make_mut(&mut segment.config).udp_checksum = UdpChecksum::Compute;
        }
        let (writer, mut readers) = publication(1, snapshot);
        let mut plan = plan(ring_len(network), readers.remove(0));
        if offload {
            plan.underlays[0].port = MemoryPort::new(ring_len(network)).with_offload();
        }
        Self::on(plan, writer, network, Direction::Encap, len)
    }

    fn on(
        plan: Plan<MemoryPort>,
        writer: Writer,
        network: Network,
        direction: Direction,
        len: usize,
    ) -> Self {
        let mut stage = Self {
            plan,
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

    /// Looks at the memory that `decide` and `apply` look at, asked for as early as they can ask, and does nothing else.
    fn touch(&mut self) {
        let segment = &self.plan.reader.snapshot().segments[0];
        let (umem, [outbox]) = (&mut self.plan.umem, &mut self.out);
        let lines = match self.direction {
            Direction::Encap => [0, 0],
            Direction::Decap => [0, LINE],
        };
        let ask = |umem: &Umem, frame: Option<&Frame>| {
            if let Some(frame) = frame {
                for line in lines {
                    umem.prefetch(frame, line);
                }
            }
        };
        self.batch
            .iter()
            .take(AHEAD)
            .for_each(|frame| ask(umem, Some(frame)));
        let mut seen = 0;
        match self.direction {
            Direction::Encap => {
                let mut questions = [Question::NOTHING; BATCH];
                let mut coming = self.batch.iter().skip(AHEAD);
                for (question, frame) in questions.iter_mut().zip(self.batch.iter()) {
                    ask(umem, coming.next());
                    let (header, _) = EthernetHeader::parse(umem.bytes(frame)).expect("a frame");
                    *question = segment.fdb.ask(header.destination());
                }
                let mut vteps = [None; BATCH];
                for ((question, vtep), frame) in
                    questions.iter().zip(&mut vteps).zip(self.batch.iter())
                {
                    umem.prefetch(frame, -LINE);
                    if let Some(Destination::Vtep(id)) = question.answer() {
                        *vtep = segment.vteps.get(id.0 as usize);
                        vtep.iter().for_each(|vtep| prefetch::line_of(*vtep));
                    }
                }
                drop(coming);
                for (vtep, mut frame) in vteps.iter().zip(self.batch.drain()) {
                    let mtu = vtep.map_or(0, |vtep| vtep.path_mtu);
                    umem.push(&mut frame, OUTER_LEN).expect("room")[0] = mtu as u8;
                    outbox.push(frame, Role::First, PeerId(0)).expect("room");
                }
            }
            Direction::Decap => {
                let mut coming = self.batch.iter().skip(AHEAD);
                for frame in self.batch.iter() {
                    ask(umem, coming.next());
                    let bytes = umem.bytes(frame);
                    let source = [bytes[26], bytes[27], bytes[28], bytes[29]];
                    seen += usize::from(bytes[LINE as usize]);
                    seen += usize::from(segment.is_peer(source.into()));
                }
                drop(coming);
                for mut frame in self.batch.drain() {
                    umem.pull(&mut frame, OUTER_LEN);
                    outbox.push(frame, Role::First, PeerId(0)).expect("room");
                }
            }
        }
        black_box(seen);
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
