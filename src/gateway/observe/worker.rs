//! What is seen of workers, and of their queues.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerState {
    /// Its number.
    pub worker: u32,
    /// The core it is pinned to.
    pub core: Option<u32>,
    /// The NUMA node of that core.
    #[serde(default)]
    pub numa_node: Option<u32>,
    /// The NUMA node of its frames.
    #[serde(default)]
    pub memory_node: Option<u32>,
    /// Its nice value now; none when its thread has ended. A worker that hangs has 19, whatever was asked for.
    #[serde(default)]
    pub nice: Option<i32>,
    /// Which nice value it was refused, and why.
    #[serde(default)]
    pub nice_refused: Option<String>,
    /// The share of the time since its start that it was awake, 0 to 1.
    pub busy_share: f64,
    /// Turns since its start.
    pub turns: u64,
    /// Turns that moved at least one frame.
    #[serde(default)]
    pub busy_turns: u64,
    /// Times it slept.
    #[serde(default)]
    pub sleeps: u64,
    /// Sleeps that ended because something had arrived.
    #[serde(default)]
    pub woken: u64,
    /// Times it went on looking for frames when there were none.
    #[serde(default)]
    pub spins: u64,
    /// Those of them that found some.
    #[serde(default)]
    pub spins_found: u64,
    /// System calls of its ports that moved frames or asked the kernel to; not its sleeps.
    #[serde(default)]
    pub calls: u64,
    /// Nanoseconds awake since its start.
    #[serde(default)]
    pub awake_ns: u64,
    /// Those of them in turns that moved at least one frame.
    #[serde(default)]
    pub working_ns: u64,
    /// Nanoseconds asleep since its start.
    #[serde(default)]
    pub asleep_ns: u64,
    /// Its frames, wherever they are.
    #[serde(default)]
    pub frames: u32,
    /// The fewest of them that were in the pool since the takeover.
    #[serde(default)]
    pub pool_mark: u32,
    /// The same in the last minute, or in the time that was asked for.
    #[serde(default)]
    pub pool_lately: u32,
    /// Where the time of its turns went, as far as that was measured.
    #[serde(default)]
    pub stages: StagesState,
    /// The queues that it serves.
    #[serde(default)]
    pub queues: Vec<QueueState>,
    /// Milliseconds since its last heartbeat.
    pub heartbeat_age_ms: u64,
    /// Whether its thread runs and its heartbeat is fresh.
    pub alive: bool,
}

/// Where the time of a worker's turns went, as far as it was measured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StagesState {
    /// Turns that were measured and received frames.
    pub turns: u64,
    /// The frames that these received.
    pub frames: u64,
    /// Times that the clock was read for it.
    pub readings: u64,
    /// Nanoseconds of each stage.
    pub ns: BTreeMap<String, u64>,
}

/// What a worker has of a port: an AF_XDP socket on a queue, or a queue of a TAP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueueState {
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
    /// Those of them that were handed on.
    pub forwarded: u64,
    /// Those of them that the worker dropped.
    pub dropped: u64,
    /// Frames that the kernel dropped in front of the worker: its ring was full, or there was no frame to fill.
    pub dropped_by_kernel: u64,
    /// Batches that were taken from it, by size: of 1, 2, and up to 4, 8, 16, 32 and 64 frames.
    #[serde(default)]
    pub batches: Vec<u64>,
    /// Frames in these batches.
    #[serde(default)]
    pub batched: u64,
    /// System calls that moved frames or asked the kernel to.
    #[serde(default)]
    pub calls: u64,
    /// How full the rings of a socket were; a TAP has none.
    #[serde(default)]
    pub rings: Vec<RingState>,
}

/// How full a ring was: the receive and the transmit ring at most, the fill ring at least.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RingState {
    /// `rx`, `tx` or `fill`.
    pub ring: String,
    /// Entries that it has room for.
    pub size: u32,
    /// The highest number of entries since the takeover; of the fill ring the lowest.
    pub mark: u32,
    /// The same in the last minute, or in the time that was asked for.
    pub lately: u32,
}
