//! The flags that say how a result is shown, and showing it.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::failure::Failure;
use super::page::{self, Page};
use crate::cli::{fail, print, print_json};
use crate::loadgen::comparison::Comparison;
use crate::loadgen::report::Report;

/// How a result is shown.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct Output {
    /// Print one JSON document (schema vxgate-bench/1) instead of text.
    #[arg(long)]
    json: bool,
    /// Print comma-separated values instead of text: a header, then a line a trial. Columns keep their order for good.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Write a page with tables and plots as well: one file, which needs nothing else to be read or printed.
    #[arg(long, value_name = "FILE.html", value_parser = page_path)]
    report: Option<PathBuf>,
}

/// A result that can be shown in every way.
pub(super) trait Shown: Serialize {
    /// For people.
    fn text(&self) -> String;
    /// For spreadsheets.
    fn csv(&self) -> String;
    /// For a browser.
    fn page(&self) -> Page;
}

impl Shown for Report {
    fn text(&self) -> String {
        self.to_string()
    }

    fn csv(&self) -> String {
        self.csv()
    }

    fn page(&self) -> Page {
        page::measurement(self)
    }
}

impl Shown for Comparison {
    fn text(&self) -> String {
        self.to_string()
    }

    fn csv(&self) -> String {
        self.csv()
    }

    fn page(&self) -> Page {
        page::comparison(self)
    }
}

/// Judged before hours of measuring: where no page can be written, that is said at once.
fn page_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    page::writable(&path).map_err(|error| error.to_string())?;
    Ok(path)
}

impl Output {
    /// Whether progress is told while it goes on: to people, not to files.
    pub(super) fn shows_progress(&self) -> bool {
        !self.json && !self.csv && io::stderr().is_terminal()
    }

    /// Whether there will be one document, and nothing before it.
    pub(super) fn is_document(&self) -> bool {
        self.json || self.csv
    }

    /// Shows a measurement, or why there is none.
    pub(super) fn show(&self, outcome: Result<Report, Failure>) -> ExitCode {
        self.show_any(outcome)
    }

    /// Shows any result, or why there is none.
    pub(super) fn show_any<T: Shown>(&self, outcome: Result<T, Failure>) -> ExitCode {
        let result = match outcome {
            Ok(result) => result,
            Err(failure) => return fail(&failure),
        };
        // First what cannot fail: a page that cannot be written must not take the result along.
        if self.json {
            if let Err(error) = print_json(&result) {
                return fail(&error);
            }
        } else if self.csv {
            print(&result.csv());
        } else {
            print(&result.text());
        }
        self.write_page(&result)
    }

    /// Writes the page, when one was asked for.
    pub(super) fn write_page<T: Shown>(&self, result: &T) -> ExitCode {
        let path = self.report.as_deref();
        match path.map(|path| result.page().write(path)) {
            Some(Err(error)) => fail(&error),
            _ => ExitCode::SUCCESS,
        }
    }
}
