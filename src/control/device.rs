//! The vxlan devices of the namespace, with every attribute that shapes a frame.

use std::fs;
use std::net::IpAddr;

use super::Refusal;
use super::refusal;
use crate::netlink::{
    self, Address, Link, LinkKind, Socket, attributes, flag_or_u8, ip_from, u8_from, u16_be_from,
    u32_from,
};
use crate::table::{
    Df, FlowLabel, Inherit, Policy, ReservedBits, SegmentConfig, SourcePorts, UdpChecksum,
    UdpChecksumRx,
};
use crate::wire::ipv6::FLOW_LABEL_MASK;
use crate::wire::{MacAddr, Vni, gbp, vxlan};

/// `IANA_VXLAN_UDP_PORT` as the kernel's module has it, for a kernel that does not tell (`drivers/net/vxlan`).
const DEFAULT_PORT: u16 = 8472;
/// `IPDEFTTL` (`linux/ip.h`) and the kernel's default port range, for a namespace whose sysctls cannot be read.
const DEFAULT_TTL: u8 = 64;
const DEFAULT_PORT_RANGE: (u16, u16) = (32768, 60999);

/// A kernel vxlan device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VxlanDevice {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its own Ethernet address.
    pub mac: MacAddr,
    /// The largest inner IP packet, in bytes.
    pub mtu: u32,
    /// Set up.
    pub up: bool,
    /// The VXLAN network identifier.
    pub vni: Vni,
    /// Our own VTEP address, when it is fixed.
    pub local: Option<IpAddr>,
    /// The multicast group that it has joined, and sends to where no FDB entry says more.
    pub group: Option<IpAddr>,
    /// The underlay device: `dev`, or else the link that holds `local`.
    pub underlay: Option<u32>,
    /// The UDP port on which it receives, and the default destination port.
    pub port: u16,
    /// Outer UDP source ports, as the kernel would choose them.
    pub source_ports: SourcePorts,
    /// Outer TTL or hop limit; 0 for the default, which for a group is 1.
    pub ttl: Inherit,
    /// The namespace's default TTL, or the underlay device's default hop limit.
    pub ttl_default: u8,
    /// Outer DSCP.
    pub tos: Inherit,
    /// Outer DF bit.
    pub df: Df,
    /// Outer flow label, of IPv6.
    pub flow_label: FlowLabel,
    /// Outer UDP checksum.
    pub udp_checksum: UdpChecksum,
    /// Whether a received UDP checksum of zero is accepted over IPv6.
    pub accept_udp6_zero_checksum: bool,
    /// The Group Policy extension: marks of frames are sent and received (`gbp`).
    pub gbp: bool,
    /// The bits of a received VXLAN header that must be zero, its first byte the highest (`reserved_bits`). Never the I
    /// flag or one of the VNI's.
    pub reserved_bits: u64,
}

impl VxlanDevice {
    /// What the data path needs to know, where the operator decides it and where the device does; none without a local
    /// address.
    pub fn segment_config(&self, underlay: &Link, policy: &Policy) -> Option<SegmentConfig> {
        Some(SegmentConfig {
            name: self.name.clone(),
            ifindex: self.ifindex,
            vni: self.vni,
            local: self.local?,
            group: self.group,
            port: self.port,
            mac: self.mac,
            underlay_ifindex: underlay.ifindex,
            underlay_mac: underlay.mac,
            underlay_mtu: u16::try_from(underlay.mtu).unwrap_or(u16::MAX),
            source_ports: self.source_ports,
            ttl: self.ttl,
            ttl_default: self.ttl_default,
            tos: self.tos,
            df: self.df,
            flow_label: self.flow_label,
            udp_checksum: self.udp_checksum,
            verify_udp_checksum: match policy.udp_checksum_rx {
                // Devices made by software have a kind, and may hand over sums that the sender left unfinished.
                UdpChecksumRx::Auto => underlay.kind.is_none(),
                UdpChecksumRx::Verify => true,
                UdpChecksumRx::Ignore => false,
            },
            accept_udp6_zero_checksum: self.accept_udp6_zero_checksum,
            gbp: self.gbp,
            header_bits: match policy.reserved_bits {
                ReservedBits::Device => !self.reserved_bits,
                ReservedBits::Strict => used_bits(self.gbp),
                ReservedBits::Ignore => u64::MAX,
                ReservedBits::Allow(bits) => bits | used_bits(self.gbp),
            },
            peer_check: policy.peer_check,
            ecn_encap: policy.ecn_encap,
            inner_vlan: policy.inner_vlan,
        })
    }
}

/// A vxlan device, and whether it can be taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The device.
    pub device: VxlanDevice,
    /// The link below it.
    pub underlay: Option<Link>,
    /// Why it is left to the kernel; none when it can be taken over.
    pub refusal: Option<Refusal>,
}

/// Every vxlan device of the namespace, eligible or not, by ascending index.
pub fn discover(socket: &mut Socket) -> Result<Vec<Found>, netlink::Error> {
    let links = netlink::links_with_kind(socket)?;
    if !links.iter().any(is_vxlan) {
        return Ok(Vec::new());
    }
    let addresses = netlink::addresses(socket)?;
    let with_mdb = netlink::devices_with_mdb(socket)?;
    Ok(judge(&links, &addresses, &with_mdb, &Defaults::read()))
}

/// The vxlan devices among these links, as [`discover`] has them; `with_mdb`: the indices of devices with a multicast
/// database of their own. A pure function: what the kernel tells is judged here.
pub fn judge(
    links: &[LinkKind],
    addresses: &[Address],
    with_mdb: &[u32],
    defaults: &Defaults,
) -> Vec<Found> {
    let mut all: Vec<_> = links
        .iter()
        .filter(|found| is_vxlan(found))
        .filter_map(|found| read(found, links, addresses, defaults))
        .collect();
    all.sort_by_key(|found| found.device.ifindex);
    refuse_mdb(&mut all, with_mdb);
    refuse_ambiguous(&mut all);
    all
}

fn is_vxlan(found: &LinkKind) -> bool {
    found.link.kind.as_deref() == Some("vxlan")
}

/// A multicast database of its own decides where a device sends frames to IP groups (`vxlan_mdb_xmit`), before the FDB does.
fn refuse_mdb(all: &mut [Found], with_mdb: &[u32]) {
    let chosen = all
        .iter_mut()
        .filter(|found| found.refusal.is_none() && with_mdb.contains(&found.device.ifindex));
    for found in chosen {
        let why = "where frames to IP groups go is decided by its multicast database, which is not mirrored yet";
        found.refusal = Some(Refusal::new("mdb", why));
    }
}

/// Two devices that differ in nothing but the link of their link-local address are legal. Which of them a frame is for,
/// by its address or by its group, is no more seen once it has been steered, so that only the first is taken over. Of two
/// that differ in what they receive otherwise (`gbp`) only one can be up.
fn refuse_ambiguous(all: &mut [Found]) {
    let mut taken = Vec::new();
    for found in all
        .iter_mut()
        .filter(|found| found.refusal.is_none() && found.device.up)
    {
        let device = &found.device;
        let endpoint = |addr| (addr, device.port, device.vni);
        let own = [("local", device.local), ("group", device.group)]
            .map(|(attribute, addr)| (attribute, addr.map(endpoint)));
        let shared = own
            .iter()
            .find(|(_, endpoint)| endpoint.is_some_and(|endpoint| taken.contains(&endpoint)));
        if let Some((attribute, _)) = shared {
            let why = "another device has the same address, port and VNI on another link";
            found.refusal = Some(Refusal::new(*attribute, why));
        } else {
            taken.extend(own.into_iter().filter_map(|(_, endpoint)| endpoint));
        }
    }
}

/// The bits of the VXLAN header that have a meaning.
fn used_bits(gbp: bool) -> u64 {
    vxlan::USED_BITS | if gbp { gbp::USED_BITS } else { 0 }
}

/// The namespace's own defaults.
#[derive(Debug)]
pub struct Defaults {
    ttl: u8,
    port_range: (u16, u16),
    /// A link's default hop limit by its name; routers may advertise another on each link.
    hop_limit: fn(&str) -> Option<u8>,
}

impl Default for Defaults {
    /// The kernel's, where nobody has changed them.
    fn default() -> Self {
        Self {
            ttl: DEFAULT_TTL,
            port_range: DEFAULT_PORT_RANGE,
            hop_limit: |_| None,
        }
    }
}

impl Defaults {
    fn read() -> Self {
        let port_range = match *numbers("/proc/sys/net/ipv4/ip_local_port_range") {
            [low, high] if low < high => (low, high),
            _ => DEFAULT_PORT_RANGE,
        };
        Self {
            ttl: ttl_in("/proc/sys/net/ipv4/ip_default_ttl").unwrap_or(DEFAULT_TTL),
            port_range,
            hop_limit: |link| ttl_in(&format!("/proc/sys/net/ipv6/conf/{link}/hop_limit")),
        }
    }
}

/// The numbers in a file of `/proc/sys`; none when it cannot be read.
fn numbers(path: &str) -> Vec<u16> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect()
}

fn ttl_in(path: &str) -> Option<u8> {
    let ttl = u8::try_from(*numbers(path).first()?).ok()?;
    Some(ttl).filter(|ttl| *ttl != 0)
}

/// One device. None only when the kernel did not tell its VNI, which it always does.
fn read(
    found: &LinkKind,
    links: &[LinkKind],
    addresses: &[Address],
    defaults: &Defaults,
) -> Option<Found> {
    let raw = Attributes::read(&found.data);
    let local = raw.local.filter(|local| !local.is_unspecified());
    let held_by = local.and_then(|local| addresses.iter().find(|address| address.local == local));
    let underlay = raw
        .link
        .filter(|link| *link != 0)
        .or(held_by.map(|address| address.ifindex));
    let below =
        underlay.and_then(|ifindex| links.iter().find(|other| other.link.ifindex == ifindex));
    let ipv6 = local.is_some_and(|local| local.is_ipv6());
    // The kernel takes the route's hop limit, which is this one unless the route has its own.
    let ttl_default = match below {
        Some(below) if ipv6 => (defaults.hop_limit)(&below.link.name).unwrap_or(DEFAULT_TTL),
        _ => defaults.ttl,
    };
    let device = VxlanDevice {
        ifindex: found.link.ifindex,
        name: found.link.name.clone(),
        mac: found.link.mac,
        mtu: found.link.mtu,
        up: found.link.up,
        vni: Vni::new(raw.id?).ok()?,
        local,
        group: raw.group.filter(IpAddr::is_multicast),
        underlay,
        port: raw.port.unwrap_or(DEFAULT_PORT),
        source_ports: source_ports(raw.port_range, defaults.port_range),
        ttl: raw.ttl(),
        ttl_default,
        tos: raw.tos(),
        df: raw.df(),
        flow_label: raw.flow_label(),
        udp_checksum: raw.udp_checksum(ipv6),
        accept_udp6_zero_checksum: raw.udp6_zero_checksum_rx,
        gbp: raw.gbp,
        reserved_bits: raw.reserved_bits.unwrap_or(!used_bits(raw.gbp)),
    };
    let refusal = of_namespace(found)
        .or_else(|| refusal::of_attributes(&found.data))
        .or_else(|| refusal::of_device(&device, below.map(|found| &found.link)));
    Some(Found {
        device,
        underlay: below.map(|found| found.link.clone()),
        refusal,
    })
}

/// A device that was moved here keeps its socket, and its underlay, where it was made.
fn of_namespace(found: &LinkKind) -> Option<Refusal> {
    let why =
        "its socket lives in another network namespace: run vxgate there, or make the device here";
    found.elsewhere.then(|| Refusal::new("netns", why))
}

/// The kernel's choice (`udp_flow_src_port`): the device's range, or the namespace's when that is empty; the upper end
/// itself is never chosen.
fn source_ports(device: (u16, u16), namespace: (u16, u16)) -> SourcePorts {
    let (low, end) = if device.0 < device.1 {
        device
    } else {
        namespace
    };
    SourcePorts {
        low,
        high: end.saturating_sub(1).max(low),
    }
}

/// `IFLA_VXLAN_*` as they come (`linux/if_link.h`).
#[derive(Debug, Default)]
struct Attributes {
    id: Option<u32>,
    group: Option<IpAddr>,
    link: Option<u32>,
    local: Option<IpAddr>,
    ttl: u8,
    ttl_inherit: bool,
    tos: u8,
    port_range: (u16, u16),
    port: Option<u16>,
    udp_checksum: bool,
    udp6_zero_checksum_tx: bool,
    udp6_zero_checksum_rx: bool,
    df: u8,
    flow_label: u32,
    flow_label_policy: u32,
    /// None from kernels before 6.14, whose devices have no other than the default.
    gbp: bool,
    reserved_bits: Option<u64>,
}

/// `VXLAN_LABEL_INHERIT`; the other policy is a fixed label.
const LABEL_INHERIT: u32 = 1;

impl Attributes {
    fn read(data: &[u8]) -> Self {
        // Kernels that do not tell compute the checksum.
        let mut raw = Self {
            udp_checksum: true,
            ..Self::default()
        };
        for (number, value) in attributes(data) {
            match number {
                1 => raw.id = u32_from(value),
                2 | 16 => raw.group = ip_from(value),
                3 => raw.link = u32_from(value),
                4 | 17 => raw.local = ip_from(value),
                5 => raw.ttl = u8_from(value).unwrap_or(0),
                6 => raw.tos = u8_from(value).unwrap_or(0),
                10 => {
                    let high = value.get(2..).and_then(u16_be_from);
                    raw.port_range = u16_be_from(value).zip(high).unwrap_or_default();
                }
                15 => raw.port = u16_be_from(value),
                18 => raw.udp_checksum = u8_from(value) != Some(0),
                19 => raw.udp6_zero_checksum_tx = u8_from(value) != Some(0),
                20 => raw.udp6_zero_checksum_rx = u8_from(value) != Some(0),
                // In network byte order, unlike other numbers here.
                26 => raw.flow_label = u32_from(value).map_or(0, u32::from_be) & FLOW_LABEL_MASK,
                28 => raw.ttl_inherit = u8_from(value) != Some(0),
                29 => raw.df = u8_from(value).unwrap_or(0),
                32 => raw.flow_label_policy = u32_from(value).unwrap_or(0),
                23 => raw.gbp = flag_or_u8(value),
                33 => raw.reserved_bits = reserved_bits_from(value),
                _ => {}
            }
        }
        raw
    }

    fn ttl(&self) -> Inherit {
        match (self.ttl_inherit, self.ttl) {
            (true, _) => Inherit::Inner,
            (false, ttl) => Inherit::Fixed(ttl),
        }
    }

    /// The value 1 is what `tos inherit` sends: it has no other meaning (`vxlan_xmit_one`).
    fn tos(&self) -> Inherit {
        match self.tos {
            1 => Inherit::Inner,
            tos => Inherit::Fixed(tos),
        }
    }

    fn df(&self) -> Df {
        match self.df {
            1 => Df::Set,
            2 => Df::Inherit,
            _ => Df::Unset,
        }
    }

    /// Each family has an attribute of its own.
    fn udp_checksum(&self, ipv6: bool) -> UdpChecksum {
        match (ipv6, self.udp6_zero_checksum_tx, self.udp_checksum) {
            (true, true, _) | (false, _, false) => UdpChecksum::Zero,
            _ => UdpChecksum::Compute,
        }
    }

    fn flow_label(&self) -> FlowLabel {
        match self.flow_label_policy {
            LABEL_INHERIT => FlowLabel::Inner,
            _ => FlowLabel::Fixed(self.flow_label),
        }
    }
}

/// A VXLAN header as an attribute carries it, which is as the wire does.
pub(super) fn reserved_bits_from(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::RequestBody;

    fn link(ifindex: u32, name: &str, kind: &str) -> Link {
        Link {
            ifindex,
            name: name.into(),
            mac: MacAddr([2, 0, 0, 0, 0, ifindex as u8]),
            mtu: 1500,
            up: true,
            running: true,
            kind: Some(kind.into()),
            alias: None,
            rx_queues: 1,
            tx_queues: 1,
            master: None,
            peer: None,
            parent: None,
            loopback: false,
            ethernet: true,
        }
    }

    fn found(data: RequestBody, change: impl FnOnce(&mut Link)) -> Found {
        let mut underlay = link(3, "u0", "veth");
        change(&mut underlay);
        let vxlan = LinkKind {
            link: link(4, "vx", "vxlan"),
            data: data.as_bytes().to_vec(),
            elsewhere: false,
            qdisc: String::new(),
            group: 0,
        };
        let links = [
            LinkKind {
                link: underlay,
                data: Vec::new(),
                elsewhere: false,
                qdisc: String::new(),
                group: 0,
            },
            vxlan.clone(),
        ];
        let addresses = ["10.9.0.1", "2001:db8::1"].map(|local| Address {
            ifindex: 3,
            local: local.parse().unwrap(),
            prefix_len: 24,
        });
        read(
            &vxlan,
            &links,
            &addresses,
            &Defaults {
                ttl: 61,
                port_range: (32768, 60999),
                hop_limit: |link| (link == "u0").then_some(59),
            },
        )
        .unwrap()
    }

    fn plain() -> RequestBody {
        RequestBody::default()
            .with(1, &[7, 0, 0, 0])
            .with(4, &[10, 9, 0, 1])
            .with(15, &[0x21, 0x18])
    }

    #[test]
    fn v02_d01_reserved_bits_are_the_devices_or_the_operators() {
        let bits = |data: RequestBody, reserved_bits| {
            let found = found(data, |_| {});
            let policy = Policy {
                reserved_bits,
                ..Policy::default()
            };
            let config = found
                .device
                .segment_config(&found.underlay.unwrap(), &policy);
            config.unwrap().header_bits
        };
        const MUST_BE_ZERO: u64 = 0xf7ff_ffff_0000_00f0;
        let lenient = || plain().with(33, &MUST_BE_ZERO.to_be_bytes());
        assert_eq!(bits(plain(), ReservedBits::Device), vxlan::USED_BITS);
        assert_eq!(bits(lenient(), ReservedBits::Device), !MUST_BE_ZERO);
        assert_eq!(bits(lenient(), ReservedBits::Strict), vxlan::USED_BITS);
        assert_eq!(bits(plain(), ReservedBits::Ignore), u64::MAX);
        let mask = ReservedBits::Allow(0x8000_0000_0000_0000);
        assert_eq!(bits(lenient(), mask), 0x8800_0000_ffff_ff00);
        let gbp = || plain().with(23, &[]);
        for choice in [ReservedBits::Device, ReservedBits::Strict] {
            assert_eq!(bits(gbp(), choice), 0x88ff_ffff_ffff_ff00, "{choice}");
        }
    }

    #[test]
    fn v06_d08_checksums_are_verified_on_hardware_or_as_the_operator_says() {
        for (udp_checksum_rx, on_hardware, on_veth) in [
            (UdpChecksumRx::Auto, true, false),
            (UdpChecksumRx::Verify, true, true),
            (UdpChecksumRx::Ignore, false, false),
        ] {
            for (kind, expected) in [(None, on_hardware), (Some("veth".into()), on_veth)] {
                let found = found(plain(), |link| link.kind = kind);
                let policy = Policy {
                    udp_checksum_rx,
                    ..Policy::default()
                };
                let config = found
                    .device
                    .segment_config(&found.underlay.unwrap(), &policy);
                assert_eq!(config.unwrap().verify_udp_checksum, expected);
            }
        }
    }

    #[test]
    fn without_dev_the_link_that_holds_the_local_address_is_the_underlay() {
        let found = found(plain(), |_| {});
        assert_eq!((found.device.underlay, found.refusal), (Some(3), None));
        assert_eq!(found.underlay.unwrap().name, "u0");
        assert_eq!((found.device.port, found.device.vni.get()), (8472, 7));
    }

    #[test]
    fn ttl_tos_df_checksum_follow_the_attributes() {
        let device = found(plain(), |_| {}).device;
        assert_eq!(
            (device.ttl, device.tos),
            (Inherit::Fixed(0), Inherit::Fixed(0))
        );
        assert_eq!(device.ttl_default, 61);
        assert_eq!(
            (device.df, device.udp_checksum),
            (Df::Unset, UdpChecksum::Compute)
        );
        let data = plain()
            .with(5, &[9])
            .with(6, &[1])
            .with(18, &[0])
            .with(29, &[2]);
        let device = found(data, |_| {}).device;
        assert_eq!(
            (device.ttl, device.tos),
            (Inherit::Fixed(9), Inherit::Inner)
        );
        assert_eq!(
            (device.df, device.udp_checksum),
            (Df::Inherit, UdpChecksum::Zero)
        );
        assert_eq!(
            found(plain().with(5, &[9]).with(28, &[1]), |_| {})
                .device
                .ttl,
            Inherit::Inner
        );
    }

    fn plain6() -> RequestBody {
        let local: std::net::Ipv6Addr = "2001:db8::1".parse().unwrap();
        RequestBody::default()
            .with(1, &[7, 0, 0, 0])
            .with(17, &local.octets())
            .with(15, &[0x21, 0x18])
            .with(18, &[0])
    }

    #[test]
    fn an_ipv6_device_has_the_links_hop_limit_a_checksum_and_no_label() {
        let found = found(plain6(), |_| {});
        assert_eq!((found.device.underlay, found.refusal), (Some(3), None));
        let device = found.device;
        assert_eq!(
            (device.ttl, device.ttl_default),
            (Inherit::Fixed(0), 59),
            "not the IPv4 default"
        );
        assert_eq!(
            device.udp_checksum,
            UdpChecksum::Compute,
            "`noudpcsum` is about IPv4"
        );
        assert_eq!(device.flow_label, FlowLabel::Fixed(0));
        assert!(!device.accept_udp6_zero_checksum);
    }

    #[test]
    fn d15_d17_zero_checksums_and_the_flow_label_follow_the_attributes() {
        let device = found(plain6().with(19, &[1]), |_| {}).device;
        assert_eq!(device.udp_checksum, UdpChecksum::Zero);
        assert!(!device.accept_udp6_zero_checksum);
        let device = found(plain6().with(20, &[1]), |_| {}).device;
        assert_eq!(device.udp_checksum, UdpChecksum::Compute);
        assert!(device.accept_udp6_zero_checksum);
        let label = plain6().with(26, &[0, 0xa, 0xbc, 0xde]);
        assert_eq!(
            found(label.clone(), |_| {}).device.flow_label,
            FlowLabel::Fixed(0xabcde)
        );
        let inherit = label.with(32, &1u32.to_ne_bytes());
        assert_eq!(found(inherit, |_| {}).device.flow_label, FlowLabel::Inner);
    }

    #[test]
    fn an_ipv4_mapped_local_address_is_refused() {
        let local = "10.9.0.1".parse::<std::net::Ipv4Addr>().unwrap();
        let mapped = RequestBody::default()
            .with(1, &[7, 0, 0, 0])
            .with(3, &[3, 0, 0, 0])
            .with(17, &local.to_ipv6_mapped().octets());
        assert_eq!(found(mapped, |_| {}).refusal.unwrap().attribute, "local");
    }

    #[test]
    fn of_two_devices_with_one_link_local_end_point_the_first_is_taken() {
        let local: std::net::Ipv6Addr = "fe80::1".parse().unwrap();
        let data = |vni: u8, link: u8| {
            RequestBody::default()
                .with(1, &[vni, 0, 0, 0])
                .with(3, &[link, 0, 0, 0])
                .with(17, &local.octets())
        };
        let on = |vni, link: u8| found(data(vni, link), |other| other.ifindex = link.into());
        let mut all = [on(7, 3), on(7, 5), on(8, 5)];
        refuse_ambiguous(&mut all);
        let refused: Vec<_> = all.iter().map(|found| found.refusal.is_some()).collect();
        assert_eq!(refused, [false, true, false]);

        let group: std::net::Ipv6Addr = "ff02::9".parse().unwrap();
        let with_group = |local: &str, link: u8| {
            let local: std::net::Ipv6Addr = local.parse().unwrap();
            let data = RequestBody::default()
                .with(1, &[7, 0, 0, 0])
                .with(3, &[link, 0, 0, 0])
                .with(16, &group.octets())
                .with(17, &local.octets());
            found(data, |other| other.ifindex = link.into())
        };
        let mut all = [with_group("fe80::1", 3), with_group("fe80::2", 5)];
        refuse_ambiguous(&mut all);
        assert_eq!(all[0].refusal, None);
        assert_eq!(all[1].refusal.as_ref().unwrap().attribute, "group");
    }

    #[test]
    fn the_upper_end_of_the_source_port_range_is_never_chosen() {
        let namespace = SourcePorts {
            low: 32768,
            high: 60998,
        };
        assert_eq!(source_ports((0, 0), (32768, 60999)), namespace);
        assert_eq!(
            source_ports((5000, 5000), (32768, 60999)),
            namespace,
            "an empty range counts as none"
        );
        assert_eq!(
            source_ports((5000, 5001), (32768, 60999)),
            SourcePorts {
                low: 5000,
                high: 5000
            }
        );
    }

    #[test]
    fn underlays_that_cannot_carry_frames_are_named() {
        let refused = |found: Found| found.refusal.unwrap().attribute;
        assert_eq!(refused(found(plain(), |link| link.loopback = true)), "dev");
        assert_eq!(refused(found(plain(), |link| link.ethernet = false)), "dev");
        assert_eq!(refused(found(plain(), |link| link.mtu = 9217)), "mtu");
        assert_eq!(
            refused(found(plain(), |link| link.ifindex = 99)),
            "dev",
            "no such link"
        );
    }

    #[test]
    fn a_device_without_a_local_address_is_refused_and_a_group_is_no_remote() {
        let without = RequestBody::default()
            .with(1, &[7, 0, 0, 0])
            .with(3, &[3, 0, 0, 0]);
        assert_eq!(found(without, |_| {}).refusal.unwrap().attribute, "local");
        let multicast = found(plain().with(2, &[239, 1, 1, 1]), |_| {});
        let group = Some(IpAddr::from([239, 1, 1, 1]));
        assert_eq!((multicast.refusal, multicast.device.group), (None, group));
        let unicast = found(plain().with(2, &[10, 9, 0, 7]), |_| {});
        assert_eq!(
            (unicast.refusal, unicast.device.group),
            (None, None),
            "`remote` is an FDB entry"
        );
    }
}
