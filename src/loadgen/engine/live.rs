//! The engine `live`: frames made by a BPF program (`bpf/generator.bpf.c`) that the kernel runs over and over, and sends as a
//! driver would (`BPF_F_TEST_XDP_LIVE_FRAMES`). On virtual devices it offers several times more than a socket can.
//!
//! One call into the kernel lasts for the whole load. The program says when the load is over; the call itself ends by a
//! signal to its thread (`EINTR`), which this module sends. When the process is killed, the same happens.
//!
//! The receiving end must have a NAPI, else the kernel drops such frames without a word: a veth's peer has one while GRO is on
//! there or an XDP program is attached. [`LiveGenerator::open`] sees it and says it.

use std::os::fd::AsFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use libbpf_rs::{ErrorKind, MapCore, MapFlags, MapHandle, Object, ProgramInput, Xdp, XdpFlags};
use nix::sys::pthread::{Pthread, pthread_kill, pthread_self};
use nix::sys::signal::Signal;

use super::layout::header_check;
use super::load::{Generator, Load, Plan, Sent, StreamPlan};
use super::pace::{FRACTION_BITS, RESYNC_NS};
use super::{Device, EngineError, object};
use crate::loadgen::headers::{Family, FlowHeaders, HEADERS_MAX, Transport};

const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/generator.bpf.o"));
const PROGRAM: &str = "vxgate_generator";
const WHAT: &str = "generator";
/// `BPF_F_TEST_XDP_LIVE_FRAMES` of `linux/bpf.h`.
const LIVE_FRAMES: u32 = 1 << 1;
/// What each frame starts as: shorter than any headers, so that the kernel clears all that is behind.
const BLANK: [u8; 42] = [0; 42];
/// The longest frame: what the kernel keeps of a page for it, on any architecture.
const FRAME_MAX: usize = 3392;
/// `sizeof(struct generator_run)`, `sizeof(struct generator_flow)`.
const RUN_LEN: usize = 104;
const FLOW_LEN: usize = 152;
/// Flows that are written by one call.
const FLOWS_AT_ONCE: usize = 4096;
/// How often the end of a run is looked for, when it is due.
const LOOK: Duration = Duration::from_millis(1);
/// How long a run may take beyond its duration: the kernel sets up and takes down, and other programs run, too.
const GRACE: Duration = Duration::from_secs(20);

/// A generator of live frames on one device.
#[derive(Debug)]
pub struct LiveGenerator {
    device: Device,
    core: Option<usize>,
}

impl LiveGenerator {
    /// For a device of this thread's network namespace; its thread will be pinned to `core`.
    ///
    /// # Errors
    /// When the device is missing, or drops such frames.
    pub fn open(ifindex: u32, core: Option<usize>) -> Result<Self, EngineError> {
        let device = Device::find(ifindex)?;
        let generator = Self { device, core };
        generator.check_receiver()?;
        Ok(generator)
    }

    /// Whether frames that XDP sends would leave: the device takes them, and behind a veth somebody listens.
    fn check_receiver(&self) -> Result<(), EngineError> {
        /// `NETDEV_XDP_ACT_NDO_XMIT` of `linux/netdev.h`.
        const TAKES_FRAMES: u64 = 4;
        let name = &self.device.name;
        // A query is about the device; the program that the handle is for plays no part in it.
        let any = fs::File::open("/dev/null").map_err(|source| EngineError::System {
            doing: "open /dev/null".to_owned(),
            source,
        })?;
        let query = Xdp::new(any.as_fd()).query(self.device.ifindex as i32, XdpFlags::NONE);
        let features = query
            .map_err(EngineError::map("the XDP features"))?
            .feature_flags;
        if features & TAKES_FRAMES != 0 || !kernel_tells_features() {
            return Ok(());
        }
        Err(EngineError::Device {
            device: name.clone(),
            why: format!(
                "it would drop all frames of the engine `live`: if it is a veth, its peer has no NAPI; attach the receiver \
                 there first, or run `ethtool -K PEER gro on`; on a device of another kind use `--engine afxdp` \
                 (XDP features of {name}: {features:#x})"
            ),
        })
    }

    fn load(&self, plan: &Plan<'_>) -> Result<Object, EngineError> {
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
        let words = |words: &[u32]| {
            words
                .iter()
                .flat_map(|word| word.to_ne_bytes())
                .collect::<Vec<_>>()
        };
        write(&object::map(&object, "turns")?, 0, &words(&plan.turns), 4)?;
        let (size_map, flow_map) = (
            object::map(&object, "sizes")?,
            object::map(&object, "flows")?,
        );
        let stream_map = object::map(&object, "streams")?;
        let (mut size_first, mut flow_first) = (0, 0);
        for (place, stream) in plan.streams.iter().enumerate() {
            let value = stream_bytes(stream, size_first, flow_first);
            write(&stream_map, place as u32, &value, value.len())?;
            write(&size_map, size_first, &words(&stream.sizes), 4)?;
            size_first += stream.sizes.len() as u32;
            for flows in stream.flows.chunks(FLOWS_AT_ONCE) {
                let bytes = flow_bytes(stream, flows);
                write(&flow_map, flow_first, &bytes, FLOW_LEN)?;
                flow_first += flows.len() as u32;
            }
        }
        write(
            &object::map(&object, "runs")?,
            0,
            &run_bytes(plan, self.device.ifindex),
            RUN_LEN,
        )?;
        Ok(object)
    }

    /// Runs the program until the load is over. The thread that is in the kernel meanwhile is one of its own, because a
    /// signal is sent to it.
    fn send(
        &self,
        object: &Object,
        run: &MapHandle,
        duration: Duration,
    ) -> Result<(), EngineError> {
        make_interruptible()?;
        let (announce, announced) = mpsc::channel();
        thread::scope(|scope| {
            let sender = scope.spawn(|| {
                if let Some(id) = self.core {
                    core_affinity::set_for_current(core_affinity::CoreId { id });
                }
                // The other end is there until this thread ends.
                announce.send(pthread_self()).ok();
                call(object, run)
            });
            let thread = announced.recv();
            let deadline = Instant::now() + duration + GRACE;
            thread::sleep(duration);
            while !sender.is_finished() && !is_over(run) && Instant::now() < deadline {
                thread::sleep(LOOK);
            }
            while !sender.is_finished() {
                interrupt(thread.as_ref().ok());
                thread::sleep(LOOK);
            }
            let outcome = sender
                .join()
                .unwrap_or_else(|cause| std::panic::resume_unwind(cause));
            outcome.map_err(|source| EngineError::Run {
                device: self.device.name.clone(),
                source,
            })
        })
    }
}

impl Generator for LiveGenerator {
    fn run(&mut self, load: &Load<'_>) -> Result<Sent, EngineError> {
        let plan = Plan::new(load)?;
        let len_max = plan.len_max();
        self.device = Device::find(self.device.ifindex)?;
        self.device.check(len_max)?;
        if len_max > FRAME_MAX {
            return Err(EngineError::Plan(format!(
                "a frame of {len_max} bytes: the engine `live` makes frames of up to {FRAME_MAX}; use `--engine afxdp`"
            )));
        }
        self.check_receiver()?;
        let object = self.load(&plan)?;
        let run = object::map(&object, "runs")?;
        self.send(&object, &run, plan.duration)?;
        self.account(&object, &run, &plan)
    }
}

impl LiveGenerator {
    /// The first frames that a load would send, as they would leave: nothing is sent.
    ///
    /// # Errors
    /// As [`Generator::run`].
    pub fn preview(&self, load: &Load<'_>, count: usize) -> Result<Vec<Vec<u8>>, EngineError> {
        const XDP_REDIRECT: u32 = 4;
        // Without an interval, it is always time for the next one.
        let plan = Plan::new(&Load {
            rate_fps: f64::INFINITY,
            ..*load
        })?;
        let object = self.load(&plan)?;
        let mut program = object.progs_mut().find(|program| program.name() == PROGRAM);
        let Some(program) = program.as_mut() else {
            return Err(EngineError::Plan(format!(
                "the object has no program {PROGRAM}"
            )));
        };
        let mut frames = Vec::with_capacity(count);
        for _ in 0..count {
            let mut frame = vec![0; FRAME_MAX];
            let input = ProgramInput {
                data_in: Some(&BLANK),
                data_out: Some(&mut frame),
                ..ProgramInput::default()
            };
            let failed = |source| EngineError::Run {
                device: self.device.name.clone(),
                source,
            };
            let output = program.test_run(input).map_err(failed)?;
            if output.return_value != XDP_REDIRECT {
                break;
            }
            frames.push(output.data.map(|bytes| bytes.to_vec()).unwrap_or_default());
        }
        Ok(frames)
    }

    fn account(
        &self,
        object: &Object,
        run: &MapHandle,
        plan: &Plan<'_>,
    ) -> Result<Sent, EngineError> {
        let run = numbers(run, 0)?;
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
                device: self.device.name.clone(),
                count: failed,
                why: "the kernel gave no room for frames of that length",
            });
        }
        if end_ns == 0 {
            return Err(EngineError::System {
                doing: format!("finish the load on {}", self.device.name),
                source: io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the kernel did not run the generator",
                ),
            });
        }
        let streams = object::map(object, "streams")?;
        let sent = |place| {
            Ok(numbers(&streams, place as u32)?
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

/// Lets the kernel run the program until it says that the load is over.
fn call(object: &Object, run: &MapHandle) -> Result<(), libbpf_rs::Error> {
    let missing = || libbpf_rs::Error::from_raw_os_error(libc::ENOENT);
    let mut program = object.progs_mut().find(|program| program.name() == PROGRAM);
    let program = program.as_mut().ok_or_else(missing)?;
    loop {
        let input = ProgramInput {
            data_in: Some(&BLANK),
            flags: LIVE_FRAMES,
            repeat: u32::MAX,
            ..ProgramInput::default()
        };
        match program.test_run(input) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        }
        // Only idle turns are so many. What the new call costs comes out as frames that were late.
        if is_over(run) {
            return Ok(());
        }
    }
}

fn is_over(run: &MapHandle) -> bool {
    // struct generator_run: end_ns is the fourth number.
    matches!(numbers(run, 0).as_deref(), Ok([_, _, _, end_ns, ..]) if *end_ns > 0)
}

/// Makes SIGURG interrupt system calls: by itself it is ignored. No other use is made of it.
fn make_interruptible() -> Result<(), EngineError> {
    static REGISTERED: OnceLock<()> = OnceLock::new();
    if REGISTERED.get().is_none() {
        let register = signal_hook::flag::register(
            signal_hook::consts::SIGURG,
            Arc::new(AtomicBool::new(false)),
        );
        register.map_err(|source| EngineError::System {
            doing: "handle a signal".to_owned(),
            source,
        })?;
        REGISTERED.set(()).ok();
    }
    Ok(())
}

fn interrupt(thread: Option<&Pthread>) {
    if let Some(thread) = thread {
        // A thread that has just ended cannot be told any more, and need not be.
        pthread_kill(*thread, Signal::SIGURG).ok();
    }
}

/// Whether the kernel would name a device's XDP features: it does since 6.3.
fn kernel_tells_features() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(|char: char| !char.is_ascii_digit())
        .map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 3)
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
