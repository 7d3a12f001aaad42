//! Metrics of the workers: whether they live, and whether they work or sleep.

use std::time::{Duration, SystemTime};

use super::exposition::{Exposition, Labels, Pick, Total, flag};
use crate::gateway::WorkerState;

/// What is counted of each.
const COUNTERS: [(&str, &str, Pick<WorkerState>); 5] = [
    (
        "vxgate_worker_turns_total",
        "Turns of the worker's loop.",
        |worker| Total::Count(worker.turns),
    ),
    (
        "vxgate_worker_busy_turns_total",
        "Turns that moved at least one frame.",
        |worker| Total::Count(worker.busy_turns),
    ),
    (
        "vxgate_worker_sleeps_total",
        "Times that the worker slept.",
        |worker| Total::Count(worker.sleeps),
    ),
    (
        "vxgate_worker_awake_seconds_total",
        "Time that the worker was awake.",
        |worker| Total::Nanoseconds(worker.awake_ns),
    ),
    (
        "vxgate_worker_asleep_seconds_total",
        "Time that the worker slept.",
        |worker| Total::Nanoseconds(worker.asleep_ns),
    ),
];

/// Writes all families. `now` is the time of the observation.
pub(super) fn write(page: &mut Exposition<'_>, workers: &[WorkerState], now: SystemTime) {
    let gauge = |pick: fn(&WorkerState) -> f64| {
        workers
            .iter()
            .map(move |worker| (labels(worker), pick(worker)))
    };
    page.gauge(
        "vxgate_worker_alive",
        "Whether the worker's thread runs and its heartbeat is fresh, so that frames go to it (0 or 1).",
        gauge(|worker| flag(worker.alive)),
    );
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH);
    let since_epoch = since_epoch.unwrap_or(Duration::ZERO);
    page.gauge(
        "vxgate_worker_heartbeat_timestamp_seconds",
        "When the worker stored its last heartbeat.",
        workers.iter().map(|worker| {
            let age = Duration::from_millis(worker.heartbeat_age_ms);
            (
                labels(worker),
                since_epoch.saturating_sub(age).as_secs_f64(),
            )
        }),
    );
    page.gauge(
        "vxgate_worker_busy_ratio",
        "Share of the time since the takeover that the worker was awake, 0 to 1.",
        gauge(|worker| worker.busy_share),
    );
    page.gauge(
        "vxgate_worker_nice",
        "The worker's nice value now; 19 for one that hangs.",
        workers
            .iter()
            .filter_map(|worker| Some((labels(worker), f64::from(worker.nice?)))),
    );
    let states = workers.iter().map(|worker| (labels(worker), worker));
    page.counters(&COUNTERS, states);
}

/// What tells a worker from others.
pub(super) fn labels(worker: &WorkerState) -> Labels {
    vec![("worker", worker.worker.to_string())]
}
