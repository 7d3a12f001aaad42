//! The offloads of the access devices, which are to be off.

use crate::doctor::facts::{AccessEnd, Facts};
use crate::doctor::finding::Finding;
use crate::fault::Fault;

const CHECK: &str = "access";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    if facts.accesses.is_empty() {
        return Vec::new();
    }
    let hiding = facts.accesses.iter().filter(|end| !end.hiding.is_empty());
    let mut findings: Vec<_> = hiding.map(judge).collect();
    if findings.is_empty() {
        let names = facts.accesses.iter().map(|end| end.name.as_str());
        let names = names.collect::<Vec<_>>().join(", ");
        let what = format!("frames have their final bytes on the access devices ({names})");
        findings.push(Finding::ok(CHECK, what));
    }
    findings
}

fn judge(end: &AccessEnd) -> Finding {
    let names = end.hiding.join(", ");
    let what = format!(
        "offloads of the access device of {} are on: {names}",
        end.device
    );
    let mut command = vec!["ethtool", "-K", &end.name];
    command.extend(end.hiding.iter().flat_map(|name| [name.as_str(), "off"]));
    // Sums that are missing are completed; what is merged fits no ring.
    let completed = end
        .hiding
        .iter()
        .all(|name| name.starts_with("tx-checksum"));
    let finding = if completed {
        Finding::warning(CHECK, Fault::OffloadsOn, what)
    } else {
        Finding::fault(CHECK, Fault::OffloadsOn, what)
    };
    finding.mended_by(command).of(&end.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Verdict, healthy};

    #[test]
    fn offloads_that_are_on_are_switched_off_again() {
        let mut facts = healthy::served();
        assert_eq!(check(&facts)[0].result, Verdict::Ok);
        facts.accesses[0].hiding = vec!["tx-checksum-ip-generic".into()];
        assert_eq!(check(&facts)[0].result, Verdict::Warning);
        facts.accesses[0].hiding.push("tx-tcp-segmentation".into());
        let finding = &check(&facts)[0];
        assert_eq!(finding.result, Verdict::Fault);
        assert_eq!(
            finding.mend().unwrap().join(" "),
            "ethtool -K vxg0 tx-checksum-ip-generic off tx-tcp-segmentation off"
        );
        assert!(check(&healthy::node()).is_empty());
    }
}
