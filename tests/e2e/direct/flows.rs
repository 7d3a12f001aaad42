//! What is promoted, what it carries, and what brings it back.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Instant;

use serde_json::Value;

use super::calls::{CONNECTIONS, Trouble, survive};
use super::{
    Ear, FORGED, PATIENCE, Talk, address, changes, direct, dropped, flow_of, forged_is_handed_up,
    forger, handed_up, mac_text, talk,
};
use crate::support::bulk::Transfer;
use crate::support::frames::{RawSocket, VxlanFrame, mac};
use crate::support::lab::{Lab, LabOptions, Node};
use crate::support::vxgate::{Status, Vxgate};
use crate::support::wait_until;
use crate::who::{DIRECT, DIRECT_BY_XDP, Flags, KUBE_PROXY, ready_for_xdp};

/// Bytes a second of a transfer that is bulk, and takes long enough to be judged while it lasts.
const BULK_RATE: u64 = 16 << 20;
/// Frames that a rule forbids.
const FORBIDDEN: u64 = 50;
const PAYLOADS: [usize; 5] = [1, 2, 64, 555, 1400];

#[test]
fn a_udp_flow_is_promoted_and_every_answer_is_what_was_said() {
    // A pod with GRO takes frames from XDP as they are.
    for (offloads, gro) in [(true, false), (false, true)] {
        let lab = Lab::with(LabOptions {
            offloads,
            ..LabOptions::default()
        });
        if gro {
            lab.client(Node::Master).run("ethtool -K eth0 gro on");
        }
        let vxgate = Vxgate::start(&lab.node(Node::Master), DIRECT);
        let mut talk = talk(&lab);
        talk.until_direct(&vxgate);
        assert_answered(&mut talk, &vxgate, PAYLOADS);
        let mut listed = Value::Null;
        wait_until("the flow is listed", PATIENCE, || {
            assert!(talk.ask(64));
            listed = flow_of(&vxgate, &talk);
            listed["gear"] == "express" && listed["out_frames"].as_u64() > Some(0)
        });
        assert_eq!(listed["vtep"], lab.vtep_address(Node::Worker), "{listed}");
        let status = vxgate.balanced();
        assert_eq!(status.0["direct"]["in"]["in_flight"], 0);
        assert_eq!(status.0["direct"]["pods_by_xdp"], u64::from(gro));
        assert_eq!(status.state(), "healthy", "{}", status.0);
        drop(talk);
        vxgate.stop();
    }
}

/// Asks with every length, over the direct path, and hears each answer.
pub fn assert_answered(talk: &mut Talk, vxgate: &Vxgate, payloads: [usize; 5]) {
    let before = direct(&vxgate.status());
    // Anything that changes in the node meanwhile sends the flow back for a moment.
    wait_until("400 answers went direct", PATIENCE, || {
        for len in payloads.into_iter().cycle().take(100) {
            assert!(talk.ask(len), "{len} bytes");
        }
        let now = direct(&vxgate.status());
        now.out >= before.out + 400 && now.into >= before.into + 400
    });
}

/// So that conntrack does not forget it, and a bridge not where it comes from. The kernel's own device takes and sends that frame.
#[test]
fn now_and_then_the_kernel_carries_a_frame_of_the_flow_each_way() {
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    let vxgate = Vxgate::start(&node, DIRECT);
    let mut talk = talk(&lab);
    talk.until_direct(&vxgate);
    let shown = |status: &Status| ["underlay", "access"].map(|role| status.passed(role, "shown"));
    let [received, sent] = lab.by_kernel(Node::Master);
    let [into, out] = shown(&vxgate.status());
    wait_until("the kernel is shown a frame each way", PATIENCE, || {
        assert!(talk.ask(64), "it arrives like all others");
        let now = shown(&vxgate.status());
        now[0] > into && now[1] > out
    });
    let [received_then, sent_then] = lab.by_kernel(Node::Master);
    assert!(received_then > received && sent_then > sent);
    let before = direct(&vxgate.status());
    assert!(talk.ask(64));
    let after = direct(&vxgate.balanced());
    assert_eq!((after.out, after.into), (before.out + 1, before.into + 1));
}

#[test]
fn a_rule_that_forbids_the_flow_takes_effect_at_once() {
    let lab = Lab::up();
    let pod = lab.client_address(Node::Master);
    a_rule_takes_effect_at_once(&lab, "ip", &pod, || talk(&lab));
}

/// A rule of this family of nftables that forbids what this pod says takes effect at once, on a flow of its.
pub fn a_rule_takes_effect_at_once(
    lab: &Lab,
    family: &str,
    pod: &str,
    talk: impl FnOnce() -> Talk,
) {
    let node = lab.node(Node::Master);
    node.script(&format!(
        "nft 'table {family} np {{ chain forward {{ type filter hook forward priority 0; }}; }}'"
    ));
    let vxgate = Vxgate::start(&node, DIRECT);
    let mut talk = talk();
    talk.until_direct(&vxgate);
    let heard = changes(&vxgate.status());
    node.run(&format!(
        "nft add rule {family} np forward {family} saddr {pod} counter drop"
    ));
    let added = Instant::now();
    wait_until("the rule is heard of", PATIENCE, || {
        changes(&vxgate.status()) > heard
    });
    println!("    status told of the rule {:?} after it", added.elapsed());
    let before = direct(&vxgate.status());
    // From now on every frame meets the rule, and none goes around it.
    for _ in 0..FORBIDDEN {
        talk.say(64);
    }
    assert!(!talk.ask(64), "an answer went around the rule");
    let after = direct(&vxgate.balanced());
    assert_eq!((after.out, after.into), (before.out, before.into));
    assert_eq!(after.flows, 0);
    let seen = dropped(&node, &format!("{family} np"));
    assert!(seen > FORBIDDEN, "the rule saw them all");
    node.run(&format!("nft flush chain {family} np forward"));
    talk.until_direct(&vxgate);
}

#[test]
fn a_bulk_transfer_arrives_whole_in_whatever_gear() {
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    node.script(KUBE_PROXY);
    let vxgate = Vxgate::start(&node, DIRECT);
    transfer_goes_direct(&lab, &vxgate, &lab.client_address(Node::Worker));
}

/// A bulk transfer to this address of the far client's arrives whole, and goes direct in whatever gear.
pub fn transfer_goes_direct(lab: &Lab, vxgate: &Vxgate, address: &str) {
    let (client, far) = (lab.client(Node::Master), lab.client(Node::Worker));
    Transfer::start(&client, &far, address, 32 << 20, Some(BULK_RATE)).finish();
    let status = vxgate.balanced();
    let direct = &status.0["direct"];
    let forwarded = |way: &str| direct[way]["forwarded"].as_u64().expect("a count");
    assert!(forwarded("in") + forwarded("ring_in") > 100, "{direct}");
    assert!(forwarded("out") + forwarded("ring_out") > 100, "{direct}");
    assert_eq!(direct["in"]["in_flight"], 0);
}

#[test]
fn without_a_liberal_conntrack_no_tcp_goes_direct_and_status_says_why() {
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    node.run("sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=0");
    let vxgate = Vxgate::start(&node, DIRECT);
    let (client, far) = (lab.client(Node::Master), lab.client(Node::Worker));
    let address = lab.client_address(Node::Worker);
    Transfer::start(&client, &far, &address, 4 << 20, None).finish();
    let now = direct(&vxgate.status());
    assert_eq!((now.out, now.into), (0, 0));
    let mut talk = talk(&lab);
    talk.until_direct(&vxgate);
    let status = vxgate.status();
    let why = status.0["direct"]["why_not_tcp"]
        .as_str()
        .expect("a reason");
    assert!(why.contains("nf_conntrack_tcp_be_liberal=1"), "{why}");
}

#[test]
fn a_thousand_connections_survive_their_gateway_when_it_hangs_drains_ends_or_dies() {
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    node.script(KUBE_PROXY);
    let connections = (CONNECTIONS, &*lab.client_address(Node::Worker));
    let troubles = [Trouble::Hangs, Trouble::Drains, Trouble::Ends];
    survive(&lab, DIRECT, connections, &troubles);
    println!("    invalid to conntrack: {}", dropped(&node, "ip kube"));
}

#[test]
fn pods_that_come_and_go_leave_nothing_behind() {
    [DIRECT, DIRECT_BY_XDP].into_iter().for_each(come_and_go);
}

fn come_and_go(flags: Flags) {
    const PODS: u64 = 8;
    let lab = Lab::up();
    ready_for_xdp(&lab, flags);
    let (node, elsewhere) = (lab.node(Node::Master), lab.netns("web1"));
    let vxgate = Vxgate::start(&node, flags);
    let pods = || {
        let status = vxgate.status();
        let pods = status.0["direct"]["pods"].as_u64();
        pods.expect("a count")
    };
    // Of BPF: others come and go with what it asks the kernel.
    let descriptors = || {
        let folder = format!("/proc/{}/fd", vxgate.pid());
        let all = fs::read_dir(folder).expect("it runs").flatten();
        let targets = all.filter_map(|entry| fs::read_link(entry.path()).ok());
        let of_bpf = targets.filter(|target| target.to_string_lossy().contains("bpf"));
        of_bpf.count()
    };
    wait_until("the lab's pods are attended", PATIENCE, || pods() == 2);
    let before = descriptors();
    for _ in 0..3 {
        for pod in 0..PODS {
            node.run(&format!(
                "ip link add churn{pod} type veth peer name churn{pod} netns {}",
                elsewhere.name()
            ));
            node.run(&format!("ip link set churn{pod} master cni0 up"));
        }
        wait_until("the pods are attended", PATIENCE, || pods() == 2 + PODS);
        assert!(descriptors() > before, "each has programs");
        for pod in 0..PODS {
            node.run(&format!("ip link del churn{pod}"));
        }
        wait_until("the pods are gone", PATIENCE, || pods() == 2);
    }
    wait_until("their descriptors, too", PATIENCE, || {
        descriptors() == before
    });
    let mut talk = talk(&lab);
    talk.until_direct(&vxgate);
}

#[test]
fn another_pod_with_the_same_address_gets_its_own_frames_and_the_old_one_none() {
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    let vxgate = Vxgate::start(&node, DIRECT);
    let (old, new) = (lab.client(Node::Master), lab.netns("web1"));
    let address = lab.client_address(Node::Master);
    // Asked from afar, so that the far end's flow stays the same when its pod becomes another.
    let mut talk = Talk::start(&lab.client(Node::Worker), &old, &address);
    talk.until_direct(&vxgate);
    let port = talk.ends()[1].port();
    let mut to_old = Ear::open(&old, port);
    old.run(&format!("ip addr del {address}/24 dev eth0"));
    new.run(&format!("ip addr add {address}/24 dev eth0"));
    node.run("ip neigh flush dev cni0");
    let mut to_new = Ear::open(&new, port);
    wait_until("the new pod is asked", PATIENCE, || {
        talk.ask(64);
        to_new.heard() > 0
    });
    let (before, so_far) = (to_old.heard(), to_new.heard());
    wait_until("the new pod is asked again and again", PATIENCE, || {
        // It does not expect it: every other attempt meets its refusal.
        for _ in 0..10 {
            talk.ask(64);
        }
        to_new.heard() >= so_far + 50
    });
    assert_eq!(to_old.heard(), before, "nothing to the old pod");
}

#[test]
fn what_another_pod_forges_of_a_promoted_flow_stays_with_the_kernel() {
    [DIRECT, DIRECT_BY_XDP].into_iter().for_each(forge);
}

fn forge(flags: Flags) {
    let lab = Lab::up();
    ready_for_xdp(&lab, flags);
    let vxgate = Vxgate::start(&lab.node(Node::Master), flags);
    let forger = forger(&lab);
    let mut talk = talk(&lab);
    let gateway = lab.mac(Node::Master, "cni0");
    let wire = RawSocket::open(&forger, "eth0");
    // With its own Ethernet address, and with that of the pod that it pretends to be: then the bridge takes it for that pod,
    // which is a change, and demotes the flow.
    let own = mac_text(&forger);
    let other = mac_text(&lab.client(Node::Master));
    for (from, reason) in [(&own, "spoofed"), (&other, "total")] {
        let frame = talk.forged(from, &gateway);
        forged_is_handed_up(&mut talk, &vxgate, (&wire, &frame), reason);
    }
    talk.until_direct(&vxgate);
    // As a far node's, to this node and to the other: a tunnel inside of what is a pod's frame to everybody.
    let before = vxgate.status();
    let devices = [Node::Worker, Node::Master].map(|node| mac(&lab.mac(node, "flannel.1")));
    for to in [Node::Master, Node::Worker] {
        let tunnel = VxlanFrame {
            outer_macs: [mac(&mac_text(&forger)), mac(&gateway)],
            outer: [Node::Worker, to].map(|node| address(&lab.vtep_address(node))),
            inner_macs: devices,
            inner: [Ipv4Addr::UNSPECIFIED; 2],
            port: 0,
        };
        for _ in 0..FORGED / 2 {
            wire.send(&tunnel.around(&talk.answer(devices)));
        }
    }
    wait_until("the forged tunnels are handed up", PATIENCE, || {
        let now = handed_up(&vxgate.status(), "out", "total");
        now >= handed_up(&before, "out", "total") + FORGED
    });
    let (before, after) = (direct(&before), direct(&vxgate.balanced()));
    assert_eq!((after.out, after.into), (before.out, before.into));
}
