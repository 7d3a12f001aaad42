//! Pages as their readers have them: opened in Chromium, in light and in dark, on a wide and on a narrow screen.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::browser::{Browser, Look, Scheme};
use crate::compare::{self, WILD};
use crate::faults::{Fault, faulty_wire};
use crate::support::process;
use crate::wire::Wire;

const VXGATE: &str = env!("CARGO_BIN_EXE_vxgate");

/// Opens it in every way, and returns how it looks in light on a wide screen. What must be so of every page is so.
fn looked_at(browser: &Browser, page: &Path) -> Look {
    let mut backgrounds = HashSet::new();
    let mut looks = Vec::new();
    for scheme in [Scheme::Dark, Scheme::Light] {
        let complaints = browser.complaints(page, scheme);
        assert!(complaints.is_empty(), "{scheme:?}: {complaints:?}");
        for width in [500, 1200] {
            let look = browser.look(page, scheme, width);
            assert_eq!(look.prefers_dark, scheme == Scheme::Dark);
            assert_eq!(
                (look.resources, look.scripts, look.images),
                (0, 0, 0),
                "{look:?}"
            );
            let none: &[String] = &[];
            assert_eq!(look.pale_text, none, "{scheme:?} {width}");
            assert_eq!(look.pale_shapes, none, "{scheme:?} {width}");
            assert_eq!(look.outside, none, "{scheme:?} {width}");
            assert!(look.too_wide <= 0, "{scheme:?} {width}: {}", look.too_wide);
            backgrounds.insert(look.background.clone());
            looks.push(look);
        }
    }
    assert_eq!(backgrounds.len(), 2, "{backgrounds:?}");
    looks.pop().unwrap()
}

/// Without this, silence would prove nothing.
#[test]
fn the_browser_tells_of_what_a_page_would_load_or_run() {
    let browser = Browser::new("complaints");
    let folder = TempDir::new().unwrap();
    let page = folder.path().join("page.html");
    let head = "<!DOCTYPE html><meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'\">";
    for (body, words) in [
        ("<p>nothing", None),
        ("<img src=\"http://198.18.0.1/x.png\">", Some("198.18.0.1")),
        ("<script>document.title = 1</script>", Some("script")),
    ] {
        fs::write(&page, format!("{head}{body}")).unwrap();
        let complaints = browser.complaints(&page, Scheme::Light).join("\n");
        match words {
            None => assert_eq!(complaints, ""),
            Some(words) => assert!(complaints.contains(words), "{body}: {complaints}"),
        }
    }
}

#[test]
fn a_measurement_can_be_read_by_everybody() {
    let wire = Wire::new("page");
    let browser = Browser::new("page-reader");
    // Devices may be called anything without white space and slash.
    let [near, far] = ["<script>n\"&'", "<img>f0"];
    wire.near.run(&format!("ip link set near0 name {near}"));
    wire.far.run(&format!("ip link set far0 name {far}"));
    let folder = TempDir::new().unwrap();
    let page = folder.path().join("report.html");
    fs::write(&page, "the last one").unwrap();
    let output = process::command(VXGATE)
        .args([
            "bench",
            "rate",
            "--tx",
            near,
            "--tx-netns",
            wire.near.name(),
        ])
        .args(["--rx", far, "--rx-netns", wire.far.name(), "--csv"])
        .args([
            "--vni",
            "1-40",
            "--flows",
            "100",
            "--size",
            "imix",
            "--duration",
            "0.2",
            "--report",
        ])
        .arg(&page)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let look = looked_at(&browser, &page);
    assert_eq!(look.heading, format!("{near} → {far}"));
    assert_eq!(look.title, look.heading);
    assert_eq!(look.plots, ["Latency by percentile."]);
    let csv = String::from_utf8(output.stdout).unwrap();
    let quoted = near.replace('"', "\"\"");
    assert!(
        csv.contains(&format!(",\"{quoted}\",{},veth,{far},", wire.near.name())),
        "{csv}"
    );
    for words in [
        "vxgate bench rate, 20",
        "100 flows of udp, imix bytes inner, 198.18.0.1 to 198.19.0.1; VNI 1-40",
        "(veth, MTU 3400)",
        "'<script>n\"&'\\''' --tx-netns",
        "p99.9",
    ] {
        assert!(look.text.contains(words), "{words}: {}", look.text);
    }
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing beside the page"
    );
}

#[test]
fn a_search_shows_its_curves() {
    // Neither goal is reached at any load, so the search tries the highest, the lowest and some between.
    let (wire, _middle) = faulty_wire("curves", Fault::Drop { every: 100 });
    let browser = Browser::new("curves-reader");
    let folder = TempDir::new().unwrap();
    let page = folder.path().join("search.html");
    let output = process::command(VXGATE)
        .args([
            "bench",
            "ndr",
            "--tx",
            "near0",
            "--tx-netns",
            wire.near.name(),
        ])
        .args(["--rx", "far0", "--rx-netns", wire.far.name()])
        .args([
            "--min-rate",
            "5k",
            "--max-rate",
            "20k",
            "--no-calibrate",
            "--trial",
            "0.1",
            "--sum",
            "0.2",
        ])
        .args(["--time-limit", "10", "--report"])
        .arg(&page)
        .output()
        .unwrap();
    assert!(page.exists(), "{output:?}");
    let look = looked_at(&browser, &page);
    assert_eq!(
        look.plots,
        [
            "Throughput against load.",
            "Loss against load.",
            "Latency percentiles against load."
        ]
    );
    assert!(
        look.text.contains("NDR") && look.text.contains("PDR"),
        "{}",
        look.text
    );
}

#[test]
fn a_comparison_shows_everybody_with_their_spread() {
    let browser = Browser::new("compare-reader");
    let (folder, file) = compare::file();
    let page = folder.path().join("report.html");
    let output = compare::compare(&file, &["--report", page.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let look = looked_at(&browser, &page);
    for plot in [
        "decap, frames/s.",
        "decap/ndr against frame size.",
        "encap, frames/s.",
        "encap/ndr against frame size.",
        "rr, µs.",
        "idle, % of a core.",
        "tcp, bit/s.",
    ] {
        assert!(
            look.plots.iter().any(|found| found == plot),
            "{plot}: {:?}",
            look.plots
        );
    }
    for words in [
        WILD,
        "6.18 <b>",
        "no difference shown",
        "not measured",
        "--only rr/p50 --device vxgate",
    ] {
        assert!(look.text.contains(words), "{words}: {}", look.text);
    }
}

#[test]
fn where_no_page_can_be_written_nothing_is_measured() {
    let (folder, file) = compare::file();
    for path in [folder.path().join("no/page.html"), folder.path().to_owned()] {
        let output = compare::compare(&file, &["--report", path.to_str().unwrap()]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
        assert!(error.contains("cannot write the report"), "{error}");
    }
    let output = compare::compare(&file, &["--json", "--csv"]);
    assert_eq!(output.status.code(), Some(2), "one or the other");
}
