//! Two workers on two cores. They share what workers share, the table and nothing else: two at a time do twice the work of
//! one, unless they wait for each other's cache lines, or for memory.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use core_affinity::CoreId;
use vxgate::table::{Reader, publication};

use crate::network::{Direction, MANY, Network, THOUSAND};
use crate::worker::{WholeWorker, ring_len};
use crate::{Rounds, Wanted, Work, work};

pub fn rows(wanted: &Wanted) {
    for (name, direction) in [("encap", Direction::Encap), ("decap", Direction::Decap)] {
        for network in [THOUSAND, MANY] {
            let row = format!("two-workers/{name}-{}/64", network.name);
            if wanted.has(&row) {
                compare(wanted, &row, network, direction);
            }
        }
    }
}

fn compare(wanted: &Wanted, row: &str, network: Network, direction: Direction) {
    let Some(cores) = wanted.two_cores(row) else {
        return;
    };
    let (_writer, readers) = publication(2, network.snapshot());
    let hands: Vec<_> = readers
        .into_iter()
        .zip(cores)
        .map(|(reader, core)| Hand::start(wanted, network, direction, reader, core))
        .collect();
    let mut rounds = Rounds::default();
    for _ in 0..wanted.rounds() {
        let alone: Vec<_> = hands
            .iter()
            .map(|hand| {
                hand.begin();
                hand.end().mfps()
            })
            .collect();
        hands.iter().for_each(Hand::begin);
        let together: f64 = hands.iter().map(|hand| hand.end().mfps()).sum();
        rounds.note(alone.iter().sum::<f64>() / alone.len() as f64, together);
    }
    rounds.show(row, "M/s", ">= 1.9");
}

/// A worker in a thread on a core of its own, that works a window at a time.
struct Hand {
    begin: Sender<()>,
    done: Receiver<Work>,
}

impl Hand {
    fn start(
        wanted: &Wanted,
        network: Network,
        direction: Direction,
        reader: Reader,
        core: CoreId,
    ) -> Self {
        let (begin, begun) = channel();
        let (tell, done) = channel();
        let window = wanted.window();
        thread::spawn(move || {
            core_affinity::set_for_current(core);
            let mut worker = WholeWorker::on(network, direction, 64, ring_len(network), reader);
            while let Ok(()) = begun.recv() {
                if tell.send(work(&mut worker, window, |_| ())).is_err() {
                    break;
                }
            }
            worker.assert_all_forwarded();
        });
        Self { begin, done }
    }

    fn begin(&self) {
        self.begin.send(()).expect("the thread waits for it");
    }

    fn end(&self) -> Work {
        self.done.recv().expect("the thread works")
    }
}
