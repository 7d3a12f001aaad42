//! Where `vxgate` leaves the kernel's way on purpose. Nothing else may differ.
//!
//! A row names the requirement that justifies it and says what the kernel would have to be sent to do what `vxgate` does with
//! the frame: another frame, its twin, or none at all. So a justified difference is checked as sharply as equality is.

use super::bytes::{self, IP, OUTER_LEN, UDP, VXLAN, be16, partial_sum, put16};
use super::end::Input;
use super::site::{Entry, NODE, PEERS, PORT, VNI};

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
    twin: fn(Entry, &Input) -> Twin,
}

/// The whole list, in the order in which the rows apply.
const ROWS: &[Row] = &[
    Row {
        id: "D2",
        why: "a frame from an address that is no known VTEP of the VNI is dropped; the kernel decapsulates it",
        twin: |entry, input| {
            let from_peer = |frame: &[u8]| PEERS.iter().any(|peer| frame[26..30] == *peer);
            match entry == Entry::Wire && steered(&input.bytes) && !from_peer(&input.bytes) {
                true => Twin::Nothing,
                false => Twin::Same,
            }
        },
    },
    Row {
        id: "V6",
        why: "on a veth the outer UDP checksum is not verified: the sender may have left it unfinished",
        twin: |entry, input| {
            let none = be16(&input.bytes, UDP + 6) == Some(0);
            if entry != Entry::Wire || !steered(&input.bytes) || none || input.offload.is_some() {
                return Twin::Same;
            }
            let mut twin = input.bytes.clone();
            put16(&mut twin, UDP + 6, 0);
            Twin::Other(twin)
        },
    },
    Row {
        id: "V8",
        why: "a tag and what is behind it cross unchanged, whatever congestion was marked outside; the kernel looks for the \
              EtherType behind a tag 10 bytes too far (`IP_ECN_decapsulate`, `skb_protocol`), and where it finds one of \
              IP there, it marks the tag",
        twin: |entry, input| {
            let misread = |frame: &[u8]| {
                frame
                    .get(OUTER_LEN..)
                    .is_some_and(|inner| tagged(inner) && misread(inner))
            };
            if entry != Entry::Wire || !steered(&input.bytes) || !misread(&input.bytes) {
                return Twin::Same;
            }
            let mut twin = input.bytes.clone();
            if bytes::internet_checksum(&[&twin[IP..UDP]]) != 0 {
                return Twin::Same;
            }
            twin[IP + 1] &= !3;
            bytes::finish_outer_ip(&mut twin);
            Twin::Other(twin)
        },
    },
    Row {
        id: "F5",
        why: "an inner checksum that holds the pseudo-header's sum was left unfinished, and is finished",
        twin: |entry, input| {
            let mut twin = input.bytes.clone();
            let inner = match entry {
                Entry::Wire if steered(&twin) => {
                    // Behind the UDP datagram there is nothing that would be delivered.
                    let len = be16(&twin, UDP + 4).map_or(0, usize::from);
                    twin.get_mut(OUTER_LEN..UDP + len)
                }
                // What the sender's device is told to finish is finished before anybody sees it.
                Entry::Bridge | Entry::Device if input.offload.is_none() => Some(&mut twin[..]),
                _ => None,
            };
            match inner.map(finish_inner) {
                Some(true) => Twin::Other(twin),
                _ => Twin::Same,
            }
        },
    },
];

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
pub fn twin(entry: Entry, input: &Input) -> Option<Input> {
    let mut twin = input.clone();
    for row in ROWS {
        match (row.twin)(entry, &twin) {
            Twin::Same => {}
            Twin::Other(bytes) => twin.bytes = bytes,
            Twin::Nothing => return None,
        }
    }
    Some(twin)
}

/// The rows that make a frame's twin another frame, for people.
pub fn reasons(entry: Entry, input: &Input) -> String {
    let applies = |row: &&Row| !matches!((row.twin)(entry, input), Twin::Same);
    let rows = ROWS.iter().filter(applies);
    rows.map(|row| format!("{}: {}. ", row.id, row.why))
        .collect()
}

/// Whether a worker gets to see the frame. All others are the kernel's at both sites.
fn steered(frame: &[u8]) -> bool {
    let ours = be16(frame, 12) == Some(bytes::ETHER_IPV4)
        && frame.get(IP) == Some(&0x45)
        && frame.get(IP + 9) == Some(&17)
        && be16(frame, IP + 6).is_some_and(|word| word & 0x3fff == 0)
        && frame.get(30..34) == Some(&NODE)
        && be16(frame, UDP + 2) == Some(PORT)
        && frame.len() >= VXLAN;
    let Some(header) = frame.get(VXLAN..OUTER_LEN) else {
        return ours;
    };
    let vni = u32::from_be_bytes([0, header[4], header[5], header[6]]);
    ours && (header[0] & 8 == 0 || vni == VNI)
}

fn tagged(inner: &[u8]) -> bool {
    matches!(be16(inner, 12), Some(0x8100 | 0x88a8))
}

/// Whether the kernel takes a tag for an IP header.
fn misread(inner: &[u8]) -> bool {
    let mut at = 14 + 10 + 2;
    while matches!(be16(inner, at), Some(0x8100 | 0x88a8)) {
        at += 4;
    }
    matches!(be16(inner, at), Some(bytes::ETHER_IPV4 | bytes::ETHER_IPV6))
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
