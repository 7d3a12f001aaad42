//! TCP segments and UDP datagrams in runs as a batch brings them, superframes as a TAP gives them, and both with much wrong.

use std::net::IpAddr;

use vxgate::port::BATCH;
use vxgate::wire::vnet::{self, VnetHeader};

use super::choices::Choices;
use super::sums::{checksum, fold, octets, pseudo, sum};

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;
pub const URG: u8 = 0x20;
pub const ECE: u8 = 0x40;
pub const CWR: u8 = 0x80;

/// All that a segment says.
#[derive(Debug, Clone)]
pub struct Tcp {
    pub six: bool,
    /// Chooses addresses and MACs.
    pub host: u8,
    pub port: u16,
    /// VLAN tags.
    pub tags: usize,
    pub tos: u8,
    pub ttl: u8,
    pub df: bool,
    pub id: u16,
    pub label: u32,
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: u8,
    pub window: u16,
    pub urgent: u16,
    /// A multiple of 4 bytes.
    pub options: Vec<u8>,
    /// Behind the IPv4 header or the IPv6 one: a multiple of 4, or of 8 bytes.
    pub extension: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Tcp {
    /// An ordinary one.
    pub fn plain(six: bool, host: u8) -> Self {
        Self {
            six,
            host,
            port: 40_000 + u16::from(host),
            tags: 0,
            tos: 0,
            ttl: 63,
            df: true,
            id: 0xfff8,
            label: 0x1_2345,
            sequence: 0xffff_f000,
            acknowledgement: 77,
            flags: ACK,
            window: 501,
            urgent: 0,
            options: vec![1, 1, 8, 10, 0, 0, 1, 2, 0, 0, 3, 4],
            extension: Vec::new(),
            payload: Vec::new(),
        }
    }

    pub fn addresses(&self) -> (IpAddr, IpAddr) {
        if self.six {
            let addr = |n: u8| IpAddr::from([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, n]);
            (addr(self.host), addr(200))
        } else {
            let addr = |n: u8| IpAddr::from([10, 244, 1, n]);
            (addr(self.host), addr(200))
        }
    }

    /// The frame, with right lengths and checksums.
    pub fn build(&self) -> Vec<u8> {
        let mut segment = self.segment(0);
        let (source, destination) = self.addresses();
        let total = pseudo(source, destination, 6, segment.len()) + sum(&segment);
        segment[16..18].copy_from_slice(&checksum(total).to_be_bytes());
        self.around(6, &segment)
    }

    /// The same, its checksum left unfinished.
    pub fn build_unfinished(&self) -> Vec<u8> {
        let mut segment = self.segment(0);
        let (source, destination) = self.addresses();
        let part = fold(pseudo(source, destination, 6, segment.len()));
        segment[16..18].copy_from_slice(&part.to_be_bytes());
        self.around(6, &segment)
    }

    /// A UDP datagram between the same ends, its checksum left unfinished.
    pub fn build_udp(&self) -> Vec<u8> {
        let (source, destination) = self.addresses();
        let part = fold(pseudo(source, destination, 17, 8 + self.payload.len()));
        self.around(17, &self.datagram(part))
    }

    /// The same with a right checksum.
    pub fn build_datagram(&self) -> Vec<u8> {
        let (source, destination) = self.addresses();
        let datagram = self.datagram(0);
        let right = checksum(pseudo(source, destination, 17, datagram.len()) + sum(&datagram));
        // 0 would say that there is none.
        let right = if right == 0 { 0xffff } else { right };
        self.around(17, &self.datagram(right))
    }

    fn datagram(&self, checksum: u16) -> Vec<u8> {
        let len = 8 + self.payload.len();
        let mut datagram = [self.port, 53, len as u16, checksum]
            .map(u16::to_be_bytes)
            .concat();
        datagram.extend(&self.payload);
        datagram
    }

    fn segment(&self, checksum: u16) -> Vec<u8> {
        let mut segment = [self.port, 80].map(u16::to_be_bytes).concat();
        segment.extend(self.sequence.to_be_bytes());
        segment.extend(self.acknowledgement.to_be_bytes());
        segment.extend([((20 + self.options.len()) << 2) as u8, self.flags]);
        for word in [self.window, checksum, self.urgent] {
            segment.extend(word.to_be_bytes());
        }
        segment.extend(&self.options);
        segment.extend(&self.payload);
        segment
    }

    fn around(&self, protocol: u8, segment: &[u8]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 200, 2, 0, 0, 0, 1, self.host];
        for _ in 0..self.tags {
            frame.extend([0x81, 0, 0, 10]);
        }
        let (source, destination) = self.addresses();
        let len = self.extension.len() + segment.len();
        if self.six {
            frame.extend([0x86, 0xdd]);
            let first = 6 << 28 | u32::from(self.tos) << 20 | self.label;
            frame.extend(first.to_be_bytes());
            frame.extend((len as u16).to_be_bytes());
            let next = if self.extension.is_empty() {
                protocol
            } else {
                0
            };
            frame.extend([next, self.ttl]);
            frame.extend([octets(source), octets(destination)].concat());
            let mut extension = self.extension.clone();
            if let Some(next) = extension.first_mut() {
                *next = protocol;
            }
            frame.extend(extension);
        } else {
            frame.extend([8, 0]);
            let header_len = 20 + self.extension.len();
            let mut header = vec![0x40 | (header_len / 4) as u8, self.tos];
            header.extend(((20 + len) as u16).to_be_bytes());
            header.extend(self.id.to_be_bytes());
            header.extend([if self.df { 0x40 } else { 0 }, 0, self.ttl, protocol, 0, 0]);
            header.extend([octets(source), octets(destination)].concat());
            header.extend(&self.extension);
            let right = checksum(sum(&header));
            header[10..12].copy_from_slice(&right.to_be_bytes());
            frame.extend(header);
        }
        frame.extend(segment);
        frame
    }

    /// Options of IPv4 or a hop-by-hop header of IPv6, of nothing but padding.
    fn extend(&mut self) {
        self.extension = if self.six {
            vec![0, 0, 1, 4, 0, 0, 0, 0]
        } else {
            vec![1; 4]
        };
    }
}

/// Up to a batch of frames of up to eight flows, each in runs that may be joined, with what ends a run and what belongs to
/// none in between.
pub fn batch(choices: &mut Choices<'_>) -> Vec<Vec<u8>> {
    let mut flows = flows(choices);
    batch_of(&mut flows, choices)
}

/// Batches of the same flows behind each other.
pub fn batches(choices: &mut Choices<'_>, count: usize) -> Vec<Vec<Vec<u8>>> {
    let mut flows = flows(choices);
    (0..count).map(|_| batch_of(&mut flows, choices)).collect()
}

/// A flow, and whether it is one of UDP.
type Flow = (Tcp, bool);

fn flows(choices: &mut Choices<'_>) -> Vec<Flow> {
    (0..1 + choices.below(8) as u8)
        .map(|host| (Tcp::plain(choices.bit(), host), choices.below(3) == 2))
        .collect()
}

fn batch_of(flows: &mut [Flow], choices: &mut Choices<'_>) -> Vec<Vec<u8>> {
    let sizes = [1448, 100, 1, 536, 9];
    let mut size = choices.pick(&sizes);
    let count = BATCH - choices.below(BATCH + 1);
    let mut frames = Vec::new();
    while frames.len() < count {
        let number = choices.below(flows.len());
        if choices.rare() {
            size = choices.pick(&sizes);
        }
        let (flow, udp) = &mut flows[number];
        flow.payload = pattern(size, flow.sequence as u8);
        frames.push(next(choices, flow, *udp));
    }
    frames
}

fn pattern(len: usize, start: u8) -> Vec<u8> {
    (0..len)
        .map(|n| (n as u8).wrapping_mul(7).wrapping_add(start))
        .collect()
}

/// The flow's next frame: mostly the one that is expected. Of UDP, what only TCP has changes nothing.
fn next(choices: &mut Choices<'_>, flow: &mut Tcp, udp: bool) -> Vec<u8> {
    let mut this = flow.clone();
    let size = this.payload.len();
    // Whether what is strange about this frame holds for those behind it, too.
    let mut lasts = false;
    let mut spoil: Option<fn(&mut Vec<u8>, &mut Choices<'_>)> = None;
    match choices.byte() {
        0..=0xa7 => {}
        0xa8..=0xaf => this.payload.truncate(size / 2),
        0xb0..=0xb1 => this.payload.extend([0xee; 5]),
        0xb2..=0xb5 => this.payload.clear(),
        0xb6..=0xb9 => this.flags |= PSH,
        0xba => this.flags |= FIN,
        0xbb => this.flags |= choices.pick(&[SYN, RST, URG, CWR]),
        0xbc => (this.flags, lasts) = (this.flags ^ ECE, true),
        0xbd..=0xbf => (this.acknowledgement, lasts) = (this.acknowledgement + 1, true),
        0xc0..=0xc1 => (this.window, lasts) = (this.window + 1, true),
        0xc2 => (this.tos, lasts) = (this.tos ^ choices.pick(&[3, 1, 0xb8]), true),
        0xc3 => (this.ttl, lasts) = (this.ttl - 1, choices.bit()),
        0xc4 => (this.df, lasts) = (!this.df, true),
        0xc5..=0xc9 => this.id = this.id.wrapping_sub(1),
        0xca => this.id = this.id.wrapping_add(7),
        0xcb..=0xcc => this.sequence = this.sequence.wrapping_add(1 + u32::from(choices.byte())),
        0xcd..=0xce => this.sequence = this.sequence.wrapping_sub(size as u32),
        0xcf => this.urgent = 5,
        0xd0 => this.options = choices.pick(&[&[][..], &[1, 1, 1, 1]]).to_vec(),
        0xd1..=0xd2 => {
            lasts = true;
            if let Some(last) = this.options.last_mut() {
                *last = last.wrapping_add(1);
            }
        }
        0xd3 => this.tags = 1,
        0xd4 => this.extend(),
        0xd5 => this.label ^= 1,
        0xd6 => this.flags = 0,
        0xd7 => lasts = choices.bit(),
        0xd8..=0xdb => {
            // Corrupt on its way.
            spoil = Some(|frame, choices| {
                let at = frame.len() - 1 - choices.below(frame.len().min(60));
                frame[at] ^= 1 << choices.below(8);
            });
        }
        0xdc => spoil = Some(|frame, _| frame[12 + 12] ^= 0x10),
        0xdd => spoil = Some(|frame, _| frame.extend([0; 3])),
        0xde => spoil = Some(|frame, choices| frame.truncate(choices.below(80))),
        0xdf => {
            // A fragment, the header's checksum and all.
            spoil = Some(|frame, choices| {
                if frame[12] == 8 {
                    let bit = choices.pick(&[0x20, 0x80, 0x01]);
                    frame[20] ^= bit;
                    frame[24..26].fill(0);
                    let right = checksum(sum(&frame[14..34]));
                    frame[24..26].copy_from_slice(&right.to_be_bytes());
                } else {
                    frame[20] = 44;
                }
            });
        }
        0xe0 => spoil = Some(|frame, _| frame[0] ^= 4),
        0xe1..=0xe4 => return Tcp { flags: 0, ..this }.build_udp(),
        0xe5..=0xe7 => return vec![0xff; 20 + choices.below(40)],
        0xe8 => spoil = Some(|frame, _| frame[23] = 17),
        0xe9 if udp => {
            // No checksum.
            spoil = Some(|frame, _| {
                let at = if frame[12] == 8 { 40 } else { 60 };
                frame[at..at + 2].fill(0);
            });
        }
        0xe9 => {
            // The reserved bits, one of which is AE (RFC 9768), with a right checksum.
            spoil = Some(|frame, _| {
                let at = if frame[12] == 8 { 34 } else { 54 };
                let sum = u16::from_be_bytes([frame[at + 16], frame[at + 17]]);
                frame[at + 12] |= 1;
                let sum = checksum(u64::from(!sum) + 0x100);
                frame[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
            });
        }
        _ => {
            spoil = Some(|frame, choices| {
                let at = choices.below(frame.len().min(80));
                frame[at] ^= choices.byte();
            });
        }
    }
    let mut frame = if udp {
        this.build_datagram()
    } else {
        this.build()
    };
    if let Some(spoil) = spoil {
        spoil(&mut frame, choices);
    }
    let (sequence, id, len) = (this.sequence, this.id, this.payload.len());
    if lasts {
        *flow = this;
    }
    if choices.rare() {
        // Lost, or the identification of a flow that has another route.
        return frame;
    }
    flow.sequence = sequence.wrapping_add(len as u32);
    flow.id = id.wrapping_add(1);
    frame
}

/// What a TAP may give: mostly a superframe that makes sense.
pub fn from_tap(choices: &mut Choices<'_>) -> (VnetHeader, Vec<u8>) {
    let mut this = Tcp::plain(choices.bit(), 3);
    let udp = choices.below(4) == 3;
    this.flags |= choices.pick(&[0, PSH, FIN | PSH, CWR, CWR | PSH, ECE, 0xff]);
    this.tags = choices.below(8).saturating_sub(5);
    if choices.below(8) == 7 {
        this.extend();
    }
    this.options.truncate(4 * choices.below(4));
    (this.df, this.id) = (!choices.bit(), choices.word());
    this.sequence = choices.long();
    let sizes = [1448, 1400, 536, 100, 9];
    let size = choices.pick(&sizes);
    let len = match choices.below(8) {
        0..=3 => size * choices.below(46),
        4..=5 => size + choices.below(200),
        6 => usize::from(choices.word()) % 1500,
        _ => 0,
    };
    this.payload = pattern(len.min(65_000), choices.byte());
    let mut frame = if udp {
        this.build_udp()
    } else {
        this.build_unfinished()
    };
    let start = frame.len() - this.payload.len() - if udp { 8 } else { 20 + this.options.len() };
    let mut header = VnetHeader {
        flags: vnet::NEEDS_CSUM,
        gso_type: match (udp, this.six) {
            (true, _) => vnet::GSO_UDP_L4,
            (false, false) => vnet::GSO_TCPV4,
            (false, true) => vnet::GSO_TCPV6,
        },
        hdr_len: (frame.len() - this.payload.len()) as u16,
        gso_size: size as u16,
        csum_start: start as u16,
        csum_offset: if udp { 6 } else { 16 },
        ..VnetHeader::default()
    };
    if choices.below(4) == 3 {
        // An ordinary frame.
        (header.gso_type, header.gso_size) = (vnet::GSO_NONE, 0);
        frame.truncate(1500);
    }
    match choices.byte() {
        0..=0xc7 => {}
        0xc8..=0xcf => header.flags = choices.pick(&[0, vnet::DATA_VALID]),
        0xd0..=0xd3 => header.gso_type |= vnet::GSO_ECN,
        0xd4..=0xd7 => header.gso_type = choices.byte(),
        0xd8 => header.gso_size = choices.pick(&[0, 1, 65_535]),
        0xd9..=0xdb => header.csum_start = choices.word(),
        0xdc..=0xdd => header.csum_offset = choices.word(),
        0xde..=0xe3 => frame.extend([7; 3]),
        0xe4..=0xe7 => frame.truncate(usize::from(choices.byte())),
        _ => {
            for _ in 0..=choices.below(3) {
                let at = choices.below(frame.len().clamp(1, 90));
                let flip = choices.byte();
                if let Some(byte) = frame.get_mut(at) {
                    *byte ^= flip;
                }
            }
        }
    }
    (header, frame)
}
