//! An AF_XDP socket on one queue of a device.
/// The port.
#[derive(Debug)]
pub struct XskPort;
