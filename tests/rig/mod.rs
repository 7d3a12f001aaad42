//! A worker on in-memory ports, with the test as kernel and wire around it.
//!
//! ```text
//!   access 0 ══╗                      ╔══ underlay queue 0 ── VTEPs 10.0.0.2, 10.0.0.3, ... (10.0.0.9 unresolved)
//!   access 1 ══╬═══ worker, 10.0.0.1 ═╬══ underlay queue 1
//!   access 2 ══╝                      ╚══ ...
//! ```
//!
//! Access *s* is segment *s*, VNI 100 + *s*, and sends through queue *s* modulo the number of queues.
//!
//! That is [`Rig::new`]'s network. [`Rig::on`] takes any other, such as `table` makes up from bytes (`choices`), with
//! `frames` for it; `bench` runs one direction alone, `twin` says what must become of a frame, and
//! `allocations` counts what a thread allocates. `tcp` makes up segments and superframes, and `trains` joins and cuts them.

// Each test binary uses its own part of the rig.
#![allow(dead_code, unused_imports)]

pub mod allocations;
pub mod bench;
pub mod choices;
pub mod frames;
pub mod sums;
pub mod table;
pub mod tcp;
pub mod trains;
pub mod twin;

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use vxgate::port::{ChunkSize, MemoryPort, Port, TapPort, Umem, UmemConfig};
use vxgate::stats::{
    DropReason, FlightBook, PeerBook, PeerId, PortCounters, Tally, WorkerCounters,
};
use vxgate::table::{
    Df, EncapTemplate, Fdb, FlowLabel, Inherit, NextHop, Peers, Reader, Segment, SegmentConfig,
    Snapshot, SourcePorts, UdpChecksum, UnresolvedReason, Vtep, VtepId, VtepKey, Writer,
    publication,
};
use vxgate::wire::vnet::{self, VnetHeader};
use vxgate::wire::{MacAddr, Vni};
use vxgate::worker::{Access, AccessTap, Departure, Plan, Superframes, Underlay, Worker};

pub const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const UDP_PORT: u16 = 8472;
pub const OUTER_LEN: usize = 50;
pub const UNDERLAY_MTU: u16 = 1500;
pub const WIDE_MTU: u16 = 9000;
/// Places of peers: the first half is for segments, by their number.
const PLACES: usize = 1024;

/// The VTEP that has no next hop; the last of every segment, and not in its flood list.
pub const UNRESOLVED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

/// How large a rig is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub segments: usize,
    pub queues: usize,
    /// Resolved VTEPs of each segment, at most 7.
    pub vteps: u8,
    /// Entries of each of a port's rings.
    pub ring_len: usize,
    /// Frames in the UMEM.
    pub frames: u32,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            segments: 2,
            queues: 2,
            vteps: 3,
            ring_len: 64,
            frames: 1024,
        }
    }
}

/// One of the worker's ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Underlay(usize),
    Access(usize),
}

pub struct Rig {
    pub size: Size,
    pub worker: Worker<MemoryPort>,
    pub writer: Writer,
}

impl Rig {
    /// Rings filled, ready for frames.
    pub fn new(size: Size) -> Self {
        Self::on(size, snapshot(size, 0))
    }

    /// The same on another network; of `size` only the ports and the memory count.
    pub fn on(size: Size, snapshot: Snapshot) -> Self {
        Self::in_chunks(size, ChunkSize::K2, snapshot)
    }

    /// On the network of [`Rig::new`] with an MTU of [`WIDE_MTU`], whose frames take several buffers.
    pub fn wide(size: Size) -> Self {
        Self::in_chunks(size, ChunkSize::K16, wide(snapshot(size, 0)))
    }

    fn in_chunks(size: Size, chunk: ChunkSize, snapshot: Snapshot) -> Self {
        let (writer, mut readers) = publication(1, snapshot);
        let plan = plan_in(chunk, size, readers.remove(0), || {
            MemoryPort::new(size.ring_len)
        });
        Self {
            size,
            worker: Worker::new(plan).unwrap(),
            writer,
        }
    }

    /// All ports, underlays first.
    pub fn places(&self) -> Vec<At> {
        (0..self.size.queues)
            .map(At::Underlay)
            .chain((0..self.size.segments).map(At::Access))
            .collect()
    }

    pub fn port(&mut self, at: At) -> (&mut MemoryPort, &mut Umem) {
        let plan = self.worker.plan_mut();
        match at {
            At::Underlay(queue) => (&mut plan.underlays[queue].port, &mut plan.umem),
            At::Access(segment) => (&mut plan.accesses[segment].port, &mut plan.umem),
        }
    }

    pub fn counters(&mut self, at: At) -> Arc<PortCounters> {
        let plan = self.worker.plan_mut();
        match at {
            At::Underlay(queue) => Arc::clone(&plan.underlays[queue].counters),
            At::Access(segment) => Arc::clone(&plan.accesses[segment].counters),
        }
    }

    /// As the kernel: a frame arrives.
    pub fn deliver(&mut self, at: At, bytes: &[u8]) -> bool {
        let (port, umem) = self.port(at);
        port.deliver(umem, bytes)
    }

    /// As the kernel: sends all that waits.
    pub fn collect(&mut self, at: At) -> Vec<Vec<u8>> {
        let (port, umem) = self.port(at);
        std::iter::from_fn(|| port.collect(umem)).collect()
    }

    /// Every frame is in exactly one place, and every received one has exactly one fate.
    pub fn check_balance(&mut self) {
        let held: usize = self
            .places()
            .into_iter()
            .map(|at| self.port(at).0.frames_held())
            .sum();
        let umem = &self.worker.plan_mut().umem;
        assert_eq!(
            umem.free() + held,
            umem.frames() as usize,
            "frames are lost or doubled"
        );
        for at in self.places() {
            let counters = self.counters(at);
            assert_eq!(
                counters.received.get(),
                counters.forwarded.get() + drops(&counters),
                "the balance of {at:?}: {counters:?}"
            );
        }
        check_peers(self.worker.plan_mut());
    }
}

/// All that was handed on was counted for a peer: on each side as much as the ports say.
pub fn check_peers<P>(plan: &Plan<P>) {
    let taps = plan.superframes.iter().flat_map(|lane| &lane.accesses);
    let taps = taps.flatten().map(|tap| &*tap.counters);
    let accesses = plan.accesses.iter().map(|access| &*access.counters);
    let underlays = plan.underlays.iter().map(|underlay| &*underlay.counters);
    for side in [
        underlays.collect::<Vec<_>>(),
        accesses.chain(taps).collect(),
    ] {
        let mut counted = Tally::default();
        for place in 0..PLACES as u16 {
            counted += side[0].peers.read(PeerId(place));
        }
        let sum =
            |pick: &dyn Fn(&PortCounters) -> u64| side.iter().map(|port| pick(port)).sum::<u64>();
        assert_eq!(counted.frames, sum(&PortCounters::handed_on));
        assert_eq!(
            counted.bytes,
            sum(&|port| port.forwarded_bytes.get() + port.copied_bytes.get())
        );
    }
}

/// All drops of a port.
pub fn drops(counters: &PortCounters) -> u64 {
    DropReason::ALL
        .iter()
        .map(|reason| counters.drops(*reason))
        .sum()
}

/// A plan with ports from `port`, without a core.
pub fn plan<P: Port>(size: Size, reader: Reader, port: impl FnMut() -> P) -> Plan<P> {
    plan_in(ChunkSize::K2, size, reader, port)
}

/// The same with chunks of this size.
pub fn plan_in<P: Port>(
    chunk: ChunkSize,
    size: Size,
    reader: Reader,
    mut port: impl FnMut() -> P,
) -> Plan<P> {
    let book = PeerBook::with_places(1, PLACES);
    let flight = FlightBook::new(1);
    Plan {
        number: 0,
        core: None,
        nice: 0,
        umem: Umem::new(UmemConfig {
            chunk,
            frames: size.frames,
            lock: false,
        })
        .unwrap(),
        underlays: (0..size.queues)
            .map(|_| Underlay {
                ifindex: 2,
                port: port(),
                counters: Arc::new(
                    PortCounters::counting(book.received(0)).recording(flight.received(0), 2),
                ),
            })
            .collect(),
        accesses: (0..size.segments)
            .map(|segment| Access {
                port: port(),
                counters: Arc::new(
                    PortCounters::counting(book.sent(0)).recording(flight.sent(0), 3),
                ),
                underlay: segment % size.queues,
            })
            .collect(),
        superframes: None,
        lookout: None,
        reader,
        counters: Arc::new(WorkerCounters::default()),
        heartbeat: Box::new(|_| ()),
        stop: Arc::new(AtomicBool::new(false)),
    }
}

/// The far ends of a worker's TAPs: a datagram is a frame with its header in front.
pub struct Taps {
    pub access: UnixDatagram,
    pub wire: UnixDatagram,
}

/// Gives the first segment of a plan a lane of superframes, which leave whole.
pub fn add_lane<P>(plan: &mut Plan<P>) -> Taps {
    add_lane_with(plan, Departure::Whole(0))
}

/// The same, with superframes that leave as it says.
pub fn add_lane_with<P>(plan: &mut Plan<P>, departure: Departure) -> Taps {
    let superframes = Umem::new(UmemConfig {
        chunk: ChunkSize::Superframe,
        frames: 16,
        lock: false,
    })
    .unwrap();
    let pair = || {
        let (near, far) = UnixDatagram::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        (near.into(), far)
    };
    let ((access_queue, access), (wire_queue, wire)) = (pair(), pair());
    let port = TapPort::access(access_queue, &superframes, &plan.umem);
    let peers = Arc::clone(&plan.accesses[0].counters.peers);
    let counters = Arc::new(PortCounters::counting(peers));
    plan.superframes = Some(Superframes {
        accesses: vec![Some(AccessTap::new(port, counters, departure))],
        wires: vec![TapPort::wire(wire_queue, &superframes)],
        umem: superframes,
    });
    Taps { access, wire }
}

impl Taps {
    /// What a worker has written to one of them: the header, and the frame.
    pub fn read(end: &UnixDatagram) -> Option<(VnetHeader, Vec<u8>)> {
        let mut bytes = vec![0; 70_000];
        let len = end.recv(&mut bytes).ok()?;
        bytes.truncate(len);
        let frame = bytes.split_off(vnet::LEN);
        Some((VnetHeader::parse(&bytes)?, frame))
    }

    /// As the kernel: a frame goes out by the access TAP.
    pub fn deliver(&self, header: VnetHeader, frame: &[u8]) -> bool {
        let datagram = [&header.bytes(), frame].concat();
        self.access.send(&datagram).is_ok()
    }
}

/// TCP of the overlay, with its checksum; a superframe of it has that to be unfinished, which nobody here minds.
pub fn tcp_frame(destination: MacAddr, source: MacAddr, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Identification 0, and DF: what belongs together may be joined.
    etherparse::PacketBuilder::ethernet2(source.0, destination.0)
        .ipv4([10, 244, 0, 1], [10, 244, 1, 1], 64)
        .tcp(1234, 5678, sequence, 100)
        .ack(1)
        .write(&mut bytes, payload)
        .unwrap();
    bytes
}

/// What the worker knows. Another `turn` of the FDB moves every host to the next VTEP.
pub fn snapshot(size: Size, turn: u8) -> Snapshot {
    Snapshot {
        generation: 0,
        segments: (0..size.segments)
            .map(|segment| self::segment(size, segment, turn))
            .collect(),
    }
}

/// The same network, with an MTU of [`WIDE_MTU`].
pub fn wide(mut snapshot: Snapshot) -> Snapshot {
    for segment in &mut snapshot.segments {
        Arc::make_mut(&mut segment.config).underlay_mtu = WIDE_MTU;
        for vtep in Arc::make_mut(&mut segment.vteps) {
            vtep.path_mtu = WIDE_MTU;
        }
    }
    snapshot
}

fn segment(size: Size, number: usize, turn: u8) -> Segment {
    let config = SegmentConfig {
        name: format!("flannel.{number}"),
        ifindex: 10 + number as u32,
        vni: vni(number),
        local: IpAddr::V4(LOCAL),
        group: None,
        port: UDP_PORT,
        mac: device_mac(number),
        underlay_ifindex: 2,
        underlay_mac: MacAddr([4, 0, 0, 0, 0, 1]),
        underlay_mtu: UNDERLAY_MTU,
        source_ports: SourcePorts {
            low: 32_768,
            high: 60_999,
        },
        ttl: Inherit::Fixed(64),
        ttl_default: 64,
        tos: Inherit::Fixed(0),
        df: Df::Unset,
        flow_label: FlowLabel::Fixed(0),
        udp_checksum: UdpChecksum::Zero,
        verify_udp_checksum: false,
        accept_udp6_zero_checksum: false,
        gbp: false,
        header_bits: vxgate::wire::vxlan::USED_BITS,
        peer_check: vxgate::table::PeerCheck::Strict,
        ecn_encap: vxgate::table::EcnEncap::Kernel,
        inner_vlan: vxgate::table::InnerVlan::Pass,
    };
    let addresses = (0..size.vteps).map(vtep_addr).chain([UNRESOLVED]);
    let vteps: Vec<_> = addresses
        .map(|addr| {
            let key = VtepKey {
                addr: IpAddr::V4(addr),
                port: UDP_PORT,
                vni: vni(number),
            };
            let template =
                || EncapTemplate::ipv4(&config, &key, MacAddr([4, 0, 0, 0, 0, 1]), next_hop(addr));
            let next_hop = if addr == UNRESOLVED {
                NextHop::Unresolved(UnresolvedReason::NoNeighbour)
            } else {
                NextHop::Resolved(template().expect("an IPv4 pair"))
            };
            Vtep {
                key,
                next_hop,
                path_mtu: UNDERLAY_MTU,
                peer: peer(number, addr),
            }
        })
        .collect();
    let hosts = (0..size.vteps).map(|vtep| {
        (
            host(number, vtep),
            VtepId(u32::from((vtep + turn) % size.vteps)),
        )
    });
    let behind_unresolved = (unreachable_host(number), VtepId(u32::from(size.vteps)));
    Segment {
        fdb: Arc::new(Fdb::new(hosts.chain([behind_unresolved]))),
        groups: Arc::default(),
        lists: Arc::default(),
        flood: Arc::new((0..u32::from(size.vteps)).map(VtepId).collect()),
        peers: Arc::new(peers(&vteps)),
        vteps: Arc::new(vteps),
        config: Arc::new(config),
    }
}

/// Where a VTEP of a segment is counted.
pub fn peer(segment: usize, addr: Ipv4Addr) -> PeerId {
    PeerId((PLACES / 2 + segment * 16) as u16 + u16::from(addr.octets()[3]))
}

/// All VTEPs may send, each counted where it also is as a destination.
pub fn peers(vteps: &[Vtep]) -> Peers {
    Peers::counted(vteps.iter().map(|vtep| (vtep.key.addr, vtep.peer)))
}

pub fn vni(segment: usize) -> Vni {
    Vni::new(100 + segment as u32).unwrap()
}

pub fn vtep_addr(vtep: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 2 + vtep)
}

pub fn device_mac(segment: usize) -> MacAddr {
    MacAddr([0x0e, 0, 0, 0, 0, segment as u8])
}

/// The MAC of the next hop to a VTEP.
pub fn next_hop(addr: Ipv4Addr) -> MacAddr {
    MacAddr([4, 0, 0, 0, 1, addr.octets()[3]])
}

/// A host behind a VTEP, in the FDB.
pub fn host(segment: usize, vtep: u8) -> MacAddr {
    MacAddr([2, 0, 0, segment as u8, 0, vtep])
}

/// A host behind the VTEP that cannot be reached.
pub fn unreachable_host(segment: usize) -> MacAddr {
    MacAddr([2, 0, 0, segment as u8, 1, 0])
}

/// A frame of the overlay: UDP over IPv4, `len` bytes in all (at least 42).
pub fn inner(destination: MacAddr, source: MacAddr, len: usize) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ethernet2(source.0, destination.0)
        .ipv4([10, 244, 0, 1], [10, 244, 1, 1], 64)
        .udp(1234, 5678);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &vec![0x5a; len - 42]).unwrap();
    bytes
}

/// A frame of the underlay from a VTEP to us.
pub fn outer(vni: Vni, from: Ipv4Addr, inner: &[u8]) -> Vec<u8> {
    let [a, b, c] = vni.to_wire();
    let mut payload = vec![0x08, 0, 0, 0, a, b, c, 0];
    payload.extend_from_slice(inner);
    let builder = etherparse::PacketBuilder::ethernet2(next_hop(from).0, [4, 0, 0, 0, 0, 1])
        .ipv4(from.octets(), LOCAL.octets(), 64)
        .udp(40_000, UDP_PORT);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &payload).unwrap();
    bytes
}

/// What a frame on the underlay says, as an independent parser reads it: destination VTEP, VNI, and the inner frame.
pub fn read_outer(bytes: &[u8]) -> (Ipv4Addr, u32, Vec<u8>) {
    let parsed = etherparse::SlicedPacket::from_ethernet(bytes).expect("an Ethernet frame");
    let Some(etherparse::NetSlice::Ipv4(ip)) = &parsed.net else {
        panic!("no IPv4: {parsed:?}")
    };
    let Some(etherparse::TransportSlice::Udp(udp)) = &parsed.transport else {
        panic!("no UDP: {parsed:?}")
    };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    assert_eq!(header.source, LOCAL.octets());
    assert_eq!(udp.destination_port(), UDP_PORT);
    let (vxlan, inner) = udp.payload().split_at(8);
    assert_eq!(vxlan[0], 0x08);
    let vni = u32::from_be_bytes([0, vxlan[4], vxlan[5], vxlan[6]]);
    let destination = Ipv4Addr::from(header.destination);
    assert_eq!(bytes[..6], next_hop(destination).0);
    (destination, vni, inner.to_vec())
}
