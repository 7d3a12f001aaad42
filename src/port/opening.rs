//! The steps that open an AF_XDP socket, what they need to know, and how they fail.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use super::Umem;
use super::holders::holders;
use super::rings::RingMemory;
use super::socket::{RingKind, Socket};
use crate::fault::{Explained, Fault};

/// What one `sendto` may send where the kernel lets us say so.
const TX_BUDGET_FRAMES: u32 = 256;
/// Pause between two attempts at a queue that is taken.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// How to open a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XskConfig {
    /// The device, in the network namespace of the thread that opens the port.
    pub ifindex: u32,
    /// Its name, for messages.
    pub name: String,
    /// Its receive queue, which is also the transmit queue.
    pub queue: u32,
    /// Entries in each of the four rings, a power of two.
    pub ring_len: u32,
    /// Whether to ask for zero-copy.
    pub zero_copy: ZeroCopy,
    /// The longest frame the device sends: its MTU + 18.
    pub frame_len_max: usize,
    /// Whether the device finishes checksums that a frame asks for.
    pub finishes: Finishes,
    /// How long to wait for a queue that is taken. The kernel frees a closed socket's queue only some 40 ms later, so
    /// give at least a second.
    pub busy_wait: Duration,
}

/// Whether to ask for zero-copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZeroCopy {
    /// First zero-copy, then copy mode.
    Try,
    /// Copy mode at once.
    Never,
}

/// When a device finishes the checksum of a UDP datagram that is left to it, as far as its driver says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Finishes {
    /// In copy mode: frames are then like those of any socket.
    pub copied: bool,
    /// With zero-copy.
    pub zero_copy: bool,
}

impl Finishes {
    /// In this mode.
    pub(super) fn with(self, zero_copy: bool) -> bool {
        if zero_copy {
            self.zero_copy
        } else {
            self.copied
        }
    }
}

/// Why a port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another socket has the queue.
    #[error("{device} queue {queue} is taken by another AF_XDP socket, still after {waited_ms} ms")]
    Busy {
        /// The device's name.
        device: String,
        /// The queue.
        queue: u32,
        /// How long it was tried, in milliseconds.
        waited_ms: u64,
        /// Who it may be, in words.
        holders: String,
    },
    /// The port to share with uses other memory.
    #[error(
        "{device} queue {queue} is to share a UMEM that is not the one its frames are in; open it with the worker's own"
    )]
    ForeignUmem {
        /// The device's name.
        device: String,
        /// The queue.
        queue: u32,
    },
    /// The kernel refused a step.
    #[error("{device} queue {queue}: cannot {step}: {error}")]
    Refused {
        /// The device's name.
        device: String,
        /// The queue.
        queue: u32,
        /// What was attempted.
        step: &'static str,
        /// What is known of why.
        hint: Option<&'static str>,
        /// The kernel's answer.
        error: io::Error,
    },
}

impl Explained for OpenError {
    fn fault(&self) -> Fault {
        match self {
            Self::Busy { .. } => Fault::QueueBusy,
            Self::ForeignUmem { .. } => Fault::FrameMemoryForeign,
            Self::Refused { .. } => Fault::SocketRefused,
        }
    }

    fn why(&self) -> Option<String> {
        match self {
            Self::Busy { holders, .. } => Some(holders.clone()),
            Self::Refused { hint, .. } => hint.map(str::to_owned),
            Self::ForeignUmem { .. } => None,
        }
    }
}

/// A port on its way.
pub(super) struct Opening<'a> {
    pub(super) memory: RingMemory,
    pub(super) socket: Socket,
    pub(super) umem: &'a Umem,
    pub(super) config: &'a XskConfig,
    /// Whether the memory is registered with requests in mind.
    pub(super) has_requests: bool,
    /// When the first attempt began: the wait for a taken queue is one for all of them.
    start: Instant,
}

impl<'a> Opening<'a> {
    /// A socket with its four rings, not bound yet.
    pub(super) fn start(
        umem: &'a Umem,
        config: &'a XskConfig,
        start: Instant,
    ) -> Result<Self, OpenError> {
        let refused = |step, error| refused(config, start, step, error);
        let socket = Socket::new().map_err(|error| refused("make an AF_XDP socket", error))?;
        for kind in [
            RingKind::Fill,
            RingKind::Completion,
            RingKind::Rx,
            RingKind::Tx,
        ] {
            socket
                .size_ring(kind, config.ring_len)
                .map_err(|error| refused("make the rings", error))?;
        }
        let memory =
            map_rings(&socket, config.ring_len).map_err(|error| refused("map the rings", error))?;
        // Without the option the kernel sends 32 frames a call: more calls, the same result.
        socket.raise_tx_budget(TX_BUDGET_FRAMES.min(config.ring_len));
        Ok(Self {
            memory,
            socket,
            umem,
            config,
            has_requests: false,
            start,
        })
    }

    /// Makes the memory known; with requests in mind, where the device heeds them and the kernel knows them.
    pub(super) fn register(&mut self) -> Result<(), OpenError> {
        let (area, bounds) = (self.umem.area(), self.umem.bounds());
        let useful = self.config.finishes != Finishes::default() && !bounds.has_chains();
        // A kernel before Linux 6.11 refuses; whatever else may be wrong, the second call tells.
        self.has_requests = useful && self.socket.register(area, bounds, true).is_ok();
        if self.has_requests {
            return Ok(());
        }
        self.socket
            .register(area, bounds, false)
            .map_err(|error| self.refused("register the UMEM", error))
    }

    /// Binds; waits for a queue that is taken.
    fn bind(&self, flags: u16, share: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let share = share.map(|other| other.as_raw_fd());
        loop {
            match self
                .socket
                .bind(self.config.ifindex, self.config.queue, flags, share)
            {
                Err(error) if busy(&error) && self.start.elapsed() < self.config.busy_wait => {
                    thread::sleep(BUSY_PAUSE)
                }
                result => return result,
            }
        }
    }

    /// Binds in copy mode, which every device can.
    pub(super) fn bind_copy(&self) -> Result<(), OpenError> {
        self.bind(libc::XDP_COPY | self.flags(), None)
            .map_err(|error| self.refused("bind the queue", error))
    }

    /// Binds without copying; the error is the reason for copy mode.
    pub(super) fn bind_zero_copy(&self) -> io::Result<()> {
        self.bind(libc::XDP_ZEROCOPY | self.flags(), None)
    }

    /// What both modes have in common.
    fn flags(&self) -> u16 {
        let chains = if self.umem.bounds().has_chains() {
            libc::XDP_USE_SG
        } else {
            0
        };
        libc::XDP_USE_NEED_WAKEUP | chains
    }

    /// The kernel's refusal of zero-copy in words (`xp_assign_dev`).
    pub(super) fn why_refused(&self, error: &io::Error) -> String {
        let chains = self.umem.bounds().has_chains();
        match error.raw_os_error() {
            Some(libc::EOPNOTSUPP) if chains => {
                "the driver has no zero-copy, or none of frames in several buffers".into()
            }
            _ => why_refused(error),
        }
    }

    /// Joins the registration of another socket, with its mode.
    pub(super) fn bind_shared(&self, other: BorrowedFd<'_>) -> io::Result<()> {
        self.bind(libc::XDP_SHARED_UMEM, Some(other))
    }

    pub(super) fn refused(&self, step: &'static str, error: io::Error) -> OpenError {
        refused(self.config, self.start, step, error)
    }
}

fn map_rings(socket: &Socket, size: u32) -> io::Result<RingMemory> {
    Ok(RingMemory {
        fill: socket.map_ring(RingKind::Fill, size)?,
        completion: socket.map_ring(RingKind::Completion, size)?,
        rx: socket.map_ring(RingKind::Rx, size)?,
        tx: socket.map_ring(RingKind::Tx, size)?,
    })
}

fn busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBUSY)
}

fn refused(config: &XskConfig, start: Instant, step: &'static str, error: io::Error) -> OpenError {
    let (device, queue) = (config.name.clone(), config.queue);
    if busy(&error) {
        let waited_ms = start.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        return OpenError::Busy {
            device,
            queue,
            waited_ms,
            holders: holders(),
        };
    }
    let hint = match (step, error.raw_os_error()) {
        (_, Some(libc::EPERM | libc::EACCES)) => "CAP_NET_RAW is needed",
        (_, Some(libc::EAFNOSUPPORT)) => "the kernel has no AF_XDP (CONFIG_XDP_SOCKETS)",
        (_, Some(libc::ENODEV)) => "there is no such device in this network namespace",
        ("register the UMEM", Some(libc::ENOBUFS)) => {
            "the limit of locked memory is too low: raise RLIMIT_MEMLOCK, or grant CAP_IPC_LOCK"
        }
        ("make the rings", Some(libc::EINVAL)) => "the ring length must be a power of two",
        ("share the UMEM of another port", Some(libc::EINVAL)) => {
            "the device has no such queue, or the other port is on the very same queue"
        }
        ("bind the queue", Some(libc::EINVAL)) => {
            "the device has no such queue, or its frames need several buffers and the kernel is older than 6.6"
        }
        _ => "",
    };
    OpenError::Refused {
        device,
        queue,
        step,
        hint: Some(hint).filter(|hint| !hint.is_empty()),
        error,
    }
}

pub(super) fn why_never(config: &XskConfig) -> String {
    format!("not asked for on {}", config.name)
}

fn why_refused(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => "the driver has no zero-copy".into(),
        Some(libc::EINVAL) => {
            "the driver refused: the MTU may be too large for a chunk, or its rings too long".into()
        }
        Some(libc::ENOMEM) => "the driver had not enough memory for zero-copy".into(),
        Some(libc::EBUSY) => {
            "the queue was taken, or the device lends queues to a memory provider".into()
        }
        _ => format!("the driver refused: {error}"),
    }
}
