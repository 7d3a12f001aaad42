//! The names and the storage of every count, and of every reason a frame dies or is left to the kernel; and where frames
//! can be looked at as they pass.

mod batches;
mod counters;
mod drop_reason;
mod flight;
mod mark;
mod offenders;
mod pass_reason;
mod peers;
mod reasons;
mod stages;
pub mod tap;
mod up_reason;

pub use batches::Batches;
pub use counters::{Count, PortCounters, RingMarks, WorkerCounters};
pub use drop_reason::{Direction, DropReason};
pub use flight::{
    DEAD_FRAME_LEN_MAX, DEAD_FRAMES_MAX, DeadFrame, FlightBook, FlightRecorder, Shape,
};
pub use mark::Mark;
pub use offenders::{OFFENDERS_MAX, Offender, OffenderRecord, Offenders};
pub use pass_reason::PassReason;
pub use peers::{PEERS_MAX, PeerBook, PeerCounts, PeerId, PeerTally, Tallies, Tally};
pub use stages::{STAGES_LEASE_NS, Stage, StageSwitch, Stages, TURNS_PER_SAMPLE};
pub use up_reason::UpReason;
