//! RFC 6040 (D3, D4): sixteen cells on the way in, four on the way out, for each inner family in each outer one.

use super::bytes::{self, ETHER_ARP, Inner, arp};
use super::outer::{Family, Outer, class_and_ttl};
use super::rows::{Fate, arrives_at, cells, leaves, plain, plain_pair, v4, v6};
use super::setting::Segment;
use super::site::Entry;

/// What the inner bits are after decapsulation; `None`: dropped.
fn decapsulated(family: Family, of: fn(u8) -> Vec<u8>, inner: u8, outer: u8, after: Option<u8>) {
    let mut header = Outer::to(&Segment::over(family));
    header.tos = 0x28 | outer;
    let frame = header.around(&of(0xb8 | inner));
    arrives_at(
        plain_pair(family),
        frame,
        match after {
            Some(after) => Fate::Delivered(of(0xb8 | after)),
            None => Fate::Dropped("tunnel_ecn"),
        },
    );
}

/// What the outer bits are after encapsulation. The DSCP is the device's: 0.
fn encapsulated(family: Family, of: fn(u8) -> Vec<u8>, inner: u8, outer: u8) {
    let frame = leaves(plain_pair(family), turned(of(0xb8 | inner)));
    let (class, _) = class_and_ttl(&frame, family);
    assert_eq!(class, outer);
}

fn turned(mut frame: Vec<u8>) -> Vec<u8> {
    frame[..12].rotate_left(6);
    frame
}

/// Congestion outside, and no mark inside.
fn unmarked(family: Family, inner: Vec<u8>) {
    let mut header = Outer::to(&Segment::over(family));
    header.tos = 3;
    arrives_at(
        plain_pair(family),
        header.around(&inner),
        Fate::Delivered(inner),
    );
}

/// The header checksum follows the mark, also at the two zeroes of one's complement (RFC 1624 §3), and a wrong one stays as
/// wrong as it was.
fn checksum_follows(family: Family) {
    let mut frames = Vec::new();
    for field in (0..=0xffff).filter(|field| !(0x0100..0xff00).contains(field) || field % 64 == 0) {
        for (inner, outer) in [(1, 3), (2, 3), (2, 1)] {
            let mut frame = v4(0xb8 | inner);
            bytes::put16(&mut frame, 14 + 10, field);
            let mut header = Outer::to(&Segment::over(family));
            header.tos = outer;
            frames.push(header.around(&frame).into());
        }
    }
    let mut pair = plain_pair(family).get();
    pair.agree(Entry::Wire, &frames);
    pair.settle();
}

fn arp_frame() -> Vec<u8> {
    Inner::with(ETHER_ARP, arp()).bytes()
}

fn tagged() -> Vec<u8> {
    let mut inner = plain();
    inner.splice(12..12, [0x81, 0, 0, 10]);
    inner
}

macro_rules! table {
    ($($module:ident $family:expr;)*) => {
        $(mod $module {
            use super::*;

            cells! {
                d04_inner_ipv4_0_outer_0 decapsulated($family, v4, 0, 0, Some(0));
                d04_inner_ipv4_0_outer_1 decapsulated($family, v4, 0, 1, Some(0));
                d04_inner_ipv4_0_outer_2 decapsulated($family, v4, 0, 2, Some(0));
                d04_inner_ipv4_0_outer_3 decapsulated($family, v4, 0, 3, None);
                d04_inner_ipv4_1_outer_0 decapsulated($family, v4, 1, 0, Some(1));
                d04_inner_ipv4_1_outer_1 decapsulated($family, v4, 1, 1, Some(1));
                d04_inner_ipv4_1_outer_2 decapsulated($family, v4, 1, 2, Some(1));
                d04_inner_ipv4_1_outer_3 decapsulated($family, v4, 1, 3, Some(3));
                d04_inner_ipv4_2_outer_0 decapsulated($family, v4, 2, 0, Some(2));
                d04_inner_ipv4_2_outer_1 decapsulated($family, v4, 2, 1, Some(1));
                d04_inner_ipv4_2_outer_2 decapsulated($family, v4, 2, 2, Some(2));
                d04_inner_ipv4_2_outer_3 decapsulated($family, v4, 2, 3, Some(3));
                d04_inner_ipv4_3_outer_0 decapsulated($family, v4, 3, 0, Some(3));
                d04_inner_ipv4_3_outer_1 decapsulated($family, v4, 3, 1, Some(3));
                d04_inner_ipv4_3_outer_2 decapsulated($family, v4, 3, 2, Some(3));
                d04_inner_ipv4_3_outer_3 decapsulated($family, v4, 3, 3, Some(3));
                d04_inner_ipv6_0_outer_0 decapsulated($family, v6, 0, 0, Some(0));
                d04_inner_ipv6_0_outer_1 decapsulated($family, v6, 0, 1, Some(0));
                d04_inner_ipv6_0_outer_2 decapsulated($family, v6, 0, 2, Some(0));
                d04_inner_ipv6_0_outer_3 decapsulated($family, v6, 0, 3, None);
                d04_inner_ipv6_1_outer_0 decapsulated($family, v6, 1, 0, Some(1));
                d04_inner_ipv6_1_outer_1 decapsulated($family, v6, 1, 1, Some(1));
                d04_inner_ipv6_1_outer_2 decapsulated($family, v6, 1, 2, Some(1));
                d04_inner_ipv6_1_outer_3 decapsulated($family, v6, 1, 3, Some(3));
                d04_inner_ipv6_2_outer_0 decapsulated($family, v6, 2, 0, Some(2));
                d04_inner_ipv6_2_outer_1 decapsulated($family, v6, 2, 1, Some(1));
                d04_inner_ipv6_2_outer_2 decapsulated($family, v6, 2, 2, Some(2));
                d04_inner_ipv6_2_outer_3 decapsulated($family, v6, 2, 3, Some(3));
                d04_inner_ipv6_3_outer_0 decapsulated($family, v6, 3, 0, Some(3));
                d04_inner_ipv6_3_outer_1 decapsulated($family, v6, 3, 1, Some(3));
                d04_inner_ipv6_3_outer_2 decapsulated($family, v6, 3, 2, Some(3));
                d04_inner_ipv6_3_outer_3 decapsulated($family, v6, 3, 3, Some(3));
                d03_inner_ipv4_0 encapsulated($family, v4, 0, 0);
                d03_inner_ipv4_1 encapsulated($family, v4, 1, 1);
                d03_inner_ipv4_2 encapsulated($family, v4, 2, 2);
                d03_inner_ipv4_3 encapsulated($family, v4, 3, 2);
                d03_inner_ipv6_0 encapsulated($family, v6, 0, 0);
                d03_inner_ipv6_1 encapsulated($family, v6, 1, 1);
                d03_inner_ipv6_2 encapsulated($family, v6, 2, 2);
                d03_inner_ipv6_3 encapsulated($family, v6, 3, 2);
                d03_what_is_not_ip_has_no_congestion encapsulated($family, |_| arp_frame(), 0, 0);
                d04_congestion_does_not_concern_what_is_not_ip unmarked($family, arp_frame());
                d04_congestion_does_not_concern_what_is_behind_a_tag unmarked($family, tagged());
                d04_the_checksum_follows_the_mark_as_in_the_kernel checksum_follows($family);
            }
        })*
    };
}

table! {
    over_ipv4 Family::V4;
    over_ipv6 Family::V6;
}
