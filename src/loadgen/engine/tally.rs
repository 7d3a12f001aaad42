//! Counts frames one by one, as the sink in the kernel does: by stream, with the fates that `received.rs` defines.

use super::inspect::inspect;
use super::inspection::Inspection;
use super::received::{Expectations, Received};
use super::{EngineError, Inspected};
use crate::loadgen::signature;

/// Sequence numbers of a stream that are remembered, to tell a second copy: as many as the sink has.
const SLOTS: u64 = 1 << 20;
/// Signatures carry this many bits of the time.
const TIME_BITS: u32 = 48;

/// The counts, and what they are made from.
pub struct Tally {
    vxlan_ports: Vec<u16>,
    /// A bit for each stream that belongs here.
    expected: u32,
    zeros: bool,
    progress: Vec<Progress>,
    received: Received,
    inspection: Inspection,
}

/// What is known of one stream.
struct Progress {
    /// The highest sequence number seen, plus one.
    next: u64,
    /// The last arrival; 0: none.
    last_ns: u64,
    /// sequence / 2^20 + 1 of the last one seen there; 0: none.
    slots: Vec<u32>,
}

impl Tally {
    /// Nothing has arrived.
    ///
    /// # Errors
    /// When the expectations contradict themselves.
    pub fn new(expectations: &Expectations) -> Result<Self, EngineError> {
        let fresh = || Progress {
            next: 0,
            last_ns: 0,
            slots: vec![0; SLOTS as usize],
        };
        Ok(Self {
            vxlan_ports: expectations.vxlan_ports.clone(),
            expected: expectations.mask()?,
            zeros: expectations.zeros,
            progress: (0..expectations.streams).map(|_| fresh()).collect(),
            received: Received::nothing(expectations.streams),
            inspection: Inspection::default(),
        })
    }

    /// Takes a frame that arrived at this time (`CLOCK_MONOTONIC`, in ns); whether it was one of the generators'.
    pub fn take(&mut self, frame: &[u8], now_ns: u64) -> bool {
        let found = inspect(frame, &self.vxlan_ports);
        let known = found.filter(|found| self.stream(found) < self.progress.len());
        let Some(found) = known else {
            self.received.foreign += 1;
            return false;
        };
        self.inspection.add(&found, self.zeros);
        let stream = self.stream(&found);
        let Some(counts) = self.received.per_stream.get_mut(stream) else {
            return false;
        };
        if !found.whole {
            counts.corrupted += 1;
        } else if self.expected & (1 << stream) == 0 {
            counts.misdelivered += 1;
        } else {
            self.note(&found, frame.len(), now_ns);
        }
        true
    }

    /// What has been taken since the start or the reset.
    pub fn received(&self) -> Received {
        Received {
            inspection: Some(self.inspection),
            ..self.received.clone()
        }
    }

    /// By number of stream, the highest sequence number that has arrived, plus one.
    pub fn reached(&self) -> Vec<u64> {
        self.progress.iter().map(|stream| stream.next).collect()
    }

    /// Forgets all.
    pub fn reset(&mut self) {
        for progress in &mut self.progress {
            progress.next = 0;
            progress.last_ns = 0;
            progress.slots.fill(0);
        }
        self.received = Received::nothing(self.progress.len() as u16);
        self.inspection = Inspection::default();
    }

    fn stream(&self, found: &Inspected<'_>) -> usize {
        usize::from(found.signature.stream)
    }

    /// Counts a whole frame that belongs here.
    fn note(&mut self, found: &Inspected<'_>, len: usize, now_ns: u64) {
        let stream = self.stream(found);
        let received = &mut self.received;
        let (Some(progress), Some(counts)) = (
            self.progress.get_mut(stream),
            received.per_stream.get_mut(stream),
        ) else {
            return;
        };
        let sequence = signature::extend(progress.next, found.signature.sequence);
        let lap = (sequence / SLOTS) as u32 + 1;
        let Some(slot) = progress.slots.get_mut((sequence % SLOTS) as usize) else {
            return;
        };
        if std::mem::replace(slot, lap) == lap {
            counts.duplicated += 1;
            return;
        }
        counts.frames += 1;
        counts.bytes += len as u64;
        if sequence < progress.next {
            counts.reordered += 1;
        } else {
            progress.next = sequence + 1;
        }
        if progress.last_ns > 0 {
            let gap_ns = now_ns.saturating_sub(progress.last_ns);
            counts.gap_max_ns = counts.gap_max_ns.max(gap_ns);
        }
        progress.last_ns = now_ns;
        let latency_ns = latency_ns(now_ns, found.signature.intended_ns);
        received.latency.saturating_record(latency_ns);
        received.latency_range_ns = wider(received.latency_range_ns, latency_ns);
        received.first_last_ns = wider(received.first_last_ns, now_ns);
    }
}

/// From the intended time to now. Intended for the future: the two ends do not share a clock that well.
fn latency_ns(now_ns: u64, intended_ns: u64) -> u64 {
    let latency_ns = now_ns.wrapping_sub(intended_ns) & signature::TIME_MASK;
    if latency_ns >> (TIME_BITS - 1) > 0 {
        0
    } else {
        latency_ns
    }
}

fn wider(range: Option<(u64, u64)>, value: u64) -> Option<(u64, u64)> {
    let (low, high) = range.unwrap_or((value, value));
    Some((low.min(value), high.max(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_modulo_the_signatures_clock() {
        assert_eq!(latency_ns(1_000, 400), 600);
        assert_eq!(latency_ns((5 << 48) + 7, signature::TIME_MASK), 8);
        assert_eq!(latency_ns(400, 1_000), 0, "of the future");
    }

    #[test]
    fn a_range_holds_all_its_values() {
        let all = [5, 3, 9, 4].into_iter().fold(None, wider);
        assert_eq!(all, Some((3, 9)));
    }
}
