//! The four rings of a port, and the frames that go round in them.
//!
//! ```text
//!        pool ── refill ──▶ fill ring ── kernel receives ──▶ rx ring ── receive ──▶ batch
//!         ▲                                                                          │
//!         └── reclaim ── completion ring ◀── kernel transmits ── tx ring ◀── transmit ┘
//! ```
//!
//! A frame turns into a plain address where it enters a ring, and the address is judged where it comes out: it must lie in
//! one chunk of the UMEM. In debug builds a ledger knows besides which chunks this port has in its rings, and refuses what
//! it never put there.
//!
//! Where chunks have several buffers, each way has a second form (`..._chains`): which of the two it is, is asked once a
//! batch, so that frames of one buffer pay nothing for the others.

use std::io;

use super::chains::{Chains, Parts};
use super::ring::{Consumer, Descriptor, Producer, Ring};
use super::umem::Bounds;
use super::{Batch, Frame, Umem, Usage, request};

/// The shortest frame that a device sends: an Ethernet header (`ETH_HLEN`).
const FRAME_LEN_MIN: usize = 14;

/// Our ends of the four rings.
#[derive(Debug)]
pub(super) struct Rings {
    pub(super) fill: Producer<u64>,
    pub(super) completion: Consumer<u64>,
    pub(super) rx: Consumer<Descriptor>,
    pub(super) tx: Producer<Descriptor>,
    /// What addresses are judged by; unknown until a UMEM is.
    pub(super) bounds: Option<Bounds>,
    /// The longest frame that may be sent.
    pub(super) frame_len_max: usize,
    /// Whether the memory is registered with requests in mind.
    has_requests: bool,
    /// Addresses that came out of a ring and were refused.
    pub(super) foreign: u64,
    /// Since it was last taken.
    pub(super) usage: Usage,
    chains: Chains,
    ledger: Ledger,
}

/// The memory of the four rings, shared by both ends.
pub(super) struct RingMemory {
    pub(super) fill: Ring<u64>,
    pub(super) completion: Ring<u64>,
    pub(super) rx: Ring<Descriptor>,
    pub(super) tx: Ring<Descriptor>,
}

impl RingMemory {
    /// Four rings of `size` entries in plain memory.
    pub(super) fn plain(size: u32) -> io::Result<Self> {
        Ok(Self {
            fill: Ring::plain(size)?,
            completion: Ring::plain(size)?,
            rx: Ring::plain(size)?,
            tx: Ring::plain(size)?,
        })
    }
}

impl Rings {
    pub(super) fn new(memory: RingMemory, bounds: Option<Bounds>, frame_len_max: usize) -> Self {
        Self {
            fill: memory.fill.producer(),
            completion: memory.completion.consumer(),
            rx: memory.rx.consumer(),
            tx: memory.tx.producer(),
            bounds,
            frame_len_max,
            has_requests: false,
            foreign: 0,
            usage: Usage::default(),
            chains: Chains::default(),
            ledger: Ledger::default(),
        }
    }

    /// The same, of memory that is registered with requests in mind: those of frames are passed on, and each needs its place.
    pub(super) fn with_requests(self) -> Self {
        Self {
            has_requests: true,
            ..self
        }
    }

    /// Receive ring to batch.
    #[inline]
    pub(super) fn receive(&mut self, umem: &mut Umem, batch: &mut Batch) -> usize {
        let Some(bounds) = self.bounds else { return 0 };
        if bounds.has_chains() {
            return self.receive_chains(bounds, umem, batch);
        }
        let before = batch.len();
        let (ledger, foreign) = (&mut self.ledger, &mut self.foreign);
        let taken = self.rx.consume(batch.room() as u32, |descriptor| {
            let frame = bounds
                .frame(descriptor.addr, descriptor.len)
                .filter(|frame| ledger.leaves(frame.addr, Place::Fill));
            match frame {
                // There is room: no more than that was asked for.
                Some(frame) => drop(batch.push(frame)),
                None => *foreign += 1,
            }
        });
        self.note_taken(taken);
        batch.len() - before
    }

    /// So many entries have just been taken from the receive ring.
    #[inline]
    fn note_taken(&mut self, taken: usize) {
        if taken > 0 {
            let waiting = taken as u32 + self.rx.known_pending();
            self.usage.rx_waiting = self.usage.rx_waiting.max(waiting);
        }
    }

    /// The same, of frames that may come in several buffers.
    #[inline(never)]
    fn receive_chains(&mut self, bounds: Bounds, umem: &mut Umem, batch: &mut Batch) -> usize {
        let before = batch.len();
        let (ledger, foreign, chains) = (&mut self.ledger, &mut self.foreign, &mut self.chains);
        let taken = self.rx.consume(batch.room() as u32, |descriptor| {
            let part = bounds
                .part(descriptor.addr, descriptor.len)
                .filter(|part| ledger.leaves(part.addr, Place::Fill));
            *foreign += u64::from(part.is_none());
            let more = descriptor.options & libc::XDP_PKT_CONTD != 0;
            if let Some(frame) = chains.gather(umem, part, more) {
                // There is room: each buffer completes one frame at most.
                drop(batch.push(frame));
            }
        });
        self.note_taken(taken);
        batch.len() - before
    }

    /// Batch to transmit ring. What does not fit, and what may not be sent at all, stays in the batch.
    #[inline]
    pub(super) fn transmit(&mut self, batch: &mut Batch) -> usize {
        let limits = self.limits();
        if let Some(bounds) = self.bounds.filter(Bounds::has_chains) {
            return self.transmit_chains(bounds, batch);
        }
        let ledger = &mut self.ledger;
        let room = self.tx.free(batch.len() as u32);
        // Each frame is looked at once; one that may not be sent goes to the back, so that it does not hold up the rest.
        let mut looks = batch.len();
        let added = self.tx.produce(room, || {
            while looks > 0 {
                looks -= 1;
                let frame = batch.pop()?;
                if !limits.allow(&frame) {
                    // There is room: it has just left.
                    drop(batch.push(frame));
                    continue;
                }
                ledger.enters(frame.addr, Place::Transmit);
                return Some(Descriptor {
                    addr: u64::from(frame.addr),
                    len: frame.bytes(),
                    options: limits.options(&frame),
                });
            }
            None
        });
        self.note_added(added);
        added
    }

    /// So many entries have just been added to the transmit ring.
    #[inline]
    fn note_added(&mut self, added: usize) {
        if added > 0 {
            self.usage.tx_waiting = self.usage.tx_waiting.max(self.tx.pending());
        }
    }

    /// The same, of frames that may go in several buffers: all of a frame's, or none.
    #[inline(never)]
    fn transmit_chains(&mut self, bounds: Bounds, batch: &mut Batch) -> usize {
        let limits = self.limits();
        let (ledger, chains) = (&mut self.ledger, &mut self.chains);
        chains.cover(bounds);
        let most = batch.len() as u32 * bounds.buffers_per_chunk();
        let mut room = self.tx.free(most);
        let (mut looks, mut taken, mut parts) = (batch.len(), 0, Parts::default());
        let added = self.tx.produce(room, || {
            loop {
                if let Some((addr, len, more)) = parts.next(bounds) {
                    ledger.enters(addr, Place::Transmit);
                    return Some(Descriptor {
                        addr: addr.into(),
                        len,
                        options: if more { libc::XDP_PKT_CONTD } else { 0 },
                    });
                }
                if looks == 0 {
                    return None;
                }
                let front = batch.front()?;
                let sendable = limits.allow(front);
                let buffers = bounds.buffers(front);
                if sendable && buffers > room {
                    return None;
                }
                looks -= 1;
                let frame = batch.pop()?;
                if !sendable {
                    // There is room: it has just left.
                    drop(batch.push(frame));
                    continue;
                }
                room -= buffers;
                taken += 1;
                chains.sent(bounds, &frame, buffers);
                parts = Parts::of(&frame);
            }
        });
        self.note_added(added);
        taken
    }

    /// Whether the transmit ring has room for so many frames, each in as many buffers as there may be.
    #[inline]
    pub(super) fn has_room(&mut self, frames: usize) -> bool {
        let buffers = match self.bounds {
            Some(bounds) if bounds.has_chains() => bounds.buffers_per_chunk(),
            _ => 1,
        };
        let wanted = u32::try_from(frames)
            .unwrap_or(u32::MAX)
            .saturating_mul(buffers);
        self.tx.free(wanted) == wanted
    }

    /// Whether [`Self::transmit`] would ever take the frame.
    #[inline]
    pub(super) fn accepts(&self, frame: &Frame) -> bool {
        self.limits().allow(frame)
    }

    #[inline]
    fn limits(&self) -> Limits {
        Limits {
            bounds: self.bounds,
            frame_len_max: self.frame_len_max,
            has_requests: self.has_requests,
        }
    }

    /// Completion ring to pool.
    #[inline]
    pub(super) fn reclaim(&mut self, umem: &mut Umem) -> usize {
        let bounds = *self.bounds.get_or_insert(umem.bounds());
        if bounds.has_chains() {
            return self.reclaim_chains(bounds, umem);
        }
        let (ledger, foreign) = (&mut self.ledger, &mut self.foreign);
        let mut count = 0;
        self.completion.consume(u32::MAX, |addr| {
            // Judged before it is narrowed.
            let inside = bounds.chunk_of(addr).is_some();
            let ours = inside && ledger.leaves(addr as u32, Place::Transmit);
            if ours && umem.recover(addr) {
                count += 1;
            } else {
                *foreign += 1;
            }
        });
        count
    }

    /// The same, of frames that may have gone in several buffers: one comes back with its last.
    #[inline(never)]
    fn reclaim_chains(&mut self, bounds: Bounds, umem: &mut Umem) -> usize {
        let (ledger, foreign, chains) = (&mut self.ledger, &mut self.foreign, &mut self.chains);
        let mut count = 0;
        self.completion.consume(u32::MAX, |addr| {
            let inside = bounds.chunk_of(addr).is_some();
            if !inside || !ledger.leaves(addr as u32, Place::Transmit) {
                *foreign += 1;
            } else if chains.completed(bounds, addr as u32) {
                if umem.recover(addr) {
                    count += 1;
                } else {
                    *foreign += 1;
                }
            }
        });
        count
    }

    /// Pool to fill ring.
    #[inline]
    pub(super) fn refill(&mut self, umem: &mut Umem) -> usize {
        let bounds = *self.bounds.get_or_insert(umem.bounds());
        let ledger = &mut self.ledger;
        ledger.cover(bounds);
        self.chains.cover(bounds);
        let added = self.fill.produce(u32::MAX, || {
            let chunk = umem.take()?;
            ledger.enters(chunk, Place::Fill);
            Some(u64::from(chunk))
        });
        // As many as it wanted were asked for, so it has just been looked at.
        let missing = added as u32 + self.fill.known_free();
        self.usage.fill_missing = self.usage.fill_missing.max(missing);
        added
    }

    /// Frames in the four rings. Between two of them, in the kernel's hands, there may be more.
    pub(super) fn frames_held(&self) -> usize {
        let entries =
            self.fill.pending() + self.rx.pending() + self.tx.pending() + self.completion.pending();
        (entries as usize + self.chains.held()).saturating_sub(self.chains.surplus())
    }
}

/// What may be sent.
#[derive(Clone, Copy)]
struct Limits {
    bounds: Option<Bounds>,
    frame_len_max: usize,
    has_requests: bool,
}

impl Limits {
    /// Whether the kernel would take a descriptor of this frame and the device would send it.
    #[inline]
    fn allow(&self, frame: &Frame) -> bool {
        let whole = self.bounds.is_none_or(|bounds| {
            let room = frame.addr & (bounds.chunk - 1);
            bounds.holds(frame) && (!self.has_requests || room >= request::LEN as u32)
        });
        whole && frame.len() >= FRAME_LEN_MIN && frame.len() <= self.frame_len_max
    }

    /// The descriptor's options. A request where nobody expects one would wedge the ring.
    #[inline]
    fn options(&self, frame: &Frame) -> u32 {
        debug_assert!(self.has_requests || !frame.has_request(), "{frame:?}");
        if self.has_requests && frame.has_request() {
            libc::XDP_TX_METADATA
        } else {
            0
        }
    }
}

/// In which direction a chunk is with the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the fill ring, on the way through the kernel, or in the receive ring.
    Fill,
    /// In the transmit ring, on its way out, or in the completion ring.
    Transmit,
}

/// Which chunks are in this port's rings, in debug builds; in release builds it believes everything.
///
/// Chunks are told apart by the 2 KiB that an address is in: enough, because the kernel puts a frame [`super::ROOM`]
/// behind its chunk's start, and completes the very address that was sent.
#[derive(Debug, Default)]
struct Ledger {
    #[cfg(debug_assertions)]
    places: Vec<Option<Place>>,
}

#[cfg(debug_assertions)]
impl Ledger {
    const GRAIN: u32 = 2048;

    /// Makes room for all chunks at once, so that a debug build allocates no more on its path than a release build.
    fn cover(&mut self, bounds: Bounds) {
        let grains = (bounds.area_len / u64::from(Self::GRAIN)) as usize;
        if self.places.len() < grains {
            self.places.resize(grains, None);
        }
    }

    /// Notes that a chunk goes to the kernel.
    fn enters(&mut self, addr: u32, place: Place) {
        let index = (addr / Self::GRAIN) as usize;
        if self.places.len() <= index {
            self.places.resize((index + 1).next_power_of_two(), None);
        }
        let before = self.places[index].replace(place);
        debug_assert_eq!(
            before, None,
            "address {addr} enters {place:?} and is in a ring already"
        );
    }

    /// Notes that a chunk comes back; `false` when it was not there.
    fn leaves(&mut self, addr: u32, place: Place) -> bool {
        let known = self
            .places
            .get_mut((addr / Self::GRAIN) as usize)
            .filter(|known| **known == Some(place));
        known.and_then(Option::take).is_some()
    }
}

#[cfg(not(debug_assertions))]
impl Ledger {
    #[inline(always)]
    fn cover(&mut self, _bounds: Bounds) {}

    #[inline(always)]
    fn enters(&mut self, _addr: u32, _place: Place) {}

    #[inline(always)]
    fn leaves(&mut self, _addr: u32, _place: Place) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ChunkSize, Frame, UmemConfig};
    use super::*;

    /// Our ends, and the kernel's ends of the receive and completion rings.
    fn rings(umem: &Umem) -> (Rings, Producer<Descriptor>, Producer<u64>) {
        let memory = RingMemory::plain(8).unwrap();
        let (rx, completion) = (
            memory.rx.clone().producer(),
            memory.completion.clone().producer(),
        );
        (
            Rings::new(memory, Some(umem.bounds()), 1518),
            rx,
            completion,
        )
    }

    fn umem() -> Umem {
        Umem::new(UmemConfig {
            chunk: ChunkSize::K4,
            frames: 4,
            lock: false,
        })
        .unwrap()
    }

    fn post<T: super::super::ring::Entry>(producer: &mut Producer<T>, entries: &[T]) {
        let mut entries = entries.iter().copied();
        producer.produce(u32::MAX, || entries.next());
    }

    #[test]
    fn requests_go_with_their_frames_and_every_frame_has_a_place_for_one() {
        let mut umem = umem();
        let memory = RingMemory::plain(8).unwrap();
        let mut sent = memory.tx.clone().consumer();
        let mut rings = Rings::new(memory, Some(umem.bounds()), 1518).with_requests();
        let mut batch = Batch::new();
        for (asks, room) in [(true, 24), (false, 24), (false, 23), (true, 256)] {
            let mut frame = umem.allocate().unwrap();
            assert!(umem.fill(&mut frame, &[0; 60]));
            let taken = umem.room_in_front(&frame) - room;
            assert!(umem.push(&mut frame, taken).is_some());
            assert!(!asks || umem.request_checksum(&mut frame, 34, 6));
            assert_eq!(rings.accepts(&frame), room >= request::LEN);
            batch.push(frame).unwrap();
        }
        assert_eq!(rings.transmit(&mut batch), 3);
        assert_eq!(batch.len(), 1);
        let mut options = Vec::new();
        sent.consume(u32::MAX, |descriptor| options.push(descriptor.options));
        assert_eq!(options, [2, 0, 2]);
    }

    #[test]
    fn completions_of_what_is_no_chunk_are_refused() {
        let mut umem = umem();
        let (mut rings, _rx, mut completion) = rings(&umem);
        let mut batch = Batch::new();
        let mut frame = umem.allocate().unwrap();
        assert!(umem.fill(&mut frame, &[0; 60]));
        let addr = u64::from(frame.addr);
        batch.push(frame).unwrap();
        assert_eq!(rings.transmit(&mut batch), 1);
        post(&mut completion, &[u64::MAX, 4 * 4096, addr, 1 << 40]);
        assert_eq!(rings.reclaim(&mut umem), 1);
        assert_eq!((rings.foreign, umem.free()), (3, 4));
    }

    #[test]
    #[cfg(debug_assertions)]
    fn completions_of_what_was_never_sent_are_refused() {
        let mut umem = umem();
        let (mut rings, _rx, mut completion) = rings(&umem);
        let held = umem.allocate().unwrap();
        post(&mut completion, &[u64::from(held.addr), 0]);
        assert_eq!(rings.reclaim(&mut umem), 0);
        assert_eq!((rings.foreign, umem.free()), (2, 3));
        umem.release(held);
    }

    #[test]
    fn received_descriptors_outside_of_a_chunk_are_refused() {
        let mut umem = umem();
        let (mut rings, mut rx, _completion) = rings(&umem);
        assert_eq!(rings.refill(&mut umem), 4);
        let descriptor = |addr, len| Descriptor {
            addr,
            len,
            options: 0,
        };
        post(
            &mut rx,
            &[
                descriptor(256, 3841),
                descriptor(4 * 4096, 60),
                descriptor(u64::MAX, 1),
                descriptor(4352, 60),
            ],
        );
        let mut batch = Batch::new();
        assert_eq!(rings.receive(&mut umem, &mut batch), 1);
        assert_eq!(batch.pop(), Some(Frame::at(4352, 60)));
        assert_eq!(rings.foreign, 3);
    }

    #[test]
    #[cfg(debug_assertions)]
    fn a_chunk_that_was_not_in_the_fill_ring_is_not_received() {
        let mut umem = umem();
        let (mut rings, mut rx, _completion) = rings(&umem);
        post(
            &mut rx,
            &[Descriptor {
                addr: 256,
                len: 60,
                options: 0,
            }],
        );
        assert_eq!(
            (rings.receive(&mut umem, &mut Batch::new()), rings.foreign),
            (0, 1)
        );
    }

    #[test]
    fn receiving_stops_where_the_batch_is_full() {
        let mut umem = Umem::new(UmemConfig {
            chunk: ChunkSize::K2,
            frames: 8,
            lock: false,
        })
        .unwrap();
        let (mut rings, mut rx, _completion) = rings(&umem);
        assert_eq!(rings.refill(&mut umem), 8);
        let all: Vec<_> = (0..8)
            .map(|n| Descriptor {
                addr: n * 2048 + 256,
                len: 60,
                options: 0,
            })
            .collect();
        post(&mut rx, &all);
        let mut batch = Batch::new();
        for n in 0..super::super::BATCH as u32 - 3 {
            batch.push(Frame::at(n, 0)).unwrap();
        }
        assert_eq!(
            (
                rings.receive(&mut umem, &mut batch),
                batch.room(),
                rings.rx.pending()
            ),
            (3, 0, 5)
        );
    }

    /// A UMEM whose chunks have four buffers.
    fn long(frames: u32) -> Umem {
        Umem::new(UmemConfig {
            chunk: ChunkSize::K16,
            frames,
            lock: false,
        })
        .unwrap()
    }

    /// As the kernel tells of what it wrote into the first buffer of a chunk.
    fn part(chunk: u64, len: u32, more: bool) -> Descriptor {
        Descriptor {
            addr: chunk * 16_384 + 256,
            len,
            options: u32::from(more),
        }
    }

    #[test]
    fn buffers_of_one_frame_are_joined_whenever_they_come_and_their_chunks_are_free_again() {
        let mut umem = long(8);
        let (mut rings, mut rx, _completion) = rings(&umem);
        // What the kernel will have written.
        let written: Vec<_> = (1..=4)
            .map(|byte| {
                let mut frame = umem.allocate().unwrap();
                assert!(umem.fill(&mut frame, &[byte; 3840]));
                frame
            })
            .collect();
        written
            .into_iter()
            .rev()
            .for_each(|frame| umem.release(frame));
        assert_eq!(rings.refill(&mut umem), 8);
        post(&mut rx, &[part(0, 3840, true), part(1, 3840, true)]);
        let mut batch = Batch::new();
        assert_eq!(rings.receive(&mut umem, &mut batch), 0);
        assert_eq!((umem.free(), rings.chains.held()), (1, 1));
        post(&mut rx, &[part(2, 100, false), part(3, 60, false)]);
        assert_eq!(rings.receive(&mut umem, &mut batch), 2);
        assert_eq!((umem.free(), rings.chains.held()), (2, 0));
        let frame = batch.pop().unwrap();
        assert_eq!((frame.addr, frame.len()), (256, 2 * 3840 + 100));
        let bytes = umem.bytes(&frame);
        assert_eq!((bytes[0], bytes[3839], bytes[3840]), (1, 1, 2));
        assert_eq!((bytes[7679], bytes[7680], bytes[7779]), (2, 3, 3));
        let next = batch.pop().unwrap();
        assert_eq!(umem.bytes(&next), [4; 60]);
    }

    #[test]
    fn a_frame_with_a_hole_and_one_that_no_chunk_holds_come_out_empty() {
        let mut umem = long(8);
        let (mut rings, mut rx, _completion) = rings(&umem);
        assert_eq!(rings.refill(&mut umem), 8);
        let nowhere = Descriptor {
            addr: u64::MAX,
            ..part(0, 3840, true)
        };
        let mut batch = Batch::new();
        // The second frame begins with what is no buffer: nothing is known of it.
        let with_holes = [
            part(0, 3840, true),
            nowhere,
            part(1, 10, false),
            part(2, 3841, true),
            part(3, 10, false),
        ];
        post(&mut rx, &with_holes);
        assert_eq!(rings.receive(&mut umem, &mut batch), 1);
        assert_eq!((batch.pop().map(|f| f.len()), rings.foreign), (Some(0), 2));
        let mut too_long: Vec<_> = (4..8).map(|chunk| part(chunk, 3840, true)).collect();
        too_long.push(part(2, 3000, false));
        post(&mut rx, &too_long);
        assert_eq!(rings.receive(&mut umem, &mut batch), 1);
        assert_eq!((batch.pop().map(|f| f.len()), umem.free()), (Some(0), 6));
    }

    #[test]
    fn a_frame_of_several_buffers_goes_whole_or_not_at_all_and_comes_back_with_its_last() {
        let mut umem = long(4);
        let (mut rings, _rx, mut completion) = rings(&umem);
        rings.frame_len_max = 9018;
        let mut batch = Batch::new();
        // 3 + 1 + 3 buffers of a ring of 8, then 3 that do not fit, and one behind it that must not overtake.
        let mut addrs = Vec::new();
        for len in [9018, 100, 9000] {
            let mut frame = umem.allocate().unwrap();
            assert!(umem.fill(&mut frame, &vec![7; len]));
            addrs.push(u64::from(frame.addr));
            batch.push(frame).unwrap();
        }
        assert_eq!(rings.transmit(&mut batch), 3);
        assert_eq!((rings.tx.pending(), rings.frames_held()), (7, 3));
        let mut late = umem.allocate().unwrap();
        assert!(umem.fill(&mut late, &[8; 4000]));
        batch.push(late).unwrap();
        assert_eq!((rings.transmit(&mut batch), batch.len()), (0, 1));
        assert_eq!(rings.tx.pending(), 7, "not a part of it");

        let buffer = |frame: usize, n: u64| (addrs[frame] & !4095) + n * 4096;
        post(&mut completion, &[addrs[0], buffer(0, 1)]);
        assert_eq!((rings.reclaim(&mut umem), umem.free()), (0, 0));
        post(&mut completion, &[buffer(0, 2), addrs[1], addrs[2]]);
        assert_eq!((rings.reclaim(&mut umem), umem.free()), (2, 2));
        post(&mut completion, &[buffer(2, 1), buffer(2, 2)]);
        assert_eq!((rings.reclaim(&mut umem), umem.free()), (1, 3));
        assert_eq!((rings.foreign, rings.chains.surplus()), (0, 0));
    }

    #[test]
    fn the_buffers_of_a_frame_follow_each_other_without_a_gap() {
        let umem = long(2);
        let bounds = umem.bounds();
        let frame = Frame::at(16_384 + 206, 9068);
        let mut parts = Parts::of(&frame);
        let all: Vec<_> = std::iter::from_fn(|| parts.next(bounds)).collect();
        let expected = [
            (16_384 + 206, 3890, true),
            (16_384 + 4096, 4096, true),
            (16_384 + 8192, 1082, false),
        ];
        assert_eq!(all, expected);
        assert_eq!(bounds.buffers(&frame), 3);
    }
}
