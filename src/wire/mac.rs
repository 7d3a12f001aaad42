//! Ethernet addresses (IEEE 802).

use std::fmt;
use std::net::IpAddr;

/// A 48-bit Ethernet address, in the order of the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The all-zero address: in a VXLAN FDB, the entry for everything that has no entry of its own.
    pub const ZERO: Self = Self([0; 6]);
    /// The broadcast address.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether the group bit is set (multicast and broadcast).
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether all bits are zero.
    #[inline]
    pub const fn is_zero(self) -> bool {
        self.to_u64() == 0
    }

    /// The Ethernet group that a multicast IP address stands for (RFC 1112 §6.4, RFC 2464 §7); none for other addresses.
    pub const fn of_group(group: IpAddr) -> Option<Self> {
        if !group.is_multicast() {
            return None;
        }
        Some(match group {
            IpAddr::V4(group) => {
                // 23 of the 28 bits fit: several groups share an address.
                let [_, b, c, d] = group.octets();
                Self([0x01, 0x00, 0x5e, b & 0x7f, c, d])
            }
            IpAddr::V6(group) => {
                let [.., a, b, c, d] = group.octets();
                Self([0x33, 0x33, a, b, c, d])
            }
        })
    }

    /// The address as a number, first byte most significant: the key of the FDB.
    #[inline]
    pub const fn to_u64(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        // Two loads, as the address lies in a frame; of one number made of six bytes the compiler makes twenty instructions.
        let (high, low) = (u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f]));
        (high as u64) << 16 | low as u64
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ip_group_has_an_ethernet_group_and_nobody_else_has() {
        let of = |group: &str| MacAddr::of_group(group.parse().unwrap());
        let mac = |bytes| Some(MacAddr(bytes));
        assert_eq!(of("239.1.1.1"), mac([0x01, 0x00, 0x5e, 1, 1, 1]));
        assert_eq!(of("224.255.0.9"), mac([0x01, 0x00, 0x5e, 0x7f, 0, 9]));
        assert_eq!(of("ff05::1"), mac([0x33, 0x33, 0, 0, 0, 1]));
        assert_eq!(
            of("ff0e::89ab:cdef"),
            mac([0x33, 0x33, 0x89, 0xab, 0xcd, 0xef])
        );
        for other in ["10.0.0.1", "255.255.255.255", "fe80::1", "::ffff:239.1.1.1"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn prints_as_iproute2_does() {
        assert_eq!(
            MacAddr([0x0e, 0x24, 0x40, 0, 1, 4]).to_string(),
            "0e:24:40:00:01:04"
        );
    }

    #[test]
    fn group_bit_and_zero() {
        assert!(MacAddr([0x33, 0x33, 0, 0, 0, 1]).is_multicast());
        assert!(MacAddr::BROADCAST.is_multicast());
        assert!(!MacAddr([2, 0, 0, 0, 0, 1]).is_multicast());
        assert!(MacAddr::ZERO.is_zero());
        assert!(!MacAddr([0, 0, 0, 0, 0, 1]).is_zero());
    }

    #[test]
    fn the_number_keeps_the_order_of_the_wire() {
        assert_eq!(MacAddr([1, 2, 3, 4, 5, 6]).to_u64(), 0x0102_0304_0506);
    }
}
