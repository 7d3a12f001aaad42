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
//!
//! # Frames of several buffers
//!
//! Where the memory's chunks have several buffers, sockets are bound with `XDP_USE_SG` (which those that share inherit), and
//! `chains.rs` says the rest. [`takes_chains`] tells whether the kernel can.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::Instant;

use super::mapping::Mapping;
use super::opening::{Opening, why_never};
use super::rings::Rings;
use super::socket::Socket;
use super::{
    Batch, Frame, OpenError, Port, PortStatistics, RxDrops, Umem, Usage, XskConfig, ZeroCopy,
};

/// Calls to the kernel a [`Port::transmit`] or [`Port::reclaim`] at most; enough to empty a ring of 4096 by 256.
const KICKS_MAX: usize = 16;
/// An AF_XDP socket on one queue of a device.
#[derive(Debug)]
pub struct XskPort {
    // In the order of dropping: a queue stays taken while its rings are mapped, and the kernel may write to the area until
    // the socket is closed.
    rings: Rings,
    socket: Socket,
    area: Arc<Mapping>,
    mode: PortMode,
    finishes_checksums: bool,
    link_down: bool,
    tx_errors: u64,
}

/// Reads the kernel's counts of a port that a worker owns. It holds the socket open: as long as one lives, the queue
/// stays taken.
#[derive(Debug)]
pub struct StatisticsHandle {
    socket: Socket,
    zero_copy: bool,
    has_chains: bool,
}

impl StatisticsHandle {
    /// Frames that the kernel dropped on reception.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn rx_drops(&self) -> io::Result<RxDrops> {
        let drops = self.socket.statistics()?.rx_drops(self.zero_copy);
        Ok(if self.has_chains && !self.zero_copy {
            drops.of_chains()
        } else {
            drops
        })
    }
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
    /// That registration is with requests in mind: every frame that is sent needs a place for one in front of it.
    pub has_requests: bool,
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

/// Whether the kernel's AF_XDP has frames of several buffers (since Linux 6.6). Asked by binding to no device: a kernel that
/// knows the flag looks for the device, any other refuses the flag. No, where there is no AF_XDP.
pub fn takes_chains() -> bool {
    let bound = Socket::new().and_then(|socket| socket.bind(0, 0, libc::XDP_USE_SG, None));
    bound.is_err_and(|error| error.raw_os_error() == Some(libc::ENODEV))
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
        let start = Instant::now();
        let Some(other) = share else {
            return Self::open_alone(umem, config, start);
        };
        if !Arc::ptr_eq(&other.area, umem.area()) {
            return Err(OpenError::ForeignUmem {
                device: config.name.clone(),
                queue: config.queue,
            });
        }
        if other.mode.zero_copy || config.zero_copy == ZeroCopy::Never {
            return Self::open_shared(
                Opening::start(umem, config, start)?,
                other,
                why_never(config),
            );
        }
        let mut opening = Opening::start(umem, config, start)?;
        opening.register()?;
        match opening.bind_zero_copy() {
            Ok(()) => Self::finish(opening, None, false),
            Err(error) => {
                let why_not = opening.why_refused(&error);
                // This socket has a registration of its own now, and could not join another.
                drop(opening);
                Self::open_shared(Opening::start(umem, config, start)?, other, why_not)
            }
        }
    }

    /// How the kernel moves the frames.
    pub fn mode(&self) -> &PortMode {
        &self.mode
    }

    /// Asks the kernel about the device: a system call, for once in a while. With zero-copy it is the driver that answers,
    /// and some drivers say "gone" as long as no XDP program is attached: ask afterwards.
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
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// A handle that reads the kernel's counts from any thread.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn statistics_handle(&self) -> io::Result<StatisticsHandle> {
        Ok(StatisticsHandle {
            socket: self.socket.try_clone()?,
            zero_copy: self.mode.zero_copy,
            has_chains: self.rings.bounds.is_some_and(|bounds| bounds.has_chains()),
        })
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

    fn open_alone(umem: &Umem, config: &XskConfig, start: Instant) -> Result<Self, OpenError> {
        let mut opening = Opening::start(umem, config, start)?;
        opening.register()?;
        let why_not = match config.zero_copy {
            ZeroCopy::Never => why_never(config),
            ZeroCopy::Try => {
                match opening.bind_zero_copy() {
                    Ok(()) => return Self::finish(opening, None, false),
                    // The same socket may bind again: a refused bind leaves it as it was (`xsk_bind`).
                    Err(error) => opening.why_refused(&error),
                }
            }
        };
        opening.bind_copy()?;
        Self::finish(opening, Some(why_not), false)
    }

    fn open_shared(
        mut opening: Opening<'_>,
        other: &Self,
        why_not: String,
    ) -> Result<Self, OpenError> {
        let refused = match opening.bind_shared(other.socket()) {
            Ok(()) => {
                opening.has_requests = other.mode.has_requests;
                return Self::finish(opening, Some(why_not), true);
            }
            Err(error) => error,
        };
        if !other.mode.zero_copy || refused.raw_os_error() != Some(libc::EOPNOTSUPP) {
            return Err(opening.refused("share the UMEM of another port", refused));
        }
        opening.register()?;
        opening.bind_copy()?;
        let why_not = opening.why_refused(&refused);
        Self::finish(opening, Some(why_not), false)
    }

    /// The port, with the mode that the kernel says it has.
    fn finish(
        opening: Opening<'_>,
        why_not: Option<String>,
        shared: bool,
    ) -> Result<Self, OpenError> {
        let zero_copy = opening
            .socket
            .zero_copy()
            .map_err(|error| opening.refused("read XDP_OPTIONS", error))?;
        let why_not = if zero_copy {
            None
        } else {
            why_not.or_else(|| Some("the kernel does not say why".into()))
        };
        let (has_requests, config) = (opening.has_requests, opening.config);
        let bounds = Some(opening.umem.bounds());
        let rings = Rings::new(opening.memory, bounds, config.frame_len_max);
        Ok(Self {
            rings: if has_requests {
                rings.with_requests()
            } else {
                rings
            },
            finishes_checksums: has_requests && config.finishes.with(zero_copy),
            socket: opening.socket,
            area: Arc::clone(opening.umem.area()),
            mode: PortMode {
                zero_copy,
                why_not,
                shared,
                has_requests,
            },
            link_down: false,
            tx_errors: 0,
        })
    }

    /// Has the kernel send what is in the transmit ring, as far as it goes.
    fn kick(&mut self) {
        let mut pending = self.rings.tx.pending();
        for _ in 0..KICKS_MAX {
            self.rings.usage.calls += 1;
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
    fn receive(&mut self, umem: &mut Umem, batch: &mut Batch) -> usize {
        self.rings.receive(umem, batch)
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
            self.rings.usage.calls += 1;
            // A device that is down or gone is noticed when sending, and by `link`.
            let _ = self.socket.wake_rx();
        }
        added
    }

    #[inline]
    fn take_usage(&mut self) -> Usage {
        std::mem::take(&mut self.rings.usage)
    }

    fn poll_fd(&self) -> Option<RawFd> {
        Some(self.socket.as_fd().as_raw_fd())
    }

    fn statistics(&self) -> io::Result<PortStatistics> {
        self.socket.statistics()
    }

    #[inline]
    fn has_room(&mut self, frames: usize) -> bool {
        self.rings.has_room(frames)
    }

    #[inline]
    fn accepts(&self, frame: &Frame) -> bool {
        self.rings.accepts(frame)
    }

    #[inline]
    fn finishes_checksums(&self) -> bool {
        self.finishes_checksums
    }

    #[inline]
    fn link_down(&self) -> bool {
        self.link_down
    }
}
