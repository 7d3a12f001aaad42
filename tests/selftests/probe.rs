//! Frames that are counted where they come out.
//!
//! Counts are final, not read after a while: behind the frames goes a sentinel to every observer, twice, since frames of a
//! sender that moved between cores can overtake each other once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::frame::{Mark, is_marked};
use crate::support::end::{End, Input};
use crate::support::netns::Netns;

const BOUND: Duration = Duration::from_secs(20);
const SENTINEL_AGAIN: Duration = Duration::from_secs(1);

/// A mark that nobody has used.
pub fn fresh_mark() -> Mark {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut mark = *b"selftest\0\0\0\0\0\0\0\0";
    mark[8..].copy_from_slice(&(number << 16 | 0xa55a).to_be_bytes());
    mark
}

/// Somebody who sees what a device receives.
#[derive(Debug)]
pub struct Observer {
    end: End,
    frames: Vec<Vec<u8>>,
}

impl Observer {
    /// On a device of a namespace.
    pub fn on(netns: &Netns, device: &str) -> Self {
        Self {
            end: End::open(netns, device, true),
            frames: Vec::new(),
        }
    }

    /// What it has seen and nobody has asked for yet.
    pub fn drain(&mut self) -> Vec<Vec<u8>> {
        self.collect();
        std::mem::take(&mut self.frames)
    }

    fn collect(&mut self) {
        while let Some(frame) = self.end.receive() {
            self.frames.push(frame);
        }
    }

    /// How many frames with a mark it has seen since it was drained.
    pub fn count(&mut self, mark: &Mark) -> usize {
        self.collect();
        let marked = self.frames.iter().filter(|frame| is_marked(frame, mark));
        marked.count()
    }
}

/// A device that sends frames as they are.
#[derive(Debug)]
pub struct Sender(End);

impl Sender {
    /// On a device of a namespace.
    pub fn on(netns: &Netns, device: &str) -> Self {
        Self(End::open(netns, device, false))
    }

    /// Sends one frame.
    pub fn send(&self, frame: Vec<u8>) {
        self.0.send(&Input::from(frame));
    }
}

/// Sends frames that carry a mark, then sentinels, which every observer must see; what each observer saw of the frames.
///
/// `frames` and `sentinel` make frames with the mark that they are given.
pub fn play(
    sender: &Sender,
    observers: &mut [&mut Observer],
    frames: impl Fn(&Mark) -> Vec<Vec<u8>>,
    sentinel: impl Fn(&Mark) -> Vec<u8>,
) -> Vec<Vec<Vec<u8>>> {
    play_to_all(sender, observers, frames, |mark| vec![sentinel(mark)])
}

/// As [`play`], where no single sentinel reaches everybody: `sentinels` makes several with one mark.
pub fn play_to_all(
    sender: &Sender,
    observers: &mut [&mut Observer],
    frames: impl Fn(&Mark) -> Vec<Vec<u8>>,
    sentinels: impl Fn(&Mark) -> Vec<Vec<u8>>,
) -> Vec<Vec<Vec<u8>>> {
    let mark = fresh_mark();
    for observer in observers.iter_mut() {
        observer.drain();
    }
    for frame in frames(&mark) {
        sender.send(frame);
    }
    for _ in 0..2 {
        settle(sender, observers, &sentinels);
    }
    observers
        .iter_mut()
        .map(|observer| {
            let mut seen = observer.drain();
            seen.retain(|frame| is_marked(frame, &mark));
            seen
        })
        .collect()
}

/// Sends sentinels, which all have one mark, until every observer has seen one.
pub fn settle(
    sender: &Sender,
    observers: &mut [&mut Observer],
    sentinels: &impl Fn(&Mark) -> Vec<Vec<u8>>,
) {
    let mark = fresh_mark();
    let deadline = Instant::now() + BOUND;
    let mut due = Instant::now();
    loop {
        if Instant::now() >= due {
            sentinels(&mark)
                .into_iter()
                .for_each(|frame| sender.send(frame));
            due += SENTINEL_AGAIN;
        }
        let mut missing = observers
            .iter_mut()
            .enumerate()
            .filter_map(|(index, observer)| (observer.count(&mark) == 0).then_some(index));
        let Some(index) = missing.next() else { return };
        drop(missing);
        assert!(
            Instant::now() < deadline,
            "observer {index} has not seen a sentinel within {BOUND:?}"
        );
        observers[index].end.wait(Duration::from_millis(50));
    }
}
