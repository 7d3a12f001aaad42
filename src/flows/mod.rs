//! Which flows the kernel was seen to carry, and what is known of each: the ground on which a flow may go the direct path.
//!
//! ```text
//!   worker: what it sent, what it delivered ──▶ Lookout ── Sighting, once ──▶ a bounded queue ──▶ Judge ── FlowTable
//!   the pods' devices (`bpf/direct.bpf.c`) ── the same, from the other side ───────────────────▶
//! ```
//!
//! A [`FlowKey`] names a flow by its inner 5-tuple as the pod knows it, the same for both directions. A flow that was
//! translated on its way through the node (a service, a masqueraded address) has another 5-tuple on either side, and is
//! never seen under one key on both.
//!
//! The workers see the two directions of one flow on different queues, hence on different threads. So each has only a
//! [`Lookout`], which tells of a flow once and then holds its peace; who brings both together is the one owner of the
//! [`FlowTable`].
//!
//! Everything is known *of a generation*: when rules, routes or neighbours change, there is another one, and whatever was
//! seen before counts for nothing. While [`Generation::NONE`] holds, nothing counts at all.

mod evidence;
mod judge;
mod key;
mod known;
mod lookout;
mod standing;
mod table;

pub use evidence::{AtPods, Evidence, PodSide, Ways};
pub use judge::{Judge, Promoted, REST_NS, Verdict};
pub use key::{FlowKey, KEY_LEN, Seed, Way};
pub use lookout::{
    Arrival, Departure, Generation, HEADERS_LEN, Lookout, Seen, Sighting, Sightings,
};
pub use standing::{Hitch, Standing};
pub use table::{FlowTable, Slot, WAYS};
