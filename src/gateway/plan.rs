//! What a session will look like, decided before anything is touched: a pure function of what the kernel has and what
//! the operator asked for. Two equal plans need no new session.

use std::fs;
use std::net::IpAddr;

use super::numa::Machine;
use crate::config::{Config, Devices, Direct, PodPrograms, Superframes};
use crate::control::{Found, Refusal, VxlanDevice};
use crate::fault::{Explained, Fault};
use crate::netlink::Link;
use crate::pipeline::carrier;
use crate::port::{ChunkSize, ROOM};
use crate::table::Policy;
use crate::wire::MacAddr;

/// A session, before it exists.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The devices to take over, in the order of their `SegmentId`.
    pub devices: Vec<Found>,
    /// Devices that stay with the kernel, each with its refusal.
    pub left: Vec<Found>,
    /// The underlay devices, each once.
    pub nics: Vec<Nic>,
    /// How many workers.
    pub workers: u32,
    /// Their nice value.
    pub nice: i32,
    /// Why that is not the number that was asked for.
    pub fewer_workers: Option<String>,
    /// What the operator decides of every segment.
    pub policy: Policy,
    /// Whether superframes of TCP and UDP are to cross whole.
    pub superframes: Superframes,
    /// Which flows may go the direct path.
    pub direct: Direct,
    /// Whether they may in the express gear.
    pub express: bool,
    /// Which programs take what pods send there.
    pub pod_programs: PodPrograms,
    /// For how many of them there is room.
    pub direct_flows_max: u32,
    /// How many pods' devices are looked after.
    pub direct_pods_max: u32,
}

/// An underlay device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its receive queues in use.
    pub queues: u32,
    /// Whether its driver says that it has zero-copy.
    pub zero_copy: bool,
}

/// Why there is nothing to take over.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    /// The namespace has no vxlan device.
    #[error("no vxlan device in this network namespace")]
    NoDevice,
    /// There is no such device.
    #[error(
        "{0}, which --vxlan or overlay.devices names: there is no vxlan device of that name in this network namespace"
    )]
    Unknown(String),
    /// The device uses something that vxgate does not do, or is not ready.
    #[error("{device}: left to the kernel because of its attribute '{attribute}': {why}")]
    Refused {
        /// The device's name.
        device: String,
        /// The attribute in the words of `ip -d link`.
        attribute: String,
        /// Why it stands in the way.
        why: String,
    },
    /// All of them are left to the kernel.
    #[error("no vxlan device can be taken over: {0}")]
    AllRefused(String),
}

impl Explained for PlanError {
    fn fault(&self) -> Fault {
        match self {
            Self::NoDevice => Fault::DeviceNone,
            Self::Unknown(_) => Fault::DeviceUnknown,
            Self::Refused { .. } => Fault::DeviceRefused,
            Self::AllRefused(_) => Fault::DevicesAllRefused,
        }
    }
}

impl Plan {
    /// Chooses devices, underlay devices and workers. `queues` tells an underlay device's receive queues, `cores` how
    /// many cores this process may use.
    pub fn new(
        found: Vec<Found>,
        config: &Config,
        cores: u32,
        queues: impl Fn(&Link) -> u32,
    ) -> Self {
        let wanted = found
            .into_iter()
            .filter(|found| config.devices.include(&found.device.name));
        let (left, devices): (Vec<_>, Vec<_>) = wanted.partition(|found| !is_ready(found));
        let mut nics: Vec<Nic> = Vec::new();
        for link in devices.iter().filter_map(|found| found.underlay.as_ref()) {
            if !nics.iter().any(|nic| nic.ifindex == link.ifindex) {
                let (ifindex, name) = (link.ifindex, link.name.clone());
                nics.push(Nic {
                    ifindex,
                    name,
                    mac: link.mac,
                    mtu: link.mtu,
                    queues: queues(link).max(1),
                    zero_copy: false,
                });
            }
        }
        let asked = config.workers.unwrap_or(cores).max(1);
        // Every worker must own a queue of every underlay device: it sends through it, too.
        let narrowest = nics.iter().min_by_key(|nic| nic.queues);
        let workers = narrowest.map_or(asked, |nic| asked.min(nic.queues));
        let fewer_workers = match (config.workers, narrowest) {
            (Some(asked), Some(nic)) if asked > workers => Some(format!(
                "{asked} workers were asked for, but {} has {} receive queues: {workers} started",
                nic.name, nic.queues
            )),
            _ => None,
        };
        Self {
            devices,
            left,
            nics,
            workers,
            nice: config.nice,
            fewer_workers,
            policy: config.policy,
            superframes: config.superframes,
            direct: config.direct,
            express: config.express,
            pod_programs: config.pod_programs,
            direct_flows_max: config.direct_flows_max,
            direct_pods_max: config.direct_pods_max,
        }
    }

    /// Judges the plan of a first start, when having nothing to do is an error.
    ///
    /// # Errors
    /// When a device that was asked for by name cannot be taken over, or none at all can.
    pub fn check(&self, config: &Config) -> Result<(), PlanError> {
        if let Devices::Named(names) = &config.devices {
            for name in names {
                if let Some(left) = self.left.iter().find(|found| &found.device.name == name) {
                    return Err(refused(left));
                }
                if !self.devices.iter().any(|found| &found.device.name == name) {
                    return Err(PlanError::Unknown(name.clone()));
                }
            }
        }
        if !self.devices.is_empty() {
            return Ok(());
        }
        match self.left.as_slice() {
            [] => Err(PlanError::NoDevice),
            [one] => Err(refused(one)),
            many => {
                let reasons = many
                    .iter()
                    .map(|found| refused(found).to_string())
                    .collect::<Vec<_>>();
                Err(PlanError::AllRefused(reasons.join("; ")))
            }
        }
    }

    /// Whether a session of `other` would be this one: the same devices and queues. Attributes that the table follows at
    /// run time do not count.
    pub fn same_session(&self, other: &Self) -> bool {
        let mine = self.devices.iter().map(|found| identity(&found.device));
        let theirs = other.devices.iter().map(|found| identity(&found.device));
        self.workers == other.workers && self.nics == other.nics && mine.eq(theirs)
    }

    /// The devices that another session did not have, by index; none when all are such, since then nothing is at stake.
    pub fn newcomers(&self, before: &Self) -> Vec<u32> {
        let indexes = |plan: &Self| {
            plan.devices
                .iter()
                .map(|found| found.device.ifindex)
                .collect::<Vec<_>>()
        };
        let known = indexes(before);
        let (old, new): (Vec<u32>, Vec<u32>) = indexes(self)
            .into_iter()
            .partition(|ifindex| known.contains(ifindex));
        if old.is_empty() { Vec::new() } else { new }
    }

    /// The place of a device's underlay device among the plan's.
    pub fn wire_of(&self, found: &Found) -> Option<usize> {
        let below = found.underlay.as_ref()?.ifindex;
        self.nics.iter().position(|nic| nic.ifindex == below)
    }

    /// Whether some device's frames may take several buffers.
    pub fn needs_chains(&self) -> bool {
        self.devices.iter().any(needs_chains)
    }

    /// The smallest chunk that holds a frame of any port, with the room in front and the outer headers. Some drivers with
    /// zero-copy (igb, igc, ixgbe for the 82599) count a buffer in whole KiB and drop what is longer: of the 1,792 bytes that 2048
    /// leave, that is 1,024.
    pub fn chunk(&self) -> ChunkSize {
        /// Ethernet header and two VLAN tags.
        const LINK_HEADERS: u32 = 14 + 8;
        let marks = self.devices.iter().any(|found| found.device.gbp);
        let carrier = if marks { carrier::LEN } else { 0 };
        let longest = self
            .nics
            .iter()
            .map(|nic| nic.mtu)
            .max()
            .unwrap_or(1500)
            .saturating_add(LINK_HEADERS);
        if self.needs_chains() {
            ChunkSize::K16
        } else if longest as usize + carrier + ROOM <= ChunkSize::K2.bytes() as usize
            && !self.nics.iter().any(|nic| nic.zero_copy)
        {
            ChunkSize::K2
        } else {
            ChunkSize::K4
        }
    }
}

/// The largest MTU with which a veth takes an XDP program that knows nothing of several buffers: what is left of a page
/// behind the room in front and before the kernel's own notes.
const ONE_BUFFER_MTU_MAX: u32 = 3506;

/// Whether frames of the device, of its underlay or of its access device may take several buffers.
pub fn needs_chains(found: &Found) -> bool {
    access_mtu(found) > ONE_BUFFER_MTU_MAX
}

/// Refuses what only a kernel with frames of several buffers can carry, on one that has none.
pub fn refuse_chains(found: &mut Found) {
    if found.refusal.is_none() && needs_chains(found) {
        let mtu = access_mtu(found);
        found.refusal = Some(Refusal {
            attribute: "mtu".to_owned(),
            why: format!(
                "frames of an MTU of {mtu} take several buffers, which AF_XDP has from Linux 6.6 on; \
                 up to {ONE_BUFFER_MTU_MAX} bytes take one"
            ),
        });
    }
}

fn is_ready(found: &Found) -> bool {
    found.refusal.is_none()
        && found.device.up
        && found.underlay.is_some()
        && found.device.local.is_some()
}

fn refused(found: &Found) -> PlanError {
    let (attribute, why) = refusal_words(found);
    PlanError::Refused {
        device: found.device.name.clone(),
        attribute,
        why,
    }
}

/// The MTU of a device's access pair. What the kernel decapsulates may be larger than the device's own MTU (a frame with
/// two tags is), so whatever fits the underlay has to fit here, with its mark where it has one.
pub fn access_mtu(found: &Found) -> u32 {
    let underlay = found.underlay.as_ref().map_or(0, |link| link.mtu);
    let carrier = if found.device.gbp { carrier::LEN } else { 0 };
    underlay.max(found.device.mtu) + carrier as u32
}

/// Why this device is left to the kernel: the attribute, and a sentence.
pub fn refusal_words(found: &Found) -> (String, String) {
    match &found.refusal {
        Some(refusal) => (refusal.attribute.clone(), refusal.why.clone()),
        None => (
            "state DOWN".to_owned(),
            "the device is not up: `ip link set DEV up`".to_owned(),
        ),
    }
}

#[derive(PartialEq, Eq)]
struct Identity<'a> {
    ifindex: u32,
    name: &'a str,
    mtu: u32,
    vni: u32,
    local: Option<IpAddr>,
    group: Option<IpAddr>,
    port: u16,
    gbp: bool,
    underlay: Option<u32>,
}

fn identity(device: &VxlanDevice) -> Identity<'_> {
    Identity {
        ifindex: device.ifindex,
        name: &device.name,
        mtu: device.mtu,
        vni: device.vni.get(),
        local: device.local,
        group: device.group,
        port: device.port,
        gbp: device.gbp,
        underlay: device.underlay,
    }
}

/// The receive queues that a device really uses. `IFLA_NUM_RX_QUEUES` tells how many it could have; sysfs has a folder
/// for each one in use.
pub fn receive_queues(link: &Link) -> u32 {
    let device = Machine::this().network_device(&link.name, link.ifindex);
    let entries = device.and_then(|device| fs::read_dir(device.join("queues")).ok());
    let counted = entries.map_or(0, |entries| {
        entries
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().starts_with("rx-"))
            .count()
    });
    match counted {
        0 => link.rx_queues.max(1),
        queues => u32::try_from(queues).unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::table::{Df, FlowLabel, Inherit, SourcePorts, UdpChecksum};
    use crate::wire::{MacAddr, Vni};

    fn link(ifindex: u32, mtu: u32, queues: u32) -> Link {
        Link {
            ifindex,
            name: format!("eth{ifindex}"),
            mac: MacAddr([2, 0, 0, 0, 0, ifindex as u8]),
            mtu,
            up: true,
            running: true,
            kind: None,
            alias: None,
            rx_queues: queues,
            tx_queues: queues,
            master: None,
            peer: None,
            parent: None,
            loopback: false,
            ethernet: true,
        }
    }

    fn found(ifindex: u32, underlay: Link) -> Found {
        let device = VxlanDevice {
            ifindex,
            name: format!("vx{ifindex}"),
            mac: MacAddr([2, 0, 0, 0, 1, ifindex as u8]),
            mtu: underlay.mtu - 50,
            up: true,
            vni: Vni::new(ifindex).unwrap(),
            local: Some(IpAddr::from([10, 0, 0, 10])),
            group: None,
            underlay: Some(underlay.ifindex),
            port: 8472,
            source_ports: SourcePorts {
                low: 32768,
                high: 60998,
            },
            ttl: Inherit::Fixed(64),
            ttl_default: 64,
            tos: Inherit::Fixed(0),
            df: Df::Unset,
            flow_label: FlowLabel::Fixed(0),
            udp_checksum: UdpChecksum::Compute,
            accept_udp6_zero_checksum: false,
            gbp: false,
            reserved_bits: !crate::wire::vxlan::USED_BITS,
        };
        Found {
            device,
            underlay: Some(underlay),
            refusal: None,
        }
    }

    fn config(vxlan: &[&str], workers: Option<u32>) -> Config {
        let mut given = Settings {
            workers,
            socket: Some("/tmp/s".into()),
            ..Settings::default()
        };
        let names = vxlan.iter().map(|name| (*name).to_owned());
        given.set_devices(names.collect()).unwrap();
        Config::new(given, Settings::default()).unwrap()
    }

    fn plan(found: Vec<Found>, config: &Config, cores: u32) -> Plan {
        Plan::new(found, config, cores, |link| link.rx_queues)
    }

    #[test]
    fn one_worker_a_core_that_every_underlay_has_a_queue_for() {
        let both = || {
            vec![
                found(10, link(1, 1500, 8)),
                found(11, link(2, 1500, 3)),
                found(12, link(2, 1500, 3)),
            ]
        };
        let all = plan(both(), &config(&[], None), 4);
        assert_eq!((all.workers, all.nics.len(), all.devices.len()), (3, 2, 3));
        assert_eq!(all.fewer_workers, None, "nobody asked for more");
        let asked = plan(both(), &config(&[], Some(8)), 4);
        assert_eq!(asked.workers, 3);
        assert!(
            asked
                .fewer_workers
                .unwrap()
                .contains("eth2 has 3 receive queues")
        );
        assert_eq!(plan(both(), &config(&[], Some(1)), 4).workers, 1);
    }

    #[test]
    fn what_cannot_be_taken_over_is_named_with_its_attribute() {
        let mut refused = found(10, link(1, 1500, 1));
        refused.refusal = Some(Refusal {
            attribute: "learning".into(),
            why: "it learns".into(),
        });
        let mut down = found(11, link(1, 1500, 1));
        down.device.up = false;

        let error = |found: Vec<Found>, config: &Config| {
            plan(found, config, 1)
                .check(config)
                .unwrap_err()
                .to_string()
        };
        let all = config(&[], None);
        assert!(error(vec![], &all).starts_with("no vxlan device"));
        assert!(
            error(vec![refused.clone()], &all)
                .contains("vx10: left to the kernel because of its attribute 'learning'")
        );
        assert!(error(vec![refused.clone(), down.clone()], &all).contains("vx11"));
        assert!(error(vec![down.clone()], &config(&["vx11"], None)).contains("state DOWN"));
        assert!(error(vec![down], &config(&["eth0"], None)).contains("eth0, which --vxlan"));

        // One that works is enough, unless the other was asked for by name.
        let mixed = || vec![refused.clone(), found(12, link(1, 1500, 1))];
        assert_eq!(plan(mixed(), &all, 1).check(&all), Ok(()));
        let named = config(&["vx10", "vx12"], None);
        assert!(matches!(
            plan(mixed(), &named, 1).check(&named),
            Err(PlanError::Refused { .. })
        ));
    }

    #[test]
    fn only_what_a_session_is_built_on_asks_for_another() {
        let all = config(&[], None);
        let of = |found: Found| plan(vec![found], &all, 2);
        let before = of(found(10, link(1, 1500, 2)));
        let mut ttl = found(10, link(1, 1500, 2));
        ttl.device.ttl = Inherit::Inner;
        ttl.device.mac = MacAddr([2, 9, 9, 9, 9, 9]);
        assert!(before.same_session(&of(ttl)), "the table follows these");
        let mut vni = found(10, link(1, 1500, 2));
        vni.device.vni = Vni::new(77).unwrap();
        assert!(!before.same_session(&of(vni)));
        assert!(
            !before.same_session(&of(found(10, link(1, 1500, 1)))),
            "a queue went"
        );
        assert!(
            !before.same_session(&of(found(
                10,
                Link {
                    mac: MacAddr([2, 0, 0, 0, 9, 9]),
                    ..link(1, 1500, 2)
                }
            ))),
            "the underlay has another address"
        );
        assert!(
            !before.same_session(&of(found(13, link(1, 1500, 2)))),
            "made again: another index"
        );
        assert!(!before.same_session(&plan(vec![], &all, 2)));
    }

    #[test]
    fn newcomers_are_told_from_what_was_carried_before() {
        let all = config(&[], None);
        let of = |ifindexes: &[u32]| {
            plan(
                ifindexes
                    .iter()
                    .map(|ifindex| found(*ifindex, link(1, 1500, 1)))
                    .collect(),
                &all,
                1,
            )
        };
        assert_eq!(of(&[10, 11]).newcomers(&of(&[10])), [11]);
        assert!(of(&[10]).newcomers(&of(&[10, 11])).is_empty());
        assert!(
            of(&[12]).newcomers(&of(&[10])).is_empty(),
            "nothing is left to save"
        );
    }

    #[test]
    fn chunks_hold_the_longest_frame_of_any_port() {
        let chunk = |mtu| plan(vec![found(10, link(1, mtu, 1))], &config(&[], None), 1).chunk();
        assert_eq!(chunk(1500), ChunkSize::K2);
        assert_eq!(chunk(2048 - 256 - 22), ChunkSize::K2);
        assert_eq!(chunk(2048 - 256 - 21), ChunkSize::K4);
        let mut marked = found(10, link(1, 2048 - 256 - 22, 1));
        marked.device.gbp = true;
        assert_eq!(chunk(3506), ChunkSize::K4);
        assert_eq!(chunk(3507), ChunkSize::K16);
        let mut by_zero_copy = plan(vec![found(10, link(1, 1500, 1))], &config(&[], None), 1);
        by_zero_copy.nics[0].zero_copy = true;
        assert_eq!(by_zero_copy.chunk(), ChunkSize::K4);
        let with_marks = plan(vec![marked], &config(&[], None), 1);
        assert_eq!(with_marks.chunk(), ChunkSize::K4);
        assert_eq!(access_mtu(&with_marks.devices[0]), 2048 - 256 - 22 + 8);
    }

    #[test]
    fn a_kernel_without_frames_of_several_buffers_keeps_the_devices_that_need_them() {
        let refused = |mtu, gbp| {
            let mut found = found(10, link(1, mtu, 1));
            found.device.gbp = gbp;
            refuse_chains(&mut found);
            found
                .refusal
                .map(|refusal| (refusal.attribute, refusal.why))
        };
        assert_eq!(refused(3506, false), None);
        assert_eq!(refused(3498, true), None);
        let (attribute, why) = refused(3499, true).unwrap();
        assert_eq!(attribute, "mtu");
        assert!(why.contains("3507") && why.contains("6.6"), "{why}");
        assert!(refused(9000, false).is_some());
        // What was refused for something else stays so.
        let mut learning = found(10, link(1, 9000, 1));
        learning.refusal = Some(Refusal {
            attribute: "learning".into(),
            why: "it learns".into(),
        });
        refuse_chains(&mut learning);
        assert_eq!(learning.refusal.unwrap().attribute, "learning");
    }
}
