//! The access device: a veth pair between a vxlan device's hooks and the workers' sockets.
//!
//! ```text
//!   vxlan device ──tcx egress──▶ kernel_side ════ worker_side ──XDP──▶ AF_XDP sockets, one queue a worker
//!                ◀─tcx ingress──
//! ```
//!
//! Nobody else should touch it. Names and Ethernet addresses are given at creation, so that udev's policies leave both
//! alone; IPv6 is off, so that the kernel sends nothing of its own; offloads are off, so that frames have their final
//! bytes; queues in front of each end make the veth push back instead of dropping. An alias says that it is ours and what
//! its maker claims, so that what a killed process left can be told from what a living one uses.

use std::fs;
use std::io;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use super::claim::Claim;
use super::{Error, ethtool, qdisc};
use crate::netlink::{self, Link, Socket};
use crate::wire::MacAddr;

pub(super) const NLM_F_REPLACE: u16 = 0x100;
pub(super) const NLM_F_EXCL: u16 = 0x200;
pub(super) const NLM_F_CREATE: u16 = 0x400;
/// Names `vxg0` to `vxg999` are tried; a node has as many vxlan devices as it has overlay networks.
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
    _claim: Claim,
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
        let macs = [random_mac(), random_mac()];
        let claim = Claim::new(&key(macs[0])).map_err(|source| Error::Claim {
            device: device_name.to_owned(),
            source,
        })?;
        let pair = make(&mut socket, macs, device_mtu, queues)?;
        let made = mark(&mut socket, &pair[0], device_name, &key(macs[0]))
            .and_then(|()| Ok((find(&mut socket, &pair[0])?, find(&mut socket, &pair[1])?)));
        let (kernel_side, worker_side) = made.inspect_err(|_| {
            // The failure to tell is the first one.
            let _ = delete(&mut socket, &pair[0], by_name(&pair[0]));
        })?;
        let pair = Self {
            kernel_side,
            worker_side,
            removed: false,
            _claim: claim,
        };
        for end in [&pair.kernel_side, &pair.worker_side] {
            set_up(&mut socket, end, queues)?;
        }
        Ok(pair)
    }

    /// Removes both ends.
    ///
    /// # Errors
    /// When the kernel refuses. A pair that is gone already is no error.
    pub fn remove(mut self) -> Result<(), Error> {
        self.removed = true;
        delete_end(&mut open()?, &self.kernel_side)
    }

    /// Frames that were redirected to the kernel side and never reached the worker side: dropped by its queue or by the
    /// veth's own ring.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn ring_drops(&self) -> Result<u64, Error> {
        departures(&self.kernel_side).map(|departures| departures.dropped)
    }
}

/// What became of the frames that a device had to send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Departures {
    /// Gone to its other end: of a TAP, to who reads it.
    pub sent: u64,
    /// Dropped by its queue or by its own ring.
    pub dropped: u64,
}

/// What the kernel counts of a device.
pub(super) fn departures(link: &AccessLink) -> Result<Departures, Error> {
    let failed = |source| Error::Access {
        device: link.name.clone(),
        doing: "read its counters",
        source,
    };
    let mut socket = open()?;
    let answers = socket
        .request(RouteNetlinkMessage::GetLink(by_index(link.ifindex)), 0)
        .map_err(failed)?;
    let mut departures = answers.iter().find_map(of_device).unwrap_or_default();
    departures.dropped += qdisc::drops(&mut socket, link.ifindex).map_err(failed)?;
    Ok(departures)
}

/// Marks a TAP of ours as such, and has it up with nothing of its own to say.
pub(super) fn adopt(name: &str, of: &str) -> Result<AccessLink, Error> {
    let mut socket = open()?;
    set_alias(&mut socket, name, format!("vxgate superframes of {of}"))?;
    let link = find(&mut socket, name)?;
    silence(name)?;
    bring_up(&mut socket, &link)?;
    Ok(link)
}

impl Drop for AccessPair {
    fn drop(&mut self) {
        if self.removed {
            return;
        }
        if let Err(error) = open().and_then(|mut socket| delete_end(&mut socket, &self.kernel_side))
        {
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
            delete(&mut socket, &link.name, by_index(link.ifindex))?;
            removed.push(link.name);
        }
    }
    Ok(removed)
}

/// The vxlan devices, by name, whose access device is in use.
pub(super) fn served_devices(links: &[Link]) -> Vec<String> {
    let claimed = links.iter().filter_map(Alias::of).filter(Alias::is_held);
    claimed.map(|alias| alias.device.to_owned()).collect()
}

/// A device of ours that nobody claims.
pub(super) fn is_leftover(link: &Link) -> bool {
    Alias::of(link).is_some_and(|alias| !alias.is_held())
}

/// What an access device says of itself.
struct Alias<'a> {
    device: &'a str,
    key: &'a str,
}

impl<'a> Alias<'a> {
    fn of(link: &'a Link) -> Option<Self> {
        if link.kind.as_deref() != Some("veth") {
            return None;
        }
        let (device, key) = link
            .alias
            .as_deref()?
            .strip_prefix(ALIAS)?
            .strip_prefix(" of ")?
            .rsplit_once(" key ")?;
        Some(Self { device, key })
    }

    fn is_held(&self) -> bool {
        Claim::is_held(self.key)
    }
}

fn alias(device_name: &str, key: &str) -> String {
    format!("{ALIAS} of {device_name} key {key}")
}

/// What its maker claims: the address that the kernel side was made with, which no other device has.
fn key(mac: MacAddr) -> String {
    mac.to_string()
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

fn by_name(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
    message
}

/// Creates the pair under the first free names; returns them.
fn make(
    socket: &mut Socket,
    macs: [MacAddr; 2],
    mtu: u32,
    queues: u32,
) -> Result<[String; 2], Error> {
    let end = |name: &str, mac: MacAddr| {
        let mut message = by_name(name);
        message.attributes.extend([
            LinkAttribute::Mtu(mtu),
            LinkAttribute::Address(mac.0.to_vec()),
            LinkAttribute::NumTxQueues(queues),
            LinkAttribute::NumRxQueues(queues),
        ]);
        message
    };
    for number in 0..PAIRS_MAX {
        let names = [2 * number, 2 * number + 1].map(|number| format!("vxg{number}"));
        let mut message = end(&names[0], macs[0]);
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(end(&names[1], macs[1])))),
        ]));
        match socket.request(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        ) {
            Ok(_) => return Ok(names),
            Err(error) if error.code() == Some(libc::EEXIST) => {}
            Err(source) => {
                let [device, _] = names;
                return Err(Error::Access {
                    device,
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
fn mark(socket: &mut Socket, name: &str, device_name: &str, key: &str) -> Result<(), Error> {
    set_alias(socket, name, alias(device_name, key))
}

fn set_alias(socket: &mut Socket, name: &str, alias: String) -> Result<(), Error> {
    let mut message = by_name(name);
    message.attributes.push(LinkAttribute::IfAlias(alias));
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

/// IPv6 off, offloads off, queues, up.
fn set_up(socket: &mut Socket, end: &AccessLink, queues: u32) -> Result<(), Error> {
    silence(&end.name)?;
    ethtool::finish_frames(&end.name).map_err(|source| Error::Setting {
        device: end.name.clone(),
        doing: "switch offloads off",
        source,
    })?;
    qdisc::give_queues(socket, end.ifindex, queues).map_err(|source| Error::Access {
        device: end.name.clone(),
        doing: "give it queues (pfifo)",
        source,
    })?;
    bring_up(socket, end)
}

/// Switches IPv6 off, by which the kernel would send frames of its own.
fn silence(name: &str) -> Result<(), Error> {
    let path = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
    match fs::write(path, "1") {
        // A kernel without IPv6 has none to switch off.
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::Setting {
            device: name.to_owned(),
            doing: "switch IPv6 off",
            source: error,
        }),
        _ => Ok(()),
    }
}

fn bring_up(socket: &mut Socket, link: &AccessLink) -> Result<(), Error> {
    let mut up = by_index(link.ifindex);
    up.header.flags = LinkFlags::Up;
    up.header.change_mask = LinkFlags::Up;
    socket
        .request(RouteNetlinkMessage::SetLink(up), 0)
        .map(drop)
        .map_err(|source| Error::Access {
            device: link.name.clone(),
            doing: "set it up",
            source,
        })
}

fn delete_end(socket: &mut Socket, end: &AccessLink) -> Result<(), Error> {
    delete(socket, &end.name, by_index(end.ifindex))
}

fn delete(socket: &mut Socket, name: &str, which: LinkMessage) -> Result<(), Error> {
    match socket.request(RouteNetlinkMessage::DelLink(which), 0) {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(libc::ENODEV) => Ok(()),
        Err(source) => Err(Error::Access {
            device: name.to_owned(),
            doing: "remove it",
            source,
        }),
    }
}

fn of_device(answer: &RouteNetlinkMessage) -> Option<Departures> {
    let RouteNetlinkMessage::NewLink(message) = answer else {
        return None;
    };
    let mut attributes = message.attributes.iter();
    attributes.find_map(|attribute| match attribute {
        LinkAttribute::Stats64(stats) => Some(Departures {
            sent: stats.tx_packets,
            dropped: stats.tx_dropped,
        }),
        _ => None,
    })
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
            parent: None,
            loopback: false,
            ethernet: true,
        }
    }

    #[test]
    fn a_leftover_is_a_veth_of_ours_that_nobody_claims() {
        let key = key(random_mac());
        let ours = || Some(alias("flannel.1", &key));
        let claim = Claim::new(&key).unwrap();
        assert!(!is_leftover(&link(ours(), "veth")), "its maker lives");
        assert_eq!(served_devices(&[link(ours(), "veth")]), ["flannel.1"]);
        drop(claim);
        assert_eq!(served_devices(&[link(ours(), "veth")]), [""; 0]);
        assert!(is_leftover(&link(ours(), "veth")));
        assert!(
            !is_leftover(&link(ours(), "dummy")),
            "we make no such devices"
        );
        for foreign in [
            None,
            Some("uplink of rack 3 key 7".to_owned()),
            Some(format!("{ALIAS} of nobody knows what")),
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
