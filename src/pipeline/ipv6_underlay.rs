//! Tests of both directions over an IPv6 underlay, on the same bench as those over IPv4 in `decap` and `encap`.

use std::sync::Arc;

use etherparse::{Ipv6HeaderSlice, PacketBuilder, UdpHeader, UdpHeaderSlice};

use super::Verdict;
use super::lab::{
    FAR, Lab, NEAR, OWN, UNKNOWN, config, config6, inner4, inner6, outer6, segment, tunnelled,
    tunnelled6, with_class,
};
use crate::stats::DropReason;
use crate::table::{FlowLabel, Inherit, SegmentConfig, SegmentId, UdpChecksum, VtepId};
use crate::wire::checksum;

fn lab() -> Lab {
    lab_with(|_| {})
}

fn lab_with(change: impl FnOnce(&mut SegmentConfig)) -> Lab {
    let mut config = config6();
    change(&mut config);
    Lab::new(vec![segment(config)])
}

/// 2001:db8::2 sends 14 bytes of Ethernet and 4 of payload in VNI 1.
const GOOD: [u8; 88] = [
    2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, // Ethernet
    0x60, 0, 0, 0, 0, 34, 17, 64, // IPv6
    0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, // from
    0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, // to
    0x9c, 0x40, 0x21, 0x18, 0, 34, 0xb5, 0xcd, // UDP
    8, 0, 0, 0, 0, 0, 1, 0, // VXLAN
    0x0e, 0, 0, 0, 0, 1, 0x0e, 0, 0, 0, 0, 2, 8, 6, // inner Ethernet
    1, 2, 3, 4,
];

fn changed(at: usize, value: u8) -> Vec<u8> {
    let mut frame = GOOD.to_vec();
    frame[at] = value;
    frame
}

#[test]
fn a_good_frame_is_delivered_without_its_70_bytes_of_outer_headers() {
    let mut verifying = lab_with(|config| config.verify_udp_checksum = true);
    let (verdicts, out) = verifying.decap(&[GOOD.to_vec()]);
    assert_eq!(verdicts, [Verdict::Deliver(SegmentId(0))]);
    assert_eq!(out, [(SegmentId(0), GOOD[70..].to_vec())]);
}

#[test]
fn each_contradiction_in_the_outer_headers_is_malformed() {
    let mut lab = lab();
    let cases = [
        ("EtherType", changed(12, 0x88)),
        ("version", changed(14, 0x40)),
        ("payload length beyond the frame", changed(19, 35)),
        ("payload length without a UDP header", changed(19, 7)),
        ("no payload length", changed(19, 0)),
        ("next header TCP", changed(20, 6)),
        ("hop-by-hop options", changed(20, 0)),
        ("destination options", changed(20, 60)),
        ("a routing header", changed(20, 43)),
        ("UDP length beyond the IP packet", changed(59, 35)),
        ("UDP length below a header", changed(59, 7)),
    ];
    for (name, frame) in cases {
        assert_eq!(
            lab.fate_in(&frame),
            Err(DropReason::OuterMalformed),
            "{name}"
        );
    }
    for len in 1..GOOD.len() {
        assert_eq!(
            lab.fate_in(&GOOD[..len]),
            Err(DropReason::OuterMalformed),
            "{len} bytes"
        );
    }
}

#[test]
fn v07_a_fragment_header_is_told_apart_from_the_malformed() {
    assert_eq!(
        lab().fate_in(&changed(20, 44)),
        Err(DropReason::OuterFragment)
    );
}

#[test]
fn v10_each_impossible_source_is_martian() {
    let mut lab = lab();
    for source in ["::", "::1", "ff02::1", "::ffff:192.0.2.2", "2001:db8::1"] {
        let source: std::net::Ipv6Addr = source.parse().unwrap();
        let mut frame = GOOD.to_vec();
        frame[22..38].copy_from_slice(&source.octets());
        assert_eq!(
            lab.fate_in(&frame),
            Err(DropReason::MartianSource),
            "{source}"
        );
    }
}

#[test]
fn v12_another_source_address_port_or_vni_is_not_ours() {
    let mut lab = lab();
    for (at, value, reason) in [
        (37, 9, DropReason::UnknownPeer),
        (53, 9, DropReason::VniNotFound),
        (57, 0x19, DropReason::VniNotFound),
        (68, 2, DropReason::VniNotFound),
    ] {
        assert_eq!(lab.fate_in(&changed(at, value)), Err(reason), "byte {at}");
    }
}

#[test]
fn dual_stack_devices_with_one_vni_and_port_keep_apart() {
    let mut lab = Lab::new(vec![segment(config()), segment(config6())]);
    let inner = inner4(OWN, b"payload");
    let (_, out) = lab.decap(&[tunnelled6(&inner), tunnelled(&inner)]);
    assert_eq!(out, [(SegmentId(0), inner.clone()), (SegmentId(1), inner)]);
    // A peer of the one family says nothing about the other.
    lab.snapshot.segments[1].peers = Arc::new(vec!["192.0.2.2".parse().unwrap()].into());
    assert_eq!(lab.fate_in(&GOOD), Err(DropReason::UnknownPeer));
}

#[test]
fn u02_a_received_zero_checksum_dies_unless_the_device_allows_it() {
    let mut zero = GOOD.to_vec();
    zero[60..62].fill(0);
    for verify_udp_checksum in [false, true] {
        let mut strict = lab_with(|config| config.verify_udp_checksum = verify_udp_checksum);
        assert_eq!(strict.fate_in(&zero), Err(DropReason::ZeroChecksum6));
        let mut lenient = lab_with(|config| {
            config.verify_udp_checksum = verify_udp_checksum;
            config.accept_udp6_zero_checksum = true;
        });
        assert_eq!(lenient.fate_in(&zero), Ok(GOOD[70..].to_vec()));
        assert_eq!(lenient.fate_in(&GOOD), Ok(GOOD[70..].to_vec()));
    }
}

#[test]
fn u03_an_allowed_zero_checksum_still_needs_a_known_tunnel() {
    let mut lab = lab_with(|config| config.accept_udp6_zero_checksum = true);
    for (at, reason) in [
        (37, DropReason::UnknownPeer),
        (53, DropReason::VniNotFound),
        (68, DropReason::VniNotFound),
    ] {
        let mut frame = changed(at, 9);
        frame[60..62].fill(0);
        assert_eq!(lab.fate_in(&frame), Err(reason));
    }
}

#[test]
fn v06_a_wrong_checksum_matters_only_where_it_is_verified() {
    let mut verifying = lab_with(|config| config.verify_udp_checksum = true);
    let mut unfinished = GOOD.to_vec();
    let addr = |last| std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
    let pseudo = checksum::fold(checksum::pseudo_ipv6(addr(2), addr(1), 17, 34));
    unfinished[60..62].copy_from_slice(&pseudo.to_be_bytes());
    // Each word under the checksum counts, the addresses too.
    for frame in [changed(60, 0), changed(87, 5), changed(54, 0), unfinished] {
        assert_eq!(verifying.fate_in(&frame), Err(DropReason::OuterChecksum));
        assert!(lab().fate_in(&frame).is_ok());
    }
}

#[test]
fn f04_what_is_behind_the_udp_datagram_and_the_ip_packet_is_cut_off() {
    let mut lab = lab();
    let mut frame = changed(59, 32); // UDP ends two bytes before the IP packet
    frame.extend([0xee; 7]);
    assert_eq!(lab.fate_in(&frame), Ok(GOOD[70..86].to_vec()));
    let mut jumbo = changed(59, 0); // a UDP length of 0 is the IP packet's
    jumbo.extend([0xee; 7]);
    assert_eq!(lab.fate_in(&jumbo), Ok(GOOD[70..].to_vec()));
}

#[test]
fn d04_all_sixteen_cells_in_both_inner_families_with_the_dscp_kept() {
    const EXPECTED: [[Option<u8>; 4]; 4] = [
        [Some(0), Some(0), Some(0), None],
        [Some(1), Some(1), Some(1), Some(3)],
        [Some(2), Some(1), Some(2), Some(3)],
        [Some(3), Some(3), Some(3), Some(3)],
    ];
    let mut lab = lab();
    for plain in [inner4(OWN, b"payload"), inner6(OWN, b"payload")] {
        for (inner, row) in (0u8..).zip(EXPECTED) {
            for (outer, cell) in (0u8..).zip(row) {
                let frame = with_class(
                    tunnelled6(&with_class(plain.clone(), 0xb8 | inner)),
                    0x28 | outer,
                );
                let expected = cell
                    .map(|ecn| with_class(plain.clone(), 0xb8 | ecn))
                    .ok_or(DropReason::TunnelEcn);
                assert_eq!(
                    lab.fate_in(&frame),
                    expected,
                    "inner {inner}, outer {outer}"
                );
            }
        }
    }
    assert_eq!(lab.counters.drops(DropReason::TunnelEcn), 2);
}

fn ip(frame: &[u8]) -> etherparse::Ipv6Header {
    Ipv6HeaderSlice::from_slice(&frame[14..])
        .unwrap()
        .to_header()
}

/// Of UDP over IPv6 behind 54 bytes, as an independent parser computes it.
fn right_checksum(frame: &[u8]) -> u16 {
    let udp = UdpHeader {
        checksum: 0,
        ..UdpHeaderSlice::from_slice(&frame[54..])
            .unwrap()
            .to_header()
    };
    udp.calc_checksum_ipv6(&ip(frame), &frame[62..]).unwrap()
}

#[test]
fn both_inner_families_are_sent_with_every_outer_header_right() {
    let mut lab = lab();
    for inner in [inner4(FAR, b"payload"), inner6(FAR, b"payload!")] {
        let (verdicts, sent) = lab.encap(std::slice::from_ref(&inner));
        assert_eq!(verdicts, [Verdict::Encap(VtepId(1))]);
        let frame = &sent[0];
        assert_eq!(
            frame[..14],
            [2, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 1, 0x86, 0xdd]
        );
        let ip = ip(frame);
        assert_eq!((ip.source[15], ip.destination[15]), (1, 3));
        assert_eq!((ip.hop_limit, ip.next_header.0), (64, 17));
        assert_eq!((ip.traffic_class, ip.flow_label.value()), (0, 0));
        assert_eq!(usize::from(ip.payload_length), frame.len() - 54);
        let udp = UdpHeaderSlice::from_slice(&frame[54..]).unwrap();
        assert_eq!(udp.destination_port(), 8472);
        assert_eq!(udp.checksum(), right_checksum(frame), "u1");
        assert_eq!(frame[62..70], [8, 0, 0, 0, 0, 0, 1, 0], "v01, v02, v03");
        assert_eq!(frame[70..], inner[..]);
    }
}

#[test]
fn u01_the_checksum_is_right_for_every_length_and_zero_only_on_demand() {
    let mut computing = lab();
    let mut zero = lab_with(|config| config.udp_checksum = UdpChecksum::Zero);
    for len in 0..100 {
        let inner = inner4(NEAR, &vec![0xa5; len]);
        let frame = computing.fate_out(&inner).unwrap();
        assert_eq!(frame[60..62], right_checksum(&frame).to_be_bytes());
        assert_eq!(zero.fate_out(&inner).unwrap()[60..62], [0, 0]);
    }
}

#[test]
fn d14_traffic_class_and_hop_limit_follow_the_device() {
    let mut fixed = lab_with(|config| {
        (config.tos, config.ttl) = (Inherit::Fixed(0x28), Inherit::Fixed(9));
    });
    let mut inherit = lab_with(|config| {
        (config.tos, config.ttl) = (Inherit::Inner, Inherit::Inner);
        config.ttl_default = 61;
    });
    for (inner, hops) in [(inner4(NEAR, &[]), 63), (inner6(NEAR, &[]), 62)] {
        for (ecn, outer) in [(0, 0), (1, 1), (2, 2), (3, 2)] {
            let frame = with_class(inner.clone(), 0xb8 | ecn);
            let sent = ip(&fixed.fate_out(&frame).unwrap());
            assert_eq!((sent.traffic_class, sent.hop_limit), (0x28 | outer, 9));
            let sent = ip(&inherit.fate_out(&frame).unwrap());
            assert_eq!((sent.traffic_class, sent.hop_limit), (0xb8 | outer, hops));
        }
    }
    let mut arp = vec![0; 42];
    arp[..6].copy_from_slice(&NEAR.0);
    arp[12..14].copy_from_slice(&[8, 6]);
    let sent = ip(&inherit.fate_out(&arp).unwrap());
    assert_eq!(
        (sent.traffic_class, sent.hop_limit),
        (0, 61),
        "nothing to inherit"
    );
}

#[test]
fn d17_the_flow_label_is_fixed_inherited_or_the_flows() {
    let label = |frame: &[u8]| ip(frame).flow_label.value();
    let mut labelled = inner6(NEAR, &[]);
    labelled[15..18].copy_from_slice(&[0x01, 0x23, 0x45]);
    let tagged = [&labelled[..12], &[0x81, 0, 0, 10], &labelled[12..]].concat();
    let plain = inner4(NEAR, &[]);

    let mut fixed = lab_with(|config| config.flow_label = FlowLabel::Fixed(0xabcde));
    let mut inherit = lab_with(|config| config.flow_label = FlowLabel::Inner);
    for (frame, inherited) in [(&labelled, 0x12345), (&tagged, 0x12345), (&plain, 0)] {
        assert_eq!(label(&fixed.fate_out(frame).unwrap()), 0xabcde);
        assert_eq!(label(&inherit.fate_out(frame).unwrap()), inherited);
    }

    let mut hash = lab_with(|config| config.flow_label = FlowLabel::Hash);
    let flow = |port| {
        let mut bytes = Vec::new();
        let ip = PacketBuilder::ethernet2(OWN.0, NEAR.0).ipv4([10, 244, 0, 2], [10, 244, 1, 2], 64);
        ip.tcp(port, 80, 1, 1000).write(&mut bytes, &[]).unwrap();
        bytes
    };
    let mut labels: Vec<_> = (0..200)
        .map(|port| {
            let once = label(&hash.fate_out(&flow(port)).unwrap());
            assert_eq!(once, label(&hash.fate_out(&flow(port)).unwrap()));
            assert_ne!(once, 0);
            once
        })
        .collect();
    labels.sort_unstable();
    labels.dedup();
    assert!(labels.len() > 190, "{} labels for 200 flows", labels.len());
}

#[test]
fn p01_the_outer_packet_fits_the_mtu_to_the_byte_or_dies() {
    let mut lab = lab();
    let headers = inner6(NEAR, &[]).len();
    let fits = inner6(NEAR, &vec![0; 1500 - 56 - headers]);
    assert_eq!(lab.fate_out(&fits).unwrap().len(), 1514);
    let exceeds = inner6(NEAR, &vec![0; 1500 - 56 - headers + 1]);
    assert_eq!(lab.fate_out(&exceeds), Err(DropReason::Oversize));
}

#[test]
fn v09_a_flood_over_ipv6_gives_each_copy_its_own_headers() {
    let mut lab = lab();
    lab.snapshot.segments[0].flood = Arc::new(vec![VtepId(0), VtepId(1)]);
    let inner = inner6(UNKNOWN, b"who is there");
    let (_, sent) = lab.encap(std::slice::from_ref(&inner));
    let to: Vec<_> = sent.iter().map(|frame| ip(frame).destination[15]).collect();
    assert_eq!(to, [2, 3]);
    for frame in &sent {
        assert_eq!(frame[60..62], right_checksum(frame).to_be_bytes());
        assert_eq!(frame[70..], inner[..]);
    }
}

#[test]
fn outer6_is_what_the_literal_frame_says() {
    assert_eq!(outer6(&GOOD[62..]), GOOD);
}
