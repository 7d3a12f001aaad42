//! Bytes seen as headers, and headers written as bytes. No I/O, no allocation, no `unsafe`.

mod mac;
mod vni;

pub use mac::MacAddr;
pub use vni::{InvalidVni, Vni};
