//! One segment of the table, written down and made anew.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use schemars::JsonSchema;
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SegmentState {
    /// The device's attributes, and what the operator decides.
    #[serde(with = "Attributes")]
    #[schemars(with = "Attributes")]
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
    #[schemars(with = "BTreeMap<String, String>")]
    pub fdb: Vec<(MacAddr, Destination)>,
}

/// The access devices of a segment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VtepState {
    /// Its address.
    pub addr: IpAddr,
    /// The UDP port that is sent to.
    pub port: u16,
    /// The VNI that is sent with.
    #[serde(with = "text::vni")]
    #[schemars(with = "u32")]
    pub vni: Vni,
    /// The largest outer IP packet that the path to it takes, in bytes.
    pub path_mtu: u16,
    /// The next hop's Ethernet address, when it is resolved.
    #[serde(with = "text::maybe_word")]
    #[schemars(with = "Option<String>")]
    pub next_hop_mac: Option<MacAddr>,
    /// Why not, when it is not.
    #[serde(with = "text::maybe_word")]
    #[schemars(with = "Option<String>")]
    pub unresolved: Option<UnresolvedReason>,
}

/// A group of end points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupState {
    /// The kernel's number of the nexthop group.
    pub nexthop: u32,
    /// How flows are shared out by ranges of their hash: VTEP and weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Vec<(u32, u32)>>,
    /// How they are by buckets (a resilient group): the VTEP of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buckets: Option<Vec<u32>>,
}

/// What a number or a word is, for whoever reads the schema.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code)] // Only its schema is used.
enum NumberOrWord {
    Number(u32),
    Word(String),
}

/// The attributes of [`SegmentConfig`], one by one.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(remote = "SegmentConfig")]
struct Attributes {
    /// The device's name.
    name: String,
    /// Its index.
    ifindex: u32,
    /// The VXLAN network identifier.
    #[serde(with = "text::vni")]
    #[schemars(with = "u32")]
    vni: Vni,
    /// Our own VTEP address.
    local: IpAddr,
    /// The multicast group on which we receive, too.
    group: Option<IpAddr>,
    /// The UDP port on which we receive.
    port: u16,
    /// The device's own Ethernet address.
    #[serde(with = "text::word")]
    #[schemars(with = "String")]
    mac: MacAddr,
    /// The index of the underlay device.
    underlay_ifindex: u32,
    /// The Ethernet address of the underlay device.
    #[serde(with = "text::word")]
    #[schemars(with = "String")]
    underlay_mac: MacAddr,
    /// The largest outer IP packet that the underlay device sends, in bytes.
    underlay_mtu: u16,
    /// The lowest and the highest outer UDP source port.
    #[serde(with = "text::source_ports")]
    #[schemars(with = "[u16; 2]")]
    source_ports: SourcePorts,
    /// Outer TTL or hop limit, or `inherit`; 0 is the default.
    #[serde(with = "text::inherit")]
    #[schemars(with = "NumberOrWord")]
    ttl: Inherit,
    /// The underlay's default TTL or hop limit.
    #[serde(deserialize_with = "text::ttl_default")]
    ttl_default: u8,
    /// Outer DSCP, or `inherit`.
    #[serde(with = "text::inherit")]
    #[schemars(with = "NumberOrWord")]
    tos: Inherit,
    /// Outer DF bit: `unset`, `set` or `inherit`.
    #[serde(with = "text::word")]
    #[schemars(with = "String")]
    df: Df,
    /// Outer flow label of IPv6, or `inherit` or `hash`.
    #[serde(with = "text::flow_label")]
    #[schemars(with = "NumberOrWord")]
    flow_label: FlowLabel,
    /// Outer UDP checksum: `zero` or `compute`.
    #[serde(with = "text::word")]
    #[schemars(with = "String")]
    udp_checksum: UdpChecksum,
    /// Whether received outer UDP checksums are verified.
    verify_udp_checksum: bool,
    /// Whether a received one of zero is accepted over IPv6.
    accept_udp6_zero_checksum: bool,
    /// Whether the Group Policy extension is used.
    gbp: bool,
    /// The bits of a received VXLAN header that may be set.
    #[serde(with = "text::bits")]
    #[schemars(with = "String")]
    header_bits: u64,
    /// Who may send to us.
    #[serde(with = "text::word")]
    #[schemars(with = "String")]
    peer_check: PeerCheck,
    /// Outer ECN bits.
    #[serde(with = "text::word")]
    #[schemars(with = "String")]
    ecn_encap: EcnEncap,
    /// What becomes of inner VLAN tags.
    #[serde(with = "text::word")]
    #[schemars(with = "String")]
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
        for (number, group) in self.groups.iter().enumerate() {
            let of_group = |why| format!("groups[{number}]: {why}");
            group.judge().map_err(of_group)?;
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
        let (weights, buckets) = match group.sharing() {
            Sharing::Points(points) => {
                let points = points.into_iter().map(|(vtep, points)| (vtep.0, points));
                (Some(points.collect()), None)
            }
            Sharing::Buckets(buckets) => (None, Some(numbers(buckets))),
        };
        Self {
            nexthop: group.nexthop,
            weights,
            buckets,
        }
    }

    fn judge(&self) -> Result<(), String> {
        match (&self.weights, &self.buckets) {
            (Some(_), None) | (None, Some(_)) => Ok(()),
            _ => Err("either weights or buckets say how flows are shared out".to_owned()),
        }
    }

    fn rebuild(&self) -> Group {
        match &self.buckets {
            Some(buckets) => {
                Group::by_bucket(self.nexthop, ids(buckets), BucketUse::new(buckets.len()))
            }
            None => {
                let members = self.weights.iter().flatten();
                let members = members.map(|(vtep, weight)| (VtepId(*vtep), *weight));
                Group::by_weight(self.nexthop, members)
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
