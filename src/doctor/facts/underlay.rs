//! A device below vxlan devices, as its driver and the kernel describe it.

use std::net::IpAddr;

use super::{GatherError, Overlay};
use crate::gateway::receive_queues;
use crate::netlink::{self, Link, Socket, XdpFeatures, neighbour_state};
use crate::steer::{self, Channels, XdpProgram};

/// A device below vxlan devices.
#[derive(Debug, Clone)]
pub struct Underlay {
    /// The link.
    pub link: Link,
    /// VTEP addresses on it are of IPv6.
    pub ipv6: bool,
    /// Its driver's name.
    pub driver: Option<String>,
    /// What its driver can do by XDP, where the kernel tells.
    pub xdp: Option<XdpFeatures>,
    /// Receive queues in use.
    pub queues: u32,
    /// What it could have, where the driver tells.
    pub channels: Option<Channels>,
    /// Whether UDP ports decide about the queue, where the driver tells.
    pub by_port: Option<bool>,
    /// Offloads that are on.
    pub offloads: Vec<String>,
    /// The XDP program on it.
    pub program: Option<XdpProgram>,
    /// Its classifiers.
    pub classifiers: Vec<Classifier>,
    /// Neighbours that do not answer.
    pub failed: Vec<IpAddr>,
}

/// A program or filter that sees frames in the kernel's stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classifier {
    /// Of frames that leave; else of such that arrive.
    pub egress: bool,
    /// Its name, or the kind of a filter that has none.
    pub name: String,
    /// The filter's priority; none for a program that a link holds.
    pub priority: Option<u16>,
}

pub(super) fn gather(
    socket: &mut Socket,
    overlays: &[Overlay],
) -> Result<Vec<Underlay>, GatherError> {
    let mut underlays: Vec<Underlay> = Vec::new();
    for overlay in overlays {
        let Some(link) = &overlay.found.underlay else {
            continue;
        };
        let (ifindex, name) = (link.ifindex, link.name.as_str());
        let local = overlay.found.device.local;
        let ipv6 = local.is_some_and(|local| local.is_ipv6());
        let known = underlays.iter_mut().find(|one| one.link.ifindex == ifindex);
        if let Some(known) = known {
            known.ipv6 |= ipv6;
            continue;
        }
        let neighbours = netlink::neighbours(socket, ifindex, false)?;
        let failed = neighbours
            .iter()
            .filter(|entry| entry.state & neighbour_state::FAILED != 0);
        underlays.push(Underlay {
            link: link.clone(),
            ipv6,
            driver: steer::driver(name).ok(),
            xdp: netlink::xdp_features(ifindex).ok().flatten(),
            queues: receive_queues(link),
            channels: steer::channels(name).ok(),
            by_port: steer::spreads_by_port(name, ipv6).ok(),
            offloads: steer::offloads(name).unwrap_or_default(),
            program: steer::xdp_program(ifindex),
            classifiers: classifiers(socket, ifindex)?,
            failed: failed.filter_map(|entry| entry.dst).collect(),
        });
    }
    Ok(underlays)
}

/// The classifiers of a device: those that links hold first, as they run first.
pub(super) fn classifiers(
    socket: &mut Socket,
    ifindex: u32,
) -> Result<Vec<Classifier>, netlink::Error> {
    let mut all = Vec::new();
    for egress in [false, true] {
        // Without tcx there are none; without rights nobody knows.
        let held = steer::tcx_programs(ifindex, egress).unwrap_or_default();
        all.extend(held.into_iter().map(|name| Classifier {
            egress,
            name,
            priority: None,
        }));
    }
    let filters = netlink::filters(socket, ifindex)?.into_iter();
    all.extend(filters.map(|filter| Classifier {
        egress: filter.egress,
        name: filter.name.unwrap_or(filter.kind),
        priority: Some(filter.priority),
    }));
    Ok(all)
}
