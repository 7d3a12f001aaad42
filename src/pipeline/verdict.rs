//! What is to happen to a frame, and what was read in it to know that.

use super::{decap::Pull, encap::Push};
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

/// The verdicts on a batch, in its order, and beside each what its edit needs of the headers: those are read once.
#[derive(Debug)]
pub struct Verdicts {
    entries: [Verdict; BATCH],
    /// Of frames to the underlay.
    pushes: [Push; BATCH],
    /// Of frames from there.
    pulls: [Pull; BATCH],
    len: usize,
}

impl Verdicts {
    /// None yet.
    pub const fn new() -> Self {
        Self {
            entries: [Self::MISSING; BATCH],
            pushes: [Push::NOTHING; BATCH],
            pulls: [Pull::NOTHING; BATCH],
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

    /// The verdict on frame `index` of a batch to the underlay, and what is pushed onto the frame.
    #[inline(always)]
    pub(super) fn push(&self, index: usize) -> (Verdict, Push) {
        self.on(index, &self.pushes, Push::NOTHING)
    }

    /// The verdict on frame `index` of a batch from the underlay, and what is pulled off the frame.
    #[inline(always)]
    pub(super) fn pull(&self, index: usize) -> (Verdict, Pull) {
        self.on(index, &self.pulls, Pull::NOTHING)
    }

    /// Where is kept what is pushed onto each frame of a batch to the underlay, to be read before it is judged.
    #[inline(always)]
    pub(super) fn pushes_mut(&mut self) -> impl Iterator<Item = &mut Push> {
        self.pushes.iter_mut()
    }

    /// Judges a new batch to the underlay: each of `items`, in order, with what was read of it.
    #[inline(always)]
    pub(super) fn judge_pushes<T>(
        &mut self,
        items: impl Iterator<Item = T>,
        judge: impl FnMut(T, &mut Push) -> Result<Verdict, DropReason>,
    ) {
        self.len = fill(&mut self.entries, &mut self.pushes, items, judge);
    }

    /// Judges a new batch from the underlay: each of `items`, in order.
    #[inline(always)]
    pub(super) fn judge_pulls<T>(
        &mut self,
        items: impl Iterator<Item = T>,
        judge: impl FnMut(T, &mut Pull) -> Result<Verdict, DropReason>,
    ) {
        self.len = fill(&mut self.entries, &mut self.pulls, items, judge);
    }

    /// A frame that was never judged goes nowhere: only a caller that fills the batch between `decide` and `apply` could
    /// have one.
    #[inline(always)]
    fn on<E: Copy>(&self, index: usize, edits: &[E; BATCH], nothing: E) -> (Verdict, E) {
        debug_assert!(index < self.len, "frame {index} was not judged");
        match (self.entries.get(index), edits.get(index)) {
            (Some(verdict), Some(edit)) if index < self.len => (*verdict, *edit),
            _ => (Self::MISSING, nothing),
        }
    }

    const MISSING: Verdict = Verdict::Drop(DropReason::NoTxTarget);
}

/// Writes a verdict for each item, as many as there is room for, and where it lets the frame live an edit; how many that were. The
/// edit of a dead frame is whatever it was: nobody reads it. (It is written in place: together with the verdict it would be
/// returned through memory, in pieces, and waited for.)
#[inline(always)]
fn fill<T, E>(
    verdicts: &mut [Verdict; BATCH],
    edits: &mut [E; BATCH],
    items: impl Iterator<Item = T>,
    mut judge: impl FnMut(T, &mut E) -> Result<Verdict, DropReason>,
) -> usize {
    let mut len = 0;
    for ((verdict, edit), item) in verdicts.iter_mut().zip(edits).zip(items) {
        *verdict = judge(item, edit).unwrap_or_else(Verdict::Drop);
        len += 1;
    }
    len
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
        verdicts.judge_pushes(0..3, |n, _| Ok(Verdict::Encap(VtepId(n))));
        verdicts.judge_pulls(7..9, |n, _| Ok(Verdict::Deliver(SegmentId(n))));
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
        verdicts.judge_pushes(0..1000, |_: u32, _| Ok(Verdict::Flood));
        assert_eq!(verdicts.len(), BATCH);
    }

    #[test]
    fn a_verdict_is_small() {
        assert!(size_of::<Verdict>() <= 8);
        assert!(size_of::<Push>() <= 12 && size_of::<Pull>() <= 8);
    }
}
