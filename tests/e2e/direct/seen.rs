//! What is seen of the direct path, by `vxgate` and by the kernel.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;

use super::talk::Talk;
use crate::support::netns::Netns;
use crate::support::vxgate::{BINARY, Status, Vxgate};

/// Frames that the express gear forwarded, and flows in it.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    pub out: u64,
    pub into: u64,
    pub flows: u64,
}

pub fn direct(status: &Status) -> Counts {
    let direct = &status.0["direct"];
    let count = |value: &Value| {
        value
            .as_u64()
            .unwrap_or_else(|| panic!("a count: {direct}"))
    };
    Counts {
        out: count(&direct["out"]["forwarded"]),
        into: count(&direct["in"]["forwarded"]),
        flows: count(&direct["express_flows"]),
    }
}

/// How often all flows were demoted at once.
pub fn changes(status: &Status) -> u64 {
    let direct = &status.0["direct"];
    let changes = direct["changes"].as_u64();
    changes.unwrap_or_else(|| panic!("a count: {direct}"))
}

pub fn handed_up(status: &Status, way: &str, reason: &str) -> u64 {
    status.0["direct"][way]["handed_up"][reason]
        .as_u64()
        .unwrap_or_else(|| panic!("a count of {reason}: {}", status.0["direct"]))
}

/// What `vxgate flows` says of a conversation that the node's client began; nothing when it is not known.
pub fn flow_of(vxgate: &Vxgate, talk: &Talk) -> Value {
    flow_between(vxgate, talk.ends())
}

/// What it says of a flow between a pod of this node and another; nothing when it is not known.
pub fn flow_between(vxgate: &Vxgate, ends: [SocketAddr; 2]) -> Value {
    let output = Command::new(BINARY)
        .args(["flows", "--json", "--socket"])
        .arg(vxgate.socket())
        .output()
        .expect("it is executable");
    assert!(output.status.success(), "{output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let ends = ends.map(|end| end.to_string());
    let mut flows = answer["flows"].as_array().expect("a list").iter();
    let found = flows.find(|flow| flow["local"] == ends[0] && flow["remote"] == ends[1]);
    found.cloned().unwrap_or_default()
}

/// Frames that the first counter of a table has seen.
pub fn dropped(node: &Netns, table: &str) -> u64 {
    let listed: Value =
        serde_json::from_str(&node.run(&format!("nft -j list table {table}"))).expect("JSON");
    let rules = listed["nftables"].as_array().expect("a list").iter();
    let mut expressions = rules.filter_map(|rule| rule["rule"]["expr"].as_array());
    let counter = expressions.find_map(|rule| {
        rule.iter()
            .find_map(|expression| expression["counter"]["packets"].as_u64())
    });
    counter.unwrap_or_else(|| panic!("a counter: {listed}"))
}
