//! From the underlay to an access port.

use std::net::IpAddr;

use vxgate::stats::DropReason;
use vxgate::table::{InnerVlan, PeerCheck, Segment, SegmentConfig, Snapshot};
use vxgate::wire::MacAddr;

use super::inner::{MARK_BITS, carried_by_tags, finish};
use super::{entry, ipv4_address, ipv6_address, meant, word};
use crate::rig::sums::{checksum, fold, pseudo, sum};

/// ECN on the way in, `[inner][outer]`: RFC 6040 §4.2; 4 is a drop.
const ECN_IN: [[u8; 4]; 4] = [[0, 0, 0, 4], [1, 1, 1, 3], [2, 1, 2, 3], [3, 3, 3, 3]];

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
    if segment.config.gbp {
        let word = u32::from_be_bytes(vxlan[..4].try_into().expect("4 bytes"));
        let mark = if word >> 31 == 1 { word & MARK_BITS } else { 0 };
        inner = carried_by_tags(mark, &inner);
    }
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
    if tagged && segment.config.gbp && inner.len() < 20 {
        return Err(DropReason::InnerTruncated);
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
