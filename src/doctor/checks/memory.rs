//! The locked memory for frames.

use crate::doctor::facts::Facts;
use crate::doctor::finding::Finding;
use crate::fault::Fault;

const CHECK: &str = "memory";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let process = &facts.process;
    let needed = facts.frame_memory;
    if facts.daemon.status().is_some() {
        return vec![Finding::ok(CHECK, "the daemon has its memory for frames")];
    }
    if facts.plan.devices.is_empty() {
        let what = "memory for frames: there is nothing to carry";
        return vec![Finding::not_applicable(CHECK, what)];
    }
    let limit = process.memlock.filter(|_| !process.may_lock);
    if let Some(limit) = limit.filter(|limit| *limit < needed) {
        let what = format!(
            "{} of memory may be locked, and the frames of {} take {}",
            mib(limit),
            workers(facts),
            mib(needed)
        );
        return vec![Finding::fault(CHECK, Fault::FrameMemoryRefused, what)];
    }
    if let Some(available) = process.available.filter(|available| *available < needed) {
        let what = format!(
            "{} of memory are available, and the frames of {} take {}",
            mib(available),
            workers(facts),
            mib(needed)
        );
        return vec![Finding::warning(CHECK, Fault::FrameMemoryRefused, what)];
    }
    let limit = match limit {
        Some(limit) => format!("the limit is {}", mib(limit)),
        None => "no limit".to_owned(),
    };
    let what = format!(
        "memory for the frames of {}: {} locked, {limit}",
        workers(facts),
        mib(needed)
    );
    vec![Finding::ok(CHECK, what)]
}

fn workers(facts: &Facts) -> String {
    match facts.plan.workers {
        1 => "one worker".to_owned(),
        count => format!("{count} workers"),
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Verdict, healthy};

    #[test]
    fn a_limit_counts_only_for_those_who_may_not_pass_it() {
        let mut facts = healthy::node();
        facts.process.memlock = Some(8 << 20);
        assert_eq!(check(&facts)[0].result, Verdict::Ok);
        facts.process.may_lock = false;
        let limited = &check(&facts)[0];
        assert_eq!(limited.result, Verdict::Fault);
        assert_eq!(
            limited.what,
            "8 MiB of memory may be locked, and the frames of 2 workers take 32 MiB"
        );
        facts.process.memlock = Some(64 << 20);
        assert!(check(&facts)[0].what.ends_with("the limit is 64 MiB"));
        facts.process.available = Some(1 << 20);
        assert_eq!(check(&facts)[0].result, Verdict::Warning);
    }
}
