//! What the operator decided, and whom it caught.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::table::Policy;

/// What the data path does where the kernel and the RFC leave a choice, in the words of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyState {
    /// Who may send to us.
    pub peer_check: String,
    /// Which reserved bits may be set.
    pub reserved_bits: String,
    /// The outer ECN bits of what is sent.
    pub ecn_encap: String,
    /// Inner VLAN tags.
    pub inner_vlan: String,
    /// Received outer UDP checksums.
    pub udp_checksum_rx: String,
}

impl From<&Policy> for PolicyState {
    fn from(policy: &Policy) -> Self {
        Self {
            peer_check: policy.peer_check.label().to_owned(),
            reserved_bits: policy.reserved_bits.to_string(),
            ecn_encap: policy.ecn_encap.label().to_owned(),
            inner_vlan: policy.inner_vlan.label().to_owned(),
            udp_checksum_rx: policy.udp_checksum_rx.label().to_owned(),
        }
    }
}

/// A sender that the peer check found fault with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OffenderState {
    /// The outer source address.
    pub source: IpAddr,
    /// The VXLAN network identifier that it used.
    pub vni: u32,
    /// The inner source address; none when the inner frame has no whole Ethernet header.
    pub inner_source: Option<String>,
    /// What was wrong, as in `drops`.
    pub reason: String,
    /// Whether its frames were delivered all the same.
    pub delivered: bool,
    /// The underlay device that they came in by.
    pub port: String,
    /// How many they were since this sender has been on record; whoever is silent for long gives way to others.
    pub frames: u64,
    /// Milliseconds since the last one.
    pub age_ms: u64,
}
