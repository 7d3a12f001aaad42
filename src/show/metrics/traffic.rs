//! Metrics of peers and VNIs: what went to each, and what came from it.
//!
//! Of the peers those with the most frames have series, so many as the operator says; of the VNIs the first [`VNIS_MAX`], and
//! the others share one. What a VNI has over its peers' series is that of all other peers, of strangers, and of peers that are
//! gone.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::exposition::{Exposition, Labels, Total, alone};
use crate::gateway::{Observation, PeerState, Traffic};

/// VNIs with series of their own.
pub(super) const VNIS_MAX: usize = 128;
/// The VNI of those that have none.
pub(super) const OTHER_VNIS: &str = "other";

/// Writes all families. `now` is the time of the observation.
pub(super) fn write(
    page: &mut Exposition<'_>,
    seen: &Observation,
    now: SystemTime,
    peers_max: usize,
) {
    vnis(page, seen);
    let mut peers: Vec<_> = seen.peers.iter().collect();
    // Of those with as many, always the same.
    peers.sort_by_key(|peer| {
        let frames = peer.traffic.received.saturating_add(peer.traffic.sent);
        (Reverse(frames), &peer.device, peer.addr)
    });
    peers.truncate(peers_max);
    let (packets, bytes) = (
        "Frames of the wire that were handed on, by the peer that they came from (rx) or went to (tx).",
        "Bytes of these frames, as handed on.",
    );
    page.counter_as_it_is(
        "vxgate_peer_packets_total",
        packets,
        peers.iter().flat_map(|peer| {
            let labels = peer_labels(peer);
            ways(labels, peer.traffic.received, peer.traffic.sent)
        }),
    );
    page.counter_as_it_is(
        "vxgate_peer_bytes_total",
        bytes,
        peers.iter().flat_map(|peer| {
            let labels = peer_labels(peer);
            ways(labels, peer.traffic.received_bytes, peer.traffic.sent_bytes)
        }),
    );
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH);
    let since_epoch = since_epoch.unwrap_or(Duration::ZERO);
    page.gauge(
        "vxgate_peer_last_receive_timestamp_seconds",
        "When the last frame of a peer was received and handed on.",
        peers.iter().filter_map(|peer| {
            let age = Duration::from_millis(peer.traffic.received_age_ms?);
            let last = since_epoch.saturating_sub(age).as_secs_f64();
            Some((peer_labels(peer), last))
        }),
    );
}

fn vnis(page: &mut Exposition<'_>, seen: &Observation) {
    let mut vnis: BTreeMap<Labels, Traffic> = BTreeMap::new();
    for (number, vni) in seen.vnis.iter().enumerate() {
        let labels = if number < VNIS_MAX {
            vec![("device", vni.device.clone()), ("vni", vni.vni.to_string())]
        } else {
            vec![
                ("device", OTHER_VNIS.to_owned()),
                ("vni", OTHER_VNIS.to_owned()),
            ]
        };
        let sum = vnis.entry(labels).or_default();
        sum.received += vni.total.received;
        sum.received_bytes += vni.total.received_bytes;
        sum.sent += vni.total.sent;
        sum.sent_bytes += vni.total.sent_bytes;
    }
    type Pick = fn(&Traffic) -> (u64, u64);
    let families: [(&str, &str, Pick); 2] = [
        (
            "vxgate_vni_packets_total",
            "Frames of the wire that were handed on, by the device that they went to (rx) or came from (tx); each segment of a superframe is one.",
            |traffic| (traffic.received, traffic.sent),
        ),
        (
            "vxgate_vni_bytes_total",
            "Bytes of these frames, as handed on.",
            |traffic| (traffic.received_bytes, traffic.sent_bytes),
        ),
    ];
    for (name, help, pick) in families {
        let series = vnis.iter().flat_map(|(labels, traffic)| {
            let (received, sent) = pick(traffic);
            ways(labels.clone(), received, sent)
        });
        let series = series.map(|(labels, count)| (labels, Total::Count(count)));
        page.counter(name, help, series);
    }
    let uncounted: u64 = seen.vnis.iter().map(|vni| vni.uncounted).sum();
    page.gauge(
        "vxgate_peers_uncounted",
        "Peers beyond the bound of those that are counted one by one.",
        [alone(uncounted as f64)],
    );
}

fn peer_labels(peer: &PeerState) -> Labels {
    vec![
        ("device", peer.device.clone()),
        ("vni", peer.vni.to_string()),
        ("peer", peer.addr.to_string()),
    ]
}

/// A series for each direction.
fn ways(labels: Labels, received: u64, sent: u64) -> [(Labels, u64); 2] {
    [("rx", received), ("tx", sent)].map(|(way, count)| {
        let mut labels = labels.clone();
        labels.push(("direction", way.to_owned()));
        (labels, count)
    })
}
