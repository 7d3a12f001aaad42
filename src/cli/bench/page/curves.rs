//! The plots of a measurement: what its trials, or its windows, show together.

use super::Page;
use super::lines::{LinePlot, Point, Series};
use super::paint::{IDEAL, MAIN, PERCENTILES};
use super::scale::{Axis, Scale};
use crate::loadgen::comparison::Spread;
use crate::loadgen::rate::Scaled;
use crate::loadgen::report::{Latency, Soak, TrialReport};

/// A series with more points than this is drawn as a line alone.
const POINTS_MAX: usize = 200;

/// What trials show together.
pub(super) fn trials(page: &mut Page, trials: &[TrialReport]) {
    let loads = Loads::of(trials);
    let measured: Vec<_> = trials
        .iter()
        .filter_map(|trial| Some((trial.sent_fps, trial.latency?)))
        .collect();
    let curve = loads.0.len() > 1;
    if curve || !measured.is_empty() {
        page.heading("Plots");
    }
    if curve {
        page.lines(
            "Throughput against load.",
            "Each point is a trial; the line goes through the median of trials at the same load.",
            &throughput(trials, &loads),
        );
        page.lines(
            "Loss against load.",
            "Each point is a trial. Even below 0.1 %, logarithmic above.",
            &loss(trials, &loads),
        );
    }
    if let [(_, latency)] = measured.as_slice() {
        page.lines(
            "Latency by percentile.",
            "From the intended time of sending to arrival.",
            &one_latency(latency),
        );
    } else if curve {
        page.lines(
            "Latency percentiles against load.",
            "From the intended time of sending to arrival; lines go through the median of trials at the same load.",
            &latencies(loads.axis(), &measured, Some(&loads)),
        );
    } else {
        // All at one load: how much they differ by themselves.
        let latency = measured.iter().map(|(_, latency)| *latency);
        let numbered: Vec<_> = (1..).map(f64::from).zip(latency).collect();
        let axis = Axis::new("trial", Scale::Linear, [numbered.len() as f64], scaled);
        page.lines(
            "Latency percentiles of each trial.",
            "From the intended time of sending to arrival.",
            &latencies(axis, &numbered, None),
        );
    }
}

/// What the windows of a soak show.
pub(super) fn windows(page: &mut Page, soak: &Soak) {
    if soak.windows.len() < 2 {
        return;
    }
    let end = soak.windows.last().map_or(0.0, |window| window.at_s);
    let axis = || Axis::new("time, s", Scale::Linear, [end], scaled);
    let lost: Vec<_> = soak
        .windows
        .iter()
        .map(|window| (window.at_s, window.loss_ratio))
        .collect();
    page.heading("Over time");
    page.lines(
        "Loss over time.",
        "In each window. Even below 0.1 %, logarithmic above.",
        &LinePlot {
            x: axis(),
            y: shares(&lost),
            series: vec![series("", &lost, lost.clone())],
        },
    );
    let measured: Vec<_> = soak
        .windows
        .iter()
        .filter_map(|window| Some((window.at_s, window.latency?)))
        .collect();
    page.lines(
        "Latency percentiles over time.",
        "Of each window, from the intended time of sending to arrival.",
        &latencies(axis(), &measured, None),
    );
}

/// The loads that were offered, ascending. Those within a hundredth of each other are one.
struct Loads(Vec<f64>);

impl Loads {
    fn of(trials: &[TrialReport]) -> Self {
        let mut sent: Vec<_> = trials.iter().map(|trial| trial.sent_fps).collect();
        sent.sort_by(f64::total_cmp);
        let mut loads: Vec<f64> = Vec::new();
        for load in sent {
            if loads.last().is_none_or(|last| load > last * 1.01) {
                loads.push(load);
            }
        }
        Self(loads)
    }

    /// The median of what was measured at each load.
    fn medians(&self, values: &[(f64, f64)]) -> Vec<(f64, f64)> {
        let at = |load: &f64| {
            let here = values
                .iter()
                .filter(|(x, _)| *x >= *load && *x <= load * 1.01);
            let (xs, ys): (Vec<_>, Vec<_>) = here.copied().unzip();
            Some((Spread::of(&xs)?.median, Spread::of(&ys)?.median))
        };
        self.0.iter().filter_map(at).collect()
    }

    fn axis(&self) -> Axis {
        Axis::new(
            "offered, frames/s",
            Scale::Linear,
            self.0.iter().copied(),
            scaled,
        )
    }
}

fn throughput(trials: &[TrialReport], loads: &Loads) -> LinePlot {
    let values: Vec<_> = trials
        .iter()
        .map(|trial| (trial.sent_fps, trial.received_fps))
        .collect();
    let x = loads.axis();
    let end = loads.0.last().copied().unwrap_or(0.0);
    let ideal = Series {
        name: "offered".to_owned(),
        paint: IDEAL,
        points: Vec::new(),
        line: vec![(0.0, 0.0), (end, end)],
    };
    LinePlot {
        y: Axis::new(
            "received, frames/s",
            Scale::Linear,
            loads.0.iter().copied(),
            scaled,
        ),
        x,
        series: vec![ideal, series("received", &values, loads.medians(&values))],
    }
}

fn loss(trials: &[TrialReport], loads: &Loads) -> LinePlot {
    let values: Vec<_> = trials
        .iter()
        .map(|trial| (trial.sent_fps, trial.loss_ratio))
        .collect();
    LinePlot {
        x: loads.axis(),
        y: shares(&values),
        series: vec![series("", &values, loads.medians(&values))],
    }
}

fn shares(values: &[(f64, f64)]) -> Axis {
    let shares = values.iter().map(|(_, share)| *share);
    Axis::new("lost", Scale::Share, shares, |share| {
        format!("{} %", share * 100.0)
    })
}

fn series(name: &str, values: &[(f64, f64)], line: Vec<(f64, f64)>) -> Series {
    let point = |(x, y): &(f64, f64)| Point {
        x: *x,
        y: *y,
        spread: None,
    };
    Series {
        name: name.to_owned(),
        paint: MAIN,
        // Many points would only thicken the line.
        points: match values.len() {
            0..=POINTS_MAX => values.iter().map(point).collect(),
            _ => Vec::new(),
        },
        line,
    }
}

/// Names of what [`percentiles`] gives.
const NAMES: [&str; 5] = ["p50", "p90", "p99", "p99.9", "max"];

/// From the median to the maximum, in nanoseconds.
pub(super) fn percentiles(latency: &Latency) -> [f64; 5] {
    let Latency {
        p50_ns,
        p90_ns,
        p99_ns,
        p999_ns,
        max_ns,
    } = *latency;
    [p50_ns, p90_ns, p99_ns, p999_ns, max_ns].map(|ns| ns as f64)
}

/// A line a percentile: through the medians where several were measured at each load, else through all.
fn latencies(x: Axis, measured: &[(f64, Latency)], loads: Option<&Loads>) -> LinePlot {
    let all = measured
        .iter()
        .flat_map(|(_, latency)| percentiles(latency));
    let of = |number: usize, name: &str| {
        let values: Vec<_> = measured
            .iter()
            .filter_map(|(load, latency)| Some((*load, *percentiles(latency).get(number)?)))
            .collect();
        let line = loads.map_or_else(|| values.clone(), |loads| loads.medians(&values));
        Series {
            paint: *PERCENTILES.get(number).unwrap_or(&MAIN),
            ..series(name, &values, line)
        }
    };
    LinePlot {
        x,
        y: Axis::new("latency", Scale::Log, all, time),
        series: NAMES
            .iter()
            .enumerate()
            .map(|(number, name)| of(number, name))
            .collect(),
    }
}

/// The percentiles of one trial, each as far from the last as it is rarer.
fn one_latency(latency: &Latency) -> LinePlot {
    let places = [0.3, 1.0, 2.0, 3.0, 4.0];
    let named: Vec<_> = places.into_iter().zip(NAMES.map(str::to_owned)).collect();
    let values: Vec<_> = places.into_iter().zip(percentiles(latency)).collect();
    LinePlot {
        x: Axis::named("percentile of frames", Scale::Linear, &named),
        y: Axis::new("latency", Scale::Log, percentiles(latency), time),
        series: vec![series("", &values, values.to_vec())],
    }
}

/// A number with its prefix.
pub(super) fn scaled(value: f64) -> String {
    Scaled(value).to_string()
}

/// A time with the unit that suits it.
pub(super) fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns >= 1e9 => (ns / 1e9, "s"),
        ns if ns >= 1e6 => (ns / 1e6, "ms"),
        ns if ns >= 1e3 => (ns / 1e3, "µs"),
        ns => (ns, "ns"),
    };
    format!("{} {unit}", Scaled((value * 100.0).round() / 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loadgen::books::{Arrivals, Books};
    use crate::loadgen::report::Measured;

    /// Second-long trials with so many frames sent and received.
    fn trials_of(frames: &[(u64, u64)]) -> Vec<TrialReport> {
        let trial = |(sent, received): &(u64, u64)| {
            let arrivals = Arrivals {
                received: *received,
                ..Arrivals::default()
            };
            TrialReport::new(Measured {
                asked_fps: *sent as f64,
                duration_s: 1.0,
                books: Books::close(&[*sent], &[arrivals]).unwrap(),
                received_bytes: 60 * received,
                late: 0,
                foreign: 0,
                inspection: None,
                latency: (*received > 0).then_some(Latency {
                    p50_ns: 1,
                    p90_ns: 2,
                    p99_ns: 3,
                    p999_ns: 4,
                    max_ns: 5,
                }),
                cpu: Vec::new(),
            })
        };
        frames.iter().map(trial).collect()
    }

    fn plots(frames: &[(u64, u64)]) -> Vec<&'static str> {
        let mut page = Page::new("a", "b", "c");
        trials(&mut page, &trials_of(frames));
        let html = page.html();
        let all = [
            "Throughput against load.",
            "Loss against load.",
            "Latency by percentile.",
            "Latency percentiles against load.",
            "Latency percentiles of each trial.",
        ];
        let label = |title: &&str| html.contains(&format!("aria-label=\"{title}\""));
        all.into_iter().filter(label).collect()
    }

    #[test]
    fn a_plot_is_shown_when_there_is_something_to_see() {
        assert_eq!(plots(&[]), Vec::<&str>::new());
        assert_eq!(plots(&[(100, 0)]), Vec::<&str>::new());
        assert_eq!(plots(&[(100, 100)]), ["Latency by percentile."]);
        assert_eq!(
            plots(&[(1000, 1000), (1001, 1001)]),
            ["Latency percentiles of each trial."]
        );
        assert_eq!(
            plots(&[(100, 100), (200, 150)]),
            [
                "Throughput against load.",
                "Loss against load.",
                "Latency percentiles against load."
            ]
        );
    }

    #[test]
    fn times_have_the_unit_that_suits_them() {
        assert_eq!(
            [10.0, 1234.0, 2.5e6, 3e9].map(time),
            ["10 ns", "1.23 µs", "2.5 ms", "3 s"]
        );
    }

    #[test]
    fn trials_at_the_same_load_are_one_place_of_the_line() {
        let loads = Loads(vec![100.0, 200.0]);
        let values = [
            (200.0, 5.0),
            (100.5, 1.0),
            (100.0, 3.0),
            (201.0, 7.0),
            (200.0, 6.0),
        ];
        assert_eq!(loads.medians(&values), [(100.25, 2.0), (200.0, 6.0)]);
    }
}
