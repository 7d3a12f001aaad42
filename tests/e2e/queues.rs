//! NICs with several queues: a worker each, fewer workers than queues, and a queue that nobody serves.

use std::fs;
use std::ops::Range;
use std::time::Duration;

use crate::support::bulk::{self, Transfer};
use crate::support::lab::{Lab, LabOptions, Node};
use crate::support::vxgate::{Status, Superframes, Vxgate};
use crate::support::wait_until;
use crate::who::Who;

/// Two nodes whose `eth1` have two queues.
pub const TWO_QUEUES: LabOptions = LabOptions {
    queues: 2,
    routed: false,
    dual_stack: false,
    offloads: true,
    mtu: 1500,
};

/// By when it has looked at the devices without having been told to, several times over.
const LOOKS_WITHIN: Duration = Duration::from_secs(30);

#[test]
fn two_queues_and_two_workers_share_the_traffic() {
    two_workers_share(Superframes::Auto);
}

#[test]
fn two_queues_and_two_workers_share_the_traffic_without_superframes() {
    two_workers_share(Superframes::Off);
}

fn two_workers_share(superframes: Superframes) {
    let lab = Lab::with(TWO_QUEUES);
    let gateways = Who::Both.start_with(&lab, superframes, &["--workers", "2"]);
    each_queue_in_turn(&lab);
    for (node, vxgate) in gateways {
        let status = vxgate.balanced();
        assert_queues(&status, 2, 2);
        assert_eq!(
            status.passed("underlay", "no_socket"),
            0,
            "no queue is left to the kernel"
        );
        for worker in status.list("workers") {
            assert_eq!(worker["alive"], true);
            assert!(worker["turns"].as_u64().expect("a count") > 0);
        }
        println!("    {node:?}: {}", status.0["workers"]);
        vxgate.stop();
    }
}

#[test]
fn one_worker_serves_both_queues() {
    let lab = Lab::with(TWO_QUEUES);
    let vxgate = Vxgate::start(&lab.node(Node::Worker), &["--workers", "1"]);
    each_queue_in_turn(&lab);
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
    each_queue_in_turn(&lab);
    // Whether the steering program sees the new queue is the driver's affair (a veth gives it to the kernel at once, other
    // drivers run the program there, which counts `no_socket`): the traffic above crossed either way, and this is its trace.
    let kernel: u64 = flannel_packets(&lab);
    let status = vxgate.balanced();
    println!(
        "    {kernel} frames carried by the kernel, {} by vxgate",
        status.forwarded("underlay")
    );
    let covered = |status: &Status| {
        let mut ports = status.list("ports");
        ports.any(|port| port["name"] == "eth1" && port["queues"] == 2)
    };
    assert!(
        kernel > 100 || covered(&status),
        "the second queue is the kernel's, or vxgate has taken it: {}",
        status.0
    );
    // Nobody tells of a queue more: it looks by itself now and then, and what it carried before counts no more.
    wait_until("vxgate has taken the second queue", LOOKS_WITHIN, || {
        covered(&vxgate.status())
    });
    each_queue_in_turn(&lab);
    let status = vxgate.balanced();
    assert!(status.forwarded("underlay") > 100, "{}", status.0);
    assert_eq!(status.passed("underlay", "no_socket"), 0);
    vxgate.stop();
}

#[test]
fn an_idle_gateway_sleeps() {
    let lab = Lab::up();
    let vxgate = Vxgate::start(&lab.node(Node::Worker), &[]);
    let processor_ticks = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", vxgate.pid())).expect("it runs");
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
    // The shipped program is held to 1 % of a core by the benchmark (`scripts/bench.sh --only idle`). This one is unoptimised, and
    // takes three times as much of it: whoever does not sleep takes all.
    assert!(ticks <= 15, "an idle gateway sleeps: {ticks} ticks in 5 s");
    vxgate.stop();
}

/// Traffic of many flows that enters the worker's NIC by its first queue alone, then by its second alone, then by both.
fn each_queue_in_turn(lab: &Lab) {
    let [master, worker] = [lab.client(Node::Master), lab.client(Node::Worker)];
    for queues in [&[0][..], &[1], &[0, 1]] {
        let before = [0, 1].map(|queue| frames_on_queue(lab, queue));
        send_by_queues(lab, queues);
        bulk::udp_flows(&master, &worker, &lab.client_address(Node::Worker), 100);
        bulk::tcp_flows(&worker, &master, &lab.client_address(Node::Master), 16);
        Transfer::start(
            &master,
            &worker,
            &lab.client_address(Node::Worker),
            4 << 20,
            None,
        )
        .finish();
        let arrived = [0, 1].map(|queue| frames_on_queue(lab, queue) - before[queue]);
        println!("    by queues {queues:?}: {arrived:?} frames");
        for &queue in queues {
            // On one processor alone the kernel may choose one of two queues for everything.
            assert!(
                arrived[queue] > 100 || queues.len() > 1,
                "the traffic enters by the queue it was sent to: {arrived:?}"
            );
        }
    }
}

/// Frames that the kernel's own vxlan device decapsulated on the worker.
fn flannel_packets(lab: &Lab) -> u64 {
    let text = lab
        .node(Node::Worker)
        .run("ip -json -s link show dev flannel.1");
    let links: serde_json::Value = serde_json::from_str(&text).expect("ip prints JSON");
    links[0]["stats64"]["rx"]["packets"]
        .as_u64()
        .expect("a count")
}

/// Binds the switch's side of the worker's cable to transmit queues: all processors to the last of them, one to each before.
fn send_by_queues(lab: &Lab, queues: &[usize]) {
    let processors = fs::read_to_string("/sys/devices/system/cpu/possible").expect("processors");
    let last: usize = processors
        .trim()
        .rsplit(['-', ','])
        .next()
        .expect("a number")
        .parse()
        .expect("a number");
    let masks: Vec<String> = match queues {
        [0] => vec![mask(0..last + 1), mask(0..0)],
        [1] => vec![mask(0..0), mask(0..last + 1)],
        _ => vec![mask(0..1), mask(1..last + 1)],
    };
    for (queue, mask) in masks.iter().enumerate() {
        let script = format!("echo {mask} > /sys/class/net/p2/queues/tx-{queue}/xps_cpus");
        let status = lab
            .netns("sw")
            .command("sh")
            .args(["-c", &script])
            .status()
            .expect("sh");
        assert!(status.success(), "{script}");
    }
}

/// A set of processors as the kernel reads it: groups of 32 bits, the highest first.
fn mask(processors: Range<usize>) -> String {
    let mut groups = vec![0_u32; processors.end.div_ceil(32).max(1)];
    for processor in processors {
        groups[processor / 32] |= 1 << (processor % 32);
    }
    let groups: Vec<String> = groups
        .iter()
        .rev()
        .map(|group| format!("{group:08x}"))
        .collect();
    groups.join(",")
}

fn frames_on_queue(lab: &Lab, queue: usize) -> u64 {
    let statistics = lab.node(Node::Worker).run("ethtool -S eth1");
    let line = format!("rx_queue_{queue}_xdp_packets:");
    statistics
        .lines()
        .find_map(|text| text.trim().strip_prefix(&line)?.trim().parse().ok())
        .unwrap_or(0)
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
