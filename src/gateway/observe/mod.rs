//! The books: what a running gateway can say of itself, as plain data. `show` renders it; nothing here formats.

mod device;
mod direct;
mod peer;
mod policy;
mod port;
mod worker;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::captures::CaptureState;

pub use device::{AccessState, DeviceState, RefusedState, SuperframesState};
pub(super) use device::{device, left_to_the_kernel};
pub use direct::{
    DirectState, DirectWayState, EXPRESS, FlowState, FlowsState, PodState, RING, TRANSPARENT,
};
pub use peer::{GroupState, MemberState, PeerState, Traffic, VniState, VtepState};
pub use policy::{OffenderState, PolicyState};
pub use port::{DropState, PortState};
pub use worker::{QueueState, RingState, StagesState, WorkerState};

/// All there is to say at one moment. Field names are the keys of `vxgate status --json`: add, never rename.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Observation {
    /// Why the gateway is not healthy; empty when it is.
    pub reasons: Vec<String>,
    /// What deserves a look although frames flow.
    pub warnings: Vec<String>,
    /// The vxlan devices of the namespace that were asked for.
    pub devices: Vec<DeviceState>,
    /// The ports, underlay first.
    pub ports: Vec<PortState>,
    /// Every reason for which a port has lost frames since the takeover, and when it last did.
    #[serde(default)]
    pub drops: Vec<DropState>,
    /// The workers.
    pub workers: Vec<WorkerState>,
    /// The remote tunnel end points.
    pub vteps: Vec<VtepState>,
    /// What was counted of each peer: a VTEP address of a vxlan device.
    #[serde(default)]
    pub peers: Vec<PeerState>,
    /// What was counted of all peers of each vxlan device.
    #[serde(default)]
    pub vnis: Vec<VniState>,
    /// The nexthop groups that FDB entries lead to.
    #[serde(default)]
    pub groups: Vec<GroupState>,
    /// How the mirror of the kernel's tables is doing.
    pub mirror: MirrorState,
    /// What the operator decided, or left to the default.
    #[serde(default)]
    pub policy: PolicyState,
    /// The last senders that the peer check found fault with, the latest first.
    #[serde(default)]
    pub offenders: Vec<OffenderState>,
    /// Whether the operator has handed the traffic to the kernel for now (`vxgate drain`).
    #[serde(default)]
    pub drained: bool,
    /// The captures that run.
    #[serde(default)]
    pub captures: Vec<CaptureState>,
    /// Records that all captures since the daemon started have lost because nobody read them in time.
    #[serde(default)]
    pub capture_lost: u64,
    /// Takeovers since the daemon started: another begins when devices come, go or change, and the counts of its ports,
    /// workers and mirror begin anew.
    #[serde(default)]
    pub takeovers: u64,
    /// The direct path; none where it was not asked for.
    #[serde(default)]
    pub direct: Option<DirectState>,
}

/// The mirror of the kernel's tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MirrorState {
    /// Snapshots published since the start of the session.
    pub publications: u64,
    /// Times everything was read again.
    pub resyncs: u64,
    /// Notifications taken from the kernel.
    #[serde(default)]
    pub events: u64,
    /// Times that the kernel could not queue a notification.
    #[serde(default)]
    pub overruns: u64,
}
