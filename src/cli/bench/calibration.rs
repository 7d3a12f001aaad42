//! What the generator can do without the device: the same frames, engine, core and trials on a direct wire.
//!
//! 1. Flat out, once: what arrives is what it can offer at all.
//! 2. Paced, at a little less; as long as that is too much, at less again. A load is kept when two of three trials are whole:
//!    hardly anything unsent or lost. One gap in the machine is not the generator's limit.

use std::time::Duration;

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
/// Trials of a load that agree.
const AGREED: usize = 2;

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
        "the generator keeps no load of {0} frames/s or more on a direct wire, though it sends {1} flat out: the machine is too busy. Give the generator a core of its own (--tx-core), or lower --min-rate"
    )]
    TooBusy(Scaled, Scaled),
}

/// Tries the generator for a search with these parameters.
pub(super) fn run(
    tester: &Tester,
    flags: &TesterFlags,
    parameters: &Parameters,
) -> Result<Calibration, Failure> {
    let device = tester.sending_end();
    if !device.is_veth {
        return Err(CalibrationError::NoWire(device.name.clone()).into());
    }
    let wire = direct_wire::lay(device.mtu)?;
    let mut bare = Tester::on_wire(flags, wire)?;
    let duration = Duration::from_secs_f64(parameters.trial_s);
    let flat_out = bare.trial(f64::INFINITY, duration)?;
    let flat_out_fps = flat_out.received_fps;
    let mut trials = vec![flat_out];
    let mut load_fps = (flat_out_fps * PACED_SHARE).min(parameters.max_fps);
    for _ in 0..LOADS_MAX {
        if load_fps < parameters.min_fps {
            break;
        }
        let through = pace(&mut bare, load_fps, duration, parameters, &mut trials)?;
        if through >= 1.0 {
            return Ok(Calibration {
                flat_out_fps,
                paced_fps: load_fps,
                trials,
            });
        }
        load_fps *= through.clamp(STEP.0, STEP.1);
    }
    Err(CalibrationError::TooBusy(Scaled(parameters.min_fps), Scaled(flat_out_fps)).into())
}

/// Trials of one load until enough of them agree: 1 when it was kept, else the share of it that came through at best.
fn pace(
    bare: &mut Tester,
    load_fps: f64,
    duration: Duration,
    parameters: &Parameters,
    trials: &mut Vec<TrialReport>,
) -> Result<f64, Failure> {
    let mut best = 0.0;
    let (mut whole, mut broken) = (0, 0);
    while whole < AGREED && broken < AGREED {
        let trial = bare.trial(load_fps, duration)?;
        let missing = missing(&trial);
        trials.push(trial);
        if missing <= parameters.unsent_ratio {
            whole += 1;
        } else {
            broken += 1;
            best = f64::max(best, 1.0 - missing);
        }
    }
    Ok(if whole == AGREED { 1.0 } else { best })
}

/// The share of the load that was not sent or did not arrive.
fn missing(trial: &TrialReport) -> f64 {
    let fates = trial.books.total;
    match fates.sent + trial.late {
        0 => 1.0,
        meant => 1.0 - fates.received as f64 / meant as f64,
    }
}
