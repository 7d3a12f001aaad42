//! Network namespaces: made, entered, and removed with all that runs in them.

use std::fs::File;
use std::io::Write as _;
use std::panic;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use super::process;

/// A named network namespace. The one that made it removes it when dropped; a handle from [`Netns::existing`] does not.
#[derive(Debug)]
pub struct Netns {
    name: String,
    owned: bool,
}

impl Netns {
    /// Makes a namespace called `NAME` with its loopback up. Put the process id into the name: names are machine-wide.
    pub fn create(name: &str) -> Self {
        run(&["ip", "netns", "add", name]);
        let netns = Self {
            name: name.to_owned(),
            owned: true,
        };
        netns.run("ip link set lo up");
        netns
    }

    /// A handle on a namespace that somebody else made and will remove.
    pub fn existing(name: &str) -> Self {
        let netns = Self {
            name: name.to_owned(),
            owned: false,
        };
        assert!(
            netns.path().exists(),
            "there is no network namespace {name}"
        );
        netns
    }

    /// Its name, as `ip netns` prints it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `body` in a thread inside the namespace and returns its value. A socket that it opens stays in the namespace
    /// wherever it is used afterwards.
    pub fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.join();
                body()
            });
            inside
                .join()
                .unwrap_or_else(|cause| panic::resume_unwind(cause))
        })
    }

    /// A command that will run inside. `ip netns exec` becomes the program, so the child's pid is the program's, and its
    /// `/sys` is that of the namespace.
    pub fn command(&self, program: &str) -> Command {
        let mut command = process::command("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs a command line (split at white space) inside; returns what it printed. Panics with its words when it fails.
    pub fn run(&self, line: &str) -> String {
        self.try_run(line)
            .unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// As [`Netns::run`], with the failure as a value.
    pub fn try_run(&self, line: &str) -> Result<String, String> {
        let mut words = line.split_whitespace();
        let program = words.next().expect("a command line has a first word");
        let output = self
            .command(program)
            .args(words)
            .output()
            .expect("iproute2 is installed");
        said(output, || format!("{}: {line}", self.name))
    }

    /// Runs lines of shell inside; the first that fails ends the test.
    pub fn script(&self, lines: &str) {
        let mut shell = self
            .command("sh")
            .args(["-e", "-s"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("iproute2 is installed");
        let mut input = shell.stdin.take().expect("the pipe was asked for");
        input.write_all(lines.as_bytes()).expect("the shell reads");
        drop(input);
        let status = shell.wait().expect("it is our child");
        assert!(status.success(), "{}: {status}:\n{lines}", self.name);
    }

    /// Its devices with the settings that somebody who uses them could leave behind, and without what changes by itself.
    pub fn devices(&self) -> Vec<String> {
        let fields = [
            "ifindex",
            "ifname",
            "mtu",
            "flags",
            "qdisc",
            "address",
            "xdp",
            "promiscuity",
            "num_tx_queues",
            "num_rx_queues",
            "ifalias",
        ];
        let links: Value =
            serde_json::from_str(&self.run("ip -json -details link show")).expect("ip prints JSON");
        let links = links.as_array().expect("a list of links");
        links
            .iter()
            .map(|link| {
                fields
                    .map(|field| format!("{field}={}", link[field]))
                    .join(" ")
            })
            .collect()
    }

    /// Moves the calling thread into the namespace.
    fn join(&self) {
        let file = File::open(self.path())
            .unwrap_or_else(|error| panic!("namespace {}: {error}", self.name));
        setns(file, CloneFlags::CLONE_NEWNET)
            .unwrap_or_else(|error| panic!("entering {}: {error}", self.name));
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        // Not through `run`: a panic while another one unwinds would end the process with the namespace left behind.
        if let Ok(output) = Command::new("ip")
            .args(["netns", "pids", &self.name])
            .output()
        {
            for pid in String::from_utf8_lossy(&output.stdout).split_whitespace() {
                let _ = Command::new("kill").args(["-9", pid]).status();
            }
        }
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}

/// Runs a command in the machine's own namespace; returns what it printed. Panics with its words when it fails.
pub fn run(words: &[&str]) -> String {
    let (program, arguments) = words
        .split_first()
        .expect("a command line has a first word");
    let output = process::command(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    said(output, || words.join(" ")).unwrap_or_else(|failure| panic!("{failure}"))
}

fn said(output: Output, what: impl FnOnce() -> String) -> Result<String, String> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    Err(format!(
        "{} ({}): {stdout}{}",
        what(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    ))
}
