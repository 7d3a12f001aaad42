//! The judgement: each check is a pure function of the facts. One file a subject, in the order in which they are told:
//! what the machine can do, the vxlan devices, what lies below them, what is in the way, what leads to the peers, the daemon.

mod access;
mod address;
mod daemon;
mod devices;
mod drift;
mod forwarding;
mod kernel;
mod leftovers;
mod memory;
mod mtu;
mod peers;
mod programs;
mod queues;
mod underlay;
mod vteps;

use super::facts::Facts;
use super::finding::Finding;

pub(super) use drift::differences;

/// So many findings of one kind are told one by one.
const TOLD_MAX: usize = 8;

/// Judges everything.
pub(super) fn all(facts: &Facts) -> Vec<Finding> {
    let checks = [
        kernel::check,
        memory::check,
        devices::check,
        address::check,
        underlay::check,
        queues::check,
        mtu::check,
        forwarding::check,
        programs::check,
        peers::check,
        vteps::check,
        access::check,
        leftovers::check,
        daemon::check,
        drift::check,
    ];
    checks.iter().flat_map(|check| check(facts)).collect()
}

/// The first of many findings of one kind, and how many more there are.
fn first_of(mut findings: Vec<Finding>) -> Vec<Finding> {
    let more = findings.len().saturating_sub(TOLD_MAX);
    findings.truncate(TOLD_MAX);
    if more > 0
        && let Some(last) = findings.last_mut()
    {
        last.what.push_str(&format!(" (and {more} more like this)"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::healthy;
    use crate::doctor::{Report, Verdict};
    use crate::fault::Fault;

    fn text(facts: &Facts) -> String {
        Report::new(all(facts), Vec::new()).to_string()
    }

    #[test]
    fn a_healthy_node_without_a_daemon_is_told_in_a_screen() {
        insta::assert_snapshot!(text(&healthy::node()), @r"
        [ ok ] Linux 6.18.44: AF_XDP, tcx, frames of several buffers, BTF
        [ ok ] capabilities CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF
        [ ok ] memory for the frames of 2 workers: 32 MiB locked, no limit
        [ ok ] flannel.1: VNI 1, UDP 8472, VTEP 10.0.0.11 on eth1; can be taken over
        [ ok ] flannel.1: its address 0e:24:40:00:02:04 is no other node's, and stays
        [ ok ] eth1: native XDP, with a copy: the driver has no zero-copy, driver veth
        [ ok ] eth1: 2 receive queues for 2 workers
        [n/a ] eth1: the driver does not tell how it spreads flows over its receive queues
        [ ok ] flannel.1: MTU 1450 = 1500 of eth1 - 50; cni0 and its one port fit
        [ ok ] the kernel forwards between pods and overlay, and filters no reverse path
        [ ok ] no program of others is in the way
        [ ok ] flannel.1: one neighbour, with FDB entry and route
        [ ok ] flannel.1: one VTEP, which has a route
        [ ok ] nothing is left of dead processes
        [n/a ] no vxgate runs here: the kernel carries all traffic
        13 ok, 2 not applicable, 0 warnings, 0 faults
        ");
    }

    #[test]
    fn a_healthy_node_with_a_daemon_is_told_in_a_screen() {
        insta::assert_snapshot!(text(&healthy::served()), @r"
        [ ok ] Linux 6.18.44: AF_XDP, tcx, frames of several buffers, BTF
        [ ok ] capabilities CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF
        [ ok ] the daemon has its memory for frames
        [ ok ] flannel.1: VNI 1, UDP 8472, VTEP 10.0.0.11 on eth1; vxgate has it, process 77
        [ ok ] flannel.1: its address 0e:24:40:00:02:04 is no other node's, and stays
        [ ok ] eth1: native XDP, with a copy, driver veth; not better: veth has no zero-copy
        [ ok ] eth1: 2 receive queues for 2 workers
        [n/a ] eth1: the driver does not tell how it spreads flows over its receive queues
        [ ok ] flannel.1: MTU 1450 = 1500 of eth1 - 50; cni0 and its one port fit
        [ ok ] the kernel forwards between pods and overlay, and filters no reverse path
        [ ok ] no program of others is in the way
        [ ok ] flannel.1: one neighbour, with FDB entry and route
        [ ok ] flannel.1: one VTEP, which has a route
        [ ok ] frames have their final bytes on the access devices (vxg0, vxg1)
        [ ok ] nothing is left of dead processes
        [ ok ] vxgate 0.1.0, process 77: healthy, carries flannel.1 by 2 workers
        [ ok ] the daemon's tables are the kernel's (FDB, VTEPs, next hops)
        16 ok, 1 not applicable, 0 warnings, 0 faults
        ");
    }

    #[test]
    fn a_node_without_a_vxlan_device_has_little_to_judge() {
        let mut facts = healthy::node();
        (facts.overlays, facts.underlays) = (Vec::new(), Vec::new());
        facts.plan.devices.clear();
        facts.plan.nics.clear();
        let faults: Vec<_> = all(&facts)
            .into_iter()
            .filter(|finding| finding.result == Verdict::Fault)
            .collect();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(faults[0].code.as_deref(), Some(Fault::DeviceNone.code()));
    }

    #[test]
    fn of_many_the_first_are_told_and_the_others_counted() {
        let many = vec![Finding::fault("x", Fault::PeerIncomplete, "gone"); 11];
        let told = first_of(many);
        assert_eq!(told.len(), TOLD_MAX);
        assert_eq!(told[7].what, "gone (and 3 more like this)");
        assert_eq!(first_of(vec![Finding::ok("x", "y")])[0].what, "y");
    }
}
