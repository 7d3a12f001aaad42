//! The two devices of a measurement, each in a network namespace of its own or in ours.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::loadgen::range::Mac;
use crate::loadgen::report::Device;
use crate::netlink;

/// Where `ip netns add` puts names.
const NETNS_FOLDER: &str = "/run/netns";

/// A network namespace other than this thread's.
#[derive(Debug, Clone)]
pub(super) enum Netns {
    /// By the name that `ip netns` knows.
    Named(String),
    /// One without a name: the kernel removes it with the last handle, whatever becomes of the process.
    Unnamed(Arc<File>),
}

/// A device that sends or receives.
#[derive(Debug, Clone)]
pub(super) struct End {
    netns: Option<Netns>,
    /// Its name, for people.
    pub name: String,
    /// Its index in its namespace.
    pub ifindex: u32,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its largest payload, in bytes.
    pub mtu: u32,
    /// One end of a veth pair.
    pub is_veth: bool,
    /// The networks of its namespace.
    pub networks: Vec<(IpAddr, u8)>,
    /// Whether its namespace's default route leaves by it.
    pub has_default_route: bool,
    /// Its driver, where the kernel tells.
    driver: Option<String>,
}

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum EndError {
    /// No such namespace, or no permission.
    #[error(
        "cannot enter the network namespace '{name}': {source}; `ip netns list` shows the names, and entering needs CAP_SYS_ADMIN"
    )]
    Namespace {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel does not tell.
    #[error("cannot ask the kernel about {name}: {source}")]
    Ask {
        /// The device.
        name: String,
        /// Why.
        source: netlink::Error,
    },
    /// No socket to ask with.
    #[error("cannot open a netlink socket: {0}")]
    Socket(#[from] io::Error),
    /// No such device.
    #[error("there is no device {0} in {1}; `ip link` shows them")]
    Missing(String, Place),
    /// Not Ethernet.
    #[error("{0} carries no Ethernet frames")]
    NoEthernet(String),
}

/// Where a device was looked for, for people.
#[derive(Debug)]
pub(super) struct Place(Option<Netns>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(Netns::Named(name)) => write!(f, "network namespace '{name}'"),
            Some(Netns::Unnamed(_)) => f.write_str("the network namespace of the direct wire"),
            None => f.write_str("this network namespace"),
        }
    }
}

impl End {
    /// Looks the device up.
    pub(super) fn find(netns: Option<&str>, name: &str) -> Result<Self, EndError> {
        Self::find_in(netns.map(|name| Netns::Named(name.to_owned())), name)
    }

    /// As [`End::find`], in any namespace.
    pub(super) fn find_in(netns: Option<Netns>, name: &str) -> Result<Self, EndError> {
        within(netns.as_ref(), || Self::look(netns.as_ref(), name))?
    }

    /// Runs something in the device's namespace.
    pub(super) fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> Result<T, EndError> {
        within(self.netns.as_ref(), body)
    }

    /// As a report names it.
    pub(super) fn report(&self) -> Device {
        let netns = match &self.netns {
            Some(Netns::Named(name)) => Some(name.clone()),
            Some(Netns::Unnamed(_)) | None => None,
        };
        Device {
            name: self.name.clone(),
            netns,
            driver: self.driver.clone(),
            mtu: self.mtu,
        }
    }

    fn look(netns: Option<&Netns>, name: &str) -> Result<Self, EndError> {
        let ask = |source| EndError::Ask {
            name: name.to_owned(),
            source,
        };
        let mut socket = netlink::Socket::open()?;
        let links = netlink::links(&mut socket).map_err(ask)?;
        let missing = || EndError::Missing(name.to_owned(), Place(netns.cloned()));
        let link = links
            .iter()
            .find(|link| link.name == name)
            .ok_or_else(missing)?;
        if !link.ethernet {
            return Err(EndError::NoEthernet(name.to_owned()));
        }
        let addresses = netlink::addresses(&mut socket).map_err(ask)?;
        let network = |address: &netlink::Address| (address.local, address.prefix_len);
        Ok(Self {
            netns: netns.cloned(),
            name: name.to_owned(),
            ifindex: link.ifindex,
            mac: Mac(link.mac.0),
            mtu: link.mtu,
            is_veth: link.kind.as_deref() == Some("veth"),
            networks: addresses.iter().map(network).collect(),
            has_default_route: has_default_route(name),
            driver: driver(link),
        })
    }
}

/// Runs something in a network namespace, on a thread of its own: entering is for good.
fn within<T: Send>(netns: Option<&Netns>, body: impl FnOnce() -> T + Send) -> Result<T, EndError> {
    let (name, file) = match netns {
        None => return Ok(body()),
        Some(Netns::Named(name)) => (name.as_str(), open_named(name)?),
        Some(Netns::Unnamed(file)) => ("without a name", Arc::clone(file)),
    };
    let failed = |source| EndError::Namespace {
        name: name.to_owned(),
        source,
    };
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(body())
        });
        match inside.join() {
            Ok(done) => done.map_err(|error: rustix::io::Errno| failed(error.into())),
            Err(cause) => std::panic::resume_unwind(cause),
        }
    })
}

fn open_named(name: &str) -> Result<Arc<File>, EndError> {
    let file = File::open(format!("{NETNS_FOLDER}/{name}"));
    file.map(Arc::new).map_err(|source| EndError::Namespace {
        name: name.to_owned(),
        source,
    })
}

/// The kind of a virtual device, which is its driver; of others the driver that `/sys/bus` names: unlike `/sys/class/net`, that
/// is the same in every network namespace.
fn driver(link: &netlink::Link) -> Option<String> {
    if let Some(kind) = &link.kind {
        return Some(kind.clone());
    }
    let netlink::ParentDevice { bus, name } = link.parent.as_ref()?;
    let driver = fs::read_link(format!("/sys/bus/{bus}/devices/{name}/driver")).ok()?;
    Some(driver.file_name()?.to_string_lossy().into_owned())
}

/// `/proc/thread-self/net/route` and `ipv6_route` (proc_net(5)): the namespace of this thread. Where they cannot be read,
/// the device is taken for the one with the default route.
fn has_default_route(device: &str) -> bool {
    let read = |table: &str| fs::read_to_string(format!("/proc/thread-self/net/{table}"));
    let four = read("route").map(|text| is_default_ipv4(&text, device));
    // Without IPv6 there is no such file.
    let six = read("ipv6_route").map(|text| is_default_ipv6(&text, device));
    four.unwrap_or(true) || six.unwrap_or(false)
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask ...`, numbers in hexadecimal.
fn is_default_ipv4(text: &str, device: &str) -> bool {
    text.lines().any(|line| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        matches!(words.as_slice(), [name, "00000000", _, _, _, _, _, "00000000", ..] if *name == device)
    })
}

/// `destination length source length next-hop metric references uses flags device`. The kernel keeps a null route of length 0
/// on `lo`.
fn is_default_ipv6(text: &str, device: &str) -> bool {
    text.lines().any(|line| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        matches!(words.as_slice(), [_, "00", .., name] if *name == device)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_is_found_in_both_tables() {
        let four = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth1\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        assert!(is_default_ipv4(four, "eth0"));
        assert!(!is_default_ipv4(four, "eth1") && !is_default_ipv4(four, "Iface"));
        let six = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth2\n\
            fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth3\n";
        assert!(is_default_ipv6(six, "eth2") && !is_default_ipv6(six, "eth3"));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = End::find(None, "no-such-dev").unwrap_err().to_string();
        assert!(
            error.contains("no-such-dev") && error.contains("ip link"),
            "{error}"
        );
        let error = End::find(Some("no-such-netns"), "lo")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no-such-netns") && error.contains("ip netns list"),
            "{error}"
        );
        assert!(matches!(
            End::find(None, "lo"),
            Err(EndError::NoEthernet(_))
        ));
    }
}
