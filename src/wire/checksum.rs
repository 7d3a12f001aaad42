//! The Internet checksum: one's complement sums of 16-bit words (RFC 1071), and their adaptation to a changed word
//! (RFC 1624).
//!
//! A *sum* here is a `u32` that stands for a one's complement sum; sums of parts may be added (a few thousand, before 32
//! bits are full), as long as each part starts at an even offset. [`finish`] folds and inverts: that is the checksum.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The sum over `bytes`, at most 0xffff. An odd last byte counts as if a zero followed it.
///
/// Adds eight bytes at a time in the machine's own byte order, and swaps only the result (RFC 1071 §2, B and C): 128-bit
/// accumulators keep the carries, at one instruction a word.
#[inline]
pub fn sum(bytes: &[u8]) -> u32 {
    let (blocks, rest) = bytes.as_chunks::<32>();
    let (mut even, mut odd) = (0u128, 0u128);
    for block in blocks {
        let [a, b, c, d] = words(block);
        even += u128::from(a) + u128::from(b);
        odd += u128::from(c) + u128::from(d);
    }
    let mut total = even + odd;
    let (whole, tail) = rest.as_chunks::<8>();
    for word in whole {
        total += u128::from(u64::from_ne_bytes(*word));
    }
    // Each part starts at an even offset, so its weight is 1, like that of every word. The bytes are not gathered in an
    // array: reading what was just written byte by byte would wait for all of the stores.
    let (fours, tail) = tail.as_chunks::<4>();
    let (twos, tail) = tail.as_chunks::<2>();
    for four in fours {
        total += u128::from(u32::from_ne_bytes(*four));
    }
    for two in twos {
        total += u128::from(u16::from_ne_bytes(*two));
    }
    for last in tail {
        total += u128::from(u16::from_ne_bytes([*last, 0]));
    }
    u32::from(u16::from_be(fold_wide(total)))
}

/// Whether the checksum within an IPv4 header is right: the sum over all of it, checksum included, is the one's complement
/// zero that is not 0. That is to say, a multiple of 0xffff, of which words of four bytes in any byte order leave the same
/// remainder as their halves (2^16 is 1).
#[inline]
pub fn holds(header: &[u8; 20]) -> bool {
    let (words, _) = header.as_chunks::<4>();
    let sum: u64 = words
        .iter()
        .map(|word| u64::from(u32::from_ne_bytes(*word)))
        .sum();
    sum != 0 && sum.is_multiple_of(0xffff)
}

/// The checksum over parts with this sum.
#[inline]
pub const fn finish(sum: u32) -> u16 {
    !fold(sum)
}

/// A sum as 16 bits, with the carries added in again.
#[inline]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// Whether a word is what [`fold`] makes of this sum, which may be one of longer words: they leave the same remainder as their
/// parts (2^16 is 1). Only a sum of 0 is folded to 0.
#[inline]
pub const fn is_fold(word: u16, sum: u64) -> bool {
    let difference = sum + !word as u64;
    difference.is_multiple_of(0xffff) && (word != 0) == (sum != 0)
}

/// The checksum after one 16-bit word under it changed (RFC 1624, equation 3). Unlike equation 4 of RFC 1141 it does
/// not turn a checksum of 0x0000 into 0xffff, the other zero.
#[inline]
pub const fn update(checksum: u16, before: u16, after: u16) -> u16 {
    finish(!checksum as u32 + !before as u32 + after as u32)
}

/// As the field of a UDP header: a computed zero is sent as 0xffff, since 0 there means that none was computed
/// (RFC 768).
#[inline]
pub const fn udp_field(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// The sum over the pseudo-header of UDP or TCP over IPv4 (RFC 768, RFC 9293 §3.1); `len` in bytes, of header and data.
#[inline]
pub fn pseudo_ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, len: u16) -> u32 {
    halves(source.to_bits()) + halves(destination.to_bits()) + u32::from(protocol) + u32::from(len)
}

/// The sum over the pseudo-header over IPv6 (RFC 8200 §8.1).
#[inline]
pub fn pseudo_ipv6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, len: u16) -> u32 {
    sum(&source.octets()) + sum(&destination.octets()) + u32::from(protocol) + u32::from(len)
}

#[inline]
fn halves(word: u32) -> u32 {
    (word >> 16) + (word & 0xffff)
}

#[inline]
fn words(block: &[u8; 32]) -> [u64; 4] {
    let (words, _) = block.as_chunks::<8>();
    std::array::from_fn(|n| words.get(n).copied().map_or(0, u64::from_ne_bytes))
}

#[inline]
fn fold_wide(sum: u128) -> u16 {
    // 2^64 and 2^32 are 1 modulo 0xffff: halves may be added as they are.
    let sum = (sum & u128::from(u64::MAX)) + (sum >> 64);
    let sum = (sum as u64 & 0xffff_ffff) + (sum as u64 >> 32) + (sum >> 64) as u64;
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 §4.1, word for word.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
        }
        sum as u16
    }

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(
            sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            0xddf2
        );
        assert_eq!(finish(0xddf2), 0x220d);
    }

    #[test]
    fn the_example_of_rfc_1624_ends_at_zero_and_not_at_the_other_zero() {
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn the_longest_frame_of_the_largest_words_does_not_overflow() {
        let bytes = vec![0xff; 65536];
        assert_eq!(sum(&bytes), 0xffff);
        assert_eq!(sum(&[]), 0);
    }

    #[test]
    fn pseudo_headers_are_summed_as_the_rfcs_draw_them() {
        let (a, b) = (
            Ipv4Addr::new(10, 1, 0, 1),
            Ipv4Addr::new(192, 168, 255, 254),
        );
        assert_eq!(
            fold(pseudo_ipv4(a, b, 17, 1480)),
            naive(&[10, 1, 0, 1, 192, 168, 255, 254, 0, 17, 0x05, 0xc8])
        );
        let a: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let b: Ipv6Addr = "fe80:ffff::ffff:2".parse().unwrap();
        let mut bytes = [a.octets(), b.octets()].concat();
        bytes.extend([0, 0, 0x05, 0xc8, 0, 0, 0, 6]);
        assert_eq!(fold(pseudo_ipv6(a, b, 6, 1480)), naive(&bytes));
    }

    #[test]
    fn a_udp_checksum_is_never_sent_as_zero() {
        assert_eq!(
            (udp_field(0), udp_field(1), udp_field(0xffff)),
            (0xffff, 1, 0xffff)
        );
    }

    proptest! {
        #[test]
        fn a_word_is_the_fold_of_a_sum_of_longer_words(words in prop::collection::vec(prop_oneof![Just(0), Just(u32::MAX), any::<u32>()], 0..4), other: u16) {
            let halves: u32 = words.iter().map(|word| halves(*word)).sum();
            let sum = words.iter().map(|word| u64::from(*word)).sum();
            for word in [fold(halves), !fold(halves), other, 0, 0xffff] {
                prop_assert_eq!(is_fold(word, sum), word == fold(halves));
            }
        }

        #[test]
        fn any_bytes_at_any_alignment_sum_as_the_naive_twin(bytes in prop::collection::vec(any::<u8>(), 0..2000), skip in 0usize..16) {
            let bytes = bytes.get(skip..).unwrap_or(&[]);
            prop_assert_eq!(sum(bytes), u32::from(naive(bytes)));
        }

        #[test]
        fn a_header_holds_with_its_own_checksum_and_with_no_other(mut header: [u8; 20], other: u16) {
            header[0] |= 0x40;
            header[10..12].fill(0);
            let own = finish(u32::from(naive(&header)));
            for checksum in [own, other, !own] {
                header[10..12].copy_from_slice(&checksum.to_be_bytes());
                prop_assert_eq!(holds(&header), naive(&header) == 0xffff);
            }
            header[10..12].copy_from_slice(&own.to_be_bytes());
            prop_assert!(holds(&header));
            prop_assert!(!holds(&[0; 20]));
        }

        #[test]
        fn an_update_gives_what_a_full_computation_gives(mut words in prop::collection::vec(any::<u16>(), 2..40), at in 0usize..40, after: u16) {
            // A sum over a header is never all zero (its first word is not), and only then do the two zeros differ.
            words[0] |= 0x4500;
            let at = 1 + at % (words.len() - 1);
            let total = |words: &[u16]| finish(words.iter().map(|word| u32::from(*word)).sum());
            let (old, before) = (total(&words), words[at]);
            words[at] = after;
            prop_assert_eq!(update(old, before, after), total(&words));
        }
    }
}
