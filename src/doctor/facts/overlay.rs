//! A vxlan device, with everything that leads to its peers.

use std::fs;
use std::net::IpAddr;

use super::system::number;
use super::underlay::{Classifier, classifiers};
use super::{GatherError, sockets};
use crate::control::{Found, SegmentReport};
use crate::gateway::{Plan, lock_name};
use crate::netlink::{self, Address, Link, Neighbour, RouteQuery, Socket, route_to};

/// So many routes are asked for: some milliseconds.
const ROUTES_MAX: usize = 1024;
/// `NET_ADDR_RANDOM`: the kernel made up the Ethernet address (`linux/netdevice.h`).
const RANDOM: &str = "1";

/// A vxlan device.
#[derive(Debug, Clone)]
pub struct Overlay {
    /// The device, the link below it, and why it is refused.
    pub found: Found,
    /// Whether it can be taken over now.
    pub ready: bool,
    /// The bridge or other device that it belongs to.
    pub master: Option<u32>,
    /// A vxgate has it; `Some(None)` when the process cannot be seen from here.
    pub holder: Option<Option<i32>>,
    /// Who has its UDP port, where it is not up.
    pub port_holder: Option<String>,
    /// Its neighbours.
    pub neighbours: Vec<Neighbour>,
    /// Its FDB, without that of a bridge above it.
    pub fdb: Vec<Neighbour>,
    /// The device out of which a frame to each neighbour that somebody wrote would go; none when there is no route.
    pub routes: Vec<(IpAddr, Option<u32>)>,
    /// What a mirror would publish.
    pub survey: Option<SegmentReport>,
    /// Its classifiers.
    pub classifiers: Vec<Classifier>,
    /// `net.ipv4.conf.DEVICE.forwarding`.
    pub forwarding: Option<bool>,
    /// `net.ipv4.conf.DEVICE.rp_filter`.
    pub rp_filter: Option<u32>,
    /// Its Ethernet address was made up by the kernel.
    pub random_mac: bool,
}

impl Overlay {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.found.device.name
    }

    /// Whether it is routed to, and not a port of a bridge.
    pub fn is_routed(&self) -> bool {
        self.master.is_none()
    }
}

pub(super) fn gather(
    socket: &mut Socket,
    plan: &Plan,
    surveys: Vec<SegmentReport>,
    addresses: &[Address],
) -> Result<Vec<Overlay>, GatherError> {
    let links = netlink::links(socket)?;
    let mut surveys: Vec<_> = surveys.into_iter().map(Some).collect();
    let ready = plan.devices.iter().map(|found| (found, true));
    let all = ready.chain(plan.left.iter().map(|found| (found, false)));
    let mut overlays = Vec::new();
    for (found, ready) in all {
        let ifindex = found.device.ifindex;
        let survey = surveys.iter_mut().find_map(|survey| {
            let is_its = survey.as_ref().is_some_and(|one| one.ifindex == ifindex);
            is_its.then(|| survey.take()).flatten()
        });
        overlays.push(look_at(socket, found, ready, survey, addresses, &links)?);
    }
    overlays.sort_by_key(|overlay| overlay.found.device.ifindex);
    Ok(overlays)
}

fn look_at(
    socket: &mut Socket,
    found: &Found,
    ready: bool,
    survey: Option<SegmentReport>,
    addresses: &[Address],
    links: &[Link],
) -> Result<Overlay, GatherError> {
    let device = &found.device;
    let (ifindex, name) = (device.ifindex, device.name.as_str());
    let neighbours = netlink::neighbours(socket, ifindex, false)?;
    let mut fdb = netlink::neighbours(socket, ifindex, true)?;
    fdb.retain(|entry| entry.flags & netlink::neighbour_flag::SELF != 0);
    let own = |ipv4: bool| {
        let own = addresses.iter().find(|address| {
            address.ifindex == ifindex
                && address.local.is_ipv4() == ipv4
                && !is_local(address.local)
        });
        own.map(|address| address.local)
    };
    let written = neighbours.iter().filter(|entry| is_written(entry));
    let mut routes = Vec::new();
    for dst in written.filter_map(|entry| entry.dst).take(ROUTES_MAX) {
        let Some(src) = own(dst.is_ipv4()) else {
            continue;
        };
        let question = RouteQuery {
            dst,
            src,
            oif: 0,
            tos: 0,
            port: device.port,
        };
        match route_to(socket, &question) {
            Ok(route) => routes.push((dst, route.oif)),
            Err(netlink::Error::Kernel { .. }) => routes.push((dst, None)),
            Err(error) => return Err(error.into()),
        }
    }
    let ipv6 = device.local.is_some_and(|local| local.is_ipv6());
    let of_device = |setting: &str| number(&format!("net/ipv4/conf/{name}/{setting}"));
    let link = links.iter().find(|link| link.ifindex == ifindex);
    Ok(Overlay {
        found: found.clone(),
        ready,
        master: link.and_then(|link| link.master),
        holder: sockets::holder_of_name(&lock_name(ifindex)),
        port_holder: (!device.up)
            .then(|| sockets::holder_of_port(device.port, ipv6))
            .flatten(),
        neighbours,
        fdb,
        routes,
        survey,
        classifiers: classifiers(socket, ifindex)?,
        forwarding: of_device("forwarding").map(|on| on != 0),
        rp_filter: of_device("rp_filter"),
        random_mac: has_random_mac(name, ifindex),
    })
}

/// Whether somebody wrote a neighbour entry that leads into the tunnel.
pub(in crate::doctor) fn is_written(entry: &Neighbour) -> bool {
    let written = entry.state & netlink::neighbour_state::PERMANENT != 0;
    written && entry.mac.is_some() && entry.dst.is_some_and(|dst| !is_local(dst))
}

/// Addresses that mean something on one link only.
fn is_local(addr: IpAddr) -> bool {
    addr.is_multicast()
        || match addr {
            IpAddr::V4(addr) => addr.is_link_local() || addr.is_broadcast(),
            IpAddr::V6(addr) => addr.is_unicast_link_local(),
        }
}

/// As sysfs tells, which shows another namespace's devices when it was not mounted anew: hence the look at the index.
fn has_random_mac(name: &str, ifindex: u32) -> bool {
    let read = |what: &str| fs::read_to_string(format!("/sys/class/net/{name}/{what}"));
    let same = read("ifindex").is_ok_and(|text| text.trim().parse() == Ok(ifindex));
    same && read("addr_assign_type").is_ok_and(|text| text.trim() == RANDOM)
}
