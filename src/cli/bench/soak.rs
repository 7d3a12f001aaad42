//! `vxgate bench soak`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::failure::Failure;
use super::interrupt::Interrupt;
use super::look::{Change, Look, Seen};
use super::output::Output;
use super::tester::{Ended, Tester, TesterFlags};
use crate::cli::duration::seconds;
use crate::cli::{exit, fail, print, print_json_line};
use crate::loadgen::memory::resident_bytes;
use crate::loadgen::rate::Rate;
use crate::loadgen::report::{Report, Soak, Window};

/// The most windows that are kept for the report.
const WINDOWS_MAX: usize = 10_000;

/// Arguments of `vxgate bench soak`.
#[derive(Debug, Args)]
#[command(
    after_help = "Frames count as sent in the window in which they left, and as lost once they are 200 ms overdue; what arrives \
                  later still is taken off again (a loss below 0). The books at the end are exact, and the windows add up to \
                  them. SIGINT and SIGTERM end the soak early, with a report over what was measured; a second one ends it \
                  without.\n\
                  \n\
                  It is one trial at one rate. It does not look for the rate that a device bears at a loss ratio of 1e-7, as \
                  the SOAK tests of FD.io CSIT (PLRsearch) do."
)]
pub(super) struct MeasureSoak {
    #[command(flatten)]
    tester: TesterFlags,
    /// Frames a second (250k, 1.5Mfps), bits a second (2Gbps, 2GbpsL1), a share of the line (80%), or max.
    #[arg(long, default_value = "10k")]
    rate: Rate,
    /// Time to send: 90s, 30m, 2h, at most 72h.
    #[arg(long, value_name = "TIME", default_value = "2h", value_parser = seconds)]
    duration: Duration,
    /// Time of a window, of which a line tells: 60s, 10m.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = seconds)]
    every: Duration,
    /// Fail (exit code 1) when a larger share of the frames than this is lost in the whole: 0 to 1.
    #[arg(long, value_name = "RATIO", value_parser = ratio)]
    loss_limit: Option<f64>,
    /// Print each window as a JSON object on a line of its own, as it ends, and the whole document on the last line.
    #[arg(long, conflicts_with_all = ["json", "csv"])]
    json_lines: bool,
    #[command(flatten)]
    output: Output,
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err("use a share of the frames, 0 to 1: 0.001, 1e-6".to_owned()),
    }
}

impl MeasureSoak {
    pub(super) fn execute(&self) -> ExitCode {
        let report = match self.measure() {
            Ok(report) => report,
            Err(failure) => return self.output.show(Err(failure)),
        };
        let failed = report.soak.as_ref().and_then(|soak| soak.passed) == Some(false);
        let shown = if self.json_lines {
            if let Err(error) = print_json_line(&report) {
                return fail(&error);
            }
            self.output.write_page(&report)
        } else {
            self.output.show(Ok(report))
        };
        if failed {
            ExitCode::from(exit::FAILED)
        } else {
            shown
        }
    }

    fn measure(&self) -> Result<Report, Failure> {
        let count = (self.duration.as_secs_f64() / self.every.as_secs_f64()).ceil() as usize;
        if count > WINDOWS_MAX {
            return Err(Failure::Windows {
                count,
                most: WINDOWS_MAX,
            });
        }
        let interrupt = Interrupt::listen().map_err(Failure::Signals)?;
        let mut tester = Tester::open(&self.tester, self.output.shows_progress())?;
        let rate_fps = tester.frames_per_second(self.rate)?;
        let mut windows = Windows::new(self, count.max(1));
        if self.shows_lines() && !self.json_lines {
            print(&Soak::headings());
        }
        let ended = tester.watched(rate_fps, [self.duration; 2], &mut |look| {
            if interrupt.came() {
                look.stop();
            }
            windows.look(look)
        })?;
        windows.finish(&ended)?;
        let loss_ratio = ended.report.loss_ratio;
        let soak = Soak {
            every_s: self.every.as_secs_f64(),
            interrupted: interrupt.came(),
            loss_limit: self.loss_limit,
            passed: self.loss_limit.map(|limit| loss_ratio <= limit),
            windows: windows.closed,
        };
        let report = tester.report("soak", vec![ended.report])?;
        Ok(Report {
            soak: Some(soak),
            ..report
        })
    }

    /// Whether each window is printed when it ends.
    fn shows_lines(&self) -> bool {
        self.json_lines || !self.output.is_document()
    }

    fn show(&self, window: &Window) {
        if !self.shows_lines() {
            return;
        }
        if self.json_lines {
            if let Err(error) = print_json_line(window) {
                // The measurement goes on: its end tells the rest.
                fail(&error);
            }
            return;
        }
        if self.output.shows_progress() {
            // The line of progress makes room.
            eprint!("\r\x1b[K");
        }
        print(&window.to_string());
    }
}

/// The windows of a soak, as they end.
struct Windows<'a> {
    soak: &'a MeasureSoak,
    count: usize,
    closed: Vec<Window>,
    /// At the end of the last one.
    before: Option<Seen>,
    began: Duration,
}

impl<'a> Windows<'a> {
    fn new(soak: &'a MeasureSoak, count: usize) -> Self {
        Self {
            soak,
            count,
            closed: Vec::new(),
            before: None,
            began: Duration::ZERO,
        }
    }

    /// Closes the current window if its time is over. The last one ends with the trial.
    fn look(&mut self, look: &Look<'_>) -> Result<(), Failure> {
        let number = self.closed.len() as u32 + 1;
        let due = self.soak.every * number;
        if look.elapsed < due || number as usize >= self.count {
            return Ok(());
        }
        self.close(look.elapsed, look.read()?)
    }

    /// Closes the last window over all that has not been told.
    fn finish(&mut self, ended: &Ended) -> Result<(), Failure> {
        self.close(ended.sent.elapsed.max(self.began), ended.seen())
    }

    fn close(&mut self, at: Duration, seen: Seen) -> Result<(), Failure> {
        let Change {
            sent,
            received,
            lost,
            latency,
        } = seen.since(self.before.as_ref())?;
        let unheard = sent as i64 - received as i64;
        let window = Window {
            at_s: at.as_secs_f64(),
            duration_s: at.saturating_sub(self.began).as_secs_f64(),
            sent,
            received,
            lost,
            loss_ratio: unheard as f64 / sent.max(1) as f64,
            latency,
            resident_bytes: resident_bytes().map_err(Failure::Memory)?,
        };
        self.soak.show(&window);
        self.closed.push(window);
        (self.before, self.began) = (Some(seen), at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_limit_is_a_share() {
        assert_eq!(ratio("1e-6"), Ok(1e-6));
        assert_eq!(ratio("0"), Ok(0.0));
        for bad in ["-1", "1.5", "NaN", "0.1%", ""] {
            assert!(ratio(bad).is_err(), "{bad}");
        }
    }
}
