//! `vxgate top`: once, and in a terminal, under frames that are really there.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::drops::{PAYLOAD, PORT, from_the_master};
use crate::pod::Pod;
use crate::support::frames::RawSocket;
use crate::support::lab::{Lab, Node};
use crate::support::vxgate::{BINARY, Vxgate};
use crate::support::wait_until;

const BOUND: Duration = Duration::from_secs(15);
const MASTER: &str = "10.0.0.10";
/// A ring of 256 frames holds them all, however late its reader is.
const BURST: u64 = 200;

/// A terminal that tmux plays, and what runs in it. Dropping it ends both.
struct Terminal {
    folder: TempDir,
    programs: Mutex<Vec<Pid>>,
}

impl Terminal {
    fn open(width: u16, height: u16, command: &str) -> Self {
        let terminal = Self {
            folder: TempDir::with_prefix("vxgate-tmux-").expect("a temporary directory"),
            programs: Mutex::default(),
        };
        let [width, height] = [width, height].map(|size| size.to_string());
        terminal.tmux(&["new-session", "-d", "-x", &width, "-y", &height, command]);
        terminal
    }

    /// What is on the screen.
    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// Waits until the screen shows all of these.
    fn shows(&self, words: &[&str]) -> String {
        let mut screen = String::new();
        let what = format!("the screen shows {words:?}");
        wait_until(&what, BOUND, || {
            screen = self.screen();
            words.iter().all(|word| screen.contains(word))
        });
        screen
    }

    /// Takes the terminal away.
    fn close(&self) {
        let _ = Command::new("tmux")
            .arg("-S")
            .arg(self.folder.path().join("socket"))
            .arg("kill-server")
            .stderr(Stdio::null())
            .status();
    }

    /// The `vxgate top` that runs in it.
    fn program(&self) -> Pid {
        let shell = self.tmux(&["list-panes", "-F", "#{pane_pid}"]);
        let mut child = None;
        wait_until("the shell has started it", BOUND, || {
            let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", shell.trim()));
            let children = children.expect("the shell runs");
            child = children.split_whitespace().next().map(str::to_owned);
            child.is_some()
        });
        let child = child.expect("waited for").parse().expect("a number");
        let child = Pid::from_raw(child);
        self.programs.lock().expect("one thread").push(child);
        child
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .args(["-u", "-f", "/dev/null", "-S"])
            .arg(self.folder.path().join("socket"))
            .args(arguments)
            .env("LANG", "C.UTF-8")
            .env_remove("LC_ALL")
            .env_remove("NO_COLOR")
            .env_remove("TMUX")
            .stdin(Stdio::null())
            .output()
            .expect("tmux is installed");
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tmux {arguments:?}: {err}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Whatever runs there, however it takes to its terminal's end.
        for program in self.programs.lock().iter().flat_map(|all| all.iter()) {
            let _ = signal::kill(*program, Signal::SIGKILL);
        }
        self.close();
    }
}

#[test]
fn rates_are_shown_once_and_in_a_terminal_that_comes_back_whole() {
    let lab = Lab::up();
    let node = lab.node(Node::Worker);
    let mut vxgate = Vxgate::start(&node, &[]);
    let _pod = Pod::listen(&lab.client(Node::Worker), PORT);
    let wire = RawSocket::open(&lab.netns("sw"), "p2");
    let frame = from_the_master(&lab).bytes(PAYLOAD);
    let mut strange = from_the_master(&lab);
    strange.outer[0] = [10, 0, 0, 100].into();
    wire.send(&strange.bytes(PAYLOAD));
    let burst = || (0..BURST).for_each(|_| wire.send(&frame));

    once(&vxgate, &burst);
    let command = |arguments: &str| {
        let socket = vxgate.socket().display();
        // What it leaves behind is seen by what is printed then.
        format!("{BINARY} top --socket {socket} {arguments}; echo \"ended with $?\"; exec cat")
    };
    let narrow = Terminal::open(80, 24, &command("--interval 500ms"));
    let wide = Terminal::open(200, 50, &command("--interval 500ms"));
    let [_, wide_program] = [&narrow, &wide].map(Terminal::program);
    for terminal in [&narrow, &wide] {
        let mut screen = String::new();
        wait_until("frames are on the screen", BOUND, || {
            burst();
            screen = terminal.screen();
            let mut lines = screen.lines();
            let peer = lines.find_map(|line| line.split_once(MASTER));
            let rate = peer.and_then(|(_, rates)| rates.split_whitespace().next());
            rate.is_some_and(|rate| rate != "0")
        });
        for words in [
            "HEALTHY",
            "eth1",
            "flannel.1",
            "unknown_peer",
            "NS/PKT",
            "sort: frames",
        ] {
            assert!(screen.contains(words), "{words}:\n{screen}");
        }
        // The last minutes are there, too.
        assert!(screen.contains('\u{2588}'), "{screen}");
    }
    narrow.press("s");
    narrow.shows(&["sort: bits"]);
    narrow.press("h");
    narrow.shows(&["go through the peers"]);
    narrow.press("Escape");
    narrow.press("p");
    let screen = narrow.shows(&["PAUSED", "p go on"]);
    assert!(!screen.contains("go through the peers"), "{screen}");
    narrow.press("p");

    // A daemon that goes and comes back.
    let next = {
        vxgate.signal(Signal::SIGTERM);
        wide.shows(&["no vxgate answers on", "waiting for it"]);
        assert!(vxgate.wait().success());
        vxgate.start_next(&node, &[])
    };
    wait_until("the new one is on the screen", BOUND, || {
        let screen = wide.screen();
        screen.contains(&format!("pid {}", next.pid())) && screen.contains("HEALTHY")
    });

    narrow.press("q");
    let screen = narrow.shows(&["ended with 0"]);
    assert!(
        !screen.contains("HEALTHY"),
        "the screen is restored: {screen}"
    );
    signal::kill(wide_program, Signal::SIGTERM).expect("it runs");
    let screen = wide.shows(&["ended with 130"]);
    assert!(
        !screen.contains("HEALTHY"),
        "the screen is restored: {screen}"
    );
    // Echo is on again, and lines come whole.
    wide.press("typed");
    wide.press("Enter");
    wide.shows(&["typed\ntyped"]);

    let socket = next.socket().display();
    ends_with_its_terminal(&format!("{BINARY} top --socket {socket}; true"));

    let said = next.tell(&["top"]);
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
    assert!(
        said.err.contains("VXG-0862") && said.err.contains("--once"),
        "{}",
        said.err
    );
    next.stop();
}

/// Its window is closed: nobody may be left who spins.
fn ends_with_its_terminal(command: &str) {
    let terminal = Terminal::open(80, 24, command);
    let program = terminal.program();
    terminal.shows(&["HEALTHY"]);
    terminal.close();
    wait_until("it has ended with its terminal", BOUND, || {
        // Where nobody is left to reap it, what has ended is a zombie.
        let stat = fs::read_to_string(format!("/proc/{program}/stat"));
        stat.map_or(true, |stat| stat.contains(") Z "))
    });
}

fn once(vxgate: &Vxgate, burst: &dyn Fn()) {
    let mut top = Command::new(BINARY)
        .args(["top", "--once", "--json", "--interval", "1s", "--socket"])
        .arg(vxgate.socket())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program");
    wait_until("it has looked twice", BOUND, || {
        burst();
        top.try_wait().expect("our child").is_some()
    });
    let output = top.wait_with_output().expect("our child");
    let rates: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(rates["schema"], "vxgate/1");
    let list = |key: &str| rates[key].as_array().expect("a list").clone();
    let port = list("ports")
        .into_iter()
        .find(|port| port["port"] == "eth1");
    let received = port.expect("eth1")["received"].as_f64();
    let peer = list("peers")
        .into_iter()
        .find(|peer| peer["addr"] == MASTER);
    let from_peer = peer.expect("the master")["received"]["packets"].as_f64();
    for rate in [received, from_peer, rates["decap"]["packets"].as_f64()] {
        assert!(rate.expect("a rate") > 0.0, "{rates}");
    }
    assert!(list("workers")[0]["working"].as_f64().expect("a share") > 0.0);
    assert!(
        list("drops")
            .iter()
            .any(|drop| drop["reason"] == "unknown_peer")
    );
    let text = vxgate
        .tell(&["top", "--once", "--interval", "100ms"])
        .printed();
    for words in [
        "HEALTHY",
        "PORT ",
        "WORKER ",
        "PEER ",
        "DROPPED FOR",
        MASTER,
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}
