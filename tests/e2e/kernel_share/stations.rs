//! Numbered frames, and who heard them.

use std::collections::BTreeMap;
use std::time::Instant;

use etherparse::PacketBuilder;

use super::*;
use crate::support::frames::{RawSocket, mac};
use crate::support::netns::Netns;

/// Numbered frames from a device, and who heard them.
pub(super) struct Stations {
    sender: RawSocket,
    ends: Vec<(&'static str, RawSocket)>,
    /// By end and number: how many times.
    heard: BTreeMap<(&'static str, u32), u32>,
    judged: Vec<Judged>,
    next: u32,
}

const MARK: &[u8] = b"kernel share ";

impl Stations {
    /// Frames from a device, and the devices where they are listened for.
    pub(super) fn new(
        (netns, device): (&Netns, &str),
        ends: &[(&'static str, &Netns, &str)],
    ) -> Self {
        let ends = ends
            .iter()
            .map(|(name, netns, device)| (*name, RawSocket::open(netns, device)));
        Self {
            sender: RawSocket::open(netns, device),
            ends: ends.collect(),
            heard: BTreeMap::new(),
            judged: Vec::new(),
            next: 0,
        }
    }

    /// Sends one frame to a station; its number.
    pub(super) fn send(&mut self, station: &str) -> u32 {
        let number = self.next;
        self.next += 1;
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2, 0, 0, 0, 9, 9], mac(station))
            .ipv4([10, 244, 0, 1], [10, 244, 0, 2], 64)
            // Datagrams of one flow may arrive joined, as by the kernel's GRO; here each is looked for by itself.
            .udp(4002 + (number % 1000) as u16, 4001)
            .write(&mut frame, &[MARK, &number.to_be_bytes()].concat())
            .expect("writing to memory");
        self.sender.send(&frame);
        number
    }

    /// Sends this many; their numbers.
    pub(super) fn burst(&mut self, station: &str) -> Vec<u32> {
        (0..FRAMES).map(|_| self.send(station)).collect()
    }

    pub(super) fn listen(&mut self) {
        /// Ethernet, IPv4 and UDP headers.
        const PAYLOAD: usize = 14 + 20 + 8;
        for (name, socket) in &self.ends {
            while let Some(frame) = socket.receive() {
                let payload = frame
                    .get(PAYLOAD..)
                    .and_then(|bytes| bytes.strip_prefix(MARK));
                if let Some(number) = payload.and_then(|bytes| bytes.first_chunk()) {
                    let number = u32::from_be_bytes(*number);
                    *self.heard.entry((name, number)).or_default() += 1;
                }
            }
        }
    }

    /// How many of these frames an end heard, and how many times one of them beyond the first.
    pub(super) fn heard(&self, end: &'static str, numbers: &[u32]) -> (u32, u32) {
        let times = numbers
            .iter()
            .filter_map(|number| self.heard.get(&(end, *number)));
        times.fold((0, 0), |(heard, again), times| {
            (heard + 1, again + times - 1)
        })
    }

    /// Waits until this end has heard all of the frames, whatever others did; none twice.
    pub(super) fn assert_heard_at(&mut self, end: &'static str, numbers: &[u32]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.listen();
            let (heard, again) = self.heard(end, numbers);
            assert_eq!(again, 0, "{end} hears none twice");
            if heard == numbers.len() as u32 {
                return;
            }
            let all = numbers.len();
            assert!(Instant::now() < deadline, "{end} heard {heard} of {all}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until each of these ends has heard all of the frames; asserts that no other end has heard any, and none twice.
    /// What comes too late to be seen is seen by the next call.
    pub(super) fn assert_heard(&mut self, what: &str, numbers: &[u32], ends: &[&str]) {
        let all = numbers.len() as u32;
        let mut wanted: Vec<_> = self.ends.iter().map(|(end, _)| *end).collect();
        wanted.retain(|end| ends.contains(end));
        let judged = Judged {
            what: what.to_owned(),
            numbers: numbers.to_vec(),
            wanted: wanted.into_iter().map(|end| (end, (all, 0))).collect(),
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.listen();
            let heard = self.all_heard(numbers);
            if heard == judged.wanted {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "{what}: heard {heard:?}, wanted {:?}",
                judged.wanted
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        for earlier in &self.judged {
            let heard = self.all_heard(&earlier.numbers);
            assert_eq!(heard, earlier.wanted, "{}, seen later", earlier.what);
        }
        self.judged.push(judged);
    }

    /// As [`Stations::heard`], of each end that heard any.
    fn all_heard(&self, numbers: &[u32]) -> Heard {
        let all = self
            .ends
            .iter()
            .map(|(end, _)| (*end, self.heard(end, numbers)));
        all.filter(|(_, counts)| *counts != (0, 0)).collect()
    }
}

/// Ends, with how many frames they heard, and how many again.
type Heard = Vec<(&'static str, (u32, u32))>;

/// Frames whose fate is known, and who may have heard them.
struct Judged {
    what: String,
    numbers: Vec<u32>,
    wanted: Heard,
}
