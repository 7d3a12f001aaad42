//! Changes of what the kernel decides by: after one, a frame may get another fate than the frames of its flow before it.
//!
//! Rules, routes, nexthop objects, filters, forwarding: any announcement is a change. Links, addresses, neighbours and FDB entries are
//! announced over and over without one (a neighbour is confirmed, a lease is renewed, a counter moves): of those is remembered
//! what matters, from the beginning on, and only another one is a change.
//!
//! What comes anew is no change where no frame can have been judged by its absence: a link has no frames yet, and a neighbour
//! that was not known led nowhere. An FDB entry is one, because frames to nobody known go everywhere.
//!
//! Not listened to: multicast databases, since only flows between two stations go the direct path. What of IPv6 concerns one
//! link, or groups, is no change either: link-local addresses, and the routes to them, come and go with every pod's device, and no
//! frame that is routed has such an address. What the kernel decides by without an announcement, it is not heard of here; the
//! direct path is not for a node that uses it (`gateway/direct/refused.rs` looks for that).

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use foldhash::fast::FixedState;

use crate::flows::PodSide;
use crate::netlink::{
    self, Address, Group, LinkKind, Message, Neighbour, Received, Socket, Subscription, attributes,
    ip_from, neighbour_flag, neighbour_state, u32_from, xdp_feature_changes,
};
use crate::wire::MacAddr;

/// Room for some thousand notifications. When it does not suffice, that is a change.
const QUEUE_BYTES: usize = 8 << 20;
/// Datagrams taken before looking at the clock again.
const LISTEN_MAX: usize = 1024;
/// States in which a neighbour's address is used.
const VALID: u16 = !(neighbour_state::INCOMPLETE | neighbour_state::FAILED);

/// `RTM_NEWQDISC` to `RTM_GETTFILTER` (`linux/rtnetlink.h`).
const TRAFFIC_CONTROL: std::ops::RangeInclusive<u16> = 36..=46;

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
/// `IFLA_BR_NF_CALL_IPTABLES`, `IFLA_BR_VLAN_DEFAULT_PVID`, `IFLA_BR_MULTI_BOOLOPT`). Between them are timers, which are never
/// twice the same.
const BRIDGE_SETTINGS: [u16; 5] = [7, 8, 36, 39, 46];

const GROUPS: [Group; 13] = [
    Group::Link,
    Group::Neighbour,
    Group::TrafficControl,
    Group::Ipv4Address,
    Group::Ipv4Netconf,
    Group::Ipv4Route,
    Group::Ipv4Rule,
    Group::Ipv6Address,
    Group::Ipv6Netconf,
    Group::Ipv6Route,
    Group::Ipv6Rule,
    Group::Nexthop,
    Group::BridgeVlan,
];

/// A bridge's ports, with their VLANs as they are announced: `IFLA_EXT_MASK` is `RTEXT_FILTER_BRVLAN_COMPRESSED`.
const BRIDGE_PORTS: [u8; 24] = [
    AF_BRIDGE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 29, 0, 4, 0, 0, 0,
];
const AF_BRIDGE: u8 = 7;
/// `sizeof(struct ifinfomsg)`; of what a bridge says of its port: `IFLA_MASTER`, `IFLA_OPERSTATE`, `IFLA_AF_SPEC` (its VLANs),
/// `IFLA_PROTINFO`, and in that its timers (`IFLA_BRPORT_MESSAGE_AGE_TIMER` to `IFLA_BRPORT_HOLD_TIMER`).
const LINK_HEADER_LEN: usize = 16;
const PORT_FACTS: [u16; 3] = [10, 16, 26];
const PORT_SETTINGS: u16 = 12;
const PORT_TIMERS: std::ops::RangeInclusive<u16> = 21..=23;

/// What all is there to begin with: the requests for links, addresses of both families, neighbours and FDB entries
/// (`linux/rtnetlink.h`), with their empty headers.
const DUMPS: [(u16, &[u8]); 6] = [
    (18, &[0; 16]),
    (18, &BRIDGE_PORTS),
    (22, &[2, 0, 0, 0, 0, 0, 0, 0]),
    (22, &[10, 0, 0, 0, 0, 0, 0, 0]),
    (30, &[0; 12]),
    (30, &[7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
];

/// What may change that frames' fates depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Rules or sets of nftables, or of `iptables-nft`.
    Filters,
    /// A link, or a bridge's port.
    Link,
    /// An address of this node.
    Address,
    /// Where a neighbour is.
    Neighbour,
    /// Behind which port a station is.
    Fdb,
    /// A route.
    Route,
    /// A rule that chooses a routing table.
    Rule,
    /// A nexthop object.
    Nexthop,
    /// A queueing discipline or classifier.
    TrafficControl,
    /// Forwarding and the like (`net.ipv4.conf`, `net.ipv6.conf`).
    Netconf,
    /// What devices can do for XDP.
    XdpFeatures,
    /// Whatever could not be told for lack of room.
    Overrun,
    /// An announcement of a kind that is not known here.
    Unknown,
    /// What vxgate itself goes by: another snapshot.
    Snapshot,
    /// Something forbids the direct path, or TCP, that did not before.
    Forbidden,
}

impl Change {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Filters,
        Self::Link,
        Self::Address,
        Self::Neighbour,
        Self::Fdb,
        Self::Route,
        Self::Rule,
        Self::Nexthop,
        Self::TrafficControl,
        Self::Netconf,
        Self::XdpFeatures,
        Self::Overrun,
        Self::Unknown,
        Self::Snapshot,
        Self::Forbidden,
    ];

    /// Its name, the value of the metric label `what`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Filters => "filters",
            Self::Link => "link",
            Self::Address => "address",
            Self::Neighbour => "neighbour",
            Self::Fdb => "fdb",
            Self::Route => "route",
            Self::Rule => "rule",
            Self::Nexthop => "nexthop",
            Self::TrafficControl => "traffic_control",
            Self::Netconf => "netconf",
            Self::XdpFeatures => "xdp_features",
            Self::Overrun => "overrun",
            Self::Unknown => "unknown",
            Self::Snapshot => "snapshot",
            Self::Forbidden => "forbidden",
        }
    }
}

/// What was heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    /// Something changed that frames' fates depend on: what, first of all.
    pub changed: Option<Change>,
    /// Links came, went, moved to another bridge, got another queueing discipline, or can do other things for programs.
    pub links: bool,
}

impl Heard {
    fn note(&mut self, change: Change) {
        self.changed.get_or_insert(change);
    }

    fn note_links(&mut self, change: Change) {
        self.note(change);
        self.links = true;
    }
}

/// Listens to the kernel.
#[derive(Debug)]
pub struct Changes {
    routes: Subscription,
    filters: Option<Subscription>,
    features: Option<Subscription>,
    known: Known,
}

/// What was last said of links, addresses and stations.
#[derive(Debug, Default)]
struct Known {
    links: HashMap<u32, LinkFacts, FixedState>,
    /// What is said of an address, but for its age.
    addresses: HashMap<Address, Vec<u8>, FixedState>,
    stations: HashMap<Station, Option<Place>, FixedState>,
    /// What bridges say of their ports, but for timers.
    ports: HashMap<u32, Vec<u8>, FixedState>,
}

/// What matters of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LinkFacts {
    name: String,
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

impl Changes {
    /// Listens from now on, and asks what there is by now. Where filters do not matter, nobody listens to them.
    ///
    /// # Errors
    /// When the kernel cannot be heard or asked.
    pub fn open(socket: &mut Socket, filters_matter: bool) -> Result<Self, netlink::Error> {
        let io = |source| netlink::Error::Io {
            doing: "listening to what changes",
            source,
        };
        let features = xdp_feature_changes(QUEUE_BYTES).unwrap_or_else(|error| {
            tracing::info!(%error, "no pod's device is sent frames by XDP");
            None
        });
        let filters = if filters_matter {
            Subscription::nftables(QUEUE_BYTES).map_err(io)?
        } else {
            None
        };
        let mut changes = Self {
            routes: Subscription::open(&GROUPS, QUEUE_BYTES).map_err(io)?,
            filters,
            features,
            known: Known::default(),
        };
        for (kind, body) in DUMPS {
            let known = &mut changes.known;
            socket.dump_with(kind, body, |message| {
                known.judge(message, &mut Heard::default());
                None::<()>
            })?;
        }
        Ok(changes)
    }

    /// Whether what devices can do for XDP would change unheard.
    pub fn is_deaf_to_features(&self) -> bool {
        self.features.is_none()
    }

    /// Whether this node would bring frames for an address to this pod, from its bridge's own Ethernet address: by what was last
    /// heard of neighbours, FDB and links.
    pub fn lead_to(&self, addr: IpAddr, pod: &PodSide) -> bool {
        self.known.lead_to(addr, pod)
    }

    /// What to wait for.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let others = self.filters.iter().chain(&self.features);
        std::iter::once(self.routes.as_fd()).chain(others.map(AsFd::as_fd))
    }

    /// Takes what has been announced.
    pub fn hear(&mut self) -> io::Result<Heard> {
        let mut heard = Heard::default();
        let known = &mut self.known;
        listen(&mut self.routes, &mut heard, |message, heard| {
            known.judge(message, heard);
        })?;
        if let Some(filters) = &mut self.filters {
            listen(filters, &mut heard, |_, heard| heard.note(Change::Filters))?;
        }
        if let Some(features) = &mut self.features {
            listen(features, &mut heard, |message, heard| {
                if known.is_port(message) {
                    heard.note_links(Change::XdpFeatures);
                }
            })?;
        }
        Ok(heard)
    }
}

fn listen(
    subscription: &mut Subscription,
    heard: &mut Heard,
    mut judge: impl FnMut(&Message<'_>, &mut Heard),
) -> io::Result<()> {
    for _ in 0..LISTEN_MAX {
        match subscription.receive(|message| judge(message, heard))? {
            Received::Messages => {}
            Received::Nothing => break,
            // Lost ones may have been anything.
            Received::Overrun => heard.note_links(Change::Overrun),
        }
    }
    Ok(())
}

impl Known {
    fn judge(&mut self, message: &Message<'_>, heard: &mut Heard) {
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
                    if !leads_to_a_link(message.payload) {
                        heard.note(Change::Route);
                    }
                }
                kind if RULE.contains(&kind) => heard.note(Change::Rule),
                kind if NETCONF.contains(&kind) => heard.note(Change::Netconf),
                // In the midst of the nexthops' numbers.
                kind if VLAN.contains(&kind) => heard.note(Change::Link),
                kind if NEXTHOP.contains(&kind) => heard.note(Change::Nexthop),
                NEW_LINK | DEL_LINK if !self.port(message) => {}
                NEW_LINK | DEL_LINK => heard.note(Change::Link),
                _ => heard.note(Change::Unknown),
            }
        }
    }

    fn lead_to(&self, addr: IpAddr, side: &PodSide) -> bool {
        let link = |ifindex: u32| self.links.get(&ifindex);
        let Some(bridge) = link(side.pod).and_then(|port| port.master) else {
            return false;
        };
        let place = |station| self.stations.get(&station).copied().flatten();
        let addr = place(Station::Neighbour(bridge, addr));
        let station = place(Station::Fdb(side.pod_mac));
        link(bridge).is_some_and(|bridge| bridge.mac == side.gateway_mac)
            && addr == Some(Place::Address(side.pod_mac))
            && station == Some(Place::Port(side.pod))
    }

    /// Whether what devices can do for XDP is said of a bridge's port, or of nobody knows what. Frames go to no other by XDP.
    fn is_port(&self, features: &Message<'_>) -> bool {
        let said = features.payload.get(GENERIC_HEADER_LEN..);
        let mut said = attributes(said.unwrap_or_default());
        let device = said.find(|(number, _)| *number == FEATURES_IFINDEX);
        let link = device.and_then(|(_, ifindex)| self.links.get(&u32_from(ifindex)?));
        link.is_none_or(|link| link.master.is_some())
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
        for (kind, payload) in &said {
            assert!(!known.lead_to(addr, &side));
            heard(&mut known, *kind, payload);
        }
        assert!(known.lead_to(addr, &side));
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
    fn what_is_there_to_begin_with_is_known() {
        let mut socket = Socket::open().unwrap();
        let changes = Changes::open(&mut socket, true).unwrap();
        assert!(Changes::open(&mut socket, false).unwrap().filters.is_none());
        // The loopback device has the first index of every namespace.
        assert_eq!(changes.known.links[&1].name, "lo");
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
        let mut changed = |filtering: u8, timer: u8, group: u32| {
            let mut payload = vec![0, 0, 1, 0, 5, 0, 0, 0, 0x41, 0, 0, 0, 0, 0, 0, 0];
            let data = RequestBody::default()
                .with(7, &[filtering])
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
        assert!(!changed(0, 1, 0), "it is new");
        assert!(!changed(0, 2, 0));
        assert!(changed(1, 2, 0));
        assert!(!changed(1, 3, 0));
        assert!(changed(1, 3, 7));
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
        };
        let new = Heard {
            changed: None,
            links: true,
        };
        assert_eq!(changed(16, 3), new);
        assert_eq!(changed(16, 3), Heard::default());
        assert_eq!(changed(16, 4), both);
        assert_eq!(changed(17, 4), both);
        assert_eq!(changed(16, 4), new);
        let is_port = |known: &Known, ifindex: u32| {
            let features = RequestBody::new(&[0; 4]).with(1, &ifindex.to_ne_bytes());
            let payload = features.as_bytes();
            known.is_port(&Message {
                kind: 30,
                flags: 0,
                sequence: 0,
                payload,
                bytes: payload,
            })
        };
        assert!(is_port(&known, 5));
        assert!(is_port(&known, 6), "it is not known");
        known.links.get_mut(&5).unwrap().master = None;
        assert!(!is_port(&known, 5));
    }
}
