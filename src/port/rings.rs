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

use std::io;

use super::ring::{Consumer, Descriptor, Producer, Ring};
use super::umem::Bounds;
use super::{Batch, Umem};

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
    /// Addresses that came out of a ring and were refused.
    pub(super) foreign: u64,
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
            foreign: 0,
            ledger: Ledger::default(),
        }
    }

    /// Receive ring to batch.
    #[inline]
    pub(super) fn receive(&mut self, batch: &mut Batch) -> usize {
        let Some(bounds) = self.bounds else { return 0 };
        let before = batch.len();
        let (ledger, foreign) = (&mut self.ledger, &mut self.foreign);
        self.rx.consume(batch.room() as u32, |descriptor| {
            let frame = bounds
                .frame(descriptor.addr, descriptor.len)
                .filter(|frame| ledger.leaves(frame.addr, Place::Fill));
            match frame {
                // There is room: no more than that was asked for.
                Some(frame) => drop(batch.push(frame)),
                None => *foreign += 1,
            }
        });
        batch.len() - before
    }

    /// Batch to transmit ring. What does not fit, and what may not be sent at all, stays in the batch.
    #[inline]
    pub(super) fn transmit(&mut self, batch: &mut Batch) -> usize {
        let (bounds, frame_len_max) = (self.bounds, self.frame_len_max);
        let ledger = &mut self.ledger;
        let room = self.tx.free(batch.len() as u32);
        // Each frame is looked at once; one that may not be sent goes to the back, so that it does not hold up the rest.
        let mut looks = batch.len();
        self.tx.produce(room, || {
            while looks > 0 {
                looks -= 1;
                let frame = batch.pop()?;
                if !sendable(&frame, bounds, frame_len_max) {
                    // There is room: it has just left.
                    drop(batch.push(frame));
                    continue;
                }
                ledger.enters(frame.addr, Place::Transmit);
                return Some(Descriptor {
                    addr: u64::from(frame.addr),
                    len: frame.len,
                    options: 0,
                });
            }
            None
        })
    }

    /// Whether [`Self::transmit`] would ever take the frame.
    #[inline]
    pub(super) fn accepts(&self, frame: &super::Frame) -> bool {
        sendable(frame, self.bounds, self.frame_len_max)
    }

    /// Completion ring to pool.
    #[inline]
    pub(super) fn reclaim(&mut self, umem: &mut Umem) -> usize {
        let bounds = *self.bounds.get_or_insert(umem.bounds());
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

    /// Pool to fill ring.
    #[inline]
    pub(super) fn refill(&mut self, umem: &mut Umem) -> usize {
        let bounds = *self.bounds.get_or_insert(umem.bounds());
        let ledger = &mut self.ledger;
        ledger.cover(bounds);
        self.fill.produce(u32::MAX, || {
            let chunk = umem.take()?;
            ledger.enters(chunk, Place::Fill);
            Some(u64::from(chunk))
        })
    }

    /// Frames in the four rings. Between two of them, in the kernel's hands, there may be more.
    pub(super) fn frames_held(&self) -> usize {
        (self.fill.pending() + self.rx.pending() + self.tx.pending() + self.completion.pending())
            as usize
    }
}

/// Whether the kernel would take a descriptor of this frame and the device would send it.
#[inline]
fn sendable(frame: &super::Frame, bounds: Option<Bounds>, frame_len_max: usize) -> bool {
    let whole = bounds.is_none_or(|bounds| bounds.holds(frame));
    whole && frame.len() >= FRAME_LEN_MIN && frame.len() <= frame_len_max
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
        assert_eq!(rings.receive(&mut batch), 1);
        assert_eq!(
            batch.pop(),
            Some(Frame {
                addr: 4352,
                len: 60
            })
        );
        assert_eq!(rings.foreign, 3);
    }

    #[test]
    #[cfg(debug_assertions)]
    fn a_chunk_that_was_not_in_the_fill_ring_is_not_received() {
        let umem = umem();
        let (mut rings, mut rx, _completion) = rings(&umem);
        post(
            &mut rx,
            &[Descriptor {
                addr: 256,
                len: 60,
                options: 0,
            }],
        );
        assert_eq!((rings.receive(&mut Batch::new()), rings.foreign), (0, 1));
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
            batch.push(Frame { addr: n, len: 0 }).unwrap();
        }
        assert_eq!(
            (rings.receive(&mut batch), batch.room(), rings.rx.pending()),
            (3, 0, 5)
        );
    }
}
