//! The outer headers of random frames.

use super::bytes::{self, IP, OUTER_LEN, Outer, OuterSum, UDP, VXLAN, put16};
use super::end::{Input, Offload};
use super::generate::{byte, chance, fill, pick, ttl, word};
use super::site;
use super::support::frames::Random;

/// The outer headers around an inner frame, as a peer, a stranger or a fault on the way would send them.
pub fn outer(random: &mut Random, inner: Vec<u8>) -> Input {
    let mut frame = whole(random, inner);
    // A peer whose device would finish the checksum, and whose frames never see one: the usual case on a veth.
    let len = frame.len();
    let sound = len > OUTER_LEN
        && frame[IP] == 0x45
        && frame[IP + 9] == 17
        && bytes::be16(&frame, UDP + 4).map(usize::from) == Some(len - UDP);
    if !sound || !chance(random, 20) {
        return Input::from(frame);
    }
    let pseudo = [
        &frame[26..34],
        &[0, 17],
        &((len - UDP) as u16).to_be_bytes(),
    ]
    .concat();
    put16(&mut frame, UDP + 6, bytes::partial_sum(&[&pseudo]));
    Input {
        bytes: frame,
        offload: Some(Offload {
            start: UDP as u16,
            field: 6,
            segmentation: None,
        }),
    }
}

fn whole(random: &mut Random, inner: Vec<u8>) -> Vec<u8> {
    let peer = pick!(random, &[0, 0, 1, 2]);
    let mut outer = Outer {
        source: site::PEERS[peer],
        source_mac: site::PEER_MACS[peer],
        tos: byte(random),
        ttl: ttl(random),
        id: word(random),
        fragment: pick!(random, &[0, 0x4000]),
        source_port: word(random),
        udp_checksum: pick!(
            random,
            &[
                OuterSum::Zero,
                OuterSum::Zero,
                OuterSum::Right,
                OuterSum::Wrong(word(random) | 1)
            ],
        ),
        ..Outer::good()
    };
    if chance(random, 60) {
        return outer.around(&inner);
    }
    match random.below(12) {
        0 => outer.vxlan[random.below(8)] ^= 1 << random.below(8),
        1 => outer.source = [10, 99, 0, byte(random)],
        2 => {
            outer.source = pick!(
                random,
                &[
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
                ],
            );
        }
        3 => outer.vxlan = bytes::vxlan_header(random.next() as u32 & 0xff_ffff),
        4 => outer.destination_port = pick!(random, &[4789, 8471, 8473, word(random)]),
        5 => {
            outer.destination = pick!(
                random,
                &[
                    site::PEERS[0],
                    [10, 99, 0, 255],
                    [224, 0, 0, 1],
                    [10, 1, 1, 1]
                ]
            );
        }
        6 => {
            outer.destination_mac = pick!(
                random,
                &[[0xff; 6], [1, 0, 0x5e, 0, 0, 1], site::PEER_MACS[0], [0; 6]]
            )
        }
        7 => outer.fragment = word(random),
        _ => {}
    }
    let mut frame = outer.around(&inner);
    match random.below(7) {
        0 => {
            let lie = pick!(
                random,
                &[0, 1, 7, 8, 9, 15, 16, 17, 29, 30, 31, word(random)]
            );
            put16(&mut frame, UDP + 4, lie);
        }
        1 => {
            let len = bytes::be16(&frame, UDP + 4).unwrap_or(0);
            let lie = len.wrapping_add(random.below(9) as u16).wrapping_sub(4);
            put16(&mut frame, UDP + 4, lie);
        }
        2 => {
            let len = bytes::be16(&frame, IP + 2).unwrap_or(0);
            let lie = match random.below(3) {
                0 => word(random),
                1 => random.below(60) as u16,
                _ => len.wrapping_add(random.below(9) as u16).wrapping_sub(4),
            };
            put16(&mut frame, IP + 2, lie);
            bytes::finish_outer_ip(&mut frame);
        }
        // Padding behind the IP packet.
        3 => {
            let len = random.below(60);
            frame.extend(fill(random, len));
        }
        4 => options(random, &mut frame),
        5 => {
            for _ in 0..=random.below(3) {
                let at = random.below(VXLAN + 8);
                frame[at] ^= 1 << random.below(8);
            }
            if chance(random, 70) {
                bytes::finish_outer_ip(&mut frame);
            }
        }
        _ => {
            let len = 14 + random.below(frame.len() - 13);
            frame.truncate(len);
        }
    }
    frame.truncate(14 + site::UNDERLAY_MTU);
    frame
}

/// IP options in the outer header.
fn options(random: &mut Random, frame: &mut Vec<u8>) {
    let words = 1 + random.below(10);
    let (total, header_len) = (bytes::be16(frame, IP + 2).unwrap_or(0), 20 + 4 * words);
    frame.splice(UDP..UDP, std::iter::repeat_n(1, 4 * words));
    frame[IP] = 0x40 | (header_len / 4) as u8;
    put16(frame, IP + 2, total + 4 * words as u16);
    put16(frame, IP + 10, 0);
    let sum = bytes::internet_checksum(&[&frame[IP..IP + header_len]]);
    put16(frame, IP + 10, sum);
}
