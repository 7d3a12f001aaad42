//! What is seen of the direct path: its flows, its pods, and what its gears did.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The direct path.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DirectState {
    /// `flows`, or `always`.
    pub mode: String,
    /// Why no flow goes it.
    pub why_not: Option<String>,
    /// Why no TCP flow goes it.
    pub why_not_tcp: Option<String>,
    /// Why no flow goes higher than the ring gear.
    #[serde(default)]
    pub why_not_express: Option<String>,
    /// The pods' devices that are looked after.
    pub pods: u64,
    /// Those among them that take frames from XDP as they are, because their pod's end has GRO on or a program.
    pub pods_by_xdp: u64,
    /// Others, and why not.
    pub pods_left_out: BTreeMap<String, String>,
    /// How many may be looked after.
    #[serde(default)]
    pub pods_max: u64,
    /// Those that are, by their names on the host's side, and what that means to each.
    #[serde(default)]
    pub pod_devices: BTreeMap<String, PodState>,
    /// Which programs take what pods send express, as the operator wants it: `classifier`, or `xdp` in front of it.
    #[serde(default)]
    pub pod_programs: String,
    /// Flows in the express gear.
    pub express_flows: u64,
    /// Flows in the ring gear, now or lately.
    #[serde(default)]
    pub ring_flows: u64,
    /// Flows promoted since the start of the session.
    pub promotions: u64,
    /// Times that a flow was told of, on its way to be promoted, and nothing came of it: `judge_busy`, more waited than are heard in
    /// time; `no_place`, no place of the table was free (taken, or resting after a change). It is told of again.
    #[serde(default)]
    pub sightings_lost: BTreeMap<String, u64>,
    /// How often every flow was demoted at once, because something changed that the kernel decides by.
    pub changes: u64,
    /// What had changed, of several things at once the first.
    #[serde(default)]
    pub changes_by: BTreeMap<String, u64>,
    /// From pods to the underlay, express.
    pub out: DirectWayState,
    /// Those of its frames forwarded that XDP at the pods' devices took.
    #[serde(default)]
    pub out_by_xdp: u64,
    /// From the underlay to pods, express.
    #[serde(rename = "in")]
    pub into: DirectWayState,
    /// From pods to their vxlan device, in the ring gear: what express left to it. Its frames are of the wire, as many as a superframe
    /// has segments; from there on they are among the ports', superframes as passed to the kernel (`superframe`).
    #[serde(default)]
    pub ring_out: DirectWayState,
    /// From the workers to pods, in the ring gear: all that they decapsulate.
    #[serde(default)]
    pub ring_in: DirectWayState,
}

impl DirectState {
    /// All ways of both gears, by name.
    pub fn ways(&self) -> [(&DirectWayState, &'static str); 4] {
        [
            (&self.out, "express from pods"),
            (&self.into, "express to pods"),
            (&self.ring_out, "ring from pods"),
            (&self.ring_in, "ring to pods"),
        ]
    }
}

/// A pod's device that is looked after, and what that means to the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PodState {
    /// Its index on the host's side.
    pub ifindex: u32,
    /// How frames get to it: `xdp` sends them as they are, `classifier` through the receive path of the NIC, with GRO.
    pub delivery: String,
    /// What takes the frames that the pod sends: `classifier`, or `xdp` in front of it.
    #[serde(default)]
    pub sending: String,
    /// Why that is not `xdp`, where it should be.
    #[serde(default)]
    pub why_not_xdp: Option<String>,
    /// The longest packet that it takes, as it was.
    pub mtu: u32,
    /// Offloads that it, or its pod's end, had until programs were attached to it, and has had no more since.
    pub offloads_lost: Vec<String>,
    /// Its flows in the express gear, about a second ago.
    pub express_flows: u64,
}

/// Flows that are known, those first that carried the most.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowsState {
    /// `flows`, or `always`; none without a direct path.
    #[serde(default)]
    pub mode: Option<String>,
    /// Why no flow goes the direct path.
    pub why_not: Option<String>,
    /// Why no TCP flow goes it.
    pub why_not_tcp: Option<String>,
    /// Why no flow goes higher than the ring gear.
    #[serde(default)]
    pub why_not_express: Option<String>,
    /// How many are known.
    pub known: u64,
    /// How many of them go express.
    pub express: u64,
    /// How many of them are in the ring gear, now or lately.
    #[serde(default)]
    pub ring: u64,
    /// Not all, where there are too many.
    pub flows: Vec<FlowState>,
}

/// A flow between a local pod and one elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowState {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The local pod's end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// The pod's device on the host's side, of a promoted flow.
    pub device: Option<String>,
    /// The VTEP that the other end is behind.
    pub vtep: Option<IpAddr>,
    /// `express` past the workers, `ring` through them or, from a pod that sends superframes, the kernel's own vxlan device, both
    /// around the kernel's routing and filters; `transparent` through these.
    pub gear: String,
    /// Which ways it is promoted: `both`, `in` (to the pod) or `out` (from it); none of one that is not.
    #[serde(default)]
    pub ways: Option<String>,
    /// Why not a higher gear, or not both ways, or not both in this gear.
    pub why_not_higher: Option<String>,
    /// How long it is known, in milliseconds.
    pub age_ms: u64,
    /// Frames from the pod in the express gear.
    pub out_frames: u64,
    /// Their bytes, without outer headers.
    pub out_bytes: u64,
    /// Frames to the pod in the express gear.
    pub in_frames: u64,
    /// Their bytes.
    pub in_bytes: u64,
    /// Frames from the pod in the ring gear: of the wire.
    #[serde(default)]
    pub ring_out_frames: u64,
    /// Their bytes, of a superframe with one set of inner headers.
    #[serde(default)]
    pub ring_out_bytes: u64,
    /// Frames to the pod in the ring gear: of the wire.
    #[serde(default)]
    pub ring_in_frames: u64,
    /// Their bytes.
    #[serde(default)]
    pub ring_in_bytes: u64,
}

/// The word for the gear past the workers.
pub const EXPRESS: &str = "express";
/// That for the one through them, or the kernel's own vxlan device.
pub const RING: &str = "ring";
/// That for the path through the kernel's routing and filters.
pub const TRANSPARENT: &str = "transparent";

impl FlowState {
    /// Frames that went the direct path, in any gear: from the pod, and to it.
    pub fn frames(&self) -> (u64, u64) {
        (
            self.out_frames + self.ring_out_frames,
            self.in_frames + self.ring_in_frames,
        )
    }
}

/// One way of a gear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DirectWayState {
    /// Frames that came: of pods' devices all, of the underlay those for one of our VTEPs, and a superframe is one. In the ring gear
    /// what express left to it, or what workers decapsulated, and a superframe is as many as its segments.
    pub received: u64,
    /// Frames forwarded.
    pub forwarded: u64,
    /// Bytes of these, without outer headers.
    pub forwarded_bytes: u64,
    /// Frames for whose headers there was no memory, or that the kernel's own queues have dropped between the underlay and a pod's
    /// device.
    pub lost: u64,
    /// Frames without a fate so far: taken off the underlay, and on their way to a pod's device.
    pub in_flight: i64,
    /// Whether `received = forwarded + handed_up + lost + in_flight`, with no more in flight than can be.
    pub balance_ok: bool,
    /// Frames handed up to the workers or the kernel, by reason, and their `total`.
    pub handed_up: BTreeMap<String, u64>,
}

impl Default for DirectWayState {
    /// Of a way that no frame has come: nothing is missing.
    fn default() -> Self {
        Self {
            received: 0,
            forwarded: 0,
            forwarded_bytes: 0,
            lost: 0,
            in_flight: 0,
            balance_ok: true,
            handed_up: BTreeMap::new(),
        }
    }
}
