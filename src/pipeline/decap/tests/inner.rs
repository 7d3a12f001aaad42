//! What inner frames die of.

use super::super::super::lab::inner6;
use super::*;
use crate::wire::MacAddr;

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
