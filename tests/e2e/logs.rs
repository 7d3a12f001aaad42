//! What the daemon logs: lines that programs read, entries of the journal, and a level that changes while it runs.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::lab::{Lab, Node};
use crate::support::vxgate::{BINARY, Vxgate, run_to_end};
use crate::support::wait_until;

const BOUND: Duration = Duration::from_secs(10);

#[test]
fn every_line_is_an_object_with_the_documented_fields() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    let vxgate = Vxgate::start(&node, &["--log-format", "json", "--log-level", "debug"]);
    lab.client(Node::Worker).run(&format!(
        "ping -q -c 5 -i 0.01 -W 3 {}",
        lab.client_address(Node::Master)
    ));
    vxgate.tell(&["drain"]).printed();
    vxgate.tell(&["resume"]).printed();
    assert_eq!(vxgate.tell(&["reload"]).code, Some(78), "it has no file");
    let log = || {
        let said = vxgate.output();
        let lines = said.lines().filter(|line| !line.starts_with("ready"));
        let parsed = lines.map(|line| {
            serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{line}: {error}"))
        });
        parsed.collect::<Vec<_>>()
    };
    let find = |words: &str| {
        let mut lines = log().into_iter();
        lines.find(|line| line["message"].as_str().is_some_and(|m| m.contains(words)))
    };
    wait_until("the log tells of all that", BOUND, || {
        let all = ["taking over", "drained", "resumed", "stays as it was"];
        all.into_iter().all(|words| find(words).is_some())
    });
    for line in log() {
        for field in ["timestamp", "level", "target", "message"] {
            assert!(line[field].is_string(), "{field}: {line}");
        }
        let target = line["target"].as_str().expect("looked at");
        assert!(target.starts_with("vxgate"), "{line}");
        let level = line["level"].as_str().expect("looked at");
        assert!(
            ["ERROR", "WARN", "INFO", "DEBUG"].contains(&level),
            "{line}"
        );
    }
    let taking_over = find("taking over").expect("looked for");
    assert_eq!(
        (&taking_over["device"], &taking_over["vni"]),
        (&"flannel.1".into(), &1.into())
    );
    assert_eq!(
        find("stays as it was").expect("looked for")["code"],
        "VXG-0610"
    );

    // One that cannot start says so in an object, too, and in nothing else.
    let socket = vxgate.socket().to_str().expect("UTF-8");
    let words = [BINARY, "run", "--socket", socket, "--log-format", "json"];
    let output = run_to_end(&node, &words);
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    let line: Value = serde_json::from_str(&said).expect("one object");
    assert_eq!(
        (&line["level"], &line["code"]),
        (&"ERROR".into(), &"VXG-0802".into())
    );
    vxgate.stop();
}

#[test]
fn the_level_changes_while_it_runs() {
    let lab = Lab::up();
    let vxgate = Vxgate::start(&lab.node(Node::Worker), &[]);
    let level = |arguments: &[&str]| vxgate.tell(&[&["log-level"], arguments].concat()).printed();
    assert_eq!(level(&[]), "info\n");
    assert!(level(&["off"]).starts_with("off (was info)"));
    vxgate.tell(&["drain"]).printed();
    assert!(
        level(&["vxgate::gateway=info,warn"]).starts_with("vxgate::gateway=info,warn (was off)")
    );
    vxgate.tell(&["resume"]).printed();
    wait_until("it is logged again", BOUND, || {
        vxgate.output().contains("resumed: the traffic")
    });
    assert!(!vxgate.output().contains("drained: the kernel"));
    let document: Value = serde_json::from_str(&level(&["--json"])).expect("JSON");
    assert_eq!(
        (&document["schema"], &document["level"], &document["before"]),
        (
            &"vxgate/1".into(),
            &"vxgate::gateway=info,warn".into(),
            &Value::Null
        )
    );
    let status = vxgate.status().0;
    assert_eq!(
        status["configuration"]["log_level"],
        "vxgate::gateway=info,warn"
    );
    let said = vxgate.tell(&["log-level", "wran"]);
    assert_eq!(said.code, Some(78));
    assert!(
        said.err.starts_with("error[VXG-0608]: log level 'wran'")
            && said.err.contains("did you mean \"warn\"?"),
        "{}",
        said.err
    );
    vxgate.stop();
}

#[test]
fn the_journal_gets_entries_with_fields() {
    let lab = Lab::up();
    let folder = TempDir::with_prefix("vxgate-journal-").expect("a temporary directory");
    let journal = UnixDatagram::bind(folder.path().join("socket")).expect("a socket");
    journal.set_read_timeout(Some(BOUND)).expect("SO_RCVTIMEO");
    let control = folder.path().join("control.sock");
    // The place of the journal's socket cannot be chosen: it gets a /run of its own.
    let script = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && \
                  mount --bind \"$0\" /run/systemd/journal && exec \"$@\"";
    let mut command = lab.node(Node::Worker).command("unshare");
    command
        .args(["--mount", "sh", "-c", script])
        .arg(folder.path())
        .args([BINARY, "run", "--log-format", "journald", "--socket"])
        .arg(&control);
    let mut daemon = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let deadline = Instant::now() + BOUND;
    let mut bytes = vec![0; 1 << 16];
    let entry = loop {
        let len = journal.recv(&mut bytes).expect("an entry");
        let entry = fields(&bytes[..len]);
        if entry
            .get("MESSAGE")
            .is_some_and(|message| message == "taking over")
        {
            break entry;
        }
        assert!(Instant::now() < deadline, "{entry:?}");
    };
    daemon.kill().expect("our child");
    daemon.wait().expect("our child");
    for (field, value) in [
        ("SYSLOG_IDENTIFIER", "vxgate"),
        ("PRIORITY", "5"),
        ("TARGET", "vxgate::gateway::planner"),
        ("VXGATE_DEVICE", "flannel.1"),
        ("VXGATE_VNI", "1"),
    ] {
        assert_eq!(
            entry.get(field).map(String::as_str),
            Some(value),
            "{entry:?}"
        );
    }
    // Where no journal is, nothing starts.
    let node = lab.node(Node::Worker);
    let script = "mount -t tmpfs none /run && exec \"$@\"";
    let words = [
        "unshare", "--mount", "sh", "-c", script, "sh", BINARY, "run",
    ];
    let output = run_to_end(&node, &[&words[..], &["--log-format", "journald"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("error[VXG-0821]: "), "{said}");
}

/// The fields of an entry of the journal's own protocol: `NAME=value`, or a name, a length and so many bytes.
fn fields(mut bytes: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        if let Some(equals) = line.iter().position(|byte| *byte == b'=') {
            fields.insert(text(&line[..equals]), text(&line[equals + 1..]));
            bytes = rest;
        } else {
            let (len, rest) = rest.split_first_chunk().expect("a length");
            let len = usize::try_from(u64::from_le_bytes(*len)).expect("a length");
            fields.insert(text(line), text(&rest[..len]));
            bytes = &rest[len + 1..];
        }
    }
    fields
}
