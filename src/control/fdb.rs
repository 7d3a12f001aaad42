//! The mirror of one device's FDB.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::targets::{TargetId, Targets};
use crate::netlink::{Neighbour, neighbour_flag, neighbour_state};
use crate::table::VtepKey;
use crate::wire::{MacAddr, Vni};

/// Where an entry points, as the kernel said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Target {
    /// A VTEP, and the device that frames must leave from (0: as the routes say).
    Remote(VtepKey, u32),
    /// A nexthop object.
    Nexthop(u32),
    /// Nothing that makes sense: neither address nor nexthop, or a VNI beyond 24 bits.
    Nothing,
}

/// The entries of one device that carry `NTF_SELF`.
///
/// An ordinary address has one value: a new entry replaces it. The all-zero address and multicast addresses are lists: a
/// new entry is one more destination, a deletion names the one that goes (`vxlan_fdb_update`).
///
/// Of an ordinary entry it keeps the address and a number: hundreds of thousands of entries lead to few targets.
#[derive(Debug, Default)]
pub(super) struct FdbMirror {
    single: HashMap<MacAddr, TargetId, FixedState>,
    targets: Targets,
    lists: HashMap<MacAddr, Vec<Target>, FixedState>,
    changed: Changed,
}

/// What changed since [`FdbMirror::take_changed`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// Where these ordinary addresses lead, or whether they are there; and every target is one that was there before, and none is
    /// gone.
    Entries(Vec<MacAddr>),
    /// More than that.
    Targets,
}

impl Default for Changed {
    /// A mirror that is new is in nobody's table.
    fn default() -> Self {
        Self::Targets
    }
}

impl FdbMirror {
    /// Applies one message; whether anything changed. `port` and `vni` are the device's, for entries without their own.
    pub(super) fn apply(&mut self, exists: bool, entry: &Neighbour, port: u16, vni: Vni) -> bool {
        let Some(mac) = entry
            .mac
            .filter(|_| entry.fdb && entry.flags & neighbour_flag::SELF != 0)
        else {
            return false;
        };
        let target = target_of(entry, port, vni);
        let exists = exists && entry.state & neighbour_state::FAILED == 0;
        if !is_list(mac) {
            return self.set(mac, exists.then_some(target));
        }
        let changed = if exists {
            let list = self.lists.entry(mac).or_default();
            let new = !list.contains(&target);
            if new {
                list.push(target);
            }
            new
        } else {
            self.retain_in_lists(|other, at| other != mac || *at != target)
        };
        if changed {
            self.changed = Changed::Targets;
        }
        changed
    }

    /// Puts what a complete dump made in the place of what was known; whether anything changed.
    pub(super) fn replace(&mut self, next: Self) -> bool {
        let changed = !self.same_as(&next);
        if changed {
            *self = next;
        }
        changed
    }

    /// Drops the entries that name a nexthop object which is gone: the kernel drops them without a word.
    pub(super) fn forget_nexthop(&mut self, id: u32) -> bool {
        let gone = Target::Nexthop(id);
        let named = self.targets.forget(gone);
        if let Some(number) = named {
            self.single.retain(|_, target| *target != number);
        }
        let changed = self.retain_in_lists(|_, target| *target != gone) || named.is_some();
        if changed {
            self.changed = Changed::Targets;
        }
        changed
    }

    /// Whether any entry names a nexthop object.
    pub(super) fn uses_nexthops(&self) -> bool {
        let single = self.targets.iter().map(|(_, target)| target);
        let mut all = single.chain(self.lists.values().flatten().copied());
        all.any(|target| matches!(target, Target::Nexthop(_)))
    }

    /// Notes that targets may lead elsewhere than they did.
    pub(super) fn doubt_targets(&mut self) {
        self.changed = Changed::Targets;
    }

    /// What changed since it was last asked for; of many entries the first `most`, and the others the next time.
    pub(super) fn take_changed(&mut self, most: usize) -> Changed {
        let others = match &mut self.changed {
            Changed::Entries(macs) => macs.split_off(most.min(macs.len())),
            Changed::Targets => Vec::new(),
        };
        std::mem::replace(&mut self.changed, Changed::Entries(others))
    }

    /// Whether there is anything to take.
    pub(super) fn is_changed(&self) -> bool {
        self.changed != Changed::Entries(Vec::new())
    }

    /// Addresses with one value, by the number of their target.
    pub(super) fn single(&self) -> impl ExactSizeIterator<Item = (MacAddr, TargetId)> + '_ {
        self.single.iter().map(|(mac, target)| (*mac, *target))
    }

    /// The number of an ordinary address's target, if the address is there.
    pub(super) fn target(&self, mac: MacAddr) -> Option<TargetId> {
        self.single.get(&mac).copied()
    }

    /// The targets of ordinary addresses, each once.
    pub(super) fn targets(&self) -> impl Iterator<Item = (TargetId, Target)> + '_ {
        self.targets.iter()
    }

    /// Multicast addresses and the all-zero one, with all of their destinations.
    pub(super) fn lists(&self) -> impl Iterator<Item = (MacAddr, &[Target])> + '_ {
        self.lists.iter().map(|(mac, targets)| (*mac, &targets[..]))
    }

    /// Where an ordinary address leads from now on, if anywhere; whether that is news.
    fn set(&mut self, mac: MacAddr, target: Option<Target>) -> bool {
        let new = target.map(|target| self.targets.hold(target));
        let old = match new {
            Some((number, _)) => self.single.insert(mac, number),
            None => self.single.remove(&mac),
        };
        let is_first = new.is_some_and(|(_, is_first)| is_first);
        let was_last = old.is_some_and(|old| self.targets.release(old));
        if old == new.map(|(number, _)| number) {
            return false;
        }
        self.changed.note(mac, is_first || was_last);
        true
    }

    fn retain_in_lists(&mut self, keep: impl Fn(MacAddr, &Target) -> bool) -> bool {
        let mut changed = false;
        self.lists.retain(|mac, targets| {
            let before = targets.len();
            targets.retain(|target| keep(*mac, target));
            changed |= targets.len() != before;
            !targets.is_empty()
        });
        changed
    }

    /// Equal as sets: the order within a list is the order of arrival and means nothing.
    fn same_as(&self, other: &Self) -> bool {
        let same_list = |(mac, targets): (&MacAddr, &Vec<Target>)| {
            let others = other.lists.get(mac).map(Vec::as_slice).unwrap_or_default();
            targets.len() == others.len() && targets.iter().all(|target| others.contains(target))
        };
        // Numbers were given in another order.
        let same_entry = |(mac, number): (&MacAddr, &TargetId)| {
            let others = other.single.get(mac);
            others.and_then(|number| other.targets.get(*number)) == self.targets.get(*number)
        };
        self.single.len() == other.single.len()
            && self.single.iter().all(same_entry)
            && self.lists.len() == other.lists.len()
            && self.lists.iter().all(same_list)
    }
}

impl Changed {
    /// That many addresses are no fewer than the whole table, after some time.
    const ENTRIES_MAX: usize = 1 << 16;

    /// Notes one address, with or without a target that is new or gone.
    fn note(&mut self, mac: MacAddr, targets_too: bool) {
        match self {
            Self::Entries(macs) if !targets_too && macs.len() < Self::ENTRIES_MAX => macs.push(mac),
            Self::Entries(_) => *self = Self::Targets,
            Self::Targets => {}
        }
    }
}

fn is_list(mac: MacAddr) -> bool {
    mac.is_zero() || mac.is_multicast()
}

fn target_of(entry: &Neighbour, port: u16, vni: Vni) -> Target {
    if let Some(id) = entry.nexthop {
        return Target::Nexthop(id);
    }
    let own_vni = entry.vni.map_or(Ok(vni), Vni::new);
    match (entry.dst, own_vni) {
        (Some(addr), Ok(vni)) => {
            let key = VtepKey {
                addr,
                port: entry.port.unwrap_or(port),
                vni,
            };
            Target::Remote(key, entry.via_ifindex.unwrap_or(0))
        }
        _ => Target::Nothing,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn entry(mac: u8, dst: Option<u8>, nexthop: Option<u32>) -> Neighbour {
        Neighbour {
            fdb: true,
            ifindex: 4,
            state: 0x80,
            flags: neighbour_flag::SELF,
            flags_ext: 0,
            mac: Some(if mac == 0 {
                MacAddr::ZERO
            } else {
                MacAddr([2, 0, 0, 0, 0, mac])
            }),
            dst: dst.map(|last| Ipv4Addr::new(10, 9, 0, last).into()),
            port: None,
            vni: None,
            src_vni: None,
            via_ifindex: None,
            nexthop,
            protocol: 0,
        }
    }

    const PORT: u16 = 8472;

    fn vni() -> Vni {
        Vni::new(1).unwrap()
    }

    fn remote(last: u8) -> Target {
        Target::Remote(
            VtepKey {
                addr: Ipv4Addr::new(10, 9, 0, last).into(),
                port: PORT,
                vni: vni(),
            },
            0,
        )
    }

    #[test]
    fn a_second_entry_replaces_a_unicast_address_and_joins_the_all_zero_one() {
        let mut fdb = FdbMirror::default();
        for mac in [1, 0] {
            assert!(fdb.apply(true, &entry(mac, Some(11), None), PORT, vni()));
            assert!(fdb.apply(true, &entry(mac, Some(12), None), PORT, vni()));
            assert!(
                !fdb.apply(true, &entry(mac, Some(12), None), PORT, vni()),
                "the same again is no change"
            );
        }
        assert_eq!(
            fdb.targets().map(|(_, target)| target).collect::<Vec<_>>(),
            [remote(12)]
        );
        assert_eq!(fdb.single().count(), 1);
        assert_eq!(fdb.lists().next().unwrap().1, [remote(11), remote(12)]);
        assert!(fdb.apply(false, &entry(0, Some(11), None), PORT, vni()));
        assert_eq!(fdb.lists().next().unwrap().1, [remote(12)]);
    }

    #[test]
    fn failed_means_gone_and_the_bridges_own_entries_are_not_ours() {
        let mut fdb = FdbMirror::default();
        fdb.apply(true, &entry(1, Some(11), None), PORT, vni());
        let bridge = Neighbour {
            flags: 0,
            ..entry(1, None, None)
        };
        assert!(!fdb.apply(false, &bridge, PORT, vni()));
        assert!(fdb.apply(
            true,
            &Neighbour {
                state: neighbour_state::FAILED,
                ..entry(1, Some(11), None)
            },
            PORT,
            vni()
        ));
        assert_eq!(fdb.single().count(), 0);
    }

    #[test]
    fn entries_go_with_their_nexthop() {
        let mut fdb = FdbMirror::default();
        fdb.apply(true, &entry(1, None, Some(200)), PORT, vni());
        fdb.apply(true, &entry(2, Some(11), None), PORT, vni());
        fdb.apply(true, &entry(0, None, Some(200)), PORT, vni());
        assert!(fdb.uses_nexthops());
        assert!(!fdb.forget_nexthop(201));
        assert!(fdb.forget_nexthop(200));
        assert!(!fdb.uses_nexthops());
        assert_eq!((fdb.single().count(), fdb.lists().count()), (1, 0));
    }

    #[test]
    fn it_tells_which_entries_changed_as_long_as_their_targets_are_the_same() {
        let mut fdb = FdbMirror::default();
        let mut set = |mac, dst: Option<u8>| {
            fdb.apply(
                dst.is_some(),
                &entry(mac, dst.or(Some(11)), None),
                PORT,
                vni(),
            );
            fdb.take_changed(usize::MAX)
        };
        let entries = |macs: &[u8]| {
            let mac = |last| entry(last, None, None).mac.unwrap();
            Changed::Entries(macs.iter().copied().map(mac).collect())
        };
        assert_eq!(set(1, Some(11)), Changed::Targets, "nobody knows it yet");
        assert_eq!(set(2, Some(12)), Changed::Targets, "12 is new");
        assert_eq!(set(3, Some(12)), entries(&[3]));
        assert_eq!(set(3, Some(12)), entries(&[]));
        assert_eq!(set(3, Some(11)), entries(&[3]));
        assert_eq!(set(3, None), entries(&[3]));
        assert_eq!(set(3, None), entries(&[]), "it was not there");
        assert_eq!(set(2, Some(11)), Changed::Targets, "12 is gone");
        assert_eq!(set(0, Some(11)), Changed::Targets, "a list");
        fdb.doubt_targets();
        assert_eq!(fdb.take_changed(1), Changed::Targets);
        for mac in [3, 4, 5] {
            fdb.apply(true, &entry(mac, Some(11), None), PORT, vni());
        }
        assert_eq!(fdb.take_changed(2), entries(&[3, 4]));
        assert!(fdb.is_changed());
        assert_eq!(fdb.take_changed(2), entries(&[5]));
        assert!(!fdb.is_changed());
    }

    #[test]
    fn own_port_vni_and_device_are_kept_and_nonsense_is_no_destination() {
        let own = Neighbour {
            port: Some(4790),
            vni: Some(77),
            via_ifindex: Some(3),
            ..entry(1, Some(11), None)
        };
        let key = VtepKey {
            addr: "10.9.0.11".parse().unwrap(),
            port: 4790,
            vni: Vni::new(77).unwrap(),
        };
        assert_eq!(target_of(&own, PORT, vni()), Target::Remote(key, 3));
        assert_eq!(
            target_of(
                &Neighbour {
                    vni: Some(1 << 24),
                    ..own
                },
                PORT,
                vni()
            ),
            Target::Nothing
        );
        assert_eq!(
            target_of(&entry(1, None, None), PORT, vni()),
            Target::Nothing
        );
    }

    proptest! {
        /// Applying changes one by one, and replacing by a dump of the final state, agree.
        #[test]
        fn deltas_equal_a_dump(changes in proptest::collection::vec((any::<bool>(), 0u8..5, 1u8..4), 0..60)) {
            let mut mirror = FdbMirror::default();
            let mut naive: Vec<(u8, u8)> = Vec::new();
            for (exists, mac, dst) in changes {
                mirror.apply(exists, &entry(mac, Some(dst), None), PORT, vni());
                naive.retain(|(m, d)| *m != mac || (mac == 0 && *d != dst));
                if exists {
                    naive.push((mac, dst));
                }
            }
            let mut dump = FdbMirror::default();
            for (mac, dst) in naive {
                dump.apply(true, &entry(mac, Some(dst), None), PORT, vni());
            }
            prop_assert!(!mirror.replace(dump));
        }
    }
}
