//! The last senders that the peer check found fault with: who they were, not only how many frames they sent.
//!
//! One worker writes, anybody reads. A fixed number of slots, nothing allocated, no lock: each slot carries a version,
//! odd while it is being written, and a reader that sees it change looks again. A sender that goes on keeps its slot,
//! with a count; a new one takes the slot of whoever has been silent for longest, so that one who hammers does not drive
//! the others out.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::{Count, DropReason};

/// Senders kept for each port of a worker.
pub const OFFENDERS_MAX: usize = 16;
/// How often a reader looks at a slot again that is being written before it goes without.
const LOOKS_MAX: usize = 64;

/// A sender, and what was wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offender {
    /// The outer source address.
    pub source: IpAddr,
    /// The VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// The inner source address; none when the inner frame has no whole Ethernet header.
    pub inner_source: Option<[u8; 6]>,
    /// What was wrong.
    pub reason: DropReason,
    /// Whether its frames were delivered all the same (`peer_check = "log"`).
    pub delivered: bool,
}

/// An offender with its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffenderRecord {
    /// Who, and why.
    pub offender: Offender,
    /// Frames since it has had its slot.
    pub frames: u64,
    /// `CLOCK_MONOTONIC` in nanoseconds at the start of the turn that saw the last of them.
    pub last_ns: u64,
}

impl OffenderRecord {
    /// The records of several workers as one, the latest first: who was heard by several is there once, with all frames.
    pub fn merged(records: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut merged: Vec<Self> = Vec::new();
        for record in records {
            let mut known = merged.iter_mut();
            match known.find(|known| known.offender == record.offender) {
                Some(known) => {
                    known.frames = known.frames.saturating_add(record.frames);
                    known.last_ns = known.last_ns.max(record.last_ns);
                }
                None => merged.push(record),
            }
        }
        merged.sort_by_key(|record| std::cmp::Reverse(record.last_ns));
        merged
    }
}

/// The record of one port of one worker.
#[derive(Debug, Default)]
pub struct Offenders {
    slots: [Slot; OFFENDERS_MAX],
    /// Records made so far; the next one's number.
    records: Count,
    /// The clock of the worker's turn.
    now_ns: Count,
}

/// One cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot {
    /// Twice the number of the last record, from 1; odd while it is written; 0 when there never was one.
    version: AtomicU64,
    words: [AtomicU64; WORDS],
}

const _: () = assert!(size_of::<Slot>() == 64, "a slot is a cache line");

/// The source in two words, the inner source, what else tells offenders apart; frames, and when.
const WORDS: usize = 6;
/// The words that tell one offender from another.
const KEY_WORDS: usize = 4;
/// In the word of the inner source: there is one.
const HAS_INNER: u64 = 1 << 48;
/// In the last word of the key, above the VNI and the reason.
const DELIVERED: u64 = 1 << 40;

impl Offenders {
    /// Tells the time of the turn that makes the next records, `CLOCK_MONOTONIC` in nanoseconds. Only the owner may.
    #[inline]
    pub fn set_now(&self, now_ns: u64) {
        self.now_ns.set(now_ns);
    }

    /// Notes a frame. Only the owner may call this.
    #[cold]
    pub fn record(&self, offender: Offender) {
        let key = offender.to_words();
        let known = self.slots.iter().find(|slot| slot.holds(&key));
        let silent = || self.slots.iter().min_by_key(|slot| slot.version());
        let (slot, frames) = match known {
            Some(slot) => (slot, slot.word(KEY_WORDS).wrapping_add(1)),
            // There is always a slot.
            None => match silent() {
                Some(slot) => (slot, 1),
                None => return,
            },
        };
        self.records.add(1);
        slot.write(self.records.get(), key, frames, self.now_ns.get());
    }

    /// Those on record, the latest first.
    pub fn read(&self) -> Vec<OffenderRecord> {
        let mut read: Vec<_> = self.slots.iter().filter_map(Slot::read).collect();
        read.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
        read.into_iter().map(|(_, record)| record).collect()
    }
}

impl Offender {
    fn to_words(self) -> [u64; KEY_WORDS] {
        // No sender is an IPv4-mapped address: such frames die as martians.
        let source = match self.source {
            IpAddr::V4(addr) => addr.to_ipv6_mapped(),
            IpAddr::V6(addr) => addr,
        };
        let bits = source.to_bits();
        let inner = self.inner_source.map_or(0, |[a, b, c, d, e, f]| {
            u64::from_be_bytes([0, 0, a, b, c, d, e, f]) | HAS_INNER
        });
        let what = u64::from(self.vni & 0xff_ffff)
            | u64::from(self.reason as u8) << 32
            | if self.delivered { DELIVERED } else { 0 };
        [(bits >> 64) as u64, bits as u64, inner, what]
    }

    fn from_words([high, low, inner, what]: [u64; KEY_WORDS]) -> Option<Self> {
        let source = Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low));
        let [_, _, mac @ ..] = inner.to_be_bytes();
        Some(Self {
            source: IpAddr::V6(source).to_canonical(),
            vni: (what & 0xff_ffff) as u32,
            inner_source: (inner & HAS_INNER != 0).then_some(mac),
            reason: *DropReason::ALL.get((what >> 32 & 0xff) as usize)?,
            delivered: what & DELIVERED != 0,
        })
    }
}

impl Slot {
    fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    fn word(&self, index: usize) -> u64 {
        self.words
            .get(index)
            .map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Whether this offender's record is here. Only the owner may ask: it alone knows that nobody writes.
    fn holds(&self, key: &[u64; KEY_WORDS]) -> bool {
        self.version() != 0
            && self
                .words
                .iter()
                .zip(key)
                .all(|(word, key)| word.load(Ordering::Relaxed) == *key)
    }

    fn write(&self, number: u64, [a, b, c, d]: [u64; KEY_WORDS], frames: u64, now_ns: u64) {
        let version = number.wrapping_mul(2);
        self.version
            .store(version.wrapping_sub(1), Ordering::Relaxed);
        // Whoever sees one of the words below sees the odd version, too, when it looks again.
        fence(Ordering::Release);
        for (word, value) in self.words.iter().zip([a, b, c, d, frames, now_ns]) {
            word.store(value, Ordering::Relaxed);
        }
        self.version.store(version, Ordering::Release);
    }

    /// The record with its version; none when there is none, or when it is written faster than one can look.
    fn read(&self) -> Option<(u64, OffenderRecord)> {
        for _ in 0..LOOKS_MAX {
            let before = self.version.load(Ordering::Acquire);
            if before == 0 {
                return None;
            }
            let [a, b, c, d, frames, last_ns] =
                std::array::from_fn::<u64, WORDS, _>(|index| self.word(index));
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.version() == before {
                let offender = Offender::from_words([a, b, c, d])?;
                let record = OffenderRecord {
                    offender,
                    frames,
                    last_ns,
                };
                return Some((before, record));
            }
            std::hint::spin_loop();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    fn offender(number: u32) -> Offender {
        Offender {
            source: IpAddr::from((0xc000_0200 + number).to_be_bytes()),
            vni: 1,
            inner_source: Some([2, 0, 0, 0, 0, number as u8]),
            reason: DropReason::UnknownPeer,
            delivered: false,
        }
    }

    #[test]
    fn nobody_is_on_record_at_first() {
        assert_eq!(Offenders::default().read(), []);
    }

    #[test]
    fn what_was_recorded_is_read_whatever_it_is() {
        let offenders = Offenders::default();
        let all = [
            offender(1),
            Offender {
                source: "2001:db8::9".parse().unwrap(),
                vni: 0xff_ffff,
                inner_source: None,
                ..offender(1)
            },
            Offender {
                inner_source: Some([0; 6]),
                reason: DropReason::InnerSpoof,
                ..offender(1)
            },
            Offender {
                delivered: true,
                ..offender(1)
            },
        ];
        for (now_ns, one) in (7..).zip(all) {
            offenders.set_now(now_ns);
            offenders.record(one);
        }
        let read = offenders.read();
        let expected = [(3, 10), (2, 9), (1, 8), (0, 7)].map(|(index, last_ns)| OffenderRecord {
            offender: all[index],
            frames: 1,
            last_ns,
        });
        assert_eq!(read, expected);
    }

    #[test]
    fn one_who_goes_on_keeps_its_slot_and_the_longest_silent_gives_way() {
        let offenders = Offenders::default();
        for number in 0..100 {
            offenders.record(offender(0));
            offenders.record(offender(1 + number));
        }
        let read = offenders.read();
        assert_eq!(read.len(), OFFENDERS_MAX);
        assert_eq!((read[0].offender, read[0].frames), (offender(100), 1));
        assert_eq!((read[1].offender, read[1].frames), (offender(0), 100));
        let others: Vec<_> = read[2..].iter().map(|record| record.offender).collect();
        let expected: Vec<_> = (86..100).rev().map(offender).collect();
        assert_eq!(others, expected);
    }

    #[test]
    fn whoever_was_heard_by_several_workers_is_named_once() {
        let (first, second) = (Offenders::default(), Offenders::default());
        first.set_now(5);
        first.record(offender(1));
        first.record(offender(1));
        second.set_now(7);
        second.record(offender(2));
        second.set_now(9);
        second.record(offender(1));
        let merged = OffenderRecord::merged(first.read().into_iter().chain(second.read()));
        let expected = [(1, 3, 9), (2, 1, 7)].map(|(number, frames, last_ns)| OffenderRecord {
            offender: offender(number),
            frames,
            last_ns,
        });
        assert_eq!(merged, expected);
    }

    /// Every field of a record follows from one number: a torn one would contradict itself.
    #[test]
    fn a_reader_never_sees_half_a_record() {
        const RECORDS: u32 = 200_000;
        let offenders = Offenders::default();
        let done = AtomicBool::new(false);
        let of = |number: u32| Offender {
            source: IpAddr::V6(Ipv6Addr::from_bits(
                u128::from(number) << 96 | u128::from(number),
            )),
            vni: number,
            inner_source: Some([1, 2, 0, 0, (number >> 8) as u8, number as u8]),
            reason: DropReason::ALL[number as usize % DropReason::COUNT],
            delivered: number.is_multiple_of(2),
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1..=RECORDS {
                    offenders.set_now(u64::from(number));
                    offenders.record(of(number));
                }
                done.store(true, Ordering::Release);
            });
            let mut last = false;
            while !last {
                last = done.load(Ordering::Acquire);
                for record in offenders.read() {
                    assert_eq!(record.offender, of(record.last_ns as u32));
                    assert_eq!(record.frames, 1);
                }
            }
        });
        assert_eq!(offenders.read().len(), OFFENDERS_MAX);
    }
}
