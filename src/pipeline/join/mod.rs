//! Consecutive TCP segments or UDP datagrams of a flow, joined into one superframe: the kernel's GRO, for frames that leave
//! by a TAP.
//!
//! What follows costs the kernel as much for 64 KB as for one segment. The rules are those of `tcp_gro_receive`,
//! `udp_gro_receive_segment`, `inet_gro_receive` and `ipv6_gro_receive` (Linux 6.18), so that [`super::cut`], a NIC or the
//! kernel's own GSO makes the same segments of a train again. A socket that has not asked for trains of datagrams
//! (`UDP_GRO`) gets each by itself: the kernel cuts them again in front of it.
//!
//! | a segment joins the train in front of it when | |
//! |---|---|
//! | Ethernet header, addresses, ports, TTL, DSCP, ECN, DF, flow label, acknowledgement, window and options | are the same |
//! | sequence number of TCP | is the next |
//! | IPv4 identification | counts on by one; or all are the same, with DF (RFC 6864) |
//! | payload | is not longer than the first's; the first that is shorter is the train's last |
//! | flags of TCP | are the same but for PSH and FIN, which make it the last; no SYN, RST, URG, CWR |
//! | checksums | hold, of TCP or UDP and of the IPv4 header; a datagram without one goes alone |
//! | headers | are plain: no VLAN tag, IPv4 option, extension header or fragment, and nothing behind the IP packet |
//! | IP packet of the train | stays within 65,535 bytes, and is of no more frames than a batch has |
//!
//! Stricter than the kernel in a few: CWR never joins; the urgent pointer has to be the same though no flag makes it count;
//! identifications that stand still need DF (Linux 6.18 no longer asks for it), since who fragments such packets mixes them up;
//! tags and extension headers are not looked behind; and what is corrupt, and a datagram that is empty or without a checksum,
//! closes the train in front of it instead of overtaking it.
//!
//! A segment with a wrong checksum goes alone and as it is, so that its receiver sees that it is wrong; one that goes alone
//! and is right is said to be so, and saves the kernel the sum.
//!
//! # From batch to batch
//!
//! A sender's superframe seldom ends where a batch does. [`Trains::join_on`] keeps the trains that may still grow, for the
//! frames of the next batch; [`Trains::close`] lets them go.
//!
//! # Order
//!
//! Trains leave in the order of their first frames, those of a batch that may leave before those that wait. A flow has at most one
//! train that is open, and whatever of the flow does not join it closes it: so no frame overtakes another of its flow. Flows are
//! told apart by a hash: two that share one only close each other's trains. What may belong to any flow (a fragment, a tagged
//! frame, headers that make no sense) closes all.

mod open;
#[cfg(test)]
mod tests;
mod train;

use super::gro::{Kind, Segment};
use super::note::Note;
use crate::port::{BATCH, Batch, Frame, Umem};
use crate::wire::{ethernet, tcp};
use open::{OPEN_MAX, Open};
use train::Entry;
pub use train::Train;

/// The longest IP packet, by its own length field; IPv6 could say 40 more, but `skb_gro_receive` counts its header, too.
const PACKET_MAX: u32 = 65_535;

/// Frames that trains may have at a time: those of a batch, and those of the batches before that wait for more.
const PLACES: usize = 4 * BATCH;
/// Trains at a time: one for each frame of a batch, and those that wait.
const ENTRIES: usize = BATCH + OPEN_MAX;

/// The frames of a batch as trains: most of one frame, some of many. It owns the frames until they are taken.
#[derive(Debug)]
pub struct Trains {
    frames: [Option<Frame>; PLACES],
    /// Beside each of them.
    notes: [Note; PLACES],
    /// The place of the frame that follows each in its train.
    behind: [u8; PLACES],
    /// Places without a frame, the first `vacant_len` of them.
    vacant: [u8; PLACES],
    vacant_len: usize,
    /// In the order in which they leave.
    entries: [Entry; ENTRIES],
    len: usize,
    /// How many were looked at since the last batch came, and how many are still to be taken.
    seen: usize,
    ready: usize,
    open: Open,
}

const _: () = assert!(PLACES <= 1 << u8::BITS);

static NO_NOTES: [Note; BATCH] = [Note::NONE; BATCH];

impl Default for Trains {
    fn default() -> Self {
        Self::new()
    }
}

impl Trains {
    /// None.
    pub fn new() -> Self {
        Self {
            frames: [const { None }; PLACES],
            notes: [Note::NONE; PLACES],
            behind: [0; PLACES],
            vacant: std::array::from_fn(|place| place as u8),
            vacant_len: PLACES,
            entries: [Entry::VACANT; ENTRIES],
            len: 0,
            seen: 0,
            ready: 0,
            open: Open::new(),
        }
    }

    /// Whether there are none: none to be taken, and none that wait.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes all frames of the batch and joins what belongs together. As long as trains of the last batch have not been
    /// taken, it leaves the frames where they are.
    pub fn join(&mut self, umem: &mut Umem, batch: &mut Batch) {
        if self.ready == 0 {
            self.add_all(umem, batch, &NO_NOTES);
            self.open.clear(&mut self.entries);
            self.finish(umem);
        }
    }

    /// The same, for a batch that will be followed by another: trains of this one that may grow wait for it, unless there
    /// would be no room for it. Those that waited for this one in vain wait no longer, however many follow.
    pub fn join_on(&mut self, umem: &mut Umem, batch: &mut Batch) {
        self.join_on_noted(umem, batch, &NO_NOTES);
    }

    /// The same, with a note beside each frame, from the front, that [`Self::take_noted`] gives back.
    pub(super) fn join_on_noted(
        &mut self,
        umem: &mut Umem,
        batch: &mut Batch,
        notes: &[Note; BATCH],
    ) {
        if self.ready > 0 {
            return;
        }
        self.add_all(umem, batch, notes);
        self.open.retain_fresh(&mut self.entries);
        let entries = self.entries.iter().take(self.len);
        let open = entries.filter(|entry| entry.open);
        let waiting: usize = open.map(|entry| usize::from(entry.frames)).sum();
        if waiting > PLACES - BATCH {
            self.open.clear(&mut self.entries);
        }
        self.finish(umem);
    }

    #[inline(always)]
    fn add_all(&mut self, umem: &mut Umem, batch: &mut Batch, notes: &[Note; BATCH]) {
        for (frame, note) in batch.drain().zip(notes) {
            self.add(frame, *note, umem);
        }
    }

    /// No train waits any longer. To be called when those that may leave have been taken: before, nothing happens.
    pub fn close(&mut self, umem: &mut Umem) {
        if self.ready > 0 {
            return;
        }
        self.open.clear(&mut self.entries);
        self.finish(umem);
    }

    /// Makes superframes of the trains that do not grow any more.
    fn finish(&mut self, umem: &mut Umem) {
        (self.seen, self.ready) = (0, 0);
        for entry in self.entries.iter().take(self.len) {
            self.ready += usize::from(!entry.open);
            if let (false, 2.., Some(head)) = (entry.open, entry.frames, &entry.head)
                && let Some(Some(first)) = self.frames.get_mut(usize::from(entry.first))
            {
                head.lead(umem.bytes_mut(first), entry.packet_len, entry.ending);
            }
        }
    }

    /// Moves the frames of the next train in order into `train`, which is empty before. Their bytes, one frame's after the
    /// other's, are the superframe: the first has the headers, the others only payload. `None` when there is no train, and
    /// when `train` has no room for it.
    pub fn take(&mut self, train: &mut Batch) -> Option<Train> {
        self.take_noted(train, &mut [Note::NONE; BATCH])
    }

    /// The same, with the note of each of its frames, from the front; of an empty `train`.
    #[inline]
    pub(super) fn take_noted(
        &mut self,
        train: &mut Batch,
        notes: &mut [Note; BATCH],
    ) -> Option<Train> {
        let mut entries = self.entries.iter().take(self.len).skip(self.seen);
        let waiting = entries.position(|entry| !entry.open)?;
        let entry = *self.entries.get(self.seen + waiting)?;
        if train.room() < usize::from(entry.frames) {
            return None;
        }
        let mut place = usize::from(entry.first);
        for (_, beside) in (0..entry.frames).zip(notes) {
            if let Some(note) = self.notes.get(place) {
                *beside = *note;
            }
            if let Some(frame) = self.frames.get_mut(place).and_then(Option::take) {
                // There is room.
                let _full = train.push(frame);
            }
            if let Some(vacant) = self.vacant.get_mut(self.vacant_len) {
                *vacant = place as u8;
                self.vacant_len += 1;
            }
            place = usize::from(self.behind.get(place).copied().unwrap_or(0));
        }
        self.seen += waiting + 1;
        self.ready = self.ready.saturating_sub(1);
        if self.ready == 0 {
            self.move_up();
        }
        Some(Train {
            header: entry.header(),
            bytes: u64::from(entry.bytes),
            fixed_ids: entry.fixed_ids,
        })
    }

    /// Those that wait close the gaps that the others have left.
    fn move_up(&mut self) {
        let mut kept = 0;
        if !self.open.is_empty() {
            for number in 0..self.len {
                if let Some(entry) = self.entries.get(number).filter(|entry| entry.open).copied()
                    && let Some(place) = self.entries.get_mut(kept)
                {
                    *place = entry;
                    self.open.moved(number, kept);
                    kept += 1;
                }
            }
        }
        (self.len, self.seen) = (kept, 0);
    }

    #[inline(always)]
    fn add(&mut self, mut frame: Frame, note: Note, umem: &mut Umem) {
        let segment = match Kind::of(umem.bytes(&frame)) {
            Kind::Segment(segment) => segment,
            Kind::Apart => return self.start(frame, note, None),
            Kind::Doubtful => {
                self.open.clear(&mut self.entries);
                return self.start(frame, note, None);
            }
        };
        if let Some(place) = self.open.find(segment.flow) {
            match self.grow(self.open.entry(place), &segment, &mut frame, umem) {
                Some(Grown::Open(last)) => return self.put(last, frame, note),
                Some(Grown::Closed(last)) => {
                    self.open.remove(place, &mut self.entries);
                    return self.put(last, frame, note);
                }
                None => self.open.remove(place, &mut self.entries),
            }
        }
        let entry = self.len;
        self.start(frame, note, Some(segment));
        if segment.may_lead() {
            self.open.insert(segment.flow, entry, &mut self.entries);
        }
    }

    /// A train of one frame, at the end.
    #[inline(always)]
    fn start(&mut self, frame: Frame, note: Note, head: Option<Segment>) {
        let place = self.vacancy();
        if let Some(entry) = self.entries.get_mut(self.len) {
            *entry = Entry {
                first: place,
                last: place,
                frames: 1,
                head,
                packet_len: (frame.len() - ethernet::LEN.min(frame.len())) as u32,
                bytes: frame.len() as u32,
                ending: 0,
                fixed_ids: false,
                open: false,
                fresh: true,
            };
            self.len += 1;
        }
        self.put(place, frame, note);
    }

    /// A place without a frame. There is one for each frame of a batch.
    #[inline(always)]
    fn vacancy(&mut self) -> u8 {
        debug_assert!(self.vacant_len > 0);
        self.vacant_len = self.vacant_len.saturating_sub(1);
        self.vacant.get(self.vacant_len).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn put(&mut self, place: u8, frame: Frame, note: Note) {
        if let Some(beside) = self.notes.get_mut(usize::from(place)) {
            *beside = note;
        }
        if let Some(place) = self.frames.get_mut(usize::from(place)) {
            debug_assert!(place.is_none());
            *place = Some(frame);
        }
    }

    /// Lets the segment join the train, if it may: its frame is cut down to the payload, and gets a place.
    #[inline(always)]
    fn grow(
        &mut self,
        number: usize,
        segment: &Segment,
        frame: &mut Frame,
        umem: &mut Umem,
    ) -> Option<Grown> {
        let entry = self.entries.get(number)?;
        let head = entry.head?;
        let first = self.frames.get(usize::from(entry.first))?.as_ref()?;
        let (payload_len, len) = (usize::from(segment.payload_len), frame.len() as u32);
        let packet_len = entry.packet_len + u32::from(segment.payload_len);
        let carried = entry.packet_len - head.packet_headers_len();
        if payload_len > usize::from(head.payload_len)
            || packet_len > PACKET_MAX
            || usize::from(entry.frames) >= BATCH
            || !segment.is_next(&head, carried)
            || !segment.may_follow(&head, umem.bytes(frame), umem.bytes(first))
        {
            return None;
        }
        let fixed_ids = head.ids_fixed(segment, entry.frames, entry.fixed_ids)?;
        let headers_len = frame.len() - payload_len;
        if !umem.pull(frame, headers_len) {
            return None;
        }
        let place = self.vacancy();
        let entry = self.entries.get_mut(number)?;
        entry.fixed_ids = fixed_ids;
        entry.packet_len = packet_len;
        entry.bytes += len;
        entry.ending = segment.flags & (tcp::PSH | tcp::FIN);
        entry.frames += 1;
        entry.fresh = true;
        if let Some(behind) = self.behind.get_mut(usize::from(entry.last)) {
            *behind = place;
        }
        entry.last = place;
        let last = entry.ending != 0 || segment.payload_len < head.payload_len;
        Some(if last {
            Grown::Closed(place)
        } else {
            Grown::Open(place)
        })
    }
}

/// A train that a segment has joined, and the segment's place.
enum Grown {
    /// It may grow on.
    Open(u8),
    /// That was its last.
    Closed(u8),
}
