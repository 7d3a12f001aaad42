//! The frames that mark the end of a window: good ones, which come out whatever was in front of them.
//!
//! TCP may cross a node on a way of its own, which waits for no other. So there is a sentinel for it, too, and a second round
//! of both behind the first: what the worker took together with the first is out when the second is.

use super::bytes::{self, ETHER_ARP, ETHER_IPV4, ETHER_IPV6, Inner, be16};
use super::setting::Overlay;
use super::site::{DEVICE_MAC, GATEWAY_MAC, NODE_MAC};

/// Experimental EtherType (IEEE 802, local experimental 1).
const TYPE: u16 = 0x88b5;
/// For experiments (RFC 3692): the same over IPv4, where the node routes.
const PROTOCOL: u8 = 253;
const WORD: &[u8] = b"sentinel";
const TCP: u8 = 6;
const IPV4_LEN: usize = 20;
const TCP_LEN: usize = 20;
/// DF, as every TCP of these days sets it.
const DF: u16 = 0x4000;

/// The way through a node that frames of a kind take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    Frames,
    Tcp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sentinel {
    /// Of the window.
    pub number: u64,
    /// The device that it passes; behind all devices, the kernel's own way to each of them.
    pub way: usize,
    pub lane: Lane,
}

impl Sentinel {
    /// To the host on the port, as it is inside.
    pub fn inbound(self, overlay: Overlay) -> Vec<u8> {
        let addresses = [[10, 244, 2, 1], [10, 244, 1, 2]];
        let inner = self.inner(overlay, addresses);
        through(DEVICE_MAC, inner, overlay)
    }

    /// From the host on the port, to the tunnel.
    pub fn outbound(self, overlay: Overlay) -> Vec<u8> {
        let addresses = [[10, 244, 1, 2], [10, 244, 2, 1]];
        let inner = self.inner(overlay, addresses).outbound();
        through(GATEWAY_MAC, inner, overlay)
    }

    fn inner(self, overlay: Overlay, [from, to]: [[u8; 4]; 2]) -> Inner {
        let numbers = [self.number, self.way as u64].map(u64::to_be_bytes);
        let payload = [WORD, &numbers.concat(), &[0; 24]].concat();
        match (self.lane, overlay) {
            (Lane::Tcp, _) => {
                // No port is anybody else's. PSH and ACK.
                let head = [
                    0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 1, 0, 0, 0, 0, 0,
                ];
                let mut segment = [&head[..], &payload].concat();
                let len = (segment.len() as u16).to_be_bytes();
                let pseudo = [&from[..], &to, &[0, TCP], &len].concat();
                let sum = bytes::internet_checksum(&[&pseudo, &segment]);
                bytes::put16(&mut segment, 16, sum);
                let mut packet = bytes::ipv4(0, 64, DF, TCP, &segment);
                bytes::address(&mut packet, from, to);
                Inner::with(ETHER_IPV4, packet)
            }
            (Lane::Frames, Overlay::Bridged) => Inner::with(TYPE, payload),
            (Lane::Frames, Overlay::Routed) => {
                let mut packet = bytes::ipv4(0, 64, 0, PROTOCOL, &payload);
                bytes::address(&mut packet, from, to);
                Inner::with(ETHER_IPV4, packet)
            }
        }
    }

    /// From an inner frame that came out.
    pub fn read(inner: &[u8]) -> Option<Self> {
        let protocol = inner.get(14 + 9);
        let (payload, lane) = match be16(inner, 12)? {
            TYPE => (inner.get(14..)?, Lane::Frames),
            ETHER_IPV4 if protocol? == &PROTOCOL => (inner.get(14 + IPV4_LEN..)?, Lane::Frames),
            ETHER_IPV4 if protocol? == &TCP => (inner.get(14 + IPV4_LEN + TCP_LEN..)?, Lane::Tcp),
            _ => return None,
        };
        let (number, rest) = payload.strip_prefix(WORD)?.split_first_chunk()?;
        Some(Self {
            number: u64::from_be_bytes(*number),
            way: u64::from_be_bytes(*rest.first_chunk()?) as usize,
            lane,
        })
    }
}

/// Addressed to the node itself, when it routes.
fn through(router: [u8; 6], mut inner: Inner, overlay: Overlay) -> Vec<u8> {
    if overlay == Overlay::Routed {
        inner.destination = router;
    }
    inner.bytes()
}

/// The node's own address resolution, for answers to senders that are not there, and its reports on groups.
pub fn is_housekeeping(frame: &[u8]) -> bool {
    const ICMP6: u8 = 58;
    const NEIGHBOUR_SOLICITATION: u8 = 135;
    const LISTENER_REPORT_2: u8 = 143;
    const IGMP: u8 = 2;
    match be16(frame, 12) {
        Some(ETHER_ARP) => true,
        Some(ETHER_IPV4) => frame[6..12] == NODE_MAC && frame.get(23) == Some(&IGMP),
        Some(ETHER_IPV6) => match frame.get(20) {
            Some(&ICMP6) => frame.get(54) == Some(&NEIGHBOUR_SOLICITATION),
            // Behind a hop-by-hop header of 8 bytes.
            Some(0) => frame.get(54) == Some(&ICMP6) && frame.get(62) == Some(&LISTENER_REPORT_2),
            _ => false,
        },
        _ => false,
    }
}
