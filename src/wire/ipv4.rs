//! The IPv4 header (RFC 791 §3.1).

use std::net::Ipv4Addr;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum;

/// Length in bytes, without options.
pub const LEN: usize = 20;
/// The "don't fragment" bit in the field of flags and fragment offset.
pub const DF: u16 = 0x4000;
/// "More fragments" and the fragment offset: a whole packet has neither.
pub const FRAGMENT: u16 = 0x3fff;

/// The fixed part of the header, seen in place.
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ipv4Header {
    version_ihl: u8,
    tos: u8,
    total_len: U16,
    identification: U16,
    flags_fragment: U16,
    ttl: u8,
    protocol: u8,
    checksum: U16,
    source: [u8; 4],
    destination: [u8; 4],
}

const _: () = assert!(size_of::<Ipv4Header>() == LEN);

impl Ipv4Header {
    /// The header at the start of `bytes`; `None` when its fixed part is cut short. Its fields are not judged.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<&Self> {
        Self::ref_from_prefix(bytes).ok().map(|(header, _)| header)
    }

    /// 4, unless the bytes are something else.
    #[inline]
    pub fn version(&self) -> u8 {
        self.version_ihl >> 4
    }

    /// Length with options, in bytes: 0 to 60, as the field says.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.version_ihl & 0x0f) * 4
    }

    /// Whether version and length are those of nearly every header: one byte to look at.
    #[inline]
    pub fn is_ipv4_without_options(&self) -> bool {
        self.version_ihl == 0x45
    }

    /// DSCP and ECN.
    #[inline]
    pub fn tos(&self) -> u8 {
        self.tos
    }

    /// Header and payload in bytes, as the field says.
    #[inline]
    pub fn total_len(&self) -> usize {
        usize::from(self.total_len.get())
    }

    /// What tells the fragments of one packet from those of another.
    #[inline]
    pub fn identification(&self) -> u16 {
        self.identification.get()
    }

    /// Flags and fragment offset, as they stand.
    #[inline]
    pub fn flags_fragment(&self) -> u16 {
        self.flags_fragment.get()
    }

    /// Whether the DF bit is set.
    #[inline]
    pub fn df(&self) -> bool {
        self.flags_fragment.get() & DF != 0
    }

    /// Whether this is a fragment: the first, one in the middle or the last.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.flags_fragment.get() & FRAGMENT != 0
    }

    /// Time to live.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.ttl
    }

    /// What follows the header (IANA protocol number).
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// Whether the checksum is right, for a header without options.
    #[inline]
    pub fn checksum_holds(&self) -> bool {
        checksum::holds(zerocopy::transmute_ref!(self))
    }

    /// Who sent it.
    #[inline]
    pub fn source(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.source)
    }

    /// Whom it is for.
    #[inline]
    pub fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.destination)
    }
}

/// Sets DSCP and ECN of the header at the start of `bytes`, and adapts its checksum (RFC 1624). What is no header is left
/// as it is.
#[inline]
pub fn set_tos(bytes: &mut [u8], tos: u8) {
    let Some([version_ihl, old, _, _, _, _, _, _, _, _, high, low, ..]) =
        bytes.first_chunk_mut::<LEN>()
    else {
        return;
    };
    let before = u16::from_be_bytes([*version_ihl, *old]);
    let after = u16::from_be_bytes([*version_ihl, tos]);
    let checksum = checksum::update(u16::from_be_bytes([*high, *low]), before, after);
    *old = tos;
    [*high, *low] = checksum.to_be_bytes();
}

/// Sets the total length of the header at the start of `bytes`, and adapts its checksum. What is no header is left as it is.
#[inline]
pub fn set_total_len(bytes: &mut [u8], len: u16) {
    set_word::<2>(bytes, len);
}

/// Sets the identification, as [`set_total_len`] the length.
#[inline]
pub fn set_identification(bytes: &mut [u8], id: u16) {
    set_word::<4>(bytes, id);
}

#[inline]
fn set_word<const AT: usize>(bytes: &mut [u8], after: u16) {
    let Some(header) = bytes.first_chunk_mut::<LEN>() else {
        return;
    };
    let before = u16::from_be_bytes([header[AT], header[AT + 1]]);
    let sum = u16::from_be_bytes([header[10], header[11]]);
    header[AT..AT + 2].copy_from_slice(&after.to_be_bytes());
    header[10..12].copy_from_slice(&checksum::update(sum, before, after).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::Ipv4HeaderSlice;

    const BYTES: [u8; 20] = [
        0x45, 0xb8, 0x05, 0xdc, 0xab, 0xcd, 0x40, 0, 63, 6, 0x9d, 0x1b, 10, 244, 0, 3, 10, 244, 1,
        9,
    ];

    #[test]
    fn fields_are_read_as_an_independent_parser_reads_them() {
        let (ours, theirs) = (
            Ipv4Header::parse(&BYTES).unwrap(),
            Ipv4HeaderSlice::from_slice(&BYTES).unwrap(),
        );
        assert_eq!((ours.version(), ours.header_len()), (theirs.version(), 20));
        assert_eq!(ours.total_len(), usize::from(theirs.total_len()));
        assert_eq!(
            (ours.ttl(), ours.protocol()),
            (theirs.ttl(), theirs.protocol().0)
        );
        assert_eq!(ours.tos(), theirs.dcp().value() << 2 | theirs.ecn().value());
        assert_eq!(
            (ours.source(), ours.destination()),
            (theirs.source_addr(), theirs.destination_addr())
        );
        assert_eq!((ours.df(), ours.is_fragment()), (true, false));
    }

    #[test]
    fn first_middle_and_last_fragment_are_fragments() {
        for (field, fragment) in [
            (0x2000u16, true),
            (0x2005, true),
            (0x0005, true),
            (0x4000, false),
            (0x8000, false),
        ] {
            let mut bytes = BYTES;
            bytes[6..8].copy_from_slice(&field.to_be_bytes());
            assert_eq!(Ipv4Header::parse(&bytes).unwrap().is_fragment(), fragment);
        }
    }

    #[test]
    fn every_change_of_tos_leaves_the_checksum_that_a_full_computation_gives() {
        for before in 0..=255u8 {
            for after in 0..=255u8 {
                let mut bytes = BYTES;
                bytes[1] = before;
                let right = Ipv4HeaderSlice::from_slice(&bytes)
                    .unwrap()
                    .to_header()
                    .calc_header_checksum();
                bytes[10..12].copy_from_slice(&right.to_be_bytes());
                set_tos(&mut bytes, after);
                let header = Ipv4HeaderSlice::from_slice(&bytes).unwrap().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                assert_eq!(bytes[1], after);
            }
        }
    }

    #[test]
    fn every_length_and_identification_leaves_the_checksum_that_a_full_computation_gives() {
        let mut bytes = BYTES;
        let right = Ipv4HeaderSlice::from_slice(&bytes)
            .unwrap()
            .to_header()
            .calc_header_checksum();
        bytes[10..12].copy_from_slice(&right.to_be_bytes());
        for word in (20..=u16::MAX).step_by(7) {
            set_total_len(&mut bytes, word);
            set_identification(&mut bytes, !word);
            let ours = Ipv4Header::parse(&bytes).unwrap();
            assert_eq!(
                (
                    ours.total_len(),
                    ours.identification(),
                    ours.flags_fragment()
                ),
                (usize::from(word), !word, DF)
            );
            assert!(checksum::holds(&bytes));
        }
    }

    #[test]
    fn nineteen_bytes_are_no_header() {
        assert!(Ipv4Header::parse(&BYTES[..19]).is_none());
        let mut short = BYTES;
        set_tos(&mut short[..19], 3);
        set_total_len(&mut short[..19], 3);
        set_identification(&mut short[..19], 3);
        assert_eq!(short, BYTES);
    }
}
