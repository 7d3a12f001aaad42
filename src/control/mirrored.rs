//! One mirrored device: what is known of it, and the segment that the data path reads.

use std::net::IpAddr;
use std::sync::Arc;

use super::fdb::{Changed, FdbMirror};
use super::merge::{self, Layout};
use super::neighbour::Neighbours;
use super::nexthop::Nexthops;
use super::route::{self, Routes};
use super::{Error, Found};
use crate::netlink::{self, Link, Neighbour, RouteQuery, Socket};
use crate::stats::PeerId;
use crate::table::{
    EncapTemplate, NextHop, Peers, Policy, Segment, SegmentConfig, UnresolvedReason, Vtep, VtepKey,
};
use crate::wire::MacAddr;

/// So many entries change in one publication, the others in the next. Each may copy a page of the table, and the pages before
/// them are in use until workers have left them: with all at once, there are two tables, and holes of the size of one afterwards.
const CHANGES_MAX: usize = 512;

/// One mirrored device.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) underlay: Link,
    pub(super) config: Arc<SegmentConfig>,
    /// What the operator decided.
    policy: Policy,
    pub(super) fdb: FdbMirror,
    pub(super) layout: Layout,
    /// The FDB differs from the layout.
    pub(super) fdb_changed: bool,
    /// The FDB is to be dumped again.
    pub(super) fdb_doubtful: bool,
    /// It was dumped, and what was announced meanwhile has not all been heard.
    pub(super) dump_unconfirmed: bool,
    /// What the data path reads.
    pub(super) segment: Segment,
    /// The next hop of each VTEP, for people.
    pub(super) next_hops: Arc<Vec<Option<IpAddr>>>,
}

impl Device {
    /// Knows the device's attributes and none of its entries.
    pub(super) fn new(found: &Found, policy: &Policy) -> Result<Self, Error> {
        let ineligible = |why: String| Error::Ineligible {
            device: found.device.name.clone(),
            why,
        };
        if let Some(refusal) = &found.refusal {
            return Err(ineligible(format!(
                "{}: {}",
                refusal.attribute, refusal.why
            )));
        }
        let underlay = found
            .underlay
            .clone()
            .ok_or_else(|| ineligible("it has no underlay device".into()))?;
        let config = found.device.segment_config(&underlay, policy);
        let config = Arc::new(config.ok_or_else(|| ineligible("it has no local address".into()))?);
        Ok(Self {
            underlay,
            fdb: FdbMirror::default(),
            layout: Layout::default(),
            fdb_changed: true,
            fdb_doubtful: false,
            dump_unconfirmed: false,
            segment: Segment {
                config: Arc::clone(&config),
                vteps: Arc::default(),
                fdb: Arc::default(),
                groups: Arc::default(),
                lists: Arc::default(),
                flood: Arc::default(),
                peers: Arc::default(),
            },
            config,
            policy: *policy,
            next_hops: Arc::default(),
        })
    }

    /// Another decision of the operator's, which counts with the next look at the device ([`Device::follow`]).
    pub(super) fn set_policy(&mut self, policy: &Policy) {
        self.policy = *policy;
    }

    /// The underlay link lets frames through.
    pub(super) fn link_is_up(&self) -> bool {
        self.underlay.up && self.underlay.running
    }

    /// What becomes of a way while the link is down: one through it ends there, as none does. The kernel has others.
    pub(super) fn way_out(
        &self,
        way: Result<IpAddr, UnresolvedReason>,
    ) -> Result<IpAddr, UnresolvedReason> {
        match way {
            Ok(_) | Err(UnresolvedReason::NoRoute) if !self.link_is_up() => {
                Err(UnresolvedReason::LinkDown)
            }
            way => way,
        }
    }

    /// Takes over what changed in the device and in the link below it; whether headers may differ.
    pub(super) fn follow(&mut self, found: &Found) -> bool {
        let Some(underlay) = &found.underlay else {
            return false;
        };
        let mut changed = false;
        if *underlay != self.underlay {
            self.underlay = underlay.clone();
            changed = true;
        }
        if let Some(config) = found.device.segment_config(underlay, &self.policy)
            && config != *self.config
        {
            self.config = Arc::new(config);
            // Which of them are ours may depend on it; they are judged again when the FDB changes.
            self.fdb.doubt_targets();
            changed = true;
        }
        changed
    }

    /// Its FDB, as the kernel tells it now.
    pub(super) fn dump_fdb(&self, socket: &mut Socket) -> Result<FdbMirror, netlink::Error> {
        let SegmentConfig { port, vni, .. } = *self.config;
        let add = |fdb: &mut FdbMirror, entry: &Neighbour| {
            fdb.apply(true, entry, port, vni);
        };
        netlink::fdb_into(socket, self.config.ifindex, FdbMirror::default, add)
    }

    /// Puts a dump in the place of what was known.
    pub(super) fn take_dump(&mut self, dump: FdbMirror) {
        self.fdb_changed |= self.fdb.replace(dump);
        self.fdb_doubtful = false;
        self.dump_unconfirmed = true;
    }

    /// Brings the layout up to date with the FDB; whether more of it may have changed than where entries lead.
    pub(super) fn lay_out(&mut self, nexthops: &Nexthops) -> bool {
        let changed = self.fdb.take_changed(CHANGES_MAX);
        self.fdb_changed = self.fdb.is_changed();
        match changed {
            Changed::Entries(macs) => {
                if !macs.is_empty() {
                    self.layout.follow(&self.fdb, &macs);
                }
                false
            }
            Changed::Targets => {
                self.layout = merge::layout(&self.config, &self.fdb, nexthops);
                true
            }
        }
    }

    /// The headers for a VTEP whose way is known, or why there are none.
    pub(super) fn next_hop(
        &self,
        key: &VtepKey,
        way: Result<IpAddr, UnresolvedReason>,
        neighbours: &Neighbours,
    ) -> NextHop {
        let mac = way.and_then(|next_hop| match MacAddr::of_group(next_hop) {
            Some(mac) => Ok(mac),
            None => neighbours.mac((self.underlay.ifindex, next_hop)),
        });
        let template = mac.and_then(|mac| {
            EncapTemplate::new(&self.config, key, self.underlay.mac, mac)
                .ok_or(UnresolvedReason::Unsupported)
        });
        match template {
            Ok(template) => NextHop::Resolved(template),
            Err(reason) => NextHop::Unresolved(reason),
        }
    }

    /// Every VTEP of the layout with its headers, and the next hop of each. `asked` is told of the questions whose answers
    /// are in use.
    pub(super) fn resolve(
        &self,
        socket: &mut Socket,
        routes: &mut Routes,
        neighbours: &Neighbours,
        mut asked: impl FnMut((RouteQuery, u32)),
    ) -> Result<(Vec<Vtep>, Vec<Option<IpAddr>>), netlink::Error> {
        let mut vteps = Vec::with_capacity(self.layout.vteps.len());
        let mut next_hops = Vec::with_capacity(self.layout.vteps.len());
        for (key, via) in &self.layout.vteps {
            let (way, path_mtu) = if route::is_askable(&self.config, key) {
                let question = route::question(&self.config, key, *via);
                asked(question);
                let way = routes.way(socket, question)?;
                (self.way_out(way.next_hop), way.mtu)
            } else {
                (Err(UnresolvedReason::Unsupported), None)
            };
            next_hops.push(way.ok());
            vteps.push(Vtep {
                key: *key,
                next_hop: self.next_hop(key, way, neighbours),
                path_mtu: self.path_mtu(path_mtu),
                peer: PeerId::default(),
            });
        }
        Ok((vteps, next_hops))
    }

    /// The MTU of a path, of which a route may say that it is smaller than the link's.
    pub(super) fn path_mtu(&self, of_route: Option<u32>) -> u16 {
        let of_route = of_route.map_or(u16::MAX, |mtu| u16::try_from(mtu).unwrap_or(u16::MAX));
        of_route.min(self.config.underlay_mtu)
    }

    /// Whoever is counted: VTEPs that frames may go to, and those that may send. Sorted, each once.
    pub(super) fn peer_addrs(&self) -> Vec<IpAddr> {
        let vteps = self.layout.vteps.iter().map(|(key, _)| key.addr);
        let vteps = vteps.filter(|addr| !addr.is_unspecified());
        let mut addrs: Vec<_> = vteps.chain(self.layout.peers.iter().copied()).collect();
        addrs.sort_unstable();
        addrs.dedup();
        addrs
    }

    /// Puts the layout's FDB into the segment, when nothing else has changed; whether it is another one.
    pub(super) fn put_fdb_in_place(&mut self) -> bool {
        let same = Arc::ptr_eq(&self.segment.fdb, &self.layout.fdb);
        self.segment.fdb = Arc::clone(&self.layout.fdb);
        !same
    }

    /// Makes the segment, sharing with the one before whatever is the same; whether anything is not.
    pub(super) fn put_in_place(
        &mut self,
        vteps: Vec<Vtep>,
        next_hops: Vec<Option<IpAddr>>,
        peers: Vec<(IpAddr, PeerId)>,
    ) -> bool {
        let same_fdb = !self.put_fdb_in_place();
        let segment = &mut self.segment;
        let same_config = Arc::ptr_eq(&segment.config, &self.config);
        segment.config = Arc::clone(&self.config);
        let same_vteps = share(&mut segment.vteps, vteps);
        let same_groups = share(&mut segment.groups, self.layout.groups.clone());
        let same_lists = share(&mut segment.lists, self.layout.lists.clone());
        let same_flood = share(&mut segment.flood, self.layout.flood.clone());
        let same_peers = segment.peers.are(&peers);
        if !same_peers {
            segment.peers = Arc::new(Peers::counted(peers));
        }
        share(&mut self.next_hops, next_hops);
        let same_sets = same_groups && same_lists && same_flood;
        !(same_config && same_fdb && same_vteps && same_sets && same_peers)
    }
}

/// Keeps the old value when the new one is equal; whether it was.
fn share<T: PartialEq>(old: &mut Arc<Vec<T>>, new: Vec<T>) -> bool {
    let same = **old == new;
    if !same {
        *old = Arc::new(new);
    }
    same
}
