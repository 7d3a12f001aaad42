//! `vxgate perf`: what the workers did with their time between two looks, what a frame cost, and how full the rings were. Text
//! and JSON come from the same value.

mod text;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SCHEMA;
use crate::fault::{Explained, Fault};
use crate::gateway::{QueueState, RingState, StagesState, WorkerState};
use crate::stats::TURNS_PER_SAMPLE;

/// The workers at one moment: what a daemon answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkersNow {
    /// [`SCHEMA`].
    pub schema: String,
    /// Takeovers so far: all counts begin anew with each.
    pub takeovers: u64,
    /// All of them. `lately` in their marks is the time that was asked for.
    pub workers: Vec<WorkerState>,
}

impl WorkersNow {
    /// These, of this takeover.
    pub fn new(workers: Vec<WorkerState>, takeovers: u64) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            takeovers,
            workers,
        }
    }
}

/// The stages of the workers' turns are being measured: what a daemon answers that was asked to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Measuring {
    /// [`SCHEMA`].
    pub schema: String,
    /// For how long, unless it is asked for again.
    pub for_ms: u64,
}

/// What lies between two looks. Field names are the keys of `vxgate perf --json`: add, never rename.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Perf {
    /// [`SCHEMA`].
    pub schema: String,
    /// Between the looks.
    pub seconds: f64,
    /// Each worker that was asked for.
    pub workers: Vec<WorkerPerf>,
}

/// What a worker did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerPerf {
    /// Its number.
    pub worker: u32,
    /// The core it is pinned to.
    pub core: Option<u32>,
    /// The NUMA node of that core.
    pub numa_node: Option<u32>,
    /// Turns of its loop.
    pub turns: u64,
    /// Those of them that moved at least one frame.
    pub busy_turns: u64,
    /// Nanoseconds of a turn, on average; without the sleeps.
    pub ns_per_turn: f64,
    /// The share of its time, 0 to 1, in turns that moved frames.
    pub working_share: f64,
    /// That in turns that looked for some.
    pub spinning_share: f64,
    /// That asleep.
    pub asleep_share: f64,
    /// Times it slept.
    pub sleeps: u64,
    /// Sleeps that ended because something had arrived.
    pub woken: u64,
    /// Times it went on looking for frames when there were none.
    pub spins: u64,
    /// Those of them that found some.
    pub spins_found: u64,
    /// Frames that it took from its queues.
    pub received: u64,
    /// The same, a second.
    pub received_per_second: f64,
    /// Frames that it handed on.
    pub forwarded: u64,
    /// The same, a second.
    pub forwarded_per_second: f64,
    /// Frames that it dropped.
    pub dropped: u64,
    /// Frames that the kernel dropped in front of it.
    pub dropped_by_kernel: u64,
    /// Nanoseconds that it worked for each frame that it took, with what the kernel did in its system calls; none without frames.
    pub ns_per_frame: Option<f64>,
    /// Batches that it took, by size: of 1, 2, and up to 4, 8, 16, 32 and 64 frames.
    pub batches: Vec<u64>,
    /// Frames a batch; none without batches.
    pub frames_per_batch: Option<f64>,
    /// System calls that moved frames or asked the kernel to.
    pub calls: u64,
    /// Its frames, wherever they are.
    pub frames: u32,
    /// The fewest of them that were in the pool, to a second.
    pub pool_lowest: u32,
    /// Where the time of its turns went; none where that was not measured, or no measured turn had frames.
    pub stages: Option<StagesPerf>,
    /// Each of its queues.
    pub queues: Vec<QueuePerf>,
}

/// What went through a queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QueuePerf {
    /// The underlay device's name, or the vxlan device's.
    pub port: String,
    /// `rx` where frames come from the underlay, `tx` where they go there.
    pub direction: String,
    /// Which queue.
    pub queue: u32,
    /// `socket`, or `tap` for superframes.
    pub kind: String,
    /// Frames taken from it.
    pub received: u64,
    /// The same, a second.
    pub received_per_second: f64,
    /// Those of them that were handed on.
    pub forwarded: u64,
    /// Frames that the kernel dropped in front of it.
    pub dropped_by_kernel: u64,
    /// Batches that were taken from it, by size.
    pub batches: Vec<u64>,
    /// Frames a batch; none without batches.
    pub frames_per_batch: Option<f64>,
    /// System calls on it that moved frames or asked the kernel to.
    pub calls: u64,
    /// How full its rings were, to a second.
    pub rings: Vec<RingPerf>,
}

/// How full a ring was: the receive and the transmit ring at most, the fill ring at least.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RingPerf {
    /// `rx`, `tx` or `fill`.
    pub ring: String,
    /// Entries that it has room for.
    pub size: u32,
    /// How many it had at most, or at least.
    pub mark: u32,
}

/// Where the time of turns with frames went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StagesPerf {
    /// One turn of so many was measured.
    pub every: u64,
    /// Turns that were measured and had frames.
    pub turns: u64,
    /// The frames of these.
    pub frames: u64,
    /// Nanoseconds a frame that each stage took.
    pub ns_per_frame: BTreeMap<String, f64>,
    /// The share of the time the worker worked that reading the clock took, 0 to 1.
    pub cost_share: f64,
}

/// Why there is nothing to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PerfError {
    /// The counts began anew.
    #[error("the workers were replaced between the two looks")]
    Replaced,
    /// The operator asked for one that is not there.
    #[error("there is no worker {0}")]
    Unknown(u32),
}

impl Explained for PerfError {
    fn fault(&self) -> Fault {
        match self {
            Self::Replaced => Fault::WorkersReplaced,
            Self::Unknown(_) => Fault::WorkerUnknown,
        }
    }
}

/// What a look is compared by.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Seconds between the looks.
    pub seconds: f64,
    /// What it costs to read the clock once, in nanoseconds.
    pub clock_ns: f64,
}

impl Perf {
    /// What lies between two looks, of all workers or of one.
    ///
    /// # Errors
    /// When the counts began anew in between, or there is no such worker.
    pub fn between(
        before: &WorkersNow,
        after: &WorkersNow,
        worker: Option<u32>,
        scale: Scale,
    ) -> Result<Self, PerfError> {
        if before.takeovers != after.takeovers || before.workers.len() != after.workers.len() {
            return Err(PerfError::Replaced);
        }
        let pairs = before.workers.iter().zip(&after.workers);
        let wanted = pairs.filter(|(_, after)| worker.is_none_or(|one| one == after.worker));
        let workers: Vec<_> = wanted
            .map(|(before, after)| WorkerPerf::between(before, after, scale))
            .collect();
        match worker {
            Some(number) if workers.is_empty() => Err(PerfError::Unknown(number)),
            _ => Ok(Self {
                schema: SCHEMA.to_owned(),
                seconds: scale.seconds,
                workers,
            }),
        }
    }
}

impl WorkerPerf {
    fn between(before: &WorkerState, after: &WorkerState, scale: Scale) -> Self {
        let risen = |pick: fn(&WorkerState) -> u64| risen(pick(before), pick(after));
        let pairs = before.queues.iter().zip(&after.queues);
        let queues: Vec<_> = pairs
            .map(|(before, after)| QueuePerf::between(before, after, scale))
            .collect();
        let sum = |pick: fn(&QueuePerf) -> u64| queues.iter().map(pick).sum::<u64>();
        let (received, forwarded) = (sum(|queue| queue.received), sum(|queue| queue.forwarded));
        let dropped = |worker: &WorkerState| worker.queues.iter().map(|one| one.dropped).sum();
        let batches = added(queues.iter().map(|queue| &queue.batches));
        let batched = |worker: &WorkerState| worker.queues.iter().map(|one| one.batched).sum();
        let (awake_ns, asleep_ns) = (risen(|one| one.awake_ns), risen(|one| one.asleep_ns));
        let working_ns = risen(|one| one.working_ns);
        let share = |ns: u64| ratio(ns, awake_ns + asleep_ns).unwrap_or(0.0);
        let turns = risen(|one| one.turns);
        let stages = StagesPerf::between(&before.stages, &after.stages, working_ns, scale);
        Self {
            worker: after.worker,
            core: after.core,
            numa_node: after.numa_node,
            turns,
            busy_turns: risen(|one| one.busy_turns),
            ns_per_turn: ratio(awake_ns, turns).unwrap_or(0.0),
            working_share: share(working_ns),
            spinning_share: share(awake_ns.saturating_sub(working_ns)),
            asleep_share: share(asleep_ns),
            sleeps: risen(|one| one.sleeps),
            woken: risen(|one| one.woken),
            spins: risen(|one| one.spins),
            spins_found: risen(|one| one.spins_found),
            received,
            received_per_second: received as f64 / scale.seconds,
            forwarded,
            forwarded_per_second: forwarded as f64 / scale.seconds,
            dropped: self::risen(dropped(before), dropped(after)),
            dropped_by_kernel: sum(|queue| queue.dropped_by_kernel),
            ns_per_frame: ratio(working_ns, received),
            frames_per_batch: ratio(
                self::risen(batched(before), batched(after)),
                batches.iter().sum(),
            ),
            batches,
            calls: risen(|one| one.calls),
            frames: after.frames,
            pool_lowest: after.pool_lately,
            stages,
            queues,
        }
    }
}

impl QueuePerf {
    fn between(before: &QueueState, after: &QueueState, scale: Scale) -> Self {
        let risen = |pick: fn(&QueueState) -> u64| risen(pick(before), pick(after));
        let pairs = before.batches.iter().zip(&after.batches);
        let batches: Vec<_> = pairs
            .map(|(before, after)| self::risen(*before, *after))
            .collect();
        let received = risen(|one| one.received);
        let ring = |ring: &RingState| RingPerf {
            ring: ring.ring.clone(),
            size: ring.size,
            mark: ring.lately,
        };
        Self {
            port: after.port.clone(),
            direction: after.direction.clone(),
            queue: after.queue,
            kind: after.kind.clone(),
            received,
            received_per_second: received as f64 / scale.seconds,
            forwarded: risen(|one| one.forwarded),
            dropped_by_kernel: risen(|one| one.dropped_by_kernel),
            frames_per_batch: ratio(risen(|one| one.batched), batches.iter().sum()),
            batches,
            calls: risen(|one| one.calls),
            rings: after.rings.iter().map(ring).collect(),
        }
    }
}

impl StagesPerf {
    fn between(
        before: &StagesState,
        after: &StagesState,
        working_ns: u64,
        scale: Scale,
    ) -> Option<Self> {
        let frames = risen(before.frames, after.frames);
        let of_stage = |(stage, ns): (&String, &u64)| {
            let before = before.ns.get(stage).copied().unwrap_or(0);
            Some((stage.clone(), ratio(risen(before, *ns), frames)?))
        };
        let ns_per_frame: BTreeMap<_, _> = after.ns.iter().filter_map(of_stage).collect();
        let spent_ns = risen(before.readings, after.readings) as f64 * scale.clock_ns;
        (frames > 0).then(|| Self {
            every: TURNS_PER_SAMPLE,
            turns: risen(before.turns, after.turns),
            frames,
            ns_per_frame,
            cost_share: spent_ns / working_ns.max(1) as f64,
        })
    }
}

/// By how much a count has risen. One that went back, by a little, has not.
fn risen(before: u64, after: u64) -> u64 {
    after.saturating_sub(before)
}

/// How many of one there are for each of the other, if there is any.
fn ratio(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}

/// Counts of the same places, added up.
fn added<'a>(all: impl Iterator<Item = &'a Vec<u64>>) -> Vec<u64> {
    let mut sum = Vec::new();
    for counts in all {
        sum.resize(sum.len().max(counts.len()), 0);
        for (total, count) in sum.iter_mut().zip(counts) {
            *total += count;
        }
    }
    sum
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::show::metrics::samples;

    /// A second of two workers, one of which had nothing to do.
    pub(in super::super) fn looks() -> [WorkersNow; 2] {
        let mut before = samples::observation().workers;
        let mut idle = before[0].clone();
        idle.worker = 1;
        idle.core = None;
        idle.queues.truncate(1);
        before.push(idle);
        let mut after = before.clone();
        let busy = &mut after[0];
        busy.turns += 40_000;
        busy.busy_turns += 3_000;
        busy.sleeps += 60;
        busy.woken += 20;
        busy.spins += 400;
        busy.spins_found += 380;
        busy.calls += 3_100;
        busy.awake_ns += 300_000_000;
        busy.working_ns += 200_000_000;
        busy.asleep_ns += 700_000_000;
        busy.queues = vec![
            samples::queue("eth1", "rx", 101_010),
            samples::queue("flannel.1", "tx", 50_503),
        ];
        busy.stages = samples::stages(3_200);
        let idle = &mut after[1];
        idle.turns += 40;
        idle.sleeps += 40;
        idle.awake_ns += 1_000_000;
        idle.asleep_ns += 999_000_000;
        [WorkersNow::new(before, 2), WorkersNow::new(after, 2)]
    }

    pub(in super::super) const SCALE: Scale = Scale {
        seconds: 1.0,
        clock_ns: 25.0,
    };

    #[test]
    fn what_lies_between_two_looks_is_taken_apart() {
        let [before, after] = looks();
        let perf = Perf::between(&before, &after, None, SCALE).unwrap();
        let [busy, idle] = &perf.workers[..] else {
            panic!("two workers")
        };
        assert_eq!((busy.turns, busy.received), (40_000, 150_000));
        assert_eq!(busy.working_share, 0.2);
        assert!((busy.spinning_share - 0.1).abs() < 1e-9);
        // 200 ms for 150,000 frames.
        assert!((busy.ns_per_frame.unwrap() - 1333.3).abs() < 0.1);
        let stages = busy.stages.as_ref().unwrap();
        assert_eq!((stages.turns, stages.frames), (100, 3_200));
        assert_eq!(stages.ns_per_frame["decide"], 20.0);
        // 800 readings of 25 ns in 200 ms.
        assert!((stages.cost_share - 0.0001).abs() < 1e-9);
        assert_eq!((idle.ns_per_frame, idle.frames_per_batch), (None, None));
        assert!(idle.stages.is_none());
    }

    #[test]
    fn one_worker_may_be_asked_for_and_another_takeover_is_told() {
        let [before, mut after] = looks();
        let perf = Perf::between(&before, &after, Some(1), SCALE).unwrap();
        assert_eq!(perf.workers.len(), 1);
        assert_eq!(perf.workers[0].worker, 1);
        let none = Perf::between(&before, &after, Some(2), SCALE);
        assert_eq!(none, Err(PerfError::Unknown(2)));
        after.takeovers += 1;
        let replaced = Perf::between(&before, &after, None, SCALE);
        assert_eq!(replaced, Err(PerfError::Replaced));
    }

    #[test]
    fn json_has_these_keys_and_survives_the_round_trip() {
        let [before, after] = looks();
        let perf = Perf::between(&before, &after, Some(0), SCALE).unwrap();
        let json = serde_json::to_value(&perf).unwrap();
        assert_eq!(json["schema"], SCHEMA);
        insta::assert_snapshot!(serde_json::to_string_pretty(&json["workers"][0]).unwrap());
        assert_eq!(serde_json::from_value::<Perf>(json).unwrap(), perf);
    }
}
