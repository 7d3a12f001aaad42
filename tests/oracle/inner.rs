//! Inner frames that are short, tagged, no IP, or from nobody, by hand: over each family, and in both directions.

use super::bytes::{ETHER_ARP, ETHER_IPV4, Inner, arp, ipv4, udp};
use super::compare::Fates;
use super::outer::{Family, Outer};
use super::rows::{Fate, arrives_at, cells, leaves, plain, plain_pair};
use super::setting::Segment;
use super::site::{self, Entry};
use super::support::end::Input;

/// A protocol for experiments (IEEE 802): nothing answers to it, and it is no IP.
const ETHER_EXPERIMENT: u16 = 0x88b5;
/// What the device's MTU has room for.
const LARGEST: usize = 1500;
/// The longest that a host's socket sends whatever the tags: it allows for one of 802.1Q beside the MTU (`packet_snd`).
const LARGEST_BEHIND_TAGS: usize = LARGEST - 8;

/// An inner frame from the first peer.
fn inbound(family: Family, inner: &[u8], fate: Fate) {
    let frame = Outer::to(&Segment::over(family)).around(inner);
    arrives_at(plain_pair(family), frame, fate);
}

/// A frame that crosses the tunnel as it is: to the host, and from the host.
fn crosses(family: Family, inner: Inner) {
    let bytes = inner.bytes();
    inbound(family, &bytes, Fate::Delivered(bytes.clone()));
    leaves(plain_pair(family), inner.outbound().bytes());
}

fn cut_to(family: Family, len: usize, reason: &'static str) {
    inbound(family, &plain()[..len], Fate::Dropped(reason));
}

/// An IP packet so long behind these tags.
fn tags(family: Family, tags: &[(u16, u16)], len: usize) {
    let packet = ipv4(0, 64, 0, 17, &udp(&vec![5; len - 28]));
    crosses(family, Inner::with(ETHER_IPV4, packet).tagged(tags));
}

/// LLC (IEEE 802.2) has a length where others have an EtherType.
fn llc(family: Family, header: &[u8], payload_len: usize) {
    let payload = [header, &vec![7; payload_len]].concat();
    crosses(family, Inner::with(payload.len() as u16, payload));
}

fn from_station(family: Family, source: [u8; 6], reason: &'static str) {
    let mut inner = plain();
    inner[6..12].copy_from_slice(&source);
    inbound(family, &inner, Fate::Dropped(reason));
}

/// The bridge keeps the groups of IEEE 802.1D to its link, whatever the device would do with them.
fn stays_on_the_link(family: Family, last: u8) {
    let group = [1, 0x80, 0xc2, 0, 0, last];
    let mut inner = Inner::with(ETHER_EXPERIMENT, vec![7; 46]);
    inner.destination = group;
    let wire = Outer::to(&Segment::over(family)).around(&inner.bytes());
    inner.source = site::HOST_MAC;
    for (entry, frame) in [(Entry::Wire, wire), (Entry::Bridge, inner.bytes())] {
        let Fates { kernel, ours } = plain_pair(family).get().fates(entry, &Input::from(frame));
        assert!(
            kernel.is_empty() && ours.is_empty(),
            "{entry:?}: {kernel:?} {ours:?}"
        );
    }
}

macro_rules! table {
    ($($module:ident $family:expr;)*) => {
        $(mod $module {
            use super::*;

            cells! {
                v11_no_inner_frame cut_to($family, 0, "inner_short");
                v11_13_bytes cut_to($family, 13, "inner_short");
                v11_14_bytes cut_to($family, 14, "inner_truncated");
                v11_20_bytes cut_to($family, 20, "inner_truncated");
                v11_an_ip_header_short_by_one cut_to($family, 33, "inner_truncated");
                v11_a_bare_ethernet_header crosses($family, Inner::with(ETHER_EXPERIMENT, vec![]));
                v11_shorter_than_the_minimum crosses($family, Inner::with(ETHER_ARP, arp()));
                v11_shorter_than_the_minimum_and_ip crosses($family, Inner::with(ETHER_IPV4, ipv4(0, 64, 0, 253, &[])));
                v11_shorter_than_the_minimum_and_tagged
                    crosses($family, Inner::with(ETHER_ARP, arp()).tagged(&[(0x8100, 10)]));
                v11_from_our_own_station from_station($family, site::DEVICE_MAC, "local_mac");
                v11_from_a_group from_station($family, [1, 0, 0x5e, 0, 0, 1], "invalid_source_mac");
                v11_from_all_stations from_station($family, [0xff; 6], "invalid_source_mac");
                v11_from_nobody from_station($family, [0; 6], "invalid_source_mac");
                d05_a_tag tags($family, &[(0x8100, 10)], LARGEST);
                v08_a_priority_tag tags($family, &[(0x8100, 0xe000)], LARGEST);
                v08_a_service_tag tags($family, &[(0x88a8, 20)], LARGEST_BEHIND_TAGS);
                v08_two_tags tags($family, &[(0x88a8, 0x2014), (0x8100, 10)], LARGEST_BEHIND_TAGS);
                v08_two_tags_of_one_kind tags($family, &[(0x8100, 20), (0x8100, 10)], LARGEST_BEHIND_TAGS);
                v08_llc llc($family, &[0xfe, 0xfe, 3], 60);
                v08_llc_of_the_largest_length llc($family, &[0xfe, 0xfe, 3], LARGEST - 3);
                v08_llc_shorter_than_the_minimum llc($family, &[0xfe, 0xfe, 3], 5);
                v08_llc_with_snap llc($family, &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], 60);
                f02_pause_frames_stay_on_the_link stays_on_the_link($family, 1);
                f02_lacp_stays_on_the_link stays_on_the_link($family, 2);
                f02_lldp_stays_on_the_link stays_on_the_link($family, 0xe);
            }
        })*
    };
}

table! {
    over_ipv4 Family::V4;
    over_ipv6 Family::V6;
}
