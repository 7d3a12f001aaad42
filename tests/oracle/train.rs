//! Trains: segments of a flow behind each other, as bulk transfers send them, which `vxgate` may join on their way in; and the
//! superframes that it may cut on their way out. Most trains have one place where they may not be joined across.

use super::generate::{byte, chance, pick, word};
use super::outer::OuterSum;
use super::piece::{ACK, CWR, DF, ECE, FIN, PSH, Piece, RST, SYN, Sum, TCP, URG, timestamps};
use super::setting::Setting;
use super::site::Entry;
use super::support::end::Input;
use super::support::frames::Random;

/// The largest IP packet that enters the overlay.
const INNER_MTU: usize = 1500;
const MORE_FRAGMENTS: u16 = 0x2000;
/// Frames of a window, segments counted: fewer than a veth's ring holds.
const FRAMES_MAX: usize = 128;
/// All that a superframe may hold besides its headers.
const SUPERFRAME_MAX: usize = 64_000;

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
