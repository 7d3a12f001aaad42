//! Changes of what the kernel decides by: after one, a frame may get another fate than the frames of its flow before it.
//!
//! Rules, routes, nexthop objects, filters, forwarding: any announcement is a change. Links, addresses, neighbours and FDB entries are
//! announced over and over without one (a neighbour is confirmed, a lease is renewed, a counter moves): of those is remembered
//! what matters, from the beginning on, and only another one is a change.
//!
//! What comes anew is no change where no frame can have been judged by its absence: a link has no frames yet, and a neighbour
//! that was not known led nowhere. An FDB entry is one, because frames to nobody known go everywhere.
//!
//! Where announcements were lost, none of what is remembered may count as known: the queue is emptied unread, as the kernel goes
//! on losing them until it is, and what there is by then is asked for again ([`Changes::catch_up`]).
//!
//! Not listened to: multicast databases, since only flows between two stations go the direct path. What of IPv6 concerns one
//! link, or groups, is no change either: link-local addresses, and the routes to them, come and go with every pod's device, and no
//! frame that is routed has such an address. What the kernel decides by without an announcement, it is not heard of here; the
//! direct path is not for a node that uses it (`gateway/direct/refused.rs` looks for that).

mod change;
mod known;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

pub use change::{Change, Heard};

use crate::flows::PodSide;
use crate::netlink::{self, Group, Message, Received, Socket, Subscription, xdp_feature_changes};
use known::{AF_BRIDGE, Known};

/// Room for some thousand notifications. When it does not suffice, that is a change.
const QUEUE_BYTES: usize = 8 << 20;
/// Datagrams taken before looking at the clock again.
const LISTEN_MAX: usize = 1024;
/// Datagrams thrown away at once after a loss: many times what a queue holds.
const DRAIN_MAX: usize = 1 << 20;

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

/// What all is there to begin with: the requests for links, addresses and routes of both families, neighbours and FDB entries
/// (`linux/rtnetlink.h`), with their empty headers.
const DUMPS: [(u16, &[u8]); 8] = [
    (18, &[0; 16]),
    (18, &BRIDGE_PORTS),
    (22, &[2, 0, 0, 0, 0, 0, 0, 0]),
    (22, &[10, 0, 0, 0, 0, 0, 0, 0]),
    (26, &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    (26, &[10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    (30, &[0; 12]),
    (30, &[7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
];

/// Listens to the kernel.
#[derive(Debug)]
pub struct Changes {
    routes: Subscription,
    filters: Option<Subscription>,
    policies: Option<Subscription>,
    features: Option<Subscription>,
    known: Known,
    /// Announcements were lost since it was asked what there is.
    is_behind: bool,
}

impl Changes {
    /// Listens from now on, and asks what there is by now. Where filters do not matter, nobody listens to them.
    ///
    /// # Errors
    /// When the kernel cannot be heard or asked.
    pub fn open(socket: &mut Socket, filters_matter: bool) -> Result<Self, netlink::Error> {
        Self::open_with_queue(socket, filters_matter, QUEUE_BYTES)
    }

    /// As [`Changes::open`] with another length of the kernel's queues for us, in bytes.
    ///
    /// # Errors
    /// As [`Changes::open`].
    pub fn open_with_queue(
        socket: &mut Socket,
        filters_matter: bool,
        queue_bytes: usize,
    ) -> Result<Self, netlink::Error> {
        let io = |source| netlink::Error::Io {
            doing: "listening to what changes",
            source,
        };
        let features = xdp_feature_changes(queue_bytes).unwrap_or_else(|error| {
            tracing::info!(%error, "no pod's device is sent frames by XDP");
            None
        });
        let filters = if filters_matter {
            Subscription::nftables(queue_bytes).map_err(io)?
        } else {
            None
        };
        let mut changes = Self {
            routes: Subscription::open(&GROUPS, queue_bytes).map_err(io)?,
            filters,
            policies: Subscription::policies(queue_bytes).map_err(io)?,
            features,
            known: Known::default(),
            is_behind: true,
        };
        changes.catch_up(socket)?;
        Ok(changes)
    }

    /// Whether announcements were lost, and [`Changes::catch_up`] is due.
    pub fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Asks what there is by now, and forgets what was heard.
    ///
    /// # Errors
    /// When the kernel does not tell: then it is due as before.
    pub fn catch_up(&mut self, socket: &mut Socket) -> Result<(), netlink::Error> {
        let mut known = Known::default();
        known.nics.clone_from(&self.known.nics);
        known.gone.append(&mut self.known.gone);
        for (kind, body) in DUMPS {
            socket.dump_with(kind, body, |message| {
                known.judge(message, &mut Heard::default());
                None::<()>
            })?;
        }
        (self.known, self.is_behind) = (known, false);
        Ok(())
    }

    /// Has what these underlay devices can do for XDP matter, too: frames from pods go out of them by it.
    pub fn attend(&mut self, nics: impl Iterator<Item = u32>) {
        self.known.nics.extend(nics);
    }

    /// The links that were heard to be gone since this was asked last. Another link may have the index of one by now, and one that
    /// went to another namespace has taken along what is attached to it.
    pub fn take_gone(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.known.gone)
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

    /// Whether it is this node that a pod sends to and is sent from, by its bridge's own Ethernet address, as far as links were heard
    /// of.
    pub fn is_gateway_of(&self, pod: &PodSide) -> bool {
        self.known.is_gateway_of(pod)
    }

    /// How long packets to an address may be at most, in bytes, as far as routes say.
    pub fn mtu_to(&self, addr: IpAddr) -> Option<u32> {
        self.known.narrow.mtu_to(addr)
    }

    /// What to wait for.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let others = self.filters.iter().chain(&self.policies);
        let others = others.chain(&self.features);
        std::iter::once(self.routes.as_fd()).chain(others.map(AsFd::as_fd))
    }

    /// Takes what has been announced.
    ///
    /// # Errors
    /// When the kernel cannot be heard.
    pub fn hear(&mut self) -> io::Result<Heard> {
        let mut heard = Heard::default();
        let known = &mut self.known;
        self.is_behind |= listen(&mut self.routes, &mut heard, |message, heard| {
            known.judge(message, heard);
        })?;
        if let Some(filters) = &mut self.filters {
            listen(filters, &mut heard, |_, heard| heard.note(Change::Filters))?;
        }
        if let Some(policies) = &mut self.policies {
            listen(policies, &mut heard, |_, heard| heard.note(Change::Policy))?;
        }
        if let Some(features) = &mut self.features {
            listen(features, &mut heard, |message, heard| {
                if known.takes_by_xdp(message) {
                    heard.note_links(Change::XdpFeatures);
                }
            })?;
        }
        Ok(heard)
    }
}

/// Whether announcements were lost.
fn listen(
    subscription: &mut Subscription,
    heard: &mut Heard,
    mut judge: impl FnMut(&Message<'_>, &mut Heard),
) -> io::Result<bool> {
    let lost = take(heard, |heard| {
        subscription.receive(|message| judge(message, heard))
    })?;
    if lost {
        subscription.drain(DRAIN_MAX)?;
    }
    Ok(lost)
}

/// Takes as many as are taken at a time. Whether some were lost: the rest stays where it is.
fn take(
    heard: &mut Heard,
    mut receive: impl FnMut(&mut Heard) -> io::Result<Received>,
) -> io::Result<bool> {
    for _ in 0..LISTEN_MAX {
        match receive(heard)? {
            Received::Messages => {}
            Received::Nothing => return Ok(false),
            Received::Overrun => {
                // Lost ones may have been anything.
                heard.note_links(Change::Overrun);
                return Ok(true);
            }
        }
    }
    heard.more_waits = true;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_not_taken_all_that_was_announced_says_so() {
        for (datagrams, more_waits) in [(0, false), (LISTEN_MAX - 1, false), (LISTEN_MAX, true)] {
            let (mut heard, mut left) = (Heard::default(), datagrams);
            let received = take(&mut heard, |_| {
                let next = left.checked_sub(1);
                left = next.unwrap_or(0);
                Ok(next.map_or(Received::Nothing, |_| Received::Messages))
            });
            assert!(!received.unwrap(), "none was lost");
            assert_eq!(heard.more_waits, more_waits, "{datagrams}");
            assert_eq!(heard.changed, None);
        }
    }

    #[test]
    fn what_is_there_to_begin_with_is_known() {
        let mut socket = Socket::open().unwrap();
        let changes = Changes::open(&mut socket, true).unwrap();
        assert!(Changes::open(&mut socket, false).unwrap().filters.is_none());
        // The loopback device has the first index of every namespace.
        assert_eq!(changes.known.links[&1].name, "lo");
    }
}
