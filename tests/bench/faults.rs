//! A device that does a known wrong: reported exactly so.
//!
//! ```text
//!   near namespace          middle namespace                far namespace
//!   generator ─▶ near0 ════ mid0 ─ tc ingress ─▶ mid1 ════ far0 ─▶ sink
//!                                  the wrong is done here
//! ```

use std::os::fd::AsFd;
use std::time::Duration;

use libbpf_rs::{MapCore, MapFlags, MapHandle, Object, ObjectBuilder, TC_INGRESS, TcHookBuilder};
use vxgate::loadgen::engine::{Expectations, Load, Received, Sent, StreamReceived};
use vxgate::loadgen::headers::{FlowHeaders, Shape};

use crate::frames::{PLAIN, TUNNELLED, VXLAN_PORT, flow};
use crate::support::netns::Netns;
use crate::wire::{Engine, Hands, Wire, alone, by_hands, flows, ifindex, keep_up, run, slow_load};

const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/faults.bpf.o"));
const LEN: u16 = 200;
const FRAMES: u32 = 2_500;

/// What is done to frames; each to every so many, or to a byte of them.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    None,
    Drop {
        every: u32,
    },
    Duplicate {
        every: u32,
    },
    Swap,
    Flip {
        every: u32,
        at: u32,
    },
    /// None, but flows and VNIs are noted.
    Witness,
    /// No more than so many frames a second pass, by the clock; so many more may come at once.
    Police {
        fps: u32,
        burst: u32,
    },
    /// The same by the times at which frames were meant to leave.
    PoliceIntended {
        fps: u32,
        burst: u32,
    },
}

impl Fault {
    fn to_bytes(self, out: u32) -> Vec<u8> {
        let numbers = match self {
            Self::None => [0, 0, 0],
            Self::Drop { every } => [1, every, 0],
            Self::Duplicate { every } => [2, every, 0],
            Self::Swap => [3, 0, 0],
            Self::Flip { every, at } => [4, every, at],
            Self::Witness => [5, 0, 0],
            Self::Police { fps, burst } => [6, 1_000_000_000 / fps, burst],
            Self::PoliceIntended { fps, burst } => [7, 1_000_000_000 / fps, burst],
        };
        numbers
            .into_iter()
            .chain([out])
            .flat_map(u32::to_ne_bytes)
            .collect()
    }
}

/// The namespace in the middle, and what runs there.
pub struct Middle {
    pub netns: Netns,
    object: Object,
}

impl Middle {
    /// Drops the next frames.
    pub fn drop_next(&self, frames: u64) {
        self.breaks()
            .update(&[0; 4], &frames.to_ne_bytes(), MapFlags::ANY)
            .unwrap();
    }

    /// How many of these are still to come.
    pub fn left_to_drop(&self) -> u64 {
        let value = self.breaks().lookup(&[0; 4], MapFlags::ANY).unwrap();
        u64::from_ne_bytes(value.unwrap().try_into().unwrap())
    }

    fn breaks(&self) -> MapHandle {
        let map = self.object.maps().find(|map| map.name() == "breaks");
        MapHandle::try_from(&map.unwrap()).unwrap()
    }

    /// How many different flows and VNIs have passed.
    fn distinct(&self) -> [u64; 2] {
        let map = self
            .object
            .maps()
            .find(|map| map.name() == "distinct")
            .unwrap();
        [0_u32, 1].map(|kind| {
            let value = map
                .lookup(&kind.to_ne_bytes(), MapFlags::ANY)
                .unwrap()
                .unwrap();
            u64::from_ne_bytes(value.try_into().unwrap())
        })
    }
}

pub fn faulty_wire(name: &str, fault: Fault) -> (Wire, Middle) {
    keep_up();
    let prefix = format!("vx{}-bench-{name}", std::process::id());
    let middle = Netns::create(&format!("{prefix}-middle"));
    let wire = Wire {
        near: Netns::create(&format!("{prefix}-near")),
        far: Netns::create(&format!("{prefix}-far")),
    };
    for netns in [&wire.near, &middle, &wire.far] {
        netns.run("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
    }
    let (near, far) = (wire.near.name(), wire.far.name());
    middle.run(&format!(
        "ip link add mid0 mtu 3400 type veth peer name near0 mtu 3400 netns {near}"
    ));
    middle.run(&format!(
        "ip link add mid1 mtu 3400 type veth peer name far0 mtu 3400 netns {far}"
    ));
    for (netns, device) in [
        (&middle, "mid0"),
        (&middle, "mid1"),
        (&wire.near, "near0"),
        (&wire.far, "far0"),
    ] {
        netns.run(&format!("ip link set {device} up"));
    }
    // Without a NAPI at mid0, what XDP sends through near0 vanishes.
    middle.run("ethtool -K mid0 gro on");
    let (input, output) = (ifindex(&middle, "mid0"), ifindex(&middle, "mid1"));
    let object = middle.enter(|| load(fault, input, output));
    let middle = Middle {
        netns: middle,
        object,
    };
    (wire, middle)
}

fn load(fault: Fault, input: u32, output: u32) -> Object {
    let mut open = ObjectBuilder::default().open_memory(OBJECT).unwrap();
    for mut map in open.maps_mut() {
        if map.name().to_string_lossy().ends_with(".rodata") {
            map.set_initial_value(&fault.to_bytes(output)).unwrap();
        }
    }
    let object = open.load().unwrap();
    let program = object
        .progs()
        .find(|program| program.name() == "faulty")
        .unwrap();
    let mut hook = TcHookBuilder::new(program.as_fd())
        .ifindex(input as i32)
        .replace(true)
        .handle(1)
        .priority(1)
        .hook(TC_INGRESS);
    hook.create().unwrap();
    hook.attach().unwrap();
    object
}

/// One stream through a fault; `lost` says how many frames of so many do not come.
fn send(
    hands: Hands,
    name: &str,
    fault: Fault,
    shape: Shape,
    lost: impl Fn(u64) -> u64 + Send,
) -> (Sent, Received) {
    let (wire, _middle) = faulty_wire(&format!("{name}-{}", hands.word()), fault);
    let expectations = Expectations {
        streams: 1,
        here: vec![0],
        vxlan_ports: vec![VXLAN_PORT],
        zeros: true,
    };
    let receiver = wire.receiver(hands.receiver, &expectations);
    let flows = flows(shape, 7);
    let streams = alone(shape, &flows, &[(LEN, 1)]);
    let load = slow_load(&streams, FRAMES);
    run(&wire, hands.engine, &load, receiver.as_ref(), lost)
}

/// Without bytes and gaps, which no fault is about.
fn counts(received: &Received) -> StreamReceived {
    assert_eq!(received.foreign, 0);
    StreamReceived {
        bytes: 0,
        gap_max_ns: 0,
        ..received.per_stream[0]
    }
}

fn a_sound_device_changes_nothing(hands: Hands) {
    let (sent, received) = send(hands, "sound", Fault::None, TUNNELLED, |_| 0);
    let expected = StreamReceived {
        frames: sent.frames(),
        ..StreamReceived::default()
    };
    assert_eq!(counts(&received), expected);
    assert_eq!(received.per_stream[0].bytes, sent.bytes);
}

fn every_hundredth_is_lost(hands: Hands) {
    let (sent, received) = send(
        hands,
        "drop",
        Fault::Drop { every: 100 },
        TUNNELLED,
        |sent| sent / 100,
    );
    let sent = sent.frames();
    assert!(sent >= 100, "{sent} sent");
    let expected = StreamReceived {
        frames: sent - sent / 100,
        ..StreamReceived::default()
    };
    assert_eq!(counts(&received), expected);
}

fn neighbours_change_places(hands: Hands) {
    // Of an odd number, the last one waits for a neighbour that never comes.
    let (sent, received) = send(hands, "swap", Fault::Swap, TUNNELLED, |sent| sent % 2);
    let pairs = sent.frames() / 2;
    let expected = StreamReceived {
        frames: 2 * pairs,
        reordered: pairs,
        ..StreamReceived::default()
    };
    assert_eq!(counts(&received), expected);
}

fn copies_are_told_from_frames(hands: Hands) {
    let (sent, received) = send(
        hands,
        "copy",
        Fault::Duplicate { every: 50 },
        TUNNELLED,
        |_| 0,
    );
    let sent = sent.frames();
    let expected = StreamReceived {
        frames: sent,
        duplicated: sent / 50,
        ..StreamReceived::default()
    };
    assert_eq!(counts(&received), expected);
}

fn flipped(hands: Hands, name: &str, shape: Shape, at: u32) {
    let (sent, received) = send(hands, name, Fault::Flip { every: 10, at }, shape, |_| 0);
    let sent = sent.frames();
    let expected = StreamReceived {
        frames: sent - sent / 10,
        corrupted: sent / 10,
        ..StreamReceived::default()
    };
    assert_eq!(counts(&received), expected);
}

fn a_bit_of_the_payload_is_corruption(hands: Hands) {
    flipped(
        hands,
        "payload",
        TUNNELLED,
        u32::from(TUNNELLED.header_len()) + 20,
    );
    flipped(hands, "plain", PLAIN, u32::from(PLAIN.header_len()) + 20);
}

fn a_bit_of_the_inner_address_is_corruption(hands: Hands) {
    flipped(
        hands,
        "address",
        TUNNELLED,
        u32::from(TUNNELLED.inner_at()) + 5,
    );
}

/// As many as there can be: every flow of a million passes, and every VNI of 4,000.
#[test]
fn a_million_flows_and_four_thousand_vnis_pass() {
    const FLOWS: u32 = 1_000_000;
    const VNIS: u64 = 4_000;
    let (wire, middle) = faulty_wire("million", Fault::Witness);
    let sink = wire.sink(&Expectations {
        streams: 1,
        here: vec![0],
        vxlan_ports: vec![VXLAN_PORT],
        zeros: true,
    });
    let flows: Vec<_> = (0..FLOWS)
        .map(|number| numbered(flow(TUNNELLED, 0), number))
        .collect();
    let streams = alone(TUNNELLED, &flows, &[(114, 1)]);
    let load = Load {
        streams: &streams,
        rate_fps: 250_000.0,
        burst: 1,
        duration: Duration::from_secs(6),
    };
    let mut generator = wire.generator(Engine::Live);
    let sent = wire.near.enter(|| generator.run(&load)).unwrap();
    let [flows_passed, vnis_passed] = middle.distinct();
    let received = sink.read().unwrap();
    assert_eq!(sent.frames() + sent.late, 1_500_000);
    assert_eq!(vnis_passed, VNIS);
    // A machine that is busy elsewhere may lose frames on the way, and be too late for some. What passed is judged.
    let lost = sent.frames() - received.per_stream[0].frames;
    let flows_sent = sent.frames().min(u64::from(FLOWS));
    assert!(
        (flows_sent - lost..=flows_sent).contains(&flows_passed),
        "{flows_passed} of {flows_sent}, {lost} lost"
    );
    let expected = StreamReceived {
        frames: sent.frames() - lost,
        ..StreamReceived::default()
    };
    assert_eq!(counts(&received), expected);
}

/// Another flow of the same headers: what is numbered is in no checksum of theirs.
fn numbered(mut flow: FlowHeaders, number: u32) -> FlowHeaders {
    flow.bytes[59..62].copy_from_slice(&number.to_be_bytes()[1..]);
    flow.bytes[46..49].copy_from_slice(&(number % 4000 + 1).to_be_bytes()[1..]);
    flow
}

by_hands!(
    a_sound_device_changes_nothing,
    every_hundredth_is_lost,
    neighbours_change_places,
    copies_are_told_from_frames,
    a_bit_of_the_payload_is_corruption,
    a_bit_of_the_inner_address_is_corruption,
);
