//! From the underlay to the overlay: the outer headers are judged from the outside in, then pulled off.
//!
//! The order is that of a frame's way through the kernel: IP and UDP input, then `vxlan_rcv` (which looks the VNI up
//! before it judges reserved bits). Steering sends only what looked like ours when it arrived; here everything is judged
//! again, because the table may have changed since, and because a program elsewhere is no reason to trust bytes.
//!
//! | # | judged | dies as |
//! |---|---|---|
//! | 1 | outer Ethernet and IP: whole, no options or extension headers, IPv4 header checksum, lengths, UDP | `outer_malformed` |
//! | 2 | outer fragment | `outer_fragment` |
//! | 3 | outer source: zero, loopback, group, broadcast, IPv4-mapped, our own | `martian_source` |
//! | 4 | UDP length: at least a header, not beyond the IP packet (what is behind it is cut off) | `outer_malformed` |
//! | 5 | VXLAN header whole; I flag; address, port and VNI ours | `hdr_truncated`, `no_i_flag`, `vni_not_found` |
//! | 6 | outer Ethernet destination ours, or a group's | `other_host` |
//! | 7 | UDP checksum: zero over IPv6 unless the segment allows it; right, where the segment asks for it | `zero_csum6`, `outer_csum` |
//! | 8 | reserved bits: none but those that the segment lets through | `reserved_bits` |
//! | 9 | outer source a known VTEP of the segment, as far as its peer check asks; without a checksum over IPv6 in any case (RFC 6936 §5) | `unknown_peer` |
//! | 10 | inner Ethernet header whole; source not our own, not zero, no group | `inner_short`, `local_mac`, `invalid_source_mac` |
//! | 11 | inner source a station that the FDB has behind the outer source, where the peer check is `strict-mac` | `inner_spoof` |
//! | 12 | no VLAN tag, where the segment carries none (RFC 7348 §6.1) | `inner_vlan` |
//! | 13 | inner IP header whole; with `gbp`, a tag and 2 bytes behind it | `inner_truncated` |
//! | 14 | ECN | `tunnel_ecn` |
//!
//! Behind a VLAN tag the inner IP header is not looked at in 13 and 14 (as in the kernel: the frame's protocol is then
//! the tag's). Tags are passed on, unless 12 forbids them.
//!
//! On a device with the Group Policy extension its bits are not reserved, and the frame is given the mark that they stand
//! for on its way to the kernel ([`super::carrier`]).
//!
//! Whoever fails at 9 or 11 is put on record, and so is whoever would fail at 9 and is delivered because the peer check
//! only logs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::usual::Usual;
use super::{Outbox, Role, Verdict, Verdicts, ahead, carrier, ecn, unfinished};
use crate::port::{Batch, Frame, Umem};
use crate::prefetch::LINE;
use crate::stats::{DropReason, Offender, PeerId, PortCounters, Shape};
use crate::table::{
    InnerVlan, OUTER_IPV4_LEN, OUTER_IPV6_LEN, PeerCheck, Segment, SegmentConfig, SegmentId,
    Snapshot,
};
use crate::wire::ethernet::{self, EthernetHeader};
use crate::wire::ipv4::{self, Ipv4Header};
use crate::wire::ipv6::{self, Ipv6Header};
use crate::wire::layers::{Layers, Network};
use crate::wire::udp::{self, UdpHeader};
use crate::wire::vxlan::{self, VxlanHeader};
use crate::wire::{MacAddr, checksum, gbp, vlan};

/// How much of a frame is outer headers and how much the inner frame, and whether that is whole: read by `decide`, carried out by
/// `apply`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pull {
    inner_len: u16,
    outer_len: u8,
    outer_class: u8,
    /// From whom it is.
    pub(super) peer: PeerId,
    /// The inner frame has bytes to be changed: an unfinished checksum, or its ECN bits.
    amend: bool,
}

/// Judges a batch that came from the underlay. Writes one verdict a frame: `Deliver`, `DeliverStranger` or `Drop`.
///
/// The headers of a frame are asked for a dozen frames before it is judged, so that the waits for memory overlap. Of most frames a
/// few words tell that their outer headers are those of the segment that the frame before was for; all others are judged
/// field by field.
pub fn decide(snapshot: &Snapshot, umem: &Umem, batch: &Batch, verdicts: &mut Verdicts) {
    let mut usual = Usual::of(snapshot, SegmentId(0));
    let frames = ahead::each(umem, batch, [0, LINE]);
    verdicts.judge_pulls(frames, |frame, pull| {
        let bytes = umem.bytes(frame);
        if let Some(usual) = &usual
            && let Some((headers, inner, peer)) = usual.read(bytes)
        {
            pull.read(usual.segment, inner, OuterIp::Ipv4(&headers.ip))?;
            pull.peer = peer;
            return Ok(Verdict::Deliver(usual.id));
        }
        let verdict = judge(snapshot, bytes, pull);
        if let Ok(Verdict::Deliver(id)) = verdict
            && usual.as_ref().is_none_or(|usual| usual.id != id)
        {
            usual = Usual::of(snapshot, id);
        }
        verdict
    });
}

/// Carries the verdicts out: frames lose their outer headers and go to the outbox of their segment, `out[SegmentId]`;
/// the dead are counted and released. Where the segment's device has the Group Policy extension, they carry their marks.
/// The batch is empty afterwards.
pub fn apply(
    snapshot: &Snapshot,
    umem: &mut Umem,
    batch: &mut Batch,
    verdicts: &Verdicts,
    counters: &PortCounters,
    out: &mut [Outbox],
) {
    for (index, mut frame) in batch.drain().enumerate() {
        let (verdict, pull) = verdicts.pull(index);
        let delivered = match verdict {
            Verdict::Deliver(segment) => {
                let config = snapshot.segment(segment).map(|segment| &*segment.config);
                strip(config, pull, umem, &mut frame, counters).and(Ok(segment))
            }
            Verdict::DeliverStranger(segment) => {
                note(umem.bytes(&frame), DropReason::UnknownPeer, true, counters);
                let config = snapshot.segment(segment).map(|segment| &*segment.config);
                strip(config, pull, umem, &mut frame, counters).map(|()| {
                    counters.strangers_delivered.add(1);
                    segment
                })
            }
            Verdict::Drop(reason) => {
                if matches!(reason, DropReason::UnknownPeer | DropReason::InnerSpoof) {
                    note(umem.bytes(&frame), reason, false, counters);
                }
                Err(reason)
            }
            // Never the fate of a frame from the underlay: that would send it back (split horizon).
            Verdict::Encap(_) | Verdict::Flood | Verdict::List(_) => Err(DropReason::NoTxTarget),
        };
        let dead = match delivered {
            Ok(segment) => match out.get_mut(usize::from(segment.0)) {
                Some(outbox) => outbox
                    .push(frame, Role::First, pull.peer)
                    .err()
                    .map(|frame| (frame, DropReason::TxRingFull)),
                None => Some((frame, DropReason::LinkDown)),
            },
            Err(reason) => Some((frame, reason)),
        };
        if let Some((frame, reason)) = dead {
            let shape = match verdict {
                Verdict::Deliver(_) | Verdict::DeliverStranger(_) => Shape::Leaving,
                _ => Shape::Arrived,
            };
            counters.died(reason, shape, umem.bytes(&frame));
            umem.release(frame);
        }
    }
}

/// The outer headers of a frame that may be ours, seen in place.
#[derive(Clone, Copy)]
struct Outer<'a> {
    ethernet: &'a EthernetHeader,
    ip: OuterIp<'a>,
    udp: &'a UdpHeader,
    /// Header and payload, as long as the UDP header says.
    datagram: &'a [u8],
}

/// The outer IP header. Not its fields: an `IpAddr` that is kept goes through memory, in pieces, and costs more than a look.
#[derive(Clone, Copy)]
pub(super) enum OuterIp<'a> {
    Ipv4(&'a Ipv4Header),
    Ipv6(&'a Ipv6Header),
}

/// Judges a frame field by field.
#[inline(never)]
pub(super) fn judge(
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

impl Pull {
    /// Of a frame that nothing is pulled off.
    pub(super) const NOTHING: Self = Self {
        inner_len: 0,
        outer_len: 0,
        outer_class: 0,
        peer: PeerId(0),
        amend: false,
    };

    /// Judges an inner frame behind an outer IP header that has been judged, and becomes what is pulled off. Written in place, as in
    /// [`Verdicts`].
    #[inline(always)]
    pub(super) fn read(
        &mut self,
        segment: &Segment,
        inner: &[u8],
        outer: OuterIp<'_>,
    ) -> Result<(), DropReason> {
        let amend = judge_inner(segment, inner, outer)?;
        self.inner_len = inner.len() as u16; // Less than the IP header's 16 bits say.
        self.outer_len = outer.headers_len() as u8;
        self.outer_class = outer.traffic_class();
        self.amend = amend;
        Ok(())
    }
}

impl<'a> Outer<'a> {
    /// Of either family.
    fn parse(frame: &'a [u8]) -> Result<Self, DropReason> {
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
    fn has_checksum(self) -> bool {
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

    /// Who the sender is; none for a stranger whom the segment lets in all the same. Nothing vouches for the addresses of a
    /// datagram without a checksum over IPv6, so that these are taken from known VTEPs only (RFC 6936 §5).
    #[inline(always)]
    fn judge_source(self, segment: &Segment) -> Result<Option<PeerId>, DropReason> {
        let unprotected = !self.has_checksum() && !self.ip.is_ipv4();
        match (segment.peer(self.ip.source()), segment.config.peer_check) {
            (Some(peer), _) => Ok(Some(peer)),
            (None, PeerCheck::Off | PeerCheck::Log) if !unprotected => Ok(None),
            (None, _) => Err(DropReason::UnknownPeer),
        }
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
    fn source(self) -> IpAddr {
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
    fn traffic_class(self) -> u8 {
        match self {
            Self::Ipv4(header) => header.tos(),
            Self::Ipv6(header) => header.traffic_class(),
        }
    }

    #[inline]
    fn is_ipv4(self) -> bool {
        matches!(self, Self::Ipv4(_))
    }

    /// All that lies in front of the inner frame.
    #[inline]
    fn headers_len(self) -> usize {
        match self {
            Self::Ipv4(_) => OUTER_IPV4_LEN,
            Self::Ipv6(_) => OUTER_IPV6_LEN,
        }
    }
}

/// No host sends from such an address (RFC 1122 §3.2.1.3, RFC 1812 §5.3.7).
#[inline]
const fn is_martian_ipv4(source: Ipv4Addr) -> bool {
    let [first, ..] = source.octets();
    first == 0 || source.is_loopback() || source.is_multicast() || source.is_broadcast()
}

/// Nor from such a one (RFC 4291 §2.5.2, §2.5.3, §2.7), nor from an IPv4-mapped one, which stands for an address of IPv4
/// within a host. Stricter than the kernel, whose IPv6 input takes the unspecified and mapped ones and its own (seen on
/// Linux 6.18): none of them can be a VTEP.
#[inline]
const fn is_martian_ipv6(source: Ipv6Addr) -> bool {
    source.is_unspecified()
        || source.is_loopback()
        || source.is_multicast()
        || source.to_ipv4_mapped().is_some()
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

/// The kernel takes a tag out only when 2 bytes follow its EtherType, and loses the frame else (`skb_vlan_untag`). Behind the
/// tags of the carrier it would not look.
const UNTAG_LEN: usize = vlan::LEN + 2;

/// Judges the inner frame; whether it is to be amended before it is delivered.
#[inline(always)]
fn judge_inner(segment: &Segment, inner: &[u8], outer: OuterIp<'_>) -> Result<bool, DropReason> {
    let config = &*segment.config;
    let (header, rest) = EthernetHeader::parse(inner).ok_or(DropReason::InnerShort)?;
    let source: MacAddr = header.source();
    if source == config.mac {
        return Err(DropReason::LocalMac);
    }
    if source.is_multicast() || source.is_zero() {
        return Err(DropReason::InvalidSourceMac);
    }
    if config.peer_check == PeerCheck::StrictMac && !segment.is_behind(source, outer.source()) {
        return Err(DropReason::InnerSpoof);
    }
    let outer_class = outer.traffic_class();
    match Layers::plain(inner) {
        Some(layers) => amends(inner, &layers, outer_class),
        None => judge_payload(config, header, rest, inner, outer_class),
    }
}

/// Judges what an inner frame of any kind has behind its addresses. Apart, so that the many plain ones carry nothing of the others
/// along.
#[inline(never)]
fn judge_payload(
    config: &SegmentConfig,
    header: &EthernetHeader,
    rest: &[u8],
    inner: &[u8],
    outer_class: u8,
) -> Result<bool, DropReason> {
    let is_tagged = vlan::is_tag(header.ether_type());
    if is_tagged && config.inner_vlan == InnerVlan::Drop {
        return Err(DropReason::InnerVlan);
    }
    if is_tagged && config.gbp && rest.len() < UNTAG_LEN {
        return Err(DropReason::InnerTruncated);
    }
    let layers = Layers::parse(inner).ok_or(DropReason::InnerShort)?;
    if layers.place.network == Network::Cut && !is_tagged {
        return Err(DropReason::InnerTruncated);
    }
    amends(inner, &layers, outer_class)
}

/// Whether the inner frame is to be changed: congestion to be marked, where the IP header follows the Ethernet header, or a checksum
/// to be finished.
#[inline(always)]
fn amends(inner: &[u8], layers: &Layers, outer_class: u8) -> Result<bool, DropReason> {
    let (place, class) = (layers.place, layers.traffic_class);
    let is_ip = matches!(place.network, Network::Ipv4 | Network::Ipv6) && place.tags == 0;
    // Most senders do not speak of congestion: then there is nothing to compare.
    let congested = is_ip && outer_class & ecn::MASK != 0 && {
        let bits = ecn::decapsulate(class, outer_class).ok_or(DropReason::TunnelEcn)?;
        bits != class & ecn::MASK
    };
    Ok(congested || unfinished::is_left(inner, layers))
}

/// Puts the sender of a frame, as it came in, on record. The frame is read again: its sender is not worth a place in
/// every verdict.
#[cold]
fn note(frame: &[u8], reason: DropReason, delivered: bool, counters: &PortCounters) {
    let Ok(outer) = Outer::parse(frame) else {
        return;
    };
    let payload = outer.datagram.get(udp::LEN..).unwrap_or(&[]);
    let Some((vxlan, inner)) = VxlanHeader::parse(payload) else {
        return;
    };
    counters.offenders.record(Offender {
        source: outer.ip.source(),
        vni: vxlan.vni().get(),
        inner_source: EthernetHeader::parse(inner).map(|(header, _)| header.source().0),
        reason,
        delivered,
    });
}

/// Pulls the outer headers off, cuts what is behind the UDP datagram, amends what is left, and puts the mark on that the VXLAN
/// header stands for.
#[inline(always)]
fn strip(
    config: Option<&SegmentConfig>,
    edit: Pull,
    umem: &mut Umem,
    frame: &mut Frame,
    counters: &PortCounters,
) -> Result<(), DropReason> {
    let with_mark = config.is_some_and(|config| config.gbp);
    let policy = with_mark.then(|| policy_mark(umem.bytes(frame), edit));
    if !umem.pull(frame, usize::from(edit.outer_len))
        || !umem.truncate(frame, usize::from(edit.inner_len))
    {
        return Err(DropReason::OuterMalformed);
    }
    if edit.amend {
        amend(umem, frame, edit, counters);
    }
    match policy {
        Some(policy) if !carrier::put(umem, frame, policy) => Err(DropReason::NoFrame),
        _ => Ok(()),
    }
}

/// The mark that the VXLAN header stands for.
fn policy_mark(frame: &[u8], edit: Pull) -> u32 {
    let at = usize::from(edit.outer_len).saturating_sub(vxlan::LEN);
    let vxlan = frame.get(at..).and_then(VxlanHeader::parse);
    vxlan.map_or(0, |(header, _)| gbp::mark_of(header))
}

/// Finishes the checksum, and writes the ECN bits that RFC 6040 §4.2 asks for. Rare, so that the headers are read once more instead
/// of kept for it.
#[inline(never)]
fn amend(umem: &mut Umem, frame: &mut Frame, edit: Pull, counters: &PortCounters) {
    let bytes = umem.bytes_mut(frame);
    let Some(layers) = Layers::parse(bytes) else {
        return;
    };
    let completed = unfinished::complete(bytes, &layers);
    counters.checksums_completed.add(u64::from(completed));
    let place = layers.place;
    let Some(bits) = ecn::decapsulate(layers.traffic_class, edit.outer_class) else {
        return;
    };
    let class = layers.traffic_class & !ecn::MASK | bits;
    if class == layers.traffic_class || place.tags != 0 {
        return;
    }
    let Some(header) = bytes.get_mut(place.offset..) else {
        return;
    };
    match place.network {
        Network::Ipv4 => ipv4::set_tos(header, class),
        Network::Ipv6 => ipv6::set_traffic_class(header, class),
        Network::Cut | Network::Other => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::lab::{
        FAR, Lab, NEAR, OWN, config, inner4, inner6, outer, seal, segment, tunnelled, with_class,
    };
    use super::*;
    use crate::wire::Vni;
    use std::sync::Arc;

    fn lab() -> Lab {
        Lab::new(vec![segment(config())])
    }

    /// 192.0.2.2 sends 14 bytes of Ethernet and 4 of payload in VNI 1.
    const GOOD: [u8; 68] = [
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, // Ethernet
        0x45, 0, 0, 54, 0xab, 0xcd, 0, 0, 64, 17, 0x4a, 0xe6, 192, 0, 2, 2, 192, 0, 2,
        1, // IPv4
        0x9c, 0x40, 0x21, 0x18, 0, 34, 0, 0, // UDP
        8, 0, 0, 0, 0, 0, 1, 0, // VXLAN
        0x0e, 0, 0, 0, 0, 1, 0x0e, 0, 0, 0, 0, 2, 8, 6, // inner Ethernet
        1, 2, 3, 4,
    ];

    /// The good frame with one byte changed, and the outer IPv4 checksum made right again.
    fn changed(at: usize, value: u8) -> Vec<u8> {
        let mut frame = GOOD.to_vec();
        frame[at] = value;
        if frame[14] == 0x45 {
            seal(&mut frame);
        }
        frame
    }

    #[test]
    fn a_good_frame_is_delivered_without_its_outer_headers() {
        let mut lab = lab();
        let (verdicts, out) = lab.decap(&[GOOD.to_vec()]);
        assert_eq!(verdicts, [Verdict::Deliver(SegmentId(0))]);
        assert_eq!(out, [(SegmentId(0), GOOD[50..].to_vec())]);
        assert_eq!(
            (
                lab.counters.forwarded.get(),
                lab.counters.forwarded_bytes.get()
            ),
            (1, 18)
        );
    }

    #[test]
    fn each_contradiction_in_the_outer_headers_is_malformed() {
        let mut lab = lab();
        let cases = [
            ("EtherType", changed(12, 0x86)),
            ("version", changed(14, 0x65)),
            ("options", changed(14, 0x46)),
            ("header too short", changed(14, 0x44)),
            ("total length beyond the frame", changed(17, 55)),
            ("total length without a UDP header", changed(17, 27)),
            ("total length without an IP header", changed(17, 19)),
            ("protocol", changed(23, 6)),
            ("UDP length beyond the IP packet", changed(39, 35)),
            ("UDP length below a header", changed(39, 7)),
        ];
        for (name, frame) in cases {
            assert_eq!(
                lab.fate_in(&frame),
                Err(DropReason::OuterMalformed),
                "{name}"
            );
        }
        let mut frame = GOOD;
        frame[25] ^= 1;
        assert_eq!(
            lab.fate_in(&frame),
            Err(DropReason::OuterMalformed),
            "header checksum"
        );
    }

    #[test]
    fn a_frame_cut_at_any_byte_dies() {
        let mut lab = lab();
        for len in 1..GOOD.len() {
            assert_eq!(
                lab.fate_in(&GOOD[..len]),
                Err(DropReason::OuterMalformed),
                "{len} bytes"
            );
        }
    }

    #[test]
    fn v07_first_middle_and_last_fragment_are_told_apart_from_the_malformed() {
        let mut lab = lab();
        for (flags, offset) in [(0x20, 0), (0x20, 100), (0, 100)] {
            let mut frame = changed(20, flags);
            frame[21] = offset;
            seal(&mut frame);
            assert_eq!(lab.fate_in(&frame), Err(DropReason::OuterFragment));
        }
        assert!(lab.fate_in(&changed(20, 0x40)).is_ok(), "DF is no fragment");
    }

    #[test]
    fn a_total_length_without_the_header_is_judged_before_fragments_and_sources() {
        let mut lab = lab();
        for total_len in [0, 19] {
            let mut frame = changed(17, total_len);
            frame[20] = 0x20; // A first fragment,
            frame[26..30].copy_from_slice(&[192, 0, 2, 1]); // from ourselves.
            seal(&mut frame);
            assert_eq!(lab.fate_in(&frame), Err(DropReason::OuterMalformed));
        }
    }

    #[test]
    fn v10_each_impossible_source_is_martian() {
        let mut lab = lab();
        let sources = [
            [0, 0, 0, 0],
            [0, 1, 2, 3],
            [127, 0, 0, 1],
            [127, 9, 9, 9],
            [224, 0, 0, 1],
            [239, 255, 255, 255],
            [255, 255, 255, 255],
            [192, 0, 2, 1],
        ];
        for source in sources {
            let mut frame = GOOD.to_vec();
            frame[26..30].copy_from_slice(&source);
            seal(&mut frame);
            assert_eq!(
                lab.fate_in(&frame),
                Err(DropReason::MartianSource),
                "{source:?}"
            );
        }
    }

    #[test]
    fn v12_a_frame_to_another_station_is_not_for_us_and_one_to_a_group_is() {
        let mut lab = lab();
        assert_eq!(lab.fate_in(&changed(5, 9)), Err(DropReason::OtherHost));
        let mut to_all = GOOD.to_vec();
        to_all[..6].fill(0xff);
        assert_eq!(lab.fate_in(&to_all), Ok(GOOD[50..].to_vec()));
    }

    #[test]
    fn v12_another_source_address_port_or_vni_is_not_ours() {
        let mut lab = lab();
        assert_eq!(lab.fate_in(&changed(29, 9)), Err(DropReason::UnknownPeer));
        assert_eq!(
            lab.fate_in(&changed(33, 9)),
            Err(DropReason::VniNotFound),
            "destination address"
        );
        assert_eq!(
            lab.fate_in(&changed(37, 0x19)),
            Err(DropReason::VniNotFound),
            "port"
        );
        assert_eq!(
            lab.fate_in(&changed(48, 2)),
            Err(DropReason::VniNotFound),
            "VNI"
        );
    }

    #[test]
    fn v12_a_peer_of_one_vni_is_none_of_another() {
        let mut other = segment(SegmentConfig {
            vni: Vni::new(2).unwrap(),
            ..config()
        });
        other.peers = Arc::new(vec!["192.0.2.9".parse().unwrap()].into());
        let mut lab = Lab::new(vec![segment(config()), other]);
        assert_eq!(lab.fate_in(&changed(48, 2)), Err(DropReason::UnknownPeer));
        let mut frame = changed(48, 2);
        frame[29] = 9;
        seal(&mut frame);
        assert_eq!(lab.decap(&[frame]).1, [(SegmentId(1), GOOD[50..].to_vec())]);
    }

    #[test]
    fn v11_a_vxlan_header_cut_short_is_told() {
        let mut lab = lab();
        for len in 0..8 {
            assert_eq!(
                lab.fate_in(&outer(&[8, 0, 0, 0, 0, 0, 1, 0][..len])),
                Err(DropReason::HeaderTruncated)
            );
        }
    }

    #[test]
    fn v01_a_clear_i_flag_makes_the_header_invalid() {
        let mut lab = lab();
        assert_eq!(lab.fate_in(&changed(42, 0)), Err(DropReason::NoIFlag));
        assert_eq!(
            lab.fate_in(&changed(42, 0xf7)),
            Err(DropReason::NoIFlag),
            "before reserved bits"
        );
    }

    #[test]
    fn v02_each_of_the_39_reserved_bits_drops_the_frame() {
        let mut lab = lab();
        for bit in (0..64).filter(|bit| *bit != 4 && !(32..56).contains(bit)) {
            let at = 42 + bit / 8;
            assert_eq!(
                lab.fate_in(&changed(at, GOOD[at] | 0x80 >> (bit % 8))),
                Err(DropReason::ReservedBits),
                "bit {bit}"
            );
        }
        assert_eq!(lab.counters.drops(DropReason::ReservedBits), 39);
        for _ in 0..10 {
            assert!(lab.fate_in(&GOOD).is_ok());
        }
    }

    #[test]
    fn v03_every_vni_of_24_bits_is_found() {
        for vni in [0, 1, 0x80_0000, 0xff_ffff] {
            let mut lab = Lab::new(vec![segment(SegmentConfig {
                vni: Vni::new(vni).unwrap(),
                ..config()
            })]);
            let mut frame = GOOD;
            frame[46..49].copy_from_slice(&vni.to_be_bytes()[1..]);
            assert!(lab.fate_in(&frame).is_ok(), "{vni:#x}");
            frame[48] ^= 2;
            assert_eq!(lab.fate_in(&frame), Err(DropReason::VniNotFound));
        }
    }

    #[test]
    fn v06_a_wrong_udp_checksum_matters_only_where_it_is_verified() {
        let good = tunnelled(&inner4(OWN, b"payload"));
        let mut wrong = good.clone();
        wrong[40] ^= 1;
        let mut none = good.clone();
        none[40..42].copy_from_slice(&[0, 0]);
        let mut unfinished = good.clone();
        let pseudo = checksum::pseudo_ipv4(
            [192, 0, 2, 2].into(),
            [192, 0, 2, 1].into(),
            17,
            good.len() as u16 - 34,
        );
        unfinished[40..42].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());

        let mut ignoring = lab();
        let mut verifying = Lab::new(vec![segment(SegmentConfig {
            verify_udp_checksum: true,
            ..config()
        })]);
        for (frame, verified) in [
            (&good, Ok(good[50..].to_vec())),
            (&none, Ok(good[50..].to_vec())),
            (&wrong, Err(DropReason::OuterChecksum)),
            (&unfinished, Err(DropReason::OuterChecksum)),
        ] {
            assert_eq!(ignoring.fate_in(frame), Ok(good[50..].to_vec()));
            assert_eq!(verifying.fate_in(frame), verified);
        }
    }

    #[test]
    fn v11_an_inner_frame_without_a_whole_ethernet_header_is_short() {
        let mut lab = lab();
        for len in 0..14 {
            assert_eq!(
                lab.fate_in(&tunnelled(&GOOD[50..50 + len])),
                Err(DropReason::InnerShort)
            );
        }
        assert_eq!(
            lab.fate_in(&tunnelled(&GOOD[50..64])),
            Ok(GOOD[50..64].to_vec()),
            "ARP, nothing behind it"
        );
    }

    #[test]
    fn v11_a_cut_inner_ip_header_is_truncated() {
        let mut lab = lab();
        let (four, six) = (inner4(OWN, &[]), inner6(OWN, &[]));
        for (frame, whole) in [(four, 34), (six, 54)] {
            for len in 14..whole {
                assert_eq!(
                    lab.fate_in(&tunnelled(&frame[..len])),
                    Err(DropReason::InnerTruncated),
                    "{len} bytes"
                );
            }
            assert!(lab.fate_in(&tunnelled(&frame[..whole])).is_ok());
        }
    }

    /// Elsewhere the kernel loses such a frame by itself, when it takes the tag out.
    #[test]
    fn v11_behind_the_carriers_tags_a_tag_has_two_bytes_behind_it() {
        for (with_gbp, len, expected) in [
            (true, 18, Err(DropReason::InnerTruncated)),
            (true, 19, Err(DropReason::InnerTruncated)),
            (true, 20, Ok(())),
            (false, 18, Ok(())),
        ] {
            let mut lab = Lab::new(vec![segment(SegmentConfig {
                gbp: with_gbp,
                ..config()
            })]);
            let mut inner = GOOD[50..].to_vec();
            inner.splice(12..12, [0x81, 0, 0, 7]);
            let fate = lab.fate_in(&tunnelled(&inner[..len])).map(drop);
            assert_eq!(fate, expected, "{len} bytes, gbp {with_gbp}");
        }
    }

    #[test]
    fn v11_impossible_inner_sources_and_our_own_are_dropped() {
        let mut lab = lab();
        for (mac, reason) in [
            (MacAddr::ZERO, DropReason::InvalidSourceMac),
            (MacAddr::BROADCAST, DropReason::InvalidSourceMac),
            (MacAddr([1, 0, 0x5e, 0, 0, 1]), DropReason::InvalidSourceMac),
            (OWN, DropReason::LocalMac),
        ] {
            let mut frame = GOOD;
            frame[56..62].copy_from_slice(&mac.0);
            assert_eq!(lab.fate_in(&frame), Err(reason), "{mac}");
        }
    }

    #[test]
    fn f04_what_is_behind_the_udp_datagram_and_the_ip_packet_is_cut_off() {
        let mut lab = lab();
        let mut frame = changed(39, 32); // UDP ends two bytes before the IP packet
        frame.extend([0xee; 7]); // Ethernet padding
        assert_eq!(lab.fate_in(&frame), Ok(GOOD[50..66].to_vec()));
    }

    #[test]
    fn v08_tags_are_passed_on_and_nothing_behind_them_is_judged_or_changed() {
        let mut lab = lab();
        let plain = inner4(OWN, b"payload");
        for tags in [
            &[0x81, 0, 0x60, 10][..],
            &[0x88, 0xa8, 0, 20, 0x81, 0, 0, 10],
        ] {
            let inner = [&plain[..12], tags, &plain[12..]].concat();
            let congested = with_class(tunnelled(&inner), 3);
            assert_eq!(lab.fate_in(&congested), Ok(inner.clone()));
            let cut = &inner[..12 + tags.len() + 2 + 5];
            assert_eq!(lab.fate_in(&tunnelled(cut)), Ok(cut.to_vec()));
        }
    }

    #[test]
    fn d04_all_sixteen_cells_in_both_families_with_the_dscp_kept() {
        let mut lab = lab();
        const EXPECTED: [[Option<u8>; 4]; 4] = [
            [Some(0), Some(0), Some(0), None],
            [Some(1), Some(1), Some(1), Some(3)],
            [Some(2), Some(1), Some(2), Some(3)],
            [Some(3), Some(3), Some(3), Some(3)],
        ];
        for plain in [inner4(OWN, b"payload"), inner6(OWN, b"payload")] {
            for (inner, row) in (0u8..).zip(EXPECTED) {
                for (outer, cell) in (0u8..).zip(row) {
                    let frame = with_class(
                        tunnelled(&with_class(plain.clone(), 0xb8 | inner)),
                        0x28 | outer,
                    );
                    let expected = cell
                        .map(|ecn| with_class(plain.clone(), 0xb8 | ecn))
                        .ok_or(DropReason::TunnelEcn);
                    assert_eq!(
                        lab.fate_in(&frame),
                        expected,
                        "inner {inner}, outer {outer}"
                    );
                }
            }
        }
    }

    #[test]
    fn d04_the_ether_type_alone_says_what_is_ip() {
        let mut lab = lab();
        let mut inner = with_class(inner4(OWN, b"payload"), 2);
        inner[14] = 0x55;
        seal_inner(&mut inner);
        let mut marked = inner.clone();
        marked[15] = 3;
        seal_inner(&mut marked);
        let frame = with_class(tunnelled(&inner), 3);
        assert_eq!(lab.fate_in(&frame), Ok(marked));
        let frame = with_class(tunnelled(&with_version(0x55, 0)), 3);
        assert_eq!(lab.fate_in(&frame), Err(DropReason::TunnelEcn));
    }

    /// An inner IPv4 frame with this first byte and TOS.
    fn with_version(version: u8, tos: u8) -> Vec<u8> {
        let mut inner = inner4(OWN, b"payload");
        (inner[14], inner[15]) = (version, tos);
        inner
    }

    fn seal_inner(inner: &mut [u8]) {
        inner[24..26].fill(0);
        let sum = checksum::finish(checksum::sum(&inner[14..34]));
        inner[24..26].copy_from_slice(&sum.to_be_bytes());
    }

    #[test]
    fn d04_congestion_outside_does_not_concern_what_is_not_ip() {
        assert_eq!(lab().fate_in(&changed(15, 3)), Ok(GOOD[50..].to_vec()));
    }

    #[test]
    fn f05_an_unfinished_inner_checksum_is_finished_whatever_congestion_does_to_the_header() {
        let mut lab = lab();
        let right = with_class(inner4(OWN, b"payload"), 2);
        let mut unfinished = right.clone();
        let pseudo = checksum::pseudo_ipv4(
            [10, 244, 1, 2].into(),
            [10, 244, 0, 2].into(),
            17,
            right.len() as u16 - 34,
        );
        unfinished[40..42].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
        let frame = with_class(tunnelled(&unfinished), 3);
        assert_eq!(lab.fate_in(&frame), Ok(with_class(right, 3)));
        assert_eq!(lab.counters.checksums_completed.get(), 1);
    }

    #[test]
    fn a_batch_keeps_its_order_and_each_frame_its_own_fate() {
        let mut lab = lab();
        let marked = |n: u8| changed(67, n);
        let frames: Vec<_> = (0..64)
            .map(|n| {
                if n % 4 == 3 {
                    changed(42, 0)
                } else {
                    marked(n)
                }
            })
            .collect();
        let (verdicts, out) = lab.decap(&frames);
        assert_eq!(
            verdicts
                .iter()
                .filter(|verdict| matches!(verdict, Verdict::Drop(_)))
                .count(),
            16
        );
        let marks: Vec<_> = out.iter().map(|(_, bytes)| bytes[17]).collect();
        let expected: Vec<_> = (0..64).filter(|n| n % 4 != 3).collect();
        assert_eq!(marks, expected);
    }

    #[test]
    fn frames_for_a_segment_without_a_port_are_counted_and_released() {
        let mut lab = lab();
        let (mut batch, mut verdicts) = (Batch::new(), Verdicts::new());
        for _ in 0..3 {
            let mut frame = lab.umem.allocate().unwrap();
            assert!(lab.umem.fill(&mut frame, &GOOD));
            batch.push(frame).unwrap();
        }
        lab.counters.received.add(3);
        decide(&lab.snapshot, &lab.umem, &batch, &mut verdicts);
        apply(
            &lab.snapshot,
            &mut lab.umem,
            &mut batch,
            &verdicts,
            &lab.counters,
            &mut [],
        );
        assert_eq!(lab.counters.drops(DropReason::LinkDown), 3);
        lab.check_balance();
    }

    #[test]
    fn stations_behind_other_vteps_may_be_the_source() {
        let mut frame = GOOD;
        frame[56..62].copy_from_slice(&FAR.0);
        assert!(lab().fate_in(&frame).is_ok());
        assert_eq!(GOOD[56..62], NEAR.0);
    }
}
