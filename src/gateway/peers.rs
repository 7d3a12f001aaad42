//! The workers' book of peers, as the operator sees it.

use super::observe::{Observation, PeerState, Traffic, VniState};
use crate::control::SegmentReport;
use crate::stats::{PEERS_MAX, PeerTally};

/// Adds the peers of a device with this VNI to what is seen, at `now_ns` (`CLOCK_MONOTONIC`).
pub(super) fn add(seen: &mut Observation, segment: &SegmentReport, vni: u32, now_ns: u64) {
    let report = &segment.peers;
    let mut total = report.other;
    total += report.former;
    for peer in &report.peers {
        total += peer.tally;
        seen.peers.push(PeerState {
            device: segment.device.clone(),
            vni,
            addr: peer.addr,
            traffic: traffic(&peer.tally, now_ns),
        });
    }
    let uncounted = report.uncounted.len();
    if uncounted > 0 {
        seen.warnings.push(format!(
            "{}: {uncounted} peers are beyond the {PEERS_MAX} that are counted one by one, and are counted together as other",
            segment.device
        ));
    }
    seen.vnis.push(VniState {
        device: segment.device.clone(),
        vni,
        peers: report.peers.len() as u64,
        uncounted: uncounted as u64,
        total: traffic(&total, now_ns),
        other: traffic(&report.other, now_ns),
        former: traffic(&report.former, now_ns),
    });
}

fn traffic(tally: &PeerTally, now_ns: u64) -> Traffic {
    let age_ms = |last_ns: u64| (last_ns > 0).then(|| now_ns.saturating_sub(last_ns) / 1_000_000);
    Traffic {
        received: tally.received.frames,
        received_bytes: tally.received.bytes,
        received_age_ms: age_ms(tally.received.last_ns),
        sent: tally.sent.frames,
        sent_bytes: tally.sent.bytes,
        sent_age_ms: age_ms(tally.sent.last_ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{PeerReport, PeersReport};
    use crate::stats::Tally;
    use crate::table::SegmentId;

    fn tally(frames: u64, last_ns: u64) -> PeerTally {
        let received = Tally {
            frames,
            bytes: 100 * frames,
            last_ns,
        };
        PeerTally {
            received,
            sent: Tally::default(),
        }
    }

    #[test]
    fn all_parts_are_added_up_and_peers_beyond_the_bound_are_told() {
        let peer = |last, tally| PeerReport {
            addr: [10, 0, 0, last].into(),
            tally,
        };
        let segment = SegmentReport {
            id: SegmentId(0),
            device: "flannel.1".into(),
            ifindex: 4,
            fdb_entries: 0,
            flood_entries: 0,
            kernel_entries: 0,
            kernel_floods: false,
            vteps: Vec::new(),
            groups: Vec::new(),
            peers: PeersReport {
                peers: vec![peer(2, tally(5, 1_000_000)), peer(3, tally(0, 0))],
                other: tally(1, 7_000_000),
                former: tally(2, 500_000),
                uncounted: vec![[10, 0, 0, 9].into()],
            },
        };
        let mut seen = Observation::default();
        add(&mut seen, &segment, 1, 9_000_000);
        let ages = seen.peers.iter().map(|peer| peer.traffic.received_age_ms);
        assert_eq!(ages.collect::<Vec<_>>(), [Some(8), None]);
        let [vni] = &seen.vnis[..] else {
            panic!("{:?}", seen.vnis)
        };
        assert_eq!((vni.total.received, vni.total.received_bytes), (8, 800));
        assert_eq!(vni.total.received_age_ms, Some(2));
        assert_eq!((vni.peers, vni.uncounted), (2, 1));
        assert!(seen.warnings[0].contains("1 peers are beyond the 16384"));
    }
}
