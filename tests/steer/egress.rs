//! From the kernel's vxlan device to the workers: finished frames, one flow to one worker.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use vxgate::stats::PassReason;
use vxgate::table::KernelShare;
use vxgate::wire::MacAddr;

use crate::scene::{DEVICE_MAC, MINUTE, PATIENCE, REMOTE_MAC, Receiver, Scene, Steered};
use crate::support::end::{End, Input, Offload, Segmentation};
use crate::support::frames::{mac, sum};
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
        let superframe = Input {
            bytes: frame,
            offload: Some(Offload {
                start: 34,
                field: 16,
                segmentation: Some(Segmentation {
                    kind: 1, // VIRTIO_NET_HDR_GSO_TCPV4
                    headers_len: HEADERS as u16,
                    payload_len: SEGMENT as u16,
                }),
            }),
        };
        let raw = End::open(&scene.node, "flannel.1", false);
        raw.send(&superframe);

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
        raw.send(&superframe);
        let oversize = PassReason::Oversize as usize;
        wait_until("it is passed", PATIENCE, || {
            steered.egress().passed[oversize] > before.passed[oversize]
        });
        assert_eq!(steered.egress().steered, before.steered);
        limits.set(steered.device.ifindex, (HEADERS + SEGMENT) as u32);
        raw.send(&superframe);
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

/// A train of three datagrams of 500 bytes, as a socket gives it to its device.
fn train(source_port: u16) -> Input {
    let mut frame = udp(source_port, &[7; 1500]);
    let pseudo = sum(&[&frame[26..34], &[0, 17], &frame[38..40]]);
    frame[40..42].copy_from_slice(&pseudo.to_be_bytes());
    Input {
        bytes: frame,
        offload: Some(Offload {
            start: 34,
            field: 6,
            segmentation: Some(Segmentation {
                kind: 5, // VIRTIO_NET_HDR_GSO_UDP_L4
                headers_len: 42,
                payload_len: 500,
            }),
        }),
    }
}

/// Frames in the queue of a TAP, without their headers.
fn from_tap(queue: &mut File) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut bytes = vec![0; 70_000];
    while let Ok(len) = queue.read(&mut bytes) {
        frames.push(bytes[24..len].to_vec());
    }
    frames
}

#[test]
fn datagrams_of_a_flow_take_one_way_until_it_has_been_silent() {
    /// Flows of two that share a place take the way of the one that came first. More than two such pairs would be a one in a
    /// million.
    const FLOWS: u16 = 16;
    const SILENCE: Duration = Duration::from_millis(250);
    /// Within this the frames of a flow are no silence: well below the 200 ms that are one.
    const AT_ONCE: Duration = Duration::from_millis(150);
    let scene = Scene::new("ways", 1, 1500);
    scene.node.enter(|| {
        let (mut steered, tap) = Steered::load_with_tap(1);
        let mut pair = steered.open_worker_side(0);
        steered.steering.attach().unwrap();
        steered.heartbeats(1, MINUTE);
        let mut queue = File::from(tap.queue(0).unwrap());
        let raw = End::open(&scene.node, "flannel.1", false);
        let lone = |port| Input::from(udp(port, b"lone"));
        let of_flow = |frames: &[Vec<u8>], port: u16| {
            let of_flow = |frame: &&Vec<u8>| frame[34..36] == port.to_be_bytes();
            frames.iter().filter(of_flow).count()
        };
        let few = usize::from(FLOWS) - 2;
        // Flows from this port on, but for those in whose midst the machine stalled: they have been silent.
        let flows = |first: u16, frames: &dyn Fn(u16) -> [Input; 3]| -> Vec<u16> {
            let at_once = |port: &u16| {
                let frames = frames(*port);
                let begin = Instant::now();
                frames.iter().for_each(|frame| raw.send(frame));
                begin.elapsed() < AT_ONCE
            };
            let all = (first..first + 1000).filter(at_once);
            all.take(FLOWS.into()).collect()
        };
        let whole = |ports: &[u16], frames: &[Vec<u8>], each| {
            let whole = |port: &&u16| of_flow(frames, **port) == each;
            ports.iter().filter(whole).count()
        };

        // What begins alone goes by the pair, trains behind it, too; what begins with a train goes by the TAP.
        let alone = flows(1000, &|port| [lone(port), train(port), lone(port)]);
        let trains = flows(2000, &|port| [train(port), lone(port), train(port)]);
        let mut by_pair = Vec::new();
        wait_until("all that began alone, by the pair", PATIENCE, || {
            by_pair.extend(pair.frames());
            whole(&alone, &by_pair, 5) == usize::from(FLOWS)
        });
        let by_tap = from_tap(&mut queue);
        assert!(whole(&trains, &by_tap, 3) >= few, "{by_tap:02x?}");
        // Once all has been silent, each frame chooses again.
        let silent = Instant::now();
        wait_until("they have been silent", PATIENCE, || {
            silent.elapsed() > SILENCE
        });
        for (alone, trains) in alone.iter().zip(&trains) {
            raw.send(&train(*alone));
            raw.send(&lone(*trains));
        }
        let expected = usize::from(FLOWS);
        let (mut by_pair, mut by_tap) = (Vec::new(), Vec::new());
        wait_until("each has come", PATIENCE, || {
            by_pair.extend(pair.frames());
            by_tap.extend(from_tap(&mut queue));
            let cut = by_pair.iter().filter(|frame| frame.len() > 500).count();
            by_tap.len() + by_pair.len() - cut / 3 * 2 == 2 * expected
        });
        assert!(whole(&alone, &by_tap, 1) >= few, "{by_tap:02x?}");
        assert!(whole(&trains, &by_pair, 1) >= few, "{by_pair:02x?}");
    });
}
