//! One loaded copy of the object in `bpf/`: its programs, and the maps that are its own or shared with other copies.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use libbpf_rs::{MapCore, MapFlags, MapHandle, Object, ObjectBuilder, ProgramType};
use libbpf_sys as sys;
use rustix::io::fcntl_dupfd_cloexec;

use super::{Error, SteerCounters};
use crate::flows::WAYS;
use crate::stats::PassReason;
use crate::wire::{MacAddr, Vni};

/// `VXGATE_WORKERS_MAX` of `bpf/shared.h`.
pub(super) const WORKERS_MAX: u32 = 64;
/// `SIGHTINGS_MIN` of `bpf/shared.h`.
const SIGHTINGS_MIN: u32 = 65_536;
/// `sizeof(struct heartbeat_cell)`.
pub(super) const HEARTBEAT_STRIDE: usize = 128;

/// `enum counts_kind`.
pub(super) const COUNTS_UNDERLAY: u32 = 0;
pub(super) const COUNTS_EGRESS: u32 = 1;
pub(super) const COUNTS_INGRESS: u32 = 2;
pub(super) const COUNTS_WORKER_SIDE: u32 = 3;
pub(super) const COUNTS_TAP: u32 = 4;

/// `struct steer_settings`: what the programs of one device are told.
#[derive(Default)]
pub(super) struct Settings {
    /// How many workers.
    pub workers: u32,
    /// Index of the access device's end that the vxlan device's frames go to.
    pub kernel_side: u32,
    /// Index of the vxlan device that decapsulated frames go to; of the underlay device that superframes leave by.
    pub device: u32,
    /// The longest frame in bytes: of the vxlan device; of a NIC, what its sockets take.
    pub frame_max: u32,
    /// Ethernet address of the underlay device.
    pub mac: MacAddr,
    /// The vxlan device's frames carry their marks over the access device.
    pub gbp: bool,
    /// Index of the TAP that the vxlan device's TCP and superframes go to; 0 without one.
    pub tap: u32,
    /// How many sets of promoted flows there are, a power of two; 0 without a direct path.
    pub flow_sets: u32,
    /// How many places for peers there are, of each processor, with a direct path.
    pub peers: u32,
    /// The XDP programs take frames of several buffers. Nothing they read, but how they are loaded.
    pub chains: bool,
    /// The program for XDP at pods' devices is loaded.
    pub pod_xdp: bool,
}

impl Settings {
    /// How many entries a map has whose length depends on the settings.
    fn entries_of(&self, map: &str) -> Option<u32> {
        match map {
            _ if self.flow_sets == 0 => None,
            "flow_sets" => Some(self.flow_sets),
            "express_ends" | "ring_flows" => Some(self.flow_sets * WAYS as u32),
            "express_paths" => Some(paths_of(self.flow_sets as usize * WAYS) as u32),
            // Those that nobody has promoted yet: after a change, that may be all.
            "from_pods" | "to_pods" => Some((self.flow_sets * WAYS as u32).max(SIGHTINGS_MIN)),
            "express_peers" => Some(cpus() * self.peers),
            _ => None,
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = [self.workers, self.kernel_side, self.device, self.frame_max]
            .iter()
            .flat_map(|number| number.to_ne_bytes())
            .collect();
        bytes.extend(self.mac.0);
        bytes.extend(u16::from(self.gbp).to_ne_bytes());
        let rest = [self.tap, self.flow_sets, ids_apart(cpus()), self.peers];
        bytes.extend(rest.iter().flat_map(|number| number.to_ne_bytes()));
        bytes
    }
}

/// Maps that all copies share with the first.
const SHARED: [&str; 12] = [
    "heartbeats",
    "bypass",
    "endpoints",
    "segments",
    "ways",
    "direct_state",
    "flow_sets",
    "express_ends",
    "express_paths",
    "ring_flows",
    "express_peers",
    "direct_counts",
];
const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vxgate.bpf.o"));

/// XDP at a pod's device.
pub(super) const POD_XDP: &str = "vxgate_pod_xdp";

/// How many places for paths there are where there are so many for flows: each may have its own, as far as 16 bits tell them apart.
pub(super) const fn paths_of(flows: usize) -> usize {
    const PATHS_MAX: usize = 1 << u16::BITS;
    if flows < PATHS_MAX { flows } else { PATHS_MAX }
}

/// How many processors there may be.
pub(super) fn cpus() -> u32 {
    libbpf_rs::num_possible_cpus().map_or(1, |cpus| cpus.max(1) as u32)
}

/// How far apart identifications are that one processor gives one after the other. Where that did not divide all that there are, its
/// series would come back to those of others.
const fn ids_apart(cpus: u32) -> u32 {
    cpus.next_power_of_two()
}

/// Numbers above all other descriptors of a process, where it may have so many, or most of them.
const HIGH: [RawFd; 2] = [4096, 960];

/// Another descriptor of the same file, with a number above those that are opened later: a killed process's descriptors are
/// released from the highest to the lowest, and each link takes a grace period of RCU.
fn last_descriptor(of: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let high = HIGH
        .iter()
        .find_map(|least| fcntl_dupfd_cloexec(of, *least).ok());
    high.map_or_else(|| Ok(fcntl_dupfd_cloexec(of, 0)?), Ok)
}

/// A loaded copy.
pub(super) struct Copy {
    pub(super) object: Object,
}

impl Copy {
    /// Loads a copy for one device, sharing maps with `first`.
    pub fn load(settings: &Settings, first: Option<&Self>) -> Result<Self, Error> {
        Self::load_object(OBJECT, settings, first)
    }

    /// The same with another object, whose programs are told the same and share the same maps.
    pub(super) fn load_object(
        object: &[u8],
        settings: &Settings,
        first: Option<&Self>,
    ) -> Result<Self, Error> {
        let mut open = ObjectBuilder::default()
            .open_memory(object)
            .map_err(Error::Load)?;
        for mut map in open.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            if name.ends_with(".rodata") {
                map.set_initial_value(&settings.to_bytes())
                    .map_err(Error::Load)?;
            } else if let Some(first) = first.filter(|_| SHARED.contains(&name.as_str())) {
                map.reuse_fd(first.map(&name)?.as_fd())
                    .map_err(Error::Load)?;
            } else if let Some(entries) = settings.entries_of(&name) {
                map.set_max_entries(entries).map_err(Error::Load)?;
            }
        }
        for mut program in open.progs_mut().filter(|program| program.name() == POD_XDP) {
            program.set_autoload(settings.pod_xdp);
        }
        // Without it a driver takes no program when the MTU is beyond one buffer. Set only then: before Linux 5.18 the
        // kernel does not know it.
        if settings.chains {
            let programs = open.progs_mut();
            for mut program in
                programs.filter(|program| matches!(program.prog_type(), ProgramType::Xdp))
            {
                program.set_flags(sys::BPF_F_XDP_HAS_FRAGS);
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

    /// The array with the limit of the frames that leave the vxlan device.
    pub fn frame_limit(&self) -> Result<MapHandle, Error> {
        self.map("frame_limit")
    }

    /// The two places for lists of the frames that are the kernel's.
    pub fn kernel_share(&self) -> Result<MapHandle, Error> {
        self.map("kernel_share")
    }

    /// New descriptors of the arrays by which the attached programs reach those that steer: the kernel empties an array
    /// when its last descriptor is closed.
    pub fn lifelines(&self) -> Result<[OwnedFd; 2], Error> {
        let last = |name| last_descriptor(self.map(name)?.as_fd()).map_err(Error::Descriptor);
        Ok([last("underlay_alive")?, last("egress_alive")?])
    }

    /// Adds one of our end points, and one VNI on it. A link-local address and a group count on `link` only.
    pub fn add_segment(&self, addr: IpAddr, link: u32, port: u16, vni: Vni) -> Result<(), Error> {
        // A group was joined on one link, and on others the kernel does not hear it.
        let scope = if addr.is_multicast() { link } else { 0 };
        let (address, scope) = match addr {
            IpAddr::V4(addr) => (addr.to_ipv6_mapped(), scope),
            IpAddr::V6(addr) if addr.is_unicast_link_local() => (addr, link),
            IpAddr::V6(addr) => (addr, scope),
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
                what: format!("VNI {vni} on {}", SocketAddr::new(addr, port)),
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
            // struct steer_counts: steered, lost, express, express_bytes, passed[]
            let mut numbers = counts
                .as_chunks::<8>()
                .0
                .iter()
                .map(|bytes| u64::from_ne_bytes(*bytes));
            sum.steered += numbers.next().unwrap_or(0);
            sum.lost += numbers.next().unwrap_or(0);
            sum.express += numbers.next().unwrap_or(0);
            sum.express_bytes += numbers.next().unwrap_or(0);
            for (total, number) in sum.passed.iter_mut().zip(numbers) {
                *total += number;
            }
        }
        Ok(sum)
    }

    pub(super) fn map(&self, name: &str) -> Result<MapHandle, Error> {
        let map = self.object.maps().find(|map| map.name() == name);
        let map = map.ok_or_else(|| Error::Plan(format!("the object has no map {name}")))?;
        MapHandle::try_from(&map).map_err(|source| Error::Map {
            what: format!("map {name}"),
            source,
        })
    }
}

const _: () = assert!(
    PassReason::COUNT == 11,
    "enum pass_reason of bpf/shared.h has as many"
);

#[cfg(test)]
pub(super) mod tests {
    use etherparse::PacketBuilder;
    use libbpf_rs::ProgramInput;

    use super::*;

    const VNI: [u8; 8] = [8, 0, 0, 0, 0, 0, 7, 0];

    /// What became of a frame. No worker lives, so that ours are those which would have been steered.
    #[derive(Debug, PartialEq, Eq)]
    enum Fate {
        Ours,
        Passed(PassReason),
    }

    /// Where the vxlan device's program sends a frame: on to the kernel, or to the access device.
    pub(in super::super) const TCX_NEXT: u32 = u32::MAX;
    pub(in super::super) const TC_ACT_REDIRECT: u32 = 7;

    /// As with a worker that lives, and frames that may be `limit` long.
    pub(in super::super) fn pretend_alive(copy: &Copy, limit: u64) {
        let zero = 0u32.to_ne_bytes();
        let mut cell = [0; HEARTBEAT_STRIDE];
        // Far in the future: fresh however long the test takes.
        cell[..8].copy_from_slice(&(i64::MAX as u64 / 2).to_ne_bytes());
        let heartbeats = copy.heartbeats().unwrap();
        heartbeats.update(&zero, &cell, MapFlags::ANY).unwrap();
        let frame_limit = copy.frame_limit().unwrap();
        frame_limit
            .update(&zero, &limit.to_ne_bytes(), MapFlags::ANY)
            .unwrap();
    }

    pub(in super::super) fn loaded_settings() -> Settings {
        Settings {
            workers: 1,
            kernel_side: 0,
            device: 0,
            frame_max: 1464,
            mac: MacAddr([4; 6]),
            gbp: false,
            tap: 0,
            flow_sets: 0,
            peers: 0,
            chains: false,
            pod_xdp: false,
        }
    }

    /// Ours: VNI 7 on UDP 8472 of 192.0.2.1, 2001:db8::1 and, on the loopback link, fe80::1 and two groups.
    fn loaded() -> Copy {
        const LOOPBACK: u32 = 1;
        let copy = Copy::load(&loaded_settings(), None).unwrap();
        for (local, link) in [("192.0.2.1", 3), ("2001:db8::1", 3), ("fe80::1", LOOPBACK)] {
            copy.add_segment(local.parse().unwrap(), link, 8472, Vni::new(7).unwrap())
                .unwrap();
        }
        for group in ["239.1.1.1", "ff05::1"] {
            copy.add_segment(group.parse().unwrap(), LOOPBACK, 8472, Vni::new(7).unwrap())
                .unwrap();
        }
        // On another link than the one that frames come in on.
        for elsewhere in ["fe80::3", "239.1.1.3", "ff05::3"] {
            let addr = elsewhere.parse().unwrap();
            copy.add_segment(addr, LOOPBACK + 1, 8472, Vni::new(7).unwrap())
                .unwrap();
        }
        copy
    }

    /// Has the kernel run the underlay's program on a frame that comes in on the loopback link.
    fn fate(copy: &Copy, frame: &[u8]) -> Fate {
        let before = copy.counters(COUNTS_UNDERLAY, 0).unwrap();
        let mut progs = copy.object.progs_mut();
        let program = progs.find(|program| program.name() == "vxgate_underlay");
        let mut out = vec![0; frame.len() + 256];
        let output = program
            .unwrap()
            .test_run(ProgramInput {
                data_in: Some(frame),
                data_out: Some(&mut out),
                ..ProgramInput::default()
            })
            .unwrap();
        const XDP_PASS: u32 = 2;
        assert_eq!(output.return_value, XDP_PASS);
        assert_eq!(output.data.unwrap(), frame, "nothing is changed");
        let after = copy.counters(COUNTS_UNDERLAY, 0).unwrap();
        let moved: Vec<_> = PassReason::ALL
            .iter()
            .filter(|reason| after.passed[**reason as usize] != before.passed[**reason as usize])
            .collect();
        match moved[..] {
            [PassReason::HeartbeatStale] => Fate::Ours,
            [reason] => Fate::Passed(*reason),
            _ => panic!("not exactly one reason: {moved:?}"),
        }
    }

    fn over_ipv4(to: &str, port: u16, payload: &[u8]) -> Vec<u8> {
        let to: std::net::Ipv4Addr = to.parse().unwrap();
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([192, 0, 2, 2], to.octets(), 64)
            .udp(40000, port)
            .write(&mut bytes, payload)
            .unwrap();
        bytes
    }

    fn over_ipv6(to: &str, port: u16, payload: &[u8]) -> Vec<u8> {
        let to: std::net::Ipv6Addr = to.parse().unwrap();
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv6([0xfd; 16], to.octets(), 64)
            .udp(40000, port)
            .write(&mut bytes, payload)
            .unwrap();
        bytes
    }

    /// As `next_id` of `bpf/outer.h` gives them, of 16 bits.
    #[test]
    fn no_identification_is_given_by_two_processors() {
        for cpus in [1, 2, 3, 6, 48, 64, 96, 192] {
            let mut givers = vec![None; usize::from(u16::MAX) + 1];
            for cpu in 0..cpus {
                for number in 0..u32::from(u16::MAX) + 1 {
                    let id = (number * ids_apart(cpus) + cpu) as u16;
                    let giver = *givers[usize::from(id)].get_or_insert(cpu);
                    assert_eq!(giver, cpu, "of {cpus}");
                }
            }
        }
    }

    #[test]
    fn v12_address_port_and_vni_of_either_family_make_a_frame_ours() {
        let copy = loaded();
        let foreign = [8, 0, 0, 0, 0, 0, 8, 0];
        let without_i_flag = [0, 0, 0, 0, 0, 0, 8, 0];
        for (build, to, other) in [
            (
                over_ipv4 as fn(&str, u16, &[u8]) -> Vec<u8>,
                "192.0.2.1",
                "192.0.2.9",
            ),
            (over_ipv6, "2001:db8::1", "2001:db8::9"),
            (over_ipv6, "fe80::1", "fe80::2"),
            (over_ipv4, "239.1.1.1", "239.1.1.2"),
            (over_ipv6, "ff05::1", "ff05::2"),
        ] {
            assert_eq!(fate(&copy, &build(to, 8472, &VNI)), Fate::Ours);
            let cases = [
                (build(other, 8472, &VNI), PassReason::NotOurs),
                (build(to, 4789, &VNI), PassReason::NotOurs),
                (build(to, 8472, &foreign), PassReason::ForeignVni),
            ];
            for (frame, reason) in cases {
                assert_eq!(fate(&copy, &frame), Fate::Passed(reason), "{to}");
            }
            // Dead whoever reads them: the worker counts why.
            assert_eq!(fate(&copy, &build(to, 8472, &without_i_flag)), Fate::Ours);
            assert_eq!(fate(&copy, &build(to, 8472, &VNI[..7])), Fate::Ours);
        }
    }

    #[test]
    fn link_local_addresses_and_groups_count_on_their_own_link_and_families_keep_apart() {
        let copy = loaded();
        for to in ["fe80::3", "ff05::3", "::ffff:192.0.2.1", "::192.0.2.1"] {
            assert_eq!(
                fate(&copy, &over_ipv6(to, 8472, &VNI)),
                Fate::Passed(PassReason::NotOurs),
                "{to}"
            );
        }
        let elsewhere = over_ipv4("239.1.1.3", 8472, &VNI);
        let fate = fate(&copy, &elsewhere);
        assert_eq!(fate, Fate::Passed(PassReason::NotOurs));
    }

    #[test]
    fn programs_for_frames_of_several_buffers_judge_by_the_first() {
        let settings = Settings {
            chains: true,
            ..loaded_settings()
        };
        let copy = Copy::load(&settings, None).unwrap();
        let vni = Vni::new(7).unwrap();
        copy.add_segment("192.0.2.1".parse().unwrap(), 3, 8472, vni)
            .unwrap();
        let payload = [&VNI[..], &[7; 8900]].concat();
        let ours = over_ipv4("192.0.2.1", 8472, &payload);
        assert_eq!(fate(&copy, &ours), Fate::Ours);
        let other = over_ipv4("192.0.2.9", 8472, &payload);
        assert_eq!(fate(&copy, &other), Fate::Passed(PassReason::NotOurs));
    }

    #[test]
    fn each_of_the_most_devices_has_room_for_its_address_and_its_group() {
        const DEVICES_MAX: u8 = 255; // and one: VXGATE_DEVICES_MAX
        let copy = Copy::load(&loaded_settings(), None).unwrap();
        for device in 0..=DEVICES_MAX {
            let vni = Vni::new(u32::from(device) + 1).unwrap();
            for addr in [[192, 0, 2, device], [239, 1, 1, device]] {
                copy.add_segment(IpAddr::from(addr), 3, 8472, vni).unwrap();
            }
        }
    }

    #[test]
    fn v07_fragments_options_and_extension_headers_stay_with_the_kernel() {
        let copy = loaded();
        let four = over_ipv4("192.0.2.1", 8472, &VNI);
        for (at, value, reason) in [
            (20, 0x20, PassReason::Fragment),
            (21, 0x08, PassReason::Fragment),
            (14, 0x46, PassReason::IpOptions),
            (14, 0x65, PassReason::NotOurs),
            (23, 6, PassReason::NotOurs),
        ] {
            let mut frame = four.clone();
            frame[at] = value;
            assert_eq!(fate(&copy, &frame), Fate::Passed(reason));
        }
        let six = over_ipv6("2001:db8::1", 8472, &VNI);
        for (at, value, reason) in [
            (20, 44, PassReason::Fragment),
            (20, 0, PassReason::IpOptions),
            (20, 43, PassReason::IpOptions),
            (20, 51, PassReason::IpOptions),
            (20, 60, PassReason::IpOptions),
            (20, 58, PassReason::NotOurs),
            (14, 0x40, PassReason::NotOurs),
            (13, 0xde, PassReason::NotOurs),
        ] {
            let mut frame = six.clone();
            frame[at] = value;
            assert_eq!(fate(&copy, &frame), Fate::Passed(reason), "{at}: {value}");
        }
    }

    #[test]
    fn a_frame_cut_before_its_udp_header_ends_is_left_to_the_kernel() {
        let copy = loaded();
        for (frame, whole) in [
            (over_ipv4("192.0.2.1", 8472, &VNI), 42),
            (over_ipv6("2001:db8::1", 8472, &VNI), 62),
        ] {
            // The kernel's test runs need a whole Ethernet header.
            for len in 14..whole {
                assert_eq!(
                    fate(&copy, &frame[..len]),
                    Fate::Passed(PassReason::NotOurs),
                    "{len} bytes"
                );
            }
            assert_eq!(fate(&copy, &frame[..whole]), Fate::Ours);
        }
    }

    /// What the vxlan device's program does with a frame while a worker lives, when it is a superframe of so many segments'
    /// bytes (or 0) and frames may be `limit` long: whether it is left to the kernel as too long.
    fn is_oversize(copy: &Copy, frame: &[u8], gso_size: u32, limit: u64) -> bool {
        /// Where `struct __sk_buff` has it, and how long that is.
        const GSO_SIZE: usize = 176;
        const SK_BUFF_LEN: usize = 192;
        pretend_alive(copy, limit);
        let mut context = [0; SK_BUFF_LEN];
        context[GSO_SIZE..][..4].copy_from_slice(&gso_size.to_ne_bytes());
        let mut progs = copy.object.progs_mut();
        let program = progs.find(|program| program.name() == "vxgate_egress");
        let before = copy.counters(COUNTS_EGRESS, 0).unwrap();
        let output = program
            .unwrap()
            .test_run(ProgramInput {
                data_in: Some(frame),
                context_in: Some(&mut context),
                ..ProgramInput::default()
            })
            .unwrap();
        let after = copy.counters(COUNTS_EGRESS, 0).unwrap();
        let reason = PassReason::Oversize as usize;
        let passed = after.passed[reason] - before.passed[reason];
        let steered = after.steered - before.steered;
        match (output.return_value, passed, steered) {
            (TCX_NEXT, 1, 0) => true,
            (TC_ACT_REDIRECT, 0, 1) => false,
            other => panic!("neither too long nor steered: {other:?}"),
        }
    }

    #[test]
    fn p01_a_frame_is_left_to_the_kernel_from_the_first_byte_that_is_too_much() {
        let copy = loaded();
        let frame = over_ipv4("10.244.1.5", 9, &[0; 1000]);
        let len = frame.len() as u64;
        assert!(!is_oversize(&copy, &frame, 0, len));
        assert!(is_oversize(&copy, &frame, 0, len - 1));
        assert!(!is_oversize(&copy, &frame, 0, u64::MAX));
        assert!(is_oversize(&copy, &frame, 0, 0));
    }

    #[test]
    fn p01_a_superframe_is_judged_by_its_segments() {
        const SEGMENT: u32 = 1000;
        let copy = loaded();
        let payload = [0; 3000];
        let with_tcp = |builder: etherparse::PacketBuilderStep<etherparse::IpHeaders>, options| {
            let mut bytes = Vec::new();
            let tcp = builder.tcp(1, 2, 3, 64).options_raw(options).unwrap();
            tcp.write(&mut bytes, &payload).unwrap();
            bytes
        };
        let ethernet = || PacketBuilder::ethernet2([2; 6], [4; 6]);
        let four = || ethernet().ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
        let six = || ethernet().ipv6([0xfd; 16], [0xfe; 16], 64);
        // Limits below the device's longest frame, 1464.
        for (frame, headers) in [
            (with_tcp(four(), &[]), 14 + 20 + 20),
            (with_tcp(four(), &[1; 12]), 14 + 20 + 32),
            (with_tcp(six(), &[1; 40]), 14 + 40 + 60),
        ] {
            let exact = u64::from(SEGMENT) + headers;
            assert!(!is_oversize(&copy, &frame, SEGMENT, exact), "{headers}");
            assert!(is_oversize(&copy, &frame, SEGMENT, exact - 1), "{headers}");
        }
        // What is in a datagram is not looked into: it may be a tunnel.
        let datagrams = over_ipv4("10.244.1.5", 9, &payload);
        assert!(!is_oversize(&copy, &datagrams, SEGMENT, 1256));
        assert!(is_oversize(&copy, &datagrams, SEGMENT, 1255));
        // No path is narrower than the device: only segments that no device's MTU has limited are too long.
        assert!(!is_oversize(&copy, &datagrams, 1400, 1464));
        let bridged = with_tcp(four(), &[]);
        assert!(!is_oversize(&copy, &bridged, 1410, 1464));
        assert!(is_oversize(&copy, &bridged, 1460, 1464));
    }
}
