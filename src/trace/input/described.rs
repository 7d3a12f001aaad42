//! A frame described by its fields: `src=10.244.1.5 dst=10.244.0.3 proto=tcp dport=80 outer-src=10.0.0.11`. What is not said is
//! as in a frame that gets through: the segment's own addresses, a VTEP that it knows, a station behind that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{IpHeaders, IpNumber, Ipv4Header, Ipv6Header, PacketBuilder};

use super::words::Words;
use super::{FRAME_LEN_MAX, InputError};
use crate::state::{SegmentState, State};
use crate::table::Destination;
use crate::trace::At;
use crate::wire::{MacAddr, ethernet, ipv4, ipv6, udp, vlan, vxlan};

const ARP: u16 = 0x0806;
const NO_DF: &str = "an IPv6 header has no such bit";
/// Of nobody: locally administered.
const SOMEBODY: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x02]);

/// A frame, and the mark that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Of a device with the Group Policy extension.
    pub mark: u32,
}

/// The frame of a description that comes in at a port.
///
/// # Errors
/// Names the word that cannot be.
pub fn describe(state: &State, at: At, text: &str) -> Result<Described, InputError> {
    make(state, at, text).map_err(InputError::Description)
}

fn make(state: &State, at: At, text: &str) -> Result<Described, String> {
    let words = Words::parse(text)?;
    let segment = segment(state, at, &words)?;
    let outer = match at {
        At::Underlay(_) => Some(Outer::of(segment, &words)?),
        At::Access(_) => {
            let outer = |key: &str| key.starts_with("outer-") || matches!(key, "vni" | "flags");
            if let Some((key, _)) = words.0.iter().find(|(key, _)| outer(key)) {
                return Err(format!(
                    "{key}: a frame that comes in by a vxlan device has no outer headers yet"
                ));
            }
            None
        }
    };
    let mut bytes = inner(segment, at, outer.as_ref(), &words)?;
    if let Some(outer) = &outer {
        bytes = outer.around(&bytes)?;
    }
    if bytes.len() > FRAME_LEN_MAX {
        return Err(format!("{} bytes are too many", bytes.len()));
    }
    Ok(Described {
        bytes,
        mark: words.number("mark", 0)?,
    })
}

/// The segment that the frame is for: the port's own, that of the VNI, or the first of the underlay device.
fn segment<'a>(state: &'a State, at: At, words: &Words<'_>) -> Result<&'a SegmentState, String> {
    let ifindex = match at {
        At::Access(number) => {
            let segment = state.segments.get(number);
            return segment.ok_or_else(|| "there is no such segment".to_owned());
        }
        At::Underlay(number) => state.underlays.get(number).map(|one| one.ifindex),
    };
    let vni: Option<u32> = words.value("vni")?;
    let outer: Option<IpAddr> = match words.value("outer-src")? {
        Some(addr) => Some(addr),
        None => words.value("outer-dst")?,
    };
    let fits = |segment: &&SegmentState| {
        let config = &segment.config;
        outer.is_none_or(|addr| addr.is_ipv6() == config.local.is_ipv6())
    };
    let named = |segment: &&SegmentState| vni == Some(segment.config.vni.get());
    let here = |segment: &&SegmentState| ifindex == Some(segment.config.underlay_ifindex);
    let all = || state.segments.iter().filter(fits);
    all()
        .find(|segment| named(segment) && here(segment))
        .or_else(|| all().find(named))
        .or_else(|| all().find(here))
        .or_else(|| state.segments.first())
        .ok_or_else(|| "vxgate carries no vxlan device".to_owned())
}

/// What an IP header says besides its addresses.
struct Ip {
    source: IpAddr,
    destination: IpAddr,
    ttl: u8,
    ecn: u8,
    df: bool,
}

impl Ip {
    /// Of a pod, to another one.
    fn between_pods(words: &Words<'_>) -> Result<Self, String> {
        let six = |key| {
            words
                .value::<IpAddr>(key)
                .map(|addr| addr.is_some_and(|addr| addr.is_ipv6()))
        };
        let (source, destination) = if six("src")? || six("dst")? {
            (
                Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).into(),
                Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2).into(),
            )
        } else {
            (
                IpAddr::from(Ipv4Addr::new(10, 244, 0, 1)),
                Ipv4Addr::new(10, 244, 0, 2).into(),
            )
        };
        Ok(Self {
            source: words.value("src")?.unwrap_or(source),
            destination: words.value("dst")?.unwrap_or(destination),
            ttl: words.number("ttl", 64)?,
            ecn: words.ecn("ecn")?,
            df: words.flag("df", false)?,
        })
    }

    fn headers(&self) -> Result<IpHeaders, String> {
        Ok(match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = Ipv4Header::new(0, self.ttl, IpNumber::UDP, [0; 4], [0; 4])
                    .map_err(|error| error.to_string())?;
                (header.source, header.destination) = (source.octets(), destination.octets());
                header.dont_fragment = self.df;
                header.ecn = etherparse::IpEcn::try_new(self.ecn).unwrap_or_default();
                IpHeaders::Ipv4(header, Default::default())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => IpHeaders::Ipv6(
                Ipv6Header {
                    traffic_class: self.ecn,
                    hop_limit: self.ttl,
                    source: source.octets(),
                    destination: destination.octets(),
                    ..Ipv6Header::default()
                },
                Default::default(),
            ),
            (source, destination) => {
                return Err(format!("{source} and {destination} are of two families"));
            }
        })
    }

    fn ether_type(&self) -> u16 {
        if self.source.is_ipv6() {
            ethernet::IPV6
        } else {
            ethernet::IPV4
        }
    }

    fn header_len(&self) -> usize {
        if self.source.is_ipv6() {
            ipv6::LEN
        } else {
            ipv4::LEN
        }
    }
}

/// The inner frame.
fn inner(
    segment: &SegmentState,
    at: At,
    outer: Option<&Outer>,
    words: &Words<'_>,
) -> Result<Vec<u8>, String> {
    let macs = addresses(segment, at, outer, words)?;
    let mut frame = macs.map(|mac| mac.0).concat();
    frame.extend(tags(words)?.as_flattened());
    let len: Option<usize> = words
        .text("len")
        .map(|_| words.number("len", 0))
        .transpose()?;
    let left = |headers: usize| match len {
        None => Ok(56),
        Some(len) => len
            .checked_sub(frame.len() + 2 + headers)
            .filter(|left| *left < FRAME_LEN_MAX)
            .ok_or_else(|| format!("len={len} has no room for the headers, or is too long")),
    };
    let ip = Ip::between_pods(words)?;
    if ip.source.is_ipv6() {
        words.refuse(&["df"], NO_DF)?;
    }
    let proto = words.text("proto").unwrap_or("icmp");
    if !matches!(proto, "tcp" | "udp") {
        words.refuse(
            &["sport", "dport"],
            "only proto=tcp and proto=udp have ports",
        )?;
    }
    if proto == "arp" {
        words.refuse(&["ttl", "ecn", "df"], "proto=arp has no IP header")?;
        let packet = arp(&ip, source_of(&frame))?;
        let padding = len.map(|_| left(packet.len())).transpose()?;
        frame.extend(ARP.to_be_bytes());
        frame.extend(packet);
        frame.resize(frame.len() + padding.unwrap_or(0), 0);
        return Ok(frame);
    }
    let (sport, dport) = (words.number("sport", 40_000)?, words.number("dport", 80)?);
    let packet = packet(&ip, proto, (sport, dport), left)?;
    frame.extend(ip.ether_type().to_be_bytes());
    frame.extend(packet);
    Ok(frame)
}

/// Whom the inner frame is to, and from whom it is.
fn addresses(
    segment: &SegmentState,
    at: At,
    outer: Option<&Outer>,
    words: &Words<'_>,
) -> Result<[MacAddr; 2], String> {
    let own = segment.config.mac;
    let vtep: Option<IpAddr> = words.value("to")?;
    if vtep.is_some() && outer.is_some() {
        return Err(
            "to: a frame from the underlay is for this host; outer-src says from where".into(),
        );
    }
    let there = |addr: Option<IpAddr>| station(segment, addr);
    let (source, destination) = match at {
        At::Underlay(_) => (
            there(outer.map(|outer| outer.ip.source)).unwrap_or(SOMEBODY),
            own,
        ),
        At::Access(_) => match (there(vtep), vtep) {
            (Some(mac), _) => (own, mac),
            (None, None) => (own, SOMEBODY),
            (None, Some(vtep)) => {
                return Err(format!("to={vtep}: no FDB entry leads to this VTEP"));
            }
        },
    };
    let destination = if words.text("proto") == Some("arp") && vtep.is_none() {
        MacAddr::BROADCAST
    } else {
        destination
    };
    let source = words.mac("smac")?.unwrap_or(source);
    let destination = words.mac("dmac")?.unwrap_or(destination);
    Ok([destination, source])
}

/// The VLAN tags, from the outermost.
fn tags(words: &Words<'_>) -> Result<Vec<[u8; vlan::LEN]>, String> {
    let tags = words.0.iter().filter(|(key, _)| *key == "vlan");
    let tags = tags.map(|(_, text)| match text.parse::<u16>() {
        Ok(id) if id < 4096 => {
            let ([a, b], [c, d]) = (vlan::CUSTOMER.to_be_bytes(), id.to_be_bytes());
            Ok([a, b, c, d])
        }
        _ => Err(format!("vlan={text}: 0 to 4095")),
    });
    tags.collect()
}

/// The source in the Ethernet header that was begun.
fn source_of(frame: &[u8]) -> [u8; 6] {
    let source = frame.get(6..).and_then(<[u8]>::first_chunk);
    source.copied().unwrap_or_default()
}

/// An IP packet with what it carries; `left` says how much payload fits behind so many bytes of headers.
fn packet(
    ip: &Ip,
    proto: &str,
    (sport, dport): (u16, u16),
    left: impl Fn(usize) -> Result<usize, String>,
) -> Result<Vec<u8>, String> {
    const TCP_LEN: usize = 20;
    const ICMP_LEN: usize = 8;
    let headers = PacketBuilder::ip(ip.headers()?);
    let payload = |len: usize| left(ip.header_len() + len).map(|len| vec![0; len]);
    let mut packet = Vec::new();
    let written = match proto {
        "tcp" => {
            let payload = payload(TCP_LEN)?;
            headers
                .tcp(sport, dport, 1, 64_000)
                .write(&mut packet, &payload)
        }
        "udp" => {
            let payload = payload(udp::LEN)?;
            headers.udp(sport, dport).write(&mut packet, &payload)
        }
        "icmp" if ip.source.is_ipv6() => {
            let payload = payload(ICMP_LEN)?;
            headers
                .icmpv6_echo_request(1, 1)
                .write(&mut packet, &payload)
        }
        "icmp" => {
            let payload = payload(ICMP_LEN)?;
            headers
                .icmpv4_echo_request(1, 1)
                .write(&mut packet, &payload)
        }
        other => {
            let number = other
                .parse()
                .map_err(|_| format!("proto={other}: tcp, udp, icmp, arp or a number"))?;
            let payload = payload(0)?;
            headers.write(&mut packet, IpNumber(number), &payload)
        }
    };
    written.map_err(|error| format!("it cannot be written: {error}"))?;
    Ok(packet)
}

/// A question who has the destination (RFC 826).
fn arp(ip: &Ip, source: [u8; 6]) -> Result<Vec<u8>, String> {
    let (IpAddr::V4(from), IpAddr::V4(whom)) = (ip.source, ip.destination) else {
        return Err("proto=arp: only of IPv4 addresses".to_owned());
    };
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
    packet.extend(source);
    packet.extend(from.octets());
    packet.extend([0; 6]);
    packet.extend(whom.octets());
    Ok(packet)
}

/// The first station that the FDB has behind a VTEP, or behind any.
fn station(segment: &SegmentState, addr: Option<IpAddr>) -> Option<MacAddr> {
    let leads = |to: &Destination| match (to, addr) {
        (Destination::Vtep(id), addr) => {
            let vtep = segment.vteps.get(id.0 as usize);
            vtep.is_some_and(|vtep| addr.is_none_or(|addr| vtep.addr == addr))
        }
        (_, None) => true,
        (Destination::Group(_) | Destination::List(_), Some(_)) => false,
    };
    let mut entries = segment.fdb.iter();
    entries
        .find(|(mac, to)| !mac.is_multicast() && !mac.is_zero() && leads(to))
        .map(|(mac, _)| *mac)
}

/// The outer headers.
struct Outer {
    macs: [MacAddr; 2],
    ip: Ip,
    ports: (u16, u16),
    flags: u8,
    vni: u32,
    checksum: bool,
}

impl Outer {
    fn of(segment: &SegmentState, words: &Words<'_>) -> Result<Self, String> {
        let config = &segment.config;
        let same_family = |addr: &&IpAddr| addr.is_ipv6() == config.local.is_ipv6();
        let peer = segment.peers.iter().find(same_family).copied();
        let source: Option<IpAddr> = words.value("outer-src")?;
        let source = source
            .or(peer)
            .ok_or_else(|| "outer-src is missing: the device knows no VTEP".to_owned())?;
        if source.is_ipv6() {
            words.refuse(&["outer-df"], NO_DF)?;
        }
        let vni = words.number("vni", config.vni.get())?;
        if vni >= 1 << 24 {
            return Err(format!("vni={vni}: at most {}", (1 << 24) - 1));
        }
        Ok(Self {
            macs: [
                words.mac("outer-dmac")?.unwrap_or(config.underlay_mac),
                words.mac("outer-smac")?.unwrap_or(SOMEBODY),
            ],
            checksum: words.flag("outer-csum", source.is_ipv6())?,
            ip: Ip {
                source,
                destination: words.value("outer-dst")?.unwrap_or(config.local),
                ttl: words.number("outer-ttl", 64)?,
                ecn: words.ecn("outer-ecn")?,
                df: words.flag("outer-df", false)?,
            },
            ports: (
                words.number("outer-sport", 50_000)?,
                words.number("outer-dport", config.port)?,
            ),
            flags: words.number("flags", 0x08)?,
            vni,
        })
    }

    fn around(&self, inner: &[u8]) -> Result<Vec<u8>, String> {
        let [_, a, b, c] = self.vni.to_be_bytes();
        let payload = [&[self.flags, 0, 0, 0, a, b, c, 0], inner].concat();
        let mut frame = self.macs.map(|mac| mac.0).concat();
        frame.extend(self.ip.ether_type().to_be_bytes());
        let start = frame.len();
        let (sport, dport) = self.ports;
        PacketBuilder::ip(self.ip.headers()?)
            .udp(sport, dport)
            .write(&mut frame, &payload)
            .map_err(|error| format!("it cannot be written: {error}"))?;
        debug_assert!(frame.len() >= start + vxlan::LEN);
        if !self.checksum {
            let at = start + self.ip.header_len() + udp::CHECKSUM_OFFSET;
            if let Some(field) = frame.get_mut(at..at + 2) {
                field.fill(0);
            }
        }
        Ok(frame)
    }
}
