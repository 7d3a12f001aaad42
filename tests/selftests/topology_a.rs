//! A switch with two local hosts, and two remote sites behind a router.
//!
//! ```text
//!   h1 .1 ── swp1 ┐               sw
//!                 ├ br1 ── vx1 (local .17, VNI 1000)
//!   h2 .2 ── swp2 ┘         └ rp1 .17 ── rp2 .18 ┐ r (routes)
//!                                                ├ v1 .33 ── v2 .34   ns1: br2 .3 ── vx2 (to .17 and .50)
//!                                                └ v3 .49 ── v4 .50   ns2: br2 .4 ── vx2 (to .17 and .34)
//! ```
//!
//! Hosts are 192.0.2.1 to .4 or 2001:db8:1::1 to ::4; an IPv6 underlay numbers its links 2001:db8:2: to 2001:db8:4:.

use std::net::IpAddr;
use std::time::Duration;

use crate::carrier::{Carried, Carrier};
use crate::frame::{BROADCAST, Mark, STRANGER, ethernet_ip, probe, ten};
use crate::net::Net;
use crate::probe::{Observer, Sender, play};
use crate::support::wait_until;

/// The VNI.
pub const VNI: u32 = 1000;
/// What the switch's device is made with, beyond VNI, address and port.
pub const ATTRIBUTES: &str = "nolearning noudpcsum tos inherit ttl 100";

/// Port and family.
#[derive(Debug, Clone, Copy)]
pub struct Variant {
    /// UDP port.
    pub port: u16,
    /// IPv6 below and above, instead of IPv4.
    pub ipv6: bool,
}

/// The topology, up.
#[derive(Debug)]
pub struct TopologyA {
    /// The switch's carrier. First, so that it ends before its namespace.
    pub carried: Carried,
    /// What it was built with.
    pub variant: Variant,
    /// h1, h2, sw, r, ns1, ns2.
    pub net: Net,
    /// Sends frames from h1.
    pub from_h1: Sender,
    /// What h2 receives; what the vxlan devices of ns1 and ns2 have decapsulated.
    pub ends: [Observer; 3],
}

impl Variant {
    /// The addresses of the hosts 1 to 4.
    pub fn host(self, number: u8) -> IpAddr {
        self.address("2001:db8:1::", number)
    }

    /// The addresses of the VTEPs: 17 of the switch, 34 and 50 of the remote sites.
    pub fn vtep(self, number: u8) -> IpAddr {
        let subnet = match number {
            ..32 => "2001:db8:2::",
            32..48 => "2001:db8:3::",
            _ => "2001:db8:4::",
        };
        self.address(subnet, number)
    }

    fn address(self, subnet: &str, number: u8) -> IpAddr {
        let text = if self.ipv6 {
            format!("{subnet}{number}")
        } else {
            format!("192.0.2.{number}")
        };
        text.parse().expect("an address")
    }

    fn prefix_len(self) -> u8 {
        if self.ipv6 { 64 } else { 28 }
    }
}

impl TopologyA {
    /// Builds it, lets the carrier have `vx1`, and waits until all four hosts reach each other.
    pub fn up(carrier: Carrier, variant: Variant) -> Self {
        let net = Net::new(&["h1", "h2", "sw", "r", "ns1", "ns2"], variant.ipv6);
        for [near, far] in [
            [["h1", "eth0"], ["sw", "swp1"]],
            [["h2", "eth0"], ["sw", "swp2"]],
            [["sw", "rp1"], ["r", "rp2"]],
            [["r", "v1"], ["ns1", "v2"]],
            [["r", "v3"], ["ns2", "v4"]],
        ] {
            net.cable(near, far);
        }
        let len = variant.prefix_len();
        for number in [1, 2] {
            let address = variant.host(number);
            net.script(
                &format!("h{number}"),
                &format!("ip addr add {address}/{len} dev eth0"),
            );
        }
        net.script("r", &router(variant));
        net.script("sw", &switch(variant));
        net.script("ns1", &site(variant, "v2", [33, 34, 50], 3));
        net.script("ns2", &site(variant, "v4", [49, 50, 34], 4));
        let topology = Self {
            carried: Carried::start(carrier, net.ns("sw"), &["vx1"]),
            from_h1: Sender::on(net.ns("h1"), "eth0"),
            ends: [("h2", "eth0"), ("ns1", "vx2"), ("ns2", "vx2")]
                .map(|(name, device)| Observer::on(net.ns(name), device)),
            variant,
            net,
        };
        topology.wait_connected();
        topology
    }

    /// Every host is reached from h1. The bridge hears of carriers late, and the underlay's neighbours are asked for first.
    pub fn wait_connected(&self) {
        for number in [2, 3, 4] {
            let address = self.variant.host(number).to_string();
            wait_until(
                &format!("h1 reaches {address}"),
                Duration::from_secs(20),
                || self.net.reaches("h1", &address),
            );
        }
    }

    /// Echoes from h1 to all other hosts.
    pub fn ping_all(&self) {
        for number in [2, 3, 4] {
            let address = self.variant.host(number).to_string();
            self.net.ping("h1", &address, 10, "");
        }
    }

    /// A probe of h1 to a MAC address that claims to be that of a host.
    pub fn probe(&self, to: [u8; 6], host: u8, tos: u8, mark: &Mark) -> Vec<u8> {
        let addresses = [self.variant.host(1), self.variant.host(host)];
        ethernet_ip(to, self.net.mac("h1", "eth0"), &probe(addresses, tos, mark))
    }

    /// Sends ten probes from h1 to a MAC address; how many of them h2, ns1 and ns2 get.
    pub fn ten_probes(&mut self, to: [u8; 6], host: u8) -> [usize; 3] {
        let addresses = [self.variant.host(1), self.variant.host(host)];
        let from = self.net.mac("h1", "eth0");
        let [h2, ns1, ns2] = &mut self.ends;
        let seen = play(
            &self.from_h1,
            &mut [h2, ns1, ns2],
            |mark| ten(|| ethernet_ip(to, from, &probe(addresses, 0, mark))),
            |mark| ethernet_ip(BROADCAST, from, &probe(addresses, 0, mark)),
        );
        [0, 1, 2].map(|index| seen[index].len())
    }

    /// Sends frames from h1, and a sentinel that ns1 gets; what ns1 received of them on its underlay.
    pub fn seen_by_ns1(
        &self,
        observer: &mut Observer,
        frames: impl Fn(&Mark) -> Vec<Vec<u8>>,
    ) -> Vec<Vec<u8>> {
        let sentinel = |mark: &Mark| self.probe(BROADCAST, 3, 0, mark);
        play(&self.from_h1, &mut [observer], frames, sentinel).remove(0)
    }

    /// A broadcast sentinel from a stranger, for frames that do not start at h1.
    pub fn sentinel_inner(&self, mark: &Mark) -> Vec<u8> {
        let addresses = [self.variant.host(3), self.variant.host(1)];
        ethernet_ip(BROADCAST, STRANGER, &probe(addresses, 0, mark))
    }
}

fn switch(variant: Variant) -> String {
    let len = variant.prefix_len();
    let [local, gateway, first, second] = [17, 18, 34, 50].map(|number| variant.vtep(number));
    format!(
        "ip link add br1 type bridge mcast_snooping 0
         ip link set br1 address $(cat /sys/class/net/swp1/address) up
         ip addr add {local}/{len} dev rp1
         ip route add {first_net} via {gateway}
         ip route add {second_net} via {gateway}
         ip link add vx1 type vxlan id {VNI} local {local} dstport {port} {ATTRIBUTES}
         ip link set vx1 master br1 up
         ip link set swp1 master br1
         ip link set swp2 master br1
         bridge fdb append 00:00:00:00:00:00 dev vx1 dst {first} self
         bridge fdb append 00:00:00:00:00:00 dev vx1 dst {second} self",
        port = variant.port,
        first_net = subnet(variant, 34),
        second_net = subnet(variant, 50),
    )
}

fn router(variant: Variant) -> String {
    let len = variant.prefix_len();
    let addresses = [("rp2", 18), ("v1", 33), ("v3", 49)].map(|(device, number)| {
        format!("ip addr add {}/{len} dev {device}\n", variant.vtep(number))
    });
    format!(
        "{}sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
        addresses.concat()
    )
}

/// A remote site: its underlay device, the last parts of the addresses of its router, itself and the other site, and its host.
fn site(variant: Variant, device: &str, [gateway, own, other]: [u8; 3], host: u8) -> String {
    let len = variant.prefix_len();
    let [gateway, local, other] = [gateway, own, other].map(|number| variant.vtep(number));
    format!(
        "ip addr add {local}/{len} dev {device}
         ip route add {switch_net} via {gateway}
         ip route add {other} via {gateway}
         ip link add br2 type bridge
         ip link add vx2 type vxlan id {VNI} local {local} dstport {port}
         bridge fdb append 00:00:00:00:00:00 dev vx2 dst {switch} self
         bridge fdb append 00:00:00:00:00:00 dev vx2 dst {other} self
         ip link set vx2 master br2 up
         ip link set br2 up
         ip addr add {host}/{len} dev br2",
        switch_net = subnet(variant, 17),
        port = variant.port,
        switch = variant.vtep(17),
        host = variant.host(host),
    )
}

/// The subnet of a VTEP.
fn subnet(variant: Variant, number: u8) -> String {
    match variant.vtep(number) {
        IpAddr::V4(_) => format!("192.0.2.{}/28", number / 16 * 16),
        IpAddr::V6(address) => {
            let mut segments = address.segments();
            segments[7] = 0;
            format!("{}/64", std::net::Ipv6Addr::from(segments))
        }
    }
}
