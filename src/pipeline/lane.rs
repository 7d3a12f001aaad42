//! Which frames take the lane of superframes: both ways the TAPs beside the veth pair and the sockets.
//!
//! TCP is what hosts make superframes of. All frames of a flow take the same way, so that none overtakes another: the rule
//! looks only at what is the same in all of them, and `takes_tap` in `bpf/vxgate.bpf.c` is the same rule for the other
//! direction.

use crate::wire::ethernet::{self, EthernetHeader};
use crate::wire::ipv4::Ipv4Header;
use crate::wire::ipv6::Ipv6Header;

const TCP: u8 = 6;

/// Whether the frame is TCP right behind an IP header, without a tag, and no fragment.
#[inline]
pub fn takes(frame: &[u8]) -> bool {
    let Some((header, packet)) = EthernetHeader::parse(frame) else {
        return false;
    };
    match header.ether_type() {
        ethernet::IPV4 => Ipv4Header::parse(packet)
            .is_some_and(|ip| ip.version() == 4 && ip.protocol() == TCP && !ip.is_fragment()),
        ethernet::IPV6 => {
            Ipv6Header::parse(packet).is_some_and(|ip| ip.version() == 6 && ip.next_header() == TCP)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    fn tcp(six: bool) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let builder = if six {
            builder.ipv6([0xfd; 16], [0xfe; 16], 64)
        } else {
            builder.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        };
        let mut bytes = Vec::new();
        builder.tcp(1, 2, 3, 64).write(&mut bytes, b"x").unwrap();
        bytes
    }

    #[test]
    fn tcp_of_both_families_takes_it_and_nothing_else() {
        assert!(takes(&tcp(false)) && takes(&tcp(true)));
        // Protocol, version, fragment, EtherType.
        for (six, at, value) in [
            (false, 23, 17),
            (false, 14, 0x65),
            (false, 20, 0x20),
            (false, 21, 1),
            (false, 12, 0x81),
            (true, 20, 17),
            (true, 20, 44),
            (true, 14, 0x40),
            (true, 13, 0),
        ] {
            let mut frame = tcp(six);
            frame[at] = value;
            assert!(!takes(&frame), "{six} {at} {value}");
        }
        assert!(!takes(&tcp(false)[..33]) && !takes(&[]));
    }
}
