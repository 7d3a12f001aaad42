//! Why a session does not come up.

use std::io;

use crate::control;
use crate::fault::{Explained, Fault};
use crate::gateway::lock::LockError;
use crate::port::OpenError;
use crate::steer;

/// Why a session did not come up. Everything it had made is gone again.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// A device is somebody else's.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// BPF, the access device or an attachment.
    #[error(transparent)]
    Steer(#[from] steer::Error),
    /// The UMEM.
    #[error("cannot make the memory for frames: {0}")]
    Umem(io::Error),
    /// A socket.
    #[error(transparent)]
    Port(#[from] OpenError),
    /// The mirror of the kernel's tables.
    #[error("cannot mirror the kernel's tables: {0}")]
    Control(#[from] control::Error),
    /// No descriptor is left for the books.
    #[error("cannot watch a socket's counters: {0}")]
    Statistics(io::Error),
    /// A thread.
    #[error("cannot start worker {worker}: {source}")]
    Worker {
        /// Its number.
        worker: u32,
        /// What the kernel said.
        source: io::Error,
    },
}

impl SessionError {
    /// The error that this one only passes on.
    fn inner(&self) -> Option<&dyn Explained> {
        match self {
            Self::Lock(error) => Some(error),
            Self::Steer(error) => Some(error),
            Self::Port(error) => Some(error),
            Self::Control(error) => Some(error),
            Self::Umem(_) | Self::Statistics(_) | Self::Worker { .. } => None,
        }
    }
}

impl Explained for SessionError {
    fn fault(&self) -> Fault {
        match self {
            Self::Lock(error) => error.fault(),
            Self::Steer(error) => error.fault(),
            Self::Port(error) => error.fault(),
            Self::Control(error) => error.fault(),
            Self::Umem(_) => Fault::FrameMemoryRefused,
            Self::Statistics(_) => Fault::SocketCountersRefused,
            Self::Worker { .. } => Fault::ThreadRefused,
        }
    }

    fn why(&self) -> Option<String> {
        self.inner()?.why()
    }

    fn remedy(&self) -> Option<String> {
        self.inner()?.remedy()
    }
}
