//! Why flows do not go the direct path, or TCP does not, or none goes express: what the kernel is too old for, and what would be bypassed unheard.

use std::fs;
use std::io;

use crate::fault::{Explained, Fault};
use crate::netlink;
use crate::steer::{self, Gear};

/// `1`: conntrack takes segments whose predecessors it has not seen.
const LIBERAL: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal";
/// Tables of `iptables-legacy` and `ip6tables-legacy`, one a line.
const LEGACY_TABLES: [(&str, &str); 2] = [
    ("ip", "/proc/thread-self/net/ip_tables_names"),
    ("ip6", "/proc/thread-self/net/ip6_tables_names"),
];

/// Why not.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// The kernel lacks what the gear needs.
    #[error(transparent)]
    Kernel(#[from] steer::TooOld),
    /// Rules change without a word.
    #[error("rules of iptables-legacy (tables {tables}) change without an announcement")]
    LegacyRules {
        /// Which.
        tables: String,
    },
    /// Sets change without a word.
    #[error("ipsets (there are {count}) change without an announcement")]
    Ipsets {
        /// How many.
        count: usize,
    },
    /// Nobody knows whether there are sets.
    #[error("the kernel does not tell whether there are ipsets: {0}")]
    IpsetsUnknown(netlink::Error),
    /// Connections could not come back.
    #[error("conntrack would call segments invalid whose predecessors it has not seen")]
    StrictConntrack,
    /// Programs or maps of the gear.
    #[error(transparent)]
    Programs(#[from] steer::Error),
    /// Changes cannot be heard of.
    #[error("cannot listen to what changes: {0}")]
    Deaf(#[from] io::Error),
    /// Nobody listens any more.
    #[error("the thread that listens to what changes has ended by itself")]
    Ended,
    /// What there is before anything changes cannot be asked for.
    #[error("cannot learn what there is: {0}")]
    Unasked(#[from] netlink::Error),
}

impl Explained for Refused {
    fn fault(&self) -> Fault {
        match self {
            Self::Kernel(_) => Fault::DirectUnsupported,
            Self::LegacyRules { .. } | Self::Ipsets { .. } | Self::IpsetsUnknown(_) => {
                Fault::FiltersUnheard
            }
            Self::StrictConntrack => Fault::ConntrackStrict,
            Self::Programs(error) => error.fault(),
            Self::Deaf(_) | Self::Unasked(_) | Self::Ended => Fault::ChangesUnheard,
        }
    }

    fn why(&self) -> Option<String> {
        match self {
            Self::Programs(error) => error.why(),
            _ => None,
        }
    }

    fn remedy(&self) -> Option<String> {
        let words = match self {
            Self::LegacyRules { .. } => {
                "use iptables-nft and ip6tables-nft, or nft; or --direct always, where no rule is to stop a flow"
            }
            Self::Ipsets { .. } => {
                "use sets of nft; or --direct always, where no rule is to stop a flow"
            }
            Self::Ended => "restart vxgate, and report what it has logged of a panic",
            Self::StrictConntrack => "sysctl net.netfilter.nf_conntrack_tcp_be_liberal=1",
            Self::Programs(error) => return error.remedy(),
            Self::Kernel(_) | Self::IpsetsUnknown(_) | Self::Deaf(_) | Self::Unasked(_) => {
                return None;
            }
        };
        Some(words.to_owned())
    }
}

/// Whether the kernel has what the direct path needs, be it in its lower gear.
pub(super) fn kernel() -> Result<(), Refused> {
    Ok(Gear::Ring.check_kernel()?)
}

/// Whether it has what express needs.
pub(super) fn kernel_for_express() -> Result<(), Refused> {
    Ok(Gear::Express.check_kernel()?)
}

/// Whether everything in this namespace that may filter frames says so when it changes.
pub(super) fn filters() -> Result<(), Refused> {
    let mut tables = Vec::new();
    for (family, file) in LEGACY_TABLES {
        let named = fs::read_to_string(file).unwrap_or_default();
        let named = named.split_whitespace();
        tables.extend(named.map(|table| format!("{family} {table}")));
    }
    if !tables.is_empty() {
        let tables = tables.join(", ");
        return Err(Refused::LegacyRules { tables });
    }
    match netlink::ipsets() {
        Ok(0) => Ok(()),
        Ok(count) => Err(Refused::Ipsets { count }),
        Err(error) => Err(Refused::IpsetsUnknown(error)),
    }
}

/// Whether there is a conntrack in this namespace.
pub(super) fn is_tracked() -> bool {
    fs::exists(LIBERAL).unwrap_or(false)
}

/// Whether connections can come back from the direct path without conntrack calling them invalid.
pub(super) fn conntrack() -> Result<(), Refused> {
    // Without conntrack there is no such setting.
    let liberal = fs::read_to_string(LIBERAL).unwrap_or_else(|_| "1".to_owned());
    if liberal.trim() == "0" {
        return Err(Refused::StrictConntrack);
    }
    Ok(())
}
