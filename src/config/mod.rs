//! What the operator asked for, validated. The raw form of flags and environment never leaves `cli`, that of the file
//! never leaves `file.rs`.
//!
//! A flag counts before its environment variable (`cli` sees to that), both before the file, and the file before the
//! default. Each is judged alone, so that what is wrong in a file is told even where a flag overrides it.

mod change;
mod effective;
mod error;
mod file;
mod key;
mod listen;
mod log;
mod schema;
mod settings;
mod template;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::table::Policy;

pub use change::{Applies, Change, changes, in_force};
pub use effective::{Effective, Origin, effective};
pub use error::{ConfigError, Finding, Findings};
pub use file::{parse, read, read_again};
pub use key::Key;
pub use listen::{Endpoint, Listen};
pub use log::{LOG_LEVEL_DEFAULT, LogFormat, judge_log_level};
pub use schema::schema;
pub use settings::{Settings, WordKey, closest};
pub use template::template;

/// Workers beyond this make no sense to the steering programs (`bpf/shared.h`).
pub const WORKERS_MAX: u32 = 64;
/// Workers come before every thread of ordinary scheduling, unless the operator says otherwise: `worker/standing.rs` says
/// why.
pub const NICE_DEFAULT: i32 = -20;
/// Flows go the direct path in XDP, unless the operator says otherwise.
pub const EXPRESS_DEFAULT: bool = true;
/// VTEPs that have metrics of their own, unless the operator says otherwise.
pub const METRICS_PEERS: u32 = 512;
/// Flows of the direct path that there is room for, unless the operator says otherwise.
pub const DIRECT_FLOWS: u32 = 65_536;
/// Pods' devices that the direct path looks after, unless the operator says fewer: as many as there are descriptors for.
pub const DIRECT_PODS: u32 = 448;

/// The settings of one `vxgate run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Which vxlan devices to take over.
    pub devices: Devices,
    /// How many workers; none: one per core that the NIC has queues for.
    pub workers: Option<u32>,
    /// The workers' nice value.
    pub nice: i32,
    /// Where the control socket goes.
    pub socket: PathBuf,
    /// Where metrics and health are served; none: nowhere.
    pub metrics: Option<Endpoint>,
    /// How many VTEPs have metrics of their own.
    pub metrics_max_peers: u32,
    /// What the data path does where the kernel and the RFC leave a choice.
    pub policy: Policy,
    /// Whether superframes of TCP and UDP cross whole.
    pub superframes: Superframes,
    /// What is logged: a level, or directives by module.
    pub log_level: String,
    /// What the lines of the log look like.
    pub log_format: LogFormat,
    /// Which flows may go the direct path.
    pub direct: Direct,
    /// Whether they may in XDP, without waking a worker.
    pub express: bool,
    /// Which programs take what pods send there.
    pub pod_programs: PodPrograms,
    /// For how many of them there is room.
    pub direct_flows_max: u32,
    /// How many pods' devices are looked after.
    pub direct_pods_max: u32,
}

/// Which flows may go straight between the underlay and the pods' own devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Direct {
    /// None.
    #[default]
    Off,
    /// Those that the kernel was seen to carry unchanged, both ways, until anything changes that it decides by.
    Flows,
    /// Those that it was seen to carry unchanged one way, until routes, neighbours or devices change; whatever filters say.
    Always,
}

impl Direct {
    /// Every choice.
    pub const ALL: &'static [Self] = &[Self::Off, Self::Flows, Self::Always];

    /// The word for it in the configuration.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Flows => "flows",
            Self::Always => "always",
        }
    }

    /// What this word stands for.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|mode| mode.label() == word)
    }
}

/// Which programs at pods' devices take what pods send express.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PodPrograms {
    /// Classifiers, which leave pods all that they have.
    #[default]
    Classifier,
    /// XDP in front of these: a frame takes half the time, but pods lose segmentation offload.
    Xdp,
}

impl PodPrograms {
    /// Every choice.
    pub const ALL: &'static [Self] = &[Self::Classifier, Self::Xdp];

    /// The word for it in the configuration.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Classifier => "classifier",
            Self::Xdp => "xdp",
        }
    }

    /// What this word stands for.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|programs| programs.label() == word)
    }
}

/// Whether superframes of TCP and UDP cross the gateway whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Superframes {
    /// Wherever there can be TAPs; whole to the wire, too, where the kernel cuts them there.
    #[default]
    Auto,
    /// To and from the vxlan devices alone: the workers cut them.
    Cut,
    /// Nowhere: every segment by itself.
    Off,
}

impl Superframes {
    /// Every choice.
    pub const ALL: &'static [Self] = &[Self::Auto, Self::Cut, Self::Off];

    /// The word for it in the configuration.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cut => "cut",
            Self::Off => "off",
        }
    }

    /// What this word stands for.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|mode| mode.label() == word)
    }
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

impl Config {
    /// The settings that were `given` by flags and the environment; where they are silent, those of the file.
    ///
    /// # Errors
    /// When there is nothing to derive the control socket's path from.
    pub fn new(given: Settings, file: Settings) -> Result<Self, ConfigError> {
        let settings = given.or(file);
        let policy = settings.policy();
        let socket = socket_path(settings.socket)?;
        let listen = settings.metrics_listen.unwrap_or_default();
        Ok(Self {
            policy,
            devices: settings.devices.unwrap_or(Devices::All),
            workers: settings.workers,
            superframes: settings.superframes.unwrap_or_default(),
            direct: settings.direct.unwrap_or_default(),
            express: settings.express.unwrap_or(EXPRESS_DEFAULT),
            pod_programs: settings.pod_programs.unwrap_or_default(),
            direct_flows_max: settings.direct_flows_max.unwrap_or(DIRECT_FLOWS),
            direct_pods_max: settings.direct_pods_max.unwrap_or(DIRECT_PODS),
            nice: settings.nice.unwrap_or(NICE_DEFAULT),
            metrics: listen.endpoint(&socket),
            metrics_max_peers: settings.metrics_max_peers.unwrap_or(METRICS_PEERS),
            log_level: settings
                .log_level
                .unwrap_or_else(|| LOG_LEVEL_DEFAULT.to_owned()),
            log_format: settings.log_format.unwrap_or_default(),
            socket,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{InnerVlan, PeerCheck};

    #[test]
    fn what_was_given_counts_before_the_file_and_the_file_before_the_default() {
        let given = Settings {
            peer_check: Some(PeerCheck::Off),
            socket: Some("/given".into()),
            ..Settings::default()
        };
        let file = "[overlay]\npeer_check = \"log\"\ninner_vlan = \"drop\"\ndevices = [\"flannel.1\"]\n\
                    [worker]\ncount = 2\nnice = -5\n[control]\nsocket = \"/file\"\n[metrics]\nmax_peers = 7\n";
        let config = Config::new(given, parse(file).unwrap()).unwrap();
        assert_eq!(config.policy.peer_check, PeerCheck::Off);
        assert_eq!(config.policy.inner_vlan, InnerVlan::Drop);
        assert_eq!(config.policy.reserved_bits, Policy::default().reserved_bits);
        assert_eq!(config.socket, Path::new("/given"));
        let beside = Endpoint::Unix("/given.metrics.sock".into());
        assert_eq!(
            (config.metrics, config.metrics_max_peers),
            (Some(beside), 7)
        );
        assert_eq!((config.workers, config.nice), (Some(2), -5));
        assert!(config.devices.include("flannel.1") && !config.devices.include("vxlan0"));
        let silent = Config::new(Settings::default(), parse("").unwrap()).unwrap();
        assert_eq!(silent.policy, Policy::default());
        assert_eq!(silent.nice, NICE_DEFAULT);
        assert_eq!(silent.metrics_max_peers, METRICS_PEERS);
        assert!(silent.devices.include("anything") && silent.workers.is_none());
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
