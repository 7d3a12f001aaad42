//! What must hold for any bytes. The fuzz targets call these with what the fuzzer makes up, `tests/corpus.rs` with what it
//! found worth keeping. A check fails by panicking.

// Each fuzz target calls one of them.
#![allow(dead_code)]

use vxgate::netlink;
use vxgate::wire::{entropy, layers::Layers, layers::Network, layers::Place};

use crate::rig::{self, At, Rig, Size};

/// Bytes taken one field at a time; zero when there are none left.
struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(u16::from_be_bytes([self.byte(), self.byte()])) % 2048;
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// A worker meets any frames in any order on any port, with rings and a pool that run full and dry: it does not panic,
/// every frame has one fate, and no frame of the UMEM is lost or doubled.
pub fn worker(data: &[u8]) {
    let mut choices = Choices(data);
    let size = Size {
        segments: 1 + choices.below(3),
        queues: 1 + choices.below(2),
        vteps: 1 + choices.below(7) as u8,
        ring_len: 16,
        frames: 96 + 64 * choices.below(3) as u32,
    };
    let mut rig = Rig::new(size);
    while !choices.0.is_empty() {
        let (segment, vtep) = (
            choices.below(size.segments),
            choices.below(usize::from(size.vteps)) as u8,
        );
        let queue = choices.below(size.queues);
        match choices.below(7) {
            0 => drop(rig.deliver(At::Underlay(queue), choices.bytes())),
            1 => {
                let frame = rig::outer(rig::vni(segment), rig::vtep_addr(vtep), choices.bytes());
                rig.deliver(At::Underlay(queue), &frame);
            }
            2 => {
                let place = choices.below(rig::OUTER_LEN);
                let flip = choices.byte();
                let mut frame =
                    rig::outer(rig::vni(segment), rig::vtep_addr(vtep), choices.bytes());
                frame[place] ^= flip;
                mend_header_sum(&mut frame);
                rig.deliver(At::Underlay(queue), &frame);
            }
            3 => drop(rig.deliver(At::Access(segment), choices.bytes())),
            4 => {
                let mut frame = rig::host(segment, vtep).0.to_vec();
                frame.extend(choices.bytes());
                rig.deliver(At::Access(segment), &frame);
            }
            5 => drop(rig.worker.turn()),
            _ => {
                let places = rig.places();
                let at = places[choices.below(places.len())];
                rig.port(at).0.complete(1 + queue * 15);
            }
        }
    }
    while rig.worker.turn().any() {
        for at in rig.places() {
            rig.port(at).0.complete(16);
        }
    }
    rig.check_balance();
}

/// A frame of the overlay goes out as one frame that an independent parser reads, and that frame's inside comes back in
/// as it went out.
pub fn round_trip(data: &[u8]) {
    let mut rig = Rig::new(Size {
        segments: 1,
        queues: 1,
        vteps: 1,
        ring_len: 16,
        frames: 96,
    });
    let mut frame = rig::host(0, 0).0.to_vec();
    frame.extend_from_slice(data);
    if !rig.deliver(At::Access(0), &frame) {
        return;
    }
    rig.worker.turn();
    let sent = rig.collect(At::Underlay(0));
    let Some(sent) = sent.first() else {
        return;
    };
    let (_, _, inner) = rig::read_outer(sent);
    assert_eq!(inner.len(), frame.len());
    assert_eq!(inner[..14], frame[..14]);

    let returning = rig::outer(rig::vni(0), rig::vtep_addr(0), &inner);
    rig.deliver(At::Underlay(0), &returning);
    rig.worker.turn();
    for delivered in rig.collect(At::Access(0)) {
        assert_eq!(delivered, inner, "a finished frame is not touched");
    }
    rig.worker.turn();
    rig.check_balance();
}

/// Whatever is found in a frame lies inside of it.
pub fn layers(data: &[u8]) {
    let Some(place) = Place::find(data) else {
        assert!(data.len() < 14);
        return;
    };
    assert!(place.network == Network::Other || place.offset <= data.len());
    let layers = Layers::parse(data).expect("the Ethernet header is whole");
    if let Some(transport) = &layers.transport {
        assert!(transport.offset + transport.len <= data.len());
    }
    let hash = entropy::flow_hash(data, &layers);
    assert_eq!(hash, entropy::flow_hash(data, &layers));
    assert!((32_768..=60_999).contains(&entropy::spread(hash, 32_768, 60_999)));
}

/// Messages and attributes are parts of the datagram, whatever it says of their lengths.
pub fn netlink(data: &[u8]) {
    let mut taken = 0;
    for message in netlink::messages(data) {
        taken += message.bytes.len();
        assert!(taken <= data.len() && message.payload.len() + 16 == message.bytes.len());
        attributes(message.payload, 0);
        for header in [4, 8, 12, 16] {
            attributes(message.payload.get(header..).unwrap_or_default(), 0);
        }
    }
}

fn attributes(bytes: &[u8], depth: u32) {
    let mut taken = 0;
    for (_, value) in netlink::attributes(bytes) {
        taken += value.len();
        assert!(taken <= bytes.len());
        let _ = (
            netlink::u32_from(value),
            netlink::ip_from(value),
            netlink::mac_from(value),
            netlink::text_from(value),
        );
        if depth < 3 {
            attributes(value, depth + 1);
        }
    }
}

/// Makes the outer IPv4 header's checksum right again, so that a flipped bit is judged for itself.
fn mend_header_sum(frame: &mut [u8]) {
    let Some(header) = frame.get_mut(14..34) else {
        return;
    };
    header[10..12].fill(0);
    let sum = header
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    header[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
}
