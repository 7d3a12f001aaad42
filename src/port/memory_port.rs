//! The in-memory twin of an AF_XDP port: the same ring code over plain memory, with the kernel's ends played by whoever
//! holds it. Tests and benchmarks run a whole worker on it without a device and without root.

use std::io;
use std::os::fd::RawFd;

use super::ring::{Consumer, Descriptor, Producer};
use super::rings::{RingMemory, Rings};
use super::umem::ROOM;
use super::{Batch, Frame, Port, PortStatistics, Umem, Usage};
use crate::wire::checksum;

/// The twin: our ends of four rings as [`Port`], the kernel's as [`Self::deliver`], [`Self::collect`] and
/// [`Self::complete`].
#[derive(Debug)]
pub struct MemoryPort {
    rings: Rings,
    kernel: KernelEnds,
    statistics: PortStatistics,
    finishes_checksums: bool,
    link_down: bool,
}

#[derive(Debug)]
struct KernelEnds {
    fill: Consumer<u64>,
    completion: Producer<u64>,
    rx: Producer<Descriptor>,
    tx: Consumer<Descriptor>,
}

impl MemoryPort {
    /// A port whose four rings have `rings` entries each.
    ///
    /// # Panics
    /// When that is no power of two below 2^32, or there is no memory for it.
    pub fn new(rings: usize) -> Self {
        let size = u32::try_from(rings).expect("a ring has less than 2^32 entries");
        let memory = RingMemory::plain(size).expect("a power of two, and memory for the rings");
        let kernel = KernelEnds {
            fill: memory.fill.clone().consumer(),
            completion: memory.completion.clone().producer(),
            rx: memory.rx.clone().producer(),
            tx: memory.tx.clone().consumer(),
        };
        Self {
            rings: Rings::new(memory, None, usize::MAX),
            kernel,
            statistics: PortStatistics::default(),
            finishes_checksums: false,
            link_down: false,
        }
    }

    /// The same, as of a device that finishes checksums: [`Self::collect`] does.
    #[must_use]
    pub fn with_offload(self) -> Self {
        Self {
            rings: self.rings.with_requests(),
            finishes_checksums: true,
            ..self
        }
    }

    /// As the kernel on reception: takes a fill descriptor, copies the bytes into its buffer behind [`ROOM`], and puts it on
    /// the receive ring; or as many as the frame needs, where chunks have several buffers. When it cannot, it counts as the
    /// kernel does (`xsk.c`, copy mode) and returns `false`: the frame is empty or longer than the buffers behind the room
    /// (`rx_dropped`), the fill ring has too few (`rx_dropped`) or is empty (`rx_fill_ring_empty_descs`, too), or the receive
    /// ring is full (`rx_ring_full`).
    pub fn deliver(&mut self, umem: &mut Umem, bytes: &[u8]) -> bool {
        let bounds = umem.bounds();
        self.rings.bounds = Some(bounds);
        let part_len = bounds.buffer as usize - ROOM;
        let count = bytes.len().div_ceil(part_len) as u32;
        if count == 0 || (count > 1 && !bounds.has_chains()) {
            self.statistics.rx_dropped += 1;
            return false;
        }
        let free = self.kernel.fill.pending();
        if free < count {
            self.statistics.rx_fill_ring_empty_descs += u64::from(free == 0);
            self.statistics.rx_dropped += 1;
            return false;
        }
        // Looked at before a descriptor is taken: the twin has no hands of its own to hold a frame in.
        if self.kernel.rx.free(count) < count {
            self.statistics.rx_ring_full += 1;
            return false;
        }
        let mut parts = bytes.chunks(part_len).peekable();
        while let Some(part) = parts.next() {
            if !self.deliver_part(umem, part, parts.peek().is_some()) {
                return false;
            }
        }
        true
    }

    fn deliver_part(&mut self, umem: &mut Umem, bytes: &[u8], more: bool) -> bool {
        let bounds = umem.bounds();
        let mut chunk = None;
        self.kernel.fill.consume(1, |addr| chunk = Some(addr));
        let frame = chunk.and_then(|chunk| bounds.frame(chunk + ROOM as u64, 0));
        let Some(mut frame) = frame else {
            self.statistics.rx_invalid_descs += 1;
            return false;
        };
        umem.fill(&mut frame, bytes);
        let mut descriptor = Some(Descriptor {
            addr: u64::from(frame.addr),
            len: frame.bytes(),
            options: if more { libc::XDP_PKT_CONTD } else { 0 },
        });
        self.kernel.rx.produce(1, || descriptor.take()) == 1
    }

    /// As the kernel on transmission: takes the oldest transmit descriptors, as many as the frame has, returns its bytes, and
    /// puts each on the completion ring. `None` when there is none, or the completion ring has no room for all of them.
    pub fn collect(&mut self, umem: &mut Umem) -> Option<Vec<u8>> {
        let bounds = umem.bounds();
        let buffers = self.oldest()?;
        let mut bytes = Vec::new();
        self.finish(buffers, |descriptor| {
            if let Some(part) = bounds.part(descriptor.addr, descriptor.len) {
                bytes.extend_from_slice(umem.bytes(&part));
                if descriptor.options & libc::XDP_TX_METADATA != 0 {
                    finish_checksum(&mut bytes, umem.requested_checksum(&part));
                }
            }
        });
        Some(bytes)
    }

    /// The same without copying out: completes up to `n` frames; returns how many.
    pub fn complete(&mut self, n: usize) -> usize {
        if !self.rings.bounds.is_some_and(|bounds| bounds.has_chains()) {
            return self.finish(u32::try_from(n).unwrap_or(u32::MAX), |_| ());
        }
        let mut count = 0;
        while count < n
            && let Some(buffers) = self.oldest()
        {
            self.finish(buffers, |_| ());
            count += 1;
        }
        count
    }

    /// Frames now inside the port's four rings.
    pub fn frames_held(&self) -> usize {
        self.rings.frames_held()
    }

    /// The longest frame that the port sends: MTU + 18. Without this there is no limit but the chunk.
    pub fn limit_frame_len(&mut self, frame_len_max: usize) {
        self.rings.frame_len_max = frame_len_max;
    }

    /// As the device going down or coming up: while it is down, [`Port::transmit`] takes nothing.
    pub fn set_link_down(&mut self, down: bool) {
        self.link_down = down;
    }

    /// How many descriptors the oldest frame in the transmit ring has, when the completion ring has room for them.
    fn oldest(&mut self) -> Option<u32> {
        let mut buffers = 0;
        loop {
            let descriptor = self.kernel.tx.peek(buffers)?;
            buffers += 1;
            if descriptor.options & libc::XDP_PKT_CONTD == 0 {
                return (self.kernel.completion.free(buffers) == buffers).then_some(buffers);
            }
        }
    }

    fn finish(&mut self, limit: u32, mut see: impl FnMut(Descriptor)) -> usize {
        let limit = self.kernel.completion.free(limit.min(self.rings.tx.size()));
        let completion = &mut self.kernel.completion;
        self.kernel.tx.consume(limit, |descriptor| {
            see(descriptor);
            let mut addr = Some(descriptor.addr);
            completion.produce(1, || addr.take());
        })
    }
}

/// As the kernel finishes one (`skb_checksum_help`).
fn finish_checksum(bytes: &mut [u8], request: Option<(usize, usize)>) {
    let Some((start, field)) = request else {
        return;
    };
    let sum = checksum::sum(bytes.get(start..).unwrap_or_default());
    let place = bytes.get_mut(start + field..);
    if let Some(place) = place.and_then(<[u8]>::first_chunk_mut) {
        *place = checksum::udp_field(checksum::finish(sum)).to_be_bytes();
    }
}

impl Port for MemoryPort {
    #[inline]
    fn receive(&mut self, umem: &mut Umem, batch: &mut Batch) -> usize {
        self.rings.receive(umem, batch)
    }

    #[inline]
    fn transmit(&mut self, batch: &mut Batch) -> usize {
        if self.link_down {
            return 0;
        }
        self.rings.transmit(batch)
    }

    #[inline]
    fn has_room(&mut self, frames: usize) -> bool {
        self.rings.has_room(frames)
    }

    #[inline]
    fn reclaim(&mut self, umem: &mut Umem) -> usize {
        self.rings.reclaim(umem)
    }

    #[inline]
    fn refill(&mut self, umem: &mut Umem) -> usize {
        self.rings.refill(umem)
    }

    #[inline]
    fn take_usage(&mut self) -> Usage {
        std::mem::take(&mut self.rings.usage)
    }

    fn poll_fd(&self) -> Option<RawFd> {
        None
    }

    fn statistics(&self) -> io::Result<PortStatistics> {
        Ok(self.statistics)
    }

    #[inline]
    fn accepts(&self, frame: &Frame) -> bool {
        self.rings.accepts(frame)
    }

    #[inline]
    fn finishes_checksums(&self) -> bool {
        self.finishes_checksums
    }

    #[inline]
    fn link_down(&self) -> bool {
        self.link_down
    }
}
