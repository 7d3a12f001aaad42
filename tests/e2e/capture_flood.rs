//! A flood of numbered frames that is captured and observed meanwhile: every frame that is forwarded is written, or counted as lost.
//!
//! As many frames as there is power for, for a second; `VXGATE_CAPTURE_SECONDS` has it last for longer.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::capture::{Running, frames};
use crate::overload::{Site, Way};
use crate::support::vxgate::{BINARY, Superframes, Vxgate};
use crate::support::wait_until;

const BOUND: Duration = Duration::from_secs(10);
/// Where frames are as they leave to the vxlan device, and so many bytes of each: they are no longer.
const FORWARDED: [&str; 2] = ["--point", "access-tx"];
const SNAPLEN: [&str; 2] = ["-s", "64"];

fn seconds() -> u32 {
    let seconds = std::env::var("VXGATE_CAPTURE_SECONDS").ok();
    seconds.map_or(1, |seconds| seconds.parse().expect("a number of seconds"))
}

/// A `vxgate observe` that writes lines to a file.
struct Observing {
    child: Child,
    folder: TempDir,
}

impl Observing {
    fn start(vxgate: &Vxgate) -> Self {
        let folder = TempDir::with_prefix("vxgate-observe-").expect("a temporary directory");
        let lines = File::create(folder.path().join("lines")).expect("a file");
        let child = Command::new(BINARY)
            .arg("observe")
            .args(FORWARDED)
            .arg("--socket")
            .arg(vxgate.socket())
            .stdout(lines)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        Self { child, folder }
    }

    /// Frames shown, seen and lost, as it says itself; and the lines that it has written.
    fn end(mut self) -> ([u64; 3], usize) {
        signal::kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT).expect("it runs");
        let mut said = String::new();
        let mut pipe = self.child.stderr.take().expect("it was asked for");
        pipe.read_to_string(&mut said).expect("UTF-8");
        let status = self.child.wait().expect("our child");
        assert!(status.success(), "{status}: {said}");
        let last = said.lines().last().unwrap_or_default();
        let numbers = last.split(' ').filter_map(|word| word.parse().ok());
        let numbers: Vec<u64> = numbers.collect();
        let lines = fs::read_to_string(self.folder.path().join("lines")).expect("UTF-8");
        let numbers = numbers.try_into().unwrap_or_else(|_| panic!("{said}"));
        (numbers, lines.lines().count())
    }
}

#[test]
fn of_a_flood_every_frame_is_captured_or_counted_as_lost() {
    let site = Site::new("captured");
    let vxgate = Vxgate::start_with(&site.gw, Superframes::Off, &[]);
    let before = vxgate.balanced();
    let mut capture = Running::start(&vxgate, &[FORWARDED, SNAPLEN].concat());
    let observing = Observing::start(&vxgate);
    wait_until("both look", BOUND, || {
        vxgate.status().list("captures").count() == 2
    });
    let document = site.flood(Way::Decap, seconds()).end();
    let status = vxgate.balanced();
    let forwarded = status.forwarded("underlay") - before.forwarded("underlay");
    let ended = capture.end();
    let ([shown, seen, lost], lines) = observing.end();
    println!(
        "    {forwarded} frames forwarded in {} s; capture: {ended:?}; observe: {shown} shown, {seen} seen, {lost} lost",
        seconds()
    );
    println!("    {}", document["trials"][0]["books"]["total"]);
    assert!(forwarded > 1000);
    assert_eq!(ended.seen + ended.lost, forwarded);
    assert_eq!(ended.written, ended.seen);
    assert_eq!(seen + lost, forwarded);
    assert_eq!((shown, lines as u64), (seen, seen));
    // Each of them once: no two frames of the flood are alike.
    let written = frames(&capture.file());
    let written: HashSet<_> = written.into_iter().map(|(_, _, bytes)| bytes).collect();
    assert_eq!(written.len() as u64, ended.written);
    let status = vxgate.status();
    assert_eq!(
        status.0["capture_lost"].as_u64(),
        Some(ended.lost + lost),
        "{}",
        status.0
    );
    vxgate.stop();
}
