//! Which frames from the wire take the lane of superframes: the TAP beside the access pair.
//!
//! TCP and UDP are what hosts make superframes of, right behind an IP header, without a tag, and no fragments. All TCP takes the
//! TAP. A write there costs a quarter more than what a lone datagram costs by the pair, whose frames share a system call; but
//! a train of datagrams costs half. So of UDP only what is joined should take it, and none where the TAP takes no trains.
//!
//! # Order
//!
//! What is on its way must not be overtaken by what comes behind it. So a flow of UDP changes its way only when nothing of it
//! has gone the other one for [`SILENCE`]: what is older has left, or its worker hangs, and steering has given it up.
//! Flows that share a hash share their way. `takes_tap` in `bpf/vxgate.bpf.c` is the same rule for the other direction.

use crate::port::BATCH;
use crate::wire::ethernet::{self, EthernetHeader};
use crate::wire::ipv4::Ipv4Header;
use crate::wire::ipv6::{self, Ipv6Header};
use crate::wire::udp::UdpHeader;
use crate::wire::{tcp, udp};

/// Places for the ways of flows.
const PLACES: usize = 1024;
/// `HEARTBEAT_STALE_NS` of `bpf/shared.h`, in ticks.
const SILENCE: u32 = 200_000_000_u32.div_ceil(1 << TICK_BITS);
/// A tick is 2^20 ns, about a millisecond.
const TICK_BITS: u32 = 20;

/// The ways that flows of UDP took last, for one worker.
#[derive(Debug)]
pub struct Ways {
    places: Box<[Way; PLACES]>,
    /// The number of the batch.
    batch: u32,
}

/// When flows last took each way, in ticks (0: never), and what this batch has of them.
#[derive(Debug, Clone, Copy, Default)]
struct Way {
    pair: u32,
    tap: u32,
    batch: u32,
    /// Of the datagram in front.
    len: u16,
    /// Some follow each other as in a train.
    joins: bool,
}

/// What a frame is here.
enum Kind {
    Tcp,
    Udp(Datagram),
    Other,
}

#[derive(Clone, Copy)]
struct Datagram {
    place: usize,
    len: u16,
    /// Without one it goes alone.
    has_checksum: bool,
}

const _: () = assert!(BATCH <= u64::BITS as usize, "one bit a frame");

impl Default for Ways {
    fn default() -> Self {
        Self::new()
    }
}

impl Ways {
    /// Of a worker that has seen nothing yet.
    pub fn new() -> Self {
        Self {
            places: Box::new([Way::default(); PLACES]),
            batch: 0,
        }
    }

    /// Which of the frames of a batch take the TAP, in a turn that began at `now_ns`: bit *i* says it of the *i*-th. Of UDP some
    /// only where it takes trains.
    pub fn choose<'a>(
        &mut self,
        frames: impl Iterator<Item = &'a [u8]>,
        now_ns: u64,
        takes_trains: bool,
    ) -> u64 {
        let now = ((now_ns >> TICK_BITS) as u32).max(1);
        self.batch = self.batch.wrapping_add(1);
        let (mut taken, mut datagrams) = (0, 0_u64);
        let mut places = [0; BATCH];
        for ((number, place), frame) in places.iter_mut().enumerate().zip(frames) {
            match Kind::of(frame) {
                Kind::Tcp => taken |= 1 << number,
                Kind::Udp(datagram) if takes_trains => {
                    datagrams |= 1 << number;
                    *place = datagram.place;
                    self.note(datagram);
                }
                Kind::Udp(_) | Kind::Other => {}
            }
        }
        if datagrams == 0 {
            return taken;
        }
        for (number, place) in places.into_iter().enumerate() {
            if datagrams >> number & 1 != 0 && self.takes(place, now) {
                taken |= 1 << number;
            }
        }
        taken
    }

    #[inline]
    fn note(&mut self, datagram: Datagram) {
        let Some(way) = self.places.get_mut(datagram.place) else {
            return;
        };
        if way.batch != self.batch {
            (way.batch, way.joins) = (self.batch, false);
        } else {
            way.joins |= datagram.has_checksum && datagram.len <= way.len;
        }
        way.len = datagram.len;
    }

    #[inline]
    fn takes(&mut self, place: usize, now: u32) -> bool {
        let Some(way) = self.places.get_mut(place) else {
            return false;
        };
        let tap = if way.joins {
            !is_recent(way.pair, now)
        } else {
            is_recent(way.tap, now)
        };
        let last = if tap { &mut way.tap } else { &mut way.pair };
        *last = now;
        tap
    }
}

#[inline]
fn is_recent(last: u32, now: u32) -> bool {
    last != 0 && now.wrapping_sub(last) <= SILENCE
}

impl Kind {
    #[inline]
    fn of(frame: &[u8]) -> Self {
        let Some((header, packet)) = EthernetHeader::parse(frame) else {
            return Self::Other;
        };
        match header.ether_type() {
            ethernet::IPV4 => {
                let Some(ip) =
                    Ipv4Header::parse(packet).filter(|ip| ip.version() == 4 && !ip.is_fragment())
                else {
                    return Self::Other;
                };
                let ends = [ip.source(), ip.destination()].map(|end| u64::from(end.to_bits()));
                Self::carried(
                    ip.protocol(),
                    packet.get(ip.header_len()..),
                    ends[0] << 32 | ends[1],
                )
            }
            ethernet::IPV6 => {
                let Some(ip) = Ipv6Header::parse(packet).filter(|ip| ip.version() == 6) else {
                    return Self::Other;
                };
                let ends = [ip.source(), ip.destination()].map(|end| end.to_bits());
                let [a, b] = ends.map(|end| end as u64 ^ (end >> 64) as u64);
                let ends = a.rotate_left(32) ^ b;
                Self::carried(ip.next_header(), packet.get(ipv6::LEN..), ends)
            }
            _ => Self::Other,
        }
    }

    #[inline]
    fn carried(protocol: u8, segment: Option<&[u8]>, ends: u64) -> Self {
        match (protocol, segment.and_then(UdpHeader::parse)) {
            (tcp::PROTOCOL, _) => Self::Tcp,
            (udp::PROTOCOL, Some(udp)) => {
                let ports = u64::from(udp.source_port()) << 16 | u64::from(udp.destination_port());
                // 2^64 divided by the golden ratio.
                let hash = (ends ^ ports.rotate_left(20)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                Self::Udp(Datagram {
                    place: (hash >> 48) as usize % PLACES,
                    len: udp.len() as u16,
                    has_checksum: udp.checksum() != 0,
                })
            }
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    const MS: u64 = 1_000_000;

    fn tcp(six: bool) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let builder = if six {
            builder.ipv6([0xfd; 16], [0xfe; 16], 64)
        } else {
            builder.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        };
        let mut bytes = Vec::new();
        builder.tcp(1, 2, 3, 64).write(&mut bytes, b"x").unwrap();
        bytes
    }

    fn udp(six: bool, port: u16, len: usize) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let builder = if six {
            builder.ipv6([0xfd; 16], [0xfe; 16], 64)
        } else {
            builder.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        };
        let mut bytes = Vec::new();
        let payload = vec![7; len];
        builder.udp(port, 2).write(&mut bytes, &payload).unwrap();
        bytes
    }

    fn choose(ways: &mut Ways, frames: &[Vec<u8>], now_ms: u64) -> Vec<bool> {
        let taken = ways.choose(frames.iter().map(Vec::as_slice), now_ms * MS, true);
        (0..frames.len()).map(|n| taken >> n & 1 != 0).collect()
    }

    #[test]
    fn tcp_of_both_families_takes_it_and_nothing_else() {
        let mut ways = Ways::new();
        let mut takes = |frame: &[u8]| ways.choose([frame].into_iter(), 0, true) != 0;
        assert!(takes(&tcp(false)) && takes(&tcp(true)));
        // Protocol, version, fragment, EtherType.
        for (six, at, value) in [
            (false, 23, 1),
            (false, 14, 0x65),
            (false, 20, 0x20),
            (false, 21, 1),
            (false, 12, 0x81),
            (true, 20, 58),
            (true, 20, 44),
            (true, 14, 0x40),
            (true, 13, 0),
        ] {
            let mut frame = tcp(six);
            frame[at] = value;
            assert!(!takes(&frame), "{six} {at} {value}");
        }
        assert!(!takes(&tcp(false)[..33]) && !takes(&[]));
    }

    #[test]
    fn datagrams_that_are_joined_take_it_and_lone_ones_do_not() {
        for six in [false, true] {
            let mut ways = Ways::new();
            let frames = [
                udp(six, 1, 100),
                udp(six, 3, 100),
                udp(six, 1, 100),
                tcp(six),
                udp(six, 1, 50),
            ];
            assert_eq!(
                choose(&mut ways, &frames, 0),
                [true, false, true, true, true]
            );
            // A longer one behind a shorter one, and what has no checksum, join nothing.
            let longer = [udp(six, 4, 50), udp(six, 4, 51)];
            assert_eq!(choose(&mut ways, &longer, 0), [false, false]);
            let mut without = udp(six, 5, 50);
            let at = if six { 60 } else { 40 };
            without[at..at + 2].fill(0);
            let without = [without.clone(), without];
            assert_eq!(choose(&mut ways, &without, 0), [false, false]);
        }
    }

    #[test]
    fn a_tap_that_takes_no_trains_gets_tcp_alone() {
        let mut ways = Ways::new();
        for six in [false, true] {
            let frames = [udp(six, 1, 100), udp(six, 1, 100), tcp(six)];
            let frames = frames.iter().map(Vec::as_slice);
            assert_eq!(ways.choose(frames, 0, false), 0b100);
        }
    }

    #[test]
    fn a_flow_changes_its_way_only_after_silence() {
        let mut ways = Ways::new();
        let (lone, train) = ([udp(false, 1, 9)], [udp(false, 1, 9), udp(false, 1, 9)]);
        assert_eq!(choose(&mut ways, &lone, 0), [false]);
        for now in [0, 100, 300, 500] {
            // Each time it is used, the silence begins again.
            assert_eq!(choose(&mut ways, &train, now), [false, false], "{now}");
        }
        assert_eq!(choose(&mut ways, &train, 703), [true, true]);
        for now in [703, 800, 1000, 1200] {
            assert_eq!(choose(&mut ways, &lone, now), [true], "{now}");
        }
        assert_eq!(choose(&mut ways, &lone, 1403), [false]);
        assert_eq!(choose(&mut ways, &train, 1403), [false, false]);
    }

    #[test]
    fn a_datagram_cut_short_is_of_no_flow() {
        let frame = udp(false, 1, 9);
        let frames = [frame[..41].to_vec(), frame[..41].to_vec()];
        assert_eq!(choose(&mut Ways::new(), &frames, 0), [false, false]);
    }
}
