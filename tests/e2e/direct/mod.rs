//! The direct path: flows that the kernel was seen to carry go straight between the underlay and their pods, and come back to
//! the kernel whenever anything changes, or anybody dies.
//!
//! Node 1 runs `vxgate --direct flows`, node 2 the plain kernel: whatever goes the direct path, a kernel judges on the far side.

mod always;
mod around;
mod by_xdp;
mod calls;
mod changes;
mod ear;
mod flows;
mod forged;
mod ipv6;
mod joined;
mod oracle;
mod pods;
mod ring;
mod seen;
mod spoofing;
mod superframes;
mod talk;

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;

use crate::support::lab::{Lab, Node};
use crate::support::netns::Netns;
use ear::Ear;
use forged::{FORGED, forged_is_handed_up};
use seen::{changes, direct, dropped, flow_between, flow_of, handed_up};
use talk::Talk;

const PATIENCE: Duration = Duration::from_secs(20);

/// Node 1's client asks node 2's.
fn talk(lab: &Lab) -> Talk {
    let (client, far) = (lab.client(Node::Master), lab.client(Node::Worker));
    Talk::start(&client, &far, &lab.client_address(Node::Worker))
}

/// The Ethernet address of a pod.
pub fn mac_text(pod: &Netns) -> String {
    let links: Value = serde_json::from_str(&pod.run("ip -json link show dev eth0")).expect("JSON");
    links[0]["address"].as_str().expect("an address").to_owned()
}

/// Another pod of node 1's, which forges. The bridge knows it: a pod that speaks for the first time is a change.
fn forger(lab: &Lab) -> Netns {
    let pod = lab.netns("web1");
    pod.run("ping -q -c 1 -W 3 10.244.0.1");
    pod
}

fn address(text: &str) -> Ipv4Addr {
    text.parse().expect("an address")
}
