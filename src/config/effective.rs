//! Each setting with its value and where that comes from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::key::Key;
use super::{ConfigError, Settings, socket_path};

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A flag.
    Flag,
    /// An environment variable.
    Environment,
    /// The file.
    File,
    /// Nobody said anything.
    Default,
}

/// A setting in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Effective {
    /// The key, with its table in front: `overlay.peer_check`.
    pub key: String,
    /// Its value, as it would stand in the file.
    pub value: Value,
    /// Where that comes from.
    pub origin: Origin,
}

impl Effective {
    /// The table and the key in it.
    pub fn place(&self) -> (&str, &str) {
        self.key.split_once('.').unwrap_or(("", &self.key))
    }
}

/// Every setting in force. `from_flag` tells of a setting that was given whether by a flag, or by the environment.
///
/// # Errors
/// When there is nothing to derive the control socket's path from.
pub fn effective(
    given: &Settings,
    from_flag: impl Fn(Key) -> bool,
    file: &Settings,
) -> Result<Vec<Effective>, ConfigError> {
    let all = Key::ALL.iter().map(|&key| {
        let (value, origin) = if let Some(value) = key.value(given) {
            let origin = if from_flag(key) {
                Origin::Flag
            } else {
                Origin::Environment
            };
            (value, origin)
        } else if let Some(value) = key.value(file) {
            (value, Origin::File)
        } else {
            (default(key)?, Origin::Default)
        };
        Ok(Effective {
            key: key.path(),
            value,
            origin,
        })
    });
    all.collect()
}

fn default(key: Key) -> Result<Value, ConfigError> {
    match key.default() {
        Some(value) => Ok(value),
        None => Ok(Value::from(socket_path(None)?.to_string_lossy())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, parse};
    use crate::table::PeerCheck;
    use serde_json::json;

    fn find<'a>(all: &'a [Effective], key: &str) -> (&'a Value, Origin) {
        let found = all.iter().find(|setting| setting.key == key).unwrap();
        (&found.value, found.origin)
    }

    #[test]
    fn each_value_tells_where_it_comes_from() {
        let mut given = Settings {
            peer_check: Some(PeerCheck::Off),
            ..Settings::default()
        };
        given.set_nice(5).unwrap();
        let file = parse(
            "[overlay]\npeer_check = 'log'\ninner_vlan = 'drop'\ndevices = ['flannel.1']\n[worker]\nnice = 7",
        )
        .unwrap();
        let all = effective(&given, |key| key == Key::Nice, &file).unwrap();
        assert_eq!(all.len(), Key::ALL.len());
        for (key, value, origin) in [
            ("overlay.peer_check", json!("off"), Origin::Environment),
            ("worker.nice", json!(5), Origin::Flag),
            ("overlay.inner_vlan", json!("drop"), Origin::File),
            ("overlay.devices", json!(["flannel.1"]), Origin::File),
            ("overlay.ecn_encap", json!("kernel"), Origin::Default),
            ("worker.count", json!("auto"), Origin::Default),
        ] {
            assert_eq!(find(&all, key), (&value, origin), "{key}");
        }
    }

    #[test]
    fn written_as_a_file_it_is_the_same_configuration() {
        let given = Settings {
            socket: Some("/a \"quoted\"\tpath".into()),
            ..Settings::default()
        };
        let file = parse("[overlay]\nreserved_bits = 'mask:00000000000000ff'\n[worker]\ncount = 3")
            .unwrap();
        let all = effective(&given, |_| true, &file).unwrap();
        let lines: String = all
            .iter()
            .map(|setting| format!("{} = {}\n", setting.key, setting.value))
            .collect();
        let again = parse(&lines).unwrap();
        assert_eq!(
            Config::new(Settings::default(), again).unwrap(),
            Config::new(given, file).unwrap()
        );
    }
}
