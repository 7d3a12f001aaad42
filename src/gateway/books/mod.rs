//! Where the counts of a session lie, and how they are added up.
//!
//! A frame is counted where it entered. What arrived at an underlay device is what its XDP program saw; what arrived at
//! the access side of a vxlan device is what its tcx program left to the kernel, what the access device lost on the way,
//! what its XDP program saw, and what went to its TAP, where a superframe is one frame. Each of these frames has its fate
//! in one counter, or sits in a ring.

mod lately;
mod port;
mod socket;
mod worker;

use std::sync::Arc;

pub(super) use lately::Lately;
pub(super) use port::RingDrops;
pub(super) use socket::SocketBook;
pub(super) use worker::{HEARTBEAT_STALE_MS, WorkerBook};

use super::captures::CapturedPort;
use super::numa::Machine;
use super::observe::{OffenderState, PortState, QueueState};
use super::plan::Plan;
use crate::stats::tap::{PortTap, Tap};
use crate::stats::{FlightBook, PeerBook, PortCounters, StageSwitch};
use crate::steer::{AccessPair, SteerCounters, XdpMode};
use port::{Fates, PortBook, TapBook};

/// The books of a session.
#[derive(Default)]
pub(super) struct Books {
    ports: Vec<PortBook>,
    pub workers: Vec<WorkerBook>,
    /// Where the workers count each peer.
    pub peers: Arc<PeerBook>,
    /// Where they keep the last frames that died.
    pub flight: FlightBook,
    /// Where whoever captures sees frames, a worker each.
    pub taps: Vec<Arc<Tap>>,
    /// Whether the workers measure the stages of their turns.
    pub stages: StageSwitch,
}

impl Books {
    /// Opens the books: a page for every port of the plan.
    pub fn new(plan: &Plan, accesses: &[AccessPair], stages: StageSwitch) -> Self {
        let kernel_sides = |nic: u32| {
            let devices = plan.devices.iter().zip(accesses);
            let above = devices.filter(|(found, _)| found.device.underlay == Some(nic));
            above.map(|(_, pair)| pair.kernel_side.ifindex).collect()
        };
        let machine = Machine::this();
        let underlays = plan.nics.iter().map(|nic| {
            let numa_node = machine.node_of_device(&nic.name, nic.ifindex);
            PortBook::underlay(nic, numa_node, kernel_sides(nic.ifindex))
        });
        let devices = plan.devices.iter().zip(accesses);
        let accesses = devices.map(|(found, pair)| PortBook::access(found, pair));
        Self {
            ports: underlays.chain(accesses).collect(),
            workers: Vec::new(),
            peers: Arc::new(PeerBook::new(plan.workers as usize, plan.devices.len())),
            flight: FlightBook::new(plan.workers as usize),
            taps: (0..plan.workers).map(tap).collect(),
            stages,
        }
    }

    /// The tap of a worker's port: an underlay device, or a vxlan device.
    pub fn tap(&self, worker: u32, ifindex: u32) -> PortTap {
        let tap = self.taps.get(worker as usize);
        tap.map_or_else(PortTap::default, |tap| {
            PortTap::new(Arc::clone(tap), ifindex)
        })
    }

    /// The ports, for whoever captures.
    pub fn captured_ports(&self) -> Vec<CapturedPort> {
        let port = |port: &PortBook| CapturedPort {
            ifindex: port.ifindex,
            name: port.name.clone(),
            role: port.role().to_owned(),
            vni: port.vni,
        };
        self.ports.iter().map(port).collect()
    }

    /// Notes a socket on a device.
    pub fn note_socket(&mut self, socket_ifindex: u32, socket: SocketBook) {
        let mut ports = self.ports.iter_mut();
        if let Some(port) = ports.find(|port| port.socket_ifindex == socket_ifindex) {
            port.sockets.push(socket);
        }
    }

    /// Notes a queue of a vxlan device's TAP.
    pub fn note_tap(
        &mut self,
        (ifindex, tap_ifindex): (u32, u32),
        worker: u32,
        counters: &Arc<PortCounters>,
    ) {
        if let Some(port) = self.ports.iter_mut().find(|port| port.ifindex == ifindex) {
            port.tap_ifindex = Some(tap_ifindex);
            let counters = Arc::clone(counters);
            port.taps.push(TapBook { worker, counters });
        }
    }

    /// Notes how XDP is attached to a device, and why not better.
    pub fn note_mode(&mut self, socket_ifindex: u32, mode: XdpMode, why: Option<String>) {
        let mut ports = self.ports.iter_mut();
        if let Some(port) = ports.find(|port| port.socket_ifindex == socket_ifindex) {
            port.xdp = Some((mode, why));
        }
    }

    /// Gives back the handles on the sockets, so that they can be closed.
    pub fn close(&mut self) {
        self.ports.clear();
    }

    /// Adds up every port. `ring_drops` tells what the access device of the vxlan device with this index lost.
    ///
    /// Arrivals are read before the fates and after them: what has a fate must have arrived by the second look, and what
    /// had arrived by the first look and has no fate must be in a ring.
    pub fn ports(
        &self,
        mut arrivals: impl FnMut() -> Vec<SteerCounters>,
        ring_drops: impl Fn(u32) -> RingDrops,
    ) -> Vec<PortState> {
        let before = arrivals();
        let fates = |port: &PortBook| (port.fates(), ring_drops(port.ifindex));
        let fates: Vec<(Fates, RingDrops)> = self.ports.iter().map(fates).collect();
        let after = arrivals();
        let pages = self.ports.iter().zip(fates);
        pages
            .map(|(port, (fates, ring_drops))| port.state(fates, &before, &after, ring_drops))
            .collect()
    }

    /// What a worker has of the ports.
    pub fn queues(&self, worker: u32, lately: Lately) -> Vec<QueueState> {
        let ports = self.ports.iter();
        ports.flat_map(|port| port.queues(worker, lately)).collect()
    }

    /// The port whose frames come in by the device with this index.
    pub fn port_name(&self, ifindex: u32) -> Option<&str> {
        let mut ports = self.ports.iter();
        let port = ports
            .find(|port| port.socket_ifindex == ifindex || port.tap_ifindex == Some(ifindex))?;
        Some(&port.name)
    }

    /// Frames of strangers that were delivered, over all ports.
    pub fn strangers_delivered(&self) -> u64 {
        let sockets = self.ports.iter().flat_map(|port| &port.sockets);
        sockets
            .map(|socket| socket.counters.strangers_delivered.get())
            .sum()
    }

    /// The senders that the peer check found fault with, of all ports, the latest first; at `now_ns` (`CLOCK_MONOTONIC`).
    pub fn offenders(&self, now_ns: u64) -> Vec<OffenderState> {
        let mut all: Vec<_> = self
            .ports
            .iter()
            .flat_map(|port| port.offenders(now_ns))
            .collect();
        all.sort_by_key(|offender| offender.age_ms);
        all
    }
}

fn tap(worker: u32) -> Arc<Tap> {
    // There are no more workers than that.
    Arc::new(Tap::new(u16::try_from(worker).unwrap_or(u16::MAX)))
}
