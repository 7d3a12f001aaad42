//! `vxgate peers`: what was counted of each remote VTEP, against what was really sent.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::drops::{PAYLOAD, PORT, from_the_master, to_the_master};
use crate::pod::Pod;
use crate::support::frames::RawSocket;
use crate::support::lab::{Lab, Node};
use crate::support::vxgate::{BINARY, Status, Vxgate};
use crate::support::wait_until;

const FRAMES: u64 = 1000;
/// A ring of 256 frames holds them all, however late its reader is.
const BURST: u64 = 200;
const BOUND: Duration = Duration::from_secs(10);
const MASTER: &str = "10.0.0.10";

/// The count of the master, and of everything else together.
fn counted(vxgate: &Vxgate, key: &str) -> (u64, u64) {
    let document = vxgate.ask_json(&["peers"]);
    let number = |value: &Value| value[key].as_u64().expect("a count");
    let peers = document["peers"].as_array().expect("peers");
    let (master, others): (Vec<_>, Vec<_>) = peers.iter().partition(|peer| peer["addr"] == MASTER);
    assert_eq!(master.len(), 1, "{document}");
    let vnis = document["vnis"].as_array().expect("VNIs");
    let rest = vnis.iter().flat_map(|vni| [&vni["other"], &vni["former"]]);
    let rest = rest.chain(others).map(number).sum();
    (number(master[0]), rest)
}

#[test]
fn a_thousand_frames_each_way_move_a_peers_counters_by_a_thousand_and_no_others() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    // The kernel's own multicast (neighbour discovery) would be counted among ours.
    node.run("sysctl -qw net.ipv6.conf.flannel/1.disable_ipv6=1");
    let vxgate = Vxgate::start(&node, &[]);
    // Without a listener the pods would answer.
    let _pods = [Node::Worker, Node::Master].map(|node| Pod::listen(&lab.client(node), PORT));
    assert_eq!(counted(&vxgate, "received"), (0, 0));
    let moves = |key: &str, send: &dyn Fn()| {
        for sent in (0..=FRAMES).step_by(BURST as usize) {
            wait_until(&format!("{key} is {sent}"), BOUND, || {
                counted(&vxgate, key) == (sent, 0)
            });
            if sent < FRAMES {
                (0..BURST).for_each(|_| send());
            }
        }
    };
    let wire = RawSocket::open(&lab.netns("sw"), "p2");
    let from_master = from_the_master(&lab).bytes(PAYLOAD);
    moves("received", &|| wire.send(&from_master));
    let device = RawSocket::open(&node, "flannel.1");
    let to_master = to_the_master(&lab);
    moves("sent", &|| device.send(&to_master));
    // A frame that is dropped is nobody's.
    let mut strange = from_the_master(&lab);
    strange.outer[0] = [10, 0, 0, 100].into();
    wire.send(&strange.bytes(PAYLOAD));
    wait_until("a stranger's frame is dropped", BOUND, || {
        vxgate.status().drops("underlay", "unknown_peer") == 1
    });
    for key in ["received", "sent"] {
        assert_eq!(counted(&vxgate, key), (FRAMES, 0), "{key}");
    }
    // In bytes, too: with the outer headers only where they are sent.
    let inner = to_master.len() as u64;
    assert_eq!(counted(&vxgate, "received_bytes"), (FRAMES * inner, 0));
    assert_eq!(counted(&vxgate, "sent_bytes"), (FRAMES * (inner + 50), 0));

    // The peers of the status are the same, and what the ports say.
    let status = vxgate.balanced();
    let peers = vxgate.ask_json(&["peers", "--vni", "1"]);
    for (peer, same) in peers["peers"]
        .as_array()
        .expect("peers")
        .iter()
        .zip(status.list("peers"))
    {
        for key in [
            "device",
            "vni",
            "addr",
            "received",
            "received_bytes",
            "sent",
            "sent_bytes",
        ] {
            assert_eq!(peer[key], same[key], "{key}");
        }
    }
    let text = vxgate.tell(&["peers"]).printed();
    let sum = format!("flannel.1 VNI 1: 1 peer, received {FRAMES} frames, sent {FRAMES}\n");
    assert!(text.ends_with(&sum), "{text}");
    let dump = vxgate.tell(&["peers", "--dump"]).printed();
    let cells: Vec<_> = dump.trim_end().split('\t').collect();
    assert_eq!(cells.len(), 13, "{dump}");
    assert_eq!((cells[1], cells[7], cells[9]), (MASTER, "1000", "1000"));
    same_drops_and_workers(&vxgate);
    let said = vxgate.tell(&["peers", "--vni", "7"]);
    assert_eq!((said.code, said.out.as_str()), (Some(4), ""));
    let err = said.err;
    assert!(err.contains("VXG-0820") && err.contains("VNI 7"), "{err}");
    vxgate.stop();
}

/// `drops` and `workers` tell what `status` does.
fn same_drops_and_workers(vxgate: &Vxgate) {
    // An ARP probe of the underlay may arrive between two answers: told apart from a difference by asking on both sides.
    let mut told = None;
    wait_until("nothing arrives between two answers", BOUND, || {
        let status = vxgate.balanced();
        let drops = vxgate.ask_json(&["drops", "--since", "1h"]);
        let after = vxgate.balanced();
        let received = |status: &Status| -> Vec<_> {
            let ports = status.list("ports");
            ports.map(|port| port["received"].clone()).collect()
        };
        let still = received(&after) == received(&status);
        told = still.then_some((status, drops));
        still
    });
    let (status, drops) = told.expect("both answers");
    for one in drops["drops"].as_array().expect("reasons") {
        let reason = one["reason"].as_str().expect("a name");
        let of_ports = ["underlay", "access"].map(|role| status.drops(role, reason));
        assert_eq!(one["count"], of_ports[0] + of_ports[1], "{reason}");
        let known = one["last_age_ms"].is_u64();
        assert_eq!(known, one["count"] != 0, "{reason}");
    }
    for (port, same) in drops["balance"]
        .as_array()
        .expect("ports")
        .iter()
        .zip(status.list("ports"))
    {
        for key in ["received", "forwarded"] {
            assert_eq!(port[key], same[key], "{key}");
        }
    }
    let text = vxgate.tell(&["drops"]).printed();
    assert!(text.contains("unknown_peer"), "{text}");
    let mut watch = Command::new(BINARY)
        .args(["drops", "--watch", "--json", "--socket"])
        .arg(vxgate.socket())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut lines = BufReader::new(watch.stdout.take().expect("the pipe was asked for")).lines();
    for _ in 0..2 {
        let line = lines.next().expect("a line").expect("UTF-8");
        let document: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(document["since"], "takeover");
    }
    // Who has nobody to write for is done.
    drop(lines);
    assert!(watch.wait().expect("our child").success());

    let workers = vxgate.ask_json(&["workers"]);
    let workers = workers["workers"].as_array().expect("workers");
    let forwarded = workers.iter().map(|one| one["forwarded"].as_u64());
    let forwarded: u64 = forwarded.map(|count| count.expect("a count")).sum();
    let of_ports = ["underlay", "access"].map(|role| status.forwarded(role));
    assert_eq!(forwarded, of_ports[0] + of_ports[1]);
    let text = vxgate.tell(&["workers"]).printed();
    assert!(text.contains("LOST BEFORE IT"), "{text}");
}

/// Its place is kept, so that it goes on where it stopped; meanwhile its count is among those that are gone.
#[test]
fn a_peer_that_goes_and_comes_back_goes_on_counting() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    node.run("sysctl -qw net.ipv6.conf.flannel/1.disable_ipv6=1");
    let vxgate = Vxgate::start(&node, &[]);
    let _pod = Pod::listen(&lab.client(Node::Worker), PORT);
    let wire = RawSocket::open(&lab.netns("sw"), "p2");
    let from_master = from_the_master(&lab).bytes(PAYLOAD);
    let send = |frames: u64| (0..frames).for_each(|_| wire.send(&from_master));
    send(5);
    wait_until("they are counted", BOUND, || {
        counted(&vxgate, "received") == (5, 0)
    });
    let mac = lab.mac(Node::Master, "flannel.1");
    let entry = format!("{mac} dev flannel.1 dst {MASTER} self permanent");
    node.run(&format!("bridge fdb del {entry}"));
    let former = || {
        let document = vxgate.ask_json(&["peers"]);
        let peers = document["peers"].as_array().expect("peers").len();
        (peers, document["vnis"][0]["former"]["received"].as_u64())
    };
    wait_until("it is gone", BOUND, || former() == (0, Some(5)));
    assert_eq!(vxgate.balanced().unbalanced(), "");
    node.run(&format!("bridge fdb add {entry}"));
    wait_until("it is back", BOUND, || former() == (1, Some(0)));
    send(2);
    wait_until("it goes on", BOUND, || {
        counted(&vxgate, "received") == (7, 0)
    });
    vxgate.stop();
}
