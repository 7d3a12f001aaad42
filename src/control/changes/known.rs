//! What was last said of links, addresses and stations: what is said again is no change.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::FixedState;

use super::super::narrow::NarrowRoutes;
use super::{Change, Heard};
use crate::flows::PodSide;
use crate::netlink::{
    Address, LinkKind, Message, Neighbour, attributes, ip_from, neighbour_flag, neighbour_state,
    u32_from,
};
use crate::wire::MacAddr;

/// States in which a neighbour's address is used.
const VALID: u16 = !(neighbour_state::INCOMPLETE | neighbour_state::FAILED);

/// `RTM_NEWQDISC` to `RTM_GETTFILTER` (`linux/rtnetlink.h`).
const TRAFFIC_CONTROL: std::ops::RangeInclusive<u16> = 36..=46;

/// `RTM_GETNEIGH`: the kernel asks whoever may know where a neighbour is, or a station (`neigh_app_ns`, `vxlan_fdb_miss`).
const GET_NEIGHBOUR: u16 = 30;
/// `RTM_NEWLINK`, `RTM_DELLINK`.
const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;
/// `RTM_NEWROUTE`, `RTM_DELROUTE`.
const ROUTE: std::ops::RangeInclusive<u16> = 24..=25;
/// `RTM_NEWRULE`, `RTM_DELRULE`.
const RULE: std::ops::RangeInclusive<u16> = 32..=33;
/// `RTM_NEWNETCONF`, `RTM_DELNETCONF`.
const NETCONF: std::ops::RangeInclusive<u16> = 80..=81;
/// `RTM_NEWVLAN`, `RTM_DELVLAN`.
const VLAN: std::ops::RangeInclusive<u16> = 112..=113;
/// `RTM_NEWNEXTHOP` to `RTM_GETNEXTHOPBUCKET`.
const NEXTHOP: std::ops::RangeInclusive<u16> = 104..=118;
/// `RTA_DST`, `sizeof(struct rtmsg)`, and how long the prefixes of all link-local addresses, and of all groups, of IPv6 are.
const ROUTE_DESTINATION: u16 = 1;
const ROUTE_HEADER_LEN: usize = 12;
const LINK_LOCAL_PREFIX_LEN: u8 = 10;
const GROUP_PREFIX_LEN: u8 = 8;
/// `IFA_CACHEINFO`: how long an address is valid, and when it was changed.
const ADDRESS_AGE: u16 = 6;
/// `sizeof(struct ifaddrmsg)`.
const ADDRESS_HEADER_LEN: usize = 8;

/// `sizeof(struct genlmsghdr)`, and `NETDEV_A_DEV_IFINDEX` (`linux/netdev.h`).
const GENERIC_HEADER_LEN: usize = 4;
const FEATURES_IFINDEX: u16 = 1;

/// What of a bridge's own settings decides whether a frame gets through (`IFLA_BR_VLAN_FILTERING`, `IFLA_BR_VLAN_PROTOCOL`,
/// `IFLA_BR_NF_CALL_IPTABLES`, `IFLA_BR_NF_CALL_IP6TABLES`, `IFLA_BR_VLAN_DEFAULT_PVID`, `IFLA_BR_MULTI_BOOLOPT`). Between them
/// are timers, which are never twice the same.
const BRIDGE_SETTINGS: [u16; 6] = [7, 8, 36, 37, 39, 46];

/// The family of what bridges say of their ports (`linux/socket.h`).
pub(super) const AF_BRIDGE: u8 = 7;
/// `sizeof(struct ifinfomsg)`; of what a bridge says of its port: `IFLA_MASTER`, `IFLA_OPERSTATE`, `IFLA_AF_SPEC` (its VLANs),
/// `IFLA_PROTINFO`, and in that its timers (`IFLA_BRPORT_MESSAGE_AGE_TIMER` to `IFLA_BRPORT_HOLD_TIMER`).
const LINK_HEADER_LEN: usize = 16;
const PORT_FACTS: [u16; 3] = [10, 16, 26];
const PORT_SETTINGS: u16 = 12;
const PORT_TIMERS: std::ops::RangeInclusive<u16> = 21..=23;

/// What was last said of links, addresses and stations.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub links: HashMap<u32, LinkFacts, FixedState>,
    /// What is said of an address, but for its age.
    addresses: HashMap<Address, Vec<u8>, FixedState>,
    stations: HashMap<Station, Option<Place>, FixedState>,
    /// What bridges say of their ports, but for timers.
    ports: HashMap<u32, Vec<u8>, FixedState>,
    pub narrow: NarrowRoutes,
    /// Underlay devices that frames from pods go out of by XDP.
    pub nics: Vec<u32>,
    /// Links that are gone, until somebody asks for them.
    pub gone: Vec<u32>,
}

/// What matters of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LinkFacts {
    pub name: String,
    mac: MacAddr,
    mtu: u32,
    up: bool,
    running: bool,
    master: Option<u32>,
    qdisc: String,
    group: u32,
    /// Of a bridge: `BRIDGE_SETTINGS`.
    settings: Vec<(u16, Vec<u8>)>,
}

/// A neighbour by its address, or an FDB entry by its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Station {
    Neighbour(u32, IpAddr),
    Fdb(MacAddr),
}

/// Where frames to it go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Address(MacAddr),
    Port(u32),
}

impl Known {
    /// Takes an announcement, and notes what changed by it.
    pub fn judge(&mut self, message: &Message<'_>, heard: &mut Heard) {
        if let Some((exists, entry)) = Neighbour::decode(message) {
            let what = [Change::Neighbour, Change::Fdb][usize::from(entry.fdb)];
            if self.station(exists, &entry) {
                heard.note(what);
            }
        } else if let Some((exists, found)) = LinkKind::decode(message) {
            self.link(exists, found, heard);
        } else if let Some((exists, address)) = Address::decode(message) {
            if !is_of_a_link(&address.local) && self.address(exists, address, message.payload) {
                heard.note(Change::Address);
            }
        } else {
            match message.kind {
                kind if TRAFFIC_CONTROL.contains(&kind) => heard.note_links(Change::TrafficControl),
                kind if ROUTE.contains(&kind) => {
                    self.narrow.hear(message);
                    if !leads_to_a_link(message.payload) {
                        heard.note(Change::Route);
                    }
                }
                kind if RULE.contains(&kind) => heard.note(Change::Rule),
                kind if NETCONF.contains(&kind) => heard.note(Change::Netconf),
                // In the midst of the nexthops' numbers.
                kind if VLAN.contains(&kind) => heard.note(Change::Link),
                kind if NEXTHOP.contains(&kind) => heard.note(Change::Nexthop),
                GET_NEIGHBOUR => {}
                NEW_LINK | DEL_LINK if !self.port(message) => {}
                NEW_LINK | DEL_LINK => heard.note(Change::Link),
                _ => heard.note(Change::Unknown),
            }
        }
    }

    /// Whether it is this node that a pod sends to and is sent from, by its bridge's own Ethernet address, and not another pod between
    /// them.
    pub fn is_gateway_of(&self, side: &PodSide) -> bool {
        let bridge = self.bridge_of(side);
        let bridge = bridge.and_then(|bridge| self.links.get(&bridge));
        bridge.is_some_and(|bridge| bridge.mac == side.gateway_mac)
    }

    fn bridge_of(&self, side: &PodSide) -> Option<u32> {
        self.links.get(&side.pod).and_then(|port| port.master)
    }

    /// Whether an address leads to this pod.
    pub fn lead_to(&self, addr: IpAddr, side: &PodSide) -> bool {
        let Some(bridge) = self.bridge_of(side) else {
            return false;
        };
        let place = |station| self.stations.get(&station).copied().flatten();
        let addr = place(Station::Neighbour(bridge, addr));
        let station = place(Station::Fdb(side.pod_mac));
        self.is_gateway_of(side)
            && addr == Some(Place::Address(side.pod_mac))
            && station == Some(Place::Port(side.pod))
    }

    /// Whether what devices can do for XDP is said of a bridge's port, of one of `nics`, or of nobody knows what. Frames go to no
    /// other by XDP.
    pub fn takes_by_xdp(&self, features: &Message<'_>) -> bool {
        let said = features.payload.get(GENERIC_HEADER_LEN..);
        let mut said = attributes(said.unwrap_or_default());
        let device = said.find(|(number, _)| *number == FEATURES_IFINDEX);
        let ifindex = device.and_then(|(_, ifindex)| u32_from(ifindex));
        let link = ifindex.and_then(|ifindex| self.links.get(&ifindex));
        link.is_none_or(|link| link.master.is_some())
            || ifindex.is_some_and(|ifindex| self.nics.contains(&ifindex))
    }

    /// Whether what a bridge says of its port is another thing: which VLANs, which state, isolated or not. It says so again whenever
    /// something of the device changes, be it a program at its other end.
    fn port(&mut self, message: &Message<'_>) -> bool {
        let Some((header, rest)) = message.payload.split_first_chunk::<LINK_HEADER_LEN>() else {
            return true;
        };
        let [family, _, _, _, i0, i1, i2, i3, ..] = *header;
        let ifindex = u32::from_ne_bytes([i0, i1, i2, i3]);
        if family != AF_BRIDGE || message.kind != NEW_LINK {
            self.ports.remove(&ifindex);
            return true;
        }
        let mut said = Vec::new();
        let mut say = |number: u16, value: &[u8]| {
            said.extend(number.to_ne_bytes());
            said.extend(value);
        };
        for (number, value) in attributes(rest) {
            if number == PORT_SETTINGS {
                let settings = attributes(value).filter(|(of, _)| !PORT_TIMERS.contains(of));
                settings.for_each(|(of, value)| say(of, value));
            } else if PORT_FACTS.contains(&number) {
                say(number, value);
            }
        }
        self.ports.insert(ifindex, said.clone()) != Some(said)
    }

    /// Notes when another thing is true of a link that was there before, or it is gone.
    fn link(&mut self, exists: bool, found: LinkKind, heard: &mut Heard) {
        let LinkKind {
            link,
            data,
            qdisc,
            group,
            ..
        } = found;
        if !exists {
            self.links.remove(&link.ifindex);
            self.gone.push(link.ifindex);
            return heard.note_links(Change::Link);
        }
        let mut settings = Vec::new();
        if link.kind.as_deref() == Some("bridge") {
            let decisive = attributes(&data).filter(|(number, _)| BRIDGE_SETTINGS.contains(number));
            settings.extend(decisive.map(|(number, value)| (number, value.to_vec())));
        }
        let facts = LinkFacts {
            name: link.name,
            mac: link.mac,
            mtu: link.mtu,
            up: link.up,
            running: link.running,
            master: link.master,
            qdisc,
            group,
            settings,
        };
        match self.links.insert(link.ifindex, facts.clone()) {
            Some(before) if before == facts => {}
            Some(_) => heard.note_links(Change::Link),
            None => heard.links = true,
        }
    }

    /// Whether an address is there that was not, or is gone, or counts for other things.
    fn address(&mut self, exists: bool, address: Address, payload: &[u8]) -> bool {
        if !exists {
            self.addresses.remove(&address);
            return true;
        }
        let (header, rest) = payload.split_at(ADDRESS_HEADER_LEN.min(payload.len()));
        let mut said = header.to_vec();
        for (number, value) in attributes(rest).filter(|(number, _)| *number != ADDRESS_AGE) {
            said.extend(number.to_ne_bytes());
            said.extend(value);
        }
        self.addresses.insert(address, said.clone()) != Some(said)
    }

    /// Whether frames that went somewhere go to another Ethernet address, or to another place, or nowhere.
    fn station(&mut self, exists: bool, entry: &Neighbour) -> bool {
        // Of a vxlan device, or of a device of its own: where it points may be another VTEP each time.
        if entry.fdb && (entry.dst.is_some() || entry.flags & neighbour_flag::SELF != 0) {
            return true;
        }
        // Nobody has announced it, but the kernel announces that it has forgotten it: groups are nobody's neighbours.
        if !entry.fdb && entry.dst.is_some_and(|addr| addr.is_multicast()) {
            return false;
        }
        let usable = exists && entry.state & VALID != 0;
        let (station, place) = match (entry.fdb, entry.mac, entry.dst) {
            (true, Some(mac), _) => (Station::Fdb(mac), Some(Place::Port(entry.ifindex))),
            (false, mac, Some(addr)) => {
                let station = Station::Neighbour(entry.ifindex, addr);
                (station, mac.map(Place::Address))
            }
            _ => return true,
        };
        let place = place.filter(|_| if entry.fdb { exists } else { usable });
        // What is not known led anywhere, or nowhere.
        let before = if place.is_some() {
            self.stations.insert(station, place)
        } else {
            self.stations.remove(&station)
        };
        let before = before.flatten();
        if entry.fdb {
            before != place || !exists
        } else {
            before.is_some() && before != place
        }
    }
}

/// Whether no frame that is routed has this address.
fn is_of_a_link(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(addr) if addr.is_unicast_link_local())
}

/// Whether a route is to such addresses, or to groups of IPv6.
fn leads_to_a_link(route: &[u8]) -> bool {
    // struct rtmsg: u8 family, u8 length of the destination's prefix, …
    let Some([_, prefix_len, ..]) = route.first_chunk::<ROUTE_HEADER_LEN>() else {
        return false;
    };
    let mut said = attributes(route.get(ROUTE_HEADER_LEN..).unwrap_or_default());
    let destination = said.find(|(number, _)| *number == ROUTE_DESTINATION);
    match destination.and_then(|(_, value)| ip_from(value)) {
        Some(addr @ IpAddr::V6(_)) if is_of_a_link(&addr) => *prefix_len >= LINK_LOCAL_PREFIX_LEN,
        Some(IpAddr::V6(addr)) if addr.is_multicast() => *prefix_len >= GROUP_PREFIX_LEN,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::RequestBody;

    const NEW: u16 = 28;
    const DEL: u16 = 29;
    const REACHABLE: u8 = 0x02;
    const STALE: u8 = 0x04;
    const FAILED: u8 = 0x20;
    const BRIDGE: u8 = 7;
    const INET: u8 = 2;

    impl Heard {
        fn is(&self, change: Change) -> bool {
            assert!(
                self.changed.is_none_or(|changed| changed == change),
                "{self:?}"
            );
            self.changed.is_some()
        }
    }

    fn heard(known: &mut Known, kind: u16, payload: &[u8]) -> Heard {
        let mut heard = Heard::default();
        let message = Message {
            kind,
            flags: 0,
            sequence: 0,
            payload,
            bytes: payload,
        };
        known.judge(&message, &mut heard);
        heard
    }

    fn neighbour(family: u8, state: u8, mac: u8) -> Vec<u8> {
        on_port(5, family, state, mac)
    }

    fn on_port(port: u8, family: u8, state: u8, mac: u8) -> Vec<u8> {
        let mut payload = vec![family, 0, 0, 0, port, 0, 0, 0, state, 0, 0, 0];
        let mut body = RequestBody::default().with(2, &[2, 0, 0, 0, 0, mac]);
        if family == INET {
            body = body.with(1, &[10, 244, 0, 5]);
        }
        payload.extend(body.as_bytes());
        payload
    }

    #[test]
    fn a_neighbour_that_is_confirmed_is_no_change_and_one_with_another_address_is() {
        let mut known = Known::default();
        let mut changed = |kind, state, mac| {
            heard(&mut known, kind, &neighbour(INET, state, mac)).is(Change::Neighbour)
        };
        assert!(!changed(NEW, FAILED, 1), "it leads nowhere");
        assert!(!changed(NEW, REACHABLE, 1), "it led nowhere");
        assert!(!changed(NEW, STALE, 1));
        assert!(!changed(NEW, REACHABLE, 1));
        assert!(changed(NEW, REACHABLE, 2));
        assert!(changed(NEW, FAILED, 2));
        assert!(!changed(NEW, REACHABLE, 2));
        assert!(changed(DEL, STALE, 2));
        assert!(!changed(DEL, FAILED, 2));
    }

    #[test]
    fn a_group_that_the_kernel_forgets_is_no_change() {
        const NOARP: u8 = 0x40;
        let mut known = Known::default();
        let mut changed = |kind, addr: &str| {
            let octets = addr.parse::<std::net::Ipv6Addr>().unwrap().octets();
            let body = RequestBody::new(&[10, 0, 0, 0, 5, 0, 0, 0, NOARP, 0, 0, 0])
                .with(1, &octets)
                .with(2, &[2, 0, 0, 0, 0, 1]);
            heard(&mut known, kind, body.as_bytes()).is(Change::Neighbour)
        };
        assert!(!changed(NEW, "ff02::1") && !changed(DEL, "ff02::1"));
        assert!(!changed(NEW, "fd00::1") && changed(DEL, "fd00::1"));
    }

    #[test]
    fn a_station_that_leaves_a_bridge_is_a_change_and_one_that_is_heard_again_is_not() {
        let mut known = Known::default();
        let mut changed = |kind, port| {
            heard(&mut known, kind, &on_port(port, BRIDGE, REACHABLE, 1)).is(Change::Fdb)
        };
        assert!(changed(NEW, 5));
        assert!(!changed(NEW, 5));
        assert!(changed(NEW, 6), "it moved");
        assert!(changed(DEL, 6));
    }

    #[test]
    fn an_address_leads_to_the_pod_that_neighbours_and_fdb_say() {
        const OWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
        let link = |ifindex: u8, mac: MacAddr, master: Option<u8>| {
            let mut payload = vec![0, 0, 1, 0, ifindex, 0, 0, 0, 0x41, 0, 0, 0, 0, 0, 0, 0];
            let mut body = RequestBody::default().with(1, &mac.0).with(3, b"x\0");
            if let Some(bridge) = master {
                body = body.with(10, &[bridge, 0, 0, 0]);
            }
            payload.extend(body.as_bytes());
            payload
        };
        let mut known = Known::default();
        let side = PodSide {
            pod: 6,
            pod_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            gateway_mac: OWN,
        };
        let addr = IpAddr::from([10, 244, 0, 5]);
        let said = [
            (16, link(6, MacAddr::ZERO, Some(5))),
            (16, link(5, OWN, None)),
            (NEW, neighbour(INET, REACHABLE, 1)),
            (NEW, on_port(6, BRIDGE, REACHABLE, 1)),
        ];
        for (at, (kind, payload)) in said.iter().enumerate() {
            assert!(!known.lead_to(addr, &side));
            assert_eq!(known.is_gateway_of(&side), at >= 2);
            heard(&mut known, *kind, payload);
        }
        assert!(known.lead_to(addr, &side));
        let through_a_pod = PodSide {
            gateway_mac: MacAddr([2, 0, 0, 0, 0, 8]),
            ..side
        };
        assert!(!known.is_gateway_of(&through_a_pod));
        // Another pod, another address of its, another gateway, another address.
        for other in [
            PodSide { pod: 7, ..side },
            PodSide {
                pod_mac: OWN,
                ..side
            },
            PodSide {
                gateway_mac: side.pod_mac,
                ..side
            },
        ] {
            assert!(!known.lead_to(addr, &other), "{other:?}");
        }
        assert!(!known.lead_to([10, 244, 0, 6].into(), &side));
        heard(&mut known, DEL, &neighbour(INET, STALE, 1));
        assert!(!known.lead_to(addr, &side));
    }

    #[test]
    fn routes_and_whatever_is_not_known_are_changes() {
        for (kind, change) in [
            (24, Change::Route),
            (25, Change::Route),
            (32, Change::Rule),
            (33, Change::Rule),
            (80, Change::Netconf),
            (104, Change::Nexthop),
            (112, Change::Link),
            (116, Change::Nexthop),
            (16, Change::Link),
            (9999, Change::Unknown),
        ] {
            // A link's message of a bridge, which speaks of its port.
            let heard = heard(&mut Known::default(), kind, &[BRIDGE; 16]);
            assert!(heard.is(change) && !heard.links, "{kind}: {heard:?}");
        }
    }

    #[test]
    fn a_question_where_a_neighbour_is_is_no_change() {
        const WANTED: u16 = 30;
        for family in [INET, BRIDGE] {
            let asked = heard(&mut Known::default(), WANTED, &neighbour(family, FAILED, 1));
            assert_eq!(asked, Heard::default());
        }
    }

    #[test]
    fn an_address_whose_lease_is_renewed_is_no_change() {
        let mut known = Known::default();
        let address = |flags: u32, valid_s: u32| {
            let mut payload = vec![INET, 24, 0, 0, 3, 0, 0, 0];
            let body = RequestBody::default()
                .with(2, &[10, 0, 0, 5])
                .with(8, &flags.to_ne_bytes())
                .with(
                    ADDRESS_AGE,
                    &[valid_s.to_ne_bytes(), [1; 4], [2; 4], [3; 4]].concat(),
                );
            payload.extend(body.as_bytes());
            payload
        };
        let mut changed = |kind, flags, valid_s| {
            heard(&mut known, kind, &address(flags, valid_s)).is(Change::Address)
        };
        assert!(changed(20, 0x80, 3600));
        assert!(!changed(20, 0x80, 1800));
        assert!(changed(20, 0, 1800), "it is no longer permanent");
        assert!(changed(21, 0, 1800));
        assert!(changed(20, 0, 1800));
    }

    #[test]
    fn what_of_ipv6_concerns_one_link_is_no_change_and_the_rest_is() {
        const INET6: u8 = 10;
        let mut known = Known::default();
        let mut address = |addr: &str| {
            let octets = addr.parse::<std::net::Ipv6Addr>().unwrap().octets();
            let body = RequestBody::new(&[INET6, 64, 0, 0, 3, 0, 0, 0]).with(1, &octets);
            heard(&mut known, 20, body.as_bytes()).is(Change::Address)
        };
        assert!(!address("fe80::1"));
        assert!(address("fd00::1"));
        assert!(!address("fd00::1"), "it is known");
        let route = |kind, prefix_len, addr: &str| {
            let octets = addr.parse::<std::net::Ipv6Addr>().unwrap().octets();
            let body = RequestBody::new(&[INET6, prefix_len, 0, 0, 254, 2, 0, 1, 0, 0, 0, 0])
                .with(ROUTE_DESTINATION, &octets);
            heard(&mut Known::default(), kind, body.as_bytes()).is(Change::Route)
        };
        for kind in ROUTE {
            assert!(!route(kind, 64, "fe80::") && !route(kind, 8, "ff00::"));
            assert!(!route(kind, 128, "fe80::5"));
            assert!(route(kind, 64, "fd00:10:244:1::"));
            assert!(route(kind, 7, "fe00::"), "and all else beside them");
        }
        // A default route has no destination.
        let default = [INET6, 0, 0, 0, 254, 2, 0, 1, 0, 0, 0, 0];
        assert!(heard(&mut Known::default(), 24, &default).is(Change::Route));
    }

    #[test]
    fn what_a_bridge_says_of_its_port_is_a_change_when_it_says_another_thing() {
        let mut known = Known::default();
        let mut changed = |kind, isolated: u8, timer: u8| {
            let mut payload = vec![BRIDGE, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            let settings = RequestBody::default()
                .with(33, &[isolated])
                .with(22, &[timer; 8]);
            let body = RequestBody::default()
                .with(10, &[9, 0, 0, 0])
                .with(PORT_SETTINGS, settings.as_bytes());
            payload.extend(body.as_bytes());
            heard(&mut known, kind, &payload).is(Change::Link)
        };
        assert!(changed(16, 0, 1), "nothing was known of it");
        assert!(!changed(16, 0, 2));
        assert!(changed(16, 1, 2));
        assert!(!changed(16, 1, 3));
        assert!(changed(17, 1, 3));
        assert!(changed(16, 1, 3));
    }

    #[test]
    fn a_bridge_is_a_change_when_a_setting_is_another_and_not_when_its_timers_run() {
        let mut known = Known::default();
        let mut changed = |filtering: u8, calls_ip6tables: u8, timer: u8, group: u32| {
            let mut payload = vec![0, 0, 1, 0, 5, 0, 0, 0, 0x41, 0, 0, 0, 0, 0, 0, 0];
            let data = RequestBody::default()
                .with(7, &[filtering])
                .with(37, &[calls_ip6tables])
                .with(19, &[timer; 8]);
            let info = RequestBody::default()
                .with(1, b"bridge\0")
                .with(2, data.as_bytes());
            let body = RequestBody::default()
                .with(3, b"cni0\0")
                .with(18, info.as_bytes())
                .with(27, &group.to_ne_bytes());
            payload.extend(body.as_bytes());
            heard(&mut known, 16, &payload).is(Change::Link)
        };
        assert!(!changed(0, 0, 1, 0), "it is new");
        assert!(!changed(0, 0, 2, 0));
        assert!(changed(1, 0, 2, 0));
        assert!(!changed(1, 0, 3, 0));
        assert!(changed(1, 1, 3, 0));
        assert!(changed(1, 1, 3, 7));
    }

    #[test]
    fn a_link_is_a_change_when_something_of_it_is_another() {
        let mut known = Known::default();
        let link = |master: u32| {
            let mut payload = vec![0, 0, 1, 0, 5, 0, 0, 0, 0x41, 0, 0, 0, 0, 0, 0, 0];
            let body = RequestBody::default()
                .with(3, b"veth1\0")
                .with(10, &master.to_ne_bytes());
            payload.extend(body.as_bytes());
            payload
        };
        let mut changed = |kind, master| heard(&mut known, kind, &link(master));
        let both = Heard {
            changed: Some(Change::Link),
            links: true,
            more_waits: false,
        };
        let new = Heard {
            changed: None,
            links: true,
            more_waits: false,
        };
        assert_eq!(changed(16, 3), new);
        assert_eq!(changed(16, 3), Heard::default());
        assert_eq!(changed(16, 4), both);
        assert_eq!(changed(17, 4), both);
        assert_eq!(changed(16, 4), new);
        let takes = |known: &Known, ifindex: u32| {
            let features = RequestBody::new(&[0; 4]).with(1, &ifindex.to_ne_bytes());
            let payload = features.as_bytes();
            known.takes_by_xdp(&Message {
                kind: 30,
                flags: 0,
                sequence: 0,
                payload,
                bytes: payload,
            })
        };
        assert!(takes(&known, 5));
        assert!(takes(&known, 6), "it is not known");
        known.links.get_mut(&5).unwrap().master = None;
        assert!(!takes(&known, 5));
        known.nics.push(5);
        assert!(takes(&known, 5), "frames from pods go out of it");
    }
}
