//! An AF_XDP socket of xsk-rs on one queue of a device, with memory of its own: what the generator sends through and the
//! listener reads from.
#![allow(unsafe_code)] // WHY: xsk-rs opens sockets by an unsafe function only, and lends their descriptors as numbers.

use std::error::Error;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::{FdFlags, fcntl_setfd};
use xsk_rs::config::{
    BindFlags, FrameSize, Interface, LibxdpFlags, QueueSize, SocketConfig, UmemConfig,
};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

use super::{Device, EngineError};

/// Bytes of a chunk: a page.
pub(super) const CHUNK: u32 = 4096;
/// `XDP_PKT_CONTD` of `linux/if_xdp.h`.
pub(super) const CONTINUED: u32 = 1;
/// How long the kernel takes to let go of a queue whose socket was just closed, and some more.
const BUSY_PATIENCE: Duration = Duration::from_secs(2);

/// A socket.
pub(super) struct Opened {
    pub umem: Umem,
    /// All of the memory's, free.
    pub chunks: Vec<FrameDesc>,
    pub transmit: TxQueue,
    pub receive: RxQueue,
    pub fill: FillQueue,
    pub completion: CompQueue,
    /// Whether the device works on the socket's own memory. Else the kernel copies each frame.
    pub zero_copy: bool,
    /// Bytes of a frame in one chunk.
    pub chunk_len: usize,
    /// Whether a frame may take several.
    pub several: bool,
}

/// Opens a socket on a queue of a device of this thread's network namespace. Its rings have an entry for each chunk, so that
/// a chunk always has a place; their number is a power of 2.
pub(super) fn open(device: &Device, queue: u32, chunks: u32) -> Result<Opened, EngineError> {
    let failed = |source| EngineError::Socket {
        device: device.name.clone(),
        queue,
        source,
    };
    let size = QueueSize::new(chunks).map_err(invalid).map_err(failed)?;
    let config = UmemConfig::builder()
        .frame_size(FrameSize::new(CHUNK).map_err(invalid).map_err(failed)?)
        .comp_queue_size(size)
        .fill_queue_size(size)
        .build()
        .map_err(invalid)
        .map_err(failed)?;
    let chunk_len = config.mtu() as usize;
    let several = device.len_max() > chunk_len;
    let (umem, chunks, opened, zero_copy) =
        bind(device, queue, config, size, several).map_err(failed)?;
    let (transmit, receive, Some((fill, completion))) = opened else {
        return Err(failed(io::Error::other(
            "the socket has no completion ring",
        )));
    };
    Ok(Opened {
        umem,
        chunks,
        transmit,
        receive,
        fill,
        completion,
        zero_copy,
        chunk_len,
        several,
    })
}

type Bound = (TxQueue, RxQueue, Option<(FillQueue, CompQueue)>);

/// Opens the socket, zero-copy where there is any. Asking for one or the other leaves no doubt about which it is: without
/// either flag the kernel falls back silently.
fn bind(
    device: &Device,
    queue: u32,
    config: UmemConfig,
    size: QueueSize,
    several: bool,
) -> io::Result<(Umem, Vec<FrameDesc>, Bound, bool)> {
    let attempt = |mode| {
        let chunks = NonZeroU32::new(size.get()).unwrap_or(NonZeroU32::MIN);
        let (umem, free) = Umem::new(config, chunks, false).map_err(system)?;
        let segments = if several {
            BindFlags::XDP_USE_SG
        } else {
            BindFlags::empty()
        };
        let config = SocketConfig::builder()
            .tx_queue_size(size)
            .rx_queue_size(size)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(mode | segments | BindFlags::XDP_USE_NEED_WAKEUP)
            .build();
        let name: Interface = device.name.parse().map_err(invalid)?;
        // SAFETY: the UMEM is this socket's alone, and no program is loaded.
        let opened = unsafe { Socket::new(config, &umem, &name, queue) }.map_err(system)?;
        keep(&opened.0)?;
        Ok((umem, free, opened))
    };
    let deadline = Instant::now() + BUSY_PATIENCE;
    loop {
        let zero_copy: io::Result<_> = attempt(BindFlags::XDP_ZEROCOPY);
        let busy = |error: &io::Error| error.raw_os_error() == Some(libc::EBUSY);
        let outcome = match zero_copy {
            Err(error) if !busy(&error) => {
                attempt(BindFlags::XDP_COPY).map(|opened| (opened, false))
            }
            other => other.map(|opened| (opened, true)),
        };
        match outcome {
            Err(error) if busy(&error) && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(20))
            }
            outcome => {
                return outcome
                    .map(|((umem, free, opened), zero_copy)| (umem, free, opened, zero_copy));
            }
        }
    }
}

/// Keeps the socket, which is its memory's too, from programs that this process starts: libxdp opens it without
/// `SOCK_CLOEXEC`, and a disturber's daemon that has it would hold the queue long after the load.
fn keep(transmit: &TxQueue) -> io::Result<()> {
    // SAFETY: the queue keeps its socket open.
    let socket = unsafe { BorrowedFd::borrow_raw(transmit.fd().as_raw_fd()) };
    Ok(fcntl_setfd(socket, FdFlags::CLOEXEC)?)
}

/// The system's error within one of xsk-rs.
fn system(error: impl Error) -> io::Error {
    let code = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>())
        .and_then(io::Error::raw_os_error);
    code.map_or_else(
        || io::Error::other(error.to_string()),
        io::Error::from_raw_os_error,
    )
}

fn invalid(error: impl Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error.to_string())
}
