//! The kernel's GSO and GRO beside ours: superframes that it cuts on their way out of a veth, and segments that it joins on
//! their way in.
//!
//! ```text
//!   the test ── AF_PACKET ── near (no offloads) ══════════ far (GRO) ── AF_PACKET ── the test
//! ```
//!
//! Left out is where ours is stricter on purpose (`pipeline/join.rs`): CWR, an urgent pointer without URG, identifications that
//! stand still without DF, tags, extension headers. What is corrupt overtakes the train in front of it in the kernel, so
//! that of its flow only what came is compared, and not in what order; of datagrams not even that, since those behind it then join
//! the train in front of it.

use std::collections::BTreeMap;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::rig::tcp::{ACK, CWR, ECE, FIN, PSH, Tcp};
use super::rig::trains::{cut, join};
use super::support::end::{End, Input, Offload, Segmentation};
use super::support::netns::Netns;
use vxgate::wire::vnet::{self, VnetHeader};

const BOUND: Duration = Duration::from_secs(10);
/// How long the kernel may wait for more of a train.
const FLUSH_NS: u32 = 20_000_000;
/// A tick of the kernel's clock ends trains, too: a burst that one falls into is sent again.
const ATTEMPTS: usize = 50;

struct Pair {
    near: End,
    far: End,
    netns: Netns,
}

impl Pair {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let netns = Netns::create(&format!("vx{}-seg-{number}", process::id()));
        netns.script(&format!(
            "
            echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6
            ip link add near mtu 9000 type veth peer name far mtu 9000
            ethtool -K near rx off tx off sg off tso off gso off gro off >/dev/null
            ethtool -K far gro on rx-udp-gro-forwarding on >/dev/null
            echo {FLUSH_NS} > /sys/class/net/far/gro_flush_timeout
            ip link set near up
            ip link set far up
            "
        ));
        Self {
            near: End::open(&netns, "near", false),
            far: End::open(&netns, "far", true),
            netns,
        }
    }

    /// Sends, and collects until so many bytes of frames without their headers have come.
    fn pass(&mut self, inputs: &[Input], payload_len: usize) -> Vec<Vec<u8>> {
        for input in inputs {
            self.near.send(input);
        }
        let deadline = Instant::now() + BOUND;
        let (mut frames, mut seen) = (Vec::new(), 0);
        while seen < payload_len {
            match self.far.receive() {
                Some(frame) => {
                    seen += frame.len() - headers_len(&frame);
                    frames.push(frame);
                }
                None => {
                    assert!(
                        Instant::now() < deadline,
                        "{seen} of {payload_len} bytes came"
                    );
                    self.far.wait(Duration::from_millis(100));
                }
            }
        }
        frames
    }
}

fn headers_len(frame: &[u8]) -> usize {
    let at = if frame[12..14] == [0x86, 0xdd] {
        54
    } else {
        34
    };
    let protocol = if at == 54 { frame[20] } else { frame[23] };
    match protocol {
        17 => at + 8,
        _ => at + usize::from(frame[at + 12] >> 4) * 4,
    }
}

/// Cut by the kernel and by us.
fn judge_cut(pair: &mut Pair, superframe: Vec<u8>, size: usize, kind: u8) {
    let len = headers_len(&superframe);
    let udp = kind == vnet::GSO_UDP_L4;
    let start = if superframe[12] == 8 { 34 } else { 54 };
    let header = VnetHeader {
        flags: vnet::NEEDS_CSUM,
        gso_type: kind,
        hdr_len: len as u16,
        gso_size: size as u16,
        csum_start: start,
        csum_offset: if udp { 6 } else { 16 },
        ..VnetHeader::default()
    };
    let ours = cut(&header, &superframe, false).expect("it makes sense");
    let payload_len = superframe.len() - len;
    let input = Input {
        offload: Some(Offload {
            start,
            field: header.csum_offset,
            segmentation: Some(Segmentation {
                kind,
                headers_len: header.hdr_len,
                payload_len: header.gso_size,
            }),
        }),
        bytes: superframe,
    };
    // Datagrams and segments would be joined on the far side; the kernel's cutting is what is looked at here.
    let kernels = pair.pass(&[input], payload_len);
    assert_eq!(kernels, ours);
}

/// Its GRO off: what the near end cut comes out as it is.
fn without_gro() -> Pair {
    let pair = Pair::new();
    pair.netns.run("ethtool -K far gro off");
    pair
}

#[test]
fn tcp_superframes_are_cut_as_the_kernel_cuts_them() {
    let mut pair = without_gro();
    for six in [false, true] {
        let kind = if six {
            vnet::GSO_TCPV6
        } else {
            vnet::GSO_TCPV4
        };
        for flags in [0, PSH, FIN, PSH | FIN, CWR, CWR | PSH, ECE] {
            for (size, len) in [
                (1448, 62_000),
                (1448, 2896),
                (1448, 1449),
                (100, 333),
                (9, 10),
            ] {
                for df in [true, false] {
                    let mut tcp = Tcp::plain(six, 7);
                    tcp.flags |= flags;
                    (tcp.df, tcp.tos) = (df, 0xba);
                    tcp.payload = (0..len).map(|n| (n % 251) as u8).collect();
                    judge_cut(&mut pair, tcp.build_unfinished(), size, kind);
                }
            }
        }
    }
}

#[test]
fn udp_superframes_are_cut_as_the_kernel_cuts_them() {
    let mut pair = without_gro();
    for six in [false, true] {
        for (size, len) in [
            (1448, 62_000),
            (1448, 2896),
            (1200, 1201),
            (100, 333),
            (9, 10),
        ] {
            let mut udp = Tcp::plain(six, 7);
            udp.payload = (0..len).map(|n| (n % 251) as u8).collect();
            judge_cut(&mut pair, udp.build_udp(), size, vnet::GSO_UDP_L4);
        }
    }
}

/// Twelve segments of 100 bytes, each changed.
fn segments(six: bool, host: u8, change: impl Fn(usize, &mut Tcp)) -> Vec<Vec<u8>> {
    let segment = |number: usize| {
        let mut tcp = Tcp::plain(six, host);
        tcp.sequence = tcp.sequence.wrapping_add(100 * number as u32);
        tcp.id = tcp.id.wrapping_add(number as u16);
        tcp.payload = vec![number as u8; 100];
        change(number, &mut tcp);
        tcp.build()
    };
    (0..12).map(segment).collect()
}

/// The same of datagrams.
fn datagrams(six: bool, host: u8, change: impl Fn(usize, &mut Tcp)) -> Vec<Vec<u8>> {
    let datagram = |number: usize| {
        let mut udp = Tcp::plain(six, host);
        udp.id = udp.id.wrapping_add(number as u16);
        udp.payload = vec![number as u8; 100];
        change(number, &mut udp);
        udp.build_datagram()
    };
    (0..12).map(datagram).collect()
}

/// By flow: what came, in order.
type Flows = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

fn by_flow(frames: Vec<Vec<u8>>) -> Flows {
    let mut flows = Flows::new();
    for frame in frames {
        let addresses = if frame[12] == 8 { 26..38 } else { 22..58 };
        flows
            .entry(frame[addresses].to_vec())
            .or_default()
            .push(frame);
    }
    flows
}

/// Joined by the kernel and by us.
fn judge_join(pair: &mut Pair, what: &str, frames: &[Vec<u8>]) {
    judge(pair, what, frames, by_flow);
}

fn judge(pair: &mut Pair, what: &str, frames: &[Vec<u8>], arranged: fn(Vec<Vec<u8>>) -> Flows) {
    let ours = join(frames).into_iter().map(|written| written.bytes);
    let ours = arranged(ours.collect());
    let payload_len: usize = frames
        .iter()
        .map(|frame| frame.len() - headers_len(frame))
        .sum();
    let inputs: Vec<_> = frames.iter().cloned().map(Input::from).collect();
    for attempt in 1.. {
        let kernels = arranged(pair.pass(&inputs, payload_len));
        if kernels == ours {
            return;
        }
        let lens = |flows: &Flows| -> Vec<Vec<usize>> {
            let flows = flows.values();
            flows
                .map(|frames| frames.iter().map(Vec::len).collect())
                .collect()
        };
        assert!(
            attempt < ATTEMPTS,
            "{what}: kernel {:?}, ours {:?}",
            lens(&kernels),
            lens(&ours)
        );
    }
}

#[test]
fn segments_are_joined_as_the_kernel_joins_them() {
    type Change = fn(usize, &mut Tcp);
    let changes: [(&str, Change); 23] = [
        ("nothing", |_, _| ()),
        ("a short one", |n, tcp| {
            tcp.payload.truncate(if n == 5 { 60 } else { 100 })
        }),
        ("a long one", |n, tcp| {
            tcp.payload.resize(if n == 5 { 101 } else { 100 }, 9)
        }),
        ("PSH", |n, tcp| tcp.flags |= if n == 5 { PSH } else { 0 }),
        ("PSH everywhere", |_, tcp| tcp.flags |= PSH),
        ("FIN", |n, tcp| tcp.flags |= if n == 11 { FIN } else { 0 }),
        ("FIN in the middle", |n, tcp| {
            tcp.flags |= if n == 5 { FIN | PSH } else { 0 }
        }),
        ("ECE", |n, tcp| tcp.flags |= if n > 5 { ECE } else { 0 }),
        ("no ACK", |_, tcp| tcp.flags &= !ACK),
        ("acknowledgement", |n, tcp| {
            tcp.acknowledgement += u32::from(n > 5)
        }),
        ("window", |n, tcp| tcp.window += u16::from(n > 5)),
        ("timestamp", |n, tcp| tcp.options[11] += u8::from(n > 5)),
        ("no options", |n, tcp| {
            tcp.options.truncate(if n > 5 { 0 } else { 12 })
        }),
        ("DSCP", |n, tcp| tcp.tos = if n > 5 { 0xb8 } else { 0 }),
        ("ECN", |n, tcp| tcp.tos = if n == 5 { 3 } else { 2 }),
        ("TTL", |n, tcp| tcp.ttl -= u8::from(n > 5)),
        ("DF", |n, tcp| tcp.df = n > 5),
        ("never DF", |_, tcp| tcp.df = false),
        ("label", |n, tcp| tcp.label = 5 + u32::from(n > 5)),
        ("identification still", |_, tcp| tcp.id = 9),
        ("identification still for a while", |n, tcp| {
            tcp.id = if n < 5 { 9 } else { 5 + n as u16 }
        }),
        ("identification still later", |n, tcp| {
            tcp.id = if n < 5 { 5 + n as u16 } else { 9 }
        }),
        ("a gap", |n, tcp| {
            tcp.sequence = tcp.sequence.wrapping_add(7 * u32::from(n > 5))
        }),
    ];
    let mut pair = Pair::new();
    for six in [false, true] {
        for (what, change) in changes {
            judge_join(&mut pair, what, &segments(six, 1, change));
        }
    }
}

#[test]
fn what_comes_between_segments_is_treated_as_the_kernel_treats_it() {
    let mut pair = Pair::new();
    for six in [false, true] {
        let plain = || segments(six, 1, |_, _| ());
        let mut bare = Tcp::plain(six, 1);
        bare.sequence = bare.sequence.wrapping_add(500);
        let mut frames = plain();
        frames.insert(5, bare.build());
        judge_join(&mut pair, "a bare acknowledgement", &frames);
        let mut frames = plain();
        frames.swap(4, 5);
        judge_join(&mut pair, "two in the wrong order", &frames);
        let mut frames = plain();
        frames.insert(6, frames[2].clone());
        judge_join(&mut pair, "one again", &frames);
        let mut frames = plain();
        if let Some(last) = frames[5].last_mut() {
            *last ^= 1;
        }
        judge(&mut pair, "a corrupt one", &frames, |mut frames| {
            frames.sort();
            by_flow(frames)
        });
        let flows: Vec<_> = (1..5).map(|host| segments(six, host, |_, _| ())).collect();
        let frames: Vec<_> = (0..12)
            .flat_map(|n| flows.iter().map(move |flow| flow[n].clone()))
            .collect();
        judge_join(&mut pair, "four flows", &frames);
    }
}

#[test]
fn datagrams_are_joined_as_the_kernel_joins_them() {
    type Change = fn(usize, &mut Tcp);
    let changes: [(&str, Change); 13] = [
        ("nothing", |_, _| ()),
        ("a short one", |n, udp| {
            udp.payload.truncate(if n == 5 { 60 } else { 100 })
        }),
        ("a long one", |n, udp| {
            udp.payload.resize(if n == 5 { 101 } else { 100 }, 9)
        }),
        ("one byte each", |_, udp| udp.payload.truncate(1)),
        ("DSCP", |n, udp| udp.tos = if n > 5 { 0xb8 } else { 0 }),
        ("ECN", |n, udp| udp.tos = if n == 5 { 3 } else { 2 }),
        ("TTL", |n, udp| udp.ttl -= u8::from(n > 5)),
        ("DF", |n, udp| udp.df = n > 5),
        ("never DF", |_, udp| udp.df = false),
        ("label", |n, udp| udp.label = 5 + u32::from(n > 5)),
        ("identification still", |_, udp| udp.id = 0),
        ("identification still for a while", |n, udp| {
            udp.id = if n < 5 { 9 } else { 5 + n as u16 }
        }),
        ("identification still later", |n, udp| {
            udp.id = if n < 5 { 5 + n as u16 } else { 9 }
        }),
    ];
    let mut pair = Pair::new();
    for six in [false, true] {
        for (what, change) in changes {
            judge_join(&mut pair, what, &datagrams(six, 1, change));
        }
        let flows: Vec<_> = (1..5).map(|host| datagrams(six, host, |_, _| ())).collect();
        let mut frames: Vec<_> = (0..12)
            .flat_map(|n| flows.iter().map(move |flow| flow[n].clone()))
            .collect();
        judge_join(&mut pair, "four flows", &frames);
        // Between the same addresses.
        frames = segments(six, 1, |_, _| ());
        for (n, datagram) in datagrams(six, 1, |_, _| ()).into_iter().enumerate() {
            frames.insert(2 * n, datagram);
        }
        judge_join(&mut pair, "datagrams among segments", &frames);
    }
}
