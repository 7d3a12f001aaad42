//! The lanes of superframes: a TAP beside the access pair of each device, and one in front of each underlay device. A device
//! without them is carried all the same, segment by segment, and the reason is in its state.

use super::plan::Plan;
use crate::config::Superframes;
use crate::control::Found;
use crate::port::{ChunkSize, TapPort, Umem, UmemConfig};
use crate::steer::{AccessLink, Tap};

/// Superframes that a worker holds for each of its access TAPs, and as many for copies.
const FRAMES: u32 = 8;

/// The TAPs of a session.
#[derive(Debug)]
pub(super) struct Lanes {
    /// In the order of the plan's devices: the TAP, or why there is none.
    pub accesses: Vec<Result<Tap, String>>,
    /// In the order of the plan's underlay devices: likewise.
    wires: Vec<Result<Tap, String>>,
}

impl Lanes {
    /// Makes all that can be made.
    pub fn make(plan: &Plan) -> Self {
        let made = |tap: Result<Tap, crate::steer::Error>| tap.map_err(|error| error.to_string());
        let wires: Vec<_> = plan
            .nics
            .iter()
            .map(|nic| match plan.superframes {
                Superframes::Off => Err("switched off by --superframes".to_owned()),
                Superframes::Auto => made(Tap::wire(&nic.name, plan.workers)),
            })
            .collect();
        let access = |found: &Found| {
            if found.device.gbp {
                return Err("the device's frames carry marks (gbp)".to_owned());
            }
            let wire = plan.wire_of(found).and_then(|wire| wires.get(wire));
            match wire {
                Some(Ok(_)) => made(Tap::access(&found.device.name, plan.workers)),
                Some(Err(why)) => Err(why.clone()),
                None => Err("no underlay device".to_owned()),
            }
        };
        let accesses: Vec<_> = plan.devices.iter().map(access).collect();
        let used = |nic: usize| {
            let devices = plan.devices.iter().zip(&accesses);
            let mut with_tap = devices.filter(|(_, access)| access.is_ok());
            with_tap.any(|(found, _)| plan.wire_of(found) == Some(nic))
        };
        let used: Vec<bool> = (0..wires.len()).map(used).collect();
        let idle = || Err("no device's superframes leave by it".to_owned());
        let wires = wires.into_iter().zip(used);
        let wires = wires.map(|(wire, used)| if used { wire } else { idle() });
        let lanes = Self {
            wires: wires.collect(),
            accesses,
        };
        if plan.superframes == Superframes::Auto {
            lanes.tell(plan);
        }
        lanes
    }

    fn tell(&self, plan: &Plan) {
        for (found, access) in plan.devices.iter().zip(&self.accesses) {
            if let Err(why) = access {
                tracing::warn!(device = found.device.name, why, "no superframes");
            }
        }
    }

    /// The TAP of a device, by its place in the plan.
    pub fn access(&self, device: usize) -> Option<&Tap> {
        self.accesses.get(device)?.as_ref().ok()
    }

    /// The TAP in front of an underlay device, by its place in the plan; none when nothing would leave by it.
    pub fn wire(&self, nic: usize) -> Option<&Tap> {
        self.wires.get(nic)?.as_ref().ok()
    }

    /// Every TAP's device.
    pub fn links(&self) -> impl Iterator<Item = &AccessLink> {
        let taps = self.accesses.iter().chain(&self.wires);
        taps.flatten().map(|tap| &tap.link)
    }

    /// Memory for one worker's superframes; none without a TAP to receive them from.
    pub fn memory(&self) -> std::io::Result<Option<Umem>> {
        let taps = self.accesses.iter().flatten().count();
        if taps == 0 {
            return Ok(None);
        }
        let frames = u32::try_from(taps + 1).unwrap_or(u32::MAX);
        Umem::new(UmemConfig {
            chunk: ChunkSize::Superframe,
            frames: frames.saturating_mul(FRAMES),
            lock: false,
        })
        .map(Some)
    }

    /// One worker's queue of every wire TAP.
    pub fn wire_ports(
        &self,
        worker: u32,
        superframes: &Umem,
    ) -> Result<Vec<TapPort>, crate::steer::Error> {
        let ports = self.wires.iter().flatten();
        ports
            .map(|tap| Ok(TapPort::wire(tap.queue(worker)?, superframes)))
            .collect()
    }

    /// The place of an underlay device's port among [`Lanes::wire_ports`].
    pub fn wire_place(&self, nic: usize) -> usize {
        self.wires.iter().take(nic).flatten().count()
    }
}
