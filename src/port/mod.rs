//! Frames, UMEM, rings and ports: the only module that moves frames in and out.
//!
//! # A chunk of the UMEM
//!
//! ```text
//! |<-------------------------- chunk (2048, 4096 or 16384 bytes) --------------------------->|
//! |  room in front (>= 256 when received)        |  frame (len bytes)          |  tailroom    |
//! chunk start                                    ^ Frame::addr
//!                      push(n) moves it left <---+---> pull(n) moves it right
//! ```
//!
//! # The ring of ownership
//!
//! A frame is in exactly one place: pool, fill ring, receive batch, transmit ring, completion ring, and back in the pool.
//! [`Frame`] cannot be cloned or copied; whoever holds one must give it on. One [`Umem`] belongs to one worker and serves
//! all of its ports, so forwarding moves a descriptor and no lock is needed.

use std::io;
use std::os::fd::RawFd;

mod batch;
mod chains;
mod frame;
mod holders;
mod mapping;
mod memory_port;
mod numa;
mod opening;
mod request;
pub mod ring;
mod rings;
mod socket;
mod statistics;
mod tap_port;
mod umem;
mod usage;
mod wait;
mod xsk_port;

pub use batch::{BATCH, Batch};
pub use frame::Frame;
pub use memory_port::MemoryPort;
pub use numa::Near;
pub use opening::{Finishes, OpenError, XskConfig, ZeroCopy};
pub use statistics::{PortStatistics, RxDrops};
pub use tap_port::TapPort;
pub use umem::{ChunkSize, Pages, ROOM, Umem, UmemConfig};
pub use usage::Usage;
pub use wait::{Sleeper, now_ns};
pub use xsk_port::{Link, PortMode, StatisticsHandle, XskPort, takes_chains};

/// A place where frames come in and go out. `XskPort` is an AF_XDP socket on one queue of a device; `MemoryPort` is its
/// twin for tests, with the same rings and the same full and empty conditions; `TapPort` is one queue of a TAP.
pub trait Port {
    /// Takes what has arrived, until the batch is full; returns how many frames it added. A frame that arrived in several
    /// buffers is in one piece here, which is what the memory is for.
    fn receive(&mut self, umem: &mut Umem, batch: &mut Batch) -> usize;

    /// Hands frames to the transmit ring in order and wakes the kernel once. Frames that found no room, be it for one of
    /// their buffers, stay in the batch as a whole, and so do those that this port never sends ([`Self::accepts`] tells them apart); the latter hold up no others.
    /// Returns how many were taken.
    fn transmit(&mut self, batch: &mut Batch) -> usize;

    /// Whether [`Self::transmit`] would find room for as many frames now, of whatever length. Where that cannot be told it is
    /// so, and `transmit` tells.
    fn has_room(&mut self, _frames: usize) -> bool {
        true
    }

    /// Whether the kernel has refused the frame that [`Self::transmit`] left at the front of the batch, and that one alone: those
    /// behind it were not tried, and may be taken when it is gone.
    fn refuses_first(&self) -> bool {
        false
    }

    /// Whether the frame may be sent here at all: at least an Ethernet header, at most the device's MTU and link-layer
    /// headers, inside one chunk. The kernel does not forgive other descriptors, so they never reach it.
    fn accepts(&self, frame: &Frame) -> bool {
        !frame.is_empty()
    }

    /// Whether the device finishes the UDP checksum of the outermost headers, where a frame asks for it
    /// ([`Umem::request_checksum`]). Other ports must not be given such frames.
    fn finishes_checksums(&self) -> bool {
        false
    }

    /// Whether the device was down or gone when the kernel was last asked to send. It is asked again at every
    /// [`Self::transmit`], which takes nothing as long as this holds.
    fn link_down(&self) -> bool {
        false
    }

    /// Moves completed frames from the completion ring to the pool; returns how many.
    fn reclaim(&mut self, umem: &mut Umem) -> usize;

    /// Moves free frames from the pool to the fill ring until it is full or the pool is empty; returns how many.
    fn refill(&mut self, umem: &mut Umem) -> usize;

    /// What has been seen of this port since this was last called.
    fn take_usage(&mut self) -> Usage {
        Usage::default()
    }

    /// What a sleeping worker waits on, where there is such a thing.
    fn poll_fd(&self) -> Option<RawFd>;

    /// The kernel's own counts of this port (`XDP_STATISTICS`).
    ///
    /// # Errors
    /// When the kernel refuses, for instance because the device is gone.
    fn statistics(&self) -> io::Result<PortStatistics>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_can_be_given_its_memory_and_ports() {
        fn movable<T: Send + 'static>() {}
        movable::<Umem>();
        movable::<MemoryPort>();
        movable::<XskPort>();
        movable::<TapPort>();
        movable::<Batch>();
        movable::<Sleeper>();
    }
}
