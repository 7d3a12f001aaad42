//! Frames through the gateway, with a table of any kind.

use std::sync::Arc;

use vxgate::pipeline::Verdict;
use vxgate::port::{BATCH, ROOM};
use vxgate::stats::{DropReason, OFFENDERS_MAX, Offender};
use vxgate::table::{
    InnerVlan, KernelShare, NextHop, PeerCheck, Segment, SegmentConfig, SegmentId, Snapshot,
    UnresolvedReason, Vtep,
};
use vxgate::wire::MacAddr;

use crate::rig::bench::Bench;
use crate::rig::choices::Choices;
use crate::rig::table::{self, table};
use crate::rig::twin::{self, Delivered, Open};
use crate::rig::{At, Rig, Size, frames};

/// What a chunk of 2,048 bytes takes on reception.
const FRAME_LEN_MAX: usize = 2048 - ROOM;
/// The far end's own station, which sends no frame.
const FAR_END: MacAddr = MacAddr([0x0e, 0, 0, 0, 1, 0]);

/// A worker meets any frames in any order on any port, with rings and a pool that run full and dry, links that go down
/// and tables that change: it does not panic, every frame has one fate, no frame of the UMEM is lost or doubled, and what
/// it sends to the underlay is whole.
pub fn worker(data: &[u8]) {
    let mut choices = Choices::new(data);
    let snapshot = table(&mut choices);
    let size = Size {
        segments: snapshot.segments.len(),
        queues: 1 + choices.below(2),
        ring_len: 16,
        frames: 160 - 32 * choices.below(5) as u32,
        ..Size::default()
    };
    let mut rig = Rig::on(size, snapshot.clone());
    let mut known = snapshot;
    while !choices.is_empty() {
        let places = rig.places();
        match choices.below(16) {
            0..=4 => {
                let at = At::Underlay(choices.below(size.queues));
                let frame = frames::outer(&mut choices, &known);
                rig.deliver(at, &frame);
            }
            5..=9 => {
                let access = choices.below(size.segments);
                let segment = &known.segments[access % known.segments.len()];
                let frame = frames::access(&mut choices, segment);
                rig.deliver(At::Access(access), &frame);
            }
            10..=12 => {
                rig.worker.turn();
                rig.check_balance();
            }
            13 => {
                let at = choices.pick(&places);
                let count = choices.below(17);
                for _ in 0..count {
                    collect_one(&mut rig, at);
                }
            }
            14 => {
                let at = choices.pick(&places);
                let (port, _) = rig.port(at);
                match choices.below(3) {
                    0 => port.set_link_down(true),
                    1 => port.set_link_down(false),
                    _ => port.limit_frame_len(14 + usize::from(choices.word()) % 2048),
                }
            }
            _ => {
                known = table(&mut choices);
                rig.writer.publish(known.clone());
            }
        }
    }
    loop {
        let moved = rig.worker.turn();
        let sent = rig
            .places()
            .into_iter()
            .filter(|at| collect_one(&mut rig, *at))
            .count();
        if !moved.any() && sent == 0 {
            break;
        }
    }
    rig.check_balance();
}

/// The kernel sends one frame; whether there was one.
fn collect_one(rig: &mut Rig, at: At) -> bool {
    let (port, umem) = rig.port(at);
    let Some(bytes) = port.collect(umem) else {
        return false;
    };
    match at {
        At::Underlay(_) => whole(&bytes),
        At::Access(_) => assert!(bytes.len() >= 14 && bytes[6] & 1 == 0, "{bytes:02x?}"),
    }
    true
}

/// A frame of the underlay says of itself what it is, as an independent parser reads it.
fn whole(bytes: &[u8]) {
    let parsed = etherparse::SlicedPacket::from_ethernet(bytes).expect("an Ethernet frame");
    let udp = match &parsed.transport {
        Some(etherparse::TransportSlice::Udp(udp)) => udp,
        other => panic!("no UDP: {other:?}"),
    };
    let header = udp.to_header();
    let ip_len = match &parsed.net {
        Some(etherparse::NetSlice::Ipv4(ip)) => {
            let ip = ip.header().to_header();
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            if header.checksum != 0 {
                let right = header.calc_checksum_ipv4(&ip, udp.payload());
                assert_eq!(Ok(header.checksum), right.map_err(|_| ()));
            }
            usize::from(ip.total_len)
        }
        Some(etherparse::NetSlice::Ipv6(ip)) => {
            let ip = ip.header().to_header();
            if header.checksum != 0 {
                let right = header.calc_checksum_ipv6(&ip, udp.payload());
                assert_eq!(Ok(header.checksum), right.map_err(|_| ()));
            }
            40 + usize::from(ip.payload_length)
        }
        other => panic!("no IP: {other:?}"),
    };
    assert_eq!(14 + ip_len, bytes.len());
    assert_eq!(usize::from(header.length), 8 + udp.payload().len());
    let vxlan = udp.payload().first_chunk::<8>().expect("a VXLAN header");
    assert_eq!((vxlan[0] & 0x7f, vxlan[7]), (8, 0));
    let policy = [vxlan[1], vxlan[2], vxlan[3]];
    assert!(
        vxlan[1] & !0x48 == 0 && (vxlan[0] == 0x88 || policy == [0; 3]),
        "{vxlan:02x?}"
    );
}

/// Every frame of a batch from an underlay has the fate that the twin says, and comes out as the twin says, byte for
/// byte; nothing is written beside it.
pub fn decap(data: &[u8]) {
    let mut choices = Choices::new(data);
    let snapshot = table(&mut choices);
    let frames = batch(&mut choices, |choices| frames::outer(choices, &snapshot));
    let mut bench = Bench::new(frames.len());
    let outcome = bench.decap(&snapshot, &frames);
    bench.check();
    assert_eq!(outcome.verdicts.len(), frames.len());
    let mut expected = vec![Vec::new(); snapshot.segments.len()];
    let (mut record, mut strangers) = (Vec::new(), 0);
    for (frame, verdict) in frames.iter().zip(outcome.verdicts) {
        let fate = twin::decap(&snapshot, frame);
        let said = match &fate {
            Ok(delivered) => {
                let segment = SegmentId(delivered.segment as u16);
                if delivered.stranger {
                    Verdict::DeliverStranger(segment)
                } else {
                    Verdict::Deliver(segment)
                }
            }
            Err(reason) => Verdict::Drop(*reason),
        };
        assert_eq!(verdict, said, "of {frame:02x?}");
        record.extend(offence(frame, &fate));
        if let Ok(delivered) = fate {
            strangers += u64::from(delivered.stranger);
            expected[delivered.segment].push(delivered.inner);
        }
    }
    assert_eq!(bench.counters.strangers_delivered.get(), strangers);
    judge_record(&bench, &record);
    // A frame of less than an Ethernet header is none that a port sends; none such was delivered.
    assert_eq!(outcome.sent, expected);
}

/// What is to be put on record of a frame, if anything.
fn offence(frame: &[u8], fate: &Result<Delivered, DropReason>) -> Option<Offender> {
    let (reason, delivered) = match fate {
        Ok(delivered) if delivered.stranger => (DropReason::UnknownPeer, true),
        Err(reason @ (DropReason::UnknownPeer | DropReason::InnerSpoof)) => (*reason, false),
        _ => return None,
    };
    let (source, vni, inner_source) = twin::sender(frame);
    Some(Offender {
        source,
        vni,
        inner_source,
        reason,
        delivered,
    })
}

/// The last offenders are on record, each with the number of its frames.
fn judge_record(bench: &Bench, offences: &[Offender]) {
    let records = bench.counters.offenders.read();
    let mut distinct = Vec::new();
    for offence in offences.iter().rev() {
        if !distinct.contains(offence) {
            distinct.push(*offence);
        }
    }
    let on_record: Vec<_> = records.iter().map(|record| record.offender).collect();
    assert_eq!(on_record, distinct[..distinct.len().min(OFFENDERS_MAX)]);
    if distinct.len() <= OFFENDERS_MAX {
        for record in records {
            let frames = offences
                .iter()
                .filter(|offence| **offence == record.offender)
                .count();
            assert_eq!(record.frames, frames as u64, "{record:?}");
        }
    }
}

/// Every frame of a batch from an access port has the fate that the twin says, and goes out as the twin says, byte for
/// byte, to every VTEP that it should; the source port is in the device's range, and the identification runs on.
pub fn encap(data: &[u8]) {
    let mut choices = Choices::new(data);
    let snapshot = table(&mut choices);
    let number = choices.below(snapshot.segments.len());
    let segment = &snapshot.segments[number];
    let frames = batch(&mut choices, |choices| frames::access(choices, segment));
    let mut bench = Bench::new(copies_of(segment, &frames));
    let outcome = bench.encap(&snapshot, number, &frames);
    bench.check();
    assert_eq!(outcome.verdicts.len(), frames.len());
    judge_kernel_share(segment);
    let mut sent = outcome.sent.concat().into_iter();
    let mut copies = 0;
    let mut last_id = None;
    for (frame, verdict) in frames.iter().zip(outcome.verdicts) {
        let (mark, frame) = &twin::lifted(&segment.config, frame);
        let fate = twin::encap(segment, frame);
        judge_verdict(segment, frame, verdict, &fate);
        let vteps = fate.unwrap_or_default();
        copies += vteps.len().saturating_sub(1) as u64;
        for vtep in vteps {
            let sent = sent
                .next()
                .unwrap_or_else(|| panic!("{frame:02x?} did not go to {vtep:?}"));
            let open = judge_sent(&segment.config, vtep, *mark, frame, &sent);
            if vtep.key.addr.is_ipv4() {
                assert!(last_id.is_none_or(|last: u16| last.wrapping_add(1) == open.ip_id));
                last_id = Some(open.ip_id);
            }
        }
    }
    assert_eq!(sent.next(), None, "sent, and nobody knows why");
    assert_eq!(bench.counters.flood_copies.get(), copies);
}

/// How many frames these become at once, at most.
fn copies_of(segment: &Segment, frames: &[Vec<u8>]) -> usize {
    let copies = frames.iter().map(|frame| {
        let (_, frame) = twin::lifted(&segment.config, frame);
        twin::encap(segment, &frame).map_or(1, |vteps| vteps.len())
    });
    copies.sum()
}

/// No frame that is not left to the kernel could be for a VTEP that only the kernel reaches.
fn judge_kernel_share(segment: &Segment) {
    use UnresolvedReason::{LocalAddress, NoRoute, Unsupported};
    let share = KernelShare::of(segment);
    for mac in (0..16)
        .map(table::station)
        .filter(|mac| !share.contains(*mac))
    {
        for vtep in twin::may_mean(segment, mac) {
            let next_hop = &vtep.next_hop;
            let kernels = matches!(
                next_hop,
                NextHop::Unresolved(LocalAddress | NoRoute | Unsupported)
            );
            assert!(!kernels, "frames to {mac} go to {vtep:?}");
        }
    }
}

fn judge_verdict(
    segment: &Segment,
    frame: &[u8],
    verdict: Verdict,
    fate: &Result<Vec<&Vtep>, DropReason>,
) {
    match (verdict, fate) {
        (Verdict::Encap(vtep), Ok(vteps)) => {
            assert_eq!(
                [&segment.vteps[vtep.0 as usize]],
                vteps[..],
                "of {frame:02x?}"
            );
        }
        // Whom of its list it reaches is seen when it is sent.
        (Verdict::Flood, _) => assert!(!segment.flood.is_empty(), "of {frame:02x?}"),
        (Verdict::List(_), _) => {}
        (Verdict::Drop(said), Err(reason)) => assert_eq!(said, *reason, "of {frame:02x?}"),
        other => panic!("{other:?} of {frame:02x?}"),
    }
}

/// All bytes of a frame that was sent, but for what is free.
fn judge_sent(config: &SegmentConfig, vtep: &Vtep, mark: u32, frame: &[u8], sent: &[u8]) -> Open {
    let open = Open::of(sent);
    let expected = twin::sent(config, vtep, mark, frame, open);
    assert_eq!(sent, expected, "of {frame:02x?}");
    let ports = config.source_ports;
    assert!((ports.low..=ports.high).contains(&open.source_port));
    open
}

/// A frame of the overlay goes out by one table and comes in by the table of the far end as it went in, but for a
/// checksum that was left unfinished, and bits of its mark that no header has a place for; or the far end says why not.
pub fn round_trip(data: &[u8]) {
    let mut choices = Choices::new(data);
    let segment = table::segment(&mut choices, 0);
    let near = Snapshot {
        generation: 0,
        segments: vec![segment],
    };
    let segment = &near.segments[0];
    let frames = batch(&mut choices, |choices| frames::access(choices, segment));
    let mut bench = Bench::new(copies_of(segment, &frames));
    let sent = bench.encap(&near, 0, &frames).sent.concat();
    bench.check();
    let mut sent = sent.into_iter();
    for frame in &frames {
        let (mark, frame) = &twin::lifted(&segment.config, frame);
        for vtep in twin::encap(segment, frame).unwrap_or_default() {
            let sent = sent.next().expect("as the twin says");
            let far = far_end(segment, vtep);
            let mut bench = Bench::new(1);
            let mut delivered = bench.decap(&far, &[sent]).sent.concat();
            bench.check();
            match delivered.pop() {
                Some(delivered) if segment.config.gbp => {
                    let marked =
                        twin::carried_by_tags(mark & twin::MARK_BITS, &twin::finish(frame));
                    assert_eq!(delivered, marked);
                }
                Some(delivered) => assert_eq!(delivered, twin::finish(frame)),
                None => {
                    let ourselves = segment.config.local == vtep.key.addr;
                    refused_rightly(&bench, frame, ourselves, segment.config.gbp);
                }
            }
        }
    }
}

/// A far end takes every frame but those whose inner source no station has, its own echo, and with marks a tag that the
/// kernel could not take out.
fn refused_rightly(bench: &Bench, frame: &[u8], ourselves: bool, with_gbp: bool) {
    let reasons = DropReason::ALL.iter();
    let died: Vec<_> = reasons
        .filter(|reason| bench.counters.drops(**reason) > 0)
        .collect();
    let right = match died[..] {
        [DropReason::InvalidSourceMac] => frame[6] & 1 != 0 || frame[6..12] == [0; 6],
        [DropReason::MartianSource] => ourselves,
        [DropReason::InnerTruncated] => {
            let tagged = matches!(frame[12..14], [0x81, 0x00] | [0x88, 0xa8]);
            with_gbp && tagged && frame.len() < 20
        }
        _ => false,
    };
    assert!(right, "{died:?} of {frame:02x?}");
}

/// The table of a VTEP: it knows the near end, and nobody else.
fn far_end(near: &Segment, vtep: &Vtep) -> Snapshot {
    let NextHop::Resolved(template) = &vtep.next_hop else {
        panic!("sent to a VTEP that cannot be reached: {vtep:?}")
    };
    let group = Some(vtep.key.addr).filter(std::net::IpAddr::is_multicast);
    let six = vtep.key.addr.is_ipv6();
    let config = SegmentConfig {
        local: group.map_or(vtep.key.addr, |_| table::address(six, 99)),
        group,
        port: vtep.key.port,
        vni: vtep.key.vni,
        mac: FAR_END,
        underlay_mac: template.next_hop_mac(),
        verify_udp_checksum: true,
        accept_udp6_zero_checksum: true,
        peer_check: PeerCheck::Strict,
        inner_vlan: InnerVlan::Pass,
        ..(*near.config).clone()
    };
    let segment = Segment {
        peers: Arc::new(vec![near.config.local].into()),
        config: Arc::new(config),
        ..near.clone()
    };
    Snapshot {
        generation: 0,
        segments: vec![segment],
    }
}

/// At least one frame, at most a batch, each short enough to be received.
fn batch(
    choices: &mut Choices<'_>,
    mut frame: impl FnMut(&mut Choices<'_>) -> Vec<u8>,
) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while frames.len() < BATCH && (frames.is_empty() || !choices.is_empty()) {
        let mut frame = frame(choices);
        frame.truncate(FRAME_LEN_MAX);
        // More than a batch's worth, with copies, only of many that are alike.
        let alike = if choices.rare() {
            choices.below(BATCH)
        } else {
            0
        };
        let room = BATCH - frames.len();
        frames.extend(std::iter::repeat_n(frame, (1 + alike).min(room)));
    }
    frames
}
