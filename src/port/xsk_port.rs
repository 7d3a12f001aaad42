//! An AF_XDP socket on one queue of a device, as a [`Port`].
//!
//! # How a port is opened
//!
//! 1. A port that shares nothing registers the [`Umem`] and asks for zero-copy, then for copy mode. The kernel's silent
//!    fallback (`xp_assign_dev`) is never used: asking twice tells why zero-copy was refused.
//! 2. A port that shares joins the registration of another port of the same worker: bind flags exactly `XDP_SHARED_UMEM`,
//!    the mode is inherited. Zero-copy is a property of the registration, so a device that cannot do it is refused there;
//!    then the port registers the same memory a second time, in copy mode. Frames go between the two all the same: they
//!    are positions in one area.
//! 3. The other way round, a port that wants zero-copy and is to share with one in copy mode first tries a registration
//!    of its own, because joining would settle it on copying.
//!
//! # How frames are sent
//!
//! In copy mode the kernel sends only inside a system call, at most a budget of frames each (32; raised to 256 where
//! `XDP_MAX_TX_SKB_BUDGET` exists), and stops early when the device or the socket buffer is full. So a frame may stay in
//! the transmit ring when the call returns: [`Port::reclaim`] calls again as long as there is one. With zero-copy the
//! driver's flag says whether a call is needed.
//!
//! The kernel reads a descriptor's length and position on trust in some versions and wedges the ring in others, so frames
//! that it would refuse never reach it ([`Port::accepts`]).

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::holders::holders;
use super::mapping::Mapping;
use super::rings::{RingMemory, Rings};
use super::socket::{RingKind, Socket};
use super::{Batch, Frame, Port, PortStatistics, Umem};

/// What one `sendto` may send where the kernel lets us say so.
const TX_BUDGET_FRAMES: u32 = 256;
/// Calls to the kernel a [`Port::transmit`] or [`Port::reclaim`] at most; enough to empty a ring of 4096 by 256.
const KICKS_MAX: usize = 16;
/// Pause between two attempts at a queue that is taken.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// An AF_XDP socket on one queue of a device.
#[derive(Debug)]
pub struct XskPort {
    // In the order of dropping: a queue stays taken while its rings are mapped, and the kernel may write to the area until
    // the socket is closed.
    rings: Rings,
    socket: Socket,
    area: Arc<Mapping>,
    mode: PortMode,
    link_down: bool,
    tx_errors: u64,
}

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

/// How the kernel moves the port's frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortMode {
    /// The device reads and writes the UMEM itself.
    pub zero_copy: bool,
    /// Why not, in words; `None` with zero-copy.
    pub why_not: Option<String>,
    /// It joined another port's registration of the UMEM.
    pub shared: bool,
}

/// Whether the device can send and receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// It is up.
    Up,
    /// It is down, and works again once it is up.
    Down,
    /// It was deleted: this port never works again.
    Gone,
}

/// Why a port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another socket has the queue.
    #[error(
        "{device} queue {queue} is taken by another AF_XDP socket, still after {waited_ms} ms; {holders}"
    )]
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
    #[error("{device} queue {queue}: cannot {step}: {source}{hint}")]
    Refused {
        /// The device's name.
        device: String,
        /// The queue.
        queue: u32,
        /// What was attempted.
        step: &'static str,
        /// What to do about it, or nothing.
        hint: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl XskPort {
    /// Opens a port on one queue; its frames are those of `umem`, and `share` is another port of the same worker. This
    /// waits for the kernel's network lock: not for the data path.
    ///
    /// # Errors
    /// [`OpenError`] tells which device and queue, what was attempted, and what to do.
    pub fn open(
        umem: &Umem,
        config: &XskConfig,
        share: Option<&XskPort>,
    ) -> Result<Self, OpenError> {
        let Some(other) = share else {
            return Self::open_alone(umem, config);
        };
        if !Arc::ptr_eq(&other.area, umem.area()) {
            return Err(OpenError::ForeignUmem {
                device: config.name.clone(),
                queue: config.queue,
            });
        }
        if other.mode.zero_copy || config.zero_copy == ZeroCopy::Never {
            return Self::open_shared(umem, config, other, why_never(config));
        }
        let opening = Opening::start(umem, config)?;
        opening.register()?;
        match opening.bind(libc::XDP_ZEROCOPY | libc::XDP_USE_NEED_WAKEUP, None) {
            Ok(()) => opening.finish(None, false),
            Err(error) => {
                drop(opening);
                Self::open_shared(umem, config, other, why_refused(&error))
            }
        }
    }

    /// How the kernel moves the frames.
    pub fn mode(&self) -> &PortMode {
        &self.mode
    }

    /// Asks the kernel about the device: a system call, for once in a while.
    ///
    /// # Errors
    /// When the kernel answers something that is no statement about the device.
    pub fn link(&self) -> io::Result<Link> {
        match self.socket.wake_rx() {
            Ok(()) => Ok(Link::Up),
            Err(error) => match error.raw_os_error() {
                Some(libc::ENETDOWN) => Ok(Link::Down),
                Some(libc::ENXIO | libc::ENODEV) => Ok(Link::Gone),
                Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS) => Ok(Link::Up),
                _ => Err(error),
            },
        }
    }

    /// The socket, to be put into an `XSKMAP`.
    pub fn socket(&self) -> impl AsFd + '_ {
        self.socket.as_fd()
    }

    /// Follows a change of the device's MTU.
    pub fn limit_frame_len(&mut self, frame_len_max: usize) {
        self.rings.frame_len_max = frame_len_max;
    }

    /// Frames in the four rings. The kernel may hold some more between two of them.
    pub fn frames_held(&self) -> usize {
        self.rings.frames_held()
    }

    /// Addresses that the kernel gave back and that were refused, because they are no frames of this port.
    pub fn foreign(&self) -> u64 {
        self.rings.foreign
    }

    /// Answers to a request to send that are neither success, back-pressure nor a lost link.
    pub fn tx_errors(&self) -> u64 {
        self.tx_errors
    }

    fn open_alone(umem: &Umem, config: &XskConfig) -> Result<Self, OpenError> {
        let opening = Opening::start(umem, config)?;
        opening.register()?;
        let why_not = match config.zero_copy {
            ZeroCopy::Never => why_never(config),
            ZeroCopy::Try => {
                match opening.bind(libc::XDP_ZEROCOPY | libc::XDP_USE_NEED_WAKEUP, None) {
                    Ok(()) => return opening.finish(None, false),
                    // The same socket may bind again: a refused bind leaves it as it was (`xsk_bind`).
                    Err(error) => why_refused(&error),
                }
            }
        };
        opening.bind_or_fail(libc::XDP_COPY | libc::XDP_USE_NEED_WAKEUP, None)?;
        opening.finish(Some(why_not), false)
    }

    fn open_shared(
        umem: &Umem,
        config: &XskConfig,
        other: &Self,
        why_not: String,
    ) -> Result<Self, OpenError> {
        let opening = Opening::start(umem, config)?;
        let refused = match opening.bind(libc::XDP_SHARED_UMEM, Some(other)) {
            Ok(()) => return opening.finish(Some(why_not), true),
            Err(error) => error,
        };
        if !other.mode.zero_copy || refused.raw_os_error() != Some(libc::EOPNOTSUPP) {
            return Err(opening.refused("share the UMEM of another port", refused));
        }
        opening.register()?;
        opening.bind_or_fail(libc::XDP_COPY | libc::XDP_USE_NEED_WAKEUP, None)?;
        opening.finish(Some(why_refused(&refused)), false)
    }

    /// Has the kernel send what is in the transmit ring, as far as it goes.
    fn kick(&mut self) {
        let mut pending = self.rings.tx.pending();
        for _ in 0..KICKS_MAX {
            let Err(error) = self.socket.wake_tx() else {
                self.link_down = false;
                return;
            };
            match error.raw_os_error() {
                // The budget is spent, or the device or the socket buffer is full: go on while that moves anything.
                Some(libc::EAGAIN) => {
                    self.link_down = false;
                    let now = self.rings.tx.pending();
                    if now == 0 || now == pending {
                        return;
                    }
                    pending = now;
                }
                // A frame was dropped by a full device. To go on now would feed it more; the next turn does.
                Some(libc::EBUSY | libc::ENOBUFS) => {
                    self.link_down = false;
                    return;
                }
                Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV) => {
                    self.link_down = true;
                    return;
                }
                Some(libc::EINTR) => {}
                _ => {
                    self.tx_errors += 1;
                    return;
                }
            }
        }
    }
}

impl Port for XskPort {
    #[inline]
    fn receive(&mut self, batch: &mut Batch) -> usize {
        self.rings.receive(batch)
    }

    fn transmit(&mut self, batch: &mut Batch) -> usize {
        if batch.is_empty() {
            return 0;
        }
        if self.link_down {
            // Frames put into the ring of a device that is down would be sent, stale, when it comes up.
            self.kick();
            if self.link_down {
                return 0;
            }
        }
        let taken = self.rings.transmit(batch);
        if self.rings.tx.needs_wakeup() {
            self.kick();
        }
        taken
    }

    fn reclaim(&mut self, umem: &mut Umem) -> usize {
        // Completions first: a full completion ring stops the kernel from sending.
        let reclaimed = self.rings.reclaim(umem);
        if self.rings.tx.pending() == 0 {
            return reclaimed;
        }
        if self.rings.tx.needs_wakeup() {
            self.kick();
        }
        reclaimed
    }

    fn refill(&mut self, umem: &mut Umem) -> usize {
        let added = self.rings.refill(umem);
        // Never set in copy mode. With zero-copy a driver sets it when it found the ring empty, maybe after our last look.
        if self.rings.fill.needs_wakeup() && self.rings.fill.pending() > 0 {
            // A device that is down or gone is noticed when sending, and by `link`.
            let _ = self.socket.wake_rx();
        }
        added
    }

    fn poll_fd(&self) -> Option<RawFd> {
        Some(self.socket.as_fd().as_raw_fd())
    }

    fn statistics(&self) -> io::Result<PortStatistics> {
        self.socket.statistics()
    }

    #[inline]
    fn accepts(&self, frame: &Frame) -> bool {
        self.rings.accepts(frame)
    }

    #[inline]
    fn link_down(&self) -> bool {
        self.link_down
    }
}

/// A port on its way.
struct Opening<'a> {
    memory: RingMemory,
    socket: Socket,
    umem: &'a Umem,
    config: &'a XskConfig,
}

impl<'a> Opening<'a> {
    /// A socket with its four rings, not bound yet.
    fn start(umem: &'a Umem, config: &'a XskConfig) -> Result<Self, OpenError> {
        let refused = |step, error| refused(config, step, error);
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
        })
    }

    fn register(&self) -> Result<(), OpenError> {
        self.socket
            .register(self.umem.area(), self.umem.bounds())
            .map_err(|error| self.refused("register the UMEM", error))
    }

    /// Binds; waits for a queue that is taken.
    fn bind(&self, flags: u16, share: Option<&XskPort>) -> io::Result<()> {
        let share = share.map(|other| other.socket.as_fd().as_raw_fd());
        let start = Instant::now();
        loop {
            match self
                .socket
                .bind(self.config.ifindex, self.config.queue, flags, share)
            {
                Err(error) if busy(&error) && start.elapsed() < self.config.busy_wait => {
                    thread::sleep(BUSY_PAUSE)
                }
                result => return result,
            }
        }
    }

    fn bind_or_fail(&self, flags: u16, share: Option<&XskPort>) -> Result<(), OpenError> {
        self.bind(flags, share)
            .map_err(|error| self.refused("bind the queue", error))
    }

    /// The port, with the mode that the kernel says it has.
    fn finish(self, why_not: Option<String>, shared: bool) -> Result<XskPort, OpenError> {
        let zero_copy = self
            .socket
            .zero_copy()
            .map_err(|error| self.refused("read XDP_OPTIONS", error))?;
        let why_not = if zero_copy {
            None
        } else {
            why_not.or_else(|| Some("the kernel does not say why".into()))
        };
        Ok(XskPort {
            rings: Rings::new(
                self.memory,
                Some(self.umem.bounds()),
                self.config.frame_len_max,
            ),
            socket: self.socket,
            area: Arc::clone(self.umem.area()),
            mode: PortMode {
                zero_copy,
                why_not,
                shared,
            },
            link_down: false,
            tx_errors: 0,
        })
    }

    fn refused(&self, step: &'static str, error: io::Error) -> OpenError {
        refused(self.config, step, error)
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

fn refused(config: &XskConfig, step: &'static str, source: io::Error) -> OpenError {
    let (device, queue) = (config.name.clone(), config.queue);
    if busy(&source) {
        let waited_ms = config.busy_wait.as_millis().try_into().unwrap_or(u64::MAX);
        return OpenError::Busy {
            device,
            queue,
            waited_ms,
            holders: holders(),
        };
    }
    let hint = match (step, source.raw_os_error()) {
        (_, Some(libc::EPERM | libc::EACCES)) => "; CAP_NET_RAW is needed",
        (_, Some(libc::EAFNOSUPPORT)) => "; the kernel has no AF_XDP (CONFIG_XDP_SOCKETS)",
        (_, Some(libc::ENODEV)) => "; there is no such device in this network namespace",
        ("register the UMEM", Some(libc::ENOBUFS)) => {
            "; raise RLIMIT_MEMLOCK, or grant CAP_IPC_LOCK"
        }
        ("make the rings", Some(libc::EINVAL)) => "; the ring length must be a power of two",
        ("share the UMEM of another port", Some(libc::EINVAL)) => {
            "; the device has no such queue, or the other port is on the very same queue"
        }
        (_, Some(libc::EINVAL)) => "; the device has no such queue",
        _ => "",
    };
    OpenError::Refused {
        device,
        queue,
        step,
        hint,
        source,
    }
}

fn why_never(config: &XskConfig) -> String {
    format!("not asked for on {}", config.name)
}

/// The kernel's refusal of zero-copy in words (`xp_assign_dev`).
fn why_refused(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => "the driver has no zero-copy".into(),
        Some(libc::EINVAL) => {
            "the driver refused: the MTU may be too large for a chunk, or its rings too long".into()
        }
        Some(libc::ENOMEM) => "the driver had not enough memory for zero-copy".into(),
        Some(libc::EBUSY) => "the queue was taken".into(),
        _ => format!("the driver refused: {error}"),
    }
}
