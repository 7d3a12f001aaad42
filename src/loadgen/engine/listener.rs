//! The receiver in user space: an XDP program (`bpf/listener.bpf.c`) hands every generated frame to an AF_XDP socket of its
//! queue, and a thread looks into all of their bytes. Everybody else's frames stay with the kernel.
//!
//! ```text
//!   queue 0 ─▶ XDP ─▶ socket 0 ─┐
//!   queue 1 ─▶ XDP ─▶ socket 1 ─┼─▶ thread: inspect, count, give the memory back
//!   ...                         ┘
//! ```
//!
//! It bears less than the sink in the kernel: each frame is copied (without zero-copy) and read by one thread. What it cannot
//! take is counted as its own loss (`receiver_lost`), by the difference of what its program saw and what its thread took.
//!
//! Latency ends when a frame is taken from its socket: what waking the thread takes is in it. Frames of one stream that come
//! by several queues are seen in the order in which the thread takes them, so that of these `reordered` is an upper bound.
#![allow(unsafe_code)] // WHY: xsk-rs touches frames and moves descriptors by unsafe functions only.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use libbpf_rs::{Link, MapCore, MapFlags, Object};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, TxQueue, Umem};

use super::pace::now_ns;
use super::received::{Expectations, Received};
use super::receiver::{Receiver, XdpMode};
use super::sink::by_cpu;
use super::socket::{self, Opened};
use super::{Device, EngineError, Tally, object, pin, prefer};

const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/listener.bpf.o"));
const PROGRAM: &str = "vxgate_listener";
const WHAT: &str = "receiver";
/// Chunks of all sockets together: 64 MiB of memory; and the fewest and the most of one.
const CHUNKS: u32 = 16_384;
const CHUNKS_MIN: u32 = 1024;
const CHUNKS_MAX: u32 = 8192;
/// Descriptors that are taken from a socket at once.
const BATCH: usize = 64;
/// How long the thread sleeps at most before it looks whether it is to end.
const NAP: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// The receiver on one device. Dropping it detaches it.
pub struct AfxdpListener {
    object: Object,
    // Before the thread ends: no frame meets a socket that nobody reads.
    link: Option<Link>,
    ifindex: u32,
    zero_copy: bool,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// The program's counts at the last reset.
    before: Counts,
}

/// What the thread and its owner share.
struct Shared {
    account: Mutex<Account>,
    over: AtomicBool,
}

struct Account {
    tally: Tally,
    /// Frames taken from sockets.
    taken: u64,
    /// Why the thread gave up.
    failure: Option<String>,
}

/// `struct listener_counts`, of all CPUs.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    foreign: u64,
    generated: u64,
}

impl Shared {
    /// A thread that panicked while it held the lock has told so, and the counts are still counts.
    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AfxdpListener {
    /// Opens a socket on every queue of a device of this thread's network namespace, and puts the program in front of them.
    /// The thread that reads is pinned to `core`.
    ///
    /// # Errors
    /// When the kernel or the device refuses it, one of the queues has another socket, or the expectations contradict
    /// themselves.
    pub fn attach(
        ifindex: u32,
        expectations: &Expectations,
        core: Option<usize>,
    ) -> Result<Self, EngineError> {
        let device = Device::find(ifindex)?;
        let shared = Arc::new(Shared {
            account: Mutex::new(Account {
                tally: Tally::new(expectations)?,
                taken: 0,
                failure: None,
            }),
            over: AtomicBool::new(false),
        });
        let queues = open_all(&device)?;
        let object = load(expectations, &queues)?;
        let zero_copy = queues.iter().all(|queue| queue.zero_copy);
        let mut listener = Self {
            object,
            link: None,
            ifindex,
            zero_copy,
            thread: Some(start(queues, core, Arc::clone(&shared))?),
            shared,
            before: Counts::default(),
        };
        // Last: what the program hands over has somebody waiting for it.
        listener.link = Some(object::attach(&mut listener.object, PROGRAM, device)?);
        Ok(listener)
    }

    fn counts(&self) -> Result<Counts, EngineError> {
        let map = object::map(&self.object, "listened")?;
        let mut sum = Counts::default();
        for cpu in by_cpu(&map, 0, "the counts of the receiver")? {
            // struct listener_counts
            if let [foreign, generated] = cpu[..] {
                sum.foreign += foreign;
                sum.generated += generated;
            }
        }
        Ok(sum)
    }
}

impl Receiver for AfxdpListener {
    fn read(&self) -> Result<Received, EngineError> {
        // In this order: a frame that comes in between is taken twice rather than lost.
        let counts = self.counts()?;
        let account = self.shared.account();
        if let Some(why) = &account.failure {
            return Err(EngineError::System {
                doing: "receive by AF_XDP".to_owned(),
                source: io::Error::other(why.clone()),
            });
        }
        let mut received = account.tally.received();
        received.foreign += counts.foreign - self.before.foreign;
        received.receiver_lost =
            (counts.generated - self.before.generated).saturating_sub(account.taken);
        Ok(received)
    }

    fn reset(&mut self) -> Result<(), EngineError> {
        self.before = self.counts()?;
        let mut account = self.shared.account();
        account.taken = 0;
        account.tally.reset();
        Ok(())
    }

    fn reached(&self) -> Result<Vec<u64>, EngineError> {
        Ok(self.shared.account().tally.reached())
    }

    fn mode(&self) -> Result<XdpMode, EngineError> {
        let mut programs = self.object.progs();
        match programs.find(|program| program.name() == PROGRAM) {
            Some(program) => XdpMode::of(program.as_fd(), self.ifindex),
            None => Ok(XdpMode::Detached),
        }
    }

    fn name(&self) -> &'static str {
        if self.zero_copy {
            "afxdp, zero-copy"
        } else {
            "afxdp, copying"
        }
    }
}

impl Drop for AfxdpListener {
    fn drop(&mut self) {
        self.link = None;
        self.shared.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been told on its way.
            let _ = thread.join();
        }
    }
}

/// Loads the program, with the sockets in its map.
fn load(expectations: &Expectations, queues: &[Queue]) -> Result<Object, EngineError> {
    let settings = expectations.to_bytes()?;
    let mut open = object::open(OBJECT, WHAT)?;
    object::resize(&mut open, "sockets", queues.len() as u32)?;
    let failed = |source| EngineError::Load { what: WHAT, source };
    for mut map in open.maps_mut() {
        if map.name().to_string_lossy().ends_with(".rodata") {
            map.set_initial_value(&settings).map_err(failed)?;
        }
    }
    let object = open.load().map_err(failed)?;
    let sockets = object::map(&object, "sockets")?;
    for (number, queue) in (0_u32..).zip(queues) {
        let socket = queue.receive.fd().as_raw_fd();
        sockets
            .update(&number.to_ne_bytes(), &socket.to_ne_bytes(), MapFlags::ANY)
            .map_err(EngineError::map("the sockets"))?;
    }
    Ok(object)
}

/// A socket on each queue that the device has.
fn open_all(device: &Device) -> Result<Vec<Queue>, EngineError> {
    let share = CHUNKS / device.rx_queues.max(1);
    let chunks = 1 << share.clamp(CHUNKS_MIN, CHUNKS_MAX).ilog2();
    let mut queues = Vec::new();
    for number in 0..device.rx_queues.max(1) {
        match socket::open(device, number, chunks) {
            Ok(opened) => queues.push(Queue::new(opened, device)?),
            // A device may use fewer queues than it has room for. What stood at queue 0 cannot be wrong here.
            Err(EngineError::Socket { source, .. })
                if number > 0 && source.raw_os_error() == Some(libc::EINVAL) =>
            {
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(queues)
}

/// Starts the thread, and waits until it is where it belongs.
fn start(
    queues: Vec<Queue>,
    core: Option<usize>,
    shared: Arc<Shared>,
) -> Result<JoinHandle<()>, EngineError> {
    let (tell, told) = mpsc::channel();
    let body = move || {
        // As the thread that sends: who waits for a core meanwhile loses frames.
        prefer();
        let pinned = pin(core);
        let stays = pinned.is_ok();
        if tell.send(pinned).is_ok() && stays {
            listen(queues, &shared);
        }
    };
    let failed = |source| EngineError::System {
        doing: "start the thread of the receiver".to_owned(),
        source,
    };
    let thread = thread::Builder::new()
        .name("bench-receiver".to_owned())
        .spawn(body)
        .map_err(failed)?;
    told.recv()
        .map_err(|_| failed(io::Error::other("it ended at once")))??;
    Ok(thread)
}

/// Takes frames until it is over.
fn listen(mut queues: Vec<Queue>, shared: &Shared) {
    while !shared.over.load(Ordering::Acquire) {
        let turn = queues.iter_mut().try_fold(0, |all, queue| {
            Ok::<_, io::Error>(all + queue.take(shared)?)
        });
        let outcome = match turn {
            Ok(0) => wait(&queues),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            shared.account().failure = Some(error.to_string());
            return;
        }
    }
}

/// Sleeps until a frame has come to one of them.
fn wait(queues: &[Queue]) -> io::Result<()> {
    let mut sockets: Vec<_> = queues
        .iter()
        .map(|queue| {
            // SAFETY: the descriptor is that of the socket which `queue` holds open, longer than `sockets` lives.
            let socket = unsafe { BorrowedFd::borrow_raw(queue.receive.fd().as_raw_fd()) };
            PollFd::from_borrowed_fd(socket, PollFlags::IN)
        })
        .collect();
    match poll(&mut sockets, Some(&NAP)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// One queue's socket.
struct Queue {
    umem: Umem,
    receive: RxQueue,
    fill: FillQueue,
    zero_copy: bool,
    taken: [FrameDesc; BATCH],
    /// What has come of a frame in several chunks.
    begun: Vec<u8>,
    /// Not used, but the socket's.
    _transmit: (TxQueue, CompQueue),
}

impl Queue {
    /// With all of its memory where the kernel takes it from.
    fn new(mut opened: Opened, device: &Device) -> Result<Self, EngineError> {
        // SAFETY: the descriptors are of this UMEM, fresh, and in no other list from here on.
        let filled = unsafe { opened.fill.produce(&opened.chunks) };
        if filled != opened.chunks.len() {
            return Err(EngineError::System {
                doing: format!("receive on {}", device.name),
                source: io::Error::other("the fill ring is full before all memory is in it"),
            });
        }
        Ok(Self {
            umem: opened.umem,
            receive: opened.receive,
            fill: opened.fill,
            zero_copy: opened.zero_copy,
            taken: [FrameDesc::default(); BATCH],
            begun: Vec::with_capacity(device.len_max()),
            _transmit: (opened.transmit, opened.completion),
        })
    }

    /// Takes what has come, a batch at most; how many descriptors that were.
    fn take(&mut self, shared: &Shared) -> io::Result<usize> {
        // SAFETY: the ring is of this UMEM; what is in a descriptor from it is the kernel's no more.
        let count = unsafe { self.receive.consume(&mut self.taken) };
        let now_ns = now_ns();
        if count > 0 {
            let mut account = shared.account();
            for chunk in self.taken.iter().take(count) {
                // SAFETY: the descriptor came from this UMEM's ring, the kernel has let go of the chunk, and nobody writes to
                // it until it is in the fill ring again.
                let bytes = unsafe { self.umem.data(chunk) };
                if chunk.has_more_frames() {
                    self.begun.extend_from_slice(bytes.contents());
                    continue;
                }
                account.taken += 1;
                if self.begun.is_empty() {
                    account.tally.take(bytes.contents(), now_ns);
                } else {
                    self.begun.extend_from_slice(bytes.contents());
                    account.tally.take(&self.begun, now_ns);
                    self.begun.clear();
                }
            }
        }
        let done = self.taken.get(..count).unwrap_or_default();
        // SAFETY: the chunks were taken above, and nothing refers to their bytes any more.
        let back = unsafe { self.fill.produce(done) };
        if back != count {
            // There are as many entries as chunks.
            return Err(io::Error::other(
                "the fill ring is full before all memory is in it",
            ));
        }
        if self.fill.needs_wakeup() {
            self.fill.wakeup(self.receive.fd_mut(), 0)?;
        }
        Ok(count)
    }
}
