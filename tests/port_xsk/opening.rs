//! Opening a port, and what forbids it.

use std::time::Duration;

use vxgate::fault;
use vxgate::port::{Batch, ChunkSize, OpenError, Port, Umem, UmemConfig, XskConfig, XskPort};

use crate::wire::Wire;
use crate::{bytes, config, frame, in_own_netns, open, pair, umem, until};

#[test]
fn a_taken_queue_is_named_and_who_may_have_it() {
    in_own_netns(|| {
        pair("a0", "b0", 2);
        let umem = umem(ChunkSize::K2);
        let _port = open(&umem, "a0", 1, None);
        let hurried = XskConfig {
            busy_wait: Duration::from_millis(30),
            ..config("a0", 1)
        };
        let error = XskPort::open(&umem, &hurried, None).unwrap_err();
        assert!(
            matches!(error, OpenError::Busy { queue: 1, .. }),
            "{error:?}"
        );
        let text = fault::line(&error);
        assert!(
            text.contains("a0 queue 1 is taken") && text.contains("(this process)"),
            "{text}"
        );
    });
}

#[test]
fn what_cannot_be_opened_says_why() {
    in_own_netns(|| {
        pair("a0", "b0", 1);
        let umem = umem(ChunkSize::K2);
        let text =
            |config: &XskConfig| fault::line(&XskPort::open(&umem, config, None).unwrap_err());
        let error = text(&config("a0", 9));
        assert!(
            error.contains("a0 queue 9") && error.contains("no such queue"),
            "{error}"
        );
        let error = text(&XskConfig {
            ifindex: 4711,
            ..config("a0", 0)
        });
        assert!(error.contains("no such device"), "{error}");
        let error = text(&XskConfig {
            ring_len: 48,
            ..config("a0", 0)
        });
        assert!(error.contains("power of two"), "{error}");
        // Nothing of this holds the queue.
        let port = open(&umem, "a0", 0, None);
        let foreign = Umem::new(UmemConfig {
            chunk: ChunkSize::K2,
            frames: 16,
            lock: false,
        })
        .unwrap();
        let error = XskPort::open(&foreign, &config("b0", 0), Some(&port)).unwrap_err();
        assert!(matches!(error, OpenError::ForeignUmem { .. }), "{error:?}");
        let error = XskPort::open(&umem, &config("a0", 0), Some(&port)).unwrap_err();
        assert!(
            matches!(error, OpenError::Refused { .. } | OpenError::Busy { .. }),
            "{error:?}"
        );
    });
}

#[test]
fn a_closed_port_can_be_opened_again_at_once() {
    in_own_netns(|| {
        pair("a0", "b0", 1);
        let mut umem = umem(ChunkSize::K2);
        for round in 0..3 {
            let mut port = open(&umem, "a0", 0, None);
            let wire = Wire::new("b0");
            let mut batch = Batch::new();
            batch.push(frame(&mut umem, &bytes(round, 60))).unwrap();
            assert_eq!(port.transmit(&mut batch), 1);
            assert_eq!(until("a frame sent", || wire.next()), bytes(round, 60));
        }
    });
}
