//! What leaves for the underlay, by hand.

use super::bytes::{
    self, ETHER_ARP, ETHER_IPV4, ETHER_IPV6, IP, Inner, arp, ipv4, ipv6, put16, udp,
};
use super::compare::Fates;
use super::outer::{self, Family};
use super::rows::{PLAIN, cells, leaves, plain, plain_pair};
use super::site::{self, Entry};
use super::support::end::{Input, Offload, Segmentation};

#[test]
fn d09_df_is_not_set_by_default() {
    let inner = Inner::with(ETHER_IPV4, ipv4(0, 64, 0x4000, 17, &udp(b"payload"))).outbound();
    let frame = leaves(&PLAIN, inner.bytes());
    assert_eq!(frame[IP + 6..IP + 8], [0, 0]);
}

/// To the VTEPs of the all-zero entries, one copy each.
fn flooded(family: Family, destination: [u8; 6]) {
    let mut frame = Inner::with(ETHER_ARP, arp()).outbound().bytes();
    frame[..6].copy_from_slice(&destination);
    let mut pair = plain_pair(family).get();
    let Fates { kernel, ours } = pair.fates(Entry::Bridge, &Input::from(frame));
    for output in [kernel, ours] {
        // The last byte of the outer destination.
        let mut to: Vec<_> = output
            .wire
            .iter()
            .filter_map(|frame| family.addresses(frame).last())
            .collect();
        to.sort_unstable();
        assert_eq!(to, [&2, &3]);
    }
}

const UNKNOWN: [u8; 6] = [2, 0xdd, 0, 0, 0, 1];

cells! {
    v09_an_unknown_destination flooded(Family::V4, UNKNOWN);
    v09_an_unknown_destination_over_ipv6 flooded(Family::V6, UNKNOWN);
    v09_a_broadcast flooded(Family::V4, [0xff; 6]);
    v09_a_broadcast_over_ipv6 flooded(Family::V6, [0xff; 6]);
    v09_a_multicast_frame_without_an_entry flooded(Family::V4, [1, 0, 0x5e, 0, 1, 9]);
    v09_a_multicast_frame_without_an_entry_over_ipv6 flooded(Family::V6, [0x33, 0x33, 0, 0, 0, 9]);
}

#[test]
fn v10_a_vtep_behind_a_router_is_reached_through_it() {
    let mut frame = plain();
    frame[..6].copy_from_slice(&site::REMOTE_MACS[2]);
    let frame = leaves(&PLAIN, frame);
    assert_eq!(frame[..6], site::PEER_MACS[2]);
    assert_eq!(frame[30..34], site::PEERS[2]);
}

/// A superframe of three frames, the last of which is the shortest.
fn superframe(family: Family, six: bool, protocol: u8, kind: u8) {
    let (network, head, field) = match (six, protocol) {
        (true, 6) => (40, 20, 16),
        (true, _) => (40, 8, 6),
        (false, 6) => (20, 20, 16),
        (false, _) => (20, 8, 6),
    };
    let mut segment = vec![0x55; head + 2100];
    (segment[12], segment[13]) = (0x50, 0x18);
    put16(&mut segment, 4, (head + 2100) as u16);
    put16(&mut segment, field, 0);
    let mut packet = match six {
        true => ipv6(0, 64, protocol, &segment),
        false => ipv4(0, 64, 0x4000, protocol, &segment),
    };
    let addresses = &packet[network - if six { 32 } else { 8 }..network];
    let len = ((head + 2100) as u16).to_be_bytes();
    let sum = bytes::partial_sum(&[addresses, &[0, protocol], &len]);
    put16(&mut packet, network + field, sum);
    let ether_type = if six { ETHER_IPV6 } else { ETHER_IPV4 };
    let input = Input {
        bytes: Inner::with(ether_type, packet).outbound().bytes(),
        offload: Some(Offload {
            start: 14 + network as u16,
            field: field as u16,
            segmentation: Some(Segmentation {
                kind,
                headers_len: 14 + (network + head) as u16,
                payload_len: 1000,
            }),
        }),
    };
    let Fates { kernel, ours } = plain_pair(family).get().fates(Entry::Bridge, &input);
    assert_eq!(kernel, ours);
    let headers_len = family.outer_len() + 14 + network + head;
    let lengths: Vec<_> = ours
        .wire
        .iter()
        .map(|frame| frame.len() - headers_len)
        .collect();
    assert_eq!(lengths, [1000, 1000, 100]);
}

cells! {
    f06_a_superframe_of_tcp_in_ipv4 superframe(Family::V4, false, 6, 1);
    f06_a_superframe_of_tcp_in_ipv6 superframe(Family::V4, true, 6, 4);
    f06_a_superframe_of_udp_in_ipv4 superframe(Family::V4, false, 17, 5);
    f06_a_superframe_of_udp_in_ipv6 superframe(Family::V4, true, 17, 5);
    f06_a_superframe_of_tcp_in_ipv4_over_ipv6 superframe(Family::V6, false, 6, 1);
    f06_a_superframe_of_tcp_in_ipv6_over_ipv6 superframe(Family::V6, true, 6, 4);
    f06_a_superframe_of_udp_in_ipv4_over_ipv6 superframe(Family::V6, false, 17, 5);
    f06_a_superframe_of_udp_in_ipv6_over_ipv6 superframe(Family::V6, true, 17, 5);
}

/// An FDB entry that has a port or a VNI of its own.
fn entry(family: Family, mac: [u8; 6], port: u16, vni: u32) {
    let mut frame = plain();
    frame[..12].rotate_left(6);
    frame[..6].copy_from_slice(&mac);
    let frame = leaves(plain_pair(family), frame);
    assert_eq!(bytes::be16(&frame, family.udp() + 2), Some(port));
    assert_eq!(
        frame[family.vxlan()..family.outer_len()],
        outer::vxlan_header(vni)
    );
}

cells! {
    v04_an_fdb_entry_with_a_port_and_a_vni_of_its_own
        entry(Family::V4, site::ELSEWHERE_MAC, site::OTHER_PORT, site::OTHER_VNI);
    v04_an_fdb_entry_with_a_port_of_its_own
        entry(Family::V4, site::OTHER_PORT_MAC, site::OTHER_PORT, site::VNI);
    v04_an_fdb_entry_with_a_vni_of_its_own
        entry(Family::V4, site::OTHER_VNI_MAC, site::PORT, site::OTHER_VNI);
    v04_an_fdb_entry_with_a_port_and_a_vni_of_its_own_over_ipv6
        entry(Family::V6, site::ELSEWHERE_MAC, site::OTHER_PORT, site::OTHER_VNI);
    v04_an_fdb_entry_with_a_port_of_its_own_over_ipv6
        entry(Family::V6, site::OTHER_PORT_MAC, site::OTHER_PORT, site::VNI);
    v04_an_fdb_entry_with_a_vni_of_its_own_over_ipv6
        entry(Family::V6, site::OTHER_VNI_MAC, site::PORT, site::OTHER_VNI);
}
