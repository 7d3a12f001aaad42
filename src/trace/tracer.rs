//! A worker on ports in memory, whose table is that of a state.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::fate::Counts;
use super::{Fate, Outcome, Sent, Steering};
use crate::fault::{Explained, Fault};
use crate::pipeline::carrier;
use crate::port::{BATCH, ChunkSize, MemoryPort, Umem, UmemConfig};
use crate::state::State;
use crate::stats::{PeerId, PortCounters, Tallies, WorkerCounters};
use crate::table::{Snapshot, Writer, publication};
use crate::wire::{ethernet, vlan};
use crate::worker::{Access, Plan, Underlay, Worker};

/// Entries of the rings of an access port: a frame comes in a few buffers at most.
const ACCESS_RING_LEN: usize = 8;
/// Entries of the longest ring: a flood to more VTEPs than this loses copies, as it would in the daemon much earlier.
const RING_LEN_MAX: usize = 1 << 15;

/// Where a frame comes in or goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum At {
    /// At an underlay device, by its place in [`State::underlays`].
    Underlay(usize),
    /// At the vxlan device of a segment, by its number.
    Access(usize),
}

/// Walks frames through the data path.
#[derive(Debug)]
pub struct Tracer {
    pub(super) state: State,
    pub(super) snapshot: Snapshot,
    pub(super) steering: Steering,
    worker: Worker<MemoryPort>,
    peers: Vec<(PeerId, usize, IpAddr)>,
    received: Arc<Tallies>,
    sent: Arc<Tallies>,
    /// Keeps the table published.
    _writer: Kept,
}

/// The writer has nothing to say of itself.
struct Kept(#[allow(dead_code)] Writer);

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer")
    }
}

/// Why a frame cannot be traced.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// There is no memory for a worker's ports.
    #[error("cannot make a worker to trace with: {0}")]
    Worker(io::Error),
    /// No port has that name.
    #[error("{name}: no such port; {}", known(ports))]
    NoPort {
        /// As it was given.
        name: String,
        /// Those that there are.
        ports: Vec<String>,
    },
}

fn known(ports: &[String]) -> String {
    if ports.is_empty() {
        "vxgate carries no device, and the kernel all frames".to_owned()
    } else {
        format!("there are {}", ports.join(", "))
    }
}

impl Explained for TraceError {
    fn fault(&self) -> Fault {
        match self {
            Self::Worker(_) => Fault::FrameMemoryRefused,
            Self::NoPort { .. } => Fault::PortUnknown,
        }
    }
}

impl Tracer {
    /// On the table of a state.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(state: State) -> Result<Self, TraceError> {
        let (snapshot, peers) = state.rebuild();
        let steering = Steering::new(&state, &snapshot);
        let places = peers.len() + state.segments.len();
        let [received, sent] = [(); 2].map(|()| Arc::new(Tallies::new(places)));
        let (writer, mut readers) = publication(1, snapshot.clone());
        let reader = readers
            .pop()
            .ok_or_else(|| TraceError::Worker(io::Error::other("there is no reader")))?;
        let ring_len = ring_len(&snapshot);
        let accesses = state.segments.iter().map(|segment| {
            let mut port = MemoryPort::new(ACCESS_RING_LEN);
            port.limit_frame_len(segment.access.frame_len_max);
            Access {
                port,
                counters: Arc::new(PortCounters::counting(Arc::clone(&sent))),
                // Present: `State::parse` has looked.
                underlay: state.underlay_of(segment).unwrap_or(0),
            }
        });
        let underlays = state.underlays.iter().map(|underlay| {
            let mut port = MemoryPort::new(ring_len);
            port.limit_frame_len(underlay.frame_len_max);
            Underlay {
                ifindex: underlay.ifindex,
                port,
                counters: Arc::new(PortCounters::counting(Arc::clone(&received))),
            }
        });
        let worker = Worker::new(Plan {
            number: 0,
            core: None,
            nice: 0,
            umem: memory(&state, ring_len).map_err(TraceError::Worker)?,
            underlays: underlays.collect(),
            accesses: accesses.collect(),
            superframes: None,
            lookout: None,
            reader,
            counters: Arc::new(WorkerCounters::default()),
            heartbeat: Box::new(|_| ()),
            stop: Arc::new(AtomicBool::new(false)),
        })
        .map_err(TraceError::Worker)?;
        Ok(Self {
            state,
            snapshot,
            steering,
            worker,
            peers,
            received,
            sent,
            _writer: Kept(writer),
        })
    }

    /// What the frames are traced on.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The port with this name: an underlay device, a vxlan device, or one of its access devices.
    ///
    /// # Errors
    /// When there is none.
    pub fn port(&self, name: &str) -> Result<At, TraceError> {
        let state = &self.state;
        let underlay = state.underlays.iter().position(|one| one.name == name);
        let segment = state.segments.iter().position(|segment| {
            let access = &segment.access;
            let ends = [&access.kernel_side, &access.worker_side];
            segment.config.name == name
                || ends.into_iter().chain(&access.tap).any(|end| end == name)
        });
        let at = underlay
            .map(At::Underlay)
            .or_else(|| segment.map(At::Access));
        at.ok_or_else(|| TraceError::NoPort {
            name: name.to_owned(),
            ports: self.names().map(str::to_owned).collect(),
        })
    }

    /// The names of all ports: underlay devices first, then vxlan devices.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let underlays = self.state.underlays.iter().map(|one| one.name.as_str());
        let devices = self.state.segments.iter();
        underlays.chain(devices.map(|segment| segment.config.name.as_str()))
    }

    /// The name of a port.
    pub fn name(&self, at: At) -> &str {
        match at {
            At::Underlay(number) => self.state.underlays.get(number).map(|one| &one.name),
            At::Access(number) => self
                .state
                .segments
                .get(number)
                .map(|segment| &segment.config.name),
        }
        .map_or("", String::as_str)
    }

    /// What would happen to a frame that comes in at a port. At a vxlan device it is as the kernel would send it, with this
    /// mark, which only a device with the Group Policy extension looks at.
    pub fn judge(&mut self, at: At, frame: &[u8], mark: u32) -> Outcome {
        match self.steer(at, frame) {
            Some(reason) => Outcome {
                fate: Fate::Pass(reason),
                flood_copies: 0,
                flood_copies_lost: 0,
                checksums_completed: 0,
                stranger: false,
                peers: Vec::new(),
                sent: Vec::new(),
            },
            None => self.work(at, frame, mark),
        }
    }

    fn steer(&self, at: At, frame: &[u8]) -> Option<crate::stats::PassReason> {
        match at {
            At::Underlay(number) => {
                let underlay = self.state.underlays.get(number)?;
                self.steering
                    .underlay(underlay.mac, underlay.ifindex, frame)
            }
            At::Access(segment) => self.steering.egress(segment, frame),
        }
    }

    /// What a worker does with it.
    fn work(&mut self, at: At, frame: &[u8], mark: u32) -> Outcome {
        let carried = match at {
            At::Access(segment) if self.has_marks(segment) => with_carrier(frame, mark),
            _ => frame.to_vec(),
        };
        let plan = self.worker.plan_mut();
        let umem = &mut plan.umem;
        let entry = match at {
            At::Underlay(number) => plan
                .underlays
                .get_mut(number)
                .map(|one| (&mut one.port, Arc::clone(&one.counters))),
            At::Access(number) => plan
                .accesses
                .get_mut(number)
                .map(|one| (&mut one.port, Arc::clone(&one.counters))),
        };
        let Some((port, counters)) = entry else {
            return Counts::read(&PortCounters::default()).moved(&PortCounters::default());
        };
        let before = Counts::read(&counters);
        let tallies = match at {
            At::Underlay(_) => Arc::clone(&self.received),
            At::Access(_) => Arc::clone(&self.sent),
        };
        let counted = |tallies: &Tallies, place: usize| {
            let place = u16::try_from(place).unwrap_or(u16::MAX);
            tallies.read(PeerId(place)).frames
        };
        let counted_before: Vec<_> = (0..tallies.len())
            .map(|place| counted(&tallies, place))
            .collect();
        // What finds no room is counted by the kernel, and told as `rx_invalid`: so it is here.
        port.deliver(umem, &carried);
        self.worker.turn();
        let sent = self.collect();
        // Gives the frames that were sent back to the pool.
        self.worker.turn();
        let peers = counted_before
            .iter()
            .enumerate()
            .filter_map(|(place, before)| {
                let frames = counted(&tallies, place) - before;
                (frames > 0).then(|| {
                    let (segment, addr) = self.peer(place);
                    (segment, addr, frames)
                })
            });
        Outcome {
            peers: peers.collect(),
            sent,
            ..before.moved(&counters)
        }
    }

    /// Who is counted at a place.
    fn peer(&self, place: usize) -> (usize, Option<IpAddr>) {
        let mut peers = self.peers.iter();
        let peer = peers.find(|(id, ..)| usize::from(id.0) == place);
        peer.map_or((place, None), |(_, segment, addr)| (*segment, Some(*addr)))
    }

    /// All that has been sent, in the order of the ports.
    fn collect(&mut self) -> Vec<Sent> {
        let marks: Vec<_> = (0..self.state.segments.len())
            .map(|segment| self.has_marks(segment))
            .collect();
        let plan = self.worker.plan_mut();
        let umem = &mut plan.umem;
        let mut sent = Vec::new();
        for (number, underlay) in plan.underlays.iter_mut().enumerate() {
            while let Some(bytes) = underlay.port.collect(umem) {
                sent.push(Sent {
                    at: At::Underlay(number),
                    bytes,
                    mark: None,
                });
            }
        }
        for ((number, access), has_marks) in plan.accesses.iter_mut().enumerate().zip(marks) {
            while let Some(bytes) = access.port.collect(umem) {
                let (bytes, mark) = if has_marks {
                    without_carrier(bytes)
                } else {
                    (bytes, None)
                };
                sent.push(Sent {
                    at: At::Access(number),
                    bytes,
                    mark,
                });
            }
        }
        sent
    }

    fn has_marks(&self, segment: usize) -> bool {
        let mut segments = self.state.segments.iter();
        segments
            .nth(segment)
            .is_some_and(|segment| segment.config.gbp)
    }
}

/// Both Ethernet addresses.
const ADDRESSES_LEN: usize = ethernet::LEN - 2;

/// As `steer_egress` hands it over: the mark in two tags in front of all others ([`carrier`]).
fn with_carrier(frame: &[u8], mark: u32) -> Vec<u8> {
    let Some((addresses, rest)) = frame.split_at_checked(ADDRESSES_LEN) else {
        return frame.to_vec();
    };
    let [tag_high, tag_low] = vlan::SERVICE.to_be_bytes();
    let [a, b, c, d] = mark.to_be_bytes();
    let tags = [tag_high, tag_low, a, b, tag_high, tag_low, c, d];
    [addresses, &tags, rest].concat()
}

/// As `vxgate_ingress` gives it to the device.
fn without_carrier(mut frame: Vec<u8>) -> (Vec<u8>, Option<u32>) {
    let tags = frame.get(ADDRESSES_LEN..ADDRESSES_LEN + carrier::LEN);
    let Some(&[_, _, a, b, _, _, c, d]) = tags else {
        return (frame, None);
    };
    frame.drain(ADDRESSES_LEN..ADDRESSES_LEN + carrier::LEN);
    (frame, Some(u32::from_be_bytes([a, b, c, d])))
}

/// So many entries that the longest list of VTEPs finds room.
fn ring_len(snapshot: &Snapshot) -> usize {
    let lists = snapshot.segments.iter().flat_map(|segment| {
        let lists = segment.lists.iter().map(Vec::len);
        lists.chain([segment.flood.len()])
    });
    let longest = lists.max().unwrap_or(0);
    (longest + BATCH).next_power_of_two().min(RING_LEN_MAX)
}

/// Memory for all that the ports hold, and for every copy of a flood.
fn memory(state: &State, ring_len: usize) -> io::Result<Umem> {
    let held = state.underlays.len() * ring_len + state.segments.len() * ACCESS_RING_LEN;
    let frames = held + 2 * ring_len;
    Umem::new(UmemConfig {
        chunk: match state.chunk_bytes {
            2048 => ChunkSize::K2,
            4096 => ChunkSize::K4,
            _ => ChunkSize::K16,
        },
        frames: u32::try_from(frames).unwrap_or(u32::MAX),
        lock: false,
    })
}
