//! The Ethernet header (IEEE 802.3): destination, source, EtherType.

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::MacAddr;

/// Length in bytes, without tags.
pub const LEN: usize = 14;
/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;

/// The header, seen in place.
#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct EthernetHeader {
    destination: [u8; 6],
    source: [u8; 6],
    ether_type: U16,
}

const _: () = assert!(size_of::<EthernetHeader>() == LEN);

impl EthernetHeader {
    /// The header at the start of `bytes` and what follows it; `None` when it is cut short.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(bytes).ok()
    }

    /// Whom the frame is for.
    #[inline]
    pub fn destination(&self) -> MacAddr {
        MacAddr(self.destination)
    }

    /// Who sent it.
    #[inline]
    pub fn source(&self) -> MacAddr {
        MacAddr(self.source)
    }

    /// What follows the header.
    #[inline]
    pub fn ether_type(&self) -> u16 {
        self.ether_type.get()
    }
}

/// Writes a header over the start of `bytes`; a shorter slice is left as it is.
pub fn write(bytes: &mut [u8], destination: MacAddr, source: MacAddr, ether_type: u16) {
    let Some(header) = bytes.first_chunk_mut::<LEN>() else {
        return;
    };
    header[..6].copy_from_slice(&destination.0);
    header[6..12].copy_from_slice(&source.0);
    header[12..].copy_from_slice(&ether_type.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x86, 0xdd, 0x60, 0];

    #[test]
    fn fields_are_read_in_the_order_of_the_wire() {
        let (header, rest) = EthernetHeader::parse(&BYTES).unwrap();
        assert_eq!(header.destination(), MacAddr([1, 2, 3, 4, 5, 6]));
        assert_eq!(header.source(), MacAddr([7, 8, 9, 10, 11, 12]));
        assert_eq!(header.ether_type(), IPV6);
        assert_eq!(rest, [0x60, 0]);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut bytes = [0; LEN];
        write(
            &mut bytes,
            MacAddr([1, 2, 3, 4, 5, 6]),
            MacAddr([7, 8, 9, 10, 11, 12]),
            IPV6,
        );
        assert_eq!(bytes, BYTES[..LEN]);
    }

    #[test]
    fn thirteen_bytes_are_no_header() {
        assert!(EthernetHeader::parse(&BYTES[..13]).is_none());
        let mut short = [0; 13];
        write(&mut short, MacAddr::BROADCAST, MacAddr::BROADCAST, IPV4);
        assert_eq!(short, [0; 13]);
    }
}
