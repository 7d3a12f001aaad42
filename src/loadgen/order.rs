//! In which order the flows of a stream take their turns: by number, or in one that a seed makes, the same for the same seed.

use std::fmt;

/// The order of flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// By their numbers.
    #[default]
    Increasing,
    /// Shuffled: each flow still comes once a round, and every round is in the same order.
    Random {
        /// What makes the order.
        seed: u64,
    },
}

impl Order {
    /// The word for it, as in flags and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Increasing => "inc",
            Self::Random { .. } => "random",
        }
    }

    /// What makes the order, if anything does.
    pub const fn seed(self) -> Option<u64> {
        match self {
            Self::Increasing => None,
            Self::Random { seed } => Some(seed),
        }
    }

    /// Puts things into this order (Fisher-Yates).
    pub fn arrange<T>(self, things: &mut [T]) {
        let Self::Random { seed } = self else { return };
        let mut random = SplitMix(seed);
        for last in (1..things.len()).rev() {
            things.swap(last, random.below(last as u64 + 1) as usize);
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        self.seed()
            .map_or(Ok(()), |seed| write!(f, " (seed {seed})"))
    }
}

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014). Ours, because a seed in a report
/// must mean the same order in years to come.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`: the high half of a product, whose bias of a 2^44th for a million is nobody's to see.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arranged(order: Order) -> Vec<u32> {
        let mut numbers: Vec<_> = (0..1000).collect();
        order.arrange(&mut numbers);
        numbers
    }

    #[test]
    fn a_seed_is_an_order_of_the_same_flows() {
        let one = arranged(Order::Random { seed: 1 });
        assert_eq!(one, arranged(Order::Random { seed: 1 }));
        assert_ne!(one, arranged(Order::Random { seed: 2 }));
        let mut sorted = one.clone();
        sorted.sort_unstable();
        assert_ne!(one, sorted);
        assert_eq!(sorted, arranged(Order::Increasing));
        let stayed = one.iter().zip(&sorted).filter(|(a, b)| a == b).count();
        assert!(stayed < 20, "{stayed} of 1000 stayed where they were");
    }

    /// The published generator: its first number from the seed 1234567 (the reference implementation's).
    #[test]
    fn the_generator_is_the_published_one() {
        let mut random = SplitMix(1_234_567);
        let first = [random.next(), random.next()];
        assert_eq!(
            first,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]
        );
    }
}
