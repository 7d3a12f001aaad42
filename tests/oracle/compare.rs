//! The judgement: what may differ between two outputs is taken out of both, and the rest must be equal.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::bytes::{self, IP, be16, hex, put16, summary};
use super::justified;
use super::order;
use super::outer::{self, Family, inner_of};
use super::setting::{Overlay, Setting};
use super::site::{Entry, Output, Site};
use super::support::end::Input;

/// Fewer than the 256 frames that a veth's ring holds.
pub const WINDOW: usize = 128;
/// So often a difference must come again.
const ATTEMPTS: usize = 4;
/// More of them in a run are no accident: so many, or in a long run one in so many windows.
const DISTURBANCES_MAX: usize = 20;
const WINDOWS_A_DISTURBANCE: usize = 40;
/// Reports on groups, and searches for neighbours, at the end of a run.
const OWN_WORDS_MAX: u64 = 8;
/// VTEPs of the all-zero entries of each device.
const FLOODED_TO: u64 = 2;
/// An inner flow, as [`flow_of`] writes it down.
type Flow = Vec<u8>;

/// Both sites, and what has been seen of their source ports.
#[derive(Debug)]
pub struct Pair {
    pub kernel: Site,
    pub ours: Site,
    pub setting: Setting,
    /// The outer source port of each inner flow from `vxgate`.
    ports: HashMap<Flow, u16>,
    differences: Vec<String>,
    /// The first frame whose source port is not the one that its flow had before.
    moved: Option<Vec<u8>>,
    /// Windows that differed once and not again.
    disturbances: usize,
    windows: usize,
}

/// One frame's outputs.
#[derive(Debug)]
pub struct Fates {
    pub kernel: Output,
    pub ours: Output,
}

impl Pair {
    pub fn new(setting: Setting) -> Self {
        let (kernel, ours) = std::thread::scope(|scope| {
            let kernel = scope.spawn(|| Site::new(&setting, false));
            let ours = Site::new(&setting, true);
            (kernel.join().expect("the kernel's site comes up"), ours)
        });
        Self {
            kernel,
            ours,
            setting,
            ports: HashMap::new(),
            differences: Vec::new(),
            moved: None,
            disturbances: 0,
            windows: 0,
        }
    }

    /// Sends frames to both, and keeps those whose outputs differ for [`Pair::settle`].
    ///
    /// On a machine that starves the worker for 200 ms the kernel takes over, as it should, and lets go again; and one that
    /// starves the kernel's own threads lets an answer of the kernel come after the end of its window. Such things come and
    /// go: a difference counts when it comes again each time.
    pub fn agree(&mut self, entry: Entry, frames: &[Input]) {
        for window in frames.chunks(WINDOW) {
            self.windows += 1;
            if self.difference(entry, window).is_none() {
                continue;
            }
            let before = self.differences.len();
            for frame in window {
                let frame = std::slice::from_ref(frame);
                if let Some(alone) = self.lasting_difference(entry, frame) {
                    let text = self.describe(entry, frame, &alone);
                    self.differences.push(text);
                }
            }
            // Not one of them by itself: then only what is more or less of the output tells anything.
            if self.differences.len() == before {
                self.disturbances += 1;
                if let Some(together) = self.lasting_difference(entry, window) {
                    let text = self.describe(entry, &[], &together);
                    self.differences
                        .push(format!("of {} frames together: {text}", window.len()));
                }
            }
        }
    }

    /// Sends frames of a few flows to both, and keeps what differs of a flow: frames, or their order.
    pub fn agree_in_order(&mut self, entry: Entry, frames: &[Input], at_once: bool) {
        self.windows += 1;
        let mut difference = None;
        for attempt in 0..ATTEMPTS {
            difference = self.difference_in_order(entry, frames, at_once);
            if difference.is_none() {
                self.disturbances += usize::from(attempt > 0);
                break;
            }
        }
        if let Some(text) = difference {
            let title = format!("\n=== a difference [{}] from {entry:?}\n", self.setting);
            self.differences.push(title + &text);
        }
    }

    fn difference_in_order(
        &mut self,
        entry: Entry,
        frames: &[Input],
        at_once: bool,
    ) -> Option<String> {
        let twins: Vec<Input> = frames
            .iter()
            .filter_map(|frame| justified::twin(&self.setting, entry, frame))
            .collect();
        let kernel = self.kernel.play(entry, &twins);
        let ours = if at_once {
            self.ours.play_at_once(entry, frames)
        } else {
            self.ours.play(entry, frames)
        };
        let (kernel, ours) = (self.normal(&kernel, false), self.normal(&ours, true));
        order::difference(&kernel, &ours)
    }

    /// A difference that comes again each time.
    fn lasting_difference(&mut self, entry: Entry, frames: &[Input]) -> Option<Fates> {
        for _ in 1..ATTEMPTS {
            self.difference(entry, frames)?;
        }
        self.difference(entry, frames)
    }

    /// How many differences there were so far.
    pub fn differences(&self) -> usize {
        self.differences.len()
    }

    /// Sends one frame to both, as it is, and returns what came out of each, without what may differ.
    pub fn fates(&mut self, entry: Entry, frame: &Input) -> Fates {
        let mut fates = Fates {
            kernel: self.kernel.play(entry, std::slice::from_ref(frame)),
            ours: self.ours.play(entry, std::slice::from_ref(frame)),
        };
        let ours = self.normal(&fates.ours, true);
        let kernel = self.normal(&fates.kernel, false);
        (fates.ours, fates.kernel) = (ours, kernel);
        fates
    }

    /// Asserts that there was no difference (or shows the frames, in hexadecimal and decoded), that the balance holds, and
    /// that each port received what it must have.
    pub fn settle(&self) {
        let count = self.differences.len();
        assert_eq!(
            count,
            0,
            "{}\n{count} differences",
            self.differences.concat()
        );
        let status = self.ours.status();
        let stale = |role| status.passed(role, "heartbeat_stale");
        let oversize = status.passed("access", "oversize");
        let by_kernel = stale("underlay") + stale("access") + oversize;
        println!(
            "{} disturbances; the kernel had {by_kernel} frames, {oversize} for their length",
            self.disturbances
        );
        assert!(
            self.disturbances < DISTURBANCES_MAX.max(self.windows / WINDOWS_A_DISTURBANCE),
            "{} of {} windows",
            self.disturbances,
            self.windows
        );
        if let Some(frame) = &self.moved {
            // The kernel's own hash gives its own ports.
            assert!(by_kernel > 0, "one flow, two source ports:\n{}", hex(frame));
        }
        let ports = status.list("ports");
        let copies: u64 = ports
            .filter(|port| port["role"] == "access")
            .map(|port| port["flood_copies"].as_u64().expect("a port counts them"))
            .sum();
        let beyond = status.beyond_superframes("access");
        let sent = status.forwarded("access") + copies + beyond;
        // A superframe that is flooded is cut for each VTEP, and its segments are counted once.
        let most = if copies > 0 {
            sent + beyond * (FLOODED_TO - 1)
        } else {
            sent
        };
        // What a node that routes says to its neighbours may come behind the last window.
        let least = match self.setting.overlay {
            Overlay::Bridged => sent,
            Overlay::Routed => sent - OWN_WORDS_MAX.min(sent),
        };
        assert!(
            (least..=most).contains(&self.ours.tunnelled) || by_kernel > 0,
            "{sent} to {most} frames and copies sent, {} seen: {}",
            self.ours.tunnelled,
            status.0
        );
        let [wire, bridge, device] = self.ours.sent;
        assert_eq!(status.received("underlay"), wire, "underlay: {}", status.0);
        // The bridge has a word in what reaches the device; each device gets what is from the bridge. A node that routes has
        // something to say to its neighbours on it.
        let access = status.received("access") + beyond;
        let [.., least] = self.ours.written;
        let most = match self.setting.overlay {
            Overlay::Bridged => bridge * self.setting.segments.len() as u64 + device,
            Overlay::Routed => u64::MAX,
        };
        assert!(
            (least..=most).contains(&access),
            "access: {access} of {bridge} and {device}: {}",
            status.0
        );
    }

    /// How many inner flows were seen, and with how many source ports.
    pub fn spread(&self) -> (usize, usize) {
        let mut ports: Vec<_> = self.ports.values().collect();
        ports.sort_unstable();
        ports.dedup();
        (self.ports.len(), ports.len())
    }

    /// What came out of both, when that differs: only what the other one does not have.
    fn difference(&mut self, entry: Entry, frames: &[Input]) -> Option<Fates> {
        let twins: Vec<Input> = frames
            .iter()
            .filter_map(|frame| justified::twin(&self.setting, entry, frame))
            .collect();
        let kernel = self.kernel.play(entry, &twins);
        let ours = self.ours.play(entry, frames);
        let (kernel, ours) = (self.normal(&kernel, false), self.normal(&ours, true));
        let without = |from: &Output, other: &Output| Output {
            wire: rest(&from.wire, &other.wire),
            overlay: rest(&from.overlay, &other.overlay),
            devices: {
                let both = from.devices.iter().zip(&other.devices);
                both.map(|(from, other)| rest(from, other)).collect()
            },
        };
        let fates = Fates {
            kernel: without(&kernel, &ours),
            ours: without(&ours, &kernel),
        };
        (!fates.kernel.is_empty() || !fates.ours.is_empty()).then_some(fates)
    }

    fn describe(&self, entry: Entry, frames: &[Input], fates: &Fates) -> String {
        let setting = &self.setting;
        let mut text = format!("\n=== a difference [{setting}] from {entry:?}\n");
        for frame in frames {
            show(&mut text, "in", std::slice::from_ref(&frame.bytes));
            match justified::twin(&self.setting, entry, frame) {
                Some(twin) if twin == *frame => {}
                Some(twin) => show(&mut text, "in, its twin for the kernel", &[twin.bytes]),
                None => text += "  in, nothing for the kernel\n",
            }
            let reasons = justified::reasons(&self.setting, entry, frame);
            let _ = writeln!(text, "  {reasons}");
            if let Some(offload) = frame.offload {
                let _ = writeln!(text, "  left to the device: {offload:?}");
            }
        }
        show(&mut text, "kernel, wire", &fates.kernel.wire);
        show(&mut text, "kernel, overlay", &fates.kernel.overlay);
        show(&mut text, "vxgate, wire", &fates.ours.wire);
        show(&mut text, "vxgate, overlay", &fates.ours.overlay);
        for (who, output) in [("kernel", &fates.kernel), ("vxgate", &fates.ours)] {
            for (number, frames) in output.devices.iter().enumerate() {
                show(&mut text, &format!("{who}, vx{}", number + 1), frames);
            }
        }
        text
    }

    /// The output without what may differ. Source ports are judged on the way.
    fn normal(&mut self, output: &Output, ours: bool) -> Output {
        let mut wire = output.wire.clone();
        for frame in &mut wire {
            self.normalize(frame, ours);
        }
        let mut overlay = output.overlay.clone();
        let mut devices = output.devices.clone();
        for frame in overlay.iter_mut().chain(devices.iter_mut().flatten()) {
            justified::one_zero(frame);
            forget_identification(frame);
        }
        Output {
            wire,
            overlay,
            devices,
        }
    }

    fn normalize(&mut self, frame: &mut [u8], ours: bool) {
        let Some(family) = Family::of(frame).filter(|family| frame.len() >= family.udp()) else {
            return;
        };
        // A wrong sum stays, and so differs.
        let header = &frame[IP..family.udp()];
        if family == Family::V4 && header[0] == 0x45 && bytes::internet_checksum(&[header]) == 0 {
            put16(frame, IP + 4, 0);
            put16(frame, IP + 10, 0);
        }
        // The identification of a fragment.
        if family == Family::V6 && frame[IP + 6] == 44 && frame.len() >= family.vxlan() {
            frame[family.udp() + 4..family.vxlan()].fill(0);
        }
        if inner_of(frame).is_none() {
            return;
        }
        let udp = family.udp();
        let field = be16(frame, udp + 6);
        if field != Some(0) && field == Some(outer::udp_sum(frame, family)) {
            put16(frame, udp + 6, 1);
        }
        let port = be16(frame, udp).expect("the header is whole");
        let (low, high) = self.setting.source_ports;
        assert!(
            (low..=high).contains(&port),
            "source port {port} is not within {low} to {high}:\n{}",
            hex(frame)
        );
        put16(frame, udp, 0);
        if let Some(flow) = flow_of(&frame[family.outer_len()..]).filter(|_| ours) {
            let known = *self.ports.entry(flow).or_insert(port);
            if port != known && self.moved.is_none() {
                self.moved = Some(frame.to_vec());
            }
        }
    }
}

/// What a node that routes says to the overlay (ICMP over IPv4) is numbered as it likes.
fn forget_identification(frame: &mut [u8]) {
    let node = [10, 244, 1, 1];
    let says = be16(frame, 12) == Some(bytes::ETHER_IPV4)
        && frame.get(IP + 9) == Some(&1)
        && frame.get(IP + 12..IP + 16) == Some(&node)
        && bytes::internet_checksum(&[&frame[IP..IP + 20]]) == 0;
    if says {
        put16(frame, IP + 4, 0);
        put16(frame, IP + 10, 0);
    }
}

pub fn show(text: &mut String, title: &str, frames: &[Vec<u8>]) {
    for frame in frames {
        let (len, bytes, words) = (frame.len(), hex(frame), summary(frame));
        let _ = writeln!(text, "  {title}, {len} bytes\n{bytes}\n    {words}");
    }
}

/// What is in `from` and not in `other`, each as often as it is there more often.
fn rest(from: &[Vec<u8>], other: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut counts: HashMap<&[u8], usize> = HashMap::new();
    for frame in other {
        *counts.entry(frame).or_default() += 1;
    }
    let mut rest = Vec::new();
    for frame in from {
        match counts.get_mut(&frame[..]) {
            Some(count) if *count > 0 => *count -= 1,
            _ => rest.push(frame.clone()),
        }
    }
    rest
}

/// The flow that a frame certainly belongs to: untagged IPv4 without options or damage. A fragment's is its addresses'.
fn flow_of(inner: &[u8]) -> Option<Flow> {
    let packet = inner.get(14..)?;
    let header = packet.get(..20)?;
    let total = usize::from(be16(packet, 2)?);
    let sound = be16(inner, 12) == Some(bytes::ETHER_IPV4)
        && header[0] == 0x45
        && (28..=packet.len()).contains(&total)
        && bytes::internet_checksum(&[header]) == 0;
    if !sound {
        return None;
    }
    let mut flow = header[12..20].to_vec();
    if be16(header, 6)? & 0x3fff != 0 {
        return Some(flow);
    }
    if matches!(header[9], 6 | 17 | 132) {
        flow.push(header[9]);
        flow.extend(packet.get(20..24)?);
    }
    Some(flow)
}
