//! The memory that frames live in (UMEM), and the pool of free ones.
//!
//! The area is one mapping of equal chunks. [`Umem`] is the single owner of the pool and the only one that reads or writes
//! bytes; ports hold the mapping too, but only to register it with the kernel and to keep it alive as long as the kernel
//! may write to it.
//!
//! Whoever holds a [`Frame`] owns its chunk, and every access borrows the [`Umem`] besides: two slices of one chunk cannot
//! exist, and the kernel writes only to chunks in its rings, for which no `Frame` exists.
#![allow(unsafe_code)] // WHY: bytes that the kernel writes by itself cannot be a `Vec`; slices are made here and only here.

mod area;
mod bounds;
#[cfg(test)]
mod tests;

use std::io;
use std::slice;
use std::sync::Arc;

use super::mapping::Mapping;
use super::{Batch, Frame, numa, request};
use crate::prefetch;
pub use area::Pages;
use area::{lock_error, map_area};
pub(super) use bounds::Bounds;

/// Bytes in front of a frame that was just received or allocated: `XDP_PACKET_HEADROOM`, which the kernel leaves in front
/// of every received frame (`xsk_buff_pool.h`). An outer header of 50 or 70 bytes fits into it with 128 bytes to spare.
pub const ROOM: usize = 256;

/// One memory area of equal chunks, and the pool (last in, first out: the warmest first) of its free ones. One worker's.
#[derive(Debug)]
pub struct Umem {
    area: Arc<Mapping>,
    bounds: Bounds,
    pages: Pages,
    frames: u32,
    /// Starts of free chunks, the first `free_len` of them. A place for every chunk, and no code that would make more.
    free: Box<[u32]>,
    free_len: usize,
    /// Whether each chunk is in the pool: catches what would be there twice.
    #[cfg(debug_assertions)]
    in_pool: Vec<bool>,
}

/// How a [`Umem`] is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UmemConfig {
    /// Bytes a chunk.
    pub chunk: ChunkSize,
    /// How many chunks. Enough for all ports of the worker: each can hold a fill ring and a transmit ring full, and a
    /// pool that runs dry starves whichever port refills last.
    pub frames: u32,
    /// Lock the area into memory, so that no frame ever waits for a page.
    pub lock: bool,
}

/// Bytes a chunk. The kernel takes buffers of 2048 and 4096 bytes and no larger ones (`xdp_umem.c`): a chunk is one such
/// buffer, or several that lie side by side, or one that no socket ever sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkSize {
    /// 2048 bytes: frames up to 1792 bytes.
    K2,
    /// 4096 bytes: frames up to 3840 bytes.
    K4,
    /// 16384 bytes: frames up to 16128 bytes, which come and go in several buffers of 4096 (`chains.rs`).
    K16,
    /// 128 KiB: superframes of any length, for a TAP alone.
    Superframe,
}

impl ChunkSize {
    /// In bytes.
    pub const fn bytes(self) -> u32 {
        match self {
            Self::K2 => 2048,
            Self::K4 => 4096,
            Self::K16 => 16384,
            Self::Superframe => 128 << 10,
        }
    }

    /// Bytes of one of its buffers.
    const fn buffer_bytes(self) -> u32 {
        match self {
            Self::K2 => 2048,
            Self::K4 | Self::K16 => 4096,
            Self::Superframe => Self::Superframe.bytes(),
        }
    }
}

impl Umem {
    /// Maps the area and puts every chunk into the pool.
    ///
    /// # Errors
    /// When `frames` is 0 or the area would exceed 4 GiB, and when the system has not that much memory or does not let
    /// this process lock it; the text says what to change.
    pub fn new(config: UmemConfig) -> io::Result<Self> {
        let bounds = Bounds::new(config)?;
        let (area, pages) = map_area(bounds.area_len as usize)?;
        if config.lock {
            area.lock()
                .map_err(|error| lock_error(&error, area.len()))?;
        }
        // The chunk at the start of the area is handed out first.
        let free = (0..config.frames)
            .rev()
            .map(|index| index * bounds.chunk)
            .collect();
        Ok(Self {
            area: Arc::new(area),
            bounds,
            pages,
            frames: config.frames,
            free,
            free_len: config.frames as usize,
            #[cfg(debug_assertions)]
            in_pool: vec![true; config.frames as usize],
        })
    }

    /// Bytes a chunk.
    pub fn chunk_len(&self) -> usize {
        self.bounds.chunk as usize
    }

    /// How many chunks there are.
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// What kind of pages the area has.
    pub fn pages(&self) -> Pages {
        self.pages
    }

    /// The NUMA node that the area begins on; none when the kernel does not tell.
    pub fn node(&self) -> Option<u32> {
        numa::node_of(self.area.start())
    }

    /// How many chunks are in the pool.
    #[inline]
    pub fn free(&self) -> usize {
        self.free_len
    }

    /// An empty frame with [`ROOM`] bytes in front; `None` when the pool is empty.
    #[inline]
    pub fn allocate(&mut self) -> Option<Frame> {
        self.take().map(|chunk| Frame::at(chunk + ROOM as u32, 0))
    }

    /// Puts a frame back into the pool.
    ///
    /// # Panics
    /// In debug builds, when the frame's chunk is in the pool already or is not of this UMEM.
    #[inline]
    pub fn release(&mut self, frame: Frame) {
        let back = self.recover(u64::from(frame.addr));
        debug_assert!(back, "released twice, or into a foreign UMEM: {frame:?}");
    }

    /// Puts all frames of a batch back into the pool; returns how many.
    pub fn release_all(&mut self, batch: &mut Batch) -> usize {
        let count = batch.len();
        for frame in batch.drain() {
            self.release(frame);
        }
        count
    }

    /// The frame's bytes.
    #[inline]
    pub fn bytes(&self, frame: &Frame) -> &[u8] {
        if !self.bounds.contains(u64::from(frame.addr), frame.bytes()) {
            debug_assert!(false, "a frame of another UMEM: {frame:?}");
            return &[];
        }
        let start = self.at(frame.addr);
        // SAFETY: the range was just found to be inside the mapping, whose bytes are all initialised; `&self` keeps
        // writers of this process away, and the kernel has no claim to a chunk that a `Frame` stands for.
        unsafe { slice::from_raw_parts(start, frame.len()) }
    }

    /// Asks the processor for the cache line `offset` bytes from the frame's first byte (or in front of it), and goes on
    /// without waiting.
    #[inline]
    pub fn prefetch(&self, frame: &Frame, offset: isize) {
        let start = self.area.start().as_ptr().wrapping_add(frame.addr as usize);
        prefetch::line_at(start.wrapping_offset(offset));
    }

    /// The frame's bytes, to be changed.
    #[inline]
    pub fn bytes_mut(&mut self, frame: &mut Frame) -> &mut [u8] {
        if !self.bounds.contains(u64::from(frame.addr), frame.bytes()) {
            debug_assert!(false, "a frame of another UMEM: {frame:?}");
            return &mut [];
        }
        let start = self.at(frame.addr);
        // SAFETY: as in `bytes`, and `&mut self` makes this the only slice of the area.
        unsafe { slice::from_raw_parts_mut(start, frame.len()) }
    }

    /// Moves the frame's start `n` bytes towards the chunk's start, and returns all bytes of the grown frame, the first
    /// `n` of which hold whatever was there. `None`, and nothing changed, when there is no room.
    #[inline]
    pub fn push(&mut self, frame: &mut Frame, n: usize) -> Option<&mut [u8]> {
        if n > self.room_in_front(frame) {
            return None;
        }
        frame.place(frame.addr - n as u32, frame.bytes() + n as u32);
        Some(self.bytes_mut(frame))
    }

    /// Moves the start `n` bytes right; `false`, and nothing changed, when the frame is shorter than that, or would start
    /// in the next chunk (all of a frame that fills its chunk to the last byte).
    #[inline]
    pub fn pull(&mut self, frame: &mut Frame, n: usize) -> bool {
        if n > frame.len() || self.room_in_front(frame) + n >= self.chunk_len() {
            return false;
        }
        frame.place(frame.addr + n as u32, frame.bytes() - n as u32);
        true
    }

    /// Cuts the frame to `len` bytes; `false`, and nothing changed, when it is shorter.
    #[inline]
    pub fn truncate(&mut self, frame: &mut Frame, len: usize) -> bool {
        if len > frame.len() {
            return false;
        }
        frame.place(frame.addr, len as u32);
        true
    }

    /// Makes `bytes` the frame's content, from its present start on; `false`, and nothing changed, when they do not fit
    /// into the chunk behind it.
    pub fn fill(&mut self, frame: &mut Frame, bytes: &[u8]) -> bool {
        if bytes.len() > self.chunk_len() - self.room_in_front(frame) {
            return false;
        }
        let before = frame.bytes();
        frame.place(frame.addr, bytes.len() as u32);
        let place = self.bytes_mut(frame);
        // Always of this length; asked, because only so the compiler knows, and leaves no panic where superframes are cut.
        if place.len() != bytes.len() {
            frame.place(frame.addr, before);
            return false;
        }
        place.copy_from_slice(bytes);
        true
    }

    /// Adds the bytes of another frame behind the frame's own; `false`, and nothing changed, when they do not fit into
    /// its chunk.
    pub(super) fn append(&mut self, frame: &mut Frame, tail: &Frame) -> bool {
        if tail.is_empty() {
            return true;
        }
        let fits = self.room_in_front(frame) + frame.len() + tail.len() <= self.chunk_len();
        let apart = self.bounds.index(frame.addr) != self.bounds.index(tail.addr);
        let inside = |frame: &Frame| self.bounds.holds(frame);
        if !fits || !apart || !inside(frame) || !inside(tail) {
            return false;
        }
        let (from, to) = (self.at(tail.addr), self.at(frame.addr + frame.bytes()));
        // SAFETY: both ranges are inside the mapping: each lies in the chunk of its frame, which `holds` found to be one
        // of the area's. The chunks are two, so that the ranges do not overlap.
        unsafe { from.copy_to_nonoverlapping(to, tail.len()) };
        frame.place(frame.addr, frame.bytes() + tail.bytes());
        true
    }

    /// A second frame with the same bytes and the same room in front; `None` when the pool is empty.
    pub fn duplicate(&mut self, frame: &Frame) -> Option<Frame> {
        let room = self.room_in_front(frame);
        if !self.bounds.contains(u64::from(frame.addr), frame.bytes()) {
            debug_assert!(false, "a frame of another UMEM: {frame:?}");
            return None;
        }
        let copy = Frame::at(self.take()? + room as u32, frame.bytes());
        let (from, to) = (self.at(frame.addr), self.at(copy.addr));
        // SAFETY: both ranges are inside the mapping: `contains` holds for the first, and the second has the same
        // length at the same place of another chunk. They do not overlap, because `take` never gives a chunk in use.
        unsafe { from.copy_to_nonoverlapping(to, frame.len()) };
        Some(copy)
    }

    /// Bytes between the chunk's start and the frame's: what [`Self::push`] can give.
    #[inline]
    pub fn room_in_front(&self, frame: &Frame) -> usize {
        (frame.addr & (self.bounds.chunk - 1)) as usize
    }

    /// What lies between the chunk's start and the frame's: whatever was put there.
    #[inline]
    pub fn room(&self, frame: &Frame) -> &[u8] {
        self.bytes(&self.room_as_frame(frame))
    }

    /// The same, to be changed.
    #[inline]
    pub fn room_mut(&mut self, frame: &mut Frame) -> &mut [u8] {
        let mut room = self.room_as_frame(frame);
        self.bytes_mut(&mut room)
    }

    /// Asks the device that the frame is sent by to finish a checksum: the Internet checksum over everything from `start`
    /// on, for the field `field` bytes behind it, which holds the sum over what is not in these bytes (the pseudo-header).
    /// The request lies in front of the frame, and is forgotten when the frame is pushed, pulled or cut. `false`, and nothing
    /// asked, when there is no room for it or the field is not in the frame: the kernel would wedge the ring of such a one.
    ///
    /// Only a port that [finishes checksums](super::Port::finishes_checksums) heeds it.
    #[inline]
    pub fn request_checksum(&mut self, frame: &mut Frame, start: u16, field: u16) -> bool {
        if usize::from(start) + usize::from(field) + size_of::<u16>() > frame.len() {
            return false;
        }
        let Some(place) = self.room_mut(frame).last_chunk_mut() else {
            return false;
        };
        *place = request::checksum(start, field);
        frame.note_request();
        true
    }

    /// What was asked for, if anything was: start and field.
    pub(super) fn requested_checksum(&self, frame: &Frame) -> Option<(usize, usize)> {
        let place = self.room(frame).last_chunk()?;
        request::read(place)
    }

    /// The room in front of a frame, whose holder owns it as he owns the rest of the chunk.
    #[inline]
    fn room_as_frame(&self, frame: &Frame) -> Frame {
        let len = frame.addr & (self.bounds.chunk - 1);
        Frame::at(frame.addr - len, len)
    }

    /// Takes a chunk from the pool: for the fill ring.
    #[inline]
    pub(super) fn take(&mut self) -> Option<u32> {
        // With none, below 0 and beyond all places.
        let last = self.free_len.wrapping_sub(1);
        let chunk = *self.free.get(last)?;
        self.free_len = last;
        #[cfg(debug_assertions)]
        if let Some(in_pool) = self.in_pool.get_mut(self.bounds.index(chunk)) {
            *in_pool = false;
        }
        Some(chunk)
    }

    /// Puts the chunk around `addr` back into the pool. `false`, and nothing changed, when there is no such chunk, or the
    /// pool is full already (in debug builds: when the chunk is in it already). The address may come from the kernel,
    /// which has been seen to complete addresses that it should not (6.18 completes even an invalid descriptor).
    #[inline]
    pub(super) fn recover(&mut self, addr: u64) -> bool {
        let Some(chunk) = self.bounds.chunk_of(addr) else {
            return false;
        };
        let Some(place) = self.free.get_mut(self.free_len) else {
            return false;
        };
        #[cfg(debug_assertions)]
        match self.in_pool.get_mut(self.bounds.index(chunk)) {
            Some(in_pool) if !*in_pool => *in_pool = true,
            _ => return false,
        }
        *place = chunk;
        self.free_len += 1;
        true
    }

    /// The mapping, to be registered with a socket.
    pub(super) fn area(&self) -> &Arc<Mapping> {
        &self.area
    }

    /// The limits that an address is judged by.
    #[inline]
    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// A pointer to the byte at `addr`, which the caller has found to be inside.
    #[inline]
    fn at(&self, addr: u32) -> *mut u8 {
        debug_assert!(u64::from(addr) <= self.bounds.area_len);
        // SAFETY: `addr` is at most the area's length, so the pointer stays inside the mapping or at its end.
        unsafe { self.area.start().as_ptr().add(addr as usize) }
    }
}
