//! Very many entries, and nothing to do.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use vxgate::control::Control;
use vxgate::wire::MacAddr;

use crate::lab::{FdbWriter, View, context_switches, resident_kib, until};
use crate::{b_mac, lab};

#[test]
fn a_hundred_thousand_entries() {
    const COUNT: u32 = 100_000;
    let lab = lab();
    let ifindex = lab.found("vx1").device.ifindex;
    let mut fdb = FdbWriter::new(ifindex);
    let mut mirror = lab.mirror();
    let before = resident_kib();
    let write = |fdb: &mut FdbWriter, from: u32, to: u32, vtep: u32| {
        let start = Instant::now();
        for number in from..to {
            let [_, a, b, c] = number.to_be_bytes();
            fdb.set(
                MacAddr([2, 98, 0, a, b, c]),
                Some(Ipv4Addr::from(0x0a63_0000 + vtep + number % 256)),
            );
        }
        start.elapsed()
    };
    let wrote = write(&mut fdb, 0, COUNT, 0);
    let start = Instant::now();
    until("all mirrored", || {
        mirror.reader.snapshot().segments[0].fdb.len() == COUNT as usize
    });
    let lag = start.elapsed();
    let loaded = mirror.running.report();
    // As many changes as the kernel takes, on top of a full table.
    let changed = write(&mut fdb, 0, 20_000, 256);
    let start = Instant::now();
    until("all changes mirrored", || {
        let segment = &mirror.reader.snapshot().segments[0];
        let moved = Ipv4Addr::from(0x0a63_0000 + 256 + 19_999 % 256);
        segment.is_behind(MacAddr([2, 98, 0, 0, 0x4e, 0x1f]), moved.into())
    });
    let lag_of_changes = start.elapsed();
    let report = mirror.running.report();
    let start = Instant::now();
    let control = Control::open(&[lab.found("vx1")], &[]).unwrap();
    let opened = start.elapsed();
    assert_eq!(fdb.count(), COUNT as usize);
    assert_eq!(View::of(&control.snapshot()), mirror.view());
    println!(
        "{COUNT} entries written in {wrote:.2?}, mirrored {lag:.2?} later ({} publications, {} overruns); 20000 changes in \
         {changed:.2?}, mirrored {lag_of_changes:.2?} later ({} publications); one build {:.2?}; a fresh start {opened:.2?}; \
         {} KiB more resident",
        loaded.publications,
        report.overruns,
        report.publications - loaded.publications,
        report.last_build,
        resident_kib().saturating_sub(before),
    );
}

#[test]
fn an_idle_mirror_sleeps() {
    let lab = lab();
    lab.fdb("add 02:00:00:00:00:01 dev vx1 dst 10.9.0.2 self permanent");
    let mut mirror = lab.mirror();
    mirror.until("resolved", |view| {
        view.next_hop("10.9.0.2") == Some(Ok(b_mac()))
    });
    mirror.reader.offline();
    until("quiet", || {
        let before = context_switches();
        std::thread::sleep(Duration::from_millis(400));
        context_switches() - before <= 2
    });
}
