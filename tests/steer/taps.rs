//! What a TAP takes of the frames that are written to it, and how the rest counts.

use std::sync::Arc;

use vxgate::pipeline::{Outbox, Role};
use vxgate::port::{ChunkSize, TapPort, Umem, UmemConfig};
use vxgate::stats::{DropReason, PeerId, PortCounters, Tallies};
use vxgate::steer::Tap;
use vxgate::wire::vnet;

use crate::scene::Scene;

/// A checksum that is to be finished where the frame has long ended.
const CONTRADICTED: u16 = 60_000;

#[test]
fn a_frame_that_its_header_contradicts_is_counted_as_itself_and_holds_up_no_other() {
    let scene = Scene::new("wiretap", 1, 1500);
    scene.node.enter(|| {
        let tap = Tap::wire("eth1", 1).unwrap();
        let mut umem = Umem::new(UmemConfig {
            chunk: ChunkSize::Superframe,
            frames: 8,
            lock: false,
        })
        .unwrap();
        let mut port = TapPort::wire(tap.queue(0).unwrap(), &umem);
        let counters = PortCounters::counting(Arc::new(Tallies::new(5)));
        let mut outbox = Outbox::new();
        // By length, and whose: the first, one in the midst and the last are never taken.
        for (len, role, peer, contradicted) in [
            (100, Role::First, 1, true),
            (101, Role::First, 2, false),
            (102, Role::Copy, 2, false),
            (103, Role::First, 3, true),
            (104, Role::First, 4, false),
            (105, Role::Copy, 3, true),
        ] {
            let mut frame = umem.allocate().unwrap();
            assert!(umem.fill(&mut frame, &vec![2; len]));
            let header = &mut umem.room_mut(&mut frame)[..vnet::LEN];
            header.fill(0);
            if contradicted {
                header[0] = vnet::NEEDS_CSUM;
                header[6..8].copy_from_slice(&CONTRADICTED.to_le_bytes());
            }
            outbox.push(frame, role, PeerId(peer)).unwrap();
        }
        let refused = DropReason::TxRingFull;
        assert_eq!(outbox.flush(&mut port, &mut umem, &counters, refused), 3);
        assert!(outbox.is_empty());
        let of_peer = |peer| {
            let tally = counters.peers.read(PeerId(peer));
            (tally.frames, tally.bytes)
        };
        let of_peers = [1, 2, 3, 4].map(of_peer);
        assert_eq!(of_peers, [(0, 0), (2, 203), (0, 0), (1, 104)]);
        assert_eq!(counters.forwarded.get(), 2);
        assert_eq!(counters.forwarded_bytes.get(), 205);
        let copies = (
            counters.flood_copies.get(),
            counters.flood_copies_lost.get(),
        );
        assert_eq!(copies, (1, 1));
        assert_eq!(counters.drops(DropReason::RxInvalid), 2);
        assert_eq!(counters.drops(refused), 0);
    });
}
