//! Whoever sends and whoever receives, the numbers are those of the kernel's own counters, and of a capture.

use vxgate::loadgen::engine::StreamReceived;

use crate::faults::{Fault, faulty_wire};
use crate::frames::TUNNELLED;
use crate::support::capture::Capture;
use crate::support::netns::Netns;
use crate::support::wait_until;
use crate::wire::{
    Engine, Hands, PATIENCE, Wire, alone, by_hands, expect, flows, kernel_received, run, slow_load,
};

const LEN: u16 = 200;
const FRAMES: u32 = 2_000;

/// One of the numbers that a driver keeps (`ethtool -S`), of all queues.
fn driver_count(netns: &Netns, device: &str, name: &str) -> u64 {
    let text = netns.run(&format!("ethtool -S {device}"));
    let counts = text
        .lines()
        .filter_map(|line| line.trim().split_once(": "))
        .filter(|(counter, _)| counter.ends_with(name));
    counts.map(|(_, count)| count.parse::<u64>().unwrap()).sum()
}

/// Frames and bytes by the sender, the receiver, the device's statistics and the driver's count of what its XDP program got.
/// On a wire they do not just agree within a percent: they are the same.
fn the_kernels_counters_agree(hands: Hands) {
    let wire = Wire::new(&format!("agree-{}", hands.word()));
    let receiver = wire.receiver(hands.receiver, &expect(1));
    let flows = flows(TUNNELLED, 5);
    let streams = alone(TUNNELLED, &flows, &[(LEN, 1)]);
    let counts = || {
        [
            kernel_received(&wire.far, "far0"),
            driver_count(&wire.far, "far0", "_xdp_packets"),
            driver_count(&wire.far, "far0", "_xdp_bytes"),
        ]
    };
    let before = counts();
    let load = slow_load(&streams, FRAMES);
    let (sent, received) = run(&wire, hands.engine, &load, receiver.as_ref(), |_| 0);
    let after = counts();
    let [by_device, by_driver, bytes] = [0, 1, 2].map(|n| after[n] - before[n]);
    let frames = received.per_stream[0].frames;
    assert_eq!(frames, sent.frames());
    assert_eq!((by_device, by_driver), (frames, frames));
    // From a socket, frames arrive with the Ethernet header taken off already: the driver counts what is left.
    let headers = match hands.engine {
        Engine::Afxdp => 14 * frames,
        Engine::Live => 0,
    };
    assert_eq!(bytes + headers, received.per_stream[0].bytes);
}

/// What an independent program captures in the middle, decodes and counts, before and behind a device that drops.
fn a_capture_agrees(hands: Hands) {
    let name = format!("capture-{}", hands.word());
    let (wire, middle) = faulty_wire(&name, Fault::Drop { every: 100 });
    let receiver = wire.receiver(hands.receiver, &expect(1));
    let [before, behind] = ["mid0", "mid1"].map(|device| Capture::start(&middle.netns, device));
    let flows = flows(TUNNELLED, 5);
    let streams = alone(TUNNELLED, &flows, &[(LEN, 1)]);
    let load = slow_load(&streams, FRAMES);
    let (sent, received) = run(&wire, hands.engine, &load, receiver.as_ref(), |sent| {
        sent / 100
    });
    let count = |capture: Capture, due: u64| {
        // A frame, padded to 4 bytes, in an enhanced packet block of 32 bytes.
        let bytes = due * (u64::from(LEN) + 32);
        wait_until("the file of the capture", PATIENCE, || {
            capture.bytes() >= bytes
        });
        let frames = capture.finish_with("vxlan && udp.dstport==9", &["frame.len"]);
        let len = LEN.to_string();
        assert!(frames.iter().all(|columns| *columns == [len.as_str()]));
        frames.len() as u64
    };
    let expected = StreamReceived {
        frames: sent.frames() - sent.frames() / 100,
        bytes: received.per_stream[0].bytes,
        gap_max_ns: received.per_stream[0].gap_max_ns,
        ..StreamReceived::default()
    };
    assert_eq!(received.per_stream[0], expected);
    assert_eq!(
        [count(before, sent.frames()), count(behind, expected.frames)],
        [sent.frames(), expected.frames]
    );
}

by_hands!(the_kernels_counters_agree, a_capture_agrees,);
