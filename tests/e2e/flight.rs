//! The flight recorder: what is on record of the frames that died is what was sent, byte for byte.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::time::Duration;

use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use serde_json::Value;
use vxgate::stats::{DEAD_FRAME_LEN_MAX, DEAD_FRAMES_MAX, DropReason};

use crate::drops::{
    FROM_THE_OVERLAY, FROM_THE_UNDERLAY, PAYLOAD, SILENT, from_the_master, to_the_master,
};
use crate::support::frames::{RawSocket, VxlanFrame};
use crate::support::lab::{Lab, Node};
use crate::support::vxgate::Vxgate;
use crate::support::wait_until;

const BOUND: Duration = Duration::from_secs(5);

/// The frames on record that died of this, the latest first.
fn on_record(vxgate: &Vxgate, reason: DropReason) -> Vec<Value> {
    let document = vxgate.ask_json(&["drops", "--last", reason.label()]);
    let frames = document["frames"].as_array().expect("frames").clone();
    assert!(frames.len() <= DEAD_FRAMES_MAX, "{document}");
    assert!(frames.iter().all(|frame| frame["reason"] == reason.label()));
    frames
}

fn digits(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes.iter().take(DEAD_FRAME_LEN_MAX) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Sends a frame, and waits until it is the latest on record. `sent` tells how many died of each reason before.
fn dies(
    vxgate: &Vxgate,
    (reason, what): (DropReason, &str),
    sent: &mut BTreeMap<&'static str, u64>,
    frame: &[u8],
    send: impl Fn(&[u8]),
) -> Value {
    send(frame);
    let number = sent.entry(reason.label()).or_default();
    *number += 1;
    let mut latest = Value::Null;
    wait_until(&format!("{what} is on record"), BOUND, || {
        let frames = on_record(vxgate, reason);
        latest = frames.first().cloned().unwrap_or_default();
        latest["number"] == *number
    });
    assert_eq!(latest["bytes"], digits(frame), "{what}");
    assert_eq!(latest["len"], frame.len(), "{what}");
    assert_eq!(latest["shape"], "arrived", "{what}");
    latest
}

#[test]
fn every_frame_on_record_is_the_one_that_was_sent() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    // The kernel's own multicast (neighbour discovery) has no target either and would be recorded among ours.
    node.run("sysctl -qw net.ipv6.conf.flannel/1.disable_ipv6=1");
    node.run(&format!(
        "bridge fdb add {SILENT} dev flannel.1 dst 10.0.0.222 self permanent"
    ));
    // One worker, so that the frames of a reason are numbered one after the other.
    let vxgate = Vxgate::start(&node, &["--workers", "1"]);
    let mut sent = BTreeMap::new();
    let said = vxgate.tell(&["drops", "--last"]).printed();
    assert!(
        said.starts_with("no frame that died is on record\n"),
        "{said}"
    );

    let wire = RawSocket::open(&lab.netns("sw"), "p2");
    let good = from_the_master(&lab).bytes(PAYLOAD);
    for (reason, what, edit) in FROM_THE_UNDERLAY {
        let mut bad = good.clone();
        edit(&mut bad);
        let send = |frame: &[u8]| wire.send(frame);
        let latest = dies(&vxgate, (*reason, what), &mut sent, &bad, send);
        assert_eq!(latest["port"], "eth1", "{what}");
        assert_eq!(latest["direction"], "rx", "{what}");
    }
    // Of a long one, the first bytes.
    let stranger = VxlanFrame {
        outer: [[10, 0, 0, 100].into(), [10, 0, 0, 11].into()],
        ..from_the_master(&lab)
    };
    let long = stranger.bytes(&[0x5a; 1000]);
    let death = (DropReason::UnknownPeer, "a long frame of a stranger");
    dies(&vxgate, death, &mut sent, &long, |frame| wire.send(frame));

    let device = RawSocket::open(&node, "flannel.1");
    let good = to_the_master(&lab);
    for (reason, what, edit) in FROM_THE_OVERLAY {
        let mut bad = good.clone();
        edit(&mut bad);
        let send = |frame: &[u8]| device.send(frame);
        let latest = dies(&vxgate, (*reason, what), &mut sent, &bad, send);
        assert_eq!(latest["port"], "flannel.1", "{what}");
        assert_eq!(latest["direction"], "tx", "{what}");
    }
    let status = vxgate.balanced();
    for (reason, number) in &sent {
        let dropped = status.drops("underlay", reason) + status.drops("access", reason);
        assert_eq!(dropped, *number, "{reason}");
        let reason = DropReason::ALL.iter().find(|one| one.label() == *reason);
        let kept = on_record(&vxgate, *reason.expect("a reason")).len();
        assert_eq!(kept, DEAD_FRAMES_MAX.min(*number as usize), "{reason:?}");
    }
    told_in_words(&vxgate);
    captured(&vxgate);
    vxgate.stop();
}

/// The table has an example, the text the headers and the bytes.
fn told_in_words(vxgate: &Vxgate) {
    let ends = "10.0.0.100 vni 1: 10.244.0.14 > 10.244.1.14";
    let table = vxgate.tell(&["drops"]).printed();
    let line = table.lines().find(|line| line.starts_with("unknown_peer "));
    assert!(line.is_some_and(|line| line.ends_with(ends)), "{table}");
    let table = vxgate.ask_json(&["drops"]);
    let all = table["drops"].as_array().expect("reasons");
    let unknown = all.iter().find(|one| one["reason"] == "unknown_peer");
    assert_eq!(unknown.expect("the reason")["example"], ends);

    let said = vxgate.tell(&["drops", "--last", "unknown_peer"]).printed();
    let expected = [
        "unknown_peer  rx  eth1  worker 0  ",
        "1092 bytes as it arrived\n",
        "10.0.0.100 > 10.0.0.11, UDP ",
        "  VXLAN 1: ",
        "10.244.0.14 > 10.244.1.14, UDP 40000 > 9999\n",
        "\n  0040  ",
    ];
    for words in expected {
        assert!(said.contains(words), "{words}\n{said}");
    }
    assert_eq!(vxgate.tell(&["drops", "--last", "bad_luck"]).code, Some(2));
}

/// The capture has what the JSON has.
fn captured(vxgate: &Vxgate) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("last.pcapng");
    let name = path.to_str().expect("UTF-8");
    let said = vxgate.tell(&["drops", "--last", "--pcap", name]).printed();
    assert_eq!(said, "");
    let mut reader = PcapNgReader::new(File::open(&path).expect("a file")).expect("pcapng");
    let mut seen: Vec<(String, String)> = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::EnhancedPacket(packet) = block.expect("a block") {
            let comment = packet.options.iter().find_map(|option| match option {
                EnhancedPacketOption::Comment(words) => Some(words.to_string()),
                _ => None,
            });
            let comment = comment.expect("a comment");
            let reason = comment.split(' ').nth(1).expect("a reason").to_owned();
            seen.push((reason, digits(&packet.data)));
        }
    }
    let document = vxgate.ask_json(&["drops", "--last"]);
    let frames = document["frames"].as_array().expect("frames").iter();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let mut told: Vec<_> = frames
        .map(|frame| (text(&frame["reason"]), text(&frame["bytes"])))
        .collect();
    assert!(told.len() > FROM_THE_UNDERLAY.len() / 2);
    told.sort();
    seen.sort();
    assert_eq!(seen, told);
    // To standard output it is the same.
    let file = fs::read(&path).expect("the capture");
    let stdout = vxgate.tell_bytes(&["drops", "--last", "--pcap", "-"]);
    assert_eq!(stdout.len(), file.len());
}
