//! What the length of its payload changes in a frame, by the shape of its stream.

use crate::loadgen::headers::{Family, FlowHeaders, Shape, Transport};
use crate::loadgen::signature;

/// Where the lengths and checksums of a frame are, and how often the payload's length enters them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub shape: Shape,
    /// How often the length enters the outer UDP checksum: in its own header and pseudo-header, and once more in the inner
    /// IPv6 header (an IPv4 header sums up to nothing). A right inner checksum takes off what its pseudo-header adds.
    pub outer_udp_times: u8,
    /// The same for the inner transport checksum: in the pseudo-header, and in the UDP header.
    pub transport_times: u8,
}

impl Layout {
    /// Of a stream's frames.
    pub fn new(shape: Shape) -> Self {
        let pseudo_header = shape.transport != Transport::Icmp || shape.inner == Family::V6;
        let in_ip = u8::from(shape.inner == Family::V6);
        Self {
            shape,
            outer_udp_times: 2 + in_ip - u8::from(pseudo_header),
            transport_times: u8::from(pseudo_header) + u8::from(shape.transport == Transport::Udp),
        }
    }
}

/// What a signature's check takes from the headers of a flow.
pub(super) fn header_check(shape: Shape, headers: &FlowHeaders) -> u16 {
    let part = |at: u16, len: usize| {
        let at = usize::from(at);
        headers.bytes.get(at..at + len).unwrap_or_default()
    };
    let addresses = match shape.inner {
        Family::V4 => part(shape.inner_ip_at() + 12, 8),
        Family::V6 => part(shape.inner_ip_at() + 8, 32),
    };
    let station = match &shape.arrival_mac {
        Some(mac) => mac.as_slice(),
        None => part(shape.inner_at(), 6),
    };
    let ports = part(shape.inner_transport_at() + shape.transport.ports_at(), 4);
    signature::check(&[station, addresses, ports])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loadgen::headers::Flow;

    #[test]
    fn the_check_is_over_the_ethernet_destination_of_arrival() {
        const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 9];
        const STATION: [u8; 6] = [2, 0, 0, 0, 7, 2];
        let headers = |destination_mac| {
            let flow = Flow {
                outer: None,
                source_mac: [2, 0, 0, 0, 0, 1],
                destination_mac,
                source: "198.18.0.1:1000".parse().unwrap(),
                destination: "198.19.0.1:9".parse().unwrap(),
            };
            FlowHeaders::new(&flow, Transport::Udp).unwrap()
        };
        let direct = Shape {
            outer: None,
            inner: Family::V4,
            transport: Transport::Udp,
            arrival_mac: None,
        };
        let routed = Shape {
            arrival_mac: Some(STATION),
            ..direct
        };
        let (sent, arrived) = (headers(ROUTER), headers(STATION));
        assert_eq!(
            header_check(routed, &sent),
            header_check(direct, &arrived),
            "what the sink computes from the frame that arrives"
        );
        assert_ne!(header_check(direct, &sent), header_check(direct, &arrived));
    }
}
