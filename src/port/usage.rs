//! How hard a port was used lately.

/// What has been seen of a port since it was last asked, which is once a turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// The most entries that waited in the receive ring.
    pub rx_waiting: u32,
    /// The most entries that waited in the transmit ring for the kernel.
    pub tx_waiting: u32,
    /// The most entries that the fill ring lacked when it was filled again.
    pub fill_missing: u32,
    /// System calls that moved frames or asked the kernel to.
    pub calls: u32,
}
