//! The smallest topology: a switch with one host, and a router at the other end of its underlay.
//!
//! ```text
//!   h1 .1 ── swp1 ─ br1 ─ vx1   sw   rp1 .17 ── rp2 .18   r
//! ```
//!
//! VXLAN frames are made by hand and sent by the router; the switch knows it as a VTEP.

use std::net::IpAddr;

use crate::carrier::{Carried, Carrier};
use crate::frame::{BROADCAST, Mark, STRANGER, ethernet_ip, probe, udp, vxlan};
use crate::net::Net;
use crate::probe::{Observer, Sender, play};
use crate::support::netns::Netns;
use crate::support::vxlan as device;
use crate::support::wait_until;
use crate::topology_a::ATTRIBUTES;
use vxgate::netlink::RequestBody;

/// The VNI.
pub const VNI: u32 = 1000;
const PORT: u16 = 4789;

/// The topology, up.
#[derive(Debug)]
pub struct Hop {
    /// The switch's carrier. First, so that it ends before its namespace.
    pub carried: Carried,
    /// h1, sw, r.
    pub net: Net,
    /// The frames on the underlay that the router receives.
    pub wire: Observer,
    router: Sender,
    from_h1: Sender,
    h1: Observer,
    vteps: [IpAddr; 2],
    hosts: [IpAddr; 2],
    outer_macs: [[u8; 6]; 2],
    host_mac: [u8; 6],
}

impl Hop {
    /// Builds it, with the device that all scenarios have.
    pub fn up(carrier: Carrier, ipv6: bool) -> Self {
        Self::build(carrier, ipv6, Device::With(ATTRIBUTES), &[])
    }

    /// Over IPv4, with a device that has a mask of reserved bits which must be zero.
    pub fn with_reserved_bits(carrier: Carrier, mask: u64) -> Self {
        Self::build(carrier, false, Device::Masked(mask), &[])
    }

    /// With words for `ip link add vx1 type vxlan …`, and arguments for `vxgate run`.
    pub fn with(carrier: Carrier, ipv6: bool, attributes: &str, arguments: &[&str]) -> Self {
        Self::build(carrier, ipv6, Device::With(attributes), arguments)
    }

    fn build(carrier: Carrier, ipv6: bool, vxlan: Device<'_>, arguments: &[&str]) -> Self {
        let net = Net::new(&["h1", "sw", "r"], ipv6);
        net.cable(["h1", "eth0"], ["sw", "swp1"]);
        net.cable(["sw", "rp1"], ["r", "rp2"]);
        let [len, first, second, host1, host3] = if ipv6 {
            [
                "64",
                "2001:db8:2::17",
                "2001:db8:2::18",
                "2001:db8:1::1",
                "2001:db8:1::3",
            ]
        } else {
            ["28", "192.0.2.17", "192.0.2.18", "192.0.2.1", "192.0.2.3"]
        };
        net.script("r", &format!("ip addr add {second}/{len} dev rp2"));
        net.script(
            "sw",
            &format!(
                "ip addr add {first}/{len} dev rp1
                 ip link add br1 type bridge mcast_snooping 0
                 ip link set br1 address $(cat /sys/class/net/swp1/address) up
                 ip link set swp1 master br1"
            ),
        );
        vxlan.make(&net, first);
        net.script(
            "sw",
            &format!(
                "ip link set vx1 master br1 up
                 bridge fdb append 00:00:00:00:00:00 dev vx1 dst {second} self"
            ),
        );
        let text = |address: &str| address.parse().expect("an address");
        let hop = Self {
            carried: Carried::start_with(carrier, net.ns("sw"), &["vx1"], arguments),
            wire: Observer::on(net.ns("r"), "rp2"),
            from_h1: Sender::on(net.ns("h1"), "eth0"),
            router: Sender::on(net.ns("r"), "rp2"),
            h1: Observer::on(net.ns("h1"), "eth0"),
            vteps: [text(second), text(first)],
            hosts: [text(host3), text(host1)],
            outer_macs: [net.mac("sw", "rp1"), net.mac("r", "rp2")],
            host_mac: net.mac("h1", "eth0"),
            net,
        };
        // The bridge hears of carriers late.
        wait_until(
            "both ports of the bridge forward",
            std::time::Duration::from_secs(20),
            || {
                let said = hop.net.ns("sw").run("bridge link");
                said.matches("state forwarding").count() == 2
            },
        );
        hop
    }

    /// Sends VXLAN payloads (header and inner frame), made with a mark; how many marked frames reach the host.
    pub fn arrive(&mut self, outer_tos: u8, payloads: impl Fn(&Mark) -> Vec<Vec<u8>>) -> usize {
        let vteps = self.vteps;
        self.arrive_changed(vteps, outer_tos, payloads, |frame| frame)
    }

    /// As [`Hop::arrive`], between these outer addresses, with a last change of the finished frames.
    pub fn arrive_changed(
        &mut self,
        outer_addresses: [IpAddr; 2],
        outer_tos: u8,
        payloads: impl Fn(&Mark) -> Vec<Vec<u8>>,
        change: impl Fn(Vec<u8>) -> Vec<u8>,
    ) -> usize {
        let [to, from] = self.outer_macs;
        let outer = |addresses, tos, payload: &[u8]| {
            ethernet_ip(to, from, &udp(addresses, tos, [23_456, PORT], payload))
        };
        let seen = play(
            &self.router,
            &mut [&mut self.h1],
            |mark| {
                let payloads = payloads(mark);
                payloads
                    .iter()
                    .map(|payload| change(outer(outer_addresses, outer_tos, payload)))
                    .collect()
            },
            |mark| {
                let inner = ethernet_ip(BROADCAST, STRANGER, &probe(self.hosts, 0, mark));
                outer(self.vteps, 0, &[&vxlan(VNI)[..], &inner].concat())
            },
        );
        seen[0].len()
    }

    /// Sends inner frames from the host, made with a mark; the marked frames on the underlay.
    pub fn depart(&mut self, frames: impl Fn(&Mark) -> Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let [there, here] = self.hosts;
        let (mac, hosts) = (self.host_mac, [here, there]);
        let sentinel = |mark: &Mark| ethernet_ip(BROADCAST, mac, &probe(hosts, 0, mark));
        play(&self.from_h1, &mut [&mut self.wire], frames, sentinel).remove(0)
    }

    /// The addresses of the hosts: of the remote one, of the local one.
    pub fn hosts(&self) -> [IpAddr; 2] {
        self.hosts
    }

    /// The addresses of the VTEPs: of the router, of the switch.
    pub fn vteps(&self) -> [IpAddr; 2] {
        self.vteps
    }

    /// The MAC address of the local host.
    pub fn host_mac(&self) -> [u8; 6] {
        self.host_mac
    }
}

/// How vx1 is made.
enum Device<'a> {
    /// With words for `ip link add`.
    With(&'a str),
    /// With a mask of reserved bits which must be zero.
    Masked(u64),
}

impl Device<'_> {
    fn make(self, net: &Net, first: &str) {
        match self {
            Device::Masked(mask) => lenient_device(net.ns("sw"), [192, 0, 2, 17], mask),
            Device::With(attributes) => net.script(
                "sw",
                &format!(
                    "ip link add vx1 type vxlan id {VNI} local {first} dstport {PORT} {attributes}"
                ),
            ),
        }
    }
}

/// Makes vx1 with the attribute `reserved_bits`, for which iproute2 has no word before 6.13. Numbers are `IFLA_VXLAN_*`
/// (`linux/if_link.h`).
fn lenient_device(switch: &Netns, local: [u8; 4], mask: u64) {
    let data = RequestBody::default()
        .with(1, &VNI.to_ne_bytes())
        .with(4, &local)
        .with(5, &[100]) // ttl
        .with(6, &[1]) // tos inherit
        .with(7, &[0]) // nolearning
        .with(15, &PORT.to_be_bytes())
        .with(18, &[0]) // noudpcsum
        .with(33, &mask.to_be_bytes());
    device::add(switch, "vx1", &data);
}

/// Addresses of a maker, for closures that must not borrow a [`Hop`] that they are given to.
#[derive(Debug, Clone, Copy)]
pub struct Inner {
    host_mac: [u8; 6],
    hosts: [IpAddr; 2],
}

impl Inner {
    /// Of a topology.
    pub fn of(hop: &Hop) -> Self {
        Self {
            host_mac: hop.host_mac,
            hosts: hop.hosts,
        }
    }

    /// An inner frame to the host.
    pub fn from(self, source: [u8; 6], mark: &Mark) -> Vec<u8> {
        ethernet_ip(self.host_mac, source, &probe(self.hosts, 0, mark))
    }
}
