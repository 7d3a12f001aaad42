//! The forwarding database: inner destination address to VTEP.
/// The forwarding database.
#[derive(Debug, Default)]
pub struct Fdb;
