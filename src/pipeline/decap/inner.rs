//! What is behind the outer headers: the inner frame, judged.

use super::super::{ecn, unfinished};
use super::outer::OuterIp;
use crate::stats::{DropReason, PeerId};
use crate::table::{InnerVlan, PeerCheck, Segment, SegmentConfig};
use crate::wire::ethernet::EthernetHeader;
use crate::wire::layers::{Layers, Network};
use crate::wire::{MacAddr, vlan};

/// How much of a frame is outer headers and how much the inner frame, and whether that is whole: read by `decide`, carried out by
/// `apply`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pipeline) struct Pull {
    pub(super) inner_len: u16,
    pub(super) outer_len: u8,
    pub(super) outer_class: u8,
    /// From whom it is.
    pub(in crate::pipeline) peer: PeerId,
    /// The inner frame has bytes to be changed: an unfinished checksum, or its ECN bits.
    pub(super) amend: bool,
}

impl Pull {
    /// Of a frame that nothing is pulled off.
    pub(in crate::pipeline) const NOTHING: Self = Self {
        inner_len: 0,
        outer_len: 0,
        outer_class: 0,
        peer: PeerId(0),
        amend: false,
    };

    /// Judges an inner frame behind an outer IP header that has been judged, and becomes what is pulled off. Written in place, as in
    /// [`Verdicts`].
    #[inline(always)]
    pub(in crate::pipeline) fn read(
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

/// The kernel takes a tag out only when 2 bytes follow its EtherType, and loses the frame else (`skb_vlan_untag`). Behind the
/// tags of the carrier it would not look.
const UNTAG_LEN: usize = vlan::LEN + 2;

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
