//! One ring of an AF_XDP socket, seen from either end.
//!
//! ```text
//!                consumer index                  producer index          both count up for ever and wrap at 2^32;
//!                      v                               v                 the slot of an index is `index & mask`
//!    | free | free | entry | entry | entry | entry | free | free |       entries = producer - consumer <= size
//! ```
//!
//! The protocol is that of `tools/lib/bpf/xsk.h` and the kernel's `xsk_queue.h`: the producer writes entries, then releases
//! its index; the consumer acquires that index, reads entries, then releases its own. Each side keeps the other's index
//! cached and reads the shared one only when the cached one does not suffice, and stores its own once a batch.
//!
//! The same code runs over rings that the kernel shares and over plain memory, so a test can play the kernel's side.
//! Outside of `port` there are only [`pair`]s in plain memory, for whoever measures the ends alone.
#![allow(unsafe_code)] // WHY: entries live in memory that the kernel writes; `mask` bounds every access.

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::mapping::Mapping;

/// `struct xdp_desc` (`if_xdp.h`): an entry of the receive and the transmit ring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Descriptor {
    /// Offset of the first byte in the UMEM area.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// `XDP_PKT_CONTD`: the next descriptor belongs to the same frame. `XDP_TX_METADATA` is not used.
    pub options: u32,
}

const _: () = assert!(size_of::<Descriptor>() == 16);

/// What a ring can carry: any bits are a valid value, and copying one is reading it. Nobody else can say so of a type.
pub trait Entry: Copy + sealed::Sealed {}
impl Entry for u64 {}
impl Entry for Descriptor {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u64 {}
    impl Sealed for super::Descriptor {}
}

/// Both ends of a ring of `size` entries in plain memory. Each exists once, so that two threads may hold them.
///
/// # Errors
/// When the size is no power of two, or there is no memory.
pub fn pair<T: Entry>(size: u32) -> io::Result<(Producer<T>, Consumer<T>)> {
    let ring = Ring::plain(size)?;
    Ok((ring.clone().producer(), ring.consumer()))
}

/// Where the parts of a ring are in its mapping, in bytes: `struct xdp_ring_offset` (`if_xdp.h`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub(super) struct RingOffsets {
    pub(super) producer: u64,
    pub(super) consumer: u64,
    pub(super) entries: u64,
    pub(super) flags: u64,
}

impl RingOffsets {
    /// Indexes on cache lines of their own, as the kernel lays them out.
    const PLAIN: Self = Self {
        producer: 0,
        consumer: 128,
        flags: 192,
        entries: 256,
    };
}

/// `XDP_RING_NEED_WAKEUP` (`if_xdp.h`): the kernel sleeps until it is called.
const NEED_WAKEUP: u32 = 1;

/// The memory of one ring. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Ring<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    /// Entries, a power of two.
    size: u32,
    /// Keeps the pointers above valid.
    _mapping: Arc<Mapping>,
}

// SAFETY: the pointers go into a mapping that is the process's and that this keeps alive. Entries are reached only through
// `Producer` and `Consumer`, whose protocol orders the accesses of two threads as it orders ours and the kernel's.
unsafe impl<T: Entry + Send> Send for Ring<T> {}

impl<T: Entry> Ring<T> {
    /// A ring in a mapping laid out by `offsets`.
    ///
    /// # Errors
    /// `InvalidInput` when the size is no power of two, or the parts do not lie in the mapping or are not aligned.
    pub(super) fn new(mapping: Mapping, offsets: RingOffsets, size: u32) -> io::Result<Self> {
        if !size.is_power_of_two() {
            return Err(invalid(format!(
                "a ring of {size} entries: give a power of two"
            )));
        }
        let entries_len = size as usize * size_of::<T>();
        Ok(Self {
            producer: part(&mapping, offsets.producer, size_of::<AtomicU32>())?,
            consumer: part(&mapping, offsets.consumer, size_of::<AtomicU32>())?,
            flags: part(&mapping, offsets.flags, size_of::<AtomicU32>())?,
            entries: part(&mapping, offsets.entries, entries_len)?,
            size,
            _mapping: Arc::new(mapping),
        })
    }

    /// A ring in plain memory of this process.
    ///
    /// # Errors
    /// As [`Self::new`], and when there is no memory.
    pub(super) fn plain(size: u32) -> io::Result<Self> {
        let offsets = RingOffsets::PLAIN;
        Self::new(
            Mapping::anonymous(Self::mapping_len(offsets, size), 0)?,
            offsets,
            size,
        )
    }

    /// Bytes that a ring laid out by `offsets` takes; entries come last.
    pub(super) fn mapping_len(offsets: RingOffsets, size: u32) -> usize {
        offsets.entries as usize + size as usize * size_of::<T>()
    }

    /// The end that adds entries, starting from the indexes as they are.
    pub(super) fn producer(self) -> Producer<T> {
        let head = self.producer_index().load(Ordering::Relaxed);
        let tail = self.consumer_index().load(Ordering::Acquire);
        Producer {
            ring: self,
            head,
            tail,
        }
    }

    /// The end that takes entries, starting from the indexes as they are.
    pub(super) fn consumer(self) -> Consumer<T> {
        let tail = self.consumer_index().load(Ordering::Relaxed);
        Consumer {
            ring: self,
            tail,
            head: tail,
        }
    }

    #[inline]
    fn producer_index(&self) -> &AtomicU32 {
        // SAFETY: aligned and inside the mapping (`new`), which this keeps alive; any bits are a valid atomic.
        unsafe { self.producer.as_ref() }
    }

    #[inline]
    fn consumer_index(&self) -> &AtomicU32 {
        // SAFETY: as `producer_index`.
        unsafe { self.consumer.as_ref() }
    }

    #[inline]
    fn needs_wakeup(&self) -> bool {
        // SAFETY: as `producer_index`.
        let flags = unsafe { self.flags.as_ref() };
        flags.load(Ordering::Relaxed) & NEED_WAKEUP != 0
    }

    #[inline]
    fn slot(&self, index: u32) -> NonNull<T> {
        // SAFETY: the mask keeps the slot below `size`, and `size` entries lie inside the mapping (`new`).
        unsafe { self.entries.add((index & (self.size - 1)) as usize) }
    }

    /// Entries between two indexes. More than the ring has slots means that the other side's index is nonsense.
    #[inline]
    fn between(&self, producer: u32, consumer: u32) -> u32 {
        producer.wrapping_sub(consumer).min(self.size)
    }
}

/// The end of a ring that adds entries: fill and transmit for us, receive and completion for the kernel.
#[derive(Debug)]
pub struct Producer<T> {
    ring: Ring<T>,
    /// Our index.
    head: u32,
    /// The consumer's index when last read.
    tail: u32,
}

impl<T: Entry> Producer<T> {
    /// How many entries fit, up to `wanted`.
    #[inline]
    pub fn free(&mut self, wanted: u32) -> u32 {
        let mut free = self.ring.size - self.ring.between(self.head, self.tail);
        if free < wanted {
            self.tail = self.ring.consumer_index().load(Ordering::Acquire);
            free = self.ring.size - self.ring.between(self.head, self.tail);
        }
        free.min(wanted)
    }

    /// Adds what `next` gives until it gives no more, or `limit` entries are added, or the ring is full; then shows them
    /// all to the consumer at once. Returns how many.
    #[inline]
    pub fn produce(&mut self, limit: u32, mut next: impl FnMut() -> Option<T>) -> usize {
        let free = self.free(limit);
        let mut count = 0;
        while count < free {
            let Some(entry) = next() else { break };
            let slot = self.ring.slot(self.head.wrapping_add(count));
            // SAFETY: the slot is inside the ring, and free: the consumer's index is past its last use.
            unsafe { slot.write(entry) };
            count += 1;
        }
        if count > 0 {
            self.head = self.head.wrapping_add(count);
            self.ring
                .producer_index()
                .store(self.head, Ordering::Release);
        }
        count as usize
    }

    /// How many entries fitted when that was last looked at.
    #[inline]
    pub(super) fn known_free(&self) -> u32 {
        self.ring.size - self.ring.between(self.head, self.tail)
    }

    /// How many entries the consumer has not taken yet.
    #[inline]
    pub fn pending(&self) -> u32 {
        self.ring.between(
            self.head,
            self.ring.consumer_index().load(Ordering::Acquire),
        )
    }

    /// Whether the kernel asks to be called.
    #[inline]
    pub(super) fn needs_wakeup(&self) -> bool {
        self.ring.needs_wakeup()
    }

    /// Entries the ring has room for.
    #[inline]
    pub(super) fn size(&self) -> u32 {
        self.ring.size
    }
}

/// The end of a ring that takes entries: receive and completion for us, fill and transmit for the kernel.
#[derive(Debug)]
pub struct Consumer<T> {
    ring: Ring<T>,
    /// Our index.
    tail: u32,
    /// The producer's index when last read.
    head: u32,
}

impl<T: Entry> Consumer<T> {
    /// Gives up to `limit` entries to `take`, oldest first; then frees their slots at once. Returns how many.
    #[inline]
    pub fn consume(&mut self, limit: u32, mut take: impl FnMut(T)) -> usize {
        let mut count = self.ring.between(self.head, self.tail);
        if count < limit {
            self.head = self.ring.producer_index().load(Ordering::Acquire);
            count = self.ring.between(self.head, self.tail);
        }
        count = count.min(limit);
        for place in 0..count {
            let slot = self.ring.slot(self.tail.wrapping_add(place));
            // SAFETY: the slot is inside the ring, and the producer released an index past it: it is written, and not
            // written again before our own index passes it. Any bits are a valid entry.
            take(unsafe { slot.read() });
        }
        if count > 0 {
            self.tail = self.tail.wrapping_add(count);
            self.ring
                .consumer_index()
                .store(self.tail, Ordering::Release);
        }
        count as usize
    }

    /// How many entries wait that were seen when that was last looked at.
    #[inline]
    pub(super) fn known_pending(&self) -> u32 {
        self.ring.between(self.head, self.tail)
    }

    /// The entry so many places behind the oldest that waits, which stays where it is. For the in-memory twin.
    pub(super) fn peek(&self, place: u32) -> Option<T> {
        let slot = self.ring.slot(self.tail.wrapping_add(place));
        // SAFETY: the slot is inside the ring, and as long as an entry waits there it is written, and not written again.
        (place < self.pending()).then(|| unsafe { slot.read() })
    }

    /// How many entries wait.
    #[inline]
    pub fn pending(&self) -> u32 {
        self.ring.between(
            self.ring.producer_index().load(Ordering::Acquire),
            self.tail,
        )
    }
}

/// A part of a mapping as a typed pointer.
fn part<T>(mapping: &Mapping, offset: u64, len: usize) -> io::Result<NonNull<T>> {
    let end = usize::try_from(offset)
        .ok()
        .and_then(|offset| offset.checked_add(len));
    if end.is_none_or(|end| end > mapping.len()) {
        return Err(invalid(format!(
            "ring part at {offset}, {len} bytes, outside of its {} bytes",
            mapping.len()
        )));
    }
    // SAFETY: the offset was just found to be inside the mapping.
    let start = unsafe { mapping.start().add(offset as usize) }.cast::<T>();
    if !start.is_aligned() {
        return Err(invalid(format!("ring part at {offset} is not aligned")));
    }
    Ok(start)
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ends, with both indexes at `start`.
    fn ends(size: u32, start: u32) -> (Producer<u64>, Consumer<u64>) {
        let ring = Ring::plain(size).unwrap();
        ring.producer_index().store(start, Ordering::Relaxed);
        ring.consumer_index().store(start, Ordering::Relaxed);
        (ring.clone().producer(), ring.consumer())
    }

    fn produce(producer: &mut Producer<u64>, entries: std::ops::Range<u64>) -> usize {
        let mut entries = entries.into_iter();
        producer.produce(u32::MAX, || entries.next())
    }

    fn consume(consumer: &mut Consumer<u64>, limit: u32) -> Vec<u64> {
        let mut taken = Vec::new();
        consumer.consume(limit, |entry| taken.push(entry));
        taken
    }

    #[test]
    fn an_empty_ring_gives_nothing() {
        let (producer, mut consumer) = ends(8, 0);
        assert!(consume(&mut consumer, 64).is_empty());
        assert_eq!((producer.pending(), consumer.pending()), (0, 0));
    }

    #[test]
    fn a_full_ring_takes_nothing_until_entries_are_taken() {
        let (mut producer, mut consumer) = ends(8, 0);
        assert_eq!(produce(&mut producer, 0..20), 8);
        assert_eq!(producer.free(1), 0);
        assert_eq!(produce(&mut producer, 20..21), 0);
        assert_eq!(consume(&mut consumer, 3), [0, 1, 2]);
        assert_eq!(producer.free(64), 3);
        assert_eq!(produce(&mut producer, 8..20), 3);
        assert_eq!(consume(&mut consumer, 64), (3..11).collect::<Vec<_>>());
    }

    #[test]
    fn entries_keep_their_order_where_the_indexes_wrap() {
        let (mut producer, mut consumer) = ends(8, u32::MAX - 2);
        for round in 0..10 {
            let first = round * 5;
            assert_eq!(produce(&mut producer, first..first + 5), 5);
            assert_eq!(producer.pending(), 5);
            assert_eq!(
                consume(&mut consumer, 64),
                (first..first + 5).collect::<Vec<_>>()
            );
        }
        assert!(producer.head < 100, "the index wrapped: {}", producer.head);
    }

    #[test]
    fn a_full_ring_across_the_wrap_is_full() {
        let (mut producer, mut consumer) = ends(4, u32::MAX - 1);
        assert_eq!(produce(&mut producer, 0..9), 4);
        assert_eq!((producer.free(1), consumer.pending()), (0, 4));
        assert_eq!(consume(&mut consumer, 64), [0, 1, 2, 3]);
        assert_eq!(producer.free(64), 4);
    }

    #[test]
    fn the_limit_bounds_a_batch() {
        let (mut producer, mut consumer) = ends(8, 0);
        let mut next = 0..;
        assert_eq!(producer.produce(2, || next.next()), 2);
        assert_eq!(
            next.next(),
            Some(2),
            "nothing was taken that is not in the ring"
        );
        assert_eq!(consume(&mut consumer, 1), [0]);
        assert_eq!(consumer.pending(), 1);
    }

    #[test]
    fn nonsense_from_the_other_side_stays_inside_the_ring() {
        let (mut producer, mut consumer) = ends(8, 0);
        producer
            .ring
            .producer_index()
            .store(1 << 30, Ordering::Relaxed);
        assert_eq!(consume(&mut consumer, u32::MAX).len(), 8);
        producer.ring.consumer_index().store(5, Ordering::Relaxed);
        assert_eq!(producer.free(64), 0);
    }

    #[test]
    fn an_end_starts_from_the_indexes_as_they_are() {
        let ring: Ring<u64> = Ring::plain(4).unwrap();
        let mut producer = ring.clone().producer();
        assert_eq!(produce(&mut producer, 0..2), 2);
        assert_eq!(ring.clone().producer().pending(), 2);
        assert_eq!(consume(&mut ring.consumer(), 64), [0, 1]);
    }

    #[test]
    fn the_wakeup_flag_is_the_kernels() {
        let (producer, _consumer) = ends(4, 0);
        assert!(!producer.needs_wakeup());
        // SAFETY: the test plays the kernel, which owns the flags.
        unsafe { producer.ring.flags.as_ref() }.store(NEED_WAKEUP, Ordering::Relaxed);
        assert!(producer.needs_wakeup());
    }

    #[test]
    fn a_layout_that_does_not_fit_is_refused() {
        let layout =
            |offsets| Ring::<Descriptor>::new(Mapping::anonymous(4096, 0).unwrap(), offsets, 64);
        let fits = RingOffsets {
            producer: 0,
            consumer: 64,
            flags: 128,
            entries: 192,
        };
        assert!(layout(fits).is_ok());
        assert!(
            layout(RingOffsets {
                entries: 4096 - 64 * 16 + 1,
                ..fits
            })
            .is_err()
        );
        assert!(
            layout(RingOffsets {
                entries: u64::MAX,
                ..fits
            })
            .is_err()
        );
        assert!(
            layout(RingOffsets {
                producer: 2,
                ..fits
            })
            .is_err()
        );
        assert!(Ring::<u64>::plain(48).is_err());
        assert!(Ring::<u64>::plain(0).is_err());
    }

    #[test]
    fn two_threads_see_every_entry_once_and_in_order() {
        let (mut producer, mut consumer) = ends(64, u32::MAX - 100);
        let last = 100_000;
        let writer = std::thread::spawn(move || {
            let mut next = 0..last;
            while !next.is_empty() {
                if producer.produce(17, || next.next()) == 0 {
                    std::thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        while expected < last {
            let taken = consumer.consume(13, |entry| {
                assert_eq!(entry, expected);
                expected += 1;
            });
            if taken == 0 {
                std::thread::yield_now();
            }
        }
        writer.join().unwrap();
    }
}
