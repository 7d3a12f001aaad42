//! What the workers count of every peer, of whom the kernel's vxlan keeps no book: frames, bytes, and when the last came or went.
//!
//! ```text
//!   PeerId      0 .. segments          | segments .. places
//!   place       a segment's "other"    | one peer's: a remote VTEP address within a segment
//!
//!   worker 0    Tallies received, Tallies sent        one writer each, read by anybody
//!   worker 1    Tallies received, Tallies sent
//!   PeerBook    adds them up
//! ```
//!
//! Who has which place is decided where the tables are made, and comes to the workers with them. A worker that hands frames on
//! counts them at the place that was found when they were judged: nothing is looked up for it. So does the express gear, whose
//! counts join the book ([`PeerCounts`]).

use std::fmt;
use std::ops::AddAssign;
use std::sync::{Arc, OnceLock};

use super::Count;

/// Places for peers that are counted by themselves, in all segments together; any further ones are "other".
pub const PEERS_MAX: usize = 1 << 14;

/// The place of a peer in [`Tallies`]. The default is the first segment's "other".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u16);

impl PeerId {
    /// The place of all in a segment, by its number, who have none of their own: senders that are no VTEPs, and VTEPs beyond the
    /// bound.
    #[inline]
    pub const fn other(segment: u16) -> Self {
        Self(segment)
    }
}

/// What has been counted in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames of the wire: each segment of a superframe is one.
    pub frames: u64,
    /// Bytes, as handed on.
    pub bytes: u64,
    /// `CLOCK_MONOTONIC` in nanoseconds at the start of the turn that counted last; 0 when none has.
    pub last_ns: u64,
}

impl Tally {
    /// What has been counted since it was `base`.
    #[must_use]
    pub fn since(self, base: Self) -> Self {
        let frames = self.frames.wrapping_sub(base.frames);
        Self {
            frames,
            bytes: self.bytes.wrapping_sub(base.bytes),
            last_ns: if frames == 0 { 0 } else { self.last_ns },
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.frames = self.frames.wrapping_add(other.frames);
        self.bytes = self.bytes.wrapping_add(other.bytes);
        self.last_ns = self.last_ns.max(other.last_ns);
    }
}

/// Both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeerTally {
    /// Of frames that came from the peer and were handed on.
    pub received: Tally,
    /// Of frames that were sent to it.
    pub sent: Tally,
}

impl PeerTally {
    /// What has been counted since it was `base`.
    #[must_use]
    pub fn since(self, base: Self) -> Self {
        Self {
            received: self.received.since(base.received),
            sent: self.sent.since(base.sent),
        }
    }
}

impl AddAssign for PeerTally {
    fn add_assign(&mut self, other: Self) {
        self.received += other.received;
        self.sent += other.sent;
    }
}

/// The tallies of one worker in one direction. The default has no place, and nothing is counted in it.
#[derive(Debug, Default)]
pub struct Tallies {
    places: Box<[Place]>,
    /// The clock of the worker's turn.
    now_ns: Count,
}

/// Two of them are a cache line.
#[derive(Debug, Default)]
#[repr(align(32))]
struct Place {
    frames: Count,
    bytes: Count,
    last_ns: Count,
}

const _: () = assert!(size_of::<Place>() == 32);

impl Tallies {
    /// With so many places.
    pub fn new(places: usize) -> Self {
        Self {
            places: (0..places).map(|_| Place::default()).collect(),
            now_ns: Count::default(),
        }
    }

    /// How many places there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether nothing is counted here.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Tells the time of the turn that counts next, `CLOCK_MONOTONIC` in nanoseconds. Only the owner may.
    #[inline]
    pub fn set_now(&self, now_ns: u64) {
        self.now_ns.set(now_ns);
    }

    /// The time of the turn.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }

    /// Counts frames of a peer, unless they are none. Only the owner may call this.
    #[inline(always)]
    pub fn count_some(&self, peer: PeerId, frames: u64, bytes: u64) {
        if frames > 0 {
            self.count(peer, frames, bytes);
        }
    }

    /// Counts frames of a peer. Only the owner may call this.
    #[inline(always)]
    pub fn count(&self, peer: PeerId, frames: u64, bytes: u64) {
        if let Some(place) = self.places.get(usize::from(peer.0)) {
            place.frames.add(frames);
            place.bytes.add(bytes);
            place.last_ns.set(self.now_ns.get());
        }
    }

    /// What has been counted of a peer.
    pub fn read(&self, peer: PeerId) -> Tally {
        let place = self.places.get(usize::from(peer.0));
        place.map_or_else(Tally::default, |place| Tally {
            frames: place.frames.get(),
            bytes: place.bytes.get(),
            last_ns: place.last_ns.get(),
        })
    }
}

/// Whoever else counts at the same places.
pub trait PeerCounts: fmt::Debug + Send + Sync {
    /// What has been counted of a peer.
    fn read(&self, peer: PeerId) -> PeerTally;
}

/// The tallies of all workers. The default has none.
#[derive(Debug, Default)]
pub struct PeerBook {
    workers: Vec<[Arc<Tallies>; 2]>,
    places: usize,
    joined: OnceLock<Box<dyn PeerCounts>>,
}

impl PeerBook {
    /// For so many workers, with a place for each segment and for [`PEERS_MAX`] peers.
    pub fn new(workers: usize, segments: usize) -> Self {
        Self::with_places(workers, Self::places_for(segments))
    }

    /// How many places a book of so many segments has: no more than have a [`PeerId`].
    pub fn places_for(segments: usize) -> usize {
        (segments + PEERS_MAX).min(usize::from(u16::MAX) + 1)
    }

    /// With so many places, but no more than have a [`PeerId`].
    pub fn with_places(workers: usize, places: usize) -> Self {
        let places = places.min(usize::from(u16::MAX) + 1);
        let tallies = || Arc::new(Tallies::new(places));
        Self {
            workers: (0..workers).map(|_| [tallies(), tallies()]).collect(),
            places,
            joined: OnceLock::new(),
        }
    }

    /// How many places there are.
    pub fn places(&self) -> usize {
        self.places
    }

    /// Adds what somebody else counts, once: of a second one nothing is added.
    pub fn join(&self, counts: Box<dyn PeerCounts>) {
        // There is one express gear.
        let _ = self.joined.set(counts);
    }

    /// Where a worker counts what it has received from peers. One that is not in the book counts nothing.
    pub fn received(&self, worker: usize) -> Arc<Tallies> {
        let tallies = self.workers.get(worker);
        tallies.map_or_else(Arc::default, |[received, _]| Arc::clone(received))
    }

    /// Where it counts what it has sent to them.
    pub fn sent(&self, worker: usize) -> Arc<Tallies> {
        let tallies = self.workers.get(worker);
        tallies.map_or_else(Arc::default, |[_, sent]| Arc::clone(sent))
    }

    /// What all workers have counted at a place, and who has joined.
    pub fn total(&self, peer: PeerId) -> PeerTally {
        let mut total = PeerTally::default();
        for [received, sent] in &self.workers {
            total.received += received.read(peer);
            total.sent += sent.read(peer);
        }
        if let Some(counts) = self.joined.get() {
            total += counts.read(peer);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(frames: u64, bytes: u64, last_ns: u64) -> Tally {
        Tally {
            frames,
            bytes,
            last_ns,
        }
    }

    #[test]
    fn workers_are_added_up_and_directions_and_peers_are_told_apart() {
        let book = PeerBook::with_places(2, 4);
        for (worker, now_ns) in [(0, 7), (1, 5)] {
            book.received(worker).set_now(now_ns);
            book.sent(worker).set_now(now_ns + 100);
            book.received(worker).count(PeerId(2), 3, 300);
        }
        book.sent(1).count(PeerId(3), 1, 60);
        assert_eq!(book.total(PeerId(2)).received, tally(6, 600, 7));
        assert_eq!(book.total(PeerId(2)).sent, Tally::default());
        assert_eq!(book.total(PeerId(3)).sent, tally(1, 60, 105));
        assert_eq!(book.total(PeerId(0)), PeerTally::default());
    }

    #[test]
    fn what_somebody_else_counts_is_added() {
        #[derive(Debug)]
        struct Other;
        impl PeerCounts for Other {
            fn read(&self, peer: PeerId) -> PeerTally {
                PeerTally {
                    received: tally(u64::from(peer.0), 90, 8),
                    sent: Tally::default(),
                }
            }
        }
        let book = PeerBook::with_places(1, 4);
        book.received(0).set_now(7);
        book.received(0).count(PeerId(2), 3, 300);
        book.join(Box::new(Other));
        assert_eq!(book.total(PeerId(2)).received, tally(5, 390, 8));
    }

    #[test]
    fn where_there_is_no_place_nothing_is_counted() {
        let book = PeerBook::with_places(1, 1);
        book.sent(0).count(PeerId(1), 1, 60);
        assert_eq!(book.total(PeerId(1)), PeerTally::default());
        book.sent(1).count(PeerId(0), 1, 60);
        assert_eq!(book.total(PeerId(0)), PeerTally::default());
        assert!(Tallies::default().is_empty());
        assert_eq!(PeerBook::new(0, 70_000).places(), 65_536);
    }

    #[test]
    fn what_was_there_before_is_taken_off() {
        let base = tally(10, 1000, 50);
        assert_eq!(tally(12, 1200, 70).since(base), tally(2, 200, 70));
        assert_eq!(base.since(base), Tally::default());
    }
}
