//! The forwarding database: inner destination address to destination.
//!
//! Built once by the writer, then only read. One flat array of 16-byte slots, open addressing, linear probing:
//!
//! ```text
//!   hash(address) & mask = home slot
//!   ... | address  where | address  where |    empty     | address  where | ...
//!         home, another    the next: hit   a miss ends here
//! ```
//!
//! At most half of the slots are taken, so that a look-up reads one cache line in most cases. Each table hashes with a
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
    /// A power of two of slots, or none at all when there are no entries.
    slots: Box<[Slot]>,
    len: usize,
    seed: foldhash::quality::RandomState,
}

#[derive(Clone, Copy)]
struct Slot {
    key: u64,
    destination: Destination,
}

const _: () = assert!(size_of::<Slot>() == 16, "four slots a cache line");

impl Slot {
    /// The key has 64 bits, an address only 48.
    const EMPTY: Self = Self {
        key: u64::MAX,
        destination: Destination::Vtep(VtepId(0)),
    };

    #[inline]
    fn is_empty(self) -> bool {
        self.key == Self::EMPTY.key
    }
}

/// Look-ups whose memory accesses overlap: one batch of frames.
const LANES: usize = 64;

impl Fdb {
    /// Builds the table. Of several entries for one address the last one counts.
    pub fn new<D: Into<Destination>>(entries: impl IntoIterator<Item = (MacAddr, D)>) -> Self {
        let entries: Vec<_> = entries.into_iter().collect();
        if entries.is_empty() {
            return Self::default();
        }
        let slots = vec![Slot::EMPTY; (entries.len() * 2).next_power_of_two()].into_boxed_slice();
        let mut fdb = Self {
            slots,
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

    /// Looks up `macs[i]` into `found[i]`, as far as the shorter slice reaches. With a table larger than the caches this
    /// is several times as fast as single look-ups for a batch of 64.
    ///
    /// Two passes. The first hashes and asks for every home slot, so that many cache misses are under way at once. The
    /// second compares, and probes on where the home slot is another's.
    #[inline]
    pub fn find_batch(&self, macs: &[MacAddr], found: &mut [Option<Destination>]) {
        for (macs, found) in macs.chunks(LANES).zip(found.chunks_mut(LANES)) {
            let mut homes = [0; LANES];
            for (home, mac) in homes.iter_mut().zip(macs) {
                *home = self.home(mac.to_u64());
                if let Some(slot) = self.slots.get(*home) {
                    prefetch::line_of(slot);
                }
            }
            for ((home, mac), found) in homes.iter().zip(macs).zip(found) {
                *found = self.probe(mac.to_u64(), *home);
            }
        }
    }

    /// Every entry, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (MacAddr, Destination)> + '_ {
        self.slots
            .iter()
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
        while let Some(slot) = self.slots.get_mut(index) {
            if slot.is_empty() || slot.key == key {
                self.len += usize::from(slot.is_empty());
                *slot = Slot { key, destination };
                return;
            }
            index = self.after(index);
        }
    }

    /// Walks from `index` to the key or to the first empty slot, which always exists; a table without slots ends at once.
    #[inline]
    fn probe(&self, key: u64, mut index: usize) -> Option<Destination> {
        loop {
            let slot = self.slots.get(index)?;
            if slot.key == key {
                return Some(slot.destination);
            }
            if slot.is_empty() {
                return None;
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
        self.slots.len().wrapping_sub(1)
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
            let mut found = [Some(vtep(1)); 2];
            fdb.find_batch(&[MacAddr::ZERO, MacAddr::BROADCAST], &mut found);
            assert_eq!(found, [None, None]);
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
    fn a_batch_covers_the_shorter_slice_and_more_than_64_keys() {
        let fdb = Fdb::new((0..200).map(|i| (mac(i), vtep(i as u32))));
        let macs: Vec<_> = (100..300).map(mac).collect();
        let mut found = vec![Some(vtep(9999)); 150];
        fdb.find_batch(&macs, &mut found);
        let expected: Vec<_> = (100..250).map(|i| (i < 200).then_some(vtep(i))).collect();
        assert_eq!(found, expected);
        fdb.find_batch(&macs[..1], &mut found);
        assert_eq!(found[..2], expected[..2]);
    }

    /// Consecutive addresses, equal low or high bytes: what real networks have. The seed is random, so the bound is one
    /// that a good hash misses with a probability far below one in a million.
    #[test]
    fn regular_addresses_do_not_cluster() {
        for shift in [0, 8, 16, 24, 30] {
            let fdb = Fdb::new((0..50_000).map(|i| (mac(i << shift), vtep(i as u32))));
            let longest = fdb
                .slots
                .chunk_by(|a, b| !a.is_empty() && !b.is_empty())
                .map(<[_]>::len)
                .max();
            assert!(
                longest < Some(400),
                "a run of {longest:?} slots with addresses shifted by {shift}"
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
            let mut found = vec![None; keys.len()];
            fdb.find_batch(&keys, &mut found);
            for (key, found) in keys.iter().zip(found) {
                prop_assert_eq!(found, twin.get(key).copied());
                prop_assert_eq!(fdb.find(*key), found);
            }
        }
    }
}
