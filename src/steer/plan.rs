//! What to steer, said before anything is loaded.

use std::net::IpAddr;

use super::AccessLink;
use crate::flows::WAYS;
use crate::wire::{MacAddr, Vni};

/// What to steer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SteerPlan {
    /// How many workers; worker `q % workers` serves queue `q`.
    pub workers: u32,
    /// Whether frames may be longer than a buffer, and then come in several.
    pub chains: bool,
    /// The longest frame that a socket takes, in bytes: longer ones of the underlay are left to the kernel.
    pub frame_max: u32,
    /// Whether flows may be promoted, and then for how much there is room.
    pub direct: Option<DirectPlan>,
    /// The underlay devices.
    pub nics: Vec<NicPlan>,
    /// The vxlan devices.
    pub devices: Vec<DevicePlan>,
}

/// The direct path's room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DirectPlan {
    /// For how many flows there is room, at least.
    pub flows: u32,
    /// How many places their peers are counted at.
    pub peers: u32,
    /// Whether XDP is to take what pods send.
    pub pod_xdp: bool,
}

impl DirectPlan {
    /// How many sets of flows there are.
    pub(super) fn sets(self) -> u32 {
        self.flows.div_ceil(WAYS as u32).next_power_of_two()
    }
}

/// An underlay device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicPlan {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address: frames to another one are left to the kernel.
    pub mac: MacAddr,
    /// Its MTU, in bytes: a longer frame is several of the wire that were joined, and left to the kernel.
    pub mtu: u32,
    /// The TAP by which superframes leave through it.
    pub wire_tap: Option<AccessLink>,
}

/// A vxlan device and the access device made for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePlan {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its MTU, in bytes.
    pub mtu: u32,
    /// Its VXLAN network identifier.
    pub vni: Vni,
    /// Its VTEP address.
    pub local: IpAddr,
    /// The multicast group on which its frames arrive, too, on its underlay link only.
    pub group: Option<IpAddr>,
    /// The underlay device's index: where the address counts, if it is link-local.
    pub underlay_ifindex: u32,
    /// Its UDP port.
    pub port: u16,
    /// Its frames carry their marks in two tags on the access device (`pipeline::carrier` says how).
    pub gbp: bool,
    /// The access device's end that exchanges frames with it.
    pub kernel_side: AccessLink,
    /// The access device's end with the sockets.
    pub worker_side: AccessLink,
    /// The TAP beside the access device, for TCP.
    pub access_tap: Option<AccessLink>,
}
