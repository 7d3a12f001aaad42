//! What the process may do, asked before anything is touched.

use caps::{CapSet, Capability};

use crate::fault::{Explained, Fault};

/// A capability that is missing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("missing {}: {}", names(.0), reasons(.0))]
pub struct MissingCapabilities(Vec<Need>);

impl Explained for MissingCapabilities {
    fn fault(&self) -> Fault {
        Fault::CapabilityMissing
    }
}

/// A capability and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Need {
    capability: Capability,
    reason: &'static str,
}

const NEEDS: [Need; 3] = [
    Need {
        capability: Capability::CAP_NET_RAW,
        reason: "to open AF_XDP sockets",
    },
    Need {
        capability: Capability::CAP_NET_ADMIN,
        reason: "to make the access device and attach steering programs",
    },
    Need {
        capability: Capability::CAP_BPF,
        reason: "to load BPF programs",
    },
];

/// Checks the effective capabilities.
///
/// # Errors
/// Names every capability that is missing, and what it is needed for.
pub fn check() -> Result<(), MissingCapabilities> {
    check_with(|capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false))
}

fn check_with(has: impl Fn(Capability) -> bool) -> Result<(), MissingCapabilities> {
    // Before CAP_BPF existed (Linux 5.8), and still, CAP_SYS_ADMIN includes it.
    let granted = |need: &Need| {
        has(need.capability)
            || (need.capability == Capability::CAP_BPF && has(Capability::CAP_SYS_ADMIN))
    };
    let missing: Vec<Need> = NEEDS.into_iter().filter(|need| !granted(need)).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(MissingCapabilities(missing))
    }
}

fn names(needs: &[Need]) -> String {
    needs
        .iter()
        .map(|need| need.capability.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

fn reasons(needs: &[Need]) -> String {
    needs
        .iter()
        .map(|need| need.reason)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_capability_is_named_with_its_use() {
        let error = check_with(|capability| capability == Capability::CAP_NET_ADMIN).unwrap_err();
        assert_eq!(
            error.to_string(),
            "missing CAP_NET_RAW, CAP_BPF: to open AF_XDP sockets, to load BPF programs"
        );
    }

    #[test]
    fn sys_admin_stands_in_for_bpf() {
        assert_eq!(
            check_with(|capability| capability != Capability::CAP_BPF),
            Ok(())
        );
    }
}
