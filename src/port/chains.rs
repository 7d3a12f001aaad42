//! Frames that take several buffers (`XDP_USE_SG`, Linux 6.6).
//!
//! ```text
//!   as it arrives    | room |  3840 bytes  |     | room |  3840 bytes  |     | room |  1342 bytes  |       three chunks
//!                              CONTD                        CONTD                     (the last)
//!   as it is held    | room |  3840 bytes  |  3840 bytes      |  1342 bytes   |          free         |    one chunk
//!   as it leaves     | |<---- buffer 1 --->|<---- buffer 2 --->|<--- buffer 3 --->|
//! ```
//!
//! The kernel takes no buffer larger than a page, so that a long frame comes in several and has to go in several. Between
//! the two it lies in one piece: chunks of such a [`super::Umem`] are four buffers long, of which the fill ring gets the
//! first, and what arrives in further chunks is copied behind it. So a frame stays one [`Frame`] with one owner, [`Umem::bytes`]
//! is all of it, and nothing outside of `port` knows of chains: checksums are finished and verified, copies flooded, marks
//! carried and lengths judged as of any other frame.
//!
//! WHY: the copy (5.2 of 9 KB, out of a cache that the kernel has just written) saves a second way through each function
//! that looks at bytes, and most of it is no loss: outer UDP checksums, which flannel's devices have, read those bytes anyway.
//! Frames of one buffer are not copied, and ports of other memory run none of this.

use std::mem;

use super::umem::Bounds;
use super::{Frame, Umem};

/// What a port remembers of its chains.
#[derive(Debug, Default)]
pub(super) struct Chains {
    coming: Coming,
    /// By chunk: how many completions are still to come for a chain. 0 for all others, which have one.
    due: Vec<u8>,
    /// Completions to come beyond one a frame.
    surplus: usize,
}

/// What the next received buffer belongs to.
#[derive(Debug, Default)]
enum Coming {
    /// A new frame.
    #[default]
    Nothing,
    /// This one. Empty when a buffer of it could not be had.
    Frame(Frame),
    /// One whose first buffer was refused.
    Lost,
}

impl Chains {
    /// Makes room for all chunks at once: nothing is allocated on the path.
    #[inline]
    pub(super) fn cover(&mut self, bounds: Bounds) {
        if bounds.has_chains() && self.due.is_empty() {
            self.begin(bounds);
        }
    }

    /// Before a port's first frame, and never again: the one thing that `tests/panic_free.rs` passes over.
    #[cold]
    #[inline(never)]
    fn begin(&mut self, bounds: Bounds) {
        let chunks = (bounds.area_len / u64::from(bounds.chunk)) as usize;
        self.due.resize(chunks, 0);
    }

    /// Takes the next received buffer (none, when its address was refused), and whether `more` of its frame follow. Returns
    /// the frame that it completes. That is empty where a buffer is missing or it does not fit into a chunk, and
    /// dies of it like any other without an Ethernet header.
    #[inline]
    pub(super) fn gather(
        &mut self,
        umem: &mut Umem,
        part: Option<Frame>,
        more: bool,
    ) -> Option<Frame> {
        let whole = match (mem::take(&mut self.coming), part) {
            (Coming::Nothing, first) => first,
            (Coming::Frame(frame), part) => Some(join(umem, frame, part)),
            (Coming::Lost, part) => {
                if let Some(part) = part {
                    umem.release(part);
                }
                None
            }
        };
        if !more {
            return whole;
        }
        self.coming = whole.map_or(Coming::Lost, Coming::Frame);
        None
    }

    /// Notes that the frame is sent in so many buffers.
    #[inline]
    pub(super) fn sent(&mut self, bounds: Bounds, frame: &Frame, buffers: u32) {
        if buffers > 1
            && let Some(due) = self.due.get_mut(bounds.index(frame.addr))
        {
            // Four at most.
            *due = buffers as u8;
            self.surplus += buffers as usize - 1;
        }
    }

    /// Notes a completion at this address; whether it is the frame's last.
    #[inline]
    pub(super) fn completed(&mut self, bounds: Bounds, addr: u32) -> bool {
        let Some(due) = self.due.get_mut(bounds.index(addr)) else {
            return true;
        };
        if *due <= 1 {
            *due = 0;
            return true;
        }
        *due -= 1;
        self.surplus -= 1;
        false
    }

    /// Frames held here.
    pub(super) fn held(&self) -> usize {
        usize::from(matches!(self.coming, Coming::Frame(_)))
    }

    /// Entries in the transmit and completion rings beyond one a frame.
    pub(super) fn surplus(&self) -> usize {
        self.surplus
    }
}

/// The frame with the next part behind it; empty from the first part on that is missing or finds no room.
fn join(umem: &mut Umem, mut frame: Frame, part: Option<Frame>) -> Frame {
    let Some(part) = part else {
        umem.truncate(&mut frame, 0);
        return frame;
    };
    if frame.is_empty() || !umem.append(&mut frame, &part) {
        umem.truncate(&mut frame, 0);
    }
    umem.release(part);
    frame
}

/// The buffers of a frame, one after the other, each with whether another follows.
#[derive(Debug, Default)]
pub(super) struct Parts {
    addr: u32,
    left: u32,
}

impl Parts {
    /// Of this frame.
    #[inline]
    pub(super) fn of(frame: &Frame) -> Self {
        Self {
            addr: frame.addr,
            left: frame.bytes(),
        }
    }

    /// Address, length, and whether another follows.
    #[inline]
    pub(super) fn next(&mut self, bounds: Bounds) -> Option<(u32, u32, bool)> {
        if self.left == 0 {
            return None;
        }
        let addr = self.addr;
        let len = self.left.min(bounds.buffer - (addr & (bounds.buffer - 1)));
        self.left -= len;
        // Wraps only behind the area's last byte.
        self.addr = addr.wrapping_add(len);
        Some((addr, len, self.left > 0))
    }
}
