//! The commands that build the network of a site, and the one that removes it.

use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::outer::Family;
use super::setting::{Overlay, Segment, Setting};
use super::site::{
    DEVICE_MAC, ELSEWHERE_MAC, GATEWAY_MAC, GROUP_MAC, HOST_MAC, NODE_MAC, OTHER_PORT,
    OTHER_PORT_MAC, OTHER_VNI, OTHER_VNI_MAC, PEER_MACS, REMOTE_MACS,
};
use super::support::frames::mac_text;
use super::support::netns::Netns;
use super::support::vxlan;
use vxgate::netlink::RequestBody;

/// Removes the namespaces, with the processes in them, and folders when the test program ends, whatever way it does: sites are
/// shared by tests and so live in statics, which nobody drops. The pipe to it closes with the program.
#[derive(Debug)]
pub struct Janitor {
    _process: Child,
    pipe: ChildStdin,
}

impl Janitor {
    pub fn watch(names: &[String; 2]) -> Self {
        let [node, ends] = names;
        let script = format!(
            "while read -r folder; do set -- \"$@\" \"$folder\"; done; \
             for n in {node} {ends}; do [ -e /run/netns/$n ] || continue; \
             for p in $(ip netns pids $n); do kill -9 $p; done; ip netns del $n; done; rm -rf -- \"$@\""
        );
        let mut process = Command::new("setsid")
            .args(["sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("util-linux is installed");
        let pipe = process.stdin.take().expect("the pipe was asked for");
        Self {
            _process: process,
            pipe,
        }
    }

    /// Also removes this folder.
    pub fn watch_folder(&mut self, folder: &Path) {
        writeln!(self.pipe, "{}", folder.display()).expect("the janitor waits");
    }
}

/// Builds the network of the node.
pub fn build(node: &Netns, setting: &Setting, ends: &str) {
    node.script(&of_site(setting, ends));
    if setting.attributes.contains(LABEL_INHERIT) {
        for number in 0..setting.segments.len() {
            let inherit = RequestBody::default()
                .with(VXLAN_LABEL_POLICY, &LABEL_POLICY_INHERIT.to_ne_bytes());
            vxlan::change(node, &device_name(number), &inherit);
        }
    }
}

/// The outer flow label is the inner one. Older `ip`s do not know these words.
const LABEL_INHERIT: &str = "flowlabel inherit";
/// `linux/if_link.h`.
const VXLAN_LABEL_POLICY: u16 = 32;
const LABEL_POLICY_INHERIT: u32 = 1;

/// All that shell can do.
fn of_site(setting: &Setting, ends: &str) -> String {
    let mut lines = links(setting, ends);
    lines += &match setting.overlay {
        Overlay::Bridged => BRIDGE.to_owned(),
        Overlay::Routed => gateway(),
    };
    for family in [Family::V4, Family::V6] {
        if setting.segments.iter().any(|part| part.family == family) {
            lines += &underlay(family);
        }
    }
    for (number, segment) in setting.segments.iter().enumerate() {
        lines += &device(number, segment, setting);
    }
    // Devices were made with room for their own MTU: a link that shrinks later is what makes a path narrow.
    lines + &format!("ip link set eth1 mtu {}\n", setting.link_mtu)
}

fn links(setting: &Setting, ends: &str) -> String {
    let (overlay_mtu, underlay_mtu) = (setting.overlay_mtu, setting.underlay_mtu());
    let node_mac = mac_text(NODE_MAC);
    format!(
        "
sysctl -qw net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.default.accept_ra=0
sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
sysctl -qw net.ipv4.conf.all.accept_redirects=0 net.ipv4.conf.default.accept_redirects=0
sysctl -qw net.ipv4.icmp_ratemask=0 net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0
sysctl -qw net.ipv4.ipfrag_time=3600 net.ipv6.ip6frag_time=3600
for s in net.ipv4.icmp_msgs_per_sec=1000000 net.ipv4.icmp_msgs_burst=100000 net.bridge.bridge-nf-call-iptables=0 \
  net.bridge.bridge-nf-call-ip6tables=0 net.bridge.bridge-nf-call-arptables=0; do sysctl -qw $s 2>/dev/null || true; done
ip netns exec {ends} sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
ip link add eth1 address {node_mac} mtu {underlay_mtu} type veth peer name wire netns {ends} mtu {underlay_mtu}
ip link add port mtu {overlay_mtu} type veth peer name over netns {ends} mtu {overlay_mtu}
ip -n {ends} link set wire arp off up
ip -n {ends} link set over arp off up
ethtool -K eth1 rx off tx off sg off tso off gso off gro off >/dev/null
ethtool -K port rx off tx off sg off tso off gso off gro off >/dev/null
ip link set eth1 addrgenmode none up
"
    )
}

const BRIDGE: &str = "
ip link add br0 type bridge stp_state 0 mcast_snooping 0 nf_call_iptables 0 nf_call_ip6tables 0 nf_call_arptables 0
ip link set port master br0
bridge link set dev port learning off
ip link set br0 arp off up
ip link set port arp off up
";

/// The node routes between the port, where one host is, and the vxlan device.
fn gateway() -> String {
    let (port_mac, host_mac) = (mac_text(GATEWAY_MAC), mac_text(HOST_MAC));
    format!(
        "
sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0
sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.port.disable_ipv6=0
ip link set port address {port_mac} addrgenmode none up
ip addr add 10.244.1.1/24 dev port
ip addr add fd00:1::1/64 dev port nodad
ip neigh add 10.244.1.2 lladdr {host_mac} nud permanent dev port
ip neigh add fd00:1::2 lladdr {host_mac} nud permanent dev port
"
    )
}

/// The way into the tunnel of a node that routes: as flannel's, by a neighbour on the device.
fn overlay_route(name: &str) -> String {
    let remote = mac_text(REMOTE_MACS[2]);
    format!(
        "
sysctl -qw net.ipv6.conf.{name}.disable_ipv6=0
ip link set {name} addrgenmode none up
ip route add 10.244.2.0/24 via 10.244.2.254 dev {name} onlink
ip neigh add 10.244.2.254 lladdr {remote} nud permanent dev {name}
ip route add fd00:2::/64 via fd00:2::fe dev {name} onlink
ip neigh add fd00:2::fe lladdr {remote} nud permanent dev {name}
"
    )
}

/// Addresses, neighbours and the router of one family.
fn underlay(family: Family) -> String {
    let node = family.node();
    let [first, second, third] = family.peers();
    let [first_mac, second_mac, router_mac] = PEER_MACS.map(mac_text);
    let (on, len, router, route_len, nodad) = match family {
        Family::V4 => ("", 24, "10.99.0.254", 24, ""),
        Family::V6 => (
            "sysctl -qw net.ipv6.conf.eth1.disable_ipv6=0 net.ipv6.conf.eth1.autoconf=0\n",
            64,
            "fd99::fe",
            64,
            "nodad",
        ),
    };
    let far = network(third, route_len);
    format!(
        "{on}ip addr add {node}/{len} dev eth1 {nodad}
ip neigh add {first} lladdr {first_mac} nud permanent dev eth1
ip neigh add {second} lladdr {second_mac} nud permanent dev eth1
ip neigh add {router} lladdr {router_mac} nud permanent dev eth1
ip route add {far} via {router}
"
    )
}

/// The network of an address, whose host part is no longer than its last byte here.
fn network(address: IpAddr, len: u8) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/{len}")
        }
        IpAddr::V6(address) => {
            let mut segments = address.segments();
            segments[7] = 0;
            format!("{}/{len}", std::net::Ipv6Addr::from(segments))
        }
    }
}

/// A vxlan device and its FDB.
fn device(number: usize, segment: &Segment, setting: &Setting) -> String {
    let name = device_name(number);
    let mut mac = DEVICE_MAC;
    mac[5] += number as u8;
    let [mac, group, elsewhere, other_port, other_vni] =
        [mac, GROUP_MAC, ELSEWHERE_MAC, OTHER_PORT_MAC, OTHER_VNI_MAC].map(mac_text);
    let [first, second, third] = REMOTE_MACS.map(mac_text);
    let [first_ip, second_ip, third_ip] = segment.family.peers();
    let Segment { family, vni, port } = segment;
    let local = family.node();
    let attributes = setting.attributes.replace(LABEL_INHERIT, "");
    let overlay_mtu = setting.overlay_mtu;
    // Not from one tunnel to another.
    let isolated = if setting.segments.len() > 1 {
        "isolated on"
    } else {
        ""
    };
    let place = match setting.overlay {
        Overlay::Bridged => format!(
            "ip link set {name} master br0
bridge link set dev {name} learning off {isolated}
ip link set {name} arp off up"
        ),
        Overlay::Routed => overlay_route(&name),
    };
    format!(
        "
ip link add {name} address {mac} type vxlan id {vni} local {local} dev eth1 dstport {port} nolearning {attributes}
ip link set {name} mtu {overlay_mtu}
ethtool -K {name} gro off >/dev/null
{place}
bridge fdb append 00:00:00:00:00:00 dev {name} dst {first_ip} self permanent
bridge fdb append 00:00:00:00:00:00 dev {name} dst {second_ip} self permanent
bridge fdb append {first} dev {name} dst {first_ip} self permanent
bridge fdb append {second} dev {name} dst {second_ip} self permanent
bridge fdb append {third} dev {name} dst {third_ip} self permanent
bridge fdb append {group} dev {name} dst {second_ip} self permanent
bridge fdb append {elsewhere} dev {name} dst {first_ip} port {OTHER_PORT} vni {OTHER_VNI} self permanent
bridge fdb append {other_port} dev {name} dst {second_ip} port {OTHER_PORT} self permanent
bridge fdb append {other_vni} dev {name} dst {second_ip} vni {OTHER_VNI} self permanent
"
    )
}

/// `vx1` and so on.
pub fn device_name(number: usize) -> String {
    format!("vx{}", number + 1)
}
