//! Targets by number: each once, with how many entries lead to it.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::fdb::Target;

/// The number of a target. Another may get it when no entry leads to the first any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TargetId(u32);

impl TargetId {
    /// For tables of as many as there ever were at once.
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The targets of one device's ordinary entries.
#[derive(Debug, Default)]
pub(super) struct Targets {
    all: Vec<Held>,
    numbers: HashMap<Target, TargetId, FixedState>,
    /// Numbers to be given again.
    free: Vec<TargetId>,
}

#[derive(Debug)]
struct Held {
    target: Target,
    /// How many entries lead to it; none, when the number is free.
    entries: u32,
}

impl Targets {
    /// One more entry leads to this target: its number, and whether it is the first entry.
    pub(super) fn hold(&mut self, target: Target) -> (TargetId, bool) {
        if let Some(number) = self.numbers.get(&target).copied()
            && let Some(held) = self.all.get_mut(number.index())
        {
            held.entries += 1;
            return (number, false);
        }
        let held = Held { target, entries: 1 };
        let number = match self.free.pop() {
            Some(number) if number.index() < self.all.len() => {
                self.all[number.index()] = held;
                number
            }
            _ => {
                self.all.push(held);
                TargetId((self.all.len() - 1) as u32)
            }
        };
        self.numbers.insert(target, number);
        (number, true)
    }

    /// One entry fewer leads to it; whether it was the last.
    pub(super) fn release(&mut self, number: TargetId) -> bool {
        let Some(held) = self.all.get_mut(number.index()) else {
            return false;
        };
        held.entries = held.entries.saturating_sub(1);
        let was_last = held.entries == 0;
        if was_last {
            self.numbers.remove(&held.target);
            self.free.push(number);
        }
        was_last
    }

    /// No entry leads to it any more; the number that it had.
    pub(super) fn forget(&mut self, target: Target) -> Option<TargetId> {
        let number = self.numbers.remove(&target)?;
        if let Some(held) = self.all.get_mut(number.index()) {
            held.entries = 0;
        }
        self.free.push(number);
        Some(number)
    }

    /// The target with this number.
    pub(super) fn get(&self, number: TargetId) -> Option<Target> {
        let held = self.all.get(number.index())?;
        (held.entries > 0).then_some(held.target)
    }

    /// All that entries lead to.
    pub(super) fn iter(&self) -> impl Iterator<Item = (TargetId, Target)> + '_ {
        let held = (0..).map(TargetId).zip(&self.all);
        let held = held.filter(|(_, held)| held.entries > 0);
        held.map(|(number, held)| (number, held.target))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_target_has_its_number_as_long_as_an_entry_leads_to_it() {
        let mut targets = Targets::default();
        let (seven, is_first) = targets.hold(Target::Nexthop(7));
        assert!(is_first);
        assert_eq!(targets.hold(Target::Nexthop(7)), (seven, false));
        assert!(!targets.release(seven));
        assert_eq!(targets.get(seven), Some(Target::Nexthop(7)));
        assert!(targets.release(seven));
        assert_eq!((targets.get(seven), targets.iter().count()), (None, 0));
        assert_eq!(targets.hold(Target::Nothing), (seven, true), "given again");
        assert_eq!(targets.forget(Target::Nothing), Some(seven));
        assert_eq!(targets.forget(Target::Nothing), None);
    }

    proptest! {
        /// Entries that come, move and go, against a list of which leads where.
        #[test]
        fn counts_as_a_list_of_entries_does(
            changes in prop::collection::vec((0u8..12, prop::option::of(0u32..6)), 0..100),
        ) {
            let mut targets = Targets::default();
            let mut entries = BTreeMap::new();
            for (entry, target) in changes {
                let new = target.map(|id| targets.hold(Target::Nexthop(id)));
                let used = |entries: &BTreeMap<u8, u32>, id| entries.values().any(|at| *at == id);
                if let (Some(id), Some((_, is_first))) = (target, new) {
                    prop_assert_eq!(is_first, !used(&entries, id));
                }
                let old = match target {
                    Some(id) => entries.insert(entry, id),
                    None => entries.remove(&entry),
                };
                if let Some(id) = old {
                    let number = targets.hold(Target::Nexthop(id)).0;
                    targets.release(number);
                    prop_assert_eq!(targets.release(number), !used(&entries, id));
                }
                let mut known: Vec<_> = targets.iter().map(|(_, target)| target).collect();
                known.sort_unstable();
                let mut expected: Vec<_> = entries.values().map(|id| Target::Nexthop(*id)).collect();
                expected.sort_unstable();
                expected.dedup();
                prop_assert_eq!(known, expected);
            }
        }
    }
}
