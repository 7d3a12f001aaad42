//! NICs with several queues: a worker each, fewer workers than queues, and a queue that nobody serves.

use std::time::Duration;

use crate::support::bulk::{self, Transfer};
use crate::support::lab::{Lab, LabOptions, Node};
use crate::support::vxgate::{Status, Vxgate};
use crate::support::wait_until;
use crate::who::Who;

const TWO_QUEUES: LabOptions = LabOptions {
    queues: 2,
    routed: false,
    offloads: true,
};

#[test]
fn two_queues_and_two_workers_share_the_traffic() {
    let lab = Lab::with(TWO_QUEUES);
    let gateways = Who::Both.start_with(&lab, &["--workers", "2"]);
    many_flows(&lab);
    for (_, vxgate) in gateways {
        let status = vxgate.balanced();
        assert_queues(&status, 2, 2);
        for worker in status.list("workers") {
            assert_eq!(worker["alive"], true);
            assert!(worker["turns"].as_u64().expect("a count") > 0);
        }
        vxgate.stop();
    }
}

#[test]
fn one_worker_serves_both_queues() {
    let lab = Lab::with(TWO_QUEUES);
    let vxgate = Vxgate::start(&lab.node(Node::Worker), &["--workers", "1"]);
    many_flows(&lab);
    let status = vxgate.balanced();
    assert_queues(&status, 2, 1);
    assert_eq!(
        status.passed("underlay", "no_socket"),
        0,
        "no queue is left to the kernel"
    );
    vxgate.stop();
}

#[test]
fn frames_on_a_queue_without_a_socket_are_carried_by_the_kernel() {
    let lab = Lab::with(TWO_QUEUES);
    let (node, switch) = (lab.node(Node::Worker), lab.netns("sw"));
    // One queue of two is in use when vxgate starts; the other comes up later, live, as an administrator would do it. The
    // sender's side follows the receiver's: native XDP wants no fewer receive queues than its peer may send to.
    switch.run("ethtool -L p2 tx 1");
    node.run("ethtool -L eth1 rx 1");
    let vxgate = Vxgate::start(&node, &[]);
    node.run("ethtool -L eth1 rx 2");
    switch.run("ethtool -L p2 tx 2");
    many_flows(&lab);
    let status = vxgate.balanced();
    let passed = status.passed("underlay", "no_socket");
    println!(
        "    {passed} frames carried by the kernel, {} by vxgate",
        status.forwarded("underlay")
    );
    let covered = status
        .list("ports")
        .any(|port| port["name"] == "eth1" && port["queues"] == 2);
    assert!(
        passed > 0 || covered,
        "the second queue is the kernel's, or vxgate has taken it: {}",
        status.0
    );
    assert!(
        status.forwarded("underlay") > 0,
        "the first queue is still vxgate's"
    );
    vxgate.stop();
}

#[test]
fn an_idle_gateway_sleeps() {
    let lab = Lab::up();
    let vxgate = Vxgate::start(&lab.node(Node::Worker), &[]);
    let processor_ticks = || {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", vxgate.pid())).expect("it runs");
        let fields: Vec<&str> = stat
            .rsplit_once(") ")
            .expect("a stat line")
            .1
            .split(' ')
            .collect();
        // utime and stime are the 14th and 15th fields of the line, in ticks of 10 ms.
        fields[11].parse::<u64>().expect("ticks") + fields[12].parse::<u64>().expect("ticks")
    };
    // Whatever starting left to do is done when a whole second costs less than 2 %; then five seconds count.
    let mut last = processor_ticks();
    wait_until("the start is over", Duration::from_secs(20), || {
        std::thread::sleep(Duration::from_secs(1));
        let (now, before) = (processor_ticks(), last);
        last = now;
        now - before < 2
    });
    std::thread::sleep(Duration::from_secs(5));
    let ticks = processor_ticks() - last;
    println!("    idle for 5 s: {} ms of processor time", ticks * 10);
    assert!(
        ticks <= 5,
        "an idle gateway uses at most 1 % of a core: {ticks} ticks in 5 s"
    );
    vxgate.stop();
}

fn many_flows(lab: &Lab) {
    let [master, worker] = [lab.client(Node::Master), lab.client(Node::Worker)];
    bulk::udp_flows(&master, &worker, &lab.client_address(Node::Worker), 200);
    bulk::tcp_flows(&worker, &master, &lab.client_address(Node::Master), 32);
    Transfer::start(
        &master,
        &worker,
        &lab.client_address(Node::Worker),
        20 << 20,
        None,
    )
    .finish();
}

fn assert_queues(status: &Status, queues: u64, workers: usize) {
    assert_eq!(status.list("workers").count(), workers);
    let nic = status
        .list("ports")
        .find(|port| port["name"] == "eth1")
        .expect("eth1 is a port");
    assert_eq!(nic["queues"], queues);
    assert_eq!(nic["xdp_mode"], "native");
    assert!(status.forwarded("underlay") > 0 && status.forwarded("access") > 0);
}
