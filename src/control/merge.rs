//! From what was mirrored to what the data path reads: pure functions.
//!
//! A segment's VTEPs are every destination that an FDB entry names, once, sorted; their positions are their numbers. An
//! entry whose destination cannot be served (another underlay device, another address family, a nexthop object that
//! leads nowhere) is kept and points to the VTEP [`NOWHERE`], which never resolves: its frames die and are counted,
//! instead of being flooded as if there were no entry.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::fdb::{FdbMirror, Target};
use super::nexthop::Nexthops;
use crate::table::{Fdb, SegmentConfig, VtepId, VtepKey};

/// The address of the VTEP that stands for every destination which cannot be served.
pub(super) const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The parts of a segment that the FDB decides.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// Every VTEP, sorted, with the device that its frames must leave from (0: as the routes say).
    pub vteps: Vec<(VtepKey, u32)>,
    pub fdb: Arc<Fdb>,
    pub flood: Vec<VtepId>,
    pub peers: Vec<IpAddr>,
    /// Entries that point nowhere.
    pub refused: usize,
}

/// Numbers the VTEPs and resolves every entry to one.
pub(super) fn layout(config: &SegmentConfig, mirror: &FdbMirror, nexthops: &Nexthops) -> Layout {
    let nowhere = VtepKey {
        addr: NOWHERE,
        port: 0,
        vni: config.vni,
    };
    let mut served: HashMap<Target, VtepKey, FixedState> = HashMap::default();
    let mut vteps: BTreeMap<VtepKey, u32> = BTreeMap::new();
    // Few destinations, many entries: each destination is judged once.
    let mut serve = |target: Target| -> VtepKey {
        *served.entry(target).or_insert_with(|| {
            let (key, via) = destination(config, target, nexthops).unwrap_or((nowhere, 0));
            let stored = vteps.entry(key).or_default();
            *stored = (*stored).max(via);
            key
        })
    };
    let mut single: Vec<_> = mirror
        .single()
        .map(|(mac, target)| (mac, serve(target)))
        .collect();
    let mut flooded = Vec::new();
    let mut refused = single.iter().filter(|(_, key)| *key == nowhere).count();
    for (mac, targets) in mirror.lists() {
        let mut keys: Vec<_> = targets.iter().map(|target| serve(*target)).collect();
        refused += keys.iter().filter(|key| **key == nowhere).count();
        keys.sort_unstable();
        keys.dedup();
        match *keys {
            _ if mac.is_zero() => flooded = keys,
            [key] => single.push((mac, key)),
            _ => {
                // A multicast address with several destinations: the FDB holds one.
                refused += keys.len();
                single.push((mac, serve(Target::Nothing)));
            }
        }
    }
    let vteps: Vec<_> = vteps.into_iter().collect();
    let number = |key: &VtepKey| -> Option<VtepId> {
        let position = vteps.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
        u32::try_from(position).ok().map(VtepId)
    };
    // The same destination many times over: its number is remembered from one entry to the next.
    let mut last = None;
    let fdb = Fdb::new(single.into_iter().filter_map(|(mac, key)| {
        let id = match last {
            Some((known, id)) if known == key => id,
            _ => number(&key)?,
        };
        last = Some((key, id));
        Some((mac, id))
    }));
    let flood = flooded.iter().filter_map(number).collect();
    let peers = peers(config, mirror, &vteps);
    Layout {
        vteps,
        fdb: Arc::new(fdb),
        flood,
        peers,
        refused,
    }
}

/// The VTEP that a target means; none when it cannot be served.
fn destination(
    config: &SegmentConfig,
    target: Target,
    nexthops: &Nexthops,
) -> Option<(VtepKey, u32)> {
    let (key, via) = match target {
        Target::Remote(key, via) => (key, via),
        Target::Nexthop(id) => (
            VtepKey {
                addr: nexthops.gateway(id)?,
                port: config.port,
                vni: config.vni,
            },
            0,
        ),
        Target::Nothing => return None,
    };
    let served = key.addr.is_ipv4() == config.local.is_ipv4()
        && !key.addr.is_unspecified()
        && !key.addr.is_multicast()
        && (via == 0 || via == config.underlay_ifindex);
    served.then_some((key, via))
}

/// Who may send to us: every VTEP, and also those whose entries we cannot serve in the other direction.
fn peers(config: &SegmentConfig, mirror: &FdbMirror, vteps: &[(VtepKey, u32)]) -> Vec<IpAddr> {
    let targets = mirror
        .lists()
        .flat_map(|(_, targets)| targets.iter().copied());
    let unserved = mirror
        .single()
        .map(|(_, target)| target)
        .chain(targets)
        .filter_map(|target| match target {
            Target::Remote(key, via) if via != 0 && via != config.underlay_ifindex => {
                Some(key.addr)
            }
            _ => None,
        });
    let mut peers: Vec<_> = vteps
        .iter()
        .map(|(key, _)| key.addr)
        .chain(unserved)
        .collect();
    peers.retain(|addr| !addr.is_unspecified() && !addr.is_multicast());
    peers.sort_unstable();
    peers.dedup();
    peers
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::fdb::tests::entry;
    use super::*;
    use crate::netlink::{Neighbour, Nexthop};
    use crate::table::{Df, FlowLabel, Inherit, SourcePorts, UdpChecksum};
    use crate::wire::{MacAddr, Vni};

    pub(in super::super) fn config() -> SegmentConfig {
        SegmentConfig {
            name: "vx".into(),
            ifindex: 4,
            vni: Vni::new(1).unwrap(),
            local: "10.9.0.1".parse().unwrap(),
            port: 8472,
            mac: MacAddr([2, 0, 0, 0, 0, 4]),
            underlay_ifindex: 3,
            underlay_mac: MacAddr([2, 0, 0, 0, 0, 3]),
            underlay_mtu: 1500,
            source_ports: SourcePorts {
                low: 32768,
                high: 60998,
            },
            ttl: Inherit::Fixed(64),
            ttl_default: 64,
            tos: Inherit::Fixed(0),
            df: Df::Unset,
            flow_label: FlowLabel::Fixed(0),
            udp_checksum: UdpChecksum::Compute,
            verify_udp_checksum: false,
            accept_udp6_zero_checksum: false,
            header_bits: crate::wire::vxlan::USED_BITS,
            peer_check: crate::table::PeerCheck::Strict,
            ecn_encap: crate::table::EcnEncap::Kernel,
            inner_vlan: crate::table::InnerVlan::Pass,
        }
    }

    fn mirror(entries: &[Neighbour]) -> FdbMirror {
        let mut mirror = FdbMirror::default();
        for entry in entries {
            mirror.apply(true, entry, 8472, Vni::new(1).unwrap());
        }
        mirror
    }

    fn where_to(layout: &Layout, mac: MacAddr) -> Option<VtepKey> {
        let id = layout.fdb.find(mac)?;
        Some(layout.vteps[id.0 as usize].0)
    }

    #[test]
    fn an_entry_that_cannot_be_served_points_nowhere_but_its_vtep_may_send() {
        let elsewhere = Neighbour {
            via_ifindex: Some(9),
            ..entry(1, Some(11), None)
        };
        let six = Neighbour {
            dst: Some("fd00::1".parse().unwrap()),
            ..entry(2, None, None)
        };
        let ours = Neighbour {
            via_ifindex: Some(3),
            ..entry(3, Some(12), None)
        };
        let unknown = entry(4, None, Some(200));
        let layout = layout(
            &config(),
            &mirror(&[elsewhere, six, ours, unknown]),
            &Nexthops::default(),
        );
        for mac in [1, 2, 4] {
            assert_eq!(
                where_to(&layout, MacAddr([2, 0, 0, 0, 0, mac]))
                    .unwrap()
                    .addr,
                NOWHERE
            );
        }
        assert_eq!(layout.refused, 3);
        assert_eq!(
            layout.vteps.iter().map(|(_, via)| *via).collect::<Vec<_>>(),
            [0, 3]
        );
        let peers: Vec<IpAddr> = vec!["10.9.0.11".parse().unwrap(), "10.9.0.12".parse().unwrap()];
        assert_eq!(layout.peers, peers);
    }

    #[test]
    fn a_multicast_address_follows_its_one_destination_and_not_several() {
        let group = |last| Neighbour {
            mac: Some(MacAddr([1, 0, 0x5e, 0, 0, 1])),
            ..entry(1, Some(last), None)
        };
        let mac = MacAddr([1, 0, 0x5e, 0, 0, 1]);
        let one = layout(&config(), &mirror(&[group(11)]), &Nexthops::default());
        assert_eq!(
            where_to(&one, mac).unwrap().addr,
            "10.9.0.11".parse::<IpAddr>().unwrap()
        );
        let two = layout(
            &config(),
            &mirror(&[group(11), group(12)]),
            &Nexthops::default(),
        );
        assert_eq!(where_to(&two, mac).unwrap().addr, NOWHERE);
        assert_eq!((one.refused, two.refused), (0, 2));
    }

    #[test]
    fn an_entry_follows_its_nexthop_group() {
        let mut nexthops = Nexthops::default();
        let member = |id, last: &str| Nexthop {
            id,
            gateway: last.parse().ok(),
            group: vec![],
            fdb: true,
        };
        nexthops.apply(true, member(101, "10.9.0.21"));
        nexthops.apply(
            true,
            Nexthop {
                group: vec![101],
                ..member(200, "")
            },
        );
        let layout = layout(&config(), &mirror(&[entry(1, None, Some(200))]), &nexthops);
        assert_eq!(
            layout.vteps,
            [(
                VtepKey {
                    addr: "10.9.0.21".parse().unwrap(),
                    port: 8472,
                    vni: config().vni
                },
                0
            )]
        );
    }

    proptest! {
        /// Every entry leads where it said, the flood list is the all-zero entries, VTEPs are sorted and used.
        #[test]
        fn the_layout_says_what_the_entries_said(entries in proptest::collection::vec((0u8..9, 11u8..15), 0..40)) {
            let messages: Vec<_> = entries.iter().map(|(mac, dst)| entry(*mac, Some(*dst), None)).collect();
            let layout = layout(&config(), &mirror(&messages), &Nexthops::default());
            let addr = |dst: u8| IpAddr::from([10, 9, 0, dst]);
            let naive: BTreeMap<u8, u8> = entries.iter().filter(|(mac, _)| *mac != 0).copied().collect();
            for (mac, dst) in &naive {
                prop_assert_eq!(where_to(&layout, MacAddr([2, 0, 0, 0, 0, *mac])).unwrap().addr, addr(*dst));
            }
            prop_assert_eq!(layout.fdb.len(), naive.len());
            let flood: Vec<_> = layout.flood.iter().map(|id| layout.vteps[id.0 as usize].0.addr).collect();
            let zero: BTreeSet<_> = entries.iter().filter(|(mac, _)| *mac == 0).map(|(_, dst)| addr(*dst)).collect();
            prop_assert_eq!(flood, zero.iter().copied().collect::<Vec<_>>());
            let all: BTreeSet<_> = naive.values().map(|dst| addr(*dst)).chain(zero).collect();
            prop_assert_eq!(&layout.peers, &all.iter().copied().collect::<Vec<_>>());
            let keys: Vec<_> = layout.vteps.iter().map(|(key, _)| key.addr).collect();
            prop_assert_eq!(keys, layout.peers);
        }
    }
}
