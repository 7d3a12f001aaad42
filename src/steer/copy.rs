//! One loaded copy of the object in `bpf/`: its programs, and the maps that are its own or shared with other copies.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libbpf_rs::{MapCore, MapFlags, MapHandle, Object, ObjectBuilder};

use super::{Error, SteerCounters};
use crate::stats::PassReason;
use crate::wire::Vni;

/// `VXGATE_WORKERS_MAX` of `bpf/shared.h`.
pub(super) const WORKERS_MAX: u32 = 64;
/// `sizeof(struct heartbeat_cell)`.
pub(super) const HEARTBEAT_STRIDE: usize = 128;

/// `enum counts_kind`.
pub(super) const COUNTS_UNDERLAY: u32 = 0;
pub(super) const COUNTS_EGRESS: u32 = 1;
pub(super) const COUNTS_INGRESS: u32 = 2;
pub(super) const COUNTS_WORKER_SIDE: u32 = 3;

/// Maps that all copies share with the first.
const SHARED: [&str; 4] = ["heartbeats", "bypass", "endpoints", "segments"];
const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vxgate.bpf.o"));

/// A loaded copy.
pub(super) struct Copy {
    object: Object,
}

impl Copy {
    /// Loads a copy that sends frames to these devices (none: 0), sharing maps with `first`.
    pub fn load(
        workers: u32,
        kernel_side: u32,
        device: u32,
        first: Option<&Self>,
    ) -> Result<Self, Error> {
        let mut open = ObjectBuilder::default()
            .open_memory(OBJECT)
            .map_err(Error::Load)?;
        for mut map in open.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            if name.ends_with(".rodata") {
                // struct steer_settings
                let settings: Vec<u8> = [workers, kernel_side, device]
                    .iter()
                    .flat_map(|n| n.to_ne_bytes())
                    .collect();
                map.set_initial_value(&settings).map_err(Error::Load)?;
            } else if let Some(first) = first.filter(|_| SHARED.contains(&name.as_str())) {
                map.reuse_fd(first.map(&name)?.as_fd())
                    .map_err(Error::Load)?;
            }
        }
        Ok(Self {
            object: open.load().map_err(Error::Load)?,
        })
    }

    /// A program, by its name in C.
    pub fn program(&self, name: &'static str) -> Result<OwnedFd, Error> {
        let program = self.object.progs().find(|program| program.name() == name);
        let program =
            program.ok_or_else(|| Error::Plan(format!("the object has no program {name}")))?;
        program
            .as_fd()
            .try_clone_to_owned()
            .map_err(Error::Descriptor)
    }

    /// The heartbeats' array.
    pub fn heartbeats(&self) -> Result<MapHandle, Error> {
        self.map("heartbeats")
    }

    /// The bypass flag's array.
    pub fn bypass(&self) -> Result<MapHandle, Error> {
        self.map("bypass")
    }

    /// Adds one of our end points, and one VNI on it. A link-local address counts on `link` only.
    pub fn add_segment(&self, local: IpAddr, link: u32, port: u16, vni: Vni) -> Result<(), Error> {
        let (address, scope) = match local {
            IpAddr::V4(local) => (local.to_ipv6_mapped(), 0),
            IpAddr::V6(local) if local.is_unicast_link_local() => (local, link),
            IpAddr::V6(local) => (local, 0),
        };
        // struct endpoint: address and port as on the wire, two zero bytes, scope; struct segment_key: that, and the VNI.
        let mut endpoint = address.octets().to_vec();
        endpoint.extend(port.to_be_bytes());
        endpoint.extend([0, 0]);
        endpoint.extend(scope.to_ne_bytes());
        let mut segment = endpoint.clone();
        segment.extend(vni.get().to_ne_bytes());
        for (map, key) in [("endpoints", endpoint), ("segments", segment)] {
            let failed = |source| Error::Map {
                what: format!("VNI {vni} on {local}:{port}"),
                source,
            };
            self.map(map)?
                .update(&key, &[1], MapFlags::ANY)
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Gives the frames of a queue to a socket.
    pub fn set_socket(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), Error> {
        let fd = socket.as_raw_fd();
        let failed = |source| Error::Map {
            what: format!("the socket of queue {queue}"),
            source,
        };
        self.map("sockets")?
            .update(&queue.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::ANY)
            .map_err(failed)
    }

    /// What one program did, over all CPUs.
    pub fn counters(&self, kind: u32, ifindex: u32) -> Result<SteerCounters, Error> {
        let failed = |source| Error::Map {
            what: "the counters".to_owned(),
            source,
        };
        let by_cpu = self
            .map("counts")?
            .lookup_percpu(&kind.to_ne_bytes(), MapFlags::ANY)
            .map_err(failed)?;
        let mut sum = SteerCounters {
            ifindex,
            ..SteerCounters::default()
        };
        for counts in by_cpu.unwrap_or_default() {
            // struct steer_counts: steered, lost, passed[]
            let mut numbers = counts
                .as_chunks::<8>()
                .0
                .iter()
                .map(|bytes| u64::from_ne_bytes(*bytes));
            sum.steered += numbers.next().unwrap_or(0);
            sum.lost += numbers.next().unwrap_or(0);
            for (total, number) in sum.passed.iter_mut().zip(numbers) {
                *total += number;
            }
        }
        Ok(sum)
    }

    fn map(&self, name: &str) -> Result<MapHandle, Error> {
        let map = self.object.maps().find(|map| map.name() == name);
        let map = map.ok_or_else(|| Error::Plan(format!("the object has no map {name}")))?;
        MapHandle::try_from(&map).map_err(|source| Error::Map {
            what: format!("map {name}"),
            source,
        })
    }
}

const _: () = assert!(
    PassReason::COUNT == 7,
    "enum pass_reason of bpf/shared.h has as many"
);
