//! Checksums that a port asks its device for.

use vxgate::port::{Batch, ChunkSize, Finishes, Port, XskConfig, XskPort};

use crate::wide::{WIDE_MTU, wide_pair};
use crate::wire::Wire;
use crate::{bytes, config, frame, in_own_netns, open, pair, run, umem, until};

const NEAR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const FAR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const UDP_PORT: u16 = 9000;
/// Behind the Ethernet and the IPv4 header.
const UDP: usize = 34;

/// A datagram from 10.0.0.1 to port 9000 of 10.0.0.2, whose UDP checksum is left: the field holds the sum over the pseudo-header.
fn unfinished_datagram(payload: &[u8]) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ethernet2(NEAR_MAC, FAR_MAC);
    let mut bytes = Vec::new();
    builder
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(4000, UDP_PORT)
        .write(&mut bytes, payload)
        .unwrap();
    let len = (bytes.len() - UDP) as u32;
    let addresses = bytes[26..UDP].chunks(2);
    let sum: u32 = addresses
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    let sum = sum + 17 + len;
    let folded = (sum & 0xffff) + (sum >> 16);
    bytes[UDP + 6..UDP + 8].copy_from_slice(&(folded as u16).to_be_bytes());
    bytes
}

/// Whether the UDP checksum of such a datagram is the right one.
fn has_right_checksum(bytes: &[u8]) -> bool {
    let sliced = etherparse::SlicedPacket::from_ethernet(bytes).unwrap();
    let (Some(etherparse::NetSlice::Ipv4(ip)), Some(etherparse::TransportSlice::Udp(udp))) =
        (sliced.net, sliced.transport)
    else {
        panic!("a datagram: {bytes:x?}");
    };
    let (header, ip) = (udp.to_header(), ip.header().to_header());
    header.calc_checksum_ipv4(&ip, udp.payload()).unwrap() == header.checksum
}

/// The kernel's own socket is the judge: it takes a datagram whose checksum is right or known to be finished later, and no
/// other. What is left to a veth stays unfinished on it, as the kernel's own frames do; one without the offload shows what
/// the kernel finishes.
#[test]
fn a_checksum_that_is_asked_for_is_finished_by_the_device_or_else_by_the_kernel() {
    in_own_netns(|| {
        pair("a0", "b0", 1);
        run("ip link set b0 address 02:00:00:00:00:02");
        run("ip address add 10.0.0.2/24 dev b0");
        let socket = std::net::UdpSocket::bind(("10.0.0.2", UDP_PORT)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let wire = Wire::of("b0", [8, 0]);
        let mut umem = umem(ChunkSize::K2);
        let config = XskConfig {
            finishes: Finishes {
                copied: true,
                zero_copy: true,
            },
            ..config("a0", 0)
        };
        let mut port = XskPort::open(&umem, &config, None).unwrap();
        assert!(port.finishes_checksums() && port.mode().has_requests);

        for (offload, right_on_the_wire) in [("on", false), ("off", true)] {
            run(&format!("ethtool -K a0 tx {offload}"));
            assert_eq!(
                vxgate::steer::finishes_checksums("a0").unwrap(),
                offload == "on"
            );
            let mut batch = Batch::new();
            // Of the first nobody asks for anything, and nobody takes it.
            for (payload, asks) in [(&b"left alone"[..], false), (b"odd", true), (b"even", true)] {
                let mut frame = frame(&mut umem, &unfinished_datagram(payload));
                assert!(!asks || umem.request_checksum(&mut frame, UDP as u16, 6));
                batch.push(frame).unwrap();
            }
            assert_eq!(port.transmit(&mut batch), 3);
            for payload in [&b"odd"[..], b"even"] {
                let mut buffer = [0; 64];
                let len = until("a datagram", || socket.recv(&mut buffer).ok());
                assert_eq!(buffer[..len], *payload, "tx {offload}");
            }
            let seen: Vec<bool> = std::iter::from_fn(|| wire.next())
                .map(|bytes| has_right_checksum(&bytes))
                .collect();
            assert_eq!(seen, [false, right_on_the_wire, right_on_the_wire]);
            let mut back = 0;
            until("all frames back", || {
                back += port.reclaim(&mut umem);
                (back == 3).then_some(())
            });
        }
        let statistics = port.statistics().unwrap();
        assert_eq!(
            (
                statistics.tx_invalid_descs,
                port.foreign(),
                port.tx_errors()
            ),
            (0, 0, 0)
        );
    });
}

#[test]
fn ports_that_share_a_memory_with_requests_need_room_for_them_and_only_some_heed_them() {
    in_own_netns(|| {
        pair("a0", "b0", 1);
        pair("c0", "d0", 1);
        let mut umem = umem(ChunkSize::K2);
        let finishes = Finishes {
            copied: true,
            zero_copy: false,
        };
        let first = XskConfig {
            finishes,
            ..config("a0", 0)
        };
        let first = XskPort::open(&umem, &first, None).unwrap();
        let mut second = open(&umem, "c0", 0, Some(&first));
        assert!(first.finishes_checksums() && !second.finishes_checksums());
        assert!(second.mode().shared && second.mode().has_requests);
        let wire = Wire::new("d0");
        let mut batch = Batch::new();
        for room in [23, 24] {
            let mut sent = frame(&mut umem, &bytes(room, 60));
            let more = umem.room_in_front(&sent) - usize::from(room);
            umem.push(&mut sent, more)
                .unwrap()
                .copy_from_slice(&bytes(room, 60 + more));
            batch.push(sent).unwrap();
        }
        assert_eq!((second.transmit(&mut batch), batch.len()), (1, 1));
        let arrived = until("the one with room", || wire.next());
        assert_eq!(arrived[14..16], 24_u16.to_be_bytes());
        let statistics = second.statistics().unwrap();
        assert_eq!((statistics.tx_invalid_descs, second.tx_errors()), (0, 0));
        umem.release_all(&mut batch);
        drop(first);
    });
}

#[test]
fn memory_of_frames_in_several_buffers_has_no_place_for_requests() {
    in_own_netns(|| {
        wide_pair("a0", "b0");
        let umem = umem(ChunkSize::K16);
        let config = XskConfig {
            finishes: Finishes {
                copied: true,
                zero_copy: true,
            },
            frame_len_max: WIDE_MTU + 18,
            ..config("a0", 0)
        };
        let port = XskPort::open(&umem, &config, None).unwrap();
        assert!(!port.finishes_checksums() && !port.mode().has_requests);
    });
}
