//! What is told of flows whose frames pass by, between `decide` and `apply`: the ground on which they may go the direct path
//! ([`crate::flows`]).
//!
//! A frame from the pods' side tells how its flow's frames leave, one from the underlay how they arrive. Only what was routed
//! counts, from or to the vxlan device's own Ethernet address: what was bridged through it keeps its TTL, and has another
//! way to its pod. And only one destination's frames: copies are nobody's flow. Nor is a flow told of by what begins or ends a
//! connection: promoted by such a frame, it would be demoted by the answer.
//!
//! A batch costs a look at its flows' keys; the headers of a flow are worked out when it is told of.

use std::net::{IpAddr, Ipv4Addr};

use super::{Verdict, Verdicts};
use crate::flows::{Arrival, Departure, FlowKey, HEADERS_LEN, Lookout, Seen, Way, begins_or_ends};
use crate::port::{Batch, Frame, Umem};
use crate::stats::PeerId;
use crate::table::{
    Df, EcnEncap, EncapTemplate, Inherit, NextHop, OUTER_IPV4_LEN, OuterFields, Segment,
    SegmentConfig, SegmentId, Snapshot, UdpChecksum, VtepId,
};
use crate::wire::ethernet::{self, EthernetHeader};
use crate::wire::superframe::Superframe;
use crate::wire::vnet::VnetHeader;

/// All ECN bits.
const ECN: u8 = 0x03;
/// Fields of outer headers that differ from frame to frame: DSCP with ECN apart, these are not the flow's. Start and end.
const OF_THE_FRAME: [(usize, usize); 3] = [(16, 20), (24, 26), (38, 42)];
const TOS_AT: usize = 15;
/// Where an outer IPv4 header has its source.
const SOURCE_AT: usize = 26;

/// Tells of a batch that came from the access port of `segment`, or with `SUPER` from its TAP.
#[inline]
pub fn departures<const SUPER: bool>(
    snapshot: &Snapshot,
    segment: SegmentId,
    umem: &Umem,
    batch: &Batch,
    verdicts: &Verdicts,
    lookout: &mut Lookout,
) {
    let Some(generation) = lookout.generation() else {
        return;
    };
    let Some(segment) = snapshot
        .segment(segment)
        .filter(|segment| is_fit(&segment.config))
    else {
        return;
    };
    for (index, frame) in batch.iter().enumerate() {
        let (verdict, push) = verdicts.push(index);
        let Verdict::Encap(vtep) = verdict else {
            continue;
        };
        if SUPER && is_superframe(umem, frame) {
            continue;
        }
        let bytes = umem.bytes(frame);
        if !is_between(bytes, |header| header.source() == segment.config.mac) {
            continue;
        }
        if let Some(key) = FlowKey::of(bytes, Way::Out) {
            let seen = || {
                let fields = push.fields(&segment.config, 0, None);
                let departure = departure(segment, vtep, fields, bytes);
                departure.filter(|_| !begins_or_ends(bytes)).map(Seen::Out)
            };
            lookout.note(&key, Way::Out, generation, seen);
        }
    }
}

/// Tells of a batch that came from the underlay device `nic`.
#[inline]
pub fn arrivals(
    snapshot: &Snapshot,
    nic: u32,
    umem: &Umem,
    batch: &Batch,
    verdicts: &Verdicts,
    lookout: &mut Lookout,
) {
    let Some(generation) = lookout.generation() else {
        return;
    };
    for (frame, verdict) in batch.iter().zip(verdicts.iter()) {
        // A stranger's flows are nobody's to promote.
        let Verdict::Deliver(id) = verdict else {
            continue;
        };
        let Some(segment) = snapshot.segment(id) else {
            continue;
        };
        let config = &*segment.config;
        let bytes = umem.bytes(frame);
        let Some(inner) = bytes.get(OUTER_IPV4_LEN..).filter(|_| is_fit(config)) else {
            continue;
        };
        if !is_between(inner, |header| header.destination() == config.mac) {
            continue;
        }
        if let Some(key) = FlowKey::of(inner, Way::In) {
            let seen = || {
                let arrival = arrival(segment, id, nic, bytes);
                arrival.filter(|_| !begins_or_ends(inner)).map(Seen::In)
            };
            lookout.note(&key, Way::In, generation, seen);
        }
    }
}

/// Whether the outer headers of a segment's flow are the same for all of its frames, and over IPv4.
fn is_fit(config: &SegmentConfig) -> bool {
    matches!(config.local, IpAddr::V4(_))
        && matches!(config.tos, Inherit::Fixed(_))
        && matches!(config.ttl, Inherit::Fixed(_))
        && config.df != Df::Inherit
        && !config.gbp
}

#[inline]
fn is_between(frame: &[u8], is_ours: impl Fn(&EthernetHeader) -> bool) -> bool {
    EthernetHeader::parse(frame).is_some_and(|(header, _)| is_ours(header))
}

#[inline]
fn is_superframe(umem: &Umem, frame: &Frame) -> bool {
    let header = VnetHeader::parse(umem.room(frame));
    header.is_some_and(|header| Superframe::read(&header, umem.bytes(frame)).is_some())
}

/// How a flow's frames leave, by the frame at hand.
#[inline(never)]
fn departure(
    segment: &Segment,
    vtep: VtepId,
    fields: OuterFields,
    frame: &[u8],
) -> Option<Departure> {
    let config = &*segment.config;
    let vtep = segment.vteps.get(vtep.0 as usize)?;
    let NextHop::Resolved(template) = &vtep.next_hop else {
        return None;
    };
    Some(Departure {
        headers: headers(template, &fields, frame)?,
        device: config.ifindex,
        nic: config.underlay_ifindex,
        frame_max: u32::from(vtep.path_mtu).checked_sub((OUTER_IPV4_LEN - ethernet::LEN) as u32)?,
        ecn: match config.ecn_encap {
            EcnEncap::Compat => 0,
            EcnEncap::Kernel | EcnEncap::Rfc6040 => ECN,
        },
        checksum: config.udp_checksum == UdpChecksum::Compute,
        peer: vtep.peer,
    })
}

/// How a flow's frames arrive, by the frame at hand, outer headers included.
#[inline(never)]
fn arrival(segment: &Segment, id: SegmentId, nic: u32, frame: &[u8]) -> Option<Arrival> {
    let config = &*segment.config;
    let IpAddr::V4(local) = config.local else {
        return None;
    };
    let source = Ipv4Addr::from(*frame.get(SOURCE_AT..)?.first_chunk::<4>()?);
    let (inner, _) = EthernetHeader::parse(frame.get(OUTER_IPV4_LEN..)?)?;
    let known = segment.peer(source.into());
    Some(Arrival {
        source,
        device: config.ifindex,
        nic,
        peer: known.unwrap_or(PeerId::other(id.0)),
        local,
        port: config.port,
        vni: config.vni,
        macs: [inner.source(), inner.destination()],
    })
}

/// The flow's outer headers, without what is the frame's, and the inner Ethernet header.
fn headers(
    template: &EncapTemplate,
    fields: &OuterFields,
    frame: &[u8],
) -> Option<[u8; HEADERS_LEN]> {
    let mut headers = [0; HEADERS_LEN];
    if template.len() != OUTER_IPV4_LEN || !template.write(&mut headers, fields) {
        return None;
    }
    for (start, end) in OF_THE_FRAME {
        headers.get_mut(start..end)?.fill(0);
    }
    *headers.get_mut(TOS_AT)? &= !ECN;
    *headers.last_chunk_mut::<{ ethernet::LEN }>()? = *frame.first_chunk()?;
    Some(headers)
}

const _: () = assert!(OUTER_IPV4_LEN + ethernet::LEN == HEADERS_LEN);

#[cfg(test)]
mod tests {
    use super::super::lab::{FAR, Lab, NEAR, OWN, config, inner4, segment, tunnelled};
    use super::super::{decap, encap};
    use super::*;
    use crate::flows::{Generation, Sighting, Sightings};
    use crate::wire::MacAddr;

    /// What is told of frames in both directions.
    fn told(config: SegmentConfig, frames: &[Vec<u8>], way: Way) -> Vec<Sighting> {
        let generation = Generation::default();
        generation.set(3);
        let sightings = Sightings::new(generation, 1);
        let mut lookout = sightings.lookout();
        let mut lab = Lab::new(vec![segment(config)]);
        lab.look(frames, |snapshot, umem, batch, verdicts| match way {
            Way::Out => {
                encap::decide(snapshot, SegmentId(0), umem, batch, verdicts);
                departures::<false>(snapshot, SegmentId(0), umem, batch, verdicts, &mut lookout);
            }
            Way::In => {
                decap::decide(snapshot, umem, batch, verdicts);
                arrivals(snapshot, 77, umem, batch, verdicts, &mut lookout);
            }
        });
        std::iter::from_fn(|| sightings.take()).collect()
    }

    fn between(destination: MacAddr, source: MacAddr) -> Vec<u8> {
        let mut frame = inner4(destination, &[7; 40]);
        frame[6..12].copy_from_slice(&source.0);
        frame
    }

    #[test]
    fn a_routed_frame_tells_how_its_flow_leaves_and_one_that_was_bridged_nothing() {
        let frame = between(NEAR, OWN);
        let told_of = told(config(), std::slice::from_ref(&frame), Way::Out);
        let [
            Sighting {
                key,
                generation: 3,
                seen: Seen::Out(departure),
            },
        ] = told_of[..]
        else {
            panic!("{told_of:?}");
        };
        assert_eq!(Some(key), FlowKey::of(&frame, Way::Out));
        let mut lab = Lab::new(vec![segment(config())]);
        let mut sent = lab.fate_out(&frame).unwrap();
        for (start, end) in OF_THE_FRAME {
            sent[start..end].fill(0);
        }
        sent[TOS_AT] &= !ECN;
        assert_eq!(departure.headers, sent[..HEADERS_LEN]);
        assert_eq!(departure.frame_max, 1500 - 36);
        assert_eq!(told(config(), &[between(NEAR, FAR)], Way::Out), []);
        let inherits = SegmentConfig {
            tos: Inherit::Inner,
            ..config()
        };
        assert_eq!(told(inherits, &[frame], Way::Out), []);
    }

    #[test]
    fn a_delivered_frame_tells_where_its_flow_comes_from() {
        let frame = between(OWN, NEAR);
        let told_of = told(config(), &[tunnelled(&frame)], Way::In);
        let [
            Sighting {
                key,
                seen: Seen::In(arrival),
                ..
            },
        ] = told_of[..]
        else {
            panic!("{told_of:?}");
        };
        assert_eq!(Some(key), FlowKey::of(&frame, Way::In));
        assert_eq!((arrival.source, arrival.nic), ([192, 0, 2, 2].into(), 77));
        assert_eq!((arrival.macs, arrival.port), ([NEAR, OWN], config().port));
        assert_eq!(IpAddr::from(arrival.local), config().local);
        let bridged = tunnelled(&between(FAR, NEAR));
        assert_eq!(told(config(), &[bridged], Way::In), []);
    }
}
