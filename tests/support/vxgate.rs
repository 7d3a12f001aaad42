//! `vxgate` as a process in a node, and what it says about itself.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::netns::Netns;
use super::{patient, wait_until};

/// The program under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_vxgate");
/// Loading and verifying the BPF programs and binding the sockets takes well under a second on an idle machine.
const READY_BOUND: Duration = Duration::from_secs(20);
const EXIT_BOUND: Duration = Duration::from_secs(10);

/// Whether superframes cross a node whole (`vxgate run --superframes`).
///
/// Tests that say nothing run with what `VXGATE_SUPERFRAMES` says, and without it with what is usual: so the whole suite can
/// be run either way. Those whose frames may take one way or the other run both ways by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Superframes {
    /// Where the node can.
    Auto,
    /// Up to the workers, which cut them: as where the wire takes none.
    Cut,
    /// None: every frame is one of the wire's, and takes the way that frames other than TCP take anyway.
    Off,
}

impl Superframes {
    /// The usual way, and without them.
    pub const BOTH: [Self; 2] = [Self::Auto, Self::Off];

    fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cut => "cut",
            Self::Off => "off",
        }
    }
}

/// A `vxgate run` in a node. Dropping it kills it.
#[derive(Debug)]
pub struct Vxgate {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    socket: PathBuf,
    node: String,
    directory: Arc<TempDir>,
}

impl Vxgate {
    /// Starts `vxgate run` with more arguments and waits for its line that starts with `ready`.
    pub fn start(node: &Netns, arguments: &[&str]) -> Self {
        Self::start_in(Self::directory(), node, None, arguments)
    }

    /// As [`Vxgate::start`], with superframes or without.
    pub fn start_with(node: &Netns, superframes: Superframes, arguments: &[&str]) -> Self {
        Self::start_in(Self::directory(), node, Some(superframes), arguments)
    }

    fn directory() -> Arc<TempDir> {
        Arc::new(TempDir::with_prefix("vxgate-test-").expect("a temporary directory"))
    }

    /// Starts another one on the same control socket, as a supervisor does, whatever has become of this one.
    pub fn start_next(&self, node: &Netns, arguments: &[&str]) -> Self {
        Self::start_in(Arc::clone(&self.directory), node, None, arguments)
    }

    fn start_in(
        directory: Arc<TempDir>,
        node: &Netns,
        superframes: Option<Superframes>,
        arguments: &[&str],
    ) -> Self {
        let socket = directory.path().join("control.sock");
        // In a session of its own, as a service. A child leads no process group, so `setsid` becomes the program.
        let mut command = node.command("setsid");
        if let Some(superframes) = superframes {
            command.env("VXGATE_SUPERFRAMES", superframes.word());
        }
        let mut child = command
            .args([BINARY, "run"])
            .arg("--socket")
            .arg(&socket)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("iproute2 is installed");
        let lines = Arc::new(Mutex::new(Vec::new()));
        collect(child.stdout.take(), &lines);
        collect(child.stderr.take(), &lines);
        let mut vxgate = Self {
            child,
            lines,
            socket,
            node: node.name().to_owned(),
            directory,
        };
        vxgate.wait_ready();
        vxgate
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its control socket is.
    pub fn socket(&self) -> &PathBuf {
        &self.socket
    }

    /// Where its metrics are, unless it was told otherwise.
    pub fn metrics_socket(&self) -> PathBuf {
        self.socket.with_file_name("control.metrics.sock")
    }

    /// Everything it has printed so far.
    pub fn output(&self) -> String {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .join("\n")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        signal::kill(Pid::from_raw(self.pid() as i32), signal).expect("it still runs");
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + patient(EXIT_BOUND);
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "vxgate still runs after {EXIT_BOUND:?}:\n{}",
                self.output()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM; asserts that it exits with 0.
    pub fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.wait();
        assert!(
            status.success(),
            "vxgate ends with {status} on SIGTERM:\n{}",
            self.output()
        );
    }

    /// Runs another command that asks the daemon or tells it something.
    pub fn tell(&self, command: &[&str]) -> Said {
        let output = self.output_of(command);
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Said {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// What such a command writes that is no text; it must succeed.
    pub fn tell_bytes(&self, command: &[&str]) -> Vec<u8> {
        let output = self.output_of(command);
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }

    fn output_of(&self, command: &[&str]) -> Output {
        Command::new(BINARY)
            .args(command)
            .arg("--socket")
            .arg(&self.socket)
            .env_remove("VXGATE_CONFIG")
            .output()
            .unwrap_or_else(|error| panic!("{BINARY}: {error}"))
    }

    /// What `vxgate status --json` says.
    pub fn status(&self) -> Status {
        self.try_status().unwrap_or_else(|failure| {
            panic!("{failure}\nvxgate on {}:\n{}", self.node, self.output())
        })
    }

    /// As [`Vxgate::status`], with the failure as a value.
    pub fn try_status(&self) -> Result<Status, String> {
        let output = Command::new(BINARY)
            .args(["status", "--json", "--socket"])
            .arg(&self.socket)
            .output()
            .map_err(|error| format!("{BINARY}: {error}"))?;
        // 1 is "degraded": an answer, too.
        if !matches!(output.status.code(), Some(0 | 1)) {
            return Err(format!(
                "vxgate status ends with {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            ));
        }
        serde_json::from_slice(&output.stdout)
            .map(Status)
            .map_err(|error| format!("vxgate status prints no JSON: {error}"))
    }

    /// The document that a command prints with `--json`; it must succeed.
    pub fn ask_json(&self, command: &[&str]) -> Value {
        let said = self.tell(&[command, &["--json"]].concat()).printed();
        let document: Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(document["schema"], "vxgate/1");
        document
    }

    /// The status once every port's balance holds and nothing moved between two looks. Background frames (IPv6 neighbour
    /// discovery of the kernel) may move it at any time, so it looks more than once.
    pub fn balanced(&self) -> Status {
        let deadline = Instant::now() + patient(Duration::from_secs(5));
        loop {
            let status = self.status();
            let complaints = status.unbalanced();
            if complaints.is_empty() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the balance does not hold on {}: {complaints}",
                self.node
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until it carries: more frames than `before`, both ways, by its workers, past them, or left to the kernel's device.
    pub fn wait_forwarding(&self, what: &str, before: &Status) {
        let carried = |status: &Status| {
            let express = |way: &str| number(&status.0["direct"][way]["forwarded"]);
            [
                status.carried("underlay") + express("in"),
                status.carried("access") + express("out"),
            ]
        };
        let before = carried(before);
        wait_until(what, Duration::from_secs(10), || {
            self.try_status().is_ok_and(|now| {
                let now = carried(&now);
                now.iter()
                    .zip(before)
                    .all(|(now, before)| *now > before + 20)
            })
        });
    }

    fn wait_ready(&mut self) {
        let deadline = Instant::now() + patient(READY_BOUND);
        loop {
            let ready = {
                let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
                lines.iter().any(|line| line.starts_with("ready"))
            };
            if ready {
                return;
            }
            assert!(
                self.runs(),
                "vxgate on {} ended before it was ready:\n{}",
                self.node,
                self.output()
            );
            assert!(
                Instant::now() < deadline,
                "vxgate on {} is not ready after {READY_BOUND:?}:\n{}",
                self.node,
                self.output()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// Its exit code.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Said {
    /// Its standard output; it must have succeeded.
    pub fn printed(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }
}

impl Drop for Vxgate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("vxgate on {} had said:\n{}", self.node, self.output());
        }
    }
}

/// Runs a command in a namespace to its end, at most 15 s (then it exits with 124): for the cases in which it must refuse.
pub fn run_to_end(node: &Netns, command: &[&str]) -> Output {
    let mut timeout = node.command("timeout");
    timeout.args(["-k", "1", "15"]).args(command);
    timeout
        .stdin(Stdio::null())
        .output()
        .expect("coreutils are installed")
}

fn collect(pipe: Option<impl Read + Send + 'static>, lines: &Arc<Mutex<Vec<String>>>) {
    let (pipe, lines) = (pipe.expect("the pipe was asked for"), Arc::clone(lines));
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            lines
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(line);
        }
    });
}

/// The document of `vxgate status --json`, schema `vxgate/1`.
#[derive(Debug, Clone)]
pub struct Status(pub Value);

impl Status {
    /// `healthy` or `degraded`.
    pub fn state(&self) -> &str {
        self.0["state"].as_str().expect("state")
    }

    /// A taken or refused device by name.
    pub fn device(&self, name: &str) -> Option<&Value> {
        self.list("devices").find(|device| device["name"] == name)
    }

    /// The entries of `devices`, `ports`, `workers` or `vteps`.
    pub fn list(&self, what: &str) -> impl Iterator<Item = &Value> {
        self.0[what]
            .as_array()
            .unwrap_or_else(|| panic!("status has a list {what}: {}", self.0))
            .iter()
    }

    /// Frames forwarded, summed over the ports of a role (`underlay`, `access`).
    pub fn forwarded(&self, role: &str) -> u64 {
        self.sum(role, |port| &port["forwarded"])
    }

    /// The same, with those that go the direct path as far as the kernel's own vxlan device, which sends them.
    pub fn carried(&self, role: &str) -> u64 {
        self.forwarded(role) + self.passed(role, "superframe")
    }

    /// Frames forwarded, each superframe as the segments that it is on the wire.
    pub fn forwarded_segments(&self, role: &str) -> u64 {
        let superframes = self.sum(role, |port| &port["superframes"]);
        let segments = self.sum(role, |port| &port["segments"]);
        // Frames that were joined have been counted one by one.
        let whole = if role == "access" {
            superframes
        } else {
            segments
        };
        self.forwarded(role) + segments - whole
    }

    /// Frames received, summed over the ports of a role.
    pub fn received(&self, role: &str) -> u64 {
        self.sum(role, |port| &port["received"])
    }

    /// Frames that have no fate yet, summed over the ports of a role.
    pub fn in_flight(&self, role: &str) -> u64 {
        self.sum(role, |port| &port["in_flight"])
    }

    /// Frames of the wire that were beyond one for each superframe: these count as one frame each where frames are counted.
    pub fn beyond_superframes(&self, role: &str) -> u64 {
        self.sum(role, |port| &port["segments"]) - self.sum(role, |port| &port["superframes"])
    }

    /// Drops for a reason, summed over the ports of a role.
    pub fn drops(&self, role: &str, reason: &str) -> u64 {
        self.sum(role, |port| &port["drops"][reason])
    }

    /// Frames left to the kernel for a reason, summed over the ports of a role.
    pub fn passed(&self, role: &str, reason: &str) -> u64 {
        self.sum(role, |port| &port["passed"][reason])
    }

    /// The kernel's side of the first access device.
    pub fn kernel_side(&self) -> String {
        let device = self
            .list("devices")
            .find(|device| device["taken_over"] == true)
            .expect("a device is taken over");
        device["access"]["kernel_side"]
            .as_str()
            .expect("it has an access device")
            .to_owned()
    }

    /// Every port whose `received = forwarded + passed + Σ drops` does not hold, or whose parts do not add up, those of its peers
    /// among them, and each way of the direct path of which the same is true; empty if none.
    pub fn unbalanced(&self) -> String {
        let mut complaints = String::new();
        for port in self.list("ports") {
            let received = number(&port["received"]);
            let (forwarded, passed, drops) = (
                number(&port["forwarded"]),
                number(&port["passed"]["total"]),
                number(&port["drops"]["total"]),
            );
            if received != forwarded + passed + drops || port["balance_ok"] != true {
                let _ = write!(
                    complaints,
                    "{}: {received} != {forwarded} + {passed} + {drops}; ",
                    port["name"]
                );
            }
            for part in ["passed", "drops"] {
                let sum: u64 = port[part]
                    .as_object()
                    .into_iter()
                    .flatten()
                    .filter(|(key, _)| *key != "total")
                    .map(|(_, n)| number(n))
                    .sum();
                if sum != number(&port[part]["total"]) {
                    let _ = write!(
                        complaints,
                        "{}: {part} add up to {sum}: {}; ",
                        port["name"], port[part]
                    );
                }
            }
        }
        complaints.push_str(&self.unbalanced_direct());
        complaints.push_str(&self.unbalanced_peers());
        complaints
    }

    /// Where a way of the direct path has frames without a fate, or with two.
    fn unbalanced_direct(&self) -> String {
        let mut complaints = String::new();
        for way in ["out", "in", "ring_out", "ring_in"] {
            let gear = &self.0["direct"][way];
            if gear.is_null() {
                continue;
            }
            let (received, lost) = (number(&gear["received"]), number(&gear["lost"]));
            let (forwarded, up) = (
                number(&gear["forwarded"]),
                number(&gear["handed_up"]["total"]),
            );
            if received != forwarded + up + lost || gear["balance_ok"] != true {
                let _ = write!(
                    complaints,
                    "direct {way}: {received} != {forwarded} + {up} + {lost}; "
                );
            }
        }
        complaints
    }

    /// Where peers do not add up to what the ports have handed on, in frames and in bytes.
    fn unbalanced_peers(&self) -> String {
        let mut complaints = String::new();
        for [frames, bytes] in [["received", "received_bytes"], ["sent", "sent_bytes"]] {
            let of_ports = |port: &Value| match frames {
                "received" => [
                    number(&port["forwarded"]) + number(&port["drops"]["worker_stale"]),
                    number(&port["forwarded_bytes"]),
                ],
                _ => {
                    let parts = [
                        "forwarded",
                        "flood_copies",
                        "segments_sent",
                        "segments_whole",
                    ];
                    [
                        parts.iter().map(|part| number(&port[part])).sum(),
                        number(&port["forwarded_bytes"]) + number(&port["copied_bytes"]),
                    ]
                }
            };
            let role = if frames == "received" {
                "underlay"
            } else {
                "access"
            };
            let ports = self.list("ports").filter(|port| port["role"] == role);
            let express = match frames {
                "received" => [0, 0],
                _ => {
                    let out = &self.0["direct"]["out"];
                    let sent = number(&out["forwarded"]);
                    [sent, number(&out["forwarded_bytes"]) + OUTER_LEN * sent]
                }
            };
            let mut expected = ports.map(of_ports).fold(express, add);
            let of_traffic = |traffic: &Value| [frames, bytes].map(|key| number(&traffic[key]));
            let vnis = || self.list("vnis");
            let totals = vnis().map(|vni| of_traffic(&vni["total"]));
            let others = vnis().flat_map(|vni| [&vni["other"], &vni["former"]]);
            let parts = self.list("peers").chain(others).map(of_traffic);
            let (totals, parts) = (totals.fold([0, 0], add), parts.fold([0, 0], add));
            // Some of the direct path's may have gone to peers over IPv6: how many, only the peers know.
            let longer = totals[1].saturating_sub(expected[1]);
            if longer.is_multiple_of(LONGER_OVER_IPV6)
                && longer / LONGER_OVER_IPV6 <= express[0]
                && self.list("peers").any(is_over_ipv6)
            {
                expected[1] += longer;
            }
            if totals != expected || parts != expected {
                let _ = write!(
                    complaints,
                    "{frames}: ports {expected:?}, VNIs {totals:?}, their peers {parts:?}; "
                );
            }
        }
        complaints
    }

    fn sum(&self, role: &str, pick: impl Fn(&Value) -> &Value) -> u64 {
        self.list("ports")
            .filter(|port| port["role"] == role)
            .map(|port| number(pick(port)))
            .sum()
    }
}

/// What the direct path has done, in whatever gear.
#[derive(Debug, Clone, Copy)]
pub struct Direct {
    /// Frames from pods that it forwarded.
    pub out: u64,
    /// Frames to pods that got there.
    pub into: u64,
    /// Flows that go it.
    pub flows: u64,
}

impl Direct {
    /// Whether it has forwarded so many more both ways.
    pub fn beyond(&self, before: Self, more: u64) -> bool {
        self.out >= before.out + more && self.into >= before.into + more
    }
}

impl Status {
    /// What the direct path has done, where one was asked for.
    pub fn direct(&self) -> Option<Direct> {
        let direct = &self.0["direct"];
        let forwarded = |gears: [&str; 2]| {
            let gears = gears.map(|gear| number(&direct[gear]["forwarded"]));
            gears.iter().sum()
        };
        (!direct.is_null()).then(|| Direct {
            out: forwarded(["out", "ring_out"]),
            into: forwarded(["in", "ring_in"]),
            flows: number(&direct["express_flows"]) + number(&direct["ring_flows"]),
        })
    }
}

/// Ethernet, IPv4, UDP and VXLAN: what the express gear puts in front of a frame.
const OUTER_LEN: u64 = 50;
const LONGER_OVER_IPV6: u64 = 20;

fn is_over_ipv6(peer: &Value) -> bool {
    peer["addr"].as_str().is_some_and(|addr| addr.contains(':'))
}

fn add(a: [u64; 2], b: [u64; 2]) -> [u64; 2] {
    [a[0] + b[0], a[1] + b[1]]
}

/// A reason that never happened may be left out of the document.
fn number(value: &Value) -> u64 {
    if value.is_null() {
        0
    } else {
        value
            .as_u64()
            .unwrap_or_else(|| panic!("a count, not {value}"))
    }
}
