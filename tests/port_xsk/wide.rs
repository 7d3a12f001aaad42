//! Frames of several buffers.

use vxgate::port::{Batch, ChunkSize, Port, RxDrops, Umem, XskConfig, XskPort, takes_chains};

use crate::redirect::Redirect;
use crate::wire::Wire;
use crate::{RING, bytes, config, frame, in_own_netns, pair, receive, run, umem, until};

/// `BPF_F_XDP_HAS_FRAGS`: the program takes frames of several buffers.
const HAS_FRAGS: u32 = 1 << 5;
pub const WIDE_MTU: usize = 9000;

/// A pair whose frames take several buffers.
pub fn wide_pair(near: &str, far: &str) {
    pair(near, far, 1);
    for end in [near, far] {
        run(&format!("ip link set {end} mtu {WIDE_MTU}"));
    }
}

fn open_wide(umem: &Umem, device: &str, share: Option<&XskPort>) -> XskPort {
    let config = XskConfig {
        frame_len_max: WIDE_MTU + 18,
        ..config(device, 0)
    };
    XskPort::open(umem, &config, share).unwrap()
}

/// Of one buffer, of two and of three, on both sides of each border (3,840 bytes each).
const MIXED: [usize; 10] = [60, 3840, 3841, 9014, 1500, 7680, 7681, 14, 9014, 8964];

#[test]
fn frames_of_several_buffers_cross_in_both_directions_between_shorter_ones() {
    in_own_netns(|| {
        assert!(takes_chains(), "AF_XDP has them from Linux 6.6 on");
        wide_pair("a0", "b0");
        wide_pair("c0", "d0");
        let mut umem = umem(ChunkSize::K16);
        let mut inward = open_wide(&umem, "a0", None);
        // Joins the registration, and inherits that frames may take several buffers.
        let mut outward = open_wide(&umem, "c0", Some(&inward));
        assert!(outward.mode().shared);
        inward.refill(&mut umem);
        let redirect = Redirect::attach_with("a0", HAS_FRAGS);
        redirect.steer(0, &inward);
        let (near, far) = (Wire::new("b0"), Wire::new("d0"));
        let sent: Vec<_> = (0..).zip(MIXED).map(|(n, len)| bytes(n, len)).collect();
        for round in 0..20 {
            sent.iter().for_each(|bytes| near.send(bytes));
            let mut batch = receive(&mut umem, &mut inward, MIXED.len());
            for (frame, sent) in batch.iter().zip(&sent) {
                assert_eq!(umem.room_in_front(frame), 256);
                assert!(umem.bytes(frame) == sent, "{} bytes", sent.len());
            }
            // On with other headers in front, as after encapsulation and decapsulation.
            let mut expected = Vec::new();
            for frame in batch.iter_mut() {
                let header = umem.bytes(frame)[..14].to_vec();
                let (pushed, pulled) = if round % 2 == 0 { (4, 0) } else { (0, 50) };
                if frame.len() > 64 {
                    assert!(umem.push(frame, pushed).is_some());
                    assert!(umem.pull(frame, pulled));
                }
                umem.bytes_mut(frame)[..14].copy_from_slice(&header);
                expected.push(umem.bytes(frame).to_vec());
            }
            assert_eq!(outward.transmit(&mut batch), MIXED.len());
            for expected in expected {
                let arrived = until("a frame at the far end", || far.next());
                assert!(arrived == expected, "{} bytes", expected.len());
            }
            let mut reclaimed = 0;
            until("its completions", || {
                reclaimed += outward.reclaim(&mut umem);
                (reclaimed == MIXED.len()).then_some(())
            });
            inward.refill(&mut umem);
            let held = inward.frames_held() + outward.frames_held();
            assert_eq!(umem.free() + held, umem.frames() as usize);
        }
        for port in [&inward, &outward] {
            assert_eq!((port.foreign(), port.tx_errors()), (0, 0));
            let statistics = port.statistics().unwrap();
            assert_eq!(statistics.tx_invalid_descs, 0, "{statistics:?}");
            assert_eq!(statistics.rx_drops(false).total(), 0, "{statistics:?}");
        }
    });
}

#[test]
fn a_frame_that_finds_too_few_buffers_is_dropped_whole_and_counted_once() {
    in_own_netns(|| {
        wide_pair("a0", "b0");
        let mut umem = umem(ChunkSize::K16);
        let mut port = open_wide(&umem, "a0", None);
        let redirect = Redirect::attach_with("a0", HAS_FRAGS);
        redirect.steer(0, &port);
        let wire = Wire::new("b0");
        assert_eq!(port.refill(&mut umem), RING as usize);
        // Three buffers each: 21 frames fill 63 of 64 entries, and one is left.
        for n in 0..25 {
            wire.send(&bytes(n, 9014));
        }
        wire.send(&bytes(25, 60));
        let drops = port.statistics_handle().unwrap();
        until("four drops", || {
            (drops.rx_drops().unwrap().total() == 4).then_some(())
        });
        let expected = RxDrops {
            fill_empty: 4,
            ..Default::default()
        };
        assert_eq!(drops.rx_drops().unwrap(), expected);
        let mut batch = receive(&mut umem, &mut port, 22);
        for (n, frame) in (0..).zip(batch.iter()).take(21) {
            assert!(umem.bytes(frame) == bytes(n, 9014), "frame {n}");
        }
        let last = batch.iter().last().unwrap();
        assert_eq!(umem.bytes(last), bytes(25, 60));
        umem.release_all(&mut batch);
        assert_eq!(umem.free() + port.frames_held(), umem.frames() as usize);
    });
}

#[test]
fn a_transmit_ring_with_room_for_a_part_of_a_frame_takes_none_of_it_and_all_go_in_the_end() {
    in_own_netns(|| {
        wide_pair("a0", "b0");
        let mut umem = umem(ChunkSize::K16);
        let mut port = open_wide(&umem, "a0", None);
        let wire = Wire::new("b0");
        let mut next = 0;
        let mut batch = Batch::new();
        let mut fill = |umem: &mut Umem, batch: &mut Batch| {
            while batch.room() > 0 {
                let len = [9014, 60, 5000][next as usize % 3];
                batch.push(frame(umem, &bytes(next, len))).unwrap();
                next += 1;
            }
        };
        // Nothing is reclaimed: the completion ring fills, then the transmit ring. Frames have 3 + 1 + 2 buffers.
        let (mut taken, mut arrived) = (0, 0);
        loop {
            fill(&mut umem, &mut batch);
            let more = port.transmit(&mut batch);
            taken += more;
            while let Some(seen) = wire.next() {
                let len = [9014, 60, 5000][arrived as usize % 3];
                assert!(seen == bytes(arrived, len), "frame {arrived}");
                arrived += 1;
            }
            if more == 0 {
                break;
            }
        }
        // The rings have 128 entries, of which a frame may leave the last ones free.
        let entries = |frames: usize| frames / 3 * 6 + [0, 3, 4][frames % 3];
        assert!((125..=128).contains(&entries(taken)), "{taken} taken");
        let left = batch.len();
        assert_eq!(umem.release_all(&mut batch), left);
        let mut reclaimed = 0;
        until("all of them", || {
            reclaimed += port.reclaim(&mut umem);
            while let Some(seen) = wire.next() {
                let len = [9014, 60, 5000][arrived as usize % 3];
                assert!(seen == bytes(arrived, len), "frame {arrived}");
                arrived += 1;
            }
            (reclaimed == taken && usize::from(arrived) == taken).then_some(())
        });
        assert_eq!(umem.free(), umem.frames() as usize);
        assert_eq!(port.statistics().unwrap().tx_invalid_descs, 0);
    });
}
