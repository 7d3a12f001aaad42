//! One recorded frame: where its signature goes, and what that changes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::engine::Tag;
use super::super::headers::{ETHERNET_LEN, Transport};
use super::super::range::Mac;
use super::super::signature::{self, Signature};

/// `FRAME_MAX` of `bpf/loadgen.h`: a sink looks into no longer one.
const LEN_MAX: usize = 9216;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const UDP_LEN: usize = 8;
const VXLAN_LEN: usize = 8;
/// The flag of a VXLAN header that says that there is a VNI (RFC 7348 §5).
const VXLAN_I: u8 = 0x08;
/// More fragments, and the offset of this one.
const FRAGMENT: u16 = 0x3fff;

/// Why a frame is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeftOut {
    /// Not captured in full.
    Truncated,
    /// Longer than a sink looks.
    Long,
    /// Another EtherType, or a VLAN tag.
    NotIp,
    /// IPv4 options, or IPv6 extension headers.
    Options,
    /// A part of a packet.
    Fragment,
    /// Not UDP, TCP or ICMP.
    Protocol,
    /// Lengths that contradict each other.
    Lengths,
    /// Less than 16 bytes behind the transport header.
    Short,
}

impl LeftOut {
    /// What is the matter, as in "3 ...".
    pub const fn words(self) -> &'static str {
        match self {
            Self::Truncated => "not captured in full",
            Self::Long => "longer than 9216 bytes",
            Self::NotIp => "neither IPv4 nor IPv6, or with a VLAN tag",
            Self::Options => "with IPv4 options or IPv6 extension headers",
            Self::Fragment => "fragments",
            Self::Protocol => "neither UDP, TCP nor ICMP",
            Self::Lengths => "with lengths that contradict each other",
            Self::Short => "with less than 16 bytes of payload, no room for a signature",
        }
    }
}

/// What is changed in every frame, besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewrite {
    /// The (outer) Ethernet source.
    pub source_mac: Option<Mac>,
    /// The (outer) Ethernet destination.
    pub destination_mac: Option<Mac>,
    /// The inner Ethernet destination that frames arrive with, if it is another than they are sent with.
    pub arrival_mac: Option<Mac>,
    /// The UDP port behind which a frame is encapsulated.
    pub vxlan_port: u16,
}

/// A frame that can be sent. Its checksums are right, with zeros where the signature goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// From the first frame's time.
    pub at_ns: u64,
    bytes: Box<[u8]>,
    signature_at: usize,
    /// Whether an odd number of bytes is between transport header and signature.
    odd: bool,
    /// What a signature's check takes from all but the signature.
    check: u16,
    checksum: Option<Checksum>,
}

/// The one checksum that the signature changes: the inner transport's, which makes up for it in the sum of the outer UDP
/// header. Where inner UDP has none, it is the outer one, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Checksum {
    at: usize,
    udp: bool,
}

impl Recorded {
    /// Judges a frame.
    ///
    /// # Errors
    /// [`LeftOut`] when it cannot carry a signature that a sink would find.
    pub fn new(bytes: &[u8], original_len: u32, rewrite: &Rewrite) -> Result<Self, LeftOut> {
        if (bytes.len() as u64) < u64::from(original_len) {
            return Err(LeftOut::Truncated);
        }
        if bytes.len() > LEN_MAX {
            return Err(LeftOut::Long);
        }
        let mut bytes: Box<[u8]> = bytes.into();
        for (at, mac) in [(0, rewrite.destination_mac), (6, rewrite.source_mac)] {
            if let (Some(field), Some(mac)) = (bytes.get_mut(at..at + 6), mac) {
                field.copy_from_slice(&mac.0);
            }
        }
        let outer = Packet::read(&bytes, 0)?;
        let inner = match outer.inner_at(&bytes, rewrite.vxlan_port) {
            Some(at) => Some(Packet::read(
                bytes.get(..outer.end).unwrap_or_default(),
                at,
            )?),
            None => None,
        };
        let signed = inner.unwrap_or(outer);
        let signature_at = signed.end - signature::LEN.min(signed.end);
        if signature_at < signed.payload {
            return Err(LeftOut::Short);
        }
        if let Some(place) = bytes.get_mut(signature_at..signed.end) {
            place.fill(0);
        }
        let mut checksum = signed.make_right(&mut bytes);
        if inner.is_some() {
            let outer = outer.make_right(&mut bytes);
            checksum = checksum.or(outer);
        }
        Ok(Self {
            at_ns: 0,
            signature_at,
            odd: (signature_at - signed.payload) % 2 == 1,
            check: signed.check(&bytes, rewrite.arrival_mac),
            checksum,
            bytes,
        })
    }

    /// Bytes of the frame, without FCS.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: there are headers.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes it with a signature over the start of `frame`; how many bytes it has. None when there is no room.
    pub fn write(&self, tag: Tag, frame: &mut [u8]) -> Option<usize> {
        let frame = frame.get_mut(..self.bytes.len())?;
        frame.copy_from_slice(&self.bytes);
        // Behind an odd number of bytes, those of a word change places in the sum.
        let placed = |sum: u16| if self.odd { sum.swap_bytes() } else { sum };
        let mut mark = Signature {
            stream: tag.stream,
            sequence: tag.sequence,
            check: 0,
            intended_ns: tag.intended_ns,
        };
        let sum = placed(fold(&[&mark.to_bytes()]));
        mark.check = add(self.check, sum);
        let place = frame.get_mut(self.signature_at..self.signature_at + signature::LEN)?;
        place.copy_from_slice(&mark.to_bytes());
        if let Some(Checksum { at, udp }) = self.checksum {
            let field = frame.get_mut(at..)?.first_chunk_mut::<2>()?;
            let added = add(sum, placed(mark.check));
            *field = finished(add(!u16::from_be_bytes(*field), added), udp);
        }
        Some(self.bytes.len())
    }

    /// All its IP addresses.
    pub fn addresses(&self, vxlan_port: u16) -> Vec<IpAddr> {
        // It was read before: it can be read.
        let outer = Packet::read(&self.bytes, 0).ok();
        let inner = outer.and_then(|outer| {
            let at = outer.inner_at(&self.bytes, vxlan_port)?;
            Packet::read(&self.bytes, at).ok()
        });
        let packets = [outer, inner].into_iter().flatten();
        packets
            .flat_map(|packet| packet.addresses(&self.bytes))
            .collect()
    }
}

/// Where the parts of an IP packet in an Ethernet frame are.
#[derive(Debug, Clone, Copy)]
struct Packet {
    ethernet: usize,
    ip: usize,
    six: bool,
    transport: Transport,
    transport_at: usize,
    payload: usize,
    /// Of the IP packet: behind it there may be padding.
    end: usize,
}

impl Packet {
    /// Of the frame that starts at `ethernet`.
    fn read(bytes: &[u8], ethernet: usize) -> Result<Self, LeftOut> {
        let ip = ethernet + usize::from(ETHERNET_LEN);
        let word = |at: usize| {
            bytes
                .get(at..)?
                .first_chunk::<2>()
                .copied()
                .map(u16::from_be_bytes)
        };
        let byte = |at: usize| bytes.get(at).copied().ok_or(LeftOut::Lengths);
        let (six, protocol, transport_at, end) = match word(ip - 2) {
            Some(0x0800) => {
                if byte(ip)? != 0x45 {
                    return Err(LeftOut::Options);
                }
                if word(ip + 6).ok_or(LeftOut::Lengths)? & FRAGMENT != 0 {
                    return Err(LeftOut::Fragment);
                }
                let len = word(ip + 2).ok_or(LeftOut::Lengths)?;
                (false, byte(ip + 9)?, ip + IPV4_LEN, ip + usize::from(len))
            }
            Some(0x86dd) => {
                let len = word(ip + 4).ok_or(LeftOut::Lengths)?;
                let end = ip + IPV6_LEN + usize::from(len);
                (true, byte(ip + 6)?, ip + IPV6_LEN, end)
            }
            _ => return Err(LeftOut::NotIp),
        };
        let transport = match (protocol, six) {
            (17, _) => Transport::Udp,
            (6, _) => Transport::Tcp,
            (1, false) | (58, true) => Transport::Icmp,
            (0 | 43 | 44 | 51 | 60, true) => return Err(LeftOut::Options),
            _ => return Err(LeftOut::Protocol),
        };
        let payload = transport_at + usize::from(transport.header_len());
        if end > bytes.len() || payload > end {
            return Err(LeftOut::Lengths);
        }
        let udp_len = word(transport_at + 4).map(usize::from);
        if transport == Transport::Udp && udp_len != Some(end - transport_at) {
            return Err(LeftOut::Lengths);
        }
        Ok(Self {
            ethernet,
            ip,
            six,
            transport,
            transport_at,
            payload,
            end,
        })
    }

    /// Where the frame within it starts, if it is encapsulated.
    fn inner_at(&self, bytes: &[u8], vxlan_port: u16) -> Option<usize> {
        let port = bytes.get(self.transport_at + 2..)?.first_chunk::<2>()?;
        let flags = bytes.get(self.payload)?;
        let vxlan = self.transport == Transport::Udp
            && u16::from_be_bytes(*port) == vxlan_port
            && flags & VXLAN_I != 0;
        vxlan.then_some(self.transport_at + UDP_LEN + VXLAN_LEN)
    }

    fn source_and_destination<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let (at, len) = if self.six { (8, 32) } else { (12, 8) };
        bytes
            .get(self.ip + at..self.ip + at + len)
            .unwrap_or_default()
    }

    fn addresses(&self, bytes: &[u8]) -> Vec<IpAddr> {
        let both = self.source_and_destination(bytes);
        if self.six {
            let (each, _) = both.as_chunks::<16>();
            each.iter()
                .map(|octets| Ipv6Addr::from(*octets).into())
                .collect()
        } else {
            let (each, _) = both.as_chunks::<4>();
            each.iter()
                .map(|octets| Ipv4Addr::from(*octets).into())
                .collect()
        }
    }

    /// Computes the checksums of the headers; the transport's, if there is one.
    fn make_right(&self, bytes: &mut [u8]) -> Option<Checksum> {
        if !self.six {
            put(bytes, self.ip + 10, [0; 2]);
            let header = bytes.get(self.ip..self.ip + IPV4_LEN).unwrap_or_default();
            let sum = fold(&[header]);
            put(bytes, self.ip + 10, finished(sum, false));
        }
        let at = self.transport_at + usize::from(self.transport.checksum_at());
        let udp = self.transport == Transport::Udp;
        if udp && bytes.get(at..at + 2) == Some(&[0; 2]) {
            return None;
        }
        put(bytes, at, [0; 2]);
        let packet = bytes.get(self.transport_at..self.end).unwrap_or_default();
        let protocol: u8 = match self.transport {
            Transport::Udp => 17,
            Transport::Tcp => 6,
            Transport::Icmp => 58,
        };
        let mut sum = fold(&[packet]);
        if self.transport != Transport::Icmp || self.six {
            let len = (packet.len() as u32).to_be_bytes();
            let addresses = self.source_and_destination(bytes);
            sum = add(sum, fold(&[addresses, &len, &[0, protocol]]));
        }
        put(bytes, at, finished(sum, udp));
        Some(Checksum { at, udp })
    }

    /// What a signature's check takes from it.
    fn check(&self, bytes: &[u8], arrival_mac: Option<Mac>) -> u16 {
        let part = |from: usize, to: usize| bytes.get(from..to).unwrap_or_default();
        let station = match &arrival_mac {
            Some(mac) => mac.0.as_slice(),
            None => part(self.ethernet, self.ethernet + 6),
        };
        let ports = self.transport_at + usize::from(self.transport.ports_at());
        fold(&[
            station,
            self.source_and_destination(bytes),
            part(ports, ports + 4),
            part(self.payload, self.end),
        ])
    }
}

fn put(bytes: &mut [u8], at: usize, word: [u8; 2]) {
    if let Some(field) = bytes.get_mut(at..at + 2) {
        field.copy_from_slice(&word);
    }
}

/// The ones' complement sum of parts of which only the last may have an odd number of bytes.
fn fold(parts: &[&[u8]]) -> u16 {
    signature::check(parts)
}

fn add(one: u16, other: u16) -> u16 {
    let sum = u32::from(one) + u32::from(other);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// A checksum from a sum. In UDP, 0 would say that there is none.
fn finished(sum: u16, udp: bool) -> [u8; 2] {
    match !sum {
        0 if udp => [0xff; 2],
        checksum => checksum.to_be_bytes(),
    }
}
