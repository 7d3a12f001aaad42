//! What another reading of the file would change of a running daemon, and when it would count. `vxgate config diff` tells it,
//! and `vxgate reload` does it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ConfigError, Effective, Key, Origin, Settings, WordKey, effective};

/// When a changed setting counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Applies {
    /// As soon as the file is read again, without a frame lost.
    Live,
    /// At the next start: it decides about devices, memory, threads or sockets that are made then.
    Restart,
}

impl Applies {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Restart => "at the next start",
        }
    }

    /// As a sentence.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Live => {
                "A changed value counts as soon as the file is read again (`vxgate reload`)."
            }
            Self::Restart => "A changed value counts at the next start.",
        }
    }
}

impl Key {
    /// When a changed value counts.
    pub const fn applies(self) -> Applies {
        match self {
            // They stand in the table that the workers look at, and in whoever serves metrics and writes the log.
            Self::Word(
                WordKey::PeerCheck
                | WordKey::ReservedBits
                | WordKey::EcnEncap
                | WordKey::InnerVlan
                | WordKey::UdpChecksumRx,
            )
            | Self::MetricsListen
            | Self::MetricsMaxPeers
            | Self::LogLevel => Applies::Live,
            Self::Devices
            | Self::Workers
            | Self::Nice
            | Self::Express
            | Self::DirectFlowsMax
            | Self::DirectPodsMax
            | Self::Socket
            | Self::Word(
                WordKey::Superframes | WordKey::Direct | WordKey::PodPrograms | WordKey::LogFormat,
            ) => Applies::Restart,
        }
    }

    /// The key of this path, `overlay.devices`.
    pub fn of_path(path: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|key| key.path() == path)
    }
}

/// A setting that the file has otherwise than the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The key, with its table in front.
    pub key: String,
    /// What the daemon has.
    pub running: Value,
    /// What the file has.
    pub file: Value,
    /// What keeps the daemon at its value whatever the file says: its flag or its environment.
    pub kept_by: Option<Origin>,
    /// When the file's value counts.
    pub applies: Applies,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (running, file) = (&self.running, &self.file);
        let (table, name) = self.key.split_once('.').unwrap_or(("", &self.key));
        match self.kept_by {
            None => {
                let when = self.applies.words();
                write!(f, "~ [{table}] {name}  {running} -> {file}   {when}")
            }
            Some(origin) => {
                let who = match origin {
                    Origin::Flag => "a flag",
                    _ => "an environment variable",
                };
                write!(
                    f,
                    "! [{table}] {name}  {running} stays, not {file}: {who} of the daemon says so"
                )
            }
        }
    }
}

/// What a daemon that reads this file would have otherwise than one with these settings.
///
/// # Errors
/// When there is nothing to derive the control socket's path from.
pub fn changes(running: &[Effective], file: &Settings) -> Result<Vec<Change>, ConfigError> {
    let wanted = effective(&Settings::default(), |_| false, file)?;
    let changes = wanted.into_iter().filter_map(|wanted| {
        let key = Key::of_path(&wanted.key)?;
        let running = running.iter().find(|s| s.key == wanted.key)?;
        let kept = matches!(running.origin, Origin::Flag | Origin::Environment);
        // A default says nothing against a flag.
        let silent = kept && wanted.origin == Origin::Default;
        (running.value != wanted.value && !silent).then(|| Change {
            key: wanted.key,
            running: running.value.clone(),
            file: wanted.value,
            kept_by: kept.then_some(running.origin),
            applies: key.applies(),
        })
    });
    Ok(changes.collect())
}

/// The settings in force once the file has been read again: `wanted`, but where that counts at the next start only, what is
/// running.
pub fn in_force(running: &[Effective], wanted: Vec<Effective>) -> Vec<Effective> {
    let settings = wanted.into_iter().map(|wanted| {
        let waits = Key::of_path(&wanted.key).map(Key::applies) == Some(Applies::Restart);
        let now = running.iter().find(|running| running.key == wanted.key);
        match now {
            Some(now) if waits && now.value != wanted.value => now.clone(),
            _ => wanted,
        }
    });
    settings.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{parse, schema};
    use serde_json::json;

    fn defaults_but(key: &str, value: Value, origin: Origin) -> Vec<Effective> {
        let defaults = effective(&Settings::default(), |_| false, &Settings::default());
        let mut settings = defaults.unwrap();
        let setting = settings.iter_mut().find(|s| s.key == key).unwrap();
        (setting.value, setting.origin) = (value, origin);
        settings
    }

    fn told(running: &[Effective], file: &str) -> Vec<String> {
        let changes = changes(running, &parse(file).unwrap()).unwrap();
        changes.iter().map(Change::to_string).collect()
    }

    #[test]
    fn a_difference_is_told_with_both_values_and_when_it_counts() {
        let log = defaults_but("overlay.peer_check", json!("log"), Origin::File);
        assert!(told(&log, "[overlay]\npeer_check = 'log'").is_empty());
        assert_eq!(
            told(&log, "[worker]\ncount = 2"),
            [
                "~ [overlay] peer_check  \"log\" -> \"strict\"   live",
                "~ [worker] count  \"auto\" -> 2   at the next start"
            ]
        );
    }

    #[test]
    fn what_a_flag_of_the_daemon_says_no_file_changes() {
        let off = defaults_but("overlay.peer_check", json!("off"), Origin::Flag);
        assert!(told(&off, "").is_empty());
        assert_eq!(
            told(&off, "[overlay]\npeer_check = 'log'"),
            ["! [overlay] peer_check  \"off\" stays, not \"log\": a flag of the daemon says so"]
        );
    }

    #[test]
    fn what_waits_for_the_next_start_is_still_a_difference_after_a_reload() {
        let running = defaults_but("overlay.peer_check", json!("log"), Origin::File);
        let file = parse("[worker]\ncount = 2\nnice = -20\n[log]\nlevel = 'debug'").unwrap();
        let wanted = effective(&Settings::default(), |_| false, &file).unwrap();
        let now = in_force(&running, wanted);
        let left: Vec<_> = changes(&now, &file).unwrap();
        let left: Vec<_> = left.iter().map(|change| change.key.as_str()).collect();
        assert_eq!(left, ["worker.count"]);
        let find = |key: &str| now.iter().find(|setting| setting.key == key).unwrap();
        assert_eq!(find("overlay.peer_check").value, "strict");
        assert_eq!(find("log.level").origin, Origin::File);
        // The value is the same, and it is the file's now.
        assert_eq!(find("worker.nice").origin, Origin::File);
    }

    #[test]
    fn every_key_says_in_the_schema_when_a_change_counts() {
        let schema = schema();
        let mut live = 0;
        for key in Key::ALL {
            assert_eq!(Key::of_path(&key.path()), Some(*key));
            let told = &schema["properties"][key.table()]["properties"][key.name()]["x-applies"];
            assert_eq!(
                *told,
                serde_json::to_value(key.applies()).unwrap(),
                "{key:?}"
            );
            live += usize::from(key.applies() == Applies::Live);
        }
        assert!(live > 5 && live < Key::ALL.len(), "{live}");
    }
}
