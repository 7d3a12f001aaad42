//! Metrics of how the workers work: what their turns come to, how large batches are, how full rings and pool get.
//!
//! Of the sockets the first [`QUEUES_MAX`] have series of their own, and the others share one for each kind of ring.

use std::collections::BTreeMap;

use super::exposition::{Exposition, Histogram, Pick, Total};
use super::workers::labels;
use crate::gateway::{QueueState, RingState, WorkerState};
use crate::stats::Batches;

/// Sockets with series of their own.
pub(super) const QUEUES_MAX: usize = 256;
/// The port and the queue of those that have none.
const OTHER: &str = "other";

/// What is counted of each worker.
const COUNTERS: [(&str, &str, Pick<WorkerState>); 5] = [
    (
        "vxgate_worker_wakeups_total",
        "Sleeps that ended because something had arrived.",
        |worker| Total::Count(worker.woken),
    ),
    (
        "vxgate_worker_spins_total",
        "Times that the worker went on looking for frames when there were none.",
        |worker| Total::Count(worker.spins),
    ),
    (
        "vxgate_worker_spins_found_total",
        "Those of them that found some.",
        |worker| Total::Count(worker.spins_found),
    ),
    (
        "vxgate_worker_calls_total",
        "System calls that moved frames or asked the kernel to; not the sleeps.",
        |worker| Total::Count(worker.calls),
    ),
    (
        "vxgate_worker_working_seconds_total",
        "Time in turns that moved at least one frame; the rest of the time awake is spent looking for frames.",
        |worker| Total::Nanoseconds(worker.working_ns),
    ),
];

/// Writes all families.
pub(super) fn write(page: &mut Exposition<'_>, workers: &[WorkerState]) {
    let states = workers.iter().map(|worker| (labels(worker), worker));
    page.counters(&COUNTERS, states);
    page.histogram(
        "vxgate_batch_size_packets",
        "Frames that a worker took from a queue at once.",
        workers
            .iter()
            .map(|worker| (labels(worker), batches(worker))),
    );
    page.gauge(
        "vxgate_ring_fill_ratio",
        "How full a ring was in the last minute, 0 to 1: the receive and the transmit ring at most, the fill ring at least.",
        rings(workers)
            .into_iter()
            .map(|((port, queue, ring), ratio)| {
                let labels = vec![
                    ("port", port),
                    ("queue", queue),
                    ("ring", ring.to_owned()),
                ];
                (labels, ratio)
            }),
    );
    page.gauge(
        "vxgate_worker_pool_frames",
        "The fewest frames of a worker that were in its pool in the last minute.",
        workers
            .iter()
            .map(|worker| (labels(worker), f64::from(worker.pool_lately))),
    );
}

/// The batches of all queues of a worker.
fn batches(worker: &WorkerState) -> Histogram {
    let mut histogram = Histogram {
        bounds: &Batches::BOUNDS,
        counts: vec![0; Batches::BOUNDS.len()],
        sum: 0,
    };
    for queue in &worker.queues {
        for (total, count) in histogram.counts.iter_mut().zip(&queue.batches) {
            *total += count;
        }
        histogram.sum += queue.batched;
    }
    histogram
}

/// How full each ring was, by port, queue and kind.
fn rings(workers: &[WorkerState]) -> BTreeMap<(String, String, &str), f64> {
    let mut ratios = BTreeMap::new();
    let queues = workers.iter().flat_map(|worker| &worker.queues);
    let sockets = queues.filter(|queue| !queue.rings.is_empty());
    for (number, queue) in sockets.enumerate() {
        for ring in &queue.rings {
            let (port, queue) = place(queue, number);
            let ratio = ratio(ring);
            ratios
                .entry((port, queue, ring.ring.as_str()))
                .and_modify(|worst: &mut f64| {
                    *worst = if ring.ring == "fill" {
                        worst.min(ratio)
                    } else {
                        worst.max(ratio)
                    }
                })
                .or_insert(ratio);
        }
    }
    ratios
}

fn place(queue: &QueueState, number: usize) -> (String, String) {
    if number < QUEUES_MAX {
        (queue.port.clone(), queue.queue.to_string())
    } else {
        (OTHER.to_owned(), OTHER.to_owned())
    }
}

fn ratio(ring: &RingState) -> f64 {
    f64::from(ring.lately) / f64::from(ring.size.max(1))
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn queues_beyond_the_bound_share_the_worst_of_them() {
        let mut worker = samples::observation().workers.remove(0);
        let mut queues: Vec<_> = (0..QUEUES_MAX as u32 + 2)
            .map(|queue| QueueState {
                queue,
                ..samples::queue("eth1", "rx", 100)
            })
            .collect();
        for (queue, level) in queues[QUEUES_MAX..].iter_mut().zip([2048, 1024]) {
            for ring in &mut queue.rings {
                ring.lately = level;
            }
        }
        worker.queues = queues;
        let workers = [worker];
        let rings = rings(&workers);
        assert_eq!(rings.len(), 3 * (QUEUES_MAX + 1));
        let of = |ring| rings[&(OTHER.to_owned(), OTHER.to_owned(), ring)];
        assert_eq!((of("rx"), of("tx"), of("fill")), (1.0, 1.0, 0.5));
    }
}
