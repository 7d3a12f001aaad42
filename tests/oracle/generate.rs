//! Frames from a seed: mostly sound, of every family, and a share of them damaged in one way or several.

use super::bytes::{self, ETHER_ARP, ETHER_IPV4, ETHER_IPV6, put16};
use super::generate_outer::outer;
use super::setting::Setting;
use super::site::{self, Entry};
use super::support::end::{Input, Offload, Segmentation};
use super::support::frames::Random;

/// One of several values, each of which may be random itself.
macro_rules! pick {
    ($random:ident, $from:expr $(,)?) => {{
        let from = $from;
        from[$random.below(from.len())]
    }};
}

pub(crate) use pick;

/// One frame for an entry.
pub fn frame(random: &mut Random, entry: Entry, setting: &Setting) -> Input {
    let mtu = setting.overlay_mtu;
    match entry {
        Entry::Wire => {
            let inner = inner(random, entry, mtu);
            outer(random, inner, setting)
        }
        Entry::Bridge | Entry::Device if chance(random, 8) => offloaded(random, entry, mtu),
        Entry::Bridge | Entry::Device => Input::from(inner(random, entry, mtu)),
    }
}

pub fn chance(random: &mut Random, percent: usize) -> bool {
    random.below(100) < percent
}

pub fn byte(random: &mut Random) -> u8 {
    random.next() as u8
}

pub fn word(random: &mut Random) -> u16 {
    random.next() as u16
}

pub fn fill(random: &mut Random, len: usize) -> Vec<u8> {
    let words = (0..len.div_ceil(8)).flat_map(|_| random.next().to_ne_bytes());
    words.take(len).collect()
}

/// A frame from a pod whose device would finish its checksum, and cut it when it is a superframe: the checksum's field holds
/// the pseudo-header's sum.
fn offloaded(random: &mut Random, entry: Entry, mtu: usize) -> Input {
    let (six, tcp) = (chance(random, 40), chance(random, 60));
    let (network, head, field) = match (six, tcp) {
        (true, true) => (40, 20, 16),
        (true, false) => (40, 8, 6),
        (false, true) => (20, 20, 16),
        (false, false) => (20, 8, 6),
    };
    let start = 14 + network;
    let headers_len = start + head;
    let largest = mtu - network - head;
    let super_frame = chance(random, 50);
    let payload_len = 100 + random.below(largest - 99);
    let len = if super_frame {
        payload_len + 1 + random.below(6 * payload_len)
    } else {
        random.below(largest)
    };
    let protocol = if tcp { 6 } else { 17 };
    let mut segment = fill(random, head + len);
    let port = 41_000 + random.below(4) as u16;
    put16(&mut segment, 0, port);
    if tcp {
        // Flags that a cut handles each in its way: PSH and FIN belong on the last frame alone.
        (segment[12], segment[13]) = (0x50, pick!(random, [0x10, 0x18, 0x19]));
    } else {
        put16(&mut segment, 4, (head + len) as u16);
    }
    put16(&mut segment, field, 0);
    let mut packet = if six {
        bytes::ipv6(byte(random), ttl(random), protocol, &segment)
    } else {
        let fragment = pick!(random, [0, 0x4000]);
        bytes::ipv4(byte(random), ttl(random), fragment, protocol, &segment)
    };
    let addresses = if six { 8..40 } else { 12..20 };
    let sum_len = (head + len) as u16;
    let pseudo = [&packet[addresses], &[0, protocol], &sum_len.to_be_bytes()].concat();
    put16(&mut packet, network + field, bytes::partial_sum(&[&pseudo]));
    let mut frame = Vec::from(destination(random, entry));
    frame.extend(site::HOST_MAC);
    frame.extend(if six { ETHER_IPV6 } else { ETHER_IPV4 }.to_be_bytes());
    frame.extend(packet);
    // VIRTIO_NET_HDR_GSO_TCPV4, _TCPV6, _UDP_L4.
    let kind = match (six, tcp) {
        (false, true) => 1,
        (true, true) => 4,
        (_, false) => 5,
    };
    let segmentation = super_frame.then_some(Segmentation {
        kind,
        headers_len: headers_len as u16,
        payload_len: payload_len as u16,
    });
    Input {
        bytes: frame,
        offload: Some(Offload {
            start: start as u16,
            field: field as u16,
            segmentation,
        }),
    }
}

fn inner(random: &mut Random, entry: Entry, mtu: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(destination(random, entry));
    frame.extend(source(random));
    let tags = pick!(random, &[0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3]);
    for tag in 0..tags {
        let tpid: u16 = if tag == 0 && tags > 1 && chance(random, 60) {
            0x88a8
        } else {
            0x8100
        };
        frame.extend(tpid.to_be_bytes());
        frame.extend(word(random).to_be_bytes());
    }
    let (ether_type, payload) = match random.below(100) {
        0..45 => (ETHER_IPV4, ipv4(random, mtu)),
        45..78 => (ETHER_IPV6, ipv6(random, mtu)),
        78..85 => (ETHER_ARP, arp(random)),
        // IEEE 802.3: a length in the place of the type, and an LLC header behind it.
        85..92 => {
            let mut llc = vec![0x42, 0x42, 0x03];
            let len = size(random, mtu, 0);
            llc.extend(fill(random, len));
            (llc.len().min(mtu) as u16, llc)
        }
        _ => {
            let len = size(random, mtu, 0);
            (
                pick!(
                    random,
                    &[0x8847, 0x88cc, 0x8863, 0x88b6, 0x0600, word(random)]
                ),
                fill(random, len),
            )
        }
    };
    frame.extend(ether_type.to_be_bytes());
    let longest = frame.len() + mtu;
    frame.extend(payload);
    frame.truncate(longest);
    // Ethernet's minimum, sometimes.
    if frame.len() < 60 && chance(random, 50) {
        frame.resize(60, 0);
    }
    if chance(random, 25) {
        damage(random, &mut frame, 90);
    }
    if entry != Entry::Wire {
        // `AF_PACKET` takes no less than a header, and no more than the MTU and one tag (`packet_snd`).
        let tag = usize::from(bytes::be16(&frame, 12) == Some(0x8100)) * 4;
        frame.truncate(14 + mtu + tag);
        if frame.len() < 14 {
            frame.resize(14, 0);
        }
    }
    frame
}

fn destination(random: &mut Random, entry: Entry) -> [u8; 6] {
    match random.below(100) {
        0..60 if entry == Entry::Wire => site::HOST_MAC,
        0..55 => pick!(random, &site::REMOTE_MACS),
        55..60 => pick!(
            random,
            [
                site::ELSEWHERE_MAC,
                site::OTHER_PORT_MAC,
                site::OTHER_VNI_MAC
            ]
        ),
        60..70 => [2, 0xdd, 0, 0, 0, byte(random)],
        70..78 => [0xff; 6],
        78..83 => site::GROUP_MAC,
        83..88 => [1, 0, 0x5e, 0, 1, byte(random)],
        88..92 => [0x33, 0x33, 0, 0, 0, byte(random)],
        92..94 => site::DEVICE_MAC,
        94..96 => [1, 0x80, 0xc2, 0, 0, byte(random) & 0x1f],
        96..97 => [0; 6],
        _ => pick!(random, &site::REMOTE_MACS),
    }
}

fn source(random: &mut Random) -> [u8; 6] {
    match random.below(100) {
        0..3 => [1, 0, 0x5e, 0, 0, byte(random)],
        3..5 => [0; 6],
        5..7 => site::DEVICE_MAC,
        7..8 => [0xff; 6],
        8..40 => site::REMOTE_MACS[0],
        _ => [2, 0xee, 0, 0, 0, byte(random)],
    }
}

/// How much is carried, behind headers of `taken` bytes.
fn size(random: &mut Random, mtu: usize, taken: usize) -> usize {
    let most = mtu - taken;
    match random.below(10) {
        0 => 0,
        1..=5 => random.below(64),
        6 | 7 => random.below(most + 1),
        8 => most,
        _ => most - random.below(8),
    }
}

/// One of a few addresses, so that flows come back.
fn host(random: &mut Random) -> u8 {
    random.below(6) as u8 + 1
}

fn ipv4(random: &mut Random, mtu: usize) -> Vec<u8> {
    let options = if chance(random, 15) {
        random.below(11) * 4
    } else {
        0
    };
    let addresses = [10, 244, 1, host(random), 10, 244, 2, host(random)];
    let header_len = 20 + options;
    let fragment = match random.below(20) {
        0 => 0x2000,
        1 => 0x2000 | (word(random) & 0x1fff),
        2 => word(random) & 0x1fff,
        3 => word(random),
        4..10 => 0x4000,
        _ => 0,
    };
    let (protocol, body) = transport(random, mtu, &addresses, header_len);
    let mut packet = vec![0x40 | (header_len / 4) as u8, byte(random)];
    for word in [(header_len + body.len()) as u16, word(random), fragment] {
        packet.extend(word.to_be_bytes());
    }
    packet.extend([ttl(random), protocol, 0, 0]);
    packet.extend(addresses);
    packet.extend(std::iter::repeat_n(1, options)); // No operation.
    if chance(random, 8) {
        // A length that lies.
        let lie = pick!(
            random,
            &[0, 19, 20, 21, word(random), (body.len() + 60) as u16]
        );
        put16(&mut packet, 2, lie);
    }
    let sum = bytes::internet_checksum(&[&packet]);
    put16(
        &mut packet,
        10,
        if chance(random, 3) { word(random) } else { sum },
    );
    packet.extend(body);
    padded(random, packet)
}

fn ipv6(random: &mut Random, mtu: usize) -> Vec<u8> {
    let mut addresses = [0; 32];
    (addresses[0], addresses[16]) = (0xfd, 0xfd);
    (addresses[15], addresses[31]) = (host(random), host(random));
    let count = pick!(random, &[0, 0, 0, 0, 1, 1, 2, 3, 9]);
    let kinds: Vec<u8> = (0..count)
        .map(|_| pick!(random, &[0, 60, 43, 44, 51, 135, 60, 0]))
        .collect();
    let mut extensions = Vec::new();
    let mut lengths = Vec::new();
    for kind in &kinds {
        let units = random.below(3) as u8;
        // In units of 8 bytes behind the first 8; of 4 for the authentication header; a fragment header has 8 in all.
        let len = match kind {
            51 => 8 + usize::from(units) * 4,
            44 => 8,
            _ => 8 + usize::from(units) * 8,
        };
        lengths.push(extensions.len());
        extensions.extend([0, if *kind == 44 { 0 } else { units }]);
        extensions.extend(fill(random, len - 2));
    }
    let (protocol, body) = transport(random, mtu, &addresses, 40 + extensions.len());
    let chain: Vec<u8> = kinds.iter().copied().chain([protocol]).collect();
    for (at, next) in lengths.iter().zip(&chain[1..]) {
        extensions[*at] = *next;
    }
    let class = byte(random);
    let mut packet = vec![0x60 | class >> 4, class << 4 | byte(random) & 15];
    packet.extend(word(random).to_be_bytes());
    let mut len = (extensions.len() + body.len()) as u16;
    if chance(random, 8) {
        len = pick!(random, &[0, 1, word(random), len.wrapping_add(20)]);
    }
    packet.extend(len.to_be_bytes());
    packet.extend([chain[0], ttl(random)]);
    packet.extend(addresses);
    packet.extend(extensions);
    packet.extend(body);
    padded(random, packet)
}

pub fn ttl(random: &mut Random) -> u8 {
    pick!(random, &[0, 1, 2, 63, 64, 64, 64, 255, byte(random)])
}

fn padded(random: &mut Random, mut packet: Vec<u8>) -> Vec<u8> {
    if chance(random, 10) {
        let len = random.below(40);
        packet.extend(fill(random, len));
    }
    packet
}

/// A transport segment with its checksum right, wrong, unfinished or left out; `taken` bytes are in front of it.
fn transport(random: &mut Random, mtu: usize, addresses: &[u8], taken: usize) -> (u8, Vec<u8>) {
    let protocol = pick!(random, &[6, 6, 6, 17, 17, 17, 132, 1, 58, byte(random)]);
    let head = match protocol {
        6 => 20,
        17 => 8,
        132 => 12,
        _ => 8,
    };
    let len = size(random, mtu, (taken + head).min(mtu));
    let mut segment = fill(random, head + len);
    let port = 40_000 + random.below(4) as u16;
    put16(&mut segment, 0, port);
    put16(&mut segment, 2, pick!(random, &[80, 53, 8472]));
    let field = match protocol {
        6 => {
            segment[12] = 0x50;
            16
        }
        17 => {
            put16(&mut segment, 4, (head + len) as u16);
            if chance(random, 5) {
                let lie = pick!(random, &[0, 7, 8, word(random), (head + len / 2) as u16]);
                put16(&mut segment, 4, lie);
            }
            6
        }
        132 => {
            segment[8..12].fill(0);
            if chance(random, 70) {
                let crc = bytes::crc32c(&segment).to_le_bytes();
                segment[8..12].copy_from_slice(&crc);
            }
            return (protocol, segment);
        }
        _ => return (protocol, segment),
    };
    let summed = if protocol == 17 {
        usize::from(bytes::be16(&segment, 4).unwrap_or(0)).clamp(8, segment.len())
    } else {
        segment.len()
    };
    let pseudo = [addresses, &[0, protocol], &(summed as u16).to_be_bytes()].concat();
    put16(&mut segment, field, 0);
    let value = match random.below(10) {
        0..5 => bytes::internet_checksum(&[&pseudo, &segment[..summed]]),
        5 | 6 => word(random),
        7 | 8 => bytes::partial_sum(&[&pseudo]),
        _ => 0,
    };
    put16(&mut segment, field, value);
    (protocol, segment)
}

fn arp(random: &mut Random) -> Vec<u8> {
    let mut packet = bytes::arp();
    packet[7] = pick!(random, &[1, 2, byte(random)]);
    let at = random.below(packet.len());
    if chance(random, 20) {
        packet[at] = byte(random);
    }
    padded(random, packet)
}

/// Cuts short, or flips a few bits within the first `within` bytes.
fn damage(random: &mut Random, frame: &mut Vec<u8>, within: usize) {
    if chance(random, 40) {
        let len = random.below(frame.len().min(within) + 1);
        frame.truncate(len);
        return;
    }
    for _ in 0..=random.below(3) {
        let at = random.below(frame.len().min(within));
        frame[at] ^= 1 << random.below(8);
    }
}
