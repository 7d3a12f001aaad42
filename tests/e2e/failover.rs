//! Promise 1, counted: whatever becomes of the process, of its access device or of its control, traffic goes on.
//!
//! Every fault happens under a numbered stream each way and in the middle of a TCP transfer. Lost frames and the longest gap
//! are printed for all; a bound is asserted where `vxgate` gives one.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::bulk::Transfer;
use crate::support::hang::Hang;
use crate::support::lab::{Lab, Node};
use crate::support::napi::threaded_on;
use crate::support::stream::{Stream, StreamReport};
use crate::support::vxgate::Superframes::{self, Auto, Off};
use crate::support::vxgate::Vxgate;
use crate::support::wait_until;
use crate::who::{Who, statuses};

/// A process that died or was asked to end.
const DEATH_GAP_MS: f64 = 100.0;
/// A process that hangs: the heartbeat is stale after 200 ms, and a busy machine may see that late.
const HANG_GAP_MS: f64 = 400.0;
/// What may be lost while a process starts. Nothing is as a rule; a program that steers while another one is still to be
/// attached loses the frames of a grace period of RCU, some 30.
const START_LOST_MAX: usize = 5;
/// How long a fault that ends by itself lasts.
const OUTAGE: Duration = Duration::from_millis(1500);

const TRANSFER_BYTES: u64 = 20 << 20;
const TRANSFER_RATE: u64 = 6 << 20;

#[test]
fn streams_lose_nothing_on_the_plain_kernel_when_nothing_happens() {
    let lab = Lab::up();
    let reports = under_load(&lab, "control, no fault", || thread::sleep(OUTAGE));
    for report in reports {
        assert_eq!((report.lost, report.duplicated), (0, 0));
    }
}

#[test]
fn streams_lose_nothing_through_vxgate_when_nothing_happens() {
    for superframes in Superframes::BOTH {
        let lab = Lab::up();
        let gateways = Who::Both.start_with(&lab, superframes, &[]);
        let before = statuses(&gateways);
        let what = format!("vxgate on both, superframes {superframes:?}, no fault");
        let reports = under_load(&lab, &what, || thread::sleep(OUTAGE));
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
    for (who, superframes) in [
        (Who::Worker, Auto),
        (Who::Master, Auto),
        (Who::Both, Auto),
        (Who::Both, Off),
    ] {
        let lab = Lab::up();
        let mut gateways = who.start_with(&lab, superframes, &[]);
        let what = format!("SIGKILL, vxgate on {who:?}, superframes {superframes:?}");
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
fn sigkill_with_a_direct_path_leaves_the_traffic_to_the_kernel() {
    let lab = Lab::up();
    let direct = ["--direct", "flows"];
    let mut gateways = Who::Worker.start_with(&lab, Auto, &direct);
    let reports = under_load(&lab, "SIGKILL, vxgate with a direct path", || {
        assert_carrying(&gateways);
        for (_, vxgate) in &mut gateways {
            vxgate.signal(Signal::SIGKILL);
            vxgate.wait();
        }
    });
    assert_gaps(&reports, DEATH_GAP_MS);
}

#[test]
fn the_next_one_comes_up_at_once_after_a_sigkill() {
    let lab = Lab::up();
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
    for who in [Who::Worker, Who::Both] {
        let lab = Lab::up();
        let gateways = who.start(&lab);
        let reports = under_load(&lab, &format!("SIGTERM, vxgate on {who:?}"), || {
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
    let lab = Lab::up();
    let mut started = None;
    let reports = under_load(&lab, "start, vxgate on the worker", || {
        started = Some(Vxgate::start(&lab.node(Node::Worker), &[]));
    });
    assert_gaps(&reports, DEATH_GAP_MS);
    for report in &reports {
        assert!(
            report.lost <= START_LOST_MAX,
            "no program steers frames before all are in place: {report:?}"
        );
    }
    let vxgate = started.expect("it was started");
    assert!(
        vxgate.status().forwarded("underlay") > 0,
        "the rest of the traffic goes through vxgate"
    );
}

#[test]
fn a_stopped_process_is_passed_by_and_carries_again_when_it_continues() {
    for (who, superframes) in [(Who::Worker, Off), (Who::Worker, Auto), (Who::Both, Auto)] {
        let lab = Lab::up();
        let gateways = who.start_with(&lab, superframes, &[]);
        let reports = under_load(
            &lab,
            &format!("SIGSTOP and SIGCONT, vxgate on {who:?}, superframes {superframes:?}"),
            || {
                assert_carrying(&gateways);
                for (_, vxgate) in &gateways {
                    vxgate.signal(Signal::SIGSTOP);
                }
                thread::sleep(OUTAGE);
                for (_, vxgate) in &gateways {
                    vxgate.signal(Signal::SIGCONT);
                }
                assert_carrying(&gateways);
            },
        );
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
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    let gateways = Who::Worker.start(&lab);
    let vxgate = &gateways[0].1;
    let nice = || vxgate.status().0["workers"][0]["nice"].as_i64();
    let core = vxgate.status().0["workers"][0]["core"].as_u64();
    threaded_on(&node, "eth1", 1, core.expect("it is pinned"));
    assert_eq!(nice(), Some(-20));
    let by_kernel = || {
        let frames = |way: &str| {
            let count = node.run(&format!(
                "cat /sys/class/net/flannel.1/statistics/{way}_packets"
            ));
            count.trim().parse::<u64>().expect("a count")
        };
        frames("rx").min(frames("tx"))
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
    let lab = Lab::up();
    let gateways = Who::Worker.start(&lab);
    let node = lab.node(Node::Worker);
    under_load(&lab, "access device deleted, vxgate on the worker", || {
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

/// Waits until each gateway forwards frames both ways, beyond what it had forwarded: a fault proves nothing about a gateway
/// that carries nothing.
pub fn assert_carrying(gateways: &[(Node, Vxgate)]) {
    for (node, vxgate) in gateways {
        vxgate.wait_forwarding(
            &format!("vxgate on {node:?} carries the traffic"),
            &vxgate.status(),
        );
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

/// Runs a stream each way between the client pods and a TCP transfer both ways; breaks something in the middle of the
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
    let streams = [
        Stream::start("udp master to worker", &master, &worker, &worker_address),
        Stream::start("udp worker to master", &worker, &master, &master_address),
    ];
    let transfer = Transfer::start(
        &master,
        &worker,
        &worker_address,
        TRANSFER_BYTES,
        Some(TRANSFER_RATE),
    );
    wait_until("a quarter of the transfer", Duration::from_secs(20), || {
        transfer.progress() >= 0.25
    });
    fault();
    transfer.finish();
    streams.map(Stream::finish)
}
