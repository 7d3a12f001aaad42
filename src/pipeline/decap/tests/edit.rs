//! What is cut off, and what is amended.

use super::super::super::lab::inner6;
use super::*;

#[test]
fn f04_what_is_behind_the_udp_datagram_and_the_ip_packet_is_cut_off() {
    let mut lab = lab();
    let mut frame = changed(39, 32); // UDP ends two bytes before the IP packet
    frame.extend([0xee; 7]); // Ethernet padding
    assert_eq!(lab.fate_in(&frame), Ok(GOOD[50..66].to_vec()));
}

#[test]
fn d04_all_sixteen_cells_in_both_families_with_the_dscp_kept() {
    let mut lab = lab();
    const EXPECTED: [[Option<u8>; 4]; 4] = [
        [Some(0), Some(0), Some(0), None],
        [Some(1), Some(1), Some(1), Some(3)],
        [Some(2), Some(1), Some(2), Some(3)],
        [Some(3), Some(3), Some(3), Some(3)],
    ];
    for plain in [inner4(OWN, b"payload"), inner6(OWN, b"payload")] {
        for (inner, row) in (0u8..).zip(EXPECTED) {
            for (outer, cell) in (0u8..).zip(row) {
                let frame = with_class(
                    tunnelled(&with_class(plain.clone(), 0xb8 | inner)),
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
}

#[test]
fn d04_the_ether_type_alone_says_what_is_ip() {
    let mut lab = lab();
    let mut inner = with_class(inner4(OWN, b"payload"), 2);
    inner[14] = 0x55;
    seal_inner(&mut inner);
    let mut marked = inner.clone();
    marked[15] = 3;
    seal_inner(&mut marked);
    let frame = with_class(tunnelled(&inner), 3);
    assert_eq!(lab.fate_in(&frame), Ok(marked));
    let frame = with_class(tunnelled(&with_version(0x55, 0)), 3);
    assert_eq!(lab.fate_in(&frame), Err(DropReason::TunnelEcn));
}

/// An inner IPv4 frame with this first byte and TOS.
fn with_version(version: u8, tos: u8) -> Vec<u8> {
    let mut inner = inner4(OWN, b"payload");
    (inner[14], inner[15]) = (version, tos);
    inner
}

fn seal_inner(inner: &mut [u8]) {
    inner[24..26].fill(0);
    let sum = checksum::finish(checksum::sum(&inner[14..34]));
    inner[24..26].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn d04_congestion_outside_does_not_concern_what_is_not_ip() {
    assert_eq!(lab().fate_in(&changed(15, 3)), Ok(GOOD[50..].to_vec()));
}

#[test]
fn f05_an_unfinished_inner_checksum_is_finished_whatever_congestion_does_to_the_header() {
    let mut lab = lab();
    let right = with_class(inner4(OWN, b"payload"), 2);
    let mut unfinished = right.clone();
    let pseudo = checksum::pseudo_ipv4(
        [10, 244, 1, 2].into(),
        [10, 244, 0, 2].into(),
        17,
        right.len() as u16 - 34,
    );
    unfinished[40..42].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
    let frame = with_class(tunnelled(&unfinished), 3);
    assert_eq!(lab.fate_in(&frame), Ok(with_class(right, 3)));
    assert_eq!(lab.counters.checksums_completed.get(), 1);
}
