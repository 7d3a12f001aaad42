//! What was sent, as its flags or its profile gave it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::loadgen::books::Fates;
use crate::loadgen::headers::Transport;
use crate::loadgen::order::Order;
use crate::loadgen::profile::{Stream, Tunnel};

/// One stream of a measurement. Its place in the list is its number: that in its frames, and in `books.streams` of each trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamReport {
    /// Its name.
    pub name: String,
    /// Its share of the rate, among those of all streams.
    pub share: u16,
    /// Flows.
    pub flows: u32,
    /// Frame sizes with the FCS.
    pub sizes: String,
    /// Whose: `inner` or `outer`.
    pub size_of: String,
    /// `udp`, `tcp` or `icmp`.
    pub proto: String,
    /// Inner IP sources.
    pub src: String,
    /// Inner IP destinations.
    pub dst: String,
    /// The outer headers; none when the frames are plain.
    pub tunnel: Option<TunnelReport>,
    /// The order of its flows: `inc` or `random`.
    pub order: String,
    /// What made that order, when it is random.
    pub seed: Option<u64>,
}

/// How a stream is encapsulated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelReport {
    /// VNIs.
    pub vni: String,
    /// VTEPs that the frames come from.
    pub vtep_src: String,
    /// VTEPs that they go to.
    pub vtep_dst: String,
    /// The VXLAN port.
    pub port: u16,
}

impl StreamReport {
    /// What there is to say of it.
    pub fn new(name: &str, stream: &Stream, order: Order) -> Self {
        let size_of = if stream.outer_sizes { "outer" } else { "inner" };
        let proto = match stream.transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Icmp => "icmp",
        };
        Self {
            name: name.to_owned(),
            share: stream.share,
            flows: stream.flows,
            sizes: stream.sizes.to_string(),
            size_of: size_of.to_owned(),
            proto: proto.to_owned(),
            src: stream.source.to_string(),
            dst: stream.destination.to_string(),
            tunnel: stream.tunnel.as_ref().map(TunnelReport::from),
            order: order.name().to_owned(),
            seed: order.seed(),
        }
    }
}

impl From<&Tunnel> for TunnelReport {
    fn from(tunnel: &Tunnel) -> Self {
        Self {
            vni: tunnel.vni.to_string(),
            vtep_src: tunnel.source.to_string(),
            vtep_dst: tunnel.destination.to_string(),
            port: tunnel.port,
        }
    }
}

impl fmt::Display for StreamReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.flows == 1 { "" } else { "s" };
        write!(
            f,
            "{} flow{plural} of {}, {} bytes {}, {} to {}",
            self.flows, self.proto, self.sizes, self.size_of, self.src, self.dst
        )?;
        match &self.tunnel {
            Some(tunnel) => write!(
                f,
                "; VNI {}, {} to {} port {}",
                tunnel.vni, tunnel.vtep_src, tunnel.vtep_dst, tunnel.port
            ),
            None => Ok(()),
        }
    }
}

/// The fates of several streams, a line each.
pub(super) struct Table<'a> {
    pub streams: &'a [StreamReport],
    pub fates: &'a [Fates],
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self
            .streams
            .iter()
            .map(|stream| stream.name.chars().count());
        let width = widths.max().unwrap_or(0).max(6);
        writeln!(
            f,
            "  {:<width$} {:>12} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10}",
            "stream", "sent", "received", "lost", "corrupted", "misled", "doubled", "reordered"
        )?;
        for (stream, fates) in self.streams.iter().zip(self.fates) {
            writeln!(
                f,
                "  {:<width$} {:>12} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10}",
                stream.name,
                fates.sent,
                fates.received,
                fates.lost,
                fates.corrupted,
                fates.misdelivered,
                fates.duplicated,
                fates.reordered
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A stream of this name.
    pub fn stream(name: &str) -> StreamReport {
        StreamReport {
            name: name.to_owned(),
            share: 1,
            flows: 4000,
            sizes: "imix".to_owned(),
            size_of: "inner".to_owned(),
            proto: "udp".to_owned(),
            src: "198.18.0.1".to_owned(),
            dst: "198.19.0.1".to_owned(),
            tunnel: None,
            order: "inc".to_owned(),
            seed: None,
        }
    }

    #[test]
    fn a_stream_is_told_in_a_line() {
        let tunnel = TunnelReport {
            vni: "1-4000".to_owned(),
            vtep_src: "198.18.1.1".to_owned(),
            vtep_dst: "198.18.1.2".to_owned(),
            port: 8472,
        };
        let stream = StreamReport {
            tunnel: Some(tunnel),
            ..stream("any")
        };
        assert_eq!(
            stream.to_string(),
            "4000 flows of udp, imix bytes inner, 198.18.0.1 to 198.19.0.1; VNI 1-4000, 198.18.1.1 to 198.18.1.2 port 8472"
        );
    }
}
