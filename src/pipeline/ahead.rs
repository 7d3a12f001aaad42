//! Frames of a batch on their way into the caches, a few in front of the one that is read.
//!
//! A frame that the device wrote long ago is waited for as long as a hundred other instructions take. A processor fetches a dozen
//! lines at a time: asked for all together at the start, they would come while nothing is done, and be there before anybody looks.
//! So a dozen is asked for at the start, and one more with each frame that is read: memory and work go on side by side.

use crate::port::{Batch, Frame, Umem};

/// How many frames in front.
const AHEAD: usize = 12;

/// The frames of a batch from front to back. Each is asked for before it comes: the lines at these distances from its first byte.
#[inline(always)]
pub(super) fn each<'a, const N: usize>(
    umem: &'a Umem,
    batch: &'a Batch,
    lines: [isize; N],
) -> impl Iterator<Item = &'a Frame> {
    let ask = move |frame: &Frame| {
        for line in lines {
            umem.prefetch(frame, line);
        }
    };
    let mut coming = batch.iter();
    for frame in coming.by_ref().take(AHEAD) {
        ask(frame);
    }
    batch.iter().inspect(move |_| {
        if let Some(frame) = coming.next() {
            ask(frame);
        }
    })
}
