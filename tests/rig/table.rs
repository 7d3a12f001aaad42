//! A table of any kind that control could publish, and a little beyond: segments of both families side by side, VTEPs
//! that cannot be reached, entries that name none, attributes of every value.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use vxgate::stats::PeerId;
use vxgate::table::{
    BucketUse, Destination, Df, EcnEncap, EncapTemplate, Fdb, FlowLabel, Group, GroupId, Inherit,
    InnerVlan, ListId, NextHop, PeerCheck, Peers, Segment, SegmentConfig, Snapshot, SourcePorts,
    UdpChecksum, UnresolvedReason, Vtep, VtepId, VtepKey,
};
use vxgate::wire::{MacAddr, Vni, gbp, vxlan};

use super::choices::Choices;

/// Segments of a table at most.
pub const SEGMENTS_MAX: usize = 4;
/// VTEPs of a list at most.
const LIST_LEN_MAX: usize = 5;

const PORTS: [u16; 4] = [8472, 4789, 1, 65535];
const VNIS: [u32; 6] = [1, 2, 0, 0x80_0000, 0xff_ffff, 0x0a_0b0c];
const MTUS: [u16; 8] = [1500, 1400, 1280, 576, 100, 68, 0, 65535];
/// The addresses of our own, of the underlay's device: frames to others are not for us.
const UNDERLAY_MACS: [MacAddr; 2] = [MacAddr([4, 0, 0, 0, 0, 1]), MacAddr([4, 0, 0, 0, 0, 2])];

/// One of ours, of the family: 0 is most segments' own.
pub fn own_address(six: bool, number: u8) -> IpAddr {
    address(six, 1 + number % 2)
}

/// Somebody's, of the family: 1 and 2 may be our own, most others a VTEP's.
pub fn address(six: bool, number: u8) -> IpAddr {
    if six {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into()).into()
    } else {
        Ipv4Addr::new(10, 0, 0, number).into()
    }
}

/// A multicast group of the underlay.
pub fn group_address(six: bool, number: u8) -> IpAddr {
    if six {
        Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, u16::from(number % 2)).into()
    } else {
        Ipv4Addr::new(239, 129, 1, number % 2).into()
    }
}

/// A station of the overlay; most FDB entries are of one of the first eight, and some of its kind are groups.
pub fn station(number: u8) -> MacAddr {
    match number % 16 {
        13 => MacAddr([0x33, 0x33, 0, 0, 0, 1]),
        14 => MacAddr::BROADCAST,
        15 => MacAddr::ZERO,
        number => MacAddr([2, 0, 0, 0, 0, number]),
    }
}

/// Any table.
pub fn table(choices: &mut Choices<'_>) -> Snapshot {
    let count = 1 + choices.below(SEGMENTS_MAX);
    Snapshot {
        generation: 0,
        segments: (0..count).map(|number| segment(choices, number)).collect(),
    }
}

/// Any segment.
pub fn segment(choices: &mut Choices<'_>, number: usize) -> Segment {
    let config = config(choices, number);
    let mut vteps: Vec<_> = (0..(choices.below(8) + 4) % 8)
        .map(|_| vtep(choices, &config))
        .collect();
    vteps.sort_by_key(|vtep| vtep.key);
    vteps.dedup_by_key(|vtep| vtep.key);
    let mut peers: Vec<_> = vteps
        .iter()
        .map(|vtep| (vtep.key.addr, vtep.peer))
        .collect();
    peers.retain(|(peer, _)| !peer.is_multicast());
    if choices.rare() {
        // One whose entry cannot be served in the other direction.
        let addr = address(choices.bit(), choices.byte());
        peers.push((addr, peer(addr)));
    }
    let groups: Vec<_> = (0..choices.below(3))
        .map(|_| group(choices, &vteps))
        .collect();
    let lists: Vec<_> = (0..choices.below(3))
        .map(|_| list(choices, &vteps))
        .collect();
    let fdb =
        (0..choices.below(12)).map(|_| (station(choices.byte()), destination(choices, &vteps)));
    let fdb = Fdb::new(fdb.collect::<Vec<_>>());
    Segment {
        flood: Arc::new(list(choices, &vteps)),
        fdb: Arc::new(fdb),
        groups: Arc::new(groups),
        lists: Arc::new(lists),
        peers: Arc::new(Peers::counted(peers)),
        vteps: Arc::new(vteps),
        config: Arc::new(config),
    }
}

/// Any attributes; one line each.
pub fn config(choices: &mut Choices<'_>, number: usize) -> SegmentConfig {
    let (six, gbp) = (choices.bit(), choices.below(4) == 3);
    SegmentConfig {
        name: format!("vx{number}"),
        ifindex: 10 + number as u32,
        vni: vni(choices),
        local: own_address(six, choices.below(2) as u8),
        group: (choices.below(4) == 3).then(|| group_address(six, choices.byte())),
        port: choices.pick(&PORTS),
        mac: MacAddr([0x0e, 0, 0, 0, 0, number as u8]),
        underlay_ifindex: 2,
        underlay_mac: choices.pick(&UNDERLAY_MACS),
        underlay_mtu: if choices.rare() {
            choices.pick(&MTUS)
        } else {
            1500
        },
        source_ports: source_ports(choices),
        ttl: inherit(choices),
        ttl_default: choices.byte().max(1),
        tos: inherit(choices),
        df: choices.pick(&[Df::Unset, Df::Set, Df::Inherit]),
        flow_label: flow_label(choices),
        udp_checksum: choices.pick(&[UdpChecksum::Zero, UdpChecksum::Compute]),
        verify_udp_checksum: choices.bit(),
        accept_udp6_zero_checksum: choices.bit(),
        gbp,
        header_bits: header_bits(choices, gbp),
        peer_check: one_of(choices, PeerCheck::ALL),
        ecn_encap: one_of(choices, EcnEncap::ALL),
        inner_vlan: one_of(choices, InnerVlan::ALL),
    }
}

pub fn vni(choices: &mut Choices<'_>) -> Vni {
    Vni::new(choices.pick(&VNIS)).expect("of 24 bits")
}

fn vtep(choices: &mut Choices<'_>, config: &SegmentConfig) -> Vtep {
    // Now and then of the other family, or ourselves.
    let six = config.local.is_ipv6() != choices.rare();
    let key = VtepKey {
        addr: match config.group {
            Some(group) if choices.below(4) == 3 => group,
            _ => address(six, choices.below(10) as u8),
        },
        port: if choices.rare() {
            choices.pick(&PORTS)
        } else {
            config.port
        },
        vni: if choices.rare() {
            vni(choices)
        } else {
            config.vni
        },
    };
    Vtep {
        key,
        next_hop: next_hop(choices, config, &key),
        path_mtu: if choices.below(4) == 3 {
            choices.pick(&MTUS)
        } else {
            config.underlay_mtu
        },
        peer: peer(key.addr),
    }
}

/// Where an address is counted: behind the segments' own places, and below all that a rig has.
fn peer(addr: IpAddr) -> PeerId {
    let octets = match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    };
    let last = octets.last().copied().unwrap_or(0);
    PeerId(100 + u16::from(last) + if addr.is_multicast() { 256 } else { 0 })
}

fn next_hop(choices: &mut Choices<'_>, config: &SegmentConfig, key: &VtepKey) -> NextHop {
    use UnresolvedReason::{LinkDown, LocalAddress, NoNeighbour, NoRoute, Unsupported};
    if choices.rare() {
        return NextHop::Unresolved(choices.pick(&[
            NoRoute,
            NoNeighbour,
            LinkDown,
            LocalAddress,
            Unsupported,
        ]));
    }
    let neighbour = MacAddr([4, 0, 0, 0, 1, choices.byte()]);
    let neighbour = MacAddr::of_group(key.addr).unwrap_or(neighbour);
    match EncapTemplate::new(config, key, config.underlay_mac, neighbour) {
        Some(template) => NextHop::Resolved(template),
        None => NextHop::Unresolved(Unsupported),
    }
}

/// Where an entry leads: one VTEP mostly, or a group or list, which may not be there.
fn destination(choices: &mut Choices<'_>, vteps: &[Vtep]) -> Destination {
    match choices.below(4) {
        2 => Destination::Group(GroupId(choices.below(3) as u32)),
        3 => Destination::List(ListId(choices.below(3) as u32)),
        _ => Destination::Vtep(vtep_id(choices, vteps)),
    }
}

fn list(choices: &mut Choices<'_>, vteps: &[Vtep]) -> Vec<VtepId> {
    (0..choices.below(1 + LIST_LEN_MAX))
        .map(|_| vtep_id(choices, vteps))
        .collect()
}

/// Flows shared out by weights, of which some are 0 or large, or by buckets.
fn group(choices: &mut Choices<'_>, vteps: &[Vtep]) -> Group {
    let members = list(choices, vteps);
    if choices.bit() {
        let used = BucketUse::new(members.len());
        return Group::by_bucket(0, members, used);
    }
    let weights = [1, 3, 0, 256, 65_536, u32::MAX];
    let weighed = members
        .into_iter()
        .map(|vtep| (vtep, choices.pick(&weights)));
    Group::by_weight(0, weighed.collect::<Vec<_>>())
}

/// One of them, or now and then none at all.
fn vtep_id(choices: &mut Choices<'_>, vteps: &[Vtep]) -> VtepId {
    if vteps.is_empty() || choices.rare() {
        return VtepId(choices.long());
    }
    VtepId(choices.below(vteps.len()) as u32)
}

/// The default in half of all cases, which is the first.
fn one_of<T: Copy>(choices: &mut Choices<'_>, all: &[T]) -> T {
    if choices.bit() {
        choices.pick(all)
    } else {
        all[0]
    }
}

/// What may be set beside the bits that mean something.
fn header_bits(choices: &mut Choices<'_>, with_gbp: bool) -> u64 {
    let others = match choices.below(4) {
        2 => u64::from(choices.long()) << 32 | u64::from(choices.long()),
        3 => u64::MAX,
        _ => 0,
    };
    others | vxlan::USED_BITS | if with_gbp { gbp::USED_BITS } else { 0 }
}

fn source_ports(choices: &mut Choices<'_>) -> SourcePorts {
    let (a, b) = match choices.below(3) {
        0 => (32_768, 60_999),
        1 => (0, 65_535),
        _ => (choices.word(), choices.word()),
    };
    SourcePorts {
        low: a.min(b),
        high: a.max(b),
    }
}

fn inherit(choices: &mut Choices<'_>) -> Inherit {
    if choices.bit() {
        Inherit::Inner
    } else {
        Inherit::Fixed(choices.byte())
    }
}

fn flow_label(choices: &mut Choices<'_>) -> FlowLabel {
    match choices.below(3) {
        0 => FlowLabel::Fixed(choices.long() & 0xf_ffff),
        1 => FlowLabel::Inner,
        _ => FlowLabel::Hash,
    }
}
