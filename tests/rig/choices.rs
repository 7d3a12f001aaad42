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

    /// Up to `most` bytes, as they are.
    pub fn bytes(&mut self, most: usize) -> &'a [u8] {
        let len = usize::from(self.word()) % (most + 1);
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// As [`Self::bytes`], and in one case of two filled up with zeros to that length: long frames from few bytes.
    pub fn payload(&mut self, most: usize) -> Vec<u8> {
        let (fill, len) = (self.bit(), usize::from(self.word()) % (most + 1));
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        let mut bytes = taken.to_vec();
        if fill {
            bytes.resize(len, 0);
        }
        bytes
    }
}
