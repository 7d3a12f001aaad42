//! `vxgate observe`: a frame as a line. The line, its JSON and the comment in a capture come from the same values.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SCHEMA;
use super::capture::{CaptureStream, CapturedFrame, Verdict};
use crate::loadgen::report::rfc3339;
use crate::stats::tap::Point;
use crate::wire::ethernet::{self, EthernetHeader};
use crate::wire::ipv4::Ipv4Header;
use crate::wire::ipv6::{self, Ipv6Header};
use crate::wire::layers::{Layers, Network};
use crate::wire::tcp::{self, TcpHeader};
use crate::wire::udp::{self, UdpHeader};
use crate::wire::vxlan::VxlanHeader;

/// A frame that was seen. Field names are the keys of `vxgate observe --json`: add, never rename.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Observed {
    /// [`SCHEMA`].
    pub schema: String,
    /// When, in UTC (RFC 3339): the start of the worker's turn.
    pub time: String,
    /// Where: `underlay-rx`, `underlay-tx`, `access-rx`, `access-tx` or `drop`.
    pub point: String,
    /// At which device.
    pub port: String,
    /// By which worker.
    pub worker: u16,
    /// What becomes of it, as far as it is known there.
    pub verdict: String,
    /// Of what it dies.
    pub reason: Option<String>,
    /// The VTEP that it is from or for, where that is known.
    pub peer: Option<IpAddr>,
    /// Its VXLAN network identifier, where that is known.
    pub vni: Option<u32>,
    /// How long it is, in bytes: with its outer headers, where it has them.
    pub len: u32,
    /// The frame in the tunnel, where it is whole enough.
    pub inner: Option<Inner>,
}

/// The ends of a frame in the tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Inner {
    /// Its Ethernet source address.
    pub source_mac: String,
    /// Its Ethernet destination.
    pub destination_mac: String,
    /// Its EtherType; behind tags, that of the first.
    pub ether_type: u16,
    /// Its IP source address.
    pub source: Option<IpAddr>,
    /// Its IP destination.
    pub destination: Option<IpAddr>,
    /// What IP carries: the IANA number; none in fragments.
    pub protocol: Option<u8>,
    /// The source port of UDP or TCP.
    pub source_port: Option<u16>,
    /// The destination port.
    pub destination_port: Option<u16>,
    /// The flags of TCP, as tcpdump has them.
    pub tcp_flags: Option<String>,
}

/// What outer headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunnel<'a> {
    /// The outer source address.
    pub source: IpAddr,
    /// The outer destination.
    pub destination: IpAddr,
    /// The VXLAN network identifier.
    pub vni: u32,
    /// The frame in it.
    pub inner: &'a [u8],
}

impl<'a> Tunnel<'a> {
    /// Of a frame that looks like VXLAN, whatever its UDP port.
    pub fn of(frame: &'a [u8]) -> Option<Self> {
        let (header, packet) = EthernetHeader::parse(frame)?;
        let (source, destination, protocol, payload) = match header.ether_type() {
            ethernet::IPV4 => {
                let ip = Ipv4Header::parse(packet).filter(|ip| !ip.is_fragment())?;
                let payload = packet.get(ip.header_len()..)?;
                let ends = (ip.source().into(), ip.destination().into());
                (ends.0, ends.1, ip.protocol(), payload)
            }
            ethernet::IPV6 => {
                let ip = Ipv6Header::parse(packet)?;
                let payload = packet.get(ipv6::LEN..)?;
                let ends = (ip.source().into(), ip.destination().into());
                (ends.0, ends.1, ip.next_header(), payload)
            }
            _ => return None,
        };
        if protocol != udp::PROTOCOL {
            return None;
        }
        let (vxlan, inner) = VxlanHeader::parse(payload.get(udp::LEN..)?)?;
        vxlan.i_flag().then(|| Self {
            source,
            destination,
            vni: vxlan.vni().get(),
            inner,
        })
    }

    /// Of a frame that was seen where it has outer headers.
    pub fn seen(frame: &'a CapturedFrame) -> Option<Self> {
        if frame.in_tunnel {
            Self::of(&frame.bytes)
        } else {
            None
        }
    }
}

/// What is known of a frame beside its bytes: as much as a comment has.
#[derive(Debug, Clone)]
pub struct Told<'a> {
    frame: &'a CapturedFrame,
    tunnel: Option<Tunnel<'a>>,
    /// The device's name; unless it is gone, and nobody has told.
    port: Option<&'a str>,
    reason: Option<&'a str>,
    peer: Option<IpAddr>,
    vni: Option<u32>,
}

impl<'a> Told<'a> {
    /// Of a frame of a capture.
    pub fn of(frame: &'a CapturedFrame, stream: &'a CaptureStream) -> Self {
        let port = stream.port(frame.port);
        let (name, vni) = (port.map(|port| &*port.name), port.and_then(|port| port.vni));
        Self::new(frame, name, vni, stream.reason(frame))
    }

    /// Of a frame at a port of this name, with this VNI if it is a vxlan device's.
    pub fn new(
        frame: &'a CapturedFrame,
        port: Option<&'a str>,
        vni: Option<u32>,
        reason: Option<&'a str>,
    ) -> Self {
        let tunnel = Tunnel::seen(frame);
        let outer = tunnel.as_ref().map(|tunnel| match frame.point {
            Point::UnderlayTx => tunnel.destination,
            // What dies with outer headers of ours is for their destination: the port is the vxlan device's then.
            Point::Drop if vni.is_some() => tunnel.destination,
            _ => tunnel.source,
        });
        Self {
            frame,
            tunnel,
            port,
            reason,
            peer: frame.peer.or(outer),
            vni: tunnel.map(|tunnel| tunnel.vni).or(vni),
        }
    }

    /// At which device.
    pub fn port(&self) -> String {
        let number = || self.frame.port.to_string();
        self.port.map_or_else(number, str::to_owned)
    }

    /// All of it.
    pub fn comment(&self) -> String {
        let mut words = format!("verdict {}", self.frame.verdict.label());
        // Writing to memory.
        if let Some(reason) = self.reason {
            let _ = write!(words, ", reason {reason}");
        }
        if let Some(peer) = self.peer {
            let _ = write!(words, ", peer {peer}");
        }
        if let Some(vni) = self.vni {
            let _ = write!(words, ", vni {vni}");
        }
        let _ = write!(words, ", worker {}", self.frame.worker);
        words
    }
}

impl From<Told<'_>> for Observed {
    fn from(told: Told<'_>) -> Self {
        let frame = told.frame;
        let inner = told.tunnel.map_or(&frame.bytes[..], |tunnel| tunnel.inner);
        Self {
            schema: SCHEMA.to_owned(),
            time: time(frame.time_ns),
            point: frame.point.label().to_owned(),
            port: told.port(),
            worker: frame.worker,
            verdict: frame.verdict.label().to_owned(),
            reason: told.reason.map(str::to_owned),
            peer: told.peer,
            vni: told.vni,
            len: frame.len,
            inner: Inner::of(inner),
        }
    }
}

/// To the microsecond: a turn is not shorter.
fn time(ns: u64) -> String {
    let seconds = rfc3339(UNIX_EPOCH + Duration::from_nanos(ns));
    let seconds = seconds.trim_end_matches('Z');
    format!("{seconds}.{:06}Z", ns % 1_000_000_000 / 1000)
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The day is today, or known.
        let (_, clock) = self.time.split_once('T').unwrap_or(("", &self.time));
        let verdict = match &self.reason {
            Some(reason) => format!("{} {reason}", self.verdict),
            None => self.verdict.clone(),
        };
        write!(
            f,
            "{clock} {:<11} {:<10} {verdict:<8}",
            self.point, self.port
        )?;
        if let Some(peer) = self.peer {
            write!(f, " peer {peer}")?;
        }
        if let Some(vni) = self.vni {
            write!(f, " vni {vni}")?;
        }
        match &self.inner {
            Some(inner) => write!(f, "  {inner}")?,
            None => write!(f, "  no whole Ethernet header")?,
        }
        write!(f, ", {} bytes, worker {}", self.len, self.worker)
    }
}

impl Inner {
    fn of(frame: &[u8]) -> Option<Self> {
        let (ethernet, _) = EthernetHeader::parse(frame)?;
        let layers = Layers::parse(frame)?;
        let packet = frame.get(layers.place.offset..)?;
        let ends: Option<(IpAddr, IpAddr)> =
            match layers.place.network {
                Network::Ipv4 => Ipv4Header::parse(packet)
                    .map(|ip| (ip.source().into(), ip.destination().into())),
                Network::Ipv6 => Ipv6Header::parse(packet)
                    .map(|ip| (ip.source().into(), ip.destination().into())),
                Network::Cut | Network::Other => None,
            };
        let transport = layers.transport;
        let bytes = transport.and_then(|transport| frame.get(transport.offset..));
        let protocol = transport.map(|transport| transport.protocol);
        let tcp = bytes.filter(|_| protocol == Some(tcp::PROTOCOL));
        let tcp = tcp.and_then(TcpHeader::parse);
        let udp = bytes.filter(|_| protocol == Some(udp::PROTOCOL));
        let udp = udp.and_then(UdpHeader::parse);
        let ports = match (tcp, udp) {
            (Some(tcp), _) => Some((tcp.source_port(), tcp.destination_port())),
            (_, Some(udp)) => Some((udp.source_port(), udp.destination_port())),
            _ => None,
        };
        Some(Self {
            source_mac: ethernet.source().to_string(),
            destination_mac: ethernet.destination().to_string(),
            ether_type: ethernet.ether_type(),
            source: ends.map(|ends| ends.0),
            destination: ends.map(|ends| ends.1),
            protocol,
            source_port: ports.map(|ports| ports.0),
            destination_port: ports.map(|ports| ports.1),
            tcp_flags: tcp.map(|tcp| flags(tcp.flags())),
        })
    }
}

/// As tcpdump has them.
fn flags(flags: u8) -> String {
    let letters = [
        (tcp::FIN, 'F'),
        (tcp::SYN, 'S'),
        (tcp::RST, 'R'),
        (tcp::PSH, 'P'),
        (tcp::ACK, '.'),
        (tcp::URG, 'U'),
        (tcp::ECE, 'E'),
        (tcp::CWR, 'W'),
    ];
    let set = letters.iter().filter(|(bit, _)| flags & bit != 0);
    set.map(|(_, letter)| letter).collect()
}

/// An address with its port.
fn end(addr: IpAddr, port: Option<u16>) -> String {
    match (addr, port) {
        (_, None) => addr.to_string(),
        (IpAddr::V4(addr), Some(port)) => format!("{addr}:{port}"),
        (IpAddr::V6(addr), Some(port)) => format!("[{addr}]:{port}"),
    }
}

impl fmt::Display for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(source), Some(destination)) = (self.source, self.destination) else {
            let kind = match self.ether_type {
                0x0806 => "ARP".to_owned(),
                other => format!("EtherType {other:#06x}"),
            };
            let (source, destination) = (&self.source_mac, &self.destination_mac);
            return write!(f, "{source} > {destination} {kind}");
        };
        let source = end(source, self.source_port);
        write!(f, "{source} > {}", end(destination, self.destination_port))?;
        match (self.protocol, &self.tcp_flags) {
            (_, Some(flags)) => write!(f, " TCP [{flags}]"),
            (Some(udp::PROTOCOL), _) => write!(f, " UDP"),
            (Some(1), _) => write!(f, " ICMP"),
            (Some(58), _) => write!(f, " ICMPv6"),
            (Some(other), _) => write!(f, " protocol {other}"),
            (None, _) => write!(f, " fragment"),
        }
    }
}

/// Whether a verdict was asked for.
pub fn verdict(label: &str) -> Option<Verdict> {
    Verdict::ALL
        .into_iter()
        .find(|verdict| verdict.label() == label)
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    fn inner(six: bool) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let builder = if six {
            let ends = ["fd00::1", "fd00::2"].map(|addr| addr.parse::<std::net::Ipv6Addr>());
            let [a, b] = ends.map(|addr| addr.unwrap().octets());
            builder.ipv6(a, b, 64)
        } else {
            builder.ipv4([10, 244, 1, 5], [10, 244, 0, 3], 64)
        };
        let mut bytes = Vec::new();
        let tcp = builder.tcp(443, 51234, 7, 64).syn().ack(1);
        tcp.write(&mut bytes, b"x").unwrap();
        bytes
    }

    fn outer(inner: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let payload = [&[8, 0, 0, 0, 0, 0, 1, 0][..], inner].concat();
        PacketBuilder::ethernet2([4; 6], [6; 6])
            .ipv4([192, 0, 2, 2], [192, 0, 2, 1], 64)
            .udp(50_000, 8472)
            .write(&mut bytes, &payload)
            .unwrap();
        bytes
    }

    fn frame(point: Point, verdict: Verdict, bytes: Vec<u8>) -> CapturedFrame {
        CapturedFrame {
            time_ns: 1_798_761_599_000_012_345,
            point,
            port: 4,
            worker: 2,
            verdict,
            reason: None,
            peer: None,
            in_tunnel: matches!(point, Point::UnderlayRx | Point::UnderlayTx | Point::Drop),
            len: bytes.len() as u32,
            bytes,
        }
    }

    fn told(frame: &CapturedFrame, vni: Option<u32>, reason: Option<&str>) -> (String, String) {
        let told = Told::new(frame, Some("eth1"), vni, reason);
        let comment = told.comment();
        let observed = Observed::from(told);
        let json = serde_json::to_string(&observed).unwrap();
        assert_eq!(serde_json::from_str::<Observed>(&json).unwrap(), observed);
        (observed.to_string(), comment)
    }

    #[test]
    fn a_frame_is_told_with_both_of_its_sides() {
        let came = frame(Point::UnderlayRx, Verdict::Deliver, outer(&inner(false)));
        let (line, comment) = told(&came, None, None);
        assert_eq!(
            line,
            "23:59:59.000012Z underlay-rx eth1       deliver  peer 192.0.2.2 vni 1  10.244.1.5:443 > 10.244.0.3:51234 TCP [S.], 105 bytes, worker 2"
        );
        assert_eq!(comment, "verdict deliver, peer 192.0.2.2, vni 1, worker 2");
        let leaves = frame(Point::UnderlayTx, Verdict::Sent, outer(&inner(true)));
        let (line, _) = told(&leaves, None, None);
        assert!(
            line.contains("sent     peer 192.0.2.1 vni 1  [fd00::1]:443 > [fd00::2]:51234 TCP"),
            "{line}"
        );
        let mut dead = frame(Point::Drop, Verdict::Drop, outer(&inner(false)));
        dead.peer = Some([192, 0, 2, 9].into());
        let (line, comment) = told(&dead, None, Some("other_host"));
        assert!(
            line.contains(" drop        eth1       drop other_host peer 192.0.2.9 vni 1  "),
            "{line}"
        );
        assert!(comment.starts_with("verdict drop, reason other_host, peer"));
    }

    #[test]
    fn without_outer_headers_the_port_knows_the_vni_and_what_is_no_frame_is_told_so() {
        // A pod's own VXLAN is no tunnel of ours.
        let came = frame(Point::AccessRx, Verdict::Encap, outer(&inner(false)));
        let (line, _) = told(&came, Some(7), None);
        assert!(
            line.contains("encap    vni 7  192.0.2.2:50000 > 192.0.2.1:8472 UDP, 105 bytes"),
            "{line}"
        );
        let mut arp = vec![0xff; 6];
        arp.extend([2, 0, 0, 0, 0, 1, 8, 6]);
        let (line, _) = told(&frame(Point::AccessRx, Verdict::Flood, arp), Some(7), None);
        assert!(
            line.contains("02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff ARP, 14 bytes"),
            "{line}"
        );
        let short = frame(Point::AccessRx, Verdict::Drop, vec![1; 13]);
        let (line, _) = told(&short, None, Some("access_short"));
        assert!(line.contains("drop access_short  no whole Ethernet header, 13 bytes"));
    }
}
