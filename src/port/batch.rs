//! Up to 64 frames on their way through one turn.

use std::mem;

use super::Frame;

/// The most frames a batch holds.
pub const BATCH: usize = 64;

const MASK: usize = BATCH - 1;
const _: () = assert!(BATCH.is_power_of_two());

/// A fixed room for [`BATCH`] frames, first in, first out. It owns them.
#[derive(Debug)]
pub struct Batch {
    /// A ring, so that taking from the front moves nothing.
    frames: [Frame; BATCH],
    head: usize,
    len: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            frames: [const { Frame::VACANT }; BATCH],
            head: 0,
            len: 0,
        }
    }

    /// How many frames it holds.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many more fit.
    #[inline]
    pub fn room(&self) -> usize {
        BATCH - self.len
    }

    /// Adds a frame at the back.
    ///
    /// # Errors
    /// Gives the frame back when the batch is full.
    #[inline]
    pub fn push(&mut self, frame: Frame) -> Result<(), Frame> {
        if self.len == BATCH {
            return Err(frame);
        }
        self.frames[(self.head + self.len) & MASK] = frame;
        self.len += 1;
        Ok(())
    }

    /// The frame at the front.
    #[inline]
    pub(super) fn front(&self) -> Option<&Frame> {
        (self.len > 0).then(|| &self.frames[self.head & MASK])
    }

    /// Takes the frame at the front.
    #[inline]
    pub fn pop(&mut self) -> Option<Frame> {
        if self.len == 0 {
            return None;
        }
        let frame = mem::replace(&mut self.frames[self.head & MASK], Frame::VACANT);
        self.head = (self.head + 1) & MASK;
        self.len -= 1;
        Some(frame)
    }

    /// The frames from front to back.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = &Frame> + Clone {
        (0..self.len).map(|place| &self.frames[(self.head + place) & MASK])
    }

    /// The same, each to be edited in place.
    #[inline]
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Frame> {
        let (behind, front) = self.frames.split_at_mut(self.head & MASK);
        front.iter_mut().chain(behind).take(self.len)
    }

    /// Takes the frames from front to back. Those that the iterator has not handed out when it is dropped stay in the
    /// batch: leaving the loop early loses none.
    #[inline]
    pub fn drain(&mut self) -> impl Iterator<Item = Frame> + '_ {
        Drain {
            taken: 0,
            batch: self,
        }
    }
}

/// Where a batch begins is written once, at the end, and not after each frame.
struct Drain<'a> {
    batch: &'a mut Batch,
    taken: usize,
}

impl Iterator for Drain<'_> {
    type Item = Frame;

    #[inline]
    fn next(&mut self) -> Option<Frame> {
        if self.taken == self.batch.len {
            return None;
        }
        let place = &mut self.batch.frames[(self.batch.head + self.taken) & MASK];
        self.taken += 1;
        Some(mem::replace(place, Frame::VACANT))
    }
}

impl Drop for Drain<'_> {
    #[inline]
    fn drop(&mut self) {
        self.batch.head = (self.batch.head + self.taken) & MASK;
        self.batch.len -= self.taken;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(n: u32) -> Frame {
        Frame::at(n, 60)
    }

    fn addresses(batch: &Batch) -> Vec<u32> {
        batch.iter().map(|frame| frame.addr).collect()
    }

    #[test]
    fn first_in_is_first_out() {
        let mut batch = Batch::new();
        for n in 0..3 {
            batch.push(frame(n)).unwrap();
        }
        assert_eq!((batch.len(), batch.room()), (3, BATCH - 3));
        assert_eq!(addresses(&batch), [0, 1, 2]);
        let out: Vec<u32> = batch.drain().map(|frame| frame.addr).collect();
        assert_eq!(out, [0, 1, 2]);
        assert!(batch.is_empty());
        assert_eq!(batch.pop(), None);
    }

    #[test]
    fn a_full_batch_gives_the_frame_back() {
        let mut batch = Batch::new();
        for n in 0..BATCH as u32 {
            batch.push(frame(n)).unwrap();
        }
        assert_eq!(batch.push(frame(99)), Err(frame(99)));
        assert_eq!(batch.room(), 0);
    }

    #[test]
    fn an_interrupted_drain_keeps_the_rest_in_order() {
        let mut batch = Batch::new();
        for n in 0..BATCH as u32 {
            batch.push(frame(n)).unwrap();
        }
        assert_eq!(batch.drain().take(40).count(), 40);
        assert_eq!(batch.len(), 24);
        // Wraps around the end of the array.
        for n in 64..104 {
            batch.push(frame(n)).unwrap();
        }
        assert_eq!(batch.room(), 0);
        assert_eq!(addresses(&batch), (40..104).collect::<Vec<_>>());
        assert_eq!(batch.drain().take(60).count(), 60);
        for (frame, len) in batch.iter_mut().zip(1..) {
            frame.place(frame.addr, len);
        }
        let edited: Vec<_> = batch
            .iter()
            .map(|frame| (frame.addr, frame.bytes()))
            .collect();
        assert_eq!(edited, [(100, 1), (101, 2), (102, 3), (103, 4)]);
    }
}
