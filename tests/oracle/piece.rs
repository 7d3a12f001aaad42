//! One segment of TCP or UDP with all headers, by hand: as it is on the wire, and as a superframe that a device is to cut.

use super::bytes::{self, ETHER_IPV4, ETHER_IPV6, Inner, put16};
use super::generate::{byte, chance, fill, pick, word};
use super::outer::Outer;
use super::setting::{Overlay, Setting};
use super::site::{self, Entry};
use super::support::end::{Input, Offload, Segmentation};
use super::support::frames::Random;

pub const TCP: u8 = 6;
const UDP: u8 = 17;
pub const DF: u16 = 0x4000;
/// Flags of TCP.
pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;
pub const URG: u8 = 0x20;
pub const ECE: u8 = 0x40;
pub const CWR: u8 = 0x80;
/// `VIRTIO_NET_HDR_GSO_*`.
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
const GSO_UDP: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// One segment, and the headers in front of it.
#[derive(Debug, Clone)]
pub struct Piece {
    pub macs: [[u8; 6]; 2],
    pub tag: Option<u16>,
    pub six: bool,
    pub protocol: u8,
    pub class: u8,
    pub ttl: u8,
    pub id: u16,
    pub fragment: u16,
    /// An option in front of the payload of IPv4.
    pub ip_option: bool,
    pub ports: [u16; 2],
    /// Of TCP.
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: u8,
    pub window: u16,
    pub urgent: u16,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
    pub sum: Sum,
    /// Behind the IP packet.
    pub padding: usize,
    /// What is around it on the wire.
    pub outer: Outer,
}

/// What the checksum of TCP or UDP is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sum {
    Right,
    Wrong,
    /// The pseudo-header's.
    Unfinished,
    /// Of UDP: none.
    Zero,
}

/// Two NOPs and the option of RFC 7323.
pub fn timestamps(random: &mut Random) -> Vec<u8> {
    [&[1, 1, 8, 10][..], &fill(random, 8)].concat()
}

impl Piece {
    /// The first of a flow, with nothing in it. Its number tells flows apart.
    pub fn first(random: &mut Random, entry: Entry, setting: &Setting, number: u16) -> Self {
        let segment = &setting.segments[0];
        let routed = setting.overlay == Overlay::Routed;
        let inbound = entry == Entry::Wire;
        let macs = match (inbound, routed) {
            (true, false) => [site::HOST_MAC, site::REMOTE_MACS[0]],
            (true, true) => [site::DEVICE_MAC, site::REMOTE_MACS[0]],
            (false, true) if entry == Entry::Bridge => [site::GATEWAY_MAC, site::HOST_MAC],
            (false, _) => [pick!(random, site::REMOTE_MACS), site::HOST_MAC],
        };
        let protocol = if chance(random, 75) { TCP } else { UDP };
        let mut ports = [45_000 + number, 9];
        if inbound {
            ports.reverse();
        }
        Self {
            macs,
            tag: None,
            six: chance(random, 40),
            protocol,
            // Marks of congestion, too.
            class: pick!(random, [0, 0, 1, 2, 3, byte(random)]),
            ttl: 64,
            id: pick!(random, [0, word(random), 0xfff0]),
            fragment: pick!(random, [DF, DF, DF, 0]),
            ip_option: false,
            ports,
            sequence: pick!(random, [random.next() as u32, u32::MAX - 5000]),
            acknowledgement: random.next() as u32,
            flags: ACK,
            window: word(random),
            urgent: 0,
            options: match random.below(3) {
                0 => Vec::new(),
                _ => timestamps(random),
            },
            payload: Vec::new(),
            sum: Sum::Right,
            padding: 0,
            outer: Outer {
                // What may be marked inside, or must be lost.
                tos: pick!(random, [0, 0, 0, 2]),
                source_port: 50_000 + number,
                ..Outer::to(segment)
            },
        }
    }

    pub fn with_payload(&self, random: &mut Random, len: usize) -> Self {
        Self {
            payload: fill(random, len),
            ..self.clone()
        }
    }

    /// The segment behind this one.
    pub fn next(&self, random: &mut Random, len: usize) -> Self {
        Self {
            id: self.id.wrapping_add(1),
            sequence: self.sequence.wrapping_add(self.payload.len() as u32),
            ..self.with_payload(random, len)
        }
    }

    fn network_len(&self) -> usize {
        match (self.six, self.ip_option) {
            (true, _) => 40,
            (false, false) => 20,
            (false, true) => 24,
        }
    }

    fn transport_len(&self) -> usize {
        match self.protocol {
            TCP => 20 + self.options.len(),
            _ => 8,
        }
    }

    /// Without a tag.
    pub fn headers_len(&self) -> usize {
        14 + self.network_len() + self.transport_len()
    }

    /// Where the checksum is in the header of TCP or UDP.
    fn sum_at(&self) -> usize {
        if self.protocol == TCP { 16 } else { 6 }
    }

    /// As the sender's device gets it: one segment, or so many as its payload fills, `len` bytes in each.
    pub fn leave(&self, len: usize) -> Input {
        let unfinished = Self {
            sum: Sum::Unfinished,
            ..self.clone()
        };
        let kind = match (self.protocol, self.six) {
            (TCP, false) => GSO_TCP4,
            (TCP, true) => GSO_TCP6,
            _ => GSO_UDP,
        };
        let marked = self.protocol == TCP && self.flags & CWR != 0;
        let segmentation = (self.payload.len() > len).then(|| Segmentation {
            kind: if marked { kind | GSO_ECN } else { kind },
            headers_len: self.headers_len() as u16,
            payload_len: len as u16,
        });
        Input {
            bytes: unfinished.bytes(),
            offload: Some(Offload {
                start: 14 + self.network_len() as u16,
                field: self.sum_at() as u16,
                segmentation,
            }),
        }
    }

    /// The inner frame.
    pub fn bytes(&self) -> Vec<u8> {
        let segment = self.segment();
        let (ether_type, packet) = if self.six {
            let mut packet = bytes::ipv6(self.class, self.ttl, self.protocol, &segment);
            packet[8..40].copy_from_slice(&self.addresses());
            (ETHER_IPV6, packet)
        } else {
            let mut packet =
                bytes::ipv4(self.class, self.ttl, self.fragment, self.protocol, &segment);
            put16(&mut packet, 4, self.id);
            if self.ip_option {
                let len = packet.len() as u16 + 4;
                packet[0] = 0x46;
                put16(&mut packet, 2, len);
                packet.splice(20..20, [1; 4]);
            }
            packet[12..20].copy_from_slice(&self.addresses());
            put16(&mut packet, 10, 0);
            let sum = bytes::internet_checksum(&[&packet[..self.network_len()]]);
            put16(&mut packet, 10, sum);
            (ETHER_IPV4, packet)
        };
        let inner = Inner {
            destination: self.macs[0],
            source: self.macs[1],
            ..Inner::with(ether_type, packet)
        };
        let tags: Vec<_> = self.tag.iter().map(|tci| (0x8100, *tci)).collect();
        let mut frame = inner.tagged(&tags).bytes();
        frame.extend(vec![0; self.padding]);
        frame
    }

    /// The host on the port, and one behind the tunnel.
    fn addresses(&self) -> Vec<u8> {
        // fd00:1::2 and fd00:2::1.
        let six = |network, number| {
            let mut address = site::ipv6(0, number);
            address[3] = network;
            address.to_vec()
        };
        let [host, remote] = if self.six {
            [six(1, 2), six(2, 1)]
        } else {
            [vec![10, 244, 1, 2], vec![10, 244, 2, 1]]
        };
        let inbound = self.ports[0] == 9;
        if inbound {
            [remote, host].concat()
        } else {
            [host, remote].concat()
        }
    }

    /// Header and payload of TCP or UDP.
    fn segment(&self) -> Vec<u8> {
        let mut segment = Vec::new();
        for port in self.ports {
            segment.extend(port.to_be_bytes());
        }
        let len = (self.transport_len() + self.payload.len()) as u16;
        if self.protocol == TCP {
            segment.extend(self.sequence.to_be_bytes());
            segment.extend(self.acknowledgement.to_be_bytes());
            segment.push((self.transport_len() / 4) as u8 * 16);
            segment.push(self.flags);
            for field in [self.window, 0, self.urgent] {
                segment.extend(field.to_be_bytes());
            }
            segment.extend(&self.options);
        } else {
            segment.extend(len.to_be_bytes());
            segment.extend([0, 0]);
        }
        segment.extend(&self.payload);
        let pseudo = [
            &self.addresses()[..],
            &[0, self.protocol],
            &len.to_be_bytes(),
        ]
        .concat();
        let right = match bytes::internet_checksum(&[&pseudo, &segment]) {
            0 if self.protocol == UDP => 0xffff,
            sum => sum,
        };
        let sum = match self.sum {
            Sum::Right => right,
            Sum::Wrong => right ^ 0x0100,
            Sum::Unfinished => bytes::partial_sum(&[&pseudo]),
            Sum::Zero => 0,
        };
        put16(&mut segment, self.sum_at(), sum);
        segment
    }
}
