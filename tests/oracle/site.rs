//! Two identical sites: in one the kernel's vxlan device works alone, in the other `vxgate` has taken it over.
//!
//! ```text
//!   namespace NAME-e                       namespace NAME-n (the node)
//!   wire  ══════════════════════════════  eth1 10.99.0.1 ── vx1 ── br0 ── port  ══════════  over (namespace NAME-e)
//!     ▲ the test sends and receives frames here                                               ▲ and here
//! ```
//!
//! Frames can also be put straight into vx1, as if the node itself had sent them: there the bridge judges nothing.
//! The kernel is kept from saying anything by itself: no IPv6, no snooping, no spanning tree, no learning, no ARP, and no
//! word on fragments whose rest never comes.
//! Everything but the underlay's addresses is independent of its family: an IPv6 underlay is another `Setting`.

use std::io::Write as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::bytes::{Inner, Outer, inner_of};
use super::end::{End, Input};
use super::support::netns::Netns;
use super::support::vxgate::{Status, Vxgate};
use super::support::wait_until;

pub const PORT: u16 = 8472;
pub const VNI: u32 = 1000;
pub const NODE: [u8; 4] = [10, 99, 0, 1];
pub const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Two VTEPs on the link, one behind a router.
pub const PEERS: [[u8; 4]; 3] = [[10, 99, 0, 2], [10, 99, 0, 3], [10, 98, 0, 4]];
pub const PEER_MACS: [[u8; 6]; 3] = [
    [2, 0, 0, 0, 1, 2],
    [2, 0, 0, 0, 1, 3],
    [2, 0, 0, 0, 1, 0xfe],
];
/// The vxlan device's own address.
pub const DEVICE_MAC: [u8; 6] = [2, 0xaa, 0, 0, 0, 1];
/// A host on the overlay port.
pub const HOST_MAC: [u8; 6] = [2, 0xcc, 0, 0, 0, 1];
/// Hosts behind the peers, in the FDB.
pub const REMOTE_MACS: [[u8; 6]; 3] = [
    [2, 0xbb, 0, 0, 0, 2],
    [2, 0xbb, 0, 0, 0, 3],
    [2, 0xbb, 0, 0, 0, 4],
];
/// A group address with an FDB entry of its own, to the second peer.
pub const GROUP_MAC: [u8; 6] = [1, 0, 0x5e, 0, 0, 5];

/// A host behind the first peer, whose FDB entry has a port and a VNI of its own.
pub const ELSEWHERE_MAC: [u8; 6] = [2, 0xbb, 0, 0, 0, 5];
pub const OTHER_PORT: u16 = 4789;
pub const OTHER_VNI: u32 = 77;
/// Takes every inner frame, tags included: the device's MTU is 1500.
pub const UNDERLAY_MTU: usize = 1600;

/// Experimental EtherType (IEEE 802, local experimental 1) of the frames that mark the end of a window.
const SENTINEL_TYPE: u16 = 0x88b5;
const PORTS_BOUND: Duration = Duration::from_secs(10);
const SENTINEL_BOUND: Duration = Duration::from_secs(20);
const SENTINEL_AGAIN: Duration = Duration::from_secs(2);

/// The attributes of the device.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Words of `ip link add … type vxlan`.
    pub attributes: &'static str,
    /// Lowest and highest source port that the kernel may choose.
    pub source_ports: (u16, u16),
}

impl Setting {
    /// As flannel makes its device.
    pub const PLAIN: Self = Self::with("");

    pub const fn with(attributes: &'static str) -> Self {
        Self {
            attributes,
            source_ports: (32_768, 60_999),
        }
    }
}

/// Where frames enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// From the underlay: decapsulation.
    Wire,
    /// From the bridge port: encapsulation.
    Bridge,
    /// Straight into the vxlan device: encapsulation.
    Device,
}

/// What came out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// On the underlay.
    pub wire: Vec<Vec<u8>>,
    /// On the overlay.
    pub overlay: Vec<Vec<u8>>,
}

/// One of the two.
#[derive(Debug)]
pub struct Site {
    pub name: String,
    wire: End,
    overlay: End,
    device: End,
    sentinels: u64,
    /// VXLAN frames that came out on the wire, sentinels included.
    pub tunnelled: u64,
    /// Frames put in: on the wire, on the bridge port, into the device.
    pub sent: [u64; 3],
    // The process before its namespace.
    pub vxgate: Option<Vxgate>,
    _janitor: Janitor,
    _node: Netns,
    _ends: Netns,
}

impl Site {
    /// Builds it; with `taken` it is `vxgate`'s.
    pub fn new(setting: &Setting, taken: bool) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("vx{}-o{number}", std::process::id());
        let names = [format!("{name}-n"), format!("{name}-e")];
        let janitor = Janitor::watch(&names);
        let [node, ends] = names.map(|name| Netns::create(&name));
        script(&node, &build_script(setting, ends.name()));
        // The bridge hears of a carrier late (`linkwatch`).
        wait_until("both ports of the bridge forward", PORTS_BOUND, || {
            node.run("bridge link").matches("state forwarding").count() == 2
        });
        let vxgate = taken.then(|| Vxgate::start(&node, &["--vxlan", "vx1", "--workers", "1"]));
        if let Some(vxgate) = &vxgate {
            let status = vxgate.status();
            let device = status.device("vx1").expect("the device is in the status");
            assert!(device["taken_over"] == true, "not taken over: {device}");
        }
        let mut site = Self {
            name,
            wire: End::open(&ends, "wire", true),
            overlay: End::open(&ends, "over", true),
            device: End::open(&node, "vx1", false),
            sentinels: 0,
            tunnelled: 0,
            sent: [0; 3],
            vxgate,
            _janitor: janitor,
            _node: node,
            _ends: ends,
        };
        // Whatever the kernel had to say about links that came up comes out in front of the first sentinels.
        site.play(Entry::Wire, &[]);
        site
    }

    /// Sends frames and returns all that came out before a sentinel that was sent behind them, each way.
    ///
    /// Everything between the ends keeps its order: one worker, one queue each.
    pub fn play(&mut self, entry: Entry, frames: &[Input]) -> Output {
        for frame in frames {
            match entry {
                Entry::Wire => self.wire.send(frame),
                Entry::Bridge => self.overlay.send(frame),
                Entry::Device => self.device.send(frame),
            }
        }
        self.sent[entry as usize] += frames.iter().map(Input::count).sum::<u64>();
        let mut output = Output::default();
        // First the way of the frames, then the way of the answers to them.
        self.mark(entry, &mut output);
        let back = if entry == Entry::Wire {
            Entry::Bridge
        } else {
            Entry::Wire
        };
        self.mark(back, &mut output);
        output
    }

    /// The status, once its balance holds.
    pub fn status(&self) -> Status {
        self.vxgate
            .as_ref()
            .expect("only one of the sites has a vxgate")
            .balanced()
    }

    fn mark(&mut self, entry: Entry, output: &mut Output) {
        self.sentinels += 1;
        let payload = [&b"sentinel"[..], &self.sentinels.to_be_bytes(), &[0; 32]].concat();
        let inner = Inner::with(SENTINEL_TYPE, payload);
        let sentinel = Input::from(match entry {
            Entry::Wire => Outer::good().around(&inner.bytes()),
            Entry::Bridge | Entry::Device => inner.outbound().bytes(),
        });
        let deadline = Instant::now() + SENTINEL_BOUND;
        let mut due = Instant::now();
        loop {
            // Again after a while: a worker that starved has lost what it held when its hook took it for dead.
            if Instant::now() >= due {
                match entry {
                    Entry::Wire => self.wire.send(&sentinel),
                    Entry::Bridge => self.overlay.send(&sentinel),
                    Entry::Device => self.device.send(&sentinel),
                }
                self.sent[entry as usize] += 1;
                due = Instant::now() + SENTINEL_AGAIN;
            }
            let arrived = self.collect(output);
            if arrived == Some(self.sentinels) {
                return;
            }
            if Instant::now() > deadline {
                let status = self.vxgate.as_ref().map(Vxgate::status);
                panic!(
                    "{}: a good frame from {entry:?} does not come out: {status:#?}",
                    self.name
                );
            }
            let end = if entry == Entry::Wire {
                &self.overlay
            } else {
                &self.wire
            };
            end.wait(Duration::from_millis(100));
        }
    }

    /// Takes what is there; the number of the last sentinel in it.
    fn collect(&mut self, output: &mut Output) -> Option<u64> {
        let mut last = None;
        while let Some(frame) = self.wire.receive() {
            self.tunnelled += u64::from(inner_of(&frame).is_some());
            match inner_of(&frame).and_then(sentinel_number) {
                Some(number) => last = Some(number),
                // The node's own address resolution, for answers to senders that are not there.
                None if frame.get(12..14) == Some(&[8, 6]) => {}
                None => output.wire.push(frame),
            }
        }
        while let Some(frame) = self.overlay.receive() {
            match sentinel_number(&frame) {
                Some(number) => last = Some(number),
                None => output.overlay.push(frame),
            }
        }
        last
    }
}

fn sentinel_number(inner: &[u8]) -> Option<u64> {
    let payload = inner.get(14..)?;
    let number = payload.strip_prefix(b"sentinel")?.first_chunk()?;
    (inner[12..14] == SENTINEL_TYPE.to_be_bytes()).then(|| u64::from_be_bytes(*number))
}

/// Removes the namespaces, with the processes in them, when the test program ends, whatever way it does: sites are shared by
/// tests and so live in statics, which nobody drops. The pipe to it closes with the program.
#[derive(Debug)]
struct Janitor {
    _process: Child,
    _pipe: ChildStdin,
}

impl Janitor {
    fn watch(names: &[String; 2]) -> Self {
        let [node, ends] = names;
        let script = format!(
            "read _; for n in {node} {ends}; do [ -e /run/netns/$n ] || continue; \
             for p in $(ip netns pids $n); do kill -9 $p; done; ip netns del $n; done"
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
            _pipe: pipe,
        }
    }
}

fn script(netns: &Netns, lines: &str) {
    let mut shell = netns
        .command("sh")
        .args(["-e", "-s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("a shell");
    let mut input = shell.stdin.take().expect("the pipe was asked for");
    input.write_all(lines.as_bytes()).expect("the shell reads");
    drop(input);
    let status = shell.wait().expect("it is our child");
    assert!(status.success(), "{}: {status}:\n{lines}", netns.name());
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn ip_text(address: [u8; 4]) -> String {
    std::net::Ipv4Addr::from(address).to_string()
}

fn build_script(setting: &Setting, ends: &str) -> String {
    let [node_mac, device_mac, group] = [NODE_MAC, DEVICE_MAC, GROUP_MAC].map(mac_text);
    let elsewhere = mac_text(ELSEWHERE_MAC);
    let [first, second, third] = REMOTE_MACS.map(mac_text);
    let [first_mac, second_mac, router_mac] = PEER_MACS.map(mac_text);
    let [first_ip, second_ip, third_ip] = PEERS.map(ip_text);
    let Setting { attributes, .. } = setting;
    format!(
        "
sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
sysctl -qw net.ipv4.conf.all.accept_redirects=0 net.ipv4.conf.default.accept_redirects=0
sysctl -qw net.ipv4.icmp_ratemask=0 net.ipv4.icmp_ratelimit=0
sysctl -qw net.ipv4.ipfrag_time=3600
for s in net.ipv4.icmp_msgs_per_sec=1000000 net.ipv4.icmp_msgs_burst=100000 net.bridge.bridge-nf-call-iptables=0 \
  net.bridge.bridge-nf-call-ip6tables=0 net.bridge.bridge-nf-call-arptables=0; do sysctl -qw $s 2>/dev/null || true; done
ip netns exec {ends} sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
ip link add eth1 address {node_mac} mtu {UNDERLAY_MTU} type veth peer name wire netns {ends} mtu {UNDERLAY_MTU}
ip link add port mtu 1500 type veth peer name over netns {ends} mtu 1500
ip -n {ends} link set wire arp off up
ip -n {ends} link set over arp off up
ethtool -K eth1 rx off tx off sg off tso off gso off gro off >/dev/null
ethtool -K port rx off tx off sg off tso off gso off gro off >/dev/null
ip addr add 10.99.0.1/24 dev eth1
ip link set eth1 up
ip neigh add {first_ip} lladdr {first_mac} nud permanent dev eth1
ip neigh add {second_ip} lladdr {second_mac} nud permanent dev eth1
ip neigh add 10.99.0.254 lladdr {router_mac} nud permanent dev eth1
ip route add 10.98.0.0/24 via 10.99.0.254
ip link add vx1 address {device_mac} type vxlan id 1000 local 10.99.0.1 dev eth1 dstport 8472 nolearning {attributes}
ip link set vx1 mtu 1500
ethtool -K vx1 gro off >/dev/null
ip link add br0 type bridge stp_state 0 mcast_snooping 0 nf_call_iptables 0 nf_call_ip6tables 0 nf_call_arptables 0
ip link set port master br0
ip link set vx1 master br0
bridge link set dev port learning off
bridge link set dev vx1 learning off
ip link set br0 arp off up
ip link set port arp off up
ip link set vx1 arp off up
bridge fdb append 00:00:00:00:00:00 dev vx1 dst {first_ip} self permanent
bridge fdb append 00:00:00:00:00:00 dev vx1 dst {second_ip} self permanent
bridge fdb append {first} dev vx1 dst {first_ip} self permanent
bridge fdb append {second} dev vx1 dst {second_ip} self permanent
bridge fdb append {third} dev vx1 dst {third_ip} self permanent
bridge fdb append {group} dev vx1 dst {second_ip} self permanent
bridge fdb append {elsewhere} dev vx1 dst {first_ip} port {OTHER_PORT} vni {OTHER_VNI} self permanent
"
    )
}
