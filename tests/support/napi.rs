//! Threaded NAPI: devices whose receive work is done by kernel threads, and the core that these are put on.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use super::netns::{Netns, run};
use super::wait_until;

/// Lets threads do the receive work of a device that has NAPI (an XDP program, or GRO), and puts them on a core. Attaching
/// and detaching programs makes new ones: to be called after that.
pub fn threaded_on(netns: &Netns, device: &str, queues: usize, core: u64) {
    // Devices of other namespaces have the same name: new threads are told from those that were there.
    netns.script(&format!("echo 0 >/sys/class/net/{device}/threaded"));
    let before = threads(device);
    netns.script(&format!("echo 1 >/sys/class/net/{device}/threaded"));
    let mut new = BTreeSet::new();
    wait_until("receive threads", Duration::from_secs(10), || {
        new = threads(device).difference(&before).copied().collect();
        new.len() >= queues
    });
    for thread in new {
        run(&["taskset", "-cp", &core.to_string(), &thread.to_string()]);
    }
}

fn threads(device: &str) -> BTreeSet<u32> {
    let start = format!("napi/{device}-");
    let processes = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let named = processes.filter(|process| {
        fs::read_to_string(process.path().join("comm")).is_ok_and(|comm| comm.starts_with(&start))
    });
    named
        .filter_map(|process| process.file_name().to_string_lossy().parse().ok())
        .collect()
}
