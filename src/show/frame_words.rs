//! A frame in words: who sends what to whom, outside and inside of a tunnel, as far as its first bytes tell.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use crate::wire::ethernet::{self, EthernetHeader};
use crate::wire::ipv4::Ipv4Header;
use crate::wire::ipv6::{self, Ipv6Header};
use crate::wire::udp::{self, UdpHeader};
use crate::wire::vxlan::VxlanHeader;
use crate::wire::{MacAddr, vlan};

/// Bytes of a line of the dump.
const DUMP_LINE: usize = 16;
/// In the field of flags and fragment offset of IPv4: where in the packet a fragment begins.
const FRAGMENT_OFFSET: u16 = 0x1fff;
const TCP: u8 = 6;
const ARP: u16 = 0x0806;

/// The headers of a frame, without what it may carry in a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Headers<'a> {
    destination: MacAddr,
    source: MacAddr,
    tags: usize,
    ether_type: u16,
    /// Of IP, source and destination.
    ends: Option<(IpAddr, IpAddr)>,
    /// Of the IP header, unless the packet is a later fragment.
    protocol: Option<u8>,
    /// Of UDP and TCP.
    ports: Option<(u16, u16)>,
    /// What a UDP header is followed by.
    payload: Option<&'a [u8]>,
}

impl<'a> Headers<'a> {
    /// None without a whole Ethernet header.
    fn read(frame: &'a [u8]) -> Option<Self> {
        let (header, rest) = EthernetHeader::parse(frame)?;
        let (ether_type, tags, packet) =
            vlan::skip(header.ether_type(), rest).unwrap_or((header.ether_type(), 0, &[]));
        let mut headers = Self {
            destination: header.destination(),
            source: header.source(),
            tags,
            ether_type,
            ends: None,
            protocol: None,
            ports: None,
            payload: None,
        };
        match ether_type {
            ethernet::IPV4 => headers.read_ipv4(packet),
            ethernet::IPV6 => headers.read_ipv6(packet),
            _ => {}
        }
        Some(headers)
    }

    fn read_ipv4(&mut self, packet: &'a [u8]) {
        let Some(header) = Ipv4Header::parse(packet) else {
            return;
        };
        self.ends = Some((header.source().into(), header.destination().into()));
        if header.flags_fragment() & FRAGMENT_OFFSET == 0 {
            let payload = packet.get(header.header_len()..);
            self.read_transport(header.protocol(), payload.unwrap_or(&[]));
        }
    }

    fn read_ipv6(&mut self, packet: &'a [u8]) {
        let Some(header) = Ipv6Header::parse(packet) else {
            return;
        };
        self.ends = Some((header.source().into(), header.destination().into()));
        let rest = packet.get(ipv6::LEN..).unwrap_or(&[]);
        if let Some(payload) = ipv6::walk(header.next_header(), rest) {
            let bytes = rest.get(payload.offset..);
            self.read_transport(payload.protocol, bytes.unwrap_or(&[]));
        }
    }

    fn read_transport(&mut self, protocol: u8, bytes: &'a [u8]) {
        self.protocol = Some(protocol);
        if protocol == udp::PROTOCOL {
            let header = UdpHeader::parse(bytes);
            self.ports = header.map(|header| (header.source_port(), header.destination_port()));
            self.payload = header.and_then(|_| bytes.get(udp::LEN..));
        } else if protocol == TCP
            && let Some([a, b, c, d]) = bytes.first_chunk()
        {
            self.ports = Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])));
        }
    }

    /// VNI and inner frame; none where no VXLAN header can be.
    fn tunnelled(&self) -> Option<(u32, Option<Headers<'a>>)> {
        let (header, inner) = VxlanHeader::parse(self.payload?)?;
        Some((header.vni().get(), Headers::read(inner)))
    }

    /// Who sends to whom, shortly.
    fn ends(&self) -> String {
        match self.ends {
            Some((source, destination)) => format!("{source} > {destination}"),
            None => format!("{} > {}", self.source, self.destination),
        }
    }
}

impl fmt::Display for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {}", self.source, self.destination)?;
        match self.tags {
            0 => {}
            1 => f.write_str(", a VLAN tag")?,
            tags => write!(f, ", {tags} VLAN tags")?,
        }
        match (self.ends, self.ether_type) {
            (Some((source, destination)), _) => write!(f, ", {source} > {destination}")?,
            (None, ethernet::IPV4) => f.write_str(", IPv4, cut short")?,
            (None, ethernet::IPV6) => f.write_str(", IPv6, cut short")?,
            (None, ARP) => f.write_str(", ARP")?,
            (None, other) => write!(f, ", EtherType 0x{other:04x}")?,
        }
        match self.protocol {
            Some(udp::PROTOCOL) => f.write_str(", UDP")?,
            Some(TCP) => f.write_str(", TCP")?,
            Some(1) => f.write_str(", ICMP")?,
            Some(58) => f.write_str(", ICMPv6")?,
            Some(other) => write!(f, ", protocol {other}")?,
            None if self.ends.is_some() => f.write_str(", a fragment or unreadable")?,
            None => {}
        }
        if let Some((source, destination)) = self.ports {
            write!(f, " {source} > {destination}")?;
        }
        Ok(())
    }
}

/// Who sends to whom: of a frame in a tunnel the outer source, the VNI and the inner ends; of another one its ends.
pub(super) fn ends(frame: &[u8], in_tunnel: bool) -> String {
    let Some(headers) = Headers::read(frame) else {
        return format!("{} bytes", frame.len());
    };
    if !in_tunnel {
        return headers.ends();
    }
    let outer = match headers.ends {
        Some((source, _)) => source.to_string(),
        None => headers.source.to_string(),
    };
    match headers.tunnelled() {
        Some((vni, Some(inner))) => format!("{outer} vni {vni}: {}", inner.ends()),
        Some((vni, None)) => format!("{outer} vni {vni}"),
        None => headers.ends(),
    }
}

/// The headers, a line for the frame and one for what it carries in a tunnel.
pub(super) fn headers(frame: &[u8], in_tunnel: bool) -> Vec<String> {
    let Some(outer) = Headers::read(frame) else {
        return vec!["no whole Ethernet header".to_owned()];
    };
    let mut lines = vec![outer.to_string()];
    if in_tunnel {
        lines.push(match outer.tunnelled() {
            Some((vni, Some(inner))) => format!("VXLAN {vni}: {inner}"),
            Some((vni, None)) => format!("VXLAN {vni}: no whole Ethernet header"),
            None => "no whole VXLAN header".to_owned(),
        });
    }
    lines
}

/// The bytes as `tcpdump -xx` and `text2pcap` write and read them: a line for 16, with the place of the first.
pub(super) fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (line, bytes) in bytes.chunks(DUMP_LINE).enumerate() {
        // Writing to a string does not fail.
        let _ = write!(text, "{:04x} ", line * DUMP_LINE);
        for byte in bytes {
            let _ = write!(text, " {byte:02x}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    fn inner() -> Vec<u8> {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .ipv6([0xfd; 16], [0xfc; 16], 64)
            .tcp(1234, 443, 1, 1)
            .write(&mut bytes, b"data")
            .unwrap();
        bytes
    }

    fn tunnelled(inner: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 8])
            .ipv4([10, 0, 9, 99], [10, 0, 0, 13], 64)
            .udp(40_000, 8472)
            .write(&mut bytes, &[&[8, 0, 0, 0, 0, 0, 7, 0], inner].concat())
            .unwrap();
        bytes
    }

    #[test]
    fn ends_are_those_that_an_operator_looks_for() {
        let inner = inner();
        let ends_inside =
            "fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd > fcfc:fcfc:fcfc:fcfc:fcfc:fcfc:fcfc:fcfc";
        assert_eq!(ends(&inner, false), ends_inside);
        let outer = tunnelled(&inner);
        assert_eq!(
            ends(&outer, true),
            format!("10.0.9.99 vni 7: {ends_inside}")
        );
        assert_eq!(ends(&outer[..52], true), "10.0.9.99 vni 7");
        assert_eq!(ends(&outer[..44], true), "10.0.9.99 > 10.0.0.13");
        assert_eq!(
            ends(&outer[..20], true),
            "02:00:00:00:00:09 > 02:00:00:00:00:08"
        );
        assert_eq!(ends(&outer[..9], true), "9 bytes");
        let mut arp = inner[..42].to_vec();
        arp[12..14].copy_from_slice(&[8, 6]);
        assert_eq!(ends(&arp, false), "02:00:00:00:00:01 > 02:00:00:00:00:02");
    }

    #[test]
    fn headers_are_told_as_far_as_there_are_any() {
        let outer = tunnelled(&inner());
        let mut text = String::new();
        for len in [outer.len(), 63, 50, 44, 30, 5] {
            let lines = headers(&outer[..len], true).join("\n");
            let _ = writeln!(text, "{len}\n{lines}");
        }
        let mut tagged = inner();
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        let _ = writeln!(text, "{}", headers(&tagged, false).join("\n"));
        insta::assert_snapshot!(text);
    }

    #[test]
    fn any_bytes_can_be_told() {
        let outer = tunnelled(&inner());
        for len in 0..=outer.len() {
            for at in 0..len {
                let mut frame = outer[..len].to_vec();
                frame[at] ^= 0xff;
                assert!(!ends(&frame, true).is_empty() && !headers(&frame, true).is_empty());
            }
        }
    }

    #[test]
    fn a_dump_has_places_and_bytes() {
        let bytes: Vec<u8> = (0..18).collect();
        let text = "0000  00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f\n0010  10 11\n";
        assert_eq!(dump(&bytes), text);
        assert_eq!(dump(&[]), "");
    }
}
