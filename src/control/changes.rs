//! Changes of what the kernel decides by: after one, a frame may get another fate than the frames of its flow before it.
//!
//! Rules, routes, nexthop objects, addresses, filters, forwarding: any announcement is a change. Links, neighbours and FDB entries are
//! announced over and over without one (a neighbour is confirmed, a counter moves): of those is remembered what matters, and
//! only another one is a change. What the kernel decides by without an announcement, it is not heard of here; the
//! direct path is not for a node that uses it (`gateway/direct.rs` looks for that).

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use foldhash::fast::FixedState;

use crate::netlink::{
    Group, LinkKind, Message, Neighbour, Received, Subscription, neighbour_flag, neighbour_state,
    xdp_feature_changes,
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

const GROUPS: [Group; 12] = [
    Group::Link,
    Group::Neighbour,
    Group::TrafficControl,
    Group::Ipv4Address,
    Group::Ipv4Netconf,
    Group::Ipv4Route,
    Group::Ipv4Rule,
    Group::Ipv6Address,
    Group::Ipv6Route,
    Group::Ipv6Rule,
    Group::Mdb,
    Group::Nexthop,
];

/// What was heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    /// Something changed that frames' fates depend on.
    pub changed: bool,
    /// Links came, went, moved to another bridge, got another queueing discipline, or can do other things for programs.
    pub links: bool,
}

/// Listens to the kernel.
#[derive(Debug)]
pub struct Changes {
    routes: Subscription,
    filters: Option<Subscription>,
    features: Option<Subscription>,
    known: Known,
}

/// What was last said of links and stations.
#[derive(Debug, Default)]
struct Known {
    links: HashMap<u32, LinkFacts, FixedState>,
    stations: HashMap<Station, Option<Place>, FixedState>,
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
    /// Listens from now on.
    pub fn open() -> io::Result<Self> {
        let features = xdp_feature_changes(QUEUE_BYTES).unwrap_or_else(|error| {
            tracing::info!(%error, "no pod's device is sent frames by XDP");
            None
        });
        Ok(Self {
            routes: Subscription::open(&GROUPS, QUEUE_BYTES)?,
            filters: Subscription::nftables(QUEUE_BYTES)?,
            features,
            known: Known::default(),
        })
    }

    /// Whether what devices can do for XDP would change unheard.
    pub fn is_deaf_to_features(&self) -> bool {
        self.features.is_none()
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
            listen(filters, &mut heard, |_, heard| heard.changed = true)?;
        }
        if let Some(features) = &mut self.features {
            listen(features, &mut heard, |_, heard| {
                *heard = Heard {
                    changed: true,
                    links: true,
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
            Received::Overrun => {
                *heard = Heard {
                    changed: true,
                    links: true,
                }
            }
        }
    }
    Ok(())
}

impl Known {
    fn judge(&mut self, message: &Message<'_>, heard: &mut Heard) {
        if let Some((exists, entry)) = Neighbour::decode(message) {
            heard.changed |= self.station(exists, &entry);
        } else if let Some((exists, found)) = LinkKind::decode(message) {
            let changed = self.link(exists, found);
            heard.changed |= changed;
            heard.links |= changed;
        } else if TRAFFIC_CONTROL.contains(&message.kind) {
            *heard = Heard {
                changed: true,
                links: true,
            };
        } else {
            // A bridge that speaks of its port, too: which VLANs, which state, isolated or not.
            heard.changed = true;
        }
    }

    /// Whether another link is there now, or another thing true of it. The first word of a link is one, too.
    fn link(&mut self, exists: bool, found: LinkKind) -> bool {
        let LinkKind { link, qdisc, .. } = found;
        if !exists {
            self.links.remove(&link.ifindex);
            return true;
        }
        let facts = LinkFacts {
            name: link.name,
            mac: link.mac,
            mtu: link.mtu,
            up: link.up,
            running: link.running,
            master: link.master,
            qdisc,
        };
        self.links.insert(link.ifindex, facts.clone()) != Some(facts)
    }

    /// Whether frames go to another Ethernet address, or to another place, or nowhere.
    fn station(&mut self, exists: bool, entry: &Neighbour) -> bool {
        // Of a vxlan device, or of a device of its own: where it points may be another VTEP each time.
        if entry.fdb && (entry.dst.is_some() || entry.flags & neighbour_flag::SELF != 0) {
            return true;
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
        before.flatten() != place || (!exists && entry.fdb)
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
        let mut changed =
            |kind, state, mac| heard(&mut known, kind, &neighbour(INET, state, mac)).changed;
        assert!(!changed(NEW, FAILED, 1), "it leads nowhere");
        assert!(changed(NEW, REACHABLE, 1));
        assert!(!changed(NEW, STALE, 1));
        assert!(!changed(NEW, REACHABLE, 1));
        assert!(changed(NEW, REACHABLE, 2));
        assert!(changed(NEW, FAILED, 2));
        assert!(changed(NEW, REACHABLE, 2));
        assert!(changed(DEL, STALE, 2));
        assert!(!changed(DEL, FAILED, 2));
    }

    #[test]
    fn a_station_that_leaves_a_bridge_is_a_change_and_one_that_is_heard_again_is_not() {
        let mut known = Known::default();
        let mut changed =
            |kind, port| heard(&mut known, kind, &on_port(port, BRIDGE, REACHABLE, 1)).changed;
        assert!(changed(NEW, 5));
        assert!(!changed(NEW, 5));
        assert!(changed(NEW, 6), "it moved");
        assert!(changed(DEL, 6));
    }

    #[test]
    fn routes_and_whatever_is_not_known_are_changes() {
        for kind in [24, 25, 32, 33, 20, 104, 9999] {
            let heard = heard(&mut Known::default(), kind, &[0; 16]);
            assert!(heard.changed && !heard.links, "{kind}");
        }
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
            changed: true,
            links: true,
        };
        assert_eq!(changed(16, 3), both);
        assert_eq!(changed(16, 3), Heard::default());
        assert_eq!(changed(16, 4), both);
        assert_eq!(changed(17, 4), both);
    }
}
