//! From the underlay to the overlay: the outer headers are judged from the outside in, then pulled off.
//!
//! The order is that of a frame's way through the kernel: IP and UDP input, then `vxlan_rcv` (which looks the VNI up
//! before it judges reserved bits). Steering sends only what looked like ours when it arrived; here everything is judged
//! again, because the table may have changed since, and because a program elsewhere is no reason to trust bytes.
//!
//! | # | judged | dies as |
//! |---|---|---|
//! | 1 | outer Ethernet and IPv4: whole, no options, header checksum, lengths, UDP | `outer_malformed` |
//! | 2 | outer fragment | `outer_fragment` |
//! | 3 | outer source: zero, loopback, group, broadcast, our own | `martian_source` |
//! | 4 | UDP length: at least a header, not beyond the IP packet (what is behind it is cut off) | `outer_malformed` |
//! | 5 | VXLAN header whole; I flag; address, port and VNI ours | `hdr_truncated`, `no_i_flag`, `vni_not_found` |
//! | 6 | UDP checksum, where the segment asks for it | `outer_csum` |
//! | 7 | reserved bits | `reserved_bits` |
//! | 8 | outer source a known VTEP of the segment | `unknown_peer` |
//! | 9 | inner Ethernet header whole; source not our own, not zero, no group | `inner_short`, `local_mac`, `invalid_source_mac` |
//! | 10 | inner IP header whole | `inner_truncated` |
//! | 11 | ECN | `tunnel_ecn` |
//!
//! Behind a VLAN tag the inner IP header is not looked at in 10 and 11 (as in the kernel: the frame's protocol is then
//! the tag's). Tags are passed on. An outer IPv6 header has its place in `Outer::parse` and `Edit::read`.

use std::net::{IpAddr, Ipv4Addr};

use super::{Outbox, Role, Verdict, Verdicts, ecn, unfinished};
use crate::port::{Batch, Frame, Umem};
use crate::stats::{DropReason, PortCounters};
use crate::table::{OUTER_IPV4_LEN, Segment, SegmentId, Snapshot};
use crate::wire::ethernet::{self, EthernetHeader};
use crate::wire::ipv4::{self, Ipv4Header};
use crate::wire::ipv6::{self, Ipv6Header};
use crate::wire::layers::{Layers, Network, Place};
use crate::wire::udp::{self, UdpHeader};
use crate::wire::vxlan::{self, VxlanHeader};
use crate::wire::{MacAddr, checksum};

/// Judges a batch that came from the underlay. Writes one verdict a frame: `Deliver` or `Drop`.
pub fn decide(snapshot: &Snapshot, umem: &Umem, batch: &Batch, verdicts: &mut Verdicts) {
    verdicts.judge(batch.iter(), |frame| {
        match judge(snapshot, umem.bytes(frame)) {
            Ok(segment) => Verdict::Deliver(segment),
            Err(reason) => Verdict::Drop(reason),
        }
    });
}

/// Carries the verdicts out: frames lose their outer headers and go to the outbox of their segment, `out[SegmentId]`;
/// the dead are counted and released. The batch is empty afterwards.
pub fn apply(
    umem: &mut Umem,
    batch: &mut Batch,
    verdicts: &Verdicts,
    counters: &PortCounters,
    out: &mut [Outbox],
) {
    for (index, mut frame) in batch.drain().enumerate() {
        let delivered = match verdicts.on(index) {
            Verdict::Deliver(segment) => strip(umem, &mut frame, counters).and(Ok(segment)),
            Verdict::Drop(reason) => Err(reason),
            // Never the fate of a frame from the underlay: that would send it back (split horizon).
            Verdict::Encap(_) | Verdict::Flood => Err(DropReason::NoTxTarget),
        };
        let dead = match delivered {
            Ok(segment) => match out.get_mut(usize::from(segment.0)) {
                Some(outbox) => outbox
                    .push(frame, Role::First)
                    .err()
                    .map(|frame| (frame, DropReason::TxRingFull)),
                None => Some((frame, DropReason::LinkDown)),
            },
            Err(reason) => Some((frame, reason)),
        };
        if let Some((frame, reason)) = dead {
            counters.dropped(reason, 1);
            umem.release(frame);
        }
    }
}

/// The outer headers of a frame that may be ours.
struct Outer<'a> {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    port: u16,
    traffic_class: u8,
    udp_checksum: u16,
    /// Header and payload, as long as the UDP header says.
    datagram: &'a [u8],
}

#[inline]
fn judge(snapshot: &Snapshot, frame: &[u8]) -> Result<SegmentId, DropReason> {
    let outer = Outer::parse(frame)?;
    let payload = outer.datagram.get(udp::LEN..).unwrap_or(&[]);
    let (vxlan, inner) = VxlanHeader::parse(payload).ok_or(DropReason::HeaderTruncated)?;
    if !vxlan.i_flag() {
        return Err(DropReason::NoIFlag);
    }
    let id = snapshot
        .find(IpAddr::V4(outer.destination), outer.port, vxlan.vni())
        .ok_or(DropReason::VniNotFound)?;
    let segment = snapshot.segment(id).ok_or(DropReason::VniNotFound)?;
    if segment.config.verify_udp_checksum && !outer.checksum_holds() {
        return Err(DropReason::OuterChecksum);
    }
    if vxlan.reserved_bits() {
        return Err(DropReason::ReservedBits);
    }
    if segment
        .peers
        .binary_search(&IpAddr::V4(outer.source))
        .is_err()
    {
        return Err(DropReason::UnknownPeer);
    }
    judge_inner(segment, inner, outer.traffic_class)?;
    Ok(id)
}

impl<'a> Outer<'a> {
    #[inline]
    fn parse(frame: &'a [u8]) -> Result<Self, DropReason> {
        let (ethernet, packet) = EthernetHeader::parse(frame).ok_or(DropReason::OuterMalformed)?;
        let header = Ipv4Header::parse(packet).ok_or(DropReason::OuterMalformed)?;
        let sound = ethernet.ether_type() == ethernet::IPV4
            && header.version() == 4
            && header.header_len() == ipv4::LEN
            && packet
                .first_chunk::<{ ipv4::LEN }>()
                .is_some_and(|header| checksum::sum(header) == 0xffff)
            && header.total_len() <= packet.len()
            && header.protocol() == udp::PROTOCOL;
        if !sound {
            return Err(DropReason::OuterMalformed);
        }
        if header.is_fragment() {
            return Err(DropReason::OuterFragment);
        }
        let (source, destination) = (header.source(), header.destination());
        if is_martian(source) || source == destination {
            return Err(DropReason::MartianSource);
        }
        let datagram = packet
            .get(ipv4::LEN..header.total_len())
            .ok_or(DropReason::OuterMalformed)?;
        let udp = UdpHeader::parse(datagram).ok_or(DropReason::OuterMalformed)?;
        let datagram = match datagram.get(..udp.len()) {
            Some(datagram) if datagram.len() >= udp::LEN => datagram,
            _ => return Err(DropReason::OuterMalformed),
        };
        Ok(Self {
            source,
            destination,
            port: udp.destination_port(),
            traffic_class: header.tos(),
            udp_checksum: udp.checksum(),
            datagram,
        })
    }

    /// Whether the UDP checksum is right, or is none (RFC 768).
    fn checksum_holds(&self) -> bool {
        let len = self.datagram.len() as u16; // Never more than the IP header's 16 bits say.
        let pseudo = checksum::pseudo_ipv4(self.source, self.destination, udp::PROTOCOL, len);
        self.udp_checksum == 0 || checksum::fold(pseudo + checksum::sum(self.datagram)) == 0xffff
    }
}

/// No host sends from such an address (RFC 1122 §3.2.1.3, RFC 1812 §5.3.7).
#[inline]
const fn is_martian(source: Ipv4Addr) -> bool {
    let [first, ..] = source.octets();
    first == 0 || source.is_loopback() || source.is_multicast() || source.is_broadcast()
}

#[inline]
fn judge_inner(segment: &Segment, inner: &[u8], outer_class: u8) -> Result<(), DropReason> {
    let (header, rest) = EthernetHeader::parse(inner).ok_or(DropReason::InnerShort)?;
    let source: MacAddr = header.source();
    if source == segment.config.mac {
        return Err(DropReason::LocalMac);
    }
    if source.is_multicast() || source.is_zero() {
        return Err(DropReason::InvalidSourceMac);
    }
    let class = match header.ether_type() {
        ethernet::IPV4 => {
            let header = Ipv4Header::parse(rest).ok_or(DropReason::InnerTruncated)?;
            (header.version() == 4).then_some(header.tos())
        }
        ethernet::IPV6 => {
            let header = Ipv6Header::parse(rest).ok_or(DropReason::InnerTruncated)?;
            (header.version() == 6).then_some(header.traffic_class())
        }
        _ => None,
    };
    match class {
        Some(class) if ecn::decapsulate(class, outer_class).is_none() => Err(DropReason::TunnelEcn),
        _ => Ok(()),
    }
}

/// What the outer headers of a judged frame say about the inner one.
struct Edit {
    traffic_class: u8,
    outer_len: usize,
    inner_len: usize,
}

impl Edit {
    #[inline]
    fn read(frame: &[u8]) -> Option<Self> {
        let header = Ipv4Header::parse(frame.get(ethernet::LEN..)?)?;
        let udp = UdpHeader::parse(frame.get(ethernet::LEN + ipv4::LEN..)?)?;
        Some(Self {
            traffic_class: header.tos(),
            outer_len: OUTER_IPV4_LEN,
            inner_len: udp.len().checked_sub(udp::LEN + vxlan::LEN)?,
        })
    }
}

/// Pulls the outer headers off, cuts what is behind the UDP datagram, finishes the inner checksum and marks congestion.
#[inline]
fn strip(umem: &mut Umem, frame: &mut Frame, counters: &PortCounters) -> Result<(), DropReason> {
    let edit = Edit::read(umem.bytes(frame)).ok_or(DropReason::OuterMalformed)?;
    if !umem.pull(frame, edit.outer_len) || !umem.truncate(frame, edit.inner_len) {
        return Err(DropReason::OuterMalformed);
    }
    let bytes = umem.bytes_mut(frame);
    if let Some(layers) = Layers::parse(bytes) {
        counters
            .checksums_completed
            .add(u64::from(unfinished::complete(bytes, &layers)));
        mark(
            bytes,
            layers.place,
            layers.traffic_class,
            edit.traffic_class,
        );
    }
    Ok(())
}

/// Writes the ECN bits that RFC 6040 §4.2 asks for, where they differ.
#[inline]
fn mark(frame: &mut [u8], place: Place, inner_class: u8, outer_class: u8) {
    let Some(bits) = ecn::decapsulate(inner_class, outer_class) else {
        return;
    };
    let class = inner_class & !ecn::MASK | bits;
    if class == inner_class || place.tags != 0 {
        return;
    }
    let Some(header) = frame.get_mut(place.offset..) else {
        return;
    };
    match place.network {
        Network::Ipv4 => ipv4::set_tos(header, class),
        Network::Ipv6 => ipv6::set_traffic_class(header, class),
        Network::Cut | Network::Other => {}
    }
}
