//! Where an FDB entry leads: one VTEP, one of several, or each of several.
//!
//! | destination | as the kernel has it | a frame goes to |
//! |---|---|---|
//! | [`Destination::Vtep`] | an entry with one `dst` | this VTEP |
//! | [`Destination::Group`] | an entry with a nexthop group (`nhid`) | one member, which its flow decides |
//! | [`Destination::List`] | a multicast address with several `dst` | each of them, a copy each |
//!
//! A group chooses as `net/ipv4/nexthop.c` does for groups of FDB nexthops:
//!
//! ```text
//!   hash threshold, weights 1, 3, 1:    0       2³¹·1/5             2³¹·4/5    2³¹
//!   the flow's hash, 31 bits, falls in  |  first   |      second       |  third |
//!
//!   resilient, 8 buckets:               | 1 | 1 | 2 | 3 | 3 | 2 | 1 | 3 |    hash % 8 is the flow's bucket
//! ```
//!
//! The member is chosen without a look at whether it can be reached, in the kernel (`nexthop_select_path_fdb`) and here:
//! frames to a member whose next hop is not resolved die of that. Which of the members a flow gets differs from the
//! kernel, whose hash has a secret seed.
//!
//! The workers note which buckets they use ([`BucketUse`]): a resilient group promises that a bucket in use stays where it
//! is, and the writer, who moves buckets, has to know.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::VtepId;

/// The index of a group in [`super::Segment::groups`] of the same snapshot. Never kept across snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

/// The index of a list in [`super::Segment::lists`] of the same snapshot. Never kept across snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListId(pub u32);

/// Where an FDB entry leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// To one VTEP.
    Vtep(VtepId),
    /// To one VTEP of a group, always the same for one flow.
    Group(GroupId),
    /// To each VTEP of a list, a copy each.
    List(ListId),
}

const _: () = assert!(
    size_of::<Option<Destination>>() == 8,
    "with its key in 16 bytes, and a batch of answers in 512"
);

impl From<VtepId> for Destination {
    fn from(vtep: VtepId) -> Self {
        Self::Vtep(vtep)
    }
}

/// VTEPs of which each flow gets one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The kernel's number of the nexthop group, for people.
    pub nexthop: u32,
    choice: Choice,
    members: Box<[VtepId]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Choice {
    /// By ascending end; the last one ends at [`POINTS`].
    Shares(Box<[Share]>),
    Buckets(Box<[VtepId]>, BucketUse),
}

/// The hashes from the end of the share before, up to but without `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    end: u32,
    vtep: VtepId,
}

/// Which buckets of a resilient group had frames: noted by the workers, taken by the writer. Clones share the notes, and so
/// do the groups of all snapshots that are made with one.
#[derive(Debug, Clone)]
pub struct BucketUse(Arc<[AtomicBool]>);

impl BucketUse {
    /// For a group of so many buckets, none of which had a frame.
    pub fn new(count: usize) -> Self {
        Self((0..count).map(|_| AtomicBool::new(false)).collect())
    }

    /// Whether the bucket had a frame since the last time it was asked for.
    pub fn take(&self, bucket: usize) -> bool {
        let note = self.0.get(bucket);
        note.is_some_and(|note| note.swap(false, Ordering::Relaxed))
    }

    /// A note is written once until it is taken: between two looks of the writer, workers share the cache line.
    #[inline]
    fn note(&self, bucket: usize) {
        if let Some(note) = self.0.get(bucket)
            && !note.load(Ordering::Relaxed)
        {
            note.store(true, Ordering::Relaxed);
        }
    }
}

impl PartialEq for BucketUse {
    /// Whether they share their notes.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for BucketUse {}

/// How a group shares its flows out, for whoever writes it down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sharing<'a> {
    /// By ranges of the hash: each member, in the group's order, with its part of 2^31 points. As weights these make the same
    /// group ([`Group::by_weight`]).
    Points(Vec<(VtepId, u32)>),
    /// By buckets: the member of each.
    Buckets(&'a [VtepId]),
}

/// A threshold group divides the numbers below this.
const POINTS: u32 = 1 << 31;

impl Group {
    /// A hash-threshold group: each member, in the group's order, with its weight (`nh_hthr_group_rebalance`). Flows are
    /// shared out in proportion. A change of the members or weights moves the ends of the shares, and flows with them.
    pub fn by_weight(nexthop: u32, members: impl IntoIterator<Item = (VtepId, u32)>) -> Self {
        let members: Vec<_> = members.into_iter().collect();
        let total: u128 = members.iter().map(|(_, weight)| u128::from(*weight)).sum();
        let mut before = 0;
        let shares = members.iter().map(|(vtep, weight)| {
            before += u128::from(*weight);
            // Rounded to the closest; no end is above POINTS, since `before` is at most `total`.
            let end = (before * u128::from(POINTS) + total / 2).checked_div(total);
            Share {
                end: end.map_or(0, |end| u32::try_from(end).unwrap_or(POINTS)),
                vtep: *vtep,
            }
        });
        Self {
            nexthop,
            choice: Choice::Shares(shares.collect()),
            members: each_once(members.iter().map(|(vtep, _)| *vtep)),
        }
    }

    /// A resilient group: the member of each bucket. Whoever fills the buckets decides which flows a change moves; which of
    /// them have frames is noted in `used`.
    pub fn by_bucket(
        nexthop: u32,
        buckets: impl IntoIterator<Item = VtepId>,
        used: BucketUse,
    ) -> Self {
        let buckets: Box<[_]> = buckets.into_iter().collect();
        Self {
            nexthop,
            members: each_once(buckets.iter().copied()),
            choice: Choice::Buckets(buckets, used),
        }
    }

    /// The member for a frame whose flow has this hash; none when nobody has a share. The frame's bucket is in use.
    ///
    /// The hash also decides the outer source port, from its upper bits ([`crate::wire::entropy::spread`]). The lower ones
    /// decide here, so that each member's flows still spread over all source ports.
    #[inline]
    pub fn choose(&self, hash: u32) -> Option<VtepId> {
        match &self.choice {
            Choice::Shares(shares) => {
                let point = hash.rotate_left(16) >> 1;
                let index = shares.partition_point(|share| share.end <= point);
                shares.get(index).map(|share| share.vtep)
            }
            Choice::Buckets(buckets, used) => {
                let index = (hash as usize).checked_rem(buckets.len())?;
                used.note(index);
                buckets.get(index).copied()
            }
        }
    }

    /// The part of all flows that each member gets, 0 to 1, in the order of [`Group::members`].
    pub fn portions(&self) -> impl Iterator<Item = (VtepId, f64)> {
        let portion = |vtep| match &self.choice {
            Choice::Shares(shares) => {
                let begins = [0].into_iter().chain(shares.iter().map(|share| share.end));
                let own = begins.zip(shares).filter(|(_, share)| share.vtep == vtep);
                let points: u32 = own.map(|(begin, share)| share.end - begin).sum();
                f64::from(points) / f64::from(POINTS)
            }
            Choice::Buckets(buckets, _) => {
                let own = buckets.iter().filter(|bucket| **bucket == vtep).count();
                own as f64 / buckets.len() as f64
            }
        };
        self.members.iter().map(move |vtep| (*vtep, portion(*vtep)))
    }

    /// How its flows are shared out.
    pub fn sharing(&self) -> Sharing<'_> {
        match &self.choice {
            Choice::Shares(shares) => {
                let begins = [0].into_iter().chain(shares.iter().map(|share| share.end));
                let own = begins.zip(shares.iter());
                Sharing::Points(
                    own.map(|(begin, share)| (share.vtep, share.end - begin))
                        .collect(),
                )
            }
            Choice::Buckets(buckets, _) => Sharing::Buckets(buckets),
        }
    }

    /// Every member once, sorted.
    pub fn members(&self) -> &[VtepId] {
        &self.members
    }
}

fn each_once(vteps: impl Iterator<Item = VtepId>) -> Box<[VtepId]> {
    let mut vteps: Vec<_> = vteps.collect();
    vteps.sort_unstable();
    vteps.dedup();
    vteps.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::wire::entropy;

    fn bucketed(buckets: impl IntoIterator<Item = VtepId>) -> Group {
        let buckets: Vec<_> = buckets.into_iter().collect();
        let used = BucketUse::new(buckets.len());
        Group::by_bucket(1, buckets, used)
    }

    fn group(weights: &[u32]) -> Group {
        Group::by_weight(1, (0..).map(VtepId).zip(weights.iter().copied()))
    }

    /// Hashes of many flows, the same in every run (splitmix64).
    fn hashes(count: u64) -> impl Iterator<Item = u32> {
        (0..count).map(|n| {
            let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 32) as u32
        })
    }

    fn counts(group: &Group, hashes: impl Iterator<Item = u32>) -> BTreeMap<u32, f64> {
        let mut counts = BTreeMap::new();
        for hash in hashes {
            *counts.entry(group.choose(hash).unwrap().0).or_insert(0.0) += 1.0;
        }
        counts
    }

    fn chi_squared(counts: &BTreeMap<u32, f64>, weights: &[u32], flows: f64) -> f64 {
        let total: u32 = weights.iter().sum();
        let term = |(id, &weight): (u32, &u32)| {
            let expected = flows * f64::from(weight) / f64::from(total);
            let seen = counts.get(&id).copied().unwrap_or(0.0);
            (seen - expected) * (seen - expected) / expected
        };
        (0..).zip(weights).map(term).sum()
    }

    /// With 7 degrees of freedom or fewer, 24.3 is exceeded once in a thousand times by chance; the hashes are fixed.
    #[test]
    fn every_member_gets_the_share_of_its_weight() {
        for weights in [
            &[1, 1][..],
            &[1, 1, 1],
            &[1, 3],
            &[3, 1, 5],
            &[1, 255],
            &[7, 1, 1, 1, 1, 1, 1, 2],
        ] {
            let counts = counts(&group(weights), hashes(40_000));
            let chi = chi_squared(&counts, weights, 40_000.0);
            assert!(chi < 24.3, "weights {weights:?}: χ² = {chi}, {counts:?}");
        }
    }

    #[test]
    fn a_resilient_group_shares_out_by_buckets() {
        let buckets = [0, 0, 0, 1, 2, 2, 0, 1].map(VtepId);
        let counts = counts(&bucketed(buckets), hashes(40_000));
        let chi = chi_squared(&counts, &[4, 2, 2], 40_000.0);
        assert!(chi < 24.3, "χ² = {chi}, {counts:?}");
    }

    /// 16 buckets of ports, 15 degrees of freedom: 37.7 is exceeded once in a thousand times by chance.
    #[test]
    fn v05_the_flows_of_one_member_still_spread_over_all_source_ports() {
        let groups = [
            group(&[1, 1, 1, 1]),
            bucketed((0..64).map(|n| VtepId(n % 4))),
        ];
        for group in groups {
            for member in 0..4 {
                let flows =
                    hashes(40_000).filter(|hash| group.choose(*hash) == Some(VtepId(member)));
                let mut ports = BTreeMap::new();
                let mut count = 0.0;
                for hash in flows {
                    let port = entropy::spread(hash, 32768, 60999) - 32768;
                    *ports.entry(u32::from(port) * 16 / 28232).or_insert(0.0) += 1.0;
                    count += 1.0;
                }
                let chi = chi_squared(&ports, &[1; 16], count);
                assert!(chi < 37.7, "member {member}: χ² = {chi}, {ports:?}");
            }
        }
    }

    #[test]
    fn a_bucket_that_had_a_frame_is_told_once_by_whatever_group_shares_the_notes() {
        let used = BucketUse::new(4);
        let old = Group::by_bucket(1, [0, 1, 0, 1].map(VtepId), used.clone());
        let new = Group::by_bucket(1, [0, 1, 0, 2].map(VtepId), used.clone());
        assert_ne!(old, new);
        old.choose(5);
        old.choose(1);
        new.choose(3);
        let taken = || -> Vec<_> { (0..6).map(|bucket| used.take(bucket)).collect() };
        assert_eq!(taken(), [false, true, false, true, false, false]);
        assert_eq!(taken(), [false; 6]);
    }

    #[test]
    fn both_ends_of_the_hash_have_a_member_and_a_group_of_nobody_has_none() {
        let three = group(&[1, 1, 1]);
        assert_eq!(three.choose(0), Some(VtepId(0)));
        assert_eq!(three.choose(u32::MAX), Some(VtepId(2)));
        for nobody in [group(&[]), group(&[0, 0]), bucketed([])] {
            for hash in [0, 1, u32::MAX] {
                assert_eq!(nobody.choose(hash), None);
            }
        }
        let largest = group(&[u32::MAX; 3]);
        assert_eq!(
            (largest.choose(0), largest.choose(u32::MAX)),
            (Some(VtepId(0)), Some(VtepId(2)))
        );
    }

    #[test]
    fn a_members_address_counts_once_however_often_it_is_named() {
        let group = Group::by_weight(1, [(VtepId(5), 1), (VtepId(2), 1), (VtepId(5), 2)]);
        assert_eq!(group.members(), [VtepId(2), VtepId(5)]);
        let group = bucketed([5, 2, 5, 5].map(VtepId));
        assert_eq!(group.members(), [VtepId(2), VtepId(5)]);
    }

    #[test]
    fn portions_add_up_what_each_member_gets() {
        let group = Group::by_weight(1, [(VtepId(5), 1), (VtepId(2), 4), (VtepId(5), 3)]);
        let portions: Vec<_> = group.portions().collect();
        assert_eq!(portions, [(VtepId(2), 0.5), (VtepId(5), 0.5)]);
        let group = bucketed([5, 2, 5, 5].map(VtepId));
        let portions: Vec<_> = group.portions().collect();
        assert_eq!(portions, [(VtepId(2), 0.25), (VtepId(5), 0.75)]);
    }

    /// Hash threshold promises no more: between a quarter and a half of the flows move (RFC 2992 §3).
    #[test]
    fn a_threshold_group_that_loses_a_member_moves_at_most_half_of_the_flows() {
        let all = group(&[1; 6]);
        for lost in 0..6 {
            let rest = (0..6).filter(|n| *n != lost).map(|n| (VtepId(n), 1));
            let rest = Group::by_weight(1, rest);
            let moved = hashes(20_000).filter(|hash| all.choose(*hash) != rest.choose(*hash));
            let moved = moved.count();
            assert!(
                (20_000 / 6 - 300..=10_000 + 300).contains(&moved),
                "without {lost}: {moved}"
            );
        }
    }

    /// The kernel's own arithmetic, step by step (`nh_hthr_group_rebalance`, `nexthop_select_path_fdb`).
    fn naive(weights: &[u32], hash: u32) -> Option<VtepId> {
        let total: i64 = weights.iter().map(|weight| i64::from(*weight)).sum();
        let hash = i64::from(hash.rotate_left(16)) >> 1;
        let mut before = 0;
        for (id, weight) in (0..).zip(weights) {
            before += i64::from(*weight);
            let upper_bound = ((before << 31) + total / 2) / total - 1;
            if hash > upper_bound {
                continue;
            }
            return Some(VtepId(id));
        }
        None
    }

    proptest! {
        #[test]
        fn chooses_as_the_kernels_arithmetic_does(
            weights in prop::collection::vec(prop_oneof![1u32..6, 1u32..=65536], 1..20),
            hashes in prop::collection::vec(any::<u32>(), 0..100),
        ) {
            let group = group(&weights);
            for hash in hashes.into_iter().chain([0, u32::MAX]) {
                let chosen = group.choose(hash);
                prop_assert_eq!(chosen, naive(&weights, hash));
                prop_assert_eq!(chosen, group.choose(hash), "a flow stays where it is");
                prop_assert!(group.members().contains(&chosen.unwrap()));
            }
        }

        /// What the resilient type promises: when some buckets move, no flow of any other bucket does.
        #[test]
        fn only_the_flows_of_moved_buckets_move(
            buckets in prop::collection::vec(0u32..5, 1..200),
            lost in 0u32..5,
            hashes in prop::collection::vec(any::<u32>(), 0..300),
        ) {
            let before = bucketed(buckets.iter().copied().map(VtepId));
            let heir = |member| if member == lost { 9 } else { member };
            let after = bucketed(buckets.iter().copied().map(heir).map(VtepId));
            for hash in hashes {
                let bucket = buckets[hash as usize % buckets.len()];
                prop_assert_eq!(before.choose(hash), Some(VtepId(bucket)));
                prop_assert_eq!(after.choose(hash) != before.choose(hash), bucket == lost);
            }
        }
    }
}
