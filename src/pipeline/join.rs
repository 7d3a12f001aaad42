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
//! Trains leave in the order of their first frames, those of a batch that may leave before those that wait. A flow has at most one train that is open, and whatever of the flow does
//! not join it closes it: so no frame overtakes another of its flow. Flows are told apart by a hash: two that share one only
//! close each other's trains. What may belong to any flow (a fragment, a tagged frame, headers that make no sense) closes all.

use super::gro::{Kind, Segment};
use super::note::Note;
use crate::port::{BATCH, Batch, Frame, Umem};
use crate::wire::vnet::{self, VnetHeader};
use crate::wire::{ethernet, tcp};

/// Flows that may have an open train at the same time; one more closes that of another. A batch of more flows has hardly
/// two frames of any.
const OPEN_MAX: usize = 16;
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

/// A train that leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Train {
    /// What a TAP is told about it.
    pub header: VnetHeader,
    /// Bytes of its frames before they were joined: headers count for each.
    pub bytes: u64,
    /// Whether all segments had the same IPv4 identification. A TAP cannot be told; none of them may be fragmented.
    pub fixed_ids: bool,
}

/// A train as far as it is known.
#[derive(Debug, Clone, Copy)]
struct Entry {
    first: u8,
    last: u8,
    frames: u8,
    /// The first, if it is a segment of TCP or a datagram of UDP.
    head: Option<Segment>,
    /// Bytes of the IP packet, and of all frames.
    packet_len: u32,
    bytes: u32,
    /// PSH and FIN of the last.
    ending: u8,
    fixed_ids: bool,
    /// Whether it may still grow: then it is in [`Open`], too.
    open: bool,
    /// Whether the last batch had a frame of it.
    fresh: bool,
}

/// The trains that may still grow.
#[derive(Debug)]
struct Open {
    flows: [u32; OPEN_MAX],
    entries: [u8; OPEN_MAX],
    len: usize,
    /// Whose place is taken next when all are.
    oldest: usize,
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

impl Entry {
    const VACANT: Self = Self {
        first: 0,
        last: 0,
        frames: 0,
        head: None,
        packet_len: 0,
        bytes: 0,
        ending: 0,
        fixed_ids: false,
        open: false,
        fresh: false,
    };

    #[inline]
    fn header(&self) -> VnetHeader {
        match &self.head {
            Some(head) if self.frames > 1 => VnetHeader {
                flags: vnet::NEEDS_CSUM,
                gso_type: head.gso_type(),
                hdr_len: head.headers_len() as u16,
                gso_size: head.payload_len,
                csum_start: head.transport() as u16,
                csum_offset: head.checksum_offset() as u16,
                ..VnetHeader::default()
            },
            Some(head) if head.valid => VnetHeader {
                flags: vnet::DATA_VALID,
                ..VnetHeader::default()
            },
            _ => VnetHeader::default(),
        }
    }
}

impl Open {
    #[inline]
    fn new() -> Self {
        Self {
            flows: [0; OPEN_MAX],
            entries: [0; OPEN_MAX],
            len: 0,
            oldest: 0,
        }
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The place of the flow's train.
    #[inline]
    fn find(&self, flow: u32) -> Option<usize> {
        let mut flows = self.flows.iter().take(self.len);
        flows.position(|other| *other == flow)
    }

    #[inline]
    fn entry(&self, place: usize) -> usize {
        usize::from(self.entries.get(place).copied().unwrap_or(u8::MAX))
    }

    /// Closes the train at a place; the last takes its place.
    #[inline]
    fn remove(&mut self, place: usize, entries: &mut [Entry]) {
        mark(entries, self.entry(place), false);
        self.len = self.len.saturating_sub(1);
        let (flow, entry) = (self.flows.get(self.len), self.entries.get(self.len));
        if let (Some(&flow), Some(&entry)) = (flow, entry) {
            self.set(place, flow, entry);
        }
    }

    /// Opens a train of a flow that has none.
    #[inline]
    fn insert(&mut self, flow: u32, entry: usize, entries: &mut [Entry]) {
        let place = if self.len < OPEN_MAX {
            self.len += 1;
            self.len - 1
        } else {
            self.oldest = (self.oldest + 1) % OPEN_MAX;
            mark(entries, self.entry(self.oldest), false);
            self.oldest
        };
        mark(entries, entry, true);
        self.set(place, flow, entry as u8);
    }

    #[inline]
    fn set(&mut self, place: usize, flow: u32, entry: u8) {
        if let Some(at) = self.flows.get_mut(place) {
            *at = flow;
        }
        if let Some(at) = self.entries.get_mut(place) {
            *at = entry;
        }
    }

    /// Closes those of which the last batch had no frame.
    #[inline]
    fn retain_fresh(&mut self, entries: &mut [Entry]) {
        let mut place = 0;
        while place < self.len {
            match entries.get_mut(self.entry(place)) {
                Some(entry) if entry.fresh => {
                    entry.fresh = false;
                    place += 1;
                }
                _ => self.remove(place, entries),
            }
        }
    }

    /// A train has another number among the entries.
    #[inline]
    fn moved(&mut self, from: usize, to: usize) {
        let mut entries = self.entries.iter_mut().take(self.len);
        if let Some(entry) = entries.find(|entry| usize::from(**entry) == from) {
            *entry = to as u8;
        }
    }

    /// Closes all.
    #[inline]
    fn clear(&mut self, entries: &mut [Entry]) {
        for entry in self.entries.iter().take(self.len) {
            mark(entries, usize::from(*entry), false);
        }
        self.len = 0;
    }
}

#[inline]
fn mark(entries: &mut [Entry], number: usize, open: bool) {
    if let Some(entry) = entries.get_mut(number) {
        entry.open = open;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::{ChunkSize, UmemConfig};
    use crate::wire::checksum;

    /// 10.0.0.1:1 to 10.0.0.2:2, id 5, DF, sequence 0x100, ACK 7, window 9, and "abcd".
    const SEGMENT: [u8; 58] = [
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, // Ethernet
        0x45, 0, 0, 44, 0, 5, 0x40, 0, 64, 6, 0x26, 0xc5, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
        0, 1, 0, 2, 0, 0, 1, 0, 0, 0, 0, 7, 0x50, 0x10, 0, 9, 0, 0, 0, 0, // TCP
        b'a', b'b', b'c', b'd',
    ];
    const ID: usize = 19;
    const PORT: usize = 35;
    const FLAGS: usize = 47;

    /// The segment after `n` others, changed, with right checksums.
    fn segment(n: u8, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut frame = SEGMENT.to_vec();
        frame[ID] += n;
        let sequence = 0x100 + 4 * u16::from(n);
        frame[40..42].copy_from_slice(&sequence.to_be_bytes());
        change(&mut frame);
        let len = frame.len() as u16;
        frame[16..18].copy_from_slice(&(len - 14).to_be_bytes());
        frame[24..26].fill(0);
        let sum = checksum::finish(checksum::sum(&frame[14..34]));
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame[50..52].fill(0);
        let pseudo = checksum::sum(&frame[26..34]) + 6 + u32::from(len - 34);
        let sum = checksum::finish(pseudo + checksum::sum(&frame[34..]));
        frame[50..52].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    fn plain(n: u8) -> Vec<u8> {
        segment(n, |_| ())
    }

    fn joined(frames: &[Vec<u8>]) -> Vec<(Train, usize, Vec<u8>)> {
        let mut umem = Umem::new(UmemConfig {
            chunk: ChunkSize::K2,
            frames: BATCH as u32,
            lock: false,
        })
        .unwrap();
        let mut batch = Batch::new();
        for bytes in frames {
            let mut frame = umem.allocate().unwrap();
            assert!(umem.fill(&mut frame, bytes));
            batch.push(frame).unwrap();
        }
        let mut trains = Trains::new();
        trains.join(&mut umem, &mut batch);
        let mut out = Vec::new();
        while let Some(train) = trains.take(&mut batch) {
            let bytes = batch.iter().flat_map(|frame| umem.bytes(frame));
            let bytes = bytes.copied().collect();
            out.push((train, umem.release_all(&mut batch), bytes));
        }
        assert_eq!(umem.free(), BATCH);
        out
    }

    fn lengths(frames: &[Vec<u8>]) -> Vec<usize> {
        joined(frames)
            .iter()
            .map(|(_, frames, _)| *frames)
            .collect()
    }

    #[test]
    fn three_segments_become_one_superframe() {
        let last = segment(2, |frame| frame[FLAGS] |= tcp::PSH);
        let out = joined(&[plain(0), plain(1), last]);
        let mut expected = SEGMENT.to_vec();
        expected.extend(b"abcdabcd");
        expected[17] = 52;
        expected[25] -= 8;
        expected[FLAGS] = 0x18;
        // 10.0.0.1 + 10.0.0.2 + 6 + 32
        expected[50..52].copy_from_slice(&[0x14, 0x29]);
        let header = VnetHeader {
            flags: vnet::NEEDS_CSUM,
            gso_type: vnet::GSO_TCPV4,
            hdr_len: 54,
            gso_size: 4,
            csum_start: 34,
            csum_offset: 16,
            ..VnetHeader::default()
        };
        let train = Train {
            header,
            bytes: 3 * 58,
            fixed_ids: false,
        };
        assert_eq!(out, [(train, 3, expected)]);
    }

    #[test]
    fn one_segment_stays_as_it_is_and_is_said_to_be_right() {
        let frame = plain(0);
        let out = joined(std::slice::from_ref(&frame));
        assert_eq!(out[0].0.header.flags, vnet::DATA_VALID);
        assert_eq!((out[0].0.header.gso_type, &out[0].2), (0, &frame));
    }

    #[test]
    fn a_corrupt_segment_goes_alone_and_nothing_is_said_of_it() {
        let mut corrupt = plain(1);
        corrupt[57] ^= 1;
        let out = joined(&[plain(0), corrupt.clone(), plain(2), plain(3)]);
        let frames: Vec<_> = out.iter().map(|(_, frames, _)| *frames).collect();
        assert_eq!(frames, [1, 1, 2]);
        assert_eq!(
            (out[1].0.header, &out[1].2),
            (VnetHeader::default(), &corrupt)
        );
    }

    #[test]
    fn what_ends_a_train_is_its_last_frame() {
        let short = |n| segment(n, |frame| frame.truncate(57));
        let flagged = |n, flag| segment(n, |frame: &mut Vec<u8>| frame[FLAGS] |= flag);
        for end in [short(1), flagged(1, tcp::PSH), flagged(1, tcp::FIN)] {
            // The one behind it would continue a train of full segments.
            assert_eq!(lengths(&[plain(0), end, plain(2), plain(3)]), [2, 2]);
        }
        assert_eq!(lengths(&[flagged(0, tcp::PSH), plain(1), plain(2)]), [1, 2]);
    }

    #[test]
    fn what_does_not_continue_a_train_closes_it_and_may_begin_another() {
        type Change = fn(&mut Vec<u8>);
        let changes: [(&str, Change); 13] = [
            ("longer", |frame| frame.push(0)),
            ("gap", |frame| frame[40] += 1),
            ("identification", |frame| frame[ID] += 7),
            ("DF", |frame| frame[20] = 0),
            ("TTL", |frame| frame[22] -= 1),
            ("DSCP", |frame| frame[15] = 0xb8),
            ("ECN", |frame| frame[15] = 3),
            ("acknowledgement", |frame| frame[45] += 1),
            ("window", |frame| frame[49] += 1),
            ("ECE", |frame| frame[FLAGS] |= tcp::ECE),
            ("urgent pointer", |frame| frame[53] = 1),
            ("MAC", |frame| frame[11] = 7),
            ("AE", |frame| frame[46] |= 1),
        ];
        for (what, change) in changes {
            let frames = [plain(0), plain(1), segment(2, change), plain(3)];
            assert_eq!(lengths(&frames), [2, 1, 1], "{what}");
        }
        for flag in [tcp::SYN, tcp::RST, tcp::URG, tcp::CWR] {
            let odd = |n| segment(n, |frame: &mut Vec<u8>| frame[FLAGS] |= flag);
            assert_eq!(lengths(&[plain(0), odd(1), odd(2)]), [1, 1, 1]);
        }
        let bare = segment(1, |frame| frame.truncate(54));
        assert_eq!(lengths(&[plain(0), bare, plain(1)]), [1, 1, 1]);
    }

    #[test]
    fn identifications_that_stand_still_need_df() {
        let still = |n, df: u8| {
            segment(n, |frame| {
                frame[ID] = 5;
                frame[20] = df;
            })
        };
        let out = joined(&[still(0, 0x40), still(1, 0x40), still(2, 0x40)]);
        assert_eq!((out.len(), out[0].0.fixed_ids), (1, true));
        assert_eq!(lengths(&[still(0, 0), still(1, 0)]), [1, 1]);
        // The second frame decides.
        assert_eq!(lengths(&[plain(0), plain(1), still(2, 0x40)]), [2, 1]);
        assert_eq!(lengths(&[still(0, 0x40), still(1, 0x40), plain(2)]), [2, 1]);
    }

    /// 10.0.0.1:1 to 10.0.0.2:2, id 5, DF, and "abcd".
    const DATAGRAM: [u8; 46] = [
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, // Ethernet
        0x45, 0, 0, 32, 0, 5, 0x40, 0, 64, 17, 0x26, 0xc6, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
        0, 1, 0, 2, 0, 12, 0x27, 0x0a, // UDP
        b'a', b'b', b'c', b'd',
    ];

    /// The datagram after `n` others, changed, with right lengths and checksums.
    fn datagram(n: u8, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut frame = DATAGRAM.to_vec();
        frame[ID] += n;
        change(&mut frame);
        let len = frame.len() as u16;
        frame[16..18].copy_from_slice(&(len - 14).to_be_bytes());
        frame[38..40].copy_from_slice(&(len - 34).to_be_bytes());
        frame[24..26].fill(0);
        let sum = checksum::finish(checksum::sum(&frame[14..34]));
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame[40..42].fill(0);
        let pseudo = checksum::sum(&frame[26..34]) + 17 + u32::from(len - 34);
        let sum = checksum::finish(pseudo + checksum::sum(&frame[34..]));
        frame[40..42].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    #[test]
    fn datagrams_of_one_length_become_one_superframe_and_a_shorter_one_ends_it() {
        assert_eq!(datagram(0, |_| ()), DATAGRAM);
        let frames = [
            datagram(0, |_| ()),
            datagram(1, |_| ()),
            datagram(2, |frame| frame.truncate(45)),
            datagram(3, |_| ()),
        ];
        let out = joined(&frames);
        let mut expected = DATAGRAM.to_vec();
        expected.extend(b"abcdabc");
        expected[17] = 39;
        expected[25] -= 7;
        expected[39] = 19;
        // 10.0.0.1 + 10.0.0.2 + 17 + 19
        expected[40..42].copy_from_slice(&[0x14, 0x27]);
        let header = VnetHeader {
            flags: vnet::NEEDS_CSUM,
            gso_type: vnet::GSO_UDP_L4,
            hdr_len: 42,
            gso_size: 4,
            csum_start: 34,
            csum_offset: 6,
            ..VnetHeader::default()
        };
        let train = Train {
            header,
            bytes: 46 + 46 + 45,
            fixed_ids: false,
        };
        assert_eq!(out[0], (train, 3, expected));
        let alone = &out[1];
        assert_eq!(alone.0.header.flags, vnet::DATA_VALID);
        assert_eq!((alone.1, &alone.2), (1, &frames[3]));
        assert_eq!(out.len(), 2);
    }

    #[test]
    fn datagrams_that_do_not_continue_a_train_close_it() {
        type Change = fn(&mut Vec<u8>);
        let changes: [(&str, Change); 5] = [
            ("identification", |frame| frame[ID] += 7),
            ("DF", |frame| frame[20] = 0),
            ("TTL", |frame| frame[22] -= 1),
            ("ECN", |frame| frame[15] = 3),
            ("MAC", |frame| frame[11] = 7),
        ];
        let plain = |n| datagram(n, |_| ());
        for (what, change) in changes {
            let frames = [plain(0), plain(1), datagram(2, change), plain(3)];
            assert_eq!(lengths(&frames), [2, 1, 1], "{what}");
        }
        // Of a longer one, what comes behind it is a shorter last one.
        let longer = datagram(2, |frame| frame.push(0));
        assert_eq!(lengths(&[plain(0), plain(1), longer, plain(3)]), [2, 2]);
        let empty = datagram(1, |frame| frame.truncate(42));
        assert_eq!(lengths(&[plain(0), empty, plain(1)]), [1, 1, 1]);
        let still = |n| datagram(n, |frame| frame[ID] = 0);
        assert_eq!(lengths(&[still(0), still(1), still(2), plain(3)]), [3, 1]);
        for (at, flip, what) in [(41, 1, "checksum"), (39, 1, "length"), (45, 1, "payload")] {
            let mut wrong = plain(2);
            wrong[at] ^= flip;
            let frames = [plain(0), plain(1), wrong.clone(), plain(3)];
            let out = joined(&frames);
            assert_eq!(out.len(), 3, "{what}");
            assert_eq!(
                (out[1].0.header, &out[1].2),
                (VnetHeader::default(), &wrong)
            );
        }
        let mut without = plain(1);
        without[40..42].fill(0);
        assert_eq!(lengths(&[plain(0), without, plain(1)]), [1, 1, 1]);
    }

    #[test]
    fn datagrams_and_segments_between_the_same_ends_are_apart() {
        let frames = [plain(0), datagram(0, |_| ()), plain(1), datagram(1, |_| ())];
        assert_eq!(lengths(&frames), [2, 2]);
        // What is too short for ports belongs to nobody.
        let mut short = DATAGRAM[..38].to_vec();
        short[17] = 24;
        short[24..26].fill(0);
        let sum = checksum::finish(checksum::sum(&short[14..34]));
        short[24..26].copy_from_slice(&sum.to_be_bytes());
        let frames = [datagram(0, |_| ()), short, datagram(1, |_| ())];
        assert_eq!(lengths(&frames), [2, 1]);
    }

    #[test]
    fn interleaved_flows_are_joined_each_by_itself() {
        let flow = |port, n| segment(n, |frame: &mut Vec<u8>| frame[PORT] = port);
        let frames: Vec<_> = (0..4)
            .flat_map(|n| (0..8).map(move |port| flow(port, n)))
            .collect();
        assert_eq!(lengths(&frames), [4; 8]);
    }

    #[test]
    fn one_flow_too_many_closes_the_train_of_another() {
        let flow = |port, n| segment(n, |frame: &mut Vec<u8>| frame[PORT] = port);
        let frames: Vec<_> = (0..2)
            .flat_map(|n| (0..=OPEN_MAX as u8).map(move |port| flow(port, n)))
            .collect();
        let frames = joined(&frames);
        let count: usize = frames.iter().map(|(_, frames, _)| frames).sum();
        assert_eq!(count, 2 * (OPEN_MAX + 1));
        assert!(frames.len() > OPEN_MAX + 1);
    }

    #[test]
    fn what_may_belong_to_any_flow_closes_all_and_what_belongs_to_none_none() {
        let fragment = segment(9, |frame| frame[20] = 0x20);
        let tagged = segment(9, |frame| drop(frame.splice(12..12, [0x81, 0, 0, 1])));
        for frame in [fragment, tagged] {
            assert_eq!(lengths(&[plain(0), frame, plain(1)]), [1, 1, 1]);
        }
        let udp = segment(9, |frame| frame[23] = 17);
        let arp = segment(9, |frame| frame[13] = 6);
        for frame in [udp, arp, vec![1; 5]] {
            assert_eq!(lengths(&[plain(0), frame, plain(1)]), [2, 1]);
        }
    }

    #[test]
    fn a_train_stays_within_the_length_field() {
        let long = |n: u8| {
            segment(0, |frame| {
                frame.resize(54 + 1700, 7);
                frame[ID] = n;
                let sequence = 1700 * u32::from(n);
                frame[38..42].copy_from_slice(&sequence.to_be_bytes());
            })
        };
        let frames: Vec<_> = (0..BATCH as u8).map(long).collect();
        // 40 + 38 * 1700 = 64,640
        assert_eq!(lengths(&frames), [38, 26]);
    }

    #[test]
    fn a_train_waits_for_the_next_batch_and_the_others_do_not() {
        let mut umem = Umem::new(UmemConfig {
            chunk: ChunkSize::K2,
            frames: 8 * BATCH as u32,
            lock: false,
        })
        .unwrap();
        let (mut batch, mut trains, mut train) = (Batch::new(), Trains::new(), Batch::new());
        let flow = |port, n| segment(n, |frame: &mut Vec<u8>| frame[PORT] = port);
        let mut join_on = |frames: &[Vec<u8>], last: bool| {
            for bytes in frames {
                let mut frame = umem.allocate().unwrap();
                assert!(umem.fill(&mut frame, bytes));
                batch.push(frame).unwrap();
            }
            if last {
                trains.join(&mut umem, &mut batch);
            } else {
                trains.join_on(&mut umem, &mut batch);
            }
            let mut lengths = Vec::new();
            while trains.take(&mut train).is_some() {
                lengths.push(umem.release_all(&mut train));
            }
            assert!(!last || trains.is_empty());
            lengths
        };
        const NONE: [usize; 0] = [];
        let end = segment(2, |frame| {
            frame[PORT] = 1;
            frame[FLAGS] |= tcp::PSH;
        });
        let first = [flow(1, 0), flow(2, 0), flow(1, 1), flow(3, 0), end];
        assert_eq!(join_on(&first, false), [3]);
        // A gap closes the train in front of it, and may begin one.
        assert_eq!(join_on(&[flow(3, 1), flow(2, 2)], false), [1]);
        assert_eq!(join_on(&[flow(2, 3)], false), [2]);
        assert_eq!(join_on(&[flow(2, 4)], true), [3]);
        assert_eq!(join_on(&first[..2], false), NONE);
        assert_eq!(join_on(&[], false), [1, 1]);

        // None is longer than a batch, and what waits leaves room for one.
        let run = |port, from: u8| (0..BATCH as u8).map(move |n| flow(port, from + n));
        let long = |from| run(1, from).collect::<Vec<_>>();
        assert_eq!(join_on(&long(0), false), NONE);
        assert_eq!(join_on(&long(BATCH as u8), false), [BATCH]);
        let two: Vec<_> = (0..4)
            .map(|n| flow(2, n))
            .chain(run(1, 128).take(60))
            .collect();
        assert_eq!(join_on(&two, true), [BATCH, 4, 60]);
        let shares = |from: u8| {
            let flows = (1..=8).flat_map(|port| (0..8).map(move |n| (port, from + n)));
            flows.map(|(port, n)| flow(port, n)).collect::<Vec<_>>()
        };
        for batch in 0..3 {
            assert_eq!(join_on(&shares(8 * batch), false), NONE);
        }
        assert_eq!(join_on(&shares(24), false), [32; 8]);
    }

    #[test]
    fn a_batch_waits_until_the_last_is_taken() {
        let mut umem = Umem::new(UmemConfig {
            chunk: ChunkSize::K2,
            frames: 4,
            lock: false,
        })
        .unwrap();
        let (mut batch, mut trains, mut train) = (Batch::new(), Trains::new(), Batch::new());
        for _ in 0..2 {
            batch.push(umem.allocate().unwrap()).unwrap();
            trains.join(&mut umem, &mut batch);
        }
        assert_eq!((batch.len(), trains.is_empty()), (1, false));
        assert!(trains.take(&mut train).is_some());
        assert!(trains.take(&mut train).is_none());
        trains.join(&mut umem, &mut batch);
        while train.room() > 0 {
            let Some(frame) = umem.allocate() else { break };
            train.push(frame).unwrap();
        }
        assert!(trains.take(&mut train).is_some());
        assert_eq!(train.len(), 4);
    }
}
