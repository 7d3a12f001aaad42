//! The facts of a healthy flannel node, for tests: they change one thing, and see it found.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::facts::{
    AccessEnd, Classifier, Daemon, Facts, Kernel, Overlay, Process, Sysctls, Underlay,
};
use crate::config::{Direct, PodPrograms, Superframes};
use crate::control::{Found, PeersReport, SegmentReport, VtepReport, VxlanDevice};
use crate::gateway::{
    AccessState, DeviceState, Nic, Observation, Plan, PolicyState, PortState, VtepState,
    WorkerState,
};
use crate::netlink::{Address, Link, Neighbour, XdpFeatures, neighbour_flag, neighbour_state};
use crate::show::Status;
use crate::steer::{Channels, XdpProgram};
use crate::table::{Df, FlowLabel, Inherit, Policy, SegmentId, SourcePorts, UdpChecksum, VtepKey};
use crate::wire::{MacAddr, Vni, vxlan};

/// The index of eth1.
pub(super) const UNDERLAY: u32 = 2;
/// The index of flannel.1.
const OVERLAY: u32 = 4;
/// The index of cni0.
pub(super) const BRIDGE: u32 = 5;
/// The peer's flannel.1.
const PEER_MAC: MacAddr = MacAddr([0x0e, 0x24, 0x40, 0, 1, 4]);
/// The peer's eth1.
const HOP_MAC: MacAddr = MacAddr([0x0e, 0, 0, 0, 0, 0x10]);

/// A node on which no daemon runs.
pub(super) fn node() -> Facts {
    let found = found();
    Facts {
        kernel: Kernel {
            release: "6.18.44".into(),
            af_xdp: Some(true),
            chains: true,
            tcx: Some(true),
            types: true,
        },
        process: Process {
            lacks: None,
            may_lock: true,
            memlock: None,
            available: Some(8 << 30),
            cores: 2,
        },
        sysctls: Sysctls {
            ip_forward: Some(true),
            ipv6_forward: Some(false),
            rp_filter: Some(0),
            persistent_macs: false,
        },
        plan: Plan {
            devices: vec![found.clone()],
            left: Vec::new(),
            nics: vec![Nic {
                ifindex: UNDERLAY,
                name: "eth1".into(),
                mac: MacAddr([2, 0, 0, 0, 0, 2]),
                mtu: 1500,
                queues: 2,
                zero_copy: false,
            }],
            workers: 2,
            nice: -20,
            fewer_workers: None,
            policy: Policy::default(),
            superframes: Superframes::default(),
            direct: Direct::default(),
            express: true,
            pod_programs: PodPrograms::default(),
            direct_flows_max: 65_536,
            direct_pods_max: 448,
        },
        frame_memory: 32 << 20,
        links: links(),
        addresses: vec![
            address(UNDERLAY, "10.0.0.11", 24),
            address(OVERLAY, "10.244.1.0", 32),
            address(BRIDGE, "10.244.1.1", 24),
        ],
        underlays: vec![underlay()],
        overlays: vec![overlay(found)],
        accesses: Vec::new(),
        leftovers: Vec::new(),
        daemon: Daemon::Absent,
        unlike: Vec::new(),
        socket: "/run/vxgate/s".into(),
    }
}

/// The same node, served by a daemon.
pub(super) fn served() -> Facts {
    let mut facts = node();
    facts.daemon = Daemon::Answers(Box::new(status()));
    facts.overlays[0].holder = Some(Some(77));
    facts.overlays[0].classifiers = vec![classifier("vxgate_egress", true)];
    facts.underlays[0].program = Some(XdpProgram {
        words: "id 5, vxgate_underlay".into(),
        mode: "xdp".into(),
    });
    facts.accesses = [("vxg0", true), ("vxg1", false)]
        .map(|(name, kernel_side)| AccessEnd {
            name: name.into(),
            device: "flannel.1".into(),
            kernel_side,
            hiding: Vec::new(),
            program: (!kernel_side).then(|| XdpProgram {
                words: "id 6, vxgate_access".into(),
                mode: "xdp".into(),
            }),
            classifiers: if kernel_side {
                vec![classifier("vxgate_ingress", false)]
            } else {
                Vec::new()
            },
        })
        .to_vec();
    facts
}

/// What the daemon of some facts says of itself.
pub(super) fn status_of(facts: &mut Facts) -> Option<&mut Status> {
    match &mut facts.daemon {
        Daemon::Answers(status) => Some(status),
        _ => None,
    }
}

fn address(ifindex: u32, local: &str, prefix_len: u8) -> Address {
    Address {
        ifindex,
        local: ip(local),
        prefix_len,
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn link(ifindex: u32, name: &str, kind: Option<&str>, mtu: u32) -> Link {
    Link {
        ifindex,
        name: name.into(),
        mac: MacAddr([2, 0, 0, 0, 0, ifindex as u8]),
        mtu,
        up: true,
        running: true,
        kind: kind.map(str::to_owned),
        alias: None,
        rx_queues: 2,
        tx_queues: 2,
        master: None,
        peer: None,
        parent: None,
        loopback: false,
        ethernet: true,
    }
}

fn links() -> Vec<Link> {
    vec![
        link(UNDERLAY, "eth1", Some("veth"), 1500),
        link(OVERLAY, "flannel.1", Some("vxlan"), 1450),
        link(BRIDGE, "cni0", Some("bridge"), 1450),
        Link {
            master: Some(BRIDGE),
            ..link(6, "veth-web2", Some("veth"), 1450)
        },
    ]
}

fn found() -> Found {
    Found {
        device: VxlanDevice {
            ifindex: OVERLAY,
            name: "flannel.1".into(),
            mac: MacAddr([0x0e, 0x24, 0x40, 0, 2, 4]),
            mtu: 1450,
            up: true,
            vni: Vni::new(1).expect("a VNI"),
            local: Some(ip("10.0.0.11")),
            group: None,
            underlay: Some(UNDERLAY),
            port: 8472,
            source_ports: SourcePorts {
                low: 32768,
                high: 60998,
            },
            ttl: Inherit::Fixed(0),
            ttl_default: 64,
            tos: Inherit::Fixed(0),
            df: Df::Unset,
            flow_label: FlowLabel::Fixed(0),
            udp_checksum: UdpChecksum::Compute,
            accept_udp6_zero_checksum: false,
            gbp: false,
            reserved_bits: !vxlan::USED_BITS,
        },
        underlay: Some(link(UNDERLAY, "eth1", Some("veth"), 1500)),
        refusal: None,
    }
}

fn underlay() -> Underlay {
    Underlay {
        link: link(UNDERLAY, "eth1", Some("veth"), 1500),
        ipv6: false,
        driver: Some("veth".into()),
        xdp: Some(XdpFeatures(0x23)),
        queues: 2,
        channels: Some(Channels {
            used: 2,
            max: 2,
            combined: false,
        }),
        by_port: None,
        offloads: vec!["rx-checksum".into(), "tx-generic-segmentation".into()],
        program: None,
        classifiers: Vec::new(),
        failed: Vec::new(),
    }
}

fn classifier(name: &str, egress: bool) -> Classifier {
    Classifier {
        egress,
        name: name.into(),
        priority: None,
    }
}

fn neighbour(fdb: bool, dst: &str) -> Neighbour {
    Neighbour {
        fdb,
        ifindex: OVERLAY,
        state: neighbour_state::PERMANENT,
        flags: if fdb { neighbour_flag::SELF } else { 0 },
        flags_ext: 0,
        mac: Some(PEER_MAC),
        dst: Some(ip(dst)),
        port: None,
        vni: None,
        src_vni: None,
        via_ifindex: None,
        nexthop: None,
        protocol: 0,
    }
}

fn overlay(found: Found) -> Overlay {
    Overlay {
        found,
        ready: true,
        master: None,
        holder: None,
        port_holder: None,
        neighbours: vec![neighbour(false, "10.244.0.0")],
        fdb: vec![neighbour(true, "10.0.0.10")],
        routes: vec![(ip("10.244.0.0"), Some(OVERLAY))],
        survey: Some(SegmentReport {
            id: SegmentId(0),
            device: "flannel.1".into(),
            ifindex: OVERLAY,
            fdb_entries: 1,
            flood_entries: 0,
            kernel_entries: 0,
            kernel_floods: false,
            vteps: vec![VtepReport {
                key: VtepKey {
                    addr: ip("10.0.0.10"),
                    port: 8472,
                    vni: Vni::new(1).expect("a VNI"),
                },
                next_hop: Some(ip("10.0.0.10")),
                mac: Ok(HOP_MAC),
                path_mtu: 1500,
            }],
            groups: Vec::new(),
            peers: PeersReport::default(),
        }),
        classifiers: Vec::new(),
        forwarding: Some(true),
        rp_filter: Some(0),
        random_mac: false,
    }
}

fn status() -> Status {
    let worker = |number| WorkerState {
        worker: number,
        core: Some(number),
        nice: Some(-20),
        busy_share: 0.1,
        turns: 7,
        busy_turns: 3,
        sleeps: 2,
        awake_ns: 1,
        asleep_ns: 7,
        heartbeat_age_ms: 1,
        alive: true,
        ..WorkerState::default()
    };
    let observation = Observation {
        policy: PolicyState::from(&Policy::default()),
        devices: vec![DeviceState {
            name: "flannel.1".into(),
            ifindex: OVERLAY,
            vni: 1,
            port: 8472,
            local: Some(ip("10.0.0.11")),
            mtu: 1450,
            underlay: Some("eth1".into()),
            access: Some(AccessState {
                kernel_side: "vxg0".into(),
                worker_side: "vxg1".into(),
            }),
            taken_over: true,
            refused: None,
            fdb_entries: 1,
            flood_entries: 0,
            kernel_entries: 0,
            kernel_keeps: String::new(),
            superframes: None,
        }],
        ports: vec![port()],
        workers: vec![worker(0), worker(1)],
        vteps: vec![VtepState {
            device: "flannel.1".into(),
            vni: 1,
            addr: ip("10.0.0.10"),
            port: 8472,
            next_hop: Some(ip("10.0.0.10")),
            next_hop_mac: Some(HOP_MAC.to_string()),
            state: "resolved".into(),
            path_mtu: 1500,
            carried_by: "vxgate".into(),
        }],
        ..Observation::default()
    };
    Status {
        pid: 77,
        ..Status::new(observation, 60)
    }
}

fn port() -> PortState {
    PortState {
        name: "eth1".into(),
        ifindex: UNDERLAY,
        role: "underlay".into(),
        xdp_mode: "native".into(),
        zero_copy: false,
        why_not_better: Some("veth has no zero-copy".into()),
        queues: 2,
        outer_checksums: Some("worker".into()),
        numa_node: None,
        received: 10,
        forwarded: 10,
        copied_bytes: 0,
        segments_whole: 0,
        flood_copies: 0,
        express: 0,
        flood_copies_lost: 0,
        forwarded_bytes: 600,
        checksums_completed: 0,
        superframes: 0,
        segments: 0,
        segments_sent: 0,
        segments_lost: 0,
        superframes_leave: None,
        why_cut: None,
        strangers_delivered: 0,
        passed: BTreeMap::new(),
        drops: BTreeMap::new(),
        in_flight: 0,
        balance_ok: true,
    }
}
