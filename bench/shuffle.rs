//! Orders that are random and the same in every run.

/// Where all orders start from.
const SEED: u64 = 0x7678_6761_7465;

/// A fixed sequence of well mixed numbers (SplitMix64).
pub struct Numbers(u64);

impl Numbers {
    pub fn new() -> Self {
        Self(SEED)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

/// Puts the items into random order (Fisher and Yates).
pub fn shuffle<T>(items: &mut [T]) {
    let mut numbers = Numbers::new();
    for last in (1..items.len()).rev() {
        let other = numbers.next() % (last as u64 + 1);
        items.swap(last, other as usize);
    }
}

/// 0 to `n` - 1 in random order.
pub fn order(n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    shuffle(&mut order);
    order
}
