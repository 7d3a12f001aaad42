//! The VXLAN network identifier (RFC 7348 §5): 24 bits.

use std::fmt;

/// A VXLAN network identifier; a value of this type is always below 2^24.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vni(u32);

/// The number does not fit 24 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("VNI {0} does not fit 24 bits (RFC 7348 §5): use 0 to 16777215")]
pub struct InvalidVni(pub u32);

impl Vni {
    /// The largest identifier.
    pub const MAX: u32 = (1 << 24) - 1;

    /// Judges a number.
    ///
    /// # Errors
    /// When it needs more than 24 bits.
    pub const fn new(number: u32) -> Result<Self, InvalidVni> {
        if number > Self::MAX {
            Err(InvalidVni(number))
        } else {
            Ok(Self(number))
        }
    }

    /// The identifier in the three bytes of the VXLAN header.
    #[inline]
    pub const fn from_wire(bytes: [u8; 3]) -> Self {
        let [a, b, c] = bytes;
        Self(u32::from_be_bytes([0, a, b, c]))
    }

    /// The three bytes of the VXLAN header.
    #[inline]
    pub const fn to_wire(self) -> [u8; 3] {
        let [_, a, b, c] = self.0.to_be_bytes();
        [a, b, c]
    }

    /// The identifier as a number.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vni {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v03_all_24_bits_and_no_more() {
        for number in [0, 1, 0x80_0000, 0xff_ffff] {
            let vni = Vni::new(number).unwrap();
            assert_eq!(Vni::from_wire(vni.to_wire()).get(), number);
        }
        assert_eq!(Vni::new(1 << 24), Err(InvalidVni(1 << 24)));
    }
}
