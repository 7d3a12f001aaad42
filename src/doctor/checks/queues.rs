//! Receive queues against workers, and whether flows are spread over them.

use crate::doctor::facts::{Facts, Underlay};
use crate::doctor::finding::Finding;
use crate::fault::Fault;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    facts
        .underlays
        .iter()
        .flat_map(|underlay| {
            let name = underlay.link.name.clone();
            let parts = [queues(facts, underlay), spread(underlay)];
            parts.into_iter().map(move |finding| finding.of(&name))
        })
        .collect()
}

fn queues(facts: &Facts, underlay: &Underlay) -> Finding {
    const CHECK: &str = "queues";
    let (used, cores) = (underlay.queues, facts.process.cores);
    let status = facts.daemon.status();
    let port = status.and_then(|status| {
        let mut ports = status.observation.ports.iter();
        ports.find(|port| port.ifindex == underlay.link.ifindex && port.role == "underlay")
    });
    if let Some(port) = port.filter(|port| port.queues < used) {
        let what = format!(
            "{} of its {used} receive queues have a socket: frames of the others stay with the kernel",
            port.queues
        );
        return Finding::fault(CHECK, Fault::QueuesUneven, what)
            .advise("vxgate looks every 5 s and takes them by itself; restart it if it does not.");
    }
    let workers = status.map_or(facts.plan.workers, |status| {
        u32::try_from(status.observation.workers.len()).unwrap_or(u32::MAX)
    });
    let possible = underlay.channels.map_or(used, |channels| channels.max);
    let wanted = possible.min(cores);
    // A driver's own choice may be wise; half of what could be, or one alone, is not.
    if used.saturating_mul(2) <= wanted {
        let what = format!(
            "{used} of {possible} receive queues are in use, which is enough for {used} of {cores} workers"
        );
        return Finding::warning(CHECK, Fault::QueuesUneven, what)
            .command(set_queues(underlay, wanted));
    }
    let each = if used > workers { ", shared out" } else { "" };
    let plural = |count: u32| if count == 1 { "" } else { "s" };
    let what = format!(
        "{used} receive queue{} for {workers} worker{}{each}",
        plural(used),
        plural(workers)
    );
    Finding::ok(CHECK, what)
}

fn set_queues(underlay: &Underlay, wanted: u32) -> Vec<String> {
    let (name, count) = (underlay.link.name.clone(), wanted.to_string());
    let mut command = vec!["ethtool".to_owned(), "-L".to_owned(), name];
    if underlay.channels.is_some_and(|channels| channels.combined) {
        command.extend(["combined".to_owned(), count]);
    } else {
        command.extend(["rx".to_owned(), count.clone(), "tx".to_owned(), count]);
    }
    command
}

fn spread(underlay: &Underlay) -> Finding {
    const CHECK: &str = "flow-hash";
    let family = if underlay.ipv6 { "udp6" } else { "udp4" };
    match (underlay.queues, underlay.by_port) {
        (0 | 1, _) => {
            Finding::not_applicable(CHECK, "one receive queue: nothing to spread flows over")
        }
        (_, None) => Finding::not_applicable(
            CHECK,
            "the driver does not tell how it spreads flows over its receive queues",
        ),
        (_, Some(true)) => {
            let what = format!("flows are spread over the receive queues by UDP ports ({family})");
            Finding::ok(CHECK, what)
        }
        (queues, Some(false)) => {
            let what = format!("{queues} receive queues, and UDP ports do not decide between them");
            let name = underlay.link.name.as_str();
            Finding::warning(CHECK, Fault::FlowsNotSpread, what).mended_by([
                "ethtool",
                "-N",
                name,
                "rx-flow-hash",
                family,
                "sdfn",
            ])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Verdict, healthy};
    use crate::steer::Channels;

    #[test]
    fn fewer_queues_than_there_could_be_are_told_with_the_command() {
        let mut facts = healthy::node();
        facts.underlays[0].queues = 1;
        facts.underlays[0].channels = Some(Channels {
            used: 1,
            max: 8,
            combined: true,
        });
        let few = &check(&facts)[0];
        assert_eq!(few.result, Verdict::Warning);
        assert!(
            few.to_string()
                .contains("fix  ethtool -L eth1 combined 2\n"),
            "{few}"
        );
        facts.underlays[0].channels = Some(Channels {
            used: 1,
            max: 2,
            combined: false,
        });
        assert!(
            check(&facts)[0]
                .to_string()
                .contains("ethtool -L eth1 rx 2 tx 2")
        );
        facts.process.cores = 1;
        assert_eq!(check(&facts)[0].result, Verdict::Ok);
        facts.process.cores = 3;
        facts.underlays[0].queues = 2;
        facts.underlays[0].channels = Some(Channels {
            used: 2,
            max: 64,
            combined: true,
        });
        assert_eq!(check(&facts)[0].result, Verdict::Ok, "more than half");
    }

    #[test]
    fn a_queue_without_a_socket_is_a_fault() {
        let mut facts = healthy::served();
        facts.underlays[0].queues = 4;
        let found = &check(&facts)[0];
        assert_eq!(found.result, Verdict::Fault);
        assert!(found.what.starts_with("2 of its 4"), "{}", found.what);
    }

    #[test]
    fn flows_that_one_queue_gets_are_mended() {
        let mut facts = healthy::node();
        facts.underlays[0].by_port = Some(false);
        let one = &check(&facts)[1];
        let command = one.mend().unwrap().join(" ");
        assert_eq!(command, "ethtool -N eth1 rx-flow-hash udp4 sdfn");
        facts.underlays[0].queues = 1;
        assert_eq!(check(&facts)[1].result, Verdict::NotApplicable);
    }
}
