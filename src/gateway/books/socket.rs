//! What is known of one socket.

use std::sync::Arc;

use super::lately::{Lately, without};
use crate::gateway::observe::RingState;
use crate::port::StatisticsHandle;
use crate::stats::PortCounters;

/// One socket of a port.
pub struct SocketBook {
    pub worker: u32,
    pub queue: u32,
    pub counters: Arc<PortCounters>,
    /// Entries of each of its rings.
    pub ring_len: u32,
    pub statistics: StatisticsHandle,
    pub zero_copy: bool,
    /// Whether its device finishes outer checksums.
    pub finishes_checksums: bool,
    pub why_not_zero_copy: Option<String>,
}

impl SocketBook {
    /// How full its rings were.
    pub fn rings(&self, lately: Lately) -> Vec<RingState> {
        let marks = &self.counters.rings;
        let state = |ring: &str, (mark, lately): (u32, u32)| RingState {
            ring: ring.to_owned(),
            size: self.ring_len,
            mark,
            lately,
        };
        let missing = lately.highest(&marks.fill_missing);
        vec![
            state("rx", lately.highest(&marks.rx)),
            state("tx", lately.highest(&marks.tx)),
            state("fill", without(self.ring_len, missing)),
        ]
    }
}
