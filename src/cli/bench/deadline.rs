//! When a measurement of many trials ends though it is not complete: its time is over, or somebody says so.

use std::time::{Duration, Instant};

use super::failure::Failure;
use super::interrupt::Interrupt;
use super::tester::Tester;
use crate::loadgen::report::TrialReport;

/// The end of a measurement.
pub(super) struct Deadline {
    interrupt: Interrupt,
    started: Instant,
    limit: Duration,
}

impl Deadline {
    /// So long from now on, or until SIGINT or SIGTERM.
    pub(super) fn new(limit: Duration) -> Result<Self, Failure> {
        Ok(Self {
            interrupt: Interrupt::listen().map_err(Failure::Signals)?,
            started: Instant::now(),
            limit,
        })
    }

    /// Since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether a signal has come.
    pub(super) fn interrupted(&self) -> bool {
        self.interrupt.came()
    }

    /// Runs a trial; none when its end would be too late, or a signal cut it short: then it says nothing.
    pub(super) fn trial(
        &self,
        tester: &mut Tester,
        rate_fps: f64,
        duration: Duration,
    ) -> Result<Option<TrialReport>, Failure> {
        if self.interrupted() || self.elapsed() + duration > self.limit {
            return Ok(None);
        }
        let ended = tester.watched(rate_fps, [duration; 2], &mut |look| {
            if self.interrupted() {
                look.stop();
            }
            Ok(())
        })?;
        Ok(Some(ended.report).filter(|_| !self.interrupted()))
    }
}
