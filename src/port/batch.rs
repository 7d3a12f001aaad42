//! Up to 64 frames on their way through one turn.

/// The most frames a batch holds.
pub const BATCH: usize = 64;

/// A fixed room for [`BATCH`] frames.
#[derive(Debug)]
pub struct Batch;
