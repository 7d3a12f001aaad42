//! Everything that was heard and asked, and what follows from it.
//!
//! [`Mirror::hear`] takes one notification and only notes what it makes doubtful; [`Mirror::reconcile`] then asks the
//! kernel what must be asked and brings the segments up to date. A failed question leaves the segments as they are and
//! the doubt standing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::FixedState;

use super::mirrored::Device;
use super::neighbour::{Neighbours, NextHopKey};
use super::nexthop::Nexthops;
use super::roster::Roster;
use super::route::Routes;
use super::topology::{Identity, baseline};
use super::{Error, Event, Found, discover};
use crate::netlink::{
    self, Address, Link, LinkKind, MdbPart, Message, Neighbour, Nexthop, NexthopBucket, Route,
    Socket,
};
use crate::stats::PeerBook;
use crate::table::{Policy, Snapshot};

/// `RTM_NEWRULE`, `RTM_DELRULE` (`linux/rtnetlink.h`): whatever they say, every route is asked for again.
const RULE_KINDS: [u16; 2] = [32, 33];
/// How often routes are asked again without a reason, since what the kernel learns of a path's MTU sends no message; and how
/// often the buckets of resilient groups are looked at.
const ROUTES_AGAIN: Duration = Duration::from_secs(1);
/// How many of them at a time: some milliseconds of work, and 10,000 VTEPs in 40 s.
const ROUTES_AGAIN_MAX: usize = 256;

/// The kernel's configuration as far as the data path needs it.
#[derive(Debug)]
pub(super) struct Mirror {
    socket: Socket,
    devices: Vec<Device>,
    by_ifindex: HashMap<u32, usize, FixedState>,
    underlays: HashSet<u32, FixedState>,
    /// Links that must be there and up, and were so far.
    watched: Vec<u32>,
    baseline: Vec<Identity>,
    roster: Roster,
    nexthops: Nexthops,
    neighbours: Neighbours,
    routes: Routes,
    routes_again_at: Instant,
    doubt: Doubt,
    events: Vec<Event>,
    ask_at: Option<Instant>,
}

/// What may no longer be true.
#[derive(Debug, Clone, Copy, Default)]
struct Doubt {
    /// Devices and underlay links.
    links: bool,
    /// Ways, next hops, headers.
    ways: bool,
    /// The FDB of some device.
    fdb: bool,
    /// Where nexthop objects lead: the entries that name one.
    nexthops: bool,
    /// Everything: dump it all.
    everything: bool,
}

impl Mirror {
    /// Knows nothing yet but the devices; everything is in doubt.
    pub(super) fn new(
        mut socket: Socket,
        chosen: &[Found],
        watched: &[u32],
        policy: &Policy,
        book: Arc<PeerBook>,
    ) -> Result<Self, Error> {
        if chosen.len() > usize::from(u16::MAX) + 1 {
            return Err(Error::TooMany(chosen.len()));
        }
        let devices = chosen
            .iter()
            .map(|found| Device::new(found, policy))
            .collect::<Result<Vec<_>, _>>()?;
        let now = discover(&mut socket)?;
        Ok(Self {
            socket,
            by_ifindex: devices
                .iter()
                .enumerate()
                .map(|(id, device)| (device.config.ifindex, id))
                .collect(),
            underlays: devices
                .iter()
                .map(|device| device.underlay.ifindex)
                .collect(),
            devices,
            watched: watched.to_vec(),
            roster: Roster::new(book, chosen.len()),
            baseline: baseline(chosen, &now),
            nexthops: Nexthops::default(),
            neighbours: Neighbours::default(),
            routes: Routes::default(),
            routes_again_at: Instant::now() + ROUTES_AGAIN,
            doubt: Doubt {
                everything: true,
                ..Doubt::default()
            },
            events: Vec::new(),
            ask_at: None,
        })
    }

    /// What the data path reads now.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            generation: 0,
            segments: self
                .devices
                .iter()
                .map(|device| device.segment.clone())
                .collect(),
        }
    }

    /// The mirrored devices, by segment number.
    pub(super) fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// Who is counted where.
    pub(super) fn roster(&mut self) -> &mut Roster {
        &mut self.roster
    }

    /// What the assembly should hear about; each is told once.
    pub(super) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Another decision of the operator's: all devices are to be looked at by it.
    pub(super) fn set_policy(&mut self, policy: &Policy) {
        let devices = self.devices.iter_mut();
        devices.for_each(|device| device.set_policy(policy));
        self.doubt.links = true;
    }

    /// Notes that announcements were lost.
    pub(super) fn doubt_everything(&mut self) {
        self.doubt.everything = true;
    }

    /// Whether everything is to be dumped again before anything else.
    pub(super) fn doubts_everything(&self) -> bool {
        self.doubt.everything
    }

    /// Whether [`Mirror::reconcile`] has something to do.
    pub(super) fn is_doubtful(&self, now: Instant) -> bool {
        let Doubt {
            links,
            ways,
            fdb,
            nexthops,
            everything,
        } = self.doubt;
        links || ways || fdb || nexthops || everything || self.ask_at().is_some_and(|at| at <= now)
    }

    /// When [`Mirror::reconcile`] has something to do without being told.
    pub(super) fn ask_at(&self) -> Option<Instant> {
        let routes = (self.routes.len() > 0).then_some(self.routes_again_at);
        [self.ask_at, routes].into_iter().flatten().min()
    }

    /// Takes one notification.
    pub(super) fn hear(&mut self, message: &Message<'_>) {
        if let Some((exists, entry)) = Neighbour::decode(message) {
            self.hear_neighbour(exists, entry);
        } else if let Some((exists, found)) = LinkKind::decode(message) {
            self.hear_link(exists, &found.link);
        } else if let Some((_, route)) = Route::decode(message) {
            // A route decides only about addresses within its prefix; whether it came, went or changed is all the same.
            self.doubt.ways |= self.routes.forget_within(&route);
        } else if Address::decode(message).is_some() {
            // Routes with this source, connected routes, and the underlay of devices without `dev`.
            self.doubt_routes();
            self.doubt.links = true;
        } else if let Some((exists, nexthop)) = Nexthop::decode(message) {
            self.hear_nexthop(exists, nexthop);
        } else if let Some(bucket) = NexthopBucket::decode(message) {
            self.doubt.nexthops |= self.nexthops.hear_bucket(&bucket);
        } else if let Some(part) = MdbPart::decode(message) {
            // Decides whether the device can be carried at all.
            self.doubt.links |= self.by_ifindex.contains_key(&part.ifindex);
        } else if RULE_KINDS.contains(&message.kind) {
            self.doubt_routes();
        }
    }

    /// Takes note that all that was announced so far has been heard.
    pub(super) fn heard_all(&mut self) {
        for device in &mut self.devices {
            device.dump_unconfirmed = false;
        }
    }

    /// Dumps everything and compares. Nothing known is touched before every list is complete.
    pub(super) fn resync(&mut self) -> Result<(), netlink::Error> {
        // First, so that it does not wait for the long lists: the word about a watched link may have been lost.
        self.look_for_watched()?;
        let nexthops = netlink::nexthops(&mut self.socket)?;
        let mut fdbs = Vec::with_capacity(self.devices.len());
        for device in &self.devices {
            fdbs.push(device.dump_fdb(&mut self.socket)?);
        }
        let underlays: Vec<_> = self.underlays.iter().copied().collect();
        let mut neighbours = Vec::new();
        for ifindex in &underlays {
            neighbours.extend(netlink::neighbours(&mut self.socket, *ifindex, false)?);
        }
        self.nexthops.replace(nexthops);
        for (device, dump) in self.devices.iter_mut().zip(fdbs) {
            device.take_dump(dump);
        }
        self.neighbours.replace(&underlays, neighbours);
        self.routes.clear();
        self.doubt = Doubt {
            links: true,
            ways: true,
            fdb: true,
            nexthops: true,
            everything: false,
        };
        Ok(())
    }

    /// Asks what must be asked and brings the segments up to date; whether any of them changed.
    pub(super) fn reconcile(&mut self, now: Instant) -> Result<bool, netlink::Error> {
        self.follow_links()?;
        for device in self.devices.iter_mut().filter(|device| device.fdb_doubtful) {
            let dump = device.dump_fdb(&mut self.socket)?;
            device.take_dump(dump);
        }
        if self.doubt.nexthops {
            self.doubt_entries_with_nexthops();
        }
        if self.devices.iter().any(|device| device.fdb_changed) {
            self.nexthops.ask(&mut self.socket, now)?;
        }
        if now >= self.routes_again_at {
            self.routes_again_at = now + ROUTES_AGAIN;
            self.doubt.ways |= self.routes.ask_again(&mut self.socket, ROUTES_AGAIN_MAX)?;
            if self.nexthops.settle(now) {
                self.doubt_entries_with_nexthops();
            }
        }
        let mut rebuild = self.doubt.ways;
        for device in self.devices.iter_mut().filter(|device| device.fdb_changed) {
            rebuild |= device.lay_out(&self.nexthops);
        }
        self.doubt.fdb = self.devices.iter().any(|device| device.fdb_changed);
        self.doubt.nexthops = false;
        let changed = if rebuild {
            self.rebuild(now).inspect_err(|_| self.doubt.ways = true)?
        } else {
            let devices = self.devices.iter_mut();
            devices.fold(false, |any, device| device.put_fdb_in_place() | any)
        };
        self.doubt.ways = false;
        let up: HashSet<u32, FixedState> = self
            .devices
            .iter()
            .filter(|device| device.link_is_up())
            .map(|device| device.underlay.ifindex)
            .collect();
        self.neighbours
            .ask(&mut self.socket, now, |ifindex| up.contains(&ifindex));
        self.ask_at = self.neighbours.next_ask(|ifindex| up.contains(&ifindex));
        Ok(changed)
    }

    /// The first part of [`Mirror::reconcile`], for those who want its events before the rest: looks at the links again when
    /// they are in doubt.
    pub(super) fn follow_links(&mut self) -> Result<(), netlink::Error> {
        if self.doubt.links {
            self.look_at_links()?;
            self.doubt.links = false;
        }
        Ok(())
    }

    fn hear_neighbour(&mut self, exists: bool, entry: Neighbour) {
        if entry.fdb {
            let device = self
                .by_ifindex
                .get(&entry.ifindex)
                .and_then(|id| self.devices.get_mut(*id));
            let Some(device) = device else {
                return;
            };
            if device
                .fdb
                .apply(exists, &entry, device.config.port, device.config.vni)
            {
                device.fdb_changed = true;
                self.doubt.fdb = true;
            }
            if !exists && device.dump_unconfirmed {
                // The kernel tells a long FDB in parts and goes on at a place that it counts from the front: for one entry that
                // went meanwhile, it passes another over, and says nothing of that (`vxlan_fdb_dump`).
                device.fdb_doubtful = true;
                self.doubt.fdb = true;
            }
        } else if self.underlays.contains(&entry.ifindex) {
            let heard = self.neighbours.apply(exists, entry);
            self.doubt.ways |= heard.address_changed;
            if heard.in_use {
                // It may have to be asked for again: found out when there is time.
                self.ask_at = Some(
                    self.ask_at
                        .map_or_else(Instant::now, |at| at.min(Instant::now())),
                );
            }
        }
    }

    fn hear_link(&mut self, exists: bool, link: &Link) {
        let ifindex = link.ifindex;
        let watched = self.watched.contains(&ifindex);
        if !(exists && link.up) {
            self.lose_watched(|other| other == ifindex);
        }
        let mirrored = self
            .by_ifindex
            .get(&ifindex)
            .and_then(|id| self.devices.get_mut(*id));
        if let Some(device) = mirrored
            && exists
        {
            device.fdb_doubtful = true;
            self.doubt.fdb = true;
        }
        let underlay = self.underlays.contains(&ifindex);
        let vxlan = link.kind.as_deref() == Some("vxlan");
        self.doubt.links |= vxlan || underlay || watched || self.by_ifindex.contains_key(&ifindex);
        if underlay || self.routes.leave_from(ifindex) {
            // IPv4 routes of a link that went down vanish without a word, and so do paths of others.
            self.doubt_routes();
            self.neighbours.hurry(ifindex, Instant::now());
        }
    }

    fn hear_nexthop(&mut self, exists: bool, nexthop: Nexthop) {
        let (id, for_routes) = (nexthop.id, !nexthop.fdb);
        // Others cannot be named by an FDB entry (`vxlan_fdb_nh_update`).
        let for_entries = nexthop.fdb && !nexthop.group.is_empty();
        if !self.nexthops.apply(exists, nexthop) {
            return;
        }
        if !exists && for_entries {
            // The kernel deletes the entries of a deleted group without a word.
            for device in &mut self.devices {
                device.fdb_changed |= device.fdb.forget_nexthop(id);
                // As for an entry that goes with an announcement.
                device.fdb_doubtful |= device.dump_unconfirmed;
                self.doubt.fdb |= device.fdb_changed || device.fdb_doubtful;
            }
        }
        self.doubt.nexthops = true;
        if for_routes {
            // Its routes vanish, and groups choose anew, without a word.
            self.doubt_routes();
        }
    }

    /// Not for each message: it walks whole tables.
    fn doubt_entries_with_nexthops(&mut self) {
        for device in &mut self.devices {
            if device.fdb.uses_nexthops() {
                device.fdb.doubt_targets();
                device.fdb_changed = true;
            }
        }
    }

    fn doubt_routes(&mut self) {
        self.routes.clear();
        self.doubt.ways = true;
    }

    /// Compares the watched links with those that there are.
    fn look_for_watched(&mut self) -> Result<(), netlink::Error> {
        if !self.watched.is_empty() {
            let links = netlink::links(&mut self.socket)?;
            let up: HashSet<u32, FixedState> = links
                .iter()
                .filter(|link| link.up)
                .map(|link| link.ifindex)
                .collect();
            self.lose_watched(|ifindex| !up.contains(&ifindex));
        }
        Ok(())
    }

    /// Tells of the watched links that are gone, once: coming back does not mend what was attached to them.
    fn lose_watched(&mut self, is_gone: impl Fn(u32) -> bool) {
        let gone = self.watched.extract_if(.., |ifindex| is_gone(*ifindex));
        self.events.extend(gone.map(Event::LinkGone));
    }

    /// Looks at every vxlan device again: attributes that the data path follows are taken over, anything that decides
    /// the assembly is told.
    fn look_at_links(&mut self) -> Result<(), netlink::Error> {
        let all = discover(&mut self.socket)?;
        let identities: Vec<_> = all.iter().map(Identity::of).collect();
        for (found, identity) in all.iter().zip(&identities) {
            let device = self
                .by_ifindex
                .get(&found.device.ifindex)
                .and_then(|id| self.devices.get_mut(*id));
            // One that became another keeps its segment as it was until the assembly has let go of it.
            if let Some(device) = device
                && self.baseline.iter().any(|one| one.same_segment(identity))
            {
                self.doubt.ways |= device.follow(found);
            }
        }
        if identities != self.baseline {
            self.baseline = identities;
            self.events.push(Event::Topology);
        }
        Ok(())
    }

    /// Resolves every VTEP of every segment and puts the results in place together.
    fn rebuild(&mut self, now: Instant) -> Result<bool, netlink::Error> {
        let mut wanted: HashSet<NextHopKey, FixedState> = HashSet::default();
        let mut used: HashSet<_, FixedState> = HashSet::default();
        let mut built = Vec::with_capacity(self.devices.len());
        for device in &self.devices {
            let (routes, neighbours) = (&mut self.routes, &self.neighbours);
            let (vteps, next_hops) =
                device.resolve(&mut self.socket, routes, neighbours, |question| {
                    used.insert(question);
                })?;
            // A group's Ethernet address follows from its own: nobody is asked for it.
            let asked_for = next_hops.iter().flatten().filter(|hop| !hop.is_multicast());
            wanted.extend(asked_for.map(|hop| (device.underlay.ifindex, *hop)));
            built.push((vteps, next_hops));
        }
        if used.len() < self.routes.len() {
            self.routes.retain(&|question| used.contains(question));
        }
        self.neighbours.want(&mut self.socket, &wanted, now);
        // Only now: from here on nothing fails that would keep it from being published.
        let mut changed = false;
        for (number, (device, (mut vteps, next_hops))) in
            self.devices.iter_mut().zip(built).enumerate()
        {
            self.roster.enrol(number, &device.peer_addrs(), now);
            for vtep in &mut vteps {
                vtep.peer = self.roster.id(number, vtep.key.addr);
            }
            let peers = device.layout.peers.iter();
            let peers = peers.map(|addr| (*addr, self.roster.id(number, *addr)));
            let peers = peers.collect();
            changed |= device.put_in_place(vteps, next_hops, peers);
        }
        Ok(changed)
    }
}

impl Drop for Mirror {
    /// Gives back what was asked of the kernel.
    fn drop(&mut self) {
        self.neighbours.give_back_all(&mut self.socket);
    }
}
