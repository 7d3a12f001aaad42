//! The four rings of a port, and the frames that go round in them.
//!
//! ```text
//!        pool ── refill ──▶ fill ring ── kernel receives ──▶ rx ring ── receive ──▶ batch
//!         ▲                                                                          │
//!         └── reclaim ── completion ring ◀── kernel transmits ── tx ring ◀── transmit ┘
//! ```
//!
//! A frame turns into a plain address where it enters a ring, and the address is judged where it comes out: it must lie in
//! one chunk of the UMEM. In debug builds a ledger knows besides which chunks this port has in its rings, and refuses what
//! it never put there.
//!
//! Where chunks have several buffers, each way has a second form (`..._chains`): which of the two it is, is asked once a
//! batch, so that frames of one buffer pay nothing for the others.

mod ledger;
mod limits;
#[cfg(test)]
mod tests;

use std::io;

use super::chains::{Chains, Parts};
use super::ring::{Consumer, Descriptor, Producer, Ring};
use super::umem::Bounds;
use super::{Batch, Frame, Umem, Usage};
use ledger::{Ledger, Place};
use limits::Limits;

/// Our ends of the four rings.
#[derive(Debug)]
pub(super) struct Rings {
    pub(super) fill: Producer<u64>,
    pub(super) completion: Consumer<u64>,
    pub(super) rx: Consumer<Descriptor>,
    pub(super) tx: Producer<Descriptor>,
    /// What addresses are judged by; unknown until a UMEM is.
    pub(super) bounds: Option<Bounds>,
    /// The longest frame that may be sent.
    pub(super) frame_len_max: usize,
    /// Whether the memory is registered with requests in mind.
    has_requests: bool,
    /// Addresses that came out of a ring and were refused.
    pub(super) foreign: u64,
    /// Since it was last taken.
    pub(super) usage: Usage,
    chains: Chains,
    ledger: Ledger,
}

/// The memory of the four rings, shared by both ends.
pub(super) struct RingMemory {
    pub(super) fill: Ring<u64>,
    pub(super) completion: Ring<u64>,
    pub(super) rx: Ring<Descriptor>,
    pub(super) tx: Ring<Descriptor>,
}

impl RingMemory {
    /// Four rings of `size` entries in plain memory.
    pub(super) fn plain(size: u32) -> io::Result<Self> {
        Ok(Self {
            fill: Ring::plain(size)?,
            completion: Ring::plain(size)?,
            rx: Ring::plain(size)?,
            tx: Ring::plain(size)?,
        })
    }
}

impl Rings {
    pub(super) fn new(memory: RingMemory, bounds: Option<Bounds>, frame_len_max: usize) -> Self {
        Self {
            fill: memory.fill.producer(),
            completion: memory.completion.consumer(),
            rx: memory.rx.consumer(),
            tx: memory.tx.producer(),
            bounds,
            frame_len_max,
            has_requests: false,
            foreign: 0,
            usage: Usage::default(),
            chains: Chains::default(),
            ledger: Ledger::default(),
        }
    }

    /// The same, of memory that is registered with requests in mind: those of frames are passed on, and each needs its place.
    pub(super) fn with_requests(self) -> Self {
        Self {
            has_requests: true,
            ..self
        }
    }

    /// Receive ring to batch.
    #[inline]
    pub(super) fn receive(&mut self, umem: &mut Umem, batch: &mut Batch) -> usize {
        let Some(bounds) = self.bounds else { return 0 };
        if bounds.has_chains() {
            return self.receive_chains(bounds, umem, batch);
        }
        let before = batch.len();
        let (ledger, foreign) = (&mut self.ledger, &mut self.foreign);
        let taken = self.rx.consume(batch.room() as u32, |descriptor| {
            let frame = bounds
                .frame(descriptor.addr, descriptor.len)
                .filter(|frame| ledger.leaves(frame.addr, Place::Fill));
            match frame {
                // There is room: no more than that was asked for.
                Some(frame) => drop(batch.push(frame)),
                None => *foreign += 1,
            }
        });
        self.note_taken(taken);
        batch.len() - before
    }

    /// So many entries have just been taken from the receive ring.
    #[inline]
    fn note_taken(&mut self, taken: usize) {
        if taken > 0 {
            let waiting = taken as u32 + self.rx.known_pending();
            self.usage.rx_waiting = self.usage.rx_waiting.max(waiting);
        }
    }

    /// The same, of frames that may come in several buffers.
    #[inline(never)]
    fn receive_chains(&mut self, bounds: Bounds, umem: &mut Umem, batch: &mut Batch) -> usize {
        let before = batch.len();
        let (ledger, foreign, chains) = (&mut self.ledger, &mut self.foreign, &mut self.chains);
        let taken = self.rx.consume(batch.room() as u32, |descriptor| {
            let part = bounds
                .part(descriptor.addr, descriptor.len)
                .filter(|part| ledger.leaves(part.addr, Place::Fill));
            *foreign += u64::from(part.is_none());
            let more = descriptor.options & libc::XDP_PKT_CONTD != 0;
            if let Some(frame) = chains.gather(umem, part, more) {
                // There is room: each buffer completes one frame at most.
                drop(batch.push(frame));
            }
        });
        self.note_taken(taken);
        batch.len() - before
    }

    /// Batch to transmit ring. What does not fit, and what may not be sent at all, stays in the batch.
    #[inline]
    pub(super) fn transmit(&mut self, batch: &mut Batch) -> usize {
        let limits = self.limits();
        if let Some(bounds) = self.bounds.filter(Bounds::has_chains) {
            return self.transmit_chains(bounds, batch);
        }
        let ledger = &mut self.ledger;
        let room = self.tx.free(batch.len() as u32);
        // Each frame is looked at once; one that may not be sent goes to the back, so that it does not hold up the rest.
        let mut looks = batch.len();
        let added = self.tx.produce(room, || {
            while looks > 0 {
                looks -= 1;
                let frame = batch.pop()?;
                if !limits.allow(&frame) {
                    // There is room: it has just left.
                    drop(batch.push(frame));
                    continue;
                }
                ledger.enters(frame.addr, Place::Transmit);
                return Some(Descriptor {
                    addr: u64::from(frame.addr),
                    len: frame.bytes(),
                    options: limits.options(&frame),
                });
            }
            None
        });
        self.note_added(added);
        added
    }

    /// So many entries have just been added to the transmit ring.
    #[inline]
    fn note_added(&mut self, added: usize) {
        if added > 0 {
            self.usage.tx_waiting = self.usage.tx_waiting.max(self.tx.pending());
        }
    }

    /// The same, of frames that may go in several buffers: all of a frame's, or none.
    #[inline(never)]
    fn transmit_chains(&mut self, bounds: Bounds, batch: &mut Batch) -> usize {
        let limits = self.limits();
        let (ledger, chains) = (&mut self.ledger, &mut self.chains);
        chains.cover(bounds);
        let most = batch.len() as u32 * bounds.buffers_per_chunk();
        let mut room = self.tx.free(most);
        let (mut looks, mut taken, mut parts) = (batch.len(), 0, Parts::default());
        let added = self.tx.produce(room, || {
            loop {
                if let Some((addr, len, more)) = parts.next(bounds) {
                    ledger.enters(addr, Place::Transmit);
                    return Some(Descriptor {
                        addr: addr.into(),
                        len,
                        options: if more { libc::XDP_PKT_CONTD } else { 0 },
                    });
                }
                if looks == 0 {
                    return None;
                }
                let front = batch.front()?;
                let sendable = limits.allow(front);
                let buffers = bounds.buffers(front);
                if sendable && buffers > room {
                    return None;
                }
                looks -= 1;
                let frame = batch.pop()?;
                if !sendable {
                    // There is room: it has just left.
                    drop(batch.push(frame));
                    continue;
                }
                room -= buffers;
                taken += 1;
                chains.sent(bounds, &frame, buffers);
                parts = Parts::of(&frame);
            }
        });
        self.note_added(added);
        taken
    }

    /// Whether the transmit ring has room for so many frames, each in as many buffers as there may be.
    #[inline]
    pub(super) fn has_room(&mut self, frames: usize) -> bool {
        let buffers = match self.bounds {
            Some(bounds) if bounds.has_chains() => bounds.buffers_per_chunk(),
            _ => 1,
        };
        let wanted = u32::try_from(frames)
            .unwrap_or(u32::MAX)
            .saturating_mul(buffers);
        self.tx.free(wanted) == wanted
    }

    /// Whether [`Self::transmit`] would ever take the frame.
    #[inline]
    pub(super) fn accepts(&self, frame: &Frame) -> bool {
        self.limits().allow(frame)
    }

    #[inline]
    fn limits(&self) -> Limits {
        Limits {
            bounds: self.bounds,
            frame_len_max: self.frame_len_max,
            has_requests: self.has_requests,
        }
    }

    /// Completion ring to pool.
    #[inline]
    pub(super) fn reclaim(&mut self, umem: &mut Umem) -> usize {
        let bounds = *self.bounds.get_or_insert(umem.bounds());
        if bounds.has_chains() {
            return self.reclaim_chains(bounds, umem);
        }
        let (ledger, foreign) = (&mut self.ledger, &mut self.foreign);
        let mut count = 0;
        self.completion.consume(u32::MAX, |addr| {
            // Judged before it is narrowed.
            let inside = bounds.chunk_of(addr).is_some();
            let ours = inside && ledger.leaves(addr as u32, Place::Transmit);
            if ours && umem.recover(addr) {
                count += 1;
            } else {
                *foreign += 1;
            }
        });
        count
    }

    /// The same, of frames that may have gone in several buffers: one comes back with its last.
    #[inline(never)]
    fn reclaim_chains(&mut self, bounds: Bounds, umem: &mut Umem) -> usize {
        let (ledger, foreign, chains) = (&mut self.ledger, &mut self.foreign, &mut self.chains);
        let mut count = 0;
        self.completion.consume(u32::MAX, |addr| {
            let inside = bounds.chunk_of(addr).is_some();
            if !inside || !ledger.leaves(addr as u32, Place::Transmit) {
                *foreign += 1;
            } else if chains.completed(bounds, addr as u32) {
                if umem.recover(addr) {
                    count += 1;
                } else {
                    *foreign += 1;
                }
            }
        });
        count
    }

    /// Pool to fill ring.
    #[inline]
    pub(super) fn refill(&mut self, umem: &mut Umem) -> usize {
        let bounds = *self.bounds.get_or_insert(umem.bounds());
        let ledger = &mut self.ledger;
        ledger.cover(bounds);
        self.chains.cover(bounds);
        let added = self.fill.produce(u32::MAX, || {
            let chunk = umem.take()?;
            ledger.enters(chunk, Place::Fill);
            Some(u64::from(chunk))
        });
        // As many as it wanted were asked for, so it has just been looked at.
        let missing = added as u32 + self.fill.known_free();
        self.usage.fill_missing = self.usage.fill_missing.max(missing);
        added
    }

    /// Frames in the four rings. Between two of them, in the kernel's hands, there may be more.
    pub(super) fn frames_held(&self) -> usize {
        let entries =
            self.fill.pending() + self.rx.pending() + self.tx.pending() + self.completion.pending();
        (entries as usize + self.chains.held()).saturating_sub(self.chains.surplus())
    }
}
