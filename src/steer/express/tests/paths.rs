//! Paths: which flows share one, what each keeps of its own, and when one is another's.

use libbpf_rs::{MapCore, MapFlags};

use super::six::{assert_outer, frame6, gear6};
use super::*;
use crate::flows::REST_NS;

/// A frame of another flow between the same ends, whose ports add up to the same.
fn another(frame: &[u8], port: u16) -> Vec<u8> {
    let at = if frame[12] == 0x86 { 54 } else { 34 };
    let mut frame = frame.to_vec();
    let ports = [port, 3000 - port].map(u16::to_be_bytes);
    frame[at..at + 4].copy_from_slice(&ports.concat());
    frame
}

/// The flow of this frame, with an outer source port of its own.
fn flow_from(gear: &Loaded, over: bool, frame: &[u8], source_port: u16) -> Promoted {
    let mut flow = gear.flow_over(over, frame);
    let at = if over { 54 } else { 34 };
    flow.departure.headers[at..at + 2].copy_from_slice(&source_port.to_be_bytes());
    flow
}

fn taken(gear: &Loaded) -> usize {
    gear.express.entries.paths.taken()
}

/// Flows in places of their own, each to another VTEP.
fn to_other_vteps(gear: &Loaded) -> impl Iterator<Item = Promoted> {
    let flow = gear.flow(&of_pod(false));
    (0..).map(move |vtep: u8| {
        let mut flow = flow;
        flow.slot = Slot(vtep.into());
        flow.departure.headers[33] = vtep;
        flow
    })
}

#[test]
fn flows_between_one_pod_and_one_vtep_share_a_path_and_keep_their_ports_and_checksums() {
    for over in [false, true] {
        for first in [of_pod(false), frame6([POD, GATEWAY], false, false, 101)] {
            let mut gear = gear6();
            let frames = [1000, 1001, 1002].map(|port| another(&first, port));
            let flows = [0xabcd, 0xc001, 0xffff].into_iter().zip(&frames);
            let flows = flows.map(|(port, frame)| flow_from(&gear, over, frame, port));
            let flows: Vec<_> = flows.collect();
            flows.iter().for_each(|flow| gear.go(flow));
            assert_eq!(taken(&gear), 1);
            for (flow, frame) in flows.iter().zip(&frames) {
                let (verdict, out) = gear.send_from_pod(frame);
                assert_eq!(verdict, TC_ACT_REDIRECT);
                let at = if over { 54 } else { 34 };
                assert_eq!(out[at..at + 2], flow.departure.headers[at..at + 2]);
                assert_outer(over, &out, frame.len());
                let (counters, _) = gear.express.flow(flow.slot);
                assert_eq!(counters.out_frames, 1);
            }
            // One that goes takes nothing from the others.
            gear.express.vacate(flows[0].slot, crate::port::now_ns());
            assert_eq!(gear.send_from_pod(&frames[0]).0, TCX_NEXT);
            for frame in &frames[1..] {
                assert_eq!(gear.send_from_pod(frame).0, TC_ACT_REDIRECT);
            }
            assert_eq!(taken(&gear), 1);
        }
    }
}

#[test]
fn whatever_differs_between_flows_but_their_names_and_ports_makes_another_path() {
    let gear = &mut gear();
    let flow = gear.flow(&of_pod(false));
    gear.go(&flow);
    let mut paths = 1;
    let mut differs = |what: &str, change: &dyn Fn(&mut Promoted), many: usize| {
        let mut other = flow;
        other.slot = Slot(paths + many);
        change(&mut other);
        gear.go(&other);
        paths += many;
        assert_eq!(taken(gear), paths, "{what}");
    };
    differs("the port", &|flow| flow.departure.headers[34] = 7, 0);
    differs("the pod's device", &|flow| flow.pod.pod = 9, 1);
    differs("its address", &|flow| flow.pod.pod_mac = FAR, 1);
    differs("its gateway's", &|flow| flow.pod.gateway_mac = FAR, 1);
    differs("the VTEP", &|flow| flow.departure.headers[33] = 9, 1);
    differs("its address", &|flow| flow.departure.headers[55] = 9, 1);
    differs("the inner type", &|flow| flow.departure.headers[63] = 9, 1);
    differs("the next hop", &|flow| flow.departure.headers[5] = 9, 1);
    differs("the NIC", &|flow| flow.departure.nic = 9, 1);
    differs("the length", &|flow| flow.departure.frame_max = 999, 1);
    differs("a route's", &|flow| flow.packet_max[1] = Some(999), 1);
    differs("the ECN", &|flow| flow.departure.ecn = 0, 1);
    differs("no checksum", &|flow| flow.departure.checksum = false, 1);
    differs("a verified one", &|flow| flow.departure.verify = true, 1);
    differs("the peer", &|flow| flow.departure.peer = PeerId(1), 1);
    differs("the device", &|flow| flow.departure.as_kernel = false, 1);
}

#[test]
fn flows_of_two_pods_and_to_two_vteps_are_not_mixed_up() {
    let mut gear = gear();
    let frames = [1000, 1001, 1002].map(|port| another(&of_pod(false), port));
    let mut flows = [0, 1, 2].map(|which| gear.flow(&frames[which]));
    flows[1].departure.headers[30..34].copy_from_slice(&[192, 0, 2, 77]);
    flows[2].pod.pod = LOOPBACK + 1;
    flows.iter().for_each(|flow| gear.go(flow));
    assert_eq!(taken(&gear), 3);
    for (frame, vtep) in frames.iter().zip([FAR_NODE, [192, 0, 2, 77]]) {
        let (verdict, out) = gear.send_from_pod(frame);
        assert_eq!(verdict, TC_ACT_REDIRECT);
        assert_eq!(out[30..34], vtep);
        assert!(sealed(&out, 14));
    }
    let why = gear.why(WAY_OUT as usize, || drop(gear.send_from_pod(&frames[2])));
    assert_eq!(why, UpReason::Spoofed, "the other pod's");
}

#[test]
fn a_path_is_anothers_only_when_nobody_can_read_it_any_more() {
    let mut gear = loaded_with(Gear::Express, 1);
    let now_ns = crate::port::now_ns();
    let flows: Vec<_> = to_other_vteps(&gear).take(4).collect();
    // As many as there are flows, but for the first, which is nobody's.
    flows[..3].iter().for_each(|flow| gear.go_at(flow, now_ns));
    let none = gear.express.take_path(&flows[3], now_ns);
    assert_eq!((none, taken(&gear)), (None, 3));
    let same = gear.express.take_path(&flows[1], now_ns).unwrap();
    gear.express.give_back(same, now_ns);
    assert_eq!(taken(&gear), 3, "another flow goes by it");
    gear.express.vacate(flows[1].slot, now_ns);
    gear.express.vacate(flows[1].slot, now_ns);
    assert_eq!(taken(&gear), 2);
    let rested_ns = now_ns + REST_NS;
    let soon = gear.express.take_path(&flows[3], rested_ns - 1);
    assert_eq!(soon, None, "it rests");
    // Had again as it is, it rests anew.
    let again = gear.express.take_path(&flows[1], rested_ns - 1);
    assert_eq!(again, Some(same));
    assert_eq!(gear.express.take_path(&flows[3], rested_ns + 1), None);
    gear.express.give_back(same, rested_ns + 1);
    let soon = gear.express.take_path(&flows[3], rested_ns + REST_NS);
    assert_eq!(soon, None, "it rests again");
    let then_ns = rested_ns + 1 + REST_NS;
    let path = gear.express.take_path(&flows[3], then_ns);
    assert_eq!(path, Some(same));
    let flow = gear.flow(&of_pod(false));
    let flow = Promoted {
        slot: Slot(3),
        departure: flows[3].departure,
        ..flow
    };
    gear.express
        .promote(&flow, path.unwrap(), GENERATION, then_ns);
    assert_eq!(gear.express.take_path(&flows[1], then_ns), None);
}

#[test]
fn all_paths_are_given_back_with_their_flows() {
    let mut gear = loaded_with(Gear::Express, 1);
    let flows: Vec<_> = to_other_vteps(&gear).take(30).collect();
    // Three at a time, each round by others.
    for (round, three) in (0..).zip(flows.chunks(3)) {
        let now_ns = round * REST_NS;
        three.iter().for_each(|flow| {
            let slot = Slot(flow.slot.0 % 3);
            gear.go_at(&Promoted { slot, ..*flow }, now_ns);
        });
        assert_eq!(taken(&gear), 3);
        (0..3).for_each(|slot| gear.express.vacate(Slot(slot), now_ns));
        assert_eq!(taken(&gear), 0);
    }
}

#[test]
fn a_flow_that_goes_both_ways_from_now_on_gives_back_the_path_that_it_had() {
    let mut gear = gear();
    let both = gear.flow(&of_pod(true));
    let to_pod = Promoted {
        departure: both.arrival.unwrap().departure(),
        ways: Ways::In,
        ..both
    };
    gear.go(&to_pod);
    assert_eq!(taken(&gear), 1);
    gear.go(&Promoted { more: true, ..both });
    assert_eq!(taken(&gear), 1);
    let (verdict, out) = gear.send_from_pod(&of_pod(true));
    assert_eq!(
        (verdict, &out[34..36]),
        (TC_ACT_REDIRECT, &[0xab, 0xcd][..])
    );
    run(&gear.steering, "vxgate_underlay", &of_wire(true));
    let (counters, _) = gear.express.flow(both.slot);
    assert_eq!((counters.out_frames, counters.in_frames), (1, 1));
}

#[test]
fn a_name_that_was_read_before_its_place_became_anothers_names_nothing() {
    let mut gear = gear();
    let [one, other] = [1000, 1001].map(|port| another(&of_pod(false), port));
    let flow = gear.flow(&one);
    gear.go(&flow);
    assert_eq!(gear.send_from_pod(&one).0, TC_ACT_REDIRECT);
    let sets = gear.express.object.map("flow_sets").unwrap();
    let set = ((flow.slot.0 / WAYS) as u32).to_ne_bytes();
    let names = || sets.lookup(&set, MapFlags::ANY).unwrap().unwrap();
    let before = names();
    gear.express.vacate(flow.slot, crate::port::now_ns());
    let slot = flow.slot;
    gear.go(&Promoted {
        slot,
        ..gear.flow(&other)
    });
    // The names as they were, all else as it is.
    let mut read = names();
    read[..64].copy_from_slice(&before[..64]);
    sets.update(&set, &read, MapFlags::ANY).unwrap();
    let why = gear.why(WAY_OUT as usize, || drop(gear.send_from_pod(&one)));
    assert_eq!(why, UpReason::NoFlow);
}
