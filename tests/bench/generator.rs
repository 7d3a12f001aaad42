//! The frames that the program in the kernel makes, byte for byte beside those of the library's other hand.

use std::time::Duration;

use vxgate::loadgen::engine::{LiveGenerator, Load, StreamLoad, Tag, write_frame};
use vxgate::loadgen::headers::FlowHeaders;
use vxgate::loadgen::signature::Signature;

use crate::frames::{PLAIN, check_whole, len_min, shapes};
use crate::wire::{Wire, flows, ifindex};

fn load<'a>(streams: &'a [StreamLoad<'a>]) -> Load<'a> {
    Load {
        streams,
        rate_fps: 1e6,
        burst: 1,
        duration: Duration::from_secs(60),
    }
}

fn preview(wire: &Wire, load: &Load<'_>, count: usize) -> Vec<Vec<u8>> {
    let near0 = ifindex(&wire.near, "near0");
    wire.near
        .enter(|| {
            LiveGenerator::open(near0, None)
                .unwrap()
                .preview(load, count)
        })
        .unwrap()
}

fn wire(name: &str) -> Wire {
    let wire = Wire::new(name);
    wire.far.run("ethtool -K far0 gro on");
    wire
}

fn signature(frame: &[u8]) -> Signature {
    Signature::parse(frame.last_chunk().unwrap()).unwrap()
}

#[test]
fn every_shape_and_length_is_the_twins() {
    let wire = wire("twins");
    for shape in shapes() {
        let headers = flows(shape, 4);
        let sizes = [0, 1, 2, 3, 700, 1401, 3000].map(|more| ((len_min(shape) + more) as u16, 1));
        let streams = [StreamLoad {
            id: 5,
            shape,
            flows: &headers,
            sizes: &sizes,
            share: 1,
        }];
        let frames = preview(&wire, &load(&streams), 28);
        assert_eq!(frames.len(), 28);
        for (sequence, frame) in frames.iter().enumerate() {
            check_whole(shape, frame);
            let signature = signature(frame);
            assert_eq!((signature.stream, signature.sequence), (5, sequence as u32));
            let tag = Tag {
                stream: 5,
                sequence: sequence as u32,
                intended_ns: signature.intended_ns,
            };
            let mut twin = vec![0; frame.len()];
            assert!(write_frame(shape, &headers[sequence % 4], tag, &mut twin));
            assert_eq!(*frame, twin, "{shape:?}, {} bytes", frame.len());
        }
    }
}

/// Where a flow's headers are among those given.
fn place(flows: &[FlowHeaders], frame: &[u8]) -> usize {
    let mac = |bytes: &[u8]| bytes[..12].to_vec();
    flows
        .iter()
        .position(|flow| mac(&flow.bytes) == mac(frame))
        .unwrap()
}

#[test]
fn streams_flows_and_sizes_come_in_turn() {
    let wire = wire("turns");
    let headers = flows(PLAIN, 3);
    let two = |id, sizes, share| StreamLoad {
        id,
        shape: PLAIN,
        flows: &headers,
        sizes,
        share,
    };
    let streams = [two(3, &[(60, 2), (100, 1)][..], 20), two(1, &[(70, 1)], 10)];
    let frames = preview(&wire, &load(&streams), 9 * 6);
    let of = |id| -> Vec<_> {
        frames
            .iter()
            .filter(|frame| signature(frame).stream == id)
            .collect()
    };
    let (first, second) = (of(3), of(1));
    assert_eq!((first.len(), second.len()), (36, 18));
    let places: Vec<_> = second.iter().map(|frame| place(&headers, frame)).collect();
    assert_eq!(places[..6], [0, 1, 2, 0, 1, 2]);
    assert_eq!(first.iter().filter(|frame| frame.len() == 100).count(), 12);
    // 3 flows and a round of 3 sizes: every flow gets every size all the same.
    for flow in 0..3 {
        for len in [60, 100] {
            let found = first
                .iter()
                .any(|frame| place(&headers, frame) == flow && frame.len() == len);
            assert!(found, "flow {flow} never had {len} bytes");
        }
    }
    for (sequence, frame) in first.iter().enumerate() {
        assert_eq!(signature(frame).sequence, sequence as u32);
    }
}
