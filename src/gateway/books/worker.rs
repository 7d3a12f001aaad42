//! The page of a worker.

use std::sync::Arc;

use super::lately::{Lately, without};
use crate::gateway::observe::{StagesState, WorkerState};
use crate::port::XskPort;
use crate::stats::{Stage, WorkerCounters};
use crate::worker;

/// A heartbeat older than this makes the steering programs pass frames to the kernel.
pub const HEARTBEAT_STALE_MS: u64 = 200;

/// One worker.
pub struct WorkerBook {
    pub number: u32,
    pub core: Option<u32>,
    /// The NUMA node of that core.
    pub core_node: Option<u32>,
    /// The NUMA node of its frames.
    pub memory_node: Option<u32>,
    /// The nice value that was asked for.
    pub nice: i32,
    /// Why it has another one.
    pub nice_refused: Option<String>,
    /// Frames of its memory.
    pub frames: u32,
    pub counters: Arc<WorkerCounters>,
}

impl WorkerBook {
    /// Milliseconds since its last heartbeat, at `now_ns` (`CLOCK_MONOTONIC`).
    pub fn heartbeat_age_ms(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.counters.last_turn_ns.get()) / 1_000_000
    }

    fn stages(&self) -> StagesState {
        let stages = &self.counters.stages;
        let spent = Stage::ALL.iter();
        let spent = spent.map(|stage| (stage.label().to_owned(), stages.spent_ns(*stage)));
        StagesState {
            turns: stages.turns.get(),
            frames: stages.frames.get(),
            readings: stages.readings.get(),
            ns: spent.collect(),
        }
    }

    /// The worker's state at the end of a time to look back at. Its queues are not among it.
    pub fn state(&self, lately: Lately, running: &worker::Running<XskPort>) -> WorkerState {
        let used = lately.highest(&self.counters.frames_used);
        let (pool_mark, pool_lately) = without(self.frames, used);
        let (awake_ns, asleep_ns) = (self.counters.awake_ns.get(), self.counters.asleep_ns.get());
        let (awake, asleep) = (awake_ns as f64, asleep_ns as f64);
        let age_ms = self.heartbeat_age_ms(lately.now_ns);
        WorkerState {
            worker: self.number,
            core: self.core,
            numa_node: self.core_node,
            memory_node: self.memory_node,
            nice: running.standing().nice(),
            nice_refused: self.nice_refused.clone(),
            busy_share: if awake + asleep > 0.0 {
                awake / (awake + asleep)
            } else {
                0.0
            },
            turns: self.counters.turns.get(),
            busy_turns: self.counters.busy_turns.get(),
            sleeps: self.counters.sleeps.get(),
            woken: self.counters.woken.get(),
            spins: self.counters.spins.get(),
            spins_found: self.counters.spins_found.get(),
            calls: self.counters.calls.get(),
            awake_ns,
            working_ns: self.counters.working_ns.get(),
            asleep_ns,
            frames: self.frames,
            pool_mark,
            pool_lately,
            stages: self.stages(),
            queues: Vec::new(),
            heartbeat_age_ms: age_ms,
            alive: running.is_alive() && age_ms <= HEARTBEAT_STALE_MS,
        }
    }
}
