//! Frames as they came in, with the verdicts on them, for whoever captures. Not called as long as nobody does.

use std::iter;

use crate::pipeline::{Verdict, Verdicts};
use crate::port::{Batch, Umem};
use crate::stats::tap::{Fate, Point};
use crate::stats::{PeerId, PortCounters, Shape};
use crate::table::{Segment, VtepId};

/// Shows a batch from an underlay.
#[cold]
#[inline(never)]
pub(super) fn from_underlay(
    umem: &Umem,
    batch: &Batch,
    verdicts: &Verdicts,
    counters: &PortCounters,
) {
    // Their outer headers say whom they are from.
    arrived(Point::UnderlayRx, umem, batch, verdicts, counters, |_| {
        PeerId(0)
    });
}

/// Shows a batch from an access port or TAP of this segment.
#[cold]
#[inline(never)]
pub(super) fn from_access(
    segment: Option<&Segment>,
    umem: &Umem,
    batch: &Batch,
    verdicts: &Verdicts,
    counters: &PortCounters,
) {
    arrived(Point::AccessRx, umem, batch, verdicts, counters, |vtep| {
        let vtep = segment.and_then(|segment| segment.vteps.get(vtep.0 as usize));
        vtep.map_or(PeerId(0), |vtep| vtep.peer)
    });
}

#[inline(always)]
fn arrived(
    point: Point,
    umem: &Umem,
    batch: &Batch,
    verdicts: &Verdicts,
    counters: &PortCounters,
    peer_of: impl Fn(VtepId) -> PeerId,
) {
    let mut staged = counters.tap.stage(point, counters.peers.now_ns());
    for (frame, verdict) in batch.iter().zip(verdicts.iter()) {
        let (fate, peer) = match verdict {
            Verdict::Encap(vtep) => (Fate::Encap, peer_of(vtep)),
            Verdict::Flood => (Fate::Flood, PeerId(0)),
            Verdict::List(_) => (Fate::List, PeerId(0)),
            Verdict::Deliver(_) => (Fate::Deliver, PeerId(0)),
            Verdict::DeliverStranger(_) => (Fate::DeliverStranger, PeerId(0)),
            Verdict::Drop(reason) => (Fate::Dropped(reason, Shape::Arrived), PeerId(0)),
        };
        let bytes = iter::once(umem.bytes(frame));
        staged.add(fate, peer, frame.len(), bytes);
    }
    staged.commit(batch.len());
}
