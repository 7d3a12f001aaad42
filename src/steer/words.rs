//! Words of mapped arrays that hold several fields, one behind the other in memory.

use crate::wire::MacAddr;

/// Two fields of 32 bits.
pub fn pair(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

/// The two of a word.
pub fn unpair(word: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    [[a, b, c, d], [e, f, g, h]].map(u32::from_ne_bytes)
}

/// Two fields of 16 bits, with the most that they hold in place of what is more.
pub fn lengths(first: u32, second: u32) -> u32 {
    let bytes = |max| u16::try_from(max).unwrap_or(u16::MAX).to_ne_bytes();
    let ([a, b], [c, d]) = (bytes(first), bytes(second));
    u32::from_ne_bytes([a, b, c, d])
}

/// An Ethernet address and two bytes.
pub fn mac_word(MacAddr([a, b, c, d, e, f]): MacAddr, g: u8, h: u8) -> u64 {
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}
