//! What the record of dead frames costs a frame: of workers all of whose frames die, and of such that forward all, one keeps
//! the last on record and one does not. Each turn has its time, as in a gateway.

use std::sync::Arc;

use vxgate::stats::FlightRecorder;
use vxgate::table::{Fdb, Snapshot, publication};

use crate::network::{Direction, THOUSAND};
use crate::worker::WholeWorker;
use crate::{Rounds, Wanted, work};

pub fn rows(wanted: &Wanted) {
    let mut dying = THOUSAND.snapshot();
    // Nobody is behind any VTEP, and nothing is flooded.
    dying.segments[0].fdb = Arc::new(Fdb::default());
    for (row, snapshot, target) in [
        ("record/dropped/64", dying, "<= 1.1"),
        ("record/forwarded/64", THOUSAND.snapshot(), "<= 1.01"),
    ] {
        if wanted.has(row) {
            show(wanted, row, &snapshot, target);
        }
    }
}

fn show(wanted: &Wanted, row: &str, snapshot: &Snapshot, target: &str) {
    let mut writers = Vec::new();
    let mut workers = [FlightRecorder::default(), FlightRecorder::new()].map(|recorder| {
        let (writer, mut readers) = publication(1, snapshot.clone());
        writers.push(writer);
        let recorder = Arc::new(recorder);
        WholeWorker::recording(THOUSAND, Direction::Encap, 64, readers.remove(0), recorder)
    });
    let mut rounds = Rounds::default();
    for _ in 0..wanted.rounds() {
        let [without, with] = workers
            .each_mut()
            .map(|worker| work(worker, wanted.window(), |_| ()).frame_ns());
        rounds.note(without, with);
    }
    rounds.show(row, "ns", target);
}
