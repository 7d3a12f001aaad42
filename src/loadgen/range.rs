//! Ranges, as people write them: `198.18.0.1`, `198.18.0.1-198.18.0.99`, `198.18.0.0/24`, `02:00:00:00:00:01-02:00:00:00:0f:ff`,
//! `1-4000`. A flow takes its values from them by its number, round and round.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A kind of value that ranges count in.
pub trait Ordinal: Copy + PartialEq {
    /// Its place among all of its kind.
    fn to_number(self) -> u128;
    /// The value at a place of the same kind as `self`.
    fn at(self, number: u128) -> Self;
    /// Reads one value; none when it is no such value.
    fn read(text: &str) -> Option<Self>;
    /// Writes one value.
    fn write(self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
    /// First and last value of `text` as a prefix (`address/length`), where the kind has prefixes.
    fn prefix(_text: &str) -> Option<(Self, Self)> {
        None
    }
    /// Whether both may stand in one range.
    fn alike(self, _other: Self) -> bool {
        true
    }
}

/// Values from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range<T> {
    first: T,
    last: T,
}

/// A range that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "range '{0}': use one value, FIRST-LAST with FIRST not above LAST, or for addresses also ADDRESS/PREFIX"
)]
pub struct RangeError(String);

impl<T: Ordinal> Range<T> {
    /// One value alone.
    pub const fn one(value: T) -> Self {
        Self {
            first: value,
            last: value,
        }
    }

    /// How many values; saturates.
    pub fn len(&self) -> u64 {
        let span = self.last.to_number() - self.first.to_number();
        u64::try_from(span).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Never: a range has at least one value.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// The value that a flow takes: the `number`-th, from the start again after the last.
    pub fn nth(&self, number: u64) -> T {
        self.first
            .at(self.first.to_number() + u128::from(number % self.len()))
    }

    /// The lowest value.
    pub const fn first(&self) -> T {
        self.first
    }

    /// The highest value.
    pub const fn last(&self) -> T {
        self.last
    }
}

impl<T: Ordinal> FromStr for Range<T> {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let text = text.trim();
        let ends = match text.split_once('-') {
            Some((first, last)) => T::read(first.trim()).zip(T::read(last.trim())),
            None if text.contains('/') => T::prefix(text),
            None => T::read(text).map(|value| (value, value)),
        };
        ends.filter(|(first, last)| first.alike(*last) && first.to_number() <= last.to_number())
            .map(|(first, last)| Self { first, last })
            .ok_or_else(|| RangeError(text.to_owned()))
    }
}

impl<T: Ordinal> fmt::Display for Range<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.write(f)?;
        if self.first != self.last {
            f.write_str("-")?;
            self.last.write(f)?;
        }
        Ok(())
    }
}

impl Ordinal for u16 {
    fn to_number(self) -> u128 {
        self.into()
    }

    fn at(self, number: u128) -> Self {
        number as Self
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn write(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A VXLAN network identifier of 24 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vni(pub u32);

impl Ordinal for Vni {
    fn to_number(self) -> u128 {
        self.0.into()
    }

    fn at(self, number: u128) -> Self {
        Self(number as u32)
    }

    fn read(text: &str) -> Option<Self> {
        let number = text.parse().ok().filter(|number| *number < 1 << 24);
        number.map(Self)
    }

    fn write(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl Ordinal for Mac {
    fn to_number(self) -> u128 {
        self.0
            .iter()
            .fold(0, |number, byte| number << 8 | u128::from(*byte))
    }

    fn at(self, number: u128) -> Self {
        let [_, _, rest @ ..] = (number as u64).to_be_bytes();
        Self(rest)
    }

    fn read(text: &str) -> Option<Self> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| (1..=2).contains(&part.len()))?;
            // `from_str_radix` would take a sign.
            let hex = part.bytes().all(|digit| digit.is_ascii_hexdigit());
            *byte = u8::from_str_radix(part, 16).ok().filter(|_| hex)?;
        }
        parts.next().is_none().then_some(Self(bytes))
    }

    fn write(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Ordinal for IpAddr {
    fn to_number(self) -> u128 {
        match self {
            Self::V4(addr) => addr.to_bits().into(),
            Self::V6(addr) => addr.to_bits(),
        }
    }

    fn at(self, number: u128) -> Self {
        match self {
            Self::V4(_) => Ipv4Addr::from_bits(number as u32).into(),
            Self::V6(_) => Ipv6Addr::from_bits(number).into(),
        }
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn write(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }

    /// Without the network's own address and, of IPv4, the broadcast address, where the prefix has them.
    fn prefix(text: &str) -> Option<(Self, Self)> {
        let (addr, len) = text.split_once('/')?;
        let (base, end) = network(addr.parse().ok()?, len.parse().ok()?)?;
        let (skip_first, skip_last) = match (base.is_ipv4(), end.to_number() - base.to_number()) {
            (_, 0 | 1) => (0, 0),
            (true, _) => (1, 1),
            (false, _) => (1, 0),
        };
        Some((
            base.at(base.to_number() + skip_first),
            end.at(end.to_number() - skip_last),
        ))
    }

    fn alike(self, other: Self) -> bool {
        self.is_ipv4() == other.is_ipv4()
    }
}

/// First and last address of a network, those that no host has included; none when the prefix is too long.
pub fn network(addr: IpAddr, prefix_len: u8) -> Option<(IpAddr, IpAddr)> {
    let bits: u32 = if addr.is_ipv4() { 32 } else { 128 };
    let host_bits = bits.checked_sub(prefix_len.into())?;
    let span = 1u128
        .checked_shl(host_bits)
        .map_or(u128::MAX, |size| size - 1);
    let base = addr.to_number() & !span;
    Some((addr.at(base), addr.at(base + span)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(text: &str) -> Range<IpAddr> {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_count_through_octets_and_start_again() {
        let range = addrs("198.18.0.254-198.18.1.1");
        assert_eq!(range.len(), 4);
        let values: Vec<_> = (0..5).map(|n| range.nth(n).to_string()).collect();
        let expected = [
            "198.18.0.254",
            "198.18.0.255",
            "198.18.1.0",
            "198.18.1.1",
            "198.18.0.254",
        ];
        assert_eq!(values, expected);
        assert_eq!(addrs("2001:2::ffff-2001:2::1:0").len(), 2);
    }

    #[test]
    fn a_prefix_is_its_hosts() {
        assert_eq!(
            addrs("198.18.0.0/24").to_string(),
            "198.18.0.1-198.18.0.254"
        );
        assert_eq!(addrs("198.18.0.7/32").to_string(), "198.18.0.7");
        assert_eq!(addrs("198.18.0.6/31").len(), 2);
        assert_eq!(addrs("2001:2::/120").to_string(), "2001:2::1-2001:2::ff");
        assert_eq!(addrs("::/0").len(), u64::MAX);
    }

    #[test]
    fn stations_and_numbers_are_ranges_too() {
        let macs: Range<Mac> = "02:00:00:00:00:ff-02:00:00:00:01:01".parse().unwrap();
        assert_eq!(macs.len(), 3);
        assert_eq!(macs.nth(1), Mac([2, 0, 0, 0, 1, 0]));
        assert_eq!(macs.to_string(), "02:00:00:00:00:ff-02:00:00:00:01:01");
        let vnis: Range<Vni> = "1-4000".parse().unwrap();
        assert_eq!((vnis.len(), vnis.nth(4000)), (4000, Vni(1)));
        let ports: Range<u16> = "0-65535".parse().unwrap();
        assert_eq!((ports.len(), ports.nth(65_535)), (65_536, 65_535));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in [
            "",
            "x",
            "198.18.0.2-198.18.0.1",
            "198.18.0.1-2001:2::1",
            "198.18.0.0/33",
            "198.18.0.0/x",
            "1-2-3",
        ] {
            assert!(text.parse::<Range<IpAddr>>().is_err(), "{text:?}");
        }
        for text in [
            "02:00:00:00:00",
            "02:00:00:00:00:00:00",
            "02:00:00:00:00:0g",
            "002:00:00:00:00:00",
            "02:00:00:00:00:+1",
            "1/2",
        ] {
            assert!(text.parse::<Range<Mac>>().is_err(), "{text:?}");
        }
        assert!("16777216".parse::<Range<Vni>>().is_err());
        assert!("65536".parse::<Range<u16>>().is_err());
    }
}
