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
//!
//! What the inner headers ask for is in `inner.rs`, who it goes to in `vtep.rs`, what `apply` does with a frame in `edit.rs`, and the
//! outer headers are in `outer.rs`. [`super::decap`] has the same files.

mod edit;
mod inner;
mod outer;
#[cfg(test)]
mod tests;
mod vtep;

use super::{Exit, Verdict, Verdicts, ahead};
use crate::port::{BATCH, Batch, Frame, Port, Umem};
use crate::prefetch::{self, LINE};
use crate::stats::{DropReason, PortCounters, Shape};
use crate::table::{Destination, Question, Segment, SegmentId, Snapshot};
use crate::wire::ethernet::EthernetHeader;
use edit::{Dead, copy_to, send, superframe};
pub(super) use inner::Push;
use vtep::aim;
pub(super) use vtep::{Way, members, reach, unreachable};

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
