//! The three scenes (by address, by name, through a NodePort) and the traffic of every day, for everybody who may run `vxgate`.

use std::fs;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::failover::start;
use crate::support::bulk::{self, Transfer};
use crate::support::capture::{self, Capture, Decoded};
use crate::support::lab::{Lab, LabOptions, Node};
use crate::support::netns::Netns;
use crate::support::vxgate::Superframes::{self, Auto, Cut, Off};
use crate::support::vxgate::Vxgate;
use crate::support::{patient, wait_until};
use crate::who::{
    self, ALWAYS_BY_RING, DIRECT, DIRECT_BY_RING, DIRECT_BY_XDP, Flags, Who,
    assert_forwarded_since, kinds, statuses,
};

/// Over one connection.
const REQUESTS: usize = 200;
const DIRECT_BOUND: Duration = Duration::from_secs(20);
const BULK_BYTES: u64 = 20 << 20;
/// For an answer.
const ANSWER: Duration = Duration::from_secs(10);

#[test]
fn scenes_play_on_the_plain_kernel() {
    play(Who::None, Auto, &[]);
}

#[test]
fn scenes_play_with_vxgate_on_the_worker() {
    play(Who::Worker, Auto, &[]);
}

#[test]
fn scenes_play_with_vxgate_on_the_master() {
    play(Who::Master, Auto, &[]);
}

#[test]
fn scenes_play_with_vxgate_on_both() {
    play(Who::Both, Auto, &[]);
}

#[test]
fn scenes_play_with_vxgate_on_both_that_cuts_superframes() {
    play(Who::Both, Cut, &[]);
}

#[test]
fn scenes_play_with_vxgate_on_both_without_superframes() {
    play(Who::Both, Off, &[]);
}

#[test]
fn scenes_play_with_every_flow_direct_whatever_filters_say() {
    play_kinds(Who::Both, ALWAYS_BY_RING);
}

#[test]
fn scenes_play_with_a_direct_path_on_the_master() {
    play_kinds(Who::Master, DIRECT_BY_RING);
}

#[test]
fn scenes_play_with_a_direct_path_on_both() {
    play_kinds(Who::Both, DIRECT);
}

#[test]
fn scenes_play_with_xdp_at_the_pods_of_the_master() {
    play(Who::Master, Auto, DIRECT_BY_XDP);
}

fn play_kinds(who: Who, usual: Flags) {
    for flags in kinds(usual) {
        println!("  {flags:?}:");
        play(who, Auto, flags);
    }
}

#[test]
fn the_wire_decodes_and_source_ports_spread_over_flows_and_stay_within_one() {
    for superframes in Superframes::BOTH {
        wire_decodes(superframes);
    }
}

fn wire_decodes(superframes: Superframes) {
    // Frames as a real wire has them: without segmentation left to a receiver, no capture shows what no wire could carry.
    let lab = Lab::with(LabOptions {
        offloads: false,
        ..LabOptions::default()
    });
    let gateways = Who::Both.start_with(&lab, superframes, &[]);
    let wire = Capture::start(&lab.netns("sw"), "p2");
    let [master, worker] = [Node::Master, Node::Worker];
    bulk::udp_flows(
        &lab.client(master),
        &lab.client(worker),
        &lab.client_address(worker),
        300,
    );
    bulk::tcp_flows(
        &lab.client(worker),
        &lab.client(master),
        &lab.client_address(master),
        32,
    );
    by_address(&lab, master);
    ping(&lab, master);
    drop(gateways);
    let frames = wire.finish();
    println!("    {} frames on the wire", frames.len());
    capture::assert_clean(&frames);
    for node in [master, worker] {
        assert_source_ports(&frames, &lab.vtep_address(node));
    }
}

fn play(who: Who, superframes: Superframes, flags: &[&str]) {
    let lab = Lab::up();
    let gateways = start(&lab, who, superframes, flags);
    let before = statuses(&gateways);
    let [master, worker] = [lab.client(Node::Master), lab.client(Node::Worker)];
    let wire = Capture::start(&lab.netns("sw"), "p2");
    for node in [Node::Master, Node::Worker] {
        by_address(&lab, node);
        by_name(&lab, node);
        ping(&lab, node);
    }
    through_node_ports(&lab);
    if who::is_direct(flags) {
        connections_that_live_on(&lab, &gateways);
    }
    bulk::udp_flows(&worker, &master, &lab.client_address(Node::Master), 100);
    bulk::tcp_flows(&master, &worker, &lab.client_address(Node::Worker), 24);
    // Decoding takes far longer than sending: the bulk that follows is hashed, not decoded.
    capture::assert_clean(&wire.finish());
    Transfer::start(
        &master,
        &worker,
        &lab.client_address(Node::Worker),
        BULK_BYTES,
        None,
    )
    .finish();
    for node in [Node::Master, Node::Worker] {
        curl_bulk(&lab.client(node), &lab.web_address(node.peer()));
    }
    assert_forwarded_since(&gateways, &before);
    for (node, vxgate) in gateways {
        let status = vxgate.balanced();
        assert_eq!(status.state(), "healthy");
        assert!(
            flags.is_empty() || status.direct().is_some_and(|direct| direct.out > 100),
            "many frames went direct: {}",
            status.0["direct"]
        );
        assert_kernel_device_idle(&lab, node, status.passed("access", "superframe"));
        vxgate.stop();
    }
}

/// A pod of `node` talks to the web server of the other node by its address; no NAT on the way.
fn by_address(lab: &Lab, node: Node) {
    let (peer, address) = (node.peer().number(), lab.web_address(node.peer()));
    assert_eq!(
        get(&lab.client(node), &format!("http://{address}/")),
        format!("pod=web{peer} client={}", lab.client_address(node))
    );
    println!("    by address from {node:?}");
}

/// The same by name: DNS through its ClusterIP, then the service's ClusterIP.
fn by_name(lab: &Lab, node: Node) {
    let (name, peer) = match node {
        Node::Master => ("web", 2),
        Node::Worker => ("web1.default.svc.cluster.local", 1),
    };
    assert_eq!(
        get(&lab.client(node), &format!("http://{name}/")),
        format!("pod=web{peer} client={}", lab.client_address(node))
    );
    println!("    by name from {node:?}");
}

/// A client outside the cluster, through both NodePorts on both nodes. Where the pod is on the other node, the frames cross
/// the overlay with the entry node's flannel.1 address as source; else they come from its cni0.
fn through_node_ports(lab: &Lab) {
    let outside = lab.netns("ext");
    for (port, pod) in [(30080, Node::Worker), (30081, Node::Master)] {
        for entry in [Node::Master, Node::Worker] {
            let seen = format!("{}.{}", entry.subnet(), u8::from(entry == pod));
            let answer = get(
                &outside,
                &format!("http://{}:{port}/", lab.vtep_address(entry)),
            );
            assert_eq!(
                answer,
                format!("pod=web{} client={seen}", pod.number()),
                "NodePort {port} on {entry:?}"
            );
        }
    }
    println!("    through NodePorts");
}

/// The three scenes over connections with many requests: their frames go direct at the node where nothing is translated between
/// the pod and the tunnel, and nowhere else.
fn connections_that_live_on(lab: &Lab, gateways: &[(Node, Vxgate)]) {
    for node in [Node::Master, Node::Worker] {
        let (peer, address) = (node.peer().number(), lab.web_address(node.peer()));
        let answer = format!("pod=web{peer} client={}", lab.client_address(node));
        let asked = |host: &str, direct_at: &[Node]| {
            let url = format!("http://{host}/?[1-{REQUESTS}]");
            ask_until_direct(&lab.client(node), &url, &answer, gateways, direct_at);
        };
        asked(&address, &[node, node.peer()]);
        // Its pod's own end knows the ClusterIP alone.
        let name = ["web1.default.svc.cluster.local", "web"][peer - 1];
        asked(name, &[node.peer()]);
    }
    for (port, pod) in [(30080, Node::Worker), (30081, Node::Master)] {
        let entry = pod.peer();
        let answer = format!("pod=web{} client={}.0", pod.number(), entry.subnet());
        let url = format!("http://{}:{port}/?[1-{REQUESTS}]", lab.vtep_address(entry));
        ask_until_direct(&lab.netns("ext"), &url, &answer, gateways, &[pod]);
    }
    println!("    over connections that live on");
}

/// Asks over one connection after the other, until one went direct at those nodes. At the others, none may.
fn ask_until_direct(
    client: &Netns,
    url: &str,
    answer: &str,
    gateways: &[(Node, Vxgate)],
    direct_at: &[Node],
) {
    let direct = |vxgate: &Vxgate| vxgate.status().direct().expect("it has a direct path");
    let before: Vec<_> = gateways.iter().map(|(_, vxgate)| direct(vxgate)).collect();
    wait_until(&format!("{url} goes direct"), DIRECT_BOUND, || {
        let answers = get(client, url);
        assert_eq!(answers.lines().count(), REQUESTS, "{url}");
        assert!(
            answers.lines().all(|line| line == answer),
            "{url}: {answers}"
        );
        gateways
            .iter()
            .zip(&before)
            .all(|((node, vxgate), before)| {
                let now = direct(vxgate);
                if direct_at.contains(node) {
                    return now.beyond(*before, REQUESTS as u64 / 2);
                }
                assert_eq!(
                    (now.out, now.into),
                    (before.out, before.into),
                    "{url} at {node:?}"
                );
                true
            })
    });
}

/// Echoes of all sizes up to the largest that fits, unfragmented; one byte more is refused, as the MTU says.
fn ping(lab: &Lab, node: Node) {
    let (client, peer) = (lab.client(node), lab.client_address(node.peer()));
    for size in [0, 1, 56, 1000, 1421, 1422] {
        client.run(&format!("ping -q -c 3 -i 0.01 -W 3 -M do -s {size} {peer}"));
    }
    assert!(
        client
            .try_run(&format!("ping -q -c 1 -W 1 -M do -s 1423 {peer}"))
            .is_err(),
        "1451 bytes do not fit an MTU of 1450"
    );
    // Larger than the MTU without DF: the pod fragments, every fragment crosses by itself.
    client.run(&format!("ping -q -c 3 -i 0.01 -W 3 -M dont -s 4000 {peer}"));
}

/// Download and upload of 24 MiB with curl; the web server hashes at its end, we at ours.
fn curl_bulk(client: &Netns, server: &str) {
    let directory = TempDir::with_prefix("vxgate-curl-").expect("a temporary directory");
    let file = directory.path().join("blob");
    let path = file.to_str().expect("a path in UTF-8");
    client.run(&format!("curl -sSf -m 60 -o {path} http://{server}/blob"));
    let bytes = fs::read(&file).expect("what curl wrote");
    assert_eq!(bytes.len(), 24 << 20);
    let hash: String = Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        get(client, &format!("http://{server}/blob.sha256")),
        hash,
        "download"
    );
    let uploaded = client.run(&format!(
        "curl -sSf -m 60 -H Expect: --data-binary @{path} http://{server}/hash"
    ));
    assert_eq!(uploaded.trim(), hash, "upload");
    println!("    curl: 24 MiB down and up, hashes match");
}

fn get(from: &Netns, url: &str) -> String {
    from.run(&format!("curl -sSf -m {} {url}", patient(ANSWER).as_secs()))
        .trim()
        .to_owned()
}

/// Both redirects go around the kernel device: its own counters stay where they were, but for frames of the wire that were `left` to it.
fn assert_kernel_device_idle(lab: &Lab, node: Node, left: u64) {
    let text = lab.node(node).run("ip -json -s link show dev flannel.1");
    let links: serde_json::Value = serde_json::from_str(&text).expect("ip prints JSON");
    let stats = &links[0]["stats64"];
    // A few frames crossed the kernel's own path before vxgate took over (the lab checks itself).
    for (way, left) in [("rx", 0), ("tx", left)] {
        let packets = stats[way]["packets"].as_u64().expect("a count");
        assert!(
            packets < 100 + left,
            "the kernel device on {node:?} carried {packets} frames ({way})"
        );
    }
}

fn assert_source_ports(frames: &[Decoded], vtep: &str) {
    let flows = capture::source_ports(frames, vtep);
    assert!(flows.len() > 300, "{} flows seen from {vtep}", flows.len());
    for (flow, ports) in &flows {
        assert_eq!(
            ports.len(),
            1,
            "one source port for flow {flow} from {vtep}: {ports:?}"
        );
    }
    let distinct: std::collections::BTreeSet<_> = flows.values().flatten().collect();
    println!(
        "    {vtep}: {} flows, {} source ports from {:?} to {:?}",
        flows.len(),
        distinct.len(),
        distinct.first(),
        distinct.last()
    );
    assert!(
        distinct.len() * 10 > flows.len() * 9,
        "source ports spread over the flows of {vtep}"
    );
    assert!(
        **distinct.first().expect("there are some") >= 32768,
        "source ports come from the kernel's range"
    );
}
