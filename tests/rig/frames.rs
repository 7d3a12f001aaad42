//! Frames of any kind, most of them close to what a network carries: built field by field, then bent.

use std::net::IpAddr;

use vxgate::table::{Segment, Snapshot};
use vxgate::wire::MacAddr;

use super::choices::Choices;
use super::sums::{checksum, fold, octets, pseudo, sum};
use super::table::{address, own_address, station, vni};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const FRAGMENT: u8 = 44;
/// The longest payload: frames of more than an underlay's MTU, in a chunk of 2,048 bytes.
const PAYLOAD_MAX: usize = 1600;

/// A frame for the access port of `segment`: one of the overlay, with its mark where the device asks for marks.
pub fn access(choices: &mut Choices<'_>, segment: &Segment) -> Vec<u8> {
    let mut frame = inner(choices, segment);
    if segment.config.gbp && !choices.rare() && frame.len() >= 12 {
        let mark = match choices.below(4) {
            0 => 0,
            1 => choices.long() & 0x0048_ffff,
            2 => 1 << choices.below(32),
            _ => choices.long(),
        };
        let [a, b, c, d] = mark.to_be_bytes();
        frame.splice(12..12, [0x88, 0xa8, a, b, 0x88, 0xa8, c, d]);
    }
    frame
}

/// A frame of the overlay, as the vxlan device of `segment` sees it.
pub fn inner(choices: &mut Choices<'_>, segment: &Segment) -> Vec<u8> {
    if choices.rare() {
        return choices.bytes(PAYLOAD_MAX);
    }
    let mut frame = mac(choices, segment).0.to_vec();
    frame.extend(mac(choices, segment).0);
    let tags = match choices.below(8) {
        5 => 1,
        6 => 2,
        7 => choices.below(9),
        _ => 0,
    };
    for _ in 0..tags {
        frame.extend(choices.pick(&[[0x81, 0x00], [0x88, 0xa8]]));
        frame.extend([choices.byte(), choices.byte()]);
    }
    match choices.below(8) {
        0..=2 => {
            frame.extend([0x08, 0x00]);
            frame.extend(ipv4(choices));
        }
        3..=5 => {
            frame.extend([0x86, 0xdd]);
            frame.extend(ipv6(choices));
        }
        6 => {
            frame.extend(choices.pick(&[[0x08, 0x06], [0x00, 0x2e], [0x88, 0x47], [0x81, 0x00]]));
            frame.extend(choices.bytes(PAYLOAD_MAX));
        }
        _ => {
            frame.extend(choices.pick(&[[0x08, 0x00], [0x86, 0xdd]]));
            frame.extend(choices.bytes(80));
        }
    }
    if choices.below(8) == 7 {
        at_the_limit(choices, segment, &mut frame);
    }
    bend(choices, &mut frame);
    frame
}

/// Makes a frame as long as the path to some VTEP takes, or one byte more or less.
fn at_the_limit(choices: &mut Choices<'_>, segment: &Segment, frame: &mut Vec<u8>) {
    if segment.vteps.is_empty() {
        return;
    }
    let vtep = &segment.vteps[choices.below(segment.vteps.len())];
    let headers = if vtep.key.addr.is_ipv6() { 56 } else { 36 };
    let len = (usize::from(vtep.path_mtu) + 1).saturating_sub(headers + choices.below(3));
    frame.resize(len.min(PAYLOAD_MAX), 0);
}

/// A frame for the underlay: mostly one that a VTEP of some segment could have sent us.
pub fn outer(choices: &mut Choices<'_>, snapshot: &Snapshot) -> Vec<u8> {
    if choices.rare() {
        return choices.bytes(PAYLOAD_MAX);
    }
    let segment = &snapshot.segments[choices.below(snapshot.segments.len())];
    let config = &segment.config;
    let inner = inner(choices, segment);
    let six = config.local.is_ipv6() != choices.rare();
    let (source, destination) = (
        source(choices, segment, six),
        destination(choices, segment, six),
    );
    let port = if choices.rare() {
        choices.word()
    } else {
        config.port
    };
    let vxlan = vxlan(choices, segment);
    // Behind a header that is cut short there is nothing.
    let inner = if vxlan.len() < 8 { Vec::new() } else { inner };
    let mut udp = [0x9c, 0x40].to_vec();
    udp.extend(port.to_be_bytes());
    let len = 8 + vxlan.len() + inner.len();
    udp.extend(bent_length(choices, len).to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(vxlan);
    udp.extend(&inner);
    let checksum = match choices.below(4) {
        0 => 0,
        3 => choices.word(),
        _ => match checksum(pseudo(source, destination, UDP, udp.len()) + sum(&udp)) {
            0 => 0xffff,
            right => right,
        },
    };
    udp[6..8].copy_from_slice(&checksum.to_be_bytes());
    let addressee = match choices.below(16) {
        13 => station(choices.byte()),
        14 => MacAddr([0x33, 0x33, 0, 0, 0, 1]),
        15 => MacAddr::BROADCAST,
        _ => config.underlay_mac,
    };
    let mut frame = addressee.0.to_vec();
    frame.extend([4, 0, 0, 0, 1, choices.byte()]);
    match (source, destination) {
        (IpAddr::V4(_), IpAddr::V4(_)) => frame.extend([0x08, 0x00]),
        _ => frame.extend([0x86, 0xdd]),
    }
    let class = choices.byte();
    frame.extend(ip_header(
        choices,
        class,
        UDP,
        source,
        destination,
        udp.len(),
    ));
    frame.extend(udp);
    if choices.rare() {
        frame.extend(choices.bytes(64));
    }
    bend(choices, &mut frame);
    if choices.bit() {
        mend(&mut frame);
    }
    frame
}

fn mac(choices: &mut Choices<'_>, segment: &Segment) -> MacAddr {
    if choices.rare() {
        segment.config.mac
    } else {
        station(choices.byte())
    }
}

/// Whom a frame of the underlay says it comes from: a peer, mostly.
fn source(choices: &mut Choices<'_>, segment: &Segment, six: bool) -> IpAddr {
    let peers: Vec<_> = segment
        .peers
        .iter()
        .filter(|peer| peer.is_ipv6() == six)
        .collect();
    if !peers.is_empty() && !choices.rare() {
        return **choices.pick(&peers.iter().collect::<Vec<_>>());
    }
    match choices.below(8) {
        0 => address(six, choices.byte()),
        1 => segment.config.local,
        number if six => {
            let odd = [
                "::",
                "::1",
                "ff02::1",
                "::ffff:10.0.0.3",
                "fe80::1",
                "64:ff9b::1",
            ];
            odd[number - 2].parse().expect("an IPv6 address")
        }
        number => {
            let odd = [
                "0.0.0.0",
                "127.0.0.1",
                "224.0.0.1",
                "255.255.255.255",
                "0.1.2.3",
                "240.0.0.1",
            ];
            odd[number - 2].parse().expect("an IPv4 address")
        }
    }
}

fn destination(choices: &mut Choices<'_>, segment: &Segment, six: bool) -> IpAddr {
    if segment.config.local.is_ipv6() == six && !choices.rare() {
        return match segment.config.group {
            Some(group) if choices.bit() => group,
            _ => segment.config.local,
        };
    }
    own_address(six, choices.byte())
}

fn vxlan(choices: &mut Choices<'_>, segment: &Segment) -> Vec<u8> {
    let [a, b, c] = if choices.rare() {
        vni(choices)
    } else {
        segment.config.vni
    }
    .to_wire();
    let mut header = vec![0x08, 0, 0, 0, a, b, c, 0];
    if segment.config.gbp && choices.bit() {
        // A group's policy, with a flag or without.
        header[..4].copy_from_slice(&[
            choices.pick(&[0x88, 0x08]),
            choices.byte(),
            choices.byte(),
            choices.byte(),
        ]);
    }
    if choices.rare() {
        // The I flag more often than each of the others.
        let place = if choices.bit() { 0 } else { choices.below(8) };
        let bit = if choices.bit() { 3 } else { choices.below(8) };
        header[place] ^= 1 << bit;
    }
    if choices.rare() {
        header.truncate(choices.below(8));
    }
    header
}

/// An IPv4 packet.
fn ipv4(choices: &mut Choices<'_>) -> Vec<u8> {
    let class = choices.byte();
    let (source, destination) = (
        address(false, choices.byte()),
        address(false, choices.byte()),
    );
    let protocol = choices.pick(&[UDP, TCP, SCTP, 1, 47]);
    let payload = transport(choices, protocol, source, destination);
    let mut packet = ip_header(choices, class, protocol, source, destination, payload.len());
    packet.extend(payload);
    if choices.rare() {
        packet.extend(choices.bytes(40));
    }
    packet
}

/// An IPv6 packet, perhaps with extension headers.
fn ipv6(choices: &mut Choices<'_>) -> Vec<u8> {
    let class = choices.byte();
    let (source, destination) = (address(true, choices.byte()), address(true, choices.byte()));
    let protocol = choices.pick(&[UDP, TCP, SCTP, 58, 59]);
    let mut payload = transport(choices, protocol, source, destination);
    let mut next = protocol;
    let extensions = if choices.rare() { choices.below(11) } else { 0 };
    for _ in 0..extensions {
        let kind = choices.pick(&[0, 60, 43, FRAGMENT, 51, 135]);
        let words = choices.below(3) as u8;
        let unit = if kind == 51 { 4 } else { 8 };
        let mut header = vec![0; 8 + usize::from(words) * unit];
        header[0] = next;
        header[1] = words;
        payload.splice(..0, header);
        next = kind;
    }
    let mut packet = ip_header(choices, class, next, source, destination, payload.len());
    packet.extend(payload);
    if choices.rare() {
        packet.extend(choices.bytes(40));
    }
    packet
}

/// A header of the addresses' family; over IPv4 with options now and then, and a fragment's now and then.
fn ip_header(
    choices: &mut Choices<'_>,
    class: u8,
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
    payload_len: usize,
) -> Vec<u8> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (source, destination) else {
        let label = if choices.bit() {
            choices.long() & 0xf_ffff
        } else {
            0
        };
        let mut header = (6 << 28 | u32::from(class) << 20 | label)
            .to_be_bytes()
            .to_vec();
        header.extend(bent_length(choices, payload_len).to_be_bytes());
        header.extend([protocol, if choices.rare() { choices.byte() } else { 63 }]);
        header.extend(octets(source));
        header.extend(octets(destination));
        return header;
    };
    let options = if choices.rare() { choices.below(11) } else { 0 };
    let header_len = 20 + 4 * options;
    let flags = match choices.below(16) {
        0..=7 => 0,
        8..=14 => 0x4000,
        _ => choices.word(),
    };
    let mut header = vec![0x40 | (header_len / 4) as u8, class];
    header.extend(bent_length(choices, header_len + payload_len).to_be_bytes());
    header.extend([0x12, 0x34]);
    header.extend(flags.to_be_bytes());
    header.extend([
        if choices.rare() { choices.byte() } else { 63 },
        protocol,
        0,
        0,
    ]);
    header.extend(source.octets());
    header.extend(destination.octets());
    header.resize(header_len, 1); // "No operation".
    let checksum = checksum(sum(&header));
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header
}

/// What an IP packet carries: header and payload, its checksum right, left unfinished, none, or of any value.
fn transport(
    choices: &mut Choices<'_>,
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
) -> Vec<u8> {
    let (header_len, at) = match protocol {
        UDP => (8, 6),
        TCP => (20, 16),
        SCTP => (12, 8),
        _ => return choices.bytes(PAYLOAD_MAX),
    };
    let mut bytes = vec![0; header_len];
    bytes[..4].copy_from_slice(&choices.long().to_be_bytes());
    bytes.extend(choices.bytes(PAYLOAD_MAX));
    let mut len = bytes.len();
    if protocol == UDP {
        if choices.rare() {
            // A datagram that ends before the packet does, or says so.
            len = usize::from(choices.word());
        }
        bytes[4..6].copy_from_slice(&(len as u16).to_be_bytes());
    }
    if protocol != SCTP && choices.below(8) == 7 {
        // A source port with which the right checksum is 0, of which UDP has two.
        bytes[..2].fill(0);
        let all =
            pseudo(source, destination, protocol, len) + sum(bytes.get(..len).unwrap_or(&bytes));
        bytes[..2].copy_from_slice(&checksum(all).to_be_bytes());
    }
    let unfinished = fold(pseudo(source, destination, protocol, len));
    let mode = choices.below(4);
    if protocol == SCTP {
        if mode > 1 {
            bytes[8..12].copy_from_slice(&choices.long().to_be_bytes());
        }
        return bytes;
    }
    let value = match mode {
        0 => checksum(
            pseudo(source, destination, protocol, len) + sum(bytes.get(..len).unwrap_or(&bytes)),
        ),
        1 => unfinished,
        2 => 0,
        _ => choices.word(),
    };
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
    bytes
}

/// The length, or now and then another.
fn bent_length(choices: &mut Choices<'_>, len: usize) -> u16 {
    if !choices.rare() {
        return len as u16;
    }
    match choices.below(4) {
        0 => choices.word(),
        3 => 0,
        1 => (len as u16).wrapping_sub(u16::from(choices.byte())),
        _ => (len as u16).wrapping_add(u16::from(choices.byte())),
    }
}

/// Flips bits, and cuts the end off, now and then.
fn bend(choices: &mut Choices<'_>, frame: &mut Vec<u8>) {
    if choices.rare() {
        for _ in 0..=choices.below(4) {
            let place = usize::from(choices.word()) % 96;
            let flip = choices.byte();
            if let Some(byte) = frame.get_mut(place) {
                *byte ^= flip;
            }
        }
    }
    if choices.rare() {
        frame.truncate(usize::from(choices.word()) % (frame.len() + 1));
    }
}

/// Makes the IPv4 header's checksum right again, so that a flipped bit is judged for itself.
fn mend(frame: &mut [u8]) {
    if frame.get(12..14) != Some(&[0x08, 0x00]) {
        return;
    }
    let Some(header) = frame.get_mut(14..34) else {
        return;
    };
    header[10..12].fill(0);
    let checksum = checksum(sum(header));
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
}
