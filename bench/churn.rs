//! What changes of the table cost a worker. A writer on another core moves 50 stations every 5 ms to other VTEPs and publishes,
//! as `control` does with 10,000 changes a second; in every other window it rests.
//!
//! The clock of the changes is the worker's busy time: between its turns the benchmark plays the kernel, and changes that
//! fell into that time would cost the next turn more than in a worker that only works.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;
use hdrhistogram::Histogram;
use vxgate::table::{VtepId, Writer, publication};
use vxgate::wire::MacAddr;

use crate::network::{Direction, LARGE_FDB, Network, THOUSAND, station};
use crate::shuffle::order;
use crate::worker::{COLD_RING, WholeWorker};
use crate::{Rounds, Wanted, work};

/// Changes of one publication, and the worker's busy time between two.
const CHANGES: usize = 50;
const GAP_NS: u64 = 5_000_000;

const SIZES: [Network; 3] = [
    Network {
        name: "10k-fdb",
        stations: 10_000,
        vteps: THOUSAND.vteps,
    },
    Network {
        name: "100k-fdb",
        stations: 100_000,
        vteps: THOUSAND.vteps,
    },
    LARGE_FDB,
];

pub fn rows(wanted: &Wanted) {
    for network in SIZES {
        let row = format!("churn/encap-{}/64", network.name);
        if wanted.has(&row) {
            compare(wanted, &row, network);
        }
    }
}

fn compare(wanted: &Wanted, row: &str, network: Network) {
    let Some([first, second]) = wanted.two_cores(row) else {
        return;
    };
    let (writer, mut readers) = publication(1, network.snapshot());
    let clock = Arc::new(Clock::default());
    let churn = Churn::new(writer, network);
    let writer = thread::spawn({
        let clock = Arc::clone(&clock);
        move || {
            core_affinity::set_for_current(second);
            churn.run(&clock)
        }
    });
    core_affinity::set_for_current(first);
    let reader = readers.remove(0);
    let mut worker = WholeWorker::on(network, Direction::Encap, 64, COLD_RING, reader);
    let mut all = [(); 2].map(|()| Histogram::<u64>::new(3).expect("three digits"));
    let (mut costs, mut tails) = (Rounds::default(), Rounds::default());
    for _ in 0..wanted.rounds() {
        let mut window = |active: bool| {
            clock.active.store(active, Ordering::Relaxed);
            let mut turns = Histogram::<u64>::new(3).expect("three digits");
            let busy_ns = &clock.busy_ns;
            let work = work(&mut worker, wanted.window() * 4, |turn_ns| {
                busy_ns.store(busy_ns.load(Ordering::Relaxed) + turn_ns, Ordering::Relaxed);
                turns.record(turn_ns).expect("it grows");
            });
            all[usize::from(active)]
                .add(&turns)
                .expect("the same digits");
            (work.frame_ns(), turns.value_at_quantile(0.99) as f64 / 1e3)
        };
        let (rests, writes) = (window(false), window(true));
        costs.note(rests.0, writes.0);
        tails.note(rests.1, writes.1);
    }
    clock.stop.store(true, Ordering::Relaxed);
    let told = writer.join().expect("the writer ends");
    costs.show(row, "ns", "<= 1.02");
    tails.show(&format!("{row} p99 turn"), "us", "<= 1.10");
    let [rests, writes] = all.map(|turns| turns.value_at_quantile(0.99) as f64 / 1e3);
    println!("    all turns: p99 {rests:.2} us at rest, {writes:.2} us under changes; {told}");
}

/// How long the worker has been busy, and what the writer is to do.
#[derive(Default)]
struct Clock {
    busy_ns: CachePadded<AtomicU64>,
    active: CachePadded<AtomicBool>,
    stop: CachePadded<AtomicBool>,
}

/// The writer, and what it changes next.
struct Churn {
    writer: Writer,
    /// Which VTEP each station is behind.
    behind: Vec<VtepId>,
    order: Vec<u32>,
    vteps: u32,
    next: usize,
}

impl Churn {
    fn new(writer: Writer, network: Network) -> Self {
        Self {
            writer,
            behind: network.entries().map(|(_, vtep)| vtep).collect(),
            order: order(network.stations),
            vteps: network.vteps as u32,
            next: 0,
        }
    }

    /// Publishes when it is time to. Tells how often, and how long it took.
    fn run(mut self, clock: &Clock) -> String {
        let (mut count, mut longest, mut all) = (0_u32, Duration::ZERO, Duration::ZERO);
        let mut due_ns = 0;
        while !clock.stop.load(Ordering::Relaxed) {
            let busy_ns = clock.busy_ns.load(Ordering::Relaxed);
            if busy_ns < due_ns || !clock.active.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_micros(100));
                continue;
            }
            let start = Instant::now();
            self.publish();
            let took = start.elapsed();
            count += 1;
            longest = longest.max(took);
            all += took;
            // As `control` does: a build may take a quarter of the writer's time.
            due_ns = busy_ns + GAP_NS.max(3 * took.as_nanos() as u64);
        }
        format!(
            "{count} publications of {CHANGES} changes took {:.0?}, at most {longest:.0?}",
            all / count.max(1)
        )
    }

    fn publish(&mut self) {
        let changes: Vec<_> = (0..CHANGES).map(|_| self.change()).collect();
        let mut next = self.writer.current().clone();
        let fdb = &mut next.segments[0].fdb;
        *fdb = Arc::new(fdb.with(changes));
        self.writer.publish(next);
    }

    /// Moves the next station.
    fn change(&mut self) -> (MacAddr, Option<VtepId>) {
        let number = self.order[self.next];
        self.next = (self.next + 1) % self.order.len();
        let vtep = &mut self.behind[number as usize];
        vtep.0 = (vtep.0 + 1) % self.vteps;
        (station(number), Some(*vtep))
    }
}
