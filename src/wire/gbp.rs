//! The Group Policy extension of the VXLAN header (draft-smith-vxlan-group-policy), and the mark that stands for it in the
//! kernel (`VXLAN_GBP_*`, `net/vxlan.h`).
//!
//! ```text
//!   header, first word   |G|R|R|R|I|R|R|R|R|D|R|R|A|R|R|R|       group policy ID (16)    |
//!   mark of a frame      |R|R|R|R|R|R|R|R|R|D|R|R|A|R|R|R|       group policy ID (16)    |
//! ```
//!
//! D: do not learn. A: the policy has been applied. A mark of 0 is none: then there is no G flag either.

use super::vxlan::VxlanHeader;

/// The G flag: the header carries a group policy ID.
const G_FLAG: u32 = 1 << 31;
/// The bits of a mark that the header carries: D, A, and the ID.
pub const MARK_BITS: u32 = 0x0048_ffff;
/// The bits of the VXLAN header that are no longer reserved on a device with the extension, as the kernel has it: all 24
/// behind the flags, whatever the G flag says; the first byte on the wire is the highest (`VXLAN_GBP_USED_BITS`).
pub const USED_BITS: u64 = 0x80ff_ffff_0000_0000;

/// What this mark adds to the header's first word; 0 when there is nothing to say (`vxlan_build_gbp_hdr`).
#[inline]
pub const fn word_of(mark: u32) -> u32 {
    if mark == 0 {
        return 0;
    }
    G_FLAG | mark & MARK_BITS
}

/// The mark that the header stands for, 0 without a G flag (`vxlan_parse_gbp_hdr`).
#[inline]
pub fn mark_of(header: &VxlanHeader) -> u32 {
    let word = (header.bits() >> 32) as u32;
    if word & G_FLAG == 0 {
        return 0;
    }
    word & MARK_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: [u8; 8]) -> u32 {
        mark_of(VxlanHeader::parse(&bytes).unwrap().0)
    }

    #[test]
    fn a_mark_and_its_word_are_what_the_draft_draws() {
        assert_eq!(word_of(0), 0, "no mark, no extension");
        assert_eq!(word_of(0x1234), 0x8000_1234);
        assert_eq!(word_of(0x0040_0001), 0x8040_0001, "D");
        assert_eq!(word_of(0x0008_0001), 0x8008_0001, "A");
        assert_eq!(word_of(u32::MAX), 0x8048_ffff);
        // The mark is not 0, and none of its bits has a place: the kernel sets the flag all the same.
        assert_eq!(word_of(0x0100_0000), 0x8000_0000);
    }

    #[test]
    fn a_header_without_the_flag_has_no_mark() {
        assert_eq!(read([0x88, 0x48, 0xab, 0xcd, 0, 0, 1, 0]), 0x0048_abcd);
        assert_eq!(read([0x88, 0xff, 0xff, 0xff, 0, 0, 1, 0]), MARK_BITS);
        assert_eq!(read([0x08, 0xff, 0xff, 0xff, 0, 0, 1, 0]), 0);
        assert_eq!(read([0x88, 0, 0, 0, 0, 0, 1, 0]), 0);
    }
}
