//! Why the mirror cannot start.

use std::io;

use crate::fault::{Explained, Fault};
use crate::netlink;

/// Why the mirror cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel's answer to a question.
    #[error("mirroring the kernel's configuration: {0}")]
    Netlink(#[from] netlink::Error),
    /// A system call.
    #[error("mirroring the kernel's configuration: {doing}: {source}")]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// A device that must be left to the kernel was asked for.
    #[error("vxlan device {device} cannot be mirrored: {why}")]
    Ineligible {
        /// Its name.
        device: String,
        /// The reason, a whole sentence.
        why: String,
    },
    /// More devices than a segment number can tell apart.
    #[error("{0} vxlan devices are more than one process can serve (65536)")]
    TooMany(usize),
}

impl Explained for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Netlink(_) | Self::Io { .. } => Fault::MirrorFailed,
            Self::Ineligible { .. } => Fault::DeviceRefused,
            Self::TooMany(_) => Fault::DevicesTooMany,
        }
    }
}
