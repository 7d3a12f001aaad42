//! Which flows may go direct, when they are looked at, and when they are given up.

use super::super::HEADERS_LEN;
use super::super::key::tests::{key, seed};
use super::*;
use crate::stats::PeerId;
use crate::wire::{MacAddr, Vni};

pub(in super::super) const FAR: [u8; 4] = [10, 0, 0, 11];
const MS: u64 = 1_000_000;

pub(in super::super) fn out(key: FlowKey) -> Sighting {
    let mut headers = [0; HEADERS_LEN];
    headers[12..14].copy_from_slice(&[8, 0]);
    headers[30..34].copy_from_slice(&FAR);
    let departure = Departure {
        headers,
        device: 4,
        nic: 3,
        frame_max: 1464,
        ecn: 3,
        checksum: true,
        verify: true,
        peer: PeerId(2),
        as_kernel: true,
    };
    Sighting {
        key,
        generation: 7,
        seen: Seen::Out(departure),
    }
}

pub(in super::super) fn arrived(key: FlowKey, source: [u8; 4]) -> Sighting {
    let arrival = Arrival {
        source: source.into(),
        device: 4,
        nic: 3,
        peer: PeerId(2),
        local: [10, 0, 0, 10].into(),
        port: 8472,
        vni: Vni::new(1).unwrap(),
        macs: [MacAddr([6; 6]), MacAddr([8; 6])],
        ether_type: 0x0800,
        verify: true,
    };
    Sighting {
        key,
        generation: 7,
        seen: Seen::In(arrival),
    }
}

pub(in super::super) fn pod() -> Option<PodSide> {
    Some(PodSide {
        pod: 9,
        pod_mac: MacAddr([2; 6]),
        gateway_mac: MacAddr([4; 6]),
    })
}

/// Seen both ways by the same pod.
pub(in super::super) fn alike(side: Option<PodSide>) -> AtPods {
    AtPods {
        sender: side,
        receiver: side,
    }
}

pub(in super::super) fn judge() -> Judge {
    impatient(16)
}

/// One that asks for what was not there at once.
fn impatient(sets: usize) -> Judge {
    let mut judge = Judge::new(sets, seed(1));
    judge.again_ns = 0;
    assert!(judge.begin(7, 0).is_empty());
    judge
}

/// Promotes what may be.
pub(in super::super) fn decide_by(
    judge: &mut Judge,
    now_ns: u64,
    at_pods: impl FnMut(&FlowKey) -> AtPods,
) -> Vec<Promoted> {
    let ripe = judge.ripe(now_ns, at_pods).into_iter();
    ripe.filter(|flow| judge.promote(flow, now_ns)).collect()
}

fn decide(judge: &mut Judge, now_ns: u64, side: Option<PodSide>) -> Vec<Promoted> {
    decide_by(judge, now_ns, |_| alike(side))
}

#[test]
fn a_flow_is_promoted_when_all_four_were_seen_and_not_before() {
    let flow = key(5, 1000);
    let mut judge = judge();
    judge.hear(&out(flow), 0);
    assert_eq!(decide(&mut judge, 1, pod()), []);
    judge.hear(&arrived(flow, FAR), 2);
    assert_eq!(decide(&mut judge, 3, None), []);
    let promoted = decide(&mut judge, 4, pod());
    assert_eq!(promoted.len(), 1);
    assert_eq!((promoted[0].key, promoted[0].pod), (flow, pod().unwrap()));
    assert_eq!(judge.promoted(), 1);
    judge.hear(&out(flow), 5);
    assert_eq!(decide(&mut judge, 6, pod()), [], "it is");
}

#[test]
fn of_very_many_so_many_are_asked_for_at_a_time_and_all_in_turn() {
    let mut judge = impatient(1024);
    for port in 0..1500 {
        judge.hear(&out(key(5, port)), 0);
        judge.hear(&arrived(key(5, port), FAR), 0);
    }
    let asked = |judge: &mut Judge| {
        let mut asked = Vec::new();
        let ask = |key: &FlowKey| {
            asked.push(key.local.port());
            AtPods::default()
        };
        assert_eq!(judge.ripe(1, ask), []);
        asked
    };
    let ports: Vec<u16> = (0..1500).collect();
    assert_eq!(asked(&mut judge), ports[..1000]);
    assert_eq!(asked(&mut judge), [&ports[1000..], &ports[..500]].concat());
    assert_eq!(decide(&mut judge, 2, pod()).len(), 1000);
    assert_eq!(decide(&mut judge, 3, pod()).len(), 500);
}

#[test]
fn a_flood_of_flows_that_never_may_go_does_not_make_the_lists_longer_than_the_table() {
    let mut judge = Judge::new(256, seed(1));
    judge.begin(7, 0);
    for second in 0..100_u64 {
        // All that there is room for, each second others.
        let now_ns = second * 1000 * MS;
        for port in 0..2000 {
            let flow = key(5 + second as u8, port);
            judge.hear(&out(flow), now_ns);
            judge.hear(&arrived(flow, FAR), now_ns);
        }
        judge.ripe(now_ns, |_| AtPods::default());
    }
    let listed: usize = judge.waiting.iter().map(VecDeque::len).sum();
    assert!(listed <= 1024, "{listed}");
}

#[test]
fn of_a_hundred_thousand_nearly_all_are_promoted_and_the_rest_counted() {
    const FLOWS: usize = 100_000;
    let mut judge = Judge::new(65_536, seed(1));
    judge.begin(7, 0);
    let flows = || (0..FLOWS).map(|flow| key(5 + (flow / 50_000) as u8, (flow % 50_000) as u16));
    for flow in flows() {
        judge.hear(&out(flow), 0);
    }
    for flow in flows() {
        judge.hear(&arrived(flow, FAR), 0);
    }
    let ticks = (1..=FLOWS as u64 / 1000).map(|tick| decide(&mut judge, tick, pod()).len());
    let promoted: usize = ticks.sum();
    assert_eq!(promoted, judge.promoted());
    assert!(promoted >= FLOWS * 99 / 100, "{promoted}");
    assert_eq!(judge.refused(), 2 * (FLOWS - promoted) as u64);
}

#[test]
fn what_was_not_there_is_asked_for_ever_more_rarely() {
    let mut judge = Judge::new(16, seed(1));
    judge.begin(7, 0);
    let mut asked = Vec::new();
    for ms in 0..2000 {
        // A service's: told of all the time, and translated before it comes to a pod.
        judge.hear(&out(key(5, 1)), ms * MS);
        judge.hear(&arrived(key(5, 1), FAR), ms * MS);
        judge.ripe(ms * MS, |_| {
            asked.push(ms);
            AtPods::default()
        });
    }
    assert_eq!(asked, [0, 10, 30, 70, 150, 310, 630, 950, 1270, 1590, 1910]);
    // Told of no more, it is forgotten; told of again, it is asked for at once.
    assert_eq!(decide(&mut judge, 9_000 * MS, None), []);
    judge.hear(&out(key(5, 1)), 9_001 * MS);
    assert_eq!(decide(&mut judge, 9_001 * MS, pod()).len(), 1);
}

#[test]
fn what_was_put_off_may_be_promoted_later() {
    let mut judge = judge();
    judge.hear(&out(key(5, 1)), 0);
    judge.hear(&arrived(key(5, 1), FAR), 0);
    let ripe = judge.ripe(1, |_| alike(pod()));
    assert_eq!((ripe.len(), judge.promoted()), (1, 0));
    judge.put_off(ripe[0].slot, 1);
    assert_eq!(judge.promoted(), 0);
    assert_eq!(decide(&mut judge, 2, pod()), ripe);
    assert!(!judge.promote(&ripe[0], 3), "it is");
    assert_eq!(judge.promoted(), 1);
}

#[test]
fn the_idle_make_room_where_there_is_little() {
    let idle_ns = |flows| {
        let mut judge = Judge::new(4, seed(1));
        judge.begin(7, 0);
        for port in 0..flows {
            judge.hear(&out(key(5, port)), 0);
            judge.hear(&arrived(key(5, port), FAR), 0);
        }
        let promoted = decide(&mut judge, 0, pod()).len();
        let seconds = (1..60).find(|second| {
            let (mut gone, now_ns) = (0, second * 1000 * MS);
            judge.sweep(now_ns, 1, |_| Verdict::Frames(0), |_, _| gone += 1);
            gone == promoted
        });
        seconds.map(|seconds| seconds * 1000 * MS)
    };
    assert_eq!(idle_ns(4), Some(IDLE_NS));
    assert_eq!(idle_ns(12), Some(CROWDED_IDLE_NS));
}

#[test]
fn what_comes_from_elsewhere_than_it_goes_to_is_not_promoted() {
    let mut judge = judge();
    judge.hear(&out(key(5, 1)), 0);
    judge.hear(&arrived(key(5, 1), [10, 0, 0, 12]), 0);
    assert_eq!(decide(&mut judge, 1, pod()), []);
    // A translated flow has another key on the other side.
    judge.hear(&out(key(5, 2)), 0);
    judge.hear(&arrived(key(5, 3), FAR), 0);
    assert_eq!(decide(&mut judge, 1, pod()), []);
}

#[test]
fn nothing_of_another_generation_counts() {
    let mut judge = judge();
    judge.hear(&out(key(5, 1)), 0);
    assert!(judge.begin(Generation::NONE, 1).is_empty());
    judge.hear(&arrived(key(5, 1), FAR), 2);
    assert!(judge.begin(8, 3).is_empty());
    judge.hear(&arrived(key(5, 1), FAR), 4);
    judge.hear(&out(key(5, 1)), 4);
    assert_eq!(decide(&mut judge, 5, pod()), []);
}

#[test]
fn another_generation_demotes_all_and_their_places_rest() {
    let mut judge = Judge::new(1, seed(1));
    judge.begin(7, 0);
    for port in 0..4 {
        judge.hear(&out(key(5, port)), 0);
        judge.hear(&arrived(key(5, port), FAR), 0);
    }
    let promoted = decide(&mut judge, 1, pod());
    assert_eq!(promoted.len(), 4);
    assert_eq!(judge.begin(7, 10 * MS).len(), 4);
    assert_eq!(judge.promoted(), 0);
    let again = |judge: &mut Judge, now_ns| {
        judge.hear(&out(key(5, 1)), now_ns);
        judge.hear(&arrived(key(5, 1), FAR), now_ns);
        decide(judge, now_ns, pod()).len()
    };
    assert_eq!(again(&mut judge, 500 * MS), 0);
    assert_eq!(again(&mut judge, 1010 * MS), 1);
}

#[test]
fn idle_flows_and_those_that_ended_are_given_up() {
    let mut judge = judge();
    for port in 0..3 {
        judge.hear(&out(key(5, port)), 0);
        judge.hear(&arrived(key(5, port), FAR), 0);
    }
    let promoted = decide(&mut judge, 0, pod());
    let slot = |port| {
        let mut flows = promoted.iter();
        flows.find(|flow| flow.key == key(5, port)).unwrap().slot
    };
    let (busy, idle, ended) = (slot(0), slot(1), slot(2));
    let sweep = |judge: &mut Judge, now_ns| {
        let mut gone = Vec::new();
        let look = |slot| match slot {
            _ if slot == busy => Verdict::Frames(now_ns),
            _ if slot == ended => Verdict::Demoted,
            _ => Verdict::Frames(0),
        };
        judge.sweep(now_ns, 1, look, |slot, _| gone.push(slot));
        gone
    };
    assert_eq!(sweep(&mut judge, 1000 * MS), [ended]);
    assert_eq!(sweep(&mut judge, 19_000 * MS), []);
    assert_eq!(sweep(&mut judge, 20_000 * MS), [idle]);
    assert_eq!(sweep(&mut judge, 90_000 * MS), []);
    assert_eq!(judge.promoted(), 1);
}

#[test]
fn of_every_flow_it_is_known_why_it_is_not_promoted() {
    let mut judge = judge();
    judge.allow_tcp(false);
    let tcp = FlowKey {
        protocol: 6,
        ..key(5, 5)
    };
    judge.hear(&out(key(5, 1)), 3);
    judge.hear(&arrived(key(5, 2), FAR), 3);
    judge.hear(&out(key(5, 3)), 3);
    judge.hear(&arrived(key(5, 3), [10, 0, 0, 12]), 4);
    for flow in [key(5, 4), tcp, key(5, 6), key(5, 7), key(5, 8)] {
        judge.hear(&out(flow), 3);
        judge.hear(&arrived(flow, FAR), 4);
    }
    let seen = |flow: &FlowKey| alike(pod().filter(|_| flow.local.port() >= 6));
    let ripe = judge.ripe(5, seen);
    assert_eq!(ripe.len(), 3);
    for flow in &ripe {
        match flow.key.local.port() {
            7 => judge.hold(flow.slot, Hitch::Held, 5),
            8 => judge.hold(flow.slot, Hitch::NoPath, 5),
            _ => assert!(judge.promote(flow, 5)),
        }
    }
    let hitch = |judge: &Judge, flow| {
        let mut flows = judge.flows();
        let standing = flows.find(|standing| standing.key == flow).unwrap();
        assert_eq!(standing.born_ns, 3);
        standing.hitch
    };
    for (flow, expected) in [
        (key(5, 1), Some(Hitch::NotSeenArriving)),
        (key(5, 2), Some(Hitch::NotSeenLeaving)),
        (key(5, 3), Some(Hitch::OtherWayBack)),
        (key(5, 4), Some(Hitch::PodUnseen)),
        (tcp, Some(Hitch::TcpForbidden)),
        (key(5, 6), None),
        (key(5, 7), Some(Hitch::Held)),
        (key(5, 8), Some(Hitch::NoPath)),
    ] {
        assert_eq!(hitch(&judge, flow), expected, "{flow}");
    }
    // Kept in mind for a while.
    let keep = |_| Verdict::Frames(0);
    judge.sweep(5_000 * MS, 1, keep, |_, _| ());
    assert_eq!(judge.flows().count(), 8);
    judge.sweep(60_004 * MS, 1, keep, |_, _| ());
    assert_eq!(judge.flows().count(), 0);
}

#[test]
fn tcp_is_promoted_only_where_that_is_allowed() {
    let tcp = FlowKey {
        protocol: 6,
        ..key(5, 1)
    };
    let mut judge = judge();
    let both = |judge: &mut Judge| {
        judge.hear(&out(tcp), 0);
        judge.hear(&arrived(tcp, FAR), 0);
        decide(judge, 0, pod()).len()
    };
    judge.allow_tcp(false);
    assert_eq!(both(&mut judge), 0);
    judge.allow_tcp(true);
    assert_eq!(both(&mut judge), 1);
}
