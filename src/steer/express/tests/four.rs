//! The gear's programs on IPv4 in a tunnel over IPv4.

use super::*;

#[test]
fn a_pods_frame_leaves_as_an_independent_parser_wants_it() {
    for tcp in [false, true] {
        let mut gear = gear();
        let sent = of_pod(tcp);
        assert_eq!(gear.send_from_pod(&sent), (TCX_NEXT, sent.clone()));
        gear.promote(&sent);
        let (verdict, out) = gear.send_from_pod(&sent);
        assert_eq!(verdict, TC_ACT_REDIRECT);
        assert_eq!(out.len(), sent.len() + OUTER_LEN);
        let outer = Ipv4HeaderSlice::from_slice(&out[14..]).unwrap();
        assert!(sealed(&out, 14) && sealed(&out, 64));
        assert_eq!(usize::from(outer.total_len()), out.len() - 14);
        assert_eq!((outer.source(), outer.destination()), (NODE, FAR_NODE));
        let udp = UdpHeaderSlice::from_slice(&out[34..]).unwrap();
        let header = udp.to_header();
        let sum = header
            .calc_checksum_ipv4_raw(NODE, FAR_NODE, &out[42..])
            .unwrap();
        assert_eq!(header.checksum, sum);
        assert_eq!(usize::from(header.length), out.len() - 34);
        assert_eq!(
            (out[0..6].to_vec(), out[50..56].to_vec()),
            (FAR_NIC.0.to_vec(), FAR.0.to_vec())
        );
        // All behind the Ethernet header, but for the TTL and the checksum that covers it.
        assert_eq!(out[64..72], sent[14..22]);
        assert_eq!((out[72], &out[76..]), (sent[22] - 1, &sent[26..]));
        // Another packet, another identification.
        let (_, again) = gear.send_from_pod(&sent);
        assert_ne!(again[18..20], out[18..20]);
    }
}

#[test]
fn ecn_is_copied_and_congestion_is_for_the_workers() {
    let mut gear = gear();
    gear.promote(&of_pod(false));
    for (ecn, express) in [(0, true), (1, true), (2, true), (3, false)] {
        let mut sent = of_pod(false);
        sent[15] = ecn;
        let sum = Ipv4HeaderSlice::from_slice(&sent[14..])
            .unwrap()
            .to_header();
        sent[24..26].copy_from_slice(&sum.calc_header_checksum().to_be_bytes());
        // Not encapsulated, but routed: to the workers.
        let (verdict, out) = gear.send_from_pod(&sent);
        let added = if express { OUTER_LEN } else { 0 };
        assert_eq!((verdict, out.len()), (TC_ACT_REDIRECT, sent.len() + added));
        assert_eq!(out[15], if express { 0xb8 | ecn } else { ecn });
    }
}

#[test]
fn a_frame_from_the_wire_reaches_the_pod_as_routing_would_send_it() {
    for tcp in [false, true] {
        let mut gear = gear();
        gear.promote(&of_pod(tcp));
        let sent = of_wire(tcp);
        let (verdict, out) = run(&gear.steering, "vxgate_underlay", &sent);
        assert_eq!(verdict, XDP_PASS);
        // In front of it, who it is for; the kernel shows it in a test.
        let (handover, out) = out.split_at(8);
        let expected = pair(HANDOVER_MAGIC, LOOPBACK);
        assert_eq!(handover, expected.to_ne_bytes());
        assert_eq!(out.len(), sent.len() - OUTER_LEN);
        assert_eq!((&out[..6], &out[6..12]), (&POD.0[..], &GATEWAY.0[..]));
        assert!(sealed(out, 14));
        assert_eq!((out[22], &out[26..]), (62, &sent[76..]));
        let counted = gear.steering.counters(COUNTS_UNDERLAY, 0).unwrap();
        assert_eq!((counted.express, counted.steered), (1, 0));
    }
}

/// Where our program is generic, GRO may have made one of several.
#[test]
fn what_may_have_been_joined_before_goes_by_the_workers_and_what_leaves_does_not() {
    let mut gear = gear();
    gear.express.nics_joined.insert(LOOPBACK);
    gear.promote(&of_pod(false));
    let why = gear.why(WAY_IN as usize, || {
        run(&gear.steering, "vxgate_underlay", &of_wire(false));
    });
    assert_eq!(why, UpReason::Ring);
    let slot = gear.flow(&of_pod(false)).slot;
    assert!(gear.express.joined(slot));
    assert_eq!(gear.send_from_pod(&of_pod(false)).0, TC_ACT_REDIRECT);
}

#[test]
fn what_is_not_as_all_others_of_the_flow_is_handed_up_unchanged() {
    let mut gear = gear();
    gear.promote(&of_pod(false));
    for (at, value, why) in UNLIKE {
        let mut sent = of_pod(false);
        sent[at] = value;
        let found = gear.why(WAY_OUT as usize, || {
            assert_eq!(gear.send_from_pod(&sent), (TCX_NEXT, sent.clone()));
        });
        assert_eq!(found, why, "{at}: {value}");
    }
    let outer: [(usize, u8, UpReason); 4] = [
        (17, 1, UpReason::Length),
        (39, 1, UpReason::Length),
        (29, 77, UpReason::Spoofed), // Another sender; and its checksum is wrong.
        (25, 77, UpReason::Spoofed),
    ];
    let inner = UNLIKE.map(|(at, value, why)| (OUTER_LEN + at, value, why));
    for (at, value, why) in outer.into_iter().chain(inner) {
        let mut sent = of_wire(false);
        sent[at] = value;
        let found = gear.why(WAY_IN as usize, || {
            // No socket is there: the kernel gets it.
            let passed = run(&gear.steering, "vxgate_underlay", &sent);
            assert_eq!(passed, (XDP_PASS, sent.clone()));
        });
        assert_eq!(found, why, "{at}: {value}");
    }
}

#[test]
fn what_follows_a_whole_packet_in_further_buffers_reaches_no_pod() {
    // What the kernel puts into the first buffer of a test.
    const FIRST: usize = 4096 - 256 - 320;
    let mut gear = gear();
    gear.promote(&of_pod(false));
    let sent = of_wire(false);
    let more = FIRST - sent.len();
    let whole = longer(sent, OUTER_LEN, more);
    let (verdict, out) = run(&gear.steering, "vxgate_underlay", &whole);
    assert_eq!((verdict, out.len()), (XDP_PASS, FIRST - OUTER_LEN + 8));
    let mut trailing = whole;
    trailing.resize(FIRST + 400, 0x77);
    let why = gear.why(WAY_IN as usize, || {
        let passed = run(&gear.steering, "vxgate_underlay", &trailing);
        assert_eq!(passed, (XDP_PASS, trailing.clone()));
    });
    assert_eq!(why, UpReason::Length);
}

#[test]
fn a_segment_that_ends_a_connection_demotes_its_flow_both_ways() {
    for fin in [false, true] {
        let mut gear = gear();
        gear.promote(&of_pod(true));
        if fin {
            let mut sent = of_pod(true);
            sent[47] |= 1;
            let why = gear.why(WAY_OUT as usize, || drop(gear.send_from_pod(&sent)));
            assert_eq!(why, UpReason::TcpFlags);
        } else {
            gear.express.begin(GENERATION + 1);
        }
        let why = gear.why(WAY_OUT as usize, || drop(gear.send_from_pod(&of_pod(true))));
        assert_eq!(why, UpReason::NoFlow);
        let why = gear.why(WAY_IN as usize, || {
            run(&gear.steering, "vxgate_underlay", &of_wire(true));
        });
        assert_eq!(why, UpReason::NoFlow);
    }
}

#[test]
fn a_flow_that_was_taken_out_is_none_and_nothing_counts_in_no_generation() {
    let mut gear = gear();
    let key = FlowKey::of(&of_pod(false), Way::Out).unwrap();
    gear.promote(&of_pod(false));
    gear.send_from_pod(&of_pod(false));
    let set = key.hash(&gear.express.seed()) & (SETS - 1);
    let slot = Slot(set as usize * WAYS + 2);
    assert_eq!(gear.express.look(slot), Verdict::Frames(1));
    let (counters, pod) = gear.express.flow(slot);
    let len = of_pod(false).len() as u64;
    assert_eq!(
        (counters.out_frames, counters.out_bytes, pod),
        (1, len, None)
    );
    gear.express.vacate(slot, crate::port::now_ns());
    assert_eq!(gear.express.look(slot), Verdict::Demoted);
    let why = gear.why(WAY_OUT as usize, || {
        drop(gear.send_from_pod(&of_pod(false)))
    });
    assert_eq!(why, UpReason::NoFlow);
    gear.express.begin(0);
    let why = gear.why(WAY_OUT as usize, || {
        drop(gear.send_from_pod(&of_pod(false)))
    });
    assert_eq!(why, UpReason::Unsettled);
}

#[test]
fn nothing_is_forwarded_on_the_word_of_one_who_hangs() {
    let mut gear = gear();
    gear.promote(&of_pod(true));
    assert_eq!(gear.send_from_pod(&of_pod(true)).0, TC_ACT_REDIRECT);
    gear.express.heard(crate::port::now_ns() - 200_000_000);
    let why = gear.why(WAY_OUT as usize, || drop(gear.send_from_pod(&of_pod(true))));
    assert_eq!(why, UpReason::NotAlive);
    let why = gear.why(WAY_IN as usize, || {
        let passed = run(&gear.steering, "vxgate_underlay", &of_wire(true));
        assert_eq!(passed, (XDP_PASS, of_wire(true)));
    });
    assert_eq!(why, UpReason::NotAlive);
    gear.express.heard(crate::port::now_ns());
    assert_eq!(gear.send_from_pod(&of_pod(true)).0, TC_ACT_REDIRECT);
}

#[test]
fn every_frame_that_comes_has_one_fate() {
    let mut gear = gear();
    gear.promote(&of_pod(true));
    for _ in 0..5 {
        gear.send_from_pod(&of_pod(true));
        gear.send_from_pod(&of_pod(false));
        run(&gear.steering, "vxgate_underlay", &of_wire(true));
        run(&gear.steering, "vxgate_underlay", &of_wire(false));
    }
    let [out, taken, ..] = gear.express.counters().read().unwrap();
    for way in [out, taken] {
        let up: u64 = way.up.iter().sum();
        assert_eq!((way.received, way.forwarded, way.lost, up), (10, 5, 0, 5));
        assert_eq!(way.bytes, 5 * of_pod(true).len() as u64);
    }
    let counted = |place| {
        let PeerTally { received, sent } = gear.express.peers().read(PeerId(place));
        [received, sent].map(|tally| (tally.frames, tally.bytes, tally.last_ns > 0))
    };
    let (bytes, nothing) = (of_pod(true).len() as u64, (0, 0, false));
    assert_eq!(counted(3), [(5, 5 * bytes, true), nothing]);
    let sent_bytes = 5 * (bytes + OUTER_LEN as u64);
    assert_eq!(counted(4), [nothing, (5, sent_bytes, true)]);
    for place in [0, PEERS as u16] {
        assert_eq!(counted(place), [nothing; 2]);
    }
}

#[test]
fn a_flow_that_goes_to_its_pod_only_leaves_by_the_kernel_until_it_goes_both_ways() {
    let mut gear = gear();
    let whole = gear.flow(&of_pod(true));
    let arrival = whole.arrival.unwrap();
    let to_pod = Promoted {
        departure: arrival.departure(),
        ways: Ways::In,
        ..whole
    };
    gear.go(&to_pod);
    let (verdict, out) = run(&gear.steering, "vxgate_underlay", &of_wire(true));
    assert_eq!((verdict, &out[8..14]), (XDP_PASS, &POD.0[..]));
    // Whoever else sends in its name does not reach the pod so, either.
    for at in [29, 55, 61] {
        let mut forged = of_wire(true);
        forged[at] ^= 1;
        let why = gear.why(WAY_IN as usize, || {
            run(&gear.steering, "vxgate_underlay", &forged);
        });
        assert_eq!(why, UpReason::Spoofed, "{at}");
    }
    let sent = of_pod(true);
    let why = gear.why(WAY_OUT as usize, || {
        assert_eq!(gear.send_from_pod(&sent), (TCX_NEXT, sent.clone()));
    });
    assert_eq!(why, UpReason::NoFlow);
    let seen = gear.express.at_pods(&whole.key, GENERATION);
    assert_eq!((seen.sender, seen.receiver), (Some(SIDE), None));
    let more = Promoted {
        more: true,
        ..whole
    };
    gear.go(&more);
    let (verdict, out) = gear.send_from_pod(&sent);
    assert_eq!(verdict, TC_ACT_REDIRECT);
    assert!(sealed(&out, 14) && sealed(&out, 64));
    run(&gear.steering, "vxgate_underlay", &of_wire(true));
    let (counters, _) = gear.express.flow(whole.slot);
    assert_eq!((counters.out_frames, counters.in_frames), (1, 2));
}

#[test]
fn of_more_flows_than_once_were_remembered_none_is_forgotten() {
    const FLOWS: u32 = 70_000;
    let gear = loaded_with(Gear::Express, 32_768);
    let (mut sent, mut back) = (of_pod(false), answer());
    let ports = |flow: u32| [1 + (flow / 50_000) as u16, 1 + (flow % 50_000) as u16];
    for flow in 0..FLOWS {
        let [local, remote] = ports(flow).map(u16::to_be_bytes);
        sent[34..38].copy_from_slice(&[local, remote].concat());
        gear.send_from_pod(&sent);
    }
    for flow in 0..FLOWS {
        let [local, remote] = ports(flow).map(u16::to_be_bytes);
        back[34..38].copy_from_slice(&[remote, local].concat());
        run(&gear.express.object, "vxgate_to_pod", &back);
    }
    let known = (0..FLOWS).filter(|flow| {
        let [local, remote] = ports(*flow).map(u16::to_be_bytes);
        sent[34..38].copy_from_slice(&[local, remote].concat());
        let key = FlowKey::of(&sent, Way::Out).unwrap();
        gear.express.seen_both_ways(&key, GENERATION).agreed() == Some(SIDE)
    });
    assert_eq!(known.count(), FLOWS as usize);
}

/// What comes back to the pod for `of_pod(false)`.
fn answer() -> Vec<u8> {
    let mut back = frame([GATEWAY, POD], [ENDS[1], ENDS[0]], 62, false);
    back[34..38].copy_from_slice(&[0x07, 0xd0, 0x03, 0xe8]);
    back
}

#[test]
fn the_pods_side_is_known_as_it_was_seen_each_way() {
    let gear = gear();
    let sent = of_pod(false);
    let key = FlowKey::of(&sent, Way::Out).unwrap();
    let back = answer();
    gear.send_from_pod(&sent);
    assert_eq!(gear.express.at_pods(&key, GENERATION).agreed(), None);
    assert_eq!(
        run(&gear.express.object, "vxgate_to_pod", &back).0,
        TCX_NEXT
    );
    let seen = gear.express.at_pods(&key, GENERATION);
    assert_eq!(seen.agreed(), Some(SIDE));
    let nothing = AtPods::default();
    assert_eq!(gear.express.at_pods(&key, GENERATION + 1), nothing);
    let mut forged = sent;
    forged[11] ^= 1;
    gear.express.begin(GENERATION + 1);
    gear.send_from_pod(&forged);
    run(&gear.express.object, "vxgate_to_pod", &back);
    let seen = gear.express.at_pods(&key, GENERATION + 1);
    assert!(seen.sender.is_some() && seen.receiver.is_some());
    assert_eq!(seen.agreed(), None);
}
