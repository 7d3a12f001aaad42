//! What a control plane writes for each peer: a neighbour of the vxlan device, an FDB entry for its Ethernet address, and a
//! route out of the device. One that is missing is told, and not invented.

use std::collections::HashSet;

use foldhash::fast::FixedState;

use crate::doctor::facts::{Facts, Overlay, is_written};
use crate::doctor::finding::Finding;
use crate::fault::Fault;
use crate::wire::MacAddr;

const CHECK: &str = "peers";

type Macs = HashSet<MacAddr, FixedState>;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let ready = facts.ready().flat_map(|overlay| judge(facts, overlay));
    ready.collect()
}

fn judge(facts: &Facts, overlay: &Overlay) -> Vec<Finding> {
    let name = overlay.name();
    let ifindex = overlay.found.device.ifindex;
    let mut addresses = facts.addresses.iter();
    let is_addressed = addresses.any(|address| address.ifindex == ifindex);
    if !overlay.is_routed() || !is_addressed {
        let what = "peers: the device is not routed to, so there are no neighbours to judge";
        return vec![Finding::not_applicable(CHECK, what).of(name)];
    }
    // A frame to an address that the FDB does not know is flooded, if there is somebody to flood to: then nothing is missing.
    let floods = overlay
        .fdb
        .iter()
        .any(|entry| entry.mac.is_some_and(|mac| mac.is_zero()));
    let written = || overlay.neighbours.iter().filter(|entry| is_written(entry));
    let in_fdb: Macs = overlay.fdb.iter().filter_map(|entry| entry.mac).collect();
    let neighbours: Macs = overlay
        .neighbours
        .iter()
        .filter_map(|entry| entry.mac)
        .collect();
    let mut findings = Vec::new();
    if !floods {
        let without_fdb = written().filter_map(|entry| {
            let (addr, mac) = (entry.dst?, entry.mac?);
            (!in_fdb.contains(&mac)).then(|| {
                let what = format!("the neighbour {addr} is {mac}, which has no FDB entry");
                Finding::fault(CHECK, Fault::PeerIncomplete, what).of(name)
            })
        });
        findings.extend(super::first_of(without_fdb.collect()));
        let without_neighbour = overlay.fdb.iter().filter_map(|entry| {
            let mac = entry.mac.filter(|mac| !mac.is_multicast())?;
            let leads = entry.dst.map(|dst| dst.to_string());
            let leads = leads.or(entry.nexthop.map(|id| format!("nexthop {id}")))?;
            (!neighbours.contains(&mac)).then(|| {
                let what =
                    format!("the FDB leads {mac} to {leads}, and no neighbour has that address");
                Finding::fault(CHECK, Fault::PeerIncomplete, what).of(name)
            })
        });
        findings.extend(super::first_of(without_neighbour.collect()));
    }
    let astray = overlay
        .routes
        .iter()
        .filter(|(_, oif)| *oif != Some(ifindex));
    let astray = astray.map(|(addr, oif)| {
        let mut links = facts.links.iter();
        let other = links.find(|link| Some(link.ifindex) == *oif);
        let leads = other.map_or_else(
            || "nowhere".to_owned(),
            |link| format!("out of {}", link.name),
        );
        let what = format!("the route to its neighbour {addr} leads {leads}");
        Finding::fault(CHECK, Fault::PeerIncomplete, what).of(name)
    });
    findings.extend(super::first_of(astray.collect()));
    if findings.is_empty() {
        let what = match written().count() {
            0 => "no neighbour has been written for it: it has no peers".to_owned(),
            1 => "one neighbour, with FDB entry and route".to_owned(),
            count => format!("{count} neighbours, each with FDB entry and route"),
        };
        findings.push(Finding::ok(CHECK, what).of(name));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::healthy;

    fn told(change: impl FnOnce(&mut Overlay)) -> Vec<String> {
        let mut facts = healthy::node();
        change(&mut facts.overlays[0]);
        check(&facts)
            .into_iter()
            .map(|finding| finding.what)
            .collect()
    }

    #[test]
    fn each_of_the_three_is_missed() {
        assert_eq!(told(|_| {}), ["one neighbour, with FDB entry and route"]);
        assert_eq!(
            told(|overlay| overlay.fdb.clear()),
            ["the neighbour 10.244.0.0 is 0e:24:40:00:01:04, which has no FDB entry"]
        );
        assert_eq!(
            told(|overlay| {
                overlay.neighbours.clear();
                overlay.routes.clear();
            }),
            ["the FDB leads 0e:24:40:00:01:04 to 10.0.0.10, and no neighbour has that address"]
        );
        assert_eq!(
            told(|overlay| overlay.routes[0].1 = Some(healthy::UNDERLAY)),
            ["the route to its neighbour 10.244.0.0 leads out of eth1"]
        );
        assert_eq!(
            told(|overlay| overlay.routes[0].1 = None),
            ["the route to its neighbour 10.244.0.0 leads nowhere"]
        );
    }

    #[test]
    fn where_unknown_addresses_are_flooded_no_entry_is_missing() {
        let flooding = told(|overlay| {
            overlay.fdb[0].mac = Some(MacAddr::ZERO);
        });
        assert_eq!(flooding, ["one neighbour, with FDB entry and route"]);
    }
}
