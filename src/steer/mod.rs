//! The BPF programs and their maps, loaded and attached; the access devices; heartbeat and fail-open.
//!
//! `bpf/vxgate.bpf.c` says what each program does. One copy of that object is loaded for each underlay device and one for
//! each vxlan device, so that no program looks anything up by device; the copies share the heartbeats, the bypass flag and
//! the lists of our end points and segments.
//!
//! While programs are attached or detached, the bypass is on: they pass every frame. So all of them begin to steer at one
//! moment, and none steers into a gap.

mod access;
mod claim;
mod copy;
mod error;
mod ethtool;
mod express;
mod frame_limit;
mod heartbeat;
mod hooks;
mod inspect;
mod kernel_share;
mod messages;
mod needs;
mod qdisc;
mod ring;
mod tap;
mod words;

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

pub use access::{AccessLink, AccessPair};
pub use error::Error;
pub use ethtool::{
    Channels, channels, driver, finishes_checksums, hiding, offloads, spreads_by_port,
};
pub use express::{
    Attended, DirectCounters, Express, ExpressPeers, FlowCounters, Gear, InRing, PROGRAMS_AT_PODS,
    PathId, WayCounters,
};
pub use frame_limit::FrameLimits;
pub use heartbeat::Heartbeat;
pub use hooks::XdpMode;
pub use inspect::{Leftover, XdpProgram, has_tcx, is_ours, leftovers, tcx_programs, xdp_program};
pub use kernel_share::KernelShares;
pub use needs::{KernelVersion, TooOld, kernel_version, may_panic, running_may_panic};
pub use ring::RingCounters;
pub use tap::Tap;

use crate::flows::WAYS;
use crate::netlink::{self, Socket};
use crate::stats::PassReason;
use crate::wire::{MacAddr, Vni, ethernet};
use copy::{Copy, HEARTBEAT_STRIDE, Settings, WORKERS_MAX};
use heartbeat::Cells;
use hooks::{Hook, Side};

/// The classifier of a vxlan device.
const EGRESS_PROGRAM: &str = "vxgate_egress";

/// What to steer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SteerPlan {
    /// How many workers; worker `q % workers` serves queue `q`.
    pub workers: u32,
    /// Whether frames may be longer than a buffer, and then come in several.
    pub chains: bool,
    /// The longest frame that a socket takes, in bytes: longer ones of the underlay are left to the kernel.
    pub frame_max: u32,
    /// Whether flows may be promoted, and then for how much there is room.
    pub direct: Option<DirectPlan>,
    /// The underlay devices.
    pub nics: Vec<NicPlan>,
    /// The vxlan devices.
    pub devices: Vec<DevicePlan>,
}

/// The direct path's room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DirectPlan {
    /// For how many flows there is room, at least.
    pub flows: u32,
    /// How many places their peers are counted at.
    pub peers: u32,
    /// Whether XDP is to take what pods send.
    pub pod_xdp: bool,
}

impl DirectPlan {
    /// How many sets of flows there are.
    fn sets(self) -> u32 {
        self.flows.div_ceil(WAYS as u32).next_power_of_two()
    }
}

/// An underlay device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicPlan {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address: frames to another one are left to the kernel.
    pub mac: MacAddr,
    /// The TAP by which superframes leave through it.
    pub wire_tap: Option<AccessLink>,
}

/// A vxlan device and the access device made for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePlan {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its MTU, in bytes.
    pub mtu: u32,
    /// Its VXLAN network identifier.
    pub vni: Vni,
    /// Its VTEP address.
    pub local: IpAddr,
    /// The multicast group on which its frames arrive, too, on its underlay link only.
    pub group: Option<IpAddr>,
    /// The underlay device's index: where the address counts, if it is link-local.
    pub underlay_ifindex: u32,
    /// Its UDP port.
    pub port: u16,
    /// Its frames carry their marks in two tags on the access device (`pipeline::carrier` says how).
    pub gbp: bool,
    /// The access device's end that exchanges frames with it.
    pub kernel_side: AccessLink,
    /// The access device's end with the sockets.
    pub worker_side: AccessLink,
    /// The TAP beside the access device, for TCP.
    pub access_tap: Option<AccessLink>,
}

/// What the programs of one device did, in frames, since they were loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SteerCounters {
    /// The device.
    pub ifindex: u32,
    /// Handed to a socket (underlay, worker side), to the access device (vxlan device) or to the vxlan device (kernel
    /// side); for a TAP, to itself, where a superframe is one.
    pub steered: u64,
    /// Dropped, because no worker lives (kernel side) or no socket is there (worker side).
    pub lost: u64,
    /// Taken by the express gear (underlay).
    pub express: u64,
    /// Bytes of these, without outer headers.
    pub express_bytes: u64,
    /// Left to the kernel, by reason.
    pub passed: [u64; PassReason::COUNT],
}

/// The programs of a session.
pub struct Steering {
    cells: Arc<Cells>,
    bypass: Cells,
    nics: Vec<SteeredNic>,
    devices: Vec<SteeredDevice>,
    frame_limits: FrameLimits,
    kernel_shares: KernelShares,
    workers: u32,
    direct: DirectPlan,
    by_link: bool,
    /// What a killed process closes first.
    lifelines: Vec<OwnedFd>,
}

struct SteeredNic {
    plan: NicPlan,
    copy: Copy,
    hook: Option<Hook>,
    wire: Option<Hook>,
}

struct SteeredDevice {
    plan: DevicePlan,
    copy: Copy,
    xdp: Option<Hook>,
    ingress: Option<Hook>,
    tap_ingress: Option<Hook>,
    egress: Option<Hook>,
}

impl Steering {
    /// Loads the programs; nothing is attached.
    ///
    /// # Errors
    /// When the kernel refuses them, or the plan holds what they cannot do.
    pub fn load(plan: &SteerPlan) -> Result<Self, Error> {
        if !(1..=WORKERS_MAX).contains(&plan.workers) {
            return Err(Error::Plan(format!(
                "{} workers: 1 to {WORKERS_MAX} are possible",
                plan.workers
            )));
        }
        messages::to_log();
        let mut copies = load_copies(plan)?;
        let Some(first) = copies.first() else {
            return Err(Error::Plan("there is no device".to_owned()));
        };
        for device in &plan.devices {
            for addr in [Some(device.local), device.group].into_iter().flatten() {
                first.add_segment(addr, device.underlay_ifindex, device.port, device.vni)?;
            }
        }
        let cells = Cells::map(first.heartbeats()?, WORKERS_MAX as usize, HEARTBEAT_STRIDE)
            .map_err(Error::Heartbeat)?;
        let bypass = Cells::map(first.bypass()?, 1, size_of::<u64>()).map_err(Error::Heartbeat)?;
        let device_copies = copies.split_off(plan.nics.len());
        let with_copies = plan.devices.iter().zip(&device_copies);
        let frame_limits =
            FrameLimits::map(with_copies.map(|(device, copy)| (device.ifindex, copy)))?;
        let with_copies = plan.devices.iter().zip(&device_copies);
        let kernel_shares = KernelShares::new(with_copies)?;
        let nics = plan
            .nics
            .iter()
            .cloned()
            .zip(copies)
            .map(|(plan, copy)| SteeredNic {
                plan,
                copy,
                hook: None,
                wire: None,
            });
        let devices = plan
            .devices
            .iter()
            .cloned()
            .zip(device_copies)
            .map(|(plan, copy)| SteeredDevice {
                plan,
                copy,
                xdp: None,
                ingress: None,
                tap_ingress: None,
                egress: None,
            });
        Ok(Self {
            cells: Arc::new(cells),
            bypass,
            nics: nics.collect(),
            devices: devices.collect(),
            frame_limits,
            kernel_shares,
            workers: plan.workers,
            direct: plan.direct.unwrap_or_default(),
            by_link: true,
            lifelines: Vec::new(),
        })
    }

    /// Forgets the TAP in front of an underlay device, which is gone: nothing leaves by it. Before [`Steering::attach`].
    pub fn give_up_wire_tap(&mut self, ifindex: u32) {
        let mut nics = self.nics.iter_mut();
        if let Some(nic) = nics.find(|nic| nic.plan.ifindex == ifindex) {
            nic.plan.wire_tap = None;
        }
    }

    /// Attaches classifiers by clsact filters, as on kernels without tcx. For tests of that way.
    pub fn without_tcx(mut self) -> Self {
        self.by_link = false;
        self
    }

    /// A worker's heartbeat.
    pub fn heartbeat(&self, worker: u32) -> Heartbeat {
        Heartbeat::new(Arc::clone(&self.cells), worker as usize)
    }

    /// The direct path of this session up to this gear, with no flow in it and at no pod's device yet.
    ///
    /// # Errors
    /// When the session was planned without, or the kernel refuses.
    pub fn express(&self, highest: Gear) -> Result<Express, Error> {
        let with_arrays = self.nics.first().map(|nic| &nic.copy);
        let first = with_arrays.ok_or_else(|| Error::Plan("there is no underlay device".into()))?;
        let nics = self.nics.iter();
        let nics = nics.map(|nic| (nic.plan.ifindex, nic.plan.name.as_str()));
        let frame_max = self.devices.iter().map(|SteeredDevice { plan, .. }| {
            let frame_max = plan.mtu.saturating_add(ethernet::LEN as u32);
            (plan.ifindex, frame_max)
        });
        let frame_max = frame_max.collect();
        Express::load(first, self.workers, self.direct, highest, nics, frame_max)
    }

    /// How long frames may be that leave the vxlan devices: without a limit until one is set.
    pub fn frame_limits(&self) -> FrameLimits {
        self.frame_limits.clone()
    }

    /// Which frames that leave the vxlan devices are the kernel's whatever their length: none until somebody says so.
    pub fn kernel_shares(&self) -> KernelShares {
        self.kernel_shares.clone()
    }

    /// Gives the frames of a queue, of an underlay device or of an access device's worker side, to a socket.
    ///
    /// # Errors
    /// When the device is not in the plan, or the kernel refuses.
    pub fn set_socket(
        &mut self,
        ifindex: u32,
        queue: u32,
        socket: BorrowedFd<'_>,
    ) -> Result<(), Error> {
        let nics = self.nics.iter().map(|nic| (nic.plan.ifindex, &nic.copy));
        let devices = self
            .devices
            .iter()
            .map(|device| (device.plan.worker_side.ifindex, &device.copy));
        let copy = nics
            .chain(devices)
            .find(|(of, _)| *of == ifindex)
            .map(|(_, copy)| copy);
        let copy =
            copy.ok_or_else(|| Error::Plan(format!("device {ifindex} is not in the plan")))?;
        copy.set_socket(queue, socket)
    }

    /// Attaches every program; frames flow when this returns. Tells for each device with XDP how it runs, and why not
    /// natively.
    ///
    /// Every attachment takes the kernel some grace periods of RCU. So the programs pass every frame until the last of them
    /// is in place, and then all begin at once: a frame is never steered to where it would be lost.
    ///
    /// When the process is killed, the links take the kernel as long again. But its descriptors are released from the
    /// highest to the lowest (`exit_task_work`), and the highest are those of the arrays without which no program steers.
    ///
    /// # Errors
    /// When a device has another XDP program, or takes none.
    pub fn attach(&mut self) -> Result<Vec<(u32, XdpMode, Option<String>)>, Error> {
        let modes = self.attach_bypassed()?;
        self.set_bypass(false);
        Ok(modes)
    }

    /// As [`Steering::attach`], but every frame stays the kernel's until [`Steering::set_bypass`] says otherwise.
    ///
    /// # Errors
    /// As [`Steering::attach`].
    pub fn attach_bypassed(&mut self) -> Result<Vec<(u32, XdpMode, Option<String>)>, Error> {
        self.set_bypass(true);
        let mut modes = self.attach_worker_sides()?;
        self.attach_classifiers()?;
        modes.extend(self.attach_underlays()?);
        self.lifelines.clear();
        let nics = self.nics.iter().map(|nic| &nic.copy);
        for copy in nics.chain(self.devices.iter().map(|device| &device.copy)) {
            self.lifelines.extend(copy.lifelines()?);
        }
        Ok(modes)
    }

    fn attach_worker_sides(&mut self) -> Result<Vec<(u32, XdpMode, Option<String>)>, Error> {
        let mut modes = Vec::new();
        for device in &mut self.devices {
            let end = &device.plan.worker_side;
            let (hook, mode, why) =
                attach_xdp(&device.copy, "vxgate_access", end.ifindex, &end.name)?;
            device.xdp = Some(hook);
            modes.push((end.ifindex, mode, why));
        }
        Ok(modes)
    }

    fn attach_classifiers(&mut self) -> Result<(), Error> {
        let by_link = self.by_link;
        let ingress = |copy, program, end: &AccessLink| {
            attach_classifier(
                copy,
                program,
                end.ifindex,
                &end.name,
                Side::Ingress,
                by_link,
            )
        };
        for nic in &mut self.nics {
            if let Some(tap) = &nic.plan.wire_tap {
                nic.wire = Some(ingress(&nic.copy, "vxgate_wire", tap)?);
            }
        }
        for device in &mut self.devices {
            let (copy, plan) = (&device.copy, &device.plan);
            device.ingress = Some(ingress(copy, "vxgate_ingress", &plan.kernel_side)?);
            if let Some(tap) = &plan.access_tap {
                device.tap_ingress = Some(ingress(copy, "vxgate_ingress", tap)?);
            }
        }
        for device in &mut self.devices {
            let (ifindex, name) = (device.plan.ifindex, &device.plan.name);
            device.egress = Some(attach_classifier(
                &device.copy,
                EGRESS_PROGRAM,
                ifindex,
                name,
                Side::Egress,
                by_link,
            )?);
        }
        Ok(())
    }

    fn attach_underlays(&mut self) -> Result<Vec<(u32, XdpMode, Option<String>)>, Error> {
        let mut modes = Vec::new();
        for nic in &mut self.nics {
            let (hook, mode, why) = attach_xdp(
                &nic.copy,
                "vxgate_underlay",
                nic.plan.ifindex,
                &nic.plan.name,
            )?;
            nic.hook = Some(hook);
            modes.push((nic.plan.ifindex, mode, why));
        }
        Ok(modes)
    }

    /// Leaves every frame to the kernel, or no longer. What workers send into the overlay still goes through.
    pub fn set_bypass(&self, on: bool) {
        self.bypass.store(0, u64::from(on));
    }

    /// Detaches everything, in reverse.
    pub fn detach(&mut self) {
        self.devices
            .iter_mut()
            .for_each(|device| device.egress = None);
        self.nics.iter_mut().for_each(|nic| nic.hook = None);
        for device in &mut self.devices {
            device.tap_ingress = None;
            device.ingress = None;
        }
        self.nics.iter_mut().for_each(|nic| nic.wire = None);
        self.devices.iter_mut().for_each(|device| device.xdp = None);
    }

    /// The counters of all programs.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn counters(&self) -> Result<Vec<SteerCounters>, Error> {
        let mut all = Vec::new();
        for nic in &self.nics {
            all.push(nic.copy.counters(copy::COUNTS_UNDERLAY, nic.plan.ifindex)?);
        }
        for SteeredDevice { plan, copy, .. } in &self.devices {
            all.push(copy.counters(copy::COUNTS_EGRESS, plan.ifindex)?);
            all.push(copy.counters(copy::COUNTS_INGRESS, plan.kernel_side.ifindex)?);
            all.push(copy.counters(copy::COUNTS_WORKER_SIDE, plan.worker_side.ifindex)?);
            if let Some(tap) = &plan.access_tap {
                all.push(copy.counters(copy::COUNTS_TAP, tap.ifindex)?);
            }
        }
        Ok(all)
    }
}

impl Drop for Steering {
    /// In the order of [`Steering::detach`]: undone field by field, an access device would lose its programs while the
    /// vxlan device still sends to it.
    fn drop(&mut self) {
        self.detach();
    }
}

/// The devices, by index, that have classifiers of the older kind (clsact, ingress).
///
/// # Errors
/// When the kernel does not tell.
pub fn devices_with_clsact(socket: &mut Socket) -> Result<Vec<u32>, netlink::Error> {
    qdisc::devices_with_clsact(socket)
}

/// Removes what killed processes left in this namespace: access devices, and filters on vxlan devices where the kernel
/// has no tcx. Returns their names.
///
/// # Errors
/// When the kernel refuses.
pub fn remove_leftovers() -> Result<Vec<String>, Error> {
    messages::to_log();
    let mut removed = access::remove_leftovers()?;
    let mut socket = Socket::open().map_err(|source| netlink::Error::Io {
        doing: "open",
        source,
    })?;
    let links = netlink::links(&mut socket)?;
    for link in inspect::unserved(&mut socket, &links)? {
        if hooks::remove_filter(link.ifindex, Side::Egress, EGRESS_PROGRAM) {
            removed.push(format!("clsact filter on {}", link.name));
        }
    }
    Ok(removed)
}

/// A copy of the programs for each NIC, then one for each vxlan device.
fn load_copies(plan: &SteerPlan) -> Result<Vec<Copy>, Error> {
    let SteerPlan {
        workers,
        chains,
        frame_max,
        direct,
        ..
    } = *plan;
    let nics = plan.nics.iter().map(|nic| Settings {
        workers,
        flow_sets: direct.map_or(0, DirectPlan::sets),
        peers: direct.map_or(0, |direct| direct.peers),
        device: nic.ifindex,
        frame_max,
        chains,
        mac: nic.mac,
        ..Settings::default()
    });
    let devices = plan.devices.iter().map(|device| Settings {
        workers,
        chains,
        flow_sets: direct.map_or(0, DirectPlan::sets),
        peers: direct.map_or(0, |plan| plan.peers),
        kernel_side: device.kernel_side.ifindex,
        device: device.ifindex,
        frame_max: device.mtu.saturating_add(ethernet::LEN as u32),
        gbp: device.gbp,
        tap: device.access_tap.as_ref().map_or(0, |tap| tap.ifindex),
        ..Settings::default()
    });
    let mut copies: Vec<Copy> = Vec::new();
    for settings in nics.chain(devices) {
        copies.push(Copy::load(&settings, copies.first())?);
    }
    Ok(copies)
}

fn attach_xdp(
    copy: &Copy,
    program: &'static str,
    ifindex: u32,
    device: &str,
) -> Result<(Hook, XdpMode, Option<String>), Error> {
    let fd = copy.program(program)?;
    let fd = fd.as_fd();
    let native = match hooks::attach_xdp(fd, ifindex, XdpMode::Native) {
        Ok(hook) => return Ok((hook, XdpMode::Native, None)),
        Err(error) => error,
    };
    if let Some((program, mode)) = hooks::xdp_program(ifindex) {
        return Err(Error::ForeignProgram {
            device: device.to_owned(),
            program,
            mode,
        });
    }
    match hooks::attach_xdp(fd, ifindex, XdpMode::Generic) {
        Ok(hook) => Ok((
            hook,
            XdpMode::Generic,
            Some(format!("the driver refused native XDP: {native}")),
        )),
        Err(source) => Err(Error::Attach {
            program,
            device: device.to_owned(),
            source,
        }),
    }
}

fn attach_error(program: &'static str, device: &str, source: std::io::Error) -> Error {
    Error::Attach {
        program,
        device: device.to_owned(),
        source,
    }
}

fn attach_classifier(
    copy: &Copy,
    program: &'static str,
    ifindex: u32,
    device: &str,
    side: Side,
    by_link: bool,
) -> Result<Hook, Error> {
    hooks::attach_classifier(copy.program(program)?.as_fd(), ifindex, side, by_link).map_err(
        |source| Error::Attach {
            program,
            device: device.to_owned(),
            source,
        },
    )
}
