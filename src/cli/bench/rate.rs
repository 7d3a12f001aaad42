//! `vxgate bench rate`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::failure::Failure;
use super::output::Output;
use super::tester::{Tester, TesterFlags};
use crate::cli::duration::seconds;
use crate::loadgen::rate::Rate;
use crate::loadgen::report::Report;

/// Arguments of `vxgate bench rate`.
#[derive(Debug, Args)]
pub(super) struct MeasureRate {
    #[command(flatten)]
    tester: TesterFlags,
    /// Frames a second (250k, 1.5Mfps), bits a second (2Gbps, 2GbpsL1), a share of the line (80%), a multiple of a
    /// recording's speed (1x), or max.
    #[arg(long, default_value = "10k")]
    rate: Rate,
    /// Time to send, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    duration: Duration,
    #[command(flatten)]
    output: Output,
}

impl MeasureRate {
    pub(super) fn execute(&self) -> ExitCode {
        self.output.show(self.measure())
    }

    fn measure(&self) -> Result<Report, Failure> {
        let mut tester = Tester::open(&self.tester, self.output.shows_progress())?;
        let rate_fps = tester.frames_per_second(self.rate)?;
        let trial = tester.trial(rate_fps, self.duration)?;
        tester.report("rate", vec![trial])
    }
}
