//! Trains on real memory: frames in, superframes out, and back.

use vxgate::pipeline::cut::Cut;
use vxgate::pipeline::join::{Train, Trains};
use vxgate::port::Batch;
use vxgate::wire::vnet::VnetHeader;

use super::bench::Bench;

/// A train as a TAP would be given it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub train: Train,
    pub frames: usize,
    pub bytes: Vec<u8>,
}

/// Joins a batch of frames.
pub fn join(frames: &[Vec<u8>]) -> Vec<Written> {
    let mut bench = Bench::new(frames.len().max(1));
    let free = bench.umem.free();
    let mut batch = batch(&mut bench, frames);
    let mut trains = Trains::new();
    trains.join(&mut bench.umem, &mut batch);
    assert!(batch.is_empty());
    let written = take(&mut bench, &mut trains);
    assert!(trains.is_empty());
    assert_eq!(bench.umem.free(), free);
    bench.check();
    written
}

/// Joins batches behind each other: what leaves after each, and what is left at the end.
pub fn join_on(batches: &[Vec<Vec<u8>>]) -> Vec<Vec<Written>> {
    let mut bench = Bench::new(batches.concat().len().max(1));
    let free = bench.umem.free();
    let mut trains = Trains::new();
    let mut written = Vec::new();
    for frames in batches {
        let mut batch = batch(&mut bench, frames);
        trains.join_on(&mut bench.umem, &mut batch);
        assert!(batch.is_empty());
        written.push(take(&mut bench, &mut trains));
    }
    trains.close(&mut bench.umem);
    written.push(take(&mut bench, &mut trains));
    assert!(trains.is_empty());
    assert_eq!(bench.umem.free(), free);
    bench.check();
    written
}

fn batch(bench: &mut Bench, frames: &[Vec<u8>]) -> Batch {
    let mut batch = Batch::new();
    for bytes in frames {
        let mut frame = bench.umem.allocate().expect("a chunk for each");
        assert!(bench.umem.fill(&mut frame, bytes));
        batch.push(frame).expect("no more than a batch");
    }
    batch
}

fn take(bench: &mut Bench, trains: &mut Trains) -> Vec<Written> {
    let (mut written, mut batch) = (Vec::new(), Batch::new());
    while let Some(train) = trains.take(&mut batch) {
        let pieces: Vec<_> = batch.iter().map(|frame| bench.umem.bytes(frame)).collect();
        written.push(Written {
            train,
            frames: pieces.len(),
            bytes: pieces.concat(),
        });
        bench.umem.release_all(&mut batch);
    }
    written
}

/// Cuts what a TAP gave.
pub fn cut(header: &VnetHeader, frame: &[u8], fixed_ids: bool) -> Option<Vec<Vec<u8>>> {
    // Fewer chunks than frames: it goes on where it had to stop.
    let mut bench = Bench::new(33);
    let free = bench.umem.free();
    let mut cut = Cut::new(header, frame)?;
    if fixed_ids {
        cut = cut.fixed_ids();
    }
    let count = cut.remaining();
    let (mut batch, mut frames) = (Batch::new(), Vec::new());
    if cut.fits(&bench.umem) {
        while cut.fill(&mut bench.umem, &mut batch) > 0 {
            frames.extend(batch.iter().map(|frame| bench.umem.bytes(frame).to_vec()));
            assert_eq!(cut.remaining(), count - frames.len());
            bench.umem.release_all(&mut batch);
        }
        assert_eq!(frames.len(), count);
    } else {
        assert_eq!(cut.fill(&mut bench.umem, &mut batch), 0);
    }
    assert_eq!(bench.umem.free(), free);
    bench.check();
    Some(frames)
}
