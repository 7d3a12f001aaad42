//! How large batches are: a count for each power of two.

use super::Count;

/// The largest batch.
const LARGEST: usize = 64;

/// Batches by their size: those of 1, of 2, of up to 4, 8, 16, 32 and 64.
#[derive(Debug, Default)]
pub struct Batches {
    /// A place more than there are sizes: every index of three bits is one of it.
    sizes: [Count; 8],
}

impl Batches {
    /// The largest batch that is counted at each place.
    pub const BOUNDS: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];

    /// Counts a batch that is not empty. Only the owner may call this.
    #[inline]
    pub fn count(&self, frames: usize) {
        debug_assert!((1..=LARGEST).contains(&frames));
        let place = usize::BITS - frames.saturating_sub(1).leading_zeros();
        self.sizes[place as usize % 8].add(1);
    }

    /// How many there were of each size.
    pub fn read(&self) -> [u64; 7] {
        std::array::from_fn(|place| self.sizes[place].get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_counted_where_its_size_belongs() {
        let batches = Batches::default();
        for frames in 1..=LARGEST {
            batches.count(frames);
        }
        // One of one, one of two, two of three and four, and so on.
        assert_eq!(batches.read(), [1, 1, 2, 4, 8, 16, 32]);
        let mut last = 0;
        for (bound, count) in Batches::BOUNDS.into_iter().zip(batches.read()) {
            assert_eq!(u64::from(bound - last), count);
            last = bound;
        }
    }
}
