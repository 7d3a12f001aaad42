//! What a report says of a recording that was sent.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::loadgen::rate::Scaled;

/// A recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordingReport {
    /// The file.
    pub file: String,
    /// How its frames were spread: `original` or `even`.
    pub timing: String,
    /// Frames that were sent, over and over.
    pub frames: u64,
    /// Frames a second at which they were recorded, if it tells.
    pub recorded_fps: Option<f64>,
    /// Frames that were left out, by reason.
    pub left_out: Vec<(String, u64)>,
}

impl fmt::Display for RecordingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  recording {}: {} frames", self.file, self.frames)?;
        if let Some(rate) = self.recorded_fps {
            write!(f, " at {} frames/s", Scaled(rate))?;
        }
        writeln!(f, "; {} timing, payloads end in a signature", self.timing)?;
        for (reason, count) in &self.left_out {
            writeln!(f, "  left out  {count:>12}   {reason}")?;
        }
        Ok(())
    }
}
