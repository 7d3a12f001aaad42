//! A worker's lane of superframes: memory of its own, a queue of the TAP of every segment that has one, and a queue of the
//! TAP in front of each underlay device.
//!
//! ```text
//!   from an access TAP: receive ─▶ decide ─▶ apply ─▶ the wire TAP of the segment's underlay      (encapsulated, uncut)
//!   from an underlay:   what TCP its decapsulated frames carry ─▶ the segment's access TAP        (`turn.rs`)
//! ```
//!
//! A superframe counts as one frame where it is received and forwarded, as on the kernel's own vxlan device; what it is cut
//! into is counted beside that.

use std::os::fd::RawFd;
use std::sync::Arc;

use super::{Hands, Moved};
use crate::pipeline::{Exit, encap};
use crate::port::{Port, TapPort, Umem};
use crate::stats::{DropReason, PortCounters};
use crate::table::{SegmentId, Snapshot};

/// What a worker has for superframes.
#[derive(Debug)]
pub struct Superframes {
    /// The memory of those that come from the overlay.
    pub umem: Umem,
    /// Indexed by [`SegmentId`]; none for a segment whose TCP goes the way of all other frames.
    pub accesses: Vec<Option<AccessTap>>,
    /// A queue of each wire TAP.
    pub wires: Vec<TapPort>,
}

/// One queue of the TAP of a segment.
#[derive(Debug)]
pub struct AccessTap {
    /// The queue.
    pub port: TapPort,
    /// What became of the frames that came in here.
    pub counters: Arc<PortCounters>,
    /// Where they go: an index of [`Superframes::wires`].
    pub wire: usize,
    /// Frames that could not be received, as far as they are in the counters.
    pub lost: u64,
}

impl AccessTap {
    /// A queue whose frames leave by that wire TAP.
    pub fn new(port: TapPort, counters: Arc<PortCounters>, wire: usize) -> Self {
        Self {
            port,
            counters,
            wire,
            lost: 0,
        }
    }
}

impl Superframes {
    /// The TAP of a segment, if it has one.
    #[inline]
    pub(super) fn access_mut(&mut self, segment: usize) -> Option<&mut AccessTap> {
        self.accesses.get_mut(segment).and_then(Option::as_mut)
    }

    /// What there is.
    pub(super) fn accesses(&self) -> impl Iterator<Item = &AccessTap> {
        self.accesses.iter().flatten()
    }

    /// What a sleeping worker waits on.
    pub(super) fn poll_fds(&self) -> impl Iterator<Item = RawFd> {
        self.accesses().filter_map(|access| access.port.poll_fd())
    }

    /// Encapsulates what has come out of the access TAPs; returns how many frames.
    pub(super) fn turn(&mut self, snapshot: &Snapshot, hands: &mut Hands) -> usize {
        let Self {
            umem,
            accesses,
            wires,
        } = self;
        let mut received = 0;
        for (segment, access) in (0..).map(SegmentId).zip(accesses) {
            if let Some(access) = access
                && let Some(wire) = wires.get_mut(access.wire)
            {
                received += from_access_tap(snapshot, umem, segment, access, wire, hands);
            }
        }
        received
    }

    /// Gives the frames that were sent back to their memories, and every access TAP chunks to receive into.
    pub(super) fn recycle(&mut self, frames: &mut Umem) -> Moved {
        let mut moved = Moved::default();
        for wire in &mut self.wires {
            moved.reclaimed += wire.reclaim(&mut self.umem);
        }
        for access in self.accesses.iter_mut().flatten() {
            moved.reclaimed += access.port.reclaim(frames);
            access.port.refill(&mut self.umem);
        }
        moved
    }
}

/// Encapsulates a batch from one access TAP; returns its size.
fn from_access_tap(
    snapshot: &Snapshot,
    umem: &mut Umem,
    segment: SegmentId,
    access: &mut AccessTap,
    wire: &mut TapPort,
    hands: &mut Hands,
) -> usize {
    let Hands {
        batch,
        verdicts,
        to_underlay,
        ip_ids,
        ..
    } = hands;
    let counters = &*access.counters;
    let received = super::turn::receive(&mut access.port, batch, counters);
    if received == 0 {
        return 0;
    }
    let mut exit = Exit {
        port: wire,
        outbox: to_underlay,
        ip_ids,
    };
    encap::decide_superframes(snapshot, segment, umem, batch, verdicts);
    encap::apply_superframes(
        snapshot, segment, umem, batch, verdicts, counters, &mut exit,
    );
    exit.flush(umem, counters);
    if let Ok(statistics) = access.port.statistics() {
        // The TAP has no other hand that would count them.
        let lost = statistics.rx_dropped.saturating_sub(access.lost);
        access.lost += lost;
        counters.received.add(lost);
        counters.dropped(DropReason::RxInvalid, lost);
    }
    received
}
