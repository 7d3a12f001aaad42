//! The lab of `scripts/lab.sh` as a value: two flannel nodes, pods, services, an outside client.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::netns::{self, Netns};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/lab.sh");

static LABS_UP: RwLock<()> = RwLock::new(());

/// The time in which a test may have its network up.
#[derive(Debug)]
pub enum Turn {
    /// Beside other labs.
    Shared {
        _guard: RwLockReadGuard<'static, ()>,
    },
    /// While no other lab is up.
    Alone {
        _guard: RwLockWriteGuard<'static, ()>,
    },
}

impl Turn {
    /// Waits until no lab has to be alone.
    pub fn shared() -> Self {
        Self::Shared {
            _guard: LABS_UP.read().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Waits until all other labs are down: for what overloads a core or bounds gaps in milliseconds, since two labs on two
    /// cores would measure each other.
    pub fn alone() -> Self {
        Self::Alone {
            _guard: LABS_UP.write().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

static LABS: AtomicU32 = AtomicU32::new(0);

/// A node of the lab. The master carries `web1` and `cli1`; the worker `web2`, `cli2` and the DNS server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// Node 1, 10.0.0.10.
    Master,
    /// Node 2, 10.0.0.11 (10.0.1.11 in a routed lab).
    Worker,
}

impl Node {
    /// 1 or 2, as in the names of namespaces.
    pub fn number(self) -> usize {
        match self {
            Self::Master => 1,
            Self::Worker => 2,
        }
    }

    /// The other one.
    pub fn peer(self) -> Self {
        match self {
            Self::Master => Self::Worker,
            Self::Worker => Self::Master,
        }
    }

    /// The first three bytes of its pods' addresses.
    pub fn subnet(self) -> String {
        format!("10.244.{}", self.number() - 1)
    }

    /// What its pods' IPv6 addresses begin with, in front of `:HOST`.
    pub fn subnet6(self) -> &'static str {
        match self {
            Self::Master => "fd00:10:244:",
            Self::Worker => "fd00:10:244:1:",
        }
    }
}

/// What kind of lab.
#[derive(Debug, Clone, Copy)]
pub struct LabOptions {
    /// Queues of the nodes' `eth1`.
    pub queues: u32,
    /// The nodes in two subnets, behind two routers.
    pub routed: bool,
    /// IPv6 as well: underlay, `flannel-v6.1`, pods. Not together with `routed`.
    pub dual_stack: bool,
    /// Checksum and segmentation offloads of all veths, as the kernel makes them.
    pub offloads: bool,
    /// MTU of the underlay. `flannel.1` and the pods have 50 less.
    pub mtu: u32,
}

impl Default for LabOptions {
    fn default() -> Self {
        Self {
            queues: 1,
            routed: false,
            dual_stack: false,
            offloads: true,
            mtu: 1500,
        }
    }
}

/// A lab that is up. Dropping it takes it down with every process in it.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
    options: LabOptions,
    _turn: Turn,
}

impl Lab {
    /// Two nodes on one wire, one queue.
    pub fn up() -> Self {
        Self::with(LabOptions::default())
    }

    /// The same, while no other lab is up.
    pub fn alone() -> Self {
        Self::within(Turn::alone(), LabOptions::default())
    }

    /// Waits for its turn, then builds.
    pub fn with(options: LabOptions) -> Self {
        Self::within(Turn::shared(), options)
    }

    fn within(turn: Turn, options: LabOptions) -> Self {
        remove_orphans();
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let lab = Self {
            prefix: format!("vx{}x{number}", std::process::id()),
            options,
            _turn: turn,
        };
        let queues = options.queues.to_string();
        let offloads = if options.offloads { "on" } else { "off" };
        let mtu = options.mtu.to_string();
        let mut words = vec![
            SCRIPT,
            "up",
            "--prefix",
            &lab.prefix,
            "--queues",
            &queues,
            "--offloads",
            offloads,
            "--mtu",
            &mtu,
        ];
        if options.routed {
            words.push("--routed");
        }
        if options.dual_stack {
            words.push("--dual-stack");
        }
        netns::run(&words);
        lab
    }

    /// A namespace by its name in the picture of `scripts/lab.sh`: `sw`, `n1`, `cli2`, `ext`, …
    pub fn netns(&self, name: &str) -> Netns {
        Netns::existing(&format!("{}-{name}", self.prefix))
    }

    /// A node's namespace.
    pub fn node(&self, node: Node) -> Netns {
        self.netns(&format!("n{}", node.number()))
    }

    /// The namespace of a node's client pod, 10.244.x.14.
    pub fn client(&self, node: Node) -> Netns {
        self.netns(&format!("cli{}", node.number()))
    }

    /// The address of a node's client pod.
    pub fn client_address(&self, node: Node) -> String {
        format!("{}.14", node.subnet())
    }

    /// The address of a node's web server pod.
    pub fn web_address(&self, node: Node) -> String {
        format!("{}.13", node.subnet())
    }

    /// The IPv6 address of a node's client pod, in a lab with two stacks.
    pub fn client_address6(&self, node: Node) -> String {
        format!("{}:14", node.subnet6())
    }

    /// The IPv6 address of a node's web server pod.
    pub fn web_address6(&self, node: Node) -> String {
        format!("{}:13", node.subnet6())
    }

    /// The IPv6 VTEP address of a node.
    pub fn vtep_address6(&self, node: Node) -> String {
        format!("fd00:a::1{}", node.number() - 1)
    }

    /// The VTEP address that the lab gives a node.
    pub fn vtep_address(&self, node: Node) -> String {
        match node {
            Node::Worker if self.options.routed => "10.0.1.11".to_owned(),
            node => format!("10.0.0.{}", 9 + node.number()),
        }
    }

    /// Frames that a node's own vxlan device has received, and sent.
    pub fn by_kernel(&self, node: Node) -> [u64; 2] {
        ["rx", "tx"].map(|way| {
            let file = format!("/sys/class/net/flannel.1/statistics/{way}_packets");
            let count = self.node(node).run(&format!("cat {file}"));
            count.trim().parse().expect("a count")
        })
    }

    /// The MAC address of a device in a node.
    pub fn mac(&self, node: Node, device: &str) -> String {
        self.mac_in(&format!("n{}", node.number()), device)
    }

    /// The same of any namespace of the lab.
    pub fn mac_in(&self, netns: &str, device: &str) -> String {
        let text = self
            .netns(netns)
            .run(&format!("ip -json link show dev {device}"));
        let links: serde_json::Value = serde_json::from_str(&text).expect("ip prints JSON");
        links[0]["address"]
            .as_str()
            .expect("a link has an address")
            .to_owned()
    }

    /// What flanneld does on `node` when it learns of its peer's lease: neighbour, FDB entry, on-link route.
    pub fn add_lease(&self, node: Node, peer_mac: &str, peer_address: &str) {
        let (netns, subnet) = (self.node(node), node.peer().subnet());
        netns.run(&format!(
            "ip neigh replace {subnet}.0 lladdr {peer_mac} dev flannel.1 nud permanent"
        ));
        netns.run(&format!(
            "bridge fdb replace {peer_mac} dev flannel.1 dst {peer_address} self permanent"
        ));
        netns.run(&format!(
            "ip route replace {subnet}.0/24 via {subnet}.0 dev flannel.1 onlink proto boot"
        ));
    }

    /// What flanneld does on `node` when its peer's lease goes. It carries on when one of the three is gone already.
    pub fn remove_lease(&self, node: Node, peer_mac: &str) {
        let (netns, subnet) = (self.node(node), node.peer().subnet());
        let _ = netns.try_run(&format!("ip neigh del {subnet}.0 dev flannel.1"));
        let _ = netns.try_run(&format!("bridge fdb del {peer_mac} dev flannel.1 self"));
        let _ = netns.try_run(&format!(
            "ip route del {subnet}.0/24 via {subnet}.0 dev flannel.1 onlink"
        ));
    }

    /// What flanneld does when its device is gone or unfit: makes `flannel.1` again with another MAC, up and addressed, and
    /// applies the peer's lease. The peer has to learn the new MAC by [`Lab::add_lease`].
    pub fn make_device_again(&self, node: Node, mac: &str, local: &str) {
        let (netns, peer) = (self.node(node), node.peer());
        let (peer_mac, peer_address) = (self.mac(peer, "flannel.1"), self.vtep_address(peer));
        let _ = netns.try_run("ip link del flannel.1");
        netns.run(&format!(
            "ip link add flannel.1 address {mac} mtu 1450 txqueuelen 0 type vxlan id 1 dev eth1 local {local} dstport 8472 nolearning"
        ));
        netns.run(&format!("ip addr add {}.0/32 dev flannel.1", node.subnet()));
        netns.run("ip link set flannel.1 up");
        self.add_lease(node, &peer_mac, &peer_address);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        take_down(&self.prefix);
    }
}

/// Not through `netns::run`: this also runs while a panic unwinds.
fn take_down(prefix: &str) {
    if let Err(error) = std::process::Command::new(SCRIPT)
        .args(["down", "--prefix", prefix])
        .status()
    {
        eprintln!("{SCRIPT} down --prefix {prefix}: {error}");
    }
}

/// Labs of test processes that were killed before they could clean up.
fn remove_orphans() {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((prefix, _)) = name.split_once('-') else {
            continue;
        };
        let Some((pid, _)) = prefix
            .strip_prefix("vx")
            .and_then(|rest| rest.split_once('x'))
        else {
            continue;
        };
        let is_pid = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
        if is_pid && !Path::new("/proc").join(pid).exists() {
            take_down(prefix);
        }
    }
}
