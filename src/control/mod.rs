//! What the kernel knows, mirrored: devices, FDB, routes and neighbours, and the single writer of the table. Never sees a
//! frame.
//!
//! ```text
//!            notifications                                        dumps, route queries, "please resolve"
//!   kernel ────────────────▶ Subscription                Socket ◀──────────────────────────────▶ kernel
//!                                  │                        │
//!                                  ▼                        ▼
//!                 mirror   FdbMirror · Nexthops · Routes · Neighbours · the devices themselves
//!                                  │ merge: a pure function, VTEPs numbered, entries resolved
//!                                  ▼
//!                 writer   coalesced snapshots ───▶ table::Writer ───▶ workers
//!                                  └──────────────▶ events: look again, a link is gone
//! ```
//!
//! Three rules keep the mirror true:
//!
//! 1. Join the groups, empty the queue, then dump, then apply what queued up meanwhile. Whatever the queue holds is applied
//!    in order after a dump; an announcement that is older than the dump is followed in the queue by the one that made it
//!    so. An entry of the FDB that went meanwhile may have hidden another one from the dump, so that the FDB is dumped once
//!    more. All of this no longer holds once announcements were lost: the queue is emptied unread, and dumped again.
//! 2. The kernel is asked, not imitated: the way to a VTEP is the answer to a route query, the next hop's address is the
//!    kernel's neighbour entry, which the kernel is asked to keep resolved. Nothing here sends ARP.
//! 3. In doubt, dump again and compare; nothing is removed before the new list is complete. Doubt is a full queue, a link
//!    event of a mirrored device, a failed dump. What vanishes without an announcement (IPv4 routes of a link that goes
//!    down, routes and FDB entries of a deleted nexthop object) is asked for again or dropped with what it depended on.
//!
//! Current limits: route queries carry no firewall mark. A change of `ip_default_ttl`, `ip_local_port_range` or a link's `hop_limit` is noticed with the next change of a link.

mod buckets;
mod changes;
mod device;
mod error;
mod fdb;
mod frame_limit;
mod kernel_share;
mod listening;
mod merge;
mod mirror;
mod mirrored;
mod narrow;
mod neighbour;
mod nexthop;
mod pods;
mod refusal;
mod report;
mod roster;
mod route;
mod running;
mod survey;
mod targets;
mod topology;
mod writer;

pub use changes::{Change, Changes, Heard};
pub use device::{Defaults, Found, VxlanDevice, discover, judge};
pub use error::Error;
pub use pods::{PodPort, Pods, pods, pods_max};
pub use refusal::Refusal;
pub use report::{GroupReport, PeerReport, PeersReport, Report, SegmentReport, VtepReport};
pub use running::{PeerNames, Running};
pub use survey::survey;
pub use writer::{Control, Event};
