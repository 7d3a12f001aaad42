//! Why the gateway did not start.

use super::{MissingCapabilities, PlanError, SessionError};
use crate::fault::{Explained, Fault};
use crate::{control, netlink};

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The process may not.
    #[error(transparent)]
    Privileges(#[from] MissingCapabilities),
    /// There is nothing to take over.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The kernel did not tell its devices.
    #[error("cannot list the network devices: {0}")]
    Netlink(#[from] netlink::Error),
    /// A leftover of a killed process stands in the way.
    #[error(transparent)]
    Steer(#[from] crate::steer::Error),
    /// The takeover failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The mirror failed.
    #[error(transparent)]
    Control(#[from] control::Error),
}

impl StartError {
    /// What it passes on: it says nothing of its own.
    fn inner(&self) -> &dyn Explained {
        match self {
            Self::Privileges(error) => error,
            Self::Plan(error) => error,
            Self::Netlink(error) => error,
            Self::Steer(error) => error,
            Self::Session(error) => error,
            Self::Control(error) => error,
        }
    }
}

impl Explained for StartError {
    fn fault(&self) -> Fault {
        self.inner().fault()
    }

    fn why(&self) -> Option<String> {
        self.inner().why()
    }

    fn remedy(&self) -> Option<String> {
        self.inner().remedy()
    }
}
