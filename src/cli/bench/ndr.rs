//! `vxgate bench ndr`.

use std::process::ExitCode;

use clap::Args;

use super::failure::Failure;
use super::output::Output;
use super::search::SearchFlags;
use super::tester::{Tester, TesterFlags};
use crate::cli::exit;
use crate::loadgen::report::Report;

/// Arguments of `vxgate bench ndr`.
#[derive(Debug, Args)]
pub(super) struct SearchNdr {
    #[command(flatten)]
    tester: TesterFlags,
    #[command(flatten)]
    search: SearchFlags,
    #[command(flatten)]
    output: Output,
}

impl SearchNdr {
    pub(super) fn execute(&self) -> ExitCode {
        let outcome = self.measure();
        let unfinished = outcome.as_ref().is_ok_and(Report::is_unfinished);
        let code = self.output.show(outcome);
        if unfinished {
            return ExitCode::from(exit::FAILED);
        }
        code
    }

    fn measure(&self) -> Result<Report, Failure> {
        // The search tells of its progress itself.
        let mut tester = Tester::open(&self.tester, false)?;
        let until = (&self.search.deadline()?, self.output.shows_progress());
        let found = self.search.run(&mut tester, &self.tester, until)?;
        Ok(Report {
            search: Some(found.report),
            ..tester.report("ndr", found.trials)?
        })
    }
}
