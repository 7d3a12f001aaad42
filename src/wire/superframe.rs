//! A superframe of TCP or UDP, as the header of a TAP ([`super::vnet`]) tells of it: a segment too large for any link, or a
//! train of datagrams, which is still to be cut.
//!
//! Its checksum is unfinished, and all segments get the headers in front of its payload. Within a UDP tunnel (Linux 6.17
//! and later) the outer headers are in front of those, the header's offsets are the inner ones, and two more tell where the
//! outer UDP and the inner IP header are (`virtio_net_hdr_tnl_to_skb` of `linux/virtio_net.h`).

use super::vnet::{
    GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, GSO_UDP_TUNNEL_IPV4, GSO_UDP_TUNNEL_IPV6,
    NEEDS_CSUM, UDP_TUNNEL_CSUM, VnetHeader,
};
use super::{tcp, udp};

/// The byte of a TCP header in which its length is.
const TCP_OFFSET_AT: usize = 12;

/// What a superframe is cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superframe {
    /// Bytes from the frame's start to the payload: in front of every segment.
    pub headers_len: usize,
    /// Bytes of payload of every segment but the last, which may have fewer.
    pub payload_len: usize,
    /// How many there will be: at least 2.
    pub segments: usize,
}

/// Outer headers in front of a superframe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunnel {
    /// Of all of them, up to the inner frame.
    pub len: usize,
    /// Where the UDP header is.
    pub transport: usize,
    /// Whether the outer IP header is one of IPv6.
    pub ipv6: bool,
    /// Whether segments are to have an outer UDP checksum.
    pub checksum: bool,
}

impl Superframe {
    /// What the frame behind this header is to be cut into; `None` when it is to stay whole. That is also where the header
    /// contradicts itself or the frame, or is that of a tunnel.
    #[inline]
    pub fn read(header: &VnetHeader, frame: &[u8]) -> Option<Self> {
        let (is_tcp, checksum_offset) = match header.gso_type & !GSO_ECN {
            GSO_TCPV4 | GSO_TCPV6 => (true, tcp::CHECKSUM_OFFSET),
            GSO_UDP_L4 => (false, udp::CHECKSUM_OFFSET),
            _ => return None,
        };
        let unfinished = header.flags & NEEDS_CSUM != 0;
        if !unfinished || usize::from(header.csum_offset) != checksum_offset {
            return None;
        }
        let transport = usize::from(header.csum_start);
        let header_len = if is_tcp {
            let words = usize::from(frame.get(transport + TCP_OFFSET_AT)? >> 4);
            Some(4 * words).filter(|len| *len >= tcp::LEN)?
        } else {
            udp::LEN
        };
        let headers_len = transport + header_len;
        let (payload_len, len) = (usize::from(header.gso_size), frame.len());
        if payload_len == 0 || len <= headers_len + payload_len {
            return None;
        }
        Some(Self {
            headers_len,
            payload_len,
            segments: (len - headers_len).div_ceil(payload_len),
        })
    }

    /// Length of the longest frame that it is cut into.
    #[inline]
    pub fn segment_len(&self) -> usize {
        self.headers_len + self.payload_len
    }

    /// The header that it has behind outer headers, from the one that it was read from; its IP header is at `network`. `None`
    /// when an offset has no room for that.
    pub fn tunnelled(
        &self,
        header: &VnetHeader,
        network: usize,
        tunnel: Tunnel,
    ) -> Option<VnetHeader> {
        let moved = |offset: usize| u16::try_from(offset + tunnel.len).ok();
        let kind = if tunnel.ipv6 {
            GSO_UDP_TUNNEL_IPV6
        } else {
            GSO_UDP_TUNNEL_IPV4
        };
        let checksum = if tunnel.checksum { UDP_TUNNEL_CSUM } else { 0 };
        Some(VnetHeader {
            flags: NEEDS_CSUM | checksum,
            gso_type: header.gso_type | kind,
            hdr_len: moved(self.headers_len)?,
            gso_size: header.gso_size,
            csum_start: moved(usize::from(header.csum_start))?,
            csum_offset: header.csum_offset,
            outer_th_offset: u16::try_from(tunnel.transport).ok()?,
            inner_nh_offset: moved(network)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use super::super::vnet::LEN;

    /// As the kernel writes it in front of 14 + 20 + 32 bytes of headers and 4000 of payload, 1398 a segment.
    const TCP4: [u8; LEN] = [
        1, 1, 0xfe, 0, 0x76, 0x05, 34, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];

    fn frame(payload: usize) -> Vec<u8> {
        let mut bytes = vec![0; 66 + payload];
        bytes[34 + 12] = 0x80;
        bytes
    }

    fn header(bytes: &[u8]) -> VnetHeader {
        VnetHeader::parse(bytes).unwrap()
    }

    #[test]
    fn a_superframe_is_told_with_its_segments() {
        let superframe = Superframe::read(&header(&TCP4), &frame(4000)).unwrap();
        assert_eq!(superframe.headers_len, 66);
        assert_eq!(superframe.segment_len(), 66 + 1398);
        assert_eq!(superframe.segments, 3);
        let exact = Superframe::read(&header(&TCP4), &frame(2 * 1398)).unwrap();
        assert_eq!(exact.segments, 2);
        let mut ecn = TCP4;
        ecn[1] |= 0x80;
        assert!(Superframe::read(&header(&ecn), &frame(4000)).is_some());
        ecn[1] = 4;
        assert!(Superframe::read(&header(&ecn), &frame(4000)).is_some());
    }

    #[test]
    fn a_train_of_datagrams_is_told_with_them() {
        let udp = VnetHeader {
            gso_type: GSO_UDP_L4,
            csum_offset: 6,
            ..header(&TCP4)
        };
        let superframe = Superframe::read(&udp, &[0; 42 + 4000]).unwrap();
        assert_eq!(superframe.segment_len(), 42 + 1398);
        assert_eq!((superframe.headers_len, superframe.segments), (42, 3));
        assert_eq!(Superframe::read(&udp, &[0; 42 + 1398]), None);
        for wrong in [
            VnetHeader { flags: 0, ..udp },
            VnetHeader {
                csum_offset: 16,
                ..udp
            },
            VnetHeader { gso_size: 0, ..udp },
            VnetHeader {
                csum_start: 4034,
                ..udp
            },
        ] {
            assert_eq!(Superframe::read(&wrong, &[0; 42 + 4000]), None);
        }
        let over_ipv4 = Tunnel {
            len: 50,
            transport: 34,
            ipv6: false,
            checksum: true,
        };
        let moved = superframe.tunnelled(&udp, 14, over_ipv4).unwrap();
        #[rustfmt::skip]
        let expected = [
            9, 0x25, 92, 0, 0x76, 0x05, 84, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 34, 0, 64, 0,
        ];
        assert_eq!(moved.bytes(), expected);
    }

    #[test]
    fn what_fits_one_segment_or_contradicts_itself_is_none() {
        assert_eq!(Superframe::read(&header(&TCP4), &frame(1398)), None);
        assert_eq!(Superframe::read(&header(&[0; LEN]), &frame(4000)), None);
        for (at, value) in [
            (0, 0),
            (0, 2),
            (1, 0),
            (1, 3),
            (1, 5),
            (8, 6),
            (6, 0xff),
            (7, 0xff),
        ] {
            let mut bytes = TCP4;
            bytes[at] = value;
            assert_eq!(
                Superframe::read(&header(&bytes), &frame(4000)),
                None,
                "{at} {value}"
            );
        }
        let mut without_size = TCP4;
        without_size[4..6].fill(0);
        assert_eq!(Superframe::read(&header(&without_size), &frame(4000)), None);
        let mut short_tcp = frame(4000);
        short_tcp[34 + 12] = 0x40;
        assert_eq!(Superframe::read(&header(&TCP4), &short_tcp), None);
        assert_eq!(Superframe::read(&header(&TCP4), &[0; 46]), None);
    }

    #[test]
    fn behind_outer_headers_every_offset_moves() {
        let plain = header(&TCP4);
        let superframe = Superframe::read(&plain, &frame(4000)).unwrap();
        let over_ipv4 = Tunnel {
            len: 50,
            transport: 34,
            ipv6: false,
            checksum: true,
        };
        let moved = superframe.tunnelled(&plain, 14, over_ipv4).unwrap();
        #[rustfmt::skip]
        let expected = [
            9, 0x21, 116, 0, 0x76, 0x05, 84, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 34, 0, 64, 0,
        ];
        assert_eq!(moved.bytes(), expected);
        let over_ipv6 = Tunnel {
            len: 70,
            transport: 54,
            ipv6: true,
            checksum: false,
        };
        let moved = superframe.tunnelled(&plain, 14, over_ipv6).unwrap();
        #[rustfmt::skip]
        let expected = [
            1, 0x41, 136, 0, 0x76, 0x05, 104, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 54, 0, 84, 0,
        ];
        assert_eq!(moved.bytes(), expected);
        // A superframe of a tunnel is not taken for one of TCP or UDP alone.
        assert_eq!(Superframe::read(&moved, &frame(4000)), None);
    }
}
