//! TCP segments joined for a TAP, and what a TAP gives cut into segments.
//!
//! | action | what is measured |
//! |---|---|
//! | `join` | a batch of decapsulated segments, checksums verified, joined, taken train by train and released: nanoseconds a segment |
//! | `cut` | a superframe of 64 KB copied into segments, checksums and all: nanoseconds a segment |
//!
//! Sizes are those of payloads. `1-flow`: one run, of which 45 fit into a superframe; `8-flows`: eight runs, interleaved;
//! `bare-acks`: nothing to be joined. Payload is in the caches, as behind a receiver that has just copied it.

use criterion::Criterion;
use vxgate::pipeline::cut::Cut;
use vxgate::pipeline::join::Trains;
use vxgate::port::{BATCH, Batch, ChunkSize, Umem, UmemConfig};
use vxgate::wire::vnet::{self, VnetHeader};

use crate::measure::{Action, Batches};
use crate::rig::tcp::Tcp;

const SEGMENT_LEN: usize = 1448;
/// As many as fit into 64 KB.
const SEGMENTS: usize = 45;

pub fn benches(criterion: &mut Criterion) {
    joining(criterion);
    cutting(criterion);
}

fn joining(criterion: &mut Criterion) {
    let mut action = Action::new(criterion, "join");
    let cases = [
        ("1-flow", false, 1, SEGMENT_LEN),
        ("8-flows", false, 8, SEGMENT_LEN),
        ("1-flow-ipv6", true, 1, SEGMENT_LEN),
        ("bare-acks", false, 1, 0),
    ];
    for (case, six, flows, len) in cases {
        let batches = Batches {
            len: BATCH as u64,
            prepare: Joining::prepare,
            act: Joining::join,
        };
        action.prepared(case, len, || Joining::new(six, flows, len), batches);
    }
}

fn cutting(criterion: &mut Criterion) {
    let mut action = Action::new(criterion, "cut");
    for (case, six) in [("tcp4", false), ("tcp6", true)] {
        let batches = Batches {
            len: SEGMENTS as u64,
            prepare: Cutting::prepare,
            act: Cutting::cut,
        };
        action.prepared(case, SEGMENT_LEN, || Cutting::new(six), batches);
    }
}

fn umem() -> Umem {
    Umem::new(UmemConfig {
        chunk: ChunkSize::K2,
        frames: 2 * BATCH as u32,
        lock: false,
    })
    .expect("some memory")
}

struct Joining {
    umem: Umem,
    frames: Vec<Vec<u8>>,
    batch: Batch,
    trains: Trains,
    train: Batch,
}

impl Joining {
    fn new(six: bool, flows: usize, len: usize) -> Self {
        let frame = |number: usize| {
            let mut tcp = Tcp::plain(six, (number % flows) as u8);
            let before = number / flows;
            tcp.sequence = tcp.sequence.wrapping_add((before * len) as u32);
            tcp.id = tcp.id.wrapping_add(before as u16);
            tcp.payload = vec![0x5a; len];
            tcp.build()
        };
        let mut joining = Self {
            umem: umem(),
            frames: (0..BATCH).map(frame).collect(),
            batch: Batch::new(),
            trains: Trains::new(),
            train: Batch::new(),
        };
        joining.prepare();
        let (umem, batch) = (&mut joining.umem, &mut joining.batch);
        joining.trains.join(umem, batch);
        let mut count = 0;
        while joining.trains.take(&mut joining.train).is_some() {
            umem.release_all(&mut joining.train);
            count += 1;
        }
        let expected = match (len, flows) {
            (0, _) => BATCH,
            (_, 1) => 2,
            (_, flows) => flows,
        };
        assert_eq!(count, expected, "trains");
        joining
    }

    fn prepare(&mut self) {
        for bytes in &self.frames {
            if let Some(mut frame) = self.umem.allocate() {
                self.umem.fill(&mut frame, bytes);
                let full = self.batch.push(frame);
                debug_assert!(full.is_ok());
            }
        }
    }

    fn join(&mut self) {
        self.trains.join(&mut self.umem, &mut self.batch);
        while let Some(train) = self.trains.take(&mut self.train) {
            std::hint::black_box(train.header.bytes());
            self.umem.release_all(&mut self.train);
        }
    }
}

struct Cutting {
    umem: Umem,
    header: VnetHeader,
    superframe: Vec<u8>,
    batch: Batch,
}

impl Cutting {
    fn new(six: bool) -> Self {
        let mut tcp = Tcp::plain(six, 1);
        tcp.payload = vec![0x5a; SEGMENTS * SEGMENT_LEN];
        let superframe = tcp.build_unfinished();
        let headers_len = superframe.len() - tcp.payload.len();
        let header = VnetHeader {
            flags: vnet::NEEDS_CSUM,
            gso_type: if six {
                vnet::GSO_TCPV6
            } else {
                vnet::GSO_TCPV4
            },
            hdr_len: headers_len as u16,
            gso_size: SEGMENT_LEN as u16,
            csum_start: (headers_len - 20 - tcp.options.len()) as u16,
            csum_offset: 16,
            ..VnetHeader::default()
        };
        let mut cutting = Self {
            umem: umem(),
            header,
            superframe,
            batch: Batch::new(),
        };
        cutting.cut();
        assert_eq!(cutting.batch.len(), SEGMENTS);
        cutting
    }

    fn prepare(&mut self) {
        self.umem.release_all(&mut self.batch);
    }

    fn cut(&mut self) {
        if let Some(mut cut) = Cut::new(&self.header, &self.superframe) {
            cut.fill(&mut self.umem, &mut self.batch);
        }
    }
}
