//! What `vxgate` shows that takes no daemon and no network: errors, `explain`, `config`, manual pages, completions.

mod config;
mod errors;
mod manual;
mod schemas;
mod trace;

use std::fs;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_vxgate");

fn vxgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments);
    // What the caller's environment says would count before files.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("VXGATE_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("the program runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

/// What it prints; it must succeed, and say nothing else.
fn printed(arguments: &[&str]) -> String {
    let (code, out, said) = run(&mut vxgate(arguments));
    assert_eq!((code, said.as_str()), (Some(0), ""), "{arguments:?}");
    out
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&printed(arguments)).expect("JSON")
}

/// A configuration file called `x.toml`, in a folder that it is run in.
fn folder(text: &str) -> TempDir {
    let folder = TempDir::with_prefix("vxgate-faces-").expect("a temporary directory");
    fs::write(folder.path().join("x.toml"), text).expect("a file");
    folder
}
