//! `vxgate bench disrupt` as people run it: a known break is found as long as it was, and every command has its end.

use std::fs::File;
use std::process::{Output, Stdio};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::faults::{Fault, faulty_wire};
use crate::run::{bench, document, number};
use crate::support::wait_until;
use crate::wire::{PATIENCE, Wire, kernel_received};

const RATE: &str = "--rate 5k";
const RATE_FPS: f64 = 5_000.0;

fn disrupt(wire: &Wire, flags: &str, command: &[&str]) -> Output {
    let mut disrupt = bench("disrupt", wire, &format!("{RATE} --json {flags} --"));
    disrupt.args(command).output().unwrap()
}

fn measured(wire: &Wire, flags: &str, command: &[&str]) -> Value {
    let output = disrupt(wire, flags, command);
    assert!(output.status.success(), "{output:?}");
    document(&output)
}

/// The books of a trial, which balance.
fn books(document: &Value, trial: usize) -> Value {
    let total = document["trials"][trial]["books"]["total"].clone();
    let fates = ["received", "corrupted", "misdelivered", "lost"];
    let sum: u64 = fates.iter().map(|fate| number(&total[fate])).sum();
    assert_eq!(number(&total["sent"]), sum, "{document}");
    total
}

fn seconds(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("no number: {value}"))
}

/// That the blocked time is lost / rate; the gap in seconds.
fn check_blocked(document: &Value, blocked: &Value) -> f64 {
    let trial = number(&blocked["trial"]) as usize;
    let lost = number(&books(document, trial)["lost"]) as f64;
    let sent_fps = seconds(&document["trials"][trial]["sent_fps"]);
    let blocked_s = seconds(&blocked["blocked_s"]);
    assert!((blocked_s - lost / sent_fps).abs() < 1e-9, "{document}");
    // What the generator was late with makes it wider.
    assert!(seconds(&blocked["gap"]["precision_ns"]) >= 0.99e9 / RATE_FPS);
    seconds(&blocked["gap"]["longest_ns"]) / 1e9
}

/// A measurement whose command starts a break of so many frames, and ends when they are lost.
fn broken(name: &str, flags: &str, frames: u64) -> Value {
    let (wire, middle) = faulty_wire(name, Fault::None);
    let folder = tempfile::tempdir().unwrap();
    let [started, done] = ["started", "done"].map(|file| folder.path().join(file));
    let line = format!(
        "touch {}; until [ -e {} ]; do sleep 0.01; done",
        started.display(),
        done.display()
    );
    let output = thread::scope(|scope| {
        let disrupt = scope.spawn(|| disrupt(&wire, flags, &["sh", "-c", &line]));
        wait_until("the command", PATIENCE, || {
            started.exists() || disrupt.is_finished()
        });
        middle.drop_next(frames);
        if frames < u64::MAX {
            wait_until("the end of the break", PATIENCE, || {
                middle.left_to_drop() == 0 || disrupt.is_finished()
            });
        }
        File::create(&done).unwrap();
        disrupt.join().unwrap()
    });
    assert!(output.status.success(), "{output:?}");
    document(&output)
}

#[test]
fn a_break_is_as_long_as_its_frames() {
    const LOST: u32 = 500;
    let flags = "--duration 0.3 --after 0.1 --settle 0.3";
    let document = broken("break", flags, LOST.into());
    let run = &document["disruption"]["runs"][0];
    let lost = number(&books(&document, 1)["lost"]);
    assert!(lost >= u64::from(LOST), "{document}");
    let gap_s = check_blocked(&document, &run["disturbed"]);
    let break_s = f64::from(LOST) / RATE_FPS;
    assert!(gap_s >= break_s * 0.9, "{gap_s} s");
    assert_eq!(run["disturbed"]["gap"]["open"], false);
    check_blocked(&document, &run["undisturbed"]);
    assert_eq!(run["outcome"]["exit_code"], 0);
    // The phases are the whole.
    let phases = ["before", "during", "after"];
    for fate in ["sent", "received", "lost"] {
        let told = phases.map(|phase| run[phase][fate].as_i64().unwrap());
        let all = number(&books(&document, 1)[fate]) as i64;
        assert_eq!(told.iter().sum::<i64>(), all, "{fate}: {document}");
    }
}

#[test]
fn a_break_that_does_not_end_is_told_as_open() {
    let flags = "--duration 0.3 --after 0.1 --settle 0.3 --repeat 2";
    let document = broken("dead", flags, u64::MAX);
    let runs = document["disruption"]["runs"].as_array().unwrap();
    assert_eq!(runs.len() * 2, document["trials"].as_array().unwrap().len());
    let gap_s = check_blocked(&document, &runs[0]["disturbed"]);
    assert_eq!(runs[0]["disturbed"]["gap"]["open"], true, "{document}");
    // What is not lost in it is lost elsewhere.
    let blocked_s = seconds(&runs[0]["disturbed"]["blocked_s"]);
    assert!(gap_s <= blocked_s + 1e-6 && gap_s > 0.0, "{document}");
    // From then on nothing ever comes: all of both trials is one gap.
    for blocked in [&runs[1]["undisturbed"], &runs[1]["disturbed"]] {
        let trial = &document["trials"][number(&blocked["trial"]) as usize];
        let spent_s = seconds(&trial["duration_s"]);
        let gap_s = check_blocked(&document, blocked);
        assert!((gap_s - spent_s).abs() < 1e-6, "{gap_s} s of {trial}");
        assert_eq!(blocked["gap"]["open"], true);
    }
}

#[test]
fn a_device_that_is_down_for_a_while_blocks_for_as_long() {
    const DOWN_S: f64 = 0.15;
    let (wire, middle) = faulty_wire("down", Fault::None);
    let netns = middle.netns.name();
    let lines =
        format!("ip -n {netns} link set mid1 down; sleep {DOWN_S}; ip -n {netns} link set mid1 up");
    let flags = "--duration 0.5 --after 0.2 --settle 0.5";
    let document = measured(&wire, flags, &["sh", "-c", &lines]);
    let run = &document["disruption"]["runs"][0];
    let gap_s = check_blocked(&document, &run["disturbed"]);
    assert!(gap_s >= DOWN_S * 0.9, "{gap_s} s");
    assert_eq!(run["disturbed"]["gap"]["open"], false);
    let ran_s = seconds(&run["outcome"]["duration_ns"]) / 1e9;
    assert!(ran_s >= DOWN_S);
    // It was under load before, and for long enough after.
    assert!(seconds(&run["before"]["duration_s"]) >= 0.2);
    assert!(seconds(&run["after"]["duration_s"]) >= 0.49);
    assert!(number(&run["before"]["received"]) > 0 && number(&run["after"]["received"]) > 0);
}

#[test]
fn a_command_that_fails_is_told_and_what_it_says_is_not_in_the_document() {
    let wire = Wire::new("fails");
    let flags = "--duration 0.1 --after 0.05 --settle 0.05";
    let line = "echo to standard output; echo to standard error >&2; exit 3";
    let output = disrupt(&wire, flags, &["sh", "-c", line]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let document = document(&output);
    let disruption = &document["disruption"];
    assert_eq!(disruption["command"][2], line);
    assert_eq!(disruption["runs"][0]["outcome"]["exit_code"], 3);
    assert_eq!(disruption["runs"][0]["outcome"]["timed_out"], false);
    let said = String::from_utf8(output.stderr).unwrap();
    for words in ["to standard output", "to standard error"] {
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_command_that_never_ends_is_ended() {
    let wire = Wire::new("endless");
    // The second one has time to stop its ears.
    for (line, limit_s, signal) in [
        ("sleep 1000", 0.2, 15),
        ("trap '' TERM; sleep 1000", 2.0, 9),
    ] {
        let flags = format!("--duration 0.1 --after 0.05 --settle 0.05 --time-limit {limit_s}");
        let document = measured(&wire, &flags, &["sh", "-c", line]);
        let outcome = &document["disruption"]["runs"][0]["outcome"];
        assert_eq!(outcome["timed_out"], true);
        assert_eq!(outcome["signal"], signal, "{line}");
        assert_eq!(outcome["exit_code"], Value::Null);
        assert!(seconds(&outcome["duration_ns"]) >= limit_s * 1e9);
        books(&document, 1);
    }
}

#[test]
fn a_command_that_cannot_be_started_is_named() {
    let wire = Wire::new("no-command");
    let flags = "--duration 0.1 --after 0.01";
    let output = disrupt(&wire, flags, &["no-such-command", "--flag"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("cannot start the command no-such-command: "),
        "{said}"
    );
    let output = disrupt(&wire, flags, &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn a_signal_ends_command_and_load_and_what_was_measured_is_told() {
    let wire = Wire::new("disrupt-signal");
    let flags = format!("{RATE} --json --duration 0.1 --after 0.05 --repeat 9 -- sleep 1000");
    let disrupt = bench("disrupt", &wire, &flags)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Beyond what the undisturbed trial sends, and the time before the command.
    wait_until("frames of the disturbed trial", PATIENCE, || {
        kernel_received(&wire.far, "far0") >= 1_500
    });
    kill(Pid::from_raw(disrupt.id() as i32), Signal::SIGTERM).unwrap();
    let output = disrupt.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let document = document(&output);
    assert_eq!(document["disruption"]["interrupted"], true);
    let runs = document["disruption"]["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0]["outcome"]["signal"], 15);
    assert_eq!(runs[0]["outcome"]["timed_out"], false);
    books(&document, 1);
}

#[test]
fn the_result_is_for_people() {
    let wire = Wire::new("disrupt-text");
    let flags = format!("{RATE} --duration 0.1 --after 0.05 --settle 0.05 --repeat 2 -- true");
    let output = bench("disrupt", &wire, &flags).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for words in [
        "  run 2     true: exit code 0, after ",
        "  disturbed blocked for ",
        "  else      blocked for ",
        "  during    ",
        "  blocked   min ",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}
