//! `vxgate capture`: frames as pcapng.

mod files;
mod filter;
mod observe;
mod pcapng;
mod watching;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;

use super::fail;
use super::output::OutputError;
use crate::fault::{Explained, Fault};
use crate::show::{SNAPLEN_MAX, Told};
use files::{Files, Rotation, Written};
use watching::{WatchArguments, WatchError, Watched, Watching, some_bytes};

pub(super) use observe::Observe;

/// Arguments of `vxgate capture`.
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(super) struct Capture {
    #[command(flatten)]
    asked: WatchArguments,
    /// Write to this file; `-` is standard output, as without it.
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    file: Option<PathBuf>,
    /// End after so many frames.
    #[arg(short = 'c', long, value_name = "N")]
    count: Option<u64>,
    /// Keep so many bytes of each frame [default: all].
    #[arg(short = 's', long, value_name = "BYTES", default_value_t = SNAPLEN_MAX, hide_default_value = true)]
    snaplen: u32,
    /// Begin another file after so many bytes, or with k, M or G behind it; unlike tcpdump's, a plain number is one of bytes.
    #[arg(short = 'C', long, value_name = "SIZE", value_parser = some_bytes)]
    rotate_size: Option<u64>,
    /// Begin another file after so many seconds; the name may have %Y, %m, %d, %H, %M, %S, %F, %T and %s (UTC).
    #[arg(short = 'G', long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    rotate_seconds: Option<u64>,
    /// Keep so many files: with -C the first is then overwritten, with -G alone the capture ends.
    #[arg(short = 'W', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    files: Option<u32>,
}

/// What an operator wants to know of it beside its arguments.
const HELP: &str = "\
A frame that is forwarded is seen twice: where it comes in, with the verdict on it, and where it leaves. Each point of each
device is an interface of the file; a frame's comment has verdict, reason, peer, VNI and worker. Superframes (TCP and UDP that cross
the kernel 64 KB at a time) are one frame at a vxlan device, as they are there.

  vxgate capture | tshark -r -                                      both sides, decoded
  vxgate capture -w x.pcapng -i eth1 udp port 8472 and host 10.0.0.2
  vxgate capture -w x.pcapng --inner 'tcp port 443'                 whatever carries it
  vxgate capture -w x.pcapng --point drop -C 10M -W 5               what dies, 50 MB of it at most

Frames are copied by the workers, and lost, counted and told at the end when they are not written in time (-B); no frame waits for
its copy. Only root and the user that vxgate runs as may capture.";

/// Why frames are not written.
#[derive(Debug, thiserror::Error)]
enum CaptureError {
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("standard output is a terminal, and a capture is no text")]
    Terminal,
    #[error("-C, -G and -W are for files, and there is none (-w FILE)")]
    NoFile,
}

impl Explained for CaptureError {
    fn fault(&self) -> Fault {
        match self {
            Self::Watch(error) => error.fault(),
            Self::Output(error) => error.fault(),
            Self::Terminal => Fault::CaptureToTerminal,
            Self::NoFile => Fault::RotationWithoutFile,
        }
    }

    fn passed_on(&self) -> Option<&dyn Explained> {
        match self {
            Self::Watch(error) => Some(error),
            Self::Output(error) => Some(error),
            Self::Terminal | Self::NoFile => None,
        }
    }
}

impl Capture {
    pub(super) fn execute(self) -> ExitCode {
        match self.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        }
    }

    fn run(self) -> Result<(), CaptureError> {
        let place = self.file.filter(|file| file.as_os_str() != "-");
        let rotation = Rotation {
            size: self.rotate_size,
            seconds: self.rotate_seconds,
            count: self.files,
        };
        if place.is_none() {
            if rotation.size.is_some() || rotation.seconds.is_some() || rotation.count.is_some() {
                return Err(CaptureError::NoFile);
            }
            if io::stdout().is_terminal() {
                return Err(CaptureError::Terminal);
            }
        }
        // 0 is all, as tcpdump has it.
        let snaplen = Some(self.snaplen).filter(|bytes| *bytes > 0);
        let snaplen = snaplen.unwrap_or(SNAPLEN_MAX);
        let mut watching = Watching::begin(self.asked, snaplen)?;
        let files = Files::open(place, rotation, snaplen, now_ns());
        let mut books = Books {
            files: files.map_err(unwritten)?,
            written: 0,
        };
        let outcome = books.follow(&mut watching, self.count);
        let flushed = books.files.flush().map_err(unwritten);
        let outcome = outcome.and(flushed.map_err(CaptureError::from));
        let (seen, lost) = (watching.seen, watching.stream.counts().lost);
        eprintln!("{} frames written, {seen} seen, {lost} lost", books.written);
        match outcome {
            Err(CaptureError::Output(error)) if error.is_broken_pipe() => Ok(()),
            outcome => outcome,
        }
    }
}

/// A capture, as it is written.
struct Books {
    files: Files,
    written: u64,
}

impl Books {
    fn follow(&mut self, watching: &mut Watching, count: Option<u64>) -> Result<(), CaptureError> {
        while count.is_none_or(|count| self.written < count) {
            // Whoever reads along waits no longer than the gateway does.
            if !watching.stream.has_more() {
                self.files.flush().map_err(unwritten)?;
            }
            match watching.next()? {
                Watched::Frame(frame) => {
                    let told = Told::of(&frame, &watching.stream);
                    match self.files.write(&frame, &told).map_err(unwritten)? {
                        Written::Yes => self.written += 1,
                        Written::NoMoreFiles => return Ok(()),
                    }
                }
                Watched::Lost(_) | Watched::Nothing => {}
                Watched::End => return Ok(()),
            }
        }
        Ok(())
    }
}

fn unwritten((name, error): (PathBuf, io::Error)) -> OutputError {
    OutputError::of(name.display().to_string())(error)
}

/// Nanoseconds since 1970.
fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}
