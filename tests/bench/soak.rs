//! `vxgate bench soak` as people run it, but shorter.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::faults::{Fault, faulty_wire};
use crate::run::{bench, document, number};
use crate::support::wait_until;
use crate::wire::{PATIENCE, Wire, kernel_received};

/// That nothing is left out: the trial's books balance, and the windows add up to them.
fn check_books(document: &Value) {
    let total = &document["trials"][0]["books"]["total"];
    let fates = ["received", "corrupted", "misdelivered", "lost"];
    let sum: u64 = fates.iter().map(|fate| number(&total[fate])).sum();
    assert_eq!(number(&total["sent"]), sum, "{document}");
    let windows = document["soak"]["windows"].as_array().unwrap();
    for fate in ["sent", "received", "lost"] {
        let told = windows.iter().map(|window| window[fate].as_i64().unwrap());
        assert_eq!(told.sum::<i64>(), number(&total[fate]) as i64, "{fate}");
    }
}

#[test]
fn every_window_has_its_line_and_all_of_them_are_the_whole() {
    let wire = Wire::new("soak");
    let flags = "--rate 5k --every 0.2s --duration 1s --loss-limit 0 --json-lines";
    let output = bench("soak", &wire, flags).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (document, windows) = lines.split_last().unwrap();
    // Fewer where a busy machine let some of their ends pass.
    assert!((1..=5).contains(&windows.len()), "{text}");
    assert_eq!(document["soak"]["windows"].as_array().unwrap(), windows);
    assert_eq!(document["measurement"], "soak");
    assert_eq!(document["soak"]["passed"], true);
    assert_eq!(document["soak"]["interrupted"], false);
    check_books(document);
    let mut at_s = 0.0;
    for window in windows {
        let end_s = window["at_s"].as_f64().unwrap();
        let spent_s = window["duration_s"].as_f64().unwrap();
        assert!((at_s + spent_s - end_s).abs() < 1e-6, "{window}");
        at_s = end_s;
        // Two histograms, and not one for each frame.
        let resident = number(&window["resident_bytes"]);
        assert!((1 << 20..64 << 20).contains(&resident), "{window}");
    }
    // To the end of the trial, and beyond it by what a busy machine was late to look.
    assert!(at_s >= document["trials"][0]["duration_s"].as_f64().unwrap());
}

#[test]
fn the_lines_are_for_people() {
    let wire = Wire::new("soak-text");
    let flags = "--rate 5k --every 200ms --duration 0.4";
    let output = bench("soak", &wire, flags).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    for words in [
        "   received      lost   loss %",
        " MiB\n",
        "  windows   ",
        " of 0.2 s; nothing was lost in any",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn what_is_lost_is_in_its_window_and_in_the_exit_code() {
    let (wire, _middle) = faulty_wire("soak-lossy", Fault::Drop { every: 10 });
    for (limit, code, passed) in [("0.2", 0, true), ("0.01", 1, false)] {
        let flags = format!("--rate 5k --every 0.3 --duration 0.6 --loss-limit {limit} --json");
        let output = bench("soak", &wire, &flags).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let document = document(&output);
        check_books(&document);
        assert_eq!(document["soak"]["passed"], passed);
        let total = &document["trials"][0]["books"]["total"];
        // The device counts whatever else passes: the tenth frame may be the first of ours, or the last.
        let tenth = number(&total["sent"]) / 10;
        assert!(number(&total["lost"]).abs_diff(tenth) <= 1, "{total}");
        // Told with its window: in the one that lost most, at least the share of the whole.
        let windows = document["soak"]["windows"].as_array().unwrap();
        let ratios = windows
            .iter()
            .map(|window| window["loss_ratio"].as_f64().unwrap());
        let trial_ratio = document["trials"][0]["loss_ratio"].as_f64().unwrap();
        assert!(ratios.fold(0.0, f64::max) > trial_ratio - 1e-9);
    }
}

#[test]
fn a_signal_ends_it_with_its_books_balanced() {
    let wire = Wire::new("soak-signal");
    let before = kernel_received(&wire.far, "far0");
    let mut soak = bench("soak", &wire, "--rate 5k --every 1m --duration 72h --json");
    let soak = soak.stdout(Stdio::piped()).spawn().unwrap();
    wait_until("frames at the far end", PATIENCE, || {
        kernel_received(&wire.far, "far0") - before >= 100
    });
    kill(Pid::from_raw(soak.id() as i32), Signal::SIGTERM).unwrap();
    let output = soak.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let document = document(&output);
    check_books(&document);
    let soak = &document["soak"];
    assert_eq!(soak["interrupted"], true);
    assert_eq!(soak["windows"].as_array().unwrap().len(), 1);
    assert!(number(&document["trials"][0]["books"]["total"]["sent"]) >= 100);
    let spent_s = document["trials"][0]["duration_s"].as_f64().unwrap();
    assert!(spent_s < Duration::from_secs(3600).as_secs_f64());
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let wire = Wire::new("soak-refused");
    for (flags, code, words) in [
        ("--every 1s --duration 72h", 78, "259200 windows"),
        ("--duration 73h", 2, "1 ms to 72 h"),
        ("--loss-limit 3", 2, "0 to 1"),
        ("--json --json-lines", 2, "cannot be used with"),
    ] {
        let output = bench("soak", &wire, flags).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{flags}: {said}");
        assert!(said.contains(words), "{flags}: {said}");
    }
}
