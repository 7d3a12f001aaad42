//! The outer UDP source port: a hash of the inner flow (RFC 7348 §5), so that the underlay and the receiver's queues
//! spread flows and keep the order within each.
//!
//! | inner frame | what is hashed |
//! |---|---|
//! | TCP, UDP or SCTP over IPv4 or IPv6 | addresses, ports, protocol |
//! | a fragment (every one, the first too, so that a packet keeps one port), another protocol | addresses |
//! | no IP | Ethernet addresses and EtherType |
//!
//! The hash is the same in every worker and after a restart: no flow changes its port while both ends live.

use super::layers::{Layers, Network};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// A hash of the flow that `frame` belongs to; `layers` are its own. All 32 bits are well mixed.
#[inline(always)]
pub fn flow_hash(frame: &[u8], layers: &Layers) -> u32 {
    let network = frame.get(layers.place.offset..).unwrap_or(&[]);
    let addresses = match layers.place.network {
        Network::Ipv4 => network
            .get(12..)
            .and_then(<[u8]>::first_chunk)
            .map(|bytes: &[u8; 8]| u64::from_be_bytes(*bytes)),
        Network::Ipv6 => network
            .get(8..)
            .and_then(<[u8]>::first_chunk)
            .map(|bytes: &[u8; 32]| {
                let (words, _) = bytes.as_chunks::<8>();
                words
                    .iter()
                    .fold(0, |hash, word| mix(hash, u64::from_be_bytes(*word)))
            }),
        Network::Cut | Network::Other => None,
    };
    let hash = match addresses {
        Some(addresses) => mix(addresses, ports(frame, layers)),
        None => ethernet(frame),
    };
    // The second round makes every bit of the input reach the upper half, which is all that `spread` looks at.
    (mix(hash, 0) >> 32) as u32
}

/// A port of the range from `low` to `high`, both included (`udp_flow_src_port` of the kernel, which leaves out the
/// highest).
#[inline]
pub fn spread(hash: u32, low: u16, high: u16) -> u16 {
    let count = u64::from(high.saturating_sub(low)) + 1;
    low + ((u64::from(hash) * count) >> 32) as u16
}

/// Ports and protocol, or 0 where only the addresses count.
#[inline(always)]
fn ports(frame: &[u8], layers: &Layers) -> u64 {
    let Some(transport) = &layers.transport else {
        return 0;
    };
    if !matches!(transport.protocol, TCP | UDP | SCTP) || transport.len < 4 {
        return 0;
    }
    let ports = frame
        .get(transport.offset..)
        .and_then(<[u8]>::first_chunk::<4>);
    ports.map_or(0, |ports| {
        u64::from(u32::from_be_bytes(*ports)) << 8 | u64::from(transport.protocol)
    })
}

#[inline(never)]
fn ethernet(frame: &[u8]) -> u64 {
    let Some([a, b, c, d, e, f, g, h, i, j, k, l, m, n]) = frame.first_chunk::<14>().copied()
    else {
        return 0;
    };
    mix(
        u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        u64::from_be_bytes([i, j, k, l, m, n, 0, 0]),
    )
}

/// Both halves of a 128-bit product: each input bit reaches all output bits in one multiplication (as in wyhash and
/// foldhash). The constants are digits of π.
#[inline]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x243f_6a88_85a3_08d3) * u128::from(b ^ 0x1319_8a2e_0370_7344);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    fn hash(frame: &[u8]) -> u32 {
        flow_hash(frame, &Layers::parse(frame).unwrap())
    }

    fn frame4(
        protocol: u8,
        source: [u8; 4],
        destination: [u8; 4],
        ports: (u16, u16),
        payload: &[u8],
    ) -> Vec<u8> {
        let ip = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(source, destination, 64);
        let mut bytes = Vec::new();
        match protocol {
            TCP => ip
                .tcp(ports.0, ports.1, 7, 1000)
                .write(&mut bytes, payload)
                .unwrap(),
            _ => ip.udp(ports.0, ports.1).write(&mut bytes, payload).unwrap(),
        }
        bytes[23] = protocol;
        bytes
    }

    fn frame6(source: [u8; 16], destination: [u8; 16], ports: (u16, u16)) -> Vec<u8> {
        let mut bytes = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv6(source, destination, 64)
            .udp(ports.0, ports.1);
        builder.write(&mut bytes, &[0; 8]).unwrap();
        bytes
    }

    /// χ² over 64 buckets of the range. With 63 degrees of freedom 110 is exceeded once in 4,000 times by chance; the
    /// hash is fixed, so this either holds for ever or never.
    fn chi_squared(ports: &[u16], low: u16, high: u16) -> f64 {
        let mut buckets = [0f64; 64];
        for port in ports {
            assert!((low..=high).contains(port));
            let width = usize::from(high - low) + 1;
            buckets[usize::from(port - low) * 64 / width] += 1.0;
        }
        let expected = ports.len() as f64 / 64.0;
        buckets
            .iter()
            .map(|n| (n - expected) * (n - expected) / expected)
            .sum()
    }

    #[test]
    fn v05_ten_thousand_flows_spread_evenly_over_the_range() {
        let (low, high) = (32768, 60999);
        let one_after_the_other =
            |n: u16| frame4(TCP, [10, 244, 0, 5], [10, 244, 1, 7], (30000 + n, 80), &[]);
        let many_clients = |n: u16| {
            frame4(
                UDP,
                [10, 244, (n >> 8) as u8, n as u8],
                [10, 96, 0, 10],
                (5353, 53),
                &[],
            )
        };
        let six = |n: u16| {
            let mut source = [0; 16];
            source[0] = 0xfd;
            source[14..].copy_from_slice(&n.to_be_bytes());
            frame6(source, [0xfe; 16], (1000, 2000))
        };
        let stations = |n: u16| {
            let mut frame = vec![0xff; 60];
            frame[10..12].copy_from_slice(&n.to_be_bytes());
            frame[12..14].copy_from_slice(&[8, 6]);
            frame
        };
        let kinds: [&dyn Fn(u16) -> Vec<u8>; 4] =
            [&one_after_the_other, &many_clients, &six, &stations];
        for (index, kind) in kinds.iter().enumerate() {
            let ports: Vec<_> = (0..10_000)
                .map(|n| spread(hash(&kind(n)), low, high))
                .collect();
            let chi = chi_squared(&ports, low, high);
            assert!(chi < 110.0, "kind {index}: χ² = {chi}");
        }
    }

    #[test]
    fn v05_the_payload_and_the_sequence_number_do_not_matter() {
        let flow = |payload: &[u8]| frame4(TCP, [10, 0, 0, 1], [10, 0, 0, 2], (1, 2), payload);
        let mut later = flow(&[9; 700]);
        later[38..42].copy_from_slice(&[1, 2, 3, 4]);
        later[22] = 3; // TTL
        assert_eq!(hash(&flow(&[])), hash(&later));
    }

    #[test]
    fn v05_each_part_of_the_five_tuple_matters() {
        let base = hash(&frame4(TCP, [10, 0, 0, 1], [10, 0, 0, 2], (1, 2), &[0; 8]));
        for other in [
            frame4(UDP, [10, 0, 0, 1], [10, 0, 0, 2], (1, 2), &[0; 8]),
            frame4(SCTP, [10, 0, 0, 1], [10, 0, 0, 2], (1, 2), &[0; 8]),
            frame4(TCP, [10, 0, 0, 3], [10, 0, 0, 2], (1, 2), &[0; 8]),
            frame4(TCP, [10, 0, 0, 1], [10, 0, 0, 3], (1, 2), &[0; 8]),
            frame4(TCP, [10, 0, 0, 1], [10, 0, 0, 2], (3, 2), &[0; 8]),
            frame4(TCP, [10, 0, 0, 1], [10, 0, 0, 2], (1, 3), &[0; 8]),
        ] {
            assert_ne!(hash(&other), base);
        }
    }

    #[test]
    fn v05_all_fragments_of_a_packet_share_one_port() {
        let mut first = frame4(UDP, [10, 0, 0, 1], [10, 0, 0, 2], (1, 2), &[7; 64]);
        first[20] = 0x20;
        let mut last = frame4(UDP, [10, 0, 0, 1], [10, 0, 0, 2], (0x0707, 0x0707), &[9; 8]);
        last[21] = 8;
        assert_eq!(hash(&first), hash(&last));
        let mut icmp = first.clone();
        icmp[20] = 0;
        icmp[23] = 1;
        assert_eq!(
            hash(&icmp),
            hash(&first),
            "another protocol: addresses only"
        );
    }

    #[test]
    fn v05_a_tag_does_not_hide_the_flow() {
        let plain = frame4(TCP, [10, 0, 0, 1], [10, 0, 0, 2], (1, 2), &[]);
        let tagged = [&plain[..12], &[0x81, 0, 0, 10], &plain[12..]].concat();
        assert_eq!(hash(&plain), hash(&tagged));
    }

    #[test]
    fn v05_both_ends_of_the_range_are_reached_and_none_beyond() {
        assert_eq!(
            (spread(0, 49152, 65535), spread(u32::MAX, 49152, 65535)),
            (49152, 65535)
        );
        assert_eq!(
            (spread(0, 0, 65535), spread(u32::MAX, 0, 65535)),
            (0, 65535)
        );
        assert_eq!((spread(0, 7, 7), spread(u32::MAX, 7, 7)), (7, 7));
    }
}
