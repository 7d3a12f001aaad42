//! The memory that frames live in (UMEM), and the pool of free ones.

/// A frame.
#[derive(Debug)]
pub struct Frame;
/// The memory.
#[derive(Debug)]
pub struct Umem;
