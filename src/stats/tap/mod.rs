//! Where frames can be looked at as they pass, and how a worker hands out copies of them.
//!
//! ```text
//!   worker ── wants(point)? ── no ──▶ goes on                        one load a batch, and nothing else
//!                  │ yes
//!                  └─▶ stage ─▶ | record | record | ... ── commit ──▶ Ring ──▶ whoever captures, on a thread of its own
//! ```
//!
//! A capture lends every worker a [`Ring`] of its own, which the worker takes in hand for a batch and lays back: whoever finds it
//! in its place knows that nobody writes. The worker never waits: what finds no room in the ring is counted there as lost.
//! Records of frames that are about to be sent are staged before, because their bytes are out of reach afterwards, and count once it
//! is known how many the port took.

mod record;
mod ring;

use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crossbeam::queue::ArrayQueue;

use super::{DropReason, PeerId, Shape};
use ring::Draft;

pub use record::{Fate, Record};
pub use ring::{Ring, Wanted};

/// Captures at the same time.
pub const CAPTURES_MAX: usize = 4;
/// Frames that can be staged together: a batch.
pub const STAGED_MAX: usize = 64;

/// Where a frame is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Point {
    /// It came in by an underlay device, in its outer headers.
    UnderlayRx,
    /// It leaves by one, in its outer headers.
    UnderlayTx,
    /// It came from a vxlan device.
    AccessRx,
    /// It goes to one, without outer headers.
    AccessTx,
    /// It dies.
    Drop,
}

impl Point {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::UnderlayRx,
        Self::UnderlayTx,
        Self::AccessRx,
        Self::AccessTx,
        Self::Drop,
    ];

    /// Its name.
    pub const fn label(self) -> &'static str {
        match self {
            Self::UnderlayRx => "underlay-rx",
            Self::UnderlayTx => "underlay-tx",
            Self::AccessRx => "access-rx",
            Self::AccessTx => "access-tx",
            Self::Drop => "drop",
        }
    }

    /// The point with this name.
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|point| point.label() == label)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of points.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Points(u8);

impl Points {
    /// Whether it is one of them.
    #[inline]
    pub const fn has(self, point: Point) -> bool {
        self.0 & point.bit() != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those of them that there are, in order.
    pub fn iter(self) -> impl Iterator<Item = Point> {
        Point::ALL.into_iter().filter(move |point| self.has(*point))
    }
}

impl FromIterator<Point> for Points {
    fn from_iter<T: IntoIterator<Item = Point>>(points: T) -> Self {
        Self(points.into_iter().fold(0, |bits, point| bits | point.bit()))
    }
}

/// A point of one port: the index of an underlay device, or of a vxlan device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// The point.
    pub point: Point,
    /// The device's index.
    pub port: u32,
}

/// A worker's tap, which all of its ports share. Captures have a lane each.
#[derive(Debug)]
pub struct Tap {
    worker: u16,
    /// What is wanted, a byte a lane.
    wanted: AtomicU32,
    lanes: [ArrayQueue<Arc<Ring>>; CAPTURES_MAX],
}

const _: () = assert!(CAPTURES_MAX * 8 == u32::BITS as usize, "a byte a lane");
const _: () = assert!(Point::ALL.len() <= 8);

/// The first bit of every lane.
const EVERY_LANE: u32 = 0x0101_0101;

impl Default for Tap {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Tap {
    /// Of this worker. Nothing is wanted of it.
    pub fn new(worker: u16) -> Self {
        Self {
            worker,
            wanted: AtomicU32::new(0),
            lanes: std::array::from_fn(|_| ArrayQueue::new(1)),
        }
    }

    /// Which worker's it is.
    pub fn worker(&self) -> u16 {
        self.worker
    }

    /// Whether anybody wants the frames of this point. Those that pass meanwhile may be missed.
    #[inline]
    pub fn wants(&self, point: Point) -> bool {
        self.wanted.load(Ordering::Relaxed) & (EVERY_LANE * u32::from(point.bit())) != 0
    }

    /// Lends the worker a ring for a capture. Whatever lies there from another is thrown away.
    pub fn lend(&self, lane: usize, ring: Arc<Ring>) {
        let Some(place) = self.lanes.get(lane) else {
            return;
        };
        let wanted = u32::from(ring.wanted().points.0) << (8 * lane);
        drop(place.force_push(ring));
        self.wanted.fetch_or(wanted, Ordering::Relaxed);
    }

    /// Has the worker write nothing more for a capture, from its next batch on.
    pub fn close(&self, lane: usize) {
        let lane = 0xff_u32.checked_shl(8 * lane as u32).unwrap_or(0);
        self.wanted.fetch_and(!lane, Ordering::Relaxed);
    }

    /// Takes the ring back; `None` while the worker has it in hand, and once it has been taken. With the ring back, nobody writes
    /// to it any more.
    pub fn take_back(&self, lane: usize) -> Option<Arc<Ring>> {
        self.lanes.get(lane)?.pop()
    }

    /// Takes the rings in hand of whoever wants this. Only the owner may call this, and has to [`Staged::commit`].
    fn stage(&self, spot: Spot, now_ns: u64) -> Staged<'_> {
        let wanted = self.wanted.load(Ordering::Relaxed).to_le_bytes();
        let takers = std::array::from_fn(|lane| {
            let open = wanted.get(lane)? & spot.point.bit() != 0;
            let place = self.lanes.get(lane).filter(|_| open)?;
            let ring = place.pop()?;
            if ring.wanted().takes(spot) {
                let draft = ring.draft();
                return Some(Taker { ring, draft });
            }
            // There is room: it has just been taken from there.
            drop(place.push(ring));
            None
        });
        Staged {
            tap: self,
            spot,
            now_ns,
            takers,
        }
    }
}

/// The tap of a port.
#[derive(Debug, Clone, Default)]
pub struct PortTap {
    tap: Arc<Tap>,
    port: u32,
}

impl PortTap {
    /// Of the underlay or vxlan device with this index.
    pub fn new(tap: Arc<Tap>, port: u32) -> Self {
        Self { tap, port }
    }

    /// The device's index.
    #[inline]
    pub fn port(&self) -> u32 {
        self.port
    }

    /// As [`Tap::wants`].
    #[inline]
    pub fn wants(&self, point: Point) -> bool {
        self.tap.wants(point)
    }

    /// Records for frames at a point of this port, in the turn that began at `now_ns`. Only the owner may call this.
    pub fn stage(&self, point: Point, now_ns: u64) -> Staged<'_> {
        let port = self.port;
        self.stage_at(Spot { point, port }, now_ns)
    }

    /// Shows a frame that dies.
    #[cold]
    #[inline(never)]
    pub(super) fn show_dead(&self, reason: DropReason, shape: Shape, frame: &[u8], now_ns: u64) {
        let mut staged = self.stage(Point::Drop, now_ns);
        let fate = Fate::Dropped(reason, shape);
        staged.add(fate, PeerId(0), frame.len(), iter::once(frame));
        staged.commit(1);
    }

    /// The same at a point of another port of the worker's.
    pub fn stage_at(&self, spot: Spot, now_ns: u64) -> Staged<'_> {
        self.tap.stage(spot, now_ns)
    }
}

/// Records of frames that do not count yet.
#[derive(Debug)]
#[must_use = "the rings are laid back by `commit`"]
pub struct Staged<'a> {
    tap: &'a Tap,
    spot: Spot,
    now_ns: u64,
    takers: [Option<Taker>; CAPTURES_MAX],
}

#[derive(Debug)]
struct Taker {
    ring: Arc<Ring>,
    draft: Draft,
}

impl Staged<'_> {
    /// Adds a frame of `len` bytes in one piece or several, with what becomes of it and the peer that it comes from or goes to.
    pub fn add<'a>(
        &mut self,
        fate: Fate,
        peer: PeerId,
        len: usize,
        parts: impl Iterator<Item = &'a [u8]> + Clone,
    ) {
        let record = Record {
            time_ns: self.now_ns,
            spot: self.spot,
            fate,
            peer,
            len: len as u32, // No chunk is longer than 128 KiB.
        };
        for Taker { ring, draft } in self.takers.iter_mut().flatten() {
            ring.put(draft, &record, parts.clone());
        }
    }

    /// Hands out the records of the first `frames` of them, and forgets the others.
    pub fn commit(self, frames: usize) {
        let lanes = self.tap.lanes.iter();
        for (taker, place) in self.takers.into_iter().zip(lanes) {
            if let Some(Taker { ring, draft }) = taker {
                ring.commit(&draft, frames);
                // There is room, unless this worker has hung so long that the capture was given up.
                drop(place.push(ring));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DropReason, Shape};
    use super::*;

    fn ring(points: impl IntoIterator<Item = Point>) -> Arc<Ring> {
        let wanted = Wanted {
            points: points.into_iter().collect(),
            ports: Vec::new(),
            snaplen: 1000,
        };
        Arc::new(Ring::new(3, wanted, 4096))
    }

    fn pass(tap: &PortTap, point: Point, bytes: &[u8]) {
        let mut staged = tap.stage(point, 7);
        staged.add(Fate::Deliver, PeerId(5), bytes.len(), iter::once(bytes));
        staged.commit(1);
    }

    fn read(ring: &Ring) -> Vec<(Record, Vec<u8>)> {
        let mut read = Vec::new();
        ring.read(usize::MAX, |record, bytes| {
            read.push((record, bytes.to_vec()));
        });
        read
    }

    #[test]
    fn nobody_wants_anything_until_a_ring_is_lent_and_nothing_more_once_it_is_closed() {
        let tap = Arc::new(Tap::new(3));
        let port = PortTap::new(Arc::clone(&tap), 9);
        assert!(Point::ALL.iter().all(|point| !port.wants(*point)));
        let ring = ring([Point::UnderlayRx, Point::AccessTx]);
        tap.lend(3, Arc::clone(&ring));
        let wanted = Point::ALL.map(|point| port.wants(point));
        assert_eq!(wanted, [true, false, false, true, false]);
        pass(&port, Point::UnderlayRx, b"abc");
        pass(&port, Point::UnderlayTx, b"not wanted");
        let [(record, bytes)] = &read(&ring)[..] else {
            panic!("one record")
        };
        assert_eq!(bytes, b"abc");
        let spot = Spot {
            point: Point::UnderlayRx,
            port: 9,
        };
        assert_eq!((record.spot, record.time_ns, record.len), (spot, 7, 3));
        assert_eq!((record.fate, record.peer), (Fate::Deliver, PeerId(5)));
        tap.close(3);
        assert!(!port.wants(Point::UnderlayRx));
        assert!(tap.take_back(3).is_some() && tap.take_back(3).is_none());
        pass(&port, Point::UnderlayRx, b"late");
        assert!(read(&ring).is_empty());
    }

    #[test]
    fn captures_have_lanes_of_their_own() {
        let tap = Arc::new(Tap::new(0));
        let port = PortTap::new(Arc::clone(&tap), 1);
        let rings = [ring([Point::Drop]), ring(Point::ALL)];
        for (lane, ring) in rings.iter().enumerate() {
            tap.lend(lane, Arc::clone(ring));
        }
        pass(&port, Point::Drop, b"both");
        pass(&port, Point::AccessRx, b"one");
        tap.close(0);
        assert!(port.wants(Point::Drop));
        let counts = rings.each_ref().map(|ring| read(ring).len());
        assert_eq!(counts, [1, 2]);
    }

    #[test]
    fn what_a_port_did_not_take_is_not_seen() {
        let tap = Arc::new(Tap::new(0));
        let port = PortTap::new(Arc::clone(&tap), 1);
        let ring = ring([Point::AccessTx]);
        tap.lend(0, Arc::clone(&ring));
        let mut staged = port.stage(Point::AccessTx, 1);
        for byte in 0..5 {
            let bytes = [byte; 20];
            staged.add(Fate::Sent, PeerId(0), 20, iter::once(&bytes[..]));
        }
        staged.commit(2);
        pass(&port, Point::AccessTx, b"next");
        let seen: Vec<_> = read(&ring).into_iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(seen, [vec![0; 20], vec![1; 20], b"next".to_vec()]);
        port.stage(Point::AccessTx, 1).commit(0);
        assert!(read(&ring).is_empty());
    }

    #[test]
    fn only_the_ports_that_were_asked_for_are_seen() {
        let tap = Arc::new(Tap::new(0));
        let wanted = Wanted {
            points: Point::ALL.into_iter().collect(),
            ports: vec![4, 8],
            snaplen: 2,
        };
        let ring = Arc::new(Ring::new(0, wanted, 4096));
        tap.lend(0, Arc::clone(&ring));
        for port in [4, 5, 8] {
            pass(&PortTap::new(Arc::clone(&tap), port), Point::Drop, b"abc");
        }
        let seen: Vec<_> = read(&ring)
            .into_iter()
            .map(|(record, bytes)| (record.spot.port, record.len, bytes.len()))
            .collect();
        assert_eq!(seen, [(4, 3, 2), (8, 3, 2)]);
    }

    #[test]
    fn points_are_found_by_name_and_every_fate_survives_the_ring() {
        for point in Point::ALL {
            assert_eq!(Point::from_label(point.label()), Some(point));
        }
        assert_eq!(Point::from_label("nowhere"), None);
        let tap = Arc::new(Tap::new(0));
        let port = PortTap::new(Arc::clone(&tap), 1);
        let ring = ring([Point::Drop]);
        tap.lend(0, Arc::clone(&ring));
        let fates = [
            Fate::Deliver,
            Fate::DeliverStranger,
            Fate::Encap,
            Fate::Flood,
            Fate::List,
            Fate::Sent,
            Fate::SentCopy,
            Fate::Dropped(DropReason::OuterMalformed, Shape::Arrived),
            Fate::Dropped(DropReason::OuterMalformed, Shape::Leaving),
            Fate::Dropped(DropReason::AccessRingFull, Shape::Arrived),
        ];
        let mut staged = port.stage(Point::Drop, 1);
        for fate in fates {
            staged.add(fate, PeerId(u16::MAX), 0, iter::empty());
        }
        staged.commit(fates.len());
        let seen: Vec<_> = read(&ring)
            .into_iter()
            .map(|(record, _)| record.fate)
            .collect();
        assert_eq!(seen, fates);
    }
}
