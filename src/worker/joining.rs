//! What TCP an underlay port has received, joined on its way to the access TAPs.
//!
//! A sender's superframe seldom ends where a batch does. A batch that is full says that there is more, in the ring or in the
//! hands of the thread that brings the frames: so the trains at its end wait for the next one, as they would in the kernel,
//! whose GRO goes on when a poll has used up its budget. A batch that is not full ends all waiting, and so does a turn without
//! one: nobody waits for longer than a turn, for a sender that stopped just there is waiting for an answer.

use std::mem;

use super::Superframes;
use crate::pipeline::Outbox;
use crate::pipeline::join::Trains;
use crate::port::Umem;
use crate::stats::{DropReason, PortCounters};

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
}

impl Joining {
    pub(super) fn new() -> Self {
        Self {
            trains: Trains::new(),
            outbox: Outbox::new(),
            segment: 0,
            used: false,
        }
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

    /// Ends a batch from the underlay. After one that was not full, or had nothing for the same TAP, none waits.
    pub(super) fn end_batch(
        &mut self,
        full: bool,
        superframes: &mut Superframes,
        umem: &mut Umem,
        counters: &PortCounters,
    ) {
        if !(mem::take(&mut self.used) && full) {
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
            let full = DropReason::TxRingFull;
            outbox.flush_trains(trains, &mut tap.port, umem, counters, full);
        }
    }
}
