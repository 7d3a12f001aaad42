//! A bench for tests: one UMEM, one snapshot, and both directions run as a worker runs them, on in-memory ports.

use std::net::IpAddr;
use std::sync::Arc;

use etherparse::PacketBuilder;

use super::{Exit, IpIds, Outbox, Verdict, Verdicts, carrier, decap, encap};
use crate::port::{BATCH, Batch, ChunkSize, MemoryPort, Port, Umem, UmemConfig};
use crate::stats::{
    DEAD_FRAME_LEN_MAX, DropReason, FlightRecorder, PeerId, PortCounters, Shape, Tallies, Tally,
};
use crate::table::{
    Df, EncapTemplate, Fdb, FlowLabel, Inherit, NextHop, Peers, Segment, SegmentConfig, SegmentId,
    Snapshot, SourcePorts, UdpChecksum, UnresolvedReason, Vtep, VtepId, VtepKey,
};
use crate::wire::{MacAddr, Vni, vxlan};

/// The mirrored device.
pub(super) const OWN: MacAddr = MacAddr([0x0e, 0, 0, 0, 0, 1]);
/// Behind 192.0.2.2.
pub(super) const NEAR: MacAddr = MacAddr([0x0e, 0, 0, 0, 0, 2]);
/// Behind 192.0.2.3.
pub(super) const FAR: MacAddr = MacAddr([0x0e, 0, 0, 0, 0, 3]);
/// Behind 192.0.2.4, which has no neighbour entry.
pub(super) const LOST: MacAddr = MacAddr([0x0e, 0, 0, 0, 0, 4]);
/// In no FDB.
pub(super) const UNKNOWN: MacAddr = MacAddr([0x0e, 0, 0, 0, 0, 0xee]);

const UNDERLAY: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const FRAMES: u32 = 512;
/// Of peers: VTEP 192.0.2.`n` is counted at place `n`, all others at 0.
const PLACES: usize = 16;

pub(super) struct Lab {
    pub(super) umem: Umem,
    pub(super) snapshot: Snapshot,
    pub(super) counters: PortCounters,
    pub(super) port: MemoryPort,
    pub(super) ip_ids: IpIds,
    recorder: Arc<FlightRecorder>,
    /// The clock of the next frame whose fate is asked for: far enough from the last one's for it to be on record.
    now_ns: u64,
}

pub(super) fn config() -> SegmentConfig {
    SegmentConfig {
        name: "flannel.1".into(),
        ifindex: 7,
        vni: Vni::new(1).unwrap(),
        local: "192.0.2.1".parse().unwrap(),
        group: None,
        port: 8472,
        mac: OWN,
        underlay_ifindex: 2,
        underlay_mac: UNDERLAY,
        underlay_mtu: 1500,
        source_ports: SourcePorts {
            low: 32768,
            high: 60999,
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
        header_bits: crate::wire::vxlan::USED_BITS,
        peer_check: crate::table::PeerCheck::Strict,
        ecn_encap: crate::table::EcnEncap::Kernel,
        inner_vlan: crate::table::InnerVlan::Pass,
    }
}

/// The same device on an IPv6 underlay, from 2001:db8::1.
pub(super) fn config6() -> SegmentConfig {
    SegmentConfig {
        name: "flannel-v6.1".into(),
        ifindex: 8,
        local: "2001:db8::1".parse().unwrap(),
        udp_checksum: UdpChecksum::Compute,
        ..config()
    }
}

/// 192.0.2.`index`, or 2001:db8::`index` on an IPv6 underlay.
fn vtep_addr(config: &SegmentConfig, index: u8) -> IpAddr {
    match config.local {
        IpAddr::V4(_) => [192, 0, 2, index].into(),
        IpAddr::V6(_) => [0x2001, 0xdb8, 0, 0, 0, 0, 0, index.into()].into(),
    }
}

/// Three VTEPs, of which the last is not resolved; nothing is flooded.
pub(super) fn segment(config: SegmentConfig) -> Segment {
    let vtep = |index: u8| {
        let key = VtepKey {
            addr: vtep_addr(&config, index),
            port: config.port,
            vni: config.vni,
        };
        let next_hop = match index {
            4 => NextHop::Unresolved(UnresolvedReason::NoNeighbour),
            _ => {
                let neighbour = MacAddr([2, 0, 0, 0, 0, index]);
                NextHop::Resolved(EncapTemplate::new(&config, &key, UNDERLAY, neighbour).unwrap())
            }
        };
        Vtep {
            key,
            next_hop,
            path_mtu: config.underlay_mtu,
            peer: PeerId(index.into()),
        }
    };
    let vteps: Vec<_> = (2..=4).map(vtep).collect();
    Segment {
        peers: Arc::new(Peers::counted(
            vteps.iter().map(|vtep| (vtep.key.addr, vtep.peer)),
        )),
        vteps: Arc::new(vteps),
        fdb: Arc::new(Fdb::new([
            (NEAR, VtepId(0)),
            (FAR, VtepId(1)),
            (LOST, VtepId(2)),
        ])),
        groups: Arc::default(),
        lists: Arc::default(),
        flood: Arc::default(),
        config: Arc::new(config),
    }
}

impl Lab {
    pub(super) fn new(segments: Vec<Segment>) -> Self {
        let recorder = Arc::new(FlightRecorder::new());
        let counters = PortCounters::counting(Arc::new(Tallies::new(PLACES)));
        Self {
            umem: Umem::new(UmemConfig {
                chunk: ChunkSize::K4,
                frames: FRAMES,
                lock: false,
            })
            .unwrap(),
            snapshot: Snapshot {
                generation: 1,
                segments,
            },
            counters: counters.recording(Arc::clone(&recorder), 7),
            port: MemoryPort::new(256),
            ip_ids: IpIds::new(0),
            recorder,
            now_ns: 0,
        }
    }

    fn batch(&mut self, frames: &[Vec<u8>]) -> Batch {
        assert!(frames.len() <= BATCH);
        let mut batch = Batch::new();
        for bytes in frames {
            let mut frame = self.umem.allocate().unwrap();
            assert!(self.umem.fill(&mut frame, bytes));
            batch.push(frame).unwrap();
        }
        self.counters.received.add(frames.len() as u64);
        batch
    }

    /// From the underlay; the frames that came out, with their segment.
    pub(super) fn decap(
        &mut self,
        frames: &[Vec<u8>],
    ) -> (Vec<Verdict>, Vec<(SegmentId, Vec<u8>)>) {
        let (mut batch, mut verdicts) = (self.batch(frames), Verdicts::new());
        decap::decide(&self.snapshot, &self.umem, &batch, &mut verdicts);
        let mut out: Vec<_> = self
            .snapshot
            .segments
            .iter()
            .map(|_| Outbox::new())
            .collect();
        decap::apply(
            &self.snapshot,
            &mut self.umem,
            &mut batch,
            &verdicts,
            &self.counters,
            &mut out,
        );
        let mut delivered = Vec::new();
        for (id, outbox) in (0..).zip(&mut out) {
            outbox.flush(
                &mut self.port,
                &mut self.umem,
                &self.counters,
                DropReason::TxRingFull,
            );
            delivered.extend(
                self.collect()
                    .into_iter()
                    .map(|bytes| (SegmentId(id), bytes)),
            );
        }
        self.check_balance();
        (verdicts.iter().collect(), delivered)
    }

    /// From the access port of segment 0; the frames that came out.
    pub(super) fn encap(&mut self, frames: &[Vec<u8>]) -> (Vec<Verdict>, Vec<Vec<u8>>) {
        let (mut batch, mut verdicts, mut outbox) =
            (self.batch(frames), Verdicts::new(), Outbox::new());
        let id = SegmentId(0);
        carrier::lift(&self.snapshot, id, &mut self.umem, &mut batch);
        encap::decide(&self.snapshot, id, &self.umem, &batch, &mut verdicts);
        let mut exit = Exit {
            port: &mut self.port,
            outbox: &mut outbox,
            ip_ids: &mut self.ip_ids,
        };
        encap::apply(
            &self.snapshot,
            id,
            &mut self.umem,
            &mut batch,
            &verdicts,
            &self.counters,
            &mut exit,
        );
        exit.flush(&mut self.umem, &self.counters);
        let sent = self.collect();
        self.check_balance();
        (verdicts.iter().collect(), sent)
    }

    /// Lets `judge` look at a batch of these frames, and takes them back.
    pub(super) fn look(
        &mut self,
        frames: &[Vec<u8>],
        judge: impl FnOnce(&Snapshot, &Umem, &Batch, &mut Verdicts),
    ) {
        let (mut batch, mut verdicts) = (self.batch(frames), Verdicts::new());
        judge(&self.snapshot, &self.umem, &batch, &mut verdicts);
        self.umem.release_all(&mut batch);
    }

    fn collect(&mut self) -> Vec<Vec<u8>> {
        let frames = std::iter::from_fn(|| self.port.collect(&mut self.umem)).collect();
        self.port.reclaim(&mut self.umem);
        frames
    }

    /// Every frame that came in left, or died of something, and its memory is back; all that left was counted for a peer.
    pub(super) fn check_balance(&self) {
        let dead: u64 = DropReason::ALL
            .iter()
            .map(|reason| self.counters.drops(*reason))
            .sum();
        assert_eq!(
            self.counters.received.get(),
            self.counters.forwarded.get() + dead
        );
        assert_eq!(self.umem.free(), FRAMES as usize);
        let all = self.peers();
        let frames: u64 = all.iter().map(|tally| tally.frames).sum();
        let bytes: u64 = all.iter().map(|tally| tally.bytes).sum();
        let counters = &self.counters;
        assert_eq!(frames, counters.handed_on());
        assert_eq!(
            bytes,
            counters.forwarded_bytes.get() + counters.copied_bytes.get()
        );
    }

    /// What was counted at each place.
    pub(super) fn peers(&self) -> Vec<Tally> {
        let places = (0..PLACES as u16).map(PeerId);
        places
            .map(|place| self.counters.peers.read(place))
            .collect()
    }

    /// What becomes of one frame from the underlay; exactly one counter moves, by one, and a dead one is on record.
    pub(super) fn fate_in(&mut self, frame: &[u8]) -> Result<Vec<u8>, DropReason> {
        let before = self.begin();
        let (_, mut out) = self.decap(&[frame.to_vec()]);
        self.fate(frame, &before, out.pop().map(|(_, bytes)| bytes))
    }

    /// What becomes of one frame from the overlay.
    pub(super) fn fate_out(&mut self, frame: &[u8]) -> Result<Vec<u8>, DropReason> {
        let before = self.begin();
        let (_, mut out) = self.encap(&[frame.to_vec()]);
        self.fate(frame, &before, out.pop())
    }

    fn begin(&mut self) -> Vec<u64> {
        self.now_ns += 1_000_000_000;
        self.counters.peers.set_now(self.now_ns);
        self.drops()
    }

    fn drops(&self) -> Vec<u64> {
        DropReason::ALL
            .iter()
            .map(|reason| self.counters.drops(*reason))
            .collect()
    }

    fn fate(
        &self,
        frame: &[u8],
        before: &[u64],
        out: Option<Vec<u8>>,
    ) -> Result<Vec<u8>, DropReason> {
        let moved: Vec<_> = DropReason::ALL
            .iter()
            .zip(before)
            .filter(|(reason, before)| self.counters.drops(**reason) != **before)
            .map(|(reason, before)| (*reason, self.counters.drops(*reason) - before))
            .collect();
        match (out, &moved[..]) {
            (Some(bytes), []) => Ok(bytes),
            (None, [(reason, 1)]) => {
                self.check_record(frame, *reason);
                Err(*reason)
            }
            other => panic!("not exactly one fate: {other:?}"),
        }
    }
}

impl Lab {
    /// The frame is the latest on record that died of this: as it came in, unless it died on its way out.
    fn check_record(&self, frame: &[u8], reason: DropReason) {
        let latest = self.recorder.read();
        let latest = latest.iter().find(|dead| dead.reason == reason).unwrap();
        assert_eq!((latest.at_ns, latest.port), (self.now_ns, 7), "{reason:?}");
        // The carrier of a mark has been lifted off.
        let marked = self.snapshot.segments.iter().any(|one| one.config.gbp);
        if latest.shape == Shape::Arrived && !marked {
            let len = frame.len().min(DEAD_FRAME_LEN_MAX);
            assert_eq!(latest.bytes, frame[..len], "{reason:?}");
            assert_eq!(latest.len, frame.len(), "{reason:?}");
        }
    }
}

/// An inner UDP frame over IPv4 between two stations.
pub(super) fn inner4(destination: MacAddr, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(NEAR.0, destination.0)
        .ipv4([10, 244, 1, 2], [10, 244, 0, 2], 63)
        .udp(1234, 53)
        .write(&mut bytes, payload)
        .unwrap();
    bytes
}

/// The same over IPv6.
pub(super) fn inner6(destination: MacAddr, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(NEAR.0, destination.0)
        .ipv6([0xfd; 16], [0xfc; 16], 62)
        .udp(1234, 53)
        .write(&mut bytes, payload)
        .unwrap();
    bytes
}

/// A frame with another TOS or traffic class, its checksum right.
pub(super) fn with_class(mut frame: Vec<u8>, class: u8) -> Vec<u8> {
    if frame[12..14] == [0x86, 0xdd] {
        frame[14] = 0x60 | class >> 4;
        frame[15] = class << 4;
    } else {
        frame[15] = class;
        seal(&mut frame);
    }
    frame
}

/// Makes the checksum of the IPv4 header behind the Ethernet header right.
pub(super) fn seal(frame: &mut [u8]) {
    let header = etherparse::Ipv4HeaderSlice::from_slice(&frame[14..34])
        .unwrap()
        .to_header();
    frame[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
}

/// A frame from 192.0.2.2 to us with this UDP payload.
pub(super) fn outer(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], UNDERLAY.0)
        .ipv4([192, 0, 2, 2], [192, 0, 2, 1], 64)
        .udp(40000, 8472)
        .write(&mut bytes, payload)
        .unwrap();
    bytes
}

/// A frame from 192.0.2.2 to us that carries `inner` in VNI 1.
pub(super) fn tunnelled(inner: &[u8]) -> Vec<u8> {
    outer(&[&vxlan::header(Vni::new(1).unwrap())[..], inner].concat())
}

/// A frame from 2001:db8::2 to us with this UDP payload, its checksum right.
pub(super) fn outer6(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let addr = |index| match vtep_addr(&config6(), index) {
        IpAddr::V6(addr) => addr.octets(),
        IpAddr::V4(_) => unreachable!("the segment is on IPv6"),
    };
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], UNDERLAY.0)
        .ipv6(addr(2), addr(1), 64)
        .udp(40000, 8472)
        .write(&mut bytes, payload)
        .unwrap();
    bytes
}

/// A frame from 2001:db8::2 to us that carries `inner` in VNI 1.
pub(super) fn tunnelled6(inner: &[u8]) -> Vec<u8> {
    outer6(&[&vxlan::header(Vni::new(1).unwrap())[..], inner].concat())
}
