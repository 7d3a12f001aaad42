//! What must hold for any bytes. The fuzz targets call these with what the fuzzer makes up, `tests/corpus.rs` with what it
//! found worth keeping, `tests/properties.rs` with what proptest makes up. A check fails by panicking.

// Each fuzz target calls one of them.
#![allow(dead_code, unused_imports)]

mod inspect;
mod pipeline;
mod state;
mod trains;
mod wire;
mod words;

pub use inspect::inspect;
pub use pipeline::{decap, encap, round_trip, worker};
pub use state::state;
pub use trains::{cut, encap_cut, join};
pub use wire::{layers, wire};
pub use words::{config, control_protocol, http, netlink};
