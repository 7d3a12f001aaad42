//! The headers of a flow, complete, as bytes: built once, before the first frame leaves.
//!
//! ```text
//!   | Ethernet | IP | UDP | VXLAN | Ethernet | IP | UDP, TCP or ICMP |  payload: zeros ... | signature |
//!   |<------- only when encapsulated ------->|                       |
//!   |<---------------------- header_len ---------------------------->|
//! ```
//!
//! Lengths and checksums in the block are those of a frame without payload. An engine turns them into those of a frame
//! with `n` bytes of payload without summing it twice: IP and UDP lengths grow by `n`, IPv4 header checksums and pseudo-headers
//! with them (RFC 1624), and the inner transport checksum takes in the payload, which is the signature alone. The outer UDP
//! checksum then depends on lengths only: with a right checksum inside, header and payload of the inner transport sum up
//! to what their pseudo-header says.
//!
//! etherparse writes the bytes: another hand than the one whose frames are judged.

use std::net::{IpAddr, SocketAddr};

use etherparse::PacketBuilder;

/// The longest block: IPv6 in VXLAN over IPv6, with TCP.
pub const HEADERS_MAX: usize = 144;

/// An IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Of an address.
    pub const fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Bytes of the IP header, without options.
    pub const fn header_len(self) -> u16 {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }

    /// Where the length field is within the IP header: of the whole packet for IPv4, of the payload for IPv6.
    pub const fn length_at(self) -> u16 {
        match self {
            Self::V4 => 2,
            Self::V6 => 4,
        }
    }
}

/// What the inner IP header carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// UDP.
    Udp,
    /// A TCP header with ACK set. There is no connection: nothing answers, nothing is sent again.
    Tcp,
    /// ICMP or ICMPv6 echo requests.
    Icmp,
}

impl Transport {
    /// Bytes of the header, without options.
    pub const fn header_len(self) -> u16 {
        match self {
            Self::Udp | Self::Icmp => 8,
            Self::Tcp => 20,
        }
    }

    /// Where the checksum is within the header.
    pub const fn checksum_at(self) -> u16 {
        match self {
            Self::Udp => 6,
            Self::Tcp => 16,
            Self::Icmp => 2,
        }
    }

    /// Where the 4 bytes are that tell flows apart: ports, or an echo's identifier and sequence.
    pub const fn ports_at(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 0,
            Self::Icmp => 4,
        }
    }
}

/// What all flows of a stream have in common: where their headers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The outer IP header's family; none when the frames are not encapsulated.
    pub outer: Option<Family>,
    /// The inner IP header's family.
    pub inner: Family,
    /// The inner transport header.
    pub transport: Transport,
    /// The inner Ethernet destination that frames arrive with; none: the one that they were sent with.
    pub arrival_mac: Option<[u8; 6]>,
}

/// Bytes of an Ethernet header.
pub const ETHERNET_LEN: u16 = 14;
const UDP_LEN: u16 = 8;
const VXLAN_LEN: u16 = 8;

impl Shape {
    /// Where the inner Ethernet header starts; 0 when there is no outer one.
    pub const fn inner_at(self) -> u16 {
        match self.outer {
            Some(family) => ETHERNET_LEN + family.header_len() + UDP_LEN + VXLAN_LEN,
            None => 0,
        }
    }

    /// Where the inner IP header starts.
    pub const fn inner_ip_at(self) -> u16 {
        self.inner_at() + ETHERNET_LEN
    }

    /// Where the inner transport header starts.
    pub const fn inner_transport_at(self) -> u16 {
        self.inner_ip_at() + self.inner.header_len()
    }

    /// Where the outer UDP header starts, if there is one.
    pub const fn outer_udp_at(self) -> Option<u16> {
        match self.outer {
            Some(family) => Some(ETHERNET_LEN + family.header_len()),
            None => None,
        }
    }

    /// Bytes of all headers.
    pub const fn header_len(self) -> u16 {
        self.inner_transport_at() + self.transport.header_len()
    }

    /// Bytes of the shortest inner frame, with its FCS, that has room for a signature.
    pub const fn size_min(self) -> u16 {
        let len = self.header_len() - self.inner_at() + super::signature::LEN as u16;
        let frame = len + super::size::FCS_LEN;
        if frame < 64 { 64 } else { frame }
    }
}

/// The addresses of one flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// The outer headers, when encapsulated.
    pub outer: Option<Outer>,
    /// Inner Ethernet source.
    pub source_mac: [u8; 6],
    /// Inner Ethernet destination.
    pub destination_mac: [u8; 6],
    /// Inner IP source and port.
    pub source: SocketAddr,
    /// Inner IP destination and port, of the same family.
    pub destination: SocketAddr,
}

/// The outer addresses of one flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outer {
    /// Ethernet source.
    pub source_mac: [u8; 6],
    /// Ethernet destination: the device under test, or its router.
    pub destination_mac: [u8; 6],
    /// The VTEP that the frames come from, and the UDP port of the flow.
    pub source: SocketAddr,
    /// The VTEP that they go to, and the VXLAN port.
    pub destination: SocketAddr,
    /// The VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// Whether the outer UDP checksum is 0: usual over IPv4, over IPv6 by agreement only (RFC 6935).
    pub zero_checksum: bool,
}

/// Addresses of two families in one header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a flow from {from} to {to}: both addresses must be of one family")]
pub struct MixedFamilies {
    /// Source.
    pub from: IpAddr,
    /// Destination.
    pub to: IpAddr,
}

/// The headers of a flow; beyond [`Shape::header_len`] there are zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct FlowHeaders {
    /// See the module.
    pub bytes: [u8; HEADERS_MAX],
}

/// TTL or hop limit of all headers: what most hosts send.
const TTL: u8 = 64;
const TCP_WINDOW: u16 = 65_535;
const UDP_CHECKSUM_AT: usize = 6;

impl FlowHeaders {
    /// Writes the headers of a flow.
    ///
    /// # Errors
    /// [`MixedFamilies`], of the inner or of the outer addresses.
    pub fn new(flow: &Flow, transport: Transport) -> Result<Self, MixedFamilies> {
        let mut block = inner(flow, transport)?;
        if let Some(outer) = &flow.outer {
            block = encapsulate(outer, &block)?;
        }
        let mut bytes = [0; HEADERS_MAX];
        // Never longer: HEADERS_MAX is the longest that the types allow.
        for (to, from) in bytes.iter_mut().zip(block) {
            *to = from;
        }
        Ok(Self { bytes })
    }
}

fn inner(flow: &Flow, transport: Transport) -> Result<Vec<u8>, MixedFamilies> {
    let ethernet = PacketBuilder::ethernet2(flow.source_mac, flow.destination_mac);
    let (from, to) = (flow.source, flow.destination);
    let ip = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), TTL),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), TTL),
        (from, to) => return Err(MixedFamilies { from, to }),
    };
    let mut bytes = Vec::with_capacity(HEADERS_MAX);
    // Writing to memory, and without a payload that could be too long, cannot fail.
    let written = match transport {
        Transport::Udp => ip.udp(from.port(), to.port()).write(&mut bytes, &[]),
        Transport::Tcp => ip
            .tcp(from.port(), to.port(), 1, TCP_WINDOW)
            .ack(1)
            .write(&mut bytes, &[]),
        Transport::Icmp if from.is_ipv4() => ip
            .icmpv4_echo_request(from.port(), to.port())
            .write(&mut bytes, &[]),
        Transport::Icmp => ip
            .icmpv6_echo_request(from.port(), to.port())
            .write(&mut bytes, &[]),
    };
    debug_assert!(written.is_ok());
    Ok(bytes)
}

fn encapsulate(outer: &Outer, inner: &[u8]) -> Result<Vec<u8>, MixedFamilies> {
    let ethernet = PacketBuilder::ethernet2(outer.source_mac, outer.destination_mac);
    let (from, to) = (outer.source, outer.destination);
    let ip = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), TTL),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), TTL),
        (from, to) => return Err(MixedFamilies { from, to }),
    };
    let [_, v0, v1, v2] = outer.vni.to_be_bytes();
    let payload = [&[0x08, 0, 0, 0, v0, v1, v2, 0], inner].concat();
    let mut bytes = Vec::with_capacity(HEADERS_MAX);
    let written = ip.udp(from.port(), to.port()).write(&mut bytes, &payload);
    debug_assert!(written.is_ok());
    if outer.zero_checksum {
        let at = usize::from(ETHERNET_LEN + Family::of(from.ip()).header_len()) + UDP_CHECKSUM_AT;
        if let Some(field) = bytes.get_mut(at..at + 2) {
            field.fill(0);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{SlicedPacket, TransportSlice};

    fn flow(inner: Family, outer: Option<Family>) -> Flow {
        let addr = |family, last| -> SocketAddr {
            match family {
                Family::V4 => format!("198.18.0.{last}:{}", 1000 + last).parse().unwrap(),
                Family::V6 => format!("[2001:2::{last}]:{}", 1000 + last).parse().unwrap(),
            }
        };
        Flow {
            outer: outer.map(|family| Outer {
                source_mac: [2, 0, 0, 0, 0, 3],
                destination_mac: [2, 0, 0, 0, 0, 4],
                source: addr(family, 3),
                destination: addr(family, 4),
                vni: 0x00ab_cdef,
                zero_checksum: family == Family::V4,
            }),
            source_mac: [2, 0, 0, 0, 0, 1],
            destination_mac: [2, 0, 0, 0, 0, 2],
            source: addr(inner, 1),
            destination: addr(inner, 2),
        }
    }

    fn combinations() -> impl Iterator<Item = (Shape, FlowHeaders)> {
        use Family::{V4, V6};
        let outers = [None, Some(V4), Some(V6)];
        let transports = [Transport::Udp, Transport::Tcp, Transport::Icmp];
        outers.into_iter().flat_map(move |outer| {
            [V4, V6].into_iter().flat_map(move |inner| {
                transports.map(|transport| {
                    let headers = FlowHeaders::new(&flow(inner, outer), transport).unwrap();
                    let shape = Shape {
                        outer,
                        inner,
                        transport,
                        arrival_mac: None,
                    };
                    (shape, headers)
                })
            })
        })
    }

    /// A frame without payload must be right as it stands.
    #[test]
    fn every_shape_is_a_whole_frame_where_it_says() {
        for (shape, headers) in combinations() {
            let len = usize::from(shape.header_len());
            assert!(
                headers.bytes[len..].iter().all(|byte| *byte == 0),
                "{shape:?}"
            );
            let inner = &headers.bytes[usize::from(shape.inner_at())..len];
            let sliced = SlicedPacket::from_ethernet(inner).unwrap();
            let transport = sliced.transport.expect("a transport header");
            let found = match transport {
                TransportSlice::Udp(_) => Transport::Udp,
                TransportSlice::Tcp(_) => Transport::Tcp,
                _ => Transport::Icmp,
            };
            assert_eq!(found, shape.transport);
            let ip = &inner[14..];
            let family = if ip[0] >> 4 == 4 {
                Family::V4
            } else {
                Family::V6
            };
            assert_eq!(family, shape.inner);
        }
    }

    #[test]
    fn the_longest_shape_fills_the_block() {
        let longest = combinations().map(|(shape, _)| shape.header_len()).max();
        assert_eq!(longest.map(usize::from), Some(HEADERS_MAX));
    }

    #[test]
    fn the_outer_header_of_an_ipv4_flow_stands_as_on_the_wire() {
        let headers =
            FlowHeaders::new(&flow(Family::V4, Some(Family::V4)), Transport::Udp).unwrap();
        let expected = [
            2, 0, 0, 0, 0, 4, 2, 0, 0, 0, 0, 3, 0x08, 0x00, // Ethernet
            0x45, 0, 0, 78, 0, 0, 0x40, 0, 64, 17, // IPv4 of 20 + 8 + 8 + 42 bytes
        ];
        assert_eq!(headers.bytes[..24], expected);
        assert_eq!(headers.bytes[26..34], [198, 18, 0, 3, 198, 18, 0, 4]);
        assert_eq!(headers.bytes[34..42], [0x03, 0xeb, 0x03, 0xec, 0, 58, 0, 0]);
        assert_eq!(headers.bytes[42..50], [8, 0, 0, 0, 0xab, 0xcd, 0xef, 0]);
    }

    /// What the module says of the outer checksum: over IPv6 it is the same for any content behind a right inner checksum.
    #[test]
    fn the_outer_checksum_depends_on_lengths_only() {
        let mut one = flow(Family::V4, Some(Family::V6));
        let first = FlowHeaders::new(&one, Transport::Udp).unwrap();
        one.source.set_port(4242);
        one.destination.set_port(9);
        let second = FlowHeaders::new(&one, Transport::Udp).unwrap();
        let at = 14 + 40 + 6;
        assert_ne!(first.bytes[at..at + 2], [0, 0]);
        assert_eq!(first.bytes[at..at + 2], second.bytes[at..at + 2]);
    }

    #[test]
    fn sizes_leave_room_for_the_signature() {
        let size = |inner, transport| {
            Shape {
                outer: None,
                inner,
                transport,
                arrival_mac: None,
            }
            .size_min()
        };
        assert_eq!(size(Family::V4, Transport::Udp), 64);
        assert_eq!(size(Family::V4, Transport::Tcp), 74);
        assert_eq!(size(Family::V6, Transport::Udp), 82);
        assert_eq!(size(Family::V6, Transport::Tcp), 94);
    }

    #[test]
    fn families_do_not_mix() {
        let mut mixed = flow(Family::V4, None);
        mixed.destination = "[2001:2::2]:9".parse().unwrap();
        assert!(FlowHeaders::new(&mixed, Transport::Udp).is_err());
        let mut mixed = flow(Family::V4, Some(Family::V4));
        mixed.outer.as_mut().unwrap().source = "[2001:2::3]:9".parse().unwrap();
        assert!(FlowHeaders::new(&mixed, Transport::Udp).is_err());
    }
}
