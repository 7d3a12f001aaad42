//! Inner checksums that were left to a device (F5), by hand: TCP, UDP and SCTP, in IPv4, in IPv6 and behind extension headers,
//! with and without tags, over each family, in both directions. A right one stays as it is.

use super::bytes::{
    self, ETHER_IPV4, ETHER_IPV6, Inner, crc32c, internet_checksum, ipv4, ipv6, partial_sum, put16,
};
use super::compare::Fates;
use super::outer::{Family, Outer, inner_of};
use super::rows::{cells, plain_pair};
use super::setting::Segment;
use super::site::Entry;
use super::support::end::{Input, Offload};

#[derive(Clone, Copy)]
enum Network {
    V4,
    V6,
    /// Behind hop-by-hop and destination options.
    V6Extended,
}
use Network::{V4, V6, V6Extended};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp = 6,
    Udp = 17,
    Sctp = 132,
}
use Transport::{Sctp, Tcp, Udp};

const TAGS: [&[(u16, u16)]; 3] = [&[], &[(0x8100, 0x2064)], &[(0x88a8, 0x2014), (0x8100, 10)]];

/// A frame as it should be, and as its sender left it.
struct Pieces {
    right: Vec<u8>,
    unfinished: Vec<u8>,
    /// What the sender tells its device; of SCTP `AF_PACKET` cannot tell it.
    offload: Option<Offload>,
}

fn pieces(network: Network, transport: Transport, tags: &[(u16, u16)], outbound: bool) -> Pieces {
    let (head, field) = match transport {
        Tcp => (20, 16),
        Udp => (8, 6),
        Sctp => (12, 8),
    };
    // An odd number of bytes behind the header.
    let mut segment = vec![0x5a; head + 31];
    let len = segment.len() as u16;
    match transport {
        Tcp => (segment[12], segment[13]) = (0x50, 0x18),
        Udp => put16(&mut segment, 4, len),
        Sctp => {}
    }
    let around = |segment: &[u8]| {
        let (ether_type, packet) = within(network, transport, segment);
        let inner = Inner::with(ether_type, packet).tagged(tags);
        let inner = if outbound { inner.outbound() } else { inner };
        inner.bytes()
    };
    let sum_len = if transport == Sctp { 4 } else { 2 };
    segment[field..field + sum_len].fill(0);
    if transport == Sctp {
        let unfinished = around(&segment);
        let crc = crc32c(&segment).to_le_bytes();
        segment[field..field + 4].copy_from_slice(&crc);
        return Pieces {
            right: around(&segment),
            unfinished,
            offload: None,
        };
    }
    let (_, packet) = within(network, transport, &segment);
    let addresses = match network {
        V4 => &packet[12..20],
        V6 | V6Extended => &packet[8..40],
    };
    let pseudo = [addresses, &[0, transport as u8], &len.to_be_bytes()].concat();
    let right = internet_checksum(&[&pseudo, &segment]);
    put16(&mut segment, field, partial_sum(&[&pseudo]));
    let unfinished = around(&segment);
    put16(&mut segment, field, right);
    Pieces {
        right: around(&segment),
        offload: Some(Offload {
            start: (unfinished.len() - segment.len()) as u16,
            field: field as u16,
            segmentation: None,
        }),
        unfinished,
    }
}

/// The IP packet around a transport segment, and its EtherType.
fn within(network: Network, transport: Transport, segment: &[u8]) -> (u16, Vec<u8>) {
    const DESTINATION_OPTIONS: u8 = 60;
    let protocol = transport as u8;
    match network {
        V4 => (ETHER_IPV4, ipv4(0, 64, 0x4000, protocol, segment)),
        V6 => (ETHER_IPV6, ipv6(0, 64, protocol, segment)),
        V6Extended => {
            // Padding of six bytes in each.
            let hop_by_hop = [DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0];
            let destination = [protocol, 0, 1, 4, 0, 0, 0, 0];
            let payload = [&hop_by_hop[..], &destination, segment].concat();
            (ETHER_IPV6, ipv6(0, 64, 0, &payload))
        }
    }
}

fn finished(family: Family, network: Network, transport: Transport) {
    for tags in TAGS {
        inbound(family, &pieces(network, transport, tags, false));
        outbound(family, &pieces(network, transport, tags, true));
    }
}

/// What is beside the frame does not cross a tunnel: the kernel delivers an unfinished frame as it is.
fn inbound(family: Family, pieces: &Pieces) {
    let outer = Outer::to(&Segment::over(family));
    for (inner, by_kernel) in [
        (&pieces.unfinished, &pieces.unfinished),
        (&pieces.right, &pieces.right),
    ] {
        let frame = Input::from(outer.around(inner));
        let Fates { kernel, ours } = plain_pair(family).get().fates(Entry::Wire, &frame);
        assert_eq!(kernel.overlay, std::slice::from_ref(by_kernel), "kernel");
        assert_eq!(ours.overlay, std::slice::from_ref(&pieces.right), "vxgate");
    }
}

/// The kernel finishes what it is told to.
fn outbound(family: Family, pieces: &Pieces) {
    let left = Input {
        bytes: pieces.unfinished.clone(),
        offload: pieces.offload,
    };
    let by_kernel = match pieces.offload {
        Some(_) => &pieces.right,
        None => &pieces.unfinished,
    };
    for (frame, by_kernel) in [
        (left, by_kernel),
        (Input::from(pieces.right.clone()), &pieces.right),
    ] {
        let Fates { kernel, ours } = plain_pair(family).get().fates(Entry::Bridge, &frame);
        for (output, expected) in [(kernel, by_kernel), (ours, &pieces.right)] {
            assert_eq!(output.wire.len(), 1, "{output:?}");
            let inner = inner_of(&output.wire[0]).expect("it is VXLAN");
            assert_eq!(inner, expected, "{}", bytes::summary(inner));
        }
    }
}

macro_rules! table {
    ($($module:ident $family:expr;)*) => {
        $(mod $module {
            use super::*;

            cells! {
                f05_tcp_in_ipv4 finished($family, V4, Tcp);
                f05_udp_in_ipv4 finished($family, V4, Udp);
                f05_sctp_in_ipv4 finished($family, V4, Sctp);
                f05_tcp_in_ipv6 finished($family, V6, Tcp);
                f05_udp_in_ipv6 finished($family, V6, Udp);
                f05_sctp_in_ipv6 finished($family, V6, Sctp);
                f05_tcp_behind_extension_headers finished($family, V6Extended, Tcp);
                f05_udp_behind_extension_headers finished($family, V6Extended, Udp);
                f05_sctp_behind_extension_headers finished($family, V6Extended, Sctp);
            }
        })*
    };
}

table! {
    over_ipv4 Family::V4;
    over_ipv6 Family::V6;
}
