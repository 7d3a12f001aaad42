//! How one writer hands snapshots to many readers: [`publication`] makes a [`Writer`] and its [`Reader`]s.
//!
//! ```text
//!   Writer ── current ──▶ snapshot 9          seen by reader 0 ──▶ snapshot 9
//!          └─ retired ──▶ snapshot 8 ◀── seen by reader 1
//!                         (7 is freed: nobody's "seen" names it)
//! ```
//!
//! A reader writes into a cell of its own, the only one it writes to, which snapshot it may look at; [`Reader::snapshot`]
//! borrows the reader, so that no look outlives the next call, and each call is the moment at which the older snapshot
//! is let go. The writer frees what has been replaced and stands in no cell. So a reader never frees, never waits and
//! never allocates; one that hangs holds back the one snapshot it stopped at, and nothing newer.
//!
//! # Why it holds
//!
//! The danger is a reader that takes a pointer just when the writer decides that nobody can have it, above all one that
//! comes back from [`Reader::offline`]. Both sides first write, then pass a `SeqCst` fence, then read what the other writes:
//!
//! ```text
//!   reader: seen = P;    fence; is current still P? then look at P, else again with the newer one
//!   writer: current = Q; fence; does any seen say P? then keep P, else free it
//! ```
//!
//! Of two fences one comes first in the one order of all `SeqCst` fences, and what is written before it is read after
//! the other: either the writer finds P in the cell, or the reader finds Q. Leaving P needs no fence: the cell is
//! overwritten with `Release` and read with `Acquire`, so all looks at P happen before it is freed. A snapshot that
//! happens to be allocated where a freed one lay does no harm: the reader compares addresses, and the address in its
//! cell protects whatever lies there.
//!
//! The tests below have loom run every interleaving that the memory model allows.

// WHY: the one thing that safe Rust cannot say is that a pointer read from `current` outlives the borrow of the reader.
// Safe ways cost more per turn: `arc-swap` and a lock write to memory that all readers share; crossbeam-epoch
// makes readers run the destructors of old tables.
#![allow(unsafe_code)]

use std::fmt;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam::utils::CachePadded;
#[cfg(all(loom, test))]
use loom::sync::atomic::{AtomicPtr, Ordering, fence};
#[cfg(not(all(loom, test)))]
use std::sync::atomic::{AtomicPtr, Ordering, fence};

use super::Snapshot;

/// Makes the two ends, with one reader for each worker, and publishes the first snapshot as it is.
pub fn publication(readers: usize, first: Snapshot) -> (Writer, Vec<Reader>) {
    let current = Arc::new(first);
    let shared = Arc::new(Shared {
        current: CachePadded::new(AtomicPtr::new(address(&current))),
        left_behind: Mutex::default(),
    });
    let readers: Vec<_> = std::iter::repeat_with(|| Reader {
        shared: Arc::clone(&shared),
        seen: Arc::new(CachePadded::new(AtomicPtr::new(ptr::null_mut()))),
    })
    .take(readers)
    .collect();
    let seen = readers
        .iter()
        .map(|reader| Arc::clone(&reader.seen))
        .collect();
    (
        Writer {
            shared,
            seen,
            current,
            retired: Vec::new(),
        },
        readers,
    )
}

/// What both ends know.
struct Shared {
    /// The newest snapshot, owned by [`Writer::current`].
    current: CachePadded<AtomicPtr<Snapshot>>,
    /// Where the writer leaves its snapshots when it goes before its readers. Touched by nobody else.
    left_behind: Mutex<Vec<Arc<Snapshot>>>,
}

/// The snapshot that a reader may be looking at, null when none. Padded: only its reader writes it.
type Seen = CachePadded<AtomicPtr<Snapshot>>;

/// What `current` and `seen` say about a snapshot. Nobody writes through it.
fn address(snapshot: &Arc<Snapshot>) -> *mut Snapshot {
    Arc::as_ptr(snapshot).cast_mut()
}

/// The reading end: one a worker, moved into its thread. A dropped reader is offline for ever.
pub struct Reader {
    shared: Arc<Shared>,
    seen: Arc<Seen>,
}

impl Reader {
    /// The newest snapshot. Called once a turn: what a turn decides, it decides by one state of the world.
    ///
    /// Two loads when nothing has been published since the last call.
    #[inline]
    pub fn snapshot(&mut self) -> &Snapshot {
        // Relaxed: this thread alone writes the cell.
        let mut held = self.seen.load(Ordering::Relaxed);
        // Acquire: what the writer wrote into the snapshot is there when its address is.
        let mut newest = self.shared.current.load(Ordering::Acquire);
        // Goes round again only if a publication falls into these nanoseconds.
        while newest != held {
            // Release: looks at the snapshot held until now happen before the writer reads that it is let go.
            self.seen.store(newest, Ordering::Release);
            fence(Ordering::SeqCst);
            held = newest;
            newest = self.shared.current.load(Ordering::Acquire);
        }
        // SAFETY: `held` was the newest snapshot after the cell named it and the fence was passed, in this call or in an
        // earlier one, so the writer finds it in the cell whenever it looks for what to free (see the module's text),
        // and an `Arc` of the writer's, or of `left_behind`, keeps it alive. The cell changes only in this method and
        // in `offline`, which need the reader that the returned reference borrows. Nobody writes to a published snapshot.
        unsafe { &*held }
    }

    /// Lets go of what was seen: before a sleep, which may be long. The next call of [`Reader::snapshot`] comes back.
    #[inline]
    pub fn offline(&mut self) {
        self.seen.store(ptr::null_mut(), Ordering::Release);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.offline();
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

/// The writing end. There is one.
pub struct Writer {
    shared: Arc<Shared>,
    seen: Vec<Arc<Seen>>,
    current: Arc<Snapshot>,
    /// Replaced, and perhaps still looked at: at most two a reader after each [`Writer::reclaim`], the one that it looked at when
    /// that one's turn came, and one that it took just when it was replaced.
    retired: Vec<Arc<Snapshot>>,
}

impl Writer {
    /// Makes `next` the newest snapshot, with the generation after the current one's, and frees older ones as
    /// [`Writer::reclaim`] does.
    pub fn publish(&mut self, next: Snapshot) {
        self.replace(next);
        self.reclaim();
    }

    /// The newest snapshot: what the next one is made from.
    pub fn current(&self) -> &Snapshot {
        &self.current
    }

    /// Frees the snapshots that no reader can look at any more; returns how many. Worth calling some time after a
    /// burst of publications, since the last one's predecessor usually stays until every reader has taken a turn.
    pub fn reclaim(&mut self) -> usize {
        self.unreachable().count()
    }

    /// How many old snapshots readers hold back.
    pub fn retired(&self) -> usize {
        self.retired.len()
    }

    fn replace(&mut self, mut next: Snapshot) {
        next.generation = self.current.generation.wrapping_add(1);
        let next = Arc::new(next);
        // Release: pairs with the readers' acquire.
        self.shared.current.store(address(&next), Ordering::Release);
        self.retired
            .push(std::mem::replace(&mut self.current, next));
    }

    /// Takes out what no reader can look at. A cell that names a snapshot by mistake, because it lies where a freed one
    /// lay, only keeps it longer.
    fn unreachable(&mut self) -> impl Iterator<Item = Arc<Snapshot>> {
        fence(Ordering::SeqCst);
        let seen = &self.seen;
        self.retired.extract_if(.., |old| {
            // Acquire: a reader's last look happens before the snapshot is freed.
            seen.iter()
                .all(|seen| seen.load(Ordering::Acquire) != address(old))
        })
    }
}

impl Drop for Writer {
    /// Readers may live longer and go on looking: the last of them to go frees what is left behind.
    fn drop(&mut self) {
        let mut left = self
            .shared
            .left_behind
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        left.append(&mut self.retired);
        left.push(Arc::clone(&self.current));
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("generation", &self.current.generation)
            .field("readers", &self.seen.len())
            .field("retired", &self.retired.len())
            .finish()
    }
}

/// Readers look at one snapshot from several threads at once, and the writer frees it in its own.
const _: () = {
    const fn shared_between_threads<T: Send + Sync>() {}
    const fn moved_to_a_thread<T: Send>() {}
    shared_between_threads::<Snapshot>();
    moved_to_a_thread::<Reader>();
    moved_to_a_thread::<Writer>();
};

#[cfg(all(test, not(loom)))]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::atomic::{AtomicBool, AtomicU64};
    use std::sync::{Barrier, Weak};

    use super::super::{
        Df, Fdb, FlowLabel, Inherit, Segment, SegmentConfig, SourcePorts, UdpChecksum, VtepId,
    };
    use super::*;
    use crate::wire::{MacAddr, Vni};

    /// A snapshot whose every part tells the generation that it will get.
    fn telling(generation: u64) -> Snapshot {
        let config = SegmentConfig {
            name: format!("g{generation}"),
            ifindex: generation as u32,
            vni: Vni::new(1).unwrap(),
            local: IpAddr::V4(Ipv4Addr::LOCALHOST),
            group: None,
            port: 8472,
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            underlay_ifindex: 1,
            underlay_mac: MacAddr([2, 0, 0, 0, 0, 9]),
            underlay_mtu: 1500,
            source_ports: SourcePorts { low: 1, high: 2 },
            ttl: Inherit::Fixed(64),
            ttl_default: 64,
            tos: Inherit::Inner,
            df: Df::Unset,
            flow_label: FlowLabel::Fixed(0),
            udp_checksum: UdpChecksum::Zero,
            verify_udp_checksum: false,
            accept_udp6_zero_checksum: false,
            gbp: false,
            header_bits: crate::wire::vxlan::USED_BITS,
            peer_check: crate::table::PeerCheck::Strict,
            ecn_encap: crate::table::EcnEncap::Kernel,
            inner_vlan: crate::table::InnerVlan::Pass,
        };
        let segment = Segment {
            config: Arc::new(config),
            vteps: Arc::default(),
            fdb: Arc::new(Fdb::new([(MacAddr::ZERO, VtepId(generation as u32))])),
            groups: Arc::default(),
            lists: Arc::default(),
            flood: Arc::default(),
            peers: Arc::default(),
        };
        Snapshot {
            generation: 0,
            segments: vec![segment],
        }
    }

    /// Reads every part; the generation they agree on.
    fn told(snapshot: &Snapshot) -> u64 {
        let generation = snapshot.generation;
        let segment = &snapshot.segments[0];
        assert_eq!(segment.config.name[1..].parse(), Ok(generation));
        assert_eq!(u64::from(segment.config.ifindex), generation);
        assert_eq!(
            segment.fdb.find(MacAddr::ZERO),
            Some(VtepId(generation as u32).into())
        );
        generation
    }

    fn watch(writer: &Writer) -> Weak<Snapshot> {
        Arc::downgrade(&writer.current)
    }

    fn alive(watched: &[Weak<Snapshot>]) -> usize {
        watched
            .iter()
            .filter(|weak| weak.strong_count() > 0)
            .count()
    }

    #[test]
    fn a_reader_gets_the_newest_snapshot_and_generations_count_up() {
        let (mut writer, mut readers) = publication(1, telling(0));
        let reader = &mut readers[0];
        assert_eq!(told(reader.snapshot()), 0);
        for generation in 1..5 {
            writer.publish(telling(generation));
            assert_eq!(told(reader.snapshot()), generation);
            assert_eq!(told(reader.snapshot()), generation);
            assert_eq!(writer.current().generation, generation);
        }
    }

    #[test]
    fn a_snapshot_is_freed_when_the_last_reader_has_left_it() {
        let (mut writer, mut readers) = publication(2, telling(0));
        let first = watch(&writer);
        readers[0].snapshot();
        readers[1].snapshot();
        writer.publish(telling(1));
        assert_eq!(
            (writer.retired(), alive(std::slice::from_ref(&first))),
            (1, 1)
        );
        readers[0].snapshot();
        assert_eq!(writer.reclaim(), 0);
        readers[1].offline();
        assert_eq!(writer.reclaim(), 1);
        assert_eq!((writer.retired(), alive(&[first])), (0, 0));
    }

    #[test]
    fn a_reader_that_stops_holds_back_one_snapshot_only() {
        let (mut writer, mut readers) = publication(1, telling(0));
        let mut watched = vec![watch(&writer)];
        readers[0].snapshot();
        for generation in 1..100 {
            writer.publish(telling(generation));
            watched.push(watch(&writer));
            assert_eq!(
                alive(&watched),
                2,
                "the one it stopped at and the current one"
            );
        }
        assert_eq!(told(readers[0].snapshot()), 99);
        writer.reclaim();
        assert_eq!(alive(&watched), 1);
    }

    #[test]
    fn offline_and_dropped_readers_hold_nothing() {
        let (mut writer, mut readers) = publication(3, telling(0));
        for reader in &mut readers {
            reader.snapshot();
        }
        readers[0].offline();
        drop(readers.drain(1..));
        writer.publish(telling(1));
        assert_eq!(writer.retired(), 0);
        assert_eq!(told(readers[0].snapshot()), 1);
    }

    #[test]
    fn readers_may_outlive_the_writer() {
        let (mut writer, mut readers) = publication(2, telling(0));
        readers[0].snapshot();
        let mut watched = vec![watch(&writer)];
        writer.publish(telling(1));
        watched.push(watch(&writer));
        drop(writer);
        assert_eq!(alive(&watched), 2);
        assert_eq!(told(readers[0].snapshot()), 1);
        assert_eq!(told(readers[1].snapshot()), 1);
        drop(readers);
        assert_eq!(alive(&watched), 0);
    }

    #[test]
    fn stress_one_hundred_thousand_publications_against_spinning_readers() {
        const PUBLICATIONS: u64 = 100_000;
        let (mut writer, readers) = publication(3, telling(0));
        let start = Barrier::new(readers.len() + 1);
        // Set when the writer's part ends, also by a panic: the readers must not spin for ever.
        struct Done<'a>(&'a AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Release);
            }
        }
        let done = &AtomicBool::new(false);
        let looks = AtomicU64::new(0);
        let mut watched = Vec::with_capacity(PUBLICATIONS as usize + 1);
        let ends = std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for (index, mut reader) in readers.into_iter().enumerate() {
                let (start, looks) = (&start, &looks);
                threads.push(scope.spawn(move || {
                    start.wait();
                    let mut last = 0;
                    while !done.load(Ordering::Acquire) {
                        let now = told(reader.snapshot());
                        assert!(now >= last, "generation {now} after {last}");
                        last = now;
                        looks.fetch_add(1, Ordering::Relaxed);
                        if index == 0 {
                            reader.offline();
                        }
                    }
                    told(reader.snapshot())
                }));
            }
            start.wait();
            let end = Done(done);
            for generation in 1..=PUBLICATIONS {
                watched.push(watch(&writer));
                writer.publish(telling(generation));
                assert!(
                    writer.retired() <= 2 * 3,
                    "more held back than two for each reader"
                );
            }
            drop(end);
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect::<Vec<_>>()
        });
        assert_eq!(ends, [PUBLICATIONS; 3]);
        writer.reclaim();
        assert_eq!(writer.retired(), 0);
        assert_eq!(alive(&watched), 0);
        assert!(looks.into_inner() > 0);
    }
}

/// Run by `RUSTFLAGS="--cfg loom" cargo test --release --manifest-path tests/loom/Cargo.toml`, in a package of its own.
#[cfg(all(test, loom))]
mod model {
    use loom::cell::UnsafeCell;
    use loom::thread;

    use super::*;

    /// Stands for the contents of the snapshots, by generation: loom knows of every access to these cells, and fails
    /// when two of them race. The snapshots' own memory is kept until the end, so that a model that fails does so
    /// by what it finds here and not by reading freed memory.
    struct Contents(Vec<UnsafeCell<State>>);

    #[derive(Clone, Copy, PartialEq, Debug)]
    enum State {
        Unborn,
        Alive,
        Freed,
    }

    // SAFETY: that the cells are not accessed at the same time is what loom checks.
    unsafe impl Sync for Contents {}
    // SAFETY: as above.
    unsafe impl Send for Contents {}

    impl Contents {
        fn new(generations: usize) -> Arc<Self> {
            Arc::new(Self(
                (0..generations)
                    .map(|_| UnsafeCell::new(State::Unborn))
                    .collect(),
            ))
        }

        fn set(&self, generation: u64, state: State) {
            self.0[generation as usize].with_mut(|cell| {
                // SAFETY: loom has checked that nobody else is accessing the cell.
                unsafe { *cell = state };
            });
        }

        fn look(&self, snapshot: &Snapshot) -> u64 {
            self.0[snapshot.generation as usize].with(|cell| {
                // SAFETY: loom has checked that nobody is writing to the cell.
                let state = unsafe { *cell };
                assert_eq!(state, State::Alive, "of generation {}", snapshot.generation);
            });
            snapshot.generation
        }
    }

    struct Model {
        contents: Arc<Contents>,
        kept: Vec<Arc<Snapshot>>,
        writer: Writer,
    }

    impl Model {
        fn new(readers: usize, generations: usize) -> (Self, Vec<Reader>) {
            let contents = Contents::new(generations);
            contents.set(0, State::Alive);
            let (writer, readers) = publication(readers, Snapshot::default());
            (
                Self {
                    contents,
                    kept: Vec::new(),
                    writer,
                },
                readers,
            )
        }

        /// [`Writer::publish`], with the contents' birth and death told to loom.
        fn publish(&mut self) {
            self.replace();
            self.reclaim();
        }

        /// The first half of [`Writer::publish`].
        fn replace(&mut self) {
            self.contents
                .set(self.writer.current().generation + 1, State::Alive);
            self.writer.replace(Snapshot::default());
        }

        /// The second half.
        fn reclaim(&mut self) {
            for old in self.writer.unreachable() {
                self.contents.set(old.generation, State::Freed);
                self.kept.push(old);
            }
        }
    }

    /// Loom's `SeqCst` fences order more than the language's do, so this writer passes none while the reader runs.
    #[test]
    fn the_contents_are_there_when_the_address_is() {
        loom::model(|| {
            let (mut model, mut readers) = Model::new(1, 2);
            let contents = Arc::clone(&model.contents);
            let reader = thread::spawn(move || contents.look(readers.remove(0).snapshot()));
            model.replace();
            reader.join().unwrap();
            model.reclaim();
            assert_eq!(model.writer.retired(), 0);
        });
    }

    #[test]
    fn a_reader_that_stays_online() {
        loom::model(|| {
            let (mut model, mut readers) = Model::new(1, 3);
            let contents = Arc::clone(&model.contents);
            let reader = thread::spawn(move || {
                let mut reader = readers.remove(0);
                let first = contents.look(reader.snapshot());
                let second = contents.look(reader.snapshot());
                assert!(first <= second);
            });
            model.publish();
            model.publish();
            reader.join().unwrap();
            model.reclaim();
            assert_eq!(model.writer.retired(), 0);
        });
    }

    #[test]
    fn a_reader_that_goes_offline_and_comes_back() {
        loom::model(|| {
            let (mut model, mut readers) = Model::new(1, 3);
            let contents = Arc::clone(&model.contents);
            let reader = thread::spawn(move || {
                let mut reader = readers.remove(0);
                contents.look(reader.snapshot());
                reader.offline();
                contents.look(reader.snapshot());
            });
            model.publish();
            model.publish();
            reader.join().unwrap();
            model.reclaim();
            assert_eq!(model.writer.retired(), 0);
        });
    }

    #[test]
    fn two_readers_of_which_one_comes_late() {
        loom::model(|| {
            let (mut model, mut readers) = Model::new(2, 2);
            let mut early = readers.remove(0);
            let mut late = readers.remove(0);
            model.contents.look(early.snapshot());
            let threads = [
                thread::spawn({
                    let contents = Arc::clone(&model.contents);
                    move || contents.look(early.snapshot())
                }),
                thread::spawn({
                    let contents = Arc::clone(&model.contents);
                    move || contents.look(late.snapshot())
                }),
            ];
            model.publish();
            for thread in threads {
                thread.join().unwrap();
            }
            model.reclaim();
            assert_eq!(model.writer.retired(), 0);
        });
    }

    #[test]
    fn a_reader_that_outlives_the_writer() {
        loom::model(|| {
            let (mut model, mut readers) = Model::new(1, 2);
            let contents = Arc::clone(&model.contents);
            let reader = thread::spawn(move || {
                let mut reader = readers.remove(0);
                contents.look(reader.snapshot());
                contents.look(reader.snapshot());
            });
            model.publish();
            drop(model.writer);
            reader.join().unwrap();
        });
    }
}
