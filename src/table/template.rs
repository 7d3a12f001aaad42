//! The outer headers of a VTEP, prebuilt.
//!
//! ```text
//!   0         14                  34         42          50
//!   | Ethernet | IPv4              | UDP      | VXLAN     | inner frame ...
//!   | dst src  | .tos len id df    | sport .  | flags VNI |
//!   |          | ttl . sum .  .    | len sum  |           |
//! ```
//!
//! What is named with its field in the lower lines of IPv4 and UDP differs from frame to frame and is patched; all the
//! rest is fixed when the template is built, and so are the sums over it (RFC 1071: a sum of parts is the sum of their
//! sums). The header checksum of a frame is then a handful of additions instead of a walk over the header.
//!
//! An outer IPv6 header is another variant of `Outer` with its own length, in `outer_ipv6`; [`EncapTemplate::len`] and
//! [`EncapTemplate::write`] are all that callers see of it.

use std::net::{IpAddr, Ipv4Addr};

use super::outer_ipv6::{OUTER_IPV6_LEN, OuterIpv6};
use super::{Inherit, SegmentConfig, VtepKey};
use crate::wire::{MacAddr, checksum, ethernet, ipv4, ipv6, udp, vxlan};

/// Ethernet, IPv4, UDP and VXLAN headers together, in bytes (RFC 7348 §5).
pub const OUTER_IPV4_LEN: usize = ethernet::LEN + ipv4::LEN + udp::LEN + vxlan::LEN;

/// What differs from frame to frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OuterFields {
    /// Entropy of the inner flow.
    pub source_port: u16,
    /// IPv4 identification; IPv6 has none.
    pub ip_id: u16,
    /// DSCP and ECN.
    pub tos: u8,
    /// TTL or hop limit; 0 stands for the default.
    pub ttl: u8,
    /// Do not fragment, of IPv4.
    pub df: bool,
    /// Flow label of IPv6, 20 bits.
    pub flow_label: u32,
    /// What the Group Policy extension adds to the first word of the VXLAN header; 0 for nothing.
    pub group_policy: u32,
    /// The one's complement sum of the inner frame, where the UDP checksum is to be computed.
    pub inner_sum: Option<u32>,
}

impl OuterFields {
    /// What the Group Policy extension adds to the sum over the VXLAN header.
    #[inline]
    pub(super) fn policy_sum(&self) -> u32 {
        (self.group_policy >> 16) + (self.group_policy & 0xffff)
    }
}

/// Prebuilt outer headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncapTemplate {
    outer: Outer,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Outer {
    Ipv4(OuterIpv4),
    Ipv6(OuterIpv6),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct OuterIpv4 {
    bytes: [u8; OUTER_IPV4_LEN],
    /// Over the IPv4 header with every patched field zero. Folded, as the next: all of this shares a cache line with the rest
    /// of what a frame needs of its VTEP.
    header_sum: u16,
    /// Over the UDP pseudo-header, UDP and VXLAN headers with every patched field zero.
    udp_sum: u16,
    ttl_default: u8,
}

/// How to reach a VTEP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextHop {
    /// With these headers.
    Resolved(EncapTemplate),
    /// Not now.
    Unresolved(UnresolvedReason),
}

/// Why a VTEP cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnresolvedReason {
    /// The kernel has no route to it, or one that says no: its own device counts that.
    NoRoute,
    /// The next hop has no neighbour entry yet.
    NoNeighbour,
    /// The underlay device is down.
    LinkDown,
    /// It is an address of this host: the kernel hands the frame over by itself, or sends it through its own stack
    /// (`localbypass`, `nolocalbypass`).
    LocalAddress,
    /// Its route, or its address family, is of a kind that is not forwarded here.
    Unsupported,
}

impl UnresolvedReason {
    /// Every reason.
    pub const ALL: &'static [Self] = &[
        Self::NoRoute,
        Self::NoNeighbour,
        Self::LinkDown,
        Self::LocalAddress,
        Self::Unsupported,
    ];

    /// For people and for status: `no_route`, `no_neighbour`, `link_down`, `local_address`, `unsupported`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NoRoute => "no_route",
            Self::NoNeighbour => "no_neighbour",
            Self::LinkDown => "link_down",
            Self::LocalAddress => "local_address",
            Self::Unsupported => "unsupported",
        }
    }

    /// Whether the kernel's own device does something better with the frames than to let them die here: deliver them, or
    /// account for them.
    pub const fn is_kernels(self) -> bool {
        match self {
            Self::NoNeighbour | Self::LinkDown => false,
            Self::NoRoute | Self::LocalAddress | Self::Unsupported => true,
        }
    }
}

impl EncapTemplate {
    /// Headers of the family that the segment's address and the VTEP's have in common. `source` is the underlay device's
    /// Ethernet address and `next_hop` its neighbour's; the rest comes from the segment and the VTEP's key. `None` when
    /// they have no family in common.
    pub fn new(
        config: &SegmentConfig,
        key: &VtepKey,
        source: MacAddr,
        next_hop: MacAddr,
    ) -> Option<Self> {
        match config.local {
            IpAddr::V4(_) => Self::ipv4(config, key, source, next_hop),
            IpAddr::V6(_) => Self::ipv6(config, key, source, next_hop),
        }
    }

    /// Headers with an outer IPv6 header, as [`Self::new`]. `None` when the segment's address or the VTEP's is not IPv6.
    pub fn ipv6(
        config: &SegmentConfig,
        key: &VtepKey,
        source: MacAddr,
        next_hop: MacAddr,
    ) -> Option<Self> {
        let outer = Outer::Ipv6(OuterIpv6::new(config, key, source, next_hop)?);
        Some(Self { outer })
    }

    /// Headers with an outer IPv4 header, as [`Self::new`]. `None` when the segment's address or the VTEP's is not IPv4.
    pub fn ipv4(
        config: &SegmentConfig,
        key: &VtepKey,
        source: MacAddr,
        next_hop: MacAddr,
    ) -> Option<Self> {
        let (IpAddr::V4(local), IpAddr::V4(remote)) = (config.local, key.addr) else {
            return None;
        };
        let mut bytes = [0; OUTER_IPV4_LEN];
        let (ethernet, rest) = bytes.split_at_mut(ethernet::LEN);
        let (ip, rest) = rest.split_at_mut(ipv4::LEN);
        let (udp, vxlan) = rest.split_at_mut(udp::LEN);
        ethernet::write(ethernet, next_hop, source, ethernet::IPV4);
        ip.copy_from_slice(&ipv4_header(local, remote));
        udp.copy_from_slice(&udp_header(key.port));
        vxlan.copy_from_slice(&vxlan::header(key.vni));
        let header_sum = checksum::sum(ip);
        let udp_sum = checksum::sum(udp)
            + checksum::sum(vxlan)
            + checksum::pseudo_ipv4(local, remote, udp::PROTOCOL, 0);
        Some(Self {
            outer: Outer::Ipv4(OuterIpv4 {
                bytes,
                header_sum: checksum::fold(header_sum),
                udp_sum: checksum::fold(udp_sum),
                ttl_default: config.ttl_default_to(key.addr),
            }),
        })
    }

    /// Length of all headers, in bytes.
    #[inline]
    #[allow(clippy::len_without_is_empty)] // There is no template without headers.
    pub fn len(&self) -> usize {
        match &self.outer {
            Outer::Ipv4(_) => OUTER_IPV4_LEN,
            Outer::Ipv6(_) => OUTER_IPV6_LEN,
        }
    }

    /// Bytes of the outer IP packet that carries an inner frame of this length: what the underlay's MTU limits.
    #[inline]
    pub fn ip_packet_len(&self, inner_len: usize) -> usize {
        self.len() - ethernet::LEN + inner_len
    }

    /// Writes the headers over the first [`Self::len`] bytes of `frame`, which ends where the inner frame ends. `false`,
    /// and nothing written, when it is shorter than the headers or longer than an IP packet can be.
    #[inline]
    pub fn write(&self, frame: &mut [u8], fields: &OuterFields) -> bool {
        match &self.outer {
            Outer::Ipv4(outer) => outer.write(frame, fields),
            Outer::Ipv6(outer) => outer.write(frame, fields),
        }
    }

    /// The same in front of a superframe, which whoever sends it cuts: as the kernel leaves its own to be cut. Lengths that
    /// are beyond their fields are 0, and of a UDP checksum there is only the sum over the pseudo-header.
    pub fn write_superframe(
        &self,
        frame: &mut [u8],
        fields: &OuterFields,
        with_checksum: bool,
    ) -> bool {
        let len = frame.len();
        let udp_len = (len + udp::LEN + vxlan::LEN).saturating_sub(self.len());
        // As much of it as the lengths can tell: so far only the headers count.
        let head = match &self.outer {
            Outer::Ipv4(_) => len.min(ethernet::LEN + usize::from(u16::MAX)),
            Outer::Ipv6(_) => len.min(ethernet::LEN + ipv6::LEN + usize::from(u16::MAX)),
        };
        let Some(head) = frame.get_mut(..head) else {
            return false;
        };
        let unfinished = OuterFields {
            inner_sum: None,
            ..*fields
        };
        if !self.write(head, &unfinished) {
            return false;
        }
        match &self.outer {
            Outer::Ipv4(outer) => outer.leave_to_cut(head, udp_len, with_checksum),
            Outer::Ipv6(outer) => outer.leave_to_cut(head, udp_len, with_checksum),
        }
    }

    /// Whether the outer IP header is one of IPv6.
    #[inline]
    pub fn is_ipv6(&self) -> bool {
        matches!(self.outer, Outer::Ipv6(_))
    }

    /// Where frames go first.
    pub fn next_hop_mac(&self) -> MacAddr {
        match &self.outer {
            Outer::Ipv4(outer) => {
                let [a, b, c, d, e, f, ..] = outer.bytes;
                MacAddr([a, b, c, d, e, f])
            }
            Outer::Ipv6(outer) => outer.next_hop_mac(),
        }
    }
}

impl Inherit {
    /// The value for a frame whose inner header has `inner`.
    #[inline]
    pub fn resolve(self, inner: u8) -> u8 {
        match self {
            Self::Fixed(value) => value,
            Self::Inner => inner,
        }
    }
}

impl OuterIpv4 {
    #[inline]
    fn write(&self, frame: &mut [u8], fields: &OuterFields) -> bool {
        let Ok(ip_len) = u16::try_from(frame.len().wrapping_sub(ethernet::LEN)) else {
            return false;
        };
        let Some(head) = frame.first_chunk_mut::<OUTER_IPV4_LEN>() else {
            return false;
        };
        let udp_len = ip_len - ipv4::LEN as u16;
        let ttl = if fields.ttl == 0 {
            self.ttl_default
        } else {
            fields.ttl
        };
        let df = if fields.df { ipv4::DF } else { 0 };
        let header_sum = u32::from(self.header_sum)
            + u32::from(fields.tos)
            + u32::from(ip_len)
            + u32::from(fields.ip_id)
            + u32::from(df)
            + (u32::from(ttl) << 8);
        let udp_checksum = fields.inner_sum.map_or(0, |inner| {
            // The length counts twice: in the pseudo-header and in the UDP header.
            let sum = u32::from(self.udp_sum)
                + 2 * u32::from(udp_len)
                + u32::from(fields.source_port)
                + fields.policy_sum()
                + inner;
            checksum::udp_field(checksum::finish(sum))
        });

        // Patched where it stands: a patched copy would have to be read again before all of its stores are through.
        *head = self.bytes;
        head[15] = fields.tos;
        put(head, 16, ip_len);
        put(head, 18, fields.ip_id);
        put(head, 20, df);
        head[22] = ttl;
        put(head, 24, checksum::finish(header_sum));
        put(head, 34, fields.source_port);
        put(head, 38, udp_len);
        put(head, 40, udp_checksum);
        if fields.group_policy != 0 {
            let [flags, a, b, c] = fields.group_policy.to_be_bytes();
            head[42] |= flags;
            [head[43], head[44], head[45]] = [a, b, c];
        }
        true
    }

    /// Corrects headers that were written in front of a part of a superframe.
    fn leave_to_cut(&self, head: &mut [u8], udp_len: usize, with_checksum: bool) -> bool {
        let Some(head) = head.first_chunk_mut::<OUTER_IPV4_LEN>() else {
            return false;
        };
        if udp_len + ipv4::LEN > usize::from(u16::MAX) {
            put(head, 16, 0);
            put(head, 24, 0);
            let sum = checksum::sum(&head[ethernet::LEN..][..ipv4::LEN]);
            put(head, 24, checksum::finish(sum));
            put(head, 38, udp_len as u16);
        }
        if with_checksum {
            put(head, 40, unfinished_sum(&self.bytes[26..34], udp_len));
        }
        true
    }
}

/// The sum over a pseudo-header with these addresses, and a length that may be beyond 16 bits: what the kernel leaves in a
/// checksum's field for whoever cuts the superframe.
pub(super) fn unfinished_sum(addresses: &[u8], udp_len: usize) -> u16 {
    let len = (udp_len >> 16) as u32 + (udp_len & 0xffff) as u32;
    checksum::fold(checksum::sum(addresses) + u32::from(udp::PROTOCOL) + len)
}

/// Stores a field of the template: `at` is a constant of this file, and the compiler drops the bounds check.
#[inline(always)]
fn put(bytes: &mut [u8; OUTER_IPV4_LEN], at: usize, value: u16) {
    let [high, low] = value.to_be_bytes();
    bytes[at] = high;
    bytes[at + 1] = low;
}

/// Version, protocol and addresses; the rest is patched per frame (RFC 791 §3.1).
fn ipv4_header(source: Ipv4Addr, destination: Ipv4Addr) -> [u8; ipv4::LEN] {
    let [s0, s1, s2, s3] = source.octets();
    let [d0, d1, d2, d3] = destination.octets();
    [
        0x45,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        udp::PROTOCOL,
        0,
        0,
        s0,
        s1,
        s2,
        s3,
        d0,
        d1,
        d2,
        d3,
    ]
}

/// The destination port; the rest is patched per frame (RFC 768).
pub(super) fn udp_header(destination_port: u16) -> [u8; udp::LEN] {
    let [high, low] = destination_port.to_be_bytes();
    [0, 0, high, low, 0, 0, 0, 0]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::table::{Df, FlowLabel, SourcePorts, UdpChecksum};
    use crate::wire::Vni;
    use etherparse::{Ethernet2HeaderSlice, Ipv4HeaderSlice, UdpHeader, UdpHeaderSlice};

    const SOURCE: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const NEXT_HOP: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    pub(in super::super) fn config(local: &str) -> SegmentConfig {
        SegmentConfig {
            name: "flannel.1".into(),
            ifindex: 7,
            vni: Vni::new(1).unwrap(),
            local: local.parse().unwrap(),
            group: None,
            port: 8472,
            mac: MacAddr([0x0e, 0, 0, 0, 0, 1]),
            underlay_ifindex: 2,
            underlay_mac: SOURCE,
            underlay_mtu: 1500,
            source_ports: SourcePorts {
                low: 32768,
                high: 60999,
            },
            ttl: Inherit::Fixed(64),
            ttl_default: 64,
            tos: Inherit::Fixed(0),
            df: Df::Unset,
            flow_label: FlowLabel::Fixed(0),
            udp_checksum: UdpChecksum::Compute,
            verify_udp_checksum: false,
            accept_udp6_zero_checksum: false,
            gbp: false,
            header_bits: crate::wire::vxlan::USED_BITS,
            peer_check: crate::table::PeerCheck::Strict,
            ecn_encap: crate::table::EcnEncap::Kernel,
            inner_vlan: crate::table::InnerVlan::Pass,
        }
    }

    pub(in super::super) fn key(addr: &str, vni: u32) -> VtepKey {
        VtepKey {
            addr: addr.parse().unwrap(),
            port: 4789,
            vni: Vni::new(vni).unwrap(),
        }
    }

    fn template() -> EncapTemplate {
        EncapTemplate::ipv4(
            &config("192.0.2.1"),
            &key("198.51.100.9", 0xab_cdef),
            SOURCE,
            NEXT_HOP,
        )
        .unwrap()
    }

    pub(in super::super) fn fields() -> OuterFields {
        OuterFields {
            source_port: 40000,
            ip_id: 0x1234,
            tos: 0xb9,
            ttl: 100,
            df: true,
            flow_label: 0,
            group_policy: 0,
            inner_sum: None,
        }
    }

    /// A frame with the headers over `inner`.
    pub(in super::super) fn written(
        template: &EncapTemplate,
        fields: &OuterFields,
        inner: &[u8],
    ) -> Vec<u8> {
        let mut frame = vec![0xee; template.len()];
        frame.extend_from_slice(inner);
        assert!(template.write(&mut frame, fields));
        frame
    }

    #[test]
    fn every_byte_is_as_rfc_7348_draws_it() {
        let frame = written(
            &template(),
            &OuterFields {
                tos: 0,
                df: false,
                ..fields()
            },
            &[0xaa; 14],
        );
        let expected = [
            2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, // Ethernet
            0x45, 0, 0, 50, 0x12, 0x34, 0, 0, 100, 17, 0x58, 0x49, 192, 0, 2, 1, 198, 51, 100,
            9, // IPv4
            0x9c, 0x40, 0x12, 0xb5, 0, 30, 0, 0, // UDP
            8, 0, 0, 0, 0xab, 0xcd, 0xef, 0, // VXLAN
        ];
        assert_eq!(frame[..50], expected, "{:02x?}", &frame[..50]);
        assert_eq!(frame[50..], [0xaa; 14]);
    }

    #[test]
    fn v06_an_independent_parser_reads_all_fields_back_and_finds_both_checksums_right() {
        for inner_len in [14, 15, 60, 1449, 1450, 8951, 65535 - 36] {
            for (tos, ttl, df) in [(0, 0, false), (0xb8, 1, true), (0xff, 255, true)] {
                let inner: Vec<u8> = (0..inner_len).map(|n| (n * 7 + 3) as u8).collect();
                let fields = OuterFields {
                    tos,
                    ttl,
                    df,
                    inner_sum: Some(checksum::sum(&inner)),
                    ..fields()
                };
                let frame = written(&template(), &fields, &inner);
                let ethernet = Ethernet2HeaderSlice::from_slice(&frame).unwrap();
                assert_eq!(
                    (ethernet.source(), ethernet.destination()),
                    (SOURCE.0, NEXT_HOP.0)
                );
                let ip = Ipv4HeaderSlice::from_slice(&frame[14..])
                    .unwrap()
                    .to_header();
                assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                assert_eq!(usize::from(ip.total_len), frame.len() - 14);
                assert_eq!((ip.identification, ip.dont_fragment), (0x1234, df));
                assert_eq!(ip.time_to_live, if ttl == 0 { 64 } else { ttl });
                assert_eq!((ip.dscp.value() << 2) | ip.ecn.value(), tos);
                let udp = UdpHeaderSlice::from_slice(&frame[34..])
                    .unwrap()
                    .to_header();
                assert_eq!((udp.source_port, udp.destination_port), (40000, 4789));
                let right = UdpHeader {
                    checksum: 0,
                    ..udp.clone()
                }
                .calc_checksum_ipv4(&ip, &frame[42..])
                .unwrap();
                assert_eq!(udp.checksum, right);
            }
        }
    }

    fn superframe(template: &EncapTemplate, inner_len: usize, with_checksum: bool) -> Vec<u8> {
        let mut frame = vec![0xee; template.len() + inner_len];
        assert!(template.write_superframe(&mut frame, &fields(), with_checksum));
        frame
    }

    #[test]
    fn a_superframe_has_headers_of_its_own_length_and_an_unfinished_checksum() {
        let inner = vec![0xee; 65_000];
        let without = superframe(&template(), inner.len(), false);
        assert!(without == written(&template(), &fields(), &inner));
        let mut with = superframe(&template(), inner.len(), true);
        let pseudo =
            checksum::pseudo_ipv4([192, 0, 2, 1].into(), [198, 51, 100, 9].into(), 17, 65_016);
        assert_eq!(with[40..42], checksum::fold(pseudo).to_be_bytes());
        with[40..42].fill(0);
        assert!(with == without);
    }

    #[test]
    fn lengths_beyond_their_fields_are_0_and_the_sum_counts_all_of_it() {
        const INNER: usize = 65_549;
        let frame = superframe(&template(), INNER, true);
        let ip = Ipv4HeaderSlice::from_slice(&frame[14..])
            .unwrap()
            .to_header();
        assert_eq!((ip.total_len, ip.identification), (0, 0x1234));
        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
        let len = INNER + 16;
        assert_eq!(frame[38..40], (len as u16).to_be_bytes());
        let addresses = checksum::sum(&frame[26..34]);
        let sum = addresses + 17 + 1 + (len as u32 & 0xffff);
        assert_eq!(frame[40..42], checksum::fold(sum).to_be_bytes());
        assert!(frame[50..].iter().all(|byte| *byte == 0xee));

        let six = EncapTemplate::ipv6(
            &config("2001:db8::1"),
            &key("2001:db8::9", 1),
            SOURCE,
            NEXT_HOP,
        )
        .unwrap();
        let frame = superframe(&six, INNER, true);
        assert_eq!(
            (&frame[18..20], &frame[58..60]),
            (&[0; 2][..], &(len as u16).to_be_bytes()[..])
        );
        let addresses = checksum::sum(&frame[22..54]);
        let sum = addresses + 17 + 1 + (len as u32 & 0xffff);
        assert_eq!(frame[60..62], checksum::fold(sum).to_be_bytes());
        assert_eq!(superframe(&six, 1000, false)[18..20], 1016u16.to_be_bytes());
    }

    #[test]
    fn v06_a_computed_zero_is_sent_as_ffff() {
        let found = (0..=u16::MAX).any(|source_port| {
            let fields = OuterFields {
                source_port,
                inner_sum: Some(0),
                ..fields()
            };
            let frame = written(&template(), &fields, &[0; 14]);
            assert_ne!(frame[40..42], [0, 0]);
            frame[40..42] == [0xff, 0xff]
        });
        assert!(found, "one of all source ports makes the sum 0xffff");
    }

    #[test]
    fn v03_the_vni_of_the_key_fills_24_bits_and_no_more() {
        for vni in [0, 1, 0x80_0000, 0xff_ffff] {
            let template = EncapTemplate::ipv4(
                &config("192.0.2.1"),
                &key("198.51.100.9", vni),
                SOURCE,
                NEXT_HOP,
            )
            .unwrap();
            let frame = written(&template, &fields(), &[0; 14]);
            assert_eq!(frame[42..46], [8, 0, 0, 0]);
            assert_eq!(
                u32::from_be_bytes(frame[46..50].try_into().unwrap()),
                vni << 8
            );
        }
    }

    #[test]
    fn another_family_makes_no_ipv4_template() {
        assert_eq!(
            EncapTemplate::ipv4(
                &config("2001:db8::1"),
                &key("198.51.100.9", 1),
                SOURCE,
                NEXT_HOP
            ),
            None
        );
        assert_eq!(
            EncapTemplate::ipv4(
                &config("192.0.2.1"),
                &key("2001:db8::9", 1),
                SOURCE,
                NEXT_HOP
            ),
            None
        );
    }

    #[test]
    fn a_frame_of_impossible_length_is_refused_untouched() {
        let template = template();
        for len in [0, 13, 49, 14 + 65536] {
            let mut frame = vec![0xee; len];
            assert!(!template.write(&mut frame, &fields()));
            assert!(frame.iter().all(|byte| *byte == 0xee));
        }
    }

    #[test]
    fn the_next_hop_is_shown() {
        assert_eq!(template().next_hop_mac(), NEXT_HOP);
        assert_eq!(template().len(), 50);
        assert_eq!(template().ip_packet_len(1450), 1486);
    }
}
