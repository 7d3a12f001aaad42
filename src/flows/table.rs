//! A table of flows of fixed size: sets of [`WAYS`] places, and for each set the hand of a clock that says whose turn it is
//! to go when a new flow wants in. A flow may be in either of two sets, so that nearly all places can be taken before one
//! finds none.
//!
//! A place whose flow went can rest: nobody gets it before then. What programs read in a place of the same number, they read
//! of one flow only.

use super::{FlowKey, Seed};

/// Places of a set: `FLOW_WAYS` of `bpf/direct.h`.
pub const WAYS: usize = 4;

/// A place's number: its set's, times [`WAYS`], and which of the set's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub usize);

/// Flows, and what is known of each. Everything is allocated at the start.
#[derive(Debug)]
pub struct FlowTable<T> {
    places: Box<[Place<T>]>,
    /// Which of them are taken, a bit each: most are not, and to look at each is a cache miss each.
    taken: Box<[u64]>,
    hands: Box<[u8]>,
    seed: Seed,
    len: usize,
    /// The place that is looked at next by [`FlowTable::sweep_part`].
    swept: usize,
}

#[derive(Debug)]
enum Place<T> {
    /// Nobody's from this moment on, in nanoseconds.
    Free(u64),
    Taken(FlowKey, T),
}

impl<T> FlowTable<T> {
    /// An empty one with at least so many sets. `seed` is that of the flows' hashes.
    pub fn new(sets: usize, seed: Seed) -> Self {
        let sets = sets.next_power_of_two();
        let places = std::iter::repeat_with(|| Place::Free(0));
        Self {
            places: places.take(sets * WAYS).collect(),
            taken: vec![0; (sets * WAYS).div_ceil(64)].into(),
            hands: vec![0; sets].into(),
            seed,
            len: 0,
            swept: 0,
        }
    }

    /// How many flows are in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A flow's place, and what is known of it.
    pub fn find(&mut self, key: &FlowKey) -> Option<(Slot, &mut T)> {
        let is_here = |at: &usize| {
            let place = self.places.get(*at);
            place.is_some_and(|place| matches!(place, Place::Taken(of, _) if of == key))
        };
        let at = self.places_of(key).find(is_here)?;
        let slot = Slot(at);
        self.get_mut(slot).map(|(_, known)| (slot, known))
    }

    /// What is in a place.
    pub fn get_mut(&mut self, slot: Slot) -> Option<(FlowKey, &mut T)> {
        match self.places.get_mut(slot.0) {
            Some(Place::Taken(key, known)) => Some((*key, known)),
            _ => None,
        }
    }

    /// Every flow.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &FlowKey, &T)> {
        let places = self.places.iter().enumerate();
        places.filter_map(|(at, place)| match place {
            Place::Taken(key, known) => Some((Slot(at), key, known)),
            Place::Free(_) => None,
        })
    }

    /// How many there is room for.
    pub fn places(&self) -> usize {
        self.places.len()
    }

    /// Whether more than half of the places are taken.
    pub fn is_crowded(&self) -> bool {
        self.len > self.places.len() / 2
    }

    /// Puts a flow that is not there into one of its sets, at `now_ns`. When no place is free, the clocks' hands go round once,
    /// and the first flow for which `may_go` holds makes room; its place must not need to rest.
    ///
    /// # Errors
    /// Gives `known` back when there is no room.
    pub fn insert(
        &mut self,
        key: FlowKey,
        known: T,
        now_ns: u64,
        mut may_go: impl FnMut(Slot, &mut T) -> bool,
    ) -> Result<Slot, T> {
        let free = |place: &Place<T>| matches!(place, Place::Free(from) if *from <= now_ns);
        let mut found = self
            .places_of(&key)
            .find(|at| self.places.get(*at).is_some_and(free));
        for set in self.sets_of(&key) {
            if found.is_none() {
                found = self.make_room(set, &mut may_go);
            }
        }
        match found.and_then(|at| Some((at, self.places.get_mut(at)?))) {
            Some((at, place)) => {
                *place = Place::Taken(key, known);
                self.len += 1;
                if let Some(word) = self.taken.get_mut(at / 64) {
                    *word |= 1 << (at % 64);
                }
                Ok(Slot(at))
            }
            None => Err(known),
        }
    }

    /// Looks at every flow, and lets those go for which `until_ns` says until when their places rest: 0 for not at all.
    pub fn sweep(&mut self, until_ns: impl FnMut(Slot, &FlowKey, &mut T) -> Option<u64>) {
        self.swept = 0;
        self.sweep_part(self.places.len(), until_ns);
    }

    /// The same with those in so many places, behind those that were looked at the last time. Whether that was the end of a round, and
    /// the next one begins with the first.
    pub fn sweep_part(
        &mut self,
        places: usize,
        mut until_ns: impl FnMut(Slot, &FlowKey, &mut T) -> Option<u64>,
    ) -> bool {
        let end = self.places.len().min(self.swept + places);
        while let Some(at) = self.next_taken(self.swept, end) {
            self.swept = at + 1;
            if let Some(place) = self.places.get_mut(at)
                && let Place::Taken(key, known) = place
                && let Some(until_ns) = until_ns(Slot(at), key, known)
            {
                *place = Place::Free(until_ns);
                self.len -= 1;
                if let Some(word) = self.taken.get_mut(at / 64) {
                    *word &= !(1 << (at % 64));
                }
            }
        }
        self.swept = end;
        let ends = self.swept == self.places.len();
        if ends {
            self.swept = 0;
        }
        ends
    }

    /// The first taken place from this one on, before `end`.
    fn next_taken(&self, mut from: usize, end: usize) -> Option<usize> {
        while from < end {
            let rest = self.taken.get(from / 64)? >> (from % 64);
            if rest != 0 {
                let found = from + rest.trailing_zeros() as usize;
                return (found < end).then_some(found);
            }
            from = (from / 64 + 1) * 64;
        }
        None
    }

    /// Has the clock of a set go round once, until somebody may go.
    fn make_room(
        &mut self,
        set: usize,
        may_go: &mut impl FnMut(Slot, &mut T) -> bool,
    ) -> Option<usize> {
        let hand = self.hands.get_mut(set)?;
        for _ in 0..WAYS {
            let at = set * WAYS + usize::from(*hand);
            *hand = (*hand + 1) % WAYS as u8;
            if let Some(Place::Taken(_, known)) = self.places.get_mut(at)
                && may_go(Slot(at), known)
            {
                self.len -= 1;
                return Some(at);
            }
        }
        None
    }

    /// Where a flow may be: all places of its sets, in the order in which they are looked at.
    fn places_of(&self, key: &FlowKey) -> impl Iterator<Item = usize> + use<T> {
        let sets = self.sets_of(key).into_iter();
        sets.flat_map(|set| set * WAYS..(set + 1) * WAYS)
    }

    /// The sets of a flow: `find_flow` of `bpf/direct.h` looks into the same. Seldom they are one.
    fn sets_of(&self, key: &FlowKey) -> [usize; 2] {
        let hash = key.hash(&self.seed);
        [hash, hash.rotate_left(16)].map(|hash| hash as usize & (self.hands.len() - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::tests::{key, seed};
    use super::*;

    fn full() -> (FlowTable<u32>, Vec<Slot>) {
        let mut table = FlowTable::new(1, seed(3));
        let slots = (0..4).map(|port| {
            let inserted = table.insert(key(1, port), u32::from(port), 0, |_, _| false);
            inserted.unwrap()
        });
        let slots = slots.collect();
        (table, slots)
    }

    #[test]
    fn flows_are_found_until_they_go_and_a_full_set_takes_none() {
        let (mut table, slots) = full();
        assert_eq!((table.len(), slots.len()), (4, 4));
        for (port, slot) in (0..4).zip(&slots) {
            assert_eq!(
                table.find(&key(1, port)),
                Some((*slot, &mut u32::from(port)))
            );
        }
        assert_eq!(table.insert(key(2, 9), 9, 0, |_, _| false), Err(9));
        let all: Vec<_> = table
            .iter()
            .map(|(slot, _, known)| (slot, *known))
            .collect();
        assert_eq!(all, slots.iter().copied().zip(0..).collect::<Vec<_>>());
        table.sweep(|_, key, _| (key.local.port() == 2).then_some(0));
        assert_eq!((table.len(), table.find(&key(1, 2))), (3, None));
        assert_eq!(table.insert(key(2, 9), 9, 0, |_, _| false), Ok(slots[2]));
    }

    #[test]
    fn the_clock_gives_every_flow_its_turn() {
        let (mut table, slots) = full();
        let gone: Vec<_> = (10..14)
            .map(|port| table.insert(key(1, port), 0, 0, |_, _| true).unwrap())
            .collect();
        assert_eq!(gone, slots, "one after the other");
        // A second chance for who asks for it.
        let mut asked = Vec::new();
        let slot = table.insert(key(1, 20), 0, 0, |slot, _| {
            asked.push(slot);
            asked.len() == 3
        });
        assert_eq!(slot, Ok(slots[2]));
        assert_eq!((asked, table.len()), (slots[..3].to_vec(), 4));
    }

    #[test]
    fn nearly_all_places_can_be_taken() {
        let mut table = FlowTable::new(1024, seed(3));
        let flows = || (0..12).flat_map(|last| (0..256).map(move |port| key(last, port)));
        let refused = flows().filter(|flow| table.insert(*flow, (), 0, |_, ()| false).is_err());
        let refused = refused.count();
        // Three quarters. With one set for each there would be 350.
        assert_eq!(table.len() + refused, 3072);
        assert!(refused < 154, "{refused} found no place");
        assert!(table.is_crowded());
        let found = flows().filter(|flow| table.find(flow).is_some()).count();
        assert_eq!(found, table.len());
    }

    #[test]
    fn part_by_part_every_flow_is_looked_at_once_a_round() {
        let mut table = FlowTable::new(4, seed(3));
        for port in 0..9 {
            table.insert(key(1, port), (), 0, |_, ()| false).unwrap();
        }
        let all: Vec<_> = table.iter().map(|(slot, _, ())| slot).collect();
        let round = |table: &mut FlowTable<()>, places| {
            let (mut looked_at, mut parts) = (Vec::new(), 1);
            let mut look = |slot: Slot, _: &FlowKey, (): &mut ()| {
                looked_at.push(slot);
                None
            };
            while !table.sweep_part(places, &mut look) {
                parts += 1;
            }
            (looked_at, parts)
        };
        assert_eq!(round(&mut table, 5), (all.clone(), 4));
        assert_eq!(round(&mut table, 100), (all.clone(), 1));
        assert!(!table.sweep_part(3, |_, _, ()| None));
        // One who looks at all begins a round.
        table.sweep(|_, _, ()| None);
        assert_eq!(round(&mut table, 8), (all, 2));
    }

    #[test]
    fn of_a_large_table_only_what_is_taken_is_looked_at() {
        let mut table = FlowTable::new(64, seed(5));
        for port in 0..120 {
            table.insert(key(1, port), (), 0, |_, ()| false).unwrap();
        }
        let all: Vec<_> = table.iter().map(|(slot, _, ())| slot).collect();
        let mut looked_at = Vec::new();
        // Every other one goes.
        while !table.sweep_part(50, |slot, _, ()| {
            looked_at.push(slot);
            (looked_at.len() % 2 == 0).then_some(0)
        }) {}
        assert_eq!((&looked_at, table.len()), (&all, 60));
        looked_at.clear();
        table.sweep(|slot, _, ()| {
            looked_at.push(slot);
            None
        });
        let left: Vec<_> = all.into_iter().step_by(2).collect();
        assert_eq!(looked_at, left);
        assert!(table.iter().map(|(slot, _, ())| slot).eq(left));
    }

    #[test]
    fn a_place_that_rests_is_nobodys_until_then() {
        let (mut table, slots) = full();
        table.sweep(|slot, _, _| (slot == slots[1]).then_some(100));
        assert_eq!(table.insert(key(3, 1), 1, 99, |_, _| false), Err(1));
        assert_eq!(table.insert(key(3, 1), 1, 100, |_, _| false), Ok(slots[1]));
    }
}
