//! Routes: what the kernel would do with a destination, and which prefix an announcement is about (`linux/rtnetlink.h`).

use std::net::IpAddr;

use super::attribute::{attributes, family_of, ip_from, u32_from};
use super::message::Message;
use super::{Error, RequestBody, Socket};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_METRICS: u16 = 8;
const RTAX_MTU: u16 = 2;
const RTA_IP_PROTO: u16 = 27;
const RTA_DPORT: u16 = 29;
const IPPROTO_UDP: u8 = 17;
const RTA_ENCAP_TYPE: u16 = 21;
/// `RTN_UNICAST`: a gateway or a neighbour; others are local, broadcast, black holes.
const RTN_UNICAST: u8 = 1;
/// `RTN_LOCAL`: an address of this namespace.
const RTN_LOCAL: u8 = 2;
/// `RTN_MULTICAST`: to a group.
const RTN_MULTICAST: u8 = 5;

/// What the kernel is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteQuery {
    /// Destination.
    pub dst: IpAddr,
    /// Source: must be an address of this namespace.
    pub src: IpAddr,
    /// Only routes through this link; 0 for any.
    pub oif: u32,
    /// DSCP, for rules and routes that look at it.
    pub tos: u8,
    /// UDP destination port, for rules that look at it.
    pub port: u16,
}

/// A route: the answer to a query, or an announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The link out of which frames go; none in a route with several paths.
    pub oif: Option<u32>,
    /// The next router; none when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Leads to a neighbour or a router (`RTN_UNICAST`).
    pub unicast: bool,
    /// The destination is an address of this namespace (`RTN_LOCAL`).
    pub local: bool,
    /// Frames leave in a tunnel of the route's own (`RTA_ENCAP`: MPLS, SRv6 and others).
    pub encap: bool,
    /// Leads to a group (`RTN_MULTICAST`), by way of a router where there is a gateway.
    pub multicast: bool,
    /// The MTU of the path, in bytes, where it is not the link's: set for the route, or learned (an exception).
    pub mtu: Option<u32>,
    /// The prefix; none for a default route.
    pub dst: Option<IpAddr>,
    /// Length of the prefix, in bits.
    pub prefix_len: u8,
    /// True for IPv4.
    pub ipv4: bool,
}

impl Route {
    /// Reads an `RTM_NEWROUTE` (true) or `RTM_DELROUTE` (false).
    pub fn decode(message: &Message<'_>) -> Option<(bool, Self)> {
        let exists = match message.kind {
            RTM_NEWROUTE => true,
            RTM_DELROUTE => false,
            _ => return None,
        };
        // struct rtmsg: u8 family, dst_len, src_len, tos, table, protocol, scope, type, u32 flags
        let [family, prefix_len, _, _, _, _, _, kind] = *message.payload.first_chunk()?;
        let mut route = Self {
            oif: None,
            gateway: None,
            unicast: kind == RTN_UNICAST,
            local: kind == RTN_LOCAL,
            encap: false,
            multicast: kind == RTN_MULTICAST,
            mtu: None,
            dst: None,
            prefix_len,
            ipv4: family == super::attribute::AF_INET,
        };
        for (number, value) in attributes(message.payload.get(12..)?) {
            match number {
                RTA_DST => route.dst = ip_from(value),
                RTA_OIF => route.oif = u32_from(value),
                RTA_METRICS => route.mtu = mtu_among(value),
                5 => route.gateway = ip_from(value),
                RTA_ENCAP_TYPE => route.encap = true,
                // RTA_VIA: an address of the other family, u16 family first.
                18 => route.gateway = ip_from(value.get(2..)?),
                _ => {}
            }
        }
        Some((exists, route))
    }

    /// Whether its prefix contains an address.
    pub fn contains(&self, addr: IpAddr) -> bool {
        let bits = u32::from(self.prefix_len);
        match (self.dst, addr) {
            (None, addr) => addr.is_ipv4() == self.ipv4,
            (Some(IpAddr::V4(dst)), IpAddr::V4(addr)) => {
                (dst.to_bits() ^ addr.to_bits())
                    .checked_shr(32 - bits.min(32))
                    .unwrap_or(0)
                    == 0
            }
            (Some(IpAddr::V6(dst)), IpAddr::V6(addr)) => {
                (dst.to_bits() ^ addr.to_bits())
                    .checked_shr(128 - bits.min(128))
                    .unwrap_or(0)
                    == 0
            }
            _ => false,
        }
    }
}

/// The metric `RTAX_MTU`, 0 being none.
fn mtu_among(metrics: &[u8]) -> Option<u32> {
    let (_, value) = attributes(metrics).find(|(number, _)| *number == RTAX_MTU)?;
    u32_from(value).filter(|mtu| *mtu > 0)
}

/// The way that the kernel's own UDP datagram would take: rules, metrics, nexthop objects included. An error with an
/// errno is the answer "none" (`ENETUNREACH`, `EHOSTUNREACH`, `EINVAL` when the source is no address of ours).
pub fn route_to(socket: &mut Socket, query: &RouteQuery) -> Result<Route, Error> {
    let bits = if query.dst.is_ipv4() { 32 } else { 128 };
    let mut body = RequestBody::new(&[
        family_of(query.dst),
        bits,
        bits,
        query.tos,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ])
    .with_ip(RTA_DST, query.dst)
    .with_ip(RTA_SRC, query.src)
    .with(RTA_IP_PROTO, &[IPPROTO_UDP])
    .with(RTA_DPORT, &query.port.to_be_bytes());
    if query.oif != 0 {
        body = body.with(RTA_OIF, &query.oif.to_ne_bytes());
    }
    let mut answer = None;
    socket.exchange(RTM_GETROUTE, 0, body.as_bytes(), |message| {
        answer = Route::decode(message)
    })?;
    match answer {
        Some((true, route)) => Ok(route),
        _ => Err(Error::Malformed("no route in the answer to a route query")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(dst: Option<&str>, prefix_len: u8) -> Route {
        let dst = dst.map(|dst| dst.parse().unwrap());
        Route {
            oif: None,
            gateway: None,
            unicast: true,
            local: false,
            encap: false,
            multicast: false,
            mtu: None,
            dst,
            prefix_len,
            ipv4: true,
        }
    }

    #[test]
    fn a_prefix_contains_its_addresses() {
        let inside = "10.9.0.200".parse().unwrap();
        assert!(route(Some("10.9.0.0"), 24).contains(inside));
        assert!(!route(Some("10.9.1.0"), 24).contains(inside));
        assert!(route(Some("10.9.0.200"), 32).contains(inside));
        assert!(!route(Some("10.9.0.201"), 32).contains(inside));
        assert!(route(Some("128.0.0.0"), 0).contains(inside));
        assert!(route(None, 0).contains(inside));
        assert!(!route(None, 0).contains("fd00::1".parse().unwrap()));
        assert!(!route(Some("fd00::"), 8).contains(inside));
        assert!(route(Some("fd00::"), 200).contains("fd00::".parse().unwrap()));
    }

    #[test]
    fn a_learned_mtu_is_among_the_metrics() {
        // RTAX_LOCK, then RTAX_MTU of 1300.
        let metrics = [
            8, 0, 1, 0, 4, 0, 0, 0, //
            8, 0, 2, 0, 0x14, 5, 0, 0,
        ];
        let header = [2, 32, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];
        let mtu = |metrics: &[u8]| {
            let body = RequestBody::new(&header).with(RTA_METRICS, metrics);
            let payload = body.as_bytes();
            let message = Message {
                kind: 24,
                flags: 0,
                sequence: 0,
                payload,
                bytes: payload,
            };
            Route::decode(&message).unwrap().1.mtu
        };
        assert_eq!(mtu(&metrics), Some(u32::from_ne_bytes([0x14, 5, 0, 0])));
        assert_eq!(mtu(&metrics[..8]), None);
        assert_eq!(mtu(&metrics[..15]), None, "cut short");
        assert_eq!(mtu(&[8, 0, 2, 0, 0, 0, 0, 0]), None, "0 is none");
    }

    #[test]
    fn an_answer_with_a_gateway_of_the_other_family() {
        let body = RequestBody::new(&[2, 32, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0])
            .with(RTA_DST, &[10, 2, 0, 1])
            .with(RTA_OIF, &4u32.to_ne_bytes())
            .with(
                18,
                &[10, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            );
        let payload = body.as_bytes();
        let message = Message {
            kind: 24,
            flags: 0,
            sequence: 0,
            payload,
            bytes: payload,
        };
        let (exists, route) = Route::decode(&message).unwrap();
        assert!(exists && route.unicast);
        assert!(!route.local && !route.encap && !route.multicast);
        assert_eq!(
            (route.oif, route.gateway),
            (Some(4), Some("fe80::1".parse().unwrap()))
        );
        assert!(
            Route::decode(&Message {
                payload: &payload[..7],
                ..message
            })
            .is_none()
        );
    }

    #[test]
    fn a_local_address_and_a_tunnel_of_the_routes_own_are_told() {
        let mut header = [2, 32, 0, 0, 255, 2, 0, 2, 0, 0, 0, 0];
        let mut decode = |kind, attribute: Option<u16>| {
            header[7] = kind;
            let body = RequestBody::new(&header).with(RTA_DST, &[10, 2, 0, 1]);
            let body = match attribute {
                Some(number) => body.with(number, &[1, 0]),
                None => body,
            };
            let payload = body.as_bytes();
            let message = Message {
                kind: 24,
                flags: 0,
                sequence: 0,
                payload,
                bytes: payload,
            };
            let route = Route::decode(&message).unwrap().1;
            (route.unicast, route.local, route.encap)
        };
        assert_eq!(decode(2, None), (false, true, false));
        assert_eq!(decode(1, Some(RTA_ENCAP_TYPE)), (true, false, true));
        // A broadcast address, a black hole.
        for kind in [3, 6] {
            assert_eq!(decode(kind, None), (false, false, false));
        }
    }
}
