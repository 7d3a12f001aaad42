//! From the kernel's vxlan device to the workers: finished frames, one flow to one worker.

use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};

use etherparse::PacketBuilder;
use vxgate::stats::PassReason;
use vxgate::table::KernelShare;
use vxgate::wire::MacAddr;

use crate::scene::{DEVICE_MAC, MINUTE, PATIENCE, REMOTE_MAC, Receiver, Scene, Steered};
use crate::support::frames::mac;
use crate::support::wait_until;

fn attached(workers: u32) -> (Steered, Vec<Receiver>) {
    let mut steered = Steered::load(workers);
    let receivers = (0..workers)
        .map(|queue| steered.open_worker_side(queue))
        .collect();
    steered.steering.attach().unwrap();
    steered.heartbeats(workers, MINUTE);
    (steered, receivers)
}

fn udp(source_port: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac(DEVICE_MAC), mac(REMOTE_MAC))
        .ipv4([10, 244, 0, 5], [10, 244, 1, 5], 64)
        .udp(source_port, 9)
        .write(&mut frame, payload)
        .unwrap();
    frame
}

#[test]
fn vlan_tags_are_among_the_bytes() {
    let scene = Scene::new("vlan", 1, 1500);
    // A bridge takes the outer tag out of the bytes of what it receives, and leaves putting it back to the device.
    for line in [
        "ip link add br0 type bridge mcast_snooping 0",
        "ip link add pod type veth peer name port",
        "ip link set port master br0",
        "ip link set flannel.1 master br0",
        "ip link set pod up",
        "ip link set port up",
        "ip link set br0 up",
    ] {
        scene.node.run(line);
    }
    scene.node.enter(|| {
        let (_steered, mut receivers) = attached(1);
        let frame = udp(1, b"tagged");
        let pod = scene.raw_on("pod");
        for tags in [
            &[][..],
            &[0x81, 0, 0, 5],
            &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 5],
        ] {
            let frame = [&frame[..12], tags, &frame[12..]].concat();
            pod.send(&frame);
            assert_eq!(receivers[0].wait_for(1), [frame]);
        }
    });
}

/// Sum of 16-bit words in ones' complement (RFC 1071).
fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[test]
fn a_superframe_arrives_as_finished_segments() {
    const PAYLOAD: usize = 65_000;
    const SEGMENT: usize = 1400;
    /// Ethernet, IPv4 and TCP headers.
    const HEADERS: usize = 14 + 20 + 20;
    let scene = Scene::new("super", 1, 1500);
    scene.node.enter(|| {
        let (steered, mut receivers) = attached(1);
        let payload: Vec<u8> = (0..PAYLOAD).map(|n| (n % 251) as u8).collect();
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(mac(DEVICE_MAC), mac(REMOTE_MAC))
            .ipv4([10, 244, 0, 5], [10, 244, 1, 5], 64)
            .tcp(1, 2, 1000, 64)
            .write(&mut frame, &payload)
            .unwrap();
        // As a socket leaves it: the sum of the pseudo-header alone.
        let pseudo = |frame: &[u8]| {
            let len = (frame.len() - 34) as u16;
            sum(&[&frame[26..34], &[0, 6], &len.to_be_bytes()])
        };
        let unfinished = pseudo(&frame).to_be_bytes();
        frame[50..52].copy_from_slice(&unfinished);
        // struct virtio_net_hdr: NEEDS_CSUM, GSO_TCPV4, hdr_len, gso_size, csum_start, csum_offset
        let mut bytes = vec![1, 1];
        for number in [HEADERS, SEGMENT, 34, 16] {
            bytes.extend((number as u16).to_ne_bytes());
        }
        bytes.extend(frame);
        let raw = scene.raw_on("flannel.1");
        let on: libc::c_int = 1;
        // SAFETY: the option's value is a local of the size that is told.
        let set = unsafe {
            libc::setsockopt(
                raw.as_fd().as_raw_fd(),
                libc::SOL_PACKET,
                15, // PACKET_VNET_HDR
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            )
        };
        assert_eq!(set, 0);
        raw.send(&bytes);

        let segments = receivers[0].wait_for(PAYLOAD.div_ceil(SEGMENT));
        let mut joined = Vec::new();
        for segment in &segments {
            assert!(segment.len() <= HEADERS + SEGMENT);
            assert_eq!(
                sum(&[&segment[14..34]]),
                0xffff,
                "the IPv4 header's checksum"
            );
            let pseudo = pseudo(segment).to_be_bytes();
            assert_eq!(sum(&[&pseudo, &segment[34..]]), 0xffff, "the TCP checksum");
            joined.extend_from_slice(&segment[HEADERS..]);
        }
        assert!(joined == payload, "every byte in order");
        let worker_side = steered.counters(steered.pair.worker_side.ifindex);
        assert_eq!(worker_side.steered, segments.len() as u64);
        assert_eq!(steered.pair.ring_drops().unwrap(), 0);

        // A path that is one byte too narrow for a segment: the superframe stays with the kernel as it is.
        let limits = steered.steering.frame_limits();
        limits.set(steered.device.ifindex, (HEADERS + SEGMENT - 1) as u32);
        let before = steered.egress();
        raw.send(&bytes);
        let oversize = PassReason::Oversize as usize;
        wait_until("it is passed", PATIENCE, || {
            steered.egress().passed[oversize] > before.passed[oversize]
        });
        assert_eq!(steered.egress().steered, before.steered);
        limits.set(steered.device.ifindex, (HEADERS + SEGMENT) as u32);
        raw.send(&bytes);
        receivers[0].wait_for(PAYLOAD.div_ceil(SEGMENT));
    });
}

#[test]
fn the_kernels_share_leaves_by_the_kernels_own_device_and_nothing_else_does() {
    const OTHER: &str = "02:00:00:00:00:77";
    let scene = Scene::new("share", 1, 1500);
    scene.node.run(&format!(
        "bridge fdb add {OTHER} dev flannel.1 dst 10.0.0.11 self permanent"
    ));
    scene.node.enter(|| {
        let (steered, mut receivers) = attached(1);
        let shares = steered.steering.kernel_shares();
        let (raw, wire) = (scene.raw_on("flannel.1"), scene.raw_on_wire());
        let (first, mut second) = (udp(1, b"share"), udp(1, b"share"));
        second[..6].copy_from_slice(&mac(OTHER));
        let encapsulated = |frame: &[u8]| {
            std::iter::from_fn(|| wire.receive())
                .filter(|seen| seen.ends_with(frame))
                .count()
        };
        let listed = vec![MacAddr(mac(REMOTE_MAC))];
        // Of two stations, those whose frames the kernel keeps.
        for (share, kernels) in [
            (KernelShare::default(), [false, false]),
            (KernelShare::Only(listed.clone()), [true, false]),
            (KernelShare::AllBut(listed), [false, true]),
            (KernelShare::EVERYTHING, [true, true]),
            (KernelShare::default(), [false, false]),
        ] {
            shares.set(steered.device.ifindex, &share);
            for (frame, is_kernels) in [&first, &second].into_iter().zip(kernels) {
                let before = steered.egress();
                raw.send(frame);
                if is_kernels {
                    let mut seen = 0;
                    wait_until("the kernel's device sends it", PATIENCE, || {
                        seen += encapsulated(frame);
                        seen > 0
                    });
                    assert_eq!(receivers[0].frames(), Vec::<Vec<u8>>::new(), "{share}");
                } else {
                    assert_eq!(
                        receivers[0].wait_for(1)[..],
                        *std::slice::from_ref(frame),
                        "{share}"
                    );
                    assert_eq!(encapsulated(frame), 0, "{share}");
                }
                let after = steered.egress();
                let reason = PassReason::KernelRoute as usize;
                let moved = (
                    after.steered - before.steered,
                    after.passed[reason] - before.passed[reason],
                );
                let counts = (u64::from(!is_kernels), u64::from(is_kernels));
                assert_eq!(moved, counts, "{share}");
            }
        }
    });
}

#[test]
fn a_flow_stays_on_one_queue_and_flows_use_both() {
    const FLOWS: u16 = 64;
    const FRAMES: usize = 8;
    let scene = Scene::new("flows", 1, 1500);
    scene.node.enter(|| {
        let (steered, mut receivers) = attached(2);
        // Those of the node's own sockets, which remember a queue, and those that it forwards.
        let sockets: Vec<_> = (0..FLOWS)
            .map(|_| UdpSocket::bind("10.244.0.0:0").unwrap())
            .collect();
        let raw = scene.raw_on("flannel.1");
        for _ in 0..FRAMES {
            for (socket, port) in sockets.iter().zip(1..) {
                socket.send_to(b"flow", "10.244.1.0:9").unwrap();
                raw.send(&udp(port, b"flow"));
            }
        }
        let total = 2 * usize::from(FLOWS) * FRAMES;
        let mut queues_of: BTreeMap<Vec<u8>, BTreeSet<usize>> = BTreeMap::new();
        let mut arrived = [0; 2];
        wait_until("every frame", PATIENCE, || {
            for (queue, receiver) in receivers.iter_mut().enumerate() {
                for frame in receiver.frames() {
                    arrived[queue] += 1;
                    // Addresses and ports.
                    queues_of
                        .entry(frame[26..38].to_vec())
                        .or_default()
                        .insert(queue);
                }
            }
            arrived.iter().sum::<usize>() == total
        });
        assert_eq!(queues_of.len(), 2 * usize::from(FLOWS));
        assert!(
            queues_of.values().all(|queues| queues.len() == 1),
            "{queues_of:?}"
        );
        // Of 128 flows, fewer than 32 on a queue would be a one in 10^8.
        assert!(
            arrived.iter().all(|frames| *frames >= total / 4),
            "{arrived:?}"
        );
        assert_eq!(steered.egress().steered, total as u64);
    });
}
