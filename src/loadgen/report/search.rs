//! A search: the highest load that the device bears, for each goal, and how far that can be trusted.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Calibration;
use crate::loadgen::mlrsearch::Goal;
use crate::loadgen::rate::Scaled;

/// What a search found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchReport {
    /// Whether every goal has its answer; else the time was over before, or a signal came.
    pub finished: bool,
    /// Whether SIGINT or SIGTERM has ended it.
    pub interrupted: bool,
    /// The non-drop rate (RFC 2544: the throughput); none when what was found is no limit of the device.
    pub ndr: Option<Throughput>,
    /// The partial-drop rate; none as above.
    pub pdr: Option<Throughput>,
    /// What is known for each goal, whatever became of it: NDR, PDR.
    pub goals: Vec<GoalReport>,
    /// What was asked for.
    pub parameters: Parameters,
    /// In what the parameters differ from CSIT's, as phrases: a figure that has any is no CSIT figure.
    pub deviations: Vec<String>,
    /// What the generator can do without the device; none when it was told not to try.
    pub calibration: Option<Calibration>,
    /// Trials that count.
    pub trial_count: u64,
    /// Trials that were run again, because the generator had not kept enough of the intended times to judge the device.
    pub repeated_count: u64,
    /// Seconds that the search took.
    pub seconds: f64,
}

/// A limit of the device.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Throughput {
    /// What came through at the highest load that is borne, in the worst part of the time that the goal still counts, in
    /// frames a second: the figure to quote (conditional throughput).
    pub throughput_fps: f64,
    /// The same in bits a second of the frames as they arrived, with FCS.
    pub throughput_bps: f64,
    /// The highest load that is borne, in frames a second.
    pub lower_fps: f64,
    /// The lowest that is not.
    pub upper_fps: f64,
}

/// What is known for a goal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GoalReport {
    /// `NDR` or `PDR`.
    pub name: GoalName,
    /// The share of frames that may be lost, 0 to 1.
    pub loss_ratio: f64,
    /// Whose limit it is, if any.
    pub verdict: Verdict,
    /// The highest load that is borne, in frames a second, if any is known.
    pub lower_fps: Option<f64>,
    /// The lowest load that is not, if any is known.
    pub upper_fps: Option<f64>,
    /// What the device bears at least, when its limit was not found.
    pub at_least_fps: Option<f64>,
}

/// The goals of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum GoalName {
    /// Non-drop rate.
    Ndr,
    /// Partial-drop rate.
    Pdr,
}

/// Whose limit was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The device's.
    Device,
    /// None: the device bears all that was to be offered at most.
    AboveMax,
    /// The generator's: what was not borne had not been sent.
    Generator,
    /// The device does not even bear the lowest load.
    BelowMin,
    /// It is not known yet: the search ended before.
    Unfinished,
}

/// What a search was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// The lowest load, in frames a second.
    pub min_fps: f64,
    /// The highest.
    pub max_fps: f64,
    /// Seconds of one trial.
    pub trial_s: f64,
    /// Seconds of trials that a verdict is made of.
    pub sum_s: f64,
    /// How far apart the bounds may end: (upper − lower) / upper.
    pub width: f64,
    /// The share of the time that may be worse than the goal.
    pub exceed_ratio: f64,
    /// The share of frames that may be lost for the PDR.
    pub pdr_loss_ratio: f64,
    /// The share of a load that may be left unsent without spoiling the trial: it should be much less than the width.
    pub unsent_ratio: f64,
    /// Seconds after which the search ends, whatever it has.
    pub time_limit_s: f64,
}

impl Parameters {
    /// The goal of that name.
    pub fn goal(&self, name: GoalName) -> Goal {
        let loss_ratio = match name {
            GoalName::Ndr => 0.0,
            GoalName::Pdr => self.pdr_loss_ratio,
        };
        Goal {
            loss_ratio,
            exceed_ratio: self.exceed_ratio,
            trial_s: self.trial_s,
            sum_s: self.sum_s,
            width: self.width,
        }
    }

    /// In what they differ from CSIT's, as phrases.
    pub fn deviations(&self) -> Vec<String> {
        let csit = Goal::PDR;
        let seconds = |seconds: f64| format!("{seconds} s");
        let percent = |share: f64| Percent(share).to_string();
        [
            ("trials", self.trial_s, csit.trial_s, &seconds as Unit),
            ("sum of trials", self.sum_s, csit.sum_s, &seconds),
            ("width", self.width, csit.width, &percent),
            (
                "exceed ratio",
                self.exceed_ratio,
                csit.exceed_ratio,
                &percent,
            ),
            (
                "loss of PDR",
                self.pdr_loss_ratio,
                csit.loss_ratio,
                &percent,
            ),
        ]
        .into_iter()
        .filter(|(_, ours, csit, _)| ours != csit)
        .map(|(name, ours, csit, unit)| format!("{name} {} (CSIT {})", unit(ours), unit(csit)))
        .collect()
    }
}

type Unit<'a> = &'a dyn Fn(f64) -> String;

/// A share in percent, with as many figures as it needs.
struct Percent(f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.4}", self.0 * 100.0);
        write!(f, "{} %", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl fmt::Display for GoalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ndr => "NDR",
            Self::Pdr => "PDR",
        })
    }
}

impl fmt::Display for SearchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parameters {
            min_fps, max_fps, ..
        } = self.parameters;
        writeln!(
            f,
            "  search    MLRsearch from {} to {} frames/s: {} trials in {:.0} s, {} of them run again for the generator's lateness",
            Scaled(min_fps),
            Scaled(max_fps),
            self.trial_count + self.repeated_count,
            self.seconds,
            self.repeated_count
        )?;
        if !self.finished {
            let why = if self.interrupted {
                "a signal came"
            } else {
                "the time was over"
            };
            writeln!(
                f,
                "  note      UNFINISHED: {why} before the bounds were close enough"
            )?;
        }
        if let Some(calibration) = &self.calibration {
            write!(f, "{calibration}")?;
        }
        match self.deviations.as_slice() {
            [] => writeln!(f, "  goals     CSIT's parameters")?,
            some => writeln!(f, "  goals     not CSIT's: {}", some.join(", "))?,
        }
        for goal in &self.goals {
            let found = match goal.name {
                GoalName::Ndr => &self.ndr,
                GoalName::Pdr => &self.pdr,
            };
            write!(
                f,
                "  {} {:<6}",
                goal.name,
                Percent(goal.loss_ratio).to_string()
            )?;
            match found {
                Some(found) => writeln!(f, "{found}")?,
                None => writeln!(f, "{goal}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Throughput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} frames/s, {}bit/s with FCS; bears {}, does not bear {}",
            Scaled(self.throughput_fps),
            Scaled(self.throughput_bps),
            Scaled(self.lower_fps),
            Scaled(self.upper_fps)
        )
    }
}

/// What is said of a goal without a figure.
impl fmt::Display for GoalReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bounds = |f: &mut fmt::Formatter<'_>| {
            let of = |bound: Option<f64>| {
                bound.map_or("?".to_owned(), |bound| Scaled(bound).to_string())
            };
            write!(
                f,
                "between {} and {} frames/s",
                of(self.lower_fps),
                of(self.upper_fps)
            )
        };
        match (self.verdict, self.at_least_fps) {
            (Verdict::Device, _) => bounds(f),
            (Verdict::AboveMax, Some(least)) => write!(
                f,
                "at least {} frames/s: the device bears all that was offered, so its limit was not found",
                Scaled(least)
            ),
            (Verdict::Generator, Some(least)) => write!(
                f,
                "at least {} frames/s: above, it is the generator that does not keep up; if it shares a core with the device, give each its own",
                Scaled(least)
            ),
            (Verdict::AboveMax | Verdict::Generator, None) => {
                f.write_str("unknown: the generator does not even keep up with the lowest load")
            }
            (Verdict::BelowMin, _) => {
                let lowest = self.upper_fps.unwrap_or(0.0);
                write!(f, "below {} frames/s, the lowest load", Scaled(lowest))
            }
            (Verdict::Unfinished, _) => {
                f.write_str("UNFINISHED, so far ")?;
                bounds(f)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> SearchReport {
        let parameters = Parameters {
            min_fps: 9_001.0,
            max_fps: 1e6,
            trial_s: 1.0,
            sum_s: 21.0,
            width: 0.005,
            exceed_ratio: 0.5,
            pdr_loss_ratio: 0.005,
            unsent_ratio: 0.001,
            time_limit_s: 3600.0,
        };
        let goal = GoalReport {
            name: GoalName::Ndr,
            loss_ratio: 0.0,
            verdict: Verdict::Device,
            lower_fps: Some(299_000.0),
            upper_fps: Some(300_000.0),
            at_least_fps: None,
        };
        SearchReport {
            finished: true,
            interrupted: false,
            ndr: Some(Throughput {
                throughput_fps: 299_000.0,
                throughput_bps: 153.088e6,
                lower_fps: 299_000.0,
                upper_fps: 300_000.0,
            }),
            pdr: None,
            goals: vec![
                goal,
                GoalReport {
                    name: GoalName::Pdr,
                    loss_ratio: 0.005,
                    verdict: Verdict::Generator,
                    upper_fps: Some(400_000.0),
                    at_least_fps: Some(310_000.0),
                    ..goal
                },
            ],
            deviations: parameters.deviations(),
            parameters,
            calibration: None,
            trial_count: 80,
            repeated_count: 3,
            seconds: 100.0,
        }
    }

    #[test]
    fn a_figure_is_given_for_the_device_only() {
        let text = report().to_string();
        for words in [
            "  search    MLRsearch from 9.001k to 1M frames/s: 83 trials in 100 s, 3 of them",
            "  goals     CSIT's parameters\n",
            "  NDR 0 %   299k frames/s, 153.1Mbit/s with FCS; bears 299k, does not bear 300k\n",
            "  PDR 0.5 % at least 310k frames/s: above, it is the generator",
        ] {
            assert!(text.contains(words), "{words}{text}");
        }
        assert!(!text.contains("UNFINISHED"), "{text}");
    }

    #[test]
    fn what_differs_from_csit_is_said() {
        let parameters = Parameters {
            trial_s: 0.1,
            width: 0.02,
            pdr_loss_ratio: 0.01,
            ..report().parameters
        };
        let expected = [
            "trials 0.1 s (CSIT 1 s)",
            "width 2 % (CSIT 0.5 %)",
            "loss of PDR 1 % (CSIT 0.5 %)",
        ];
        assert_eq!(parameters.deviations(), expected);
    }

    #[test]
    fn an_unfinished_search_says_why_and_what_it_has() {
        let mut unfinished = report();
        unfinished.finished = false;
        unfinished.ndr = None;
        unfinished.goals[0].verdict = Verdict::Unfinished;
        unfinished.goals[0].upper_fps = None;
        let text = unfinished.to_string();
        assert!(text.contains("UNFINISHED: the time was over"), "{text}");
        assert!(
            text.contains("UNFINISHED, so far between 299k and ? frames/s"),
            "{text}"
        );
    }

    #[test]
    fn the_document_survives_the_round_trip() {
        let json = serde_json::to_string(&report()).unwrap();
        assert_eq!(
            serde_json::from_str::<SearchReport>(&json).unwrap(),
            report()
        );
        for words in [
            "\"pdr\":null",
            "\"verdict\":\"generator\"",
            "\"name\":\"NDR\"",
        ] {
            assert!(json.contains(words), "{words}: {json}");
        }
    }
}
