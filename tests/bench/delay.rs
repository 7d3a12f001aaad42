//! Delay in the device is delay in the numbers, all of it: it counts from when a frame was meant to leave.

use std::thread;
use std::time::Duration;

use vxgate::loadgen::engine::{Control, Load};

use crate::faults::{Fault, faulty_wire};
use crate::frames::TUNNELLED;
use crate::support::frames::RawSocket;
use crate::support::wait_until;
use crate::wire::{Hands, PATIENCE, alone, by_hands, expect, flows, kernel_sent};

const LEN: u16 = 250;
/// Faster than any load here, and slow enough that what has waited does not come at once: a veth holds 256 frames.
const FAST: &str = "rate 20mbit burst 8kb limit 10mb";

/// Ends a run, also when the test that watches it fails.
struct Running<'a>(&'a Control);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A queue that is drained at a fixed rate: the n-th frame of a burst waits for n - 1 others.
fn a_queue_shows_its_delay(hands: Hands) {
    // 100 frames of 2000 bits at 2 Mbit/s: the last one waits for almost 100 ms. One frame's worth may pass at once.
    const DRAIN: &str = "rate 2mbit burst 256 limit 1mb";
    const FRAMES: u32 = 100;
    let (wire, middle) = faulty_wire(&format!("delay-{}", hands.word()), Fault::None);
    middle
        .netns
        .run(&format!("tc qdisc add dev mid1 root tbf {DRAIN}"));
    let sink = wire.receiver(hands.receiver, &expect(1));
    let flows = flows(TUNNELLED, 1);
    let streams = alone(TUNNELLED, &flows, &[(LEN, 1)]);
    let load = Load {
        streams: &streams,
        rate_fps: 10_000.0,
        burst: FRAMES,
        duration: Duration::from_millis(10),
    };
    let mut generator = wire.generator(hands.engine);
    let sent = wire.near.enter(|| generator.run(&load)).unwrap();
    assert_eq!((sent.frames(), sent.late), (u64::from(FRAMES), 0));
    wait_until("the last frame at the sink", PATIENCE, || {
        sink.read().unwrap().latency.len() == u64::from(FRAMES)
    });
    let received = sink.read().unwrap();
    let at_least_ms = |quantile: f64, bound: u64| {
        let found = received.latency.value_at_quantile(quantile) / 1_000_000;
        assert!(
            found >= bound,
            "{found} ms at {quantile}, which must have waited for {bound}"
        );
    };
    at_least_ms(1.0, 97);
    at_least_ms(0.9, 87);
    at_least_ms(0.5, 47);
    assert!(received.latency_range_ns.unwrap().1 >= 97_000_000);
}

/// The device stops for a while: every frame that was to pass meanwhile has waited for what was left of the stall.
fn a_stall_is_in_the_tail_in_full(hands: Hands) {
    const RATE_FPS: f64 = 4_000.0;
    const STALL: Duration = Duration::from_millis(150);
    let (wire, middle) = faulty_wire(&format!("stall-{}", hands.word()), Fault::None);
    middle
        .netns
        .run(&format!("tc qdisc add dev mid1 root tbf {FAST}"));
    let sink = wire.receiver(hands.receiver, &expect(1));
    let flows = flows(TUNNELLED, 1);
    let streams = alone(TUNNELLED, &flows, &[(LEN, 1)]);
    let load = Load {
        streams: &streams,
        rate_fps: RATE_FPS,
        burst: 1,
        duration: Duration::from_secs(3600),
    };
    let mut generator = wire.generator(hands.engine);
    let control = Control::default();
    let arrived = || sink.read().unwrap().latency.len();
    let passed = || kernel_sent(&middle.netns, "mid1");
    let drain_at = |rate| {
        let change = format!("tc qdisc change dev mid1 root tbf {rate}");
        middle.netns.run(&change);
    };
    let sent = thread::scope(|scope| {
        let running = Running(&control);
        let run = scope.spawn(|| {
            wire.near
                .enter(|| generator.run_watched(&load, &control))
                .unwrap()
        });
        wait_until("the first frames", PATIENCE, || arrived() > 0);
        drain_at("rate 8bit burst 2kb limit 10mb");
        let before = passed();
        thread::sleep(STALL);
        // What was in the bucket may have passed after the look, and no more.
        assert!(passed() <= before + 16, "the device did not stall");
        drain_at(FAST);
        let meanwhile = control.sent();
        // A queue that is told another rate looks up at the next frame only.
        let other = RawSocket::open(&middle.netns, "mid1");
        wait_until("the frames of the stall", PATIENCE, || {
            other.send(&[0xff; 60]);
            arrived() >= meanwhile
        });
        drop(running);
        run.join().unwrap()
    });
    wait_until("the last frame at the sink", PATIENCE, || {
        arrived() == sent.frames()
    });
    let received = sink.read().unwrap();
    let longest_ns = received.latency.max();
    assert!(
        u128::from(longest_ns) >= STALL.as_nanos() * 9 / 10,
        "{longest_ns} ns"
    );
    // A third of the stall's frames were meant to leave in its first third, so they waited for two thirds of it.
    let waited = received
        .latency
        .count_between(STALL.as_nanos() as u64 * 2 / 3, longest_ns);
    let meant = (RATE_FPS * STALL.as_secs_f64() / 3.0) as u64;
    assert!(
        waited + sent.late >= meant * 8 / 10,
        "{waited} frames waited, of {meant}"
    );
    let gap = received.per_stream[0].gap_max_ns;
    assert!(
        u128::from(gap) >= STALL.as_nanos() * 9 / 10,
        "the longest gap is {gap} ns"
    );
}

by_hands!(a_queue_shows_its_delay, a_stall_is_in_the_tail_in_full);
