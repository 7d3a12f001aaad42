//! Recorded traffic (pcap, pcapng), made ready to be sent again.
//!
//! A recorded frame has no signature, so the last 16 bytes of its inner payload become one, and the checksums over them are made
//! right again (checksums that a network card was to fill in are wrong in a recording, too). All other bytes stay. A frame
//! without room for a signature, or of which a sink could not find it, is left out and counted.

mod file;
mod frame;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use file::{Captured, each_frame};
pub use frame::{LeftOut, Recorded, Rewrite};

use super::size::FCS_LEN;

/// The largest file, in bytes: all of it is kept in memory.
const FILE_LEN_MAX: u64 = 256 << 20;

/// Frames and their times.
#[derive(Debug, Clone)]
pub struct Recording {
    /// Those that can be sent, in their order.
    pub frames: Vec<Recorded>,
    /// How many could not, by reason.
    pub left_out: Vec<(LeftOut, u64)>,
}

/// Why a recording cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is neither pcap nor pcapng, or damaged.
    #[error("{}: {why}", path.display())]
    Damaged {
        /// Its path.
        path: PathBuf,
        /// Where, and how.
        why: String,
    },
    /// None of its frames can be sent.
    #[error("{}: none of its {read} frames can be sent: {}", path.display(), Reasons(left_out))]
    Nothing {
        /// Its path.
        path: PathBuf,
        /// Frames that it has.
        read: u64,
        /// Why not.
        left_out: Vec<(LeftOut, u64)>,
    },
    /// Its times do not tell a rate.
    #[error(
        "the recording has no times of its own (fewer than two frames, or all at once): give a rate in frames or bits a second, and --pcap-timing even"
    )]
    NoTiming,
}

/// Reasons with their counts, as a phrase.
pub struct Reasons<'a>(pub &'a [(LeftOut, u64)]);

impl fmt::Display for Reasons<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (reason, count)) in self.0.iter().enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            write!(f, "{comma}{count} {}", reason.words())?;
        }
        Ok(())
    }
}

impl Recording {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or has nothing that can be sent.
    pub fn read(path: &Path, rewrite: &Rewrite) -> Result<Self, RecordingError> {
        let failed = |source| RecordingError::Read {
            path: path.to_owned(),
            source,
        };
        let bytes = bytes_of(path).map_err(failed)?;
        let (recording, read) =
            Self::parse(&bytes, rewrite).map_err(|why| RecordingError::Damaged {
                path: path.to_owned(),
                why,
            })?;
        if recording.frames.is_empty() {
            return Err(RecordingError::Nothing {
                path: path.to_owned(),
                read,
                left_out: recording.left_out,
            });
        }
        Ok(recording)
    }

    /// Judges the bytes of a file; also how many frames it has. A pure function.
    fn parse(bytes: &[u8], rewrite: &Rewrite) -> Result<(Self, u64), String> {
        let mut recording = Self {
            frames: Vec::new(),
            left_out: Vec::new(),
        };
        let (mut read, mut first_ns, mut last_ns) = (0, None, 0);
        file::each_frame(bytes, |captured| {
            read += 1;
            match Recorded::new(captured.bytes, captured.original_len, rewrite) {
                Ok(mut frame) => {
                    // A clock that was set back would have frames leave before earlier ones.
                    let first_ns = *first_ns.get_or_insert(captured.at_ns);
                    last_ns = captured.at_ns.saturating_sub(first_ns).max(last_ns);
                    frame.at_ns = last_ns;
                    recording.frames.push(frame);
                }
                Err(reason) => recording.leave_out(reason),
            }
        })?;
        Ok((recording, read))
    }

    fn leave_out(&mut self, reason: LeftOut) {
        match self.left_out.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => self.left_out.push((reason, 1)),
        }
    }

    /// Frames a second at which it was recorded, those left out not counted.
    ///
    /// # Errors
    /// [`RecordingError::NoTiming`].
    pub fn rate_fps(&self) -> Result<f64, RecordingError> {
        let span_ns = self.frames.last().map_or(0, |frame| frame.at_ns);
        if span_ns == 0 {
            return Err(RecordingError::NoTiming);
        }
        Ok((self.frames.len() - 1) as f64 * 1e9 / span_ns as f64)
    }

    /// The longest frame, in bytes without FCS.
    pub fn len_max(&self) -> usize {
        self.frames.iter().map(Recorded::len).max().unwrap_or(0)
    }

    /// The mean size of a frame, in bytes with the FCS.
    pub fn mean_size(&self) -> f64 {
        let bytes: usize = self.frames.iter().map(Recorded::len).sum();
        bytes as f64 / self.frames.len() as f64 + f64::from(FCS_LEN)
    }
}

/// All bytes of a file, and never more than may be: a device or a pipe does not tell how many it has.
fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_LEN_MAX {
        let mib = FILE_LEN_MAX >> 20;
        let what = format!("longer than {mib} MiB: cut it with `editcap`");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}

#[cfg(test)]
pub(crate) mod tests;
