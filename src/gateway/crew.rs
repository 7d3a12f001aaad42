//! What the workers own, opened and handed over: memory, sockets, threads.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::SessionError;
use super::autogroup;
use super::books::{Books, SocketBook, WorkerBook};
use super::checksums;
use super::lanes::Lanes;
use super::numa::{self, Machine};
use super::plan::{Nic, Plan, access_mtu};
use crate::control::Found;
use crate::flows::{Lookout, Sightings};
use crate::port::{Finishes, Near, Port, TapPort, Umem, UmemConfig, XskConfig, XskPort, ZeroCopy};
use crate::stats::tap::PortTap;
use crate::stats::{FlightRecorder, PortCounters, Tallies, WorkerCounters};
use crate::steer::{AccessLink, AccessPair, Steering};
use crate::table::Reader;
use crate::worker::{self, Worker};

/// Descriptors in each ring.
const RING_LEN: u32 = 2048;
/// An Ethernet header and a VLAN tag: what a device sends beyond its MTU.
pub(super) const LINK_HEADERS: usize = 14 + 4;
/// The kernel frees the queue of a closed socket some 40 ms later.
const BUSY_WAIT: Duration = Duration::from_secs(2);

/// What one worker will own, before it is a worker.
pub(super) struct Crew {
    umem: Umem,
    underlays: Vec<worker::Underlay<XskPort>>,
    accesses: Vec<worker::Access<XskPort>>,
    superframes: Option<worker::Superframes>,
}

/// Memory and sockets of one worker: its share of every underlay device's queues, and its queue of every access device. Its
/// TAPs come when it is known what the sockets are ([`Crew::open_taps`]).
pub(super) fn crew(
    plan: &Plan,
    accesses: &[AccessPair],
    number: u32,
    steering: &mut Steering,
    books: &mut Books,
) -> Result<Crew, SessionError> {
    let umem = Umem::new(UmemConfig {
        chunk: plan.chunk(),
        frames: frames(plan, number),
        lock: true,
    })
    .map_err(SessionError::Umem)?;
    let mut crew = Crew {
        umem,
        underlays: Vec::new(),
        accesses: Vec::new(),
        superframes: None,
    };
    for nic in &plan.nics {
        let finishes = checksums::finishes(nic);
        for queue in own_queues(plan, nic, number) {
            crew.open_underlay(nic, (number, queue), finishes, steering, books)?;
        }
    }
    for (found, pair) in plan.devices.iter().zip(accesses) {
        crew.open_access(found, pair, number, steering, books)?;
    }
    Ok(crew)
}

/// A worker's queues of an underlay device.
fn own_queues(plan: &Plan, nic: &Nic, number: u32) -> impl Iterator<Item = u32> + use<> {
    (number..nic.queues).step_by(plan.workers as usize)
}

/// How many frames a worker's memory has.
pub(super) fn frames(plan: &Plan, number: u32) -> u32 {
    let nics = plan.nics.iter();
    let queues = nics.map(|nic| own_queues(plan, nic, number).count());
    let ports = queues.sum::<usize>() + plan.devices.len();
    // Every fill ring full, two transmit rings full, and as much again for what is between them.
    (u32::try_from(ports).unwrap_or(u32::MAX))
        .saturating_add(2)
        .saturating_mul(RING_LEN)
}

impl Crew {
    fn open_underlay(
        &mut self,
        nic: &Nic,
        (number, queue): (u32, u32),
        finishes: Finishes,
        steering: &mut Steering,
        books: &mut Books,
    ) -> Result<(), SessionError> {
        let share = self.underlays.first().map(|first| &first.port);
        let config = XskConfig {
            finishes,
            ..xsk_config(nic.ifindex, &nic.name, queue, nic.mtu, ZeroCopy::Try)
        };
        let own = Own {
            worker: number,
            peers: books.peers.received(number as usize),
            recorder: books.flight.received(number as usize),
            tap: books.tap(number, nic.ifindex),
        };
        let (port, counters) = open(&self.umem, &config, share, own, steering, books)?;
        self.underlays.push(worker::Underlay {
            ifindex: nic.ifindex,
            port,
            counters,
        });
        Ok(())
    }

    /// After all underlay ports.
    fn open_access(
        &mut self,
        found: &Found,
        pair: &AccessPair,
        number: u32,
        steering: &mut Steering,
        books: &mut Books,
    ) -> Result<(), SessionError> {
        let AccessLink { ifindex, name, .. } = &pair.worker_side;
        // veth has no zero-copy. Where the underlay has, the first access port makes a second registration of the same
        // memory, which the others share.
        let first = self.accesses.first().map(|access| &access.port);
        let share = first.or(self.underlays.first().map(|underlay| &underlay.port));
        let config = xsk_config(*ifindex, name, number, access_mtu(found), ZeroCopy::Never);
        let own = Own {
            worker: number,
            peers: books.peers.sent(number as usize),
            recorder: books.flight.sent(number as usize),
            tap: books.tap(number, found.device.ifindex),
        };
        let (port, counters) = open(&self.umem, &config, share, own, steering, books)?;
        let below = found.underlay.as_ref().map(|link| link.ifindex);
        let mut underlays = self.underlays.iter();
        let underlay = underlays.position(|underlay| Some(underlay.ifindex) == below);
        self.accesses.push(worker::Access {
            port,
            counters,
            underlay: underlay.unwrap_or(0),
        });
        Ok(())
    }
}

impl Crew {
    /// Whether a socket of this underlay device is zero-copy.
    pub(super) fn has_zero_copy(&self, ifindex: u32) -> bool {
        let mut underlays = self.underlays.iter();
        underlays.any(|underlay| underlay.ifindex == ifindex && underlay.port.mode().zero_copy)
    }

    /// The worker's queues of all TAPs.
    pub(super) fn open_taps(
        &mut self,
        plan: &Plan,
        lanes: &Lanes,
        number: u32,
        books: &mut Books,
    ) -> Result<(), SessionError> {
        let Some(umem) = lanes.memory().map_err(SessionError::Umem)? else {
            return Ok(());
        };
        let mut accesses = Vec::new();
        for ((place, found), below) in plan.devices.iter().enumerate().zip(&self.accesses) {
            let (Some(tap), Some(nic)) = (lanes.access(place), plan.wire_of(found)) else {
                accesses.push(None);
                continue;
            };
            let peers = books.peers.sent(number as usize);
            let recorder = books.flight.sent(number as usize);
            let counters = PortCounters::counting(peers)
                .recording(recorder, tap.link.ifindex)
                .tapped(books.tap(number, found.device.ifindex));
            let counters = Arc::new(counters);
            let ends = (found.device.ifindex, tap.link.ifindex);
            books.note_tap(ends, number, &counters);
            let port = TapPort::access(tap.queue(number)?, &umem, &self.umem);
            let departure = lanes.departure(nic, below.underlay);
            accesses.push(Some(worker::AccessTap {
                takes_trains: tap.takes_trains,
                ..worker::AccessTap::new(port, counters, departure)
            }));
        }
        self.superframes = Some(worker::Superframes {
            wires: lanes.wire_ports(number, &umem)?,
            accesses,
            umem,
        });
        Ok(())
    }
}

fn xsk_config(ifindex: u32, name: &str, queue: u32, mtu: u32, zero_copy: ZeroCopy) -> XskConfig {
    XskConfig {
        ifindex,
        name: name.to_owned(),
        queue,
        ring_len: RING_LEN,
        zero_copy,
        frame_len_max: mtu as usize + LINK_HEADERS,
        finishes: Finishes::default(),
        busy_wait: BUSY_WAIT,
    }
}

/// Where a worker keeps what it knows of the frames of one direction.
struct Own {
    worker: u32,
    peers: Arc<Tallies>,
    recorder: Arc<FlightRecorder>,
    tap: PortTap,
}

/// Opens a socket, and tells the steering programs and the books of it.
fn open(
    umem: &Umem,
    config: &XskConfig,
    share: Option<&XskPort>,
    own: Own,
    steering: &mut Steering,
    books: &mut Books,
) -> Result<(XskPort, Arc<PortCounters>), SessionError> {
    let port = XskPort::open(umem, config, share)?;
    steering.set_socket(config.ifindex, config.queue, port.socket().as_fd())?;
    let counters = PortCounters::counting(own.peers)
        .recording(own.recorder, config.ifindex)
        .tapped(own.tap);
    let counters = Arc::new(counters);
    let socket = SocketBook {
        worker: own.worker,
        queue: config.queue,
        counters: Arc::clone(&counters),
        ring_len: config.ring_len,
        statistics: port.statistics_handle().map_err(SessionError::Statistics)?,
        zero_copy: port.mode().zero_copy,
        finishes_checksums: port.finishes_checksums(),
        why_not_zero_copy: match config.zero_copy {
            ZeroCopy::Try => port.mode().why_not.clone(),
            ZeroCopy::Never => Some("a veth pair has no zero-copy".to_owned()),
        },
    };
    books.note_socket(config.ifindex, socket);
    Ok((port, counters))
}

/// The NUMA node of the underlay devices, if they are on one.
pub(super) fn node_of(nics: &[Nic]) -> Option<u32> {
    let machine = Machine::this();
    let nodes = nics
        .iter()
        .map(|nic| machine.node_of_device(&nic.name, nic.ifindex));
    numa::common(nodes)
}

/// Has the memory of what is made meanwhile come from this node: frames, rings and tables, and whatever the threads that are
/// started ask for themselves.
pub(super) fn near(node: Option<u32>) -> Option<Near> {
    let node = node?;
    let near = Near::node(node);
    near.inspect_err(|error| {
        tracing::warn!(node, %error, "memory may be on another NUMA node than the underlay device")
    })
    .ok()
}

/// Starts the workers; all of them, or none. The first ones get the cores of `node`.
pub(super) fn spawn(
    plan: &Plan,
    node: Option<u32>,
    crews: Vec<Crew>,
    readers: Vec<Reader>,
    (steering, sightings): (&Steering, Option<&Sightings>),
    books: &mut Books,
) -> Result<Vec<worker::Running<XskPort>>, SessionError> {
    rise(plan.nice);
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let cores = cores.into_iter().map(|core| core.id).collect();
    let cores = Machine::this().nearest_first(cores, node);
    let mut workers = Vec::new();
    for (number, (crew, reader)) in (0_u32..).zip(crews.into_iter().zip(readers)) {
        let post = Post {
            number,
            core: cores.get(number as usize % cores.len().max(1)).copied(),
            node,
            nice: plan.nice,
        };
        let lookout = sightings.map(Sightings::lookout);
        match start_worker(post, crew, (reader, lookout), steering, books) {
            Ok(running) => workers.push(running),
            Err(source) => {
                workers.iter().for_each(worker::Running::stop);
                for started in workers {
                    // How an unwanted worker ended makes no difference any more.
                    let _ = started.join();
                }
                return Err(SessionError::Worker {
                    worker: number,
                    source,
                });
            }
        }
    }
    Ok(workers)
}

/// Lets the workers' nice value count against other sessions, too.
fn rise(nice: i32) {
    if nice >= 0 {
        return;
    }
    match autogroup::set_nice(nice) {
        Ok(true) => {}
        Ok(false) => tracing::info!(
            nice,
            "the workers' nice value counts in this session alone where sched_autogroup is on; a service, or setsid, has its own"
        ),
        Err(error) => {
            tracing::warn!(nice, %error, "the session may not have the workers' nice value")
        }
    }
}

/// A worker's place on the machine.
struct Post {
    number: u32,
    core: Option<usize>,
    /// Of the underlay devices.
    node: Option<u32>,
    nice: i32,
}

fn start_worker(
    post: Post,
    crew: Crew,
    (reader, lookout): (Reader, Option<Lookout>),
    steering: &Steering,
    books: &mut Books,
) -> io::Result<worker::Running<XskPort>> {
    let Post {
        number,
        core,
        node,
        nice,
    } = post;
    let (memory_node, frames) = (crew.umem.node(), crew.umem.frames());
    let counters = Arc::new(WorkerCounters::measured_by(books.stages.clone()));
    let heartbeat = steering.heartbeat(number);
    let running = Worker::spawn(worker::Plan {
        number: number as usize,
        core,
        nice,
        umem: crew.umem,
        underlays: crew.underlays,
        accesses: crew.accesses,
        superframes: crew.superframes,
        lookout,
        reader,
        counters: Arc::clone(&counters),
        heartbeat: Box::new(move |now_ns| heartbeat.store(now_ns)),
        stop: Arc::new(AtomicBool::new(false)),
    })?;
    let refused = running.standing().nice_refused.as_ref();
    let nice_refused = refused.map(|error| format!("{nice}: {error}; CAP_SYS_NICE is needed"));
    if let Some(refused) = &nice_refused {
        tracing::warn!(
            worker = number,
            "may not have its nice value, so kernel threads on its core may hold it up under overload: {refused}"
        );
    }
    let core = match running.standing().pinning {
        worker::Pinning::Pinned(core) => u32::try_from(core).ok(),
        worker::Pinning::Free => None,
        worker::Pinning::Refused(core) => {
            tracing::warn!(
                worker = number,
                core,
                "not allowed on this core: the worker runs on any"
            );
            None
        }
    };
    let core_node = core.and_then(|core| Machine::this().node_of_core(core as usize));
    if node.is_some() && core_node.is_some() && node != core_node {
        let (core_node, device_node) = (numa::label(core_node), numa::label(node));
        tracing::warn!(
            worker = number,
            core_node,
            device_node,
            "its core is on another NUMA node than the underlay device: each frame crosses between them"
        );
    }
    books.workers.push(WorkerBook {
        number,
        core,
        core_node,
        memory_node,
        nice,
        nice_refused,
        frames,
        counters,
    });
    Ok(running)
}
