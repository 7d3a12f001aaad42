//! From what was mirrored to what the data path reads: pure functions.
//!
//! A segment's VTEPs are every destination that an FDB entry names, once, sorted; their positions are their numbers. An
//! entry leads to one of them, to a group of which each flow gets one (a nexthop group), or to all of a list (a multicast
//! address with several destinations). VTEPs that only the kernel reaches are among them: their frames stay with it, and
//! one that still gets to a worker must not be flooded as if there were no entry. An entry without an address (a nexthop
//! object that leads nowhere), or with another device of its own than the underlay (`via`), points to the VTEP [`NOWHERE`]
//! for the same reason: other entries may lead to the same address by the underlay.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::fdb::{FdbMirror, Target};
use super::nexthop::{Lead, Nexthops};
use super::targets::TargetId;
use crate::table::{
    BucketUse, Destination, Fdb, Group, GroupId, ListId, SegmentConfig, VtepId, VtepKey,
};
use crate::wire::MacAddr;

/// The address of the VTEP that stands for every destination that is none of the underlay's. It is the kernel's.
pub(super) const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The parts of a segment that the FDB decides.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// Every VTEP, sorted, with the device that its frames must leave from (0: as the routes say).
    pub vteps: Vec<(VtepKey, u32)>,
    pub fdb: Arc<Fdb>,
    pub groups: Vec<Group>,
    pub lists: Vec<Vec<VtepId>>,
    pub flood: Vec<VtepId>,
    pub peers: Vec<IpAddr>,
    /// Where each target of the mirror leads, by its number.
    destinations: Vec<Option<Destination>>,
}

impl Layout {
    /// Takes over where these addresses lead, after changes that left the targets as they were.
    pub(super) fn follow(&mut self, mirror: &FdbMirror, macs: &[MacAddr]) {
        let changes = macs.iter().map(|mac| {
            let target = mirror.target(*mac);
            let destination = target.and_then(|target| at(&self.destinations, target));
            (*mac, destination)
        });
        self.fdb = Arc::new(self.fdb.with(changes));
    }
}

fn at(destinations: &[Option<Destination>], target: TargetId) -> Option<Destination> {
    destinations.get(target.index()).copied().flatten()
}

/// Numbers the VTEPs and resolves every entry to one or several.
pub(super) fn layout(config: &SegmentConfig, mirror: &FdbMirror, nexthops: &Nexthops) -> Layout {
    let mut places = Places::new(config, nexthops);
    // Few targets, many entries: each target is judged once.
    let targets = mirror.targets();
    let targets: Vec<_> = targets
        .map(|(number, target)| (number, places.serve(target)))
        .collect();
    let (mut flooded, mut lists) = (Vec::new(), Vec::new());
    for (mac, targets) in mirror.lists() {
        match places.serve_all(targets) {
            Place::Vtep(key) if mac.is_zero() => flooded = vec![key],
            Place::List(list) if mac.is_zero() => flooded.clone_from(&places.lists[list]),
            // The all-zero address with a group too: the FDB has what is not a list.
            place => lists.push((mac, place)),
        }
    }
    let peers = peers(config, mirror, &places.vteps);
    let numbers = Numbers::new(places.vteps);
    let destinations = numbers.destinations(&targets);
    let single = mirror.single();
    let single = single.filter_map(|(mac, target)| Some((mac, at(&destinations, target)?)));
    let lists = lists.into_iter();
    let lists = lists.filter_map(|(mac, place)| Some((mac, numbers.destination(place)?)));
    let fdb = Fdb::new(single.chain(lists));
    let ids = |keys: &[VtepKey]| keys.iter().filter_map(|key| numbers.of(key)).collect();
    Layout {
        fdb: Arc::new(fdb),
        groups: places
            .groups
            .iter()
            .map(|(id, members)| numbers.group(*id, members))
            .collect(),
        lists: places.lists.iter().map(|list| ids(list)).collect(),
        flood: ids(&flooded),
        vteps: numbers.vteps,
        peers,
        destinations,
    }
}

/// Where an entry leads, before the VTEPs have numbers. Groups and lists have theirs.
#[derive(Debug, Clone, Copy)]
enum Place {
    Vtep(VtepKey),
    Group(usize),
    List(usize),
}

/// A group, before the VTEPs have numbers.
#[derive(Debug)]
enum Members {
    ByWeight(Vec<(VtepKey, u32)>),
    ByBucket(Vec<VtepKey>, BucketUse),
}

/// Every place that entries lead to, once.
struct Places<'a> {
    config: &'a SegmentConfig,
    nexthops: &'a Nexthops,
    served: HashMap<Target, Place, FixedState>,
    vteps: BTreeMap<VtepKey, u32>,
    /// With the number of the nexthop group.
    groups: Vec<(u32, Members)>,
    lists: Vec<Vec<VtepKey>>,
    list_of: BTreeMap<Vec<VtepKey>, usize>,
}

impl<'a> Places<'a> {
    fn new(config: &'a SegmentConfig, nexthops: &'a Nexthops) -> Self {
        Self {
            config,
            nexthops,
            served: HashMap::default(),
            vteps: BTreeMap::new(),
            groups: Vec::new(),
            lists: Vec::new(),
            list_of: BTreeMap::new(),
        }
    }

    fn serve(&mut self, target: Target) -> Place {
        if let Some(place) = self.served.get(&target) {
            return *place;
        }
        let place = match target {
            Target::Remote(key, via) => self.vtep(Some((key, via))),
            Target::Nexthop(id) => match self.nexthops.lead(id) {
                None => self.vtep(None),
                Some(Lead::To(addr)) => Place::Vtep(self.member(Some(addr))),
                Some(Lead::ByWeight(members)) => {
                    let member = |(addr, weight)| (self.member(addr), weight);
                    let members: Vec<_> = members.into_iter().map(member).collect();
                    match one_of(members.iter().map(|(key, _)| *key)) {
                        Some(key) => Place::Vtep(key),
                        None => self.group(id, Members::ByWeight(members)),
                    }
                }
                // Not even when all lead to one VTEP: the notes of use count from the start.
                Some(Lead::ByBucket(buckets, used)) => {
                    let keys = buckets.into_iter().map(|addr| self.member(addr));
                    let keys = keys.collect();
                    self.group(id, Members::ByBucket(keys, used))
                }
            },
            Target::Nothing => self.vtep(None),
        };
        self.served.insert(target, place);
        place
    }

    /// Where an address with these destinations leads. A nexthop object has no other destination beside it that would count
    /// (`vxlan_xmit`).
    fn serve_all(&mut self, targets: &[Target]) -> Place {
        let object = targets
            .iter()
            .find(|target| matches!(target, Target::Nexthop(_)));
        if let Some(target) = object {
            return self.serve(*target);
        }
        let mut keys = Vec::with_capacity(targets.len());
        for target in targets {
            if let Place::Vtep(key) = self.serve(*target) {
                keys.push(key);
            }
        }
        keys.sort_unstable();
        keys.dedup();
        if let [key] = *keys {
            return Place::Vtep(key);
        }
        let list = *self.list_of.entry(keys).or_insert_with_key(|keys| {
            self.lists.push(keys.clone());
            self.lists.len() - 1
        });
        Place::List(list)
    }

    /// The VTEP of a nexthop object with this gateway: the device's own port and VNI.
    fn member(&mut self, gateway: Option<IpAddr>) -> VtepKey {
        let key = gateway.map(|addr| VtepKey {
            addr,
            port: self.config.port,
            vni: self.config.vni,
        });
        self.vtep_key(key.map(|key| (key, 0)))
    }

    fn vtep(&mut self, remote: Option<(VtepKey, u32)>) -> Place {
        Place::Vtep(self.vtep_key(remote))
    }

    /// Notes the VTEP, or [`NOWHERE`] when there is none or it is another device's.
    fn vtep_key(&mut self, remote: Option<(VtepKey, u32)>) -> VtepKey {
        let nowhere = VtepKey {
            addr: NOWHERE,
            port: 0,
            vni: self.config.vni,
        };
        let (key, via) = remote
            .filter(|(_, via)| is_ours(self.config, *via))
            .unwrap_or((nowhere, 0));
        // Where one entry names our device and another none, the routes decide for both: should they lead elsewhere, the
        // kernel, which can do either, gets the frames of both.
        let stored = self.vteps.entry(key).or_insert(via);
        *stored = (*stored).min(via);
        key
    }

    fn group(&mut self, id: u32, members: Members) -> Place {
        self.groups.push((id, members));
        Place::Group(self.groups.len() - 1)
    }
}

/// The one VTEP that all of these are; none when there are several.
fn one_of(mut keys: impl Iterator<Item = VtepKey>) -> Option<VtepKey> {
    let first = keys.next()?;
    keys.all(|key| key == first).then_some(first)
}

/// Whether an entry leaves it to the routes, or names our own device.
fn is_ours(config: &SegmentConfig, via: u32) -> bool {
    via == 0 || via == config.underlay_ifindex
}

/// The VTEPs in their order, which numbers them.
struct Numbers {
    vteps: Vec<(VtepKey, u32)>,
}

impl Numbers {
    fn new(vteps: BTreeMap<VtepKey, u32>) -> Self {
        Self {
            vteps: vteps.into_iter().collect(),
        }
    }

    fn of(&self, key: &VtepKey) -> Option<VtepId> {
        let position = self.vteps.binary_search_by(|(other, _)| other.cmp(key));
        u32::try_from(position.ok()?).ok().map(VtepId)
    }

    fn group(&self, id: u32, members: &Members) -> Group {
        match members {
            Members::ByWeight(members) => Group::by_weight(
                id,
                members
                    .iter()
                    .filter_map(|(key, weight)| Some((self.of(key)?, *weight))),
            ),
            Members::ByBucket(keys, used) => {
                let ids = keys.iter().filter_map(|key| self.of(key));
                Group::by_bucket(id, ids, used.clone())
            }
        }
    }

    fn destination(&self, place: Place) -> Option<Destination> {
        Some(match place {
            Place::Vtep(key) => Destination::Vtep(self.of(&key)?),
            Place::Group(group) => Destination::Group(GroupId(u32::try_from(group).ok()?)),
            Place::List(list) => Destination::List(ListId(u32::try_from(list).ok()?)),
        })
    }

    /// By the targets' numbers.
    fn destinations(&self, targets: &[(TargetId, Place)]) -> Vec<Option<Destination>> {
        let count = targets.iter().map(|(number, _)| number.index() + 1).max();
        let mut destinations = vec![None; count.unwrap_or(0)];
        for (number, place) in targets {
            destinations[number.index()] = self.destination(*place);
        }
        destinations
    }
}

/// Who may send to us: every VTEP, and those whose entries name another device.
fn peers(
    config: &SegmentConfig,
    mirror: &FdbMirror,
    vteps: &BTreeMap<VtepKey, u32>,
) -> Vec<IpAddr> {
    let targets = mirror
        .lists()
        .flat_map(|(_, targets)| targets.iter().copied());
    let elsewhere = mirror
        .targets()
        .map(|(_, target)| target)
        .chain(targets)
        .filter_map(|target| match target {
            Target::Remote(key, via) if !is_ours(config, via) => Some(key.addr),
            _ => None,
        });
    let mut peers: Vec<_> = vteps.keys().map(|key| key.addr).chain(elsewhere).collect();
    peers.retain(|addr| !addr.is_unspecified() && !addr.is_multicast());
    peers.sort_unstable();
    peers.dedup();
    peers
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::fdb::Changed;
    use super::super::fdb::tests::entry;
    use super::super::nexthop::tests::nexthop;
    use super::*;
    use crate::netlink::Neighbour;
    use crate::table::{Df, FlowLabel, Inherit, SourcePorts, UdpChecksum};
    use crate::wire::{MacAddr, Vni};

    pub(in super::super) fn config() -> SegmentConfig {
        SegmentConfig {
            name: "vx".into(),
            ifindex: 4,
            vni: Vni::new(1).unwrap(),
            local: "10.9.0.1".parse().unwrap(),
            group: None,
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
            gbp: false,
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
        match layout.fdb.find(mac)? {
            Destination::Vtep(id) => Some(layout.vteps[id.0 as usize].0),
            other => panic!("several: {other:?}"),
        }
    }

    fn addrs(layout: &Layout, ids: &[VtepId]) -> Vec<IpAddr> {
        ids.iter()
            .map(|id| layout.vteps[id.0 as usize].0.addr)
            .collect()
    }

    fn addr(last: u8) -> IpAddr {
        [10, 9, 0, last].into()
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
    fn where_entries_differ_only_in_naming_our_device_the_routes_decide_for_both() {
        let named = Neighbour {
            via_ifindex: Some(3),
            ..entry(1, Some(11), None)
        };
        for entries in [
            [named, entry(2, Some(11), None)],
            [
                entry(1, Some(11), None),
                Neighbour {
                    mac: entry(2, None, None).mac,
                    ..named
                },
            ],
        ] {
            let layout = layout(&config(), &mirror(&entries), &Nexthops::default());
            let vteps = layout.vteps.iter().map(|(key, via)| (key.addr, *via));
            assert_eq!(vteps.collect::<Vec<_>>(), [(addr(11), 0)]);
        }
    }

    #[test]
    fn a_multicast_address_leads_to_each_of_its_destinations() {
        let group = |mac, last| Neighbour {
            mac: Some(MacAddr([1, 0, 0x5e, 0, 0, mac])),
            ..entry(1, last, None)
        };
        let mac = |last| MacAddr([1, 0, 0x5e, 0, 0, last]);
        let layout = layout(
            &config(),
            &mirror(&[
                group(1, Some(11)),
                group(2, Some(13)),
                group(2, Some(12)),
                group(3, Some(12)),
                group(3, Some(13)),
                group(4, Some(12)),
                group(4, None),
            ]),
            &Nexthops::default(),
        );
        assert_eq!(where_to(&layout, mac(1)).unwrap().addr, addr(11));
        let list = |last| match layout.fdb.find(mac(last)) {
            Some(Destination::List(id)) => addrs(&layout, &layout.lists[id.0 as usize]),
            other => panic!("no list: {other:?}"),
        };
        assert_eq!((list(2), list(3)), (vec![addr(12), addr(13)], list(2)));
        assert_eq!(layout.lists.len(), 2, "equal lists are one");
        assert_eq!(list(4), [NOWHERE, addr(12)]);
        assert_eq!(layout.peers, [addr(11), addr(12), addr(13)]);
        assert!(layout.flood.is_empty());
    }

    #[test]
    fn a_multicast_group_is_a_destination_and_no_peer() {
        let group = Neighbour {
            dst: Some("239.1.1.1".parse().unwrap()),
            via_ifindex: Some(3),
            ..entry(0, None, None)
        };
        let layout = layout(
            &config(),
            &mirror(&[group, entry(1, Some(11), None), entry(0, Some(12), None)]),
            &Nexthops::default(),
        );
        let addrs: [IpAddr; 3] =
            ["10.9.0.11", "10.9.0.12", "239.1.1.1"].map(|addr| addr.parse().unwrap());
        let vteps: Vec<IpAddr> = layout.vteps.iter().map(|(key, _)| key.addr).collect();
        assert_eq!(vteps, addrs);
        assert_eq!(layout.flood, [VtepId(1), VtepId(2)]);
        assert_eq!(layout.peers, addrs[..2]);
    }

    fn nexthops() -> Nexthops {
        let mut nexthops = Nexthops::default();
        nexthops.replace(vec![
            nexthop(101, Some("10.9.0.21"), &[]),
            nexthop(102, Some("10.9.0.22"), &[]),
            nexthop(103, None, &[]),
            nexthop(200, None, &[(102, 3), (101, 1)]),
            nexthop(201, None, &[(102, 5)]),
            nexthop(202, None, &[(101, 1), (103, 1)]),
        ]);
        nexthops
    }

    #[test]
    fn an_entry_leads_to_every_member_of_its_nexthop_group() {
        let entries = [(1, 200), (2, 200), (3, 201), (4, 202), (5, 999)];
        let entries = entries.map(|(mac, id)| entry(mac, None, Some(id)));
        let layout = layout(&config(), &mirror(&entries), &nexthops());
        let find = |last| layout.fdb.find(MacAddr([2, 0, 0, 0, 0, last])).unwrap();
        let Destination::Group(id) = find(1) else {
            panic!("no group")
        };
        assert_eq!(find(2), find(1), "one nexthop group is one group");
        let numbers: Vec<_> = layout.vteps.iter().map(|(key, _)| key.addr).collect();
        assert_eq!(numbers, [NOWHERE, addr(21), addr(22)]);
        let group = Group::by_weight(200, [(VtepId(2), 3), (VtepId(1), 1)]);
        assert_eq!(layout.groups[id.0 as usize], group, "in the kernel's order");
        assert_eq!(
            layout.vteps[2].0,
            VtepKey {
                addr: addr(22),
                port: 8472,
                vni: config().vni
            }
        );
        assert_eq!(find(3), VtepId(2).into(), "one member needs no choice");
        let Destination::Group(id) = find(4) else {
            panic!("no group")
        };
        assert_eq!(
            layout.groups[id.0 as usize].members(),
            [VtepId(0), VtepId(1)]
        );
        assert_eq!(find(5), VtepId(0).into());
        assert_eq!(layout.peers, [addr(21), addr(22)]);
    }

    #[test]
    fn a_nexthop_group_takes_the_frames_of_an_all_zero_and_of_a_multicast_address() {
        let multicast = Neighbour {
            mac: Some(MacAddr([1, 0, 0x5e, 0, 0, 1])),
            ..entry(1, None, Some(200))
        };
        let beside = Neighbour {
            nexthop: None,
            dst: Some(addr(13)),
            ..multicast
        };
        let entries = [entry(0, None, Some(200)), multicast, beside];
        let layout = layout(&config(), &mirror(&entries), &nexthops());
        let group = Some(Destination::Group(GroupId(0)));
        assert_eq!(layout.fdb.find(MacAddr::ZERO), group);
        assert_eq!(layout.fdb.find(MacAddr([1, 0, 0x5e, 0, 0, 1])), group);
        assert_eq!((layout.flood.len(), layout.lists.len()), (0, 0));
        let one = entry(0, None, Some(201));
        let layout = super::layout(&config(), &mirror(&[one]), &nexthops());
        assert_eq!(
            (addrs(&layout, &layout.flood), layout.fdb.len()),
            (vec![addr(22)], 0)
        );
    }

    proptest! {
        /// Every entry leads where it said, the flood list is the all-zero entries, VTEPs are sorted and used.
        #[test]
        fn the_layout_says_what_the_entries_said(entries in proptest::collection::vec((0u8..9, 11u8..15), 0..40)) {
            let messages: Vec<_> = entries.iter().map(|(mac, dst)| entry(*mac, Some(*dst), None)).collect();
            let layout = layout(&config(), &mirror(&messages), &Nexthops::default());
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

        /// Following changes and laying out anew agree.
        #[test]
        fn a_layout_that_follows_is_as_one_made_anew(
            bursts in proptest::collection::vec(
                proptest::collection::vec((any::<bool>(), 0u8..30, 11u8..14), 0..20), 1..10),
        ) {
            let (mut mirror, nexthops) = (FdbMirror::default(), nexthops());
            let mut layout = Layout::default();
            for burst in bursts {
                for (exists, mac, dst) in burst {
                    mirror.apply(exists, &entry(mac, Some(dst), None), 8472, config().vni);
                }
                match mirror.take_changed(usize::MAX) {
                    Changed::Entries(macs) => layout.follow(&mirror, &macs),
                    Changed::Targets => layout = super::layout(&config(), &mirror, &nexthops),
                }
                let anew = super::layout(&config(), &mirror, &nexthops);
                let entries = |layout: &Layout| layout.fdb.iter().collect::<BTreeMap<_, _>>();
                prop_assert_eq!(entries(&layout), entries(&anew));
                prop_assert_eq!((&layout.vteps, &layout.peers), (&anew.vteps, &anew.peers));
                prop_assert_eq!(&layout.flood, &anew.flood);
            }
        }
    }
}
