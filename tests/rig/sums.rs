//! The Internet checksum, one word at a time (RFC 1071).

use std::net::IpAddr;

/// The sum over the pseudo-header, as the RFCs draw it.
pub fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> u64 {
    sum(&octets(source)) + sum(&octets(destination)) + u64::from(protocol) + len as u64
}

/// All 16-bit words added up, an odd last byte as if a zero followed it.
pub fn sum(bytes: &[u8]) -> u64 {
    bytes
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0)))
        .sum()
}

/// A sum in 16 bits, with the carries added in.
pub fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

pub fn checksum(sum: u64) -> u16 {
    !fold(sum)
}

pub fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    }
}
