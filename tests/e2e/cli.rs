//! Every refusal says what, why and what to do, exits with another code than 0, and leaves the node as it was.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use vxgate::port::{ChunkSize, Umem, UmemConfig, XskConfig, XskPort, ZeroCopy};

use crate::support::lab::{Lab, Node};
use crate::support::netns::{self, Netns};
use crate::support::process;
use crate::support::vxgate::{BINARY, Vxgate, run_to_end};

/// An XDP program of somebody else.
const FOREIGN_PROGRAM: &str = r#"
__attribute__((section("xdp"), used)) int somebody_elses(void *frame) { return 2; /* XDP_PASS */ }
char _license[] __attribute__((section("license"), used)) = "GPL";
"#;

#[test]
fn without_a_vxlan_device_there_is_nothing_to_take_over() {
    let netns = Netns::create(&format!("vx{}x-cli-none", std::process::id()));
    refused(&netns, &[], &["run"], &["no vxlan device", "ip link add"]);
}

#[test]
fn a_name_without_a_device_or_of_another_kind_of_device_is_refused() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    refused(
        &node,
        &[],
        &["run", "--vxlan", "flannel.7"],
        &["flannel.7", "no vxlan device of that name"],
    );
    refused(&node, &[], &["run", "--vxlan", "eth1"], &["eth1", "vxlan"]);
    refused(
        &node,
        &[],
        &["run", "--vxlan", "a/b"],
        &["a/b", "device name"],
    );
    refused(&node, &[], &["run", "--workers", "0"], &["--workers 0"]);
    refused(&node, &[], &["run", "--no-such-flag"], &["--no-such-flag"]);
}

#[test]
fn a_device_with_an_attribute_that_is_not_supported_is_left_to_the_kernel_and_named() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    node.run("ip link add vxlan7 type vxlan id 7 dev eth1 local 10.0.0.11 dstport 4789 learning");
    node.run("ip link set vxlan7 up");
    refused(
        &node,
        &[],
        &["run", "--vxlan", "vxlan7"],
        &["vxlan7", "learning"],
    );
    // Beside one that is supported, it is only told.
    let vxgate = Vxgate::start(&node, &[]);
    let status = vxgate.status();
    let device = status.device("vxlan7").expect("it is listed");
    assert_eq!(
        (&device["taken_over"], &device["refused"]["attribute"]),
        (&false.into(), &"learning".into())
    );
    assert_eq!(
        status.device("flannel.1").expect("it is listed")["taken_over"],
        true
    );
    vxgate.stop();
}

#[test]
fn a_second_instance_is_refused_by_device_and_pid() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    let first = Vxgate::start(&node, &[]);
    refused(
        &node,
        &[],
        &["run"],
        &["flannel.1", &first.pid().to_string()],
    );
    // The refused one has harmed nothing of the first.
    lab.client(Node::Worker).run(&format!(
        "ping -q -c 3 -i 0.05 -W 3 {}",
        lab.client_address(Node::Master)
    ));
    assert_eq!(first.balanced().state(), "healthy");
    first.stop();
}

#[test]
fn a_nic_with_another_xdp_program_is_refused_and_the_program_named() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    attach_foreign_program(&node, "eth1");
    refused(&node, &[], &["run"], &["eth1", "somebody_elses", "xdp off"]);
    assert!(
        node.run("ip link show dev eth1").contains("xdp"),
        "the other program is still there"
    );
    node.run("ip link set dev eth1 xdp off");
    Vxgate::start(&node, &[]).stop();
}

#[test]
fn a_device_that_cannot_start_leaves_the_others_carried() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    let vxgate = Vxgate::start(&node, &[]);
    node.run("ip link add eth9 up type veth peer name far9");
    node.run("ip addr add 192.0.2.1/24 dev eth9");
    attach_foreign_program(&node, "eth9");
    node.run("ip link add vx9 up type vxlan id 9 dev eth9 local 192.0.2.1 dstport 4789 nolearning");
    crate::support::wait_until(
        "the newcomer is left to the kernel, with the reason",
        Duration::from_secs(20),
        || {
            let status = vxgate.status();
            let why = status
                .device("vx9")
                .and_then(|device| device["refused"]["why"].as_str());
            let carried = status
                .device("flannel.1")
                .is_some_and(|device| device["taken_over"] == true);
            carried && why.is_some_and(|why| why.contains("somebody_elses"))
        },
    );
    let before = vxgate.status();
    lab.client(Node::Worker).run(&format!(
        "ping -q -c 40 -i 0.01 -W 3 {}",
        lab.client_address(Node::Master)
    ));
    vxgate.wait_forwarding("flannel.1 is carried on", &before);
    vxgate.stop();
}

/// Puts somebody else's XDP program onto a device.
pub fn attach_foreign_program(node: &netns::Netns, device: &str) {
    let directory = TempDir::with_prefix("vxgate-xdp-").expect("a temporary directory");
    let (source, object) = (
        directory.path().join("foreign.c"),
        directory.path().join("foreign.o"),
    );
    fs::write(&source, FOREIGN_PROGRAM).expect("writing a source");
    let [source, object] = [&source, &object].map(|path| path.to_str().expect("a path in UTF-8"));
    netns::run(&[
        "clang", "-O2", "-g", "-target", "bpf", "-c", source, "-o", object,
    ]);
    node.run(&format!(
        "ip link set dev {device} xdp object {object} section xdp"
    ));
}

#[test]
fn a_taken_queue_is_named_with_its_holder() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    let held = node.enter(|| {
        let config = XskConfig {
            ifindex: nix::net::if_::if_nametoindex("eth1").expect("eth1"),
            name: "eth1".to_owned(),
            queue: 0,
            ring_len: 64,
            zero_copy: ZeroCopy::Never,
            frame_len_max: 1518,
            finishes: vxgate::port::Finishes::default(),
            busy_wait: Duration::from_secs(1),
        };
        let umem = Umem::new(UmemConfig {
            chunk: ChunkSize::K2,
            frames: 256,
            lock: false,
        })
        .expect("a UMEM");
        let port = XskPort::open(&umem, &config, None).expect("a socket on queue 0");
        (port, umem)
    });
    refused(
        &node,
        &[],
        &["run"],
        &[
            "eth1 queue 0",
            "another AF_XDP socket",
            &std::process::id().to_string(),
        ],
    );
    drop(held);
    Vxgate::start(&node, &[]).stop();
}

#[test]
fn whoever_lacks_a_capability_is_told_which() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    // Where nobody can execute what is in root's directory, a copy in a directory of its own.
    let directory = TempDir::with_prefix("vxgate-binary-").expect("a temporary directory");
    let copy = directory.path().join("vxgate");
    process::copy(BINARY, &copy);
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let copy = copy.to_str().expect("a path in UTF-8");
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all",
        "--",
    ];
    refused_as(
        &node,
        &[&nobody[..], &[copy, "run"]].concat(),
        &["CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_BPF", "root"],
    );
    for (dropped, named) in [
        ("-net_raw", "CAP_NET_RAW"),
        ("-net_admin", "CAP_NET_ADMIN"),
        ("-bpf,-sys_admin", "CAP_BPF"),
    ] {
        let wrapper = [
            "setpriv",
            "--bounding-set",
            dropped,
            "--inh-caps=-all",
            "--",
        ];
        refused(&node, &wrapper, &["run"], &[named]);
    }
}

#[test]
fn a_memory_limit_is_named() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    let wrapper = [
        "prlimit",
        "--memlock=65536:65536",
        "setpriv",
        "--bounding-set",
        "-ipc_lock,-sys_resource",
        "--inh-caps=-all",
        "--",
    ];
    refused(&node, &wrapper, &["run"], &["memory", "limit"]);
}

#[test]
fn status_without_a_daemon_exits_with_3() {
    let directory = TempDir::with_prefix("vxgate-none-").expect("a temporary directory");
    let socket = directory.path().join("none.sock");
    for json in [&["status"][..], &["status", "--json"]] {
        let output = Command::new(BINARY)
            .args(json)
            .arg("--socket")
            .arg(&socket)
            .output()
            .expect("the program runs");
        assert_eq!(output.status.code(), Some(3));
        assert!(
            output.stdout.is_empty(),
            "standard output carries data only"
        );
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("none.sock"), "{said}");
    }
}

#[test]
fn status_waits_until_a_daemon_is_healthy_and_says_so_in_a_line() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    let mut first = Vxgate::start(&node, &[]);
    first.signal(Signal::SIGTERM);
    first.wait();
    let brief = |wait: &str| {
        let mut command = node.command(BINARY);
        command
            .args(["status", "--brief", wait, "--socket"])
            .arg(first.socket());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let nobody = brief("--wait=0.3").output().expect("it runs");
    assert_eq!(nobody.status.code(), Some(3), "{nobody:?}");

    let waiting = brief("--wait=30s").spawn().expect("it starts");
    let vxgate = first.start_next(&node, &[]);
    let waited = waiting.wait_with_output().expect("it ends");
    assert_eq!(waited.status.code(), Some(0), "{waited:?}");
    assert!(
        waited.stderr.is_empty(),
        "no progress without a terminal: {waited:?}"
    );
    let line = String::from_utf8(waited.stdout).expect("text");
    // What the hosts themselves send may die, as multicast does on a device without a flood list.
    let (verdict, drops) = line.rsplit_once(' ').expect("words");
    assert_eq!(
        verdict,
        "HEALTHY  devices 1/1  workers 1/1  VTEPs 1/1  drops in the last minute"
    );
    assert!(drops.trim_end().parse::<u64>().is_ok(), "{line}");

    // Waited for in vain, it is shown as it is.
    vxgate.tell(&["drain"]);
    let in_vain = brief("--wait=0.3").output().expect("it runs");
    assert_eq!(in_vain.status.code(), Some(1), "{in_vain:?}");
    assert!(
        in_vain.stdout.starts_with(b"DRAINED  devices 1/1"),
        "{in_vain:?}"
    );
    vxgate.stop();
}

/// A daemon that hangs is asked no longer than somebody wants to wait, and for a second if that is less.
#[test]
fn status_waits_for_a_hung_daemon_as_long_as_it_is_told_to() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    let vxgate = Vxgate::start(&node, &[]);
    vxgate.signal(Signal::SIGSTOP);
    let asked = node
        .command(BINARY)
        .args(["status", "--wait=0.3", "--socket"])
        .arg(vxgate.socket())
        .output()
        .expect("it runs");
    vxgate.signal(Signal::SIGCONT);
    assert_eq!(asked.status.code(), Some(1), "{asked:?}");
    let said = String::from_utf8_lossy(&asked.stderr);
    assert!(said.contains("has not answered for 1 s"), "{said}");
    vxgate.stop();
}

#[test]
fn the_default_socket_is_one_for_each_network_namespace() {
    let lab = Lab::up();
    let nodes = [Node::Master, Node::Worker].map(|node| lab.node(node));
    let mut daemons: Vec<_> = nodes
        .iter()
        .map(|node| {
            node.command(BINARY)
                .arg("run")
                .stdout(Stdio::null())
                .spawn()
                .expect("it starts")
        })
        .collect();
    for (node, daemon) in nodes.iter().zip(&daemons) {
        let pid = daemon.id();
        crate::support::wait_until(
            "status by the default socket",
            Duration::from_secs(20),
            || {
                node.try_run(&format!("{BINARY} status --json"))
                    .is_ok_and(|text| {
                        serde_json::from_str::<serde_json::Value>(&text).expect("JSON")["pid"]
                            == pid
                    })
            },
        );
    }
    // And there, too, a second one is told whom it meets, and one without rights what it lacks.
    let meet = |words: &[&str]| {
        let output = run_to_end(&nodes[1], words);
        assert!(!output.status.success(), "{output:?}");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (_, words) = meet(&[BINARY, "run"]);
    let pid = daemons[1].id().to_string();
    assert!(
        words.contains("flannel.1") && words.contains(&pid),
        "{words}"
    );
    let (code, words) = meet(&[
        "setpriv",
        "--bounding-set",
        "-net_raw",
        "--inh-caps=-all",
        "--",
        BINARY,
        "run",
    ]);
    assert!(words.contains("CAP_NET_RAW"), "{words}");
    assert_eq!(code, Some(5));
    for daemon in &mut daemons {
        netns::run(&["kill", &daemon.id().to_string()]);
        assert!(daemon.wait().expect("our child").success());
    }
    for node in &nodes {
        assert!(
            node.try_run(&format!("{BINARY} status")).is_err(),
            "no daemon is left"
        );
    }
}

#[test]
fn a_session_of_another_pid_namespace_is_not_its_own() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    let directory = TempDir::with_prefix("vxgate-test-").expect("a temporary directory");
    let socket = directory.path().join("s");
    let socket = socket.to_str().expect("a path in UTF-8");
    // It is the first process there, and `getsid` says 0.
    let mut parent = node
        .command("unshare")
        .args(["--pid", "--fork", "--kill-child=SIGTERM", "--", BINARY])
        .args(["run", "--socket", socket])
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    crate::support::wait_until("it answers", Duration::from_secs(20), || {
        node.try_run(&format!("{BINARY} status --json --socket {socket}"))
            .is_ok()
    });
    parent.kill().expect("our child");
    parent.wait().expect("our child");
    crate::support::wait_until("it has ended in order", Duration::from_secs(20), || {
        !directory.path().join("s").exists()
    });
}

#[test]
fn what_a_file_would_change_of_the_daemon_is_told() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    let folder = TempDir::with_prefix("vxgate-diff-").expect("a temporary directory");
    let path = folder.path().join("vxgate.toml");
    let name = path.to_str().expect("a path in UTF-8");
    fs::write(&path, "[overlay]\npeer_check = \"log\"\n").expect("a file");
    let vxgate = Vxgate::start(&node, &["--config", name, "--inner-vlan", "drop"]);
    let diff = |arguments: &[&str]| {
        let output = Command::new(BINARY)
            .args(["config", "diff", "--socket"])
            .arg(vxgate.socket())
            .args(arguments)
            .env_remove("VXGATE_CONFIG")
            .output()
            .expect("the program runs");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        (output.status.code(), text)
    };
    // Without a file: the daemon's own, as it is now.
    assert_eq!(diff(&[]), (Some(0), "no difference\n".to_owned()));
    fs::write(
        &path,
        "[overlay]\npeer_check = \"off\"\ninner_vlan = \"pass\"\n",
    )
    .expect("a file");
    let told = "~ [overlay] peer_check  \"log\" -> \"off\"   live\n\
                ! [overlay] inner_vlan  \"drop\" stays, not \"pass\": a flag of the daemon says so\n";
    assert_eq!(diff(&[]), (Some(1), told.to_owned()));
    assert_eq!(diff(&[name]), (Some(1), told.to_owned()));
    let (_, document) = diff(&[name, "--json"]);
    let document: serde_json::Value = serde_json::from_str(&document).expect("JSON");
    assert_eq!(document["changes"][0]["key"], "overlay.peer_check");
    assert_eq!(document["changes"][1]["kept_by"], "flag");
    vxgate.stop();
}

/// Runs `vxgate` as [`refused_as`] does.
pub fn refused(node: &Netns, wrapper: &[&str], arguments: &[&str], words: &[&str]) {
    refused_as(node, &[wrapper, &[BINARY], arguments].concat(), words);
}

/// Runs a command that must fail by itself: with a code, with these words on standard error, with nothing on standard output,
/// without a panic, and with the devices of the node as they were.
fn refused_as(node: &Netns, command: &[&str], words: &[&str]) {
    let directory = TempDir::with_prefix("vxgate-refused-").expect("a temporary directory");
    let socket = directory.path().join("control.sock");
    let socket = socket.to_str().expect("a path in UTF-8");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).expect("chmod");
    let before = node.devices();
    let output = run_to_end(node, &[command, &["--socket", socket]].concat());
    let (code, said) = (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(
        code.is_some_and(|code| ![0, 101, 124, 137].contains(&code)),
        "it refuses with a code, not {code:?}: {said}"
    );
    assert!(
        output.stdout.is_empty(),
        "standard output carries data only: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    for word in words {
        assert!(said.contains(word), "it names '{word}': {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    println!("    {code:?}: {}", said.lines().last().unwrap_or_default());
    // The kernel removes a device a moment after its last user.
    for _ in 0..100 {
        if node.devices() == before {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(node.devices(), before, "nothing is left behind");
}
