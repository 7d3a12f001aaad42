//! `vxgate drops`.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::output::{OutputError, print_to_reader};
use super::{SocketArgument, exit, fail};
use crate::show::{Drops, Since, ask};

/// How often to look again.
const PAUSE: Duration = Duration::from_secs(1);
/// Clears a terminal's screen, and begins at its top.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Arguments of `vxgate drops`.
#[derive(Debug, Args)]
pub(super) struct ShowDrops {
    /// Count those of the last minute, 10 minutes or hour [default: since the takeover].
    #[arg(long, value_enum, value_name = "TIME")]
    since: Option<Window>,
    /// Look again every second, until interrupted.
    #[arg(long)]
    watch: bool,
    /// Print JSON (schema vxgate/1) instead of text: one document, or with --watch one a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgument,
}

/// How far to look back.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Window {
    /// A minute.
    #[value(name = "1m")]
    Minute,
    /// Ten minutes.
    #[value(name = "10m")]
    TenMinutes,
    /// An hour.
    #[value(name = "1h")]
    Hour,
}

impl From<Option<Window>> for Since {
    fn from(window: Option<Window>) -> Self {
        match window {
            None => Self::Takeover,
            Some(Window::Minute) => Self::Minute,
            Some(Window::TenMinutes) => Self::TenMinutes,
            Some(Window::Hour) => Self::Hour,
        }
    }
}

impl ShowDrops {
    pub(super) fn execute(self) -> ExitCode {
        let path = match self.socket.path() {
            Ok(path) => path,
            Err(code) => return code,
        };
        loop {
            match self.show(&path) {
                Ok(Shown::Nobody) => return ExitCode::SUCCESS,
                Ok(_) if self.watch => thread::sleep(PAUSE),
                Ok(Shown::Balanced) => return ExitCode::SUCCESS,
                Ok(Shown::Unbalanced) => return ExitCode::from(exit::FAILED),
                Err(code) => return code,
            }
        }
    }

    /// Looks once.
    fn show(&self, path: &Path) -> Result<Shown, ExitCode> {
        let status = ask(path).map_err(|error| fail(&error))?;
        let drops = Drops::of(&status, self.since.into());
        let text = self.written(&drops).map_err(|error| fail(&error))?;
        if !print_to_reader(&text) {
            return Ok(Shown::Nobody);
        }
        Ok(if drops.is_balanced() {
            Shown::Balanced
        } else {
            Shown::Unbalanced
        })
    }

    fn written(&self, drops: &Drops) -> Result<String, OutputError> {
        if !self.json {
            let clear = if self.watch && io::stdout().is_terminal() {
                CLEAR
            } else {
                ""
            };
            return Ok(format!("{clear}{drops}"));
        }
        let json = if self.watch {
            serde_json::to_string(drops)
        } else {
            serde_json::to_string_pretty(drops)
        };
        let json = json.map_err(io::Error::from);
        let json = json.map_err(OutputError::of("the JSON document"))?;
        Ok(json + "\n")
    }
}

/// How a look ended.
enum Shown {
    /// Every frame has its fate.
    Balanced,
    /// Some have none.
    Unbalanced,
    /// Who read it has gone.
    Nobody,
}
