//! What the generator can do without the device: the same frames, engine, core and trials on a direct wire.
//!
//! 1. Flat out, once: what arrives is what it can offer at all.
//! 2. Paced, at a little less; as long as that is too much, at less again. A load is kept when two trials of it are whole:
//!    hardly anything unsent, nothing lost. Several may fail before, because a gap in the machine is not the generator's limit.

use std::time::Duration;

use super::deadline::Deadline;
use super::direct_wire;
use super::failure::Failure;
use super::tester::{Tester, TesterFlags};
use crate::loadgen::rate::Scaled;
use crate::loadgen::report::{Calibration, Parameters, TrialReport};

/// The share of what it offers flat out that it may be able to pace.
const PACED_SHARE: f64 = 0.95;
/// From one load to the next: at least and at most.
const STEP: (f64, f64) = (0.5, 0.9);
/// Loads that are tried.
const LOADS_MAX: u32 = 16;
/// Trials of a load that show that it is kept.
const WHOLE: u32 = 2;
/// Trials of a load that show that it is not: that much is missing in them that no gap explains it ...
const BROKEN: (u32, f64) = (2, 0.1);
/// ... or there are so many.
const BROKEN_MAX: u32 = 6;

/// Why there is no calibration.
#[derive(Debug, thiserror::Error)]
pub(super) enum CalibrationError {
    /// Only the end of a veth pair can be had once more.
    #[error(
        "{0} is no veth, so no direct wire of its kind can be made to try the generator on. Find out what the generator keeps there (`vxgate bench rate`, the ports connected to each other), and say it: --max-rate RATE --no-calibrate"
    )]
    NoWire(String),
    /// Too slow.
    #[error(
        "the generator keeps no load of {0} frames/s or more on a direct wire, though it sends {1} flat out: the machine is too busy. Keep other programs off the generator's core (--tx-core), or lower --min-rate"
    )]
    TooBusy(Scaled, Scaled),
    /// Ended before.
    #[error("the search ended before the generator was tried; see --time-limit")]
    Ended,
}

/// Tries the generator for a search with these parameters.
pub(super) fn run(
    tester: &Tester,
    flags: &TesterFlags,
    parameters: &Parameters,
    deadline: &Deadline,
) -> Result<Calibration, Failure> {
    let device = tester.sending_end();
    if !device.is_veth {
        return Err(CalibrationError::NoWire(device.name.clone()).into());
    }
    let wire = direct_wire::lay(device.mtu)?;
    let mut bare = Bare {
        tester: Tester::on_wire(flags, wire)?,
        parameters,
        deadline,
        trials: Vec::new(),
    };
    let flat_out_fps = bare.trial(f64::INFINITY)?.received_fps;
    let mut load_fps = (flat_out_fps * PACED_SHARE).min(parameters.max_fps);
    for _ in 0..LOADS_MAX {
        if load_fps < parameters.min_fps {
            break;
        }
        match bare.pace(load_fps)? {
            Paced::Kept => {
                return Ok(Calibration {
                    flat_out_fps,
                    paced_fps: load_fps,
                    trials: bare.trials,
                });
            }
            Paced::TooMuch(through) => load_fps *= through.clamp(STEP.0, STEP.1),
        }
    }
    Err(CalibrationError::TooBusy(Scaled(parameters.min_fps), Scaled(flat_out_fps)).into())
}

/// The generator on a direct wire.
struct Bare<'a> {
    tester: Tester,
    parameters: &'a Parameters,
    deadline: &'a Deadline,
    trials: Vec<TrialReport>,
}

/// What became of a load.
enum Paced {
    /// It was kept.
    Kept,
    /// Only this share of it came through, at best.
    TooMuch(f64),
}

impl Bare<'_> {
    fn trial(&mut self, load_fps: f64) -> Result<&TrialReport, Failure> {
        let duration = Duration::from_secs_f64(self.parameters.trial_s);
        let trial = self.deadline.trial(&mut self.tester, load_fps, duration)?;
        self.trials.push(trial.ok_or(CalibrationError::Ended)?);
        self.trials
            .last()
            .ok_or_else(|| CalibrationError::Ended.into())
    }

    /// Trials of one load until it is clear whether it is kept.
    fn pace(&mut self, load_fps: f64) -> Result<Paced, Failure> {
        let mut least_missing = f64::INFINITY;
        let (mut whole, mut broken) = (0, 0);
        loop {
            let unsent_ratio = self.parameters.unsent_ratio;
            let trial = self.trial(load_fps)?;
            let missing = missing(trial);
            if trial.loss_ratio == 0.0 && missing <= unsent_ratio {
                whole += 1;
            } else {
                broken += 1;
                least_missing = least_missing.min(missing);
            }
            if whole == WHOLE {
                return Ok(Paced::Kept);
            }
            let hopeless = broken >= BROKEN.0 && least_missing > BROKEN.1;
            if hopeless || broken == BROKEN_MAX {
                return Ok(Paced::TooMuch(1.0 - least_missing));
            }
        }
    }
}

/// The share of the load that was not sent or did not arrive.
fn missing(trial: &TrialReport) -> f64 {
    let fates = trial.books.total;
    match fates.sent + trial.late {
        0 => 1.0,
        meant => 1.0 - fates.received as f64 / meant as f64,
    }
}
