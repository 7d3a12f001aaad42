//! What an engine refuses, and in which words; and loads at its edges.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vxgate::loadgen::engine::{
    AfxdpGenerator, Choice, EngineError, EngineKind, Expectations, Generator, LiveGenerator, Load,
    ReceiverKind, Sink, StreamLoad, StreamReceived, XdpMode, open as open_engine,
};

use crate::frames::{PLAIN, TUNNELLED, VXLAN_PORT};
use crate::support::netns::Netns;
use crate::support::wait_until;
use crate::wire::{Engine, PATIENCE, Wire, alone, expect, flows, ifindex, link, run, slow_load};

/// Words of an error that must be one.
fn words<T>(outcome: Result<T, EngineError>) -> String {
    match outcome {
        Ok(_) => panic!("it went well"),
        Err(error) => error.to_string(),
    }
}

fn open(netns: &Netns, device: u32) -> Result<LiveGenerator, EngineError> {
    netns.enter(|| LiveGenerator::open(device, None))
}

#[test]
fn live_a_wire_behind_which_frames_would_vanish_is_refused() {
    let wire = Wire::new("vanish");
    let near0 = ifindex(&wire.near, "near0");
    let refused = words(open(&wire.near, near0));
    assert!(
        refused.contains("NAPI") && refused.contains("near0") && refused.contains("afxdp"),
        "{refused}"
    );
    let _sink = wire.sink(&expect(1));
    assert!(open(&wire.near, near0).is_ok());
}

#[test]
fn live_a_receiver_that_goes_away_is_noticed_before_the_next_run() {
    let wire = Wire::new("gone");
    let sink = wire.sink(&expect(1));
    let mut generator = wire.generator(Engine::Live);
    drop(sink);
    // A child that another test has just forked holds the link, as all descriptors, until it runs its program.
    wait_until("far0 without a program", PATIENCE, || {
        link(&wire.far, "far0")["xdp"].is_null()
    });
    let flows = flows(PLAIN, 1);
    let streams = alone(PLAIN, &flows, &[(60, 1)]);
    let refused = words(wire.near.enter(|| generator.run(&slow_load(&streams, 10))));
    assert!(refused.contains("NAPI"), "{refused}");
}

fn what_cannot_be_sent_is_said(engine: Engine) {
    let wire = Wire::new(&format!("refused-{engine:?}"));
    let sink = wire.sink(&expect(1));
    let flows = flows(PLAIN, 1);
    let sized = |sizes| StreamLoad {
        id: 0,
        shape: PLAIN,
        flows: &flows,
        sizes,
        share: 1,
    };
    let mut generator = wire.generator(engine);
    let mut refused = |sizes| {
        let streams = [sized(sizes)];
        words(wire.near.enter(|| generator.run(&slow_load(&streams, 10))))
    };
    let too_long = refused(&[(60, 1), (3419, 1)]);
    assert!(
        too_long.contains("MTU of 3400") && too_long.contains("3419"),
        "{too_long}"
    );
    wire.far.run("ip link set far0 down");
    let unplugged = refused(&[(60, 1)]);
    assert!(unplugged.contains("carrier"), "{unplugged}");
    wire.near.run("ip link set near0 down");
    let down = refused(&[(60, 1)]);
    assert!(down.contains("ip link set dev near0 up"), "{down}");
    wire.near.run("ip link del near0");
    let gone = refused(&[(60, 1)]);
    assert!(gone.contains("no such device"), "{gone}");
    drop(sink);
}

#[test]
fn live_what_cannot_be_sent_is_said() {
    what_cannot_be_sent_is_said(Engine::Live);
}

#[test]
fn afxdp_what_cannot_be_sent_is_said() {
    what_cannot_be_sent_is_said(Engine::Afxdp);
}

#[test]
fn afxdp_a_queue_that_is_taken_or_missing_is_said() {
    let wire = Wire::new("queues");
    let near0 = ifindex(&wire.near, "near0");
    let open = |queue| wire.near.enter(|| AfxdpGenerator::open(near0, queue, None));
    let missing = words(open(7));
    assert!(
        missing.contains("no such queue") && missing.contains("queue 7 of near0"),
        "{missing}"
    );
    let first = open(0).unwrap();
    assert!(!first.zero_copy(), "a veth has none");
    let taken = words(open(0));
    assert!(
        taken.contains("another process has a socket there"),
        "{taken}"
    );
    drop(first);
    assert!(open(0).is_ok());
}

#[test]
fn a_device_with_another_program_is_said() {
    let wire = Wire::new("taken");
    let first = wire.sink(&expect(1));
    assert_eq!(first.mode().unwrap(), XdpMode::Native);
    let far0 = ifindex(&wire.far, "far0");
    let taken = words(wire.far.enter(|| Sink::attach(far0, &expect(1))));
    assert!(
        taken.contains("far0") && taken.contains("xdp off"),
        "{taken}"
    );
}

#[test]
fn live_the_longest_frame_is_as_long_as_it_says() {
    let wire = Wire::new("longest");
    let sink = wire.sink(&expect(1));
    let flows = flows(TUNNELLED, 2);
    let streams = alone(TUNNELLED, &flows, &[(3392, 1)]);
    let (sent, received) = run(&wire, Engine::Live, &slow_load(&streams, 500), &sink, |_| 0);
    assert_eq!(received.per_stream[0].frames, sent.frames());
    assert_eq!(received.per_stream[0].bytes, 3392 * sent.frames());
    let streams = [StreamLoad {
        sizes: &[(3393, 1)],
        ..streams[0]
    }];
    let mut generator = wire.generator(Engine::Live);
    let refused = words(wire.near.enter(|| generator.run(&slow_load(&streams, 10))));
    assert!(
        refused.contains("3392") && refused.contains("afxdp"),
        "{refused}"
    );
}

/// Nine thousand bytes take three chunks, and arrive in fragments.
#[test]
fn afxdp_jumbo_frames_arrive_whole() {
    let wire = Wire::new("jumbo");
    let sink = wire.sink(&expect(1));
    wire.far.run("ip link set far0 mtu 9100");
    wire.near.run("ip link set near0 mtu 9100");
    let flows = flows(TUNNELLED, 3);
    let sizes = [(9064, 1), (200, 1), (3840, 1), (3841, 1), (7681, 1), (1, 0)];
    let streams = alone(TUNNELLED, &flows, &sizes[..5]);
    let (sent, received) = run(
        &wire,
        Engine::Afxdp,
        &slow_load(&streams, 2_000),
        &sink,
        |_| 0,
    );
    let expected = StreamReceived {
        frames: sent.frames(),
        bytes: sent.bytes,
        gap_max_ns: received.per_stream[0].gap_max_ns,
        ..StreamReceived::default()
    };
    assert_eq!(received.per_stream[0], expected);
    assert_eq!(received.foreign, 0);
}

/// As fast as it goes: nothing was intended that was not sent, and nothing arrives that was not sent.
fn flat_out(engine: Engine) {
    let wire = Wire::new(&format!("flat-{engine:?}"));
    let sink = wire.sink(&expect(2));
    let (plain, tunnelled) = (flows(PLAIN, 100), flows(TUNNELLED, 100));
    let streams = [
        StreamLoad {
            id: 0,
            shape: PLAIN,
            flows: &plain,
            sizes: &[(60, 1)],
            share: 1,
        },
        StreamLoad {
            id: 1,
            shape: TUNNELLED,
            flows: &tunnelled,
            sizes: &[(110, 1), (200, 1)],
            share: 1,
        },
    ];
    let load = Load {
        streams: &streams,
        rate_fps: f64::INFINITY,
        burst: 1,
        duration: Duration::from_millis(200),
    };
    // A wire that is overrun loses frames; they are lost, and nothing else.
    let (sent, received) = run(&wire, engine, &load, &sink, |sent| sent);
    assert_eq!(sent.late, 0);
    assert!(sent.elapsed >= load.duration);
    assert!(
        sent.per_stream[0].abs_diff(sent.per_stream[1]) <= 1,
        "{sent:?}"
    );
    for (sent, received) in sent.per_stream.iter().zip(&received.per_stream) {
        assert!(received.frames > 0 && received.frames <= *sent);
        let expected = StreamReceived {
            frames: received.frames,
            bytes: received.bytes,
            gap_max_ns: received.gap_max_ns,
            ..StreamReceived::default()
        };
        assert_eq!(*received, expected);
    }
}

#[test]
fn live_flat_out() {
    flat_out(Engine::Live);
}

#[test]
fn afxdp_flat_out() {
    flat_out(Engine::Afxdp);
}

/// One generator, several loads, one after the other; a sink that is reset in between.
fn runs_do_not_mix(engine: Engine) {
    let wire = Wire::new(&format!("again-{engine:?}"));
    let mut sink = wire.sink(&Expectations {
        streams: 3,
        here: vec![0, 2],
        vxlan_ports: vec![VXLAN_PORT],
        zeros: true,
    });
    let (few, many) = (flows(PLAIN, 1), flows(TUNNELLED, 50));
    let one = alone(PLAIN, &few, &[(60, 1)]);
    let others = [
        StreamLoad {
            id: 2,
            shape: TUNNELLED,
            flows: &many,
            sizes: &[(150, 1)],
            share: 2,
        },
        StreamLoad {
            id: 1,
            shape: PLAIN,
            flows: &few,
            sizes: &[(64, 1)],
            share: 1,
        },
    ];
    let (sent, received) = run(&wire, engine, &slow_load(&one, 200), &sink, |_| 0);
    assert_eq!(
        [sent.per_stream[0], 0, 0],
        [0, 1, 2].map(|stream| received.per_stream[stream].frames)
    );
    sink.reset().unwrap();
    let (sent, received) = run(&wire, engine, &slow_load(&others, 300), &sink, |_| 0);
    assert_eq!(
        [0, 0, sent.per_stream[0]],
        [0, 1, 2].map(|stream| received.per_stream[stream].frames)
    );
    assert_eq!(
        [0, sent.per_stream[1], 0],
        [0, 1, 2].map(|stream| received.per_stream[stream].misdelivered)
    );
    assert_eq!(
        received.latency.len(),
        sent.per_stream[0],
        "what belongs elsewhere has no latency"
    );
    // Another rate of the same: what the first run left behind must not be in the second.
    let faster = Load {
        rate_fps: 6_000.0,
        ..slow_load(&others, 300)
    };
    let mut generator = wire.generator(engine);
    for _ in 0..2 {
        sink.reset().unwrap();
        let sent = wire.near.enter(|| generator.run(&faster)).unwrap();
        wait_until("the last frame", PATIENCE, || {
            sink.read().unwrap().per_stream[2].frames == sent.per_stream[0]
        });
        assert_eq!(sink.read().unwrap().per_stream[2].duplicated, 0);
        assert_eq!(sent.frames() + sent.late, 360);
    }
}

#[test]
fn live_runs_do_not_mix() {
    runs_do_not_mix(Engine::Live);
}

#[test]
fn afxdp_runs_do_not_mix() {
    runs_do_not_mix(Engine::Afxdp);
}

/// Nobody is told that time was kept which was not.
fn a_rate_beyond_the_machine_is_late(engine: Engine) {
    let wire = Wire::new(&format!("late-{engine:?}"));
    let sink = wire.sink(&expect(1));
    let flows = flows(PLAIN, 1);
    let streams = alone(PLAIN, &flows, &[(60, 1)]);
    let load = Load {
        streams: &streams,
        rate_fps: 1e9,
        burst: 1,
        duration: Duration::from_millis(50),
    };
    let (sent, received) = run(&wire, engine, &load, &sink, |sent| sent);
    assert_eq!(sent.frames() + sent.late, 50_000_000);
    assert!(sent.frames() < sent.late);
    assert!(received.per_stream[0].frames <= sent.frames());
}

#[test]
fn live_a_rate_beyond_the_machine_is_late() {
    a_rate_beyond_the_machine_is_late(Engine::Live);
}

#[test]
fn afxdp_a_rate_beyond_the_machine_is_late() {
    a_rate_beyond_the_machine_is_late(Engine::Afxdp);
}

fn choose(
    wire: &Wire,
    kind: EngineKind,
    len_max: usize,
) -> Result<(EngineKind, String), EngineError> {
    let choice = Choice {
        kind,
        ifindex: ifindex(&wire.near, "near0"),
        queue: 0,
        core: None,
        len_max,
    };
    let opened = wire.near.enter(|| open_engine(&choice))?;
    Ok((opened.kind, opened.why))
}

#[test]
fn left_to_choose_the_cheaper_one_is_taken_and_it_says_why() {
    let wire = Wire::new("auto");
    let (kind, why) = choose(&wire, EngineKind::Auto, 60).unwrap();
    assert!(
        kind == EngineKind::Afxdp && why.contains("NAPI"),
        "{kind:?}: {why}"
    );
    let _sink = wire.sink(&expect(1));
    let (kind, why) = choose(&wire, EngineKind::Auto, 60).unwrap();
    assert!(
        kind == EngineKind::Live && why.contains("no zero-copy"),
        "{kind:?}: {why}"
    );
    let (kind, why) = choose(&wire, EngineKind::Auto, 9_000).unwrap();
    assert!(
        kind == EngineKind::Afxdp && why.contains("too long"),
        "{kind:?}: {why}"
    );
    assert_eq!(
        choose(&wire, EngineKind::Live, 60).unwrap().0,
        EngineKind::Live
    );
    let (kind, why) = choose(&wire, EngineKind::Afxdp, 60).unwrap();
    assert!(
        kind == EngineKind::Afxdp && why.contains("copies"),
        "{kind:?}: {why}"
    );
}

#[test]
fn a_core_that_is_not_there_is_said() {
    let wire = Wire::new("core");
    let _sink = wire.sink(&expect(1));
    let near0 = ifindex(&wire.near, "near0");
    let flows = flows(PLAIN, 1);
    let streams = alone(PLAIN, &flows, &[(60, 1)]);
    let load = slow_load(&streams, 10);
    for core in [4095, 1_000_000] {
        let refused = words(
            wire.near
                .enter(|| LiveGenerator::open(near0, Some(core)).unwrap().run(&load)),
        );
        assert!(refused.contains(&format!("no core {core}")), "{refused}");
        let refused = words(wire.near.enter(|| {
            AfxdpGenerator::open(near0, 0, Some(core))
                .unwrap()
                .run(&load)
        }));
        assert!(refused.contains(&format!("no core {core}")), "{refused}");
    }
    let first = core_affinity::get_core_ids().unwrap()[0].id;
    assert!(
        wire.near
            .enter(|| LiveGenerator::open(near0, Some(first)).unwrap().run(&load))
            .is_ok()
    );
}

#[test]
fn what_needs_privileges_says_which() {
    let wire = Wire::new("caps");
    let sink = wire.sink(&expect(1));
    let near0 = ifindex(&wire.near, "near0");
    let flows = flows(PLAIN, 1);
    let streams = alone(PLAIN, &flows, &[(60, 1)]);
    let load = slow_load(&streams, 10);
    // The thread's own, and it ends with this.
    let refused = wire.near.enter(|| {
        caps::clear(None, caps::CapSet::Effective).unwrap();
        let live = LiveGenerator::open(near0, None).and_then(|mut live| live.run(&load));
        let afxdp = AfxdpGenerator::open(near0, 0, None);
        [words(live), words(afxdp), words(Sink::load(&expect(1)))]
    });
    for refused in refused {
        assert!(
            refused.contains("run it as root, or with CAP_"),
            "{refused}"
        );
    }
    drop(sink);
}

/// Two generators at once, each with its queue and its stream, into one receiver on several queues and processors.
fn two_queues_are_two_generators(kind: ReceiverKind) {
    let wire = Wire::with_queues(&format!("two-{kind:?}"), 2);
    let sink = wire.receiver(kind, &expect(2));
    let near0 = ifindex(&wire.near, "near0");
    let flows = [flows(PLAIN, 3), flows(TUNNELLED, 3)];
    let stream = |id: usize| StreamLoad {
        id: id as u16,
        shape: [PLAIN, TUNNELLED][id],
        flows: &flows[id],
        sizes: &[(120, 1)],
        share: 1,
    };
    let send = |id: usize| {
        let streams = [stream(id)];
        let load = slow_load(&streams, 1_000);
        wire.near
            .enter(|| {
                AfxdpGenerator::open(near0, id as u32, None)
                    .unwrap()
                    .run(&load)
            })
            .unwrap()
    };
    let sent = thread::scope(|scope| {
        let runs = [0, 1].map(|id| scope.spawn(move || send(id)));
        runs.map(|run| run.join().unwrap().frames())
    });
    wait_until("the last frames", PATIENCE, || {
        let received = sink.read().unwrap();
        received
            .per_stream
            .iter()
            .map(|stream| stream.frames)
            .sum::<u64>()
            == sent.iter().sum::<u64>()
    });
    let received = sink.read().unwrap();
    for (sent, received) in sent.into_iter().zip(&received.per_stream) {
        let expected = StreamReceived {
            frames: sent,
            bytes: 120 * sent,
            gap_max_ns: received.gap_max_ns,
            ..StreamReceived::default()
        };
        assert_eq!(*received, expected);
    }
    // Each queue had its share.
    let counts = wire.far.run("ethtool -S far0");
    for (queue, sent) in sent.into_iter().enumerate() {
        let count = format!("rx_queue_{queue}_xdp_packets: {sent}\n");
        assert!(counts.contains(&count), "{counts}");
    }
}

#[test]
fn afxdp_two_queues_are_two_generators_to_xdp() {
    two_queues_are_two_generators(ReceiverKind::Xdp);
}

#[test]
fn afxdp_two_queues_are_two_generators_to_afxdp() {
    two_queues_are_two_generators(ReceiverKind::Afxdp);
}

/// A terminal that changes its size must not cut a run short.
#[test]
fn live_signals_for_the_process_do_not_end_a_run() {
    let wire = Wire::new("signals");
    let sink = wire.sink(&expect(1));
    let flows = flows(PLAIN, 1);
    let streams = alone(PLAIN, &flows, &[(60, 1)]);
    let seen = Arc::new(AtomicUsize::new(0));
    signal_hook::flag::register_usize(signal_hook::consts::SIGWINCH, Arc::clone(&seen), 1).unwrap();
    let ended = AtomicBool::new(false);
    let (sent, received) = thread::scope(|scope| {
        scope.spawn(|| {
            let deadline = Instant::now() + 2 * PATIENCE;
            while !ended.load(Ordering::Acquire) && Instant::now() < deadline {
                kill(Pid::this(), Signal::SIGWINCH).unwrap();
                thread::sleep(Duration::from_millis(1));
            }
        });
        let outcome = run(
            &wire,
            Engine::Live,
            &slow_load(&streams, 2_000),
            &sink,
            |_| 0,
        );
        ended.store(true, Ordering::Release);
        outcome
    });
    assert_eq!(seen.load(Ordering::Acquire), 1);
    assert_eq!(sent.frames() + sent.late, 2_000);
    assert_eq!(received.per_stream[0].frames, sent.frames());
}
