//! A hundred thousand FDB entries, loaded while traffic flows.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

use crate::support::lab::{Lab, Node};
use crate::support::stream::Stream;
use crate::support::vxgate::Vxgate;
use crate::support::wait_until;

const ENTRIES: u64 = 100_000;

#[test]
fn a_hundred_thousand_fdb_entries_load_without_a_lost_frame() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    let vxgate = Vxgate::start(&node, &[]);
    let [master, worker] = [lab.client(Node::Master), lab.client(Node::Worker)];
    master.run(&format!(
        "ping -q -c 2 -i 0.05 -W 3 {}",
        lab.client_address(Node::Worker)
    ));
    let before = vxgate.balanced();
    let memory_before = resident_kib(&vxgate);
    let streams = [
        Stream::start(
            "udp master to worker",
            &master,
            &worker,
            &lab.client_address(Node::Worker),
        ),
        Stream::start(
            "udp worker to master",
            &worker,
            &master,
            &lab.client_address(Node::Master),
        ),
    ];
    vxgate.wait_forwarding("the stream goes through vxgate", &before);

    let start = Instant::now();
    let batch = NamedTempFile::new().expect("a temporary file");
    fs::write(batch.path(), entries("append")).expect("writing the batch");
    node.run(&format!("bridge -batch {}", batch.path().display()));
    let written = start.elapsed();
    wait_fdb(&vxgate, ENTRIES + 1);
    println!(
        "    {ENTRIES} entries: written by bridge(8) in {:.2} s, all in vxgate after {:.2} s, {} KiB more resident ({} KiB in all)",
        written.as_secs_f64(),
        start.elapsed().as_secs_f64(),
        resident_kib(&vxgate).saturating_sub(memory_before),
        resident_kib(&vxgate)
    );

    let start = Instant::now();
    fs::write(batch.path(), entries("del")).expect("writing the batch");
    node.run(&format!("bridge -batch {}", batch.path().display()));
    wait_fdb(&vxgate, 1);
    println!(
        "    removed again after {:.2} s, {} KiB resident",
        start.elapsed().as_secs_f64(),
        resident_kib(&vxgate)
    );

    for report in streams.map(Stream::finish) {
        assert_eq!(
            (report.lost, report.duplicated, report.damaged),
            (0, 0, 0),
            "loading costs no frame"
        );
    }
    vxgate.balanced();
    vxgate.stop();
}

/// Entries of a hundred VTEPs, a thousand each, for `bridge -batch`.
fn entries(verb: &str) -> String {
    let mut text = String::new();
    for index in 0..ENTRIES {
        let [.., a, b, c] = index.to_be_bytes();
        let _ = writeln!(
            text,
            "fdb {verb} 0a:01:01:{a:02x}:{b:02x}:{c:02x} dev flannel.1 dst 10.0.0.{} self permanent",
            101 + index % 100
        );
    }
    text
}

fn wait_fdb(vxgate: &Vxgate, entries: u64) {
    wait_until(
        &format!("vxgate has {entries} FDB entries"),
        Duration::from_secs(60),
        || {
            vxgate.try_status().is_ok_and(|status| {
                status
                    .device("flannel.1")
                    .is_some_and(|device| device["fdb_entries"] == entries)
            })
        },
    );
}

fn resident_kib(vxgate: &Vxgate) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", vxgate.pid())).expect("it runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("VmRSS");
    line.trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number of KiB")
}
