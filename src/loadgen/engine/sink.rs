//! The receiver: an XDP program (`bpf/sink.bpf.c`) that checks and counts generated frames where they arrive.
//!
//! For each stream, every frame that arrives is exactly one of: `frames` (whole, here, the first copy), `duplicated`,
//! `corrupted`, `misdelivered`. `reordered` counts some of `frames` again. What was sent and is none of `frames`,
//! `corrupted` and `misdelivered` is lost: duplicates replace nothing.
//!
//! Not looked into, and so foreign: frames with a VLAN tag, fragments, IP headers with options or extensions.

use hdrhistogram::Histogram;
use libbpf_rs::{Link, MapCore, MapFlags, MapHandle, Object, ProgramInput, Xdp, XdpFlags};
use std::os::fd::AsFd;

use super::latency::{self, OCTAVES};
use super::{Device, EngineError, STREAMS_MAX, object};

const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sink.bpf.o"));
const PROGRAM: &str = "vxgate_sink";
const WHAT: &str = "receiver";
/// `VXLAN_PORTS_MAX` of `bpf/loadgen.h`.
const VXLAN_PORTS_MAX: usize = 4;
/// `STREAM_CHUNKS` and `CHUNK_SLOTS` of `bpf/loadgen.h`; a slot has 4 bytes.
const STREAM_CHUNKS: u32 = 1024;
const CHUNK_LEN: usize = 4 * 1024;
/// `sizeof(struct stream_progress)`.
const PROGRESS_LEN: usize = 64;
/// Chunks that are cleared by one call.
const CHUNKS_AT_ONCE: usize = 64;

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
}

impl Expectations {
    /// `struct sink_settings`.
    fn to_bytes(&self) -> Result<Vec<u8>, EngineError> {
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
        let mask = self
            .here
            .iter()
            .fold(0, |mask, stream| mask | 1_u32 << stream);
        let mut bytes = u32::from(self.streams).to_ne_bytes().to_vec();
        bytes.extend(mask.to_ne_bytes());
        let ports = self.vxlan_ports.iter().copied().chain([0; VXLAN_PORTS_MAX]);
        bytes.extend(ports.take(VXLAN_PORTS_MAX).flat_map(u16::to_be_bytes));
        Ok(bytes)
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

/// What arrived since the sink was loaded or reset.
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
}

/// How the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// In the kernel's stack, for any driver: several times slower.
    Generic,
    /// Not attached.
    Detached,
}

impl XdpMode {
    /// The word for it, as in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Detached => "detached",
        }
    }
}

/// The receiver on one device. Dropping it detaches it.
pub struct Sink {
    streams: u16,
    object: Object,
    link: Option<Link>,
    device: Option<u32>,
}

impl Sink {
    /// Loads the receiver onto a device of this thread's network namespace.
    ///
    /// # Errors
    /// When the kernel or the device refuses it, or the expectations contradict themselves.
    pub fn attach(ifindex: u32, expectations: &Expectations) -> Result<Self, EngineError> {
        let device = Device::find(ifindex)?;
        let mut sink = Self::load(expectations)?;
        let mut program = sink
            .object
            .progs_mut()
            .find(|program| program.name() == PROGRAM);
        let attached = program
            .as_mut()
            .map(|program| program.attach_xdp(ifindex as i32));
        let refused = |source| EngineError::Attach {
            device: device.name,
            source,
        };
        sink.link = attached.transpose().map_err(refused)?;
        sink.device = Some(ifindex);
        Ok(sink)
    }

    /// Loads the receiver without a device: frames come through [`Sink::inspect`] only.
    ///
    /// # Errors
    /// As [`Sink::attach`].
    pub fn load(expectations: &Expectations) -> Result<Self, EngineError> {
        let settings = expectations.to_bytes()?;
        let mut open = object::open(OBJECT, WHAT)?;
        object::resize(
            &mut open,
            "chunks",
            u32::from(expectations.streams) * STREAM_CHUNKS,
        )?;
        let failed = |source| EngineError::Load { what: WHAT, source };
        for mut map in open.maps_mut() {
            if map.name().to_string_lossy().ends_with(".rodata") {
                map.set_initial_value(&settings).map_err(failed)?;
            }
        }
        Ok(Self {
            streams: expectations.streams,
            object: open.load().map_err(failed)?,
            link: None,
            device: None,
        })
    }

    /// Shows the receiver one frame as if it had arrived; whether it was one of the generators'.
    ///
    /// # Errors
    /// When the kernel does not run the program.
    pub fn inspect(&mut self, frame: &[u8]) -> Result<bool, EngineError> {
        const XDP_DROP: u32 = 1;
        let program = self
            .object
            .progs_mut()
            .find(|program| program.name() == PROGRAM);
        let Some(program) = program else {
            return Err(EngineError::Plan(format!(
                "the object has no program {PROGRAM}"
            )));
        };
        // The kernel of a run in several fragments wants room for all of the frame.
        let mut out = vec![0; frame.len()];
        let input = ProgramInput {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..ProgramInput::default()
        };
        let failed = |source| EngineError::Run {
            device: WHAT.to_owned(),
            source,
        };
        Ok(program.test_run(input).map_err(failed)?.return_value == XDP_DROP)
    }

    /// How the program runs on its device.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn mode(&self) -> Result<XdpMode, EngineError> {
        /// `XDP_ATTACHED_SKB` of `linux/if_link.h`.
        const XDP_ATTACHED_SKB: u8 = 2;
        let program = self
            .object
            .progs()
            .find(|program| program.name() == PROGRAM);
        let (Some(device), Some(program)) = (self.device, program) else {
            return Ok(XdpMode::Detached);
        };
        let query = Xdp::new(program.as_fd()).query(device as i32, XdpFlags::NONE);
        Ok(
            match query.map_err(EngineError::map("the XDP mode"))?.attach_mode {
                XDP_ATTACHED_SKB => XdpMode::Generic,
                _ => XdpMode::Native,
            },
        )
    }

    /// What has arrived by now. Frames that arrive meanwhile may be in some of the numbers and not in others: let the wire
    /// drain first.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn read(&self) -> Result<Received, EngineError> {
        let by_stream = object::map(&self.object, "by_stream")?;
        let progress = object::map(&self.object, "progress")?;
        let mut received = Received {
            per_stream: Vec::new(),
            foreign: 0,
            latency: latency::histogram(),
            latency_range_ns: None,
            first_last_ns: None,
        };
        for stream in 0..u32::from(self.streams) {
            let mut sum = StreamReceived::default();
            for cpu in by_cpu(&by_stream, stream, "the counts of a stream")? {
                // struct stream_counts
                if let [
                    frames,
                    bytes,
                    duplicated,
                    reordered,
                    corrupted,
                    misdelivered,
                    ..,
                ] = cpu[..]
                {
                    sum.frames += frames;
                    sum.bytes += bytes;
                    sum.duplicated += duplicated;
                    sum.reordered += reordered;
                    sum.corrupted += corrupted;
                    sum.misdelivered += misdelivered;
                }
            }
            let of_all = progress.lookup(&stream.to_ne_bytes(), MapFlags::ANY);
            let of_all = of_all.map_err(EngineError::map("the progress of a stream"))?;
            // struct stream_progress
            if let [_next, _last_ns, gap_max_ns, ..] =
                object::numbers(&of_all.unwrap_or_default())[..]
            {
                sum.gap_max_ns = gap_max_ns;
            }
            received.per_stream.push(sum);
        }
        self.read_totals(&mut received)?;
        Ok(received)
    }

    /// By number of stream, how many of its frames must have left: the highest sequence number that has arrived, plus one.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn reached(&self) -> Result<Vec<u64>, EngineError> {
        let progress = object::map(&self.object, "progress")?;
        let next = |stream: u32| {
            let value = progress.lookup(&stream.to_ne_bytes(), MapFlags::ANY);
            let value = value.map_err(EngineError::map("the progress of a stream"))?;
            // struct stream_progress
            let next = object::numbers(&value.unwrap_or_default()).first().copied();
            Ok(next.unwrap_or(0))
        };
        (0..u32::from(self.streams)).map(next).collect()
    }

    fn read_totals(&self, received: &mut Received) -> Result<(), EngineError> {
        let totals = object::map(&self.object, "totals")?;
        for cpu in by_cpu(&totals, 0, "the totals")? {
            // struct sink_counts
            let [foreign, first_ns, last_ns, highest_ns, lowest_ns, count] = cpu[..] else {
                continue;
            };
            received.foreign += foreign;
            let wider = |range: Option<(u64, u64)>, low: u64, high: u64| match range {
                Some((lowest, highest)) => Some((lowest.min(low), highest.max(high))),
                None => Some((low, high)),
            };
            if count > 0 {
                received.first_last_ns = wider(received.first_last_ns, first_ns, last_ns);
                received.latency_range_ns = wider(received.latency_range_ns, lowest_ns, highest_ns);
            }
        }
        let latencies = object::map(&self.object, "latencies")?;
        for octave in 0..OCTAVES {
            for cpu in by_cpu(&latencies, octave, "the latencies")? {
                latency::add(&mut received.latency, octave, &cpu);
            }
        }
        Ok(())
    }

    /// Forgets all that arrived. Do it before each run, while nothing arrives: sequence numbers start anew with a run, and
    /// would be those of copies.
    ///
    /// # Errors
    /// When a map cannot be written.
    pub fn reset(&mut self) -> Result<(), EngineError> {
        for (name, entries) in [
            ("by_stream", STREAMS_MAX as u32),
            ("totals", 1),
            ("latencies", OCTAVES),
        ] {
            let map = object::map(&self.object, name)?;
            for key in 0..entries {
                let failed = EngineError::map(name);
                let key = key.to_ne_bytes();
                let now = map.lookup_percpu(&key, MapFlags::ANY);
                let zeros: Vec<_> = now
                    .map_err(failed)?
                    .unwrap_or_default()
                    .iter()
                    .map(|value| vec![0; value.len()])
                    .collect();
                map.update_percpu(&key, &zeros, MapFlags::ANY)
                    .map_err(EngineError::map(name))?;
            }
        }
        let progress = object::map(&self.object, "progress")?;
        for stream in 0..STREAMS_MAX as u32 {
            progress
                .update(&stream.to_ne_bytes(), &[0; PROGRESS_LEN], MapFlags::ANY)
                .map_err(EngineError::map("the progress of a stream"))?;
        }
        let chunks = object::map(&self.object, "chunks")?;
        let zeros = vec![0; CHUNKS_AT_ONCE * CHUNK_LEN];
        let all: Vec<u32> = (0..u32::from(self.streams) * STREAM_CHUNKS).collect();
        for some in all.chunks(CHUNKS_AT_ONCE) {
            let keys: Vec<u8> = some.iter().flat_map(|key| key.to_ne_bytes()).collect();
            let values = zeros.get(..some.len() * CHUNK_LEN).unwrap_or(&zeros);
            chunks
                .update_batch(
                    &keys,
                    values,
                    some.len() as u32,
                    MapFlags::ANY,
                    MapFlags::ANY,
                )
                .map_err(EngineError::map("the sequence numbers"))?;
        }
        Ok(())
    }
}

/// The numbers of an entry, on each CPU.
fn by_cpu(map: &MapHandle, key: u32, what: &'static str) -> Result<Vec<Vec<u64>>, EngineError> {
    let values = map.lookup_percpu(&key.to_ne_bytes(), MapFlags::ANY);
    let values = values.map_err(EngineError::map(what))?.unwrap_or_default();
    Ok(values.iter().map(|value| object::numbers(value)).collect())
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
