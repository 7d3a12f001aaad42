//! From an access port to the underlay.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{Ethernet2Header, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, UdpHeader};
use vxgate::stats::DropReason;
use vxgate::table::{
    Destination, Df, EcnEncap, FlowLabel, Inherit, InnerVlan, NextHop, Segment, SegmentConfig,
    UdpChecksum, UnresolvedReason, Vtep, VtepId,
};
use vxgate::wire::layers::Layers;
use vxgate::wire::{MacAddr, entropy};

use super::inner::{MARK_BITS, finish, inner_fields, network};
use super::{entry, meant, vteps, word};

/// ECN on the way out, inner to outer.
const fn ecn_out(mode: EcnEncap) -> [u8; 4] {
    match mode {
        EcnEncap::Kernel => [0, 1, 2, 2],
        EcnEncap::Rfc6040 => [0, 1, 2, 3],
        EcnEncap::Compat => [0; 4],
    }
}

/// The VTEPs that a frame of the overlay goes to, the one whose fate is the frame's first; or what it dies of.
pub fn encap<'a>(segment: &'a Segment, frame: &[u8]) -> Result<Vec<&'a Vtep>, DropReason> {
    if frame.len() < 14 {
        return Err(DropReason::AccessShort);
    }
    match network(frame) {
        Some((0x0800, at, _)) if frame.len() < at + 20 => return Err(DropReason::AccessShort),
        Some((0x86dd, at, _)) if frame.len() < at + 40 => return Err(DropReason::AccessShort),
        _ => {}
    }
    let tagged = matches!(word(frame, 12), 0x8100 | 0x88a8);
    if tagged && segment.config.inner_vlan == InnerVlan::Drop {
        return Err(DropReason::InnerVlan);
    }
    let reach = |number: u32| -> Result<&'a Vtep, DropReason> {
        let vtep = segment
            .vteps
            .get(number as usize)
            .ok_or(DropReason::NextHopUnresolved)?;
        match &vtep.next_hop {
            NextHop::Unresolved(UnresolvedReason::LinkDown) => return Err(DropReason::LinkDown),
            NextHop::Unresolved(_) => return Err(DropReason::NextHopUnresolved),
            NextHop::Resolved(_) => {}
        }
        let headers = if vtep.key.addr.is_ipv6() {
            40 + 16
        } else {
            20 + 16
        };
        if frame.len() + headers > usize::from(vtep.path_mtu) {
            return Err(DropReason::Oversize);
        }
        Ok(vtep)
    };
    let destination = MacAddr(frame[..6].try_into().expect("6 bytes"));
    let list: Vec<VtepId> = match entry(segment, destination) {
        Some(destination) => numbers(segment, destination, frame)?,
        None if !segment.flood.is_empty() => segment.flood.to_vec(),
        None => match entry(segment, MacAddr::ZERO) {
            Some(destination) => numbers(segment, destination, frame)?,
            None => Vec::new(),
        },
    };
    let tried: Vec<_> = list.iter().map(|vtep| reach(vtep.0)).collect();
    let first = tried.first().map_or(DropReason::NoTxTarget, |first| {
        *first.as_ref().err().unwrap_or(&DropReason::NoTxTarget)
    });
    let reached: Vec<_> = tried.into_iter().flatten().collect();
    if reached.is_empty() {
        Err(first)
    } else {
        Ok(reached)
    }
}

/// Every VTEP that a frame to this address may be sent to.
pub fn may_mean(segment: &Segment, mac: MacAddr) -> Vec<&Vtep> {
    match entry(segment, mac) {
        None if !segment.flood.is_empty() => vteps(segment, &segment.flood),
        found => {
            let found = found.or(entry(segment, MacAddr::ZERO));
            found
                .map(|destination| meant(segment, destination))
                .unwrap_or_default()
        }
    }
}

/// The VTEPs that an entry means for this frame. Which member of a group a flow gets is the group's own affair.
fn numbers(
    segment: &Segment,
    destination: Destination,
    frame: &[u8],
) -> Result<Vec<VtepId>, DropReason> {
    match destination {
        Destination::Vtep(vtep) => Ok(vec![vtep]),
        Destination::List(list) => Ok(segment
            .lists
            .get(list.0 as usize)
            .cloned()
            .unwrap_or_default()),
        Destination::Group(group) => {
            let layers = Layers::parse(frame).expect("a whole Ethernet header");
            let group = segment.groups.get(group.0 as usize);
            let chosen = group.and_then(|group| group.choose(entropy::flow_hash(frame, &layers)));
            let chosen = chosen.ok_or(DropReason::NoTxTarget)?;
            assert!(group.is_some_and(|group| group.members().contains(&chosen)));
            Ok(vec![chosen])
        }
    }
}

/// What is left open: the hash of the flow may be any, and the identification runs on.
#[derive(Debug, Clone, Copy)]
pub struct Open {
    pub source_port: u16,
    pub ip_id: u16,
    pub hash_label: u32,
}

impl Open {
    /// As a frame that was sent has them.
    pub fn of(sent: &[u8]) -> Self {
        let six = word(sent, 12) == 0x86dd;
        Self {
            source_port: word(sent, if six { 54 } else { 34 }) as u16,
            ip_id: if six { 0 } else { word(sent, 18) as u16 },
            hash_label: if six {
                u32::from(sent[15] & 15) << 16 | word(sent, 16) as u32
            } else {
                0
            },
        }
    }
}

/// The frame that goes to this VTEP, every byte of it.
pub fn sent(config: &SegmentConfig, vtep: &Vtep, mark: u32, frame: &[u8], open: Open) -> Vec<u8> {
    let [a, b, c] = vtep.key.vni.to_wire();
    // The mark as the group's policy; a mark of 0 is none.
    let policy = if mark == 0 {
        0
    } else {
        0x8000_0000 | mark & MARK_BITS
    };
    let mut payload = (0x0800_0000 | policy).to_be_bytes().to_vec();
    payload.extend([a, b, c, 0]);
    payload.extend(finish(frame));
    let mut udp = UdpHeader {
        source_port: open.source_port,
        destination_port: vtep.key.port,
        length: 8 + payload.len() as u16,
        checksum: 0,
    };
    let NextHop::Resolved(template) = &vtep.next_hop else {
        panic!("sent to a VTEP that cannot be reached: {vtep:?}")
    };
    let mut ethernet = Ethernet2Header {
        source: config.underlay_mac.0,
        destination: template.next_hop_mac().0,
        ether_type: etherparse::EtherType::IPV4,
    };
    let compute = config.udp_checksum == UdpChecksum::Compute;
    let ip = match (config.local, vtep.key.addr) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => {
            let ip = ipv4(config, local, remote, frame, udp.length, open);
            if compute {
                udp.checksum = udp.calc_checksum_ipv4(&ip, &payload).expect("short enough");
            }
            ip.to_bytes().to_vec()
        }
        (IpAddr::V6(local), IpAddr::V6(remote)) => {
            ethernet.ether_type = etherparse::EtherType::IPV6;
            let ip = ipv6(config, local, remote, frame, udp.length, open);
            if compute {
                udp.checksum = udp.calc_checksum_ipv6(&ip, &payload).expect("short enough");
            }
            ip.to_bytes().to_vec()
        }
        other => panic!("sent from one family to the other: {other:?}"),
    };
    [&ethernet.to_bytes()[..], &ip, &udp.to_bytes(), &payload].concat()
}

fn ipv4(
    config: &SegmentConfig,
    local: Ipv4Addr,
    remote: Ipv4Addr,
    frame: &[u8],
    len: u16,
    open: Open,
) -> Ipv4Header {
    let (class, ttl) = class_and_ttl(config, remote.into(), frame);
    let mut ip = Ipv4Header::new(len, ttl, IpNumber::UDP, local.octets(), remote.octets())
        .expect("short enough");
    ip.dscp = (class >> 2).try_into().expect("6 bits");
    ip.ecn = (class & 3).try_into().expect("2 bits");
    ip.identification = open.ip_id;
    ip.dont_fragment = match config.df {
        Df::Unset => false,
        Df::Set => true,
        Df::Inherit => inner_fields(frame).df,
    };
    ip.header_checksum = ip.calc_header_checksum();
    ip
}

fn ipv6(
    config: &SegmentConfig,
    local: Ipv6Addr,
    remote: Ipv6Addr,
    frame: &[u8],
    len: u16,
    open: Open,
) -> Ipv6Header {
    let (class, ttl) = class_and_ttl(config, remote.into(), frame);
    let label = match config.flow_label {
        FlowLabel::Fixed(label) => label,
        FlowLabel::Inner => inner_fields(frame).label,
        FlowLabel::Hash => open.hash_label.max(1),
    };
    Ipv6Header {
        traffic_class: class,
        flow_label: Ipv6FlowLabel::try_new(label).expect("20 bits"),
        payload_length: len,
        next_header: IpNumber::UDP,
        hop_limit: ttl,
        source: local.octets(),
        destination: remote.octets(),
    }
}

/// DSCP and ECN, and TTL or hop limit.
fn class_and_ttl(config: &SegmentConfig, remote: IpAddr, frame: &[u8]) -> (u8, u8) {
    let fields = inner_fields(frame);
    let own = match config.tos {
        Inherit::Fixed(tos) => tos,
        Inherit::Inner => fields.class,
    };
    let class = own & !3 | ecn_out(config.ecn_encap)[usize::from(fields.class & 3)];
    let ttl = match config.ttl {
        Inherit::Fixed(ttl) => ttl,
        Inherit::Inner => fields.ttl,
    };
    // To a group, where the device leaves it open, no further than the link.
    let ttl = match (ttl, config.ttl) {
        (0, Inherit::Fixed(0)) if remote.is_multicast() => 1,
        (0, _) => config.ttl_default,
        (ttl, _) => ttl,
    };
    (class, ttl)
}
