//! The ring gear of the direct path: bulk TCP of promoted flows goes in superframes around the kernel's routing and filters, from
//! pods by the kernel's own vxlan device, and comes back to the kernel as all flows do. To pods it goes express, or by the workers
//! where nothing does.

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    FORGED, PATIENCE, Talk, changes, direct, dropped, flow_of, forger, handed_up, mac_text, talk,
};
use crate::support::bulk::Transfer;
use crate::support::frames::RawSocket;
use crate::support::lab::{Lab, Node};
use crate::support::vxgate::{Status, Superframes, Vxgate};
use crate::support::wait_until;
use crate::who::{DIRECT, DIRECT_BY_RING, Flags, KUBE_PROXY};

/// Bytes a second each way of a transfer that goes on until there is enough: far less than a busy machine carries.
const RATE: u64 = 16 << 20;
/// What has to arrive both ways for it to go on.
const SHARE: u64 = 2 << 20;
/// Answers that are counted.
const ANSWERS: u64 = 200;
/// More than the vxlan device takes, and less than the test's own buffers.
const LARGE: usize = 2000;
/// Frames of the wire that tell that a flow is in the ring gear.
const MANY: u64 = 500;

/// Frames of the wire that the ring gear forwarded: from pods, and to them.
fn ring(status: &Status) -> [u64; 2] {
    forwarded(status, ["ring_out", "ring_in"])
}

/// The same of bulk: its pod's superframes are the ring gear's, what it is sent is express.
fn bulk(status: &Status) -> [u64; 2] {
    forwarded(status, ["ring_out", "in"])
}

fn forwarded(status: &Status, ways: [&str; 2]) -> [u64; 2] {
    ways.map(|way| {
        let way = &status.0["direct"][way];
        way["forwarded"]
            .as_u64()
            .unwrap_or_else(|| panic!("a count: {way}"))
    })
}

/// A transfer between node 1's client and node 2's, both ways at once.
fn transfer(lab: &Lab) -> Transfer {
    let (client, far) = (lab.client(Node::Master), lab.client(Node::Worker));
    Transfer::start(
        &client,
        &far,
        &lab.client_address(Node::Worker),
        u64::MAX,
        Some(RATE),
    )
}

fn until_direct(vxgate: &Vxgate) {
    until_by(vxgate, bulk);
}

fn until_by(vxgate: &Vxgate, counted: fn(&Status) -> [u64; 2]) {
    let before = counted(&vxgate.status());
    wait_until("bulk goes direct, both ways", PATIENCE, || {
        let now = counted(&vxgate.status());
        now[0] >= before[0] + MANY && now[1] >= before[1] + MANY
    });
}

#[test]
fn bulk_tcp_goes_whole_and_around_the_kernels_filters() {
    bulk_goes_whole(Superframes::Auto, DIRECT, bulk);
}

/// As with an older kernel, or a NIC that has zero-copy: who cuts is no matter to what never gets to a worker.
#[test]
fn where_the_workers_cut_bulk_tcp_goes_whole_as_well() {
    bulk_goes_whole(Superframes::Cut, DIRECT, bulk);
}

#[test]
fn without_express_the_workers_join_what_a_pod_is_sent_of_bulk_tcp() {
    let status = bulk_goes_whole(Superframes::Auto, DIRECT_BY_RING, ring);
    let mut ports = status.list("ports");
    let joined =
        ports.any(|port| port["role"] == "underlay" && port["superframes"].as_u64() > Some(0));
    assert!(joined, "{}", status.0);
}

fn bulk_goes_whole(
    superframes: Superframes,
    flags: Flags,
    counted: fn(&Status) -> [u64; 2],
) -> Status {
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    node.script(KUBE_PROXY);
    // What the kernel routes, it counts here.
    node.script(
        "nft 'table ip seen { chain forward { type filter hook forward priority 1; counter; }; }'",
    );
    let vxgate = Vxgate::start_with(&node, superframes, flags);
    let running = transfer(&lab);
    until_by(&vxgate, counted);
    let mut flow = Value::Null;
    wait_until("the flow is listed as what it is", PATIENCE, || {
        let flows = vxgate.ask_json(&["flows"]);
        let mut flows = flows["flows"].as_array().expect("a list").iter();
        flow = flows
            .find(|flow| flow["gear"] == "ring" && flow["ring_out_frames"].as_u64() > Some(0))
            .cloned()
            .unwrap_or_default();
        !flow.is_null()
    });
    let why = flow["why_not_higher"].as_str().expect("a reason");
    assert!(why.contains("the kernel's own vxlan device"), "{flow}");
    // Some later frames do not pass the kernel's hooks: it sees those that it is shown, and those of a moment without a flow.
    let by_kernel = dropped(&node, "seen");
    let before = vxgate.status();
    wait_until("it carries more", PATIENCE, || {
        let (before, now) = (counted(&before), counted(&vxgate.status()));
        now[0] >= before[0] + 4 * MANY && now[1] >= before[1] + 4 * MANY
    });
    let seen = dropped(&node, "seen") - by_kernel;
    println!("    the kernel saw {seen} frames meanwhile");
    running.enough();
    running.finish();
    let status = vxgate.balanced();
    assert_eq!(status.state(), "healthy", "{}", status.0);
    let [out, into] = counted(&status);
    println!("    {out} out, {into} in; express: {:?}", direct(&status));
    // The kernel's own device sends what the pod does.
    let left = |status: &Status| status.passed("access", "superframe");
    assert!(left(&status) >= left(&before) + 4 * MANY);
    vxgate.stop();
    status
}

#[test]
fn a_transfer_of_bulk_survives_its_gateway_when_it_hangs_drains_ends_or_dies() {
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    node.script(KUBE_PROXY);
    let vxgate = Vxgate::start(&node, DIRECT);
    let running = transfer(&lab);
    let goes_on = |what: &str| {
        let before = running.received();
        wait_until(what, PATIENCE, || running.received() >= before + SHARE);
    };
    until_direct(&vxgate);
    vxgate.signal(Signal::SIGSTOP);
    goes_on("the transfer goes on past who hangs");
    vxgate.signal(Signal::SIGCONT);
    until_direct(&vxgate);
    vxgate.tell(&["drain"]).printed();
    let drained = bulk(&vxgate.status());
    goes_on("the transfer goes on while it is drained");
    assert!(bulk(&vxgate.status())[0] <= drained[0] + MANY);
    vxgate.tell(&["resume"]).printed();
    until_direct(&vxgate);
    vxgate.balanced();
    vxgate.stop();
    goes_on("the transfer goes on without it");
    let mut vxgate = Vxgate::start(&node, DIRECT);
    until_direct(&vxgate);
    vxgate.signal(Signal::SIGKILL);
    vxgate.wait();
    goes_on("the transfer goes on when it is dead");
    running.enough();
    running.finish();
    println!("    invalid to conntrack: {}", dropped(&node, "kube"));
}

#[test]
fn a_rule_that_forbids_a_transfer_of_bulk_stops_it() {
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    node.script(KUBE_PROXY);
    node.script("nft 'table ip np { chain forward { type filter hook forward priority 0; }; }'");
    let vxgate = Vxgate::start(&node, DIRECT);
    let running = transfer(&lab);
    until_direct(&vxgate);
    let pod = lab.client_address(Node::Master);
    let heard = changes(&vxgate.status());
    node.run(&format!(
        "nft add rule ip np forward ip saddr {pod} counter drop"
    ));
    wait_until("the rule is heard of", PATIENCE, || {
        changes(&vxgate.status()) > heard
    });
    let before = bulk(&vxgate.status());
    wait_until("the rule meets what the pod sends again", PATIENCE, || {
        dropped(&node, "np") >= 3
    });
    assert_eq!(bulk(&vxgate.balanced()), before, "none goes around it");
    node.run("nft flush chain ip np forward");
    until_direct(&vxgate);
    running.enough();
    running.finish();
}

/// Asks until every frame of a conversation goes by the ring gear, both ways, and is counted there once.
fn until_all_in_ring(talk: &mut Talk, vxgate: &Vxgate) {
    wait_until("every frame goes by the ring gear", PATIENCE, || {
        let before = ring(&vxgate.status());
        let answers = (0..ANSWERS).filter(|_| talk.ask(64)).count() as u64;
        let now = ring(&vxgate.status());
        let counted = [now[0] - before[0], now[1] - before[1]];
        assert!(counted.iter().all(|count| *count <= ANSWERS), "{counted:?}");
        answers == ANSWERS && counted == [ANSWERS; 2]
    });
}

#[test]
fn without_express_every_frame_of_a_flow_goes_by_the_ring_gear_or_to_the_kernel() {
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    let vxgate = Vxgate::start(&node, DIRECT_BY_RING);
    let mut talk = talk(&lab);
    until_all_in_ring(&mut talk, &vxgate);
    for len in [1, 2, 555, 1400] {
        assert!(talk.ask(len), "{len} bytes");
    }
    let status = vxgate.balanced();
    assert_eq!((direct(&status).out, direct(&status).into), (0, 0));
    assert_eq!(status.0["direct"]["why_not_express"], "express = false");
    assert_eq!(status.state(), "healthy", "{}", status.0);
    let listed = flow_of(&vxgate, &talk);
    assert_eq!(listed["gear"], "ring", "{listed}");

    // What has no hop left, the kernel tells its sender.
    let pod = lab.client(Node::Master);
    let wire = RawSocket::open(&pod, "eth0");
    let socket = talk.twin();
    socket.set_ttl(1).expect("IP_TTL");
    let before = handed_up(&vxgate.status(), "out", "ttl");
    wait_until("the pod is told that its TTL is used up", PATIENCE, || {
        talk.say(64);
        let mut frames = std::iter::from_fn(|| wire.receive());
        frames.any(|frame| frame.len() >= 35 && frame[23] == 1 && frame[34] == 11)
    });
    assert!(handed_up(&vxgate.status(), "out", "ttl") > before);
    socket.set_ttl(64).expect("IP_TTL");
    until_all_in_ring(&mut talk, &vxgate);

    // In the pod's name, by another pod.
    let forger = forger(&lab);
    let (own, gateway) = (mac_text(&forger), lab.mac(Node::Master, "cni0"));
    let other = RawSocket::open(&forger, "eth0");
    wait_until("the forged frames are handed up", PATIENCE, || {
        until_all_in_ring(&mut talk, &vxgate);
        let before = vxgate.status();
        (0..FORGED).for_each(|_| other.send(&talk.forged(&own, &gateway)));
        let more =
            |reason| handed_up(&vxgate.status(), "out", reason) - handed_up(&before, "out", reason);
        wait_until("they have a fate", PATIENCE, || more("total") >= FORGED);
        assert_eq!(ring(&vxgate.status())[0], ring(&before)[0], "none goes out");
        talk.hear_out();
        more("spoofed") >= FORGED
    });

    // What is too long for the vxlan device, the kernel tells its sender, who cuts it.
    pod.run("ip link set eth0 mtu 3000");
    let device = flow_of(&vxgate, &talk)["device"].clone();
    let device = device.as_str().expect("the pod's device");
    node.run(&format!("ip link set {device} mtu 3000"));
    until_all_in_ring(&mut talk, &vxgate);
    wait_until("the pod has learned", PATIENCE, || talk.ask(LARGE));
    assert!(handed_up(&vxgate.status(), "ring_out", "oversize") > 0);
    vxgate.balanced();
    vxgate.stop();
}
