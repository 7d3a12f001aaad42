//! Trains: segments of a flow behind each other, as bulk transfers send them, which `vxgate` may join on their way in; and the
//! superframes that it may cut on their way out. Most trains have one place where they may not be joined across.

use super::bytes::{self, ETHER_IPV4, ETHER_IPV6, Inner, put16};
use super::generate::{byte, chance, fill, pick, word};
use super::outer::{Outer, OuterSum};
use super::setting::{Overlay, Setting};
use super::site::{self, Entry};
use super::support::end::{Input, Offload, Segmentation};
use super::support::frames::Random;

const TCP: u8 = 6;
const UDP: u8 = 17;
/// The largest IP packet that enters the overlay.
const INNER_MTU: usize = 1500;
const DF: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
/// Flags of TCP.
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;
/// Frames of a window, segments counted: fewer than a veth's ring holds.
const FRAMES_MAX: usize = 128;
/// All that a superframe may hold besides its headers.
const SUPERFRAME_MAX: usize = 64_000;
/// `VIRTIO_NET_HDR_GSO_*`.
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
const GSO_UDP: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// One segment, and the headers in front of it.
#[derive(Debug, Clone)]
struct Piece {
    macs: [[u8; 6]; 2],
    tag: Option<u16>,
    six: bool,
    protocol: u8,
    class: u8,
    ttl: u8,
    id: u16,
    fragment: u16,
    /// An option in front of the payload of IPv4.
    ip_option: bool,
    ports: [u16; 2],
    /// Of TCP.
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
    window: u16,
    urgent: u16,
    options: Vec<u8>,
    payload: Vec<u8>,
    sum: Sum,
    /// Behind the IP packet.
    padding: usize,
    /// What is around it on the wire.
    outer: Outer,
}

/// What the checksum of TCP or UDP is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sum {
    Right,
    Wrong,
    /// The pseudo-header's.
    Unfinished,
    /// Of UDP: none.
    Zero,
}

/// Trains of one to three flows, one through the other, as an entry takes them.
pub fn window(random: &mut Random, entry: Entry, setting: &Setting) -> Vec<Input> {
    let flows = 1 + random.below(3);
    let mut trains: Vec<_> = (0..flows)
        .map(|number| {
            let first = Piece::first(random, entry, setting, number as u16);
            match entry {
                Entry::Wire => arriving(random, first).into_iter(),
                Entry::Bridge | Entry::Device => leaving(random, first).into_iter(),
            }
        })
        .collect();
    let mut window = Vec::new();
    let mut room = FRAMES_MAX;
    loop {
        let train = random.below(trains.len());
        // Now and then several of one flow: they come as they leave a sender's device.
        for _ in 0..=random.below(8) {
            match trains[train].next() {
                Some(input) if (input.count() as usize) <= room => {
                    room -= input.count() as usize;
                    window.push(input);
                }
                _ => {
                    trains.swap_remove(train);
                    break;
                }
            }
        }
        if trains.is_empty() {
            return window;
        }
    }
}

/// Segments from the wire.
fn arriving(random: &mut Random, first: Piece) -> Vec<Input> {
    let len = payload_len(random, &first);
    let mut train = vec![first.with_payload(random, len)];
    for _ in 0..1 + random.below(60) {
        let last = train.last().expect("there is a first one");
        let next = last.next(random, len);
        train.push(next);
    }
    if chance(random, 40) {
        let last = train.pop().expect("there is one");
        let shorter = random.below(len + 1);
        let mut last = last.with_payload(random, shorter);
        if last.protocol == TCP {
            last.flags |= pick!(random, [0, PSH, PSH | FIN]);
        }
        train.push(last);
    }
    for _ in 0..pick!(random, [0, 1, 1, 2]) {
        disturb(random, &mut train);
    }
    let frames = train.iter().map(|piece| piece.outer.around(&piece.bytes()));
    frames.map(Input::from).collect()
}

/// Superframes for the wire, with single segments among them.
fn leaving(random: &mut Random, first: Piece) -> Vec<Input> {
    let len = payload_len(random, &first);
    let mut train = Vec::new();
    let mut piece = first;
    for _ in 0..1 + random.below(6) {
        let segments = pick!(random, [1, 1, 2, 3, 1 + random.below(50)]);
        let whole = len * segments
            - if chance(random, 50) {
                random.below(len)
            } else {
                0
            };
        let most = SUPERFRAME_MAX.min(whole);
        piece = piece.with_payload(random, most);
        if piece.protocol == TCP {
            piece.flags = ACK | pick!(random, [0, PSH, PSH | FIN, ECE, CWR, PSH | CWR | ECE]);
        }
        train.push(piece.leave(len));
        // As many identifications as there were segments.
        let sent = piece.payload.len();
        piece.id = piece.id.wrapping_add(sent.div_ceil(len) as u16);
        piece.sequence = piece.sequence.wrapping_add(sent as u32);
    }
    train
}

fn payload_len(random: &mut Random, piece: &Piece) -> usize {
    let most = INNER_MTU - piece.headers_len() + 14;
    match random.below(6) {
        0 => 1 + random.below(16),
        1 => 536,
        2 => 1 + random.below(most),
        3 => most - 1,
        _ => most,
    }
}

/// Does one thing to a train after which it is no longer the one that it was.
fn disturb(random: &mut Random, train: &mut Vec<Piece>) {
    change(random, train);
    // An option more leaves less room.
    for piece in train {
        let most = INNER_MTU + 14 - piece.headers_len();
        piece.payload.truncate(most);
    }
}

fn change(random: &mut Random, train: &mut Vec<Piece>) {
    let at = random.below(train.len());
    let tcp = train[at].protocol == TCP;
    match random.below(28) {
        0 if train.len() > 1 => {
            train.remove(at);
        }
        1 if at > 0 => train.swap(at - 1, at),
        2 => train.insert(at, train[at].clone()),
        3 => {
            // The rest in front of the beginning.
            train.rotate_left(at);
        }
        4 => {
            let len = random.below(train[at].payload.len() + 1);
            train[at].payload.truncate(len);
        }
        5 => train[at].payload.clear(),
        6 => {
            // The rest goes on as a sender does that was told something new.
            let more = word(random);
            for piece in &mut train[at..] {
                piece.acknowledgement = piece.acknowledgement.wrapping_add(u32::from(more));
            }
        }
        7 => train[at].window = word(random),
        8 if tcp => train[at].flags ^= pick!(random, [FIN, SYN, RST, PSH, ACK, URG, ECE, CWR]),
        9 => (train[at].flags, train[at].urgent) = (ACK | URG, word(random)),
        10 => {
            let options = &mut train[at].options;
            match options.len() {
                0 => *options = vec![1; 4],
                len => options[random.below(len)] ^= 1,
            }
        }
        11 => train[at].options = timestamps(random),
        12 => train[at].sum = Sum::Wrong,
        13 => train[at].sum = Sum::Unfinished,
        14 if !tcp => train[at].sum = Sum::Zero,
        15 => train[at].ttl = train[at].ttl.wrapping_sub(1).max(2),
        16 => train[at].class ^= 1 << random.below(8),
        17 => train[at].fragment ^= DF,
        18 => train[at].fragment |= MORE_FRAGMENTS,
        19 => train[at].id = word(random),
        20 => {
            let id = train[at].id;
            train[at..].iter_mut().for_each(|piece| piece.id = id);
        }
        21 => train[at].ip_option = !train[at].six,
        22 => train[at].padding = 1 + random.below(30),
        23 => train[at].macs[1][5] ^= 1,
        24 => train[at].tag = Some(word(random)),
        25 => {
            // Marked on the way: what was ECN-capable comes out marked, and by itself.
            let outer = &mut train[at].outer;
            outer.tos = pick!(random, [1, 2, 3, byte(random)]);
        }
        26 => train[at].outer.source_port = word(random),
        27 => {
            for piece in &mut train[at..] {
                piece.outer.udp_checksum = OuterSum::Right;
            }
        }
        _ => {}
    }
}

/// Two NOPs and the option of RFC 7323.
fn timestamps(random: &mut Random) -> Vec<u8> {
    [&[1, 1, 8, 10][..], &fill(random, 8)].concat()
}

impl Piece {
    /// The first of a flow, with nothing in it. Its number tells flows apart.
    fn first(random: &mut Random, entry: Entry, setting: &Setting, number: u16) -> Self {
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

    fn with_payload(&self, random: &mut Random, len: usize) -> Self {
        Self {
            payload: fill(random, len),
            ..self.clone()
        }
    }

    /// The segment behind this one.
    fn next(&self, random: &mut Random, len: usize) -> Self {
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
    fn headers_len(&self) -> usize {
        14 + self.network_len() + self.transport_len()
    }

    /// Where the checksum is in the header of TCP or UDP.
    fn sum_at(&self) -> usize {
        if self.protocol == TCP { 16 } else { 6 }
    }

    /// As the sender's device gets it: one segment, or so many as its payload fills, `len` bytes in each.
    fn leave(&self, len: usize) -> Input {
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
    fn bytes(&self) -> Vec<u8> {
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
