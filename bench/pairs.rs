//! What is told by a ratio: two ways of the same work, in turn, in one process and on in-memory ports. See README.md beside
//! this file.
//!
//! | file | rows | what is compared |
//! |---|---|---|
//! | `two_workers.rs` | `two-workers` | two workers on two cores at the same time with one at a time |
//! | `fdb_size.rs` | `fdb-size` | a worker's turn with a million entries in the FDB with its turn with a thousand |
//! | `dead_frames.rs` | `record` | a worker that keeps the last dead frames on record with one that does not, when all die and when none does |
//! | `churn.rs` | `churn` | a worker while its table changes 10,000 times a second with the same worker while it rests |
//!
//! Rounds of short windows, in each of which both ways have their turn; the row is the median of the rounds' ratios, with its
//! quartiles. Only the worker's turns are in the time: what plays the kernel around it is not.

mod churn;
mod dead_frames;
mod fdb_size;
#[allow(dead_code)] // Each benchmark uses its own part of what they share.
mod network;
#[path = "../tests/rig/mod.rs"]
mod rig;
#[allow(dead_code)] // As above.
mod shuffle;
mod two_workers;
#[allow(dead_code)] // As above.
mod worker;

use std::time::{Duration, Instant};

use core_affinity::CoreId;
use vxgate::port::BATCH;

use worker::WholeWorker;

fn main() {
    let wanted = Wanted::from_arguments();
    println!(
        "{:<24} {:>11} {:>11} {:>7}  quartiles      target",
        "", "one", "other", "ratio"
    );
    two_workers::rows(&wanted);
    fdb_size::rows(&wanted);
    churn::rows(&wanted);
    dead_frames::rows(&wanted);
}

/// Which rows, and how long.
pub struct Wanted {
    part_of_name: Option<String>,
    /// As `cargo bench` wants it, and not only to see whether it works.
    in_earnest: bool,
    /// Those that this process may use.
    cores: Vec<CoreId>,
}

impl Wanted {
    fn from_arguments() -> Self {
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        Self {
            part_of_name: arguments
                .iter()
                .find(|word| !word.starts_with('-'))
                .cloned(),
            in_earnest: arguments.iter().any(|word| word == "--bench"),
            cores: core_affinity::get_core_ids().unwrap_or_default(),
        }
    }

    /// Two cores for two threads; without them, says so.
    pub fn two_cores(&self, row: &str) -> Option<[CoreId; 2]> {
        if let [first, second, ..] = self.cores[..] {
            return Some([first, second]);
        }
        println!("{row:<24} needs two cores");
        None
    }

    /// Whether this row is asked for.
    pub fn has(&self, row: &str) -> bool {
        self.part_of_name
            .as_ref()
            .is_none_or(|part| row.contains(part.as_str()))
    }

    /// How many rounds.
    pub fn rounds(&self) -> usize {
        if self.in_earnest { 41 } else { 1 }
    }

    /// How long the turns of a window take together.
    pub fn window(&self) -> Duration {
        Duration::from_millis(if self.in_earnest { 25 } else { 1 })
    }
}

/// What a worker did in a window.
#[derive(Clone, Copy, Default)]
pub struct Work {
    frames: u64,
    busy_ns: u64,
}

impl Work {
    /// Nanoseconds a frame.
    pub fn frame_ns(self) -> f64 {
        self.busy_ns as f64 / self.frames as f64
    }

    /// Million frames a second.
    pub fn mfps(self) -> f64 {
        1e3 / self.frame_ns()
    }
}

/// Has a worker take turns until they have taken as long as the window. `each` gets the length of every turn in nanoseconds.
pub fn work(worker: &mut WholeWorker, window: Duration, mut each: impl FnMut(u64)) -> Work {
    let mut work = Work::default();
    while u128::from(work.busy_ns) < window.as_nanos() {
        worker.prepare();
        let start = Instant::now();
        worker.turn();
        let turn_ns = start.elapsed().as_nanos() as u64;
        work.busy_ns += turn_ns;
        work.frames += BATCH as u64;
        each(turn_ns);
    }
    work
}

/// The rounds of one row: what each of the two ways came to.
#[derive(Default)]
pub struct Rounds(Vec<(f64, f64)>);

impl Rounds {
    /// Notes what both came to in one round.
    pub fn note(&mut self, one: f64, other: f64) {
        self.0.push((one, other));
    }

    /// Prints the row: medians of both, and of `other / one`.
    pub fn show(&self, row: &str, unit: &str, target: &str) {
        let sorted = |value: fn(&(f64, f64)) -> f64| {
            let mut values: Vec<_> = self.0.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let middle = |values: Vec<f64>| values[values.len() / 2];
        let ratios = sorted(|(one, other)| other / one);
        let quartile = |n: usize| ratios[(ratios.len() - 1) * n / 4];
        println!(
            "{row:<24} {:>7.2} {unit:<3} {:>7.2} {unit:<3} {:>7.3}  {:.3} - {:.3}  {target}",
            middle(sorted(|(one, _)| *one)),
            middle(sorted(|(_, other)| *other)),
            quartile(2),
            quartile(1),
            quartile(3),
        );
    }
}
