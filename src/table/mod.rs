//! What the gateway knows: segments, their VTEPs, FDB and flood list, as immutable snapshots, and how they are published.
//!
//! One writer builds a [`Snapshot`] and publishes it; each worker takes the newest once per turn through its
//! [`Reader`], in a few nanoseconds, and never frees one.

mod destination;
mod fdb;
mod fdb_page;
mod kernel_share;
mod outer_ipv6;
mod peers;
mod policy;
mod publish;
mod segment;
mod snapshot;
mod template;

pub use destination::{BucketUse, Destination, Group, GroupId, ListId, Sharing};
pub use fdb::{Fdb, Question};
pub use kernel_share::KernelShare;
pub use outer_ipv6::OUTER_IPV6_LEN;
pub use peers::Peers;
pub use policy::{EcnEncap, InnerVlan, PeerCheck, Policy, ReservedBits, UdpChecksumRx};
pub use publish::{Reader, Writer, publication};
pub use segment::{
    Df, FlowLabel, Inherit, Segment, SegmentConfig, SegmentId, SourcePorts, UdpChecksum, Vtep,
    VtepId, VtepKey,
};
pub use snapshot::Snapshot;
pub use template::{EncapTemplate, NextHop, OUTER_IPV4_LEN, OuterFields, UnresolvedReason};
