//! The direct path: flows that the kernel was seen to carry go straight between the underlay and their pods, and come back to
//! the kernel whenever anything changes, or anybody dies.
//!
//! Node 1 runs `vxgate --direct flows`, node 2 the plain kernel: whatever goes the direct path, a kernel judges on the far side.

use std::io::{Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::bulk::Transfer;
use crate::support::frames::{Random, RawSocket, mac};
use crate::support::lab::{Lab, LabOptions, Node};
use crate::support::netns::Netns;
use crate::support::vxgate::{Status, Vxgate};
use crate::support::wait_until;

const DIRECT: [&str; 2] = ["--direct", "flows"];
const PATIENCE: Duration = Duration::from_secs(20);
/// An answer that is not there after this was lost.
const ANSWER: Duration = Duration::from_millis(500);
/// An even number of frames that another pod forges.
const FORGED: u64 = 24;
const PAYLOADS: [usize; 5] = [1, 2, 64, 555, 1400];

/// Conntrack follows connections that come back from the direct path, and what it calls invalid is dropped, as kube-proxy does.
const KUBE_PROXY: &str = "sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1
    nft 'table ip kube { chain forward { type filter hook forward priority 0; ct state invalid counter drop; ct state established,related accept; }; }'";

/// A conversation over UDP: one end asks, the other repeats what it hears, and each answer has to be what was said.
struct Talk {
    socket: UdpSocket,
    random: Random,
    stop: Arc<AtomicBool>,
    echo: Option<JoinHandle<()>>,
}

impl Talk {
    fn start(from: &Netns, to: &Netns, to_address: &str) -> Self {
        let inlet = to.enter(|| UdpSocket::bind("0.0.0.0:0").expect("a socket"));
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
        let socket = from.enter(|| UdpSocket::bind("0.0.0.0:0").expect("a socket"));
        socket.connect((to_address, port)).expect("an address");
        socket.set_read_timeout(Some(ANSWER)).expect("SO_RCVTIMEO");
        Self {
            socket,
            random: Random(7),
            stop,
            echo: Some(echo),
        }
    }

    /// Says something and hears the answer. Whether there was one; what comes must be what was said.
    fn ask(&mut self, len: usize) -> bool {
        let said: Vec<u8> = (0..len).map(|_| self.random.next() as u8).collect();
        if self.socket.send(&said).is_err() {
            return false;
        }
        let mut heard = [0; 2048];
        match self.socket.recv(&mut heard) {
            Ok(len) => {
                assert_eq!(&heard[..len], said, "the answer is what was said");
                true
            }
            Err(_) => false,
        }
    }

    /// Asks until this flow is promoted: until all of the last answers went the direct path, both ways.
    fn until_direct(&mut self, vxgate: &Vxgate) {
        wait_until("the flow goes the direct path", PATIENCE, || {
            let before = direct(&vxgate.status());
            let answers = (0..20).filter(|_| self.ask(64)).count() as u64;
            let now = direct(&vxgate.status());
            answers == 20 && now.out >= before.out + 20 && now.into >= before.into + 20
        });
    }

    /// Both ends, as the one that asks knows them.
    fn ends(&self) -> [SocketAddrV4; 2] {
        let ends = [self.socket.local_addr(), self.socket.peer_addr()];
        ends.map(|end| match end.expect("it is connected") {
            SocketAddr::V4(end) => end,
            SocketAddr::V6(end) => panic!("{end} is of IPv4"),
        })
    }

    /// The next frame that its first end could send, by another hand.
    fn forged(&self, from: &str, to: &str) -> Vec<u8> {
        let [local, remote] = self.ends();
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(mac(from), mac(to))
            .ipv4(local.ip().octets(), remote.ip().octets(), 64)
            .udp(local.port(), remote.port())
            .write(&mut frame, &[0; 64])
            .expect("writing to memory");
        frame
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

/// Connections over each of which one question follows another.
struct Calls {
    stop: Arc<AtomicBool>,
    answers: Arc<Vec<AtomicU64>>,
    callers: Vec<JoinHandle<()>>,
}

impl Calls {
    fn start(from: &Netns, to: &Netns, to_address: &str, count: usize) -> Self {
        let listener = to.enter(|| TcpListener::bind("0.0.0.0:0").expect("a socket"));
        let port = listener.local_addr().expect("it is bound").port();
        let stop = Arc::new(AtomicBool::new(false));
        let answers: Arc<Vec<AtomicU64>> = Arc::new((0..count).map(|_| 0.into()).collect());
        let callers = (0..count).map(|number| {
            let near = from.enter(|| TcpStream::connect((to_address, port)).expect("connecting"));
            let (far, _) = listener.accept().expect("accepting");
            for end in [&near, &far] {
                end.set_nodelay(true).expect("TCP_NODELAY");
                end.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
            }
            thread::spawn(move || repeat(far));
            let (stop, answers) = (Arc::clone(&stop), Arc::clone(&answers));
            thread::spawn(move || call(near, number, &stop, &answers[number]))
        });
        let callers = callers.collect();
        Self {
            stop,
            answers,
            callers,
        }
    }

    /// Waits until every connection has had so many more answers.
    fn wait_for_answers(&self, more: u64) {
        let now = || {
            self.answers
                .iter()
                .map(|count| count.load(Ordering::Relaxed))
        };
        let before: Vec<u64> = now().collect();
        wait_until("answers on every connection", PATIENCE, || {
            now().zip(&before).all(|(now, before)| now >= before + more)
        });
    }

    /// Ends them; none may have failed.
    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.join().expect("no connection breaks");
        }
    }
}

fn call(mut connection: TcpStream, number: usize, stop: &AtomicBool, answers: &AtomicU64) {
    let mut random = Random(number as u64);
    while !stop.load(Ordering::Relaxed) {
        let said: [u8; 64] = std::array::from_fn(|_| random.next() as u8);
        let mut heard = [0; 64];
        connection.write_all(&said).expect("asking");
        connection.read_exact(&mut heard).expect("an answer");
        assert_eq!(heard, said, "the answer is what was said");
        answers.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(5));
    }
}

fn repeat(mut connection: TcpStream) {
    let mut bytes = [0; 64];
    while connection.read_exact(&mut bytes).is_ok() && connection.write_all(&bytes).is_ok() {}
}

/// Counts the UDP frames to a port that come in by a pod's device, whether the pod wants them or not.
struct Ear {
    socket: RawSocket,
    port: u16,
    heard: u64,
}

impl Ear {
    fn open(pod: &Netns, port: u16) -> Self {
        Self {
            socket: RawSocket::open(pod, "eth0"),
            port,
            heard: 0,
        }
    }

    fn heard(&mut self) -> u64 {
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
struct Counts {
    out: u64,
    into: u64,
    flows: u64,
}

fn direct(status: &Status) -> Counts {
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

fn handed_up(status: &Status, way: &str, reason: &str) -> u64 {
    status.0["direct"][way]["handed_up"][reason]
        .as_u64()
        .unwrap_or_else(|| panic!("a count of {reason}: {}", status.0["direct"]))
}

/// The Ethernet address of a pod.
fn mac_text(pod: &Netns) -> String {
    let links: Value = serde_json::from_str(&pod.run("ip -json link show dev eth0")).expect("JSON");
    links[0]["address"].as_str().expect("an address").to_owned()
}

/// Node 1's client asks node 2's.
fn talk(lab: &Lab) -> Talk {
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
        let vxgate = Vxgate::start(&lab.node(Node::Master), &DIRECT);
        let mut talk = talk(&lab);
        talk.until_direct(&vxgate);
        let before = direct(&vxgate.status());
        for round in 0..400 {
            let len = PAYLOADS[round % PAYLOADS.len()];
            assert!(
                talk.ask(len),
                "{len} bytes, round {round}, offloads {offloads}"
            );
        }
        let status = vxgate.balanced();
        let after = direct(&status);
        // The kernel is shown one each way every ten seconds.
        assert!(after.out >= before.out + 390 && after.into >= before.into + 390);
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
    let vxgate = Vxgate::start(&node, &DIRECT);
    let mut talk = talk(&lab);
    talk.until_direct(&vxgate);
    let pod = lab.client_address(Node::Master);
    node.run(&format!("nft add rule ip np forward ip saddr {pod} drop"));
    let added = Instant::now();
    let mut last = added;
    // Whatever still comes is told; that nothing does any more is what counts.
    while last.elapsed() < Duration::from_millis(700) {
        if talk.ask(64) {
            last = Instant::now();
        }
        assert!(added.elapsed() < PATIENCE, "the flow goes on");
    }
    println!("    the last answer came {:?} after the rule", last - added);
    let status = vxgate.balanced();
    assert_eq!(direct(&status).flows, 0);
    node.run("nft flush chain ip np forward");
    talk.until_direct(&vxgate);
}

#[test]
fn a_bulk_transfer_arrives_whole_while_its_acknowledgements_go_direct() {
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    node.script(KUBE_PROXY);
    let vxgate = Vxgate::start(&node, &DIRECT);
    let (client, far) = (lab.client(Node::Master), lab.client(Node::Worker));
    let address = lab.client_address(Node::Worker);
    Transfer::start(&client, &far, &address, 30 << 20, None).finish();
    let status = vxgate.balanced();
    let now = direct(&status);
    assert!(now.into > 100, "{}", status.0["direct"]);
    assert_eq!(status.0["direct"]["in"]["in_flight"], 0);
}

#[test]
fn without_a_liberal_conntrack_no_tcp_goes_direct_and_status_says_why() {
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    node.run("sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=0");
    let vxgate = Vxgate::start(&node, &DIRECT);
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
fn connections_survive_the_death_of_their_gateway() {
    const CONNECTIONS: usize = 40;
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    node.script(KUBE_PROXY);
    let mut vxgate = Vxgate::start(&node, &DIRECT);
    let (client, far) = (lab.client(Node::Master), lab.client(Node::Worker));
    let calls = Calls::start(
        &client,
        &far,
        &lab.client_address(Node::Worker),
        CONNECTIONS,
    );
    wait_until("the connections go the direct path", PATIENCE, || {
        direct(&vxgate.status()).flows >= CONNECTIONS as u64
    });
    let before = direct(&vxgate.status());
    calls.wait_for_answers(20);
    let now = direct(&vxgate.status());
    assert!(now.out >= before.out + 20 && now.into >= before.into + 20);
    vxgate.signal(Signal::SIGKILL);
    vxgate.wait();
    calls.wait_for_answers(20);
    calls.finish();
}

#[test]
fn another_pod_with_the_same_address_gets_its_own_frames_and_the_old_one_none() {
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    let vxgate = Vxgate::start(&node, &DIRECT);
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
    for _ in 0..50 {
        talk.ask(64);
    }
    wait_until("the new pod is asked again", PATIENCE, || {
        to_new.heard() >= so_far + 50
    });
    assert_eq!(to_old.heard(), before, "nothing to the old pod");
}

#[test]
fn what_another_pod_forges_of_a_promoted_flow_stays_with_the_kernel() {
    let lab = Lab::up();
    let vxgate = Vxgate::start(&lab.node(Node::Master), &DIRECT);
    let mut talk = talk(&lab);
    talk.until_direct(&vxgate);
    let forger = lab.netns("web1");
    let gateway = lab.mac(Node::Master, "cni0");
    let before = vxgate.status();
    let wire = RawSocket::open(&forger, "eth0");
    // With its own Ethernet address, and with that of the pod that it pretends to be.
    let own = mac_text(&forger);
    let other = mac_text(&lab.client(Node::Master));
    for from in [own, other] {
        for _ in 0..FORGED / 2 {
            wire.send(&talk.forged(&from, &gateway));
        }
    }
    wait_until("the forged frames are handed up", PATIENCE, || {
        let now = handed_up(&vxgate.status(), "out", "spoofed");
        now >= handed_up(&before, "out", "spoofed") + FORGED
    });
    let after = vxgate.status();
    assert_eq!(direct(&after).out, direct(&before).out);
    assert!(talk.ask(64));
}
