//! vxgate: a userspace VXLAN gateway on AF_XDP (RFC 7348).
//!
//! This file is the map. Modules are layered, and import only downwards (`tests/layering.rs` holds them to it):
//!
//! ```text
//!   5  show  doctor  trace  cli           what people see | what is wrong with a node | with a frame | what they type
//!   4  config     gateway  |  loadgen      assembly: start in order, stop in reverse | the other end of the wire
//!   3  worker  |  control  |  steer        one pinned thread | the writer of the table | BPF and its attachment
//!   2  pipeline   |  state                 the fate of a frame, then the edit | what we know, written down
//!   1  table   |  port     |  netlink      what we know | what moves frames | questions to the kernel
//!                          |  flows                                         | what the kernel was seen to carry
//!   0  wire    |  stats    |  prefetch     bytes as headers | the names of all that is counted | memory asked for early
//!              |  fault    |  heap                          | ... and of all that can go wrong  | and given back
//!                          |  bounded                                                           | files, up to a bound
//! ```
//!
//! Reading order: `wire`, `stats`, `table`, `port`, `pipeline`, `worker/turn.rs` (a frame's whole way in seven calls),
//! then `control` and `steer`, and `gateway` that puts them together. `loadgen` judges all this from outside, so it imports
//! none of it.

pub mod bounded;
pub mod cli;
pub mod config;
pub mod control;
pub mod doctor;
pub mod fault;
pub mod flows;
pub mod gateway;
pub mod heap;
pub mod loadgen;
pub mod netlink;
pub mod pipeline;
pub mod port;
pub mod prefetch;
pub mod show;
pub mod state;
pub mod stats;
pub mod steer;
pub mod table;
pub mod trace;
pub mod wire;
pub mod worker;
