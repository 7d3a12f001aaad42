//! `vxgate status`: one screen that says whether it is healthy, and why. Text and JSON come from the same value.

mod balance;
mod device;
mod direct;
mod port;
mod text;

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Effective;
use crate::gateway::Observation;

/// The schema of every JSON answer; keys are added, never renamed.
pub const SCHEMA: &str = "vxgate/1";

/// Whether frames flow as they should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Every device that was asked for is carried by live workers.
    Healthy,
    /// Something is wrong; frames take the kernel's path where vxgate cannot carry them.
    Degraded,
    /// The operator has handed the traffic to the kernel.
    Drained,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "HEALTHY",
            Self::Degraded => "DEGRADED",
            Self::Drained => "DRAINED",
        })
    }
}

/// The answer to `status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: String,
    /// The verdict.
    pub state: Health,
    /// The daemon's version.
    pub version: String,
    /// The daemon's process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Its settings.
    #[serde(default)]
    pub configuration: Configuration,
    /// How often it has read its file again.
    #[serde(default)]
    pub reloads: Reloads,
    /// Everything else.
    #[serde(flatten)]
    pub observation: Observation,
}

/// The settings of a daemon, those in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Configuration {
    /// The file that it has read, if any.
    pub file: Option<PathBuf>,
    /// Every setting, with where its value comes from.
    pub settings: Vec<Effective>,
    /// What is logged for now because somebody said so at run time, whatever the settings say.
    #[serde(default)]
    pub log_level: Option<String>,
}

/// Readings of the configuration file since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reloads {
    /// Those that count, whether they changed anything or not.
    pub succeeded: u64,
    /// Those that changed nothing, because the file cannot be.
    pub failed: u64,
    /// When the settings in force were read, in microseconds since 1970 (UTC): at the start, or by the last reading that counts.
    pub last_success_us: Option<u64>,
}

impl Status {
    /// Judges an observation.
    pub fn new(observation: Observation, uptime_s: u64) -> Self {
        let state = if observation.drained {
            Health::Drained
        } else if observation.reasons.is_empty() {
            Health::Healthy
        } else {
            Health::Degraded
        };
        Self {
            schema: SCHEMA.to_owned(),
            state,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s,
            configuration: Configuration::default(),
            reloads: Reloads::default(),
            observation,
        }
    }

    /// With the count of what was read again.
    #[must_use]
    pub fn with_reloads(self, reloads: Reloads) -> Self {
        Self { reloads, ..self }
    }

    /// With the settings of the daemon.
    #[must_use]
    pub fn with_configuration(self, configuration: Configuration) -> Self {
        Self {
            configuration,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::gateway::PortState;

    pub(super) fn port() -> PortState {
        PortState {
            name: "eth1".into(),
            ifindex: 2,
            role: "underlay".into(),
            xdp_mode: "native".into(),
            zero_copy: false,
            why_not_better: Some("veth: Operation not supported".into()),
            queues: 1,
            outer_checksums: None,
            numa_node: None,
            received: 10,
            forwarded: 6,
            express: 0,
            flood_copies: 0,
            copied_bytes: 0,
            flood_copies_lost: 0,
            forwarded_bytes: 600,
            checksums_completed: 0,
            superframes: 0,
            segments: 0,
            segments_sent: 0,
            segments_whole: 0,
            segments_lost: 0,
            superframes_leave: None,
            why_cut: None,
            strangers_delivered: 0,
            passed: BTreeMap::from([("total".into(), 3), ("not_ours".into(), 3)]),
            drops: BTreeMap::from([
                ("total".into(), 1),
                ("no_i_flag".into(), 1),
                ("oversize".into(), 0),
            ]),
            in_flight: 0,
            balance_ok: true,
        }
    }

    #[test]
    fn a_reason_degrades_and_json_survives_the_round_trip() {
        let observation = Observation {
            reasons: vec!["worker 0 hangs".into()],
            ports: vec![port()],
            ..Default::default()
        };
        let status = Status::new(observation, 1);
        assert_eq!(status.state, Health::Degraded);
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["schema"], "vxgate/1");
        assert_eq!(json["state"], "degraded");
        assert_eq!(json["ports"][0]["drops"]["no_i_flag"], 1);
        assert_eq!(serde_json::from_value::<Status>(json).unwrap(), status);
    }

    #[test]
    fn the_answer_of_an_older_daemon_without_the_newer_keys_is_understood() {
        let json = serde_json::json!({
            "schema": SCHEMA, "state": "healthy", "version": "0", "pid": 1, "uptime_s": 1,
            "reasons": [], "warnings": [], "workers": [], "ports": [],
            "mirror": { "publications": 0, "resyncs": 0 },
            "devices": [{
                "name": "vx", "ifindex": 4, "vni": 1, "port": 8472, "local": "10.9.0.1", "mtu": 1450,
                "underlay": "u0", "access": null, "taken_over": true, "refused": null,
                "fdb_entries": 1, "flood_entries": 0,
            }],
            "vteps": [{
                "device": "vx", "vni": 1, "addr": "10.9.0.2", "port": 8472, "next_hop": null,
                "next_hop_mac": null, "state": "no_neighbour", "path_mtu": 1500,
            }],
        });
        let text = serde_json::from_value::<Status>(json).unwrap().to_string();
        assert!(
            text.contains("taken over, 1 FDB entries, 0 flood\n"),
            "{text}"
        );
        assert!(
            text.contains("10.9.0.2:8472  no_neighbour  path MTU 1500\n"),
            "{text}"
        );
    }
}
