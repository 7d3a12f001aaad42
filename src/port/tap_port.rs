//! One queue of a TAP as a [`Port`]: superframes come out of it and go into it whole.
//!
//! ```text
//!   | vnet header | ...        room        | frame                                         | free           |
//!   chunk start                            ^ Frame::addr
//! ```
//!
//! Superframes live in an [`Umem`] of their own with large chunks, of which no socket knows; a frame that came out of a
//! TAP has its header ([`crate::wire::vnet`]) at the start of its chunk, where outer headers never reach. So all that works
//! on frames works on superframes, and goes by the header where it has to.
//!
//! A queue has no rings: every frame is a system call, and one that was sent is done with when the call returns. The lists
//! here stand for the fill and the completion ring, so that chunks go round as in every port.
//!
//! A TAP lives as long as a descriptor of one of its queues: it needs nobody to remove it.
#![allow(unsafe_code)] // WHY: `readv(2)` and `writev(2)` on memory that the kernel fills; slices of it are made in `umem` alone.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use super::mapping::Mapping;
use super::umem::{Bounds, ROOM, Umem};
use super::{BATCH, Batch, Frame, Port, PortStatistics, Usage};

/// The length of the vnet header, which `wire::vnet` reads.
const HEADER_LEN: usize = 24;
/// A header, and all that a batch can hold.
const PARTS_MAX: usize = 1 + BATCH;
/// The header of a frame with which nothing is left to do.
const FINISHED: [u8; HEADER_LEN] = [0; HEADER_LEN];
/// Chunks that wait for frames: as many as a turn takes. Few, so that a batch of superframes stays in the processor's cache.
const FILL: usize = 8;
/// An Ethernet header: a shorter frame is none.
const FRAME_LEN_MIN: usize = 14;

/// One queue of a TAP, whose descriptor does not block.
#[derive(Debug)]
pub struct TapPort {
    queue: OwnedFd,
    /// Where frames are received; none where nobody sends.
    receives: Option<Area>,
    /// Where the frames are that it sends, and whether each has a vnet header at the start of its chunk.
    sends: Area,
    with_headers: bool,
    /// Starts of chunks to receive into.
    fill: Vec<u32>,
    /// Starts of chunks of frames that were sent. Never more than the area has.
    done: Vec<u32>,
    statistics: PortStatistics,
    /// Since they were last told.
    calls: u32,
    link_down: bool,
    /// The kernel takes no frame like the one that was tried last.
    refused: bool,
}

/// A worker's memory, as far as a port needs to know it.
#[derive(Debug)]
struct Area {
    mapping: Arc<Mapping>,
    bounds: Bounds,
}

impl Area {
    fn of(umem: &Umem) -> Self {
        Self {
            mapping: Arc::clone(umem.area()),
            bounds: umem.bounds(),
        }
    }

    fn is_of(&self, umem: &Umem) -> bool {
        Arc::ptr_eq(&self.mapping, umem.area())
    }

    /// A part of the area for the kernel, which the caller has found to be inside.
    fn part(&self, addr: u32, len: usize) -> libc::iovec {
        libc::iovec {
            iov_base: self
                .mapping
                .start()
                .as_ptr()
                .wrapping_add(addr as usize)
                .cast(),
            iov_len: len,
        }
    }
}

impl TapPort {
    /// A queue of an access TAP: superframes come out of it into `superframes`, and finished frames of `frames` go into it.
    pub fn access(queue: OwnedFd, superframes: &Umem, frames: &Umem) -> Self {
        Self::new(queue, Some(superframes), frames, false)
    }

    /// A queue of a wire TAP: what is in `superframes`, with its header, goes into it, and nothing comes out.
    pub fn wire(queue: OwnedFd, superframes: &Umem) -> Self {
        Self::new(queue, None, superframes, true)
    }

    fn new(queue: OwnedFd, receives: Option<&Umem>, sends: &Umem, with_headers: bool) -> Self {
        Self {
            queue,
            receives: receives.map(Area::of),
            done: Vec::with_capacity(sends.frames() as usize),
            sends: Area::of(sends),
            with_headers,
            fill: Vec::with_capacity(FILL),
            statistics: PortStatistics::default(),
            calls: 0,
            link_down: false,
            refused: false,
        }
    }

    /// Sends the bytes of all of these frames, one behind the other, as one frame with this vnet header; `false`, and nothing
    /// is taken, when that cannot be.
    pub fn transmit_train(&mut self, header: &[u8; HEADER_LEN], train: &mut Batch) -> bool {
        let fits = self.done.len() + train.len() <= self.done.capacity();
        if !fits || !train.iter().all(|frame| self.sends.bounds.holds(frame)) {
            return false;
        }
        let mut parts = [libc::iovec {
            iov_base: header.as_ptr().cast_mut().cast(),
            iov_len: HEADER_LEN,
        }; PARTS_MAX];
        for (part, frame) in parts.iter_mut().skip(1).zip(train.iter()) {
            *part = self.sends.part(frame.addr, frame.len());
        }
        loop {
            self.calls += 1;
            match self.write_parts(parts.get(..=train.len()).unwrap_or(&[])) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.note(&error);
                    return false;
                }
            }
        }
        self.link_down = false;
        for frame in train.drain() {
            put(&mut self.done, frame.addr);
        }
        true
    }

    /// Reads one frame into a chunk that nobody else has. `None` when it did not fit.
    fn read(&self, area: &Area, chunk: u32) -> io::Result<Option<Frame>> {
        let room = area.bounds.chunk as usize - ROOM;
        let parts = [
            area.part(chunk, HEADER_LEN),
            area.part(chunk + ROOM as u32, room),
        ];
        // SAFETY: both parts lie in one chunk of the mapping. It was taken from the pool and stands in no list but this
        // port's, so no slice of it exists.
        let got = unsafe { libc::readv(self.queue.as_raw_fd(), parts.as_ptr(), 2) };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        // A frame that fills all there is was cut.
        let len = got.checked_sub(HEADER_LEN).filter(|len| *len < room);
        Ok(len.and_then(|len| {
            area.bounds
                .frame(u64::from(chunk) + ROOM as u64, len as u32)
        }))
    }

    fn write(&self, frame: &Frame) -> io::Result<()> {
        let header = if self.with_headers {
            let chunk = frame.addr & !(self.sends.bounds.chunk - 1);
            self.sends.part(chunk, HEADER_LEN)
        } else {
            libc::iovec {
                iov_base: FINISHED.as_ptr().cast_mut().cast(),
                iov_len: HEADER_LEN,
            }
        };
        self.write_parts(&[header, self.sends.part(frame.addr, frame.len())])
    }

    /// Parts that hold a vnet header, or frames of the area that were found to be inside one chunk.
    fn write_parts(&self, parts: &[libc::iovec]) -> io::Result<()> {
        let count = parts.len() as libc::c_int;
        // SAFETY: the frames lie in the mapping, as the callers have seen, and so do headers at the start of their chunks;
        // other headers are as long as their parts say. The kernel only reads, and the frames keep other writers away.
        let sent = unsafe { libc::writev(self.queue.as_raw_fd(), parts.as_ptr(), count) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Sends the frame at the front of the batch; whether to go on.
    fn send_first(&mut self, batch: &mut Batch) -> bool {
        let Some(frame) = batch.iter().next() else {
            return false;
        };
        if !self.accepts(frame) {
            self.pass_over(batch);
            return true;
        }
        self.calls += 1;
        match self.write(frame) {
            Ok(()) => {
                self.link_down = false;
                if let Some(frame) = batch.pop() {
                    put(&mut self.done, frame.addr);
                }
                true
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Err(error) => {
                self.note(&error);
                self.refused = error.raw_os_error() == Some(libc::EINVAL);
                false
            }
        }
    }

    /// What the kernel's answer says of the frame, or of the device.
    fn note(&mut self, error: &io::Error) {
        match error.raw_os_error() {
            // What the header asks for cannot be done with this frame.
            Some(libc::EINVAL) => self.statistics.tx_invalid_descs += 1,
            // The device is down, or has no such queue any more.
            Some(libc::EIO | libc::EBADFD | libc::ENODEV | libc::ENXIO) => self.link_down = true,
            _ => {}
        }
    }

    /// To the back with a frame that is never sent: it holds up no others.
    fn pass_over(&self, batch: &mut Batch) {
        if let Some(frame) = batch.pop() {
            // There is room: it has just left.
            drop(batch.push(frame));
        }
    }
}

impl Port for TapPort {
    fn receive(&mut self, _: &mut Umem, batch: &mut Batch) -> usize {
        let Some(area) = self.receives.take() else {
            return 0;
        };
        let before = batch.len();
        for _ in 0..BATCH.min(batch.room()) {
            let Some(chunk) = self.fill.pop() else { break };
            self.calls += 1;
            let lost = match self.read(&area, chunk) {
                Ok(Some(frame)) => {
                    // There is room: no more than that was asked for.
                    drop(batch.push(frame));
                    continue;
                }
                // One that was cut, or of a kind that the header has no word for, is gone.
                Ok(None) => true,
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => true,
                Err(_) => false,
            };
            put(&mut self.fill, chunk);
            if !lost {
                break;
            }
            self.statistics.rx_dropped += 1;
        }
        self.receives = Some(area);
        batch.len() - before
    }

    fn transmit(&mut self, batch: &mut Batch) -> usize {
        let before = self.done.len();
        self.refused = false;
        // Each frame is looked at once, but for interruptions.
        for _ in 0..batch.len() {
            if self.done.len() == self.done.capacity() || !self.send_first(batch) {
                break;
            }
        }
        self.done.len() - before
    }

    fn accepts(&self, frame: &Frame) -> bool {
        frame.len() >= FRAME_LEN_MIN && self.sends.bounds.holds(frame)
    }

    fn refuses_first(&self) -> bool {
        self.refused
    }

    fn link_down(&self) -> bool {
        self.link_down
    }

    /// Frames that were sent, if they are of this memory.
    fn reclaim(&mut self, umem: &mut Umem) -> usize {
        if self.done.is_empty() || !self.sends.is_of(umem) {
            return 0;
        }
        self.done
            .drain(..)
            .filter(|addr| umem.recover(u64::from(*addr)))
            .count()
    }

    /// With chunks of this memory, if it is the one that frames are received in.
    fn refill(&mut self, umem: &mut Umem) -> usize {
        if !self.receives.as_ref().is_some_and(|area| area.is_of(umem)) {
            return 0;
        }
        let before = self.fill.len();
        while self.fill.len() < FILL {
            let Some(chunk) = umem.take() else { break };
            put(&mut self.fill, chunk);
        }
        self.fill.len() - before
    }

    fn take_usage(&mut self) -> Usage {
        Usage {
            calls: std::mem::take(&mut self.calls),
            ..Usage::default()
        }
    }

    fn poll_fd(&self) -> Option<RawFd> {
        self.receives.as_ref().map(|_| self.queue.as_raw_fd())
    }

    /// Frames that could not be received count as `rx_dropped`, those that the kernel refused as `tx_invalid_descs`.
    fn statistics(&self) -> io::Result<PortStatistics> {
        Ok(self.statistics)
    }
}

/// Adds to a list that has room for all that there is, with no code that would make more.
#[inline]
fn put(list: &mut Vec<u32>, addr: u32) {
    debug_assert!(list.len() < list.capacity());
    if list.len() < list.capacity() {
        list.push(addr);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::port::{ChunkSize, UmemConfig};

    fn umem(chunk: ChunkSize, frames: u32) -> Umem {
        Umem::new(UmemConfig {
            chunk,
            frames,
            lock: false,
        })
        .unwrap()
    }

    /// A datagram socket keeps frames apart as a TAP does.
    fn queue() -> (OwnedFd, UnixDatagram) {
        let (near, far) = UnixDatagram::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        (near.into(), far)
    }

    fn datagram(header: u8, frame: &[u8]) -> Vec<u8> {
        [&[header; HEADER_LEN], frame].concat()
    }

    #[test]
    fn a_superframe_is_received_whole_and_its_header_goes_with_it() {
        let (mut superframes, frames) = (umem(ChunkSize::Superframe, 4), umem(ChunkSize::K2, 4));
        let (queue, far) = queue();
        let mut port = TapPort::access(queue, &superframes, &frames);
        let mut batch = Batch::new();
        assert_eq!(
            port.receive(&mut superframes, &mut batch),
            0,
            "there is no chunk yet"
        );
        assert_eq!(port.refill(&mut superframes), 4);
        let long: Vec<u8> = (0..65_000).map(|n| (n % 251) as u8).collect();
        far.send(&datagram(7, &long)).unwrap();
        far.send(&datagram(8, &[9; 60])).unwrap();
        assert_eq!(port.receive(&mut superframes, &mut batch), 2);
        let first = batch.pop().unwrap();
        assert_eq!(superframes.bytes(&first), long);
        assert_eq!(superframes.room(&first)[..HEADER_LEN], [7; HEADER_LEN]);
        assert_eq!(superframes.room_in_front(&first), ROOM);

        let (queue, far) = self::queue();
        let mut wire = TapPort::wire(queue, &superframes);
        let mut out = Batch::new();
        let mut first = first;
        superframes.push(&mut first, 50).unwrap()[..50].fill(1);
        superframes.room_mut(&mut first)[0] = 5;
        out.push(first).unwrap();
        out.push(batch.pop().unwrap()).unwrap();
        assert_eq!(wire.transmit(&mut out), 2);
        let mut got = vec![0; 70_000];
        let len = far.recv(&mut got).unwrap();
        let mut expected = datagram(7, &[&[1; 50], &long[..]].concat());
        expected[0] = 5;
        assert!(got[..len] == expected);
        assert_eq!(wire.reclaim(&mut superframes), 2);
        assert_eq!(superframes.free(), 2, "two more wait for frames");
        assert_eq!(wire.poll_fd(), None);
    }

    #[test]
    fn finished_frames_of_the_workers_memory_get_an_empty_header() {
        let (mut superframes, mut frames) =
            (umem(ChunkSize::Superframe, 1), umem(ChunkSize::K2, 2));
        let (queue, far) = queue();
        let mut port = TapPort::access(queue, &superframes, &frames);
        let mut frame = frames.allocate().unwrap();
        assert!(frames.fill(&mut frame, &[3; 60]));
        let mut short = frames.allocate().unwrap();
        assert!(frames.fill(&mut short, &[3; 13]));
        let mut batch = Batch::new();
        batch.push(short).unwrap();
        batch.push(frame).unwrap();
        assert_eq!(port.transmit(&mut batch), 1, "the short one stays");
        assert_eq!(batch.len(), 1);
        let mut got = [1; 200];
        assert_eq!(far.recv(&mut got).unwrap(), HEADER_LEN + 60);
        assert_eq!(got[..HEADER_LEN + 60], datagram(0, &[3; 60]));
        assert_eq!(port.reclaim(&mut superframes), 0, "of another memory");
        assert_eq!(port.reclaim(&mut frames), 1);
        assert_eq!(port.refill(&mut frames), 0, "not received into");
        frames.release_all(&mut batch);
        assert_eq!(frames.free(), 2);
    }

    #[test]
    fn a_train_goes_as_one_frame() {
        let (superframes, mut frames) = (umem(ChunkSize::Superframe, 1), umem(ChunkSize::K2, 64));
        let (queue, far) = queue();
        let mut port = TapPort::access(queue, &superframes, &frames);
        let mut train = Batch::new();
        let mut expected = vec![6; HEADER_LEN];
        for n in 0..BATCH as u8 {
            let mut frame = frames.allocate().unwrap();
            assert!(frames.fill(&mut frame, &vec![n; 1 + usize::from(n)]));
            expected.extend(frames.bytes(&frame));
            train.push(frame).unwrap();
        }
        assert!(port.transmit_train(&[6; HEADER_LEN], &mut train));
        assert!(train.is_empty());
        let mut got = vec![0; 70_000];
        let len = far.recv(&mut got).unwrap();
        assert!(got[..len] == expected);
        assert_eq!(port.reclaim(&mut frames), BATCH);
    }

    #[test]
    fn what_does_not_fit_a_chunk_is_lost_and_counted() {
        let (mut superframes, frames) = (umem(ChunkSize::K2, 2), umem(ChunkSize::K2, 1));
        let (queue, far) = queue();
        let mut port = TapPort::access(queue, &superframes, &frames);
        port.refill(&mut superframes);
        far.send(&datagram(0, &[1; 2048 - ROOM])).unwrap();
        far.send(&datagram(0, &[1; 10])).unwrap();
        let mut batch = Batch::new();
        assert_eq!(port.receive(&mut superframes, &mut batch), 1);
        assert_eq!(batch.iter().next().unwrap().len(), 10);
        assert_eq!(port.statistics().unwrap().rx_dropped, 1);
    }

    #[test]
    fn a_queue_that_takes_no_more_keeps_the_rest() {
        let (superframes, mut frames) = (umem(ChunkSize::Superframe, 1), umem(ChunkSize::K2, 2048));
        let (queue, _far) = queue();
        let mut port = TapPort::access(queue, &superframes, &frames);
        let mut batch = Batch::new();
        let mut sent = 0;
        loop {
            while batch.room() > 0 {
                let mut frame = frames.allocate().unwrap();
                assert!(frames.fill(&mut frame, &[3; 1000]));
                batch.push(frame).unwrap();
            }
            let taken = port.transmit(&mut batch);
            sent += taken;
            if taken < BATCH {
                break;
            }
        }
        assert!(!port.link_down());
        assert_eq!(port.reclaim(&mut frames), sent);
        assert!(frames.release_all(&mut batch) > 0);
        assert_eq!(frames.free(), 2048);
    }
}
