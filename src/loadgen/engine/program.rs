//! The generator's program (`bpf/generator.bpf.c`) with a load in its maps. `bpf/loadgen.h` says how they are laid out.

use std::hash::{BuildHasher, Hasher};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use foldhash::quality::FixedState;
use libbpf_rs::{ErrorKind, MapCore, MapFlags, MapHandle, Object, ProgramInput};

use super::layout::header_check;
use super::load::{Plan, Sent, StreamPlan};
use super::pace::{FRACTION_BITS, RESYNC_NS, ended_before_it_began};
use super::{EngineError, STREAMS_MAX, object};
use crate::loadgen::headers::{Family, FlowHeaders, HEADERS_MAX, Transport};

const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/generator.bpf.o"));
const PROGRAM: &str = "vxgate_generator";
const WHAT: &str = "generator";
/// The longest frame: what the kernel keeps of a page for it, on any architecture.
pub(super) const FRAME_MAX: usize = 3392;
/// `BPF_F_TEST_XDP_LIVE_FRAMES` of `linux/bpf.h`.
const LIVE_FRAMES: u32 = 1 << 1;
/// What each frame starts as: shorter than any headers, so that the kernel clears all that is behind.
const BLANK: [u8; 42] = [0; 42];
/// `sizeof(struct generator_run)`, `sizeof(struct generator_flow)`.
const RUN_LEN: usize = 104;
const FLOW_LEN: usize = 152;
/// Flows that are written by one call.
const FLOWS_AT_ONCE: usize = 4096;

/// A loaded program, and what its larger maps hold.
pub(super) struct Program {
    object: Object,
    run: MapHandle,
    streams: MapHandle,
    /// Of flows, sizes and turns.
    fingerprint: u64,
}

impl Program {
    /// Loads it, with the flows, sizes and turns of a plan.
    pub fn load(plan: &Plan<'_>) -> Result<Self, EngineError> {
        let mut open = object::open(OBJECT, WHAT)?;
        let sizes: usize = plan.streams.iter().map(|stream| stream.sizes.len()).sum();
        let flows: usize = plan.streams.iter().map(|stream| stream.flows.len()).sum();
        for (map, entries) in [
            ("turns", plan.turns.len()),
            ("sizes", sizes),
            ("flows", flows),
        ] {
            let entries = u32::try_from(entries)
                .map_err(|_| EngineError::Plan(format!("{entries} {map}")))?;
            object::resize(&mut open, map, entries)?;
        }
        let object = open
            .load()
            .map_err(|source| EngineError::Load { what: WHAT, source })?;
        write(&object::map(&object, "turns")?, 0, &words(&plan.turns), 4)?;
        let (size_map, flow_map) = (
            object::map(&object, "sizes")?,
            object::map(&object, "flows")?,
        );
        let (mut size_first, mut flow_first) = (0, 0);
        for stream in &plan.streams {
            write(&size_map, size_first, &words(&stream.sizes), 4)?;
            size_first += stream.sizes.len() as u32;
            for flows in stream.flows.chunks(FLOWS_AT_ONCE) {
                write(&flow_map, flow_first, &flow_bytes(stream, flows), FLOW_LEN)?;
                flow_first += flows.len() as u32;
            }
        }
        Ok(Self {
            run: object::map(&object, "runs")?,
            streams: object::map(&object, "streams")?,
            object,
            fingerprint: fingerprint(plan),
        })
    }

    /// Whether the maps hold this plan's flows, sizes and turns already: another rate needs no other program.
    pub fn holds(&self, plan: &Plan<'_>) -> bool {
        self.fingerprint == fingerprint(plan)
    }

    /// Sets everything to the start of a run.
    pub fn prepare(&self, plan: &Plan<'_>, ifindex: u32) -> Result<(), EngineError> {
        let (mut size_first, mut flow_first) = (0, 0);
        for (place, stream) in plan.streams.iter().enumerate() {
            let value = stream_bytes(stream, size_first, flow_first);
            write(&self.streams, place as u32, &value, value.len())?;
            size_first += stream.sizes.len() as u32;
            flow_first += stream.flows.len() as u32;
        }
        write(&self.run, 0, &run_bytes(plan, ifindex), RUN_LEN)
    }

    /// Has the kernel run it, so many turns by one call, until `stop` is set and a signal arrives.
    pub fn call(&self, stop: &AtomicBool, turns: u32) -> Result<(), libbpf_rs::Error> {
        let missing = || libbpf_rs::Error::from_raw_os_error(libc::ENOENT);
        let mut program = self
            .object
            .progs_mut()
            .find(|program| program.name() == PROGRAM);
        let program = program.as_mut().ok_or_else(missing)?;
        loop {
            let input = ProgramInput {
                data_in: Some(&BLANK),
                flags: LIVE_FRAMES,
                repeat: turns,
                ..ProgramInput::default()
            };
            match program.test_run(input) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                // All turns were used up: idle ones, of a slow load, within minutes. Or a debugger came by. The program goes
                // on where it was; what the new call costs comes out as frames that were late.
                _ if !stop.load(Ordering::Acquire) && !self.is_over() => {}
                _ => return Ok(()),
            }
        }
    }

    /// One frame of the load, as it would leave; none when the load is over.
    pub fn call_once(&self) -> Result<Option<Vec<u8>>, libbpf_rs::Error> {
        const XDP_REDIRECT: u32 = 4;
        let missing = || libbpf_rs::Error::from_raw_os_error(libc::ENOENT);
        let mut program = self
            .object
            .progs_mut()
            .find(|program| program.name() == PROGRAM);
        let program = program.as_mut().ok_or_else(missing)?;
        let mut frame = vec![0; FRAME_MAX];
        let output = program.test_run(ProgramInput {
            data_in: Some(&BLANK),
            data_out: Some(&mut frame),
            ..ProgramInput::default()
        })?;
        let bytes = output.data.map(|bytes| bytes.to_vec()).unwrap_or_default();
        Ok((output.return_value == XDP_REDIRECT).then_some(bytes))
    }

    /// Whether the load is over.
    pub fn is_over(&self) -> bool {
        // struct generator_run: end_ns is the fourth number.
        matches!(numbers(&self.run, 0).as_deref(), Ok([_, _, _, end_ns, ..]) if *end_ns > 0)
    }

    /// Frames that have left by now. To be asked while the program runs.
    pub fn sent(&self) -> u64 {
        let of = |place: u32| numbers(&self.streams, place).ok()?.first().copied();
        (0..STREAMS_MAX as u32).filter_map(of).sum()
    }

    /// What came of the run; `stopped_ns` is when it was ended, if before its time.
    pub fn account(
        &self,
        plan: &Plan<'_>,
        device: &str,
        stopped_ns: Option<u64>,
    ) -> Result<Sent, EngineError> {
        let run = numbers(&self.run, 0)?;
        // struct generator_run
        let [
            _next,
            _interval,
            start_ns,
            end_ns,
            _left,
            _resync,
            late,
            bytes,
            failed,
            ..,
        ] = run[..]
        else {
            return Err(EngineError::Plan("the run has lost its numbers".to_owned()));
        };
        if failed > 0 {
            return Err(EngineError::Unbuilt {
                device: device.to_owned(),
                count: failed,
                why: "the kernel gave no room for frames of that length",
            });
        }
        let end_ns = match stopped_ns {
            Some(stopped_ns) if end_ns == 0 => stopped_ns,
            _ => end_ns,
        };
        if start_ns == 0 || end_ns == 0 {
            return Err(EngineError::System {
                doing: format!("finish the load on {device}"),
                source: match stopped_ns {
                    Some(_) => ended_before_it_began(),
                    None => io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the kernel did not run the generator",
                    ),
                },
            });
        }
        let sent = |place| {
            Ok(numbers(&self.streams, place as u32)?
                .first()
                .copied()
                .unwrap_or(0))
        };
        Ok(Sent {
            per_stream: (0..plan.streams.len())
                .map(sent)
                .collect::<Result<_, EngineError>>()?,
            bytes,
            elapsed: Duration::from_nanos(end_ns.saturating_sub(start_ns)),
            late,
        })
    }
}

/// Of what [`Program::load`] writes, and how much of it is whose.
fn fingerprint(plan: &Plan<'_>) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(&words(&plan.turns));
    for stream in &plan.streams {
        hasher.write(&stream_bytes(stream, 0, 0));
        hasher.write(&words(&stream.sizes));
        for flow in stream.flows {
            hasher.write(&flow.bytes);
        }
    }
    hasher.finish()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn numbers(map: &MapHandle, key: u32) -> Result<Vec<u64>, EngineError> {
    let value = map.lookup(&key.to_ne_bytes(), MapFlags::ANY);
    let value = value.map_err(EngineError::map("the numbers of a run"))?;
    Ok(object::numbers(&value.unwrap_or_default()))
}

/// Writes the entries from `first` on.
fn write(map: &MapHandle, first: u32, values: &[u8], value_len: usize) -> Result<(), EngineError> {
    let count = (values.len() / value_len) as u32;
    let keys: Vec<u8> = (first..first + count).flat_map(u32::to_ne_bytes).collect();
    map.update_batch(&keys, values, count, MapFlags::ANY, MapFlags::ANY)
        .map_err(EngineError::map("the load"))
}

/// `struct generator_run`.
fn run_bytes(plan: &Plan<'_>, ifindex: u32) -> Vec<u8> {
    let duration_q16 = (plan.duration.as_nanos() as u64) << FRACTION_BITS;
    let next_q16 = if plan.interval_q16 == 0 {
        duration_q16
    } else {
        0
    };
    let resync_q16 = RESYNC_NS << FRACTION_BITS;
    let long = [
        next_q16,
        plan.interval_q16,
        0,
        0,
        plan.bursts,
        resync_q16,
        0,
        0,
        0,
    ];
    let short = [ifindex, plan.burst, 0, plan.turns.len() as u32, 0, 0];
    let mut bytes: Vec<u8> = long
        .iter()
        .flat_map(|number| number.to_ne_bytes())
        .collect();
    bytes.extend(short.iter().flat_map(|number| number.to_ne_bytes()));
    bytes.extend([0; 8]);
    bytes
}

/// `struct generator_stream`.
fn stream_bytes(stream: &StreamPlan<'_>, size_first: u32, flow_first: u32) -> Vec<u8> {
    let layout = stream.layout;
    let shape = layout.shape;
    let version = |family| match family {
        Family::V4 => 4,
        Family::V6 => 6,
    };
    let mut bytes = vec![0; 8];
    let flows = [flow_first, stream.flows.len() as u32, 0];
    let sizes = [size_first, stream.sizes.len() as u32, 0];
    let words = [0]
        .into_iter()
        .chain(flows)
        .chain(sizes)
        .chain([stream.period; 2]);
    bytes.extend(words.flat_map(u32::to_ne_bytes));
    bytes.extend(stream.id.to_ne_bytes());
    bytes.extend(shape.header_len().to_ne_bytes());
    bytes.extend([
        shape.outer.map_or(0, version),
        version(shape.inner),
        shape.inner_at() as u8,
        layout.outer_udp_times,
        shape.inner_transport_at() as u8,
        shape.transport.checksum_at() as u8,
        layout.transport_times,
        u8::from(shape.transport == Transport::Udp),
    ]);
    bytes
}

/// `struct generator_flow` of each.
fn flow_bytes(stream: &StreamPlan<'_>, flows: &[FlowHeaders]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(flows.len() * FLOW_LEN);
    for flow in flows {
        bytes.extend_from_slice(&header_check(stream.layout.shape, flow).to_be_bytes());
        bytes.extend_from_slice(&[0; FLOW_LEN - HEADERS_MAX - 2]);
        bytes.extend_from_slice(&flow.bytes);
    }
    bytes
}
