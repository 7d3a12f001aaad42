//! The outer headers, of both families, by hand.

use std::net::IpAddr;

use super::bytes::{ETHER_IPV4, ETHER_IPV6, IP, be16, internet_checksum, put16};
use super::setting::Segment;
use super::site;

/// Of the underlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// Where the UDP header begins, without options or extension headers in front of it.
    pub const fn udp(self) -> usize {
        match self {
            Self::V4 => IP + 20,
            Self::V6 => IP + 40,
        }
    }

    /// Where the VXLAN header begins.
    pub const fn vxlan(self) -> usize {
        self.udp() + 8
    }

    /// All outer headers.
    pub const fn outer_len(self) -> usize {
        self.vxlan() + 8
    }

    pub fn node(self) -> IpAddr {
        match self {
            Self::V4 => site::NODE.into(),
            Self::V6 => site::NODE6.into(),
        }
    }

    pub fn peers(self) -> [IpAddr; 3] {
        match self {
            Self::V4 => site::PEERS.map(IpAddr::from),
            Self::V6 => site::PEERS6.map(IpAddr::from),
        }
    }

    /// By the EtherType.
    pub fn of(frame: &[u8]) -> Option<Self> {
        match be16(frame, 12)? {
            ETHER_IPV4 => Some(Self::V4),
            ETHER_IPV6 => Some(Self::V6),
            _ => None,
        }
    }

    /// Source and destination of a frame that holds the whole IP header.
    pub fn addresses(self, frame: &[u8]) -> &[u8] {
        match self {
            Self::V4 => &frame[IP + 12..IP + 20],
            Self::V6 => &frame[IP + 8..IP + 40],
        }
    }
}

/// The family of a frame that is VXLAN, or would be if it were long enough: UDP behind a plain IP header.
pub fn plain_udp(frame: &[u8]) -> Option<Family> {
    let family = Family::of(frame)?;
    let udp = match family {
        Family::V4 => {
            frame.get(IP)? == &0x45
                && frame.get(IP + 9)? == &17
                && be16(frame, IP + 6)? & 0x3fff == 0
        }
        Family::V6 => frame.get(IP)? >> 4 == 6 && frame.get(IP + 6)? == &17,
    };
    (udp && frame.len() >= family.vxlan()).then_some(family)
}

/// The inner frame, when this is VXLAN on one of the lab's ports.
pub fn inner_of(frame: &[u8]) -> Option<&[u8]> {
    let family = plain_udp(frame)?;
    let known = matches!(
        be16(frame, family.udp() + 2)?,
        site::PORT | site::OTHER_PORT
    );
    frame.get(family.outer_len()..).filter(|_| known)
}

/// The VNI of a frame that has all outer headers.
pub fn vni_of(frame: &[u8], family: Family) -> Option<u32> {
    let at = family.vxlan();
    let word = frame.get(at + 4..at + 8)?.first_chunk()?;
    Some(u32::from_be_bytes(*word) >> 8)
}

/// Where the UDP datagram ends, as its header says. Zero over IPv6 stands for all that the IP header counts (RFC 2675 §4).
pub fn datagram_end(frame: &[u8], family: Family) -> Option<usize> {
    let len = match (family, be16(frame, family.udp() + 4)?) {
        (Family::V6, 0) => be16(frame, IP + 4)?,
        (_, len) => len,
    };
    Some(family.udp() + usize::from(len))
}

/// The outer headers of a frame to the node under test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outer {
    pub destination_mac: [u8; 6],
    pub source_mac: [u8; 6],
    /// Its family is that of the header.
    pub source: IpAddr,
    /// Of the same family.
    pub destination: IpAddr,
    /// Or the traffic class.
    pub tos: u8,
    /// Or the hop limit.
    pub ttl: u8,
    /// Of IPv4.
    pub id: u16,
    /// Of IPv4: flags and offset.
    pub fragment: u16,
    /// Of IPv6, 20 bits.
    pub flow_label: u32,
    pub source_port: u16,
    pub destination_port: u16,
    /// The eight bytes of the VXLAN header.
    pub vxlan: [u8; 8],
    pub udp_checksum: OuterSum,
}

/// What the outer UDP checksum field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OuterSum {
    Zero,
    Right,
    /// This much more than the right one.
    Wrong(u16),
}

impl Outer {
    /// From the first peer to the usual device, as the kernel would send it.
    pub fn good() -> Self {
        Self::to(&Segment::USUAL)
    }

    /// From the first peer to a device, as the kernel would send it.
    pub fn to(segment: &Segment) -> Self {
        let family = segment.family;
        Self {
            destination_mac: site::NODE_MAC,
            source_mac: site::PEER_MACS[0],
            source: family.peers()[0],
            destination: family.node(),
            tos: 0,
            ttl: 64,
            id: 0x1234,
            fragment: 0,
            flow_label: 0,
            source_port: 50_000,
            destination_port: segment.port,
            vxlan: vxlan_header(segment.vni),
            udp_checksum: match family {
                Family::V4 => OuterSum::Zero,
                Family::V6 => OuterSum::Right,
            },
        }
    }

    pub fn around(&self, inner: &[u8]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(70 + inner.len());
        frame.extend(self.destination_mac);
        frame.extend(self.source_mac);
        let udp_len = (16 + inner.len()) as u16;
        let family = self.ip_header(&mut frame, udp_len);
        for word in [self.source_port, self.destination_port, udp_len, 0] {
            frame.extend(word.to_be_bytes());
        }
        frame.extend(self.vxlan);
        frame.extend(inner);
        let right = udp_sum(&frame, family);
        let field = match self.udp_checksum {
            OuterSum::Zero => 0,
            OuterSum::Right => right,
            OuterSum::Wrong(more) => match right.wrapping_add(more) {
                0 => 1,
                field => field,
            },
        };
        put16(&mut frame, family.udp() + 6, field);
        frame
    }

    /// EtherType and IP header.
    fn ip_header(&self, frame: &mut Vec<u8>, udp_len: u16) -> Family {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend(ETHER_IPV4.to_be_bytes());
                frame.extend([0x45, self.tos]);
                for word in [20 + udp_len, self.id, self.fragment] {
                    frame.extend(word.to_be_bytes());
                }
                frame.extend([self.ttl, 17, 0, 0]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
                finish_ip(frame);
                Family::V4
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend(ETHER_IPV6.to_be_bytes());
                let word = 6 << 28 | u32::from(self.tos) << 20 | self.flow_label & 0xf_ffff;
                frame.extend(word.to_be_bytes());
                frame.extend(udp_len.to_be_bytes());
                frame.extend([17, self.ttl]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
                Family::V6
            }
            both => panic!("one header, one family: {both:?}"),
        }
    }
}

pub fn vxlan_header(vni: u32) -> [u8; 8] {
    let [_, high, middle, low] = vni.to_be_bytes();
    [0x08, 0, 0, 0, high, middle, low, 0]
}

/// The field that the outer UDP header should have, whatever it has: over all that is behind the IP header.
pub fn udp_sum(frame: &[u8], family: Family) -> u16 {
    datagram_sum(frame, family, frame.len())
}

/// The same, over a datagram that ends there.
pub fn datagram_sum(frame: &[u8], family: Family, end: usize) -> u16 {
    let datagram = &frame[family.udp()..end];
    let pseudo = udp_pseudo(frame, family, end);
    match internet_checksum(&[&pseudo, &datagram[..6], &datagram[8..]]) {
        0 => 0xffff,
        field => field,
    }
}

/// The pseudo-header of a datagram that ends there. Over IPv6 its length and protocol are wider, which changes no sum.
pub fn udp_pseudo(frame: &[u8], family: Family, end: usize) -> Vec<u8> {
    let len = ((end - family.udp()) as u16).to_be_bytes();
    [family.addresses(frame), &[0, 17], &len].concat()
}

/// The same frame with something in front of its UDP header that says nothing: an option of IPv4, or of IPv6 to the
/// destination. Steering leaves it to the kernel, which reads past it.
pub fn for_kernel(mut frame: Vec<u8>) -> Vec<u8> {
    match Family::of(&frame) {
        Some(Family::V4) => {
            let len = be16(&frame, IP + 2).expect("the header is whole");
            frame[IP] = 0x46;
            put16(&mut frame, IP + 2, len + 4);
            put16(&mut frame, IP + 10, 0);
            frame.splice(IP + 20..IP + 20, [1; 4]);
            let sum = internet_checksum(&[&frame[IP..IP + 24]]);
            put16(&mut frame, IP + 10, sum);
        }
        Some(Family::V6) => {
            let len = be16(&frame, IP + 4).expect("the header is whole");
            put16(&mut frame, IP + 4, len + 8);
            frame[IP + 6] = 60;
            frame.splice(IP + 40..IP + 40, [17, 0, 1, 4, 0, 0, 0, 0]);
        }
        None => {}
    }
    frame
}

/// Writes the outer IPv4 header's checksum anew; of IPv6 there is none.
pub fn finish_ip(frame: &mut [u8]) {
    if Family::of(frame) == Some(Family::V4) {
        put16(frame, IP + 10, 0);
        let sum = internet_checksum(&[&frame[IP..IP + 20]]);
        put16(frame, IP + 10, sum);
    }
}

/// The traffic class of a frame's IP header, and its TTL.
pub fn class_and_ttl(frame: &[u8], family: Family) -> (u8, u8) {
    match family {
        Family::V4 => (frame[IP + 1], frame[IP + 8]),
        Family::V6 => (frame[IP] << 4 | frame[IP + 1] >> 4, frame[IP + 7]),
    }
}

/// Writes the traffic class.
pub fn set_class(frame: &mut [u8], family: Family, class: u8) {
    match family {
        Family::V4 => {
            frame[IP + 1] = class;
            finish_ip(frame);
        }
        Family::V6 => {
            frame[IP] = 0x60 | class >> 4;
            frame[IP + 1] = class << 4 | frame[IP + 1] & 15;
        }
    }
}
