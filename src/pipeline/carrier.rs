//! The mark of a frame on its way over the access device, in two tags of its own.
//!
//! ```text
//!   | destination | source | 88a8 mark, upper half | 88a8 mark, lower half | the frame as it was: tags of its own, EtherType ...
//! ```
//!
//! A device with the Group Policy extension sends the mark that the kernel has put on a frame, and marks what it receives.
//! The mark is a note beside the frame, and AF_XDP hands over bytes only. What BPF can put into the bytes and take out again
//! in both directions, whatever the protocol and also of a superframe, is a VLAN tag: the other ways to make room
//! (`bpf_skb_change_head`, `bpf_skb_adjust_room`) cannot take it back from frames that are not IP. The tags are
//! those of a service, which no host stacks by itself, and they are there for a mark of 0, too, so that a frame's own tags
//! are never taken for them.
//!
//! Between [`lift`] and the look-up of the header, the mark lies in front of the frame, in room that is free until the
//! outer headers are written there: it needs no place in any list beside the batch.

use crate::port::{Batch, Frame, Umem};
use crate::table::{SegmentId, Snapshot};
use crate::wire::{ethernet, vlan};

/// What the carrier adds to a frame, in bytes.
pub const LEN: usize = 2 * vlan::LEN;
/// Both Ethernet addresses.
const ADDRESSES_LEN: usize = ethernet::LEN - 2;
const MARK_LEN: usize = size_of::<u32>();

/// Takes the carrier off every frame that came from the access port of this segment, if its device has the extension. The
/// marks are kept for `encap`.
#[inline]
pub fn lift(snapshot: &Snapshot, segment: SegmentId, umem: &mut Umem, batch: &mut Batch) {
    let segment = snapshot.segment(segment);
    if !segment.is_some_and(|segment| segment.config.gbp) {
        return;
    }
    for frame in batch.iter_mut() {
        let mark = take(umem, frame).unwrap_or(0);
        if let Some(bytes) = umem.push(frame, MARK_LEN) {
            if let Some(place) = bytes.first_chunk_mut() {
                *place = mark.to_ne_bytes();
            }
            umem.pull(frame, MARK_LEN);
        }
    }
}

/// The mark of a frame that [`lift`] has seen.
#[inline]
pub(super) fn mark_of(umem: &mut Umem, frame: &mut Frame) -> u32 {
    let Some(bytes) = umem.push(frame, MARK_LEN) else {
        return 0;
    };
    let mark = bytes
        .first_chunk()
        .map_or(0, |mark| u32::from_ne_bytes(*mark));
    umem.pull(frame, MARK_LEN);
    mark
}

/// Puts the carrier on a frame; `false`, and nothing changed, when there is no room, or no Ethernet header.
#[inline]
pub(super) fn put(umem: &mut Umem, frame: &mut Frame, mark: u32) -> bool {
    if frame.len() < ethernet::LEN {
        return false;
    }
    let Some(bytes) = umem.push(frame, LEN) else {
        return false;
    };
    if let Some(head) = bytes.first_chunk_mut::<{ LEN + ADDRESSES_LEN }>() {
        head.copy_within(LEN.., 0);
        let [a, b, c, d] = mark.to_be_bytes();
        let [high, low] = vlan::SERVICE.to_be_bytes();
        if let Some(tags) = head.last_chunk_mut() {
            *tags = [high, low, a, b, high, low, c, d];
        }
    }
    true
}

/// Takes the carrier off; none, and nothing changed, when the frame has none.
#[inline]
fn take(umem: &mut Umem, frame: &mut Frame) -> Option<u32> {
    let head = umem.bytes_mut(frame);
    let head = head.first_chunk_mut::<{ LEN + ADDRESSES_LEN }>()?;
    let [t0, t1, a, b, t2, t3, c, d] = *head.last_chunk::<LEN>()?;
    if [[t0, t1], [t2, t3]] != [vlan::SERVICE.to_be_bytes(); 2] {
        return None;
    }
    head.copy_within(..ADDRESSES_LEN, LEN);
    umem.pull(frame, LEN)
        .then_some(u32::from_be_bytes([a, b, c, d]))
}

#[cfg(test)]
mod tests {
    use super::super::lab::{
        Lab, NEAR, OWN, UNKNOWN, config, config6, inner4, inner6, outer, segment,
    };
    use super::{put, take};
    use crate::stats::DropReason;
    use crate::table::{SegmentConfig, UdpChecksum, VtepId};
    use crate::wire::{checksum, ethernet, gbp, vxlan};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn lab(mut config: SegmentConfig) -> Lab {
        config.gbp = true;
        config.header_bits = vxlan::USED_BITS | gbp::USED_BITS;
        config.udp_checksum = UdpChecksum::Compute;
        let mut segment = segment(config);
        segment.flood = Arc::new(vec![VtepId(0), VtepId(1)]);
        Lab::new(vec![segment])
    }

    fn carrying(mark: u32, frame: &[u8]) -> Vec<u8> {
        let [a, b, c, d] = mark.to_be_bytes();
        let tags = [0x88, 0xa8, a, b, 0x88, 0xa8, c, d];
        [&frame[..12], &tags, &frame[12..]].concat()
    }

    /// With no tag, one and two of its own.
    fn tagged(frame: &[u8]) -> [Vec<u8>; 3] {
        let one = [&frame[..12], &[0x81, 0, 0, 10], &frame[12..]].concat();
        let two = [&one[..12], &[0x88, 0xa8, 0, 20], &one[12..]].concat();
        [frame.to_vec(), one, two]
    }

    #[test]
    fn a_mark_becomes_the_groups_policy_and_the_frame_is_sent_as_it_was() {
        for (mark, word) in [
            (0, [0x08, 0, 0, 0]),
            (0x1234, [0x88, 0, 0x12, 0x34]),
            (0x0048_0001, [0x88, 0x48, 0, 1]),
            (0xff00_0000, [0x88, 0, 0, 0]),
        ] {
            for frame in tagged(&inner4(NEAR, b"payload")) {
                let sent = lab(config()).fate_out(&carrying(mark, &frame)).unwrap();
                assert_eq!(sent[42..46], word, "{mark:#x}");
                assert_eq!(sent[46..50], [0, 0, 1, 0]);
                assert_eq!(sent[50..], frame);
                let pseudo = checksum::pseudo_ipv4(
                    [192, 0, 2, 1].into(),
                    [192, 0, 2, 2].into(),
                    17,
                    sent.len() as u16 - 34,
                );
                let sum = checksum::fold(pseudo + checksum::sum(&sent[34..]));
                assert_eq!(sum, 0xffff, "the UDP checksum covers it");
            }
            let frame = inner6(NEAR, b"payload");
            let sent = lab(config6()).fate_out(&carrying(mark, &frame)).unwrap();
            assert_eq!(sent[62..66], word, "{mark:#x}");
            assert_eq!(sent[70..], frame);
            let addrs = ["2001:db8::1", "2001:db8::2"].map(|addr| addr.parse().unwrap());
            let pseudo = checksum::pseudo_ipv6(addrs[0], addrs[1], 17, sent.len() as u16 - 54);
            assert_eq!(checksum::fold(pseudo + checksum::sum(&sent[54..])), 0xffff);
        }
    }

    #[test]
    fn every_copy_of_a_flooded_frame_has_the_mark_and_each_frame_its_own() {
        let mut lab = lab(config());
        let frames = [7, 0, 9].map(|mark| carrying(mark, &inner4(UNKNOWN, &[])));
        let (_, sent) = lab.encap(&frames);
        let words: Vec<_> = sent.iter().map(|frame| (frame[42], frame[45])).collect();
        let expected = [(0x88, 7), (0x88, 7), (8, 0), (8, 0), (0x88, 9), (0x88, 9)];
        assert_eq!(words, expected);
    }

    #[test]
    fn a_received_policy_becomes_the_mark_and_any_other_header_the_mark_0() {
        for (word, mark) in [
            ([0x08, 0, 0, 0], 0),
            ([0x88, 0, 0x12, 0x34], 0x1234),
            ([0x88, 0x48, 0, 1], 0x0048_0001),
            ([0x88, 0xff, 0, 1], 0x0048_0001),
            ([0x08, 0xff, 0xff, 0xff], 0),
        ] {
            for frame in tagged(&inner4(OWN, b"payload")) {
                let payload = [&word[..], &[0, 0, 1, 0], &frame].concat();
                let out = lab(config()).fate_in(&outer(&payload));
                assert_eq!(out, Ok(carrying(mark, &frame)), "{word:x?}");
            }
        }
        let shortest = [&OWN.0[..], &NEAR.0, &[8, 6]].concat();
        let payload = [&[0x88, 0, 0, 5, 0, 0, 1, 0], &shortest[..]].concat();
        let out = lab(config()).fate_in(&outer(&payload));
        assert_eq!(out, Ok(carrying(5, &shortest)));
    }

    #[test]
    fn v02_without_the_extension_its_bits_are_reserved_and_with_it_the_others_still_are() {
        let frame = inner4(OWN, &[]);
        let with = |word: [u8; 4]| outer(&[&word[..], &[0, 0, 1, 0], &frame].concat());
        let mut plain = Lab::new(vec![segment(config())]);
        let policy = with([0x88, 0, 0, 1]);
        assert_eq!(plain.fate_in(&policy), Err(DropReason::ReservedBits));
        let mut lab = lab(config());
        for bit in [0x40, 0x20, 0x10, 4, 2, 1] {
            let fate = lab.fate_in(&with([0x88 | bit, 0, 0, 1]));
            assert_eq!(fate, Err(DropReason::ReservedBits), "{bit:#x}");
        }
    }

    proptest! {
        /// Whatever the frame is, and whatever tags it has: it comes back, and its mark with it.
        #[test]
        fn what_was_put_on_is_taken_off(
            frame in prop::collection::vec(prop_oneof![Just(0x88), Just(0xa8), any::<u8>()], 1..200),
            mark: u32,
        ) {
            let mut lab = lab(config());
            let umem = &mut lab.umem;
            let mut held = umem.allocate().unwrap();
            assert!(umem.fill(&mut held, &frame));
            let whole = frame.len() >= ethernet::LEN;
            prop_assert_eq!(put(umem, &mut held, mark), whole);
            if whole {
                let carried = carrying(mark, &frame);
                prop_assert_eq!(umem.bytes(&held), &carried[..]);
                prop_assert_eq!(take(umem, &mut held), Some(mark));
            }
            prop_assert_eq!(umem.bytes(&held), &frame[..]);
            umem.release(held);
        }
    }

    #[test]
    fn a_frame_without_the_carrier_has_no_mark_and_keeps_its_bytes() {
        let mut lab = lab(config());
        for frame in tagged(&inner4(NEAR, &[])) {
            let sent = lab.fate_out(&frame).unwrap();
            assert_eq!((sent[42], &sent[50..]), (8, &frame[..]));
        }
        // Cut within the second tag.
        let cut = &carrying(7, &inner4(NEAR, &[]))[..19];
        assert_eq!(lab.fate_out(cut).unwrap()[50..], *cut);
    }
}
