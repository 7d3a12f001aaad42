//! The flags that say what is sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::{Args, ValueEnum};

use crate::loadgen::headers::{Family, Transport};
use crate::loadgen::order::Order;
use crate::loadgen::profile::{Stream, Tunnel};
use crate::loadgen::range::{Mac, Range, Vni};
use crate::loadgen::size::Sizes;

/// What the inner IP header carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Udp,
    Tcp,
    Icmp,
}

/// Whose sizes are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SizeOf {
    Inner,
    Outer,
}

/// In which order flows take their turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FlowOrder {
    /// By number: addresses and ports count up.
    Inc,
    /// Shuffled by --seed.
    Random,
}

/// One stream of frames. With `--vni` they are encapsulated; without, they are plain.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Traffic")]
pub(super) struct Traffic {
    /// Flows, 1 to 1,000,000.
    #[arg(long, default_value_t = 1)]
    flows: u32,
    /// Frame sizes with the 4 bytes of FCS: a number, SIZE:WEIGHT, a list of these, or imix.
    #[arg(long, value_name = "SIZES", default_value = "64")]
    size: Sizes,
    /// Whether sizes are those of the inner or of the outer frames.
    #[arg(long, value_enum, default_value_t = SizeOf::Inner)]
    size_of: SizeOf,
    /// What the inner packets carry. TCP has headers only: there is no connection.
    #[arg(long, value_enum, default_value_t = Protocol::Udp)]
    proto: Protocol,
    /// Use IPv6 (2001:2::/48) where no inner address is given.
    #[arg(long)]
    ipv6: bool,
    /// Inner source addresses [default: 198.18.0.1, or 2001:2::1].
    #[arg(long, value_name = "RANGE")]
    src: Option<Range<IpAddr>>,
    /// Inner destination addresses [default: 198.19.0.1, or 2001:2:0:1::1].
    #[arg(long, value_name = "RANGE")]
    dst: Option<Range<IpAddr>>,
    /// Inner source ports; flows take the next one when the source addresses have been through.
    #[arg(long, value_name = "RANGE", default_value = "1024-65535")]
    src_port: Range<u16>,
    /// Inner destination ports.
    #[arg(long, value_name = "RANGE", default_value = "9")]
    dst_port: Range<u16>,
    /// Inner Ethernet sources [default: the sending device's, or 02:00:00:00:00:01 when encapsulated].
    #[arg(long, value_name = "RANGE")]
    src_mac: Option<Range<Mac>>,
    /// Inner Ethernet destinations [default: the receiving device's, or 02:00:00:00:00:02 when encapsulated].
    #[arg(long, value_name = "RANGE")]
    dst_mac: Option<Range<Mac>>,
    /// Inner Ethernet destination that frames arrive with, where a router between the ends changes it [default: as sent].
    #[arg(long, value_name = "MAC", value_parser = one_mac)]
    arrival_mac: Option<Mac>,
    /// The order in which flows take their turns.
    #[arg(long, value_enum, default_value_t = FlowOrder::Inc)]
    order: FlowOrder,
    /// What makes the order random: the same seed, the same order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    tunnel: TunnelFlags,
}

/// The outer headers.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Encapsulation")]
struct TunnelFlags {
    /// Encapsulate in VXLAN with these VNIs.
    #[arg(long, value_name = "RANGE")]
    vni: Option<Range<Vni>>,
    /// VTEPs that the frames come from [default: 198.18.1.1].
    #[arg(long, value_name = "RANGE", requires = "vni")]
    vtep_src: Option<Range<IpAddr>>,
    /// VTEPs that the frames go to [default: 198.18.1.2].
    #[arg(long, value_name = "RANGE", requires = "vni")]
    vtep_dst: Option<Range<IpAddr>>,
    /// Outer UDP source ports, one a flow.
    #[arg(long, value_name = "RANGE", default_value = "49152-65535")]
    vtep_src_port: Range<u16>,
    /// The VXLAN port.
    #[arg(long, value_name = "PORT", default_value_t = 8472)]
    vxlan_port: u16,
    /// Outer Ethernet destination [default: the receiving device's].
    #[arg(long, value_name = "MAC", value_parser = one_mac, requires = "vni")]
    outer_dst_mac: Option<Mac>,
    /// Send a UDP checksum of 0 over IPv6 (RFC 6935); over IPv4 it always is 0.
    #[arg(long, requires = "vni")]
    zero_checksum6: bool,
}

/// All of the flags above, by their fields: none of them goes with a file that says what is sent.
pub(super) const FLAGS: [&str; 21] = [
    "flows",
    "size",
    "size_of",
    "proto",
    "ipv6",
    "src",
    "dst",
    "src_port",
    "dst_port",
    "src_mac",
    "dst_mac",
    "arrival_mac",
    "order",
    "seed",
    "vni",
    "vtep_src",
    "vtep_dst",
    "vtep_src_port",
    "vxlan_port",
    "outer_dst_mac",
    "zero_checksum6",
];
/// Where those are among them that say what a receiver looks for, whatever is sent.
pub(super) const RECEIVED_AT: [usize; 2] = [11, 18];

pub(super) fn one_mac(text: &str) -> Result<Mac, String> {
    let range: Range<Mac> = text.parse().map_err(|_| bad_mac())?;
    if range.len() == 1 {
        Ok(range.first())
    } else {
        Err(bad_mac())
    }
}

fn bad_mac() -> String {
    "use one Ethernet address, such as 02:00:00:00:00:01".to_owned()
}

/// Inner stations when nobody says which: locally administered.
const STATIONS: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];

impl Traffic {
    /// The stream, between devices with these Ethernet addresses.
    pub(super) fn stream(&self, sender: Mac, receiver: Mac) -> Stream {
        let tunnel = self
            .tunnel
            .vni
            .map(|vni| self.tunnel.tunnel(vni, sender, receiver));
        let [near, far] = match tunnel {
            Some(_) => STATIONS,
            None => [sender, receiver],
        };
        let [source, destination] = self.addresses();
        Stream {
            share: 1,
            flows: self.flows,
            sizes: self.size.clone(),
            outer_sizes: self.size_of == SizeOf::Outer,
            transport: match self.proto {
                Protocol::Udp => Transport::Udp,
                Protocol::Tcp => Transport::Tcp,
                Protocol::Icmp => Transport::Icmp,
            },
            source,
            destination,
            source_port: self.src_port,
            destination_port: self.dst_port,
            source_mac: self.src_mac.unwrap_or(Range::one(near)),
            destination_mac: self.dst_mac.unwrap_or(Range::one(far)),
            arrival_mac: self.arrival_mac,
            tunnel,
        }
    }

    /// The order of its flows.
    pub(super) fn order(&self) -> Order {
        match self.order {
            FlowOrder::Inc => Order::Increasing,
            FlowOrder::Random => Order::Random { seed: self.seed },
        }
    }

    /// The Ethernet destination that frames arrive with, if it is another than they were sent with.
    pub(super) fn arrival_mac(&self) -> Option<Mac> {
        self.arrival_mac
    }

    /// The UDP port behind which a sink finds frames encapsulated: also those that a device under test encapsulates.
    pub(super) fn vxlan_port(&self) -> u16 {
        self.tunnel.vxlan_port
    }

    /// Inner source and destination. A default takes the family of the address that was given.
    fn addresses(&self) -> [Range<IpAddr>; 2] {
        let given = self.src.or(self.dst);
        let family = match given {
            Some(range) => Family::of(range.first()),
            None if self.ipv6 => Family::V6,
            None => Family::V4,
        };
        let [source, destination] = match family {
            Family::V4 => [
                Ipv4Addr::new(198, 18, 0, 1).into(),
                Ipv4Addr::new(198, 19, 0, 1).into(),
            ],
            Family::V6 => [
                Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 1).into(),
                Ipv6Addr::new(0x2001, 2, 0, 1, 0, 0, 0, 1).into(),
            ],
        };
        [
            self.src.unwrap_or(Range::one(source)),
            self.dst.unwrap_or(Range::one(destination)),
        ]
    }
}

impl TunnelFlags {
    fn tunnel(&self, vni: Range<Vni>, sender: Mac, receiver: Mac) -> Tunnel {
        let family = self
            .vtep_src
            .or(self.vtep_dst)
            .map(|range| Family::of(range.first()));
        let vtep = |last: u8| -> IpAddr {
            match family {
                Some(Family::V6) => Ipv6Addr::new(0x2001, 2, 0, 2, 0, 0, 0, last.into()).into(),
                _ => Ipv4Addr::new(198, 18, 1, last).into(),
            }
        };
        Tunnel {
            source: self.vtep_src.unwrap_or(Range::one(vtep(1))),
            destination: self.vtep_dst.unwrap_or(Range::one(vtep(2))),
            source_port: self.vtep_src_port,
            port: self.vxlan_port,
            vni,
            source_mac: sender,
            destination_mac: self.outer_dst_mac.unwrap_or(receiver),
            zero_checksum6: self.zero_checksum6,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        traffic: Traffic,
    }

    const SENDER: Mac = Mac([2, 0, 0, 0, 1, 1]);
    const RECEIVER: Mac = Mac([2, 0, 0, 0, 1, 2]);

    pub fn stream(flags: &str) -> Stream {
        let line =
            Line::try_parse_from(["bench"].into_iter().chain(flags.split_ascii_whitespace()));
        line.unwrap_or_else(|error| panic!("{error}"))
            .traffic
            .stream(SENDER, RECEIVER)
    }

    #[test]
    fn no_flag_is_left_out_of_the_list() {
        let command = Line::command();
        let flags: Vec<_> = command.get_arguments().map(|flag| flag.get_id()).collect();
        assert_eq!(flags, FLAGS);
        assert_eq!(
            RECEIVED_AT.map(|at| FLAGS[at]),
            ["arrival_mac", "vxlan_port"]
        );
    }

    #[test]
    fn without_flags_a_plain_flow_goes_from_device_to_device() {
        let stream = stream("");
        assert_eq!(stream.validate(), Ok(()));
        assert_eq!((stream.flows, stream.tunnel.is_none()), (1, true));
        assert_eq!(stream.source_mac, Range::one(SENDER));
        assert_eq!(stream.destination_mac, Range::one(RECEIVER));
    }

    #[test]
    fn a_vni_encapsulates() {
        let stream =
            stream("--vni 1-4000 --flows 4000 --size imix --outer-dst-mac 02:00:00:00:09:09");
        assert_eq!(stream.validate(), Ok(()));
        let tunnel = stream.tunnel.unwrap();
        assert_eq!((tunnel.vni.len(), tunnel.port), (4000, 8472));
        assert_eq!(
            (tunnel.source_mac, tunnel.destination_mac),
            (SENDER, Mac([2, 0, 0, 0, 9, 9]))
        );
        assert_eq!(stream.source_mac, Range::one(STATIONS[0]));
    }

    #[test]
    fn a_default_address_follows_the_family_of_the_one_given() {
        let six = stream("--src 2001:2::5 --size 128");
        assert!(six.destination.first().is_ipv6());
        assert!(stream("--ipv6 --size 128").source.first().is_ipv6());
        let outer = stream("--vni 1 --vtep-dst 2001:2::9").tunnel.unwrap();
        assert!(outer.source.first().is_ipv6());
    }

    #[test]
    fn outer_addresses_without_a_vni_are_refused() {
        for flags in ["--vtep-src 198.18.1.1", "--outer-dst-mac 02:00:00:00:00:01"] {
            let line = Line::try_parse_from(["bench"].into_iter().chain(flags.split(' ')));
            assert!(line.is_err(), "{flags}");
        }
        assert!(one_mac("02:00:00:00:00:01-02:00:00:00:00:02").is_err());
    }
}
