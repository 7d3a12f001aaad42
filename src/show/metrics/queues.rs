//! How evenly a NIC spreads frames over its queues, and so over the workers.

use std::collections::BTreeMap;

use super::exposition::Exposition;
use super::ports::PORTS_MAX;
use crate::gateway::{Observation, QueueState};

/// Writes the families.
pub(super) fn write(page: &mut Exposition<'_>, seen: &Observation) {
    page.gauge(
        "vxgate_queue_skew_ratio",
        "Frames of the busiest receive queue of an underlay port over those of the mean one, since the takeover: 1 is even.",
        skews(seen.workers.iter().flat_map(|worker| &worker.queues))
            .into_iter()
            .take(PORTS_MAX)
            .map(|(port, skew)| (vec![("port", port.to_owned())], skew)),
    );
}

/// Of each underlay port at whose queues frames have arrived.
fn skews<'a>(queues: impl Iterator<Item = &'a QueueState>) -> BTreeMap<&'a str, f64> {
    let mut frames: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for queue in queues.filter(|queue| queue.direction == "rx" && queue.kind == "socket") {
        // What found no room in a ring chose its queue, too.
        let arrived = queue.received + queue.dropped_by_kernel;
        frames.entry(&queue.port).or_default().push(arrived);
    }
    let skews = frames.into_iter().filter_map(|(port, queues)| {
        let (busiest, all) = (queues.iter().max()?, queues.iter().sum::<u64>());
        let skew = *busiest as f64 * queues.len() as f64 / all as f64;
        (all > 0).then_some((port, skew))
    });
    skews.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(port: &str, direction: &str, kind: &str, received: u64) -> QueueState {
        QueueState {
            port: port.into(),
            direction: direction.into(),
            queue: 0,
            kind: kind.into(),
            received,
            ..QueueState::default()
        }
    }

    #[test]
    fn the_busiest_queue_is_compared_with_the_mean_of_its_port() {
        let mut queues = [
            queue("eth1", "rx", "socket", 30),
            queue("eth1", "rx", "socket", 10),
            queue("eth2", "rx", "socket", 7),
            queue("eth3", "rx", "socket", 0),
            // Not what a NIC spreads.
            queue("flannel.1", "tx", "socket", 90),
            queue("flannel.1", "tx", "tap", 90),
        ];
        queues[1].dropped_by_kernel = 10;
        let expected = BTreeMap::from([("eth1", 1.2), ("eth2", 1.0)]);
        assert_eq!(skews(queues.iter()), expected);
    }
}
