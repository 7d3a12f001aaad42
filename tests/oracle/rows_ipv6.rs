//! What an IPv6 underlay adds, by hand: checksums that are not optional, flow labels, lengths of zero, extension headers.

use std::sync::Mutex;

use super::bytes::{ETHER_IPV6, IP, Inner, ipv6, put16};
use super::compare::{Fates, Pair};
use super::outer::{self, Family, Outer, OuterSum, datagram_sum};
use super::rows::{Fate, PLAIN6, Shared, arrives_at, cells, leaves, plain};
use super::setting::{Segment, Setting};
use super::site::{self, Entry};
use super::support::end::Input;

const UDP: usize = Family::V6.udp();

static ZERO_SUMS: Shared =
    Shared::new(|| Mutex::new(Pair::new(Setting::with6("udp6zerocsumtx udp6zerocsumrx"))));
static LABEL_FIXED: Shared =
    Shared::new(|| Mutex::new(Pair::new(Setting::with6("flowlabel 0x12345"))));
static LABEL_INHERIT: Shared =
    Shared::new(|| Mutex::new(Pair::new(Setting::with6("flowlabel inherit"))));

fn arrives(frame: Vec<u8>, fate: Fate) {
    arrives_at(&PLAIN6, frame, fate);
}

fn good() -> Outer {
    Outer::to(&Segment::over(Family::V6))
}

fn with(change: impl FnOnce(&mut Outer)) -> Vec<u8> {
    let mut outer = good();
    change(&mut outer);
    outer.around(&plain())
}

fn outbound() -> Vec<u8> {
    let mut frame = plain();
    frame[..12].rotate_left(6);
    frame
}

/// The good frame, changed at will; the checksum stays.
fn bent(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = good().around(&plain());
    change(&mut frame);
    frame
}

cells! {
    u02_a_zero_checksum_where_the_device_forbids_it
        arrives(with(|outer| outer.udp_checksum = OuterSum::Zero), Fate::Dropped("zero_csum6"));
    u02_a_zero_checksum_where_the_device_allows_it
        arrives_at(&ZERO_SUMS, with(|outer| outer.udp_checksum = OuterSum::Zero), Fate::Delivered(plain()));
    u02_a_right_checksum_where_zero_is_allowed
        arrives_at(&ZERO_SUMS, with(|_| {}), Fate::Delivered(plain()));
    v01_a_clear_i_flag_over_ipv6 arrives(with(|outer| outer.vxlan[0] = 0), Fate::Dropped("no_i_flag"));
    d13_a_foreign_vni_over_ipv6_is_the_kernels
        arrives(with(|outer| outer.vxlan = outer::vxlan_header(1001)), Fate::Passed("foreign_vni"));
    d02_an_unknown_peer_over_ipv6
        arrives(with(|outer| outer.source = site::ipv6(0x99, 77).into()), Fate::DroppedByUs("unknown_peer"));
    d17_a_received_flow_label_says_nothing
        arrives(with(|outer| outer.flow_label = 0xf_ffff), Fate::Delivered(plain()));
    an_outer_hop_limit_of_0 arrives(with(|outer| outer.ttl = 0), Fate::Delivered(plain()));
    an_outer_hop_limit_of_1 arrives(with(|outer| outer.ttl = 1), Fate::Delivered(plain()));
    v12_to_an_ipv6_address_that_is_not_ours
        arrives(with(|outer| outer.destination = site::ipv6(0x99, 9).into()), Fate::Passed("not_ours"));
    an_ipv6_length_beyond_the_frame
        arrives(bent(|frame| put16(frame, IP + 4, 400)), Fate::Dropped("outer_malformed"));
    an_ipv6_length_of_zero
        arrives(bent(|frame| put16(frame, IP + 4, 0)), Fate::Dropped("outer_malformed"));
    an_ipv6_version_of_4
        arrives(bent(|frame| frame[IP] = 0x40), Fate::Passed("not_ours"));
    f04_padding_behind_the_ipv6_packet
        arrives(bent(|frame| frame.extend([9; 30])), Fate::Delivered(plain()));
}

/// A source that no frame can come from. The kernel delivers some of them.
fn martian(source: &str, by_kernel: bool) {
    let source: std::net::Ipv6Addr = source.parse().expect("an address");
    let fate = if by_kernel {
        Fate::DroppedByUs("martian_source")
    } else {
        Fate::Dropped("martian_source")
    };
    arrives(with(|outer| outer.source = source.into()), fate);
}

cells! {
    v10_from_our_own_ipv6_address martian("fd99::1", true);
    v10_from_the_unspecified_address martian("::", true);
    v10_from_the_ipv6_loopback_address martian("::1", false);
    v10_from_an_ipv6_group_address martian("ff02::1", false);
    v10_from_a_mapped_address martian("::ffff:10.99.0.2", true);
}

/// The length of a jumbogram's datagram stands in its options (RFC 2675 §4), and the kernel takes that of the IP header.
#[test]
fn a_udp_length_of_zero_is_all_of_the_ipv6_packet() {
    arrives(
        bent(|frame| {
            put16(frame, UDP + 4, 0);
            let sum = datagram_sum(frame, Family::V6, frame.len());
            put16(frame, UDP + 6, sum);
        }),
        Fate::Delivered(plain()),
    );
}

#[test]
fn f04_a_udp_length_8_bytes_short_over_ipv6() {
    let inner = Inner::with(ETHER_IPV6, ipv6(0, 9, 59, &[7; 60])).bytes();
    let mut frame = good().around(&inner);
    let end = frame.len() - 8;
    put16(&mut frame, UDP + 4, (end - UDP) as u16);
    let sum = datagram_sum(&frame, Family::V6, end);
    put16(&mut frame, UDP + 6, sum);
    arrives(frame, Fate::Delivered(inner[..inner.len() - 8].to_vec()));
}

/// A good frame with a header of 8 bytes between IPv6 and UDP.
fn extended(kind: u8, rest: [u8; 7]) -> Vec<u8> {
    bent(|frame| {
        let len = (frame.len() - UDP + 8) as u16;
        put16(frame, IP + 4, len);
        frame[IP + 6] = kind;
        let header = [&[17][..], &rest].concat();
        frame.splice(UDP..UDP, header);
    })
}

/// Padding of 6 bytes.
const PADDING: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];

/// The kernel reads past a header, at both sites.
fn read_past(kind: u8, rest: [u8; 7], reason: &'static str) {
    let mut pair = PLAIN6.get();
    let before = pair.ours.status().passed("underlay", reason);
    let input = Input::from(extended(kind, rest));
    let Fates { kernel, ours } = pair.fates(Entry::Wire, &input);
    assert_eq!(kernel, ours);
    assert_eq!((ours.overlay, ours.wire.len()), (vec![plain()], 0));
    let after = pair.ours.status().passed("underlay", reason);
    // The sentinel on the kernel's way has options too, and may have come twice.
    let sentinel = u64::from(reason == "ip_options");
    assert!(after > before + sentinel, "passed as {reason}");
}

cells! {
    hop_by_hop_options_are_the_kernels read_past(0, PADDING, "ip_options");
    destination_options_are_the_kernels read_past(60, PADDING, "ip_options");
    a_routing_header_at_its_end_is_the_kernels read_past(43, [0; 7], "ip_options");
    d12_a_fragment_that_is_whole_is_the_kernels read_past(44, [0; 7], "fragment");
}

#[test]
fn d12_outer_ipv6_fragments_are_put_together_by_the_kernel() {
    let whole = with(|_| {});
    let cut = UDP + 32;
    let part = |bytes: &[u8], offset: u16| {
        let mut frame = whole[..UDP].to_vec();
        put16(&mut frame, IP + 4, 8 + bytes.len() as u16);
        frame[IP + 6] = 44;
        frame.extend([17, 0]);
        frame.extend(offset.to_be_bytes());
        frame.extend([0, 0, 0x77, 0x77]);
        frame.extend(bytes);
        frame
    };
    arrives(part(&whole[UDP..cut], 1), Fate::Passed("fragment"));
    arrives(part(&whole[cut..], 32), Fate::Delivered(plain()));
}

#[test]
fn v12_a_port_without_listener_is_answered_by_the_kernel_over_ipv6() {
    let frame = with(|outer| outer.destination_port = 4789);
    let Fates { kernel, ours } = PLAIN6.get().fates(Entry::Wire, &Input::from(frame));
    assert_eq!(kernel, ours);
    assert_eq!((ours.wire.len(), ours.overlay.len()), (1, 0));
    // Destination unreachable, port unreachable.
    assert_eq!(
        (ours.wire[0][IP + 6], &ours.wire[0][UDP..UDP + 2]),
        (58, &[1, 4][..])
    );
}

#[test]
fn v10_an_ipv6_vtep_behind_a_router_is_reached_through_it() {
    let mut frame = outbound();
    frame[..6].copy_from_slice(&site::REMOTE_MACS[2]);
    let frame = leaves(&PLAIN6, frame);
    assert_eq!(frame[..6], site::PEER_MACS[2]);
    assert_eq!(frame[IP + 24..UDP], site::PEERS6[2]);
}

/// The outer label of a frame; an inner IPv6 header has one of its own, 0x01234.
fn label(pair: &Shared, inner: Vec<u8>, expected: u32) {
    let frame = leaves(pair, inner);
    let word = u32::from_be_bytes(*frame[IP..].first_chunk().expect("a header"));
    assert_eq!(word & 0xf_ffff, expected);
}

fn outbound6() -> Vec<u8> {
    let inner = Inner::with(ETHER_IPV6, ipv6(0, 9, 59, b"payload"));
    inner.outbound().bytes()
}

cells! {
    d17_no_flow_label label(&PLAIN6, outbound6(), 0);
    d17_a_fixed_flow_label label(&LABEL_FIXED, outbound6(), 0x12345);
    d17_a_fixed_flow_label_around_ipv4 label(&LABEL_FIXED, outbound(), 0x12345);
    d17_the_inner_flow_label label(&LABEL_INHERIT, outbound6(), 0x01234);
    d17_the_inner_flow_label_of_ipv4 label(&LABEL_INHERIT, outbound(), 0);
}

/// Whether the outer checksum is there.
fn summed(pair: &Shared, expected: bool) {
    let frame = leaves(pair, outbound());
    // What is right was made 1 by the comparison.
    assert_eq!(frame[UDP + 6..UDP + 8], u16::from(expected).to_be_bytes());
}

cells! {
    u01_a_checksum_is_sent_by_default summed(&PLAIN6, true);
    u02_none_is_sent_where_the_device_says_so summed(&ZERO_SUMS, false);
}
