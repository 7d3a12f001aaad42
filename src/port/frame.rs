//! One frame: the right to use one chunk of the UMEM, and where in it the bytes are.

/// A frame. It cannot be cloned or copied, so whoever holds one must give it on: to another batch, to a port, or back to
/// the pool by [`super::Umem::release`]. One that is merely dropped is lost to its pool until the [`super::Umem`] ends.
///
/// Only [`super::Umem`] and the ports make frames, and they judge the position first; 32 bits reach over the 4 GiB that
/// [`super::Umem::new`] allows.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a frame that is dropped is lost to the pool: transmit or release it"]
pub struct Frame {
    /// Offset of the first byte in the UMEM area.
    pub(super) addr: u32,
    /// Bytes.
    pub(super) len: u32,
}

impl Frame {
    /// What an empty place in a batch holds; never given out.
    pub(super) const VACANT: Self = Self { addr: 0, len: 0 };

    /// Its length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it has no bytes, as after [`super::Umem::allocate`].
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

const _: () = assert!(size_of::<Frame>() == 8);
