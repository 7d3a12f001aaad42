//! Routes with an MTU of their own. A packet that is longer is not sent by them: its sender is told, or it is fragmented.
//!
//! Few nodes have any. Which of those that contain an address is the one that its packets take, only the kernel knows: the
//! narrowest counts, and longer packets are the kernel's.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::FixedState;

use crate::netlink::{Message, Route, attributes, u32_from};

/// `RTA_PRIORITY`, `RTA_TABLE`, and how long what is in front of them is.
const PRIORITY: u16 = 6;
const TABLE: u16 = 15;
const HEADER_LEN: usize = 12;
/// `RTM_F_CLONED`: an exception that the kernel has learned, which goes unheard.
const CLONED: u32 = 0x200;

/// Those that are known.
#[derive(Debug, Default)]
pub(super) struct NarrowRoutes(HashMap<Name, Route, FixedState>);

/// Of several routes with one name there is one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Name {
    ipv4: bool,
    dst: Option<IpAddr>,
    prefix_len: u8,
    tos: u8,
    table: Option<u32>,
    priority: Option<u32>,
}

impl NarrowRoutes {
    /// Hears an announcement of a route.
    pub fn hear(&mut self, message: &Message<'_>) {
        let Some((exists, route)) = Route::decode(message) else {
            return;
        };
        let Some((header, rest)) = message.payload.split_first_chunk::<HEADER_LEN>() else {
            return;
        };
        // struct rtmsg: u8 family, dst_len, src_len, tos, table, protocol, scope, type, u32 flags
        let [_, _, _, tos, _, _, _, _, f0, f1, f2, f3] = *header;
        if u32::from_ne_bytes([f0, f1, f2, f3]) & CLONED != 0 {
            return;
        }
        let number = |wanted: u16| {
            let mut all = attributes(rest);
            let found = all.find(|(number, _)| *number == wanted);
            found.and_then(|(_, value)| u32_from(value))
        };
        let name = Name {
            ipv4: route.ipv4,
            dst: route.dst,
            prefix_len: route.prefix_len,
            tos,
            table: number(TABLE),
            priority: number(PRIORITY),
        };
        if exists && route.mtu.is_some() {
            self.0.insert(name, route);
        } else {
            self.0.remove(&name);
        }
    }

    /// How long packets to an address may be at most, in bytes, as far as routes say.
    pub fn mtu_to(&self, addr: IpAddr) -> Option<u32> {
        let routes = self.0.values().filter(|route| route.contains(addr));
        routes.filter_map(|route| route.mtu).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::RequestBody;

    const NEW: u16 = 24;
    const DEL: u16 = 25;
    const UNICAST: u8 = 1;

    fn announce(routes: &mut NarrowRoutes, kind: u16, last: u8, mtu: Option<u32>, flags: u32) {
        let mut header = [2, 24, 0, 0, 254, 3, 0, UNICAST, 0, 0, 0, 0];
        header[8..].copy_from_slice(&flags.to_ne_bytes());
        let mut body = RequestBody::new(&header)
            .with(1, &[10, 244, last, 0])
            .with(TABLE, &254_u32.to_ne_bytes());
        if let Some(mtu) = mtu {
            let metrics = RequestBody::default().with(2, &mtu.to_ne_bytes());
            body = body.with(8, metrics.as_bytes());
        }
        let payload = body.as_bytes();
        routes.hear(&Message {
            kind,
            flags: 0,
            sequence: 0,
            payload,
            bytes: payload,
        });
    }

    #[test]
    fn a_route_is_narrow_until_it_is_gone_or_another_takes_its_place() {
        let mut routes = NarrowRoutes::default();
        let pod = [10, 244, 1, 14].into();
        assert_eq!(routes.mtu_to(pod), None);
        announce(&mut routes, NEW, 1, Some(1300), 0);
        announce(&mut routes, NEW, 2, Some(1000), 0);
        assert_eq!(routes.mtu_to(pod), Some(1300));
        announce(&mut routes, NEW, 1, Some(1200), 0);
        assert_eq!(routes.mtu_to(pod), Some(1200));
        announce(&mut routes, NEW, 1, None, 0);
        assert_eq!(routes.mtu_to(pod), None);
        announce(&mut routes, NEW, 1, Some(900), CLONED);
        assert_eq!(routes.mtu_to(pod), None);
        announce(&mut routes, NEW, 1, Some(1300), 0);
        announce(&mut routes, DEL, 1, Some(1300), 0);
        assert_eq!(routes.mtu_to(pod), None);
        assert_eq!(routes.mtu_to([10, 244, 2, 1].into()), Some(1000));
    }
}
