//! The TCP header (RFC 9293 §3.1).

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Length in bytes, without options.
pub const LEN: usize = 20;
/// Length with the most options that there may be.
pub const LEN_MAX: usize = 60;
/// Its IANA protocol number.
pub const PROTOCOL: u8 = 6;
/// Where the sequence number stands.
pub const SEQUENCE_OFFSET: usize = 4;
/// Where the flags stand.
pub const FLAGS_OFFSET: usize = 13;
/// Where the checksum stands.
pub const CHECKSUM_OFFSET: usize = 16;

/// Flag: no more data from the sender.
pub const FIN: u8 = 0x01;
/// Flag: synchronise sequence numbers.
pub const SYN: u8 = 0x02;
/// Flag: reset the connection.
pub const RST: u8 = 0x04;
/// Flag: push.
pub const PSH: u8 = 0x08;
/// Flag: the acknowledgement number counts.
pub const ACK: u8 = 0x10;
/// Flag: the urgent pointer counts.
pub const URG: u8 = 0x20;
/// Flag: congestion was met (RFC 3168 §6.1).
pub const ECE: u8 = 0x40;
/// Flag: the congestion window was reduced (RFC 3168 §6.1).
pub const CWR: u8 = 0x80;

/// The fixed part of the header, seen in place.
#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct TcpHeader {
    source_port: U16,
    destination_port: U16,
    sequence: U32,
    acknowledgement: U32,
    offset: u8,
    flags: u8,
    window: U16,
    checksum: U16,
    urgent: U16,
}

const _: () = assert!(size_of::<TcpHeader>() == LEN);

impl TcpHeader {
    /// The header at the start of `bytes`; `None` when its fixed part is cut short. Its fields are not judged.
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

    /// Number of the first byte of payload.
    #[inline]
    pub fn sequence(&self) -> u32 {
        self.sequence.get()
    }

    /// Length with options, in bytes: 0 to 60, as the field says.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.offset >> 4) * 4
    }

    /// The eight flags [`FIN`] to [`CWR`].
    #[inline]
    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// The checksum as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        self.checksum.get()
    }
}

/// Sets the sequence number of the header at the start of `bytes`. What is no header is left as it is.
#[inline]
pub fn set_sequence(bytes: &mut [u8], sequence: u32) {
    if let Some(header) = bytes.first_chunk_mut::<LEN>() {
        header[SEQUENCE_OFFSET..SEQUENCE_OFFSET + 4].copy_from_slice(&sequence.to_be_bytes());
    }
}

/// Sets the eight flags. What is no header is left as it is.
#[inline]
pub fn set_flags(bytes: &mut [u8], flags: u8) {
    if let Some(header) = bytes.first_chunk_mut::<LEN>() {
        header[FLAGS_OFFSET] = flags;
    }
}

/// Sets the checksum of the header at the start of `bytes`. What is no header is left as it is.
#[inline]
pub fn set_checksum(bytes: &mut [u8], checksum: u16) {
    if let Some(header) = bytes.first_chunk_mut::<LEN>() {
        header[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::TcpHeaderSlice;

    const BYTES: [u8; 24] = [
        0xd4, 0x31, 0x00, 0x50, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x60, 0x19, 0xfa,
        0xf0, 0xbe, 0xef, 0, 0, 1, 1, 1, 0,
    ];

    #[test]
    fn fields_are_read_as_an_independent_parser_reads_them() {
        let (ours, theirs) = (
            TcpHeader::parse(&BYTES).unwrap(),
            TcpHeaderSlice::from_slice(&BYTES).unwrap(),
        );
        assert_eq!(
            (ours.source_port(), ours.destination_port()),
            (theirs.source_port(), theirs.destination_port())
        );
        assert_eq!(ours.sequence(), theirs.sequence_number());
        assert_eq!(ours.header_len(), usize::from(theirs.data_offset()) * 4);
        assert_eq!(ours.checksum(), theirs.checksum());
    }

    #[test]
    fn each_flag_is_where_an_independent_parser_sees_it() {
        for bit in 0..8 {
            let mut bytes = BYTES;
            bytes[FLAGS_OFFSET] = 1 << bit;
            let theirs = TcpHeaderSlice::from_slice(&bytes).unwrap();
            let seen = [
                (FIN, theirs.fin()),
                (SYN, theirs.syn()),
                (RST, theirs.rst()),
                (PSH, theirs.psh()),
                (ACK, theirs.ack()),
                (URG, theirs.urg()),
                (ECE, theirs.ece()),
                (CWR, theirs.cwr()),
            ];
            let flags = TcpHeader::parse(&bytes).unwrap().flags();
            for (flag, set) in seen {
                assert_eq!(flags & flag != 0, set, "bit {bit}");
            }
        }
    }

    #[test]
    fn fields_are_set_where_an_independent_parser_finds_them() {
        let mut bytes = BYTES;
        set_sequence(&mut bytes, 0xfeed_f00d);
        set_flags(&mut bytes, ECE | ACK);
        set_checksum(&mut bytes, 0xcafe);
        let theirs = TcpHeaderSlice::from_slice(&bytes).unwrap().to_header();
        assert_eq!(
            (theirs.sequence_number, theirs.checksum),
            (0xfeed_f00d, 0xcafe)
        );
        assert!(theirs.ece && theirs.ack && !theirs.fin && !theirs.psh);
    }

    #[test]
    fn nineteen_bytes_are_no_header() {
        let mut short = BYTES;
        set_sequence(&mut short[..19], 3);
        set_flags(&mut short[..19], 3);
        set_checksum(&mut short[..19], 3);
        assert_eq!(short, BYTES);
        assert!(TcpHeader::parse(&BYTES[..19]).is_none());
    }
}
