//! `vxgate perf`, and what it reads, under frames that are really there.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::drops::{PAYLOAD, PORT, from_the_master, to_the_master};
use crate::pod::Pod;
use crate::support::frames::RawSocket;
use crate::support::lab::{Lab, Node};
use crate::support::vxgate::{BINARY, Vxgate};
use crate::support::wait_until;

const BOUND: Duration = Duration::from_secs(10);
/// A ring of 256 frames holds them all, however late its reader is.
const BURST: u64 = 200;

/// The only worker.
fn worker(vxgate: &Vxgate) -> Value {
    let document = vxgate.ask_json(&["workers"]);
    let workers = document["workers"].as_array().expect("workers");
    assert_eq!(workers.len(), 1, "{document}");
    workers[0].clone()
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("a count, not {value}"))
}

/// `vxgate perf --json` at work.
fn begin(vxgate: &Vxgate, time: &str) -> Child {
    Command::new(BINARY)
        .args(["perf", "--json", "--for", time, "--socket"])
        .arg(vxgate.socket())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program")
}

#[test]
fn what_the_workers_do_is_measured_and_no_longer_than_somebody_asks() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    // The kernel's own multicast (neighbour discovery) would be counted among ours.
    node.run("sysctl -qw net.ipv6.conf.flannel/1.disable_ipv6=1");
    let vxgate = Vxgate::start(&node, &[]);
    // Without listeners the pods would answer.
    let _pods = [Node::Worker, Node::Master].map(|node| Pod::listen(&lab.client(node), PORT));
    let wire = RawSocket::open(&lab.netns("sw"), "p2");
    let from_master = from_the_master(&lab).bytes(PAYLOAD);
    let device = RawSocket::open(&node, "flannel.1");
    let to_master = to_the_master(&lab);
    let burst = || {
        for _ in 0..BURST {
            wire.send(&from_master);
            device.send(&to_master);
        }
    };
    books_of_a_burst(&vxgate, &burst);

    let mut perf = begin(&vxgate, "2s");
    wait_until("it has looked twice", BOUND, || {
        burst();
        perf.try_wait().expect("our child").is_some()
    });
    let mut text = String::new();
    let mut out = perf.stdout.take().expect("the pipe was asked for");
    out.read_to_string(&mut text).expect("UTF-8");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(document["schema"], "vxgate/1");
    assert!(document["seconds"].as_f64().expect("seconds") >= 2.0);
    judge(&document["workers"][0]);

    // Whoever asks for an hour and is killed has asked for two seconds at most.
    let measured = || number(&worker(&vxgate)["stages"]["turns"]);
    let before = measured();
    let mut perf = begin(&vxgate, "1h");
    wait_until("turns are measured", BOUND, || {
        burst();
        measured() > before
    });
    perf.kill().expect("our child");
    perf.wait().expect("our child");
    wait_until("no turn is measured any more", BOUND, || {
        let (turns, measured_before) = (number(&worker(&vxgate)["turns"]), measured());
        wait_until("a thousand turns later", BOUND, || {
            burst();
            number(&worker(&vxgate)["turns"]) > turns + 1000
        });
        measured() == measured_before
    });

    let said = vxgate.tell(&["perf", "--worker", "7", "--for", "1h"]);
    assert_eq!((said.code, said.out.as_str()), (Some(4), ""));
    assert!(said.err.contains("VXG-0861"), "{}", said.err);
    let text = vxgate.tell(&["perf", "--for", "100ms", "--hist", "--no-stages"]);
    let text = text.printed();
    assert!(
        text.starts_with("worker 0  core ") && text.contains("  33-64 "),
        "{text}"
    );
    vxgate.stop();
}

/// Batches, system calls and marks, after one burst each way.
fn books_of_a_burst(vxgate: &Vxgate, burst: &dyn Fn()) {
    burst();
    wait_until("a burst each way is counted", BOUND, || {
        number(&worker(vxgate)["received"]) == 2 * BURST
    });
    let state = worker(vxgate);
    for queue in state["queues"].as_array().expect("queues") {
        if queue["kind"] != "socket" {
            continue;
        }
        assert_eq!(number(&queue["batched"]), BURST, "{queue}");
        let batches = queue["batches"].as_array().expect("sizes");
        let batches: Vec<_> = batches.iter().map(number).collect();
        let fewest: u64 = (batches.iter().zip([1, 2, 3, 5, 9, 17, 33]))
            .map(|(count, least)| count * least)
            .sum();
        let most: u64 = (batches.iter().zip([1, 2, 4, 8, 16, 32, 64]))
            .map(|(count, most)| count * most)
            .sum();
        assert!((fewest..=most).contains(&BURST), "{queue}");
        let marks = queue["rings"].as_array().expect("rings");
        let mark = |name: &str| {
            let mut marks = marks.iter();
            let ring = marks.find(|ring| ring["ring"] == name).expect("a ring");
            assert_eq!(ring["size"], 2048);
            assert_eq!(ring["mark"], ring["lately"], "{ring}");
            number(&ring["mark"])
        };
        assert!((1..=BURST).contains(&mark("rx")), "{queue}");
        // What is received by one leaves by the other; but trains of UDP to the pods take the TAP, which has no rings.
        let sends = u64::from(queue["port"] == "eth1");
        assert!((sends..=BURST).contains(&mark("tx")), "{queue}");
        assert!(number(&queue["calls"]) >= sends, "{queue}");
        // Full but for what had just come in.
        assert!((2048 - 2 * BURST..2048).contains(&mark("fill")), "{queue}");
    }
    assert!(number(&state["calls"]) >= 1, "{state}");
    let frames = number(&state["frames"]);
    assert!(
        (1..frames).contains(&number(&state["pool_mark"])),
        "{state}"
    );
    let text = vxgate.tell(&["workers"]).printed();
    assert!(
        text.contains("FILL LOW") && text.contains("/2048"),
        "{text}"
    );
}

/// What two seconds of frames both ways come to.
fn judge(worker: &Value) {
    let share = |key: &str| worker[key].as_f64().expect("a share");
    let shares = ["working_share", "spinning_share", "asleep_share"].map(share);
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 0.01, "{worker}");
    assert!(shares[0] > 0.0, "{worker}");
    for key in ["turns", "busy_turns", "received", "forwarded", "calls"] {
        assert!(number(&worker[key]) > 0, "{key}: {worker}");
    }
    assert!(number(&worker["busy_turns"]) <= number(&worker["turns"]));
    let per_frame = worker["ns_per_frame"].as_f64().expect("frames came");
    let stages = worker["stages"]["ns_per_frame"].as_object();
    let stages = stages.expect("they were measured");
    let stage = |name: &str| stages[name].as_f64().expect("nanoseconds");
    for name in ["receive", "decide", "apply", "transmit", "recycle"] {
        assert!(stage(name) > 0.0, "{name}: {worker}");
    }
    // What a stage takes is a part of what a frame takes; both are averages of different turns.
    let all: f64 = stages
        .values()
        .map(|ns| ns.as_f64().expect("a number"))
        .sum();
    println!("    perf: {per_frame:.0} ns a frame, {all:.0} in all stages: {stages:?}");
    let cost = worker["stages"]["cost_share"].as_f64().expect("a share");
    assert!(cost > 0.0 && cost < 0.5, "{worker}");
}
