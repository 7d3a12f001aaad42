//! The lanes of superframes: a TAP beside the access pair of each device, and for each underlay device the way by which they
//! leave. A device without a lane is carried all the same, segment by segment, and the reason is in its state.
//!
//! | way | what happens | where |
//! |---|---|---|
//! | `wire-gso` | a TAP in front of the underlay device takes them whole; the kernel or the NIC cuts | the kernel cuts what is in a UDP tunnel and comes from a TAP (Linux 6.17), and the device has no zero-copy |
//! | `cut` | a worker cuts, and sends frames by its sockets | everywhere else, or where it is asked for |
//!
//! With zero-copy a frame costs a descriptor, and the kernel's own path costs more than that; in copy mode each frame is a
//! system call's work, and a superframe is not more.

use super::plan::{Nic, Plan};
use crate::config::Superframes;
use crate::control::Found;
use crate::fault;
use crate::port::{ChunkSize, TapPort, Umem, UmemConfig};
use crate::steer::{AccessLink, Tap};
use crate::worker::Departure;

/// Superframes that a worker holds for each of its access TAPs, and as many for copies.
const FRAMES: u32 = 8;

/// The TAPs of a session.
#[derive(Debug)]
pub(super) struct Lanes {
    /// In the order of the plan's devices: the TAP, or why there is none.
    pub accesses: Vec<Result<Tap, String>>,
    /// In the order of the plan's underlay devices: how superframes leave, or why there are none.
    ways: Vec<Result<Way, String>>,
}

/// How superframes leave by an underlay device.
#[derive(Debug)]
enum Way {
    /// By a TAP in front of it.
    Wire(Tap),
    /// Cut by the workers; and why.
    Cut(String),
}

impl Lanes {
    /// Makes all that can be made.
    pub fn make(plan: &Plan) -> Self {
        let made = |tap: Result<Tap, crate::steer::Error>| tap.map_err(|error| fault::line(&error));
        let way = |nic: &Nic| match plan.superframes {
            Superframes::Off => Err("switched off by --superframes".to_owned()),
            Superframes::Cut => Ok(Way::Cut("asked for by --superframes".to_owned())),
            Superframes::Auto => Ok(match made(Tap::wire(&nic.name, plan.workers)) {
                Ok(tap) => Way::Wire(tap),
                Err(why) => Way::Cut(why),
            }),
        };
        let ways: Vec<_> = plan.nics.iter().map(way).collect();
        let access = |found: &Found| {
            if found.device.gbp {
                return Err("the device's frames carry marks (gbp)".to_owned());
            }
            let way = plan.wire_of(found).and_then(|nic| ways.get(nic));
            match way {
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
        let used: Vec<bool> = (0..ways.len()).map(used).collect();
        let idle = || Err("no device's superframes leave by it".to_owned());
        let ways = ways.into_iter().zip(used);
        let ways = ways.map(|(way, used)| if used { way } else { idle() });
        Self {
            ways: ways.collect(),
            accesses,
        }
    }

    /// Gives the TAP in front of an underlay device up, because its sockets are zero-copy; whether there was one.
    pub fn give_up_wire(&mut self, nic: usize) -> bool {
        let way = self.ways.get_mut(nic);
        let Some(way) = way.filter(|way| matches!(way, Ok(Way::Wire(_)))) else {
            return false;
        };
        *way = Ok(Way::Cut("its sockets are zero-copy".to_owned()));
        true
    }

    /// Logs what is not as one would have it, unless it was asked for.
    pub fn tell(&self, plan: &Plan) {
        if plan.superframes != Superframes::Off {
            for (found, access) in plan.devices.iter().zip(&self.accesses) {
                if let Err(why) = access {
                    tracing::warn!(device = found.device.name, why, "no superframes");
                }
            }
        }
        if plan.superframes == Superframes::Auto {
            for (nic, way) in plan.nics.iter().zip(&self.ways) {
                if let Ok(Way::Cut(why)) = way {
                    tracing::info!(device = nic.name, why, "superframes are cut by the workers");
                }
            }
        }
    }

    /// The TAP of a device, by its place in the plan.
    pub fn access(&self, device: usize) -> Option<&Tap> {
        self.accesses.get(device)?.as_ref().ok()
    }

    /// The TAP in front of an underlay device, by its place in the plan; none when nothing would leave by it.
    pub fn wire(&self, nic: usize) -> Option<&Tap> {
        match self.ways.get(nic)?.as_ref().ok()? {
            Way::Wire(tap) => Some(tap),
            Way::Cut(_) => None,
        }
    }

    /// How superframes leave by an underlay device, in a word, and why not whole; none when there are none.
    pub fn way(&self, nic: usize) -> Option<(&'static str, Option<&str>)> {
        Some(match self.ways.get(nic)?.as_ref().ok()? {
            Way::Wire(_) => ("wire-gso", None),
            Way::Cut(why) => ("cut", Some(why)),
        })
    }

    /// Every TAP's device.
    pub fn links(&self) -> impl Iterator<Item = &AccessLink> {
        let accesses = self.accesses.iter().flatten();
        accesses.chain(self.wires()).map(|tap| &tap.link)
    }

    /// The TAPs in front of underlay devices.
    fn wires(&self) -> impl Iterator<Item = &Tap> {
        (0..self.ways.len()).filter_map(|nic| self.wire(nic))
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
        self.wires()
            .map(|tap| Ok(TapPort::wire(tap.queue(worker)?, superframes)))
            .collect()
    }

    /// How a worker lets superframes go that leave by an underlay device, whose socket is its `underlay`-th: whole by one of
    /// [`Lanes::wire_ports`], or cut.
    pub fn departure(&self, nic: usize, underlay: usize) -> Departure {
        match self.wire(nic) {
            Some(_) => Departure::Whole((0..nic).filter_map(|nic| self.wire(nic)).count()),
            None => Departure::Cut(underlay),
        }
    }
}
