//! Where the headers of an inner frame are: Ethernet, VLAN tags, IPv4 or IPv6, and what that carries.
//!
//! What is IPv4 or IPv6 is told by the EtherType alone, as in the kernel: a header whose version contradicts it gives its
//! traffic class and TTL all the same, but carries nothing that could be found.
//!
//! Every offset lies within the frame that was read, as long as the frame is not made shorter.

use super::ethernet::{self, EthernetHeader};
use super::ipv4::Ipv4Header;
use super::ipv6::{self, Ipv6Header};
use super::vlan;

/// What follows the Ethernet header and the tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// An EtherType of IPv4, and bytes enough for the fixed part of its header.
    Ipv4,
    /// An EtherType of IPv6, and bytes enough for its header.
    Ipv6,
    /// An EtherType of IPv4 or IPv6, and a header that is cut short.
    Cut,
    /// Anything else.
    Other,
}

/// The network header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which it is.
    pub network: Network,
    /// Where it starts, in bytes from the frame's start.
    pub offset: usize,
    /// VLAN tags in front of it.
    pub tags: usize,
}

/// What an IP header carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transport {
    /// IANA protocol number.
    pub protocol: u8,
    /// Where it starts, in bytes from the frame's start.
    pub offset: usize,
    /// Its length in bytes, as the IP header says: padding behind it does not count.
    pub len: usize,
    /// Whether the destination in the IP header is the last (no IPv6 routing header).
    pub direct: bool,
}

/// The headers of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layers {
    /// The network header.
    pub place: Place,
    /// DSCP and ECN of the IP header; 0 without one.
    pub traffic_class: u8,
    /// TTL or hop limit; 0 without an IP header.
    pub ttl: u8,
    /// The DF bit of an IPv4 header.
    pub df: bool,
    /// The flow label of an IPv6 header; 0 without one.
    pub flow_label: u32,
    /// What the IP header carries: `None` in fragments, without an IP header, and where the lengths contradict
    /// themselves or the frame.
    pub transport: Option<Transport>,
}

/// Ethernet and IPv4 headers, and 8 bytes of what follows: a UDP header, or the ports of another.
pub const PLAIN_LEN: usize = ethernet::LEN + super::ipv4::LEN + super::udp::LEN;

impl Place {
    /// Finds the network header; `None` when the Ethernet header is cut short.
    #[inline(always)]
    pub fn find(frame: &[u8]) -> Option<Self> {
        let (ethernet, rest) = EthernetHeader::parse(frame)?;
        let other = Self {
            network: Network::Other,
            offset: ethernet::LEN,
            tags: 0,
        };
        let Some((ether_type, tags, rest)) = vlan::skip(ethernet.ether_type(), rest) else {
            return Some(other);
        };
        let network = match ether_type {
            ethernet::IPV4 => match Ipv4Header::parse(rest) {
                Some(_) => Network::Ipv4,
                None => Network::Cut,
            },
            ethernet::IPV6 => match Ipv6Header::parse(rest) {
                Some(_) => Network::Ipv6,
                None => Network::Cut,
            },
            _ => Network::Other,
        };
        Some(Self {
            network,
            offset: ethernet::LEN + tags * vlan::LEN,
            tags,
        })
    }
}

impl Layers {
    /// Finds the headers; `None` when the Ethernet header is cut short.
    ///
    /// Always inlined: what a caller does not read is then not worked out, and the rest stays in registers.
    #[inline(always)]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let place = Place::find(frame)?;
        let bytes = frame.get(place.offset..).unwrap_or(&[]);
        let without = Self {
            place,
            traffic_class: 0,
            ttl: 0,
            df: false,
            flow_label: 0,
            transport: None,
        };
        Some(match place.network {
            Network::Ipv4 => match Ipv4Header::parse(bytes) {
                Some(header) => Self::ipv4(place, header, bytes),
                None => without,
            },
            Network::Ipv6 => match Ipv6Header::parse(bytes) {
                Some(header) => Self::ipv6(place, header, bytes),
                None => without,
            },
            Network::Cut | Network::Other => without,
        })
    }

    /// The headers of a frame as most are: no tags, IPv4 without options, no fragment, and [`PLAIN_LEN`] bytes at least. Of
    /// other frames nothing is said: [`Self::parse`] knows.
    ///
    /// What is the same in all of them is a constant here, so that a caller's code for them has no bounds left to check.
    #[inline(always)]
    pub fn plain(frame: &[u8]) -> Option<Self> {
        let head = frame.first_chunk::<PLAIN_LEN>()?;
        let (ethernet, packet) = EthernetHeader::parse(head)?;
        let header = Ipv4Header::parse(packet)?;
        let total_len = header.total_len();
        let is_plain = ethernet.ether_type() == ethernet::IPV4
            && header.is_ipv4_without_options()
            && !header.is_fragment()
            && (PLAIN_LEN - ethernet::LEN..=frame.len() - ethernet::LEN).contains(&total_len);
        is_plain.then(|| Self {
            place: Place {
                network: Network::Ipv4,
                offset: ethernet::LEN,
                tags: 0,
            },
            traffic_class: header.tos(),
            ttl: header.ttl(),
            df: header.df(),
            flow_label: 0,
            transport: Some(Transport {
                protocol: header.protocol(),
                offset: ethernet::LEN + super::ipv4::LEN,
                len: total_len - super::ipv4::LEN,
                direct: true,
            }),
        })
    }

    #[inline(always)]
    fn ipv4(place: Place, header: &Ipv4Header, bytes: &[u8]) -> Self {
        let (header_len, total_len) = (header.header_len(), header.total_len());
        let sound = header.version() == 4
            && header_len >= super::ipv4::LEN
            && total_len >= header_len
            && total_len <= bytes.len();
        let transport = (sound && !header.is_fragment()).then(|| Transport {
            protocol: header.protocol(),
            offset: place.offset + header_len,
            len: total_len - header_len,
            direct: true,
        });
        Self {
            place,
            traffic_class: header.tos(),
            ttl: header.ttl(),
            df: header.df(),
            flow_label: 0,
            transport,
        }
    }

    #[inline(always)]
    fn ipv6(place: Place, header: &Ipv6Header, bytes: &[u8]) -> Self {
        let behind = bytes
            .get(ipv6::LEN..)
            .and_then(|rest| rest.get(..header.payload_len()))
            .filter(|_| header.version() == 6);
        let transport = behind.and_then(|behind| {
            let payload = ipv6::walk(header.next_header(), behind)?;
            Some(Transport {
                protocol: payload.protocol,
                offset: place.offset + ipv6::LEN + payload.offset,
                len: behind.len() - payload.offset,
                direct: !payload.routed,
            })
        });
        Self {
            place,
            traffic_class: header.traffic_class(),
            ttl: header.hop_limit(),
            df: false,
            flow_label: header.flow_label(),
            transport,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    const A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
    const B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

    fn built(
        builder: etherparse::PacketBuilderStep<etherparse::UdpHeader>,
        payload: &[u8],
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        builder.write(&mut bytes, payload).unwrap();
        bytes
    }

    fn udp4() -> Vec<u8> {
        built(
            PacketBuilder::ethernet2(A, B)
                .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 17)
                .udp(1, 2),
            &[1, 2, 3],
        )
    }

    #[test]
    fn ipv4_and_ipv6_are_found_behind_no_one_and_two_tags() {
        let vid = |n| etherparse::VlanId::try_new(n).unwrap();
        let cases = [
            (udp4(), 14, 0, Network::Ipv4, 34),
            (
                built(
                    PacketBuilder::ethernet2(A, B)
                        .single_vlan(vid(10))
                        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 17)
                        .udp(1, 2),
                    &[1, 2, 3],
                ),
                18,
                1,
                Network::Ipv4,
                38,
            ),
            (
                built(
                    PacketBuilder::ethernet2(A, B)
                        .double_vlan(vid(10), vid(20))
                        .ipv6([1; 16], [2; 16], 17)
                        .udp(1, 2),
                    &[1, 2, 3],
                ),
                22,
                2,
                Network::Ipv6,
                62,
            ),
        ];
        for (mut frame, offset, tags, network, transport) in cases {
            frame.extend([0; 30]); // padding
            let layers = Layers::parse(&frame).unwrap();
            assert_eq!(
                layers.place,
                Place {
                    network,
                    offset,
                    tags
                }
            );
            assert_eq!(layers.ttl, 17);
            let expected = Transport {
                protocol: 17,
                offset: transport,
                len: 11,
                direct: true,
            };
            assert_eq!(layers.transport, Some(expected));
        }
    }

    #[test]
    fn a_header_cut_short_by_one_byte_is_cut() {
        let frame = udp4();
        assert_eq!(Place::find(&frame[..33]).unwrap().network, Network::Cut);
        assert_eq!(Place::find(&frame[..34]).unwrap().network, Network::Ipv4);
        let frame = built(
            PacketBuilder::ethernet2(A, B)
                .ipv6([1; 16], [2; 16], 17)
                .udp(1, 2),
            &[],
        );
        assert_eq!(Place::find(&frame[..53]).unwrap().network, Network::Cut);
        assert_eq!(Place::find(&frame[..54]).unwrap().network, Network::Ipv6);
        assert_eq!(Place::find(&frame[..13]), None);
    }

    #[test]
    fn a_plain_frame_is_read_as_any_other_and_every_other_is_not_plain() {
        let frame = udp4();
        assert_eq!(Layers::plain(&frame), Layers::parse(&frame));
        let with = |at: usize, value| {
            let mut frame = frame.clone();
            frame[at] = value;
            Layers::plain(&frame)
        };
        assert!(with(20, 0x40).is_some_and(|layers| layers.df));
        for (at, value) in [
            (12, 0x81),
            (14, 0x46),
            (14, 0x65),
            (17, 27),
            (17, 32),
            (20, 0x20),
            (21, 1),
        ] {
            assert_eq!(with(at, value), None, "byte {at} = {value}");
        }
        assert_eq!(Layers::plain(&frame[..41]), None);
    }

    #[test]
    fn a_version_that_contradicts_the_ether_type_leaves_no_transport() {
        let mut frame = udp4();
        frame[14] = 0x65;
        frame[15] = 0xb9;
        let layers = Layers::parse(&frame).unwrap();
        assert_eq!(layers.place.network, Network::Ipv4);
        assert_eq!((layers.traffic_class, layers.transport), (0xb9, None));
    }

    #[test]
    fn lengths_that_contradict_the_frame_leave_no_transport() {
        let frame = udp4();
        for (at, value) in [(14, 0x44), (14, 0x4f), (17, 19), (17, 32), (16, 1)] {
            let mut frame = frame.clone();
            frame[at] = value;
            assert_eq!(
                Layers::parse(&frame).unwrap().transport,
                None,
                "byte {at} = {value}"
            );
        }
    }

    #[test]
    fn v05_fragments_leave_no_transport() {
        for flags in [0x20, 0x3f] {
            let mut frame = udp4();
            frame[20] = flags;
            assert_eq!(Layers::parse(&frame).unwrap().transport, None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_leaving_the_frame(mut frame in prop::collection::vec(any::<u8>(), 0..200), kind in 0usize..6) {
            let types = [[8, 0], [0x86, 0xdd], [0x81, 0], [0x88, 0xa8], [8, 6], [0, 0]];
            if let (Some(at), Some(kind)) = (frame.get_mut(12..14), types.get(kind)) {
                at.copy_from_slice(kind);
            }
            if let Some(byte) = frame.get_mut(14) {
                *byte = *byte & 0x0f | [0x40, 0x60][kind & 1];
            }
            match Layers::parse(&frame) {
                None => prop_assert!(frame.len() < 14),
                Some(layers) => {
                    prop_assert!(Layers::plain(&frame).is_none_or(|plain| plain == layers));
                    prop_assert!(layers.place.offset <= frame.len());
                    if let Some(transport) = layers.transport {
                        prop_assert!(transport.offset + transport.len <= frame.len());
                    }
                }
            }
        }
    }
}
