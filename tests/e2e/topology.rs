//! The network changes under a running gateway, as flanneld, operators and cables change it: under a numbered stream each way
//! and a TCP transfer, with the plain kernel as the control. Lost frames and the longest gap are printed; the transfer must
//! complete, and `vxgate` must carry again by itself.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::failover::under_load;
use crate::support::lab::{Lab, LabOptions, Node};
use crate::support::vxgate::Vxgate;
use crate::support::wait_until;
use crate::who::Who;

/// How long something is away.
const AWAY: Duration = Duration::from_millis(500);
const NEW_MAC: &str = "0e:24:40:00:02:99";

/// Something that happens to the network.
#[derive(Clone, Copy)]
struct Change {
    what: &'static str,
    routed: bool,
    apply: fn(&Lab),
}

#[test]
fn the_device_is_deleted_and_made_again_with_another_mac() {
    happens(DEVICE_MADE_AGAIN, &[Who::Worker, Who::Both]);
}

#[test]
fn a_device_made_again_with_its_index_is_taken_over_again() {
    let lab = Lab::alone();
    let gateways = Who::Worker.start(&lab);
    let [(node, vxgate)] = &gateways[..] else {
        panic!("one gateway")
    };
    let worker = lab.node(Node::Worker);
    let index = worker.run("cat /sys/class/net/flannel.1/ifindex");
    let mac = lab.mac(Node::Worker, "flannel.1");
    let [own, peer] = [Node::Worker, Node::Master].map(|node| lab.vtep_address(node));
    let before = vxgate.status();
    under_load(&lab, "flannel.1 made again with its index", || {
        // It hears of both at once.
        vxgate.signal(Signal::SIGSTOP);
        worker.run("ip link del flannel.1");
        worker.run(&format!(
            "ip link add flannel.1 index {} address {mac} mtu 1450 txqueuelen 0 type vxlan id 1 dev eth1 local {own} dstport 8472 nolearning",
            index.trim()
        ));
        worker.run(&format!("ip addr add {}.0/32 dev flannel.1", node.subnet()));
        worker.run("ip link set flannel.1 up");
        lab.add_lease(Node::Worker, &lab.mac(Node::Master, "flannel.1"), &peer);
        vxgate.signal(Signal::SIGCONT);
        wait_until("another takeover", Duration::from_secs(10), || {
            vxgate.status().0["takeovers"].as_u64() > before.0["takeovers"].as_u64()
        });
        assert_carries_again(*node, vxgate);
    });
    for (_, vxgate) in gateways {
        vxgate.balanced();
        vxgate.stop();
    }
}

#[test]
fn the_nic_goes_down_and_up() {
    happens(NIC_DOWN_AND_UP, &[Who::Worker, Who::Both]);
}

#[test]
fn a_peer_is_removed_and_added() {
    happens(PEER_REMOVED_AND_ADDED, &[Who::Worker, Who::Both]);
}

#[test]
fn a_peer_changes_its_mac() {
    happens(PEER_CHANGES_MAC, &[Who::Worker, Who::Both]);
}

#[test]
fn a_peer_changes_its_address() {
    happens(PEER_CHANGES_ADDRESS, &[Who::Worker, Who::Both]);
}

#[test]
fn the_route_to_the_peer_moves_to_another_gateway() {
    happens(ROUTE_MOVES, &[Who::Worker, Who::Both]);
}

#[test]
fn the_same_changes_on_the_plain_kernel() {
    for change in [
        DEVICE_MADE_AGAIN,
        NIC_DOWN_AND_UP,
        PEER_REMOVED_AND_ADDED,
        PEER_CHANGES_MAC,
        PEER_CHANGES_ADDRESS,
        ROUTE_MOVES,
    ] {
        happens(change, &[Who::None]);
    }
}

const DEVICE_MADE_AGAIN: Change = Change {
    what: "flannel.1 of the worker made again with another MAC",
    routed: false,
    apply: |lab| {
        lab.node(Node::Worker).run("ip link del flannel.1");
        thread::sleep(AWAY);
        lab.make_device_again(Node::Worker, NEW_MAC, &lab.vtep_address(Node::Worker));
        lab.add_lease(Node::Master, NEW_MAC, &lab.vtep_address(Node::Worker));
    },
};

const NIC_DOWN_AND_UP: Change = Change {
    what: "eth1 of the worker down and up",
    routed: false,
    apply: |lab| {
        let node = lab.node(Node::Worker);
        node.run("ip link set eth1 down");
        thread::sleep(AWAY);
        node.run("ip link set eth1 up");
        node.run("ip route replace default via 10.0.0.1");
    },
};

const PEER_REMOVED_AND_ADDED: Change = Change {
    what: "the master's lease removed and added on the worker",
    routed: false,
    apply: |lab| {
        let peer_mac = lab.mac(Node::Master, "flannel.1");
        lab.remove_lease(Node::Worker, &peer_mac);
        thread::sleep(AWAY);
        lab.add_lease(Node::Worker, &peer_mac, &lab.vtep_address(Node::Master));
    },
};

const PEER_CHANGES_MAC: Change = Change {
    what: "the master's VTEP MAC changes",
    routed: false,
    apply: |lab| {
        lab.make_device_again(Node::Master, NEW_MAC, &lab.vtep_address(Node::Master));
        lab.add_lease(Node::Worker, NEW_MAC, &lab.vtep_address(Node::Master));
    },
};

const PEER_CHANGES_ADDRESS: Change = Change {
    what: "the master's VTEP address changes",
    routed: false,
    apply: |lab| {
        let mac = lab.mac(Node::Master, "flannel.1");
        lab.node(Node::Master)
            .run("ip addr add 10.0.0.77/24 dev eth1");
        lab.make_device_again(Node::Master, &mac, "10.0.0.77");
        lab.add_lease(Node::Worker, &mac, "10.0.0.77");
    },
};

const ROUTE_MOVES: Change = Change {
    what: "the nodes' routes move to the other router",
    routed: true,
    apply: |lab| {
        lab.node(Node::Worker)
            .run("ip route replace default via 10.0.1.2");
        lab.node(Node::Master)
            .run("ip route replace default via 10.0.0.2");
        // Give the last frames on the old way time to arrive, then close it: whoever still uses it stands still.
        thread::sleep(AWAY);
        lab.netns("r1").run("ip link set eth0 down");
        lab.netns("r1").run("ip link set eth1 down");
    },
};

fn happens(change: Change, to: &[Who]) {
    for who in to {
        let lab = Lab::with(LabOptions {
            routed: change.routed,
            ..LabOptions::default()
        });
        let gateways = who.start(&lab);
        let reports = under_load(&lab, &format!("{}, vxgate on {who:?}", change.what), || {
            (change.apply)(&lab);
            for (node, vxgate) in &gateways {
                assert_carries_again(*node, vxgate);
            }
        });
        for report in reports {
            assert_eq!(
                (report.duplicated, report.damaged),
                (0, 0),
                "nothing is delivered twice or damaged: {report:?}"
            );
        }
        for (_, vxgate) in gateways {
            vxgate.balanced();
            vxgate.stop();
        }
    }
}

/// The same device by name (perhaps with another index) is taken over, and frames flow through it both ways.
fn assert_carries_again(node: Node, vxgate: &Vxgate) {
    wait_until(
        &format!("vxgate on {node:?} has flannel.1"),
        Duration::from_secs(10),
        || {
            vxgate.try_status().is_ok_and(|now| {
                now.device("flannel.1")
                    .is_some_and(|device| device["taken_over"] == true)
            })
        },
    );
    vxgate.wait_forwarding(
        &format!("vxgate on {node:?} carries again"),
        &vxgate.status(),
    );
}
