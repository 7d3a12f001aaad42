//! The configuration file: TOML, read at the start, and again when the daemon is told to.
//!
//! ```toml
//! [overlay]
//! devices = "auto"            # or a list: ["flannel.1"]
//! peer_check = "strict"       # strict-mac, log, off
//! reserved_bits = "device"    # strict, ignore, mask:HEX
//! ecn_encap = "kernel"        # rfc6040, compat
//! inner_vlan = "pass"         # drop
//! udp_checksum_rx = "auto"    # verify, ignore
//!
//! [worker]
//! count = 2                   # or "auto"
//! nice = -20                  # to 19
//! superframes = "auto"        # cut, off
//! direct = "off"              # flows, always
//! express = true              # false
//! pod_programs = "classifier" # xdp
//! direct_flows_max = 65536
//! direct_pods_max = 448
//!
//! [control]
//! socket = "/run/vxgate/vxgate.sock"
//!
//! [metrics]
//! listen = "auto"             # off, "127.0.0.1:9472", "/run/vxgate/metrics.sock"
//! max_peers = 512
//!
//! [log]
//! level = "info"              # or directives by module
//! format = "text"             # json, journald
//! ```
//!
//! Nothing of it is required. What is not known is refused, since a mistyped key that is passed over is a setting that
//! the operator believes in. All that is wrong is told at once, with its line.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Devices;
use super::error::{ConfigError, Finding, Findings};
use super::key::Key;
use super::listen::{self, Listen};
use super::log;
use super::settings::{self, Settings, WordKey, closest};
use crate::fault::{Excerpt, Fault};

/// No configuration is longer, in bytes; a file that is was named by mistake.
const FILE_LEN_MAX: u64 = 1 << 20;
/// Characters of a value that a message repeats.
const EXCERPT_LEN: usize = 40;
/// Characters of a line that a message shows.
const EXCERPT_LINE_LEN: usize = 100;

/// Reads and judges a file.
///
/// # Errors
/// When it cannot be read, is writable for everybody, or says what cannot be.
pub fn read(path: &Path) -> Result<Settings, ConfigError> {
    let text = text_of(path)?;
    parse(&text).map_err(|error| match error {
        ConfigError::Text(findings) => ConfigError::File {
            path: path.to_owned(),
            findings,
        },
        other => other,
    })
}

/// Reads again what was read before, as [`read`].
///
/// # Errors
/// As [`read`], and when it is no file that says the same to whoever opens it once more. A pipe (`--config <(...)`) has nothing left
/// to say, which would be no settings at all, or holds up whoever asks until somebody writes.
pub fn read_again(path: &Path) -> Result<Settings, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    if !fs::metadata(path).map_err(failed)?.is_file() {
        let why = "it is no regular file, and says nothing a second time";
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, why)));
    }
    read(path)
}

/// The text of a file that nobody but its owners can have written.
fn text_of(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    // Of the file that was opened, not of what the name leads to by now.
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o002 != 0 {
        return Err(ConfigError::WorldWritable {
            path: path.to_owned(),
            mode,
        });
    }
    let mut text = String::new();
    file.take(FILE_LEN_MAX + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > FILE_LEN_MAX {
        return Err(failed(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("longer than {FILE_LEN_MAX} bytes"),
        )));
    }
    Ok(text)
}

/// Judges the text of a configuration file. A pure function.
///
/// # Errors
/// [`ConfigError::Text`] with all that is wrong, each with its line.
pub fn parse(text: &str) -> Result<Settings, ConfigError> {
    let mut reading = Reading {
        text,
        line_ends: text.match_indices('\n').map(|(at, _)| at).collect(),
        settings: Settings::default(),
        findings: Vec::new(),
    };
    match DeTable::parse(text) {
        Ok(document) => reading.document(document.get_ref()),
        Err(error) => {
            let words = error.message().lines().collect::<Vec<_>>().join("; ");
            reading.findings.push(Finding {
                fault: Fault::FileNotToml,
                line: error.span().map(|span| reading.line(span.start)),
                excerpt: error.span().and_then(|span| reading.excerpt(&span)),
                key: String::new(),
                why: format!("not TOML: {words}"),
            });
        }
    }
    if reading.findings.is_empty() {
        Ok(reading.settings)
    } else {
        reading.findings.sort_by_key(|finding| finding.line);
        Err(ConfigError::Text(Findings(reading.findings)))
    }
}

/// A text that is being judged.
struct Reading<'a> {
    text: &'a str,
    /// Where its lines end, in ascending order.
    line_ends: Vec<usize>,
    settings: Settings,
    findings: Vec<Finding>,
}

impl Reading<'_> {
    fn document(&mut self, document: &DeTable<'_>) {
        for (name, value) in document {
            let (table, at) = (name.get_ref().as_ref(), name.span());
            let known = Key::tables().any(|known| known == table);
            match value.get_ref() {
                DeValue::Table(entries) if known => {
                    for (key, value) in entries {
                        self.entry(table, key, value);
                    }
                }
                _ if known => {
                    let why = format!("write [{table}]: it is a table");
                    self.find(Fault::KeyMisplaced, at, table.to_owned(), why);
                }
                DeValue::Table(_) => {
                    let why = unknown("table", table, Key::tables(), |table| format!("[{table}]"));
                    self.find(Fault::KeyUnknown, at, printable(table), why);
                }
                _ => {
                    let why = unknown("key", table, all_keys(), |key| {
                        format!("{key} in {}", table_of(key))
                    });
                    self.find(Fault::KeyUnknown, at, printable(table), why);
                }
            }
        }
    }

    fn entry(&mut self, table: &str, key: &Spanned<Cow<'_, str>>, value: &Spanned<DeValue<'_>>) {
        let (key, at) = (key.get_ref().as_ref(), key.span());
        let judged = match Key::of(table).find(|known| known.name() == key) {
            Some(Key::Word(word)) => self.word(word, value.get_ref()),
            Some(Key::Devices) => self.devices(value.get_ref()),
            Some(Key::Workers) => self.count(value.get_ref()),
            Some(Key::Nice) => self.nice(value.get_ref()),
            Some(Key::Express) => self.express(value.get_ref()),
            Some(Key::DirectFlowsMax) => self.direct_flows_max(value.get_ref()),
            Some(Key::DirectPodsMax) => self.direct_pods_max(value.get_ref()),
            Some(Key::Socket) => self.socket(value.get_ref()),
            Some(Key::MetricsListen) => self.listen(value.get_ref()),
            Some(Key::MetricsMaxPeers) => self.max_peers(value.get_ref()),
            Some(Key::LogLevel) => self.log_level(value.get_ref()),
            None => {
                let here = Key::of(table).map(Key::name);
                let (fault, why) = if all_keys().any(|known| known == key) {
                    let why = format!("it belongs into {}", table_of(key));
                    (Fault::KeyMisplaced, why)
                } else {
                    (Fault::KeyUnknown, unknown("key", key, here, str::to_owned))
                };
                self.find(fault, at, format!("{table}.{}", printable(key)), why);
                return;
            }
        };
        if let Err(may_be) = judged {
            let excerpt = excerpt(self.text.get(value.span()).unwrap_or_default());
            let why = format!("{excerpt} cannot be: {may_be}");
            let key = format!("{table}.{key}");
            self.find(Fault::ValueInvalid, value.span(), key, why);
        }
    }

    fn word(&mut self, key: WordKey, value: &DeValue<'_>) -> Result<(), String> {
        let word = value.as_str().ok_or_else(|| key.may_be())?;
        key.set(&mut self.settings, word)
    }

    fn devices(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        let may_be = || "use \"auto\", or a list of device names in quotes".to_owned();
        self.settings.devices = Some(match value {
            DeValue::String(word) if word == "auto" => Devices::All,
            DeValue::Array(entries) if entries.is_empty() => {
                return Err(
                    "an empty list takes nothing over; use \"auto\" for all devices".into(),
                );
            }
            DeValue::Array(entries) => {
                let names = entries.iter().map(|entry| {
                    let name = entry.get_ref().as_str().ok_or_else(may_be)?;
                    settings::device_name(name).map(|()| name.to_owned())
                });
                Devices::Named(names.collect::<Result<_, _>>()?)
            }
            _ => return Err(may_be()),
        });
        Ok(())
    }

    fn count(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        let may_be = |range: String| format!("{range}, or \"auto\" for one a core");
        self.settings.workers = match value {
            DeValue::String(word) if word == "auto" => None,
            DeValue::Integer(number) => {
                let count = u64::from_str_radix(number.as_str(), number.radix()).unwrap_or(0);
                Some(settings::workers(count).map_err(may_be)?)
            }
            // What is no number is judged as the number 0: it is told what may stand there.
            _ => return settings::workers(0).map(|_| ()).map_err(may_be),
        };
        Ok(())
    }

    fn nice(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        let number = match value {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        // What is no number is judged as one beyond all: it is told what may stand there.
        self.settings.nice = Some(settings::nice(number.unwrap_or(i64::MAX))?);
        Ok(())
    }

    fn express(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        let DeValue::Boolean(wanted) = value else {
            return Err("use true or false, without quotes".to_owned());
        };
        self.settings.express = Some(*wanted);
        Ok(())
    }

    fn socket(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        let path = value.as_str().map(Path::new);
        let good = path
            .filter(|path| path.is_absolute() && !path.as_os_str().as_encoded_bytes().contains(&0));
        let good = good.ok_or("use a path that starts with '/', in quotes")?;
        self.settings.socket = Some(PathBuf::from(good));
        Ok(())
    }

    fn listen(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        let text = value.as_str().ok_or_else(listen::may_be)?;
        self.settings.metrics_listen = Some(Listen::from_text(text)?);
        Ok(())
    }

    fn max_peers(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        let judged = settings::metrics_max_peers(number(value));
        self.settings.metrics_max_peers = Some(judged?);
        Ok(())
    }

    fn direct_flows_max(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        let judged = settings::direct_flows_max(number(value));
        self.settings.direct_flows_max = Some(judged?);
        Ok(())
    }

    fn direct_pods_max(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        let judged = settings::direct_pods_max(number(value));
        self.settings.direct_pods_max = Some(judged?);
        Ok(())
    }

    fn log_level(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        let level = value.as_str().ok_or_else(log::may_be)?;
        log::judge(level)?;
        self.settings.log_level = Some(level.to_owned());
        Ok(())
    }

    fn find(&mut self, fault: Fault, at: Range<usize>, key: String, why: String) {
        self.findings.push(Finding {
            fault,
            line: Some(self.line(at.start)),
            excerpt: self.excerpt(&at),
            key,
            why,
        });
    }

    /// The line in which a part of the text begins, with that part marked; none where the line is too long to be shown.
    fn excerpt(&self, part: &Range<usize>) -> Option<Excerpt> {
        let line = self.line(part.start);
        let start = match line.checked_sub(2) {
            Some(before) => self.line_ends.get(before)? + 1,
            None => 0,
        };
        let text = self.text.get(start..)?.lines().next()?;
        let before = self.text.get(start..part.start)?.chars().count();
        let marked = self.text.get(part.clone())?.lines().next();
        let marked = marked.map_or(0, |marked| marked.chars().count());
        let shown = text.chars().take(EXCERPT_LINE_LEN).count();
        (before < shown).then(|| Excerpt {
            line,
            text: text.chars().take(shown).map(plain).collect(),
            from: before,
            len: marked.clamp(1, shown - before),
        })
    }

    /// The number of the line, from 1, in which a byte stands.
    fn line(&self, at: usize) -> usize {
        1 + self.line_ends.partition_point(|end| *end < at)
    }
}

/// A number, judged later. What is none is as one beyond all: it is told what may stand there.
fn number(value: &DeValue<'_>) -> u64 {
    let number = match value {
        DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
        _ => None,
    };
    number.unwrap_or(u64::MAX)
}

/// Every key of every table.
fn all_keys() -> impl Iterator<Item = &'static str> + Clone {
    Key::ALL.iter().map(|key| key.name())
}

/// The table that a known key belongs into, as it is written.
fn table_of(name: &str) -> String {
    let key = Key::ALL.iter().find(|key| key.name() == name);
    key.map_or_else(String::new, |key| format!("[{}]", key.table()))
}

/// What to say of something that is not known: what was meant, or else all there is.
fn unknown(
    kind: &str,
    written: &str,
    known: impl Iterator<Item = &'static str> + Clone,
    show: impl Fn(&str) -> String,
) -> String {
    match closest(written, known.clone()) {
        Some(meant) => format!("no such {kind}; did you mean {}?", show(meant)),
        None => {
            let known: Vec<_> = known.map(show).collect();
            format!("no such {kind}; there is {}", known.join(", "))
        }
    }
}

/// The start of a value, on one line.
fn excerpt(source: &str) -> String {
    let mut start: String = source.chars().take(EXCERPT_LEN).collect();
    if start.len() < source.len() {
        start.push('…');
    }
    printable(&start)
}

/// Without control characters, which could draw on the reader's terminal.
fn printable(text: &str) -> String {
    text.chars().map(plain).take(2 * EXCERPT_LEN).collect()
}

/// A character that draws itself, in one column or two.
fn plain(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Direct, Endpoint, LogFormat, PodPrograms, Superframes};
    use crate::fault::Explained;
    use crate::table::{EcnEncap, InnerVlan, PeerCheck, ReservedBits, UdpChecksumRx};
    use proptest::prelude::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;

    fn wrong(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn every_key_is_taken() {
        let text = r#"
            [overlay]
            devices = ["flannel.1", "flannel-v6.1"]
            peer_check = "strict-mac"
            reserved_bits = "mask:00000000000000ff"
            ecn_encap = "rfc6040"
            inner_vlan = "drop"
            udp_checksum_rx = "verify"
            worker.count = 3 # A table of no use to us, see below.
        "#;
        assert!(wrong(text).contains("overlay.worker"), "{}", wrong(text));
        let text = text.replace(
            "worker.count = 3",
            "[worker]\ncount = 0x3\nnice = -7\nsuperframes = 'off'\ndirect = 'flows'\nexpress = false\npod_programs = 'xdp'\ndirect_flows_max = 4096\ndirect_pods_max = 110\n[control]\nsocket = '/run/x.sock'\n\
             [metrics]\nlisten = '[::1]:9472'\nmax_peers = 0\n[log]\nlevel = 'warn'\nformat = 'json'",
        );
        let expected = Settings {
            devices: Some(Devices::Named(vec![
                "flannel.1".into(),
                "flannel-v6.1".into(),
            ])),
            workers: Some(3),
            nice: Some(-7),
            socket: Some("/run/x.sock".into()),
            peer_check: Some(PeerCheck::StrictMac),
            reserved_bits: Some(ReservedBits::Allow(0xff)),
            ecn_encap: Some(EcnEncap::Rfc6040),
            inner_vlan: Some(InnerVlan::Drop),
            udp_checksum_rx: Some(UdpChecksumRx::Verify),
            superframes: Some(Superframes::Off),
            metrics_listen: Some(Listen::At(Endpoint::Tcp("[::1]:9472".parse().unwrap()))),
            metrics_max_peers: Some(0),
            log_level: Some("warn".into()),
            log_format: Some(LogFormat::Json),
            direct: Some(Direct::Flows),
            express: Some(false),
            pod_programs: Some(PodPrograms::Xdp),
            direct_flows_max: Some(4096),
            direct_pods_max: Some(110),
        };
        assert_eq!(parse(&text).unwrap(), expected);
        // Inline and dotted tables are the same to TOML.
        let dotted = parse("overlay.peer_check = 'log'\nworker = { count = 'auto' }").unwrap();
        assert_eq!(dotted.peer_check, Some(PeerCheck::Log));
        assert_eq!(dotted.workers, None);
    }

    #[test]
    fn the_file_in_the_readme_is_the_default() {
        let readme = include_str!("../../README.md");
        let (_, rest) = readme.split_once("```toml\n").unwrap();
        let (text, _) = rest.split_once("```").unwrap();
        let expected = Settings {
            devices: Some(Devices::All),
            ..Settings::default()
        };
        let read = parse(text).unwrap();
        assert_eq!(read.policy(), expected.policy());
        assert_eq!(
            (read.devices, read.workers, read.socket),
            (expected.devices, None, None)
        );
        assert_eq!(read.nice, Some(super::super::NICE_DEFAULT));
        assert_eq!(read.metrics_listen, Some(Listen::default()));
        assert_eq!(read.metrics_max_peers, Some(super::super::METRICS_PEERS));
        assert_eq!(read.direct_flows_max, Some(super::super::DIRECT_FLOWS));
        assert_eq!(read.direct_pods_max, Some(super::super::DIRECT_PODS));
        assert_eq!(
            (read.log_level.as_deref(), read.log_format),
            (Some("info"), Some(LogFormat::Text))
        );
        // And no key is left out.
        assert!(all_keys().all(|key| text.contains(&format!("{key} = "))));
    }

    #[test]
    fn an_empty_file_says_nothing() {
        for text in ["", "# nothing\n", "[overlay]\n[worker]\n[control]\n"] {
            assert_eq!(parse(text).unwrap(), Settings::default());
        }
        let auto = parse("[overlay]\ndevices = \"auto\"").unwrap();
        assert_eq!(auto.devices, Some(Devices::All));
    }

    #[test]
    fn a_key_that_is_not_known_is_refused_with_what_was_meant() {
        for (text, expected) in [
            (
                "[overlay]\npeer_chek = \"off\"",
                "line 2: overlay.peer_chek: no such key; did you mean peer_check?",
            ),
            (
                "[overlay]\npeer-check = \"off\"",
                "line 2: overlay.peer-check: no such key; did you mean peer_check?",
            ),
            (
                "\n[overlai]\n",
                "line 2: overlai: no such table; did you mean [overlay]?",
            ),
            (
                "peer_check = \"off\"",
                "line 1: peer_check: no such key; did you mean peer_check in [overlay]?",
            ),
            (
                "[worker]\nsocket = \"/x\"",
                "line 2: worker.socket: it belongs into [control]",
            ),
            (
                "[worker]\nzzz = 1",
                "line 2: worker.zzz: no such key; there is count, nice, superframes, direct, express, \
                 pod_programs, direct_flows_max, direct_pods_max",
            ),
            (
                "[zzz]",
                "line 1: zzz: no such table; there is [overlay], [worker], [control], [metrics], [log]",
            ),
            (
                "overlay = 1",
                "line 1: overlay: write [overlay]: it is a table",
            ),
            (
                "[[overlay]]",
                "line 1: overlay: write [overlay]: it is a table",
            ),
        ] {
            assert_eq!(wrong(text), expected);
        }
    }

    #[test]
    fn a_value_that_cannot_be_is_named_with_what_may_be() {
        for (text, expected) in [
            (
                "[overlay]\n\npeer_check = \"srtict\"",
                "line 3: overlay.peer_check: \"srtict\" cannot be: use one of \"strict\", \"strict-mac\", \"log\", \
                 \"off\"; did you mean \"strict\"?",
            ),
            (
                "[worker]\nexpress = 'no'",
                "line 2: worker.express: 'no' cannot be: use true or false, without quotes",
            ),
            (
                "[overlay]\ninner_vlan = true",
                "line 2: overlay.inner_vlan: true cannot be: use one of \"pass\", \"drop\"",
            ),
            (
                "[overlay]\nreserved_bits = \"mask:ff\"",
                "line 2: overlay.reserved_bits: \"mask:ff\" cannot be: use \"device\", \"strict\", \"ignore\", or \
                 \"mask:\" and 16 hexadecimal digits: the bits of the header that may be set",
            ),
            (
                "[overlay]\ndevices = []",
                "line 2: overlay.devices: [] cannot be: an empty list takes nothing over; use \"auto\" for all devices",
            ),
            (
                "[overlay]\ndevices = [\"a/b\"]",
                "line 2: overlay.devices: [\"a/b\"] cannot be: a device name has 1 to 15 bytes, without '/', ':' or spaces",
            ),
            (
                "[overlay]\ndevices = [1]",
                "line 2: overlay.devices: [1] cannot be: use \"auto\", or a list of device names in quotes",
            ),
            (
                "[worker]\ncount = 65",
                "line 2: worker.count: 65 cannot be: use 1 to 64, or \"auto\" for one a core",
            ),
            (
                "[control]\nsocket = \"relative.sock\"",
                "line 2: control.socket: \"relative.sock\" cannot be: use a path that starts with '/', in quotes",
            ),
        ] {
            assert_eq!(wrong(text), expected);
        }
        for level in ["3", "\"loud\"", "[\"info\"]"] {
            let words = wrong(&format!("[log]\nlevel = {level}"));
            assert!(
                words.starts_with("line 2: log.level: ")
                    && words.contains("cannot be: use off, error, warn"),
                "{level}: {words}"
            );
        }
        for listen in ["9472", "true", "\"127.0.0.1\""] {
            let words = wrong(&format!("[metrics]\nlisten = {listen}"));
            assert!(
                words.starts_with("line 2: metrics.listen: ")
                    && words.contains("cannot be: use \"auto\" (a UNIX socket"),
                "{listen}: {words}"
            );
        }
        for peers in ["-1", "10001", "\"all\""] {
            let words = wrong(&format!("[metrics]\nmax_peers = {peers}"));
            assert!(words.ends_with("use 0 (none has any) to 10000"), "{words}");
        }
        for nice in ["-21", "20", "1.0", "\"low\"", "-99999999999999999999999"] {
            let words = wrong(&format!("[worker]\nnice = {nice}"));
            assert!(
                words.starts_with("line 2: worker.nice: ") && words.contains("use -20 ("),
                "{nice}: {words}"
            );
        }
        for count in [
            "0",
            "-1",
            "1.0",
            "true",
            "99999999999999999999999",
            "\"two\"",
        ] {
            let words = wrong(&format!("[worker]\ncount = {count}"));
            assert!(words.contains("use 1 to 64"), "{count}: {words}");
        }
        let long = wrong(&format!(
            "[overlay]\npeer_check = \"{}\"",
            "x\u{e9}".repeat(1000)
        ));
        assert!(long.chars().count() < 200, "{long}");
    }

    #[test]
    fn a_report_shows_the_line_and_points_at_what_is_meant() {
        let text = "[overlay]\n\tpeer_check = \"srtict\" # who\n[worker]\ncuont = 2\nsocket = 1\nbad = [\n  1 ]\n";
        let shown: Vec<_> = parse(text)
            .unwrap_err()
            .reports()
            .into_iter()
            .map(|report| {
                let excerpt = report.excerpt.unwrap();
                (report.fault, excerpt.to_string())
            })
            .collect();
        let mark = |line: u32, text: &str, marks: &str| {
            format!("  {line:>5} | {text}\n        | {marks}\n")
        };
        let value = " peer_check = \"srtict\" # who";
        assert_eq!(
            shown,
            [
                (
                    Fault::ValueInvalid,
                    mark(2, value, "              ^^^^^^^^")
                ),
                (Fault::KeyUnknown, mark(4, "cuont = 2", "^^^^^")),
                (Fault::KeyMisplaced, mark(5, "socket = 1", "^^^^^^")),
                (Fault::KeyUnknown, mark(6, "bad = [", "^^^")),
            ]
        );
        let broken = parse("\npeer_check = strict").unwrap_err().reports();
        assert_eq!(broken[0].fault, Fault::FileNotToml);
        assert_eq!(broken[0].excerpt.as_ref().map(|e| e.line), Some(2));
        // What stands beyond the end of what is shown is told by its line alone.
        let far = format!("[overlay]\npeer_check{}= 1", " ".repeat(200));
        assert_eq!(parse(&far).unwrap_err().reports()[0].excerpt, None);
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_in_the_order_of_the_file() {
        let words = wrong("[worker]\ncount = 0\n[control]\nx = 1\n[overlay]\npeer_check = 1");
        let lines: Vec<_> = words.lines().map(|line| line.get(..12)).collect();
        let expected = [
            "3 things are",
            "  line 2: wo",
            "  line 4: co",
            "  line 6: ov",
        ]
        .map(Some);
        assert_eq!(lines, expected, "{words}");
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_line() {
        for (text, line) in [
            ("[overlay\n", "line 1: not TOML: "),
            ("\n\npeer_check = strict\n", "line 3: not TOML: "),
            ("a = 1\na = 2\n", "line 2: not TOML: "),
        ] {
            assert!(wrong(text).starts_with(line), "{}", wrong(text));
        }
        assert!(parse(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn a_file_that_everybody_may_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vxgate.toml");
        std::fs::write(&path, "[worker]\ncount = 1\n").unwrap();
        let set = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
        set(0o666).unwrap();
        let words = read(&path).unwrap_err().to_string();
        assert!(
            words.contains("everybody may write") && words.contains("(mode 0666)"),
            "{words}"
        );
        set(0o660).unwrap();
        assert_eq!(read(&path).unwrap().workers, Some(1));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vxgate.toml");
        let named = |why: &str| {
            let words = read(&path).unwrap_err().to_string();
            assert!(
                words.contains("vxgate.toml") && words.contains(why),
                "{words}"
            );
        };
        named("No such file");
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        named("UTF-8");
        std::fs::write(&path, "#".repeat(FILE_LEN_MAX as usize + 1)).unwrap();
        named("longer than 1048576 bytes");
        std::fs::write(&path, "[worker]\ncount = 0\n").unwrap();
        named("vxgate.toml: line 2: worker.count: 0 cannot be");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn no_value_of_a_known_key_makes_it_panic(at in any::<prop::sample::Index>(), value in ".{0,60}") {
            let key = Key::ALL[at.index(Key::ALL.len())];
            let (table, key) = (key.table(), key.name());
            for text in [format!("[{table}]\n{key} = {value}\n"), format!("[{table}]\n{key} = {value:?}\n")] {
                if let Err(error) = parse(&text) {
                    prop_assert!(matches!(error, ConfigError::Text(_)));
                    prop_assert!(!error.to_string().is_empty());
                }
            }
        }
    }

    #[test]
    fn what_says_its_settings_once_is_not_asked_for_them_again() {
        let (pipe, mut writer) = io::pipe().unwrap();
        writer.write_all(b"[worker]\ncount = 3\n").unwrap();
        drop(writer);
        let path = PathBuf::from(format!("/proc/self/fd/{}", pipe.as_raw_fd()));
        assert_eq!(read(&path).unwrap().workers, Some(3));
        let error = read_again(&path).unwrap_err();
        assert!(matches!(error, ConfigError::Read { .. }), "{error}");
        assert!(error.to_string().contains("no regular file"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vxgate.toml");
        fs::write(&path, "[worker]\ncount = 3\n").unwrap();
        assert_eq!(read_again(&path).unwrap().workers, Some(3));
    }
}
