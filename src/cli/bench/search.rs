//! The search for the highest loads that a device bears: its flags, and running it on a tester.
//!
//! [`mlrsearch`](crate::loadgen::mlrsearch) decides; here its trials are run. Frames that the generator could not send count
//! as lost there, because it is the load that is judged. So that this does not blame the device, every trial is recorded
//! twice: with that loss, and with the device's alone. A trial in which the difference matters is run again, a few times; a
//! bound that is none by the device's loss alone is the generator's.

use std::time::Duration;

use clap::Args;

use super::calibration;
use super::deadline::Deadline;
use super::failure::Failure;
use super::tester::{Tester, TesterFlags};
use crate::cli::duration::seconds;
use crate::loadgen::mlrsearch::{Answer, Class, Goal, Search, Trial};
use crate::loadgen::rate::{Rate, Scaled};
use crate::loadgen::report::{
    Calibration, GoalName, GoalReport, Parameters, SearchReport, Throughput, TrialReport, Verdict,
};

/// How often a trial is run again whose outcome is the generator's doing.
const REPEATS: u32 = 3;

/// What is searched for, and where.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Search")]
pub(super) struct SearchFlags {
    /// The lowest load that is tried.
    #[arg(long, value_name = "RATE", default_value = "9001")]
    min_rate: Rate,
    /// The highest load that is tried [default: the highest that the generator keeps on a direct wire].
    #[arg(long, value_name = "RATE")]
    max_rate: Option<Rate>,
    /// Take --max-rate for what the generator can keep, instead of trying it on a direct wire first.
    #[arg(long, requires = "max_rate")]
    no_calibrate: bool,
    /// Seconds of one trial.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    trial: Duration,
    /// Seconds of trials that a verdict on a load is made of.
    #[arg(long, value_name = "SECONDS", default_value = "21", value_parser = seconds)]
    sum: Duration,
    /// How far apart the bounds may be in the end, as a share of the upper one.
    #[arg(long, value_name = "SHARE", default_value = "0.5%", value_parser = share)]
    width: f64,
    /// The share of the time that may be worse than the goal allows.
    #[arg(long, value_name = "SHARE", default_value = "50%", value_parser = share)]
    exceed: f64,
    /// The share of frames that may be lost for the PDR.
    #[arg(long, value_name = "SHARE", default_value = "0.5%", value_parser = share)]
    pdr_loss: f64,
    /// The share of a load that the generator may leave unsent; a trial with more is run again, and then counts as lost.
    #[arg(long, value_name = "SHARE", default_value = "0.1%", value_parser = share)]
    unsent: f64,
    /// Seconds after which the search ends, whatever it has found.
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = seconds)]
    time_limit: Duration,
}

/// A share, as flags give it: `0.5%` or `0.005`.
fn share(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if (0.0..100.0).contains(&(number / scale * 100.0)) => Ok(number / scale),
        _ => Err("use a share: 0.5%, or 0.005".to_owned()),
    }
}

/// What a search found, with all its trials.
pub(super) struct Found {
    /// The result.
    pub report: SearchReport,
    /// Every trial, in its order.
    pub trials: Vec<TrialReport>,
}

impl SearchFlags {
    /// How long all of it may take, from now on.
    pub(super) fn deadline(&self) -> Result<Deadline, Failure> {
        Deadline::new(self.time_limit)
    }

    /// Searches until every goal has its answer, or the deadline is there.
    pub(super) fn run(
        &self,
        tester: &mut Tester,
        flags: &TesterFlags,
        (deadline, shows_progress): (&Deadline, bool),
    ) -> Result<Found, Failure> {
        let mut parameters = self.parameters(tester)?;
        let calibration = self.calibrate(tester, flags, &parameters, (deadline, shows_progress))?;
        if let Some(calibration) = &calibration {
            parameters.max_fps = parameters.max_fps.min(calibration.paced_fps);
        }
        judge(&parameters)?;
        let mut run = Run::new(parameters, shows_progress);
        while let Some((load_fps, trial_s)) = run.judged.next() {
            run.tell(load_fps, deadline.elapsed());
            let duration = Duration::from_secs_f64(trial_s);
            match deadline.trial(tester, load_fps, duration)? {
                Some(trial) => run.record(load_fps, trial_s, trial),
                None => break,
            }
        }
        if shows_progress {
            // The line of progress makes room for the result.
            eprint!("\r\x1b[K");
        }
        Ok(run.close(calibration, deadline))
    }

    fn calibrate(
        &self,
        tester: &Tester,
        flags: &TesterFlags,
        parameters: &Parameters,
        (deadline, shows_progress): (&Deadline, bool),
    ) -> Result<Option<Calibration>, Failure> {
        if self.no_calibrate {
            return Ok(None);
        }
        if shows_progress {
            eprint!("\r\x1b[K  calibrating the generator on a direct wire");
        }
        let calibration = calibration::run(tester, flags, parameters, deadline)?;
        Ok(Some(calibration))
    }

    fn parameters(&self, tester: &Tester) -> Result<Parameters, Failure> {
        let max_fps = self.max_rate.map(|rate| tester.frames_per_second(rate));
        Ok(Parameters {
            min_fps: tester.frames_per_second(self.min_rate)?,
            max_fps: max_fps.transpose()?.unwrap_or(f64::INFINITY),
            trial_s: self.trial.as_secs_f64(),
            sum_s: self.sum.as_secs_f64(),
            width: self.width,
            exceed_ratio: self.exceed,
            pdr_loss_ratio: self.pdr_loss,
            unsent_ratio: self.unsent,
            time_limit_s: self.time_limit.as_secs_f64(),
        })
    }
}

/// Whether a search can be made with them.
fn judge(parameters: &Parameters) -> Result<(), Failure> {
    let refuse = |why: &str| Err(Failure::Search(why.to_owned()));
    if !parameters.max_fps.is_finite() {
        return refuse("--max-rate max: without calibration, name a rate that the generator keeps");
    }
    if parameters.min_fps >= parameters.max_fps {
        return Err(Failure::Search(format!(
            "the lowest load is {} frames/s, and the highest only {}; see --min-rate",
            Scaled(parameters.min_fps),
            Scaled(parameters.max_fps)
        )));
    }
    if parameters.sum_s < parameters.trial_s {
        return refuse("--sum is less than one --trial");
    }
    if parameters.width <= 0.0 || parameters.width > 0.5 {
        return refuse("--width is above 0 and at most 50%");
    }
    if parameters.pdr_loss_ratio <= 0.0 {
        return refuse("--pdr-loss is above 0: without any loss is the NDR");
    }
    Ok(())
}

/// A search in progress.
struct Run {
    parameters: Parameters,
    goals: [(GoalName, Goal); 2],
    /// By the load that was meant: what was not sent is lost.
    judged: Search,
    /// By what the device lost of what was sent.
    device: Search,
    trials: Vec<TrialReport>,
    /// Of one trial, in a row.
    repeats: u32,
    repeated_count: u64,
    shows_progress: bool,
}

impl Run {
    fn new(parameters: Parameters, shows_progress: bool) -> Self {
        let goals = [GoalName::Ndr, GoalName::Pdr].map(|name| (name, parameters.goal(name)));
        let search = Search::new(
            &goals.map(|(_, goal)| goal),
            parameters.min_fps,
            parameters.max_fps,
        );
        Self {
            parameters,
            goals,
            judged: search.clone(),
            device: search,
            trials: Vec::new(),
            repeats: 0,
            repeated_count: 0,
            shows_progress,
        }
    }

    fn record(&mut self, load_fps: f64, duration_s: f64, trial: TrialReport) {
        let fates = trial.books.total;
        let device_lost = trial.loss_ratio;
        let unsent_or_lost = if trial.unsent_ratio() <= self.parameters.unsent_ratio {
            device_lost
        } else {
            let meant = fates.sent + trial.late;
            (meant - fates.received) as f64 / meant as f64
        };
        self.trials.push(trial);
        let good = |loss: f64, goal: &Goal| loss <= goal.loss_ratio;
        let misleads = self
            .goals
            .iter()
            .any(|(_, goal)| good(unsent_or_lost, goal) != good(device_lost, goal));
        if misleads && self.repeats < REPEATS {
            self.repeats += 1;
            self.repeated_count += 1;
            return;
        }
        self.repeats = 0;
        let trial = |loss_ratio| Trial {
            load_fps,
            duration_s,
            loss_ratio,
        };
        self.judged.record(trial(unsent_or_lost));
        self.device.record(trial(device_lost));
    }

    /// Progress, a line over the last one.
    fn tell(&self, load_fps: f64, elapsed: Duration) {
        if !self.shows_progress {
            return;
        }
        let bound =
            |bound: Option<f64>| bound.map_or("?".to_owned(), |bound| Scaled(bound).to_string());
        let bounds = self.goals.map(|(name, goal)| {
            let (lower, upper) = self.judged.bounds(&goal);
            format!("{name} {} to {}", bound(lower), bound(upper))
        });
        let last = self.trials.last().map_or(String::new(), |trial| {
            format!(", before {:.3} % lost", trial.loss_ratio * 100.0)
        });
        eprint!(
            "\r\x1b[K  {:.0} s, trial {}: {} frames/s{last}; {}",
            elapsed.as_secs_f64(),
            self.trials.len() + 1,
            Scaled(load_fps),
            bounds.join(", ")
        );
    }

    fn close(self, calibration: Option<Calibration>, deadline: &Deadline) -> Found {
        let goals = self.goals.map(|(name, goal)| self.goal(name, &goal));
        let [ndr, pdr] = self.goals.map(|(_, goal)| self.throughput(&goal));
        let report = SearchReport {
            finished: self.judged.next().is_none(),
            interrupted: deadline.interrupted(),
            ndr,
            pdr,
            goals: goals.to_vec(),
            deviations: self.parameters.deviations(),
            parameters: self.parameters,
            calibration,
            trial_count: self.judged.trials().len() as u64,
            repeated_count: self.repeated_count,
            seconds: deadline.elapsed().as_secs_f64(),
        };
        Found {
            report,
            trials: self.trials,
        }
    }

    fn goal(&self, name: GoalName, goal: &Goal) -> GoalReport {
        let (lower_fps, upper_fps) = self.judged.bounds(goal);
        let verdict = match self.judged.answer(goal) {
            None => Verdict::Unfinished,
            Some(Answer::AtMax { .. }) => Verdict::AboveMax,
            Some(_) if !self.is_devices(upper_fps, goal) => Verdict::Generator,
            Some(Answer::Bounds { .. }) => Verdict::Device,
            Some(Answer::BelowMin) => Verdict::BelowMin,
        };
        GoalReport {
            name,
            loss_ratio: goal.loss_ratio,
            verdict,
            lower_fps,
            upper_fps,
            at_least_fps: match verdict {
                Verdict::AboveMax | Verdict::Generator | Verdict::Unfinished => lower_fps,
                Verdict::Device | Verdict::BelowMin => None,
            },
        }
    }

    /// Whether a load is too much by what the device lost alone.
    fn is_devices(&self, upper_fps: Option<f64>, goal: &Goal) -> bool {
        upper_fps.is_some_and(|upper| self.device.class(upper, goal) == Class::Upper)
    }

    /// The figure, where it is the device's.
    fn throughput(&self, goal: &Goal) -> Option<Throughput> {
        let Some(Answer::Bounds {
            lower_fps,
            upper_fps,
            throughput_fps,
        }) = self.judged.answer(goal)
        else {
            return None;
        };
        self.is_devices(Some(upper_fps), goal).then(|| Throughput {
            throughput_fps,
            throughput_bps: throughput_fps * self.bits_per_frame(),
            lower_fps,
            upper_fps,
        })
    }

    /// Of the frames as they arrived, on average of all trials.
    fn bits_per_frame(&self) -> f64 {
        let sum = |of: fn(&TrialReport) -> f64| self.trials.iter().map(of).sum::<f64>();
        let frames = sum(|trial| trial.received_fps * trial.duration_s);
        let bits = sum(|trial| trial.received_bps * trial.duration_s);
        if frames > 0.0 { bits / frames } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loadgen::books::{Arrivals, Books};
    use crate::loadgen::report::Measured;

    fn run() -> Run {
        Run::new(
            Parameters {
                min_fps: 1_000.0,
                max_fps: 100_000.0,
                trial_s: 1.0,
                sum_s: 1.0,
                width: 0.01,
                exceed_ratio: 0.5,
                pdr_loss_ratio: 0.005,
                unsent_ratio: 0.001,
                time_limit_s: 60.0,
            },
            false,
        )
    }

    /// Of a second.
    fn trial(sent: u64, late: u64, received: u64) -> TrialReport {
        let arrived = Arrivals {
            received,
            ..Arrivals::default()
        };
        TrialReport::new(Measured {
            asked_fps: (sent + late) as f64,
            duration_s: 1.0,
            books: Books::close(&[sent], &[arrived]).unwrap(),
            received_bytes: received * 60,
            late,
            foreign: 0,
            latency: None,
            cpu: Vec::new(),
            inspection: None,
        })
    }

    /// Searches a device that loses nothing up to its limit, by a generator that sends nothing above its own.
    fn search(device_fps: f64, generator_fps: f64) -> Run {
        let mut run = run();
        while let Some((load_fps, trial_s)) = run.judged.next() {
            let sent = load_fps.min(generator_fps);
            let late = (load_fps - sent) as u64;
            let received = sent.min(device_fps) as u64;
            run.record(load_fps, trial_s, trial(sent as u64, late, received));
            assert!(run.trials.len() < 1_000, "it does not end");
        }
        run
    }

    #[test]
    fn a_limit_of_the_device_is_a_figure() {
        let run = search(30_000.0, f64::INFINITY);
        let [(name, ndr), _] = run.goals;
        assert_eq!(run.goal(name, &ndr).verdict, Verdict::Device);
        let found = run.throughput(&ndr).unwrap();
        assert!(found.lower_fps <= 30_001.0 && found.upper_fps >= 30_000.0);
        assert_eq!(
            found.throughput_bps,
            found.throughput_fps * 64.0 * 8.0,
            "with FCS"
        );
        assert_eq!(run.repeated_count, 0);
    }

    #[test]
    fn a_limit_of_the_generator_is_none() {
        let run = search(f64::INFINITY, 30_000.0);
        for (name, goal) in run.goals {
            let report = run.goal(name, &goal);
            assert_eq!(report.verdict, Verdict::Generator);
            assert!(report.at_least_fps.unwrap() <= 30_200.0);
            assert!(run.throughput(&goal).is_none());
        }
        assert!(run.repeated_count > 0);
    }

    #[test]
    fn what_the_generator_left_unsent_is_tried_again_before_it_counts() {
        let mut run = run();
        for before in 0..REPEATS {
            run.record(50_000.0, 1.0, trial(49_000, 1_000, 49_000));
            assert_eq!(
                (run.judged.trials().len(), run.repeated_count),
                (0, u64::from(before) + 1)
            );
        }
        run.record(50_000.0, 1.0, trial(49_000, 1_000, 49_000));
        assert_eq!(run.judged.trials()[0].loss_ratio, 0.02);
        assert_eq!(run.device.trials()[0].loss_ratio, 0.0);
        // So little does not matter.
        run.record(40_000.0, 1.0, trial(39_960, 40, 39_960));
        assert_eq!(run.judged.trials()[1].loss_ratio, 0.0);
        // Where the device loses anyway, nothing would change.
        run.record(60_000.0, 1.0, trial(59_000, 1_000, 30_000));
        assert_eq!(run.judged.trials()[2].loss_ratio, 0.5);
        assert_eq!(run.trials.len(), 6);
    }

    #[test]
    fn shares_are_read_in_percent_and_plain() {
        assert_eq!(share("0.5%"), Ok(0.005));
        assert_eq!(share("0.005"), Ok(0.005));
        assert_eq!(share("0"), Ok(0.0));
        for text in ["", "-1%", "100%", "1", "nan", "half"] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
