//! The signature that every generated frame carries, so that a receiver can tell whose it is, which one, whether it is
//! whole, and when it was meant to leave.
//!
//! It is the last 16 bytes of the **inner IP packet**, not of the frame: behind a short packet there may be Ethernet padding,
//! and at the end of the inner packet it survives encapsulation, decapsulation and routing.
//!
//! ```text
//!    0      2        4            8       10                  16
//!   +------+--------+------------+-------+-------------------+
//!   |magic | stream | sequence   | check | intended time, ns |     all big endian
//!   +------+--------+------------+-------+-------------------+
//! ```
//!
//! `check` is the ones' complement sum (RFC 1071, not inverted) of what nobody may change on the way: inner Ethernet
//! destination (that of arrival, where a router is to change it), inner IP addresses, the flow's ports, and all that follows
//! the transport header, the check itself taken as 0.
//! TTL, DSCP, ECN, checksums and everything outside may change, and do.

/// Bytes of a signature.
pub const LEN: usize = 16;

/// Marks a signature.
pub const MAGIC: u16 = 0x5647;

/// Times count modulo 2^48 nanoseconds, 78 hours.
pub const TIME_MASK: u64 = (1 << 48) - 1;

/// What a signature says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// The stream's number in its profile.
    pub stream: u16,
    /// Counts the frames of the stream, modulo 2^32.
    pub sequence: u32,
    /// See the module.
    pub check: u16,
    /// When the frame was meant to leave: `CLOCK_MONOTONIC` in nanoseconds, modulo 2^48.
    pub intended_ns: u64,
}

impl Signature {
    /// Reads the last bytes of an inner IP packet; none without the magic.
    pub fn parse(bytes: &[u8; LEN]) -> Option<Self> {
        let [m0, m1, s0, s1, q0, q1, q2, q3, c0, c1, time @ ..] = *bytes;
        let [t0, t1, t2, t3, t4, t5] = time;
        (u16::from_be_bytes([m0, m1]) == MAGIC).then(|| Self {
            stream: u16::from_be_bytes([s0, s1]),
            sequence: u32::from_be_bytes([q0, q1, q2, q3]),
            check: u16::from_be_bytes([c0, c1]),
            intended_ns: u64::from_be_bytes([0, 0, t0, t1, t2, t3, t4, t5]),
        })
    }

    /// The bytes on the wire.
    pub fn to_bytes(self) -> [u8; LEN] {
        let [m0, m1] = MAGIC.to_be_bytes();
        let [s0, s1] = self.stream.to_be_bytes();
        let [q0, q1, q2, q3] = self.sequence.to_be_bytes();
        let [c0, c1] = self.check.to_be_bytes();
        let [_, _, t0, t1, t2, t3, t4, t5] = self.intended_ns.to_be_bytes();
        [
            m0, m1, s0, s1, q0, q1, q2, q3, c0, c1, t0, t1, t2, t3, t4, t5,
        ]
    }
}

/// The check over the parts in order: inner destination address, inner IP addresses, ports, payload with the check as 0.
/// Each part but the last has an even number of bytes.
pub fn check(parts: &[&[u8]]) -> u16 {
    let mut sum: u64 = 0;
    for part in parts {
        let (words, rest) = part.as_chunks::<2>();
        sum += words
            .iter()
            .map(|word| u64::from(u16::from_be_bytes(*word)))
            .sum::<u64>();
        if let [last] = rest {
            sum += u64::from(*last) << 8;
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The next sequence number in full, from its low 32 bits and the highest seen so far: the nearest to that.
pub fn extend(highest: u64, low: u32) -> u64 {
    let ahead = low.wrapping_sub(highest as u32) as i32;
    highest
        .checked_add_signed(i64::from(ahead))
        .unwrap_or(u64::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stands_on_the_wire_as_documented() {
        let signature = Signature {
            stream: 3,
            sequence: 0x0102_0304,
            check: 0xbeef,
            intended_ns: 0x0000_a1a2_a3a4_a5a6,
        };
        let bytes = [
            0x56, 0x47, 0, 3, 1, 2, 3, 4, 0xbe, 0xef, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6,
        ];
        assert_eq!(signature.to_bytes(), bytes);
        assert_eq!(Signature::parse(&bytes), Some(signature));
        assert_eq!(Signature::parse(&[0; LEN]), None);
    }

    #[test]
    fn the_check_is_a_ones_complement_sum() {
        assert_eq!(check(&[&[0xff, 0xff], &[0x00, 0x02]]), 2);
        assert_eq!(check(&[&[0x12, 0x34], &[0x56]]), 0x1234 + 0x5600);
    }

    #[test]
    fn sequences_run_on_beyond_32_bits() {
        assert_eq!(extend(0, 5), 5);
        assert_eq!(extend(0xffff_fffe, 1), 0x1_0000_0001);
        assert_eq!(
            extend(0x1_0000_0001, 0xffff_ffff),
            0xffff_ffff,
            "a late one"
        );
        assert_eq!(extend(2, 0xffff_ffff), 0xffff_ffff, "never below zero");
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_always_seen(mut payload in prop::collection::vec(any::<u8>(), 2..200), at: prop::sample::Index, bit in 0u8..8) {
            let before = check(&[&payload]);
            let at = at.index(payload.len());
            payload[at] ^= 1 << bit;
            prop_assert_ne!(check(&[&payload]), before);
        }
    }
}
