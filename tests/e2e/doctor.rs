//! `vxgate doctor` on nodes that somebody has broken: silent on a healthy one, and each fault is found by its code, with what
//! mends it. What `--fix` says that it mends, it does. One lab without a daemon, and one with.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use vxgate::fault::Fault;

use crate::support::hang::Hang;
use crate::support::lab::{Lab, LabOptions, Node};
use crate::support::netns::{self, Netns};
use crate::support::vxgate::{BINARY, Vxgate};
use crate::support::wait_until;

const PATIENCE: Duration = Duration::from_secs(10);
/// The peer's flannel.1.
const PEER: &str = "0e:24:40:00:01:04";

/// Programs of somebody else, and what a vxgate before tcx would have left.
const PROGRAMS: &str = r#"
__attribute__((section("xdp"), used)) int somebody_elses(void *frame) { return 2; /* XDP_PASS */ }
__attribute__((section("tc"), used)) int their_filter(void *frame) { return -1; /* TC_ACT_UNSPEC */ }
__attribute__((section("left"), used)) int vxgate_egress(void *frame) { return -1; }
char _license[] __attribute__((section("license"), used)) = "GPL";
"#;

/// Something that is done to a node, as lines of shell; what is to be found; and how it is undone, unless `--fix` does it.
struct Injury {
    done: &'static str,
    found: Fault,
    /// A part of what is said.
    said: &'static str,
    /// None: by `--fix`.
    undone: Option<&'static str>,
}

const INJURIES: &[Injury] = &[
    Injury {
        done: "ip link set eth1 mtu 1400",
        found: Fault::MtuTooLarge,
        said: "its MTU is 1450, and eth1 has 1400: less 50 that is 1350",
        undone: None,
    },
    Injury {
        done: "ip link set eth1 mtu 1500; ip link set veth-web2 mtu 1500",
        found: Fault::MtuTooLarge,
        said: "its MTU is 1500, and that of flannel.1 is 1350",
        undone: None,
    },
    Injury {
        done: "ip route add 10.0.0.10 dev eth1 mtu 1300",
        found: Fault::MtuTooLarge,
        said: "the path to the VTEP 10.0.0.10 takes 1300 bytes",
        undone: Some("ip route del 10.0.0.10"),
    },
    Injury {
        done: "sysctl -qw net.ipv4.ip_forward=0",
        found: Fault::ForwardingOff,
        said: "net.ipv4.ip_forward is 0",
        undone: None,
    },
    Injury {
        done: "sysctl -qw net.ipv4.conf.flannel/1.forwarding=0",
        found: Fault::ForwardingOff,
        said: "frames that come out of it are not forwarded",
        undone: None,
    },
    Injury {
        done: "sysctl -qw net.ipv4.conf.flannel/1.rp_filter=1",
        found: Fault::ReversePathStrict,
        said: "rp_filter is 1",
        undone: Some("sysctl -qw net.ipv4.conf.flannel/1.rp_filter=0"),
    },
    Injury {
        done: "bridge fdb del 0e:24:40:00:01:04 dev flannel.1 self",
        found: Fault::PeerIncomplete,
        said: "the neighbour 10.244.0.0 is 0e:24:40:00:01:04, which has no FDB entry",
        undone: Some(
            "bridge fdb add 0e:24:40:00:01:04 dev flannel.1 dst 10.0.0.10 self permanent",
        ),
    },
    Injury {
        done: "ip neigh del 10.244.0.0 dev flannel.1",
        found: Fault::PeerIncomplete,
        said: "the FDB leads 0e:24:40:00:01:04 to 10.0.0.10, and no neighbour has that address",
        undone: Some(
            "ip neigh replace 10.244.0.0 lladdr 0e:24:40:00:01:04 dev flannel.1 nud permanent",
        ),
    },
    Injury {
        done: "ip route del 10.244.0.0/24",
        found: Fault::PeerIncomplete,
        said: "the route to its neighbour 10.244.0.0 leads out of eth1",
        undone: Some("ip route add 10.244.0.0/24 via 10.244.0.0 dev flannel.1 onlink proto boot"),
    },
    Injury {
        done: "ip route add unreachable 10.0.0.10",
        found: Fault::PeerUnreachable,
        said: "the VTEP 10.0.0.10 has no route",
        undone: Some("ip route del unreachable 10.0.0.10"),
    },
    Injury {
        done: "ip neigh flush dev eth1; ip neigh replace 10.0.0.10 dev eth1 nud failed",
        found: Fault::PeerUnreachable,
        said: "the VTEP 10.0.0.10: it does not answer",
        undone: Some("ip neigh del 10.0.0.10 dev eth1"),
    },
    Injury {
        done: "bridge fdb add $(cat /sys/class/net/flannel.1/address) dev flannel.1 dst 10.0.0.10 self permanent",
        found: Fault::AddressDoubled,
        said: "is also behind the peer 10.0.0.10",
        undone: Some(
            "bridge fdb del $(cat /sys/class/net/flannel.1/address) dev flannel.1 dst 10.0.0.10 self",
        ),
    },
    Injury {
        done: "ip addr del 10.0.0.11/24 dev eth1",
        found: Fault::AddressMissing,
        said: "its address is 10.0.0.11, and no device here has that",
        undone: Some(
            "ip addr add 10.0.0.11/24 brd + dev eth1; ip route add default via 10.0.0.1",
        ),
    },
    Injury {
        done: "ip link set flannel.1 down",
        found: Fault::DeviceDown,
        said: "it is down",
        undone: Some(
            "ip link set flannel.1 up
             ip neigh replace 10.244.0.0 lladdr 0e:24:40:00:01:04 dev flannel.1 nud permanent
             ip route add 10.244.0.0/24 via 10.244.0.0 dev flannel.1 onlink proto boot",
        ),
    },
    Injury {
        done: "ip link add vx8 type vxlan id 8 dev eth1 local 10.0.0.11 dstport 8472 nolearning gbp",
        found: Fault::PortTaken,
        said: "its UDP port 8472 is taken by flannel.1, whose attributes are others",
        undone: Some("ip link del vx8"),
    },
    Injury {
        done: "ip link add vx7 up type vxlan id 7 dev eth1 local 10.0.0.11 dstport 4789 learning",
        found: Fault::DeviceRefused,
        said: "because of its attribute 'learning'",
        undone: Some("ip link del vx7"),
    },
    Injury {
        done: "ethtool -L eth1 rx 1 tx 1",
        found: Fault::QueuesUneven,
        said: "1 of 2 receive queues are in use",
        undone: Some("ethtool -L eth1 rx 2 tx 2"),
    },
    Injury {
        done: "ip link set dev eth1 xdpgeneric object $PROGRAMS section xdp",
        found: Fault::ForeignProgram,
        said: "somebody_elses",
        undone: Some("ip link set dev eth1 xdpgeneric off"),
    },
    Injury {
        done: "tc qdisc add dev flannel.1 clsact
               tc filter add dev flannel.1 egress pref 7 bpf direct-action object-file $PROGRAMS section tc",
        found: Fault::ForeignClassifier,
        said: "is on its egress (clsact)",
        undone: Some("tc filter del dev flannel.1 egress pref 7"),
    },
    Injury {
        done: "tc filter add dev flannel.1 egress pref 30328 handle 1 bpf direct-action object-file $PROGRAMS section left",
        found: Fault::LeftoverFound,
        said: "has a filter of a vxgate that is dead",
        undone: None,
    },
];

/// What `vxgate doctor --json` says in a node.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    document: Value,
}

impl Said {
    /// The findings with the code of a fault.
    fn findings(&self, fault: Fault) -> impl Iterator<Item = &Value> {
        let all = self.document["findings"].as_array().expect("a list");
        all.iter().filter(move |one| one["code"] == fault.code())
    }

    /// Asserts that a fault is found, and described so.
    fn has(&self, fault: Fault, words: &str) -> &Value {
        let mut findings = self.findings(fault);
        let found = findings.find(|one| one["what"].as_str().is_some_and(|w| w.contains(words)));
        let found = found.unwrap_or_else(|| panic!("{fault:?} '{words}': {:#}", self.document));
        assert!(
            found["why"].is_string() && found["fix"].is_object(),
            "{found}"
        );
        let expected = if self.document["state"] == "fault" {
            1
        } else {
            0
        };
        assert_eq!(self.code, Some(expected), "{:#}", self.document);
        found
    }

    /// Asserts that nothing is wrong.
    fn is_silent(&self, when: &str) {
        let state = &self.document["state"];
        assert!(
            *state == "ok" && self.code == Some(0),
            "{when}: {:#}",
            self.document
        );
    }
}

/// A node, and where its daemon listens or would.
struct Patient {
    node: Netns,
    socket: PathBuf,
}

impl Patient {
    fn asked(&self, wrapper: &[&str], arguments: &[&str]) -> Said {
        let mut words = wrapper.to_vec();
        words.extend([BINARY, "doctor", "--json"]);
        words.extend(arguments);
        let mut command = self.node.command(words[0]);
        let output = command
            .args(&words[1..])
            .arg("--socket")
            .arg(&self.socket)
            .output()
            .expect("iproute2 is installed");
        let text = String::from_utf8_lossy(&output.stdout);
        let document = serde_json::from_str(&text).unwrap_or_else(|error| {
            let said = String::from_utf8_lossy(&output.stderr);
            panic!("{error}: {text}{said}")
        });
        Said {
            code: output.status.code(),
            document,
        }
    }

    fn examined(&self) -> Said {
        self.asked(&[], &[])
    }

    /// As text.
    fn told(&self, arguments: &[&str]) -> String {
        let output = self
            .node
            .command(BINARY)
            .args(arguments)
            .arg("--socket")
            .arg(&self.socket)
            .output()
            .expect("iproute2 is installed");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Asserts that what was found is mended by `--fix`, by a command with these words, and that nothing is wrong then.
    fn mended(&self, words: &str) {
        let after = self.asked(&[], &["--fix"]);
        let mended = after.document["mended"].as_array().expect("a list");
        let lines = mended.iter().map(|one| {
            assert_eq!(one["error"], Value::Null, "{one}");
            let words = one["command"].as_array().expect("words").iter();
            let words = words.map(|word| word.as_str().expect("a word"));
            words.collect::<Vec<_>>().join(" ")
        });
        let lines: Vec<_> = lines.collect();
        assert!(
            lines.iter().any(|line| line.contains(words)),
            "{words}: {lines:?}"
        );
        after.is_silent(words);
    }
}

#[test]
fn faults_of_a_node_without_a_daemon_are_found_and_mended() {
    let lab = Lab::with(LabOptions {
        queues: 2,
        ..LabOptions::default()
    });
    let folder = TempDir::with_prefix("vxgate-doctor-").expect("a temporary directory");
    let programs = compiled(folder.path());
    let patient = Patient {
        node: lab.node(Node::Worker),
        socket: folder.path().join("none.sock"),
    };
    patient.examined().is_silent("the lab is as it was made");
    for injury in INJURIES {
        let script = |lines: &str| {
            let lines = lines.replace("$PROGRAMS", programs.to_str().expect("UTF-8"));
            patient.node.script(&lines.replace(';', "\n"));
        };
        script(injury.done);
        let said = patient.examined();
        said.has(injury.found, injury.said);
        match injury.undone {
            Some(lines) => {
                script(lines);
                patient.examined().is_silent(injury.done);
            }
            None => {
                let automatic = said
                    .findings(injury.found)
                    .any(|one| one["fix"]["automatic"] == true);
                assert!(automatic, "{:#}", said.document);
                patient.mended("");
            }
        }
    }
    a_socket_has_the_port(&patient);
    the_cable_is_out(&lab, &patient);
    rights_and_memory_are_missing(&patient);
}

fn a_socket_has_the_port(patient: &Patient) {
    patient.node.run("ip link set flannel.1 down");
    let held = patient
        .node
        .enter(|| UdpSocket::bind("0.0.0.0:8472").expect("the port is free"));
    let own = format!("(process {})", std::process::id());
    let said = patient.examined();
    said.has(Fault::PortTaken, "its UDP port 8472 is taken by ");
    said.has(Fault::PortTaken, &own);
    drop(held);
    patient.node.script(
        "ip link set flannel.1 up
         ip neigh replace 10.244.0.0 lladdr 0e:24:40:00:01:04 dev flannel.1 nud permanent
         ip route add 10.244.0.0/24 via 10.244.0.0 dev flannel.1 onlink proto boot",
    );
    patient.examined().is_silent("the port is free again");
}

fn the_cable_is_out(lab: &Lab, patient: &Patient) {
    let switch = lab.netns("sw");
    switch.run("ip link set p2 down");
    wait_until("the carrier is lost", PATIENCE, || {
        patient.examined().findings(Fault::UnderlayDown).count() == 1
    });
    patient.examined().has(Fault::UnderlayDown, "no carrier");
    switch.run("ip link set p2 up");
    wait_until("the carrier is back", PATIENCE, || {
        patient.examined().document["state"] == "ok"
    });
}

fn rights_and_memory_are_missing(patient: &Patient) {
    let wrapper = |bounding: &'static str| {
        [
            "prlimit",
            "--memlock=65536:65536",
            "setpriv",
            "--bounding-set",
            bounding,
            "--inh-caps=-all",
            "--",
        ]
    };
    let said = patient.asked(&wrapper("-net_raw"), &[]);
    said.has(Fault::CapabilityMissing, "CAP_NET_RAW");
    let said = patient.asked(&wrapper("-ipc_lock,-sys_resource"), &[]);
    said.has(Fault::FrameMemoryRefused, "0 MiB of memory may be locked");
}

#[test]
fn faults_of_a_served_node_are_found_and_mended() {
    let lab = Lab::up();
    let node = || lab.node(Node::Worker);
    let verifying = Vxgate::start(&node(), &["--udp-checksum-rx", "verify", "--workers", "2"]);
    let patient = Patient {
        node: node(),
        socket: verifying.socket().clone(),
    };
    let said = patient.examined();
    said.has(Fault::VerifiesUnfinished, "it is of kind veth");
    let asked_for = "2 workers were asked for, but eth1 has 1 receive queues";
    assert!(said.document.to_string().contains(asked_for), "{said:?}");
    assert_eq!(said.code, Some(0), "warnings alone are no failure");
    assert_eq!(patient.asked(&[], &["--fail-on", "warning"]).code, Some(1));
    verifying.stop();

    let mut vxgate = Vxgate::start(&node(), &[]);
    let patient = Patient {
        node: node(),
        socket: vxgate.socket().clone(),
    };
    wait_until(
        "the next hop is resolved, and nothing is wrong",
        PATIENCE,
        || patient.examined().document["state"] == "ok",
    );
    the_access_device_was_touched(&patient, &vxgate);
    a_peer_does_not_answer(&patient);
    the_mirror_stands_still(&patient, &vxgate);
    the_workers_hang(&patient, &vxgate);
    the_daemon_is_stopped(&patient, &vxgate);
    the_daemon_is_drained(&patient, &vxgate);
    its_socket_is_another(&patient, &vxgate);
    first_walk(&lab, &patient);

    vxgate.signal(Signal::SIGKILL);
    vxgate.wait();
    wait_until("its programs are gone", PATIENCE, || {
        let said = patient.examined();
        let left = said.findings(Fault::LeftoverFound).count();
        let programs = said.findings(Fault::ForeignProgram).count();
        left > 0 && programs == 0 && said.findings(Fault::SocketStale).count() == 1
    });
    patient.mended("ip link del dev vxg0");
    assert!(!patient.socket.exists());
}

#[test]
fn a_node_with_two_stacks_is_healthy_with_a_daemon_and_without() {
    let lab = Lab::with(LabOptions {
        dual_stack: true,
        ..LabOptions::default()
    });
    let folder = TempDir::with_prefix("vxgate-doctor-").expect("a temporary directory");
    let alone = Patient {
        node: lab.node(Node::Master),
        socket: folder.path().join("none.sock"),
    };
    alone.examined().is_silent("nobody serves it");
    let vxgate = Vxgate::start(&lab.node(Node::Worker), &[]);
    let served = Patient {
        node: lab.node(Node::Worker),
        socket: vxgate.socket().clone(),
    };
    wait_until("nothing is wrong", PATIENCE, || {
        served.examined().document["state"] == "ok"
    });
    vxgate.stop();
}

fn the_access_device_was_touched(patient: &Patient, vxgate: &Vxgate) {
    let end = vxgate.status().kernel_side();
    patient.node.run(&format!("ethtool -K {end} tx on"));
    let said = patient.examined();
    said.has(Fault::OffloadsOn, "tx-checksum-ip-generic");
    patient.mended(&format!("ethtool -K {end} "));
}

fn a_peer_does_not_answer(patient: &Patient) {
    patient.node.script(
        "ip neigh replace 10.244.9.0 lladdr 02:00:00:00:00:99 dev flannel.1 nud permanent
         bridge fdb add 02:00:00:00:00:99 dev flannel.1 dst 10.0.0.99 self permanent
         ip route add 10.244.9.0/24 via 10.244.9.0 dev flannel.1 onlink",
    );
    let said = patient.examined();
    said.has(
        Fault::PeerUnreachable,
        "the VTEP 10.0.0.99: it does not answer",
    );
    patient.node.script(
        "ip route del 10.244.9.0/24
         bridge fdb del 02:00:00:00:00:99 dev flannel.1 dst 10.0.0.99 self
         ip neigh del 10.244.9.0 dev flannel.1",
    );
    patient.examined().is_silent("the peer is gone");
}

/// The thread that follows the kernel is held by its neck, and the kernel's tables change.
fn the_mirror_stands_still(patient: &Patient, vxgate: &Vxgate) {
    let thread = Pid::from_raw(thread_called(vxgate.pid(), "vxgate-control"));
    ptrace::seize(thread, ptrace::Options::empty()).expect("root may");
    ptrace::interrupt(thread).expect("it runs");
    waitpid(thread, Some(WaitPidFlag::__WALL)).expect("it stops");
    patient.node.run(&format!(
        "bridge fdb replace {PEER} dev flannel.1 dst 10.0.0.77 self permanent"
    ));
    let said = patient.examined();
    said.has(Fault::MirrorDrifted, "the VTEP 10.0.0.77 is not known");
    said.has(
        Fault::MirrorDrifted,
        "the VTEP 10.0.0.10 is none of the kernel's",
    );
    patient.node.run(&format!(
        "bridge fdb replace {PEER} dev flannel.1 dst 10.0.0.10 self permanent"
    ));
    // One entry for another: as many as before, and to the same VTEP.
    let stranger = "02:00:00:00:00:98 dev flannel.1 dst 10.0.0.10 self";
    patient.node.script(&format!(
        "bridge fdb del {PEER} dev flannel.1 dst 10.0.0.10 self
         bridge fdb add {stranger} permanent"
    ));
    let said = patient.examined();
    let gone =
        format!("the workers have the FDB entry {PEER} dst 10.0.0.10, and the kernel has not");
    said.has(Fault::MirrorDrifted, &gone);
    said.has(
        Fault::MirrorDrifted,
        "the kernel has the FDB entry 02:00:00:00:00:98 dst 10.0.0.10, and the workers have not",
    );
    patient.node.script(&format!(
        "bridge fdb del {stranger}
         bridge fdb add {PEER} dev flannel.1 dst 10.0.0.10 self permanent"
    ));
    ptrace::detach(thread, None).expect("it was held");
    wait_until("the mirror follows again", PATIENCE, || {
        patient.examined().document["state"] == "ok"
    });
}

fn thread_called(pid: u32, name: &str) -> i32 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let named = tasks.flatten().find(|task| {
        let comm = std::fs::read_to_string(task.path().join("comm"));
        comm.is_ok_and(|comm| comm.trim_end() == name)
    });
    let task = named.unwrap_or_else(|| panic!("no thread is called {name}"));
    let number = task.file_name().to_string_lossy().parse();
    number.expect("threads have numbers")
}

fn the_workers_hang(patient: &Patient, vxgate: &Vxgate) {
    let hang = Hang::of_workers(vxgate.pid());
    wait_until("the heartbeat is stale", PATIENCE, || {
        patient.examined().findings(Fault::WorkerHangs).count() == 1
    });
    patient
        .examined()
        .has(Fault::WorkerHangs, "worker 0 has stored no heartbeat for ");
    hang.end();
    wait_until("the worker goes on", PATIENCE, || {
        patient.examined().document["state"] == "ok"
    });
}

fn the_daemon_is_stopped(patient: &Patient, vxgate: &Vxgate) {
    vxgate.signal(Signal::SIGSTOP);
    let said = patient.examined();
    let found = said.has(
        Fault::DaemonHangs,
        "is stopped (SIGSTOP), and does not answer",
    );
    assert_eq!(found["fix"]["command"][0], "kill");
    assert_eq!(found["fix"]["automatic"], false);
    vxgate.signal(Signal::SIGCONT);
    wait_until("it answers again", PATIENCE, || {
        patient.examined().document["state"] == "ok"
    });
}

fn the_daemon_is_drained(patient: &Patient, vxgate: &Vxgate) {
    vxgate.tell(&["drain"]).printed();
    let said = patient.examined();
    let who = format!("vxgate, process {}, is drained", vxgate.pid());
    let found = said.has(Fault::TrafficDrained, &who);
    assert_eq!(found["fix"]["automatic"], false);
    let findings = said.document["findings"].as_array().expect("a list");
    let worse = findings.iter().filter(|one| one["result"] == "fault");
    assert_eq!(worse.count(), 0, "{:#}", said.document);
    let command = found["fix"]["command"].as_array().expect("words");
    let words: Vec<_> = command.iter().filter_map(Value::as_str).collect();
    let socket = patient.socket.to_str().expect("UTF-8");
    assert_eq!(words, ["vxgate", "resume", "--socket", socket]);
    vxgate.tell(&["resume"]).printed();
    wait_until("nothing is wrong again", PATIENCE, || {
        patient.examined().document["state"] == "ok"
    });
}

fn its_socket_is_another(patient: &Patient, vxgate: &Vxgate) {
    let elsewhere = Patient {
        node: Netns::existing(patient.node.name()),
        socket: patient.socket.with_file_name("other.sock"),
    };
    let who = format!("vxgate, process {}, has flannel.1", vxgate.pid());
    elsewhere.examined().has(Fault::DaemonSilent, &who);
}

/// The walk in README.md: a node whose pods do not reach those of another node, and three commands to the cause.
fn first_walk(lab: &Lab, patient: &Patient) {
    let (_, walk) = include_str!("../../README.md")
        .split_once("## From a broken node to the cause\n")
        .expect("README has the walk");
    let (walk, _) = walk.split_once("\n## ").expect("and goes on");
    patient
        .node
        .run(&format!("bridge fdb del {PEER} dev flannel.1 self"));
    let ping = format!("ping -q -c 1 -W 1 {}", lab.client_address(Node::Master));
    assert!(
        lab.client(Node::Worker).try_run(&ping).is_err(),
        "it is broken"
    );
    let shown = |command: &str| {
        let (_, output) = walk
            .split_once(&format!("$ vxgate {command}\n"))
            .unwrap_or_else(|| panic!("README walks by vxgate {command}:\n{walk}"));
        let lines = output
            .lines()
            .take_while(|line| !line.starts_with(['$', '`']));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    // In which numbers of processes and seconds differ, and what is left out is shown as "...".
    for (command, arguments) in [
        ("status", &["status"][..]),
        ("doctor --quiet", &["doctor", "--quiet"]),
    ] {
        let text = patient.told(arguments);
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        let shown = shown(command);
        assert!(!shown.is_empty());
        for line in shown
            .iter()
            .filter(|line| !line.contains("pid") && *line != "...")
        {
            let line = line.trim();
            assert!(
                lines.contains(&line),
                "{command}: '{line}' is not in\n{text}"
            );
        }
    }
    let explained = Command::new(BINARY)
        .args(["explain", "VXG-0511"])
        .output()
        .expect("it runs");
    let explained = String::from_utf8(explained.stdout).expect("UTF-8");
    for line in shown("explain VXG-0511")
        .iter()
        .filter(|line| *line != "...")
    {
        assert!(
            explained.lines().any(|other| other == line),
            "'{line}' is not in\n{explained}"
        );
    }
    patient.node.run(&format!(
        "bridge fdb add {PEER} dev flannel.1 dst 10.0.0.10 self permanent"
    ));
    wait_until("the peer is reached again", PATIENCE, || {
        lab.client(Node::Worker).try_run(&ping).is_ok()
    });
}

fn compiled(folder: &Path) -> PathBuf {
    let (source, object) = (folder.join("programs.c"), folder.join("programs.o"));
    std::fs::write(&source, PROGRAMS).expect("writing a source");
    let [from, to] = [&source, &object].map(|path| path.to_str().expect("a path in UTF-8"));
    netns::run(&["clang", "-O2", "-g", "-target", "bpf", "-c", from, "-o", to]);
    object
}
