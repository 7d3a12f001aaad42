//! Programs of others where vxgate has its own.

use crate::doctor::facts::{Classifier, Facts};
use crate::doctor::finding::Finding;
use crate::fault::Fault;
use crate::steer::{XdpProgram, is_ours};

const CHECK: &str = "programs";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for underlay in &facts.underlays {
        let name = underlay.link.name.as_str();
        findings.extend(foreign_xdp(facts, name, underlay.program.as_ref()));
        let why = "It does not see the frames that vxgate carries through this device: they pass below it.";
        findings.extend(foreign(name, &underlay.classifiers, |_| true, why));
    }
    for overlay in &facts.overlays {
        // What arrives passes as the kernel's own does.
        let why = "It has its turn before or behind vxgate's program: one before may take frames away, and one behind sees \
                   none that vxgate carries.";
        let leaving = |classifier: &Classifier| classifier.egress;
        findings.extend(foreign(overlay.name(), &overlay.classifiers, leaving, why));
    }
    for end in &facts.accesses {
        let program = end.program.as_ref();
        findings.extend(foreign_xdp(facts, &end.name, program));
        let why = "Nobody but vxgate should touch its access devices.";
        findings.extend(foreign(&end.name, &end.classifiers, |_| true, why));
    }
    if findings.is_empty() && !facts.underlays.is_empty() {
        findings.push(Finding::ok(CHECK, "no program of others is in the way"));
    }
    findings
}

fn foreign_xdp(facts: &Facts, device: &str, program: Option<&XdpProgram>) -> Option<Finding> {
    let program = program.filter(|program| !program.is_ours())?;
    if !program.has_name() && facts.process.lacks.is_some() {
        let what = "runs an XDP program, whose name only root may know";
        return Some(Finding::not_applicable(CHECK, what).of(device));
    }
    let what = format!("runs somebody else's XDP program ({})", program.words);
    Some(
        Finding::fault(CHECK, Fault::ForeignProgram, what)
            .command(["ip", "link", "set", "dev", device, &program.mode, "off"])
            .of(device),
    )
}

fn foreign(
    device: &str,
    classifiers: &[Classifier],
    in_the_way: impl Fn(&Classifier) -> bool,
    why: &str,
) -> Vec<Finding> {
    let foreign = classifiers
        .iter()
        .filter(|classifier| in_the_way(classifier) && !is_ours(&classifier.name));
    let told = foreign.map(|classifier| {
        let side = if classifier.egress {
            "egress"
        } else {
            "ingress"
        };
        let name = &classifier.name;
        let finding = match classifier.priority {
            None => {
                let what = format!("somebody else's program '{name}' is on its {side} (tcx)");
                Finding::warning(CHECK, Fault::ForeignClassifier, what)
                    .command(["bpftool", "net", "show", "dev", device])
            }
            Some(priority) => {
                let what = format!("somebody else's filter '{name}' is on its {side} (clsact)");
                let priority = priority.to_string();
                Finding::warning(CHECK, Fault::ForeignClassifier, what).command([
                    "tc", "filter", "del", "dev", device, side, "pref", &priority,
                ])
            }
        };
        finding.because(why).of(device)
    });
    super::first_of(told.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Verdict, healthy};

    fn classifier(name: &str, egress: bool, priority: Option<u16>) -> Classifier {
        Classifier {
            egress,
            name: name.to_owned(),
            priority,
        }
    }

    #[test]
    fn programs_of_others_are_named_with_what_removes_them_and_ours_are_not() {
        let mut facts = healthy::served();
        let program = |words: &str| XdpProgram {
            words: words.to_owned(),
            mode: "xdpgeneric".to_owned(),
        };
        facts.underlays[0].program = Some(program("id 9, xdp_dispatcher"));
        facts.underlays[0].classifiers = vec![classifier("cil_from_netdev", false, None)];
        let overlay = &mut facts.overlays[0];
        overlay
            .classifiers
            .push(classifier("x.o:[tc]", true, Some(7)));
        overlay
            .classifiers
            .push(classifier("in.o:[tc]", false, Some(8)));
        facts.accesses[0].program = Some(program("id 10, other"));
        let text: String = check(&facts).iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(text, @r"
        [FAIL] eth1: runs somebody else's XDP program (id 9, xdp_dispatcher)  VXG-0704
               why  A device takes one XDP program, and vxgate does not replace what it does not own.
               fix  ip link set dev eth1 xdpgeneric off
        [warn] eth1: somebody else's program 'cil_from_netdev' is on its ingress (tcx)  VXG-0708
               why  It does not see the frames that vxgate carries through this device: they pass below it.
               fix  bpftool net show dev eth1
        [warn] flannel.1: somebody else's filter 'x.o:[tc]' is on its egress (clsact)  VXG-0708
               why  It has its turn before or behind vxgate's program: one before may take frames away, and one behind sees
                    none that vxgate carries.
               fix  tc filter del dev flannel.1 egress pref 7
        [FAIL] vxg0: runs somebody else's XDP program (id 10, other)  VXG-0704
               why  A device takes one XDP program, and vxgate does not replace what it does not own.
               fix  ip link set dev vxg0 xdpgeneric off
        ");
    }

    #[test]
    fn a_program_whose_name_we_may_not_know_is_nobodys() {
        let mut facts = healthy::node();
        let words = format!("id 9, {}", XdpProgram::NAMELESS);
        facts.underlays[0].program = Some(XdpProgram {
            words,
            mode: "xdp".to_owned(),
        });
        assert_eq!(check(&facts)[0].result, Verdict::Fault);
        facts.process.lacks = Some("missing CAP_BPF".to_owned());
        assert_eq!(check(&facts)[0].result, Verdict::NotApplicable);
    }

    #[test]
    fn ours_alone_are_as_it_should_be() {
        let facts = healthy::served();
        assert!(
            facts.overlays[0]
                .classifiers
                .iter()
                .any(|c| is_ours(&c.name))
        );
        assert_eq!(check(&facts)[0].result, Verdict::Ok);
    }
}
