//! What must become of a frame, said a second time: slowly, from the specification, without the gateway's own
//! parsers (but for the hash of a flow, which may be any). Where the two differ, one of them is wrong.

mod decap;
mod encap;
mod inner;
mod trains;

pub use decap::{Delivered, decap, sender};
pub use encap::{Open, encap, may_mean, sent};
pub use inner::{MARK_BITS, carried, carried_by_tags, finish, inner_fields, lifted};
pub use trains::{cut, join, join_on};

use std::net::IpAddr;

use vxgate::table::{Destination, Segment, Vtep, VtepId};
use vxgate::wire::MacAddr;

fn entry(segment: &Segment, mac: MacAddr) -> Option<Destination> {
    let mut entries = segment.fdb.iter();
    entries
        .find(|(known, _)| *known == mac)
        .map(|(_, destination)| destination)
}

/// Every VTEP of a destination.
fn meant(segment: &Segment, destination: Destination) -> Vec<&Vtep> {
    match destination {
        Destination::Vtep(vtep) => vteps(segment, &[vtep]),
        Destination::List(list) => match segment.lists.get(list.0 as usize) {
            Some(list) => vteps(segment, list),
            None => Vec::new(),
        },
        Destination::Group(group) => match segment.groups.get(group.0 as usize) {
            Some(group) => vteps(segment, group.members()),
            None => Vec::new(),
        },
    }
}

/// Those of the numbers that are there.
fn vteps<'a>(segment: &'a Segment, numbers: &[VtepId]) -> Vec<&'a Vtep> {
    let all = numbers.iter();
    all.filter_map(|vtep| segment.vteps.get(vtep.0 as usize))
        .collect()
}

fn ipv4_address(bytes: &[u8]) -> IpAddr {
    let bytes: [u8; 4] = bytes.try_into().expect("4 bytes");
    bytes.into()
}

fn ipv6_address(bytes: &[u8]) -> IpAddr {
    let bytes: [u8; 16] = bytes.try_into().expect("16 bytes");
    bytes.into()
}

/// One bit at a time (RFC 9260 Appendix A).
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 != 0 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

/// Two bytes in network order.
pub fn word(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}
