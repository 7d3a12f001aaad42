//! `vxgate bench disrupt`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::disturber::{Disturber, KILL_AFTER};
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::look::{Look, Seen};
use super::output::Output;
use super::tester::{Ended, Tester, TesterFlags};
use crate::cli::duration::seconds;
use crate::loadgen::gap::{Arrived, Gap};
use crate::loadgen::rate::Rate;
use crate::loadgen::report::{Blocked, DisruptedRun, Disruption, Outcome, Phase, Report};

/// What the load lasts longer than it should ever have to.
const SPARE: Duration = Duration::from_secs(5);

/// Arguments of `vxgate bench disrupt`.
#[derive(Debug, Args)]
#[command(
    override_usage = "vxgate bench disrupt --tx DEVICE --rx DEVICE [OPTIONS] -- COMMAND [ARGS]...",
    after_help = "Each run is two trials: one without the command, which shows what this machine does by itself, and one during \
                  which the command is started. The second lasts as long as the first, or until the command has ended and \
                  --settle is over. Reported are the effective blocked time (lost / rate, as in the reconfiguration tests of \
                  FD.io CSIT), the longest gap between two arrivals, and loss and latency before, during and after the \
                  command.\n\
                  \n\
                  The command runs in this network namespace with this environment; what it prints goes to standard error. \
                  The exit code is 0 when there is a result, whatever that of the command, which is in the report. SIGINT and \
                  SIGTERM end the command (SIGTERM, after 2 s SIGKILL, to its process group) and the load, with a report."
)]
pub(super) struct MeasureDisrupt {
    #[command(flatten)]
    tester: TesterFlags,
    /// Frames a second (250k, 1.5Mfps), bits a second (2Gbps, 2GbpsL1), a share of the line (80%), or max.
    #[arg(long, default_value = "10k")]
    rate: Rate,
    /// Time of each trial: 10, 500ms, 2m. With the command, longer if need be.
    #[arg(long, value_name = "TIME", default_value = "10", value_parser = seconds)]
    duration: Duration,
    /// How long the load runs before the command is started.
    #[arg(long, value_name = "TIME", default_value = "1", value_parser = seconds)]
    after: Duration,
    /// How long the load goes on after the command has ended, at least.
    #[arg(long, value_name = "TIME", default_value = "1", value_parser = seconds)]
    settle: Duration,
    /// How long the command may take. Then it is ended.
    #[arg(long, value_name = "TIME", default_value = "60", value_parser = seconds)]
    time_limit: Duration,
    /// How often all this is done.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    #[command(flatten)]
    output: Output,
    /// What disturbs.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl MeasureDisrupt {
    pub(super) fn execute(&self) -> ExitCode {
        self.output.show(self.measure())
    }

    fn measure(&self) -> Result<Report, Failure> {
        let interrupt = Interrupt::listen().map_err(Failure::Signals)?;
        let mut tester = Tester::open(&self.tester, self.output.shows_progress())?;
        let rate_fps = tester.frames_per_second(self.rate)?;
        let (mut runs, mut trials) = (Vec::new(), Vec::new());
        for _ in 0..self.repeat {
            let undisturbed = self.undisturbed(&mut tester, rate_fps, &interrupt)?;
            if interrupt.came() {
                break;
            }
            let (disturbed, course) = self.disturbed(&mut tester, rate_fps, &interrupt)?;
            let first = trials.len();
            let run = course.report(
                blocked(first, &undisturbed, tester.burst()),
                blocked(first + 1, &disturbed, tester.burst()),
                &disturbed,
            )?;
            // Told to end before the command was started.
            let Some(run) = run else { break };
            runs.push(run);
            trials.extend([undisturbed.report, disturbed.report]);
            if interrupt.came() {
                break;
            }
        }
        if runs.is_empty() {
            return Err(Failure::Interrupted);
        }
        let disruption = Disruption {
            command: self.command.clone(),
            interrupted: interrupt.came(),
            runs,
        };
        let report = tester.report("disrupt", trials)?;
        Ok(Report {
            disruption: Some(disruption),
            ..report
        })
    }

    fn undisturbed(
        &self,
        tester: &mut Tester,
        rate_fps: f64,
        interrupt: &Interrupt,
    ) -> Result<Ended, Failure> {
        tester.watched(rate_fps, [self.duration; 2], &mut |look| {
            if interrupt.came() {
                look.stop();
            }
            Ok(())
        })
    }

    fn disturbed(
        &self,
        tester: &mut Tester,
        rate_fps: f64,
        interrupt: &Interrupt,
    ) -> Result<(Ended, Course), Failure> {
        let with_command = self.after + self.time_limit + KILL_AFTER + self.settle;
        let longest = self.duration.max(with_command) + SPARE;
        let mut course = Course::default();
        let ended = tester.watched(rate_fps, [self.duration, longest], &mut |look| {
            course.go_on(self, look, interrupt.came())
        })?;
        Ok((ended, course))
    }
}

/// How far a disturbed trial is.
#[derive(Default)]
struct Course {
    running: Option<Disturber>,
    /// When the command was started, and what had come by then.
    start: Option<(Duration, Seen)>,
    /// When it had ended, what had come by then, and how it ended.
    end: Option<(Duration, Seen, Outcome)>,
}

impl Course {
    /// Starts the command when it is time to, waits for its end, and ends the trial some time after that.
    fn go_on(
        &mut self,
        flags: &MeasureDisrupt,
        look: &Look<'_>,
        interrupted: bool,
    ) -> Result<(), Failure> {
        let now = look.elapsed;
        if let Some((ended, ..)) = &self.end {
            if interrupted || now >= flags.duration.max(*ended + flags.settle) {
                look.stop();
            }
            return Ok(());
        }
        let Some(running) = &mut self.running else {
            if interrupted {
                look.stop();
            } else if now >= flags.after {
                self.start = Some((now, look.read()?));
                self.running = Some(Disturber::start(&flags.command, flags.time_limit)?);
            }
            return Ok(());
        };
        if interrupted {
            running.end();
        }
        if let Some(outcome) = running.outcome()? {
            self.end = Some((now, look.read()?, outcome));
        }
        Ok(())
    }

    /// What is to be told of it; nothing when the command was never started.
    fn report(
        self,
        undisturbed: Blocked,
        disturbed: Blocked,
        ended: &Ended,
    ) -> Result<Option<DisruptedRun>, Failure> {
        let (Some((start, at_start)), Some((end, at_end, outcome))) = (self.start, self.end) else {
            return Ok(None);
        };
        let (at_last, last) = (ended.seen(), ended.sent.elapsed.max(end));
        Ok(Some(DisruptedRun {
            outcome,
            undisturbed,
            disturbed,
            before: phase(start, &at_start, None)?,
            during: phase(end - start, &at_end, Some(&at_start))?,
            after: phase(last - end, &at_last, Some(&at_end))?,
        }))
    }
}

fn phase(duration: Duration, seen: &Seen, before: Option<&Seen>) -> Result<Phase, Failure> {
    let change = seen.since(before)?;
    Ok(Phase {
        duration_s: duration.as_secs_f64(),
        sent: change.sent,
        received: change.received,
        lost: change.lost,
        latency: change.latency,
    })
}

/// For how long the frames of a trial did not pass.
fn blocked(trial: usize, ended: &Ended, burst: u32) -> Blocked {
    let elapsed_ns = ended.sent.elapsed.as_nanos() as u64;
    let streams = ended.sent.per_stream.iter().zip(&ended.reached);
    let gaps = streams
        .zip(&ended.received.per_stream)
        .map(|((sent, reached), received)| {
            let arrived = Arrived {
                sent: *sent,
                reached: *reached,
                between_ns: received.gap_max_ns,
            };
            Gap::new(arrived, burst, elapsed_ns)
        });
    let lost = ended.report.books.total.lost as f64;
    Blocked {
        trial,
        blocked_s: lost / ended.report.sent_fps.max(f64::MIN_POSITIVE),
        gap: gaps.fold(Gap::default(), Gap::longer),
    }
}
