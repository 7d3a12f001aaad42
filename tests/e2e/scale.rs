//! A hundred thousand FDB entries: loaded while traffic flows, and what memory they take.

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

use crate::queues::TWO_QUEUES;
use crate::support::lab::{Lab, Node};
use crate::support::netns::Netns;
use crate::support::stream::Stream;
use crate::support::vxgate::{BINARY, Vxgate};
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
    write_entries(&node, "append", 0..ENTRIES, 0);
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
    let said = vxgate.tell(&["fdb"]).printed();
    let mut told: Vec<_> = said.lines().collect();
    println!(
        "    {} entries shown after {:.2} s",
        told.len(),
        start.elapsed().as_secs_f64()
    );
    let bridge = node.run("bridge fdb show");
    let own = |line: &&str| line.contains(" dev flannel.1 ") && line.contains(" self ");
    let mut kernel: Vec<_> = bridge.lines().filter(own).map(str::trim_end).collect();
    told.sort_unstable();
    kernel.sort_unstable();
    assert_eq!(told.len() as u64, ENTRIES + 1);
    assert!(told == kernel, "the table is the kernel's, line by line");

    let start = Instant::now();
    write_entries(&node, "del", 0..ENTRIES, 0);
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

/// 64 MiB with two workers and ten thousand entries, all rings and frames among them, and the shipped program, of which up to
/// 12 MiB are resident; and a hundred bytes for each entry more, those that came while it ran and those that it found when it
/// started. Two workers have 32 MiB of frames. When all of them move, faster than the table follows, a second table's worth of
/// holes may stay between what is in use.
#[test]
fn memory_stays_within_what_was_promised() {
    const FEW: u64 = 10_000;
    let lab = Lab::with(TWO_QUEUES);
    let node = lab.node(Node::Worker);
    write_entries(&node, "append", 0..FEW, 0);
    let start = || {
        let vxgate = Vxgate::start(&node, &["--workers", "2"]);
        assert_eq!(vxgate.status().list("workers").count(), 2);
        vxgate
    };
    let vxgate = start();
    wait_fdb(&vxgate, FEW + 1);
    let few_kib = resident_kib(&vxgate);
    println!("    {FEW} entries: {few_kib} KiB resident");
    assert!(few_kib <= 52 << 10, "{few_kib} KiB with {FEW} entries");

    let all = FEW + ENTRIES;
    let wait_growth = |vxgate: &Vxgate, what: &str, bytes_max: u64| {
        wait_fdb(vxgate, all + 1);
        // What the changes took besides is given back some time after the last of them.
        wait_until(
            &format!("at most {bytes_max} bytes an entry, {what}"),
            Duration::from_secs(20),
            || {
                let kib = resident_kib(vxgate);
                let entry_bytes = (kib.saturating_sub(few_kib) << 10) / ENTRIES;
                let kept = entry_bytes <= bytes_max;
                if kept {
                    println!(
                        "    {all} entries, {what}: {kib} KiB resident, {entry_bytes} bytes an entry more"
                    );
                }
                kept
            },
        );
    };
    write_entries(&node, "append", FEW..all, 0);
    wait_growth(&vxgate, "loaded while it ran", 100);
    let publications = || vxgate.status().0["mirror"]["publications"].as_u64();
    let before = publications();
    // To other VTEPs, and back.
    for offset in [1, 0] {
        write_entries(&node, "replace", FEW..all, offset);
    }
    wait_growth(&vxgate, "each of which moved twice", 200);
    assert!(publications() > before, "it has followed");
    vxgate.stop();

    let vxgate = start();
    wait_growth(&vxgate, "found at the start", 100);
    vxgate.stop();
}

/// Has bridge(8) write entries of a hundred VTEPs, all of which there are.
fn write_entries(node: &Netns, verb: &str, entries: Range<u64>, offset: u64) {
    let mut text = String::new();
    for index in entries {
        let [.., a, b, c] = index.to_be_bytes();
        let _ = writeln!(
            text,
            "fdb {verb} 0a:01:01:{a:02x}:{b:02x}:{c:02x} dev flannel.1 dst 10.0.0.{} self permanent",
            101 + (index + offset) % 100
        );
    }
    let batch = NamedTempFile::new().expect("a temporary file");
    fs::write(batch.path(), text).expect("writing the batch");
    node.run(&format!("bridge -batch {}", batch.path().display()));
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

/// What is resident of a gateway but for its own program, which is unoptimised here and large.
fn resident_kib(vxgate: &Vxgate) -> u64 {
    let path = format!("/proc/{}/smaps", vxgate.pid());
    let text = fs::read_to_string(path).expect("it runs");
    let mut is_program = false;
    let mut kib = 0;
    for line in text.lines() {
        // A line of a mapping begins with its addresses, those about it with a word and a colon.
        match line.split_once(' ') {
            Some((word, rest)) if word == "Rss:" && !is_program => {
                let rss = rest.trim().trim_end_matches(" kB");
                kib += rss.parse::<u64>().expect("a number of KiB");
            }
            Some((word, _)) if !word.ends_with(':') => is_program = line.ends_with(BINARY),
            _ => {}
        }
    }
    kib
}
