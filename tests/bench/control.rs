//! A run that is under way: how far it is, how it is ended, and that nothing but its time ends it.

use std::num::NonZeroU32;
use std::thread;
use std::time::Duration;

use vxgate::loadgen::engine::{Control, Generator, LiveGenerator, Load};

use crate::frames::PLAIN;
use crate::support::wait_until;
use crate::wire::{Engine, PATIENCE, Wire, alone, expect, flows, ifindex, slow_load};

/// The end that is asked for comes, long before the load's; what was sent until then is counted to the last frame.
fn a_run_ends_when_it_is_told_to(engine: Engine) {
    let wire = Wire::new(&format!("ends-{engine:?}"));
    let sink = wire.sink(&expect(1));
    let flows = flows(PLAIN, 3);
    let streams = alone(PLAIN, &flows, &[(60, 1)]);
    let load = Load {
        duration: Duration::from_secs(3600),
        ..slow_load(&streams, 1)
    };
    let mut generator = wire.generator(engine);
    let control = Control::default();
    assert_eq!((control.sent(), control.is_stopped()), (0, false));
    let sent = thread::scope(|scope| {
        let run = scope.spawn(|| wire.near.enter(|| generator.run_watched(&load, &control)));
        wait_until("a hundred frames", PATIENCE, || {
            control.sent() >= 100 || run.is_finished()
        });
        control.stop();
        run.join().unwrap().unwrap()
    });
    assert!(sent.frames() >= control.sent() && control.sent() >= 100);
    assert!(sent.elapsed > Duration::from_millis(19) && sent.elapsed < load.duration);
    wait_until("the last frame at the sink", PATIENCE, || {
        sink.read().unwrap().per_stream[0].frames == sent.frames()
    });
    assert_eq!(sink.reached().unwrap(), [sent.frames()]);
    // The next run is one from the start.
    let mut sink = sink;
    sink.reset().unwrap();
    assert_eq!(sink.reached().unwrap(), [0]);
    let load = slow_load(&streams, 50);
    let sent = wire.near.enter(|| generator.run(&load)).unwrap();
    assert_eq!(sent.frames() + sent.late, 50);
}

#[test]
fn live_a_run_ends_when_it_is_told_to() {
    a_run_ends_when_it_is_told_to(Engine::Live);
}

#[test]
fn afxdp_a_run_ends_when_it_is_told_to() {
    a_run_ends_when_it_is_told_to(Engine::Afxdp);
}

fn a_run_that_must_not_begin_says_so(engine: Engine) {
    let wire = Wire::new(&format!("before-{engine:?}"));
    let _sink = wire.sink(&expect(1));
    let flows = flows(PLAIN, 1);
    let streams = alone(PLAIN, &flows, &[(60, 1)]);
    let mut generator = wire.generator(engine);
    let control = Control::default();
    control.stop();
    // The engine `live` may have sent some before it is told.
    let outcome = wire
        .near
        .enter(|| generator.run_watched(&slow_load(&streams, 100_000), &control));
    match outcome {
        Ok(sent) => assert!(sent.elapsed < Duration::from_secs(20)),
        Err(error) => assert!(error.to_string().contains("ended before"), "{error}"),
    }
}

#[test]
fn live_a_run_that_must_not_begin_says_so() {
    a_run_that_must_not_begin_says_so(Engine::Live);
}

#[test]
fn afxdp_a_run_that_must_not_begin_says_so() {
    a_run_that_must_not_begin_says_so(Engine::Afxdp);
}

/// The kernel counts a run's turns in 32 bits, and idle turns count: a load of hours takes several calls. Here it takes
/// dozens: a call lasts milliseconds.
#[test]
fn live_a_load_goes_on_when_the_turns_of_a_call_are_used_up() {
    let wire = Wire::new("turns");
    let sink = wire.sink(&expect(2));
    let near0 = ifindex(&wire.near, "near0");
    let mut generator = wire
        .near
        .enter(|| LiveGenerator::open(near0, None))
        .unwrap();
    generator.set_turns_per_call(NonZeroU32::new(100_000).unwrap());
    let flows = flows(PLAIN, 7);
    let streams = alone(PLAIN, &flows, &[(60, 1), (300, 1)]);
    let load = slow_load(&streams, 2_500);
    let sent = wire.near.enter(|| generator.run(&load)).unwrap();
    assert_eq!(sent.frames() + sent.late, 2_500);
    assert!(sent.frames() > 10, "{sent:?}");
    assert!(sent.elapsed >= load.duration);
    wait_until("the last frame at the sink", PATIENCE, || {
        sink.read().unwrap().per_stream[0].frames == sent.frames()
    });
    let received = sink.read().unwrap().per_stream[0];
    assert_eq!((received.duplicated, received.reordered), (0, 0));
    assert_eq!(sink.reached().unwrap(), [sent.frames(), 0]);
}
