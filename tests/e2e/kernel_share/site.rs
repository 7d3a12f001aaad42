//! The node and its two far ends.

use serde_json::Value;
use vxgate::netlink::RequestBody;

use super::*;
use crate::support::lab::Turn;
use crate::support::netns::Netns;
use crate::support::vxlan;

/// The namespaces of the drawing.
pub(super) struct Site {
    pub(super) node: Netns,
    pub(super) far: [Netns; 2],
    _turn: Turn,
}

impl Site {
    pub(super) fn new(name: &str) -> Self {
        let turn = Turn::alone();
        let netns = |end: &str| {
            let netns = Netns::create(&format!("vx{}-{name}-{end}", std::process::id()));
            // No neighbour discovery among the counted frames.
            netns.run("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
            netns.run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
            netns
        };
        let site = Self {
            node: netns("node"),
            far: [netns("far1"), netns("far2")],
            _turn: turn,
        };
        for (far, number) in site.far.iter().zip(1..) {
            site.node.run(&format!(
                "ip link add eth{number} type veth peer name eth0 netns {}",
                far.name()
            ));
            site.node.run(&format!("ip link set eth{number} up"));
            site.node
                .run(&format!("ip addr add 10.0.{number}.1/24 dev eth{number}"));
            far.run("ip link set eth0 up");
            far.run(&format!("ip addr add 10.0.{number}.2/24 dev eth0"));
            far.run(&format!("ip route add default via 10.0.{number}.1"));
            far.run("ip addr add 10.0.3.3/32 dev lo");
            site.devices(far, "eth0", [&format!("10.0.{number}.2"); 3]);
        }
        site.node.run("ip addr add 10.0.1.9/24 dev eth1");
        site.node.run("ip route add 10.0.3.3/32 via 10.0.2.2");
        site.devices(&site.node, "eth1", ["10.0.1.1", "10.0.1.9", "10.0.1.9"]);
        for (station, destination) in [
            (FAR1, "10.0.1.2"),
            (FAR2, "10.0.2.2"),
            (FAR2_VIA, "10.0.2.2 via eth2"),
            (FAR1_VIA, "10.0.1.2 via eth1"),
            (ROAMING, "10.0.3.3"),
            (LOST, "10.99.0.1"),
            (TO_VX2, "10.0.1.9 vni 2"),
            (TO_VX3, "10.0.1.9 port 4789"),
            (MOVING, "10.0.1.77 vni 2"),
            (TO_NOBODY, "10.0.1.9 vni 77"),
        ] {
            site.entry("add", station, destination);
        }
        site
    }

    /// vx1, vx2 and vx3 of a namespace.
    fn devices(&self, netns: &Netns, underlay: &str, locals: [&str; 3]) {
        for ((device, identity), local) in [
            ("vx1", "id 1 dstport 8472"),
            ("vx2", "id 2 dstport 8472"),
            ("vx3", "id 1 dstport 4789"),
        ]
        .into_iter()
        .zip(locals)
        {
            netns.run(&format!(
                "ip link add {device} type vxlan {identity} local {local} dev {underlay} nolearning"
            ));
            netns.run(&format!("ip link set {device} up"));
        }
    }

    /// Changes an FDB entry of the node's vx1.
    pub(super) fn entry(&self, change: &str, station: &str, destination: &str) {
        self.node.run(&format!(
            "bridge fdb {change} {station} dev vx1 dst {destination} self permanent"
        ));
    }

    pub(super) fn flood(&self, change: &str, destination: &str) {
        self.entry(change, "00:00:00:00:00:00", destination);
    }

    /// Frames from the node's vx1.
    pub(super) fn stations(&self) -> Stations {
        Stations::new(
            (&self.node, "vx1"),
            &[
                ("far1", &self.far[0], "vx1"),
                ("far2", &self.far[1], "vx1"),
                ("far1/vx2", &self.far[0], "vx2"),
                ("vx2", &self.node, "vx2"),
                ("vx3", &self.node, "vx3"),
            ],
        )
    }

    /// Sets a flag that `ip` may be too old to know: `IFLA_VXLAN_LOCALBYPASS`.
    pub(super) fn set_local_bypass(&self, on: bool) {
        const LOCAL_BYPASS: u16 = 31;
        let flag = RequestBody::default().with(LOCAL_BYPASS, &[u8::from(on)]);
        vxlan::change(&self.node, "vx1", &flag);
    }

    /// A count of a device of the node, as `ip` tells it.
    pub(super) fn count(&self, device: &str, way: &str, what: &str) -> u64 {
        let text = self
            .node
            .run(&format!("ip -s -s -j link show dev {device}"));
        let links: Value = serde_json::from_str(&text).expect("ip prints JSON");
        let stats = &links[0]["stats64"][way][what];
        stats
            .as_u64()
            .unwrap_or_else(|| panic!("{way} {what}: {}", links[0]))
    }
}
