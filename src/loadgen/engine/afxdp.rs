//! The engine `afxdp`: frames written into an AF_XDP socket's memory by xsk-rs. On a NIC whose driver has zero-copy it is the
//! fastest; on virtual devices each frame costs an allocation and a copy in the kernel.
//!
//! ```text
//!   free ─▶ written ─▶ transmit ring ─▶ the kernel ─▶ completion ring ─▶ free
//! ```
//!
//! A frame longer than a chunk takes several descriptors, all but the last marked as continued.
#![allow(unsafe_code)] // WHY: xsk-rs opens sockets, touches frames and moves descriptors by unsafe functions only.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, TxQueue, Umem};

use super::load::{Generator, Load, Plan, Sent};
use super::pace::{Turn, ended_before_it_began, now_ns};
use super::replay::{Replay, Replaying};
use super::socket::{self, CHUNK, CONTINUED};
use super::source::{Planned, Source};
use super::{Control, Device, EngineError, become_sender};

/// Chunks, and entries of the rings: every chunk always has a place.
const CHUNKS: u32 = 2048;
/// Frames that are handed over together.
const BATCH: usize = 64;
/// A device that has completed nothing for so long has stopped.
const STALL: Duration = Duration::from_secs(3);

/// A generator on one queue of a device.
pub struct AfxdpGenerator {
    device: Device,
    queue: u32,
    core: Option<usize>,
    zero_copy: bool,
    /// Bytes of a frame in one chunk.
    chunk_len: usize,
    /// Whether a frame may take several.
    several: bool,
    umem: Umem,
    transmit: TxQueue,
    completion: CompQueue,
    /// Not used, but the socket's.
    _receive: (RxQueue, FillQueue),
    free: Vec<FrameDesc>,
}

impl AfxdpGenerator {
    /// Opens a socket on a queue of a device of this thread's network namespace. The frames will be sent by a thread
    /// pinned to `core`.
    ///
    /// # Errors
    /// When there is no such device or queue, or the kernel does not give a socket.
    pub fn open(ifindex: u32, queue: u32, core: Option<usize>) -> Result<Self, EngineError> {
        let device = Device::find(ifindex)?;
        let opened = socket::open(&device, queue, CHUNKS)?;
        Ok(Self {
            device,
            queue,
            core,
            zero_copy: opened.zero_copy,
            chunk_len: opened.chunk_len,
            several: opened.several,
            umem: opened.umem,
            transmit: opened.transmit,
            completion: opened.completion,
            _receive: (opened.receive, opened.fill),
            free: opened.chunks,
        })
    }

    /// Whether the device reads frames where they are written. Else the kernel copies each.
    pub fn zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// Sends all of it; what was sent of each stream, and their bytes.
    fn send(&mut self, source: &mut impl Source, control: &Control) -> io::Result<Sent> {
        let mut batch = Batch::new(source);
        let start_ns = now_ns();
        source.start(start_ns);
        let mut progress = Instant::now();
        loop {
            if self.reclaim() {
                progress = Instant::now();
            }
            if control.is_stopped() {
                source.stop();
            }
            let over = self.fill(source, &mut batch);
            self.submit(&mut batch)?;
            control.note_sent(batch.sent.iter().sum());
            let waiting = self.free.len() < CHUNKS as usize;
            if over && !waiting {
                break;
            }
            if waiting && self.transmit.needs_wakeup() {
                self.transmit.wakeup()?;
            }
            if waiting && progress.elapsed() > STALL {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the device has stopped taking frames: is it still there and up?",
                ));
            }
            if !waiting {
                progress = Instant::now();
            }
        }
        if control.is_stopped() && batch.bytes == 0 {
            return Err(ended_before_it_began());
        }
        Ok(Sent {
            per_stream: batch.sent,
            bytes: batch.bytes,
            elapsed: Duration::from_nanos(batch.over_ns.saturating_sub(start_ns)),
            late: source.late(),
        })
    }

    /// Writes the frames whose time has come, as far as there is room; true when the load is over.
    fn fill(&mut self, source: &mut impl Source, batch: &mut Batch) -> bool {
        let now_ns = now_ns();
        while batch.descriptors.len() < BATCH && self.free.len() >= batch.chunks_max {
            match source.turn(now_ns) {
                Turn::Wait => return false,
                Turn::Over => {
                    batch.over_ns = if batch.over_ns == 0 {
                        now_ns
                    } else {
                        batch.over_ns
                    };
                    return true;
                }
                Turn::Send(intended_ns) => self.write(source, intended_ns, batch),
            }
        }
        false
    }

    /// Writes the next frame.
    fn write(&mut self, source: &mut impl Source, intended_ns: u64, batch: &mut Batch) {
        let Some((place, len)) = source.write(intended_ns, &mut batch.scratch) else {
            return;
        };
        let frame = batch.scratch.get(..len).unwrap_or_default();
        let mut parts = frame.chunks(self.chunk_len).peekable();
        while let Some(part) = parts.next() {
            // There are enough: `fill` has looked.
            let Some(mut chunk) = self.free.pop() else {
                return;
            };
            // SAFETY: the descriptor is of this UMEM, and it was on the free list: the kernel does not have it, and nobody
            // else holds its bytes.
            let mut data = unsafe { self.umem.data_mut(&mut chunk) };
            data.cursor().set_pos(part.len());
            // The same length: no part is longer than a chunk.
            for (to, from) in data.contents_mut().iter_mut().zip(part) {
                *to = *from;
            }
            chunk.set_options(if parts.peek().is_some() { CONTINUED } else { 0 });
            batch.descriptors.push(chunk);
        }
        if let Some(sent) = batch.sent.get_mut(place) {
            *sent += 1;
        }
        batch.bytes += len as u64;
    }

    /// Hands the written frames to the kernel.
    fn submit(&mut self, batch: &mut Batch) -> io::Result<()> {
        if batch.descriptors.is_empty() {
            return Ok(());
        }
        // SAFETY: the descriptors are of this UMEM, were written by `write`, and are in no other list from here on.
        let taken = unsafe { self.transmit.produce(&batch.descriptors) };
        if taken != batch.descriptors.len() {
            // There are as many entries as chunks.
            return Err(io::Error::other(
                "the transmit ring is full before the memory is",
            ));
        }
        batch.descriptors.clear();
        Ok(())
    }

    /// Takes back what the kernel is done with; whether there was any.
    fn reclaim(&mut self) -> bool {
        let mut done = [FrameDesc::default(); BATCH];
        // SAFETY: the completion ring is of this UMEM; a descriptor from it is the kernel's no more.
        let count = unsafe { self.completion.consume(&mut done) };
        self.free.extend(done.iter().take(count));
        count > 0
    }
}

impl AfxdpGenerator {
    /// Sends it on a thread of its own.
    fn run_source(
        &mut self,
        mut source: impl Source + Send,
        control: &Control,
    ) -> Result<Sent, EngineError> {
        let len_max = source.len_max();
        self.device = Device::find(self.device.ifindex)?;
        self.device.check(len_max)?;
        if len_max > self.chunk_len && !self.several {
            return Err(EngineError::Plan(format!(
                "a frame of {len_max} bytes: when the socket was opened, the MTU allowed for {} only",
                self.chunk_len
            )));
        }
        let (core, name, queue) = (self.core, self.device.name.clone(), self.queue);
        let failed = |source| EngineError::System {
            doing: format!("send on queue {queue} of {name}"),
            source,
        };
        thread::scope(|scope| {
            let sender = scope.spawn(|| {
                become_sender(core)?;
                self.send(&mut source, control).map_err(failed)
            });
            sender
                .join()
                .unwrap_or_else(|cause| std::panic::resume_unwind(cause))
        })
    }
}

impl Generator for AfxdpGenerator {
    fn run_watched(&mut self, load: &Load<'_>, control: &Control) -> Result<Sent, EngineError> {
        let plan = Plan::new(load)?;
        self.run_source(Planned::new(&plan), control)
    }

    fn replay_watched(
        &mut self,
        replay: &Replay<'_>,
        control: &Control,
    ) -> Result<Sent, EngineError> {
        self.run_source(Replaying::new(replay)?, control)
    }
}

/// What has been sent, and the frames that are to be handed over next.
struct Batch {
    descriptors: Vec<FrameDesc>,
    scratch: Vec<u8>,
    /// The most chunks of one frame.
    chunks_max: usize,
    sent: Vec<u64>,
    bytes: u64,
    /// When all was over; 0: it is not.
    over_ns: u64,
}

impl Batch {
    fn new(source: &impl Source) -> Self {
        let len_max = source.len_max();
        let chunks_max = len_max.div_ceil(CHUNK as usize / 2);
        Self {
            descriptors: Vec::with_capacity(BATCH + chunks_max),
            scratch: vec![0; len_max],
            chunks_max,
            sent: vec![0; source.streams()],
            bytes: 0,
            over_ns: 0,
        }
    }
}
