//! Bytes seen as headers, and headers written as bytes. No I/O, no allocation, no `unsafe`.
//!
//! | file | RFC | fields | checked | left |
//! |---|---|---|---|---|
//! | [`ethernet`] | IEEE 802.3 | addresses, EtherType | length | 802.3 length fields: an EtherType like any other |
//! | [`vlan`] | IEEE 802.1Q, 802.1ad | skipped, at most two | length | PCP, DEI and VID are carried, not read |
//! | [`ipv4`] | 791, 2474, 3168 | all but options | length of the fixed part | options; version and lengths are the caller's to judge |
//! | [`ipv6`] | 8200, 4302 | fixed header; extension headers skipped | length, at most 8 extensions | options within extensions; jumbograms (RFC 2675) |
//! | [`udp`] | 768 | all | length of the header | the length field is the caller's to judge |
//! | [`vxlan`] | 7348 §5 | I flag, VNI, reserved bits | length | GPE and remote checksum bits: reserved here |
//! | [`gbp`] | draft-smith-vxlan-group-policy | G, D, A, group policy ID | – | – |
//! | [`checksum`] | 1071, 1624 | – | – | – |
//! | [`crc32c`](mod@crc32c) | 9260 App. A | – | – | – |
//! | [`layers`] | – | offsets of an inner frame's headers | lengths against the frame | headers within tunnels, MPLS, PPPoE |
//! | [`entropy`] | 7348 §5, 6335 | hash of the inner flow | – | IPv6 flow label |
//!
//! # No panic on any bytes
//!
//! A `parse` function judges that the header's fixed part is there, and returns `None` when it is not; the view it gives
//! cannot panic. Everything variable (offsets, lengths) goes through `get`, `first_chunk` and their like. Writing
//! functions leave a slice that is too short as it is.

pub mod checksum;
pub mod crc32c;
pub mod entropy;
pub mod ethernet;
pub mod gbp;
pub mod ipv4;
pub mod ipv6;
pub mod layers;
mod mac;
pub mod udp;
pub mod vlan;
mod vni;
pub mod vxlan;

pub use mac::MacAddr;
pub use vni::{InvalidVni, Vni};
