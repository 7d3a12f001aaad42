//! Running what a finding names.

use std::io;
use std::process::{Command, Stdio};

use super::report::Mended;
use crate::fault::{self, Explained, Fault};

/// Why a command did not mend anything.
#[derive(Debug, thiserror::Error)]
enum MendError {
    #[error("cannot run {program}: {source}")]
    NotRun { program: String, source: io::Error },
    #[error("it ended with {status}: {said}")]
    Failed {
        status: std::process::ExitStatus,
        said: String,
    },
    #[error("there is no command")]
    Nothing,
}

impl Explained for MendError {
    fn fault(&self) -> Fault {
        Fault::MendFailed
    }
}

/// Runs a command to its end, and tells what came of it.
pub(super) fn run(command: Vec<String>) -> Mended {
    let error = execute(&command).err().map(|error| fault::line(&error));
    Mended { command, error }
}

fn execute(command: &[String]) -> Result<(), MendError> {
    let (program, arguments) = command.split_first().ok_or(MendError::Nothing)?;
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| MendError::NotRun {
            program: program.clone(),
            source,
        })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(MendError::Failed {
        status: output.status,
        said: said.split_whitespace().collect::<Vec<_>>().join(" "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(command: &[&str]) -> Option<String> {
        run(command.iter().map(|word| (*word).to_owned()).collect()).error
    }

    #[test]
    fn a_command_that_fails_or_is_not_there_is_told_with_its_words() {
        assert_eq!(error(&["true"]), None);
        let failed = error(&["sh", "-c", "echo no such thing >&2; exit 3"]).unwrap();
        assert!(
            failed.contains("exit status: 3: no such thing") && failed.contains("VXG-0814"),
            "{failed}"
        );
        let missing = error(&["/no/such/program"]).unwrap();
        assert!(
            missing.starts_with("cannot run /no/such/program"),
            "{missing}"
        );
        assert!(error(&[]).is_some());
    }
}
