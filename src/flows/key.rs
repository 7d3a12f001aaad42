//! The name of a flow.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::wire::checksum;
use crate::wire::ethernet::{self, EthernetHeader};
use crate::wire::ipv4::{self, Ipv4Header};
use crate::wire::ipv6::{self, Ipv6Header};
use crate::wire::layers::Layers;

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Where a TCP header has its flags, and of these FIN, SYN and RST.
const TCP_FLAGS_AT: usize = 13;
const BEGINS_OR_ENDS: u8 = 0x07;

/// `sizeof(struct flow_key)` and `sizeof(struct flow_ends)` of `bpf/direct.h`.
pub const KEY_LEN: usize = 16;
const ENDS_LEN: usize = 32;
/// Of both TCP and UDP headers: the ports and four bytes more.
const PORTS_LEN: usize = 8;

/// What nobody outside knows, and flows are hashed with: so nobody can choose which of them meet in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed {
    /// Of the hash.
    pub hash: u64,
    /// Of IPv6 addresses' short names.
    pub fold: [u64; 4],
}

impl Seed {
    /// Five random numbers.
    pub fn draw(mut random: impl FnMut() -> u64) -> Self {
        Self {
            hash: random(),
            fold: std::array::from_fn(|_| random()),
        }
    }

    /// An IPv6 address as 32 bits of a key: `fold_address` of `bpf/direct.h`.
    #[inline]
    fn fold(&self, address: Ipv6Addr) -> u32 {
        let octets = address.octets();
        let mut words = octets.as_chunks::<4>().0.iter();
        let [a, b, c, d] = self.fold.map(|seed| {
            let word = words.next().copied().map_or(0, u32::from_ne_bytes);
            seed.wrapping_add(word.into())
        });
        (a.wrapping_mul(b).wrapping_add(c.wrapping_mul(d)) >> 32) as u32
    }
}

/// Which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From a pod of this node to the underlay.
    Out,
    /// From the underlay to a pod of this node.
    In,
}

/// A flow's inner 5-tuple: TCP or UDP. `local` is the end on this node, and both are of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    /// The pod's address and port.
    pub local: SocketAddr,
    /// The other end's.
    pub remote: SocketAddr,
    /// IANA protocol number.
    pub protocol: u8,
}

impl FlowKey {
    /// The flow of an inner frame that goes this way. None of those that never go direct: tagged ones, fragments, options and
    /// extension headers, other protocols.
    #[inline]
    pub fn of(frame: &[u8], way: Way) -> Option<Self> {
        let Some(layers) = Layers::plain(frame) else {
            return Self::of_ipv6(frame, way);
        };
        let transport = layers.transport.as_ref()?;
        let ip = Ipv4Header::parse(frame.get(ethernet::LEN..)?)?;
        let ends = [IpAddr::V4(ip.source()), IpAddr::V4(ip.destination())];
        let ports = frame.get(transport.offset..)?;
        Self::between(ends, ports, transport.protocol, way)
    }

    fn of_ipv6(frame: &[u8], way: Way) -> Option<Self> {
        let (ethernet, packet) = EthernetHeader::parse(frame)?;
        let ip = Ipv6Header::parse(packet)?;
        let payload = packet.get(ipv6::LEN..)?;
        let is_plain = ethernet.ether_type() == ethernet::IPV6
            && ip.version() == 6
            && (PORTS_LEN..=payload.len()).contains(&ip.payload_len());
        let ends = [IpAddr::V6(ip.source()), IpAddr::V6(ip.destination())];
        let key = Self::between(ends, payload, ip.next_header(), way);
        key.filter(|_| is_plain)
    }

    #[inline(always)]
    fn between(
        [source, destination]: [IpAddr; 2],
        transport: &[u8],
        protocol: u8,
        way: Way,
    ) -> Option<Self> {
        if !matches!(protocol, TCP | UDP) {
            return None;
        }
        let [a, b, c, d] = *transport.first_chunk::<4>()?;
        let source = SocketAddr::new(source, u16::from_be_bytes([a, b]));
        let destination = SocketAddr::new(destination, u16::from_be_bytes([c, d]));
        let (local, remote) = match way {
            Way::Out => (source, destination),
            Way::In => (destination, source),
        };
        Some(Self {
            local,
            remote,
            protocol,
        })
    }

    /// Whether it is TCP, which conntrack follows by sequence numbers.
    pub fn is_tcp(&self) -> bool {
        self.protocol == TCP
    }

    /// Whether a frame of it begins or ends a connection. Such a one never goes direct, and demotes its flow: it is none to promote
    /// it by.
    pub fn begins_or_ends(&self, frame: &[u8]) -> bool {
        let header = match self.local.ip() {
            IpAddr::V4(_) => ipv4::LEN,
            IpAddr::V6(_) => ipv6::LEN,
        };
        let flags = frame.get(ethernet::LEN + header + TCP_FLAGS_AT);
        self.is_tcp() && flags.is_some_and(|flags| flags & BEGINS_OR_ENDS != 0)
    }

    /// As `struct flow_key` in memory.
    #[inline]
    pub fn bytes(&self, seed: &Seed) -> [u8; KEY_LEN] {
        let short = |addr| match addr {
            IpAddr::V4(addr) => addr.octets(),
            IpAddr::V6(addr) => seed.fold(addr).to_ne_bytes(),
        };
        let [a, b, c, d] = short(self.local.ip());
        let [e, f, g, h] = short(self.remote.ip());
        let [i, j] = self.local.port().to_be_bytes();
        let [k, l] = self.remote.port().to_be_bytes();
        let six = u8::from(self.local.is_ipv6());
        [a, b, c, d, e, f, g, h, i, j, k, l, self.protocol, six, 0, 0]
    }

    /// As `struct flow_ends` in memory: all of both addresses, of IPv6; zeros of IPv4, of which the key has all.
    pub fn ends(&self) -> [u8; ENDS_LEN] {
        let mut ends = [0; ENDS_LEN];
        for (half, end) in ends.chunks_mut(ENDS_LEN / 2).zip([self.local, self.remote]) {
            if let IpAddr::V6(addr) = end.ip() {
                half.copy_from_slice(&addr.octets());
            }
        }
        ends
    }

    /// The same as two words, as the programs compare them.
    #[inline]
    pub fn words(&self, seed: &Seed) -> [u64; 2] {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.bytes(seed);
        let first = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        [first, u64::from_ne_bytes(rest)]
    }

    /// Every bit of the key reaches every bit of the result: `flow_hash` of `bpf/direct.h`.
    #[inline]
    pub fn hash(&self, seed: &Seed) -> u32 {
        let [first, second] = self.words(seed);
        let mut hash = (first ^ seed.hash).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash = ((hash ^ (hash >> 32)) ^ second).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (hash >> 32) as u32
    }

    /// What its inner packets add up to (RFC 1071), but for what differs from frame to frame: `udp_checksum` of
    /// `bpf/direct.bpf.c`, which says why, adds that.
    pub fn packet_sum(&self) -> u32 {
        let protocol = u32::from(self.protocol);
        match (self.local.ip(), self.remote.ip()) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                let pseudo = checksum::pseudo_ipv4(local, remote, self.protocol, 0);
                u32::from(!checksum::fold(pseudo))
            }
            _ => (protocol << 8) + u32::from(!checksum::fold(protocol)),
        }
    }
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.is_tcp() { "tcp" } else { "udp" };
        write!(f, "{protocol} {} {}", self.local, self.remote)
    }
}

#[cfg(test)]
pub(in crate::flows) mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    pub fn key(last: u8, port: u16) -> FlowKey {
        FlowKey {
            local: SocketAddr::new([10, 244, 0, last].into(), port),
            remote: SocketAddr::new([10, 244, 1, 13].into(), 80),
            protocol: UDP,
        }
    }

    pub fn seed(number: u64) -> Seed {
        let mut next = number;
        Seed::draw(|| {
            next = next.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            next
        })
    }

    fn key6(local: u128, remote: u128) -> FlowKey {
        FlowKey {
            local: SocketAddr::new(Ipv6Addr::from(local).into(), 1000),
            remote: SocketAddr::new(Ipv6Addr::from(remote).into(), 2000),
            protocol: UDP,
        }
    }

    fn frame(six: bool, tcp: bool) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let ip = if six {
            ethernet.ipv6([0xfd; 16], [0xfe; 16], 64)
        } else {
            ethernet.ipv4([10, 244, 0, 5], [10, 244, 1, 7], 64)
        };
        let mut bytes = Vec::new();
        if tcp {
            ip.tcp(1000, 2000, 3, 64).write(&mut bytes, b"x").unwrap();
        } else {
            ip.udp(1000, 2000).write(&mut bytes, b"x").unwrap();
        }
        bytes
    }

    #[test]
    fn a_segment_that_begins_or_ends_a_connection_is_told_from_others() {
        for (six, at) in [(false, 47), (true, 67)] {
            let key = |frame: &[u8]| FlowKey::of(frame, Way::Out).unwrap();
            let mut segment = frame(six, true);
            let of = key(&segment);
            for (flags, expected) in [
                (0x10, false),
                (0x18, false),
                (2, true),
                (0x11, true),
                (4, true),
            ] {
                segment[at] = flags;
                assert_eq!(of.begins_or_ends(&segment), expected, "{flags:#x}");
            }
            assert!(!of.begins_or_ends(&[]));
            let mut datagram = frame(six, false);
            let of = key(&datagram);
            datagram.extend([0xff; 40]);
            assert!(!of.begins_or_ends(&datagram));
        }
    }

    #[test]
    fn both_directions_of_a_flow_have_one_key() {
        for (six, tcp) in [(false, false), (false, true), (true, false), (true, true)] {
            let out = FlowKey::of(&frame(six, tcp), Way::Out).unwrap();
            let ends: [SocketAddr; 2] = if six {
                [
                    SocketAddr::new(Ipv6Addr::from([0xfd; 16]).into(), 1000),
                    SocketAddr::new(Ipv6Addr::from([0xfe; 16]).into(), 2000),
                ]
            } else {
                ["10.244.0.5:1000", "10.244.1.7:2000"].map(|end| end.parse().unwrap())
            };
            assert_eq!([out.local, out.remote], ends);
            assert_eq!(out.is_tcp(), tcp);
            let back = FlowKey::of(&frame(six, tcp), Way::In).unwrap();
            assert_eq!((back.local, back.remote), (out.remote, out.local));
        }
        assert_eq!(FlowKey::of(&frame(false, true)[..40], Way::Out), None);
        assert_eq!(FlowKey::of(&frame(true, false)[..61], Way::Out), None);
        assert_eq!(FlowKey::of(&[], Way::In), None);
    }

    #[test]
    fn what_never_goes_direct_has_no_key() {
        let mut icmp = frame(false, false);
        icmp[23] = 1;
        assert_eq!(FlowKey::of(&icmp, Way::Out), None);
        // Neighbour discovery, an extension header, another version, a payload that is longer than the frame, and none.
        for (at, value) in [(20, 58), (20, 0), (20, 44), (14, 0x40), (19, 77), (19, 7)] {
            let mut other = frame(true, false);
            other[at] = value;
            assert_eq!(FlowKey::of(&other, Way::Out), None, "{at}: {value}");
        }
    }

    #[test]
    fn the_hash_reaches_all_bits_and_depends_on_the_seed() {
        let of = |keys: &mut dyn Iterator<Item = FlowKey>| {
            let hashes = keys.map(|key| key.hash(&seed(7)) % 1024);
            hashes.collect::<std::collections::BTreeSet<u32>>().len()
        };
        for hashes in [
            of(&mut (0..1000).map(|port| key(1, port))),
            of(&mut (0..1000).map(|end| key6(end, 1))),
            of(&mut (0..1000).map(|end| key6(1, end << 64))),
        ] {
            assert!(hashes > 580, "{hashes} of 1024");
        }
        for key in [key(1, 1), key6(1, 1)] {
            assert_ne!(key.hash(&seed(1)), key.hash(&seed(2)));
        }
    }

    #[test]
    fn addresses_that_meet_under_one_seed_part_under_another() {
        let short = |number, addr: u128| seed(number).fold(addr.into());
        // Among 2^17 addresses two pairs are to be expected.
        let mut met = std::collections::BTreeMap::new();
        let addresses = (0..1u128 << 20).map(|n| n.wrapping_mul((u128::MAX / 25 * 9) | 1));
        let mut pairs =
            addresses.filter_map(|addr| Some((met.insert(short(1, addr), addr)?, addr)));
        let (one, other) = pairs.next().expect("they are many");
        assert_eq!(key6(one, 5).bytes(&seed(1)), key6(other, 5).bytes(&seed(1)));
        assert_ne!(key6(one, 5).ends(), key6(other, 5).ends());
        assert_ne!(short(2, one), short(2, other));
    }

    #[test]
    fn ipv4_and_ipv6_have_keys_of_their_own() {
        let four = key(5, 1000);
        assert_eq!(
            four.bytes(&seed(1)),
            [10, 244, 0, 5, 10, 244, 1, 13, 3, 232, 0, 80, 17, 0, 0, 0]
        );
        assert_eq!(four.ends(), [0; 32]);
        let six = key6(1, 2);
        assert_eq!(six.bytes(&seed(1))[8..], [3, 232, 7, 208, 17, 1, 0, 0]);
        let ends = six.ends();
        assert_eq!((ends[15], ends[31]), (1, 2));
    }
}
