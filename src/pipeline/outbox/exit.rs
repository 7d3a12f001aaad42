//! The way out to the underlay.

use super::super::note::Note;
use super::{IpIds, Outbox, Role};
use crate::port::{Frame, Port, Umem};
use crate::stats::{DropReason, PortCounters};

/// The way out to the underlay, as a worker lends it to `encap::apply`.
#[derive(Debug)]
pub struct Exit<'a, P> {
    /// The underlay port.
    pub port: &'a mut P,
    /// What waits for it.
    pub outbox: &'a mut Outbox,
    /// The worker's running IPv4 identification.
    pub ip_ids: &'a mut IpIds,
}

impl<P: Port> Exit<'_, P> {
    /// Puts a frame into the outbox, and flushes that first where it is full.
    #[inline]
    pub(in crate::pipeline) fn put(
        &mut self,
        frame: Frame,
        role: Role,
        note: Note,
        umem: &mut Umem,
        counters: &PortCounters,
    ) {
        let Err(frame) = self.outbox.push_noted(frame, role, note) else {
            return;
        };
        self.flush(umem, counters);
        if let Err(frame) = self.outbox.push_noted(frame, role, note) {
            // A flushed outbox is empty; the frame is released all the same, should that ever be untrue.
            role.lose(counters, DropReason::TxRingFull, umem.bytes(&frame));
            umem.release(frame);
        }
    }

    /// Transmits what waits; see [`Outbox::flush`].
    pub fn flush(&mut self, umem: &mut Umem, counters: &PortCounters) -> usize {
        self.outbox
            .flush(self.port, umem, counters, DropReason::TxRingFull)
    }
}
