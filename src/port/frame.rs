//! One frame: the right to use one chunk of the UMEM, and where in it the bytes are.

/// A frame. It cannot be cloned or copied, so whoever holds one must give it on: to another batch, to a port, or back to
/// the pool by [`super::Umem::release`]. One that is merely dropped is lost to its pool until the [`super::Umem`] ends.
///
/// Only [`super::Umem`] and the ports make frames, and they judge the position first; 32 bits reach over the 4 GiB that
/// [`super::Umem::new`] allows.
///
/// A frame may carry a request to its device ([`super::Umem::request_checksum`]), which lies in the room in front of it; that
/// there is one is a bit of the frame itself, so that nothing else in that room is ever taken for one.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a frame that is dropped is lost to the pool: transmit or release it"]
pub struct Frame {
    /// Offset of the first byte in the UMEM area.
    pub(super) addr: u32,
    /// Bytes, and [`REQUEST`].
    len: u32,
}

/// The bit of a frame that carries a request. Lengths are far below: no chunk is longer than 128 KiB.
const REQUEST: u32 = 1 << 31;

impl Frame {
    /// What an empty place in a batch holds; never given out.
    pub(super) const VACANT: Self = Self { addr: 0, len: 0 };

    /// So many bytes at this position, without a request.
    #[inline]
    pub(super) const fn at(addr: u32, len: u32) -> Self {
        Self {
            addr,
            len: len & !REQUEST,
        }
    }

    /// Its length in bytes.
    #[inline]
    pub(super) const fn bytes(&self) -> u32 {
        self.len & !REQUEST
    }

    /// Gives it another place. A request would be about other bytes, and is forgotten.
    #[inline]
    pub(super) fn place(&mut self, addr: u32, len: u32) {
        *self = Self::at(addr, len);
    }

    /// Notes that a request lies in front of it.
    #[inline]
    pub(super) fn note_request(&mut self) {
        self.len |= REQUEST;
    }

    /// Whether a request lies in front of it.
    #[inline]
    pub(super) const fn has_request(&self) -> bool {
        self.len & REQUEST != 0
    }

    /// Its length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes() as usize
    }

    /// Whether it has no bytes, as after [`super::Umem::allocate`].
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes() == 0
    }
}

const _: () = assert!(size_of::<Frame>() == 8);
