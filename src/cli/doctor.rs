//! `vxgate doctor`.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::output::OutputError;
use super::{SocketArgument, exit, fail, print, print_json};
use crate::config::{ConfigError, socket_path};
use crate::doctor::{self, GatherError, Verdict};
use crate::fault::{Explained, Fault};

/// Arguments of `vxgate doctor`.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Run the commands that mend what is found, of those that do nothing else, print each, and look again.
    #[arg(long)]
    fix: bool,
    /// Leave out what is as it should be, or cannot be judged.
    #[arg(long, short)]
    quiet: bool,
    /// What the exit code 1 is for.
    #[arg(long, value_enum, default_value = "fault", value_name = "RESULT")]
    fail_on: FailOn,
    /// Print one JSON document (schema vxgate-doctor/1) instead of text.
    #[arg(long)]
    json: bool,
    /// Print the JSON Schema of that document, and look at nothing.
    #[arg(long, conflicts_with_all = ["fix", "quiet", "json"])]
    schema: bool,
    #[command(flatten)]
    socket: SocketArgument,
}

/// From which result on the exit code is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// Frames are lost, or vxgate cannot carry them.
    Fault,
    /// Warnings, too.
    Warning,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum DoctorError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Gather(#[from] GatherError),
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl DoctorError {
    fn inner(&self) -> &dyn Explained {
        match self {
            Self::Config(error) => error,
            Self::Gather(error) => error,
            Self::Output(error) => error,
        }
    }
}

impl Explained for DoctorError {
    fn fault(&self) -> Fault {
        self.inner().fault()
    }

    fn passed_on(&self) -> Option<&dyn Explained> {
        Some(self.inner())
    }
}

impl Doctor {
    pub(super) fn execute(self) -> ExitCode {
        self.look().unwrap_or_else(|error| fail(&error))
    }

    fn look(self) -> Result<ExitCode, DoctorError> {
        if self.schema {
            let schema = doctor::schema().map_err(std::io::Error::from);
            print_json(&schema.map_err(OutputError::of("the JSON Schema"))?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let path = socket_path(self.socket.socket)?;
        let mut report = if self.fix {
            doctor::mend(&path)?
        } else {
            doctor::examine(&path)?
        };
        if self.quiet {
            report = report.without_the_good();
        }
        let worst = match self.fail_on {
            FailOn::Fault => Verdict::Fault,
            FailOn::Warning => Verdict::Warning,
        };
        if self.json {
            print_json(&report)?;
        } else {
            print(&report.to_string());
        }
        Ok(if report.state >= worst {
            ExitCode::from(exit::FAILED)
        } else {
            ExitCode::SUCCESS
        })
    }
}
