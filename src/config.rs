//! What the operator asked for, validated. The raw form (flags, environment) never leaves `cli`.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Workers beyond this make no sense to the steering programs (`bpf/shared.h`).
pub const WORKERS_MAX: u32 = 64;

/// The settings of one `vxgate run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Which vxlan devices to take over.
    pub devices: Devices,
    /// How many workers; none: one per core that the NIC has queues for.
    pub workers: Option<u32>,
    /// Where the control socket goes.
    pub socket: PathBuf,
}

/// A choice of vxlan devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Devices {
    /// All that can be taken over.
    All,
    /// These, and each must be possible.
    Named(Vec<String>),
}

impl Devices {
    /// The names that were given; empty for all.
    pub fn named(&self) -> &[String] {
        match self {
            Self::All => &[],
            Self::Named(names) => names,
        }
    }

    /// Whether a device of this name is asked for.
    pub fn include(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.iter().any(|n| n == name),
        }
    }
}

/// A setting that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Too many or no workers.
    #[error("--workers {0}: use 1 to {WORKERS_MAX}")]
    Workers(u32),
    /// A name that the kernel would not take either.
    #[error("--vxlan '{0}': a device name has 1 to 15 bytes, without '/' or spaces")]
    DeviceName(String),
    /// The network namespace has no identity to derive the socket's path from.
    #[error(
        "cannot read /proc/self/ns/net to place the control socket: {0}; mount /proc, or give --socket"
    )]
    Namespace(io::Error),
}

impl Config {
    /// Judges the settings.
    ///
    /// # Errors
    /// Names the setting and what it may be.
    pub fn new(
        vxlan: Vec<String>,
        workers: Option<u32>,
        socket: Option<PathBuf>,
    ) -> Result<Self, ConfigError> {
        if let Some(count) = workers.filter(|count| !(1..=WORKERS_MAX).contains(count)) {
            return Err(ConfigError::Workers(count));
        }
        if let Some(name) = vxlan.iter().find(|name| !is_device_name(name)) {
            return Err(ConfigError::DeviceName(name.clone()));
        }
        let devices = if vxlan.is_empty() {
            Devices::All
        } else {
            Devices::Named(vxlan)
        };
        Ok(Self {
            devices,
            workers,
            socket: socket_path(socket)?,
        })
    }
}

/// The control socket of the current network namespace: the given one, or one under `/run/vxgate/` that carries the
/// namespace's inode number, so that daemons in several namespaces of one host do not meet.
///
/// # Errors
/// When `/proc` does not tell the namespace.
pub fn socket_path(given: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
    if let Some(path) = given {
        return Ok(path);
    }
    let inode = fs::metadata("/proc/self/ns/net")
        .map_err(ConfigError::Namespace)?
        .ino();
    Ok(Path::new("/run/vxgate").join(format!("netns-{inode}.sock")))
}

/// `dev_valid_name` of the kernel.
fn is_device_name(name: &str) -> bool {
    let length_ok = (1..=15).contains(&name.len());
    length_ok
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_judged_before_anything_starts() {
        let named = Config::new(vec!["flannel.1".into()], Some(2), None).unwrap();
        assert!(named.devices.include("flannel.1") && !named.devices.include("vxlan0"));
        assert!(
            Config::new(vec![], None, None)
                .unwrap()
                .devices
                .include("anything")
        );
        for workers in [0, WORKERS_MAX + 1] {
            assert!(matches!(
                Config::new(vec![], Some(workers), None),
                Err(ConfigError::Workers(_))
            ));
        }
        for name in ["", "a/b", "sixteen-bytes-xx", "a b", ".."] {
            assert!(
                matches!(
                    Config::new(vec![name.into()], None, None),
                    Err(ConfigError::DeviceName(_))
                ),
                "{name:?}"
            );
        }
    }

    #[test]
    fn the_socket_belongs_to_the_network_namespace() {
        let path = socket_path(None).unwrap();
        let inode = fs::metadata("/proc/self/ns/net").unwrap().ino();
        assert_eq!(
            path,
            Path::new("/run/vxgate").join(format!("netns-{inode}.sock"))
        );
        assert_eq!(
            socket_path(Some("/tmp/x.sock".into())).unwrap(),
            Path::new("/tmp/x.sock")
        );
    }
}
