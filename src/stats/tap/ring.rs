//! The ring by which one worker hands records to one capture.
//!
//! ```text
//!   words   | header 4 | bytes ... | header 4 | bytes ....... | 0 ..... |      0: the rest is empty, on to the front
//!                      ▲ tail: read up to here                ▲ head: written up to here
//! ```
//!
//! One writes, one reads, and neither waits. Positions are words since the beginning. What finds no room is lost and counted, so
//! that, whatever happens, `recorded + lost` is all that has passed. The bytes are copied as words, because that is what two threads
//! may share without `unsafe`; `cargo bench -- capture` tells what that costs.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

use super::record::{HEADER, Record};
use super::{Points, STAGED_MAX, Spot};
use crate::stats::Count;

/// What a capture asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// At these points.
    pub points: Points,
    /// Of these devices, by their index; of all, when there is none.
    pub ports: Vec<u32>,
    /// So many bytes of each frame, from its start.
    pub snaplen: u32,
}

impl Wanted {
    /// Whether frames there are asked for.
    #[inline]
    pub(super) fn takes(&self, spot: Spot) -> bool {
        self.points.has(spot.point) && (self.ports.is_empty() || self.ports.contains(&spot.port))
    }
}

/// A ring.
#[derive(Debug)]
pub struct Ring {
    worker: u16,
    wanted: Wanted,
    /// A power of two.
    words: Box<[AtomicU64]>,
    head: CachePadded<AtomicU64>,
    tail: CachePadded<AtomicU64>,
    lost: Count,
}

/// What is being written.
#[derive(Debug)]
pub(super) struct Draft {
    head: u64,
    /// As far as is known.
    tail: u64,
    lost: u64,
    /// Head and lost behind each frame.
    marks: [(u64, u64); STAGED_MAX],
    frames: usize,
}

/// The word behind which nothing is written up to the end.
const REST_EMPTY: u64 = 0;

impl Ring {
    /// For a worker, with room for at least so many bytes, headers among them.
    pub fn new(worker: u16, wanted: Wanted, bytes: usize) -> Self {
        let words = (bytes / 8).max(2 * HEADER).next_power_of_two();
        Self {
            worker,
            wanted,
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            head: CachePadded::default(),
            tail: CachePadded::default(),
            lost: Count::default(),
        }
    }

    /// Whose records it has.
    pub fn worker(&self) -> u16 {
        self.worker
    }

    /// What is asked for.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Records for which there was no room.
    pub fn lost(&self) -> u64 {
        self.lost.get()
    }

    /// Begins to write.
    pub(super) fn draft(&self) -> Draft {
        let head = self.head.load(Ordering::Relaxed);
        let lost = self.lost.get();
        Draft {
            head,
            // Acquire: what is written now must not be seen by whoever still reads what was there.
            tail: self.tail.load(Ordering::Acquire),
            lost,
            marks: [(head, lost); STAGED_MAX],
            frames: 0,
        }
    }

    /// Writes a record behind the others.
    pub(super) fn put<'a>(
        &self,
        draft: &mut Draft,
        record: &Record,
        parts: impl Iterator<Item = &'a [u8]>,
    ) {
        let kept = record.len.min(self.wanted.snaplen) as usize;
        if self.try_put(draft, record, kept, parts).is_none() {
            draft.lost += 1;
        }
        if let Some(mark) = draft.marks.get_mut(draft.frames) {
            *mark = (draft.head, draft.lost);
            draft.frames += 1;
        }
    }

    fn try_put<'a>(
        &self,
        draft: &mut Draft,
        record: &Record,
        kept: usize,
        parts: impl Iterator<Item = &'a [u8]>,
    ) -> Option<()> {
        let need = HEADER + kept.div_ceil(8);
        let rest = self.words.get(self.place(draft.head)..)?;
        let skipped = if rest.len() < need { rest.len() } else { 0 };
        let head = draft.head.wrapping_add(skipped as u64);
        let used = head.wrapping_add(need as u64).wrapping_sub(draft.tail);
        if used > self.words.len() as u64 {
            return None;
        }
        let words = match rest.first().filter(|_| skipped > 0) {
            Some(word) => {
                word.store(REST_EMPTY, Ordering::Relaxed);
                &*self.words
            }
            None => rest,
        };
        let words = words.get(..need)?;
        let (header, bytes) = words.split_at_checked(HEADER)?;
        for (word, value) in header.iter().zip(record.to_words(need, kept)) {
            word.store(value, Ordering::Relaxed);
        }
        let mut pen = Pen::new(bytes);
        let mut left = kept;
        for part in parts {
            let part = part.get(..left).unwrap_or(part);
            pen.write(part);
            left -= part.len();
        }
        pen.finish();
        draft.head = head.wrapping_add(need as u64);
        Some(())
    }

    /// Hands out the records of the first `frames` frames.
    pub(super) fn commit(&self, draft: &Draft, frames: usize) {
        let last = frames.min(draft.frames).checked_sub(1);
        if let Some((head, lost)) = last.and_then(|last| draft.marks.get(last)) {
            self.lost.set(*lost);
            // Whoever sees the position sees the words in front of it.
            self.head.store(*head, Ordering::Release);
        }
    }

    #[inline]
    fn place(&self, position: u64) -> usize {
        position as usize & self.words.len().wrapping_sub(1)
    }

    /// Reads up to `max` records, each with as many bytes as are there; returns how many. Only one may read.
    pub fn read(&self, max: usize, mut each: impl FnMut(Record, &[u8])) -> usize {
        let head = self.head.load(Ordering::Acquire);
        let mut tail = self.tail.load(Ordering::Relaxed);
        let mut bytes = Vec::new();
        let mut read = 0;
        while tail != head && read < max {
            let rest = &self.words[self.place(tail)..];
            let word = |index: usize| rest[index].load(Ordering::Relaxed);
            if word(0) == REST_EMPTY {
                tail = tail.wrapping_add(rest.len() as u64);
                continue;
            }
            let header: [u64; HEADER] = std::array::from_fn(word);
            let words = (header[0] as u32) as usize;
            bytes.clear();
            let behind = rest[HEADER..words].iter();
            bytes.extend(behind.flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()));
            tail = tail.wrapping_add(words as u64);
            if let Some((record, kept)) = Record::from_words(header) {
                bytes.truncate(kept);
                each(record, &bytes);
            }
            read += 1;
        }
        // The writer may use the words again from here on.
        self.tail.store(tail, Ordering::Release);
        read
    }
}

/// Writes bytes into words, the first lowest, whatever pieces they come in.
struct Pen<'a> {
    words: std::slice::Iter<'a, AtomicU64>,
    /// Bytes that do not fill a word yet, and how many bits they have.
    open: u64,
    bits: u32,
}

impl<'a> Pen<'a> {
    fn new(words: &'a [AtomicU64]) -> Self {
        Self {
            words: words.iter(),
            open: 0,
            bits: 0,
        }
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (whole, rest) = bytes.as_chunks::<8>();
        if self.bits == 0 {
            for (bytes, word) in whole.iter().zip(&mut self.words) {
                word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
            }
        } else {
            for (bytes, word) in whole.iter().zip(&mut self.words) {
                let value = u64::from_le_bytes(*bytes);
                word.store(self.open | value << self.bits, Ordering::Relaxed);
                self.open = value >> (u64::BITS - self.bits);
            }
        }
        for byte in rest {
            self.open |= u64::from(*byte) << self.bits;
            self.bits += 8;
            if self.bits == u64::BITS {
                self.put_open();
            }
        }
    }

    fn finish(mut self) {
        if self.bits > 0 {
            self.put_open();
        }
    }

    fn put_open(&mut self) {
        if let Some(word) = self.words.next() {
            word.store(self.open, Ordering::Relaxed);
        }
        (self.open, self.bits) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::iter;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use proptest::prelude::*;

    use super::super::{Fate, Point};
    use super::*;
    use crate::stats::PeerId;

    fn record(time_ns: u64, len: usize) -> Record {
        Record {
            time_ns,
            spot: Spot {
                point: Point::AccessRx,
                port: 3,
            },
            fate: Fate::Encap,
            peer: PeerId(1),
            len: len as u32,
        }
    }

    fn ring(bytes: usize, snaplen: u32) -> Ring {
        let wanted = Wanted {
            snaplen,
            ..Wanted::default()
        };
        Ring::new(0, wanted, bytes)
    }

    /// Bytes of a frame by its number.
    fn bytes(number: u64) -> Vec<u8> {
        let len = 1 + (number.wrapping_mul(2_654_435_761) >> 7) % 150;
        (0..len).map(|n| (number + n) as u8).collect()
    }

    fn write(ring: &Ring, number: u64) {
        let bytes = bytes(number);
        let mut draft = ring.draft();
        let record = record(number, bytes.len());
        ring.put(&mut draft, &record, iter::once(&bytes[..]));
        ring.commit(&draft, 1);
    }

    /// A writer that never waits, and a reader that is slower or faster: every record is whole and in order, and all that is not
    /// there is counted.
    #[test]
    fn whatever_the_reader_does_all_records_are_whole_or_counted_as_lost() {
        const FRAMES: u64 = 200_000;
        let ring = Arc::new(ring(1 << 12, 1 << 17));
        let done = Arc::new(AtomicBool::new(false));
        let writer = {
            let (ring, done) = (Arc::clone(&ring), Arc::clone(&done));
            thread::spawn(move || {
                (0..FRAMES).for_each(|number| write(&ring, number));
                done.store(true, Ordering::Release);
            })
        };
        let (mut read, mut last) = (0, None);
        loop {
            let over = done.load(Ordering::Acquire);
            let some = ring.read(7, |record, seen| {
                assert!(last < Some(record.time_ns), "in order");
                last = Some(record.time_ns);
                assert_eq!(seen, bytes(record.time_ns));
                read += 1;
            });
            if over && some == 0 {
                break;
            }
        }
        writer.join().unwrap();
        assert_eq!(read + ring.lost(), FRAMES);
        assert!(read > 0);
    }

    #[test]
    fn a_full_ring_loses_what_comes_and_goes_on_when_it_is_read() {
        let ring = ring(512, 1000);
        (0..40).for_each(|number| write(&ring, number));
        let lost = ring.lost();
        assert!(lost > 20 && lost < 40, "{lost}");
        let mut seen = Vec::new();
        assert_eq!(
            ring.read(usize::MAX, |record, _| seen.push(record.time_ns)) as u64,
            40 - lost
        );
        assert_eq!(seen[0], 0);
        write(&ring, 99);
        assert_eq!(ring.lost(), lost);
        assert_eq!(ring.read(1, |record, _| assert_eq!(record.time_ns, 99)), 1);
    }

    #[test]
    fn a_record_that_never_fits_is_lost_and_holds_up_no_other() {
        let ring = ring(256, 10_000);
        let large = vec![1; 5000];
        let mut draft = ring.draft();
        ring.put(&mut draft, &record(1, 5000), iter::once(&large[..]));
        ring.put(&mut draft, &record(2, 3), iter::once(&b"abc"[..]));
        ring.commit(&draft, 2);
        assert_eq!(ring.lost(), 1);
        assert_eq!(ring.read(9, |record, _| assert_eq!(record.time_ns, 2)), 1);
    }

    proptest! {
        #[test]
        fn pieces_are_put_together_and_cut_at_the_snaplen(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12), snaplen in 0_u32..300, begin in 0..40_u64) {
            let ring = ring(4096, snaplen);
            (0..begin).for_each(|number| { write(&ring, number); ring.read(9, |_, _| {}); });
            let whole = pieces.concat();
            let mut draft = ring.draft();
            ring.put(&mut draft, &record(1, whole.len()), pieces.iter().map(Vec::as_slice));
            ring.commit(&draft, 1);
            let kept = whole.len().min(snaplen as usize);
            let mut seen = None;
            ring.read(1, |record, bytes| seen = Some((record.len as usize, bytes.to_vec())));
            prop_assert_eq!(seen, Some((whole.len(), whole[..kept].to_vec())));
        }
    }
}
