//! Whatever the operator changes takes effect on a promoted flow under load: routing, rules, bridge, neighbours.
//!
//! The pod's questions go out without waiting, two thousand a second, and the kernel stamps what comes back. A change forbids
//! them; from the moment on in which whoever made it has been told that it is made, no answer should arrive. How late the last
//! one was is printed: the machine may be busy, so what is asserted is that they end, and within a second.
//! `VXGATE_DIRECT_ROUNDS` makes the same changes so many times, for the worst of all.

use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::cmsg_space;
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;

use super::{PATIENCE, changes, direct};
use crate::support::lab::{Lab, Node};
use crate::support::netns::Netns;
use crate::support::vxgate::Vxgate;
use crate::support::wait_until;
use crate::who::DIRECT;

/// Generous: the promise is 100 ms, and the machine may be busy with something else for longer.
const LATE_MAX_MS: f64 = 1000.0;
/// Questions without an answer that tell that there are none any more.
const SILENCE: u64 = 200;
const QUESTION_LEN: usize = 100;

/// What is there before anything is forbidden: what the changes add to, and take from.
const RULES: &str = "nft -f - <<N
table ip np {
  set denied { type ipv4_addr; }
  chain allowed { ip saddr POD accept; }
  chain judged { jump allowed; ip saddr POD drop; }
  chain forward { type filter hook forward priority 0; ip saddr @denied counter drop; jump judged; }
}
N";

/// What somebody does that forbids the flow, and undoes. `POD` and `FAR` are its ends, `PORT` the pod's device, `PEER` and
/// `NEXT` the far vxlan device's Ethernet address and VTEP.
const FORBIDDING: [[&str; 3]; 16] = [
    [
        "a rule is added",
        "nft insert rule ip np forward ip saddr POD counter drop",
        "nft delete rule ip np forward handle $(nft -a list chain ip np forward | sed -n 's/.*saddr POD counter.*handle //p')",
    ],
    [
        "a rule that had allowed is deleted",
        "nft flush chain ip np allowed",
        "nft add rule ip np allowed ip saddr POD accept",
    ],
    [
        "a set has another element",
        "nft add element ip np denied '{ POD }'",
        "nft delete element ip np denied '{ POD }'",
    ],
    [
        "a table is added",
        "nft 'table ip other { chain forward { type filter hook forward priority 5; ip daddr POD drop; }; }'",
        "nft delete table ip other",
    ],
    [
        "a route leads nowhere",
        "ip route add blackhole FAR/32",
        "ip route del blackhole FAR/32",
    ],
    [
        "a rule chooses another table",
        "ip rule add from POD blackhole",
        "ip rule del from POD blackhole",
    ],
    [
        "the far pod's address becomes the node's",
        "ip addr add FAR/32 dev lo",
        "ip addr del FAR/32 dev lo",
    ],
    [
        "forwarding ends",
        "sysctl -qw net.ipv4.conf.cni0.forwarding=0",
        "sysctl -qw net.ipv4.conf.cni0.forwarding=1",
    ],
    [
        "an IPsec policy blocks it",
        "ip xfrm policy add src POD dst FAR dir fwd action block",
        "ip xfrm policy delete src POD dst FAR dir fwd",
    ],
    [
        "the peer's Ethernet address is behind another VTEP",
        "bridge fdb replace PEER dev flannel.1 dst 10.0.0.77 self permanent",
        "bridge fdb replace PEER dev flannel.1 dst NEXT self permanent",
    ],
    [
        "the next hop has another Ethernet address",
        "ip neigh replace SUBNET.0 lladdr 0e:00:00:00:00:77 dev flannel.1 nud permanent",
        "ip neigh replace SUBNET.0 lladdr PEER dev flannel.1 nud permanent",
    ],
    [
        "the pod has another Ethernet address",
        "ip neigh replace POD lladdr 0e:00:00:00:00:78 dev cni0 nud permanent",
        "ip neigh del POD dev cni0",
    ],
    [
        "the bridge knows the pod behind another port",
        "bridge fdb replace MAC dev veth-web1 master static sticky",
        "bridge fdb del MAC dev veth-web1 master",
    ],
    [
        "the pod's port does not forward",
        "bridge link set dev PORT state 0",
        "bridge link set dev PORT state 3",
    ],
    [
        "the pod's port leaves the bridge",
        "ip link set PORT nomaster",
        "ip link set PORT master cni0",
    ],
    [
        "the pod's device is down",
        "ip link set PORT down",
        "ip link set PORT up",
    ],
];

/// What somebody does that may change what becomes of a frame, and does not change it here: all flows are judged anew.
const HARMLESS: [[&str; 3]; 5] = [
    [
        "a port is isolated",
        "bridge link set dev PORT isolated on",
        "bridge link set dev PORT isolated off",
    ],
    [
        "a port has no hairpin",
        "bridge link set dev PORT hairpin off",
        "bridge link set dev PORT hairpin on",
    ],
    [
        "a port learns nothing",
        "bridge link set dev PORT learning off",
        "bridge link set dev PORT learning on",
    ],
    [
        "a bridge calls iptables",
        "ip link set cni0 type bridge nf_call_iptables 1",
        "ip link set cni0 type bridge nf_call_iptables 0",
    ],
    [
        "a device is of another group",
        "ip link set dev PORT group 7",
        "ip link set dev PORT group 0",
    ],
];

/// Questions that do not wait for their answers.
struct Chat {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    heard: Arc<AtomicU64>,
    /// When the last answer came to the pod, by the kernel's clock.
    last_ns: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Chat {
    fn start(from: &Netns, to: &Netns, to_address: &str) -> Self {
        let bind = |pod: &Netns| {
            let socket = pod.enter(|| UdpSocket::bind("0.0.0.0:0").expect("a socket"));
            let wait = Some(Duration::from_millis(50));
            socket.set_read_timeout(wait).expect("SO_RCVTIMEO");
            socket
        };
        let (near, far) = (bind(from), bind(to));
        let port = far.local_addr().expect("it is bound").port();
        near.connect((to_address, port)).expect("an address");
        setsockopt(&near, sockopt::ReceiveTimestampns, &true).expect("SO_TIMESTAMPNS");
        let ears = near.try_clone().expect("a second handle");
        let stop = Arc::<AtomicBool>::default();
        let [asked, heard, last_ns] = [0; 3].map(|_| Arc::<AtomicU64>::default());
        let ask = {
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    // Refused where there is no way, or where somebody said so.
                    let _ = near.send(&[7; QUESTION_LEN]);
                    asked.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_micros(500));
                }
            }
        };
        let echo = {
            let stop = Arc::clone(&stop);
            move || {
                let mut bytes = [0; 256];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((len, from)) = far.recv_from(&mut bytes) {
                        let _ = far.send_to(&bytes[..len], from);
                    }
                }
            }
        };
        let listen = {
            let (stop, heard, last_ns) =
                (Arc::clone(&stop), Arc::clone(&heard), Arc::clone(&last_ns));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Some(at_ns) = stamp(&ears) {
                        last_ns.fetch_max(at_ns, Ordering::Relaxed);
                        heard.fetch_add(1, Ordering::Release);
                    }
                }
            }
        };
        let threads = vec![
            thread::spawn(ask),
            thread::spawn(echo),
            thread::spawn(listen),
        ];
        Self {
            stop,
            asked,
            heard,
            last_ns,
            threads,
        }
    }

    fn heard(&self) -> u64 {
        self.heard.load(Ordering::Acquire)
    }

    /// Waits until so many more questions have been asked.
    fn wait_for_questions(&self, more: u64) {
        let asked = || self.asked.load(Ordering::Relaxed);
        let before = asked();
        wait_until("questions", PATIENCE, || asked() >= before + more);
    }

    /// Waits until questions have no answers any more.
    fn wait_for_silence(&self, what: &str) {
        wait_until(&format!("{what}: no answers"), PATIENCE, || {
            let before = self.heard();
            self.wait_for_questions(SILENCE);
            self.heard() == before
        });
    }

    /// Waits until they have, over the direct path.
    fn wait_until_direct(&self, vxgate: &Vxgate, what: &str) {
        wait_until(&format!("{what}: it goes direct"), PATIENCE, || {
            let (before, heard) = (direct(&vxgate.status()), self.heard());
            self.wait_for_questions(50);
            let now = direct(&vxgate.status());
            let more = |now: u64, before: u64| now >= before + 40;
            more(self.heard(), heard) && more(now.out, before.out) && more(now.into, before.into)
        });
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// When the kernel received the next datagram; none when there is none for a while.
fn stamp(socket: &UdpSocket) -> Option<u64> {
    let (mut bytes, mut control) = ([0; 2 * QUESTION_LEN], cmsg_space!(TimeSpec));
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<SockaddrIn>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::empty(),
    )
    .ok()?;
    message.cmsgs().ok()?.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time).as_nanos() as u64),
        _ => None,
    })
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("the clock is past 1970").as_nanos() as u64
}

fn rounds() -> usize {
    let rounds = std::env::var("VXGATE_DIRECT_ROUNDS").ok();
    rounds.map_or(1, |rounds| rounds.parse().expect("a number of rounds"))
}

/// A lab whose pod's flow goes direct, and the words of its commands.
struct Place {
    lab: Lab,
    vxgate: Vxgate,
    words: [(&'static str, String); 7],
}

impl Place {
    fn up() -> Self {
        let lab = Lab::up();
        let pod = lab.client(Node::Master);
        let links: serde_json::Value =
            serde_json::from_str(&pod.run("ip -json link show dev eth0")).expect("JSON");
        let mac = links[0]["address"].as_str().expect("an address");
        let words = [
            ("SUBNET", Node::Worker.subnet()),
            ("POD", lab.client_address(Node::Master)),
            ("FAR", lab.client_address(Node::Worker)),
            ("PORT", "veth-cli1".to_owned()),
            ("PEER", lab.mac(Node::Worker, "flannel.1")),
            ("NEXT", lab.vtep_address(Node::Worker)),
            ("MAC", mac.to_owned()),
        ];
        let node = lab.node(Node::Master);
        node.script(&filled(RULES, &words));
        let vxgate = Vxgate::start(&node, DIRECT);
        Self { lab, vxgate, words }
    }

    fn chat(&self) -> Chat {
        let [near, far] = [Node::Master, Node::Worker].map(|node| self.lab.client(node));
        Chat::start(&near, &far, &self.lab.client_address(Node::Worker))
    }

    fn run(&self, line: &str) {
        let node = self.lab.node(Node::Master);
        node.script(&filled(line, &self.words));
    }

    /// Waits until it is heard that something changed, beyond what had been by then.
    fn wait_until_heard(&self, what: &str, before: u64) {
        wait_until(&format!("{what}: it is heard of"), PATIENCE, || {
            changes(&self.vxgate.status()) > before
        });
    }
}

fn filled(line: &str, words: &[(&str, String)]) -> String {
    let fill = |line: String, (word, value): &(&str, String)| line.replace(word, value);
    words.iter().fold(line.to_owned(), fill)
}

#[test]
fn whatever_forbids_a_promoted_flow_ends_it_at_once() {
    let place = Place::up();
    let chat = place.chat();
    let mut worst = [[0.0_f64; 2]; FORBIDDING.len()];
    for _ in 0..rounds() {
        for ([what, forbid, allow], worst) in FORBIDDING.iter().zip(&mut worst) {
            chat.wait_until_direct(&place.vxgate, what);
            let heard = changes(&place.vxgate.status());
            let asked_ns = now_ns();
            place.run(forbid);
            // Whoever made the change knows by now that it is made.
            let made_ns = now_ns();
            place.wait_until_heard(what, heard);
            chat.wait_for_silence(what);
            let last_ns = chat.last_ns.load(Ordering::Relaxed);
            let late_ms = |since_ns| last_ns.saturating_sub(since_ns) as f64 / 1e6;
            let late = [asked_ns, made_ns].map(late_ms);
            assert!(
                late[1] < LATE_MAX_MS,
                "{what}: {} ms after it, an answer came",
                late[1]
            );
            *worst = [0, 1].map(|since| worst[since].max(late[since]));
            place.run(allow);
        }
    }
    let mut rows = vec![(
        "at worst of all",
        [0, 1].map(|since| {
            let all = worst.iter().map(|worst| worst[since]);
            all.fold(0.0, f64::max)
        }),
    )];
    rows.extend(FORBIDDING.iter().map(|[what, ..]| *what).zip(worst));
    for (what, [asked_ms, made_ms]) in rows {
        println!(
            "    {what}: the last answer came {made_ms:.2} ms after it was made, {asked_ms:.2} ms after it was asked for"
        );
    }
    println!("    in {} rounds", rounds());
    place.vxgate.balanced();
}

/// More than the kernel keeps for somebody who does not listen.
const ANNOUNCEMENTS: &str = r#"seq 60000 | awk '{
  printf "fdb add 02:77:00:%02x:%02x:%02x dev veth-web1 master static\n", $1 / 65536, $1 / 256 % 256, $1 % 256
}' | bridge -batch -"#;

#[test]
fn after_announcements_were_lost_a_flow_is_judged_anew_and_goes_direct_again() {
    let place = Place::up();
    let chat = place.chat();
    chat.wait_until_direct(&place.vxgate, "before");
    place.vxgate.signal(Signal::SIGSTOP);
    place.run(ANNOUNCEMENTS);
    place.vxgate.signal(Signal::SIGCONT);
    wait_until("the loss is heard of", PATIENCE, || {
        let by_what = &place.vxgate.status().0["direct"]["changes_by"];
        by_what["overrun"].as_u64() >= Some(1)
    });
    chat.wait_until_direct(&place.vxgate, "after");
    let heard = changes(&place.vxgate.status());
    place.run("ip neigh replace POD lladdr 0e:00:00:00:00:78 dev cni0 nud permanent");
    place.wait_until_heard("another change", heard);
    chat.wait_for_silence("another change");
    place.vxgate.balanced();
}

#[test]
fn what_may_decide_of_a_promoted_flow_has_it_judged_anew() {
    let place = Place::up();
    let chat = place.chat();
    for [what, change, back] in HARMLESS {
        for line in [change, back] {
            chat.wait_until_direct(&place.vxgate, what);
            let heard = changes(&place.vxgate.status());
            place.run(line);
            place.wait_until_heard(what, heard);
        }
    }
    chat.wait_until_direct(&place.vxgate, "at the end");
}

/// The limit of a pod's bandwidth, which a frame that goes around it does not meet.
#[test]
fn where_there_is_a_queueing_discipline_or_are_classifiers_there_is_no_direct_path() {
    let place = Place::up();
    let chat = place.chat();
    for [set, reset, why] in [
        [
            "tc qdisc add dev cni0 root tbf rate 100mbit burst 1mb latency 50ms",
            "tc qdisc del dev cni0 root",
            "cni0 has the queueing discipline tbf",
        ],
        [
            "tc qdisc add dev cni0 clsact",
            "tc qdisc del dev cni0 clsact",
            "cni0 has classifiers (clsact or ingress)",
        ],
        // As the bandwidth plugin of CNI limits what a pod sends.
        [
            "tc qdisc add dev PORT ingress",
            "tc qdisc del dev PORT ingress",
            "it has classifiers (clsact or ingress)",
        ],
    ] {
        chat.wait_until_direct(&place.vxgate, why);
        place.run(set);
        wait_until(why, PATIENCE, || {
            let left_out = &place.vxgate.status().0["direct"]["pods_left_out"];
            let words = left_out["veth-cli1"].as_str();
            words.is_some_and(|words| words.starts_with(why))
        });
        let before = direct(&place.vxgate.status());
        chat.wait_for_questions(SILENCE);
        let now = direct(&place.vxgate.status());
        assert_eq!((now.out, now.into), (before.out, before.into), "{why}");
        place.run(reset);
    }
    chat.wait_until_direct(&place.vxgate, "without");
}
