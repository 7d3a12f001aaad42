//! What the outer headers die of.

use super::super::super::lab::outer;
use super::*;
use crate::wire::Vni;

#[test]
fn each_contradiction_in_the_outer_headers_is_malformed() {
    let mut lab = lab();
    let cases = [
        ("EtherType", changed(12, 0x86)),
        ("version", changed(14, 0x65)),
        ("options", changed(14, 0x46)),
        ("header too short", changed(14, 0x44)),
        ("total length beyond the frame", changed(17, 55)),
        ("total length without a UDP header", changed(17, 27)),
        ("total length without an IP header", changed(17, 19)),
        ("protocol", changed(23, 6)),
        ("UDP length beyond the IP packet", changed(39, 35)),
        ("UDP length below a header", changed(39, 7)),
    ];
    for (name, frame) in cases {
        assert_eq!(
            lab.fate_in(&frame),
            Err(DropReason::OuterMalformed),
            "{name}"
        );
    }
    let mut frame = GOOD;
    frame[25] ^= 1;
    assert_eq!(
        lab.fate_in(&frame),
        Err(DropReason::OuterMalformed),
        "header checksum"
    );
}

#[test]
fn a_frame_cut_at_any_byte_dies() {
    let mut lab = lab();
    for len in 1..GOOD.len() {
        assert_eq!(
            lab.fate_in(&GOOD[..len]),
            Err(DropReason::OuterMalformed),
            "{len} bytes"
        );
    }
}

#[test]
fn v07_first_middle_and_last_fragment_are_told_apart_from_the_malformed() {
    let mut lab = lab();
    for (flags, offset) in [(0x20, 0), (0x20, 100), (0, 100)] {
        let mut frame = changed(20, flags);
        frame[21] = offset;
        seal(&mut frame);
        assert_eq!(lab.fate_in(&frame), Err(DropReason::OuterFragment));
    }
    assert!(lab.fate_in(&changed(20, 0x40)).is_ok(), "DF is no fragment");
}

#[test]
fn a_total_length_without_the_header_is_judged_before_fragments_and_sources() {
    let mut lab = lab();
    for total_len in [0, 19] {
        let mut frame = changed(17, total_len);
        frame[20] = 0x20; // A first fragment,
        frame[26..30].copy_from_slice(&[192, 0, 2, 1]); // from ourselves.
        seal(&mut frame);
        assert_eq!(lab.fate_in(&frame), Err(DropReason::OuterMalformed));
    }
}

#[test]
fn v12_a_frame_to_another_station_is_not_for_us_and_one_to_a_group_is() {
    let mut lab = lab();
    assert_eq!(lab.fate_in(&changed(5, 9)), Err(DropReason::OtherHost));
    let mut to_all = GOOD.to_vec();
    to_all[..6].fill(0xff);
    assert_eq!(lab.fate_in(&to_all), Ok(GOOD[50..].to_vec()));
}

#[test]
fn v12_another_source_address_port_or_vni_is_not_ours() {
    let mut lab = lab();
    assert_eq!(lab.fate_in(&changed(29, 9)), Err(DropReason::UnknownPeer));
    assert_eq!(
        lab.fate_in(&changed(33, 9)),
        Err(DropReason::VniNotFound),
        "destination address"
    );
    assert_eq!(
        lab.fate_in(&changed(37, 0x19)),
        Err(DropReason::VniNotFound),
        "port"
    );
    assert_eq!(
        lab.fate_in(&changed(48, 2)),
        Err(DropReason::VniNotFound),
        "VNI"
    );
}

#[test]
fn v11_a_vxlan_header_cut_short_is_told() {
    let mut lab = lab();
    for len in 0..8 {
        assert_eq!(
            lab.fate_in(&outer(&[8, 0, 0, 0, 0, 0, 1, 0][..len])),
            Err(DropReason::HeaderTruncated)
        );
    }
}

#[test]
fn v01_a_clear_i_flag_makes_the_header_invalid() {
    let mut lab = lab();
    assert_eq!(lab.fate_in(&changed(42, 0)), Err(DropReason::NoIFlag));
    assert_eq!(
        lab.fate_in(&changed(42, 0xf7)),
        Err(DropReason::NoIFlag),
        "before reserved bits"
    );
}

#[test]
fn v02_each_of_the_39_reserved_bits_drops_the_frame() {
    let mut lab = lab();
    for bit in (0..64).filter(|bit| *bit != 4 && !(32..56).contains(bit)) {
        let at = 42 + bit / 8;
        assert_eq!(
            lab.fate_in(&changed(at, GOOD[at] | 0x80 >> (bit % 8))),
            Err(DropReason::ReservedBits),
            "bit {bit}"
        );
    }
    assert_eq!(lab.counters.drops(DropReason::ReservedBits), 39);
    for _ in 0..10 {
        assert!(lab.fate_in(&GOOD).is_ok());
    }
}

#[test]
fn v03_every_vni_of_24_bits_is_found() {
    for vni in [0, 1, 0x80_0000, 0xff_ffff] {
        let mut lab = Lab::new(vec![segment(SegmentConfig {
            vni: Vni::new(vni).unwrap(),
            ..config()
        })]);
        let mut frame = GOOD;
        frame[46..49].copy_from_slice(&vni.to_be_bytes()[1..]);
        assert!(lab.fate_in(&frame).is_ok(), "{vni:#x}");
        frame[48] ^= 2;
        assert_eq!(lab.fate_in(&frame), Err(DropReason::VniNotFound));
    }
}

#[test]
fn v06_a_wrong_udp_checksum_matters_only_where_it_is_verified() {
    let good = tunnelled(&inner4(OWN, b"payload"));
    let mut wrong = good.clone();
    wrong[40] ^= 1;
    let mut none = good.clone();
    none[40..42].copy_from_slice(&[0, 0]);
    let mut unfinished = good.clone();
    let pseudo = checksum::pseudo_ipv4(
        [192, 0, 2, 2].into(),
        [192, 0, 2, 1].into(),
        17,
        good.len() as u16 - 34,
    );
    unfinished[40..42].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());

    let mut ignoring = lab();
    let mut verifying = Lab::new(vec![segment(SegmentConfig {
        verify_udp_checksum: true,
        ..config()
    })]);
    for (frame, verified) in [
        (&good, Ok(good[50..].to_vec())),
        (&none, Ok(good[50..].to_vec())),
        (&wrong, Err(DropReason::OuterChecksum)),
        (&unfinished, Err(DropReason::OuterChecksum)),
    ] {
        assert_eq!(ignoring.fate_in(frame), Ok(good[50..].to_vec()));
        assert_eq!(verifying.fate_in(frame), verified);
    }
}
