//! Frames that cross, and those that do not.

use std::time::Duration;

use vxgate::port::{
    Batch, ChunkSize, Frame, Link, Port, RxDrops, Sleeper, XskConfig, XskPort, ZeroCopy,
};

use crate::redirect::Redirect;
use crate::wire::Wire;
use crate::{
    PATIENCE, RING, bytes, config, frame, in_own_netns, open, pair, receive, run, umem, until,
};

#[test]
fn bytes_cross_in_both_directions_and_zero_copy_is_refused_with_the_reason() {
    in_own_netns(|| {
        pair("a0", "b0", 1);
        let mut umem = umem(ChunkSize::K2);
        let mut port = open(&umem, "a0", 0, None);
        let mode = port.mode().clone();
        assert!(!mode.zero_copy && !mode.shared);
        assert_eq!(mode.why_not.as_deref(), Some("the driver has no zero-copy"));
        assert_eq!(port.refill(&mut umem), RING as usize);
        let redirect = Redirect::attach("a0");
        redirect.steer(0, &port);
        let wire = Wire::new("b0");

        let sent = bytes(1, 1000);
        wire.send(&sent);
        let mut batch = until("a frame received", || {
            let mut batch = Batch::new();
            (port.receive(&mut umem, &mut batch) > 0).then_some(batch)
        });
        let mut received = batch.pop().unwrap();
        assert_eq!(umem.bytes(&received), sent);
        assert_eq!(umem.room_in_front(&received), 256);

        // The same frame goes back with a header pushed in front.
        let head = umem.push(&mut received, 50).unwrap();
        head[..14].copy_from_slice(&sent[..14]);
        head[14..50].fill(0xaa);
        let expected = umem.bytes(&received).to_vec();
        batch.push(received).unwrap();
        assert_eq!(port.transmit(&mut batch), 1);
        assert_eq!(until("a frame sent", || wire.next()), expected);
        until("its completion", || {
            (port.reclaim(&mut umem) == 1).then_some(())
        });
        assert_eq!(umem.free() + port.frames_held(), umem.frames() as usize);
        assert_eq!((port.foreign(), port.tx_errors()), (0, 0));
    });
}

#[test]
fn one_umem_serves_two_devices_with_two_queues_each() {
    in_own_netns(|| {
        pair("a0", "b0", 2);
        let mut umem = umem(ChunkSize::K4);
        let first = open(&umem, "a0", 0, None);
        let mut ports = vec![("a0", 0, first)];
        for (device, queue) in [("a0", 1), ("b0", 0), ("b0", 1)] {
            let port = open(&umem, device, queue, Some(&ports[0].2));
            assert!(
                port.mode().shared && !port.mode().zero_copy,
                "{:?}",
                port.mode()
            );
            assert_eq!(
                port.mode().why_not.as_deref(),
                Some("the driver has no zero-copy")
            );
            ports.push((device, queue, port));
        }
        let redirects = [Redirect::attach("a0"), Redirect::attach("b0")];
        for (device, queue, port) in &mut ports {
            assert_eq!(port.refill(&mut umem), RING as usize);
            redirects[usize::from(*device == "b0")].steer(*queue, port);
        }
        // From each port to the one at the other end with the same queue.
        for (from, to) in [(0, 2), (1, 3), (2, 0), (3, 1)] {
            let mut batch = Batch::new();
            for n in 0..40 {
                batch
                    .push(frame(
                        &mut umem,
                        &bytes(from as u16 * 100 + n, 60 + n as usize),
                    ))
                    .unwrap();
            }
            assert_eq!(ports[from].2.transmit(&mut batch), 40);
            let mut received = receive(&mut umem, &mut ports[to].2, 40);
            for (n, frame) in received.iter().enumerate() {
                assert_eq!(
                    umem.bytes(frame),
                    bytes(from as u16 * 100 + n as u16, 60 + n),
                    "queue and order"
                );
            }
            assert_eq!(umem.release_all(&mut received), 40);
            until("completions", || {
                ports[from].2.reclaim(&mut umem);
                (ports[from].2.frames_held() == RING as usize).then_some(())
            });
            assert_eq!(ports[to].2.refill(&mut umem), 40);
        }
        let held: usize = ports.iter().map(|(_, _, port)| port.frames_held()).sum();
        assert_eq!(umem.free() + held, umem.frames() as usize);
    });
}

#[test]
fn a_second_registration_of_the_same_memory_takes_the_same_frames() {
    in_own_netns(|| {
        pair("a0", "b0", 1);
        pair("c0", "d0", 1);
        let mut umem = umem(ChunkSize::K2);
        let mut inward = open(&umem, "a0", 0, None);
        let never = XskConfig {
            zero_copy: ZeroCopy::Never,
            ..config("c0", 0)
        };
        let mut outward = XskPort::open(&umem, &never, None).unwrap();
        assert!(!outward.mode().shared && !outward.mode().zero_copy);
        assert_eq!(
            outward.mode().why_not.as_deref(),
            Some("not asked for on c0")
        );
        inward.refill(&mut umem);
        let redirect = Redirect::attach("a0");
        redirect.steer(0, &inward);
        Wire::new("b0").send(&bytes(7, 700));
        let far = Wire::new("d0");
        let mut batch = until("a frame received", || {
            let mut batch = Batch::new();
            (inward.receive(&mut umem, &mut batch) > 0).then_some(batch)
        });
        assert_eq!(outward.transmit(&mut batch), 1);
        assert_eq!(
            until("the frame at the far end", || far.next()),
            bytes(7, 700)
        );
        until("its completion", || {
            (outward.reclaim(&mut umem) == 1).then_some(())
        });
        assert_eq!(umem.free() + inward.frames_held(), umem.frames() as usize);
    });
}

#[test]
fn a_device_that_is_down_takes_nothing_and_works_again_when_up() {
    in_own_netns(|| {
        pair("a0", "b0", 1);
        let mut umem = umem(ChunkSize::K2);
        let mut port = open(&umem, "a0", 0, None);
        let wire = Wire::new("b0");
        assert_eq!(port.link().unwrap(), Link::Up);
        run("ip link set a0 down");
        assert_eq!(port.link().unwrap(), Link::Down);
        let mut batch = Batch::new();
        batch.push(frame(&mut umem, &bytes(1, 60))).unwrap();
        // The first one finds it out; nothing after that is taken.
        port.transmit(&mut batch);
        assert!(port.link_down());
        batch.push(frame(&mut umem, &bytes(2, 60))).unwrap();
        let waiting = batch.len();
        assert_eq!((port.transmit(&mut batch), batch.len()), (0, waiting));
        run("ip link set a0 up");
        assert_eq!(port.link().unwrap(), Link::Up);
        until("the device taking frames again", || {
            (port.transmit(&mut batch) > 0).then_some(())
        });
        assert!(!port.link_down());
        let mut arrived = vec![until("the first frame", || wire.next())];
        arrived.push(until("the second frame", || {
            port.reclaim(&mut umem);
            wire.next()
        }));
        assert_eq!(arrived, [bytes(1, 60), bytes(2, 60)]);
    });
}

#[test]
fn a_deleted_device_is_gone() {
    in_own_netns(|| {
        pair("a0", "b0", 1);
        let mut umem = umem(ChunkSize::K2);
        let mut port = open(&umem, "a0", 0, None);
        port.refill(&mut umem);
        run("ip link del a0");
        assert_eq!(port.link().unwrap(), Link::Gone);
        let mut batch = Batch::new();
        for n in 0..3 {
            batch.push(frame(&mut umem, &bytes(n, 60))).unwrap();
        }
        port.transmit(&mut batch);
        assert!(port.link_down());
        batch.push(frame(&mut umem, &bytes(9, 60))).unwrap();
        assert_eq!(port.transmit(&mut batch), 0);
        assert!(port.link_down());
        // A new device takes a new port with the same memory.
        pair("a0", "b0", 1);
        let mut next = open(&umem, "a0", 0, None);
        let wire = Wire::new("b0");
        assert!(next.transmit(&mut batch) > 0);
        assert_eq!(until("a frame sent", || wire.next()), bytes(9, 60));
    });
}

#[test]
fn a_full_transmit_ring_pushes_back_and_loses_nothing() {
    in_own_netns(|| {
        pair("a0", "b0", 1);
        let mut umem = umem(ChunkSize::K2);
        let mut port = open(&umem, "a0", 0, None);
        let wire = Wire::new("b0");
        // Nothing is reclaimed: the completion ring fills, then the transmit ring.
        let (mut taken, mut batch) = (0, Batch::new());
        let mut next = 0;
        while batch.is_empty() {
            while batch.room() > 0 {
                batch.push(frame(&mut umem, &bytes(next, 100))).unwrap();
                next += 1;
            }
            taken += port.transmit(&mut batch);
            assert!(
                taken <= 2 * RING as usize,
                "the rings have no more room than that"
            );
        }
        assert_eq!(taken, 2 * RING as usize);
        assert!(!port.link_down());
        let back = umem.release_all(&mut batch);
        // Reclaiming makes room, and sends what was left, without another transmit.
        let mut reclaimed = 0;
        until("all completions", || {
            reclaimed += port.reclaim(&mut umem);
            (reclaimed == taken).then_some(())
        });
        for n in 0..taken as u16 {
            assert_eq!(
                until("every frame, in order", || wire.next()),
                bytes(n, 100)
            );
        }
        assert_eq!(
            (usize::from(next), umem.free()),
            (taken + back, umem.frames() as usize)
        );
    });
}

#[test]
fn the_kernels_drops_are_told_apart() {
    in_own_netns(|| {
        pair("a0", "b0", 1);
        run("ip link set a0 mtu 3000");
        run("ip link set b0 mtu 3000");
        let mut umem = umem(ChunkSize::K2);
        let mut port = open(&umem, "a0", 0, None);
        let redirect = Redirect::attach("a0");
        redirect.steer(0, &port);
        let wire = Wire::new("b0");
        let drops = |port: &XskPort| port.statistics().unwrap().rx_drops(port.mode().zero_copy);
        let expect = |port: &XskPort, expected: RxDrops| {
            until(&format!("{expected:?}"), || {
                (drops(port) == expected).then_some(())
            });
        };
        let send = |count: u16, len: usize| (0..count).for_each(|n| wire.send(&bytes(n, len)));

        send(5, 60);
        expect(
            &port,
            RxDrops {
                fill_empty: 5,
                ..Default::default()
            },
        );
        assert_eq!(
            port.statistics().unwrap().rx_dropped,
            5,
            "the kernel counts them twice"
        );
        assert_eq!(port.refill(&mut umem), RING as usize);
        send(1, 1900);
        expect(
            &port,
            RxDrops {
                fill_empty: 5,
                invalid: 1,
                ..Default::default()
            },
        );
        send(RING as u16, 60);
        // Some of them are in the receive ring, so there is room in the fill ring again: no frame dies for want of a chunk.
        until("fill descriptors taken", || {
            (port.refill(&mut umem) > 0).then_some(())
        });
        send(3, 60);
        expect(
            &port,
            RxDrops {
                ring_full: 3,
                fill_empty: 5,
                invalid: 1,
            },
        );
        let mut batch = receive(&mut umem, &mut port, RING as usize);
        assert_eq!(umem.release_all(&mut batch), RING as usize);
        assert_eq!(port.statistics().unwrap().tx_invalid_descs, 0);
    });
}

#[test]
fn frames_that_the_kernel_would_refuse_never_reach_it() {
    in_own_netns(|| {
        pair("a0", "b0", 1);
        let mut umem = umem(ChunkSize::K2);
        let mut port = open(&umem, "a0", 0, None);
        let wire = Wire::new("b0");
        let mut batch = Batch::new();
        for len in [1519, 1514] {
            batch.push(frame(&mut umem, &bytes(1, len))).unwrap();
        }
        batch.push(umem.allocate().unwrap()).unwrap();
        assert_eq!(port.transmit(&mut batch), 1);
        assert_eq!(batch.iter().map(Frame::len).collect::<Vec<_>>(), [1519, 0]);
        assert!(batch.iter().all(|frame| !port.accepts(frame)));
        assert_eq!(until("the good one", || wire.next()).len(), 1514);
        until("its completion", || {
            (port.reclaim(&mut umem) == 1).then_some(())
        });
        let statistics = port.statistics().unwrap();
        assert_eq!(
            (
                statistics.tx_invalid_descs,
                port.foreign(),
                port.tx_errors()
            ),
            (0, 0, 0)
        );
        umem.release_all(&mut batch);
        assert_eq!(umem.free(), umem.frames() as usize);
    });
}

#[test]
fn a_sleeping_worker_is_woken_by_a_frame() {
    in_own_netns(|| {
        pair("a0", "b0", 1);
        let mut umem = umem(ChunkSize::K2);
        let mut port = open(&umem, "a0", 0, None);
        port.refill(&mut umem);
        let redirect = Redirect::attach("a0");
        redirect.steer(0, &port);
        let mut sleeper = Sleeper::new(port.poll_fd());
        assert!(!sleeper.sleep(Duration::ZERO));
        Wire::new("b0").send(&bytes(1, 60));
        assert!(sleeper.sleep(PATIENCE));
        assert!(sleeper.ready(0));
        assert_eq!(receive(&mut umem, &mut port, 1).len(), 1);
    });
}
