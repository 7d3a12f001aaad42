//! The trains that may still grow, by their flows.

use super::train::Entry;

/// Flows that may have an open train at the same time; one more closes that of another. A batch of more flows has hardly
/// two frames of any.
pub(super) const OPEN_MAX: usize = 16;

/// Which trains may still grow: at most one a flow.
#[derive(Debug)]
pub(super) struct Open {
    flows: [u32; OPEN_MAX],
    entries: [u8; OPEN_MAX],
    len: usize,
    /// Whose place is taken next when all are.
    oldest: usize,
}

impl Open {
    #[inline]
    pub(super) fn new() -> Self {
        Self {
            flows: [0; OPEN_MAX],
            entries: [0; OPEN_MAX],
            len: 0,
            oldest: 0,
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The place of the flow's train.
    #[inline]
    pub(super) fn find(&self, flow: u32) -> Option<usize> {
        let mut flows = self.flows.iter().take(self.len);
        flows.position(|other| *other == flow)
    }

    #[inline]
    pub(super) fn entry(&self, place: usize) -> usize {
        usize::from(self.entries.get(place).copied().unwrap_or(u8::MAX))
    }

    /// Closes the train at a place; the last takes its place.
    #[inline]
    pub(super) fn remove(&mut self, place: usize, entries: &mut [Entry]) {
        mark(entries, self.entry(place), false);
        self.len = self.len.saturating_sub(1);
        let (flow, entry) = (self.flows.get(self.len), self.entries.get(self.len));
        if let (Some(&flow), Some(&entry)) = (flow, entry) {
            self.set(place, flow, entry);
        }
    }

    /// Opens a train of a flow that has none.
    #[inline]
    pub(super) fn insert(&mut self, flow: u32, entry: usize, entries: &mut [Entry]) {
        let place = if self.len < OPEN_MAX {
            self.len += 1;
            self.len - 1
        } else {
            self.oldest = (self.oldest + 1) % OPEN_MAX;
            mark(entries, self.entry(self.oldest), false);
            self.oldest
        };
        mark(entries, entry, true);
        self.set(place, flow, entry as u8);
    }

    #[inline]
    fn set(&mut self, place: usize, flow: u32, entry: u8) {
        if let Some(at) = self.flows.get_mut(place) {
            *at = flow;
        }
        if let Some(at) = self.entries.get_mut(place) {
            *at = entry;
        }
    }

    /// Closes those of which the last batch had no frame.
    #[inline]
    pub(super) fn retain_fresh(&mut self, entries: &mut [Entry]) {
        let mut place = 0;
        while place < self.len {
            match entries.get_mut(self.entry(place)) {
                Some(entry) if entry.fresh => {
                    entry.fresh = false;
                    place += 1;
                }
                _ => self.remove(place, entries),
            }
        }
    }

    /// A train has another number among the entries.
    #[inline]
    pub(super) fn moved(&mut self, from: usize, to: usize) {
        let mut entries = self.entries.iter_mut().take(self.len);
        if let Some(entry) = entries.find(|entry| usize::from(**entry) == from) {
            *entry = to as u8;
        }
    }

    /// Closes all.
    #[inline]
    pub(super) fn clear(&mut self, entries: &mut [Entry]) {
        for entry in self.entries.iter().take(self.len) {
            mark(entries, usize::from(*entry), false);
        }
        self.len = 0;
    }
}

#[inline]
fn mark(entries: &mut [Entry], number: usize, open: bool) {
    if let Some(entry) = entries.get_mut(number) {
        entry.open = open;
    }
}
