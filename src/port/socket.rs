//! The system calls of an AF_XDP socket, one function each; what they mean together is in `xsk_port`.
#![allow(unsafe_code)] // WHY: no safe crate in use offers SOL_XDP options.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use super::PortStatistics;
use super::mapping::Mapping;
use super::request;
use super::ring::{Entry, Ring, RingOffsets};
use super::umem::Bounds;

/// `XDP_MAX_TX_SKB_BUDGET` (`if_xdp.h`, Linux 6.16): how many frames one `sendto` sends in copy mode. Unknown to `libc`.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// A socket.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
}

/// Which of its four rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RingKind {
    Fill,
    Completion,
    Rx,
    Tx,
}

impl RingKind {
    /// The option that sets its size, and where it is mapped (`if_xdp.h`).
    fn option_and_offset(self) -> (libc::c_int, u64) {
        match self {
            Self::Fill => (libc::XDP_UMEM_FILL_RING, 0x1_0000_0000),
            Self::Completion => (libc::XDP_UMEM_COMPLETION_RING, 0x1_8000_0000),
            Self::Rx => (libc::XDP_RX_RING, 0),
            Self::Tx => (libc::XDP_TX_RING, 0x8000_0000),
        }
    }
}

impl Socket {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: makes a new descriptor and touches no memory.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made, and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd })
    }

    /// `XDP_UMEM_REG`: makes the area known to the kernel, which pins its pages as long as a socket uses it. `with_requests`:
    /// frames may have one in front of them.
    pub(super) fn register(
        &self,
        area: &Mapping,
        bounds: Bounds,
        with_requests: bool,
    ) -> io::Result<()> {
        let (flags, tx_metadata_len) = if with_requests {
            (libc::XDP_UMEM_TX_METADATA_LEN, request::LEN as u32)
        } else {
            (0, 0)
        };
        self.set(
            libc::XDP_UMEM_REG,
            &libc::xdp_umem_reg {
                addr: area.start().as_ptr() as u64,
                len: bounds.area_len,
                chunk_size: bounds.buffer,
                headroom: 0,
                flags,
                tx_metadata_len,
            },
        )
    }

    /// Makes a ring in the kernel.
    pub(super) fn size_ring(&self, kind: RingKind, size: u32) -> io::Result<()> {
        self.set(kind.option_and_offset().0, &size)
    }

    /// Maps a ring that has a size.
    pub(super) fn map_ring<T: Entry>(&self, kind: RingKind, size: u32) -> io::Result<Ring<T>> {
        let all: libc::xdp_mmap_offsets = self.get(libc::XDP_MMAP_OFFSETS)?;
        let at = match kind {
            RingKind::Fill => all.fr,
            RingKind::Completion => all.cr,
            RingKind::Rx => all.rx,
            RingKind::Tx => all.tx,
        };
        let offsets = RingOffsets {
            producer: at.producer,
            consumer: at.consumer,
            entries: at.desc,
            flags: at.flags,
        };
        let mapping = Mapping::of_fd(
            self.fd.as_fd(),
            Ring::<T>::mapping_len(offsets, size),
            kind.option_and_offset().1,
        )?;
        Ring::new(mapping, offsets, size)
    }

    /// Lets one `sendto` send more than 32 frames, where the kernel knows that option; `false` where it does not. Needs a
    /// transmit ring of at least that size.
    pub(super) fn raise_tx_budget(&self, frames: u32) -> bool {
        self.set(XDP_MAX_TX_SKB_BUDGET, &frames).is_ok()
    }

    pub(super) fn bind(
        &self,
        ifindex: u32,
        queue: u32,
        flags: u16,
        share: Option<RawFd>,
    ) -> io::Result<()> {
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: flags,
            sxdp_ifindex: ifindex,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: share.map_or(0, |fd| fd as u32),
        };
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the pointer and the length are those of a local.
        checked(
            unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), len) } as isize,
        )
    }

    /// `XDP_OPTIONS`: whether the kernel moves frames without copying.
    pub(super) fn zero_copy(&self) -> io::Result<bool> {
        let options: libc::xdp_options = self.get(libc::XDP_OPTIONS)?;
        Ok(options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
    }

    /// The same socket under another descriptor.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
        })
    }

    pub(super) fn statistics(&self) -> io::Result<PortStatistics> {
        let counts: libc::xdp_statistics = self.get(libc::XDP_STATISTICS)?;
        Ok(PortStatistics {
            rx_dropped: counts.rx_dropped,
            rx_invalid_descs: counts.rx_invalid_descs,
            tx_invalid_descs: counts.tx_invalid_descs,
            rx_ring_full: counts.rx_ring_full,
            rx_fill_ring_empty_descs: counts.rx_fill_ring_empty_descs,
            tx_ring_empty_descs: counts.tx_ring_empty_descs,
        })
    }

    /// Asks the kernel to look at the transmit ring.
    #[inline]
    pub(super) fn wake_tx(&self) -> io::Result<()> {
        // SAFETY: no buffer and no address: the call reads only the descriptor.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                ptr::null(),
                0,
                libc::MSG_DONTWAIT,
                ptr::null(),
                0,
            )
        };
        checked(sent)
    }

    /// Asks the kernel to look at the fill ring; in copy mode only whether the device is there and up.
    #[inline]
    pub(super) fn wake_rx(&self) -> io::Result<()> {
        // SAFETY: no buffer and no address: the call reads only the descriptor.
        let received = unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        checked(received)
    }

    fn set<T: Copy>(&self, option: libc::c_int, value: &T) -> io::Result<()> {
        let len = size_of::<T>() as libc::socklen_t;
        // SAFETY: the pointer and the length are those of `value`, which the kernel only reads.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_XDP,
                option,
                ptr::from_ref(value).cast(),
                len,
            )
        };
        checked(result as isize)
    }

    /// Reads one of the C structures of `if_xdp.h`.
    fn get<T: XdpStruct>(&self, option: libc::c_int) -> io::Result<T> {
        // SAFETY: `XdpStruct` is implemented only for structures of integers, for which zeroes are a valid value.
        let mut value: T = unsafe { std::mem::zeroed() };
        let mut len = size_of::<T>() as libc::socklen_t;
        // SAFETY: the pointers are to locals, and `len` is the size of the first.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_XDP,
                option,
                (&raw mut value).cast(),
                &raw mut len,
            )
        };
        checked(result as isize)?;
        if len as usize != size_of::<T>() {
            // Before Linux 5.4 and 5.9 the structures were shorter.
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!(
                    "the kernel's answer has {len} bytes instead of {}: it is too old",
                    size_of::<T>()
                ),
            ));
        }
        Ok(value)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Structures made of integers only.
trait XdpStruct: Copy {}
impl XdpStruct for libc::xdp_mmap_offsets {}
impl XdpStruct for libc::xdp_options {}
impl XdpStruct for libc::xdp_statistics {}

#[inline]
fn checked(result: isize) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
