//! `vxgate trace` against what happens: thousands of frames, good and bent, for segments of many kinds. Each is traced on the
//! state that the daemon dumped, then really sent, and every counter of every port moves as it was said.
//!
//! ```text
//!   node                                                            wire
//!   vx1  VNI 1         8472  list, groups, unresolved VTEPs         raw frames in
//!   vx2  VNI 2         4789  inherits, checksums, the kernel's own
//!   vx3  VNI 0x0a0b0c  9999  marks (gbp)                   eth1 ═══ wire
//!   vx4  VNI 0x800000  8472  a multicast group
//!   vx5  VNI 2         4789  over IPv6, with checksums
//!   vx6  VNI 1         8472  over IPv6, without
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use tempfile::TempDir;
use vxgate::show::ask;
use vxgate::state::State;
use vxgate::trace::input::describe;
use vxgate::trace::{At, Fate, Outcome, Tracer};

use crate::rig::choices::Choices;
use crate::rig::frames;
use crate::support::frames::{Random, RawSocket, finish_outer_ip};
use crate::support::lab::Turn;
use crate::support::netns::Netns;
use crate::support::vxgate::{Superframes, Vxgate};
use crate::support::wait_until;

/// Of each daemon; there are three.
const FRAMES: usize = 3600;
/// Frames at once: the access device has a ring of 256.
const WINDOW: usize = 100;
const PATIENCE: Duration = Duration::from_secs(10);
const SEED: u64 = 0x7ace;
/// What a busy machine does to frames, whatever they are: a window in which that happened is sent again.
const BY_LOAD: [&str; 5] = [
    "heartbeat_stale",
    "rx_ring_full",
    "fill_ring_empty",
    "access_ring_full",
    "tx_ring_full",
];

struct Scene {
    node: Netns,
    wire: Netns,
}

impl Scene {
    fn new() -> Self {
        let prefix = format!("vx{}-trace", std::process::id());
        let scene = Self {
            node: Netns::create(&format!("{prefix}-node")),
            wire: Netns::create(&format!("{prefix}-wire")),
        };
        for netns in [&scene.node, &scene.wire] {
            // Nobody speaks here but the test.
            netns.run("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
        }
        scene.node.run(&format!(
            "ip link add eth1 mtu 1500 type veth peer name wire mtu 1500 netns {}",
            scene.wire.name()
        ));
        scene.wire.run("ip link set wire up");
        scene.node.script(
            "sysctl -qw net.ipv6.conf.eth1.disable_ipv6=0 net.ipv6.conf.eth1.accept_dad=0
             ip link set eth1 up
             ip addr add 10.0.0.1/24 dev eth1
             ip addr add 2001:db8::1/64 dev eth1 nodad
             ip route add 10.0.0.6/32 dev eth1 mtu 1400
             for n in 3 4 5 6; do
                 ip neigh add 10.0.0.$n lladdr 04:00:00:00:01:0$n dev eth1 nud permanent
                 ip neigh add 2001:db8::$n lladdr 04:00:00:00:01:0$n dev eth1 nud permanent
             done
             vx() {
                 dev=$1; mac=$2; shift 2
                 ip link add $dev address $mac type vxlan nolearning \"$@\"
                 ip link set $dev up
             }
             vx vx1 0e:00:00:00:00:00 id 1 local 10.0.0.1 dev eth1 dstport 8472
             vx vx2 0e:00:00:00:00:01 id 2 local 10.0.0.1 dev eth1 dstport 4789 ttl inherit tos inherit df inherit udpcsum
             vx vx3 0e:00:00:00:00:02 id 658188 local 10.0.0.1 dev eth1 dstport 9999 gbp
             vx vx4 0e:00:00:00:00:03 id 8388608 local 10.0.0.1 group 239.129.1.1 dev eth1 dstport 8472
             vx vx5 0e:00:00:00:00:05 id 2 local 2001:db8::1 dev eth1 dstport 4789
             vx vx6 0e:00:00:00:00:04 id 1 local 2001:db8::1 dev eth1 dstport 8472 udp6zerocsumtx udp6zerocsumrx
             fdb() { bridge fdb append 02:00:00:00:00:$1 dev $2 $3 $4 self permanent; }
             for n in 3 4 5 6 7; do
                 fdb 0$n vx1 dst 10.0.0.$n
                 fdb 0$n vx2 dst 10.0.0.$n
                 fdb 0$n vx3 dst 10.0.0.$n
                 fdb 0$n vx5 dst 2001:db8::$n
                 fdb 0$n vx6 dst 2001:db8::$n
             done
             bridge fdb append 00:00:00:00:00:00 dev vx1 dst 10.0.0.3 self permanent
             bridge fdb append 00:00:00:00:00:00 dev vx1 dst 10.0.0.4 self permanent
             bridge fdb append 00:00:00:00:00:00 dev vx1 dst 10.0.0.7 self permanent
             bridge fdb append 00:00:00:00:00:00 dev vx6 dst 2001:db8::3 self permanent
             bridge fdb append 33:33:00:00:00:01 dev vx1 dst 10.0.0.4 self permanent
             bridge fdb append 33:33:00:00:00:01 dev vx1 dst 10.0.0.5 self permanent
             fdb 08 vx2 dst 198.51.100.1
             fdb 09 vx4 dst 10.0.0.3
             ip nexthop add id 1 via 10.0.0.3 fdb
             ip nexthop add id 2 via 10.0.0.4 fdb
             ip nexthop add id 10 group 1/2,3 fdb
             fdb 0a vx1 nhid 10",
        );
        scene
    }

    /// What the daemon dumps.
    fn state(vxgate: &Vxgate) -> State {
        let folder = TempDir::with_prefix("vxgate-trace-").expect("a temporary directory");
        let path = folder.path().join("state.json");
        let path = path.to_str().expect("UTF-8");
        let said = vxgate.tell(&["state", "dump", "-o", path]).printed();
        assert_eq!(said, "");
        State::read(path.as_ref()).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// A frame, where it comes in, and what is to become of it.
struct Predicted {
    at: At,
    frame: Vec<u8>,
    outcome: Outcome,
}

/// Every counter of every port that frames move.
type Counts = BTreeMap<(String, String), u64>;

fn counts(vxgate: &Vxgate) -> Counts {
    let status = ask(vxgate.socket()).unwrap_or_else(|error| panic!("{error}"));
    let mut counts = Counts::new();
    for port in &status.observation.ports {
        let mut put = |what: &str, count: u64| {
            counts.insert((port.name.clone(), what.to_owned()), count);
        };
        put("received", port.received);
        put("forwarded", port.forwarded);
        put("flood_copies", port.flood_copies);
        put("flood_copies_lost", port.flood_copies_lost);
        put("checksums_completed", port.checksums_completed);
        put("strangers_delivered", port.strangers_delivered);
        for (reason, count) in &port.passed {
            put(&format!("pass {reason}"), *count);
        }
        for (reason, count) in &port.drops {
            put(&format!("drop {reason}"), *count);
        }
    }
    for peer in &status.observation.peers {
        let key = format!("{} {}", peer.device, peer.addr);
        counts.insert((key.clone(), "rx".into()), peer.traffic.received);
        counts.insert((key, "tx".into()), peer.traffic.sent);
    }
    counts
}

/// What some frames are to move.
fn expected(tracer: &Tracer, frames: &[Predicted]) -> Counts {
    let mut moved = Counts::new();
    for Predicted { at, outcome, .. } in frames {
        let port = tracer.name(*at).to_owned();
        let mut add = |port: &str, what: String, by: u64| {
            if by > 0 {
                *moved.entry((port.to_owned(), what)).or_default() += by;
            }
        };
        add(&port, "received".into(), 1);
        match outcome.fate {
            Fate::Forward => add(&port, "forwarded".into(), 1),
            Fate::Pass(reason) => {
                add(&port, "pass total".into(), 1);
                add(&port, format!("pass {}", reason.label()), 1);
            }
            Fate::Drop(reason) => {
                add(&port, "drop total".into(), 1);
                add(&port, format!("drop {}", reason.label()), 1);
            }
        }
        add(&port, "flood_copies".into(), outcome.flood_copies);
        add(&port, "flood_copies_lost".into(), outcome.flood_copies_lost);
        add(
            &port,
            "checksums_completed".into(),
            outcome.checksums_completed,
        );
        add(
            &port,
            "strangers_delivered".into(),
            u64::from(outcome.stranger),
        );
        for (segment, addr, frames) in &outcome.peers {
            if let Some(addr) = addr {
                let device = &tracer.state().segments[*segment].config.name;
                let way = if matches!(at, At::Underlay(_)) {
                    "rx"
                } else {
                    "tx"
                };
                add(&format!("{device} {addr}"), way.into(), *frames);
            }
        }
    }
    moved
}

/// By how much counts have moved; those that have not are left out.
fn moved(before: &Counts, after: &Counts) -> Counts {
    let by = |(key, count): (&(String, String), &u64)| {
        let by = count - before.get(key).copied().unwrap_or(0);
        (by > 0).then(|| (key.clone(), by))
    };
    after.iter().filter_map(by).collect()
}

/// The places where frames are put in.
struct Sockets(BTreeMap<At, RawSocket>);

impl Sockets {
    fn open(scene: &Scene, tracer: &Tracer) -> Self {
        let segments = tracer.state().segments.iter().enumerate();
        let devices = segments.map(|(number, segment)| {
            let socket = RawSocket::open(&scene.node, &segment.config.name);
            (At::Access(number), socket)
        });
        let wire = (At::Underlay(0), RawSocket::open(&scene.wire, "wire"));
        Self(devices.chain([wire]).collect())
    }

    /// Sends some frames, and returns what they moved once all have arrived; none when the machine was too busy for it to
    /// say anything.
    fn send(&self, vxgate: &Vxgate, frames: &[Predicted]) -> Option<Counts> {
        let before = counts(vxgate);
        for Predicted { at, frame, .. } in frames {
            self.0[at].send(frame);
        }
        let mut now = Counts::new();
        wait_until(
            "all frames have arrived and have their fate",
            PATIENCE,
            || {
                now = moved(&before, &counts(vxgate));
                let sum = |kinds: &[&str]| -> u64 {
                    let of = now
                        .iter()
                        .filter(|((_, what), _)| kinds.contains(&what.as_str()));
                    of.map(|(_, count)| count).sum()
                };
                let fates = sum(&["forwarded", "pass total", "drop total"]);
                sum(&["received"]) >= frames.len() as u64 && fates >= frames.len() as u64
            },
        );
        let load = |what: &str| BY_LOAD.iter().any(|reason| what.ends_with(reason));
        let busy = now.keys().any(|(_, what)| load(what));
        (!busy).then_some(now)
    }

    /// Sends frames of one verdict, and holds the counters to it. Where they disagree, the first frame that does is named.
    fn check(&self, vxgate: &Vxgate, tracer: &mut Tracer, frames: &[Predicted]) {
        let wanted = expected(tracer, frames);
        for _ in 0..20 {
            let Some(seen) = self.send(vxgate, frames) else {
                continue;
            };
            if seen == wanted {
                return;
            }
            if frames.len() > 1 {
                let (first, second) = frames.split_at(frames.len() / 2);
                self.check(vxgate, tracer, first);
                self.check(vxgate, tracer, second);
            }
            let one = &frames[0];
            let trace = tracer.trace(one.at, &one.frame, 0);
            panic!(
                "{} frames, of which the first is\n{trace}{}moved {seen:#?}\ninstead of {wanted:#?}",
                frames.len(),
                trace.bytes(),
            );
        }
        panic!("the machine is too busy to say anything");
    }
}

/// What a raw socket can send: a whole Ethernet header, no more than the device's MTU (over IPv6 a vxlan device has 1430).
fn can_be_sent(at: At, frame: &[u8]) -> bool {
    let mtu = match at {
        At::Underlay(_) => 1500,
        At::Access(_) => 1430,
    };
    (15..=mtu + 14).contains(&frame.len())
}

/// Changes one thing that the steering programs look at; all else stays right.
fn bend(frame: &mut Vec<u8>, random: &mut Random) {
    let ipv4 = frame.get(12..14) == Some(&[0x08, 0x00]);
    // Where in the frame: destination, protocol, last byte of the destination, port, datagram's length, flags, VNI.
    let [protocol, address, udp] = if ipv4 { [23, 33, 34] } else { [20, 53, 54] };
    if frame.len() < udp + 16 {
        return;
    }
    let values: &[u8] = &[0, 6, 17, 43, 44, 50, 51, 58, 59, 60, 135];
    match random.below(9) {
        0..=2 => frame[protocol] = values[random.below(values.len())],
        3 => frame[random.below(6)] ^= 1 << random.below(8),
        4 => frame[address] = random.below(4) as u8,
        5 => frame[udp + 2 + random.below(2)] ^= 1 << random.below(8),
        6 => frame[udp + 8 + random.below(8)] ^= 1 << random.below(8),
        7 => frame[14] = random.next() as u8,
        _ => drop(frame.splice(12..12, [0x81, 0x00, 0x00, 0x05])),
    }
    if ipv4 && frame[12..14] == [0x08, 0x00] {
        finish_outer_ip(frame);
    }
}

/// Frames for all ports, half of them for the wire.
fn generate(tracer: &mut Tracer, random: &mut Random, count: usize) -> Vec<Predicted> {
    let (snapshot, _) = tracer.state().rebuild();
    let mut predicted = Vec::new();
    while predicted.len() < count {
        // The more decisions, the stranger the frame.
        let len = random.below(96);
        let bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        let mut choices = Choices::new(&bytes);
        let (at, frame) = if random.below(2) == 0 {
            let mut frame = frames::outer(&mut choices, &snapshot);
            if random.below(4) == 0 {
                bend(&mut frame, random);
            }
            (At::Underlay(0), frame)
        } else {
            let number = random.below(snapshot.segments.len());
            let segment = &snapshot.segments[number];
            (At::Access(number), frames::inner(&mut choices, segment))
        };
        if can_be_sent(at, &frame) {
            let outcome = tracer.judge(at, &frame, 0);
            predicted.push(Predicted { at, frame, outcome });
        }
    }
    predicted
}

/// The daemon's own state is what is traced on, when no other is given.
fn asked_live(vxgate: &Vxgate, state: State) {
    // One that has sent nothing yet: identifications of outer headers count on.
    let mut tracer = Tracer::new(state).expect("a tracer");
    let at = tracer.port("vx1").expect("a device");
    let described = describe(tracer.state(), at, "to=10.0.0.4 proto=udp").expect("a frame");
    let expected = tracer.trace(at, &described.bytes, described.mark);
    let expected = serde_json::to_value(expected).expect("JSON");
    let ask = || {
        let document = vxgate.ask_json(&["trace", "--in", "vx1", "to=10.0.0.4", "proto=udp"]);
        document["traces"][0].clone()
    };
    assert_eq!(ask(), expected);
    vxgate.tell(&["drain"]).printed();
    assert_eq!(ask()["verdict"]["reason"], "bypass");
    vxgate.tell(&["resume"]).printed();
    assert_eq!(ask(), expected);
}

#[test]
fn what_trace_predicts_is_what_happens() {
    let _turn = Turn::alone();
    let scene = Scene::new();
    let mut random = Random(SEED);
    let mut verdicts: BTreeMap<String, usize> = BTreeMap::new();
    // Frames of the wire fare alike by the lane of superframes and without one.
    for (superframes, policy) in [
        (Superframes::Off, &[][..]),
        (
            Superframes::Auto,
            &["--peer-check", "strict-mac", "--inner-vlan", "drop"],
        ),
        (
            Superframes::Auto,
            &[
                "--peer-check",
                "log",
                "--reserved-bits",
                "ignore",
                "--udp-checksum-rx",
                "verify",
            ],
        ),
    ] {
        let vxgate = Vxgate::start_with(&scene.node, superframes, policy);
        // Neighbours that do not answer are asked for at the start.
        let mut state = Scene::state(&vxgate);
        assert_eq!(state.segments.len(), 6, "{}", vxgate.output());
        let mut tracer = Tracer::new(state.clone()).expect("a tracer");
        let sockets = Sockets::open(&scene, &tracer);
        let mut groups: BTreeMap<_, Vec<Predicted>> = BTreeMap::new();
        for one in generate(&mut tracer, &mut random, FRAMES) {
            let fate = one.outcome.fate;
            let verdict = format!("{} {}", fate.label(), fate.reason().unwrap_or_default());
            *verdicts.entry(verdict.clone()).or_default() += 1;
            groups.entry((one.at, verdict)).or_default().push(one);
        }
        for frames in groups.values() {
            for window in frames.chunks(WINDOW) {
                sockets.check(&vxgate, &mut tracer, window);
            }
        }
        let mut after = Scene::state(&vxgate);
        (state.generation, after.generation) = (0, 0);
        assert_eq!(state, after, "the table has stayed as it was");
        vxgate.balanced();
        asked_live(&vxgate, state);
        vxgate.stop();
    }
    let sent: usize = verdicts.values().sum();
    println!("    {sent} frames: {verdicts:?}");
    assert!(sent >= 10_000);
    // That they were of many kinds: else the agreement says little.
    for verdict in [
        "forward ",
        "pass not_ours",
        "pass foreign_vni",
        "pass fragment",
        "pass ip_options",
        "pass oversize",
        "pass kernel_route",
        "drop unknown_peer",
        "drop reserved_bits",
        "drop no_i_flag",
        "drop hdr_truncated",
        "drop outer_malformed",
        "drop martian_source",
        "drop local_mac",
        "drop invalid_source_mac",
        "drop inner_spoof",
        "drop inner_vlan",
        "drop inner_short",
        "drop inner_truncated",
        "drop tunnel_ecn",
        "drop outer_csum",
        "drop zero_csum6",
        "drop access_short",
        "drop no_tx_target",
        "drop next_hop_unresolved",
    ] {
        assert!(
            verdicts.contains_key(verdict),
            "none was {verdict}: {verdicts:?}"
        );
    }
}
