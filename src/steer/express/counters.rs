//! What each way of the gears did: `struct direct_counts`, of each processor.

use std::sync::Arc;

use libbpf_rs::{MapCore, MapFlags, MapHandle};

use super::super::Error;
use super::super::copy::Copy;
use crate::stats::UpReason;

/// `enum direct_way`.
pub const WAY_OUT: u32 = 0;
pub const WAY_IN: u32 = 1;
const WAY_DELIVERED: u32 = 2;
pub const WAY_RING_OUT: u32 = 3;
pub const WAY_RING_IN: u32 = 4;

/// What one way of a gear did, in frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WayCounters {
    /// Forwarded.
    pub forwarded: u64,
    /// Bytes of these, without outer headers.
    pub bytes: u64,
    /// Forwarded from pods by XDP at their devices.
    pub by_xdp: u64,
    /// Lost.
    pub lost: u64,
    /// Handed up, by reason.
    pub up: [u64; UpReason::COUNT],
    /// All that came.
    pub received: u64,
}

impl WayCounters {
    /// How many of those that came have a fate, when so many got where they should.
    pub fn fates(&self, forwarded: u64) -> u64 {
        forwarded + self.lost + self.up.iter().sum::<u64>()
    }
}

/// A look at the gears' counters from other threads.
#[derive(Debug, Clone)]
pub struct DirectCounters {
    map: Arc<MapHandle>,
}

impl DirectCounters {
    /// Those of this object.
    pub(super) fn of(object: &Copy) -> Result<Self, Error> {
        let map = Arc::new(object.map("direct_counts")?);
        Ok(Self { map })
    }

    /// What went express from pods to the underlay, from the underlay, and to pods; and by the ring gear from pods, and to them.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn read(&self) -> Result<[WayCounters; 5], Error> {
        // In this order: what was delivered by the first look was taken by the second.
        let delivered = self.way(WAY_DELIVERED)?;
        Ok([
            self.way(WAY_OUT)?,
            self.way(WAY_IN)?,
            delivered,
            self.way(WAY_RING_OUT)?,
            self.way(WAY_RING_IN)?,
        ])
    }

    fn way(&self, way: u32) -> Result<WayCounters, Error> {
        let failed = |source| Error::Map {
            what: "the direct path's counters".to_owned(),
            source,
        };
        let by_cpu = self
            .map
            .lookup_percpu(&way.to_ne_bytes(), MapFlags::ANY)
            .map_err(failed)?;
        let mut sum = WayCounters::default();
        for counts in by_cpu.unwrap_or_default() {
            // struct direct_counts: forwarded, bytes, by_xdp, lost, up[], received
            let numbers = counts.as_chunks::<8>().0.iter();
            let mut numbers = numbers.map(|bytes| u64::from_ne_bytes(*bytes));
            sum.forwarded += numbers.next().unwrap_or(0);
            sum.bytes += numbers.next().unwrap_or(0);
            sum.by_xdp += numbers.next().unwrap_or(0);
            sum.lost += numbers.next().unwrap_or(0);
            for total in &mut sum.up {
                *total += numbers.next().unwrap_or(0);
            }
            sum.received += numbers.next().unwrap_or(0);
        }
        Ok(sum)
    }
}

const _: () = assert!(
    UpReason::COUNT == 17,
    "enum up_reason of bpf/shared.h has as many"
);
