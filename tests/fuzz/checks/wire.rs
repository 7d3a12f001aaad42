//! Bytes seen as headers, beside an independent parser where it has an opinion.

use etherparse::{
    Ethernet2HeaderSlice, Ipv4HeaderSlice, Ipv6HeaderSlice, SingleVlanHeaderSlice, UdpHeaderSlice,
};
use vxgate::wire::ethernet::EthernetHeader;
use vxgate::wire::ipv4::{self, Ipv4Header};
use vxgate::wire::ipv6::{self, Ipv6Header};
use vxgate::wire::layers::{Layers, Network, Place};
use vxgate::wire::udp::UdpHeader;
use vxgate::wire::vxlan::{self, VxlanHeader};
use vxgate::wire::{MacAddr, Vni, checksum, crc32c, entropy, ethernet, gbp, vlan};

use crate::rig::choices::Choices;
use crate::rig::frames;
use crate::rig::sums::{self, fold, sum};
use crate::rig::table;
use crate::rig::twin;

/// Whatever is found in a frame lies inside of it, and is what the twin finds; the hash of a flow depends on the flow
/// alone. The first byte says whether the rest is a frame as it is, or what a frame is made of.
pub fn layers(data: &[u8]) {
    let mut choices = Choices::new(data);
    if choices.bit() {
        let segment = table::segment(&mut choices, 0);
        found(&frames::inner(&mut choices, &segment));
    } else {
        found(data.get(1..).unwrap_or_default());
    }
}

fn found(frame: &[u8]) {
    let Some(place) = Place::find(frame) else {
        assert!(frame.len() < 14);
        assert_eq!(Layers::parse(frame), None);
        return;
    };
    assert!(place.network == Network::Other || place.offset <= frame.len());
    let layers = Layers::parse(frame).expect("the Ethernet header is whole");
    assert_eq!(layers.place, place);
    if let Some(transport) = &layers.transport {
        assert!(transport.offset + transport.len <= frame.len());
    }
    as_the_twin(frame, &layers);
    let hash = entropy::flow_hash(frame, &layers);
    assert!((32_768..=60_999).contains(&entropy::spread(hash, 32_768, 60_999)));
    // The IP header's other fields and the payload behind the ports are no part of a flow.
    let mut other = frame.to_vec();
    if let (Some(transport), Network::Ipv4 | Network::Ipv6) = (&layers.transport, place.network) {
        let end = transport.offset + transport.len;
        let behind = other.get_mut(transport.offset + 4..end).unwrap_or_default();
        behind.iter_mut().for_each(|byte| *byte = !*byte);
        let ttl = if place.network == Network::Ipv4 { 8 } else { 7 };
        other[place.offset + ttl] ^= 0xff;
        assert_eq!(
            hash,
            entropy::flow_hash(&other, &Layers::parse(&other).expect("as before"))
        );
    }
}

fn as_the_twin(frame: &[u8], layers: &Layers) {
    let transport = layers.transport.as_ref();
    let own = transport.map(|found| {
        (
            found.protocol,
            found.offset,
            found.offset + found.len,
            found.direct,
        )
    });
    let twin = twin::carried(frame).map(|carried| {
        (
            carried.protocol,
            carried.start,
            carried.end,
            carried.addresses.is_some(),
        )
    });
    assert_eq!(own, twin);
    let fields = twin::inner_fields(frame);
    let own = (layers.traffic_class, layers.ttl, layers.flow_label);
    assert_eq!(own, (fields.class, fields.ttl, fields.label));
}

/// Every header's view says what the independent parser says, and what is written reads back.
pub fn wire(data: &[u8]) {
    ethernet(data);
    vlan(data);
    ipv4(data);
    ipv6(data);
    udp(data);
    vxlan(data);
    checksums(data);
}

fn ethernet(data: &[u8]) {
    let (own, other) = (
        EthernetHeader::parse(data),
        Ethernet2HeaderSlice::from_slice(data),
    );
    let (Some((own, rest)), Ok(other)) = (own, other) else {
        assert!(data.len() < ethernet::LEN);
        return;
    };
    assert_eq!(
        (own.destination().0, own.source().0),
        (other.destination(), other.source())
    );
    assert_eq!(
        (own.ether_type(), rest),
        (other.ether_type().0, &data[14..])
    );
    let mut written = vec![0; data.len()];
    ethernet::write(
        &mut written,
        own.destination(),
        own.source(),
        own.ether_type(),
    );
    assert_eq!(written[..14], data[..14]);
    assert!(written[14..].iter().all(|byte| *byte == 0));
    let text = own.source().to_string();
    assert_eq!(
        text.split(':')
            .map(|octet| u8::from_str_radix(octet, 16).expect("hexadecimal"))
            .collect::<Vec<_>>(),
        own.source().0
    );
    assert_eq!(own.source().is_multicast(), data[6] & 1 == 1);
    assert_eq!(own.source().is_zero(), own.source() == MacAddr::ZERO);
    groups(data);
}

/// The bytes as IP addresses, and the Ethernet groups that these stand for.
fn groups(data: &[u8]) {
    if let Some([a, b, c, d]) = data.first_chunk::<4>() {
        let group = (224..240)
            .contains(a)
            .then_some([1, 0, 0x5e, b & 0x7f, *c, *d]);
        assert_eq!(
            MacAddr::of_group([*a, *b, *c, *d].into()),
            group.map(MacAddr)
        );
    }
    if let Some(addr) = data.first_chunk::<16>() {
        let [a, .., w, x, y, z] = *addr;
        let group = (a == 0xff).then_some([0x33, 0x33, w, x, y, z]);
        assert_eq!(MacAddr::of_group((*addr).into()), group.map(MacAddr));
    }
}

/// The bytes as what follows an EtherType of 0x8100.
fn vlan(data: &[u8]) {
    let (mut kind, mut rest, mut tags) = (vlan::CUSTOMER, data, 0);
    let mut whole = true;
    while vlan::is_tag(kind) && tags < vlan::TAGS_MAX {
        let Ok(tag) = SingleVlanHeaderSlice::from_slice(rest) else {
            whole = false;
            break;
        };
        (kind, rest, tags) = (tag.ether_type().0, &rest[4..], tags + 1);
    }
    assert_eq!(
        vlan::skip(vlan::CUSTOMER, data),
        whole.then_some((kind, tags, rest))
    );
}

fn ipv4(data: &[u8]) {
    let Some(own) = Ipv4Header::parse(data) else {
        assert!(data.len() < ipv4::LEN);
        return;
    };
    assert_eq!(
        (own.version(), own.header_len()),
        (data[0] >> 4, usize::from(data[0] & 15) * 4)
    );
    let mut changed = data.to_vec();
    ipv4::set_tos(&mut changed, !own.tos());
    // The header's sum does not change, whether it was right or wrong before.
    assert_eq!(
        fold(sum(&data[..20])) % 0xffff,
        fold(sum(&changed[..20])) % 0xffff
    );
    assert_eq!(
        (changed[1], &changed[2..10], &changed[12..]),
        (!data[1], &data[2..10], &data[12..])
    );
    // Its opinion is of whole headers only.
    let Ok(other) = Ipv4HeaderSlice::from_slice(data) else {
        return;
    };
    assert_eq!(own.tos(), other.dcp().value() << 2 | other.ecn().value());
    assert_eq!(own.total_len(), usize::from(other.total_len()));
    assert_eq!(
        (own.df(), own.is_fragment()),
        (other.dont_fragment(), other.is_fragmenting_payload())
    );
    assert_eq!(
        (own.ttl(), own.protocol()),
        (other.ttl(), other.protocol().0)
    );
    assert_eq!(
        (own.source(), own.destination()),
        (other.source_addr(), other.destination_addr())
    );
}

fn ipv6(data: &[u8]) {
    let Some(own) = Ipv6Header::parse(data) else {
        assert!(data.len() < ipv6::LEN);
        return;
    };
    assert_eq!(own.version(), data[0] >> 4);
    let mut changed = data.to_vec();
    ipv6::set_traffic_class(&mut changed, !own.traffic_class());
    let back = Ipv6Header::parse(&changed).expect("as long as before");
    assert_eq!(
        (back.version(), back.traffic_class(), back.flow_label()),
        (own.version(), !own.traffic_class(), own.flow_label())
    );
    assert_eq!(changed[4..], data[4..]);
    let payload = ipv6::walk(own.next_header(), &data[40..]);
    if let Some(payload) = payload {
        assert!(40 + payload.offset <= data.len());
    }
    let Ok(other) = Ipv6HeaderSlice::from_slice(data) else {
        return;
    };
    assert_eq!(
        (own.traffic_class(), own.flow_label()),
        (other.traffic_class(), other.flow_label().value())
    );
    assert_eq!(
        (own.payload_len(), own.next_header()),
        (usize::from(other.payload_length()), other.next_header().0)
    );
    assert_eq!(own.hop_limit(), other.hop_limit());
    assert_eq!(
        (own.source(), own.destination()),
        (other.source_addr(), other.destination_addr())
    );
    extensions(own.next_header(), &data[40..], payload);
}

/// The walk over extension headers. It stops for other reasons than ours, hence only where both arrive is compared:
/// not behind a fragment header, and not where it takes an extension for a payload.
fn extensions(first: u8, bytes: &[u8], own: Option<ipv6::Payload>) {
    let Ok((headers, next, rest)) =
        etherparse::Ipv6ExtensionsSlice::from_slice(first.into(), bytes)
    else {
        return;
    };
    let Some(own) = own.filter(|_| !headers.is_fragmenting_payload()) else {
        return;
    };
    if next.0 == own.protocol {
        assert_eq!(own.offset, bytes.len() - rest.len());
    }
}

fn udp(data: &[u8]) {
    let (Some(own), Ok(other)) = (UdpHeader::parse(data), UdpHeaderSlice::from_slice(data)) else {
        assert!(data.len() < 8);
        return;
    };
    assert_eq!(
        (own.source_port(), own.destination_port()),
        (other.source_port(), other.destination_port())
    );
    assert_eq!(
        (own.len(), own.checksum()),
        (usize::from(other.length()), other.checksum())
    );
}

fn vxlan(data: &[u8]) {
    let Some((own, rest)) = VxlanHeader::parse(data) else {
        assert!(data.len() < vxlan::LEN);
        return;
    };
    let [flags, a, b, c, d, e, f, last] = *data.first_chunk().expect("8 bytes");
    assert_eq!(rest, &data[8..]);
    assert_eq!(own.i_flag(), flags & 8 != 0);
    assert_eq!(own.bits().to_be_bytes(), data[..8]);
    let reserved = [flags & !8, a, b, c, last] != [0; 5];
    assert_eq!(own.bits() & !vxlan::USED_BITS != 0, reserved);
    assert_eq!(own.vni().get(), u32::from_be_bytes([0, d, e, f]));
    assert_eq!(vxlan::header(own.vni()), [8, 0, 0, 0, d, e, f, 0]);
    let any = u32::from_be_bytes([flags, a, b, c]);
    let mark = u32::from_be_bytes([0, a & 0x48, b, c]);
    assert_eq!(gbp::mark_of(own), if flags & 0x80 != 0 { mark } else { 0 });
    let word = if any == 0 { 0 } else { 0x8000_0000 | mark };
    assert_eq!(gbp::word_of(any), word);
    assert_eq!(
        Vni::new(any).map(Vni::get).ok(),
        (any < 1 << 24).then_some(any)
    );
}

fn checksums(data: &[u8]) {
    // Two zeros: 0xffff stands for all sums but that over nothing but zeros.
    assert_eq!(checksum::sum(data), u32::from(fold(sum(data))));
    assert_eq!(
        checksum::finish(checksum::sum(data)),
        sums::checksum(sum(data))
    );
    assert_eq!(crc32c::crc32c([data, &[]]), twin::crc32c(data));
    let middle = data.len() / 2;
    let (front, back) = data.split_at(middle);
    assert_eq!(crc32c::crc32c([front, back]), twin::crc32c(data));
    if let Some([a, b, c, d, e, f, g, h]) = data.first_chunk::<8>() {
        let (hash, low, high) = (
            u32::from_be_bytes([*a, *b, *c, *d]),
            u16::from_be_bytes([*e, *f]),
            u16::from_be_bytes([*g, *h]),
        );
        let (low, high) = (low.min(high), low.max(high));
        assert!((low..=high).contains(&entropy::spread(hash, low, high)));
    }
}
