//! Tests of what the operator decides: who may send to us, reserved bits, VLAN tags, congestion marks; in both
//! directions, and over both families where that matters.

use super::Verdict;
use super::lab::{
    FAR, Lab, NEAR, OWN, UNKNOWN, config, config6, inner4, outer, seal, segment, tunnelled,
    tunnelled6, with_class,
};
use crate::stats::{DropReason, Offender};
use crate::table::{EcnEncap, InnerVlan, PeerCheck, SegmentConfig, SegmentId};
use crate::wire::vxlan::USED_BITS;
use crate::wire::{MacAddr, Vni, vxlan};

/// The lab's device with something changed.
fn lab_with(change: impl FnOnce(&mut SegmentConfig)) -> Lab {
    let mut config = config();
    change(&mut config);
    Lab::new(vec![segment(config)])
}

fn checking(peer_check: PeerCheck) -> Lab {
    lab_with(|config| config.peer_check = peer_check)
}

/// From 192.0.2.`host` and the station `source`, to us.
fn from(host: u8, source: MacAddr) -> Vec<u8> {
    let mut inner = inner4(OWN, b"payload");
    inner[6..12].copy_from_slice(&source.0);
    let mut frame = tunnelled(&inner);
    frame[29] = host;
    seal(&mut frame);
    frame
}

fn offender(host: u8, source: MacAddr, reason: DropReason, delivered: bool) -> Offender {
    Offender {
        source: [192, 0, 2, host].into(),
        vni: 1,
        inner_source: Some(source.0),
        reason,
        delivered,
    }
}

/// Who is on record, with the number of frames; the latest first.
fn offenders(lab: &Lab) -> Vec<(Offender, u64)> {
    let records = lab.counters.offenders.read();
    let pairs = records
        .into_iter()
        .map(|record| (record.offender, record.frames));
    pairs.collect()
}

#[test]
fn d02_strict_takes_known_vteps_only_and_keeps_the_others_on_record() {
    let mut lab = checking(PeerCheck::Strict);
    lab.counters.offenders.set_now(77);
    assert!(lab.fate_in(&from(2, NEAR)).is_ok());
    for _ in 0..3 {
        let fate = lab.fate_in(&from(9, NEAR));
        assert_eq!(fate, Err(DropReason::UnknownPeer));
    }
    let expected = offender(9, NEAR, DropReason::UnknownPeer, false);
    assert_eq!(offenders(&lab), [(expected, 3)]);
    assert_eq!(lab.counters.offenders.read()[0].last_ns, 77);
    // What nobody can claim to be: the inner frame has no whole Ethernet header.
    let mut short = outer(&vxlan::header(Vni::new(1).unwrap()));
    short[29] = 8;
    seal(&mut short);
    assert_eq!(lab.fate_in(&short), Err(DropReason::UnknownPeer));
    assert_eq!(offenders(&lab)[0].0.inner_source, None);
}

#[test]
fn d02_strict_mac_takes_stations_only_from_where_the_fdb_has_them() {
    let mut lab = checking(PeerCheck::StrictMac);
    assert!(lab.fate_in(&from(2, NEAR)).is_ok());
    assert!(lab.fate_in(&from(3, FAR)).is_ok());
    for (host, source, reason) in [
        (2, FAR, DropReason::InnerSpoof),
        (3, NEAR, DropReason::InnerSpoof),
        (2, UNKNOWN, DropReason::InnerSpoof),
        (9, NEAR, DropReason::UnknownPeer),
    ] {
        assert_eq!(lab.fate_in(&from(host, source)), Err(reason));
        let expected = offender(host, source, reason, false);
        assert_eq!(offenders(&lab)[0], (expected, 1));
    }
    // What is wrong with the address by itself comes first.
    assert_eq!(lab.fate_in(&from(2, OWN)), Err(DropReason::LocalMac));
    assert_eq!(
        lab.fate_in(&from(2, MacAddr::ZERO)),
        Err(DropReason::InvalidSourceMac)
    );
    assert_eq!(offenders(&lab).len(), 4);
}

#[test]
fn d02_log_delivers_counts_and_keeps_on_record() {
    let mut lab = checking(PeerCheck::Log);
    let (verdicts, out) = lab.decap(&[from(9, UNKNOWN), from(2, NEAR), from(9, UNKNOWN)]);
    let (stranger, known) = (
        Verdict::DeliverStranger(SegmentId(0)),
        Verdict::Deliver(SegmentId(0)),
    );
    assert_eq!(verdicts, [stranger, known, stranger]);
    assert_eq!(out.len(), 3);
    assert_eq!(out[0].1, from(9, UNKNOWN)[50..]);
    assert_eq!(lab.counters.strangers_delivered.get(), 2);
    let expected = offender(9, UNKNOWN, DropReason::UnknownPeer, true);
    assert_eq!(offenders(&lab), [(expected, 2)]);
    // All else that is wrong with a stranger's frame kills it as anybody's.
    assert_eq!(lab.fate_in(&from(9, OWN)), Err(DropReason::LocalMac));
    assert_eq!(lab.counters.strangers_delivered.get(), 2);
}

#[test]
fn d02_off_delivers_as_the_kernel_does() {
    let mut lab = checking(PeerCheck::Off);
    let (verdicts, _) = lab.decap(&[from(9, UNKNOWN)]);
    assert_eq!(verdicts, [Verdict::Deliver(SegmentId(0))]);
    assert_eq!(lab.counters.strangers_delivered.get(), 0);
    assert_eq!(offenders(&lab), []);
}

#[test]
fn u03_without_a_checksum_over_ipv6_the_source_must_be_known_whatever_peer_check_says() {
    let from = |host: u8, checksum: bool| {
        let mut frame = tunnelled6(&inner4(OWN, b"payload"));
        frame[37] = host;
        if !checksum {
            frame[60..62].fill(0);
        }
        frame
    };
    for peer_check in PeerCheck::ALL {
        let mut lab = Lab::new(vec![segment(SegmentConfig {
            accept_udp6_zero_checksum: true,
            peer_check: *peer_check,
            ..config6()
        })]);
        assert!(lab.fate_in(&from(2, false)).is_ok(), "{peer_check:?}");
        let fate = lab.fate_in(&from(9, false));
        assert_eq!(fate, Err(DropReason::UnknownPeer), "{peer_check:?}");
        assert_eq!(offenders(&lab).len(), 1);
        assert!(!offenders(&lab)[0].0.delivered);
        // The checksum is not verified here: that there is one makes the difference.
        let lets_in = matches!(peer_check, PeerCheck::Log | PeerCheck::Off);
        assert_eq!(lab.fate_in(&from(9, true)).is_ok(), lets_in);
    }
    // Over IPv4 a checksum of zero says nothing about the sender.
    assert!(
        checking(PeerCheck::Off)
            .fate_in(&self::from(9, NEAR))
            .is_ok()
    );
}

/// Each of the 39 reserved bits by itself, the first byte's highest as bit 63.
fn reserved_bits() -> impl Iterator<Item = u64> {
    (0..64)
        .map(|bit| 1u64 << bit)
        .filter(|bit| bit & USED_BITS == 0)
}

fn with_bits(bits: u64) -> Vec<u8> {
    let mut frame = from(2, NEAR);
    for (byte, set) in frame[42..50].iter_mut().zip(bits.to_be_bytes()) {
        *byte |= set;
    }
    frame
}

#[test]
fn v02_d01_ignore_delivers_39_of_39() {
    let mut lab = lab_with(|config| config.header_bits = u64::MAX);
    let delivered = reserved_bits().filter(|bit| lab.fate_in(&with_bits(*bit)).is_ok());
    assert_eq!(delivered.count(), 39);
    assert!(lab.fate_in(&with_bits(!USED_BITS)).is_ok());
}

#[test]
fn v02_d01_strict_drops_39_of_39() {
    let mut lab = lab_with(|config| config.header_bits = USED_BITS);
    for bit in reserved_bits() {
        let fate = lab.fate_in(&with_bits(bit));
        assert_eq!(fate, Err(DropReason::ReservedBits), "{bit:#018x}");
    }
    assert_eq!(lab.counters.drops(DropReason::ReservedBits), 39);
    assert!(lab.fate_in(&with_bits(0)).is_ok());
}

#[test]
fn v02_d01_a_mask_lets_exactly_its_bits_through() {
    const MASK: u64 = 0x8100_0010_0000_0081;
    let mut lab = lab_with(|config| config.header_bits = MASK | USED_BITS);
    for bit in reserved_bits() {
        let delivered = lab.fate_in(&with_bits(bit)).is_ok();
        assert_eq!(delivered, bit & MASK != 0, "{bit:#018x}");
    }
    assert!(lab.fate_in(&with_bits(MASK)).is_ok());
    assert!(lab.fate_in(&with_bits(MASK | 0x40)).is_err());
}

/// An inner frame with this many tags.
fn tagged(tags: usize) -> Vec<u8> {
    let plain = inner4(NEAR, b"payload");
    let mut frame = plain[..12].to_vec();
    for tag in [[0x88, 0xa8, 0x60, 10], [0x81, 0, 0x60, 20]]
        .iter()
        .rev()
        .take(tags)
        .rev()
    {
        frame.extend(tag);
    }
    frame.extend(&plain[12..]);
    frame
}

#[test]
fn v08_tagged_frames_are_dropped_in_both_directions_where_that_is_asked_for() {
    let mut lab = lab_with(|config| config.inner_vlan = InnerVlan::Drop);
    for tags in 1..=2 {
        let inner = tagged(tags);
        assert_eq!(lab.fate_out(&inner), Err(DropReason::InnerVlan), "{tags}");
        let fate = lab.fate_in(&tunnelled(&inner));
        assert_eq!(fate, Err(DropReason::InnerVlan), "{tags}");
    }
    // A tag that is cut short is one, too.
    let cut = &tagged(1)[..15];
    assert_eq!(lab.fate_out(cut), Err(DropReason::InnerVlan));
    assert_eq!(lab.fate_in(&tunnelled(cut)), Err(DropReason::InnerVlan));
    assert!(lab.fate_out(&tagged(0)).is_ok());
    assert!(lab.fate_in(&tunnelled(&tagged(0))).is_ok());
}

#[test]
fn v08_tagged_frames_pass_by_default_with_their_priority() {
    let mut lab = lab_with(|_| {});
    for tags in 0..=2 {
        let inner = tagged(tags);
        assert_eq!(lab.fate_in(&tunnelled(&inner)).as_ref(), Ok(&inner));
        assert_eq!(lab.fate_out(&inner).unwrap()[50..], inner);
    }
}

#[test]
fn d03_the_outer_ecn_bits_of_a_marked_frame_are_those_that_were_asked_for() {
    for (mode, outer) in [
        (EcnEncap::Kernel, [0, 1, 2, 2]),
        (EcnEncap::Rfc6040, [0, 1, 2, 3]),
        (EcnEncap::Compat, [0, 0, 0, 0]),
    ] {
        let mut lab = lab_with(|config| config.ecn_encap = mode);
        for (inner, outer) in (0..).zip(outer) {
            let frame = with_class(inner4(NEAR, b"payload"), 0xb8 | inner);
            let sent = lab.fate_out(&frame).unwrap();
            assert_eq!(sent[15], outer, "{mode:?} {inner}");
            assert_eq!(sent[50..], frame, "the inner header stays as it is");
        }
    }
}
