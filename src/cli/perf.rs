//! `vxgate perf`.

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::duration::seconds;
use super::progress::Progress;
use super::{SocketArgument, fail, print, print_json};
use crate::fault::{Explained, Fault};
use crate::port::now_ns;
use crate::show::{Action, Look, Measuring, Perf, Scale, SocketError, WorkersNow, ask_for, order};

/// How often the daemon is asked to go on measuring; each time it does for twice as long.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How often the clock is read to find out what that costs.
const READINGS: u32 = 1000;

/// Arguments of `vxgate perf`.
#[derive(Debug, Args)]
pub(super) struct ShowPerf {
    /// Only this worker.
    #[arg(long, value_name = "N")]
    worker: Option<u32>,
    /// How long to look: seconds, or with a unit (500ms, 1m).
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = seconds)]
    time: Duration,
    /// Show how large the batches were, too.
    #[arg(long)]
    hist: bool,
    /// Do not measure the stages of turns, which is for root and takes a little of the workers' time.
    #[arg(long)]
    no_stages: bool,
    /// Print one JSON document (schema vxgate/1) instead of text.
    #[arg(long, conflicts_with = "hist")]
    json: bool,
    #[command(flatten)]
    socket: SocketArgument,
}

impl ShowPerf {
    pub(super) fn execute(self) -> ExitCode {
        let path = match self.socket.path() {
            Ok(path) => path,
            Err(code) => return code,
        };
        match self.look(&path) {
            Ok(perf) => self.show(&perf),
            Err(code) => code,
        }
    }

    fn look(&self, path: &Path) -> Result<Perf, ExitCode> {
        // Before the first look, so that one that cannot be had is no reason to wait.
        let measures = self.begin(path)?;
        let before = now(path, Duration::ZERO)?;
        let begin = Instant::now();
        self.between(&before, &before, begin)?;
        let mut progress = Progress::new();
        loop {
            let left = self.time.saturating_sub(begin.elapsed());
            if left.is_zero() {
                break;
            }
            progress.tell(|| format!("looking: {} s left", left.as_secs_f64().ceil()));
            thread::sleep(left.min(ASK_AGAIN));
            if measures && left > ASK_AGAIN {
                measure(path).map_err(|error| fail(&error))?;
            }
        }
        drop(progress);
        let after = now(path, begin.elapsed())?;
        self.between(&before, &after, begin)
    }

    /// Has the stages measured. Whether they are: the rest is for everybody.
    fn begin(&self, path: &Path) -> Result<bool, ExitCode> {
        if self.no_stages {
            return Ok(false);
        }
        match measure(path) {
            Ok(()) => Ok(true),
            Err(error) if error.fault() == Fault::RequestDenied => {
                eprintln!(
                    "vxgate: the stages of turns are measured for root only; the rest is shown"
                );
                Ok(false)
            }
            Err(error) => Err(fail(&error)),
        }
    }

    fn between(
        &self,
        before: &WorkersNow,
        after: &WorkersNow,
        begin: Instant,
    ) -> Result<Perf, ExitCode> {
        let scale = Scale {
            seconds: begin.elapsed().as_secs_f64(),
            clock_ns: clock_ns(),
        };
        let perf = Perf::between(before, after, self.worker, scale);
        perf.map_err(|error| fail(&error))
    }

    fn show(&self, perf: &Perf) -> ExitCode {
        if self.json {
            if let Err(error) = print_json(perf) {
                return fail(&error);
            }
            return ExitCode::SUCCESS;
        }
        print(&perf.to_string());
        if self.hist {
            print(&perf.histograms());
        }
        ExitCode::SUCCESS
    }
}

/// The workers, and how full their rings were in the time before.
fn now(path: &Path, lately: Duration) -> Result<WorkersNow, ExitCode> {
    let last_ms = u64::try_from(lately.as_millis()).unwrap_or(u64::MAX);
    ask_for(path, Look::Workers { last_ms }).map_err(|error| fail(&error))
}

/// Has the stages measured for a while.
fn measure(path: &Path) -> Result<(), SocketError> {
    order::<Measuring>(path, Action::MeasureStages).map(drop)
}

/// What it costs to read the clock once.
fn clock_ns() -> f64 {
    let begin_ns = now_ns();
    let mut end_ns = begin_ns;
    for _ in 0..READINGS {
        end_ns = now_ns();
    }
    end_ns.saturating_sub(begin_ns) as f64 / f64::from(READINGS)
}
