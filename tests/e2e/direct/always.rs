//! The direct path where filters do not matter (`--direct always`): what was seen one way is enough, rules are gone around, and
//! what the kernel routes by is not.
//!
//! Node 1 runs `vxgate`, node 2 the plain kernel, as in `flows.rs`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use serde_json::Value;

use super::calls::{CONNECTIONS, Trouble, survive};
use super::talk::any_of;
use super::{FORGED, PATIENCE, Talk, changes, direct, flow_between, handed_up, mac_text, talk};
use crate::support::frames::RawSocket;
use crate::support::lab::{Lab, LabOptions, Node};
use crate::support::netns::Netns;
use crate::support::vxgate::Vxgate;
use crate::support::wait_until;
use crate::who::{ALWAYS, ALWAYS_BY_RING, KUBE_PROXY, kinds};

/// As many as there is time for each time; all of them with `VXGATE_DIRECT_KINDS=all`.
const SOME_CONNECTIONS: usize = 100;
/// Datagrams under way at once: as many as a socket has room for.
const TRAIN: u32 = 50;
const TRAINS: u32 = 10;

/// One who sends datagrams, and one who hears them and says nothing.
struct Lecture {
    speaker: UdpSocket,
    hearer: UdpSocket,
    said: u32,
}

impl Lecture {
    fn start(from: &Netns, to: &Netns, to_address: &str) -> Self {
        let bind = || UdpSocket::bind(any_of(to_address)).expect("a socket");
        let (speaker, hearer) = (from.enter(bind), to.enter(bind));
        hearer
            .set_read_timeout(Some(PATIENCE))
            .expect("SO_RCVTIMEO");
        let port = hearer.local_addr().expect("it is bound").port();
        speaker.connect((to_address, port)).expect("an address");
        Self {
            speaker,
            hearer,
            said: 0,
        }
    }

    /// Says some numbers, and sees that each of them is heard: once, and in any order, for where a flow is promoted some may
    /// overtake others. Whom they were from.
    fn give(&mut self) -> SocketAddr {
        let said: Vec<u32> = (self.said..self.said + TRAIN).collect();
        for number in &said {
            self.speaker.send(&number.to_be_bytes()).expect("sending");
        }
        let mut from = None;
        let numbers = said.iter().map(|_| {
            let mut heard = [0; 4];
            let (len, whom) = self.hearer.recv_from(&mut heard).expect("it arrives");
            assert_eq!((len, *from.get_or_insert(whom)), (heard.len(), whom));
            u32::from_be_bytes(heard)
        });
        let mut numbers: Vec<u32> = numbers.collect();
        numbers.sort_unstable();
        assert_eq!(numbers, said);
        self.said += TRAIN;
        from.expect("there was one")
    }

    /// Both ends, the speaker's first.
    fn ends(&self) -> [SocketAddr; 2] {
        let ends = [self.speaker.local_addr(), self.speaker.peer_addr()];
        ends.map(|end| end.expect("it is connected"))
    }
}

#[test]
fn what_is_only_said_or_only_heard_goes_direct_and_all_of_it_arrives() {
    let lab = Lab::with(LabOptions {
        dual_stack: true,
        ..LabOptions::default()
    });
    let vxgate = Vxgate::start(&lab.node(Node::Master), ALWAYS);
    let (near, far) = (lab.client(Node::Master), lab.client(Node::Worker));
    for (six, out) in [(false, true), (false, false), (true, true), (true, false)] {
        let address = |node| match six {
            true => lab.client_address6(node),
            false => lab.client_address(node),
        };
        let [to_near, to_far] = [Node::Master, Node::Worker].map(address);
        let mut lecture = if out {
            Lecture::start(&near, &far, &to_far)
        } else {
            Lecture::start(&far, &near, &to_near)
        };
        let count = || {
            let now = direct(&vxgate.status());
            if out { now.out } else { now.into }
        };
        let mut trains = 0;
        wait_until("trains go direct", PATIENCE, || {
            let before = count();
            lecture.give();
            trains += u32::from(count() >= before + u64::from(TRAIN));
            trains >= TRAINS
        });
        let [speaker, hearer] = lecture.ends();
        let ends = if out {
            [speaker, hearer]
        } else {
            [hearer, speaker]
        };
        let listed = || flow_between(&vxgate, ends);
        let why = "to the pod only: not seen leaving";
        let ways = if out { "both" } else { "in" };
        wait_until("the flow is listed", PATIENCE, || {
            lecture.give();
            let listed = listed();
            listed["ways"] == ways && (out || listed["why_not_higher"] == why)
        });
        // Who has only heard says something, too.
        let from = lecture.give();
        wait_until("the flow goes both ways", PATIENCE, || {
            lecture.hearer.send_to(b"I see", from).expect("sending");
            let listed = listed();
            let back = if out { "in_frames" } else { "out_frames" };
            listed["ways"] == "both" && listed[back].as_u64() > Some(0)
        });
    }
    let status = vxgate.balanced();
    assert_eq!(status.0["direct"]["mode"], "always");
    assert_eq!(status.state(), "healthy", "{}", status.0);
}

#[test]
fn whom_a_service_is_translated_for_is_answered_and_does_not_go_direct() {
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    let far = lab.client_address(Node::Worker);
    // By a cluster's address from a pod, and by the same from outside, as through a NodePort.
    node.script(&format!(
        "nft 'table ip svc {{
            chain pre {{ type nat hook prerouting priority dstnat; ip daddr 10.96.0.99 dnat to {far}; }}
            chain post {{ type nat hook postrouting priority srcnat; ip saddr 10.0.0.0/24 oifname flannel.1 masquerade; }}
        }}'"
    ));
    let outside = lab.netns("ext");
    outside.run("ip route add 10.96.0.99 via 10.0.0.10");
    let vxgate = Vxgate::start(&node, ALWAYS);
    let (client, server) = (lab.client(Node::Master), lab.client(Node::Worker));
    let mut inside = Talk::start(&client, &server, "10.96.0.99");
    let mut from_outside = Talk::start(&outside, &server, "10.96.0.99");
    // To the same pod without a service: this one does go direct, and the others stay what they are.
    let mut plain = talk(&lab);
    plain.until_direct(&vxgate);
    let before = direct(&vxgate.status());
    for _ in 0..100 {
        assert!(inside.ask(64), "from a pod");
        assert!(from_outside.ask(64), "from outside");
    }
    let after = direct(&vxgate.balanced());
    assert_eq!((after.out, after.into), (before.out, before.into));
    // At the tunnel it is known by the pod's address behind the service.
    let [local, service] = inside.ends();
    let behind = SocketAddr::new(far.parse().expect("an address"), service.port());
    let listed = flow_between(&vxgate, [local, behind]);
    assert_eq!(
        listed["why_not_higher"], "not seen at the pod's device that its address is behind",
        "{listed}"
    );
    assert_eq!(listed["ways"], Value::Null);
    plain.until_direct(&vxgate);
}

#[test]
fn a_pod_that_asks_a_service_and_who_is_behind_it_from_one_port_is_answered_by_both() {
    for mode in ["flows", "always"] {
        let lab = Lab::up();
        let node = lab.node(Node::Master);
        let far = lab.client_address(Node::Worker);
        node.script(&format!(
            "nft 'table ip svc {{ chain pre {{ type nat hook prerouting priority dstnat; ip daddr 10.96.0.99 dnat to {far}; }}; }}'"
        ));
        let vxgate = Vxgate::start(&node, &["--direct", mode]);
        let (client, server) = (lab.client(Node::Master), lab.client(Node::Worker));
        let mut service = Talk::start(&client, &server, "10.96.0.99");
        assert!(service.ask(64), "it has the 5-tuple at the tunnel");
        // And this one, which has it at the pod, gets another port there.
        let mut behind = service.beside(&client, &far);
        let mut other = talk(&lab);
        other.until_direct(&vxgate);
        for _ in 0..200 {
            assert!(service.ask(64), "{mode}: the service");
            assert!(behind.ask(64), "{mode}: who is behind it");
        }
        let listed = flow_between(&vxgate, behind.ends());
        assert_eq!(listed["gear"], "transparent", "{listed}");
        other.until_direct(&vxgate);
    }
}

#[test]
fn a_rule_does_not_stop_a_flow() {
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    node.script("nft 'table ip np { chain forward { type filter hook forward priority 0; }; }'");
    let vxgate = Vxgate::start(&node, ALWAYS);
    let mut talk = talk(&lab);
    talk.until_direct(&vxgate);
    let pod = lab.client_address(Node::Master);
    let before = vxgate.status();
    for direction in ["saddr", "daddr"] {
        node.run(&format!(
            "nft add rule ip np forward ip {direction} {pod} counter drop"
        ));
    }
    for _ in 0..100 {
        assert!(talk.ask(64), "the rule is gone around");
    }
    let after = vxgate.balanced();
    let filters = |status: &Value| status["direct"]["changes_by"]["filters"].clone();
    assert_eq!(
        (filters(&before.0), filters(&after.0)),
        (Value::Null, Value::Null)
    );
    assert!(direct(&after).out >= direct(&before).out + 99);
    // What does not go direct meets it.
    assert!(!self::talk(&lab).ask(64), "the rule forbids a new flow");
}

#[test]
fn what_the_kernel_routes_by_counts() {
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    let vxgate = Vxgate::start(&node, ALWAYS);
    let (pod, far) = (
        lab.client_address(Node::Master),
        lab.client_address(Node::Worker),
    );
    let pods = mac_text(&lab.client(Node::Master));
    let nobody = "02:00:00:00:00:99";
    let mut talk = talk(&lab);
    for (done, undone, what) in [
        (
            format!("ip route add blackhole {far}"),
            format!("ip route del blackhole {far}"),
            "route",
        ),
        (
            format!("ip neigh replace {pod} lladdr {nobody} dev cni0 nud permanent"),
            format!("ip neigh del {pod} dev cni0"),
            "neighbour",
        ),
        (
            format!("bridge fdb replace {pods} dev veth-web1 master static sticky"),
            format!("bridge fdb del {pods} dev veth-web1 master"),
            "fdb",
        ),
    ] {
        talk.until_direct(&vxgate);
        let heard = changes(&vxgate.status());
        node.run(&done);
        wait_until("the change is heard of", PATIENCE, || {
            changes(&vxgate.status()) > heard
        });
        let before = direct(&vxgate.status());
        assert!(!talk.ask(64), "an answer went around the {what}");
        assert_eq!(direct(&vxgate.balanced()).into, before.into, "{what}");
        node.run(&undone);
        wait_until("answers come again", PATIENCE, || talk.ask(64));
        let status = vxgate.status();
        let times = status.0["direct"]["changes_by"][what].as_u64();
        assert!(times > Some(0), "{what}: {}", status.0["direct"]);
    }
    talk.until_direct(&vxgate);
}

#[test]
fn a_pod_that_sends_in_anothers_name_gets_nothing_of_its() {
    let lab = Lab::up();
    let vxgate = Vxgate::start(&lab.node(Node::Master), ALWAYS);
    let forger = lab.netns("web1");
    // The bridge knows both: a pod that speaks for the first time is a change.
    for pod in [&forger, &lab.client(Node::Master)] {
        pod.run("ping -q -c 1 -W 3 10.244.0.1");
    }
    let mut talk = talk(&lab);
    let gateway = lab.mac(Node::Master, "cni0");
    let wire = RawSocket::open(&forger, "eth0");
    let forged = talk.forged(&mac_text(&forger), &gateway);
    // The first that is seen of the flow at all. The far end answers to the pod whose address it is.
    let before = vxgate.status();
    wait_until("the answers to what is forged go direct", PATIENCE, || {
        for _ in 0..FORGED {
            wire.send(&forged);
        }
        talk.hear_out();
        let listed = flow_between(&vxgate, talk.ends());
        listed["ways"] == "in" && listed["device"] == "veth-cli1"
    });
    wait_until("all that was forged has a fate", PATIENCE, || {
        handed_up(&vxgate.status(), "out", "total") >= handed_up(&before, "out", "total") + FORGED
    });
    assert_eq!(direct(&vxgate.balanced()).out, direct(&before).out);
    // Then the pod itself speaks.
    talk.until_direct(&vxgate);
    let before = vxgate.status();
    for _ in 0..FORGED {
        wire.send(&forged);
    }
    wait_until("what is forged is told from what is not", PATIENCE, || {
        handed_up(&vxgate.status(), "out", "spoofed")
            >= handed_up(&before, "out", "spoofed") + FORGED
    });
    assert_eq!(direct(&vxgate.balanced()).out, direct(&before).out);
    talk.hear_out();
    talk.until_direct(&vxgate);
}

#[test]
fn connections_survive_their_gateway_when_it_hangs_drains_ends_or_dies() {
    let usual = kinds(ALWAYS_BY_RING);
    let connections = if usual.len() > 1 {
        CONNECTIONS
    } else {
        SOME_CONNECTIONS
    };
    for flags in usual {
        let lab = Lab::up();
        lab.node(Node::Master).script(KUBE_PROXY);
        let connections = (connections, &*lab.client_address(Node::Worker));
        let troubles = [Trouble::Hangs, Trouble::Drains, Trouble::Ends];
        survive(&lab, flags, connections, &troubles);
    }
}

/// What the far end sends comes by plain routes: half of the flow is on the kernel's path, and that half ends it.
#[test]
fn a_connection_goes_direct_no_longer_when_it_ends_on_the_kernels_way() {
    let lab = Lab::up();
    let (node, far_node) = (lab.node(Node::Master), lab.node(Node::Worker));
    node.script(KUBE_PROXY);
    for device in ["all", "eth1"] {
        node.run(&format!("sysctl -qw net.ipv4.conf.{device}.rp_filter=0"));
    }
    far_node.run(&format!(
        "ip route replace {}.0/24 via {} dev eth1",
        Node::Master.subnet(),
        lab.vtep_address(Node::Master)
    ));
    let vxgate = Vxgate::start(&node, ALWAYS);
    let (client, far) = (lab.client(Node::Master), lab.client(Node::Worker));
    let listener = far.enter(|| TcpListener::bind("0.0.0.0:0").expect("a socket"));
    let port = listener.local_addr().expect("it is bound").port();
    let target = (lab.client_address(Node::Worker), port);
    let mut near = client.enter(|| TcpStream::connect(target).expect("connecting"));
    let (mut end, _) = listener.accept().expect("accepting");
    near.set_nodelay(true).expect("TCP_NODELAY");
    let ends = [near.local_addr(), near.peer_addr()].map(|end| end.expect("it is connected"));
    wait_until("what the pod says goes direct", PATIENCE, || {
        let before = direct(&vxgate.status()).out;
        for _ in 0..20 {
            let mut heard = [0; 64];
            near.write_all(&[1; 64]).expect("asking");
            end.read_exact(&mut heard).expect("it arrives");
            end.write_all(&heard).expect("answering");
            near.read_exact(&mut heard).expect("an answer");
        }
        direct(&vxgate.status()).out >= before + 20
    });
    let status = vxgate.status();
    assert_eq!(direct(&status).into, 0, "no answer does");
    // Without another word from the pod.
    set_socket_linger(&end, Some(Duration::ZERO)).expect("SO_LINGER");
    drop(end);
    wait_until("the flow goes direct no longer", PATIENCE, || {
        flow_between(&vxgate, ends)["ways"].is_null()
    });
    assert_eq!(
        changes(&vxgate.status()),
        changes(&status),
        "it is not another generation"
    );
    assert!(near.read(&mut [0]).is_err(), "the connection was reset");
    vxgate.balanced();
}
