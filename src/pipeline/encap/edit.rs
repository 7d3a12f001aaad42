//! Frames get what they owe to the underlay: checksums finished, copies made, outer headers pushed on.

use super::super::note::Note;
use super::super::{Exit, Role, carrier, cut, unfinished};
use super::inner::Push;
use super::outer::{Checksum, Load, push, put_header};
use super::vtep::{reach, unreachable};
use crate::port::{Frame, Port, Umem};
use crate::stats::{DropReason, PortCounters};
use crate::table::{OuterFields, Segment, SegmentConfig, VtepId};
use crate::wire::layers::Layers;
use crate::wire::superframe::Superframe;
use crate::wire::vnet::VnetHeader;
use crate::wire::{checksum, gbp};

/// A frame that goes nowhere, and why.
pub(super) type Dead = (Frame, DropReason);

#[inline(always)]
pub(super) fn send<const SUPER: bool, P: Port>(
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
    let config = &segment.config;
    let fields = prepare::<SUPER>(config, edit, &load, umem, &mut frame, counters);
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
pub(super) fn copy_to<const SUPER: bool, P: Port>(
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
    let config = &segment.config;
    let fields = prepare::<SUPER>(config, edit, &load, umem, &mut frame, counters);
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

/// Finishes the inner checksum, unless it is one of a superframe, and completes what the outer headers are written from. Of what
/// came out of a TAP its header tells which: with a tunnel of the sender's own it is none that `unfinished` would look at.
#[inline(always)]
fn prepare<const SUPER: bool>(
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
        None if SUPER && finish_told(umem, frame) => counters.checksums_completed.add(1),
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

/// Finishes the checksum that the header in front of the frame asks for; whether it asks for one.
fn finish_told(umem: &mut Umem, frame: &mut Frame) -> bool {
    let header = VnetHeader::parse(umem.room(frame));
    header.is_some_and(|header| cut::finish_told(&header, umem.bytes_mut(frame)))
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

/// What a frame that came out of a TAP is still to be cut into.
#[inline(always)]
pub(super) fn superframe<const SUPER: bool>(umem: &Umem, frame: &Frame) -> Option<Superframe> {
    if !SUPER {
        return None;
    }
    Superframe::read(&VnetHeader::parse(umem.room(frame))?, umem.bytes(frame))
}
