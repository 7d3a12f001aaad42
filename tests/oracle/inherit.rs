//! TTL and TOS of the outer header (D14): fixed or the inner header's, for each family inside and outside, with and without
//! a tag. The 24 rows of the kernel's `l2_tos_ttl_inherit.sh`.

use std::sync::Mutex;

use super::bytes::{ETHER_ARP, ETHER_IPV4, ETHER_IPV6, Inner, arp, ipv4, ipv6, udp};
use super::compare::Pair;
use super::outer::{Family, class_and_ttl};
use super::rows::{Shared, cells, leaves};
use super::setting::Setting;

const INHERIT: &str = "ttl inherit tos inherit";
const FIXED: &str = "ttl 55 tos 0x50";

/// By family and attributes.
static PAIRS: [[Shared; 2]; 2] = [
    [
        Shared::new(|| Mutex::new(Pair::new(Setting::with(INHERIT)))),
        Shared::new(|| Mutex::new(Pair::new(Setting::with(FIXED)))),
    ],
    [
        Shared::new(|| Mutex::new(Pair::new(Setting::with6(INHERIT)))),
        Shared::new(|| Mutex::new(Pair::new(Setting::with6(FIXED)))),
    ],
];

#[derive(Clone, Copy)]
enum Way {
    Inherit,
    Fixed,
}
use Way::{Fixed, Inherit};

/// Inner TOS 0xba: DSCP 46 and ECT(0). Inner TTL 77.
#[derive(Clone, Copy)]
enum Carried {
    V4,
    V6,
    Other,
}
use Carried::{Other, V4, V6};

fn row(family: Family, way: Way, carried: Carried, tagged: bool, tos: u8, ttl: u8) {
    let inner = match carried {
        V4 => Inner::with(ETHER_IPV4, ipv4(0xba, 77, 0, 17, &udp(b"payload"))),
        V6 => Inner::with(ETHER_IPV6, ipv6(0xba, 77, 59, b"payload")),
        Other => Inner::with(ETHER_ARP, arp()),
    };
    let tags: &[(u16, u16)] = if tagged { &[(0x8100, 0x2064)] } else { &[] };
    let pair = &PAIRS[family as usize][way as usize];
    let frame = leaves(pair, inner.outbound().tagged(tags).bytes());
    assert_eq!(class_and_ttl(&frame, family), (tos, ttl));
}

macro_rules! rows {
    ($($module:ident $family:expr;)*) => {
        $(mod $module {
            use super::*;

            cells! {
                d14_inherit_ipv4 row($family, Inherit, V4, false, 0xba, 77);
                d14_fixed_ipv4 row($family, Fixed, V4, false, 0x52, 55);
                d14_inherit_ipv4_tagged row($family, Inherit, V4, true, 0xba, 77);
                d14_fixed_ipv4_tagged row($family, Fixed, V4, true, 0x52, 55);
                d14_inherit_ipv6 row($family, Inherit, V6, false, 0xba, 77);
                d14_fixed_ipv6 row($family, Fixed, V6, false, 0x52, 55);
                d14_inherit_ipv6_tagged row($family, Inherit, V6, true, 0xba, 77);
                d14_fixed_ipv6_tagged row($family, Fixed, V6, true, 0x52, 55);
                d14_inherit_other row($family, Inherit, Other, false, 0, 64);
                d14_fixed_other row($family, Fixed, Other, false, 0x50, 55);
                d14_inherit_other_tagged row($family, Inherit, Other, true, 0, 64);
                d14_fixed_other_tagged row($family, Fixed, Other, true, 0x50, 55);
            }
        })*
    };
}

rows! {
    over_ipv4 Family::V4;
    over_ipv6 Family::V6;
}
