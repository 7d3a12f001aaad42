//! The forwarding database: inner destination address to destination.
//!
//! Built once by the writer, then only read. One flat array of cache lines, each a bucket of four slots, filled from the front:
//!
//! ```text
//!   hash(address) & mask = home bucket
//!   ... | address where | address where | address where |     empty     | ...
//!       |<------------------ one cache line: a miss ends here ----------------->|
//! ```
//!
//! What finds its home full is in the next bucket that is not. At most half of the slots are taken, so that this concerns one
//! address of thirty at most, and a look-up reads one cache line. It compares all four slots without a branch: in which of them an
//! address is cannot be predicted, and a wrong guess costs more than the look-up. Each table hashes with a
//! seed of its own: nobody outside can choose addresses that collide, and a table built by walking another one does
//! not inherit the order of its slots, which would make the build quadratic.

use std::fmt;
use std::hash::BuildHasher;

use super::{Destination, VtepId};
use crate::prefetch;
use crate::wire::MacAddr;

/// The forwarding database of one segment; immutable. The default is empty.
#[derive(Clone, Default)]
pub struct Fdb {
    /// A power of two of buckets, or none at all when there are no entries.
    buckets: Box<[Bucket]>,
    len: usize,
    seed: foldhash::quality::RandomState,
}

const SLOTS: usize = 4;

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Bucket([Slot; SLOTS]);

const _: () = assert!(size_of::<Bucket>() == 64, "a bucket is a cache line");

#[derive(Clone, Copy)]
struct Slot {
    key: u64,
    destination: Destination,
}

impl Bucket {
    const EMPTY: Self = Self([Slot::EMPTY; SLOTS]);

    /// The destination of the key, if it is here.
    #[inline(always)]
    fn find(&self, key: u64) -> Option<Destination> {
        let [first, second, third, fourth] = &self.0;
        // As a number, since the compiler makes branches of anything else. 0 is the first slot, or none.
        let place = usize::from(second.key == key)
            + 2 * usize::from(third.key == key)
            + 3 * usize::from(fourth.key == key);
        let slot = self.0.get(place).unwrap_or(first);
        (slot.key == key).then_some(slot.destination)
    }

    /// Whether a key that is not here may be in the next one.
    #[inline(always)]
    fn is_full(&self) -> bool {
        let [.., last] = &self.0;
        !last.is_empty()
    }
}

impl Slot {
    /// The key has 64 bits, an address only 48.
    const EMPTY: Self = Self {
        key: u64::MAX,
        destination: Destination::Vtep(VtepId(0)),
    };

    #[inline]
    fn is_empty(&self) -> bool {
        self.key == Self::EMPTY.key
    }
}

/// A look-up on its way: the memory that decides it has been asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Question {
    key: u64,
    home: usize,
}

impl Fdb {
    /// Builds the table. Of several entries for one address the last one counts.
    pub fn new<D: Into<Destination>>(entries: impl IntoIterator<Item = (MacAddr, D)>) -> Self {
        let entries: Vec<_> = entries.into_iter().collect();
        if entries.is_empty() {
            return Self::default();
        }
        let buckets = (entries.len() * 2).div_ceil(SLOTS).next_power_of_two();
        let mut fdb = Self {
            buckets: vec![Bucket::EMPTY; buckets].into_boxed_slice(),
            ..Self::default()
        };
        for (mac, destination) in entries {
            fdb.insert(mac, destination.into());
        }
        fdb
    }

    /// How many addresses it knows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it knows no address.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where frames to this address go.
    #[inline]
    pub fn find(&self, mac: MacAddr) -> Option<Destination> {
        let key = mac.to_u64();
        self.probe(key, self.home(key))
    }

    /// Begins a look-up, to be ended by [`Self::answer`]: asks for the home bucket and does not wait for it. With a table larger
    /// than the caches, a batch of questions and then their answers is several times as fast as single look-ups, because
    /// many cache misses are under way at once.
    #[inline(always)]
    pub fn ask(&self, mac: MacAddr) -> Question {
        let key = mac.to_u64();
        let home = self.home(key);
        if let Some(bucket) = self.buckets.get(home) {
            prefetch::line_of(bucket);
        }
        Question { key, home }
    }

    /// Where frames to the address that this table was asked for go.
    #[inline(always)]
    pub fn answer(&self, question: Question) -> Option<Destination> {
        self.probe(question.key, question.home)
    }

    /// Every entry, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (MacAddr, Destination)> + '_ {
        self.buckets
            .iter()
            .flat_map(|bucket| &bucket.0)
            .filter(|slot| !slot.is_empty())
            .map(|slot| {
                let [_, _, mac @ ..] = slot.key.to_be_bytes();
                (MacAddr(mac), slot.destination)
            })
    }

    fn insert(&mut self, mac: MacAddr, destination: Destination) {
        let key = mac.to_u64();
        let mut index = self.home(key);
        // Ends, because half of the slots stay empty.
        while let Some(bucket) = self.buckets.get_mut(index) {
            for slot in &mut bucket.0 {
                if slot.is_empty() || slot.key == key {
                    self.len += usize::from(slot.is_empty());
                    *slot = Slot { key, destination };
                    return;
                }
            }
            index = self.after(index);
        }
    }

    /// Walks from bucket `index` to the key or to the first bucket with an empty slot, which always exists; a table without
    /// buckets ends at once.
    #[inline(always)]
    fn probe(&self, key: u64, mut index: usize) -> Option<Destination> {
        loop {
            let bucket = self.buckets.get(index)?;
            let found = bucket.find(key);
            if found.is_some() || !bucket.is_full() {
                return found;
            }
            index = self.after(index);
        }
    }

    #[inline]
    fn home(&self, key: u64) -> usize {
        self.seed.hash_one(key) as usize & self.mask()
    }

    #[inline]
    fn after(&self, index: usize) -> usize {
        index.wrapping_add(1) & self.mask()
    }

    #[inline]
    fn mask(&self) -> usize {
        self.buckets.len().wrapping_sub(1)
    }
}

impl fmt::Debug for Fdb {
    /// The size only: tables have up to hundreds of thousands of entries, and the seed is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fdb")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn vtep(number: u32) -> Destination {
        Destination::Vtep(VtepId(number))
    }

    fn mac(number: u64) -> MacAddr {
        let [_, _, mac @ ..] = number.to_be_bytes();
        MacAddr(mac)
    }

    #[test]
    fn an_empty_table_finds_nothing() {
        for fdb in [Fdb::default(), Fdb::new::<VtepId>([])] {
            assert!(fdb.is_empty());
            assert_eq!(fdb.find(MacAddr::ZERO), None);
            assert_eq!(fdb.iter().count(), 0);
            for mac in [MacAddr::ZERO, MacAddr::BROADCAST] {
                assert_eq!(fdb.answer(fdb.ask(mac)), None);
            }
        }
    }

    #[test]
    fn the_lowest_and_the_highest_address_are_keys_like_others() {
        let fdb = Fdb::new([
            (MacAddr::ZERO, vtep(0)),
            (MacAddr::BROADCAST, vtep(u32::MAX)),
        ]);
        assert_eq!(fdb.len(), 2);
        assert_eq!(fdb.find(MacAddr::ZERO), Some(vtep(0)));
        assert_eq!(fdb.find(MacAddr::BROADCAST), Some(vtep(u32::MAX)));
        assert_eq!(fdb.find(mac(1)), None);
    }

    #[test]
    fn of_two_entries_for_one_address_the_last_counts() {
        let fdb = Fdb::new([(mac(7), vtep(1)), (mac(8), vtep(2)), (mac(7), vtep(3))]);
        assert_eq!(fdb.len(), 2);
        assert_eq!(fdb.find(mac(7)), Some(vtep(3)));
        assert_eq!(fdb.iter().filter(|(key, _)| *key == mac(7)).count(), 1);
    }

    #[test]
    fn a_question_to_another_table_does_no_harm() {
        let (large, small) = (
            Fdb::new((0..1000).map(|i| (mac(i), vtep(i as u32)))),
            Fdb::new([(mac(7), vtep(7))]),
        );
        for table in [&small, &Fdb::default()] {
            for i in 0..1000 {
                let found = table.answer(large.ask(mac(i)));
                assert!(found.is_none_or(|found| found == vtep(7) && i == 7));
            }
        }
    }

    /// Consecutive addresses, equal low or high bytes: what real networks have. The seed is random, so the bound is one
    /// that a good hash misses with a probability far below one in a million.
    #[test]
    fn regular_addresses_do_not_cluster() {
        for shift in [0, 8, 16, 24, 30] {
            let fdb = Fdb::new((0..50_000).map(|i| (mac(i << shift), vtep(i as u32))));
            let longest = fdb
                .buckets
                .chunk_by(|a, b| a.is_full() && b.is_full())
                .map(<[_]>::len)
                .max();
            assert!(
                longest < Some(40),
                "a run of {longest:?} full buckets with addresses shifted by {shift}"
            );
        }
    }

    #[test]
    fn a_table_built_from_another_has_its_own_seed() {
        let first = Fdb::new((0..1000).map(|i| (mac(i), vtep(i as u32))));
        let second = Fdb::new(first.iter());
        assert_eq!(second.len(), 1000);
        let order = |fdb: &Fdb| fdb.iter().collect::<Vec<_>>();
        assert_ne!(order(&first), order(&second));
    }

    proptest! {
        #[test]
        fn answers_as_a_hash_map_does(
            // A narrow range makes repeated addresses and hits likely, a wide one misses.
            entries in prop::collection::vec((prop_oneof![0u64..300, 0u64..1 << 48], any::<u32>()), 0..600),
            others in prop::collection::vec(prop_oneof![0u64..600, 0u64..1 << 48], 0..200),
        ) {
            let twin: HashMap<_, _> = entries.iter().map(|&(key, number)| (mac(key), vtep(number))).collect();
            let fdb = Fdb::new(entries.iter().map(|&(key, number)| (mac(key), vtep(number))));
            prop_assert_eq!(fdb.len(), twin.len());
            prop_assert_eq!(fdb.iter().collect::<HashMap<_, _>>(), twin.clone());
            prop_assert_eq!(fdb.iter().count(), twin.len());

            let keys: Vec<_> = entries.iter().map(|entry| entry.0).chain(others).map(mac).collect();
            let questions: Vec<_> = keys.iter().map(|key| fdb.ask(*key)).collect();
            for (key, question) in keys.iter().zip(questions) {
                let found = fdb.answer(question);
                prop_assert_eq!(found, twin.get(key).copied());
                prop_assert_eq!(fdb.find(*key), found);
            }
        }
    }
}
