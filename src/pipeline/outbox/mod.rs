//! Edited frames on their way to a port.

mod exit;
mod ip_ids;
mod role;
#[cfg(test)]
mod tests;

use std::iter;

use super::join::{Train, Trains};
use super::note::Note;
use crate::port::{BATCH, Batch, Frame, Port, TapPort, Umem};
use crate::stats::tap::{Fate, Point, STAGED_MAX, Spot};
use crate::stats::{DropReason, PeerId, PortCounters};
pub use exit::Exit;
pub use ip_ids::IpIds;
pub use role::Role;

/// Frames for one port, in order, which of them are copies of a flooded frame, and for whom they count.
#[derive(Debug)]
pub struct Outbox {
    batch: Batch,
    /// Beside each frame, from the front.
    notes: [Note; BATCH],
    /// Bit *i*: the *i*-th frame from the front is a copy beyond the first, or a part of one.
    copies: u64,
    /// Likewise: it is a segment beyond the first of what a superframe was cut into.
    rest: u64,
    /// Where those are seen that leave.
    spot: Spot,
}

const _: () = assert!(BATCH <= u64::BITS as usize, "one bit a frame");
const _: () = assert!(BATCH <= STAGED_MAX);

impl Default for Outbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Outbox {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            batch: Batch::new(),
            notes: [Note::NONE; BATCH],
            copies: 0,
            rest: 0,
            spot: Spot {
                point: Point::UnderlayTx,
                port: 0,
            },
        }
    }

    /// Says where its frames are seen as they leave: at this point of this device.
    #[inline]
    pub fn leads_to(&mut self, point: Point, port: u32) {
        self.spot = Spot { point, port };
    }

    /// How many frames wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// Whether none waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// What waits, from front to back.
    #[cfg(test)]
    pub(in crate::pipeline) fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.batch.iter()
    }

    /// Adds a frame at the back, which counts for this peer.
    ///
    /// # Errors
    /// Gives the frame back when the outbox is full.
    #[inline]
    pub fn push(&mut self, frame: Frame, role: Role, peer: PeerId) -> Result<(), Frame> {
        let note = Note::new(peer, &frame, 1);
        self.push_noted(frame, role, note)
    }

    /// The same, with what has been noted of it.
    #[inline]
    fn push_noted(&mut self, frame: Frame, role: Role, note: Note) -> Result<(), Frame> {
        let place = self.batch.len();
        self.batch.push(frame)?;
        if let Some(beside) = self.notes.get_mut(place) {
            *beside = note;
        }
        let (copy, rest) = role.bits();
        self.copies |= copy << place;
        self.rest |= rest << place;
        Ok(())
    }

    /// What waits, from front to back, as bytes.
    #[inline]
    pub fn bytes<'a>(&'a self, umem: &'a Umem) -> impl Iterator<Item = &'a [u8]> {
        self.batch.iter().map(|frame| umem.bytes(frame))
    }

    /// Moves frames to an empty outbox: of bit *i* of `belongs`, the *i*-th from the front. Both keep their order; copies stay.
    /// Nothing of it was cut.
    #[inline]
    pub fn split(&mut self, other: &mut Self, belongs: u64) {
        debug_assert_eq!(self.rest, 0, "what goes to the overlay is never cut");
        let copies = std::mem::take(&mut self.copies);
        let mut kept = 0;
        for index in 0..self.batch.len() {
            let Some(frame) = self.batch.pop() else { break };
            let note = self.notes.get(index).copied().unwrap_or(Note::NONE);
            let copy = copies >> index & 1;
            let frame = if copy == 0 && belongs >> index & 1 != 0 {
                match other.push_noted(frame, Role::First, note) {
                    Ok(()) => continue,
                    Err(frame) => frame,
                }
            } else {
                frame
            };
            self.copies |= copy << kept;
            if let Some(beside) = self.notes.get_mut(kept) {
                *beside = note;
            }
            kept += 1;
            // There is room: it has just left.
            drop(self.batch.push(frame));
        }
    }

    /// Transmits all that waits, wakes the kernel once, and counts. What the port never sends for its length is dropped
    /// as [`DropReason::Oversize`], what the kernel refuses as [`DropReason::RxInvalid`], what the port takes no more of for the
    /// reason `refused`, or as [`DropReason::LinkDown`] when that is why. The outbox is empty afterwards. Returns how many frames
    /// the port took.
    pub fn flush<P: Port>(
        &mut self,
        port: &mut P,
        umem: &mut Umem,
        counters: &PortCounters,
        refused: DropReason,
    ) -> usize {
        if self.is_empty() {
            return 0;
        }
        if !self.batch.iter().all(|frame| port.accepts(frame)) {
            self.sift(port, umem, counters);
        }
        let mut taken = self.transmit(port, umem, counters);
        let mut ahead = taken;
        while port.refuses_first() {
            self.drop_refused(ahead, umem, counters);
            ahead = self.transmit(port, umem, counters);
            taken += ahead;
        }
        let refused = if port.link_down() {
            DropReason::LinkDown
        } else {
            refused
        };
        self.discard(umem, counters, refused);
        taken
    }

    /// Transmits and counts what the port takes: a prefix, since everything may be sent.
    #[inline]
    fn transmit<P: Port>(&mut self, port: &mut P, umem: &Umem, counters: &PortCounters) -> usize {
        let taken = if counters.tap.wants(self.spot.point) {
            self.transmit_seen(port, umem, counters)
        } else {
            port.transmit(&mut self.batch)
        };
        self.count_sent(taken, counters);
        self.copies = self.copies.checked_shr(taken as u32).unwrap_or(0);
        self.rest = self.rest.checked_shr(taken as u32).unwrap_or(0);
        taken
    }

    /// Drops the frame at the front, which the kernel refuses for what its header says, after so many were taken. What is behind it
    /// stays, with what has been noted of it.
    #[cold]
    #[inline(never)]
    fn drop_refused(&mut self, taken: usize, umem: &mut Umem, counters: &PortCounters) {
        let role = Role::from_bits(self.copies, self.rest);
        if let Some(frame) = self.batch.pop() {
            role.lose(counters, DropReason::RxInvalid, umem.bytes(&frame));
            umem.release(frame);
        }
        (self.copies, self.rest) = (self.copies >> 1, self.rest >> 1);
        for place in 0..self.batch.len() {
            let note = self.notes.get(place + taken + 1).copied();
            if let Some(beside) = self.notes.get_mut(place) {
                *beside = note.unwrap_or(Note::NONE);
            }
        }
    }

    /// Transmits, and shows what the port takes to whoever captures.
    #[cold]
    #[inline(never)]
    fn transmit_seen<P: Port>(
        &mut self,
        port: &mut P,
        umem: &Umem,
        counters: &PortCounters,
    ) -> usize {
        let mut staged = counters.tap.stage_at(self.spot, counters.peers.now_ns());
        for ((index, frame), note) in self.batch.iter().enumerate().zip(&self.notes) {
            let fate = match Role::from_bits(self.copies >> index, self.rest >> index) {
                Role::First | Role::Rest => Fate::Sent,
                Role::Copy | Role::RestOfCopy => Fate::SentCopy,
            };
            let bytes = iter::once(umem.bytes(frame));
            staged.add(fate, note.peer, frame.len(), bytes);
        }
        let taken = port.transmit(&mut self.batch);
        staged.commit(taken);
        taken
    }

    /// Hands a train to its TAP, and shows it to whoever captures, if the TAP takes it: as the one frame that it is there.
    #[cold]
    #[inline(never)]
    fn transmit_train_seen(
        &mut self,
        train: &Train,
        tap: &mut TapPort,
        umem: &Umem,
        counters: &PortCounters,
    ) -> bool {
        let mut staged = counters.tap.stage_at(self.spot, counters.peers.now_ns());
        let peer = self.notes.first().map_or(PeerId(0), |note| note.peer);
        let len = self.batch.iter().map(Frame::len).sum();
        let parts = self.batch.iter().map(|frame| umem.bytes(frame));
        staged.add(Fate::Sent, peer, len, parts);
        let taken = tap.transmit_train(&train.header.bytes(), &mut self.batch);
        staged.commit(usize::from(taken));
        taken
    }

    /// Counts the first `taken` frames, which the port has taken.
    #[inline]
    fn count_sent(&self, taken: usize, counters: &PortCounters) {
        let sent = self.tally(taken);
        let (frames, bytes) = Note::count(self.notes.iter().take(taken), &counters.peers);
        let copied = self.copied_bytes(taken);
        counters.forwarded.add(sent.firsts);
        counters.forwarded_bytes.add(bytes.saturating_sub(copied));
        counters.flood_copies.add(sent.copies);
        counters.copied_bytes.add(copied);
        counters.segments_sent.add(sent.rest);
        let whole = frames.saturating_sub(taken as u64);
        counters.segments_whole.add(whole);
    }

    /// Hands all that waits to `trains`, for the TAP that they go to. `flush_trains` has made them empty of what may leave.
    pub fn join(&mut self, umem: &mut Umem, trains: &mut Trains) {
        debug_assert_eq!(self.copies, 0, "nobody floods to a TAP");
        trains.join_on_noted(umem, &mut self.batch, &self.notes);
    }

    /// As [`Self::flush`], of trains through a TAP: a write for each that does not wait for more. The outbox is empty before
    /// and afterwards.
    pub fn flush_trains(
        &mut self,
        trains: &mut Trains,
        tap: &mut TapPort,
        umem: &mut Umem,
        counters: &PortCounters,
        refused: DropReason,
    ) {
        debug_assert!(self.is_empty());
        while let Some(train) = trains.take_noted(&mut self.batch, &mut self.notes) {
            let frames = self.batch.len() as u64;
            let taken = if counters.tap.wants(self.spot.point) {
                self.transmit_train_seen(&train, tap, umem, counters)
            } else {
                tap.transmit_train(&train.header.bytes(), &mut self.batch)
            };
            if taken {
                let notes = self.notes.iter().take(frames as usize);
                Note::count(notes, &counters.peers);
                counters.forwarded.add(frames);
                counters.forwarded_bytes.add(train.bytes);
                counters.superframes.add(u64::from(frames > 1));
                counters.segments.add(if frames > 1 { frames } else { 0 });
                continue;
            }
            let reason = if tap.link_down() {
                DropReason::LinkDown
            } else {
                refused
            };
            self.discard(umem, counters, reason);
        }
    }

    /// Drops what the port never sends, and keeps the rest in order.
    #[cold]
    fn sift<P: Port>(&mut self, port: &P, umem: &mut Umem, counters: &PortCounters) {
        let mut kept = Self::new();
        kept.spot = self.spot;
        for (index, frame) in self.batch.drain().enumerate() {
            let role = Role::from_bits(self.copies >> index, self.rest >> index);
            let note = self.notes.get(index).copied().unwrap_or(Note::NONE);
            let kept = port.accepts(&frame).then_some(&mut kept);
            let lost = match kept {
                Some(kept) => kept.push_noted(frame, role, note).err(),
                None => Some(frame),
            };
            if let Some(frame) = lost {
                role.lose(counters, DropReason::Oversize, umem.bytes(&frame));
                umem.release(frame);
            }
        }
        *self = kept;
    }

    /// Drops all that waits for this reason, counts and releases it.
    pub fn discard(&mut self, umem: &mut Umem, counters: &PortCounters, reason: DropReason) {
        if self.is_empty() {
            return;
        }
        for (index, frame) in self.batch.iter().enumerate() {
            let role = Role::from_bits(self.copies >> index, self.rest >> index);
            role.lose(counters, reason, umem.bytes(frame));
        }
        (self.copies, self.rest) = (0, 0);
        umem.release_all(&mut self.batch);
    }

    /// What the first `n` frames are.
    #[inline]
    fn tally(&self, n: usize) -> Tally {
        let among = low_bits(n);
        let rest = u64::from((self.rest & among).count_ones());
        let copies = u64::from((self.copies & !self.rest & among).count_ones());
        Tally {
            firsts: (n as u64).saturating_sub(rest + copies),
            copies,
            rest,
        }
    }

    /// Bytes of the copies among the first `n` frames.
    #[inline]
    fn copied_bytes(&self, n: usize) -> u64 {
        if self.copies == 0 {
            return 0;
        }
        let notes = self.notes.iter().take(n).enumerate();
        let bytes = notes.map(|(index, note)| match self.copies >> index & 1 {
            0 => 0,
            _ => u64::from(note.bytes),
        });
        bytes.sum()
    }
}

/// Frames by their role.
struct Tally {
    firsts: u64,
    copies: u64,
    rest: u64,
}

/// The lowest `n` bits set.
#[inline]
fn low_bits(n: usize) -> u64 {
    1u64.checked_shl(n as u32).map_or(u64::MAX, |bit| bit - 1)
}
