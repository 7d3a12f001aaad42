//! `vxgate fdb` beside `bridge fdb`: line by line, for every kind of entry that a vxlan device takes.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::support::lab::{Lab, LabOptions, Node};
use crate::support::netns::Netns;
use crate::support::vxgate::Vxgate;
use crate::support::wait_until;

const BOUND: Duration = Duration::from_secs(10);
const DEVICES: [&str; 3] = ["flannel.1", "flannel-v6.1", "vx7"];

/// A station's address.
const fn station(number: u8) -> [u8; 6] {
    [0x0e, 0x24, 0x40, 0x00, 0xfd, number]
}

fn words(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// All kinds of entries, of both families and of two VNIs.
fn write_entries(node: &Netns) {
    for (id, via) in [
        (1, "10.0.0.31"),
        (2, "10.0.0.32"),
        (3, "fd00:a::31"),
        (4, "fd00:a::32"),
    ] {
        node.run(&format!("ip nexthop add id {id} via {via} fdb"));
    }
    node.run("ip nexthop add id 10 group 1/2,3 fdb");
    node.run("ip nexthop add id 20 group 3/4 fdb");
    let zero = "00:00:00:00:00:00";
    for (number, entry) in [
        (1, "dev flannel.1 dst 10.0.0.31 self permanent"),
        (
            2,
            "dev flannel.1 dst 10.0.0.31 port 4790 vni 77 self permanent",
        ),
        (3, "dev flannel.1 dst 10.0.0.31 via eth1 self static"),
        (4, "dev flannel.1 dst 10.0.0.32 self extern_learn"),
        (5, "dev flannel.1 dst 10.0.0.32 self dynamic"),
        // Another device's, so the kernel's.
        (6, "dev flannel.1 dst 10.0.0.33 via cni0 self permanent"),
        (7, "dev flannel.1 nhid 10 self permanent"),
        (1, "dev flannel-v6.1 dst fd00:a::31 self permanent"),
        (
            2,
            "dev flannel-v6.1 dst fd00:a::32 port 4790 self permanent",
        ),
        (3, "dev flannel-v6.1 nhid 20 self permanent"),
        (1, "dev vx7 dst 10.0.0.35 self permanent"),
        (2, "dev vx7 dst 10.0.0.36 vni 8 self permanent"),
    ] {
        let mac = words(station(number));
        node.run(&format!("bridge fdb add {mac} {entry}"));
    }
    for (mac, entry) in [
        (zero, "dev vx7 dst 10.0.0.35 self permanent"),
        (zero, "dev vx7 dst 10.0.0.36 port 4790 self permanent"),
        (zero, "dev flannel-v6.1 dst fd00:a::33 self permanent"),
        ("01:00:5e:01:01:01", "dev vx7 dst 10.0.0.35 self permanent"),
        ("01:00:5e:01:01:01", "dev vx7 dst 10.0.0.37 self permanent"),
        ("33:33:00:00:00:05", "dev vx7 dst 10.0.0.37 self permanent"),
    ] {
        node.run(&format!("bridge fdb append {mac} {entry}"));
    }
}

/// What `bridge fdb` has of these devices, without what belongs to a bridge above them.
fn by_bridge(node: &Netns, devices: &[&str]) -> BTreeSet<String> {
    let all = node.run("bridge fdb show");
    let own = all.lines().filter(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let device = words.iter().position(|word| *word == "dev");
        let name = device.and_then(|at| words.get(at + 1)).copied();
        words.contains(&"self") && name.is_some_and(|name| devices.contains(&name))
    });
    own.map(|line| line.trim().to_owned()).collect()
}

/// What `vxgate fdb` has, without its remarks.
fn by_vxgate(vxgate: &Vxgate, arguments: &[&str]) -> BTreeSet<String> {
    let said = vxgate.tell(&[&["fdb"], arguments].concat()).printed();
    let lines = said.lines().map(|line| match line.split_once("   # ") {
        Some((entry, _)) => entry,
        None => line,
    });
    lines.map(str::to_owned).collect()
}

fn entries(vxgate: &Vxgate) -> Vec<Value> {
    let document = vxgate.ask_json(&["fdb"]);
    document["entries"].as_array().expect("entries").clone()
}

#[test]
fn every_kind_of_entry_is_there_as_bridge_fdb_has_it() {
    let lab = Lab::with(LabOptions {
        dual_stack: true,
        ..LabOptions::default()
    });
    let node = lab.node(Node::Worker);
    node.run("ip link add vx7 up type vxlan id 7 dev eth1 local 10.0.0.11 dstport 4789 nolearning");
    let vxgate = Vxgate::start(&node, &[]);
    write_entries(&node);
    wait_until("the workers have all that the kernel has", BOUND, || {
        let entries = entries(&vxgate);
        let same = |entry: &Value| entry["published"] == true && entry["in_kernel"] == true;
        entries.len() >= 20 && entries.iter().all(same)
    });
    let told = by_vxgate(&vxgate, &[]);
    assert_eq!(told, by_bridge(&node, &DEVICES));
    let of_vx7 = by_vxgate(&vxgate, &["--vni", "7"]);
    assert_eq!(of_vx7, by_bridge(&node, &["vx7"]));
    let said = vxgate.tell(&["fdb", "--vni", "99"]);
    assert_eq!((said.code, said.out.as_str()), (Some(4), ""));
    assert!(said.err.contains("VXG-0820"), "{}", said.err);

    // Another device's entry is left to the kernel, and so it says.
    let said = vxgate.tell(&["fdb"]).printed();
    let line = said.lines().find(|line| line.contains(" via cni0 "));
    let remark = "   # its frames are left to the kernel";
    assert!(line.is_some_and(|line| line.ends_with(remark)), "{said}");
    // What goes in the kernel goes here, too.
    node.run(&format!(
        "bridge fdb del {} dev vx7 dst 10.0.0.35",
        words(station(1))
    ));
    node.run("ip nexthop del id 20");
    wait_until("what is gone is gone", BOUND, || {
        by_vxgate(&vxgate, &[]) == by_bridge(&node, &DEVICES)
    });
    assert!(by_vxgate(&vxgate, &[]).len() < told.len());
    vxgate.stop();
}
