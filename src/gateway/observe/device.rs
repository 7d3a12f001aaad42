//! What is seen of vxlan devices: how they are carried, or why not.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::control::Found;
use crate::gateway::plan::refusal_words;

/// A vxlan device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceState {
    /// Its name.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// Its VXLAN network identifier.
    pub vni: u32,
    /// Its UDP port.
    pub port: u16,
    /// Its VTEP address.
    pub local: Option<IpAddr>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The underlay device's name.
    pub underlay: Option<String>,
    /// The access device made for it.
    pub access: Option<AccessState>,
    /// Whether its frames go through vxgate.
    pub taken_over: bool,
    /// Why not.
    pub refused: Option<RefusedState>,
    /// Entries of its FDB that the data path uses.
    pub fdb_entries: u64,
    /// VTEPs that get a copy of every frame without an FDB entry.
    pub flood_entries: u64,
    /// Entries of both kinds that lead to VTEPs which only the kernel reaches: their frames are left to it.
    #[serde(default)]
    pub kernel_entries: u64,
    /// Which of its frames steering leaves to the kernel for their destination, in words; empty when all are the kernel's
    /// because the device is not taken over.
    #[serde(default)]
    pub kernel_keeps: String,
    /// Whether superframes of TCP and UDP cross whole; none where that is not known.
    #[serde(default)]
    pub superframes: Option<SuperframesState>,
}

/// The lane of superframes of a vxlan device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SuperframesState {
    /// Whether TCP takes it.
    pub on: bool,
    /// The TAP that exchanges them with the vxlan device.
    pub access_tap: Option<String>,
    /// The TAP by which they leave through the underlay device; none where the workers cut them.
    pub wire_tap: Option<String>,
    /// Why there is none.
    pub why_not: Option<String>,
}

/// The two ends of an access device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccessState {
    /// The end that exchanges frames with the vxlan device.
    pub kernel_side: String,
    /// The end with the AF_XDP sockets.
    pub worker_side: String,
}

/// Why a device stays with the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedState {
    /// The attribute, in the words of `ip -d link`.
    pub attribute: String,
    /// Why it stands in the way.
    pub why: String,
}

/// A device that stays with the kernel.
pub(in crate::gateway) fn left_to_the_kernel(found: &Found) -> DeviceState {
    let (attribute, why) = refusal_words(found);
    DeviceState {
        refused: Some(RefusedState { attribute, why }),
        ..device(found)
    }
}

/// A device's attributes; what a session knows of it is left blank.
pub(in crate::gateway) fn device(found: &Found) -> DeviceState {
    DeviceState {
        name: found.device.name.clone(),
        ifindex: found.device.ifindex,
        vni: found.device.vni.get(),
        port: found.device.port,
        local: found.device.local,
        mtu: found.device.mtu,
        underlay: found.underlay.as_ref().map(|link| link.name.clone()),
        access: None,
        taken_over: false,
        refused: None,
        fdb_entries: 0,
        flood_entries: 0,
        kernel_entries: 0,
        kernel_keeps: String::new(),
        superframes: None,
    }
}
