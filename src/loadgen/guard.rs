//! Where a load may go. A generator sends to whoever it is told; a slip of the finger must not reach somebody's network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::profile::Stream;
use super::range::{Ordinal, Range, network};

/// Set aside for benchmarks: RFC 2544 (C.2.2) and RFC 5180 §8.
const LAB: [(IpAddr, u8); 2] = [
    (IpAddr::V4(Ipv4Addr::new(198, 18, 0, 0)), 15),
    (IpAddr::V6(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0)), 48),
];

/// An address outside of the lab.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{range} is not a range for benchmarks (198.18.0.0/15, 2001:2::/48) nor among the addresses of this network namespace: \
     use these, or say --i-know-this-network"
)]
pub struct NotALab {
    range: Range<IpAddr>,
}

/// Judges every address of a stream. `own`: the prefixes of the namespace's own addresses, as (address, prefix length).
///
/// # Errors
/// Names the first range that leaves the lab.
pub fn check(stream: &Stream, own: &[(IpAddr, u8)]) -> Result<(), NotALab> {
    let inner = [stream.source, stream.destination];
    let tunnel = stream.tunnel.iter();
    let outer = tunnel.flat_map(|tunnel| [tunnel.source, tunnel.destination]);
    let mut all = inner.into_iter().chain(outer);
    all.try_for_each(|range| stays(range, own))
}

/// Judges one address.
///
/// # Errors
/// When it is not in the lab.
pub fn check_address(addr: IpAddr, own: &[(IpAddr, u8)]) -> Result<(), NotALab> {
    stays(Range::one(addr), own)
}

fn stays(range: Range<IpAddr>, own: &[(IpAddr, u8)]) -> Result<(), NotALab> {
    let mut prefixes = LAB
        .iter()
        .chain(own)
        .filter_map(|(addr, len)| network(*addr, *len));
    let within = prefixes.any(|(first, last)| {
        first.alike(range.first())
            && first.to_number() <= range.first().to_number()
            && range.last().to_number() <= last.to_number()
    });
    if within {
        Ok(())
    } else {
        Err(NotALab { range })
    }
}

#[cfg(test)]
mod tests {
    use super::super::headers::Transport;
    use super::*;

    fn stream(source: &str, destination: &str) -> Stream {
        Stream {
            share: 1,
            flows: 1,
            sizes: "64".parse().unwrap(),
            outer_sizes: false,
            transport: Transport::Udp,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            source_port: "1".parse().unwrap(),
            destination_port: "9".parse().unwrap(),
            source_mac: "02:00:00:00:00:01".parse().unwrap(),
            destination_mac: "02:00:00:00:00:02".parse().unwrap(),
            arrival_mac: None,
            tunnel: None,
        }
    }

    #[test]
    fn benchmark_ranges_and_own_networks_are_the_lab() {
        let own = [
            ("10.0.0.10".parse().unwrap(), 24),
            ("fd00::1".parse().unwrap(), 64),
        ];
        for (from, to) in [
            ("198.18.0.0/16", "198.19.255.255"),
            ("2001:2::1", "2001:2:0:ffff::1"),
            ("10.0.0.10", "10.0.0.1-10.0.0.255"),
            ("fd00::1", "fd00::2"),
        ] {
            assert_eq!(check(&stream(from, to), &own), Ok(()), "{from} {to}");
        }
    }

    #[test]
    fn everything_else_needs_a_word() {
        let own = [("10.0.0.10".parse().unwrap(), 24)];
        for (from, to) in [
            ("198.18.0.1", "198.20.0.0"),
            ("198.17.255.255-198.18.0.1", "198.18.0.1"),
            ("10.0.0.10", "10.0.0.1-10.0.1.0"),
            ("2001:2::1", "2001:2:1::1"),
            ("8.8.8.8", "198.18.0.1"),
        ] {
            let error = check(&stream(from, to), &own).unwrap_err();
            assert!(error.to_string().contains("--i-know-this-network"));
        }
        assert!(check_address("10.0.0.77".parse().unwrap(), &own).is_ok());
        assert!(check_address("10.0.1.77".parse().unwrap(), &own).is_err());
    }
}
