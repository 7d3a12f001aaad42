//! Inner checksums that their sender left for hardware to finish.
//!
//! A veth hands on frames before offloads are done. Their TCP or UDP checksum field then holds the folded sum over the
//! pseudo-header, not inverted, and hardware would add the rest; on the wire such a frame dies. SCTP frames hold zero.
//! Nothing beside the frame tells, so the field itself is the sign:
//!
//! * TCP and UDP: the field equals the pseudo-header's sum. A right checksum does so once in 65,536 frames; it is
//!   computed again and comes out the same. (A frame that was corrupted on its way and looks like this by chance is
//!   made to look sound: the price of the rule.)
//! * UDP: a field of 0 means that there is no checksum, and is left.
//! * SCTP: a field of 0, likewise.
//!
//! Fragments are left alone, since their checksum is over a packet that is not here; so are frames with an IPv6 routing
//! header, whose pseudo-header has an address that is elsewhere. Padding behind the IP packet is not summed.

use crate::wire::ipv4::Ipv4Header;
use crate::wire::ipv6::Ipv6Header;
use crate::wire::layers::{Layers, Network, Transport};
use crate::wire::udp::{self, UdpHeader};
use crate::wire::{checksum, crc32c, tcp};

const SCTP: u8 = 132;

/// Whether the sender left the checksum of what the frame carries to hardware. `layers` are the frame's.
#[inline(always)]
pub fn is_left(frame: &[u8], layers: &Layers) -> bool {
    // By reference: copying what was just written field by field would wait for all of the stores.
    let Some(transport) = &layers.transport else {
        return false;
    };
    if transport.protocol == SCTP {
        return sctp_is_left(frame, *transport);
    }
    Sum::of(frame, transport).is_some_and(|sum| sum.is_left(frame, layers, transport))
}

/// Finishes the checksum of what the frame carries, if it was left unfinished; whether it was. `layers` are the frame's.
#[inline(always)]
pub fn complete(frame: &mut [u8], layers: &Layers) -> bool {
    let left = is_left(frame, layers);
    if left && let Some(transport) = layers.transport {
        finish(frame, transport);
    }
    left
}

/// Rare, and a function of its own: `transport` by value, because what a function is given by reference cannot stay in
/// registers anywhere.
#[inline(never)]
fn finish(frame: &mut [u8], transport: Transport) {
    if transport.protocol == SCTP {
        return finish_sctp(frame, &transport);
    }
    if let Some(sum) = Sum::of(frame, &transport) {
        sum.finish(frame, &transport);
    }
}

/// The one's complement checksum of a TCP or UDP segment.
struct Sum {
    /// Where its field is, in bytes from the start of the transport header.
    at: usize,
    /// The bytes that it covers, which a UDP header may say to be less than the packet's.
    len: usize,
}

impl Sum {
    #[inline(always)]
    fn of(frame: &[u8], transport: &Transport) -> Option<Self> {
        match transport.protocol {
            tcp::PROTOCOL if transport.len >= tcp::LEN => Some(Self {
                at: tcp::CHECKSUM_OFFSET,
                len: transport.len,
            }),
            udp::PROTOCOL => {
                let header = UdpHeader::parse(segment(frame, transport)?)?;
                let sound = header.checksum() != 0
                    && header.len() >= udp::LEN
                    && header.len() <= transport.len;
                sound.then(|| Self {
                    at: udp::CHECKSUM_OFFSET,
                    len: header.len(),
                })
            }
            _ => None,
        }
    }

    /// Whether the field holds the pseudo-header's sum.
    #[inline(always)]
    fn is_left(&self, frame: &[u8], layers: &Layers, transport: &Transport) -> bool {
        let field = frame
            .get(transport.offset + self.at..)
            .and_then(<[u8]>::first_chunk::<2>);
        let pseudo = pseudo_sum(frame, layers, transport, self.len);
        match (field, pseudo) {
            (Some(field), Some(pseudo)) => checksum::is_fold(u16::from_be_bytes(*field), pseudo),
            _ => false,
        }
    }

    /// The sum over all of the segment, field included, is the whole sum.
    fn finish(&self, frame: &mut [u8], transport: &Transport) {
        let Some(segment) = segment_mut(frame, transport, self.len) else {
            return;
        };
        let mut finished = checksum::finish(checksum::sum(segment));
        if transport.protocol == udp::PROTOCOL {
            finished = checksum::udp_field(finished);
        }
        if let Some(field) = segment
            .get_mut(self.at..)
            .and_then(<[u8]>::first_chunk_mut::<2>)
        {
            *field = finished.to_be_bytes();
        }
    }
}

#[inline(never)]
fn sctp_is_left(frame: &[u8], transport: Transport) -> bool {
    let header = segment(frame, &transport).and_then(<[u8]>::first_chunk::<12>);
    header.is_some_and(|header| header[8..] == [0; 4])
}

fn finish_sctp(frame: &mut [u8], transport: &Transport) {
    let segment = segment_mut(frame, transport, transport.len);
    let Some((header, chunks)) = segment.and_then(|bytes| bytes.split_first_chunk_mut::<12>())
    else {
        return;
    };
    let crc = crc32c::crc32c([&header[..], chunks]);
    header[8..].copy_from_slice(&crc.to_le_bytes());
}

/// Over the pseudo-header; not folded, and of IPv4 addresses as a whole, not of their halves.
#[inline(always)]
fn pseudo_sum(frame: &[u8], layers: &Layers, transport: &Transport, len: usize) -> Option<u64> {
    let len = u16::try_from(len).ok()?;
    let network = frame.get(layers.place.offset..)?;
    match layers.place.network {
        Network::Ipv4 => {
            let header = Ipv4Header::parse(network)?;
            let addresses = [header.source(), header.destination()];
            let [source, destination] = addresses.map(|addr| u64::from(addr.to_bits()));
            Some(source + destination + u64::from(transport.protocol) + u64::from(len))
        }
        Network::Ipv6 if transport.direct => {
            let header = Ipv6Header::parse(network)?;
            let (source, destination) = (header.source(), header.destination());
            let sum = checksum::pseudo_ipv6(source, destination, transport.protocol, len);
            Some(u64::from(sum))
        }
        _ => None,
    }
}

#[inline]
fn segment<'a>(frame: &'a [u8], transport: &Transport) -> Option<&'a [u8]> {
    frame.get(transport.offset..)?.get(..transport.len)
}

#[inline]
fn segment_mut<'a>(frame: &'a mut [u8], transport: &Transport, len: usize) -> Option<&'a mut [u8]> {
    frame.get_mut(transport.offset..)?.get_mut(..len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{PacketBuilder, VlanId};

    const V4: ([u8; 4], [u8; 4]) = ([10, 244, 0, 3], [10, 244, 1, 9]);
    const V6: ([u8; 16], [u8; 16]) = ([0xfd; 16], [0xfc; 16]);
    const PAYLOAD: &[u8] = b"an odd number of bytes!";

    fn completed(frame: &mut [u8]) -> bool {
        let layers = Layers::parse(frame).unwrap();
        complete(frame, &layers)
    }

    /// Frames with right checksums (etherparse computes them), and where their checksum field is.
    fn finished() -> Vec<(&'static str, Vec<u8>, usize)> {
        let mut frames = Vec::new();
        let eth = || PacketBuilder::ethernet2([2; 6], [4; 6]);
        let vid = |n| VlanId::try_new(n).unwrap();
        let mut add = |name, bytes: Vec<u8>, at| frames.push((name, bytes, at));
        let tcp = |ip: etherparse::PacketBuilderStep<etherparse::IpHeaders>| {
            let mut bytes = Vec::new();
            ip.tcp(1000, 80, 7, 64000)
                .write(&mut bytes, PAYLOAD)
                .unwrap();
            bytes
        };
        let udp = |ip: etherparse::PacketBuilderStep<etherparse::IpHeaders>| {
            let mut bytes = Vec::new();
            ip.udp(1000, 53).write(&mut bytes, PAYLOAD).unwrap();
            bytes
        };
        add("tcp4", tcp(eth().ipv4(V4.0, V4.1, 64)), 34 + 16);
        add("udp4", udp(eth().ipv4(V4.0, V4.1, 64)), 34 + 6);
        add("tcp6", tcp(eth().ipv6(V6.0, V6.1, 64)), 54 + 16);
        add("udp6", udp(eth().ipv6(V6.0, V6.1, 64)), 54 + 6);
        add(
            "tagged tcp4",
            tcp(eth().single_vlan(vid(1)).ipv4(V4.0, V4.1, 64)),
            38 + 16,
        );
        add(
            "double tagged udp6",
            udp(eth().double_vlan(vid(1), vid(2)).ipv6(V6.0, V6.1, 64)),
            62 + 6,
        );
        frames
    }

    /// The frame as its sender leaves it to hardware.
    fn unfinished(frame: &[u8], at: usize) -> Vec<u8> {
        let mut frame = frame.to_vec();
        let layers = Layers::parse(&frame).unwrap();
        let transport = layers.transport.unwrap();
        let pseudo = pseudo_sum(&frame, &layers, &transport, transport.len).unwrap();
        let sum = (pseudo >> 16) as u32 + (pseudo & 0xffff) as u32;
        frame[at..at + 2].copy_from_slice(&checksum::fold(sum).to_be_bytes());
        frame
    }

    #[test]
    fn f05_what_was_left_unfinished_is_finished_as_an_independent_parser_computes_it() {
        for (name, right, at) in finished() {
            let mut frame = unfinished(&right, at);
            assert_ne!(frame, right);
            assert!(completed(&mut frame), "{name}");
            assert_eq!(frame, right, "{name}");
        }
    }

    #[test]
    fn f05_a_finished_checksum_is_left() {
        for (name, right, _) in finished() {
            let mut frame = right.clone();
            assert!(!completed(&mut frame), "{name}");
            assert_eq!(frame, right, "{name}");
        }
    }

    #[test]
    fn f05_a_wrong_checksum_stays_wrong() {
        for (name, mut frame, at) in finished() {
            frame[at] ^= 0x55;
            let before = frame.clone();
            assert!(!completed(&mut frame), "{name}");
            assert_eq!(frame, before);
        }
    }

    #[test]
    fn f04_padding_behind_the_ip_packet_is_not_summed() {
        for (name, right, at) in finished() {
            let mut frame = unfinished(&right, at);
            frame.extend([0xff; 17]);
            assert!(completed(&mut frame), "{name}");
            assert_eq!(frame[..right.len()], right[..], "{name}");
            assert_eq!(frame[right.len()..], [0xff; 17]);
        }
    }

    #[test]
    fn f05_udp_without_a_checksum_stays_without() {
        for (_, mut frame, at) in finished()
            .into_iter()
            .filter(|(name, ..)| name.contains("udp"))
        {
            frame[at..at + 2].copy_from_slice(&[0, 0]);
            assert!(!completed(&mut frame));
            assert_eq!(frame[at..at + 2], [0, 0]);
        }
    }

    #[test]
    fn f05_a_computed_zero_becomes_ffff_in_udp() {
        let (_, right, at) = finished().swap_remove(1);
        let mut frame = unfinished(&right, at);
        let checksum = u16::from_be_bytes([right[at], right[at + 1]]);
        // The payload's first word takes up what is missing from an all-ones sum.
        let word = u16::from_be_bytes([frame[42], frame[43]]);
        let word = checksum::fold(u32::from(word) + u32::from(checksum));
        frame[42..44].copy_from_slice(&word.to_be_bytes());
        assert!(completed(&mut frame));
        assert_eq!(frame[at..at + 2], [0xff, 0xff]);
    }

    #[test]
    fn f05_fragments_are_never_touched() {
        for (flags, low) in [(0x20, 0), (0x20, 9), (0, 9)] {
            let (_, right, at) = finished().swap_remove(0);
            let mut frame = unfinished(&right, at);
            (frame[20], frame[21]) = (flags, low);
            let before = frame.clone();
            assert!(!completed(&mut frame));
            assert_eq!(frame, before);
        }
    }

    #[test]
    fn f05_a_udp_length_beyond_the_ip_packet_is_not_followed() {
        let (_, right, at) = finished().swap_remove(1);
        for len in [0u16, 7, 32, 0xffff] {
            let mut frame = unfinished(&right, at);
            frame[38..40].copy_from_slice(&len.to_be_bytes());
            assert!(!completed(&mut frame));
        }
    }

    #[test]
    fn f05_sctp_gets_its_crc32c() {
        let mut frame = Vec::new();
        let ip = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(V4.0, V4.1, 64);
        let sctp = [
            &[0x0b, 0x59, 0x0b, 0x59, 0, 0, 0x0e, 0x50, 0, 0, 0, 0][..],
            &[0xa5; 20],
        ]
        .concat();
        ip.write(&mut frame, etherparse::IpNumber(132), &sctp)
            .unwrap();
        assert!(completed(&mut frame));
        let crc = crc32c::crc32c([&sctp[..]]);
        assert_eq!(frame[42..46], crc.to_le_bytes());
        assert!(!completed(&mut frame), "once");
    }
}
