//! All metrics, in the order of the page. What each is called, what it means, and where in [`Status`] its value stands, says the file
//! of what it is about.
//!
//! Names and labels are API: add, never rename. Every value is one that `vxgate status --json` has, or the sum of several.
//!
//! How many series there are is bounded: [`ports::PORTS_MAX`] ports and [`traffic::VNIS_MAX`] VNIs have series of their own, the others share
//! one; of the VTEPs so many as the operator says. Reasons, modes and states are closed sets. Nothing that a remote can make
//! up (an address, a VNI of a frame) becomes a label.

use std::time::SystemTime;

use super::super::Status;
use super::exposition::Exposition;
use super::{daemon, direct, effort, knowledge, peers, ports, queues, traffic, workers};

/// Writes all families. `now` is the time of the status.
pub(super) fn write(page: &mut Exposition<'_>, status: &Status, now: SystemTime, peers_max: usize) {
    daemon::write(page, status);
    let seen = &status.observation;
    ports::write(page, seen);
    queues::write(page, seen);
    workers::write(page, &seen.workers, now);
    effort::write(page, &seen.workers);
    peers::write(page, &seen.vteps, peers_max);
    traffic::write(page, seen, now, peers_max);
    knowledge::write(page, seen);
    if let Some(state) = &seen.direct {
        direct::write(page, state);
    }
}
