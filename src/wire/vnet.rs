//! The header in front of a frame on a TAP: `virtio_net_hdr_v1_hash_tunnel` (Linux `virtio_net.h`, virtio 1.3 §5.1.6).
//!
//! It says what the sender left to be done: a checksum to be finished, a superframe to be cut into segments. The first 10 and
//! 12 bytes are the older layouts, so that a TAP takes a prefix of these 24 (`TUNSETVNETHDRSZ`). Fields are little-endian, as a
//! TAP has them on such a machine (elsewhere: after `TUNSETVNETLE`). Number of buffers and hash are not for a TAP, and 0.

/// Length in bytes, tunnel fields included.
pub const LEN: usize = 24;
/// Length of the oldest layout, which is all that most frames need.
pub const LEN_MIN: usize = 10;

/// Flag: the checksum at `csum_start + csum_offset` holds the pseudo-header's sum, and is to be finished.
pub const NEEDS_CSUM: u8 = 1;
/// Flag: the checksum was verified.
pub const DATA_VALID: u8 = 2;
/// Flag: the outer UDP header of a tunnel has a checksum.
pub const UDP_TUNNEL_CSUM: u8 = 8;

/// Kind of superframe: none.
pub const GSO_NONE: u8 = 0;
/// Kind of superframe: TCP over IPv4.
pub const GSO_TCPV4: u8 = 1;
/// Kind of superframe: TCP over IPv6.
pub const GSO_TCPV6: u8 = 4;
/// Kind of superframe: UDP datagrams, over either.
pub const GSO_UDP_L4: u8 = 5;
/// Added to the kind: within a UDP tunnel over IPv4.
pub const GSO_UDP_TUNNEL_IPV4: u8 = 0x20;
/// Added to the kind: within a UDP tunnel over IPv6.
pub const GSO_UDP_TUNNEL_IPV6: u8 = 0x40;
/// Added to the kind: the first segment alone keeps CWR (RFC 3168 §6.1.2).
pub const GSO_ECN: u8 = 0x80;

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VnetHeader {
    /// [`NEEDS_CSUM`], [`DATA_VALID`], [`UDP_TUNNEL_CSUM`].
    pub flags: u8,
    /// [`GSO_NONE`] or what kind of superframe, and what is added to that.
    pub gso_type: u8,
    /// Length of all headers: no more than a hint.
    pub hdr_len: u16,
    /// Payload of each segment but the last, which may have less.
    pub gso_size: u16,
    /// Where the sum starts, in bytes from the frame's start.
    pub csum_start: u16,
    /// Where its field is, in bytes from there.
    pub csum_offset: u16,
    /// Where the outer transport header of a tunnel starts.
    pub outer_th_offset: u16,
    /// Where the inner network header of a tunnel starts.
    pub inner_nh_offset: u16,
}

impl VnetHeader {
    /// The header at the start of `bytes`; `None` when they are fewer than [`LEN_MIN`]. The tunnel fields are 0 in the older
    /// layouts.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let [
            flags,
            gso_type,
            len0,
            len1,
            size0,
            size1,
            start0,
            start1,
            at0,
            at1,
        ] = *bytes.first_chunk::<LEN_MIN>()?;
        let tunnel = bytes.first_chunk::<LEN>().and_then(|all| all.last_chunk());
        let [outer0, outer1, inner0, inner1] = tunnel.copied().unwrap_or_default();
        Some(Self {
            flags,
            gso_type,
            hdr_len: u16::from_le_bytes([len0, len1]),
            gso_size: u16::from_le_bytes([size0, size1]),
            csum_start: u16::from_le_bytes([start0, start1]),
            csum_offset: u16::from_le_bytes([at0, at1]),
            outer_th_offset: u16::from_le_bytes([outer0, outer1]),
            inner_nh_offset: u16::from_le_bytes([inner0, inner1]),
        })
    }

    /// The header as bytes; a TAP with a shorter one takes the first of them.
    #[inline]
    pub fn bytes(&self) -> [u8; LEN] {
        let [len0, len1] = self.hdr_len.to_le_bytes();
        let [size0, size1] = self.gso_size.to_le_bytes();
        let [start0, start1] = self.csum_start.to_le_bytes();
        let [at0, at1] = self.csum_offset.to_le_bytes();
        let [outer0, outer1] = self.outer_th_offset.to_le_bytes();
        let [inner0, inner1] = self.inner_nh_offset.to_le_bytes();
        let (flags, gso_type) = (self.flags, self.gso_type);
        [
            flags, gso_type, len0, len1, size0, size1, start0, start1, at0, at1, 0, 0, // v1
            0, 0, 0, 0, 0, 0, 0, 0, // hash
            outer0, outer1, inner0, inner1,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TUNNEL: VnetHeader = VnetHeader {
        flags: NEEDS_CSUM | UDP_TUNNEL_CSUM,
        gso_type: GSO_TCPV4 | GSO_UDP_TUNNEL_IPV6,
        hdr_len: 0x0102,
        gso_size: 1448,
        csum_start: 0x0304,
        csum_offset: 16,
        outer_th_offset: 54,
        inner_nh_offset: 0x0506,
    };

    #[test]
    fn fields_stand_where_the_kernel_has_them() {
        let bytes = [
            9, 0x41, 2, 1, 0xa8, 5, 4, 3, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 54, 0, 6, 5,
        ];
        assert_eq!(TUNNEL.bytes(), bytes);
        assert_eq!(VnetHeader::parse(&bytes), Some(TUNNEL));
    }

    #[test]
    fn an_older_layout_has_no_tunnel() {
        let plain = VnetHeader {
            outer_th_offset: 0,
            inner_nh_offset: 0,
            ..TUNNEL
        };
        for len in LEN_MIN..LEN {
            assert_eq!(VnetHeader::parse(&TUNNEL.bytes()[..len]), Some(plain));
        }
        assert_eq!(VnetHeader::parse(&TUNNEL.bytes()[..LEN_MIN - 1]), None);
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_again(mut bytes: [u8; LEN]) {
            bytes[10..20].fill(0);
            prop_assert_eq!(VnetHeader::parse(&bytes).unwrap().bytes(), bytes);
        }
    }
}
