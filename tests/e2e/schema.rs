//! What commands print with `--json` is as `vxgate schema` says, of a daemon that has carried frames and dropped some.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::drops::{PAYLOAD, from_the_master, to_the_master};
use crate::support::frames::RawSocket;
use crate::support::lab::{Lab, Node};
use crate::support::vxgate::{BINARY, Vxgate};
use crate::support::wait_until;

const BOUND: Duration = Duration::from_secs(5);

/// Commands that look, by the name of their schema.
const LOOKS: &[(&str, &[&str])] = &[
    ("config-diff", &["config", "diff"]),
    ("drops", &["drops"]),
    ("drops-last", &["drops", "--last"]),
    ("fdb", &["fdb"]),
    ("flows", &["flows"]),
    ("log-level", &["log-level"]),
    ("peers", &["peers"]),
    ("perf", &["perf", "--for", "100ms"]),
    ("status", &["status"]),
    ("top", &["top", "--once", "--interval", "100ms"]),
    ("workers", &["workers"]),
];

fn schema(name: &str) -> Value {
    let output = Command::new(BINARY).args(["schema", name]).output();
    let output = output.expect("vxgate runs");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Judges what a command prints.
fn judge(vxgate: &Vxgate, name: &str, command: &[&str]) {
    let said = vxgate.tell(&[command, &["--json"]].concat()).printed();
    assert_is(name, &serde_json::from_str(&said).expect("JSON"));
}

/// Judges a document.
pub fn assert_is(name: &str, document: &Value) {
    let mut compiler = boon::Compiler::new();
    compiler
        .add_resource("x.json", schema(name))
        .expect("a resource");
    let mut schemas = boon::Schemas::new();
    let index = compiler.compile("x.json", &mut schemas).expect("a schema");
    if let Err(error) = schemas.validate(document, index) {
        panic!("{name}: {error}\n{document:#}");
    }
    let wrong = Value::from(1);
    assert!(schemas.validate(&wrong, index).is_err(), "{name}");
}

#[test]
fn documents_of_a_live_daemon_are_as_their_schemas_say() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("vxgate.toml");
    std::fs::write(&file, "[log]\nlevel = 'info'\n").expect("a file");
    let vxgate = Vxgate::start(&node, &["--config", file.to_str().expect("UTF-8")]);
    for (name, command) in LOOKS {
        judge(&vxgate, name, command);
    }
    let wire = RawSocket::open(&lab.netns("sw"), "p2");
    let device = RawSocket::open(&node, "flannel.1");
    let good = from_the_master(&lab);
    let mut bad = good.clone();
    bad.outer = [[10, 0, 0, 100].into(), [10, 0, 0, 11].into()];
    wire.send(&good.bytes(PAYLOAD));
    wire.send(&bad.bytes(PAYLOAD));
    device.send(&to_the_master(&lab));
    wait_until("each has its fate", BOUND, || {
        let status = vxgate.status();
        status.drops("underlay", "unknown_peer") > 0
            && status.forwarded("underlay") > 0
            && status.forwarded("access") > 0
    });
    for (name, command) in LOOKS {
        judge(&vxgate, name, command);
    }
    for name in ["drain", "resume", "reload"] {
        judge(&vxgate, name, &[name]);
    }
    judge(&vxgate, "log-level", &["log-level", "debug"]);
    vxgate.stop();
}
