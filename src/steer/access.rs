//! The access device: a veth pair between a vxlan device's hooks and the workers' sockets.
//!
//! ```text
//!   vxlan device ──tcx egress──▶ kernel_side ════ worker_side ──XDP──▶ AF_XDP sockets, one queue a worker
//!                ◀─tcx ingress──
//! ```
//!
//! Nobody else should touch it. Names and Ethernet addresses are given at creation, so that udev's policies leave both
//! alone; IPv6 is off, so that the kernel sends nothing of its own; offloads are off, so that frames have their final
//! bytes; a `pfifo` queue on each end makes the veth push back instead of dropping (Linux 6.16 and later). An alias says
//! whose it is, so that what a killed process left can be told from what a living one uses.

use std::fs;
use std::io;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcStats2};

use super::{Error, ethtool};
use crate::netlink::{self, Link, Socket};
use crate::wire::MacAddr;

const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
/// Names `vxg0` to `vxg998` are tried; a node has as many vxlan devices as it has overlay networks.
const PAIRS_MAX: u32 = 500;
const ALIAS: &str = "vxgate access device";

/// A veth pair made by us. It is removed when this is dropped.
#[derive(Debug)]
pub struct AccessPair {
    /// The end that exchanges frames with the vxlan device.
    pub kernel_side: AccessLink,
    /// The end with the sockets.
    pub worker_side: AccessLink,
    removed: bool,
}

/// One end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLink {
    /// Its name.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// Its Ethernet address.
    pub mac: MacAddr,
}

impl AccessPair {
    /// Makes a pair for a vxlan device: `queues` on both ends, set up in every way, and up.
    ///
    /// # Errors
    /// Names the step; nothing is left behind.
    pub fn create(device_name: &str, device_mtu: u32, queues: u32) -> Result<Self, Error> {
        let mut socket = open()?;
        let (kernel_side, worker_side) = make(&mut socket, device_name, device_mtu, queues)?;
        let pair = Self {
            kernel_side,
            worker_side,
            removed: false,
        };
        for end in [&pair.kernel_side, &pair.worker_side] {
            set_up(&mut socket, end)?;
        }
        Ok(pair)
    }

    /// Removes both ends.
    ///
    /// # Errors
    /// When the kernel refuses. A pair that is gone already is no error.
    pub fn remove(mut self) -> Result<(), Error> {
        self.removed = true;
        delete(&mut open()?, &self.kernel_side)
    }

    /// Frames that were redirected to the kernel side and never reached the worker side: dropped by its queue or by the
    /// veth's own ring.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn ring_drops(&self) -> Result<u64, Error> {
        let failed = |source| Error::Access {
            device: self.kernel_side.name.clone(),
            doing: "read its counters",
            source,
        };
        let mut socket = open()?;
        let answers = socket
            .request(
                RouteNetlinkMessage::GetLink(by_index(self.kernel_side.ifindex)),
                0,
            )
            .map_err(failed)?;
        let by_veth: u64 = answers.iter().map(link_drops).sum();
        let mut message = TcMessage::default();
        message.header.index = self.kernel_side.ifindex.cast_signed();
        let queues = socket
            .dump(RouteNetlinkMessage::GetQueueDiscipline(message))
            .map_err(failed)?;
        let by_queue: u64 = queues
            .iter()
            .map(|answer| queue_drops(answer, self.kernel_side.ifindex))
            .sum();
        Ok(by_veth + by_queue)
    }
}

impl Drop for AccessPair {
    fn drop(&mut self) {
        if self.removed {
            return;
        }
        if let Err(error) = open().and_then(|mut socket| delete(&mut socket, &self.kernel_side)) {
            tracing::warn!(%error, "the access device stays behind; the next start removes it");
        }
    }
}

/// Removes the access devices of processes that do not live any more; returns their names.
///
/// # Errors
/// When the kernel refuses.
pub fn remove_leftovers() -> Result<Vec<String>, Error> {
    let mut socket = open()?;
    let mut removed = Vec::new();
    for link in netlink::links(&mut socket)? {
        if is_leftover(&link) {
            let Link {
                ifindex, name, mac, ..
            } = link;
            delete(
                &mut socket,
                &AccessLink {
                    name: name.clone(),
                    ifindex,
                    mac,
                },
            )?;
            removed.push(name);
        }
    }
    Ok(removed)
}

/// An alias of ours whose process is gone. Its start time tells it from another process with the same number.
fn is_leftover(link: &Link) -> bool {
    let Some(alias) = link
        .alias
        .as_deref()
        .filter(|_| link.kind.as_deref() == Some("veth"))
    else {
        return false;
    };
    let Some(owner) = alias
        .strip_prefix(ALIAS)
        .and_then(|rest| rest.split_once(" pid "))
        .map(|(_, owner)| owner)
    else {
        return false;
    };
    match owner
        .split_once(" started ")
        .map(|(pid, started)| (pid.parse::<u32>(), started.parse::<u64>()))
    {
        Some((Ok(pid), Ok(started))) => start_time(pid) != Some(started),
        _ => false,
    }
}

fn alias(device_name: &str) -> String {
    let pid = std::process::id();
    format!(
        "{ALIAS} of {device_name} pid {pid} started {}",
        start_time(pid).unwrap_or(0)
    )
}

/// `starttime` of `/proc/PID/stat`, field 22; the name in field 2 may hold anything, so count from its closing bracket.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

fn open() -> Result<Socket, Error> {
    Socket::open().map_err(|source| {
        Error::Links(netlink::Error::Io {
            doing: "open",
            source,
        })
    })
}

fn by_index(ifindex: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    message
}

/// Creates the pair under the first free names.
fn make(
    socket: &mut Socket,
    device_name: &str,
    mtu: u32,
    queues: u32,
) -> Result<(AccessLink, AccessLink), Error> {
    for number in 0..PAIRS_MAX {
        let (kernel, worker) = (
            format!("vxg{}", 2 * number),
            format!("vxg{}", 2 * number + 1),
        );
        let end = |name: &str| {
            let mut message = LinkMessage::default();
            message.attributes = vec![
                LinkAttribute::IfName(name.to_owned()),
                LinkAttribute::Mtu(mtu),
                LinkAttribute::Address(random_mac().0.to_vec()),
                LinkAttribute::NumTxQueues(queues),
                LinkAttribute::NumRxQueues(queues),
            ];
            message
        };
        let mut message = end(&kernel);
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(end(&worker)))),
        ]));
        match socket.request(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        ) {
            Ok(_) => {
                mark(socket, &kernel, device_name)?;
                return Ok((find(socket, &kernel)?, find(socket, &worker)?));
            }
            Err(error) if error.code() == Some(libc::EEXIST) => {}
            Err(source) => {
                return Err(Error::Access {
                    device: kernel,
                    doing: "create it",
                    source,
                });
            }
        }
    }
    Err(Error::Plan(format!(
        "all names from vxg0 to vxg{} are taken",
        2 * PAIRS_MAX - 1
    )))
}

/// Sets the alias of the end that the pair is removed by.
fn mark(socket: &mut Socket, name: &str, device_name: &str) -> Result<(), Error> {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::IfAlias(alias(device_name)),
    ];
    let failed = |source| Error::Access {
        device: name.to_owned(),
        doing: "mark it as ours",
        source,
    };
    socket
        .request(RouteNetlinkMessage::SetLink(message), 0)
        .map_err(failed)?;
    Ok(())
}

fn find(socket: &mut Socket, name: &str) -> Result<AccessLink, Error> {
    let links = netlink::links(socket)?;
    let link = links.into_iter().find(|link| link.name == name);
    let link =
        link.ok_or_else(|| Error::Plan(format!("{name} disappeared while it was set up")))?;
    Ok(AccessLink {
        name: link.name,
        ifindex: link.ifindex,
        mac: link.mac,
    })
}

/// IPv6 off, offloads off, queue, up.
fn set_up(socket: &mut Socket, end: &AccessLink) -> Result<(), Error> {
    let device = || end.name.clone();
    let path = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", end.name);
    match fs::write(path, "1") {
        // A kernel without IPv6 has none to switch off.
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::Setting {
                device: device(),
                doing: "switch IPv6 off",
                source: error,
            });
        }
        _ => {}
    }
    ethtool::finish_frames(&end.name).map_err(|source| Error::Setting {
        device: device(),
        doing: "switch offloads off",
        source,
    })?;
    let mut queue = TcMessage::default();
    queue.header.index = end.ifindex.cast_signed();
    queue.header.parent = TcHandle::ROOT;
    queue.attributes = vec![TcAttribute::Kind("pfifo".to_owned())];
    socket
        .request(
            RouteNetlinkMessage::NewQueueDiscipline(queue),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
        .map_err(|source| Error::Access {
            device: device(),
            doing: "give it a queue (pfifo)",
            source,
        })?;
    let mut up = by_index(end.ifindex);
    up.header.flags = LinkFlags::Up;
    up.header.change_mask = LinkFlags::Up;
    socket
        .request(RouteNetlinkMessage::SetLink(up), 0)
        .map_err(|source| Error::Access {
            device: device(),
            doing: "set it up",
            source,
        })?;
    Ok(())
}

fn delete(socket: &mut Socket, end: &AccessLink) -> Result<(), Error> {
    match socket.request(RouteNetlinkMessage::DelLink(by_index(end.ifindex)), 0) {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(libc::ENODEV) => Ok(()),
        Err(source) => Err(Error::Access {
            device: end.name.clone(),
            doing: "remove it",
            source,
        }),
    }
}

fn link_drops(answer: &RouteNetlinkMessage) -> u64 {
    let RouteNetlinkMessage::NewLink(message) = answer else {
        return 0;
    };
    let counts = message
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            LinkAttribute::Stats64(stats) => Some(stats.tx_dropped),
            _ => None,
        });
    counts.sum()
}

fn queue_drops(answer: &RouteNetlinkMessage, ifindex: u32) -> u64 {
    let RouteNetlinkMessage::NewQueueDiscipline(message) = answer else {
        return 0;
    };
    if message.header.index != ifindex.cast_signed() {
        return 0;
    }
    let statistics = message
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            TcAttribute::Stats2(parts) => Some(parts),
            _ => None,
        });
    let drops = statistics.flatten().filter_map(|part| match part {
        TcStats2::Queue(queue) => Some(u64::from(queue.drops)),
        _ => None,
    });
    drops.sum()
}

/// A locally administered unicast address. The kernel's own random address would be marked as random, which udev's
/// `MACAddressPolicy=persistent` takes as leave to change it.
fn random_mac() -> MacAddr {
    use std::hash::{BuildHasher, Hasher};
    // Each state is seeded by the system's randomness.
    let number = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish();
    let [a, b, c, d, e, f, ..] = number.to_be_bytes();
    MacAddr([(a & 0xfc) | 0x02, b, c, d, e, f])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(alias: Option<String>, kind: &str) -> Link {
        Link {
            ifindex: 7,
            name: "vxg0".into(),
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            mtu: 1450,
            up: true,
            running: true,
            kind: Some(kind.into()),
            alias,
            rx_queues: 1,
            tx_queues: 1,
            master: None,
            peer: None,
            loopback: false,
            ethernet: true,
        }
    }

    #[test]
    fn only_what_a_dead_process_of_ours_left_is_a_leftover() {
        assert!(
            !is_leftover(&link(Some(alias("flannel.1")), "veth")),
            "we live"
        );
        let dead = format!("{ALIAS} of flannel.1 pid {} started 1", std::process::id());
        assert!(
            is_leftover(&link(Some(dead.clone()), "veth")),
            "same number, another process"
        );
        assert!(
            !is_leftover(&link(Some(dead), "dummy")),
            "we make no such devices"
        );
        for foreign in [
            None,
            Some("uplink of rack 3".to_owned()),
            Some(format!("{ALIAS} of x pid y started z")),
        ] {
            assert!(!is_leftover(&link(foreign.clone(), "veth")), "{foreign:?}");
        }
    }

    #[test]
    fn addresses_are_local_and_unicast() {
        for _ in 0..100 {
            let MacAddr([first, ..]) = random_mac();
            assert_eq!(first & 0b11, 0b10);
        }
    }
}
