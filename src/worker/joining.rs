//! What TCP an underlay port has received, joined on its way to the access TAPs.
//!
//! A sender's superframe seldom ends where a batch does. A batch that is full says that there is more, in the ring or in the
//! hands of the thread that brings the frames: so the trains at its end wait for the next one, as they would in the kernel,
//! whose GRO goes on when a poll has used up its budget. A batch that is not full ends all waiting, and so does time: a sender
//! that stopped just there is waiting for an answer. One that does so has its trains wait once; after that none waits for longer
//! than a turn, for a thousand full batches.

use std::mem;

use super::Superframes;
use crate::pipeline::Outbox;
use crate::pipeline::join::Trains;
use crate::port::Umem;
use crate::stats::tap::Point;
use crate::stats::{DropReason, PortCounters};

/// How long trains wait for the batch behind a full one at most. The thread that brings it is at work, and some 30 µs later
/// it is there. The time is longer than a tick of the kernel's clock (4 ms), because the timer of a sleep that is shorter has
/// to be set and taken back in the processor: in a virtual machine that costs more than all that is gained (TCP of one stream
/// into a node, in parts of its rate when nothing waits for longer than a turn: with 100 µs 0.84, with 5 ms 1.06).
const WAIT_NS: u64 = 5_000_000;

/// After so many full batches trains may wait again, when once they have waited in vain. A sender whose window always ends with
/// a full batch has one answer in a thousand later for it.
const IMPATIENT: u32 = 1024;

/// What an underlay port has received, on its way to one access TAP at a time.
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
    /// For how many full batches more none waits for longer than a turn.
    impatient: u32,
}

impl Joining {
    pub(super) fn new() -> Self {
        Self {
            trains: Trains::new(),
            outbox: Outbox::new(),
            segment: 0,
            used: false,
            since_ns: 0,
            impatient: 0,
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

    /// Ends a batch from the underlay, in the turn that began at `now_ns`. After one that was not full, or had nothing for the
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
            self.impatient = self.impatient.saturating_sub(1);
        } else {
            self.flush(superframes, umem, counters);
        }
    }

    /// A turn without frames, that began at `now_ns`.
    pub(super) fn wait(
        &mut self,
        now_ns: u64,
        superframes: &mut Superframes,
        umem: &mut Umem,
        counters: &PortCounters,
    ) {
        let in_vain = self.due_ns().is_some_and(|due_ns| due_ns <= now_ns);
        if in_vain {
            self.impatient = IMPATIENT;
        }
        if self.impatient > 0 {
            self.flush(superframes, umem, counters);
        }
    }

    /// Sends all that wait. Of no effect where none does.
    pub(super) fn flush(
        &mut self,
        superframes: &mut Superframes,
        umem: &mut Umem,
        counters: &PortCounters,
    ) {
        if !self.trains.is_empty() {
            self.trains.close(umem);
            self.send(superframes, umem, counters);
        }
    }

    fn send(&mut self, superframes: &mut Superframes, umem: &mut Umem, counters: &PortCounters) {
        let Self { trains, outbox, .. } = self;
        if let Some(tap) = superframes.access_mut(self.segment) {
            outbox.leads_to(Point::AccessTx, tap.counters.tap.port());
            let full = DropReason::TxRingFull;
            outbox.flush_trains(trains, &mut tap.port, umem, counters, full);
        }
    }
}
