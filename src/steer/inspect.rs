//! What is attached to devices, and what dead processes left there: looked at, and nothing touched.

use std::io;

use super::access::{is_leftover, served_devices};
use super::hooks::{self, FILTER_PRIORITY, Side};
use super::{EGRESS_PROGRAM, Error, qdisc};
use crate::netlink::{self, Link, Socket};

/// What our programs' names begin with.
const OURS: &str = "vxgate_";

/// An XDP program on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XdpProgram {
    /// Its number and name, in words.
    pub words: String,
    /// How it runs, in the words of `ip link`: `xdp`, `xdpgeneric` or `xdpoffload`.
    pub mode: String,
}

impl XdpProgram {
    /// In the place of a name that there is not, or that we may not know.
    pub const NAMELESS: &'static str = "without a name";

    /// Whether its name is known.
    pub fn has_name(&self) -> bool {
        !self.words.ends_with(Self::NAMELESS)
    }

    /// Whether it is one of vxgate's, by its name.
    pub fn is_ours(&self) -> bool {
        let name = self.words.rsplit(", ").next();
        name.is_some_and(is_ours)
    }
}

/// Whether a program of this name is one of vxgate's.
pub fn is_ours(name: &str) -> bool {
    name.starts_with(OURS)
}

/// The XDP program on a device, if there is one.
pub fn xdp_program(ifindex: u32) -> Option<XdpProgram> {
    let (words, mode) = hooks::xdp_program(ifindex)?;
    let mode = mode.to_owned();
    Some(XdpProgram { words, mode })
}

/// The names of the classifiers that links hold on a device: of frames that leave, or of such that arrive.
///
/// # Errors
/// On a kernel without tcx, and without CAP_NET_ADMIN.
pub fn tcx_programs(ifindex: u32, egress: bool) -> io::Result<Vec<String>> {
    let side = if egress { Side::Egress } else { Side::Ingress };
    hooks::tcx_programs(ifindex, side)
}

/// Whether the kernel has tcx (since Linux 6.6); none where it does not let us ask. `ifindex` is any device.
pub fn has_tcx(ifindex: u32) -> Option<bool> {
    match tcx_programs(ifindex, true) {
        Ok(_) => Some(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Some(false),
        Err(_) => None,
    }
}

/// Something that a dead process left in the namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leftover {
    /// An access device, by its name.
    Access(String),
    /// A filter on a vxlan device, by the device's name, and the filter's priority.
    Filter(String, u32),
}

/// What [`super::remove_leftovers`] would remove.
///
/// # Errors
/// When the kernel does not tell.
pub fn leftovers(socket: &mut Socket, links: &[Link]) -> Result<Vec<Leftover>, Error> {
    super::messages::to_log();
    let accesses = links.iter().filter(|link| is_leftover(link));
    let mut found: Vec<_> = accesses
        .map(|link| Leftover::Access(link.name.clone()))
        .collect();
    let filtered = unserved(socket, links)?.into_iter();
    let filtered =
        filtered.filter(|link| hooks::has_filter(link.ifindex, Side::Egress, EGRESS_PROGRAM));
    found.extend(filtered.map(|link| Leftover::Filter(link.name.clone(), FILTER_PRIORITY)));
    Ok(found)
}

/// The vxlan devices that may have a filter of ours, and that no living process serves.
pub(super) fn unserved<'a>(
    socket: &mut Socket,
    links: &'a [Link],
) -> Result<Vec<&'a Link>, netlink::Error> {
    let with_clsact = qdisc::devices_with_clsact(socket)?;
    // The filter of a living process is removed before its access device.
    let served = served_devices(links);
    let devices = links.iter().filter(|link| {
        link.kind.as_deref() == Some("vxlan")
            && with_clsact.contains(&link.ifindex)
            && !served.contains(&link.name)
    });
    Ok(devices.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_told_by_their_names() {
        let program = |words: &str| XdpProgram {
            words: words.to_owned(),
            mode: "xdp".to_owned(),
        };
        assert!(program("id 7, vxgate_underlay").is_ours());
        assert!(!program("id 7, somebody_elses").is_ours());
        assert!(!program("id 7, without a name").is_ours());
        assert!(is_ours("vxgate_egress") && !is_ours("not_vxgate_"));
    }
}
