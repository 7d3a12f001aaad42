//! What the generator can do by itself: without it, nobody knows whose limit a search has found.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::TrialReport;
use crate::loadgen::rate::Scaled;

/// A generator with a direct wire to its sink, sending the same frames from the same core.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// What arrived when it sent as fast as it could, in frames a second.
    pub flat_out_fps: f64,
    /// The highest load tried that it kept, its intended times included, in frames a second.
    pub paced_fps: f64,
    /// Every trial, in its order: the first one flat out, the others paced.
    pub trials: Vec<TrialReport>,
}

impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  generator {} frames/s flat out on a direct wire (a veth pair), {} paced: no search goes beyond",
            Scaled(self.flat_out_fps),
            Scaled(self.paced_fps)
        )
    }
}
