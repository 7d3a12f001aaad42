//! The comparison of data paths: what `scripts/bench.sh` measured, row by row, and what it shows.
//!
//! Contenders are measured in rounds, one after the other, so what disturbs a machine for a minute disturbs all of them. Hence
//! ratios are made within a round, and their spread over the rounds says whether a difference is one.

mod csv;
mod measure;
mod reader;
mod row;
mod spread;

use std::fmt;

use serde::Serialize;

pub use csv::COLUMNS;
pub use measure::{Better, Contender, Line, LineError, Measure, Setting};
pub use reader::{ComparisonError, Place};
pub use row::{ROUNDS_MIN, Ratio, RoundValue, Row, Values, Verdict};
pub use spread::Spread;

use reader::Reader;

use super::rate::Scaled;
use super::report::SCHEMA;

/// A comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// [`SCHEMA`].
    pub schema: String,
    /// `compare`.
    pub measurement: String,
    /// Whom others are compared with.
    pub baseline: Contender,
    /// The facts of the set-up, in the order in which they were told.
    pub settings: Vec<Setting>,
    /// The rows, in the order in which they were measured first.
    pub rows: Vec<Row>,
}

impl Comparison {
    /// Reads files (name and content), and compares everybody with the baseline.
    ///
    /// # Errors
    /// [`ComparisonError`].
    pub fn read(files: &[(String, String)], baseline: Contender) -> Result<Self, ComparisonError> {
        let mut reader = Reader::default();
        for (number, (name, content)) in files.iter().enumerate() {
            reader.file(number, name, content)?;
        }
        let rows: Vec<_> = reader
            .rows
            .iter()
            .filter_map(|measures| Row::new(measures, baseline))
            .collect();
        if rows.is_empty() {
            let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
            return Err(ComparisonError::Empty(names.join(", ")));
        }
        Ok(Self {
            schema: SCHEMA.to_owned(),
            measurement: "compare".to_owned(),
            baseline,
            settings: reader.settings,
            rows,
        })
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "vxgate bench compare  ratios within a round, to {}",
            self.baseline
        )?;
        for setting in &self.settings {
            writeln!(f, "  {:<20} {}", setting.key, setting.text())?;
        }
        self.rows.iter().try_for_each(|row| write!(f, "\n{row}"))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.rounds == 1 { "" } else { "s" };
        writeln!(
            f,
            "{}  {}, {}, {} round{plural}",
            self.row, self.unit, self.better, self.rounds
        )?;
        for values in &self.devices {
            match &values.spread {
                Some(spread) => writeln!(f, "  {:<14} {spread}", values.device)?,
                None => writeln!(f, "  {:<14} not measured", values.device)?,
            }
            for note in values.notes() {
                writeln!(f, "  {:<14}   {note}", "")?;
            }
        }
        for ratio in &self.ratios {
            write_ratio(f, ratio)?;
        }
        if !self.ratios_beyond_control.is_empty() {
            writeln!(f, "  less what the control costs")?;
        }
        for ratio in &self.ratios_beyond_control {
            write_ratio(f, ratio)?;
        }
        for (number, command) in self.commands.iter().enumerate() {
            let label = if number == 0 { "again" } else { "" };
            writeln!(f, "  {label:<14} {command}")?;
        }
        Ok(())
    }
}

fn write_ratio(f: &mut fmt::Formatter<'_>, ratio: &Ratio) -> fmt::Result {
    let name = ratio.name();
    match &ratio.spread {
        Some(spread) => writeln!(f, "  {name:<14} {}   {}", Fold(spread), ratio.words()),
        None => writeln!(f, "  {name:<14} {}", ratio.words()),
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value| Scaled(value).to_string();
        write!(
            f,
            "median {:>9}   min {:>9}   max {:>9}",
            text(self.median),
            text(self.min),
            text(self.max)
        )
    }
}

/// A spread of ratios.
struct Fold<'a>(&'a Spread);

impl fmt::Display for Fold<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spread { min, median, max } = self.0;
        write!(f, "median {median:>9.3}   min {min:>9.3}   max {max:>9.3}")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn line(device: &str, row: &str, round: u32, value: &str) -> String {
        format!(
            "{{\"schema\":\"vxgate-bench/1\",\"kind\":\"measure\",\"device\":\"{device}\",\"row\":\"{row}\",\
             \"round\":{round},\"value\":{value},\"unit\":\"frames/s\",\"better\":\"higher\",\
             \"command\":\"bench.sh --only {row} --device {device}\"}}\n"
        )
    }

    pub fn comparison() -> Comparison {
        let mut text = String::from(
            "{\"schema\":\"vxgate-bench/1\",\"kind\":\"setting\",\"key\":\"kernel\",\"value\":\"6.18, \\\"ours\\\"\"}\n\n",
        );
        for round in 1..=5 {
            text += &line(
                "kernel",
                "decap/64/ndr",
                round,
                &format!("{}", 200_000 + 1_000 * round),
            );
            text += &line(
                "vxgate",
                "decap/64/ndr",
                round,
                &format!("{}", 300_000 + 1_500 * round),
            );
        }
        text += &line("ovs", "decap/64/ndr", 1, "null,\"note\":\"no AF_XDP here\"");
        Comparison::read(&[("x.json".to_owned(), text)], Contender::Kernel).unwrap()
    }

    #[test]
    fn the_table_says_who_how_much_and_how_to_see_it_again() {
        let text = comparison().to_string();
        for words in [
            "  kernel               6.18, \"ours\"\n",
            "decap/64/ndr  frames/s, higher is better, 5 rounds\n",
            "  kernel         median      203k   min      201k   max      205k\n",
            "  ovs            not measured\n",
            "round 1: not measured: no AF_XDP here\n",
            "  vxgate/kernel  median     1.500   min     1.500   max     1.500   vxgate better\n",
            "  ovs/kernel     not comparable\n",
            "  again          bench.sh --only decap/64/ndr --device kernel\n",
        ] {
            assert!(text.contains(words), "{words}{text}");
        }
    }

    #[test]
    fn what_a_frame_costs_is_told_less_what_the_control_costs_too() {
        let cost = |device: &str, round: u32, ns: u32| {
            let ns = (ns + 10 * round).to_string();
            line(device, "decap/64/cpu", round, &ns)
                .replace("frames/s", "ns/frame")
                .replace("higher", "lower")
        };
        let lines = (1..=5).flat_map(|round| {
            [("none", 1000), ("kernel", 3000), ("vxgate", 1500)]
                .map(|(device, ns)| cost(device, round, ns))
        });
        let files = [("x.json".to_owned(), lines.collect::<String>())];
        let comparison = Comparison::read(&files, Contender::Kernel).unwrap();
        let text = comparison.to_string();
        let words = "  less what the control costs\n  vxgate/kernel  median     0.250   min     0.250   max     0.250   vxgate better\n";
        assert!(text.contains(words), "{text}");
        let csv = comparison.csv();
        let words = "decap/64/cpu,ratio-beyond-control,vxgate/kernel,1,lower,5,0.25,0.25,0.25,vxgate better,";
        assert!(csv.contains(words), "{csv}");
        let document = serde_json::to_value(comparison).unwrap();
        assert_eq!(
            document["rows"][0]["ratios_beyond_control"][0]["median"],
            0.25
        );
    }

    #[test]
    fn a_wrong_line_is_told_with_its_file_and_number() {
        let good = line("kernel", "decap/64/ndr", 1, "1.0");
        let read = |second: &str| {
            let files = [
                ("a.json".to_owned(), good.clone()),
                ("b.json".to_owned(), format!("{good}\n{second}")),
            ];
            Comparison::read(&files, Contender::Kernel)
        };
        for (second, words) in [
            ("{", "b.json, line 3: EOF"),
            (
                good.as_str(),
                "b.json, line 3: kernel has a value of decap/64/ndr in round 1",
            ),
            (
                &line("ovs", "decap/64/ndr", 1, "1").replace("higher", "lower"),
                "b.json, line 3: decap/64/ndr was in frames/s (higher is better) before, and is in frames/s (lower",
            ),
            (
                &good.replace("bench/1", "bench/9"),
                "b.json, line 3: schema \"vxgate-bench/9\"",
            ),
        ] {
            let error = read(second).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let empty = Comparison::read(&[("c.json".to_owned(), "\n".to_owned())], Contender::Kernel);
        assert!(
            empty
                .unwrap_err()
                .to_string()
                .contains("no measures in c.json")
        );
        // The same round of another file is another round.
        assert_eq!(read("").unwrap().rows[0].rounds, 2);
    }

    #[test]
    fn the_document_has_every_round_and_every_reason() {
        let document = serde_json::to_value(comparison()).unwrap();
        let row = &document["rows"][0];
        assert_eq!(document["schema"], SCHEMA);
        assert_eq!(
            (&row["better"], &row["rounds"]),
            (&"higher".into(), &5.into())
        );
        let ovs = &row["devices"][1];
        assert_eq!(
            (&ovs["device"], &ovs["median"]),
            (&"ovs".into(), &serde_json::Value::Null)
        );
        assert_eq!(ovs["values"][0]["note"], "no AF_XDP here");
        assert_eq!(row["ratios"][0]["verdict"], "better");
        assert_eq!(
            (&row["ratios"][0]["of"], &row["ratios"][0]["to"]),
            (&"vxgate".into(), &"kernel".into())
        );
    }
}
