//! The outer UDP checksum on receipt (V6, D8): right, wrong, absent and left unfinished, each under each setting, over each
//! family. Devices of the sites are veths, where `auto` verifies nothing.

use std::sync::Mutex;

use super::bytes::{partial_sum, put16};
use super::compare::Pair;
use super::outer::{Family, Outer, OuterSum, udp_pseudo};
use super::rows::{Fate, Shared, arrives_at, cells, plain, plain_pair};
use super::setting::{Segment, Setting};
use super::support::end::{Input, Offload};

const VERIFY: &[&str] = &["--udp-checksum-rx", "verify"];
const IGNORE: &[&str] = &["--udp-checksum-rx", "ignore"];

/// By family.
static VERIFYING: [Shared; 2] = [
    Shared::new(|| pair(Setting::PLAIN, VERIFY)),
    Shared::new(|| pair(Setting::PLAIN6, VERIFY)),
];
static IGNORING: [Shared; 2] = [
    Shared::new(|| pair(Setting::PLAIN, IGNORE)),
    Shared::new(|| pair(Setting::PLAIN6, IGNORE)),
];

fn pair(setting: Setting, policy: &'static [&'static str]) -> Mutex<Pair> {
    Mutex::new(Pair::new(Setting { policy, ..setting }))
}

#[derive(Clone, Copy)]
enum Setup {
    Auto,
    Verify,
    Ignore,
}
use Setup::{Auto, Ignore, Verify};

impl Setup {
    fn pair(self, family: Family) -> &'static Shared {
        match self {
            Self::Auto => plain_pair(family),
            Self::Verify => &VERIFYING[family as usize],
            Self::Ignore => &IGNORING[family as usize],
        }
    }
}

fn delivered() -> Fate {
    Fate::Delivered(plain())
}

fn around(family: Family, udp_checksum: OuterSum) -> Vec<u8> {
    let outer = Outer {
        udp_checksum,
        ..Outer::to(&Segment::over(family))
    };
    outer.around(&plain())
}

fn right(setup: Setup, family: Family) {
    arrives_at(
        setup.pair(family),
        around(family, OuterSum::Right),
        delivered(),
    );
}

/// The kernel drops it.
fn wrong(setup: Setup, family: Family) {
    let fate = match setup {
        Verify => Fate::Dropped("outer_csum"),
        Auto | Ignore => Fate::DeliveredByUs(plain()),
    };
    arrives_at(setup.pair(family), around(family, OuterSum::Wrong(1)), fate);
}

/// Over IPv6 whether there may be none is the device's to say, and no setting's.
fn absent(setup: Setup, family: Family) {
    let fate = match family {
        Family::V4 => delivered(),
        Family::V6 => Fate::Dropped("zero_csum6"),
    };
    arrives_at(setup.pair(family), around(family, OuterSum::Zero), fate);
}

/// The kernel is told beside the frame that its sender left the sum to a device; who looks at the bytes alone is not.
fn unfinished(setup: Setup, family: Family) {
    let mut bytes = around(family, OuterSum::Zero);
    let pseudo = udp_pseudo(&bytes, family, bytes.len());
    put16(&mut bytes, family.udp() + 6, partial_sum(&[&pseudo]));
    let offload = Some(Offload {
        start: family.udp() as u16,
        field: 6,
        segmentation: None,
    });
    let fate = match setup {
        Verify => Fate::DroppedByUs("outer_csum"),
        Auto | Ignore => delivered(),
    };
    arrives_at(setup.pair(family), Input { bytes, offload }, fate);
}

macro_rules! table {
    ($($module:ident $setup:ident;)*) => {
        $(mod $module {
            use super::*;
            use Family::{V4, V6};

            cells! {
                v06_d08_right right($setup, V4);
                v06_d08_right_over_ipv6 right($setup, V6);
                v06_d08_wrong wrong($setup, V4);
                v06_d08_wrong_over_ipv6 wrong($setup, V6);
                v06_d08_absent absent($setup, V4);
                v06_d08_absent_over_ipv6 absent($setup, V6);
                v06_d08_unfinished unfinished($setup, V4);
                v06_d08_unfinished_over_ipv6 unfinished($setup, V6);
            }
        })*
    };
}

table! {
    auto Auto;
    verify Verify;
    ignore Ignore;
}
