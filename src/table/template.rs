//! The outer headers of a VTEP, prebuilt.

/// Ethernet, IPv4, UDP and VXLAN headers together, in bytes (RFC 7348 §5).
pub const OUTER_IPV4_LEN: usize = 14 + 20 + 8 + 8;

/// Prebuilt outer headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncapTemplate;

/// How to reach a VTEP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextHop {
    /// With these headers.
    Resolved(EncapTemplate),
}
