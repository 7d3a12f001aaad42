//! A VXLAN segment (RFC 7348 §3): one VNI, the device it mirrors, and who is in it.

use std::net::IpAddr;
use std::sync::Arc;

use super::{EcnEncap, Fdb, InnerVlan, NextHop, OUTER_IPV4_LEN, OUTER_IPV6_LEN, PeerCheck};
use crate::wire::{MacAddr, Vni, ethernet};

/// A segment's number within a session: the index in [`super::Snapshot::segments`] and of the worker's access port.
/// It does not change while a session runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u16);

/// The index of a VTEP in [`Segment::vteps`] of the same snapshot. Never kept across snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VtepId(pub u32);

/// A header field that has a fixed value or follows the inner header (`ttl inherit`, `tos inherit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inherit {
    /// Always this value.
    Fixed(u8),
    /// The inner IP header's, and the device's default where the inner frame is not IP.
    Inner,
}

/// The outer DF bit (`df unset|set|inherit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Df {
    /// Clear.
    Unset,
    /// Set.
    Set,
    /// As the inner IPv4 header has it; set for inner IPv6.
    Inherit,
}

/// The outer IPv6 flow label (`flowlabel`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowLabel {
    /// Always this value, 20 bits; 0, the device's default, says that there is none.
    Fixed(u32),
    /// The inner IPv6 header's; 0 where the inner frame is not IPv6 (`flowlabel inherit`).
    Inner,
    /// From the flow's hash, never 0 (RFC 6438 §3): for underlays that balance by label. No kernel device asks for it.
    Hash,
}

/// The outer UDP checksum when sending (`udpcsum`, `udp6zerocsumtx`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UdpChecksum {
    /// Zero.
    Zero,
    /// Over the whole UDP datagram.
    Compute,
}

/// The range of outer UDP source ports, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourcePorts {
    /// The lowest port.
    pub low: u16,
    /// The highest port; never below `low`.
    pub high: u16,
}

/// What the device's attributes say, unchanging for most of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentConfig {
    /// The mirrored device's name, for people.
    pub name: String,
    /// The mirrored device's index.
    pub ifindex: u32,
    /// The VXLAN network identifier.
    pub vni: Vni,
    /// Our own VTEP address.
    pub local: IpAddr,
    /// The UDP port on which we receive, and the default destination port.
    pub port: u16,
    /// The mirrored device's own Ethernet address.
    pub mac: MacAddr,
    /// The underlay device's index.
    pub underlay_ifindex: u32,
    /// The underlay device's Ethernet address. Frames to other stations are not for us, even if the device hears them.
    pub underlay_mac: MacAddr,
    /// The largest outer IP packet the underlay device sends, in bytes.
    pub underlay_mtu: u16,
    /// Outer UDP source ports.
    pub source_ports: SourcePorts,
    /// Outer TTL or hop limit.
    pub ttl: Inherit,
    /// The TTL or hop limit where the inner frame has none to inherit: the underlay's default, never 0.
    pub ttl_default: u8,
    /// Outer DSCP; the ECN bits follow RFC 6040 in any case.
    pub tos: Inherit,
    /// Outer DF bit, of IPv4.
    pub df: Df,
    /// Outer flow label, of IPv6.
    pub flow_label: FlowLabel,
    /// Outer UDP checksum.
    pub udp_checksum: UdpChecksum,
    /// Whether received outer UDP checksums are verified. Not on a virtual underlay: there the sum may be unfinished,
    /// and verifying it would drop every frame of such a peer.
    pub verify_udp_checksum: bool,
    /// Whether a received outer UDP checksum of zero is accepted over IPv6 (`udp6zerocsumrx`, RFC 6935 §5). IPv4 always
    /// accepts it.
    pub accept_udp6_zero_checksum: bool,
    /// The bits of a received VXLAN header that may be set, its first byte the highest; I flag and VNI among them.
    pub header_bits: u64,
    /// Who may send to us.
    pub peer_check: PeerCheck,
    /// Outer ECN bits.
    pub ecn_encap: EcnEncap,
    /// Inner frames with a VLAN tag.
    pub inner_vlan: InnerVlan,
}

/// What makes a VTEP entry distinct: the FDB may give a destination its own port and VNI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VtepKey {
    /// The remote end's underlay address.
    pub addr: IpAddr,
    /// The UDP destination port.
    pub port: u16,
    /// The VNI written into the header.
    pub vni: Vni,
}

/// A remote tunnel end point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vtep {
    /// Where it is.
    pub key: VtepKey,
    /// How to reach it: with the header to write, or why not.
    pub next_hop: NextHop,
    /// The largest outer IP packet that the path to it takes, in bytes, as far as the kernel knows.
    pub path_mtu: u16,
}

/// One segment of a snapshot.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Its attributes.
    pub config: Arc<SegmentConfig>,
    /// Remote end points, sorted by key.
    pub vteps: Arc<Vec<Vtep>>,
    /// Inner destination address to VTEP.
    pub fdb: Arc<Fdb>,
    /// Where frames go that no FDB entry names (the all-zero entries): one copy each.
    pub flood: Arc<Vec<VtepId>>,
    /// Addresses that may send to us, sorted: every VTEP's address once.
    pub peers: Arc<Vec<IpAddr>>,
}

impl Segment {
    /// Whether this address may send to us: it is a VTEP's.
    #[inline]
    pub fn is_peer(&self, addr: IpAddr) -> bool {
        self.peers.binary_search(&addr).is_ok()
    }

    /// Whether the FDB has this station behind the VTEP with this address. One that the FDB does not know is behind none.
    #[inline]
    pub fn is_behind(&self, station: MacAddr, addr: IpAddr) -> bool {
        let vtep = self.fdb.find(station);
        vtep.and_then(|vtep| self.vteps.get(vtep.0 as usize))
            .is_some_and(|vtep| vtep.key.addr == addr)
    }

    /// The longest inner frame, in bytes and with its Ethernet header, whose outer packet fits the path to every VTEP.
    pub fn frame_len_max(&self) -> u32 {
        let config = &self.config;
        let paths = self.vteps.iter().map(|vtep| (vtep.key.addr, vtep.path_mtu));
        let own = (config.local, config.underlay_mtu);
        paths
            .chain([own])
            .map(|(addr, mtu)| u32::from(mtu).saturating_sub(outer_ip_len(addr)))
            .min()
            .unwrap_or(0)
    }
}

/// What an outer IP packet to this address carries in front of the inner frame, in bytes.
fn outer_ip_len(addr: IpAddr) -> u32 {
    let headers = match addr {
        IpAddr::V4(_) => OUTER_IPV4_LEN,
        IpAddr::V6(_) => OUTER_IPV6_LEN,
    };
    (headers - ethernet::LEN) as u32
}
