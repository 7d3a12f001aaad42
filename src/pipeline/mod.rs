//! The fate of each frame, decided by pure functions, then the edit; `encap` and `decap` read as mirror images.
//!
//! # A batch's way
//!
//! ```text
//!   underlay ── receive ─▶ Batch ── decap::decide ─▶ Verdicts ── decap::apply ─▶ Outbox of each segment ── flush ─▶ access
//!   access   ── receive ─▶ Batch ── encap::decide ─▶ Verdicts ── encap::apply ─▶ Exit (outbox + port)   ── flush ─▶ underlay
//! ```
//!
//! 1. `decide` reads the frames of a batch and writes one [`Verdict`] each into [`Verdicts`], in the same order. It
//!    changes no byte and counts nothing.
//! 2. `apply` empties the batch. The dead are counted by reason and released; the others are edited in place (outer
//!    headers pushed or pulled, an unfinished inner checksum completed) and put into an [`Outbox`].
//! 3. [`Outbox::flush`] transmits. Only here a frame is counted as forwarded, because only here it is known; what the
//!    port refuses is counted as dropped.
//!
//! # The balance
//!
//! All three take the counters of the port on which the frames **came in**, hence an outbox is flushed before frames of
//! another port are put into it. `received` and `received_bytes` are the worker's to count, the rest is done here:
//! after the flush `received = forwarded + Σ drops` holds for that port.
//!
//! Whatever dies with its bytes at hand goes through [`PortCounters::died`](crate::stats::PortCounters::died), which keeps the last of
//! each reason: as they had come in, or as they would have left, if they die on their way out.
//!
//! A flooded frame goes to every VTEP of the segment's flood list, and one to a multicast address with several
//! destinations to each of those, as copies made one at a time while the outbox is
//! flushed whenever it is full: what limits a flood is the transmit ring and the pool of free frames, not a queue here.
//! The frame's fate is that of the first copy. The others are in `flood_copies` when they were sent and in
//! `flood_copies_lost` when they were not, whatever the reason, and are in no other count.
//!
//! A superframe that is cut here is one frame in these counts as well, and its fate is that of its first segment. The others are
//! in `segments_sent` or in `segments_lost`, and in no other count. Those of one that leaves whole are in `segments_whole`.
//!
//! Whatever is handed to a port is also counted for its peer, as frames of the wire: to whom it goes, or from whom it came. So
//! over all peers of a port's side, `Σ frames = forwarded + flood_copies + segments_sent + segments_whole`, and
//! `Σ bytes = forwarded_bytes + copied_bytes`.
//!
//! # What a worker calls
//!
//! ```text
//!   decap::decide(snapshot, umem, batch, verdicts)
//!   decap::apply(snapshot, umem, batch, verdicts, counters, outboxes)     outboxes: one per SegmentId, empty before
//!   outboxes[i].flush(port, umem, counters, DropReason::TxRingFull)       each; nothing happens for an empty one
//!
//!   carrier::lift(snapshot, segment, umem, batch)              where frames carry marks; nothing happens elsewhere
//!   encap::decide(snapshot, segment, umem, batch, verdicts)
//!   encap::apply(snapshot, segment, umem, batch, verdicts, counters, exit)
//!   exit.flush(umem, counters)
//! ```
//!
//! Where a segment has a lane of superframes, many TCP segments cross the kernel as one superframe:
//!
//! ```text
//!   outboxes[i].split(to_tap, ways.choose(..))    before the flush; each is then flushed to its own port
//!   to_tap.join(umem, trains)                     decapsulated frames of one segment; some wait for the next batch
//!   outbox.flush_trains(trains, tap, umem, ...)   a write for each train that does not wait
//!
//!   encap::decide_superframes, then encap::apply_superframes     in place of `decide` and `apply`: a superframe stays one
//!                              or  encap_cut::apply              it is cut, where nobody behind us would do it
//! ```
//!
//! Where flows may go the direct path, what passes by is told between the two:
//!
//! ```text
//!   sightings::arrivals(snapshot, nic, umem, batch, verdicts, lookout)
//!   sightings::departures::<SUPER>(snapshot, segment, umem, batch, verdicts, lookout)
//! ```
//!
//! [`Exit`] borrows the underlay port, its outbox and the worker's running [`IpIds`]. Where a port is missing, the
//! frames of its outbox go to [`Outbox::discard`].

mod ahead;
pub mod carrier;
pub mod cut;
pub mod decap;
#[cfg(test)]
mod destinations;
mod ecn;
pub mod encap;
pub mod encap_cut;
mod gro;
#[cfg(test)]
mod group_underlay;
#[cfg(test)]
mod ipv6_underlay;
pub mod join;
#[cfg(test)]
mod lab;
pub mod lane;
mod note;
mod outbox;
#[cfg(test)]
mod policies;
pub mod sightings;
#[cfg(test)]
mod superframes;
pub mod unfinished;
mod usual;
mod verdict;

pub use outbox::{Exit, IpIds, Outbox, Role};
pub use verdict::{Verdict, Verdicts};

#[cfg(test)]
mod tests {
    use super::lab::{
        FAR, LOST, Lab, NEAR, OWN, UNKNOWN, config, config6, inner4, inner6, segment, tunnelled,
        tunnelled6,
    };
    use super::{Verdict, unfinished};
    use crate::table::{Df, FlowLabel, Inherit, SegmentConfig, UdpChecksum, VtepId};
    use crate::wire::MacAddr;
    use crate::wire::layers::Layers;
    use proptest::prelude::*;
    use std::net::IpAddr;
    use std::sync::Arc;

    /// The same network seen from 192.0.2.2 or 2001:db8::2: what the lab sends there, this one receives.
    fn far_end(near: &SegmentConfig) -> Lab {
        let (local, peer) = match near.local {
            IpAddr::V4(_) => ("192.0.2.2", "192.0.2.1"),
            IpAddr::V6(_) => ("2001:db8::2", "2001:db8::1"),
        };
        let mut segment = segment(SegmentConfig {
            local: local.parse().unwrap(),
            mac: FAR,
            underlay_mac: MacAddr([2, 0, 0, 0, 0, 2]),
            verify_udp_checksum: true,
            accept_udp6_zero_checksum: near.udp_checksum == UdpChecksum::Zero,
            ..config()
        });
        segment.peers = Arc::new(vec![peer.parse().unwrap()].into());
        Lab::new(vec![segment])
    }

    /// Frames of any bytes, with what makes some of them reach deep.
    fn any_frame() -> impl Strategy<Value = Vec<u8>> {
        let destination = prop::sample::select(vec![
            OWN,
            NEAR,
            FAR,
            LOST,
            UNKNOWN,
            MacAddr::BROADCAST,
            MacAddr::ZERO,
        ]);
        let built = (
            destination,
            prop::collection::vec(any::<u8>(), 0..1400),
            any::<bool>(),
        )
            .prop_map(|(mac, payload, six)| {
                if six {
                    inner6(mac, &payload)
                } else {
                    inner4(mac, &payload)
                }
            });
        let bytes = prop::collection::vec(any::<u8>(), 0..200);
        let flips = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
        (prop_oneof![built, bytes], flips, 0..3u8).prop_map(|(mut frame, flips, tunnel)| {
            frame = match tunnel {
                0 => frame,
                1 => tunnelled(&frame),
                _ => tunnelled6(&frame),
            };
            for (at, flip) in flips {
                if !frame.is_empty() {
                    let at = at.index(frame.len());
                    frame[at] ^= flip;
                }
            }
            frame
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn any_bytes_from_the_underlay_get_one_verdict_and_one_fate(frames in prop::collection::vec(any_frame(), 0..=64)) {
            let mut lab = Lab::new(vec![segment(config()), segment(config6())]);
            let (verdicts, out) = lab.decap(&frames); // checks the balance
            prop_assert_eq!(verdicts.len(), frames.len());
            let delivered = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Deliver(_))).count();
            prop_assert_eq!(delivered, out.len());
        }

        #[test]
        fn any_bytes_from_the_overlay_get_one_verdict_and_one_fate(frames in prop::collection::vec(any_frame(), 0..=64), flood in 0u32..4, six: bool) {
            let mut segment = segment(if six { config6() } else { config() });
            segment.flood = Arc::new((0..flood).map(VtepId).collect());
            let mut lab = Lab::new(vec![segment]);
            let (verdicts, out) = lab.encap(&frames); // checks the balance
            prop_assert_eq!(verdicts.len(), frames.len());
            let floods = verdicts.iter().filter(|verdict| **verdict == Verdict::Flood).count() as u64;
            let copies = lab.counters.flood_copies.get();
            prop_assert_eq!(lab.counters.forwarded.get() + copies, out.len() as u64);
            let wanted = floods * u64::from(flood.saturating_sub(1));
            prop_assert_eq!(copies + lab.counters.flood_copies_lost.get(), wanted);
        }

        #[test]
        fn what_was_encapsulated_comes_out_at_the_far_end_as_it_went_in(
            frame in any_frame(),
            tos in prop_oneof![Just(Inherit::Inner), any::<u8>().prop_map(Inherit::Fixed)],
            ttl in prop_oneof![Just(Inherit::Inner), any::<u8>().prop_map(Inherit::Fixed)],
            df in prop::sample::select(vec![Df::Unset, Df::Set, Df::Inherit]),
            label in prop::sample::select(vec![FlowLabel::Fixed(0xabcde), FlowLabel::Inner, FlowLabel::Hash]),
            compute: bool,
            six: bool,
        ) {
            let mut config = if six { config6() } else { config() };
            config.flow_label = label;
            (config.tos, config.ttl, config.df) = (tos, ttl, df);
            config.udp_checksum = if compute { UdpChecksum::Compute } else { UdpChecksum::Zero };
            let mut far = far_end(&config);
            let mut near = Lab::new(vec![segment(config)]);

            let mut frame = frame;
            let Some(head) = frame.first_chunk_mut::<12>() else { return Ok(()) };
            head[..6].copy_from_slice(&NEAR.0);
            head[6..].copy_from_slice(&OWN.0);
            let Some(layers) = Layers::parse(&frame) else { return Ok(()) };
            let Ok(sent) = near.fate_out(&frame) else { return Ok(()) };
            // The one thing that may change on the way.
            unfinished::complete(&mut frame, &layers);
            prop_assert_eq!(far.fate_in(&sent), Ok(frame));
        }
    }
}
