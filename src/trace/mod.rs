//! What would happen to a frame: it is walked through the code of the data path, on a table that was written down
//! ([`crate::state`]), and nothing is sent.
//!
//! ```text
//!   frame ── Steering ──▶ left to the kernel, and why
//!               │
//!               └──▶ Worker<MemoryPort>::turn ── counters of its own ──▶ fate
//!                                            └── what came out of its ports ──▶ frames sent, byte for byte
//! ```
//!
//! The verdict is always the worker's own: the frame is put into the receive ring of a port in memory, one turn is taken, and
//! then it is read which counter has moved. The steps that explain it are told from the same parsers and look-ups, and no
//! further than to where the frame died. In front of the workers stand the steering programs, which are BPF: of these there is
//! a second telling here ([`Steering`]), which the tests hold against the programs.
//!
//! What depends on the moment is taken to be as it mostly is: rings are empty and long enough, links are up.

mod counted;
mod fate;
mod headers;
pub mod input;
mod steering;
mod steps;
mod tracer;
mod verdict;

pub use counted::Counter;
pub use fate::{Fate, Outcome, Sent};
pub use steering::Steering;
pub use steps::{Stage, Step};
pub use tracer::{At, TraceError, Tracer};
pub use verdict::{SentFrame, Trace, Verdict};
