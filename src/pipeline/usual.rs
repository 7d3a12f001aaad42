//! The outer headers that nearly every frame to a segment has, compared in a few words instead of field by field.
//!
//! ```text
//!   |0                 |8                 |16                |24               |32             |   |42          50|
//!   | destination  ... | .. type, version | .. fragment, pr. | .. destination  | .. port     ..|   | VXLAN header |
//! ```
//!
//! What is named must be the same in all of them; the rest is free, or judged by itself. A frame that is in any way unusual is
//! judged by [`super::decap`] field by field, which also knows what it dies of: here is only said of what lives that it does, and
//! only where the longer way would come to the same.

use std::net::IpAddr;

use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::stats::PeerId;
use crate::table::{OUTER_IPV4_LEN, Segment, SegmentId, Snapshot};
use crate::wire::ethernet::{self, EthernetHeader};
use crate::wire::ipv4::{self, Ipv4Header};
use crate::wire::udp::{self, UdpHeader};
use crate::wire::vxlan::{self, VxlanHeader};

/// The segment whose frames are looked for.
pub(super) struct Usual<'a> {
    pub(super) id: SegmentId,
    pub(super) segment: &'a Segment,
    /// What is the same in all headers, and the mask of these bits; both as the bytes lie in the frame.
    same: [u64; WORDS],
    mask: [u64; WORDS],
}

const WORDS: usize = 6;

/// The headers in front of an inner frame.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Headers {
    pub(super) ethernet: EthernetHeader,
    pub(super) ip: Ipv4Header,
    pub(super) udp: UdpHeader,
    pub(super) vxlan: VxlanHeader,
}

const _: () = assert!(size_of::<Headers>() == OUTER_IPV4_LEN);

impl<'a> Usual<'a> {
    /// Of this segment; none where there is no such segment, where another stands before it, or where it is not on an IPv4
    /// underlay.
    #[inline]
    pub(super) fn of(snapshot: &'a Snapshot, id: SegmentId) -> Option<Self> {
        let segment = snapshot.segment(id)?;
        let config = &*segment.config;
        let IpAddr::V4(local) = config.local else {
            return None;
        };
        if snapshot.find(config.local, config.port, config.vni) != Some(id) {
            return None;
        }
        let (local, port) = (u64::from(local.to_bits()), u64::from(config.port));
        let vni = vxlan::header(config.vni);
        let (same, mask) = (
            [
                config.underlay_mac.to_u64() << 16,
                u64::from(ethernet::IPV4) << 16 | 0x4500,
                u64::from(udp::PROTOCOL),
                local >> 16,
                local << 48 | port << 16,
                u64::from_be_bytes(vni),
            ],
            [
                0xffff_ffff_ffff_0000,
                0xffff_ff00,
                u64::from(ipv4::FRAGMENT) << 16 | 0xff,
                0xffff,
                0xffff_0000_ffff_0000,
                vxlan::USED_BITS | !config.header_bits,
            ],
        );
        Some(Self {
            id,
            segment,
            same: same.map(u64::to_be),
            mask: mask.map(u64::to_be),
        })
    }

    /// The headers, the inner frame and its sender, if the frame is a usual one of the segment, all of whose outer headers are as they should
    /// be, from one of its VTEPs.
    #[inline(always)]
    pub(super) fn read<'f>(&self, frame: &'f [u8]) -> Option<(&'f Headers, &'f [u8], PeerId)> {
        let (head, _) = frame.split_first_chunk::<OUTER_IPV4_LEN>()?;
        let (headers, inner) = Headers::ref_from_prefix(frame).ok()?;
        let (ip, udp) = (&headers.ip, &headers.udp);
        let source = ip.source();
        let [first, ..] = source.octets();
        let ip_len = frame.len() - ethernet::LEN;
        let is_usual = self.differences(head) == 0
            && ip.total_len() == ip_len
            && udp.len() == ip_len - ipv4::LEN
            && ip.checksum_holds()
            // Neither "this network", nor loopback, nor a group, nor anything beyond.
            && matches!(first, 1..=126 | 128..=223)
            && source != ip.destination()
            && (udp.checksum() == 0 || !self.segment.config.verify_udp_checksum);
        if !is_usual {
            return None;
        }
        let peer = self.segment.peer(source.into())?;
        Some((headers, inner, peer))
    }

    /// The bits in which these headers are not as all are.
    #[inline(always)]
    fn differences(&self, head: &[u8; OUTER_IPV4_LEN]) -> u64 {
        let words = words(head);
        let places = words.iter().zip(&self.same).zip(&self.mask);
        places.fold(0, |bits, ((word, same), mask)| bits | (word ^ same) & mask)
    }
}

/// The words that are compared: five from the start, and the VXLAN header.
#[inline(always)]
fn words(head: &[u8; OUTER_IPV4_LEN]) -> [u64; WORDS] {
    let (words, _) = head.as_chunks::<8>();
    let word = |n| {
        words
            .get(n)
            .map_or(0, |word: &[u8; 8]| u64::from_ne_bytes(*word))
    };
    let vxlan = head
        .last_chunk()
        .map_or(0, |word| u64::from_ne_bytes(*word));
    [word(0), word(1), word(2), word(3), word(4), vxlan]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Verdict;
    use super::super::decap::{self, OuterIp, Pull};
    use super::super::lab::{self, OWN, UNKNOWN, config, config6, inner4, inner6, seal, tunnelled};
    use super::*;
    use crate::stats::DropReason;
    use crate::table::{PeerCheck, SegmentConfig};
    use crate::wire::gbp;

    fn snapshot(configs: impl IntoIterator<Item = SegmentConfig>) -> Snapshot {
        Snapshot {
            generation: 1,
            segments: configs.into_iter().map(lab::segment).collect(),
        }
    }

    /// What the short way says; nothing, if the frame is no usual one.
    fn short(usual: &Usual<'_>, frame: &[u8]) -> Option<Result<Pull, DropReason>> {
        let (headers, inner, peer) = usual.read(frame)?;
        let mut pull = Pull::NOTHING;
        pull.peer = peer;
        let outer = OuterIp::Ipv4(&headers.ip);
        Some(pull.read(usual.segment, inner, outer).and(Ok(pull)))
    }

    #[test]
    fn frames_of_both_families_within_are_usual() {
        let snapshot = snapshot([config()]);
        let usual = Usual::of(&snapshot, SegmentId(0)).unwrap();
        for inner in [inner4(OWN, b"4"), inner6(OWN, b"6"), inner4(UNKNOWN, &[])] {
            assert!(short(&usual, &tunnelled(&inner)).is_some_and(|pull| pull.is_ok()));
        }
    }

    #[test]
    fn no_segment_on_ipv6_and_none_behind_another_of_the_same_kind_has_usual_frames() {
        let snapshot = snapshot([config(), config(), config6()]);
        let has = |id| Usual::of(&snapshot, SegmentId(id)).is_some();
        assert_eq!([0, 1, 2, 3].map(has), [true, false, false, false]);
    }

    proptest! {
        /// Of what the short way speaks, the long way says the same.
        #[test]
        fn both_ways_come_to_the_same(
            changes in prop::collection::vec((0usize..100, any::<u8>()), 0..3),
            bit in prop::option::of((0usize..100, 0u32..8)),
            sealed: bool,
            verify_udp_checksum: bool,
            with_policy: bool,
            peer_check in prop::sample::select(PeerCheck::ALL),
        ) {
            let header_bits = vxlan::USED_BITS | if with_policy { gbp::USED_BITS } else { 0 };
            let snapshot = snapshot([SegmentConfig {
                verify_udp_checksum, peer_check, header_bits, ..config()
            }]);
            let mut frame = tunnelled(&inner4(OWN, b"some more bytes"));
            let changed = !changes.is_empty() || bit.is_some();
            for (at, value) in changes {
                frame[at] = value;
            }
            if let Some((at, bit)) = bit {
                frame[at] ^= 1 << bit;
            }
            if sealed && frame[14] == 0x45 {
                seal(&mut frame);
            }
            let usual = Usual::of(&snapshot, SegmentId(0)).unwrap();
            let mut pull = Pull::NOTHING;
            let long = decap::judge(&snapshot, &frame, &mut pull);
            match short(&usual, &frame) {
                Some(Ok(short)) => {
                    prop_assert_eq!(long, Ok(Verdict::Deliver(SegmentId(0))));
                    prop_assert_eq!(short, pull);
                }
                Some(Err(reason)) => prop_assert_eq!(long, Err(reason)),
                None => prop_assert!(changed || verify_udp_checksum),
            }
        }
    }
}
