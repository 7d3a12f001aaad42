//! `vxgate drops`.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};

use super::output::{OutputError, print_screen, print_to_reader};
use super::{SocketArgument, exit, fail, print, print_json};
use crate::show::{Drops, LastDropped, Look, Since, SocketError, ask, ask_for};
use crate::stats::DropReason;

/// How often to look again.
const PAUSE: Duration = Duration::from_secs(1);
/// In place of a file's name: standard output.
const STDOUT: &str = "-";

/// Arguments of `vxgate drops`.
#[derive(Debug, Args)]
pub(super) struct ShowDrops {
    /// Count those of the last minute, 10 minutes or hour [default: since the takeover].
    #[arg(long, value_enum, value_name = "TIME")]
    since: Option<Window>,
    /// Look again every second, until interrupted.
    #[arg(long)]
    watch: bool,
    /// Print the last frames that died, in words and in hexadecimal digits: of each reason and direction as many as are
    /// kept, or those of one reason.
    #[arg(
        long,
        value_name = "REASON",
        num_args = 0..=1,
        value_parser = reasons(),
        hide_possible_values = true,
        conflicts_with_all = ["since", "watch"]
    )]
    last: Option<Option<String>>,
    /// Write these frames as pcapng instead, each with its reason as comment; `-` is standard output.
    #[arg(long, value_name = "FILE", requires = "last", conflicts_with = "json")]
    pcap: Option<PathBuf>,
    /// Print JSON (schema vxgate/1) instead of text: one document, or with --watch one a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgument,
}

fn reasons() -> PossibleValuesParser {
    PossibleValuesParser::new(DropReason::ALL.iter().map(|reason| reason.label()))
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
        if let Some(reason) = &self.last {
            let shown = self.show_last(&path, reason.as_deref());
            return shown.map_or_else(|code| code, |()| ExitCode::SUCCESS);
        }
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

    /// Shows the last frames that died of a reason, or of any.
    fn show_last(&self, path: &Path, reason: Option<&str>) -> Result<(), ExitCode> {
        let last = ask_for::<LastDropped>(path, Look::DroppedFrames);
        let mut last = last.map_err(|error| fail(&error))?;
        if let Some(reason) = reason {
            last = last.of(reason);
        }
        if let Some(file) = &self.pcap {
            return write_pcapng(&last, file).map_err(|error| fail(&error));
        }
        if self.json {
            return print_json(&last).map_err(|error| fail(&error));
        }
        print(&last.to_string());
        Ok(())
    }

    /// Looks once.
    fn show(&self, path: &Path) -> Result<Shown, ExitCode> {
        let status = ask(path).map_err(|error| fail(&error))?;
        let last = match ask_for(path, Look::DroppedFrames) {
            Ok(last) => last,
            // An older daemon does not know the question: there are no examples then.
            Err(SocketError::Refused { .. }) => LastDropped::new(Vec::new()),
            Err(error) => return Err(fail(&error)),
        };
        let drops = Drops::of(&status, &last, self.since.into());
        let text = self.written(&drops).map_err(|error| fail(&error))?;
        let is_screen = self.watch && !self.json && io::stdout().is_terminal();
        let printed = if is_screen {
            print_screen(&text)
        } else {
            print_to_reader(&text)
        };
        if !printed {
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
            return Ok(drops.to_string());
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

fn write_pcapng(last: &LastDropped, file: &Path) -> Result<(), OutputError> {
    let written = if file == Path::new(STDOUT) {
        last.write_pcapng(io::stdout().lock())
    } else {
        File::create(file).and_then(|file| last.write_pcapng(BufWriter::new(file)))
    };
    match written {
        // A reader that has gone away is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(OutputError::of(file.display().to_string())),
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
