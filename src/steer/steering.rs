//! The programs of a session: loaded, attached, told, and detached.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::attachment::{attach_classifier, attach_xdp};
use super::copy::{self, Copy, HEARTBEAT_STRIDE, Settings, WORKERS_MAX};
use super::heartbeat::Cells;
use super::hooks::{Hook, Side};
use super::{
    AccessLink, DevicePlan, DirectPlan, EGRESS_PROGRAM, Error, Express, FrameLimits, Gear,
    Heartbeat, KernelShares, NicPlan, SteerPlan, XdpMode, messages,
};
use crate::stats::PassReason;
use crate::wire::ethernet;

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

    /// Whether everything that was attached is so still. A device that is made again at once may have the same index, and look the
    /// same: nothing else tells it from the one that had our programs.
    pub fn is_attached(&self) -> bool {
        let nics = self.nics.iter();
        let nics = nics.flat_map(|nic| [&nic.hook, &nic.wire]);
        let devices = self.devices.iter();
        let devices = devices.flat_map(|device| {
            [
                &device.xdp,
                &device.ingress,
                &device.tap_ingress,
                &device.egress,
            ]
        });
        nics.chain(devices).flatten().all(Hook::is_attached)
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
        frame_max: frame_max.min(nic.mtu.saturating_add(ethernet::LEN as u32)),
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
