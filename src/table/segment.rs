//! A VXLAN segment (RFC 7348 §3): one VNI, the device it mirrors, and who is in it.

use std::net::IpAddr;
use std::sync::Arc;

use super::{
    Destination, EcnEncap, Fdb, Group, InnerVlan, NextHop, OUTER_IPV4_LEN, OUTER_IPV6_LEN,
    PeerCheck, Peers,
};
use crate::stats::PeerId;
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
    /// The multicast group on which we receive, too; its frames come from the same port and VNI.
    pub group: Option<IpAddr>,
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
    /// Outer TTL or hop limit; 0 is [`SegmentConfig::ttl_default_to`] the destination.
    pub ttl: Inherit,
    /// The underlay's default TTL or hop limit, never 0.
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
    /// Whether the Group Policy extension is used: marks of frames are sent and received (`gbp`).
    pub gbp: bool,
    /// The bits of a received VXLAN header that may be set, its first byte the highest; I flag and VNI among them.
    pub header_bits: u64,
    /// Who may send to us.
    pub peer_check: PeerCheck,
    /// Outer ECN bits.
    pub ecn_encap: EcnEncap,
    /// Inner frames with a VLAN tag.
    pub inner_vlan: InnerVlan,
}

impl SegmentConfig {
    /// The TTL or hop limit where device and inner frame say 0. A group is not left to routers unless somebody asked for it
    /// (`vxlan_xmit_one`): 1, where the device is to choose by itself.
    pub fn ttl_default_to(&self, addr: IpAddr) -> u8 {
        if addr.is_multicast() && self.ttl == Inherit::Fixed(0) {
            1
        } else {
            self.ttl_default
        }
    }
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

/// A remote tunnel end point. What a frame needs of it stands first: a cache line with IPv4 headers, with IPv6 headers its
/// neighbour too, which the processor loads together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(C, align(128))]
pub struct Vtep {
    /// The largest outer IP packet that the path to it takes, in bytes, as far as the kernel knows.
    pub path_mtu: u16,
    /// Where it is counted what is sent to it.
    pub peer: PeerId,
    /// How to reach it: with the header to write, or why not.
    pub next_hop: NextHop,
    /// Where it is.
    pub key: VtepKey,
}

const _: () = assert!(size_of::<Vtep>() == 128);

impl Vtep {
    /// Whether frames to it are left to the kernel, and never come here.
    pub fn is_kernels(&self) -> bool {
        match &self.next_hop {
            NextHop::Resolved(_) => false,
            NextHop::Unresolved(reason) => reason.is_kernels(),
        }
    }
}

/// One segment of a snapshot.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Its attributes.
    pub config: Arc<SegmentConfig>,
    /// Remote end points, sorted by key.
    pub vteps: Arc<Vec<Vtep>>,
    /// Inner destination address to destination. The all-zero address is in it only when it leads to a group.
    pub fdb: Arc<Fdb>,
    /// What FDB entries call [`Destination::Group`], by [`super::GroupId`].
    pub groups: Arc<Vec<Group>>,
    /// What FDB entries call [`Destination::List`], by [`super::ListId`].
    pub lists: Arc<Vec<Vec<VtepId>>>,
    /// Where frames go that no FDB entry names (the all-zero entries): one copy each.
    pub flood: Arc<Vec<VtepId>>,
    /// Addresses that may send to us: every VTEP's, those of groups and lists too.
    pub peers: Arc<Peers>,
}

impl Segment {
    /// Whether this address may send to us: it is a VTEP's.
    #[inline(always)]
    pub fn is_peer(&self, addr: IpAddr) -> bool {
        self.peers.knows(addr)
    }

    /// Where frames from this address are counted, if it may send to us.
    #[inline(always)]
    pub fn peer(&self, addr: IpAddr) -> Option<PeerId> {
        self.peers.find(addr)
    }

    /// The VTEPs that a destination may mean.
    #[inline]
    pub fn vteps_of<'a>(&'a self, destination: &'a Destination) -> impl Iterator<Item = &'a Vtep> {
        let ids = match destination {
            Destination::Vtep(vtep) => std::slice::from_ref(vtep),
            Destination::Group(group) => self
                .groups
                .get(group.0 as usize)
                .map_or(&[][..], Group::members),
            Destination::List(list) => self
                .lists
                .get(list.0 as usize)
                .map_or(&[][..], Vec::as_slice),
        };
        ids.iter().filter_map(|id| self.vteps.get(id.0 as usize))
    }

    /// Whether the FDB says that the station with this address is behind a VTEP at `addr`: the one that its entry names,
    /// or any member of the group that it names. Without an entry it is behind nobody.
    #[inline]
    pub fn is_behind(&self, station: MacAddr, addr: IpAddr) -> bool {
        self.fdb.find(station).is_some_and(|destination| {
            self.vteps_of(&destination)
                .any(|vtep| vtep.key.addr == addr)
        })
    }

    /// Whether frames to a destination are left to the kernel: when one of its VTEPs is the kernel's, all of them, so that no
    /// copy is lost and each flow finds its member. What leads to no VTEP at all is for the kernel to count.
    pub fn is_kernels(&self, destination: &Destination) -> bool {
        let mut vteps = self.vteps_of(destination).peekable();
        vteps.peek().is_none() || vteps.any(Vtep::is_kernels)
    }

    /// Whether frames that no FDB entry names are left to the kernel.
    pub fn kernel_floods(&self) -> bool {
        let mut flood = self.flood.iter().copied().map(Destination::Vtep);
        let entry = self.fdb.find(MacAddr::ZERO);
        flood.any(|vtep| self.is_kernels(&vtep)) || entry.is_some_and(|to| self.is_kernels(&to))
    }

    /// How many entries of the FDB and of the flood list lead to VTEPs of the kernel's.
    pub fn kernel_entries(&self) -> usize {
        if !self.vteps.iter().any(Vtep::is_kernels) {
            return 0;
        }
        let named = self.fdb.iter().map(|(_, destination)| destination);
        let flood = self.flood.iter().copied().map(Destination::Vtep);
        named.chain(flood).filter(|to| self.is_kernels(to)).count()
    }

    /// The longest inner frame, in bytes and with its Ethernet header, whose outer packet fits the path to every VTEP that
    /// is not the kernel's.
    pub fn frame_len_max(&self) -> u32 {
        let config = &self.config;
        let ours = self.vteps.iter().filter(|vtep| !vtep.is_kernels());
        let paths = ours.map(|vtep| (vtep.key.addr, vtep.path_mtu));
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

#[cfg(test)]
mod tests {
    use super::super::{GroupId, ListId, UnresolvedReason};
    use super::*;

    fn addr(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn station(last: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, last])
    }

    /// VTEPs 0 to 3 at 192.0.2.0 to 192.0.2.3, and a station behind each kind of destination.
    fn segment() -> Segment {
        let vni = Vni::new(1).unwrap();
        let config = SegmentConfig {
            name: "vx".into(),
            ifindex: 1,
            vni,
            local: addr(9),
            group: None,
            port: 4789,
            mac: MacAddr::ZERO,
            underlay_ifindex: 2,
            underlay_mac: MacAddr::ZERO,
            underlay_mtu: 1500,
            source_ports: SourcePorts { low: 1, high: 2 },
            ttl: Inherit::Inner,
            ttl_default: 64,
            tos: Inherit::Inner,
            df: Df::Unset,
            flow_label: FlowLabel::Fixed(0),
            udp_checksum: UdpChecksum::Zero,
            verify_udp_checksum: false,
            accept_udp6_zero_checksum: false,
            gbp: false,
            header_bits: crate::wire::vxlan::USED_BITS,
            peer_check: PeerCheck::Strict,
            ecn_encap: EcnEncap::Kernel,
            inner_vlan: InnerVlan::Pass,
        };
        let vtep = |last| Vtep {
            key: VtepKey {
                addr: addr(last),
                port: 4789,
                vni,
            },
            next_hop: NextHop::Unresolved(UnresolvedReason::NoRoute),
            path_mtu: 1500,
            peer: PeerId::default(),
        };
        let group = Group::by_weight(1, [(VtepId(2), 1), (VtepId(1), 9)]);
        Segment {
            config: Arc::new(config),
            vteps: Arc::new((0..4).map(vtep).collect()),
            fdb: Arc::new(Fdb::new([
                (station(1), Destination::Vtep(VtepId(0))),
                (station(2), Destination::Group(GroupId(0))),
                (station(3), Destination::List(ListId(0))),
                (station(4), Destination::Group(GroupId(7))),
                (station(5), Destination::Vtep(VtepId(7))),
            ])),
            groups: Arc::new(vec![group]),
            lists: Arc::new(vec![vec![VtepId(0), VtepId(3)]]),
            flood: Arc::default(),
            peers: Arc::default(),
        }
    }

    #[test]
    fn a_station_is_behind_its_vtep_and_behind_every_member_of_its_group() {
        let segment = segment();
        let behind = |last| -> Vec<u8> {
            let addrs = 0..10;
            addrs
                .filter(|vtep| segment.is_behind(station(last), addr(*vtep)))
                .collect()
        };
        assert_eq!(behind(1), [0]);
        assert_eq!(behind(2), [1, 2]);
        assert_eq!(behind(3), [0, 3]);
        for nobody in [4, 5, 6] {
            assert_eq!(behind(nobody), [0; 0], "station {nobody}");
        }
    }
}
