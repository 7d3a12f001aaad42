//! A soak: one load for hours, told window by window.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Latency;

/// What a long trial looked like while it went on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Soak {
    /// Seconds of a window.
    pub every_s: f64,
    /// Whether a signal ended it before its time.
    pub interrupted: bool,
    /// The loss ratio that was allowed.
    pub loss_limit: Option<f64>,
    /// Whether the loss of the whole was within that.
    pub passed: Option<bool>,
    /// One behind the other, without gap. Their frames add up to those of the trial's books.
    pub windows: Vec<Window>,
}

/// What happened in one window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// When it ended, in seconds from the start.
    pub at_s: f64,
    /// How long it was, in seconds.
    pub duration_s: f64,
    /// Frames that left.
    pub sent: u64,
    /// Frames that arrived as they should.
    pub received: u64,
    /// Frames that left and were not heard of. Below 0: some of those that an earlier window had given up arrived in this one.
    pub lost: i64,
    /// The share of what was sent that did not arrive as it should; below 0 as `lost`.
    pub loss_ratio: f64,
    /// Of the frames that arrived; none when none did.
    pub latency: Option<Latency>,
    /// Resident memory of the tester at its end, in bytes.
    pub resident_bytes: u64,
}

impl Soak {
    /// What stands above the lines of the windows.
    pub fn headings() -> String {
        let words = [
            "time", "sent", "received", "lost", "loss %", "p50 µs", "p99", "p99.9", "max", "memory",
        ];
        line(&words.map(str::to_owned))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |of: fn(&Latency) -> u64| match &self.latency {
            Some(latency) => format!("{:.1}", of(latency) as f64 / 1000.0),
            None => "-".to_owned(),
        };
        f.write_str(&line(&[
            clock(self.at_s),
            self.sent.to_string(),
            self.received.to_string(),
            self.lost.to_string(),
            format!("{:.4}", self.loss_ratio * 100.0),
            us(|latency| latency.p50_ns),
            us(|latency| latency.p99_ns),
            us(|latency| latency.p999_ns),
            us(|latency| latency.max_ns),
            format!("{:.1} MiB", self.resident_bytes as f64 / f64::from(1 << 20)),
        ]))
    }
}

impl fmt::Display for Soak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.interrupted {
            writeln!(f, "  note      a signal ended it before its time")?;
        }
        let (count, every_s) = (self.windows.len(), self.every_s);
        write!(f, "  windows   {count} of {every_s} s; ")?;
        let by_loss = |one: &&Window, other: &&Window| one.loss_ratio.total_cmp(&other.loss_ratio);
        match self.windows.iter().max_by(by_loss) {
            Some(worst) if worst.loss_ratio > 0.0 => {
                let (end, percent) = (clock(worst.at_s), worst.loss_ratio * 100.0);
                writeln!(
                    f,
                    "most was lost in that which ended at {end}: {percent:.4} %"
                )?;
            }
            _ => writeln!(f, "nothing was lost in any")?,
        }
        match (self.loss_limit, self.passed) {
            (Some(limit), Some(passed)) => {
                let word = if passed { "passed" } else { "failed" };
                writeln!(f, "  verdict   {word}: a loss ratio of {limit} was allowed")
            }
            _ => Ok(()),
        }
    }
}

/// The columns of one line.
fn line(cells: &[String; 10]) -> String {
    const WIDTHS: [usize; 10] = [11, 13, 13, 10, 9, 9, 9, 9, 10, 10];
    let columns = cells.iter().zip(WIDTHS);
    let mut line: String = columns
        .map(|(cell, width)| format!("{cell:>width$}"))
        .collect();
    line.push('\n');
    line
}

/// Hours, minutes, and seconds with their tenths where there are any.
fn clock(seconds: f64) -> String {
    let tenths = (seconds * 10.0).round() as u64;
    let (hours, minutes, seconds) = (tenths / 36_000, tenths / 600 % 60, tenths / 10 % 60);
    match tenths % 10 {
        0 => format!("{hours}:{minutes:02}:{seconds:02}"),
        rest => format!("{hours}:{minutes:02}:{seconds:02}.{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window {
        at_s: 7_260.0,
        duration_s: 60.0,
        sent: 6_000_000,
        received: 5_999_400,
        lost: 600,
        loss_ratio: 0.0001,
        latency: Some(Latency {
            p50_ns: 10_000,
            p90_ns: 20_000,
            p99_ns: 30_000,
            p999_ns: 40_000,
            max_ns: 1_234_500,
        }),
        resident_bytes: 12_900_000,
    };

    #[test]
    fn a_window_is_a_line_under_its_headings() {
        assert_eq!(
            Soak::headings() + &WINDOW.to_string(),
            "       time         sent     received      lost   loss %   p50 µs      p99    p99.9       max    memory\n    \
             2:01:00      6000000      5999400       600   0.0100     10.0     30.0     40.0    1234.5  12.3 MiB\n"
        );
        let silent = Window {
            latency: None,
            ..WINDOW
        };
        assert!(silent.to_string().contains("         -"));
    }

    #[test]
    fn the_end_names_the_worst_window_and_the_verdict() {
        let soak = Soak {
            every_s: 60.0,
            interrupted: true,
            loss_limit: Some(1e-5),
            passed: Some(false),
            windows: vec![
                WINDOW,
                Window {
                    at_s: 7_320.0,
                    loss_ratio: 0.0,
                    ..WINDOW
                },
            ],
        };
        let text = soak.to_string();
        for words in [
            "a signal ended it",
            "2 of 60 s",
            "most was lost in that which ended at 2:01:00: 0.0100 %",
            "failed: a loss ratio of 0.00001 was",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn times_are_hours_minutes_and_seconds() {
        assert_eq!(clock(59.96), "0:01:00");
        assert_eq!(clock(0.24), "0:00:00.2");
        assert_eq!(clock(86_399.0), "23:59:59");
    }
}
