//! What can go wrong with steering.

use std::io;

use libbpf_rs::ErrorKind;

use crate::fault::{Explained, Fault};
use crate::netlink;

/// A steering step that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel does not take a BPF program or map.
    #[error("cannot load the steering programs: {0:#}")]
    Load(libbpf_rs::Error),
    /// No descriptor is left.
    #[error("cannot get a descriptor for a steering program: {0}")]
    Descriptor(io::Error),
    /// Memory that programs and workers share could not be mapped.
    #[error("cannot map the heartbeat: {0}")]
    Heartbeat(io::Error),
    /// Another program has the hook.
    #[error("{device} already runs another XDP program ({program})")]
    ForeignProgram {
        /// The device's name.
        device: String,
        /// The other program's number and name.
        program: String,
        /// How it runs, in the words of `ip link`: `xdp`, `xdpgeneric` or `xdpoffload`.
        mode: &'static str,
    },
    /// A hook refused the program.
    #[error("cannot attach {program} to {device}: {source}")]
    Attach {
        /// Which program.
        program: &'static str,
        /// The device's name.
        device: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A socket or segment could not be told to the programs.
    #[error("cannot tell the steering programs of {what}: {source:#}")]
    Map {
        /// What.
        what: String,
        /// The kernel's answer.
        source: libbpf_rs::Error,
    },
    /// The plan has more than the programs can hold, or contradicts itself.
    #[error("cannot steer: {0}")]
    Plan(String),
    /// The access device could not be made, set up or removed.
    #[error("access device {device}: cannot {doing}: {source}")]
    Access {
        /// Its name.
        device: String,
        /// What was attempted.
        doing: &'static str,
        /// The kernel's answer.
        source: netlink::Error,
    },
    /// A setting of the access device could not be made.
    #[error("access device {device}: cannot {doing}: {source}")]
    Setting {
        /// Its name.
        device: String,
        /// What was attempted.
        doing: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Nothing could be claimed for an access device.
    #[error("cannot claim an access device for {device}: {source}")]
    Claim {
        /// The vxlan device's name.
        device: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Devices could not be listed.
    #[error("cannot list network devices: {0}")]
    Links(#[from] netlink::Error),
}

impl Explained for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Load(error) => match error.kind() {
                ErrorKind::PermissionDenied => Fault::ProgramsDenied,
                ErrorKind::OutOfMemory => Fault::ProgramsWithoutMemory,
                _ => Fault::ProgramsUnsupported,
            },
            Self::Descriptor(_) => Fault::DescriptorsExhausted,
            Self::Heartbeat(_) => Fault::HeartbeatNotMapped,
            Self::ForeignProgram { .. } => Fault::ForeignProgram,
            Self::Attach { .. } => Fault::AttachRefused,
            Self::Map { .. } => Fault::ProgramsNotTold,
            Self::Plan(_) => Fault::PlanContradicts,
            Self::Access { .. } | Self::Setting { .. } | Self::Claim { .. } => {
                Fault::AccessDeviceRefused
            }
            Self::Links(_) => Fault::KernelSilent,
        }
    }

    fn why(&self) -> Option<String> {
        let Self::Attach { source, .. } = self else {
            return None;
        };
        let cause = match source.raw_os_error() {
            Some(libc::EPERM) => "CAP_NET_ADMIN and CAP_BPF are needed",
            Some(libc::ENODEV) => "the device is gone",
            _ => return None,
        };
        Some(cause.to_owned())
    }

    fn remedy(&self) -> Option<String> {
        match self {
            Self::ForeignProgram { device, mode, .. } => Some(format!(
                "stop the process that holds it, or detach it by `ip link set dev {device} {mode} off`, then start again"
            )),
            _ => None,
        }
    }
}
