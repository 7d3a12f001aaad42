//! The running daemon: whether it answers, and what it says of itself.

use crate::doctor::facts::{Daemon, Facts};
use crate::doctor::finding::Finding;
use crate::fault::Fault;
use crate::gateway::DRAINED;
use crate::show::{Health, Status};

const CHECK: &str = "daemon";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let socket = facts.socket.display();
    match &facts.daemon {
        Daemon::Absent => vec![absent(facts)],
        // Told among what dead processes left.
        Daemon::Stale => Vec::new(),
        Daemon::NoSocket => {
            let what = format!("{socket}, where the control socket would be, is a file");
            vec![Finding::fault(CHECK, Fault::SocketNameTaken, what)]
        }
        Daemon::Unknown(why) => vec![Finding::fault(CHECK, Fault::AnswerInvalid, why.clone())],
        Daemon::Silent { pid, stopped } => vec![silent(*pid, *stopped)],
        Daemon::Answers(status) => answers(status, &socket.to_string()),
    }
}

fn absent(facts: &Facts) -> Finding {
    let held = facts
        .overlays
        .iter()
        .find_map(|overlay| Some((overlay, overlay.holder?)));
    let Some((overlay, pid)) = held else {
        return Finding::not_applicable(
            CHECK,
            "no vxgate runs here: the kernel carries all traffic",
        );
    };
    let who = pid.map_or_else(
        || "a vxgate whose process cannot be seen".to_owned(),
        |pid| format!("vxgate, process {pid},"),
    );
    let what = format!(
        "{who} has {}, and no control socket {}",
        overlay.name(),
        facts.socket.display()
    );
    Finding::warning(CHECK, Fault::DaemonSilent, what)
        .because("It was started with another --socket, or its file was removed.")
        .advise("Give its socket (--socket), or restart it.")
}

fn silent(pid: Option<i32>, stopped: bool) -> Finding {
    let who = pid.map_or_else(
        || "vxgate".to_owned(),
        |pid| format!("vxgate, process {pid},"),
    );
    match pid.filter(|_| stopped) {
        Some(pid) => {
            let what = format!("{who} is stopped (SIGSTOP), and does not answer");
            Finding::fault(CHECK, Fault::DaemonHangs, what).command([
                "kill",
                "-CONT",
                &pid.to_string(),
            ])
        }
        None => {
            let what = format!("{who} does not answer on its control socket");
            Finding::fault(CHECK, Fault::DaemonHangs, what)
        }
    }
}

fn answers(status: &Status, socket: &str) -> Vec<Finding> {
    let seen = &status.observation;
    let mut findings = Vec::new();
    if seen.drained {
        let what = format!(
            "vxgate, process {}, is drained: the kernel carries all traffic",
            status.pid
        );
        // Somebody wanted it so, and `--fix` does not know what for.
        let drained = Finding::warning(CHECK, Fault::TrafficDrained, what);
        findings.push(drained.command(["vxgate", "resume", "--socket", socket]));
    }
    for worker in seen.workers.iter().filter(|worker| !worker.alive) {
        let (number, age) = (worker.worker, worker.heartbeat_age_ms);
        let what = format!("worker {number} has stored no heartbeat for {age} ms");
        findings.push(Finding::fault(CHECK, Fault::WorkerHangs, what));
    }
    let reasons = seen
        .reasons
        .iter()
        .filter(|reason| !is_about_worker(reason) && *reason != DRAINED);
    findings.extend(reasons.map(|reason| Finding::fault(CHECK, Fault::NotHealthy, reason.clone())));
    let warnings = seen
        .warnings
        .iter()
        .filter(|words| !is_told_elsewhere(words));
    let warnings = warnings.map(|words| Finding {
        code: None,
        ..Finding::warning(CHECK, Fault::NotHealthy, words.clone())
            .because("The daemon says so itself.")
            .advise("`vxgate status` tells more.")
    });
    findings.extend(super::first_of(warnings.collect()));
    let own = env!("CARGO_PKG_VERSION");
    if status.version != own {
        let what = format!("the daemon is vxgate {}, and this is {own}", status.version);
        findings.push(
            Finding::warning(CHECK, Fault::AnswerInvalid, what)
                .because("What one knows and the other does not is left out.")
                .advise("Restart the daemon with this version, or use the `vxgate` of its own."),
        );
    }
    if findings.is_empty() && status.state == Health::Healthy {
        let carried = seen.devices.iter().filter(|device| device.taken_over);
        let names: Vec<_> = carried.map(|device| device.name.as_str()).collect();
        let what = format!(
            "vxgate {}, process {}: healthy, carries {} by {} worker{}",
            status.version,
            status.pid,
            names.join(", "),
            seen.workers.len(),
            if seen.workers.len() == 1 { "" } else { "s" }
        );
        findings.push(Finding::ok(CHECK, what));
    }
    findings
}

/// A worker's heartbeat is told with its number and code.
fn is_about_worker(reason: &str) -> bool {
    reason.starts_with("worker ") && reason.contains("no heartbeat")
}

/// Ways to VTEPs and modes of XDP have checks of their own, which know the remedy.
fn is_told_elsewhere(warning: &str) -> bool {
    warning.starts_with("VTEP ") || warning.contains("generic XDP")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Verdict, healthy};

    fn judged(daemon: Daemon) -> Finding {
        let mut facts = healthy::node();
        facts.daemon = daemon;
        check(&facts).swap_remove(0)
    }

    #[test]
    fn whoever_does_not_answer_is_told_with_what_is_known_of_it() {
        let silent = |stopped| {
            judged(Daemon::Silent {
                pid: Some(7),
                stopped,
            })
        };
        assert!(silent(true).to_string().contains("fix  kill -CONT 7\n"));
        assert!(!silent(false).to_string().contains("kill -CONT 7\n"));
        assert_eq!(judged(Daemon::NoSocket).result, Verdict::Fault);
        assert_eq!(judged(Daemon::Absent).result, Verdict::NotApplicable);
        let mut facts = healthy::node();
        facts.overlays[0].holder = Some(Some(7));
        let elsewhere = check(&facts).swap_remove(0);
        assert_eq!(elsewhere.result, Verdict::Warning);
        assert!(elsewhere.what.contains("process 7, has flannel.1"));
    }

    #[test]
    fn a_drained_daemon_is_said_once_and_left_to_the_operator() {
        let mut facts = healthy::served();
        let status = healthy::status_of(&mut facts).expect("it is served");
        status.state = Health::Drained;
        status.observation.drained = true;
        status.observation.reasons = vec![DRAINED.into()];
        let findings = check(&facts);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].mend(), None);
        insta::assert_snapshot!(findings[0].to_string(), @r"
        [warn] vxgate, process 77, is drained: the kernel carries all traffic  VXG-0701
               why  `vxgate drain` said so, and it stays so until `vxgate resume`: nothing is lost, and nothing is as fast as
                    it could be.
               fix  vxgate resume --socket /run/vxgate/s
        ");
    }

    #[test]
    fn what_the_daemon_says_of_itself_is_passed_on_once() {
        let mut facts = healthy::served();
        let status = healthy::status_of(&mut facts).expect("it is served");
        status.observation.workers[1].alive = false;
        status.observation.workers[1].heartbeat_age_ms = 900;
        status.observation.reasons = vec![
            "worker 1 stored no heartbeat for 900 ms: the kernel carries its frames".into(),
            "flannel.1 was asked for, and is with the kernel".into(),
        ];
        status.observation.warnings = vec![
            "VTEP 10.0.0.10 on flannel.1: no_neighbour".into(),
            "4 workers were asked for, but eth1 has 2 receive queues: 2 started".into(),
        ];
        status.version = "0.0.9".into();
        let text: String = check(&facts).iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(text, @r"
        [FAIL] worker 1 has stored no heartbeat for 900 ms  VXG-0703
               why  It hangs, is stopped, or gets no time on its core. The steering programs leave its frames to the kernel
                    until it goes on.
               fix  Look what has its core (`top -H`), let a stopped process go on (`kill -CONT PID`), or restart vxgate.
                    Report it when it comes again.
        [FAIL] flannel.1 was asked for, and is with the kernel  VXG-0702
               why  It says so itself, with the reason: a device that it cannot take over now, or frames whose fate is not
                    known. The kernel carries what it does not.
               fix  Do what the reason says; `vxgate status` tells more.
        [warn] 4 workers were asked for, but eth1 has 2 receive queues: 2 started
               why  The daemon says so itself.
               fix  `vxgate status` tells more.
        [warn] the daemon is vxgate 0.0.9, and this is 0.1.0  VXG-0805
               why  What one knows and the other does not is left out.
               fix  Restart the daemon with this version, or use the `vxgate` of its own.
        ");
    }
}
