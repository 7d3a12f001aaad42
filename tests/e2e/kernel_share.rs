//! Destinations that only the kernel reaches, beside others on the same device: every frame arrives once, whoever carries it,
//! and the books say who did. Each scene plays on the plain kernel, too, with the same numbers at the far ends.
//!
//! ```text
//!             node: vx1 (VNI 1), vx2 (VNI 2), vx3 (VNI 1, UDP 4789)         far1, far2: vx1, vx2, vx3 likewise
//!               eth1 10.0.1.1, 10.0.1.9 ══════════════════════ eth0 10.0.1.2   far1
//!               eth2 10.0.2.1 ════════════════════════════════ eth0 10.0.2.2   far2
//!   vx1 is at 10.0.1.1 and the others at 10.0.1.9, all on eth1; both far ends also answer for 10.0.3.3.
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use nix::sys::signal::Signal;
use serde_json::Value;
use vxgate::netlink::RequestBody;

use crate::support::frames::{RawSocket, mac};
use crate::support::lab::Turn;
use crate::support::netns::Netns;
use crate::support::vxgate::{Status, Vxgate};
use crate::support::vxlan;
use crate::support::wait_until;

const FRAMES: u32 = 100;
const PATIENCE: Duration = Duration::from_secs(10);
const BROADCAST: &str = "ff:ff:ff:ff:ff:ff";
/// Stations by where their FDB entries lead.
const FAR1: &str = "02:00:00:00:00:01";
const FAR2: &str = "02:00:00:00:00:02";
const FAR2_VIA: &str = "02:00:00:00:00:03";
const FAR1_VIA: &str = "02:00:00:00:00:04";
const ROAMING: &str = "02:00:00:00:00:05";
const LOST: &str = "02:00:00:00:00:06";
const TO_VX2: &str = "02:00:00:00:00:07";
const TO_VX3: &str = "02:00:00:00:00:08";
const MOVING: &str = "02:00:00:00:00:09";
const TO_NOBODY: &str = "02:00:00:00:00:0a";

/// The namespaces of the drawing.
struct Site {
    node: Netns,
    far: [Netns; 2],
    _turn: Turn,
}

impl Site {
    fn new(name: &str) -> Self {
        let turn = Turn::alone();
        let netns = |end: &str| {
            let netns = Netns::create(&format!("vx{}-{name}-{end}", std::process::id()));
            // No neighbour discovery among the counted frames.
            netns.run("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
            netns.run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
            netns
        };
        let site = Self {
            node: netns("node"),
            far: [netns("far1"), netns("far2")],
            _turn: turn,
        };
        for (far, number) in site.far.iter().zip(1..) {
            site.node.run(&format!(
                "ip link add eth{number} type veth peer name eth0 netns {}",
                far.name()
            ));
            site.node.run(&format!("ip link set eth{number} up"));
            site.node
                .run(&format!("ip addr add 10.0.{number}.1/24 dev eth{number}"));
            far.run("ip link set eth0 up");
            far.run(&format!("ip addr add 10.0.{number}.2/24 dev eth0"));
            far.run(&format!("ip route add default via 10.0.{number}.1"));
            far.run("ip addr add 10.0.3.3/32 dev lo");
            site.devices(far, "eth0", [&format!("10.0.{number}.2"); 3]);
        }
        site.node.run("ip addr add 10.0.1.9/24 dev eth1");
        site.node.run("ip route add 10.0.3.3/32 via 10.0.2.2");
        site.devices(&site.node, "eth1", ["10.0.1.1", "10.0.1.9", "10.0.1.9"]);
        for (station, destination) in [
            (FAR1, "10.0.1.2"),
            (FAR2, "10.0.2.2"),
            (FAR2_VIA, "10.0.2.2 via eth2"),
            (FAR1_VIA, "10.0.1.2 via eth1"),
            (ROAMING, "10.0.3.3"),
            (LOST, "10.99.0.1"),
            (TO_VX2, "10.0.1.9 vni 2"),
            (TO_VX3, "10.0.1.9 port 4789"),
            (MOVING, "10.0.1.77 vni 2"),
            (TO_NOBODY, "10.0.1.9 vni 77"),
        ] {
            site.entry("add", station, destination);
        }
        site
    }

    /// vx1, vx2 and vx3 of a namespace.
    fn devices(&self, netns: &Netns, underlay: &str, locals: [&str; 3]) {
        for ((device, identity), local) in [
            ("vx1", "id 1 dstport 8472"),
            ("vx2", "id 2 dstport 8472"),
            ("vx3", "id 1 dstport 4789"),
        ]
        .into_iter()
        .zip(locals)
        {
            netns.run(&format!(
                "ip link add {device} type vxlan {identity} local {local} dev {underlay} nolearning"
            ));
            netns.run(&format!("ip link set {device} up"));
        }
    }

    /// Changes an FDB entry of the node's vx1.
    fn entry(&self, change: &str, station: &str, destination: &str) {
        self.node.run(&format!(
            "bridge fdb {change} {station} dev vx1 dst {destination} self permanent"
        ));
    }

    fn flood(&self, change: &str, destination: &str) {
        self.entry(change, "00:00:00:00:00:00", destination);
    }

    /// Frames from the node's vx1.
    fn stations(&self) -> Stations {
        self.stations_from(
            (&self.node, "vx1"),
            &[
                ("far1", &self.far[0], "vx1"),
                ("far2", &self.far[1], "vx1"),
                ("far1/vx2", &self.far[0], "vx2"),
                ("vx2", &self.node, "vx2"),
                ("vx3", &self.node, "vx3"),
            ],
        )
    }

    /// Frames from a device, and the devices where they are listened for.
    fn stations_from(
        &self,
        (netns, device): (&Netns, &str),
        ends: &[(&'static str, &Netns, &str)],
    ) -> Stations {
        let ends = ends
            .iter()
            .map(|(name, netns, device)| (*name, RawSocket::open(netns, device)));
        Stations {
            sender: RawSocket::open(netns, device),
            ends: ends.collect(),
            heard: BTreeMap::new(),
            judged: Vec::new(),
            next: 0,
        }
    }

    /// Sets a flag that `ip` may be too old to know: `IFLA_VXLAN_LOCALBYPASS`.
    fn set_local_bypass(&self, on: bool) {
        const LOCAL_BYPASS: u16 = 31;
        let flag = RequestBody::default().with(LOCAL_BYPASS, &[u8::from(on)]);
        vxlan::change(&self.node, "vx1", &flag);
    }

    /// A count of a device of the node, as `ip` tells it.
    fn count(&self, device: &str, way: &str, what: &str) -> u64 {
        let text = self
            .node
            .run(&format!("ip -s -s -j link show dev {device}"));
        let links: Value = serde_json::from_str(&text).expect("ip prints JSON");
        let stats = &links[0]["stats64"][way][what];
        stats
            .as_u64()
            .unwrap_or_else(|| panic!("{way} {what}: {}", links[0]))
    }
}

/// Numbered frames from a device, and who heard them.
struct Stations {
    sender: RawSocket,
    ends: Vec<(&'static str, RawSocket)>,
    /// By end and number: how many times.
    heard: BTreeMap<(&'static str, u32), u32>,
    judged: Vec<Judged>,
    next: u32,
}

const MARK: &[u8] = b"kernel share ";

impl Stations {
    /// Sends one frame to a station; its number.
    fn send(&mut self, station: &str) -> u32 {
        let number = self.next;
        self.next += 1;
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2, 0, 0, 0, 9, 9], mac(station))
            .ipv4([10, 244, 0, 1], [10, 244, 0, 2], 64)
            // Datagrams of one flow may arrive joined, as by the kernel's GRO; here each is looked for by itself.
            .udp(4002 + (number % 1000) as u16, 4001)
            .write(&mut frame, &[MARK, &number.to_be_bytes()].concat())
            .expect("writing to memory");
        self.sender.send(&frame);
        number
    }

    /// Sends this many; their numbers.
    fn burst(&mut self, station: &str) -> Vec<u32> {
        (0..FRAMES).map(|_| self.send(station)).collect()
    }

    fn listen(&mut self) {
        /// Ethernet, IPv4 and UDP headers.
        const PAYLOAD: usize = 14 + 20 + 8;
        for (name, socket) in &self.ends {
            while let Some(frame) = socket.receive() {
                let payload = frame
                    .get(PAYLOAD..)
                    .and_then(|bytes| bytes.strip_prefix(MARK));
                if let Some(number) = payload.and_then(|bytes| bytes.first_chunk()) {
                    let number = u32::from_be_bytes(*number);
                    *self.heard.entry((name, number)).or_default() += 1;
                }
            }
        }
    }

    /// How many of these frames an end heard, and how many times one of them beyond the first.
    fn heard(&self, end: &'static str, numbers: &[u32]) -> (u32, u32) {
        let times = numbers
            .iter()
            .filter_map(|number| self.heard.get(&(end, *number)));
        times.fold((0, 0), |(heard, again), times| {
            (heard + 1, again + times - 1)
        })
    }

    /// Waits until this end has heard all of the frames, whatever others did; none twice.
    fn assert_heard_at(&mut self, end: &'static str, numbers: &[u32]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.listen();
            let (heard, again) = self.heard(end, numbers);
            assert_eq!(again, 0, "{end} hears none twice");
            if heard == numbers.len() as u32 {
                return;
            }
            let all = numbers.len();
            assert!(Instant::now() < deadline, "{end} heard {heard} of {all}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until each of these ends has heard all of the frames; asserts that no other end has heard any, and none twice.
    /// What comes too late to be seen is seen by the next call.
    fn assert_heard(&mut self, what: &str, numbers: &[u32], ends: &[&str]) {
        let all = numbers.len() as u32;
        let mut wanted: Vec<_> = self.ends.iter().map(|(end, _)| *end).collect();
        wanted.retain(|end| ends.contains(end));
        let judged = Judged {
            what: what.to_owned(),
            numbers: numbers.to_vec(),
            wanted: wanted.into_iter().map(|end| (end, (all, 0))).collect(),
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.listen();
            let heard = self.all_heard(numbers);
            if heard == judged.wanted {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "{what}: heard {heard:?}, wanted {:?}",
                judged.wanted
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        for earlier in &self.judged {
            let heard = self.all_heard(&earlier.numbers);
            assert_eq!(heard, earlier.wanted, "{}, seen later", earlier.what);
        }
        self.judged.push(judged);
    }

    /// As [`Stations::heard`], of each end that heard any.
    fn all_heard(&self, numbers: &[u32]) -> Heard {
        let all = self
            .ends
            .iter()
            .map(|(end, _)| (*end, self.heard(end, numbers)));
        all.filter(|(_, counts)| *counts != (0, 0)).collect()
    }
}

/// Ends, with how many frames they heard, and how many again.
type Heard = Vec<(&'static str, (u32, u32))>;

/// Frames whose fate is known, and who may have heard them.
struct Judged {
    what: String,
    numbers: Vec<u32>,
    wanted: Heard,
}

/// Frames that have entered by vx1's access port and where they went, since `before`.
#[derive(Debug, PartialEq, Eq)]
struct Books {
    forwarded: u64,
    copies: u64,
    kernels: u64,
    dropped: u64,
}

fn books(status: &Status) -> Books {
    let ports = status.list("ports");
    let port = ports
        .filter(|port| port["role"] == "access")
        .find(|port| port["name"] == "vx1")
        .expect("vx1 is carried");
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    Books {
        forwarded: count(&port["forwarded"]),
        copies: count(&port["flood_copies"]),
        kernels: count(&port["passed"]["kernel_route"]),
        dropped: count(&port["drops"]["total"]),
    }
}

/// A gateway at work, or none: the control.
struct Carrier<'a> {
    site: &'a Site,
    vxgate: Option<Vxgate>,
    before: Option<Books>,
}

impl<'a> Carrier<'a> {
    fn start(site: &'a Site, with_vxgate: bool) -> Self {
        let vxgate = with_vxgate.then(|| Vxgate::start(&site.node, &[]));
        let mut carrier = Self {
            site,
            vxgate,
            before: None,
        };
        // The first frames to a neighbour wait for its address: all later ones are counted.
        for (station, addr) in [("eth1", "10.0.1.2"), ("eth2", "10.0.2.2")] {
            carrier
                .site
                .node
                .run(&format!("ping -q -c 1 -W 5 -I {station} {addr}"));
        }
        carrier.wait_resolved("10.0.1.2");
        carrier
    }

    /// Waits until vxgate, or the kernel where there is none, knows the neighbour.
    fn wait_resolved(&mut self, addr: &str) {
        match &self.vxgate {
            Some(vxgate) => wait_until(&format!("{addr} is resolved"), PATIENCE, || {
                vxgate.status().list("vteps").any(|vtep| {
                    vtep["device"] == "vx1" && vtep["addr"] == addr && vtep["state"] == "resolved"
                })
            }),
            None => {
                self.site.node.run(&format!("ping -q -c 1 -W 5 {addr}"));
            }
        }
        self.take_books();
    }

    fn take_books(&mut self) {
        self.before = self.vxgate.as_ref().map(|vxgate| books(&vxgate.balanced()));
    }

    /// Waits until vxgate says that the kernel keeps these frames of vx1.
    fn wait_kernel_keeps(&mut self, words: &str) {
        if let Some(vxgate) = &self.vxgate {
            wait_until(&format!("the kernel keeps {words}"), PATIENCE, || {
                let status = vxgate.status();
                let device = status.device("vx1").expect("vx1");
                device["kernel_keeps"] == words
            });
        }
        self.take_books();
    }

    /// What became of the frames since the last call, to the last one; they are not counted again.
    fn assert_books(&mut self, what: &str, forwarded: u32, copies: u32, kernels: u32) {
        let Some(vxgate) = &self.vxgate else {
            return;
        };
        let before = self.before.as_ref().expect("taken before");
        let after = books(&vxgate.balanced());
        let moved = Books {
            forwarded: after.forwarded - before.forwarded,
            copies: after.copies - before.copies,
            kernels: after.kernels - before.kernels,
            dropped: after.dropped - before.dropped,
        };
        let wanted = Books {
            forwarded: forwarded.into(),
            copies: copies.into(),
            kernels: kernels.into(),
            dropped: 0,
        };
        assert_eq!(moved, wanted, "{what}");
        self.before = Some(after);
    }
}

#[test]
fn vteps_of_another_underlay_device_are_reached_by_the_kernel_beside_our_own() {
    for with_vxgate in [false, true] {
        let site = Site::new("route");
        let mut stations = site.stations();
        let mut carrier = Carrier::start(&site, with_vxgate);
        // FAR2, FAR2_VIA, ROAMING, LOST, TO_VX2, TO_VX3, TO_NOBODY.
        carrier.wait_kernel_keeps("frames to 7 addresses");
        for (station, end, kernels) in [
            (FAR1, "far1", 0),
            (FAR1_VIA, "far1", 0),
            (FAR2, "far2", FRAMES),
            (FAR2_VIA, "far2", FRAMES),
            (ROAMING, "far2", FRAMES),
        ] {
            let sent = stations.burst(station);
            stations.assert_heard(station, &sent, &[end]);
            carrier.assert_books(station, FRAMES - kernels, 0, kernels);
        }
        if let Some(vxgate) = &carrier.vxgate {
            assert_told(vxgate);
        }

        // No route: the kernel counts it, as it did before.
        let errors = site.count("vx1", "tx", "carrier_errors");
        let sent = stations.burst(LOST);
        stations.assert_heard(LOST, &sent, &[]);
        carrier.assert_books(LOST, 0, 0, FRAMES);
        assert_eq!(
            site.count("vx1", "tx", "carrier_errors"),
            errors + u64::from(FRAMES)
        );
        for (kind, answer) in [
            ("blackhole", FRAMES),
            ("unreachable", FRAMES),
            ("prohibit", FRAMES),
        ] {
            site.node.run(&format!("ip route add {kind} 10.99.0.1/32"));
            let sent = stations.burst(LOST);
            carrier.assert_books(kind, 0, 0, answer);
            stations.assert_heard(kind, &sent, &[]);
            site.node.run(&format!("ip route del {kind} 10.99.0.1/32"));
        }

        // The way to one of them moves to our own underlay and back, under a stream.
        let mut sent = Vec::new();
        for (gateway, words) in [
            ("10.0.1.2", "frames to 6 addresses"),
            ("10.0.2.2", "frames to 7 addresses"),
        ] {
            site.node
                .run(&format!("ip route replace 10.0.3.3/32 via {gateway}"));
            stream(&mut stations, ROAMING, &mut sent, &carrier, words);
        }
        assert_each_once(&mut stations, &sent);
        carrier.take_books();
        let settled = stations.burst(ROAMING);
        stations.assert_heard("back at far2", &settled, &["far2"]);
        carrier.assert_books("back at far2", 0, 0, FRAMES);
    }
}

/// Sends to a station until the programs were told these words, and for a while.
fn stream(
    stations: &mut Stations,
    station: &str,
    sent: &mut Vec<u32>,
    carrier: &Carrier<'_>,
    words: &str,
) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for _ in 0..FRAMES {
            sent.push(stations.send(station));
            stations.listen();
            std::thread::sleep(Duration::from_micros(200));
        }
        let told = carrier.vxgate.as_ref().is_none_or(|vxgate| {
            let status = vxgate.status();
            status.device("vx1").expect("vx1")["kernel_keeps"] == words
        });
        if told {
            return;
        }
        assert!(Instant::now() < deadline, "the kernel keeps {words}");
    }
}

/// Every frame was heard by one of the far ends, and by one only.
fn assert_each_once(stations: &mut Stations, sent: &[u32]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        stations.listen();
        let (at1, again1) = stations.heard("far1", sent);
        let (at2, again2) = stations.heard("far2", sent);
        assert_eq!((again1, again2), (0, 0), "none is heard twice");
        if at1 + at2 == sent.len() as u32 {
            assert!(at1 > 0 && at2 > 0, "{at1} at far1, {at2} at far2");
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{at1} at far1, {at2} at far2 of {}",
            sent.len()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// It is healthy, and says what is the kernel's and why.
fn assert_told(vxgate: &Vxgate) {
    let status = vxgate.status();
    assert_eq!(status.state(), "healthy", "{}", status.0);
    let device = status.device("vx1").expect("vx1");
    assert_eq!(
        (&device["kernel_entries"], &device["fdb_entries"]),
        (&7.into(), &10.into())
    );
    let warnings: Vec<_> = status.list("warnings").filter_map(Value::as_str).collect();
    assert!(
        warnings
            .iter()
            .any(|words| words.starts_with("vx1: 7 of 10 FDB and flood entries")),
        "{warnings:?}"
    );
    let state = |addr: &str| {
        let mut vteps = status.list("vteps");
        let vtep = vteps.find(|vtep| vtep["device"] == "vx1" && vtep["addr"] == addr);
        let vtep = vtep.unwrap_or_else(|| panic!("no VTEP {addr}"));
        (vtep["state"].clone(), vtep["carried_by"].clone())
    };
    for (addr, why, who) in [
        ("10.0.1.2", "resolved", "vxgate"),
        ("10.0.1.77", "no_neighbour", "vxgate"),
        ("10.0.2.2", "unsupported", "kernel"),
        ("10.0.1.9", "local_address", "kernel"),
        ("10.99.0.1", "no_route", "kernel"),
    ] {
        assert_eq!(state(addr), (why.into(), who.into()), "{addr}");
    }
}

#[test]
fn devices_of_one_host_exchange_frames_with_and_without_local_bypass() {
    for with_vxgate in [false, true] {
        let site = Site::new("local");
        site.far[0].run("ip addr add 10.0.1.77/32 dev eth0");
        let mut stations = site.stations();
        let mut carrier = Carrier::start(&site, with_vxgate);
        carrier.wait_kernel_keeps("frames to 7 addresses");
        let loopback = || site.count("lo", "rx", "packets");
        for bypass in [true, false, true] {
            site.set_local_bypass(bypass);
            if let Some(vxgate) = &carrier.vxgate {
                let status = vxgate.status();
                assert_eq!(status.device("vx1").expect("vx1")["taken_over"], true);
            }
            // One VNI and another port, one port and another VNI; each is told from the other.
            for (station, end) in [(TO_VX2, "vx2"), (TO_VX3, "vx3")] {
                let before = loopback();
                let sent = stations.burst(station);
                stations.assert_heard(end, &sent, &[end]);
                carrier.assert_books(end, 0, 0, FRAMES);
                let through_the_stack = if bypass { 0 } else { u64::from(FRAMES) };
                assert_eq!(loopback() - before, through_the_stack, "bypass {bypass}");
            }
            // Nobody has this VNI: with the bypass the kernel says so at once.
            let errors = site.count("vx1", "tx", "errors");
            let sent = stations.burst(TO_NOBODY);
            stations.assert_heard("nobody", &sent, &[]);
            carrier.assert_books("nobody", 0, 0, FRAMES);
            let counted = if bypass { u64::from(FRAMES) } else { 0 };
            assert_eq!(site.count("vx1", "tx", "errors") - errors, counted);
        }

        // An address of far1 becomes ours, and goes back.
        for (change, ends, words, kernels) in [
            ("", ["far1/vx2"], "frames to 7 addresses", 0),
            (
                "ip addr add 10.0.1.77/32 dev lo",
                ["vx2"],
                "frames to 8 addresses",
                FRAMES,
            ),
            (
                "ip addr del 10.0.1.77/32 dev lo",
                ["far1/vx2"],
                "frames to 7 addresses",
                0,
            ),
        ] {
            if !change.is_empty() {
                site.node.run(change);
            }
            carrier.wait_kernel_keeps(words);
            if kernels == 0 {
                carrier.wait_resolved("10.0.1.77");
            }
            let sent = stations.burst(MOVING);
            stations.assert_heard(change, &sent, &ends);
            carrier.assert_books(change, FRAMES - kernels, 0, kernels);
        }
    }
}

#[test]
fn one_flooded_destination_of_the_kernels_and_every_far_end_still_gets_one_copy() {
    for with_vxgate in [false, true] {
        let site = Site::new("flood");
        site.flood("append", "10.0.1.2");
        let mut stations = site.stations();
        let mut carrier = Carrier::start(&site, with_vxgate);
        let (ours, both) = (
            "frames to 7 addresses",
            // FAR1, FAR1_VIA, MOVING.
            "all frames but those to 3 addresses",
        );
        carrier.wait_kernel_keeps(ours);
        let stranger = "02:00:00:00:00:ee";
        for station in [BROADCAST, stranger] {
            let sent = stations.burst(station);
            stations.assert_heard("one far end", &sent, &["far1"]);
            carrier.assert_books("one far end", FRAMES, 0, 0);
        }
        site.flood("append", "10.0.2.2");
        carrier.wait_kernel_keeps(both);
        for station in [BROADCAST, stranger] {
            let sent = stations.burst(station);
            stations.assert_heard("two far ends", &sent, &["far1", "far2"]);
            carrier.assert_books("two far ends", 0, 0, FRAMES);
        }
        for (station, end, kernels) in [(FAR1, "far1", 0), (FAR2, "far2", FRAMES)] {
            let sent = stations.burst(station);
            stations.assert_heard(station, &sent, &[end]);
            carrier.assert_books(station, FRAMES - kernels, 0, kernels);
        }
        if let Some(vxgate) = &carrier.vxgate {
            let status = vxgate.status();
            assert_eq!(status.state(), "healthy", "{}", status.0);
            let mut warnings = status.list("warnings").filter_map(Value::as_str);
            assert!(
                warnings.any(|words| words.contains("and so are all that no FDB entry names")),
                "{}",
                status.0
            );
        }

        // It comes and goes under a stream: the far end that is always there hears every frame once.
        let mut sent = Vec::new();
        for _ in 0..3 {
            for (change, words) in [("del", ours), ("append", both)] {
                site.flood(change, "10.0.2.2");
                stream(&mut stations, BROADCAST, &mut sent, &carrier, words);
            }
        }
        stations.assert_heard_at("far1", &sent);
        let (at2, again) = stations.heard("far2", &sent);
        assert!(
            at2 > 0 && again == 0,
            "{at2} at far2, {again} of them again"
        );
        if let Some(vxgate) = &carrier.vxgate {
            let status = vxgate.balanced();
            let moved = books(&status);
            assert_eq!(moved.dropped, 0, "{}", status.0);
            assert!(moved.forwarded > 0 && moved.kernels > 0);
        }
    }
}

#[test]
fn what_is_the_kernels_loses_nothing_when_vxgate_hangs_and_dies_and_the_rest_goes_on() {
    let site = Site::new("kill");
    site.flood("append", "10.0.1.2");
    let mut stations = site.stations();
    let mut carrier = Carrier::start(&site, true);
    // While it runs, so that descriptors for it are newer than those that a dying process has to close first.
    site.flood("append", "10.0.2.2");
    carrier.wait_kernel_keeps("all frames but those to 3 addresses");
    let mut vxgate = carrier.vxgate.take().expect("it was started");
    let forwarded = books(&vxgate.status()).forwarded;
    // Steered while vxgate lives, flooded by the kernel, sent by the kernel.
    let mut sent = [FAR1, BROADCAST, FAR2].map(|station| (station, Vec::new()));
    let mut go_on = |stations: &mut Stations| {
        for _ in 0..3 * FRAMES {
            for (station, numbers) in &mut sent {
                numbers.push(stations.send(station));
            }
            stations.listen();
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    go_on(&mut stations);
    assert!(books(&vxgate.status()).forwarded >= forwarded + u64::from(FRAMES));
    vxgate.signal(Signal::SIGSTOP);
    go_on(&mut stations);
    vxgate.signal(Signal::SIGCONT);
    go_on(&mut stations);
    vxgate.signal(Signal::SIGKILL);
    go_on(&mut stations);
    vxgate.wait();

    let [(_, steered), (_, flooded), (_, kernels)] = &sent;
    stations.assert_heard("flooded", flooded, &["far1", "far2"]);
    stations.assert_heard("the kernel's", kernels, &["far2"]);
    let last = &steered[steered.len() - FRAMES as usize..];
    stations.assert_heard("by the kernel after the end", last, &["far1"]);
    let (heard, again) = stations.heard("far1", steered);
    println!("    {heard} of {} steered frames heard", steered.len());
    assert_eq!(again, 0);
    // Frames for 200 ms of silence, and some that were on their way.
    assert!(heard as usize > steered.len() * 3 / 4, "{heard}");

    let next = Vxgate::start(&site.node, &[]);
    assert_eq!(next.status().state(), "healthy");
    next.stop();
}

#[test]
fn several_vteps_of_one_host_are_carried_side_by_side_and_reach_each_other() {
    /// Where the station behind the node is, as the far ends know it.
    const NODE: &str = "02:00:00:00:00:0b";
    /// The same by the address of another device.
    const NODE_BY_VX1: &str = "02:00:00:00:00:0c";
    const TO_VX1: &str = "02:00:00:00:00:0d";
    for with_vxgate in [false, true] {
        let site = Site::new("several");
        let [far1, far2] = &site.far;
        for (netns, entry) in [
            (&site.node, format!("{FAR1} dev vx2 dst 10.0.1.2")),
            (&site.node, format!("{FAR1} dev vx3 dst 10.0.1.2")),
            (&site.node, format!("{TO_VX1} dev vx2 dst 10.0.1.1 vni 1")),
            (far1, format!("{NODE} dev vx1 dst 10.0.1.1")),
            (far1, format!("{NODE} dev vx2 dst 10.0.1.9")),
            (far1, format!("{NODE} dev vx3 dst 10.0.1.9")),
            (far1, format!("{NODE_BY_VX1} dev vx2 dst 10.0.1.1")),
            (far2, format!("{NODE} dev vx1 dst 10.0.1.1")),
        ] {
            netns.run(&format!("bridge fdb add {entry} self permanent"));
        }
        let carrier = Carrier::start(&site, with_vxgate);
        let status = |what: &str| {
            let vxgate = carrier.vxgate.as_ref()?;
            let status = vxgate.balanced();
            for device in ["vx1", "vx2", "vx3"] {
                let device = status.device(device).expect("it is there");
                assert_eq!(device["taken_over"], true, "{what}");
            }
            Some(status)
        };
        let at_node = [("vx1", "vx1"), ("vx2", "vx2"), ("vx3", "vx3")];
        let at_node = at_node.map(|(name, device)| (name, &site.node, device));
        // Who decapsulates: `None` for the kernel without any program in between.
        for (from, device, station, end, ours) in [
            (far1, "vx1", NODE, "vx1", Some(true)),
            (far1, "vx2", NODE, "vx2", Some(true)),
            (far1, "vx3", NODE, "vx3", Some(true)),
            (far1, "vx2", NODE_BY_VX1, "vx2", Some(false)),
            (far2, "vx1", NODE, "vx1", None),
        ] {
            let what = format!("{device} of {} to {station}", from.name());
            let before = status(&what);
            let mut stations = site.stations_from((from, device), &at_node);
            let sent = stations.burst(station);
            stations.assert_heard(&what, &sent, &[end]);
            if let (Some(before), Some(after)) = (before, status(&what)) {
                let forwarded = after.forwarded("underlay") - before.forwarded("underlay");
                let foreign = |status: &Status| status.passed("underlay", "foreign_vni");
                let frames = |on: bool| if on { u64::from(FRAMES) } else { 0 };
                assert_eq!(forwarded, frames(ours == Some(true)), "{what}");
                let passed = foreign(&after) - foreign(&before);
                assert_eq!(passed, frames(ours == Some(false)), "{what}");
            }
        }
        for (device, station, end, kernels) in [
            ("vx2", FAR1, "far1/vx2", 0),
            ("vx3", FAR1, "far1/vx3", 0),
            ("vx2", TO_VX1, "vx1", u64::from(FRAMES)),
        ] {
            let what = format!("{device} to {station}");
            let before = status(&what);
            let mut stations = site.stations_from(
                (&site.node, device),
                &[
                    ("vx1", &site.node, "vx1"),
                    ("far1/vx2", far1, "vx2"),
                    ("far1/vx3", far1, "vx3"),
                ],
            );
            let sent = stations.burst(station);
            stations.assert_heard(&what, &sent, &[end]);
            if let (Some(before), Some(after)) = (before, status(&what)) {
                let passed = |status: &Status| status.passed("access", "kernel_route");
                assert_eq!(passed(&after) - passed(&before), kernels, "{what}");
                let forwarded = after.forwarded("access") - before.forwarded("access");
                assert_eq!(forwarded, u64::from(FRAMES) - kernels, "{what}");
            }
        }
        if let Some(status) = status("the end") {
            assert_eq!(status.state(), "healthy", "{}", status.0);
            let keeps =
                |device| status.device(device).expect("it is there")["kernel_keeps"].clone();
            assert_eq!(keeps("vx2"), "frames to 1 address");
            assert_eq!(keeps("vx3"), "no frames");
        }
    }
}
