//! The memory that frames live in (UMEM), and the pool of free ones.
//!
//! The area is one mapping of equal chunks. [`Umem`] is the single owner of the pool and the only one that reads or writes
//! bytes; ports hold the mapping too, but only to register it with the kernel and to keep it alive as long as the kernel
//! may write to it.
//!
//! Whoever holds a [`Frame`] owns its chunk, and every access borrows the [`Umem`] besides: two slices of one chunk cannot
//! exist, and the kernel writes only to chunks in its rings, for which no `Frame` exists.
#![allow(unsafe_code)] // WHY: bytes that the kernel writes by itself cannot be a `Vec`; slices are made here and only here.

use std::io;
use std::slice;
use std::sync::Arc;

use super::mapping::Mapping;
use super::{Batch, Frame, numa, request};
use crate::prefetch;

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

/// What kind of pages the area has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// 2 MiB pages from the system's pool (`vm.nr_hugepages`): one TLB entry for hundreds of frames.
    Huge,
    /// The system's usual pages, because the pool had not enough huge ones.
    Ordinary,
}

impl Pages {
    /// As shown to people: `2 MiB`, `ordinary`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Huge => "2 MiB",
            Self::Ordinary => "ordinary",
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

/// Size of the area and of its chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Bytes in use: a multiple of `chunk`, at most 4 GiB.
    pub(super) area_len: u64,
    /// Bytes a chunk, a power of two.
    pub(super) chunk: u32,
    /// Bytes of each of its buffers: what the kernel calls a chunk. A power of two.
    pub(super) buffer: u32,
}

impl Bounds {
    fn new(config: UmemConfig) -> io::Result<Self> {
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
    pub(super) fn has_chains(&self) -> bool {
        self.chunk > self.buffer
    }

    /// How many buffers a chunk has. By shifts, here and below: a division by what the compiler does not know could panic.
    #[inline]
    pub(super) fn buffers_per_chunk(&self) -> u32 {
        self.chunk >> self.buffer.trailing_zeros()
    }

    /// How many buffers the frame lies in.
    #[inline]
    pub(super) fn buffers(&self, frame: &Frame) -> u32 {
        let before = frame.addr & (self.buffer - 1);
        (before + frame.bytes() + (self.buffer - 1)) >> self.buffer.trailing_zeros()
    }

    /// Start of the chunk around `addr`, when there is one.
    #[inline]
    pub(super) fn chunk_of(&self, addr: u64) -> Option<u32> {
        (addr < self.area_len).then_some(addr as u32 & !(self.chunk - 1))
    }

    /// Which chunk, counted from the area's start, an address in it is in.
    #[inline]
    pub(super) fn index(&self, addr: u32) -> usize {
        (addr >> self.chunk.trailing_zeros()) as usize
    }

    /// Whether `len` bytes from `addr` on are inside the area.
    #[inline]
    fn contains(&self, addr: u64, len: u32) -> bool {
        addr + u64::from(len) <= self.area_len
    }

    /// A frame of what the kernel says it put there; `None` when that is not inside one chunk.
    #[inline]
    pub(super) fn frame(&self, addr: u64, len: u32) -> Option<Frame> {
        let start = u64::from(self.chunk_of(addr)?);
        let fits = addr + u64::from(len) <= start + u64::from(self.chunk);
        fits.then_some(Frame::at(addr as u32, len))
    }

    /// The same, of a chunk of several buffers: inside one of these.
    #[inline]
    pub(super) fn part(&self, addr: u64, len: u32) -> Option<Frame> {
        let last = addr.checked_add(u64::from(len))?.checked_sub(1)?;
        let within = u64::from(self.buffer - 1);
        self.frame(addr, len)
            .filter(|_| addr | within == last | within)
    }

    /// Whether the frame lies in one chunk of the area.
    #[inline]
    pub(super) fn holds(&self, frame: &Frame) -> bool {
        self.frame(u64::from(frame.addr), frame.bytes()).is_some()
    }
}

/// Huge pages when the pool has enough of them, else ordinary ones; present from the start either way.
fn map_area(len: usize) -> io::Result<(Mapping, Pages)> {
    const HUGE: usize = 2 << 20;
    let huge_2m =
        libc::MAP_HUGETLB | (HUGE.trailing_zeros() as libc::c_int) << libc::MAP_HUGE_SHIFT;
    // The kernel reserves huge pages here and now, so this fails rather than a later access.
    if let Ok(area) = Mapping::anonymous(len.next_multiple_of(HUGE), huge_2m | libc::MAP_POPULATE) {
        return Ok((area, Pages::Huge));
    }
    let area = ordinary_area(len).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!(
                "{} KiB for frames: {error}; give fewer frames, or free memory",
                len / 1024
            ),
        )
    })?;
    Ok((area, Pages::Ordinary))
}

/// Ordinary pages, which the kernel makes huge where it can (`transparent_hugepage`). Besides the TLB this serves whoever
/// waits for the end of a killed process: its memory is taken down before its descriptors are closed, page by page.
fn ordinary_area(len: usize) -> io::Result<Mapping> {
    let area = Mapping::anonymous(len, 0)?;
    // Asked before the pages are there; a kernel without them makes small ones.
    let _ = area.advise(libc::MADV_HUGEPAGE);
    match area.advise(libc::MADV_POPULATE_WRITE) {
        // Before Linux 5.14.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            Mapping::anonymous(len, libc::MAP_POPULATE)
        }
        outcome => outcome.map(|()| area),
    }
}

fn lock_error(error: &io::Error, len: usize) -> io::Error {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a local of the right type.
    unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    io::Error::new(
        error.kind(),
        format!(
            "cannot lock {} KiB for frames: {error}; RLIMIT_MEMLOCK is {} KiB: raise it (LimitMEMLOCK=infinity in a \
             systemd unit, `ulimit -l unlimited` in a shell), or grant CAP_IPC_LOCK",
            len / 1024,
            limit.rlim_cur / 1024
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn umem(frames: u32) -> Umem {
        Umem::new(UmemConfig {
            chunk: ChunkSize::K2,
            frames,
            lock: false,
        })
        .unwrap()
    }

    #[test]
    fn every_chunk_is_handed_out_once() {
        let mut umem = umem(16);
        let mut chunks: Vec<u32> = std::iter::from_fn(|| umem.allocate())
            .map(|frame| frame.addr)
            .collect();
        chunks.sort_unstable();
        assert_eq!(chunks, (0..16).map(|n| n * 2048 + 256).collect::<Vec<_>>());
        assert_eq!(umem.free(), 0);
    }

    #[test]
    fn the_frame_released_last_is_allocated_first() {
        let mut umem = umem(4);
        let frame = umem.allocate().unwrap();
        let other = umem.allocate().unwrap();
        let addr = frame.addr;
        umem.release(other);
        umem.release(frame);
        assert_eq!(umem.allocate().unwrap().addr, addr);
    }

    #[test]
    fn push_and_pull_move_the_start_and_leave_the_payload() {
        let mut umem = umem(2);
        let mut frame = umem.allocate().unwrap();
        assert!(frame.is_empty());
        assert!(umem.fill(&mut frame, b"payload"));
        let head = umem.push(&mut frame, 4).unwrap();
        assert_eq!(head.len(), 11);
        head[..4].copy_from_slice(b"head");
        assert_eq!(umem.bytes(&frame), b"headpayload");
        assert!(umem.pull(&mut frame, 4));
        assert_eq!(umem.bytes(&frame), b"payload");
        assert!(!umem.pull(&mut frame, 8));
        assert!(umem.truncate(&mut frame, 3));
        assert!(!umem.truncate(&mut frame, 4));
        assert_eq!(umem.bytes(&frame), b"pay");
    }

    #[test]
    fn push_stops_at_the_start_of_the_chunk() {
        let mut umem = umem(2);
        let _first = umem.allocate().unwrap();
        let mut frame = umem.allocate().unwrap();
        assert_eq!(umem.push(&mut frame, ROOM + 1), None);
        assert_eq!(frame.len(), 0);
        assert_eq!(umem.push(&mut frame, ROOM).unwrap().len(), ROOM);
        assert_eq!(umem.room_in_front(&frame), 0);
        assert_eq!(umem.push(&mut frame, 1), None);
        assert_eq!(umem.push(&mut frame, usize::MAX), None);
    }

    #[test]
    fn pull_never_leaves_the_chunk() {
        let mut umem = umem(2);
        let mut frame = umem.allocate().unwrap();
        assert!(umem.fill(&mut frame, &[7; 2048 - ROOM]));
        assert!(!umem.pull(&mut frame, 2048 - ROOM));
        assert!(umem.pull(&mut frame, 2048 - ROOM - 1));
        assert_eq!(umem.bytes(&frame), [7]);
        assert!(!umem.pull(&mut frame, 1));
        umem.release(frame);
        assert_eq!(umem.allocate().unwrap().addr, ROOM as u32);
    }

    #[test]
    fn fill_stops_at_the_end_of_the_chunk() {
        let mut umem = umem(1);
        let mut frame = umem.allocate().unwrap();
        assert!(!umem.fill(&mut frame, &[0; 2048 - ROOM + 1]));
        assert!(frame.is_empty());
        assert!(umem.fill(&mut frame, &[7; 2048 - ROOM]));
        assert_eq!(umem.bytes(&frame), [7; 2048 - ROOM]);
    }

    #[test]
    fn a_duplicate_is_a_frame_of_its_own_with_the_same_room() {
        let mut umem = umem(2);
        let mut frame = umem.allocate().unwrap();
        assert!(umem.fill(&mut frame, b"abcdef"));
        assert!(umem.pull(&mut frame, 2));
        let mut copy = umem.duplicate(&frame).unwrap();
        assert_eq!(umem.room_in_front(&copy), ROOM + 2);
        umem.bytes_mut(&mut copy)[0] = b'X';
        assert_eq!(umem.bytes(&frame), b"cdef");
        assert_eq!(umem.bytes(&copy), b"Xdef");
        assert_eq!(umem.duplicate(&copy), None);
    }

    #[test]
    fn an_address_that_is_none_is_not_recovered() {
        let mut umem = umem(4);
        let frame = umem.allocate().unwrap();
        assert!(!umem.recover(4 * 2048));
        assert!(!umem.recover(u64::MAX));
        assert!(!umem.recover(u64::from(u32::MAX) + 1));
        assert_eq!(umem.free(), 3);
        assert!(umem.recover(u64::from(frame.addr) + 17));
        assert_eq!(umem.free(), 4);
        // A pool that has everything takes no more, in any build.
        assert!(!umem.recover(0));
        assert_eq!(umem.free(), 4);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "released twice")]
    fn a_frame_released_twice_is_caught() {
        let mut umem = umem(4);
        let frame = umem.allocate().unwrap();
        let _other = umem.allocate().unwrap();
        let twin = Frame::at(frame.addr, 0);
        umem.release(frame);
        umem.release(twin);
    }

    #[test]
    fn a_request_is_of_the_frame_as_it_is_and_of_no_other() {
        let mut umem = umem(2);
        let mut frame = umem.allocate().unwrap();
        assert!(umem.fill(&mut frame, &[0; 60]));
        assert!(
            !umem.request_checksum(&mut frame, 34, 25),
            "beyond its bytes"
        );
        assert!(!frame.has_request());
        assert!(umem.request_checksum(&mut frame, 34, 24));
        assert!(frame.has_request());
        assert_eq!(
            (frame.len(), umem.bytes(&frame), umem.room_in_front(&frame)),
            (60, &[0; 60][..], ROOM)
        );
        assert_eq!(umem.requested_checksum(&frame), Some((34, 24)));
        let copy = umem.duplicate(&frame).unwrap();
        assert!(!copy.has_request());
        umem.release(copy);
        for change in [
            (|umem: &mut Umem, frame: &mut Frame| umem.push(frame, 8).is_some())
                as fn(&mut Umem, &mut Frame) -> bool,
            |umem, frame| umem.pull(frame, 8),
            |umem, frame| umem.truncate(frame, 59),
            |umem, frame| umem.fill(frame, &[1; 60]),
        ] {
            assert!(umem.request_checksum(&mut frame, 34, 6));
            assert!(change(&mut umem, &mut frame) && !frame.has_request());
        }
        // Room for all but one byte of it.
        let before = umem.room_in_front(&frame);
        assert!(umem.push(&mut frame, before - request::LEN + 1).is_some());
        assert!(!umem.request_checksum(&mut frame, 34, 6));
        assert!(umem.pull(&mut frame, 1));
        assert!(umem.request_checksum(&mut frame, 34, 6));
        umem.release(frame);
        assert_eq!(umem.free(), 2);
    }

    #[test]
    fn a_descriptor_must_lie_in_one_chunk() {
        let bounds = umem(2).bounds();
        assert!(bounds.frame(256, 1792).is_some());
        assert!(bounds.frame(256, 1793).is_none());
        assert!(bounds.frame(4095, 1).is_some());
        assert!(bounds.frame(4096, 0).is_none());
        assert!(bounds.frame(u64::MAX, u32::MAX).is_none());
    }

    #[test]
    fn a_chunk_of_several_buffers_holds_one_frame_that_comes_in_parts() {
        let mut umem = Umem::new(UmemConfig {
            chunk: ChunkSize::K16,
            frames: 2,
            lock: false,
        })
        .unwrap();
        let bounds = umem.bounds();
        assert!(bounds.has_chains() && !self::umem(1).bounds().has_chains());
        assert!(bounds.part(16_384 + 256, 3840).is_some());
        assert!(bounds.part(16_384 + 256, 3841).is_none());
        assert!(bounds.part(2 * 16_384, 1).is_none());
        assert!(bounds.part(0, 0).is_none() && bounds.part(u64::MAX, 1).is_none());

        let (mut frame, mut tail) = (umem.allocate().unwrap(), umem.allocate().unwrap());
        assert!(umem.fill(&mut frame, &[1; 3840]) && umem.fill(&mut tail, &[2; 3840]));
        assert_eq!(bounds.buffers(&frame), 1);
        assert!(umem.append(&mut frame, &tail));
        assert_eq!((frame.len(), bounds.buffers(&frame)), (7680, 2));
        assert!(umem.push(&mut frame, 50).is_some());
        assert_eq!(bounds.buffers(&frame), 2);
        assert!(umem.append(&mut frame, &tail) && umem.append(&mut frame, &tail));
        assert_eq!(bounds.buffers(&frame), 4);
        assert!(!umem.append(&mut frame, &tail), "the chunk is full");
        assert_eq!(umem.bytes(&frame)[50..][..3840], [1; 3840]);
        assert_eq!(umem.bytes(&frame)[50 + 3840..], [2; 3 * 3840]);
        assert!(umem.pull(&mut frame, 50 + 4096) && umem.truncate(&mut frame, 10));
        assert_eq!(umem.room_in_front(&frame), 256 + 4096);
        umem.release(frame);
        umem.release(tail);
        assert_eq!(umem.free(), 2);
    }

    #[test]
    fn impossible_sizes_are_refused_with_the_limit() {
        let too_many = UmemConfig {
            chunk: ChunkSize::K4,
            frames: (1 << 20) + 1,
            lock: false,
        };
        let text = Umem::new(too_many).unwrap_err().to_string();
        assert!(text.contains("between 1 and 1048576"), "{text}");
        assert!(
            Umem::new(UmemConfig {
                frames: 0,
                ..too_many
            })
            .is_err()
        );
    }

    #[test]
    fn huge_pages_are_used_when_the_system_has_them() {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
        let count = |name: &str| -> u64 {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
            line.map_or(0, |count| count.trim().parse().unwrap())
        };
        let pages = umem(1024).pages();
        if count("HugePages_Total:") == 0 {
            assert_eq!(pages, Pages::Ordinary);
        } else if count("HugePages_Free:") > count("HugePages_Rsvd:") + 64 {
            // Far more than all tests together take at a time.
            assert_eq!(pages, Pages::Huge);
        }
    }

    #[test]
    fn the_lock_error_says_what_to_do() {
        let text = lock_error(&io::Error::from_raw_os_error(libc::ENOMEM), 4 << 20).to_string();
        assert!(
            text.contains("4096 KiB")
                && text.contains("RLIMIT_MEMLOCK")
                && text.contains("CAP_IPC_LOCK"),
            "{text}"
        );
    }
}
