//! Latency at shares of the rate that the device bears.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Latency, TrialReport};
use crate::loadgen::rate::Scaled;

/// Latency at several loads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatencyAt {
    /// What the shares are of, in frames a second.
    pub base_fps: f64,
    /// What that is.
    pub base: Base,
    /// One entry a load, rising: first the unloaded device.
    pub loads: Vec<LoadLatency>,
}

/// What a share is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// The PDR that was given.
    GivenPdr,
    /// The PDR that was searched for and found.
    FoundPdr,
    /// What the device bears at least: its PDR is higher.
    AtLeast,
}

/// Latency at one load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LoadLatency {
    /// The share, 0 to 1; 0: the unloaded device, probed by a few frames.
    pub share: f64,
    /// Frames a second that were asked for.
    pub asked_fps: f64,
    /// Frames a second that were sent.
    pub sent_fps: f64,
    /// The share of what was sent that did not arrive as it should, 0 to 1.
    pub loss_ratio: f64,
    /// The share of the load that the generator did not send: what waited in the device meanwhile is not seen.
    pub unsent_ratio: f64,
    /// From the intended time of sending to arrival; none when nothing arrived.
    pub latency: Option<Latency>,
}

impl LoadLatency {
    /// Of a trial at a share of the rate.
    pub fn new(share: f64, asked_fps: f64, trial: &TrialReport) -> Self {
        Self {
            share,
            asked_fps,
            sent_fps: trial.sent_fps,
            loss_ratio: trial.loss_ratio,
            unsent_ratio: trial.unsent_ratio(),
            latency: trial.latency,
        }
    }
}

impl fmt::Display for LatencyAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = match self.base {
            Base::GivenPdr => "the PDR given",
            Base::FoundPdr => "the PDR found",
            Base::AtLeast => "what the device bears at least, its PDR is higher",
        };
        writeln!(
            f,
            "  latency   in \u{b5}s from the intended time, at shares of {} frames/s ({base})",
            Scaled(self.base_fps)
        )?;
        writeln!(
            f,
            "  {:>8}  {:>9}  {:>9} {:>9} {:>9} {:>9} {:>9}  {:>8}  {:>8}",
            "share", "frames/s", "p50", "p90", "p99", "p99.9", "max", "lost", "unsent"
        )?;
        self.loads.iter().try_for_each(|load| writeln!(f, "{load}"))
    }
}

impl fmt::Display for LoadLatency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = if self.share == 0.0 {
            "unloaded".to_owned()
        } else {
            format!("{} %", self.share * 100.0)
        };
        write!(
            f,
            "  {share:>8}  {:>9} ",
            Scaled(self.asked_fps).to_string()
        )?;
        match self.latency {
            Some(latency) => [
                latency.p50_ns,
                latency.p90_ns,
                latency.p99_ns,
                latency.p999_ns,
                latency.max_ns,
            ]
            .iter()
            .try_for_each(|ns| write!(f, " {:>9.1}", *ns as f64 / 1000.0))?,
            None => write!(f, " {:<49}", "nothing arrived")?,
        }
        write!(
            f,
            "  {:>6.3} %  {:>6.3} %",
            self.loss_ratio * 100.0,
            self.unsent_ratio * 100.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::trial::tests::measured;
    use super::*;

    #[test]
    fn a_line_for_each_load_and_what_the_shares_are_of() {
        let trial = TrialReport::new(measured());
        let at = LatencyAt {
            base_fps: 200_000.0,
            base: Base::AtLeast,
            loads: vec![
                LoadLatency {
                    latency: None,
                    ..LoadLatency::new(0.0, 2_000.0, &trial)
                },
                LoadLatency::new(0.5, 100_000.0, &trial),
            ],
        };
        let text = at.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].contains("200k frames/s") && lines[0].contains("its PDR is higher"));
        assert!(lines[2].contains("unloaded") && lines[2].contains("nothing arrived"));
        assert_eq!(
            lines[3],
            "      50 %       100k       10.0      20.0      30.0      40.0    1234.5   0.100 %   0.000 %"
        );
        // Columns stand under each other.
        assert!(
            lines[1..]
                .iter()
                .all(|line| line.chars().count() == lines[1].chars().count())
        );
    }
}
