//! Every error type of the layers that face an operator has codes, and every code is some error's. That a type names all of
//! its variants the compiler sees to; that no type is left out, and no code is there for nothing, is seen to here.

use std::fs;
use std::path::{Path, PathBuf};

use vxgate::fault::Fault;

/// Where an error may come from that an operator sees. What the load generator's own layer says, `cli::bench` gives codes.
const LAYERS: &[&str] = &[
    "config", "control", "cli", "doctor", "gateway", "netlink", "port", "show", "state", "steer",
    "trace", "worker",
];
/// Errors inside of another one that has the code, or of a flag, which is a matter of usage.
const INNER: &[&str] = &[
    "EndError",
    "WireError",
    "CalibrationError",
    "ProfileFileError",
    "TooOld",
];

fn sources(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a readable source");
            found.push((path, text));
        }
    }
}

/// The text of every file of some layers, without their tests.
fn texts(layers: &[&str]) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for layer in layers {
        sources(&root.join(layer), &mut found);
    }
    for (_, text) in &mut found {
        text.truncate(text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len()));
    }
    found
}

/// The name of the type that follows a `derive(... thiserror::Error ...)`.
fn errors(text: &str) -> impl Iterator<Item = &str> {
    text.split("thiserror::Error").skip(1).map(|rest| {
        let (_, declared) = rest
            .split_once("enum ")
            .into_iter()
            .chain(rest.split_once("struct "))
            .min_by_key(|(before, _)| before.len())
            .expect("a derive stands before a type");
        let end = declared.find(|c: char| !c.is_alphanumeric());
        &declared[..end.unwrap_or(declared.len())]
    })
}

#[test]
fn every_error_that_reaches_an_operator_has_codes() {
    let mut seen = 0;
    for (path, text) in texts(LAYERS) {
        for name in errors(&text) {
            seen += 1;
            let has = text.contains(&format!("impl Explained for {name} {{"));
            assert!(
                has || INNER.contains(&name),
                "{}: {name} has no codes: impl Explained for it",
                path.display()
            );
        }
    }
    assert!(seen > 15, "only {seen} error types were found");
}

#[test]
fn every_code_is_some_errors() {
    let all: String = texts(LAYERS).into_iter().map(|(_, text)| text).collect();
    for fault in Fault::ALL {
        let name = format!("Fault::{fault:?}");
        let used = all.match_indices(&name).any(|(at, _)| {
            let next = all[at + name.len()..].chars().next();
            !next.is_some_and(char::is_alphanumeric)
        });
        assert!(used, "{name} ({}) is no error's", fault.code());
    }
}
