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
//!
//! The outer headers are in `outer.rs`, who it is from in `vtep.rs`, the inner frame in `inner.rs`, and what `apply` does with a frame
//! in `edit.rs`. [`super::encap`] has the same files.

mod edit;
mod inner;
mod outer;
#[cfg(test)]
mod tests;
mod vtep;

use super::usual::Usual;
use super::{Outbox, Role, Verdict, Verdicts, ahead};
use crate::port::{Batch, Umem};
use crate::prefetch::LINE;
use crate::stats::{DropReason, PortCounters, Shape};
use crate::table::{SegmentId, Snapshot};
use edit::strip;
pub(super) use inner::Pull;
pub(super) use outer::{OuterIp, judge};
use vtep::note;

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
