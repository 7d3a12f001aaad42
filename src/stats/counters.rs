//! Counters with one writer each.
//!
//! A worker owns its counters; anybody may read them, and sums over workers. A count is therefore stored with a plain
//! load and a plain store (no locked instruction), and each worker's block starts on a cache line of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::flight::Head;
use super::tap::{Point, PortTap};
use super::{
    Batches, DropReason, FlightRecorder, Mark, Offenders, Shape, StageSwitch, Stages, Tallies,
};

/// A number that one thread raises and others read.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Raises the count. Only the owner may call this: it is not atomic as a whole.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }

    /// Sets the number, for gauges.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The number now.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one worker did with the frames it received from one port. A frame is counted where it **entered**: so
/// `received = forwarded + Σ drops` holds for each port by itself, whatever port it left by.
#[derive(Debug)]
#[repr(align(128))]
pub struct PortCounters {
    /// Frames taken from the receive ring.
    pub received: Count,
    /// Their bytes, as received.
    pub received_bytes: Count,
    /// Frames handed on to another port at least once.
    pub forwarded: Count,
    /// Their bytes, as sent.
    pub forwarded_bytes: Count,
    /// Copies made beyond the first for a flood list; not part of the balance.
    pub flood_copies: Count,
    /// Bytes of these copies, as sent; not among `forwarded_bytes`.
    pub copied_bytes: Count,
    /// Copies wanted beyond the first that could not be made or sent; not part of the balance.
    pub flood_copies_lost: Count,
    /// Inner checksums that a sender had left unfinished, completed here.
    pub checksums_completed: Count,
    /// Superframes among the frames: what was received whole, and cut here or behind us, or joined here.
    pub superframes: Count,
    /// The segments that superframes were cut into or joined from.
    pub segments: Count,
    /// Segments beyond the first that superframes were cut into here and that were sent; not part of the balance.
    pub segments_sent: Count,
    /// Segments beyond the first of superframes that were sent whole, to be cut behind us; not part of the balance.
    pub segments_whole: Count,
    /// Segments beyond the first that were cut here and could not be made or sent although the first was; not part of the balance.
    pub segments_lost: Count,
    /// Frames from senders that are no known VTEP, delivered all the same (`peer_check = "log"`); among `forwarded`.
    pub strangers_delivered: Count,
    drops: [Count; DropReason::COUNT],
    /// Whom the peer check found fault with.
    pub offenders: Offenders,
    /// What is counted of each peer, with the worker's other ports on this side. Whatever is handed on is counted there, too:
    /// `forwarded`, copies, and all segments of superframes.
    pub peers: Arc<Tallies>,
    /// Keeps the last of the frames that died, with those of the worker's other ports on this side.
    recorder: Arc<FlightRecorder>,
    /// The index of the port's device, as it is kept beside them.
    port: u32,
    /// Where whoever captures sees the port's frames.
    pub tap: PortTap,
    /// Frames that were taken together. They add up to `received`, but for those that died before they could be taken.
    pub batches: Batches,
    /// System calls that moved frames or asked the kernel to; not the sleeps of the worker.
    pub calls: Count,
    /// How full the rings were.
    pub rings: RingMarks,
}

/// How full the rings of a socket were.
#[derive(Debug, Default)]
pub struct RingMarks {
    /// Entries that waited in the receive ring.
    pub rx: Mark,
    /// Entries that waited in the transmit ring.
    pub tx: Mark,
    /// Entries that the fill ring lacked.
    pub fill_missing: Mark,
}

impl Default for PortCounters {
    fn default() -> Self {
        Self {
            received: Count::default(),
            received_bytes: Count::default(),
            forwarded: Count::default(),
            forwarded_bytes: Count::default(),
            flood_copies: Count::default(),
            copied_bytes: Count::default(),
            flood_copies_lost: Count::default(),
            checksums_completed: Count::default(),
            superframes: Count::default(),
            segments: Count::default(),
            segments_sent: Count::default(),
            segments_whole: Count::default(),
            segments_lost: Count::default(),
            strangers_delivered: Count::default(),
            drops: std::array::from_fn(|_| Count::default()),
            offenders: Offenders::default(),
            peers: Arc::default(),
            recorder: Arc::default(),
            port: 0,
            tap: PortTap::default(),
            batches: Batches::default(),
            calls: Count::default(),
            rings: RingMarks::default(),
        }
    }
}

impl PortCounters {
    /// Of a port whose frames are counted for their peers, too.
    pub fn counting(peers: Arc<Tallies>) -> Self {
        Self {
            peers,
            ..Self::default()
        }
    }

    /// The same, and frames that die are kept as those of the device with this index.
    pub fn recording(self, recorder: Arc<FlightRecorder>, port: u32) -> Self {
        Self {
            recorder,
            port,
            ..self
        }
    }

    /// The same, of a port whose frames can be captured, too.
    #[must_use]
    pub fn tapped(self, tap: PortTap) -> Self {
        Self { tap, ..self }
    }

    /// Frames that were handed to ports, as the wire has them: with copies, and with every segment of a superframe.
    pub fn handed_on(&self) -> u64 {
        let parts = [
            &self.forwarded,
            &self.flood_copies,
            &self.segments_sent,
            &self.segments_whole,
        ];
        parts.iter().map(|part| part.get()).sum()
    }

    /// Counts a dead frame, and keeps it on record. Every drop of the data path comes by here that has the frame at hand.
    #[inline]
    pub fn died(&self, reason: DropReason, shape: Shape, frame: &[u8]) {
        self.dropped(reason, 1);
        let now_ns = self.peers.now_ns();
        if self.tap.wants(Point::Drop) {
            self.tap.show_dead(reason, shape, frame, now_ns);
        }
        if self.recorder.wants(reason, now_ns) {
            let head = Head {
                at_ns: now_ns,
                number: self.drops(reason),
                port: self.port,
                shape,
            };
            self.recorder.record(reason, head, frame);
        }
    }

    /// Counts dead frames of which there is only the number.
    #[inline]
    pub fn dropped(&self, reason: DropReason, frames: u64) {
        self.drops[reason as usize].add(frames);
    }

    /// How many died for this reason.
    #[inline]
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize].get()
    }
}

/// What one worker did with its time.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerCounters {
    /// Turns of the loop.
    pub turns: Count,
    /// Turns that moved at least one frame.
    pub busy_turns: Count,
    /// Times it slept in `poll(2)`.
    pub sleeps: Count,
    /// Sleeps that ended because something had arrived, and not because the time was over.
    pub woken: Count,
    /// Times it went on looking for frames when there were none.
    pub spins: Count,
    /// Those of them that found some.
    pub spins_found: Count,
    /// Nanoseconds spent awake.
    pub awake_ns: Count,
    /// Those of them in turns that moved at least one frame.
    pub working_ns: Count,
    /// Nanoseconds spent asleep.
    pub asleep_ns: Count,
    /// `CLOCK_MONOTONIC` in nanoseconds at the start of the last turn: the heartbeat.
    pub last_turn_ns: Count,
    /// System calls of its ports that moved frames or asked the kernel to; not its sleeps.
    pub calls: Count,
    /// Frames that were not in the pool.
    pub frames_used: Mark,
    /// Where the time of its turns goes, while that is measured.
    pub stages: Stages,
}

impl WorkerCounters {
    /// Of a worker whose turns are measured by stages when this switch is on.
    pub fn measured_by(switch: StageSwitch) -> Self {
        Self {
            stages: Stages::switched_by(switch),
            ..Self::default()
        }
    }
}
