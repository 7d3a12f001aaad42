//! A capture over the control socket: asked for in a line, answered by a line, and then a stream of what is seen, until whoever asked
//! closes its side or goes away.
//!
//! ```text
//!   command ── {"request":{"capture":{…}}} ─▶ daemon
//!           ◀─ {"schema":"vxgate/1","version":…,"reasons":[…]}
//!           ◀─ port, frame, frame, port, frame, counts, frame, …      messages (`stream.rs`)
//!           ── end of stream ─▶                                       no more, please
//!           ◀─ what had been seen by then, and the last counts; end of stream
//! ```
//!
//! The daemon copies and nothing more: filters, files and words are the command's. One that is stopped, or too slow, loses frames,
//! which the workers count, and holds up nobody.

mod client;
mod serve;
mod stream;

use serde::{Deserialize, Serialize};

use super::SCHEMA;
use crate::gateway::Asked;
use crate::stats::DropReason;
use crate::stats::tap::{Point, Points};

pub use client::{CaptureStream, Message, Stopper};
pub(super) use serve::stream;
pub use stream::{CapturedFrame, Counts, Verdict};

/// What a frame can have at most, superframes among them.
pub const SNAPLEN_MAX: u32 = 262_144;
/// Memory that a capture may have for each worker, in bytes. A superframe has room in the least.
pub const BUFFER: std::ops::RangeInclusive<u64> = 1 << 18..=1 << 30;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureRequest {
    /// Names of points.
    pub points: Vec<String>,
    /// Names of devices; none for all.
    #[serde(default)]
    pub ports: Vec<String>,
    /// Bytes of each frame.
    pub snaplen: u32,
    /// Memory for each worker, in bytes.
    pub buffer: u64,
}

impl CaptureRequest {
    /// Judges it; it is asked by this process.
    ///
    /// # Errors
    /// What of it cannot be.
    pub(super) fn judge(self, pid: Option<i32>) -> Result<Asked, String> {
        let point = |label: &String| {
            Point::from_label(label).ok_or_else(|| format!("there is no point {label}"))
        };
        let points: Points = self.points.iter().map(point).collect::<Result<_, _>>()?;
        if points.is_empty() {
            return Err("no point to capture at".into());
        }
        if !BUFFER.contains(&self.buffer) {
            let (low, high) = (BUFFER.start(), BUFFER.end());
            return Err(format!("a buffer has {low} to {high} bytes"));
        }
        Ok(Asked {
            points,
            ports: self.ports,
            snaplen: self.snaplen.min(SNAPLEN_MAX),
            buffer: usize::try_from(self.buffer).unwrap_or(usize::MAX),
            pid,
        })
    }
}

/// The answer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureBegun {
    /// [`SCHEMA`].
    pub schema: String,
    /// The daemon's version.
    pub version: String,
    /// What frames die of, in the order of the numbers that the stream has for it.
    pub reasons: Vec<String>,
}

impl CaptureBegun {
    /// By this program.
    pub(super) fn new() -> Self {
        let reasons = DropReason::ALL.iter();
        Self {
            schema: SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            reasons: reasons.map(|reason| reason.label().to_owned()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(points: &[&str], buffer: u64) -> CaptureRequest {
        CaptureRequest {
            points: points.iter().map(|point| (*point).to_owned()).collect(),
            ports: vec!["eth1".into()],
            snaplen: u32::MAX,
            buffer,
        }
    }

    #[test]
    fn what_cannot_be_is_said() {
        let judge = |points: &[&str], buffer| request(points, buffer).judge(Some(7));
        let asked = judge(&["drop", "access-tx"], 1 << 20).unwrap();
        let points: Vec<_> = asked.points.iter().collect();
        assert_eq!(points, [Point::AccessTx, Point::Drop]);
        assert_eq!((asked.snaplen, asked.pid), (SNAPLEN_MAX, Some(7)));
        let error = |points: &[&str], buffer| judge(points, buffer).unwrap_err();
        assert_eq!(error(&["drop", "eth1"], 1 << 20), "there is no point eth1");
        assert_eq!(error(&[], 1 << 20), "no point to capture at");
        assert!(error(&["drop"], 1 << 31).contains("262144 to 1073741824"));
    }
}
