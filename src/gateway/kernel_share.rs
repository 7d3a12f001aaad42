//! What to say of a device some of whose frames only the kernel brings home.

use crate::control::SegmentReport;

/// How much that is, and why, with one example; none where it is nothing.
pub(super) fn words(segment: &SegmentReport) -> Option<String> {
    let kernels = segment.vteps.iter().filter_map(|vtep| {
        let reason = vtep.mac.err().filter(|reason| reason.is_kernels())?;
        Some((vtep.key.addr, reason.label()))
    });
    let kernels: Vec<_> = kernels.collect();
    // The address of nobody stands for entries that name another device, or none at all.
    let named = kernels.iter().find(|(addr, _)| !addr.is_unspecified());
    let example = match (named, kernels.is_empty()) {
        (_, true) => return None,
        (Some((addr, why)), _) => format!("such as {addr}: {why}"),
        (None, _) => "by another device, or without an address".to_owned(),
    };
    let flooded = if segment.kernel_floods {
        ", and so are all that no FDB entry names"
    } else {
        ""
    };
    Some(format!(
        "{}: {} of {} FDB and flood entries lead where only the kernel sends ({example}): their frames are left to \
         it{flooded}",
        segment.device,
        segment.kernel_entries,
        segment.fdb_entries + segment.flood_entries,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{PeersReport, VtepReport};
    use crate::table::{SegmentId, UnresolvedReason, VtepKey};
    use crate::wire::{MacAddr, Vni};

    fn report(vteps: &[(&str, Result<MacAddr, UnresolvedReason>)]) -> SegmentReport {
        let vtep = |(addr, mac): &(&str, _)| VtepReport {
            key: VtepKey {
                addr: addr.parse().unwrap(),
                port: 8472,
                vni: Vni::new(1).unwrap(),
            },
            next_hop: None,
            mac: *mac,
            path_mtu: 1500,
        };
        SegmentReport {
            id: SegmentId(0),
            device: "vx".into(),
            ifindex: 4,
            fdb_entries: 5,
            flood_entries: 2,
            kernel_entries: 3,
            kernel_floods: false,
            groups: Vec::new(),
            peers: PeersReport::default(),
            vteps: vteps.iter().map(vtep).collect(),
        }
    }

    #[test]
    fn numbers_and_one_example_are_told_and_nothing_where_there_is_nothing() {
        let ours = [
            ("10.9.0.2", Ok(MacAddr([2; 6]))),
            ("10.9.0.3", Err(UnresolvedReason::NoNeighbour)),
        ];
        assert_eq!(words(&report(&ours)), None);
        let nowhere = [("0.0.0.0", Err(UnresolvedReason::Unsupported))];
        assert_eq!(
            words(&report(&nowhere)).unwrap(),
            "vx: 3 of 7 FDB and flood entries lead where only the kernel sends (by another device, or without an \
             address): their frames are left to it"
        );
        let local = [
            nowhere[0],
            ours[0],
            ("10.9.0.4", Err(UnresolvedReason::LocalAddress)),
        ];
        let flooding = SegmentReport {
            kernel_floods: true,
            ..report(&local)
        };
        let words = words(&flooding).unwrap();
        assert!(
            words.contains("(such as 10.9.0.4: local_address)"),
            "{words}"
        );
        assert!(
            words.ends_with("left to it, and so are all that no FDB entry names"),
            "{words}"
        );
    }
}
