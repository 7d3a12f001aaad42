//! The outer headers of random frames.

use std::net::IpAddr;

use super::bytes::{self, IP, be16, put16};
use super::generate::{byte, chance, fill, pick, ttl, word};
use super::outer::{self, Family, Outer, OuterSum};
use super::setting::Setting;
use super::site;
use super::support::end::{Input, Offload};
use super::support::frames::Random;

/// The outer headers around an inner frame, as a peer, a stranger or a fault on the way would send them.
pub fn outer(random: &mut Random, inner: Vec<u8>, setting: &Setting) -> Input {
    let mut frame = whole(random, inner, setting);
    // A peer whose device would finish the checksum, and whose frames never see one: the usual case on a veth.
    let len = frame.len();
    let sound = outer::plain_udp(&frame).filter(|family| {
        let udp_len = be16(&frame, family.udp() + 4);
        len > family.outer_len() && udp_len.map(usize::from) == Some(len - family.udp())
    });
    let Some(family) = sound.filter(|_| chance(random, 20)) else {
        return Input::from(frame);
    };
    let pseudo = outer::udp_pseudo(&frame, family, len);
    put16(&mut frame, family.udp() + 6, bytes::partial_sum(&[&pseudo]));
    Input {
        bytes: frame,
        offload: Some(Offload {
            start: family.udp() as u16,
            field: 6,
            segmentation: None,
        }),
    }
}

fn whole(random: &mut Random, mut inner: Vec<u8>, setting: &Setting) -> Vec<u8> {
    let segment = pick!(random, setting.segments);
    let family = segment.family;
    // No longer frame gets through the link.
    inner.truncate(14 + setting.link_mtu - family.outer_len());
    let peer = pick!(random, [0, 0, 1, 2]);
    let mut outer = Outer {
        source: family.peers()[peer],
        source_mac: site::PEER_MACS[peer],
        tos: byte(random),
        ttl: ttl(random),
        id: word(random),
        fragment: pick!(random, [0, 0x4000]),
        flow_label: pick!(random, [0, random.next() as u32 & 0xf_ffff]),
        source_port: word(random),
        udp_checksum: checksum(random, family),
        ..Outer::to(&segment)
    };
    if chance(random, 60) {
        return outer.around(&inner);
    }
    match random.below(12) {
        0 => outer.vxlan[random.below(8)] ^= 1 << random.below(8),
        1 => outer.source = neighbour(byte(random), family),
        2 => outer.source = odd_source(random, family),
        3 => outer.vxlan = outer::vxlan_header(random.next() as u32 & 0xff_ffff),
        4 => outer.destination_port = pick!(random, [4789, 8471, 8472, 8473, word(random)]),
        5 => outer.destination = odd_destination(random, family),
        6 => {
            outer.destination_mac = pick!(
                random,
                [[0xff; 6], [1, 0, 0x5e, 0, 0, 1], site::PEER_MACS[0], [0; 6]]
            )
        }
        7 => outer.fragment = word(random),
        8 => {
            let other = pick!(random, setting.segments);
            outer.vxlan = outer::vxlan_header(other.vni);
        }
        _ => {}
    }
    let mut frame = outer.around(&inner);
    lie(random, &mut frame, family);
    frame.truncate(14 + setting.link_mtu);
    frame
}

fn checksum(random: &mut Random, family: Family) -> OuterSum {
    let wrong = OuterSum::Wrong(word(random) | 1);
    match family {
        Family::V4 => pick!(
            random,
            [OuterSum::Zero, OuterSum::Zero, OuterSum::Right, wrong]
        ),
        // Over IPv6 a checksum is the rule.
        Family::V6 => pick!(
            random,
            [
                OuterSum::Right,
                OuterSum::Right,
                OuterSum::Right,
                OuterSum::Zero,
                wrong
            ]
        ),
    }
}

/// An address on the link of the underlay.
fn neighbour(number: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => [10, 99, 0, number].into(),
        Family::V6 => site::ipv6(0x99, number).into(),
    }
}

fn odd_source(random: &mut Random, family: Family) -> IpAddr {
    match family {
        Family::V4 => pick!(
            random,
            [
                site::NODE,
                [127, 0, 0, 1],
                [0, 0, 0, 0],
                [224, 0, 0, 1],
                [255, 255, 255, 255],
                [240, 0, 0, 1],
                [10, 99, 0, 255],
                [10, 99, 0, 0],
                [8, 8, 8, 8],
                [0, 1, 2, 3],
            ]
        )
        .into(),
        Family::V6 => pick!(
            random,
            [
                site::NODE6,
                site::ipv6(0, 0),
                address6("::"),
                address6("::1"),
                address6("::ffff:10.99.0.2"),
                address6("::10.99.0.2"),
                address6("fe80::2"),
                address6("ff02::1"),
                address6("ff0e::5"),
                address6("2001:db8::1"),
                address6("fec0::1"),
            ]
        )
        .into(),
    }
}

fn odd_destination(random: &mut Random, family: Family) -> IpAddr {
    match family {
        Family::V4 => pick!(
            random,
            [
                site::PEERS[0],
                [10, 99, 0, 255],
                [224, 0, 0, 1],
                [10, 1, 1, 1]
            ]
        )
        .into(),
        Family::V6 => pick!(
            random,
            [
                site::PEERS6[0],
                // The subnet's routers, and all nodes and routers of the link.
                site::ipv6(0x99, 0),
                address6("ff02::1"),
                address6("ff02::2"),
                address6("::"),
                address6("::1"),
                address6("fe80::1"),
                address6("2001:db8::1"),
                address6("::ffff:10.99.0.1"),
            ]
        )
        .into(),
    }
}

fn address6(text: &str) -> [u8; 16] {
    let address: std::net::Ipv6Addr = text.parse().expect("an address");
    address.octets()
}

/// One thing in the headers that is not so.
fn lie(random: &mut Random, frame: &mut Vec<u8>, family: Family) {
    match random.below(8) {
        0 => {
            let lie = pick!(
                random,
                [0, 1, 7, 8, 9, 15, 16, 17, 29, 30, 31, word(random)]
            );
            put16(frame, family.udp() + 4, lie);
        }
        1 => {
            let len = be16(frame, family.udp() + 4).unwrap_or(0);
            let lie = len.wrapping_add(random.below(9) as u16).wrapping_sub(4);
            put16(frame, family.udp() + 4, lie);
        }
        2 => {
            let at = match family {
                Family::V4 => IP + 2,
                Family::V6 => IP + 4,
            };
            let len = be16(frame, at).unwrap_or(0);
            let lie = match random.below(3) {
                0 => word(random),
                1 => random.below(60) as u16,
                _ => len.wrapping_add(random.below(9) as u16).wrapping_sub(4),
            };
            put16(frame, at, lie);
            outer::finish_ip(frame);
        }
        // Padding behind the IP packet.
        3 => {
            let len = random.below(60);
            frame.extend(fill(random, len));
        }
        4 if family == Family::V4 => options(random, frame),
        4 => extensions(random, frame),
        5 => {
            for _ in 0..=random.below(3) {
                let at = random.below(family.vxlan() + 8);
                frame[at] ^= 1 << random.below(8);
            }
            if chance(random, 70) {
                outer::finish_ip(frame);
            }
        }
        // The version of the other family, or none; and its EtherType.
        6 => match random.below(3) {
            0 => put16(frame, 12, pick!(random, [0x86dd, 0x0800])),
            _ => {
                frame[IP] = frame[IP] & 15 | pick!(random, [0x00, 0x40, 0x50, 0x60, 0xf0]);
                outer::finish_ip(frame);
            }
        },
        _ => {
            let len = 14 + random.below(frame.len() - 13);
            frame.truncate(len);
        }
    }
}

/// IP options in the outer header.
fn options(random: &mut Random, frame: &mut Vec<u8>) {
    let words = 1 + random.below(10);
    let udp = Family::V4.udp();
    let (total, header_len) = (be16(frame, IP + 2).unwrap_or(0), 20 + 4 * words);
    frame.splice(udp..udp, std::iter::repeat_n(1, 4 * words));
    frame[IP] = 0x40 | (header_len / 4) as u8;
    put16(frame, IP + 2, total + 4 * words as u16);
    put16(frame, IP + 10, 0);
    let sum = bytes::internet_checksum(&[&frame[IP..IP + header_len]]);
    put16(frame, IP + 10, sum);
}

/// One to three extension headers in front of the outer UDP header: mostly such as the kernel reads past.
fn extensions(random: &mut Random, frame: &mut Vec<u8>) {
    let count = 1 + random.below(3);
    let kinds: Vec<u8> = (0..count)
        .map(|index| match random.below(10) {
            0..3 if index == 0 => 0,
            0..7 => 60,
            7 => 43,
            8 => 44,
            _ => pick!(random, [0, 51, 135, 59, 139]),
        })
        .collect();
    let mut bytes = Vec::new();
    for (index, kind) in kinds.iter().enumerate() {
        let next = kinds.get(index + 1).copied().unwrap_or(17);
        let units = random.below(3);
        match kind {
            // Whole in one fragment, or part of something larger.
            44 => {
                let offset = pick!(random, [0, 0, 1, word(random)]);
                bytes.extend([next, 0]);
                bytes.extend(offset.to_be_bytes());
                bytes.extend(fill(random, 4));
            }
            // No segments left, mostly: then the kind of routing does not count.
            43 => {
                let left = pick!(random, [0, 0, 1, byte(random)]);
                bytes.extend([next, units as u8, byte(random), left]);
                bytes.extend(fill(random, 4 + 8 * units));
            }
            _ => {
                bytes.extend([next, units as u8]);
                // One option over all of it: padding, or one that must be answered, skipped or dropped by its upper bits.
                let option = pick!(random, [1, 1, 1, 0x3e, 0x7e, 0xbe, 0xfe, 0xc2]);
                bytes.extend([option, (4 + 8 * units - 2 + 2) as u8]);
                bytes.extend(std::iter::repeat_n(0, 4 + 8 * units));
            }
        }
    }
    let udp = Family::V6.udp();
    let len = be16(frame, IP + 4).unwrap_or(0) + bytes.len() as u16;
    put16(frame, IP + 4, len);
    frame[IP + 6] = kinds[0];
    frame.splice(udp..udp, bytes);
}
