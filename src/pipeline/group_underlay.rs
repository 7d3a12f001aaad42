//! Tests of both directions with a multicast group in the underlay, on the same bench as those of `decap` and `encap`.

use std::sync::Arc;

use super::Verdict;
use super::lab::{FAR, Lab, UNKNOWN, config, config6, segment, tunnelled, tunnelled6};
use crate::stats::{DropReason, PeerId};
use crate::table::{
    EncapTemplate, Inherit, NextHop, Segment, SegmentConfig, SegmentId, Vtep, VtepId, VtepKey,
};
use crate::wire::{MacAddr, checksum};

/// The device of the bench with a group, to which it floods, and besides to its first VTEP if so asked. The group sorts
/// behind all VTEPs.
fn with_group(mut config: SegmentConfig, ttl: Inherit, to_vtep_too: bool) -> Lab {
    let group = if config.local.is_ipv4() {
        "239.129.1.1"
    } else {
        "ff05::1:2"
    };
    let group = group.parse().unwrap();
    (config.group, config.ttl) = (Some(group), ttl);
    let mut segment: Segment = segment(config);
    let key = VtepKey {
        addr: group,
        port: segment.config.port,
        vni: segment.config.vni,
    };
    let mac = MacAddr::of_group(group).unwrap();
    let source = segment.config.underlay_mac;
    let template = EncapTemplate::new(&segment.config, &key, source, mac).unwrap();
    let vteps = Arc::make_mut(&mut segment.vteps);
    vteps.push(Vtep {
        key,
        next_hop: NextHop::Resolved(template),
        path_mtu: 1500,
        peer: PeerId(9),
    });
    let id = VtepId(3);
    segment.flood = Arc::new(if to_vtep_too {
        vec![VtepId(0), id]
    } else {
        vec![id]
    });
    Lab::new(vec![segment])
}

/// 14 bytes of Ethernet and 4 of payload that is not IP, to a station in no FDB.
const INNER: [u8; 18] = {
    let mut frame = [0; 18];
    let mut n = 0;
    while n < 6 {
        (frame[n], frame[6 + n]) = (UNKNOWN.0[n], FAR.0[n]);
        n += 1;
    }
    (frame[12], frame[13]) = (8, 6);
    (frame[14], frame[15], frame[16], frame[17]) = (1, 2, 3, 4);
    frame
};

#[test]
fn v10_what_has_no_entry_goes_once_to_the_group_and_no_further_than_the_link() {
    let mut lab = with_group(config(), Inherit::Fixed(0), false);
    let (verdicts, sent) = lab.encap(&[INNER.to_vec()]);
    assert_eq!((&verdicts[..], sent.len()), (&[Verdict::Flood][..], 1));
    let frame = &sent[0];
    assert_eq!(
        frame[..14],
        [1, 0, 0x5e, 1, 1, 1, 2, 0, 0, 0, 0, 1, 8, 0],
        "RFC 1112"
    );
    assert_eq!(frame[22], 1, "TTL");
    assert_eq!(frame[26..34], [192, 0, 2, 1, 239, 129, 1, 1]);
    assert_eq!(checksum::sum(&frame[14..34]), 0xffff);
    assert_eq!(frame[36..38], [0x21, 0x18]);
    assert_eq!(frame[42..50], [8, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(frame[50..], INNER);
}

#[test]
fn v10_the_same_over_ipv6() {
    let mut lab = with_group(config6(), Inherit::Fixed(0), false);
    let (_, sent) = lab.encap(&[INNER.to_vec()]);
    let frame = &sent[0];
    assert_eq!(
        frame[..14],
        [0x33, 0x33, 0, 1, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd],
        "RFC 2464"
    );
    assert_eq!(frame[21], 1, "hop limit");
    let group = [0xff, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2];
    assert_eq!(frame[38..54], group);
    assert_eq!(frame[70..], INNER);
}

#[test]
fn d14_the_ttl_to_a_group_is_the_devices_where_it_says_one() {
    for (ttl, of_group, of_vtep) in [
        (Inherit::Fixed(0), 1, 64),
        (Inherit::Fixed(7), 7, 7),
        // The inner frame has none: the device does not choose by itself.
        (Inherit::Inner, 64, 64),
    ] {
        let mut lab = with_group(config(), ttl, true);
        let (_, sent) = lab.encap(&[INNER.to_vec()]);
        let ttls: Vec<_> = sent.iter().map(|frame| (frame[33], frame[22])).collect();
        assert_eq!(ttls, [(2, of_vtep), (1, of_group)], "{ttl:?}");
        let mut lab = with_group(config6(), ttl, true);
        let (_, sent) = lab.encap(&[INNER.to_vec()]);
        let hops: Vec<_> = sent.iter().map(|frame| frame[21]).collect();
        assert_eq!(hops, [of_vtep, of_group], "{ttl:?}");
    }
}

/// The bench's frame to our address, sent to a group instead.
fn to_group(group: [u8; 4], source: [u8; 4]) -> Vec<u8> {
    let mut frame = tunnelled(&INNER);
    let [_, b, c, d] = group;
    frame[..6].copy_from_slice(&[1, 0, 0x5e, b & 0x7f, c, d]);
    frame[26..30].copy_from_slice(&source);
    frame[30..34].copy_from_slice(&group);
    frame[40..42].fill(0);
    super::lab::seal(&mut frame);
    frame
}

#[test]
fn v10_v12_a_frame_to_our_group_is_judged_like_one_to_our_address() {
    const OURS: [u8; 4] = [239, 129, 1, 1];
    const PEER: [u8; 4] = [192, 0, 2, 2];
    let mut lab = with_group(config(), Inherit::Fixed(0), false);
    let (verdicts, out) = lab.decap(&[to_group(OURS, PEER), tunnelled(&INNER)]);
    assert_eq!(verdicts, [Verdict::Deliver(SegmentId(0)); 2]);
    assert!(out.iter().all(|(_, bytes)| *bytes == INNER));
    for (group, source, reason) in [
        (OURS, [192, 0, 2, 9], DropReason::UnknownPeer),
        (OURS, OURS, DropReason::MartianSource),
        (OURS, [239, 129, 1, 2], DropReason::MartianSource),
        ([239, 1, 1, 1], PEER, DropReason::VniNotFound),
    ] {
        assert_eq!(lab.fate_in(&to_group(group, source)), Err(reason));
    }
    let mut other_port = to_group(OURS, PEER);
    other_port[37] += 1;
    assert_eq!(lab.fate_in(&other_port), Err(DropReason::VniNotFound));
    let mut without = Lab::new(vec![segment(config())]);
    let fate = without.fate_in(&to_group(OURS, PEER));
    assert_eq!(fate, Err(DropReason::VniNotFound));
}

#[test]
fn v12_the_same_over_ipv6() {
    let mut frame = tunnelled6(&INNER);
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 1, 0, 2]);
    frame[38..54].copy_from_slice(&[0xff, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2]);
    let mut lab = with_group(config6(), Inherit::Fixed(0), false);
    assert_eq!(lab.fate_in(&frame), Ok(INNER.to_vec()));
    frame[53] += 1;
    assert_eq!(lab.fate_in(&frame), Err(DropReason::VniNotFound));
}
