//! Which of the frames that one received frame became, and how it counts when it is lost.

use crate::stats::{DropReason, PortCounters, Shape};

/// Which of the frames that one received frame became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The one whose fate is the received frame's.
    First,
    /// A further copy for the flood list.
    Copy,
    /// A segment beyond the first of a superframe that was cut.
    Rest,
    /// The same of a copy.
    RestOfCopy,
}

impl Role {
    /// The role of the segments behind one that has this role.
    #[inline]
    pub(in crate::pipeline) fn rest(self) -> Self {
        match self {
            Self::First | Self::Rest => Self::Rest,
            Self::Copy | Self::RestOfCopy => Self::RestOfCopy,
        }
    }

    /// Counts one that was lost on its way out.
    #[inline]
    pub(in crate::pipeline) fn lose(
        self,
        counters: &PortCounters,
        reason: DropReason,
        frame: &[u8],
    ) {
        match self {
            Self::First => counters.died(reason, Shape::Leaving, frame),
            Self::Copy => counters.flood_copies_lost.add(1),
            Self::Rest | Self::RestOfCopy => counters.segments_lost.add(1),
        }
    }

    /// Counts one that could not be made.
    #[inline]
    pub(in crate::pipeline) fn count_lost(self, counters: &PortCounters, reason: DropReason) {
        match self {
            Self::First => counters.dropped(reason, 1),
            Self::Copy => counters.flood_copies_lost.add(1),
            Self::Rest | Self::RestOfCopy => counters.segments_lost.add(1),
        }
    }

    /// Its bits of `copies` and of `rest`.
    #[inline]
    pub(super) fn bits(self) -> (u64, u64) {
        match self {
            Self::First => (0, 0),
            Self::Copy => (1, 0),
            Self::Rest => (0, 1),
            Self::RestOfCopy => (1, 1),
        }
    }

    pub(super) fn from_bits(copy: u64, rest: u64) -> Self {
        match (copy & 1, rest & 1) {
            (0, 0) => Self::First,
            (_, 0) => Self::Copy,
            (0, _) => Self::Rest,
            _ => Self::RestOfCopy,
        }
    }
}
