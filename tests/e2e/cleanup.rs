//! What `vxgate` made is gone when it is: links, programs, maps, devices, sockets, settings of devices that are not its own.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use libbpf_rs::query::{LinkInfoIter, MapInfoIter, ProgInfoIter};
use nix::sys::signal::Signal;

use crate::support::bulk::Transfer;
use crate::support::lab::{Lab, Node};
use crate::support::vxgate::Vxgate;
use crate::support::wait_until;

#[test]
fn nothing_is_left_after_sigterm() {
    let lab = Lab::up();
    let before = traces(&lab);
    let vxgate = Vxgate::start(&lab.node(Node::Worker), &[]);
    assert_ne!(
        traces(&lab),
        before,
        "a running gateway leaves traces, or this test sees nothing"
    );
    let objects = bpf_objects(&vxgate);
    let sockets = [vxgate.socket().clone(), vxgate.metrics_socket()];
    assert!(sockets.iter().all(|socket| socket.exists()));
    carry(&lab);
    vxgate.stop();
    assert_gone(&objects);
    assert!(
        !sockets.iter().any(|socket| socket.exists()),
        "they are gone"
    );
    assert_eq!(traces(&lab), before);
    carry(&lab);
}

#[test]
fn nothing_is_left_after_sigkill_and_one_more_start_and_stop() {
    let lab = Lab::up();
    let before = traces(&lab);
    let mut killed = Vxgate::start(&lab.node(Node::Worker), &[]);
    let objects = bpf_objects(&killed);
    killed.signal(Signal::SIGKILL);
    killed.wait();
    // Links and programs die with the process, only slower than it; its devices wait for the next start.
    assert_gone(&objects);
    carry(&lab);
    let next = Vxgate::start(&lab.node(Node::Worker), &[]);
    let objects = bpf_objects(&next);
    carry(&lab);
    next.stop();
    assert_gone(&objects);
    assert_eq!(traces(&lab), before);
    carry(&lab);
}

fn carry(lab: &Lab) {
    let [master, worker] = [lab.client(Node::Master), lab.client(Node::Worker)];
    Transfer::start(
        &master,
        &worker,
        &lab.client_address(Node::Worker),
        1 << 20,
        None,
    )
    .finish();
}

/// All that a gateway could leave in the node or at the other end of the node's cable: devices with their settings and XDP
/// programs, qdiscs and filters, managed neighbours, offloads.
fn traces(lab: &Lab) -> Vec<String> {
    let (node, switch) = (lab.node(Node::Worker), lab.netns("sw"));
    let mut traces = node.devices();
    traces.extend(switch.devices());
    traces.push(node.run("tc qdisc show"));
    for device in ["eth1", "flannel.1", "cni0"] {
        traces.push(node.run(&format!("tc filter show dev {device} ingress")));
        traces.push(node.run(&format!("tc filter show dev {device} egress")));
        traces.push(node.run(&format!("ethtool -k {device}")));
    }
    traces.push(switch.run("ethtool -k p2"));
    traces.push(node.run("bridge fdb show dev flannel.1"));
    traces.extend(
        node.run("ip neigh show")
            .lines()
            .filter(|line| line.contains("managed"))
            .map(str::to_owned),
    );
    traces.push(
        node.run("sysctl -a -r ^net\\.(core|ipv4|ipv6\\.conf\\.(eth1|flannel))")
            .lines()
            .filter(|line| is_setting(line))
            .collect::<Vec<_>>()
            .join("\n"),
    );
    traces
}

/// Some "settings" of the kernel are counters and secrets that change by themselves.
fn is_setting(line: &str) -> bool {
    ![
        "random",
        "tcp_fastopen_key",
        "tcp_mem",
        "udp_mem",
        "netdev_rss_key",
        "neigh.default.unres",
        "stable_secret",
        "flow_limit",
    ]
    .iter()
    .any(|name| line.contains(name))
}

/// The kernel's numbers of the BPF programs, maps and links that a process holds.
#[derive(Debug, Default)]
struct BpfObjects {
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
    links: BTreeSet<u32>,
}

fn bpf_objects(vxgate: &Vxgate) -> BpfObjects {
    let mut objects = BpfObjects::default();
    let directory = format!("/proc/{}/fdinfo", vxgate.pid());
    for entry in fs::read_dir(&directory).expect("it runs").flatten() {
        // A descriptor may have been closed since the directory was read.
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let set = match key {
                "prog_id" => &mut objects.programs,
                "map_id" => &mut objects.maps,
                "link_id" => &mut objects.links,
                _ => continue,
            };
            set.extend(value.trim().parse::<u32>());
        }
    }
    assert!(
        !objects.programs.is_empty() && !objects.maps.is_empty(),
        "a running gateway holds programs and maps: {objects:?}"
    );
    objects
}

/// The kernel frees them a moment after the last descriptor is closed.
fn assert_gone(objects: &BpfObjects) {
    wait_until(
        &format!("the kernel has freed {objects:?}"),
        Duration::from_secs(10),
        || {
            !ProgInfoIter::default().any(|program| objects.programs.contains(&program.id))
                && !MapInfoIter::default().any(|map| objects.maps.contains(&map.id))
                && !LinkInfoIter::default().any(|link| objects.links.contains(&link.id))
        },
    );
}
