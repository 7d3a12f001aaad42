//! Where `vxgate` leaves the kernel's way on purpose. Nothing else may differ.
//!
//! A row names the requirement that justifies it and says what the kernel would have to be sent to do what `vxgate` does with
//! the frame: another frame, its twin, or none at all. So a justified difference is checked as sharply as equality is.

use super::bytes::{self, be16, partial_sum, put16};
use super::outer::{self, Family};
use super::setting::Setting;
use super::site::Entry;
use super::support::end::Input;

/// What the kernel gets in place of a frame.
enum Twin {
    Same,
    Other(Vec<u8>),
    Nothing,
}

struct Row {
    /// The requirement of the specification.
    id: &'static str,
    why: &'static str,
    twin: fn(&Setting, Entry, &Input) -> Twin,
}

/// The whole list, in the order in which the rows apply.
const ROWS: &[Row] = &[
    Row {
        id: "D2",
        why: "a frame from an address that is no known VTEP of the VNI is dropped; the kernel decapsulates it",
        twin: |setting, entry, input| match steered(setting, entry, &input.bytes) {
            Some(family) if !from_peer(&input.bytes, family) => Twin::Nothing,
            _ => Twin::Same,
        },
    },
    Row {
        id: "V6",
        why: "on a veth the outer UDP checksum is not verified: the sender may have left it unfinished",
        twin: |setting, entry, input| match steered(setting, entry, &input.bytes) {
            Some(family) if input.offload.is_none() => summed(&input.bytes, family),
            _ => Twin::Same,
        },
    },
    Row {
        id: "V8",
        why: "a tag and what is behind it cross unchanged, whatever congestion was marked outside; the kernel looks for the \
              EtherType behind a tag 10 bytes too far (`IP_ECN_decapsulate`, `skb_protocol`), and where it finds one of \
              IP there, it marks the tag",
        twin: |setting, entry, input| match steered(setting, entry, &input.bytes) {
            Some(family) if misread(input.bytes.get(family.outer_len()..)) => {
                without_congestion(&input.bytes, family)
            }
            _ => Twin::Same,
        },
    },
    Row {
        id: "F5",
        why: "an inner checksum that holds the pseudo-header's sum was left unfinished, and is finished",
        twin: |setting, entry, input| {
            let mut twin = input.bytes.clone();
            let inner = match entry {
                Entry::Wire => steered(setting, entry, &twin).and_then(|family| {
                    // Behind the UDP datagram there is nothing that would be delivered.
                    let end = outer::datagram_end(&twin, family)?;
                    twin.get_mut(family.outer_len()..end)
                }),
                // What the sender's device is told to finish is finished before anybody sees it.
                Entry::Bridge | Entry::Device
                    if input.offload.is_none() && fits(setting, &twin) =>
                {
                    Some(&mut twin[..])
                }
                _ => None,
            };
            match inner.map(finish_inner) {
                Some(true) => {
                    if let Some(family) = steered(setting, entry, &input.bytes) {
                        resum(&mut twin, family, &input.bytes);
                    }
                    Twin::Other(twin)
                }
                _ => Twin::Same,
            }
        },
    },
];

/// Whether a worker gets to see a frame from the overlay: what is too long for the path is the kernel's at both sites.
fn fits(setting: &Setting, frame: &[u8]) -> bool {
    let mut segments = setting.segments.iter();
    segments.all(|segment| segment.family.outer_len() + frame.len() <= 14 + setting.link_mtu)
}

fn from_peer(frame: &[u8], family: Family) -> bool {
    let source = family.addresses(frame);
    let (source, _) = source.split_at(source.len() / 2);
    family.peers().iter().any(|peer| match peer {
        std::net::IpAddr::V4(peer) => source == peer.octets(),
        std::net::IpAddr::V6(peer) => source == peer.octets(),
    })
}

/// With the outer checksum that the kernel accepts: none over IPv4, and the right one over IPv6.
fn summed(frame: &[u8], family: Family) -> Twin {
    let (mut twin, at) = (frame.to_vec(), family.udp() + 6);
    if be16(frame, at) == Some(0) {
        return Twin::Same;
    }
    match (family, outer::datagram_end(frame, family)) {
        (Family::V4, _) => put16(&mut twin, at, 0),
        (Family::V6, Some(end)) if (family.udp() + 8..=frame.len()).contains(&end) => {
            put16(&mut twin, at, outer::datagram_sum(frame, family, end));
        }
        _ => return Twin::Same,
    }
    Twin::Other(twin)
}

/// The outer checksum, where there was one that was not left to the device, follows what was changed inside.
fn resum(twin: &mut [u8], family: Family, before: &[u8]) {
    let at = family.udp() + 6;
    let end = outer::datagram_end(before, family).expect("there is an inner frame");
    let right = outer::datagram_sum(before, family, end);
    if family == Family::V6 && be16(before, at) == Some(right) {
        let sum = outer::datagram_sum(twin, family, end);
        put16(twin, at, sum);
    }
}

fn without_congestion(frame: &[u8], family: Family) -> Twin {
    let mut twin = frame.to_vec();
    // A header that the kernel would not take is not to be made good.
    let header = &frame[bytes::IP..family.udp()];
    if family == Family::V4 && bytes::internet_checksum(&[header]) != 0 {
        return Twin::Same;
    }
    let (class, _) = outer::class_and_ttl(frame, family);
    outer::set_class(&mut twin, family, class & !3);
    Twin::Other(twin)
}

/// Two outputs that say the same: what is written in the one's way into both. There is one such row.
///
/// D4: an inner IPv4 checksum follows the congestion mark by RFC 1624, which the specification asks for. The kernel
/// (`IP_ECN_set_ce`, `IP_ECN_set_ect1`) adds as RFC 1141 does, and so writes 0xffff, the other zero of one's complement,
/// where RFC 1624 has 0x0000. Both verify.
pub fn one_zero(delivered: &mut [u8]) {
    let checksum = 14 + 10;
    if be16(delivered, 12) == Some(bytes::ETHER_IPV4) && be16(delivered, checksum) == Some(0xffff) {
        put16(delivered, checksum, 0);
    }
}

/// What the kernel is to be sent so that it does what `vxgate` must do with this frame.
pub fn twin(setting: &Setting, entry: Entry, input: &Input) -> Option<Input> {
    let mut twin = input.clone();
    for row in ROWS {
        match (row.twin)(setting, entry, &twin) {
            Twin::Same => {}
            Twin::Other(bytes) => twin.bytes = bytes,
            Twin::Nothing => return None,
        }
    }
    Some(twin)
}

/// The rows that make a frame's twin another frame, for people.
pub fn reasons(setting: &Setting, entry: Entry, input: &Input) -> String {
    let applies = |row: &&Row| !matches!((row.twin)(setting, entry, input), Twin::Same);
    let rows = ROWS.iter().filter(applies);
    rows.map(|row| format!("{}: {}. ", row.id, row.why))
        .collect()
}

/// The family of a frame from the wire that a worker gets to see. All others are the kernel's at both sites.
fn steered(setting: &Setting, entry: Entry, frame: &[u8]) -> Option<Family> {
    let family = outer::plain_udp(frame).filter(|_| entry == Entry::Wire)?;
    let destination = match family.node() {
        std::net::IpAddr::V4(node) => family.addresses(frame)[4..] == node.octets(),
        std::net::IpAddr::V6(node) => family.addresses(frame)[16..] == node.octets(),
    };
    let port = be16(frame, family.udp() + 2)?;
    let mut segments = setting
        .segments
        .iter()
        .filter(|segment| destination && segment.family == family && segment.port == port);
    // Who has no VNI is dead, whoever reads it.
    let known = match outer::vni_of(frame, family) {
        Some(vni) if frame[family.vxlan()] & 8 != 0 => segments.any(|segment| segment.vni == vni),
        _ => segments.next().is_some(),
    };
    known.then_some(family)
}

/// Whether there is a tag behind which the kernel finds an IP header that is none.
fn misread(inner: Option<&[u8]>) -> bool {
    let Some(inner) = inner.filter(|inner| is_tag(be16(inner, 12))) else {
        return false;
    };
    let mut at = 14 + 10 + 2;
    while is_tag(be16(inner, at)) {
        at += 4;
    }
    matches!(be16(inner, at), Some(bytes::ETHER_IPV4 | bytes::ETHER_IPV6))
}

fn is_tag(ether_type: Option<u16>) -> bool {
    matches!(ether_type, Some(0x8100 | 0x88a8))
}

/// Finishes the TCP, UDP or SCTP checksum of an inner frame when it was left unfinished; whether it was.
fn finish_inner(frame: &mut [u8]) -> bool {
    let Some(Transport {
        addresses,
        protocol,
        routed,
        segment,
    }) = transport(frame)
    else {
        return false;
    };
    let (at, len) = match protocol {
        // The pseudo-header has the last destination, which is not in the IP header.
        6 | 17 if routed => return false,
        6 if segment.len() >= 20 => (16, segment.len()),
        17 if segment.len() >= 8 => (6, usize::from(be16(segment, 4).unwrap_or(0))),
        132 => return finish_sctp(segment),
        _ => return false,
    };
    let Some(segment) = segment.get_mut(..len).filter(|part| part.len() >= 8) else {
        return false;
    };
    let pseudo = [&addresses[..], &[0, protocol], &(len as u16).to_be_bytes()].concat();
    let field = be16(segment, at);
    if field != Some(partial_sum(&[&pseudo])) || (protocol == 17 && field == Some(0)) {
        return false;
    }
    put16(segment, at, 0);
    let sum = bytes::internet_checksum(&[&pseudo, segment]);
    put16(
        segment,
        at,
        if protocol == 17 && sum == 0 {
            0xffff
        } else {
            sum
        },
    );
    true
}

fn finish_sctp(segment: &mut [u8]) -> bool {
    if segment.get(8..12) != Some(&[0; 4]) {
        return false;
    }
    let crc = bytes::crc32c(segment).to_le_bytes();
    segment[8..12].copy_from_slice(&crc);
    true
}

/// What an IP packet carries.
struct Transport<'a> {
    addresses: Vec<u8>,
    protocol: u8,
    routed: bool,
    segment: &'a mut [u8],
}

/// Nothing in fragments, and where lengths contradict each other.
fn transport(frame: &mut [u8]) -> Option<Transport<'_>> {
    let (mut at, mut tags) = (12, 0);
    while tags < 7 && matches!(be16(frame, at)?, 0x8100 | 0x88a8) {
        (at, tags) = (at + 4, tags + 1);
    }
    let ether_type = be16(frame, at)?;
    let packet = frame.get_mut(at + 2..)?;
    match ether_type {
        bytes::ETHER_IPV4 if packet.first()? >> 4 == 4 => {
            let header_len = usize::from(packet[0] & 15) * 4;
            let total_len = usize::from(be16(packet, 2)?);
            let whole = packet.get(6..20)?;
            let fragment = u16::from_be_bytes([whole[0], whole[1]]) & 0x3fff != 0;
            let (protocol, addresses) = (whole[3], whole[6..14].to_vec());
            if fragment || header_len < 20 {
                return None;
            }
            Some(Transport {
                addresses,
                protocol,
                routed: false,
                segment: packet.get_mut(header_len..total_len)?,
            })
        }
        bytes::ETHER_IPV6 if packet.first()? >> 4 == 6 => {
            let end = 40 + usize::from(be16(packet, 4)?);
            let addresses = packet.get(8..40)?.to_vec();
            let mut next = packet[6];
            let packet = packet.get_mut(..end)?;
            let (mut start, mut routed) = (40, false);
            for _ in 0..=8 {
                let unit = match next {
                    0 | 43 | 60 | 135 => 8,
                    51 => 4,
                    44 => return None,
                    _ => {
                        return Some(Transport {
                            addresses,
                            protocol: next,
                            routed,
                            segment: packet.get_mut(start..)?,
                        });
                    }
                };
                routed |= next == 43;
                let len = usize::from(*packet.get(start + 1)?);
                next = packet[start];
                start += 8 + len * unit;
                if start > packet.len() {
                    return None;
                }
            }
            None
        }
        _ => None,
    }
}
