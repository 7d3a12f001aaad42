//! TCP segments and UDP datagrams joined for a TAP, and what a TAP gives cut into segments.
//!
//! | action | what is measured |
//! |---|---|
//! | `join` | a batch of decapsulated segments, checksums verified, joined, taken train by train and released: nanoseconds a segment |
//! | `cut` | a superframe of 64 KB copied into segments, checksums and all: nanoseconds a segment |
//! | `encap-cut` | the same, judged and with outer headers in front of each segment: from the superframe in hand to frames in the transmit ring |
//!
//! Sizes are those of payloads. `1-flow`: one run, of which 45 fit into a superframe; `8-flows`: eight runs, interleaved;
//! `bare-acks`: nothing to be joined; `udp`: one run of datagrams. Payload is in the caches, as behind a receiver that has just copied it.

use criterion::Criterion;
use vxgate::pipeline::cut::Cut;
use vxgate::pipeline::join::Trains;
use vxgate::pipeline::{Exit, IpIds, Outbox, Verdicts, encap, encap_cut};
use vxgate::port::{BATCH, Batch, ChunkSize, MemoryPort, Port, Umem, UmemConfig};
use vxgate::stats::PortCounters;
use vxgate::table::{SegmentId, Snapshot, UdpChecksum};
use vxgate::wire::vnet::{self, VnetHeader};

use crate::measure::{Action, Batches};
use crate::rig;
use crate::rig::tcp::Tcp;

const SEGMENT_LEN: usize = 1448;
/// As many as fit into 64 KB.
const SEGMENTS: usize = 45;

/// Whether over IPv6, and whether UDP.
type Kind = (bool, bool);
const TCP4: Kind = (false, false);
const TCP6: Kind = (true, false);
const UDP4: Kind = (false, true);

pub fn benches(criterion: &mut Criterion) {
    joining(criterion);
    cutting(criterion);
    leaving(criterion);
}

fn joining(criterion: &mut Criterion) {
    let mut action = Action::new(criterion, "join");
    let cases = [
        ("1-flow", TCP4, 1, SEGMENT_LEN),
        ("8-flows", TCP4, 8, SEGMENT_LEN),
        ("1-flow-ipv6", TCP6, 1, SEGMENT_LEN),
        ("bare-acks", TCP4, 1, 0),
        ("udp", UDP4, 1, SEGMENT_LEN),
        ("udp", UDP4, 1, 64),
    ];
    for (case, kind, flows, len) in cases {
        let batches = Batches {
            len: BATCH as u64,
            prepare: Joining::prepare,
            act: Joining::join,
        };
        action.prepared(case, len, || Joining::new(kind, flows, len), batches);
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

fn leaving(criterion: &mut Criterion) {
    let mut action = Action::new(criterion, "encap-cut");
    for (case, checksum) in [
        ("zero-checksum", UdpChecksum::Zero),
        ("checksum", UdpChecksum::Compute),
    ] {
        let batches = Batches {
            len: SEGMENTS as u64,
            prepare: Leaving::prepare,
            act: Leaving::leave,
        };
        action.prepared(case, SEGMENT_LEN, || Leaving::new(checksum), batches);
    }
}

fn umem() -> Umem {
    memory(ChunkSize::K2, 2 * BATCH as u32)
}

fn memory(chunk: ChunkSize, frames: u32) -> Umem {
    Umem::new(UmemConfig {
        chunk,
        frames,
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
    fn new((six, udp): Kind, flows: usize, len: usize) -> Self {
        let frame = |number: usize| {
            let mut tcp = Tcp::plain(six, (number % flows) as u8);
            let before = number / flows;
            tcp.sequence = tcp.sequence.wrapping_add((before * len) as u32);
            tcp.id = tcp.id.wrapping_add(before as u16);
            tcp.payload = vec![0x5a; len];
            if udp {
                tcp.build_datagram()
            } else {
                tcp.build()
            }
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
            (64, 1) => 1,
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

/// Of as many segments as fit, with its header.
fn superframe(six: bool) -> (VnetHeader, Vec<u8>) {
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
    (header, superframe)
}

struct Cutting {
    umem: Umem,
    header: VnetHeader,
    superframe: Vec<u8>,
    batch: Batch,
}

impl Cutting {
    fn new(six: bool) -> Self {
        let (header, superframe) = superframe(six);
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

/// A lane by which superframes leave cut.
struct Leaving {
    snapshot: Snapshot,
    superframes: Umem,
    umem: Umem,
    header: VnetHeader,
    superframe: Vec<u8>,
    port: MemoryPort,
    batch: Batch,
    verdicts: Verdicts,
    outbox: Outbox,
    ip_ids: IpIds,
    counters: PortCounters,
}

impl Leaving {
    fn new(checksum: UdpChecksum) -> Self {
        let mut snapshot = rig::wide(rig::snapshot(rig::Size::default(), 0));
        let segment = snapshot.segments.first_mut().expect("there are two");
        std::sync::Arc::make_mut(&mut segment.config).udp_checksum = checksum;
        let (header, mut superframe) = superframe(false);
        superframe[..6].copy_from_slice(&rig::host(0, 1).0);
        let mut leaving = Self {
            snapshot,
            superframes: memory(ChunkSize::Superframe, 1),
            umem: umem(),
            header,
            superframe,
            port: MemoryPort::new(BATCH),
            batch: Batch::new(),
            verdicts: Verdicts::new(),
            outbox: Outbox::new(),
            ip_ids: IpIds::new(0),
            counters: PortCounters::default(),
        };
        leaving.prepare();
        leaving.leave();
        assert_eq!(leaving.port.complete(BATCH), SEGMENTS);
        leaving
    }

    /// The kernel has sent the last one, and here is the next.
    fn prepare(&mut self) {
        self.port.complete(BATCH);
        self.port.reclaim(&mut self.umem);
        if let Some(mut frame) = self.superframes.allocate() {
            self.superframes.fill(&mut frame, &self.superframe);
            let header = self.header.bytes();
            self.superframes.room_mut(&mut frame)[..header.len()].copy_from_slice(&header);
            let full = self.batch.push(frame);
            debug_assert!(full.is_ok());
        }
    }

    fn leave(&mut self) {
        let (snapshot, segment) = (&self.snapshot, SegmentId(0));
        let (batch, verdicts) = (&mut self.batch, &mut self.verdicts);
        encap::decide_superframes(snapshot, segment, &self.superframes, batch, verdicts);
        let mut exit = Exit {
            port: &mut self.port,
            outbox: &mut self.outbox,
            ip_ids: &mut self.ip_ids,
        };
        let memories = (&mut self.superframes, &mut self.umem);
        let counters = &self.counters;
        encap_cut::apply(
            snapshot, segment, memories, batch, verdicts, counters, &mut exit,
        );
        exit.flush(&mut self.umem, counters);
    }
}
