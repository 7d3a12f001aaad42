//! `vxgate config`: what a configuration file may say, whether one can be, what it comes to together with flags and
//! environment, and what it would change of a running daemon.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgMatches, Args, Subcommand};
use schemars::JsonSchema;
use serde::Serialize;

use super::output::OutputError;
use super::settings::{SettingFlags, is_flag};
use super::{SocketArgument, exit, fail, print, print_json};
use crate::config::{
    self, Change, Config, ConfigError, Effective, Key, Origin, Settings, changes, effective,
    schema, socket_path, template,
};
use crate::fault::{Explained, Fault};
use crate::show::{SocketError, ask};

/// The schema of the JSON answers; keys are added, never renamed.
pub(super) const SCHEMA: &str = "vxgate-config/1";
/// Column at which the comment with a value's origin begins.
const ORIGIN_COLUMN: usize = 32;

/// Arguments of `vxgate config`.
#[derive(Debug, Args)]
pub(super) struct ConfigCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Judge a file, the flags and the environment, as `run` would: exit code 0 when they can be, 78 when they cannot.
    Check(Judged),
    /// Show the settings that `run` would start with, as a file that says the same: those that somebody set, or all.
    Show(Show),
    /// Tell what a file would change of the running daemon, and when: exit code 0 when nothing, 1 when something.
    Diff(Diff),
    /// Print a file with every key, its default, and what it may be.
    Template,
    /// Print the JSON Schema of the file, for editors and programs.
    Schema,
}

/// A file, and all that counts before it.
#[derive(Debug, Args)]
struct Judged {
    /// The configuration file (TOML) [default: none].
    #[arg(value_name = "FILE", env = "VXGATE_CONFIG")]
    file: Option<PathBuf>,
    #[command(flatten)]
    flags: SettingFlags,
}

#[derive(Debug, Args)]
struct Show {
    #[command(flatten)]
    judged: Judged,
    /// Show also what nobody set, and where each value comes from: flag, environment, file or default.
    #[arg(long)]
    effective: bool,
    /// Print one JSON document (schema vxgate-config/1) instead of TOML.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Diff {
    /// The configuration file (TOML) [default: the one that the daemon was started with, as it is now].
    #[arg(value_name = "FILE", env = "VXGATE_CONFIG")]
    file: Option<PathBuf>,
    /// Print one JSON document (schema vxgate-config/1) instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgument,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum ConfigCommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl ConfigCommandError {
    fn inner(&self) -> &dyn Explained {
        match self {
            Self::Config(error) => error,
            Self::Socket(error) => error,
            Self::Output(error) => error,
        }
    }
}

impl Explained for ConfigCommandError {
    fn fault(&self) -> Fault {
        self.inner().fault()
    }

    fn passed_on(&self) -> Option<&dyn Explained> {
        Some(self.inner())
    }
}

impl ConfigCommand {
    /// `matches` are those of `config`.
    pub(super) fn execute(&self, matches: Option<&ArgMatches>) -> ExitCode {
        let outcome = match &self.action {
            Action::Check(judged) => judged.check(),
            Action::Show(show) => show.show(|key| {
                let action = matches.and_then(ArgMatches::subcommand);
                action.is_some_and(|(_, matches)| is_flag(matches, key))
            }),
            Action::Diff(diff) => diff.tell(),
            Action::Template => {
                print(&template());
                Ok(ExitCode::SUCCESS)
            }
            Action::Schema => print_json(&schema())
                .map(|()| ExitCode::SUCCESS)
                .map_err(ConfigCommandError::from),
        };
        outcome.unwrap_or_else(|error| fail(&error))
    }
}

impl Judged {
    fn check(&self) -> Result<ExitCode, ConfigCommandError> {
        let (given, file) = (self.flags.given(), read(self.file.as_deref())?);
        Config::new(given?, file)?;
        match &self.file {
            Some(path) => print(&format!("{}: valid\n", path.display())),
            None => print("the settings are valid\n"),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What a file says; without one, nothing.
fn read(path: Option<&Path>) -> Result<Settings, ConfigError> {
    path.map_or_else(|| Ok(Settings::default()), config::read)
}

/// The answer of `show --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Shown<'a> {
    /// [`SCHEMA`].
    schema: &'static str,
    /// The file that was read, if any.
    file: Option<&'a Path>,
    /// Each setting that somebody has said something of; with --effective, every one.
    settings: Vec<Effective>,
}

impl Show {
    fn show(&self, from_flag: impl Fn(Key) -> bool) -> Result<ExitCode, ConfigCommandError> {
        let path = self.judged.file.as_deref();
        let file = read(path)?;
        let mut settings = effective(&self.judged.flags.given()?, from_flag, &file)?;
        if !self.effective {
            settings.retain(|setting| setting.origin != Origin::Default);
        }
        if self.json {
            print_json(&Shown {
                schema: SCHEMA,
                file: path,
                settings,
            })?;
        } else {
            print(&as_file(&settings, path, self.effective));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Settings as a file, each with its origin when that is asked for.
fn as_file(settings: &[Effective], path: Option<&Path>, origins: bool) -> String {
    let mut text = String::new();
    let mut last = "";
    for setting in settings {
        let (table, name) = setting.place();
        if table != last {
            text.push_str(&format!("[{table}]\n"));
            last = table;
        }
        let line = format!("{name} = {}", setting.value);
        if origins {
            let origin = origin(setting, path);
            text.push_str(&format!("{line:<ORIGIN_COLUMN$} # {origin}\n"));
        } else {
            text.push_str(&format!("{line}\n"));
        }
    }
    text
}

/// Where a value comes from, in words.
fn origin(setting: &Effective, path: Option<&Path>) -> String {
    let key = Key::of_path(&setting.key);
    match (setting.origin, key, path) {
        (Origin::Flag, Some(key), _) => format!("flag --{}", key.flag()),
        (Origin::Environment, Some(key), _) => format!("environment {}", key.variable()),
        (Origin::File, _, Some(path)) => {
            // A line break in the path would end the comment.
            let path = path.display().to_string();
            format!("file {}", path.replace(char::is_control, "\u{fffd}"))
        }
        (Origin::Flag, ..) => "flag".to_owned(),
        (Origin::Environment, ..) => "environment".to_owned(),
        (Origin::File, ..) => "file".to_owned(),
        (Origin::Default, ..) => "default".to_owned(),
    }
}

/// The answer of `diff --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Differences {
    /// [`SCHEMA`].
    schema: &'static str,
    /// The file that was read, if any.
    file: Option<PathBuf>,
    /// What it has otherwise than the daemon.
    changes: Vec<Change>,
}

impl Diff {
    fn tell(&self) -> Result<ExitCode, ConfigCommandError> {
        let running = ask(&socket_path(self.socket.socket.clone())?)?.configuration;
        let path = self.file.clone().or_else(|| running.file.clone());
        let file = read(path.as_deref())?;
        let changes = changes(&running.settings, &file)?;
        let code = if changes.iter().any(|change| change.kept_by.is_none()) {
            ExitCode::from(exit::FAILED)
        } else {
            ExitCode::SUCCESS
        };
        if self.json {
            print_json(&Differences {
                schema: SCHEMA,
                file: path,
                changes,
            })?;
        } else if changes.is_empty() {
            print("no difference\n");
        } else {
            let lines = changes.iter().map(|change| format!("{change}\n"));
            print(&lines.collect::<String>());
        }
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_as_a_file_each_value_has_its_origin() {
        let file = config::parse("[overlay]\npeer_check = 'log'\n[worker]\nnice = 3").unwrap();
        let mut given = Settings::default();
        given.set_nice(4).unwrap();
        let mut all = effective(&given, |_| true, &file).unwrap();
        all.retain(|setting| setting.key != "control.socket");
        let text = as_file(&all, Some(Path::new("/etc/x.toml")), true);
        for line in [
            "[overlay]",
            "devices = \"auto\"                 # default",
            "peer_check = \"log\"               # file /etc/x.toml",
            "nice = 4                         # flag --nice",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        let again = config::parse(&text).unwrap();
        assert_eq!(again.nice, Some(4));
    }
}
