//! All that is known at one moment.

use std::net::IpAddr;

use super::{Segment, SegmentId};
use crate::wire::Vni;

/// An immutable view of every segment. Segments that did not change share their parts with the snapshot before.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Counts publications.
    pub generation: u64,
    /// Indexed by [`SegmentId`].
    pub segments: Vec<Segment>,
}

impl Snapshot {
    /// The segment with this number.
    #[inline]
    pub fn segment(&self, id: SegmentId) -> Option<&Segment> {
        self.segments.get(usize::from(id.0))
    }

    /// The segment that a received frame belongs to: exact in address (the
    /// device's own or its group's), port and VNI. A node has few devices, so a walk
    /// over a handful of entries beats a hash.
    #[inline]
    pub fn find(&self, addr: IpAddr, port: u16, vni: Vni) -> Option<SegmentId> {
        let index = self.segments.iter().position(|segment| {
            let config = &*segment.config;
            config.vni == vni
                && config.port == port
                && (config.local == addr || config.group == Some(addr))
        })?;
        u16::try_from(index).ok().map(SegmentId)
    }
}
