//! The engine `live`: frames made by a BPF program (`bpf/generator.bpf.c`) that the kernel runs over and over, and sends as a
//! driver would (`BPF_F_TEST_XDP_LIVE_FRAMES`). On virtual devices it offers several times more than a socket can.
//!
//! One call into the kernel lasts for the whole load. The program says when the load is over; the call itself ends by a
//! signal to its thread (`EINTR`), which this module sends. When the process is killed, the same happens.
//!
//! The receiving end must have a NAPI, else the kernel drops such frames without a word: a veth's peer has one while GRO is on
//! there or an XDP program is attached. [`LiveGenerator::open`] sees it and says it.

use std::fs;
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use libbpf_rs::{Xdp, XdpFlags};
use nix::sys::pthread::{Pthread, pthread_kill, pthread_self};
use nix::sys::signal::{SigSet, Signal};

use super::load::{Generator, Load, Plan, Sent};
use super::pace::now_ns;
use super::program::{FRAME_MAX, Program};
use super::{Control, Device, EngineError, become_sender};

/// How often a run is looked after before its end is due.
const BREATH: Duration = Duration::from_millis(20);
/// How often the end of a run is looked for, when it is due.
const LOOK: Duration = Duration::from_millis(1);
/// How long a run may take beyond its duration: the kernel sets up and takes down, and other programs run, too.
const GRACE: Duration = Duration::from_secs(20);

/// A generator of live frames on one device.
pub struct LiveGenerator {
    device: Device,
    core: Option<usize>,
    program: Option<Program>,
    turns: u32,
}

impl LiveGenerator {
    /// The longest frame, in bytes without FCS.
    pub const FRAME_MAX: usize = FRAME_MAX;

    /// For a device of this thread's network namespace; its thread will be pinned to `core`.
    ///
    /// # Errors
    /// When the device is missing, or drops such frames.
    pub fn open(ifindex: u32, core: Option<usize>) -> Result<Self, EngineError> {
        let device = Device::find(ifindex)?;
        let generator = Self {
            device,
            core,
            program: None,
            turns: u32::MAX,
        };
        generator.check_receiver()?;
        Ok(generator)
    }

    /// How often the program runs, idle or not, in one call into the kernel [default: as often as the kernel can count]. A
    /// longer load takes several calls, one right after the other; what they cost comes out as frames that were late.
    pub fn set_turns_per_call(&mut self, turns: NonZeroU32) {
        self.turns = turns.get();
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

    /// The first frames that a load would send, as they would leave: nothing is sent.
    ///
    /// # Errors
    /// As [`Generator::run`].
    pub fn preview(&mut self, load: &Load<'_>, count: usize) -> Result<Vec<Vec<u8>>, EngineError> {
        // Without an interval, it is always time for the next one.
        let plan = Plan::new(&Load {
            rate_fps: f64::INFINITY,
            ..*load
        })?;
        let program = self.program(&plan)?;
        program.prepare(&plan, self.device.ifindex)?;
        let mut frames = Vec::with_capacity(count);
        while frames.len() < count {
            match program.call_once().map_err(|source| self.failed(source))? {
                Some(frame) => frames.push(frame),
                None => break,
            }
        }
        self.program = Some(program);
        Ok(frames)
    }

    /// The program with the flows of a plan: that of the last run, when it was of the same ones.
    fn program(&mut self, plan: &Plan<'_>) -> Result<Program, EngineError> {
        let len_max = plan.len_max();
        if len_max > FRAME_MAX {
            return Err(EngineError::Plan(format!(
                "a frame of {len_max} bytes: the engine `live` makes frames of up to {FRAME_MAX}; use `--engine afxdp`"
            )));
        }
        match self.program.take().filter(|program| program.holds(plan)) {
            Some(program) => Ok(program),
            None => Program::load(plan),
        }
    }

    fn failed(&self, source: libbpf_rs::Error) -> EngineError {
        EngineError::Run {
            device: self.device.name.clone(),
            source,
        }
    }

    /// Runs the program until the load is over. The thread that is in the kernel meanwhile is one of its own, because a
    /// signal is sent to it.
    fn send(
        &self,
        program: &Program,
        duration: Duration,
        control: &Control,
    ) -> Result<(), EngineError> {
        make_interruptible()?;
        let (announce, announced) = mpsc::channel();
        let stop = &AtomicBool::new(false);
        thread::scope(|scope| {
            let sender = scope.spawn(move || {
                become_sender(self.core)?;
                leave_signals_to_others()?;
                // The other end is there until this thread ends.
                announce.send(pthread_self()).ok();
                program
                    .call(stop, self.turns)
                    .map_err(|source| self.failed(source))
            });
            let thread = announced.recv();
            let due = Instant::now() + duration;
            // A run that could not begin ends at once.
            while !sender.is_finished() && !control.is_stopped() && Instant::now() < due {
                thread::sleep(BREATH.min(due.saturating_duration_since(Instant::now())));
                control.note_sent(program.sent());
            }
            let deadline = due + GRACE;
            while !sender.is_finished()
                && !control.is_stopped()
                && !program.is_over()
                && Instant::now() < deadline
            {
                thread::sleep(LOOK);
            }
            stop.store(true, Ordering::Release);
            while !sender.is_finished() {
                interrupt(thread.as_ref().ok());
                thread::sleep(LOOK);
            }
            sender
                .join()
                .unwrap_or_else(|cause| std::panic::resume_unwind(cause))
        })
    }
}

impl Generator for LiveGenerator {
    fn run_watched(&mut self, load: &Load<'_>, control: &Control) -> Result<Sent, EngineError> {
        let plan = Plan::new(load)?;
        self.device = Device::find(self.device.ifindex)?;
        self.device.check(plan.len_max())?;
        self.check_receiver()?;
        let program = self.program(&plan)?;
        program.prepare(&plan, self.device.ifindex)?;
        self.send(&program, plan.duration, control)?;
        // A run that was ended from outside had no time to note its end.
        let stopped_ns = control.is_stopped().then(now_ns);
        let sent = program.account(&plan, &self.device.name, stopped_ns);
        self.program = Some(program);
        sent
    }
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

/// Has the process's own signals delivered to its other threads: here they would only cut a gap into the load.
fn leave_signals_to_others() -> Result<(), EngineError> {
    let mut others = SigSet::all();
    others.remove(Signal::SIGURG);
    others
        .thread_set_mask()
        .map_err(|errno| EngineError::System {
            doing: "block signals".to_owned(),
            source: errno.into(),
        })
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
