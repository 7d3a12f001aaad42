//! A profile: a file of several streams.
//!
//! ```toml
//! [[stream]]
//! name = "bulk"        # in tables and reports; else its number
//! share = 3            # of the rate, among those of all streams
//! vni = "1-4000"       # from here on, the keys are the flags of one stream, and mean the same
//! flows = 4000
//! size = [64, "570:4", 1518]
//!
//! [[stream]]
//! ipv6 = true
//! proto = "tcp"
//! size = 128
//! ```
//!
//! The flags themselves judge the values, so the two cannot differ. What is not known is refused, and all that is wrong is told
//! at once, with its place.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ends::End;
use super::traffic::Traffic;
use crate::bounded;
use crate::loadgen::profile::Stream;

/// No profile is longer, in bytes; a file that is was named by mistake.
const FILE_LEN_MAX: u64 = 1 << 20;
/// Characters of a name.
const NAME_LEN_MAX: usize = 32;
/// The only thing that may stand at the top.
const TABLE: &str = "stream";

/// One stream of a profile.
#[derive(Debug, Clone, Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
pub(super) struct Entry {
    /// What it is called.
    #[arg(long, value_parser = name)]
    pub name: Option<String>,
    /// Its share of the rate, among those of all streams.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub share: u16,
    /// The frames.
    #[command(flatten)]
    pub traffic: Traffic,
}

impl Entry {
    /// The stream, between these devices.
    pub fn stream(&self, [tx, rx]: [&End; 2]) -> Stream {
        Stream {
            share: self.share,
            ..self.traffic.stream(tx.mac, rx.mac)
        }
    }
}

/// The ports behind which a sink finds frames encapsulated, each once.
pub(super) fn vxlan_ports(entries: &[Entry]) -> Vec<u16> {
    let mut ports: Vec<_> = entries
        .iter()
        .map(|entry| entry.traffic.vxlan_port())
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn name(text: &str) -> Result<String, String> {
    let fits = (1..=NAME_LEN_MAX).contains(&text.chars().count());
    if fits && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "use 1 to {NAME_LEN_MAX} characters that can be shown"
        ))
    }
}

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProfileFileError {
    /// It cannot be read.
    #[error("cannot read the profile {}: {source}", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It says what cannot be.
    #[error("{}", .0.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n"))]
    Findings(Vec<Finding>),
}

/// Something wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    path: PathBuf,
    line: usize,
    column: usize,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            line,
            column,
            what,
        } = self;
        write!(f, "{}:{line}:{column}: {what}", path.display())
    }
}

/// Reads and judges a profile.
///
/// # Errors
/// When it cannot be read, or says what cannot be.
pub(super) fn read(path: &Path, streams_max: usize) -> Result<Vec<Entry>, ProfileFileError> {
    let text = text_of(path).map_err(|source| ProfileFileError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &text, streams_max).map_err(ProfileFileError::Findings)
}

fn text_of(path: &Path) -> io::Result<String> {
    let longer = || format!("longer than {FILE_LEN_MAX} bytes: is it a profile?");
    bounded::read_text(path, FILE_LEN_MAX, longer)
}

/// Judges the text of a profile. A pure function; `path` is for messages.
fn parse(path: &Path, text: &str, streams_max: usize) -> Result<Vec<Entry>, Vec<Finding>> {
    let mut reading = Reading {
        path,
        text,
        findings: Vec::new(),
    };
    let entries = match DeTable::parse(text) {
        Ok(document) => reading.document(document.get_ref(), streams_max),
        Err(error) => {
            let words = error.message().lines().collect::<Vec<_>>().join("; ");
            let at = error.span().map_or(0, |span| span.start);
            reading.find(at, format!("not TOML: {words}"));
            Vec::new()
        }
    };
    reading
        .findings
        .sort_by_key(|finding| (finding.line, finding.column));
    if reading.findings.is_empty() {
        Ok(entries)
    } else {
        Err(reading.findings)
    }
}

/// A text that is being judged.
struct Reading<'a> {
    path: &'a Path,
    text: &'a str,
    findings: Vec<Finding>,
}

impl Reading<'_> {
    fn document(&mut self, document: &DeTable<'_>, streams_max: usize) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        for (key, value) in document {
            let (written, at) = (key.get_ref().as_ref(), key.span().start);
            let tables = value.get_ref().as_array().filter(|_| written == TABLE);
            let Some(tables) = tables else {
                let what = match closest(written, [TABLE].into_iter()) {
                    Some(_) => format!("{written}: write [[{TABLE}]], once for each stream"),
                    None => format!(
                        "{}: it belongs below [[{TABLE}]]: nothing else stands in a profile",
                        printable(written)
                    ),
                };
                self.find(at, what);
                continue;
            };
            if tables.len() > streams_max {
                let what = format!(
                    "{} streams: at most {streams_max} are possible",
                    tables.len()
                );
                self.find(at, what);
            }
            for (number, table) in tables.iter().enumerate() {
                let Some(keys) = table.get_ref().as_table() else {
                    self.find(
                        table.span().start,
                        format!("write [[{TABLE}]]: it is a table"),
                    );
                    continue;
                };
                let Some(entry) = self.entry(table.span().start, keys) else {
                    continue;
                };
                let name = entry.name.unwrap_or_else(|| number.to_string());
                if entries
                    .iter()
                    .any(|other| other.name.as_ref() == Some(&name))
                {
                    let what = format!("{name}: another stream has this name");
                    self.find(table.span().start, what);
                }
                entries.push(Entry {
                    name: Some(name),
                    ..entry
                });
            }
        }
        if entries.is_empty() && self.findings.is_empty() {
            self.find(
                0,
                format!(
                    "no streams: write [[{TABLE}]] and its keys, which are the flags of one stream"
                ),
            );
        }
        entries
    }

    /// One stream; none when anything is wrong with it.
    fn entry(&mut self, at: usize, keys: &DeTable<'_>) -> Option<Entry> {
        let before = self.findings.len();
        let mut arguments = Vec::new();
        for (key, value) in keys {
            match argument(key.get_ref(), value.get_ref()) {
                Ok(argument) => arguments.extend(argument),
                Err(Wrong::Key(what)) => self.find(key.span().start, what),
                Err(Wrong::Value(what)) => {
                    let excerpt = self.excerpt(value);
                    let what = format!("{} = {excerpt}: {what}", key.get_ref());
                    self.find(value.span().start, what);
                }
            }
        }
        if self.findings.len() > before {
            return None;
        }
        match Entry::try_parse_from(arguments) {
            Ok(entry) => Some(entry),
            Err(error) => {
                self.find(at, together(&error));
                None
            }
        }
    }

    /// The start of a value, on one line.
    fn excerpt(&self, value: &Spanned<DeValue<'_>>) -> String {
        printable(self.text.get(value.span()).unwrap_or_default())
    }

    fn find(&mut self, at: usize, what: String) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_at = before.rfind('\n').map_or(0, |end| end + 1);
        self.findings.push(Finding {
            path: self.path.to_owned(),
            line: 1 + before.matches('\n').count(),
            column: 1 + before[line_at..].chars().count(),
            what,
        });
    }
}

/// What is wrong with a key or its value.
enum Wrong {
    Key(String),
    Value(String),
}

/// A key and its value as a flag, judged by itself.
fn argument(key: &str, value: &DeValue<'_>) -> Result<Option<String>, Wrong> {
    let command = Entry::command();
    let known = || command.get_arguments().filter_map(clap::Arg::get_long);
    let Some(flag) = command
        .get_arguments()
        .find(|flag| flag.get_long() == Some(key))
    else {
        return Err(Wrong::Key(match closest(key, known()) {
            Some(meant) => format!("{}: no such key; did you mean {meant}?", printable(key)),
            None => format!(
                "{}: no such key; there is {}",
                printable(key),
                known().collect::<Vec<_>>().join(", ")
            ),
        }));
    };
    let argument = match (flag.get_action().takes_values(), value) {
        (false, DeValue::Boolean(true)) => format!("--{key}"),
        (false, DeValue::Boolean(false)) => return Ok(None),
        (false, _) => return Err(Wrong::Value("use true or false".to_owned())),
        (true, DeValue::Array(list)) if key == "size" => {
            let words: Option<Vec<_>> = list.iter().map(|entry| word(entry.get_ref())).collect();
            let words = words.ok_or_else(|| Wrong::Value("a list of sizes".to_owned()))?;
            format!("--{key}={}", words.join(","))
        }
        (true, value) => {
            let word = word(value);
            let word =
                word.ok_or_else(|| Wrong::Value("use a number, or words in quotes".to_owned()))?;
            format!("--{key}={word}")
        }
    };
    match Entry::try_parse_from([&argument]) {
        // What it lacks is judged together with the rest.
        Err(error) if error.kind() != ErrorKind::MissingRequiredArgument => {
            Err(Wrong::Value(reason(&error)))
        }
        _ => Ok(Some(argument)),
    }
}

/// A value as it would stand behind a flag; none when it is of a kind that no flag has.
fn word(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            let number = i128::from_str_radix(number.as_str(), number.radix()).ok()?;
            Some(number.to_string())
        }
        _ => None,
    }
}

/// Why a flag does not take its value.
fn reason(error: &clap::Error) -> String {
    if let Some(source) = error.source() {
        return source.to_string();
    }
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(words)) => format!("use one of {}", words.join(", ")),
        _ => error.kind().to_string(),
    }
}

/// What the keys of a stream lack of each other.
fn together(error: &clap::Error) -> String {
    match error.get(ContextKind::InvalidArg) {
        // `--vni <RANGE>`
        Some(ContextValue::Strings(flags))
            if error.kind() == ErrorKind::MissingRequiredArgument =>
        {
            let keys = flags
                .iter()
                .filter_map(|flag| flag.trim_start_matches("--").split(' ').next());
            format!(
                "this stream needs {}, too",
                keys.collect::<Vec<_>>().join(", ")
            )
        }
        _ => reason(error),
    }
}

/// What was probably meant.
fn closest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Longer than any key, and the comparison takes quadratic time.
    if written.len() > 64 {
        return None;
    }
    let written = written.to_lowercase().replace('_', "-");
    known
        .map(|known| (strsim::osa_distance(&written, known), known))
        .filter(|(distance, known)| *distance <= (known.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// The start of a text, without control characters, which could draw on the reader's terminal.
fn printable(text: &str) -> String {
    let shown = text.chars().take(40);
    shown
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loadgen::range::Mac;
    use proptest::prelude::*;

    const MACS: [Mac; 2] = [Mac([2, 0, 0, 0, 1, 1]), Mac([2, 0, 0, 0, 1, 2])];

    fn read(text: &str) -> Result<Vec<Entry>, Vec<Finding>> {
        parse(Path::new("x.toml"), text, 16)
    }

    fn wrong(text: &str) -> Vec<String> {
        let findings = read(text).unwrap_err();
        findings.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn keys_mean_what_the_flags_mean() {
        let text = r#"
            [[stream]]
            name = "bulk"
            share = 3
            vni = "1-4000"
            flows = 4_000
            size = [64, "570:4", 1518]
            size-of = "outer"
            order = "random"
            seed = 0x2a
            vxlan-port = 4789

            [[stream]]
            ipv6 = true
            zero-checksum6 = false
            proto = "tcp"
            size = 128
        "#;
        let entries = read(text).unwrap();
        let [bulk, other] = entries.as_slice() else {
            panic!("{entries:?}")
        };
        let [sender, receiver] = MACS;
        assert_eq!((bulk.name.as_deref(), bulk.share), (Some("bulk"), 3));
        assert_eq!((other.name.as_deref(), other.share), (Some("1"), 1));
        let flags =
            "--vni 1-4000 --flows 4000 --size 64,570:4,1518 --size-of outer --vxlan-port 4789";
        let expected = super::super::traffic::tests::stream(flags);
        assert_eq!(bulk.traffic.stream(sender, receiver), expected);
        assert_eq!(bulk.traffic.order().seed(), Some(42));
        let expected = super::super::traffic::tests::stream("--ipv6 --proto tcp --size 128");
        assert_eq!(other.traffic.stream(sender, receiver), expected);
    }

    /// What the README shows is taken as it stands.
    #[test]
    fn the_profile_of_this_page_is_one() {
        let page = include_str!("profile.rs");
        let lines = page
            .lines()
            .skip_while(|line| *line != "//! ```toml")
            .skip(1);
        let lines = lines.take_while(|line| *line != "//! ```");
        let text: Vec<_> = lines.map(|line| line.trim_start_matches("//!")).collect();
        assert_eq!(read(&text.join("\n")).unwrap().len(), 2);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_what_was_meant() {
        for (text, expected) in [
            (
                "[[stream]]\nvnj = 1",
                "x.toml:2:1: vnj: no such key; did you mean vni?",
            ),
            (
                "[[stream]]\n  vtep_src = '198.18.0.1'\n",
                "x.toml:2:3: vtep_src: no such key; did you mean vtep-src?",
            ),
            (
                "[[streams]]",
                "x.toml:1:3: streams: write [[stream]], once for each stream",
            ),
            (
                "[stream]",
                "x.toml:1:2: stream: write [[stream]], once for each stream",
            ),
            (
                "flows = 1",
                "x.toml:1:1: flows: it belongs below [[stream]]: nothing else stands in a profile",
            ),
            (
                "[[stream]]\nproto = 'sctp'",
                "x.toml:2:9: proto = 'sctp': use one of udp, tcp, icmp",
            ),
            (
                "[[stream]]\nipv6 = 1",
                "x.toml:2:8: ipv6 = 1: use true or false",
            ),
            (
                "[[stream]]\nflows = 1.5",
                "x.toml:2:9: flows = 1.5: use a number, or words in quotes",
            ),
            (
                "[[stream]]\nshare = 0",
                "x.toml:2:9: share = 0: 0 is not in 1..=65535",
            ),
            (
                "[[stream]]\nvtep-src = '198.18.0.1'",
                "x.toml:1:1: this stream needs vni, too",
            ),
            (
                "[[stream]]\nname='a'\n[[stream]]\nname='a'",
                "x.toml:3:1: a: another stream has this name",
            ),
            (
                "",
                "x.toml:1:1: no streams: write [[stream]] and its keys, which are the flags of one stream",
            ),
        ] {
            assert_eq!(wrong(text), [expected], "{text}");
        }
        for (text, expected) in [
            ("[[stream]]\nsize = '63'", "an Ethernet frame has 64 to"),
            ("[[stream]]\nsrc = 'x'", "FIRST-LAST"),
            (
                "[[stream]]\nzzz = 1",
                "no such key; there is name, share, flows",
            ),
            ("[[stream]]\nvni = \n", "not TOML"),
            (&"[[stream]]\n".repeat(17), "17 streams: at most 16"),
        ] {
            let words = wrong(text);
            assert!(
                words.iter().any(|words| words.contains(expected)),
                "{words:?}"
            );
        }
        assert_eq!(
            wrong("[[stream]]\nvnj = 1\nflow = 2\n[[stream]]\nproto = 3").len(),
            3
        );
    }

    #[test]
    fn a_file_that_is_none_is_said() {
        let words = super::read(Path::new("/nowhere/x.toml"), 16)
            .unwrap_err()
            .to_string();
        assert!(words.contains("/nowhere/x.toml"), "{words}");
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "[\\[\\]a-z0-9=\"'\\n. -]{0,80}", value in any::<String>()) {
            let _ = read(&text);
            let _ = read(&format!("[[stream]]\nname = {value:?}\nsize = {value:?}\nvni = {value}"));
        }
    }
}
