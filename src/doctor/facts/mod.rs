//! What is to be judged, gathered in one step and without touching anything. The checks see nothing else, so that each of
//! them is tried on facts that were written down.

mod access;
mod daemon;
mod overlay;
mod sockets;
mod system;
mod underlay;

use std::path::PathBuf;

use crate::config::{Config, Settings};
use crate::control::{self, SegmentReport};
use crate::fault::{Explained, Fault};
use crate::gateway::{self, FdbEntryState, Plan, StartError};
use crate::netlink::{self, Address, Link, Socket};
use crate::steer::{self, Leftover};

pub use access::AccessEnd;
pub use daemon::Daemon;
pub use overlay::Overlay;
pub(in crate::doctor) use overlay::is_written;
pub use system::{Kernel, Process, Sysctls};
pub use underlay::{Classifier, Underlay};

/// The state of a node.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The running kernel.
    pub kernel: Kernel,
    /// What this process may do and have.
    pub process: Process,
    /// Settings of the kernel's network stack.
    pub sysctls: Sysctls,
    /// What `vxgate run` would take over.
    pub plan: Plan,
    /// The locked memory that it would take, in bytes.
    pub frame_memory: u64,
    /// Every device of the namespace.
    pub links: Vec<Link>,
    /// Every address.
    pub addresses: Vec<Address>,
    /// The devices below the vxlan devices, each once.
    pub underlays: Vec<Underlay>,
    /// The vxlan devices.
    pub overlays: Vec<Overlay>,
    /// The ends of the access devices of the running daemon.
    pub accesses: Vec<AccessEnd>,
    /// What dead processes left.
    pub leftovers: Vec<Leftover>,
    /// The daemon.
    pub daemon: Daemon,
    /// The FDB entries that only one of its workers and the kernel has.
    pub unlike: Vec<FdbEntryState>,
    /// Where its control socket is looked for.
    pub socket: PathBuf,
}

/// Why nothing can be judged.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// The kernel does not tell.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    /// The same, asked as `run` would.
    #[error(transparent)]
    Plan(#[from] StartError),
    /// The same, of what leads to peers.
    #[error(transparent)]
    Control(#[from] control::Error),
    /// The same, of what is attached.
    #[error(transparent)]
    Steer(#[from] steer::Error),
    /// The settings that nobody gave.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
}

impl GatherError {
    /// What it passes on.
    fn inner(&self) -> &dyn Explained {
        match self {
            Self::Netlink(error) => error,
            Self::Plan(error) => error,
            Self::Control(error) => error,
            Self::Steer(error) => error,
            Self::Config(error) => error,
        }
    }
}

impl Explained for GatherError {
    fn fault(&self) -> Fault {
        self.inner().fault()
    }

    fn passed_on(&self) -> Option<&dyn Explained> {
        Some(self.inner())
    }
}

impl Facts {
    /// Looks at everything, in the network namespace of this thread. `socket` is where the daemon would listen.
    ///
    /// # Errors
    /// When the kernel does not tell of its devices. What only root may know is left out.
    pub fn gather(socket: PathBuf) -> Result<Self, GatherError> {
        let opened = |source| netlink::Error::Io {
            doing: "opening a netlink socket",
            source,
        };
        let mut route = Socket::open().map_err(opened)?;
        let settings = Settings {
            socket: Some(socket.clone()),
            ..Settings::default()
        };
        let plan = gateway::plan(&Config::new(settings, Settings::default())?, &mut route)?;
        let links = netlink::links(&mut route)?;
        let addresses = netlink::addresses(&mut route)?;
        let compared = daemon::gather(&socket, || control::survey(&mut route, &plan.devices))?;
        let daemon = compared.daemon;
        let overlays = overlay::gather(&mut route, &plan, compared.surveys, &addresses)?;
        let underlays = underlay::gather(&mut route, &overlays)?;
        let accesses = access::gather(&mut route, &links, &daemon)?;
        let leftovers = steer::leftovers(&mut route, &links)?;
        Ok(Self {
            kernel: Kernel::gather(),
            process: Process::gather(),
            sysctls: Sysctls::gather(),
            frame_memory: gateway::frame_memory(&plan),
            plan,
            links,
            addresses,
            underlays,
            overlays,
            accesses,
            leftovers,
            daemon,
            unlike: compared.unlike,
            socket,
        })
    }

    /// The vxlan devices that can be taken over.
    pub(super) fn ready(&self) -> impl Iterator<Item = &Overlay> {
        self.overlays.iter().filter(|overlay| overlay.ready)
    }

    /// The segments, as the kernel's tables have them.
    pub(super) fn surveys(&self) -> impl Iterator<Item = &SegmentReport> {
        let surveys = self.overlays.iter();
        surveys.filter_map(|overlay| overlay.survey.as_ref())
    }
}
