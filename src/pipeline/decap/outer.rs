//! The outer headers, seen in place and judged.

use std::net::IpAddr;

use super::super::Verdict;
use super::inner::Pull;
use super::vtep::{is_martian_ipv4, is_martian_ipv6};
use crate::stats::{DropReason, PeerId};
use crate::table::{OUTER_IPV4_LEN, OUTER_IPV6_LEN, PeerCheck, SegmentConfig, Snapshot};
use crate::wire::checksum;
use crate::wire::ethernet::{self, EthernetHeader};
use crate::wire::ipv4::{self, Ipv4Header};
use crate::wire::ipv6::{self, Ipv6Header};
use crate::wire::udp::{self, UdpHeader};
use crate::wire::vxlan::VxlanHeader;

/// The outer headers of a frame that may be ours, seen in place.
#[derive(Clone, Copy)]
pub(super) struct Outer<'a> {
    ethernet: &'a EthernetHeader,
    pub(super) ip: OuterIp<'a>,
    udp: &'a UdpHeader,
    /// Header and payload, as long as the UDP header says.
    pub(super) datagram: &'a [u8],
}

/// The outer IP header. Not its fields: an `IpAddr` that is kept goes through memory, in pieces, and costs more than a look.
#[derive(Clone, Copy)]
pub(in crate::pipeline) enum OuterIp<'a> {
    Ipv4(&'a Ipv4Header),
    Ipv6(&'a Ipv6Header),
}

/// Judges a frame field by field.
#[inline(never)]
pub(in crate::pipeline) fn judge(
    snapshot: &Snapshot,
    frame: &[u8],
    pull: &mut Pull,
) -> Result<Verdict, DropReason> {
    let (ethernet, packet) = EthernetHeader::parse(frame).ok_or(DropReason::OuterMalformed)?;
    match ethernet.ether_type() {
        ethernet::IPV4 => Outer::ipv4(ethernet, packet)?.judge(snapshot, pull),
        ethernet::IPV6 => judge_ipv6(snapshot, ethernet, packet, pull),
        _ => Err(DropReason::OuterMalformed),
    }
}

/// Apart, so that each family has code in which it is the only one.
#[inline(never)]
fn judge_ipv6(
    snapshot: &Snapshot,
    ethernet: &EthernetHeader,
    packet: &[u8],
    pull: &mut Pull,
) -> Result<Verdict, DropReason> {
    Outer::ipv6(ethernet, packet)?.judge(snapshot, pull)
}

impl<'a> Outer<'a> {
    /// Of either family.
    pub(super) fn parse(frame: &'a [u8]) -> Result<Self, DropReason> {
        let (ethernet, packet) = EthernetHeader::parse(frame).ok_or(DropReason::OuterMalformed)?;
        match ethernet.ether_type() {
            ethernet::IPV4 => Self::ipv4(ethernet, packet),
            ethernet::IPV6 => Self::ipv6(ethernet, packet),
            _ => Err(DropReason::OuterMalformed),
        }
    }

    #[inline(always)]
    fn ipv4(ethernet: &'a EthernetHeader, packet: &'a [u8]) -> Result<Self, DropReason> {
        let (ip, payload) = OuterIp::ipv4(packet)?;
        let udp = UdpHeader::parse(payload).ok_or(DropReason::OuterMalformed)?;
        Self::new(ethernet, ip, udp, payload, udp.len())
    }

    #[inline(always)]
    fn ipv6(ethernet: &'a EthernetHeader, packet: &'a [u8]) -> Result<Self, DropReason> {
        let (ip, payload) = OuterIp::ipv6(packet)?;
        let udp = UdpHeader::parse(payload).ok_or(DropReason::OuterMalformed)?;
        let len = datagram_len_ipv6(udp, payload.len());
        Self::new(ethernet, ip, udp, payload, len)
    }

    #[inline(always)]
    fn new(
        ethernet: &'a EthernetHeader,
        ip: OuterIp<'a>,
        udp: &'a UdpHeader,
        payload: &'a [u8],
        datagram_len: usize,
    ) -> Result<Self, DropReason> {
        match payload.get(..datagram_len) {
            Some(datagram) if datagram.len() >= udp::LEN => Ok(Self {
                ethernet,
                ip,
                udp,
                datagram,
            }),
            _ => Err(DropReason::OuterMalformed),
        }
    }

    #[inline(always)]
    fn judge(self, snapshot: &Snapshot, pull: &mut Pull) -> Result<Verdict, DropReason> {
        let payload = self.datagram.get(udp::LEN..).unwrap_or(&[]);
        let (vxlan, inner) = VxlanHeader::parse(payload).ok_or(DropReason::HeaderTruncated)?;
        if !vxlan.i_flag() {
            return Err(DropReason::NoIFlag);
        }
        let id = snapshot
            .find(
                self.ip.destination(),
                self.udp.destination_port(),
                vxlan.vni(),
            )
            .ok_or(DropReason::VniNotFound)?;
        let segment = snapshot.segment(id).ok_or(DropReason::VniNotFound)?;
        let (addressee, own) = (self.ethernet.destination(), segment.config.underlay_mac);
        if addressee != own && !addressee.is_multicast() {
            return Err(DropReason::OtherHost);
        }
        self.judge_checksum(&segment.config)?;
        if vxlan.bits() & !segment.config.header_bits != 0 {
            return Err(DropReason::ReservedBits);
        }
        let peer = self.judge_source(segment)?;
        pull.read(segment, inner, self.ip)?;
        pull.peer = peer.unwrap_or(PeerId::other(id.0));
        let is_stranger = peer.is_none() && segment.config.peer_check == PeerCheck::Log;
        Ok(if is_stranger {
            Verdict::DeliverStranger(id)
        } else {
            Verdict::Deliver(id)
        })
    }

    #[inline]
    pub(super) fn has_checksum(self) -> bool {
        self.udp.checksum() != 0
    }

    /// Zero says that no checksum was computed: always good over IPv4 (RFC 768), over IPv6 only where it was agreed on
    /// (RFC 8200 §8.1).
    #[inline(always)]
    fn judge_checksum(self, config: &SegmentConfig) -> Result<(), DropReason> {
        if !self.has_checksum() {
            let agreed = self.ip.is_ipv4() || config.accept_udp6_zero_checksum;
            return agreed.then_some(()).ok_or(DropReason::ZeroChecksum6);
        }
        if config.verify_udp_checksum && !self.ip.checksum_holds(self.datagram) {
            return Err(DropReason::OuterChecksum);
        }
        Ok(())
    }
}

impl<'a> OuterIp<'a> {
    /// The header, and all that it counts as its own: not what is behind that in the frame.
    #[inline(always)]
    fn ipv4(packet: &'a [u8]) -> Result<(Self, &'a [u8]), DropReason> {
        let header = Ipv4Header::parse(packet).ok_or(DropReason::OuterMalformed)?;
        let sound = header.is_ipv4_without_options()
            && header.checksum_holds()
            && (ipv4::LEN..=packet.len()).contains(&header.total_len())
            && header.protocol() == udp::PROTOCOL;
        if !sound {
            return Err(DropReason::OuterMalformed);
        }
        if header.is_fragment() {
            return Err(DropReason::OuterFragment);
        }
        let (source, destination) = (header.source(), header.destination());
        if is_martian_ipv4(source) || source == destination {
            return Err(DropReason::MartianSource);
        }
        let payload = packet
            .get(ipv4::LEN..header.total_len())
            .ok_or(DropReason::OuterMalformed)?;
        Ok((Self::Ipv4(header), payload))
    }

    /// As [`Self::ipv4`].
    #[inline(always)]
    fn ipv6(packet: &'a [u8]) -> Result<(Self, &'a [u8]), DropReason> {
        let header = Ipv6Header::parse(packet).ok_or(DropReason::OuterMalformed)?;
        let payload = packet
            .get(ipv6::LEN..)
            .and_then(|rest| rest.get(..header.payload_len()))
            .filter(|_| header.version() == 6)
            .ok_or(DropReason::OuterMalformed)?;
        match header.next_header() {
            udp::PROTOCOL => {}
            ipv6::FRAGMENT => return Err(DropReason::OuterFragment),
            _ => return Err(DropReason::OuterMalformed),
        }
        let (source, destination) = (header.source(), header.destination());
        if is_martian_ipv6(source) || source == destination {
            return Err(DropReason::MartianSource);
        }
        Ok((Self::Ipv6(header), payload))
    }

    /// By value: what a function is given by reference cannot stay in registers anywhere.
    #[inline(never)]
    fn checksum_holds(self, datagram: &[u8]) -> bool {
        let len = datagram.len() as u16; // Never more than the IP header's 16 bits say.
        let pseudo = match self {
            Self::Ipv4(ip) => {
                checksum::pseudo_ipv4(ip.source(), ip.destination(), udp::PROTOCOL, len)
            }
            Self::Ipv6(ip) => {
                checksum::pseudo_ipv6(ip.source(), ip.destination(), udp::PROTOCOL, len)
            }
        };
        checksum::fold(pseudo + checksum::sum(datagram)) == 0xffff
    }

    #[inline(always)]
    pub(super) fn source(self) -> IpAddr {
        match self {
            Self::Ipv4(header) => header.source().into(),
            Self::Ipv6(header) => header.source().into(),
        }
    }

    #[inline(always)]
    fn destination(self) -> IpAddr {
        match self {
            Self::Ipv4(header) => header.destination().into(),
            Self::Ipv6(header) => header.destination().into(),
        }
    }

    #[inline]
    pub(super) fn traffic_class(self) -> u8 {
        match self {
            Self::Ipv4(header) => header.tos(),
            Self::Ipv6(header) => header.traffic_class(),
        }
    }

    #[inline]
    pub(super) fn is_ipv4(self) -> bool {
        matches!(self, Self::Ipv4(_))
    }

    /// All that lies in front of the inner frame.
    #[inline]
    pub(super) fn headers_len(self) -> usize {
        match self {
            Self::Ipv4(_) => OUTER_IPV4_LEN,
            Self::Ipv6(_) => OUTER_IPV6_LEN,
        }
    }
}

/// A UDP length of 0 over IPv6 stands for the whole payload: the rule for jumbograms (RFC 2675 §4), which the kernel
/// applies to any length.
#[inline]
fn datagram_len_ipv6(udp: &UdpHeader, payload_len: usize) -> usize {
    match udp.len() {
        0 => payload_len,
        len => len,
    }
}
