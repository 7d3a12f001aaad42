//! What is seen of ports: the fate of every frame that came in by each.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where frames enter: an underlay device, or the access side of a vxlan device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PortState {
    /// The underlay device's name, or the vxlan device's.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// `underlay` or `access`.
    pub role: String,
    /// `native` or `generic`.
    pub xdp_mode: String,
    /// Whether the driver gives its own buffers.
    pub zero_copy: bool,
    /// Why it is not a better mode.
    pub why_not_better: Option<String>,
    /// Queues with a socket.
    pub queues: u32,
    /// Who finishes the outer UDP checksums of what leaves by an underlay device, where there are any: the `device`, or the
    /// `worker` that sends it.
    #[serde(default)]
    pub outer_checksums: Option<String>,
    /// The NUMA node of an underlay device; none for one that is on no node, or does not say.
    #[serde(default)]
    pub numa_node: Option<u32>,
    /// Frames that arrived, whatever became of them.
    pub received: u64,
    /// Frames handed on to the other side, the express gear's included.
    pub forwarded: u64,
    /// Frames among these that the express gear forwarded.
    #[serde(default)]
    pub express: u64,
    /// Copies beyond the first, for flood lists.
    pub flood_copies: u64,
    /// Their bytes, as sent; not among `forwarded_bytes`.
    #[serde(default)]
    pub copied_bytes: u64,
    /// Copies that could not be made or sent.
    pub flood_copies_lost: u64,
    /// Bytes of the frames forwarded, as sent.
    pub forwarded_bytes: u64,
    /// Inner checksums completed.
    pub checksums_completed: u64,
    /// Superframes that came in here and went out whole or cut, or that frames from here were joined to.
    #[serde(default)]
    pub superframes: u64,
    /// The segments that these are cut into or were joined from.
    #[serde(default)]
    pub segments: u64,
    /// Segments beyond the first of a superframe that were cut here and sent.
    #[serde(default)]
    pub segments_sent: u64,
    /// Segments beyond the first of superframes that left whole, to be cut behind us.
    #[serde(default)]
    pub segments_whole: u64,
    /// Segments beyond the first that were cut here and lost, although the first was not.
    #[serde(default)]
    pub segments_lost: u64,
    /// How superframes leave by an underlay device: `wire-gso`, whole by a TAP in front of it, or `cut` by the workers; none
    /// where there are none.
    #[serde(default)]
    pub superframes_leave: Option<String>,
    /// Why they are cut.
    #[serde(default)]
    pub why_cut: Option<String>,
    /// Frames of senders that are no known VTEPs, delivered all the same; among those forwarded.
    #[serde(default)]
    pub strangers_delivered: u64,
    /// Frames left to the kernel, by reason, and their `total`.
    pub passed: BTreeMap<String, u64>,
    /// Frames that died, by reason, and their `total`.
    pub drops: BTreeMap<String, u64>,
    /// Frames that have arrived and have no fate yet: they sit in a ring. Zero at any quiet moment.
    pub in_flight: i64,
    /// Whether `received = forwarded + passed + drops + in_flight` with no more in flight than the rings hold.
    pub balance_ok: bool,
}

impl PortState {
    /// A port with this name and role that has seen nothing yet: for tests.
    #[cfg(test)]
    pub(crate) fn named(name: &str, ifindex: u32, role: &str) -> Self {
        Self {
            name: name.into(),
            ifindex,
            role: role.into(),
            xdp_mode: "native".into(),
            queues: 1,
            balance_ok: true,
            ..Self::default()
        }
    }
}

/// Frames that died at a port of one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DropState {
    /// The port that they came in by.
    pub port: String,
    /// `rx` for what came from the underlay, `tx` for what was on its way there.
    pub direction: String,
    /// The reason.
    pub reason: String,
    /// How many since the takeover.
    pub count: u64,
    /// Milliseconds since one was last seen to have died; looked at once a second.
    pub last_age_ms: u64,
    /// How many in the last minute; since the takeover when that was later.
    pub last_minute: u64,
    /// How many in the last 10 minutes.
    pub last_10_minutes: u64,
    /// How many in the last hour.
    pub last_hour: u64,
}
