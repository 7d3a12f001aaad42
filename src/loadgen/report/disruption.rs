//! A disruption: what a command did to a steady load.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Latency;
use crate::loadgen::gap::Gap;

/// All runs of the command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Disruption {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Whether a signal ended the measurement before its time.
    pub interrupted: bool,
    /// Each run. The trials of the report are theirs: an undisturbed one before each.
    pub runs: Vec<DisruptedRun>,
}

/// One run of the command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DisruptedRun {
    /// How the command ended.
    pub outcome: Outcome,
    /// The trial before, without the command: what this machine does by itself.
    pub undisturbed: Blocked,
    /// The trial during which the command ran.
    pub disturbed: Blocked,
    /// From the start of the load to that of the command.
    pub before: Phase,
    /// While the command ran.
    pub during: Phase,
    /// From the end of the command to that of the load.
    pub after: Phase,
}

/// How the command ended, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Its exit code; none when a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// It took too long, and was ended.
    pub timed_out: bool,
    /// How long it ran, in nanoseconds.
    pub duration_ns: u64,
}

/// For how long frames did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Blocked {
    /// Which trial of the report.
    pub trial: usize,
    /// Effective blocked time: lost / rate, with the rate that was sent. In seconds.
    pub blocked_s: f64,
    /// The longest gap of any stream.
    pub gap: Gap,
}

/// A part of the trial. What was under way at its edges may be counted in the next one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// Seconds.
    pub duration_s: f64,
    /// Frames that left.
    pub sent: u64,
    /// Frames that arrived as they should.
    pub received: u64,
    /// Frames that left and were not heard of; below 0: some of those given up before arrived after all.
    pub lost: i64,
    /// Of the frames that arrived; none when none did.
    pub latency: Option<Latency>,
}

impl fmt::Display for Disruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, run) in self.runs.iter().enumerate() {
            let command = self.command.join(" ");
            writeln!(f, "  run {:<5} {command}: {}", number + 1, run.outcome)?;
            write!(f, "{run}")?;
        }
        if self.interrupted {
            writeln!(f, "  note      a signal ended it before its time")?;
        }
        if self.runs.len() > 1 {
            let of = |value: fn(&DisruptedRun) -> f64| Spread::of(self.runs.iter().map(value));
            writeln!(
                f,
                "  {:<9} {}",
                "blocked",
                of(|run| run.disturbed.blocked_s)
            )?;
            let gap_s = |run: &DisruptedRun| run.disturbed.gap.longest_ns as f64 / 1e9;
            writeln!(f, "  {:<9} {}", "gap", of(gap_s))?;
        }
        Ok(())
    }
}

impl fmt::Display for DisruptedRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  disturbed {}", self.disturbed)?;
        writeln!(f, "  else      {}", self.undisturbed)?;
        let phases = [
            ("before", &self.before),
            ("during", &self.during),
            ("after", &self.after),
        ];
        for (name, phase) in phases {
            writeln!(f, "  {name:<9} {phase}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.timed_out {
            write!(f, "took too long and was ended, ")?;
        }
        match (self.exit_code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}")?,
            (None, Some(signal)) => write!(f, "killed by signal {signal}")?,
            (None, None) => write!(f, "ended")?,
        }
        write!(f, ", after {}", Span(self.duration_ns as f64 / 1e9))
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = |ns: u64| Span(ns as f64 / 1e9);
        write!(
            f,
            "blocked for {} (lost / rate); longest gap {}, of which the load's interval is {}",
            Span(self.blocked_s),
            span(self.gap.longest_ns),
            span(self.gap.precision_ns)
        )?;
        if self.gap.open {
            write!(f, "; it had not ended when the load did")?;
        }
        Ok(())
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} lost of {}",
            Span(self.duration_s),
            self.lost,
            self.sent
        )?;
        match &self.latency {
            Some(latency) => write!(f, "; {latency}"),
            None => Ok(()),
        }
    }
}

/// A time in seconds, in a unit that suits it.
struct Span(f64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            seconds if seconds >= 1.0 => write!(f, "{seconds:.3} s"),
            seconds if seconds >= 0.001 => write!(f, "{:.1} ms", seconds * 1e3),
            seconds => write!(f, "{:.1} µs", seconds * 1e6),
        }
    }
}

/// Least, middle and most.
struct Spread([f64; 3]);

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(0.0);
        let last = values.len().saturating_sub(1);
        // Of an even number, the mean of the two in the middle.
        let middle = (at(last / 2) + at(last.div_ceil(2))) / 2.0;
        Self([at(0), middle, at(last)])
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [min, median, max] = self.0.map(Span);
        write!(f, "min {min}, median {median}, max {max}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> DisruptedRun {
        let blocked = |trial, blocked_s, longest_ns| Blocked {
            trial,
            blocked_s,
            gap: Gap {
                longest_ns,
                precision_ns: 10_000,
                open: trial == 1,
            },
        };
        let phase = Phase {
            duration_s: 1.0,
            sent: 100_000,
            received: 100_000,
            lost: 0,
            latency: None,
        };
        DisruptedRun {
            outcome: Outcome {
                exit_code: Some(3),
                signal: None,
                timed_out: false,
                duration_ns: 12_340_000,
            },
            undisturbed: blocked(0, 0.0, 85_000),
            disturbed: blocked(1, 0.25, 249_000_000),
            before: phase,
            during: phase,
            after: Phase {
                lost: 25_000,
                ..phase
            },
        }
    }

    #[test]
    fn a_run_says_what_happened_and_what_would_have_without() {
        let disruption = Disruption {
            command: vec!["ip".to_owned(), "link".to_owned()],
            interrupted: false,
            runs: vec![run()],
        };
        let text = disruption.to_string();
        for line in [
            "  run 1     ip link: exit code 3, after 12.3 ms\n",
            "  disturbed blocked for 250.0 ms (lost / rate); longest gap 249.0 ms, of which the load's interval is 10.0 µs; it had not ended when the load did\n",
            "  else      blocked for 0.0 µs (lost / rate); longest gap 85.0 µs, of which the load's interval is 10.0 µs\n",
            "  before    1.000 s: 0 lost of 100000\n",
            "  after     1.000 s: 25000 lost of 100000\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        assert!(
            !text.contains("median") && !text.contains("signal"),
            "{text}"
        );
    }

    #[test]
    fn several_runs_have_a_middle() {
        let mut runs = vec![run(); 4];
        for (run, blocked_s) in runs.iter_mut().zip([0.4, 0.1, 0.2, 1.5]) {
            run.disturbed.blocked_s = blocked_s;
        }
        runs[3].outcome = Outcome {
            exit_code: None,
            signal: Some(9),
            timed_out: true,
            duration_ns: 0,
        };
        let disruption = Disruption {
            command: vec!["true".to_owned()],
            interrupted: true,
            runs,
        };
        let text = disruption.to_string();
        for words in [
            "  run 4     true: took too long and was ended, killed by signal 9, after",
            "  blocked   min 100.0 ms, median 300.0 ms, max 1.500 s\n",
            "a signal ended it",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}
