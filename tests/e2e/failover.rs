//! Promise 1, counted: whatever becomes of the process, of its access device or of its control, traffic goes on. With a direct
//! path, the streams go it when the fault comes.
//!
//! Every fault happens under a numbered stream each way and in the middle of a TCP transfer. Lost frames and the longest gap
//! are printed for all; a bound is asserted where `vxgate` gives one.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::direct::mac_text;
use crate::support::bulk::Transfer;
use crate::support::hang::Hang;
use crate::support::lab::{Lab, Node};
use crate::support::napi::threaded_on;
use crate::support::stream::{Stream, StreamReport};
use crate::support::vxgate::Superframes::{self, Auto, Off};
use crate::support::vxgate::Vxgate;
use crate::support::wait_until;
use crate::who::{
    self, ALWAYS, ALWAYS_BY_RING, DIRECT, DIRECT_BY_RING, DIRECT_BY_XDP, Flags, Who, kinds,
    statuses,
};

/// A process that died or was asked to end.
const DEATH_GAP_MS: f64 = 100.0;
/// A process that hangs: the heartbeat is stale after 200 ms, and a busy machine may see that late.
const HANG_GAP_MS: f64 = 400.0;
/// What may be lost while a process starts. Nothing is as a rule; a program that steers while another one is still to be
/// attached loses the frames of a grace period of RCU, some 30.
const START_LOST_MAX: usize = 5;
/// Flows go direct again long before.
const DIRECT_BOUND: Duration = Duration::from_secs(20);
/// How long a fault that ends by itself lasts.
const OUTAGE: Duration = Duration::from_millis(1500);

/// Bytes a second each way of the transfer that is under way, and how many of them arrive before a fault and after it.
const TRANSFER_RATE: u64 = 6 << 20;
const TRANSFER_SHARE: u64 = 2 << 20;
/// Longer than the pause of a retransmission that backed off.
const TRANSFER_BOUND: Duration = Duration::from_secs(30);

#[test]
fn streams_lose_nothing_on_the_plain_kernel_when_nothing_happens() {
    let lab = Lab::alone();
    let reports = under_load(&lab, "control, no fault", || thread::sleep(OUTAGE));
    for report in reports {
        assert_eq!((report.lost, report.duplicated), (0, 0));
    }
}

#[test]
fn streams_lose_nothing_through_vxgate_when_nothing_happens() {
    let direct = kinds(ALWAYS).into_iter().map(|flags| (Auto, flags));
    for (superframes, flags) in [(Auto, &[][..]), (Off, &[])].into_iter().chain(direct) {
        let lab = Lab::alone();
        let gateways = start(&lab, Who::Both, superframes, flags);
        let before = statuses(&gateways);
        let what = format!("vxgate on both, superframes {superframes:?}, {flags:?}, no fault");
        let reports = under_load(&lab, &what, || {
            assert_carrying(&gateways);
            thread::sleep(OUTAGE);
        });
        for report in reports {
            assert_eq!((report.lost, report.duplicated), (0, 0));
        }
        for ((_, vxgate), before) in gateways.iter().zip(&before) {
            vxgate.wait_forwarding("the traffic went through vxgate", before);
        }
    }
}

#[test]
fn sigkill_leaves_the_traffic_to_the_kernel() {
    let direct = kinds(ALWAYS_BY_RING);
    let direct = direct.into_iter().map(|flags| (Who::Both, Auto, flags));
    for (who, superframes, flags) in [
        (Who::Worker, Auto, &[][..]),
        (Who::Master, Auto, &[]),
        (Who::Both, Auto, &[]),
        (Who::Both, Off, &[]),
        (Who::Worker, Auto, DIRECT),
        (Who::Master, Auto, DIRECT_BY_XDP),
    ]
    .into_iter()
    .chain(direct)
    {
        let lab = Lab::alone();
        let mut gateways = start(&lab, who, superframes, flags);
        let what = format!("SIGKILL, vxgate on {who:?}, superframes {superframes:?}, {flags:?}");
        let reports = under_load(&lab, &what, || {
            assert_carrying(&gateways);
            for (_, vxgate) in &mut gateways {
                vxgate.signal(Signal::SIGKILL);
                vxgate.wait();
            }
        });
        assert_gaps(&reports, DEATH_GAP_MS);
    }
}

#[test]
fn the_next_one_comes_up_at_once_after_a_sigkill() {
    let lab = Lab::alone();
    let node = lab.node(Node::Worker);
    let mut vxgate = Vxgate::start(&node, &[]);
    let devices = node.devices().len();
    for _ in 0..5 {
        vxgate.signal(Signal::SIGKILL);
        // Dropped, and so waited for, only when the next one is ready.
        vxgate = vxgate.start_next(&node, &[]);
        assert_eq!(
            node.devices().len(),
            devices,
            "the access device of the killed one is gone"
        );
    }
    lab.client(Node::Master).run(&format!(
        "ping -q -c 40 -i 0.01 -W 3 {}",
        lab.client_address(Node::Worker)
    ));
    let status = vxgate.balanced();
    assert_eq!(status.state(), "healthy", "{}", status.0);
    assert!(status.forwarded("underlay") >= 40 && status.forwarded("access") >= 40);
    vxgate.stop();
}

#[test]
fn sigterm_hands_the_traffic_back_to_the_kernel() {
    let direct = kinds(ALWAYS).into_iter().map(|flags| (Who::Both, flags));
    for (who, flags) in [(Who::Worker, &[][..]), (Who::Both, &[])]
        .into_iter()
        .chain(direct)
    {
        let lab = Lab::alone();
        let gateways = start(&lab, who, Auto, flags);
        let what = format!("SIGTERM, vxgate on {who:?}, {flags:?}");
        let reports = under_load(&lab, &what, || {
            assert_carrying(&gateways);
            for (_, vxgate) in gateways {
                vxgate.stop();
            }
        });
        assert_gaps(&reports, DEATH_GAP_MS);
    }
}

#[test]
fn starting_takes_the_traffic_over() {
    started_under_load(&[]);
    kinds(DIRECT).into_iter().for_each(started_under_load);
}

fn started_under_load(flags: Flags) {
    let lab = Lab::alone();
    let mut started = None;
    let what = format!("start, vxgate on the worker, {flags:?}");
    let reports = under_load(&lab, &what, || {
        let gateways = start(&lab, Who::Worker, Auto, flags);
        assert_carrying(&gateways);
        started = gateways.into_iter().next();
    });
    let (_, vxgate) = started.expect("it was started");
    let status = vxgate.status();
    assert_gaps(&reports, DEATH_GAP_MS);
    for report in &reports {
        assert!(
            report.lost <= START_LOST_MAX,
            "no program steers frames before all are in place: {report:?}: {}",
            status.0
        );
    }
    assert!(
        status.forwarded("underlay") > 0,
        "the rest of the traffic goes through vxgate"
    );
}

#[test]
fn a_stopped_process_is_passed_by_and_carries_again_when_it_continues() {
    let direct = kinds(DIRECT_BY_RING);
    let direct = direct.into_iter().map(|flags| (Who::Both, Auto, flags));
    for (who, superframes, flags) in [
        (Who::Worker, Off, &[][..]),
        (Who::Worker, Auto, &[]),
        (Who::Both, Auto, &[]),
        (Who::Worker, Auto, DIRECT_BY_XDP),
    ]
    .into_iter()
    .chain(direct)
    {
        let lab = Lab::alone();
        let gateways = start(&lab, who, superframes, flags);
        let what = format!(
            "SIGSTOP and SIGCONT, vxgate on {who:?}, superframes {superframes:?}, {flags:?}"
        );
        let reports = under_load(&lab, &what, || {
            assert_carrying(&gateways);
            for (_, vxgate) in &gateways {
                vxgate.signal(Signal::SIGSTOP);
            }
            thread::sleep(OUTAGE);
            for (_, vxgate) in &gateways {
                vxgate.signal(Signal::SIGCONT);
            }
            assert_carrying(&gateways);
        });
        assert_gaps(&reports, HANG_GAP_MS);
        for (_, vxgate) in &gateways {
            let status = vxgate.balanced();
            let passed = status.passed("underlay", "heartbeat_stale");
            assert!(
                passed > 0,
                "the kernel carried while vxgate hung: {}",
                status.0
            );
        }
    }
}

/// On the core that the kernel's receive threads share with the worker, before which it comes: they carry its frames all
/// the same.
#[test]
fn a_worker_that_spins_is_passed_by_and_put_last_and_carries_again_when_it_goes_on() {
    let lab = Lab::alone();
    let node = lab.node(Node::Worker);
    let gateways = Who::Worker.start(&lab);
    let vxgate = &gateways[0].1;
    let nice = || vxgate.status().0["workers"][0]["nice"].as_i64();
    let core = vxgate.status().0["workers"][0]["core"].as_u64();
    threaded_on(&node, "eth1", 1, core.expect("it is pinned"));
    assert_eq!(nice(), Some(-20));
    let by_kernel = || {
        let [received, sent] = lab.by_kernel(Node::Worker);
        received.min(sent)
    };
    under_load(&lab, "a worker that spins, vxgate on the worker", || {
        assert_carrying(&gateways);
        let hang = Hang::of_workers(vxgate.pid());
        let before = by_kernel();
        wait_until(
            "the kernel carries, both ways",
            Duration::from_secs(10),
            || by_kernel() > before + 500,
        );
        wait_until("it comes last", Duration::from_secs(10), || {
            nice() == Some(19)
        });
        let status = vxgate.status();
        assert_eq!(status.state(), "degraded", "{}", status.0);
        hang.end();
        wait_until("it comes first", Duration::from_secs(10), || {
            nice() == Some(-20)
        });
        assert_carrying(&gateways);
    });
    let status = vxgate.balanced();
    assert_eq!(status.state(), "healthy", "{}", status.0);
    for role in ["underlay", "access"] {
        let passed = status.passed(role, "heartbeat_stale");
        assert!(passed > 0, "{role}: {}", status.0);
    }
}

#[test]
fn a_deleted_access_device_leaves_the_traffic_to_the_kernel_and_comes_back() {
    access_device_deleted(&[]);
    let direct = kinds(ALWAYS_BY_RING);
    direct.into_iter().for_each(access_device_deleted);
}

fn access_device_deleted(flags: Flags) {
    let lab = Lab::alone();
    let gateways = start(&lab, Who::Worker, Auto, flags);
    let node = lab.node(Node::Worker);
    let what = format!("access device deleted, vxgate on the worker, {flags:?}");
    under_load(&lab, &what, || {
        assert_carrying(&gateways);
        let before = gateways[0].1.status();
        node.run(&format!("ip link del {}", before.kernel_side()));
        wait_until(
            "vxgate carries again with a new access device",
            Duration::from_secs(10),
            || {
                gateways[0].1.try_status().is_ok_and(|now| {
                    let taken = now
                        .list("devices")
                        .any(|device| device["taken_over"] == true);
                    taken && now.0["ports"] != before.0["ports"]
                })
            },
        );
        assert_carrying(&gateways);
    });
}

/// The pod's end of the conversation goes, and comes again under the same name with the same addresses.
#[test]
fn a_pods_device_that_goes_and_comes_again_has_its_traffic_back() {
    kinds(DIRECT_BY_RING)
        .into_iter()
        .for_each(pods_device_made_again);
}

fn pods_device_made_again(flags: Flags) {
    let lab = Lab::alone();
    let gateways = start(&lab, Who::Both, Auto, flags);
    let (node, pod) = (lab.node(Node::Worker), lab.client(Node::Worker));
    let (mac, subnet) = (mac_text(&pod), Node::Worker.subnet());
    under_load(
        &lab,
        &format!("a pod's device deleted and made again, {flags:?}"),
        || {
            assert_carrying(&gateways);
            node.run("ip link del veth-cli2");
            node.run(&format!(
            "ip link add veth-cli2 mtu 1450 type veth peer name eth0 address {mac} mtu 1450 netns {}",
            pod.name()
        ));
            node.run("ip link set veth-cli2 master cni0 up");
            pod.run(&format!("ip addr add {subnet}.14/24 brd + dev eth0"));
            pod.run("ip link set eth0 up");
            pod.run(&format!("ip route add default via {subnet}.1"));
            assert_carrying(&gateways);
        },
    );
    assert_healthy(gateways);
}

/// What becomes of another pod is nobody's loss, though every flow is judged anew.
#[test]
fn another_pods_device_that_goes_costs_no_frame() {
    kinds(ALWAYS)
        .into_iter()
        .for_each(another_pods_device_deleted);
}

fn another_pods_device_deleted(flags: Flags) {
    let lab = Lab::alone();
    let gateways = start(&lab, Who::Worker, Auto, flags);
    let reports = under_load(
        &lab,
        &format!("another pod's device deleted, {flags:?}"),
        || {
            assert_carrying(&gateways);
            lab.node(Node::Worker).run("ip link del veth-web2");
            assert_carrying(&gateways);
        },
    );
    for report in reports {
        assert_eq!((report.lost, report.duplicated), (0, 0), "{report:?}");
    }
    assert_healthy(gateways);
}

#[test]
fn a_nic_that_is_down_for_a_while_has_its_traffic_back() {
    kinds(ALWAYS_BY_RING)
        .into_iter()
        .for_each(nic_down_for_a_while);
}

fn nic_down_for_a_while(flags: Flags) {
    let lab = Lab::alone();
    let gateways = start(&lab, Who::Worker, Auto, flags);
    let node = lab.node(Node::Worker);
    under_load(
        &lab,
        &format!("the NIC down and up again, {flags:?}"),
        || {
            assert_carrying(&gateways);
            let before = gateways[0].1.status().direct().map(|gear| gear.out);
            node.run("ip link set eth1 down");
            wait_until("no flow goes direct", Duration::from_secs(10), || {
                let now = gateways[0].1.try_status();
                now.is_ok_and(|now| now.direct().is_none_or(|gear| gear.flows == 0))
            });
            node.run("ip link set eth1 up");
            node.run("ip route replace default via 10.0.0.1");
            assert!(before.is_some());
            assert_carrying(&gateways);
        },
    );
    assert_healthy(gateways);
}

#[test]
fn one_vxgate_after_the_other_has_the_traffic_and_it_goes_direct() {
    kinds(DIRECT_BY_XDP)
        .into_iter()
        .for_each(stopped_and_started_again);
}

fn stopped_and_started_again(flags: Flags) {
    let lab = Lab::alone();
    let gateways = start(&lab, Who::Worker, Auto, flags);
    let mut next = None;
    let reports = under_load(
        &lab,
        &format!("stopped, and started again, {flags:?}"),
        || {
            assert_carrying(&gateways);
            for (_, vxgate) in gateways {
                vxgate.stop();
            }
            let gateways = Who::Worker.start_with(&lab, Auto, flags);
            assert_carrying(&gateways);
            next = Some(gateways);
        },
    );
    assert_gaps(&reports, DEATH_GAP_MS);
    assert_healthy(next.expect("it was started"));
}

fn assert_healthy(gateways: Vec<(Node, Vxgate)>) {
    for (_, vxgate) in gateways {
        let status = vxgate.balanced();
        assert_eq!(status.state(), "healthy", "{}", status.0);
        vxgate.stop();
    }
}

/// Starts `vxgate` where it is to run, with these flags. With a direct path, conntrack and rules are as kube-proxy makes them.
pub fn start(lab: &Lab, who: Who, superframes: Superframes, flags: &[&str]) -> Vec<(Node, Vxgate)> {
    if who::is_direct(flags) {
        who::kube_proxy(lab);
    }
    who::ready_for_xdp(lab, flags);
    who.start_with(lab, superframes, flags)
}

/// Waits until each gateway forwards frames both ways, beyond what it had forwarded, and those with a direct path on that, too: a
/// fault proves nothing about a gateway that carries nothing.
pub fn assert_carrying(gateways: &[(Node, Vxgate)]) {
    for (node, vxgate) in gateways {
        let before = vxgate.status();
        vxgate.wait_forwarding(&format!("vxgate on {node:?} carries the traffic"), &before);
        if let Some(direct) = before.direct() {
            let what = format!("vxgate on {node:?} has frames go direct, both ways");
            wait_until(&what, DIRECT_BOUND, || {
                let now = vxgate.try_status();
                now.is_ok_and(|now| now.direct().is_some_and(|now| now.beyond(direct, 20)))
            });
        }
    }
}

pub fn assert_gaps(reports: &[StreamReport], bound_ms: f64) {
    for report in reports {
        assert!(
            report.longest_gap_ms <= bound_ms,
            "the longest gap is at most {bound_ms} ms: {report:?}"
        );
    }
}

/// Runs a stream each way between two sockets of the client pods, and a TCP transfer both ways; breaks something in the middle of the
/// transfer; returns what became of the streams once the transfer has completed with matching hashes.
pub fn under_load(lab: &Lab, what: &str, fault: impl FnOnce()) -> [StreamReport; 2] {
    println!("  {what}:");
    let [master, worker] = [lab.client(Node::Master), lab.client(Node::Worker)];
    let [master_address, worker_address] = [
        lab.client_address(Node::Master),
        lab.client_address(Node::Worker),
    ];
    // Neighbours resolved and connection tracking warm before anything is counted.
    master.run(&format!("ping -q -c 2 -i 0.05 -W 3 {worker_address}"));
    let streams = Stream::both_ways(
        ["udp master to worker", "udp worker to master"],
        (&master, &worker_address),
        (&worker, &master_address),
    );
    let transfer = Transfer::start(
        &master,
        &worker,
        &worker_address,
        u64::MAX,
        Some(TRANSFER_RATE),
    );
    let goes_on = |when: &str| {
        let before = transfer.received();
        wait_until(when, TRANSFER_BOUND, || {
            transfer.received() >= before + TRANSFER_SHARE
        });
    };
    goes_on("the transfer is under way");
    fault();
    goes_on("the transfer goes on afterwards");
    transfer.enough();
    transfer.finish();
    streams.map(Stream::finish)
}
