//! From the overlay to the underlay, where nobody behind us cuts superframes: the worker does it, and what leaves are frames
//! of the wire.
//!
//! ```text
//!   superframes' memory                        frames' memory, one chunk a segment
//!   | headers | payload ......... |  ──cut──▶  | outer | headers | payload |   | outer | headers | payload |   ...
//! ```
//!
//! It is judged once (`encap::decide_superframes`), and its payload is touched once: copied to where a segment has room in
//! front, and summed there ([`super::cut`]). The outer checksum follows from the inner one, and each outer header has an
//! identification of its own, one more than the last: as the kernel's GSO makes them of a superframe in a tunnel.
//!
//! A superframe leaves whole or not at all: whether there are chunks and room in the port's ring for all of its segments is
//! looked at before the first is written. Its fate is that of its first segment, the only one that is in the balance; the
//! others are counted beside it (`segments_sent`, `segments_lost`). Lost ones there are only when the link goes down between two
//! of them, or narrows.
//!
//! What comes out of the TAP and is no superframe is copied, its checksum finished where its header asks for that, and
//! encapsulated as if it had come in by the access port.

use std::iter;
use std::slice;

use super::cut::{self, Cut};
use super::encap::{Push, Way, carry_out, members, reach, unreachable};
use super::note::Note;
use super::{Exit, Role, Verdict, Verdicts};
use crate::port::{Batch, Frame, Port, Umem};
use crate::stats::{DropReason, PeerId, PortCounters, Shape};
use crate::table::{EncapTemplate, OuterFields, Segment, SegmentId, Snapshot, UdpChecksum};
use crate::wire::vnet::{self, VnetHeader};

/// Carries out what `encap::decide_superframes` has judged: frames of the first memory become frames of the second with their
/// outer headers, and go to the exit; the dead are counted. All are released, and the batch is empty afterwards; the exit's
/// outbox may hold frames that wait for [`Exit::flush`].
pub fn apply<P: Port>(
    snapshot: &Snapshot,
    segment: SegmentId,
    (superframes, umem): (&mut Umem, &mut Umem),
    batch: &mut Batch,
    verdicts: &Verdicts,
    counters: &PortCounters,
    exit: &mut Exit<'_, P>,
) {
    let segment = snapshot.segment(segment);
    for (index, frame) in batch.drain().enumerate() {
        let judged = verdicts.push(index);
        let bytes = superframes.bytes(&frame);
        let header = VnetHeader::parse(superframes.room(&frame)).unwrap_or_default();
        let sent = match (judged.0, segment) {
            (Verdict::Drop(reason), _) => Err(reason),
            (_, Some(segment)) if header.gso_type != vnet::GSO_NONE => {
                match Cut::new(&header, bytes) {
                    Some(cut) => cut_up(segment, judged, &cut, umem, counters, exit),
                    None => Err(DropReason::RxInvalid),
                }
            }
            (_, segment) => send_copy(segment, judged, (&header, bytes), umem, counters, exit),
        };
        if let Err(reason) = sent {
            counters.died(reason, Shape::Arrived, bytes);
        }
        superframes.release(frame);
    }
}

/// Sends a frame that is no superframe, with the checksum finished that its header asks for.
fn send_copy<P: Port>(
    segment: Option<&Segment>,
    judged: (Verdict, Push),
    (header, bytes): (&VnetHeader, &[u8]),
    umem: &mut Umem,
    counters: &PortCounters,
    exit: &mut Exit<'_, P>,
) -> Result<(), DropReason> {
    make_room(1, umem, counters, exit)?;
    let mut frame = umem.allocate().ok_or(DropReason::NoFrame)?;
    let sent = if umem.fill(&mut frame, bytes) {
        let finished = cut::finish_told(header, umem.bytes_mut(&mut frame));
        counters.checksums_completed.add(u64::from(finished));
        carry_out::<false, P>(segment, judged, umem, frame, counters, exit)
    } else {
        Err((frame, DropReason::Oversize))
    };
    sent.map_err(|(frame, reason)| {
        umem.release(frame);
        reason
    })
}

/// Sends a superframe to each VTEP that it is for.
fn cut_up<P: Port>(
    segment: &Segment,
    (verdict, push): (Verdict, Push),
    cut: &Cut<'_>,
    umem: &mut Umem,
    counters: &PortCounters,
    exit: &mut Exit<'_, P>,
) -> Result<(), DropReason> {
    let list = match &verdict {
        Verdict::Encap(vtep) => slice::from_ref(vtep),
        Verdict::Flood => &segment.flood,
        Verdict::List(list) => members(segment, *list),
        Verdict::Drop(_) | Verdict::Deliver(_) | Verdict::DeliverStranger(_) => &[],
    };
    if !cut.fits(umem) {
        return Err(DropReason::Oversize);
    }
    let len = cut.frame_len();
    let mut reachable = list
        .iter()
        .filter_map(|vtep| reach(&segment.vteps, *vtep, len).ok());
    let Some(first) = reachable.next() else {
        return Err(unreachable(list, segment, len, counters));
    };
    // The devices whose frames carry marks have no TAP.
    let fields = push.fields(&segment.config, 0, None);
    let (mut role, mut handed_on, mut dead) = (Role::First, 0, None);
    for Way { template, peer } in iter::once(first).chain(reachable) {
        match make_room(cut.remaining(), umem, counters, exit) {
            Ok(()) => {
                let outer = Outer {
                    template,
                    peer,
                    fields,
                    with_checksum: segment.config.udp_checksum == UdpChecksum::Compute,
                };
                outer.put_all(cut.clone(), role, umem, counters, exit);
                handed_on += 1;
            }
            Err(reason) if role == Role::First => dead = Some(reason),
            Err(_) => {}
        }
        role = Role::Copy;
    }
    if handed_on > 0 && cut.remaining() > 1 {
        counters.superframes.add(1);
        counters.segments.add(cut.remaining() as u64);
    }
    let accounted = handed_on + usize::from(dead.is_some());
    counters
        .flood_copies_lost
        .add(list.len().saturating_sub(accounted) as u64);
    dead.map_or(Ok(()), Err)
}

/// Sees to it that so many frames find chunks and will find room in the port; why not, when it cannot be.
#[inline]
fn make_room<P: Port>(
    frames: usize,
    umem: &mut Umem,
    counters: &PortCounters,
    exit: &mut Exit<'_, P>,
) -> Result<(), DropReason> {
    if missing(frames, umem, exit).is_none() {
        return Ok(());
    }
    // The port may give frames back at once.
    exit.flush(umem, counters);
    exit.port.reclaim(umem);
    match missing(frames, umem, exit) {
        None => Ok(()),
        Some(_) if exit.port.link_down() => Err(DropReason::LinkDown),
        Some(reason) => Err(reason),
    }
}

/// What so many frames more would be lost of.
#[inline]
fn missing<P: Port>(frames: usize, umem: &Umem, exit: &mut Exit<'_, P>) -> Option<DropReason> {
    if umem.free() < frames {
        Some(DropReason::NoFrame)
    } else if !exit.port.has_room(exit.outbox.len() + frames) {
        Some(DropReason::TxRingFull)
    } else {
        None
    }
}

/// What all segments of a superframe to one VTEP have in front of them.
struct Outer<'a> {
    template: &'a EncapTemplate,
    peer: PeerId,
    fields: OuterFields,
    with_checksum: bool,
}

impl Outer<'_> {
    /// Puts all segments into the outbox; the first in this role.
    fn put_all<P: Port>(
        mut self,
        mut cut: Cut<'_>,
        mut role: Role,
        umem: &mut Umem,
        counters: &PortCounters,
        exit: &mut Exit<'_, P>,
    ) {
        while cut.remaining() > 0 {
            let Some((mut frame, sum)) = cut.next(umem) else {
                // There were chunks enough. The books hold all the same, should that ever be untrue.
                role.count_lost(counters, DropReason::NoFrame);
                counters.segments_lost.add(cut.remaining() as u64 - 1);
                return;
            };
            self.fields.ip_id = exit.ip_ids.next_id();
            self.fields.inner_sum = sum.filter(|_| self.with_checksum);
            if self.push(&mut frame, umem) {
                let note = Note::new(self.peer, &frame, 1);
                exit.put(frame, role, note, umem, counters);
            } else {
                role.lose(counters, DropReason::NoFrame, umem.bytes(&frame));
                umem.release(frame);
            }
            role = role.rest();
        }
    }

    #[inline(always)]
    fn push(&self, frame: &mut Frame, umem: &mut Umem) -> bool {
        umem.push(frame, self.template.len())
            .is_some_and(|bytes| self.template.write(bytes, &self.fields))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::super::lab::{FAR, LOST, NEAR, UNKNOWN, config, config6, segment};
    use super::super::superframes::{SEGMENT, header, nested, tcp};
    use super::super::{IpIds, Outbox, encap};
    use super::*;
    use crate::port::{BATCH, ChunkSize, MemoryPort, UmemConfig};
    use crate::table::{Segment, SegmentConfig, UnresolvedReason};

    const SUPERFRAMES: u32 = 4;
    const FRAMES: u32 = 256;

    struct Lane {
        superframes: Umem,
        frames: Umem,
        snapshot: Snapshot,
        counters: PortCounters,
        port: MemoryPort,
        ip_ids: IpIds,
    }

    fn umem(chunk: ChunkSize, frames: u32) -> Umem {
        Umem::new(UmemConfig {
            chunk,
            frames,
            lock: false,
        })
        .unwrap()
    }

    impl Lane {
        fn new(segment: Segment) -> Self {
            Self {
                superframes: umem(ChunkSize::Superframe, SUPERFRAMES),
                frames: umem(ChunkSize::K2, FRAMES),
                snapshot: Snapshot {
                    generation: 0,
                    segments: vec![segment],
                },
                counters: PortCounters::default(),
                port: MemoryPort::new(256),
                ip_ids: IpIds::new(0xfffe),
            }
        }

        /// Frames with their headers go in; what went out. Each of these has one fate, and all memory is back.
        fn encap(&mut self, arrived: &[(VnetHeader, &[u8])]) -> Vec<Vec<u8>> {
            let (mut batch, mut verdicts) = (Batch::new(), Verdicts::new());
            for (header, bytes) in arrived {
                let mut frame = self.superframes.allocate().unwrap();
                assert!(self.superframes.fill(&mut frame, bytes));
                self.superframes.room_mut(&mut frame)[..24].copy_from_slice(&header.bytes());
                batch.push(frame).unwrap();
                self.counters.received.add(1);
            }
            let id = SegmentId(0);
            encap::decide_superframes(&self.snapshot, id, &self.superframes, &batch, &mut verdicts);
            let mut outbox = Outbox::new();
            let mut exit = Exit {
                port: &mut self.port,
                outbox: &mut outbox,
                ip_ids: &mut self.ip_ids,
            };
            let memories = (&mut self.superframes, &mut self.frames);
            let counters = &self.counters;
            let snapshot = &self.snapshot;
            apply(
                snapshot, id, memories, &mut batch, &verdicts, counters, &mut exit,
            );
            exit.flush(&mut self.frames, counters);
            assert!(batch.is_empty() && outbox.is_empty());
            let sent = std::iter::from_fn(|| self.port.collect(&mut self.frames)).collect();
            self.port.reclaim(&mut self.frames);
            let dead: u64 = DropReason::ALL.iter().map(|why| counters.drops(*why)).sum();
            assert_eq!(counters.received.get(), counters.forwarded.get() + dead);
            assert_eq!(self.superframes.free(), SUPERFRAMES as usize);
            assert_eq!(self.frames.free(), self.frames.frames() as usize);
            sent
        }

        /// Superframes, their segments, and of these beyond the first the sent and the lost ones.
        fn segments(&self) -> [u64; 4] {
            let counters = &self.counters;
            [
                &counters.superframes,
                &counters.segments,
                &counters.segments_sent,
                &counters.segments_lost,
            ]
            .map(crate::stats::Count::get)
        }
    }

    fn lane(change: impl FnOnce(&mut SegmentConfig)) -> Lane {
        let mut config = config();
        change(&mut config);
        Lane::new(segment(config))
    }

    /// What the superframe is cut into, without outer headers.
    fn pieces(header: &VnetHeader, superframe: &[u8]) -> Vec<Vec<u8>> {
        let mut umem = umem(ChunkSize::K2, FRAMES);
        let mut cut = Cut::new(header, superframe).unwrap();
        let next = std::iter::from_fn(|| cut.next(&mut umem).map(|(frame, _)| frame));
        let frames: Vec<_> = next.collect();
        assert!(!frames.is_empty());
        frames
            .iter()
            .map(|frame| umem.bytes(frame).to_vec())
            .collect()
    }

    /// Right lengths and checksums outside, as an independent parser reads it; whether there is a UDP checksum.
    fn is_whole(frame: &[u8]) -> bool {
        let parsed = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(TransportSlice::Udp(udp)) = &parsed.transport else {
            panic!("no UDP: {parsed:?}")
        };
        let header = udp.to_header();
        let right = match &parsed.net {
            Some(NetSlice::Ipv4(ip)) => {
                let ip = ip.header().to_header();
                assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                assert_eq!(usize::from(ip.total_len) + 14, frame.len());
                header.calc_checksum_ipv4(&ip, udp.payload())
            }
            Some(NetSlice::Ipv6(ip)) => {
                let ip = ip.header().to_header();
                assert_eq!(usize::from(ip.payload_length) + 54, frame.len());
                header.calc_checksum_ipv6(&ip, udp.payload())
            }
            other => panic!("no IP: {other:?}"),
        };
        assert_eq!(usize::from(header.length), 8 + udp.payload().len());
        assert!(header.checksum == 0 || Ok(header.checksum) == right);
        header.checksum != 0
    }

    #[test]
    fn every_segment_has_outer_headers_and_an_identification_of_its_own() {
        let inner = tcp(NEAR, 2 * usize::from(SEGMENT) + 1);
        let mut lane = lane(|config| config.source_ports.high = config.source_ports.low);
        let sent = lane.encap(&[(header(), &inner)]);
        let pieces = pieces(&header(), &inner);
        let expected = [(0x05aa, 0xffff), (0x05aa, 0), (0x005b, 1)];
        assert_eq!((sent.len(), pieces.len()), (3, 3));
        for ((frame, piece), (len, id)) in sent.iter().zip(pieces).zip(expected) {
            let [len, udp_len, id] = [len, len - 20, id].map(u16::to_be_bytes);
            let mut outer = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]; // Ethernet
            outer.extend([0x45, 0, len[0], len[1], id[0], id[1], 0, 0, 64, 17]); // IPv4
            outer.extend([frame[24], frame[25], 192, 0, 2, 1, 192, 0, 2, 2]);
            outer.extend([0x80, 0, 0x21, 0x18, udp_len[0], udp_len[1], 0, 0]); // UDP
            outer.extend([8, 0, 0, 0, 0, 0, 1, 0]); // VXLAN
            assert_eq!(frame[..50], outer);
            assert!(!is_whole(frame));
            assert!(frame[50..] == piece);
        }
        assert_eq!(lane.segments(), [1, 3, 2, 0]);
        let bytes: usize = sent.iter().map(Vec::len).sum();
        assert_eq!(lane.counters.forwarded.get(), 1);
        assert_eq!(lane.counters.forwarded_bytes.get(), bytes as u64);
    }

    #[test]
    fn outer_checksums_are_right_over_either_family() {
        let inner = tcp(NEAR, 60_001);
        let compute = |config: &mut SegmentConfig| config.udp_checksum = UdpChecksum::Compute;
        for (mut lane, outer) in [(lane(compute), 50), (Lane::new(segment(config6())), 70)] {
            let sent = lane.encap(&[(header(), &inner)]);
            let pieces = pieces(&header(), &inner);
            assert_eq!((sent.len(), pieces.len()), (45, 45));
            assert!(sent.iter().all(|frame| is_whole(frame)));
            let insides = sent.iter().map(|frame| &frame[outer..]);
            assert!(insides.eq(pieces.iter().map(Vec::as_slice)));
        }
    }

    #[test]
    fn small_frames_keep_their_place_and_are_finished() {
        let mut lane = lane(|config| config.udp_checksum = UdpChecksum::Compute);
        let (long, short) = (tcp(NEAR, 3000), tcp(FAR, 10));
        let plain = VnetHeader {
            gso_type: vnet::GSO_NONE,
            gso_size: 0,
            ..header()
        };
        let sent = lane.encap(&[(header(), &long), (plain, &short), (header(), &long)]);
        let lens: Vec<_> = sent.iter().map(|frame| frame.len() - 50 - 54).collect();
        assert_eq!(lens, [1360, 1360, 280, 10, 1360, 1360, 280]);
        assert!(sent.iter().all(|frame| is_whole(frame)));
        let finished = pieces(&plain, &short);
        assert_eq!(sent[3][50..], finished[0]);
        assert_eq!(lane.counters.checksums_completed.get(), 1);
        assert_eq!(lane.counters.forwarded.get(), 3);
        assert_eq!(lane.segments(), [2, 6, 4, 0]);
    }

    #[test]
    fn a_checksum_within_a_tunnel_of_the_sender_s_own_is_finished() {
        let ((told, left), finished) = nested();
        let mut lane = lane(|config| config.udp_checksum = UdpChecksum::Compute);
        let sent = lane.encap(&[(told, &left)]);
        assert_eq!(sent[0][50..], finished);
        assert!(is_whole(&sent[0]));
        assert_eq!(lane.counters.checksums_completed.get(), 1);
    }

    #[test]
    fn a_superframe_of_one_segment_counts_as_none() {
        let mut lane = lane(|_| {});
        let sent = lane.encap(&[(header(), &tcp(NEAR, 100))]);
        assert_eq!(sent.len(), 1);
        assert_eq!(lane.segments(), [0; 4]);
    }

    #[test]
    fn without_chunks_or_room_in_the_ring_for_all_nothing_leaves() {
        let inner = tcp(NEAR, 60_000);
        for (frames, ring, reason) in [
            (44, 256, DropReason::NoFrame),
            (128, 32, DropReason::TxRingFull),
        ] {
            let mut lane = lane(|_| {});
            (lane.frames, lane.port) = (umem(ChunkSize::K2, frames), MemoryPort::new(ring));
            assert!(lane.encap(&[(header(), &inner)]).is_empty());
            assert_eq!(lane.counters.drops(reason), 1);
            assert_eq!(lane.segments(), [0; 4]);
            // One that is short enough does.
            let sent = lane.encap(&[(header(), &tcp(NEAR, 40_000)), (header(), &inner)]);
            assert_eq!(sent.len(), 30);
            assert_eq!(lane.counters.drops(reason), 2);
            assert_eq!(lane.counters.forwarded.get(), 1);
        }
    }

    #[test]
    fn what_waits_is_sent_before_a_superframe_is_given_up() {
        let mut lane = lane(|_| {});
        // Two fit into the ring, and 90 frames into neither outbox nor ring at once.
        lane.port = MemoryPort::new(128);
        let inner = tcp(NEAR, 60_000);
        let sent = lane.encap(&[(header(), &inner), (header(), &inner), (header(), &inner)]);
        assert!(sent.len() == 90 && sent.len() > BATCH);
        assert_eq!(lane.counters.drops(DropReason::TxRingFull), 1);
        assert_eq!(lane.segments(), [2, 90, 88, 0]);
    }

    #[test]
    fn a_link_that_is_down_or_narrow_is_no_secret() {
        let mut lane = lane(|_| {});
        lane.port.set_link_down(true);
        let inner = tcp(NEAR, 60_000);
        assert!(lane.encap(&[(header(), &inner)]).is_empty());
        assert_eq!(lane.counters.drops(DropReason::LinkDown), 1);
        assert_eq!(lane.segments()[2..], [0, 44]);
        lane.port.set_link_down(false);
        lane.port.limit_frame_len(1000);
        let sent = lane.encap(&[(header(), &tcp(NEAR, usize::from(SEGMENT) + 9))]);
        assert_eq!(sent.len(), 1, "the last is short enough");
        assert_eq!(lane.counters.drops(DropReason::Oversize), 1);
        assert_eq!(lane.segments()[2..], [1, 44]);
    }

    #[test]
    fn every_copy_of_a_flooded_one_is_cut() {
        let mut segment = segment(config());
        segment.flood = Arc::new([0, 2, 1].map(crate::table::VtepId).to_vec());
        let mut lane = Lane::new(segment);
        let inner = tcp(UNKNOWN, 60_000);
        let sent = lane.encap(&[(header(), &inner)]);
        let to: Vec<_> = sent.iter().map(|frame| frame[33]).collect();
        assert_eq!(to, [[2; 45], [3; 45]].concat());
        let pieces = pieces(&header(), &inner);
        for half in sent.chunks(45) {
            assert!(half.iter().map(|frame| &frame[50..]).eq(&pieces));
        }
        let counters = &lane.counters;
        assert_eq!(
            (
                counters.forwarded.get(),
                counters.flood_copies.get(),
                counters.flood_copies_lost.get()
            ),
            (1, 1, 1)
        );
        assert_eq!(lane.segments(), [1, 45, 88, 0]);
        let bytes: usize = sent.iter().take(45).map(Vec::len).sum();
        assert_eq!(lane.counters.forwarded_bytes.get(), bytes as u64);
    }

    #[test]
    fn a_copy_for_which_there_are_no_chunks_costs_the_copy_alone() {
        let mut segment = segment(config());
        segment.flood = Arc::new([0, 1].map(crate::table::VtepId).to_vec());
        let mut lane = Lane::new(segment);
        lane.frames = umem(ChunkSize::K2, 60);
        let sent = lane.encap(&[(header(), &tcp(UNKNOWN, 60_000))]);
        assert_eq!(sent.len(), 45);
        assert_eq!(lane.counters.forwarded.get(), 1);
        assert_eq!(lane.counters.flood_copies_lost.get(), 1);
    }

    #[test]
    fn the_dead_are_counted_once() {
        let mut lane = lane(|_| {});
        let inner = |mac| tcp(mac, 5000);
        let mut fate = |header: VnetHeader, inner: &[u8], reason: DropReason| {
            let before = lane.counters.drops(reason);
            assert!(lane.encap(&[(header, inner)]).is_empty(), "{reason:?}");
            assert_eq!(lane.counters.drops(reason), before + 1, "{reason:?}");
        };
        fate(header(), &inner(UNKNOWN), DropReason::NoTxTarget);
        fate(header(), &inner(LOST), DropReason::NextHopUnresolved);
        let contradictory = VnetHeader {
            csum_start: 33,
            ..header()
        };
        fate(contradictory, &inner(NEAR), DropReason::Oversize);
        fate(contradictory, &tcp(NEAR, 500), DropReason::RxInvalid);
        lane.snapshot.segments[0] = {
            let mut segment = segment(config());
            let vteps = Arc::make_mut(&mut segment.vteps);
            vteps[0].next_hop = crate::table::NextHop::Unresolved(UnresolvedReason::LinkDown);
            segment
        };
        let mut fate = |inner: &[u8], reason: DropReason| {
            let before = lane.counters.drops(reason);
            assert!(lane.encap(&[(header(), inner)]).is_empty());
            assert_eq!(lane.counters.drops(reason), before + 1, "{reason:?}");
        };
        fate(&inner(NEAR), DropReason::LinkDown);
        lane.snapshot.segments.clear();
        assert!(lane.encap(&[(header(), &inner(NEAR))]).is_empty());
        assert_eq!(lane.counters.drops(DropReason::LinkDown), 2);
        assert_eq!(lane.segments(), [0; 4]);
    }
}
