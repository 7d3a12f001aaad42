//! The kernel, this process, and the settings of the network stack.

use std::fs;

use caps::{CapSet, Capability};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Resource, getrlimit};

use crate::gateway;
use crate::port::takes_chains;
use crate::steer::{KernelVersion, has_tcx, kernel_version};

/// `AF_XDP` (`linux/socket.h`).
const AF_XDP: u16 = 44;
/// The loopback device: every namespace has it.
const ANY_DEVICE: u32 = 1;
/// Where the kernel's types lie, for programs that are fitted to the running kernel.
const TYPES: &str = "/sys/kernel/btf/vmlinux";
/// Where systemd's rules for devices lie; a file in an earlier folder stands for one of the same name in a later one.
const LINK_FOLDERS: [&str; 3] = [
    "/etc/systemd/network",
    "/run/systemd/network",
    "/usr/lib/systemd/network",
];

/// What the kernel can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Its version, as `uname -r` has it.
    pub release: String,
    /// Whether it has AF_XDP sockets; none where it does not let us ask.
    pub af_xdp: Option<bool>,
    /// Whether their frames may take several buffers.
    pub chains: bool,
    /// Whether it has tcx; none where it does not let us ask.
    pub tcx: Option<bool>,
    /// Whether it tells its own types (BTF).
    pub types: bool,
}

impl Kernel {
    pub(super) fn gather() -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let made = rustix::net::socket_with(
            AddressFamily::from_raw(AF_XDP),
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        );
        let af_xdp = match made {
            Ok(_) => Some(true),
            Err(Errno::AFNOSUPPORT) => Some(false),
            Err(_) => None,
        };
        Self {
            release: release.trim().to_owned(),
            af_xdp,
            chains: takes_chains(),
            tcx: has_tcx(ANY_DEVICE),
            types: fs::exists(TYPES).unwrap_or(false),
        }
    }

    /// The first two numbers of its version.
    pub fn version(&self) -> Option<KernelVersion> {
        kernel_version(&self.release)
    }
}

/// What this process may do and have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Which capabilities it lacks, and what for; none when it has all.
    pub lacks: Option<String>,
    /// Whether the limit of locked memory does not count (`CAP_IPC_LOCK`).
    pub may_lock: bool,
    /// That limit, in bytes; none for no limit.
    pub memlock: Option<u64>,
    /// Memory that could be had, in bytes, where the kernel tells.
    pub available: Option<u64>,
    /// Cores that it may run on.
    pub cores: u32,
}

impl Process {
    pub(super) fn gather() -> Self {
        let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            lacks: gateway::check_privileges()
                .err()
                .map(|lacks| lacks.to_string()),
            may_lock: has(Capability::CAP_IPC_LOCK),
            memlock: getrlimit(Resource::Memlock).current,
            available: available_memory(),
            cores: u32::try_from(cores).unwrap_or(u32::MAX),
        }
    }
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

/// Settings of the network stack, as far as they can break pods; none where they cannot be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sysctls {
    /// `net.ipv4.ip_forward`.
    pub ip_forward: Option<bool>,
    /// `net.ipv6.conf.all.forwarding`.
    pub ipv6_forward: Option<bool>,
    /// `net.ipv4.conf.all.rp_filter`.
    pub rp_filter: Option<u32>,
    /// systemd has a rule that gives devices with an address of chance another one, and none that leaves out vxlan.
    pub persistent_macs: bool,
}

impl Sysctls {
    pub(super) fn gather() -> Self {
        Self {
            ip_forward: number("net/ipv4/ip_forward").map(|on| on != 0),
            ipv6_forward: number("net/ipv6/conf/all/forwarding").map(|on| on != 0),
            rp_filter: number("net/ipv4/conf/all/rp_filter"),
            persistent_macs: persistent_macs(&link_files()),
        }
    }
}

/// The number in a file under `/proc/sys`.
pub(super) fn number(path: &str) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/sys/{path}")).ok()?;
    text.trim().parse().ok()
}

/// The texts of systemd's rules for devices, in the order in which they are tried: by the files' names.
fn link_files() -> Vec<String> {
    let mut found: Vec<(std::ffi::OsString, std::path::PathBuf)> = Vec::new();
    for folder in LINK_FOLDERS {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let (name, path) = (entry.file_name(), entry.path());
            let is_rule = path
                .extension()
                .is_some_and(|extension| extension == "link");
            if is_rule && !found.iter().any(|(known, _)| *known == name) {
                found.push((name, path));
            }
        }
    }
    found.sort();
    let texts = found.iter().map(|(_, path)| fs::read_to_string(path));
    texts.map(Result::unwrap_or_default).collect()
}

/// Whether the first rule that may be about a vxlan device changes its address. Which devices a rule is for is read as far as
/// it names all of them, the kind, or names that flannel and others give; a rule for others is passed over.
fn persistent_macs(files: &[String]) -> bool {
    let first = files.iter().find(|text| {
        let lines = || text.lines().map(str::trim);
        let is_match = |key: &str, value: &str| match key {
            "OriginalName" => {
                let mut names = value.split_whitespace();
                names.any(|name| {
                    name == "*" || name.starts_with("flannel") || name.starts_with("vxlan")
                })
            }
            "Driver" | "Kind" | "Type" => value.split_whitespace().any(|word| word == "vxlan"),
            _ => false,
        };
        let mut section = "";
        let mut matches = false;
        for line in lines() {
            if line.starts_with('[') {
                section = line;
            } else if section == "[Match]"
                && let Some((key, value)) = line.split_once('=')
            {
                matches |= is_match(key.trim(), value.trim());
            }
        }
        matches
    });
    first.is_some_and(|text| {
        text.lines().any(|line| {
            let (key, value) = line.split_once('=').unwrap_or_default();
            key.trim() == "MACAddressPolicy" && value.trim() == "persistent"
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_tells_of_itself() {
        assert!(Kernel::gather().version().is_some());
        let process = Process::gather();
        assert!(process.cores > 0 && process.available.is_some_and(|bytes| bytes > 0));
        assert!(Sysctls::gather().ip_forward.is_some());
    }

    #[test]
    fn the_first_rule_for_a_vxlan_device_decides_about_its_address() {
        let usual = "[Match]\nOriginalName=*\n[Link]\nMACAddressPolicy=persistent\n";
        let none = "[Match]\nDriver = vxlan\n[Link]\nMACAddressPolicy=none\n";
        let others = "[Match]\nOriginalName=eth* wlan*\n[Link]\nMACAddressPolicy=none\n";
        let judge = |texts: &[&str]| {
            let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
            persistent_macs(&texts)
        };
        assert!(judge(&[usual]) && judge(&[others, usual]));
        assert!(!judge(&[none, usual]) && !judge(&[others]) && !judge(&[]));
        let flannel = "[Match]\nOriginalName=flannel*\n[Link]\nMACAddressPolicy=none\n";
        assert!(!judge(&[flannel, usual]));
    }
}
