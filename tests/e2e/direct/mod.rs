//! The direct path: flows that the kernel was seen to carry go straight between the underlay and their pods, and come back to
//! the kernel whenever anything changes, or anybody dies.
//!
//! Node 1 runs `vxgate --direct flows`, node 2 the plain kernel: whatever goes the direct path, a kernel judges on the far side.

mod always;
mod changes;
mod ipv6;
mod oracle;
mod pods;
mod ring;
mod spoofing;

use std::fs;
use std::io::{Read, Write};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket,
};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;

use crate::support::bulk::Transfer;
use crate::support::frames::{Random, RawSocket, VxlanFrame, mac};
use crate::support::lab::{Lab, LabOptions, Node};
use crate::support::netns::Netns;
use crate::support::vxgate::{BINARY, Status, Vxgate};
use crate::support::wait_until;
use crate::who::{DIRECT, KUBE_PROXY};

pub const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes a second of a transfer that is bulk, and takes long enough to be judged while it lasts.
const BULK_RATE: u64 = 16 << 20;
/// An answer that is not there after this was lost.
const ANSWER: Duration = Duration::from_millis(500);
/// An even number of frames that another pod forges.
pub const FORGED: u64 = 24;
/// Frames that a rule forbids.
const FORBIDDEN: u64 = 50;
const CONNECTIONS: usize = 1000;
const PAYLOADS: [usize; 5] = [1, 2, 64, 555, 1400];

/// A conversation over UDP: one end asks, the other repeats what it hears, and each answer has to be what was said.
pub struct Talk {
    socket: UdpSocket,
    random: Random,
    stop: Arc<AtomicBool>,
    echo: Option<JoinHandle<()>>,
}

impl Talk {
    pub fn start(from: &Netns, to: &Netns, to_address: &str) -> Self {
        let any = any_of(to_address);
        let inlet = to.enter(|| UdpSocket::bind(any).expect("a socket"));
        let port = inlet.local_addr().expect("it is bound").port();
        let wait = Some(Duration::from_millis(50));
        inlet.set_read_timeout(wait).expect("SO_RCVTIMEO");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let echo = thread::spawn(move || {
            let mut bytes = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((len, from)) = inlet.recv_from(&mut bytes) {
                    // Lost where there is no way back: that is for the other end to see.
                    let _ = inlet.send_to(&bytes[..len], from);
                }
            }
        });
        let socket = from.enter(|| UdpSocket::bind(any).expect("a socket"));
        socket.connect((to_address, port)).expect("an address");
        socket.set_read_timeout(Some(ANSWER)).expect("SO_RCVTIMEO");
        Self {
            socket,
            random: Random(7),
            stop,
            echo: Some(echo),
        }
    }

    /// Another conversation from the same port: with who listens behind another address, where this one's answers.
    pub fn beside(&self, from: &Netns, to_address: &str) -> Self {
        let [local, remote] = self.ends();
        sockopt::set_socket_reuseaddr(&self.socket, true).expect("SO_REUSEADDR");
        let socket = from.enter(|| {
            let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).expect("a socket");
            sockopt::set_socket_reuseaddr(&socket, true).expect("SO_REUSEADDR");
            let here = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, local.port());
            bind(&socket, &here).expect("the port");
            UdpSocket::from(socket)
        });
        socket
            .connect((to_address, remote.port()))
            .expect("an address");
        socket.set_read_timeout(Some(ANSWER)).expect("SO_RCVTIMEO");
        Self {
            socket,
            random: Random(8),
            stop: Arc::default(),
            echo: None,
        }
    }

    /// Says something, and does not wait for an answer.
    pub fn say(&mut self, len: usize) -> Option<Vec<u8>> {
        let said: Vec<u8> = (0..len).map(|_| self.random.next() as u8).collect();
        self.socket.send(&said).is_ok().then_some(said)
    }

    /// Says something and hears the answer. Whether there was one; what comes must be what was said.
    pub fn ask(&mut self, len: usize) -> bool {
        let Some(said) = self.say(len) else {
            return false;
        };
        let mut heard = [0; 2048];
        match self.socket.recv(&mut heard) {
            Ok(len) => {
                assert_eq!(&heard[..len], said, "the answer is what was said");
                true
            }
            Err(_) => false,
        }
    }

    /// The socket of the end that asks.
    pub fn twin(&self) -> UdpSocket {
        self.socket.try_clone().expect("a second handle")
    }

    /// Hears out whatever somebody else had said in its name.
    pub fn hear_out(&self) {
        let mut heard = [0; 2048];
        while self.socket.recv(&mut heard).is_ok() {}
    }

    /// Asks until this flow is promoted: until all of the last answers went the direct path, both ways.
    pub fn until_direct(&mut self, vxgate: &Vxgate) {
        wait_until("the flow goes the direct path", PATIENCE, || {
            let before = direct(&vxgate.status());
            let answers = (0..20).filter(|_| self.ask(64)).count() as u64;
            let now = direct(&vxgate.status());
            answers == 20 && now.out >= before.out + 20 && now.into >= before.into + 20
        });
    }

    /// Both ends, as the one that asks knows them.
    pub fn ends(&self) -> [SocketAddr; 2] {
        let ends = [self.socket.local_addr(), self.socket.peer_addr()];
        ends.map(|end| end.expect("it is connected"))
    }

    /// The next frame that its second end could send, between the two nodes' vxlan devices.
    pub fn answer(&self, devices: [[u8; 6]; 2]) -> Vec<u8> {
        let [local, remote] = self.ends().map(four);
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(devices[0], devices[1])
            .ipv4(remote.ip().octets(), local.ip().octets(), 63)
            .udp(remote.port(), local.port())
            .write(&mut frame, &[0; 64])
            .expect("writing to memory");
        frame
    }

    /// The next frame that its first end could send, by another hand.
    pub fn forged(&self, from: &str, to: &str) -> Vec<u8> {
        let [local, remote] = self.ends().map(four);
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(mac(from), mac(to))
            .ipv4(local.ip().octets(), remote.ip().octets(), 64)
            .udp(local.port(), remote.port())
            .write(&mut frame, &[0; 64])
            .expect("writing to memory");
        frame
    }
}

/// Any address and port of the family of this one.
pub fn any_of(address: &str) -> SocketAddr {
    let any = if address.contains(':') {
        IpAddr::from(Ipv6Addr::UNSPECIFIED)
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    SocketAddr::new(any, 0)
}

/// An end over IPv4.
fn four(end: SocketAddr) -> SocketAddrV4 {
    match end {
        SocketAddr::V4(end) => end,
        SocketAddr::V6(end) => panic!("{end} is of IPv4"),
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(echo) = self.echo.take() {
            let _ = echo.join();
        }
    }
}

/// Connections over which questions go round: one over each, then the answers are heard.
pub struct Calls {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    caller: JoinHandle<()>,
    echo: JoinHandle<()>,
    count: u64,
}

impl Calls {
    pub fn start(from: &Netns, to: &Netns, to_address: &str, count: usize) -> Self {
        // Both ends of each are ours.
        let allowed = getrlimit(Resource::Nofile);
        let enough = Rlimit {
            current: allowed.maximum.or(allowed.current),
            ..allowed
        };
        setrlimit(Resource::Nofile, enough).expect("more descriptors");
        let any = any_of(to_address);
        let listener = to.enter(|| TcpListener::bind(any).expect("a socket"));
        let port = listener.local_addr().expect("it is bound").port();
        let ends = (0..count).map(|_| {
            let near = from.enter(|| TcpStream::connect((to_address, port)).expect("connecting"));
            let (far, _) = listener.accept().expect("accepting");
            for end in [&near, &far] {
                end.set_nodelay(true).expect("TCP_NODELAY");
                end.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
            }
            (near, far)
        });
        let (near, far): (Vec<_>, Vec<_>) = ends.unzip();
        let (stop, rounds) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, done) = (Arc::clone(&stop), Arc::clone(&rounds));
        Self {
            stop,
            rounds,
            caller: thread::spawn(move || call(near, &stopped, &done)),
            echo: thread::spawn(move || repeat(far)),
            count: count as u64,
        }
    }

    /// Waits until every connection has had so many more answers.
    pub fn wait_for_answers(&self, more: u64) {
        let now = || self.rounds.load(Ordering::Relaxed);
        let before = now();
        wait_until("answers on every connection", PATIENCE, || {
            // A connection that broke has ended it.
            self.caller.is_finished() || now() >= before + more
        });
    }

    /// Ends them; none may have failed.
    pub fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.caller.join().expect("no connection breaks");
        self.echo.join().expect("nor its other end");
    }
}

fn call(mut connections: Vec<TcpStream>, stop: &AtomicBool, rounds: &AtomicU64) {
    let mut random = Random(1);
    while !stop.load(Ordering::Relaxed) {
        let questions = connections.iter_mut().map(|connection| {
            let said: [u8; 64] = std::array::from_fn(|_| random.next() as u8);
            connection.write_all(&said).expect("asking");
            said
        });
        let questions: Vec<_> = questions.collect();
        for (connection, said) in connections.iter_mut().zip(&questions) {
            let mut heard = [0; 64];
            connection.read_exact(&mut heard).expect("an answer");
            assert_eq!(heard, *said, "the answer is what was said");
        }
        rounds.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(5));
    }
}

/// Until all of them have ended.
fn repeat(mut connections: Vec<TcpStream>) {
    let mut bytes = [0; 2048];
    while !connections.is_empty() {
        let fds = connections.iter();
        let mut fds: Vec<_> = fds.map(|one| PollFd::new(one, PollFlags::IN)).collect();
        poll(&mut fds, None).expect("polling");
        let ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let ready: Vec<bool> = fds.iter().map(ready).collect();
        let mut ready = ready.into_iter();
        connections.retain_mut(|connection| {
            !ready.next().unwrap_or_default()
                || match connection.read(&mut bytes) {
                    Ok(0) | Err(_) => false,
                    Ok(len) => connection.write_all(&bytes[..len]).is_ok(),
                }
        });
    }
}

/// Counts the UDP frames to a port that come in by a pod's device, whether the pod wants them or not.
pub struct Ear {
    socket: RawSocket,
    port: u16,
    heard: u64,
}

impl Ear {
    pub fn open(pod: &Netns, port: u16) -> Self {
        Self {
            socket: RawSocket::open(pod, "eth0"),
            port,
            heard: 0,
        }
    }

    pub fn heard(&mut self) -> u64 {
        while let Some(frame) = self.socket.receive() {
            let to_port =
                frame.len() >= 42 && frame[23] == 17 && frame[36..38] == self.port.to_be_bytes();
            self.heard += u64::from(to_port);
        }
        self.heard
    }
}

/// Frames that the express gear forwarded, and flows in it.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    pub out: u64,
    pub into: u64,
    pub flows: u64,
}

pub fn direct(status: &Status) -> Counts {
    let direct = &status.0["direct"];
    let count = |value: &Value| {
        value
            .as_u64()
            .unwrap_or_else(|| panic!("a count: {direct}"))
    };
    Counts {
        out: count(&direct["out"]["forwarded"]),
        into: count(&direct["in"]["forwarded"]),
        flows: count(&direct["express_flows"]),
    }
}

/// How often all flows were demoted at once.
pub fn changes(status: &Status) -> u64 {
    let direct = &status.0["direct"];
    let changes = direct["changes"].as_u64();
    changes.unwrap_or_else(|| panic!("a count: {direct}"))
}

pub fn handed_up(status: &Status, way: &str, reason: &str) -> u64 {
    status.0["direct"][way]["handed_up"][reason]
        .as_u64()
        .unwrap_or_else(|| panic!("a count of {reason}: {}", status.0["direct"]))
}

/// The Ethernet address of a pod.
pub fn mac_text(pod: &Netns) -> String {
    let links: Value = serde_json::from_str(&pod.run("ip -json link show dev eth0")).expect("JSON");
    links[0]["address"].as_str().expect("an address").to_owned()
}

/// What `vxgate flows` says of a conversation that the node's client began; nothing when it is not known.
pub fn flow_of(vxgate: &Vxgate, talk: &Talk) -> Value {
    flow_between(vxgate, talk.ends())
}

/// What it says of a flow between a pod of this node and another; nothing when it is not known.
pub fn flow_between(vxgate: &Vxgate, ends: [SocketAddr; 2]) -> Value {
    let output = Command::new(BINARY)
        .args(["flows", "--json", "--socket"])
        .arg(vxgate.socket())
        .output()
        .expect("it is executable");
    assert!(output.status.success(), "{output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let ends = ends.map(|end| end.to_string());
    let mut flows = answer["flows"].as_array().expect("a list").iter();
    let found = flows.find(|flow| flow["local"] == ends[0] && flow["remote"] == ends[1]);
    found.cloned().unwrap_or_default()
}

pub fn address(text: &str) -> Ipv4Addr {
    text.parse().expect("an address")
}

/// Node 1's client asks node 2's.
pub fn talk(lab: &Lab) -> Talk {
    let (client, far) = (lab.client(Node::Master), lab.client(Node::Worker));
    Talk::start(&client, &far, &lab.client_address(Node::Worker))
}

#[test]
fn a_udp_flow_is_promoted_and_every_answer_is_what_was_said() {
    // A pod with GRO takes frames from XDP as they are.
    for (offloads, gro) in [(true, false), (false, true)] {
        let lab = Lab::with(LabOptions {
            offloads,
            ..LabOptions::default()
        });
        if gro {
            lab.client(Node::Master).run("ethtool -K eth0 gro on");
        }
        let vxgate = Vxgate::start(&lab.node(Node::Master), DIRECT);
        let mut talk = talk(&lab);
        talk.until_direct(&vxgate);
        let before = direct(&vxgate.status());
        // Anything that changes in the node meanwhile sends the flow back for a moment.
        wait_until("400 answers went direct", PATIENCE, || {
            for len in PAYLOADS.into_iter().cycle().take(100) {
                assert!(talk.ask(len), "{len} bytes, offloads {offloads}");
            }
            let now = direct(&vxgate.status());
            now.out >= before.out + 400 && now.into >= before.into + 400
        });
        let mut listed = Value::Null;
        wait_until("the flow is listed", PATIENCE, || {
            assert!(talk.ask(64));
            listed = flow_of(&vxgate, &talk);
            listed["gear"] == "express" && listed["out_frames"].as_u64() > Some(0)
        });
        assert_eq!(listed["vtep"], lab.vtep_address(Node::Worker), "{listed}");
        let status = vxgate.balanced();
        assert_eq!(status.0["direct"]["in"]["in_flight"], 0);
        assert_eq!(status.0["direct"]["pods_by_xdp"], u64::from(gro));
        assert_eq!(status.state(), "healthy", "{}", status.0);
        drop(talk);
        vxgate.stop();
    }
}

#[test]
fn a_rule_that_forbids_the_flow_takes_effect_at_once() {
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    node.script("nft 'table ip np { chain forward { type filter hook forward priority 0; }; }'");
    let vxgate = Vxgate::start(&node, DIRECT);
    let mut talk = talk(&lab);
    talk.until_direct(&vxgate);
    let pod = lab.client_address(Node::Master);
    let heard = changes(&vxgate.status());
    node.run(&format!(
        "nft add rule ip np forward ip saddr {pod} counter drop"
    ));
    let added = Instant::now();
    wait_until("the rule is heard of", PATIENCE, || {
        changes(&vxgate.status()) > heard
    });
    println!("    status told of the rule {:?} after it", added.elapsed());
    let before = direct(&vxgate.status());
    // From now on every frame meets the rule, and none goes around it.
    for _ in 0..FORBIDDEN {
        talk.say(64);
    }
    assert!(!talk.ask(64), "an answer went around the rule");
    let after = direct(&vxgate.balanced());
    assert_eq!((after.out, after.into), (before.out, before.into));
    assert_eq!(after.flows, 0);
    assert!(dropped(&node, "ip np") > FORBIDDEN, "the rule saw them all");
    node.run("nft flush chain ip np forward");
    talk.until_direct(&vxgate);
}

/// Frames that the first counter of a table has seen.
pub fn dropped(node: &Netns, table: &str) -> u64 {
    let listed: Value =
        serde_json::from_str(&node.run(&format!("nft -j list table {table}"))).expect("JSON");
    let rules = listed["nftables"].as_array().expect("a list").iter();
    let mut expressions = rules.filter_map(|rule| rule["rule"]["expr"].as_array());
    let counter = expressions.find_map(|rule| {
        rule.iter()
            .find_map(|expression| expression["counter"]["packets"].as_u64())
    });
    counter.unwrap_or_else(|| panic!("a counter: {listed}"))
}

#[test]
fn a_bulk_transfer_arrives_whole_in_whatever_gear() {
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    node.script(KUBE_PROXY);
    let vxgate = Vxgate::start(&node, DIRECT);
    transfer_goes_direct(&lab, &vxgate, &lab.client_address(Node::Worker));
}

/// A bulk transfer to this address of the far client's arrives whole, and goes direct in whatever gear.
pub fn transfer_goes_direct(lab: &Lab, vxgate: &Vxgate, address: &str) {
    let (client, far) = (lab.client(Node::Master), lab.client(Node::Worker));
    Transfer::start(&client, &far, address, 32 << 20, Some(BULK_RATE)).finish();
    let status = vxgate.balanced();
    let direct = &status.0["direct"];
    let forwarded = |way: &str| direct[way]["forwarded"].as_u64().expect("a count");
    assert!(forwarded("in") + forwarded("ring_in") > 100, "{direct}");
    assert!(forwarded("out") + forwarded("ring_out") > 100, "{direct}");
    assert_eq!(direct["in"]["in_flight"], 0);
}

#[test]
fn without_a_liberal_conntrack_no_tcp_goes_direct_and_status_says_why() {
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    node.run("sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=0");
    let vxgate = Vxgate::start(&node, DIRECT);
    let (client, far) = (lab.client(Node::Master), lab.client(Node::Worker));
    let address = lab.client_address(Node::Worker);
    Transfer::start(&client, &far, &address, 4 << 20, None).finish();
    let now = direct(&vxgate.status());
    assert_eq!((now.out, now.into), (0, 0));
    let mut talk = talk(&lab);
    talk.until_direct(&vxgate);
    let status = vxgate.status();
    let why = status.0["direct"]["why_not_tcp"]
        .as_str()
        .expect("a reason");
    assert!(why.contains("nf_conntrack_tcp_be_liberal=1"), "{why}");
}

#[test]
fn a_thousand_connections_survive_their_gateway_when_it_hangs_drains_ends_or_dies() {
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    node.script(KUBE_PROXY);
    let vxgate = Vxgate::start(&node, DIRECT);
    let (client, far) = (lab.client(Node::Master), lab.client(Node::Worker));
    let address = lab.client_address(Node::Worker);
    let calls = Calls::start(&client, &far, &address, CONNECTIONS);
    all_go_direct(&calls, &vxgate);
    vxgate.signal(Signal::SIGSTOP);
    calls.wait_for_answers(20);
    vxgate.signal(Signal::SIGCONT);
    all_go_direct(&calls, &vxgate);
    vxgate.tell(&["drain"]).printed();
    calls.wait_for_answers(20);
    vxgate.tell(&["resume"]).printed();
    all_go_direct(&calls, &vxgate);
    vxgate.stop();
    calls.wait_for_answers(20);
    let mut vxgate = Vxgate::start(&node, DIRECT);
    all_go_direct(&calls, &vxgate);
    vxgate.signal(Signal::SIGKILL);
    vxgate.wait();
    calls.wait_for_answers(20);
    println!("    invalid to conntrack: {}", dropped(&node, "ip kube"));
    calls.finish();
}

/// Waits until every connection goes the direct path, and sees that it does.
pub fn all_go_direct(calls: &Calls, vxgate: &Vxgate) {
    wait_until("the connections go the direct path", PATIENCE, || {
        direct(&vxgate.status()).flows >= calls.count
    });
    let before = direct(&vxgate.status());
    let many = 20 * calls.count;
    wait_until("they do", PATIENCE, || {
        let now = direct(&vxgate.status());
        now.out >= before.out + many && now.into >= before.into + many
    });
    calls.wait_for_answers(1);
}

#[test]
fn pods_that_come_and_go_leave_nothing_behind() {
    const PODS: u64 = 8;
    let lab = Lab::up();
    let (node, elsewhere) = (lab.node(Node::Master), lab.netns("web1"));
    let vxgate = Vxgate::start(&node, DIRECT);
    let pods = || {
        let status = vxgate.status();
        let pods = status.0["direct"]["pods"].as_u64();
        pods.expect("a count")
    };
    // Of BPF: others come and go with what it asks the kernel.
    let descriptors = || {
        let folder = format!("/proc/{}/fd", vxgate.pid());
        let all = fs::read_dir(folder).expect("it runs").flatten();
        let targets = all.filter_map(|entry| fs::read_link(entry.path()).ok());
        let of_bpf = targets.filter(|target| target.to_string_lossy().contains("bpf"));
        of_bpf.count()
    };
    wait_until("the lab's pods are attended", PATIENCE, || pods() == 2);
    let before = descriptors();
    for _ in 0..3 {
        for pod in 0..PODS {
            node.run(&format!(
                "ip link add churn{pod} type veth peer name churn{pod} netns {}",
                elsewhere.name()
            ));
            node.run(&format!("ip link set churn{pod} master cni0 up"));
        }
        wait_until("the pods are attended", PATIENCE, || pods() == 2 + PODS);
        assert!(descriptors() > before, "each has programs");
        for pod in 0..PODS {
            node.run(&format!("ip link del churn{pod}"));
        }
        wait_until("the pods are gone", PATIENCE, || pods() == 2);
    }
    wait_until("their descriptors, too", PATIENCE, || {
        descriptors() == before
    });
    let mut talk = talk(&lab);
    talk.until_direct(&vxgate);
}

#[test]
fn another_pod_with_the_same_address_gets_its_own_frames_and_the_old_one_none() {
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    let vxgate = Vxgate::start(&node, DIRECT);
    let (old, new) = (lab.client(Node::Master), lab.netns("web1"));
    let address = lab.client_address(Node::Master);
    // Asked from afar, so that the far end's flow stays the same when its pod becomes another.
    let mut talk = Talk::start(&lab.client(Node::Worker), &old, &address);
    talk.until_direct(&vxgate);
    let port = talk.ends()[1].port();
    let mut to_old = Ear::open(&old, port);
    old.run(&format!("ip addr del {address}/24 dev eth0"));
    new.run(&format!("ip addr add {address}/24 dev eth0"));
    node.run("ip neigh flush dev cni0");
    let mut to_new = Ear::open(&new, port);
    wait_until("the new pod is asked", PATIENCE, || {
        talk.ask(64);
        to_new.heard() > 0
    });
    let (before, so_far) = (to_old.heard(), to_new.heard());
    wait_until("the new pod is asked again and again", PATIENCE, || {
        // It does not expect it: every other attempt meets its refusal.
        for _ in 0..10 {
            talk.ask(64);
        }
        to_new.heard() >= so_far + 50
    });
    assert_eq!(to_old.heard(), before, "nothing to the old pod");
}

#[test]
fn what_another_pod_forges_of_a_promoted_flow_stays_with_the_kernel() {
    let lab = Lab::up();
    let vxgate = Vxgate::start(&lab.node(Node::Master), DIRECT);
    let forger = lab.netns("web1");
    // The bridge knows it: a pod that speaks for the first time is a change.
    forger.run("ping -q -c 1 -W 3 10.244.0.1");
    let mut talk = talk(&lab);
    let gateway = lab.mac(Node::Master, "cni0");
    let wire = RawSocket::open(&forger, "eth0");
    // With its own Ethernet address, and with that of the pod that it pretends to be: then the bridge takes it for that pod,
    // which is a change, and demotes the flow.
    let own = mac_text(&forger);
    let other = mac_text(&lab.client(Node::Master));
    for (from, reason) in [(&own, "spoofed"), (&other, "total")] {
        // Were the flow demoted in the midst for another reason, the frames would be nobody's: then they are sent again.
        wait_until("the forged frames are handed up", PATIENCE, || {
            talk.until_direct(&vxgate);
            let before = vxgate.status();
            for _ in 0..FORGED {
                wire.send(&talk.forged(from, &gateway));
            }
            let more = |status: &Status, reason| {
                handed_up(status, "out", reason) - handed_up(&before, "out", reason)
            };
            wait_until("they have a fate", PATIENCE, || {
                more(&vxgate.status(), "total") >= FORGED
            });
            let after = vxgate.balanced();
            assert_eq!(direct(&after).out, direct(&before).out, "none went out");
            // The node's own rules do not ask who sends, so the far end has answered to what was forged.
            talk.hear_out();
            more(&after, reason) >= FORGED
        });
    }
    talk.until_direct(&vxgate);
    // As a far node's, to this node and to the other: a tunnel inside of what is a pod's frame to everybody.
    let before = vxgate.status();
    let devices = [Node::Worker, Node::Master].map(|node| mac(&lab.mac(node, "flannel.1")));
    for to in [Node::Master, Node::Worker] {
        let tunnel = VxlanFrame {
            outer_macs: [mac(&mac_text(&forger)), mac(&gateway)],
            outer: [Node::Worker, to].map(|node| address(&lab.vtep_address(node))),
            inner_macs: devices,
            inner: [Ipv4Addr::UNSPECIFIED; 2],
            port: 0,
        };
        for _ in 0..FORGED / 2 {
            wire.send(&tunnel.around(&talk.answer(devices)));
        }
    }
    wait_until("the forged tunnels are handed up", PATIENCE, || {
        let now = handed_up(&vxgate.status(), "out", "total");
        now >= handed_up(&before, "out", "total") + FORGED
    });
    let (before, after) = (direct(&before), direct(&vxgate.balanced()));
    assert_eq!((after.out, after.into), (before.out, before.into));
}
