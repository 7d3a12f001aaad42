//! The outer headers of a VTEP with an IPv6 address, prebuilt.
//!
//! ```text
//!   0         14                  54         62          70
//!   | Ethernet | IPv6              | UDP      | VXLAN     | inner frame ...
//!   | dst src  | class label len   | sport .  | flags VNI |
//!   |          | hop limit . .     | len sum  |           |
//! ```
//!
//! As in the IPv4 headers, the fields named in the lower lines are patched per frame. There is no header checksum, hence
//! the UDP checksum covers the addresses, and it is not optional (RFC 8200 §8.1) unless the device says so.

use std::net::{IpAddr, Ipv6Addr};

use super::{OuterFields, SegmentConfig, VtepKey};
use crate::wire::{MacAddr, checksum, ethernet, ipv6, udp, vxlan};

/// Ethernet, IPv6, UDP and VXLAN headers together, in bytes (RFC 7348 §5).
pub const OUTER_IPV6_LEN: usize = ethernet::LEN + ipv6::LEN + udp::LEN + vxlan::LEN;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OuterIpv6 {
    bytes: [u8; OUTER_IPV6_LEN],
    /// Over the UDP pseudo-header, UDP and VXLAN headers with every patched field zero.
    udp_sum: u16,
    hop_limit_default: u8,
}

impl OuterIpv6 {
    /// `None` when the segment's address or the VTEP's is not IPv6.
    pub(super) fn new(
        config: &SegmentConfig,
        key: &VtepKey,
        source: MacAddr,
        next_hop: MacAddr,
    ) -> Option<Self> {
        let (IpAddr::V6(local), IpAddr::V6(remote)) = (config.local, key.addr) else {
            return None;
        };
        let mut bytes = [0; OUTER_IPV6_LEN];
        let (ethernet, rest) = bytes.split_at_mut(ethernet::LEN);
        let (ip, rest) = rest.split_at_mut(ipv6::LEN);
        let (udp, vxlan) = rest.split_at_mut(udp::LEN);
        ethernet::write(ethernet, next_hop, source, ethernet::IPV6);
        ip.copy_from_slice(&header(local, remote));
        udp.copy_from_slice(&super::template::udp_header(key.port));
        vxlan.copy_from_slice(&vxlan::header(key.vni));
        let udp_sum = checksum::sum(udp)
            + checksum::sum(vxlan)
            + checksum::pseudo_ipv6(local, remote, udp::PROTOCOL, 0);
        Some(Self {
            bytes,
            udp_sum: checksum::fold(udp_sum),
            hop_limit_default: config.ttl_default_to(key.addr),
        })
    }

    /// Where frames go first.
    pub(super) fn next_hop_mac(&self) -> MacAddr {
        let [a, b, c, d, e, f, ..] = self.bytes;
        MacAddr([a, b, c, d, e, f])
    }

    /// As `EncapTemplate::write`.
    #[inline]
    pub(super) fn write(&self, frame: &mut [u8], fields: &OuterFields) -> bool {
        let headers_len = ethernet::LEN + ipv6::LEN;
        let Ok(udp_len) = u16::try_from(frame.len().wrapping_sub(headers_len)) else {
            return false;
        };
        let Some(head) = frame.first_chunk_mut::<OUTER_IPV6_LEN>() else {
            return false;
        };
        let label = fields.flow_label & ipv6::FLOW_LABEL_MASK;
        let version_class_label = 6 << 28 | u32::from(fields.tos) << 20 | label;
        let udp_checksum = fields.inner_sum.map_or(0, |inner| {
            // The length counts twice: in the pseudo-header and in the UDP header.
            let sum = u32::from(self.udp_sum)
                + 2 * u32::from(udp_len)
                + u32::from(fields.source_port)
                + fields.policy_sum()
                + inner;
            checksum::udp_field(checksum::finish(sum))
        });

        // Patched where it stands, as the IPv4 headers are.
        *head = self.bytes;
        put(head, 14, version_class_label.to_be_bytes());
        put(head, 18, udp_len.to_be_bytes());
        head[21] = match fields.ttl {
            0 => self.hop_limit_default,
            hop_limit => hop_limit,
        };
        put(head, 54, fields.source_port.to_be_bytes());
        put(head, 58, udp_len.to_be_bytes());
        put(head, 60, udp_checksum.to_be_bytes());
        if fields.group_policy != 0 {
            let [flags, a, b, c] = fields.group_policy.to_be_bytes();
            head[62] |= flags;
            [head[63], head[64], head[65]] = [a, b, c];
        }
        true
    }

    /// As `OuterIpv4::leave_to_cut`.
    pub(super) fn leave_to_cut(
        &self,
        head: &mut [u8],
        udp_len: usize,
        with_checksum: bool,
    ) -> bool {
        let Some(head) = head.first_chunk_mut::<OUTER_IPV6_LEN>() else {
            return false;
        };
        if udp_len > usize::from(u16::MAX) {
            put(head, 18, [0; 2]);
            put(head, 58, (udp_len as u16).to_be_bytes());
        }
        if with_checksum {
            let sum = super::template::unfinished_sum(&self.bytes[22..54], udp_len);
            put(head, 60, sum.to_be_bytes());
        }
        true
    }
}

/// Stores a field: `at` is a constant of this file, and the compiler drops the bounds check.
#[inline(always)]
fn put<const N: usize>(bytes: &mut [u8; OUTER_IPV6_LEN], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

/// Next header and addresses; the rest is patched per frame (RFC 8200 §3).
fn header(source: Ipv6Addr, destination: Ipv6Addr) -> [u8; ipv6::LEN] {
    let mut bytes = [0; ipv6::LEN];
    let (fixed, addresses) = bytes.split_at_mut(8);
    fixed[6] = udp::PROTOCOL;
    let (from, to) = addresses.split_at_mut(16);
    from.copy_from_slice(&source.octets());
    to.copy_from_slice(&destination.octets());
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::template::tests::{config, fields, key, written};
    use super::*;
    use crate::table::EncapTemplate;
    use etherparse::{Ethernet2HeaderSlice, Ipv6HeaderSlice, UdpHeader, UdpHeaderSlice};

    const SOURCE: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const NEXT_HOP: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    fn template() -> EncapTemplate {
        EncapTemplate::ipv6(
            &config("2001:db8::1"),
            &key("2001:db8::9", 0xab_cdef),
            SOURCE,
            NEXT_HOP,
        )
        .unwrap()
    }

    #[test]
    fn every_byte_is_as_rfc_7348_draws_it() {
        let fields = OuterFields {
            flow_label: 0xabcde,
            inner_sum: Some(checksum::sum(&[0xaa; 14])),
            ..fields()
        };
        let frame = written(&template(), &fields, &[0xaa; 14]);
        let expected = [
            2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, // Ethernet
            0x6b, 0x9a, 0xbc, 0xde, 0, 30, 17, 100, // IPv6: class 0xb9, label 0xabcde
            0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, //
            0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, //
            0x9c, 0x40, 0x12, 0xb5, 0, 30, 0xa7, 0xc7, // UDP
            8, 0, 0, 0, 0xab, 0xcd, 0xef, 0, // VXLAN
        ];
        assert_eq!(frame[..70], expected, "{:02x?}", &frame[..70]);
        assert_eq!(frame[70..], [0xaa; 14]);
    }

    #[test]
    fn u01_an_independent_parser_reads_all_fields_back_and_finds_the_checksum_right() {
        for inner_len in [14, 15, 60, 1429, 1430, 8931, 65535 - 16] {
            for (tos, ttl, flow_label) in [(0, 0, 0), (0xb8, 1, 1), (0xff, 255, 0xf_ffff)] {
                let inner: Vec<u8> = (0..inner_len).map(|n| (n * 7 + 3) as u8).collect();
                let fields = OuterFields {
                    tos,
                    ttl,
                    flow_label,
                    inner_sum: Some(checksum::sum(&inner)),
                    ..fields()
                };
                let frame = written(&template(), &fields, &inner);
                let ethernet = Ethernet2HeaderSlice::from_slice(&frame).unwrap();
                assert_eq!(
                    (ethernet.source(), ethernet.destination()),
                    (SOURCE.0, NEXT_HOP.0)
                );
                let ip = Ipv6HeaderSlice::from_slice(&frame[14..])
                    .unwrap()
                    .to_header();
                assert_eq!(usize::from(ip.payload_length), frame.len() - 54);
                assert_eq!((ip.traffic_class, ip.next_header.0), (tos, 17));
                assert_eq!(ip.flow_label.value(), flow_label);
                assert_eq!(ip.hop_limit, if ttl == 0 { 64 } else { ttl });
                let udp = UdpHeaderSlice::from_slice(&frame[54..])
                    .unwrap()
                    .to_header();
                assert_eq!((udp.source_port, udp.destination_port), (40000, 4789));
                let right = UdpHeader {
                    checksum: 0,
                    ..udp.clone()
                }
                .calc_checksum_ipv6(&ip, &frame[62..])
                .unwrap();
                assert_eq!(udp.checksum, right);
            }
        }
    }

    #[test]
    fn u01_a_computed_zero_is_sent_as_ffff() {
        let found = (0..=u16::MAX).any(|source_port| {
            let fields = OuterFields {
                source_port,
                inner_sum: Some(0),
                ..fields()
            };
            let frame = written(&template(), &fields, &[0; 14]);
            assert_ne!(frame[60..62], [0, 0]);
            frame[60..62] == [0xff, 0xff]
        });
        assert!(found, "one of all source ports makes the sum 0xffff");
    }

    #[test]
    fn u02_without_a_sum_the_checksum_is_zero() {
        assert_eq!(written(&template(), &fields(), &[0xaa; 14])[60..62], [0, 0]);
    }

    #[test]
    fn another_family_makes_no_ipv6_template() {
        for (local, remote) in [
            ("192.0.2.1", "2001:db8::9"),
            ("2001:db8::1", "198.51.100.9"),
        ] {
            let made = EncapTemplate::ipv6(&config(local), &key(remote, 1), SOURCE, NEXT_HOP);
            assert_eq!(made, None);
            let made = EncapTemplate::new(&config(local), &key(remote, 1), SOURCE, NEXT_HOP);
            assert_eq!(made, None);
        }
    }

    #[test]
    fn a_frame_of_impossible_length_is_refused_untouched() {
        let template = template();
        for len in [0, 13, 53, 54, 69, 54 + 65536] {
            let mut frame = vec![0xee; len];
            assert!(!template.write(&mut frame, &fields()));
            assert!(frame.iter().all(|byte| *byte == 0xee));
        }
    }

    #[test]
    fn p01_the_outer_headers_take_70_bytes_and_56_of_the_mtu() {
        assert_eq!(template().len(), 70);
        assert_eq!(template().ip_packet_len(1444), 1500);
        assert_eq!(template().next_hop_mac(), NEXT_HOP);
    }
}
