//! Paths that are narrower than the device (P1 to P5, P8, D9 to D11): what leaves, and what the sender is told, for each way
//! that the node handles the overlay, each family inside and outside, and each rule for DF. The rows of the kernel's
//! `pmtu.sh`, and what it does not ask.
//!
//! The largest frame that fits is `vxgate`'s; what is longer is the kernel's at both sites, and so are its words.

use std::sync::Mutex;
use std::time::Duration;

use super::bytes::{self, ETHER_IPV4, ETHER_IPV6, IP, Inner, be16, ipv4, ipv6, put16, udp};
use super::compare::{Fates, Pair};
use super::outer::{Family, Outer, vxlan_header};
use super::rows::{Shared, cells};
use super::setting::{Overlay, Segment, Setting};
use super::site::{self, Entry, Output, UNDERLAY_MTU};
use super::support::end::Input;
use super::support::wait_until;

/// Of the narrow path.
pub const PATH: usize = 1400;
/// A full frame of the device.
pub const FULL: usize = 1500;
const LEARNED_BOUND: Duration = Duration::from_secs(20);

/// What makes the path narrow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Narrow {
    /// The link.
    Link,
    /// Something behind the router, which says so.
    Learned,
}

#[derive(Clone, Copy)]
pub enum Carried {
    /// IPv4 that must not be fragmented.
    V4Df,
    /// IPv4 that may be.
    V4,
    V6,
}

/// What came of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Frames on the underlay.
    left: usize,
    /// The MTU that the sender was told.
    told: Option<usize>,
}

/// In one piece.
const WHOLE: Seen = left(1);
/// In two pieces: fragments of the outer packet, or of the inner one where the node routes by what it knows of paths.
pub const CUT: Seen = left(2);
/// An outer packet that may not be cut: by its DF, or because it is IPv6 that the node did not send for a socket of its own
/// (`ip6_fragment`, `ignore_df`).
pub const LOST: Seen = left(0);

const fn left(count: usize) -> Seen {
    Seen {
        left: count,
        told: None,
    }
}

pub const fn told(mtu: usize) -> Seen {
    Seen {
        left: 0,
        told: Some(mtu),
    }
}

pub fn pair(
    overlay: Overlay,
    family: Family,
    attributes: &'static str,
    narrow: Narrow,
) -> Mutex<Pair> {
    let link_mtu = match narrow {
        Narrow::Link => PATH,
        Narrow::Learned => UNDERLAY_MTU,
    };
    let setting = match family {
        Family::V4 => Setting::with(attributes),
        Family::V6 => Setting::with6(attributes),
    };
    let mut pair = Pair::new(Setting {
        overlay,
        link_mtu,
        ..setting
    });
    if narrow == Narrow::Learned {
        tell(&mut pair, &too_big(family, PATH, |_| {}));
        wait_until_known(&pair, PATH);
    }
    Mutex::new(pair)
}

/// A frame from the host to one behind the third peer, whose IP packet is so long.
pub fn frame(overlay: Overlay, carried: Carried, number: u8, len: usize) -> Input {
    let (ether_type, packet) = match carried {
        Carried::V4Df | Carried::V4 => {
            let fragment = match carried {
                Carried::V4Df => 0x4000,
                _ => 0,
            };
            let mut packet = ipv4(0, 64, fragment, 17, &udp(&vec![7; len - 28]));
            bytes::address(&mut packet, [10, 244, 1, 2], [10, 244, 2, number]);
            (ETHER_IPV4, packet)
        }
        Carried::V6 => {
            let mut packet = ipv6(0, 64, 17, &udp(&vec![7; len - 48]));
            packet[8..24].copy_from_slice(&[&[0xfd, 0, 0, 1][..], &[0; 11], &[2]].concat());
            packet[24..40].copy_from_slice(&[&[0xfd, 0, 0, 2][..], &[0; 11], &[number]].concat());
            (ETHER_IPV6, packet)
        }
    };
    let inner = Inner {
        destination: match overlay {
            Overlay::Bridged => site::REMOTE_MACS[2],
            Overlay::Routed => site::GATEWAY_MAC,
        },
        source: site::HOST_MAC,
        ..Inner::with(ether_type, packet)
    };
    Input::from(inner.bytes())
}

/// What an output says, all of which must be of a kind that is known here.
fn seen(output: &Output) -> Seen {
    let mtus: Vec<usize> = output
        .overlay
        .iter()
        .map(|frame| {
            assert_eq!(frame[..6], site::HOST_MAC, "to the sender");
            let ip = &frame[IP..];
            match (be16(frame, 12), ip[9], ip[6]) {
                (Some(ETHER_IPV4), 1, _) => {
                    // Fragmentation needed.
                    assert_eq!(ip[20..22], [3, 4]);
                    usize::from(be16(ip, 26).expect("the header is whole"))
                }
                (Some(ETHER_IPV6), _, 58) => {
                    // Packet too big.
                    assert_eq!(ip[40..42], [2, 0]);
                    usize::from(be16(ip, 46).expect("the header is whole"))
                }
                other => panic!("no word on the MTU: {other:?}"),
            }
        })
        .collect();
    assert!(mtus.len() < 2, "one word: {mtus:?}");
    Seen {
        left: output.wire.len(),
        told: mtus.first().copied(),
    }
}

/// What becomes of a frame, in the kernel and in `vxgate`; and whether the device left it to the kernel for its length.
pub fn fate(pair: &mut Pair, frame: &Input) -> (Seen, bool) {
    let before = pair.ours.status().passed("access", "oversize");
    let Fates { kernel, ours } = pair.fates(Entry::Bridge, frame);
    assert_eq!(kernel, ours);
    let passed = pair.ours.status().passed("access", "oversize") - before;
    (seen(&ours), passed > 0)
}

/// The largest that fits; then one byte more, and then a full frame, when the kernel may have learned from the one before.
fn row(pair: &Shared, carried: Carried, number: u8, first: Seen, then: Seen) {
    check(&mut pair.get(), false, (carried, number), [first, then]);
}

/// As [`row`], on a node that forwards IPv4 by what it knows of paths.
fn row_by_paths(pair: &Shared, carried: Carried, number: u8, first: Seen, then: Seen) {
    check(&mut pair.get(), true, (carried, number), [first, then]);
}

fn check(pair: &mut Pair, by_paths: bool, (carried, number): (Carried, u8), expected: [Seen; 2]) {
    let (overlay, family) = (pair.setting.overlay, pair.setting.segments[0].family);
    if overlay == Overlay::Routed {
        for site in [&pair.kernel, &pair.ours] {
            let value = u8::from(by_paths);
            let setting = format!("sysctl -qw net.ipv4.ip_forward_use_pmtu={value}");
            site.node.run(&setting);
        }
    }
    // The inner Ethernet header counts, the outer does not.
    let fits = PATH - family.outer_len();
    let (whole, passed) = fate(pair, &frame(overlay, carried, number, fits));
    assert_eq!((whole, passed), (WHOLE, false), "{fits} bytes fit");
    let (one_more, passed) = fate(pair, &frame(overlay, carried, number, fits + 1));
    assert!(passed, "one byte more is the kernel's");
    let (full, _) = fate(pair, &frame(overlay, carried, number, FULL));
    assert_eq!([one_more, full], expected);
}

/// What the router says about a frame to the third peer, changed at will.
fn too_big(family: Family, mtu: usize, change: impl FnOnce(&mut Outer)) -> Input {
    let mut quoted = Outer::to(&Segment::over(family));
    (quoted.source, quoted.destination) = (family.node(), family.peers()[2]);
    change(&mut quoted);
    // From the IP header to the inner Ethernet header.
    let quote = &quoted.around(&[0; 64])[IP..];
    let (ether_type, packet) = match family {
        Family::V4 => {
            let mut message =
                [&[3, 4, 0, 0, 0, 0][..], &(mtu as u16).to_be_bytes(), quote].concat();
            let sum = bytes::internet_checksum(&[&message]);
            put16(&mut message, 2, sum);
            let mut packet = ipv4(0, 64, 0, 1, &message);
            bytes::address(&mut packet, [10, 99, 0, 254], site::NODE);
            (ETHER_IPV4, packet)
        }
        Family::V6 => {
            let mut message = [&[2, 0, 0, 0][..], &(mtu as u32).to_be_bytes(), quote].concat();
            let mut packet = ipv6(0, 64, 58, &message);
            packet[8..24].copy_from_slice(&site::ipv6(0x99, 0xfe));
            packet[24..40].copy_from_slice(&site::NODE6);
            let len = (message.len() as u16).to_be_bytes();
            let sum = bytes::internet_checksum(&[&packet[8..40], &[0, 58], &len, &message]);
            put16(&mut message, 2, sum);
            packet[40..].copy_from_slice(&message);
            (ETHER_IPV6, packet)
        }
    };
    let frame = Inner {
        destination: site::NODE_MAC,
        source: site::PEER_MACS[2],
        ..Inner::with(ether_type, packet)
    };
    Input::from(frame.bytes())
}

fn tell(pair: &mut Pair, word: &Input) {
    let Fates { kernel, ours } = pair.fates(Entry::Wire, word);
    assert_eq!((kernel, ours), Default::default(), "no answer to a word");
}

/// What the two kernels know of the path to the third peer.
fn known(pair: &Pair) -> [Option<usize>; 2] {
    let peer = pair.setting.segments[0].family.peers()[2];
    [&pair.kernel, &pair.ours].map(|site| {
        let route = site.node.run(&format!("ip route get {peer}"));
        let mut words = route.split_whitespace();
        words.find(|word| *word == "mtu")?;
        words.next()?.parse().ok()
    })
}

fn wait_until_known(pair: &Pair, mtu: usize) {
    assert_eq!(known(pair), [Some(mtu); 2]);
    let peer = pair.setting.segments[0].family.peers()[2].to_string();
    wait_until("vxgate follows the kernel", LEARNED_BOUND, || {
        let status = pair.ours.status();
        let mut vteps = status.list("vteps");
        vteps.any(|vtep| vtep["addr"] == *peer && vtep["path_mtu"] == mtu)
    });
}

/// A word that does not quote what the node can have sent changes nothing; the same with a good quote does.
fn quoted_wrongly(family: Family, change: fn(&mut Outer)) {
    let mut pair = UNTOLD[family as usize].get();
    tell(&mut pair, &too_big(family, 1300, change));
    assert_eq!(known(&pair), [None; 2]);
    let full = frame(Overlay::Bridged, Carried::V4Df, 1, FULL);
    assert_eq!(fate(&mut pair, &full), (WHOLE, false));
}

static UNTOLD: [Shared; 2] = [
    Shared::new(|| Mutex::new(Pair::new(Setting::PLAIN))),
    Shared::new(|| Mutex::new(Pair::new(Setting::PLAIN6))),
];

cells! {
    p08_a_word_about_another_vni
        quoted_wrongly(Family::V4, |quoted| quoted.vxlan = vxlan_header(1001));
    p08_a_word_about_another_port
        quoted_wrongly(Family::V4, |quoted| quoted.destination_port = 9);
    p08_a_word_about_no_vni
        quoted_wrongly(Family::V4, |quoted| quoted.vxlan[0] = 0);
    p08_a_word_about_another_vni_over_ipv6
        quoted_wrongly(Family::V6, |quoted| quoted.vxlan = vxlan_header(1001));
    p08_a_word_about_another_port_over_ipv6
        quoted_wrongly(Family::V6, |quoted| quoted.destination_port = 9);
    p08_a_word_about_no_vni_over_ipv6
        quoted_wrongly(Family::V6, |quoted| quoted.vxlan[0] = 0);
}

/// Each column of the table is a pair of sites, each row of a column a test: what comes of the first long frame, and of the
/// next.
macro_rules! columns {
    ($($module:ident($($of:expr),*) { $($name:ident $row:ident $carried:ident $number:literal $first:expr, $then:expr;)* })*) => {
        $(mod $module {
            use super::*;

            static PAIR: Shared = Shared::new(|| pair($($of),*));

            cells! {
                $($name $row(&PAIR, Carried::$carried, $number, $first, $then);)*
            }
        })*
    };
}

use Family::{V4, V6};
use Narrow::{Learned, Link};
use Overlay::{Bridged, Routed};

columns! {
    bridged_over_ipv4_link_df_unset(Bridged, V4, "df unset", Link) {
        p03_d11_ipv4_df row V4Df 11 told(1350), told(1350);
        p04_d10_ipv4 row V4 12 CUT, CUT;
        p05_ipv6 row V6 13 told(1350), told(1350);
    }
    bridged_over_ipv4_link_df_set(Bridged, V4, "df set", Link) {
        p03_d11_ipv4_df row V4Df 11 told(1350), told(1350);
        p04_d10_ipv4 row V4 12 LOST, LOST;
        p05_ipv6 row V6 13 told(1350), told(1350);
    }
    bridged_over_ipv4_link_df_inherit(Bridged, V4, "df inherit", Link) {
        p03_d11_ipv4_df row V4Df 11 told(1350), told(1350);
        p04_d10_ipv4 row V4 12 CUT, CUT;
        p05_ipv6 row V6 13 told(1350), told(1350);
    }
    bridged_over_ipv4_learned_df_unset(Bridged, V4, "df unset", Learned) {
        p03_d11_ipv4_df row V4Df 11 told(1350), told(1350);
        p04_d10_ipv4 row V4 12 CUT, CUT;
        p05_ipv6 row V6 13 told(1350), told(1350);
    }
    bridged_over_ipv4_learned_df_set(Bridged, V4, "df set", Learned) {
        p03_d11_ipv4_df row V4Df 11 told(1350), told(1350);
        p04_d10_ipv4 row V4 12 LOST, LOST;
        p05_ipv6 row V6 13 told(1350), told(1350);
    }
    bridged_over_ipv6_link_df_unset(Bridged, V6, "df unset", Link) {
        p03_d11_ipv4_df row V4Df 11 told(1330), told(1330);
        p04_d10_ipv4 row V4 12 LOST, LOST;
        p05_ipv6 row V6 13 told(1330), told(1330);
    }
    bridged_over_ipv6_link_df_set(Bridged, V6, "df set", Link) {
        p03_d11_ipv4_df row V4Df 11 told(1330), told(1330);
        p04_d10_ipv4 row V4 12 LOST, LOST;
        p05_ipv6 row V6 13 told(1330), told(1330);
    }
    bridged_over_ipv6_learned_df_unset(Bridged, V6, "df unset", Learned) {
        p03_d11_ipv4_df row V4Df 11 told(1330), told(1330);
        p04_d10_ipv4 row V4 12 LOST, LOST;
        p05_ipv6 row V6 13 told(1330), told(1330);
    }
    routed_over_ipv4_link_df_unset(Routed, V4, "df unset", Link) {
        p03_d11_ipv4_df row V4Df 11 CUT, CUT;
        p03_d11_ipv4_df_by_paths row_by_paths V4Df 21 CUT, told(1350);
        p04_d10_ipv4 row V4 12 CUT, CUT;
        p04_d10_ipv4_by_paths row_by_paths V4 22 CUT, CUT;
        p05_ipv6 row V6 13 CUT, told(1350);
    }
    routed_over_ipv4_link_df_set(Routed, V4, "df set", Link) {
        p03_d11_ipv4_df row V4Df 11 LOST, LOST;
        p03_d11_ipv4_df_by_paths row_by_paths V4Df 21 LOST, told(1350);
        p04_d10_ipv4 row V4 12 LOST, LOST;
        p04_d10_ipv4_by_paths row_by_paths V4 22 LOST, CUT;
        p05_ipv6 row V6 13 LOST, told(1350);
    }
    routed_over_ipv4_link_df_inherit(Routed, V4, "df inherit", Link) {
        p03_d11_ipv4_df row V4Df 11 LOST, LOST;
        p03_d11_ipv4_df_by_paths row_by_paths V4Df 21 LOST, told(1350);
        p04_d10_ipv4 row V4 12 CUT, CUT;
        p04_d10_ipv4_by_paths row_by_paths V4 22 CUT, CUT;
        p05_ipv6 row V6 13 LOST, told(1350);
    }
    routed_over_ipv4_learned_df_unset(Routed, V4, "df unset", Learned) {
        p03_d11_ipv4_df row V4Df 11 CUT, CUT;
        p03_d11_ipv4_df_by_paths row_by_paths V4Df 21 CUT, told(1350);
        p04_d10_ipv4 row V4 12 CUT, CUT;
        p05_ipv6 row V6 13 CUT, told(1350);
    }
    routed_over_ipv4_learned_df_set(Routed, V4, "df set", Learned) {
        p03_d11_ipv4_df row V4Df 11 LOST, LOST;
        p03_d11_ipv4_df_by_paths row_by_paths V4Df 21 LOST, told(1350);
        p04_d10_ipv4 row V4 12 LOST, LOST;
        p05_ipv6 row V6 13 LOST, told(1350);
    }
    routed_over_ipv6_link_df_unset(Routed, V6, "df unset", Link) {
        p03_d11_ipv4_df row V4Df 11 LOST, LOST;
        p03_d11_ipv4_df_by_paths row_by_paths V4Df 21 LOST, told(1330);
        p04_d10_ipv4 row V4 12 LOST, LOST;
        p04_d10_ipv4_by_paths row_by_paths V4 22 LOST, CUT;
        p05_ipv6 row V6 13 LOST, told(1330);
    }
    routed_over_ipv6_link_df_set(Routed, V6, "df set", Link) {
        p03_d11_ipv4_df row V4Df 11 LOST, LOST;
        p04_d10_ipv4 row V4 12 LOST, LOST;
        p05_ipv6 row V6 13 LOST, told(1330);
    }
    routed_over_ipv6_learned_df_unset(Routed, V6, "df unset", Learned) {
        p03_d11_ipv4_df row V4Df 11 LOST, LOST;
        p03_d11_ipv4_df_by_paths row_by_paths V4Df 21 LOST, told(1330);
        p04_d10_ipv4 row V4 12 LOST, LOST;
        p05_ipv6 row V6 13 LOST, told(1330);
    }
}
