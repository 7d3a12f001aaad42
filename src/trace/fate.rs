//! What became of a frame.

use std::net::IpAddr;

use super::At;
use crate::stats::{DropReason, PassReason, PortCounters};

/// The fate of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// The steering programs leave it to the kernel.
    Pass(PassReason),
    /// It dies.
    Drop(DropReason),
    /// It is handed on.
    Forward,
}

impl Fate {
    /// In a word: `pass`, `drop`, `forward`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pass(_) => "pass",
            Self::Drop(_) => "drop",
            Self::Forward => "forward",
        }
    }

    /// The metric label of the reason, if there is one.
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Pass(reason) => Some(reason.label()),
            Self::Drop(reason) => Some(reason.label()),
            Self::Forward => None,
        }
    }
}

/// All that happened to a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What became of it.
    pub fate: Fate,
    /// Copies beyond the first.
    pub flood_copies: u64,
    /// Copies that were wanted and not made or sent.
    pub flood_copies_lost: u64,
    /// Inner checksums that the sender had left unfinished.
    pub checksums_completed: u64,
    /// It was a stranger's, and was delivered all the same.
    pub stranger: bool,
    /// The peers that it is counted for, by the number of their segment, with as many frames; none stands for all others.
    pub peers: Vec<(usize, Option<IpAddr>, u64)>,
    /// What came out of the ports.
    pub sent: Vec<Sent>,
}

/// A frame that was handed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Where.
    pub at: At,
    /// As it left. One for a device with the Group Policy extension is without its carrier.
    pub bytes: Vec<u8>,
    /// The mark that it has on such a device.
    pub mark: Option<u32>,
}

/// The counters of a port at one moment.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    forwarded: u64,
    flood_copies: u64,
    flood_copies_lost: u64,
    checksums_completed: u64,
    strangers_delivered: u64,
    drops: [u64; DropReason::COUNT],
}

impl Counts {
    pub(super) fn read(counters: &PortCounters) -> Self {
        let mut drops = [0; DropReason::COUNT];
        for (count, reason) in drops.iter_mut().zip(DropReason::ALL) {
            *count = counters.drops(*reason);
        }
        Self {
            forwarded: counters.forwarded.get(),
            flood_copies: counters.flood_copies.get(),
            flood_copies_lost: counters.flood_copies_lost.get(),
            checksums_completed: counters.checksums_completed.get(),
            strangers_delivered: counters.strangers_delivered.get(),
            drops,
        }
    }

    /// What one frame has moved since.
    pub(super) fn moved(&self, counters: &PortCounters) -> Outcome {
        let now = Self::read(counters);
        let dead = DropReason::ALL
            .iter()
            .find(|reason| now.drops[**reason as usize] > self.drops[**reason as usize]);
        let fate = match dead {
            Some(reason) => Fate::Drop(*reason),
            None if now.forwarded > self.forwarded => Fate::Forward,
            // Every frame that is received has one fate; this one was not.
            None => Fate::Drop(DropReason::RxInvalid),
        };
        Outcome {
            fate,
            flood_copies: now.flood_copies - self.flood_copies,
            flood_copies_lost: now.flood_copies_lost - self.flood_copies_lost,
            checksums_completed: now.checksums_completed - self.checksums_completed,
            stranger: now.strangers_delivered > self.strangers_delivered,
            peers: Vec::new(),
            sent: Vec::new(),
        }
    }
}
