//! Where chunks are, and what lies in one: the limits that an address is judged by.

use std::io;

use super::super::Frame;
use super::UmemConfig;

/// Size of the area and of its chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::port) struct Bounds {
    /// Bytes in use: a multiple of `chunk`, at most 4 GiB.
    pub(in crate::port) area_len: u64,
    /// Bytes a chunk, a power of two.
    pub(in crate::port) chunk: u32,
    /// Bytes of each of its buffers: what the kernel calls a chunk. A power of two.
    pub(in crate::port) buffer: u32,
}

impl Bounds {
    pub(super) fn new(config: UmemConfig) -> io::Result<Self> {
        let chunk = config.chunk.bytes();
        let area_len = u64::from(config.frames) * u64::from(chunk);
        if config.frames == 0 || area_len > 1 << 32 {
            let most = (1_u64 << 32) / u64::from(chunk);
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "{} frames of {chunk} bytes: give between 1 and {most} frames a worker",
                    config.frames
                ),
            ));
        }
        Ok(Self {
            area_len,
            chunk,
            buffer: config.chunk.buffer_bytes(),
        })
    }

    /// Whether a frame may take several buffers.
    #[inline]
    pub(in crate::port) fn has_chains(&self) -> bool {
        self.chunk > self.buffer
    }

    /// How many buffers a chunk has. By shifts, here and below: a division by what the compiler does not know could panic.
    #[inline]
    pub(in crate::port) fn buffers_per_chunk(&self) -> u32 {
        self.chunk >> self.buffer.trailing_zeros()
    }

    /// How many buffers the frame lies in.
    #[inline]
    pub(in crate::port) fn buffers(&self, frame: &Frame) -> u32 {
        let before = frame.addr & (self.buffer - 1);
        (before + frame.bytes() + (self.buffer - 1)) >> self.buffer.trailing_zeros()
    }

    /// Start of the chunk around `addr`, when there is one.
    #[inline]
    pub(in crate::port) fn chunk_of(&self, addr: u64) -> Option<u32> {
        (addr < self.area_len).then_some(addr as u32 & !(self.chunk - 1))
    }

    /// Which chunk, counted from the area's start, an address in it is in.
    #[inline]
    pub(in crate::port) fn index(&self, addr: u32) -> usize {
        (addr >> self.chunk.trailing_zeros()) as usize
    }

    /// Whether `len` bytes from `addr` on are inside the area.
    #[inline]
    pub(super) fn contains(&self, addr: u64, len: u32) -> bool {
        addr + u64::from(len) <= self.area_len
    }

    /// A frame of what the kernel says it put there; `None` when that is not inside one chunk.
    #[inline]
    pub(in crate::port) fn frame(&self, addr: u64, len: u32) -> Option<Frame> {
        let start = u64::from(self.chunk_of(addr)?);
        let fits = addr + u64::from(len) <= start + u64::from(self.chunk);
        fits.then_some(Frame::at(addr as u32, len))
    }

    /// The same, of a chunk of several buffers: inside one of these.
    #[inline]
    pub(in crate::port) fn part(&self, addr: u64, len: u32) -> Option<Frame> {
        let last = addr.checked_add(u64::from(len))?.checked_sub(1)?;
        let within = u64::from(self.buffer - 1);
        self.frame(addr, len)
            .filter(|_| addr | within == last | within)
    }

    /// Whether the frame lies in one chunk of the area.
    #[inline]
    pub(in crate::port) fn holds(&self, frame: &Frame) -> bool {
        self.frame(u64::from(frame.addr), frame.bytes()).is_some()
    }
}
