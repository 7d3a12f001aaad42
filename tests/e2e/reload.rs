//! `vxgate reload` and SIGHUP: what is live changes without a frame lost, what is not waits for the next start, and a file that
//! cannot be changes nothing.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::drops::{PAYLOAD, from_the_master};
use crate::support::frames::RawSocket;
use crate::support::http::{get, try_get_tcp};
use crate::support::lab::{Lab, Node};
use crate::support::stream::Stream;
use crate::support::vxgate::{BINARY, Vxgate};
use crate::support::wait_until;

const BOUND: Duration = Duration::from_secs(10);
/// How often the file changes under the streams.
const ROUNDS: usize = 10;
const STRANGERS: u64 = 50;

/// A configuration file that changes.
struct File {
    _folder: TempDir,
    name: String,
}

impl File {
    fn new(text: &str) -> Self {
        let folder = TempDir::with_prefix("vxgate-reload-").expect("a temporary directory");
        let name = folder.path().join("vxgate.toml");
        let name = name.to_str().expect("UTF-8").to_owned();
        let file = Self {
            _folder: folder,
            name,
        };
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        fs::write(&self.name, text).expect("a file");
    }
}

#[test]
fn every_live_setting_changes_under_traffic_and_nothing_is_lost() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    let before = "[overlay]\npeer_check = \"log\"\n";
    let file = File::new(before);
    let vxgate = Vxgate::start(&node, &["--config", &file.name, "--inner-vlan", "drop"]);
    let after = "[overlay]\npeer_check = \"strict-mac\"\nreserved_bits = \"ignore\"\necn_encap = \"rfc6040\"\n\
                 inner_vlan = \"pass\"\nudp_checksum_rx = \"ignore\"\n[worker]\nnice = -19\n\
                 [metrics]\nlisten = \"127.0.0.1:9472\"\nmax_peers = 0\n[log]\nlevel = \"warn\"\n";
    let [master, worker] = [lab.client(Node::Master), lab.client(Node::Worker)];
    let [to_master, to_worker] = [Node::Master, Node::Worker].map(|node| lab.client_address(node));
    master.run(&format!("ping -q -c 2 -i 0.05 -W 3 {to_worker}"));
    let streams = [
        Stream::start("udp master to worker", &master, &worker, &to_worker),
        Stream::start("udp worker to master", &worker, &master, &to_master),
    ];
    vxgate.wait_forwarding("it carries the traffic", &vxgate.status());
    for round in 0..ROUNDS {
        file.write(after);
        let told = vxgate.tell(&["reload"]).printed();
        // What waits for the next start is told each time.
        let lines = [
            format!(
                "{}: read again, 7 changed, 1 to change at the next start",
                file.name
            ),
            "~ [overlay] peer_check  \"log\" -> \"strict-mac\"   live".into(),
            "~ [overlay] reserved_bits  \"device\" -> \"ignore\"   live".into(),
            "~ [overlay] ecn_encap  \"kernel\" -> \"rfc6040\"   live".into(),
            "! [overlay] inner_vlan  \"drop\" stays, not \"pass\": a flag of the daemon says so"
                .into(),
            "~ [overlay] udp_checksum_rx  \"auto\" -> \"ignore\"   live".into(),
            "~ [worker] nice  -20 -> -19   at the next start".into(),
            "~ [metrics] listen  \"auto\" -> \"127.0.0.1:9472\"   live".into(),
            "~ [metrics] max_peers  512 -> 0   live".into(),
            "~ [log] level  \"info\" -> \"warn\"   live".into(),
        ];
        assert_eq!(told, lines.join("\n") + "\n");
        if round + 1 < ROUNDS {
            file.write(before);
            let told = vxgate.tell(&["reload"]).printed();
            assert!(told.contains(": read again, 7 changed\n"), "{told}");
        }
    }
    vxgate.wait_forwarding("it goes on", &vxgate.status());
    for report in streams.map(Stream::finish) {
        assert_eq!((report.lost, report.duplicated), (0, 0), "{report:?}");
    }
    let status = vxgate.balanced();
    assert_eq!(status.0["takeovers"], 1, "{}", status.0);
    let policy = &status.0["policy"];
    for (key, value) in [
        ("peer_check", "strict-mac"),
        ("reserved_bits", "ignore"),
        ("ecn_encap", "rfc6040"),
        ("inner_vlan", "drop"),
        ("udp_checksum_rx", "ignore"),
    ] {
        assert_eq!(policy[key], value, "{key}");
    }
    let addr: SocketAddr = "127.0.0.1:9472".parse().expect("an address");
    let metrics = try_get_tcp(&node, addr, "/metrics")
        .expect("they have moved")
        .body;
    assert!(metrics.contains("vxgate_peers{"), "{metrics}");
    assert!(
        !metrics.contains("vxgate_peer_path_mtu_bytes{"),
        "{metrics}"
    );
    assert!(!vxgate.metrics_socket().exists());
    assert_eq!(vxgate.tell(&["log-level"]).printed(), "warn\n");
    // Only what waits for the next start is still a difference.
    let said = vxgate.tell(&["config", "diff"]);
    assert_eq!(said.code, Some(1));
    let lines: Vec<_> = said.out.lines().collect();
    assert!(
        lines.len() == 2 && lines[0].starts_with("! ") && lines[1].contains("nice  -20 -> -19"),
        "{}",
        said.out
    );
    vxgate.stop();
}

#[test]
fn the_workers_go_by_the_new_file_when_the_command_returns() {
    let lab = Lab::up();
    let file = File::new("");
    let vxgate = Vxgate::start(&lab.node(Node::Worker), &["--config", &file.name]);
    let wire = RawSocket::open(&lab.netns("sw"), "p2");
    let mut strange = from_the_master(&lab);
    strange.outer[0] = [10, 0, 0, 100].into();
    let strange = strange.bytes(PAYLOAD);
    let counts = || {
        let status = vxgate.balanced();
        let delivered = status.list("ports");
        let delivered = delivered.filter_map(|port| port["strangers_delivered"].as_u64());
        (status.drops("underlay", "unknown_peer"), delivered.sum())
    };
    let send = |expected: (u64, u64)| {
        (0..STRANGERS).for_each(|_| wire.send(&strange));
        wait_until(
            &format!("{expected:?} dropped and delivered"),
            BOUND,
            || counts() == expected,
        );
    };
    send((STRANGERS, 0));
    file.write("[overlay]\npeer_check = \"log\"\n");
    vxgate.tell(&["reload"]).printed();
    send((STRANGERS, STRANGERS));
    // By a signal, too.
    file.write("[overlay]\npeer_check = \"strict\"\n");
    vxgate.signal(Signal::SIGHUP);
    wait_until("the signal is obeyed", BOUND, || {
        vxgate.status().0["policy"]["peer_check"] == "strict"
    });
    // Who wants to know that it is done asks for it by the command.
    let told = vxgate.tell(&["reload"]).printed();
    assert_eq!(
        told,
        format!("{}: read again, nothing changed\n", file.name)
    );
    send((2 * STRANGERS, STRANGERS));
    vxgate.stop();
}

#[test]
fn metrics_count_what_was_read_again_and_when_it_last_counted() {
    let lab = Lab::up();
    let file = File::new("[overlay]\npeer_check = \"log\"\n");
    let vxgate = Vxgate::start(&lab.node(Node::Worker), &["--config", &file.name]);
    // Waits until the metrics have so many successes and failures; the status has them, too. When the last success was.
    let become_so = |succeeded: u64, failed: u64| {
        let mut metrics = String::new();
        let counts = [("success", succeeded), ("failure", failed)].map(|(result, count)| {
            format!("vxgate_config_reloads_total{{result=\"{result}\"}} {count}\n")
        });
        // A page may be as old as it is good for.
        wait_until(&format!("{counts:?}"), BOUND, || {
            metrics = get(&vxgate.metrics_socket(), "/metrics").body;
            counts.iter().all(|line| metrics.contains(line))
        });
        let reloads = vxgate.status().0["reloads"].clone();
        assert_eq!(
            (&reloads["succeeded"], &reloads["failed"]),
            (&succeeded.into(), &failed.into())
        );
        let name = "vxgate_config_last_reload_success_timestamp_seconds ";
        let last = metrics.lines().find_map(|line| line.strip_prefix(name));
        let last: f64 = last.expect("a time").parse().expect("a number");
        let told_us = reloads["last_success_us"].as_u64().expect("a time");
        assert!(
            (last - told_us as f64 / 1e6).abs() < 1e-3,
            "{last} {told_us}"
        );
        told_us
    };
    let started = become_so(0, 0);
    file.write("[overlay]\npeer_check = \"off\"\n");
    vxgate.tell(&["reload"]).printed();
    let first = become_so(1, 0);
    assert!(first > started);
    file.write("[overlay]\npeer_chek = \"off\"\n");
    assert_eq!(vxgate.tell(&["reload"]).code, Some(78));
    assert_eq!(become_so(1, 1), first);
    // By a signal, too.
    vxgate.signal(Signal::SIGHUP);
    assert_eq!(become_so(1, 2), first);
    file.write("");
    vxgate.signal(Signal::SIGHUP);
    assert!(become_so(2, 2) > first);
    vxgate.stop();
}

#[test]
fn a_file_that_cannot_be_leaves_everything_as_it_was_and_says_why_as_at_the_start() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    let file = File::new("[overlay]\npeer_check = \"log\"\n");
    let vxgate = Vxgate::start(&node, &["--config", &file.name]);
    let state = || {
        let status = vxgate.status().0;
        (status["configuration"].clone(), status["policy"].clone())
    };
    let before = state();
    let refused = |text: &str, code: i32| {
        file.write(text);
        let said = vxgate.tell(&["reload"]);
        assert_eq!((said.code, said.out.as_str()), (Some(code), ""), "{text}");
        assert_eq!(state(), before, "{text}");
        assert!(vxgate.metrics_socket().exists());
        said.err
    };
    for text in [
        "[overlay]\npeer_check = \"off\"\npeer_chek = \"off\"\n[worker]\ncount = 65\n",
        "[overlay\n",
        "[log]\nlevel = \"wran\"\n",
    ] {
        let said = refused(text, 78);
        let mut check = Command::new(BINARY);
        let check = check.args(["config", "check", &file.name]).output();
        let check = check.expect("the program runs").stderr;
        assert_eq!(said, String::from_utf8_lossy(&check));
        assert!(said.contains(": line "), "{said}");
    }
    // What can be, but not here: nothing of the rest counts either.
    let said = refused(
        "[overlay]\npeer_check = \"off\"\n[metrics]\nlisten = \"203.0.113.7:9472\"\n[log]\nlevel = \"debug\"\n",
        1,
    );
    assert!(said.starts_with("error[VXG-0809]: "), "{said}");
    assert_eq!(vxgate.tell(&["log-level"]).printed(), "info\n");
    // By a signal: it is in the log.
    file.write("[overlay]\npeer_chek = \"off\"\n");
    vxgate.signal(Signal::SIGHUP);
    wait_until("the log says why", BOUND, || {
        let log = vxgate.output();
        log.lines()
            .filter(|line| line.contains("the configuration stays as it was"))
            .any(|line| line.contains("VXG-0601") && line.contains("peer_chek"))
    });
    assert_eq!(state(), before);
    vxgate.stop();
}
