//! What other programs say: the kernel over netlink.

use vxgate::netlink::{self, Address, LinkKind, Message, Neighbour, Nexthop, Route};

/// The kinds that the decoders know, and one that none does.
const KINDS: [u16; 11] = [16, 17, 20, 21, 24, 25, 28, 29, 104, 105, 77];

/// Messages and attributes are parts of the datagram, whatever it says of their lengths; every decoder takes what it is
/// given or leaves it, whatever kind the message claims to be.
pub fn netlink(data: &[u8]) {
    let mut taken = 0;
    for message in netlink::messages(data) {
        taken += message.bytes.len();
        assert!(taken <= data.len() && message.payload.len() + 16 == message.bytes.len());
        attributes(message.payload, 0);
        for header in [4, 8, 12, 16] {
            attributes(message.payload.get(header..).unwrap_or_default(), 0);
        }
        decode(&message);
        for kind in KINDS {
            decode(&Message { kind, ..message });
        }
    }
}

fn attributes(bytes: &[u8], depth: u32) {
    let mut taken = 0;
    for (_, value) in netlink::attributes(bytes) {
        taken += value.len();
        assert!(taken <= bytes.len());
        let _ = (
            netlink::u8_from(value),
            netlink::u16_be_from(value),
            netlink::u32_from(value),
            netlink::flag_or_u8(value),
            netlink::ip_from(value),
            netlink::mac_from(value),
            netlink::text_from(value),
        );
        if depth < 3 {
            attributes(value, depth + 1);
        }
    }
}

/// A decoder reads its own kinds only, and only what is there.
fn decode(message: &Message<'_>) {
    let (kind, payload) = (message.kind, message.payload);
    if let Some((exists, link)) = LinkKind::decode(message) {
        assert_eq!(exists, kind == 16);
        assert!(payload.len() >= 16 && payload[0] == 0);
        assert!(link.data.len() + 8 <= payload.len());
        assert!(!(link.elsewhere && link.link.peer.is_some()));
        attributes(&link.data, 0);
    }
    if let Some((exists, address)) = Address::decode(message) {
        assert_eq!(exists, kind == 20);
        let octets = crate::rig::frames::octets(address.local);
        assert!(
            payload[8..]
                .windows(octets.len())
                .any(|bytes| bytes == octets)
        );
    }
    if let Some((exists, route)) = Route::decode(message) {
        assert_eq!(exists, kind == 24);
        assert!(payload.len() >= 12 && route.mtu != Some(0));
        // Contains what is under its own prefix, whatever length that claims to have.
        if let Some(dst) = route.dst {
            assert!(route.contains(dst));
        }
        let _ = (
            route.contains([0; 4].into()),
            route.contains([0; 16].into()),
        );
    }
    if let Some((exists, entry)) = Neighbour::decode(message) {
        assert_eq!(exists, kind == 28);
        assert!(payload.len() >= 12);
        assert_eq!((entry.fdb, entry.flags), (payload[0] == 7, payload[10]));
        let _ = (entry.is_managed(), entry.is_fixed());
    }
    if let Some((exists, nexthop)) = Nexthop::decode(message) {
        assert_eq!(exists, kind == 104);
        assert!(nexthop.id != 0 && nexthop.group.len() * 8 <= payload.len());
    }
}
