//! Who may send to a segment: a set of addresses, asked once for every frame that comes in.
//!
//! Built once by the writer, then only read. Beside the sorted addresses, which people and comparisons see, there is one
//! flat hash set for each family, hashed and probed as the FDB is ([`super::Fdb`]): a few nanoseconds for any number of
//! peers, where a binary search mispredicts every other step.

use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::ops::Deref;

/// Addresses, sorted, each once; immutable. The unspecified ones are nobody's and are left out. The default is empty.
#[derive(Debug, Clone, Default)]
pub struct Peers {
    addrs: Vec<IpAddr>,
    ipv4: Set<u32>,
    ipv6: Set<u128>,
}

impl Peers {
    /// Whether it is one of them.
    #[inline(always)]
    pub fn knows(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(addr) => self.ipv4.has(addr.to_bits()),
            IpAddr::V6(addr) => self.ipv6.has(addr.to_bits()),
        }
    }
}

impl From<Vec<IpAddr>> for Peers {
    fn from(mut addrs: Vec<IpAddr>) -> Self {
        addrs.retain(|addr| !addr.is_unspecified());
        addrs.sort_unstable();
        addrs.dedup();
        let ipv4 = addrs.iter().filter_map(|addr| match addr {
            IpAddr::V4(addr) => Some(addr.to_bits()),
            IpAddr::V6(_) => None,
        });
        let ipv6 = addrs.iter().filter_map(|addr| match addr {
            IpAddr::V4(_) => None,
            IpAddr::V6(addr) => Some(addr.to_bits()),
        });
        Self {
            ipv4: Set::new(ipv4.collect()),
            ipv6: Set::new(ipv6.collect()),
            addrs,
        }
    }
}

impl FromIterator<IpAddr> for Peers {
    fn from_iter<T: IntoIterator<Item = IpAddr>>(addrs: T) -> Self {
        Self::from(Vec::from_iter(addrs))
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
struct Set<K> {
    /// A power of two of buckets, or none at all; 0 is an empty slot.
    buckets: Box<[[K; SLOTS]]>,
    seed: foldhash::quality::RandomState,
}

impl<K: Copy + Default + Eq + Hash> Set<K> {
    fn new(keys: Vec<K>) -> Self {
        if keys.is_empty() {
            return Self::default();
        }
        let buckets = (keys.len() * 2).div_ceil(SLOTS).next_power_of_two();
        let mut set = Self {
            buckets: vec![[K::default(); SLOTS]; buckets].into(),
            ..Self::default()
        };
        for key in keys {
            set.insert(key);
        }
        set
    }

    fn insert(&mut self, key: K) {
        let mut index = self.home(key);
        // Ends, because half of the slots stay empty.
        while let Some(bucket) = self.buckets.get_mut(index) {
            if let Some(slot) = bucket.iter_mut().find(|slot| **slot == K::default()) {
                *slot = key;
                return;
            }
            index = (index + 1) & self.mask();
        }
    }

    /// Walks from the key's home to the first bucket that has the key, or an empty slot. All slots of a bucket are compared:
    /// where to stop would be mispredicted.
    #[inline(always)]
    fn has(&self, key: K) -> bool {
        let mut index = self.home(key);
        while let Some(bucket) = self.buckets.get(index) {
            if bucket.iter().fold(false, |has, slot| has | (*slot == key)) {
                return key != K::default();
            }
            let [.., last] = bucket;
            if *last == K::default() {
                return false;
            }
            index = (index + 1) & self.mask();
        }
        false
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
    use std::collections::BTreeSet;
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
