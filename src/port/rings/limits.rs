//! What may be sent.

use super::super::umem::Bounds;
use super::super::{Frame, request};

/// The shortest frame that a device sends: an Ethernet header (`ETH_HLEN`).
const FRAME_LEN_MIN: usize = 14;

/// What may be sent.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) bounds: Option<Bounds>,
    pub(super) frame_len_max: usize,
    pub(super) has_requests: bool,
}

impl Limits {
    /// Whether the kernel would take a descriptor of this frame and the device would send it.
    #[inline]
    pub(super) fn allow(&self, frame: &Frame) -> bool {
        let whole = self.bounds.is_none_or(|bounds| {
            let room = frame.addr & (bounds.chunk - 1);
            bounds.holds(frame) && (!self.has_requests || room >= request::LEN as u32)
        });
        whole && frame.len() >= FRAME_LEN_MIN && frame.len() <= self.frame_len_max
    }

    /// The descriptor's options. A request where nobody expects one would wedge the ring.
    #[inline]
    pub(super) fn options(&self, frame: &Frame) -> u32 {
        debug_assert!(self.has_requests || !frame.has_request(), "{frame:?}");
        if self.has_requests && frame.has_request() {
            libc::XDP_TX_METADATA
        } else {
            0
        }
    }
}
