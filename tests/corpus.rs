//! Replays what the fuzzer found worth keeping (`tests/fuzz/corpus`): every file must still pass its target's check.

use std::fs;
use std::path::Path;

#[path = "fuzz/checks/mod.rs"]
mod checks;
mod rig;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(target);
    let files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for file in files {
        println!("{}", file.display());
        check(&fs::read(&file).expect("a readable file"));
    }
}

#[test]
fn worker() {
    replay("worker", checks::worker);
}

#[test]
fn round_trip() {
    replay("round_trip", checks::round_trip);
}

#[test]
fn layers() {
    replay("layers", checks::layers);
}

#[test]
fn netlink() {
    replay("netlink", checks::netlink);
}

#[test]
fn encap() {
    replay("encap", checks::encap);
}

#[test]
fn decap() {
    replay("decap", checks::decap);
}

#[test]
fn wire() {
    replay("wire", checks::wire);
}

#[test]
fn config() {
    replay("config", checks::config);
}

#[test]
fn control_protocol() {
    replay("control_protocol", checks::control_protocol);
}

#[test]
fn state() {
    replay("state", checks::state);
}

#[test]
fn http() {
    replay("http", checks::http);
}

#[test]
fn inspect() {
    replay("inspect", checks::inspect);
}

#[test]
fn join() {
    replay("join", checks::join);
}

#[test]
fn cut() {
    replay("cut", checks::cut);
}

#[test]
fn encap_cut() {
    replay("encap_cut", |bytes| {
        checks::encap_cut(bytes);
    });
}
