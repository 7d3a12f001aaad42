//! Generated frames of every shape, by the library's own hand, and an independent parser's opinion of them.

use std::net::SocketAddr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use vxgate::loadgen::engine::{Tag, write_frame};
use vxgate::loadgen::headers::{Family, Flow, FlowHeaders, Outer, Shape, Transport};

pub const VXLAN_PORT: u16 = 8472;

pub fn shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for outer in [None, Some(Family::V4), Some(Family::V6)] {
        for inner in [Family::V4, Family::V6] {
            for transport in [Transport::Udp, Transport::Tcp, Transport::Icmp] {
                shapes.push(Shape {
                    outer,
                    inner,
                    transport,
                    arrival_mac: None,
                });
            }
        }
    }
    shapes
}

/// Plain UDP over IPv4.
pub const PLAIN: Shape = Shape {
    outer: None,
    inner: Family::V4,
    transport: Transport::Udp,
    arrival_mac: None,
};

/// UDP over IPv4 in VXLAN over IPv4.
pub const TUNNELLED: Shape = Shape {
    outer: Some(Family::V4),
    ..PLAIN
};

/// The headers of flow `number` of a shape; the outer UDP checksum is there over IPv6 only.
pub fn flow(shape: Shape, number: u32) -> FlowHeaders {
    let socket = |family, host: u8, port: u16| -> SocketAddr {
        match family {
            Family::V4 => format!("198.18.0.{host}:{port}").parse().unwrap(),
            Family::V6 => format!("[2001:2::{host}]:{port}").parse().unwrap(),
        }
    };
    let [_, a, b, c] = number.to_be_bytes();
    let port = 1024 + (number % 60_000) as u16;
    let flow = Flow {
        outer: shape.outer.map(|family| Outer {
            source_mac: [2, 0, 0, 0, 0, 3],
            destination_mac: [2, 0, 0, 0, 0, 4],
            source: socket(family, 3, 49_152 + (number % 1000) as u16),
            destination: socket(family, 4, VXLAN_PORT),
            vni: number % 4000 + 1,
            zero_checksum: family == Family::V4,
        }),
        source_mac: [2, 0, 1, a, b, c],
        destination_mac: [2, 0, 2, a, b, c],
        source: socket(shape.inner, 1, port),
        destination: socket(shape.inner, 2, 9),
    };
    FlowHeaders::new(&flow, shape.transport).unwrap()
}

/// The shortest frame of a shape in memory, without FCS and without padding.
pub fn len_min(shape: Shape) -> usize {
    usize::from(shape.header_len()) + 16
}

/// Frame `sequence` of a stream.
pub fn frame(shape: Shape, stream: u16, sequence: u32, intended_ns: u64, len: usize) -> Vec<u8> {
    let mut frame = vec![0xee; len];
    let tag = Tag {
        stream,
        sequence,
        intended_ns,
    };
    assert!(
        write_frame(shape, &flow(shape, sequence), tag, &mut frame),
        "{shape:?} of {len} bytes"
    );
    frame
}

/// `CLOCK_MONOTONIC`, as the signatures carry it.
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Every length and checksum is right for an independent parser.
pub fn check_whole(shape: Shape, frame: &[u8]) {
    let what = format!("{shape:?} of {} bytes", frame.len());
    let outer =
        SlicedPacket::from_ethernet(frame).unwrap_or_else(|error| panic!("{what}: {error}"));
    check_layers(&outer, &what);
    if shape.outer.is_some() {
        let Some(TransportSlice::Udp(udp)) = outer.transport else {
            panic!("{what}: no outer UDP")
        };
        assert_eq!(udp.destination_port(), VXLAN_PORT);
        assert_eq!(
            udp.payload().len(),
            frame.len() - usize::from(shape.inner_at()) + 8,
            "{what}"
        );
        let inner = SlicedPacket::from_ethernet(&udp.payload()[8..]).unwrap();
        check_layers(&inner, &what);
    }
}

fn check_layers(packet: &SlicedPacket<'_>, what: &str) {
    match packet.net.as_ref().expect("an IP header") {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(
                header.header_checksum,
                header.calc_header_checksum(),
                "IPv4, {what}"
            );
            let sum = match packet.transport.as_ref().expect("a transport header") {
                TransportSlice::Udp(udp) if udp.checksum() == 0 => return,
                TransportSlice::Udp(udp) => {
                    let computed = udp
                        .to_header()
                        .calc_checksum_ipv4(&header, udp.payload())
                        .unwrap();
                    (udp.checksum(), computed)
                }
                TransportSlice::Tcp(tcp) => {
                    let computed = tcp
                        .to_header()
                        .calc_checksum_ipv4(&header, tcp.payload())
                        .unwrap();
                    (tcp.checksum(), computed)
                }
                TransportSlice::Icmpv4(icmp) => (
                    icmp.checksum(),
                    icmp.icmp_type().calc_checksum(icmp.payload()),
                ),
                other => panic!("{what}: {other:?}"),
            };
            assert_eq!(sum.0, sum.1, "transport over IPv4, {what}");
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header().to_header();
            let sum = match packet.transport.as_ref().expect("a transport header") {
                TransportSlice::Udp(udp) => {
                    let computed = udp
                        .to_header()
                        .calc_checksum_ipv6(&header, udp.payload())
                        .unwrap();
                    (udp.checksum(), computed)
                }
                TransportSlice::Tcp(tcp) => {
                    let computed = tcp
                        .to_header()
                        .calc_checksum_ipv6(&header, tcp.payload())
                        .unwrap();
                    (tcp.checksum(), computed)
                }
                TransportSlice::Icmpv6(icmp) => {
                    let computed = icmp.icmp_type().calc_checksum(
                        header.source,
                        header.destination,
                        icmp.payload(),
                    );
                    (icmp.checksum(), computed.unwrap())
                }
                other => panic!("{what}: {other:?}"),
            };
            assert_eq!(sum.0, sum.1, "transport over IPv6, {what}");
        }
        NetSlice::Arp(_) => panic!("{what}: ARP"),
    }
}

#[test]
fn every_length_of_every_shape_is_whole() {
    for shape in shapes() {
        for len in [0, 1, 2, 3, 50, 51, 1000, 8001].map(|more| len_min(shape) + more) {
            for sequence in [0, 1, 77, 123_456_789, u32::MAX] {
                check_whole(shape, &frame(shape, 3, sequence, 0x1234_5678_9abc, len));
            }
        }
    }
}

#[test]
fn a_frame_without_room_for_its_signature_is_refused() {
    for shape in shapes() {
        let tag = Tag {
            stream: 0,
            sequence: 0,
            intended_ns: 0,
        };
        let headers = flow(shape, 0);
        assert!(!write_frame(
            shape,
            &headers,
            tag,
            &mut vec![0; len_min(shape) - 1]
        ));
        assert!(write_frame(
            shape,
            &headers,
            tag,
            &mut vec![0; len_min(shape)]
        ));
        assert!(!write_frame(shape, &headers, tag, &mut vec![0; 66_000]));
    }
}
