//! The headers of a frame, in words. Nothing is judged here.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::wire::ethernet::{self, EthernetHeader};
use crate::wire::ipv4::{self, Ipv4Header};
use crate::wire::ipv6::{self, Ipv6Header};
use crate::wire::layers::{Layers, Network};
use crate::wire::udp::{self, UdpHeader};
use crate::wire::vxlan::VxlanHeader;
use crate::wire::{tcp, vlan};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const ARP: u16 = 0x0806;
const ECN_MASK: u8 = 3;

/// The headers of a frame in one line: addresses, tags, IP, and what that carries.
pub(super) fn headers(frame: &[u8]) -> String {
    let (Some((header, rest)), Some(layers)) = (EthernetHeader::parse(frame), Layers::parse(frame))
    else {
        return "no whole Ethernet header".to_owned();
    };
    let mut words = format!("{} > {}", header.source(), header.destination());
    let (mut ether_type, mut rest) = (header.ether_type(), rest);
    for _ in 0..layers.place.tags {
        let Some(([high, low, type_high, type_low], behind)) = rest.split_first_chunk() else {
            break;
        };
        let id = u16::from_be_bytes([*high, *low]) & 0xfff;
        let kind = if ether_type == vlan::SERVICE {
            "service VLAN"
        } else {
            "VLAN"
        };
        let _ = write!(words, " {kind} {id}");
        ether_type = u16::from_be_bytes([*type_high, *type_low]);
        rest = behind;
    }
    let packet = frame.get(layers.place.offset..).unwrap_or_default();
    match layers.place.network {
        Network::Ipv4 => {
            if let Some(ip) = Ipv4Header::parse(packet) {
                let _ = write!(words, " IPv4 {} > {}", ip.source(), ip.destination());
            }
        }
        Network::Ipv6 => {
            if let Some(ip) = Ipv6Header::parse(packet) {
                let _ = write!(words, " IPv6 {} > {}", ip.source(), ip.destination());
            }
        }
        Network::Cut => words.push_str(" IP, cut short"),
        Network::Other if ether_type == ARP => words.push_str(" ARP"),
        Network::Other => {
            let _ = write!(words, " EtherType {ether_type:#06x}");
        }
    }
    if matches!(layers.place.network, Network::Ipv4 | Network::Ipv6) {
        carried(frame, &layers, &mut words);
        let ecn = match layers.traffic_class & ECN_MASK {
            0 => "Not-ECT",
            1 => "ECT(1)",
            2 => "ECT(0)",
            _ => "CE",
        };
        let _ = write!(words, ", TTL {}, ECN {ecn}", layers.ttl);
    }
    words
}

fn carried(frame: &[u8], layers: &Layers, words: &mut String) {
    let Some(transport) = &layers.transport else {
        return words.push_str(" fragment, or lengths that contradict it");
    };
    let bytes = frame.get(transport.offset..).unwrap_or_default();
    let ports = UdpHeader::parse(bytes).map(|one| (one.source_port(), one.destination_port()));
    let name = match transport.protocol {
        tcp::PROTOCOL => "TCP",
        udp::PROTOCOL => "UDP",
        ICMP => "ICMP",
        ICMPV6 => "ICMPv6",
        other => {
            let _ = write!(words, " protocol {other}");
            return;
        }
    };
    let _ = match (name, ports) {
        ("TCP" | "UDP", Some((from, to))) => write!(words, " {name} {from} > {to}"),
        _ => write!(words, " {name}"),
    };
}

/// What else counts of an outer header.
pub(super) fn outer_words(frame: &[u8]) -> String {
    let Some(outer) = Outer::find(frame) else {
        return String::new();
    };
    let df = match EthernetHeader::parse(frame) {
        Some((header, packet)) if header.ether_type() == ethernet::IPV4 => {
            Ipv4Header::parse(packet).is_some_and(Ipv4Header::df)
        }
        _ => false,
    };
    format!(
        "{}, UDP checksum {}",
        if df { ", DF" } else { "" },
        if outer.checksum == 0 {
            "0".to_owned()
        } else {
            format!("{:#06x}", outer.checksum)
        }
    )
}

/// The outer headers of a frame, as far as they can be read. What is wrong with them is not judged here.
pub(super) struct Outer<'a> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) port: u16,
    checksum: u16,
    pub(super) payload: &'a [u8],
}

impl<'a> Outer<'a> {
    pub(super) fn find(frame: &'a [u8]) -> Option<Self> {
        let (header, packet) = EthernetHeader::parse(frame)?;
        let (source, destination, datagram): (IpAddr, IpAddr, _) = match header.ether_type() {
            ethernet::IPV4 => {
                let ip = Ipv4Header::parse(packet)?;
                let end = ip.total_len().min(packet.len());
                let datagram = packet.get(ipv4::LEN..end)?;
                (ip.source().into(), ip.destination().into(), datagram)
            }
            ethernet::IPV6 => {
                let ip = Ipv6Header::parse(packet)?;
                let datagram = packet.get(ipv6::LEN..)?;
                let datagram = datagram.get(..ip.payload_len()).unwrap_or(datagram);
                (ip.source().into(), ip.destination().into(), datagram)
            }
            _ => return None,
        };
        let udp = UdpHeader::parse(datagram)?;
        // A length of 0 over IPv6 stands for all of the payload.
        let len = match udp.len() {
            0 => datagram.len(),
            len => len.min(datagram.len()),
        };
        Some(Self {
            source,
            destination,
            port: udp.destination_port(),
            checksum: udp.checksum(),
            payload: datagram.get(udp::LEN..len).unwrap_or_default(),
        })
    }
}

/// The VTEP that an encapsulated frame goes to: address, UDP port and VNI.
pub(super) fn sent_to(frame: &[u8]) -> Option<(IpAddr, u16, u32)> {
    let outer = Outer::find(frame)?;
    let (vxlan, _) = VxlanHeader::parse(outer.payload)?;
    Some((outer.destination, outer.port, vxlan.vni().get()))
}
