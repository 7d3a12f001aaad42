//! A frame's whole way, in seven calls, the same in both directions. Each returns before the next starts.
//!
//! ```text
//!                    from an underlay                          from an access port
//!   1. receive    rx ring ─▶ batch                          rx ring ─▶ batch
//!   2. snapshot   once a turn, for all ports                the same
//!   3. decide     decap: headers, VNI, peer ─▶ verdicts     encap: inner destination ─▶ verdicts
//!   4. apply      outer headers off ─▶ a segment's outbox   outer headers on ─▶ the underlay's outbox
//!   5. transmit   outboxes ─▶ access ports                  outbox ─▶ underlay port
//!   6. reclaim    completion rings ─▶ pool                  the same
//!   7. refill     pool ─▶ fill rings                        the same
//! ```
//!
//! A segment with a lane of superframes has two ways to the kernel: in 5, TCP and trains of UDP go to its access TAP, all else
//! to its access port; and after the access ports, the access TAPs are received from, whose frames leave by wire TAPs or are cut
//! (`superframes.rs`).
//!
//! Whoever captures sees frames between 3 and 4 as they came in, with their verdicts (`watch.rs`), and in 5 as they leave. With
//! a direct path, flows are noted there as well (`sightings.rs`). Where each stage ends is told to a clock in the few turns that
//! `vxgate perf` has measured (`laps.rs`), and to nobody in all others.
//!
//! Where a device's frames carry marks, they are lifted off between 1 and 3 and put on in 4.
//!
//! A frame is counted at the port where it came in, whatever happens to it and wherever: what finds no room in the ring
//! of the port that should send it is dropped there and then, so no queue grows.

use super::laps::{Laps, Timed, Untimed};
use super::{Access, Hands, Plan, Superframes, Underlay, Worker, watch};
use crate::flows::Lookout;
use crate::pipeline::{Exit, carrier, decap, encap, sightings};
use crate::port::{BATCH, Batch, Port, Umem, Usage};
use crate::stats::tap::Point;
use crate::stats::{DropReason, PortCounters, Stage};
use crate::table::{SegmentId, Snapshot};

/// What one turn did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Frames taken from receive rings.
    pub received: usize,
    /// How many of these came from underlays.
    pub decapsulated: usize,
    /// Sent frames that came back into the pool.
    pub reclaimed: usize,
}

impl Moved {
    /// Whether it did anything.
    #[inline]
    pub fn any(self) -> bool {
        self.received + self.reclaimed > 0
    }
}

impl<P: Port> Worker<P> {
    /// One turn: at most one batch from each port, on to where it belongs.
    ///
    /// A function of its own in the program, where `tests/panic_free.rs` finds it.
    #[inline(never)]
    pub fn turn(&mut self) -> Moved {
        let counters = &self.plan.counters;
        if counters.stages.is_due(counters.last_turn_ns.get()) {
            return self.turn_timed();
        }
        self.turn_telling(&mut Untimed)
    }

    /// The same, by the clock.
    #[cold]
    #[inline(never)]
    fn turn_timed(&mut self) -> Moved {
        let mut laps = Timed::start();
        let moved = self.turn_telling(&mut laps);
        laps.count(moved.received, &self.plan.counters.stages);
        moved
    }

    /// No train waits any longer: for whoever takes no more turns.
    pub(super) fn end_waiting(&mut self) {
        let Plan {
            umem,
            underlays,
            superframes,
            ..
        } = &mut self.plan;
        let Some(superframes) = superframes else {
            return;
        };
        for (joining, underlay) in self.hands.joining.iter_mut().zip(underlays) {
            joining.flush(superframes, umem, &underlay.counters);
        }
    }

    #[inline(always)]
    fn turn_telling(&mut self, laps: &mut impl Laps) -> Moved {
        let Plan {
            umem,
            underlays,
            accesses,
            superframes,
            lookout,
            reader,
            counters,
            ..
        } = &mut self.plan;
        let now_ns = counters.last_turn_ns.get();
        let hands = &mut self.hands;
        let mut moved = Moved::default();

        let snapshot = reader.snapshot();
        for underlay in (0..).zip(&mut *underlays) {
            let beyond = Beyond {
                accesses,
                superframes: superframes.as_mut(),
                lookout: lookout.as_mut(),
            };
            moved.decapsulated +=
                from_underlay(snapshot, umem, underlay, beyond, hands, now_ns, laps);
        }
        moved.received = moved.decapsulated;
        for (segment, access) in (0..).map(SegmentId).zip(&mut *accesses) {
            // Present: `Worker::new` has looked.
            if let Some(underlay) = underlays.get_mut(access.underlay) {
                access.counters.peers.set_now(now_ns);
                let lookout = lookout.as_mut();
                let ends = (access, underlay);
                moved.received += from_access(snapshot, umem, segment, ends, lookout, hands, laps);
            }
        }
        let mut calls = 0;
        if let Some(superframes) = superframes {
            superframes.set_now(now_ns);
            let ports = (&mut *umem, underlays.as_mut_slice());
            moved.received += superframes.turn(snapshot, ports, lookout.as_mut(), hands, laps);
            moved.reclaimed += superframes.recycle(umem).reclaimed;
            calls += superframes.take_calls();
        }

        let access_ports = accesses
            .iter_mut()
            .map(|access| (&mut access.port, &access.counters));
        let underlay_ports = underlays
            .iter_mut()
            .map(|underlay| (&mut underlay.port, &underlay.counters));
        for (port, port_counters) in underlay_ports.chain(access_ports) {
            moved.reclaimed += port.reclaim(umem);
            port.refill(umem);
            calls += note(port_counters, port.take_usage(), now_ns);
        }
        self.reclaimed += moved.reclaimed as u64;
        counters.calls.add(calls);
        let used = umem.frames().saturating_sub(umem.free() as u32);
        counters.frames_used.note(used, now_ns);
        laps.end(Stage::Recycle);
        moved
    }
}

/// Takes note of how a port was used; returns its system calls.
#[inline]
fn note(counters: &PortCounters, usage: Usage, now_ns: u64) -> u64 {
    counters.rings.rx.note(usage.rx_waiting, now_ns);
    counters.rings.tx.note(usage.tx_waiting, now_ns);
    counters.rings.fill_missing.note(usage.fill_missing, now_ns);
    counters.calls.add(usage.calls.into());
    usage.calls.into()
}

/// Where decapsulated frames may go, and who hears of them.
struct Beyond<'a, P> {
    accesses: &'a mut [Access<P>],
    superframes: Option<&'a mut Superframes>,
    lookout: Option<&'a mut Lookout>,
}

/// Decapsulates a batch from one underlay port, in the turn that began at `now_ns`; returns its size.
fn from_underlay<P: Port>(
    snapshot: &Snapshot,
    umem: &mut Umem,
    (number, underlay): (usize, &mut Underlay<P>),
    beyond: Beyond<'_, P>,
    hands: &mut Hands,
    now_ns: u64,
    laps: &mut impl Laps,
) -> usize {
    let Beyond {
        accesses,
        superframes,
        lookout,
    } = beyond;
    let Hands {
        batch,
        verdicts,
        to_accesses,
        to_tap,
        joining,
        ways,
        ..
    } = hands;
    let counters = &*underlay.counters;
    counters.peers.set_now(now_ns);
    let received = receive(&mut underlay.port, umem, batch, counters);
    laps.end(Stage::Receive);
    let mut lane = joining.get_mut(number).zip(superframes);
    if received == 0 {
        if let Some((joining, superframes)) = lane {
            joining.wait(now_ns, superframes, umem, counters);
        }
        return 0;
    }
    counters.offenders.set_now(now_ns);
    decap::decide(snapshot, umem, batch, verdicts);
    if counters.tap.wants(Point::UnderlayRx) {
        watch::from_underlay(umem, batch, verdicts, counters);
    }
    if let Some(lookout) = lookout {
        sightings::arrivals(snapshot, underlay.ifindex, umem, batch, verdicts, lookout);
    }
    laps.end(Stage::Decide);
    decap::apply(snapshot, umem, batch, verdicts, counters, to_accesses);
    laps.end(Stage::Apply);
    for (segment, (outbox, access)) in to_accesses.iter_mut().zip(accesses).enumerate() {
        if let Some((joining, superframes)) = &mut lane
            && let Some(tap) = superframes.access_mut(segment)
        {
            let belongs = ways.choose(outbox.bytes(umem), now_ns, tap.takes_trains);
            outbox.split(to_tap, belongs);
            joining.add(segment, to_tap, superframes, umem, counters);
            laps.end(Stage::Join);
        }
        outbox.flush(&mut access.port, umem, counters, DropReason::TxRingFull);
    }
    laps.end(Stage::Transmit);
    if let Some((joining, superframes)) = lane {
        joining.end_batch(received == BATCH, now_ns, superframes, umem, counters);
        laps.end(Stage::Join);
    }
    received
}

/// Encapsulates a batch from one access port; returns its size.
fn from_access<P: Port>(
    snapshot: &Snapshot,
    umem: &mut Umem,
    segment: SegmentId,
    (access, underlay): (&mut Access<P>, &mut Underlay<P>),
    lookout: Option<&mut Lookout>,
    hands: &mut Hands,
    laps: &mut impl Laps,
) -> usize {
    let Hands {
        batch,
        verdicts,
        to_underlay,
        ip_ids,
        ..
    } = hands;
    let counters = &*access.counters;
    let received = receive(&mut access.port, umem, batch, counters);
    laps.end(Stage::Receive);
    if received == 0 {
        return 0;
    }
    to_underlay.leads_to(Point::UnderlayTx, underlay.counters.tap.port());
    let mut exit = Exit {
        port: &mut underlay.port,
        outbox: to_underlay,
        ip_ids,
    };
    carrier::lift(snapshot, segment, umem, batch);
    encap::decide(snapshot, segment, umem, batch, verdicts);
    if counters.tap.wants(Point::AccessRx) {
        watch::from_access(snapshot.segment(segment), umem, batch, verdicts, counters);
    }
    if let Some(lookout) = lookout {
        sightings::departures::<false>(snapshot, segment, umem, batch, verdicts, lookout);
    }
    laps.end(Stage::Decide);
    encap::apply(
        snapshot, segment, umem, batch, verdicts, counters, &mut exit,
    );
    laps.end(Stage::Apply);
    exit.flush(umem, counters);
    laps.end(Stage::Transmit);
    received
}

/// Takes what has arrived at a port, and counts it there.
#[inline]
pub(super) fn receive<P: Port>(
    port: &mut P,
    umem: &mut Umem,
    batch: &mut Batch,
    counters: &PortCounters,
) -> usize {
    let received = port.receive(umem, batch);
    if received > 0 {
        counters.received.add(received as u64);
        counters
            .received_bytes
            .add(batch.iter().map(|frame| frame.len() as u64).sum());
        counters.batches.count(received);
    }
    received
}
