//! What dead processes left: access devices, filters, the file of the control socket.

use crate::doctor::facts::{Daemon, Facts};
use crate::doctor::finding::Finding;
use crate::fault::Fault;
use crate::steer::Leftover;

const CHECK: &str = "leftovers";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<_> = facts.leftovers.iter().map(judge).collect();
    if matches!(facts.daemon, Daemon::Stale) {
        let socket = facts.socket.display().to_string();
        let what = format!("nobody listens on the control socket {socket}");
        findings
            .push(Finding::fault(CHECK, Fault::SocketStale, what).mended_by(["rm", "--", &socket]));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "nothing is left of dead processes"));
    }
    findings
}

fn judge(leftover: &Leftover) -> Finding {
    match leftover {
        Leftover::Access(name) => {
            let what = "is the access device of a vxgate that is dead";
            Finding::fault(CHECK, Fault::LeftoverFound, what)
                .mended_by(["ip", "link", "del", "dev", name])
                .of(name)
        }
        Leftover::Filter(device, priority) => {
            let what = "has a filter of a vxgate that is dead";
            let priority = priority.to_string();
            Finding::fault(CHECK, Fault::LeftoverFound, what)
                .because("Before Linux 6.6 the program on the vxlan device is a filter, which outlives its process. It steers nothing.")
                .mended_by([
                    "tc", "filter", "del", "dev", device, "egress", "pref", &priority,
                ])
                .of(device)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::healthy;

    #[test]
    fn each_leftover_has_the_command_that_removes_it() {
        let mut facts = healthy::node();
        facts.leftovers = vec![
            Leftover::Access("vxg0".into()),
            Leftover::Filter("flannel.1".into(), 30328),
        ];
        facts.daemon = Daemon::Stale;
        let commands: Vec<_> = check(&facts)
            .iter()
            .map(|finding| finding.mend().unwrap().join(" "))
            .collect();
        let expected = [
            "ip link del dev vxg0",
            "tc filter del dev flannel.1 egress pref 30328",
            "rm -- /run/vxgate/s",
        ];
        assert_eq!(commands, expected);
    }
}
