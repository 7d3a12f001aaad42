//! What must become of a frame, said a second time: slowly, from the specification, without the gateway's own
//! parsers (but for the hash of a flow, which may be any). Where the two differ, one of them is wrong.

use std::net::IpAddr;

use etherparse::{Ethernet2Header, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, UdpHeader};
use vxgate::stats::DropReason;
use vxgate::table::{
    Destination, Df, EcnEncap, FlowLabel, Inherit, InnerVlan, NextHop, PeerCheck, Segment,
    SegmentConfig, Snapshot, UdpChecksum, UnresolvedReason, Vtep, VtepId,
};
use vxgate::wire::layers::Layers;
use vxgate::wire::{MacAddr, entropy};

use super::frames::{checksum, fold, pseudo, sum};

/// ECN on the way out, inner to outer.
const fn ecn_out(mode: EcnEncap) -> [u8; 4] {
    match mode {
        EcnEncap::Kernel => [0, 1, 2, 2],
        EcnEncap::Rfc6040 => [0, 1, 2, 3],
        EcnEncap::Compat => [0; 4],
    }
}
/// ECN on the way in, `[inner][outer]`: RFC 6040 §4.2; 4 is a drop.
const ECN_IN: [[u8; 4]; 4] = [[0, 0, 0, 4], [1, 1, 1, 3], [2, 1, 2, 3], [3, 3, 3, 3]];
/// VLAN tags that are looked behind.
const TAGS_MAX: usize = 7;

/// What an access port gets.
pub struct Delivered {
    pub segment: usize,
    /// From somebody who is no VTEP of ours, and is only told of.
    pub stranger: bool,
    pub inner: Vec<u8>,
}

/// What becomes of a frame of the underlay, or what it dies of.
pub fn decap(snapshot: &Snapshot, frame: &[u8]) -> Result<Delivered, DropReason> {
    let outer = Outer::read(frame)?;
    let vxlan = &outer.datagram[8..];
    if vxlan.len() < 8 {
        return Err(DropReason::HeaderTruncated);
    }
    if vxlan[0] & 0x08 == 0 {
        return Err(DropReason::NoIFlag);
    }
    let vni = word(vxlan, 4) as u32 * 256 + u32::from(vxlan[6]);
    let matches = |config: &SegmentConfig| {
        let ours = [Some(config.local), config.group].contains(&Some(outer.destination));
        ours && usize::from(config.port) == word(outer.datagram, 2) && config.vni.get() == vni
    };
    let place = snapshot
        .segments
        .iter()
        .position(|segment| matches(&segment.config));
    let place = place.ok_or(DropReason::VniNotFound)?;
    let segment = &snapshot.segments[place];
    let group = frame[0] & 1 != 0;
    if !group && frame[..6] != segment.config.underlay_mac.0 {
        return Err(DropReason::OtherHost);
    }
    outer.judge_checksum(&segment.config)?;
    let bits = u64::from_be_bytes(vxlan[..8].try_into().expect("8 bytes"));
    if bits & !0x0800_0000_ffff_ff00 & !segment.config.header_bits != 0 {
        return Err(DropReason::ReservedBits);
    }
    let known = segment.peers.contains(&outer.source);
    let unprotected = outer.source.is_ipv6() && word(outer.datagram, 6) == 0;
    let stranger = match segment.config.peer_check {
        _ if known => false,
        PeerCheck::Off if !unprotected => false,
        PeerCheck::Log if !unprotected => true,
        _ => return Err(DropReason::UnknownPeer),
    };
    judge_inner(segment, &vxlan[8..], &outer)?;
    let mut inner = finish(&vxlan[8..]);
    mark(&mut inner, outer.class);
    Ok(Delivered {
        segment: place,
        stranger,
        inner,
    })
}

/// Who sent a frame that was refused or delivered as a stranger's: outer source, VNI, inner source.
pub fn sender(frame: &[u8]) -> (IpAddr, u32, Option<[u8; 6]>) {
    let outer = Outer::read(frame).expect("judged before");
    let vxlan = &outer.datagram[8..];
    let inner = vxlan.get(8..22);
    let vni = word(vxlan, 4) as u32 * 256 + u32::from(vxlan[6]);
    (
        outer.source,
        vni,
        inner.map(|inner| inner[6..12].try_into().expect("6 bytes")),
    )
}

struct Outer<'a> {
    source: IpAddr,
    destination: IpAddr,
    class: u8,
    datagram: &'a [u8],
}

impl<'a> Outer<'a> {
    fn read(frame: &'a [u8]) -> Result<Self, DropReason> {
        let malformed = Err(DropReason::OuterMalformed);
        if frame.len() < 14 {
            return malformed;
        }
        let packet = &frame[14..];
        let (source, destination, class, payload) = match word(frame, 12) {
            0x0800 => outer_ipv4(packet)?,
            0x86dd => outer_ipv6(packet)?,
            _ => return malformed,
        };
        if payload.len() < 8 {
            return malformed;
        }
        let len = match word(payload, 4) {
            0 if source.is_ipv6() => payload.len(),
            len => len,
        };
        if len < 8 || len > payload.len() {
            return malformed;
        }
        let datagram = &payload[..len];
        Ok(Self {
            source,
            destination,
            class,
            datagram,
        })
    }

    fn judge_checksum(&self, config: &SegmentConfig) -> Result<(), DropReason> {
        if word(self.datagram, 6) == 0 {
            return match self.source {
                IpAddr::V6(_) if !config.accept_udp6_zero_checksum => {
                    Err(DropReason::ZeroChecksum6)
                }
                _ => Ok(()),
            };
        }
        let all =
            pseudo(self.source, self.destination, 17, self.datagram.len()) + sum(self.datagram);
        if config.verify_udp_checksum && fold(all) != 0xffff {
            return Err(DropReason::OuterChecksum);
        }
        Ok(())
    }
}

type Packet<'a> = (IpAddr, IpAddr, u8, &'a [u8]);

fn outer_ipv4(packet: &[u8]) -> Result<Packet<'_>, DropReason> {
    if packet.len() < 20
        || packet[0] != 0x45
        || fold(sum(&packet[..20])) != 0xffff
        || !(20..=packet.len()).contains(&word(packet, 2))
        || packet[9] != 17
    {
        return Err(DropReason::OuterMalformed);
    }
    if word(packet, 6) & 0x3fff != 0 {
        return Err(DropReason::OuterFragment);
    }
    let (source, destination) = (&packet[12..16], &packet[16..20]);
    let group = (224..240).contains(&source[0]);
    if source[0] == 0 || source[0] == 127 || group || source == [255; 4] || source == destination {
        return Err(DropReason::MartianSource);
    }
    let payload = &packet[20..word(packet, 2)];
    Ok((
        ipv4_address(source),
        ipv4_address(destination),
        packet[1],
        payload,
    ))
}

fn outer_ipv6(packet: &[u8]) -> Result<Packet<'_>, DropReason> {
    if packet.len() < 40 || packet[0] >> 4 != 6 || 40 + word(packet, 4) > packet.len() {
        return Err(DropReason::OuterMalformed);
    }
    match packet[6] {
        17 => {}
        44 => return Err(DropReason::OuterFragment),
        _ => return Err(DropReason::OuterMalformed),
    }
    let (source, destination) = (&packet[8..24], &packet[24..40]);
    let low = u128::from_be_bytes(source.try_into().expect("16 bytes"));
    let mapped = low >> 32 == 0xffff;
    if low <= 1 || source[0] == 0xff || mapped || source == destination {
        return Err(DropReason::MartianSource);
    }
    let class = packet[0] << 4 | packet[1] >> 4;
    let payload = &packet[40..40 + word(packet, 4)];
    Ok((
        ipv6_address(source),
        ipv6_address(destination),
        class,
        payload,
    ))
}

fn judge_inner(segment: &Segment, inner: &[u8], outer: &Outer<'_>) -> Result<(), DropReason> {
    if inner.len() < 14 {
        return Err(DropReason::InnerShort);
    }
    let source = &inner[6..12];
    if source == segment.config.mac.0 {
        return Err(DropReason::LocalMac);
    }
    if source[0] & 1 != 0 || source == [0; 6] {
        return Err(DropReason::InvalidSourceMac);
    }
    let station = MacAddr(source.try_into().expect("6 bytes"));
    let behind = stands_behind(segment, station);
    if segment.config.peer_check == PeerCheck::StrictMac && !behind.contains(&outer.source) {
        return Err(DropReason::InnerSpoof);
    }
    let tagged = matches!(word(inner, 12), 0x8100 | 0x88a8);
    if tagged && segment.config.inner_vlan == InnerVlan::Drop {
        return Err(DropReason::InnerVlan);
    }
    let inner_class = match (word(inner, 12), &inner[14..]) {
        (0x0800, packet) if packet.len() >= 20 => packet[1],
        (0x86dd, packet) if packet.len() >= 40 => packet[0] << 4 | packet[1] >> 4,
        (0x0800 | 0x86dd, _) => return Err(DropReason::InnerTruncated),
        _ => return Ok(()),
    };
    if ECN_IN[usize::from(inner_class & 3)][usize::from(outer.class & 3)] == 4 {
        return Err(DropReason::TunnelEcn);
    }
    Ok(())
}

/// The VTEPs that a station may be behind, as its own FDB entry says.
fn stands_behind(segment: &Segment, station: MacAddr) -> Vec<IpAddr> {
    let entry = entry(segment, station);
    let vteps = entry.map(|destination| meant(segment, destination));
    vteps
        .unwrap_or_default()
        .iter()
        .map(|vtep| vtep.key.addr)
        .collect()
}

/// Writes the congestion mark into an inner IP header that no tag is in front of.
fn mark(inner: &mut [u8], outer_class: u8) {
    let at = 14;
    match word(inner, 12) {
        0x0800 => {
            let old = inner[at + 1];
            let bits = ECN_IN[usize::from(old & 3)][usize::from(outer_class & 3)];
            let new = old & !3 | bits;
            if new != old {
                // RFC 1624: HC' = ~(~HC + ~m + m').
                let (before, first) = (word(inner, at + 10) as u16, inner[at]);
                let [m, other] = [old, new].map(|tos| u16::from_be_bytes([first, tos]));
                let sum = u64::from(!before) + u64::from(!m) + u64::from(other);
                inner[at + 1] = new;
                inner[at + 10..at + 12].copy_from_slice(&checksum(sum).to_be_bytes());
            }
        }
        0x86dd => {
            let old = inner[at + 1] >> 4 & 3;
            let bits = ECN_IN[usize::from(old)][usize::from(outer_class & 3)];
            inner[at + 1] = inner[at + 1] & !0x30 | bits << 4;
        }
        _ => {}
    }
}

/// Where a frame's network header starts, and its EtherType; nothing when a tag is cut short.
fn network(frame: &[u8]) -> Option<(usize, usize, usize)> {
    let (mut at, mut kind, mut tags) = (14, word(frame, 12), 0);
    while matches!(kind, 0x8100 | 0x88a8) && tags < TAGS_MAX {
        if frame.len() < at + 4 {
            return None;
        }
        kind = word(frame, at + 2);
        at += 4;
        tags += 1;
    }
    Some((kind, at, tags))
}

/// What of an inner frame its outer header follows.
#[derive(Debug, Default, Clone, Copy)]
pub struct Inner {
    pub class: u8,
    pub ttl: u8,
    /// What `df inherit` makes of it.
    pub df: bool,
    pub label: u32,
}

pub fn inner_fields(frame: &[u8]) -> Inner {
    match network(frame) {
        Some((0x0800, at, tags)) if frame.len() >= at + 20 => Inner {
            class: frame[at + 1],
            ttl: frame[at + 8],
            df: tags == 0 && frame[at + 6] & 0x40 != 0,
            label: 0,
        },
        Some((0x86dd, at, tags)) if frame.len() >= at + 40 => Inner {
            class: frame[at] << 4 | frame[at + 1] >> 4,
            ttl: frame[at + 7],
            df: tags == 0,
            label: u32::from(frame[at + 1] & 15) << 16 | word(frame, at + 2) as u32,
        },
        _ => Inner::default(),
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

fn entry(segment: &Segment, mac: MacAddr) -> Option<Destination> {
    let mut entries = segment.fdb.iter();
    entries
        .find(|(known, _)| *known == mac)
        .map(|(_, destination)| destination)
}

/// Every VTEP of a destination.
fn meant(segment: &Segment, destination: Destination) -> Vec<&Vtep> {
    match destination {
        Destination::Vtep(vtep) => vteps(segment, &[vtep]),
        Destination::List(list) => match segment.lists.get(list.0 as usize) {
            Some(list) => vteps(segment, list),
            None => Vec::new(),
        },
        Destination::Group(group) => match segment.groups.get(group.0 as usize) {
            Some(group) => vteps(segment, group.members()),
            None => Vec::new(),
        },
    }
}

/// Those of the numbers that are there.
fn vteps<'a>(segment: &'a Segment, numbers: &[VtepId]) -> Vec<&'a Vtep> {
    let all = numbers.iter();
    all.filter_map(|vtep| segment.vteps.get(vtep.0 as usize))
        .collect()
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
pub fn sent(config: &SegmentConfig, vtep: &Vtep, frame: &[u8], open: Open) -> Vec<u8> {
    let inner = finish(frame);
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
        (0, Inherit::Fixed(0)) if vtep.key.addr.is_multicast() => 1,
        (0, _) => config.ttl_default,
        (ttl, _) => ttl,
    };
    let [a, b, c] = vtep.key.vni.to_wire();
    let mut payload = vec![0x08, 0, 0, 0, a, b, c, 0];
    payload.extend(inner);
    let udp_len = 8 + payload.len() as u16;
    let mut udp = UdpHeader {
        source_port: open.source_port,
        destination_port: vtep.key.port,
        length: udp_len,
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
    let mut bytes = Vec::new();
    match (config.local, vtep.key.addr) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => {
            let mut ip =
                Ipv4Header::new(udp_len, ttl, IpNumber::UDP, local.octets(), remote.octets())
                    .expect("short enough");
            ip.dscp = (class >> 2).try_into().expect("6 bits");
            ip.ecn = (class & 3).try_into().expect("2 bits");
            ip.identification = open.ip_id;
            ip.dont_fragment = match config.df {
                Df::Unset => false,
                Df::Set => true,
                Df::Inherit => fields.df,
            };
            ip.header_checksum = ip.calc_header_checksum();
            if compute {
                udp.checksum = udp.calc_checksum_ipv4(&ip, &payload).expect("short enough");
            }
            ethernet.write(&mut bytes).expect("to memory");
            ip.write(&mut bytes).expect("to memory");
        }
        (IpAddr::V6(local), IpAddr::V6(remote)) => {
            let label = match config.flow_label {
                FlowLabel::Fixed(label) => label,
                FlowLabel::Inner => fields.label,
                FlowLabel::Hash => open.hash_label.max(1),
            };
            let ip = Ipv6Header {
                traffic_class: class,
                flow_label: Ipv6FlowLabel::try_new(label).expect("20 bits"),
                payload_length: udp_len,
                next_header: IpNumber::UDP,
                hop_limit: ttl,
                source: local.octets(),
                destination: remote.octets(),
            };
            if compute {
                udp.checksum = udp.calc_checksum_ipv6(&ip, &payload).expect("short enough");
            }
            ethernet.ether_type = etherparse::EtherType::IPV6;
            ethernet.write(&mut bytes).expect("to memory");
            ip.write(&mut bytes).expect("to memory");
        }
        other => panic!("sent from one family to the other: {other:?}"),
    }
    udp.write(&mut bytes).expect("to memory");
    bytes.extend(payload);
    bytes
}

/// The frame with the checksum of what it carries finished, where its sender had left that to hardware.
pub fn finish(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let Some(carried) = carried(&frame) else {
        return frame;
    };
    let segment = &mut frame[carried.start..carried.end];
    match (carried.protocol, segment.len(), carried.addresses) {
        (6, 20.., Some(ends)) => finish_sum(segment, ends, 6, 16),
        (17, 8.., Some(ends)) => {
            let len = word(segment, 4);
            if word(segment, 6) != 0 && (8..=segment.len()).contains(&len) {
                finish_sum(&mut segment[..len], ends, 17, 6);
            }
        }
        (132, 12.., _) if segment[8..12] == [0; 4] => {
            let crc = crc32c(segment);
            segment[8..12].copy_from_slice(&crc.to_le_bytes());
        }
        _ => {}
    }
    frame
}

fn finish_sum(segment: &mut [u8], ends: (IpAddr, IpAddr), protocol: u8, at: usize) {
    let pseudo = pseudo(ends.0, ends.1, protocol, segment.len());
    if word(segment, at) as u16 != fold(pseudo) {
        return;
    }
    segment[at..at + 2].fill(0);
    let right = match checksum(pseudo + sum(segment)) {
        0 if protocol == 17 => 0xffff,
        right => right,
    };
    segment[at..at + 2].copy_from_slice(&right.to_be_bytes());
}

/// What a whole IP packet carries.
pub struct Carried {
    pub protocol: u8,
    /// Where it starts and ends in the frame.
    pub start: usize,
    pub end: usize,
    /// Source and destination; none behind a routing header, which names another destination.
    pub addresses: Option<(IpAddr, IpAddr)>,
}

/// Nothing in fragments, and where a length contradicts another or the frame.
pub fn carried(frame: &[u8]) -> Option<Carried> {
    if frame.len() < 14 {
        return None;
    }
    let (kind, at, _) = network(frame)?;
    let packet = &frame[at..];
    match kind {
        0x0800 if packet.len() >= 20 && packet[0] >> 4 == 4 => carried_by_ipv4(packet, at),
        0x86dd if packet.len() >= 40 && packet[0] >> 4 == 6 => carried_by_ipv6(packet, at),
        _ => None,
    }
}

fn carried_by_ipv4(packet: &[u8], at: usize) -> Option<Carried> {
    let (header_len, total) = (usize::from(packet[0] & 15) * 4, word(packet, 2));
    let sound = header_len >= 20 && total >= header_len && total <= packet.len();
    if !sound || word(packet, 6) & 0x3fff != 0 {
        return None;
    }
    Some(Carried {
        protocol: packet[9],
        start: at + header_len,
        end: at + total,
        addresses: Some((ipv4_address(&packet[12..16]), ipv4_address(&packet[16..20]))),
    })
}

fn carried_by_ipv6(packet: &[u8], at: usize) -> Option<Carried> {
    let end = 40 + word(packet, 4);
    if end > packet.len() {
        return None;
    }
    let (mut next, mut place, mut routed, mut extensions) = (packet[6], 40, false, 0);
    while matches!(next, 0 | 43 | 44 | 51 | 60 | 135) {
        extensions += 1;
        if next == 44 || extensions > 8 || place + 2 > end {
            return None;
        }
        routed |= next == 43;
        let unit = if next == 51 { 4 } else { 8 };
        (next, place) = (
            packet[place],
            place + 8 + unit * usize::from(packet[place + 1]),
        );
        if place > end {
            return None;
        }
    }
    let addresses = (ipv6_address(&packet[8..24]), ipv6_address(&packet[24..40]));
    Some(Carried {
        protocol: next,
        start: at + place,
        end: at + end,
        addresses: (!routed).then_some(addresses),
    })
}

fn ipv4_address(bytes: &[u8]) -> IpAddr {
    let bytes: [u8; 4] = bytes.try_into().expect("4 bytes");
    bytes.into()
}

fn ipv6_address(bytes: &[u8]) -> IpAddr {
    let bytes: [u8; 16] = bytes.try_into().expect("16 bytes");
    bytes.into()
}

/// One bit at a time (RFC 9260 Appendix A).
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 != 0 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

/// Two bytes in network order.
pub fn word(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}
