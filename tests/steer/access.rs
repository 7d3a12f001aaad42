//! The access device: what it is made as, what it loses, and who removes it.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;
use serde_json::Value;
use vxgate::steer::{AccessPair, Error, remove_leftovers};

use crate::scene::{MINUTE, PATIENCE, Scene, Steered};
use crate::support::netns::{Netns, run};
use crate::support::wait_until;

#[test]
fn both_ends_have_every_property_and_are_gone_when_dropped() {
    let scene = Scene::new("pair", 1, 1500);
    scene
        .node
        .run("sysctl -qw net.ipv6.conf.default.disable_ipv6=0");
    scene.node.enter(|| {
        let pair = AccessPair::create("flannel.1", 1450, 3).unwrap();
        for end in [&pair.kernel_side, &pair.worker_side] {
            let link = scene.link(&end.name);
            assert_eq!(link["ifindex"], end.ifindex);
            assert_eq!(link["address"], end.mac.to_string());
            assert_eq!(link["mtu"], 1450);
            assert_eq!(link["linkinfo"]["info_kind"], "veth");
            assert_eq!(
                (&link["num_tx_queues"], &link["num_rx_queues"]),
                (&3.into(), &3.into())
            );
            let flags = link["flags"].as_array().unwrap();
            assert!(
                flags.contains(&"UP".into()) && flags.contains(&"LOWER_UP".into()),
                "{link}"
            );
            // NET_ADDR_SET: chosen by somebody, so udev leaves it alone.
            let assigned = format!("cat /sys/class/net/{}/addr_assign_type", end.name);
            assert_eq!(scene.node.run(&assigned).trim(), "3");
            let ipv6 = format!("ip -6 -j addr show dev {}", end.name);
            assert!(!scene.node.run(&ipv6).contains("inet6"));
            check_offloads(&scene.node, &end.name);
            let queues = queues(&scene.node, &end.name);
            assert_eq!(
                queues,
                [
                    ("mq", ""),
                    ("pfifo", "1:1"),
                    ("pfifo", "1:2"),
                    ("pfifo", "1:3")
                ]
                .map(|(k, p)| (k.to_owned(), p.to_owned()))
            );
        }
        let alias = &scene.link(&pair.kernel_side.name)["ifalias"];
        let expected = format!(
            "vxgate access device of flannel.1 key {}",
            pair.kernel_side.mac
        );
        assert_eq!(alias, &Value::from(expected));
        assert_ne!(pair.kernel_side.mac, pair.worker_side.mac);

        let single = AccessPair::create("flannel.1", 1450, 1).unwrap();
        assert_ne!(
            single.kernel_side.name, pair.kernel_side.name,
            "the first free names"
        );
        assert_eq!(
            queues(&scene.node, &single.kernel_side.name),
            [("pfifo".to_owned(), String::new())]
        );

        drop(pair);
        single.remove().unwrap();
        assert!(!scene.node.run("ip -o link").contains("vxg"));
    });
}

/// What the frames of either end must not leave to a device, as `ethtool -k` names it.
fn check_offloads(node: &Netns, device: &str) {
    let said = node.run(&format!("ethtool -k {device}"));
    let features: BTreeMap<_, _> = said
        .lines()
        .filter_map(|line| line.trim().split_once(": "))
        .collect();
    let mut hiding = 0;
    for (feature, state) in &features {
        let hides = feature.contains("segmentation")
            || feature.contains("vlan")
            || feature.contains("gro")
            || (feature.starts_with("tx-") && feature.contains("checksum"));
        if hides {
            hiding += 1;
            assert!(state.starts_with("off"), "{device}: {feature}: {state}");
        }
    }
    // As many as Linux 5.15 has at least.
    assert!(hiding >= 20, "{said}");
    assert_eq!(features["generic-receive-offload"], "off");
    assert_eq!(features["tcp-segmentation-offload"], "off");
    assert_eq!(features["tx-checksumming"], "off");
}

/// Kind and parent of every queueing discipline, sorted.
fn queues(node: &Netns, device: &str) -> Vec<(String, String)> {
    let all: Value =
        serde_json::from_str(&node.run(&format!("tc -j qdisc show dev {device}"))).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut all: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|q| (text(&q["kind"]), text(&q["parent"])))
        .collect();
    all.sort();
    all
}

#[test]
fn a_name_that_cannot_be_and_a_foreign_device_are_told() {
    let scene = Scene::new("names", 1, 1500);
    scene.node.run("ip link add vxg1 type veth peer name other");
    scene.node.enter(|| {
        let pair = AccessPair::create("flannel.1", 1450, 1).unwrap();
        assert_eq!(
            (
                pair.kernel_side.name.as_str(),
                pair.worker_side.name.as_str()
            ),
            ("vxg2", "vxg3")
        );
        let error = AccessPair::create("flannel.1", 20, 1).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Access {
                    doing: "create it",
                    ..
                }
            ),
            "{error}"
        );
        drop(pair);
        assert_eq!(remove_leftovers().unwrap(), [""; 0]);
        assert!(scene.node.run("ip -o link").contains("vxg1"));
    });
}

/// Set for a copy of this test program that is to make something and to be killed: the namespace to make it in.
const VICTIM: &str = "VXGATE_STEER_VICTIM";

/// Runs a test of this program as another process, in which [`victim`] answers.
fn spawn_victim(test: &str, scene: &Scene) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(VICTIM, scene.node.name())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// In the copy: makes something in the namespace, and holds it until killed.
pub fn be_victim<T>(make: impl FnOnce() -> T + Send) -> bool {
    let Ok(name) = std::env::var(VICTIM) else {
        return false;
    };
    Netns::existing(&name).enter(|| {
        let _held = make();
        loop {
            std::thread::park();
        }
    })
}

/// Starts a copy, waits for what it makes, and kills it after `before`.
pub fn kill_after(test: &str, scene: &Scene, made: impl Fn() -> bool, before: impl FnOnce()) {
    let mut child = spawn_victim(test, scene);
    wait_until("what the other process makes", PATIENCE, &made);
    before();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(made(), "it outlives its process");
}

#[test]
fn only_what_a_killed_process_left_is_removed() {
    if be_victim(|| AccessPair::create("flannel.1", 1450, 1).unwrap()) {
        return;
    }
    let scene = Scene::new("leftover", 1, 1500);
    scene.node.enter(|| {
        let ours = AccessPair::create("flannel.1", 1450, 1).unwrap();
        let made = || scene.node.run("ip -o link show up").contains("vxg2@");
        kill_after(
            "access::only_what_a_killed_process_left_is_removed",
            &scene,
            made,
            || {
                assert_eq!(remove_leftovers().unwrap(), [""; 0], "both live");
            },
        );
        assert_eq!(remove_leftovers().unwrap(), ["vxg2"]);
        let left = scene.node.run("ip -o link");
        assert!(!left.contains("vxg2") && !left.contains("vxg3"), "{left}");
        assert!(left.contains(&ours.kernel_side.name), "{left}");
        assert_eq!(remove_leftovers().unwrap(), [""; 0]);
    });
}

/// Makes the readers of a device's rings threads on the calling thread's processor, which the caller then never leaves: they
/// run only when it blocks.
fn shut_out_the_readers(node: &Netns, device: &str) {
    // A name of its own, by which the thread can be found.
    let name = format!("st{}", std::process::id());
    node.run(&format!("ip link set {device} name {name}"));
    let threaded = format!("echo 1 > /sys/class/net/{name}/threaded");
    let output = node.command("sh").args(["-c", &threaded]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut one = CpuSet::new();
    one.set(0).unwrap();
    let mut readers = 0;
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let comm = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        if comm.starts_with(&format!("napi/{name}-")) {
            let pid = process.file_name().to_string_lossy().parse().unwrap();
            sched_setaffinity(Pid::from_raw(pid), &one).unwrap();
            readers += 1;
        }
    }
    assert!(readers > 0);
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
    run(&[
        "chrt",
        "--fifo",
        "-p",
        "10",
        &nix::unistd::gettid().to_string(),
    ]);
}

#[test]
fn what_the_access_device_loses_when_its_ring_and_queue_are_full_is_counted_exactly() {
    // With one queue there is one pfifo, with two there is one on each below mq.
    for (workers, name) in [(1, "overflow"), (2, "overflow-mq")] {
        let scene = Scene::new(name, 1, 1500);
        scene.node.enter(|| overflow(&scene, workers));
    }
}

fn overflow(scene: &Scene, workers: u32) {
    const FRAMES: u64 = 3000;
    let mut steered = Steered::load(workers);
    let mut receivers: Vec<_> = (0..workers)
        .map(|queue| steered.open_worker_side(queue))
        .collect();
    let mut received_now = || {
        receivers
            .iter_mut()
            .map(|receiver| receiver.frames().len() as u64)
            .sum::<u64>()
    };
    steered.steering.attach().unwrap();
    steered.heartbeats(workers, MINUTE);
    let raw = scene.raw_on("flannel.1");
    // The sender must not block by what is queued: that would let the readers run.
    setsockopt(&raw, sockopt::SndBufForce, &(64 << 20)).unwrap();
    let frame = scene.frame().bytes(b"one of many");
    // On a thread of its own: it gives its class and processor back by ending.
    scene.node.enter(|| {
        shut_out_the_readers(&scene.node, &steered.pair.worker_side.name);
        for _ in 0..FRAMES {
            raw.send(&frame);
        }
    });
    assert_eq!(steered.egress().steered, FRAMES);
    let worker_side = steered.pair.worker_side.ifindex;
    let mut received = 0;
    wait_until("every frame's fate", PATIENCE, || {
        received += received_now();
        received + steered.pair.ring_drops().unwrap() == FRAMES
    });
    assert_eq!(steered.counters(worker_side).steered, received);
    let drops = steered.pair.ring_drops().unwrap();
    // The ring holds 256 and the queue 1000.
    assert!((1000..FRAMES - 1000).contains(&drops), "{drops} lost");
    // More arrive when there is room again, and nothing is lost any more.
    raw.send(&frame);
    wait_until("one more", PATIENCE, || received_now() == 1);
    assert_eq!(steered.pair.ring_drops().unwrap(), drops);
}
