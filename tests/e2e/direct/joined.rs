//! An underlay device on which XDP runs behind GRO, as on bridges, VLANs and all else whose driver has none of its own: what comes to
//! our program there may be several frames of the wire that were joined.

use serde_json::Value;

use super::{PATIENCE, direct, flow_of, handed_up, talk};
use crate::support::bulk::Transfer;
use crate::support::lab::{Lab, Node};
use crate::support::netns::Netns;
use crate::support::vxgate::Vxgate;
use crate::support::wait_until;
use crate::who::{DIRECT, kube_proxy};

/// Has node 1 a bridge in front of its eth1, and its vxlan device there. The pod behind it asks for segments of which two or three
/// are no longer than a frame of the pod's.
const BRIDGED: &str = "
near=$(cat /sys/class/net/eth1/address)
own=$(cat /sys/class/net/flannel.1/address)
far=$(bridge fdb show dev flannel.1 | awk '/dst/ { print $1; exit }')
ip addr flush dev eth1
ip link add br1 address $near type bridge
ip link set eth1 master br1
ip link set br1 up
ip addr add 10.0.0.10/24 dev br1
ip link del flannel.1
ip link add flannel.1 address $own mtu 1450 type vxlan id 1 dev br1 local 10.0.0.10 dstport 8472 nolearning
ip addr add 10.244.0.0/32 dev flannel.1
ip link set flannel.1 up
ip neigh replace 10.244.1.0 lladdr $far dev flannel.1 nud permanent
ip route replace 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink proto boot
bridge fdb replace $far dev flannel.1 dst 10.0.0.11 self permanent
";
const SHORT: &str = "ip route change default via 10.244.0.1 advmss 500";
/// More than is waited for.
const BYTES: u64 = 1 << 40;
const ENOUGH: u64 = 64 << 20;

/// Packets that this node would not route for their length.
fn too_long(node: &Netns) -> u64 {
    let text = node.run("cat /proc/net/snmp");
    let mut ip = text.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, values) = ip.next().zip(ip.next()).expect("both lines");
    let mut all = names.split(' ').zip(values.split(' '));
    let (_, count) = all
        .find(|(name, _)| *name == "FragFails")
        .expect("it is there");
    count.parse().expect("a count")
}

#[test]
fn what_was_joined_in_front_of_our_program_is_neither_lost_nor_counted_as_one() {
    let lab = Lab::up();
    kube_proxy(&lab);
    let node = lab.node(Node::Master);
    let (near, far) = (lab.client(Node::Master), lab.client(Node::Worker));
    node.script(BRIDGED);
    near.run(SHORT);
    let vxgate = Vxgate::start(&node, DIRECT);
    let mode = &vxgate.status().0["ports"][0]["xdp_mode"];
    assert_eq!(mode, "generic");
    let before = too_long(&node);
    let transfer = Transfer::start(&near, &far, &lab.client_address(Node::Worker), BYTES, None);
    wait_until("the connection goes direct", PATIENCE, || {
        direct(&vxgate.status()).flows > 0
    });
    let so_far = transfer.received();
    wait_until("much has come", PATIENCE, || {
        transfer.received() > so_far + ENOUGH
    });
    transfer.enough();
    transfer.finish();
    let status = vxgate.balanced();
    assert_eq!(status.0["reasons"], serde_json::json!([]), "{}", status.0);
    assert_eq!(too_long(&node), before);
    // To the workers, and behind them past the kernel all the same.
    assert!(handed_up(&status, "in", "ring") > 0);
    let ring_in = &status.0["direct"]["ring_in"]["forwarded"];
    assert!(ring_in.as_u64() > Some(0), "{}", status.0["direct"]);
}

/// Each way has its own gear, and whoever asks is told of the lower one.
#[test]
fn a_flow_that_comes_in_behind_gro_is_said_to_come_by_the_ring_gear() {
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    node.script(BRIDGED);
    let vxgate = Vxgate::start(&node, DIRECT);
    let mut talk = talk(&lab);
    let mut flow = Value::Null;
    wait_until("it goes both ways, each in its gear", PATIENCE, || {
        talk.ask(64);
        flow = flow_of(&vxgate, &talk);
        let carried = |key: &str| flow[key].as_u64() > Some(0);
        carried("out_frames") && carried("ring_in_frames")
    });
    assert_eq!(
        (&flow["gear"], &flow["in_frames"]),
        (&"express".into(), &0.into())
    );
    let why = flow["why_not_higher"].as_str().expect("a reason");
    assert!(why.starts_with("to the pod by the ring gear"), "{why}");
}
