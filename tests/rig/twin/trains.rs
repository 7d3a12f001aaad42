//! Which segments become one superframe, and what a superframe becomes: the rules of the kernel's GRO and GSO once more.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;

use vxgate::pipeline::join::Train;
use vxgate::port::BATCH;
use vxgate::wire::vnet::{self, VnetHeader};

use super::inner::network;
use super::{ipv4_address, ipv6_address, word};
use crate::rig::sums::{checksum, fold, pseudo, sum};
use crate::rig::trains::Written;

const FIN_PSH: u8 = 0x09;
const SYN_RST_URG_CWR: u8 = 0xa6;
const CWR: u8 = 0x80;
/// Frames that wait for others at most.
const WAITING_MAX: usize = 3 * BATCH;

const UDP: u8 = 17;

type Flow = (u8, IpAddr, IpAddr, usize, usize);

/// A TCP segment or a UDP datagram in an ordinary frame.
struct Segment {
    flow: Flow,
    /// Where its header starts.
    at: usize,
    /// All headers, what may differ within a train made 0.
    headers: Vec<u8>,
    /// Of TCP; 0 in a datagram.
    sequence: u32,
    flags: u8,
    /// Identification and DF of IPv4.
    id: Option<(u16, bool)>,
    payload: Vec<u8>,
    /// Whether it has a checksum, and the right one.
    right: bool,
}

impl Segment {
    /// Bytes from the frame's start to the payload.
    fn headers_len(&self) -> usize {
        match self.flow.0 {
            // The length and the checksum are kept of none.
            UDP => self.headers.len() + 4,
            _ => self.headers.len(),
        }
    }
}

enum Frame {
    Segment(Segment),
    Other,
    Unclear,
}

fn seen(frame: &[u8]) -> Frame {
    let Some((kind, packet)) = frame.get(14..).map(|packet| (word(frame, 12), packet)) else {
        return Frame::Other;
    };
    match kind {
        0x0800 if packet.len() < 20 => Frame::Unclear,
        0x0800 if !matches!(packet[9], 6 | UDP) => Frame::Other,
        0x0800 => {
            let ordinary = packet[0] == 0x45
                && word(packet, 2) == packet.len()
                && word(packet, 6) & !0x4000 == 0
                && fold(sum(&packet[..20])) == 0xffff;
            let addresses = (ipv4_address(&packet[12..16]), ipv4_address(&packet[16..20]));
            let id = (word(packet, 4) as u16, packet[6] & 0x40 != 0);
            let free = [(16, 20), (24, 26)];
            segment(frame, 34, packet[9], ordinary, addresses, Some(id), &free)
        }
        0x86dd if packet.len() < 40 => Frame::Unclear,
        0x86dd if packet[6] == 58 => Frame::Other,
        0x86dd => {
            let ordinary = packet[0] >> 4 == 6
                && matches!(packet[6], 6 | UDP)
                && word(packet, 4) + 40 == packet.len();
            let addresses = (ipv6_address(&packet[8..24]), ipv6_address(&packet[24..40]));
            let free = [(18, 20)];
            segment(frame, 54, packet[6], ordinary, addresses, None, &free)
        }
        0x8100 | 0x88a8 => Frame::Unclear,
        _ => Frame::Other,
    }
}

fn segment(
    frame: &[u8],
    at: usize,
    protocol: u8,
    ordinary: bool,
    ends: (IpAddr, IpAddr),
    id: Option<(u16, bool)>,
    free: &[(usize, usize)],
) -> Frame {
    if !ordinary {
        return Frame::Unclear;
    }
    let (mut headers, segment) = match protocol {
        UDP => match datagram(&frame[at..], ends) {
            Some(datagram) => (frame[..at + 4].to_vec(), datagram),
            None => return Frame::Other,
        },
        _ => match tcp(&frame[at..], ends) {
            Some((kept, segment)) => ([&frame[..at], &kept].concat(), segment),
            None => return Frame::Unclear,
        },
    };
    for (from, to) in free {
        headers[*from..*to].fill(0);
    }
    Frame::Segment(Segment {
        at,
        headers,
        id,
        ..segment
    })
}

/// A datagram; `None` when nobody could say between which ports it goes.
fn datagram(udp: &[u8], (source, destination): (IpAddr, IpAddr)) -> Option<Segment> {
    let payload = udp.get(8..)?.to_vec();
    let right = fold(pseudo(source, destination, UDP, udp.len()) + sum(udp)) == 0xffff;
    Some(Segment {
        flow: (UDP, source, destination, word(udp, 0), word(udp, 2)),
        at: 0,
        headers: Vec::new(),
        sequence: 0,
        flags: 0,
        id: None,
        payload,
        right: right && word(udp, 4) == udp.len() && word(udp, 6) != 0,
    })
}

/// A segment, and its header with what may differ within a train made 0.
fn tcp(tcp: &[u8], (source, destination): (IpAddr, IpAddr)) -> Option<(Vec<u8>, Segment)> {
    if tcp.len() < 20 {
        return None;
    }
    let header_len = usize::from(tcp[12] >> 4) * 4;
    if header_len < 20 || header_len > tcp.len() {
        return None;
    }
    let mut kept = tcp[..header_len].to_vec();
    for (from, to) in [(4, 8), (16, 18)] {
        kept[from..to].fill(0);
    }
    kept[13] &= !FIN_PSH;
    let segment = Segment {
        flow: (6, source, destination, word(tcp, 0), word(tcp, 2)),
        at: 0,
        headers: Vec::new(),
        sequence: (word(tcp, 4) << 16 | word(tcp, 6)) as u32,
        flags: tcp[13],
        id: None,
        payload: tcp[header_len..].to_vec(),
        right: fold(pseudo(source, destination, 6, tcp.len()) + sum(tcp)) == 0xffff,
    };
    Some((kept, segment))
}

/// What is written of a batch of no more flows than can be kept apart.
pub fn join(frames: &[Vec<u8>]) -> Vec<Written> {
    joined(&[frames.to_vec()], false).concat()
}

/// What is written after each of these batches, when trains may wait for the next; and what is left at the end.
pub fn join_on(batches: &[Vec<Vec<u8>>]) -> Vec<Vec<Written>> {
    joined(batches, true)
}

fn joined(batches: &[Vec<Vec<u8>>], wait: bool) -> Vec<Vec<Written>> {
    let frames = batches.concat();
    let seen: Vec<_> = frames.iter().map(|frame| seen(frame)).collect();
    // Those that have left have no members.
    let mut trains: Vec<Vec<usize>> = Vec::new();
    let mut open: HashMap<Flow, usize> = HashMap::new();
    let (mut next, mut left) = (0, Vec::new());
    for batch in batches {
        board(next..next + batch.len(), &seen, &mut trains, &mut open);
        // Whoever got nobody in this batch waits no longer.
        open.retain(|_, train| trains[*train].last().is_some_and(|last| *last >= next));
        next += batch.len();
        let waiting: usize = open.values().map(|train| trains[*train].len()).sum();
        if !wait || waiting > WAITING_MAX {
            open.clear();
        }
        left.push(leave(&mut trains, &open, &frames, &seen));
    }
    open.clear();
    left.push(leave(&mut trains, &open, &frames, &seen));
    left
}

fn leave(
    trains: &mut [Vec<usize>],
    open: &HashMap<Flow, usize>,
    frames: &[Vec<u8>],
    seen: &[Frame],
) -> Vec<Written> {
    let mut left = Vec::new();
    for (number, members) in trains.iter_mut().enumerate() {
        if !members.is_empty() && !open.values().any(|train| *train == number) {
            left.push(written(&std::mem::take(members), frames, seen));
        }
    }
    left
}

/// Gives these frames their places.
fn board(
    numbers: Range<usize>,
    seen: &[Frame],
    trains: &mut Vec<Vec<usize>>,
    open: &mut HashMap<Flow, usize>,
) {
    for number in numbers {
        match &seen[number] {
            Frame::Other => trains.push(vec![number]),
            Frame::Unclear => {
                open.clear();
                trains.push(vec![number]);
            }
            Frame::Segment(segment) => {
                if let Some(train) = open.remove(&segment.flow) {
                    let members: Vec<_> = trains[train].iter().map(|n| known(&seen[*n])).collect();
                    if continues(&members, segment) {
                        let full = segment.payload.len() == members[0].payload.len();
                        trains[train].push(number);
                        if full && segment.flags & FIN_PSH == 0 {
                            open.insert(segment.flow, train);
                        }
                        continue;
                    }
                }
                if segment.right
                    && !segment.payload.is_empty()
                    && segment.flags & (FIN_PSH | SYN_RST_URG_CWR) == 0
                {
                    open.insert(segment.flow, trains.len());
                }
                trains.push(vec![number]);
            }
        }
    }
}

fn known(frame: &Frame) -> &Segment {
    match frame {
        Frame::Segment(segment) => segment,
        _ => panic!("in a train"),
    }
}

fn continues(train: &[&Segment], next: &Segment) -> bool {
    let first = train[0];
    let carried: usize = train.iter().map(|segment| segment.payload.len()).sum();
    let packet_len = first.headers_len() - 14 + carried + next.payload.len();
    let udp = first.flow.0 == UDP;
    next.right
        && train.len() < BATCH
        && (1..=first.payload.len()).contains(&next.payload.len())
        && next.flags & SYN_RST_URG_CWR == 0
        && next.headers == first.headers
        && (udp || next.sequence == first.sequence.wrapping_add(carried as u32))
        && packet_len <= 65_535
        && match (first.id, next.id) {
            (Some((first, df)), Some((id, _))) => {
                let fixed = match train.get(1) {
                    Some(second) => second.id == Some((first, df)) && df,
                    None => df && id == first,
                };
                let expected = if fixed { 0 } else { train.len() as u16 };
                id == first.wrapping_add(expected)
            }
            _ => true,
        }
}

fn written(members: &[usize], frames: &[Vec<u8>], seen: &[Frame]) -> Written {
    let first = &frames[members[0]];
    let mut header = VnetHeader::default();
    let mut bytes = first.clone();
    let mut fixed_ids = false;
    if let Frame::Segment(segment) = &seen[members[0]]
        && segment.right
    {
        header.flags = vnet::DATA_VALID;
    }
    if let [_, second, ..] = members {
        let segments: Vec<_> = members.iter().map(|n| known(&seen[*n])).collect();
        let head = segments[0];
        for segment in &segments[1..] {
            bytes.extend(&segment.payload);
        }
        fixed_ids = head.id.is_some() && known(&seen[*second]).id == head.id;
        let six = head.id.is_none();
        let (protocol, source, destination, ..) = head.flow;
        let (at, udp) = (head.at, protocol == UDP);
        let field = if udp { 6 } else { 16 };
        lengthen(&mut bytes, six);
        let len = bytes.len() - at;
        if udp {
            put(&mut bytes, at + 4, len);
        } else {
            bytes[at + 13] |= segments[segments.len() - 1].flags & FIN_PSH;
        }
        let part = fold(pseudo(source, destination, protocol, len));
        put(&mut bytes, at + field, usize::from(part));
        header = VnetHeader {
            flags: vnet::NEEDS_CSUM,
            gso_type: match (udp, six) {
                (true, _) => vnet::GSO_UDP_L4,
                (false, true) => vnet::GSO_TCPV6,
                (false, false) => vnet::GSO_TCPV4,
            },
            hdr_len: head.headers_len() as u16,
            gso_size: head.payload.len() as u16,
            csum_start: at as u16,
            csum_offset: field as u16,
            ..header
        };
    }
    Written {
        train: Train {
            header,
            bytes: members.iter().map(|n| frames[*n].len() as u64).sum(),
            fixed_ids,
        },
        frames: members.len(),
        bytes,
    }
}

/// The lengths in an IP header without tags in front of it, and the checksum of IPv4.
fn lengthen(frame: &mut [u8], six: bool) {
    let len = frame.len() - 14;
    if six {
        frame[18..20].copy_from_slice(&((len - 40) as u16).to_be_bytes());
    } else {
        frame[16..18].copy_from_slice(&(len as u16).to_be_bytes());
        ipv4_checksum(frame, 14);
    }
}

fn ipv4_checksum(frame: &mut [u8], at: usize) {
    let len = usize::from(frame[at] & 15) * 4;
    frame[at + 10..at + 12].fill(0);
    let right = checksum(sum(&frame[at..at + len]));
    frame[at + 10..at + 12].copy_from_slice(&right.to_be_bytes());
}

/// What is cut of what a TAP gave; `None` when it makes no sense.
pub fn cut(header: &VnetHeader, frame: &[u8], fixed_ids: bool) -> Option<Vec<Vec<u8>>> {
    let (start, offset) = (
        usize::from(header.csum_start),
        usize::from(header.csum_offset),
    );
    let needs_checksum = header.flags & vnet::NEEDS_CSUM != 0;
    let kind = header.gso_type & !vnet::GSO_ECN;
    if kind == vnet::GSO_NONE {
        let mut frame = frame.to_vec();
        if needs_checksum {
            let at = start + offset;
            frame.get(at..at + 2)?;
            let finished = checksum(sum(frame.get(start..).unwrap_or(&[])));
            let finished = if finished == 0 { 0xffff } else { finished };
            frame[at..at + 2].copy_from_slice(&finished.to_be_bytes());
        }
        return Some(vec![frame]);
    }
    let (six, protocol, at, network_at, end) = carried(frame)?;
    let right_kind = match kind {
        vnet::GSO_TCPV4 => !six && protocol == 6,
        vnet::GSO_TCPV6 => six && protocol == 6,
        vnet::GSO_UDP_L4 => protocol == 17,
        _ => false,
    };
    let (least, field) = if protocol == 6 { (20, 16) } else { (8, 6) };
    if !right_kind || end - at < least || !needs_checksum {
        return None;
    }
    let header_len = match protocol {
        6 => usize::from(frame[at + 12] >> 4) * 4,
        _ => 8,
    };
    let size = usize::from(header.gso_size);
    if header_len < least
        || at + header_len > end
        || (start, offset) != (at, field)
        || size == 0
        || protocol == 17 && word(frame, at + 4) != end - at
        // Not with room in front for what comes there.
        || at + header_len > 178
    {
        return None;
    }
    let headers = &frame[..at + header_len];
    let payload = &frame[at + header_len..end];
    let mut pieces: Vec<_> = payload.chunks(size).collect();
    if pieces.is_empty() {
        pieces.push(&[]);
    }
    let count = pieces.len();
    let left = u64::from(u16::from_be_bytes([
        frame[at + field],
        frame[at + field + 1],
    ]));
    let frames = pieces.iter().enumerate().map(|(number, piece)| {
        let mut frame = [headers, piece].concat();
        let len = frame.len();
        if six {
            put(&mut frame, network_at + 4, len - network_at - 40);
        } else {
            let id = word(headers, network_at + 4) + if fixed_ids { 0 } else { number };
            put(&mut frame, network_at + 2, len - network_at);
            put(&mut frame, network_at + 4, id);
            adapt_ipv4_checksum(headers, &mut frame, network_at);
        }
        if protocol == 6 {
            let sequence = word(headers, at + 4) << 16 | word(headers, at + 6);
            let sequence = (sequence + number * size) as u32;
            frame[at + 4..at + 8].copy_from_slice(&sequence.to_be_bytes());
            if number + 1 < count {
                frame[at + 13] &= !FIN_PSH;
            }
            if number > 0 {
                frame[at + 13] &= !CWR;
            }
        } else {
            put(&mut frame, at + 4, len - at);
        }
        // The sender's word for the pseudo-header, the length exchanged.
        put(&mut frame, at + field, 0);
        let exchanged = left + (0xffff - (end - at) as u64) + (len - at) as u64;
        let mut finished = checksum(exchanged + sum(&frame[at..]));
        if protocol == 17 && finished == 0 {
            finished = 0xffff;
        }
        put(&mut frame, at + field, usize::from(finished));
        frame
    });
    Some(frames.collect())
}

/// A checksum that was right is right again, and one that was wrong stays as wrong as it was.
fn adapt_ipv4_checksum(before: &[u8], frame: &mut [u8], at: usize) {
    let rest = |frame: &[u8]| sum(&frame[at + 2..at + 6]);
    let old = u64::from(!(word(before, at + 10) as u16));
    let removed = 0xffff - u64::from(fold(rest(before)));
    let new = checksum(old + removed + rest(frame));
    put(frame, at + 10, usize::from(new));
}

fn put(frame: &mut [u8], at: usize, word: usize) {
    frame[at..at + 2].copy_from_slice(&(word as u16).to_be_bytes());
}

/// Whether a frame has IPv6, and what its IP packet carries: protocol, where that starts, where the packet starts, and where
/// it ends.
fn carried(frame: &[u8]) -> Option<(bool, u8, usize, usize, usize)> {
    if frame.len() < 14 {
        return None;
    }
    let (kind, at, _) = network(frame)?;
    let packet = frame.get(at..)?;
    match kind {
        0x0800 => {
            packet.get(..20)?;
            let header_len = usize::from(packet[0] & 15) * 4;
            let len = word(packet, 2);
            let sound = packet[0] >> 4 == 4
                && header_len >= 20
                && (header_len..=packet.len()).contains(&len)
                && word(packet, 6) & 0x3fff == 0;
            sound.then_some((false, packet[9], at + header_len, at, at + len))
        }
        0x86dd => {
            packet.get(..40)?;
            let end = 40 + word(packet, 4);
            if packet[0] >> 4 != 6 || end > packet.len() {
                return None;
            }
            let (mut next, mut offset) = (packet[6], 40);
            for _ in 0..=8 {
                let unit = match next {
                    0 | 43 | 60 | 135 => 8,
                    51 => 4,
                    44 => return None,
                    protocol => return Some((true, protocol, at + offset, at, at + end)),
                };
                if offset + 2 > end {
                    return None;
                }
                next = packet[offset];
                offset += 8 + usize::from(packet[offset + 1]) * unit;
                if offset > end {
                    return None;
                }
            }
            None
        }
        _ => None,
    }
}
