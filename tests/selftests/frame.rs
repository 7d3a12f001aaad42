//! Frames made by hand, and frames taken apart. etherparse writes and reads the headers.

use std::iter;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, Ordering};

use etherparse::{
    EtherType, IpDscp, IpEcn, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, LinkSlice, NetSlice,
    SlicedPacket, TransportSlice, UdpHeader,
};

/// A source MAC of nobody in any scenario.
pub const STRANGER: [u8; 6] = [0x02, 0, 0x5e, 0x10, 0, 0x99];
/// An Ethernet address for all.
pub const BROADCAST: [u8; 6] = [0xff; 6];
const HOP_LIMIT: u8 = 64;

/// What identifies frames that were sent by one call: it is in their payload.
pub type Mark = [u8; 16];

/// An Ethernet frame.
pub fn ethernet(to: [u8; 6], from: [u8; 6], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &ether_type.to_be_bytes(), payload].concat()
}

/// An Ethernet frame around an IP packet.
pub fn ethernet_ip(to: [u8; 6], from: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let ether_type = match packet.first().expect("an IP packet") >> 4 {
        4 => EtherType::IPV4,
        _ => EtherType::IPV6,
    };
    ethernet(to, from, ether_type.0, packet)
}

/// An IP packet of either family.
pub fn ip(addresses: [IpAddr; 2], tos: u8, protocol: IpNumber, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).expect("an IP payload");
    let mut packet = match addresses {
        [IpAddr::V4(from), IpAddr::V4(to)] => {
            let mut header = Ipv4Header::new(len, HOP_LIMIT, protocol, from.octets(), to.octets())
                .expect("a length that fits");
            header.dscp = IpDscp::try_new(tos >> 2).expect("six bits");
            header.ecn = IpEcn::try_new(tos & 3).expect("two bits");
            header.header_checksum = header.calc_header_checksum();
            header.to_bytes().to_vec()
        }
        [IpAddr::V6(from), IpAddr::V6(to)] => Ipv6Header {
            traffic_class: tos,
            flow_label: Ipv6FlowLabel::ZERO,
            payload_length: len,
            next_header: protocol,
            hop_limit: HOP_LIMIT,
            source: from.octets(),
            destination: to.octets(),
        }
        .to_bytes()
        .to_vec(),
        mixed => panic!("one family: {mixed:?}"),
    };
    packet.extend_from_slice(payload);
    packet
}

/// A UDP datagram in an IP packet, its checksum right.
pub fn udp(addresses: [IpAddr; 2], tos: u8, ports: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let header = match addresses {
        [IpAddr::V4(from), IpAddr::V4(to)] => {
            let around = Ipv4Header::new(0, HOP_LIMIT, IpNumber::UDP, from.octets(), to.octets())
                .expect("a length that fits");
            UdpHeader::with_ipv4_checksum(ports[0], ports[1], &around, payload)
        }
        [IpAddr::V6(from), IpAddr::V6(to)] => {
            let around = Ipv6Header {
                source: from.octets(),
                destination: to.octets(),
                ..Ipv6Header::default()
            };
            UdpHeader::with_ipv6_checksum(ports[0], ports[1], &around, payload)
        }
        mixed => panic!("one family: {mixed:?}"),
    };
    let header = header.expect("a length that fits").to_bytes();
    ip(addresses, tos, IpNumber::UDP, &[&header, payload].concat())
}

/// A probe: a marked UDP datagram to the discard port. Nobody answers it, and everybody floods it. Each is of a flow of its
/// own, since datagrams of one flow may arrive joined, as by the kernel's GRO.
pub fn probe(addresses: [IpAddr; 2], tos: u8, mark: &Mark) -> Vec<u8> {
    static NUMBER: AtomicU16 = AtomicU16::new(0);
    let port = 40_000 + NUMBER.fetch_add(1, Ordering::Relaxed) % 20_000;
    udp(addresses, tos, [port, 9], &[&mark[..], &[0; 32]].concat())
}

/// Ten frames, made one by one.
pub fn ten(frame: impl FnMut() -> Vec<u8>) -> Vec<Vec<u8>> {
    iter::repeat_with(frame).take(10).collect()
}

/// The VXLAN header of a VNI.
pub fn vxlan(vni: u32) -> [u8; 8] {
    let [_, high, middle, low] = vni.to_be_bytes();
    [8, 0, 0, 0, high, middle, low, 0]
}

/// Whether the frame carries the mark, at whatever depth.
pub fn is_marked(frame: &[u8], mark: &Mark) -> bool {
    frame.windows(mark.len()).any(|window| window == mark)
}

/// What the outer (or only) headers of a frame say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Source and destination address.
    pub addresses: [IpAddr; 2],
    /// TOS or traffic class.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// UDP ports.
    pub ports: Option<[u16; 2]>,
    /// UDP payload.
    pub payload: Vec<u8>,
}

impl Seen {
    /// Reads an Ethernet frame; `None` when it is not IP.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let sliced = SlicedPacket::from_ethernet(frame).ok()?;
        matches!(sliced.link, Some(LinkSlice::Ethernet2(_))).then_some(())?;
        let (addresses, tos, ttl) = match sliced.net? {
            NetSlice::Ipv4(ip) => {
                let header = ip.header();
                (
                    [
                        header.source_addr().into(),
                        header.destination_addr().into(),
                    ],
                    header.dcp().value() << 2 | header.ecn().value(),
                    header.ttl(),
                )
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                (
                    [
                        header.source_addr().into(),
                        header.destination_addr().into(),
                    ],
                    header.traffic_class(),
                    header.hop_limit(),
                )
            }
            NetSlice::Arp(_) => return None,
        };
        let (ports, payload) = match sliced.transport {
            Some(TransportSlice::Udp(udp)) => (
                Some([udp.source_port(), udp.destination_port()]),
                udp.payload().to_vec(),
            ),
            _ => (None, Vec::new()),
        };
        Some(Self {
            addresses,
            tos,
            ttl,
            ports,
            payload,
        })
    }

    /// VNI and inner frame, when it is VXLAN to this port.
    pub fn vxlan(&self, port: u16) -> Option<(u32, &[u8])> {
        let [_, to] = self.ports?;
        let (header, inner) = self.payload.split_first_chunk::<8>()?;
        let vni = u32::from_be_bytes([0, header[4], header[5], header[6]]);
        (to == port).then_some((vni, inner))
    }
}
