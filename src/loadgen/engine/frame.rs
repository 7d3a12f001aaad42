//! One frame of a flow: its headers with the lengths and checksums of a payload, and the signature at the end.
//!
//! `bpf/generator.bpf.c` does the same in the kernel; the tests compare the two byte for byte.

use super::layout::{Layout, header_check};
use crate::loadgen::headers::{ETHERNET_LEN, Family, FlowHeaders, Shape, Transport};
use crate::loadgen::signature::{self, MAGIC};

/// The UDP checksum's place in its header.
const UDP_LENGTH_AT: u16 = 4;
const UDP_CHECKSUM_AT: u16 = 6;
const IPV4_CHECKSUM_AT: u16 = 10;

/// Writes a frame of the flow over all of `frame`; false, and nothing is promised of its bytes, when it is too short for
/// headers and signature or too long for its length fields.
pub fn write_frame(shape: Shape, headers: &FlowHeaders, tag: Tag, frame: &mut [u8]) -> bool {
    write_flow(
        &Layout::new(shape),
        headers,
        header_check(shape, headers),
        tag,
        frame,
    )
}

/// What tells a frame from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// The number of its stream.
    pub stream: u16,
    /// Its sequence number.
    pub sequence: u32,
    /// When it was meant to leave: `CLOCK_MONOTONIC`, in ns.
    pub intended_ns: u64,
}

/// [`write_frame`] with what does not change from frame to frame.
pub(super) fn write_flow(
    layout: &Layout,
    headers: &FlowHeaders,
    header_check: u16,
    tag: Tag,
    frame: &mut [u8],
) -> bool {
    let shape = layout.shape;
    let header_len = usize::from(shape.header_len());
    let Some((head, payload)) = frame.split_at_mut_checked(header_len) else {
        return false;
    };
    let (Ok(grown), Some(bytes)) = (
        u16::try_from(payload.len()),
        headers.bytes.get(..header_len),
    ) else {
        return false;
    };
    head.copy_from_slice(bytes);
    let odd = payload.len() % 2 == 1;
    let Some((zeros, end)) = payload.split_last_chunk_mut::<{ signature::LEN }>() else {
        return false;
    };
    zeros.fill(0);
    let mut mark = signature::Signature {
        stream: tag.stream,
        sequence: tag.sequence,
        check: 0,
        intended_ns: tag.intended_ns,
    };
    // Behind an odd number of zeros, the bytes of a word change places in the sum.
    let placed = |sum: u16| if odd { sum.swap_bytes() } else { sum };
    let sum = placed(signature::check(&[&mark.to_bytes()]));
    mark.check = fold(u32::from(header_check) + u32::from(sum));
    *end = mark.to_bytes();
    debug_assert_eq!(u16::from_be_bytes([end[0], end[1]]), MAGIC);

    let payload_sum = u32::from(sum) + u32::from(placed(mark.check));
    let mut patch = Patch { bytes: head, grown };
    patch.ip(shape.inner_ip_at(), shape.inner)
        && patch.transport(layout, payload_sum)
        && shape.outer.is_none_or(|outer| patch.outer(layout, outer))
}

struct Patch<'a> {
    bytes: &'a mut [u8],
    /// Bytes of payload.
    grown: u16,
}

impl Patch<'_> {
    fn ip(&mut self, at: u16, family: Family) -> bool {
        self.length(at + family.length_at())
            && (family == Family::V6
                || self.checksum(at + IPV4_CHECKSUM_AT, u32::from(self.grown), false))
    }

    fn transport(&mut self, layout: &Layout, payload_sum: u32) -> bool {
        let shape = layout.shape;
        let at = shape.inner_transport_at();
        let udp = shape.transport == Transport::Udp;
        let added = payload_sum + u32::from(self.grown) * u32::from(layout.transport_times);
        (!udp || self.length(at + UDP_LENGTH_AT))
            && self.checksum(at + shape.transport.checksum_at(), added, udp)
    }

    fn outer(&mut self, layout: &Layout, family: Family) -> bool {
        let udp = ETHERNET_LEN + family.header_len();
        let without = self
            .word(udp + UDP_CHECKSUM_AT)
            .is_some_and(|word| *word == [0, 0]);
        let added = u32::from(self.grown) * u32::from(layout.outer_udp_times);
        self.ip(ETHERNET_LEN, family)
            && self.length(udp + UDP_LENGTH_AT)
            && (without || self.checksum(udp + UDP_CHECKSUM_AT, added, true))
    }

    fn length(&mut self, at: u16) -> bool {
        let grown = self.grown;
        let Some(word) = self.word(at) else {
            return false;
        };
        let Some(length) = u16::from_be_bytes(*word).checked_add(grown) else {
            return false;
        };
        *word = length.to_be_bytes();
        true
    }

    /// RFC 1624: what is added to the bytes is added to the sum. In UDP, 0 would say that there is none.
    fn checksum(&mut self, at: u16, added: u32, udp: bool) -> bool {
        let Some(word) = self.word(at) else {
            return false;
        };
        let sum = !fold(u32::from(!u16::from_be_bytes(*word)) + added);
        *word = if udp && sum == 0 {
            [0xff; 2]
        } else {
            sum.to_be_bytes()
        };
        true
    }

    fn word(&mut self, at: u16) -> Option<&mut [u8; 2]> {
        self.bytes.get_mut(usize::from(at)..)?.first_chunk_mut()
    }
}

fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}
