//! The direct path over IPv6: pods that talk IPv6, tunnels over IPv6, and each without the other.
//!
//! As in `flows.rs`, node 1 runs `vxgate --direct flows` and node 2 the plain kernel, which judges what it gets: a frame with a
//! wrong checksum, outer or inner, is lost there.

use std::fs;

use rustix::net::sockopt::set_ipv6_unicast_hops;

use super::calls::{Trouble, survive};
use super::flows::{a_rule_takes_effect_at_once, assert_answered, transfer_goes_direct};
use super::{PATIENCE, Talk, changes, dropped, flow_of, forged_is_handed_up, handed_up, mac_text};
use crate::support::frames::RawSocket;
use crate::support::lab::{Lab, LabOptions, Node};
use crate::support::netns::Netns;
use crate::support::vxgate::Vxgate;
use crate::support::wait_until;
use crate::who::DIRECT;

/// The last is the longest that the path takes: 1500 bytes, less 70 of the tunnel's and 48 of the datagram's headers.
const PAYLOADS: [usize; 5] = [1, 2, 64, 555, 1382];
const CONNECTIONS: usize = 100;
const KUBE_PROXY: &str = "sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1
    nft 'table ip6 kube { chain forward { type filter hook forward priority 0; ct state invalid counter drop; ct state established,related accept; }; }'";

/// Two stacks, of which each has a tunnel of its own.
fn lab(offloads: bool) -> Lab {
    Lab::with(LabOptions {
        dual_stack: true,
        offloads,
        ..LabOptions::default()
    })
}

/// The same, each stack in the other's tunnel; that over IPv4 with outer checksums, and that over IPv6 without any from node 1.
/// (From node 2: such frames are for a worker to judge.)
fn crossed_lab(offloads: bool) -> Lab {
    let lab = lab(offloads);
    let nodes = [Node::Master, Node::Worker];
    let (four, six) = ("flannel.1", "flannel-v6.1");
    let macs = nodes.map(|node| [four, six].map(|device| lab.mac(node, device)));
    for (node, own) in nodes.into_iter().zip(&macs) {
        let (netns, peer) = (lab.node(node), node.peer());
        let their = &macs[peer.number() - 1];
        let without = match node {
            Node::Master => "udp6zerocsumtx",
            Node::Worker => "udp6zerocsumrx",
        };
        let devices = [
            (
                four,
                "udpcsum",
                lab.vtep_address(node),
                lab.vtep_address(peer),
            ),
            (
                six,
                without,
                lab.vtep_address6(node),
                lab.vtep_address6(peer),
            ),
        ];
        for ((device, checksum, local, remote), (own, their)) in
            devices.into_iter().zip(own.iter().zip(their))
        {
            netns.script(&format!(
                "ip link del {device}
                ip link add {device} address {own} mtu 1430 type vxlan id 1 dev eth1 local {local} dstport 8472 nolearning {checksum}
                ip link set {device} up
                bridge fdb replace {their} dev {device} dst {remote} self permanent"
            ));
        }
        let (subnet, subnet6) = (peer.subnet(), peer.subnet6());
        let [over_four, over_six] = their;
        netns.script(&format!(
            "ip neigh replace {subnet6}: lladdr {over_four} dev {four} nud permanent
            ip -6 route replace {subnet6}:/64 via {subnet6}: dev {four} onlink
            ip neigh replace {subnet}.0 lladdr {over_six} dev {six} nud permanent
            ip route replace {subnet}.0/24 via {subnet}.0 dev {six} onlink"
        ));
    }
    lab
}

/// Node 1's client asks node 2's, over IPv6 (`six`) or IPv4.
fn talk(lab: &Lab, six: bool) -> Talk {
    let (client, far) = (lab.client(Node::Master), lab.client(Node::Worker));
    let address = if six {
        lab.client_address6(Node::Worker)
    } else {
        lab.client_address(Node::Worker)
    };
    Talk::start(&client, &far, &address)
}

/// UDP datagrams that a node's kernel has found to have a wrong checksum.
fn wrong_checksums(node: &Netns) -> u64 {
    let count = |file: &str, of: &dyn Fn(&str) -> Option<u64>| {
        let text = node.enter(|| fs::read_to_string(format!("/proc/thread-self/net/{file}")));
        of(&text.expect("counters"))
    };
    let four = count("snmp", &|text| {
        let mut lines = text.lines().filter(|line| line.starts_with("Udp:"));
        let names = lines.next()?.split_whitespace();
        let mut counters = names.zip(lines.next()?.split_whitespace());
        let (_, wrong) = counters.find(|(name, _)| *name == "InCsumErrors")?;
        wrong.parse().ok()
    });
    let six = count("snmp6", &|text| {
        let line = text
            .lines()
            .find(|line| line.starts_with("Udp6InCsumErrors"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    });
    four.expect("a count") + six.expect("a count")
}

#[test]
fn flows_within_and_over_ipv6_are_promoted_and_every_answer_is_what_was_said() {
    for (mode, offloads, crossed) in [
        ("flows", true, false),
        ("flows", false, true),
        ("always", true, false),
    ] {
        let lab = if crossed {
            crossed_lab(offloads)
        } else {
            lab(offloads)
        };
        let node = lab.node(Node::Master);
        // So that no checksum is left to be trusted, but all to be verified.
        node.run("ethtool -K eth1 tx off");
        let vxgate = Vxgate::start(&node, &["--direct", mode]);
        for six in [true, false] {
            let mut talk = talk(&lab, six);
            talk.until_direct(&vxgate);
            assert_answered(&mut talk, &vxgate, PAYLOADS);
            let mut listed = serde_json::Value::Null;
            wait_until("the flow is listed", PATIENCE, || {
                assert!(talk.ask(64));
                listed = flow_of(&vxgate, &talk);
                listed["gear"] == "express" && listed["out_frames"].as_u64() > Some(0)
            });
            let vtep = if six == crossed {
                lab.vtep_address(Node::Worker)
            } else {
                lab.vtep_address6(Node::Worker)
            };
            assert_eq!(listed["vtep"], vtep, "{listed}");
        }
        let status = vxgate.balanced();
        assert_eq!(status.0["direct"]["in"]["in_flight"], 0);
        assert_eq!(status.state(), "healthy", "{}", status.0);
        assert_eq!(wrong_checksums(&lab.node(Node::Worker)), 0);
        vxgate.stop();
    }
}

#[test]
fn a_rule_of_ip6_that_forbids_the_flow_takes_effect_at_once() {
    let lab = lab(true);
    let pod = lab.client_address6(Node::Master);
    a_rule_takes_effect_at_once(&lab, "ip6", &pod, || talk(&lab, true));
}

#[test]
fn what_changes_of_ipv6_demotes_its_flows_and_what_concerns_one_link_does_not() {
    let lab = lab(true);
    let node = lab.node(Node::Master);
    let vxgate = Vxgate::start(&node, DIRECT);
    let mut talk = talk(&lab, true);
    // What comes first of several at once gives it its name.
    for line in [
        "ip -6 route add fd00:99::/64 dev cni0",
        "ip -6 rule add from fd00:99::/64 table 99",
        "ip addr add fd00:98::1/64 dev cni0 nodad",
        "sysctl -qw net.ipv6.conf.lo.forwarding=0",
        "sysctl -qw net.ipv6.conf.lo.forwarding=1",
    ] {
        talk.until_direct(&vxgate);
        let before = changes(&vxgate.status());
        node.run(line);
        wait_until(line, PATIENCE, || changes(&vxgate.status()) > before);
    }
    talk.until_direct(&vxgate);
    let count = |what: &str| {
        let status = vxgate.status();
        status.0["direct"]["changes_by"][what].as_u64().unwrap_or(0)
    };
    let before = ["route", "address"].map(count);
    node.run("ip addr add fe80::99/64 dev cni0 nodad");
    node.run("ip -6 route add fe80:1::/64 dev cni0");
    // Heard behind both of them.
    let rules = count("rule");
    node.run("ip -6 rule del from fd00:99::/64 table 99");
    wait_until("the rule is heard of", PATIENCE, || count("rule") > rules);
    assert_eq!(["route", "address"].map(count), before);
    talk.until_direct(&vxgate);
}

#[test]
fn what_another_pod_forges_of_a_promoted_ipv6_flow_stays_with_the_kernel() {
    let lab = lab(true);
    let vxgate = Vxgate::start(&lab.node(Node::Master), DIRECT);
    let forger = lab.netns("web1");
    forger.run("ping -6 -q -c 1 -W 3 fd00:10:244::1");
    let mut talk = talk(&lab, true);
    let frame = talk.forged(&mac_text(&forger), &lab.mac(Node::Master, "cni0"));
    let wire = RawSocket::open(&forger, "eth0");
    forged_is_handed_up(&mut talk, &vxgate, (&wire, &frame), "spoofed");
}

#[test]
fn a_datagram_on_its_last_hop_is_the_kernels_to_answer() {
    let lab = lab(true);
    let node = lab.node(Node::Master);
    let vxgate = Vxgate::start(&node, DIRECT);
    let mut talk = talk(&lab, true);
    talk.until_direct(&vxgate);
    let told = || {
        let text = node.enter(|| fs::read_to_string("/proc/thread-self/net/snmp6"));
        let text = text.expect("counters");
        let mut lines = text.lines();
        let line = lines.find(|line| line.starts_with("Icmp6OutTimeExcds"));
        let count = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        count.expect("a count")
    };
    let (before, told_before) = (handed_up(&vxgate.status(), "out", "ttl"), told());
    set_ipv6_unicast_hops(talk.twin(), Some(1)).expect("a hop limit");
    talk.say(64);
    wait_until("the kernel has told the pod", PATIENCE, || {
        told() > told_before
    });
    assert!(handed_up(&vxgate.status(), "out", "ttl") > before);
    set_ipv6_unicast_hops(talk.twin(), None).expect("the default");
    talk.hear_out();
    talk.until_direct(&vxgate);
}

#[test]
fn a_bulk_transfer_over_ipv6_arrives_whole() {
    let lab = lab(true);
    let node = lab.node(Node::Master);
    node.script(KUBE_PROXY);
    let vxgate = Vxgate::start(&node, DIRECT);
    transfer_goes_direct(&lab, &vxgate, &lab.client_address6(Node::Worker));
}

#[test]
fn connections_over_ipv6_survive_their_gateway_when_it_hangs_or_dies() {
    let lab = lab(true);
    let node = lab.node(Node::Master);
    node.script(KUBE_PROXY);
    let connections = (CONNECTIONS, &*lab.client_address6(Node::Worker));
    survive(&lab, DIRECT, connections, &[Trouble::Hangs]);
    println!("    invalid to conntrack: {}", dropped(&node, "ip6 kube"));
}
