//! From which VTEP a frame is, and who is put on record.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::outer::Outer;
use crate::stats::{DropReason, Offender, PeerId, PortCounters};
use crate::table::{PeerCheck, Segment};
use crate::wire::ethernet::EthernetHeader;
use crate::wire::udp;
use crate::wire::vxlan::VxlanHeader;

impl Outer<'_> {
    /// Who the sender is; none for a stranger whom the segment lets in all the same. Nothing vouches for the addresses of a
    /// datagram without a checksum over IPv6, so that these are taken from known VTEPs only (RFC 6936 §5).
    #[inline(always)]
    pub(super) fn judge_source(self, segment: &Segment) -> Result<Option<PeerId>, DropReason> {
        let unprotected = !self.has_checksum() && !self.ip.is_ipv4();
        match (segment.peer(self.ip.source()), segment.config.peer_check) {
            (Some(peer), _) => Ok(Some(peer)),
            (None, PeerCheck::Off | PeerCheck::Log) if !unprotected => Ok(None),
            (None, _) => Err(DropReason::UnknownPeer),
        }
    }
}

/// No host sends from such an address (RFC 1122 §3.2.1.3, RFC 1812 §5.3.7).
#[inline]
pub(super) const fn is_martian_ipv4(source: Ipv4Addr) -> bool {
    let [first, ..] = source.octets();
    first == 0 || source.is_loopback() || source.is_multicast() || source.is_broadcast()
}

/// Nor from such a one (RFC 4291 §2.5.2, §2.5.3, §2.7), nor from an IPv4-mapped one, which stands for an address of IPv4
/// within a host. Stricter than the kernel, whose IPv6 input takes the unspecified and mapped ones and its own (seen on
/// Linux 6.18): none of them can be a VTEP.
#[inline]
pub(super) const fn is_martian_ipv6(source: Ipv6Addr) -> bool {
    source.is_unspecified()
        || source.is_loopback()
        || source.is_multicast()
        || source.to_ipv4_mapped().is_some()
}

/// Puts the sender of a frame, as it came in, on record. The frame is read again: its sender is not worth a place in
/// every verdict.
#[cold]
pub(super) fn note(frame: &[u8], reason: DropReason, delivered: bool, counters: &PortCounters) {
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
