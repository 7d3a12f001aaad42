//! What the node does with some frames of a flow and not with others, or with some flows and not with others: whatever it is set up
//! to, frames that go direct do not go around it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use super::{Ear, PATIENCE, Talk, flow_between, flow_of, handed_up, talk};
use crate::support::lab::{Lab, Node};
use crate::support::vxgate::Vxgate;
use crate::support::wait_until;
use crate::who::{ALWAYS, DIRECT, KUBE_PROXY};

/// A port on which conntrack's helper for FTP listens, and one on which none does.
const PORTS: [u16; 2] = [2121, 2122];
const HELPER: &str = "nft 'table ip help {
    ct helper ftp { type \"ftp\" protocol tcp; }
    chain pre { type filter hook prerouting priority filter; tcp dport 2121 ct helper set \"ftp\"; }
}'";
const HELD: &str = "conntrack has to see its frames";
/// More than the narrow ways take, less than others.
const LONG: usize = 1200;

/// Both ends of a connection from node 1's client to node 2's.
struct Line([TcpStream; 2]);

impl Line {
    fn connect(lab: &Lab, port: u16) -> Self {
        let (client, far) = (lab.client(Node::Master), lab.client(Node::Worker));
        let listener = far.enter(|| TcpListener::bind(("0.0.0.0", port)).expect("a socket"));
        let target = (lab.client_address(Node::Worker), port);
        let near = client.enter(|| TcpStream::connect(target).expect("connecting"));
        let (far, _) = listener.accept().expect("accepting");
        let ends = [near, far];
        for end in &ends {
            end.set_nodelay(true).expect("TCP_NODELAY");
            end.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
        }
        Self(ends)
    }

    fn ask(&mut self) {
        let [near, far] = &mut self.0;
        let mut heard = [0; 64];
        near.write_all(&[b'?'; 64]).expect("asking");
        far.read_exact(&mut heard).expect("it arrives");
        far.write_all(&heard).expect("answering");
        near.read_exact(&mut heard).expect("an answer");
    }

    fn ends(&self) -> [SocketAddr; 2] {
        let ends = [self.0[0].local_addr(), self.0[0].peer_addr()];
        ends.map(|end| end.expect("it is connected"))
    }
}

#[test]
fn what_a_helper_of_conntrack_reads_does_not_go_direct() {
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    node.script(KUBE_PROXY);
    node.script(HELPER);
    let vxgate = Vxgate::start(&node, DIRECT);
    let mut lines = PORTS.map(|port| Line::connect(&lab, port));
    wait_until(
        "the connection that nobody reads goes direct",
        PATIENCE,
        || {
            lines.iter_mut().for_each(Line::ask);
            let listed = lines.each_ref();
            let [read, other] = listed.map(|line| flow_between(&vxgate, line.ends()));
            assert!(read["ways"].is_null(), "{read}");
            let why = read["why_not_higher"].as_str();
            other["ways"] == "both" && why.is_some_and(|why| why.starts_with(HELD))
        },
    );
}

#[test]
fn what_conntrack_forgets_before_it_is_shown_a_frame_does_not_go_direct() {
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    let remember = |seconds: [u32; 2]| {
        for (name, seconds) in ["udp_timeout", "udp_timeout_stream"].iter().zip(seconds) {
            node.run(&format!(
                "sysctl -qw net.netfilter.nf_conntrack_{name}={seconds}"
            ));
        }
    };
    remember([5, 5]);
    let vxgate = Vxgate::start(&node, DIRECT);
    let mut talk = talk(&lab);
    wait_until("it is known why the flow stays", PATIENCE, || {
        assert!(talk.ask(64));
        let listed = flow_of(&vxgate, &talk);
        assert!(listed["ways"].is_null(), "{listed}");
        let why = listed["why_not_higher"].as_str();
        why.is_some_and(|why| why.starts_with(HELD))
    });
    remember([30, 120]);
    talk.until_direct(&vxgate);
}

#[test]
fn what_is_too_long_for_its_route_or_its_bridge_is_the_kernels_which_tells_its_sender() {
    let lab = Lab::up();
    let node = lab.node(Node::Master);
    let vxgate = Vxgate::start(&node, DIRECT);
    let pods = [Node::Master, Node::Worker];
    let [near, far] = pods.map(Node::subnet);
    let to_far = format!("ip route replace {far}.0/24 via {far}.0 dev flannel.1 onlink");
    let to_near = format!("ip route replace {near}.0/24 dev cni0 src {near}.1");
    for (asks, way, narrow, wide) in [
        (Node::Master, "out", format!("{to_far} mtu 1000"), to_far),
        (
            Node::Worker,
            "in",
            "ip link set cni0 mtu 1000".to_owned(),
            "ip link set cni0 mtu 1450".to_owned(),
        ),
        (Node::Worker, "in", format!("{to_near} mtu 1000"), to_near),
    ] {
        node.run(&narrow);
        let (from, to) = (lab.client(asks), lab.client(asks.peer()));
        let mut talk = Talk::start(&from, &to, &lab.client_address(asks.peer()));
        let oversize = || handed_up(&vxgate.status(), way, "oversize");
        // Should it be demoted in the midst for another reason, it is the kernel's for that one.
        wait_until(&format!("{narrow}: it is handed up"), PATIENCE, || {
            from.run("ip route flush cache");
            talk.until_direct(&vxgate);
            let before = oversize();
            assert!(!talk.ask(LONG), "{narrow}: it went around that");
            talk.hear_out();
            oversize() > before
        });
        wait_until("its sender has learned", PATIENCE, || talk.ask(LONG));
        node.run(&wide);
    }
    vxgate.balanced();
}

/// A pod that another one sends its frames to may do more than to route them: filter, count, or let none through any more.
#[test]
fn what_a_pod_routes_for_another_does_not_go_around_it() {
    for flags in [DIRECT, ALWAYS] {
        let lab = Lab::up();
        let node = lab.node(Node::Master);
        let (client, router) = (lab.client(Node::Master), lab.netns("web1"));
        let (address, via) = (
            lab.client_address(Node::Master),
            lab.web_address(Node::Master),
        );
        let forwards =
            |whether: u8| router.run(&format!("sysctl -qw net.ipv4.ip_forward={whether}"));
        for of in ["all", "eth0"] {
            router.run(&format!("sysctl -qw net.ipv4.conf.{of}.send_redirects=0"));
        }
        forwards(1);
        client.run(&format!("ip route replace default via {via}"));
        node.run(&format!("ip route add {address} via {via} dev cni0"));
        let vxgate = Vxgate::start(&node, flags);
        let mut talk = talk(&lab);
        wait_until("only its pod is not known", PATIENCE, || {
            let listed = flow_of(&vxgate, &talk);
            let why = listed["why_not_higher"].as_str();
            // Or the one that routes is taken for its pod: as such nobody goes around it.
            let known = why.is_some_and(|why| why.contains("pod's device"));
            talk.ask(64) && (known || !listed["ways"].is_null())
        });
        forwards(0);
        let mut far = Ear::open(&lab.client(Node::Worker), talk.ends()[1].port());
        // For as long as anybody still asks where its pod is.
        for _ in 0..100 {
            talk.say(64);
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(far.heard(), 0, "{flags:?}: it went around its router");
        forwards(1);
        wait_until("it is routed again", PATIENCE, || talk.ask(64));
    }
}
