//! Descriptors put into rings and taken out, 64 at once: our `port::ring` beside xsk-rs's rings.
//!
//! Both do the same on a ring of 1,024 entries: a batch of 64 copied between an array and the ring, and one index released.
//! What is measured is our end of the ring only. The other end is played in between, by other code for each of the two and
//! not measured: it takes all that is in the ring, or shows a ring full. One element is one descriptor.
//!
//! Ours are in plain memory. xsk-rs makes its rings with a socket only, so these are a real socket's, on the loopback device
//! of a network namespace that is there for nothing else (`xsk_rings.rs`); no frame moves, and the kernel touches them
//! neither. Without the rights to make such a namespace its rows are left out, and that is said.
//!
//! Ours call a closure for each entry, as `port` uses them; xsk-rs calls the out-of-line C functions of libxdp for each.

use std::cell::RefCell;
use std::hint::black_box;

use criterion::Criterion;
use vxgate::port::ring::{Consumer, Descriptor, Entry, Producer, pair};
use xsk_rs::FrameDesc;

use crate::measure::{Action, Batches};
use crate::xsk_rings::{RING_LEN, XskRings};

const BATCH: usize = 64;

pub fn benches(criterion: &mut Criterion) {
    let mut action = Action::new(criterion, "ring");
    produce(&mut action, "fill-own", address);
    produce(&mut action, "tx-own", descriptor);
    consume(&mut action, "rx-own", descriptor);
    consume(&mut action, "completion-own", address);
    theirs(&mut action);
}

fn address(number: u64) -> u64 {
    number * 4096
}

fn descriptor(number: u64) -> Descriptor {
    Descriptor {
        addr: address(number),
        len: 64,
        options: 0,
    }
}

/// Both ends of a ring, and a batch of its entries.
struct Own<T> {
    producer: Producer<T>,
    consumer: Consumer<T>,
    entries: [T; BATCH],
}

impl<T: Entry> Own<T> {
    fn new(entry: fn(u64) -> T) -> Self {
        let (producer, consumer) = pair(RING_LEN).expect("a power of two, and memory");
        Self {
            producer,
            consumer,
            entries: std::array::from_fn(|number| entry(number as u64)),
        }
    }

    fn put_batch(&mut self) {
        let mut entries = black_box(&self.entries).iter().copied();
        let count = self.producer.produce(BATCH as u32, || entries.next());
        debug_assert_eq!(count, BATCH);
    }

    fn take_batch(&mut self) {
        let mut slots = self.entries.iter_mut();
        let count = self.consumer.consume(BATCH as u32, |entry| {
            if let Some(slot) = slots.next() {
                *slot = entry;
            }
        });
        debug_assert_eq!(count, BATCH);
        black_box(&self.entries);
    }
}

fn produce<T: Entry>(action: &mut Action<'_>, case: &str, entry: fn(u64) -> T) {
    let batches = Batches {
        len: u64::from(RING_LEN),
        prepare: |own: &mut Own<T>| {
            own.consumer.consume(RING_LEN, |_| ());
        },
        act: |own: &mut Own<T>| ring_full(|| own.put_batch()),
    };
    action.prepared(case, BATCH, || Own::new(entry), batches);
}

fn consume<T: Entry>(action: &mut Action<'_>, case: &str, entry: fn(u64) -> T) {
    let batches = Batches {
        len: u64::from(RING_LEN),
        prepare: |own: &mut Own<T>| {
            let mut numbers = 0..;
            let next = || numbers.next().map(entry);
            own.producer.produce(RING_LEN, next);
        },
        act: |own: &mut Own<T>| ring_full(|| own.take_batch()),
    };
    action.prepared(case, BATCH, || Own::new(entry), batches);
}

/// As many batches as fill the ring.
fn ring_full(mut batch: impl FnMut()) {
    for _ in 0..RING_LEN as usize / BATCH {
        batch();
    }
}

/// The same with xsk-rs.
fn theirs(action: &mut Action<'_>) {
    let rings = match XskRings::open() {
        Ok(rings) => RefCell::new(rings),
        Err(error) => return eprintln!("ring: the rows of xsk-rs are left out: {error}"),
    };
    let mut row =
        |case, kernel: fn(&mut XskRings), step: fn(&mut XskRings, &mut Batch) -> usize| {
            let batches = Batches {
                len: u64::from(RING_LEN),
                prepare: |_: &mut Batch| kernel(&mut rings.borrow_mut()),
                act: |batch: &mut Batch| {
                    let rings = &mut *rings.borrow_mut();
                    ring_full(|| {
                        let count = step(rings, black_box(batch));
                        debug_assert_eq!(count, BATCH);
                    });
                },
            };
            action.prepared(case, BATCH, || [FrameDesc::default(); BATCH], batches);
        };
    row("fill-xsk-rs", XskRings::kernel_takes_fill, XskRings::fill);
    row("tx-xsk-rs", XskRings::kernel_takes_tx, XskRings::transmit);
    row("rx-xsk-rs", XskRings::kernel_shows_rx, XskRings::receive);
    row(
        "completion-xsk-rs",
        XskRings::kernel_shows_completion,
        XskRings::complete,
    );
}

type Batch = [FrameDesc; BATCH];
