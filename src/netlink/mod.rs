//! Questions to the kernel over netlink, most of them over its route family, and its answers. Knows nothing of VXLAN.
//!
//! [`Socket`] asks and waits for the answer; [`Subscription`] hears what changes. Requests that other layers make are
//! built with `netlink-packet-route`; what is read by the hundred thousand, or must survive attributes that no crate
//! knows yet, is read here, field by field: [`Link`], [`Address`], [`Neighbour`], [`Route`], [`Nexthop`].
//!
//! The rules of every decoder: an unknown attribute or message is skipped, a field that is too short counts as absent,
//! and a message without its fixed header is no message. Bytes from the kernel are judged like any others.
//!
//! A message, in host byte order unless noted (`linux/netlink.h`):
//!
//! ```text
//!   0        4       6       8          12        16
//!   | length | kind  | flags | sequence | port id | fixed header | attributes: length u16, number u16, value, padding to 4 ...
//! ```

mod address;
mod attribute;
mod conntrack;
mod filter;
mod generic;
mod ipset;
mod link;
mod mdb;
mod message;
mod neighbour;
mod netdev;
mod nexthop;
mod route;
mod socket;
mod subscription;

pub use address::{Address, addresses};
pub use attribute::{
    RequestBody, attributes, flag_or_u8, ip_from, mac_from, text_from, u8_from, u16_be_from,
    u16_from, u32_from,
};
pub use conntrack::{Conntrack, Tracked, Tuple};
pub use filter::{Filter, filters};
pub use ipset::ipsets;
pub use link::{Link, LinkKind, ParentDevice, links, links_with_kind};
pub use mdb::{MdbPart, devices_with_mdb};
pub use message::{Message, messages};
pub use neighbour::{Neighbour, fdb_into, neighbour_flag, neighbour_state, neighbours};
pub use netdev::{XdpFeatures, XskFeatures, xdp_feature_changes, xdp_features, xsk_features};
pub use nexthop::{Nexthop, NexthopBucket, NexthopMember, Resilient, nexthop_buckets, nexthops};
pub use route::{Route, RouteQuery, route_to};
pub use socket::{Error, Socket};
pub use subscription::{Group, Received, Subscription};
