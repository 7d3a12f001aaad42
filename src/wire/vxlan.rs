//! The VXLAN header (RFC 7348 §5).
//!
//! ```text
//!   |R|R|R|R|I|R|R|R|            reserved (24 bits)             |
//!   |           VXLAN network identifier (24)   |  reserved (8) |
//! ```

use zerocopy::byteorder::network_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::Vni;

/// Length in bytes.
pub const LEN: usize = 8;
/// The I flag: the header carries a valid VNI. Every other bit of the first word is reserved.
const I_FLAG: u32 = 1 << 27;
/// The bits of the header that RFC 7348 gives a meaning, I flag and VNI; the first byte on the wire is the highest.
pub const USED_BITS: u64 = 0x0800_0000_ffff_ff00;

/// The header, seen in place.
#[derive(Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct VxlanHeader {
    flags: U32,
    vni: U32,
}

const _: () = assert!(size_of::<VxlanHeader>() == LEN);

impl VxlanHeader {
    /// The header at the start of `bytes` and what follows it; `None` when it is cut short. Its bits are not judged.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(bytes).ok()
    }

    /// Whether the I flag is set. Without it the VNI means nothing.
    #[inline]
    pub fn i_flag(&self) -> bool {
        self.flags.get() & I_FLAG != 0
    }

    /// All 64 bits, the first byte on the wire the highest.
    #[inline]
    pub fn bits(&self) -> u64 {
        u64::from(self.flags.get()) << 32 | u64::from(self.vni.get())
    }

    /// The identifier, without the reserved byte behind it.
    #[inline]
    pub fn vni(&self) -> Vni {
        let [a, b, c, _] = self.vni.get().to_be_bytes();
        Vni::from_wire([a, b, c])
    }
}

/// The header that carries this identifier.
pub const fn header(vni: Vni) -> [u8; LEN] {
    let [a, b, c] = vni.to_wire();
    [0x08, 0, 0, 0, a, b, c, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v01_what_is_written_has_the_i_flag_and_no_other_bit() {
        let bytes = header(Vni::new(0x12_3456).unwrap());
        assert_eq!(bytes, [0x08, 0, 0, 0, 0x12, 0x34, 0x56, 0]);
        let (read, _) = VxlanHeader::parse(&bytes).unwrap();
        assert!(read.i_flag() && read.bits() & !USED_BITS == 0);
    }

    #[test]
    fn v02_each_of_the_39_reserved_bits_is_seen_and_no_other() {
        let mut reserved = 0;
        for bit in 0..64 {
            let bytes = (1u64 << 63 >> bit).to_be_bytes();
            let (read, _) = VxlanHeader::parse(&bytes).unwrap();
            assert_eq!(read.i_flag(), bit == 4);
            assert_eq!(read.bits(), 1 << 63 >> bit);
            let of_the_vni = (32..56).contains(&bit);
            let is_reserved = read.bits() & !USED_BITS != 0;
            assert_eq!(is_reserved, bit != 4 && !of_the_vni, "bit {bit}");
            reserved += u32::from(is_reserved);
        }
        assert_eq!(reserved, 39);
    }

    #[test]
    fn v03_the_reserved_byte_is_not_mixed_into_the_vni() {
        for vni in [0u32, 1, 0x80_0000, 0xff_ffff] {
            let mut bytes = header(Vni::new(vni).unwrap());
            bytes[7] = 0xff;
            assert_eq!(VxlanHeader::parse(&bytes).unwrap().0.vni().get(), vni);
        }
    }

    #[test]
    fn seven_bytes_are_no_header() {
        assert!(VxlanHeader::parse(&[8, 0, 0, 0, 0, 0, 1]).is_none());
    }
}
