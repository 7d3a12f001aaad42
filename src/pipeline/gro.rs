//! What [`super::join`] knows of a frame, and whether a TCP segment or a UDP datagram continues another.

use crate::wire::ethernet::{self, EthernetHeader};
use crate::wire::ipv4::{self, Ipv4Header};
use crate::wire::ipv6::{self, Ipv6Header};
use crate::wire::tcp::{self, TcpHeader};
use crate::wire::udp::{self, UdpHeader};
use crate::wire::{checksum, vlan, vnet};

/// What a frame is to the trains of its batch.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Of TCP or UDP behind plain headers.
    Segment(Segment),
    /// Of no flow of these.
    Apart,
    /// Perhaps of such a flow, but of which is not looked for.
    Doubtful,
}

/// A TCP segment or a UDP datagram: headers without tags, options of IP or extension headers, and a frame that ends where it
/// does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    /// A hash of addresses, ports and protocol.
    pub(super) flow: u32,
    /// Of TCP; 0 in a datagram, and so are the flags.
    sequence: u32,
    /// Bytes of the IP packet.
    pub(super) packet_len: u16,
    pub(super) payload_len: u16,
    pub(super) flags: u8,
    /// Whether it has a checksum, which holds.
    pub(super) valid: bool,
    network: Network,
    transport: Transport,
    id: u16,
    df: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    Ipv4,
    Ipv6,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    Udp,
}

const TRANSPORT4: usize = ethernet::LEN + ipv4::LEN;
const TRANSPORT6: usize = ethernet::LEN + ipv6::LEN;

/// Flags that a segment has to itself.
const ALONE: u8 = tcp::SYN | tcp::RST | tcp::URG | tcp::CWR;
/// Flags that end a train.
const ENDING: u8 = tcp::PSH | tcp::FIN;

/// The bits of the headers, TCP options apart, that are the same in all segments of a train. Free are: length,
/// identification and checksum of IPv4; sequence number, PSH and FIN, and checksum of TCP; length and checksum of UDP.
const TCP4: [u8; TRANSPORT4 + tcp::LEN] =
    free_of_tcp(free_of_ipv4([0xff; TRANSPORT4 + tcp::LEN]), TRANSPORT4);
const UDP4: [u8; TRANSPORT4 + udp::LEN] =
    free_of_udp(free_of_ipv4([0xff; TRANSPORT4 + udp::LEN]), TRANSPORT4);
/// The same for IPv6: free is the length.
const TCP6: [u8; TRANSPORT6 + tcp::LEN] =
    free_of_tcp(free_of_ipv6([0xff; TRANSPORT6 + tcp::LEN]), TRANSPORT6);
const UDP6: [u8; TRANSPORT6 + udp::LEN] =
    free_of_udp(free_of_ipv6([0xff; TRANSPORT6 + udp::LEN]), TRANSPORT6);

const fn free_of_ipv4<const N: usize>(mut mask: [u8; N]) -> [u8; N] {
    (mask[16], mask[17], mask[18], mask[19]) = (0, 0, 0, 0);
    (mask[24], mask[25]) = (0, 0);
    mask
}

const fn free_of_ipv6<const N: usize>(mut mask: [u8; N]) -> [u8; N] {
    (mask[18], mask[19]) = (0, 0);
    mask
}

const fn free_of_tcp<const N: usize>(mut mask: [u8; N], transport: usize) -> [u8; N] {
    let mut at = 0;
    while at < 4 {
        mask[transport + tcp::SEQUENCE_OFFSET + at] = 0;
        at += 1;
    }
    mask[transport + tcp::FLAGS_OFFSET] = !ENDING;
    mask[transport + tcp::CHECKSUM_OFFSET] = 0;
    mask[transport + tcp::CHECKSUM_OFFSET + 1] = 0;
    mask
}

const fn free_of_udp<const N: usize>(mut mask: [u8; N], transport: usize) -> [u8; N] {
    let mut at = transport + udp::LEN_OFFSET;
    while at < transport + udp::LEN {
        mask[at] = 0;
        at += 1;
    }
    mask
}

impl Kind {
    /// Reads a frame, payload included: its checksum is judged.
    #[inline(always)]
    pub(super) fn of(frame: &[u8]) -> Self {
        let Some((ethernet, packet)) = EthernetHeader::parse(frame) else {
            return Self::Apart;
        };
        match ethernet.ether_type() {
            ethernet::IPV4 => Self::ipv4(packet),
            ethernet::IPV6 => Self::ipv6(packet),
            tag if vlan::is_tag(tag) => Self::Doubtful,
            _ => Self::Apart,
        }
    }

    #[inline(always)]
    fn ipv4(packet: &[u8]) -> Self {
        let Some((fixed, segment)) = packet.split_first_chunk::<{ ipv4::LEN }>() else {
            return Self::Doubtful;
        };
        let Some(header) = Ipv4Header::parse(fixed) else {
            return Self::Doubtful;
        };
        let Some(transport) = Transport::of(header.protocol()) else {
            return Self::Apart;
        };
        let plain = header.version() == 4
            && header.header_len() == ipv4::LEN
            && header.total_len() == packet.len()
            && header.flags_fragment() & !ipv4::DF == 0
            && checksum::holds(fixed);
        if !plain {
            return Self::Doubtful;
        }
        let (source, destination) = (header.source(), header.destination());
        // As long as the header's 16 bits say.
        let len = segment.len() as u16;
        let pseudo = checksum::pseudo_ipv4(source, destination, transport.protocol(), len);
        let Some(read) = transport.read(segment, pseudo) else {
            return transport.unreadable();
        };
        let [a, b] = [source, destination].map(|address| u64::from(address.to_bits()));
        Self::Segment(Segment {
            flow: flow([a << 32 | b, read.ends]),
            packet_len: packet.len() as u16,
            network: Network::Ipv4,
            id: header.identification(),
            df: header.df(),
            ..read.segment
        })
    }

    #[inline(always)]
    fn ipv6(packet: &[u8]) -> Self {
        const ICMP: u8 = 58;
        let Some(header) = Ipv6Header::parse(packet) else {
            return Self::Doubtful;
        };
        if header.next_header() == ICMP {
            return Self::Apart;
        }
        let segment = packet.get(ipv6::LEN..).unwrap_or(&[]);
        let plain = header.version() == 6
            && header.payload_len() == segment.len()
            && packet.len() <= usize::from(u16::MAX);
        let (Some(transport), true) = (Transport::of(header.next_header()), plain) else {
            return Self::Doubtful;
        };
        let (source, destination) = (header.source(), header.destination());
        let len = segment.len() as u16;
        let pseudo = checksum::pseudo_ipv6(source, destination, transport.protocol(), len);
        let Some(read) = transport.read(segment, pseudo) else {
            return transport.unreadable();
        };
        let [a, b] = [source, destination].map(|address| address.to_bits());
        let [c, d] = [(a >> 64) as u64, (b >> 64) as u64];
        Self::Segment(Segment {
            // Not the label: a sender may change it within a flow.
            flow: flow([a as u64, b as u64, c, d, read.ends]),
            packet_len: packet.len() as u16,
            network: Network::Ipv6,
            ..read.segment
        })
    }
}

/// What the headers of TCP or UDP say of a segment; the rest is still to be told.
struct Read {
    segment: Segment,
    /// Ports and protocol.
    ends: u64,
}

impl Transport {
    #[inline(always)]
    fn of(protocol: u8) -> Option<Self> {
        match protocol {
            tcp::PROTOCOL => Some(Self::Tcp),
            udp::PROTOCOL => Some(Self::Udp),
            _ => None,
        }
    }

    #[inline(always)]
    fn protocol(self) -> u8 {
        match self {
            Self::Tcp => tcp::PROTOCOL,
            Self::Udp => udp::PROTOCOL,
        }
    }

    /// What a segment is that has no whole header. Of TCP it may be a part of anything; a datagram like that has no receiver.
    #[inline(always)]
    fn unreadable(self) -> Kind {
        match self {
            Self::Tcp => Kind::Doubtful,
            Self::Udp => Kind::Apart,
        }
    }

    /// A segment of no more than 65,535 bytes behind a pseudo-header with this sum; `None` when its header is cut short.
    #[inline(always)]
    fn read(self, segment: &[u8], pseudo: u32) -> Option<Read> {
        let right = holds(pseudo, segment);
        let (header_len, sequence, flags, valid, ports) = match self {
            Self::Tcp => {
                let tcp = TcpHeader::parse(segment)
                    .filter(|tcp| (tcp::LEN..=segment.len()).contains(&tcp.header_len()))?;
                let ports = (tcp.source_port(), tcp.destination_port());
                (tcp.header_len(), tcp.sequence(), tcp.flags(), right, ports)
            }
            Self::Udp => {
                let udp = UdpHeader::parse(segment)?;
                let whole = udp.len() == segment.len() && udp.checksum() != 0;
                let ports = (udp.source_port(), udp.destination_port());
                (udp::LEN, 0, 0, right && whole, ports)
            }
        };
        Some(Read {
            segment: Segment {
                flow: 0,
                sequence,
                packet_len: 0,
                payload_len: (segment.len() - header_len) as u16,
                flags,
                valid,
                network: Network::Ipv4,
                transport: self,
                id: 0,
                df: false,
            },
            ends: u64::from(self.protocol()) << 32 | u64::from(ports.0) << 16 | u64::from(ports.1),
        })
    }
}

#[inline(always)]
fn holds(pseudo: u32, segment: &[u8]) -> bool {
    checksum::fold(pseudo + checksum::sum(segment)) == 0xffff
}

/// A hash, to tell flows apart for the length of a batch: nothing depends on its being good but how much is joined.
#[inline(always)]
fn flow<const N: usize>(words: [u64; N]) -> u32 {
    // 2^64 divided by the golden ratio.
    let mix = |hash: u64, word: u64| {
        let product = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        product ^ product >> 32
    };
    words.into_iter().fold(0, mix) as u32
}

impl Segment {
    /// Whether others may join it.
    #[inline(always)]
    pub(super) fn may_lead(&self) -> bool {
        self.valid && self.payload_len > 0 && self.flags & (ALONE | ENDING) == 0
    }

    /// Whether its headers are those of `head`, as far as they have to be; `mine` and `first` are the frames of both.
    #[inline(always)]
    pub(super) fn may_follow(&self, head: &Self, mine: &[u8], first: &[u8]) -> bool {
        let plain = self.valid && self.payload_len > 0 && self.flags & ALONE == 0;
        if !plain || self.network != head.network || self.transport != head.transport {
            return false;
        }
        let same = match (self.network, self.transport) {
            (Network::Ipv4, Transport::Tcp) => agree(&TCP4, mine, first),
            (Network::Ipv6, Transport::Tcp) => agree(&TCP6, mine, first),
            (Network::Ipv4, Transport::Udp) => return agree(&UDP4, mine, first),
            (Network::Ipv6, Transport::Udp) => return agree(&UDP6, mine, first),
        };
        // The length of the options is part of what is the same.
        let options = self.transport() + tcp::LEN..self.headers_len();
        same && mine.get(options.clone()) == first.get(options)
    }

    /// Whether it is what comes behind `carried` bytes of payload from `head` on. Datagrams are not numbered.
    #[inline(always)]
    pub(super) fn is_next(&self, head: &Self, carried: u32) -> bool {
        self.transport == Transport::Udp || self.sequence == head.sequence.wrapping_add(carried)
    }

    /// Whether a train of `frames` frames behind this one, with `fixed` identifications or not, stays so when `next` joins:
    /// what it is then, or `None`. The second frame decides (`inet_gro_flush`).
    #[inline(always)]
    pub(super) fn ids_fixed(&self, next: &Self, frames: u8, fixed: bool) -> Option<bool> {
        if self.network == Network::Ipv6 {
            return Some(false);
        }
        let distance = next.id.wrapping_sub(self.id);
        let fixed = fixed || (frames == 1 && self.df && distance == 0);
        let expected = if fixed { 0 } else { u16::from(frames) };
        (distance == expected).then_some(fixed)
    }

    /// Where the header of TCP or UDP starts.
    #[inline(always)]
    pub(super) fn transport(&self) -> usize {
        match self.network {
            Network::Ipv4 => TRANSPORT4,
            Network::Ipv6 => TRANSPORT6,
        }
    }

    /// Bytes of all headers.
    #[inline(always)]
    pub(super) fn headers_len(&self) -> usize {
        ethernet::LEN + self.packet_headers_len() as usize
    }

    /// Bytes of the headers of IP, and of TCP or UDP.
    #[inline(always)]
    pub(super) fn packet_headers_len(&self) -> u32 {
        u32::from(self.packet_len - self.payload_len)
    }

    /// What a train of such segments is to a TAP.
    #[inline(always)]
    pub(super) fn gso_type(&self) -> u8 {
        match (self.transport, self.network) {
            (Transport::Tcp, Network::Ipv4) => vnet::GSO_TCPV4,
            (Transport::Tcp, Network::Ipv6) => vnet::GSO_TCPV6,
            (Transport::Udp, _) => vnet::GSO_UDP_L4,
        }
    }

    /// Where the checksum is, from [`Self::transport`] on.
    #[inline(always)]
    pub(super) fn checksum_offset(&self) -> usize {
        match self.transport {
            Transport::Tcp => tcp::CHECKSUM_OFFSET,
            Transport::Udp => udp::CHECKSUM_OFFSET,
        }
    }

    /// Makes its headers, at the start of `frame`, those of a superframe: an IP packet of `packet_len` bytes that ends with
    /// these flags. Its checksum of TCP or UDP is left to be finished.
    #[inline(always)]
    pub(super) fn lead(&self, frame: &mut [u8], packet_len: u32, ending: u8) {
        // Never more than the 16 bits of the longest.
        let packet_len = packet_len as u16;
        let Some(packet) = frame.get_mut(ethernet::LEN..) else {
            return;
        };
        let protocol = self.transport.protocol();
        let (network_len, len, pseudo) = match self.network {
            Network::Ipv4 => {
                ipv4::set_total_len(packet, packet_len);
                let len = packet_len - ipv4::LEN as u16;
                let pseudo = Ipv4Header::parse(packet).map(|header| {
                    let (source, destination) = (header.source(), header.destination());
                    checksum::pseudo_ipv4(source, destination, protocol, len)
                });
                (ipv4::LEN, len, pseudo)
            }
            Network::Ipv6 => {
                let len = packet_len - ipv6::LEN as u16;
                ipv6::set_payload_len(packet, len);
                let pseudo = Ipv6Header::parse(packet).map(|header| {
                    let (source, destination) = (header.source(), header.destination());
                    checksum::pseudo_ipv6(source, destination, protocol, len)
                });
                (ipv6::LEN, len, pseudo)
            }
        };
        let segment = packet.get_mut(network_len..).unwrap_or(&mut []);
        let unfinished = checksum::fold(pseudo.unwrap_or(0));
        match self.transport {
            Transport::Tcp => {
                if let Some(flags) = segment.get_mut(tcp::FLAGS_OFFSET) {
                    *flags |= ending;
                }
                tcp::set_checksum(segment, unfinished);
            }
            Transport::Udp => {
                udp::set_len(segment, len);
                udp::set_checksum(segment, unfinished);
            }
        }
    }
}

/// Whether both start with the same bits under the mask.
#[inline(always)]
fn agree<const N: usize>(mask: &[u8; N], one: &[u8], other: &[u8]) -> bool {
    let (Some(one), Some(other)) = (one.first_chunk::<N>(), other.first_chunk::<N>()) else {
        return false;
    };
    // No early way out: so it is a few vector operations.
    let pairs = one.iter().zip(other).zip(mask);
    pairs.fold(0, |differing, ((a, b), mask)| differing | (a ^ b) & mask) == 0
}
