//! What the mirror knows, for people.

use std::net::IpAddr;
use std::time::Duration;

use crate::stats::PeerTally;
use crate::table::{SegmentId, UnresolvedReason, VtepKey};
use crate::wire::MacAddr;

/// The state of the mirror.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// By [`SegmentId`].
    pub segments: Vec<SegmentReport>,
    /// Notifications taken from the kernel.
    pub events: u64,
    /// Times that the kernel could not queue a notification.
    pub overruns: u64,
    /// Complete dumps since the start, whatever the doubt; the first is not counted.
    pub resyncs: u64,
    /// Dumps that failed and were left for later.
    pub failures: u64,
    /// Snapshots published after the first.
    pub publications: u64,
    /// Time that the newest snapshot took to build, with all questions to the kernel.
    pub last_build: Duration,
}

/// One mirrored device.
#[derive(Debug, Clone)]
pub struct SegmentReport {
    /// Its number.
    pub id: SegmentId,
    /// The device's name.
    pub device: String,
    /// The device's index.
    pub ifindex: u32,
    /// Addresses in the FDB.
    pub fdb_entries: usize,
    /// Destinations that frames for unknown addresses are copied to.
    pub flood_entries: usize,
    /// Entries of both kinds whose destination only the kernel reaches; their frames are left to it.
    pub kernel_entries: usize,
    /// One of them is flooded to: all frames that are flooded are left to the kernel.
    pub kernel_floods: bool,
    /// Its VTEPs, sorted.
    pub vteps: Vec<VtepReport>,
    /// The nexthop groups that FDB entries lead to. One whose members are all the same VTEP is not among them.
    pub groups: Vec<GroupReport>,
    /// What has been counted of its peers.
    pub peers: PeersReport,
}

/// The peers of a device: VTEP addresses, be they destinations, senders or both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeersReport {
    /// Those that are counted by themselves, sorted.
    pub peers: Vec<PeerReport>,
    /// What was counted of all others: senders that are no VTEPs, and peers beyond the bound.
    pub other: PeerTally,
    /// What was counted of peers that are no longer there.
    pub former: PeerTally,
    /// Peers beyond the bound, sorted.
    pub uncounted: Vec<IpAddr>,
}

/// What has been counted of one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerReport {
    /// Its address.
    pub addr: IpAddr,
    /// Its count.
    pub tally: PeerTally,
}

/// One nexthop group.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupReport {
    /// The kernel's number.
    pub nexthop: u32,
    /// Each member with its part of the flows, 0 to 1.
    pub members: Vec<(VtepKey, f64)>,
}

/// One VTEP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VtepReport {
    /// Address, port and VNI.
    pub key: VtepKey,
    /// The router, or the VTEP itself when it is on the link; none without a route.
    pub next_hop: Option<IpAddr>,
    /// The next hop's Ethernet address, or why there is none.
    pub mac: Result<MacAddr, UnresolvedReason>,
    /// The largest outer IP packet that the path to it takes, in bytes.
    pub path_mtu: u16,
}
