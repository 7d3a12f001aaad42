//! A page of the forwarding database: the entries whose hashes begin alike.
//!
//! ```text
//!   hash:   0110 1...                        ...1011 0101
//!           the first bits: which page       the last 32 bits: home bucket
//!
//!   | address  where | address  where | address  where |    empty     | ... 15 buckets of 4 slots ... | used, depth |
//!     one bucket, a cache line: filled from the front
//! ```
//!
//! 16 cache lines, the last of which is the page's own. An entry that finds its home bucket full is in the next one that has
//! room. Seven tenths of the slots are taken at most, so that nearly every look-up reads one cache line, and it compares all of
//! a bucket: where to stop would be mispredicted.

use super::{Destination, VtepId};
use crate::prefetch;

/// Slots of a cache line.
const BUCKET: usize = 4;
const BUCKETS: usize = 15;

/// A page with so many entries is divided before it takes another.
pub(super) const FULL: u32 = 42;

/// Slots, and how many hashes' first bits they are for. Aligned, so that the count of who shares a page, which stands in front
/// of it and which the writer changes, is in no cache line that workers read.
#[derive(Clone)]
#[repr(C, align(64))]
pub(super) struct Page {
    buckets: [[Slot; BUCKET]; BUCKETS],
    used: u32,
    depth: u32,
}

#[derive(Clone, Copy)]
struct Slot {
    key: u64,
    destination: Destination,
}

const _: () = assert!(size_of::<[Slot; BUCKET]>() == 64, "a cache line");
const _: () = assert!(size_of::<Page>() == 1024);
const _: () = assert!(
    (FULL as usize) < BUCKET * BUCKETS,
    "a probe ends at an empty slot"
);

impl Slot {
    /// The key has 64 bits, an address only 48.
    const EMPTY: Self = Self {
        key: u64::MAX,
        destination: Destination::Vtep(VtepId(0)),
    };

    #[inline(always)]
    fn is_empty(self) -> bool {
        self.key == Self::EMPTY.key
    }
}

impl Page {
    /// For the entries whose hashes share their first `depth` bits.
    pub(super) const fn new(depth: u32) -> Self {
        Self {
            buckets: [[Slot::EMPTY; BUCKET]; BUCKETS],
            used: 0,
            depth,
        }
    }

    /// How many first bits the hashes of its entries share.
    pub(super) fn depth(&self) -> u32 {
        self.depth
    }

    /// How many entries it has.
    pub(super) fn used(&self) -> u32 {
        self.used
    }

    /// Asks for the memory that a look-up will read first.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        if let Some(bucket) = self.buckets.get(home(hash)) {
            prefetch::line_of(bucket);
        }
    }

    /// Walks from the home bucket to the key or to the first empty slot, which always exists.
    #[inline(always)]
    pub(super) fn find(&self, key: u64, hash: u64) -> Option<Destination> {
        let mut index = home(hash);
        loop {
            let bucket = self.buckets.get(index)?;
            let hits = bucket
                .iter()
                .rev()
                .fold(0_u32, |hits, slot| hits << 1 | u32::from(slot.key == key));
            if let Some(slot) = bucket.get(hits.trailing_zeros() as usize) {
                return Some(slot.destination);
            }
            if is_open(bucket) {
                return None;
            }
            index = after(index);
        }
    }

    /// Every entry, its key first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Destination)> + '_ {
        let taken = self
            .buckets
            .iter()
            .flatten()
            .filter(|slot| !slot.is_empty());
        taken.map(|slot| (slot.key, slot.destination))
    }

    /// Notes where the key leads; whether it was not there. Not for a page that is [`FULL`].
    pub(super) fn insert(&mut self, key: u64, hash: u64, destination: Destination) -> bool {
        let mut index = home(hash);
        while let Some(bucket) = self.buckets.get_mut(index) {
            let place = bucket
                .iter_mut()
                .find(|slot| slot.key == key || slot.is_empty());
            if let Some(slot) = place {
                let is_new = slot.is_empty();
                *slot = Slot { key, destination };
                self.used += u32::from(is_new);
                return is_new;
            }
            index = after(index);
        }
        false
    }

    /// Forgets the key; whether it was there. All others take their places anew, so that none is behind a bucket that has room,
    /// where no look-up would come. `hash_of` is needed for that.
    pub(super) fn remove(&mut self, key: u64, hash: u64, hash_of: impl Fn(u64) -> u64) -> bool {
        if self.find(key, hash).is_none() {
            return false;
        }
        let mut rest = Self::new(self.depth);
        for (other, destination) in self.iter().filter(|(other, _)| *other != key) {
            rest.insert(other, hash_of(other), destination);
        }
        *self = rest;
        true
    }

    /// Its entries in two pages: those whose hashes have a 0 as their next bit, and the others.
    pub(super) fn divide(&self, hash_of: impl Fn(u64) -> u64) -> [Self; 2] {
        let mut halves = [const { Self::new(0) }; 2];
        for half in &mut halves {
            half.depth = self.depth + 1;
        }
        let [zeros, ones] = &mut halves;
        for (key, destination) in self.iter() {
            let hash = hash_of(key);
            let bit = hash.rotate_left(self.depth + 1) & 1;
            let half = if bit == 0 { &mut *zeros } else { &mut *ones };
            half.insert(key, hash, destination);
        }
        halves
    }
}

/// Whether a bucket has room, so that what is not in it is in no other.
#[inline(always)]
fn is_open(bucket: &[Slot; BUCKET]) -> bool {
    let [.., last] = bucket;
    last.is_empty()
}

/// The bucket at which a look-up begins.
#[inline(always)]
fn home(hash: u64) -> usize {
    // The upper half of the product: a number below BUCKETS, whatever BUCKETS is.
    ((u64::from(hash as u32) * BUCKETS as u64) >> 32) as usize
}

#[inline(always)]
fn after(index: usize) -> usize {
    if index + 1 < BUCKETS { index + 1 } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Few homes and many keys, so that entries give way to each other, around the end, too.
    fn hash_of(key: u64) -> u64 {
        let home: u64 = [12, 13, 14, 0, 5][key as usize % 5];
        (home << 32).div_ceil(BUCKETS as u64) | key << 61
    }

    fn to(number: u64) -> Destination {
        VtepId(number as u32).into()
    }

    fn assert_same(page: &Page, twin: &BTreeMap<u64, Destination>) {
        assert_eq!(page.used() as usize, twin.len());
        assert_eq!(page.iter().collect::<BTreeMap<_, _>>(), *twin);
        for key in 0..100 {
            assert_eq!(page.find(key, hash_of(key)), twin.get(&key).copied());
        }
    }

    proptest! {
        #[test]
        fn entries_that_give_way_are_found_until_they_are_removed(
            changes in prop::collection::vec((0u64..100, prop::option::of(any::<u32>())), 0..300),
        ) {
            let (mut page, mut twin) = (Page::new(0), BTreeMap::new());
            for (key, number) in changes {
                match number {
                    Some(number) if page.used() < FULL || twin.contains_key(&key) => {
                        let is_new = page.insert(key, hash_of(key), to(number.into()));
                        prop_assert_eq!(is_new, twin.insert(key, to(number.into())).is_none());
                    }
                    _ => {
                        let was_there = page.remove(key, hash_of(key), hash_of);
                        prop_assert_eq!(was_there, twin.remove(&key).is_some());
                    }
                }
                assert_same(&page, &twin);
            }
        }

        #[test]
        fn a_divided_page_has_each_entry_in_the_half_of_its_bit(
            keys in prop::collection::btree_set(0u64..1000, 0..FULL as usize),
            depth in 0u32..3,
        ) {
            let mut page = Page::new(depth);
            for key in &keys {
                page.insert(*key, hash_of(*key), to(*key));
            }
            let halves = page.divide(hash_of);
            for (bit, half) in (0..).zip(&halves) {
                prop_assert_eq!(half.depth(), depth + 1);
                let expected: BTreeMap<_, _> = keys
                    .iter()
                    .filter(|key| hash_of(**key) >> (63 - depth) & 1 == bit)
                    .map(|key| (*key, to(*key)))
                    .collect();
                prop_assert_eq!(half.iter().collect::<BTreeMap<_, _>>(), expected);
            }
        }
    }
}
