//! What a receiver is to expect, and what it says arrived. Every receiver means the same by it.
//!
//! For each stream, every frame that arrives is exactly one of: `frames` (whole, here, the first copy), `duplicated`,
//! `corrupted`, `misdelivered`. `reordered` counts some of `frames` again. What was sent and is none of `frames`,
//! `corrupted` and `misdelivered` is lost: duplicates replace nothing.
//!
//! Not looked into, and so foreign: frames with a VLAN tag, fragments, IP headers with options or extensions.

use hdrhistogram::Histogram;

use super::inspection::Inspection;
use super::{EngineError, STREAMS_MAX, latency};

/// `VXLAN_PORTS_MAX` of `bpf/loadgen.h`.
const VXLAN_PORTS_MAX: usize = 4;

/// What a sink is to expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectations {
    /// How many streams are sent, by all generators together: their numbers are below.
    pub streams: u16,
    /// The numbers of those that are to arrive here; any other is misdelivered.
    pub here: Vec<u16>,
    /// UDP ports behind which frames are encapsulated; at most 4. A frame that arrives encapsulated behind
    /// any other port is taken for a plain one, and its signature's check does not hold.
    pub vxlan_ports: Vec<u16>,
    /// Whether payloads were sent as zeros, as generated ones are. A recording's are not: of those, an inspection knows only
    /// what the signature's check says.
    pub zeros: bool,
}

impl Expectations {
    /// A bit for each stream that is to arrive here.
    ///
    /// # Errors
    /// When the expectations contradict themselves.
    pub(super) fn mask(&self) -> Result<u32, EngineError> {
        self.judge()?;
        Ok(self
            .here
            .iter()
            .fold(0, |mask, stream| mask | 1_u32 << stream))
    }

    /// `struct sink_settings`.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, EngineError> {
        let mut bytes = u32::from(self.streams).to_ne_bytes().to_vec();
        bytes.extend(self.mask()?.to_ne_bytes());
        let ports = self.vxlan_ports.iter().copied().chain([0; VXLAN_PORTS_MAX]);
        bytes.extend(ports.take(VXLAN_PORTS_MAX).flat_map(u16::to_be_bytes));
        Ok(bytes)
    }

    fn judge(&self) -> Result<(), EngineError> {
        let refuse = |why: String| Err(EngineError::Plan(why));
        if !(1..=STREAMS_MAX as u16).contains(&self.streams) {
            return refuse(format!(
                "{} streams: 1 to {STREAMS_MAX} are possible",
                self.streams
            ));
        }
        if self.vxlan_ports.len() > VXLAN_PORTS_MAX {
            return refuse(format!(
                "{} VXLAN ports: at most {VXLAN_PORTS_MAX}",
                self.vxlan_ports.len()
            ));
        }
        if let Some(stream) = self.here.iter().find(|stream| **stream >= self.streams) {
            return refuse(format!(
                "stream {stream} is expected, but only {} are sent",
                self.streams
            ));
        }
        Ok(())
    }
}

/// What arrived of one stream. All but `bytes` in frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamReceived {
    /// Distinct whole frames that belong here.
    pub frames: u64,
    /// Their bytes, without FCS, as they arrived.
    pub bytes: u64,
    /// Further copies of them.
    pub duplicated: u64,
    /// Those of `frames` that came behind one with a higher sequence number. Numbers have 32 bits and are extended to the
    /// nearest: behind a gap of 2^31 frames (half an hour without a single one, at a million a second) all seem to be late.
    pub reordered: u64,
    /// Those whose check says that they are not what was sent. Their stream may be wrong, too.
    pub corrupted: u64,
    /// Whole frames that belong elsewhere.
    pub misdelivered: u64,
    /// The longest time between two of `frames`, in ns. With several queues on several processors, an estimate.
    pub gap_max_ns: u64,
}

/// What arrived since the receiver was loaded or reset.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// By number of stream.
    pub per_stream: Vec<StreamReceived>,
    /// Frames without a signature of a known stream; they went on to the kernel.
    pub foreign: u64,
    /// From the intended time of sending to arrival, of all `frames`, in ns.
    pub latency: Histogram<u64>,
    /// The lowest and the highest latency, in ns, as measured.
    pub latency_range_ns: Option<(u64, u64)>,
    /// Arrival of the first and last of `frames`: `CLOCK_MONOTONIC`, in ns.
    pub first_last_ns: Option<(u64, u64)>,
    /// Frames that reached the receiver and that it lost before it could judge them. They are no loss of the device, and with
    /// any of them nobody knows the fates of all.
    pub receiver_lost: u64,
    /// What the inspection of all bytes found, by a receiver that sees them.
    pub inspection: Option<Inspection>,
}

impl Received {
    /// Nothing, of so many streams.
    pub(super) fn nothing(streams: u16) -> Self {
        Self {
            per_stream: vec![StreamReceived::default(); usize::from(streams)],
            foreign: 0,
            latency: latency::histogram(),
            latency_range_ns: None,
            first_last_ns: None,
            receiver_lost: 0,
            inspection: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_stand_as_the_program_reads_them() {
        let expectations = Expectations {
            streams: 3,
            here: vec![0, 2],
            vxlan_ports: vec![4789, 8472],
            zeros: true,
        };
        let mut bytes = 3_u32.to_ne_bytes().to_vec();
        bytes.extend(5_u32.to_ne_bytes());
        bytes.extend([0x12, 0xb5, 0x21, 0x18, 0, 0, 0, 0]);
        assert_eq!(expectations.to_bytes().unwrap(), bytes);
    }

    #[test]
    fn contradictions_are_refused() {
        let good = Expectations {
            streams: 2,
            here: vec![1],
            vxlan_ports: vec![4789],
            zeros: true,
        };
        for bad in [
            Expectations {
                streams: 0,
                ..good.clone()
            },
            Expectations {
                streams: 17,
                ..good.clone()
            },
            Expectations {
                here: vec![2],
                ..good.clone()
            },
            Expectations {
                vxlan_ports: vec![1, 2, 3, 4, 5],
                ..good.clone()
            },
        ] {
            assert!(
                matches!(bad.to_bytes(), Err(EngineError::Plan(_))),
                "{bad:?}"
            );
        }
        assert!(good.to_bytes().is_ok());
    }
}
