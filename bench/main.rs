//! Micro-benchmarks of the path of a frame, in one process and on in-memory ports: no kernel, no device. See README.md
//! beside this file for how to run, read and compare them.
//!
//! | file | actions | what one element is |
//! |---|---|---|
//! | `wire.rs` | `parse`, `hash`, `write`, `build` | a frame's headers seen, its flow hashed, outer headers written; their template built |
//! | `table.rs` | `lookup`, `publish`, `pick-up` | a look-up; a publication; a worker that takes up a new snapshot |
//! | `pipeline.rs` | `touch`, `encap`, `decap`, `turn`, `capture` | a frame: its memory, decide and apply alone, and the worker's whole turn |
//! | `checksum.rs` | `finish` | a frame whose inner checksum was left unfinished |
//! | `trains.rs` | `join`, `cut`, `encap-cut` | a TCP segment that becomes part of a superframe, or that one is cut into |
//! | `ring.rs` | `ring` | a descriptor put into a ring or taken out, by us and by xsk-rs |
//!
//! Names are `action/case/size`. `measure.rs` says how time is taken and how allocations are counted.

mod checksum;
mod measure;
mod network;
mod pipeline;
#[path = "../tests/rig/mod.rs"]
mod rig;
mod ring;
mod shuffle;
mod table;
mod targets;
mod trains;
mod wire;
#[allow(dead_code)] // Another benchmark uses the rest of it.
mod worker;
mod xsk_rings;

use std::time::Duration;

use criterion::Criterion;

#[global_allocator]
static ALLOCATOR: rig::allocations::Watched = rig::allocations::Watched;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    wire::benches(&mut criterion);
    table::benches(&mut criterion);
    checksum::benches(&mut criterion);
    trains::benches(&mut criterion);
    ring::benches(&mut criterion);
    pipeline::benches(&mut criterion);
    pipeline::captures(&mut criterion);
    criterion.final_summary();
    measure::show_summary();
}
