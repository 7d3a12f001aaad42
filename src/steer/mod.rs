//! The BPF programs and their maps, loaded and attached; the access devices; heartbeat and fail-open.
//!
//! `bpf/vxgate.bpf.c` says what each program does. One copy of that object is loaded for each underlay device and one for
//! each vxlan device, so that no program looks anything up by device; the copies share the heartbeats, the bypass flag and
//! the lists of our end points and segments.
//!
//! While programs are attached or detached, the bypass is on: they pass every frame. So all of them begin to steer at one
//! moment, and none steers into a gap.

mod access;
mod attachment;
mod claim;
mod copy;
mod error;
mod ethtool;
mod express;
mod frame_limit;
mod heartbeat;
mod hooks;
mod inspect;
mod kernel_share;
mod messages;
mod needs;
mod plan;
mod qdisc;
mod ring;
mod steering;
mod tap;
mod words;

pub use access::{AccessLink, AccessPair, Departures};
pub use error::Error;
pub use ethtool::{
    Channels, channels, driver, finishes_checksums, hiding, offloads, spreads_by_port,
};
pub use express::{
    Attended, DirectCounters, Express, ExpressPeers, FlowCounters, Gear, InRing, PROGRAMS_AT_PODS,
    PathId, WayCounters,
};
pub use frame_limit::FrameLimits;
pub use heartbeat::Heartbeat;
pub use hooks::XdpMode;
pub use inspect::{Leftover, XdpProgram, has_tcx, is_ours, leftovers, tcx_programs, xdp_program};
pub use kernel_share::KernelShares;
pub use needs::{KernelVersion, TooOld, kernel_version, may_panic, running_may_panic};
pub use plan::{DevicePlan, DirectPlan, NicPlan, SteerPlan};
pub use ring::RingCounters;
pub use steering::{SteerCounters, Steering};
pub use tap::Tap;

use crate::netlink::{self, Socket};
use attachment::attach_error;
use hooks::Side;

/// The classifier of a vxlan device.
const EGRESS_PROGRAM: &str = "vxgate_egress";

/// The devices, by index, that have classifiers of the older kind (clsact, ingress).
///
/// # Errors
/// When the kernel does not tell.
pub fn devices_with_clsact(socket: &mut Socket) -> Result<Vec<u32>, netlink::Error> {
    qdisc::devices_with_clsact(socket)
}

/// Removes what killed processes left in this namespace: access devices, and filters on vxlan devices where the kernel
/// has no tcx. Returns their names.
///
/// # Errors
/// When the kernel refuses.
pub fn remove_leftovers() -> Result<Vec<String>, Error> {
    messages::to_log();
    let mut removed = access::remove_leftovers()?;
    let mut socket = Socket::open().map_err(|source| netlink::Error::Io {
        doing: "open",
        source,
    })?;
    let links = netlink::links(&mut socket)?;
    for link in inspect::unserved(&mut socket, &links)? {
        if hooks::remove_filter(link.ifindex, Side::Egress, EGRESS_PROGRAM) {
            removed.push(format!("clsact filter on {}", link.name));
        }
    }
    Ok(removed)
}
