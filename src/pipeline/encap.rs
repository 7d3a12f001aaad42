//! From the overlay to the underlay: the destination is looked up, then the outer headers are pushed on.
//!
//! | # | judged | dies as |
//! |---|---|---|
//! | 1 | Ethernet header whole, and the IP header behind it and its tags (`skb_vlan_inet_prepare`) | `access_short` |
//! | 2 | no VLAN tag, where the segment carries none (RFC 7348 §6.1) | `inner_vlan` |
//! | 3 | destination in the FDB, unicast or not; else the flood list, or the group, of the all-zero entries (`vxlan_xmit`) | `no_tx_target` |
//! | 4 | VTEP resolved | `next_hop_unresolved`, `link_down` |
//! | 5 | outer packet within the path's MTU: it is never fragmented (RFC 7348 §4.3) | `oversize` |
//!
//! Frames that are too long are the kernel's, and so are those to a VTEP that only the kernel reaches. Steering leaves them
//! there: 4 and 5 are for those that were on their way when that changed.
//!
//! A frame to a list, flooded or multicast, dies only when no VTEP of the list passes 4 and 5, and then of what the first
//! one failed at. Of a group the frame's flow chooses a member before 4: a member that fails there loses its flows, as in the
//! kernel, which does not look at neighbours either before it chooses an FDB nexthop.
//!
//! The outer header follows the segment: TTL and DSCP fixed or the inner IP header's (behind tags too; what is not IP
//! counts as 0, and a TTL of 0 as the default, which to a group is 1 where the device chooses by itself), ECN in any case
//! (`ecn_encap`), DF fixed or the inner header's (not behind tags, as in the
//! kernel, which looks only at the first EtherType there). An IPv6 flow label is fixed, the inner IPv6 header's, or the
//! hash of the flow. The mark that the frame carried becomes the group's policy, on a device with that extension.
//!
//! The outer UDP checksum is computed over all of the frame, unless the device finishes it as it does those of the kernel's own
//! sockets: then the sum over the pseudo-header is left in its place, with a request beside it. (The inner one is not: it is
//! inside a tunnel that the device knows nothing of.)
//!
//! What comes out of a TAP has a header of its own in the room in front of it ([`vnet`]), and may be a superframe: judged by
//! the segments that it will be cut into, and sent unfinished, with the header telling where everything is; or cut here
//! (`encap_cut.rs`). For the frames of sockets there is no such question: `SUPER` is a constant, and each has its own code.

use super::note::Note;
use super::{Exit, IpIds, Role, Verdict, Verdicts, ahead, carrier, ecn, unfinished};
use crate::port::{BATCH, Batch, Frame, Port, Umem};
use crate::prefetch::{self, LINE};
use crate::stats::{DropReason, PeerId, PortCounters, Shape};
use crate::table::{
    Destination, Df, EncapTemplate, FlowLabel, InnerVlan, ListId, NextHop, OuterFields, Question,
    Segment, SegmentConfig, SegmentId, Snapshot, UdpChecksum, UnresolvedReason, Vtep, VtepId,
};
use crate::wire::ethernet::{self, EthernetHeader};
use crate::wire::ipv6::FLOW_LABEL_MASK;
use crate::wire::layers::{Layers, Network, Place};
use crate::wire::superframe::{Superframe, Tunnel};
use crate::wire::vnet::{self, VnetHeader};
use crate::wire::{MacAddr, checksum, entropy, gbp, udp, vlan, vxlan};

/// What the outer headers of a frame owe to its inner ones, and whether those are whole: read by `decide`, written by `apply`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Push {
    /// Of the frame's flow.
    hash: u32,
    flow_label: u32,
    tos: u8,
    ttl: u8,
    df: bool,
    /// The inner checksum is to be finished.
    unfinished: bool,
}

/// Judges a batch that came from the access port of `segment`. Writes one verdict a frame: `Encap`, `Flood`,
/// `List` or `Drop`.
///
/// In passes over the batch, each of which asks for the memory that a later one looks at, so that the waits of all frames
/// overlap, with each other and with the work: frames are read, and the places of their destinations in the FDB's directory
/// asked for; their pages are; the FDB answers, and the VTEPs that it names are asked for, and the line in front of each frame,
/// where its headers will be written; and it is judged who can be reached.
pub fn decide(
    snapshot: &Snapshot,
    segment: SegmentId,
    umem: &Umem,
    batch: &Batch,
    verdicts: &mut Verdicts,
) {
    decide_as::<false>(snapshot, segment, umem, batch, verdicts);
}

/// The same for a batch that came from the access TAP of `segment`.
pub fn decide_superframes(
    snapshot: &Snapshot,
    segment: SegmentId,
    umem: &Umem,
    batch: &Batch,
    verdicts: &mut Verdicts,
) {
    decide_as::<true>(snapshot, segment, umem, batch, verdicts);
}

#[inline(always)]
fn decide_as<const SUPER: bool>(
    snapshot: &Snapshot,
    segment: SegmentId,
    umem: &Umem,
    batch: &Batch,
    verdicts: &mut Verdicts,
) {
    let Some(segment) = snapshot.segment(segment) else {
        // The device went away while its frames were queued.
        return verdicts.judge_pushes(batch.iter(), |_, _| Err(DropReason::LinkDown));
    };
    let (config, fdb, vteps) = (&*segment.config, &*segment.fdb, segment.vteps.as_slice());
    let mut reads = [const { Read::NOTHING }; BATCH];
    let frames = ahead::each(umem, batch, [0]);
    for ((frame, read), push) in frames.zip(&mut reads).zip(verdicts.pushes_mut()) {
        let bytes = umem.bytes(frame);
        read.dead = push.read(config, bytes).err();
        if let Some((header, _)) = EthernetHeader::parse(bytes) {
            read.question = fdb.prepare(header.destination());
        }
    }
    // WHY a pass of its own: next to the work of the first one a processor waits for the directory frame by frame. With a
    // million entries a turn takes 55 to 65 ns a frame instead of 67 to 87, with a thousand 1 ns more.
    for read in reads.iter_mut().take(batch.len()) {
        fdb.pose(&mut read.question);
    }
    let mut found = [None; BATCH];
    for ((frame, read), found) in batch.iter().zip(&reads).zip(&mut found) {
        umem.prefetch(frame, -LINE);
        *found = read.question.answer();
        if let Some(Destination::Vtep(vtep)) = *found
            && let Some(vtep) = vteps.get(vtep.0 as usize)
        {
            prefetch::line_of(vtep);
        }
    }
    let all = batch.iter().zip(&reads).zip(found);
    verdicts.judge_pushes(all, |((frame, read), found), push| {
        if let Some(reason) = read.dead {
            return Err(reason);
        }
        let len = superframe::<SUPER>(umem, frame)
            .map_or(frame.len(), |superframe| superframe.segment_len());
        aim(segment, vteps, found, push.hash, len)
    });
}

/// What the first pass over a batch leaves to the next ones, besides what is pushed onto the frame.
struct Read<'a> {
    question: Question<'a>,
    dead: Option<DropReason>,
}

impl Read<'_> {
    const NOTHING: Self = Self {
        question: Question::NOTHING,
        dead: None,
    };
}

/// Carries the verdicts out: frames get their outer headers and go to the exit, those to a list once per reachable VTEP of
/// it; the dead are counted and released. The batch is empty afterwards; the exit's outbox may hold frames
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
    apply_as::<false, P>(snapshot, segment, umem, batch, verdicts, counters, exit);
}

/// The same for what [`decide_superframes`] has judged; the exit is a wire TAP.
pub fn apply_superframes<P: Port>(
    snapshot: &Snapshot,
    segment: SegmentId,
    umem: &mut Umem,
    batch: &mut Batch,
    verdicts: &Verdicts,
    counters: &PortCounters,
    exit: &mut Exit<'_, P>,
) {
    apply_as::<true, P>(snapshot, segment, umem, batch, verdicts, counters, exit);
}

#[inline(always)]
fn apply_as<const SUPER: bool, P: Port>(
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
        let judged = verdicts.push(index);
        let dead = carry_out::<SUPER, P>(segment, judged, umem, frame, counters, exit);
        if let Err((frame, reason)) = dead {
            counters.died(reason, Shape::Arrived, umem.bytes(&frame));
            umem.release(frame);
        }
    }
}

/// Does with one frame what the verdict says.
#[inline(always)]
pub(super) fn carry_out<const SUPER: bool, P: Port>(
    segment: Option<&Segment>,
    (verdict, push): (Verdict, Push),
    umem: &mut Umem,
    frame: Frame,
    counters: &PortCounters,
    exit: &mut Exit<'_, P>,
) -> Result<(), Dead> {
    match (verdict, segment) {
        (Verdict::Encap(vtep), Some(segment)) => {
            send::<SUPER, P>(segment, vtep, push, umem, frame, counters, exit)
        }
        (Verdict::Flood, Some(segment)) => {
            copy_to::<SUPER, P>(&segment.flood, segment, push, umem, frame, counters, exit)
        }
        (Verdict::List(list), Some(segment)) => {
            let list = members(segment, list);
            copy_to::<SUPER, P>(list, segment, push, umem, frame, counters, exit)
        }
        (Verdict::Drop(reason), _) => Err((frame, reason)),
        // From one access port to another is the kernel's own business.
        (Verdict::Deliver(_) | Verdict::DeliverStranger(_), _) => {
            Err((frame, DropReason::NoTxTarget))
        }
        (_, None) => Err((frame, DropReason::LinkDown)),
    }
}

/// The VTEPs of a list.
#[inline]
pub(super) fn members(segment: &Segment, list: ListId) -> &[VtepId] {
    let list = segment.lists.get(list.0 as usize);
    list.map_or(&[][..], Vec::as_slice)
}

/// Whom a frame goes to, and whether it gets there.
#[inline(always)]
fn aim(
    segment: &Segment,
    vteps: &[Vtep],
    found: Option<Destination>,
    hash: u32,
    len: usize,
) -> Result<Verdict, DropReason> {
    let vtep = match found {
        Some(Destination::Vtep(vtep)) => vtep,
        other => match aim_anywhere(segment, other, hash)? {
            Verdict::Encap(vtep) => vtep,
            many => return Ok(many),
        },
    };
    reach(vteps, vtep, len)?;
    Ok(Verdict::Encap(vtep))
}

/// Where a frame goes whose address does not lead to one VTEP.
#[inline(never)]
fn aim_anywhere(
    segment: &Segment,
    found: Option<Destination>,
    hash: u32,
) -> Result<Verdict, DropReason> {
    let destination = match found {
        Some(destination) => destination,
        None if !segment.flood.is_empty() => return Ok(Verdict::Flood),
        None => segment
            .fdb
            .find(MacAddr::ZERO)
            .ok_or(DropReason::NoTxTarget)?,
    };
    match destination {
        Destination::Vtep(vtep) => Ok(Verdict::Encap(vtep)),
        Destination::List(list) => Ok(Verdict::List(list)),
        Destination::Group(group) => {
            let group = segment.groups.get(group.0 as usize);
            let member = group.and_then(|group| group.choose(hash));
            member.map(Verdict::Encap).ok_or(DropReason::NoTxTarget)
        }
    }
}

/// Judges an inner frame of any kind, and works out what is pushed onto it. Apart, so that the many plain ones carry nothing of the
/// others along.
#[inline(never)]
fn read_any(config: &SegmentConfig, frame: &[u8], push: &mut Push) -> Result<(), DropReason> {
    let layers = Layers::parse(frame).ok_or(DropReason::AccessShort)?;
    if layers.place.network == Network::Cut {
        return Err(DropReason::AccessShort);
    }
    if config.inner_vlan == InnerVlan::Drop && is_tagged(frame) {
        return Err(DropReason::InnerVlan);
    }
    push.work_out(config, frame, &layers);
    Ok(())
}

/// What a frame that came out of a TAP is still to be cut into.
#[inline(always)]
fn superframe<const SUPER: bool>(umem: &Umem, frame: &Frame) -> Option<Superframe> {
    if !SUPER {
        return None;
    }
    Superframe::read(&VnetHeader::parse(umem.room(frame))?, umem.bytes(frame))
}

/// Whether a VLAN tag follows the addresses, be it whole or cut short.
fn is_tagged(frame: &[u8]) -> bool {
    EthernetHeader::parse(frame).is_some_and(|(header, _)| vlan::is_tag(header.ether_type()))
}

impl Push {
    /// Of a frame that nothing is pushed onto.
    pub(super) const NOTHING: Self = Self {
        hash: 0,
        flow_label: 0,
        tos: 0,
        ttl: 0,
        df: false,
        unfinished: false,
    };

    /// Judges an inner frame, and becomes what is pushed onto it.
    #[inline(always)]
    fn read(&mut self, config: &SegmentConfig, frame: &[u8]) -> Result<(), DropReason> {
        let Some(layers) = Layers::plain(frame) else {
            return read_any(config, frame, self);
        };
        self.work_out(config, frame, &layers);
        Ok(())
    }

    /// Becomes what is pushed onto the frame with these headers.
    #[inline(always)]
    fn work_out(&mut self, config: &SegmentConfig, frame: &[u8], layers: &Layers) {
        let hash = entropy::flow_hash(frame, layers);
        *self = Self {
            hash,
            flow_label: match config.flow_label {
                FlowLabel::Fixed(label) => label,
                FlowLabel::Inner => layers.flow_label,
                // 0 would say that there is no label.
                FlowLabel::Hash => (hash & FLOW_LABEL_MASK).max(1),
            },
            tos: config.tos.resolve(layers.traffic_class) & !ecn::MASK
                | ecn::encapsulate(config.ecn_encap, layers.traffic_class),
            ttl: config.ttl.resolve(layers.ttl),
            df: match config.df {
                Df::Unset => false,
                Df::Set => true,
                Df::Inherit => {
                    layers.place.tags == 0 && (layers.df || layers.place.network == Network::Ipv6)
                }
            },
            unfinished: unfinished::is_left(frame, layers),
        };
    }

    /// What outer headers are written from, but for the identification, which each has for itself.
    #[inline(always)]
    pub(super) fn fields(
        self,
        config: &SegmentConfig,
        group_policy: u32,
        inner_sum: Option<u32>,
    ) -> OuterFields {
        OuterFields {
            source_port: entropy::spread(
                self.hash,
                config.source_ports.low,
                config.source_ports.high,
            ),
            ip_id: 0,
            tos: self.tos,
            ttl: self.ttl,
            df: self.df,
            flow_label: self.flow_label,
            group_policy,
            inner_sum,
        }
    }
}

/// How a frame gets to a VTEP: the headers for it, and where it is counted.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) template: &'a EncapTemplate,
    pub(super) peer: PeerId,
}

/// How a frame of this length gets to this VTEP, or why it does not.
#[inline(always)]
pub(super) fn reach(vteps: &[Vtep], vtep: VtepId, inner_len: usize) -> Result<Way<'_>, DropReason> {
    let vtep = vteps
        .get(vtep.0 as usize)
        .ok_or(DropReason::NextHopUnresolved)?;
    let template = match &vtep.next_hop {
        NextHop::Resolved(template) => template,
        NextHop::Unresolved(UnresolvedReason::LinkDown) => return Err(DropReason::LinkDown),
        NextHop::Unresolved(_) => return Err(DropReason::NextHopUnresolved),
    };
    if template.ip_packet_len(inner_len) > usize::from(vtep.path_mtu) {
        return Err(DropReason::Oversize);
    }
    Ok(Way {
        template,
        peer: vtep.peer,
    })
}

/// A frame that goes nowhere, and why.
pub(super) type Dead = (Frame, DropReason);

#[inline(always)]
fn send<const SUPER: bool, P: Port>(
    segment: &Segment,
    vtep: VtepId,
    edit: Push,
    umem: &mut Umem,
    mut frame: Frame,
    counters: &PortCounters,
    exit: &mut Exit<'_, P>,
) -> Result<(), Dead> {
    let superframe = superframe::<SUPER>(umem, &frame);
    let len = superframe.map_or(frame.len(), |superframe| superframe.segment_len());
    let way = match reach(&segment.vteps, vtep, len) {
        Ok(way) => way,
        Err(reason) => return Err((frame, reason)),
    };
    let load = Load {
        superframe,
        checksum: Checksum::of(&segment.config, exit.port),
    };
    let fields = prepare(&segment.config, edit, &load, umem, &mut frame, counters);
    if !push::<SUPER, P>(way.template, fields, load, umem, &mut frame, exit) {
        return Err((frame, DropReason::NoFrame));
    }
    let note = Note::new(way.peer, &frame, load.segments());
    exit.put(frame, Role::First, note, umem, counters);
    Ok(())
}

/// Sends a copy to each VTEP of the list, one after the other. A copy is made while the frame is still without outer
/// headers, and only when there is somewhere to send it.
#[inline(never)]
fn copy_to<const SUPER: bool, P: Port>(
    list: &[VtepId],
    segment: &Segment,
    edit: Push,
    umem: &mut Umem,
    mut frame: Frame,
    counters: &PortCounters,
    exit: &mut Exit<'_, P>,
) -> Result<(), Dead> {
    let superframe = superframe::<SUPER>(umem, &frame);
    let inner_len = superframe.map_or(frame.len(), |superframe| superframe.segment_len());
    let wanted = list.len();
    let mut reachable = list
        .iter()
        .filter_map(|vtep| reach(&segment.vteps, *vtep, inner_len).ok());
    let Some(way) = reachable.next() else {
        return Err((frame, unreachable(list, segment, inner_len, counters)));
    };
    let load = Load {
        superframe,
        checksum: Checksum::of(&segment.config, exit.port),
    };
    let fields = prepare(&segment.config, edit, &load, umem, &mut frame, counters);
    let (mut role, mut handed_on, mut dead) = (Role::First, 0, None);
    let mut next = Some((way, frame));
    while let Some((way, mut frame)) = next {
        next = reachable
            .next()
            .and_then(|way| Some((way, copy::<SUPER, P>(umem, &frame, counters, exit)?)));
        if push::<SUPER, P>(way.template, fields, load, umem, &mut frame, exit) {
            let note = Note::new(way.peer, &frame, load.segments());
            exit.put(frame, role, note, umem, counters);
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

/// Why a frame of this length to a list goes nowhere: what its first VTEP fails at. Counts the copies that are lost with it.
pub(super) fn unreachable(
    list: &[VtepId],
    segment: &Segment,
    inner_len: usize,
    counters: &PortCounters,
) -> DropReason {
    counters
        .flood_copies_lost
        .add(list.len().saturating_sub(1) as u64);
    let first = list.first();
    first
        .and_then(|vtep| reach(&segment.vteps, *vtep, inner_len).err())
        .unwrap_or(DropReason::NoTxTarget)
}

/// A copy of the frame. When the pool is empty, what waits is sent first: the port may give frames back at once.
fn copy<const SUPER: bool, P: Port>(
    umem: &mut Umem,
    frame: &Frame,
    counters: &PortCounters,
    exit: &mut Exit<'_, P>,
) -> Option<Frame> {
    let mut copy = umem.duplicate(frame).or_else(|| {
        exit.flush(umem, counters);
        exit.port.reclaim(umem);
        umem.duplicate(frame)
    })?;
    if SUPER && let Some(header) = VnetHeader::parse(umem.room(frame)) {
        put_header(umem, &mut copy, header);
    }
    Some(copy)
}

/// Puts a header where a TAP looks for it.
fn put_header(umem: &mut Umem, frame: &mut Frame, header: VnetHeader) {
    let room = umem.room_mut(frame);
    if let Some(place) = room.first_chunk_mut::<{ vnet::LEN }>() {
        *place = header.bytes();
    }
}

/// Finishes the inner checksum, unless it is one of a superframe, and completes what the outer headers are written from.
#[inline(always)]
fn prepare(
    config: &SegmentConfig,
    edit: Push,
    load: &Load,
    umem: &mut Umem,
    frame: &mut Frame,
    counters: &PortCounters,
) -> OuterFields {
    let group_policy = if config.gbp {
        gbp::word_of(carrier::mark_of(umem, frame))
    } else {
        0
    };
    match load.superframe {
        None if edit.unfinished => finish(umem, frame, counters),
        None => {}
        Some(superframe) => {
            counters.superframes.add(1);
            counters.segments.add(superframe.segments as u64);
        }
    }
    let inner_sum = match load.checksum {
        Checksum::Compute if load.superframe.is_none() => Some(checksum::sum(umem.bytes(frame))),
        Checksum::Compute | Checksum::Leave | Checksum::Zero => None,
    };
    edit.fields(config, group_policy, inner_sum)
}

/// Rare, so that the headers are read once more instead of kept for it.
#[inline(never)]
fn finish(umem: &mut Umem, frame: &mut Frame, counters: &PortCounters) {
    let bytes = umem.bytes_mut(frame);
    if let Some(layers) = Layers::parse(bytes) {
        let completed = unfinished::complete(bytes, &layers);
        counters.checksums_completed.add(u64::from(completed));
    }
}

/// What is encapsulated besides the frame's bytes.
#[derive(Clone, Copy)]
struct Load {
    superframe: Option<Superframe>,
    /// Of the frame, or of the segments of a superframe.
    checksum: Checksum,
}

impl Load {
    /// Frames of the wire.
    #[inline(always)]
    fn segments(&self) -> usize {
        self.superframe.map_or(1, |superframe| superframe.segments)
    }
}

/// What becomes of the outer UDP checksum.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Checksum {
    /// There is none.
    Zero,
    /// It is computed here.
    Compute,
    /// The device finishes it.
    Leave,
}

impl Checksum {
    #[inline(always)]
    fn of<P: Port>(config: &SegmentConfig, port: &P) -> Self {
        match config.udp_checksum {
            UdpChecksum::Zero => Self::Zero,
            UdpChecksum::Compute if port.finishes_checksums() => Self::Leave,
            UdpChecksum::Compute => Self::Compute,
        }
    }
}

/// Writes the outer headers in front of the frame; `false`, and nothing written, when there is no room.
#[inline(always)]
fn push<const SUPER: bool, P>(
    template: &EncapTemplate,
    mut fields: OuterFields,
    load: Load,
    umem: &mut Umem,
    frame: &mut Frame,
    exit: &mut Exit<'_, P>,
) -> bool {
    fields.ip_id = exit.ip_ids.next_id();
    if SUPER {
        return push_from_tap(template, &fields, load, umem, frame, exit.ip_ids);
    }
    if load.checksum == Checksum::Leave {
        return push_unfinished(template, &fields, umem, frame);
    }
    umem.push(frame, template.len())
        .is_some_and(|bytes| template.write(bytes, &fields))
}

/// The same, with a request to the device to finish the UDP checksum.
#[inline]
fn push_unfinished(
    template: &EncapTemplate,
    fields: &OuterFields,
    umem: &mut Umem,
    frame: &mut Frame,
) -> bool {
    let transport = template.len() - vxlan::LEN - udp::LEN;
    umem.push(frame, template.len())
        .is_some_and(|bytes| template.write_superframe(bytes, fields, true))
        && umem.request_checksum(frame, transport as u16, udp::CHECKSUM_OFFSET as u16)
}

/// The same for what came out of a TAP, with the header that tells the next one what to do.
#[inline(never)]
fn push_from_tap(
    template: &EncapTemplate,
    fields: &OuterFields,
    load: Load,
    umem: &mut Umem,
    frame: &mut Frame,
    ip_ids: &mut IpIds,
) -> bool {
    let Some(superframe) = load.superframe else {
        put_header(umem, frame, VnetHeader::default());
        return umem
            .push(frame, template.len())
            .is_some_and(|bytes| template.write(bytes, fields));
    };
    let with_checksum = load.checksum != Checksum::Zero;
    let tunnel = Tunnel {
        len: template.len(),
        transport: template.len() - vxlan::LEN - udp::LEN,
        ipv6: template.is_ipv6(),
        checksum: with_checksum,
    };
    let network = Place::find(umem.bytes(frame)).map_or(ethernet::LEN, |place| place.offset);
    let header = VnetHeader::parse(umem.room(frame))
        .and_then(|header| superframe.tunnelled(&header, network, tunnel));
    let Some(header) = header else { return false };
    put_header(umem, frame, header);
    ip_ids.skip(superframe.segments - 1);
    umem.push(frame, template.len())
        .is_some_and(|bytes| template.write_superframe(bytes, fields, with_checksum))
}

#[cfg(test)]
mod tests {
    use super::super::lab::{
        FAR, LOST, Lab, NEAR, OWN, UNKNOWN, config, inner4, inner6, segment, with_class,
    };
    use super::*;
    use crate::port::MemoryPort;
    use crate::table::Inherit;
    use etherparse::{Ipv4HeaderSlice, PacketBuilder, UdpHeader, UdpHeaderSlice};
    use std::collections::HashSet;
    use std::sync::Arc;

    fn lab() -> Lab {
        Lab::new(vec![segment(config())])
    }

    fn lab_with(change: impl FnOnce(&mut SegmentConfig)) -> Lab {
        let mut config = config();
        change(&mut config);
        Lab::new(vec![segment(config)])
    }

    fn flooding(list: &[u32]) -> Lab {
        let mut segment = segment(config());
        segment.flood = Arc::new(list.iter().copied().map(VtepId).collect());
        Lab::new(vec![segment])
    }

    fn ip(frame: &[u8]) -> etherparse::Ipv4Header {
        Ipv4HeaderSlice::from_slice(&frame[14..])
            .unwrap()
            .to_header()
    }

    fn tos(frame: &[u8]) -> u8 {
        frame[15]
    }

    fn destinations(sent: &[Vec<u8>]) -> Vec<u8> {
        sent.iter().map(|frame| ip(frame).destination[3]).collect()
    }

    fn source_port(frame: &[u8]) -> u16 {
        u16::from_be_bytes([frame[34], frame[35]])
    }

    fn tagged(frame: &[u8]) -> Vec<u8> {
        [&frame[..12], &[0x81, 0, 0, 10], &frame[12..]].concat()
    }

    const ARP: [u8; 42] = {
        let mut frame = [0; 42];
        let mut n = 0;
        while n < 6 {
            frame[n] = NEAR.0[n];
            frame[6 + n] = OWN.0[n];
            n += 1;
        }
        (frame[12], frame[13]) = (8, 6);
        frame
    };

    #[test]
    fn a_known_destination_is_sent_to_its_vtep_with_every_header_right() {
        let mut lab = lab();
        let inner = inner4(FAR, b"payload");
        let (verdicts, sent) = lab.encap(std::slice::from_ref(&inner));
        assert_eq!(verdicts, [Verdict::Encap(VtepId(1))]);
        let frame = &sent[0];
        assert_eq!(frame[..14], [2, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 1, 8, 0]);
        let ip = ip(frame);
        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
        assert_eq!(
            (ip.source, ip.destination),
            ([192, 0, 2, 1], [192, 0, 2, 3])
        );
        assert_eq!(
            (ip.time_to_live, ip.dont_fragment, ip.more_fragments),
            (64, false, false)
        );
        assert_eq!(usize::from(ip.total_len), frame.len() - 14);
        let udp = UdpHeaderSlice::from_slice(&frame[34..]).unwrap();
        assert_eq!((udp.destination_port(), udp.checksum()), (8472, 0));
        assert_eq!(usize::from(udp.length()), frame.len() - 34);
        assert_eq!(frame[42..50], [8, 0, 0, 0, 0, 0, 1, 0], "v01, v02, v03");
        assert_eq!(frame[50..], inner[..]);
        assert_eq!(
            (
                lab.counters.forwarded.get(),
                lab.counters.forwarded_bytes.get()
            ),
            (1, frame.len() as u64)
        );
    }

    #[test]
    fn v06_a_computed_udp_checksum_is_what_an_independent_parser_computes() {
        let mut lab = lab_with(|config| config.udp_checksum = UdpChecksum::Compute);
        for len in 0..100 {
            let frame = lab.fate_out(&inner4(NEAR, &vec![0xa5; len])).unwrap();
            let udp = UdpHeaderSlice::from_slice(&frame[34..])
                .unwrap()
                .to_header();
            let right = UdpHeader {
                checksum: 0,
                ..udp.clone()
            }
            .calc_checksum_ipv4(&ip(&frame), &frame[42..]);
            assert_eq!(udp.checksum, right.unwrap());
        }
    }

    /// The device of these labs finishes what it is asked to, so that the frames have to be the same to the last bit.
    #[test]
    fn v06_a_checksum_that_is_left_to_the_device_comes_out_as_one_computed_here() {
        let computing = |mut config: SegmentConfig| {
            config.udp_checksum = UdpChecksum::Compute;
            config
        };
        for config in [computing(config()), computing(super::super::lab::config6())] {
            let mut flooding = segment(config);
            flooding.flood = Arc::new(vec![VtepId(0), VtepId(1)]);
            let mut here = Lab::new(vec![flooding.clone()]);
            let mut there = Lab::new(vec![flooding]);
            there.port = there.port.with_offload();
            for len in 0..100 {
                for to in [NEAR, FAR, UNKNOWN] {
                    let frames = [inner4(to, &vec![0xa5; len]), inner6(to, &[len as u8; 2])];
                    assert_eq!(there.encap(&frames), here.encap(&frames));
                }
            }
            assert_eq!(there.counters.flood_copies.get(), 200);
        }
    }

    #[test]
    fn a_checksum_that_nobody_wants_is_left_to_no_device() {
        let mut lab = lab();
        lab.port = lab.port.with_offload();
        let frame = lab.fate_out(&inner4(NEAR, b"payload")).unwrap();
        assert_eq!(frame[40..42], [0, 0]);
    }

    #[test]
    fn f05_an_inner_checksum_is_finished_here_whatever_the_device_can() {
        let mut finished = inner4(NEAR, b"payload");
        let right = [finished[40], finished[41]];
        // The sum over the pseudo-header alone.
        let pseudo = checksum::sum(&finished[26..34]) + 17 + (finished.len() as u32 - 34);
        finished[40..42].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
        let mut lab = lab_with(|config| config.udp_checksum = UdpChecksum::Compute);
        lab.port = lab.port.with_offload();
        let frame = lab.fate_out(&finished).unwrap();
        assert_eq!(frame[90..92], right);
        let udp = UdpHeaderSlice::from_slice(&frame[34..])
            .unwrap()
            .to_header();
        let right = udp.calc_checksum_ipv4(&ip(&frame), &frame[42..]).unwrap();
        assert_eq!(udp.checksum, right);
    }

    #[test]
    fn a_frame_with_a_cut_header_is_short() {
        let mut lab = lab();
        for (frame, from, whole) in [(inner4(NEAR, &[]), 0, 34), (inner6(NEAR, &[]), 14, 54)] {
            let tagged = tagged(&frame);
            for len in from..whole {
                if len < 1 {
                    continue; // A ring never holds an empty frame.
                }
                if len != 12 && len != 13 || from == 0 {
                    assert_eq!(
                        lab.fate_out(&frame[..len]),
                        Err(DropReason::AccessShort),
                        "{len} bytes"
                    );
                }
                if len >= 14 {
                    let cut = &tagged[..len + 4];
                    assert_eq!(
                        lab.fate_out(cut),
                        Err(DropReason::AccessShort),
                        "{len} bytes and a tag"
                    );
                }
            }
            assert!(lab.fate_out(&frame[..whole]).is_ok());
            assert!(lab.fate_out(&tagged[..whole + 4]).is_ok());
        }
    }

    #[test]
    fn an_unknown_destination_dies_without_a_flood_list() {
        let mut lab = lab();
        for mac in [
            UNKNOWN,
            MacAddr::BROADCAST,
            MacAddr([1, 0, 0x5e, 0, 0, 1]),
            MacAddr::ZERO,
        ] {
            assert_eq!(lab.fate_out(&inner4(mac, &[])), Err(DropReason::NoTxTarget));
        }
    }

    #[test]
    fn a_vtep_without_next_hop_and_one_on_a_dead_link_are_told_apart() {
        let mut lab = lab();
        assert_eq!(
            lab.fate_out(&inner4(LOST, &[])),
            Err(DropReason::NextHopUnresolved)
        );
        let vteps = Arc::make_mut(&mut lab.snapshot.segments[0].vteps);
        vteps[2].next_hop = NextHop::Unresolved(UnresolvedReason::LinkDown);
        assert_eq!(lab.fate_out(&inner4(LOST, &[])), Err(DropReason::LinkDown));
    }

    #[test]
    fn p01_the_outer_packet_fits_the_mtu_to_the_byte_or_dies() {
        let mut lab = lab();
        let headers = inner4(NEAR, &[]).len();
        let fits = inner4(NEAR, &vec![0; 1500 - 36 - headers]);
        assert_eq!(lab.fate_out(&fits).unwrap().len(), 1514);
        let exceeds = inner4(NEAR, &vec![0; 1500 - 36 - headers + 1]);
        assert_eq!(lab.fate_out(&exceeds), Err(DropReason::Oversize));
        // One VTEP's path narrows, not the other's.
        let vteps = Arc::make_mut(&mut lab.snapshot.segments[0].vteps);
        vteps[0].path_mtu = 1499;
        assert_eq!(lab.fate_out(&fits), Err(DropReason::Oversize));
        assert!(lab.fate_out(&fits[..fits.len() - 1]).is_ok());
        let far = [&FAR.0, &fits[6..]].concat();
        assert_eq!(lab.fate_out(&far).unwrap().len(), 1514);
    }

    #[test]
    fn v09_an_unknown_destination_is_flooded_to_every_vtep_of_the_list_once() {
        let mut lab = flooding(&[0, 1]);
        let inner = inner4(MacAddr::BROADCAST, b"who is there");
        let (verdicts, sent) = lab.encap(&[inner.clone(), inner4(NEAR, &[]), inner.clone()]);
        assert_eq!(
            verdicts,
            [Verdict::Flood, Verdict::Encap(VtepId(0)), Verdict::Flood]
        );
        assert_eq!(destinations(&sent), [2, 3, 2, 2, 3]);
        assert!([0, 1, 3, 4].iter().all(|n| sent[*n][50..] == inner[..]));
        assert_eq!(source_port(&sent[0]), source_port(&sent[1]));
        assert_eq!(
            (
                lab.counters.forwarded.get(),
                lab.counters.flood_copies.get()
            ),
            (3, 2)
        );
        assert_eq!(lab.counters.flood_copies_lost.get(), 0);
    }

    #[test]
    fn v09_a_multicast_destination_in_the_fdb_goes_where_that_says() {
        let mut lab = flooding(&[0, 1]);
        let group = MacAddr([1, 0, 0x5e, 0, 0, 1]);
        lab.snapshot.segments[0].fdb = Arc::new(crate::table::Fdb::new([(group, VtepId(1))]));
        assert_eq!(
            lab.encap(&[inner4(group, &[])]).0,
            [Verdict::Encap(VtepId(1))]
        );
    }

    #[test]
    fn v09_an_unreachable_vtep_of_the_list_costs_a_copy_and_not_the_frame() {
        let mut lab = flooding(&[2, 0, 7, 1]); // 2 is unresolved, 7 does not exist
        let (_, sent) = lab.encap(&[inner4(UNKNOWN, &[])]);
        assert_eq!(destinations(&sent), [2, 3]);
        assert_eq!(
            (
                lab.counters.forwarded.get(),
                lab.counters.flood_copies.get()
            ),
            (1, 1)
        );
        assert_eq!(lab.counters.flood_copies_lost.get(), 2);
        let mut lab = flooding(&[2, 2]);
        assert_eq!(
            lab.fate_out(&inner4(UNKNOWN, &[])),
            Err(DropReason::NextHopUnresolved)
        );
        assert_eq!(lab.counters.flood_copies_lost.get(), 1);
    }

    #[test]
    fn v09_a_flood_far_larger_than_the_outbox_is_flushed_on_the_way() {
        let mut lab = flooding(&[0, 1].repeat(20)); // 5 frames, 200 copies: three outboxes, within the ring of 256
        let frames = vec![inner4(UNKNOWN, &[]); 5];
        let (_, sent) = lab.encap(&frames);
        assert_eq!(sent.len(), 200);
        assert_eq!(
            lab.counters.flood_copies.get() + lab.counters.flood_copies_lost.get(),
            195
        );
    }

    #[test]
    fn v09_a_flood_larger_than_the_ring_loses_copies_and_counts_them() {
        let mut lab = flooding(&[0, 1].repeat(20));
        lab.port = MemoryPort::new(32);
        let frames = vec![inner4(UNKNOWN, &[]); 5];
        let (_, sent) = lab.encap(&frames);
        assert_eq!(sent.len(), 32);
        assert_eq!(lab.counters.forwarded.get(), 1);
        assert_eq!(lab.counters.drops(DropReason::TxRingFull), 4);
        assert_eq!(
            lab.counters.flood_copies.get() + lab.counters.flood_copies_lost.get(),
            195
        );
    }

    #[test]
    fn v09_an_empty_pool_costs_copies_and_not_the_frame() {
        let mut lab = flooding(&[0, 1]);
        let mut held = Vec::new();
        while lab.umem.free() > 1 {
            held.push(lab.umem.allocate().unwrap());
        }
        let (mut batch, mut verdicts, mut outbox) =
            (Batch::new(), Verdicts::new(), super::super::Outbox::new());
        let mut frame = lab.umem.allocate().unwrap();
        assert!(lab.umem.fill(&mut frame, &inner4(UNKNOWN, &[])));
        batch.push(frame).unwrap();
        lab.counters.received.add(1);
        decide(
            &lab.snapshot,
            SegmentId(0),
            &lab.umem,
            &batch,
            &mut verdicts,
        );
        let mut exit = Exit {
            port: &mut lab.port,
            outbox: &mut outbox,
            ip_ids: &mut lab.ip_ids,
        };
        apply(
            &lab.snapshot,
            SegmentId(0),
            &mut lab.umem,
            &mut batch,
            &verdicts,
            &lab.counters,
            &mut exit,
        );
        exit.flush(&mut lab.umem, &lab.counters);
        assert_eq!(
            (
                lab.counters.forwarded.get(),
                lab.counters.flood_copies_lost.get()
            ),
            (1, 1)
        );
        assert!(lab.port.collect(&mut lab.umem).is_some());
        lab.port.reclaim(&mut lab.umem);
        held.into_iter().for_each(|frame| lab.umem.release(frame));
        lab.check_balance();
    }

    #[test]
    fn a_frame_without_room_in_front_is_counted_and_released() {
        for mut lab in [lab(), flooding(&[0, 1])] {
            for mac in [NEAR, UNKNOWN] {
                let (mut batch, mut verdicts, mut outbox) =
                    (Batch::new(), Verdicts::new(), super::super::Outbox::new());
                let mut frame = lab.umem.allocate().unwrap();
                assert!(lab.umem.push(&mut frame, 256 - 49).is_some());
                assert!(lab.umem.fill(&mut frame, &inner4(mac, &[])));
                batch.push(frame).unwrap();
                lab.counters.received.add(1);
                decide(
                    &lab.snapshot,
                    SegmentId(0),
                    &lab.umem,
                    &batch,
                    &mut verdicts,
                );
                let mut exit = Exit {
                    port: &mut lab.port,
                    outbox: &mut outbox,
                    ip_ids: &mut lab.ip_ids,
                };
                apply(
                    &lab.snapshot,
                    SegmentId(0),
                    &mut lab.umem,
                    &mut batch,
                    &verdicts,
                    &lab.counters,
                    &mut exit,
                );
                assert_eq!(exit.flush(&mut lab.umem, &lab.counters), 0);
                lab.check_balance();
            }
            assert!(lab.counters.drops(DropReason::NoFrame) >= 1);
        }
    }

    #[test]
    fn d14_ttl_is_fixed_or_the_inner_one() {
        let (four, six) = (inner4(NEAR, &[]), inner6(NEAR, &[]));
        let mut fixed = lab_with(|config| config.ttl = Inherit::Fixed(7));
        let mut inherit = lab_with(|config| config.ttl = Inherit::Inner);
        for (frame, inner) in [
            (&four, 63),
            (&six, 62),
            (&tagged(&four), 63),
            (&ARP.to_vec(), 64),
        ] {
            assert_eq!(ip(&fixed.fate_out(frame).unwrap()).time_to_live, 7);
            assert_eq!(ip(&inherit.fate_out(frame).unwrap()).time_to_live, inner);
        }
    }

    #[test]
    fn d14_dscp_is_fixed_or_the_inner_one_and_ecn_is_carried_in_any_case() {
        let mut fixed = lab_with(|config| config.tos = Inherit::Fixed(0x28));
        let mut zero = lab();
        let mut inherit = lab_with(|config| config.tos = Inherit::Inner);
        for plain in [inner4(NEAR, &[]), inner6(NEAR, &[])] {
            for (class, ecn) in [(0x14, 0), (0xb9, 1), (0xb8 | 2, 2), (0xbb, 2)] {
                let frame = with_class(plain.clone(), class);
                for frame in [tagged(&frame), frame] {
                    assert_eq!(tos(&zero.fate_out(&frame).unwrap()), ecn);
                    assert_eq!(tos(&fixed.fate_out(&frame).unwrap()), 0x28 | ecn);
                    assert_eq!(tos(&inherit.fate_out(&frame).unwrap()), class & 0xfc | ecn);
                }
            }
        }
        assert_eq!(tos(&inherit.fate_out(&ARP).unwrap()), 0);
        assert_eq!(tos(&fixed.fate_out(&ARP).unwrap()), 0x28);
    }

    #[test]
    fn d09_df_is_set_unset_or_the_inner_one() {
        let mut unset = lab();
        let mut set = lab_with(|config| config.df = Df::Set);
        let mut inherit = lab_with(|config| config.df = Df::Inherit);
        let free = {
            let mut frame = inner4(NEAR, &[]);
            frame[20] = 0;
            frame
        };
        let mut bound = free.clone();
        bound[20] = 0x40;
        let cases = [
            (&free, false),
            (&bound, true),
            (&inner6(NEAR, &[]), true),
            (&ARP.to_vec(), false),
            (&tagged(&bound), false),
        ];
        for (frame, inherited) in cases {
            assert!(!ip(&unset.fate_out(frame).unwrap()).dont_fragment);
            assert!(ip(&set.fate_out(frame).unwrap()).dont_fragment);
            assert_eq!(
                ip(&inherit.fate_out(frame).unwrap()).dont_fragment,
                inherited
            );
        }
    }

    #[test]
    fn p02_every_outer_packet_has_an_identification_of_its_own() {
        let mut lab = flooding(&[0, 1]);
        let (_, sent) = lab.encap(&vec![inner4(UNKNOWN, &[]); 40]);
        let ids: HashSet<_> = sent.iter().map(|frame| ip(frame).identification).collect();
        assert_eq!(ids.len(), 80);
    }

    #[test]
    fn v05_source_ports_are_stable_in_a_flow_and_stay_in_the_devices_range() {
        let mut lab =
            lab_with(|config| (config.source_ports.low, config.source_ports.high) = (50000, 50007));
        let flow = |port| {
            let mut bytes = Vec::new();
            let ip =
                PacketBuilder::ethernet2(OWN.0, NEAR.0).ipv4([10, 244, 0, 2], [10, 244, 1, 2], 64);
            ip.tcp(port, 80, 1, 1000).write(&mut bytes, &[]).unwrap();
            bytes
        };
        let mut seen = HashSet::new();
        for port in 0..200 {
            let sent = [
                lab.fate_out(&flow(port)).unwrap(),
                lab.fate_out(&flow(port)).unwrap(),
            ];
            assert_eq!(source_port(&sent[0]), source_port(&sent[1]));
            seen.insert(source_port(&sent[0]));
        }
        assert_eq!(seen, (50000..=50007).collect());
    }

    #[test]
    fn f05_an_unfinished_inner_checksum_is_finished_before_the_wire_once_for_all_copies() {
        let mut lab = flooding(&[0, 1]);
        let right = inner4(UNKNOWN, b"payload");
        let mut unfinished = right.clone();
        let pseudo = checksum::pseudo_ipv4(
            [10, 244, 1, 2].into(),
            [10, 244, 0, 2].into(),
            17,
            right.len() as u16 - 34,
        );
        unfinished[40..42].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
        let (_, sent) = lab.encap(&[unfinished]);
        assert!(sent.iter().all(|frame| frame[50..] == right[..]));
        assert_eq!(lab.counters.checksums_completed.get(), 1);
    }

    #[test]
    fn frames_of_a_segment_that_is_gone_are_counted_and_released() {
        let mut lab = Lab::new(Vec::new());
        assert_eq!(lab.fate_out(&inner4(NEAR, &[])), Err(DropReason::LinkDown));
    }
}
