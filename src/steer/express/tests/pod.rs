//! XDP at a pod's device: what it takes leaves as the classifier sends it, and all else is left to that, as it is.

use libbpf_rs::{MapCore, MapFlags};

use super::six::{Families, frame6, of_pod6, of_pods};
use super::*;
use crate::steer::copy::{HEARTBEAT_STRIDE, POD_XDP};

const FAMILIES: [Families; 4] = [(false, false), (false, true), (true, false), (true, true)];
/// Where a frame's inner Ethernet header begins when it has left, over IPv4 or IPv6.
const OUTER6_LEN: usize = 70;
/// Where the outer identification and the checksum over it are.
const ID: [usize; 4] = [18, 19, 24, 25];

/// With an underlay device that takes frames from XDP on others.
fn gear_by_xdp() -> Loaded {
    let mut gear = gear();
    assert_eq!(gear.express.nics_by_xdp.insert(LOOPBACK, true), None);
    gear
}

fn takes(gear: &Loaded, frame: &[u8]) -> bool {
    let (verdict, out) = run(&gear.express.object, POD_XDP, frame);
    let untouched = (verdict, &out[..]) == (XDP_PASS, frame);
    assert!(untouched || verdict == XDP_REDIRECT, "{verdict}");
    !untouched
}

/// Has a frame be left to the classifier: nothing is changed, nothing counted.
fn leaves(gear: &Loaded, what: &str, frame: &[u8]) {
    let counted = || gear.express.counters().read().unwrap()[WAY_OUT as usize];
    let before = counted();
    assert!(!takes(gear, frame), "{what}");
    assert_eq!(counted(), before, "{what}");
}

/// Where the checksum of TCP or UDP is in a pod's frame.
fn check_at(within: bool, tcp: bool) -> usize {
    14 + if within { 40 } else { 20 } + if tcp { 16 } else { 6 }
}

/// With the sum of the pseudo-header in its place, as a device would be given it to finish.
fn unfinished(mut frame: Vec<u8>, within: bool, tcp: bool) -> Vec<u8> {
    let (addresses, end) = if within { (22..54, 54) } else { (26..34, 34) };
    let numbers = [if tcp { 6 } else { 17 }, (frame.len() - end) as u32];
    let words = frame[addresses].as_chunks::<2>().0.iter();
    let words = words.map(|word| u32::from(u16::from_be_bytes(*word)));
    let mut sum: u32 = words.chain(numbers).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let at = check_at(within, tcp);
    frame[at..at + 2].copy_from_slice(&(sum as u16).to_be_bytes());
    frame
}

#[test]
fn what_is_plain_leaves_as_the_classifier_sends_it() {
    for (over, within) in FAMILIES {
        for tcp in [false, true] {
            let mut gear = gear_by_xdp();
            let sent = of_pods(within, tcp);
            leaves(&gear, "of no flow", &sent);
            gear.promote_over(over, &sent);
            let (_, mut expected) = gear.send_from_pod(&sent);
            let (verdict, mut out) = run(&gear.express.object, POD_XDP, &sent);
            assert_eq!(verdict, XDP_REDIRECT);
            let added = if over { OUTER6_LEN } else { OUTER_LEN };
            assert_eq!(out.len(), sent.len() + added);
            if !over {
                // One packet more.
                assert!(sealed(&out, 14));
                for at in ID {
                    (out[at], expected[at]) = (0, 0);
                }
            }
            assert_eq!(out, expected, "{over} {within} {tcp}");
            let counted = gear.express.counters().read().unwrap()[WAY_OUT as usize];
            let len = sent.len() as u64;
            assert_eq!(
                (counted.received, counted.forwarded, counted.by_xdp),
                (2, 2, 1)
            );
            assert_eq!((counted.bytes, counted.lost), (2 * len, 0));
            let set = FlowKey::of(&sent, Way::Out).unwrap();
            let set = set.hash(&gear.express.seed()) & (SETS - 1);
            let slot = Slot(set as usize * WAYS + 2);
            let (flow, _) = gear.express.flow(slot);
            assert_eq!((flow.out_frames, flow.out_bytes), (2, 2 * len));
            let peer = gear.express.peers().read(PeerId(4));
            assert_eq!(peer.sent.frames, 2);
            assert_eq!(peer.sent.bytes, 2 * (len + added as u64));
        }
    }
}

#[test]
fn datagrams_of_all_lengths_are_looked_at_whole() {
    for len in (0..=70).chain([511, 512, 1000, 1401, 1402]) {
        let mut gear = gear_by_xdp();
        let mut sent = frame6([POD, GATEWAY], false, false, len);
        gear.promote_over(false, &sent);
        assert!(takes(&gear, &sent), "{len}");
        // As of a tunnel of the pod's own, whose inner checksum somebody else is to finish.
        if let Some(last) = sent.get_mut(62..).and_then(<[u8]>::last_mut) {
            *last ^= 0x10;
            leaves(&gear, "what does not add up", &sent);
        }
    }
}

#[test]
fn an_unfinished_checksum_is_left_to_who_knows_of_it() {
    for within in [false, true] {
        for tcp in [false, true] {
            let mut gear = gear_by_xdp();
            let sent = of_pods(within, tcp);
            gear.promote_over(false, &sent);
            leaves(&gear, "unfinished", &unfinished(sent.clone(), within, tcp));
            let mut none = sent.clone();
            let at = check_at(within, tcp);
            none[at..at + 2].fill(0);
            if tcp {
                // Wrong, and whole: that is its receiver's to see.
                assert!(takes(&gear, &none));
            } else {
                leaves(&gear, "none", &none);
            }
            assert!(takes(&gear, &sent));
        }
    }
}

#[test]
fn what_is_not_plain_is_left_to_the_classifier() {
    let mut gear = gear_by_xdp();
    gear.promote(&of_pod(false));
    gear.promote(&of_pod(true));
    gear.promote_over(false, &of_pod6(false));
    let edits: [(&str, usize, u8); 12] = [
        ("a used-up TTL", 22, 1),
        ("no TTL", 22, 0),
        ("options", 14, 0x46),
        ("a fragment", 20, 0x20),
        ("another protocol", 23, 1),
        ("another Ethertype", 12, 0x86),
        ("a tag", 12, 0x81),
        ("another length", 17, 1),
        ("congestion", 15, 3),
        ("another gateway", 5, 9),
        ("another pod's Ethernet address", 11, 9),
        ("another flow", 35, 9),
    ];
    for (what, at, value) in edits {
        let mut sent = of_pod(false);
        sent[at] = value;
        leaves(&gear, what, &sent);
    }
    for (what, at, value) in [("a used-up hop limit", 21, 1), ("a fragment", 20, 44)] {
        let mut sent = of_pod6(false);
        sent[at] = value;
        leaves(&gear, what, &sent);
    }
    for flag in [1, 2, 4] {
        let mut sent = of_pod(true);
        sent[47] |= flag;
        leaves(&gear, "what begins or ends a connection", &sent);
        assert!(takes(&gear, &of_pod(true)), "nor does that demote its flow");
    }
    let mut padded = of_pod(false);
    padded.push(0);
    leaves(&gear, "padding", &padded);
    let longest = 1464 - 62;
    let long = |len| frame6([POD, GATEWAY], false, false, len);
    assert!(takes(&gear, &long(longest)));
    leaves(&gear, "too long", &long(longest + 1));
    // More than a frame's first buffer has room for.
    leaves(&gear, "several buffers", &long(6000));
    assert!(takes(&gear, &of_pod(false)));
}

#[test]
fn the_classifier_has_the_first_word_when_a_flow_is_to_be_shown_or_in_the_other_gear() {
    let mut gear = gear_by_xdp();
    let sent = of_pod(false);
    // The kernel is to be shown one, and XDP does not take that for done.
    gear.promote_at(&sent, crate::port::now_ns() - 11_000_000_000);
    leaves(&gear, "one to show", &sent);
    leaves(&gear, "still one to show", &sent);
    let why = gear.why(WAY_OUT as usize, || drop(gear.send_from_pod(&sent)));
    assert_eq!(why, UpReason::Shown);
    assert!(takes(&gear, &sent));
    let segment = of_pod(true);
    gear.promote(&segment);
    assert!(takes(&gear, &segment));
    let mut superframe = segment.clone();
    superframe.resize(segment.len() + 3000, 0);
    let len = (superframe.len() as u16 - 14).to_be_bytes();
    superframe[16..18].copy_from_slice(&len);
    let verdict = run_superframe(&gear.express.object, "vxgate_from_pod", &superframe, 1400);
    assert_eq!(verdict, TC_ACT_REDIRECT);
    leaves(&gear, "beside a superframe", &segment);
}

#[test]
fn nothing_is_forwarded_where_nobody_lives_or_listens_or_the_underlay_cannot_take_it() {
    let sent = of_pod(false);
    let mut gear = gear_by_xdp();
    gear.promote(&sent);
    assert!(takes(&gear, &sent));
    gear.express.heard(crate::port::now_ns() - 200_000_000);
    leaves(&gear, "nobody listens", &sent);
    gear.express.heard(i64::MAX as u64 / 2);
    let heartbeats = gear.steering.heartbeats().unwrap();
    let zero = 0u32.to_ne_bytes();
    heartbeats
        .update(&zero, &[0; HEARTBEAT_STRIDE], MapFlags::ANY)
        .unwrap();
    leaves(&gear, "no worker lives", &sent);
    pretend_alive(&gear.steering, u64::MAX);
    let bypass = gear.steering.bypass().unwrap();
    bypass
        .update(&zero, &1u64.to_ne_bytes(), MapFlags::ANY)
        .unwrap();
    leaves(&gear, "drained", &sent);
    bypass
        .update(&zero, &0u64.to_ne_bytes(), MapFlags::ANY)
        .unwrap();
    assert!(takes(&gear, &sent));
    gear.express.begin(GENERATION + 1);
    leaves(&gear, "another generation", &sent);
    gear.express.begin(0);
    leaves(&gear, "no generation", &sent);
    let mut unable = super::gear();
    unable.promote(&sent);
    leaves(&unable, "no way out by XDP", &sent);
}

#[test]
fn a_flow_that_only_goes_to_its_pod_is_not_taken_from_it() {
    let mut gear = gear_by_xdp();
    let sent = of_pod(false);
    let into = Promoted {
        ways: Ways::In,
        ..gear.flow(&sent)
    };
    gear.go(&into);
    leaves(&gear, "the other way", &sent);
    let both = Promoted {
        more: true,
        ..gear.flow(&sent)
    };
    gear.go(&both);
    assert!(takes(&gear, &sent));
}
