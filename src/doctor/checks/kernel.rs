//! The kernel's features, and what this process may do.

use crate::doctor::facts::Facts;
use crate::doctor::finding::Finding;
use crate::fault::Fault;
use crate::steer::{Gear, may_panic};

/// The first version with everything that cannot be done without.
const OLDEST: (u32, u32) = (5, 11);

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let direct = direct_path(facts);
    let features = std::iter::once(features(facts)).chain(direct);
    features.chain([capabilities(facts)]).collect()
}

fn features(facts: &Facts) -> Finding {
    const CHECK: &str = "kernel";
    let kernel = &facts.kernel;
    let release = &kernel.release;
    if kernel.version().is_some_and(|version| version < OLDEST) {
        let what = format!("Linux {release} is older than 5.11");
        return Finding::fault(CHECK, Fault::ProgramsUnsupported, what);
    }
    if kernel.af_xdp == Some(false) {
        let what = format!("Linux {release} is built without AF_XDP (CONFIG_XDP_SOCKETS)");
        return Finding::fault(CHECK, Fault::ProgramsUnsupported, what);
    }
    if may_panic(release) {
        let what =
            format!("Linux {release} may panic when AF_XDP sends by copy, as access devices do");
        return Finding::warning(CHECK, Fault::ProgramsUnsupported, what)
            .because("Linux 6.16.8 to 6.16.12 and 6.17 to 6.17.10 keep in a frame what the receiving end of a veth overwrites, and follow it afterwards. A distribution may have mended that under the same number (\"xsk: avoid data corruption on cq descriptor number\").")
            .advise("Boot Linux 6.17.11 or later, or one without that mistake, before vxgate runs.");
    }
    if kernel.tcx == Some(false) {
        let what = format!("Linux {release} has no tcx (since 6.6)");
        return Finding::warning(CHECK, Fault::ProgramsUnsupported, what)
            .because("The program on the vxlan device is a clsact filter then, which outlives a process that is killed; it steers no frame after that.")
            .advise("Nothing has to be done; with Linux 6.6 or later the program dies with its process.");
    }
    let unsure = |known: Option<bool>| {
        if known.is_some() {
            ""
        } else {
            " (not asked: needs root)"
        }
    };
    let mut parts = vec![
        format!("AF_XDP{}", unsure(kernel.af_xdp)),
        format!("tcx{}", unsure(kernel.tcx)),
    ];
    if kernel.chains {
        parts.push("frames of several buffers".to_owned());
    }
    if kernel.types {
        parts.push("BTF".to_owned());
    }
    Finding::ok(CHECK, format!("Linux {release}: {}", parts.join(", ")))
}

/// What the direct path has to do without here. That it was asked for in vain, the daemon says itself.
fn direct_path(facts: &Facts) -> Option<Finding> {
    let release = &facts.kernel.release;
    let lacks = Gear::Express.check(release).err()?;
    let what = match Gear::Ring.check(release) {
        Ok(()) => format!("express is {lacks}; the direct path has its ring gear alone"),
        Err(lacks) => {
            format!("the direct path is {lacks}; every flow takes the transparent path")
        }
    };
    Some(Finding::not_applicable("direct-path", what))
}

fn capabilities(facts: &Facts) -> Finding {
    const CHECK: &str = "capabilities";
    match (&facts.process.lacks, facts.daemon.status()) {
        (None, _) => Finding::ok(CHECK, "capabilities CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF"),
        (Some(_), Some(_)) => Finding::not_applicable(
            CHECK,
            "capabilities: the daemon has them, this process does not; what only root may know is left out",
        ),
        (Some(lacks), None) => Finding::fault(CHECK, Fault::CapabilityMissing, lacks.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Verdict, healthy};

    fn result(change: impl FnOnce(&mut Facts)) -> (Verdict, String) {
        let mut facts = healthy::node();
        change(&mut facts);
        let finding = features(&facts);
        (finding.result, finding.what)
    }

    #[test]
    fn what_the_kernel_lacks_is_named() {
        let old = result(|facts| facts.kernel.release = "5.10.0-30".to_owned());
        assert_eq!(old.0, Verdict::Fault);
        let (verdict, what) = result(|facts| facts.kernel.af_xdp = Some(false));
        assert!(
            verdict == Verdict::Fault && what.contains("AF_XDP"),
            "{what}"
        );
        let (verdict, what) = result(|facts| facts.kernel.tcx = Some(false));
        assert!(
            verdict == Verdict::Warning && what.contains("tcx"),
            "{what}"
        );
        let (verdict, what) = result(|facts| facts.kernel.tcx = None);
        assert!(
            verdict == Verdict::Ok && what.contains("needs root"),
            "{what}"
        );
    }

    #[test]
    fn a_kernel_that_sending_may_bring_down_is_told() {
        for (release, verdict) in [
            ("6.12.95+deb12-amd64", Verdict::Ok),
            ("6.16.7", Verdict::Ok),
            ("6.16.12+deb13-amd64", Verdict::Warning),
            ("6.17-rc7", Verdict::Warning),
            ("6.17.0-14-generic", Verdict::Warning),
            ("6.17.10", Verdict::Warning),
            ("6.17.11+deb14-amd64", Verdict::Ok),
            ("6.18.5", Verdict::Ok),
            ("7.3.4", Verdict::Ok),
        ] {
            let result = result(|facts| facts.kernel.release = release.to_owned());
            assert_eq!(result.0, verdict, "{release}: {}", result.1);
        }
    }

    #[test]
    fn what_the_direct_path_does_without_is_told_and_no_fault() {
        let finding = |release: &str| {
            let mut facts = healthy::served();
            facts.kernel.release = release.to_owned();
            let finding = direct_path(&facts)?;
            assert_eq!(finding.result, Verdict::NotApplicable);
            Some(finding.what)
        };
        assert_eq!(finding("6.18.44"), None);
        let old = finding("6.12.107+deb13-amd64").expect("a finding");
        let without = "express is not on this kernel (6.12.107+deb13-amd64): needs Linux 6.15 (";
        assert!(old.starts_with(without), "{old}");
        let older = finding("6.1.0-56-amd64").expect("a finding");
        assert!(older.contains("needs Linux 6.6 (tcx)"), "{older}");
    }

    #[test]
    fn a_missing_capability_is_a_fault_unless_a_daemon_runs_already() {
        let mut facts = healthy::node();
        facts.process.lacks = Some("missing CAP_BPF".to_owned());
        assert_eq!(capabilities(&facts).result, Verdict::Fault);
        let mut served = healthy::served();
        served.process.lacks = facts.process.lacks;
        assert_eq!(capabilities(&served).result, Verdict::NotApplicable);
    }
}
