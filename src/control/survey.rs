//! What a mirror would publish now, found out by the same code, once, and without asking the kernel for anything that it
//! does not know: no neighbour is resolved, nothing is watched or given back.

use std::time::Instant;

use super::mirrored::Device;
use super::neighbour::Neighbours;
use super::nexthop::Nexthops;
use super::route::Routes;
use super::running::SharedSegment;
use super::{Error, Found, SegmentReport};
use crate::netlink::{self, Socket};
use crate::stats::PeerId;
use crate::table::Policy;

/// The segments of these devices, all of which must be eligible, as the kernel's tables have them. A next hop that nobody has
/// needed lately has no neighbour; a mirror would have it resolved.
///
/// # Errors
/// When the kernel does not tell.
pub fn survey(socket: &mut Socket, devices: &[Found]) -> Result<Vec<SegmentReport>, Error> {
    let mut nexthops = Nexthops::default();
    nexthops.replace(netlink::nexthops(socket)?);
    nexthops.ask(socket, Instant::now())?;
    let (mut neighbours, mut routes) = (Neighbours::default(), Routes::default());
    let mut reports = Vec::with_capacity(devices.len());
    for (id, found) in devices.iter().enumerate() {
        let mut device = Device::new(found, &Policy::default())?;
        let underlay = device.underlay.ifindex;
        neighbours.replace(&[underlay], netlink::neighbours(socket, underlay, false)?);
        device.fdb = device.dump_fdb(socket)?;
        device.lay_out(&nexthops);
        let (vteps, next_hops) = device.resolve(socket, &mut routes, &neighbours, |_| {})?;
        // Nobody counts here.
        let peers = device.layout.peers.iter();
        let peers = peers.map(|addr| (*addr, PeerId::default())).collect();
        device.put_in_place(vteps, next_hops, peers);
        let segment = SharedSegment {
            segment: device.segment,
            next_hops: device.next_hops,
        };
        reports.push(segment.report(id));
    }
    Ok(reports)
}
