//! Announcements that are lost, late or very many.

use std::net::Ipv4Addr;
use std::time::Duration;

use vxgate::control::{Change, Changes, Control, Event};
use vxgate::netlink::{Group, Received, Socket, Subscription};
use vxgate::wire::MacAddr;

use crate::lab;
use crate::lab::{FdbWriter, Mirror, View, mac, until};

#[test]
fn after_lost_announcements_the_exact_state_returns() {
    let lab = lab();
    let ifindex = lab.found("vx1").device.ifindex;
    let mut fdb = FdbWriter::new(ifindex);
    for last in 0..100 {
        fdb.set(mac(last), Some(Ipv4Addr::new(10, 9, 0, 2)));
    }
    // The queue is full long before anyone listens.
    let control = Control::open_with_queue(&[lab.found("vx1")], &[], 4096).unwrap();
    assert_eq!(View::of(&control.snapshot()).fdb.len(), 100);
    for number in 0..20_000u32 {
        let [_, a, b, c] = number.to_be_bytes();
        fdb.set(
            MacAddr([2, 99, 0, a, b, c]),
            Some(Ipv4Addr::from(0x0a63_0000 + number % 7)),
        );
    }
    for last in 0..100 {
        fdb.set(mac(last), None);
    }
    let mut mirror = Mirror::start(control);
    mirror.until("20,000 new entries, the old ones gone", |view| {
        view.fdb.len() == 20_000 && view.to(5).is_none()
    });
    let report = mirror.running.report();
    assert!(report.overruns > 0 && report.resyncs > 0, "{report:?}");
    mirror.until_fresh(&lab);
}

/// A dump of so many takes the kernel a dozen parts.
#[test]
fn what_a_dump_passes_over_for_entries_that_go_meanwhile_is_found() {
    const COUNT: u32 = 4_000;
    const GOING: u32 = 1_000;
    let lab = lab();
    let mut fdb = FdbWriter::new(lab.found("vx1").device.ifindex);
    let numbered = |number: u32| {
        let [_, a, b, c] = number.to_be_bytes();
        MacAddr([2, 99, 0, a, b, c])
    };
    let peer = Some(Ipv4Addr::new(10, 9, 0, 2));
    for number in 0..COUNT {
        fdb.set(numbered(number), peer);
    }
    let (end, ended) = crossbeam::channel::bounded::<()>(0);
    let churn = std::thread::spawn(move || {
        // Those that were made last are told first.
        let going = COUNT - GOING..COUNT;
        while ended.try_recv() == Err(crossbeam::channel::TryRecvError::Empty) {
            going
                .clone()
                .rev()
                .for_each(|number| fdb.set(numbered(number), None));
            going
                .clone()
                .for_each(|number| fdb.set(numbered(number), peer));
        }
    });
    let mut mirrors: Vec<_> = (0..5).map(|_| lab.mirror()).collect();
    drop(end);
    churn.join().unwrap();
    for mirror in &mut mirrors {
        mirror.until("all of them", |view| view.fdb.len() == COUNT as usize);
    }
}

/// The queue holds additions only: their deletions, and nothing else, are lost.
#[test]
fn what_queued_up_before_a_loss_does_not_undo_the_dump() {
    const QUEUE_BYTES: usize = 4 << 20;
    const COUNT: u32 = 20_000;
    let lab = lab();
    let mut fdb = FdbWriter::new(lab.found("vx1").device.ifindex);
    fdb.set(mac(1), Some(Ipv4Addr::new(10, 9, 0, 2)));
    let control = Control::open_with_queue(&[lab.found("vx1")], &[], QUEUE_BYTES).unwrap();
    let mut twin = Subscription::open(&[Group::Neighbour], QUEUE_BYTES).unwrap();
    let numbered = |number: u32| {
        let [_, a, b, c] = number.to_be_bytes();
        MacAddr([2, 99, 0, a, b, c])
    };
    for number in 0..COUNT {
        fdb.set(
            numbered(number),
            Some(Ipv4Addr::from(0x0a63_0000 + number % 7)),
        );
    }
    for number in 0..COUNT {
        fdb.set(numbered(number), None);
    }
    let mut mirror = Mirror::start(control);
    assert_eq!(twin.receive(|_| {}).unwrap(), Received::Overrun);
    let mut queued = 0;
    while twin.receive(|_| queued += 1).unwrap() == Received::Messages {}
    assert!(
        (4097..COUNT).contains(&queued),
        "more than is taken at once, and no deletion: {queued}"
    );
    until("dumped again", || mirror.running.report().resyncs > 0);
    // Whatever is announced from here on is heard, after all that waited before it.
    fdb.set(mac(2), Some(Ipv4Addr::new(10, 9, 0, 2)));
    mirror.until("the last change", |view| view.to(2).is_some());
    assert_eq!(mirror.view().fdb.len(), 2);
    mirror.until_fresh(&lab);
    assert!(mirror.running.report().overruns > 0);
}

/// Losses while dumping, over and over: the queue holds a few announcements, the writer does not wait.
#[test]
fn a_storm_against_a_short_queue_ends_in_the_exact_state() {
    let lab = lab();
    let mut fdb = FdbWriter::new(lab.found("vx1").device.ifindex);
    let control = Control::open_with_queue(&[lab.found("vx1")], &[], 16 << 10).unwrap();
    let mut mirror = Mirror::start(control);
    for round in 0..8_u8 {
        for number in 0..4000_u32 {
            let [_, _, b, c] = (number / 2).to_be_bytes();
            let dst = (number % 2 == 0).then_some(Ipv4Addr::new(10, 99, 0, round));
            fdb.set(MacAddr([2, 97, 0, 0, b, c]), dst);
        }
        mirror.until("all came and went", |view| view.fdb.is_empty());
    }
    mirror.until_fresh(&lab);
    assert!(mirror.running.report().overruns > 0);
}

/// Hears whatever has been announced, and says whether this was the first of it.
fn hears(changes: &mut Changes, change: Change) -> bool {
    let mut found = false;
    loop {
        match changes.hear().unwrap().changed {
            Some(changed) => found |= changed == change,
            None => return found,
        }
    }
}

/// What is said again is no change: of what was lost, nobody may believe that it was said.
#[test]
fn what_flows_are_judged_by_is_asked_for_again_after_a_loss() {
    let lab = lab();
    let mut socket = Socket::open().unwrap();
    let mut fdb = FdbWriter::new(lab.found("vx1").device.ifindex);
    let (old, new) = ("0e:00:00:00:00:01", "0e:00:00:00:00:02");
    lab.in_a(&format!("neigh add 10.9.0.9 lladdr {old} dev u0"));
    lab.in_a("route add 10.8.0.0/24 mtu 1300 dev u0");
    let mut changes = Changes::open_with_queue(&mut socket, false, 1 << 20).unwrap();
    let [was, is] = [[10, 8, 0, 1], [10, 7, 0, 1]].map(Into::into);
    assert_eq!(
        (changes.mtu_to(was), changes.mtu_to(is)),
        (Some(1300), None)
    );
    for number in 0..10_000_u32 {
        let [_, _, b, c] = number.to_be_bytes();
        let there = Some(Ipv4Addr::new(10, 99, 0, 1));
        fdb.set(MacAddr([2, 97, 0, 0, b, c]), there);
    }
    lab.in_a(&format!("neigh replace 10.9.0.9 lladdr {new} dev u0"));
    lab.in_a("route del 10.8.0.0/24 mtu 1300 dev u0");
    lab.in_a("route add 10.7.0.0/24 mtu 1200 dev u0");
    assert!(changes.hear().unwrap().changed.is_some());
    // As soon as the loss is told, nothing more is lost in silence.
    lab.in_a("route add 10.6.0.0/24 dev u0");
    assert!(hears(&mut changes, Change::Route));
    assert!(changes.is_behind());
    changes.catch_up(&mut socket).unwrap();
    assert!(!changes.is_behind());
    assert_eq!(
        (changes.mtu_to(was), changes.mtu_to(is)),
        (None, Some(1200))
    );
    lab.in_a(&format!("neigh replace 10.9.0.9 lladdr {old} dev u0"));
    assert!(hears(&mut changes, Change::Neighbour));
}

#[test]
fn a_watched_link_that_goes_down_is_gone() {
    let lab = lab();
    lab.in_a("link add w0 type veth peer name w1");
    lab.in_a("link set w0 up");
    lab.in_a("link set w1 up");
    let (w0, w1) = (lab.ifindex("w0"), lab.ifindex("w1"));
    let mirror = lab.mirror_watching(&[w0, w1]);
    lab.in_a("link set w0 mtu 1400");
    lab.in_a("link set w0 down");
    assert_eq!(
        mirror.events.recv_timeout(Duration::from_secs(20)),
        Ok(Event::LinkGone(w0))
    );
    lab.in_a("link set w0 up");
    lab.in_a("link set w0 down");
    lab.in_a("link del w1");
    assert_eq!(
        mirror.events.recv_timeout(Duration::from_secs(20)),
        Ok(Event::LinkGone(w1)),
        "each is told once"
    );
    // Down before anyone listened.
    lab.in_a("link add w0 type veth peer name w1");
    let w0 = lab.ifindex("w0");
    let mirror = lab.mirror_watching(&[w0]);
    assert_eq!(
        mirror.events.recv_timeout(Duration::from_secs(20)),
        Ok(Event::LinkGone(w0))
    );
}

#[test]
fn a_watched_link_whose_deletion_was_lost_is_found_missing() {
    let lab = lab();
    let mut fdb = FdbWriter::new(lab.found("vx1").device.ifindex);
    for name in ["w0", "w2", "w4"] {
        lab.in_a(&format!("link add {name} type veth peer name {name}p"));
        lab.in_a(&format!("link set {name} up"));
    }
    let [w0, w2, w4] = ["w0", "w2", "w4"].map(|name| lab.ifindex(name));
    let control = Control::open_with_queue(&[lab.found("vx1")], &[w0, w2, w4], 4096).unwrap();
    for last in 0..=255 {
        fdb.set(mac(last), Some(Ipv4Addr::new(10, 9, 0, 2)));
    }
    lab.in_a("link del w0");
    lab.in_a("link set w4 down");
    let mirror = Mirror::start(control);
    for gone in [w0, w4] {
        assert_eq!(
            mirror.events.recv_timeout(Duration::from_secs(20)),
            Ok(Event::LinkGone(gone))
        );
    }
    until("dumped again", || mirror.running.report().resyncs > 0);
    assert!(mirror.running.report().overruns > 0);
    assert_eq!(mirror.events.try_recv().ok(), None, "and not the other one");
}

/// Both are announced before the mirror starts, so that it hears them together. Who is told late never sees the table of
/// before; who is told in time does, unless kept from the processor for a whole build.
#[test]
fn an_event_does_not_wait_for_the_table() {
    let lab = lab();
    let mut fdb = FdbWriter::new(lab.found("vx1").device.ifindex);
    for number in 0..3000_u32 {
        let [_, _, b, c] = number.to_be_bytes();
        fdb.set(
            MacAddr([2, 96, 0, 0, b, c]),
            Some(Ipv4Addr::from(0x0a63_0000 + number)),
        );
    }
    lab.in_a("link add w0 type veth peer name w1");
    let w0 = lab.ifindex("w0");
    let in_time = (0..20).any(|round| {
        lab.in_a("link set w0 up");
        let control = Control::open(&[lab.found("vx1")], &[w0]).unwrap();
        fdb.set(mac(round), Some(Ipv4Addr::new(10, 9, 0, 2)));
        lab.in_a("link set w0 down");
        let mut mirror = Mirror::start(control);
        assert_eq!(
            mirror.events.recv_timeout(Duration::from_secs(20)),
            Ok(Event::LinkGone(w0))
        );
        let before_the_table = mirror.running.report().publications == 0;
        mirror.until("the new entry", |view| view.to(round).is_some());
        before_the_table
    });
    assert!(in_time, "never told before the table was published");
}
