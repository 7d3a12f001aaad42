//! A train, as it grows and as it leaves.

use super::super::gro::Segment;
use crate::wire::vnet::{self, VnetHeader};

/// A train that leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Train {
    /// What a TAP is told about it.
    pub header: VnetHeader,
    /// Bytes of its frames before they were joined: headers count for each.
    pub bytes: u64,
    /// Whether all segments had the same IPv4 identification. A TAP cannot be told; none of them may be fragmented.
    pub fixed_ids: bool,
}

/// A train as far as it is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) first: u8,
    pub(super) last: u8,
    pub(super) frames: u8,
    /// The first, if it is a segment of TCP or a datagram of UDP.
    pub(super) head: Option<Segment>,
    /// Bytes of the IP packet, and of all frames.
    pub(super) packet_len: u32,
    pub(super) bytes: u32,
    /// PSH and FIN of the last.
    pub(super) ending: u8,
    pub(super) fixed_ids: bool,
    /// Whether it may still grow: then it is in [`Open`], too.
    pub(super) open: bool,
    /// Whether the last batch had a frame of it.
    pub(super) fresh: bool,
}

impl Entry {
    pub(super) const VACANT: Self = Self {
        first: 0,
        last: 0,
        frames: 0,
        head: None,
        packet_len: 0,
        bytes: 0,
        ending: 0,
        fixed_ids: false,
        open: false,
        fresh: false,
    };

    #[inline]
    pub(super) fn header(&self) -> VnetHeader {
        match &self.head {
            Some(head) if self.frames > 1 => VnetHeader {
                flags: vnet::NEEDS_CSUM,
                gso_type: head.gso_type(),
                hdr_len: head.headers_len() as u16,
                gso_size: head.payload_len,
                csum_start: head.transport() as u16,
                csum_offset: head.checksum_offset() as u16,
                ..VnetHeader::default()
            },
            Some(head) if head.valid => VnetHeader {
                flags: vnet::DATA_VALID,
                ..VnetHeader::default()
            },
            _ => VnetHeader::default(),
        }
    }
}
