//! What is to happen to a frame.

use crate::port::BATCH;
use crate::stats::DropReason;
use crate::table::{ListId, SegmentId, VtepId};

/// The fate of one frame, as `decide` sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// To this VTEP.
    Encap(VtepId),
    /// To every VTEP of the segment's flood list, a copy each.
    Flood,
    /// To every VTEP of this list, a copy each.
    List(ListId),
    /// To the access port of this segment.
    Deliver(SegmentId),
    /// The same, although the sender is no known VTEP: counted apart and put on record.
    DeliverStranger(SegmentId),
    /// Nowhere.
    Drop(DropReason),
}

/// The verdicts on a batch, in its order.
#[derive(Debug)]
pub struct Verdicts {
    entries: [Verdict; BATCH],
    len: usize,
}

impl Verdicts {
    /// None yet.
    pub const fn new() -> Self {
        Self {
            entries: [Self::MISSING; BATCH],
            len: 0,
        }
    }

    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The verdicts, in the order of the batch.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = Verdict> + '_ {
        self.entries.iter().take(self.len).copied()
    }

    /// The verdict on frame `index` of the batch. A frame that was never judged goes nowhere: only a caller that fills
    /// the batch between `decide` and `apply` could have one.
    #[inline]
    pub(super) fn on(&self, index: usize) -> Verdict {
        debug_assert!(index < self.len, "frame {index} was not judged");
        self.entries.get(index).copied().unwrap_or(Self::MISSING)
    }

    /// Judges a new batch: one verdict for each of `items`, in order.
    #[inline]
    pub(super) fn judge<T>(
        &mut self,
        items: impl Iterator<Item = T>,
        judge: impl Fn(T) -> Verdict,
    ) {
        self.len = 0;
        for (entry, item) in self.entries.iter_mut().zip(items) {
            *entry = judge(item);
            self.len += 1;
        }
    }

    const MISSING: Verdict = Verdict::Drop(DropReason::NoTxTarget);
}

impl Default for Verdicts {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_batch_replaces_the_verdicts_of_the_last() {
        let mut verdicts = Verdicts::new();
        verdicts.judge(0..3, |n| Verdict::Encap(VtepId(n)));
        verdicts.judge(7..9, |n| Verdict::Deliver(SegmentId(n)));
        assert_eq!(verdicts.len(), 2);
        let all: Vec<_> = verdicts.iter().collect();
        assert_eq!(
            all,
            [
                Verdict::Deliver(SegmentId(7)),
                Verdict::Deliver(SegmentId(8))
            ]
        );
    }

    #[test]
    fn there_are_never_more_than_a_batch() {
        let mut verdicts = Verdicts::new();
        verdicts.judge(0..1000, |_: u32| Verdict::Flood);
        assert_eq!(verdicts.len(), BATCH);
    }

    #[test]
    fn a_verdict_is_small() {
        assert!(size_of::<Verdict>() <= 8);
    }
}
