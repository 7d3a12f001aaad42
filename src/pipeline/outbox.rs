//! Edited frames on their way to a port.

use std::iter;

use super::join::{Train, Trains};
use super::note::Note;
use crate::port::{BATCH, Batch, Frame, Port, TapPort, Umem};
use crate::stats::tap::{Fate, Point, STAGED_MAX, Spot};
use crate::stats::{DropReason, PeerId, PortCounters, Shape};

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

/// Which of the frames that one received frame became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The one whose fate is the received frame's.
    First,
    /// A further copy for the flood list.
    Copy,
    /// A segment beyond the first of a superframe that was cut.
    Rest,
    /// The same of a copy.
    RestOfCopy,
}

impl Role {
    /// The role of the segments behind one that has this role.
    #[inline]
    pub(super) fn rest(self) -> Self {
        match self {
            Self::First | Self::Rest => Self::Rest,
            Self::Copy | Self::RestOfCopy => Self::RestOfCopy,
        }
    }

    /// Counts one that was lost on its way out.
    #[inline]
    pub(super) fn lose(self, counters: &PortCounters, reason: DropReason, frame: &[u8]) {
        match self {
            Self::First => counters.died(reason, Shape::Leaving, frame),
            Self::Copy => counters.flood_copies_lost.add(1),
            Self::Rest | Self::RestOfCopy => counters.segments_lost.add(1),
        }
    }

    /// Counts one that could not be made.
    #[inline]
    pub(super) fn count_lost(self, counters: &PortCounters, reason: DropReason) {
        match self {
            Self::First => counters.dropped(reason, 1),
            Self::Copy => counters.flood_copies_lost.add(1),
            Self::Rest | Self::RestOfCopy => counters.segments_lost.add(1),
        }
    }

    /// Its bits of `copies` and of `rest`.
    #[inline]
    fn bits(self) -> (u64, u64) {
        match self {
            Self::First => (0, 0),
            Self::Copy => (1, 0),
            Self::Rest => (0, 1),
            Self::RestOfCopy => (1, 1),
        }
    }

    fn from_bits(copy: u64, rest: u64) -> Self {
        match (copy & 1, rest & 1) {
            (0, 0) => Self::First,
            (_, 0) => Self::Copy,
            (0, _) => Self::Rest,
            _ => Self::RestOfCopy,
        }
    }
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
    pub(super) fn frames(&self) -> impl Iterator<Item = &Frame> {
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
    /// as [`DropReason::Oversize`], what it takes no more of for the reason `refused`, or as [`DropReason::LinkDown`] when
    /// that is why. The outbox is empty afterwards. Returns how many frames the port took.
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
        // Everything left may be sent, so that what the port takes is a prefix.
        let taken = if counters.tap.wants(self.spot.point) {
            self.transmit_seen(port, umem, counters)
        } else {
            port.transmit(&mut self.batch)
        };
        self.count_sent(taken, counters);
        self.copies = self.copies.checked_shr(taken as u32).unwrap_or(0);
        self.rest = self.rest.checked_shr(taken as u32).unwrap_or(0);
        let refused = if port.link_down() {
            DropReason::LinkDown
        } else {
            refused
        };
        self.discard(umem, counters, refused);
        taken
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
    pub(super) fn put(
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

/// The identification of outer IPv4 headers: a number that runs on, whatever the destination, so that a router which
/// fragments an outer packet with DF clear cannot make two packets' fragments look like one's (RFC 6864 §4.3).
#[derive(Debug, Clone)]
pub struct IpIds(u16);

impl IpIds {
    /// Starts at `first`: workers that send from one address start far from each other.
    pub const fn new(first: u16) -> Self {
        Self(first)
    }

    /// The next number.
    #[inline]
    pub fn next_id(&mut self) -> u16 {
        self.0 = self.0.wrapping_add(1);
        self.0
    }

    /// Passes over numbers that whoever cuts a superframe gives to its segments but the first.
    #[inline]
    pub fn skip(&mut self, n: usize) {
        self.0 = self.0.wrapping_add(n as u16);
    }
}

/// The lowest `n` bits set.
#[inline]
fn low_bits(n: usize) -> u64 {
    1u64.checked_shl(n as u32).map_or(u64::MAX, |bit| bit - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::{ChunkSize, MemoryPort, UmemConfig};
    use crate::stats::{FlightRecorder, Tallies, Tally};
    use std::sync::Arc;

    const PEER: PeerId = PeerId(0);

    #[test]
    fn a_split_keeps_the_order_of_both_and_the_copies() {
        let mut umem = umem();
        let (mut outbox, mut other) = (Outbox::new(), Outbox::new());
        for (len, role) in [
            (100, Role::First),
            (61, Role::First),
            (102, Role::Copy),
            (63, Role::Copy),
            (64, Role::First),
        ] {
            let frame = frame(&mut umem, len);
            outbox.push(frame, role, PEER).unwrap();
        }
        outbox.split(&mut other, 0b1_1010);
        let lens = |outbox: &Outbox| outbox.batch.iter().map(Frame::len).collect::<Vec<_>>();
        assert_eq!((lens(&outbox), outbox.copies), (vec![100, 102, 63], 0b110));
        assert_eq!((lens(&other), other.copies), (vec![61, 64], 0));
        for mut outbox in [outbox, other] {
            outbox.discard(&mut umem, &PortCounters::default(), DropReason::LinkDown);
        }
    }

    fn umem() -> Umem {
        Umem::new(UmemConfig {
            chunk: ChunkSize::K2,
            frames: 256,
            lock: false,
        })
        .unwrap()
    }

    fn frame(umem: &mut Umem, len: usize) -> Frame {
        let mut frame = umem.allocate().unwrap();
        assert!(umem.fill(&mut frame, &vec![0; len]));
        frame
    }

    #[test]
    fn what_the_ring_refuses_is_counted_and_released_first_frames_and_copies_apart() {
        let (mut umem, mut port, counters) = (umem(), MemoryPort::new(4), PortCounters::default());
        let mut outbox = Outbox::new();
        for role in [
            Role::First,
            Role::Copy,
            Role::First,
            Role::First,
            Role::Copy,
            Role::First,
            Role::Copy,
        ] {
            let frame = frame(&mut umem, 60);
            outbox.push(frame, role, PEER).unwrap();
        }
        assert_eq!(
            outbox.flush(&mut port, &mut umem, &counters, DropReason::TxRingFull),
            4
        );
        assert!(outbox.is_empty());
        assert_eq!(counters.forwarded.get(), 3);
        assert_eq!(counters.forwarded_bytes.get(), 180);
        assert_eq!(counters.flood_copies.get(), 1);
        assert_eq!(counters.drops(DropReason::TxRingFull), 1);
        assert_eq!(counters.flood_copies_lost.get(), 2);
        assert_eq!(umem.free() + port.frames_held(), 256);
    }

    /// What `counters` have of each of three peers: frames and bytes.
    fn of_peers(counters: &PortCounters) -> [(u64, u64); 3] {
        [0, 1, 2].map(|place| {
            let Tally { frames, bytes, .. } = counters.peers.read(PeerId(place));
            (frames, bytes)
        })
    }

    fn counting() -> PortCounters {
        PortCounters::counting(Arc::new(Tallies::new(3)))
    }

    #[test]
    fn what_the_ring_takes_is_counted_for_its_peer_and_what_it_refuses_is_not() {
        let (mut umem, mut port, counters) = (umem(), MemoryPort::new(4), counting());
        port.limit_frame_len(1518);
        let mut outbox = Outbox::new();
        for (len, role, peer) in [
            (60, Role::First, 1),
            (1519, Role::First, 2),
            (61, Role::Copy, 2),
            (62, Role::First, 1),
            (63, Role::Rest, 1),
            (64, Role::First, 2),
        ] {
            let frame = frame(&mut umem, len);
            outbox.push(frame, role, PeerId(peer)).unwrap();
        }
        outbox.flush(&mut port, &mut umem, &counters, DropReason::TxRingFull);
        assert_eq!(of_peers(&counters), [(0, 0), (3, 185), (1, 61)]);
        assert_eq!(counters.handed_on(), 4);
        assert_eq!(counters.forwarded_bytes.get(), 185);
        assert_eq!(counters.copied_bytes.get(), 61);
        assert_eq!(counters.drops(DropReason::TxRingFull), 1);
    }

    #[test]
    fn a_superframe_counts_as_its_segments() {
        let (mut umem, mut port, counters) = (umem(), MemoryPort::new(4), counting());
        let mut outbox = Outbox::new();
        for (len, segments) in [(1000, 7), (60, 1), (900, 3)] {
            let frame = frame(&mut umem, len);
            let note = Note::new(PeerId(2), &frame, segments);
            outbox.push_noted(frame, Role::First, note).unwrap();
        }
        outbox.flush(&mut port, &mut umem, &counters, DropReason::TxRingFull);
        assert_eq!(of_peers(&counters), [(0, 0), (0, 0), (11, 1960)]);
        let whole = counters.segments_whole.get();
        assert_eq!((counters.forwarded.get(), whole), (3, 8));
        assert_eq!(counters.handed_on(), 11);
    }

    #[test]
    fn a_split_leaves_each_frame_its_peer() {
        let (mut umem, mut port, counters) = (umem(), MemoryPort::new(8), counting());
        let (mut outbox, mut other) = (Outbox::new(), Outbox::new());
        for peer in [0, 1, 2, 1, 0] {
            let frame = frame(&mut umem, 60 + usize::from(peer));
            outbox.push(frame, Role::First, PeerId(peer)).unwrap();
        }
        outbox.split(&mut other, 0b0_1010);
        other.flush(&mut port, &mut umem, &counters, DropReason::TxRingFull);
        assert_eq!(of_peers(&counters), [(0, 0), (2, 122), (0, 0)]);
        outbox.flush(&mut port, &mut umem, &counters, DropReason::TxRingFull);
        assert_eq!(of_peers(&counters), [(2, 120), (2, 122), (1, 62)]);
    }

    #[test]
    fn segments_beyond_the_first_are_in_counts_of_their_own() {
        let (mut umem, mut port, counters) = (umem(), MemoryPort::new(8), PortCounters::default());
        let mut outbox = Outbox::new();
        // Five of a superframe, five of a copy of it, and a frame; the ring takes eight.
        for first in [Role::First, Role::Copy] {
            for role in [
                first,
                first.rest(),
                first.rest(),
                first.rest(),
                first.rest().rest(),
            ] {
                let frame = frame(&mut umem, 60);
                outbox.push(frame, role, PEER).unwrap();
            }
        }
        let last = frame(&mut umem, 60);
        outbox.push(last, Role::First, PEER).unwrap();
        let taken = outbox.flush(&mut port, &mut umem, &counters, DropReason::TxRingFull);
        assert_eq!(taken, 8);
        assert_eq!(
            (counters.forwarded.get(), counters.forwarded_bytes.get()),
            (1, 300)
        );
        assert_eq!(
            (
                counters.flood_copies.get(),
                counters.flood_copies_lost.get()
            ),
            (1, 0)
        );
        assert_eq!(
            (counters.segments_sent.get(), counters.segments_lost.get()),
            (6, 2)
        );
        assert_eq!(counters.drops(DropReason::TxRingFull), 1);
        assert_eq!((outbox.copies, outbox.rest), (0, 0));
    }

    #[test]
    fn what_the_port_never_sends_is_oversize_and_holds_up_no_other() {
        let (mut umem, mut port, counters) = (umem(), MemoryPort::new(4), PortCounters::default());
        port.limit_frame_len(1518);
        let mut outbox = Outbox::new();
        let frames = [
            (1519, Role::First),
            (100, Role::First),
            (1519, Role::Copy),
            (101, Role::Copy),
            (1518, Role::First),
        ];
        for (len, role) in frames {
            let frame = frame(&mut umem, len);
            outbox.push(frame, role, PEER).unwrap();
        }
        let taken = outbox.flush(&mut port, &mut umem, &counters, DropReason::TxRingFull);
        let lens: Vec<_> = std::iter::from_fn(|| port.collect(&mut umem))
            .map(|bytes| bytes.len())
            .collect();
        assert_eq!((taken, lens), (3, vec![100, 101, 1518]));
        assert_eq!(
            (counters.forwarded.get(), counters.forwarded_bytes.get()),
            (2, 1618)
        );
        assert_eq!(
            (
                counters.flood_copies.get(),
                counters.flood_copies_lost.get()
            ),
            (1, 1)
        );
        assert_eq!(counters.drops(DropReason::Oversize), 1);
        port.reclaim(&mut umem);
        assert_eq!(umem.free(), 256);
    }

    #[test]
    fn a_full_outbox_of_copies_is_all_taken() {
        let (mut umem, mut port, counters) = (umem(), MemoryPort::new(64), PortCounters::default());
        let mut outbox = Outbox::new();
        for _ in 0..BATCH {
            let frame = frame(&mut umem, 60);
            outbox.push(frame, Role::Copy, PEER).unwrap();
        }
        let late = frame(&mut umem, 60);
        umem.release(outbox.push(late, Role::First, PEER).unwrap_err());
        assert_eq!(
            outbox.flush(&mut port, &mut umem, &counters, DropReason::TxRingFull),
            64
        );
        assert_eq!(
            (counters.flood_copies.get(), counters.forwarded.get()),
            (64, 0)
        );
        assert_eq!(outbox.copies, 0);
    }

    #[test]
    fn frames_for_a_port_that_is_gone_are_discarded() {
        let (mut umem, counters) = (umem(), PortCounters::default());
        let mut outbox = Outbox::new();
        let waiting = frame(&mut umem, 60);
        outbox.push(waiting, Role::First, PEER).unwrap();
        outbox.discard(&mut umem, &counters, DropReason::LinkDown);
        assert_eq!(counters.drops(DropReason::LinkDown), 1);
        assert_eq!(umem.free(), 256);
    }

    #[test]
    fn p02_identifications_run_on_and_wrap() {
        let mut ids = IpIds::new(0xfffe);
        assert_eq!(
            [ids.next_id(), ids.next_id(), ids.next_id()],
            [0xffff, 0, 1]
        );
    }

    /// Also those between copies, which are counted elsewhere and not kept.
    #[test]
    fn frames_that_die_on_their_way_out_are_on_record_as_they_would_have_left() {
        let (mut umem, mut port) = (umem(), MemoryPort::new(1));
        let recorder = Arc::new(FlightRecorder::new());
        let counters = counting().recording(Arc::clone(&recorder), 7);
        let mut outbox = Outbox::new();
        for (byte, role) in [
            (1, Role::First),
            (2, Role::First),
            (3, Role::Copy),
            (4, Role::First),
        ] {
            let mut frame = umem.allocate().unwrap();
            assert!(umem.fill(&mut frame, &[byte; 60]));
            outbox.push(frame, role, PeerId(1)).unwrap();
        }
        let taken = outbox.flush(&mut port, &mut umem, &counters, DropReason::TxRingFull);
        assert_eq!(taken, 1);
        let read = recorder.read();
        let told = read.iter().map(|dead| (dead.number, dead.bytes.clone()));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [(2, vec![4; 60]), (1, vec![2; 60])]
        );
        assert!(
            read.iter()
                .all(|dead| dead.shape == Shape::Leaving && dead.port == 7)
        );
        assert_eq!(counters.drops(DropReason::TxRingFull), 2);
        assert_eq!(counters.flood_copies_lost.get(), 1);
    }
}
