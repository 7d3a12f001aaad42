//! What the inner headers ask of the outer ones.

use super::super::super::lab::with_class;
use super::*;
use crate::table::{Df, Inherit};
use etherparse::PacketBuilder;
use std::collections::HashSet;

#[test]
fn a_frame_with_a_cut_header_is_short() {
    let mut lab = lab();
    for (frame, from, whole) in [(inner4(NEAR, &[]), 0, 34), (inner6(NEAR, &[]), 14, 54)] {
        let tagged = tagged(&frame);
        for len in from..whole {
            if len < 1 {
                continue; // A ring never holds an empty frame.
            }
            if len != 12 && len != 13 || from == 0 {
                assert_eq!(
                    lab.fate_out(&frame[..len]),
                    Err(DropReason::AccessShort),
                    "{len} bytes"
                );
            }
            if len >= 14 {
                let cut = &tagged[..len + 4];
                assert_eq!(
                    lab.fate_out(cut),
                    Err(DropReason::AccessShort),
                    "{len} bytes and a tag"
                );
            }
        }
        assert!(lab.fate_out(&frame[..whole]).is_ok());
        assert!(lab.fate_out(&tagged[..whole + 4]).is_ok());
    }
}

#[test]
fn d14_ttl_is_fixed_or_the_inner_one() {
    let (four, six) = (inner4(NEAR, &[]), inner6(NEAR, &[]));
    let mut fixed = lab_with(|config| config.ttl = Inherit::Fixed(7));
    let mut inherit = lab_with(|config| config.ttl = Inherit::Inner);
    for (frame, inner) in [
        (&four, 63),
        (&six, 62),
        (&tagged(&four), 63),
        (&ARP.to_vec(), 64),
    ] {
        assert_eq!(ip(&fixed.fate_out(frame).unwrap()).time_to_live, 7);
        assert_eq!(ip(&inherit.fate_out(frame).unwrap()).time_to_live, inner);
    }
}

#[test]
fn d14_dscp_is_fixed_or_the_inner_one_and_ecn_is_carried_in_any_case() {
    let mut fixed = lab_with(|config| config.tos = Inherit::Fixed(0x28));
    let mut zero = lab();
    let mut inherit = lab_with(|config| config.tos = Inherit::Inner);
    for plain in [inner4(NEAR, &[]), inner6(NEAR, &[])] {
        for (class, ecn) in [(0x14, 0), (0xb9, 1), (0xb8 | 2, 2), (0xbb, 2)] {
            let frame = with_class(plain.clone(), class);
            for frame in [tagged(&frame), frame] {
                assert_eq!(tos(&zero.fate_out(&frame).unwrap()), ecn);
                assert_eq!(tos(&fixed.fate_out(&frame).unwrap()), 0x28 | ecn);
                assert_eq!(tos(&inherit.fate_out(&frame).unwrap()), class & 0xfc | ecn);
            }
        }
    }
    assert_eq!(tos(&inherit.fate_out(&ARP).unwrap()), 0);
    assert_eq!(tos(&fixed.fate_out(&ARP).unwrap()), 0x28);
}

#[test]
fn d09_df_is_set_unset_or_the_inner_one() {
    let mut unset = lab();
    let mut set = lab_with(|config| config.df = Df::Set);
    let mut inherit = lab_with(|config| config.df = Df::Inherit);
    let free = {
        let mut frame = inner4(NEAR, &[]);
        frame[20] = 0;
        frame
    };
    let mut bound = free.clone();
    bound[20] = 0x40;
    let cases = [
        (&free, false),
        (&bound, true),
        (&inner6(NEAR, &[]), true),
        (&ARP.to_vec(), false),
        (&tagged(&bound), false),
    ];
    for (frame, inherited) in cases {
        assert!(!ip(&unset.fate_out(frame).unwrap()).dont_fragment);
        assert!(ip(&set.fate_out(frame).unwrap()).dont_fragment);
        assert_eq!(
            ip(&inherit.fate_out(frame).unwrap()).dont_fragment,
            inherited
        );
    }
}

#[test]
fn v05_source_ports_are_stable_in_a_flow_and_stay_in_the_devices_range() {
    let mut lab =
        lab_with(|config| (config.source_ports.low, config.source_ports.high) = (50000, 50007));
    let flow = |port| {
        let mut bytes = Vec::new();
        let ip = PacketBuilder::ethernet2(OWN.0, NEAR.0).ipv4([10, 244, 0, 2], [10, 244, 1, 2], 64);
        ip.tcp(port, 80, 1, 1000).write(&mut bytes, &[]).unwrap();
        bytes
    };
    let mut seen = HashSet::new();
    for port in 0..200 {
        let sent = [
            lab.fate_out(&flow(port)).unwrap(),
            lab.fate_out(&flow(port)).unwrap(),
        ];
        assert_eq!(source_port(&sent[0]), source_port(&sent[1]));
        seen.insert(source_port(&sent[0]));
    }
    assert_eq!(seen, (50000..=50007).collect());
}
