//! XDP at the pods' devices: what it takes, what it leaves to the classifier behind it, and what it costs the pods.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::flows::assert_answered;
use super::talk::Talk;
use super::{PATIENCE, changes, direct, mac_text, talk};
use crate::cli::attach_foreign_program;
use crate::support::frames::RawSocket;
use crate::support::lab::{Lab, Node};
use crate::support::netns::Netns;
use crate::support::vxgate::{Status, Vxgate};
use crate::support::wait_until;
use crate::who::{DIRECT_BY_XDP, finish_checksums, take_redirects};

const PAYLOADS: [usize; 5] = [1, 2, 64, 555, 1400];
/// Frames of a window, many more than the kernel is shown of it.
const FRAMES: u64 = 40;

/// What `ethtool -k` says is on.
fn features(pod: &Netns) -> BTreeSet<String> {
    let listed = pod.run("ethtool -k eth0");
    let on = listed.lines().filter_map(|line| {
        let (name, state) = line.trim().split_once(": ")?;
        state.starts_with("on").then(|| name.to_owned())
    });
    // Not features, but words for several.
    let several = [
        "tcp-segmentation-offload",
        "tx-checksumming",
        "rx-checksumming",
        "scatter-gather",
    ];
    on.filter(|name| !several.contains(&name.as_str()))
        .collect()
}

fn by_xdp(status: &Status) -> u64 {
    status.0["direct"]["out_by_xdp"].as_u64().expect("a count")
}

/// How the frames of each pod's device are taken.
fn sending(status: &Status) -> Vec<Value> {
    let pods = status.0["direct"]["pod_devices"].as_object().expect("pods");
    pods.values().map(|pod| pod["sending"].clone()).collect()
}

fn until_pods_send_by(vxgate: &Vxgate, programs: &[&str]) {
    wait_until(&format!("pods send by {programs:?}"), PATIENCE, || {
        sending(&vxgate.status()) == programs
    });
}

/// Waits until none of twenty questions on end is lost.
fn until_all_answered(talk: &mut Talk, when: &str) {
    wait_until(&format!("answers come {when}"), PATIENCE, || {
        (0..20).all(|_| talk.ask(64))
    });
}

#[test]
fn finished_frames_go_by_xdp_and_unfinished_ones_by_the_classifier_and_all_arrive() {
    let lab = Lab::up();
    take_redirects(&lab);
    let (node, client) = (lab.node(Node::Master), lab.client(Node::Master));
    let before = features(&client);
    let vxgate = Vxgate::start(&node, DIRECT_BY_XDP);
    until_pods_send_by(&vxgate, &["xdp", "xdp"]);
    // What it costs the pod is what `status` says.
    let lost: BTreeSet<_> = before.difference(&features(&client)).cloned().collect();
    let status = vxgate.status();
    let pods = status.0["direct"]["pod_devices"].as_object().expect("pods");
    for pod in pods.values() {
        let told = pod["offloads_lost"].as_array().expect("a list").iter();
        let told: BTreeSet<_> = told
            .map(|name| name.as_str().expect("a name").to_owned())
            .collect();
        assert_eq!(told, lost);
        assert_eq!(
            (&pod["mtu"], &pod["why_not_xdp"]),
            (&1450.into(), &Value::Null)
        );
    }
    let said = vxgate.tell(&["status"]).out;
    assert!(said.contains("sending: 2 of 2 pods by XDP"), "{said}");
    // Sockets leave their checksums to the device.
    let mut talk = talk(&lab);
    talk.until_direct(&vxgate);
    assert_answered(&mut talk, &vxgate, PAYLOADS);
    assert_eq!(by_xdp(&vxgate.balanced()), 0);
    // By another hand the same flow's frames are finished.
    let wire = RawSocket::open(&client, "eth0");
    let frame = talk.forged(&mac_text(&client), &lab.mac(Node::Master, "cni0"));
    wait_until("frames that a pod has finished go by XDP", PATIENCE, || {
        talk.until_direct(&vxgate);
        let before = vxgate.balanced();
        (0..FRAMES).for_each(|_| wire.send(&frame));
        talk.hear_out();
        let after = vxgate.balanced();
        let more = by_xdp(&after) - by_xdp(&before);
        more == FRAMES
            && direct(&after).out == direct(&before).out + FRAMES
            && direct(&after).into >= direct(&before).into + FRAMES
    });
    // Nothing of theirs was left to finish.
    client.run("ethtool -K eth0 tx off");
    talk.until_direct(&vxgate);
    let before_talk = by_xdp(&vxgate.balanced());
    assert_answered(&mut talk, &vxgate, PAYLOADS);
    assert!(by_xdp(&vxgate.balanced()) >= before_talk + PAYLOADS.len() as u64);
    client.run("ethtool -K eth0 tx on");
    // Longer packets than a buffer are none of XDP's, and are no less the pod's.
    client.run("ip link set eth0 mtu 9000");
    client.run("ip link set eth0 mtu 1450");
    let status = vxgate.balanced();
    assert_eq!(status.state(), "healthy", "{}", status.0);
    vxgate.stop();
    wait_until("the pod has its offloads back", PATIENCE, || {
        features(&client) == before
    });
}

#[test]
fn a_killed_or_hanging_daemon_takes_nothing_from_anybody() {
    let lab = Lab::up();
    take_redirects(&lab);
    finish_checksums(&lab);
    let (node, client) = (lab.node(Node::Master), lab.client(Node::Master));
    let before = features(&client);
    let mut vxgate = Vxgate::start(&node, DIRECT_BY_XDP);
    let mut talk = talk(&lab);
    talk.until_direct(&vxgate);
    wait_until("it goes by XDP", PATIENCE, || {
        talk.ask(64);
        by_xdp(&vxgate.status()) > 0
    });
    vxgate.signal(Signal::SIGSTOP);
    until_all_answered(&mut talk, "beside who hangs");
    vxgate.signal(Signal::SIGCONT);
    talk.until_direct(&vxgate);
    vxgate.signal(Signal::SIGKILL);
    vxgate.wait();
    until_all_answered(&mut talk, "without it");
    wait_until("the pod has its offloads back", PATIENCE, || {
        features(&client) == before
    });
}

#[test]
fn somebody_elses_program_stays_and_its_pod_has_the_classifier() {
    let lab = Lab::up();
    take_redirects(&lab);
    let node = lab.node(Node::Master);
    let devices: Value =
        serde_json::from_str(&node.run("ip -json link show master cni0")).expect("JSON");
    let device = devices[0]["ifname"].as_str().expect("a name").to_owned();
    attach_foreign_program(&node, &device);
    let vxgate = Vxgate::start(&node, DIRECT_BY_XDP);
    let pod = || vxgate.status().0["direct"]["pod_devices"][&device].clone();
    wait_until("it is left alone", PATIENCE, || {
        let why = pod()["why_not_xdp"].as_str().unwrap_or_default().to_owned();
        why.contains("already runs another XDP program")
    });
    assert_eq!(pod()["sending"], "classifier");
    let said = vxgate.tell(&["status"]).out;
    assert!(said.contains("sending: 1 of 2 pods by XDP"), "{said}");
    let mut talk = talk(&lab);
    talk.until_direct(&vxgate);
    let shown = node.run(&format!("ip link show dev {device}"));
    assert!(shown.contains("prog/xdp"), "{shown}");
    node.run(&format!("ip link set dev {device} xdp off"));
    until_pods_send_by(&vxgate, &["xdp", "xdp"]);
}

#[test]
fn an_underlay_that_takes_no_frames_from_xdp_has_them_from_the_classifier() {
    let lab = Lab::up();
    finish_checksums(&lab);
    let (node, far) = (lab.node(Node::Master), lab.netns("sw"));
    let vxgate = Vxgate::start(&node, DIRECT_BY_XDP);
    let mut talk = talk(&lab);
    talk.until_direct(&vxgate);
    until_pods_send_by(&vxgate, &["classifier", "classifier"]);
    let status = vxgate.status();
    let pods = status.0["direct"]["pod_devices"].as_object().expect("pods");
    for pod in pods.values() {
        let why = pod["why_not_xdp"].as_str().expect("a reason");
        assert!(
            why.contains("no underlay device takes frames from XDP"),
            "{why}"
        );
        assert_eq!(pod["offloads_lost"], serde_json::json!([]));
    }
    for (state, programs) in [("on", "xdp"), ("off", "classifier"), ("on", "xdp")] {
        let before = vxgate.status();
        far.run(&format!("ethtool -K p1 gro {state}"));
        until_pods_send_by(&vxgate, &[programs; 2]);
        wait_until("it is heard of", PATIENCE, || {
            changes(&vxgate.status()) > changes(&before)
        });
        talk.until_direct(&vxgate);
        let before = vxgate.status();
        assert_answered(&mut talk, &vxgate, PAYLOADS);
        let more = by_xdp(&vxgate.balanced()) - by_xdp(&before);
        assert_eq!(more > 0, programs == "xdp");
    }
    // It ends nothing by itself: a quiet node has no changes.
    let before = changes(&vxgate.status());
    talk.until_direct(&vxgate);
    assert_eq!(changes(&vxgate.status()), before);
}
