//! What a frame may ask of the device that sends it: AF_XDP's TX metadata (`struct xsk_tx_metadata` in `if_xdp.h`; Linux's
//! `Documentation/networking/xsk-tx-metadata.rst`).
//!
//! ```text
//!   chunk start                       Frame::addr - 24                                          Frame::addr
//!   |  room, of which nobody reads     | flags u64 | start u16 | field u16 | 0 u32 | 0 u64 |     | frame ...
//! ```
//!
//! The one thing asked for is the UDP checksum of the outermost headers. In copy mode the kernel treats it like one of its
//! own sockets: left to the device where that has the offload, else finished by the kernel, so that the frame is right
//! whatever becomes of the device. With zero-copy the driver does it, and drivers that parse the frame themselves ignore
//! start and field (mlx5): so nothing inside a tunnel is ever asked for.
//!
//! Memory has to be registered with such requests in mind (`XDP_UMEM_TX_METADATA_LEN`, Linux 6.11). From then on the kernel
//! wants the place in front of *every* frame that is sent, asked or not, inside the frame's own buffer: what has no such room
//! is not sent ([`super::rings`]). Frames of several buffers could not have it, whose buffers follow each other without a gap, and
//! their memory is registered without.

/// Bytes of a request: all of the structure, whose last word is of Linux 6.16.
pub(super) const LEN: usize = 24;

/// `XDP_TXMD_FLAGS_CHECKSUM` (`if_xdp.h`).
const CHECKSUM: u64 = 1 << 1;

/// A request for the checksum over all that is behind `start`, at `field` bytes from there.
#[inline]
pub(super) fn checksum(start: u16, field: u16) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    let (flags, rest) = bytes.split_at_mut(8);
    flags.copy_from_slice(&CHECKSUM.to_ne_bytes());
    rest[..2].copy_from_slice(&start.to_ne_bytes());
    rest[2..4].copy_from_slice(&field.to_ne_bytes());
    bytes
}

/// What [`checksum`] has written.
pub(super) fn read(bytes: &[u8; LEN]) -> Option<(usize, usize)> {
    let (flags, rest) = bytes.split_first_chunk()?;
    let (start, rest) = rest.split_first_chunk()?;
    let (field, _) = rest.split_first_chunk()?;
    let word = |bytes: &[u8; 2]| usize::from(u16::from_ne_bytes(*bytes));
    (u64::from_ne_bytes(*flags) == CHECKSUM).then(|| (word(start), word(field)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_kernels() {
        let request = libc::xsk_tx_metadata_request {
            csum_start: 34,
            csum_offset: 6,
        };
        // libc knows the structure as it was before its last word.
        assert!(size_of::<libc::xsk_tx_metadata>() <= LEN);
        let bytes = checksum(request.csum_start, request.csum_offset);
        assert_eq!(bytes[..8], 2_u64.to_ne_bytes());
        assert_eq!(bytes[8..10], 34_u16.to_ne_bytes());
        assert_eq!(bytes[10..12], 6_u16.to_ne_bytes());
        assert_eq!(bytes[12..], [0; 12]);
        assert_eq!(read(&bytes), Some((34, 6)));
        assert_eq!(read(&[0; LEN]), None);
    }
}
