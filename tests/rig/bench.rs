//! One direction of the pipeline by itself: frames in, verdicts and frames out, with guards around every frame.

use std::io;
use std::os::fd::RawFd;

use vxgate::pipeline::{Exit, IpIds, Outbox, Verdict, Verdicts, carrier, decap, encap, encap_cut};
use vxgate::port::{Batch, ChunkSize, Frame, Port, PortStatistics, ROOM, Umem, UmemConfig};
use vxgate::stats::{DropReason, PortCounters};
use vxgate::table::{SegmentId, Snapshot};
use vxgate::wire::vnet::VnetHeader;

/// What the chunks between those of frames are filled with.
const GUARD: u8 = 0xa5;

/// A UMEM in which every second chunk is a guard, the counters of the port that the frames came in by, and a port that
/// keeps what it is given.
pub struct Bench {
    pub umem: Umem,
    pub counters: PortCounters,
    pub ip_ids: IpIds,
    guards: Vec<Frame>,
}

/// Verdicts in the order of the batch, and what each port was given.
pub struct Outcome {
    pub verdicts: Vec<Verdict>,
    pub sent: Vec<Vec<Vec<u8>>>,
}

impl Bench {
    /// With memory for this many frames, copies included.
    pub fn new(frames: usize) -> Self {
        let mut umem = Umem::new(UmemConfig {
            chunk: ChunkSize::K2,
            frames: 2 * frames as u32,
            lock: false,
        })
        .expect("some memory");
        let (mut guards, mut pool) = (Vec::new(), Vec::new());
        // What lies in a chunk from the frame before is told from what was written into this one.
        let fill = |umem: &mut Umem, mut frame: Frame| {
            let chunk_len = umem.chunk_len();
            umem.push(&mut frame, ROOM).expect("as every new frame");
            assert!(umem.fill(&mut frame, &vec![GUARD; chunk_len]));
            frame
        };
        while let Some(frame) = umem.allocate() {
            guards.push(fill(&mut umem, frame));
            let frame = umem.allocate();
            pool.extend(frame.map(|frame| fill(&mut umem, frame)));
        }
        for frame in pool {
            umem.release(frame);
        }
        Self {
            umem,
            counters: PortCounters::default(),
            ip_ids: IpIds::new(0),
            guards,
        }
    }

    fn batch(&mut self, frames: &[Vec<u8>]) -> Batch {
        let mut batch = Batch::new();
        for bytes in frames {
            let mut frame = self.umem.allocate().expect("a chunk for each");
            assert!(
                self.umem.fill(&mut frame, bytes),
                "a frame of {} bytes",
                bytes.len()
            );
            batch.push(frame).expect("no more than a batch");
        }
        self.counters.received.add(frames.len() as u64);
        batch
    }

    /// From the underlay.
    pub fn decap(&mut self, snapshot: &Snapshot, frames: &[Vec<u8>]) -> Outcome {
        let (mut batch, mut verdicts) = (self.batch(frames), Verdicts::new());
        decap::decide(snapshot, &self.umem, &batch, &mut verdicts);
        let mut out: Vec<_> = snapshot.segments.iter().map(|_| Outbox::new()).collect();
        decap::apply(
            snapshot,
            &mut self.umem,
            &mut batch,
            &verdicts,
            &self.counters,
            &mut out,
        );
        assert!(batch.is_empty());
        let mut sent = Vec::new();
        for outbox in &mut out {
            let mut port = Keeper::default();
            outbox.flush(
                &mut port,
                &mut self.umem,
                &self.counters,
                DropReason::TxRingFull,
            );
            port.reclaim(&mut self.umem);
            sent.push(port.sent);
        }
        Outcome {
            verdicts: verdicts.iter().collect(),
            sent,
        }
    }

    /// From the access port of a segment.
    pub fn encap(&mut self, snapshot: &Snapshot, segment: usize, frames: &[Vec<u8>]) -> Outcome {
        let (mut batch, mut verdicts) = (self.batch(frames), Verdicts::new());
        let id = SegmentId(segment as u16);
        let (mut port, mut outbox) = (Keeper::default(), Outbox::new());
        carrier::lift(snapshot, id, &mut self.umem, &mut batch);
        encap::decide(snapshot, id, &self.umem, &batch, &mut verdicts);
        let mut exit = Exit {
            port: &mut port,
            outbox: &mut outbox,
            ip_ids: &mut self.ip_ids,
        };
        let (umem, counters) = (&mut self.umem, &self.counters);
        encap::apply(
            snapshot, id, umem, &mut batch, &verdicts, counters, &mut exit,
        );
        exit.flush(umem, counters);
        assert!(batch.is_empty() && outbox.is_empty());
        port.reclaim(&mut self.umem);
        Outcome {
            verdicts: verdicts.iter().collect(),
            sent: vec![port.sent],
        }
    }

    /// From the access TAP of a segment, to leave cut.
    pub fn encap_cut(
        &mut self,
        snapshot: &Snapshot,
        segment: usize,
        (header, bytes): (&VnetHeader, &[u8]),
    ) -> Outcome {
        let mut superframes = Umem::new(UmemConfig {
            chunk: ChunkSize::Superframe,
            frames: 1,
            lock: false,
        })
        .expect("some memory");
        let mut frame = superframes.allocate().expect("it has one");
        assert!(superframes.fill(&mut frame, bytes));
        let header = header.bytes();
        superframes.room_mut(&mut frame)[..header.len()].copy_from_slice(&header);
        let (mut batch, mut verdicts) = (Batch::new(), Verdicts::new());
        batch.push(frame).expect("it is empty");
        self.counters.received.add(1);
        let id = SegmentId(segment as u16);
        encap::decide_superframes(snapshot, id, &superframes, &batch, &mut verdicts);
        let (mut port, mut outbox) = (Keeper::default(), Outbox::new());
        let mut exit = Exit {
            port: &mut port,
            outbox: &mut outbox,
            ip_ids: &mut self.ip_ids,
        };
        let memories = (&mut superframes, &mut self.umem);
        let counters = &self.counters;
        encap_cut::apply(
            snapshot, id, memories, &mut batch, &verdicts, counters, &mut exit,
        );
        exit.flush(&mut self.umem, counters);
        assert!(batch.is_empty() && outbox.is_empty());
        assert_eq!(superframes.free(), 1);
        port.reclaim(&mut self.umem);
        Outcome {
            verdicts: verdicts.iter().collect(),
            sent: vec![port.sent],
        }
    }

    /// Every frame that came in left or died of something, its memory is back, and nothing was written beside it.
    pub fn check(&self) {
        let received = self.counters.received.get();
        let dead = super::drops(&self.counters);
        assert_eq!(
            received,
            self.counters.forwarded.get() + dead,
            "{:?}",
            self.counters
        );
        assert_eq!(
            self.umem.free() + self.guards.len(),
            self.umem.frames() as usize
        );
        for guard in &self.guards {
            assert!(
                self.umem.bytes(guard).iter().all(|byte| *byte == GUARD),
                "a frame left its chunk"
            );
        }
    }
}

/// A port that takes everything, keeps it until it is asked to give it back, and looks whether it lies in its chunk.
#[derive(Default)]
struct Keeper {
    waiting: Vec<Frame>,
    sent: Vec<Vec<u8>>,
}

impl Port for Keeper {
    fn receive(&mut self, _: &mut Umem, _: &mut Batch) -> usize {
        0
    }

    fn transmit(&mut self, batch: &mut Batch) -> usize {
        let before = self.waiting.len();
        self.waiting.extend(batch.drain());
        self.waiting.len() - before
    }

    fn reclaim(&mut self, umem: &mut Umem) -> usize {
        let count = self.waiting.len();
        for frame in self.waiting.drain(..) {
            let end = umem.room_in_front(&frame) + frame.len();
            assert!(
                end <= umem.chunk_len(),
                "a frame ends at {end} of its chunk"
            );
            self.sent.push(umem.bytes(&frame).to_vec());
            umem.release(frame);
        }
        count
    }

    fn refill(&mut self, _: &mut Umem) -> usize {
        0
    }

    fn poll_fd(&self) -> Option<RawFd> {
        None
    }

    fn statistics(&self) -> io::Result<PortStatistics> {
        Ok(PortStatistics::default())
    }
}
