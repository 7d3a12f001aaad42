//! Frames that are too long for the path, and whose sender must not hear of it (P6): no ICMP error about an ICMP error, about
//! what went to a group, about a fragment, or to an address that is no host's. They fare as what may be cut.

use super::bytes::{IP, put16};
use super::compare::Pair;
use super::mtu::{self, CUT, Carried, FULL, LOST, Narrow, Seen, fate, told};
use super::outer::{self, Family};
use super::rows::{Shared, cells};
use super::setting::Overlay;
use super::support::end::Input;

/// By the family outside.
static PAIRS: [Shared; 2] = [
    Shared::new(|| mtu::pair(Overlay::Bridged, Family::V4, "df unset", Narrow::Link)),
    Shared::new(|| mtu::pair(Overlay::Bridged, Family::V6, "df unset", Narrow::Link)),
];

/// A full frame whose IP packet was changed.
fn changed(carried: Carried, change: impl FnOnce(&mut [u8])) -> Input {
    let mut frame = mtu::frame(Overlay::Bridged, carried, 1, FULL).bytes;
    change(&mut frame[IP..]);
    outer::finish_ip(&mut frame);
    Input::from(frame)
}

fn check(pair: &mut Pair, frame: &Input, expected: Seen) {
    assert_eq!(fate(pair, frame), (expected, true));
}

/// Nobody is told of the changed frame; of the frame as it was, the sender is.
fn silent(family: Family, carried: Carried, change: fn(&mut [u8])) {
    let mut pair = PAIRS[family as usize].get();
    check(&mut pair, &changed(carried, |_| {}), told(fits(family)));
    let unheard = match family {
        Family::V4 => CUT,
        Family::V6 => LOST,
    };
    check(&mut pair, &changed(carried, change), unheard);
}

/// The sender is told of the changed frame, too.
fn heard(family: Family, carried: Carried, change: fn(&mut [u8])) {
    let mut pair = PAIRS[family as usize].get();
    check(&mut pair, &changed(carried, change), told(fits(family)));
}

/// What the narrow path leaves for an inner packet.
const fn fits(family: Family) -> usize {
    mtu::PATH - family.outer_len()
}

/// IPv4: an ICMP message of this type.
fn icmp(packet: &mut [u8], kind: u8) {
    packet[9] = 1;
    packet[20..22].copy_from_slice(&[kind, 0]);
}

/// IPv6: an ICMPv6 message of this type.
fn icmp6(packet: &mut [u8], kind: u8) {
    packet[6] = 58;
    packet[40..42].copy_from_slice(&[kind, 0]);
}

macro_rules! table {
    ($($module:ident $family:expr;)*) => {
        $(mod $module {
            use super::*;
            use Carried::{V4Df, V6};

            cells! {
                p06_none_about_an_icmp_error silent($family, V4Df, |packet| icmp(packet, 3));
                p06_one_about_an_icmp_echo heard($family, V4Df, |packet| icmp(packet, 8));
                p06_none_about_a_first_fragment silent($family, V4Df, |packet| put16(packet, 6, 0x6000));
                p06_none_about_a_further_fragment silent($family, V4Df, |packet| put16(packet, 6, 0x4010));
                p06_none_about_ipv4_to_a_group
                    silent($family, V4Df, |packet| packet[16..20].copy_from_slice(&[224, 0, 0, 5]));
                p06_none_about_ipv4_to_all
                    silent($family, V4Df, |packet| packet[16..20].fill(255));
                p06_none_to_the_zero_address silent($family, V4Df, |packet| packet[12..16].fill(0));
                p06_none_to_an_ipv4_group
                    silent($family, V4Df, |packet| packet[12..16].copy_from_slice(&[224, 0, 0, 5]));
                p06_none_to_ipv4_loopback
                    silent($family, V4Df, |packet| packet[12..16].copy_from_slice(&[127, 0, 0, 1]));
                p06_none_about_an_icmpv6_error silent($family, V6, |packet| icmp6(packet, 1));
                p06_one_about_an_icmpv6_echo heard($family, V6, |packet| icmp6(packet, 128));
                p06_one_about_ipv6_to_a_group
                    heard($family, V6, |packet| packet[24..26].copy_from_slice(&[0xff, 0x0e]));
                p06_none_to_the_unspecified_address silent($family, V6, |packet| packet[8..24].fill(0));
                p06_none_to_an_ipv6_group
                    silent($family, V6, |packet| packet[8..10].copy_from_slice(&[0xff, 0x0e]));
            }
        })*
    };
}

table! {
    over_ipv4 Family::V4;
    over_ipv6 Family::V6;
}
