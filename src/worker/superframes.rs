//! A worker's lane of superframes: memory of its own, a queue of the TAP of every segment that has one, and a queue of the
//! TAP in front of each underlay device that has one.
//!
//! ```text
//!   from an access TAP: receive ─▶ decide ─▶ apply ─▶ the wire TAP of the segment's underlay      (encapsulated, uncut)
//!                                              or ─▶ the segment's underlay port                 (cut, and encapsulated)
//!   from an underlay:   what TCP and UDP its decapsulated frames carry, joined ─▶ its access TAP          (`joining.rs`)
//! ```
//!
//! A superframe counts as one frame where it is received and forwarded, as on the kernel's own vxlan device; what it is cut
//! into is counted beside that.

use std::os::fd::RawFd;
use std::sync::Arc;

use super::laps::Laps;
use super::{Hands, Moved, Underlay, watch};
use crate::flows::Lookout;
use crate::pipeline::{Exit, encap, encap_cut, sightings};
use crate::port::{Port, TapPort, Umem};
use crate::stats::tap::Point;
use crate::stats::{DropReason, PortCounters, Stage};
use crate::table::{SegmentId, Snapshot};

/// What a worker has for superframes.
#[derive(Debug)]
pub struct Superframes {
    /// The memory of those that come from the overlay.
    pub umem: Umem,
    /// Indexed by [`SegmentId`]; none for a segment whose TCP and UDP go the way of all other frames.
    pub accesses: Vec<Option<AccessTap>>,
    /// A queue of each wire TAP.
    pub wires: Vec<TapPort>,
}

/// One queue of the TAP of a segment.
#[derive(Debug)]
pub struct AccessTap {
    /// The queue.
    pub port: TapPort,
    /// What became of the frames that came in here.
    pub counters: Arc<PortCounters>,
    /// How they leave.
    pub departure: Departure,
    /// Whether it takes trains of datagrams.
    pub takes_trains: bool,
    /// Frames that could not be received, as far as they are in the counters.
    pub lost: u64,
}

/// How superframes leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// Whole, by a wire TAP: an index of [`Superframes::wires`].
    Whole(usize),
    /// Cut by the worker, by an underlay port: an index of [`super::Plan::underlays`].
    Cut(usize),
}

impl AccessTap {
    /// A queue whose frames leave like that, and that takes trains of datagrams.
    pub fn new(port: TapPort, counters: Arc<PortCounters>, departure: Departure) -> Self {
        Self {
            port,
            counters,
            departure,
            takes_trains: true,
            lost: 0,
        }
    }

    /// Takes what has come out of the TAP; returns how many frames.
    fn receive(&mut self, umem: &mut Umem, hands: &mut Hands) -> usize {
        let counters = &*self.counters;
        let received = super::turn::receive(&mut self.port, umem, &mut hands.batch, counters);
        if received > 0
            && let Ok(statistics) = self.port.statistics()
        {
            // The TAP has no other hand that would count them.
            let lost = statistics.rx_dropped.saturating_sub(self.lost);
            self.lost += lost;
            counters.received.add(lost);
            counters.dropped(DropReason::RxInvalid, lost);
        }
        received
    }
}

impl Superframes {
    /// The TAP of a segment, if it has one.
    #[inline]
    pub(super) fn access_mut(&mut self, segment: usize) -> Option<&mut AccessTap> {
        self.accesses.get_mut(segment).and_then(Option::as_mut)
    }

    /// What there is.
    pub(super) fn accesses(&self) -> impl Iterator<Item = &AccessTap> {
        self.accesses.iter().flatten()
    }

    /// What a sleeping worker waits on.
    pub(super) fn poll_fds(&self) -> impl Iterator<Item = RawFd> {
        self.accesses().filter_map(|access| access.port.poll_fd())
    }

    /// Tells the time of the turn.
    pub(super) fn set_now(&self, now_ns: u64) {
        for access in self.accesses() {
            access.counters.peers.set_now(now_ns);
        }
    }

    /// Encapsulates what has come out of the access TAPs; returns how many frames. Cut ones are made in `frames`.
    pub(super) fn turn<P: Port>(
        &mut self,
        snapshot: &Snapshot,
        (frames, underlays): (&mut Umem, &mut [Underlay<P>]),
        mut lookout: Option<&mut Lookout>,
        hands: &mut Hands,
        laps: &mut impl Laps,
    ) -> usize {
        let Self {
            umem,
            accesses,
            wires,
        } = self;
        let mut received = 0;
        for (segment, access) in (0..).map(SegmentId).zip(accesses) {
            let Some(access) = access else { continue };
            let lookout = lookout.as_deref_mut();
            // Present: `Worker::new` has looked.
            received += match access.departure {
                Departure::Whole(wire) => wires.get_mut(wire).map_or(0, |wire| {
                    let ends = (access, wire);
                    leave_whole(snapshot, umem, segment, ends, lookout, hands, laps)
                }),
                Departure::Cut(underlay) => underlays.get_mut(underlay).map_or(0, |underlay| {
                    let memories = (&mut *umem, &mut *frames);
                    let ends = (access, underlay);
                    leave_cut(snapshot, memories, segment, ends, lookout, hands, laps)
                }),
            };
        }
        received
    }

    /// The system calls since this was last called; each access TAP's are counted there, too.
    pub(super) fn take_calls(&mut self) -> u64 {
        let mut calls = 0;
        for access in self.accesses.iter_mut().flatten() {
            let of_access = access.port.take_usage().calls.into();
            access.counters.calls.add(of_access);
            calls += of_access;
        }
        let wires = self.wires.iter_mut();
        calls
            + wires
                .map(|wire| u64::from(wire.take_usage().calls))
                .sum::<u64>()
    }

    /// Gives the frames that were sent back to their memories, and every access TAP chunks to receive into.
    pub(super) fn recycle(&mut self, frames: &mut Umem) -> Moved {
        let mut moved = Moved::default();
        for wire in &mut self.wires {
            moved.reclaimed += wire.reclaim(&mut self.umem);
        }
        for access in self.accesses.iter_mut().flatten() {
            moved.reclaimed += access.port.reclaim(frames);
            access.port.refill(&mut self.umem);
        }
        moved
    }
}

/// Encapsulates a batch from one access TAP, for a wire TAP; returns its size.
fn leave_whole(
    snapshot: &Snapshot,
    umem: &mut Umem,
    segment: SegmentId,
    (access, wire): (&mut AccessTap, &mut TapPort),
    lookout: Option<&mut Lookout>,
    hands: &mut Hands,
    laps: &mut impl Laps,
) -> usize {
    let received = access.receive(umem, hands);
    laps.end(Stage::Receive);
    if received == 0 {
        return 0;
    }
    let counters = &*access.counters;
    // A TAP stands in front of its device.
    let below = snapshot.segment(segment);
    let below = below.map_or(0, |segment| segment.config.underlay_ifindex);
    hands.to_underlay.leads_to(Point::UnderlayTx, below);
    let mut exit = Exit {
        port: wire,
        outbox: &mut hands.to_underlay,
        ip_ids: &mut hands.ip_ids,
    };
    let (batch, verdicts) = (&mut hands.batch, &mut hands.verdicts);
    encap::decide_superframes(snapshot, segment, umem, batch, verdicts);
    if counters.tap.wants(Point::AccessRx) {
        watch::from_access(snapshot.segment(segment), umem, batch, verdicts, counters);
    }
    if let Some(lookout) = lookout {
        sightings::departures::<true>(snapshot, segment, umem, batch, verdicts, lookout);
    }
    laps.end(Stage::Decide);
    encap::apply_superframes(
        snapshot, segment, umem, batch, verdicts, counters, &mut exit,
    );
    laps.end(Stage::Apply);
    exit.flush(umem, counters);
    laps.end(Stage::Transmit);
    received
}

/// The same for an underlay port, cut into frames of the second memory.
fn leave_cut<P: Port>(
    snapshot: &Snapshot,
    (umem, frames): (&mut Umem, &mut Umem),
    segment: SegmentId,
    (access, underlay): (&mut AccessTap, &mut Underlay<P>),
    lookout: Option<&mut Lookout>,
    hands: &mut Hands,
    laps: &mut impl Laps,
) -> usize {
    let received = access.receive(umem, hands);
    laps.end(Stage::Receive);
    if received == 0 {
        return 0;
    }
    let counters = &*access.counters;
    let below = underlay.counters.tap.port();
    hands.to_underlay.leads_to(Point::UnderlayTx, below);
    let mut exit = Exit {
        port: &mut underlay.port,
        outbox: &mut hands.to_underlay,
        ip_ids: &mut hands.ip_ids,
    };
    let (batch, verdicts) = (&mut hands.batch, &mut hands.verdicts);
    encap::decide_superframes(snapshot, segment, umem, batch, verdicts);
    if counters.tap.wants(Point::AccessRx) {
        watch::from_access(snapshot.segment(segment), umem, batch, verdicts, counters);
    }
    if let Some(lookout) = lookout {
        sightings::departures::<true>(snapshot, segment, umem, batch, verdicts, lookout);
    }
    laps.end(Stage::Decide);
    let memories = (&mut *umem, &mut *frames);
    encap_cut::apply(
        snapshot, segment, memories, batch, verdicts, counters, &mut exit,
    );
    laps.end(Stage::Apply);
    exit.flush(frames, counters);
    laps.end(Stage::Transmit);
    received
}
