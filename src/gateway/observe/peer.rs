//! What is seen of the other ends: VTEPs, what went to them and came of them, and groups of them.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One remote tunnel end point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VtepState {
    /// The vxlan device's name.
    pub device: String,
    /// The VNI sent to it.
    pub vni: u32,
    /// Its address.
    pub addr: IpAddr,
    /// Its UDP port.
    pub port: u16,
    /// The router, or the VTEP itself when it is on the link.
    pub next_hop: Option<IpAddr>,
    /// The Ethernet address that frames to it go to.
    pub next_hop_mac: Option<String>,
    /// `resolved`, or why not.
    pub state: String,
    /// The largest outer IP packet that the path to it takes, in bytes, as far as the kernel knows.
    pub path_mtu: u16,
    /// Who sends to it: `vxgate`, or `kernel` when nobody else can.
    #[serde(default)]
    pub carried_by: String,
}

impl VtepState {
    /// Whether its frames are left to the kernel.
    pub fn is_kernels(&self) -> bool {
        self.carried_by == "kernel"
    }
}

/// Frames of the wire that were handed on, each segment of a superframe by itself, and copies too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Traffic {
    /// Frames that were received, decapsulated and delivered.
    pub received: u64,
    /// Their bytes, as delivered.
    pub received_bytes: u64,
    /// Milliseconds since the last of them; none when there has been none.
    pub received_age_ms: Option<u64>,
    /// Frames that were encapsulated and sent.
    pub sent: u64,
    /// Their bytes, as sent; a superframe that left whole had its headers once.
    pub sent_bytes: u64,
    /// Milliseconds since the last of them; none when there has been none.
    pub sent_age_ms: Option<u64>,
}

/// What was counted of one peer since the takeover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerState {
    /// The vxlan device's name.
    pub device: String,
    /// The device's VNI.
    pub vni: u32,
    /// The peer's address.
    pub addr: IpAddr,
    /// Its frames.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// What was counted of all peers of a vxlan device since the takeover. Over all peers, `other` and `former` it adds up to what
/// the ports say: `received` to `forwarded` of the underlay devices, with what died as `worker_stale`; `sent` to `forwarded`,
/// `flood_copies`, `segments_sent` and `segments_whole` of the device, and `out.forwarded` of the direct path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VniState {
    /// The vxlan device's name.
    pub device: String,
    /// Its VNI.
    pub vni: u32,
    /// Peers that are counted by themselves.
    pub peers: u64,
    /// Peers beyond the bound, counted in `other`.
    pub uncounted: u64,
    /// Everything.
    pub total: Traffic,
    /// Of senders that are no VTEPs, and of peers beyond the bound.
    pub other: Traffic,
    /// Of peers that are no longer there.
    pub former: Traffic,
}

/// A nexthop group that FDB entries lead to: each flow goes to one of its members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GroupState {
    /// The vxlan device's name.
    pub device: String,
    /// The kernel's number (`ip nexthop show id N`).
    pub nexthop: u32,
    /// Its members.
    pub members: Vec<MemberState>,
}

/// A member of a nexthop group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemberState {
    /// The VTEP's address.
    pub addr: IpAddr,
    /// Its part of the flows, 0 to 1.
    pub share: f64,
}
