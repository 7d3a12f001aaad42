//! What a frame met on its way, step by step, in words. Told from the parsers and look-ups that the data path has; where the
//! frame died, the data path has said.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use super::headers::{Outer, headers, outer_words};
use super::{At, Fate, Outcome, Sent, Tracer};
use crate::pipeline::lane::Ways;
use crate::stats::{DropReason, PassReason};
use crate::table::{Destination, NextHop, Segment, Vtep, VtepId};
use crate::wire::MacAddr;
use crate::wire::ethernet::EthernetHeader;
use crate::wire::vxlan::VxlanHeader;

/// VTEPs of a list that are told one by one.
const VTEPS_SHOWN: usize = 8;

/// A part of the way, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The frame as it comes in.
    Rx,
    /// The steering programs.
    Steering,
    /// The VXLAN header.
    Vxlan,
    /// Who sent it.
    PeerCheck,
    /// The inner frame.
    Inner,
    /// Where it goes.
    Fdb,
    /// How it gets there.
    NextHop,
    /// The frame as it leaves.
    Tx,
}

impl Stage {
    /// Its name.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Rx => "rx",
            Self::Steering => "steering",
            Self::Vxlan => "vxlan",
            Self::PeerCheck => "peer check",
            Self::Inner => "inner",
            Self::Fdb => "fdb",
            Self::NextHop => "next hop",
            Self::Tx => "tx",
        }
    }

    /// Where a frame was when it died of this. What is judged next to a header belongs to it.
    const fn of(reason: DropReason) -> Self {
        match reason {
            DropReason::OuterMalformed
            | DropReason::OuterFragment
            | DropReason::MartianSource
            | DropReason::AccessShort
            | DropReason::RxRingFull
            | DropReason::FillRingEmpty
            | DropReason::RxInvalid => Self::Steering,
            DropReason::HeaderTruncated
            | DropReason::NoIFlag
            | DropReason::VniNotFound
            | DropReason::OtherHost
            | DropReason::OuterChecksum
            | DropReason::ZeroChecksum6
            | DropReason::ReservedBits => Self::Vxlan,
            DropReason::UnknownPeer => Self::PeerCheck,
            DropReason::InnerSpoof
            | DropReason::InnerShort
            | DropReason::InnerTruncated
            | DropReason::InvalidSourceMac
            | DropReason::LocalMac
            | DropReason::InnerVlan
            | DropReason::TunnelEcn => Self::Inner,
            DropReason::NoTxTarget => Self::Fdb,
            DropReason::NextHopUnresolved | DropReason::Oversize => Self::NextHop,
            DropReason::TxRingFull
            | DropReason::NoFrame
            | DropReason::LinkDown
            | DropReason::WorkerStale
            | DropReason::AccessRingFull => Self::Tx,
        }
    }
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Step {
    /// Which part of the way.
    pub stage: Stage,
    /// What is seen there.
    pub what: String,
}

impl fmt::Display for Step {
    /// What comes in and goes out begins with its port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = match self.stage {
            Stage::Rx | Stage::Tx => "",
            _ => ":",
        };
        write!(f, "{}{colon} {}", self.stage.label(), self.what)
    }
}

fn step(stage: Stage, what: String) -> Step {
    Step { stage, what }
}

impl Tracer {
    /// The steps of a frame with this outcome.
    pub(super) fn steps(&self, at: At, frame: &[u8], outcome: &Outcome) -> Vec<Step> {
        let mut steps = vec![step(Stage::Rx, self.arrival(at, frame))];
        steps.push(step(Stage::Steering, self.steered(at, frame, outcome)));
        let last = match outcome.fate {
            Fate::Pass(_) => return steps,
            Fate::Drop(reason) => Stage::of(reason),
            Fate::Forward => Stage::Tx,
        };
        match at {
            At::Underlay(_) => self.decapsulated(frame, &mut steps),
            At::Access(number) => {
                if let Some(segment) = self.snapshot.segments.get(number) {
                    encapsulated(segment, frame, outcome, &mut steps);
                }
            }
        }
        steps.retain(|step| step.stage <= last);
        let sent = outcome.sent.iter();
        steps.extend(sent.map(|sent| step(Stage::Tx, self.departure(sent))));
        steps
    }

    fn arrival(&self, at: At, frame: &[u8]) -> String {
        let (name, outer) = (self.name(at), matches!(at, At::Underlay(_)));
        format!(
            "{name}: {}, {} bytes{}",
            headers(frame),
            frame.len(),
            if outer {
                outer_words(frame)
            } else {
                String::new()
            }
        )
    }

    fn steered(&self, at: At, frame: &[u8], outcome: &Outcome) -> String {
        let At::Access(number) = at else {
            return match outcome.fate {
                Fate::Pass(reason) => format!("the kernel's own path, {}", reason.label()),
                _ => "VXLAN to one of our addresses and ports, to a worker".to_owned(),
            };
        };
        let max = self.steering.frame_len_max(number);
        let share = self.steering.share(number).cloned().unwrap_or_default();
        match outcome.fate {
            Fate::Pass(reason) => {
                let why = match reason {
                    PassReason::Oversize => format!(": frames up to {max} bytes fit every path"),
                    PassReason::KernelRoute => format!(": the kernel keeps {share}"),
                    _ => String::new(),
                };
                format!("the kernel's own path, {}{why}", reason.label())
            }
            _ => {
                let tap = self.state.segments.get(number);
                let tap = tap.and_then(|segment| segment.access.tap.as_deref());
                let by = match tap {
                    Some(tap) if takes_tap(frame) => format!(" by {tap}"),
                    _ => String::new(),
                };
                format!(
                    "frames up to {max} bytes fit every path, the kernel keeps {share}: to a worker{by}"
                )
            }
        }
    }

    fn decapsulated(&self, frame: &[u8], steps: &mut Vec<Step>) {
        let Some(outer) = Outer::find(frame) else {
            return;
        };
        let Some((vxlan, inner)) = VxlanHeader::parse(outer.payload) else {
            let len = outer.payload.len();
            let what = format!("{len} bytes where a header of 8 should be");
            return steps.push(step(Stage::Vxlan, what));
        };
        let id = self
            .snapshot
            .find(outer.destination, outer.port, vxlan.vni());
        let segment = id.and_then(|id| self.snapshot.segment(id));
        let flags = vxlan.bits() >> 56;
        let mut what = format!("flags {flags:#04x}, VNI {}", vxlan.vni());
        let segment = match segment {
            Some(segment) => {
                let _ = write!(what, ", segment {}", segment.config.name);
                segment
            }
            None => {
                let (addr, port) = (outer.destination, outer.port);
                let _ = write!(what, ", no segment has it at {addr} port {port}");
                return steps.push(step(Stage::Vxlan, what));
            }
        };
        let odd = vxlan.bits() & !segment.config.header_bits;
        if odd != 0 {
            let _ = write!(what, ", reserved bits {odd:#018x}");
        }
        steps.push(step(Stage::Vxlan, what));
        let known = if segment.is_peer(outer.source) {
            "a known VTEP"
        } else {
            "no known VTEP"
        };
        let check = segment.config.peer_check.label();
        let what = format!(
            "{} is {known} of VNI {} ({check})",
            outer.source,
            vxlan.vni()
        );
        steps.push(step(Stage::PeerCheck, what));
        steps.push(step(
            Stage::Inner,
            inner_words(segment, inner, outer.source),
        ));
    }

    fn departure(&self, sent: &Sent) -> String {
        let (name, bytes) = (self.name(sent.at), &sent.bytes);
        match sent.at {
            At::Access(number) => {
                let access = self.state.segments.get(number).map(|one| &one.access);
                let tap = access.and_then(|access| access.tap.as_deref());
                let by = match (tap, access) {
                    (Some(tap), _) if takes_tap(bytes) => tap,
                    (_, Some(access)) => access.kernel_side.as_str(),
                    _ => "",
                };
                let mark = sent.mark.filter(|mark| *mark != 0);
                let mark = mark.map_or_else(String::new, |mark| format!(", mark {mark:#x}"));
                format!(
                    "{name}, by {by}: {}, {} bytes{mark}",
                    headers(bytes),
                    bytes.len()
                )
            }
            At::Underlay(_) => {
                let vni = Outer::find(bytes).and_then(|outer| {
                    let (vxlan, _) = VxlanHeader::parse(outer.payload)?;
                    Some(format!(", VNI {}", vxlan.vni()))
                });
                format!(
                    "{name}: {}, {} bytes{}{}",
                    headers(bytes),
                    bytes.len(),
                    outer_words(bytes),
                    vni.unwrap_or_default()
                )
            }
        }
    }
}

/// Whether a lone frame takes the TAP, where there is one.
fn takes_tap(frame: &[u8]) -> bool {
    Ways::new().choose([frame].into_iter(), 0, true) != 0
}

fn inner_words(segment: &Segment, inner: &[u8], from: IpAddr) -> String {
    let mut what = headers(inner);
    let Some((header, _)) = EthernetHeader::parse(inner) else {
        return what;
    };
    if header.source() == segment.config.mac {
        what.push_str(", from the device's own address");
    }
    if segment.config.peer_check == crate::table::PeerCheck::StrictMac
        && !segment.is_behind(header.source(), from)
    {
        let _ = write!(what, ", whose source the FDB does not have behind {from}");
    }
    what
}

fn encapsulated(segment: &Segment, frame: &[u8], outcome: &Outcome, steps: &mut Vec<Step>) {
    let Some((header, _)) = EthernetHeader::parse(frame) else {
        return;
    };
    let mac = header.destination();
    let vteps = segment.vteps.as_slice();
    let (what, ids) = look_up(segment, mac);
    steps.push(step(Stage::Fdb, what));
    let chosen = outcome.sent.iter().filter_map(|sent| {
        let outer = Outer::find(&sent.bytes)?;
        Some(outer.destination)
    });
    let chosen: Vec<_> = chosen.collect();
    let reached = |vtep: &Vtep| chosen.contains(&vtep.key.addr);
    for id in ids.iter().take(VTEPS_SHOWN) {
        let what = match vteps.get(id.0 as usize) {
            Some(vtep) => vtep_words(vtep, frame.len(), reached(vtep)),
            None => format!("there is no VTEP {}", id.0),
        };
        steps.push(step(Stage::NextHop, what));
    }
    if let Some(more) = ids.len().checked_sub(VTEPS_SHOWN).filter(|more| *more > 0) {
        steps.push(step(Stage::NextHop, format!("and {more} more VTEPs")));
    }
}

/// Where the FDB says that frames to an address go, in words, and the VTEPs that it means.
fn look_up(segment: &Segment, mac: MacAddr) -> (String, Vec<VtepId>) {
    match segment.fdb.find(mac) {
        Some(to) => {
            let (what, ids) = destination_words(segment, to);
            (format!("{mac} leads to {what}"), ids)
        }
        None if !segment.flood.is_empty() => {
            let count = segment.flood.len();
            let what = format!("{mac} has no entry: to the flood list, {}", vteps(count));
            (what, segment.flood.to_vec())
        }
        None => match segment.fdb.find(MacAddr::ZERO) {
            Some(to) => {
                let (what, ids) = destination_words(segment, to);
                (
                    format!("{mac} has no entry; the all-zero entry leads to {what}"),
                    ids,
                )
            }
            None => (
                format!("{mac} has no entry, and there is no default destination"),
                Vec::new(),
            ),
        },
    }
}

fn destination_words(segment: &Segment, to: Destination) -> (String, Vec<VtepId>) {
    let addr = |id: &VtepId| {
        let vtep = segment.vteps.get(id.0 as usize);
        vtep.map_or_else(
            || format!("VTEP {}", id.0),
            |vtep| vtep.key.addr.to_string(),
        )
    };
    match to {
        Destination::Vtep(id) => (addr(&id), vec![id]),
        Destination::Group(id) => match segment.groups.get(id.0 as usize) {
            Some(group) => (
                format!(
                    "nexthop group {}: one of {}, by the flow",
                    group.nexthop,
                    vteps(group.members().len())
                ),
                group.members().to_vec(),
            ),
            None => (format!("group {}, which is not there", id.0), Vec::new()),
        },
        Destination::List(id) => match segment.lists.get(id.0 as usize) {
            Some(list) => (format!("each of {}", vteps(list.len())), list.clone()),
            None => (format!("list {}, which is not there", id.0), Vec::new()),
        },
    }
}

fn vteps(count: usize) -> String {
    format!("{count} VTEP{}", if count == 1 { "" } else { "s" })
}

fn vtep_words(vtep: &Vtep, inner_len: usize, is_reached: bool) -> String {
    let (key, path) = (vtep.key, vtep.path_mtu);
    match &vtep.next_hop {
        NextHop::Resolved(template) => format!(
            "{} port {}: by {}, an outer packet of {} bytes on a path of {path}{}",
            key.addr,
            key.port,
            template.next_hop_mac(),
            template.ip_packet_len(inner_len),
            if is_reached { "" } else { ", not sent" },
        ),
        NextHop::Unresolved(reason) => {
            format!("{} port {}: {}", key.addr, key.port, reason.label())
        }
    }
}
