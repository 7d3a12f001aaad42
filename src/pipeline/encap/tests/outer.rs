//! The outer headers, as an independent parser reads them.

use super::super::super::lab::config6;
use super::*;
use crate::table::UdpChecksum;
use etherparse::{UdpHeader, UdpHeaderSlice};
use std::collections::HashSet;

#[test]
fn a_known_destination_is_sent_to_its_vtep_with_every_header_right() {
    let mut lab = lab();
    let inner = inner4(FAR, b"payload");
    let (verdicts, sent) = lab.encap(std::slice::from_ref(&inner));
    assert_eq!(verdicts, [Verdict::Encap(VtepId(1))]);
    let frame = &sent[0];
    assert_eq!(frame[..14], [2, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 1, 8, 0]);
    let ip = ip(frame);
    assert_eq!(ip.header_checksum, ip.calc_header_checksum());
    assert_eq!(
        (ip.source, ip.destination),
        ([192, 0, 2, 1], [192, 0, 2, 3])
    );
    assert_eq!(
        (ip.time_to_live, ip.dont_fragment, ip.more_fragments),
        (64, false, false)
    );
    assert_eq!(usize::from(ip.total_len), frame.len() - 14);
    let udp = UdpHeaderSlice::from_slice(&frame[34..]).unwrap();
    assert_eq!((udp.destination_port(), udp.checksum()), (8472, 0));
    assert_eq!(usize::from(udp.length()), frame.len() - 34);
    assert_eq!(frame[42..50], [8, 0, 0, 0, 0, 0, 1, 0], "v01, v02, v03");
    assert_eq!(frame[50..], inner[..]);
    assert_eq!(
        (
            lab.counters.forwarded.get(),
            lab.counters.forwarded_bytes.get()
        ),
        (1, frame.len() as u64)
    );
}

#[test]
fn v06_a_computed_udp_checksum_is_what_an_independent_parser_computes() {
    let mut lab = lab_with(|config| config.udp_checksum = UdpChecksum::Compute);
    for len in 0..100 {
        let frame = lab.fate_out(&inner4(NEAR, &vec![0xa5; len])).unwrap();
        let udp = UdpHeaderSlice::from_slice(&frame[34..])
            .unwrap()
            .to_header();
        let right = UdpHeader {
            checksum: 0,
            ..udp.clone()
        }
        .calc_checksum_ipv4(&ip(&frame), &frame[42..]);
        assert_eq!(udp.checksum, right.unwrap());
    }
}

/// The device of these labs finishes what it is asked to, so that the frames have to be the same to the last bit.
#[test]
fn v06_a_checksum_that_is_left_to_the_device_comes_out_as_one_computed_here() {
    let computing = |mut config: SegmentConfig| {
        config.udp_checksum = UdpChecksum::Compute;
        config
    };
    for config in [computing(config()), computing(config6())] {
        let mut flooding = segment(config);
        flooding.flood = Arc::new(vec![VtepId(0), VtepId(1)]);
        let mut here = Lab::new(vec![flooding.clone()]);
        let mut there = Lab::new(vec![flooding]);
        there.port = there.port.with_offload();
        for len in 0..100 {
            for to in [NEAR, FAR, UNKNOWN] {
                let frames = [inner4(to, &vec![0xa5; len]), inner6(to, &[len as u8; 2])];
                assert_eq!(there.encap(&frames), here.encap(&frames));
            }
        }
        assert_eq!(there.counters.flood_copies.get(), 200);
    }
}

#[test]
fn a_checksum_that_nobody_wants_is_left_to_no_device() {
    let mut lab = lab();
    lab.port = lab.port.with_offload();
    let frame = lab.fate_out(&inner4(NEAR, b"payload")).unwrap();
    assert_eq!(frame[40..42], [0, 0]);
}

#[test]
fn p02_every_outer_packet_has_an_identification_of_its_own() {
    let mut lab = flooding(&[0, 1]);
    let (_, sent) = lab.encap(&vec![inner4(UNKNOWN, &[]); 40]);
    let ids: HashSet<_> = sent.iter().map(|frame| ip(frame).identification).collect();
    assert_eq!(ids.len(), 80);
}
