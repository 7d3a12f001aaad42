//! The flags that say how a result is shown, and showing it.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Args;

use super::failure::Failure;
use crate::cli::{exit, fail, print};
use crate::loadgen::report::Report;

/// How a result is shown.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct Output {
    /// Print one JSON document (schema vxgate-bench/1) instead of text.
    #[arg(long)]
    json: bool,
}

impl Output {
    /// Whether progress is told while it goes on: to people, not to files.
    pub(super) fn shows_progress(&self) -> bool {
        !self.json && io::stderr().is_terminal()
    }

    /// Whether there will be one JSON document, and nothing before it.
    pub(super) fn is_document(&self) -> bool {
        self.json
    }

    /// Shows a result, or why there is none.
    pub(super) fn show(&self, outcome: Result<Report, Failure>) -> ExitCode {
        let report = match outcome {
            Ok(report) => report,
            Err(failure) => return fail(failure.code(), &failure),
        };
        if !self.json {
            print(&report.to_string());
            return ExitCode::SUCCESS;
        }
        match serde_json::to_string_pretty(&report) {
            Ok(json) => print(&format!("{json}\n")),
            Err(error) => return fail(exit::FAILED, &error),
        }
        ExitCode::SUCCESS
    }
}
