//! Decisions taken from bytes, so that a fuzzer or proptest decides by making bytes up, and a file repeats it.
//!
//! Each decision takes from the front. When nothing is left, all that follows is 0, and 0 always stands for the plain case:
//! short inputs are ordinary traffic, and each further byte makes it stranger.

/// Bytes taken one decision at a time.
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub fn long(&mut self) -> u32 {
        u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// A number below `n`, which is at most 256.
    pub fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    pub fn bit(&mut self) -> bool {
        self.below(2) == 1
    }

    /// True for one byte in sixteen: for what must not happen to most frames.
    pub fn rare(&mut self) -> bool {
        self.byte() >= 0xf0
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Up to `most` bytes: short ones mostly, and of long ones only the start is chosen. What follows is made from that, so
    /// that one frame does not use up the decisions of all the others.
    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        const CHOSEN_MAX: usize = 24;
        let len = match self.below(8) {
            0..=4 => self.below(CHOSEN_MAX),
            5..=6 => usize::from(self.byte()),
            _ => usize::from(self.word()),
        };
        let mut bytes: Vec<u8> = (0..len.min(CHOSEN_MAX)).map(|_| self.byte()).collect();
        let mut state = u32::from(self.byte());
        bytes.resize_with(len % (most + 1), || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        bytes
    }
}
