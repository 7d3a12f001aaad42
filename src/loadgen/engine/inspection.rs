//! What is wrong with a generated frame beside its fate: headers, checksums and payload, each of their bytes. Read by
//! etherparse, as another opinion than that of the code which finds the signature.

use etherparse::checksum::Sum16BitWords;
use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice, TcpHeaderSlice, UdpHeaderSlice};
use serde::{Deserialize, Serialize};

use super::inspect::{ICMP, ICMPV6, Inspected, TCP, UDP};
use crate::loadgen::headers::{ETHERNET_LEN, Family};
use crate::loadgen::signature;

const VXLAN_LEN: usize = 8;
/// The one flag of VXLAN that RFC 7348 defines: the VNI is valid.
const VXLAN_FLAGS: u8 = 0x08;

/// What the inspection of all bytes found. In frames; one frame may be in several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// Generated frames that were looked into, whatever their fate.
    pub inspected: u64,
    /// The outer IPv4 header's checksum is wrong.
    pub outer_ipv4_checksum: u64,
    /// The outer UDP checksum is wrong, neither 0 nor unfinished.
    pub outer_udp_checksum: u64,
    /// The outer headers' lengths contradict each other, or what they carry.
    pub outer_lengths: u64,
    /// Reserved bits of the VXLAN header are set (RFC 7348 §5).
    pub vxlan_reserved: u64,
    /// The inner IPv4 header's checksum is wrong.
    pub inner_ipv4_checksum: u64,
    /// The inner transport checksum is wrong, and not unfinished.
    pub inner_transport_checksum: u64,
    /// The inner headers' lengths or versions contradict each other.
    pub inner_lengths: u64,
    /// The payload before the signature was sent as zeros, and is something else.
    pub payload: u64,
    /// A UDP or TCP checksum that the sender left to the device, and the device has not finished: it is the pseudo-header's
    /// sum. Usual between virtual devices of one machine.
    pub checksum_unfinished: u64,
}

impl Inspection {
    /// Each kind of finding, in words, and how many there were.
    pub fn findings(&self) -> [(&'static str, u64); 9] {
        [
            ("outer IPv4 checksum wrong", self.outer_ipv4_checksum),
            ("outer UDP checksum wrong", self.outer_udp_checksum),
            ("outer lengths contradictory", self.outer_lengths),
            ("VXLAN reserved bits set", self.vxlan_reserved),
            ("inner IPv4 checksum wrong", self.inner_ipv4_checksum),
            (
                "inner transport checksum wrong",
                self.inner_transport_checksum,
            ),
            ("inner lengths contradictory", self.inner_lengths),
            ("payload damaged", self.payload),
            ("checksum left to the device", self.checksum_unfinished),
        ]
    }

    /// Looks into one frame, whose payload was sent as zeros or not.
    pub fn add(&mut self, found: &Inspected<'_>, zeros: bool) {
        self.inspected += 1;
        let mut unfinished = false;
        if let Some(outer) = found.outer {
            self.add_outer(outer, found, &mut unfinished);
        }
        self.add_inner(found, &mut unfinished);
        let payload = found.frame.get(found.payload..found.packet.end);
        let payload = payload.and_then(|bytes| bytes.split_last_chunk::<{ signature::LEN }>());
        let (payload, _) = payload.unwrap_or((&[], &[0; signature::LEN]));
        self.payload += u64::from(zeros && payload.iter().any(|byte| *byte != 0));
        self.checksum_unfinished += u64::from(unfinished);
    }

    fn add_outer(&mut self, family: Family, found: &Inspected<'_>, unfinished: &mut bool) {
        let packet = found
            .frame
            .get(usize::from(ETHERNET_LEN)..)
            .unwrap_or_default();
        let Some(ip) = Ip::read(family, packet) else {
            self.outer_lengths += 1;
            return;
        };
        self.outer_ipv4_checksum += u64::from(!ip.header_holds);
        let vxlan = ip.carried.get(8..8 + VXLAN_LEN).unwrap_or_default();
        if let [flags, r1, r2, r3, _, _, _, r4] = vxlan {
            self.vxlan_reserved += u64::from(*flags != VXLAN_FLAGS || [r1, r2, r3, r4] != [&0; 4]);
        }
        let carried_end = packet.len().min(ip.len) + usize::from(ETHERNET_LEN);
        let header = UdpHeaderSlice::from_slice(ip.carried).ok();
        let matches = header.is_some_and(|header| usize::from(header.length()) == ip.carried.len());
        if !matches || found.packet.end > carried_end {
            self.outer_lengths += 1;
            return;
        }
        match ip.transport(UDP) {
            Checksum::Wrong => self.outer_udp_checksum += 1,
            Checksum::Unfinished => *unfinished = true,
            Checksum::Right => {}
        }
    }

    fn add_inner(&mut self, found: &Inspected<'_>, unfinished: &mut bool) {
        let packet = found.frame.get(found.packet.clone()).unwrap_or_default();
        let Some(ip) = Ip::read(found.inner, packet) else {
            self.inner_lengths += 1;
            return;
        };
        self.inner_ipv4_checksum += u64::from(!ip.header_holds);
        let matches = match found.protocol {
            UDP => UdpHeaderSlice::from_slice(ip.carried)
                .is_ok_and(|header| usize::from(header.length()) == ip.carried.len()),
            TCP => TcpHeaderSlice::from_slice(ip.carried)
                .is_ok_and(|header| found.transport + header.slice().len() == found.payload),
            _ => true,
        };
        if !matches {
            self.inner_lengths += 1;
            return;
        }
        match ip.transport(found.protocol) {
            Checksum::Wrong => self.inner_transport_checksum += 1,
            Checksum::Unfinished => *unfinished = true,
            Checksum::Right => {}
        }
    }
}

/// What a transport checksum turned out to be.
enum Checksum {
    Right,
    Unfinished,
    Wrong,
}

/// An IP packet that is whole by its own length.
struct Ip<'a> {
    family: Family,
    /// Source and destination.
    addresses: &'a [u8],
    /// By its header.
    len: usize,
    /// Whether the header's own checksum holds; IPv6 has none.
    header_holds: bool,
    carried: &'a [u8],
}

impl<'a> Ip<'a> {
    /// None when the header is none, or its length is more than there is.
    fn read(family: Family, packet: &'a [u8]) -> Option<Self> {
        let (header_len, len, header_holds, addresses) = match family {
            Family::V4 => {
                let header = Ipv4HeaderSlice::from_slice(packet).ok()?;
                let bytes = header.slice();
                let holds = Sum16BitWords::new().add_slice(bytes).ones_complement() == 0;
                (bytes.len(), usize::from(header.total_len()), holds, 12..20)
            }
            Family::V6 => {
                let header = Ipv6HeaderSlice::from_slice(packet).ok()?;
                let len = header.slice().len() + usize::from(header.payload_length());
                (header.slice().len(), len, true, 8..40)
            }
        };
        Some(Self {
            family,
            addresses: packet.get(addresses)?,
            len,
            header_holds,
            carried: packet.get(header_len..len)?,
        })
    }

    /// The checksum of what it carries.
    fn transport(&self, protocol: u8) -> Checksum {
        let field = match protocol {
            UDP => self.carried.get(6..8),
            TCP => self.carried.get(16..18),
            _ => self.carried.get(2..4),
        };
        let [_, _, length @ ..] = (self.carried.len() as u32).to_be_bytes();
        let pseudo_header = Sum16BitWords::new()
            .add_slice(self.addresses)
            .add_2bytes([0, protocol])
            .add_2bytes(length);
        // RFC 792: the checksum of ICMP covers ICMP alone. That of ICMPv6 has the pseudo-header, as all over IPv6.
        let all = match protocol {
            ICMP => Sum16BitWords::new(),
            _ => pseudo_header.clone(),
        }
        .add_slice(self.carried);
        let left_out = protocol == UDP && self.family == Family::V4 && field == Some(&[0, 0]);
        let has_pseudo_header = !matches!(protocol, ICMP | ICMPV6);
        // `ones_complement` answers in the byte order of the machine's memory.
        let begun = (!pseudo_header.ones_complement()).to_ne_bytes();
        if left_out || all.ones_complement() == 0 {
            Checksum::Right
        } else if has_pseudo_header && field == Some(&begun) {
            Checksum::Unfinished
        } else {
            Checksum::Wrong
        }
    }
}
