//! The gear's programs on IPv6: within the tunnel, around it, and both.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use etherparse::Ipv6HeaderSlice;

use super::*;

const ENDS6: [[u8; 16]; 2] = [
    [0xfd, 0, 0, 0x10, 2, 0x44, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14],
    [0xfd, 0, 0, 0x10, 2, 0x44, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x53],
];
const NODE6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const FAR_NODE6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
/// Traffic class and flow label of what a pod sends.
const CLASS: u8 = 0xb9;
const LABEL: [u8; 3] = [0xb, 0xcd, 0xef];
const OUTER6_LEN: usize = 70;

/// A tunnel's family and that of what is within: whether they are IPv6.
pub type Families = (bool, bool);
const FAMILIES: [Families; 3] = [(false, true), (true, false), (true, true)];

/// Each with UDP and with TCP.
fn with_each(families: [Families; 3]) -> impl Iterator<Item = (Families, bool)> {
    let families = families.into_iter();
    families.flat_map(|families| [false, true].map(|tcp| (families, tcp)))
}

pub fn gear6() -> Loaded {
    loaded6(Gear::Express)
}

fn loaded6(highest: Gear) -> Loaded {
    let gear = loaded(highest);
    let vni = Vni::new(1).unwrap();
    gear.steering
        .add_segment(NODE6.into(), LOOPBACK, 8472, vni)
        .unwrap();
    gear
}

fn outer_len(over: bool) -> usize {
    if over { OUTER6_LEN } else { OUTER_LEN }
}

/// A frame with so much payload, from the first end to the second or back.
pub fn frame6(macs: [MacAddr; 2], back: bool, tcp: bool, len: usize) -> Vec<u8> {
    let [local, remote] = ENDS6;
    let (ends, ports) = if back {
        ([remote, local], [2000, 1000])
    } else {
        ([local, remote], [1000, 2000])
    };
    let ip = PacketBuilder::ethernet2(macs[0].0, macs[1].0).ipv6(ends[0], ends[1], 64);
    let (mut bytes, payload) = (Vec::new(), vec![0xa5; len]);
    if tcp {
        let segment = ip.tcp(ports[0], ports[1], 3, 64).ack(5);
        segment.write(&mut bytes, &payload).unwrap();
    } else {
        let datagram = ip.udp(ports[0], ports[1]);
        datagram.write(&mut bytes, &payload).unwrap();
    }
    bytes[14..18].copy_from_slice(&[0x60 | CLASS >> 4, CLASS << 4 | LABEL[0], LABEL[1], LABEL[2]]);
    bytes
}

pub fn of_pod6(tcp: bool) -> Vec<u8> {
    frame6([POD, GATEWAY], false, tcp, 101)
}

pub fn of_pods(within: bool, tcp: bool) -> Vec<u8> {
    if within { of_pod6(tcp) } else { of_pod(tcp) }
}

/// From the far node, for the same flow's pod.
fn of_wires((over, within): Families, tcp: bool) -> Vec<u8> {
    let inner = if within {
        frame6([FAR, OWN], true, tcp, 101)
    } else {
        of_wire(tcp).split_off(OUTER_LEN)
    };
    let mut bytes = Vec::new();
    let payload = [&vxlan::header(Vni::new(1).unwrap())[..], &inner].concat();
    let ethernet = PacketBuilder::ethernet2(FAR_NIC.0, NIC.0);
    let ip = if over {
        ethernet.ipv6(FAR_NODE6, NODE6, 64)
    } else {
        ethernet.ipv4(FAR_NODE, NODE, 64)
    };
    ip.udp(40000, 8472).write(&mut bytes, &payload).unwrap();
    bytes
}

/// Over IPv6, around a frame of the flow.
fn headers6(inner: &[u8]) -> [u8; 84] {
    let mut headers = [0; 84];
    headers[..6].copy_from_slice(&FAR_NIC.0);
    headers[6..12].copy_from_slice(&NIC.0);
    headers[12..22].copy_from_slice(&[0x86, 0xdd, 0x6b, 0x81, 0x23, 0x45, 0, 0, 17, 64]);
    headers[22..38].copy_from_slice(&NODE6);
    headers[38..54].copy_from_slice(&FAR_NODE6);
    headers[54..58].copy_from_slice(&[0xab, 0xcd, 0x21, 0x18]);
    headers[62..70].copy_from_slice(&vxlan::header(Vni::new(1).unwrap()));
    headers[70..82].copy_from_slice(&[FAR.0, OWN.0].concat());
    headers[82..84].copy_from_slice(&inner[12..14]);
    headers
}

impl Loaded {
    /// Promotes the flow of this frame over a tunnel of this family.
    pub fn promote_over(&mut self, over: bool, frame: &[u8]) {
        self.go(&self.flow_over(over, frame));
    }

    pub fn flow_over(&self, over: bool, frame: &[u8]) -> Promoted {
        let key = FlowKey::of(frame, Way::Out).unwrap();
        if over {
            self.promoted(key, headers6(frame), FAR_NODE6.into())
        } else {
            self.promoted(key, headers(frame), FAR_NODE.into())
        }
    }
}

#[test]
fn a_frame_leaves_byte_for_byte_as_the_rfcs_say() {
    // Class 0xb9, label 0xbcdef; a payload of an odd length. Its checksum is 0xf10c.
    let sent = [
        0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x05, 0x86, 0xdd, //
        0x6b, 0x9b, 0xcd, 0xef, 0x00, 0x0b, 0x11, 0x40, //
        0xfd, 0x00, 0x00, 0x10, 0x02, 0x44, 0x00, 0x00, 0, 0, 0, 0, 0, 0, 0, 0x14, //
        0xfd, 0x00, 0x00, 0x10, 0x02, 0x44, 0x00, 0x01, 0, 0, 0, 0, 0, 0, 0, 0x53, //
        0x03, 0xe8, 0x07, 0xd0, 0x00, 0x0b, 0xf1, 0x0c, 0x01, 0x02, 0x03,
    ];
    let mut gear = gear6();
    gear.promote_over(true, &sent);
    let (verdict, out) = gear.send_from_pod(&sent);
    assert_eq!(verdict, TC_ACT_REDIRECT);
    let expected = [
        0x06, 0x06, 0x06, 0x06, 0x06, 0x06, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04, 0x86, 0xdd, //
        // Class 0xb8 and the inner ECN bits, label 0x12345.
        0x6b, 0x91, 0x23, 0x45, 0x00, 0x51, 0x11, 0x40, //
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, //
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, //
        0xab, 0xcd, 0x21, 0x18, 0x00, 0x51, 0xe0, 0x57, //
        0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, //
        0x0e, 0x00, 0x00, 0x00, 0x00, 0x02, 0x0e, 0x00, 0x00, 0x00, 0x00, 0x01, 0x86, 0xdd, //
        0x6b, 0x9b, 0xcd, 0xef, 0x00, 0x0b, 0x11, 0x3f,
    ];
    assert_eq!(out[..expected.len()], expected);
    assert_eq!(out[expected.len()..], sent[22..]);
}

#[test]
fn a_pods_frame_leaves_as_an_independent_parser_wants_it() {
    for ((over, within), tcp) in with_each(FAMILIES) {
        let mut gear = gear6();
        let first = of_pods(within, tcp);
        assert_eq!(gear.send_from_pod(&first), (TCX_NEXT, first.clone()));
        gear.promote_over(over, &first);
        for len in [0, 1, 2, 101, 1300] {
            let sent = if within {
                frame6([POD, GATEWAY], false, tcp, len)
            } else {
                first.clone()
            };
            let (verdict, out) = gear.send_from_pod(&sent);
            assert_eq!(verdict, TC_ACT_REDIRECT, "{over} {within} {tcp} {len}");
            assert_outer(over, &out, sent.len());
            // All that the pod sent is there but for its last hop.
            let inner = &out[outer_len(over) + 14..];
            if within {
                assert_eq!((&inner[..7], inner[7]), (&sent[14..21], sent[21] - 1));
                assert_eq!(inner[8..], sent[22..]);
            } else {
                assert!(sealed(inner, 0));
                assert_eq!((inner[8], &inner[12..]), (sent[22] - 1, &sent[26..]));
            }
        }
    }
}

/// Judges the outer headers around so many bytes.
pub fn assert_outer(over: bool, out: &[u8], inner_len: usize) {
    assert_eq!(out.len(), inner_len + outer_len(over));
    let (outer, datagram) = out[14..].split_at(outer_len(over) - 30);
    let udp = UdpHeaderSlice::from_slice(datagram).unwrap().to_header();
    assert_eq!(usize::from(udp.length), datagram.len());
    let sum = if over {
        let outer = Ipv6HeaderSlice::from_slice(outer).unwrap();
        assert_eq!(usize::from(outer.payload_length()), datagram.len());
        assert_eq!((outer.source(), outer.destination()), (NODE6, FAR_NODE6));
        assert_eq!(outer.flow_label().value(), 0x12345);
        udp.calc_checksum_ipv6_raw(NODE6, FAR_NODE6, &datagram[8..])
    } else {
        assert!(sealed(outer, 0));
        let outer = Ipv4HeaderSlice::from_slice(outer).unwrap();
        assert_eq!(usize::from(outer.total_len()), 20 + datagram.len());
        assert_eq!((outer.source(), outer.destination()), (NODE, FAR_NODE));
        udp.calc_checksum_ipv4_raw(NODE, FAR_NODE, &datagram[8..])
    };
    assert_eq!(udp.checksum, sum.unwrap(), "{over} {inner_len}");
}

#[test]
fn ecn_is_copied_and_congestion_is_for_the_workers() {
    for (over, within) in FAMILIES {
        let mut gear = gear6();
        gear.promote_over(over, &of_pods(within, false));
        for (ecn, express) in [(0, true), (1, true), (2, true), (3, false)] {
            let mut sent = of_pods(within, false);
            if within {
                sent[15] = sent[15] & !0x30 | ecn << 4;
            } else {
                sent[15] = ecn;
                let sum = Ipv4HeaderSlice::from_slice(&sent[14..]).unwrap();
                let sum = sum.to_header().calc_header_checksum();
                sent[24..26].copy_from_slice(&sum.to_be_bytes());
            }
            let (verdict, out) = gear.send_from_pod(&sent);
            // Not encapsulated, but routed: to the workers.
            let added = if express { outer_len(over) } else { 0 };
            assert_eq!((verdict, out.len()), (TC_ACT_REDIRECT, sent.len() + added));
            if express {
                let class = if over {
                    out[14] << 4 | out[15] >> 4
                } else {
                    out[15]
                };
                assert_eq!(class, 0xb8 | ecn);
            }
        }
    }
}

#[test]
fn without_an_outer_checksum_the_field_is_zero() {
    let (mut gear, sent) = (gear6(), of_pod6(false));
    let key = FlowKey::of(&sent, Way::Out).unwrap();
    let mut flow = gear.promoted(key, headers6(&sent), FAR_NODE6.into());
    flow.departure.checksum = false;
    gear.go(&flow);
    let (_, out) = gear.send_from_pod(&sent);
    assert_eq!(out[60..62], [0, 0]);
}

#[test]
fn a_frame_from_the_wire_reaches_the_pod_as_routing_would_send_it() {
    for (families @ (over, within), tcp) in with_each(FAMILIES) {
        let mut gear = gear6();
        gear.promote_over(over, &of_pods(within, tcp));
        let (sent, outer_len) = (of_wires(families, tcp), outer_len(over));
        let (verdict, out) = run(&gear.steering, "vxgate_underlay", &sent);
        assert_eq!(verdict, XDP_PASS);
        let (handover, out) = out.split_at(8);
        let expected = pair(HANDOVER_MAGIC, LOOPBACK);
        assert_eq!(handover, expected.to_ne_bytes(), "{over} {within}");
        assert_eq!((&out[..6], &out[6..12]), (&POD.0[..], &GATEWAY.0[..]));
        let inner = &sent[outer_len..];
        assert_eq!(out.len(), inner.len());
        if within {
            assert_eq!((out[21], inner[21]), (63, 64));
            assert_eq!((&out[12..21], &out[22..]), (&inner[12..21], &inner[22..]));
        } else {
            assert!(sealed(out, 14));
            assert_eq!((out[22], &out[26..]), (62, &inner[26..]));
        }
        let counted = gear.steering.counters(COUNTS_UNDERLAY, 0).unwrap();
        assert_eq!((counted.express, counted.steered), (1, 0));
    }
}

#[test]
fn what_an_outer_checksum_does_not_fit_is_handed_up_where_it_is_verified() {
    for (families @ (over, within), tcp) in with_each(FAMILIES) {
        let (sent, outer_len) = (of_wires(families, tcp), outer_len(over));
        let (checksum, source_port) = (outer_len - 10, outer_len - 16);
        let damaged = |at: usize| {
            let mut frame = sent.clone();
            frame[at] ^= 0x10;
            frame
        };
        let mut gear = gear6();
        let mut flow = gear.flow_over(over, &of_pods(within, tcp));
        let receive = |gear: &Loaded, frame: &[u8]| run(&gear.steering, "vxgate_underlay", frame).0;
        gear.go(&flow);
        assert_eq!(
            receive(&gear, &damaged(checksum)),
            XDP_PASS,
            "nobody looks at it"
        );
        flow.departure.verify = true;
        gear.go(&flow);
        for at in [checksum, source_port] {
            let found = gear.why(WAY_IN as usize, || {
                receive(&gear, &damaged(at));
            });
            assert_eq!(found, UpReason::Checksum, "{over} {within} {tcp} {at}");
        }
        assert_eq!(receive(&gear, &sent), XDP_PASS, "{over} {within} {tcp}");
    }
}

#[test]
fn what_a_pod_sends_otherwise_is_handed_up_unchanged() {
    let mut gear = gear6();
    gear.promote_over(true, &of_pod6(false));
    let cases: [(usize, &[u8], UpReason); 12] = [
        (21, &[1], UpReason::Ttl),
        (14, &[0x45], UpReason::OtherProtocol),
        (12, &[8, 0], UpReason::OtherProtocol),
        (20, &[58], UpReason::OtherProtocol),
        (20, &[44], UpReason::Fragment),
        (20, &[0], UpReason::Options),
        (20, &[43], UpReason::Options),
        (19, &[1], UpReason::Length),
        (60, &[0, 0], UpReason::Checksum),
        (11, &[9], UpReason::Spoofed),
        (37, &[9], UpReason::NoFlow),
        (38, &[0xfe], UpReason::NoFlow),
    ];
    for (at, bytes, why) in cases {
        let mut sent = of_pod6(false);
        sent[at..at + bytes.len()].copy_from_slice(bytes);
        let found = gear.why(WAY_OUT as usize, || {
            assert_eq!(gear.send_from_pod(&sent), (TCX_NEXT, sent.clone()));
        });
        assert_eq!(found, why, "{at}: {bytes:?}");
    }
}

#[test]
fn what_comes_over_ipv6_otherwise_is_handed_up_unchanged() {
    let mut gear = gear6();
    gear.promote_over(true, &of_pod6(false));
    let cases: [(usize, &[u8], UpReason); 15] = [
        (91, &[1], UpReason::Ttl),
        (90, &[0], UpReason::Options),
        (90, &[44], UpReason::Fragment),
        (90, &[58], UpReason::OtherProtocol),
        (89, &[1], UpReason::Length),
        (19, &[1], UpReason::Length),
        (59, &[1], UpReason::Length),
        (60, &[0, 0], UpReason::Checksum),
        (37, &[77], UpReason::Spoofed),
        (69, &[77], UpReason::Spoofed),
        (75, &[77], UpReason::Spoofed),
        (81, &[77], UpReason::Spoofed),
        (123, &[77], UpReason::NoFlow),
        (107, &[77], UpReason::NoFlow),
        (15, &[0x10], UpReason::Ecn),
    ];
    for (at, bytes, why) in cases {
        let mut sent = of_wires((true, true), false);
        sent[at..at + bytes.len()].copy_from_slice(bytes);
        if why == UpReason::Ecn {
            // The outer bits say what the inner ones do not.
            sent[85] &= !0x30;
        }
        let found = gear.why(WAY_IN as usize, || {
            let passed = run(&gear.steering, "vxgate_underlay", &sent);
            assert_eq!(passed, (XDP_PASS, sent.clone()));
        });
        assert_eq!(found, why, "{at}: {bytes:?}");
    }
}

#[test]
fn a_flow_of_one_tunnel_does_not_come_by_another() {
    for over in [false, true] {
        let mut gear = gear6();
        gear.promote_over(over, &of_pod6(false));
        let why = gear.why(WAY_IN as usize, || {
            run(
                &gear.steering,
                "vxgate_underlay",
                &of_wires((!over, true), false),
            );
        });
        assert_eq!(why, UpReason::Spoofed);
    }
}

#[test]
fn a_segment_that_ends_a_connection_demotes_its_flow() {
    let mut gear = gear6();
    gear.promote_over(true, &of_pod6(true));
    let mut sent = of_pod6(true);
    sent[67] |= 1;
    let why = gear.why(WAY_OUT as usize, || drop(gear.send_from_pod(&sent)));
    assert_eq!(why, UpReason::TcpFlags);
    let why = gear.why(WAY_IN as usize, || {
        run(
            &gear.steering,
            "vxgate_underlay",
            &of_wires((true, true), true),
        );
    });
    assert_eq!(why, UpReason::NoFlow);
}

/// Frames of two flows that have the same name.
fn namesakes(gear: &Loaded) -> [Vec<u8>; 2] {
    let seed = gear.express.seed();
    let key = FlowKey::of(&of_pod6(false), Way::Out).unwrap();
    let mut by_name = BTreeMap::new();
    let renamed = |addr: u128| FlowKey {
        local: SocketAddr::new(Ipv6Addr::from(addr).into(), key.local.port()),
        ..key
    };
    let random = (1..).map(|n: u128| n.wrapping_mul((u128::MAX / 25 * 9) | 1));
    // Two that share a name are soon found; one that shares a given name is not.
    let mut pairs = random.filter_map(|addr| {
        let other = by_name.insert(renamed(addr).bytes(&seed), addr)?;
        Some([addr, other])
    });
    pairs.next().unwrap().map(|addr| {
        let mut frame = of_pod6(false);
        frame[22..38].copy_from_slice(&addr.to_be_bytes());
        frame
    })
}

#[test]
fn two_flows_with_one_name_are_never_taken_for_each_other() {
    let mut gear = gear6();
    let [one, other] = &namesakes(&gear);
    let [key, twin] = [one, other].map(|frame| FlowKey::of(frame, Way::Out).unwrap());
    let seed = gear.express.seed();
    assert!(key != twin && key.bytes(&seed) == twin.bytes(&seed));
    // Seen at the pod's device, each forgets the other.
    let back = |key: &FlowKey| {
        let mut frame = frame6([GATEWAY, POD], true, false, 101);
        let IpAddr::V6(local) = key.local.ip() else {
            panic!("{key}");
        };
        frame[38..54].copy_from_slice(&local.octets());
        run(&gear.express.object, "vxgate_to_pod", &frame);
    };
    gear.send_from_pod(one);
    back(&key);
    assert!(gear.express.at_pods(&key, GENERATION).agreed().is_some());
    assert_eq!(gear.express.at_pods(&twin, GENERATION).agreed(), None);
    gear.send_from_pod(other);
    assert_eq!(gear.express.at_pods(&key, GENERATION).agreed(), None);
    assert_eq!(
        gear.express.at_pods(&twin, GENERATION).agreed(),
        None,
        "one way"
    );
    back(&twin);
    assert!(gear.express.at_pods(&twin, GENERATION).agreed().is_some());
    // And promoted, one of them is no flow.
    gear.promote_over(true, one);
    assert_eq!(gear.send_from_pod(one).0, TC_ACT_REDIRECT);
    let why = gear.why(WAY_OUT as usize, || drop(gear.send_from_pod(other)));
    assert_eq!(why, UpReason::NoFlow);
}

#[test]
fn every_frame_that_comes_has_one_fate() {
    for families @ (over, within) in FAMILIES {
        let mut gear = gear6();
        gear.promote_over(over, &of_pods(within, true));
        for _ in 0..5 {
            gear.send_from_pod(&of_pods(within, true));
            gear.send_from_pod(&of_pods(within, false));
            for tcp in [true, false] {
                run(&gear.steering, "vxgate_underlay", &of_wires(families, tcp));
            }
        }
        let [out, taken, ..] = gear.express.counters().read().unwrap();
        let bytes = of_pods(within, true).len() as u64;
        for way in [out, taken] {
            let up: u64 = way.up.iter().sum();
            assert_eq!((way.received, way.forwarded, way.lost, up), (10, 5, 0, 5));
            assert_eq!(way.bytes, 5 * bytes);
        }
        let sent = gear.express.peers().read(PeerId(4)).sent;
        let sent_bytes = 5 * (bytes + outer_len(over) as u64);
        assert_eq!((sent.frames, sent.bytes), (5, sent_bytes));
    }
}

#[test]
fn a_flow_that_was_only_seen_arriving_goes_to_its_pod_over_either_tunnel() {
    for over in [false, true] {
        let mut gear = gear6();
        let key = FlowKey::of(&of_pod6(false), Way::Out).unwrap();
        let (far, node) = if over {
            (IpAddr::from(FAR_NODE6), IpAddr::from(NODE6))
        } else {
            (IpAddr::from(FAR_NODE), IpAddr::from(NODE))
        };
        let whole = gear.promoted(key, [0; 84], far);
        let arrival = Arrival {
            local: node,
            ..whole.arrival.unwrap()
        };
        let to_pod = Promoted {
            departure: arrival.departure(),
            ways: Ways::In,
            ..whole
        };
        gear.go(&to_pod);
        let sent = of_wires((over, true), false);
        let (verdict, out) = run(&gear.steering, "vxgate_underlay", &sent);
        assert_eq!((verdict, &out[8..14]), (XDP_PASS, &POD.0[..]));
        let why = gear.why(WAY_OUT as usize, || {
            drop(gear.send_from_pod(&of_pod6(false)));
        });
        assert_eq!(why, UpReason::NoFlow);
    }
}

#[test]
fn the_ring_gear_routes_either_family_both_ways() {
    for (families @ (over, within), tcp) in with_each(FAMILIES) {
        let mut gear = loaded6(Gear::Ring);
        let sent = of_pods(within, tcp);
        gear.promote_over(over, &sent);
        let (verdict, out) = gear.send_from_pod(&sent);
        assert_eq!(verdict, TC_ACT_REDIRECT);
        assert_routed(within, (&sent, &out), [FAR, OWN]);
        let came = of_wires(families, tcp).split_off(outer_len(over));
        let (verdict, out) = run(&gear.steering, "vxgate_ingress", &came);
        assert_eq!(verdict, TC_ACT_REDIRECT);
        assert_routed(within, (&came, &out), [POD, GATEWAY]);
    }
}

/// Judges a frame that was routed, by what it was before.
fn assert_routed(six: bool, (before, after): (&[u8], &[u8]), [to, from]: [MacAddr; 2]) {
    assert_eq!((&after[..6], &after[6..12]), (&to.0[..], &from.0[..]));
    let hop = if six { 21 } else { 22 };
    assert_eq!(after[12..hop], before[12..hop]);
    assert_eq!(after[hop], before[hop] - 1);
    if six {
        assert_eq!(after[22..], before[22..]);
    } else {
        assert!(sealed(after, 14));
        assert_eq!((after[23], &after[26..]), (before[23], &before[26..]));
    }
}
