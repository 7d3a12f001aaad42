//! Running `vxgate bench` between the ends of a wire.

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::process;
use crate::wire::Wire;

/// A measurement between the ends of a wire.
pub fn bench(measurement: &str, wire: &Wire, flags: &str) -> Command {
    let mut command = process::command(env!("CARGO_BIN_EXE_vxgate"));
    let ends = format!(
        "bench {measurement} --tx near0 --tx-netns {} --rx far0 --rx-netns {}",
        wire.near.name(),
        wire.far.name()
    );
    command.args(ends.split(' ').chain(flags.split_ascii_whitespace()));
    command
}

/// The document of a measurement, whatever its exit code.
pub fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

pub fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("no number: {value}"))
}

/// `bench rate`, until it is over.
pub fn rate(wire: &Wire, flags: &str) -> Output {
    bench("rate", wire, flags).output().unwrap()
}

/// The document of a `bench rate` that has a result.
pub fn measured(wire: &Wire, flags: &str) -> Value {
    let output = rate(wire, &format!("--json {flags}"));
    assert!(output.status.success(), "{output:?}");
    document(&output)
}

/// The exit code of a `bench rate`, and what it says to people.
pub fn refused(wire: &Wire, flags: &str) -> (Option<i32>, String) {
    let output = rate(wire, flags);
    let words = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), words)
}
