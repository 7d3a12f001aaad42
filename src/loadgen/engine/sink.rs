//! The receiver in the kernel: an XDP program (`bpf/sink.bpf.c`) that checks and counts generated frames where they arrive.
//! `received.rs` says what the counts mean.

use libbpf_rs::{Link, MapCore, MapFlags, MapHandle, Object, ProgramInput};
use std::os::fd::AsFd;

use super::latency::{self, OCTAVES};
use super::received::{Expectations, Received};
use super::receiver::{Receiver, XdpMode};
use super::{Device, EngineError, STREAMS_MAX, object};

const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sink.bpf.o"));
const PROGRAM: &str = "vxgate_sink";
const WHAT: &str = "receiver";
/// `STREAM_CHUNKS` and `CHUNK_SLOTS` of `bpf/loadgen.h`; a slot has 4 bytes.
const STREAM_CHUNKS: u32 = 1024;
const CHUNK_LEN: usize = 4 * 1024;
/// `sizeof(struct stream_progress)`.
const PROGRESS_LEN: usize = 64;
/// Chunks that are cleared by one call.
const CHUNKS_AT_ONCE: usize = 64;

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
        sink.link = Some(object::attach(&mut sink.object, PROGRAM, device)?);
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
        let program = self
            .object
            .progs()
            .find(|program| program.name() == PROGRAM);
        let (Some(device), Some(program)) = (self.device, program) else {
            return Ok(XdpMode::Detached);
        };
        XdpMode::of(program.as_fd(), device)
    }

    /// What has arrived by now. Frames that arrive meanwhile may be in some of the numbers and not in others: let the wire
    /// drain first.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn read(&self) -> Result<Received, EngineError> {
        let by_stream = object::map(&self.object, "by_stream")?;
        let progress = object::map(&self.object, "progress")?;
        let mut received = Received::nothing(self.streams);
        for (stream, sum) in (0_u32..).zip(&mut received.per_stream) {
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

impl Receiver for Sink {
    fn read(&self) -> Result<Received, EngineError> {
        Sink::read(self)
    }

    fn reset(&mut self) -> Result<(), EngineError> {
        Sink::reset(self)
    }

    fn reached(&self) -> Result<Vec<u64>, EngineError> {
        Sink::reached(self)
    }

    fn mode(&self) -> Result<XdpMode, EngineError> {
        Sink::mode(self)
    }

    fn name(&self) -> &'static str {
        "xdp"
    }
}

/// The numbers of an entry, on each CPU.
pub(super) fn by_cpu(
    map: &MapHandle,
    key: u32,
    what: &'static str,
) -> Result<Vec<Vec<u64>>, EngineError> {
    let values = map.lookup_percpu(&key.to_ne_bytes(), MapFlags::ANY);
    let values = values.map_err(EngineError::map(what))?.unwrap_or_default();
    Ok(values.iter().map(|value| object::numbers(value)).collect())
}
