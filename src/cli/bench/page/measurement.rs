//! The page of one measurement.

use super::curves::{self, percentiles, scaled, time};
use super::{Cell, Page, Tile};
use crate::loadgen::comparison::Spread;
use crate::loadgen::rate::Scaled;
use crate::loadgen::report::{Report, SearchReport, Throughput, TrialReport};

/// The page of a measurement.
pub(in crate::cli::bench) fn measurement(report: &Report) -> Page {
    let about = match &report.date {
        Some(date) => format!("vxgate bench {}, {date}", report.measurement),
        None => format!("vxgate bench {}", report.measurement),
    };
    let host = &report.host;
    let lead = format!(
        "Linux {}, {} × {}; sent by {}, received in {} XDP mode.",
        host.kernel, host.cores, host.cpu, report.engine, report.sink_mode
    );
    let mut page = Page::new(&about, &title(report), &lead);
    if host.virtual_machine {
        page.note(
            "A virtual machine: time that its host takes away shows as gaps in the latency and as stolen processor time.",
        );
    }
    page.tiles(&headline(report));
    curves::trials(&mut page, &report.trials);
    if let Some(soak) = &report.soak {
        curves::windows(&mut page, soak);
    }
    page.heading("Trials");
    trials(&mut page, &report.trials);
    if let [trial] = report.trials.as_slice() {
        cores(&mut page, trial);
    }
    page.heading("Where and what");
    page.facts(facts(report));
    page.heading("Again");
    page.code(&command_line(&report.command));
    page.heading("As text");
    page.code(&report.to_string());
    page
}

fn title(report: &Report) -> String {
    match &report.devices {
        Some(devices) => format!("{} → {}", devices.tx.name, devices.rx.name),
        None => report.measurement.clone(),
    }
}

fn headline(report: &Report) -> Vec<Tile> {
    match (&report.search, report.trials.as_slice()) {
        (Some(search), trials) => [of_search(search), of_all(trials)].concat(),
        (None, [trial]) => of_one(trial),
        (None, trials) => [of_best(trials), of_all(trials)].concat(),
    }
}

fn of_search(search: &SearchReport) -> Vec<Tile> {
    let tile = |name, found: &Option<Throughput>| match found {
        Some(found) => Tile {
            name,
            value: scaled(found.throughput_fps),
            unit: "frames/s",
            word: format!(
                "{}bit/s; the limit is between {} and {} frames/s offered",
                Scaled(found.throughput_bps),
                Scaled(found.lower_fps),
                Scaled(found.upper_fps)
            ),
        },
        None => Tile {
            name,
            value: "no limit found".to_owned(),
            unit: "",
            word: "why not is told below, as text".to_owned(),
        },
    };
    vec![tile("NDR", &search.ndr), tile("PDR", &search.pdr)]
}

fn of_one(trial: &TrialReport) -> Vec<Tile> {
    let total = &trial.books.total;
    let mut tiles = vec![
        Tile {
            name: "Received",
            value: scaled(trial.received_fps),
            unit: "frames/s",
            word: format!("{}bit/s with FCS", Scaled(trial.received_bps)),
        },
        Tile {
            name: "Lost",
            value: format!("{:.4}", trial.loss_ratio * 100.0),
            unit: "%",
            word: format!("{} of {} frames", total.lost, total.sent),
        },
    ];
    if let Some(latency) = &trial.latency {
        let [p50, _, p99, _, max] = percentiles(latency);
        tiles.push(Tile {
            name: "Latency, p99",
            value: time(p99),
            unit: "",
            word: format!("p50 {}, max {}", time(p50), time(max)),
        });
    }
    if let Some(ns) = trial.cpu_ns_per_frame {
        tiles.push(Tile {
            name: "Processor time",
            value: format!("{ns:.0}"),
            unit: "ns a frame",
            word: "all cores, generator and sink included".to_owned(),
        });
    }
    tiles
}

fn of_best(trials: &[TrialReport]) -> Vec<Tile> {
    let most = |name, loses: bool, word: &str| {
        let rates = trials
            .iter()
            .filter(|trial| loses || trial.books.total.lost == 0);
        let rates: Vec<_> = rates.map(|trial| trial.received_fps).collect();
        Tile {
            name,
            value: Spread::of(&rates).map_or("none".to_owned(), |rates| scaled(rates.max)),
            unit: "frames/s",
            word: word.to_owned(),
        }
    };
    vec![
        most("Most without loss", false, "received in a single trial"),
        most("Most with any loss", true, "received in a single trial"),
    ]
}

fn of_all(trials: &[TrialReport]) -> Vec<Tile> {
    let seconds: f64 = trials.iter().map(|trial| trial.duration_s).sum();
    let sent: u64 = trials.iter().map(|trial| trial.books.total.sent).sum();
    let lost: u64 = trials.iter().map(|trial| trial.books.total.lost).sum();
    vec![
        Tile {
            name: "Trials",
            value: trials.len().to_string(),
            unit: "",
            word: format!("{seconds:.1} s of sending"),
        },
        Tile {
            name: "Frames",
            value: scaled(sent as f64),
            unit: "sent",
            word: format!("{lost} lost"),
        },
    ]
}

fn trials(page: &mut Page, trials: &[TrialReport]) {
    let numbered = || (1..).zip(trials);
    let rates = numbered().map(|(number, trial)| numbers(number, rates(trial)));
    let head = [
        "",
        "asked, frames/s",
        "sent, frames/s",
        "received, frames/s",
        "bit/s",
        "lost",
        "lost, %",
        "late",
        "ns a frame",
    ];
    page.table(&head, &rates.collect::<Vec<_>>());
    let timed = numbered().filter_map(|(number, trial)| {
        let times = percentiles(trial.latency.as_ref()?);
        Some(numbers(
            number,
            times.map(|ns| format!("{:.1}", ns / 1000.0)),
        ))
    });
    let timed: Vec<_> = timed.collect();
    if !timed.is_empty() {
        let head = ["latency, µs", "p50", "p90", "p99", "p99.9", "max"];
        page.table(&head, &timed);
    }
    // What is the rule is not told: a table of zeros says nothing.
    let wrong: Vec<_> = numbered()
        .map(|(number, trial)| (number, fates(trial)))
        .filter(|(_, fates)| fates.iter().any(|frames| *frames > 0))
        .map(|(number, fates)| numbers(number, fates.map(|frames| frames.to_string())))
        .collect();
    if !wrong.is_empty() {
        let head = [
            "frames",
            "doubled",
            "reordered",
            "corrupted",
            "misled",
            "foreign",
        ];
        page.table(&head, &wrong);
    }
}

fn numbers(number: usize, rest: impl IntoIterator<Item = String>) -> Vec<Cell> {
    let mut cells = vec![Cell::text(number)];
    cells.extend(rest.into_iter().map(Cell::number));
    cells
}

fn rates(trial: &TrialReport) -> [String; 8] {
    [
        trial.asked_fps.map_or("max".to_owned(), scaled),
        scaled(trial.sent_fps),
        scaled(trial.received_fps),
        scaled(trial.received_bps),
        trial.books.total.lost.to_string(),
        format!("{:.4}", trial.loss_ratio * 100.0),
        trial.late.to_string(),
        trial
            .cpu_ns_per_frame
            .map_or("–".to_owned(), |ns| format!("{ns:.0}")),
    ]
}

fn fates(trial: &TrialReport) -> [u64; 5] {
    let total = &trial.books.total;
    [
        total.duplicated,
        total.reordered,
        total.corrupted,
        total.misdelivered,
        trial.foreign,
    ]
}

fn cores(page: &mut Page, trial: &TrialReport) {
    let rows = trial.cpu.iter().enumerate().map(|(core, share)| {
        let shares = [share.user, share.system, share.softirq, share.steal];
        let mut cells = vec![Cell::text(core)];
        cells.extend(shares.map(|share| Cell::number(format!("{:.1} %", share * 100.0))));
        cells
    });
    page.table(
        &["core", "user", "system", "softirq", "stolen"],
        &rows.collect::<Vec<_>>(),
    );
}

fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let host = &report.host;
    let mut facts = Vec::new();
    if let Some(devices) = &report.devices {
        facts.push(("From", devices.tx.to_string()));
        facts.push(("To", devices.rx.to_string()));
    }
    let streams = report.traffic.iter().flatten();
    facts.extend(streams.map(|stream| ("Traffic", stream.to_string())));
    facts.push((
        "Engine",
        format!("{}: {}", report.engine, report.engine_reason),
    ));
    facts.push(("Sink", format!("XDP, {}", report.sink_mode)));
    facts.push(("Kernel", host.kernel.clone()));
    facts.push(("Processor", format!("{} × {}", host.cores, host.cpu)));
    facts.push((
        "Load before",
        format!(
            "{:.2} over the last minute",
            f64::from(host.load_milli) / 1000.0
        ),
    ));
    facts.push((
        "Version",
        format!("vxgate {}, {}", report.version, report.schema),
    ));
    facts
}

/// The words as a shell takes them.
fn command_line(words: &[String]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| quote(word)).collect();
    quoted.join(" ")
}

fn quote(word: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "_-./:=,@%+".contains(char);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_pasted() {
        let words = ["vxgate", "bench", "--tx", "it's $(here)", ""].map(str::to_owned);
        assert_eq!(
            command_line(&words),
            "vxgate bench --tx 'it'\\''s $(here)' ''"
        );
    }
}
