//! What the tests in network namespaces share: namespaces, the lab of two flannel nodes, `vxgate` as a process, traffic whose
//! losses can be counted, UDP in trains, frames that nobody sane would send, raw ends of devices with their offloads, devices
//! with attributes that `ip` does not know, and captures read by an independent decoder.
//!
//! Everything here cleans up when it is dropped, so also when a test panics.

// Each test crate that includes this module uses a part of it.
#![allow(dead_code)]

pub mod bulk;
pub mod capture;
pub mod datagrams;
pub mod end;
pub mod frames;
pub mod hang;
pub mod http;
pub mod lab;
pub mod napi;
pub mod netns;
pub mod process;
pub mod sequence;
pub mod stream;
pub mod vxgate;
pub mod vxlan;

use std::thread;
use std::time::{Duration, Instant};

/// How long to wait for what takes so long at most on a machine: under emulation so many times longer as
/// `VXGATE_TEST_PATIENCE` says (`scripts/kernels.sh`).
pub fn patient(bound: Duration) -> Duration {
    let factor = std::env::var("VXGATE_TEST_PATIENCE").ok();
    bound * factor.and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

/// Waits for a condition, looking every 20 ms. Panics, saying what it waited for, when `bound` is over.
pub fn wait_until(what: &str, bound: Duration, mut condition: impl FnMut() -> bool) {
    let bound = patient(bound);
    let deadline = Instant::now() + bound;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "still waiting after {bound:?} for: {what}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}
