//! Who may send, when the operator asks for less than the default (D2, U3): what the kernel delivers is delivered, but for
//! frames without a checksum over IPv6, whose addresses nothing vouches for (RFC 6936 §5).

use std::sync::Mutex;

use super::compare::Pair;
use super::outer::{Family, Outer, OuterSum};
use super::rows::{Fate, Shared, arrives_at, cells, plain};
use super::setting::{Segment, Setting};
use super::site;

const OFF: &[&str] = &["--peer-check", "off"];
const LOG: &[&str] = &["--peer-check", "log"];

/// By family.
static OFF_PAIRS: [Shared; 2] = [
    Shared::new(|| pair(Family::V4, OFF)),
    Shared::new(|| pair(Family::V6, OFF)),
];
static LOG_PAIRS: [Shared; 2] = [
    Shared::new(|| pair(Family::V4, LOG)),
    Shared::new(|| pair(Family::V6, LOG)),
];

fn pair(family: Family, policy: &'static [&'static str]) -> Mutex<Pair> {
    let setting = match family {
        Family::V4 => Setting::PLAIN,
        Family::V6 => Setting::with6("udp6zerocsumrx"),
    };
    Mutex::new(Pair::new(Setting { policy, ..setting }))
}

fn from_peer(pairs: &[Shared; 2], family: Family, udp_checksum: OuterSum, fate: Fate) {
    let outer = Outer {
        udp_checksum,
        ..Outer::to(&Segment::over(family))
    };
    arrives_at(&pairs[family as usize], outer.around(&plain()), fate);
}

fn from_stranger(pairs: &[Shared; 2], family: Family, udp_checksum: OuterSum, fate: Fate) {
    let outer = Outer {
        source: match family {
            Family::V4 => [10, 99, 0, 77].into(),
            Family::V6 => site::ipv6(0x99, 77).into(),
        },
        udp_checksum,
        ..Outer::to(&Segment::over(family))
    };
    arrives_at(&pairs[family as usize], outer.around(&plain()), fate);
}

fn delivered() -> Fate {
    Fate::Delivered(plain())
}

macro_rules! table {
    ($($module:ident $pairs:ident;)*) => {
        $(mod $module {
            use super::*;
            use Family::{V4, V6};
            use OuterSum::{Right, Zero};

            cells! {
                d02_a_stranger_over_ipv4 from_stranger(&$pairs, V4, Right, delivered());
                d02_a_stranger_without_a_checksum_over_ipv4 from_stranger(&$pairs, V4, Zero, delivered());
                d02_a_stranger_over_ipv6 from_stranger(&$pairs, V6, Right, delivered());
                u03_a_stranger_without_a_checksum_over_ipv6
                    from_stranger(&$pairs, V6, Zero, Fate::DroppedByUs("unknown_peer"));
                u03_a_vtep_without_a_checksum_over_ipv6 from_peer(&$pairs, V6, Zero, delivered());
                u03_a_vtep_over_ipv6 from_peer(&$pairs, V6, Right, delivered());
            }
        })*
    };
}

table! {
    off OFF_PAIRS;
    log LOG_PAIRS;
}
