//! xsk-rs's four rings of a real socket, and the kernel's ends of them.
//!
//! The socket is bound to the loopback device, which is down, of a network namespace made here: nothing arrives, nothing is
//! sent, and the kernel looks at a ring only when it receives or is called. So its ends are ours to play, through a second
//! mapping of the same rings: whatever an index says, the entries in the rings' memory are plain numbers.
#![allow(unsafe_code)] // WHY: xsk-rs moves descriptors by unsafe functions only, and a second mapping is no safe thing.

use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, unshare};
use xsk_rs::config::{BindFlags, LibxdpFlags, QueueSize, SocketConfig, UmemConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

/// Entries of each ring.
pub const RING_LEN: u32 = 1024;

/// Both ends of all four.
pub struct XskRings {
    fill: FillQueue,
    tx: TxQueue,
    rx: RxQueue,
    completion: CompQueue,
    kernel: KernelEnds,
    _umem: Umem,
}

struct KernelEnds {
    fill: Indexes,
    tx: Indexes,
    rx: Indexes,
    completion: Indexes,
}

/// The two indexes of a ring.
struct Indexes {
    producer: &'static AtomicU32,
    consumer: &'static AtomicU32,
}

impl Indexes {
    /// All that is in the ring is taken.
    fn take(&self) {
        let producer = self.producer.load(Ordering::Acquire);
        self.consumer.store(producer, Ordering::Release);
    }

    /// The ring is full, of whatever was in it.
    fn show(&self) {
        let consumer = self.consumer.load(Ordering::Acquire);
        let producer = consumer.wrapping_add(RING_LEN);
        self.producer.store(producer, Ordering::Release);
    }
}

impl XskRings {
    /// # Errors
    /// When this process may not make a network namespace or an AF_XDP socket.
    pub fn open() -> io::Result<Self> {
        // A namespace is a thread's, and this one ends here; the socket keeps it.
        let (umem, tx, rx, fill, completion) = std::thread::spawn(open_socket)
            .join()
            .map_err(|_| io::Error::other("the thread that opens the socket panicked"))??;
        let kernel = KernelEnds::of(tx.fd().as_raw_fd())?;
        Ok(Self {
            fill,
            tx,
            rx,
            completion,
            kernel,
            _umem: umem,
        })
    }

    pub fn kernel_takes_fill(&mut self) {
        self.kernel.fill.take();
    }

    pub fn kernel_takes_tx(&mut self) {
        self.kernel.tx.take();
    }

    pub fn kernel_shows_rx(&mut self) {
        self.kernel.rx.show();
    }

    pub fn kernel_shows_completion(&mut self) {
        self.kernel.completion.show();
    }

    pub fn fill<const N: usize>(&mut self, batch: &mut [FrameDesc; N]) -> usize {
        // SAFETY: nobody but the bench reads the ring; no frame's bytes are touched.
        unsafe { self.fill.produce(batch) }
    }

    pub fn transmit<const N: usize>(&mut self, batch: &mut [FrameDesc; N]) -> usize {
        // SAFETY: as in `fill`.
        unsafe { self.tx.produce(batch) }
    }

    pub fn receive<const N: usize>(&mut self, batch: &mut [FrameDesc; N]) -> usize {
        // SAFETY: as in `fill`.
        unsafe { self.rx.consume(batch) }
    }

    pub fn complete<const N: usize>(&mut self, batch: &mut [FrameDesc; N]) -> usize {
        // SAFETY: as in `fill`.
        unsafe { self.completion.consume(batch) }
    }
}

type Opened = (Umem, TxQueue, RxQueue, FillQueue, CompQueue);

fn open_socket() -> io::Result<Opened> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let size = QueueSize::new(RING_LEN).map_err(io::Error::other)?;
    let config = UmemConfig::builder()
        .fill_queue_size(size)
        .comp_queue_size(size)
        .build()
        .map_err(io::Error::other)?;
    let chunks = NonZeroU32::new(RING_LEN).unwrap_or(NonZeroU32::MIN);
    let (umem, _) = Umem::new(config, chunks, false).map_err(io::Error::other)?;
    let config = SocketConfig::builder()
        .rx_queue_size(size)
        .tx_queue_size(size)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(BindFlags::XDP_COPY)
        .build();
    let device = "lo".parse().map_err(io::Error::other)?;
    // SAFETY: the UMEM is this socket's alone, and no program is loaded.
    let opened = unsafe { Socket::new(config, &umem, &device, 0) }.map_err(io::Error::other)?;
    let (tx, rx, Some((fill, completion))) = opened else {
        return Err(io::Error::other("the socket has no completion ring"));
    };
    Ok((umem, tx, rx, fill, completion))
}

impl KernelEnds {
    /// Of the socket behind a file descriptor. The mappings stay as long as the process.
    fn of(fd: RawFd) -> io::Result<Self> {
        // SAFETY: a structure of integers only.
        let mut offsets: libc::xdp_mmap_offsets = unsafe { std::mem::zeroed() };
        let mut len = size_of_val(&offsets) as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes to where `offsets` is.
        let result = unsafe {
            libc::getsockopt(
                fd,
                libc::SOL_XDP,
                libc::XDP_MMAP_OFFSETS,
                (&raw mut offsets).cast(),
                &mut len,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        let (fill, completion) = (
            libc::XDP_UMEM_PGOFF_FILL_RING as i64,
            libc::XDP_UMEM_PGOFF_COMPLETION_RING as i64,
        );
        Ok(Self {
            fill: indexes(fd, fill, &offsets.fr, size_of::<u64>())?,
            completion: indexes(fd, completion, &offsets.cr, size_of::<u64>())?,
            rx: indexes(fd, libc::XDP_PGOFF_RX_RING, &offsets.rx, DESCRIPTOR_LEN)?,
            tx: indexes(fd, libc::XDP_PGOFF_TX_RING, &offsets.tx, DESCRIPTOR_LEN)?,
        })
    }
}

const DESCRIPTOR_LEN: usize = size_of::<libc::xdp_desc>();

/// Maps a ring once more; its indexes.
fn indexes(
    fd: RawFd,
    page_offset: i64,
    offsets: &libc::xdp_ring_offset,
    entry_len: usize,
) -> io::Result<Indexes> {
    let len = offsets.desc as usize + RING_LEN as usize * entry_len;
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory that exists.
    let start = unsafe {
        libc::mmap(
            ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_POPULATE,
            fd,
            page_offset,
        )
    };
    let start = NonNull::new(start).filter(|start| start.as_ptr() != libc::MAP_FAILED);
    let start = start.ok_or_else(io::Error::last_os_error)?;
    let index = |offset: u64| {
        // SAFETY: the kernel's offset of an index is inside the mapping.
        let index = unsafe { start.byte_add(offset as usize) }.cast::<AtomicU32>();
        // SAFETY: it is aligned, and the mapping is never undone; whoever else has the index reads and writes it atomically.
        unsafe { index.as_ref() }
    };
    Ok(Indexes {
        producer: index(offsets.producer),
        consumer: index(offsets.consumer),
    })
}
