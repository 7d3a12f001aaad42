//! Inner checksums that a pod left for hardware: what encapsulation pays to finish them.
//!
//! `udp4`, `tcp4`, `tcp6` and `sctp4` are finished, over the length of the frame; `right-tcp4` is found to be whole, which
//! is what every other frame pays.

use std::hint::black_box;

use criterion::Criterion;
use etherparse::{IpNumber, PacketBuilder, PacketBuilderStep};
use vxgate::pipeline::unfinished;
use vxgate::wire::checksum;
use vxgate::wire::layers::Layers;

use crate::measure::{Action, Batches};

const BATCH: usize = 64;
const LENGTHS: [usize; 3] = [80, 512, 1450];
const SOURCE: MacPair = ([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]);
type MacPair = ([u8; 6], [u8; 6]);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Carried {
    Udp4,
    Tcp4,
    Tcp6,
    Sctp4,
}

pub fn benches(criterion: &mut Criterion) {
    let mut action = Action::new(criterion, "finish");
    let cases = [
        ("udp4", Carried::Udp4, true),
        ("tcp4", Carried::Tcp4, true),
        ("tcp6", Carried::Tcp6, true),
        ("sctp4", Carried::Sctp4, true),
        ("right-tcp4", Carried::Tcp4, false),
    ];
    for (case, carried, is_unfinished) in cases {
        for len in LENGTHS {
            let batches = Batches {
                len: BATCH as u64,
                prepare: Frames::leave_unfinished,
                act: |frames: &mut Frames| {
                    for frame in &mut frames.frames {
                        let found = unfinished::complete(black_box(frame), &frames.layers);
                        debug_assert_eq!(found, is_unfinished);
                        black_box(found);
                    }
                },
            };
            let setup = || Frames::new(carried, len, is_unfinished);
            action.prepared(case, len, setup, batches);
        }
    }
}

/// A batch of equal frames.
struct Frames {
    frames: Vec<Vec<u8>>,
    layers: Layers,
    /// Where the checksum is, and what it is before it is finished.
    field: (usize, Vec<u8>),
}

impl Frames {
    fn new(carried: Carried, len: usize, is_unfinished: bool) -> Self {
        let frame = build(carried, len);
        let layers = Layers::parse(&frame).expect("a whole frame");
        let transport = layers.transport.expect("a whole packet");
        let (at, len) = match carried {
            Carried::Udp4 => (6, 2),
            Carried::Tcp4 | Carried::Tcp6 => (16, 2),
            Carried::Sctp4 => (8, 4),
        };
        let field = transport.offset + at..transport.offset + at + len;
        let before = if is_unfinished && carried != Carried::Sctp4 {
            let addresses = match carried {
                Carried::Tcp6 => 22..54,
                _ => 26..34,
            };
            let rest = u32::from(transport.protocol) + transport.len as u32;
            let pseudo = checksum::fold(checksum::sum(&frame[addresses]) + rest);
            pseudo.to_be_bytes().to_vec()
        } else {
            // SCTP's is built as 0, which stands for unfinished.
            frame[field.clone()].to_vec()
        };
        Self {
            frames: vec![frame; BATCH],
            layers,
            field: (field.start, before),
        }
    }

    fn leave_unfinished(&mut self) {
        let (at, before) = &self.field;
        for frame in &mut self.frames {
            frame[*at..at + before.len()].copy_from_slice(before);
        }
    }
}

/// A frame of this length with a right checksum, or with none where it carries SCTP.
fn build(carried: Carried, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let payload = |headers: usize| vec![0x5a; len - headers];
    let v4 = ethernet().ipv4([10, 244, 0, 1], [10, 244, 1, 1], 64);
    let written = match carried {
        Carried::Udp4 => v4.udp(1000, 53).write(&mut bytes, &payload(42)),
        Carried::Tcp4 => v4.tcp(1000, 80, 7, 64_000).write(&mut bytes, &payload(54)),
        Carried::Tcp6 => ethernet()
            .ipv6([0xfd; 16], [0xfc; 16], 64)
            .tcp(1000, 80, 7, 64_000)
            .write(&mut bytes, &payload(74)),
        Carried::Sctp4 => {
            let mut sctp = payload(34);
            sctp[8..12].fill(0);
            v4.write(&mut bytes, IpNumber::SCTP, &sctp)
        }
    };
    written.expect("room in memory");
    assert_eq!(bytes.len(), len);
    bytes
}

fn ethernet() -> PacketBuilderStep<etherparse::Ethernet2Header> {
    PacketBuilder::ethernet2(SOURCE.0, SOURCE.1)
}
