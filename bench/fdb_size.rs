//! What a large FDB costs a frame. Both workers have large rings, so that their frames' memory is as cold, and a thousand VTEPs:
//! the FDB alone is larger.

use vxgate::table::publication;

use crate::network::{Direction, LARGE_FDB, THOUSAND};
use crate::worker::{COLD_RING, WholeWorker};
use crate::{Rounds, Wanted, work};

pub fn rows(wanted: &Wanted) {
    let row = "fdb-size/encap-1M/64";
    if !wanted.has(row) {
        return;
    }
    let mut writers = Vec::new();
    let mut workers = [THOUSAND, LARGE_FDB].map(|network| {
        let (writer, mut readers) = publication(1, network.snapshot());
        writers.push(writer);
        let reader = readers.remove(0);
        WholeWorker::on(network, Direction::Encap, 64, COLD_RING, reader)
    });
    let mut rounds = Rounds::default();
    for _ in 0..wanted.rounds() {
        let [small, large] = workers
            .each_mut()
            .map(|worker| work(worker, wanted.window(), |_| ()).frame_ns());
        rounds.note(small, large);
    }
    rounds.show(row, "ns", "<= 1.5");
}
