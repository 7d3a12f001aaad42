//! What changes, as the kernel announces it to its multicast groups.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE, NETLINK_XFRM};
use rustix::io::Errno;
use rustix::net::{RecvFlags, sockopt};

use super::message::{Message, messages};

/// Notifications come one or few a datagram; the longest is a link with all of its attributes.
const BUFFER_LEN: usize = 64 * 1024;

/// A multicast group (`linux/rtnetlink.h`, `enum rtnetlink_groups`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Group {
    /// Links.
    Link = 1,
    /// Neighbours and FDB entries.
    Neighbour = 3,
    /// Queueing disciplines, classes and filters.
    TrafficControl = 4,
    /// IPv4 addresses.
    Ipv4Address = 5,
    /// IPv4 routes.
    Ipv4Route = 7,
    /// IPv4 policy rules.
    Ipv4Rule = 8,
    /// IPv6 addresses.
    Ipv6Address = 9,
    /// IPv6 routes.
    Ipv6Route = 11,
    /// IPv6 policy rules.
    Ipv6Rule = 19,
    /// What the kernel does with IPv4 packets: forwarding, reverse-path filtering (`net.ipv4.conf`).
    Ipv4Netconf = 24,
    /// What the kernel does with IPv6 packets (`net.ipv6.conf`).
    Ipv6Netconf = 25,
    /// Multicast databases of bridges and vxlan devices.
    Mdb = 26,
    /// Nexthop objects.
    Nexthop = 32,
    /// VLANs of bridges and their ports, with what holds for one VLAN alone.
    BridgeVlan = 33,
}

/// `NFNLGRP_NFTABLES` (`linux/netfilter/nfnetlink.h`): whatever changes in nftables, and with every change another
/// generation.
const NFTABLES: u32 = 7;
/// `XFRMNLGRP_EXPIRE`, `XFRMNLGRP_POLICY` (`linux/xfrm.h`): policies that come, change, go, and run out.
const POLICIES: [u32; 2] = [2, 4];

/// What [`Subscription::receive`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Messages were handed over; there may be more.
    Messages,
    /// Nothing is waiting.
    Nothing,
    /// The kernel could not queue some notifications: they are lost, only a dump tells the truth. Told before what the
    /// queue still holds, which is older than the loss; and until the queue has been emptied the kernel goes on losing
    /// notifications without another word (`NETLINK_S_CONGESTED`, `net/netlink/af_netlink.c`). So: first
    /// [`Subscription::drain`], then dump.
    Overrun,
}

/// A non-blocking socket that hears notifications. What arrives queues up in the kernel until it is received.
#[derive(Debug)]
pub struct Subscription {
    socket: netlink_sys::Socket,
    buffer: Vec<u8>,
}

impl Subscription {
    /// Joins the groups, with a queue of `queue_bytes` (more than the system's limit when we may; never an error).
    pub fn open(groups: &[Group], queue_bytes: usize) -> io::Result<Self> {
        Self::join(
            NETLINK_ROUTE,
            groups.iter().map(|group| *group as u32),
            queue_bytes,
        )
    }

    /// Hears of every change of nftables, which `iptables-nft` makes its rules of, too. `None` on a kernel without it.
    pub fn nftables(queue_bytes: usize) -> io::Result<Option<Self>> {
        Self::join_where_there_is(NETLINK_NETFILTER, [NFTABLES], queue_bytes)
    }

    /// Hears of IPsec policies. `None` on a kernel without them.
    pub fn policies(queue_bytes: usize) -> io::Result<Option<Self>> {
        Self::join_where_there_is(NETLINK_XFRM, POLICIES, queue_bytes)
    }

    fn join_where_there_is(
        protocol: isize,
        groups: impl IntoIterator<Item = u32>,
        queue_bytes: usize,
    ) -> io::Result<Option<Self>> {
        match Self::join(protocol, groups, queue_bytes) {
            Err(error) if error.raw_os_error() == Some(Errno::PROTONOSUPPORT.raw_os_error()) => {
                Ok(None)
            }
            outcome => outcome.map(Some),
        }
    }

    /// Joins groups of any family, by their numbers.
    pub(super) fn join(
        protocol: isize,
        groups: impl IntoIterator<Item = u32>,
        queue_bytes: usize,
    ) -> io::Result<Self> {
        let mut socket = netlink_sys::Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        if sockopt::set_socket_recv_buffer_size_force(&socket, queue_bytes).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, queue_bytes)?;
        }
        for group in groups {
            // Groups above 31 do not fit the mask of `bind`: every one is joined by its number.
            match socket.add_membership(group) {
                Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                    // This kernel has no such group (built without IPv6, or too old for nexthop objects): it also has
                    // nothing to announce there.
                }
                other => other?,
            }
        }
        Ok(Self {
            socket,
            buffer: vec![0; BUFFER_LEN],
        })
    }

    /// Takes one datagram, if one is waiting, and hands each of its messages to `each`.
    pub fn receive(&mut self, mut each: impl FnMut(&Message<'_>)) -> io::Result<Received> {
        match rustix::net::recv(&self.socket, &mut self.buffer[..], RecvFlags::TRUNC) {
            Ok((_, length)) => match self.buffer.get(..length) {
                Some(datagram) => {
                    messages(datagram).for_each(|message| each(&message));
                    Ok(Received::Messages)
                }
                // Longer than our buffer: part of it is lost, which is what an overrun is.
                None => Ok(Received::Overrun),
            },
            Err(Errno::AGAIN) => Ok(Received::Nothing),
            Err(Errno::INTR) => Ok(Received::Messages),
            Err(Errno::NOBUFS) => Ok(Received::Overrun),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Throws away what is waiting, at most `datagrams_max` datagrams. Whether nothing is left: then whatever changes from
    /// now on is announced, or its loss told.
    pub fn drain(&mut self, datagrams_max: usize) -> io::Result<bool> {
        for _ in 0..datagrams_max {
            if self.receive(|_| {})? == Received::Nothing {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl AsFd for Subscription {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
