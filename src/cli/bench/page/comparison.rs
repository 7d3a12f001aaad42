//! The page of a comparison.

use super::bars::{Bar, BarPlot, Group};
use super::curves::scaled;
use super::lines::{LinePlot, Point, Series};
use super::paint::{BARE, KERNEL, NONE, OVS, Paint, VXGATE};
use super::scale::{Axis, Scale};
use super::{Cell, Page, Tile};
use crate::loadgen::comparison::{
    Comparison, Contender, ROUNDS_MIN, Ratio, Row, Spread, Values, Verdict,
};
use crate::loadgen::size::Sizes;

/// The page of a comparison.
pub(in crate::cli::bench) fn comparison(comparison: &Comparison) -> Page {
    let setting = |key: &str| {
        let mut settings = comparison.settings.iter();
        settings
            .find(|setting| setting.key == key)
            .map(|setting| setting.text())
    };
    let about = match setting("date") {
        Some(date) => format!("vxgate bench compare, {date}"),
        None => "vxgate bench compare".to_owned(),
    };
    let lead = format!(
        "Everybody is measured in every round, one after the other, and compared within the round. A difference is one when \
         at least {ROUNDS_MIN} rounds agree on it."
    );
    let mut page = Page::new(&about, "Data paths, side by side", &lead);
    page.tiles(&verdicts(comparison));
    page.heading("Ratios");
    ratios(&mut page, comparison, |row| &row.ratios);
    let of_cost = |row: &Row| !row.ratios_beyond_control.is_empty();
    if comparison.rows.iter().any(of_cost) {
        page.heading("Ratios of what a frame costs beyond the control");
        ratios(&mut page, comparison, |row| &row.ratios_beyond_control);
    }
    for (group, rows) in groups(&comparison.rows) {
        page.heading(group);
        for (unit, rows) in by_unit(&rows) {
            bars(&mut page, group, unit, &rows);
        }
        for (name, plot) in sizes(&rows) {
            page.lines(
                &format!("{name} against frame size."),
                "Medians, with their spread over the rounds.",
                &plot,
            );
        }
        values(&mut page, &rows);
    }
    page.heading("Set-up");
    page.facts(
        comparison
            .settings
            .iter()
            .map(|setting| (setting.key.as_str(), setting.text())),
    );
    page.heading("Again");
    page.note("Each row by itself, contender by contender.");
    let commands: Vec<_> = comparison
        .rows
        .iter()
        .flat_map(|row| row.commands.clone())
        .collect();
    page.code(&commands.join("\n"));
    page
}

/// How often each pair's verdict fell which way.
fn verdicts(comparison: &Comparison) -> Vec<Tile> {
    let tile = |(name, of, to)| {
        let ratios = comparison.rows.iter().flat_map(|row| &row.ratios);
        let verdicts: Vec<_> = ratios
            .filter(|ratio| ratio.of == of && ratio.to == to)
            .map(|ratio| ratio.verdict)
            .collect();
        let count = |verdict| verdicts.iter().filter(|found| **found == verdict).count();
        let (better, worse) = (count(Verdict::Better), count(Verdict::Worse));
        let rest = verdicts.len() - better - worse;
        (!verdicts.is_empty()).then(|| Tile {
            name,
            value: format!("{better} better, {worse} worse"),
            unit: "",
            word: format!("of {} rows; {rest} undecided", verdicts.len()),
        })
    };
    let pairs = [
        ("vxgate to kernel", Contender::Vxgate, Contender::Kernel),
        ("OVS to kernel", Contender::Ovs, Contender::Kernel),
        ("vxgate to OVS", Contender::Vxgate, Contender::Ovs),
        ("kernel to OVS", Contender::Kernel, Contender::Ovs),
        ("kernel to vxgate", Contender::Kernel, Contender::Vxgate),
        ("OVS to vxgate", Contender::Ovs, Contender::Vxgate),
    ];
    pairs.into_iter().filter_map(tile).collect()
}

/// A table of one kind of ratios, of the rows that have any.
fn ratios(page: &mut Page, comparison: &Comparison, kind: fn(&Row) -> &[Ratio]) {
    let mut pairs: Vec<_> = Vec::new();
    for ratio in comparison.rows.iter().flat_map(kind) {
        if !pairs.contains(&ratio.name()) {
            pairs.push(ratio.name());
        }
    }
    let mut head = vec!["row", "better", "rounds"];
    head.extend(pairs.iter().map(String::as_str));
    let rows = comparison.rows.iter().filter(|row| !kind(row).is_empty());
    let rows = rows.map(|row| {
        let of = |pair: &String| kind(row).iter().find(|ratio| ratio.name() == *pair);
        let mut cells = vec![
            Cell::text(&row.row),
            Cell::text(row.better.name()),
            Cell::number(row.rounds),
        ];
        cells.extend(
            pairs
                .iter()
                .map(|pair| of(pair).map_or(Cell::text("–"), verdict)),
        );
        cells
    });
    page.table(&head, &rows.collect::<Vec<_>>());
}

/// A ratio's median with what it shows, and its spread below.
fn verdict(ratio: &Ratio) -> Cell {
    let kind = match ratio.verdict {
        Verdict::Better => "text better",
        Verdict::Worse => "text worse",
        _ => "text open",
    };
    let Some(Spread { min, median, max }) = ratio.spread else {
        return Cell {
            kind,
            ..Cell::text(ratio.words())
        };
    };
    Cell {
        text: format!("{median:.3}  {}", ratio.words()),
        small: format!("{min:.3} – {max:.3}, rounds: {}", ratio.pairs),
        kind,
    }
}

/// Rows whose names begin alike, in the order of the first of each.
fn groups(rows: &[Row]) -> Vec<(&str, Vec<&Row>)> {
    gathered(rows.iter(), |row| {
        row.row.split('/').next().unwrap_or(&row.row)
    })
}

/// Rows whose values can share an axis.
fn by_unit<'a>(rows: &[&'a Row]) -> Vec<(&'a str, Vec<&'a Row>)> {
    gathered(rows.iter().copied(), |row| row.unit.as_str())
}

fn gathered<'a>(
    rows: impl Iterator<Item = &'a Row>,
    key: impl Fn(&'a Row) -> &'a str,
) -> Vec<(&'a str, Vec<&'a Row>)> {
    let mut gathered: Vec<(&str, Vec<&Row>)> = Vec::new();
    for row in rows {
        let key = key(row);
        match gathered.iter_mut().find(|(known, _)| *known == key) {
            Some((_, rows)) => rows.push(row),
            None => gathered.push((key, vec![row])),
        }
    }
    gathered
}

fn bars(page: &mut Page, group: &str, unit: &str, rows: &[&Row]) {
    // The control, and what only redirects, may be so fast that on their scale the others could not be told apart: they may go
    // beyond the axis.
    let contenders = rows
        .iter()
        .flat_map(|row| &row.devices)
        .filter(|values| !matches!(values.device, Contender::None | Contender::Bare));
    let spreads = contenders.filter_map(|values| values.spread);
    let plot = BarPlot {
        x: Axis::new(
            unit,
            Scale::Linear,
            spreads.map(|spread| spread.max),
            scaled,
        ),
        groups: rows.iter().map(|row| bar_group(row)).collect(),
        write: scaled,
    };
    page.figure(
        &format!("{group}, {unit}."),
        "Bars end at the median over the rounds; lines go from the least to the most. The control has nothing between generator and sink, \
         and bare has programs that only redirect.",
        plot.svg(),
    );
}

fn bar_group(row: &Row) -> Group {
    let bar = |values: &Values| Bar {
        name: match values.device {
            Contender::None => "control".to_owned(),
            device => device.to_string(),
        },
        paint: paint(values.device),
        value: values
            .spread
            .ok_or_else(|| "not measured, see below".to_owned()),
    };
    Group {
        name: format!("{} ({})", row.row, row.better),
        bars: row.devices.iter().map(bar).collect(),
    }
}

const fn paint(device: Contender) -> Paint {
    match device {
        Contender::None => NONE,
        Contender::Bare => BARE,
        Contender::Kernel => KERNEL,
        Contender::Ovs => OVS,
        Contender::Vxgate => VXGATE,
    }
}

/// A row of a known frame size.
struct SizedRow<'a> {
    mean: f64,
    name: String,
    row: &'a Row,
}

/// A plot for all rows that differ in the frame size alone: of `decap/64/ndr` the size is the second part.
fn sizes(rows: &[&Row]) -> Vec<(String, LinePlot)> {
    let mut names: Vec<(String, Vec<SizedRow<'_>>)> = Vec::new();
    for row in rows {
        let parts: Vec<_> = row.row.split('/').collect();
        let [group, size, goal @ ..] = parts.as_slice() else {
            continue;
        };
        let Ok(sizes) = size.parse::<Sizes>() else {
            continue;
        };
        let name = [&[*group], goal].concat().join("/");
        let sized = SizedRow {
            mean: sizes.mean(),
            name: (*size).to_owned(),
            row,
        };
        match names.iter_mut().find(|(known, rows)| {
            *known == name && rows.iter().all(|other| other.row.unit == row.unit)
        }) {
            Some((_, rows)) => rows.push(sized),
            None => names.push((name, vec![sized])),
        }
    }
    let plotted = names.into_iter().filter(|(_, rows)| rows.len() > 1);
    plotted
        .map(|(name, rows)| (name, against_size(rows)))
        .collect()
}

fn against_size(mut rows: Vec<SizedRow<'_>>) -> LinePlot {
    rows.sort_by(|one, other| one.mean.total_cmp(&other.mean));
    let devices = [Contender::Kernel, Contender::Ovs, Contender::Vxgate];
    let series = devices.map(|device| {
        let point = |sized: &SizedRow<'_>| {
            let mut devices = sized.row.devices.iter();
            let spread = devices.find(|values| values.device == device)?.spread?;
            Some(Point {
                x: sized.mean,
                y: spread.median,
                spread: Some((spread.min, spread.max)),
            })
        };
        let points: Vec<_> = rows.iter().filter_map(point).collect();
        Series {
            name: device.to_string(),
            paint: paint(device),
            line: points.iter().map(|point| (point.x, point.y)).collect(),
            points,
        }
    });
    let series: Vec<_> = series
        .into_iter()
        .filter(|series| !series.points.is_empty())
        .collect();
    let most = series
        .iter()
        .flat_map(|series| &series.points)
        .filter_map(|point| point.spread);
    let unit = rows.first().map_or("", |sized| sized.row.unit.as_str());
    let y = Axis::new(unit, Scale::Linear, most.map(|(_, high)| high), scaled);
    let ticks: Vec<_> = rows
        .iter()
        .map(|sized| (sized.mean, sized.name.clone()))
        .collect();
    LinePlot {
        x: Axis::named("frame size, bytes", Scale::Log, &ticks),
        y,
        series,
    }
}

/// Every value, so that nobody needs to trust the medians.
fn values(page: &mut Page, rows: &[&Row]) {
    let head = [
        "row",
        "device",
        "median",
        "min",
        "max",
        "every round",
        "notes",
    ];
    let mut table = Vec::new();
    for row in rows {
        for values in &row.devices {
            let number = |of: fn(&Spread) -> f64| {
                Cell::number(
                    values
                        .spread
                        .as_ref()
                        .map(of)
                        .map_or("–".to_owned(), scaled),
                )
            };
            let each: Vec<_> = values
                .values
                .iter()
                .map(|round| round.value.map_or("–".to_owned(), scaled))
                .collect();
            table.push(vec![
                Cell {
                    small: row.unit.clone(),
                    ..Cell::text(&row.row)
                },
                Cell::text(values.device),
                number(|spread| spread.median),
                number(|spread| spread.min),
                number(|spread| spread.max),
                Cell::code(each.join("  ")),
                Cell::words(values.notes().join("; ")),
            ]);
        }
    }
    page.table(&head, &table);
}
