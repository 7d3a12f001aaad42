//! `vxgate state`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::output::OutputError;
use super::{SocketArgument, fail, print};
use crate::show::ask_state;
use crate::state::State;

/// Arguments of `vxgate state`.
#[derive(Debug, Args)]
pub(super) struct StateCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the published table and what steering is told as one JSON document (schema vxgate-state/1).
    Dump(Dump),
}

#[derive(Debug, Args)]
struct Dump {
    /// Write to this file instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    socket: SocketArgument,
}

impl StateCommand {
    pub(super) fn execute(self) -> ExitCode {
        match self.command {
            Command::Dump(dump) => dump.execute(),
        }
    }
}

impl Dump {
    fn execute(self) -> ExitCode {
        let state = match state_of(&self.socket) {
            Ok(state) => state,
            Err(code) => return code,
        };
        let written = serde_json::to_string_pretty(&state)
            .map_err(std::io::Error::from)
            .and_then(|mut text| {
                text.push('\n');
                match &self.output {
                    Some(path) => fs::write(path, text),
                    None => {
                        print(&text);
                        Ok(())
                    }
                }
            });
        let what = self
            .output
            .map_or_else(|| "the state".to_owned(), |path| path.display().to_string());
        match written.map_err(OutputError::of(what)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        }
    }
}

/// What the daemon there goes by; or, when it does not say, the exit code, with all else said.
pub(super) fn state_of(socket: &SocketArgument) -> Result<State, ExitCode> {
    let bytes = ask_state(&socket.path()?).map_err(|error| fail(&error))?;
    State::parse(&bytes).map_err(|error| fail(&error))
}
