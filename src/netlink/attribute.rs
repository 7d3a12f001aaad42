//! Attributes (`linux/netlink.h`, `struct nlattr`): read with checks, written with padding.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::MacAddr;

/// Length of `struct nlattr`, in bytes.
const HEADER_LEN: usize = 4;
/// `NLA_TYPE_MASK`: the two bits above mean "nested" and "network byte order".
const TYPE_MASK: u16 = 0x3fff;

/// Number and value of each attribute, in order. Ends at the first whose length cannot be right.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let [a, b, c, d] = *rest.first_chunk::<HEADER_LEN>()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(HEADER_LEN..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & TYPE_MASK, value))
    })
}

/// The first byte.
pub fn u8_from(value: &[u8]) -> Option<u8> {
    value.first().copied()
}

/// Two bytes in host byte order.
pub fn u16_from(value: &[u8]) -> Option<u16> {
    value.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

/// Two bytes in network byte order.
pub fn u16_be_from(value: &[u8]) -> Option<u16> {
    value.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// Four bytes in host byte order.
pub fn u32_from(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// True for a flag (an attribute without a value) and for a value that is not all zero.
pub fn flag_or_u8(value: &[u8]) -> bool {
    value.is_empty() || value.iter().any(|byte| *byte != 0)
}

/// An address of 4 or 16 bytes.
pub fn ip_from(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => value
            .first_chunk::<4>()
            .map(|bytes| Ipv4Addr::from(*bytes).into()),
        16 => value
            .first_chunk::<16>()
            .map(|bytes| Ipv6Addr::from(*bytes).into()),
        _ => None,
    }
}

/// An Ethernet address: exactly 6 bytes (other links have other lengths).
pub fn mac_from(value: &[u8]) -> Option<MacAddr> {
    <[u8; 6]>::try_from(value).ok().map(MacAddr)
}

/// Text up to its terminating zero byte.
pub fn text_from(value: &[u8]) -> String {
    let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// The body of a request: a fixed header, then attributes.
#[derive(Debug, Clone, Default)]
pub struct RequestBody(Vec<u8>);

impl RequestBody {
    /// Starts with a fixed header such as `struct ndmsg`, already padded to 4 bytes.
    pub fn new(header: &[u8]) -> Self {
        Self(header.to_vec())
    }

    /// Appends an attribute.
    #[must_use]
    pub fn with(mut self, number: u16, value: &[u8]) -> Self {
        // Longer than 64 KiB never happens here: values are addresses and numbers.
        let length = u16::try_from(HEADER_LEN + value.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(number.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Appends an IP address in its natural length.
    #[must_use]
    pub fn with_ip(self, number: u16, addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(addr) => self.with(number, &addr.octets()),
            IpAddr::V6(addr) => self.with(number, &addr.octets()),
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// `AF_INET` or `AF_INET6` (`linux/socket.h`).
pub(super) fn family_of(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// `AF_INET`.
pub(super) const AF_INET: u8 = 2;
/// `AF_INET6`.
pub(super) const AF_INET6: u8 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let body = RequestBody::default()
            .with(1, &[9])
            .with_ip(2, "10.0.0.1".parse().unwrap());
        assert_eq!(
            body.as_bytes(),
            [5, 0, 1, 0, 9, 0, 0, 0, 8, 0, 2, 0, 10, 0, 0, 1]
        );
        let read: Vec<_> = attributes(body.as_bytes()).collect();
        assert_eq!(read, [(1, &[9u8][..]), (2, &[10, 0, 0, 1][..])]);
    }

    #[test]
    fn nested_and_byte_order_bits_are_no_part_of_the_number() {
        let read: Vec<_> = attributes(&[4, 0, 18, 0x80, 4, 0, 15, 0x40]).collect();
        assert_eq!(read, [(18, &[][..]), (15, &[][..])]);
    }

    #[test]
    fn lengths_that_lie_end_the_walk() {
        assert_eq!(attributes(&[3, 0, 1, 0, 0, 0, 0, 0]).count(), 0);
        assert_eq!(attributes(&[9, 0, 1, 0, 0, 0, 0, 0]).count(), 0);
        assert_eq!(attributes(&[8, 0, 1]).count(), 0);
        assert_eq!(
            attributes(&[5, 0, 1, 0, 7]).count(),
            1,
            "padding may be missing at the end"
        );
    }

    #[test]
    fn short_values_are_absent() {
        assert_eq!(u32_from(&[1, 2, 3]), None);
        assert_eq!((u16_from(&[1]), u16_be_from(&[1])), (None, None));
        assert_eq!(u8_from(&[]), None);
        assert_eq!(ip_from(&[1, 2, 3]), None);
        assert_eq!(mac_from(&[0; 20]), None);
    }
}
