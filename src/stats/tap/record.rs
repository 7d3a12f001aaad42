//! What is noted of a frame beside its bytes.

use super::super::{DropReason, PeerId, Shape};
use super::{Point, Spot};

/// What becomes of a frame, as far as it is known where it is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// To a vxlan device.
    Deliver,
    /// The same, although its sender is no known VTEP.
    DeliverStranger,
    /// To one VTEP.
    Encap,
    /// To every VTEP of the flood list.
    Flood,
    /// To the VTEPs of a multicast address.
    List,
    /// A port has taken it.
    Sent,
    /// The same of a copy beyond the first, or of a part of one.
    SentCopy,
    /// To nobody; and what it looks like now.
    Dropped(DropReason, Shape),
}

impl Fate {
    /// Its name.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Deliver => "deliver",
            Self::DeliverStranger => "deliver-stranger",
            Self::Encap => "encap",
            Self::Flood => "flood",
            Self::List => "list",
            Self::Sent => "sent",
            Self::SentCopy => "sent-copy",
            Self::Dropped(..) => "drop",
        }
    }

    /// Of what it died.
    pub const fn reason(self) -> Option<DropReason> {
        match self {
            Self::Dropped(reason, _) => Some(reason),
            _ => None,
        }
    }

    /// Those without a reason, by number from 1.
    const PLAIN: [Self; 7] = [
        Self::Deliver,
        Self::DeliverStranger,
        Self::Encap,
        Self::Flood,
        Self::List,
        Self::Sent,
        Self::SentCopy,
    ];

    const fn to_bits(self) -> u64 {
        match self {
            Self::Deliver => 1,
            Self::DeliverStranger => 2,
            Self::Encap => 3,
            Self::Flood => 4,
            Self::List => 5,
            Self::Sent => 6,
            Self::SentCopy => 7,
            Self::Dropped(reason, Shape::Arrived) => (reason as u64) << 8,
            Self::Dropped(reason, Shape::Leaving) => (reason as u64) << 8 | LEAVING,
        }
    }

    fn from_bits(bits: u64) -> Option<Self> {
        match (bits & 0xff) as usize {
            0 => {
                let reason = DropReason::ALL.get((bits >> 8 & 0xff) as usize)?;
                let shape = match bits & LEAVING {
                    0 => Shape::Arrived,
                    _ => Shape::Leaving,
                };
                Some(Self::Dropped(*reason, shape))
            }
            plain => Self::PLAIN.get(plain - 1).copied(),
        }
    }
}

/// In the bits of one that died: it looks as it would have left.
const LEAVING: u64 = 1 << 16;

/// What is noted of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// `CLOCK_MONOTONIC` in nanoseconds at the start of the turn.
    pub time_ns: u64,
    /// Where it was seen.
    pub spot: Spot,
    /// What becomes of it.
    pub fate: Fate,
    /// The peer that it comes from or goes to, as it is counted; that of all others where it is not known.
    pub peer: PeerId,
    /// How long it is, in bytes.
    pub len: u32,
}

/// Words in front of the bytes.
pub(super) const HEADER: usize = 4;

impl Record {
    /// Of so many words together, of whose bytes so many are there.
    #[inline]
    pub(super) fn to_words(self, words: usize, kept: usize) -> [u64; HEADER] {
        let point = u64::from(self.spot.point as u8);
        [
            words as u64 | point << 32 | self.fate.to_bits() << 40,
            self.time_ns,
            u64::from(self.spot.port) | u64::from(self.peer.0) << 32,
            u64::from(self.len) | (kept as u64) << 32,
        ]
    }

    /// With how many bytes are there.
    pub(super) fn from_words([what, time_ns, port, len]: [u64; HEADER]) -> Option<(Self, usize)> {
        let record = Self {
            time_ns,
            spot: Spot {
                point: *Point::ALL.get((what >> 32 & 0xff) as usize)?,
                port: port as u32,
            },
            fate: Fate::from_bits(what >> 40)?,
            peer: PeerId((port >> 32) as u16),
            len: len as u32,
        };
        Some((record, (len >> 32) as usize))
    }
}
