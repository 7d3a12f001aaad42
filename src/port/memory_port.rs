//! The in-memory twin of an AF_XDP port.
/// The twin.
#[derive(Debug)]
pub struct MemoryPort;
