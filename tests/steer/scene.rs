//! A node with a wire and a kernel vxlan device, and the steering of it with sockets of the test's own.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::time::Duration;

use serde_json::Value;
use vxgate::netlink::{Link, Socket, links};
use vxgate::port::{
    Batch, ChunkSize, Port, ROOM, Umem, UmemConfig, XskConfig, XskPort, ZeroCopy, now_ns,
};
use vxgate::steer::{AccessPair, DevicePlan, NicPlan, SteerCounters, SteerPlan, Steering, Tap};
use vxgate::wire::Vni;

use crate::support::frames::{RawSocket, VxlanFrame, mac};
use crate::support::netns::Netns;
use crate::support::wait_until;

pub const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
pub const REMOTE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 11);
pub const REMOTE_MAC: &str = "02:00:00:00:00:0b";
pub const DEVICE_MAC: &str = "02:00:00:00:01:0a";
pub const PATIENCE: Duration = Duration::from_secs(10);
const RING_LEN: u32 = 2048;

/// The namespaces. Calls that touch devices are made inside [`Scene::node`].
pub struct Scene {
    pub node: Netns,
    pub wire: Netns,
}

impl Scene {
    /// A node whose wire has this many queues and this MTU.
    pub fn new(name: &str, queues: u32, mtu: u32) -> Self {
        let prefix = format!("vx{}-steer-{name}", std::process::id());
        let scene = Self {
            node: Netns::create(&format!("{prefix}-node")),
            wire: Netns::create(&format!("{prefix}-wire")),
        };
        for netns in [&scene.node, &scene.wire] {
            // No router solicitations among the counted frames.
            netns.run("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
        }
        let (node, of) = (
            &scene.node,
            format!("numrxqueues {queues} numtxqueues {queues} mtu {mtu}"),
        );
        node.run(&format!(
            "ip link add eth1 {of} type veth peer name wire {of} netns {}",
            scene.wire.name()
        ));
        scene.wire.run("ip link set wire up");
        node.run("ip link set eth1 up");
        node.run("ip addr add 10.0.0.10/24 dev eth1");
        node.run(&format!(
            "ip neigh replace {REMOTE} lladdr {REMOTE_MAC} dev eth1"
        ));
        node.run(&format!(
            "ip link add flannel.1 address {DEVICE_MAC} mtu {} type vxlan id 1 dev eth1 local {LOCAL} dstport 8472 nolearning",
            mtu - 50
        ));
        node.run("ip link set flannel.1 up");
        node.run("ip addr add 10.244.0.0/32 dev flannel.1");
        node.run("ip route add 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink");
        node.run(&format!(
            "ip neigh replace 10.244.1.0 lladdr {REMOTE_MAC} dev flannel.1"
        ));
        node.run(&format!(
            "bridge fdb replace {REMOTE_MAC} dev flannel.1 dst {REMOTE} self permanent"
        ));
        scene
    }

    /// A frame of ours as the remote sends it.
    pub fn frame(&self) -> VxlanFrame {
        VxlanFrame {
            outer_macs: [mac(REMOTE_MAC), mac(&self.mac("eth1"))],
            outer: [REMOTE, LOCAL],
            inner_macs: [mac(REMOTE_MAC), mac(DEVICE_MAC)],
            inner: [Ipv4Addr::new(10, 244, 1, 0), Ipv4Addr::new(10, 244, 0, 0)],
            port: 9,
        }
    }

    /// The MAC address of a device of the node.
    pub fn mac(&self, device: &str) -> String {
        self.link(device)["address"].as_str().unwrap().to_owned()
    }

    /// What `ip -details -statistics link show` says of a device of the node.
    pub fn link(&self, device: &str) -> Value {
        let all: Value = serde_json::from_str(
            &self
                .node
                .run(&format!("ip -d -s -j link show dev {device}")),
        )
        .unwrap();
        all[0].clone()
    }

    /// Frames that a device of the node has received.
    pub fn received(&self, device: &str) -> u64 {
        self.link(device)["stats64"]["rx"]["packets"]
            .as_u64()
            .unwrap()
    }

    pub fn raw_on_wire(&self) -> RawSocket {
        RawSocket::open(&self.wire, "wire")
    }

    pub fn raw_on(&self, device: &str) -> RawSocket {
        RawSocket::open(&self.node, device)
    }
}

/// A device of the calling thread's namespace.
pub fn link(name: &str) -> Link {
    let mut socket = Socket::open().unwrap();
    let all = links(&mut socket).unwrap();
    all.into_iter()
        .find(|link| link.name == name)
        .unwrap_or_else(|| panic!("no device {name}"))
}

/// Steering of `eth1` and `flannel.1`. Make it inside the node.
pub struct Steered {
    pub steering: Steering,
    pub pair: AccessPair,
    pub nic: Link,
    pub device: Link,
}

impl Steered {
    pub fn load(workers: u32) -> Self {
        let (nic, device) = (link("eth1"), link("flannel.1"));
        let pair = AccessPair::create(&device.name, device.mtu, workers).unwrap();
        let steering = Steering::load(&plan(workers, &nic, &device, &pair)).unwrap();
        Self {
            steering,
            pair,
            nic,
            device,
        }
    }

    /// Every worker's last turn, relative to now. The future stays fresh however long a test takes.
    pub fn heartbeats(&self, workers: u32, from_now: i64) {
        for worker in 0..workers {
            let at_ns = now_ns().checked_add_signed(from_now).unwrap();
            self.steering.heartbeat(worker).store(at_ns);
        }
    }

    /// A socket on a queue of one of the devices, told to the programs.
    pub fn open(&mut self, ifindex: u32, name: &str, queue: u32) -> Receiver {
        let receiver = Receiver::open(ifindex, name, queue);
        self.steering
            .set_socket(ifindex, queue, receiver.port.socket().as_fd())
            .unwrap();
        receiver
    }

    pub fn open_nic(&mut self, queue: u32) -> Receiver {
        self.open(self.nic.ifindex, &self.nic.name.clone(), queue)
    }

    pub fn open_worker_side(&mut self, queue: u32) -> Receiver {
        let end = self.pair.worker_side.clone();
        self.open(end.ifindex, &end.name, queue)
    }

    pub fn counters(&self, ifindex: u32) -> SteerCounters {
        let all = self.steering.counters().unwrap();
        all.into_iter()
            .find(|counters| counters.ifindex == ifindex)
            .unwrap()
    }

    pub fn underlay(&self) -> SteerCounters {
        self.counters(self.nic.ifindex)
    }

    pub fn egress(&self) -> SteerCounters {
        self.counters(self.device.ifindex)
    }
}

/// A minute, for heartbeats from the future.
pub const MINUTE: i64 = 60_000_000_000;

impl Steered {
    /// The same with a TAP beside the pair.
    pub fn load_with_tap(workers: u32) -> (Self, Tap) {
        let (nic, device) = (link("eth1"), link("flannel.1"));
        let pair = AccessPair::create(&device.name, device.mtu, workers).unwrap();
        let tap = Tap::access(&device.name, workers).unwrap();
        let mut plan = plan(workers, &nic, &device, &pair);
        plan.devices[0].access_tap = Some(tap.link.clone());
        let steering = Steering::load(&plan).unwrap();
        let steered = Self {
            steering,
            pair,
            nic,
            device,
        };
        (steered, tap)
    }
}

pub fn plan(workers: u32, nic: &Link, device: &Link, pair: &AccessPair) -> SteerPlan {
    SteerPlan {
        workers,
        chains: false,
        direct: None,
        frame_max: ChunkSize::K2.bytes() - ROOM as u32,
        nics: vec![NicPlan {
            ifindex: nic.ifindex,
            name: nic.name.clone(),
            mac: nic.mac,
            mtu: nic.mtu,
            wire_tap: None,
        }],
        devices: vec![DevicePlan {
            ifindex: device.ifindex,
            name: device.name.clone(),
            mtu: device.mtu,
            vni: Vni::new(1).unwrap(),
            underlay_ifindex: nic.ifindex,
            local: IpAddr::V4(LOCAL),
            group: None,
            port: 8472,
            gbp: false,
            kernel_side: pair.kernel_side.clone(),
            worker_side: pair.worker_side.clone(),
            access_tap: None,
        }],
    }
}

/// A socket, and the frames that came out of it.
pub struct Receiver {
    pub port: XskPort,
    umem: Umem,
    batch: Batch,
}

impl Receiver {
    fn open(ifindex: u32, name: &str, queue: u32) -> Self {
        let mut umem = Umem::new(UmemConfig {
            chunk: ChunkSize::K2,
            frames: 2 * RING_LEN,
            lock: true,
        })
        .unwrap();
        let config = XskConfig {
            ifindex,
            name: name.to_owned(),
            queue,
            ring_len: RING_LEN,
            zero_copy: ZeroCopy::Never,
            frame_len_max: 1600,
            finishes: vxgate::port::Finishes::default(),
            busy_wait: Duration::from_secs(2),
        };
        let mut port = XskPort::open(&umem, &config, None).unwrap();
        port.refill(&mut umem);
        Self {
            port,
            umem,
            batch: Batch::new(),
        }
    }

    /// What has arrived by now.
    pub fn frames(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while self.port.receive(&mut self.umem, &mut self.batch) > 0 {
            for frame in self.batch.drain() {
                frames.push(self.umem.bytes(&frame).to_vec());
                self.umem.release(frame);
            }
            self.port.refill(&mut self.umem);
        }
        frames
    }

    /// The next frames, once so many have arrived.
    pub fn wait_for(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        wait_until(&format!("{count} frames at a socket"), PATIENCE, || {
            frames.extend(self.frames());
            frames.len() >= count
        });
        frames
    }
}
