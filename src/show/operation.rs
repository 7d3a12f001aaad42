//! What a daemon may be told to do over its control socket, and what it answers. Text and JSON come from the same value.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Flows, Measuring, SCHEMA};
use crate::config::{Applies, Change};
use crate::gateway;

/// What a daemon may be told to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// To read its configuration file again.
    Reload,
    /// To log something else from now on; or, without one, to say what it logs.
    LogLevel(Option<String>),
    /// To hand the traffic to the kernel.
    Drain,
    /// To take it back.
    Resume,
    /// To measure the stages of the workers' turns for a while.
    MeasureStages,
    /// To list the flows that it knows.
    Flows,
}

impl Action {
    /// Whether it changes anything.
    pub fn changes(&self) -> bool {
        !matches!(self, Self::LogLevel(None) | Self::Flows)
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Done {
    /// Of [`Action::Reload`].
    Reloaded(Reloaded),
    /// Of [`Action::LogLevel`].
    LogLevel(LogLevel),
    /// Of [`Action::Drain`] and [`Action::Resume`].
    Traffic(Traffic),
    /// Of [`Action::MeasureStages`].
    Measuring(Measuring),
    /// Of [`Action::Flows`].
    Flows(Flows),
}

/// The file was read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reloaded {
    /// [`SCHEMA`].
    pub schema: String,
    /// Which file.
    pub file: PathBuf,
    /// What it has otherwise than the daemon had, and what became of that.
    pub changes: Vec<Change>,
}

impl Reloaded {
    /// With these changes.
    pub fn new(file: PathBuf, changes: Vec<Change>) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            file,
            changes,
        }
    }

    /// How many changes count now, and how many at the next start.
    pub fn counts(&self) -> (usize, usize) {
        let count = |when| {
            let changes = self.changes.iter();
            let made = changes.filter(|change| change.kept_by.is_none());
            made.filter(|change| change.applies == when).count()
        };
        (count(Applies::Live), count(Applies::Restart))
    }
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: read again, ", self.file.display())?;
        match self.counts() {
            (0, 0) => writeln!(f, "nothing changed")?,
            (live, 0) => writeln!(f, "{live} changed")?,
            (live, restart) => {
                writeln!(f, "{live} changed, {restart} to change at the next start")?;
            }
        }
        self.changes
            .iter()
            .try_for_each(|change| writeln!(f, "{change}"))
    }
}

/// What is logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogLevel {
    /// [`SCHEMA`].
    pub schema: String,
    /// A level, or directives by module.
    pub level: String,
    /// What was logged before, when that was asked to be changed.
    pub before: Option<String>,
}

impl LogLevel {
    /// This one, and the one before where there was another.
    pub fn new(level: String, before: Option<String>) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            level,
            before,
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.before {
            Some(before) => writeln!(
                f,
                "{} (was {before}); the next reload or start takes it back",
                self.level
            ),
            None => writeln!(f, "{}", self.level),
        }
    }
}

/// Who carries the traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Traffic {
    /// [`SCHEMA`].
    pub schema: String,
    /// Whether it has been handed to the kernel.
    pub drained: bool,
    /// Whether that was otherwise before.
    pub changed: bool,
    /// The vxlan devices that it is about.
    pub devices: Vec<String>,
    /// Frames that had arrived and not been forwarded when the wait for them was over.
    pub in_flight: u64,
    /// Why nothing goes through vxgate although it may.
    pub trouble: Option<String>,
}

impl From<gateway::Drained> for Traffic {
    fn from(drained: gateway::Drained) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            drained: true,
            changed: drained.changed,
            devices: drained.devices,
            in_flight: drained.in_flight,
            trouble: None,
        }
    }
}

impl From<gateway::Resumed> for Traffic {
    fn from(resumed: gateway::Resumed) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            drained: false,
            changed: resumed.changed,
            devices: resumed.devices,
            in_flight: 0,
            trouble: resumed.trouble,
        }
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let devices = match self.devices.as_slice() {
            [] => "no vxlan device".to_owned(),
            names => names.join(", "),
        };
        let still = if self.changed { "" } else { "already " };
        if self.drained {
            writeln!(
                f,
                "{still}drained: the kernel carries {devices}; vxgate resume takes it back"
            )?;
            if self.in_flight > 0 {
                let count = self.in_flight;
                writeln!(f, "{count} frames that had arrived before have no fate yet")?;
            }
        } else {
            writeln!(f, "{still}resumed: vxgate carries {devices}")?;
        }
        match &self.trouble {
            Some(why) => writeln!(f, "the kernel carries all traffic: {why}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;
    use serde_json::json;

    #[test]
    fn requests_are_written_like_this() {
        let written = |action| serde_json::to_value(action).unwrap();
        assert_eq!(written(Action::Reload), json!("reload"));
        assert_eq!(written(Action::Drain), json!("drain"));
        assert_eq!(written(Action::Flows), json!("flows"));
        assert_eq!(
            written(Action::LogLevel(Some("debug".into()))),
            json!({"log-level": "debug"})
        );
        assert_eq!(written(Action::LogLevel(None)), json!({"log-level": null}));
        assert_eq!(written(Action::MeasureStages), json!("measure-stages"));
    }

    #[test]
    fn a_reload_tells_what_counts_now_and_what_later() {
        let change = |key: &str, kept_by, applies| Change {
            key: key.to_owned(),
            running: json!("a"),
            file: json!("b"),
            kept_by,
            applies,
        };
        let text = |changes| Reloaded::new("/x.toml".into(), changes).to_string();
        assert_eq!(text(vec![]), "/x.toml: read again, nothing changed\n");
        assert_eq!(
            text(vec![
                change("overlay.peer_check", None, Applies::Live),
                change("worker.count", None, Applies::Restart),
                change("log.level", Some(Origin::Environment), Applies::Live),
            ]),
            "/x.toml: read again, 1 changed, 1 to change at the next start\n\
             ~ [overlay] peer_check  \"a\" -> \"b\"   live\n\
             ~ [worker] count  \"a\" -> \"b\"   at the next start\n\
             ! [log] level  \"a\" stays, not \"b\": an environment variable of the daemon says so\n"
        );
    }

    #[test]
    fn who_carries_the_traffic_is_said() {
        let drained = Traffic::from(gateway::Drained {
            changed: true,
            devices: vec!["flannel.1".into()],
            in_flight: 0,
        });
        assert_eq!(
            drained.to_string(),
            "drained: the kernel carries flannel.1; vxgate resume takes it back\n"
        );
        let resumed = Traffic::from(gateway::Resumed {
            changed: false,
            devices: vec![],
            trouble: Some("no device".into()),
        });
        assert_eq!(
            resumed.to_string(),
            "already resumed: vxgate carries no vxlan device\nthe kernel carries all traffic: no device\n"
        );
    }
}
