//! `vxgate workers`: which queue runs on which core, and what each worker does with its time. Text and JSON come from the same
//! value.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns::{Align, Columns};
use super::{SCHEMA, Status};
use crate::gateway::{QueueState, WorkerState};

/// The answer to `workers`. Field names are the keys of `vxgate workers --json`: add, never rename.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Workers {
    /// [`SCHEMA`].
    pub schema: String,
    /// Each of them.
    pub workers: Vec<Worker>,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Worker {
    /// As in the status.
    #[serde(flatten)]
    pub state: WorkerState,
    /// Frames that it has taken from its queues since the takeover.
    pub received: u64,
    /// Those of them that it has handed on.
    pub forwarded: u64,
    /// Those of them that it has dropped.
    pub dropped: u64,
    /// Frames that the kernel has dropped in front of it.
    pub dropped_by_kernel: u64,
    /// Frames a turn with work, on average.
    pub frames_per_busy_turn: f64,
}

impl Workers {
    /// Of a status.
    pub fn of(status: &Status) -> Self {
        let workers = status.observation.workers.iter();
        Self {
            schema: SCHEMA.to_owned(),
            workers: workers.map(Worker::of).collect(),
        }
    }

    /// Whether all of them run.
    pub fn are_alive(&self) -> bool {
        self.workers.iter().all(|worker| worker.state.alive)
    }
}

impl Worker {
    fn of(state: &WorkerState) -> Self {
        let queues = &state.queues;
        let received = queues.iter().map(|queue| queue.received).sum::<u64>();
        Self {
            received,
            forwarded: queues.iter().map(|queue| queue.forwarded).sum(),
            dropped: queues.iter().map(|queue| queue.dropped).sum(),
            dropped_by_kernel: queues.iter().map(|queue| queue.dropped_by_kernel).sum(),
            frames_per_busy_turn: if state.busy_turns > 0 {
                received as f64 / state.busy_turns as f64
            } else {
                0.0
            },
            state: state.clone(),
        }
    }
}

impl fmt::Display for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Columns::new([
            ("WORKER", Align::Left),
            ("CORE", Align::Left),
            ("NICE", Align::Right),
            ("BUSY", Align::Right),
            ("TURNS", Align::Right),
            ("WITH WORK", Align::Right),
            ("FRAMES EACH", Align::Right),
            ("SLEEPS", Align::Right),
            ("SPINS", Align::Right),
            ("POOL LOW", Align::Right),
            ("HEARTBEAT", Align::Left),
        ]);
        for worker in &self.workers {
            let state = &worker.state;
            let core = state.core.map_or("any".to_owned(), |core| core.to_string());
            let nice = state.nice.map_or("-".to_owned(), |nice| nice.to_string());
            let life = if state.alive {
                format!("{} ms ago", state.heartbeat_age_ms)
            } else {
                format!("{} ms ago, NOT ALIVE", state.heartbeat_age_ms)
            };
            table.row([
                state.worker.to_string(),
                core,
                nice,
                format!("{:.1} %", state.busy_share * 100.0),
                state.turns.to_string(),
                state.busy_turns.to_string(),
                format!("{:.1}", worker.frames_per_busy_turn),
                state.sleeps.to_string(),
                state.spins.to_string(),
                share(state.pool_mark, state.frames),
                life,
            ]);
        }
        write!(f, "{table}")?;
        let mut table = Columns::new([
            ("WORKER", Align::Left),
            ("PORT", Align::Left),
            ("DIR", Align::Left),
            ("QUEUE", Align::Right),
            ("KIND", Align::Left),
            ("RECEIVED", Align::Right),
            ("FORWARDED", Align::Right),
            ("DROPPED", Align::Right),
            ("LOST BEFORE IT", Align::Right),
            ("RX HIGH", Align::Right),
            ("TX HIGH", Align::Right),
            ("FILL LOW", Align::Right),
        ]);
        for worker in &self.workers {
            for queue in &worker.state.queues {
                table.row([
                    worker.state.worker.to_string(),
                    queue.port.clone(),
                    queue.direction.clone(),
                    queue.queue.to_string(),
                    queue.kind.clone(),
                    queue.received.to_string(),
                    queue.forwarded.to_string(),
                    queue.dropped.to_string(),
                    queue.dropped_by_kernel.to_string(),
                    mark(queue, "rx"),
                    mark(queue, "tx"),
                    mark(queue, "fill"),
                ]);
            }
        }
        write!(f, "{table}")
    }
}

/// How full a ring of a queue was at most since the takeover, the fill ring at least; a dash where there is none.
fn mark(queue: &QueueState, ring: &str) -> String {
    let mut rings = queue.rings.iter();
    let ring = rings.find(|one| one.ring == ring);
    ring.map_or("-".to_owned(), |ring| share(ring.mark, ring.size))
}

fn share(part: u32, all: u32) -> String {
    format!("{part}/{all}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::metrics::samples;

    fn status() -> Status {
        let mut seen = samples::observation();
        seen.workers[0].queues = vec![
            samples::queue("eth1", "rx", 1003),
            samples::queue("flannel.1", "tx", 403),
            QueueState {
                kind: "tap".into(),
                rings: Vec::new(),
                ..samples::queue("flannel.1", "tx", 100)
            },
        ];
        let mut dead = seen.workers[0].clone();
        (dead.worker, dead.core, dead.nice) = (1, None, None);
        (dead.alive, dead.heartbeat_age_ms, dead.busy_turns) = (false, 5000, 0);
        dead.queues.truncate(1);
        seen.workers.push(dead);
        Status::new(seen, 7)
    }

    #[test]
    fn the_text_is_a_table_of_workers_and_one_of_their_queues() {
        let workers = Workers::of(&status());
        assert!(!workers.are_alive());
        insta::assert_snapshot!(workers);
    }

    #[test]
    fn json_has_these_keys_and_survives_the_round_trip() {
        let workers = Workers::of(&status());
        let json = serde_json::to_value(&workers).unwrap();
        assert_eq!(json["schema"], SCHEMA);
        insta::assert_snapshot!(serde_json::to_string_pretty(&json["workers"][1]).unwrap());
        assert_eq!(serde_json::from_value::<Workers>(json).unwrap(), workers);
    }
}
