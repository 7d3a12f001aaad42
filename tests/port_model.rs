//! `MemoryPort` and `Umem` against a model that keeps plain queues of byte strings: after every operation the same frames
//! are at the same places, and none was lost or made. Once with frames of one buffer, and once with frames of several.

use std::collections::VecDeque;

use proptest::prelude::*;
use vxgate::port::{BATCH, Batch, ChunkSize, Frame, MemoryPort, Port, ROOM, Umem, UmemConfig};

/// What can happen to a port in a turn, and on the kernel's side of it.
#[derive(Debug, Clone)]
enum Step {
    Deliver { seed: u8, len: usize },
    Receive,
    Transmit,
    Collect,
    Complete { count: usize },
    Reclaim,
    Refill,
    Release { count: usize },
    Push { len: usize },
    Pull { len: usize },
    Truncate { len: usize },
    Duplicate,
    Allocate { seed: u8, len: usize },
}

/// With frames up to `len_max` bytes, half of them of one buffer.
fn step(len_max: usize) -> impl Strategy<Value = Step> {
    let seed_and_len = move || (any::<u8>(), prop_oneof![1_usize..1900, 1..len_max]);
    prop_oneof![
        4 => seed_and_len().prop_map(|(seed, len)| Step::Deliver { seed, len }),
        3 => Just(Step::Receive),
        3 => Just(Step::Transmit),
        2 => Just(Step::Collect),
        1 => (0_usize..20).prop_map(|count| Step::Complete { count }),
        2 => Just(Step::Reclaim),
        2 => Just(Step::Refill),
        1 => (0_usize..20).prop_map(|count| Step::Release { count }),
        1 => (0_usize..400).prop_map(|len| Step::Push { len }),
        1 => (0_usize..400).prop_map(|len| Step::Pull { len }),
        1 => (0..len_max).prop_map(|len| Step::Truncate { len }),
        1 => Just(Step::Duplicate),
        1 => seed_and_len().prop_map(|(seed, len)| Step::Allocate { seed, len }),
    ]
}

/// A frame as the model sees it: its bytes and how many more fit in front.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Twin {
    room: usize,
    bytes: VecDeque<u8>,
}

impl Twin {
    fn new(bytes: &[u8]) -> Self {
        Self {
            room: ROOM,
            bytes: bytes.iter().copied().collect(),
        }
    }
}

/// The naive twin: queues and counts. A frame in a ring has as many entries as it takes buffers.
#[derive(Debug)]
struct Model {
    chunk: usize,
    buffer: usize,
    rings: usize,
    pool: usize,
    fill: usize,
    /// Each with the entries that are left of it.
    rx: VecDeque<(Twin, usize)>,
    /// Whether the first of them has been taken in part.
    coming: bool,
    held: VecDeque<Twin>,
    tx: VecDeque<(Twin, usize)>,
    /// The entries of each frame.
    completion: VecDeque<usize>,
    ring_full: u64,
    fill_empty: u64,
    too_long: u64,
}

struct Real {
    umem: Umem,
    port: MemoryPort,
    held: Batch,
}

fn content(seed: u8, len: usize) -> Vec<u8> {
    (0..len)
        .map(|place| seed.wrapping_add(place as u8))
        .collect()
}

/// Changes the first frame of a batch and puts it to the back.
fn with_first(held: &mut Batch, change: impl FnOnce(&mut Frame)) {
    if let Some(mut frame) = held.pop() {
        change(&mut frame);
        held.push(frame).unwrap();
    }
}

impl Real {
    fn take(&mut self, model: &mut Model, step: &Step) {
        match *step {
            Step::Deliver { seed, len } => {
                let bytes = content(seed, len);
                assert_eq!(
                    self.port.deliver(&mut self.umem, &bytes),
                    model.deliver(&bytes)
                );
            }
            Step::Receive => assert_eq!(
                self.port.receive(&mut self.umem, &mut self.held),
                model.receive()
            ),
            Step::Transmit => assert_eq!(self.port.transmit(&mut self.held), model.transmit()),
            Step::Collect => assert_eq!(self.port.collect(&mut self.umem), model.collect()),
            Step::Complete { count } => {
                assert_eq!(self.port.complete(count), model.complete(count))
            }
            Step::Reclaim => assert_eq!(self.port.reclaim(&mut self.umem), model.reclaim()),
            Step::Refill => assert_eq!(self.port.refill(&mut self.umem), model.refill()),
            Step::Release { count } => {
                for frame in self.held.drain().take(count) {
                    self.umem.release(frame);
                }
                let count = count.min(model.held.len());
                model.held.drain(..count);
                model.pool += count;
            }
            Step::Duplicate => self.duplicate(model),
            Step::Allocate { seed, len } => self.allocate(model, &content(seed, len)),
            Step::Push { .. } | Step::Pull { .. } | Step::Truncate { .. } => self.edit(model, step),
        }
    }

    fn edit(&mut self, model: &mut Model, step: &Step) {
        let Some(mut twin) = model.held.pop_front() else {
            return;
        };
        let umem = &mut self.umem;
        with_first(&mut self.held, |frame| match *step {
            Step::Push { len } => {
                let fits = len <= twin.room;
                let pushed = umem.push(frame, len);
                assert_eq!(pushed.is_some(), fits);
                if let Some(bytes) = pushed {
                    bytes[..len].fill(0xee);
                    twin.room -= len;
                    (0..len).for_each(|_| twin.bytes.push_front(0xee));
                }
            }
            Step::Pull { len } => {
                let fits = len <= twin.bytes.len() && twin.room + len < umem.chunk_len();
                assert_eq!(umem.pull(frame, len), fits);
                if fits {
                    twin.room += len;
                    twin.bytes.drain(..len);
                }
            }
            Step::Truncate { len } => {
                let fits = len <= twin.bytes.len();
                assert_eq!(umem.truncate(frame, len), fits);
                if fits {
                    twin.bytes.truncate(len);
                }
            }
            _ => unreachable!("only edits come here"),
        });
        model.held.push_back(twin);
    }

    fn duplicate(&mut self, model: &mut Model) {
        let Some(first) = self.held.iter().next() else {
            return;
        };
        if self.held.room() == 0 {
            return;
        }
        let copy = self.umem.duplicate(first);
        assert_eq!(copy.is_some(), model.pool > 0);
        if let Some(copy) = copy {
            self.held.push(copy).unwrap();
            model.pool -= 1;
            model.held.push_back(model.held[0].clone());
        }
    }

    fn allocate(&mut self, model: &mut Model, bytes: &[u8]) {
        if self.held.room() == 0 {
            return;
        }
        let Some(mut frame) = self.umem.allocate() else {
            assert_eq!(model.pool, 0);
            return;
        };
        model.pool -= 1;
        let fits = bytes.len() <= self.umem.chunk_len() - ROOM;
        assert_eq!(self.umem.fill(&mut frame, bytes), fits);
        self.held.push(frame).unwrap();
        model
            .held
            .push_back(Twin::new(if fits { bytes } else { &[] }));
    }

    fn check(&self, model: &Model) {
        let total = self.umem.frames() as usize;
        assert_eq!(
            self.umem.free() + self.held.len() + self.port.frames_held(),
            total,
            "frames are conserved"
        );
        assert_eq!(self.umem.free(), model.pool);
        let held: Vec<Twin> = self
            .held
            .iter()
            .map(|frame| Twin {
                room: self.umem.room_in_front(frame),
                bytes: self.umem.bytes(frame).iter().copied().collect(),
            })
            .collect();
        assert_eq!(held, model.held.iter().cloned().collect::<Vec<_>>());
        let statistics = self.port.statistics().unwrap();
        let mut drops = statistics.rx_drops(false);
        if model.chunk > model.buffer {
            drops = drops.of_chains();
        }
        assert_eq!(
            (drops.ring_full, drops.fill_empty, drops.invalid),
            (model.ring_full, model.fill_empty, model.too_long)
        );
    }
}

fn entries(frames: &VecDeque<(Twin, usize)>) -> usize {
    frames.iter().map(|(_, entries)| entries).sum()
}

impl Model {
    fn new(chunk: ChunkSize, rings: usize, frames: usize) -> Self {
        let chunk = chunk.bytes() as usize;
        Self {
            chunk,
            buffer: chunk.min(4096),
            rings,
            pool: frames,
            fill: 0,
            rx: VecDeque::new(),
            coming: false,
            held: VecDeque::new(),
            tx: VecDeque::new(),
            completion: VecDeque::new(),
            ring_full: 0,
            fill_empty: 0,
            too_long: 0,
        }
    }

    fn deliver(&mut self, bytes: &[u8]) -> bool {
        let buffers = bytes.len().div_ceil(self.buffer - ROOM);
        if buffers > 1 && self.chunk == self.buffer {
            self.too_long += 1;
        } else if self.fill < buffers {
            self.fill_empty += 1;
        } else if self.rings - entries(&self.rx) < buffers {
            self.ring_full += 1;
        } else {
            self.fill -= buffers;
            // What no chunk holds comes out empty.
            let fits = bytes.len() <= self.chunk - ROOM;
            let twin = Twin::new(if fits { bytes } else { &[] });
            self.rx.push_back((twin, buffers));
            return true;
        }
        false
    }

    fn receive(&mut self) -> usize {
        let before = self.held.len();
        for _ in 0..BATCH - before {
            let Some((twin, left)) = self.rx.front_mut() else {
                break;
            };
            *left -= 1;
            // All chunks but the first are free once their bytes are behind the first's.
            self.pool += usize::from(self.coming);
            self.coming = *left > 0;
            if *left == 0 {
                self.held.push_back(twin.clone());
                self.rx.pop_front();
            }
        }
        self.held.len() - before
    }

    fn transmit(&mut self) -> usize {
        let mut room = self.rings - entries(&self.tx);
        let (mut refused, mut count) = (VecDeque::new(), 0);
        while room > 0 {
            let Some(twin) = self.held.pop_front() else {
                break;
            };
            let buffers = (twin.room % self.buffer + twin.bytes.len()).div_ceil(self.buffer);
            if twin.bytes.len() < 14 {
                refused.push_back(twin);
            } else if buffers > room {
                self.held.push_front(twin);
                break;
            } else {
                self.tx.push_back((twin, buffers));
                room -= buffers;
                count += 1;
            }
        }
        self.held.append(&mut refused);
        count
    }

    fn collect(&mut self) -> Option<Vec<u8>> {
        let (_, buffers) = self.tx.front()?;
        if self.rings - self.completion.iter().sum::<usize>() < *buffers {
            return None;
        }
        let (twin, buffers) = self.tx.pop_front()?;
        self.completion.push_back(buffers);
        Some(twin.bytes.into())
    }

    fn complete(&mut self, count: usize) -> usize {
        (0..count).take_while(|_| self.collect().is_some()).count()
    }

    fn reclaim(&mut self) -> usize {
        let count = self.completion.len();
        self.completion.clear();
        self.pool += count;
        count
    }

    fn refill(&mut self) -> usize {
        let count = self.pool.min(self.rings - self.fill);
        self.pool -= count;
        self.fill += count;
        count
    }
}

fn follow(chunk: ChunkSize, frames: u32, ring_bits: u32, steps: &[Step]) {
    let rings = 1_usize << ring_bits;
    let mut real = Real {
        umem: Umem::new(UmemConfig {
            chunk,
            frames,
            lock: false,
        })
        .unwrap(),
        port: MemoryPort::new(rings),
        held: Batch::new(),
    };
    // A port learns what its memory is like from the first call that hands it over.
    real.port.reclaim(&mut real.umem);
    let mut model = Model::new(chunk, rings, frames as usize);
    for step in steps {
        real.take(&mut model, step);
        real.check(&model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn frames_are_conserved_and_stay_what_they_are(
        frames in 1_u32..120,
        ring_bits in 0_u32..7,
        steps in prop::collection::vec(step(2000), 0..200),
    ) {
        follow(ChunkSize::K2, frames, ring_bits, &steps);
    }

    /// Some of them longer than any chunk; small rings and pools, so that frames meet them with room for a part.
    #[test]
    fn frames_of_several_buffers_are_conserved_and_stay_what_they_are(
        frames in 1_u32..60,
        ring_bits in 0_u32..6,
        steps in prop::collection::vec(step(17_000), 0..200),
    ) {
        follow(ChunkSize::K16, frames, ring_bits, &steps);
    }
}

#[test]
fn a_port_that_is_down_takes_nothing_and_says_so() {
    let mut umem = Umem::new(UmemConfig {
        chunk: ChunkSize::K2,
        frames: 4,
        lock: false,
    })
    .unwrap();
    let mut port = MemoryPort::new(4);
    let mut batch = Batch::new();
    let mut frame = umem.allocate().unwrap();
    assert!(umem.fill(&mut frame, &[1; 60]));
    batch.push(frame).unwrap();
    port.set_link_down(true);
    assert_eq!(
        (port.transmit(&mut batch), port.link_down(), batch.len()),
        (0, true, 1)
    );
    port.set_link_down(false);
    assert_eq!(
        (port.transmit(&mut batch), port.link_down(), batch.len()),
        (1, false, 0)
    );
}

#[test]
fn a_frame_that_is_never_sent_holds_up_no_other() {
    let mut umem = Umem::new(UmemConfig {
        chunk: ChunkSize::K2,
        frames: 4,
        lock: false,
    })
    .unwrap();
    let mut port = MemoryPort::new(4);
    port.limit_frame_len(1518);
    let mut batch = Batch::new();
    for len in [1519, 13, 14, 1518] {
        let mut frame = umem.allocate().unwrap();
        assert!(umem.fill(&mut frame, &vec![7; len]));
        batch.push(frame).unwrap();
    }
    assert_eq!(port.transmit(&mut batch), 2);
    assert_eq!(batch.iter().map(Frame::len).collect::<Vec<_>>(), [1519, 13]);
    assert!(batch.iter().all(|frame| !port.accepts(frame)));
    assert_eq!(port.collect(&mut umem).unwrap().len(), 14);
    assert_eq!(port.collect(&mut umem).unwrap().len(), 1518);
}
