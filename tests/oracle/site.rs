//! Two identical sites: in one the kernel's vxlan device works alone, in the other `vxgate` has taken it over.
//!
//! ```text
//!   namespace NAME-e                       namespace NAME-n (the node)
//!   wire  ══════════════════════════════  eth1 10.99.0.1 ── vx1 ── br0 ── port  ══════════  over (namespace NAME-e)
//!     ▲ the test sends and receives frames here  fd99::1                                      ▲ and here
//! ```
//!
//! Frames can also be put straight into vx1, as if the node itself had sent them: there the bridge judges nothing.
//! The kernel is kept from saying anything by itself: no IPv6 but on the underlay, no snooping, no spanning tree, no learning,
//! no ARP, and no word on fragments whose rest never comes. What it still says (its search for neighbours, and for listeners
//! to groups) is not looked at.
//! An underlay of the other family is another `Setting`; and there may be several devices, which all get what comes from the
//! port, and send to it, but not to each other.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::outer::{Outer, for_kernel, inner_of};
use super::script::{self, Janitor, device_name};
use super::sentinel::{Lane, Sentinel, is_housekeeping};
use super::setting::{Overlay, Segment, Setting};
use super::support::end::{End, Input};
use super::support::netns::Netns;
use super::support::vxgate::{Status, Superframes, Vxgate};
use super::support::wait_until;

pub const PORT: u16 = 8472;
pub const VNI: u32 = 1000;
pub const NODE: [u8; 4] = [10, 99, 0, 1];
pub const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Two VTEPs on the link, one behind a router.
pub const PEERS: [[u8; 4]; 3] = [[10, 99, 0, 2], [10, 99, 0, 3], [10, 98, 0, 4]];
pub const NODE6: [u8; 16] = ipv6(0x99, 1);
pub const PEERS6: [[u8; 16]; 3] = [ipv6(0x99, 2), ipv6(0x99, 3), ipv6(0x98, 4)];
pub const PEER_MACS: [[u8; 6]; 3] = [
    [2, 0, 0, 0, 1, 2],
    [2, 0, 0, 0, 1, 3],
    [2, 0, 0, 0, 1, 0xfe],
];
/// The vxlan device's own address.
pub const DEVICE_MAC: [u8; 6] = [2, 0xaa, 0, 0, 0, 1];
/// The node's on the overlay port, when it routes.
pub const GATEWAY_MAC: [u8; 6] = [2, 0xaa, 0, 0, 1, 1];
/// A host on the overlay port.
pub const HOST_MAC: [u8; 6] = [2, 0xcc, 0, 0, 0, 1];
/// Hosts behind the peers, in the FDB.
pub const REMOTE_MACS: [[u8; 6]; 3] = [
    [2, 0xbb, 0, 0, 0, 2],
    [2, 0xbb, 0, 0, 0, 3],
    [2, 0xbb, 0, 0, 0, 4],
];
/// A group address with an FDB entry of its own, to the second peer.
pub const GROUP_MAC: [u8; 6] = [1, 0, 0x5e, 0, 0, 5];

/// A host behind the first peer, whose FDB entry has a port and a VNI of its own.
pub const ELSEWHERE_MAC: [u8; 6] = [2, 0xbb, 0, 0, 0, 5];
/// Others, with a port or a VNI alone.
pub const OTHER_PORT_MAC: [u8; 6] = [2, 0xbb, 0, 0, 0, 6];
pub const OTHER_VNI_MAC: [u8; 6] = [2, 0xbb, 0, 0, 0, 7];
pub const OTHER_PORT: u16 = 4789;
pub const OTHER_VNI: u32 = 77;
/// Of the device, and of what is around it.
pub const OVERLAY_MTU: usize = 1500;
/// Takes every inner frame, tags included.
pub const UNDERLAY_MTU: usize = 1600;

const PORTS_BOUND: Duration = Duration::from_secs(10);
const SENTINEL_BOUND: Duration = Duration::from_secs(20);
const SENTINEL_AGAIN: Duration = Duration::from_secs(2);

/// `fdXX::N`.
pub const fn ipv6(network: u8, number: u8) -> [u8; 16] {
    let mut address = [0; 16];
    (address[0], address[1], address[15]) = (0xfd, network, number);
    address
}

/// Where frames enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// From the underlay: decapsulation.
    Wire,
    /// From the bridge port: encapsulation.
    Bridge,
    /// Straight into the vxlan device: encapsulation.
    Device,
}

/// What came out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// On the underlay.
    pub wire: Vec<Vec<u8>>,
    /// On the overlay.
    pub overlay: Vec<Vec<u8>>,
    /// From each device, where there are several: which of them a frame was for.
    pub devices: Vec<Vec<Vec<u8>>>,
}

impl Output {
    pub fn is_empty(&self) -> bool {
        self.wire.is_empty() && self.overlay.is_empty() && self.devices.iter().all(Vec::is_empty)
    }
}

/// One of the two.
#[derive(Debug)]
pub struct Site {
    pub name: String,
    wire: End,
    overlay: End,
    device: End,
    /// One on each device, where there are several.
    taps: Vec<End>,
    sentinels: u64,
    /// VXLAN frames that came out on the wire, sentinels included.
    pub tunnelled: u64,
    /// Frames put in: on the wire, on the bridge port, into the device.
    pub sent: [u64; 3],
    /// The same, with a superframe counted as one.
    pub written: [u64; 3],
    segments: &'static [Segment],
    kind: Overlay,
    /// The ways through the node.
    lanes: &'static [Lane],
    // The process before its namespace.
    pub vxgate: Option<Vxgate>,
    pub node: Netns,
    _ends: Netns,
    // Behind what it would remove.
    _janitor: Janitor,
}

impl Site {
    /// Builds it; with `taken` it is `vxgate`'s.
    pub fn new(setting: &Setting, taken: bool) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("vx{}-o{number}", std::process::id());
        let names = [format!("{name}-n"), format!("{name}-e")];
        let mut janitor = Janitor::watch(&names);
        let [node, ends] = names.map(|name| Netns::create(&name));
        script::build(&node, setting, ends.name());
        if setting.overlay == Overlay::Bridged {
            // The bridge hears of a carrier late (`linkwatch`).
            let ports = setting.segments.len() + 1;
            wait_until("all ports of the bridge forward", PORTS_BOUND, || {
                let states = node.run("bridge link");
                states.matches("state forwarding").count() == ports
            });
        }
        let vxgate = taken.then(|| {
            let arguments = [&["--workers", "1"], setting.policy].concat();
            Vxgate::start_with(&node, setting.superframes, &arguments)
        });
        if let Some(vxgate) = &vxgate {
            janitor.watch_folder(
                vxgate
                    .socket()
                    .parent()
                    .expect("it has a folder of its own"),
            );
            let status = vxgate.status();
            for name in (0..setting.segments.len()).map(device_name) {
                let device = status.device(&name).expect("the device is in the status");
                assert!(device["taken_over"] == true, "not taken over: {device}");
                let whole = device["superframes"]["on"] == true;
                assert!(
                    !whole || setting.superframes != Superframes::Off,
                    "{device}"
                );
            }
        }
        let tapped = match setting.segments.len() {
            1 => 0,
            several => several,
        };
        let taps = (0..tapped).map(|number| End::open(&node, &device_name(number), true));
        let mut site = Self {
            name,
            taps: taps.collect(),
            wire: End::open(&ends, "wire", true),
            overlay: End::open(&ends, "over", true),
            device: End::open(&node, "vx1", false),
            sentinels: 0,
            tunnelled: 0,
            sent: [0; 3],
            written: [0; 3],
            segments: setting.segments,
            kind: setting.overlay,
            lanes: match setting.superframes {
                Superframes::Auto | Superframes::Cut if taken => &[Lane::Frames, Lane::Tcp],
                _ => &[Lane::Frames],
            },
            vxgate,
            _janitor: janitor,
            node,
            _ends: ends,
        };
        // Whatever the kernel had to say about links that came up comes out in front of the first sentinels.
        site.play(Entry::Wire, &[]);
        site
    }

    /// Sends frames and returns all that came out before a sentinel that was sent behind them, each way.
    ///
    /// Everything between the ends keeps its order: one worker, one queue each.
    pub fn play(&mut self, entry: Entry, frames: &[Input]) -> Output {
        self.send(entry, frames);
        self.finish(entry)
    }

    /// As [`Site::play`], with the worker kept off until all are there: it finds as many at once as it takes.
    pub fn play_at_once(&mut self, entry: Entry, frames: &[Input]) -> Output {
        let stopped = self.vxgate.as_ref();
        stopped.inspect(|vxgate| vxgate.signal(Signal::SIGSTOP));
        self.send(entry, frames);
        let stopped = self.vxgate.as_ref();
        stopped.inspect(|vxgate| vxgate.signal(Signal::SIGCONT));
        self.finish(entry)
    }

    fn send(&mut self, entry: Entry, frames: &[Input]) {
        for frame in frames {
            match entry {
                Entry::Wire => self.wire.send(frame),
                Entry::Bridge => self.overlay.send(frame),
                Entry::Device => self.device.send(frame),
            }
        }
        self.sent[entry as usize] += frames.iter().map(Input::count).sum::<u64>();
        self.written[entry as usize] += frames.len() as u64;
    }

    /// All that has come out of what was sent.
    fn finish(&mut self, entry: Entry) -> Output {
        let mut output = Output::default();
        // First the way of the frames, then the way of the answers to them.
        self.mark(entry, &mut output);
        let back = if entry == Entry::Wire {
            Entry::Bridge
        } else {
            Entry::Wire
        };
        self.mark(back, &mut output);
        output
    }

    /// The status, once its balance holds.
    pub fn status(&self) -> Status {
        self.vxgate
            .as_ref()
            .expect("only one of the sites has a vxgate")
            .balanced()
    }

    /// A round of sentinels for each lane.
    fn mark(&mut self, entry: Entry, output: &mut Output) {
        for _ in self.lanes {
            self.sentinels += 1;
            self.mark_round(entry, output);
        }
    }

    fn mark_round(&mut self, entry: Entry, output: &mut Output) {
        // Each device has a way of its own through the node, and two from the wire: through a worker, and through the kernel for
        // what steering leaves to it. Neither waits for the other.
        let devices = self.segments.len();
        let ways = match entry {
            Entry::Device => 1,
            Entry::Bridge | Entry::Wire => devices,
        };
        let on_lanes = self.lanes.iter();
        let mut missing: Vec<(usize, Lane)> = on_lanes
            .flat_map(|lane| (0..ways).map(|way| (way, *lane)))
            .collect();
        if entry == Entry::Wire {
            missing.extend((devices..2 * devices).map(|way| (way, Lane::Frames)));
        }
        let started = Instant::now();
        let deadline = started + SENTINEL_BOUND;
        let mut due = started;
        loop {
            // Again after a while: a worker that starved has lost what it held when its hook took it for dead.
            if Instant::now() >= due {
                self.send_sentinels(entry, &missing);
                if due > started {
                    println!("{}: from {entry:?} again for {missing:?}", self.name);
                }
                due = Instant::now() + SENTINEL_AGAIN;
            }
            for sentinel in self.collect(output) {
                let of_window = sentinel.number == self.sentinels;
                missing.retain(|missing| !of_window || *missing != (sentinel.way, sentinel.lane));
            }
            if missing.is_empty() {
                return;
            }
            if Instant::now() > deadline {
                let status = self.vxgate.as_ref().map(Vxgate::status);
                panic!(
                    "{}: a good frame from {entry:?} does not come out: {status:#?}",
                    self.name
                );
            }
            let end = if entry == Entry::Wire {
                &self.overlay
            } else {
                &self.wire
            };
            end.wait(Duration::from_millis(100));
        }
    }

    fn send_sentinels(&mut self, entry: Entry, to: &[(usize, Lane)]) {
        let sentinel = |way, lane| Sentinel {
            number: self.sentinels,
            way,
            lane,
        };
        if entry == Entry::Wire {
            let devices = self.segments.len();
            for (way, lane) in to {
                let outer = Outer::to(&self.segments[way % devices]);
                let frame = outer.around(&sentinel(*way, *lane).inbound(self.kind));
                self.wire.send(&Input::from(if *way < devices {
                    frame
                } else {
                    for_kernel(frame)
                }));
            }
            self.sent[entry as usize] += to.len() as u64;
            self.written[entry as usize] += to.len() as u64;
            return;
        }
        // One on each lane for all devices.
        for lane in self.lanes {
            if to.iter().any(|(_, missing)| missing == lane) {
                let frame = Input::from(sentinel(0, *lane).outbound(self.kind));
                match entry {
                    Entry::Device => self.device.send(&frame),
                    _ => self.overlay.send(&frame),
                }
                self.sent[entry as usize] += 1;
                self.written[entry as usize] += 1;
            }
        }
    }

    /// Takes what is there; the sentinels in it.
    fn collect(&mut self, output: &mut Output) -> Vec<Sentinel> {
        let routed = self.kind == Overlay::Routed;
        let mut sentinels = Vec::new();
        while let Some(frame) = self.wire.receive() {
            let inner = inner_of(&frame);
            self.tunnelled += u64::from(inner.is_some());
            match inner.and_then(Sentinel::read) {
                Some(sentinel) => {
                    let mut segments = self.segments.iter();
                    let way = segments.position(|segment| segment.sent(&frame));
                    let way = way.expect("a sentinel leaves by a device of the site");
                    sentinels.push(Sentinel { way, ..sentinel });
                }
                None if is_housekeeping(&frame) => {}
                None if routed && inner.is_some_and(is_housekeeping) => {}
                None => output.wire.push(frame),
            }
        }
        while let Some(frame) = self.overlay.receive() {
            match Sentinel::read(&frame) {
                Some(sentinel) => sentinels.push(sentinel),
                None if routed && is_housekeeping(&frame) => {}
                None => output.overlay.push(frame),
            }
        }
        // Behind the overlay: what is there has been here.
        output.devices.resize(self.taps.len(), Vec::new());
        for (tap, frames) in self.taps.iter_mut().zip(&mut output.devices) {
            while let Some(frame) = tap.receive() {
                // The bridge takes no other source, and there `vxgate` saves it the work.
                let source_ok = frame[6] & 1 == 0 && frame[6..12] != [0; 6];
                if source_ok && Sentinel::read(&frame).is_none() {
                    frames.push(frame);
                }
            }
        }
        sentinels
    }
}
