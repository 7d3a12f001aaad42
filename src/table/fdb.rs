//! The forwarding database: inner destination address to destination.
//!
//! Never changed, once it is published: [`Fdb::with`] makes the next one, which shares with the one before all pages that did
//! not change. So ten thousand changes a second cost the writer some copied pages, and the workers find nearly all of the
//! table where it was, in their caches. It is an extendible hash table:
//!
//! ```text
//!   directory, by the hash's first bits
//!   000 001 010 011 100 101 110 111
//!    │   │   └─┬─┘   └──┬──┴───┘
//!    ▼   ▼     ▼        ▼
//!   page page page    page (`fdb_page.rs`): slots for 60 entries
//! ```
//!
//! A page that gets full is divided in two by one more bit; where the directory has no such bit yet, it is doubled. No
//! other page is touched. Each table hashes with a seed of its own: nobody outside can choose addresses that collide.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use super::Destination;
use super::fdb_page::{FULL, Page};
use crate::prefetch;
use crate::wire::MacAddr;

/// The forwarding database of one segment; immutable. The default is empty.
#[derive(Clone, Default)]
pub struct Fdb {
    /// A power of two of pages, or none at all when there never was an entry. Pages of less depth stand here several times, one
    /// next to the other.
    directory: Box<[Option<Arc<Page>>]>,
    /// How many bits of a hash choose the page.
    depth: u32,
    /// How many pages there are.
    pages: usize,
    len: usize,
    seed: foldhash::quality::RandomState,
}

/// A look-up on its way: the memory that decides it has been asked for.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    page: Option<&'a Page>,
    key: u64,
    hash: u64,
}

/// Entries a page of a table that is made for a known number of them, on the average of what powers of two allow.
const USUAL: usize = FULL as usize / 2;
/// A directory for so many bits is not doubled: by then, some seed is to blame.
const DEPTH_MAX: u32 = 28;
/// With fewer entries a page than this, a table is made anew.
const SPARSE: usize = USUAL / 4;

impl Fdb {
    /// Builds a table. Of several entries for one address the last one counts.
    pub fn new<D: Into<Destination>>(entries: impl IntoIterator<Item = (MacAddr, D)>) -> Self {
        let entries = entries.into_iter();
        let (at_least, at_most) = entries.size_hint();
        Self::with_room(at_most.unwrap_or(at_least)).filled(entries)
    }

    /// The table after some changes, in their order: where an address leads from now on, or that it is gone. What did not
    /// change is shared with this one.
    #[must_use]
    pub fn with<D: Into<Destination>>(
        &self,
        changes: impl IntoIterator<Item = (MacAddr, Option<D>)>,
    ) -> Self {
        let mut fdb = self.clone();
        for (mac, destination) in changes {
            match destination {
                Some(destination) => fdb.insert(mac.to_u64(), destination.into()),
                None => fdb.remove(mac.to_u64()),
            }
        }
        if fdb.pages > 1 && fdb.len < fdb.pages * SPARSE {
            return fdb.made_anew();
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
        let hash = self.hash(key);
        self.page(hash)?.find(key, hash)
    }

    /// Begins a look-up, to be ended by [`Question::answer`]: asks for the home bucket and does not wait for it. With a table larger
    /// than the caches, a batch of questions and then their answers is several times as fast as single look-ups, because
    /// many cache misses are under way at once.
    #[inline(always)]
    pub fn ask(&self, mac: MacAddr) -> Question<'_> {
        let mut question = self.prepare(mac);
        self.pose(&mut question);
        question
    }

    /// The first half of [`Self::ask`], for whoever has work to do between the two: asks for the place in the directory, which
    /// tells the page.
    #[inline(always)]
    pub fn prepare(&self, mac: MacAddr) -> Question<'_> {
        let key = mac.to_u64();
        let hash = self.hash(key);
        if let Some(place) = self.directory.get(self.index(hash)) {
            prefetch::line_of(place);
        }
        Question {
            page: None,
            key,
            hash,
        }
    }

    /// The other half.
    #[inline(always)]
    pub fn pose<'a>(&'a self, question: &mut Question<'a>) {
        question.page = self.page(question.hash);
        if let Some(page) = question.page {
            page.prefetch(question.hash);
        }
    }

    /// Every entry, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (MacAddr, Destination)> + '_ {
        let all = self.each_page().flat_map(|page| page.iter());
        all.map(|(key, to)| {
            let [_, _, mac @ ..] = key.to_be_bytes();
            (MacAddr(mac), to)
        })
    }

    /// Empty, with pages for so many entries.
    fn with_room(entries: usize) -> Self {
        if entries == 0 {
            return Self::default();
        }
        let pages = (entries / USUAL).max(1);
        let depth = pages.ilog2().min(DEPTH_MAX);
        let page = || Some(Arc::new(Page::new(depth)));
        Self {
            directory: (0..1usize << depth).map(|_| page()).collect(),
            depth,
            pages: 1 << depth,
            ..Self::default()
        }
    }

    fn filled<D: Into<Destination>>(
        mut self,
        entries: impl IntoIterator<Item = (MacAddr, D)>,
    ) -> Self {
        for (mac, destination) in entries {
            self.insert(mac.to_u64(), destination.into());
        }
        self
    }

    /// The same entries, with another seed and as many pages as they need.
    fn made_anew(&self) -> Self {
        Self::with_room(self.len).filled(self.iter())
    }

    /// Every page once.
    fn each_page(&self) -> impl Iterator<Item = &Page> {
        let mut index = 0;
        std::iter::from_fn(move || {
            let page = self.directory.get(index)?.as_deref()?;
            index += self.places(page);
            Some(page)
        })
    }

    fn insert(&mut self, key: u64, destination: Destination) {
        if self.directory.is_empty() {
            *self = Self::with_room(1);
        }
        let hash = self.hash(key);
        while self
            .page(hash)
            .is_some_and(|page| page.used() >= FULL && page.find(key, hash).is_none())
        {
            if !self.divide(hash) {
                *self = self.made_anew();
                return self.insert(key, destination);
            }
        }
        let is_new = self.edit(hash, |page| page.insert(key, hash, destination));
        self.len += usize::from(is_new);
    }

    fn remove(&mut self, key: u64) {
        let (hash, seed) = (self.hash(key), self.seed.clone());
        // Looked for first: nothing is copied for what is not there.
        if self
            .page(hash)
            .is_some_and(|page| page.find(key, hash).is_some())
        {
            let hash_of = |key| seed.hash_one(key);
            let was_there = self.edit(hash, |page| page.remove(key, hash, hash_of));
            self.len -= usize::from(was_there);
        }
    }

    /// Changes the page of a hash: a copy of it, where others share it.
    fn edit(&mut self, hash: u64, change: impl FnOnce(&mut Page) -> bool) -> bool {
        let places = self.places_of(hash);
        let Some(places) = self.directory.get_mut(places) else {
            return false;
        };
        // Taken out of all its places: then it is shared only if another table has it.
        let [first, others @ ..] = places else {
            return false;
        };
        others.fill(None);
        let Some(mut page) = first.take() else {
            return false;
        };
        let changed = change(Arc::make_mut(&mut page));
        others.fill(Some(Arc::clone(&page)));
        *first = Some(page);
        changed
    }

    /// Divides the page of a hash in two; whether that could be done.
    fn divide(&mut self, hash: u64) -> bool {
        let Some(depth) = self.page(hash).map(Page::depth) else {
            return false;
        };
        if depth == self.depth {
            if depth == DEPTH_MAX {
                return false;
            }
            let doubled = self.directory.iter().flat_map(|page| [page, page]);
            self.directory = doubled.cloned().collect();
            self.depth += 1;
        }
        let seed = self.seed.clone();
        let places = self.places_of(hash);
        let Some(places) = self.directory.get_mut(places) else {
            return false;
        };
        let Some(Some(page)) = places.first() else {
            return false;
        };
        let halves = page.divide(|key| seed.hash_one(key));
        let middle = places.len() / 2;
        for (places, half) in places.chunks_mut(middle.max(1)).zip(halves) {
            places.fill(Some(Arc::new(half)));
        }
        self.pages += 1;
        true
    }

    /// Where the page of a hash stands in the directory.
    fn places_of(&self, hash: u64) -> std::ops::Range<usize> {
        let count = self.page(hash).map_or(0, |page| self.places(page));
        let first = self.index(hash) & !count.wrapping_sub(1);
        first..first + count
    }

    /// In how many places of the directory a page of it stands.
    fn places(&self, page: &Page) -> usize {
        1 << self.depth.saturating_sub(page.depth())
    }

    #[inline(always)]
    fn page(&self, hash: u64) -> Option<&Page> {
        self.directory.get(self.index(hash))?.as_deref()
    }

    /// The first bits of the hash. Beyond the directory when there is none.
    #[inline(always)]
    fn index(&self, hash: u64) -> usize {
        hash.rotate_left(self.depth) as usize & self.directory.len().wrapping_sub(1)
    }

    #[inline(always)]
    fn hash(&self, key: u64) -> u64 {
        self.seed.hash_one(key)
    }
}

impl Question<'_> {
    /// Asks for nothing, and nothing is found.
    pub const NOTHING: Self = Self {
        page: None,
        key: 0,
        hash: 0,
    };

    /// Where frames to the address that the table was asked for go.
    #[inline(always)]
    pub fn answer(&self) -> Option<Destination> {
        self.page?.find(self.key, self.hash)
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

    use super::super::VtepId;
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
            assert_eq!(fdb.ask(MacAddr::BROADCAST).answer(), None);
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

    /// Consecutive addresses, equal low or high bytes: what real networks have. The seed is random, so the bounds are ones
    /// that a good hash misses with a probability far below one in a million.
    #[test]
    fn regular_addresses_do_not_cluster() {
        for shift in [0, 8, 16, 24, 30] {
            let fdb = Fdb::new((0..50_000).map(|i| (mac(i << shift), vtep(i as u32))));
            assert_eq!(fdb.len(), 50_000);
            assert!(
                fdb.pages < 2200 && fdb.depth <= 13,
                "{} pages, {} bits, with addresses shifted by {shift}",
                fdb.pages,
                fdb.depth
            );
        }
    }

    /// How many pages of one table the other has, too.
    fn shared(one: &Fdb, other: &Fdb) -> usize {
        let theirs: Vec<_> = other.each_page().map(std::ptr::from_ref).collect();
        let ours = one.each_page().map(std::ptr::from_ref);
        ours.filter(|page| theirs.contains(page)).count()
    }

    #[test]
    fn a_change_copies_one_page_and_leaves_the_table_before_as_it_was() {
        let before = Fdb::new((0..10_000).map(|i| (mac(i), vtep(i as u32))));
        let after = before.with([(mac(5), Some(vtep(77)))]);
        assert_eq!(
            (before.find(mac(5)), after.find(mac(5))),
            (Some(vtep(5)), Some(vtep(77)))
        );
        assert_eq!(shared(&after, &before), before.pages - 1);
        let without = after.with([(mac(6), None::<VtepId>)]);
        assert_eq!(
            (without.find(mac(6)), without.len(), after.len()),
            (None, 9_999, 10_000)
        );
        assert!(shared(&without, &before) >= before.pages - 2);
        let same = after.with([(mac(10_000), None::<VtepId>)]);
        assert_eq!(shared(&same, &after), after.pages, "it was never there");
    }

    #[test]
    fn a_table_grows_entry_by_entry_and_shrinks_to_nothing() {
        let mut fdb = Fdb::default();
        for i in 0..5_000 {
            fdb = fdb.with([(mac(i), Some(vtep(i as u32)))]);
        }
        assert_eq!((fdb.len(), fdb.iter().count()), (5_000, 5_000));
        assert!(fdb.pages < 5_000 / 15, "{} pages", fdb.pages);
        for i in 0..5_000 {
            assert_eq!(fdb.find(mac(i)), Some(vtep(i as u32)));
        }
        let full = fdb.clone();
        for i in 0..5_000 {
            fdb = fdb.with([(mac(i), None::<VtepId>)]);
            assert!(fdb.pages == 1 || fdb.pages * SPARSE <= fdb.len());
        }
        assert!(fdb.is_empty() && fdb.pages == 1 && fdb.iter().count() == 0);
        assert_eq!(full.len(), 5_000);
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
            // All asked before the first is answered, as in a batch.
            let questions: Vec<_> = keys.iter().map(|key| fdb.ask(*key)).collect();
            for (key, question) in keys.iter().zip(questions) {
                let found = question.answer();
                prop_assert_eq!(found, twin.get(key).copied());
                prop_assert_eq!(fdb.find(*key), found);
            }
        }

        /// Changes in bursts, each of which makes a table from the one before.
        #[test]
        fn follows_changes_as_a_hash_map_does(
            bursts in prop::collection::vec(
                prop::collection::vec((0u64..400, prop::option::weighted(0.7, any::<u32>())), 0..200), 0..12),
        ) {
            let (mut fdb, mut twin) = (Fdb::default(), HashMap::new());
            let mut before: Option<(Fdb, HashMap<_, _>)> = None;
            for burst in bursts {
                fdb = fdb.with(burst.iter().map(|&(key, number)| (mac(key), number.map(vtep))));
                for (key, number) in burst {
                    match number {
                        Some(number) => twin.insert(mac(key), vtep(number)),
                        None => twin.remove(&mac(key)),
                    };
                }
                prop_assert_eq!(fdb.len(), twin.len());
                prop_assert_eq!(fdb.each_page().count(), fdb.pages);
                prop_assert_eq!(fdb.iter().collect::<HashMap<_, _>>(), twin.clone());
                for key in (0..400).map(mac) {
                    prop_assert_eq!(fdb.ask(key).answer(), twin.get(&key).copied());
                }
                if let Some((table, twin)) = before {
                    prop_assert_eq!(table.iter().collect::<HashMap<_, _>>(), twin);
                }
                before = Some((fdb.clone(), twin.clone()));
            }
        }
    }
}
