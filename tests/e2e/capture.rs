//! `vxgate capture` and `vxgate observe`: what they show is what passed, as tcpdump saw it on a node with the kernel's vxlan; what is
//! not in a capture is counted; and nothing of the traffic depends on who looks.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use serde_json::Value;
use tempfile::TempDir;

use crate::drops::{PAYLOAD, PORT, from_the_master, to_the_master};
use crate::pod::Pod;
use crate::schema::assert_is;
use crate::support::frames::{RawSocket, offset};
use crate::support::lab::{Lab, Node};
use crate::support::vxgate::{BINARY, Superframes, Vxgate};
use crate::support::wait_until;

const BOUND: Duration = Duration::from_secs(10);
const FRAMES: u64 = 50;

/// A `vxgate capture` that writes a file.
pub struct Running {
    child: Child,
    folder: TempDir,
}

/// How it ended: frames written, seen and lost.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    pub written: u64,
    pub seen: u64,
    pub lost: u64,
}

impl Running {
    /// Returns when frames are seen.
    pub fn start(vxgate: &Vxgate, words: &[&str]) -> Self {
        let folder = TempDir::with_prefix("vxgate-capture-").expect("a temporary directory");
        let child = Command::new(BINARY)
            .arg("capture")
            .arg("--socket")
            .arg(vxgate.socket())
            .arg("-w")
            .arg(folder.path().join("x.pcapng"))
            .args(words)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        let mut running = Self { child, folder };
        wait_until("the capture has begun", BOUND, || {
            if let Some(status) = running.child.try_wait().expect("our child") {
                panic!("{words:?}: {status}: {}", running.said());
            }
            running.file().metadata().is_ok_and(|file| file.len() > 0)
        });
        running
    }

    pub fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("x.pcapng")
    }

    fn said(&mut self) -> String {
        let mut said = String::new();
        let pipe = self.child.stderr.as_mut().expect("it was asked for");
        pipe.read_to_string(&mut said).expect("UTF-8");
        said
    }

    fn signal(&self, signal: Signal) {
        signal::kill(Pid::from_raw(self.child.id() as i32), signal).expect("it runs");
    }

    pub fn end(&mut self) -> Ended {
        self.signal(Signal::SIGINT);
        self.wait()
    }

    fn wait(&mut self) -> Ended {
        let said = self.said();
        let status = self.child.wait().expect("our child");
        assert!(status.success(), "{status}: {said}");
        let numbers: Vec<u64> = said
            .split(' ')
            .filter_map(|word| word.parse().ok())
            .collect();
        let [written, seen, lost] = numbers[..] else {
            panic!("{said}")
        };
        assert_eq!(
            said,
            format!("{written} frames written, {seen} seen, {lost} lost\n")
        );
        Ended {
            written,
            seen,
            lost,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The only capture that runs: what the daemon says of it.
fn state(vxgate: &Vxgate) -> Value {
    let status = vxgate.status();
    let captures: Vec<_> = status.list("captures").collect();
    assert_eq!(captures.len(), 1, "{}", status.0);
    captures[0].clone()
}

fn wait_seen(vxgate: &Vxgate, frames: u64) {
    wait_until("the capture has seen all frames", BOUND, || {
        let state = state(vxgate);
        state["seen"].as_u64() == Some(frames) && state["lost"] == 0
    });
}

/// What a frame of a capture is: interface, comment, bytes.
pub type Frame = (String, String, Vec<u8>);

pub fn frames(path: &Path) -> Vec<Frame> {
    let mut reader = PcapNgReader::new(File::open(path).expect("a file")).expect("pcapng");
    let (mut names, mut frames) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        match block.expect("a block") {
            Block::InterfaceDescription(interface) => {
                let name = interface.options.iter().find_map(|option| match option {
                    pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                    _ => None,
                });
                names.push(name.expect("a name"));
            }
            Block::EnhancedPacket(packet) => {
                assert_eq!(packet.original_len as usize, packet.data.len());
                let comment = packet.options.iter().find_map(|option| match option {
                    EnhancedPacketOption::Comment(words) => Some(words.to_string()),
                    _ => None,
                });
                let name = names[packet.interface_id as usize].clone();
                frames.push((name, comment.expect("a comment"), packet.data.to_vec()));
            }
            _ => {}
        }
    }
    frames
}

/// How many frames there are of each kind.
fn kinds(frames: &[Frame]) -> BTreeMap<(String, String), usize> {
    let mut kinds = BTreeMap::new();
    for (name, comment, _) in frames {
        *kinds.entry((name.clone(), comment.clone())).or_default() += 1;
    }
    kinds
}

/// What tshark reads of a file: an array of fields a frame.
fn decoded(path: &Path, fields: &[&str]) -> Vec<Vec<String>> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(path);
    tshark.args([
        "-n",
        "-d",
        "udp.port==8472,vxlan",
        "-T",
        "fields",
        "-E",
        "separator=;",
    ]);
    tshark.args(fields.iter().flat_map(|field| ["-e", field]));
    let output = tshark.output().expect("tshark is installed");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines()
        .map(|line| line.split(';').map(str::to_owned).collect())
        .collect()
}

/// Nothing but what the test sends.
fn quiet_lab() -> Lab {
    let lab = Lab::up();
    for node in [Node::Worker, Node::Master] {
        lab.node(node)
            .run("sysctl -qw net.ipv6.conf.flannel/1.disable_ipv6=1");
    }
    lab
}

fn tcpdump(lab: &Lab, path: &Path) -> Child {
    let mut child = lab
        .node(Node::Master)
        .command("tcpdump")
        .args(["-U", "-n", "-i", "eth1", "-s", "0", "-w"])
        .arg(path)
        .args(["udp", "port", "8472"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("iproute2 is installed");
    let mut lines = BufReader::new(child.stderr.take().expect("it was asked for")).lines();
    let listens = lines
        .by_ref()
        .map_while(Result::ok)
        .any(|line| line.contains("listening on"));
    assert!(listens, "tcpdump listens");
    std::thread::spawn(move || lines.for_each(drop));
    child
}

#[test]
fn a_capture_has_what_tcpdump_has_on_the_other_node_and_tshark_reads_both() {
    let lab = quiet_lab();
    let vxgate = Vxgate::start_with(&lab.node(Node::Worker), Superframes::Off, &[]);
    let _pods = [Node::Worker, Node::Master].map(|node| Pod::listen(&lab.client(node), PORT));
    let folder = TempDir::with_prefix("vxgate-tcpdump-").expect("a temporary directory");
    let theirs = folder.path().join("kernel.pcap");
    let mut dump = tcpdump(&lab, &theirs);
    let mut ours = Running::start(
        &vxgate,
        &[
            "--point",
            "underlay",
            "udp",
            "port",
            "8472",
            "and",
            "host",
            "10.0.0.10",
        ],
    );
    // The master's kernel encapsulates some, the worker's vxgate others; lengths tell them apart.
    let from_master = RawSocket::open(&lab.node(Node::Master), "flannel.1");
    let from_worker = RawSocket::open(&lab.node(Node::Worker), "flannel.1");
    let mut inward = from_the_master(&lab)
        .bytes(PAYLOAD)
        .split_off(offset::INNER);
    let mut outward = to_the_master(&lab);
    for _ in 0..FRAMES {
        inward.push(1);
        outward.push(2);
        from_master.send(&inward);
        from_worker.send(&outward);
    }
    wait_seen(&vxgate, 2 * FRAMES);
    wait_until("tcpdump has written as much", BOUND, || {
        let ours = ours.file().metadata().expect("a file").len();
        let theirs = theirs.metadata().map_or(0, |file| file.len());
        ours > 0 && theirs > 2 * FRAMES * 120
    });
    let ended = ours.end();
    assert_eq!(
        (ended.written, ended.seen, ended.lost),
        (2 * FRAMES, 2 * FRAMES, 0)
    );
    signal::kill(Pid::from_raw(dump.id() as i32), Signal::SIGINT).expect("it runs");
    assert!(dump.wait().expect("our child").success());

    let mut reader = PcapReader::new(File::open(&theirs).expect("a file")).expect("pcap");
    let mut theirs_bytes = Vec::new();
    while let Some(packet) = reader.next_packet() {
        theirs_bytes.push(packet.expect("a frame").data.to_vec());
    }
    let seen = frames(&ours.file());
    let mut ours_bytes: Vec<_> = seen.iter().map(|(_, _, bytes)| bytes.clone()).collect();
    theirs_bytes.sort();
    ours_bytes.sort();
    assert!(
        ours_bytes == theirs_bytes,
        "{} and {}",
        ours_bytes.len(),
        theirs_bytes.len()
    );
    let kind = |name: &str, comment: &str| ((name.to_owned(), comment.to_owned()), FRAMES as usize);
    assert_eq!(
        kinds(&seen),
        BTreeMap::from([
            kind(
                "underlay-rx eth1",
                &format!(
                    "verdict deliver, peer 10.0.0.10, vni 1, worker {}",
                    worker_of(&seen, "underlay-rx")
                ),
            ),
            kind(
                "underlay-tx eth1",
                &format!(
                    "verdict sent, peer 10.0.0.10, vni 1, worker {}",
                    worker_of(&seen, "underlay-tx")
                ),
            ),
        ])
    );
    let fields = ["frame.protocols", "vxlan.vni", "ip.src", "ip.dst"];
    let mut both = [decoded(&theirs, &fields), decoded(&ours.file(), &fields)];
    for lines in &mut both {
        for line in lines.iter_mut() {
            // A comment is a protocol to tshark.
            line[0] = line[0].replace("pkt_comment:", "");
        }
        lines.sort();
    }
    assert_eq!(both[0], both[1]);
    assert!(
        both[0]
            .iter()
            .all(|line| line[0].contains("vxlan:eth:ethertype:ip:udp") && line[1] == "1")
    );
    let said = decoded(&ours.file(), &["frame.interface_name", "frame.comment"]);
    assert!(
        said.iter()
            .all(|line| line[0].starts_with("underlay-") && line[1].starts_with("verdict "))
    );
    vxgate.stop();
}

/// The worker that had the frames of a point: one flow is always with the same.
fn worker_of(frames: &[Frame], point: &str) -> String {
    let mut frames = frames.iter();
    let (_, comment, _) = frames
        .find(|(name, _, _)| name.starts_with(point))
        .expect("frames");
    comment.rsplit(' ').next().expect("a number").to_owned()
}

#[test]
fn both_sides_are_seen_with_verdicts_and_filters_are_about_either() {
    let lab = quiet_lab();
    let vxgate = Vxgate::start_with(&lab.node(Node::Worker), Superframes::Off, &[]);
    let _pods = [Node::Worker, Node::Master].map(|node| Pod::listen(&lab.client(node), PORT));
    let wire = RawSocket::open(&lab.netns("sw"), "p2");
    let device = RawSocket::open(&lab.node(Node::Worker), "flannel.1");
    let good = from_the_master(&lab);
    let mut strange = good.clone();
    strange.outer[0] = [10, 0, 0, 100].into();
    let mut other = good.clone();
    other.port = PORT + 1;
    let mut all = Running::start(&vxgate, &[]);
    let mut inner = Running::start(
        &vxgate,
        &["--inner", &format!("udp dst port {PORT}"), "-i", "eth1"],
    );
    let mut dead = Running::start(&vxgate, &["--verdict", "drop", "-s", "60"]);
    let came = good.bytes(PAYLOAD);
    wire.send(&came);
    wire.send(&strange.bytes(PAYLOAD));
    wire.send(&other.bytes(PAYLOAD));
    device.send(&to_the_master(&lab));
    let seen = |vxgate: &Vxgate| {
        let status = vxgate.status();
        let seen = status.list("captures").map(|one| one["seen"].as_u64());
        seen.collect::<Vec<_>>()
    };
    // A pod's answer to the port where nobody listens is forwarded, too: by both sides of it.
    wait_until("all are seen", BOUND, || {
        seen(&vxgate) == [Some(10), Some(6), Some(10)]
    });
    let counts = |running: &mut Running| {
        let ended = running.end();
        assert_eq!(ended.lost, 0);
        ended.written
    };
    assert_eq!(counts(&mut all), 10);
    let all = frames(&all.file());
    let kinds: Vec<_> = kinds(&all)
        .into_iter()
        .map(|((name, comment), count)| {
            let (words, _) = comment.split_once(", worker").expect("a worker");
            format!("{count} {name}: {words}")
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "2 access-rx flannel.1: verdict encap, peer 10.0.0.10, vni 1",
            "2 access-tx flannel.1: verdict sent, peer 10.0.0.10, vni 1",
            "1 drop eth1: verdict drop, reason unknown_peer, peer 10.0.0.100, vni 1",
            "2 underlay-rx eth1: verdict deliver, peer 10.0.0.10, vni 1",
            "1 underlay-rx eth1: verdict drop, reason unknown_peer, peer 10.0.0.100, vni 1",
            "2 underlay-tx eth1: verdict sent, peer 10.0.0.10, vni 1",
        ]
    );
    let (_, _, delivered) = all
        .iter()
        .find(|(name, _, _)| name.starts_with("access-tx"))
        .expect("a frame");
    assert!(*delivered == came[offset::INNER..]);
    // In the tunnel: the good frame and the stranger's where they came in, that one dying, and what the worker sent.
    assert_eq!(counts(&mut inner), 4);
    assert!(
        frames(&inner.file())
            .iter()
            .all(|(name, _, _)| name.ends_with(" eth1"))
    );
    assert_eq!(counts(&mut dead), 2);
    let cut = decoded(&dead.file(), &["frame.cap_len", "frame.len"]);
    assert_eq!(cut, [["60", "112"], ["60", "112"]]);
    assert_eq!(vxgate.status().list("captures").count(), 0);
    vxgate.stop();
}

#[test]
fn frames_go_to_standard_output_and_to_one_file_after_the_other() {
    let lab = quiet_lab();
    let vxgate = Vxgate::start_with(&lab.node(Node::Worker), Superframes::Off, &[]);
    let _pod = Pod::listen(&lab.client(Node::Worker), PORT);
    let wire = RawSocket::open(&lab.netns("sw"), "p2");
    let frame = from_the_master(&lab).bytes(PAYLOAD);
    let mut capture = Command::new(BINARY)
        .args(["capture", "-c", "6", "--socket"])
        .arg(vxgate.socket())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program");
    let tshark = Command::new("tshark")
        .args([
            "-l",
            "-r",
            "-",
            "-T",
            "fields",
            "-e",
            "frame.interface_name",
        ])
        .stdin(capture.stdout.take().expect("it was asked for"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("tshark is installed");
    wait_until("it runs", BOUND, || {
        vxgate.status().list("captures").count() == 1
    });
    (0..3).for_each(|_| wire.send(&frame));
    let output = tshark.wait_with_output().expect("our child");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let mut names: Vec<_> = text.lines().collect();
    names.sort_unstable();
    let [rx, tx] = ["underlay-rx eth1", "access-tx flannel.1"];
    assert_eq!(names, [tx, tx, tx, rx, rx, rx]);
    assert!(capture.wait().expect("our child").success());

    let mut ring = Running::start_ring(&vxgate);
    (0..FRAMES).for_each(|_| wire.send(&frame));
    wait_seen(&vxgate, 2 * FRAMES);
    assert_eq!(ring.end().written, 2 * FRAMES);
    let mut names: Vec<_> = fs::read_dir(ring.folder.path())
        .expect("a folder")
        .map(|file| {
            file.expect("a file")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    names.sort();
    assert_eq!(names, ["x.pcapng0", "x.pcapng1", "x.pcapng2"]);
    for name in names {
        let path = ring.folder.path().join(name);
        let len = path.metadata().expect("a file").len();
        assert!((1000..4400).contains(&len), "{len}");
        assert!(!frames(&path).is_empty());
    }
    vxgate.stop();
}

impl Running {
    /// Three files of 4,000 bytes or so.
    fn start_ring(vxgate: &Vxgate) -> Self {
        let folder = TempDir::with_prefix("vxgate-capture-").expect("a temporary directory");
        let child = Command::new(BINARY)
            .args(["capture", "-C", "4k", "-W", "3", "--socket"])
            .arg(vxgate.socket())
            .arg("-w")
            .arg(folder.path().join("x.pcapng"))
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        let running = Self { child, folder };
        wait_until("the capture has begun", BOUND, || {
            running
                .folder
                .path()
                .join("x.pcapng0")
                .metadata()
                .is_ok_and(|file| file.len() > 0)
        });
        running
    }
}

/// A command that stands still has its ring overflow: what it writes then and what was lost are all that passed.
#[test]
fn what_a_slow_reader_loses_is_counted_frame_by_frame_and_the_traffic_goes_on() {
    const BURSTS: u64 = 60;
    /// A ring of 256 frames holds them, however late its reader is.
    const BURST: u64 = 200;
    let lab = quiet_lab();
    let vxgate = Vxgate::start_with(&lab.node(Node::Worker), Superframes::Off, &[]);
    let _pod = Pod::listen(&lab.client(Node::Worker), PORT);
    let wire = RawSocket::open(&lab.netns("sw"), "p2");
    let frame = from_the_master(&lab).bytes(PAYLOAD);
    let before = vxgate.status().forwarded("underlay");
    let mut capture = Running::start(&vxgate, &["-B", "256KiB", "--point", "underlay-rx"]);
    capture.signal(Signal::SIGSTOP);
    for sent in 1..=BURSTS {
        (0..BURST).for_each(|_| wire.send(&frame));
        wait_until("all frames are forwarded", BOUND, || {
            vxgate.status().forwarded("underlay") - before == sent * BURST
        });
    }
    let handed = BURSTS * BURST;
    let told = state(&vxgate);
    assert!(told["lost"].as_u64() > Some(0), "{told}");
    capture.signal(Signal::SIGCONT);
    let ended = capture.end();
    assert!(ended.lost > 0, "{ended:?}");
    assert_eq!(
        (ended.seen + ended.lost, ended.written),
        (handed, ended.seen)
    );
    assert_eq!(frames(&capture.file()).len() as u64, ended.written);
    let status = vxgate.status();
    assert_eq!(status.0["capture_lost"].as_u64(), Some(ended.lost));
    vxgate.stop();
}

#[test]
fn a_capture_ends_with_its_command_however_that_ends_and_with_the_daemon() {
    let lab = quiet_lab();
    let vxgate = Vxgate::start(&lab.node(Node::Worker), &[]);
    let none_left = || {
        wait_until("nothing is captured any more", BOUND, || {
            vxgate.status().list("captures").count() == 0
        });
    };
    let mut four: Vec<_> = (0..4).map(|_| Running::start(&vxgate, &[])).collect();
    let text = vxgate.tell(&["status"]).out;
    let line = format!(
        "  capture   pid {}, underlay-rx, underlay-tx, access-rx, access-tx, drop, for ",
        four[0].child.id()
    );
    assert!(text.contains(&line), "{text}");
    let said = vxgate.tell(&["observe"]);
    assert_eq!(said.code, Some(75));
    assert!(
        said.err
            .starts_with("error[VXG-0870]: 4 captures run already"),
        "{}",
        said.err
    );
    for capture in &mut four {
        capture.signal(Signal::SIGKILL);
        capture.child.wait().expect("our child");
    }
    none_left();
    let said = vxgate.tell(&["capture", "-w", "/dev/null", "-i", "eth9"]);
    assert_eq!(said.code, Some(4));
    assert!(
        said.err
            .starts_with("error[VXG-0871]: no port is called eth9; there are eth1, flannel.1"),
        "{}",
        said.err
    );
    none_left();
    // A full disk.
    let said = vxgate.tell(&["capture", "-w", "/dev/full"]);
    assert_eq!(said.code, Some(1));
    assert!(
        said.err
            .contains("error[VXG-0806]: cannot write /dev/full: No space left"),
        "{}",
        said.err
    );
    none_left();
    let mut last = Running::start(&vxgate, &[]);
    vxgate.stop();
    let said = last.said();
    let status: ExitStatus = last.child.wait().expect("our child");
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(
        said.contains("error[VXG-0873]: the daemon has ended the capture"),
        "{said}"
    );
}

#[test]
fn observe_prints_what_a_capture_has_a_line_each() {
    let lab = quiet_lab();
    let vxgate = Vxgate::start_with(&lab.node(Node::Worker), Superframes::Off, &[]);
    let _pod = Pod::listen(&lab.client(Node::Worker), PORT);
    let wire = RawSocket::open(&lab.netns("sw"), "p2");
    let good = from_the_master(&lab);
    let mut strange = good.clone();
    strange.outer[0] = [10, 0, 0, 100].into();
    let observe = |words: &[&str]| {
        let child = Command::new(BINARY)
            .arg("observe")
            .args(words)
            .arg("--socket")
            .arg(vxgate.socket())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program");
        wait_until("it runs", BOUND, || {
            vxgate.status().list("captures").count() == 1
        });
        wire.send(&good.bytes(PAYLOAD));
        wire.send(&strange.bytes(PAYLOAD));
        let output = child.wait_with_output().expect("our child");
        assert!(output.status.success());
        wait_until("it has ended", BOUND, || {
            vxgate.status().list("captures").count() == 0
        });
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let text = observe(&["--verdict", "drop", "--limit", "1"]);
    let (_, words) = text.split_once("Z ").expect("a time");
    assert!(
        words.starts_with("underlay-rx eth1       drop unknown_peer peer 10.0.0.100 vni 1  10.244.0.14:40000 > 10.244.1.14:9999 UDP, 112 bytes, worker "),
        "{text}"
    );
    let text = observe(&[
        "--json",
        "--limit",
        "2",
        "--point",
        "underlay-rx",
        "--inner",
        "host 10.244.1.14",
    ]);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    lines.iter().for_each(|line| assert_is("observe", line));
    let told = |key: &str| {
        lines
            .iter()
            .map(|line| line[key].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(told("schema"), ["vxgate/1", "vxgate/1"]);
    assert_eq!(told("point"), ["underlay-rx", "underlay-rx"]);
    assert_eq!(told("verdict"), ["deliver", "drop"]);
    assert_eq!(told("peer"), ["10.0.0.10", "10.0.0.100"]);
    assert_eq!(lines[0]["inner"]["destination_port"], PORT);
    vxgate.stop();
}
