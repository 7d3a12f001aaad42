//! A wire that is whole: what left is what came, and the kernel's own counters agree.
//!
//! ```text
//!   near namespace          far namespace
//!   generator ─▶ near0 ════ far0 ─▶ sink
//! ```

use std::time::Duration;

use serde_json::Value;
use vxgate::loadgen::engine::{
    AfxdpGenerator, EngineError, Expectations, Generator, LiveGenerator, Load, Received, Receiver,
    ReceiverKind, Sent, Sink, StreamLoad, StreamReceived,
};
use vxgate::loadgen::headers::{Family, FlowHeaders, Shape, Transport};

use crate::frames::{PLAIN, TUNNELLED, VXLAN_PORT, flow};
use crate::support::netns::Netns;
use crate::support::wait_until;

pub const PATIENCE: Duration = Duration::from_secs(20);

/// Two namespaces and a wire.
pub struct Wire {
    pub near: Netns,
    pub far: Netns,
}

impl Wire {
    pub fn new(name: &str) -> Self {
        Self::with_queues(name, 1)
    }

    pub fn with_queues(name: &str, queues: u32) -> Self {
        keep_up();
        let prefix = format!("vx{}-bench-{name}", std::process::id());
        let wire = Self {
            near: Netns::create(&format!("{prefix}-near")),
            far: Netns::create(&format!("{prefix}-far")),
        };
        for netns in [&wire.near, &wire.far] {
            // No router solicitations among the counted frames.
            netns.run("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
        }
        let far = wire.far.name();
        let of = format!("mtu 3400 numrxqueues {queues} numtxqueues {queues}");
        wire.near.run(&format!(
            "ip link add near0 {of} type veth peer name far0 {of} netns {far}"
        ));
        wire.far.run("ip link set far0 up");
        wire.near.run("ip link set near0 up");
        wire
    }

    pub fn sink(&self, expectations: &Expectations) -> Sink {
        let far0 = ifindex(&self.far, "far0");
        self.far.enter(|| Sink::attach(far0, expectations)).unwrap()
    }

    pub fn receiver(
        &self,
        kind: ReceiverKind,
        expectations: &Expectations,
    ) -> Box<dyn Receiver + Send + Sync> {
        let far0 = ifindex(&self.far, "far0");
        self.far
            .enter(|| kind.attach(far0, expectations, None))
            .unwrap()
    }

    pub fn generator(&self, engine: Engine) -> Box<dyn Generator + Send> {
        let near0 = ifindex(&self.near, "near0");
        self.near.enter(|| engine.open(near0)).unwrap()
    }
}

pub fn ifindex(netns: &Netns, device: &str) -> u32 {
    link(netns, device)["ifindex"].as_u64().unwrap() as u32
}

pub fn link(netns: &Netns, device: &str) -> Value {
    let all: Value =
        serde_json::from_str(&netns.run(&format!("ip -d -s -j link show dev {device}"))).unwrap();
    all[0].clone()
}

/// Frames that a device has received, by the kernel's count.
pub fn kernel_received(netns: &Netns, device: &str) -> u64 {
    kernel_counted(netns, device, "rx")
}

/// Frames that have left by a device, by the kernel's count.
pub fn kernel_sent(netns: &Netns, device: &str) -> u64 {
    kernel_counted(netns, device, "tx")
}

fn kernel_counted(netns: &Netns, device: &str, way: &str) -> u64 {
    link(netns, device)["stats64"][way]["packets"]
        .as_u64()
        .unwrap()
}

/// A sender rises above all others (`become_sender`), so a test that looks on from an ordinary thread may not get to look
/// before a load is over when its neighbours send, too. It and what it starts from here on rise as well.
pub fn keep_up() {
    const FIRST: i32 = -20;
    rustix::process::setpriority_process(None, FIRST).unwrap();
}

/// Which engine sends.
#[derive(Debug, Clone, Copy)]
pub enum Engine {
    Live,
    Afxdp,
}

impl Engine {
    pub fn open(self, ifindex: u32) -> Result<Box<dyn Generator + Send>, EngineError> {
        Ok(match self {
            Self::Live => Box::new(LiveGenerator::open(ifindex, None)?),
            Self::Afxdp => Box::new(AfxdpGenerator::open(ifindex, 0, None)?),
        })
    }
}

/// Who sends and who receives.
#[derive(Debug, Clone, Copy)]
pub struct Hands {
    pub engine: Engine,
    pub receiver: ReceiverKind,
}

pub const LIVE_TO_XDP: Hands = Hands {
    engine: Engine::Live,
    receiver: ReceiverKind::Xdp,
};
pub const LIVE_TO_AFXDP: Hands = Hands {
    engine: Engine::Live,
    receiver: ReceiverKind::Afxdp,
};
pub const AFXDP_TO_XDP: Hands = Hands {
    engine: Engine::Afxdp,
    receiver: ReceiverKind::Xdp,
};
pub const AFXDP_TO_AFXDP: Hands = Hands {
    engine: Engine::Afxdp,
    receiver: ReceiverKind::Afxdp,
};

/// Makes each of these functions of [`Hands`] a test by every pair of them.
macro_rules! by_hands {
    ($($test:ident),+ $(,)?) => {
        mod live_to_xdp {
            $(#[test] fn $test() { super::$test(crate::wire::LIVE_TO_XDP); })+
        }
        mod live_to_afxdp {
            $(#[test] fn $test() { super::$test(crate::wire::LIVE_TO_AFXDP); })+
        }
        mod afxdp_to_xdp {
            $(#[test] fn $test() { super::$test(crate::wire::AFXDP_TO_XDP); })+
        }
        mod afxdp_to_afxdp {
            $(#[test] fn $test() { super::$test(crate::wire::AFXDP_TO_AFXDP); })+
        }
    };
}
pub(crate) use by_hands;

impl Hands {
    /// For the names of devices.
    pub fn word(self) -> String {
        format!("{:?}-{:?}", self.engine, self.receiver).to_lowercase()
    }
}

pub fn flows(shape: Shape, count: u32) -> Vec<FlowHeaders> {
    (0..count).map(|number| flow(shape, number)).collect()
}

/// The only stream of a load.
pub fn alone<'a>(
    shape: Shape,
    flows: &'a [FlowHeaders],
    sizes: &'a [(u16, u16)],
) -> [StreamLoad<'a>; 1] {
    [StreamLoad {
        id: 0,
        shape,
        flows,
        sizes,
        share: 1,
    }]
}

/// A load that no machine is too slow for: `count` frames, one after the other. A veth holds 256 frames; at this rate its
/// reader may be kept from the processor for 50 ms before one is lost.
pub fn slow_load<'a>(streams: &'a [StreamLoad<'a>], count: u32) -> Load<'a> {
    const RATE_FPS: f64 = 5_000.0;
    Load {
        streams,
        rate_fps: RATE_FPS,
        burst: 1,
        duration: Duration::from_secs_f64(f64::from(count) / RATE_FPS),
    }
}

pub fn expect(streams: u16) -> Expectations {
    Expectations {
        streams,
        here: (0..streams).collect(),
        vxlan_ports: vec![VXLAN_PORT],
        zeros: true,
    }
}

/// Sends, and reads once all has come that is to come.
pub fn run(
    wire: &Wire,
    engine: Engine,
    load: &Load<'_>,
    sink: &dyn Receiver,
    lost: impl Fn(u64) -> u64 + Send,
) -> (Sent, Received) {
    let mut generator = wire.generator(engine);
    let sent = wire.near.enter(move || generator.run(load)).unwrap();
    let due = sent.frames() - lost(sent.frames());
    wait_until("the last frame at the sink", PATIENCE, || {
        let received = sink.read().unwrap();
        let of_one =
            |stream: &StreamReceived| stream.frames + stream.corrupted + stream.misdelivered;
        received.per_stream.iter().map(of_one).sum::<u64>() >= due
    });
    let received = sink.read().unwrap();
    assert_eq!(received.receiver_lost, 0);
    (sent, received)
}

/// Every frame came, once, whole, in order; and every intended time was kept or is accounted for.
fn check_whole(sent: &Sent, received: &Received, intended: u64) {
    assert_eq!(sent.frames() + sent.late, intended);
    assert!(sent.frames() > 0);
    for (stream, (sent, received)) in sent.per_stream.iter().zip(&received.per_stream).enumerate() {
        let expected = StreamReceived {
            frames: *sent,
            bytes: received.bytes,
            gap_max_ns: received.gap_max_ns,
            ..StreamReceived::default()
        };
        assert_eq!(*received, expected, "stream {stream}");
    }
    let bytes: u64 = received.per_stream.iter().map(|stream| stream.bytes).sum();
    assert_eq!(bytes, sent.bytes);
    assert_eq!(received.foreign, 0);
    assert_eq!(received.latency.len(), sent.frames());
    let (first_ns, last_ns) = received.first_last_ns.unwrap();
    assert!(first_ns < last_ns);
}

fn sent_is_received(hands: Hands) {
    let wire = Wire::new(&format!("whole-{}", hands.word()));
    let receiver = wire.receiver(hands.receiver, &expect(4));
    let tcp6 = Shape {
        outer: Some(Family::V6),
        inner: Family::V6,
        transport: Transport::Tcp,
        arrival_mac: None,
    };
    let icmp = Shape {
        outer: None,
        inner: Family::V4,
        transport: Transport::Icmp,
        arrival_mac: None,
    };
    let all = [PLAIN, TUNNELLED, tcp6, icmp].map(|shape| flows(shape, 10));
    let sizes: [&[(u16, u16)]; 4] = [
        &[(60, 1)],
        &[(110, 7), (616, 4), (1564, 1)],
        &[(160, 1), (161, 1), (3000, 1)],
        &[(99, 1)],
    ];
    let shapes = [PLAIN, TUNNELLED, tcp6, icmp];
    let streams: Vec<_> = (0..4)
        .map(|id| StreamLoad {
            id: id as u16,
            shape: shapes[id],
            flows: &all[id],
            sizes: sizes[id],
            share: [4, 3, 2, 1][id],
        })
        .collect();
    let before = kernel_received(&wire.far, "far0");
    let (sent, received) = run(
        &wire,
        hands.engine,
        &slow_load(&streams, 2_500),
        receiver.as_ref(),
        |_| 0,
    );
    check_whole(&sent, &received, 2_500);
    let round = sent.frames() / 10;
    for (sent, share) in sent.per_stream.iter().zip([4, 3, 2, 1]) {
        assert!(
            sent.abs_diff(round * share) <= share,
            "{sent} of {round} rounds"
        );
    }
    assert_eq!(
        kernel_received(&wire.far, "far0") - before,
        sent.frames(),
        "by the kernel's count"
    );
}

by_hands!(sent_is_received);
