//! Headers seen, hashed and written, all in the first-level cache.
//!
//! | action | what is measured |
//! |---|---|
//! | `parse` | all headers of a VXLAN frame with inner IPv4 or IPv6, as decapsulation meets them: views, without judging |
//! | `hash` | the inner flow, for the outer source port |
//! | `write` | the outer headers of a frame, from its VTEP's template; the size is theirs |
//! | `build` | such a template, which the writer of the table does |

use std::hint::black_box;
use std::net::IpAddr;

use criterion::Criterion;
use etherparse::PacketBuilder;
use vxgate::table::{EncapTemplate, OuterFields, SegmentConfig, VtepKey};
use vxgate::wire::ethernet::EthernetHeader;
use vxgate::wire::ipv4::Ipv4Header;
use vxgate::wire::ipv6::{self, Ipv6Header};
use vxgate::wire::layers::Layers;
use vxgate::wire::udp::UdpHeader;
use vxgate::wire::vxlan::{self, VxlanHeader};
use vxgate::wire::{MacAddr, entropy};

use crate::measure::{Action, Batches};
use crate::rig::{self, Size, vni};

/// Frames of a batch.
const BATCH: usize = 64;
const NEIGHBOUR: MacAddr = MacAddr([4, 0, 0, 0, 1, 2]);

pub fn benches(criterion: &mut Criterion) {
    let mut action = Action::new(criterion, "parse");
    for (case, six) in [("vxlan4", false), ("vxlan6", true)] {
        let setup = || frames(|n| outer(six, &inner(six, n)));
        action.steady(case, 64, setup, BATCH as u64, |frames| {
            for frame in frames {
                black_box(parse(black_box(frame)));
            }
        });
    }
    drop(action);
    let mut action = Action::new(criterion, "hash");
    for (case, six) in [("udp4", false), ("udp6", true)] {
        let setup = || {
            let frames = frames(|n| inner(six, n));
            let layers = |frame: &Vec<u8>| Layers::parse(frame).expect("a whole frame");
            let layers: Vec<_> = frames.iter().map(layers).collect();
            (frames, layers)
        };
        action.steady(case, 64, setup, BATCH as u64, |(frames, layers)| {
            for (frame, layers) in frames.iter().zip(layers) {
                let hash = entropy::flow_hash(black_box(frame), layers);
                black_box(entropy::spread(hash, 32_768, 60_999));
            }
        });
    }
    drop(action);
    for (action, measures) in [
        ("write", write as fn(&mut Action<'_>, _, _)),
        ("build", build),
    ] {
        let mut action = Action::new(criterion, action);
        for (case, six) in [("outer4", false), ("outer6", true)] {
            measures(&mut action, case, six);
        }
    }
}

fn write(action: &mut Action<'_>, case: &str, six: bool) {
    let (config, key) = underlay(six);
    let template = template(&config, &key);
    let size = template.len();
    let fields = OuterFields {
        source_port: 40_000,
        ip_id: 7,
        tos: 0,
        ttl: 64,
        df: false,
        flow_label: 0,
        group_policy: 0,
        inner_sum: None,
    };
    let setup = || frames(|n| outer(six, &inner(six, n)));
    action.steady(case, size, setup, BATCH as u64, |frames| {
        for frame in frames {
            black_box(template.write(black_box(frame), black_box(&fields)));
        }
    });
}

fn build(action: &mut Action<'_>, case: &str, six: bool) {
    let (config, key) = underlay(six);
    let size = template(&config, &key).len();
    let batches = Batches {
        len: BATCH as u64,
        prepare: |_: &mut (SegmentConfig, VtepKey)| (),
        act: |(config, key): &mut (SegmentConfig, VtepKey)| {
            for _ in 0..BATCH {
                black_box(template(black_box(config), black_box(key)));
            }
        },
    };
    action.cold(case, size, || (config, key), batches);
}

fn template(config: &SegmentConfig, key: &VtepKey) -> EncapTemplate {
    EncapTemplate::new(config, key, config.underlay_mac, NEIGHBOUR)
        .expect("two addresses of one family")
}

/// What can be seen of a frame without judging it; the values read are made one, so that each is read.
fn parse(frame: &[u8]) -> Option<u64> {
    let (ethernet, packet) = EthernetHeader::parse(frame)?;
    let (class, udp) = match ethernet.ether_type() {
        vxgate::wire::ethernet::IPV4 => {
            let header = Ipv4Header::parse(packet)?;
            let payload = packet.get(header.header_len()..header.total_len())?;
            let addresses = u32::from(header.source()) ^ u32::from(header.destination());
            (u64::from(header.tos()) ^ u64::from(addresses), payload)
        }
        _ => {
            let header = Ipv6Header::parse(packet)?;
            let payload = packet.get(ipv6::LEN..)?.get(..header.payload_len())?;
            let addresses = u128::from(header.source()) ^ u128::from(header.destination());
            (
                u64::from(header.traffic_class()) ^ addresses as u64,
                payload,
            )
        }
    };
    let (udp, payload) = (UdpHeader::parse(udp)?, udp.get(vxgate::wire::udp::LEN..)?);
    let (vxlan, inner) = VxlanHeader::parse(payload)?;
    let layers = Layers::parse(inner)?;
    let transport = layers.transport.as_ref()?;
    Some(
        class
            ^ u64::from(udp.destination_port())
            ^ vxlan.bits()
            ^ u64::from(layers.traffic_class)
            ^ transport.offset as u64,
    )
}

fn frames(build: impl Fn(u16) -> Vec<u8>) -> Vec<Vec<u8>> {
    (0..BATCH as u16).map(build).collect()
}

/// A frame of 64 bytes of some flow.
fn inner(six: bool, flow: u16) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]);
    let builder = if six {
        builder.ipv6([0xfd; 16], [0xfc; 16], 64)
    } else {
        builder.ipv4([10, 244, 0, 1], [10, 244, 1, 1], 64)
    };
    let payload = [0x5a; 22];
    let payload = if six { &payload[20..] } else { &payload };
    let mut bytes = Vec::new();
    let written = builder.udp(1000 + flow, 53).write(&mut bytes, payload);
    written.expect("room in memory");
    assert_eq!(bytes.len(), 64);
    bytes
}

/// In VXLAN.
fn outer(six: bool, inner: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(NEIGHBOUR.0, [4, 0, 0, 0, 0, 1]);
    let builder = if six {
        builder.ipv6([0x20; 16], [0x21; 16], 64)
    } else {
        builder.ipv4([10, 0, 0, 2], [10, 0, 0, 1], 64)
    };
    let mut bytes = Vec::new();
    let payload = [&vxlan::header(vni(0))[..], inner].concat();
    let written = builder
        .udp(40_000, rig::UDP_PORT)
        .write(&mut bytes, &payload);
    written.expect("room in memory");
    assert!(parse(&bytes).is_some());
    bytes
}

/// A segment's attributes on either underlay, and a VTEP there.
fn underlay(six: bool) -> (SegmentConfig, VtepKey) {
    let size = Size {
        segments: 1,
        ..Size::default()
    };
    let mut config = (*rig::snapshot(size, 0).segments[0].config).clone();
    let mut addr: IpAddr = [10, 0, 0, 2].into();
    if six {
        config.local = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into();
        addr = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 2].into();
    }
    let key = VtepKey {
        addr,
        port: rig::UDP_PORT,
        vni: vni(0),
    };
    (config, key)
}
