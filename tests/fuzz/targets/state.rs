//! See `checks::state`.
#![no_main]

#[path = "../checks/mod.rs"]
mod checks;
#[path = "../../rig/mod.rs"]
mod rig;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::state(data));
