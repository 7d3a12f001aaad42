//! The fate of each frame, decided by pure functions, then the edit; `encap` and `decap` read as mirror images.
//!
//! # A batch's way
//!
//! ```text
//!   underlay ── receive ─▶ Batch ── decap::decide ─▶ Verdicts ── decap::apply ─▶ Outbox of each segment ── flush ─▶ access
//!   access   ── receive ─▶ Batch ── encap::decide ─▶ Verdicts ── encap::apply ─▶ Exit (outbox + port)   ── flush ─▶ underlay
//! ```
//!
//! 1. `decide` reads the frames of a batch and writes one [`Verdict`] each into [`Verdicts`], in the same order. It
//!    changes no byte and counts nothing.
//! 2. `apply` empties the batch. The dead are counted by reason and released; the others are edited in place (outer
//!    headers pushed or pulled, an unfinished inner checksum completed) and put into an [`Outbox`].
//! 3. [`Outbox::flush`] transmits. Only here a frame is counted as forwarded, because only here it is known; what the
//!    port refuses is counted as dropped.
//!
//! # The balance
//!
//! All three take the counters of the port on which the frames **came in**, hence an outbox is flushed before frames of
//! another port are put into it. `received` and `received_bytes` are the worker's to count, the rest is done here:
//! after the flush `received = forwarded + Σ drops` holds for that port.
//!
//! A flooded frame goes to every VTEP of the segment's flood list, as copies made one at a time while the outbox is
//! flushed whenever it is full: what limits a flood is the transmit ring and the pool of free frames, not a queue here.
//! The frame's fate is that of the first copy. The others are in `flood_copies` when they were sent and in
//! `flood_copies_lost` when they were not, whatever the reason, and are in no other count.
//!
//! # What a worker calls
//!
//! ```text
//!   decap::decide(snapshot, umem, batch, verdicts)
//!   decap::apply(umem, batch, verdicts, counters, outboxes)     outboxes: one per SegmentId, empty before
//!   outboxes[i].flush(port, umem, counters, DropReason::TxRingFull)       each; nothing happens for an empty one
//!
//!   encap::decide(snapshot, segment, umem, batch, verdicts)
//!   encap::apply(snapshot, segment, umem, batch, verdicts, counters, exit)
//!   exit.flush(umem, counters)
//! ```
//!
//! [`Exit`] borrows the underlay port, its outbox and the worker's running [`IpIds`]. Where a port is missing, the
//! frames of its outbox go to [`Outbox::discard`].

pub mod decap;
mod ecn;
pub mod encap;
mod outbox;
mod unfinished;
mod verdict;

pub use outbox::{Exit, IpIds, Outbox, Role};
pub use verdict::{Verdict, Verdicts};
