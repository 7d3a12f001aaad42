//! The flight recorder: the last frames that died of each reason, as bytes, always.
//!
//! ```text
//!   worker 0   one for what came from the underlay, one for what came from the overlay     one writer each, read by anybody
//!   worker 1   the same
//!
//!   FlightRecorder   reason 0: | place | place | place | place |      the last four, in turn
//!                    reason 1: | place | place | place | place |
//!   place            | version | when, how many before, port, length | the frame's first 192 bytes |
//! ```
//!
//! A fixed number of places, nothing allocated, no lock: each place carries a version, odd while it is being written, and a reader
//! that sees it change looks again.
//!
//! In a flood of drops only the first few of each [`PAUSE_NS`] are kept: so the worker spends less than a thousandth of its time
//! here whatever dies, and the last frame on record is no older than that pause beside the last that died. What the kernel drops
//! in front of the workers or behind them is only a number: [`DropReason::has_frame`] tells which these are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::{Count, Direction, DropReason};

/// Frames kept of each reason, direction and worker.
pub const DEAD_FRAMES_MAX: usize = 4;
/// Bytes kept of each: outer headers over IPv6, and inner ones with TCP's options.
pub const DEAD_FRAME_LEN_MAX: usize = 192;
/// Of each reason, [`DEAD_FRAMES_MAX`] frames are kept in so long, in nanoseconds.
const PAUSE_NS: u64 = 1_000_000;
/// How often a reader looks at a place again that is being written before it goes without.
const LOOKS_MAX: usize = 64;

/// What a dead frame looked like when it died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// As it had come in.
    Arrived,
    /// As it would have gone out.
    Leaving,
}

impl Shape {
    /// `arrived` or `leaving`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Arrived => "arrived",
            Self::Leaving => "leaving",
        }
    }
}

/// A frame that died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadFrame {
    /// Of what.
    pub reason: DropReason,
    /// The index of the device that it came in by.
    pub port: u32,
    /// The how-manieth it was to die of this, among those that came in by the same queue.
    pub number: u64,
    /// `CLOCK_MONOTONIC` in nanoseconds at the start of the turn in which it died.
    pub at_ns: u64,
    /// What it looked like.
    pub shape: Shape,
    /// Its length.
    pub len: usize,
    /// Its first bytes: all of them, but no more than [`DEAD_FRAME_LEN_MAX`].
    pub bytes: Vec<u8>,
}

/// The record of one worker, of frames in one direction. The default keeps nothing.
#[derive(Debug, Default)]
pub struct FlightRecorder {
    /// Indexed by reason.
    shelves: Box<[Shelf]>,
}

/// The frames that died of one reason.
#[derive(Debug, Default)]
struct Shelf {
    /// The turn that began to keep frames anew.
    since_ns: Count,
    /// How many have been kept since.
    kept: Count,
    /// How many have been kept in all.
    records: Count,
    places: [Place; DEAD_FRAMES_MAX],
}

/// One frame.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Place {
    /// Odd while it is written; 0 when it never was.
    version: AtomicU64,
    head: [AtomicU64; HEAD_WORDS],
    bytes: [AtomicU64; BYTES_WORDS],
}

const _: () = assert!(
    size_of::<Place>() == 256,
    "a frame on record is four cache lines"
);

const HEAD_WORDS: usize = 4;
const BYTES_WORDS: usize = DEAD_FRAME_LEN_MAX / size_of::<u64>();
/// In the word of the port: the frame would have gone out like this.
const LEAVING: u64 = 1 << 32;

impl FlightRecorder {
    /// One that keeps frames.
    pub fn new() -> Self {
        Self {
            shelves: DropReason::ALL.iter().map(|_| Shelf::default()).collect(),
        }
    }

    /// Whether it would keep a frame that dies of this at `now_ns`.
    #[inline]
    pub(super) fn wants(&self, reason: DropReason, now_ns: u64) -> bool {
        match self.shelves.get(reason as usize) {
            Some(shelf) => shelf.kept.get() < DEAD_FRAMES_MAX as u64 || shelf.has_paused(now_ns),
            None => false,
        }
    }

    /// Keeps a frame. Only the owner may call this.
    #[cold]
    #[inline(never)]
    pub(super) fn record(&self, reason: DropReason, head: Head, frame: &[u8]) {
        let Some(shelf) = self.shelves.get(reason as usize) else {
            return;
        };
        if shelf.has_paused(head.at_ns) {
            shelf.since_ns.set(head.at_ns);
            shelf.kept.set(0);
        }
        let place = shelf.records.get() % DEAD_FRAMES_MAX as u64;
        shelf.kept.add(1);
        shelf.records.add(1);
        if let Some(place) = shelf.places.get(place as usize) {
            place.write(head, frame);
        }
    }

    /// The frames on record, by reason, the latest of each first.
    pub fn read(&self) -> Vec<DeadFrame> {
        let mut frames = Vec::new();
        for (reason, shelf) in DropReason::ALL.iter().zip(&self.shelves) {
            let places = shelf.places.iter();
            let mut read: Vec<_> = places.filter_map(|place| place.read(*reason)).collect();
            read.sort_by_key(|frame| std::cmp::Reverse((frame.at_ns, frame.number)));
            frames.extend(read);
        }
        frames
    }
}

/// What is kept beside a frame's bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) at_ns: u64,
    pub(super) number: u64,
    pub(super) port: u32,
    pub(super) shape: Shape,
}

impl Shelf {
    #[inline]
    fn has_paused(&self, now_ns: u64) -> bool {
        now_ns.wrapping_sub(self.since_ns.get()) >= PAUSE_NS
    }
}

impl Place {
    fn write(&self, head: Head, frame: &[u8]) {
        let version = self.version.load(Ordering::Relaxed);
        self.version
            .store(version.wrapping_add(1), Ordering::Relaxed);
        // Whoever sees one of the words below sees the odd version, too, when it looks again.
        fence(Ordering::Release);
        let leaving = if head.shape == Shape::Leaving {
            LEAVING
        } else {
            0
        };
        let words = [
            head.at_ns,
            head.number,
            u64::from(head.port) | leaving,
            frame.len() as u64,
        ];
        for (place, word) in self.head.iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
        for (place, piece) in self.bytes.iter().zip(frame.chunks(size_of::<u64>())) {
            let mut word = [0; size_of::<u64>()];
            for (byte, from) in word.iter_mut().zip(piece) {
                *byte = *from;
            }
            place.store(u64::from_le_bytes(word), Ordering::Relaxed);
        }
        self.version
            .store(version.wrapping_add(2), Ordering::Release);
    }

    /// The frame; none when there is none, or when it is written faster than one can look.
    fn read(&self, reason: DropReason) -> Option<DeadFrame> {
        for _ in 0..LOOKS_MAX {
            let before = self.version.load(Ordering::Acquire);
            if before == 0 {
                return None;
            }
            let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
            let [at_ns, number, port, len] = self.head.each_ref().map(load);
            let words = self.bytes.each_ref().map(load);
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == before {
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                let bytes = words.iter().flat_map(|word| word.to_le_bytes());
                return Some(DeadFrame {
                    reason,
                    port: port as u32,
                    number,
                    at_ns,
                    shape: if port & LEAVING == 0 {
                        Shape::Arrived
                    } else {
                        Shape::Leaving
                    },
                    len,
                    bytes: bytes.take(len).collect(),
                });
            }
            std::hint::spin_loop();
        }
        None
    }
}

/// The recorders of all workers. The default has none.
#[derive(Debug, Default)]
pub struct FlightBook {
    workers: Vec<[Arc<FlightRecorder>; 2]>,
}

impl FlightBook {
    /// For so many workers.
    pub fn new(workers: usize) -> Self {
        let recorder = || Arc::new(FlightRecorder::new());
        Self {
            workers: (0..workers).map(|_| [recorder(), recorder()]).collect(),
        }
    }

    /// Where a worker keeps what came from the underlay and died. One that is not in the book keeps nothing.
    pub fn received(&self, worker: usize) -> Arc<FlightRecorder> {
        let recorders = self.workers.get(worker);
        recorders.map_or_else(Arc::default, |[received, _]| Arc::clone(received))
    }

    /// Where it keeps what was on its way there.
    pub fn sent(&self, worker: usize) -> Arc<FlightRecorder> {
        let recorders = self.workers.get(worker);
        recorders.map_or_else(Arc::default, |[_, sent]| Arc::clone(sent))
    }

    /// The last frames that died of each reason in each direction, whichever worker they were with, the latest of each first.
    pub fn last(&self) -> Vec<(u32, Direction, DeadFrame)> {
        let mut last = Vec::new();
        for (direction, place) in [(Direction::Rx, 0), (Direction::Tx, 1)] {
            let workers = (0_u32..).zip(&self.workers);
            let recorders = workers.filter_map(|(worker, pair)| Some((worker, pair.get(place)?)));
            let all = recorders.flat_map(|(worker, recorder)| {
                let frames = recorder.read().into_iter();
                frames.map(move |frame| (worker, direction, frame))
            });
            let mut all: Vec<_> = all.collect();
            all.sort_by_key(|(_, _, frame)| (frame.reason as u8, std::cmp::Reverse(frame.at_ns)));
            let same = |a: &(u32, Direction, DeadFrame), b: &_| {
                let (_, _, other): &(u32, Direction, DeadFrame) = b;
                a.2.reason == other.reason
            };
            let kept = all
                .chunk_by(same)
                .flat_map(|of| of.iter().take(DEAD_FRAMES_MAX));
            last.extend(kept.cloned());
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{PortCounters, Tallies};
    use std::sync::atomic::AtomicBool;

    /// Counters of port 7 whose frames are kept, at a time.
    fn counters(recorder: &Arc<FlightRecorder>) -> PortCounters {
        PortCounters::counting(Arc::new(Tallies::new(1))).recording(Arc::clone(recorder), 7)
    }

    fn frame(number: u8, len: usize) -> Vec<u8> {
        (0..len).map(|at| number.wrapping_add(at as u8)).collect()
    }

    #[test]
    fn frames_of_any_length_are_kept_as_they_were() {
        let recorder = Arc::new(FlightRecorder::new());
        let counters = counters(&recorder);
        assert_eq!(recorder.read(), []);
        for (time, len) in [(1, 0), (2, 13), (3, 192), (4, 1514)] {
            counters.peers.set_now(time);
            counters.died(DropReason::UnknownPeer, Shape::Arrived, &frame(9, len));
        }
        let read = recorder.read();
        let lens = read.iter().map(|dead| (dead.at_ns, dead.number, dead.len));
        let expected = [(4, 4, 1514), (3, 3, 192), (2, 2, 13), (1, 1, 0)];
        assert_eq!(lens.collect::<Vec<_>>(), expected);
        for dead in &read {
            let whole = frame(9, dead.len);
            assert_eq!(dead.bytes, whole[..dead.len.min(DEAD_FRAME_LEN_MAX)]);
            assert_eq!((dead.port, dead.shape), (7, Shape::Arrived));
            assert_eq!(dead.reason, DropReason::UnknownPeer);
        }
        assert_eq!(counters.drops(DropReason::UnknownPeer), 4);
    }

    #[test]
    fn reasons_do_not_drive_each_other_out_and_the_last_of_each_stay() {
        let recorder = Arc::new(FlightRecorder::new());
        let counters = counters(&recorder);
        counters.died(DropReason::Oversize, Shape::Leaving, &frame(1, 60));
        for number in 0..100_u8 {
            counters.peers.set_now(u64::from(number) * PAUSE_NS);
            counters.died(DropReason::NoIFlag, Shape::Arrived, &frame(number, 60));
        }
        let read = recorder.read();
        let of = |reason| read.iter().filter(move |dead| dead.reason == reason);
        assert_eq!(of(DropReason::Oversize).count(), 1);
        let numbers: Vec<_> = of(DropReason::NoIFlag).map(|dead| dead.bytes[0]).collect();
        assert_eq!(numbers, [99, 98, 97, 96]);
        assert!(of(DropReason::Oversize).all(|dead| dead.shape == Shape::Leaving));
    }

    #[test]
    fn of_a_flood_few_are_kept_and_all_are_counted() {
        let recorder = Arc::new(FlightRecorder::new());
        let counters = counters(&recorder);
        let start = 5 * PAUSE_NS;
        for turn in 0..1000 {
            counters.peers.set_now(start + turn);
            for _ in 0..64 {
                counters.died(DropReason::TxRingFull, Shape::Leaving, &frame(0, 60));
            }
        }
        let numbers = |recorder: &FlightRecorder| {
            let read = recorder.read().into_iter();
            read.map(|dead| dead.number).collect::<Vec<_>>()
        };
        assert_eq!(numbers(&recorder), [4, 3, 2, 1]);
        assert_eq!(counters.drops(DropReason::TxRingFull), 64_000);
        counters.peers.set_now(start + PAUSE_NS);
        counters.died(DropReason::TxRingFull, Shape::Leaving, &frame(0, 60));
        assert_eq!(numbers(&recorder), [64_001, 4, 3, 2]);
    }

    #[test]
    fn where_nothing_is_kept_all_are_counted() {
        let counters = PortCounters::default();
        counters.died(DropReason::NoFrame, Shape::Arrived, &[1]);
        assert_eq!(counters.drops(DropReason::NoFrame), 1);
    }

    #[test]
    fn the_last_of_all_workers_are_told_with_their_direction() {
        let book = FlightBook::new(2);
        for (worker, time) in [(0, 1), (1, 2), (0, 3), (1, 4), (0, 5)] {
            let counters = counters(&book.received(worker));
            counters.peers.set_now(time);
            counters.died(DropReason::NoIFlag, Shape::Arrived, &[time as u8]);
        }
        let counters = counters(&book.sent(1));
        counters.died(DropReason::NoIFlag, Shape::Arrived, &[9]);
        counters.died(DropReason::OuterMalformed, Shape::Arrived, &[8]);
        let last = book.last();
        let told = last.iter().map(|(worker, direction, dead)| {
            let byte = dead.bytes.first().copied().unwrap_or_default();
            (*worker, direction.label(), dead.reason.label(), byte)
        });
        let expected = [
            (0, "rx", "no_i_flag", 5),
            (1, "rx", "no_i_flag", 4),
            (0, "rx", "no_i_flag", 3),
            (1, "rx", "no_i_flag", 2),
            (1, "tx", "outer_malformed", 8),
            (1, "tx", "no_i_flag", 9),
        ];
        assert_eq!(told.collect::<Vec<_>>(), expected);
        // One that is in no book keeps nothing.
        assert_eq!(book.sent(2).read(), []);
    }

    /// Every word of a record follows from one number: a torn one would contradict itself.
    #[test]
    fn a_reader_never_sees_half_a_frame() {
        const FRAMES: u64 = 100_000;
        let recorder = Arc::new(FlightRecorder::new());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let counters = counters(&recorder);
                for number in 1..=FRAMES {
                    counters.peers.set_now(number * PAUSE_NS);
                    let bytes = number.to_le_bytes().repeat(1 + number as usize % 30);
                    counters.died(DropReason::NoIFlag, Shape::Arrived, &bytes);
                }
                done.store(true, Ordering::Release);
            });
            let mut last = false;
            while !last {
                last = done.load(Ordering::Acquire);
                for dead in recorder.read() {
                    assert_eq!(dead.at_ns, dead.number * PAUSE_NS);
                    assert_eq!(dead.len, 8 * (1 + dead.number as usize % 30));
                    let mut words = dead.bytes.chunks(8);
                    assert!(words.all(|word| word == dead.number.to_le_bytes()));
                }
            }
        });
        assert_eq!(recorder.read().len(), DEAD_FRAMES_MAX);
    }
}
