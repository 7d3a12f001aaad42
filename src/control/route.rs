//! The way to each VTEP: the kernel's answer to the question that its own vxlan device would ask.
//!
//! The kernel's FIB is not copied. Policy rules, metrics, several tables, nexthop objects: the answer contains them all. It
//! is asked again when anything is announced that could change it, and for everything when something may have changed
//! without an announcement. An exception to a route, which is how the kernel remembers the MTU of a path (RFC 1191, RFC
//! 8201), is learned and expires without one: all questions are asked again in turn, some each second.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::FixedState;

use crate::netlink::{self, RouteQuery, Socket, route_to};
use crate::table::{Inherit, SegmentConfig, UnresolvedReason, VtepKey};

/// How frames reach a VTEP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    /// The link that the kernel would send from; none when it has no way.
    pub oif: Option<u32>,
    /// The neighbour on the underlay link, or the group itself, which needs no neighbour; or why there is none.
    pub next_hop: Result<IpAddr, UnresolvedReason>,
    /// The MTU of the path where it is not the link's, in bytes: a route's metric, or an exception that the kernel learned.
    pub mtu: Option<u32>,
}

/// Answers by question. One question serves all VTEPs that differ in nothing which routes look at.
#[derive(Debug, Default)]
pub(super) struct Routes {
    answers: HashMap<(RouteQuery, u32), Way, FixedState>,
    /// Questions to be asked again in this round.
    round: Vec<(RouteQuery, u32)>,
}

impl Routes {
    /// Forgets every answer.
    pub(super) fn clear(&mut self) {
        self.answers.clear();
    }

    /// Forgets the answers that are not among `used`.
    pub(super) fn retain(&mut self, used: &dyn Fn(&(RouteQuery, u32)) -> bool) {
        self.answers.retain(|question, _| used(question));
    }

    /// The kernel's answer, from memory when it has been asked before.
    pub(super) fn way(
        &mut self,
        socket: &mut Socket,
        question: (RouteQuery, u32),
    ) -> Result<Way, netlink::Error> {
        if let Some(way) = self.answers.get(&question) {
            return Ok(*way);
        }
        let (query, underlay) = question;
        let way = judge(route_to(socket, &query), query.dst, underlay)?;
        self.answers.insert(question, way);
        Ok(way)
    }

    /// Asks the next questions again, at most `questions_max` of them, one round after the other; whether an answer changed.
    pub(super) fn ask_again(
        &mut self,
        socket: &mut Socket,
        questions_max: usize,
    ) -> Result<bool, netlink::Error> {
        if self.round.is_empty() {
            self.round.extend(self.answers.keys());
        }
        let mut changed = false;
        for _ in 0..questions_max {
            let Some((query, underlay)) = self.round.pop() else {
                break;
            };
            // Forgotten meanwhile: it is asked when it is needed.
            let Some(known) = self.answers.get_mut(&(query, underlay)) else {
                continue;
            };
            let way = judge(route_to(socket, &query), query.dst, underlay)?;
            changed |= way != *known;
            *known = way;
        }
        Ok(changed)
    }

    /// How many answers are known.
    pub(super) fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether any way leads out of this link, wanted or not.
    pub(super) fn leave_from(&self, ifindex: u32) -> bool {
        self.answers.values().any(|way| way.oif == Some(ifindex))
    }

    /// Forgets the answers about addresses within this prefix; whether there were any.
    pub(super) fn forget_within(&mut self, route: &netlink::Route) -> bool {
        let before = self.answers.len();
        self.answers
            .retain(|(query, _), _| !route.contains(query.dst));
        self.answers.len() != before
    }
}

/// Whether there is a way that we could serve: otherwise no question is worth asking. The kernel drops what goes to the
/// address of nobody, and counts what is of a family that the device has no socket for.
pub(super) fn is_askable(config: &SegmentConfig, key: &VtepKey) -> bool {
    key.addr.is_ipv4() == config.local.is_ipv4() && !key.addr.is_unspecified()
}

/// What the device would ask for this VTEP (`vxlan_xmit_one`, `udp_tunnel_dst_lookup`), and the only link that we serve.
pub(super) fn question(config: &SegmentConfig, key: &VtepKey, via: u32) -> (RouteQuery, u32) {
    let tos = match config.tos {
        // The ECN bits are no part of the route's choice.
        Inherit::Fixed(tos) => tos & 0xfc,
        Inherit::Inner => 0,
    };
    // The device's `dev` restricts only entries that carry it (its own `remote`); others follow the routes alone.
    let query = RouteQuery {
        dst: key.addr,
        src: config.local,
        oif: via,
        tos,
        port: key.port,
    };
    (query, config.underlay_ifindex)
}

fn judge(
    answer: Result<netlink::Route, netlink::Error>,
    dst: IpAddr,
    underlay: u32,
) -> Result<Way, netlink::Error> {
    let route = match answer {
        Ok(route) => route,
        // No route, a black hole, a prohibition, or the source is no address of ours any more.
        Err(netlink::Error::Kernel { .. }) => {
            return Ok(Way {
                oif: None,
                next_hop: Err(UnresolvedReason::NoRoute),
                mtu: None,
            });
        }
        Err(error) => return Err(error),
    };
    let to_group = route.multicast && dst.is_multicast();
    let next_hop = if route.local {
        Err(UnresolvedReason::LocalAddress)
    } else if !(route.unicast || to_group) || route.encap || route.oif != Some(underlay) {
        Err(UnresolvedReason::Unsupported)
    } else {
        Ok(route.gateway.unwrap_or(dst))
    };
    Ok(Way {
        oif: route.oif,
        next_hop,
        mtu: route.mtu,
    })
}

#[cfg(test)]
mod tests {
    use super::super::merge::tests::config;
    use super::*;

    fn route(oif: u32, gateway: Option<&str>, unicast: bool) -> netlink::Route {
        let gateway = gateway.map(|addr| addr.parse().unwrap());
        netlink::Route {
            oif: Some(oif),
            gateway,
            unicast,
            local: false,
            encap: false,
            multicast: false,
            mtu: Some(1300),
            dst: None,
            prefix_len: 32,
            ipv4: true,
        }
    }

    fn next_hop(route: netlink::Route) -> Result<IpAddr, UnresolvedReason> {
        judge(Ok(route), "10.9.0.2".parse().unwrap(), 3)
            .unwrap()
            .next_hop
    }

    #[test]
    fn on_the_link_the_vtep_is_its_own_next_hop() {
        assert_eq!(
            next_hop(route(3, None, true)),
            Ok("10.9.0.2".parse().unwrap())
        );
        assert_eq!(
            next_hop(route(3, Some("10.9.0.254"), true)),
            Ok("10.9.0.254".parse().unwrap())
        );
    }

    #[test]
    fn a_group_is_its_own_next_hop_and_a_route_to_it_may_have_a_gateway() {
        let group = "239.1.1.1".parse().unwrap();
        let next_hop = |route| {
            let route = netlink::Route {
                multicast: true,
                ..route
            };
            judge(Ok(route), group, 3).unwrap().next_hop
        };
        assert_eq!(next_hop(route(3, None, false)), Ok(group));
        let gateway = Some("10.9.0.254");
        assert_eq!(
            next_hop(route(3, gateway, false)),
            Ok("10.9.0.254".parse().unwrap())
        );
        let elsewhere = Err(UnresolvedReason::Unsupported);
        assert_eq!(next_hop(route(9, None, false)), elsewhere);
    }

    #[test]
    fn other_links_and_local_addresses_are_no_way() {
        let broadcast = route(3, None, false);
        let encap = netlink::Route {
            encap: true,
            ..route(3, Some("10.9.0.254"), true)
        };
        for unsupported in [route(9, None, true), broadcast, encap] {
            assert_eq!(
                next_hop(unsupported),
                Err(UnresolvedReason::Unsupported),
                "{unsupported:?}"
            );
        }
        let local = netlink::Route {
            local: true,
            ..route(1, None, false)
        };
        assert_eq!(next_hop(local), Err(UnresolvedReason::LocalAddress));
        let unreachable = netlink::Error::Kernel {
            code: 101,
            text: None,
        };
        let way = judge(Err(unreachable), "10.9.0.2".parse().unwrap(), 3).unwrap();
        assert_eq!(
            way,
            Way {
                oif: None,
                next_hop: Err(UnresolvedReason::NoRoute),
                mtu: None,
            }
        );
        assert!(
            judge(
                Err(netlink::Error::Malformed("")),
                "10.9.0.2".parse().unwrap(),
                3
            )
            .is_err()
        );
    }

    #[test]
    fn only_entries_with_a_device_of_their_own_restrict_the_route() {
        let key = VtepKey {
            addr: "10.9.0.2".parse().unwrap(),
            port: 4790,
            vni: config().vni,
        };
        let mut config = config();
        config.tos = Inherit::Fixed(0xb9);
        let (query, underlay) = question(&config, &key, 0);
        assert_eq!(
            (query.oif, query.tos, query.port, underlay),
            (0, 0xb8, 4790, 3)
        );
        assert_eq!(question(&config, &key, 3).0.oif, 3);
    }
}
