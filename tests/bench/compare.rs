//! `vxgate bench compare` as people run it, on a file that nobody measured.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::process;

const VXGATE: &str = env!("CARGO_BIN_EXE_vxgate");
/// What somebody may have written into a note.
pub const WILD: &str = "</script><img src=x onerror=alert(1)> & \"so\"";

/// Rates by round that go up and down together: the ratio is always the same.
const DRIFT: [f64; 5] = [1.0, 1.3, 0.8, 1.1, 0.9];

/// Two sizes both ways, with the control; a row that is better when it is less; a contender that was not there.
pub fn measured() -> String {
    let mut text = String::new();
    let mut add = |line: Value| writeln!(text, "{line}").unwrap();
    for (key, value) in [("kernel", json!("6.18 <b>")), ("cores", json!(2))] {
        add(json!({"schema": "vxgate-bench/1", "kind": "setting", "key": key, "value": value}));
    }
    for (round, drift) in (1..).zip(DRIFT) {
        let mut measure = |device: &str,
                           row: &str,
                           value: Option<f64>,
                           unit: &str,
                           better: &str| {
            let mut line = json!({
                "schema": "vxgate-bench/1", "kind": "measure", "device": device, "row": row, "round": round,
                "value": value, "unit": unit, "better": better,
                "command": format!("scripts/bench.sh --only {row} --device {device}"),
            });
            if value.is_none() {
                line["note"] = WILD.into();
            }
            add(line);
        };
        for way in ["decap", "encap"] {
            for (size, rate) in [("64", 250_000.0), ("imix", 240_000.0), ("1400", 200_000.0)] {
                let row = format!("{way}/{size}/ndr");
                measure("kernel", &row, Some(rate * drift), "frames/s", "higher");
                measure(
                    "vxgate",
                    &row,
                    Some(rate * 1.5 * drift),
                    "frames/s",
                    "higher",
                );
                let ovs = (round != 2).then_some(rate * drift * if round == 1 { 0.9 } else { 1.1 });
                measure("ovs", &row, ovs, "frames/s", "higher");
            }
        }
        measure(
            "none",
            "decap/64/ndr",
            Some(3e6 * drift),
            "frames/s",
            "higher",
        );
        measure("kernel", "rr/p50", Some(40.0 * drift), "µs", "lower");
        measure("vxgate", "rr/p50", Some(50.0 * drift), "µs", "lower");
        measure("kernel", "idle/cpu", Some(0.0), "% of a core", "lower");
        measure("vxgate", "idle/cpu", Some(1.5), "% of a core", "lower");
        measure("ovs", "tcp/1/up", None, "bit/s", "higher");
    }
    text
}

/// A folder with that file in it.
pub fn file() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("results.json");
    fs::write(&path, measured()).unwrap();
    (folder, path)
}

pub fn compare(file: &Path, flags: &[&str]) -> Output {
    let mut command = process::command(VXGATE);
    command.args(["bench", "compare"]).arg(file).args(flags);
    command.output().unwrap()
}

fn said(file: &Path, flags: &[&str]) -> String {
    let output = compare(file, flags);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn ratio<'a>(document: &'a Value, row: &str, of: &str, to: &str) -> &'a Value {
    let rows = document["rows"].as_array().unwrap();
    let row = rows.iter().find(|found| found["row"] == row).unwrap();
    let mut ratios = row["ratios"].as_array().unwrap().iter();
    ratios
        .find(|ratio| ratio["of"] == of && ratio["to"] == to)
        .unwrap()
}

#[test]
fn ratios_are_made_within_a_round_and_judged_by_their_spread() {
    let (_folder, file) = file();
    let document: Value = serde_json::from_str(&said(&file, &["--json"])).unwrap();
    let ours = ratio(&document, "decap/64/ndr", "vxgate", "kernel");
    for key in ["min", "median", "max"] {
        let value = ours[key].as_f64().unwrap();
        assert!((value - 1.5).abs() < 1e-9, "{key}: {value}");
    }
    assert_eq!(
        (&ours["pairs"], &ours["verdict"]),
        (&json!(5), &json!("better"))
    );
    let ovs = ratio(&document, "decap/64/ndr", "ovs", "kernel");
    assert_eq!(
        (&ovs["pairs"], &ovs["verdict"]),
        (&json!(4), &json!("no-difference-shown"))
    );
    let slower = ratio(&document, "rr/p50", "vxgate", "kernel");
    assert_eq!(slower["verdict"], "worse", "more microseconds");
    let nothing = ratio(&document, "idle/cpu", "vxgate", "kernel");
    assert_eq!(
        nothing["verdict"], "not-comparable",
        "nothing can be divided by 0"
    );
    let turned: Value =
        serde_json::from_str(&said(&file, &["--json", "--baseline", "vxgate"])).unwrap();
    assert_eq!(ratio(&turned, "rr/p50", "kernel", "vxgate")["median"], 0.8);
}

#[test]
fn the_text_and_the_csv_say_what_was_not_measured() {
    let (_folder, file) = file();
    let text = said(&file, &[]);
    for words in [
        "tcp/1/up  bit/s, higher is better, 5 rounds\n  ovs            not measured\n",
        "vxgate better",
        "kernel better",
        "no difference shown",
        "  again          scripts/bench.sh --only decap/64/ndr --device kernel\n",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(
        text.contains(&format!("round 2: not measured: {WILD}")),
        "{text}"
    );
    let csv = said(&file, &["--csv"]);
    assert!(
        csv.starts_with("row,kind,name,unit,better,rounds,min,median,max,remark,command\n"),
        "{csv}"
    );
    assert!(
        csv.contains("\ntcp/1/up,device,ovs,bit/s,higher,0,,,,\"round 1: not measured"),
        "{csv}"
    );
}

#[test]
fn a_line_that_cannot_be_used_is_named() {
    let (folder, file) = file();
    let lines = measured();
    for (line, words) in [
        (
            lines.lines().nth(2).unwrap().replace("bench/1", "bench/2"),
            "schema \"vxgate-bench/2\"",
        ),
        (
            lines.lines().nth(2).unwrap().to_owned(),
            "round 1 of this file already",
        ),
        ("not json".to_owned(), "expected ident, column 2"),
    ] {
        fs::write(&file, format!("{lines}{line}\n")).unwrap();
        let output = compare(&file, &[]);
        let error = String::from_utf8(output.stderr).unwrap();
        let place = format!("{}, line {}: ", file.display(), lines.lines().count() + 1);
        assert_eq!(output.status.code(), Some(1));
        assert!(error.contains(&place), "{place}: {error}");
        assert!(error.contains(words), "{words}: {error}");
    }
    let output = compare(&folder.path().join("none.json"), &[]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("none.json") && error.contains("No such file"),
        "{error}"
    );
}
