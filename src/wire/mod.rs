//! Bytes seen as headers, and headers written as bytes. No I/O, no allocation, no `unsafe`.

pub mod checksum;
pub mod ethernet;
pub mod ipv4;
mod mac;
pub mod udp;
pub mod vlan;
mod vni;
pub mod vxlan;

pub use mac::MacAddr;
pub use vni::{InvalidVni, Vni};
