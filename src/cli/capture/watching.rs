//! What `vxgate capture` and `vxgate observe` have in common: what is asked for, and the frames that pass.

use std::io;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::filter::{Filter, FilterError};
use crate::cli::SocketArgument;
use crate::config::{ConfigError, socket_path};
use crate::fault::{Explained, Fault};
use crate::show::{
    BUFFER, CaptureRequest, CaptureStream, CapturedFrame, Counts, Message, SNAPLEN_MAX,
    SocketError, Tunnel, Verdict, capture_from, verdict,
};
use crate::stats::tap::Point;

/// Exit code of a process that a second signal has ended: 128 + SIGINT.
const IMPATIENT: i32 = 130;
/// What a filter may want to see of a frame, however little of it is kept.
const FILTERED: u32 = 512;

/// What is asked for.
#[derive(Debug, Args)]
pub(super) struct WatchArguments {
    /// Only frames that pass this, in the words of tcpdump (pcap-filter(7)), as they are where they are seen: in their outer
    /// headers at an underlay device, without them at a vxlan device.
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// Only frames whose inner frame passes this.
    #[arg(long, value_name = "FILTER")]
    inner: Option<String>,
    /// Only at this underlay or vxlan device [default: at all]. May be said several times.
    #[arg(short = 'i', long = "port", value_name = "DEVICE")]
    ports: Vec<String>,
    /// Where frames are seen: underlay-rx, underlay-tx, access-rx, access-tx, drop; underlay, access, rx, tx for two of them.
    #[arg(
        long = "point",
        value_name = "POINT",
        value_delimiter = ',',
        default_value = "all",
        value_parser = PossibleValuesParser::new(POINTS)
    )]
    points: Vec<String>,
    /// Only frames with this verdict.
    #[arg(
        long,
        value_name = "VERDICT",
        value_parser = PossibleValuesParser::new(Verdict::ALL.map(Verdict::label)).try_map(|label| verdict(&label).ok_or("no verdict"))
    )]
    verdict: Option<Verdict>,
    /// Memory for what has not been written yet, for each worker: a number of bytes, or one with k, M or G behind it; 256KiB at
    /// least, and 1GiB at most.
    #[arg(short = 'B', long, value_name = "SIZE", default_value = "4M", value_parser = bytes)]
    buffer: u64,
    #[command(flatten)]
    socket: SocketArgument,
}

/// What may be said of points.
const POINTS: [&str; 10] = [
    "all",
    "underlay",
    "access",
    "rx",
    "tx",
    Point::UnderlayRx.label(),
    Point::UnderlayTx.label(),
    Point::AccessRx.label(),
    Point::AccessTx.label(),
    Point::Drop.label(),
];

/// Whether a point is meant.
fn is_meant(point: Point, word: &str) -> bool {
    let label = point.label();
    match word {
        "all" => true,
        "underlay" | "access" => label.starts_with(word),
        "rx" | "tx" => label.ends_with(word),
        word => label == word,
    }
}

/// A number of bytes, by thousands as tcpdump counts them.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let unit = match text.get(digits.len()..).unwrap_or_default() {
        "" => 1,
        "k" | "K" | "kB" => 1000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        unit => return Err(format!("'{unit}' is no unit: use k, M, G, KiB, MiB or GiB")),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "no number of bytes".to_owned())?;
    number
        .checked_mul(unit)
        .ok_or_else(|| "too much".to_owned())
}

/// The same, of something that has to have room for anything at all.
pub(super) fn some_bytes(text: &str) -> Result<u64, String> {
    match bytes(text)? {
        0 => Err("no bytes are no room for a frame".to_owned()),
        some => Ok(some),
    }
}

/// Why frames are not seen, or no longer.
#[derive(Debug, thiserror::Error)]
pub(super) enum WatchError {
    #[error(transparent)]
    Filter(#[from] FilterError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    #[error("the daemon has ended the capture{}", .0.as_ref().map_or(String::new(), |error| format!(": {error}")))]
    Ended(Option<io::Error>),
}

impl Explained for WatchError {
    fn fault(&self) -> Fault {
        match self {
            Self::Filter(error) => error.fault(),
            Self::Config(error) => error.fault(),
            Self::Socket(error) => error.fault(),
            Self::Signals(_) => Fault::SignalsRefused,
            Self::Ended(_) => Fault::CaptureEnded,
        }
    }

    fn passed_on(&self) -> Option<&dyn Explained> {
        match self {
            Self::Filter(error) => Some(error),
            Self::Config(error) => Some(error),
            Self::Socket(error) => Some(error),
            Self::Signals(_) | Self::Ended(_) => None,
        }
    }
}

/// Frames as they come.
pub(super) struct Watching {
    pub(super) stream: CaptureStream,
    filter: Option<Filter>,
    inner: Option<Filter>,
    verdict: Option<Verdict>,
    /// Frames that have come, whether they pass or not.
    pub(super) seen: u64,
    /// Whether a signal asked for the end.
    told: Arc<AtomicBool>,
}

/// What has come.
pub(super) enum Watched {
    /// A frame that passes.
    Frame(CapturedFrame),
    /// More has been lost.
    Lost(Counts),
    /// Nothing that passes.
    Nothing,
    /// That is all.
    End,
}

impl Watching {
    /// Asks for frames, so many bytes of each.
    ///
    /// # Errors
    /// Says why there will be none.
    pub(super) fn begin(asked: WatchArguments, snaplen: u32) -> Result<Self, WatchError> {
        let compiled = |words: String| (!words.is_empty()).then(|| Filter::new(&words)).transpose();
        let filter = compiled(asked.filter.join(" "))?;
        let inner = compiled(asked.inner.unwrap_or_default())?;
        let filtered = filter.is_some() || inner.is_some();
        let meant = |point: &Point| asked.points.iter().any(|word| is_meant(*point, word));
        let points = Point::ALL.into_iter().filter(meant);
        let request = CaptureRequest {
            points: points.map(|point| point.label().to_owned()).collect(),
            ports: asked.ports,
            snaplen: snaplen
                .max(if filtered { FILTERED } else { 0 })
                .min(SNAPLEN_MAX),
            buffer: asked.buffer.clamp(*BUFFER.start(), *BUFFER.end()),
        };
        let path = socket_path(asked.socket.socket)?;
        let stream = capture_from(&path, request)?;
        let told = end_on_signals(&stream).map_err(WatchError::Signals)?;
        Ok(Self {
            stream,
            filter,
            inner,
            verdict: asked.verdict,
            seen: 0,
            told,
        })
    }

    /// What comes next.
    ///
    /// # Errors
    /// When the daemon has gone.
    pub(super) fn next(&mut self) -> Result<Watched, WatchError> {
        match self.stream.receive() {
            Ok(Some(Message::Frame(frame))) => {
                self.seen += 1;
                Ok(if self.passes(&frame) {
                    Watched::Frame(frame)
                } else {
                    Watched::Nothing
                })
            }
            Ok(Some(Message::Other)) => Ok(Watched::Nothing),
            Ok(Some(Message::Counts(counts))) => Ok(Watched::Lost(counts)),
            Ok(None) if self.told.load(Ordering::Acquire) => Ok(Watched::End),
            Ok(None) => Err(WatchError::Ended(None)),
            Err(error) => Err(WatchError::Ended(Some(error))),
        }
    }

    fn passes(&self, frame: &CapturedFrame) -> bool {
        if self.verdict.is_some_and(|verdict| verdict != frame.verdict) {
            return false;
        }
        let whole = |filter: &Filter| filter.passes(&frame.bytes);
        let inner = |filter: &Filter| {
            let inner = Tunnel::seen(frame).map_or(&frame.bytes[..], |tunnel| tunnel.inner);
            filter.passes(inner)
        };
        self.filter.as_ref().is_none_or(whole) && self.inner.as_ref().is_none_or(inner)
    }
}

/// Has SIGINT and SIGTERM ask for the end: what had been seen by then still comes. A second one ends the process at once.
fn end_on_signals(stream: &CaptureStream) -> io::Result<Arc<AtomicBool>> {
    let told = Arc::new(AtomicBool::new(false));
    let (stopper, flag) = (stream.stopper()?, Arc::clone(&told));
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new()
        .name("vxgate-signals".into())
        .spawn(move || {
            for _ in signals.forever() {
                if flag.swap(true, Ordering::AcqRel) {
                    process::exit(IMPATIENT);
                }
                stopper.stop();
            }
        })?;
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_named_by_themselves_and_by_their_side_and_way() {
        let meant = |word: &str| {
            let points = Point::ALL.into_iter();
            points.filter(|point| is_meant(*point, word)).count()
        };
        let counts = POINTS.map(meant);
        assert_eq!(counts, [5, 2, 2, 2, 2, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn sizes_have_units() {
        let sizes = ["7", "2k", "4M", "1GB", "4MiB"].map(|text| bytes(text).unwrap());
        assert_eq!(sizes, [7, 2000, 4_000_000, 1_000_000_000, 4 << 20]);
        for wrong in ["", "M", "-1", "1.5M", "1T", "99999999999G"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert!(bytes("0").is_ok() && some_bytes("0k").is_err());
        assert_eq!(some_bytes("1k"), Ok(1000));
    }
}
