//! From what was mirrored to what the data path reads: pure functions.
//!
//! A segment's VTEPs are every destination that an FDB entry names, once, sorted; their positions are their numbers. Those
//! that only the kernel reaches are among them: their frames stay with it, and one that still gets to a worker must not be
//! flooded as if there were no entry. An entry without an address (a nexthop object that leads nowhere), or with another
//! device of its own than the underlay (`via`), points to the VTEP [`NOWHERE`] for the same reason: other entries may lead
//! to the same address by the underlay.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::fdb::{FdbMirror, Target};
use super::nexthop::Nexthops;
use crate::table::{Fdb, SegmentConfig, VtepId, VtepKey};

/// The address of the VTEP that stands for every destination that is none of the underlay's. It is the kernel's.
pub(super) const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The parts of a segment that the FDB decides.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// Every VTEP, sorted, with the device that its frames must leave from (0: as the routes say).
    pub vteps: Vec<(VtepKey, u32)>,
    pub fdb: Arc<Fdb>,
    pub flood: Vec<VtepId>,
    pub peers: Vec<IpAddr>,
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
    for (mac, targets) in mirror.lists() {
        let mut keys: Vec<_> = targets.iter().map(|target| serve(*target)).collect();
        keys.sort_unstable();
        keys.dedup();
        match *keys {
            _ if mac.is_zero() => flooded = keys,
            [key] => single.push((mac, key)),
            // A multicast address with several destinations: the FDB holds one, the kernel sends to all.
            _ => single.push((mac, serve(Target::Nothing))),
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
    }
}

/// The VTEP that a target means, and the device that its frames must leave from; none for [`NOWHERE`].
fn destination(
    config: &SegmentConfig,
    target: Target,
    nexthops: &Nexthops,
) -> Option<(VtepKey, u32)> {
    match target {
        Target::Remote(_, via) if !is_ours(config, via) => None,
        Target::Remote(key, via) => Some((key, via)),
        Target::Nexthop(id) => {
            let key = VtepKey {
                addr: nexthops.gateway(id)?,
                port: config.port,
                vni: config.vni,
            };
            Some((key, 0))
        }
        Target::Nothing => None,
    }
}

fn is_ours(config: &SegmentConfig, via: u32) -> bool {
    via == 0 || via == config.underlay_ifindex
}

/// Who may send to us: every VTEP, and those whose entries name another device.
fn peers(config: &SegmentConfig, mirror: &FdbMirror, vteps: &[(VtepKey, u32)]) -> Vec<IpAddr> {
    let targets = mirror
        .lists()
        .flat_map(|(_, targets)| targets.iter().copied());
    let elsewhere = mirror
        .single()
        .map(|(_, target)| target)
        .chain(targets)
        .filter_map(|target| match target {
            Target::Remote(key, via) if !is_ours(config, via) => Some(key.addr),
            _ => None,
        });
    let mut peers: Vec<_> = vteps
        .iter()
        .map(|(key, _)| key.addr)
        .chain(elsewhere)
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
    fn an_entry_that_only_the_kernel_serves_is_kept_and_its_vtep_may_send() {
        let via = |mac, last, ifindex| Neighbour {
            via_ifindex: Some(ifindex),
            ..entry(mac, Some(last), None)
        };
        let six = Neighbour {
            dst: Some("fd00::1".parse().unwrap()),
            ..entry(2, None, None)
        };
        // 11 by another device, and also by ours; 13 only by another.
        let entries = [
            via(1, 11, 9),
            six,
            via(3, 12, 3),
            entry(4, None, Some(200)),
            entry(5, Some(11), None),
            via(6, 13, 9),
        ];
        let layout = layout(&config(), &mirror(&entries), &Nexthops::default());
        let addr = |text: &str| text.parse::<IpAddr>().unwrap();
        let vteps = layout.vteps.iter().map(|(key, via)| (key.addr, *via));
        assert_eq!(
            vteps.collect::<Vec<_>>(),
            [
                (NOWHERE, 0),
                (addr("10.9.0.11"), 0),
                (addr("10.9.0.12"), 3),
                (addr("fd00::1"), 0)
            ]
        );
        let to = |last| {
            let key = where_to(&layout, MacAddr([2, 0, 0, 0, 0, last]));
            key.unwrap().addr
        };
        for nowhere in [1, 4, 6] {
            assert_eq!(to(nowhere), NOWHERE, "{nowhere}");
        }
        assert_eq!((to(2), to(5)), (addr("fd00::1"), addr("10.9.0.11")));
        assert_eq!(
            layout.peers,
            ["10.9.0.11", "10.9.0.12", "10.9.0.13", "fd00::1"].map(addr)
        );
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
