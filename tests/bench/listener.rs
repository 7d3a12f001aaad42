//! The receiver in user space: what it takes, what it leaves alone, what it cannot take, and what it refuses.

use std::process::Command;
use std::time::Duration;

use vxgate::loadgen::engine::{
    AfxdpGenerator, AfxdpListener, EngineError, Load, Received, Receiver, ReceiverKind, XdpMode,
};

use crate::frames::{PLAIN, TUNNELLED, frame, now_ns};
use crate::support::frames::RawSocket;
use crate::support::wait_until;
use crate::wire::{
    Engine, PATIENCE, Wire, alone, expect, flows, ifindex, kernel_received, run, slow_load,
};

fn words<T>(outcome: Result<T, EngineError>) -> String {
    match outcome {
        Ok(_) => panic!("it was not refused"),
        Err(error) => error.to_string(),
    }
}

fn listener(wire: &Wire) -> Box<dyn Receiver + Send + Sync> {
    wire.receiver(ReceiverKind::Afxdp, &expect(1))
}

fn wait_for(receiver: &dyn Receiver, what: &str, enough: impl Fn(&Received) -> bool) -> Received {
    wait_until(what, PATIENCE, || enough(&receiver.read().unwrap()));
    receiver.read().unwrap()
}

#[test]
fn it_says_what_it_is() {
    let wire = Wire::new("says");
    let listener = listener(&wire);
    let mode = wire.far.enter(|| listener.mode()).unwrap();
    assert_eq!(mode, XdpMode::Native);
    assert_eq!(listener.name(), "afxdp, copying");
    let far0 = ifindex(&wire.far, "far0");
    let taken = words(
        wire.far
            .enter(|| AfxdpListener::attach(far0, &expect(1), None)),
    );
    assert!(
        taken.contains("queue 0 of far0") && taken.contains("another process"),
        "{taken}"
    );
    drop(listener);
    // All of it went: the next one has the device.
    self::listener(&wire);
}

/// What this process starts while it has a socket, and what outlives that, has no part in the socket's queue.
#[test]
fn what_is_started_meanwhile_holds_no_queue() {
    let wire = Wire::new("meanwhile");
    let far0 = ifindex(&wire.far, "far0");
    let open = || wire.far.enter(|| AfxdpGenerator::open(far0, 0, None));
    let generator = open().unwrap();
    // All that this process lets its children have: not by `command`, which keeps the descriptors of neighbours from them.
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    drop(generator);
    let again = open();
    child.kill().unwrap();
    child.wait().unwrap();
    again.unwrap();
}

#[test]
fn all_queues_or_none() {
    let wire = Wire::with_queues("all", 2);
    let far0 = ifindex(&wire.far, "far0");
    let other = wire
        .far
        .enter(|| AfxdpGenerator::open(far0, 1, None))
        .unwrap();
    let attach = |core| {
        wire.far
            .enter(|| AfxdpListener::attach(far0, &expect(1), core))
    };
    let taken = words(attach(None));
    assert!(taken.contains("queue 1 of far0"), "{taken}");
    drop(other);
    let absent = words(attach(Some(100_000)));
    assert!(absent.contains("no core 100000"), "{absent}");
    attach(Some(0)).unwrap();
}

#[test]
fn the_frames_of_others_reach_the_kernel() {
    let wire = Wire::new("others");
    let listener = listener(&wire);
    let (near, far) = (
        RawSocket::open(&wire.near, "near0"),
        RawSocket::open(&wire.far, "far0"),
    );
    let mut tagged = frame(PLAIN, 0, 0, now_ns(), 100);
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    let unknown_stream = frame(PLAIN, 1, 0, now_ns(), 100);
    let mut cut = frame(TUNNELLED, 0, 0, now_ns(), 150);
    cut.truncate(149);
    let others = [tagged, unknown_stream, cut, vec![0xff; 60]];
    for other in &others {
        near.send(&frame(PLAIN, 0, 7, now_ns(), 100));
        near.send(other);
    }
    let count = others.len() as u64;
    let received = wait_for(listener.as_ref(), "all frames", |received| {
        received.per_stream[0].duplicated == count - 1 && received.foreign == count
    });
    assert_eq!(received.per_stream[0].frames, 1);
    assert_eq!(received.receiver_lost, 0);
    assert_eq!(received.inspection.unwrap().inspected, count);
    // What the kernel's own sockets see: the others' frames, and none of ours.
    let mut seen = 0;
    wait_until("the others' frames at the kernel", PATIENCE, || {
        seen += std::iter::from_fn(|| far.receive()).count();
        seen >= others.len()
    });
    assert_eq!(seen, others.len());
}

/// A frame that fits no chunk, on a device whose MTU was raised behind its back: lost by the receiver, and said so.
#[test]
fn what_it_cannot_take_is_its_own_loss() {
    let wire = Wire::new("own-loss");
    let mut listener = listener(&wire);
    wire.far.run("ip link set far0 mtu 9100");
    wire.near.run("ip link set near0 mtu 9100");
    let flows = flows(TUNNELLED, 1);
    let sizes = [(200, 1), (5_000, 1)];
    let streams = alone(TUNNELLED, &flows, &sizes);
    let mut generator = wire.generator(Engine::Afxdp);
    let sent = wire
        .near
        .enter(|| generator.run(&slow_load(&streams, 1_000)))
        .unwrap()
        .frames();
    let received = wait_for(listener.as_ref(), "all frames", |received| {
        received.per_stream[0].frames + received.receiver_lost == sent
            && received.receiver_lost <= sent / 2
    });
    assert_eq!(received.receiver_lost, sent / 2);
    assert_eq!(received.per_stream[0].frames, sent - sent / 2);
    listener.reset().unwrap();
    let received = listener.read().unwrap();
    assert_eq!((received.receiver_lost, received.foreign), (0, 0));
}

/// Flat out, it may lose; but every frame that its program saw is one that it took, or one that it says it lost.
#[test]
fn flat_out_all_is_accounted_for() {
    let wire = Wire::new("flat-out");
    let listener = listener(&wire);
    let before = kernel_received(&wire.far, "far0");
    let flows = flows(PLAIN, 3);
    let streams = alone(PLAIN, &flows, &[(100, 1)]);
    let load = Load {
        rate_fps: f64::INFINITY,
        duration: Duration::from_millis(300),
        ..slow_load(&streams, 1)
    };
    let mut generator = wire.generator(Engine::Live);
    wire.near.enter(|| generator.run(&load)).unwrap();
    // What the kernel's statistics have is what came out of the wire's queue: whoever is still in it is not yet counted.
    let mut last = None;
    wait_until("the end of the frames", PATIENCE, || {
        let now = listener.read().unwrap();
        let still = last.as_ref() == Some(&now);
        last = Some(now);
        still
    });
    let received = listener.read().unwrap();
    let arrived = kernel_received(&wire.far, "far0") - before;
    assert!(received.per_stream[0].frames > 0);
    assert_eq!(
        received.per_stream[0].frames + received.receiver_lost,
        arrived
    );
}

#[test]
fn jumbo_frames_in_several_chunks_are_inspected_in_full() {
    let wire = Wire::new("jumbo-listener");
    wire.far.run("ip link set far0 mtu 9100");
    wire.near.run("ip link set near0 mtu 9100");
    let listener = listener(&wire);
    let flows = flows(TUNNELLED, 3);
    let sizes = [(9064, 1), (200, 1), (3840, 1), (3841, 1), (7681, 1)];
    let streams = alone(TUNNELLED, &flows, &sizes);
    let load = slow_load(&streams, 1_000);
    let (sent, received) = run(&wire, Engine::Afxdp, &load, listener.as_ref(), |_| 0);
    assert_eq!(received.per_stream[0].frames, sent.frames());
    assert_eq!(received.per_stream[0].bytes, sent.bytes);
    let inspection = received.inspection.unwrap();
    assert_eq!(inspection.inspected, sent.frames());
    assert!(
        inspection.findings().iter().all(|(_, frames)| *frames == 0),
        "{inspection:?}"
    );
}
