//! What is told of flows whose frames pass by, between `decide` and `apply`: the ground on which they may go the direct path
//! ([`crate::flows`]).
//!
//! A frame from the pods' side tells how its flow's frames leave, one from the underlay how they arrive. Only what was routed
//! counts, from or to the vxlan device's own Ethernet address: what was bridged through it keeps its TTL, and has another
//! way to its pod. And only one destination's frames: copies are nobody's flow. Nor is a flow told of by what begins or ends a
//! connection: promoted by such a frame, it would be demoted by the answer.
//!
//! A batch costs a look at its flows' keys; the headers of a flow are worked out when it is told of.

use std::net::IpAddr;

use super::{Verdict, Verdicts};
use crate::flows::{Arrival, Departure, FlowKey, HEADERS_LEN, Lookout, Seen, Way};
use crate::port::{Batch, Frame, Umem};
use crate::stats::PeerId;
use crate::table::{
    Destination, Df, EcnEncap, EncapTemplate, FlowLabel, Inherit, NextHop, OUTER_IPV4_LEN,
    OUTER_IPV6_LEN, OuterFields, Segment, SegmentConfig, SegmentId, Snapshot, UdpChecksum, VtepId,
};
use crate::wire::ethernet::{self, EthernetHeader};
use crate::wire::ipv4::Ipv4Header;
use crate::wire::ipv6::Ipv6Header;
use crate::wire::superframe::Superframe;
use crate::wire::vnet::VnetHeader;

/// All ECN bits.
const ECN: u8 = 0x03;
/// Fields of outer headers that differ from frame to frame, over IPv4 and over IPv6: ECN apart, these are not the flow's. Start and
/// end.
const OF_THE_FRAME: [(usize, usize); 3] = [(16, 20), (24, 26), (38, 42)];
const OF_THE_FRAME6: [(usize, usize); 2] = [(18, 20), (58, 62)];
/// Where ECN is, in both: over IPv6, its byte has four bits of the flow label below it.
const TOS_AT: usize = 15;
const ECN6: u8 = ECN << 4;

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
                departure
                    .filter(|_| !key.begins_or_ends(bytes))
                    .map(Seen::Out)
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
        let outer_len = match config.local {
            IpAddr::V4(_) => OUTER_IPV4_LEN,
            IpAddr::V6(_) => OUTER_IPV6_LEN,
        };
        let Some(inner) = bytes.get(outer_len..).filter(|_| is_fit(config)) else {
            continue;
        };
        if !is_between(inner, |header| header.destination() == config.mac) {
            continue;
        }
        if let Some(key) = FlowKey::of(inner, Way::In) {
            let seen = || {
                let arrival = arrival(segment, id, nic, (bytes, inner));
                arrival.filter(|_| !key.begins_or_ends(inner)).map(Seen::In)
            };
            lookout.note(&key, Way::In, generation, seen);
        }
    }
}

/// Whether the outer headers of a segment's flow are the same for all of its frames.
fn is_fit(config: &SegmentConfig) -> bool {
    let of_family = match config.local {
        IpAddr::V4(_) => config.df != Df::Inherit,
        IpAddr::V6(_) => matches!(config.flow_label, FlowLabel::Fixed(_)),
    };
    of_family
        && matches!(config.tos, Inherit::Fixed(_))
        && matches!(config.ttl, Inherit::Fixed(_))
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
        frame_max: u32::from(vtep.path_mtu).checked_sub(template.ip_packet_len(0) as u32)?,
        ecn: match config.ecn_encap {
            EcnEncap::Compat => 0,
            EcnEncap::Kernel | EcnEncap::Rfc6040 => ECN,
        },
        checksum: config.udp_checksum == UdpChecksum::Compute,
        verify: config.verify_udp_checksum,
        peer: vtep.peer,
        as_kernel: config.ecn_encap == EcnEncap::Kernel && is_of_one(segment, frame),
    })
}

/// Whether the frame's destination is one VTEP. Of a group the kernel has a member of its own choice for each flow.
fn is_of_one(segment: &Segment, frame: &[u8]) -> bool {
    let destination =
        EthernetHeader::parse(frame).and_then(|(header, _)| segment.fdb.find(header.destination()));
    matches!(destination, Some(Destination::Vtep(_)))
}

/// How a flow's frames arrive, by the frame at hand, with its outer headers and without.
#[inline(never)]
fn arrival(
    segment: &Segment,
    id: SegmentId,
    nic: u32,
    (outer, inner): (&[u8], &[u8]),
) -> Option<Arrival> {
    let config = &*segment.config;
    let packet = outer.get(ethernet::LEN..)?;
    let source = match config.local {
        IpAddr::V4(_) => Ipv4Header::parse(packet)?.source().into(),
        IpAddr::V6(_) => Ipv6Header::parse(packet)?.source().into(),
    };
    let (inner, _) = EthernetHeader::parse(inner)?;
    Some(Arrival {
        source,
        device: config.ifindex,
        nic,
        peer: segment.peer(source).unwrap_or(PeerId::other(id.0)),
        local: config.local,
        port: config.port,
        vni: config.vni,
        macs: [inner.source(), inner.destination()],
        ether_type: inner.ether_type(),
        verify: config.verify_udp_checksum,
    })
}

/// The flow's outer headers, without what is the frame's, and the inner Ethernet header.
fn headers(
    template: &EncapTemplate,
    fields: &OuterFields,
    frame: &[u8],
) -> Option<[u8; HEADERS_LEN]> {
    let mut headers = [0; HEADERS_LEN];
    let outer = headers.get_mut(..template.len())?;
    if !template.write(outer, fields) {
        return None;
    }
    let (of_the_frame, ecn) = if template.is_ipv6() {
        (&OF_THE_FRAME6[..], ECN6)
    } else {
        (&OF_THE_FRAME[..], ECN)
    };
    for (start, end) in of_the_frame {
        outer.get_mut(*start..*end)?.fill(0);
    }
    *outer.get_mut(TOS_AT)? &= !ecn;
    let inner = headers.get_mut(template.len()..)?;
    *inner.first_chunk_mut::<{ ethernet::LEN }>()? = *frame.first_chunk()?;
    Some(headers)
}

const _: () = assert!(OUTER_IPV6_LEN + ethernet::LEN == HEADERS_LEN);

#[cfg(test)]
mod tests {
    use super::super::lab::{
        FAR, Lab, NEAR, OWN, config, config6, inner4, inner6, segment, tunnelled, tunnelled6,
    };
    use super::super::{decap, encap};
    use super::*;
    use crate::flows::{Generation, Seed, Sighting, Sightings};
    use crate::wire::MacAddr;

    /// What is told of frames in both directions.
    fn told(config: SegmentConfig, frames: &[Vec<u8>], way: Way) -> Vec<Sighting> {
        let generation = Generation::default();
        generation.set(3);
        let sightings = Sightings::new(generation, Seed::draw(|| 1));
        let mut lookout = sightings.lookout();
        // Its first turn is never told of: nobody knows what has waited for it.
        for turn in 1..9 {
            lookout.begin_turn(|| turn * 50_000_000);
        }
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
        sightings.waiting().collect()
    }

    fn between(destination: MacAddr, source: MacAddr, six: bool) -> Vec<u8> {
        let mut frame = if six {
            inner6(destination, &[7; 40])
        } else {
            inner4(destination, &[7; 40])
        };
        frame[6..12].copy_from_slice(&source.0);
        frame
    }

    /// All combinations of an underlay's family and a pod's: whether they are IPv6.
    const FAMILIES: [(bool, bool); 4] =
        [(false, false), (false, true), (true, false), (true, true)];

    fn config_of(six: bool) -> SegmentConfig {
        if six { config6() } else { config() }
    }

    #[test]
    fn a_routed_frame_tells_how_its_flow_leaves_and_one_that_was_bridged_nothing() {
        for (over, within) in FAMILIES {
            let (config, frame) = (config_of(over), between(NEAR, OWN, within));
            let told_of = told(config.clone(), std::slice::from_ref(&frame), Way::Out);
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
            let mut lab = Lab::new(vec![segment(config.clone())]);
            let mut sent = lab.fate_out(&frame).unwrap();
            let (of_the_frame, ecn, len) = if over {
                (&OF_THE_FRAME6[..], ECN6, HEADERS_LEN)
            } else {
                (&OF_THE_FRAME[..], ECN, HEADERS_LEN - 20)
            };
            for (start, end) in of_the_frame {
                sent[*start..*end].fill(0);
            }
            sent[TOS_AT] &= !ecn;
            assert_eq!(departure.headers[..len], sent[..len], "{over} {within}");
            assert!(departure.headers[len..].iter().all(|byte| *byte == 0));
            assert_eq!(
                departure.frame_max,
                if over { 1500 - 56 } else { 1500 - 36 }
            );
            assert_eq!(departure.is_over_ipv6(), over);
            let vtep = if over { "2001:db8::2" } else { "192.0.2.2" };
            assert_eq!(departure.destination(), vtep.parse().ok());
            let bridged = between(NEAR, FAR, within);
            assert_eq!(told(config, &[bridged], Way::Out), []);
        }
    }

    #[test]
    fn the_kernels_device_sends_a_flow_alike_when_ecn_is_as_there() {
        let frame = between(NEAR, OWN, false);
        for (ecn_encap, alike) in [
            (EcnEncap::Kernel, true),
            (EcnEncap::Rfc6040, false),
            (EcnEncap::Compat, false),
        ] {
            let config = SegmentConfig {
                ecn_encap,
                ..config()
            };
            let told_of = told(config, std::slice::from_ref(&frame), Way::Out);
            let [
                Sighting {
                    seen: Seen::Out(departure),
                    ..
                },
            ] = told_of[..]
            else {
                panic!("{told_of:?}");
            };
            assert_eq!(departure.as_kernel, alike, "{ecn_encap:?}");
        }
    }

    #[test]
    fn what_outer_headers_take_from_inner_ones_keeps_flows_off_the_direct_path() {
        let frame = between(NEAR, OWN, true);
        let tos = |config| SegmentConfig {
            tos: Inherit::Inner,
            ..config
        };
        let label = SegmentConfig {
            flow_label: FlowLabel::Inner,
            ..config6()
        };
        for inherits in [tos(config()), tos(config6()), label] {
            let frames = std::slice::from_ref(&frame);
            assert_eq!(told(inherits, frames, Way::Out), []);
        }
    }

    #[test]
    fn a_delivered_frame_tells_where_its_flow_comes_from() {
        for (over, within) in FAMILIES {
            let (config, frame) = (config_of(over), between(OWN, NEAR, within));
            let around = |frame: &[u8]| {
                if over {
                    tunnelled6(frame)
                } else {
                    tunnelled(frame)
                }
            };
            let told_of = told(config.clone(), &[around(&frame)], Way::In);
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
            let vtep = if over { "2001:db8::2" } else { "192.0.2.2" };
            assert_eq!((arrival.source, arrival.nic), (vtep.parse().unwrap(), 77));
            assert_eq!((arrival.macs, arrival.port), ([NEAR, OWN], config.port));
            assert_eq!(arrival.local, config.local);
            let bridged = around(&between(FAR, NEAR, within));
            assert_eq!(told(config, &[bridged], Way::In), []);
        }
    }
}
