//! Which frames of a vxlan device the kernel's own device keeps, because nobody else can bring them to where they go.
//!
//! A destination behind another link, of another family, on this very host (`encap_bypass_if_local`), or without a route:
//! the kernel delivers, or counts why not. Its share is named by inner destination addresses, as the FDB names them. A frame
//! to an address that the FDB does not name is copied to every VTEP of the flood list; when one of these is the kernel's, all
//! such frames are, so that no copy is lost and none is sent twice. Then the share is named by what it does not contain.

use std::fmt;

use super::{Segment, Vtep};
use crate::wire::MacAddr;

/// The kernel's share of the frames that leave a device, by inner destination address. Addresses are sorted, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelShare {
    /// Frames to these addresses.
    Only(Vec<MacAddr>),
    /// Frames to all addresses but these.
    AllBut(Vec<MacAddr>),
}

impl Default for KernelShare {
    /// No frame at all.
    fn default() -> Self {
        Self::Only(Vec::new())
    }
}

impl KernelShare {
    /// Every frame.
    pub const EVERYTHING: Self = Self::AllBut(Vec::new());

    /// What the destinations of a segment ask for.
    pub fn of(segment: &Segment) -> Self {
        if !segment.vteps.iter().any(Vtep::is_kernels) {
            return Self::default();
        }
        let named = |kernels: bool| {
            let entries = segment.fdb.iter();
            let named = entries.filter(|(_, to)| segment.is_kernels(to) == kernels);
            let mut macs: Vec<_> = named.map(|(mac, _)| mac).collect();
            macs.sort_unstable();
            macs
        };
        if segment.kernel_floods() {
            Self::AllBut(named(false))
        } else {
            Self::Only(named(true))
        }
    }

    /// Whether frames to an address are the kernel's.
    pub fn contains(&self, mac: MacAddr) -> bool {
        match self {
            Self::Only(macs) => macs.binary_search(&mac).is_ok(),
            Self::AllBut(macs) => macs.binary_search(&mac).is_err(),
        }
    }

    /// Whether it is no frame at all: the usual device's.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// The addresses that name it.
    pub fn addresses(&self) -> &[MacAddr] {
        let (Self::Only(macs) | Self::AllBut(macs)) = self;
        macs
    }

    /// What is in one of the two, or in both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let (left, right) = (self.addresses().iter(), other.addresses());
        let kept = |keep: &dyn Fn(&MacAddr) -> bool| left.clone().copied().filter(keep).collect();
        match (self, other) {
            (Self::Only(_), Self::Only(_)) => {
                let mut macs: Vec<_> = left.chain(right).copied().collect();
                macs.sort_unstable();
                macs.dedup();
                Self::Only(macs)
            }
            (Self::AllBut(_), _) => Self::AllBut(kept(&|mac| !other.contains(*mac))),
            (Self::Only(_), Self::AllBut(_)) => other.union(self),
        }
    }
}

impl fmt::Display for KernelShare {
    /// For people: `no frames`, `all frames`, `frames to 3 addresses`, `all frames but those to 5 addresses`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.addresses().len();
        let noun = if count == 1 { "address" } else { "addresses" };
        match self {
            Self::Only(_) if count == 0 => f.write_str("no frames"),
            Self::AllBut(_) if count == 0 => f.write_str("all frames"),
            Self::Only(_) => write!(f, "frames to {count} {noun}"),
            Self::AllBut(_) => write!(f, "all frames but those to {count} {noun}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::template::tests::config;
    use super::super::{
        Destination, Fdb, Group, GroupId, ListId, NextHop, UnresolvedReason, VtepId, VtepKey,
    };
    use super::*;
    use crate::stats::PeerId;

    fn mac(last: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, last])
    }

    fn macs(last: &[u8]) -> Vec<MacAddr> {
        last.iter().copied().map(mac).collect()
    }

    /// VTEPs 0 and 1 are the workers', 2 and 3 the kernel's. Entries: the address's last byte, and its VTEP.
    fn segment(entries: &[(u8, u32)], flood: &[u32]) -> Segment {
        let to_vtep = |(last, id): &(u8, u32)| (*last, Destination::Vtep(VtepId(*id)));
        segment_to(&entries.iter().map(to_vtep).collect::<Vec<_>>(), flood)
    }

    /// Group 1 and list 1 have a member that is the kernel's.
    fn segment_to(entries: &[(u8, Destination)], flood: &[u32]) -> Segment {
        let config = config("10.9.0.1");
        let reasons = [
            UnresolvedReason::NoNeighbour,
            UnresolvedReason::LinkDown,
            UnresolvedReason::Unsupported,
            UnresolvedReason::LocalAddress,
        ];
        let vteps = reasons.iter().zip(10..).map(|(reason, last)| Vtep {
            key: VtepKey {
                addr: [10, 9, 0, last].into(),
                port: config.port,
                vni: config.vni,
            },
            next_hop: NextHop::Unresolved(*reason),
            path_mtu: 1500,
            peer: PeerId::default(),
        });
        let vteps = Arc::new(vteps.collect());
        let entries = entries.iter().map(|(last, to)| (mac(*last), *to));
        Segment {
            config: Arc::new(config),
            vteps,
            fdb: Arc::new(Fdb::new(entries)),
            groups: Arc::new(vec![
                Group::by_weight(200, [(VtepId(0), 1), (VtepId(1), 1)]),
                Group::by_weight(201, [(VtepId(0), 1), (VtepId(2), 1)]),
            ]),
            lists: Arc::new(vec![vec![VtepId(0), VtepId(1)], vec![VtepId(1), VtepId(3)]]),
            flood: Arc::new(flood.iter().copied().map(VtepId).collect()),
            peers: Arc::default(),
        }
    }

    #[test]
    fn only_entries_that_lead_to_the_kernel_are_named() {
        let share = KernelShare::of(&segment(&[(9, 2), (1, 0), (4, 3), (5, 1)], &[0, 1]));
        assert_eq!(share, KernelShare::Only(macs(&[4, 9])));
        let nothing = KernelShare::of(&segment(&[(1, 0), (5, 1)], &[0, 1]));
        assert!(nothing.is_nothing());
        // A number that no VTEP has leads nowhere: the kernel is the safe side.
        let broken = KernelShare::of(&segment(&[(1, 77), (2, 0)], &[]));
        assert_eq!(broken, KernelShare::Only(macs(&[1])));
    }

    #[test]
    fn one_flooded_destination_of_the_kernel_makes_all_flooded_frames_the_kernels() {
        let share = KernelShare::of(&segment(&[(9, 2), (1, 0), (5, 1)], &[0, 2]));
        assert_eq!(share, KernelShare::AllBut(macs(&[1, 5])));
        assert!(share.contains(mac(200)) && share.contains(mac(9)) && !share.contains(mac(5)));
        assert!(share.contains(MacAddr([0xff; 6])));
        let no_entries = KernelShare::of(&segment(&[], &[3]));
        assert_eq!(no_entries, KernelShare::EVERYTHING);
        assert_eq!(
            [share, no_entries].map(|share| share.to_string()),
            ["all frames but those to 2 addresses", "all frames"]
        );
        let named = [&[7][..], &[]].map(|last| KernelShare::Only(macs(last)).to_string());
        assert_eq!(named, ["frames to 1 address", "no frames"]);
    }

    #[test]
    fn one_member_of_the_kernels_makes_a_group_or_a_list_the_kernels() {
        let to_group = |id| Destination::Group(GroupId(id));
        let to_list = |id| Destination::List(ListId(id));
        let entries = [
            (1, to_group(0)),
            (2, to_group(1)),
            (3, to_list(0)),
            (4, to_list(1)),
        ];
        let share = KernelShare::of(&segment_to(&entries, &[0]));
        assert_eq!(share, KernelShare::Only(macs(&[2, 4])));
        // The all-zero address may lead to a group: that of all frames without an entry.
        let flooding = |id| {
            let mut segment = segment_to(&entries, &[]);
            let entries = entries.map(|(last, to)| (mac(last), to));
            let zero = [(MacAddr::ZERO, to_group(id))];
            segment.fdb = Arc::new(Fdb::new(entries.into_iter().chain(zero)));
            segment
        };
        assert_eq!(
            KernelShare::of(&flooding(0)),
            KernelShare::Only(macs(&[2, 4]))
        );
        let share = KernelShare::of(&flooding(1));
        assert_eq!(share, KernelShare::AllBut(macs(&[1, 3])));
        assert_eq!(flooding(1).kernel_entries(), 3);
        assert_eq!(segment_to(&entries, &[3, 0]).kernel_entries(), 3);
    }

    fn share() -> impl Strategy<Value = KernelShare> {
        let macs = proptest::collection::btree_set(0u8..12, 0..12)
            .prop_map(|last| last.into_iter().map(mac).collect::<Vec<_>>());
        (any::<bool>(), macs).prop_map(|(only, macs)| {
            if only {
                KernelShare::Only(macs)
            } else {
                KernelShare::AllBut(macs)
            }
        })
    }

    proptest! {
        /// Of every address, named or not.
        #[test]
        fn a_union_contains_what_either_contains(left in share(), right in share()) {
            let both = left.union(&right);
            for last in 0..14 {
                prop_assert_eq!(
                    both.contains(mac(last)),
                    left.contains(mac(last)) || right.contains(mac(last))
                );
            }
            prop_assert!(both.addresses().is_sorted_by(|a, b| a < b));
            prop_assert_eq!(both, right.union(&left));
        }
    }
}
