//! Which frames are the generators', and whether they are whole: what `bpf/signature.h` says, for a program in user space, by
//! another hand. The tests compare the two frame by frame.

use std::ops::Range;

use crate::loadgen::headers::Family;
use crate::loadgen::signature::{self, Signature};

/// `FRAME_MAX` of `bpf/loadgen.h`: a longer frame is not looked into.
const FRAME_MAX: usize = 9216;
const ETHERNET_LEN: usize = 14;
const IPV6_LEN: usize = 40;
const UDP_LEN: usize = 8;
const TCP_LEN: usize = 20;
const ICMP_LEN: usize = 8;
const VXLAN_LEN: usize = 8;
const VXLAN_I_FLAG: u8 = 0x08;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// More fragments, or an offset.
const FRAGMENT: u16 = 0x3fff;
pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;

/// A frame with a signature, and where its parts are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected<'a> {
    /// What the signature says.
    pub signature: Signature,
    /// Whether the signature's check holds: nothing changed that must not.
    pub whole: bool,
    pub(super) frame: &'a [u8],
    /// The IP version around VXLAN, of a frame in VXLAN.
    pub(super) outer: Option<Family>,
    /// Where the inner packet is, from its first to its last byte.
    pub(super) packet: Range<usize>,
    pub(super) inner: Family,
    pub(super) protocol: u8,
    /// Where the transport header begins, and what it carries.
    pub(super) transport: usize,
    pub(super) payload: usize,
}

/// Looks for a signature; none in a frame of somebody else's. VXLAN is what comes to one of these UDP ports.
pub fn inspect<'a>(frame: &'a [u8], vxlan_ports: &[u16]) -> Option<Inspected<'a>> {
    if frame.len() > FRAME_MAX {
        return None;
    }
    let outer = outer_family(frame, vxlan_ports);
    let at = outer.map_or(0, |family| {
        ETHERNET_LEN + header_len(family) + UDP_LEN + VXLAN_LEN
    });
    let ip = at + ETHERNET_LEN;
    let (inner, protocol, end) = packet(frame, at)?;
    let transport = ip + header_len(inner);
    let (payload, ports) = match protocol {
        UDP => (transport + UDP_LEN, transport),
        TCP => (transport + TCP_LEN, transport),
        ICMP | ICMPV6 => (transport + ICMP_LEN, transport + 4),
        _ => return None,
    };
    let (carried, mark) = frame
        .get(payload..end)?
        .split_last_chunk::<{ signature::LEN }>()?;
    let signature = Signature::parse(mark)?;
    let addresses = match inner {
        Family::V4 => ip + 12..ip + 20,
        Family::V6 => ip + 8..ip + 40,
    };
    let unchecked = Signature {
        check: 0,
        ..signature
    };
    // Behind an odd number of bytes, those of a word change places in the sum.
    let mark_sum = signature::check(&[&unchecked.to_bytes()]);
    let mark_sum = if carried.len() % 2 == 1 {
        mark_sum.swap_bytes()
    } else {
        mark_sum
    };
    let sum = signature::check(&[
        frame.get(at..at + 6)?,
        frame.get(addresses)?,
        frame.get(ports..ports + 4)?,
        &mark_sum.to_be_bytes(),
        carried,
    ]);
    Some(Inspected {
        signature,
        whole: sum == signature.check,
        frame,
        outer,
        packet: ip..end,
        inner,
        protocol,
        transport,
        payload,
    })
}

/// The IP version around VXLAN; none of a frame that is not in VXLAN.
fn outer_family(frame: &[u8], vxlan_ports: &[u16]) -> Option<Family> {
    let (family, protocol, _) = packet(frame, 0)?;
    let udp = ETHERNET_LEN + header_len(family);
    let port = word(frame, udp + 2)?;
    let flags = frame.get(udp + UDP_LEN)?;
    let vxlan =
        protocol == UDP && port != 0 && vxlan_ports.contains(&port) && flags & VXLAN_I_FLAG != 0;
    vxlan.then_some(family)
}

/// The version, the protocol and the end of the IP packet behind the Ethernet header at `at`; none of another kind of frame,
/// of fragments, and behind options.
fn packet(frame: &[u8], at: usize) -> Option<(Family, u8, usize)> {
    let ip = at + ETHERNET_LEN;
    match word(frame, at + 12)? {
        ETHERTYPE_IPV4 => {
            let plain = *frame.get(ip)? == 0x45 && word(frame, ip + 6)? & FRAGMENT == 0;
            let end = ip + usize::from(word(frame, ip + 2)?);
            plain.then_some((Family::V4, *frame.get(ip + 9)?, end))
        }
        ETHERTYPE_IPV6 => {
            let end = ip + IPV6_LEN + usize::from(word(frame, ip + 4)?);
            Some((Family::V6, *frame.get(ip + 6)?, end))
        }
        _ => None,
    }
}

fn header_len(family: Family) -> usize {
    usize::from(family.header_len())
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let word = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes(*word))
}
