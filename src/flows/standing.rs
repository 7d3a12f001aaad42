//! What people are told of a flow: whether it goes the direct path, and if not, why.

use std::net::IpAddr;

use super::known::Known;
use super::{Evidence, FlowKey, Slot, Ways};

/// Why a flow is not promoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hitch {
    /// No frame of it was seen to leave to a VTEP.
    NotSeenLeaving,
    /// No frame of it was seen to arrive from a VTEP.
    NotSeenArriving,
    /// It goes to one VTEP and comes from another, or by other devices.
    OtherWayBack,
    /// TCP may not go direct.
    TcpForbidden,
    /// Conntrack has to see its frames.
    Held,
    /// All paths are others', or rest: pairs of a pod and a VTEP.
    NoPath,
    /// Its pod's device was not seen to send and to be sent the same 5-tuple, with the same Ethernet addresses: it is translated on
    /// its way, or its pod's device is not looked after.
    PodUnseen,
    /// Where one way suffices: it was not seen at a pod's device with the same 5-tuple, or neighbours and FDB do not say that its
    /// pod's address is there.
    PodUnknown,
}

impl Hitch {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::NotSeenLeaving => "not seen leaving",
            Self::NotSeenArriving => "not seen arriving",
            Self::OtherWayBack => "comes by another way than it goes",
            Self::TcpForbidden => "TCP may not go direct",
            Self::Held => {
                "conntrack has to see its frames: it translates them, has a helper for them, or soon forgets the flow"
            }
            Self::NoPath => "too many pairs of a pod and a VTEP have flows that go direct",
            Self::PodUnseen => "not seen both ways at a pod's device",
            Self::PodUnknown => "not seen at the pod's device that its address is behind",
        }
    }
}

/// What is known of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its place.
    pub slot: Slot,
    /// Its name.
    pub key: FlowKey,
    /// When it was first heard of in this generation, in nanoseconds (`CLOCK_MONOTONIC`).
    pub born_ns: u64,
    /// The VTEP at its other end, as far as it is known.
    pub vtep: Option<IpAddr>,
    /// Which ways it is promoted.
    pub ways: Option<Ways>,
    /// Why it is not promoted, or not both ways.
    pub hitch: Option<Hitch>,
}

impl Standing {
    /// Of a flow of which this is known, where so much evidence is asked for, and TCP may go direct or not.
    pub(super) fn of(
        slot: Slot,
        key: &FlowKey,
        known: &Known,
        evidence: Evidence,
        tcp: bool,
    ) -> Self {
        let arrived = known.arrived.map(|arrival| arrival.source);
        let leaves = known.out.and_then(|departure| departure.destination());
        Self {
            slot,
            key: *key,
            born_ns: known.born_ns,
            vtep: leaves.or(arrived),
            ways: known.going.map(|going| going.ways),
            hitch: hitch(key, known, evidence, tcp),
        }
    }
}

/// Why a flow is not promoted, or not both ways.
fn hitch(key: &FlowKey, known: &Known, evidence: Evidence, tcp: bool) -> Option<Hitch> {
    let going = known.going.map(|going| going.ways);
    if going == Some(Ways::Both) {
        return None;
    }
    let missing = match (&known.out, &known.arrived) {
        (None, _) => Some(Hitch::NotSeenLeaving),
        (_, None) => Some(Hitch::NotSeenArriving),
        (Some(out), Some(arrived)) if !out.meets(arrived) => Some(Hitch::OtherWayBack),
        _ => None,
    };
    let one_way = evidence == Evidence::OneWay;
    // Where one way suffices, it is not the other one that keeps a flow from going at all.
    match missing.filter(|_| !one_way || going.is_some()) {
        Some(hitch) => Some(hitch),
        None if key.is_tcp() && !tcp => Some(Hitch::TcpForbidden),
        None if known.held.is_some() => known.held,
        None if one_way => Some(Hitch::PodUnknown),
        None => Some(Hitch::PodUnseen),
    }
}
