//! `vxgate trace`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::output::{print_json_piecemeal, print_to_reader};
use super::state::state_of;
use super::{SocketArgument, fail, print};
use crate::bounded;
use crate::fault::{Explained, Fault};
use crate::loadgen::recording::each_frame;
use crate::show::SCHEMA;
use crate::state::State;
use crate::trace::input::{Described, describe, read_hex};
use crate::trace::{At, Trace, Tracer};

/// The largest recording, in bytes: all of it is read into memory.
const RECORDING_LEN_MAX: u64 = 256 << 20;

/// Bytes of text that are written at once.
const PIECE: usize = 1 << 16;

/// Arguments of `vxgate trace`.
#[derive(Debug, Args)]
#[command(after_long_help = WORDS_HELP)]
pub(super) struct TraceFrame {
    /// The port that the frame comes in by: an underlay device (`eth0`), or a vxlan device (`flannel.1`) for a frame that the
    /// kernel sends through it.
    #[arg(long = "in", value_name = "PORT")]
    port: String,
    /// The frame in words, KEY=VALUE each; `--help` lists the keys. What is not said is as in a frame that gets through.
    #[arg(value_name = "KEY=VALUE", conflicts_with_all = ["hex", "pcap"])]
    words: Vec<String>,
    /// The frame in hexadecimal digits, bare or as `xxd`, `tcpdump -xx` and Wireshark write it; `-` reads them from standard
    /// input.
    #[arg(long, value_name = "DIGITS", conflicts_with = "pcap")]
    hex: Option<String>,
    /// The frames of a recording (pcap or pcapng), a line each.
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Only this frame of the recording, counted from 1, with all of its steps.
    #[arg(long, value_name = "N", requires = "pcap")]
    packet: Option<u64>,
    /// The mark of the frame, on a vxlan device with the Group Policy extension.
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "words")]
    mark: u32,
    /// Trace on a state that `vxgate state dump` wrote, instead of asking the daemon for its own.
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    state: Option<PathBuf>,
    /// Print the bytes that come in and those that leave, too.
    #[arg(long, conflicts_with = "json")]
    bytes: bool,
    /// Print one JSON document (schema vxgate/1) instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgument,
}

/// The keys of a description, as `trace::input::KEYS` has them.
const WORDS_HELP: &str = "\
Keys of a description:
  src, dst            inner addresses (IPv4 or IPv6)
  smac, dmac          inner Ethernet addresses
  proto               tcp, udp, icmp, arp or a number [default: icmp]
  sport, dport        inner ports [default: 40000, 80]
  len                 length of the inner frame, in bytes
  ttl, ecn, df        of the inner IP header; ecn is not-ect, ect0, ect1 or ce; df is yes or no
  vlan                a VLAN tag; one more for each
  mark                the mark of the frame, on a device with the Group Policy extension
  to                  a VTEP: the destination is a station behind it (frames that a vxlan device sends)
  vni, flags          of the VXLAN header [default: the device's, 0x08]
  outer-src, outer-dst, outer-smac, outer-dmac, outer-sport, outer-dport, outer-ttl, outer-ecn, outer-df
                      of the outer headers [default: from a known VTEP to us]
  outer-csum          whether there is an outer UDP checksum: yes or no [default: only over IPv6]

The verdict is an answer, whatever it is: the exit code is 0 for a frame that is forwarded, dropped or left to the kernel.

Examples:
  vxgate trace --in eth0 outer-src=10.0.0.11 src=10.244.1.5 dst=10.244.0.3 proto=tcp dport=80
  vxgate trace --in flannel.1 to=10.0.0.11 dst=10.244.1.5 len=1600
  tcpdump -xx -c 1 -r some.pcap | vxgate trace --in eth0 --hex -
  vxgate trace --state node.json --in eth0 --pcap frames.pcap --json";

/// The answer of `vxgate trace --json`.
#[derive(Serialize, JsonSchema)]
pub(super) struct Traces<'a> {
    /// [`SCHEMA`].
    schema: &'static str,
    /// A frame each, in the order of the recording.
    #[serde(serialize_with = "each_once")]
    #[schemars(with = "Vec<Trace>")]
    traces: RefCell<Box<dyn Iterator<Item = Trace> + 'a>>,
}

/// Writes traces as they are made: all of a recording's together take some thirty times its length, and their JSON more.
fn each_once<'a, S: Serializer>(
    traces: &RefCell<Box<dyn Iterator<Item = Trace> + 'a>>,
    to: S,
) -> Result<S::Ok, S::Error> {
    to.collect_seq(&mut *traces.borrow_mut())
}

/// Why a recording has nothing to trace.
#[derive(Debug, thiserror::Error)]
enum RecordingError {
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{}: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("{} has {count} frame{}, and none with number {wanted}", path.display(), if *count == 1 { "" } else { "s" })]
    NoSuchFrame {
        path: PathBuf,
        count: u64,
        wanted: u64,
    },
    #[error("{} has no frame", path.display())]
    Empty { path: PathBuf },
}

impl Explained for RecordingError {
    fn fault(&self) -> Fault {
        Fault::RecordingUnreadable
    }
}

/// A frame to be traced, with its number where it is one of a recording.
struct Frame {
    packet: Option<u64>,
    bytes: Vec<u8>,
    mark: u32,
    /// Bytes that it had on the wire and that the recording has not.
    missing: u64,
}

impl TraceFrame {
    pub(super) fn execute(self) -> ExitCode {
        self.answer().unwrap_or_else(|code| code)
    }

    fn answer(self) -> Result<ExitCode, ExitCode> {
        let state = match &self.state {
            Some(path) => State::read(path).map_err(|error| fail(&error))?,
            None => state_of(&self.socket)?,
        };
        let mut tracer = Tracer::new(state).map_err(|error| fail(&error))?;
        let at = tracer.port(&self.port).map_err(|error| fail(&error))?;
        let frames = self.frames(tracer.state(), at)?;
        let count = frames.len();
        let traces = frames.into_iter().map(move |frame| {
            let mut trace = tracer.trace(at, &frame.bytes, frame.mark);
            trace.packet = frame.packet;
            if frame.missing > 0 {
                trace.notes.push(format!(
                    "the recording lacks the last {} bytes of the frame: it is judged without them",
                    frame.missing
                ));
            }
            trace
        });
        if self.json {
            let traces = Traces {
                schema: SCHEMA,
                traces: RefCell::new(Box::new(traces)),
            };
            print_json_piecemeal(&traces).map_err(|error| fail(&error))?;
        } else {
            self.print_text(traces, count);
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Prints them as they are made. One alone has all of its steps, several a line each.
    fn print_text(&self, traces: impl Iterator<Item = Trace>, count: usize) {
        let mut fates: BTreeMap<String, u64> = BTreeMap::new();
        let mut text = String::new();
        for trace in traces {
            text.push_str(&match count {
                1 => trace.to_string(),
                _ => trace.line(),
            });
            if self.bytes {
                text.push_str(&trace.bytes());
            }
            *fates.entry(trace.verdict.fate).or_default() += 1;
            if text.len() >= PIECE {
                if !print_to_reader(&text) {
                    return;
                }
                text.clear();
            }
        }
        if count != 1 {
            let of = |fate: &str| fates.get(fate).copied().unwrap_or(0);
            text.push_str(&format!(
                "--\n{count} frames: {} forwarded, {} dropped, {} left to the kernel\n",
                of("forward"),
                of("drop"),
                of("pass")
            ));
        }
        print(&text);
    }

    fn frames(&self, state: &State, at: At) -> Result<Vec<Frame>, ExitCode> {
        let alone = |bytes, mark| {
            vec![Frame {
                packet: None,
                bytes,
                mark,
                missing: 0,
            }]
        };
        if let Some(path) = &self.pcap {
            return self.recorded(path).map_err(|error| fail(&error));
        }
        if let Some(digits) = &self.hex {
            let text = match digits.as_str() {
                "-" => standard_input().map_err(|error| fail(&error))?,
                digits => digits.to_owned(),
            };
            let bytes = read_hex(&text).map_err(|error| fail(&error))?;
            return Ok(alone(bytes, self.mark));
        }
        let described = describe(state, at, &self.words.join(" "));
        let Described { bytes, mark } = described.map_err(|error| fail(&error))?;
        Ok(alone(bytes, mark))
    }

    fn recorded(&self, path: &Path) -> Result<Vec<Frame>, RecordingError> {
        let path = || path.to_owned();
        let failed = |source| RecordingError::Unreadable {
            path: path(),
            source,
        };
        let mib = RECORDING_LEN_MAX >> 20;
        let longer = || format!("longer than {mib} MiB: cut it with `editcap`");
        let bytes = bounded::read(&path(), RECORDING_LEN_MAX, longer).map_err(failed)?;
        let (mut frames, mut count) = (Vec::new(), 0);
        each_frame(&bytes, |captured| {
            count += 1;
            if self.packet.is_none_or(|wanted| wanted == count) {
                let on_wire = u64::from(captured.original_len);
                frames.push(Frame {
                    packet: Some(count),
                    bytes: captured.bytes.to_vec(),
                    mark: self.mark,
                    missing: on_wire.saturating_sub(captured.bytes.len() as u64),
                });
            }
        })
        .map_err(|why| RecordingError::Damaged { path: path(), why })?;
        match (frames.is_empty(), self.packet) {
            (false, _) => Ok(frames),
            (true, Some(wanted)) => Err(RecordingError::NoSuchFrame {
                path: path(),
                count,
                wanted,
            }),
            (true, None) => Err(RecordingError::Empty { path: path() }),
        }
    }
}

/// What there is to read, as far as a frame could be written in it.
fn standard_input() -> Result<String, RecordingError> {
    let mut text = String::new();
    let read = io::stdin().lock().take(1 << 20).read_to_string(&mut text);
    read.map_err(|source| RecordingError::Unreadable {
        path: PathBuf::from("standard input"),
        source,
    })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::WORDS_HELP;
    use crate::trace::input::KEYS;

    #[test]
    fn every_key_is_in_the_help() {
        for (key, _) in KEYS {
            let words = WORDS_HELP.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
            assert!(words.into_iter().any(|word| word == *key), "{key}");
        }
    }
}
