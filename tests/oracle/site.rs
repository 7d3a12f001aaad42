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

use super::bytes::{self, Inner, be16};
use super::end::{End, Input};
use super::outer::{Family, Outer, inner_of, vni_of};
use super::script::{self, Janitor, device_name};
use super::support::netns::Netns;
use super::support::vxgate::{Status, Vxgate};
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
pub const OTHER_PORT: u16 = 4789;
pub const OTHER_VNI: u32 = 77;
/// Takes every inner frame, tags included: the device's MTU is 1500.
pub const UNDERLAY_MTU: usize = 1600;

/// Experimental EtherType (IEEE 802, local experimental 1) of the frames that mark the end of a window.
const SENTINEL_TYPE: u16 = 0x88b5;
/// For experiments (RFC 3692): the same over IPv4, where the node routes.
const SENTINEL_PROTOCOL: u8 = 253;
const PORTS_BOUND: Duration = Duration::from_secs(10);
const SENTINEL_BOUND: Duration = Duration::from_secs(20);
const SENTINEL_AGAIN: Duration = Duration::from_secs(2);

/// `fdXX::N`.
pub const fn ipv6(network: u8, number: u8) -> [u8; 16] {
    let mut address = [0; 16];
    (address[0], address[1], address[15]) = (0xfd, network, number);
    address
}

/// What a device is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    pub family: Family,
    pub vni: u32,
    pub port: u16,
}

impl Segment {
    pub const USUAL: Self = Self::over(Family::V4);

    pub const fn over(family: Family) -> Self {
        Self {
            family,
            vni: VNI,
            port: PORT,
        }
    }

    /// The one whose frame from the node this is.
    fn sent(&self, frame: &[u8]) -> bool {
        Family::of(frame) == Some(self.family)
            && be16(frame, self.family.udp() + 2) == Some(self.port)
            && vni_of(frame, self.family) == Some(self.vni)
    }
}

/// The devices and their attributes.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// `vx1` and so on.
    pub segments: &'static [Segment],
    /// Words of `ip link add … type vxlan`.
    pub attributes: &'static str,
    /// Lowest and highest source port that the kernel may choose.
    pub source_ports: (u16, u16),
    pub overlay: Overlay,
    /// Of the underlay.
    pub link_mtu: usize,
}

/// What the node does between the port and the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlay {
    Bridged,
    /// IP, for a host on the port (10.244.1.2, fd00:1::2) and a network behind the third peer (10.244.2.0/24, fd00:2::/64).
    Routed,
}

impl Setting {
    /// As flannel makes its device.
    pub const PLAIN: Self = Self::with("");
    /// The same over IPv6.
    pub const PLAIN6: Self = Self::with6("");

    pub const fn with(attributes: &'static str) -> Self {
        const SEGMENTS: &[Segment] = &[Segment::over(Family::V4)];
        Self::of(SEGMENTS, attributes)
    }

    pub const fn with6(attributes: &'static str) -> Self {
        const SEGMENTS: &[Segment] = &[Segment::over(Family::V6)];
        Self::of(SEGMENTS, attributes)
    }

    pub const fn of(segments: &'static [Segment], attributes: &'static str) -> Self {
        Self {
            segments,
            attributes,
            source_ports: (32_768, 60_999),
            overlay: Overlay::Bridged,
            link_mtu: UNDERLAY_MTU,
        }
    }
}

impl std::fmt::Display for Setting {
    fn fmt(&self, text: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for Segment { family, vni, port } in self.segments {
            write!(text, "{family:?} vni {vni} port {port} ")?;
        }
        if self.link_mtu != UNDERLAY_MTU {
            write!(text, "link {} ", self.link_mtu)?;
        }
        text.write_str(self.attributes)
    }
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
}

/// One of the two.
#[derive(Debug)]
pub struct Site {
    pub name: String,
    wire: End,
    overlay: End,
    device: End,
    sentinels: u64,
    /// VXLAN frames that came out on the wire, sentinels included.
    pub tunnelled: u64,
    /// Frames put in: on the wire, on the bridge port, into the device.
    pub sent: [u64; 3],
    segments: &'static [Segment],
    routed: bool,
    // The process before its namespace.
    pub vxgate: Option<Vxgate>,
    _janitor: Janitor,
    pub node: Netns,
    _ends: Netns,
}

impl Site {
    /// Builds it; with `taken` it is `vxgate`'s.
    pub fn new(setting: &Setting, taken: bool) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("vx{}-o{number}", std::process::id());
        let names = [format!("{name}-n"), format!("{name}-e")];
        let janitor = Janitor::watch(&names);
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
        let vxgate = taken.then(|| Vxgate::start(&node, &["--workers", "1"]));
        if let Some(vxgate) = &vxgate {
            let status = vxgate.status();
            for name in (0..setting.segments.len()).map(device_name) {
                let device = status.device(&name).expect("the device is in the status");
                assert!(device["taken_over"] == true, "not taken over: {device}");
            }
        }
        let mut site = Self {
            name,
            wire: End::open(&ends, "wire", true),
            overlay: End::open(&ends, "over", true),
            device: End::open(&node, "vx1", false),
            sentinels: 0,
            tunnelled: 0,
            sent: [0; 3],
            segments: setting.segments,
            routed: setting.overlay == Overlay::Routed,
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
        for frame in frames {
            match entry {
                Entry::Wire => self.wire.send(frame),
                Entry::Bridge => self.overlay.send(frame),
                Entry::Device => self.device.send(frame),
            }
        }
        self.sent[entry as usize] += frames.iter().map(Input::count).sum::<u64>();
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

    fn mark(&mut self, entry: Entry, output: &mut Output) {
        self.sentinels += 1;
        // Each device has a way of its own through the node.
        let mut missing: Vec<usize> = match entry {
            Entry::Device => vec![0],
            Entry::Wire | Entry::Bridge => (0..self.segments.len()).collect(),
        };
        let deadline = Instant::now() + SENTINEL_BOUND;
        let mut due = Instant::now();
        loop {
            // Again after a while: a worker that starved has lost what it held when its hook took it for dead.
            if Instant::now() >= due {
                self.send_sentinels(entry, &missing);
                due = Instant::now() + SENTINEL_AGAIN;
            }
            for (number, segment) in self.collect(output) {
                missing.retain(|missing| number != self.sentinels || *missing != segment);
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

    fn send_sentinels(&mut self, entry: Entry, to: &[usize]) {
        let inner = |segment: usize| {
            let numbers = [self.sentinels, segment as u64].map(u64::to_be_bytes);
            let payload = [&b"sentinel"[..], &numbers.concat(), &[0; 24]].concat();
            if !self.routed {
                return Inner::with(SENTINEL_TYPE, payload);
            }
            let mut packet = bytes::ipv4(0, 64, 0, SENTINEL_PROTOCOL, &payload);
            let [from, to] = match entry {
                Entry::Wire => [[10, 244, 2, 1], [10, 244, 1, 2]],
                Entry::Bridge | Entry::Device => [[10, 244, 1, 2], [10, 244, 2, 1]],
            };
            bytes::address(&mut packet, from, to);
            Inner::with(bytes::ETHER_IPV4, packet)
        };
        let through = |mut frame: Vec<u8>, router: [u8; 6]| {
            if self.routed {
                frame[..6].copy_from_slice(&router);
            }
            frame
        };
        match entry {
            Entry::Wire => {
                for segment in to {
                    let outer = Outer::to(&self.segments[*segment]);
                    let sentinel = through(inner(*segment).bytes(), DEVICE_MAC);
                    let sentinel = outer.around(&sentinel);
                    self.wire.send(&Input::from(sentinel));
                }
                self.sent[entry as usize] += to.len() as u64;
            }
            Entry::Bridge | Entry::Device => {
                let sentinel = through(inner(0).outbound().bytes(), GATEWAY_MAC);
                let sentinel = Input::from(sentinel);
                if entry == Entry::Bridge {
                    self.overlay.send(&sentinel);
                } else {
                    self.device.send(&sentinel);
                }
                self.sent[entry as usize] += 1;
            }
        }
    }

    /// Takes what is there; the sentinels in it: their numbers, and the devices that they passed.
    fn collect(&mut self, output: &mut Output) -> Vec<(u64, usize)> {
        let mut sentinels = Vec::new();
        while let Some(frame) = self.wire.receive() {
            let inner = inner_of(&frame);
            self.tunnelled += u64::from(inner.is_some());
            match inner.and_then(sentinel_numbers) {
                Some((number, _)) => {
                    let mut segments = self.segments.iter();
                    let segment = segments.position(|segment| segment.sent(&frame));
                    let segment = segment.expect("a sentinel leaves by a device of the site");
                    sentinels.push((number, segment));
                }
                None if is_housekeeping(&frame) || inner.is_some_and(is_housekeeping) => {}
                None => output.wire.push(frame),
            }
        }
        while let Some(frame) = self.overlay.receive() {
            match sentinel_numbers(&frame) {
                Some(numbers) => sentinels.push(numbers),
                None if self.routed && is_housekeeping(&frame) => {}
                None => output.overlay.push(frame),
            }
        }
        sentinels
    }
}

/// Its own number and its device's.
fn sentinel_numbers(inner: &[u8]) -> Option<(u64, usize)> {
    const IPV4_LEN: usize = 20;
    let payload = match be16(inner, 12)? {
        SENTINEL_TYPE => inner.get(14..)?,
        bytes::ETHER_IPV4 if inner.get(14 + 9)? == &SENTINEL_PROTOCOL => {
            inner.get(14 + IPV4_LEN..)?
        }
        _ => return None,
    };
    let (number, rest) = payload.strip_prefix(b"sentinel")?.split_first_chunk()?;
    let segment = u64::from_be_bytes(*rest.first_chunk()?) as usize;
    Some((u64::from_be_bytes(*number), segment))
}

/// The node's own address resolution, for answers to senders that are not there, and its reports on groups.
fn is_housekeeping(frame: &[u8]) -> bool {
    const NEIGHBOUR_SOLICITATION: u8 = 135;
    const LISTENER_REPORT_2: u8 = 143;
    match be16(frame, 12) {
        Some(bytes::ETHER_ARP) => true,
        Some(bytes::ETHER_IPV6) => match frame.get(20) {
            Some(58) => frame.get(54) == Some(&NEIGHBOUR_SOLICITATION),
            // Behind a hop-by-hop header of 8 bytes.
            Some(0) => frame.get(54) == Some(&58) && frame.get(62) == Some(&LISTENER_REPORT_2),
            _ => false,
        },
        _ => false,
    }
}
