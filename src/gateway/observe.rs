//! The books: what a running gateway can say of itself, as plain data. `show` renders it; nothing here formats.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::captures::CaptureState;
use super::plan::refusal_words;
use crate::control::Found;
use crate::table::Policy;

/// All there is to say at one moment. Field names are the keys of `vxgate status --json`: add, never rename.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Observation {
    /// Why the gateway is not healthy; empty when it is.
    pub reasons: Vec<String>,
    /// What deserves a look although frames flow.
    pub warnings: Vec<String>,
    /// The vxlan devices of the namespace that were asked for.
    pub devices: Vec<DeviceState>,
    /// The ports, underlay first.
    pub ports: Vec<PortState>,
    /// Every reason for which a port has lost frames since the takeover, and when it last did.
    #[serde(default)]
    pub drops: Vec<DropState>,
    /// The workers.
    pub workers: Vec<WorkerState>,
    /// The remote tunnel end points.
    pub vteps: Vec<VtepState>,
    /// What was counted of each peer: a VTEP address of a vxlan device.
    #[serde(default)]
    pub peers: Vec<PeerState>,
    /// What was counted of all peers of each vxlan device.
    #[serde(default)]
    pub vnis: Vec<VniState>,
    /// The nexthop groups that FDB entries lead to.
    #[serde(default)]
    pub groups: Vec<GroupState>,
    /// How the mirror of the kernel's tables is doing.
    pub mirror: MirrorState,
    /// What the operator decided, or left to the default.
    #[serde(default)]
    pub policy: PolicyState,
    /// The last senders that the peer check found fault with, the latest first.
    #[serde(default)]
    pub offenders: Vec<OffenderState>,
    /// Whether the operator has handed the traffic to the kernel for now (`vxgate drain`).
    #[serde(default)]
    pub drained: bool,
    /// The captures that run.
    #[serde(default)]
    pub captures: Vec<CaptureState>,
    /// Records that all captures since the daemon started have lost because nobody read them in time.
    #[serde(default)]
    pub capture_lost: u64,
    /// Takeovers since the daemon started: another begins when devices come, go or change, and the counts of its ports,
    /// workers and mirror begin anew.
    #[serde(default)]
    pub takeovers: u64,
    /// The direct path; none where it was not asked for.
    #[serde(default)]
    pub direct: Option<DirectState>,
}

/// The direct path.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DirectState {
    /// `flows`, or `always`.
    pub mode: String,
    /// Why no flow goes it.
    pub why_not: Option<String>,
    /// Why no TCP flow goes it.
    pub why_not_tcp: Option<String>,
    /// Why no flow goes higher than the ring gear.
    #[serde(default)]
    pub why_not_express: Option<String>,
    /// The pods' devices that are looked after.
    pub pods: u64,
    /// Those among them that take frames from XDP as they are, because their pod's end has GRO on or a program.
    pub pods_by_xdp: u64,
    /// Others, and why not.
    pub pods_left_out: BTreeMap<String, String>,
    /// How many may be looked after.
    #[serde(default)]
    pub pods_max: u64,
    /// Those that are, by their names on the host's side, and what that means to each.
    #[serde(default)]
    pub pod_devices: BTreeMap<String, PodState>,
    /// Flows in the express gear.
    pub express_flows: u64,
    /// Flows in the ring gear, now or lately.
    #[serde(default)]
    pub ring_flows: u64,
    /// Flows promoted since the start of the session.
    pub promotions: u64,
    /// How often every flow was demoted at once, because something changed that the kernel decides by.
    pub changes: u64,
    /// What had changed, of several things at once the first.
    #[serde(default)]
    pub changes_by: BTreeMap<String, u64>,
    /// From pods to the underlay, express.
    pub out: DirectWayState,
    /// From the underlay to pods, express.
    #[serde(rename = "in")]
    pub into: DirectWayState,
    /// From pods to the workers, in the ring gear: what express left to it. Its frames are of the wire, as many as a superframe has
    /// segments; from there on they are among the ports'.
    #[serde(default)]
    pub ring_out: DirectWayState,
    /// From the workers to pods, in the ring gear: all that they decapsulate.
    #[serde(default)]
    pub ring_in: DirectWayState,
}

impl DirectState {
    /// All ways of both gears, by name.
    pub fn ways(&self) -> [(&DirectWayState, &'static str); 4] {
        [
            (&self.out, "express from pods"),
            (&self.into, "express to pods"),
            (&self.ring_out, "ring from pods"),
            (&self.ring_in, "ring to pods"),
        ]
    }
}

/// A pod's device that is looked after, and what that means to the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PodState {
    /// Its index on the host's side.
    pub ifindex: u32,
    /// How frames get to it: `xdp` sends them as they are, `classifier` through the receive path of the NIC, with GRO.
    pub delivery: String,
    /// The longest packet that it takes, as it was.
    pub mtu: u32,
    /// Offloads that it had until programs were attached to it, and has had no more since.
    pub offloads_lost: Vec<String>,
    /// Its flows in the express gear, about a second ago.
    pub express_flows: u64,
}

/// Flows that are known, those first that carried the most.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowsState {
    /// `flows`, or `always`; none without a direct path.
    #[serde(default)]
    pub mode: Option<String>,
    /// Why no flow goes the direct path.
    pub why_not: Option<String>,
    /// Why no TCP flow goes it.
    pub why_not_tcp: Option<String>,
    /// How many are known.
    pub known: u64,
    /// How many of them go express.
    pub express: u64,
    /// How many of them are in the ring gear, now or lately.
    #[serde(default)]
    pub ring: u64,
    /// Not all, where there are too many.
    pub flows: Vec<FlowState>,
}

/// A flow between a local pod and one elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowState {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The local pod's end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// The pod's device on the host's side, of a promoted flow.
    pub device: Option<String>,
    /// The VTEP that the other end is behind.
    pub vtep: Option<IpAddr>,
    /// `express` past the workers, `ring` through them, both around the kernel's routing and filters; `transparent` through these.
    pub gear: String,
    /// Which ways it is promoted: `both`, `in` (to the pod) or `out` (from it); none of one that is not.
    #[serde(default)]
    pub ways: Option<String>,
    /// Why not a higher gear, or not both ways.
    pub why_not_higher: Option<String>,
    /// How long it is known, in milliseconds.
    pub age_ms: u64,
    /// Frames from the pod in the express gear.
    pub out_frames: u64,
    /// Their bytes, without outer headers.
    pub out_bytes: u64,
    /// Frames to the pod in the express gear.
    pub in_frames: u64,
    /// Their bytes.
    pub in_bytes: u64,
    /// Frames from the pod in the ring gear: of the wire.
    #[serde(default)]
    pub ring_out_frames: u64,
    /// Their bytes, of a superframe with one set of inner headers.
    #[serde(default)]
    pub ring_out_bytes: u64,
    /// Frames to the pod in the ring gear: of the wire.
    #[serde(default)]
    pub ring_in_frames: u64,
    /// Their bytes.
    #[serde(default)]
    pub ring_in_bytes: u64,
}

/// The word for the gear past the workers.
pub const EXPRESS: &str = "express";
/// That for the one through them.
pub const RING: &str = "ring";
/// That for the path through the kernel's routing and filters.
pub const TRANSPARENT: &str = "transparent";

impl FlowState {
    /// Frames that went the direct path, in any gear: from the pod, and to it.
    pub fn frames(&self) -> (u64, u64) {
        (
            self.out_frames + self.ring_out_frames,
            self.in_frames + self.ring_in_frames,
        )
    }

    /// Whether it does not go the direct path.
    pub fn is_transparent(&self) -> bool {
        self.gear == TRANSPARENT
    }
}

/// One way of a gear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DirectWayState {
    /// Frames that came: of pods' devices all, of the underlay those for one of our VTEPs, and a superframe is one. In the ring gear
    /// what express left to it, or what workers decapsulated, and a superframe is as many as its segments.
    pub received: u64,
    /// Frames forwarded.
    pub forwarded: u64,
    /// Bytes of these, without outer headers.
    pub forwarded_bytes: u64,
    /// Frames for whose headers there was no memory.
    pub lost: u64,
    /// Frames without a fate so far: taken off the underlay, and on their way to a pod's device.
    pub in_flight: i64,
    /// Whether `received = forwarded + handed_up + lost + in_flight`, with no more in flight than can be.
    pub balance_ok: bool,
    /// Frames handed up to the workers or the kernel, by reason, and their `total`.
    pub handed_up: BTreeMap<String, u64>,
}

impl Default for DirectWayState {
    /// Of a way that no frame has come: nothing is missing.
    fn default() -> Self {
        Self {
            received: 0,
            forwarded: 0,
            forwarded_bytes: 0,
            lost: 0,
            in_flight: 0,
            balance_ok: true,
            handed_up: BTreeMap::new(),
        }
    }
}

/// What the data path does where the kernel and the RFC leave a choice, in the words of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyState {
    /// Who may send to us.
    pub peer_check: String,
    /// Which reserved bits may be set.
    pub reserved_bits: String,
    /// The outer ECN bits of what is sent.
    pub ecn_encap: String,
    /// Inner VLAN tags.
    pub inner_vlan: String,
    /// Received outer UDP checksums.
    pub udp_checksum_rx: String,
}

impl From<&Policy> for PolicyState {
    fn from(policy: &Policy) -> Self {
        Self {
            peer_check: policy.peer_check.label().to_owned(),
            reserved_bits: policy.reserved_bits.to_string(),
            ecn_encap: policy.ecn_encap.label().to_owned(),
            inner_vlan: policy.inner_vlan.label().to_owned(),
            udp_checksum_rx: policy.udp_checksum_rx.label().to_owned(),
        }
    }
}

/// A sender that the peer check found fault with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OffenderState {
    /// The outer source address.
    pub source: IpAddr,
    /// The VXLAN network identifier that it used.
    pub vni: u32,
    /// The inner source address; none when the inner frame has no whole Ethernet header.
    pub inner_source: Option<String>,
    /// What was wrong, as in `drops`.
    pub reason: String,
    /// Whether its frames were delivered all the same.
    pub delivered: bool,
    /// The underlay device that they came in by.
    pub port: String,
    /// How many they were since this sender has been on record; whoever is silent for long gives way to others.
    pub frames: u64,
    /// Milliseconds since the last one.
    pub age_ms: u64,
}

/// A vxlan device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceState {
    /// Its name.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// Its VXLAN network identifier.
    pub vni: u32,
    /// Its UDP port.
    pub port: u16,
    /// Its VTEP address.
    pub local: Option<IpAddr>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The underlay device's name.
    pub underlay: Option<String>,
    /// The access device made for it.
    pub access: Option<AccessState>,
    /// Whether its frames go through vxgate.
    pub taken_over: bool,
    /// Why not.
    pub refused: Option<RefusedState>,
    /// Entries of its FDB that the data path uses.
    pub fdb_entries: u64,
    /// VTEPs that get a copy of every frame without an FDB entry.
    pub flood_entries: u64,
    /// Entries of both kinds that lead to VTEPs which only the kernel reaches: their frames are left to it.
    #[serde(default)]
    pub kernel_entries: u64,
    /// Which of its frames steering leaves to the kernel for their destination, in words; empty when all are the kernel's
    /// because the device is not taken over.
    #[serde(default)]
    pub kernel_keeps: String,
    /// Whether superframes of TCP and UDP cross whole; none where that is not known.
    #[serde(default)]
    pub superframes: Option<SuperframesState>,
}

/// The lane of superframes of a vxlan device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SuperframesState {
    /// Whether TCP takes it.
    pub on: bool,
    /// The TAP that exchanges them with the vxlan device.
    pub access_tap: Option<String>,
    /// The TAP by which they leave through the underlay device; none where the workers cut them.
    pub wire_tap: Option<String>,
    /// Why there is none.
    pub why_not: Option<String>,
}

/// The two ends of an access device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccessState {
    /// The end that exchanges frames with the vxlan device.
    pub kernel_side: String,
    /// The end with the AF_XDP sockets.
    pub worker_side: String,
}

/// Why a device stays with the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedState {
    /// The attribute, in the words of `ip -d link`.
    pub attribute: String,
    /// Why it stands in the way.
    pub why: String,
}

/// Where frames enter: an underlay device, or the access side of a vxlan device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PortState {
    /// The underlay device's name, or the vxlan device's.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// `underlay` or `access`.
    pub role: String,
    /// `native` or `generic`.
    pub xdp_mode: String,
    /// Whether the driver gives its own buffers.
    pub zero_copy: bool,
    /// Why it is not a better mode.
    pub why_not_better: Option<String>,
    /// Queues with a socket.
    pub queues: u32,
    /// Who finishes the outer UDP checksums of what leaves by an underlay device, where there are any: the `device`, or the
    /// `worker` that sends it.
    #[serde(default)]
    pub outer_checksums: Option<String>,
    /// The NUMA node of an underlay device; none for one that is on no node, or does not say.
    #[serde(default)]
    pub numa_node: Option<u32>,
    /// Frames that arrived, whatever became of them.
    pub received: u64,
    /// Frames handed on to the other side, the express gear's included.
    pub forwarded: u64,
    /// Frames among these that the express gear forwarded.
    #[serde(default)]
    pub express: u64,
    /// Copies beyond the first, for flood lists.
    pub flood_copies: u64,
    /// Their bytes, as sent; not among `forwarded_bytes`.
    #[serde(default)]
    pub copied_bytes: u64,
    /// Copies that could not be made or sent.
    pub flood_copies_lost: u64,
    /// Bytes of the frames forwarded, as sent.
    pub forwarded_bytes: u64,
    /// Inner checksums completed.
    pub checksums_completed: u64,
    /// Superframes that came in here and went out whole or cut, or that frames from here were joined to.
    #[serde(default)]
    pub superframes: u64,
    /// The segments that these are cut into or were joined from.
    #[serde(default)]
    pub segments: u64,
    /// Segments beyond the first of a superframe that were cut here and sent.
    #[serde(default)]
    pub segments_sent: u64,
    /// Segments beyond the first of superframes that left whole, to be cut behind us.
    #[serde(default)]
    pub segments_whole: u64,
    /// Segments beyond the first that were cut here and lost, although the first was not.
    #[serde(default)]
    pub segments_lost: u64,
    /// How superframes leave by an underlay device: `wire-gso`, whole by a TAP in front of it, or `cut` by the workers; none
    /// where there are none.
    #[serde(default)]
    pub superframes_leave: Option<String>,
    /// Why they are cut.
    #[serde(default)]
    pub why_cut: Option<String>,
    /// Frames of senders that are no known VTEPs, delivered all the same; among those forwarded.
    #[serde(default)]
    pub strangers_delivered: u64,
    /// Frames left to the kernel, by reason, and their `total`.
    pub passed: BTreeMap<String, u64>,
    /// Frames that died, by reason, and their `total`.
    pub drops: BTreeMap<String, u64>,
    /// Frames that have arrived and have no fate yet: they sit in a ring. Zero at any quiet moment.
    pub in_flight: i64,
    /// Whether `received = forwarded + passed + drops + in_flight` with no more in flight than the rings hold.
    pub balance_ok: bool,
}

impl PortState {
    /// A port with this name and role that has seen nothing yet: for tests.
    #[cfg(test)]
    pub(crate) fn named(name: &str, ifindex: u32, role: &str) -> Self {
        Self {
            name: name.into(),
            ifindex,
            role: role.into(),
            xdp_mode: "native".into(),
            queues: 1,
            balance_ok: true,
            ..Self::default()
        }
    }
}

/// Frames that died at a port of one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DropState {
    /// The port that they came in by.
    pub port: String,
    /// `rx` for what came from the underlay, `tx` for what was on its way there.
    pub direction: String,
    /// The reason.
    pub reason: String,
    /// How many since the takeover.
    pub count: u64,
    /// Milliseconds since one was last seen to have died; looked at once a second.
    pub last_age_ms: u64,
    /// How many in the last minute; since the takeover when that was later.
    pub last_minute: u64,
    /// How many in the last 10 minutes.
    pub last_10_minutes: u64,
    /// How many in the last hour.
    pub last_hour: u64,
}

/// What a worker has of a port: an AF_XDP socket on a queue, or a queue of a TAP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueueState {
    /// The underlay device's name, or the vxlan device's.
    pub port: String,
    /// `rx` where frames come from the underlay, `tx` where they go there.
    pub direction: String,
    /// Which queue.
    pub queue: u32,
    /// `socket`, or `tap` for superframes.
    pub kind: String,
    /// Frames taken from it.
    pub received: u64,
    /// Those of them that were handed on.
    pub forwarded: u64,
    /// Those of them that the worker dropped.
    pub dropped: u64,
    /// Frames that the kernel dropped in front of the worker: its ring was full, or there was no frame to fill.
    pub dropped_by_kernel: u64,
    /// Batches that were taken from it, by size: of 1, 2, and up to 4, 8, 16, 32 and 64 frames.
    #[serde(default)]
    pub batches: Vec<u64>,
    /// Frames in these batches.
    #[serde(default)]
    pub batched: u64,
    /// System calls that moved frames or asked the kernel to.
    #[serde(default)]
    pub calls: u64,
    /// How full the rings of a socket were; a TAP has none.
    #[serde(default)]
    pub rings: Vec<RingState>,
}

/// How full a ring was: the receive and the transmit ring at most, the fill ring at least.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RingState {
    /// `rx`, `tx` or `fill`.
    pub ring: String,
    /// Entries that it has room for.
    pub size: u32,
    /// The highest number of entries since the takeover; of the fill ring the lowest.
    pub mark: u32,
    /// The same in the last minute, or in the time that was asked for.
    pub lately: u32,
}

/// Where the time of a worker's turns went, as far as it was measured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StagesState {
    /// Turns that were measured and received frames.
    pub turns: u64,
    /// The frames that these received.
    pub frames: u64,
    /// Times that the clock was read for it.
    pub readings: u64,
    /// Nanoseconds of each stage.
    pub ns: BTreeMap<String, u64>,
}

/// One worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerState {
    /// Its number.
    pub worker: u32,
    /// The core it is pinned to.
    pub core: Option<u32>,
    /// The NUMA node of that core.
    #[serde(default)]
    pub numa_node: Option<u32>,
    /// The NUMA node of its frames.
    #[serde(default)]
    pub memory_node: Option<u32>,
    /// Its nice value now; none when its thread has ended. A worker that hangs has 19, whatever was asked for.
    #[serde(default)]
    pub nice: Option<i32>,
    /// Which nice value it was refused, and why.
    #[serde(default)]
    pub nice_refused: Option<String>,
    /// The share of the time since its start that it was awake, 0 to 1.
    pub busy_share: f64,
    /// Turns since its start.
    pub turns: u64,
    /// Turns that moved at least one frame.
    #[serde(default)]
    pub busy_turns: u64,
    /// Times it slept.
    #[serde(default)]
    pub sleeps: u64,
    /// Sleeps that ended because something had arrived.
    #[serde(default)]
    pub woken: u64,
    /// Times it went on looking for frames when there were none.
    #[serde(default)]
    pub spins: u64,
    /// Those of them that found some.
    #[serde(default)]
    pub spins_found: u64,
    /// System calls of its ports that moved frames or asked the kernel to; not its sleeps.
    #[serde(default)]
    pub calls: u64,
    /// Nanoseconds awake since its start.
    #[serde(default)]
    pub awake_ns: u64,
    /// Those of them in turns that moved at least one frame.
    #[serde(default)]
    pub working_ns: u64,
    /// Nanoseconds asleep since its start.
    #[serde(default)]
    pub asleep_ns: u64,
    /// Its frames, wherever they are.
    #[serde(default)]
    pub frames: u32,
    /// The fewest of them that were in the pool since the takeover.
    #[serde(default)]
    pub pool_mark: u32,
    /// The same in the last minute, or in the time that was asked for.
    #[serde(default)]
    pub pool_lately: u32,
    /// Where the time of its turns went, as far as that was measured.
    #[serde(default)]
    pub stages: StagesState,
    /// The queues that it serves.
    #[serde(default)]
    pub queues: Vec<QueueState>,
    /// Milliseconds since its last heartbeat.
    pub heartbeat_age_ms: u64,
    /// Whether its thread runs and its heartbeat is fresh.
    pub alive: bool,
}

/// One remote tunnel end point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VtepState {
    /// The vxlan device's name.
    pub device: String,
    /// The VNI sent to it.
    pub vni: u32,
    /// Its address.
    pub addr: IpAddr,
    /// Its UDP port.
    pub port: u16,
    /// The router, or the VTEP itself when it is on the link.
    pub next_hop: Option<IpAddr>,
    /// The Ethernet address that frames to it go to.
    pub next_hop_mac: Option<String>,
    /// `resolved`, or why not.
    pub state: String,
    /// The largest outer IP packet that the path to it takes, in bytes, as far as the kernel knows.
    pub path_mtu: u16,
    /// Who sends to it: `vxgate`, or `kernel` when nobody else can.
    #[serde(default)]
    pub carried_by: String,
}

impl VtepState {
    /// Whether its frames are left to the kernel.
    pub fn is_kernels(&self) -> bool {
        self.carried_by == "kernel"
    }
}

/// Frames of the wire that were handed on, each segment of a superframe by itself, and copies too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Traffic {
    /// Frames that were received, decapsulated and delivered.
    pub received: u64,
    /// Their bytes, as delivered.
    pub received_bytes: u64,
    /// Milliseconds since the last of them; none when there has been none.
    pub received_age_ms: Option<u64>,
    /// Frames that were encapsulated and sent.
    pub sent: u64,
    /// Their bytes, as sent; a superframe that left whole had its headers once.
    pub sent_bytes: u64,
    /// Milliseconds since the last of them; none when there has been none.
    pub sent_age_ms: Option<u64>,
}

/// What was counted of one peer since the takeover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerState {
    /// The vxlan device's name.
    pub device: String,
    /// The device's VNI.
    pub vni: u32,
    /// The peer's address.
    pub addr: IpAddr,
    /// Its frames.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// What was counted of all peers of a vxlan device since the takeover. Over all peers, `other` and `former` it adds up to what
/// the ports say: `received` to `forwarded` of the underlay devices, with what died as `worker_stale`; `sent` to `forwarded`,
/// `flood_copies`, `segments_sent` and `segments_whole` of the device, and `out.forwarded` of the direct path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VniState {
    /// The vxlan device's name.
    pub device: String,
    /// Its VNI.
    pub vni: u32,
    /// Peers that are counted by themselves.
    pub peers: u64,
    /// Peers beyond the bound, counted in `other`.
    pub uncounted: u64,
    /// Everything.
    pub total: Traffic,
    /// Of senders that are no VTEPs, and of peers beyond the bound.
    pub other: Traffic,
    /// Of peers that are no longer there.
    pub former: Traffic,
}

/// A nexthop group that FDB entries lead to: each flow goes to one of its members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GroupState {
    /// The vxlan device's name.
    pub device: String,
    /// The kernel's number (`ip nexthop show id N`).
    pub nexthop: u32,
    /// Its members.
    pub members: Vec<MemberState>,
}

/// A member of a nexthop group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemberState {
    /// The VTEP's address.
    pub addr: IpAddr,
    /// Its part of the flows, 0 to 1.
    pub share: f64,
}

/// The mirror of the kernel's tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MirrorState {
    /// Snapshots published since the start of the session.
    pub publications: u64,
    /// Times everything was read again.
    pub resyncs: u64,
    /// Notifications taken from the kernel.
    #[serde(default)]
    pub events: u64,
    /// Times that the kernel could not queue a notification.
    #[serde(default)]
    pub overruns: u64,
}

/// A device that stays with the kernel.
pub(super) fn left_to_the_kernel(found: &Found) -> DeviceState {
    let (attribute, why) = refusal_words(found);
    DeviceState {
        refused: Some(RefusedState { attribute, why }),
        ..device(found)
    }
}

/// A device's attributes; what a session knows of it is left blank.
pub(super) fn device(found: &Found) -> DeviceState {
    DeviceState {
        name: found.device.name.clone(),
        ifindex: found.device.ifindex,
        vni: found.device.vni.get(),
        port: found.device.port,
        local: found.device.local,
        mtu: found.device.mtu,
        underlay: found.underlay.as_ref().map(|link| link.name.clone()),
        access: None,
        taken_over: false,
        refused: None,
        fdb_entries: 0,
        flood_entries: 0,
        kernel_entries: 0,
        kernel_keeps: String::new(),
        superframes: None,
    }
}
