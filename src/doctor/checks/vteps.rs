//! The ways to the end points of the peers: routes, next hops, and how long frames may be there.

use std::net::IpAddr;

use crate::control::VtepReport;
use crate::doctor::facts::{Facts, Overlay};
use crate::doctor::finding::Finding;
use crate::fault::Fault;
use crate::table::{OUTER_IPV4_LEN, OUTER_IPV6_LEN, UnresolvedReason};

const CHECK: &str = "vteps";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let ready = facts.ready().flat_map(|overlay| judge(facts, overlay));
    ready.collect()
}

fn judge(facts: &Facts, overlay: &Overlay) -> Vec<Finding> {
    let name = overlay.name();
    let Some(survey) = &overlay.survey else {
        return Vec::new();
    };
    let failed = overlay.found.underlay.as_ref().and_then(|link| {
        let mut underlays = facts.underlays.iter();
        let below = underlays.find(|one| one.link.ifindex == link.ifindex)?;
        Some(&below.failed)
    });
    let is_failed = |addr: IpAddr| failed.is_some_and(|failed| failed.contains(&addr));
    let vteps = survey
        .vteps
        .iter()
        .filter(|vtep| !vtep.key.addr.is_unspecified());
    let mut lost = Vec::new();
    let mut narrow = Vec::new();
    let mut count = 0;
    for vtep in vteps {
        count += 1;
        if let Some(what) = unreachable(facts, vtep, is_failed) {
            lost.push(Finding::fault(CHECK, Fault::PeerUnreachable, what).of(name));
        } else if let Some(what) = narrow_path(overlay, vtep) {
            let finding = Finding::warning(CHECK, Fault::MtuTooLarge, what).of(name);
            narrow.push(finding.advise(format!(
                "Give {name} a smaller MTU, or the path a larger one: longer frames are left to the kernel, which cuts them into \
                 fragments or answers that they are too long."
            )));
        }
    }
    let mut findings = super::first_of(lost);
    findings.extend(super::first_of(narrow));
    if findings.is_empty() {
        let what = match count {
            0 => "no VTEP is known".to_owned(),
            1 => "one VTEP, which has a route".to_owned(),
            count => format!("{count} VTEPs, each has a route"),
        };
        findings.push(Finding::ok(CHECK, what).of(name));
    }
    findings
}

/// Why a VTEP is not reached; none when it is, as far as anybody knows.
fn unreachable(
    facts: &Facts,
    vtep: &VtepReport,
    is_failed: impl Fn(IpAddr) -> bool,
) -> Option<String> {
    let addr = vtep.key.addr;
    let hop = match vtep.next_hop {
        Some(hop) if hop != addr => format!("its next hop {hop}"),
        _ => "it".to_owned(),
    };
    match vtep.mac {
        Err(UnresolvedReason::NoRoute) => Some(format!("the VTEP {addr} has no route")),
        // A next hop that nobody has needed lately has no neighbour; a daemon has it resolved all the time.
        Err(UnresolvedReason::NoNeighbour)
            if facts.daemon.status().is_some() || vtep.next_hop.is_some_and(is_failed) =>
        {
            Some(format!(
                "the VTEP {addr}: {hop} does not answer (ARP or neighbour discovery)"
            ))
        }
        _ => None,
    }
}

/// What to say of a VTEP to which the device's largest frames do not get in one piece, although they fit the underlay device.
fn narrow_path(overlay: &Overlay, vtep: &VtepReport) -> Option<String> {
    let link = overlay.found.underlay.as_ref()?;
    let outer = match vtep.key.addr {
        IpAddr::V4(_) => OUTER_IPV4_LEN,
        IpAddr::V6(_) => OUTER_IPV6_LEN,
    };
    let needed = overlay.found.device.mtu.saturating_add(outer as u32);
    let path = u32::from(vtep.path_mtu);
    (path < needed && path < link.mtu).then(|| {
        format!(
            "the path to the VTEP {} takes {path} bytes, and its MTU needs {needed}",
            vtep.key.addr
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Verdict, healthy};

    fn judged(facts: &mut Facts, change: impl FnOnce(&mut VtepReport)) -> (Verdict, String) {
        let survey = facts.overlays[0].survey.as_mut().unwrap();
        change(&mut survey.vteps[0]);
        let finding = check(facts).swap_remove(0);
        (finding.result, finding.what)
    }

    #[test]
    fn a_vtep_without_a_way_is_a_fault_and_one_that_nobody_asked_for_is_not() {
        let node = healthy::node;
        let (verdict, what) = judged(&mut node(), |vtep| {
            (vtep.next_hop, vtep.mac) = (None, Err(UnresolvedReason::NoRoute));
        });
        assert_eq!(
            (verdict, &*what),
            (Verdict::Fault, "the VTEP 10.0.0.10 has no route")
        );
        let silent = |vtep: &mut VtepReport| vtep.mac = Err(UnresolvedReason::NoNeighbour);
        assert_eq!(judged(&mut node(), silent).0, Verdict::Ok);
        let mut failed = node();
        failed.underlays[0].failed = vec!["10.0.0.10".parse().unwrap()];
        let (verdict, what) = judged(&mut failed, silent);
        assert!(
            verdict == Verdict::Fault && what.contains("it does not answer"),
            "{what}"
        );
        let (verdict, what) = judged(&mut healthy::served(), |vtep| {
            silent(vtep);
            vtep.next_hop = Some("10.0.0.1".parse().unwrap());
        });
        assert!(
            verdict == Verdict::Fault && what.contains("next hop 10.0.0.1"),
            "{what}"
        );
    }

    #[test]
    fn a_narrow_path_is_told_unless_the_link_is_as_narrow() {
        let (verdict, what) = judged(&mut healthy::node(), |vtep| vtep.path_mtu = 1400);
        assert!(
            verdict == Verdict::Warning && what.contains("takes 1400 bytes"),
            "{what}"
        );
        let mut narrow = healthy::node();
        narrow.overlays[0].found.underlay.as_mut().unwrap().mtu = 1400;
        assert_eq!(
            judged(&mut narrow, |vtep| vtep.path_mtu = 1400).0,
            Verdict::Ok
        );
    }
}
