//! The messages of a capture's stream, as bytes. All numbers are little-endian.
//!
//! ```text
//!   | length 4 | kind 1 | ...                                       length: of all that follows it
//!   frame   1  | point 1 | verdict 1 | reason 1 | in a tunnel 1 | worker 2 | time 8 | port 4 | length 4 | peer 16 | bytes ...
//!   port    2  | JSON
//!   counts  3  | JSON
//! ```
//!
//! Points and verdicts go by their numbers here, reasons by those in the answer that began the stream. A peer is an IPv6 address, an
//! IPv4 one mapped into it, or all zeros where none is known.

use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::gateway::{CapturedPort, Sighting};
use crate::stats::tap::{Fate, Point};

/// No message is longer.
pub(super) const MESSAGE_MAX: usize = super::SNAPLEN_MAX as usize + 1024;
/// Bytes of a frame's message in front of the frame's.
const HEADER: usize = 43;

const FRAME: u8 = 1;
const PORT: u8 = 2;
const COUNTS: u8 = 3;

/// How a capture fares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Frames that were seen and sent so far.
    pub seen: u64,
    /// Frames that were seen and lost, because what was before them had not been read.
    pub lost: u64,
}

/// What becomes of a frame, as far as it is known where it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Verdict {
    /// Nowhere.
    Drop,
    /// To a vxlan device.
    Deliver,
    /// The same, from a sender that is no known VTEP.
    DeliverStranger,
    /// To one VTEP.
    Encap,
    /// To every VTEP of the flood list.
    Flood,
    /// To the VTEPs of a multicast address.
    List,
    /// It has left.
    Sent,
    /// A copy has.
    SentCopy,
}

impl Verdict {
    /// All of them, by their numbers.
    pub const ALL: [Self; 8] = [
        Self::Drop,
        Self::Deliver,
        Self::DeliverStranger,
        Self::Encap,
        Self::Flood,
        Self::List,
        Self::Sent,
        Self::SentCopy,
    ];

    /// Its name.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Deliver => Fate::Deliver.label(),
            Self::DeliverStranger => Fate::DeliverStranger.label(),
            Self::Encap => Fate::Encap.label(),
            Self::Flood => Fate::Flood.label(),
            Self::List => Fate::List.label(),
            Self::Sent => Fate::Sent.label(),
            Self::SentCopy => Fate::SentCopy.label(),
        }
    }

    const fn of(fate: Fate) -> Self {
        match fate {
            Fate::Deliver => Self::Deliver,
            Fate::DeliverStranger => Self::DeliverStranger,
            Fate::Encap => Self::Encap,
            Fate::Flood => Self::Flood,
            Fate::List => Self::List,
            Fate::Sent => Self::Sent,
            Fate::SentCopy => Self::SentCopy,
            Fate::Dropped(..) => Self::Drop,
        }
    }
}

/// A frame, as a command receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedFrame {
    /// Nanoseconds since 1970, at the start of the worker's turn.
    pub time_ns: u64,
    /// Where it was seen.
    pub point: Point,
    /// At which device, by its index.
    pub port: u32,
    /// By which worker.
    pub worker: u16,
    /// What becomes of it.
    pub verdict: Verdict,
    /// The number of what it dies of, when it does.
    pub reason: Option<u8>,
    /// Whom it is from or for, where the gateway knows.
    pub peer: Option<IpAddr>,
    /// Whether it has outer headers.
    pub in_tunnel: bool,
    /// How long it is.
    pub len: u32,
    /// Its bytes, from its start.
    pub bytes: Vec<u8>,
}

/// A message, as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Frame(CapturedFrame),
    Port(CapturedPort),
    Counts(Counts),
}

/// Writes a frame behind what is there.
pub(super) fn put_frame(seen: &Sighting<'_>, out: &mut Vec<u8>) {
    let record = &seen.record;
    let reason = record.fate.reason().map_or(0, |reason| reason as u8);
    let peer = match seen.peer {
        Some(IpAddr::V4(addr)) => addr.to_ipv6_mapped(),
        Some(IpAddr::V6(addr)) => addr,
        None => Ipv6Addr::UNSPECIFIED,
    };
    begin(FRAME, HEADER - 5 + seen.bytes.len(), out);
    let verdict = Verdict::of(record.fate) as u8;
    let in_tunnel = u8::from(seen.in_tunnel);
    out.extend([record.spot.point as u8, verdict, reason, in_tunnel]);
    out.extend(seen.worker.to_le_bytes());
    out.extend(seen.time_ns.to_le_bytes());
    out.extend(record.spot.port.to_le_bytes());
    out.extend(record.len.to_le_bytes());
    out.extend(peer.octets());
    out.extend(seen.bytes);
}

/// Writes about a port.
pub(super) fn put_port(port: &CapturedPort, out: &mut Vec<u8>) {
    put_json(PORT, port, out);
}

/// Writes counts.
pub(super) fn put_counts(counts: &Counts, out: &mut Vec<u8>) {
    put_json(COUNTS, counts, out);
}

fn put_json(kind: u8, value: &impl Serialize, out: &mut Vec<u8>) {
    // Numbers and text always have a JSON.
    let json = serde_json::to_vec(value).unwrap_or_default();
    begin(kind, json.len(), out);
    out.extend(json);
}

fn begin(kind: u8, len: usize, out: &mut Vec<u8>) {
    let len = u32::try_from(1 + len).unwrap_or(u32::MAX);
    out.extend(len.to_le_bytes());
    out.push(kind);
}

/// Reads a message, without its length; `None` for one that an older command does not know.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(message: &[u8]) -> Result<Option<Part>, String> {
    let (kind, rest) = message.split_first().ok_or("an empty message")?;
    let json = |error: serde_json::Error| error.to_string();
    Ok(Some(match *kind {
        FRAME => Part::Frame(read_frame(rest).ok_or("a frame that is no frame")?),
        PORT => Part::Port(serde_json::from_slice(rest).map_err(json)?),
        COUNTS => Part::Counts(serde_json::from_slice(rest).map_err(json)?),
        _ => return Ok(None),
    }))
}

fn read_frame(rest: &[u8]) -> Option<CapturedFrame> {
    let ([point, verdict, reason, in_tunnel], rest) = rest.split_first_chunk()?;
    let (worker, rest) = rest.split_first_chunk()?;
    let (time, rest) = rest.split_first_chunk()?;
    let (port, rest) = rest.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (peer, bytes) = rest.split_first_chunk::<16>()?;
    let verdict = *Verdict::ALL.get(usize::from(*verdict))?;
    let peer = Ipv6Addr::from(*peer);
    Some(CapturedFrame {
        time_ns: u64::from_le_bytes(*time),
        point: *Point::ALL.get(usize::from(*point))?,
        port: u32::from_le_bytes(*port),
        worker: u16::from_le_bytes(*worker),
        verdict,
        reason: (verdict == Verdict::Drop).then_some(*reason),
        peer: (!peer.is_unspecified()).then(|| IpAddr::V6(peer).to_canonical()),
        in_tunnel: *in_tunnel != 0,
        len: u32::from_le_bytes(*len),
        bytes: bytes.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::tap::{Record, Spot};
    use crate::stats::{DropReason, PeerId, Shape};

    fn message(out: &[u8]) -> Part {
        let (len, rest) = out.split_first_chunk::<4>().unwrap();
        assert_eq!(u32::from_le_bytes(*len) as usize, rest.len());
        read(rest).unwrap().unwrap()
    }

    #[test]
    fn a_frame_survives_the_way() {
        for (fate, verdict, reason) in [
            (Fate::Flood, Verdict::Flood, None),
            (Fate::SentCopy, Verdict::SentCopy, None),
            (
                Fate::Dropped(DropReason::OtherHost, Shape::Arrived),
                Verdict::Drop,
                Some(DropReason::OtherHost as u8),
            ),
        ] {
            for peer in [None, Some("10.0.0.2"), Some("2001:db8::7")] {
                let peer = peer.map(|addr| addr.parse().unwrap());
                let record = Record {
                    time_ns: 1,
                    spot: Spot {
                        point: Point::AccessRx,
                        port: 77,
                    },
                    fate,
                    peer: PeerId(3),
                    len: 1500,
                };
                let seen = Sighting {
                    time_ns: 123_456_789_000_000_001,
                    worker: 5,
                    record,
                    peer,
                    in_tunnel: reason.is_some(),
                    bytes: b"bytes",
                };
                let mut out = Vec::new();
                put_frame(&seen, &mut out);
                assert_eq!(out.len(), HEADER + 5);
                let expected = CapturedFrame {
                    time_ns: 123_456_789_000_000_001,
                    point: Point::AccessRx,
                    port: 77,
                    worker: 5,
                    verdict,
                    reason,
                    peer,
                    in_tunnel: reason.is_some(),
                    len: 1500,
                    bytes: b"bytes".to_vec(),
                };
                assert_eq!(message(&out), Part::Frame(expected));
            }
        }
    }

    #[test]
    fn ports_and_counts_survive_and_what_is_no_message_is_said() {
        let port = CapturedPort {
            ifindex: 4,
            name: "flannel.1".into(),
            role: "access".into(),
            vni: Some(1),
        };
        let mut out = Vec::new();
        put_port(&port, &mut out);
        assert_eq!(message(&out), Part::Port(port));
        out.clear();
        let counts = Counts { seen: 7, lost: 3 };
        put_counts(&counts, &mut out);
        assert_eq!(message(&out), Part::Counts(counts));
        assert!(read(&[]).is_err() && read(&[FRAME, 0, 0]).is_err() && read(&[PORT, 1]).is_err());
        assert_eq!(read(&[99, 1, 2]), Ok(None));
    }
}
