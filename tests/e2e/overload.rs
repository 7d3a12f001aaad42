//! Offered far more than it can carry, `vxgate` carries what it can: no livelock, no heartbeat missed, and books that
//! balance when it is over.
//!
//! ```text
//!   far                        gw                          pod
//!   wire 198.18.1.1 ══════════ bwire 198.18.1.2
//!   flannel.1 10.244.0.0       flannel.1 10.244.1.0
//!                              bpod 10.244.1.1 ═══════════ eth0 10.244.1.13
//! ```
//!
//! The hardest place there is: gw's receive work is done by threads (threaded NAPI) on the very core of its one worker, and
//! these never rest as long as there are frames. As in `scripts/bench/lab.sh`, which measures what this only counts.

use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::lab::Turn;
use crate::support::napi::threaded_on;
use crate::support::netns::Netns;
use crate::support::vxgate::{BINARY, Status, Vxgate};
use crate::support::wait_until;

const PATIENCE: Duration = Duration::from_secs(20);
/// How often the forwarded frames are looked at during an overload; each time there have to be more.
const LOOKS: usize = 5;
const MAC_GW: &str = "02:00:00:00:01:02";
const MAC_FAR_VTEP: &str = "0e:24:40:00:01:04";
const MAC_GW_VTEP: &str = "0e:24:40:00:02:04";
const MAC_BPOD: &str = "02:00:00:00:02:01";
const MAC_POD: &str = "02:00:00:00:02:02";

/// Which way frames go, and so by which port of the gateway they come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Decap,
    Encap,
}

impl Way {
    pub fn role(self) -> &'static str {
        match self {
            Self::Decap => "underlay",
            Self::Encap => "access",
        }
    }
}

pub struct Site {
    far: Netns,
    pub gw: Netns,
    pod: Netns,
    _turn: Turn,
}

impl Site {
    pub fn new(name: &str) -> Self {
        let turn = Turn::alone();
        let netns = |end: &str| {
            let netns = Netns::create(&format!("vx{}-{name}-{end}", std::process::id()));
            for setting in [
                "net.ipv6.conf.all.disable_ipv6=1",
                "net.ipv6.conf.default.disable_ipv6=1",
                "net.ipv4.conf.all.rp_filter=0",
                "net.ipv4.conf.default.rp_filter=0",
                "net.ipv4.ip_forward=1",
            ] {
                netns.run(&format!("sysctl -qw {setting}"));
            }
            netns
        };
        let site = Self {
            far: netns("far"),
            gw: netns("gw"),
            pod: netns("pod"),
            _turn: turn,
        };
        let (gw, pod) = (site.gw.name(), site.pod.name());
        site.far.script(&format!(
            "ip link add wire mtu 1500 type veth peer name bwire netns {gw} address {MAC_GW} mtu 1500
             ethtool -K wire gro on
             ip addr add 198.18.1.1/24 dev wire
             ip link set wire up"
        ));
        // GRO gives a veth NAPI, without which frames of the live generator cannot reach it.
        site.gw.script(&format!(
            "ip link add bpod address {MAC_BPOD} mtu 1450 type veth peer name eth0 netns {pod} address {MAC_POD} mtu 1450
             ethtool -K bwire gro on
             ethtool -K bpod gro on
             ip addr add 198.18.1.2/24 dev bwire
             ip link set bwire up
             ip neigh replace 198.18.1.1 lladdr 02:00:00:00:01:01 dev bwire nud permanent
             ip link add flannel.1 address {MAC_GW_VTEP} mtu 1450 type vxlan id 1 dev bwire local 198.18.1.2 dstport 8472 nolearning
             ip addr add 10.244.1.0/32 dev flannel.1
             ip link set flannel.1 up
             ip addr add 10.244.1.1/24 dev bpod
             ip link set bpod up
             ip neigh replace 10.244.1.13 lladdr {MAC_POD} dev bpod nud permanent
             ip neigh replace 10.244.0.0 lladdr {MAC_FAR_VTEP} dev flannel.1 nud permanent
             ip route replace 10.244.0.0/24 via 10.244.0.0 dev flannel.1 onlink
             bridge fdb replace {MAC_FAR_VTEP} dev flannel.1 dst 198.18.1.1 self permanent"
        ));
        site.pod.script(
            "ethtool -K eth0 gro on
             ip link set eth0 up
             ip addr add 10.244.1.13/24 dev eth0
             ip route add 10.244.0.0/24 via 10.244.1.1",
        );
        site
    }

    /// Everything that the gateway and the kernel do for it on one core.
    fn one_core(&self, vxgate: &Vxgate) {
        let status = vxgate.status();
        assert_eq!(status.list("workers").count(), 1, "{}", status.0);
        let core = status.0["workers"][0]["core"].as_u64();
        for device in ["bwire", "bpod"] {
            threaded_on(&self.gw, device, 1, core.expect("it is pinned"));
        }
    }

    /// Sends as much as there is power for, for some seconds.
    pub fn flood(&self, way: Way, seconds: u32) -> Flood {
        let (far, pod) = (self.far.name(), self.pod.name());
        let ends = match way {
            Way::Decap => format!(
                "--tx wire --tx-netns {far} --rx eth0 --rx-netns {pod} --arrival-mac {MAC_POD} \
                 --vni 1 --vxlan-port 8472 --vtep-src 198.18.1.1 --vtep-dst 198.18.1.2 --outer-dst-mac {MAC_GW} \
                 --src-mac {MAC_FAR_VTEP} --dst-mac {MAC_GW_VTEP} --src 10.244.0.13 --dst 10.244.1.13"
            ),
            Way::Encap => format!(
                "--tx eth0 --tx-netns {pod} --rx wire --rx-netns {far} --arrival-mac {MAC_FAR_VTEP} \
                 --dst-mac {MAC_BPOD} --src 10.244.1.13 --dst 10.244.0.13"
            ),
        };
        let flags = format!(
            "bench rate --rate max --duration {seconds} --size 64 --flows 64 --engine live --json --i-know-this-network {ends}"
        );
        let child = self
            .gw
            .command(BINARY)
            .args(flags.split_ascii_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        Flood { way, child }
    }
}

/// A load that is more than anybody can carry.
pub struct Flood {
    way: Way,
    child: Child,
}

impl Flood {
    fn runs(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// What became of it: its document, once it is over.
    pub fn end(self) -> Value {
        let output = self.child.wait_with_output().expect("it is our child");
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("a document")
    }
}

fn stale(status: &Status) -> u64 {
    ["underlay", "access"]
        .iter()
        .map(|role| status.passed(role, "heartbeat_stale"))
        .sum()
}

/// Floods the gateway, one way or both ways at once.
fn overload(name: &str, ways: &[Way]) {
    let site = Site::new(name);
    let vxgate = Vxgate::start(&site.gw, &["--workers", "1"]);
    site.one_core(&vxgate);
    let before = vxgate.balanced();
    let mut floods: Vec<_> = ways.iter().map(|way| site.flood(*way, 2)).collect();
    let mut last = before.clone();
    for look in 0..LOOKS {
        for flood in &mut floods {
            let role = flood.way.role();
            let forwarded = last.forwarded(role);
            // Far more than one batch, which might be the last.
            wait_until(
                &format!("look {look}: it forwards from the {role}"),
                PATIENCE,
                || vxgate.status().forwarded(role) > forwarded + 1000 || !flood.runs(),
            );
        }
        last = vxgate.status();
    }
    for flood in floods {
        let way = flood.way;
        let document = flood.end();
        let total = &document["trials"][0]["books"]["total"];
        let count = |fate: &str| total[fate].as_u64().expect("a count");
        println!("    {way:?}: {total}");
        assert!(
            count("received") < count("sent") / 2,
            "{way:?}: that was no overload: {total}"
        );
        let forwarded = last.forwarded(way.role()) - before.forwarded(way.role());
        assert!(
            forwarded > 0 && count("received") >= forwarded,
            "{way:?}: the looks were during the flood: {forwarded} forwarded by then, {total}"
        );
    }
    let after = vxgate.balanced();
    for port in after.list("ports") {
        println!("    {}: dropped {}", port["name"], port["drops"]);
    }
    // None on a machine of its own. Where others take the core from all threads of the gateway, a heartbeat may be late, and
    // the kernel carries meanwhile; a livelock would leave the kernel all of them.
    let forwarded: u64 = ways
        .iter()
        .map(|way| after.forwarded(way.role()) - before.forwarded(way.role()))
        .sum();
    let left = stale(&after) - stale(&before);
    println!("    forwarded {forwarded}, left to the kernel for a late heartbeat {left}");
    assert!(left <= forwarded / 10, "{}", after.0);
    assert_eq!(after.state(), "healthy", "{}", after.0);
    vxgate.stop();
}

#[test]
fn decapsulation_goes_on_under_overload() {
    overload("over-decap", &[Way::Decap]);
}

#[test]
fn encapsulation_goes_on_under_overload() {
    overload("over-encap", &[Way::Encap]);
}

#[test]
fn both_ways_go_on_under_an_overload_of_both() {
    overload("over-both", &[Way::Decap, Way::Encap]);
}
