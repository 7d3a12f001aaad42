//! Pods that come and go beside flows that go direct: nothing of them stays, no frame of the others is lost, and nobody gets
//! what another had the address for.
//!
//! `VXGATE_CHURN_PODS` makes it another number of pods than the usual.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Ear, PATIENCE, Talk, flow_of, mac_text, talk};
use crate::failover::start;
use crate::support::lab::{Lab, Node};
use crate::support::netns::Netns;
use crate::support::stream::Stream;
use crate::support::vxgate::Superframes::Auto;
use crate::support::vxgate::Vxgate;
use crate::support::wait_until;
use crate::who::{DIRECT, Who};

/// Pods of a wave.
const WAVE: usize = 20;
const PODS: usize = 200;
/// What the daemon may have grown by when all of them have come and gone: buffers for longer lists.
const GROWTH_MAX_KB: u64 = 8 << 10;

fn pods() -> usize {
    let pods = std::env::var("VXGATE_CHURN_PODS").ok();
    pods.map_or(PODS, |pods| pods.parse().expect("a number of pods"))
}

/// Lines for `ip` in a namespace, or the machine's own, all in one process.
fn batch(namespace: Option<&str>, lines: &str) {
    let folder = tempfile::TempDir::with_prefix("vxgate-batch-").expect("a temporary directory");
    let file = folder.path().join("lines");
    fs::write(&file, lines).expect("writing a file");
    let file = file.to_str().expect("a path in UTF-8");
    let namespace = namespace.map(|name| ["-n", name]);
    let words = ["ip"].into_iter().chain(namespace.into_iter().flatten());
    let words: Vec<_> = words.chain(["-batch", file]).collect();
    crate::support::netns::run(&words);
}

/// A wave of pods on node 1: a namespace each, an address each, and each has spoken.
struct Wave {
    names: Vec<String>,
    node: String,
}

impl Wave {
    fn come(lab: &Lab, number: usize) -> Self {
        let node = lab.node(Node::Master).name().to_owned();
        let prefix = node.trim_end_matches("-n1");
        let names = (0..WAVE).map(|pod| format!("{prefix}-churn{number}p{pod}"));
        let wave = Self {
            names: names.collect(),
            node,
        };
        let (mut make, mut join) = (String::new(), String::new());
        for (pod, name) in wave.names.iter().enumerate() {
            let device = wave.device(pod);
            let _ = writeln!(make, "netns add {name}");
            let _ = writeln!(
                join,
                "link add {device} mtu 1450 type veth peer name eth0 mtu 1450 netns {name}
link set {device} master cni0 up"
            );
        }
        batch(None, &make);
        batch(Some(&wave.node), &join);
        for (pod, name) in wave.names.iter().enumerate() {
            let address = format!("10.244.0.{}", 100 + (number * WAVE + pod) % 100);
            batch(
                Some(name),
                &format!(
                    "addr add {address}/24 brd + dev eth0\nlink set eth0 up\nroute add default via 10.244.0.1\n"
                ),
            );
        }
        wave
    }

    fn device(&self, pod: usize) -> String {
        let name = &self.names[pod];
        let (_, own) = name.rsplit_once('-').expect("the lab's prefix");
        own.to_owned()
    }

    /// Every other one loses its device first, as when the runtime is in a hurry; the others go with their namespace.
    fn go(self) {
        let (mut first, mut then) = (String::new(), String::new());
        for (pod, name) in self.names.iter().enumerate() {
            if pod % 2 == 0 {
                let _ = writeln!(first, "link del {}", self.device(pod));
            }
            let _ = writeln!(then, "netns del {name}");
        }
        batch(Some(&self.node), &first);
        batch(None, &then);
    }
}

/// What the daemon holds: descriptors by what they are of (BPF links, programs, maps, sockets), and its memory in KB.
fn held(vxgate: &Vxgate) -> (BTreeMap<String, usize>, u64) {
    let folder = format!("/proc/{}/fd", vxgate.pid());
    let mut kinds = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("it runs").flatten() {
        // Closed meanwhile, or a socket's number that says nothing.
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        let target = target.to_string_lossy();
        let kind = target.split(":[").next().unwrap_or_default();
        *kinds.entry(kind.to_owned()).or_insert(0) += 1;
    }
    let status = fs::read_to_string(format!("/proc/{}/status", vxgate.pid())).expect("it runs");
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let rss = rss.and_then(|rss| rss.split_whitespace().next());
    let rss = rss
        .and_then(|rss| rss.parse().ok())
        .expect("a number of KB");
    (kinds, rss)
}

#[test]
fn pods_come_and_go_under_load_and_neither_leave_anything_nor_cost_a_frame() {
    let lab = Lab::up();
    let mut gateways = start(&lab, Who::Master, Auto, DIRECT);
    let [near, far] = [Node::Master, Node::Worker].map(|node| lab.client(node));
    near.run(&format!(
        "ping -q -c 2 -i 0.05 -W 3 {}",
        lab.client_address(Node::Worker)
    ));
    let streams = Stream::both_ways(
        ["udp of a pod that stays, out", "the same, in"],
        (&near, &lab.client_address(Node::Worker)),
        (&far, &lab.client_address(Node::Master)),
    );
    gateways_carry_direct(&gateways);
    let vxgate = &gateways[0].1;
    let attended = || {
        vxgate.status().0["direct"]["pods"]
            .as_u64()
            .expect("a count")
    };
    wait_until("the lab's pods are attended", PATIENCE, || attended() == 2);
    // The first wave has the daemon grow to what it needs.
    let (mut before, mut rss_before) = (BTreeMap::new(), 0);
    let waves = pods().div_ceil(WAVE);
    for number in 0..=waves {
        let wave = Wave::come(&lab, number);
        wait_until("the wave is attended", PATIENCE, || {
            attended() == 2 + WAVE as u64
        });
        let mut talk = Talk::start(
            &Netns::existing(&wave.names[0]),
            &far,
            &lab.client_address(Node::Worker),
        );
        talk.until_direct(vxgate);
        drop(talk);
        wave.go();
        wait_until("the wave is gone", PATIENCE, || attended() == 2);
        if number == 0 {
            wait_until("its descriptors, too", PATIENCE, || {
                (before, rss_before) = held(vxgate);
                held(vxgate).0 == before
            });
            println!("    the daemon holds {before:?} and {rss_before} KB after the first wave");
        }
    }
    wait_until("nothing is left of them", PATIENCE, || {
        held(vxgate).0 == before
    });
    let (_, rss) = held(vxgate);
    println!("    {} pods later {rss} KB", waves * WAVE);
    assert!(
        rss <= rss_before + GROWTH_MAX_KB,
        "{rss} KB, {rss_before} KB before"
    );
    gateways_carry_direct(&gateways);
    for report in streams.map(Stream::finish) {
        assert_eq!(
            (report.lost, report.duplicated, report.damaged),
            (0, 0, 0),
            "{report:?}"
        );
    }
    let (_, vxgate) = gateways.pop().expect("there is one");
    assert_eq!(vxgate.balanced().state(), "healthy");
    vxgate.stop();
}

/// The streams, that is; nothing else is there.
fn gateways_carry_direct(gateways: &[(Node, Vxgate)]) {
    for (node, vxgate) in gateways {
        let before = vxgate.status().direct().expect("it has a direct path");
        wait_until(&format!("{node:?} carries direct"), PATIENCE, || {
            let now = vxgate.status().direct().expect("it has a direct path");
            now.beyond(before, 50)
        });
    }
}

/// A device that comes from another namespace keeps its index where that is free: as the next one of a runtime does. The one before is
/// deleted, or goes to another namespace, with all that is attached to it.
#[test]
fn a_device_with_the_index_of_one_that_is_gone_is_another_pods() {
    another_has_its_index("del veth-web1");
    another_has_its_index("set veth-web1 netns");
}

fn another_has_its_index(goes: &str) {
    let lab = Lab::up();
    let (node, pod) = (lab.node(Node::Master), lab.netns("web1"));
    let elsewhere = lab.netns("ext");
    let vxgate = Vxgate::start(&node, DIRECT);
    let attended = || {
        let status = vxgate.status();
        let index = status.0["direct"]["pod_devices"]["veth-web1"]["ifindex"].as_u64();
        index.map(|index| (index, status.0["direct"]["pods"].as_u64()))
    };
    wait_until("the lab's pods are attended", PATIENCE, || {
        attended().is_some_and(|(_, pods)| pods == Some(2))
    });
    let index = attended().expect("just now").0;
    // It hears of both at once: the first goes and the next comes while somebody else has the kernel's lock.
    vxgate.signal(Signal::SIGSTOP);
    let (node_name, pod_name) = (node.name(), pod.name());
    let goes = match goes.ends_with("netns") {
        true => {
            pod.script("ip link set eth0 down; ip addr flush dev eth0; ip link set eth0 name eth1");
            format!("{goes} {}", elsewhere.name())
        }
        false => goes.to_owned(),
    };
    batch(
        Some(node_name),
        &format!(
            "link {goes}
link add veth-web1 index {index} mtu 1450 type veth peer name eth0 mtu 1450 netns {pod_name}
link set veth-web1 master cni0 up
"
        ),
    );
    let address = lab.web_address(Node::Master);
    batch(
        Some(pod_name),
        &format!(
            "addr add {address}/24 brd + dev eth0\nlink set eth0 up\nroute add default via 10.244.0.1\n"
        ),
    );
    vxgate.signal(Signal::SIGCONT);
    let far = lab.client(Node::Worker);
    let mut talk = Talk::start(&pod, &far, &lab.client_address(Node::Worker));
    talk.until_direct(&vxgate);
    assert_eq!(attended(), Some((index, Some(2))));
    vxgate.balanced();
}

#[test]
fn a_pods_device_is_called_what_it_is_called_now() {
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    let vxgate = Vxgate::start(&node, DIRECT);
    let mut talk = talk(&lab);
    talk.until_direct(&vxgate);
    node.run("ip link set veth-cli1 name veth-new");
    let names = || {
        let status = vxgate.status();
        let devices = status.0["direct"]["pod_devices"].as_object();
        let names = devices.map(|devices| devices.keys().cloned().collect::<Vec<_>>());
        names.unwrap_or_default()
    };
    wait_until("the device has its new name", PATIENCE, || {
        names() == ["veth-new", "veth-web1"]
    });
    talk.until_direct(&vxgate);
    assert_eq!(flow_of(&vxgate, &talk)["device"], "veth-new");
    vxgate.balanced();
}

/// Says things to an address, two thousand times a second, and wants no answer.
struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    fn start(talk: &Talk) -> Self {
        let socket = talk.twin();
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = thread::spawn(move || flood(&socket, &stopped, &count));
        Self {
            stop,
            sent,
            thread: Some(thread),
        }
    }

    fn wait_for(&self, more: u64) {
        let sent = || self.sent.load(Ordering::Relaxed);
        let before = sent();
        wait_until("frames are sent", PATIENCE, || sent() >= before + more);
    }
}

fn flood(socket: &UdpSocket, stop: &AtomicBool, sent: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        // Refused where nobody listens.
        let _ = socket.send(b"who has this address?");
        sent.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_micros(500));
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn under_load_the_next_pod_with_an_address_has_its_frames_and_the_one_before_none() {
    for same_mac in [false, true] {
        let lab = Lab::up();
        let node = lab.node(Node::Master);
        let vxgate = Vxgate::start(&node, DIRECT);
        let (old, new) = (lab.client(Node::Master), lab.netns("web1"));
        let address = lab.client_address(Node::Master);
        let mut talk = Talk::start(&lab.client(Node::Worker), &old, &address);
        talk.until_direct(&vxgate);
        let port = talk.ends()[1].port();
        let flood = Flood::start(&talk);
        let mut to_old = Ear::open(&old, port);
        flood.wait_for(200);
        assert!(to_old.heard() > 0);
        // What the runtime does when a pod's address goes to another, in its order: the old one has it no more.
        let mac = mac_text(&old);
        old.run(&format!("ip addr del {address}/24 dev eth0"));
        if same_mac {
            // Two stations of one address would be a quarrel.
            old.run("ip link set eth0 down");
            old.run("ip link set eth0 address 0e:00:00:00:00:55");
            new.run(&format!("ip link set eth0 address {mac}"));
        }
        new.run(&format!("ip addr add {address}/24 dev eth0"));
        node.run("ip neigh flush dev cni0");
        if same_mac {
            old.run("ip link set eth0 up");
        }
        let mut to_new = Ear::open(&new, port);
        wait_until("the new pod is sent the flow", PATIENCE, || {
            // It speaks, as a pod does that comes up.
            let _ = new.try_run("ping -q -c 1 -W 1 10.244.0.1");
            to_new.heard() > 0
        });
        let (before, so_far) = (to_old.heard(), to_new.heard());
        flood.wait_for(2000);
        assert_eq!(
            to_old.heard(),
            before,
            "nothing to the old pod, same address {same_mac}"
        );
        wait_until("the new pod is sent all of it", PATIENCE, || {
            to_new.heard() >= so_far + 1000
        });
        drop(flood);
        vxgate.balanced();
    }
}

#[test]
fn no_more_pods_are_looked_after_than_was_said() {
    let lab = Lab::up();
    let flags = [DIRECT, &["--direct-pods-max", "1"]].concat();
    let vxgate = Vxgate::start(&lab.node(Node::Master), &flags);
    let direct = || vxgate.status().0["direct"].clone();
    wait_until("one pod is attended", PATIENCE, || direct()["pods"] == 1);
    let direct = direct();
    assert_eq!(direct["pods_max"], 1);
    let left_out = direct["pods_left_out"].as_object().expect("by name");
    let [(left_out, why)] = left_out.iter().collect::<Vec<_>>()[..] else {
        panic!("the lab has two: {direct}");
    };
    assert_eq!(why, "the limit of 1 pods' devices is reached");
    let attended = direct["pod_devices"].as_object().expect("by name");
    assert!(attended.len() == 1 && !attended.contains_key(left_out));
    let far = lab.client(Node::Worker);
    let talk_of = |device: &String| {
        let pod = device.strip_prefix("veth-").expect("the lab's name");
        let pod = lab.netns(pod);
        Talk::start(&pod, &far, &lab.client_address(Node::Worker))
    };
    let attended = attended.keys().next().expect("there is one");
    talk_of(attended).until_direct(&vxgate);
    // The other one's flows go the node's own path.
    let gear = vxgate.status().direct().expect("it has a direct path");
    let (mut talk, before) = (talk_of(left_out), vxgate.status());
    for _ in 0..300 {
        assert!(talk.ask(64), "{left_out} is answered");
    }
    vxgate.wait_forwarding("by the workers", &before);
    let now = vxgate.status().direct().expect("it has a direct path");
    assert_eq!((now.out, now.into), (gear.out, gear.into));
    assert_eq!(vxgate.balanced().state(), "healthy");
    vxgate.stop();
}
