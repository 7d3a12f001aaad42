//! Frames lose what they owed to the underlay: outer headers pulled off, congestion marked, checksums finished.

use super::super::{carrier, ecn, unfinished};
use super::inner::Pull;
use crate::port::{Frame, Umem};
use crate::stats::{DropReason, PortCounters};
use crate::table::SegmentConfig;
use crate::wire::layers::{Layers, Network};
use crate::wire::vxlan::{self, VxlanHeader};
use crate::wire::{gbp, ipv4, ipv6};

/// Pulls the outer headers off, cuts what is behind the UDP datagram, amends what is left, and puts the mark on that the VXLAN
/// header stands for.
#[inline(always)]
pub(super) fn strip(
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
