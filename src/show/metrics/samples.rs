//! Observations for the tests.

use crate::gateway::{
    CaptureState, DeviceState, DirectState, DirectWayState, MirrorState, Observation, PeerState,
    PolicyState, PortState, QueueState, RingState, StagesState, Traffic, VniState, VtepState,
    WorkerState,
};
use crate::stats::{DropReason, PassReason, Stage};
use crate::table::Policy;

/// A small gateway that has carried frames both ways.
pub(in super::super) fn observation() -> Observation {
    let mut underlay = port("eth1", "underlay");
    underlay.received = 1010;
    underlay.forwarded = 1000;
    underlay.forwarded_bytes = 98_000;
    underlay.passed.insert("not_ours".into(), 7);
    underlay.drops.insert("unknown_peer".into(), 3);
    let mut access = port("flannel.1", "access");
    access.received = 503;
    access.forwarded = 500;
    access.forwarded_bytes = 74_000;
    access.superframes = 2;
    access.segments = 90;
    access.segments_sent = 43;
    access.segments_lost = 1;
    access.drops.insert("no_tx_target".into(), 2);
    access.in_flight = 1;
    Observation {
        devices: vec![device("flannel.1", true), device("vx9", false)],
        ports: vec![underlay, access],
        workers: vec![worker()],
        vteps: vec![
            vtep([10, 0, 0, 10], 1, "resolved", 1500),
            vtep([10, 0, 0, 12], 1, "no_neighbour", 1400),
            VtepState {
                carried_by: "kernel".into(),
                ..vtep([10, 0, 0, 13], 1, "no_route", 0)
            },
        ],
        peers: vec![peer([10, 0, 0, 10], 1, 990), peer([10, 0, 0, 12], 1, 0)],
        vnis: vec![vni("flannel.1", 1)],
        mirror: MirrorState {
            publications: 4,
            resyncs: 1,
            events: 20,
            overruns: 0,
        },
        policy: PolicyState::from(&Policy::default()),
        takeovers: 2,
        captures: vec![capture()],
        capture_lost: 17,
        ..Observation::default()
    }
}

fn capture() -> CaptureState {
    CaptureState {
        pid: Some(4711),
        points: vec!["underlay-rx".into(), "drop".into()],
        ports: vec!["eth1".into()],
        age_s: 5,
        seen: 1000,
        lost: 17,
    }
}

/// The same with a direct path that TCP may not go.
pub(in super::super) fn with_direct() -> Observation {
    let way = |received| DirectWayState {
        received,
        forwarded: received - 10,
        forwarded_bytes: 64 * (received - 10),
        lost: 1,
        in_flight: 0,
        balance_ok: true,
        handed_up: [("ttl".to_owned(), 9), ("total".to_owned(), 9)].into(),
    };
    Observation {
        direct: Some(DirectState {
            mode: "flows".into(),
            why_not_tcp: Some("conntrack is strict".into()),
            pods: 2,
            express_flows: 3,
            promotions: 9,
            sightings_lost: [("no_place".to_owned(), 5)].into(),
            changes: 1,
            changes_by: [("filters".to_owned(), 1)].into(),
            ring_flows: 1,
            out: way(100),
            into: way(55),
            ring_out: way(20),
            ..DirectState::default()
        }),
        ..observation()
    }
}

/// More of everything than has series of its own.
pub(in super::super) fn crowd() -> Observation {
    let ports = (0..500).map(|number| {
        let mut port = port(&format!("vx{number}"), "access");
        port.received = 10;
        port.forwarded = 9;
        port.drops.insert("oversize".into(), 1);
        port
    });
    let vteps = (0..500_u16).map(|number| {
        let [high, low] = number.to_be_bytes();
        vtep(
            [10, 0, high, low],
            u32::from(number),
            "resolved",
            1000 + number,
        )
    });
    let peers = (0..500_u16).map(|number| {
        let [high, low] = number.to_be_bytes();
        peer([10, 0, high, low], u32::from(number), u64::from(number))
    });
    Observation {
        peers: peers.collect(),
        vnis: (0..500).map(|n| vni(&format!("vx{n}"), n)).collect(),
        ports: ports.collect(),
        vteps: vteps.collect(),
        ..observation()
    }
}

fn port(name: &str, role: &str) -> PortState {
    let passed = PassReason::ALL.iter().map(|r| (r.label().to_owned(), 0));
    let drops = DropReason::ALL.iter().map(|r| (r.label().to_owned(), 0));
    PortState {
        name: name.into(),
        ifindex: 2,
        role: role.into(),
        xdp_mode: "native".into(),
        zero_copy: false,
        why_not_better: None,
        queues: 1,
        outer_checksums: None,
        numa_node: None,
        received: 0,
        forwarded: 0,
        express: 0,
        flood_copies: 0,
        copied_bytes: 0,
        flood_copies_lost: 0,
        forwarded_bytes: 0,
        checksums_completed: 0,
        superframes: 0,
        segments: 0,
        segments_sent: 0,
        segments_whole: 0,
        segments_lost: 0,
        superframes_leave: None,
        why_cut: None,
        strangers_delivered: 0,
        passed: passed.collect(),
        drops: drops.collect(),
        in_flight: 0,
        balance_ok: true,
    }
}

fn device(name: &str, taken_over: bool) -> DeviceState {
    DeviceState {
        name: name.into(),
        ifindex: 4,
        vni: 1,
        port: 8472,
        local: Some([10, 0, 0, 11].into()),
        mtu: 1450,
        underlay: Some("eth1".into()),
        access: None,
        taken_over,
        refused: None,
        fdb_entries: 3,
        flood_entries: 0,
        kernel_entries: 1,
        kernel_keeps: String::new(),
        superframes: None,
    }
}

fn worker() -> WorkerState {
    WorkerState {
        worker: 0,
        core: Some(1),
        nice: Some(-20),
        busy_share: 0.25,
        turns: 7,
        busy_turns: 3,
        sleeps: 2,
        woken: 1,
        spins: 4,
        spins_found: 3,
        calls: 5,
        awake_ns: 250_000_000,
        working_ns: 200_000_000,
        asleep_ns: 750_000_000,
        frames: 8192,
        pool_mark: 3000,
        pool_lately: 4000,
        queues: vec![queue("eth1", "rx", 1010), queue("flannel.1", "tx", 503)],
        heartbeat_age_ms: 20,
        alive: true,
        ..WorkerState::default()
    }
}

/// A socket that has received so many frames, some by themselves, and most by 64.
pub(in super::super) fn queue(port: &str, direction: &str, received: u64) -> QueueState {
    let ring = |ring: &str, mark, lately| RingState {
        ring: ring.into(),
        size: 2048,
        mark,
        lately,
    };
    QueueState {
        port: port.into(),
        direction: direction.into(),
        queue: 0,
        kind: "socket".into(),
        received,
        forwarded: received - 3,
        dropped: 3,
        dropped_by_kernel: 1,
        batches: vec![received % 64, 0, 0, 0, 0, 0, received / 64],
        batched: received,
        calls: received / 64,
        rings: vec![
            ring("rx", 1180, 512),
            ring("tx", 64, 32),
            ring("fill", 211, 1024),
        ],
    }
}

/// What was measured of turns with so many frames.
pub(in super::super) fn stages(frames: u64) -> StagesState {
    let ns = Stage::ALL.iter().zip(1..);
    StagesState {
        turns: frames / 32,
        frames,
        readings: frames / 4,
        ns: ns
            .map(|(stage, ns)| (stage.label().to_owned(), 10 * ns * frames))
            .collect(),
    }
}

fn peer(addr: [u8; 4], vni: u32, received: u64) -> PeerState {
    PeerState {
        device: "flannel.1".into(),
        vni,
        addr: addr.into(),
        traffic: Traffic {
            received,
            received_bytes: 98 * received,
            received_age_ms: (received > 0).then_some(250),
            sent: 7,
            sent_bytes: 700,
            sent_age_ms: Some(3000),
        },
    }
}

fn vni(device: &str, vni: u32) -> VniState {
    let traffic = |received, sent| Traffic {
        received,
        received_bytes: 98 * received,
        received_age_ms: Some(250),
        sent,
        sent_bytes: 100 * sent,
        sent_age_ms: Some(3000),
    };
    VniState {
        device: device.into(),
        vni,
        peers: 2,
        uncounted: 0,
        total: traffic(1000, 14),
        other: traffic(10, 0),
        former: Traffic::default(),
    }
}

fn vtep(addr: [u8; 4], vni: u32, state: &str, path_mtu: u16) -> VtepState {
    VtepState {
        device: "flannel.1".into(),
        vni,
        addr: addr.into(),
        port: 8472,
        next_hop: None,
        next_hop_mac: None,
        state: state.into(),
        path_mtu,
        carried_by: "vxgate".into(),
    }
}
