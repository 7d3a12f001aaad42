//! What the running daemon has published against what the kernel says: both are made by the same code, at the same moment.

use crate::control::{SegmentReport, VtepReport};
use crate::doctor::facts::Facts;
use crate::doctor::finding::Finding;
use crate::fault::Fault;
use crate::gateway::{FdbEntryState, Observation, VtepState};

const CHECK: &str = "drift";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(status) = facts.daemon.status() else {
        return Vec::new();
    };
    let surveys: Vec<_> = facts.surveys().cloned().collect();
    let mut differences = differences(&surveys, &status.observation);
    differences.extend(facts.unlike.iter().map(entry_words));
    if differences.is_empty() {
        let what = "the daemon's tables are the kernel's (FDB, VTEPs, next hops)";
        return vec![Finding::ok(CHECK, what)];
    }
    let drifted = differences
        .into_iter()
        .map(|words| Finding::fault(CHECK, Fault::MirrorDrifted, words));
    super::first_of(drifted.collect())
}

/// In what the daemon's tables differ from the kernel's, of the devices that it has taken over. MTUs of paths are no part of
/// it: the kernel learns and forgets them without a word.
pub(in crate::doctor) fn differences(surveys: &[SegmentReport], seen: &Observation) -> Vec<String> {
    let mut differences = Vec::new();
    for survey in surveys {
        let name = &survey.device;
        let carried = seen
            .devices
            .iter()
            .find(|device| device.taken_over && device.name == *name);
        let Some(device) = carried else {
            continue;
        };
        for (what, kernel, daemon) in [
            ("FDB entries", survey.fdb_entries as u64, device.fdb_entries),
            (
                "flood entries",
                survey.flood_entries as u64,
                device.flood_entries,
            ),
        ] {
            if kernel != daemon {
                let words = format!("{name}: {daemon} {what}, and the kernel has {kernel}");
                differences.push(words);
            }
        }
        let known: Vec<_> = seen
            .vteps
            .iter()
            .filter(|vtep| vtep.device == *name)
            .collect();
        for vtep in &survey.vteps {
            let other = known.iter().find(|known| same_end_point(vtep, known));
            let (addr, kernel) = (vtep.key.addr, words(vtep));
            match other.map(|other| state_words(other)) {
                None => differences.push(format!("{name}: the VTEP {addr} is not known")),
                Some(daemon) if daemon != kernel => differences.push(format!(
                    "{name}: the VTEP {addr} is {daemon}, and for the kernel it is {kernel}"
                )),
                Some(_) => {}
            }
        }
        let gone = known.iter().filter(|known| {
            let mut vteps = survey.vteps.iter();
            !vteps.any(|vtep| same_end_point(vtep, known))
        });
        differences.extend(gone.map(|vtep| {
            format!(
                "{name}: the VTEP {} is none of the kernel's any more",
                vtep.addr
            )
        }));
    }
    differences
}

/// An FDB entry that only one of both has.
fn entry_words(entry: &FdbEntryState) -> String {
    let place = match (entry.dst, entry.nexthop) {
        (_, Some(nexthop)) => format!(" nhid {nexthop}"),
        (Some(dst), None) => format!(" dst {dst}"),
        (None, None) => String::new(),
    };
    let (name, mac) = (&entry.device, &entry.mac);
    if entry.published {
        format!("{name}: the workers have the FDB entry {mac}{place}, and the kernel has not")
    } else {
        format!("{name}: the kernel has the FDB entry {mac}{place}, and the workers have not")
    }
}

fn same_end_point(vtep: &VtepReport, state: &VtepState) -> bool {
    let key = &vtep.key;
    key.addr == state.addr && key.port == state.port && key.vni.get() == state.vni
}

fn words(vtep: &VtepReport) -> String {
    match vtep.mac {
        Ok(mac) => format!("resolved as {mac}"),
        Err(reason) => reason.label().to_owned(),
    }
}

fn state_words(vtep: &VtepState) -> String {
    match &vtep.next_hop_mac {
        Some(mac) => format!("resolved as {mac}"),
        None => vtep.state.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Verdict, healthy};
    use crate::table::UnresolvedReason;

    fn told(change: impl FnOnce(&mut SegmentReport)) -> Vec<String> {
        let mut facts = healthy::served();
        change(facts.overlays[0].survey.as_mut().unwrap());
        let bad = check(&facts)
            .into_iter()
            .filter(|finding| finding.result == Verdict::Fault);
        bad.map(|finding| finding.what).collect()
    }

    #[test]
    fn each_kind_of_difference_is_told() {
        assert_eq!(told(|_| {}), [""; 0]);
        assert_eq!(
            told(|survey| survey.fdb_entries = 3),
            ["flannel.1: 1 FDB entries, and the kernel has 3"]
        );
        assert_eq!(
            told(|survey| survey.vteps.clear()),
            ["flannel.1: the VTEP 10.0.0.10 is none of the kernel's any more"]
        );
        assert_eq!(
            told(|survey| survey.vteps[0].mac = Err(UnresolvedReason::NoRoute)),
            [
                "flannel.1: the VTEP 10.0.0.10 is resolved as 0e:00:00:00:00:10, and for the kernel it is no_route"
            ]
        );
        assert_eq!(
            told(|survey| survey.vteps[0].key.addr = "10.0.0.77".parse().unwrap()),
            [
                "flannel.1: the VTEP 10.0.0.77 is not known",
                "flannel.1: the VTEP 10.0.0.10 is none of the kernel's any more"
            ]
        );
        assert_eq!(told(|survey| survey.vteps[0].path_mtu = 1300), [""; 0]);
    }

    #[test]
    fn an_entry_that_only_one_has_is_named() {
        let mut facts = healthy::served();
        let entry: FdbEntryState = serde_json::from_value(serde_json::json!({
            "device": "flannel.1", "vni": 1, "mac": "0e:00:00:00:00:77", "dst": "10.0.0.77",
            "port": null, "dst_vni": null, "via": null, "nexthop": null, "words": [],
            "in_kernel": false, "published": true, "carried_by": "vxgate",
        }))
        .unwrap();
        facts.unlike = vec![
            entry.clone(),
            FdbEntryState {
                dst: None,
                nexthop: Some(7),
                in_kernel: true,
                published: false,
                ..entry
            },
        ];
        let told: Vec<_> = check(&facts)
            .into_iter()
            .map(|finding| finding.what)
            .collect();
        assert_eq!(
            told,
            [
                "flannel.1: the workers have the FDB entry 0e:00:00:00:00:77 dst 10.0.0.77, and the kernel has not",
                "flannel.1: the kernel has the FDB entry 0e:00:00:00:00:77 nhid 7, and the workers have not",
            ]
        );
    }

    #[test]
    fn without_a_daemon_there_is_nothing_to_compare() {
        assert!(check(&healthy::node()).is_empty());
    }
}
