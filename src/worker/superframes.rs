//! A worker's lane of superframes: memory of its own, a queue of the TAP of every segment that has one, and a queue of the
//! TAP in front of each underlay device that has one.
//!
//! ```text
//!   from an access TAP: receive ─▶ decide ─▶ apply ─▶ the wire TAP of the segment's underlay      (encapsulated, uncut)
//!                                              or ─▶ the segment's underlay port                 (cut, and encapsulated)
//!   from an underlay:   what TCP its decapsulated frames carry, joined ─▶ the segment's access TAP         (`turn.rs`)
//! ```
//!
//! A sender's superframe seldom ends where a batch does. A batch that is full says that there is more, in the ring or in the
//! hands of the thread that brings the frames: so the trains at its end wait for the next one, as they would in the kernel,
//! whose GRO goes on when a poll has used up its budget. A batch that is not full ends all waiting, and so does time.
//!
//! A superframe counts as one frame where it is received and forwarded, as on the kernel's own vxlan device; what it is cut
//! into is counted beside that.

use std::mem;
use std::os::fd::RawFd;
use std::sync::Arc;

use super::{Hands, Moved, Underlay};
use crate::pipeline::join::Trains;
use crate::pipeline::{Exit, Outbox, encap, encap_cut};
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
    /// How they leave.
    pub departure: Departure,
    /// Frames that could not be received, as far as they are in the counters.
    pub lost: u64,
}

/// How superframes leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// Whole, by a wire TAP: an index of [`Superframes::wires`].
    Whole(usize),
    /// Cut by the worker, by an underlay port: an index of [`super::Plan::underlays`].
    Cut(usize),
}

impl AccessTap {
    /// A queue whose frames leave like that.
    pub fn new(port: TapPort, counters: Arc<PortCounters>, departure: Departure) -> Self {
        Self {
            port,
            counters,
            departure,
            lost: 0,
        }
    }

    /// Takes what has come out of the TAP; returns how many frames.
    fn receive(&mut self, umem: &mut Umem, hands: &mut Hands) -> usize {
        let counters = &*self.counters;
        let received = super::turn::receive(&mut self.port, umem, &mut hands.batch, counters);
        if received > 0
            && let Ok(statistics) = self.port.statistics()
        {
            // The TAP has no other hand that would count them.
            let lost = statistics.rx_dropped.saturating_sub(self.lost);
            self.lost += lost;
            counters.received.add(lost);
            counters.dropped(DropReason::RxInvalid, lost);
        }
        received
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

    /// Encapsulates what has come out of the access TAPs; returns how many frames. Cut ones are made in `frames`.
    pub(super) fn turn<P: Port>(
        &mut self,
        snapshot: &Snapshot,
        frames: &mut Umem,
        underlays: &mut [Underlay<P>],
        hands: &mut Hands,
    ) -> usize {
        let Self {
            umem,
            accesses,
            wires,
        } = self;
        let mut received = 0;
        for (segment, access) in (0..).map(SegmentId).zip(accesses) {
            let Some(access) = access else { continue };
            // Present: `Worker::new` has looked.
            received += match access.departure {
                Departure::Whole(wire) => wires.get_mut(wire).map_or(0, |wire| {
                    leave_whole(snapshot, umem, segment, access, wire, hands)
                }),
                Departure::Cut(underlay) => underlays.get_mut(underlay).map_or(0, |underlay| {
                    let memories = (&mut *umem, &mut *frames);
                    leave_cut(snapshot, memories, segment, access, underlay, hands)
                }),
            };
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

/// How long trains wait for the batch behind a full one at most. The thread that brings it is at work, and some 30 µs later
/// it is there; only where the sender stopped just here, and not with a segment that ends a train, the time runs out. It is
/// longer than a tick of the kernel's clock (4 ms), because the timer of a sleep that is shorter has to be set and taken back
/// in the processor: in a virtual machine that costs more than all that is gained (100 µs: TCP at 0.84 of the rate without
/// waiting, 5 ms: at 1.05).
const WAIT_NS: u64 = 5_000_000;

/// What TCP an underlay port has received, on its way to one access TAP at a time.
#[derive(Debug)]
pub(super) struct Joining {
    trains: Trains,
    /// Empty between two calls.
    outbox: Outbox,
    /// Whose TAP it is for.
    segment: usize,
    /// Whether the present batch has frames for it.
    used: bool,
    /// The turn that had the last full batch.
    since_ns: u64,
}

impl Joining {
    pub(super) fn new() -> Self {
        Self {
            trains: Trains::new(),
            outbox: Outbox::new(),
            segment: 0,
            used: false,
            since_ns: 0,
        }
    }

    /// When those that wait have waited long enough; nothing, when none does.
    #[inline]
    pub(super) fn due_ns(&self) -> Option<u64> {
        (!self.trains.is_empty()).then(|| self.since_ns.saturating_add(WAIT_NS))
    }

    /// Takes a segment's frames, and sends what does not wait for more.
    pub(super) fn add(
        &mut self,
        segment: usize,
        frames: &mut Outbox,
        superframes: &mut Superframes,
        umem: &mut Umem,
        counters: &PortCounters,
    ) {
        if frames.is_empty() {
            return;
        }
        if self.segment != segment {
            self.flush(superframes, umem, counters);
            self.segment = segment;
        }
        self.used = true;
        frames.join(umem, &mut self.trains);
        self.send(superframes, umem, counters);
    }

    /// Ends a batch from the underlay, of a turn that began at `now_ns`. After one that was not full, or had nothing for the
    /// same TAP, none waits.
    pub(super) fn end_batch(
        &mut self,
        full: bool,
        now_ns: u64,
        superframes: &mut Superframes,
        umem: &mut Umem,
        counters: &PortCounters,
    ) {
        if mem::take(&mut self.used) && full {
            self.since_ns = now_ns;
        } else {
            self.flush(superframes, umem, counters);
        }
    }

    /// Ends a turn without a batch.
    pub(super) fn end_wait(
        &mut self,
        now_ns: u64,
        superframes: &mut Superframes,
        umem: &mut Umem,
        counters: &PortCounters,
    ) {
        if self.due_ns().is_some_and(|due_ns| due_ns <= now_ns) {
            self.flush(superframes, umem, counters);
        }
    }

    fn flush(&mut self, superframes: &mut Superframes, umem: &mut Umem, counters: &PortCounters) {
        if !self.trains.is_empty() {
            self.trains.close(umem);
            self.send(superframes, umem, counters);
        }
    }

    fn send(&mut self, superframes: &mut Superframes, umem: &mut Umem, counters: &PortCounters) {
        let Self { trains, outbox, .. } = self;
        if let Some(tap) = superframes.access_mut(self.segment) {
            let full = DropReason::TxRingFull;
            outbox.flush_trains(trains, &mut tap.port, umem, counters, full);
        }
    }
}

/// Encapsulates a batch from one access TAP, for a wire TAP; returns its size.
fn leave_whole(
    snapshot: &Snapshot,
    umem: &mut Umem,
    segment: SegmentId,
    access: &mut AccessTap,
    wire: &mut TapPort,
    hands: &mut Hands,
) -> usize {
    let received = access.receive(umem, hands);
    if received == 0 {
        return 0;
    }
    let counters = &*access.counters;
    let mut exit = Exit {
        port: wire,
        outbox: &mut hands.to_underlay,
        ip_ids: &mut hands.ip_ids,
    };
    let (batch, verdicts) = (&mut hands.batch, &mut hands.verdicts);
    encap::decide_superframes(snapshot, segment, umem, batch, verdicts);
    encap::apply_superframes(
        snapshot, segment, umem, batch, verdicts, counters, &mut exit,
    );
    exit.flush(umem, counters);
    received
}

/// The same for an underlay port, cut into frames of the second memory.
fn leave_cut<P: Port>(
    snapshot: &Snapshot,
    (umem, frames): (&mut Umem, &mut Umem),
    segment: SegmentId,
    access: &mut AccessTap,
    underlay: &mut Underlay<P>,
    hands: &mut Hands,
) -> usize {
    let received = access.receive(umem, hands);
    if received == 0 {
        return 0;
    }
    let counters = &*access.counters;
    let mut exit = Exit {
        port: &mut underlay.port,
        outbox: &mut hands.to_underlay,
        ip_ids: &mut hands.ip_ids,
    };
    let (batch, verdicts) = (&mut hands.batch, &mut hands.verdicts);
    encap::decide_superframes(snapshot, segment, umem, batch, verdicts);
    let memories = (&mut *umem, &mut *frames);
    encap_cut::apply(
        snapshot, segment, memories, batch, verdicts, counters, &mut exit,
    );
    exit.flush(frames, counters);
    received
}
