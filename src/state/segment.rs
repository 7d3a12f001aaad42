//! One segment of the table, written down and made anew.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::text;
use crate::stats::PeerId;
use crate::table::{
    BucketUse, Destination, Df, EcnEncap, EncapTemplate, Fdb, FlowLabel, Group, Inherit, InnerVlan,
    NextHop, PeerCheck, Peers, Segment, SegmentConfig, Sharing, SourcePorts, UdpChecksum,
    UnresolvedReason, Vtep, VtepId, VtepKey,
};
use crate::wire::{MacAddr, Vni};

/// A segment: the vxlan device that it mirrors, and who is in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentState {
    /// The device's attributes, and what the operator decides.
    #[serde(with = "Attributes")]
    pub config: SegmentConfig,
    /// The devices through which the kernel hands over its frames.
    pub access: AccessState,
    /// Remote end points; others name them by their place in this list, counted from 0.
    pub vteps: Vec<VtepState>,
    /// Groups, of whose members each flow gets one.
    pub groups: Vec<GroupState>,
    /// Lists, of whose members each gets a copy.
    pub lists: Vec<Vec<u32>>,
    /// Where frames go that no FDB entry names: a copy to each.
    pub flood: Vec<u32>,
    /// Who may send to us.
    pub peers: Vec<IpAddr>,
    /// Inner destination addresses, and where they lead.
    #[serde(with = "text::fdb")]
    pub fdb: Vec<(MacAddr, Destination)>,
}

/// The access devices of a segment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessState {
    /// The end of the pair on which the kernel sends.
    pub kernel_side: String,
    /// The workers' end.
    pub worker_side: String,
    /// The longest frame that is sent there, in bytes.
    pub frame_len_max: usize,
    /// The TAP by which TCP and superframes go, where there is one.
    pub tap: Option<String>,
}

/// A remote end point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VtepState {
    /// Its address.
    pub addr: IpAddr,
    /// The UDP port that is sent to.
    pub port: u16,
    /// The VNI that is sent with.
    #[serde(with = "text::vni")]
    pub vni: Vni,
    /// The largest outer IP packet that the path to it takes, in bytes.
    pub path_mtu: u16,
    /// The next hop's Ethernet address, when it is resolved.
    #[serde(with = "text::maybe_word")]
    pub next_hop_mac: Option<MacAddr>,
    /// Why not, when it is not.
    #[serde(with = "text::maybe_word")]
    pub unresolved: Option<UnresolvedReason>,
}

/// A group of end points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupState {
    /// The kernel's number of the nexthop group.
    pub nexthop: u32,
    /// How flows are shared out.
    #[serde(flatten)]
    pub sharing: GroupSharing,
}

/// How a group shares its flows out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupSharing {
    /// By ranges of the flow's hash: VTEP and weight.
    Weights(Vec<(u32, u32)>),
    /// By buckets (a resilient group): the VTEP of each.
    Buckets(Vec<u32>),
}

/// The attributes of [`SegmentConfig`], one by one.
#[derive(Serialize, Deserialize)]
#[serde(remote = "SegmentConfig")]
struct Attributes {
    name: String,
    ifindex: u32,
    #[serde(with = "text::vni")]
    vni: Vni,
    local: IpAddr,
    group: Option<IpAddr>,
    port: u16,
    #[serde(with = "text::word")]
    mac: MacAddr,
    underlay_ifindex: u32,
    #[serde(with = "text::word")]
    underlay_mac: MacAddr,
    underlay_mtu: u16,
    #[serde(with = "text::source_ports")]
    source_ports: SourcePorts,
    #[serde(with = "text::inherit")]
    ttl: Inherit,
    #[serde(deserialize_with = "text::ttl_default")]
    ttl_default: u8,
    #[serde(with = "text::inherit")]
    tos: Inherit,
    #[serde(with = "text::word")]
    df: Df,
    #[serde(with = "text::flow_label")]
    flow_label: FlowLabel,
    #[serde(with = "text::word")]
    udp_checksum: UdpChecksum,
    verify_udp_checksum: bool,
    accept_udp6_zero_checksum: bool,
    gbp: bool,
    #[serde(with = "text::bits")]
    header_bits: u64,
    #[serde(with = "text::word")]
    peer_check: PeerCheck,
    #[serde(with = "text::word")]
    ecn_encap: EcnEncap,
    #[serde(with = "text::word")]
    inner_vlan: InnerVlan,
}

impl SegmentState {
    /// A segment as it is published.
    pub fn of(segment: &Segment, access: AccessState) -> Self {
        let mut fdb: Vec<_> = segment.fdb.iter().collect();
        fdb.sort_unstable_by_key(|(mac, _)| *mac);
        Self {
            config: (*segment.config).clone(),
            access,
            vteps: segment.vteps.iter().map(VtepState::of).collect(),
            groups: segment.groups.iter().map(GroupState::of).collect(),
            lists: segment.lists.iter().map(|list| numbers(list)).collect(),
            flood: numbers(&segment.flood),
            peers: segment.peers.to_vec(),
            fdb,
        }
    }

    /// What contradicts itself in it.
    pub(super) fn judge(&self) -> Result<(), String> {
        for (number, vtep) in self.vteps.iter().enumerate() {
            vtep.judge(&self.config)
                .map_err(|why| format!("vteps[{number}]: {why}"))?;
        }
        Ok(())
    }

    /// The segment made anew. `place` says where a peer is counted.
    pub(super) fn rebuild(&self, mut place: impl FnMut(IpAddr) -> PeerId) -> Segment {
        let vteps = self.vteps.iter();
        let vteps: Vec<_> = vteps
            .map(|vtep| vtep.rebuild(&self.config, place(vtep.addr)))
            .collect();
        let peers: Vec<_> = self
            .peers
            .iter()
            .map(|addr| (*addr, place(*addr)))
            .collect();
        Segment {
            config: Arc::new(self.config.clone()),
            vteps: Arc::new(vteps),
            fdb: Arc::new(Fdb::new(self.fdb.iter().copied())),
            groups: Arc::new(self.groups.iter().map(GroupState::rebuild).collect()),
            lists: Arc::new(self.lists.iter().map(|list| ids(list)).collect()),
            flood: Arc::new(ids(&self.flood)),
            peers: Arc::new(Peers::counted(peers)),
        }
    }
}

impl VtepState {
    fn of(vtep: &Vtep) -> Self {
        let (mac, unresolved) = match &vtep.next_hop {
            NextHop::Resolved(template) => (Some(template.next_hop_mac()), None),
            NextHop::Unresolved(reason) => (None, Some(*reason)),
        };
        Self {
            addr: vtep.key.addr,
            port: vtep.key.port,
            vni: vtep.key.vni,
            path_mtu: vtep.path_mtu,
            next_hop_mac: mac,
            unresolved,
        }
    }

    fn judge(&self, config: &SegmentConfig) -> Result<(), String> {
        match (self.next_hop_mac, self.unresolved) {
            (Some(_), Some(_)) => Err("next_hop_mac and unresolved cannot both be".to_owned()),
            (None, None) => Err("neither next_hop_mac nor unresolved says how it is".to_owned()),
            (Some(mac), None) if self.template(config, mac).is_none() => Err(format!(
                "{} cannot be reached from {}: the families differ",
                self.addr, config.local
            )),
            _ => Ok(()),
        }
    }

    fn key(&self) -> VtepKey {
        VtepKey {
            addr: self.addr,
            port: self.port,
            vni: self.vni,
        }
    }

    fn template(&self, config: &SegmentConfig, next_hop: MacAddr) -> Option<EncapTemplate> {
        EncapTemplate::new(config, &self.key(), config.underlay_mac, next_hop)
    }

    fn rebuild(&self, config: &SegmentConfig, peer: PeerId) -> Vtep {
        let template = self.next_hop_mac.and_then(|mac| self.template(config, mac));
        let reason = self.unresolved.unwrap_or(UnresolvedReason::Unsupported);
        Vtep {
            path_mtu: self.path_mtu,
            peer,
            next_hop: template.map_or(NextHop::Unresolved(reason), NextHop::Resolved),
            key: self.key(),
        }
    }
}

impl GroupState {
    fn of(group: &Group) -> Self {
        Self {
            nexthop: group.nexthop,
            sharing: match group.sharing() {
                Sharing::Points(points) => GroupSharing::Weights(
                    points
                        .into_iter()
                        .map(|(vtep, points)| (vtep.0, points))
                        .collect(),
                ),
                Sharing::Buckets(buckets) => GroupSharing::Buckets(numbers(buckets)),
            },
        }
    }

    fn rebuild(&self) -> Group {
        match &self.sharing {
            GroupSharing::Weights(members) => {
                let members = members
                    .iter()
                    .map(|(vtep, weight)| (VtepId(*vtep), *weight));
                Group::by_weight(self.nexthop, members)
            }
            GroupSharing::Buckets(buckets) => {
                Group::by_bucket(self.nexthop, ids(buckets), BucketUse::new(buckets.len()))
            }
        }
    }
}

fn numbers(ids: &[VtepId]) -> Vec<u32> {
    ids.iter().map(|id| id.0).collect()
}

fn ids(numbers: &[u32]) -> Vec<VtepId> {
    numbers.iter().copied().map(VtepId).collect()
}
