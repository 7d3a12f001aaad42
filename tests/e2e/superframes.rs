//! TCP and UDP cross in superframes: over either family of the underlay, with either family inside, and what becomes of the TAPs
//! when the process ends in one way or another. That traffic goes on meanwhile is what `failover` counts, superframes included.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::bulk::{self, Transfer};
use crate::support::capture::{self, Capture};
use crate::support::datagrams::Trains;
use crate::support::lab::{Lab, LabOptions, Node};
use crate::support::netns::Netns;
use crate::support::sequence::Sequence;
use crate::support::vxgate::{Status, Superframes, Vxgate};
use crate::support::wait_until;
use crate::who::{Who, assert_forwarded_since, statuses};

const BULK_BYTES: u64 = 10 << 20;
const DEVICES: [&str; 2] = ["flannel.1", "flannel-v6.1"];
const PATIENCE: Duration = Duration::from_secs(10);

fn dual_stack(offloads: bool) -> Lab {
    Lab::with(LabOptions {
        dual_stack: true,
        offloads,
        ..LabOptions::default()
    })
}

/// Both ways at once, over `flannel.1` and `flannel-v6.1`.
fn transfer(lab: &Lab) {
    let [master, worker] = [lab.client(Node::Master), lab.client(Node::Worker)];
    for address in [
        lab.client_address(Node::Worker),
        lab.client_address6(Node::Worker),
    ] {
        Transfer::start(&master, &worker, &address, BULK_BYTES, None).finish();
        bulk::tcp_flows(&worker, &master, &lab.client_address(Node::Master), 8);
    }
}

/// The ports of a role that are the device's or carry it.
fn count(status: &Status, role: &str, what: &str) -> u64 {
    let ports = status.list("ports").filter(|port| port["role"] == role);
    ports.map(|port| port[what].as_u64().unwrap()).sum()
}

/// TAPs of a node.
fn taps(node: &Netns) -> usize {
    let links: Value = serde_json::from_str(&node.run("ip -j -d link show")).unwrap();
    let links = links.as_array().unwrap();
    let is_tap = |link: &&Value| link["linkinfo"]["info_kind"] == "tun";
    links.iter().filter(is_tap).count()
}

#[test]
fn tcp_crosses_in_superframes_from_node_to_node() {
    for who in [Who::Worker, Who::Master, Who::Both] {
        let lab = dual_stack(true);
        let gateways = who.start_with(&lab, Superframes::Auto, &[]);
        let before = statuses(&gateways);
        transfer(&lab);
        assert_forwarded_since(&gateways, &before);
        for (node, vxgate) in gateways {
            let status = vxgate.balanced();
            assert_eq!(status.state(), "healthy", "{}", status.0);
            for name in DEVICES {
                let device = status.device(name).expect("the device is known");
                assert_eq!(device["superframes"]["on"], true, "{device}");
            }
            let mut underlays = status
                .list("ports")
                .filter(|port| port["role"] == "underlay");
            assert!(underlays.all(|port| port["superframes_leave"] == "wire-gso"));
            let (superframes, segments) = (
                count(&status, "access", "superframes"),
                count(&status, "access", "segments"),
            );
            println!(
                "    {who:?}, {node:?}: {superframes} superframes of {segments} segments sent"
            );
            assert!(
                superframes > 0 && segments >= 2 * superframes,
                "{}",
                status.0
            );
            let (superframes, segments) = (
                count(&status, "underlay", "superframes"),
                count(&status, "underlay", "segments"),
            );
            println!(
                "    {who:?}, {node:?}: {superframes} superframes of {segments} segments joined"
            );
            assert!(
                superframes > 0 && segments >= 2 * superframes,
                "{}",
                status.0
            );
            let node = lab.node(node);
            assert!(taps(&node) > 0);
            vxgate.stop();
            assert_eq!(taps(&node), 0);
        }
    }
}

/// Of each port role: superframes, and what they were cut into or joined from.
fn superframes(status: &Status) -> [[u64; 2]; 2] {
    ["access", "underlay"]
        .map(|role| ["superframes", "segments"].map(|what| count(status, role, what)))
}

#[test]
fn udp_crosses_in_superframes_and_nothing_overtakes() {
    for who in [Who::Worker, Who::Both] {
        let lab = dual_stack(true);
        let gateways = who.start_with(&lab, Superframes::Auto, &[]);
        let before = statuses(&gateways);
        let [master, worker] = [lab.client(Node::Master), lab.client(Node::Worker)];
        let addresses = |node| [lab.client_address(node), lab.client_address6(node)];
        for (to_master, to_worker) in addresses(Node::Master).iter().zip(addresses(Node::Worker)) {
            // Trains alone, some among single datagrams, few; to sockets that ask for trains and to others.
            for (train_in, merged) in [(1, true), (3, false), (50, true)] {
                let sequence = Sequence {
                    writes: if train_in > 3 { 1000 } else { 200 },
                    train_in,
                    merged,
                };
                sequence.run(&worker, &master, to_master);
                sequence.run(&master, &worker, &to_worker);
            }
        }
        assert_forwarded_since(&gateways, &before);
        for (node, vxgate) in gateways {
            let status = vxgate.balanced();
            assert_eq!(status.state(), "healthy", "{}", status.0);
            let counts = superframes(&status);
            println!("    {who:?}, {node:?}: [superframes, segments] sent and joined: {counts:?}");
            for [superframes, segments] in counts {
                assert!(
                    superframes > 0 && segments >= 2 * superframes,
                    "{}",
                    status.0
                );
            }
            vxgate.stop();
        }
    }
}

#[test]
fn what_is_cut_on_the_wire_is_sound() {
    let lab = dual_stack(true);
    let gateways = Who::Both.start_with(&lab, Superframes::Auto, &[]);
    let wire = Capture::start(&lab.netns("sw"), "p2");
    let [master, worker] = [lab.client(Node::Master), lab.client(Node::Worker)];
    bulk::tcp_flows(&worker, &master, &lab.client_address(Node::Master), 8);
    bulk::tcp_flows(&master, &worker, &lab.client_address6(Node::Worker), 8);
    let trains = Trains {
        count: 20,
        datagrams: 40,
        len: 1200,
        merged: true,
    };
    trains.run(&worker, &master, &lab.client_address(Node::Master));
    trains.run(&master, &worker, &lab.client_address6(Node::Worker));
    capture::assert_clean(&wire.finish());
    for (_, vxgate) in gateways {
        vxgate.stop();
    }
}

/// On a node whose kernel takes no superframe at the wire, or whose NIC has zero-copy.
#[test]
fn where_none_leave_whole_the_workers_cut_them() {
    let lab = dual_stack(true);
    let gateways = Who::Both.start_with(&lab, Superframes::Cut, &[]);
    let before = statuses(&gateways);
    let wire = Capture::start(&lab.netns("sw"), "p2");
    let [master, worker] = [lab.client(Node::Master), lab.client(Node::Worker)];
    bulk::tcp_flows(&worker, &master, &lab.client_address(Node::Master), 8);
    bulk::tcp_flows(&master, &worker, &lab.client_address6(Node::Worker), 8);
    capture::assert_clean(&wire.finish());
    transfer(&lab);
    assert_forwarded_since(&gateways, &before);
    for (node, vxgate) in gateways {
        let status = vxgate.balanced();
        assert_eq!(status.state(), "healthy", "{}", status.0);
        for name in DEVICES {
            let superframes = &status.device(name).expect("the device is known")["superframes"];
            assert_eq!(superframes["on"], true, "{superframes}");
            assert!(superframes["access_tap"].is_string() && superframes["wire_tap"].is_null());
        }
        let underlay = status.list("ports").find(|port| port["role"] == "underlay");
        let underlay = underlay.expect("there is one");
        assert_eq!(underlay["superframes_leave"], "cut");
        assert_eq!(underlay["why_cut"], "asked for by --superframes");
        let [superframes, segments, sent, lost] =
            ["superframes", "segments", "segments_sent", "segments_lost"]
                .map(|what| count(&status, "access", what));
        println!("    {node:?}: {superframes} superframes cut into {segments} segments");
        assert!(
            superframes > 0 && segments >= 2 * superframes,
            "{}",
            status.0
        );
        assert_eq!(sent + lost, segments - superframes, "{}", status.0);
        assert!(count(&status, "underlay", "superframes") > 0, "and joined");
        let node = lab.node(node);
        assert_eq!(taps(&node), DEVICES.len(), "none in front of the wire");
        vxgate.stop();
        assert_eq!(taps(&node), 0);
    }
}

/// For longer than steering remembers which way a flow went: the superframes that come then take the TAP.
const SILENCE: Duration = Duration::from_millis(500);
const AFTER_A_SILENCE: usize = 40_000;

/// A kernel that makes a tunnel within the tunnel leaves the checksum of what that carries to the last device: the TAP.
#[test]
fn checksums_within_a_tunnel_of_the_pods_own_are_finished() {
    for superframes in [Superframes::Auto, Superframes::Cut] {
        let lab = Lab::up();
        let gateways = Who::Both.start_with(&lab, superframes, &[]);
        let pods = [Node::Master, Node::Worker].map(|node| lab.client(node));
        let [master, worker] = &pods;
        for (number, sums) in ["udpcsum", "noudpcsum"].into_iter().enumerate() {
            for (pod, peer, host) in [(master, Node::Worker, 1), (worker, Node::Master, 2)] {
                pod.script(&format!(
                    "ip link add nest{number} type vxlan id {number} dstport 479{number} dev eth0 {sums} remote {}
                     ip addr add 198.18.{number}.{host}/24 dev nest{number}
                     ip link set nest{number} up mtu 1100",
                    lab.client_address(peer)
                ));
            }
            let address = format!("198.18.{number}.2");
            let listener = worker.enter(|| TcpListener::bind((address.as_str(), 0)).unwrap());
            let to = listener.local_addr().unwrap();
            let mut near = master.enter(|| TcpStream::connect_timeout(&to, PATIENCE).unwrap());
            let (mut far, _) = listener.accept().unwrap();
            far.set_read_timeout(Some(PATIENCE)).unwrap();
            for _ in 0..3 {
                thread::sleep(SILENCE);
                near.write_all(&[7; AFTER_A_SILENCE]).unwrap();
                far.read_exact(&mut [0; AFTER_A_SILENCE]).unwrap();
            }
        }
        for pod in &pods {
            let wrong = pod.run("nstat -asz TcpInCsumErrors UdpInCsumErrors");
            for line in wrong.lines().filter(|line| !line.starts_with('#')) {
                let count = line.split_ascii_whitespace().nth(1);
                assert_eq!(count, Some("0"), "{superframes:?}: {wrong}");
            }
        }
        for (_, vxgate) in gateways {
            // The kernel cuts these superframes for the TAP: one was sent there, many have arrived.
            vxgate.balanced();
            vxgate.stop();
        }
    }
}

#[test]
fn pods_that_cut_for_themselves_are_carried_as_well() {
    let lab = dual_stack(false);
    let gateways = Who::Both.start_with(&lab, Superframes::Auto, &[]);
    let before = statuses(&gateways);
    transfer(&lab);
    assert_forwarded_since(&gateways, &before);
    for (_, vxgate) in gateways {
        vxgate.balanced();
        vxgate.stop();
    }
}

#[test]
fn switched_off_there_is_no_tap_and_every_segment_crosses_by_itself() {
    let lab = dual_stack(true);
    let node = lab.node(Node::Worker);
    let vxgate = Vxgate::start(&node, &["--superframes", "off"]);
    let before = vxgate.status();
    transfer(&lab);
    let [master, worker] = [lab.client(Node::Master), lab.client(Node::Worker)];
    let sequence = Sequence {
        writes: 300,
        train_in: 3,
        merged: true,
    };
    sequence.run(&worker, &master, &lab.client_address(Node::Master));
    sequence.run(&master, &worker, &lab.client_address6(Node::Worker));
    let after = vxgate.balanced();
    assert!(after.forwarded("access") > before.forwarded("access") + BULK_BYTES / 1500);
    assert_eq!(count(&after, "access", "superframes"), 0);
    assert_eq!(count(&after, "underlay", "superframes"), 0);
    for name in DEVICES {
        let device = after.device(name).expect("the device is known");
        let superframes = &device["superframes"];
        assert_eq!(superframes["on"], false, "{device}");
        assert_eq!(superframes["why_not"], "switched off by --superframes");
    }
    assert_eq!(taps(&node), 0);
    vxgate.stop();
}

#[test]
fn a_killed_process_leaves_no_tap() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    let mut vxgate = Vxgate::start_with(&node, Superframes::Auto, &[]);
    assert_eq!(taps(&node), 2, "one beside flannel.1, one in front of eth1");
    let [master, worker] = [lab.client(Node::Master), lab.client(Node::Worker)];
    let address = lab.client_address(Node::Worker);
    let transfer = Transfer::start(&master, &worker, &address, BULK_BYTES, Some(4 << 20));
    wait_until("the transfer is on its way", PATIENCE, || {
        transfer.progress() > 0.2
    });
    vxgate.signal(Signal::SIGKILL);
    vxgate.wait();
    transfer.finish();
    wait_until("the TAPs are gone", PATIENCE, || taps(&node) == 0);
}

#[test]
fn a_deleted_tap_leaves_the_traffic_to_the_kernel_and_comes_back() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    let vxgate = Vxgate::start_with(&node, Superframes::Auto, &[]);
    let [master, worker] = [lab.client(Node::Master), lab.client(Node::Worker)];
    let address = lab.client_address(Node::Worker);
    for which in ["access_tap", "wire_tap"] {
        let transfer = Transfer::start(&master, &worker, &address, BULK_BYTES, Some(6 << 20));
        wait_until("the transfer is on its way", PATIENCE, || {
            transfer.progress() > 0.2
        });
        let tap_of = |status: &Status| {
            let device = status.device("flannel.1")?;
            Some(device["superframes"][which].as_str()?.to_owned())
        };
        let index_of = |name: &str| node.run(&format!("cat /sys/class/net/{name}/ifindex"));
        let tap = tap_of(&vxgate.status()).expect("there is one");
        let index = index_of(&tap);
        node.run(&format!("ip link del {tap}"));
        wait_until("there is another TAP", PATIENCE, || {
            let tap = vxgate.try_status().ok().and_then(|now| tap_of(&now));
            tap.is_some_and(|tap| index_of(&tap) != index)
        });
        transfer.finish();
        let before = vxgate.balanced();
        bulk::tcp_flows(&master, &worker, &address, 8);
        let now = vxgate.balanced();
        for role in ["access", "underlay"] {
            assert!(
                now.forwarded(role) > before.forwarded(role),
                "{role}: it carries again"
            );
        }
    }
    vxgate.stop();
}
