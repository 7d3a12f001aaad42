//! The name of a flow.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::wire::ethernet;
use crate::wire::ipv4::Ipv4Header;
use crate::wire::layers::Layers;

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Where a TCP header has its flags, and of these FIN, SYN and RST.
const TCP_FLAGS_AT: usize = 13;
const BEGINS_OR_ENDS: u8 = 0x07;

/// `sizeof(struct flow_key)` of `bpf/direct.h`.
pub const KEY_LEN: usize = 16;

/// Which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From a pod of this node to the underlay.
    Out,
    /// From the underlay to a pod of this node.
    In,
}

/// A flow's inner 5-tuple: TCP or UDP over IPv4. `local` is the end on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    /// The pod's address and port.
    pub local: SocketAddrV4,
    /// The other end's.
    pub remote: SocketAddrV4,
    /// IANA protocol number.
    pub protocol: u8,
}

impl FlowKey {
    /// The flow of an inner frame that goes this way. None of those that never go direct: tagged ones, fragments, options,
    /// other protocols, IPv6.
    #[inline]
    pub fn of(frame: &[u8], way: Way) -> Option<Self> {
        let layers = Layers::plain(frame)?;
        let transport = layers.transport.as_ref()?;
        if !matches!(transport.protocol, TCP | UDP) {
            return None;
        }
        let ip = Ipv4Header::parse(frame.get(ethernet::LEN..)?)?;
        let [a, b, c, d] = *frame.get(transport.offset..)?.first_chunk::<4>()?;
        let source = SocketAddrV4::new(ip.source(), u16::from_be_bytes([a, b]));
        let destination = SocketAddrV4::new(ip.destination(), u16::from_be_bytes([c, d]));
        let (local, remote) = match way {
            Way::Out => (source, destination),
            Way::In => (destination, source),
        };
        Some(Self {
            local,
            remote,
            protocol: transport.protocol,
        })
    }

    /// Whether it is TCP, which conntrack follows by sequence numbers.
    pub fn is_tcp(&self) -> bool {
        self.protocol == TCP
    }

    /// As `struct flow_key` in memory.
    #[inline]
    pub fn bytes(&self) -> [u8; KEY_LEN] {
        let [a, b, c, d] = self.local.ip().octets();
        let [e, f, g, h] = self.remote.ip().octets();
        let [i, j] = self.local.port().to_be_bytes();
        let [k, l] = self.remote.port().to_be_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, self.protocol, 0, 0, 0]
    }

    /// The same as two words, as the programs compare them.
    #[inline]
    pub fn words(&self) -> [u64; 2] {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.bytes();
        let first = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        [first, u64::from_ne_bytes(rest)]
    }

    /// Every bit of the key reaches every bit of the result: `flow_hash` of `bpf/direct.h`.
    #[inline]
    pub fn hash(&self, seed: u64) -> u32 {
        let [first, second] = self.words();
        let mut hash = (first ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash = ((hash ^ (hash >> 32)) ^ second).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (hash >> 32) as u32
    }

    /// The addresses and the protocol as the inner pseudo-header has them, summed.
    pub fn pseudo_sum(&self) -> u32 {
        let (local, remote): (Ipv4Addr, Ipv4Addr) = (*self.local.ip(), *self.remote.ip());
        crate::wire::checksum::pseudo_ipv4(local, remote, self.protocol, 0)
    }
}

/// Whether an inner frame is a TCP segment that begins or ends a connection. Such a one never goes direct, and demotes its flow:
/// it is none to promote it by.
pub fn begins_or_ends(frame: &[u8]) -> bool {
    let transport = Layers::plain(frame).and_then(|layers| layers.transport);
    transport.is_some_and(|transport| {
        let flags = frame.get(transport.offset + TCP_FLAGS_AT);
        transport.protocol == TCP && flags.is_some_and(|flags| flags & BEGINS_OR_ENDS != 0)
    })
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.is_tcp() { "tcp" } else { "udp" };
        write!(f, "{protocol} {} {}", self.local, self.remote)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    pub fn key(last: u8, port: u16) -> FlowKey {
        FlowKey {
            local: SocketAddrV4::new([10, 244, 0, last].into(), port),
            remote: SocketAddrV4::new([10, 244, 1, 13].into(), 80),
            protocol: UDP,
        }
    }

    fn frame(tcp: bool) -> Vec<u8> {
        let ip =
            PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 244, 0, 5], [10, 244, 1, 7], 64);
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
        for (flags, expected) in [
            (0x10, false),
            (0x18, false),
            (2, true),
            (0x11, true),
            (4, true),
        ] {
            let mut segment = frame(true);
            segment[47] = flags;
            assert_eq!(begins_or_ends(&segment), expected, "{flags:#x}");
        }
        let mut datagram = frame(false);
        datagram.extend([0xff; 20]);
        assert!(!begins_or_ends(&datagram));
        assert!(!begins_or_ends(&[]));
    }

    #[test]
    fn both_directions_of_a_flow_have_one_key() {
        for tcp in [false, true] {
            let out = FlowKey::of(&frame(tcp), Way::Out).unwrap();
            assert_eq!(out.local, "10.244.0.5:1000".parse().unwrap());
            assert_eq!(out.remote, "10.244.1.7:2000".parse().unwrap());
            assert_eq!(out.is_tcp(), tcp);
            let back = FlowKey::of(&frame(tcp), Way::In).unwrap();
            assert_eq!((back.local, back.remote), (out.remote, out.local));
        }
        let mut icmp = frame(false);
        icmp[23] = 1;
        assert_eq!(FlowKey::of(&icmp, Way::Out), None);
        assert_eq!(FlowKey::of(&frame(true)[..40], Way::Out), None);
        assert_eq!(FlowKey::of(&[], Way::In), None);
    }

    #[test]
    fn the_hash_reaches_all_bits_and_depends_on_the_seed() {
        let hashes: std::collections::BTreeSet<u32> =
            (0..1000).map(|port| key(1, port).hash(7) % 1024).collect();
        assert!(hashes.len() > 580, "{} of 1024", hashes.len());
        assert_ne!(key(1, 1).hash(1), key(1, 1).hash(2));
    }
}
