//! What the operator decides in the configuration file: who may send to us, reserved bits, VLAN tags, checksums, congestion
//! marks. Frames are put on the wire one by one: each is delivered or dropped for the reason that the file asks for, the
//! counters move by exactly the number sent, and whoever should not have sent is named.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use serde_json::Value;
use tempfile::TempDir;
use vxgate::netlink::RequestBody;

use crate::pod::Pod;
use crate::support::frames::{RawSocket, VxlanFrame, finish_outer_ip, mac, offset};
use crate::support::lab::{Lab, Node};
use crate::support::netns::Netns;
use crate::support::vxgate::{BINARY, Status, Vxgate};
use crate::support::vxlan;
use crate::support::wait_until;

const FRAMES: u64 = 50;
const PORT: u16 = 9998;
const PAYLOAD: &[u8] = b"twenty bytes of data";
/// In no FDB.
const STRANGER: &str = "0e:24:40:00:77:77";

/// A lab, a place to put frames on its wire, and the socket that they are for.
struct Scene {
    lab: Lab,
    wire: RawSocket,
    pod: Pod,
    good: Vec<u8>,
}

/// What became of some frames: how many were delivered, and by how much the drops of each reason moved.
#[derive(Debug)]
struct Fates {
    delivered: u64,
    drops: Vec<(String, u64)>,
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::up();
        let wire = RawSocket::open(&lab.netns("sw"), "p2");
        let pod = Pod::listen(&lab.client(Node::Worker), PORT);
        let frame = VxlanFrame {
            outer_macs: [Node::Master, Node::Worker].map(|node| mac(&lab.mac(node, "eth1"))),
            outer: [[10, 0, 0, 10].into(), [10, 0, 0, 11].into()],
            inner_macs: [Node::Master, Node::Worker].map(|node| mac(&lab.mac(node, "flannel.1"))),
            inner: [[10, 244, 0, 14].into(), [10, 244, 1, 14].into()],
            port: PORT,
        };
        let good = frame.bytes(PAYLOAD);
        Self {
            lab,
            wire,
            pod,
            good,
        }
    }

    /// `vxgate run` on the worker with this configuration file.
    fn start(&self, text: &str) -> Vxgate {
        let (_folder, path) = file(text);
        Vxgate::start(&self.lab.node(Node::Worker), &["--config", &path])
    }

    /// The good frame, edited.
    fn frame(&self, edit: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
        let mut frame = self.good.clone();
        edit(&mut frame);
        finish_outer_ip(&mut frame);
        frame
    }

    /// Sends frames from the wire to the worker's pod, and tells what became of them.
    fn send<'a>(&self, vxgate: &Vxgate, frames: impl IntoIterator<Item = &'a Vec<u8>>) -> Fates {
        let [before, after] = self.put(vxgate, frames);
        let forwarded = after.forwarded("underlay") - before.forwarded("underlay");
        Fates {
            delivered: self.pod.delivered(forwarded),
            drops: moved(&before, &after, "underlay"),
        }
    }

    /// Sends frames from the wire to the worker; the status before, and when all of them have met their fate.
    fn put<'a>(
        &self,
        vxgate: &Vxgate,
        frames: impl IntoIterator<Item = &'a Vec<u8>>,
    ) -> [Status; 2] {
        let before = vxgate.balanced();
        let mut sent = 0;
        for frame in frames {
            self.wire.send(frame);
            sent += 1;
        }
        wait_until("the frames have arrived", Duration::from_secs(5), || {
            vxgate.status().received("underlay") >= before.received("underlay") + sent
        });
        [before, vxgate.balanced()]
    }
}

/// The reasons of which frames died between two looks, and how many.
fn moved(before: &Status, after: &Status, role: &str) -> Vec<(String, u64)> {
    let reasons = after
        .list("ports")
        .find(|port| port["role"] == role)
        .and_then(|port| port["drops"].as_object())
        .expect("a port has drops");
    reasons
        .keys()
        .filter(|reason| *reason != "total")
        .map(|reason| {
            let count = after.drops(role, reason) - before.drops(role, reason);
            (reason.clone(), count)
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// A configuration file that only its owner may write, and its path.
fn file(text: &str) -> (TempDir, String) {
    let folder = TempDir::with_prefix("vxgate-config-").expect("a temporary directory");
    let path = folder.path().join("vxgate.toml");
    fs::write(&path, text).expect("writing to it");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
    let path = path.to_str().expect("a path in UTF-8").to_owned();
    (folder, path)
}

fn set_outer_source(frame: &mut [u8], address: [u8; 4]) {
    frame[offset::IP + 12..offset::IP + 16].copy_from_slice(&address);
}

fn set_inner_source(frame: &mut [u8], source: &str) {
    frame[offset::INNER + 6..offset::INNER + 12].copy_from_slice(&mac(source));
}

fn set_bits(frame: &mut [u8], bits: u64) {
    for (byte, set) in frame[offset::VXLAN..offset::INNER]
        .iter_mut()
        .zip(bits.to_be_bytes())
    {
        *byte |= set;
    }
}

/// The 39 bits beside I flag and VNI, the first byte's highest as bit 63.
fn reserved_bits() -> impl Iterator<Item = u64> {
    let bits = (0..64).map(|bit| 1_u64 << bit);
    bits.filter(|bit| bit & 0x0800_0000_ffff_ff00 == 0)
}

/// Whom the status names, without the time.
fn offenders(status: &Status) -> Vec<Value> {
    status
        .list("offenders")
        .map(|offender| {
            let mut offender = offender.clone();
            let fields = offender.as_object_mut().expect("an object");
            let age = fields.remove("age_ms").and_then(|age| age.as_u64());
            assert!(age.is_some_and(|age| age < 60_000), "{fields:?}");
            offender
        })
        .collect()
}

#[test]
fn d02_each_peer_check_lets_in_whom_it_says_and_names_the_others() {
    let scene = Scene::new();
    let (worker, known) = (
        scene.lab.node(Node::Worker),
        scene.lab.mac(Node::Master, "flannel.1"),
    );
    let stranger = scene.frame(|frame| set_outer_source(frame, [10, 0, 0, 100]));
    let spoofed = scene.frame(|frame| set_inner_source(frame, STRANGER));
    let offender = |source: &str, inner: &str, reason: &str, delivered: bool| {
        serde_json::json!({
            "source": source, "vni": 1, "inner_source": inner, "reason": reason,
            "delivered": delivered, "port": "eth1", "frames": FRAMES,
        })
    };
    let unknown = |delivered| offender("10.0.0.100", &known, "unknown_peer", delivered);
    let spoof = offender("10.0.0.10", STRANGER, "inner_spoof", false);
    // What is dropped of the strangers and of the spoofed, and who is named, the latest first.
    for (peer_check, of_stranger, of_spoofed, named) in [
        ("strict", Some("unknown_peer"), None, vec![unknown(false)]),
        (
            "strict-mac",
            Some("unknown_peer"),
            Some("inner_spoof"),
            vec![spoof, unknown(false)],
        ),
        ("log", None, None, vec![unknown(true)]),
        ("off", None, None, vec![]),
    ] {
        let vxgate = scene.start(&format!("[overlay]\npeer_check = \"{peer_check}\"\n"));
        assert_eq!(vxgate.status().0["policy"]["peer_check"], peer_check);
        for (what, frame, reason) in [
            ("good", &scene.good, None),
            ("stranger", &stranger, of_stranger),
            ("spoofed", &spoofed, of_spoofed),
        ] {
            let fates = scene.send(&vxgate, (0..FRAMES).map(|_| frame));
            let expected = match reason {
                Some(reason) => (0, vec![(reason.to_owned(), FRAMES)]),
                None => (FRAMES, vec![]),
            };
            assert_eq!(
                (fates.delivered, fates.drops),
                expected,
                "{peer_check}: {what}"
            );
        }
        let status = vxgate.balanced();
        assert_eq!(offenders(&status), named, "{peer_check}");
        let let_in: u64 = status
            .list("ports")
            .filter_map(|port| port["strangers_delivered"].as_u64())
            .sum();
        let logged = u64::from(peer_check == "log") * FRAMES;
        assert_eq!(let_in, logged, "{peer_check}");
        let socket = vxgate.socket().display();
        let screen = worker.run(&format!("{BINARY} status --socket {socket}"));
        let shown = screen.contains("10.0.0.100 VNI 1 inner source");
        assert_eq!(shown, !named.is_empty(), "{peer_check}: {screen}");
        if peer_check == "log" {
            let line = "frames of unknown VTEPs were delivered";
            wait_until("the log tells of it", Duration::from_secs(5), || {
                vxgate.output().contains(line)
            });
            assert_eq!(
                vxgate.output().matches(line).count(),
                1,
                "a line, not {FRAMES}"
            );
        }
        println!("    {peer_check}: as it says");
        vxgate.stop();
    }
}

#[test]
fn v02_d01_reserved_bits_are_judged_as_the_file_says() {
    const MASK: u64 = 0x8100_0010_0000_0081;
    let scene = Scene::new();
    for (setting, let_through) in [
        ("device".to_owned(), 0),
        ("strict".to_owned(), 0),
        ("ignore".to_owned(), u64::MAX),
        (format!("mask:{MASK:016x}"), MASK),
    ] {
        let vxgate = scene.start(&format!("[overlay]\nreserved_bits = \"{setting}\"\n"));
        let (good, bad): (Vec<_>, Vec<_>) = reserved_bits().partition(|bit| bit & let_through != 0);
        let with_bit = |bit: &u64| scene.frame(|frame| set_bits(frame, *bit));
        let (good, bad): (Vec<_>, Vec<_>) = (
            good.iter().map(with_bit).collect(),
            bad.iter().map(with_bit).collect(),
        );
        let fates = scene.send(&vxgate, good.iter().chain([&scene.good]));
        assert_eq!(
            fates.delivered,
            good.len() as u64 + 1,
            "{setting}: {fates:?}"
        );
        assert_eq!(fates.drops, [], "{setting}");
        let fates = scene.send(&vxgate, &bad);
        let expected: Vec<_> = (!bad.is_empty())
            .then(|| ("reserved_bits".to_owned(), bad.len() as u64))
            .into_iter()
            .collect();
        assert_eq!((fates.delivered, fates.drops), (0, expected), "{setting}");
        println!("    {setting}: {} of 39 delivered", good.len());
        vxgate.stop();
    }
}

/// Bits that a device with the attribute of [`lenient_device`] lets through.
const LET_THROUGH: u64 = 0x8000_0001_0000_0011;

/// A device whose attribute `reserved_bits` lets some through: iproute2 has no word for it before 6.13.
fn lenient_device(node: &Netns) {
    let underlay = node.enter(|| if_nametoindex("eth1").expect("the node has eth1"));
    let data = RequestBody::default()
        .with(1, &33_u32.to_ne_bytes())
        .with(3, &underlay.to_ne_bytes())
        .with(4, &[10, 0, 0, 11])
        .with(7, &[0])
        .with(15, &8473_u16.to_be_bytes())
        .with(33, &(!LET_THROUGH & !0x0800_0000_ffff_ff00).to_be_bytes());
    vxlan::add(node, "lenient", &data);
    node.run("ip addr add 10.98.0.2/24 dev lenient");
    node.run("ip link set lenient up");
    node.run(&format!(
        "bridge fdb add {STRANGER} dev lenient dst 10.0.0.10 self permanent"
    ));
}

#[test]
fn v02_a_device_with_reserved_bits_of_its_own_is_followed() {
    let scene = Scene::new();
    let node = scene.lab.node(Node::Worker);
    lenient_device(&node);
    let pod = Pod::listen(&node, PORT);
    let inner = VxlanFrame {
        outer_macs: [Node::Master, Node::Worker].map(|node| mac(&scene.lab.mac(node, "eth1"))),
        outer: [[10, 0, 0, 10].into(), [10, 0, 0, 11].into()],
        inner_macs: [mac(STRANGER), mac(&scene.lab.mac(Node::Worker, "lenient"))],
        inner: [[10, 98, 0, 1].into(), [10, 98, 0, 2].into()],
        port: PORT,
    };
    let frames: Vec<_> = reserved_bits()
        .chain([0, LET_THROUGH])
        .map(|bits| {
            let mut frame = inner.bytes(PAYLOAD);
            frame[offset::VXLAN + 4..offset::VXLAN + 7].copy_from_slice(&[0, 0, 33]);
            frame[offset::UDP + 2..offset::UDP + 4].copy_from_slice(&8473_u16.to_be_bytes());
            set_bits(&mut frame, bits);
            frame
        })
        .collect();
    let expected = u64::from(LET_THROUGH.count_ones()) + 2;
    // The kernel itself first.
    frames.iter().for_each(|frame| scene.wire.send(frame));
    assert_eq!(pod.delivered(expected), expected, "by the kernel");

    let vxgate = Vxgate::start(&node, &["--vxlan", "lenient"]);
    let [before, after] = scene.put(&vxgate, &frames);
    assert_eq!(pod.delivered(expected), expected, "by vxgate");
    let dropped = frames.len() as u64 - expected;
    let drops = moved(&before, &after, "underlay");
    assert_eq!(drops, [("reserved_bits".to_owned(), dropped)]);
    let forwarded = after.forwarded("underlay") - before.forwarded("underlay");
    assert_eq!(forwarded, expected, "nothing went past vxgate");
    vxgate.stop();
}

#[test]
fn v08_v06_d03_tags_checksums_and_marks_follow_the_file() {
    let scene = Scene::new();
    let node = scene.lab.node(Node::Worker);
    // The kernel's own multicast would be counted among ours.
    node.run("sysctl -qw net.ipv6.conf.flannel/1.disable_ipv6=1");
    let vxgate = scene.start(
        "[overlay]\ninner_vlan = \"drop\"\nudp_checksum_rx = \"verify\"\necn_encap = \"rfc6040\"\n",
    );
    let tag = |frame: &mut Vec<u8>, at: usize| {
        frame.splice(at..at, [0x81, 0, 0, 10]);
    };
    let tagged = scene.frame(|frame| {
        tag(frame, offset::INNER + 12);
        let (ip_len, udp_len) = (
            (frame.len() - offset::IP) as u16,
            (frame.len() - offset::UDP) as u16,
        );
        frame[offset::IP + 2..offset::IP + 4].copy_from_slice(&ip_len.to_be_bytes());
        frame[offset::UDP + 4..offset::UDP + 6].copy_from_slice(&udp_len.to_be_bytes());
    });
    let bad_sum = scene.frame(|frame| frame[offset::UDP + 6] = 0x55);
    for (frame, reason) in [(&tagged, "inner_vlan"), (&bad_sum, "outer_csum")] {
        let fates = scene.send(&vxgate, (0..FRAMES).map(|_| frame));
        assert_eq!(fates.drops, [(reason.to_owned(), FRAMES)]);
        assert_eq!(fates.delivered, 0);
    }
    let fates = scene.send(&vxgate, [&scene.good]);
    assert_eq!((fates.delivered, fates.drops), (1, vec![]));

    // The other way: from this node's pod to the other's.
    let device = RawSocket::open(&node, "flannel.1");
    let mut outward = scene.good[offset::INNER..].to_vec();
    let (to, from) = outward[..12].split_at_mut(6);
    to.swap_with_slice(from);
    let mut tagged = outward.clone();
    tag(&mut tagged, 12);
    let before = vxgate.balanced();
    (0..FRAMES).for_each(|_| device.send(&tagged));
    let mut after = before.clone();
    wait_until("they are counted", Duration::from_secs(5), || {
        after = vxgate.status();
        after.drops("access", "inner_vlan") - before.drops("access", "inner_vlan") == FRAMES
    });
    assert_eq!(
        moved(&before, &after, "access"),
        [("inner_vlan".to_owned(), FRAMES)]
    );
    // Congestion inside is told outside.
    outward[15] |= 3;
    finish_outer_ip(&mut outward);
    let wire = RawSocket::open(&scene.lab.netns("sw"), "p2");
    device.send(&outward);
    let mut class = None;
    wait_until("the frame is on the wire", Duration::from_secs(5), || {
        while let Some(frame) = wire.receive() {
            if frame.get(offset::INNER..) == Some(&outward) {
                class = Some(frame[offset::IP + 1]);
            }
        }
        class.is_some()
    });
    assert_eq!(class, Some(3), "CE inside, CE outside");
    vxgate.stop();
}

/// `vxgate run --check` with these arguments; no namespace is needed, since it touches nothing.
fn check(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(BINARY)
        .args(["run", "--check"])
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .expect("the program runs")
}

/// It refuses with exit code 78 and these words.
fn is_invalid(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(output.stdout.is_empty(), "{output:?}");
    for word in words {
        assert!(said.contains(word), "it says '{word}': {said}");
    }
}

#[test]
fn settings_are_judged_without_touching_anything() {
    let (_folder, good) =
        file("[overlay]\npeer_check = \"log\"\n[control]\nsocket = \"/nowhere/s\"\n");
    let output = check(&["--config", &good], &[]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"the settings are valid\n");
    assert!(check(&[], &[("VXGATE_CONFIG", &good)]).status.success());

    let (_folder, bad) = file("[overlay]\npeer_chek = \"log\"\necn_encap = \"rfc640\"\n");
    let words = [
        bad.as_str(),
        "line 2: overlay.peer_chek: no such key; did you mean peer_check?",
        "line 3: overlay.ecn_encap: \"rfc640\" cannot be",
        "did you mean \"rfc6040\"?",
    ];
    is_invalid(&check(&["--config", &bad], &[]), &words);
    is_invalid(&check(&[], &[("VXGATE_CONFIG", &bad)]), &words);
    // A flag does not make a wrong file right.
    is_invalid(
        &check(&["--config", &bad, "--ecn-encap", "kernel"], &[]),
        &words,
    );
    is_invalid(
        &check(&["--config", "/nowhere/vxgate.toml"], &[]),
        &["/nowhere/vxgate.toml", "No such file"],
    );
    is_invalid(
        &check(&[], &[("VXGATE_PEER_CHECK", "strickt")]),
        &["--peer-check 'strickt'", "did you mean \"strict\"?"],
    );
    is_invalid(
        &check(&["--workers", "99"], &[]),
        &["--workers 99", "1 to 64"],
    );
    fs::set_permissions(&good, fs::Permissions::from_mode(0o666)).expect("chmod");
    is_invalid(
        &check(&["--config", &good], &[]),
        &[&good, "everybody may write", "chmod o-w"],
    );
}

#[test]
fn a_flag_counts_before_the_environment_before_the_file_and_an_invalid_file_starts_nothing() {
    let scene = Scene::new();
    let node = scene.lab.node(Node::Worker);
    let (_folder, path) =
        file("[overlay]\npeer_check = \"log\"\ninner_vlan = \"drop\"\necn_encap = \"compat\"\n");
    let devices = node.devices();
    let (_folder_of_bad, bad) = file("[overlay]\npeer_check = \"nobody\"\n");
    let output = node
        .command(BINARY)
        .args(["run", "--config", &bad])
        .output()
        .expect("it runs to its end");
    is_invalid(
        &output,
        &["line 2: overlay.peer_check: \"nobody\" cannot be"],
    );
    assert_eq!(node.devices(), devices, "nothing was made");

    let folder = TempDir::with_prefix("vxgate-test-").expect("a temporary directory");
    let socket = folder.path().join("s");
    let socket = socket.to_str().expect("a path in UTF-8");
    let mut child = node
        .command("env")
        .args(["VXGATE_PEER_CHECK=off", "VXGATE_INNER_VLAN=pass"])
        .args([BINARY, "run", "--socket", socket, "--config", &path])
        .args(["--peer-check", "strict-mac"])
        .spawn()
        .expect("it starts");
    let mut answer = None;
    wait_until("it answers", Duration::from_secs(20), || {
        let text = node.try_run(&format!("{BINARY} status --json --socket {socket}"));
        answer = text
            .ok()
            .and_then(|text| serde_json::from_str::<Value>(&text).ok());
        answer.is_some()
    });
    crate::support::netns::run(&["kill", &child.id().to_string()]);
    assert!(child.wait().expect("our child").success());
    let policy = &answer.expect("it answered")["policy"];
    assert_eq!(policy["peer_check"], "strict-mac", "the flag");
    assert_eq!(policy["inner_vlan"], "pass", "the environment");
    assert_eq!(policy["ecn_encap"], "compat", "the file");
    assert_eq!(policy["udp_checksum_rx"], "auto", "the default");
}
