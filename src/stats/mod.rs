//! The names and the storage of every count, and of every reason a frame dies or is left to the kernel; and where frames
//! can be looked at as they pass.

mod counters;
mod drop_reason;
mod flight;
mod offenders;
mod pass_reason;
mod peers;
pub mod tap;
mod up_reason;

pub use counters::{Count, PortCounters, WorkerCounters};
pub use drop_reason::{Direction, DropReason};
pub use flight::{
    DEAD_FRAME_LEN_MAX, DEAD_FRAMES_MAX, DeadFrame, FlightBook, FlightRecorder, Shape,
};
pub use offenders::{OFFENDERS_MAX, Offender, OffenderRecord, Offenders};
pub use pass_reason::PassReason;
pub use peers::{PEERS_MAX, PeerBook, PeerCounts, PeerId, PeerTally, Tallies, Tally};
pub use up_reason::UpReason;
