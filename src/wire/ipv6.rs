//! The IPv6 header and its extension headers (RFC 8200).

use std::net::Ipv6Addr;

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Length in bytes, without extension headers.
pub const LEN: usize = 40;

/// The bits of a flow label.
pub const FLOW_LABEL_MASK: u32 = 0xf_ffff;

/// How many extension headers are walked over. A frame with more is carried like any other, its payload unread.
pub const EXTENSIONS_MAX: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
/// The fragment header's IANA protocol number.
pub const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;

/// The header, seen in place.
#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ipv6Header {
    version_class_label: U32,
    payload_len: U16,
    next_header: u8,
    hop_limit: u8,
    source: [u8; 16],
    destination: [u8; 16],
}

const _: () = assert!(size_of::<Ipv6Header>() == LEN);

impl Ipv6Header {
    /// The header at the start of `bytes`; `None` when it is cut short. Its fields are not judged.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<&Self> {
        Self::ref_from_prefix(bytes).ok().map(|(header, _)| header)
    }

    /// 6, unless the bytes are something else.
    #[inline]
    pub fn version(&self) -> u8 {
        (self.version_class_label.get() >> 28) as u8
    }

    /// DSCP and ECN.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        (self.version_class_label.get() >> 20) as u8
    }

    /// The flow label, 20 bits (RFC 6437).
    #[inline]
    pub fn flow_label(&self) -> u32 {
        self.version_class_label.get() & FLOW_LABEL_MASK
    }

    /// Everything behind this header in bytes, as the field says.
    #[inline]
    pub fn payload_len(&self) -> usize {
        usize::from(self.payload_len.get())
    }

    /// What follows: a payload or an extension header.
    #[inline]
    pub fn next_header(&self) -> u8 {
        self.next_header
    }

    /// Hop limit.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.hop_limit
    }

    /// Who sent it.
    #[inline]
    pub fn source(&self) -> Ipv6Addr {
        Ipv6Addr::from(self.source)
    }

    /// Whom it is for, as far as this header says (a routing header may name others).
    #[inline]
    pub fn destination(&self) -> Ipv6Addr {
        Ipv6Addr::from(self.destination)
    }
}

/// The payload behind the extension headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    /// What it is (IANA protocol number).
    pub protocol: u8,
    /// Where it starts, in bytes from the end of the fixed header.
    pub offset: usize,
    /// Whether a routing header was on the way: the destination in the fixed header may not be the last.
    pub routed: bool,
}

/// Walks over the extension headers in `bytes`, which is all that follows the fixed header. `None` where the payload
/// cannot be read: behind a fragment header (of a whole packet too: RFC 6946 asks for no more than to carry it), in a
/// header that is cut short, and behind more than [`EXTENSIONS_MAX`].
#[inline]
pub fn walk(mut next_header: u8, bytes: &[u8]) -> Option<Payload> {
    let mut offset = 0;
    let mut routed = false;
    for _ in 0..=EXTENSIONS_MAX {
        let unit = match next_header {
            HOP_BY_HOP | DESTINATION_OPTIONS | MOBILITY => 8,
            ROUTING => {
                routed = true;
                8
            }
            AUTHENTICATION => 4,
            FRAGMENT => return None,
            protocol => {
                return Some(Payload {
                    protocol,
                    offset,
                    routed,
                });
            }
        };
        let [next, len] = *bytes.get(offset..)?.first_chunk::<2>()?;
        // Length beyond the first 8 bytes in units of 8 (RFC 8200 §4), of 4 for the authentication header (RFC 4302 §2.2).
        offset += 8 + usize::from(len) * unit;
        if offset > bytes.len() {
            return None;
        }
        next_header = next;
    }
    None
}

/// Sets DSCP and ECN of the header at the start of `bytes`; IPv6 has no header checksum. What is no header is left as
/// it is.
#[inline]
pub fn set_traffic_class(bytes: &mut [u8], class: u8) {
    let Some([first, second, ..]) = bytes.first_chunk_mut::<LEN>() else {
        return;
    };
    *first = *first & 0xf0 | class >> 4;
    *second = *second & 0x0f | class << 4;
}

/// Sets the length of what follows the header at the start of `bytes`. What is no header is left as it is.
#[inline]
pub fn set_payload_len(bytes: &mut [u8], len: u16) {
    if let Some(header) = bytes.first_chunk_mut::<LEN>() {
        header[4..6].copy_from_slice(&len.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_length_is_set_and_nothing_else() {
        let mut bytes = header();
        set_payload_len(&mut bytes, 0xfeed);
        assert_eq!(Ipv6Header::parse(&bytes).unwrap().payload_len(), 0xfeed);
        set_payload_len(&mut bytes, 0x05aa);
        set_payload_len(&mut bytes[..39], 1);
        assert_eq!(bytes, header());
    }

    fn header() -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&[0x6b, 0x9f, 0xab, 0xcd, 0x05, 0xaa, 58, 63]);
        bytes[8..24].copy_from_slice(&[0x11; 16]);
        bytes[24..].copy_from_slice(&[0x22; 16]);
        bytes
    }

    #[test]
    fn fields_are_read_as_an_independent_parser_reads_them() {
        let bytes = header();
        let ours = Ipv6Header::parse(&bytes).unwrap();
        let theirs = etherparse::Ipv6HeaderSlice::from_slice(&bytes).unwrap();
        assert_eq!(
            (ours.version(), ours.traffic_class()),
            (theirs.version(), theirs.traffic_class())
        );
        assert_eq!(ours.payload_len(), usize::from(theirs.payload_length()));
        assert_eq!(
            (ours.next_header(), ours.hop_limit()),
            (theirs.next_header().0, theirs.hop_limit())
        );
        assert_eq!(
            (ours.source(), ours.destination()),
            (theirs.source_addr(), theirs.destination_addr())
        );
    }

    #[test]
    fn the_traffic_class_changes_and_nothing_beside_it() {
        for class in 0..=255 {
            let mut bytes = header();
            set_traffic_class(&mut bytes, class);
            let read = Ipv6Header::parse(&bytes).unwrap();
            assert_eq!((read.version(), read.traffic_class()), (6, class));
            assert_eq!(bytes[1] & 0x0f, 0x0f, "flow label");
            assert_eq!(bytes[2..], header()[2..]);
        }
    }

    #[test]
    fn a_payload_without_extensions_starts_at_once() {
        assert_eq!(
            walk(6, &[]),
            Some(Payload {
                protocol: 6,
                offset: 0,
                routed: false
            })
        );
    }

    #[test]
    fn extension_headers_are_walked_over() {
        let mut bytes = vec![DESTINATION_OPTIONS, 0, 0, 0, 0, 0, 0, 0]; // hop-by-hop, 8 bytes
        bytes.extend([AUTHENTICATION, 1]); // destination options, 16 bytes
        bytes.extend([0; 14]);
        bytes.extend([17, 4]); // authentication header, 24 bytes
        bytes.extend([0; 22]);
        assert_eq!(
            walk(HOP_BY_HOP, &bytes),
            Some(Payload {
                protocol: 17,
                offset: 48,
                routed: false
            })
        );
        assert_eq!(walk(HOP_BY_HOP, &bytes[..47]), None);
    }

    #[test]
    fn a_routing_header_is_remembered() {
        assert_eq!(
            walk(ROUTING, &[6, 0, 0, 1, 0, 0, 0, 0]),
            Some(Payload {
                protocol: 6,
                offset: 8,
                routed: true
            })
        );
    }

    #[test]
    fn v05_nothing_is_read_behind_a_fragment_header() {
        assert_eq!(walk(FRAGMENT, &[6, 0, 0, 0, 0, 0, 0, 1]), None);
    }

    #[test]
    fn the_walk_is_bounded() {
        let bytes: Vec<u8> = [HOP_BY_HOP, 0, 0, 0, 0, 0, 0, 0].repeat(100);
        assert_eq!(walk(HOP_BY_HOP, &bytes), None);
        let mut eight = bytes[..64].to_vec();
        eight[56] = 6;
        assert_eq!(
            walk(HOP_BY_HOP, &eight),
            Some(Payload {
                protocol: 6,
                offset: 64,
                routed: false
            })
        );
    }

    proptest! {
        #[test]
        fn any_bytes_lead_nowhere_outside(next: u8, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(payload) = walk(next, &bytes) {
                prop_assert!(payload.offset <= bytes.len());
            }
        }
    }
}
