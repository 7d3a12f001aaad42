//! What an inner frame is, and what an access port adds to it.

use std::net::IpAddr;

use vxgate::table::SegmentConfig;

use super::{crc32c, ipv4_address, ipv6_address, word};
use crate::rig::sums::{checksum, fold, pseudo, sum};

/// The bits of a frame's mark that a header has places for: do not learn, applied, and the group's number.
pub const MARK_BITS: u32 = 0x0048_ffff;
/// VLAN tags that are looked behind.
const TAGS_MAX: usize = 7;

/// What came by an access port: the frame's mark, and the frame itself.
pub fn lifted(config: &SegmentConfig, frame: &[u8]) -> (u32, Vec<u8>) {
    let tags = frame
        .get(12..20)
        .filter(|tags| tags[..2] == [0x88, 0xa8] && tags[4..6] == [0x88, 0xa8]);
    match tags {
        Some(tags) if config.gbp => {
            let mark = u32::from_be_bytes([tags[2], tags[3], tags[6], tags[7]]);
            (mark, [&frame[..12], &frame[20..]].concat())
        }
        _ => (0, frame.to_vec()),
    }
}

/// A frame with its mark in two tags, as access ports carry it.
pub fn carried_by_tags(mark: u32, frame: &[u8]) -> Vec<u8> {
    let [a, b, c, d] = mark.to_be_bytes();
    let tags = [0x88, 0xa8, a, b, 0x88, 0xa8, c, d];
    [&frame[..12], &tags, &frame[12..]].concat()
}

/// Where a frame's network header starts, and its EtherType; nothing when a tag is cut short.
pub fn network(frame: &[u8]) -> Option<(usize, usize, usize)> {
    let (mut at, mut kind, mut tags) = (14, word(frame, 12), 0);
    while matches!(kind, 0x8100 | 0x88a8) && tags < TAGS_MAX {
        if frame.len() < at + 4 {
            return None;
        }
        kind = word(frame, at + 2);
        at += 4;
        tags += 1;
    }
    Some((kind, at, tags))
}

/// What of an inner frame its outer header follows.
#[derive(Debug, Default, Clone, Copy)]
pub struct Inner {
    pub class: u8,
    pub ttl: u8,
    /// What `df inherit` makes of it.
    pub df: bool,
    pub label: u32,
}

pub fn inner_fields(frame: &[u8]) -> Inner {
    match network(frame) {
        Some((0x0800, at, tags)) if frame.len() >= at + 20 => Inner {
            class: frame[at + 1],
            ttl: frame[at + 8],
            df: tags == 0 && frame[at + 6] & 0x40 != 0,
            label: 0,
        },
        Some((0x86dd, at, tags)) if frame.len() >= at + 40 => Inner {
            class: frame[at] << 4 | frame[at + 1] >> 4,
            ttl: frame[at + 7],
            df: tags == 0,
            label: u32::from(frame[at + 1] & 15) << 16 | word(frame, at + 2) as u32,
        },
        _ => Inner::default(),
    }
}

/// The frame with the checksum of what it carries finished, where its sender had left that to hardware.
pub fn finish(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let Some(carried) = carried(&frame) else {
        return frame;
    };
    let segment = &mut frame[carried.start..carried.end];
    match (carried.protocol, segment.len(), carried.addresses) {
        (6, 20.., Some(ends)) => finish_sum(segment, ends, 6, 16),
        (17, 8.., Some(ends)) => {
            let len = word(segment, 4);
            if word(segment, 6) != 0 && (8..=segment.len()).contains(&len) {
                finish_sum(&mut segment[..len], ends, 17, 6);
            }
        }
        (132, 12.., _) if segment[8..12] == [0; 4] => {
            let crc = crc32c(segment);
            segment[8..12].copy_from_slice(&crc.to_le_bytes());
        }
        _ => {}
    }
    frame
}

fn finish_sum(segment: &mut [u8], ends: (IpAddr, IpAddr), protocol: u8, at: usize) {
    let pseudo = pseudo(ends.0, ends.1, protocol, segment.len());
    if word(segment, at) as u16 != fold(pseudo) {
        return;
    }
    segment[at..at + 2].fill(0);
    let right = match checksum(pseudo + sum(segment)) {
        0 if protocol == 17 => 0xffff,
        right => right,
    };
    segment[at..at + 2].copy_from_slice(&right.to_be_bytes());
}

/// What a whole IP packet carries.
pub struct Carried {
    pub protocol: u8,
    /// Where it starts and ends in the frame.
    pub start: usize,
    pub end: usize,
    /// Source and destination; none behind a routing header, which names another destination.
    pub addresses: Option<(IpAddr, IpAddr)>,
}

/// Nothing in fragments, and where a length contradicts another or the frame.
pub fn carried(frame: &[u8]) -> Option<Carried> {
    if frame.len() < 14 {
        return None;
    }
    let (kind, at, _) = network(frame)?;
    let packet = &frame[at..];
    match kind {
        0x0800 if packet.len() >= 20 && packet[0] >> 4 == 4 => carried_by_ipv4(packet, at),
        0x86dd if packet.len() >= 40 && packet[0] >> 4 == 6 => carried_by_ipv6(packet, at),
        _ => None,
    }
}

fn carried_by_ipv4(packet: &[u8], at: usize) -> Option<Carried> {
    let (header_len, total) = (usize::from(packet[0] & 15) * 4, word(packet, 2));
    let sound = header_len >= 20 && total >= header_len && total <= packet.len();
    if !sound || word(packet, 6) & 0x3fff != 0 {
        return None;
    }
    Some(Carried {
        protocol: packet[9],
        start: at + header_len,
        end: at + total,
        addresses: Some((ipv4_address(&packet[12..16]), ipv4_address(&packet[16..20]))),
    })
}

fn carried_by_ipv6(packet: &[u8], at: usize) -> Option<Carried> {
    let end = 40 + word(packet, 4);
    if end > packet.len() {
        return None;
    }
    let (mut next, mut place, mut routed, mut extensions) = (packet[6], 40, false, 0);
    while matches!(next, 0 | 43 | 44 | 51 | 60 | 135) {
        extensions += 1;
        if next == 44 || extensions > 8 || place + 2 > end {
            return None;
        }
        routed |= next == 43;
        let unit = if next == 51 { 4 } else { 8 };
        (next, place) = (
            packet[place],
            place + 8 + unit * usize::from(packet[place + 1]),
        );
        if place > end {
            return None;
        }
    }
    let addresses = (ipv6_address(&packet[8..24]), ipv6_address(&packet[24..40]));
    Some(Carried {
        protocol: next,
        start: at + place,
        end: at + end,
        addresses: (!routed).then_some(addresses),
    })
}
