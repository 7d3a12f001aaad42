//! TCP and UDP over a wire that loses, delays and doubles frames, with superframes and without: whatever a node joins and cuts
//! again, a pod reads what the other one wrote.
//!
//! IPv4 and IPv6, each over the underlay of its own family as flannel has it, and crossed: IPv6 over IPv4 and IPv4 over IPv6.

use crate::hop::{Hop, Weather};
use crate::support::bulk::Transfer;
use crate::support::datagrams::Trains;
use crate::support::lab::{Lab, LabOptions, Node};
use crate::support::vxgate::Superframes::{self, Auto, Cut, Off};
use crate::who::{Who, assert_forwarded_since, statuses};

/// One stream, each way.
const STREAM_BYTES: u64 = 12 << 20;
/// Several at once, each way of each.
const STREAMS: u64 = 4;
const SHARE_BYTES: u64 = 2 << 20;

/// A frame in 200 is lost, one in 20 comes late, and one in 100 comes twice.
const BAD: Weather = Weather {
    seed: 5,
    drop_in: 200,
    delay_in: 20,
    delay_max: 5,
    copy_in: 100,
};

#[test]
fn content_survives_on_the_plain_kernel() {
    content_survives(Who::None, Auto);
}

#[test]
fn content_survives_with_vxgate_on_the_worker() {
    content_survives(Who::Worker, Auto);
}

#[test]
fn content_survives_with_vxgate_on_the_worker_without_superframes() {
    content_survives(Who::Worker, Off);
}

#[test]
fn content_survives_with_vxgate_on_both() {
    content_survives(Who::Both, Auto);
}

#[test]
fn content_survives_with_vxgate_on_both_that_cuts_superframes() {
    content_survives(Who::Both, Cut);
}

#[test]
fn content_survives_with_vxgate_on_both_without_superframes() {
    content_survives(Who::Both, Off);
}

fn content_survives(who: Who, superframes: Superframes) {
    let lab = Lab::with(LabOptions {
        dual_stack: true,
        ..LabOptions::default()
    });
    let hop = Hop::between(&lab, BAD);
    let gateways = who.start_with(&lab, superframes, &[]);
    let before = statuses(&gateways);
    println!("  {who:?}, superframes {superframes:?}, each family over its own:");
    each_family(&lab);
    cross(&lab);
    println!("  {who:?}, superframes {superframes:?}, crossed:");
    each_family(&lab);
    for (from, tally) in [Node::Master, Node::Worker].iter().zip(hop.tallies()) {
        println!("    the wire from {from:?}: {tally:?}");
        assert!(
            tally.dropped > 0 && tally.delayed > 0 && tally.copied > 0,
            "the wire is a bad one: {tally:?}"
        );
        assert_eq!(
            (tally.uncut, tally.failed),
            (0, 0),
            "and does nothing else: {tally:?}"
        );
    }
    assert_forwarded_since(&gateways, &before);
    for (_, vxgate) in gateways {
        assert_eq!(vxgate.balanced().state(), "healthy");
        vxgate.stop();
    }
}

/// TCP, both ways at once, and UDP one way and then the other, over IPv4 and over IPv6.
fn each_family(lab: &Lab) {
    let [master, worker] = [lab.client(Node::Master), lab.client(Node::Worker)];
    let addresses = |node| [lab.client_address(node), lab.client_address6(node)];
    for to_worker in addresses(Node::Worker) {
        Transfer::start(&master, &worker, &to_worker, STREAM_BYTES, None).finish();
    }
    let several: Vec<Transfer> = addresses(Node::Master)
        .iter()
        .flat_map(|to_master| [to_master; STREAMS as usize])
        .map(|to_master| Transfer::start(&worker, &master, to_master, SHARE_BYTES, None))
        .collect();
    several.into_iter().for_each(Transfer::finish);
    for (to_worker, to_master) in addresses(Node::Worker).iter().zip(addresses(Node::Master)) {
        trains(1200, 40, true).run(&master, &worker, to_worker);
        trains(333, 64, false).run(&worker, &master, &to_master);
        // The largest that fits all.
        trains(1382, 30, true).run(&worker, &master, &to_master);
    }
}

fn trains(len: u16, datagrams: u64, merged: bool) -> Trains {
    Trains {
        count: 20,
        datagrams,
        len,
        merged,
    }
}

/// From now on each family crosses the tunnel of the other one.
fn cross(lab: &Lab) {
    for node in [Node::Master, Node::Worker] {
        let (netns, peer) = (lab.node(node), node.peer());
        let (subnet, subnet6) = (peer.subnet(), peer.subnet6());
        for (family, network, gateway, device) in [
            (
                "-4",
                format!("{subnet}.0/24"),
                format!("{subnet}.0"),
                "flannel-v6.1",
            ),
            // The kernel takes no gateway that it would reach by another device.
            (
                "-6",
                format!("{subnet6}:/64"),
                "fe80::1".to_owned(),
                "flannel.1",
            ),
        ] {
            let mac = lab.mac(peer, device);
            netns.run(&format!(
                "ip {family} neigh replace {gateway} lladdr {mac} dev {device} nud permanent"
            ));
            netns.run(&format!(
                "ip {family} route replace {network} via {gateway} dev {device} onlink proto boot"
            ));
        }
    }
}
