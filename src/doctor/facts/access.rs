//! The access devices of the running daemon, which nobody else should touch.

use super::underlay::{Classifier, classifiers};
use super::{Daemon, GatherError};
use crate::netlink::{Link, Socket};
use crate::steer::{self, XdpProgram};

/// An end of an access device.
#[derive(Debug, Clone)]
pub struct AccessEnd {
    /// Its name.
    pub name: String,
    /// The vxlan device that it is for.
    pub device: String,
    /// It is the end that exchanges frames with the vxlan device; the other has the sockets.
    pub kernel_side: bool,
    /// Offloads that hide a frame's final bytes, and are on.
    pub hiding: Vec<String>,
    /// The XDP program on it.
    pub program: Option<XdpProgram>,
    /// Its classifiers.
    pub classifiers: Vec<Classifier>,
}

pub(super) fn gather(
    socket: &mut Socket,
    links: &[Link],
    daemon: &Daemon,
) -> Result<Vec<AccessEnd>, GatherError> {
    let mut ends = Vec::new();
    let devices = daemon.status().map(|status| &status.observation.devices);
    for device in devices.into_iter().flatten() {
        let Some(access) = &device.access else {
            continue;
        };
        for (name, kernel_side) in [(&access.kernel_side, true), (&access.worker_side, false)] {
            let Some(link) = links.iter().find(|link| link.name == *name) else {
                continue;
            };
            ends.push(AccessEnd {
                name: name.clone(),
                device: device.name.clone(),
                kernel_side,
                hiding: steer::hiding(&steer::offloads(name).unwrap_or_default()),
                program: steer::xdp_program(link.ifindex),
                classifiers: classifiers(socket, link.ifindex)?,
            });
        }
    }
    Ok(ends)
}
