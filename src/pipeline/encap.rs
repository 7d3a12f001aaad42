//! From the overlay to the underlay: the destination is looked up, then the outer headers are pushed on.
//!
//! | # | judged | dies as |
//! |---|---|---|
//! | 1 | Ethernet header whole, and the IP header behind it and its tags (`skb_vlan_inet_prepare`) | `access_short` |
//! | 2 | destination in the FDB, unicast or not; else the flood list, if it has entries (`vxlan_xmit`) | `no_tx_target` |
//! | 3 | VTEP resolved | `next_hop_unresolved`, `link_down` |
//! | 4 | outer packet within the underlay's MTU: it is never fragmented (RFC 7348 §4.3) | `oversize` |
//!
//! A flooded frame dies only when no VTEP of the list passes 3 and 4, and then of what the first one failed at.
//!
//! The outer header follows the segment: TTL and DSCP fixed or the inner IP header's (behind tags too; what is not IP
//! counts as 0, and a TTL of 0 as the default), ECN in any case, DF fixed or the inner header's (not behind tags, as in the
//! kernel, which looks only at the first EtherType there).

use super::{Exit, Role, Verdict, Verdicts, ecn, unfinished};
use crate::port::{BATCH, Batch, Frame, Port, Umem};
use crate::stats::{DropReason, PortCounters};
use crate::table::{
    Df, EncapTemplate, NextHop, OuterFields, Segment, SegmentConfig, SegmentId, Snapshot,
    UdpChecksum, UnresolvedReason, VtepId,
};
use crate::wire::ethernet::EthernetHeader;
use crate::wire::layers::{Layers, Network, Place};
use crate::wire::{MacAddr, checksum, entropy};

/// Judges a batch that came from the access port of `segment`. Writes one verdict a frame: `Encap`, `Flood` or `Drop`.
///
/// Two passes: the first reads all destinations, so that the look-ups of the whole batch overlap in the second.
pub fn decide(
    snapshot: &Snapshot,
    segment: SegmentId,
    umem: &Umem,
    batch: &Batch,
    verdicts: &mut Verdicts,
) {
    let Some(segment) = snapshot.segment(segment) else {
        // The device went away while its frames were queued.
        return verdicts.judge(batch.iter(), |_| Verdict::Drop(DropReason::LinkDown));
    };
    let mut destinations = [MacAddr::ZERO; BATCH];
    for (destination, frame) in destinations.iter_mut().zip(batch.iter()) {
        if let Some((header, _)) = EthernetHeader::parse(umem.bytes(frame)) {
            *destination = header.destination();
        }
    }
    let mut found = [None; BATCH];
    let count = batch.len().min(BATCH);
    if let (Some(destinations), Some(found)) = (destinations.get(..count), found.get_mut(..count)) {
        segment.fdb.find_batch(destinations, found);
    }
    verdicts.judge(batch.iter().zip(found), |(frame, vtep)| {
        judge(segment, umem.bytes(frame), vtep)
    });
}

/// Carries the verdicts out: frames get their outer headers and go to the exit, flooded ones once per reachable VTEP of
/// the flood list; the dead are counted and released. The batch is empty afterwards; the exit's outbox may hold frames
/// that wait for [`Exit::flush`].
pub fn apply<P: Port>(
    snapshot: &Snapshot,
    segment: SegmentId,
    umem: &mut Umem,
    batch: &mut Batch,
    verdicts: &Verdicts,
    counters: &PortCounters,
    exit: &mut Exit<'_, P>,
) {
    let segment = snapshot.segment(segment);
    for (index, frame) in batch.drain().enumerate() {
        let dead = match (verdicts.on(index), segment) {
            (Verdict::Encap(vtep), Some(segment)) => {
                send(segment, vtep, umem, frame, counters, exit)
            }
            (Verdict::Flood, Some(segment)) => flood(segment, umem, frame, counters, exit),
            (Verdict::Drop(reason), _) => Err((frame, reason)),
            // From one access port to another is the kernel's own business.
            (Verdict::Deliver(_), _) => Err((frame, DropReason::NoTxTarget)),
            (_, None) => Err((frame, DropReason::LinkDown)),
        };
        if let Err((frame, reason)) = dead {
            counters.dropped(reason, 1);
            umem.release(frame);
        }
    }
}

#[inline]
fn judge(segment: &Segment, frame: &[u8], vtep: Option<VtepId>) -> Verdict {
    match Place::find(frame) {
        None
        | Some(Place {
            network: Network::Cut,
            ..
        }) => return Verdict::Drop(DropReason::AccessShort),
        Some(_) => {}
    }
    match vtep {
        Some(vtep) => match reach(segment, vtep, frame.len()) {
            Ok(_) => Verdict::Encap(vtep),
            Err(reason) => Verdict::Drop(reason),
        },
        None if segment.flood.is_empty() => Verdict::Drop(DropReason::NoTxTarget),
        None => Verdict::Flood,
    }
}

/// The headers for a frame of this length to this VTEP, or why there are none.
#[inline]
fn reach(segment: &Segment, vtep: VtepId, inner_len: usize) -> Result<&EncapTemplate, DropReason> {
    let vtep = segment
        .vteps
        .get(vtep.0 as usize)
        .ok_or(DropReason::NextHopUnresolved)?;
    let template = match &vtep.next_hop {
        NextHop::Resolved(template) => template,
        NextHop::Unresolved(UnresolvedReason::LinkDown) => return Err(DropReason::LinkDown),
        NextHop::Unresolved(_) => return Err(DropReason::NextHopUnresolved),
    };
    if template.ip_packet_len(inner_len) > usize::from(segment.config.underlay_mtu) {
        return Err(DropReason::Oversize);
    }
    Ok(template)
}

type Dead = (Frame, DropReason);

#[inline]
fn send<P: Port>(
    segment: &Segment,
    vtep: VtepId,
    umem: &mut Umem,
    mut frame: Frame,
    counters: &PortCounters,
    exit: &mut Exit<'_, P>,
) -> Result<(), Dead> {
    let template = match reach(segment, vtep, frame.len()) {
        Ok(template) => template,
        Err(reason) => return Err((frame, reason)),
    };
    let fields = prepare(&segment.config, umem, &mut frame, counters);
    if !push(template, fields, umem, &mut frame, exit) {
        return Err((frame, DropReason::NoFrame));
    }
    exit.put(frame, Role::First, umem, counters);
    Ok(())
}

/// Sends one copy after the other. A copy is made while the frame is still without outer headers, and only when there
/// is somewhere to send it.
fn flood<P: Port>(
    segment: &Segment,
    umem: &mut Umem,
    mut frame: Frame,
    counters: &PortCounters,
    exit: &mut Exit<'_, P>,
) -> Result<(), Dead> {
    let inner_len = frame.len();
    let wanted = segment.flood.len();
    let mut reachable = segment
        .flood
        .iter()
        .filter_map(|vtep| reach(segment, *vtep, inner_len).ok());
    let Some(template) = reachable.next() else {
        counters
            .flood_copies_lost
            .add(wanted.saturating_sub(1) as u64);
        let first = segment
            .flood
            .first()
            .map(|vtep| reach(segment, *vtep, inner_len));
        let reason = first
            .and_then(Result::err)
            .unwrap_or(DropReason::NoTxTarget);
        return Err((frame, reason));
    };
    let fields = prepare(&segment.config, umem, &mut frame, counters);
    let (mut role, mut handed_on, mut dead) = (Role::First, 0, None);
    let mut next = Some((template, frame));
    while let Some((template, mut frame)) = next {
        next = reachable
            .next()
            .and_then(|template| Some((template, copy(umem, &frame, counters, exit)?)));
        if push(template, fields, umem, &mut frame, exit) {
            exit.put(frame, role, umem, counters);
            handed_on += 1;
        } else if role == Role::First {
            dead = Some((frame, DropReason::NoFrame));
        } else {
            umem.release(frame);
        }
        role = Role::Copy;
    }
    counters
        .flood_copies_lost
        .add((wanted - handed_on - usize::from(dead.is_some())) as u64);
    dead.map_or(Ok(()), Err)
}

/// A copy of the frame. When the pool is empty, what waits is sent first: the port may give frames back at once.
fn copy<P: Port>(
    umem: &mut Umem,
    frame: &Frame,
    counters: &PortCounters,
    exit: &mut Exit<'_, P>,
) -> Option<Frame> {
    umem.duplicate(frame).or_else(|| {
        exit.flush(umem, counters);
        exit.port.reclaim(umem);
        umem.duplicate(frame)
    })
}

/// Finishes the inner checksum and works out what of the outer headers depends on the inner frame.
#[inline]
fn prepare(
    config: &SegmentConfig,
    umem: &mut Umem,
    frame: &mut Frame,
    counters: &PortCounters,
) -> OuterFields {
    let bytes = umem.bytes_mut(frame);
    let Some(layers) = Layers::parse(bytes) else {
        // Judged to be whole; the values are those of a frame that is not IP.
        return OuterFields {
            source_port: config.source_ports.low,
            ip_id: 0,
            tos: 0,
            ttl: 0,
            df: false,
            inner_sum: None,
        };
    };
    counters
        .checksums_completed
        .add(u64::from(unfinished::complete(bytes, &layers)));
    let hash = entropy::flow_hash(bytes, &layers);
    let tos = config.tos.resolve(layers.traffic_class) & !ecn::MASK
        | ecn::encapsulate(layers.traffic_class);
    let df = match config.df {
        Df::Unset => false,
        Df::Set => true,
        Df::Inherit => {
            layers.place.tags == 0 && (layers.df || layers.place.network == Network::Ipv6)
        }
    };
    OuterFields {
        source_port: entropy::spread(hash, config.source_ports.low, config.source_ports.high),
        ip_id: 0,
        tos,
        ttl: config.ttl.resolve(layers.ttl),
        df,
        inner_sum: match config.udp_checksum {
            UdpChecksum::Zero => None,
            UdpChecksum::Compute => Some(checksum::sum(bytes)),
        },
    }
}

/// Writes the outer headers in front of the frame; `false`, and nothing written, when there is no room.
#[inline]
fn push<P>(
    template: &EncapTemplate,
    mut fields: OuterFields,
    umem: &mut Umem,
    frame: &mut Frame,
    exit: &mut Exit<'_, P>,
) -> bool {
    fields.ip_id = exit.ip_ids.next_id();
    umem.push(frame, template.len())
        .is_some_and(|bytes| template.write(bytes, &fields))
}
