//! `vxgate bench latency`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::deadline::Deadline;
use super::failure::Failure;
use super::output::Output;
use super::search::{Found, SearchFlags};
use super::tester::{Tester, TesterFlags};
use crate::cli::duration::seconds;
use crate::cli::exit;
use crate::loadgen::rate::{Rate, Scaled};
use crate::loadgen::report::{
    Base, GoalName, LatencyAt, LoadLatency, Report, SearchReport, TrialReport,
};

/// Frames a second that do not load a device: CSIT's probes.
const PROBE_FPS: f64 = 9_000.0;
/// Nor do these.
const PROBE_SHARE: f64 = 0.01;

/// Arguments of `vxgate bench latency`.
#[derive(Debug, Args)]
pub(super) struct MeasureLatency {
    #[command(flatten)]
    tester: TesterFlags,
    /// The PDR that the shares are of, instead of searching for it.
    #[arg(long, value_name = "RATE")]
    pdr: Option<Rate>,
    /// Shares of the PDR, in %. The unloaded device comes first in any case.
    #[arg(long, value_name = "PERCENT", value_delimiter = ',', default_value = "10,50,90", value_parser = percent)]
    at: Vec<f64>,
    /// Seconds at each load.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    duration: Duration,
    #[command(flatten)]
    search: SearchFlags,
    #[command(flatten)]
    output: Output,
}

/// A share in percent, as a share of 1. More than all is no latency but the length of a queue.
fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').trim().parse::<f64>() {
        Ok(number) if number > 0.0 && number <= 100.0 => Ok(number / 100.0),
        _ => Err("use percents above 0, at most 100: 10,50,90".to_owned()),
    }
}

/// What is known of the rate that shares are taken of, before latency is measured.
struct Ground {
    base: Option<(Base, f64)>,
    search: Option<SearchReport>,
    trials: Vec<TrialReport>,
}

impl MeasureLatency {
    pub(super) fn execute(&self) -> ExitCode {
        let outcome = self.measure();
        let missing = outcome
            .as_ref()
            .is_ok_and(|report| report.latency_at.is_none());
        let code = self.output.show(outcome);
        if missing {
            eprintln!(
                "vxgate: no latency was measured: the search found no rate to take shares of"
            );
            return ExitCode::from(exit::FAILED);
        }
        code
    }

    fn measure(&self) -> Result<Report, Failure> {
        // Progress is told here.
        let mut tester = Tester::open(&self.tester, false)?;
        let deadline = self.search.deadline()?;
        let Ground {
            base,
            search,
            mut trials,
        } = self.ground(&mut tester, &deadline)?;
        let latency_at = match base {
            Some((base, base_fps)) => {
                let loads = self.loads(&mut tester, base_fps, &deadline, &mut trials)?;
                Some(LatencyAt {
                    base_fps,
                    base,
                    loads,
                })
            }
            None => None,
        };
        Ok(Report {
            search,
            latency_at,
            ..tester.report("latency", trials)?
        })
    }

    fn ground(&self, tester: &mut Tester, deadline: &Deadline) -> Result<Ground, Failure> {
        if let Some(pdr) = self.pdr {
            let pdr_fps = tester.frames_per_second(pdr)?;
            if !pdr_fps.is_finite() {
                return Err(Failure::Search(
                    "--pdr max: shares can only be taken of a number".to_owned(),
                ));
            }
            return Ok(Ground {
                base: Some((Base::GivenPdr, pdr_fps)),
                search: None,
                trials: Vec::new(),
            });
        }
        let until = (deadline, self.output.shows_progress());
        let Found { report, trials } = self.search.run(tester, &self.tester, until)?;
        Ok(Ground {
            base: base_of(&report),
            search: Some(report),
            trials,
        })
    }

    /// Rising, with 0 for the unloaded device.
    fn shares(&self) -> Vec<f64> {
        let mut shares: Vec<_> = std::iter::once(0.0)
            .chain(self.at.iter().copied())
            .collect();
        shares.sort_by(f64::total_cmp);
        shares.dedup();
        shares
    }

    fn loads(
        &self,
        tester: &mut Tester,
        base_fps: f64,
        deadline: &Deadline,
        trials: &mut Vec<TrialReport>,
    ) -> Result<Vec<LoadLatency>, Failure> {
        let mut loads = Vec::new();
        for share in self.shares() {
            let asked_fps = if share == 0.0 {
                PROBE_FPS.min(base_fps * PROBE_SHARE)
            } else {
                base_fps * share
            };
            self.tell(share, asked_fps);
            let Some(trial) = deadline.trial(tester, asked_fps, self.duration)? else {
                break;
            };
            loads.push(LoadLatency::new(share, asked_fps, &trial));
            trials.push(trial);
        }
        if self.output.shows_progress() {
            eprint!("\r\x1b[K");
        }
        Ok(loads)
    }

    /// Progress, a line over the last one.
    fn tell(&self, share: f64, asked_fps: f64) {
        if self.output.shows_progress() {
            eprint!(
                "\r\x1b[K  latency at {:.0} %: {} frames/s for {:.1} s",
                share * 100.0,
                Scaled(asked_fps),
                self.duration.as_secs_f64()
            );
        }
    }
}

/// The rate that a search gives shares of: its PDR, or what is borne at least where the limit is not the device's.
fn base_of(search: &SearchReport) -> Option<(Base, f64)> {
    let found = search.pdr.map(|pdr| (Base::FoundPdr, pdr.throughput_fps));
    let pdr = search
        .goals
        .iter()
        .find(|goal| goal.name == GoalName::Pdr)
        .filter(|_| search.finished);
    let at_least = pdr.and_then(|pdr| Some((Base::AtLeast, pdr.at_least_fps?)));
    found.or(at_least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percents_up_to_all() {
        assert_eq!(percent("10"), Ok(0.1));
        assert_eq!(percent("90%"), Ok(0.9));
        for text in ["0", "-1", "101", "nan", "", "half"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }
}
