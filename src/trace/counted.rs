//! The counters that a frame moves, by the names that `/metrics` has for them.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::{At, Fate, Outcome, Tracer};

/// A counter that moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counter {
    /// Its name.
    pub name: String,
    /// Its labels, in the order of `/metrics`.
    #[serde(serialize_with = "as_object")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub labels: Vec<(String, String)>,
    /// By how much.
    pub by: u64,
}

impl Counter {
    fn new<const N: usize>(name: &str, labels: [(&str, &str); N], by: u64) -> Self {
        let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned()));
        Self {
            name: name.to_owned(),
            labels: labels.into(),
            by,
        }
    }
}

fn as_object<S: Serializer>(labels: &[(String, String)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(labels.iter().map(|(label, value)| (label, value)))
}

impl fmt::Display for Counter {
    /// As in the text of `/metrics`, and by how much.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{{", self.name)?;
        for (place, (label, value)) in self.labels.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            write!(f, "{comma}{label}=\"{value}\"")?;
        }
        write!(f, "}} +{}", self.by)
    }
}

impl Tracer {
    /// What moves: the counter of its fate first.
    pub(super) fn counters(&self, at: At, outcome: &Outcome) -> Vec<Counter> {
        let port = self.name(at);
        let (way, direction) = match at {
            At::Underlay(_) => ("decap", "rx"),
            At::Access(_) => ("encap", "tx"),
        };
        let fate = match outcome.fate {
            Fate::Pass(reason) => {
                let labels = [("port", port), ("reason", reason.label())];
                Counter::new("vxgate_passed_packets_total", labels, 1)
            }
            Fate::Drop(reason) => {
                let labels = [
                    ("port", port),
                    ("reason", reason.label()),
                    ("direction", direction),
                ];
                Counter::new("vxgate_drops_total", labels, 1)
            }
            Fate::Forward => {
                let labels = [("port", port), ("direction", way)];
                Counter::new("vxgate_forwarded_packets_total", labels, 1)
            }
        };
        let mut counters = vec![fate];
        for (name, by) in [
            ("vxgate_flood_copies_total", outcome.flood_copies),
            ("vxgate_flood_copies_lost_total", outcome.flood_copies_lost),
            (
                "vxgate_inner_checksums_completed_total",
                outcome.checksums_completed,
            ),
            (
                "vxgate_strangers_delivered_total",
                u64::from(outcome.stranger),
            ),
        ] {
            if by > 0 {
                counters.push(Counter::new(name, [("port", port), ("direction", way)], by));
            }
        }
        let peers = outcome.peers.iter();
        counters.extend(peers.filter_map(|(segment, addr, frames)| {
            let config = &self.state.segments.get(*segment)?.config;
            let (vni, peer) = (config.vni.to_string(), (*addr)?.to_string());
            let labels = [
                ("device", config.name.as_str()),
                ("vni", vni.as_str()),
                ("peer", peer.as_str()),
                ("direction", direction),
            ];
            Some(Counter::new("vxgate_peer_packets_total", labels, *frames))
        }));
        counters
    }
}
