//! How time is taken.
//!
//! Work is done in batches, as a worker does it, and one iteration of criterion's is **one element** of a batch: a frame, a
//! look-up, a descriptor. So what criterion calls `time` is nanoseconds an element.
//!
//! What has to be prepared for a batch (frames that arrive, checksums left unfinished) is not in the time, and neither is
//! what reading the clock costs. At the end the lowest and the median sample of each are shown: the lowest says what the
//! code can do, the median what the machine was like besides.
//!
//! A hot action that allocates or frees ends the run.

use std::fmt::Display;
use std::hint::black_box;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};

use crate::rig::allocations::calls_during;
use crate::targets::target;

/// Batches before allocations are counted, and while they are.
const WARM_BATCHES: usize = 10;
const COUNTED_BATCHES: usize = 50;
/// A sample of less time says nothing: those of a trial run, and the first of the warm-up.
const SAMPLE_MIN: Duration = Duration::from_micros(20);

/// All cases and sizes of one action.
pub struct Action<'a> {
    name: &'static str,
    group: BenchmarkGroup<'a, WallTime>,
}

/// How many elements a batch has, and what is done with it.
pub struct Batches<P, A> {
    /// Elements of a batch.
    pub len: u64,
    /// Comes before each, and is not measured.
    pub prepare: P,
    /// What is measured.
    pub act: A,
}

impl<'a> Action<'a> {
    pub fn new(criterion: &'a mut Criterion, name: &'static str) -> Self {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(1));
        Self { name, group }
    }

    /// For what takes milliseconds: few samples, all of the same length.
    pub fn slow(mut self) -> Self {
        self.group.sample_size(10);
        self.group.sampling_mode(SamplingMode::Flat);
        self
    }

    /// Measures batches of a hot action, each by itself. Nothing is set up unless the benchmark is wanted.
    ///
    /// # Panics
    /// When a batch allocates or frees.
    pub fn prepared<S>(
        &mut self,
        case: &str,
        size: impl Display,
        setup: impl FnOnce() -> S,
        batches: Batches<impl Fn(&mut S), impl Fn(&mut S)>,
    ) {
        let name = self.full_name(case, &size);
        let setup = || {
            let mut state = setup();
            assert_no_allocations(&name, &mut state, &batches);
            state
        };
        self.run(case, size, batches.len, setup, |state, count| {
            each(state, count, &batches)
        });
    }

    /// The same for a hot action that needs no preparation: many batches are measured together, so that it may be short.
    ///
    /// # Panics
    /// When a batch allocates or frees.
    pub fn steady<S>(
        &mut self,
        case: &str,
        size: impl Display,
        setup: impl FnOnce() -> S,
        len: u64,
        act: impl Fn(&mut S),
    ) {
        let name = self.full_name(case, &size);
        let batches = Batches {
            len,
            prepare: |_: &mut S| (),
            act,
        };
        let setup = || {
            let mut state = setup();
            assert_no_allocations(&name, &mut state, &batches);
            state
        };
        self.run(case, size, len, setup, |state, count| {
            let start = Instant::now();
            for _ in 0..count {
                (batches.act)(black_box(state));
            }
            start.elapsed()
        });
    }

    /// Measures what may allocate, because no worker does it.
    pub fn cold<S>(
        &mut self,
        case: &str,
        size: impl Display,
        setup: impl FnOnce() -> S,
        batches: Batches<impl Fn(&mut S), impl Fn(&mut S)>,
    ) {
        self.run(case, size, batches.len, setup, |state, count| {
            each(state, count, &batches)
        });
    }

    fn full_name(&self, case: &str, size: &impl Display) -> String {
        format!("{}/{case}/{size}", self.name)
    }

    /// `time` does a number of batches, and tells how long they took.
    fn run<S>(
        &mut self,
        case: &str,
        size: impl Display,
        len: u64,
        setup: impl FnOnce() -> S,
        time: impl Fn(&mut S, u64) -> Duration,
    ) {
        let name = self.full_name(case, &size);
        let (mut setup, mut state, mut samples) = (Some(setup), None, Vec::new());
        let id = BenchmarkId::new(case, size);
        self.group.bench_function(id, |bencher| {
            bencher.iter_custom(|elements| {
                if let Some(setup) = setup.take() {
                    state = Some(setup());
                }
                let count = elements.div_ceil(len);
                let spent = state
                    .as_mut()
                    .map_or(Duration::ZERO, |state| time(state, count));
                let element_ns = spent.as_nanos() as f64 / (count * len) as f64;
                if spent >= SAMPLE_MIN {
                    samples.push(element_ns);
                }
                // Batches are whole: perhaps more was done than was asked for.
                Duration::from_nanos((element_ns * elements as f64).round() as u64)
            });
        });
        note(name, samples);
    }
}

/// Does batches one by one; the time of what they do.
fn each<S>(
    state: &mut S,
    count: u64,
    batches: &Batches<impl Fn(&mut S), impl Fn(&mut S)>,
) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..count {
        (batches.prepare)(state);
        let start = Instant::now();
        (batches.act)(black_box(state));
        spent += start.elapsed();
    }
    spent.saturating_sub(Duration::from_nanos(clock_ns() * count))
}

fn assert_no_allocations<S>(
    name: &str,
    state: &mut S,
    batches: &Batches<impl Fn(&mut S), impl Fn(&mut S)>,
) {
    for number in 0..WARM_BATCHES + COUNTED_BATCHES {
        (batches.prepare)(state);
        let (allocations, frees, ()) = calls_during(|| (batches.act)(state));
        assert!(
            number < WARM_BATCHES || (allocations, frees) == (0, 0),
            "{name}: {allocations} allocations and {frees} frees in one batch of a hot action"
        );
    }
}

/// The least time that passes between two looks at the clock, in nanoseconds.
fn clock_ns() -> u64 {
    static CLOCK_NS: OnceLock<u64> = OnceLock::new();
    *CLOCK_NS.get_or_init(|| {
        let looks = (0..10_000).map(|_| Instant::now().elapsed().as_nanos() as u64);
        looks.min().unwrap_or(0)
    })
}

/// One row of the summary.
struct Row {
    name: String,
    samples: usize,
    min_ns: f64,
    median_ns: f64,
}

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

fn note(name: String, mut samples: Vec<f64>) {
    samples.sort_by(f64::total_cmp);
    let (Some(min_ns), Some(median_ns)) = (samples.first(), samples.get(samples.len() / 2)) else {
        return;
    };
    let row = Row {
        name,
        samples: samples.len(),
        min_ns: *min_ns,
        median_ns: *median_ns,
    };
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    rows.push(row);
}

/// What was measured, in a table; nothing when it was a trial run.
pub fn show_summary() {
    let rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    if rows.iter().all(|row| row.samples < 2) {
        return;
    }
    println!(
        "{:<32} {:>12} {:>12} {:>8}",
        "ns an element", "min", "median", "target"
    );
    for row in &*rows {
        let target = target(&row.name).map_or(String::new(), |ns| format!("≤ {ns}"));
        let line = format!(
            "{:<32} {:>12.1} {:>12.1} {target:>8}",
            row.name, row.min_ns, row.median_ns
        );
        println!("{}", line.trim_end());
    }
}
