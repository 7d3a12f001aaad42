//! Neighbours, and FDB entries, which share their messages (`linux/neighbour.h`).

use std::net::IpAddr;

use super::attribute::{attributes, family_of, ip_from, mac_from, u8_from, u16_be_from, u32_from};
use super::message::Message;
use super::{Error, RequestBody, Socket};
use crate::wire::MacAddr;

const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NDA_DST: u16 = 1;
const NDA_PROTOCOL: u16 = 12;
const NDA_FLAGS_EXT: u16 = 15;
const AF_BRIDGE: u8 = 7;
const RTN_UNICAST: u8 = 1;

/// `NUD_*`: what the kernel knows about an entry, one bit each.
pub mod neighbour_state {
    /// Being resolved.
    pub const INCOMPLETE: u16 = 0x01;
    /// Confirmed lately.
    pub const REACHABLE: u16 = 0x02;
    /// Not confirmed lately.
    pub const STALE: u16 = 0x04;
    /// Could not be resolved.
    pub const FAILED: u16 = 0x20;
    /// Needs no resolution.
    pub const NOARP: u16 = 0x40;
    /// Written by someone, never forgotten.
    pub const PERMANENT: u16 = 0x80;
}

/// `NTF_*` and, above 16 bits, `NTF_EXT_*`.
pub mod neighbour_flag {
    /// Resolve now.
    pub const USE: u8 = 0x01;
    /// An entry of the device itself, not of the bridge above it.
    pub const SELF: u8 = 0x02;
    /// Written by a control plane.
    pub const EXT_LEARNED: u8 = 0x10;
    /// A device forwards by it, without the kernel.
    pub const OFFLOADED: u8 = 0x20;
    /// Stays where it is, wherever its frames come from.
    pub const STICKY: u8 = 0x40;
    /// A router's.
    pub const ROUTER: u8 = 0x80;
    /// In `flags_ext`: the kernel resolves and refreshes it by itself (Linux 5.16).
    pub const EXT_MANAGED: u32 = 0x01;
}

/// A neighbour or an FDB entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// True for an FDB entry (`AF_BRIDGE`).
    pub fdb: bool,
    /// The device.
    pub ifindex: u32,
    /// [`neighbour_state`] bits.
    pub state: u16,
    /// [`neighbour_flag`] bits.
    pub flags: u8,
    /// `NDA_FLAGS_EXT`.
    pub flags_ext: u32,
    /// `NDA_LLADDR`, when it has Ethernet's length.
    pub mac: Option<MacAddr>,
    /// `NDA_DST`: the neighbour's address, or where an FDB entry points.
    pub dst: Option<IpAddr>,
    /// `NDA_PORT`: the entry's own UDP port.
    pub port: Option<u16>,
    /// `NDA_VNI`: the entry's own VNI, 32 bits as sent.
    pub vni: Option<u32>,
    /// `NDA_SRC_VNI`: only on devices with many VNIs.
    pub src_vni: Option<u32>,
    /// `NDA_IFINDEX`: the device that the entry's frames must leave from.
    pub via_ifindex: Option<u32>,
    /// `NDA_NH_ID`: a nexthop object instead of `dst`.
    pub nexthop: Option<u32>,
    /// `NDA_PROTOCOL`: who wrote it (`RTPROT_*`), 0 when nobody said.
    pub protocol: u8,
}

impl Neighbour {
    /// Reads an `RTM_NEWNEIGH` (true) or `RTM_DELNEIGH` (false).
    pub fn decode(message: &Message<'_>) -> Option<(bool, Self)> {
        let exists = match message.kind {
            RTM_NEWNEIGH => true,
            RTM_DELNEIGH => false,
            _ => return None,
        };
        // struct ndmsg: u8 family, u8 pad, u16 pad, i32 index, u16 state, u8 flags, u8 type
        let [family, _, _, _, i0, i1, i2, i3, s0, s1, flags, _] = *message.payload.first_chunk()?;
        let mut entry = Self {
            fdb: family == AF_BRIDGE,
            ifindex: u32::from_ne_bytes([i0, i1, i2, i3]),
            state: u16::from_ne_bytes([s0, s1]),
            flags,
            flags_ext: 0,
            mac: None,
            dst: None,
            port: None,
            vni: None,
            src_vni: None,
            via_ifindex: None,
            nexthop: None,
            protocol: 0,
        };
        for (number, value) in attributes(message.payload.get(12..)?) {
            match number {
                NDA_DST => entry.dst = ip_from(value),
                2 => entry.mac = mac_from(value),
                6 => entry.port = u16_be_from(value),
                7 => entry.vni = u32_from(value),
                8 => entry.via_ifindex = u32_from(value),
                11 => entry.src_vni = u32_from(value),
                NDA_PROTOCOL => entry.protocol = u8_from(value).unwrap_or(0),
                13 => entry.nexthop = u32_from(value),
                NDA_FLAGS_EXT => entry.flags_ext = u32_from(value).unwrap_or(0),
                _ => {}
            }
        }
        Some((exists, entry))
    }

    /// The kernel resolves and refreshes it by itself.
    pub fn is_managed(&self) -> bool {
        self.flags_ext & neighbour_flag::EXT_MANAGED != 0
    }

    /// Somebody wrote it, and the kernel does not resolve it.
    pub fn is_fixed(&self) -> bool {
        self.state & (neighbour_state::PERMANENT | neighbour_state::NOARP) != 0
    }
}

impl Socket {
    /// Asks the kernel to resolve `addr` on a link now, and to keep it resolved when it can (`NTF_EXT_MANAGED`; a kernel
    /// before 5.16 does not know the flag and resolves once). With `exclusive` an existing entry is refused (`EEXIST`)
    /// and stays as it is. `flags` are those of the existing entry which it must not lose.
    ///
    /// Never for a permanent entry: the kernel would make it an ordinary one (`__neigh_update`).
    pub fn resolve_neighbour(
        &mut self,
        ifindex: u32,
        addr: IpAddr,
        exclusive: bool,
        flags: u8,
        protocol: u8,
    ) -> Result<(), Error> {
        let body = neighbour_request(
            ifindex,
            addr,
            neighbour_flag::USE | (flags & neighbour_flag::EXT_LEARNED),
        )
        .with(NDA_FLAGS_EXT, &neighbour_flag::EXT_MANAGED.to_ne_bytes())
        .with(NDA_PROTOCOL, &[protocol]);
        let flags = NLM_F_CREATE | if exclusive { NLM_F_EXCL } else { 0 };
        self.exchange(RTM_NEWNEIGH, flags, body.as_bytes(), |_| {})
    }

    /// Takes [`Socket::resolve_neighbour`] back: the entry becomes an ordinary one that ages and vanishes.
    pub fn release_neighbour(
        &mut self,
        ifindex: u32,
        addr: IpAddr,
        flags: u8,
    ) -> Result<(), Error> {
        let body = neighbour_request(
            ifindex,
            addr,
            neighbour_flag::USE | (flags & neighbour_flag::EXT_LEARNED),
        );
        self.exchange(RTM_NEWNEIGH, 0, body.as_bytes(), |_| {})
    }
}

/// Neighbours of one link, or with `fdb` its FDB (which includes the entries of a bridge above it).
pub fn neighbours(socket: &mut Socket, ifindex: u32, fdb: bool) -> Result<Vec<Neighbour>, Error> {
    let body = dump_request(ifindex, fdb);
    socket.dump_with(RTM_GETNEIGH, body.as_bytes(), |message| {
        asked_for(message, ifindex, fdb)
    })
}

/// The FDB of one link, as [`neighbours`] has it, added entry by entry to what `empty` makes: a list of it would be many times as
/// long as what most keep of it.
pub fn fdb_into<T>(
    socket: &mut Socket,
    ifindex: u32,
    empty: impl Fn() -> T,
    mut add: impl FnMut(&mut T, &Neighbour),
) -> Result<T, Error> {
    let body = dump_request(ifindex, true);
    socket.dump_into(RTM_GETNEIGH, body.as_bytes(), empty, |all, message| {
        if let Some(entry) = asked_for(message, ifindex, true) {
            add(all, &entry);
        }
    })
}

fn dump_request(ifindex: u32, fdb: bool) -> RequestBody {
    // The FDB takes the filter in the header, the neighbour tables as an attribute.
    if fdb {
        let [a, b, c, d] = ifindex.to_ne_bytes();
        RequestBody::new(&[AF_BRIDGE, 0, 0, 0, a, b, c, d, 0, 0, 0, 0])
    } else {
        RequestBody::new(&[0; 12]).with(8, &ifindex.to_ne_bytes())
    }
}

/// A kernel without strict filters tells more than was asked.
fn asked_for(message: &Message<'_>, ifindex: u32, fdb: bool) -> Option<Neighbour> {
    let (exists, entry) = Neighbour::decode(message)?;
    (exists && entry.ifindex == ifindex && entry.fdb == fdb).then_some(entry)
}

fn neighbour_request(ifindex: u32, addr: IpAddr, flags: u8) -> RequestBody {
    let [a, b, c, d] = ifindex.to_ne_bytes();
    RequestBody::new(&[
        family_of(addr),
        0,
        0,
        0,
        a,
        b,
        c,
        d,
        0,
        0,
        flags,
        RTN_UNICAST,
    ])
    .with_ip(NDA_DST, addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(kind: u16, payload: &[u8]) -> Option<(bool, Neighbour)> {
        Neighbour::decode(&Message {
            kind,
            flags: 0,
            sequence: 0,
            payload,
            bytes: payload,
        })
    }

    #[test]
    fn an_fdb_entry_with_its_own_port_vni_and_device() {
        let body = RequestBody::new(&[7, 0, 0, 0, 9, 0, 0, 0, 0xc0, 0, 2, 0])
            .with(2, &[2, 0, 0, 0, 0, 6])
            .with(1, &[10, 9, 0, 16])
            .with(6, &4790u16.to_be_bytes())
            .with(7, &77u32.to_ne_bytes())
            .with(8, &3u32.to_ne_bytes())
            .with(77, &[1]);
        let (exists, entry) = decode(28, body.as_bytes()).unwrap();
        assert!(exists && entry.fdb);
        assert_eq!((entry.ifindex, entry.state, entry.flags), (9, 0xc0, 2));
        assert_eq!(
            (entry.port, entry.vni, entry.via_ifindex),
            (Some(4790), Some(77), Some(3))
        );
        assert_eq!(entry.dst, Some("10.9.0.16".parse().unwrap()));
    }

    #[test]
    fn a_failed_neighbour_has_no_mac() {
        let body =
            RequestBody::new(&[2, 0, 0, 0, 9, 0, 0, 0, 0x20, 0, 0, 1]).with(1, &[10, 51, 0, 0]);
        let (_, entry) = decode(28, body.as_bytes()).unwrap();
        assert_eq!(
            (entry.fdb, entry.mac, entry.state),
            (false, None, neighbour_state::FAILED)
        );
        assert!(decode(28, &[0; 11]).is_none());
        assert!(decode(16, body.as_bytes()).is_none());
    }
}
