//! `vxgate bench ndr` and `latency`: a limit that is there is found, one that is not is not claimed, and nothing stays behind.

use std::fs::{self, File};
use std::os::linux::fs::MetadataExt;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::faults::{Fault, faulty_wire};
use crate::support::{process, wait_until};
use crate::wire::{PATIENCE, Wire};

/// Few frames in a short time, so that a veth's ring of 256 holds all that comes while its reader is kept from the processor.
const LIMIT_FPS: u32 = 10_000;
const WIDTH: f64 = 0.03;
/// Verdicts of a few short trials, of loads that need no calibration.
const QUICK: &str = "--trial 0.05 --sum 0.15 --width 3% --min-rate 1k --max-rate 40k --no-calibrate --time-limit 100";

fn command(wire: &Wire, measurement: &str, flags: &str) -> Command {
    let ends = format!(
        "bench {measurement} --tx near0 --tx-netns {} --rx far0 --rx-netns {}",
        wire.near.name(),
        wire.far.name()
    );
    let mut command = process::command(env!("CARGO_BIN_EXE_vxgate"));
    command.args(ends.split(' ').chain(flags.split_ascii_whitespace()));
    command
}

fn run(wire: &Wire, measurement: &str, flags: &str) -> Output {
    command(wire, measurement, flags).output().unwrap()
}

/// The document, and the exit code beside it.
fn document(wire: &Wire, measurement: &str, flags: &str) -> (Value, Option<i32>) {
    let output = run(wire, measurement, &format!("{flags} --json"));
    let document = serde_json::from_slice(&output.stdout);
    let document = document.unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (document, output.status.code())
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("no number: {value}"))
}

/// By the frames' own clock the limit is exact, and what the generator could not send does not move it: with so much
/// allowed to be unsent, what is found is the search's doing.
#[test]
fn the_limit_of_a_policed_device_is_found_within_the_width() {
    const BURST: u32 = 2;
    let fault = Fault::PoliceIntended {
        fps: LIMIT_FPS,
        burst: BURST,
    };
    let (wire, _middle) = faulty_wire("ndr", fault);
    let flags = format!("{QUICK} --pdr-loss 10% --unsent 95%");
    let (document, code) = document(&wire, "ndr", &flags);
    assert_eq!(code, Some(0), "{document}");
    let search = &document["search"];
    // Of 500 frames in a trial, BURST more than the rate allows may pass; half of them may be missing.
    let limit_fps = f64::from(LIMIT_FPS);
    let slack = 1.0 + f64::from(BURST) / 250.0;
    for (goal, limit_fps) in [("ndr", limit_fps), ("pdr", limit_fps / 0.9)] {
        let found = &search[goal];
        let (lower, upper) = (number(&found["lower_fps"]), number(&found["upper_fps"]));
        assert!(
            lower <= limit_fps * slack && limit_fps < upper,
            "{goal} {limit_fps}: {search}"
        );
        assert!((upper - lower) / upper <= WIDTH, "{goal}: {search}");
        assert!(number(&found["throughput_fps"]) <= lower, "{search}");
    }
    assert_eq!(search["goals"][0]["verdict"], "device");
    assert_eq!(search["finished"], true);
    let deviations = search["deviations"].to_string();
    assert!(
        deviations.contains("trials 0.05 s (CSIT 1 s)"),
        "{deviations}"
    );
    let trials = document["trials"].as_array().unwrap().len();
    let counted = number(&search["trial_count"]) + number(&search["repeated_count"]);
    assert_eq!(trials as f64, counted);
}

/// By the machine's clock it may seem lower where the machine is busy, but never higher.
#[test]
fn a_policer_by_the_clock_is_never_flattered() {
    const BURST: u32 = 10;
    let fault = Fault::Police {
        fps: LIMIT_FPS,
        burst: BURST,
    };
    let (wire, _middle) = faulty_wire("clock", fault);
    let (document, _) = document(&wire, "ndr", &QUICK.replace("limit 100", "limit 8"));
    // 500 frames in a trial.
    let limit_fps = f64::from(LIMIT_FPS) * (1.0 + f64::from(BURST) / 500.0);
    let goals = document["search"]["goals"].as_array().unwrap();
    assert_eq!(goals.len(), 2);
    for goal in goals {
        let allowed = 1.0 - number(&goal["loss_ratio"]);
        let borne = goal["lower_fps"].as_f64().unwrap_or(0.0);
        assert!(borne * allowed <= limit_fps * 1.01, "{document}");
    }
}

#[test]
fn a_wire_without_limit_has_no_figure() {
    let wire = Wire::new("unlimited");
    let flags = "--trial 0.05 --sum 0.1 --min-rate 1k --max-rate 5k --unsent 95%";
    let (document, code) = document(&wire, "ndr", flags);
    assert_eq!(code, Some(0), "{document}");
    let search = &document["search"];
    assert_eq!(
        (&search["ndr"], &search["pdr"]),
        (&Value::Null, &Value::Null)
    );
    for goal in search["goals"].as_array().unwrap() {
        assert_eq!(goal["verdict"], "above_max", "{search}");
        assert_eq!(number(&goal["at_least_fps"]), 5_000.0);
    }
    let calibration = &search["calibration"];
    assert_eq!(number(&calibration["paced_fps"]), 5_000.0, "{search}");
    assert!(calibration["trials"].as_array().unwrap().len() >= 3);
    let text = String::from_utf8(run(&wire, "ndr", flags).stdout).unwrap();
    for words in ["at least 5k frames/s", "flat out on a direct wire"] {
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn the_time_limit_ends_a_search_with_what_it_has() {
    let fault = Fault::PoliceIntended {
        fps: LIMIT_FPS,
        burst: 2,
    };
    let (wire, _middle) = faulty_wire("limit", fault);
    // 21 trials of a second each would be needed.
    let flags = "--max-rate 40k --no-calibrate --time-limit 1.5";
    let (document, code) = document(&wire, "ndr", flags);
    assert_eq!(code, Some(1), "{document}");
    let search = &document["search"];
    assert_eq!(
        (&search["finished"], &search["ndr"]),
        (&false.into(), &Value::Null)
    );
    assert_eq!(search["goals"][0]["verdict"], "unfinished");
    assert_eq!(search["deviations"].to_string(), "[]");
    let text = String::from_utf8(run(&wire, "ndr", flags).stdout).unwrap();
    assert!(text.contains("UNFINISHED: the time was over"), "{text}");
}

#[test]
fn latency_is_of_shares_of_the_rate_and_of_the_unloaded_device() {
    let wire = Wire::new("latency");
    let flags = "--pdr 40k --at 90,10 --duration 0.2";
    let (document, code) = document(&wire, "latency", flags);
    assert_eq!(code, Some(0), "{document}");
    let at = &document["latency_at"];
    assert_eq!(at["base"], "given_pdr");
    let loads = at["loads"].as_array().unwrap();
    let asked: Vec<_> = loads
        .iter()
        .map(|load| number(&load["asked_fps"]))
        .collect();
    assert_eq!(asked, [400.0, 4_000.0, 36_000.0]);
    for load in loads {
        let latency = &load["latency"];
        let rising = ["p50_ns", "p90_ns", "p99_ns"].map(|name| number(&latency[name]));
        assert!(rising.is_sorted() && rising[0] > 0.0, "{load}");
    }
    assert_eq!(document["trials"].as_array().unwrap().len(), 3);
    // The rate is searched for where it is not given.
    let (document, code) = self::document(
        &wire,
        "latency",
        &format!(
            "--at 50 --duration 0.05 --unsent 95% {}",
            QUICK.replace("40k", "5k")
        ),
    );
    assert_eq!(code, Some(0), "{document}");
    assert_eq!(document["latency_at"]["base"], "at_least");
    assert_eq!(
        number(&document["latency_at"]["loads"][1]["asked_fps"]),
        2_500.0
    );
    assert_eq!(document["search"]["goals"][1]["verdict"], "above_max");
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let wire = Wire::new("settings");
    // A device of another kind has no direct wire.
    wire.near.run("ip link add other0 type bridge");
    wire.near.run("ip link set other0 up");
    for (flags, code, words) in [
        ("--no-calibrate", 2, "--max-rate"),
        ("--no-calibrate --max-rate max", 78, "--max-rate max"),
        ("--no-calibrate --max-rate 5k", 78, "--min-rate"),
        ("--no-calibrate --max-rate 50k --sum 0.5", 78, "--sum"),
        ("--no-calibrate --max-rate 50k --width 0", 78, "--width"),
        (
            "--no-calibrate --max-rate 50k --pdr-loss 0",
            78,
            "--pdr-loss",
        ),
        ("--width half", 2, "0.5%"),
        ("--time-limit 0.1", 1, "--time-limit"),
    ] {
        let output = run(&wire, "ndr", flags);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{flags}: {said}");
        assert!(said.contains(words), "{flags}: {said}");
    }
    let other = format!(
        "bench ndr --engine afxdp --tx other0 --tx-netns {} --rx far0 --rx-netns {}",
        wire.near.name(),
        wire.far.name()
    );
    let output = process::command(env!("CARGO_BIN_EXE_vxgate"))
        .args(other.split(' '))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(
        said.contains("other0 is no veth") && said.contains("--no-calibrate"),
        "{said}"
    );
}

/// The wire of the calibration lives in a namespace of its own: that one is gone, however the process ends.
#[test]
fn nothing_of_a_calibration_stays_behind() {
    let wire = Wire::new("behind");
    let devices = || [wire.near.devices(), wire.far.devices()].concat();
    wait_until("a carrier", PATIENCE, || {
        !devices().concat().contains("NO-CARRIER")
    });
    let before = devices();
    for (flags, signal) in [
        ("--trial 0.3 --sum 0.3 --unsent 95% --max-rate 20k", None),
        ("--trial 60 --sum 60", Some(Signal::SIGTERM)),
        ("--trial 60 --sum 60", Some(Signal::SIGINT)),
        ("--trial 60 --sum 60", Some(Signal::SIGKILL)),
    ] {
        let mut child = command(&wire, "ndr", flags)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let others = [&wire.near, &wire.far].map(|netns| {
            let path = format!("/run/netns/{}", netns.name());
            inode(&File::open(path).unwrap())
        });
        let mut namespace = None;
        wait_until("the namespace of the wire", PATIENCE, || {
            namespace = held(&child).find(|found| !others.contains(&inode(found)));
            namespace.is_some()
        });
        if let Some(signal) = signal {
            kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        }
        wait_until("the end", PATIENCE, || child.try_wait().unwrap().is_some());
        let output = child.wait_with_output().unwrap();
        match signal {
            None => assert!(output.status.success(), "{output:?}"),
            Some(_) => assert!(!output.status.success()),
        }
        // We hold it, so that no other one can have its number now.
        let namespace = namespace.unwrap();
        let number = inode(&namespace);
        assert!(!is_named(number), "{signal:?} left a namespace");
        let all = crate::support::netns::run(&["lsns", "-t", "net", "-n", "-o", "NS"]);
        assert!(
            all.lines().all(|line| line.trim() != number.to_string()),
            "{signal:?}: somebody is in the namespace"
        );
        wait_until("the devices as they were", PATIENCE, || devices() == before);
    }
}

/// Network namespaces that a process has open.
fn held(child: &Child) -> impl Iterator<Item = File> {
    let folder = format!("/proc/{}/fd", child.id());
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter_map(|path| {
        let target = fs::read_link(&path).ok()?;
        target.to_str()?.starts_with("net:[").then_some(())?;
        File::open(path).ok()
    })
}

fn inode(namespace: &File) -> u64 {
    namespace.metadata().unwrap().st_ino()
}

/// Whether `ip netns` has a name for it.
fn is_named(inode: u64) -> bool {
    let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    names
        .filter_map(|name| fs::metadata(name.path()).ok())
        .any(|found| found.st_ino() == inode)
}
