//! To which VTEPs a frame goes, and whether it gets there.

use super::super::Verdict;
use crate::stats::{DropReason, PeerId, PortCounters};
use crate::table::{
    Destination, EncapTemplate, ListId, NextHop, Segment, UnresolvedReason, Vtep, VtepId,
};
use crate::wire::MacAddr;

/// Whom a frame goes to, and whether it gets there.
#[inline(always)]
pub(super) fn aim(
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

/// The VTEPs of a list.
#[inline]
pub(in crate::pipeline) fn members(segment: &Segment, list: ListId) -> &[VtepId] {
    let list = segment.lists.get(list.0 as usize);
    list.map_or(&[][..], Vec::as_slice)
}

/// How a frame gets to a VTEP: the headers for it, and where it is counted.
#[derive(Clone, Copy)]
pub(in crate::pipeline) struct Way<'a> {
    pub(in crate::pipeline) template: &'a EncapTemplate,
    pub(in crate::pipeline) peer: PeerId,
}

/// How a frame of this length gets to this VTEP, or why it does not.
#[inline(always)]
pub(in crate::pipeline) fn reach(
    vteps: &[Vtep],
    vtep: VtepId,
    inner_len: usize,
) -> Result<Way<'_>, DropReason> {
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

/// Why a frame of this length to a list goes nowhere: what its first VTEP fails at. Counts the copies that are lost with it.
pub(in crate::pipeline) fn unreachable(
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
