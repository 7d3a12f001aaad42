//! Tests of what comes out of a TAP: superframes stay whole, are judged by their segments, and say what is left to do.

use std::sync::Arc;

use etherparse::PacketBuilder;

use super::lab::{NEAR, OWN, UNKNOWN, config, config6, segment};
use super::{Exit, IpIds, Outbox, Verdict, Verdicts, encap};
use crate::port::{Batch, ChunkSize, MemoryPort, Port, Umem, UmemConfig};
use crate::stats::{DropReason, PortCounters};
use crate::table::{Segment, SegmentConfig, SegmentId, Snapshot, UdpChecksum, VtepId};
use crate::wire::vnet::{GSO_TCPV4, GSO_UDP_L4, NEEDS_CSUM, VnetHeader};
use crate::wire::{MacAddr, checksum};

pub(super) const SEGMENT: u16 = 1360;
const HEADERS: usize = 14 + 20 + 20;

/// TCP from a socket: the checksum's field holds the sum over the pseudo-header.
pub(super) fn tcp(destination: MacAddr, payload: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(OWN.0, destination.0)
        .ipv4([10, 244, 0, 5], [10, 244, 1, 5], 64)
        .tcp(1, 2, 3, 64)
        .write(&mut bytes, &vec![0x5a; payload])
        .unwrap();
    let len = (bytes.len() - 34) as u16;
    let pseudo = checksum::pseudo_ipv4([10, 244, 0, 5].into(), [10, 244, 1, 5].into(), 6, len);
    bytes[50..52].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
    bytes
}

/// As the kernel tells of a superframe.
pub(super) fn header() -> VnetHeader {
    VnetHeader {
        flags: NEEDS_CSUM,
        gso_type: GSO_TCPV4,
        hdr_len: 200,
        gso_size: SEGMENT,
        csum_start: 34,
        csum_offset: 16,
        ..VnetHeader::default()
    }
}

struct Lane {
    umem: Umem,
    snapshot: Snapshot,
    counters: PortCounters,
    port: MemoryPort,
    ip_ids: IpIds,
}

impl Lane {
    fn new(segment: Segment) -> Self {
        Self {
            umem: Umem::new(UmemConfig {
                chunk: ChunkSize::Superframe,
                frames: 4,
                lock: false,
            })
            .unwrap(),
            snapshot: Snapshot {
                generation: 0,
                segments: vec![segment],
            },
            counters: PortCounters::default(),
            port: MemoryPort::new(8),
            ip_ids: IpIds::new(0),
        }
    }

    /// One frame with its header goes in; the verdict, and what goes out, with their headers.
    fn encap(&mut self, header: VnetHeader, bytes: &[u8]) -> (Verdict, Vec<(VnetHeader, Vec<u8>)>) {
        let mut frame = self.umem.allocate().unwrap();
        assert!(self.umem.fill(&mut frame, bytes));
        self.umem.room_mut(&mut frame)[..24].copy_from_slice(&header.bytes());
        let (mut batch, mut verdicts) = (Batch::new(), Verdicts::new());
        batch.push(frame).unwrap();
        let mut outbox = Outbox::new();
        let mut exit = Exit {
            port: &mut self.port,
            outbox: &mut outbox,
            ip_ids: &mut self.ip_ids,
        };
        let (snapshot, umem) = (&self.snapshot, &mut self.umem);
        let id = SegmentId(0);
        encap::decide_superframes(snapshot, id, umem, &batch, &mut verdicts);
        let counters = &self.counters;
        encap::apply_superframes(
            snapshot, id, umem, &mut batch, &verdicts, counters, &mut exit,
        );
        let mut out = Vec::new();
        for frame in outbox.frames() {
            let header = VnetHeader::parse(umem.room(frame)).unwrap();
            out.push((header, umem.bytes(frame).to_vec()));
        }
        outbox.discard(umem, counters, DropReason::LinkDown);
        self.port.reclaim(umem);
        (verdicts.iter().next().unwrap(), out)
    }
}

fn lane(change: impl FnOnce(&mut SegmentConfig)) -> Lane {
    let mut config = config();
    change(&mut config);
    Lane::new(segment(config))
}

#[test]
fn a_superframe_stays_one_and_its_header_tells_where_everything_is() {
    let inner = tcp(NEAR, 60_000);
    for (mut lane, outer, expected) in [
        (
            lane(|config| config.udp_checksum = UdpChecksum::Compute),
            50,
            [9, 0x21, 104, 0, 0x50, 5, 84, 0, 16, 0, 34, 0, 64, 0],
        ),
        (
            lane(|config| config.udp_checksum = UdpChecksum::Zero),
            50,
            [1, 0x21, 104, 0, 0x50, 5, 84, 0, 16, 0, 34, 0, 64, 0],
        ),
        (
            Lane::new(segment(config6())),
            70,
            [9, 0x41, 124, 0, 0x50, 5, 104, 0, 16, 0, 54, 0, 84, 0],
        ),
    ] {
        let (verdict, out) = lane.encap(header(), &inner);
        assert_eq!(verdict, Verdict::Encap(VtepId(0)));
        let [(header, frame)] = &out[..] else {
            panic!("{} frames", out.len())
        };
        assert!(frame[outer..] == inner, "not a byte is touched");
        let bytes = header.bytes();
        assert_eq!(
            (&bytes[..10], &bytes[20..]),
            (&expected[..10], &expected[10..])
        );
        let counters = &lane.counters;
        assert_eq!(
            (counters.superframes.get(), counters.segments.get()),
            (1, 45)
        );
        // 45 numbers are spent, so that no other packet has the number of a segment.
        let (_, out) = lane.encap(self::header(), &inner);
        if outer == 50 {
            assert_eq!(
                (&frame[18..20], &out[0].1[18..20]),
                (&[0, 1][..], &[0, 46][..])
            );
        }
    }
}

#[test]
fn a_train_of_datagrams_stays_one() {
    let mut inner = Vec::new();
    PacketBuilder::ethernet2(OWN.0, NEAR.0)
        .ipv4([10, 244, 0, 5], [10, 244, 1, 5], 64)
        .udp(1, 2)
        .write(&mut inner, &vec![0x5a; 60_000])
        .unwrap();
    let len = (inner.len() - 34) as u16;
    let pseudo = checksum::pseudo_ipv4([10, 244, 0, 5].into(), [10, 244, 1, 5].into(), 17, len);
    inner[40..42].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
    let told = VnetHeader {
        gso_type: GSO_UDP_L4,
        csum_offset: 6,
        ..header()
    };
    for (mut lane, outer, expected) in [
        (
            lane(|config| config.udp_checksum = UdpChecksum::Compute),
            50,
            [9, 0x25, 92, 0, 0x50, 5, 84, 0, 6, 0, 34, 0, 64, 0],
        ),
        (
            Lane::new(segment(config6())),
            70,
            [9, 0x45, 112, 0, 0x50, 5, 104, 0, 6, 0, 54, 0, 84, 0],
        ),
    ] {
        let (verdict, out) = lane.encap(told, &inner);
        assert_eq!(verdict, Verdict::Encap(VtepId(0)));
        assert!(out[0].1[outer..] == inner, "not a byte is touched");
        let bytes = out[0].0.bytes();
        assert_eq!(
            (&bytes[..10], &bytes[20..]),
            (&expected[..10], &expected[10..])
        );
        let counters = &lane.counters;
        assert_eq!(
            (counters.superframes.get(), counters.segments.get()),
            (1, 45)
        );
    }
}

#[test]
fn what_the_path_takes_is_asked_of_a_segment() {
    let inner = tcp(NEAR, 60_000);
    let outer_packet = 36 + HEADERS + usize::from(SEGMENT);
    for (mtu, fate) in [
        (outer_packet, Verdict::Encap(VtepId(0))),
        (outer_packet - 1, Verdict::Drop(DropReason::Oversize)),
    ] {
        let mut lane = lane(|config| config.underlay_mtu = mtu as u16);
        let (verdict, out) = lane.encap(header(), &inner);
        assert_eq!(verdict, fate);
        assert_eq!(out.len(), usize::from(fate == Verdict::Encap(VtepId(0))));
    }
}

#[test]
fn a_frame_that_stays_whole_is_finished() {
    let mut lane = lane(|config| config.udp_checksum = UdpChecksum::Compute);
    let small = tcp(NEAR, 100);
    let plain = VnetHeader {
        gso_type: 0,
        gso_size: 0,
        ..header()
    };
    // One whose header names a size that it does not exceed is no superframe.
    for header in [plain, header()] {
        let (_, out) = lane.encap(header, &small);
        assert_eq!(out[0].0, VnetHeader::default());
        let inner = &out[0].1[50..];
        let pseudo = checksum::pseudo_ipv4([10, 244, 0, 5].into(), [10, 244, 1, 5].into(), 6, 120);
        let sum = checksum::fold(pseudo + checksum::sum(&inner[34..]));
        assert_eq!(sum, 0xffff, "the inner checksum");
        let outer = &out[0].1;
        let pseudo = checksum::pseudo_ipv4(
            [192, 0, 2, 1].into(),
            [192, 0, 2, 2].into(),
            17,
            outer.len() as u16 - 34,
        );
        let sum = checksum::fold(pseudo + checksum::sum(&outer[34..]));
        assert_eq!(sum, 0xffff, "the outer checksum");
    }
    assert_eq!(lane.counters.superframes.get(), 0);
    assert_eq!(lane.counters.checksums_completed.get(), 2);
}

/// A pod's own tunnel: VXLAN over UDP with a whole checksum, and TCP within it whose checksum is left; and as it should leave.
pub(super) fn nested() -> ((VnetHeader, Vec<u8>), Vec<u8>) {
    let carried = [&[8, 0, 0, 0, 0, 0, 7, 0][..], &tcp(NEAR, 101)].concat();
    let mut left = Vec::new();
    PacketBuilder::ethernet2(OWN.0, NEAR.0)
        .ipv4([10, 244, 0, 5], [10, 244, 1, 5], 64)
        .udp(50_000, 4790)
        .write(&mut left, &carried)
        .unwrap();
    let told = VnetHeader {
        gso_type: 0,
        gso_size: 0,
        csum_start: 50 + 34,
        ..header()
    };
    let mut finished = left.clone();
    let sum = checksum::finish(checksum::sum(&left[84..]));
    finished[100..102].copy_from_slice(&sum.to_be_bytes());
    ((told, left), finished)
}

#[test]
fn a_checksum_within_a_tunnel_of_the_sender_s_own_is_finished() {
    let ((told, left), finished) = nested();
    let mut lane = lane(|_| {});
    let (_, out) = lane.encap(told, &left);
    assert_eq!(out[0].0, VnetHeader::default());
    assert_eq!(out[0].1[50..], finished);
    assert_eq!(lane.counters.checksums_completed.get(), 1);
    // One that is not in the frame is not looked for.
    let nowhere = VnetHeader {
        csum_start: left.len() as u16 - 17,
        ..told
    };
    let (_, out) = lane.encap(nowhere, &left);
    assert_eq!(out[0].1[50..], left);
    assert_eq!(lane.counters.checksums_completed.get(), 1);
}

#[test]
fn every_copy_of_a_flooded_superframe_has_its_header() {
    let mut segment = segment(config());
    segment.flood = Arc::new(vec![VtepId(0), VtepId(1)]);
    let mut lane = Lane::new(segment);
    let inner = tcp(UNKNOWN, 30_000);
    let (verdict, out) = lane.encap(header(), &inner);
    assert_eq!((verdict, out.len()), (Verdict::Flood, 2));
    assert_eq!(out[0].0, out[1].0);
    assert_eq!(out[0].0.csum_start, 84);
    assert!(out.iter().all(|(_, frame)| frame[50..] == inner));
    assert_eq!((out[0].1[33], out[1].1[33]), (2, 3));
}

#[test]
fn an_unknown_destination_and_a_segment_that_is_gone_are_counted() {
    let mut lane = lane(|_| {});
    let (verdict, out) = lane.encap(header(), &tcp(UNKNOWN, 5000));
    assert_eq!(
        (verdict, out.len()),
        (Verdict::Drop(DropReason::NoTxTarget), 0)
    );
    lane.snapshot.segments.clear();
    let (verdict, _) = lane.encap(header(), &tcp(NEAR, 5000));
    assert_eq!(verdict, Verdict::Drop(DropReason::LinkDown));
    assert_eq!(lane.umem.free(), 4);
}
