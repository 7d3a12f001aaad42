//! When no worker can take frames, the kernel does, and only then.

use vxgate::port::now_ns;
use vxgate::stats::PassReason::{self, Bypass, HeartbeatStale, NoSocket};
use vxgate::steer::SteerCounters;

use crate::scene::{MINUTE, PATIENCE, Scene, Steered};
use crate::support::wait_until;

/// What `HEARTBEAT_STALE_NS` of `bpf/shared.h` is far from on either side, in nanoseconds.
const RECENT: i64 = -50_000_000;
const STALE: i64 = -400_000_000;

/// What one more frame changes.
fn one_more(mut counters: SteerCounters, passed: Option<PassReason>) -> SteerCounters {
    match passed {
        Some(reason) => counters.passed[reason as usize] += 1,
        None => counters.steered += 1,
    }
    counters
}

#[test]
fn the_underlay_passes_while_there_is_no_socket_no_heartbeat_or_a_bypass() {
    let scene = Scene::new("fail-open", 1, 1500);
    scene.node.enter(|| {
        let mut steered = Steered::load(1);
        steered.steering.attach().unwrap();
        let wire = scene.raw_on_wire();
        let frame = scene.frame().bytes(b"hello");
        let mut left_to_kernel = 0;
        // Passed frames come out of the kernel's own device.
        let mut send = |steered: &Steered, what: &str, passed: Option<PassReason>| {
            let expected = one_more(steered.underlay(), passed);
            wire.send(&frame);
            wait_until(what, PATIENCE, || steered.underlay() == expected);
            left_to_kernel += u64::from(passed.is_some());
            wait_until(what, PATIENCE, || {
                scene.received("flannel.1") == left_to_kernel
            });
        };
        send(&steered, "no heartbeat ever", Some(HeartbeatStale));
        steered.heartbeats(1, MINUTE);
        send(&steered, "an empty slot", Some(NoSocket));
        let mut receiver = steered.open_nic(0);
        send(&steered, "a socket", None);
        steered.heartbeats(1, STALE);
        send(&steered, "a stale heartbeat", Some(HeartbeatStale));
        steered.heartbeats(1, MINUTE);
        send(&steered, "a fresh heartbeat again", None);
        steered.steering.set_bypass(true);
        send(&steered, "bypass", Some(Bypass));
        steered.steering.set_bypass(false);
        send(&steered, "no bypass", None);
        assert_eq!(receiver.wait_for(3), [(); 3].map(|()| frame.clone()));
        drop(receiver);
        // Closed for good when no child of another test holds it any more.
        let before = steered.underlay().passed[NoSocket as usize];
        wait_until("a closed socket", PATIENCE, || {
            wire.send(&frame);
            steered.underlay().passed[NoSocket as usize] > before
        });
    });
}

#[test]
fn a_heartbeat_of_a_moment_ago_is_fresh() {
    let scene = Scene::new("recent", 1, 1500);
    scene.node.enter(|| {
        let mut steered = Steered::load(1);
        steered.steering.attach().unwrap();
        let _receiver = steered.open_nic(0);
        let (wire, frame) = (scene.raw_on_wire(), scene.frame().bytes(b"hello"));
        // Sent within 150 ms of its heartbeat, unless the machine stalls just then.
        wait_until("a steered frame", PATIENCE, || {
            steered.heartbeats(1, RECENT);
            wire.send(&frame);
            steered.underlay().steered > 0
        });
    });
}

#[test]
fn another_workers_heartbeat_does_not_count_for_a_queue() {
    let scene = Scene::new("whose", 2, 1500);
    scene.node.enter(|| {
        let mut steered = Steered::load(2);
        steered.steering.attach().unwrap();
        let mut receivers = [steered.open_nic(0), steered.open_nic(1)];
        let wire = scene.raw_on_wire();
        let frame = scene.frame().bytes(b"hello");
        let send = |steered: &Steered, from_now: [i64; 2]| {
            for (worker, from_now) in (0..).zip(from_now) {
                let at_ns = now_ns().checked_add_signed(from_now).unwrap();
                steered.steering.heartbeat(worker).store(at_ns);
            }
            let before = steered.underlay();
            wire.send(&frame);
            wait_until("a frame", PATIENCE, || steered.underlay() != before);
            steered.underlay().steered - before.steered == 1
        };
        assert!(!send(&steered, [STALE, STALE]));
        assert!(send(&steered, [MINUTE, MINUTE]));
        let mut queue = None;
        wait_until("the frame at a socket", PATIENCE, || {
            queue = receivers
                .iter_mut()
                .position(|receiver| !receiver.frames().is_empty());
            queue.is_some()
        });
        // The frame's flow takes the same queue again.
        let own = |own, other| {
            if queue == Some(0) {
                [own, other]
            } else {
                [other, own]
            }
        };
        assert!(send(&steered, own(MINUTE, STALE)));
        assert!(!send(&steered, own(STALE, MINUTE)));
    });
}

#[test]
fn the_vxlan_device_keeps_its_frames_while_a_worker_hangs_or_under_bypass() {
    let scene = Scene::new("egress-open", 1, 1500);
    scene.node.enter(|| {
        let mut steered = Steered::load(2);
        let mut receivers = [steered.open_worker_side(0), steered.open_worker_side(1)];
        steered.steering.attach().unwrap();
        let wire = scene.raw_on_wire();
        let socket = std::net::UdpSocket::bind("10.244.0.0:0").unwrap();
        // What the kernel encapsulates is on the wire.
        let mut send = |steered: &Steered, what: &str, passed: Option<PassReason>| {
            let expected = one_more(steered.egress(), passed);
            socket.send_to(what.as_bytes(), "10.244.1.0:9").unwrap();
            wait_until(what, PATIENCE, || steered.egress() == expected);
            let ends_so = |frame: Vec<u8>| frame.ends_with(what.as_bytes());
            wait_until(what, PATIENCE, || match passed {
                Some(_) => wire.receive().is_some_and(ends_so),
                None => receivers
                    .iter_mut()
                    .flat_map(|receiver| receiver.frames())
                    .any(ends_so),
            });
        };
        send(&steered, "no heartbeat ever", Some(HeartbeatStale));
        steered.heartbeats(2, MINUTE);
        send(&steered, "both live", None);
        steered.heartbeats(1, STALE);
        send(&steered, "the first hangs", Some(HeartbeatStale));
        steered.heartbeats(1, MINUTE);
        send(&steered, "both live again", None);
        steered.steering.set_bypass(true);
        send(&steered, "bypass", Some(Bypass));
        steered.steering.set_bypass(false);
        send(&steered, "no bypass", None);
    });
}

#[test]
fn what_workers_decapsulate_enters_the_vxlan_device_as_long_as_one_lives() {
    let scene = Scene::new("ingress", 1, 1500);
    scene.node.enter(|| {
        let steered = {
            let mut steered = Steered::load(1);
            steered.steering.attach().unwrap();
            steered
        };
        let worker_side = scene.raw_on(&steered.pair.worker_side.name);
        let socket = std::net::UdpSocket::bind("10.244.0.0:9").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let frame = scene.frame().bytes(b"inside");
        let inner = &frame[crate::support::frames::offset::INNER..];
        let kernel_side = steered.pair.kernel_side.ifindex;

        worker_side.send(inner);
        wait_until("a lost frame", PATIENCE, || {
            steered.counters(kernel_side).lost == 1
        });
        steered.heartbeats(1, MINUTE);
        // A worker that drains hands on what it has.
        steered.steering.set_bypass(true);
        worker_side.send(inner);
        let mut bytes = [0; 100];
        let (len, from) = socket.recv_from(&mut bytes).unwrap();
        assert_eq!(&bytes[..len], b"inside");
        assert_eq!(from.to_string(), "10.244.1.0:40000");
        let counters = steered.counters(kernel_side);
        assert_eq!((counters.steered, counters.lost), (1, 1));
    });
}
