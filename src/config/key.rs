//! Every setting there is, once: its place in the file, its flag, its default, what it may be, and what it is for. The
//! template, the schema, the manual page of the file and `vxgate config show` are made from this list.

use serde_json::{Value, json};

use super::settings::{
    DIRECT_FLOWS_RANGE, DIRECT_PODS_RANGE, METRICS_PEERS_MAX, NICE, Settings, WordKey,
};
use super::{Devices, EXPRESS_DEFAULT, NICE_DEFAULT, WORKERS_MAX};
use super::{listen, log};

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Which vxlan devices to take over.
    Devices,
    /// One that takes a word of a few.
    Word(WordKey),
    /// How many workers.
    Workers,
    /// The workers' nice value.
    Nice,
    /// Whether flows go the direct path in XDP.
    Express,
    /// For how many flows of the direct path there is room.
    DirectFlowsMax,
    /// How many pods' devices the direct path looks after.
    DirectPodsMax,
    /// Where the control socket goes.
    Socket,
    /// Where metrics and health are served.
    MetricsListen,
    /// How many VTEPs have metrics of their own.
    MetricsMaxPeers,
    /// What is logged.
    LogLevel,
}

impl Key {
    /// All of them, in the order of the file: those of a table stand together.
    pub const ALL: &'static [Self] = &[
        Self::Devices,
        Self::Word(WordKey::PeerCheck),
        Self::Word(WordKey::ReservedBits),
        Self::Word(WordKey::EcnEncap),
        Self::Word(WordKey::InnerVlan),
        Self::Word(WordKey::UdpChecksumRx),
        Self::Workers,
        Self::Nice,
        Self::Word(WordKey::Superframes),
        Self::Word(WordKey::Direct),
        Self::Express,
        Self::Word(WordKey::PodPrograms),
        Self::DirectFlowsMax,
        Self::DirectPodsMax,
        Self::Socket,
        Self::MetricsListen,
        Self::MetricsMaxPeers,
        Self::LogLevel,
        Self::Word(WordKey::LogFormat),
    ];

    /// The tables, in the order of the file.
    pub fn tables() -> impl Iterator<Item = &'static str> + Clone {
        let mut last = "";
        Self::ALL.iter().filter_map(move |key| {
            let is_new = key.table() != last;
            last = key.table();
            is_new.then_some(last)
        })
    }

    /// The keys of a table.
    pub fn of(table: &str) -> impl Iterator<Item = Self> + Clone {
        let keys = Self::ALL.iter().copied();
        keys.filter(move |key| key.table() == table)
    }

    /// The table that it stands in.
    pub const fn table(self) -> &'static str {
        match self {
            Self::Devices => "overlay",
            Self::Word(word) => word.table(),
            Self::Workers
            | Self::Nice
            | Self::Express
            | Self::DirectFlowsMax
            | Self::DirectPodsMax => "worker",
            Self::Socket => "control",
            Self::MetricsListen | Self::MetricsMaxPeers => "metrics",
            Self::LogLevel => "log",
        }
    }

    /// Its key in that table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Devices => "devices",
            Self::Word(word) => word.key(),
            Self::Workers => "count",
            Self::Nice => "nice",
            Self::Express => "express",
            Self::DirectFlowsMax => "direct_flows_max",
            Self::DirectPodsMax => "direct_pods_max",
            Self::Socket => "socket",
            Self::MetricsListen => "listen",
            Self::MetricsMaxPeers => "max_peers",
            Self::LogLevel => "level",
        }
    }

    /// Its flag, without the dashes in front.
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Devices => "vxlan",
            Self::Word(word) => word.flag(),
            Self::Workers => "workers",
            Self::Nice => "nice",
            Self::Express => "express",
            Self::DirectFlowsMax => "direct-flows-max",
            Self::DirectPodsMax => "direct-pods-max",
            Self::Socket => "socket",
            Self::MetricsListen => "metrics-listen",
            Self::MetricsMaxPeers => "metrics-max-peers",
            Self::LogLevel => "log-level",
        }
    }

    /// The environment variable in the place of the flag.
    pub fn variable(self) -> String {
        let name = self.flag().to_uppercase().replace('-', "_");
        format!("VXGATE_{name}")
    }

    /// With its table in front: `overlay.devices`.
    pub fn path(self) -> String {
        format!("{}.{}", self.table(), self.name())
    }

    /// What counts where nothing is said. None for the control socket, whose place depends on the network namespace.
    pub fn default(self) -> Option<Value> {
        match self {
            Self::Devices | Self::Workers => Some(json!("auto")),
            Self::Word(word) => word.value(&Settings::defaults()).map(Value::from),
            Self::Nice => Some(json!(NICE_DEFAULT)),
            Self::Express => Some(json!(EXPRESS_DEFAULT)),
            Self::Socket => None,
            Self::DirectFlowsMax
            | Self::DirectPodsMax
            | Self::MetricsListen
            | Self::MetricsMaxPeers
            | Self::LogLevel => self.value(&Settings::defaults()),
        }
    }

    /// What these settings say of it.
    pub fn value(self, settings: &Settings) -> Option<Value> {
        match self {
            Self::Devices => settings.devices.as_ref().map(|devices| match devices {
                Devices::All => json!("auto"),
                Devices::Named(names) => json!(names),
            }),
            Self::Word(word) => word.value(settings).map(Value::from),
            Self::Workers => settings.workers.map(Value::from),
            Self::Nice => settings.nice.map(Value::from),
            Self::Express => settings.express.map(Value::from),
            Self::DirectFlowsMax => settings.direct_flows_max.map(Value::from),
            Self::DirectPodsMax => settings.direct_pods_max.map(Value::from),
            Self::Socket => {
                let path = settings.socket.as_ref();
                path.map(|path| Value::from(path.to_string_lossy()))
            }
            Self::MetricsListen => {
                let listen = settings.metrics_listen.as_ref();
                listen.map(|listen| Value::from(listen.to_string()))
            }
            Self::MetricsMaxPeers => settings.metrics_max_peers.map(Value::from),
            Self::LogLevel => settings.log_level.as_deref().map(Value::from),
        }
    }

    /// What it is for, and what it may be.
    pub fn help(self) -> String {
        match self {
            Self::Devices => "Which vxlan devices to take over: \"auto\", all that can be; or a list of names: [\"flannel.1\"].".into(),
            Self::Word(word) => word.help().into(),
            Self::Workers => format!(
                "Workers, one core each: 1 to {WORKERS_MAX}; or \"auto\", one per core that every underlay device has a \
                 receive queue for."
            ),
            Self::Nice => {
                let (first, last) = (NICE.start(), NICE.end());
                format!(
                    "The workers' nice value, {first} to {last}. At {first} they come before the kernel's threads on their \
                     cores, which otherwise may hold them up under overload; values below 0 need CAP_SYS_NICE, without which \
                     they run as all do."
                )
            }
            Self::Express => {
                "Whether flows go the direct path in XDP, which needs no worker for a frame: true or false. Without it they \
                 still go it through the workers."
                    .into()
            }
            Self::DirectFlowsMax => {
                let (least, most) = (DIRECT_FLOWS_RANGE.start(), DIRECT_FLOWS_RANGE.end());
                format!(
                    "For how many flows the direct path has room, {least} to {most}: with half as many, next to none finds no \
                     place, and goes the node's own path. 65536 take some 40 MB of the kernel's memory and 22 of ours."
                )
            }
            Self::DirectPodsMax => {
                let (least, most) = (DIRECT_PODS_RANGE.start(), DIRECT_PODS_RANGE.end());
                format!(
                    "How many pods' devices the direct path looks after, {least} to {most}, and 298 at most with \
                     pod_programs = \"xdp\": those that came first. The flows of others go the node's own path."
                )
            }
            Self::Socket => {
                "Path of the control socket. Without it, one for each network namespace: /run/vxgate/netns-INODE.sock.".into()
            }
            Self::MetricsListen => {
                "Where to serve /metrics (Prometheus), /healthz and /readyz over HTTP: \"auto\", a UNIX socket beside the \
                 control socket, NAME.metrics.sock, for its owner and group; \"off\"; \"ADDRESS:PORT\", for all who can \
                 connect, since nobody is asked who they are; or the path of another UNIX socket."
                    .into()
            }
            Self::MetricsMaxPeers => format!(
                "How many VTEPs have metrics of their own, 0 to {METRICS_PEERS_MAX}: of their paths those with the narrowest, of what \
                 is counted by peer those with the most frames."
            ),
            Self::LogLevel => {
                "What is logged: \"error\", \"warn\", \"info\", \"debug\", \"trace\" or \"off\"; or directives by module: \
                 \"info,vxgate::control=debug\"."
                    .into()
            }
        }
    }

    /// What it may be, as JSON Schema.
    pub fn schema(self) -> Value {
        let mut schema = match self {
            Self::Devices => json!({"anyOf": [
                {"const": "auto"},
                {"type": "array", "minItems": 1, "items": {
                    "type": "string",
                    "pattern": r"^[^/:\s\x00]{1,15}$",
                    "not": {"enum": [".", ".."]},
                }},
            ]}),
            Self::Word(word) => word.schema(),
            Self::Workers => json!({"anyOf": [
                {"const": "auto"},
                {"type": "integer", "minimum": 1, "maximum": WORKERS_MAX},
            ]}),
            Self::Nice => {
                json!({"type": "integer", "minimum": NICE.start(), "maximum": NICE.end()})
            }
            Self::Express => json!({"type": "boolean"}),
            Self::DirectFlowsMax => json!({
                "type": "integer",
                "minimum": DIRECT_FLOWS_RANGE.start(),
                "maximum": DIRECT_FLOWS_RANGE.end(),
            }),
            Self::DirectPodsMax => json!({
                "type": "integer",
                "minimum": DIRECT_PODS_RANGE.start(),
                "maximum": DIRECT_PODS_RANGE.end(),
            }),
            Self::Socket => json!({"type": "string", "pattern": "^/"}),
            Self::MetricsListen => listen::schema(),
            Self::MetricsMaxPeers => {
                json!({"type": "integer", "minimum": 0, "maximum": METRICS_PEERS_MAX})
            }
            Self::LogLevel => log::schema(),
        };
        schema["description"] = self.help().into();
        // For programs that write the file; JSON Schema leaves words of one's own to whoever knows them.
        schema["x-applies"] = json!(self.applies());
        if let Some(default) = self.default() {
            schema["default"] = default;
        }
        schema
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_setting_has_a_place_and_a_flag_of_its_own() {
        let unique = |names: Vec<String>| names.iter().collect::<BTreeSet<_>>().len();
        let all = Key::ALL;
        assert_eq!(
            unique(all.iter().map(|key| key.path()).collect()),
            all.len()
        );
        assert_eq!(
            unique(all.iter().map(|key| key.variable()).collect()),
            all.len()
        );
        // A key's name alone tells it, too: that is how one in the wrong table is found.
        assert_eq!(
            unique(all.iter().map(|key| key.name().to_owned()).collect()),
            all.len()
        );
        let tables: Vec<_> = Key::tables().collect();
        assert_eq!(
            unique(tables.iter().map(|t| (*t).to_owned()).collect()),
            tables.len()
        );
        assert_eq!(
            tables
                .iter()
                .map(|table| Key::of(table).count())
                .sum::<usize>(),
            all.len()
        );
    }

    #[test]
    fn every_setting_tells_what_it_is() {
        for key in Key::ALL {
            assert!(key.help().ends_with('.'), "{key:?}");
            assert_eq!(key.value(&Settings::default()), None, "{key:?}");
        }
    }
}
