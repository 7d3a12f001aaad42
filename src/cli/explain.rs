//! `vxgate explain`.

use std::process::ExitCode;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::{exit, fail, print, print_json};
use crate::fault::{Explained, Fault, paragraph};

/// Columns of the text.
const WIDTH: usize = 80;

/// Arguments of `vxgate explain`.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// A code, as an error message shows it: VXG-0107.
    #[arg(value_name = "CODE")]
    code: Option<String>,
    /// Print one JSON document instead of text (`vxgate schema explain`).
    #[arg(long)]
    json: bool,
}

/// What was asked for is no code.
#[derive(Debug, thiserror::Error)]
#[error("there is no code '{0}'")]
struct UnknownCode(String);

impl Explained for UnknownCode {
    fn fault(&self) -> Fault {
        Fault::CodeUnknown
    }
}

/// All there is to say of a code.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Explanation {
    /// The code.
    code: &'static str,
    /// What it means, in a few words.
    title: &'static str,
    /// How a command ends that fails with it.
    exit_code: u8,
    /// Why it happens.
    cause: &'static str,
    /// What to do about it.
    fix: &'static str,
}

/// What is printed: of one code, or of all.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Answer {
    /// Of the code that was asked for.
    One(Explanation),
    /// Of every code, in ascending order.
    All(Vec<Explanation>),
}

impl Explanation {
    fn of(fault: Fault) -> Self {
        Self {
            code: fault.code(),
            title: fault.title(),
            exit_code: exit::code(fault.outcome()),
            cause: fault.cause(),
            fix: fault.fix(),
        }
    }
}

impl Explain {
    pub(super) fn execute(self) -> ExitCode {
        let Some(code) = &self.code else {
            return self.list();
        };
        let Some(fault) = Fault::from_code(code) else {
            return fail(&UnknownCode(code.clone()));
        };
        if self.json {
            return shown(print_json(&Answer::One(Explanation::of(fault))));
        }
        print(&explanation(fault));
        ExitCode::SUCCESS
    }

    fn list(&self) -> ExitCode {
        if self.json {
            let all = Fault::ALL.iter().copied().map(Explanation::of);
            return shown(print_json(&Answer::All(all.collect())));
        }
        let lines = Fault::ALL
            .iter()
            .map(|fault| format!("{}  {}\n", fault.code(), fault.title()));
        print(&lines.collect::<String>());
        ExitCode::SUCCESS
    }
}

fn shown(printed: Result<(), super::output::OutputError>) -> ExitCode {
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn explanation(fault: Fault) -> String {
    let outcome = fault.outcome();
    format!(
        "{}: {}\n\ncause\n{}\nfix\n{}\nexit code {}: {}\n",
        fault.code(),
        fault.title(),
        paragraph::filled("  ", fault.cause(), WIDTH),
        paragraph::filled("  ", fault.fix(), WIDTH),
        exit::code(outcome),
        exit::meaning(outcome),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained_within_the_width() {
        for fault in Fault::ALL {
            let text = explanation(*fault);
            assert!(text.starts_with(fault.code()));
            let plain = text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(
                plain.contains(fault.cause()) && plain.contains(fault.fix()),
                "{text}"
            );
            for line in text.lines() {
                assert!(
                    line.chars().count() <= WIDTH || !line.trim().contains(' '),
                    "{line}"
                );
            }
        }
    }
}
