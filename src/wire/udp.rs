//! The UDP header (RFC 768).

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Length in bytes.
pub const LEN: usize = 8;
/// Its IANA protocol number.
pub const PROTOCOL: u8 = 17;
/// Where the length stands.
pub const LEN_OFFSET: usize = 4;
/// Where the checksum stands.
pub const CHECKSUM_OFFSET: usize = 6;

/// The header, seen in place.
#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct UdpHeader {
    source_port: U16,
    destination_port: U16,
    len: U16,
    checksum: U16,
}

const _: () = assert!(size_of::<UdpHeader>() == LEN);

impl UdpHeader {
    /// The header at the start of `bytes`; `None` when it is cut short. Its fields are not judged.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<&Self> {
        Self::ref_from_prefix(bytes).ok().map(|(header, _)| header)
    }

    /// The sender's port.
    #[inline]
    pub fn source_port(&self) -> u16 {
        self.source_port.get()
    }

    /// The receiver's port.
    #[inline]
    pub fn destination_port(&self) -> u16 {
        self.destination_port.get()
    }

    /// Header and payload in bytes, as the field says.
    #[inline]
    #[allow(clippy::len_without_is_empty)] // The field counts the header too.
    pub fn len(&self) -> usize {
        usize::from(self.len.get())
    }

    /// The checksum as it stands; 0: none was computed.
    #[inline]
    pub fn checksum(&self) -> u16 {
        self.checksum.get()
    }
}

/// Sets the length field of the header at the start of `bytes`. What is no header is left as it is.
#[inline]
pub fn set_len(bytes: &mut [u8], len: u16) {
    if let Some(header) = bytes.first_chunk_mut::<LEN>() {
        header[LEN_OFFSET..CHECKSUM_OFFSET].copy_from_slice(&len.to_be_bytes());
    }
}

/// Sets the checksum. What is no header is left as it is.
#[inline]
pub fn set_checksum(bytes: &mut [u8], checksum: u16) {
    if let Some(header) = bytes.first_chunk_mut::<LEN>() {
        header[CHECKSUM_OFFSET..].copy_from_slice(&checksum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: [u8; 9] = [0xa1, 0x53, 0x21, 0x18, 0, 9, 0x84, 0x97, 0xee];

    #[test]
    fn fields_are_read_as_an_independent_parser_reads_them() {
        let (ours, theirs) = (
            UdpHeader::parse(&BYTES).unwrap(),
            etherparse::UdpHeaderSlice::from_slice(&BYTES).unwrap(),
        );
        assert_eq!(ours.source_port(), theirs.source_port());
        assert_eq!(ours.destination_port(), theirs.destination_port());
        assert_eq!(ours.len(), usize::from(theirs.length()));
        assert_eq!(ours.checksum(), theirs.checksum());
    }

    #[test]
    fn seven_bytes_are_no_header() {
        assert!(UdpHeader::parse(&BYTES[..7]).is_none());
    }
}
