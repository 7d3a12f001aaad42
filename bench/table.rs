//! Knowledge looked up by workers, and published by the writer.
//!
//! | action | what is measured |
//! |---|---|
//! | `lookup` | `hit`, `miss`: the FDB, 64 random addresses at once, as `encap::decide` asks; `hit-single`: one by one; `peer`: who may send, as `decap::decide` asks |
//! | `publish` | `rebuilt`: a new FDB and its publication, the old one freed; `changed`: 50 of its entries lead elsewhere; `shared`: a snapshot that shares all of its parts with the one before |
//! | `pick-up` | a worker's look for a new snapshot, when there is one and when there is none. On one core: what it costs to bring the writer's cache lines from another is not in it |

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

use criterion::Criterion;
use vxgate::table::{Fdb, Question, Reader, Segment, Snapshot, VtepId, Writer, publication};
use vxgate::wire::MacAddr;

use crate::measure::{Action, Batches};
use crate::network::{MANY, Network, ONE, THOUSAND, station, stranger, vtep_addr};
use crate::shuffle::order;

/// Look-ups of a batch, as in a batch of frames.
const BATCH: usize = 64;
/// VTEPs that the FDB leads to; how many there are is of no matter here.
const VTEPS: usize = 1000;
/// Entries that change at once: 10,000 a second, every 5 ms.
const CHANGES: usize = 50;
const SIZES: [(&str, usize); 3] = [("1k", 1000), ("100k", 100_000), ("1M", 1_000_000)];

pub fn benches(criterion: &mut Criterion) {
    lookup(criterion);
    publish(criterion);
    pick_up(criterion);
}

fn network(stations: usize) -> Network {
    Network {
        name: "",
        stations,
        vteps: VTEPS,
    }
}

/// A table, and keys in random order, asked for batch by batch.
struct Lookups<T, K> {
    table: T,
    keys: Vec<K>,
    next: usize,
}

impl<T, K> Lookups<T, K> {
    fn new(table: T, stations: usize, key: fn(u32) -> K) -> Self {
        let mut keys: Vec<K> = order(stations).into_iter().map(key).collect();
        // Whole batches only, and one at least.
        while !keys.len().is_multiple_of(BATCH) {
            keys.push(key((keys.len() % stations) as u32));
        }
        Self {
            table,
            keys,
            next: 0,
        }
    }

    fn batch(&mut self) -> (&T, &[K]) {
        let start = self.next;
        self.next = (start + BATCH) % self.keys.len();
        (&self.table, &self.keys[start..start + BATCH])
    }
}

fn lookup(criterion: &mut Criterion) {
    let mut action = Action::new(criterion, "lookup");
    let at_once = |lookups: &mut Lookups<Fdb, MacAddr>| {
        let (fdb, keys) = lookups.batch();
        let mut questions = [Question::NOTHING; BATCH];
        for (question, key) in questions.iter_mut().zip(keys) {
            *question = fdb.ask(*key);
        }
        for question in questions {
            black_box(question.answer());
        }
    };
    let one_by_one = |lookups: &mut Lookups<Fdb, MacAddr>| {
        let (fdb, keys) = lookups.batch();
        for key in keys {
            black_box(fdb.find(*key));
        }
    };
    for (size, stations) in SIZES {
        let fdb = || Fdb::new(network(stations).entries());
        let hits = || Lookups::new(fdb(), stations, station as fn(u32) -> MacAddr);
        let misses = || Lookups::new(fdb(), stations, stranger as fn(u32) -> MacAddr);
        action.steady("hit", size, hits, BATCH as u64, at_once);
        action.steady("miss", size, misses, BATCH as u64, at_once);
        action.steady("hit-single", size, hits, BATCH as u64, one_by_one);
    }
    for network in [ONE, THOUSAND, MANY] {
        let setup = || {
            let segment = network.snapshot().segments.remove(0);
            let addr = |n| IpAddr::V4(vtep_addr(n));
            Lookups::new(segment, network.vteps, addr as fn(u32) -> IpAddr)
        };
        let act = |lookups: &mut Lookups<Segment, IpAddr>| {
            let (segment, keys) = lookups.batch();
            for key in keys {
                black_box(segment.is_peer(*key));
            }
        };
        action.steady("peer", network.name, setup, BATCH as u64, act);
    }
}

/// A writer, and what it makes its FDB from.
struct Publications {
    writer: Writer,
    _readers: Vec<Reader>,
    entries: Vec<(MacAddr, VtepId)>,
    /// How many times some of them have changed.
    changes: usize,
}

impl Publications {
    fn new(stations: usize) -> Self {
        let (writer, mut readers) = publication(1, network(stations).snapshot());
        readers[0].snapshot();
        Self {
            writer,
            _readers: readers,
            entries: network(stations).entries().collect(),
            changes: 0,
        }
    }

    /// A worker that takes turns lets go of what was replaced.
    fn turn(&mut self) {
        for reader in &mut self._readers {
            reader.snapshot();
        }
    }

    /// Some entries, from all over the table, lead to their VTEP's neighbour.
    fn next_changes(&mut self) -> Vec<(MacAddr, Option<VtepId>)> {
        let step = self.entries.len() / CHANGES;
        self.changes += 1;
        let chosen = self.entries.iter_mut().skip(self.changes % step);
        let chosen = chosen.step_by(step).map(|(mac, vtep)| {
            vtep.0 = (vtep.0 + 1) % VTEPS as u32;
            (*mac, Some(*vtep))
        });
        chosen.collect()
    }

    fn publish(&mut self, next: Snapshot) {
        self.writer.publish(next);
    }
}

fn publish(criterion: &mut Criterion) {
    let mut action = Action::new(criterion, "publish").slow();
    for (size, stations) in SIZES {
        let batches = Batches {
            len: 1,
            prepare: Publications::turn,
            act: |publications: &mut Publications| {
                let mut next = publications.writer.current().clone();
                let entries = publications.entries.iter().copied();
                next.segments[0].fdb = Arc::new(Fdb::new(entries));
                publications.publish(next);
            },
        };
        action.cold("rebuilt", size, || Publications::new(stations), batches);
        let batches = Batches {
            len: 1,
            prepare: Publications::turn,
            act: |publications: &mut Publications| {
                let mut next = publications.writer.current().clone();
                let changes = publications.next_changes();
                let fdb = &mut next.segments[0].fdb;
                *fdb = Arc::new(fdb.with(changes));
                publications.publish(next);
            },
        };
        action.cold("changed", size, || Publications::new(stations), batches);
        let batches = Batches {
            len: 1,
            prepare: Publications::turn,
            act: |publications: &mut Publications| {
                publications.publish(publications.writer.current().clone());
            },
        };
        action.cold("shared", size, || Publications::new(stations), batches);
    }
}

fn pick_up(criterion: &mut Criterion) {
    let mut action = Action::new(criterion, "pick-up");
    for (case, is_new) in [("new", true), ("same", false)] {
        let setup = || publication(BATCH, network(1000).snapshot());
        let batches = Batches {
            len: BATCH as u64,
            prepare: |(writer, _): &mut (Writer, Vec<Reader>)| {
                if is_new {
                    writer.publish(writer.current().clone());
                }
            },
            act: |(_, readers): &mut (Writer, Vec<Reader>)| {
                for reader in readers {
                    black_box(reader.snapshot());
                }
            },
        };
        action.prepared(case, "1k", setup, batches);
    }
}
