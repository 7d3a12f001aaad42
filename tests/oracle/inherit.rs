//! TTL and TOS of the outer header (D14): fixed or the inner header's, for each family inside, with and without a tag. As the
//! rows of the kernel's `l2_tos_ttl_inherit.sh`, over IPv4; the rows over IPv6 belong to the sites with an IPv6 underlay.

use std::sync::Mutex;

use super::bytes::{ETHER_ARP, ETHER_IPV4, ETHER_IPV6, IP, Inner, arp, ipv4, ipv6, udp};
use super::compare::Pair;
use super::rows::{Shared, cells, leaves};
use super::site::Setting;

static INHERIT: Shared =
    Shared::new(|| Mutex::new(Pair::new(Setting::with("ttl inherit tos inherit"))));
static FIXED: Shared = Shared::new(|| Mutex::new(Pair::new(Setting::with("ttl 55 tos 0x50"))));

/// Inner TOS 0xba: DSCP 46 and ECT(0). Inner TTL 77.
#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
    Other,
}
use Family::{Other, V4, V6};

fn row(pair: &Shared, family: Family, tagged: bool, tos: u8, ttl: u8) {
    let inner = match family {
        V4 => Inner::with(ETHER_IPV4, ipv4(0xba, 77, 0, 17, &udp(b"payload"))),
        V6 => Inner::with(ETHER_IPV6, ipv6(0xba, 77, 59, b"payload")),
        Other => Inner::with(ETHER_ARP, arp()),
    };
    let tags: &[(u16, u16)] = if tagged { &[(0x8100, 0x2064)] } else { &[] };
    let frame = leaves(pair, inner.outbound().tagged(tags).bytes());
    assert_eq!((frame[IP + 1], frame[IP + 8]), (tos, ttl));
}

cells! {
    d14_inherit_ipv4 row(&INHERIT, V4, false, 0xba, 77);
    d14_fixed_ipv4 row(&FIXED, V4, false, 0x52, 55);
    d14_inherit_ipv4_tagged row(&INHERIT, V4, true, 0xba, 77);
    d14_fixed_ipv4_tagged row(&FIXED, V4, true, 0x52, 55);
    d14_inherit_ipv6 row(&INHERIT, V6, false, 0xba, 77);
    d14_fixed_ipv6 row(&FIXED, V6, false, 0x52, 55);
    d14_inherit_ipv6_tagged row(&INHERIT, V6, true, 0xba, 77);
    d14_fixed_ipv6_tagged row(&FIXED, V6, true, 0x52, 55);
    d14_inherit_other row(&INHERIT, Other, false, 0, 64);
    d14_fixed_other row(&FIXED, Other, false, 0x50, 55);
    d14_inherit_other_tagged row(&INHERIT, Other, true, 0, 64);
    d14_fixed_other_tagged row(&FIXED, Other, true, 0x50, 55);
}
