//! What is sent: streams of flows, validated before anything leaves.
//!
//! Flow *i* of a stream takes the *i*-th source address, destination address, station, VTEP and VNI of their ranges, each
//! range from its start again when it ends. Source ports move on when the source addresses have been through. So a stream has as
//! many distinct flows as it takes until all of these begin again together: at least the pairs of source address and port.

use std::net::{IpAddr, SocketAddr};

use super::headers::{Family, Flow, FlowHeaders, MixedFamilies, Outer, Shape, Transport};
use super::range::{Mac, Range, Vni};
use super::size::{FCS_LEN, Sizes};

/// The most flows of one stream.
pub const FLOWS_MAX: u32 = 1_000_000;

/// One kind of traffic.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// Its share of the rate, among those of all streams.
    pub share: u16,
    /// How many flows it has.
    pub flows: u32,
    /// How large its frames are: the inner frames, or the outer ones.
    pub sizes: Sizes,
    /// Whether `sizes` are those of the outer frames.
    pub outer_sizes: bool,
    /// What the inner IP header carries.
    pub transport: Transport,
    /// Inner IP sources.
    pub source: Range<IpAddr>,
    /// Inner IP destinations.
    pub destination: Range<IpAddr>,
    /// Inner source ports.
    pub source_port: Range<u16>,
    /// Inner destination ports.
    pub destination_port: Range<u16>,
    /// Inner Ethernet sources.
    pub source_mac: Range<Mac>,
    /// Inner Ethernet destinations.
    pub destination_mac: Range<Mac>,
    /// The inner Ethernet destination that frames arrive with, where the device under test is a router and gives them another
    /// than they were sent with.
    pub arrival_mac: Option<Mac>,
    /// How it is encapsulated, if it is.
    pub tunnel: Option<Tunnel>,
}

/// The outer headers of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Tunnel {
    /// The VTEPs that the frames come from.
    pub source: Range<IpAddr>,
    /// The VTEPs that they go to.
    pub destination: Range<IpAddr>,
    /// Outer UDP source ports, one a flow.
    pub source_port: Range<u16>,
    /// The VXLAN port.
    pub port: u16,
    /// The VNIs.
    pub vni: Range<Vni>,
    /// Ethernet source.
    pub source_mac: Mac,
    /// Ethernet destination: the device under test, or its router.
    pub destination_mac: Mac,
    /// Whether the outer UDP checksum is 0 also over IPv6, where it must be agreed on (RFC 6935). Over IPv4 it always is.
    pub zero_checksum6: bool,
}

/// A stream that cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// No flows, or too many.
    #[error("{0} flows: a stream has 1 to {FLOWS_MAX}")]
    Flows(u32),
    /// More flows than there are distinct ones.
    #[error(
        "{flows} flows, but the addresses and ports give only {distinct}: widen --src or --src-port"
    )]
    Distinct {
        /// Asked for.
        flows: u32,
        /// Possible.
        distinct: u64,
    },
    /// A frame too small for headers and signature.
    #[error(
        "size {size}: with these headers and a signature of 16 bytes, the smallest is {smallest}"
    )]
    Size {
        /// Asked for.
        size: u16,
        /// Possible.
        smallest: u16,
    },
    /// Families that do not go together.
    #[error(transparent)]
    Families(#[from] MixedFamilies),
    /// A share of zero.
    #[error("a share of 0: a stream without frames is none")]
    Share,
}

impl Stream {
    /// Where the headers of its frames are.
    ///
    /// # Errors
    /// [`ProfileError::Families`].
    pub fn shape(&self) -> Result<Shape, ProfileError> {
        alike(self.source, self.destination)?;
        if let Some(tunnel) = &self.tunnel {
            alike(tunnel.source, tunnel.destination)?;
        }
        Ok(Shape {
            outer: self
                .tunnel
                .as_ref()
                .map(|tunnel| Family::of(tunnel.source.first())),
            inner: Family::of(self.source.first()),
            transport: self.transport,
            arrival_mac: self.arrival_mac.map(|mac| mac.0),
        })
    }

    /// Judges the stream as a whole.
    ///
    /// # Errors
    /// Names what is wrong, and what would be right.
    pub fn validate(&self) -> Result<(), ProfileError> {
        let shape = self.shape()?;
        if self.share == 0 {
            return Err(ProfileError::Share);
        }
        if !(1..=FLOWS_MAX).contains(&self.flows) {
            return Err(ProfileError::Flows(self.flows));
        }
        let sources = self.source.len().saturating_mul(self.source_port.len());
        let (destinations, ports) = (self.destination.len(), self.destination_port.len());
        let distinct = together(together(sources, destinations), ports);
        if u64::from(self.flows) > distinct {
            let flows = self.flows;
            return Err(ProfileError::Distinct { flows, distinct });
        }
        let tunnel_len = if self.outer_sizes {
            shape.inner_at()
        } else {
            0
        };
        let smallest = shape.size_min() + tunnel_len;
        match self.sizes.smallest() {
            size if size < smallest => Err(ProfileError::Size { size, smallest }),
            _ => Ok(()),
        }
    }

    /// The headers of one flow.
    ///
    /// # Errors
    /// [`ProfileError::Families`].
    pub fn headers(&self, number: u32) -> Result<FlowHeaders, ProfileError> {
        let flow = self.flow(u64::from(number));
        Ok(FlowHeaders::new(&flow, self.transport)?)
    }

    /// The lengths of its frames in memory, all headers included, with their weights.
    ///
    /// # Errors
    /// [`ProfileError::Families`].
    pub fn lengths(&self) -> Result<Vec<(u16, u16)>, ProfileError> {
        let shape = self.shape()?;
        let tunnel_len = if self.outer_sizes {
            0
        } else {
            shape.inner_at()
        };
        let length = |size: u16| size - FCS_LEN + tunnel_len;
        let list = self.sizes.list().iter();
        Ok(list
            .map(|entry| (length(entry.size), entry.weight))
            .collect())
    }

    fn flow(&self, number: u64) -> Flow {
        let lap = number / self.source.len();
        let port = self.source_port.nth(lap);
        let far_port = self.destination_port.nth(number);
        Flow {
            outer: self.tunnel.as_ref().map(|tunnel| tunnel.outer(number)),
            source_mac: self.source_mac.nth(number).0,
            destination_mac: self.destination_mac.nth(number).0,
            source: SocketAddr::new(self.source.nth(number), port),
            destination: SocketAddr::new(self.destination.nth(number), far_port),
        }
    }
}

impl Tunnel {
    fn outer(&self, number: u64) -> Outer {
        let source = self.source.nth(number);
        Outer {
            source_mac: self.source_mac.0,
            destination_mac: self.destination_mac.0,
            source: SocketAddr::new(source, self.source_port.nth(number)),
            destination: SocketAddr::new(self.destination.nth(number), self.port),
            vni: self.vni.nth(number).0,
            zero_checksum: source.is_ipv4() || self.zero_checksum6,
        }
    }
}

/// After how many steps two counters, of which each begins again after so many, begin again together.
fn together(one: u64, other: u64) -> u64 {
    let (mut divisor, mut rest) = (one, other);
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    (one / divisor).saturating_mul(other)
}

fn alike(from: Range<IpAddr>, to: Range<IpAddr>) -> Result<(), MixedFamilies> {
    let (from, to) = (from.first(), to.first());
    if from.is_ipv4() == to.is_ipv4() {
        Ok(())
    } else {
        Err(MixedFamilies { from, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn stream() -> Stream {
        Stream {
            share: 1,
            flows: 100,
            sizes: "64".parse().unwrap(),
            outer_sizes: false,
            transport: Transport::Udp,
            source: "198.18.0.1-198.18.0.10".parse().unwrap(),
            destination: "198.19.0.0/28".parse().unwrap(),
            source_port: "1000-1099".parse().unwrap(),
            destination_port: "9".parse().unwrap(),
            source_mac: "02:00:00:00:00:01".parse().unwrap(),
            destination_mac: "02:00:00:00:01:00-02:00:00:00:01:03".parse().unwrap(),
            arrival_mac: None,
            tunnel: None,
        }
    }

    fn tunnel() -> Tunnel {
        Tunnel {
            source: "198.18.1.1-198.18.1.3".parse().unwrap(),
            destination: "198.18.2.1".parse().unwrap(),
            source_port: "49152-65535".parse().unwrap(),
            port: 8472,
            vni: "1-4000".parse().unwrap(),
            source_mac: "02:00:00:00:02:01".parse::<Range<Mac>>().unwrap().first(),
            destination_mac: "02:00:00:00:02:02".parse::<Range<Mac>>().unwrap().first(),
            zero_checksum6: false,
        }
    }

    #[test]
    fn every_flow_is_its_own() {
        let stream = Stream {
            flows: 1000,
            ..stream()
        };
        stream.validate().unwrap();
        let tuples: HashSet<_> = (0..1000)
            .map(|n| stream.headers(n).unwrap().bytes[26..38].to_vec())
            .collect();
        assert_eq!(tuples.len(), 1000);
    }

    #[test]
    fn a_flow_takes_its_values_by_its_number() {
        let stream = Stream {
            tunnel: Some(tunnel()),
            ..stream()
        };
        let headers = stream.headers(13).unwrap().bytes;
        assert_eq!(
            headers[26..34],
            [198, 18, 1, 2, 198, 18, 2, 1],
            "VTEPs: 13 mod 3"
        );
        assert_eq!(headers[34..36], (49_152u16 + 13).to_be_bytes());
        assert_eq!(headers[46..49], [0, 0, 14], "VNI");
        assert_eq!(
            headers[50..56],
            [2, 0, 0, 0, 1, 1],
            "inner destination: 13 mod 4"
        );
        assert_eq!(headers[76..80], [198, 18, 0, 4], "inner source: 13 mod 10");
        assert_eq!(headers[84..86], 1001u16.to_be_bytes(), "the second port");
    }

    #[test]
    fn lengths_are_those_in_memory() {
        let mut stream = Stream {
            sizes: "64,1518:2".parse().unwrap(),
            ..stream()
        };
        assert_eq!(stream.lengths().unwrap(), [(60, 1), (1514, 2)]);
        stream.tunnel = Some(tunnel());
        assert_eq!(stream.lengths().unwrap(), [(110, 1), (1564, 2)]);
        stream.outer_sizes = true;
        assert_eq!(stream.lengths().unwrap(), [(60, 1), (1514, 2)]);
    }

    #[test]
    fn what_cannot_be_sent_is_refused_with_what_can() {
        let error = |stream: Stream| stream.validate().unwrap_err();
        assert_eq!(
            error(Stream {
                flows: 0,
                ..stream()
            }),
            ProfileError::Flows(0)
        );
        assert_eq!(
            error(Stream {
                share: 0,
                ..stream()
            }),
            ProfileError::Share
        );
        assert_eq!(
            error(Stream {
                flows: 1001,
                destination: "198.19.0.1".parse().unwrap(),
                ..stream()
            }),
            ProfileError::Distinct {
                flows: 1001,
                distinct: 1000
            }
        );
        // One source with one port, and still each flow has another pair of ends.
        let mirrored = Stream {
            flows: 150,
            source: "198.18.0.1-198.18.0.3".parse().unwrap(),
            source_port: "9".parse().unwrap(),
            destination: "198.19.0.1".parse().unwrap(),
            destination_port: "1000-1049".parse().unwrap(),
            ..stream()
        };
        mirrored.validate().unwrap();
        let tuples: HashSet<_> = (0..150)
            .map(|n| mirrored.headers(n).unwrap().bytes[26..38].to_vec())
            .collect();
        assert_eq!(tuples.len(), 150);
        assert_eq!(
            error(Stream {
                transport: Transport::Tcp,
                ..stream()
            }),
            ProfileError::Size {
                size: 64,
                smallest: 74
            }
        );
        let outer = Stream {
            outer_sizes: true,
            tunnel: Some(tunnel()),
            ..stream()
        };
        assert_eq!(
            error(outer),
            ProfileError::Size {
                size: 64,
                smallest: 114
            }
        );
        let mixed = Stream {
            destination: "2001:2::1".parse().unwrap(),
            ..stream()
        };
        assert!(matches!(error(mixed), ProfileError::Families(_)));
    }
}
