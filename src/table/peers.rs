//! Who may send to a segment, and where each of them is counted: asked once for every frame that comes in.
//!
//! Built once by the writer, then only read. Beside the sorted addresses, which people and comparisons see, there is one
//! flat hash table for each family, hashed and probed as the FDB is ([`super::Fdb`]): a few nanoseconds for any number of
//! peers, where a binary search mispredicts every other step.

use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::ops::Deref;

use crate::stats::PeerId;

/// Addresses, sorted, each once; immutable. The unspecified ones are nobody's and are left out. The default is empty.
#[derive(Debug, Clone, Default)]
pub struct Peers {
    addrs: Vec<IpAddr>,
    /// The place of each.
    ids: Vec<PeerId>,
    ipv4: Map<u32>,
    ipv6: Map<u128>,
}

impl Peers {
    /// With the place of each; of several for one address the first counts.
    pub fn counted(peers: impl IntoIterator<Item = (IpAddr, PeerId)>) -> Self {
        let mut peers: Vec<_> = peers.into_iter().collect();
        peers.retain(|(addr, _)| !addr.is_unspecified());
        peers.sort_by_key(|(addr, _)| *addr);
        peers.dedup_by_key(|(addr, _)| *addr);
        let ipv4 = peers.iter().filter_map(|(addr, id)| match addr {
            IpAddr::V4(addr) => Some((addr.to_bits(), *id)),
            IpAddr::V6(_) => None,
        });
        let ipv6 = peers.iter().filter_map(|(addr, id)| match addr {
            IpAddr::V4(_) => None,
            IpAddr::V6(addr) => Some((addr.to_bits(), *id)),
        });
        let (ipv4, ipv6) = (Map::new(ipv4.collect()), Map::new(ipv6.collect()));
        let (addrs, ids) = peers.into_iter().unzip();
        Self {
            addrs,
            ids,
            ipv4,
            ipv6,
        }
    }

    /// Whether it is one of them.
    #[inline(always)]
    pub fn knows(&self, addr: IpAddr) -> bool {
        self.find(addr).is_some()
    }

    /// Whether they are these, sorted, each counted there.
    pub fn are(&self, peers: &[(IpAddr, PeerId)]) -> bool {
        let ours = self.addrs.iter().zip(&self.ids);
        ours.map(|(addr, id)| (*addr, *id))
            .eq(peers.iter().copied())
    }

    /// Where it is counted, if it is one of them.
    #[inline(always)]
    pub fn find(&self, addr: IpAddr) -> Option<PeerId> {
        match addr {
            IpAddr::V4(addr) => self.ipv4.find(addr.to_bits()),
            IpAddr::V6(addr) => self.ipv6.find(addr.to_bits()),
        }
    }
}

impl PartialEq for Peers {
    /// Whether they are the same, counted at the same places.
    fn eq(&self, other: &Self) -> bool {
        self.addrs == other.addrs && self.ids == other.ids
    }
}

impl Eq for Peers {}

/// All of them counted together, as the first segment's "other".
impl From<Vec<IpAddr>> for Peers {
    fn from(addrs: Vec<IpAddr>) -> Self {
        addrs.into_iter().collect()
    }
}

impl FromIterator<IpAddr> for Peers {
    fn from_iter<T: IntoIterator<Item = IpAddr>>(addrs: T) -> Self {
        let peers = addrs.into_iter().map(|addr| (addr, PeerId::default()));
        Self::counted(peers)
    }
}

impl Deref for Peers {
    type Target = [IpAddr];

    /// All of them, sorted.
    fn deref(&self) -> &[IpAddr] {
        &self.addrs
    }
}

const SLOTS: usize = 8;

/// Numbers other than 0, in buckets that are filled from the front; at least half of all slots are empty, so that one key of a
/// hundred at most is not in its home.
#[derive(Debug, Clone, Default)]
struct Map<K> {
    /// A power of two of buckets, or none at all.
    buckets: Box<[Bucket<K>]>,
    seed: foldhash::quality::RandomState,
}

/// Of IPv4 addresses a cache line.
#[derive(Debug, Clone, Default)]
#[repr(align(64))]
struct Bucket<K> {
    /// 0 is an empty slot.
    keys: [K; SLOTS],
    ids: [PeerId; SLOTS],
}

const _: () = assert!(size_of::<Bucket<u32>>() == 64);

impl<K: Copy + Default + Eq + Hash> Map<K> {
    fn new(keys: Vec<(K, PeerId)>) -> Self {
        if keys.is_empty() {
            return Self::default();
        }
        let buckets = (keys.len() * 2).div_ceil(SLOTS).next_power_of_two();
        let mut map = Self {
            buckets: vec![Bucket::default(); buckets].into(),
            ..Self::default()
        };
        for (key, id) in keys {
            map.insert(key, id);
        }
        map
    }

    fn insert(&mut self, key: K, id: PeerId) {
        let mut index = self.home(key);
        // Ends, because half of the slots stay empty.
        while let Some(bucket) = self.buckets.get_mut(index) {
            let mut slots = bucket.keys.iter_mut().zip(&mut bucket.ids);
            if let Some((slot, place)) = slots.find(|(slot, _)| **slot == K::default()) {
                (*slot, *place) = (key, id);
                return;
            }
            index = (index + 1) & self.mask();
        }
    }

    /// Walks from the key's home to the first bucket that has the key, or an empty slot. All slots of a bucket are compared:
    /// where to stop would be mispredicted.
    #[inline(always)]
    fn find(&self, key: K) -> Option<PeerId> {
        let mut index = self.home(key);
        while let Some(bucket) = self.buckets.get(index) {
            let slots = bucket.keys.iter().enumerate();
            let same = slots.fold(0u8, |same, (n, slot)| same | u8::from(*slot == key) << n);
            if same != 0 {
                let id = bucket.ids.get(same.trailing_zeros() as usize);
                return id.copied().filter(|_| key != K::default());
            }
            let [.., last] = bucket.keys;
            if last == K::default() {
                return None;
            }
            index = (index + 1) & self.mask();
        }
        None
    }

    #[inline(always)]
    fn home(&self, key: K) -> usize {
        self.seed.hash_one(key) as usize & self.mask()
    }

    #[inline(always)]
    fn mask(&self) -> usize {
        self.buckets.len().wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn any_addr() -> impl Strategy<Value = IpAddr> {
        // A narrow range makes hits and repetitions likely; 0 is the unspecified address.
        prop_oneof![
            (0u32..200).prop_map(|bits| Ipv4Addr::from_bits(bits).into()),
            any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).into()),
            (0u128..200).prop_map(|bits| Ipv6Addr::from_bits(bits).into()),
            // The same numbers as of IPv4 addresses, and their IPv4-mapped addresses.
            any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).to_ipv6_mapped().into()),
        ]
    }

    #[test]
    fn nobody_knows_nobody() {
        let nobody = Peers::default();
        for addr in ["0.0.0.0", "::", "192.0.2.1", "2001:db8::1"] {
            assert!(!nobody.knows(addr.parse().unwrap()));
        }
        assert!(nobody.is_empty());
    }

    #[test]
    fn an_address_of_one_family_is_not_the_other_familys_with_the_same_number() {
        let peers: Peers = ["0.0.0.7", "::8"]
            .map(|addr| addr.parse().unwrap())
            .into_iter()
            .collect();
        let known = |addr: &str| peers.knows(addr.parse().unwrap());
        assert!(known("0.0.0.7") && known("::8"));
        assert!(!known("::7") && !known("0.0.0.8") && !known("::ffff:0.0.0.7"));
    }

    proptest! {
        #[test]
        fn finds_the_place_of_everyone_whom_a_map_has(
            peers in prop::collection::vec((any_addr(), any::<u16>()), 0..300),
            others in prop::collection::vec(any_addr(), 0..100),
        ) {
            let mut twin = BTreeMap::new();
            for (addr, id) in &peers {
                if !addr.is_unspecified() {
                    twin.entry(*addr).or_insert(PeerId(*id));
                }
            }
            let all: Vec<_> = peers.iter().map(|(addr, id)| (*addr, PeerId(*id))).collect();
            let found = Peers::counted(all.clone());
            for addr in peers.iter().map(|(addr, _)| addr).chain(&others) {
                prop_assert_eq!(found.find(*addr), twin.get(addr).copied(), "{}", addr);
            }
            prop_assert_eq!(&found, &Peers::counted(all));
            prop_assert!(found.is_empty() || found != found.iter().copied().collect::<Peers>()
                || twin.values().all(|id| *id == PeerId::default()));
        }

        #[test]
        fn knows_whom_a_set_has(
            addrs in prop::collection::vec(any_addr(), 0..300),
            others in prop::collection::vec(any_addr(), 0..100),
        ) {
            let mut twin: BTreeSet<_> = addrs.iter().copied().collect();
            twin.retain(|addr| !addr.is_unspecified());
            let peers = Peers::from(addrs.clone());
            prop_assert!(peers.iter().eq(&twin));
            for addr in addrs.iter().chain(&others) {
                prop_assert_eq!(peers.knows(*addr), twin.contains(addr), "{}", addr);
            }
        }
    }
}
